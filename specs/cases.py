"""The cases of a formula in normal form, formed one by one: several `or`s multiply out only while somebody iterates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from specs.canonical import Atom, Box, Case, Rationals
from specs.formula import Choice, Conjunction, FrozenAtoms, Indices


class _Region(NamedTuple):
    """Ranks of the bounds found so far; -1 and the length of the table stand for none."""

    lower: Indices
    upper: Indices


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


class FormulaCases:
    """Implements canonical.Cases. `vacuous` counts the combinations that no input satisfies: an empty box (decided on the
    exact rationals), or an atom without variables that is false. They are not iterated and not in the length."""

    def __init__(self, root: Conjunction, atoms: FrozenAtoms, tensor: str, size: int) -> None:
        """`size` is the number of elements of the input tensor; every case must bound every element on both sides."""
        self._root, self._table, self._tensor, self._elements = root, atoms.table, tensor, size
        self.vacuous = sum(count for region, _, count in self._walk(only_box=True) if region is None)

    def __len__(self) -> int:
        return self._root.size - self.vacuous

    def __iter__(self) -> Iterator[Case]:
        boxes: tuple[Box, ...] = ()
        of: _Region | None = None
        for region, atoms, _ in self._walk(only_box=False):
            if region is None:
                continue
            if region is not of:  # cases that differ in their atoms only share the Box object
                boxes = (Box(self._tensor, Rationals(self._table, region.lower), Rationals(self._table, region.upper)),)
                of = region
            yield Case(boxes, atoms)

    def _walk(self, only_box: bool) -> Iterator[tuple[_Region | None, tuple[Atom, ...], int]]:
        """Yield (region, or None if it is empty; atoms; number of cases meant), in the order of the text.

        With `only_box`, choices that cannot change the box are counted and not expanded.
        """
        whole = _Region(np.full(self._elements, -1, np.int32), np.full(self._elements, len(self._table), np.int32))
        stack = [_Step(self._root, whole, (), 1, None)]
        while stack:
            conjunction, region, atoms, factor, todo = stack.pop()
            narrowed = _narrow(region, conjunction)
            if narrowed is None:
                yield None, (), factor * conjunction.size * (1 if todo is None else todo.size)
                continue
            atoms = atoms + conjunction.atoms
            for choice in reversed(conjunction.choices):
                if only_box and not choice.moves_box:
                    factor *= choice.size
                else:
                    todo = _Todo(choice, todo, choice.size * (1 if todo is None else todo.size))
            if todo is None:
                yield narrowed, atoms, factor
            else:
                stack.extend(_Step(a, narrowed, atoms, factor, todo.rest) for a in reversed(todo.choice.alternatives))


def _narrow(region: _Region, by: Conjunction) -> _Region | None:
    """The region cut by the bounds of a conjunction; None if nothing is left."""
    if by.impossible:
        return None
    if not by.lower_at.size and not by.upper_at.size:
        return region
    lower, upper = region.lower.copy(), region.upper.copy()
    np.maximum.at(lower, by.lower_at, by.lower_rank)
    np.minimum.at(upper, by.upper_at, by.upper_rank)
    return None if (lower > upper).any() else _Region(lower, upper)
