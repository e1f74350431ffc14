"""The one canonical form of a property (DESIGN 4): a union of unsafe cases over named tensors, in exact rationals.

`unsat` means that every case is infeasible: no point of its box violates all of its atoms' negations, that is, no
execution whose input lies in the box satisfies all atoms at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Variable:
    """A tensor that the property declares; its element type is "real" or "float32". VNN-LIB 1.0 has exactly X (all X_i) and Y (all Y_j),
    as flat tensors of reals."""

    name: str
    shape: tuple[int, ...]
    element_type: str = "real"

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Rationals:
    """A vector of exact rationals, stored as indices into a table so that a repeated literal is converted once."""

    table: tuple[Fraction, ...] = field(repr=False)
    index: Array = field(repr=False)  # int [n]

    @staticmethod
    def of(values: Iterable[Fraction]) -> Rationals:
        """The vector of these values; equal ones share a place in the table."""
        places: dict[Fraction, int] = {}
        index = [places.setdefault(value, len(places)) for value in values]
        return Rationals(tuple(places), np.asarray(index, np.int32))

    def __len__(self) -> int:
        return int(self.index.size)

    def __getitem__(self, i: int) -> Fraction:
        return self.table[int(self.index[i])]


@dataclass(frozen=True, eq=False)
class Box:
    """lower[i] <= tensor[i] <= upper[i] for every flat element of an input tensor. Never empty inside a Case."""

    tensor: str
    lower: Rationals
    upper: Rationals


@dataclass(frozen=True)
class Atom:
    """sum of coefficient * tensor[flat index] over `terms`  <=  `bound`   (`<` if strict). Inputs and outputs may mix."""

    terms: tuple[tuple[str, int, Fraction], ...]
    bound: Fraction
    strict: bool = False


@dataclass(frozen=True, eq=False)
class Case:
    """One unsafe set: all boxes (one per input tensor) and all atoms hold. No atoms: the whole box is unsafe."""

    boxes: tuple[Box, ...]
    atoms: tuple[Atom, ...]


class Cases(Protocol):
    """The cases of a property, formed lazily (several `or` asserts multiply out)."""

    def __iter__(self) -> Iterator[Case]: ...
    def __len__(self) -> int: ...


PRODUCTS = "*"  # the tensor of the products that a query speaks of
FREE = "="  # the tensor of the inputs of several networks that do not have to equal an earlier one


@dataclass(frozen=True)
class Hidden:
    """A tensor inside of a network, by the name `node` that the ONNX file gives it."""

    variable: Variable
    node: str


@dataclass(frozen=True)
class Declared:
    """A network as a query declares it. `relation`: "", or "equal-to" or "isomorphic-to" the network `other`."""

    name: str
    inputs: tuple[Variable, ...]
    hidden: tuple[Hidden, ...]
    outputs: tuple[Variable, ...]
    relation: str = ""
    other: str = ""

    @property
    def results(self) -> tuple[Variable, ...]:
        """What is not an input, in the order of declaration."""
        return (*(hidden.variable for hidden in self.hidden), *self.outputs)


@dataclass(frozen=True)
class Query:
    """What a text of VNN-LIB 2 says about networks. The inputs of a property that has one are those of all `networks`, one after the other, or,
    if several have to be equal in every case, the tensor FREE: then element i of them all is its element `source[i]`. The outputs are the
    networks' `results`, one after the other, and then, if there are `products`, the tensor PRODUCTS: element k is the product of the elements
    (tensor, flat index) of `products[k]`; one may occur several times."""

    networks: tuple[Declared, ...]
    source: tuple[int, ...] = ()
    products: tuple[tuple[tuple[str, int], ...], ...] = ()

    @property
    def is_composed(self) -> bool:
        """Whether it speaks of more than the inputs and outputs of one network."""
        return len(self.networks) > 1 or bool(self.networks[0].hidden or self.products)

    @property
    def with_files(self) -> tuple[Declared, ...]:
        """The networks that have a file of their own."""
        return tuple(network for network in self.networks if network.relation != "equal-to")


@dataclass(frozen=True, eq=False)
class Property:
    """`cases` excludes those whose box is empty; `vacuous` counts them, and `vacuous_cases` names them for people: a sentence
    for each combination, at most 20 and then how many more there are. `version` is "1.0" or "2.0" or "2.1"; from 2.0 on the tensors are those
    of the network in number, order and shape, `network` is the (first) name that the text gives it, and `query` says more."""

    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]
    cases: Cases
    vacuous: int = 0
    version: str = "1.0"
    source: str = "<memory>"
    notes: tuple[str, ...] = ()
    vacuous_cases: tuple[str, ...] = ()
    network: str = ""
    query: Query | None = None

    @property
    def asks_for_float32(self) -> bool:
        """Whether `unsat` has to hold for executions in float32: some tensor is declared as float32."""
        return any(v.element_type == "float32" for v in (*self.inputs, *self.outputs))


def atom_holds(atom: Atom, values: Mapping[str, Sequence[Fraction]]) -> bool:
    """Evaluate one atom exactly; `values` maps tensor names to flat vectors."""
    total = sum((c * values[t][i] for t, i, c in atom.terms), Fraction(0))
    return total < atom.bound if atom.strict else total <= atom.bound
