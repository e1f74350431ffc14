"""A network over a box as linear constraints on few variables: the convex relaxation that linear programs optimise over.

Variables are the inputs that vary and the outputs of the non-linear elements that the bounds leave undecided; everything else is an
affine function of them and is substituted. Each undecided element gets the planes of its convex hull (for ReLU the triangle of
Ehlers 2017, also called Planet), of which only the slopes are chosen; the offsets are proven, and every row knows its rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds import relaxation
from bounds.hull import elementwise_slopes, max_slopes
from bounds.rows import Matrix, RowArithmetic, Rows, diagonal, entries, matrix_of, selection, unit_error
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max
from graph.functions.facts import Function
from graph.linear_map import LinearMap

Array = NDArray[Any]

THIN = 2.0**-27  # of the largest value of the node: a gap between planes below which an element counts as linear, with the gap as its error


class CannotRelax(Exception):
    """The network has no convex relaxation of this kind over this box; the message says where and why."""


@dataclass(frozen=True, eq=False)
class Plane:
    """rows >= 0 (rounding aside) on every execution, one row per element in `elements` [m] of node `node`.

    side 1: element >= slope . x + offset; side -1: element <= slope . x + offset. `slope` [m] is there for elementwise nodes only.
    """

    node: int
    side: int
    elements: Array = field(repr=False)
    rows: Rows = field(repr=False)
    slope: Array | None = field(repr=False, default=None)


@dataclass(frozen=True, eq=False)
class Encoding:
    """The relaxation of `graph` over one box.

    Variables v: `lower` <= v <= `upper` [n], the first `inputs` of them inputs of the network. `rows[i]` states node i by v, `planes` is
    all that ties the variables to each other. `free[i]` are the undecided elements of node i, whose variables start at `start[i]`.
    Every execution whose input lies in the box satisfies all of it (up to the errors of the rows), so whatever is proven of all v is
    proven of the network.
    """

    graph: Graph
    lower: Array = field(repr=False)
    upper: Array = field(repr=False)
    inputs: int
    rows: Sequence[Rows] = field(repr=False)
    planes: tuple[Plane, ...] = field(repr=False)
    free: Mapping[int, Array] = field(repr=False)
    start: Mapping[int, int] = field(repr=False)
    arithmetic: RowArithmetic = field(repr=False)

    @property
    def hidden(self) -> int:
        """How many elements are undecided."""
        return len(self.lower) - self.inputs

    def functional(self, coefficients: Mapping[int, Array], constant: Array) -> Rows:
        """sum_k D_k h_k + constant over node values h_k: coefficients node -> D_k [R, size], constant [R]."""
        terms = [(_sparse(d), self.rows[i]) for i, d in coefficients.items()]
        return self.arithmetic.combine(terms, constant)


def encode(graph: Graph, lower: Sequence[Array], upper: Sequence[Array]) -> Encoding:
    """The relaxation of `graph`, given certified bounds lower[i] <= h_i <= upper[i] (float64 [size]) of every node i over the box.

    Raises CannotRelax where a bound is not finite or crossed, and for node types without a rule.
    """
    return _Encoder(graph, lower, upper).encode()


class _Encoder:
    def __init__(self, graph: Graph, lower: Sequence[Array], upper: Sequence[Array]) -> None:
        self.graph, self.lower, self.upper = graph, lower, upper
        for i, node in graph:
            if not bool((np.isfinite(lower[i]) & np.isfinite(upper[i]) & (lower[i] <= upper[i])).all()):
                raise CannotRelax(f"the bounds of node {i} ({', '.join(node.origin.operators)}) are not finite or contradict each other")
        self.free = {i: free for i in range(len(graph.nodes)) if (free := self._free(i)).size}
        order = [*graph.inputs, *(i for i in self.free if i not in graph.inputs)]
        order = [i for i in order if i in self.free]
        ends = np.cumsum([0, *(len(self.free[i]) for i in order)])
        self.start = {i: int(at) for i, at in zip(order, ends[:-1], strict=True)}
        self.n = int(ends[-1])
        empty = np.zeros(0)
        self.ends = [np.concatenate([empty, *(side[i][self.free[i]] for i in order)]) for side in (lower, upper)]
        self.arithmetic = RowArithmetic(np.maximum(np.abs(self.ends[0]), np.abs(self.ends[1])))
        self.matrices: dict[int, Matrix] = {}
        self.rows: list[Rows] = []
        self.planes: list[Plane] = []

    def encode(self) -> Encoding:
        for i, node in self.graph:
            match node:
                case Input() | Constant():
                    self.rows.append(self._with_variables(i, self.lower[i] / 2 + self.upper[i] / 2))
                case Affine():
                    self.rows.append(self._affine(node))
                case Elementwise():
                    self._elementwise(i, node)
                case Max():
                    self._max(i, node)
                case Bilinear():
                    self.rows.append(self._with_variables(i, self.lower[i]))
                    self._bilinear(i, node)
                case _:
                    raise CannotRelax(f"no convex relaxation is known for node {i}, a {type(node).__name__}")
        inputs = sum(len(self.free.get(i, ())) for i in self.graph.inputs)
        return Encoding(
            self.graph, self.ends[0], self.ends[1], inputs, self.rows, tuple(self.planes), self.free, self.start, self.arithmetic
        )

    def _free(self, i: int) -> Array:
        """The elements of node i that become variables."""
        node, low, high = self.graph.nodes[i], self.lower, self.upper
        match node:
            case Input() | Bilinear():
                return np.flatnonzero(low[i] < high[i])
            case Elementwise(function=function):
                j = node.inputs[0]
                ends = torch.from_numpy(low[j]), torch.from_numpy(high[j])
                return np.flatnonzero(~(relaxation.is_linear(function, *ends) | _is_thin(function, *ends)).numpy())
            case Max(windows=windows):
                return np.flatnonzero(~_dominated(*self._window_bounds(i, windows))[0])
            case _:
                return np.zeros(0, dtype=np.int64)

    def _with_variables(self, i: int, value: Array, error: Array | float = 0.0) -> Rows:
        """Rows of node i: a variable where it is free, and the constant `value` elsewhere, off by half its interval plus `error`."""
        place, free = np.full(len(value), -1, dtype=np.int64), np.zeros(len(value), dtype=bool)
        if i in self.free:
            free[self.free[i]] = True
            place[self.free[i]] = self.start[i] + np.arange(len(self.free[i]))
        spread = np.maximum(self.upper[i] - value, value - self.lower[i]) * (1 + unit_error(1))
        return self.arithmetic.make(selection(place, self.n), np.where(free, 0.0, value), np.where(free, 0.0, spread + error))

    def _affine(self, node: Affine) -> Rows:
        error = np.zeros(node.size)
        terms = []
        for j, m in zip(node.inputs, node.maps, strict=True):
            terms.append((self._matrix(m), self.rows[j]))
            if not m.is_exact:
                error = error + unit_error(2 * m.fan_in()) * m.abs_apply(self.rows[j].size)
        return self.arithmetic.combine(terms, 0.0 if node.bias is None else node.bias.astype(np.float64), error)

    def _matrix(self, m: LinearMap) -> Matrix:
        if id(m) not in self.matrices:
            self.matrices[id(m)] = matrix_of(m)
        return self.matrices[id(m)]

    def _elementwise(self, i: int, node: Elementwise) -> None:
        """Where it is linear, its line; elsewhere a variable between the planes of the hull."""
        j, size = node.inputs[0], node.size
        low, high = (torch.from_numpy(end[j]) for end in (self.lower, self.upper))
        slope = relaxation.default_slopes(node.function, low, high)[0]
        offsets = [rule(node.function, slope, low, high).numpy() for rule in (relaxation.offset_lower, relaxation.offset_upper)]
        fixed = np.ones(size)
        fixed[self.free.get(i, [])] = 0.0
        middle = np.where(fixed > 0, offsets[0] / 2 + offsets[1] / 2, 0.0)
        spread = np.where(fixed > 0, np.maximum(offsets[1] - middle, middle - offsets[0]) * (1 + unit_error(1)), 0.0)
        line = self.arithmetic.combine([(diagonal(fixed * slope.numpy()), self.rows[j])], middle, spread)
        own = self._variables(i, size)
        rows = Rows(line.coefficient + own.coefficient, line.constant, line.error, line.size + own.size)
        self._finite(i, rows)
        self.rows.append(rows)
        if i in self.free:
            self._elementwise_planes(i, node)

    def _variables(self, i: int, size: int) -> Rows:
        place = np.full(size, -1, dtype=np.int64)
        if i in self.free:
            place[self.free[i]] = self.start[i] + np.arange(len(self.free[i]))
        return self.arithmetic.make(selection(place, self.n), np.zeros(size))

    def _elementwise_planes(self, i: int, node: Elementwise) -> None:
        j, free = node.inputs[0], self.free[i]
        low, high = self.lower[j][free], self.upper[j][free]
        offset = {1: relaxation.offset_lower, -1: relaxation.offset_upper}
        for side in (1, -1):
            for slope in elementwise_slopes(node.function, low, high, side):
                at = offset[side](node.function, *(torch.from_numpy(x) for x in (slope, low, high))).numpy()
                self._add_plane(i, side, free, [(entries(slope[:, None], free[:, None], len(self.rows[j])), j)], at, slope)

    def _add_plane(self, i: int, side: int, elements: Array, terms: list[tuple[Matrix, int]], offset: Array, slope: Array | None = None) -> None:
        """side * (element - sum of W h_j - offset) >= 0 for the matrices W [m, size_j]."""
        own = (side * selection(elements, len(self.rows[i])), self.rows[i])
        rows = self.arithmetic.combine([own, *((-side * w, self.rows[j]) for w, j in terms)], -side * offset)
        self._finite(i, rows)
        self.planes.append(Plane(i, side, elements, rows, slope))

    def _finite(self, i: int, rows: Rows) -> None:
        if not bool(np.isfinite(rows.size).all() and np.isfinite(rows.error).all() and np.isfinite(rows.coefficient.data).all()):
            raise CannotRelax(f"node {i} ({', '.join(self.graph.nodes[i].origin.operators)}) has no finite planes over its bounds")

    def _max(self, i: int, node: Max) -> None:
        """Where one element dominates, that one; elsewhere a variable above all elements and below the hull of max."""
        j, size = node.inputs[0], node.size
        low, high = self._window_bounds(i, node.windows)
        dominated, first = _dominated(low, high)
        chosen = np.where(dominated, np.take_along_axis(node.windows, first[:, None], 1)[:, 0], -1)
        held = self.arithmetic.combine([(selection(chosen, len(self.rows[j])), self.rows[j])])
        own = self._variables(i, size)
        self.rows.append(Rows(held.coefficient + own.coefficient, held.constant, held.error, held.size + own.size))
        if i not in self.free:
            return
        free = self.free[i]
        for k in range(node.windows.shape[1]):
            real = free[node.windows[free, k] >= 0]
            self._add_plane(i, 1, real, [(selection(node.windows[real, k], len(self.rows[j])), j)], np.zeros(len(real)))
        for slopes in max_slopes(low[free], high[free]):
            offset = relaxation.max_offset_upper(*(torch.from_numpy(x) for x in (slopes, low[free], high[free]))).numpy()
            self._add_plane(i, -1, free, [(entries(slopes, node.windows[free], len(self.rows[j])), j)], offset)

    def _window_bounds(self, i: int, windows: Array) -> tuple[Array, Array]:
        j = self.graph.nodes[i].inputs[0]
        low, high = (np.where(windows >= 0, end[j][np.maximum(windows, 0)], -np.inf) for end in (self.lower, self.upper))
        return low, high

    def _bilinear(self, i: int, node: Bilinear) -> None:
        """McCormick's planes (1976), the same of the two on each side for all products of a sum."""
        if i not in self.free:
            return
        free, (x, y) = self.free[i], node.inputs
        left, right = _factors(self.graph, node)
        left, right = left[free], right[free]
        low_x, high_x, low_y, high_y = (torch.from_numpy(end[j][k]) for j, k in ((x, left), (y, right)) for end in (self.lower, self.upper))
        for share in (0.0, 1.0):
            p = relaxation.mccormick(low_x, high_x, low_y, high_y, share, share)
            for side, a, b, offset in ((1, p.x_lower, p.y_lower, p.offset_lower), (-1, p.x_upper, p.y_upper, p.offset_upper)):
                total, size = offset.sum(-1).numpy(), offset.abs().sum(-1).numpy()
                total = total - side * unit_error(left.shape[1]) * size
                terms = [(entries(a.numpy(), left, len(self.rows[x])), x), (entries(b.numpy(), right, len(self.rows[y])), y)]
                self._add_plane(i, side, free, terms, total)


def _is_thin(function: Function, lower: Tensor, upper: Tensor) -> Tensor:
    """Where parallel planes are next to each other: one line and an error then do better than planes that solvers cannot tell apart."""
    slope = relaxation.default_slopes(function, lower, upper)[0]
    below, above = (rule(function, slope, lower, upper) for rule in (relaxation.offset_lower, relaxation.offset_upper))
    ends = [torch.maximum((slope * x + below).abs(), (slope * x + above).abs()) for x in (lower, upper)]
    return above - below <= THIN * torch.maximum(*ends).amax()


def _dominated(low: Array, high: Array) -> tuple[Array, Array]:
    """Which windows [m, k] have an element that is never below the others, and its place [m]."""
    first = low.argmax(axis=1)
    others = high.copy()
    np.put_along_axis(others, first[:, None], -np.inf, 1)
    return np.asarray(low.max(axis=1) >= others.max(axis=1)), first


def _factors(graph: Graph, node: Bilinear) -> tuple[Array, Array]:
    """Flat indices [size, k] of the factors whose products add up to each element."""
    if node.kind == "mul":
        index = np.arange(node.size)[:, None]
        return index, index
    left, right = (np.arange(graph.nodes[j].size).reshape(graph.nodes[j].shape) for j in node.inputs)
    rows, columns = left[..., :, None, :], np.swapaxes(right, -1, -2)[..., None, :, :]
    rows, columns = np.broadcast_arrays(rows, columns)
    return rows.reshape(node.size, -1), columns.reshape(node.size, -1)


def _sparse(d: Array) -> Matrix:
    return entries(d, np.tile(np.arange(d.shape[1]), (len(d), 1)), d.shape[1])
