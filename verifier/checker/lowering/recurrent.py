"""RNN, GRU and LSTM, step by step. In float32 all are refused: runtimes have functions of their own inside, which nobody has measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from verifier.checker.lowering.basic import stack, starts_of, total
from verifier.checker.lowering.builder import RELU, Array, Builder, Known, Shape, Tensor, Term, Value, floats, indices
from verifier.checker.lowering.elementwise import clipping
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Dense, Diagonal, Index
from verifier.checker.network import Pieces, Smooth

WAYS, STATED = "functions inside a recurrent operator are not measured", ("affine", "scaledtanh", "thresholdedrelu")  # by their numbers
CELL = "activation_alpha activation_beta activations clip direction hidden_size layout"  # attributes of all three
DEFAULTS: dict[str, tuple[float, ...]] = {  # alpha and beta of the functions that take them
    "affine": (1.0, 0.0), "elu": (1.0,), "hardsigmoid": (float(np.float32(0.2)), 0.5), "softsign": (), "thresholdedrelu": (1.0,),
    "leakyrelu": (float(np.float32(0.01)),), "relu": (), "scaledtanh": (1.0, 1.0), "sigmoid": (), "softplus": (), "tanh": (),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cell:
    """One direction: W [gates, hidden, in], R [gates, hidden, hidden], biases [2, gates, hidden], peepholes [3, hidden] or None."""

    op: Operator
    weight: Array
    recurrence: Array
    bias: Array
    peepholes: Array | None
    activations: tuple[tuple[str, tuple[float, ...]], ...]
    clip: float
    shape: Shape  # (batch, hidden)

    @property
    def builder(self) -> Builder:
        return self.op.builder

    def part(self, matrix: Array, x: Value, bias: Array | None) -> Value:
        """matrix x + bias; of zeros, the bias."""
        spread = None if bias is None else np.broadcast_to(bias, self.shape)
        if isinstance(x, Known) and not floats(x.value).any():
            return Known(np.zeros(self.shape) if spread is None else spread)
        tensor = self.op.as_tensor(x)
        return self.builder.affine([(Dense(np.ascontiguousarray(matrix), self.shape[0]), tensor)], spread, self.shape)

    def gate(self, g: int, x: Tensor, state: Value, seen: tuple[int, Value] | None = None) -> Tensor:
        """W x + R h + both biases, one after the other: their sum may need more digits. `seen`: a peephole and its state."""
        terms: list[Term] = [(Dense(np.ascontiguousarray(self.weight[g]), self.shape[0]), x)]
        if isinstance(state, Tensor) or floats(state.value).any():
            terms.append((Dense(np.ascontiguousarray(self.recurrence[g]), self.shape[0]), self.op.as_tensor(state)))
        if seen is not None and self.peepholes is not None and (isinstance(seen[1], Tensor) or floats(seen[1].value).any()):
            terms.append((Diagonal(np.broadcast_to(self.peepholes[seen[0]], self.shape).reshape(-1)), self.op.as_tensor(seen[1])))
        found = self.builder.affine(terms, np.broadcast_to(self.bias[0, g], self.shape), self.shape)
        return self.add(found, self.bias[1, g]) if self.bias[1, g].any() else found

    def add(self, x: Tensor, bias: Array) -> Tensor:
        return self.builder.affine([(Index(indices((x.size,)), x.size), x)], np.broadcast_to(bias, x.shape), x.shape)

    def activate(self, which: int, x: Tensor, clipped: bool = True) -> Tensor:
        if clipped and math.isfinite(self.clip):
            x = self.builder.elementwise(clipping(-self.clip, self.clip), x)
        name, numbers = self.activations[which]
        match name:
            case "affine" | "hardsigmoid":
                line = self.add(self.builder.scale(x, np.array(numbers[0])), np.array(numbers[1]))
                return line if name == "affine" else self.builder.elementwise(clipping(0.0, 1.0), line)
            case "scaledtanh":
                inner = self.builder.elementwise(Smooth("tanh"), self.builder.scale(x, np.array(numbers[1])))
                return self.builder.scale(inner, np.array(numbers[0]))
            case "elu":
                self.op.require(numbers[0] >= 0, f"alpha {numbers[0]}")
                return self.builder.elementwise(Smooth("elu", numbers[0]) if numbers[0] else RELU, x)
            case "thresholdedrelu":
                return self.builder.elementwise(Pieces(numbers, (0.0, 1.0), (0.0, 0.0), (0.0,)), x)
            case "leakyrelu":
                return self.builder.elementwise(Pieces((0.0,), (numbers[0], 1.0), (0.0, 0.0), (0.0,)), x)
        return self.builder.elementwise(RELU if name == "relu" else Smooth(name), x)

    def times(self, x: Value, y: Value) -> Value:
        """x y; with a constant, a scaling."""
        if isinstance(x, Known):
            x, y = y, x
        return self.builder.scale(self.op.as_tensor(x), floats(y.value)) if isinstance(y, Known) else self.builder.product(self.op.as_tensor(x), y)

    def gated(self, g: int, x: Tensor, state: Value, value: Value, seen: tuple[int, Value] | None = None) -> Value:
        """The gate g times a value; of a constant 0 there is no gate."""
        if isinstance(value, Known) and not floats(value.value).any():
            return value
        return self.times(self.activate(0, self.gate(g, x, state, seen)), value)

    def rest(self, x: Tensor) -> Tensor:
        """1 - x."""
        return self.builder.affine([(Diagonal(np.full(x.size, -1.0)), x)], np.ones(x.shape), x.shape)

    def plus(self, x: Value, y: Value) -> Value:
        """x + y; a constant 0 is left out."""
        parts = [v for v in (x, y) if isinstance(v, Tensor) or floats(v.value).any()]
        return total(self.builder, parts, [1.0] * len(parts)) if parts else x


States = tuple[Value, ...]  # the hidden state first
Step = Callable[[Cell, Tensor, States], States]


def rnn_step(cell: Cell, x: Tensor, states: States) -> States:
    return (cell.activate(0, cell.gate(0, x, states[0])),)


def gru_step(cell: Cell, x: Tensor, states: States) -> States:
    """H = (1 - z) h + z H; gates z, r, h."""
    hidden, op = states[0], cell.op
    update = cell.activate(0, cell.gate(0, x, hidden))
    if op.flag("linear_before_reset", 0):
        gated = cell.gated(1, x, hidden, cell.part(cell.recurrence[2], hidden, cell.bias[1, 2]))
        candidate = op.as_tensor(cell.plus(cell.part(cell.weight[2], x, cell.bias[0, 2]), gated))
    else:
        candidate = cell.gate(2, x, cell.gated(1, x, hidden, hidden))
    candidate = cell.activate(1, candidate)
    return (cell.plus(cell.times(cell.rest(update), candidate), cell.times(update, hidden)),)


def lstm_step(cell: Cell, x: Tensor, states: States) -> States:
    """C = f C + i c, H = o h(C); gates i, o, f, c, peepholes i, o, f."""
    hidden, memory = states
    enter = cell.activate(0, cell.gate(0, x, hidden, (0, memory)))
    coupled = cell.op.flag("input_forget", 0)
    kept = cell.times(cell.rest(enter), memory) if coupled else cell.gated(2, x, hidden, memory, (2, memory))
    candidate = cell.activate(1, cell.gate(3, x, hidden))
    fresh = cell.plus(kept, cell.times(enter, candidate))
    leave = cell.activate(0, cell.gate(1, x, hidden, (1, fresh)))
    return cell.times(leave, cell.activate(2, cell.op.as_tensor(fresh), clipped=False)), fresh


def recurrent(gates: int, functions: tuple[str, ...], states: int, step: Step) -> Callable[[Operator], list[Value]]:
    """All hidden states, and the last states."""

    def lower(op: Operator) -> list[Value]:
        x, layout = op.tensor(0), op.flag("layout", 0)
        op.require(len(x.shape) == 3, f"input of shape {x.shape}")
        x = op.builder.gather(x, np.swapaxes(indices(x.shape), 0, 1)) if layout else x
        lengths = np.array(op.known_integers(4) or (x.shape[0],) * x.shape[1])
        op.require(lengths.shape == x.shape[1:2] and bool(((lengths >= 1) & (lengths <= x.shape[0])).all()), "sequence_lens")
        backward = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}.get(op.string("direction", "forward"), ())
        made, last = list[tuple[int, Array, Value]](), list[States]()
        for d, cell in enumerate(_cells(op, gates, functions, len(backward), x.shape)):
            last.append(_run(cell, x, lengths, backward[d], tuple(_first(op, 5 + k, d, cell.shape, layout) for k in range(states)), step, d, made))
        return [op.end(op.as_tensor(v), "refused", name=WAYS) for v in _outputs(op, made, last, x.shape[0], layout)]

    return lower


def _run(
    cell: Cell, x: Tensor, lengths: Array, backward: bool, current: States, step: Step, direction: int, made: list[tuple[int, Array, Value]]
) -> States:
    """The last states; (direction, time of every sequence or -1, hidden states) of every step goes to `made`."""
    batch, size = x.shape[1:]
    for k in range(int(lengths.max())):
        active = lengths > k
        times = lengths - 1 - k if backward else np.full(batch, k)
        here = np.where(active[:, None], times[:, None] * batch * size + indices((batch, size)), -1)
        fresh = step(cell, cell.builder.gather(x, here), current)
        mask = np.broadcast_to(np.where(active, 1.0, 0.0)[:, None], cell.shape)
        if not active.all():
            fresh = tuple(cell.plus(cell.times(new, Known(mask)), cell.times(old, Known(1 - mask))) for new, old in zip(fresh, current, strict=True))
        current = fresh
        made.append((direction, np.where(active, times, -1), current[0]))
    return current


def _cells(op: Operator, gates: int, functions: tuple[str, ...], directions: int, shape: Shape) -> Iterator[Cell]:
    weight, recurrence = op.known_floats(1), op.known_floats(2)
    hidden = recurrence.shape[-1]
    bias = np.zeros((directions, 2 * gates * hidden)) if op.optional(3) is None else op.known_floats(3)
    peepholes = None if gates < 4 or op.optional(7) is None else op.known_floats(7)
    shapes = (directions, gates * hidden, shape[2]), (directions, gates * hidden, hidden), (directions, 2 * gates * hidden)
    op.require(directions > 0 and (weight.shape, recurrence.shape, bias.shape) == shapes, "direction, W, R or B")
    op.require(peepholes is None or peepholes.shape == (directions, 3 * hidden), "P")
    op.require(op.integer("hidden_size", hidden) == hidden, "hidden_size")
    named, clip = list(_activations(op, functions * directions)), op.real("clip", math.inf)
    op.require(clip > 0, f"clip {clip}")
    for d in range(directions):
        yield Cell(
            op, weight[d].reshape(gates, hidden, -1), recurrence[d].reshape(gates, hidden, hidden), bias[d].reshape(2, gates, hidden),
            None if peepholes is None else peepholes[d].reshape(3, hidden), tuple(named[d * len(functions) : (d + 1) * len(functions)]), clip,
            (shape[1], hidden),
        )  # fmt: skip


def _activations(op: Operator, defaults: tuple[str, ...]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Names and numbers; the lists of alphas and betas go to the functions that take them, in order. Of some onnxruntime has 0 as a default."""
    names = [name.lower() for name in op.strings("activations") or defaults]
    queues = [list(op.reals("activation_alpha") or ()), list(op.reals("activation_beta") or ())]
    op.require(len(names) == len(defaults) and all(name in DEFAULTS for name in names), f"activations {names}")
    for name in names:
        op.require(name not in STATED or all(queues[: len(DEFAULTS[name])]), f"{name} without its numbers")
        yield name, tuple(queue.pop(0) if queue else default for queue, default in zip(queues[: len(DEFAULTS[name])], DEFAULTS[name], strict=True))
    op.require(not any(queues), "activation_alpha or activation_beta")


def _first(op: Operator, i: int, direction: int, shape: Shape, layout: bool) -> Value:
    """The first state of a direction, zeros where none is given."""
    if (given := op.optional(i)) is None:
        return Known(np.zeros(shape))
    place = indices(given.shape)[:, direction] if layout else indices(given.shape)[direction]
    op.require(place.shape == shape, f"a first state of shape {given.shape}")
    return Known(floats(given.value).reshape(-1)[place]) if isinstance(given, Known) else op.builder.gather(given, place)


def _outputs(op: Operator, made: list[tuple[int, Array, Value]], last: list[States], steps: int, layout: bool) -> Iterator[Value]:
    """Y (steps, directions, batch, hidden), or with the batch first, 0 where a sequence has ended; the last states."""
    batch, hidden = last[0][0].shape
    place, parts = np.full((steps, len(last), batch, hidden), -1), [state for *_, state in made]
    for k, (d, times, _) in enumerate(made):
        for s in np.flatnonzero(times >= 0):
            place[times[s], d, s] = (k * batch + s) * hidden + np.arange(hidden)
    yield stack(op.builder, parts, np.transpose(place, (2, 0, 1, 3)) if layout else place, starts_of(parts))
    for k in range(len(last[0])):
        ends, order = [states[k] for states in last], indices((len(last), batch, hidden))
        yield stack(op.builder, ends, np.swapaxes(order, 0, 1) if layout else order, starts_of(ends))
