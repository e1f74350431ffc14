"""Decide a property of a small piecewise linear network by walking all its activation patterns, depth first, in exact rationals.

Along a path every tensor is an affine function of the inputs, and what was assumed is a polytope in their space; a prefix without a point is
not followed. The network is read by `benchmarks.exact.network`, the property by `benchmarks.formula`, programs are solved by
`benchmarks.exact.simplex`: nothing of the engine is used.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Literal

import numpy as np

from benchmarks import formula
from benchmarks.exact.network import ONE, ZERO, Array, Branch, Form, Half, Network, Pieces, apply, at
from benchmarks.exact.simplex import Row, integers, maximise

Point = tuple[Fraction, ...]


class TooManyPatterns(Exception):
    """More activation patterns are possible than were allowed."""


@dataclass(frozen=True)
class Spot:
    """A point of the unit cube, numbers over one denominator > 0, that stands for a point of a box."""

    place: tuple[int, ...]
    denominator: int


@dataclass(frozen=True)
class Limit:
    """A half-space of the unit cube: row = (a_1, ..., a_n, b) says a y <= b, or < b if strict. Whole numbers."""

    row: Row
    strict: bool

    @property
    def always(self) -> bool:
        """Whether the whole cube meets it."""
        largest = sum(a for a in self.row[:-1] if a > 0)
        return largest < self.row[-1] or (largest == self.row[-1] and not self.strict)

    def holds(self, spot: Spot) -> bool:
        """Whether `spot` meets it."""
        excess = sum(a * y for a, y in zip(self.row, spot.place, strict=False)) - self.row[-1] * spot.denominator
        return excess < 0 if self.strict else excess <= 0


@dataclass(frozen=True)
class Cell:
    """One activation pattern: where in the box it holds, the outputs there, and a spot of it."""

    limits: tuple[Limit, ...]
    outputs: tuple[Form, ...]
    spot: Spot


@dataclass(frozen=True)
class Truth:
    """What holds over the reals. `margin`: the infimum, over cases with atoms and executions, of the largest excess (left side less bound);
    below 0 is sat, above 0 unsat (if no case lacks atoms). None where no such case has a point.

    `witness`: a point that violates, exactly. `float32`: one that is a float32 number in every place, if one was found near it.
    `patterns`: how many activation patterns have a point; `unstable`: how many elements take more than one branch.
    """

    verdict: Literal["sat", "unsat"]
    margin: Fraction | None
    witness: Point | None = field(repr=False)
    float32: Point | None
    patterns: int
    unstable: int


@dataclass(frozen=True)
class Box:
    """lower <= x <= upper, exactly; [n] each."""

    lower: Point
    upper: Point

    def holds(self, point: Sequence[Fraction]) -> bool:
        """Whether `point` lies inside."""
        return all(low <= x <= high for low, x, high in zip(self.lower, point, self.upper, strict=True))

    def at(self, spot: Spot) -> Point:
        """The point of the box that `spot` stands for."""
        ends = zip(self.lower, self.upper, spot.place, strict=True)
        return tuple(low + (high - low) * Fraction(y, spot.denominator) for low, high, y in ends)

    def limit(self, half: Half) -> Limit:
        """`half` as a half-space of the unit cube."""
        return Limit(integers(self._on_cube(half.form)), half.strict)

    def least_excess(self, limits: Sequence[Limit], forms: Sequence[Form]) -> Fraction:
        """The smallest value over the closure of `limits`, which has a point, of the largest of `forms`."""
        exact = [self._on_cube(form) for form in forms]
        scale = lcm(*(part.denominator for row in exact for part in row))
        rows = [tuple(int(part * scale) for part in row) for row in exact]
        most = max(sum(a for a in row[:-1] if a > 0) - row[-1] for row in rows)
        n = len(self.lower)
        program = [(*limit.row[:-1], 0, limit.row[-1]) for limit in limits] + _cube(n, 1)
        program += [(*row[:-1], 1, row[-1] + most) for row in rows]  # form * scale + distance <= most
        found = maximise([0] * n + [1], program)
        if found is None:
            raise ValueError("a cell without points")
        return (most - found.value) / scale

    def _on_cube(self, form: Form) -> list[Fraction]:
        """A form on the unit cube: a y - b."""
        return [*(c * (high - low) for c, low, high in zip(form, self.lower, self.upper, strict=False)), -at(form, self.lower)]


def _cube(n: int, more: int) -> list[Row]:
    """The upper sides of the unit cube, with further variables."""
    return [(*(1 if j == i else 0 for j in range(n + more)), 1) for i in range(n)]


def spot_of(limits: Sequence[Limit], n: int) -> Spot | None:
    """A spot that meets `limits`, or None. Strict ones by a distance that is maximised, and must be more than 0."""
    if not any(limit.strict for limit in limits):
        found = maximise([0] * n, [*(limit.row for limit in limits), *_cube(n, 0)])
        return None if found is None else Spot(found.point, found.denominator)
    rows = [(*limit.row[:-1], 1 if limit.strict else 0, limit.row[-1]) for limit in limits]
    found = maximise([0] * n + [1], [*rows, *_cube(n, 1), (*[0] * n, 1, 1)])
    return None if found is None or found.value <= 0 else Spot(found.point[:n], found.denominator)


@dataclass
class Walk:
    """A walk over the patterns of `network` that have a point in `box`. `most`: patterns before TooManyPatterns."""

    network: Network
    box: Box
    most: int = 10**9
    patterns: int = 0
    split: set[tuple[int, int]] = field(default_factory=set)  # (step, element) that takes more than one branch

    def cells(self) -> Iterator[Cell]:
        """Every pattern with a point, once. Raises TooManyPatterns, UnknownModel."""
        n = self.network.size
        forms = [tuple(ONE if j == i else ZERO for j in range(n + 1)) for i in range(n)]
        if all(low <= high for low, high in zip(self.box.lower, self.box.upper, strict=True)):
            yield from self._follow(0, self.network.start(forms), (), Spot((0,) * n, 1))

    def _follow(self, number: int, tensors: dict[str, Array], limits: tuple[Limit, ...], spot: Spot) -> Iterator[Cell]:
        """The patterns from step `number` on."""
        while number < len(self.network.steps):
            step = self.network.steps[number]
            result = apply(step, tensors, self.network.constants)
            if isinstance(result, Pieces):
                for forms, where, inside in self._choose(number, result.elements, (), limits, spot):
                    yield from self._follow(number + 1, {**tensors, step.output[0]: result.tensor(forms)}, where, inside)
                return
            tensors = {**tensors, step.output[0]: result}
            number += 1
        self.patterns += 1
        if self.patterns > self.most:
            raise TooManyPatterns(f"more than {self.most} activation patterns")
        yield Cell(limits, tuple(self.network.outputs(tensors)), spot)

    def _choose(
        self, number: int, elements: Sequence[tuple[Branch, ...]], forms: tuple[Form, ...], limits: tuple[Limit, ...], spot: Spot
    ) -> Iterator[tuple[tuple[Form, ...], tuple[Limit, ...], Spot]]:
        """All ways to take a branch for each element from number len(forms) on."""
        if len(forms) == len(elements):
            yield forms, limits, spot
            return
        possible = list(self._possible(elements[len(forms)], limits, spot))
        if len(possible) > 1:
            self.split.add((number, len(forms)))
        for form, where, inside in possible:
            yield from self._choose(number, elements, (*forms, form), where, inside)

    def _possible(self, branches: tuple[Branch, ...], limits: tuple[Limit, ...], spot: Spot) -> Iterator[tuple[Form, tuple[Limit, ...], Spot]]:
        """The branches with a point, where they hold, and a spot there. What the whole box meets is not written down."""
        for branch in branches:
            new = [limit for limit in map(self.box.limit, branch.where) if not limit.always]
            where = (*limits, *new)
            inside = spot if all(limit.holds(spot) for limit in new) else spot_of(where, self.network.size)
            if inside is not None:
                yield branch.form, where, inside
            if not new:
                return


@dataclass(frozen=True)
class Unsafe:
    """One conjunction: the box, and what must hold besides, as (terms, bound, strict)."""

    box: Box
    atoms: tuple[formula.Atom, ...]

    def halves(self, outputs: Sequence[Form]) -> list[Half]:
        """The atoms as conditions on the inputs, where the outputs are these forms."""
        return [Half(_form(atom, outputs, len(self.box.lower)), atom.relation == "<") for atom in self.atoms]


def _form(atom: formula.Atom, outputs: Sequence[Form], n: int) -> Form:
    total = [ZERO] * n + [-atom.bound]
    for tensor, index, c in atom.terms:
        if tensor == "X":
            total[index] += c
        else:
            total = [a + c * b for a, b in zip(total, outputs[index], strict=True)]
    return tuple(total)


def unsafe_cases(violation: formula.Violation) -> list[Unsafe]:
    """The property as a union of conjunctions. Bounds of one input make the box; strict ones stay atoms too."""
    return [_unsafe(atoms, violation.inputs) for atoms in _alternatives(violation.formula)]


def _alternatives(part: formula.Formula) -> list[tuple[formula.Atom, ...]]:
    if isinstance(part, formula.Atom):
        if part.relation == "==":
            other = formula.Atom(tuple((t, i, -c) for t, i, c in part.terms), "<=", -part.bound)
            return [(formula.Atom(part.terms, "<=", part.bound), other)]
        return [(part,)]
    choices = [_alternatives(p) for p in part.parts]
    if part.kind == "or":
        return [alternative for some in choices for alternative in some]
    return [tuple(itertools.chain(*combined)) for combined in itertools.product(*choices)]


def _unsafe(atoms: Sequence[formula.Atom], n: int) -> Unsafe:
    lower: list[Fraction | None] = [None] * n
    upper: list[Fraction | None] = [None] * n
    soft = []
    for atom in atoms:
        if atom.bounds_one_input:
            (_, i, c), limit = atom.terms[0], atom.limit()
            side, keep = (upper, min) if c > 0 else (lower, max)
            known = side[i]
            side[i] = limit if known is None else keep(known, limit)
        if not atom.bounds_one_input or atom.relation == "<":
            soft.append(atom)
    low, high = (tuple(v for v in side if v is not None) for side in (lower, upper))
    if len(low) < n or len(high) < n:
        raise formula.FormulaError("an input without bounds")
    return Unsafe(Box(low, high), tuple(soft))


def decide(network: Network, violation: formula.Violation, most: int = 10**9) -> Truth:
    """The truth about a property. Raises TooManyPatterns where a box has more than `most` patterns, UnknownModel, FormulaError."""
    cases = unsafe_cases(violation)
    margin: Fraction | None = None
    witness: Point | None = None
    patterns, split = 0, set()
    boxes: dict[Box, list[Unsafe]] = {}
    for case in cases:
        boxes.setdefault(case.box, []).append(case)
    for box, inside in boxes.items():
        walk = Walk(network, box, most)
        for cell in walk.cells():
            for case in inside:
                excess, point = _judge(case, cell, witness is None)
                witness = point if witness is None else witness
                margin = excess if margin is None else margin if excess is None else min(margin, excess)
        patterns += walk.patterns
        split |= walk.split
    near = None if witness is None else float32_near(network, cases, witness)
    return Truth("unsat" if witness is None else "sat", margin, witness, near, patterns, len(split))


def _judge(case: Unsafe, cell: Cell, wanted: bool) -> tuple[Fraction | None, Point | None]:
    """The least excess of a case in a cell, and a point of the cell that is in the case, if there is one and it is wanted."""
    halves = case.halves(cell.outputs)
    if not halves:
        return None, case.box.at(cell.spot)
    excess = case.box.least_excess(cell.limits, [half.form for half in halves])
    if excess > 0 or not wanted:
        return excess, None
    spot = spot_of((*cell.limits, *map(case.box.limit, halves)), len(case.box.lower))
    if spot is None and excess < 0:
        raise ArithmeticError("room to spare, and no point")
    return excess, None if spot is None else case.box.at(spot)


def violates(network: Network, cases: Sequence[Unsafe], point: Sequence[Fraction]) -> bool:
    """Whether the execution from `point` is in one of the cases, exactly."""
    outputs = [(y,) for y in network.evaluate(point)]
    constant = [(x,) for x in point]
    for case in cases:
        values = [sum((c * (constant if t == "X" else outputs)[i][0] for t, i, c in atom.terms), -atom.bound) for atom in case.atoms]
        strict = [atom.relation == "<" for atom in case.atoms]
        if case.box.holds(point) and all(v < 0 if s else v <= 0 for v, s in zip(values, strict, strict=True)):
            return True
    return False


def float32_near(network: Network, cases: Sequence[Unsafe], point: Point) -> Point | None:
    """A point of float32 numbers next to `point` that violates too, exactly."""
    sides = [dict.fromkeys(_neighbours(x)) for x in point]
    return next((corner for corner in itertools.product(*sides) if violates(network, cases, corner)), None)


def _neighbours(x: Fraction) -> list[Fraction]:
    """The nearest float32, and the next one on the other side of x."""
    near = np.float32(float(x))
    other = np.nextafter(near, np.float32(np.inf if Fraction(float(near)) < x else -np.inf))
    return [Fraction(float(near))] if Fraction(float(near)) == x else [Fraction(float(near)), Fraction(float(other))]
