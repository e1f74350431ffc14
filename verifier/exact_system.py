"""A network over one box as constraints in exact rationals: what is affine there is put together, what is not becomes an element.

A *variable* is an input, or the result of an element: a univariate function that bends or jumps within its bounds, a product, a maximum.
Every node is an affine form of variables; weights are float64 numbers, so the coefficients are dyadic: integers with one common power of
two, and nothing rounds. Which piece a function is on is decided by certified bounds, so the system describes every execution of the box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node
from graph.functions.facts import Pieces, Smooth
from graph.linear_map import Composition, LinearMap, Transposed
from specs.canonical import Atom, Case
from verifier.problem import Problem

Array = NDArray[Any]
Row = dict[int, int]  # variable -> integer coefficient; UNIT -> the constant
Range = tuple[Fraction | None, Fraction | None]  # least and greatest value, where known

UNIT = -1
BLOCK = 256  # rows of a linear map that are expanded at once
DENSE = 2_000_000  # products in one affine node beyond which its operands become variables, so that forms stay short


class NoRule(Exception):
    """The network has a node that cannot be put into exact constraints; the message says which and why."""


@dataclass(frozen=True, eq=False)
class Form:
    """sum of coefficient * variable over `row`, all divided by 2^`exponent`."""

    row: Row
    exponent: int

    @property
    def constant(self) -> Fraction:
        return Fraction(self.row.get(UNIT, 0), 1 << self.exponent)

    @property
    def is_constant(self) -> bool:
        return not any(v != UNIT for v in self.row)

    @cached_property
    def terms(self) -> dict[int, Fraction]:
        """The coefficients of the variables."""
        return {v: Fraction(c, 1 << self.exponent) for v, c in self.row.items() if v != UNIT}


@dataclass(frozen=True, eq=False)
class Element:
    """Variable `result` is `kind` of the values of `operands`: a function of one variable, "product", "max", or "same" (a name for a form).

    `ranges` are certified bounds of the operands, `at` is the (node, element) it computes; `site` the one that it reads, for functions.
    """

    kind: Pieces | Smooth | str
    operands: tuple[Form, ...]
    ranges: tuple[Range, ...]
    result: int
    at: tuple[int, int]
    site: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class System:
    """`inputs[k]` is the variable of input k, where it is read; `ranges` bounds every variable; `atoms` are (form, bound, strict) with
    form <= bound, or < where strict. Executions of the case are the values of variables that meet all of it."""

    inputs: Mapping[int, int]
    ranges: Sequence[Range]
    elements: Sequence[Element]
    atoms: Sequence[tuple[dict[int, Fraction], Fraction, Fraction, bool]]  # coefficients, constant, bound, strict


def case_of(problem: Problem, index: int) -> Case:
    """Case `index` of the property, in exact rationals."""
    return next(islice(iter(problem.spec.cases), index, None))


def box_of(problem: Problem, case: Case) -> tuple[list[Fraction], list[Fraction]]:
    """The exact ends of the case's box, in the order of the network's inputs."""
    by_name = {box.tensor: box for box in case.boxes}
    boxes = [by_name[v.name] for v in problem.spec.inputs]
    return [b.lower[i] for b in boxes for i in range(len(b.lower))], [b.upper[i] for b in boxes for i in range(len(b.upper))]


# ---------------------------------------------------------------- numbers


def dyadic(values: Sequence[float]) -> tuple[list[int], int]:
    """(integers n, exponent e) with values[i] = n[i] / 2^e exactly. Raises NoRule for NaN and infinities."""
    if not all(map(np.isfinite, values)):
        raise NoRule("a constant of the network is not a finite number")
    ratios = [float(v).as_integer_ratio() for v in values]
    exponent = max((d.bit_length() - 1 for _, d in ratios), default=0)
    return [n << (exponent - d.bit_length() + 1) for n, d in ratios], exponent


def known(lower: float, upper: float) -> Range:
    """Bounds as rationals; what is not finite bounds nothing."""
    return (Fraction(float(lower)) if np.isfinite(lower) else None), (Fraction(float(upper)) if np.isfinite(upper) else None)


@cache
def limits(function: Pieces) -> tuple[tuple[Fraction, Fraction, Fraction], ...]:
    """At every breakpoint (limit from the left, value, limit from the right), exactly."""
    lines = [(Fraction(s), Fraction(c)) for s, c in zip(function.slopes, function.intercepts, strict=True)]
    return tuple(
        (lines[i][0] * Fraction(b) + lines[i][1], Fraction(v), lines[i + 1][0] * Fraction(b) + lines[i + 1][1])
        for i, (b, v) in enumerate(zip(function.breakpoints, function.values, strict=True))
    )


def piece_over(function: Pieces, interval: Range) -> int | None:
    """The piece that `function` is on over the whole interval, both ends included; None if it may be on several."""
    low, high = interval
    for i in range(len(function.slopes)):
        start = Fraction(function.breakpoints[i - 1]) if i > 0 else None
        end = Fraction(function.breakpoints[i]) if i < len(function.breakpoints) else None
        after = start is None or (low is not None and (low > start or (low == start and limits(function)[i - 1][1] == limits(function)[i - 1][2])))
        before = end is None or (high is not None and (high < end or (high == end and limits(function)[i][0] == limits(function)[i][1])))
        if after and before:
            return i
    return None


# ---------------------------------------------------------------- linear maps


@dataclass(eq=False)
class Weights:
    """The rows of linear maps as integers, expanded once and kept: (element, integer) per row, and one exponent per map."""

    _kept: dict[tuple[int, int], list[tuple[int, float]]] = field(default_factory=dict)
    _maps: dict[int, LinearMap] = field(default_factory=dict)  # keeps ids alive

    def rows(self, m: LinearMap, wanted: Sequence[int]) -> list[list[tuple[int, float]]]:
        """The non-zero weights of the rows `wanted` of a map that is not a composition: these are the network's own numbers, unrounded."""
        self._maps[id(m)] = m
        missing = [r for r in wanted if (id(m), r) not in self._kept]
        for at in range(0, len(missing), BLOCK):
            part = missing[at : at + BLOCK]
            for r, row in zip(part, m.rows(part), strict=True):
                places = np.flatnonzero(row)
                self._kept[id(m), r] = list(zip(places.tolist(), row[places].tolist(), strict=True))
        return [self._kept[id(m), r] for r in wanted]


def single_maps(m: LinearMap) -> list[LinearMap]:
    """The maps that `m` applies one after another, none of them a product of matrices."""
    if isinstance(m, Composition):
        return [part for inner in m.maps for part in single_maps(inner)]
    if isinstance(m, Transposed) and isinstance(m.inner, Composition):
        return [part for inner in reversed(m.inner.maps) for part in single_maps(Transposed(inner.out_shape, inner.in_shape, inner))]
    return [m]


# ---------------------------------------------------------------- the reduction


class Reduction:
    """Builds the systems of one case of a problem, over any boxes within its own."""

    def __init__(self, problem: Problem, case: int) -> None:
        self.graph: Graph = problem.graph
        self.case = case_of(problem, case)
        self.box = box_of(problem, self.case)
        self.weights = Weights()
        self._places = _places(problem)
        self.needed = self._cone()

    def _cone(self) -> list[set[int]]:
        """Per node the elements that some atom reads, directly or through other nodes."""
        needed: list[set[int]] = [set() for _ in self.graph.nodes]
        for atom in self.case.atoms:
            for tensor, i, _ in atom.terms:
                node, element = self._places[tensor][i]
                needed[node].add(element)
        for i in range(len(self.graph.nodes) - 1, -1, -1):
            if needed[i]:
                for j, wanted in zip(self.graph.nodes[i].inputs, self._read_by(self.graph.nodes[i], sorted(needed[i])), strict=True):
                    needed[j] |= wanted
        return needed

    def _read_by(self, node: Node, wanted: list[int]) -> list[set[int]]:
        """Which elements of each input the elements `wanted` of a node read."""
        match node:
            case Input() | Constant():
                return []
            case Affine(maps=maps):
                return [self._read_through(m, wanted) for m in maps]
            case Elementwise() | Bilinear(kind="mul"):
                return [set(wanted) for _ in node.inputs]
            case Bilinear():
                pairs = [pair for e in wanted for pair in factors(self.graph, node, e)]
                return [{x for x, _ in pairs}, {y for _, y in pairs}]
            case Max(windows=windows):
                return [{int(j) for e in wanted for j in windows[e] if j >= 0}, set(), set()]
            case _:
                raise NoRule(f"SMT has no rule for a {type(node).__name__} node")

    def _read_through(self, m: LinearMap, wanted: list[int]) -> set[int]:
        for part in reversed(single_maps(m)):
            wanted = sorted({place for row in self.weights.rows(part, wanted) for place, _ in row})
        return set(wanted)

    def system(self, lower: Mapping[int, Array], upper: Mapping[int, Array]) -> System:
        """The system over the box of these bounds: lower[i], upper[i] float64 [size] are rigorous bounds of node i over it."""
        return _Pass(self, lower, upper).run()

    def values(self, point: Sequence[Fraction]) -> list[tuple[Fraction, Fraction, bool]] | None:
        """(value, bound, strict) of every atom at a point [n_in] of the case's box, exactly; None where a smooth function is in the way."""
        system = _Pass(self, {}, {}, point).run()
        return None if system.elements else [(constant, bound, strict) for _, constant, bound, strict in system.atoms]

    def place(self, tensor: str, i: int) -> tuple[int, int]:
        """(node, element) of an element of a tensor of the property."""
        return self._places[tensor][i]


def _places(problem: Problem) -> dict[str, list[tuple[int, int]]]:
    """The property's tensors are bound to the network's by position: per tensor the (node, element) of each of its elements."""
    graph, found = problem.graph, dict[str, list[tuple[int, int]]]()
    for nodes, variables in ((graph.inputs, problem.spec.inputs), (graph.outputs, problem.spec.outputs)):
        flat = iter([(i, e) for i in nodes for e in range(graph.nodes[i].size)])
        for v in variables:
            found[v.name] = list(islice(flat, v.size))
    return found


def factors(graph: Graph, node: Bilinear, element: int) -> list[tuple[int, int]]:
    """The pairs of elements whose products add up to one element of a product."""
    if node.kind == "mul":
        return [(element, element)]
    k, columns = graph.nodes[node.inputs[0]].shape[-1], node.shape[-1]
    row, column = divmod(element, columns)
    outer = row // node.shape[-2]
    return [(row * k + t, (outer * k + t) * columns + column) for t in range(k)]


class _Pass:
    """One run through the graph: the form of every needed element, and the elements met on the way."""

    def __init__(
        self, reduction: Reduction, lower: Mapping[int, Array], upper: Mapping[int, Array], point: Sequence[Fraction] | None = None
    ) -> None:
        self.of, self.graph, self.lower, self.upper, self.point = reduction, reduction.graph, lower, upper, point
        self.forms: list[dict[int, Form]] = []
        self.ranges: list[Range] = []
        self.elements: list[Element] = []
        self.inputs: dict[int, int] = {}

    def run(self) -> System:
        for i, node in self.graph:
            self.forms.append(self._node(i, node, sorted(self.of.needed[i])))
        return System(self.inputs, self.ranges, self.elements, [self._atom(atom) for atom in self.of.case.atoms])

    def _node(self, i: int, node: Node, wanted: list[int]) -> dict[int, Form]:
        match node:
            case Input():
                return {e: self._input(i, e) for e in wanted}
            case Constant(value=value):
                return {e: _constant(float(value[e])) for e in wanted}
            case Affine():
                return self._affine(node, wanted)
            case Elementwise():
                return {e: self._function(i, node, e) for e in wanted}
            case Bilinear():
                return {e: _add([self._product(i, node, e, pair) for pair in factors(self.graph, node, e)]) for e in wanted}
            case Max():
                return {e: self._max(i, node, e) for e in wanted}
            case _:
                raise NoRule(f"SMT has no rule for node {i}, a {type(node).__name__}")

    def _variable(self, bounds: Range) -> int:
        self.ranges.append(bounds)
        return len(self.ranges) - 1

    def _range(self, i: int, e: int) -> Range:
        if self.point is not None:
            return None, None
        return known(self.lower[i][e], self.upper[i][e])

    def _input(self, i: int, e: int) -> Form:
        """The exact box, cut to the one at hand, whose ends are float64 numbers."""
        before = sum(self.graph.nodes[j].size for j in self.graph.inputs[: self.graph.inputs.index(i)])
        if self.point is not None:
            value = self.point[before + e]
            return Form({UNIT: value.numerator}, _exponent(value))
        low, high = self._range(i, e)
        exact_low, exact_high = (ends[before + e] for ends in self.of.box)
        low, high = exact_low if low is None else max(low, exact_low), exact_high if high is None else min(high, exact_high)
        self.inputs[before + e] = v = self._variable((low, high))
        return Form({v: 1}, 0)

    def _affine(self, node: Affine, wanted: list[int]) -> dict[int, Form]:
        parts = [self._mapped(m, self.forms[j], j, wanted) for j, m in zip(node.inputs, node.maps, strict=True)]
        bias = [_constant(0.0 if node.bias is None else float(node.bias[e])) for e in wanted]
        return {e: _add([b, *(part[e] for part in parts)]) for e, b in zip(wanted, bias, strict=True)}

    def _mapped(self, m: LinearMap, operand: dict[int, Form], source: int, wanted: list[int]) -> dict[int, Form]:
        """`wanted` elements of m(operand), map by map: the matrix of a composition would be a rounded product."""
        chain, outs = single_maps(m), [wanted]
        for part in reversed(chain[1:]):
            outs.insert(0, sorted({place for row in self.of.weights.rows(part, outs[0]) for place, _ in row}))
        for k, (part, out) in enumerate(zip(chain, outs, strict=True)):
            rows = self.of.weights.rows(part, out)
            if k == 0 and sum(len(operand[j].row) for row in rows for j, _ in row) > DENSE:
                operand = {j: self._named(form, source, j) for j, form in operand.items()}
            operand = {e: _combine(row, operand) for e, row in zip(out, rows, strict=True)}
        return operand

    def _named(self, form: Form, i: int, e: int) -> Form:
        """A long form as a variable of its own."""
        if len(form.row) <= 2:
            return form
        bounds = self._range(i, e)
        v = self._variable(bounds)
        self.elements.append(Element("same", (form,), (bounds,), v, (i, e)))
        self.forms[i][e] = Form({v: 1}, 0)
        return self.forms[i][e]

    def _function(self, i: int, node: Elementwise, e: int) -> Form:
        j, function = node.inputs[0], node.function
        form, bounds = self.forms[j][e], self._range(j, e)
        if form.is_constant:
            bounds = (form.constant, form.constant)
        if isinstance(function, Pieces):
            piece = piece_over(function, bounds)
            if piece is not None:
                return _line(function.slopes[piece], function.intercepts[piece], form)
            if form.is_constant:
                return _constant(function.values[function.breakpoints.index(float(form.constant))])
        v = self._variable(self._range(i, e))
        self.elements.append(Element(function, (form,), (bounds,), v, (i, e), (j, e)))
        return Form({v: 1}, 0)

    def _product(self, i: int, node: Bilinear, e: int, pair: tuple[int, int]) -> Form:
        forms = [self.forms[j][k] for j, k in zip(node.inputs, pair, strict=True)]
        for constant, other in (forms, forms[::-1]):
            if constant.is_constant:
                row = {v: c * constant.row.get(UNIT, 0) for v, c in other.row.items()}
                return Form({v: c for v, c in row.items() if c}, other.exponent + constant.exponent)
        bounds = tuple(self._range(j, k) for j, k in zip(node.inputs, pair, strict=True))
        v = self._variable(_product_range(*bounds))
        self.elements.append(Element("product", tuple(forms), bounds, v, (i, e)))
        return Form({v: 1}, 0)

    def _max(self, i: int, node: Max, e: int) -> Form:
        """The maximum of those places of the window that may be the largest."""
        j = node.inputs[0]
        places = [int(p) for p in dict.fromkeys(node.windows[e].tolist()) if p >= 0]
        if all(self.forms[j][p].is_constant for p in places):
            return max((self.forms[j][p] for p in places), key=lambda f: f.constant)
        best = max(places, key=lambda p: self.lower[j][p])
        left = [p for p in places if p == best or not self.upper[j][p] <= self.lower[j][best]]
        if len(left) == 1:
            return self.forms[j][best]
        v = self._variable(self._range(i, e))
        self.elements.append(Element("max", tuple(self.forms[j][p] for p in left), tuple(self._range(j, p) for p in left), v, (i, e)))
        return Form({v: 1}, 0)

    def _atom(self, atom: Atom) -> tuple[dict[int, Fraction], Fraction, Fraction, bool]:
        total, constant = dict[int, Fraction](), Fraction(0)
        for tensor, i, coefficient in atom.terms:
            node, element = self.of.place(tensor, i)
            form = self.forms[node][element]
            constant += coefficient * form.constant
            for v, c in form.terms.items():
                total[v] = total.get(v, Fraction(0)) + coefficient * c
        return {v: c for v, c in total.items() if c}, constant, atom.bound, atom.strict


def _exponent(q: Fraction) -> int:
    """e with q * 2^e an integer. Raises ValueError if there is none."""
    exponent = q.denominator.bit_length() - 1
    if q.denominator != 1 << exponent:
        raise ValueError(f"{q} is not a dyadic number")
    return exponent


def _constant(value: float) -> Form:
    (n,), exponent = dyadic([value])
    return Form({UNIT: n} if n else {}, exponent)


def _line(slope: float, intercept: float, form: Form) -> Form:
    """slope * form + intercept."""
    return _add([_combine([(0, slope)], {0: form}), _constant(intercept)])


def _combine(row: Sequence[tuple[int, float]], operand: Mapping[int, Form]) -> Form:
    """sum of weight * operand[j] over the pairs (j, weight)."""
    weights, exponent = dyadic([w for _, w in row])
    deepest = max((operand[j].exponent for j, _ in row), default=0)
    total: Row = {}
    for (j, _), w in zip(row, weights, strict=True):
        form = operand[j]
        w <<= deepest - form.exponent
        for v, c in form.row.items():
            total[v] = total.get(v, 0) + w * c
    return Form({v: c for v, c in total.items() if c}, exponent + deepest)


def _add(forms: Sequence[Form]) -> Form:
    """The sum of forms."""
    deepest = max(f.exponent for f in forms)
    total: Row = {}
    for form in forms:
        for v, c in form.row.items():
            total[v] = total.get(v, 0) + (c << (deepest - form.exponent))
    return Form({v: c for v, c in total.items() if c}, deepest)


def _product_range(x: Range, y: Range) -> Range:
    """Of the product of two numbers: the extremes are at corners."""
    if None in x or None in y:
        return None, None
    corners = [a * b for a in x for b in y if a is not None and b is not None]
    return min(corners), max(corners)
