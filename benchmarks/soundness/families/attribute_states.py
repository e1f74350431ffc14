"""Attribute traps of operators that go through a sequence, and of Attention, TopK, Einsum and Round.

Inputs and weights of recurrent operators are not negative, so that every gate and every state rises with every input, rightly and misread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.soundness.net import Array, Net
from benchmarks.soundness.traps import RISING, Features, Trap

STEPS, INPUTS, HIDDEN = 2, 2, 2
SEQUENCE = (STEPS, 1, INPUTS)
Weights = dict[str, Array]


def _drawn(net: Net, gates: int) -> Weights:
    """Weights of one direction, not negative: of inputs, of states, both biases, and the first states."""
    rows = gates * HIDDEN
    sizes = {"W": (1, rows, INPUTS), "R": (1, rows, HIDDEN), "B": (1, 2 * rows), "h": (1, 1, HIDDEN), "c": (1, 1, HIDDEN)}
    return {name: net.draw(*shape, positive=True) / 2 for name, shape in sizes.items()}


def _gates(weights: Weights, order: tuple[int, ...]) -> Weights:
    """The gates in another order, in all weights."""
    def moved(values: Array) -> Array:
        parts = values.reshape(-1, len(order), HIDDEN, *values.shape[2:])
        return parts[:, list(order)].reshape(values.shape)

    return {name: moved(value) if name in "WRB" else value for name, value in weights.items()}


def _run(kind: str, gates: int, prepare: Callable[[Weights, bool], Weights], right: Mapping[str, Any], wrong: Mapping[str, Any]) -> Features:
    """The states after every step; misread, with other weights or attributes."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        weights = prepare(_drawn(net, gates), wrongly)
        inputs = [net.constant(weights[name]) for name in ("W", "R", "B")]
        states = [net.constant(weights[name]) for name in ("h", "c")[: 2 if kind == "LSTM" else 1]]
        return net.node(kind, x, *inputs, "", *states, hidden_size=HIDDEN, **(wrong if wrongly else right))

    return features


def _plain(weights: Weights, wrongly: bool) -> Weights:
    return weights


def _reordered(*order: int) -> Callable[[Weights, bool], Weights]:
    return lambda weights, wrongly: _gates(weights, order) if wrongly else weights


def _lost(name: str) -> Callable[[Weights, bool], Weights]:
    """Misread, a state starts at 0."""
    return lambda weights, wrongly: weights | {name: weights[name] * 4 * (not wrongly)}


def _half_bias(weights: Weights, wrongly: bool) -> Weights:
    """Misread, the second half of the biases is lost."""
    first, second = np.split(weights["B"], 2, axis=1)
    return weights | {"B": np.concatenate([first, second * 2 * (not wrongly)], axis=1)}


def _shut(weights: Weights, wrongly: bool) -> Weights:
    """The update gate reads nothing, so that what is misread about the other gates keeps rising."""
    closed = np.concatenate([np.zeros(HIDDEN), np.ones(2 * HIDDEN)])
    return weights | {name: weights[name] * closed[None, :, None] for name in ("W", "R")} | {"B": weights["B"] * np.tile(closed, 2)[None]}


def _shut_and_slow(weights: Weights, wrongly: bool) -> Weights:
    """The reset gate is about half open as well, and the new state lives by its second bias."""
    less = np.repeat([0.0, 1 / 8, 1 / 8], HIDDEN)
    bias = np.concatenate([np.zeros(5 * HIDDEN), np.full(HIDDEN, 2.0)])
    return {**weights, "W": weights["W"] * less[None, :, None], "R": weights["R"] * less[None, :, None], "B": weights["B"] * bias[None]}


def _without_first(weights: Weights, wrongly: bool) -> Weights:
    return _lost("h")(_shut(weights, wrongly), wrongly)


RECURRENT = (
    Trap("lstm_order", "the gates of an LSTM come in the order i, f, c, o", ("LSTM",), SEQUENCE, _run("LSTM", 4, _reordered(0, 2, 3, 1), {}, {}),
         RISING, opset=14, low=0),
    Trap("lstm_reverse", "the direction of an LSTM is ignored", ("LSTM",), SEQUENCE,
         _run("LSTM", 4, _plain, {"direction": "reverse"}, {"direction": "forward"}), RISING, opset=14, low=0),
    Trap("lstm_first_cell", "the first cell state of an LSTM is ignored", ("LSTM",), SEQUENCE, _run("LSTM", 4, _lost("c"), {}, {}), RISING, opset=14,
         low=0, truths=(True,)),
    Trap("lstm_bias", "the biases of an LSTM's states are ignored", ("LSTM",), SEQUENCE, _run("LSTM", 4, _half_bias, {}, {}), RISING, opset=14,
         low=0, truths=(True,)),
    Trap("gru_late", "linear_before_reset is ignored", ("GRU",), SEQUENCE, _run("GRU", 3, _shut_and_slow, {"linear_before_reset": 1}, {}), RISING,
         opset=14, low=0, truths=(False,)),
    Trap("gru_first_state", "the first state of a GRU is ignored", ("GRU",), SEQUENCE, _run("GRU", 3, _without_first, {}, {}), RISING, opset=14,
         low=0, truths=(True,)),
    Trap("rnn_reverse", "the direction of an RNN is ignored", ("RNN",), SEQUENCE,
         _run("RNN", 1, _plain, {"direction": "reverse"}, {"direction": "forward"}), RISING, opset=14, low=0),
)  # fmt: skip

# --- Attention, TopK, Einsum, Round ------------------------------------------------------------------------------------------------


def _attention(right: Mapping[str, Any], wrong: Mapping[str, Any]) -> Features:
    """Values are the input, queries and keys are constants: affine."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        return net.node("Attention", net.numbers(1, 2, 2), net.numbers(1, 2, 2), x, **(wrong if wrongly else right))

    return features


def _first(largest: tuple[int, int], axis: tuple[int, int]) -> Features:
    """One of three rows or columns, by TopK; rightly and misread."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        return net.nodes_of("TopK", [x, net.whole(1)], 2, largest=largest[wrongly], axis=axis[wrongly])[0]

    return features


def _by_name(right: str, wrong: str) -> Features:
    def features(net: Net, x: str, wrongly: bool) -> str:
        return net.node("Einsum", x, net.numbers(3, 3), equation=wrong if wrongly else right)

    return features


def _halves(net: Net, x: str, wrongly: bool) -> str:
    """Round to even; misread, halves go up."""
    doubled = net.node("Mul", x, net.constant(4.0))
    return net.node("Floor", net.node("Add", doubled, net.constant(0.5))) if wrongly else net.node("Round", doubled)


ONE_HEAD, TWO_HEADS = ({"q_num_heads": n, "kv_num_heads": n} for n in (1, 2))
SELECTED = (
    Trap("attention_scale", "the scale of Attention is ignored", ("Attention",), (1, 2, 2), _attention({**ONE_HEAD, "scale": 4.0}, ONE_HEAD),
         opset=23),
    Trap("attention_heads", "the heads of Attention are taken as one", ("Attention",), (1, 2, 2), _attention(TWO_HEADS, ONE_HEAD), opset=23),
    Trap("topk_largest", "TopK takes the largest where the least are asked for", ("TopK",), (3, 3), _first((0, 1), (1, 1)), RISING, truths=(False,)),
    Trap("topk_least", "TopK takes the least where the largest are asked for", ("TopK",), (3, 3), _first((1, 0), (1, 1)), RISING, truths=(True,)),
    Trap("einsum_second", "the second tensor of an Einsum is transposed", ("Einsum",), (3, 3), _by_name("ij,jk->ik", "ij,kj->ik")),
    Trap("einsum_result", "the result of an Einsum is transposed", ("Einsum",), (3, 3), _by_name("ij,jk->ki", "ij,jk->ik")),
    Trap("round_halves", "Round takes halves up", ("Round",), (1, 4), _halves, RISING, truths=(False,)),
)  # fmt: skip
STATES: tuple[Trap, ...] = (*RECURRENT, *SELECTED)
