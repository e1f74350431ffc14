"""Debug mode (`verify --self-check`): known executions against every bound that the engine computes. No bound may exclude a run.

An execution is an input with the values of all nodes there: centres, corners and random points of every box, of sub-boxes as they are
bounded, and where attacks went. Whatever is said of a sub-problem must hold for the executions in it: bounds of nodes, planes, linear
forms, bounds of the property's rows, closed cases, clipped boxes. This file is an observer: it sees what the events tell, keeps account of
which execution is in which sub-problem by itself, and evaluates in numpy, apart from the torch code that computes bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bounds.interval import propagate
from graph.core import Elementwise, Graph
from graph.evaluate import evaluate
from graph.selfcheck import running_errors
from verifier.events import Bounded, Chosen, Closed, Derive, Event, Observer, Roots, Split, Within
from verifier.groups import Groups, atom_of_row
from verifier.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from bounds.relaxation import Planes
    from verifier.bounding import Margins, Pass

Array = NDArray[Any]

VALUES_BYTES = 1 << 27  # what the values of all executions may take
BLOCK = 1 << 22  # numbers compared at a time
FEWEST, MOST = 16, 4096  # executions to begin with, whatever their size
VISITED = 64  # executions taken from one descent of an attack
LOCAL_BOXES = 64  # sub-boxes of a batch in which further executions are chosen
UNIT = 2.0**-50  # four times the roundoff of a float64 operation: for evaluating here, never for a bound
SINGLE_SHARE = 2.0**-17  # of what float32 loses in the same evaluation; float64 loses 2^-29 of it
WHOLE = ("intervals", "root")  # searches that close cases on their whole boxes
FROM_WHOLE_BOXES = (*WHOLE, "inputs/", "neurons")  # those whose roots are boxes of the problem; the roots of others are known when they are bounded


class BoundExcludesRun(Exception):
    """A bound of the engine excludes an execution that exists. Always a defect of ours, never a proof. Exit code 4."""


# ---------------------------------------------------------------- executions


@dataclass(frozen=True, eq=False)
class Executions:
    """P executions: `inputs` [P, n_in] in the problem's boxes `box` [P], and per node an enclosure of its real values there [P, size].

    The enclosure is the float64 value give or take the smaller of two errors: a bound by running error analysis, which deep networks
    render useless, and an estimate, 4096 times what float64 would lose if it lost as much as float32 does in the same evaluation, in
    proportion. The estimate is the only tolerance here.
    """

    box: Array
    inputs: Array
    lower: list[Array] = field(repr=False)
    upper: list[Array] = field(repr=False)

    def __len__(self) -> int:
        return len(self.box)

    @classmethod
    def at(cls, graph: Graph, box: Array, inputs: Array) -> Executions:
        """The executions at these inputs."""
        parts = np.split(inputs, np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1], axis=1)
        lower, upper = [], []
        with np.errstate(all="ignore"):
            running = running_errors(replace(graph, shifts=(), centres=()), parts, unit=UNIT)
            for exact, single in zip(running, evaluate(graph, parts, np.float32), strict=True):
                value, known = exact.value, np.isfinite(exact.value)
                lost = SINGLE_SHARE * np.abs(single - value).max(initial=0.0) + 4 * UNIT * np.abs(value).max(initial=0.0)
                error = np.minimum(np.where(np.isfinite(exact.error), exact.error, np.inf), lost if np.isfinite(lost) else np.inf)
                lower.append(np.where(known, value - error, -np.inf))
                upper.append(np.where(known, value + error, np.inf))
        return cls(box, inputs, lower, upper)

    def functionals(self, problem: Problem, rows: Array, points: Array) -> tuple[Array, Array]:
        """Enclosures of functionals `rows` at executions `points`: [points, rows] each."""
        outputs = problem.graph.outputs
        low = np.concatenate([*(self.lower[i][points] for i in outputs), self.inputs[points]], axis=1)
        high = np.concatenate([*(self.upper[i][points] for i in outputs), self.inputs[points]], axis=1)
        weight = np.concatenate(problem.functionals.dense(rows), axis=1).T
        with np.errstate(all="ignore"):
            middle, radius = low / 2 + high / 2, high / 2 - low / 2
            value = middle @ weight
            error = radius @ np.abs(weight) + UNIT * (len(weight) + 4) * (np.abs(middle) @ np.abs(weight))
            known = np.isfinite(value) & np.isfinite(error)
            return np.where(known, value - error, -np.inf), np.where(known, value + error, np.inf)

    def violating(self, problem: Problem, case: int, points: Array) -> Array:
        """Of the executions `points` those that certainly meet every atom of `case`."""
        rows, bounds = problem.case_rows[case], problem.case_bounds[case]
        _, high = self.functionals(problem, rows[rows >= 0], points)
        return np.asarray(points[(high <= bounds[rows >= 0]).all(axis=1)])

    def certainly(self, points: Array, split: Cut | Plane) -> Array:
        """Of the executions `points` those that certainly are on this side of a split, or of a plane."""
        if isinstance(split, Plane):
            return np.asarray(points[split.above(self.inputs[points]) <= 0])
        node, element, threshold, is_high = split
        inside = self.lower[node][points, element] >= threshold if is_high else self.upper[node][points, element] <= threshold
        return np.asarray(points[inside])


Cut = tuple[int, int, float, bool]  # node, element, threshold; whether it is the side above


@dataclass(frozen=True, eq=False)
class Plane:
    """The part of the inputs x with coefficients . x + constant <= 0; coefficients [n_in]."""

    coefficients: Array
    constant: float

    def above(self, inputs: Array) -> Array:
        """Upper bounds [P] of the left side at inputs [P, n_in]; NaN where there is none."""
        with np.errstate(all="ignore"):
            value = inputs @ self.coefficients + self.constant
            size = np.abs(inputs) @ np.abs(self.coefficients) + abs(self.constant)
            return np.asarray(value + UNIT * (inputs.shape[1] + 4) * size)


# ---------------------------------------------------------------- one search


@dataclass
class _Live:
    """A live sub-problem: its root's cases, which of them are open, the splits and planes above (linked), and the bounding pass whose forms
    are in force."""

    cases: Array
    is_open: Array
    above: tuple[Any, Cut | Plane] | None = None
    forms: tuple[Bounded, int] | None = None


Inside = dict[int, Array]  # sub-problem -> the executions that certainly are in it
NOBODY = np.zeros(0, dtype=np.int64)


class _Search:
    """Follows the tree of one search, with the executions in every live sub-problem."""

    def __init__(self, name: str, problem: Problem, executions: Iterable[Executions]) -> None:
        self.name, self.problem = name, problem
        self.live: dict[int, _Live] = {}
        self.placed: list[tuple[Executions, Inside]] = [(some, {}) for some in executions]
        self.local: list[tuple[Executions, Inside]] = []  # of the last bounding pass, until the next one
        self.log: list[Event] = []
        self._formed: list[int] = []

    def everyone(self) -> Iterator[tuple[Executions, Inside]]:
        yield from self.placed
        yield from self.local

    def take(self, event: Event) -> None:
        match event:
            case Roots():
                self._roots(event)
            case Split():
                self._split(event)
            case Derive():
                for i, lower, upper in zip(event.ids.tolist(), event.lower, event.upper, strict=True):
                    self._narrow(i, lower, upper)
            case Within():
                for i, atom in zip(event.ids.tolist(), event.atom.tolist(), strict=True):
                    self._leave(i, atom)
            case Closed():
                for i, slots in zip(event.ids.tolist(), event.slots, strict=True):
                    self._close(i, slots, event.how)

    def _roots(self, event: Roots) -> None:
        for i, cases in zip(event.ids.tolist(), event.cases, strict=True):
            self.live[i] = _Live(cases, cases >= 0)
            for some, within in self.everyone() if self.name.startswith(FROM_WHOLE_BOXES) else ():
                within[i] = np.flatnonzero(some.box == self.problem.case_box[cases[cases >= 0][0]])

    def _split(self, event: Split) -> None:
        names = (event.ids, event.low, event.high, event.node, event.element, event.threshold)
        for i, low, high, node, element, threshold in zip(*(column.tolist() for column in names), strict=True):
            parent = self.live.pop(i)
            for child, is_high in ((low, False), (high, True)):
                cut = (node, element, threshold, is_high)
                self.live[child] = replace(parent, above=(parent.above, cut))
                self._formed.append(child)
                for some, within in self.everyone():
                    within[child] = some.certainly(within.get(i, NOBODY), cut)
            for _, within in self.everyone():
                within.pop(i, None)

    # -------------------------------------------- what is closed, and what is clipped

    def _close(self, i: int, slots: Array, how: str) -> None:
        here = self.live[i]
        for some, within in self.everyone():
            points = within.get(i, NOBODY)
            if how == "empty" and len(points):
                raise self._excluded(some, int(points[0]), i, "it is said to be empty")
            for slot in np.flatnonzero(slots & here.is_open):
                self._may_lose(some, points, i, int(slot), f"case {here.cases[slot]} is closed ({how})", by_forms=how == "clip")
        here.is_open = here.is_open & ~slots
        if not here.is_open.any():
            del self.live[i]
            for _, within in self.everyone():
                within.pop(i, None)

    def _narrow(self, i: int, lower: Array, upper: Array) -> None:
        here = self.live[i]
        for some, within in self.everyone():
            points = within.get(i, NOBODY)
            inside = ((some.inputs[points] >= lower) & (some.inputs[points] <= upper)).all(axis=1)
            for slot in np.flatnonzero(here.is_open):
                self._may_lose(some, points[~inside], i, int(slot), f"clipped away, with case {here.cases[slot]} open", by_forms=True)
            within[i] = points[inside]

    def _leave(self, i: int, atom: int) -> None:
        """From here on bounds are about what the linear form of this atom leaves of sub-problem i: executions beyond it are left out, and
        none of them may violate the case. Where the form is not known any more, only violations certainly stay."""
        here = self.live[i]
        plane = None if here.forms is None else self._plane(*here.forms, atom)
        here.above = here.above if plane is None else (here.above, plane)
        for some, within in self.everyone():
            points = within.get(i, NOBODY)
            kept = some.violating(self.problem, int(here.cases[0]), points) if plane is None else some.certainly(points, plane)
            self._may_lose(some, np.setdiff1d(points, kept), i, 0, f"left out of case {here.cases[0]}", by_forms=False)
            within[i] = kept

    def _plane(self, event: Bounded, k: int, atom: int) -> Plane:
        found, group = event.passes[0].found, int(event.group[k])
        row = int(np.flatnonzero(atom_of_row(self.problem, event.groups)[group][found.rows.numpy()] == atom)[0])
        lower, at = found.lower, np.array([k])
        return Plane(_numbers(lower.coefficients, at)[0, row], float(_numbers(lower.constant, at)[0, row]))

    def _may_lose(self, some: Executions, points: Array, i: int, slot: int, why: str, by_forms: bool) -> None:
        """Executions on which nothing more will be proven: none may violate the case, and where forms are the reason, these must show it."""
        if not len(points):
            return
        here = self.live[i]
        bad = some.violating(self.problem, int(here.cases[slot]), points)
        if len(bad):
            raise self._excluded(some, int(bad[0]), i, f"{why}, which it violates")
        if by_forms and here.forms is not None:
            kept = ~_shown(*here.forms, slot, some.inputs[points])
            if kept.any():
                raise self._excluded(some, int(points[kept][0]), i, f"{why}, and no linear form of the bounding pass above is positive there")

    # -------------------------------------------- bounding passes

    def bounded(self, event: Bounded, random: np.random.Generator) -> int:
        """Compare a batch of bounding passes with the executions in its sub-problems; returns how many comparisons of an execution it took."""
        for i in self._formed:
            if i in self.live:
                self.live[i].forms = None
        self._formed = event.ids.tolist()
        for k, i in enumerate(self._formed):
            self.live[i].forms = (event, k)
            if not self.name.startswith(FROM_WHOLE_BOXES):
                self.live[i].is_open &= event.is_open[k].numpy()
        self.local = [self._nearby(event, random)]
        return sum(self._compare(event, one, some, within, random) for one in event.passes for some, within in self.everyone())

    def _nearby(self, event: Bounded, random: np.random.Generator) -> tuple[Executions, Inside]:
        """Executions in some sub-boxes of the batch: at the centre, the best corner for one row's form, another corner, a random point."""
        found = event.passes[0].found
        chosen = np.sort(random.permutation(len(event.ids))[:LOCAL_BOXES])
        ends = (found.state.lower, found.state.upper)
        lower, upper = (np.concatenate([_numbers(end[i], chosen) for i in self.problem.graph.inputs], 1) for end in ends)
        row = random.integers(found.rows.shape[0], size=len(chosen))
        coefficients = found.lower.coefficients[chosen, row].double().numpy()
        middle, place = lower / 2 + upper / 2, random.random(lower.shape)
        corners, anywhere = [np.where(end, lower, upper) for end in (coefficients > 0, place < 0.5)], lower + place * (upper - lower)
        inputs = np.concatenate([middle, *corners, np.clip(anywhere, lower, upper)])
        inputs = np.where(np.isfinite(inputs), inputs, np.tile(lower, (4, 1)))
        some = Executions.at(self.problem.graph, np.tile(event.groups.box[event.group.numpy()[chosen]], 4), inputs)
        within: Inside = {}
        for n, k in enumerate(chosen.tolist()):
            points, above = n + len(chosen) * np.arange(4), self.live[int(event.ids[k])].above
            while above is not None and len(points):
                above, cut = above
                points = some.certainly(points, cut)
            within[int(event.ids[k])] = points
        return some, within

    def _compare(self, event: Bounded, one: Pass, some: Executions, within: Inside, random: np.random.Generator) -> int:
        ids = event.ids if one.boxes is None else event.ids[one.boxes.numpy()]
        groups = event.group.numpy() if one.boxes is None else event.group.numpy()[one.boxes.numpy()]
        there = [within.get(i, NOBODY) for i in ids.tolist()]
        box, point = np.repeat(np.arange(len(ids)), [len(p) for p in there]), np.concatenate([NOBODY, *there])
        widest = max(node.size for node in self.problem.graph.nodes)
        block = max(1, BLOCK // max(widest, one.found.margin.shape[1] * some.inputs.shape[1]))
        for at in range(0, len(box), block):
            part = _Pairs(self, some, ids, box[at : at + block], point[at : at + block])
            part.state(one)
            part.planes(one, random)
            part.rows(one.found, event.groups, groups)
        return len(box)

    def _excluded(self, some: Executions, point: int, i: int, why: str) -> BoundExcludesRun:
        return BoundExcludesRun(f"self-check: search {self.name!r}, sub-problem {i}: {why}; excluded: the execution at {_input(some, point)}")


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of a sub-problem `ids[box]` of a batch and an execution `point` in it."""

    search: _Search
    some: Executions
    ids: Array
    box: Array
    point: Array

    def _raise_if(self, bad: Array, what: Mapping[int, str] | str) -> None:
        """`bad` [pairs, ...]: where something excludes the execution."""
        if bad.any():
            pair, *element = np.argwhere(bad)[0].tolist()
            text = what if isinstance(what, str) else what[pair]
            place = f", element {element[0]}" if element else ""
            raise self.search._excluded(self.some, int(self.point[pair]), int(self.ids[self.box[pair]]), text + place)

    def state(self, one: Pass) -> None:
        """Bounds of every node."""
        state, graph = one.found.state, self.search.problem.graph
        for i, (low, high) in enumerate(zip(state.lower, state.upper, strict=True)):
            name = f"node {i} ({type(graph.nodes[i]).__name__}, from {', '.join(graph.nodes[i].origin.operators) or 'nowhere'})"
            self._raise_if(_numbers(low, self.box) > self.some.upper[i][self.point], f"a lower bound of {name} is above its value")
            self._raise_if(_numbers(high, self.box) < self.some.lower[i][self.point], f"an upper bound of {name} is below its value")
        if state.crossed is not None:
            self._raise_if(state.crossed.numpy()[self.box], "bounds are said to contradict each other")

    def planes(self, one: Pass, random: np.random.Generator) -> None:
        """Planes of univariate functions, where the executions meet them; of planes per row, one row."""
        state, graph = one.found.state, self.search.problem.graph
        for i, planes in [*state.planes.items(), *(one.planes or {}).items()]:
            node = graph.nodes[i]
            if isinstance(node, Elementwise):
                j, row = node.inputs[0], int(random.integers(1 << 30))
                x = self.some.lower[j][self.point] / 2 + self.some.upper[j][self.point] / 2
                x = np.clip(x, _numbers(state.lower[j], self.box), _numbers(state.upper[j], self.box))
                with np.errstate(all="ignore"):
                    value, small = node.function.value(x), float(np.finfo(np.float32).tiny)
                    for side, name in ((1, "lower"), (-1, "upper")):
                        slope, offset = (self._of_plane(planes, f"{part}_{name}", row) for part in ("slope", "offset"))
                        error = UNIT * 4 * (np.abs(slope * x) + np.abs(offset) + np.abs(value)) + small
                        self._raise_if(side * (slope * x + offset - value) > error, f"the {name} plane of node {i} cuts its function")

    def _of_plane(self, planes: Planes, name: str, row: int) -> Array:
        part: Tensor | None = getattr(planes, name)
        if part is None:
            return np.zeros(1)
        return _numbers(part if part.ndim == 2 else part[:, row % part.shape[1]], self.box)

    def rows(self, found: Margins, groups: Groups, group: Array) -> None:
        """Bounds and linear forms of the property's rows."""
        rows = found.rows.numpy()
        functional, bound = groups.row[group][:, rows][self.box], groups.bound[group][:, rows][self.box]
        used, points = np.unique(functional[functional >= 0]), np.unique(self.point)
        if not len(used):
            return
        _, high = self.some.functionals(self.search.problem, used, points)
        highest = high[np.searchsorted(points, self.point)[:, None], np.searchsorted(used, np.maximum(functional, used[0]))]
        with np.errstate(all="ignore"):
            highest = highest - bound + UNIT * (np.abs(highest) + np.abs(bound))
            real = functional >= 0
            for margin in (found.margin, found.lower.value):
                self._raise_if(real & (_numbers(margin, self.box) > highest), "a lower bound of a row is above its value: row")
            value, error = _forms(found, self.box, self.some.inputs[self.point])
            self._raise_if(real & (value - error > highest), "a linear form of a row is above its value: row")


def _shown(event: Bounded, k: int, slot: int, inputs: Array) -> Array:
    """At which of these inputs a linear form of a row of the slot is positive, of the batch's sub-problem k, from any of its passes: [points]."""
    rows, shown = event.groups.member[int(event.group[k]), slot], np.zeros(len(inputs), dtype=bool)
    for one in event.passes:
        at = np.array([k]) if one.boxes is None else np.flatnonzero(one.boxes.numpy() == k)
        if len(at):
            value, error = _forms(one.found, np.full(len(inputs), at[0]), inputs)
            with np.errstate(all="ignore"):  # of rows of padding
                shown |= (rows[one.found.rows.numpy()] & (value + error > 0)).any(axis=1)
    return shown


def _forms(found: Margins, box: Array, inputs: Array) -> tuple[Array, Array]:
    """The linear forms of all rows of sub-problem box[k] at inputs[k], and the rounding of this computation: [pairs, rows]."""
    coefficients, constant = _numbers(found.lower.coefficients, box), _numbers(found.lower.constant, box)
    with np.errstate(all="ignore"):
        value = (coefficients @ inputs[:, :, None])[:, :, 0]
        size = (np.abs(coefficients) @ np.abs(inputs)[:, :, None])[:, :, 0]
        return value + constant, UNIT * (inputs.shape[1] + 4) * (size + np.abs(constant))


def _numbers(t: Tensor, box: Array) -> Array:
    """The rows `box` of a tensor (one row stands for all), float64."""
    return np.asarray(t.detach()[np.zeros_like(box) if t.shape[0] == 1 else box].double().numpy())


def _input(some: Executions, point: int) -> str:
    shown = ", ".join(repr(float(x)) for x in some.inputs[point][:12])
    return f"[{shown}{', ...' if some.inputs.shape[1] > 12 else ''}] of box {some.box[point]}"


# ---------------------------------------------------------------- all searches


class SelfCheck:
    """An observer that raises BoundExcludesRun. `visit` takes further executions at any time: they pass through all that was said before."""

    def __init__(self, problem: Problem, seed: int) -> None:
        self.problem, self.seed, self.comparisons = problem, seed, 0
        self._random = np.random.default_rng(seed)
        self._searches: dict[str, _Search] = {}
        self._late: list[tuple[Array, Array]] = []
        size = 16 * sum(node.size for node in problem.graph.nodes)
        most = int(np.clip(VALUES_BYTES // size, FEWEST, MOST))
        self._room = most  # for visits
        self._executions = [Executions.at(problem.graph, *_points(problem, most, self._random))]
        self._intervals()

    def told(self) -> str:
        """What was done, for the user."""
        count = sum(map(len, self._executions))
        return f"self-check: {count} executions, {self.comparisons} comparisons of one with the bounds of a sub-problem; no bound excludes any"

    def visit(self, cases: Array, points: Array) -> None:
        """Executions at float32 `points` [P, n_in], in the boxes of `cases` [P]; as many as there is room for."""
        chosen = self._random.permutation(len(cases))[: min(self._room, VISITED)]
        self._room -= len(chosen)
        if len(chosen):
            self._late.append((self.problem.case_box[cases[chosen]], points[chosen].astype(np.float64)))

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        self._admit()
        match event:
            case Bounded():
                self.comparisons += self._search(event.search).bounded(event, self._random)
            case Roots() | Split() | Derive() | Within() | Closed():
                search = self._search(event.search)
                search.log.append(event)
                search.take(event)
            case Chosen():
                self._searches = {name: search for name, search in self._searches.items() if name in (event.search, *WHOLE)}

    def beside(self, observer: Observer) -> Observer:
        """An observer that tells both."""

        def both(event: Event) -> None:
            self(event)
            observer(event)

        return both

    def finish(self) -> None:
        """After the last event: whoever came late passes through what was said."""
        self._admit()

    def _search(self, name: str) -> _Search:
        if name not in self._searches:
            self._searches[name] = _Search(name, self.problem, self._executions)
        return self._searches[name]

    def _admit(self) -> None:
        """Lead those who came late through the trees, from the roots on."""
        if not self._late:
            return
        late, self._late = self._late, []
        some = Executions.at(self.problem.graph, *(np.concatenate(column) for column in zip(*late, strict=True)))
        self._executions.append(some)
        for name, search in self._searches.items():
            again = _Search(name, self.problem, [some])
            for event in search.log:
                again.take(event)
            search.placed += again.placed

    def _intervals(self) -> None:
        """The interval bounds over the problem's boxes that close cases before any search."""
        (some,) = self._executions
        for box in np.unique(some.box):
            points = np.flatnonzero(some.box == box)
            for i, (low, high) in enumerate(propagate(self.problem.graph, self.problem.lower[[box]], self.problem.upper[[box]])):
                bad = points[((low > some.upper[i][points]) | (high < some.lower[i][points])).any(axis=1)]
                if len(bad):
                    raise BoundExcludesRun(f"self-check: interval bounds of node {i} exclude the execution at {_input(some, int(bad[0]))}")


def _points(problem: Problem, most: int, random: np.random.Generator) -> tuple[Array, Array]:
    """(box [P], inputs [P, n_in]): of every box, or as many as there is room for, the centre, corners and random points.

    Every second point is in the box of the witnesses, which the box that is bounded must contain.
    """
    each = max(8, most // max(len(problem.lower), 1))
    boxes = np.sort(random.permutation(len(problem.lower))[: max(1, most // 8)])
    box = np.repeat(boxes, each)
    kind = np.tile(np.arange(each), len(boxes))[:, None]
    ends = ((problem.lower, problem.witness_lower), (problem.upper, problem.witness_upper))
    lower, upper = (np.where(kind % 2 == 0, hull[box], witness[box].astype(np.float64)) for hull, witness in ends)
    place = random.random(lower.shape)
    place = np.where(kind == 0, 0.5, np.where(kind % 4 >= 2, np.round(place), place))
    inputs = np.clip(lower + place * (upper - lower), lower, upper)
    return box, np.where(place == 1, upper, inputs)
