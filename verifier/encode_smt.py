"""The SMT engine (z3): a case as constraints over the exact reals, late layers relaxed until a candidate shows what matters.

A query keeps some elements of the system (verifier/exact_system.py) as they are: case splits of pieces and maxima, products in nonlinear
real arithmetic, envelopes of smooth functions. The others are eliminated by planes (verifier/exact_planes.py), at first all of them. A
candidate that z3 finds is compared with what the network computes at its inputs; the elements that its planes are furthest from, weighted
by how strongly the property reads them, are kept from then on. Where few inputs vary, boxes on which that takes too long are halved.

Coefficients are cut to a few bits and the difference is paid for, which keeps z3's rationals short: "unsat" is proven either way. Where
nothing is left to refine, the query is asked again without cutting.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import z3  # type: ignore[import-untyped]
from numpy.typing import NDArray

from bounds.torch_graph import TorchGraph
from graph.evaluate import evaluate
from graph.functions.facts import Pieces, Smooth
from verifier.bounding import Bounder
from verifier.exact import value_at
from verifier.exact_planes import Cut, Eliminator, Line, Step, chain, corners_of, grid_of, rounded, smooth_lines
from verifier.exact_system import Element, NoRule, Range, Reduction, System, limits
from verifier.groups import group_cases
from verifier.solver import Answer, Question

Array = NDArray[Any]
Q = Fraction
ZERO = Q(0)

BITS = 10  # of a coefficient that is cut, relative to the spread of its form
SPLIT_INPUTS = 10  # inputs that vary, up to which boxes are halved
SLICE = 6.0  # seconds for one box where it can be halved instead
GROWTH = 4  # elements that one candidate makes kept
BATCH = 16  # boxes bounded at once
SMALL = Q(1, 1 << 30)  # of the value of a smooth function: a gap that finer envelopes would not close
FINEST = Q(1, 1 << 24)  # of the range of a smooth function: parts that are not cut further
MOST = 28  # elements kept for one box where it can be halved instead
TOO_MANY = "more elements matter than are kept for one box"
NEAR = 1e-6  # relative; a candidate this close to holding is evaluated exactly


# ---------------------------------------------------------------- terms


@lru_cache(maxsize=1 << 16)
def number(q: Fraction) -> z3.RatNumRef:
    """An exact rational as a term."""
    return z3.RealVal(f"{q.numerator}/{q.denominator}")


def linear(terms: Iterable[tuple[Fraction, z3.ArithRef]], constant: Fraction = ZERO) -> z3.ArithRef:
    """sum of coefficient * term + constant."""
    parts = [t if c == 1 else number(c) * t for c, t in terms if c]
    if constant or not parts:
        parts.append(number(constant))
    return parts[0] if len(parts) == 1 else z3.Sum(parts)


# ---------------------------------------------------------------- one query


class Query:
    """The constraints of one system. `kept` maps the elements that are kept to how: [] exactly (a smooth function: by its envelope), and
    for smooth functions the points where its range is cut. A kept product is exact if `products`, else its McCormick planes stand for it."""

    def __init__(self, system: System, forms: Eliminator, kept: dict[int, list[Fraction]], products: bool) -> None:
        self.system, self.forms, self.kept, self.products = system, forms, kept, products
        forms.used = {}
        nonlinear = products and any(system.elements[k].kind == "product" for k in kept)
        self.solver = z3.SolverFor("QF_NRA") if nonlinear else z3.SimpleSolver()
        self.solver.set("random_seed", 0)
        if not nonlinear:
            self.solver.set("arith.solver", 2)  # the older simplex: several times faster here
        self.variables = {v: z3.Real(f"v{v}") for v in (*system.inputs.values(), *(system.elements[k].result for k in kept))}
        for v, term in self.variables.items():
            self.solver.add(within(term, forms.ranges[v]))
        names = [(k, i) for k in sorted(kept) for i in range(len(system.elements[k].operands))]
        given = [(f.terms, f.constant) for f in (system.elements[k].operands[i] for k, i in names)]
        atoms = [(terms, constant) for terms, constant, _, _ in system.atoms]
        found = forms.lower([*atoms, *given, *(_negative(*form) for form in given)], kept)
        operands = [self._operand(name, *sides) for name, *sides in zip(names, found[len(atoms) :], found[len(atoms) + len(given) :], strict=False)]
        self.operands = {k: tuple(z for (j, _), z in zip(names, operands, strict=True) if j == k) for k in sorted(kept)}
        for k in sorted(kept):
            self.solver.add(self._rule(system.elements[k], k))
        for low, (_, _, bound, strict) in zip(found, system.atoms, strict=False):
            if low is not None:
                left, right = self._sum(low.terms), number(bound - low.least)
                self.solver.add(left < right if strict else left <= right)

    def _sum(self, terms: Mapping[int, Fraction], constant: Fraction = ZERO) -> z3.ArithRef:
        return linear([(c, self.variables[v]) for v, c in terms.items()], constant)

    def _operand(self, name: tuple[int, int], low: Cut | None, high: Cut | None) -> z3.ArithRef:
        """An operand of a kept element as a variable, above the bound of its form and below minus the bound of its negative."""
        z = z3.Real(f"z{name[0]}_{name[1]}")
        if low and high and not low.error and not high.error and _negative(low.terms, low.constant) == (high.terms, high.constant):
            self.solver.add(z == self._sum(low.terms, low.constant))
        else:
            self.solver.add([] if low is None else z >= self._sum(low.terms, low.least))
            self.solver.add([] if high is None else -z >= self._sum(high.terms, high.least))
        self.solver.add(within(z, self.forms.operand_ranges[name[0]][name[1]]))
        return z

    def _rule(self, element: Element, k: int) -> list[z3.BoolRef]:
        """What an execution does at a kept element, and linear constraints that follow from it."""
        z, h, bounds = self.operands[k], self.variables[element.result], self.forms.operand_ranges[k]
        match element.kind:
            case "same":
                return [h == z[0]]
            case "product":
                return [*mccormick(z, h, bounds), *([h == z[0] * z[1]] if self.products else [])]
            case "max":
                return [*(h >= x for x in z), z3.Or([h <= x for x in z]), *max_above(z, h, bounds)]
            case Pieces() as function:
                return [*hull(function, z[0], h, bounds[0]), z3.Or(pieces(function, z[0], h, element.ranges[0]))]
            case Smooth() as function:
                return envelopes(function, z[0], h, element.ranges[0], sorted(self.kept[k]))
            case _:
                raise NoRule(f"SMT has no rule for {element.kind!r} at node {element.at[0]}")


# ---------------------------------------------------------------- rules of elements


def _negative(terms: Mapping[int, Fraction], constant: Fraction) -> tuple[dict[int, Fraction], Fraction]:
    return {v: -c for v, c in terms.items()}, -constant


def within(term: z3.ArithRef, bounds: Range) -> list[z3.BoolRef]:
    low, high = bounds
    return [c for c in (None if low is None else term >= number(low), None if high is None else term <= number(high)) if c is not None]


def pieces(function: Pieces, z: z3.ArithRef, h: z3.ArithRef, bounds: Range) -> list[z3.BoolRef]:
    """One alternative per piece and per breakpoint where f jumps, of those that meet the bounds."""
    low, high = bounds
    edges, found = limits(function), list[z3.BoolRef]()
    for i, (slope, intercept) in enumerate(zip(function.slopes, function.intercepts, strict=True)):
        start = Q(function.breakpoints[i - 1]) if i > 0 else None
        end = Q(function.breakpoints[i]) if i < len(function.breakpoints) else None
        parts = [h == linear([(Q(slope), z)], Q(intercept))]
        if start is not None:
            parts.append(z >= number(start) if edges[i - 1][1] == edges[i - 1][2] else z > number(start))
        if end is not None:
            parts.append(z <= number(end) if edges[i][0] == edges[i][1] else z < number(end))
        if (end is None or low is None or low <= end) and (start is None or high is None or high >= start):
            found.append(z3.And(parts))
    for b, (left, value, right) in zip(function.breakpoints, edges, strict=True):
        if not left == value == right:
            found.append(z3.And(z == number(Q(b)), h == number(value)))
    return found


def hull(function: Pieces, z: z3.ArithRef, h: z3.ArithRef, bounds: Range) -> list[z3.BoolRef]:
    """The convex hull of the closed graph of `function` over the bounds; nothing where one is unknown."""
    points = corners_of(function, bounds)
    return between(z, h, chain(points, 1), chain(points, -1)) if points else []


def between(z: z3.ArithRef, h: z3.ArithRef, below: Sequence[Line], above: Sequence[Line]) -> list[z3.BoolRef]:
    """h above and below these lines of z."""
    return [*(h >= linear([(s, z)], c) for s, c in below), *(h <= linear([(s, z)], c) for s, c in above)]


def mccormick(z: tuple[z3.ArithRef, ...], h: z3.ArithRef, bounds: Sequence[Range]) -> list[z3.BoolRef]:
    """(x - a)(y - b) has a known sign at every corner (a, b) of the box (McCormick 1976)."""
    (x, y), found = z, list[z3.BoolRef]()
    for a, above_x in zip(bounds[0], (True, False), strict=True):
        for b, above_y in zip(bounds[1], (True, False), strict=True):
            if a is not None and b is not None:
                plane = linear([(b, x), (a, y)], -a * b)
                found.append(h >= plane if above_x == above_y else h <= plane)
    return found


def max_above(z: tuple[z3.ArithRef, ...], h: z3.ArithRef, bounds: Sequence[Range]) -> list[z3.BoolRef]:
    """max(x) exceeds x_j by at most what any other may exceed it by."""
    found = list[z3.BoolRef]()
    for j, x in enumerate(z):
        low, others = bounds[j][0], [high for i, (_, high) in enumerate(bounds) if i != j and high is not None]
        if low is not None and len(others) == len(bounds) - 1:
            found.append(h <= x + number(max(ZERO, *(high - low for high in others))))
    return found


def envelopes(function: Smooth, z: z3.ArithRef, h: z3.ArithRef, bounds: Range, cuts: Sequence[Fraction]) -> list[z3.BoolRef]:
    """An envelope over every part of the range, of which one applies."""
    ends = [bounds[0], *cuts, bounds[1]]
    parts = list(pairwise(ends))
    one = [z3.And([*within(z, part), *between(z, h, *smooth_lines(function, part))]) for part in parts]
    return [*between(z, h, *smooth_lines(function, bounds)), z3.Or(one)]


# ---------------------------------------------------------------- candidates


@dataclass(frozen=True, eq=False)
class Miss:
    """A candidate is `gap` away from what element `k` computes; the element's operand is `at`."""

    gap: float
    k: int
    at: Fraction


def misses(query: Query, model: z3.ModelRef) -> list[Miss]:
    """The elements that the candidate's query gets wrong, the worst first: kept ones by the candidate's own values, eliminated ones by how
    far their planes are from what the network computes at the candidate's inputs, times the coefficient they are met with."""
    found = []
    for k, z in query.operands.items():
        element = query.system.elements[k]
        if isinstance(element.kind, Smooth) or (element.kind == "product" and not query.products):
            x, h = [value_of(model, t) for t in z], value_of(model, query.variables[element.result])
            gap = abs(h - computed(element.kind, x))
            if gap > (abs(h) * SMALL if isinstance(element.kind, Smooth) else 0):
                found.append(Miss(float(gap), k, x[0]))
    values = execution(query.system, query.forms.steps, {v: float(value_of(model, query.variables[v])) for v in query.system.inputs.values()})
    for (k, side), used in query.forms.used.items():
        chosen = query.forms.planes[k][side]
        if chosen is not None and used:
            level = sum(float(s) * step.at(values) for s, step in zip(chosen.slopes, query.forms.steps[k], strict=True)) + float(chosen.offset)
            found.append(Miss(used * abs(float(values[query.system.elements[k].result]) - level), k, ZERO))
    return sorted((m for m in found if m.gap > 0), key=lambda m: (-m.gap, m.k))


def execution(system: System, steps: Sequence[Sequence[Step]], inputs: Mapping[int, float]) -> Array:
    """About the value of every variable [V] where the inputs are these: for scores."""
    values = np.zeros(len(system.ranges))
    for v, x in inputs.items():
        values[v] = x
    for element, operands in zip(system.elements, steps, strict=True):
        values[element.result] = float(computed(element.kind, [Q(step.at(values)) for step in operands]))
    return values


def computed(kind: Pieces | Smooth | str, z: Sequence[Fraction]) -> Fraction:
    """What an element makes of its operands; a smooth function in double precision, which no verdict rests on."""
    match kind:
        case "product":
            return z[0] * z[1]
        case "max":
            return max(z)
        case Pieces():
            return value_at(kind, z[0])
        case Smooth():
            value = float(kind.value(np.asarray([float(z[0])]))[0])
            return Q(value) if math.isfinite(value) else z[0]
        case _:
            return z[0]


def value_of(model: z3.ModelRef, term: z3.ArithRef) -> Fraction:
    """The value of a variable; an algebraic number to 30 digits."""
    value = model.eval(term, model_completion=True)
    return Q(str((value.approx(30) if z3.is_algebraic_value(value) else value).as_fraction()))


def nearest_inside(x: Fraction, low: Fraction, high: Fraction) -> float:
    """The float64 number next to x that lies in [low, high]; next to x where the interval holds none."""
    near = float(min(max(x, low), high))
    if Q(near) < low:
        near = math.nextafter(near, math.inf)
    if Q(near) > high:
        near = math.nextafter(near, -math.inf)
    return near if low <= Q(near) <= high else float(x)


def point_of(reduction: Reduction, system: System, model: z3.ModelRef | None, terms: Mapping[int, z3.ArithRef]) -> Array:
    """The candidate's inputs [n_in]; the middle of the box where nothing reads an input."""
    point = []
    for k, (low, high) in enumerate(zip(*reduction.box, strict=True)):
        x = value_of(model, terms[system.inputs[k]]) if model is not None and k in system.inputs else (low + high) / 2
        point.append(nearest_inside(x, low, high))
    return np.asarray(point)


def holds(reduction: Reduction, point: Array) -> bool:
    """Whether the network itself meets all atoms at `point`, exactly where that can be said, else in double precision."""
    exact = [Q(float(x)) for x in point]
    if not all(low <= x <= high for x, low, high in zip(exact, *reduction.box, strict=True)):
        return False
    if not _nearly(reduction, point):
        return False
    values = reduction.values(exact)
    return values is None or all(value < bound if strict else value <= bound for value, bound, strict in values)


def _nearly(reduction: Reduction, point: Array) -> bool:
    """The same in double precision, give or take what an exact evaluation is worth being made for."""
    graph = reduction.graph
    parts = np.split(point, np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1])
    with np.errstate(all="ignore"):
        values = evaluate(graph, [p[None] for p in parts])
    for atom in reduction.case.atoms:
        terms = [float(c) * float(values[node][0, e]) for t, i, c in atom.terms for node, e in [reduction.place(t, i)]]
        if not sum(terms) <= float(atom.bound) + NEAR * (sum(map(abs, terms)) + abs(float(atom.bound))):
            return False
    return True


# ---------------------------------------------------------------- one box


class Box:
    """One box: queries that keep more and more, until one decides."""

    def __init__(self, reduction: Reduction, system: System) -> None:
        self.reduction, self.system = reduction, system
        self.forms = Eliminator(system, BITS)
        self.kept: dict[int, list[Fraction]] = {k: [] for k in sorted(self.forms.must_keep)}
        self.products = False
        self.queries = 0

    def decide(self, deadline: float, most: int | None = None) -> Answer:
        """`most`: how many elements may be kept at most; None: all."""
        while most is None or len(self.kept) <= most:
            query = Query(self.system, self.forms, self.kept, self.products)
            status, reason = check(query, deadline)
            self.queries += 1
            if status == z3.unsat:
                return Answer("unsat", splits=self.splits())
            if status != z3.sat:
                return Answer("unknown", reason=reason)
            model = query.solver.model()
            point = point_of(self.reduction, self.system, model, query.variables)
            if holds(self.reduction, point):
                return Answer("sat", point)
            if not self.refine(query, misses(query, model)):
                smooth = any(isinstance(e.kind, Smooth) for e in self.system.elements)
                return Answer("unknown", reason="no finer envelope of a smooth function rules the candidate out") if smooth else Answer("sat", point)
        return Answer("unknown", reason=TOO_MANY)

    def splits(self) -> tuple[tuple[int, int], ...]:
        """The pre-activations that were kept, the first ones first."""
        return tuple(site for k in self.kept if (site := self.system.elements[k].site) is not None)

    def refine(self, query: Query, wrong: list[Miss]) -> bool:
        """Keep more, cut envelopes, take products as they are, or coefficients as they are; false where none of it is left."""
        changed, room = False, GROWTH
        for miss in wrong[:room]:
            if miss.k not in self.kept:
                self.kept[miss.k], changed = [], True
            elif self.system.elements[miss.k].kind == "product":
                self.products = changed = True
            else:
                changed |= self._cut(miss)
        if changed:
            return True
        rest = {k for k, _ in query.forms.used} - self.kept.keys()
        self.kept |= {k: [] for k in sorted(rest)}
        if not rest and self.forms.bits is not None:
            self.forms = Eliminator(self.system, None)
            return True
        return bool(rest)

    def _cut(self, miss: Miss) -> bool:
        """Cut the range of a smooth element at the candidate, or in the middle of the part that it is in where it is near an end."""
        cuts, (low, high) = self.kept[miss.k], self.system.elements[miss.k].ranges[0]
        if low is None or high is None:
            return False
        ends = sorted([low, *cuts, high])
        a, b = next(((a, b) for a, b in pairwise(ends) if a <= miss.at <= b), (low, high))
        at = rounded(miss.at, grid_of(b - a, 8), -1) if b > a else a
        at = at if b - a < 16 * (at - a) and b - a < 16 * (b - at) else (a + b) / 2
        if not (b - a) > (high - low) * FINEST:
            return False
        cuts.append(at)
        return True


def check(query: Query, deadline: float) -> tuple[z3.CheckSatResult, str]:
    """Ask z3, until the deadline by its own clock; where it does not look at that, `solver.ask` ends the process.

    No thread of ours interrupts it: the last reference to one of its objects must not die outside the thread that calls it.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        return z3.unknown, "time"
    query.solver.set("timeout", max(1, int(1000 * left)))
    try:
        status = query.solver.check()
    except z3.Z3Exception as error:
        if "memory" in str(error):
            return z3.unknown, "memory"
        if "canceled" in str(error) or "interrupted" in str(error):
            return z3.unknown, "time"
        raise
    if status != z3.unknown:
        return status, ""
    why = query.solver.reason_unknown()
    if "memory" in why:
        return status, "memory"
    return status, "time" if time.monotonic() >= deadline or "timeout" in why or "cancel" in why or "interrupt" in why else f"solver-unknown: {why}"


# ---------------------------------------------------------------- boxes


@dataclass
class Tally:
    """What decided a case: boxes that linear bounds closed, boxes that queries closed, boxes halved, queries, and the most elements kept."""

    by_bounds: int = 0
    by_queries: int = 0
    halved: int = 0
    queries: int = 0
    most_kept: int = 0


def solve_smt(question: Question, seconds: float) -> Answer:
    """The answer of z3, within about `seconds`."""
    return decide(question, seconds)[0]


def decide(question: Question, seconds: float) -> tuple[Answer, Tally]:
    """The answer, and what decided it."""
    deadline, tally = time.monotonic() + seconds, Tally()
    try:
        return _Case(question, deadline, tally).run(), tally
    except NoRule as error:
        return Answer("unknown", reason=str(error)), tally
    except OverflowError:
        return Answer("unknown", reason="a number of the property is too large for double precision"), tally
    except z3.Z3Exception as error:
        if "memory" in str(error):
            return Answer("unknown", reason="memory"), tally
        raise


class _Case:
    """Boxes of one case, the last halves first."""

    def __init__(self, question: Question, deadline: float, tally: Tally) -> None:
        self.question, self.deadline, self.tally = question, deadline, tally
        self.reduction = Reduction(question.problem, question.case)

    def run(self) -> Answer:
        problem, box = self.question.problem, self.question.problem.case_box[self.question.case : self.question.case + 1]
        splits = problem.varying(box) <= SPLIT_INPUTS
        root = self._query(self.question.lower, self.question.upper, SLICE if splits else None)
        if root.verdict != "unknown" or not splits or root.reason not in ("time", TOO_MANY):
            return root
        self.bounder = Bounder(problem, group_cases(problem, np.asarray([self.question.case])), TorchGraph(problem.graph, torch.float64), 1 << 26)
        boxes = self._halves(problem.lower[box], problem.upper[box], np.ones(problem.lower.shape[1]))
        while boxes:
            if time.monotonic() > self.deadline:
                return Answer("unknown", reason="time")
            batch, boxes = boxes[-BATCH:], boxes[:-BATCH]
            for answer, halves in self._decide(batch):
                if answer.verdict == "sat" or (answer.verdict == "unknown" and not halves):
                    return answer
                boxes += halves
        return Answer("unsat")

    def _decide(self, batch: list[tuple[Array, Array]]) -> Iterable[tuple[Answer, list[tuple[Array, Array]]]]:
        """For each box its answer, and its halves where it has none."""
        lower, upper = (torch.from_numpy(np.concatenate([box[side] for box in batch])) for side in (0, 1))
        found = self.bounder.bound(lower, upper, torch.zeros(len(batch), dtype=torch.long), torch.ones(len(batch), 1, dtype=torch.bool))
        influence = found.lower.coefficients.abs().sum(1).numpy()
        for b, (low, high) in enumerate(batch):
            if bool(found.closed[b].any()):
                self.tally.by_bounds += 1
                continue
            known = self.question.lower, self.question.upper
            lows = {i: np.maximum(known[0][i], side[b].numpy()) for i, side in enumerate(found.state.lower)}
            highs = {i: np.minimum(known[1][i], side[b].numpy()) for i, side in enumerate(found.state.upper)}
            answer = self._query(lows, highs, SLICE)
            halved = answer.verdict == "unknown" and answer.reason in ("time", TOO_MANY) and time.monotonic() < self.deadline
            yield answer, self._halves(low, high, influence[b]) if halved else []

    def _query(self, lower: Mapping[int, Array], upper: Mapping[int, Array], seconds: float | None) -> Answer:
        box = Box(self.reduction, self.reduction.system(lower, upper))
        until = self.deadline if seconds is None else min(self.deadline, time.monotonic() + seconds)
        answer = box.decide(until, None if seconds is None else MOST)
        self.tally.queries += box.queries
        self.tally.by_queries += answer.verdict == "unsat"
        self.tally.most_kept = max(self.tally.most_kept, len(box.kept))
        return answer

    def _halves(self, lower: Array, upper: Array, influence: Array) -> list[tuple[Array, Array]]:
        """Both halves of a box [1, n_in] along the input that moves the bounds most; none where it holds no number between its ends."""
        middle = lower / 2 + upper / 2
        score = np.where((lower < middle) & (middle < upper), (upper - lower) * influence, -1.0)
        k = int(score.argmax())
        if score[0, k] < 0:
            return []
        self.tally.halved += 1
        below, above = upper.copy(), lower.copy()
        below[0, k] = above[0, k] = middle[0, k]
        return [(lower, below), (above, upper)]
