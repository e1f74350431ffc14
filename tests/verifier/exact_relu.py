"""The exact truth of properties of small ReLU networks with one input, in rationals: an oracle that shares nothing with the engine."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import strategies as st
from onnx import helper
from small_networks import decimal, model

from graph.load import Model
from specs.canonical import Property
from specs.vnnlib import parse

Q = Fraction
ZERO = Q(0)
Halfplane = tuple[Q, tuple[Q, ...], Q, bool]  # a x + sum b_j y_j <= c, `<` if the last is true


@dataclass(frozen=True)
class Layers:
    """y = W_k relu(... W_1 x + b_1 ...) + b_k; weights [out][in] are multiples of 1/8, so that float32 holds them."""

    weights: tuple[tuple[tuple[Q, ...], ...], ...]
    biases: tuple[tuple[Q, ...], ...]

    def onnx(self) -> Model:
        """The network as a file: input `x` [1, n], output `y`."""
        nodes, at, arrays = [], "x", {}
        for k, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays[f"w{k}"] = np.array(w, dtype=np.float64).T
            arrays[f"b{k}"] = np.array(b, dtype=np.float64)
            last = k == len(self.weights) - 1
            nodes.append(helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], ["y" if last else f"h{k}"]))
            if not last:
                nodes.append(helper.make_node("Relu", [f"h{k}"], [f"r{k}"]))
            at = f"r{k}"
        return model(nodes, len(self.weights[0][0]), len(self.biases[-1]), **arrays)

    def outputs(self, x: tuple[Q, ...]) -> tuple[Q, ...]:
        """The exact outputs at x."""
        h = x
        for k in range(len(self.weights)):
            h = self._affine(k, h)
            if k < len(self.weights) - 1:
                h = tuple(max(v, Q(0)) for v in h)
        return h

    def _affine(self, k: int, h: tuple[Q, ...]) -> tuple[Q, ...]:
        return tuple(sum((w * v for w, v in zip(row, h, strict=True)), b) for row, b in zip(self.weights[k], self.biases[k], strict=True))

    def segments(self, lower: Q, upper: Q) -> list[tuple[Q, Q]]:
        """Intervals that cover [lower, upper], on each of which the network is affine. One input."""
        points = sorted({lower, upper})
        for k in range(len(self.weights) - 1):
            found = set(points)
            values = [self._before(k, x) for x in points]
            for (x0, v0), (x1, v1) in pairwise(zip(points, values, strict=True)):
                found |= {x0 + (x1 - x0) * a / (a - b) for a, b in zip(v0, v1, strict=True) if a * b < 0}
            points = sorted(found)
        return list(pairwise(points)) or [(lower, lower)]

    def _before(self, k: int, x: Q) -> tuple[Q, ...]:
        """The pre-activations of layer k."""
        h: tuple[Q, ...] = (x,)
        for i in range(k):
            h = tuple(max(v, Q(0)) for v in self._affine(i, h))
        return self._affine(k, h)


def holds_somewhere(layers: Layers, lower: Q, upper: Q, atoms: list[Halfplane], slack: Q = ZERO) -> bool:
    """Whether some x in [lower, upper] meets every atom, each relaxed by `slack`. Exact."""
    for x0, x1 in layers.segments(lower, upper):
        y0, y1 = layers.outputs((x0,)), layers.outputs((x1,))
        low, high, open_low, open_high, possible = Q(0), Q(1), False, False, True
        for a, b, c, strict in atoms:
            v0, v1 = (a * x + sum((w * v for w, v in zip(b, y, strict=True)), Q(0)) - c - slack for x, y in ((x0, y0), (x1, y1)))
            if v0 == v1:
                possible &= v0 < 0 if strict else v0 <= 0
            elif v1 > v0 and -v0 / (v1 - v0) <= high:
                cut = -v0 / (v1 - v0)
                high, open_high = cut, strict or (open_high and cut == high)
            elif v1 < v0 and -v0 / (v1 - v0) >= low:
                cut = -v0 / (v1 - v0)
                low, open_low = cut, strict or (open_low and cut == low)
        if possible and (low < high or (low == high and not open_low and not open_high)):
            return True
    return False


@dataclass(frozen=True)
class Question:
    """A network and unsafe cases, each an interval of the input and atoms."""

    layers: Layers
    cases: tuple[tuple[Q, Q, tuple[Halfplane, ...]], ...]

    def truth(self, slack: Q = ZERO) -> bool:
        """Whether some case is feasible over the reals when thresholds are relaxed by `slack`."""
        return any(holds_somewhere(self.layers, lower, upper, list(atoms), slack) for lower, upper, atoms in self.cases)

    def property(self) -> Property:
        """The same, parsed."""
        return parse(self.text(), "drawn")

    def text(self) -> str:
        """The same as VNN-LIB: a disjunction of conjunctions with a box in each."""
        outputs = len(self.layers.biases[-1])
        lines = ["(declare-const X_0 Real)", *(f"(declare-const Y_{j} Real)" for j in range(outputs))]
        cases = []
        for lower, upper, atoms in self.cases:
            parts = [f"(>= X_0 {_number(lower)})", f"(<= X_0 {_number(upper)})", *map(_written, atoms)]
            cases.append(f"(and {' '.join(parts)})")
        return "\n".join([*lines, f"(assert (or {' '.join(cases)}))"])


def _written(atom: Halfplane) -> str:
    a, b, c, strict = atom
    terms = [f"(* {_number(a)} X_0)"] if a else []
    terms += [f"(* {_number(w)} Y_{j})" for j, w in enumerate(b)]
    return f"({'<' if strict else '<='} (+ {' '.join(terms)} 0.0) {_number(c)})"


def _number(value: Q) -> str:
    return decimal(float(value))


def eighths(low: int, high: int) -> st.SearchStrategy[Q]:
    """Multiples of 1/8 from low/8 to high/8."""
    return st.integers(low, high).map(lambda k: Q(k, 8))


@st.composite
def layers(draw: st.DrawFn, inputs: int = 1) -> Layers:
    """Networks of one or two hidden layers of 1 to 4 neurons, and 1 or 2 outputs."""
    sizes = [inputs, *draw(st.lists(st.integers(1, 4), min_size=1, max_size=2)), draw(st.integers(1, 2))]

    def row(n: int) -> tuple[Q, ...]:
        return tuple(draw(st.lists(eighths(-16, 16), min_size=n, max_size=n)))

    weights = tuple(tuple(row(sizes[k]) for _ in range(sizes[k + 1])) for k in range(len(sizes) - 1))
    return Layers(weights, tuple(row(n) for n in sizes[1:]))


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """One-input networks with 1 to 3 cases of 1 to 3 atoms; thresholds lie near what the network reaches."""
    net = draw(layers())
    outputs = len(net.biases[-1])
    cases = []
    for _ in range(draw(st.integers(1, 3))):
        ends = sorted((draw(eighths(-16, 16)), draw(eighths(-16, 16))))
        atoms = []
        for _ in range(draw(st.integers(1, 3))):
            a = draw(st.sampled_from([Q(0), Q(0), Q(1), Q(-1)]))
            b = tuple(draw(st.lists(st.sampled_from([Q(-1), Q(0), Q(1)]), min_size=outputs, max_size=outputs)))
            at = draw(eighths(-16, 16))
            near = a * at + sum((w * y for w, y in zip(b, net.outputs((at,)), strict=True)), Q(0))
            atoms.append((a, b, Q(round((near + draw(eighths(-8, 4))) * 8), 8), draw(st.booleans())))
        cases.append((ends[0], ends[1], tuple(atoms)))
    return Question(net, tuple(cases))
