"""scikit-learn's LogisticRegression with `--output label`: the probabilities are an output of the same operator that nobody reads. The checker wanted
shifts for their softmax, the engine, which drops what is not read, wrote none, and every proof was MALFORMED."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.verifier.small_networks import vnnlib_file
from verifier.checker.network import Constant
from verifier.checker.read_model import read
from verifier.options import Options
from verifier.result import Result
from verifier.watchdog import supervise


def classifier(transform: str) -> bytes:
    node = helper.make_node(
        "LinearClassifier", ["x"], ["label", "probabilities"], domain="ai.onnx.ml", classlabels_ints=[0, 1, 2], post_transform=transform,
        coefficients=[1.0, 0.0, 0.0, 1.0, -1.0, -1.0], intercepts=[0.0, 0.0, 0.5],
    )
    cast = helper.make_node("Cast", ["label"], ["y"], to=TensorProto.FLOAT)
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])]
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 1)]
    return bytes(helper.make_model(helper.make_graph([node, cast], "c", *ends), opset_imports=opsets, ir_version=8).SerializeToString())


@pytest.mark.parametrize("transform", ["SOFTMAX", "NONE"])
def test_a_label_is_certified_whatever_becomes_of_the_scores(transform: str, tmp_path: Path) -> None:
    model, prop = tmp_path / "n.onnx", tmp_path / "p.vnnlib"
    model.write_bytes(classifier(transform))
    prop.write_text(vnnlib_file([("0.5", "1.0"), ("0.0", "0.25")], 1, "(>= Y_0 0.5)"))
    found = supervise(Options(str(model), str(prop), timeout=20, threads=1), lambda _: None)
    assert isinstance(found, Result) and (found.verdict, found.assurance) == ("unsat", "certified")


def test_a_softmax_of_what_is_multiplied_by_nothing_has_its_shift(tmp_path: Path) -> None:
    """The engine made a constant of it, and the checker did not."""
    reads = {"z": ("Mul", "x", "zero"), "s": ("Softmax", "z"), "y": ("Mul", "s", "x")}
    nodes = [helper.make_node(kind, inputs, [name]) for name, (kind, *inputs) in reads.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.zeros((1, 2), np.float32), "zero")])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8).SerializeToString()
    model, prop = tmp_path / "n.onnx", tmp_path / "p.vnnlib"
    model.write_bytes(content)
    prop.write_text(vnnlib_file([("0.5", "1.0"), ("0.0", "0.25")], 2, "(>= Y_0 0.51)"))
    found = supervise(Options(str(model), str(prop), timeout=20, threads=1), lambda _: None)
    assert isinstance(found, Result) and (found.verdict, found.assurance) == ("unsat", "certified")


def test_what_no_output_depends_on_is_nothing() -> None:
    network = read(classifier("SOFTMAX"))
    assert not network.softmaxes and set(network.sites) == {("label", 0), ("label", 1)}
    assert any(isinstance(node, Constant) for node in network.nodes)
