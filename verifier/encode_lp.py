"""A case as a mixed-integer linear program (Tjeng et al. 2019), one rule per node kind; and its linear relaxation.

minimise t, where every atom k of the case reads (functional_k - bound_k) / scale_k <= t: an execution of the network is in the case only
if the minimum is at most 0. So a conjunction is one program, and how far it is from being met is one number.

A bent function is a *path*: the vertices of its graph over the interval, joined by straight steps and by jumps. A point of the path is
reached by walking it, step by step: x = x_0 + sum_j dx_j t_j and y likewise, 1 >= t_0 >= t_1 >= ... >= 0, with a binary that separates any
two straight steps, and t_j binary where step j is a jump (the incremental form of Markowitz and Manne 1957; Vielma 2015). Without the
binaries the walk gives the convex hull of the path, which for ReLU is the triangle. Both limits at a jump count as values: too much, never
too little. Smooth functions and products get envelopes, which are wider than the graph; `Program.inexact` names them.

All coefficients are rounded like any float64 computation, and solvers have tolerances: a program says what is likely, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds import relaxation
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node
from graph.functions.facts import Function, Pieces, Smooth
from verifier.solver import Question

Array = NDArray[Any]
Ends = Mapping[int, Array]  # per node [size]
Cuts = Mapping[int, tuple[Array, Array]]  # per node what splits say of its elements, lower and upper [size], infinite where there is none

BLOCK = 1 << 22  # numbers of an affine map that are held densely at a time
SAME = 2.0**-20  # relative: limits at a breakpoint that differ by less are one point, rounded in different ways
NARROW = 2.0**-100  # what is left of an interval between splits on both sides of a jump is far less
DEAR = 1e3  # what it costs to leave a hull, a unit
STEEP = 1e9  # lines of an envelope that are steeper make a program worse, not better
TANGENTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # where in its interval a smooth function lends its slope to a line of the envelope


class NotEncodable(Exception):
    """What cannot be written as linear rows; the message is the reason for the user."""


@dataclass(frozen=True, eq=False)
class Bends:
    """The elements of one elementwise node that are not straight over their interval: `element` [m] and the rows [m] that tie the argument
    and the value to the walk along the path. Their duals are the slopes: see `verifier.milp.multipliers`.

    Of a maximum with the planes of a backward pass: its elements, and the rows of the planes below and above."""

    element: Array = field(repr=False)
    argument: Array = field(repr=False)
    value: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Program:
    """minimise cost . v over row_lower <= A v <= row_upper, lower <= v <= upper, v integral where `integral`.

    A is in compressed rows: row r has the entries start[r] .. start[r + 1] of `index` (columns) and `value`. `columns[i]` [size]: the column
    of every element of node i, -1 for those that the atoms do not depend on. `sides` [k, 3]: binary columns with the (node, element) of the
    pre-activation whose side they choose. `atoms`: the rows of the case's atoms, `scale` what these were divided by. `cuts`: per node the
    elements and rows of lower cuts, then of upper ones. `inexact`: nodes that are only enveloped, in words.
    """

    cost: Array = field(repr=False)
    lower: Array = field(repr=False)
    upper: Array = field(repr=False)
    integral: Array = field(repr=False)
    row_lower: Array = field(repr=False)
    row_upper: Array = field(repr=False)
    start: Array = field(repr=False)
    index: Array = field(repr=False)
    value: Array = field(repr=False)
    columns: Mapping[int, Array] = field(repr=False)
    bends: Mapping[int, Bends] = field(repr=False)
    sides: Array = field(repr=False)
    atoms: Array = field(repr=False)
    scale: Array = field(repr=False)
    cuts: Mapping[int, tuple[tuple[Array, Array], tuple[Array, Array]]] = field(repr=False)
    inexact: tuple[str, ...] = ()


def encode(question: Question, *, relax: bool = False, cuts: Cuts | None = None, atoms: Sequence[int] | None = None) -> Program:
    """The case as a program; with `relax` its linear relaxation (no integral columns). `atoms`: of its atoms only these, by position.

    `question.lower`, `question.upper` bound every node. With `cuts` only inputs are bounded by them, apart from the envelopes that follow from
    them, a maximum has the two planes of a backward pass, and what splits say may be missed by t as well: then the duals are the multipliers of
    atoms and splits in a backward pass, and the minimum is above 0 if and only if some such multipliers prove that there is no execution.
    Raises NotEncodable where an interval that a rule needs is not finite.
    """
    problem, case = question.problem, question.case
    used = np.flatnonzero(problem.case_rows[case] >= 0) if atoms is None else np.asarray(atoms, dtype=np.int64)
    rows, bound = problem.case_rows[case][used], problem.case_bounds[case][used]
    outputs, inputs = problem.functionals.dense(rows)
    graph = problem.graph
    coefficients = [*_by_node(graph, graph.outputs, outputs), *_by_node(graph, graph.inputs, inputs)]
    wanted: dict[int, Array] = {}
    for i, c in coefficients:
        wanted[i] = wanted.get(i, np.zeros(graph.nodes[i].size, dtype=bool)) | (c != 0).any(axis=0)
    for j, (low, high) in (cuts or {}).items():
        wanted[j] = wanted.get(j, np.zeros(low.size, dtype=bool)) | np.isfinite(low) | np.isfinite(high)
    encoder = _Encoder(graph, question.lower, question.upper, relax, cuts)
    encoder.network(wanted)
    return encoder.finish(coefficients, bound)


def encode_nodes(question: Question, wanted: Mapping[int, Array], *, relax: bool) -> Program:
    """The network up to the elements `wanted[i]` (masks [size]) of nodes i over the case's box, without atoms and without a cost."""
    encoder = _Encoder(question.problem.graph, question.lower, question.upper, relax, None)
    encoder.network(wanted)
    return encoder.finish([], np.zeros(0))


def cone(graph: Graph, wanted: Mapping[int, Array]) -> dict[int, Array]:
    """Per node the elements (masks [size]) that the elements `wanted` are computed from, themselves included; nodes without any left out."""
    masks = {i: mask.astype(bool) for i, mask in wanted.items() if mask.any()}
    for i in range(max(masks, default=-1), -1, -1):
        if i not in masks:
            continue
        for j, mask in _read(graph.nodes[i], graph, masks[i]):
            if mask.any():
                masks[j] = masks[j] | mask if j in masks else mask
    return masks


def _read(node: Node, graph: Graph, mask: Array) -> list[tuple[int, Array]]:
    """The elements of its inputs that the elements `mask` of `node` read."""
    match node:
        case Input() | Constant():
            return []
        case Affine(maps=maps):
            return [(j, m.absolute().adjoint(mask.astype(np.float64)) > 0) for j, m in zip(node.inputs, maps, strict=True)]
        case Elementwise() | Bilinear(kind="mul"):
            return [(j, mask) for j in node.inputs]
        case Bilinear():
            return [(j, np.ones(graph.nodes[j].size, dtype=bool)) for j in node.inputs]
        case Max(inputs=(_, twin, _)):
            return [(twin, mask)]
        case _:
            raise NotImplementedError(f"no rule for what a {type(node).__name__} node reads")


def _by_node(graph: Graph, nodes: Iterable[int], coefficients: Array) -> list[tuple[int, Array]]:
    """Coefficients [K, total] cut into (node, [K, size])."""
    nodes = list(nodes)
    ends = np.cumsum([graph.nodes[i].size for i in nodes])[:-1]
    return list(zip(nodes, np.split(coefficients, ends, axis=1), strict=True))


Point = tuple[float, float]


def path(function: Pieces, lower: float, upper: float) -> list[Point]:
    """The vertices of the graph of `function` over [lower, upper], left to right; between two with one x the function jumps."""
    points: list[Point] = []
    ends = (-np.inf, *function.breakpoints, np.inf)
    for i, (slope, intercept) in enumerate(zip(function.slopes, function.intercepts, strict=True)):
        start, end = max(lower, ends[i]), min(upper, ends[i + 1])
        if start < end:
            points += [(start, slope * start + intercept), (end, slope * end + intercept)]
        if i < len(function.values) and lower <= ends[i + 1] <= upper:
            points.append((ends[i + 1], function.values[i]))
    if not points:  # lower = upper, inside a piece
        points.append((lower, float(function.value(np.asarray([lower]))[0])))
    kept = points[:1]
    for x, y in points[1:]:
        if x > kept[-1][0] or abs(y - kept[-1][1]) > SAME * (abs(x) + abs(y) + 1):
            kept.append((x, y))
    return kept


class _Encoder:
    """Columns and rows as they are made. Rows are triples (row, column, value) until `finish`."""

    def __init__(self, graph: Graph, lower: Ends, upper: Ends, relax: bool, cuts: Cuts | None) -> None:
        self.graph, self.low, self.high = graph, lower, upper
        self.relax, self.cuts = relax, cuts
        self.columns: dict[int, Array] = {}
        self.bends: dict[int, Bends] = {}
        self._ends: list[tuple[Array, Array, bool]] = []  # per block of columns: lower, upper, integral
        self._sides: list[tuple[int, int, int]] = []
        none, whole = np.zeros(0), np.zeros(0, dtype=np.int64)
        self._row_ends: list[tuple[Array, Array]] = [(none, none)]
        self._entries: list[tuple[Array, Array, Array]] = [(whole, whole, none)]
        self._inexact: list[str] = []
        self._dear: list[Array] = []  # columns that cost DEAR
        self._n_columns = self._n_rows = 0

    # ------------------------------------------------------------ columns and rows

    def _new(self, lower: Array, upper: Array, integral: bool = False) -> Array:
        """Columns with these bounds [n]; their numbers [n]."""
        self._ends.append((lower, upper, integral and not self.relax))
        self._n_columns += lower.size
        return np.arange(self._n_columns - lower.size, self._n_columns)

    def _rows(self, lower: Array, upper: Array, *terms: tuple[Array, Array | float]) -> Array:
        """Rows lower <= sum over terms of value * column <= upper, all [n]; their numbers [n]."""
        rows = np.arange(self._n_rows, self._n_rows + lower.size)
        self._row_ends.append((lower, upper))
        for column, value in terms:
            self._entries.append((rows, column, np.broadcast_to(np.asarray(value, dtype=np.float64), column.shape)))
        self._n_rows += lower.size
        return rows

    def _fill(self, rows: Array, columns: Array, values: Array) -> None:
        """Further entries of rows that exist; all [n]."""
        self._entries.append((rows, columns, values))

    # ------------------------------------------------------------ nodes

    def network(self, wanted: Mapping[int, Array]) -> None:
        """Columns for all that the elements `wanted` are computed from, and the rows that tie them together."""
        masks = cone(self.graph, wanted)
        for i in sorted(masks):
            node, element = self.graph.nodes[i], np.flatnonzero(masks[i])
            if not (self.low[i][element] <= self.high[i][element]).all():  # also where one is not a number
                raise NotEncodable(f"the bounds of {self._name(i)} contradict each other")
            self.columns[i] = np.full(node.size, -1, dtype=np.int64)
            self.columns[i][element] = self._node_columns(i, node, element)
            match node:
                case Input() | Constant():
                    pass
                case Affine():
                    self._affine(i, node, element)
                case Elementwise(function=function):
                    self._elementwise(i, node.inputs[0], function, element)
                case Bilinear():
                    self._bilinear(i, node, element)
                case Max():
                    self._max(i, node, element)
                case _:
                    raise NotImplementedError(f"no linear rule for node {i}, a {type(node).__name__}")

    def _node_columns(self, i: int, node: Node, element: Array) -> Array:
        low, high = self.low[i][element], self.high[i][element]
        if isinstance(node, Constant):
            return self._new(node.value[element], node.value[element])
        free = np.full(element.size, np.inf)
        return self._new(low, high) if self.cuts is None or isinstance(node, Input) else self._new(-free, free)

    def _affine(self, i: int, node: Affine, element: Array) -> None:
        """h - sum W x = bias."""
        bias = np.zeros(element.size) if node.bias is None else node.bias[element]
        rows = self._rows(bias, bias, (self.columns[i][element], 1.0))
        for j, m in zip(node.inputs, node.maps, strict=True):
            if j not in self.columns:  # all of its weights are 0
                continue
            for part in np.array_split(np.arange(element.size), -(-element.size * m.in_size // BLOCK)):
                dense = m.rows(element[part])
                r, c = np.nonzero(dense)
                self._fill(rows[part[r]], self.columns[j][c], -dense[r, c])

    def _finite(self, i: int, element: Array) -> tuple[Array, Array]:
        """The bounds of these elements of node i, which a rule needs."""
        low, high = self.low[i][element], self.high[i][element]
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise NotEncodable(f"no finite bounds are known of {self._name(i)}")
        return low, high

    def _name(self, i: int) -> str:
        node = self.graph.nodes[i]
        return f"node {i} ({type(node).__name__}, from {', '.join(node.origin.operators) or 'nowhere'})"

    def _elementwise(self, i: int, j: int, function: Function, element: Array) -> None:
        low, high = self._finite(j, element)
        if isinstance(function, Smooth):
            self._envelope(i, j, function, element, low, high)
            return
        paths = [path(function, a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
        bent = np.asarray([len(p) > 2 or p[0][0] == p[-1][0] for p in paths])
        if not function.jumps():  # of no width to speak of: a difference of a maximum that has one element
            bent &= high - low > NARROW
        straight = np.flatnonzero(~bent)
        if straight.size:  # y = slope x + intercept
            piece = np.searchsorted(np.asarray(function.breakpoints), (low[straight] + high[straight]) / 2, side="right")
            c = np.asarray(function.intercepts)[piece]
            slope = np.asarray(function.slopes)[piece]
            self._rows(c, c, (self.columns[i][element[straight]], 1.0), (self.columns[j][element[straight]], -slope))
        narrow = bent & (high - low <= NARROW) if self.cuts is not None and function.jumps() else np.zeros_like(bent)
        if narrow.any():  # next to a jump there is no slope: the value is anything between
            values = [[y for _, y in paths[k]] for k in np.flatnonzero(narrow)]
            self._rows(np.asarray([min(v) for v in values]), np.asarray([max(v) for v in values]), (self.columns[i][element[narrow]], 1.0))
        walked = bent & ~narrow
        self._walks(i, j, element[walked], [paths[k] for k in np.flatnonzero(walked)])

    def _walks(self, i: int, j: int, element: Array, paths: list[list[Point]]) -> None:
        """Argument and value of the elements [m] as points of their paths."""
        origin = np.asarray([p[0] for p in paths]).reshape(-1, 2)
        argument = self._rows(origin[:, 0], origin[:, 0], (self.columns[j][element], 1.0))
        value = self._rows(origin[:, 1], origin[:, 1], (self.columns[i][element], 1.0))
        self.bends[i] = Bends(element, argument, value)
        if self.cuts is not None:  # a backward pass has no multiplier for the ends of a hull: to leave it costs something, and is possible
            for step in (1.0, -1.0):
                self._dear.append(self._new(np.zeros(element.size), np.full(element.size, np.inf)))
                self._fill(argument, self._dear[-1], np.full(element.size, step))
        for k, vertices in enumerate(paths):
            self._walk(j, int(element[k]), int(argument[k]), int(value[k]), np.diff(np.asarray(vertices), axis=0))

    def _walk(self, j: int, element: int, argument: int, value: int, steps: Array) -> None:
        """One path with steps [n, 2]: how far each is made, 1 >= t_0 >= t_1 >= ... >= 0, with a binary between two straight ones."""
        zero, one, infinite = np.zeros(1), np.ones(1), np.full(1, np.inf)
        previous: Array | None = None
        was_jump = True
        for dx, dy in steps.tolist():
            jump = dx == 0
            if not jump and not was_jump and previous is not None and not self.relax:
                previous = self._side(j, element, previous)
            step = self._new(zero, one, integral=jump)
            if jump and not self.relax:
                self._sides.append((int(step[0]), j, element))
            self._fill(np.asarray([argument, value]), np.repeat(step, 2), np.asarray([-dx, -dy]))
            if previous is not None:
                self._rows(zero, infinite, (previous, 1.0), (step, -1.0))
            previous, was_jump = step, jump

    def _side(self, j: int, element: int, previous: Array) -> Array:
        """A binary at most t of the step before."""
        binary = self._new(np.zeros(1), np.ones(1), integral=True)
        self._rows(np.zeros(1), np.full(1, np.inf), (previous, 1.0), (binary, -1.0))
        self._sides.append((int(binary[0]), j, element))
        return binary

    def _envelope(self, i: int, j: int, function: Smooth, element: Array, low: Array, high: Array) -> None:
        """Lines below and above a smooth function: its tangents' slopes at some points and its chord's, with proven offsets."""
        self._inexact.append(self._name(i))
        x, y = self.columns[j][element], self.columns[i][element]
        at = [low + share * (high - low) for share in TANGENTS]
        with np.errstate(all="ignore"):
            chord = (function.value(high) - function.value(low)) / (high - low)
            slopes = [np.zeros_like(low), chord, *(function.derivative(point) for point in at)]
        ends = torch.from_numpy(low), torch.from_numpy(high)
        for slope in slopes:
            slope = np.where(np.abs(slope) < STEEP, slope, 0.0)  # also where it is not a number
            below = relaxation.offset_lower(function, torch.from_numpy(slope), *ends).numpy()
            above = relaxation.offset_upper(function, torch.from_numpy(slope), *ends).numpy()
            below, above = np.where(np.isnan(below), -np.inf, below), np.where(np.isnan(above), np.inf, above)
            self._rows(below, above, (y, 1.0), (x, -slope))

    def _bilinear(self, i: int, node: Bilinear, element: Array) -> None:
        """Envelopes of products of two columns (McCormick 1976); of a matrix product, every product has a column of its own."""
        self._inexact.append(self._name(i))
        left, right = node.inputs
        if node.kind == "mul":
            self._products(self.columns[i][element], left, element, right, element)
            return
        k, m = self.graph.nodes[right].shape[-2:]
        row, column = element // m, element % m
        outer = row // self.graph.nodes[left].shape[-2]
        taps = np.arange(k)
        x = row[:, None] * k + taps
        y = (outer[:, None] * k + taps) * m + column[:, None]
        products = self._new(np.full(x.size, -np.inf), np.full(x.size, np.inf))
        self._products(products, left, x.ravel(), right, y.ravel())
        rows = self._rows(np.zeros(element.size), np.zeros(element.size), (self.columns[i][element], 1.0))
        self._fill(np.repeat(rows, k), products, np.full(products.size, -1.0))

    def _products(self, product: Array, left: int, x: Array, right: int, y: Array) -> None:
        """Columns `product` [n] for elements x of node `left` times elements y of node `right`."""
        infinite = np.full(x.size, np.inf)
        (low_x, high_x), (low_y, high_y) = self._finite(left, x), self._finite(right, y)
        for a, b, above in ((low_x, low_y, False), (high_x, high_y, False), (low_x, high_y, True), (high_x, low_y, True)):
            # p - b x - a y is at least (at most) -a b, where a is an end of x and b one of y
            lower, upper = (-infinite, -a * b) if above else (-a * b, infinite)
            self._rows(lower, upper, (product, 1.0), (self.columns[left][x], -b), (self.columns[right][y], -a))

    def _max(self, i: int, node: Max, element: Array) -> None:
        """The same number by other means; with `cuts` as planes, those of a backward pass."""
        _, twin, difference = node.inputs
        zero, y, x = np.zeros(element.size), self.columns[i][element], self.columns[twin][element]
        if self.cuts is None:
            self._rows(zero, zero, (y, 1.0), (x, -1.0))
            return
        planes = relaxation.of_maximum(*(torch.from_numpy(end) for j in (difference, i) for end in self._finite(j, element)))
        free, above = np.full(element.size, np.inf), zero if planes.offset_upper is None else planes.offset_upper.numpy()
        self._rows(zero, free, (y, 1.0), (x, -1.0))
        self._rows(-free, above, (y, 1.0), (x, -planes.slope_upper.numpy()))

    def _cut(self, worst: Array) -> dict[int, tuple[tuple[Array, Array], tuple[Array, Array]]]:
        """Rows for what splits say, which may be missed by the column `worst` [1]."""
        made = {}
        for j, (low, high) in (self.cuts or {}).items():
            below, above = np.flatnonzero(np.isfinite(low)), np.flatnonzero(np.isfinite(high))
            free = np.full(low.size, np.inf)
            rows = [
                self._rows(ends[0], ends[1], (self.columns[j][which], 1.0), (np.repeat(worst, which.size), missed))
                for which, ends, missed in ((below, (low[below], free[below]), 1.0), (above, (-free[above], high[above]), -1.0))
            ]
            made[j] = (below, rows[0]), (above, rows[1])
        return made

    # ------------------------------------------------------------ the whole

    def finish(self, coefficients: list[tuple[int, Array]], bound: Array) -> Program:
        """The program, with the atoms sum over (node, [K, size]) of coefficients <= bound [K]."""
        scale = np.maximum(sum((np.abs(c).sum(axis=1) for _, c in coefficients), np.zeros(bound.size)), np.finfo(np.float64).tiny)
        cost = np.zeros(self._n_columns + bool(bound.size))
        atoms, cuts = np.zeros(0, dtype=np.int64), {}
        if bound.size:
            worst = self._new(np.full(1, -np.inf), np.full(1, np.inf))
            cost[-1] = 1.0
            cost[np.concatenate([np.zeros(0, dtype=np.int64), *self._dear])] = DEAR
            atoms = self._rows(np.full(bound.size, -np.inf), bound / scale, (np.repeat(worst, bound.size), -1.0))
            cuts = self._cut(worst)
            for i, c in coefficients:
                k, e = np.nonzero(c)
                self._fill(atoms[k], self.columns[i][e] if k.size else k, c[k, e] / scale[k])
        lower, upper = _joined([low for low, _, _ in self._ends]), _joined([high for _, high, _ in self._ends])
        integral = _joined([np.full(low.size, whole) for low, _, whole in self._ends], bool)
        rows, index = (_joined([e[k] for e in self._entries], np.int64) for k in (0, 1))
        value = _joined([e[2] for e in self._entries])
        order = np.argsort(rows, kind="stable")
        start = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=self._n_rows))])
        row_lower, row_upper = (_joined([end[side] for end in self._row_ends]) for side in (0, 1))
        sides = np.asarray(self._sides, dtype=np.int64).reshape(-1, 3)
        return Program(
            cost, lower, upper, integral, row_lower, row_upper, start, index[order], value[order], self.columns, self.bends, sides, atoms, scale,
            cuts, tuple(self._inexact),
        )


def _joined(parts: Sequence[Array], dtype: type = np.float64) -> Array:
    """The parts one after the other; there may be none, where all inputs are fixed and the case has no atoms."""
    return np.concatenate([np.zeros(0, dtype=dtype), *parts]).astype(dtype)
