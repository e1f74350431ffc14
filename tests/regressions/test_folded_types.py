"""A constant that a float32 file computes itself is held in float64, and what an input chose of it was taken for float64 too: the comparison at load
allowed no rounding of float32, and refused the file as misread. So it was with what OneHot makes, which had the type of its index. And bounds of
Equal were from -1: that x is not above y and not below it are two steps, which bounds take for independent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from bounds.interval import propagate
from graph.load import load
from tests.verifier.small_networks import vnnlib_file
from verifier.options import Options
from verifier.result import Result
from verifier.watchdog import supervise

node = helper.make_node
CONSTANTS = {
    "zero": np.float32(0), "half": np.float32(0.5), "a": np.float32([[0.1, 0.7, 1.3]]), "b": np.float32([[0.3], [0.9], [1.1]]), "depth": np.array(3),
    "ends": np.float32([0.1, 0.7]), "one": np.float32([[1.0, 1.0, 1.0]]),
}  # fmt: skip
TABLE, INDEX = node("Mul", ["b", "a"], ["t"]), [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0)]
FILES = {
    "where": [TABLE, node("Greater", ["x", "zero"], ["c"]), node("Where", ["c", "t", "half"], ["r"]), node("ReduceSum", ["r"], ["y"])],
    "gather": [TABLE, *INDEX, node("Gather", ["t", "i"], ["r"], axis=0), node("ReduceSum", ["r"], ["y"])],
    "one hot": [*INDEX, node("OneHot", ["i", "depth", "ends"], ["r"]), node("Mul", ["r", "a"], ["s"]), node("ReduceSum", ["s"], ["y"])],
}


def model(nodes: list[object]) -> bytes:
    used = {name for n in nodes for name in n.input}  # type: ignore[attr-defined]
    constants = [numpy_helper.from_array(np.asarray(v), name) for name, v in CONSTANTS.items() if name in used]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, 3]), ("y", None))]
    graph = helper.make_graph(nodes, "folded", ends[:1], ends[1:], constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


@pytest.mark.parametrize("name", FILES)
def test_what_is_chosen_of_constants_has_the_type_of_the_file(name: str, tmp_path: Path) -> None:
    path, prop = tmp_path / "n.onnx", tmp_path / "p.vnnlib"
    path.write_bytes(model(FILES[name]))
    prop.write_text(vnnlib_file([("-1.0", "1.0")] * 3, 1, "(>= Y_0 100.0)"))
    found = supervise(Options(str(path), str(prop), timeout=20, threads=1), lambda _: None)
    assert isinstance(found, Result) and (found.verdict, found.assurance) == ("unsat", "certified")


def test_equal_is_0_or_1(tmp_path: Path) -> None:
    content = model([
        node("Add", ["x", "half"], ["z"]), node("Round", ["x"], ["p"]), node("Round", ["z"], ["q"]), node("Equal", ["p", "q"], ["e"]),
        node("Cast", ["e"], ["f"], to=TensorProto.FLOAT), node("ReduceSum", ["f"], ["y"]),
    ])  # fmt: skip
    graph = load(content).graph
    low, high = propagate(graph, np.full((1, 3), -2.0), np.full((1, 3), 2.0))[graph.outputs[0]]
    assert low.min() >= -1e-9 and high.max() <= 3 + 1e-9
    path, prop = tmp_path / "n.onnx", tmp_path / "p.vnnlib"
    path.write_bytes(content)
    prop.write_text(vnnlib_file([("-2.0", "2.0")] * 3, 1, "(<= Y_0 -0.5)"))
    found = supervise(Options(str(path), str(prop), timeout=20, threads=1), lambda _: None)
    assert isinstance(found, Result) and (found.verdict, found.assurance) == ("unsat", "certified")
