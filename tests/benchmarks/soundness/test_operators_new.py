"""Truth values, TopK, Einsum, sines, recurrent operators and Attention of the suite's own evaluation: at points against onnxruntime, over boxes
against points; what it does not know is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.soundness import rational
from benchmarks.soundness.net import Net
from benchmarks.soundness.rule import UnknownOperator
from benchmarks.soundness.traps import executed

SHAPE = (3, 2, 4)
DRAWN = np.random.default_rng(3)


def weights(*shape: int) -> np.ndarray:
    return DRAWN.integers(-8, 9, shape) / 8.0


def single(kind: str, inputs: list[Any], opset: int = 17, outputs: int = 1, cast: bool = False, **attributes: Any) -> onnx.ModelProto:
    """One operator of `x` [3, 2, 4] and constants; None is `x` again, "" leaves an input out; `cast` makes numbers of its truth values."""
    net = Net(np.random.default_rng(0), opset)
    names = ["x" if v is None else "" if isinstance(v, str) else net.constant(v, np.asarray(v).dtype) for v in inputs]
    names = [net.constant(v, np.float32) if isinstance(v, np.ndarray) and v.dtype == np.float64 else n for v, n in zip(inputs, names, strict=True)]
    made = net.nodes_of(kind, names, outputs, **attributes)[0]
    made = net.node("Cast", made, to=TensorProto.FLOAT) if cast else made
    x, y = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE), helper.make_tensor_value_info(made, TensorProto.FLOAT, None)
    graph = helper.make_graph(net.nodes, "network", [x], [y], [t for t in net.constants if t.data_type != TensorProto.DOUBLE])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


LSTM = [None, weights(1, 8, 4), weights(1, 8, 2), weights(1, 16)]
BOTH = [None, weights(2, 8, 4), weights(2, 8, 2), weights(2, 16), "", weights(2, 2, 2), weights(2, 2, 2)]
GRU = [None, weights(1, 9, 4), weights(1, 9, 3), weights(1, 18)]
HALVES = weights(2, 4)
MODELS = {
    "greater": single("Greater", [None, HALVES], cast=True), "less": single("Less", [None, HALVES], cast=True),
    "at least": single("GreaterOrEqual", [None, HALVES], cast=True), "at most": single("LessOrEqual", [None, HALVES], cast=True),
    "sin": single("Sin", [None]), "cos": single("Cos", [None]), "top": single("TopK", [None, np.array([2])], outputs=2),
    "bottom": single("TopK", [None, np.array([1])], outputs=2, axis=1, largest=0), "sum by name": single("Einsum", [None], equation="abc->ca"),
    "product by name": single("Einsum", [None, weights(4, 2)], equation="abc,cb->ab"), "lstm": single("LSTM", LSTM, hidden_size=2),
    "lstm both ways": single("LSTM", BOTH, hidden_size=2, direction="bidirectional"), "gru": single("GRU", GRU, hidden_size=3),
    "gru back": single("GRU", GRU, hidden_size=3, direction="reverse", linear_before_reset=1),
    "rnn": single("RNN", [None, weights(1, 3, 4), weights(1, 3, 3)], hidden_size=3),
    "attention": single("Attention", [None, None, None], 23, q_num_heads=2, kv_num_heads=2),
    "attention scaled": single("Attention", [None, None, None], 23, q_num_heads=1, kv_num_heads=1, scale=0.25),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_points_agree_with_onnxruntime_and_boxes_hold_them(name: str) -> None:
    made, random = MODELS[name], np.random.default_rng(1)
    centre = random.integers(-12, 13, int(np.prod(SHAPE)))
    box = [(Fraction(int(c) - 4, 8), Fraction(int(c) + 4, 8)) for c in centre]
    bounds = rational.bound(made, box)
    for _ in range(2):
        point = tuple(Fraction(int(c) * 2 + int(d), 16) for c, d in zip(centre, random.integers(-8, 9, len(centre)), strict=True))
        pairs = rational.enclose(made, point)
        assert all(low <= high <= low + Fraction(1, 2**50) for low, high in pairs)
        np.testing.assert_allclose(executed(made, point), [float(low) for low, _ in pairs], rtol=2e-6, atol=2e-6)
        assert all(a <= low and high <= b for (a, b), (low, high) in zip(bounds, pairs, strict=True))


def chosen(kind: str) -> onnx.ModelProto:
    """(x > 0) `kind` (x < 1), not that, and Where: 3 there, x elsewhere."""
    net = Net(np.random.default_rng(0))
    both = net.node(kind, net.node("Greater", "x", net.constant(0.0)), net.node("Less", "x", net.constant(1.0)))
    y = net.node("Where", net.node("Not", both), net.constant(3.0), "x")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("x", y)]
    graph = helper.make_graph(net.nodes, "network", ends[:1], ends[1:], net.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def test_what_a_box_does_not_decide_is_enclosed() -> None:
    box = [tuple(map(Fraction, pair)) for pair in ((-2, -1), (0.25, 0.5), (0.5, 2), (-1, 0))]
    assert rational.bound(chosen("And"), box) == [(3, 3), (Fraction(1, 4), Fraction(1, 2)), (Fraction(1, 2), 3), (3, 3)]
    assert rational.bound(chosen("Or"), box) == [tuple(map(Fraction, pair)) for pair in ((-2, -1), (0.25, 0.5), (0.5, 2), (-1, 0))]
    for x in ((-1.5, 0.25, 1.0, 0.0), (0.5, 2.0, 0.0, 1.0)):
        point = tuple(map(Fraction, x))
        for kind in ("And", "Or"):
            assert executed(chosen(kind), point) == [float(v) for v in rational.exact(chosen(kind), point)]


def test_equality_is_decided_where_it_can_be() -> None:
    net = Net(np.random.default_rng(0))
    y = net.node("Where", net.node("Equal", "x", net.constant(1.0)), net.constant(5.0), net.constant(0.0))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [3]) for n in ("x", y)]
    graph = helper.make_graph(net.nodes, "network", ends[:1], ends[1:], net.constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert rational.bound(made, [(Fraction(0), Fraction(2)), (Fraction(2), Fraction(3)), (Fraction(1), Fraction(1))]) == [(0, 5), (0, 0), (5, 5)]


def test_a_wave_is_1_where_an_interval_holds_its_crest() -> None:
    sine, cosine = (MODELS[name] for name in ("sin", "cos"))
    size = int(np.prod(SHAPE))
    assert all(a == -1 and b < Fraction(1, 10) for a, b in rational.bound(cosine, [(Fraction(3, 2), Fraction(4))] * size))
    assert all(a > Fraction(9, 10) and b == 1 for a, b in rational.bound(sine, [(Fraction(3, 2), Fraction(8, 5))] * size))
    assert rational.bound(sine, [(Fraction(0), Fraction(7))] * size) == [(-1, 1)] * size


@pytest.mark.parametrize(("made", "says"), [
    (single("LSTM", LSTM, hidden_size=2, activations=["Tanh", "Tanh", "Tanh"]), "other activations"),
    (single("LSTM", LSTM, hidden_size=2, clip=1.0), "clip"), (single("LSTM", LSTM, hidden_size=2, layout=1), "another layout"),
    (single("Attention", [None, None, None], 23, q_num_heads=2, kv_num_heads=2, is_causal=1), "with a mask"),
    (single("Einsum", [None, weights(4), weights(4)], equation="abc,c,c->ab"), "Einsum of 3"),
    (single("TopK", [None, np.array([2])], outputs=2, sorted=0), "not sorted"),
])  # fmt: skip
def test_what_is_not_known_is_refused(made: onnx.ModelProto, says: str) -> None:
    with pytest.raises(UnknownOperator, match=says):
        rational.enclose(made, [Fraction(1)] * int(np.prod(SHAPE)))


def test_the_places_of_top_k_are_not_known() -> None:
    made = onnx.ModelProto()
    made.CopyFrom(MODELS["top"])
    made.graph.output[0].name = made.graph.node[0].output[1]
    with pytest.raises(ValueError, match="without a value"):
        rational.enclose(made, [Fraction(1)] * int(np.prod(SHAPE)))
