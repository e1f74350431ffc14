"""Comparisons, booleans and selections that depend on the input, against onnxruntime and in the checker's reading."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graph_models import floats, model, node

from bounds.library import BoundedNetwork
from graph.evaluate import evaluate
from graph.load import load
from graph.selfcheck import compare
from tests.checker.test_lowering import check_roundings, check_sites, engine_sites
from verifier.checker import read_model
from verifier.checker.bounds import Checker
from verifier.checker.lowering.evaluate import evaluate as checker_evaluate

F = np.float32
Nodes = list[onnx.NodeProto]
X_ABOVE_V, X_BELOW_C = node("Greater", ["x", "v"], ["p"]), node("Less", ["x", "c"], ["q"])
FLOAT = node("Cast", ["b"], ["y"], to=1)
W: dict[str, Any] = {"c": F(0.5), "w": floats(4), "mask": np.array([True, False, True, False]), "k": np.array([1, 0, -1, 2])}
CASES: dict[str, Nodes] = {
    "Greater": [node("Greater", ["x", "v"], ["b"]), FLOAT],
    "Greater than constants": [node("Greater", ["x", "w"], ["b"]), FLOAT],
    "Less, a constant first": [node("Less", ["c", "x"], ["b"]), FLOAT],
    "GreaterOrEqual": [node("GreaterOrEqual", ["x", "v"], ["b"]), FLOAT],
    "LessOrEqual": [node("LessOrEqual", ["x", "c"], ["b"]), FLOAT],
    "Equal": [node("Round", ["x"], ["r"]), node("Round", ["v"], ["s"]), node("Equal", ["r", "s"], ["b"]), FLOAT],
    "And": [X_ABOVE_V, X_BELOW_C, node("And", ["p", "q"], ["b"]), FLOAT],
    "And with a constant": [X_ABOVE_V, node("And", ["p", "mask"], ["b"]), FLOAT],
    "Or": [X_ABOVE_V, X_BELOW_C, node("Or", ["p", "q"], ["b"]), FLOAT],
    "Xor": [X_ABOVE_V, X_BELOW_C, node("Xor", ["p", "q"], ["b"]), FLOAT],
    "Not": [X_ABOVE_V, node("Not", ["p"], ["b"]), FLOAT],
    "Where of tensors": [X_ABOVE_V, node("Where", ["p", "x", "v"])],
    "Where of a tensor and a constant": [X_BELOW_C, node("Where", ["q", "w", "x"])],
    "Where of constants": [X_BELOW_C, node("Where", ["q", "w", "c"])],
    "Cast to an integer": [node("Cast", ["x"], ["i"], to=7), node("Cast", ["i"], to=1)],
    "Cast to an integer, compared": [node("Cast", ["x"], ["i"], to=7), node("Greater", ["i", "k"], ["b"]), FLOAT],
    "Cast to a boolean": [node("Relu", ["x"], ["r"]), node("Cast", ["r"], ["b"], to=9), FLOAT],
    "IsNaN": [node("IsNaN", ["x"], ["b"]), node("Where", ["b", "c", "x"])],
    "IsInf": [node("IsInf", ["x"], ["b"]), node("Not", ["b"], ["n"]), node("Where", ["n", "x", "v"])],
}


def data_of(nodes: Nodes) -> bytes:
    used = {name for step in nodes for name in step.input}
    return model(nodes, {"x": (3, 4), "v": (3, 4)}, weights={name: value for name, value in W.items() if name in used}, opset=16)


@pytest.mark.parametrize("nodes", CASES.values(), ids=CASES)
def test_logic_agrees_with_onnxruntime(nodes: Nodes) -> None:
    loaded = load(data_of(nodes))
    points = [[floats(3, 4, seed=k), floats(3, 4, seed=k + 9)] for k in range(4)]
    points.append([np.round(x) for x in points[0]])  # where things are equal
    found = compare(loaded, points)
    assert found.compared > 0


@pytest.mark.parametrize("nodes", CASES.values(), ids=CASES)
def test_the_checker_reads_the_same(nodes: Nodes) -> None:
    data = data_of(nodes)
    graph, network = load(data).graph, read_model.read(data)
    check_roundings(network)
    check_sites(engine_sites(data), network)
    for k in range(3):
        x = [floats(3, 4, seed=k), np.round(floats(3, 4, seed=k + 9))]
        ours = evaluate(graph, x)[graph.outputs[0]][0]
        np.testing.assert_allclose(checker_evaluate(network, x)[network.outputs[0]], ours, atol=1e-12)


WHOLE = {
    "Equal": ("Equal", 2, 1.0), "Equal, not": ("Equal", 1, 0.0), "Greater": ("Greater", 2, 0.0), "Less": ("Less", 2, 0.0),
    "LessOrEqual": ("LessOrEqual", 2, 1.0), "GreaterOrEqual": ("GreaterOrEqual", 2, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("floating", [False, True])
@pytest.mark.parametrize(("kind", "label", "expected"), WHOLE.values(), ids=WHOLE)
def test_integers_that_are_equal_compare_as_such_over_a_box(kind: str, label: int, expected: float, floating: bool) -> None:
    """argmax(x) is 2 all over the box; next to a difference of 0 bounds that pay for rounding left every comparison open."""
    label_of = np.array([label], np.float32 if floating else np.int64)
    cast = [node("Cast", ["i"], ["j"], to=1), node("Unsqueeze", ["j", "zero"], ["k"])] if floating else [node("Unsqueeze", ["i", "zero"], ["k"])]
    nodes = [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0), *cast, node(kind, ["k", "label"], ["b"]), FLOAT]
    data = model(nodes, {"x": (1, 4)}, weights={"label": label_of, "zero": np.array([1])}, opset=16)
    low, high = np.array([[0.1, 0.2, 0.7, 0.3]]), np.array([[0.2, 0.4, 0.9, 0.5]])
    net = BoundedNetwork(load(data).lowered, method="interval", dtype=torch.float64)
    below, above = net.all_bounds(low, high)["y"]
    assert below.item() == pytest.approx(expected, abs=1e-9) and above.item() == pytest.approx(expected, abs=1e-9)
    state = Checker(read_model.read(data), None).state(1, low, high, {}, {}, 0)
    assert state.lower[-1][0, 0] == pytest.approx(expected, abs=1e-9) and state.upper[-1][0, 0] == pytest.approx(expected, abs=1e-9)


def test_cast_like() -> None:
    """onnxruntime has no kernel of it, but a body."""
    nodes = [node("Relu", ["v"], ["r"]), node("CastLike", ["x", "r"], ["f"]), node("Greater", ["f", "c"], ["b"]), node("CastLike", ["b", "w"])]
    data = data_of(nodes)
    graph, x = load(data).graph, [floats(3, 4), floats(3, 4, seed=1)]
    np.testing.assert_array_equal(evaluate(graph, x)[graph.outputs[0]][0], (x[0] > 0.5).ravel())
    check_sites(engine_sites(data), read_model.read(data))
