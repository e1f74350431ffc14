"""Small random instances as real files, drawn from whole numbers, so that Hypothesis can draw (and shrink) the same ones.

Weights are multiples of 1/8 (or, in some networks, the float32 numbers nearest to tenths). Thresholds stand exactly at the optimum where that is
known by enumeration, near to it, or far away; which side of it is drawn, so that sat and unsat are about as many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.exact import network
from benchmarks.exact.enumerate import Box, Cell, TooManyPatterns, Unsafe, Walk
from benchmarks.exact.network import ZERO, Network
from benchmarks.formula import Atom

Array = NDArray[Any]
Choose = Callable[[int, int], int]  # (low, high) -> a whole number, both ends included

ACTIVATIONS = ("Relu", "LeakyRelu", "Abs", "Max", "MaxPool", "Sign", "Clip")
PLACES = ("exact", "near", "far")  # of the threshold
SLOPES = (0.125, 0.25, 0.01, -0.5, 1.5)  # of LeakyRelu
SAMPLES = 60  # executions from which a margin is guessed where it is not enumerated
LONGEST = 2**24  # factors by which an atom is multiplied so that its bound is a decimal


@dataclass(frozen=True)
class Sizes:
    """What is drawn at most; `patterns` is how many activation patterns are enumerated for an exact threshold."""

    inputs: int = 4
    layers: int = 3
    pieces: int = 24
    width: int = 12
    cases: int = 3
    patterns: int = 400


SMALL = Sizes(inputs=2, layers=2, pieces=5, width=3, cases=2, patterns=200)


@dataclass(frozen=True)
class Instance:
    """A model file and a property file. `pieces`: elements of piecewise operators; `place`: where the threshold stands."""

    model: bytes = field(repr=False)
    text: str
    pieces: int
    activations: tuple[str, ...]
    place: str

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Both files in `folder`."""
        paths = folder / "model.onnx", folder / "property.vnnlib"
        paths[0].write_bytes(self.model)
        paths[1].write_text(self.text, encoding="utf-8")
        return paths


def seeded(seed: int, number: int, sizes: Sizes | None = None) -> Instance:
    """Instance `number` of a series."""
    random = np.random.default_rng([seed, number])
    return draw(lambda low, high: int(random.integers(low, high + 1)), sizes or Sizes())


def draw(choose: Choose, sizes: Sizes) -> Instance:
    """An instance."""
    builder = _Builder(choose, sizes)
    data = builder.model()
    text, place = _Property(choose, sizes, network.parse(data), builder.outputs).text()
    return Instance(data, text, builder.pieces, tuple(builder.activations), place)


# --- the network -----------------------------------------------------------------------------------------------------------------


class _Builder:
    """Layers, as ONNX."""

    def __init__(self, choose: Choose, sizes: Sizes) -> None:
        self._choose, self._sizes = choose, sizes
        self._tenths = choose(0, 5) == 5
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[TensorProto] = []
        self.pieces, self.outputs = 0, choose(1, 3)
        self.activations: list[str] = []

    def model(self) -> bytes:
        """The file: input `x` [1, n], output `y` [1, m]."""
        n = self._choose(1, self._sizes.inputs)
        at, width = "x", n
        for _ in range(self._choose(1, self._sizes.layers)):
            room = self._sizes.pieces - self.pieces
            if room:
                at, width = self._layer(at, width, min(room, self._choose(1, self._sizes.width)))
        last = self._affine(at, width, self.outputs)
        self._nodes.append(helper.make_node("Identity", [last], ["y"]))
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", n), ("y", self.outputs))]
        graph = helper.make_graph(self._nodes, "drawn", ends[:1], ends[1:], self._arrays)
        return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())

    def _layer(self, at: str, before: int, width: int) -> tuple[str, int]:
        """An affine map and an activation with `width` elements."""
        kind = ACTIVATIONS[self._choose(0, len(ACTIVATIONS) - 1)]
        self.activations.append(kind)
        self.pieces += width
        match kind:
            case "MaxPool":
                wide = self._node("Reshape", [self._affine(at, before, 2 * width), self._array(np.array([1, 1, 2, width]))])
                pooled = self._node("MaxPool", [wide], kernel_shape=[2, 1], strides=[1, 1])
                return self._node("Reshape", [pooled, self._array(np.array([1, width]))]), width
            case "Max":
                return self._node("Max", [self._affine(at, before, width), self._affine(at, before, width)]), width
            case "Clip":
                low = Fraction(self._choose(-8, 4), 4)
                ends = (low, low + Fraction(max(1, self._choose(0, 8)), 4))  # of no width: the engine refuses them
                return self._node("Clip", [self._affine(at, before, width), *(self._array(np.float32(v)) for v in ends)]), width
            case "LeakyRelu":
                return self._node("LeakyRelu", [self._affine(at, before, width)], alpha=SLOPES[self._choose(0, len(SLOPES) - 1)]), width
            case _:
                return self._node(kind, [self._affine(at, before, width)]), width

    def _affine(self, at: str, before: int, after: int) -> str:
        """Gemm, also transposed, or MatMul and Add."""
        weight = np.array([[self._weight() for _ in range(after)] for _ in range(before)], dtype=np.float32)
        bias = np.array([self._choose(-6, 6) / (10 if self._tenths else 8) for _ in range(after)], dtype=np.float32)
        match self._choose(0, 2):
            case 0:
                return self._node("Gemm", [at, self._array(weight), self._array(bias)])
            case 1:
                return self._node("Gemm", [at, self._array(weight.T.copy()), self._array(bias)], transB=1)
            case _:
                return self._node("Add", [self._node("MatMul", [at, self._array(weight)]), self._array(bias)])

    def _weight(self) -> float:
        """Zero now and then."""
        whole = max(0, abs(k := self._choose(-20, 20)) - 4) * (1 if k > 0 else -1)
        return whole / 10 if self._tenths else whole / 8

    def _node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _array(self, value: Array | np.float32) -> str:
        name = f"c{len(self._arrays)}"
        self._arrays.append(numpy_helper.from_array(np.asarray(value), name))
        return name


# --- the property ----------------------------------------------------------------------------------------------------------------


class _Property:
    """Unsafe cases whose margin is put where it was drawn."""

    def __init__(self, choose: Choose, sizes: Sizes, net: Network, outputs: int) -> None:
        self._choose, self._sizes, self._network, self._outputs = choose, sizes, net, outputs

    def text(self) -> tuple[str, str]:
        """VNN-LIB 1.0, and where the threshold stands in the end."""
        choose, n = self._choose, self._network.size
        own = choose(0, 3) == 3  # boxes of their own
        shared = self._box()
        boxes = [self._box() if own and k else shared for k in range(choose(1, self._sizes.cases))]
        drawn = [(box, [self._atom() for _ in range(choose(1, 3) if choose(0, 1) else 1)]) for box in boxes]
        cells: dict[Box, list[Cell] | None] = {box: self._cells(box) for box in boxes}
        place = PLACES[choose(0, 2)] if None not in cells.values() else PLACES[choose(1, 2)]
        target = self._target(place)
        cases, moved = [], False
        for k, (box, atoms) in enumerate(drawn):
            wanted = target if k == 0 else target + Fraction(choose(0, 8), 4)
            shift = self._margin(box, atoms, cells[box]) - wanted
            written = [_decimal_atom(Atom(a.terms, a.relation, a.bound + shift)) for a in atoms]
            moved |= any(rounded for _, rounded in written)
            cases.append((box, [atom for atom, _ in written]))
        lines = [f"(declare-const X_{i} Real)" for i in range(n)] + [f"(declare-const Y_{j} Real)" for j in range(self._outputs)]
        return "\n".join([*lines, *self._asserts(cases, own)]) + "\n", "near" if moved and place == "exact" else place

    def _target(self, place: str) -> Fraction:
        """The margin of the property: above 0 nothing violates."""
        sign = 1 if self._choose(0, 1) else -1
        match place:
            case "exact":
                return ZERO
            case "near":
                return Fraction(sign, 2 ** self._choose(4, 30))
            case _:
                return Fraction(sign * self._choose(1, 16), 4)

    def _box(self) -> Box:
        """Quarters, or in some boxes tenths; some sides have no width."""
        unit = 10 if self._choose(0, 5) == 5 else 4
        lower = [self._choose(-8, 4) for _ in range(self._network.size)]
        upper = [low + max(0, self._choose(-1, 10)) for low in lower]
        return Box(tuple(Fraction(low, unit) for low in lower), tuple(Fraction(high, unit) for high in upper))

    def _atom(self) -> Atom:
        """A functional of the outputs, sometimes of inputs too, with a bound near what the network reaches."""
        terms = [("Y", j, Fraction(self._choose(-4, 4), 2)) for j in range(self._outputs)]
        if self._choose(0, 4) == 4:
            terms += [("X", i, Fraction(self._choose(-4, 4), 2)) for i in range(self._network.size)]
        kept = tuple(term for term in terms if term[2]) or (("Y", 0, Fraction(1)),)
        return Atom(kept, "<" if self._choose(0, 1) else "<=", Fraction(self._choose(-8, 8), 4))

    def _cells(self, box: Box) -> list[Cell] | None:
        """Every pattern in the box, if they are few."""
        try:
            return list(Walk(self._network, box, self._sizes.patterns).cells())
        except TooManyPatterns:
            return None

    def _margin(self, box: Box, atoms: Sequence[Atom], cells: list[Cell] | None) -> Fraction:
        """The infimum of the largest excess; from a few executions where the patterns are many."""
        case = Unsafe(box, tuple(atoms))
        if cells is not None:
            return min(box.least_excess(cell.limits, [half.form for half in case.halves(cell.outputs)]) for cell in cells)
        return min(self._excess(case, point) for point in self._points(box))

    def _excess(self, case: Unsafe, point: Sequence[Fraction]) -> Fraction:
        n = len(point)
        outputs = [(*[ZERO] * n, y) for y in self._network.evaluate(point)]
        return max(network.at(half.form, point) for half in case.halves(outputs))

    def _points(self, box: Box) -> list[list[Fraction]]:
        return [
            [low + (high - low) * Fraction(self._choose(0, 8), 8) for low, high in zip(box.lower, box.upper, strict=True)] for _ in range(SAMPLES)
        ]  # fmt: skip

    def _asserts(self, cases: Sequence[tuple[Box, list[Atom]]], own: bool) -> list[str]:
        """The box as asserts of its own, or inside the disjunction."""
        if own and len(cases) > 1:
            return [f"(assert (or {' '.join(f'(and {self._inside(box)} {self._all(atoms)})' for box, atoms in cases)}))"]
        lines = [f"(assert {side})" for side in _sides(cases[0][0])]
        if len(cases) > 1:
            return [*lines, f"(assert (or {' '.join(f'(and {self._all(atoms)})' for _, atoms in cases)}))"]
        return [*lines, *(f"(assert {self._written(atom)})" for atom in cases[0][1])]

    def _inside(self, box: Box) -> str:
        return " ".join(_sides(box))

    def _all(self, atoms: Sequence[Atom]) -> str:
        return " ".join(self._written(atom) for atom in atoms)

    def _written(self, atom: Atom) -> str:
        """As `<=`, or turned round as `>=`; or with the last term on the other side."""
        strict = "" if atom.relation == "<" else "="
        match self._choose(0, 2):
            case 0:
                return f"(<{strict} {_sum(atom.terms)} {decimal(atom.bound)})"
            case 1:
                return f"(>{strict} {decimal(atom.bound)} {_sum(atom.terms)})"
            case _:
                *rest, (tensor, index, c) = atom.terms
                return f"(<{strict} (+ {_sum(rest)} {decimal(-atom.bound)}) {_sum([(tensor, index, -c)])})"


def _decimal_atom(atom: Atom) -> tuple[Atom, bool]:
    """The same half-space with a bound that is a finite decimal; where that takes too large a factor, one rounded to 2^-20, and True."""
    factor = atom.bound.denominator
    for prime in (2, 5):
        while factor % prime == 0:
            factor //= prime
    if factor > LONGEST:
        return Atom(atom.terms, atom.relation, Fraction(round(atom.bound * 2**20), 2**20)), True
    return Atom(tuple((t, i, c * factor) for t, i, c in atom.terms), atom.relation, atom.bound * factor), False


def _sides(box: Box) -> list[str]:
    pairs = zip(box.lower, box.upper, strict=True)
    return [side for i, (low, high) in enumerate(pairs) for side in (f"(>= X_{i} {decimal(low)})", f"(<= X_{i} {decimal(high)})")]


def _sum(terms: Sequence[tuple[str, int, Fraction]]) -> str:
    if not terms:
        return "0.0"
    parts = [f"{t}_{i}" if c == 1 else f"(* {decimal(c)} {t}_{i})" for t, i, c in terms]
    return parts[0] if len(parts) == 1 else f"(+ {' '.join(parts)})"


def decimal(value: Fraction) -> str:
    """A rational whose denominator has only factors 2 and 5, as it is."""
    digits = 0
    while (10**digits * value).denominator != 1:
        digits += 1
        if digits > 10_000:
            raise ValueError(f"{value} is no decimal")
    text = str(abs(int(10**digits * value))).rjust(digits + 1, "0")
    return ("-" if value < 0 else "") + (f"{text[:-digits]}.{text[-digits:]}" if digits else f"{text}.0")
