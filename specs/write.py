"""Writer: canonical.Property -> VNN-LIB 1.0 text that reads back as the same cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction

import numpy as np

from specs.canonical import Atom, Box, Case, Property, Rationals
from specs.errors import PropertyError
from specs.tokens import LARGEST, MAX_NUMBER_LENGTH


def write(property: Property) -> str:
    """VNN-LIB 1.0 text of the property, one assert a line, numbers as exact decimals.

    Raises PropertyError for a number that is no finite decimal or too large, and for tensors other than one input X and one
    output Y. Cases that the property counts as vacuous are not written; a property without cases is written with an empty box.
    """
    sizes = {v.name: v.size for v in (*property.inputs, *property.outputs)}
    if [v.name for v in property.inputs] != ["X"] or not {v.name for v in property.outputs} <= {"Y"}:
        raise PropertyError(f"VNN-LIB 1.0 has one input X and one output Y, not {', '.join(sizes)}")
    declarations = [f"(declare-const {name}_{i} Real)" for name, size in sizes.items() for i in range(size)]
    asserts = [f"(assert {formula})" for formula in _formulas(list(property.cases), sizes["X"])]
    return "\n".join([*declarations, "", *asserts]) + "\n"


def decimal(value: Fraction) -> str:
    """The shortest decimal without exponent that is exactly `value`. Raises PropertyError if there is none."""
    rest, twos = value.denominator, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    fives = 0
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    digits = max(twos, fives)
    if rest != 1 or digits > MAX_NUMBER_LENGTH - 50 or abs(value) >= LARGEST:
        raise PropertyError("a number of the property is no finite decimal in the range of VNN-LIB readers" if rest != 1 else "number out of range")
    scaled = str(abs(value.numerator) * 10**digits // value.denominator).rjust(digits + 1, "0")
    sign = "-" if value < 0 else ""
    return f"{sign}{scaled[:-digits]}.{scaled[-digits:]}" if digits else sign + scaled


def _formulas(cases: Sequence[Case], size: int) -> Iterator[str]:
    if not cases:
        nothing = (Fraction(1),) * size, (Fraction(0),) * size
        yield from _bounds(Box("X", Rationals.of(nothing[0]), Rationals.of(nothing[1])))
    elif len(cases) == 1:
        yield from _conjuncts(cases[0])
    elif _one_box(cases):
        yield from (bound for box in cases[0].boxes for bound in _bounds(box))
        yield _or(_and(_atom(atom) for atom in case.atoms) for case in cases)
    else:
        yield _or(_and(_conjuncts(case)) for case in cases)


def _one_box(cases: Sequence[Case]) -> bool:
    """Whether all cases have the same box, and atoms of their own (an `and` must not be empty)."""
    first = cases[0].boxes
    return all(case.atoms and (case.boxes is first or all(map(_same, case.boxes, first))) for case in cases)


def _same(a: Box, b: Box) -> bool:
    pairs = ((a.lower, b.lower), (a.upper, b.upper))
    return all((p.table is q.table and np.array_equal(p.index, q.index)) or _listed(p) == _listed(q) for p, q in pairs)


def _listed(values: Rationals) -> list[Fraction]:
    return [values[i] for i in range(len(values))]


def _conjuncts(case: Case) -> Iterator[str]:
    for box in case.boxes:
        yield from _bounds(box)
    yield from map(_atom, case.atoms)


def _bounds(box: Box) -> Iterator[str]:
    for i in range(len(box.lower)):
        yield f"(>= {box.tensor}_{i} {decimal(box.lower[i])})"
        yield f"(<= {box.tensor}_{i} {decimal(box.upper[i])})"


def _atom(atom: Atom) -> str:
    sign = "<" if atom.strict else "<="
    if len(atom.terms) == 1 and abs(atom.terms[0][2]) == 1:
        ((tensor, i, coefficient),) = atom.terms
        return f"({sign if coefficient > 0 else sign.replace('<', '>')} {tensor}_{i} {decimal(atom.bound * coefficient)})"
    if atom.bound == 0 and [c for _, _, c in atom.terms] in ([1, -1], [-1, 1]):
        less, more = sorted(atom.terms, key=lambda term: -term[2])
        return f"({sign} {less[0]}_{less[1]} {more[0]}_{more[1]})"
    products = [f"(* {decimal(c)} {tensor}_{i})" for tensor, i, c in atom.terms]
    total = products[0] if len(products) == 1 else f"(+ {' '.join(products)})"
    return f"({sign} {total if products else '0'} {decimal(atom.bound)})"


def _and(formulas: Iterable[str]) -> str:
    return f"(and {' '.join(formulas)})"


def _or(formulas: Iterable[str]) -> str:
    return f"(or {' '.join(formulas)})"
