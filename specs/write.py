"""Writer: canonical.Property -> VNN-LIB text, of version 1.0 or 2.0, that reads back as the same cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from specs.canonical import FREE, PRODUCTS, Atom, Box, Case, Declared, Property, Query, Rationals, Variable
from specs.errors import PropertyError
from specs.tokens import LARGEST, MAX_NUMBER_LENGTH
from specs.vnnlib2 import element_name

Shapes = Mapping[str, tuple[int, ...]]


def write(property: Property, version: str = "1.0", shapes: Shapes | None = None) -> str:
    """VNN-LIB text of the property, one assert a line, numbers as exact decimals. `version` is "1.0" or "2.0".

    In 2.0 tensors have the shapes of the property, where `shapes` names no others: those of one that was built, or read from 1.0, are flat.
    Cases that the property counts as vacuous are not written; a property without cases is written with an empty box. Raises PropertyError
    for a number that is no finite decimal or too large, for what 1.0 cannot say (other tensors than one input X and one output Y), for 2.0
    without an output, and for a shape of another size.
    """
    if version not in ("1.0", "2.0"):
        raise PropertyError(f"VNN-LIB {version} cannot be written: the versions are 1.0 and 2.0")
    head, writer = _first(property) if version == "1.0" else _second(property, shapes or {})
    asserts = [f"(assert {formula})" for formula in (*writer.always, *writer.formulas(list(property.cases), property.inputs))]
    return "\n".join([*head, "", *asserts]) + "\n"


def _first(property: Property) -> tuple[list[str], _Writer]:
    """The declarations of 1.0."""
    sizes = {v.name: v.size for v in (*property.inputs, *property.outputs)}
    if [v.name for v in property.inputs] != ["X"] or not {v.name for v in property.outputs} <= {"Y"}:
        raise PropertyError(f"VNN-LIB 1.0 has one input X and one output Y, not {', '.join(sizes)}")
    head = [f"(declare-const {name}_{i} Real)" for name, size in sizes.items() for i in range(size)]
    return head, _Writer(lambda tensor, i: f"{tensor}_{i}", decimal)


def _second(property: Property, shapes: Shapes) -> tuple[list[str], _Writer]:
    """Version and networks of 2.0. Inputs that are one in the property are written as the first of them, and as equal."""
    networks = (Declared(property.network or "N", property.inputs, (), property.outputs),) if property.query is None else property.query.networks
    query = property.query or Query(networks)
    networks = tuple(_shaped(network, shapes) for network in networks)
    if not all(network.outputs for network in networks):
        raise PropertyError("VNN-LIB 2.0 needs an output of every network")
    tensors = {v.name: v for network in networks for v in (*network.inputs, *network.results)}
    inputs = [element_name(v, i) for network in networks for v in network.inputs for i in range(v.size)]

    def name(tensor: str, i: int) -> str:
        if tensor == PRODUCTS:
            return f"(* {' '.join(name(*factor) for factor in query.products[i])})"
        return inputs[query.source.index(i)] if tensor == FREE else element_name(tensors[tensor], i)

    first = [query.source.index(i) for i in query.source]
    equal = tuple(f"(== {inputs[leader]} {inputs[i]})" for i, leader in enumerate(first) if i != leader)
    return ["(vnnlib-version <2.0>)", *map(_network, networks)], _Writer(name, lambda value: _with_point(decimal(value)), equal)


def _shaped(network: Declared, shapes: Shapes) -> Declared:
    """The network with these shapes of its inputs and outputs."""
    sides = [tuple(replace(v, shape=tuple(shapes.get(v.name, v.shape))) for v in side) for side in (network.inputs, network.outputs)]
    for v, w in zip((*network.inputs, *network.outputs), (*sides[0], *sides[1]), strict=True):
        if v.size != w.size:
            raise PropertyError(f"{v.name} has {v.size} elements, and the shape {list(w.shape)} another number")
    return replace(network, inputs=sides[0], outputs=sides[1])


def _network(network: Declared) -> str:
    def tensor(kind: str, variable: Variable, node: str = "") -> str:
        return f"\n  (declare-{kind} {variable.name} {variable.element_type} [{','.join(map(str, variable.shape))}]{node})"

    relation = f" ({network.relation} {network.other})" if network.relation else ""
    parts = [tensor("input", v) for v in network.inputs]
    parts += [tensor("hidden", h.variable, ' "' + h.node.replace("\\", "\\\\").replace('"', '\\"') + '"') for h in network.hidden]
    return f"(declare-network {network.name}{relation}{''.join([*parts, *(tensor('output', v) for v in network.outputs)])})"


def _with_point(number: str) -> str:
    """The standard's type checker takes no integers where numbers are real."""
    return number if "." in number else number + ".0"


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


@dataclass(frozen=True)
class _Writer:
    """Formulas of a version, which names elements (tensor, flat index) and numbers. `always` is asserted of every case."""

    name: Callable[[str, int], str]
    number: Callable[[Fraction], str]
    always: tuple[str, ...] = ()

    def formulas(self, cases: Sequence[Case], inputs: Iterable[Variable]) -> Iterator[str]:
        if not cases:
            for v in inputs:
                yield from self._bounds(Box(v.name, Rationals.of((Fraction(1),) * v.size), Rationals.of((Fraction(0),) * v.size)))
        elif len(cases) == 1:
            yield from self._conjuncts(cases[0])
        elif _one_box(cases):
            yield from (bound for box in cases[0].boxes for bound in self._bounds(box))
            yield _or(_and(self._atom(atom) for atom in case.atoms) for case in cases)
        else:
            yield _or(_and(self._conjuncts(case)) for case in cases)

    def _conjuncts(self, case: Case) -> Iterator[str]:
        for box in case.boxes:
            yield from self._bounds(box)
        yield from map(self._atom, case.atoms)

    def _bounds(self, box: Box) -> Iterator[str]:
        for i in range(len(box.lower)):
            name = self.name(box.tensor, i)
            yield f"(>= {name} {self.number(box.lower[i])})"
            yield f"(<= {name} {self.number(box.upper[i])})"

    def _atom(self, atom: Atom) -> str:
        sign = "<" if atom.strict else "<="
        if len(atom.terms) == 1 and abs(atom.terms[0][2]) == 1:
            ((tensor, i, coefficient),) = atom.terms
            return f"({sign if coefficient > 0 else sign.replace('<', '>')} {self.name(tensor, i)} {self.number(atom.bound * coefficient)})"
        if atom.bound == 0 and [c for _, _, c in atom.terms] in ([1, -1], [-1, 1]):
            less, more = sorted(atom.terms, key=lambda term: -term[2])
            return f"({sign} {self.name(*less[:2])} {self.name(*more[:2])})"
        products = [f"(* {self.number(c)} {self.name(tensor, i)})" for tensor, i, c in atom.terms]
        total = products[0] if len(products) == 1 else f"(+ {' '.join(products)})"
        return f"({sign} {total if products else self.number(Fraction(0))} {self.number(atom.bound)})"


def _one_box(cases: Sequence[Case]) -> bool:
    """Whether all cases have the same box, and atoms of their own (an `and` must not be empty)."""
    first = cases[0].boxes
    return all(case.atoms and (case.boxes is first or all(map(_same, case.boxes, first))) for case in cases)


def _same(a: Box, b: Box) -> bool:
    pairs = ((a.lower, b.lower), (a.upper, b.upper))
    return all((p.table is q.table and np.array_equal(p.index, q.index)) or _listed(p) == _listed(q) for p, q in pairs)


def _listed(values: Rationals) -> list[Fraction]:
    return [values[i] for i in range(len(values))]


def _and(formulas: Iterable[str]) -> str:
    return f"(and {' '.join(formulas)})"


def _or(formulas: Iterable[str]) -> str:
    return f"(or {' '.join(formulas)})"
