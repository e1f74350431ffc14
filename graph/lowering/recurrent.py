"""RNN, GRU and LSTM, unrolled: the steps share one linear map for each gate.

The sites are those of `verifier/checker/FORMAT.md`: direction by direction and step by step, in the order of processing,
RNN: f; GRU: z, r, the product with it, h, (1 - z) h, z H; LSTM: i, f, f C, c, i c, o, h(C), o h(C). With `clip` the function
of every gate (as onnxruntime has it: not h) is preceded by its Clip. A product with a constant (the first state, mostly) is linear; of a
constant 0 the gate is left out too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.functions import FUNCTIONS, build
from graph.linear_map import Dense, LinearMap, Scale
from graph.lowering.arithmetic import add, concat, float64, multiply, scale
from graph.lowering.builder import Builder, Known, Tensor, Value, indices, varying
from graph.lowering.operator import Operator

Array = NDArray[Any]

# ONNX name in lower case -> name of the function, default alpha and beta (None: it takes none)
ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "affine": ("", 1.0, 0.0),
    "elu": ("elu", 1.0, None),
    "hardsigmoid": ("clip", float(np.float32(0.2)), 0.5),
    "leakyrelu": ("leaky_relu", float(np.float32(0.01)), None),
    "relu": ("relu", None, None),
    "scaledtanh": ("tanh", 1.0, 1.0),
    "sigmoid": ("sigmoid", None, None),
    "softplus": ("softplus", None, None),
    "softsign": ("softsign", None, None),
    "tanh": ("tanh", None, None),
    "thresholdedrelu": ("threshold", 1.0, None),
}
STATED = ("affine", "scaledtanh", "thresholdedrelu")  # the file says their numbers: onnxruntime has 0 where the standard has other defaults, or none


@dataclass(frozen=True)
class Activation:
    """A function of the table above with its numbers."""

    name: str
    alpha: float
    beta: float

    def apply(self, builder: Builder, x: Tensor) -> Tensor:
        function, *defaults = ACTIVATIONS[self.name]
        if self.name == "affine":
            return varying(add(builder, scale(builder, x, np.array(self.alpha)), Known(np.array(self.beta))))
        if self.name == "hardsigmoid":
            line = add(builder, scale(builder, x, np.array(self.alpha)), Known(np.array(self.beta)))
            return builder.elementwise(build("clip", 0.0, 1.0), varying(line))
        if self.name in ("elu", "thresholdedrelu") and self.alpha == 0:
            return builder.elementwise(build("relu"), x)
        if self.name == "scaledtanh":
            inner = builder.elementwise(build("tanh"), varying(scale(builder, x, np.array(self.beta))))
            return varying(scale(builder, inner, np.array(self.alpha)))
        numbers = [v for v, default in zip((self.alpha, self.beta), defaults, strict=True) if default is not None]
        return builder.elementwise(build(function, *numbers), x)


@dataclass(frozen=True, eq=False)
class Cell:
    """One direction: for each gate the maps of the input and of the state and both biases [hidden]; `clip` inf for none."""

    builder: Builder
    inputs: tuple[LinearMap, ...]
    states: tuple[LinearMap, ...]
    input_bias: tuple[Array, ...]
    state_bias: tuple[Array, ...]
    activations: tuple[Activation, ...]
    clip: float
    shape: Shape  # (batch, hidden)

    def gate(self, g: int, x: Tensor, state: Value, peephole: tuple[Array, Value] | None = None) -> Tensor:
        """W x + R h + both biases, plus the peephole's weights times its state."""
        terms, bias = [(self.inputs[g], x)], np.broadcast_to(self.input_bias[g] + self.state_bias[g], self.shape)
        parts: list[tuple[LinearMap, Value]] = [(self.states[g], state)]
        if peephole is not None:
            weight = np.broadcast_to(float64(peephole[0]), self.shape).reshape(-1)
            parts.append((Scale(self.shape, self.shape, weight), peephole[1]))
        for linear_map, part in parts:
            if isinstance(part, Tensor):
                terms.append((linear_map, part))
            else:
                bias = bias + linear_map.apply(float64(part.value).reshape(-1)).reshape(self.shape)
        return self.builder.affine(terms, bias, self.shape)

    def state_part(self, g: int, state: Value) -> Value:
        """R h + its bias; a node also of a constant that is not 0, so that a product with it is one (FORMAT.md)."""
        if isinstance(state, Known):
            if not state.value.any():
                return Known(np.broadcast_to(self.state_bias[g], self.shape))
            state = self.builder.constant(state.value)
        return self.builder.affine([(self.states[g], state)], np.broadcast_to(self.state_bias[g], self.shape), self.shape)

    def activate(self, which: int, x: Tensor) -> Tensor:
        if np.isfinite(self.clip):
            x = self.builder.elementwise(build("clip", -self.clip, self.clip), x)
        return self.activations[which].apply(self.builder, x)


States = tuple[Value, ...]  # the hidden state first
Step = Callable[[Operator, int, Cell, Tensor, States], States]


def lower_rnn(op: Operator) -> list[Value]:
    return _unroll(op, 1, ["Tanh"], 1, _rnn_step)


def lower_gru(op: Operator) -> list[Value]:
    return _unroll(op, 3, ["Sigmoid", "Tanh"], 1, _gru_step)


def lower_lstm(op: Operator) -> list[Value]:
    return _unroll(op, 4, ["Sigmoid", "Tanh", "Tanh"], 2, _lstm_step)


def _rnn_step(op: Operator, direction: int, cell: Cell, x: Tensor, states: States) -> States:
    return (cell.activate(0, cell.gate(0, x, states[0])),)


def _gru_step(op: Operator, direction: int, cell: Cell, x: Tensor, states: States) -> States:
    """H = (1 - z) h + z H, z and r by the first activation, h by the second (gates in the order z, r, h)."""
    b, hidden = cell.builder, states[0]
    update = cell.activate(0, cell.gate(0, x, hidden))
    if op.integer("linear_before_reset"):
        gated = _gated(cell, 1, x, hidden, cell.state_part(2, hidden))
        own = b.affine([(cell.inputs[2], x)], np.broadcast_to(cell.input_bias[2], cell.shape), cell.shape)
        candidate = varying(add(b, own, gated))
    else:
        candidate = cell.gate(2, x, _gated(cell, 1, x, hidden, hidden))
    candidate = cell.activate(1, candidate)
    rest = add(b, Known(np.ones(cell.shape)), update, -1.0)
    return (add(b, multiply(b, rest, candidate), multiply(b, update, hidden)),)


def _lstm_step(op: Operator, direction: int, cell: Cell, x: Tensor, states: States) -> States:
    """C = f C + i c, H = o h(C); gates in the order i, o, f, c, peepholes i, o, f (that of o sees the new C)."""
    b, (hidden, memory) = cell.builder, states
    peepholes = None if op.optional(7) is None else op.known(7)[direction].reshape(3, -1)
    seen = [None if peepholes is None else (peepholes[g], memory) for g in range(3)]
    enter = cell.activate(0, cell.gate(0, x, hidden, seen[0]))
    coupled = bool(op.integer("input_forget"))
    rest = add(b, Known(np.ones(cell.shape)), enter, -1.0)
    kept = multiply(b, rest, memory) if coupled else _gated(cell, 2, x, hidden, memory, seen[2])
    candidate = cell.activate(1, cell.gate(3, x, hidden))
    fresh = varying(add(b, kept, multiply(b, enter, candidate)))
    leave = cell.activate(0, cell.gate(1, x, hidden, None if peepholes is None else (peepholes[1], fresh)))
    return multiply(b, leave, cell.activations[2].apply(b, varying(fresh))), fresh


def _gated(cell: Cell, g: int, x: Tensor, state: Value, value: Value, peephole: tuple[Array, Value] | None = None) -> Value:
    """The gate g times a value; of a constant 0 there is no gate."""
    if isinstance(value, Known) and not value.value.any():
        return value
    return multiply(cell.builder, cell.activate(0, cell.gate(g, x, state, peephole)), value)


def _unroll(op: Operator, gates: int, defaults: list[str], states: int, step: Step) -> list[Value]:
    """Outputs Y (all hidden states) and the last states, all directions."""
    x = op.variable(0)
    if len(x.shape) != 3:
        raise op.malformed(f"an input of shape {x.shape} where three axes are due")
    batch_first = bool(op.integer("layout"))
    x = op.builder.gather(x, np.swapaxes(indices(x.shape), 0, 1)) if batch_first else x
    steps, batch, _ = x.shape
    lengths = np.array(op.known_integers(4) or (steps,) * batch)
    if lengths.shape != (batch,) or lengths.min() < 0 or lengths.max() > steps:
        raise op.malformed(f"sequence_lens {lengths.tolist()} do not fit {batch} sequences of at most {steps} steps")
    backward = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}.get(op.string("direction", "forward"))
    if backward is None:
        raise op.malformed(f"direction {op.string('direction')!r}")
    everything, last = [], []
    for d, cell in enumerate(_cells(op, gates, defaults * len(backward), len(backward), x.shape)):
        current: States = tuple(_initial(op, 5 + k, d, cell.shape, batch_first) for k in range(states))
        for k in range(int(lengths.max(initial=0))):
            times = lengths - 1 - k if backward[d] else np.full(batch, k)
            active = lengths > k
            here = np.where(active[:, None], times[:, None] * batch * x.shape[2] + indices(x.shape[1:]), -1)
            fresh = step(op, d, cell, op.builder.gather(x, here), current)
            current = tuple(_kept(op.builder, new, old, active) for new, old in zip(fresh, current, strict=True))
            everything.append((d, np.where(active, times, -1), current[0]))
        last.append(current)
    return _outputs(op, everything, last, steps, batch_first)


def _cells(op: Operator, gates: int, defaults: list[str], directions: int, shape: Shape) -> Iterator[Cell]:
    """The weights of every direction, checked and taken apart."""
    _, batch, size = shape
    weight, recurrence = op.known(1), op.known(2)
    hidden = recurrence.shape[-1]
    bias = np.zeros((directions, 2 * gates * hidden)) if op.optional(3) is None else float64(op.known(3))
    if weight.shape != (directions, gates * hidden, size) or recurrence.shape != (directions, gates * hidden, hidden):
        raise op.malformed(f"W {weight.shape} and R {recurrence.shape} do not fit {directions} directions and inputs of size {size}")
    if bias.shape != (directions, 2 * gates * hidden) or op.integer("hidden_size", hidden) != hidden:
        raise op.malformed(f"B of shape {bias.shape} or hidden_size does not fit R {recurrence.shape}")
    activations, clip = _activations(op, defaults), op.real("clip", np.inf)
    if clip <= 0:
        raise op.refuse(f"clip {clip} is not positive")
    out: Shape = (batch, hidden)
    for d in range(directions):
        parts = bias[d].reshape(2, gates, hidden)
        yield Cell(
            op.builder,
            tuple(Dense((batch, size), out, w) for w in weight[d].reshape(gates, hidden, size)),
            tuple(Dense(out, out, w) for w in recurrence[d].reshape(gates, hidden, hidden)),
            tuple(parts[0]),
            tuple(parts[1]),
            tuple(activations[d * len(defaults) // directions : (d + 1) * len(defaults) // directions]),
            clip,
            out,
        )


def _activations(op: Operator, defaults: list[str]) -> list[Activation]:
    """By name; alphas and betas go, in order, to the functions that have such a number."""
    given_names = any(attribute.name == "activations" for attribute in op.node.attribute)  # the default names too many of them
    names = [name.lower() for name in (op.strings("activations") if given_names else None) or defaults]
    unknown = [name for name in names if name not in ACTIVATIONS or (ACTIVATIONS[name][0] or "relu") not in FUNCTIONS]
    if unknown or len(names) != len(defaults):
        raise op.refuse(f"activations {names} are not supported ({len(defaults)} of {', '.join(ACTIVATIONS)} are)")
    given = [list(op.reals("activation_alpha") or ()), list(op.reals("activation_beta") or ())]
    found = []
    for name in names:
        if name in STATED and not all(queue for queue, default in zip(given, ACTIVATIONS[name][1:], strict=True) if default is not None):
            raise op.refuse(f"{name} without activation_alpha or activation_beta: onnxruntime's defaults are not the standard's, so write them down")
        numbers = [queue.pop(0) if default is not None and queue else default for queue, default in zip(given, ACTIVATIONS[name][1:], strict=True)]
        found.append(Activation(name, *(0.0 if v is None else v for v in numbers)))
    if any(given):
        raise op.refuse(f"activation_alpha or activation_beta has more numbers than activations {names} take")
    return found


def _initial(op: Operator, i: int, direction: int, shape: Shape, batch_first: bool) -> Value:
    """The first state [batch, hidden] of one direction; zeros where the file gives none."""
    given = op.optional(i)
    if given is None:
        return Known(np.zeros(shape))
    place = indices(given.shape)[:, direction] if batch_first else indices(given.shape)[direction]
    if place.shape != shape:
        raise op.malformed(f"an initial state of shape {given.shape}")
    return Known(given.value.reshape(-1)[place]) if isinstance(given, Known) else op.builder.gather(given, place)


def _kept(builder: Builder, new: Value, old: Value, active: Array) -> Value:
    """The new state of the sequences that are still active, the old one of the others."""
    if active.all():
        return new
    mask = np.where(active[:, None], 1.0, 0.0)
    return add(builder, multiply(builder, new, Known(mask)), multiply(builder, old, Known(1.0 - mask)))


def _outputs(op: Operator, everything: list[tuple[int, Array, Value]], last: list[States], steps: int, batch_first: bool) -> list[Value]:
    """Y (steps, directions, batch, hidden), 0 where a sequence has ended, and the last states (directions, batch, hidden)."""
    batch, hidden = last[0][0].shape
    order = (2, 0, 1, 3) if batch_first else (0, 1, 2, 3)
    found: list[Value] = []
    wanted = [bool(name) for name in op.node.output]
    if wanted[0]:
        flat = np.full((steps, len(last), batch, hidden), -1)
        for k, (d, times, _) in enumerate(everything):
            for sequence in np.flatnonzero(times >= 0):
                flat[times[sequence], d, sequence] = k * batch * hidden + sequence * hidden + np.arange(hidden)
        states = concat(op.builder, [state for *_, state in everything])
        found.append(op.builder.gather(states, np.transpose(flat, order)))
    else:
        found.append(Known(np.zeros(0)))
    for k in range(len(last[0])):
        if len(wanted) > k + 1 and wanted[k + 1]:
            joined = concat(op.builder, [states[k] for states in last])
            place = indices((len(last), batch, hidden))
            found.append(op.builder.gather(joined, np.swapaxes(place, 0, 1) if batch_first else place))
        else:
            found.append(Known(np.zeros(0)))
    return found
