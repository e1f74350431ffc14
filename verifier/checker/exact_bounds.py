"""Bounds over rational numbers: interval step, linear enclosures and backward pass of ARITHMETIC 3 to 6, without rounding.

One row, one node, one element at a time; nothing rounds, so there are no error terms to get wrong. Slopes are data: what is
not given comes from the functions the kernel uses, read at the state rounded outward to doubles. Smooth functions are
enclosed by rationals (exact_functions).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifier.checker import arithmetic, exact_functions, functions
from verifier.checker.bounds import BACKWARD, FORWARD, NARROW
from verifier.checker.network import Affine, Constant, Elementwise, Input, MatMul, Maximum, Network, Node, Product
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.checker.slopes import multiplier, share_of_twin

Array = NDArray[Any]
Vector = list[Fraction]
Rows = list[list[tuple[int, Fraction]]]  # per output: (input, weight)
Functional = dict[int, dict[int, Fraction]]  # node -> element -> coefficient
Slopes = Mapping[tuple[int, int], Mapping[int, Fraction]]  # (Elementwise node, side) -> element -> slope
Box = Mapping[int, Vector]  # input node -> one end of its interval
Inherited = Mapping[int, tuple[Vector, Vector]]  # node -> bounds that hold here

Lines = dict[int, "list[tuple[Form, Form]]"]  # node -> per element, functions of the inputs below and above it

ZERO = Fraction(0)
NEGLIGIBLE = Fraction(1, 4096)
NO_SLOPES: Slopes = {}
NOTHING: Inherited = {}


@dataclass(frozen=True)
class Split:
    """value[element] of `node` is <= threshold (side 1) or >= threshold (side 2)."""

    node: int
    element: int
    threshold: Fraction
    side: int


@dataclass(frozen=True, eq=False)
class State:
    """Bounds of every node so far, and what float32 may add to each. `planes` keeps default enclosures that were asked for.

    `crossed` lists the (node, element) where a lower bound exceeded its upper bound: nothing executes here.
    """

    lower: list[Vector] = field(default_factory=list)
    upper: list[Vector] = field(default_factory=list)
    slack: list[Vector] = field(default_factory=list)
    planes: dict[tuple[int, int], list[Plane]] = field(default_factory=dict)
    crossed: list[tuple[int, int]] = field(default_factory=list)

    def intersect(self, node: int, element: int, lower: Fraction | None, upper: Fraction | None) -> None:
        """Tighten one element; a contradiction is remembered, and the numbers stay in order."""
        low, high = self.lower[node][element], self.upper[node][element]
        low, high = low if lower is None else max(low, lower), high if upper is None else min(high, upper)
        if low > high:
            self.crossed.append((node, element))
        self.lower[node][element], self.upper[node][element] = min(low, high), high

    def magnitude(self, node: int, element: int) -> Fraction:
        """H: the largest magnitude of an element."""
        return max(abs(self.lower[node][element]), abs(self.upper[node][element]))


@dataclass(frozen=True)
class Plane:
    """offset + sum of slope h[node][element]: below the function or above it, as its maker says."""

    slopes: tuple[tuple[int, int, Fraction], ...]
    offset: Fraction


@dataclass(frozen=True)
class Form:
    """constant + sum of coefficients x over input nodes: a lower bound of a functional over a box."""

    coefficients: Functional
    constant: Fraction

    def times(self, factor: Fraction) -> Form:
        return Form({node: {i: factor * d for i, d in row.items()} for node, row in self.coefficients.items()}, factor * self.constant)

    def plus(self, other: Form) -> Form:
        total = {node: dict(row) for node, row in self.coefficients.items()}
        for node, row in other.coefficients.items():
            for i, d in row.items():
                _add(total, node, i, d)
        return Form(total, self.constant + other.constant)

    def minimum(self, lower: Box | list[Vector], upper: Box | list[Vector]) -> Fraction:
        """The least value over the box; of the nodes it is given, only the inputs in the form matter."""
        return self.constant + sum(
            (min(d * lower[node][i], d * upper[node][i]) for node, row in self.coefficients.items() for i, d in row.items()), ZERO
        )


@dataclass(frozen=True, eq=False)
class Numbers:
    """What an Affine or Constant node states: weights and bias, each with the radius of what was computed."""

    rows: list[Rows]
    radii: list[Rows]
    bias: Vector
    radius: Vector


# ---------------------------------------------------------------- between doubles and rationals


def rationals(values: Array | None, size: int) -> Vector:
    """The exact values of doubles; None is zero everywhere."""
    if values is None:
        return [ZERO] * size
    flat = values.reshape(-1).tolist()
    if len(flat) != size or not all(map(math.isfinite, flat)):
        raise Rejected("not-finite", f"{size} finite numbers are due")
    return [Fraction(x) for x in flat]


def below(x: Fraction) -> float:
    """The largest double <= x."""
    near = nearest(x)
    return near if Fraction(near) <= x else math.nextafter(near, -math.inf)


def above(x: Fraction) -> float:
    """The smallest double >= x."""
    return -below(-x)


def nearest(x: Fraction) -> float:
    """x as a double; refuses what is too large for one."""
    try:
        return float(x)
    except OverflowError:
        raise Rejected("not-finite", "a bound is too large for a double") from None


def doubles(lower: Iterable[Fraction], upper: Iterable[Fraction]) -> tuple[Array, Array]:
    """Bounds rounded outward, [1, n]."""
    return np.array([[below(x) for x in lower]], np.float64), np.array([[above(x) for x in upper]], np.float64)


@lru_cache(maxsize=4)
def numbers(network: Network) -> tuple[Numbers | None, ...]:
    """The numbers of every Affine and Constant node, converted once."""
    return tuple(_node_numbers(node) for node in network.nodes)


def _node_numbers(node: Node) -> Numbers | None:
    match node:
        case Constant():
            return Numbers([], [], rationals(node.value, node.size), rationals(node.radius, node.size))
        case Affine():
            rows = [_rows(linear.entries(), node.size) for linear in node.maps]
            radii = [_rows(linear.radii(), node.size) for linear in node.maps]
            return Numbers(rows, radii, rationals(node.bias, node.size), rationals(node.bias_radius, node.size))
        case _:
            return None


def _rows(entries: Iterable[tuple[int, int, float]], size: int) -> Rows:
    rows: Rows = [[] for _ in range(size)]
    for out, source, weight in entries:
        rows[int(out)].append((int(source), Fraction(float(weight))))
    return rows


# ---------------------------------------------------------------- what a node computes


def windows(node: Maximum) -> list[list[int]]:
    """The elements each output is the largest of, padding left out."""
    return [[int(i) for i in window if i >= 0] for window in node.windows.tolist()]


def _centre(lower: Vector, upper: Vector) -> tuple[Vector, Vector]:
    return [(x + y) / 2 for x, y in zip(lower, upper, strict=True)], [(y - x) / 2 for x, y in zip(lower, upper, strict=True)]


def _add(rows: Functional, node: int, element: int, coefficient: Fraction) -> None:
    row = rows.setdefault(node, {})
    row[element] = row.get(element, ZERO) + coefficient


class ExactBounds:
    """The rules for one network under one semantics. `slack` (None: the reals) says what float32 may add to each node of a state."""

    def __init__(self, network: Network, slack: Slack | None = None) -> None:
        self.network, self.numbers, self.slack = network, numbers(network), slack
        self.widen = 0.0 if slack is None else arithmetic.THETA
        self.readers: dict[int, list[int]] = {}  # node -> the non-linear nodes that read it
        for k, node in enumerate(network.nodes):
            if isinstance(node, Elementwise | Product | MatMul):
                for source in dict.fromkeys(node.inputs):
                    self.readers.setdefault(source, []).append(k)

    # ------------------------------------------------------------ states

    def state(
        self, lower: Box, upper: Box, inherited: Inherited = NOTHING, splits: Iterable[Split] = (), program: int = 0, last: int | None = None
    ) -> State:
        """Bounds of the nodes (up to `last`) over the box. `program`: BACKWARD adds default backward bounds of what intervals leave
        undecided, FORWARD linear bounds carried forward (and then backward ones for at most NARROW elements)."""
        state, splits = State(), tuple(splits)
        run = None if self.slack is None else self.slack.start(1)
        lines = self._first_lines(lower, upper)
        for k, node in enumerate(self.network.nodes[: None if last is None else last + 1]):
            low, high = (list(lower[k]), list(upper[k])) if isinstance(node, Input) else self.interval_step(state, k)
            slack = rationals(None if run is None else run.step(k, *doubles(low, high)), node.size)
            state.lower.append([x - s for x, s in zip(low, slack, strict=True)])
            state.upper.append([x + s for x, s in zip(high, slack, strict=True)])
            state.slack.append(slack)
            if program & FORWARD:
                lines[k] = self._lines(state, lines, k)
                for i, (below_it, above_it) in enumerate(lines[k]):
                    state.intersect(k, i, below_it.minimum(lower, upper), -above_it.times(Fraction(-1)).minimum(lower, upper))
            if k in inherited:
                for i, ends in enumerate(zip(*inherited[k], strict=True)):
                    state.intersect(k, i, *ends)
            for split in splits:
                if split.node == k:
                    state.intersect(k, split.element, *((None, split.threshold) if split.side == 1 else (split.threshold, None)))
            if program & BACKWARD and k in self.readers and not (program & FORWARD and node.size > NARROW):
                self._refine(state, k)
        return state

    def _refine(self, state: State, k: int) -> None:
        """Intersect default backward bounds into the undecided elements of node k."""
        one = Fraction(1)
        ends = [(i, self.lower_bound(state, {k: {i: one}}), -self.lower_bound(state, {k: {i: -one}})) for i in self.undecided(state, k)]
        for i, low, high in ends:
            state.intersect(k, i, low, high)

    def within(self, state: State, plane: Form) -> None:
        """Intersect default backward bounds of the executions with plane <= 0 into the undecided elements of every operand, in order."""
        for k in sorted(self.readers):
            rows = [{k: {i: Fraction(sign)}} for i in self.undecided(state, k) for sign in (1, -1)]
            least = [self._tilted(state, self.form(state, row), plane).minimum(state.lower, state.upper) for row in rows]
            for row, low, high in zip(rows[::2], least[::2], least[1::2], strict=True):
                self.intersect(state, k, next(iter(row[k])), low, -high)

    def _tilted(self, state: State, form: Form, plane: Form) -> Form:
        """form + m plane, <= form wherever plane <= 0, with an m >= 0 that the kernel's heuristic finds for the nearest doubles."""
        at = [(k, i) for k in self.network.inputs for i in range(self.network.nodes[k].size)]
        p, a = (np.array([[[nearest(of.coefficients.get(k, {}).get(i, ZERO)) for k, i in at]]], np.float64) for of in (form, plane))
        box = doubles([state.lower[k][i] for k, i in at], [state.upper[k][i] for k, i in at])
        m = float(multiplier(p, a, np.array([[nearest(plane.constant)]]), *box)[0, 0])
        return form.plus(plane.times(Fraction(m))) if math.isfinite(m) and m > 0 else form

    def intersect(self, state: State, k: int, i: int, lower: Fraction | None, upper: Fraction | None) -> None:
        """Tighten an element of a state whose enclosures were in use: those that read it are made anew."""
        state.intersect(k, i, lower, upper)
        for reader in self.readers.get(k, []):
            state.planes.pop((reader, 0), None)
            state.planes.pop((reader, 1), None)

    # ------------------------------------------------------------ forward bounds

    def _first_lines(self, lower: Box, upper: Box) -> Lines:
        """Inputs that vary are themselves; one that varies much less than the widest enters as an interval."""
        widest = max(high - low for k in self.network.inputs for low, high in zip(lower[k], upper[k], strict=True))
        lines: Lines = {}
        for k in self.network.inputs:
            lines[k] = []
            for i, (low, high) in enumerate(zip(lower[k], upper[k], strict=True)):
                itself = Form({k: {i: Fraction(1)}}, ZERO)
                lines[k].append((itself, itself) if high - low > NEGLIGIBLE * widest else (Form({}, low), Form({}, high)))
        return lines

    def _lines(self, state: State, lines: Lines, k: int) -> list[tuple[Form, Form]]:
        """Linear functions of the inputs below and above every element of node k."""
        node, found = self.network.nodes[k], []
        if isinstance(node, Input):
            return lines[k]
        if not isinstance(node, Affine | Elementwise | Product | Maximum):
            return [(Form({}, low), Form({}, high)) for low, high in zip(state.lower[k], state.upper[k], strict=True)]
        for i in range(node.size):
            pair = []
            for side, sign in ((0, Fraction(1)), (1, Fraction(-1))):  # above is minus what is below minus the element
                plane = self._affine_plane(state, k, i, sign) if isinstance(node, Affine) else self._plane(state, k, i, side, NO_SLOPES)
                total = Form({}, plane.offset - sign * state.slack[k][i])
                for p, j, slope in plane.slopes:
                    total = total.plus(lines[p][j][side if slope >= 0 else 1 - side].times(slope))
                pair.append(total)
            found.append((pair[0], pair[1]))
        return found

    def _affine_plane(self, state: State, k: int, i: int, sign: Fraction) -> Plane:
        """Element i of an Affine node, minus (sign 1) or plus (sign -1) what its radii may add."""
        node, own = self.network.nodes[k], self._own(k)
        slopes = tuple((p, j, w) for p, rows in zip(node.inputs, own.rows, strict=True) for j, w in rows[i])
        lost = sum((r * state.magnitude(p, j) for p, radii in zip(node.inputs, own.radii, strict=True) for j, r in radii[i]), own.radius[i])
        return Plane(slopes, own.bias[i] - sign * lost)

    def undecided(self, state: State, k: int) -> list[int]:
        """Elements of node k that the relaxation of some reader depends on."""
        lower, upper = doubles(state.lower[k], state.upper[k])
        matter = np.zeros(lower.shape[1], dtype=bool)
        for reader in self.readers[k]:
            node = self.network.nodes[reader]
            matter |= (~functions.is_linear(node.function, lower, upper) if isinstance(node, Elementwise) else lower < upper)[0]
        return list(map(int, np.flatnonzero(matter)))

    # ------------------------------------------------------------ the interval step

    def interval_step(self, state: State, k: int) -> tuple[Vector, Vector]:
        """The interval of node k over those of its inputs, over the reals."""
        node = self.network.nodes[k]
        bounds_in = [(state.lower[p], state.upper[p]) for p in node.inputs]
        match node:
            case Constant() | Affine():
                return self._affine_interval(state, k)
            case Elementwise():
                pairs = [exact_functions.interval(node.function, *ends, Fraction(self.widen)) for ends in zip(*bounds_in[0], strict=True)]
                return [low for low, _ in pairs], [high for _, high in pairs]
            case Product():
                corners = [[x * y for x in xs for y in ys] for xs, ys in zip(*(zip(*ends, strict=True) for ends in bounds_in), strict=True)]
                return list(map(min, corners)), list(map(max, corners))
            case MatMul():
                return self._matmul_interval(state, node)
            case Maximum():
                low, high = ([max(end[i] for i in window) for window in windows(node)] for end in bounds_in[0])
                return low, high
            case _:
                raise Rejected("unsupported-node", node.place)

    def _affine_interval(self, state: State, k: int) -> tuple[Vector, Vector]:
        node, own = self.network.nodes[k], self._own(k)
        low = [b - r for b, r in zip(own.bias, own.radius, strict=True)]
        high = [b + r for b, r in zip(own.bias, own.radius, strict=True)]
        for p, rows, radii in zip(node.inputs, own.rows, own.radii, strict=True):
            for out, row in enumerate(rows):
                for i, w in row:
                    ends = w * state.lower[p][i], w * state.upper[p][i]
                    low[out], high[out] = low[out] + min(ends), high[out] + max(ends)
            for out, row in enumerate(radii):
                for i, r in row:
                    low[out], high[out] = low[out] - r * state.magnitude(p, i), high[out] + r * state.magnitude(p, i)
        return low, high

    def _matmul_interval(self, state: State, node: MatMul) -> tuple[Vector, Vector]:
        """Centre and radius, as in the kernel: |x y - cx cy| <= |cx| ry + rx (|cy| + ry)."""
        (cx, rx), (cy, ry) = (_centre(state.lower[p], state.upper[p]) for p in node.inputs)
        low, high = [], []
        for pairs in self.terms(node):
            z = sum((cx[i] * cy[j] for i, j in pairs), ZERO)
            radius = sum((abs(cx[i]) * ry[j] + rx[i] * (abs(cy[j]) + ry[j]) for i, j in pairs), ZERO)
            low.append(z - radius)
            high.append(z + radius)
        return low, high

    def terms(self, node: Product | MatMul) -> list[list[tuple[int, int]]]:
        """Per output element, the pairs (element of x, element of y) whose products are summed."""
        if isinstance(node, Product):
            return [[(i, i)] for i in range(node.size)]
        x, y = (self.network.nodes[p].shape for p in node.inputs)
        (*outer, n, k), m = x, y[-1]
        blocks = range(math.prod(outer))
        return [[((b * n + i) * k + p, (b * k + p) * m + j) for p in range(k)] for b in blocks for i in range(n) for j in range(m)]

    def _own(self, k: int) -> Numbers:
        own = self.numbers[k]
        if own is None:
            raise Rejected("unsupported-node", self.network.nodes[k].place)
        return own

    # ------------------------------------------------------------ the backward step

    def lower_bound(self, state: State, functional: Functional, constant: Fraction = ZERO, slopes: Slopes = NO_SLOPES) -> Fraction:
        """A lower bound of functional + constant over every execution in the state."""
        return self.form(state, functional, constant, slopes).minimum(state.lower, state.upper)

    def form(self, state: State, functional: Functional, constant: Fraction = ZERO, slopes: Slopes = NO_SLOPES) -> Form:
        """A linear function of the inputs that is <= functional + constant over every execution in the state."""
        open_rows: Functional = {node: dict(row) for node, row in functional.items()}
        for k in sorted(range(max(functional, default=-1) + 1), reverse=True):
            if k in open_rows and not isinstance(self.network.nodes[k], Input):
                for i, d in open_rows.pop(k).items():
                    if d:
                        constant += self._eliminate(state, k, i, d, slopes, open_rows) - abs(d) * state.slack[k][i]
        return Form(open_rows, constant)

    def _eliminate(self, state: State, k: int, i: int, d: Fraction, slopes: Slopes, rows: Functional) -> Fraction:
        """Replace d h[k][i] by its enclosure: coefficients go to `rows`, what is constant is returned."""
        node = self.network.nodes[k]
        side, sign = (0, Fraction(1)) if d > 0 else (1, Fraction(-1))
        linear = isinstance(node, Constant | Affine)
        plane = self._affine_plane(state, k, i, sign) if linear else self._plane(state, k, i, side, slopes)
        for p, j, slope in plane.slopes:
            _add(rows, p, j, d * slope)
        return d * plane.offset

    def _plane(self, state: State, k: int, i: int, side: int, slopes: Slopes) -> Plane:
        """Below (side 0) or above (side 1) element i of the non-linear node k."""
        given = slopes.get((k, side), {})
        if i in given:
            return self._elementwise_plane(state, k, i, side, given[i])
        if (k, side) not in state.planes:
            state.planes[k, side] = self._default_planes(state, k, side)
        return state.planes[k, side][i]

    def _elementwise_plane(self, state: State, k: int, i: int, side: int, slope: Fraction) -> Plane:
        node = self.network.nodes[k]
        if not isinstance(node, Elementwise):
            raise Rejected("unsupported-node", node.place)
        p = node.inputs[0]
        offsets = exact_functions.offsets(node.function, slope, slope, state.lower[p][i], state.upper[p][i], Fraction(self.widen))
        return Plane(((p, i, slope),), offsets[side])

    def _default_planes(self, state: State, k: int, side: int) -> list[Plane]:
        node = self.network.nodes[k]
        match node:
            case Elementwise():
                p = node.inputs[0]
                chosen = functions.default_slopes(node.function, *doubles(state.lower[p], state.upper[p]))[side]
                slopes = rationals(np.broadcast_to(chosen, (1, node.size)), node.size)
                return [self._elementwise_plane(state, k, i, side, slope) for i, slope in enumerate(slopes)]
            case Product() | MatMul():
                return self._product_planes(state, node, side)
            case Maximum():
                return self._maximum_planes(state, k, node, side)
            case _:
                raise Rejected("unsupported-node", node.place)

    def _product_planes(self, state: State, node: Product | MatMul, side: int) -> list[Plane]:
        """McCormick, the planes of the kernel: (x - x_low)(y - y_low) >= 0 below, (x - x_low)(y_high - y) >= 0 above."""
        x, y = node.inputs
        low_x, end_y = state.lower[x], (state.lower if side == 0 else state.upper)[y]
        return [
            Plane(
                tuple(pair for i, j in pairs for pair in ((x, i, end_y[j]), (y, j, low_x[i]))),
                -sum((low_x[i] * end_y[j] for i, j in pairs), ZERO),
            )
            for pairs in self.terms(node)
        ]

    def _maximum_planes(self, state: State, k: int, node: Maximum, side: int) -> list[Plane]:
        """Below: its twin. Above: a share of that, and its own upper bound for the rest."""
        _, twin, difference = node.inputs
        ends = (*doubles(state.lower[difference], state.upper[difference]), *doubles(state.lower[k], state.upper[k]))
        shares = rationals(np.clip(share_of_twin(*ends), 0.0, 1.0) if side else np.ones((1, node.size)), node.size)
        return [Plane(((twin, i, share),), (1 - share) * state.upper[k][i]) for i, share in enumerate(shares)]
