"""Names, for people, of the combinations of a property that no input satisfies."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np

from specs.cases import Contradiction, FormulaCases
from specs.formula import LOWER, UPPER, FrozenAtoms, approximately

MOST = 20  # combinations that are named; the rest is counted
MOST_TAKEN = 4  # alternatives named of one combination

Line = Callable[[int], int]  # the line, from 1, of an offset of the text
Name = Callable[[int], str]  # how the text calls an input element


def describe(cases: FormulaCases, atoms: FrozenAtoms, line: Line, name: Name) -> tuple[str, ...]:
    """A sentence for each vacuous combination, at most `MOST`, then the number of cases they leave out.

    A bound is given the line on which it is first written; equal bounds elsewhere are the same bound.
    """
    found = cases.contradictions(MOST)
    named = [f"{_cases(c.cases)} vacuous: {_reason(c, atoms, line, name)}{_where(c, line)}" for c in found]
    rest = cases.vacuous - sum(c.cases for c in found)
    return tuple([*named, f"{rest} more {'case is' if rest == 1 else 'cases are'} vacuous"] if rest else named)


def _cases(count: int) -> str:
    return "a case is" if count == 1 else f"{count} cases are"


def _reason(contradiction: Contradiction, atoms: FrozenAtoms, line: Line, name: Name) -> str:
    element = contradiction.element
    if element < 0:
        return "a comparison without variables is false"
    lower, upper = (_bound(side, element, rank, atoms, line) for side, rank in ((LOWER, contradiction.lower), (UPPER, contradiction.upper)))
    return f"{name(element)} {lower} and {name(element)} {upper}"


def _bound(side: int, element: int, rank: int, atoms: FrozenAtoms, line: Line) -> str:
    mine = (atoms.kinds == side) & (atoms.elements == element) & (atoms.ranks == rank)
    offset = int(atoms.offsets[int(np.flatnonzero(mine)[0])])
    return f"{'>=' if side == LOWER else '<='} {_shown(atoms.table[rank])} (line {line(offset)})"


def _where(contradiction: Contradiction, line: Line) -> str:
    """The alternatives that lead to the contradiction, the first in the text first."""
    taken = list(_walk(contradiction))
    if not taken:
        return ""
    told = [f"alternative {number} of the `or` on line {line(offset)}" for offset, number in taken[-MOST_TAKEN:][::-1]]
    return f", in {', '.join(told)}{', ...' if len(taken) > MOST_TAKEN else ''}"


def _walk(contradiction: Contradiction) -> Iterator[tuple[int, int]]:
    taken = contradiction.taken
    while taken is not None:
        yield taken.offset, taken.number
        taken = taken.before


def _shown(value: Fraction) -> str:
    """A short decimal if it is exactly the value, else the nearest double marked as such."""
    near = approximately(value)
    if math.isinf(near):
        return "a number beyond 1e308" if near > 0 else "a number beyond -1e308"
    for text in (f"{near:g}", repr(near)):
        if Fraction(text) == value:
            return text
    return f"about {near!r}"
