"""Scores of a self-attention of few tokens: their softmax is 1 / sum exp(x_j - x_i), to the engine and to the checker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bounds.linear import LinearBounds
from bounds.torch_graph import TorchGraph
from graph.core import Bilinear, Elementwise, Graph
from graph.evaluate import evaluate
from graph.load import load
from graph.lowering import normalisation
from tests.verifier.small_networks import vnnlib_file
from verifier.checker import read_model
from verifier.checker.network import Product
from verifier.options import Options
from verifier.result import Result
from verifier.watchdog import supervise

FEATURES = 3


def attention(tokens: int, keys: int, seed: int = 0) -> bytes:
    """One head over `tokens` of 3 features, which looks at the first `keys` of them; y = a ReLU layer on what it finds."""
    rng, n = np.random.default_rng(seed), tokens * FEATURES
    weights = {name: rng.normal(size=(FEATURES, FEATURES)) for name in ("wq", "wk", "wv")}
    weights |= {"w1": rng.normal(size=(n, 6)) / 2, "w2": rng.normal(size=(6, 1))}
    whole = {"shape": [1, tokens, FEATURES], "flat": [1, n], "from": [0], "to": [keys], "axis": [1]}
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "shape"], ["t"]), node("Slice", ["t", "from", "to", "axis"], ["seen"]),
        node("MatMul", ["t", "wq"], ["q"]), node("MatMul", ["seen", "wk"], ["k"]), node("MatMul", ["seen", "wv"], ["v"]),
        node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]), node("MatMul", ["q", "kt"], ["scores"]), node("Softmax", ["scores"], ["s"], axis=-1),
        node("MatMul", ["s", "v"], ["o"]), node("Reshape", ["o", "flat"], ["f"]), node("MatMul", ["f", "w1"], ["h"]), node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "w2"], ["y"]),
    ]
    constants = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    constants += [numpy_helper.from_array(np.array(v, dtype=np.int64), name) for name, v in whole.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", n), ("y", 1))]
    graph = helper.make_graph(nodes, "attention", ends[:1], ends[1:], constants)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())


def centre(tokens: int) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(1, tokens * FEATURES))


def width(graph: Graph, tokens: int, radius: float) -> float:
    net, middle = TorchGraph(graph, torch.float64), torch.from_numpy(centre(tokens))
    state = LinearBounds(net).propagate(middle - radius, middle + radius)
    unit = torch.ones(1, 1, 1, dtype=torch.float64)
    ends = [LinearBounds(net).lower_bound(state, {graph.outputs[0]: sign * unit}, None).value.item() for sign in (1, -1)]
    return -ends[0] - ends[1]


def products(graph: Graph) -> int:
    return sum(isinstance(node, Bilinear) and node.kind == "mul" for _, node in graph)


@pytest.mark.parametrize(("tokens", "keys", "by_differences"), [(5, 5, True), (12, 12, True), (4, 4, False), (6, 4, False), (13, 13, False)])
def test_engine_and_checker_agree_where_it_is(tokens: int, keys: int, by_differences: bool) -> None:
    """Square, of more than 4 rows and at most 2,000 differences (13 * 13 * 12 are 2,028)."""
    content = attention(tokens, keys)
    graph, network = load(content).graph, read_model.read(content)
    assert (products(graph) == 0) == by_differences
    assert (sum(isinstance(node, Product) for node in network.nodes) == 0) == by_differences
    sizes = [[node.size for _, node in graph if isinstance(node, Elementwise) and node.function.name == name] for name in ("exp", "reciprocal")]
    assert sizes == ([[tokens * keys * (keys - 1)], [tokens * keys]] if by_differences else [[tokens * keys], [tokens]])


def test_the_function_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    content = attention(6, 6)
    points = 3 * np.random.default_rng(1).normal(size=(50, 18))
    found = load(content).graph
    monkeypatch.setattr(normalisation, "MOST_DIFFERENCES", 0)
    before = load(content).graph
    assert products(before) == 1 and products(found) == 0
    values = [evaluate(graph, [points])[graph.outputs[0]] for graph in (found, before)]
    assert np.abs(values[0] - values[1]).max() < 1e-10 * np.abs(values[1]).max()


@pytest.mark.parametrize("radius", [0.01, 0.05, 0.2])
def test_bounds_are_tighter(radius: float, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = [attention(5, 5, seed) for seed in range(4)]
    found = [width(load(content).graph, 5, radius) for content in contents]
    monkeypatch.setattr(normalisation, "MOST_DIFFERENCES", 0)
    before = [width(load(content).graph, 5, radius) for content in contents]
    assert all(a < b for a, b in zip(found, before, strict=True)) and sum(found) < 0.9 * sum(before)


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_proofs_are_certified(semantics: str, tmp_path: Path) -> None:
    """With a threshold that a few splits reach."""
    content, radius = attention(5, 5), 0.05
    graph, middle = load(content).graph, centre(5)[0]
    points = middle + np.random.default_rng(2).uniform(-radius, radius, (20_000, 15))
    values = evaluate(graph, [points])[graph.outputs[0]]
    limit = float(values.min()) - 0.4 * float(np.ptp(values))
    (tmp_path / "n.onnx").write_bytes(content)
    box = [(f"{x - radius:.6f}", f"{x + radius:.6f}") for x in middle]
    (tmp_path / "p.vnnlib").write_text(vnnlib_file(box, 1, f"(<= Y_0 {limit:.6f})"))
    options = Options(str(tmp_path / "n.onnx"), str(tmp_path / "p.vnnlib"), timeout=60, threads=1, semantics=semantics)
    found = supervise(options, lambda line: None)
    assert isinstance(found, Result) and (found.verdict, found.assurance) == ("unsat", "certified"), found


def test_a_mask_keeps_the_product() -> None:
    """What is under a mask is left out of the sum."""
    proto = onnx.load_from_string(attention(5, 5))
    mask = np.where(np.triu(np.ones((5, 5)), 1) > 0, -np.inf, 0).astype(np.float32)
    proto.graph.initializer.append(numpy_helper.from_array(mask, "mask"))
    at = next(k for k, node in enumerate(proto.graph.node) if node.op_type == "Softmax")
    proto.graph.node[at].input[0] = "masked"
    proto.graph.node.insert(at, helper.make_node("Add", ["scores", "mask"], ["masked"]))
    assert products(load(proto.SerializeToString()).graph) == 1
