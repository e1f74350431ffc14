"""Names, orders and scales are no part of a problem: disguised files compute the same, and the search does not tell them apart."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from benchmarks.disguise import compare, disguised, pairs
from benchmarks.instances import Instance
from graph.load import load
from specs.vnnlib import parse
from verifier import engine
from verifier.options import Options

WITHIN, FEW = 1.2, 100  # how many more sub-problems one of two searches may take; fewer than a batch are as good as none


def network(operator: str, n_in: int, widths: tuple[int, ...], activation: str = "Relu", seed: int = 0) -> onnx.ModelProto:
    """Layers of Gemm, or of MatMul and Add, on x [1, n_in]; y has two elements."""
    draw, nodes, weights, at = np.random.default_rng(seed), [], {}, "x"
    sizes = (n_in, *widths, 2)
    for k, (before, after) in enumerate(pairwise(sizes)):
        weights |= {f"w{k}": draw.normal(size=(before, after)) / np.sqrt(before), f"b{k}": draw.normal(size=after) / 4}
        if operator == "Gemm":
            nodes.append(helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], [f"h{k}"]))
        else:
            nodes += [helper.make_node("MatMul", [at, f"w{k}"], [f"p{k}"]), helper.make_node("Add", [f"p{k}", f"b{k}"], [f"h{k}"])]
        at = f"h{k}"
        if k < len(widths):
            nodes.append(helper.make_node(activation, [at], [f"r{k}"]))
            at = f"r{k}"
    value = helper.make_tensor_value_info
    constants = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    ends = [value("x", TensorProto.FLOAT, [1, n_in])], [value(at, TensorProto.FLOAT, [1, 2])]
    return helper.make_model(helper.make_graph(nodes, "g", *ends, constants), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def outputs(model: onnx.ModelProto, points: np.ndarray) -> np.ndarray:
    session = InferenceSession(model.SerializeToString())
    name = session.get_inputs()[0].name
    return np.stack([session.run(None, {name: x[None]})[0][0] for x in points.astype(np.float32)])


def twin(model: onnx.ModelProto) -> onnx.ModelProto:
    found = disguised(model, 1)
    assert found is not None
    return found


@pytest.mark.parametrize(("operator", "activation"), [("Gemm", "Relu"), ("MatMul", "Relu"), ("Gemm", "Tanh"), ("MatMul", "LeakyRelu")])
def test_a_disguised_network_is_the_same_function(operator: str, activation: str) -> None:
    model = network(operator, 5, (12, 9), activation)
    other, points = twin(model), np.random.default_rng(2).normal(size=(50, 5))
    assert np.allclose(outputs(model, points), outputs(other, points), rtol=1e-4, atol=1e-5)
    names = [{name for node in m.graph.node for name in (*node.input, *node.output)} for m in (model, other)]
    assert not names[0] & names[1]
    weights = [{np.sort(numpy_helper.to_array(w), None).tobytes() for w in m.graph.initializer if len(w.dims) == 2} for m in (model, other)]
    assert (activation == "Tanh") == bool(weights[0] & weights[1])  # scaled, but where only the order may change


def test_what_has_no_layer_to_reorder_is_left_out() -> None:
    assert disguised(network("Gemm", 3, ()), 0) is None


def searched(model: bytes, prop: str) -> tuple[str, int]:
    """The verdict of the search alone, and how many sub-problems it took."""
    found = engine.run(load(model), parse(prop, "p"), Options("", "", timeout=3600.0, nodes=30_000, no_attack=True, threads=1, trust=("engine",)))
    return found.verdict, found.nodes or 0


def alike(one: tuple[str, int], other: tuple[str, int]) -> bool:
    low, high = sorted((one[1], other[1]))
    return one[0] == other[0] and (high <= FEW or high <= WITHIN * low)


def boxed(n_in: int, limit: float) -> str:
    ends = "".join(f"(declare-const X_{i} Real)\n(assert (>= X_{i} -0.5))\n(assert (<= X_{i} 0.5))\n" for i in range(n_in))
    return f"{ends}(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n(assert (<= Y_0 {limit:.6f}))\n"


@pytest.mark.parametrize(("n_in", "widths", "activation", "room"), [
    (4, (24, 24), "Relu", 0.2), (4, (16, 16, 16), "LeakyRelu", 0.1), (16, (24, 12), "Relu", 0.9), (4, (20, 20), "Tanh", 0.1),
])  # fmt: skip
def test_the_search_takes_the_same_for_both(n_in: int, widths: tuple[int, ...], activation: str, room: float) -> None:
    model = network("Gemm", n_in, widths, activation)
    values = outputs(model, np.random.default_rng(0).uniform(-0.5, 0.5, (3000, n_in)))[:, 0]
    prop = boxed(n_in, float(values.min() - room * (values.max() - values.min())))
    found = searched(model.SerializeToString(), prop), searched(twin(model).SerializeToString(), prop)
    assert found[0][0] == "unsat" and alike(*found), found


@pytest.mark.vnncomp
@pytest.mark.parametrize(("category", "model", "prop", "least"), [
    ("acasxu", "ACASXU_run2a_1_3_batch_2000", "prop_3", 300), ("safenlp", "ruarobot/perturbations_0", "ruarobot/hyperrectangle_4962", 300),
    ("linearizenn", "AllInOne_80_80", "prop_80_80", 30), ("mnist_fc", "mnist-net_256x2", "prop_7_0.05", 1),
])  # fmt: skip
def test_known_instances_take_the_same_for_both(category: str, model: str, prop: str, least: int, vnncomp_dir: Path) -> None:
    network, text = (gzip.decompress((vnncomp_dir / category / part).read_bytes()) for part in (f"onnx/{model}.onnx.gz", f"vnnlib/{prop}.vnnlib.gz"))
    other = disguised(onnx.ModelProto.FromString(network), 1)
    assert other is not None
    found = searched(network, text.decode()), searched(other.SerializeToString(), text.decode())
    assert found[0][0] == "unsat" and found[0][1] >= least and alike(*found), found


def test_pairs_are_written_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, model in (("a", network("Gemm", 3, (4,))), ("b", network("Gemm", 3, ()))):
        (tmp_path / f"{name}.onnx").write_bytes(model.SerializeToString())
        (tmp_path / f"{name}.vnnlib").write_text(boxed(3, -1.0))
    instances = [Instance("c", f"{name}.onnx", f"{name}.vnnlib", 60.0, "unsat", tmp_path) for name in "ab"]
    times = {instance.key: 5.0 for instance in instances}
    assert pairs(tmp_path / "out", instances, times, 3, 0) == 1
    assert pairs(tmp_path / "none", instances, {}, 3, 0) == 0
    (plain, other) = [line.split(",")[0] for line in (tmp_path / "out/c/instances.csv").read_text().splitlines()]
    assert plain.replace("plain", "other") == other and (tmp_path / "out/c" / plain).read_bytes() == (tmp_path / "a.onnx").read_bytes()

    def table(*lines: tuple[str, str, float]) -> dict[tuple[str, str, str], tuple[str, float]]:
        return {("c", network, "p"): (result, seconds) for network, result, seconds in lines}

    assert compare(table((plain, "unsat", 5.0), (other, "unsat", 5.5))) == 0
    assert compare(table((plain, "unsat", 5.0), (other, "unsat", 6.5))) == 1
    assert compare(table((plain, "unsat", 5.0), (other, "timeout", 5.0))) == 1
    assert compare(table((plain, "unsat", 5.0))) == 1
    assert "1 verdicts differ" in capsys.readouterr().out
