"""LSTM, GRU and RNN step by step, and Attention, over the reals: default activations, no masks, no lengths, no peepholes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from benchmarks.soundness import elementary
from benchmarks.soundness.operators_linear import inverse
from benchmarks.soundness.operators_nonlinear import growing, softmax_over
from benchmarks.soundness.operators_places import joined
from benchmarks.soundness.rule import Call, Rule, UnknownOperator, Value
from benchmarks.soundness.tensor import Tensor, of_enclosures, of_fractions

States = tuple[Tensor, ...]  # [batch, hidden] each; the first is the output
Step = Callable[["Cell", Tensor, States], States]


class Cell:
    """The weights of one direction: `inputs` [gates hidden, input], `states` [gates hidden, hidden] and their biases [gates hidden]."""

    def __init__(self, call: Call, direction: int, hidden: int, gates: int) -> None:
        self.inputs, self.states = (call.tensor(i).moved(lambda a: a[direction]) for i in (1, 2))
        zeros = of_fractions([Fraction(0)] * 2 * gates * hidden, (2 * gates * hidden,))
        both = call.tensor(3).moved(lambda a: a[direction]) if call.has(3) else zeros
        self.bias_inputs, self.bias_states = (both.moved(lambda a, k=k: a.reshape(2, -1)[k]) for k in range(2))
        self.hidden, self.late = hidden, False

    def of_input(self, x: Tensor, gate: int) -> Tensor:
        """W x + its bias."""
        return x @ self._rows(self.inputs, gate).moved(np.transpose) + self._rows(self.bias_inputs, gate)

    def of_state(self, h: Tensor, gate: int) -> Tensor:
        """R h + its bias."""
        return h @ self._rows(self.states, gate).moved(np.transpose) + self._rows(self.bias_states, gate)

    def _rows(self, weights: Tensor, gate: int) -> Tensor:
        return weights.moved(lambda a: a[gate * self.hidden : (gate + 1) * self.hidden])


def _sigmoid(x: Tensor) -> Tensor:
    return growing(x, elementary.sigmoid)


def _tanh(x: Tensor) -> Tensor:
    return growing(x, elementary.tanh)


def _lstm_step(cell: Cell, x: Tensor, states: States) -> States:
    """Gates i, o, f, c."""
    h, c = states
    i, o, f, g = (cell.of_input(x, gate) + cell.of_state(h, gate) for gate in range(4))
    c = _sigmoid(f) * c + _sigmoid(i) * _tanh(g)
    return _sigmoid(o) * _tanh(c), c


def _gru_step(cell: Cell, x: Tensor, states: States) -> States:
    """Gates z, r, h."""
    (h,) = states
    z, r = (_sigmoid(cell.of_input(x, gate) + cell.of_state(h, gate)) for gate in range(2))
    new = _tanh(cell.of_input(x, 2) + (r * cell.of_state(h, 2) if cell.late else cell.of_state(r * h, 2)))
    return ((of_fractions([Fraction(1)], ()) - z) * new + z * h,)


def _rnn_step(cell: Cell, x: Tensor, states: States) -> States:
    (h,) = states
    return (_tanh(cell.of_input(x, 0) + cell.of_state(h, 0)),)


def _recurrent(gates: int, states: int, functions: Sequence[str], step: Step) -> Rule:
    def rule(call: Call) -> Value | list[Value]:
        hidden, late = call.take("hidden_size"), bool(call.take("linear_before_reset", 0))
        orders = {"forward": (1,), "reverse": (-1,), "bidirectional": (1, -1)}[call.take("direction", "forward")]
        named = [name.decode() for name in call.take("activations", [])]
        if named not in ([], list(functions) * len(orders)) or call.has(4) or call.has(7) or call.take("layout", 0) or call.take("input_forget", 0):
            raise UnknownOperator(f"{call.operator} with other activations, lengths, peepholes, another layout or coupled gates")
        x = call.tensor(0)
        zero = of_fractions([Fraction(0)] * x.shape[1] * hidden, (x.shape[1], hidden))
        ran: list[tuple[list[Tensor], States]] = []
        for d, order in enumerate(orders):
            cell = Cell(call, d, hidden, gates)
            cell.late = late
            now = tuple(call.tensor(5 + k).moved(lambda a, d=d: a[d]) if call.has(5 + k) else zero for k in range(states))
            made = []
            for t in range(x.shape[0])[::order]:
                now = step(cell, x.moved(lambda a, t=t: a[t]), now)
                made.append(now[0])
            ran.append((made[::order], now))
        every = _stacked([_stacked([made[t] for made, _ in ran]) for t in range(x.shape[0])])
        return [every, *(_stacked([last[k] for _, last in ran]) for k in range(states))][: call.outputs]

    return rule


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    """Along a new first axis."""
    whole = joined([t.moved(lambda a: a[None]) for t in tensors], 0)
    if not isinstance(whole, Tensor):
        raise UnknownOperator("numbers were expected")
    return whole


def _attention(call: Call) -> Value:
    """softmax(scale Q K') V for every head; [batch, heads, length, size], or [batch, length, heads size]."""
    heads = call.take("q_num_heads"), call.take("kv_num_heads")
    plain = not call.take("is_causal", 0) and not call.take("softcap", 0.0) and not call.take("qk_matmul_output_mode", 0)
    if not plain or len(set(heads)) != 1 or any(call.has(i) for i in range(3, 6)) or call.outputs != 1:
        raise UnknownOperator("Attention with a mask, a cap, a past or grouped heads")
    flat = len(call.tensor(0).shape) == 3
    query, key, value = (_split(call.tensor(i), heads[0]) if flat else call.tensor(i) for i in range(3))
    scale = call.take("scale")
    root = inverse(elementary.sqrt(Fraction(query.shape[-1])))
    factor = of_enclosures([root if scale is None else (Fraction(scale), Fraction(scale))], ())
    weights = softmax_over(query @ key.moved(lambda a: np.swapaxes(a, -1, -2)) * factor, -1)
    mixed = weights @ value
    return mixed.moved(lambda a: np.swapaxes(a, 1, 2).reshape(a.shape[0], a.shape[2], -1)) if flat else mixed


def _split(x: Tensor, heads: int) -> Tensor:
    return x.moved(lambda a: np.swapaxes(a.reshape(*a.shape[:2], heads, -1), 1, 2))


RECURRENT: dict[str, Rule] = {
    "LSTM": _recurrent(4, 2, ("Sigmoid", "Tanh", "Tanh"), _lstm_step), "GRU": _recurrent(3, 1, ("Sigmoid", "Tanh"), _gru_step),
    "RNN": _recurrent(1, 1, ("Tanh",), _rnn_step), "Attention": _attention,
}  # fmt: skip
