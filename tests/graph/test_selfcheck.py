"""The comparison with onnxruntime notices a network that was misread, and its error terms hold for onnxruntime's kernels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from graph_models import Array, floats, model, node

from graph import selfcheck
from graph.core import Affine, Elementwise, Graph, Node
from graph.errors import MalformedGraph, ModelError, ModelMismatch
from graph.functions import FUNCTIONS, Pieces, build
from graph.load import Model, load
from graph.selfcheck import compare, execute, session

DEEP = model(
    [
        *(n for k in range(6) for n in (node("Gemm", [f"h{k}", f"w{k}", f"b{k}"], [f"a{k}"]), node("Relu", [f"a{k}"], [f"h{k + 1}"]))),
        node("Softmax", ["h6"], ["y"], axis=1),
    ],
    {"h0": (1, 8)},
    weights={f"w{k}": floats(8, 8, seed=k) / 4 for k in range(6)} | {f"b{k}": floats(8, seed=10 + k) for k in range(6)},
)
POINTS = [[floats(8, seed=k)] for k in range(3)]


def changed(graph: Graph, i: int, change: Callable[[Any], Node]) -> Graph:
    return replace(graph, nodes=tuple(change(n) if k == i else n for k, n in enumerate(graph.nodes)))


def both(loaded: Model, kind: type, change: Callable[[Any], Node]) -> list[Model]:
    """The model with its last node of `kind` changed: in both graphs, and in the simplified one alone."""
    last = {
        which: max(i for i, n in graph if isinstance(n, kind) and i not in graph.shifts)
        for which, graph in (("g", loaded.graph), ("l", loaded.lowered))
    }
    simplified = changed(loaded.graph, last["g"], change)
    return [replace(loaded, graph=simplified, lowered=changed(loaded.lowered, last["l"], change)), replace(loaded, graph=simplified)]


def test_a_correct_network_passes_and_the_allowance_is_of_the_size_of_rounding() -> None:
    found = compare(load(DEEP), POINTS)
    assert found.skipped == 0 and found.compared > 100
    assert 1e-3 < found.largest_operator_fraction <= 1  # the allowance of one operator is of the size of its rounding
    assert found.largest_output_fraction <= 1


def test_points_are_compared_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers are those of all at once, and what only the last point shows is noticed."""
    loaded = load(DEEP)
    whole = compare(loaded, POINTS)
    monkeypatch.setattr(selfcheck, "TOGETHER", 1)
    found = compare(loaded, POINTS)
    assert (found.compared, found.skipped) == (whole.compared, whole.skipped)
    assert found.largest_operator_fraction == pytest.approx(whole.largest_operator_fraction, rel=1e-3)
    assert found.largest_output_fraction == pytest.approx(whole.largest_output_fraction, rel=1e-3)
    clipped = load(model([node("Relu", ["x"])], {"x": (1, 2)}))
    for wrong in both(clipped, Elementwise, lambda n: replace(n, function=build("clip", 0.0, 5.0))):
        compare(wrong, [[np.float32([1, 2])], [np.float32([3, 4])]])
        with pytest.raises(ModelMismatch):
            compare(wrong, [[np.float32([1, 2])], [np.float32([3, 6])]])


def test_what_the_simplified_graph_shares_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two graphs of the same facts of the same arrays: the third evaluation has nothing to do. (Where one differs, it is, and noticed: below.)"""
    layers = [node("Conv", ["x", "w", "b"], ["h"]), node("Relu", ["h"], ["g"]), node("Conv", ["g", "w", "b"])]
    loaded = load(model(layers, {"x": (1, 2, 2, 2)}, weights={"w": floats(2, 2, 1, 1), "b": floats(2)}))
    evaluated: list[Graph] = []
    value = selfcheck.node_value
    monkeypatch.setattr(selfcheck, "node_value", lambda graph, *rest: evaluated.append(graph) or value(graph, *rest))  # type: ignore[func-returns-value]
    compare(loaded, POINTS)
    assert evaluated and not any(graph is loaded.graph for graph in evaluated)
    affine = max(i for i, n in loaded.graph if isinstance(n, Affine))
    same = replace(loaded, graph=changed(loaded.graph, affine, lambda n: replace(n, bias=n.bias.copy())))
    compare(same, POINTS)
    assert sum(graph is same.graph for graph in evaluated) == 1


def test_a_wrong_weight_a_wrong_bias_and_a_wrong_function_are_noticed() -> None:
    loaded = load(model([node("Gemm", ["x", "w", "b"], ["h"]), node("Relu", ["h"])], {"x": (1, 8)}, weights={"w": floats(8, 8), "b": floats(8)}))

    def weight(n: Affine) -> Affine:
        dense = n.maps[0]
        return replace(n, maps=(replace(dense, weight=dense.weight * np.float32(1 + 1e-4)), *n.maps[1:]))  # type: ignore[call-arg,attr-defined]

    def bias(n: Affine) -> Affine:
        return replace(n, bias=(0 if n.bias is None else n.bias) + np.eye(n.size)[0] * 1e-4)

    for wrong in both(loaded, Affine, bias):
        with pytest.raises(ModelMismatch, match=r"tensor|simplification"):
            compare(wrong, POINTS)
    gemm = next(i for i, n in loaded.lowered if isinstance(n, Affine))
    simple = next(i for i, n in loaded.graph if isinstance(n, Affine))
    with pytest.raises(ModelMismatch, match=r"tensor 'h'|Gemm"):
        compare(replace(loaded, lowered=changed(loaded.lowered, gemm, weight), graph=changed(loaded.graph, simple, weight)), POINTS)
    with pytest.raises(ModelMismatch, match="simplification"):
        compare(replace(loaded, graph=changed(loaded.graph, simple, weight)), POINTS)
    for wrong in both(loaded, Elementwise, lambda n: replace(n, function=build("leaky_relu", 1e-3))):
        with pytest.raises(ModelMismatch):
            compare(wrong, POINTS)


def test_float32_overflow_is_skipped_not_a_mismatch() -> None:
    nodes = [node("Mul", ["x", "s"], ["h"]), node("Mul", ["h", "h"], ["y"])]
    found = compare(load(model(nodes, {"x": (1, 2)}, weights={"s": np.array([1.0, 1e30], np.float32)})), [[np.ones(2)]])
    assert found.skipped >= 1 and found.compared >= 3


def test_points_are_single_and_present() -> None:
    loaded = load(DEEP)
    for points in ([], [[floats(2, 8)]], [{"wrong": floats(8)}]):
        with pytest.raises(MalformedGraph):
            compare(loaded, points)  # type: ignore[arg-type]


def test_session_runs_the_original_file() -> None:
    loaded = load(DEEP)
    outputs = execute(session(loaded), loaded, {"h0": floats(8)})
    assert outputs[0].shape == (1, 8) and outputs[0].dtype == np.float32
    with pytest.raises(ModelError, match="onnxruntime cannot load"):
        session(loaded, content=b"nonsense")


def test_near_a_jump_either_side_is_explained_by_rounding() -> None:
    """(x + 2^24) - 2^24 is 0 in float32 for x = 0.4; and 0.1 x1 - 0.1 x2 + ... may round to either side of 0 in float64 too."""
    chain = [node("Add", ["x", "a"], ["h"]), node("Sub", ["h", "a"], ["z"]), node("Sign", ["z"])]
    loaded = load(model(chain, {"x": (1, 2)}, weights={"a": np.float32([2.0**24])}))
    assert execute(session(loaded, optimised=False), loaded, [np.float32([0.4, -0.4])])[0].tolist() == [[0, 0]]
    assert compare(loaded, [[np.array([0.4, -0.4])], [np.array([8.0, -8.0])]]).skipped == 0
    w, v = floats(3, 3, seed=1) / 3, floats(3, 3, seed=2) / 7
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("MatMul", ["h", "v"], ["g"]), node("Sub", ["g", "k"], ["z"]), node("Sign", ["z"])]
    x = floats(1, 3, seed=3)
    for wider in (x @ w @ v, (x.astype(np.float64) @ w @ v).astype(np.float32)):  # the differences are of the size of rounding
        compare(load(model(nodes, {"x": (1, 3)}, weights={"w": w, "v": v, "k": wider})), [[x]])


@pytest.mark.parametrize(("values", "at"), [((1.0,), 0.0), ((-1.0,), 0.0), ((0.0,), 1e-3)])
def test_a_wrong_step_is_noticed(values: tuple[float, ...], at: float) -> None:
    """Also at the jump itself, where an argument that is exact leaves no room."""
    loaded = load(model([node("Sign", ["x"])], {"x": (1, 2)}))
    compare(loaded, [[np.array([0.0, at])]])
    wrong = Pieces("sign", (0.0 if at == 0 else 0.01,), (0.0, 0.0), (-1.0, 1.0), values)
    for changed_model in both(loaded, Elementwise, lambda n: replace(n, function=wrong)):
        with pytest.raises(ModelMismatch):
            compare(changed_model, [[np.array([1.0, at])]])


QUANTUM = {"s": np.float32(1), "z": np.uint8(3)}
OPERATORS: dict[str, tuple[list[onnx.NodeProto], int, dict[str, Array]]] = {  # of functions that are not the operator of that name and opset 13
    "clip": ([node("Clip", ["x", "l", "h"])], 13, {"l": np.float32(-1), "h": np.float32(2)}),
    "elu": ([node("Elu", ["x"], alpha=1.7)], 13, {}),
    "gelu": ([node("Gelu", ["x"])], 20, {}),
    "hard_swish": ([node("HardSwish", ["x"])], 14, {}),
    "leaky_relu": ([node("LeakyRelu", ["x"], alpha=0.3)], 13, {}),
    "lookup": (
        [node("Reshape", ["x", "pairs"], ["p"]), node("ArgMax", ["p"], ["i"], axis=1, keepdims=0), node("OneHot", ["i", "depth", "values"])],
        13,
        {"pairs": np.array([-1, 2]), "depth": np.array(2), "values": np.float32([-0.3, 1.1])},
    ),
    "mish": ([node("Mish", ["x"])], 18, {}),
    "nearest": ([node("Round", ["x"])], 13, {}),
    "pow": ([node("Pow", ["x", "e"])], 13, {"e": np.float32(3)}),
    "round": ([node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"])], 13, QUANTUM),
    "shrink": ([node("Shrink", ["x"], lambd=0.7, bias=0.2)], 13, {}),
    "step": ([node("Greater", ["x", "t"], ["b"]), node("Cast", ["b"], to=1)], 13, {"t": np.float32(0)}),
    "swish": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"])], 13, {}),
    "swish, cubic": ([node("Gelu", ["x"], approximate="tanh")], 20, {}),
    "threshold": ([node("ThresholdedRelu", ["x"], alpha=0.7)], 13, {}),
}
PLACES: dict[str, Callable[[Array], Array]] = {  # inside the domain, and where float32 does not overflow
    "acosh": lambda x: 1 + np.abs(x)[np.abs(x) > 1e-7],  # at 1 its slope is infinite
    "asin": lambda x: x[np.abs(x) < 1],
    "atanh": lambda x: x[np.abs(x) < 1],
    "cosh": lambda x: np.clip(x, -85, 85),
    "exp": lambda x: np.clip(x, -85, 85),
    "log": np.abs,
    "reciprocal": lambda x: x[np.abs(x) > 1e-30],
    "sinh": lambda x: np.clip(x, -85, 85),
    "sqrt": np.abs,
    "tan": lambda x: x[np.abs(x) < 1.5],
}


@pytest.mark.parametrize("name", [*FUNCTIONS, "swish, cubic"])
def test_activation_errors_cover_onnxruntime(name: str) -> None:
    """42,000 arguments of all magnitudes and both signs, in vector bodies and tails: none is outside of the error term, none is left out."""
    rng = np.random.default_rng(0)
    small = 10.0 ** rng.uniform(-30, 2, 5_007) * np.where(rng.random(5_007) < 0.3, -1, 1)
    unit = rng.uniform(-1, 1, 2_000)  # for domains that end at 1
    x = np.concatenate([rng.uniform(-20, 20, 30_000), rng.uniform(-100, 100, 5_000), small, unit, [7.5]]).astype(np.float32)
    x = PLACES.get(name, lambda x: x)(x)
    nodes, opset, weights = OPERATORS.get(name, ([node(name.capitalize(), ["x"])], 13, {}))
    loaded = load(model(nodes, {"x": (x.size,)}, weights=weights, opset=opset))
    functions = {n.function.name for n in loaded.lowered.nodes if isinstance(n, Elementwise)}
    assert name.split(",")[0] in functions
    found = compare(loaded, [[x]])
    assert found.skipped == 0 and found.compared >= 2 * x.size
