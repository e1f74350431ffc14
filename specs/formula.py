"""Formulas as they are written (any nesting of and/or), and their normal form: a conjunction of atoms and choices.

Atoms are numbered; a formula mentions them by number, because one atom occurs many times in a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specs.canonical import Atom

Indices = NDArray[np.int32]

LOWER, UPPER, LINEAR, IMPOSSIBLE = range(4)
MANY = 2**62  # counts of cases stop here: a small text can mean 2^1000000 of them


class And(NamedTuple):
    """All of the numbered atoms and all of the parts. Empty: true."""

    atoms: Iterable[int]
    parts: tuple[And | Or, ...] = ()


class Or(NamedTuple):
    """At least one of the options. `offset` is its place in the text."""

    options: tuple[int | And | Or, ...]
    offset: int


Formula = int | And | Or


class AtomTable:
    """Numbers the atoms of a property: bounds of one input element, linear atoms, and the atom that never holds (0)."""

    def __init__(self) -> None:
        self._kinds: list[int] = [IMPOSSIBLE]
        self._elements: list[int] = [0]
        self._literals: list[int] = [0]
        self._linear: list[Atom | None] = [None]
        self._offsets: list[int] = [0]
        self._values: dict[Fraction, int] = {}

    def add_bound(self, side: int, element: int, value: Fraction, offset: int) -> int:
        """Number of the atom `input[element] >= value` (side LOWER) or `<= value` (UPPER), written at `offset` of the text."""
        return self._add(side, element, self._values.setdefault(value, len(self._values)), None, offset)

    def add_linear(self, atom: Atom, offset: int) -> int:
        return self._add(LINEAR, 0, 0, atom, offset)

    def _add(self, kind: int, element: int, literal: int, atom: Atom | None, offset: int) -> int:
        self._kinds.append(kind)
        self._elements.append(element)
        self._literals.append(literal)
        self._linear.append(atom)
        self._offsets.append(offset)
        return len(self._kinds) - 1

    def freeze(self) -> FrozenAtoms:
        """Sort the literals, so that comparing their ranks compares their values exactly."""
        values = list(self._values)
        order = sorted(range(len(values)), key=lambda i: (approximately(values[i]), values[i]))
        rank = np.zeros(max(len(values), 1), np.int32)
        rank[order] = np.arange(len(values), dtype=np.int32)
        return FrozenAtoms(
            np.asarray(self._kinds, np.int8),
            np.asarray(self._elements, np.int32),
            rank[np.asarray(self._literals)],
            tuple(self._linear),
            tuple(values[i] for i in order),
            np.asarray(self._offsets, np.int64),
        )


def approximately(value: Fraction) -> float:
    """A monotone function of the value: it makes sorting fast, ties are decided exactly. +-inf beyond the doubles."""
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


@dataclass(frozen=True, eq=False)
class FrozenAtoms:
    """For every atom number: its kind; for bounds the input element and the rank of the value in `table` (sorted, distinct);
    the offset at which the text writes it first."""

    kinds: NDArray[np.int8]
    elements: Indices
    ranks: Indices
    linear: tuple[Atom | None, ...]
    table: tuple[Fraction, ...]
    offsets: NDArray[np.int64] = field(repr=False)


class Choice(NamedTuple):
    """One of the alternatives must hold. `size` counts the cases it stands for; `offset` is its place in the text."""

    alternatives: tuple[Conjunction, ...]
    size: int
    moves_box: bool
    offset: int


@dataclass(frozen=True, eq=False)
class Conjunction:
    """input[lower_at] >= table[lower_rank], input[upper_at] <= table[upper_rank], linear atoms and choices, all at once.

    `size` counts its cases; `moves_box` says whether a choice below restricts the box.
    `bounded` holds the codes (2 element + side) that every one of its cases bounds.
    """

    lower_at: Indices
    lower_rank: Indices
    upper_at: Indices
    upper_rank: Indices
    atoms: tuple[Atom, ...]
    impossible: bool
    choices: tuple[Choice, ...]
    size: int
    moves_box: bool
    bounded: NDArray[Any] = field(repr=False)


@dataclass(eq=False)
class _Draft:
    """A conjunction that is being collected: atom numbers, and choices as (offset, drafts of the alternatives)."""

    atoms: list[Iterable[int]]
    choices: list[tuple[int, list[_Draft]]]


def normalise(formulas: Iterable[Formula], atoms: FrozenAtoms) -> Conjunction:
    """The conjunction of the formulas, with nested ands and ors spliced. Linear in the size of the formulas, without recursion."""
    root = _Draft([], [])
    drafts, work = [root], [(formula, root) for formula in formulas][::-1]
    while work:
        formula, draft = work.pop()
        match formula:
            case And(numbers, parts):
                draft.atoms.append(numbers)
                work.extend((part, draft) for part in reversed(parts))
            case Or((option,), _):
                work.append((option, draft))
            case Or(_, offset):
                alternatives = [(option, _Draft([], [])) for option in _options(formula)]
                draft.choices.append((offset, [alternative for _, alternative in alternatives]))
                drafts.extend(alternative for _, alternative in alternatives)
                work.extend(reversed(alternatives))
            case int():
                draft.atoms.append((formula,))
    done: dict[int, Conjunction] = {}
    for draft in reversed(drafts):  # a draft is younger than the one it belongs to
        done[id(draft)] = _finish(draft, done, atoms)
    return done[id(root)]


def _options(formula: Or) -> list[Formula]:
    """The options of an or, those of nested ors included, in the order of the text."""
    found: list[Formula] = []
    work: list[Formula] = [formula]
    while work:
        option = work.pop()
        if isinstance(option, Or):
            work.extend(reversed(option.options))
        else:
            found.append(option)
    return found


def _finish(draft: _Draft, done: dict[int, Conjunction], atoms: FrozenAtoms) -> Conjunction:
    numbers = np.concatenate([np.asarray(part, np.int32) for part in draft.atoms]) if draft.atoms else np.zeros(0, np.int32)
    kinds = atoms.kinds[numbers]
    lower, upper = numbers[kinds == LOWER], numbers[kinds == UPPER]
    choices = tuple(_choice(offset, [done.pop(id(alternative)) for alternative in alternatives]) for offset, alternatives in draft.choices)
    size = 1
    for choice in choices:
        size = min(size * choice.size, MANY)
    own = np.concatenate([2 * atoms.elements[lower] + LOWER, 2 * atoms.elements[upper] + UPPER])
    shared = [_shared(choice) for choice in choices]
    return Conjunction(
        atoms.elements[lower],
        atoms.ranks[lower],
        atoms.elements[upper],
        atoms.ranks[upper],
        tuple(atom for number in numbers[kinds == LINEAR] if (atom := atoms.linear[number]) is not None),
        bool((kinds == IMPOSSIBLE).any()),
        choices,
        size,
        any(choice.moves_box for choice in choices),
        np.unique(np.concatenate([own, *shared])),
    )


def _choice(offset: int, alternatives: list[Conjunction]) -> Choice:
    moves_box = any(a.moves_box or a.impossible or a.lower_at.size + a.upper_at.size > 0 for a in alternatives)
    return Choice(tuple(alternatives), min(sum(a.size for a in alternatives), MANY), moves_box, offset)


def _shared(choice: Choice) -> NDArray[Any]:
    """The codes that every alternative bounds."""
    common = choice.alternatives[0].bounded
    for alternative in choice.alternatives[1:]:
        if not common.size:
            break
        common = np.intersect1d(common, alternative.bounded, assume_unique=True)
    return common
