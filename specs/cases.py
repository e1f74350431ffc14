"""The cases of a formula in normal form, formed one by one: several `or`s multiply out only while somebody iterates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from specs.canonical import Atom, Box, Case, Rationals, Variable
from specs.formula import Choice, Conjunction, FrozenAtoms, Indices


class _Region(NamedTuple):
    """Ranks of the bounds found so far; -1 and the length of the table stand for none."""

    lower: Indices
    upper: Indices


class Taken(NamedTuple):
    """Alternatives taken so far, the last one first: the place of the `or` in the text, and the alternative's number from 1."""

    offset: int
    number: int
    before: Taken | None


class Contradiction(NamedTuple):
    """Why a combination is empty: the ranks of the bounds of `element` cross, or (element -1) a comparison without variables is false.

    `cases` cases are meant, those with the alternatives `taken`.
    """

    element: int
    lower: int
    upper: int
    taken: Taken | None = None
    cases: int = 1


class _Todo(NamedTuple):
    """Choices still to be made: a linked list, shared between the branches. `size` is the product of the sizes in it."""

    choice: Choice
    rest: _Todo | None
    size: int


class _Step(NamedTuple):
    conjunction: Conjunction
    region: _Region
    atoms: tuple[Atom, ...]
    factor: int
    todo: _Todo | None
    taken: Taken | None


class FormulaCases:
    """Implements canonical.Cases. `vacuous` counts the combinations that no input satisfies: an empty box (decided on the
    exact rationals), or an atom without variables that is false. They are not iterated and not in the length."""

    def __init__(self, root: Conjunction, atoms: FrozenAtoms, inputs: Sequence[Variable]) -> None:
        """Bounds name elements of all `inputs`, one after the other; every case must bound every element on both sides."""
        self._root, self._table, self._inputs = root, atoms.table, inputs
        self._elements = sum(v.size for v in inputs)
        self.vacuous = sum(region.cases for region, _ in self._walk(only_box=True) if isinstance(region, Contradiction))

    def __len__(self) -> int:
        return self._root.size - self.vacuous

    def contradictions(self, most: int) -> list[Contradiction]:
        """Why combinations are empty: the first `most` of them, in the order of the text. One entry may stand for many cases."""
        found = (region for region, _ in self._walk(only_box=True) if isinstance(region, Contradiction))
        return list(itertools.islice(found, most)) if self.vacuous else []

    def __iter__(self) -> Iterator[Case]:
        boxes: tuple[Box, ...] = ()
        of: _Region | None = None
        for region, atoms in self._walk(only_box=False):
            if isinstance(region, Contradiction):
                continue
            if region is not of:  # cases that differ in their atoms only share the Box object
                boxes, of = self._boxes(region), region
            yield Case(boxes, atoms)

    def _boxes(self, region: _Region) -> tuple[Box, ...]:
        """The box of every input tensor."""
        ends = itertools.accumulate(v.size for v in self._inputs)
        parts = [(v.name, slice(end - v.size, end)) for v, end in zip(self._inputs, ends, strict=True)]
        return tuple(Box(name, *(Rationals(self._table, side[part]) for side in region)) for name, part in parts)

    def _walk(self, only_box: bool) -> Iterator[tuple[_Region | Contradiction, tuple[Atom, ...]]]:
        """Yield (region, or why it is empty; atoms), in the order of the text.

        With `only_box`, choices that cannot change the box are counted and not expanded.
        """
        whole = _Region(np.full(self._elements, -1, np.int32), np.full(self._elements, len(self._table), np.int32))
        stack = [_Step(self._root, whole, (), 1, None, None)]
        while stack:
            conjunction, region, atoms, factor, todo, taken = stack.pop()
            narrowed = _narrow(region, conjunction)
            if isinstance(narrowed, Contradiction):
                count = factor * conjunction.size * (1 if todo is None else todo.size)
                yield narrowed._replace(taken=taken, cases=count), ()
                continue
            atoms = atoms + conjunction.atoms
            for choice in reversed(conjunction.choices):
                if only_box and not choice.moves_box:
                    factor *= choice.size
                else:
                    todo = _Todo(choice, todo, choice.size * (1 if todo is None else todo.size))
            if todo is None:
                yield narrowed, atoms
            else:
                choice = todo.choice
                steps = [
                    _Step(alternative, narrowed, atoms, factor, todo.rest, Taken(choice.offset, number, taken))
                    for number, alternative in enumerate(choice.alternatives, start=1)
                ]
                stack.extend(reversed(steps))


def _narrow(region: _Region, by: Conjunction) -> _Region | Contradiction:
    """The region cut by the bounds of a conjunction, or why nothing is left of it."""
    if by.impossible:
        return Contradiction(-1, 0, 0)
    if not by.lower_at.size and not by.upper_at.size:
        return region
    lower, upper = region.lower.copy(), region.upper.copy()
    np.maximum.at(lower, by.lower_at, by.lower_rank)
    np.minimum.at(upper, by.upper_at, by.upper_rank)
    crossed = lower > upper
    if not crossed.any():
        return _Region(lower, upper)
    element = int(crossed.argmax())
    return Contradiction(element, int(lower[element]), int(upper[element]))
