"""A whole query of VNN-LIB 2, for the judges only: several networks, hidden tensors, polynomials. Shares no code with specs/ or the checker.

A query is kept as it is written, and evaluated in exact rationals at one execution of its networks. What it says of one network without hidden
tensors and products, `benchmarks.formula` reads too; the two are compared in the tests.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from benchmarks.formula import DEEPEST, MOST_ELEMENTS, FormulaError, nearest_float32, number

TOKEN = re.compile(
    r"""(?P<skip>\s+|;[^\n]*) | (?P<word>[A-Za-z]\w*(?:-[a-z]+)* | -?\d+(?:\.\d+)?(?![\w.]) | <=|>=|==|!= | <\d+\.\d+> | [<>()*+] | -(?![\d.])
    | "(?:[^"\\\n]|\\["\\])+" | \[[\d,\s]*\])""", re.VERBOSE | re.ASCII,
)  # fmt: skip
NAME, LITERAL, INDEX = (re.compile(p, re.ASCII) for p in (r"[A-Za-z]\w*", r"-?\d+(?:\.\d+)?", r"\s*(?:0|[1-9]\d{0,8})\s*"))
KEYWORDS = ("and", "or", "initialized")
TYPES = ("real", "Real", "float32")
KINDS = ("declare-input", "declare-hidden", "declare-output")
MOST_TERMS = 4096
Element = tuple[str, int]
Polynomial = dict[tuple[Element, ...], Fraction]  # by sorted factors


@dataclass(frozen=True)
class Tensor:
    """A declared tensor; `node` is what the file calls it, if it is hidden."""

    kind: str
    name: str
    shape: tuple[int, ...]
    node: str = ""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Network:
    """`file` is the network whose file it has: its own name, or that of the one it is equal to."""

    name: str
    file: str
    tensors: tuple[Tensor, ...]


@dataclass(frozen=True)
class Comparison:
    """polynomial `relation` 0, with relation one of <=, <, == and !=."""

    polynomial: tuple[tuple[tuple[Element, ...], Fraction], ...]
    relation: str

    def holds(self, values: Mapping[str, list[Fraction]], inputs: frozenset[str], exact_box: bool) -> bool:
        """Exact. A bound on one input, unless it is strict, is that of the nearest float32, or as written if `exact_box`."""
        parts = dict(self.polynomial)
        constant = parts.pop((), Fraction(0))
        if self.relation in ("<=", "==") and not exact_box and len(parts) == 1:
            (factors, coefficient), *_ = parts.items()
            if len(factors) == 1 and factors[0][0] in inputs:
                constant = -coefficient * Fraction(float(nearest_float32(-constant / coefficient)))
        total = constant + sum(c * math.prod((values[t][i] for t, i in factors), start=Fraction(1)) for factors, c in parts.items())
        return {"<=": total <= 0, "<": total < 0, "==": total == 0, "!=": total != 0}[self.relation]


@dataclass(frozen=True)
class Junction:
    kind: str
    parts: tuple[Formula, ...]

    def holds(self, values: Mapping[str, list[Fraction]], inputs: frozenset[str], exact_box: bool) -> bool:
        return (all if self.kind == "and" else any)(part.holds(values, inputs, exact_box) for part in self.parts)


Formula = Comparison | Junction


@dataclass(frozen=True)
class Query:
    """The networks, in order, and the conjunction of all asserts: what a counterexample satisfies."""

    networks: tuple[Network, ...]
    asserted: Junction

    @property
    def tensors(self) -> Iterator[Tensor]:
        return (tensor for network in self.networks for tensor in network.tensors)

    def holds(self, values: Mapping[str, np.ndarray], exact_box: bool = False) -> bool:
        """Whether an execution, flat arrays by the names of all tensors, is a counterexample; NaN and Inf never are. Raises FormulaError."""
        for tensor in self.tensors:
            if tensor.name not in values or values[tensor.name].size != tensor.size:
                raise FormulaError(f"{tensor.name} has {tensor.size} elements, and other values are given")
        if not all(np.isfinite(v).all() for v in values.values()):
            return False
        exact = {name: [Fraction(float(v)) for v in value.reshape(-1)] for name, value in values.items()}
        return self.asserted.holds(exact, frozenset(t.name for t in self.tensors if t.kind == KINDS[0]), exact_box)


def parse(text: str) -> Query:
    """The query of a text of version 2.0 or 2.1, without `initialized`. Raises FormulaError."""
    reader = _Reader()
    for command in _lists(text):
        reader.read(command)
    if not reader.asserted:
        raise FormulaError("nothing is asserted")
    return Query(tuple(reader.networks.values()), Junction("and", tuple(reader.asserted)))


def _lists(text: str) -> list[Any]:
    """Nested lists of words; a word with brackets behind it is a tuple (word, numbers)."""
    stack: list[list[Any]] = [[]]
    at = 0
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise FormulaError(f"{text[at : at + 40]!r} is nothing that VNN-LIB 2 has")
        word, at = match["word"], match.end()
        if word == "(" and len(stack) <= DEEPEST:
            stack.append([])
        elif word == ")" and len(stack) > 1:
            done = stack.pop()
            stack[-1].append(done)
        elif word in ("(", ")"):
            raise FormulaError(f"parentheses do not match, or are nested deeper than {DEEPEST}")
        elif word and word[0] == "[":
            if not (stack[-1] and isinstance(stack[-1][-1], str) and NAME.fullmatch(stack[-1][-1])):
                raise FormulaError(f"{word} stands behind no name")
            stack[-1].append((stack[-1].pop(), _numbers(word[1:-1])))
        elif word:
            stack[-1].append(word)
    if len(stack) > 1:
        raise FormulaError("parentheses do not match")
    return stack[0]


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",") if text.strip() else []
    if not all(INDEX.fullmatch(part) for part in parts):
        raise FormulaError(f"[{text}]: numbers with commas between them are expected")
    return tuple(int(part) for part in parts)


class _Reader:
    """What has been read so far: the version, networks, asserts."""

    def __init__(self) -> None:
        self.version = ""
        self.networks: dict[str, Network] = {}
        self.related: set[str] = set()
        self.tensors: dict[str, Tensor] = {}
        self.asserted: list[Formula] = []

    def read(self, command: Any) -> None:
        match command:
            case ["vnnlib-version", "<2.0>" | "<2.1>" as version] if not self.version:
                self.version = version
            case ["declare-network", str(name), *parts] if self.version and not self.asserted and _is_name(name) and name not in self.networks:
                self._network(name, parts)
            case ["assert", body] if self.networks:
                self.asserted.append(self._formula(body))
            case _:
                raise FormulaError(f"{str(command)[:80]} is no command, or out of place")

    def _network(self, name: str, parts: list[Any]) -> None:
        file, other = name, None
        match parts:
            case [["equal-to" | "isomorphic-to" as relation, str(to)], *rest] if to in self.networks and to not in self.related:
                file, other, parts = (to if relation == "equal-to" else name), self.networks[to], rest
                self.related.add(name)
        tensors = tuple(self._tensor(part) for part in parts)
        kinds = [KINDS.index(tensor.kind) for tensor in tensors]
        if kinds != sorted(kinds) or not {0, 2} <= set(kinds):
            raise FormulaError(f"{name}: inputs, then hidden tensors, then outputs are expected")
        if len({t.node for t in tensors if t.node}) < kinds.count(1) or (other is not None and _visible(other.tensors) != _visible(tensors)):
            raise FormulaError(f"{name}: a hidden tensor twice, or other tensors than the network that it is said to be like")
        self.networks[name] = Network(name, file, tensors)

    def _tensor(self, part: Any) -> Tensor:
        match part:
            case ["declare-input" | "declare-output" as kind, str(name), tuple((of, shape))]:
                node = ""
            case ["declare-hidden" as kind, str(name), tuple((of, shape)), str(quoted)] if quoted[0] == '"':
                node = re.sub(r"\\(.)", r"\1", quoted[1:-1])
            case _:
                raise FormulaError(f"{str(part)[:80]} declares no tensor")
        tensor = Tensor(kind, name, shape, node)
        if not _is_name(name) or name in self.tensors or of not in TYPES or not all(shape):
            raise FormulaError(f"{name}: declared twice, of no name, with an axis of length 0, or of a type other than {', '.join(TYPES)}")
        self.tensors[name] = tensor
        if sum(t.size for t in self.tensors.values()) > MOST_ELEMENTS:
            raise FormulaError("too many elements")
        return tensor

    def _formula(self, node: Any) -> Formula:
        match node:
            case ["and" | "or" as kind, *parts] if parts:
                return Junction(kind, tuple(self._formula(part) for part in parts))
            case ["<=" | "<" | "==" | "!=" as relation, left, right]:
                return self._comparison(left, right, relation)
            case [">=" | ">" as relation, left, right]:
                return self._comparison(right, left, relation.replace(">", "<"))
        raise FormulaError(f"unknown formula {str(node)[:80]}")

    def _comparison(self, left: Any, right: Any, relation: str) -> Comparison:
        total = _sum([self._term(left), _product([{(): Fraction(-1)}, self._term(right)])])
        return Comparison(tuple(total.items()), relation)

    def _term(self, node: Any) -> Polynomial:
        match node:
            case str() if LITERAL.fullmatch(node):
                return {(): number(node)}
            case str() | tuple():
                return {(self._element(node),): Fraction(1)}
            case ["+", *parts] if parts:
                return _sum([self._term(part) for part in parts])
            case ["-", first, *rest]:
                minus: Polynomial = {(): Fraction(-1)}
                negated = [_product([minus, self._term(part)]) for part in (rest or [first])]
                return _sum([self._term(first), *negated] if rest else negated)
            case ["*", *parts] if parts:
                return _product([self._term(part) for part in parts])
        raise FormulaError(f"unknown term {str(node)[:80]}")

    def _element(self, node: str | tuple[str, tuple[int, ...]]) -> Element:
        name, indices = (node, ()) if isinstance(node, str) else node
        if name not in self.tensors or (not isinstance(node, str) and not indices):
            raise FormulaError(f"{name} is no element of a declared tensor")
        shape = self.tensors[name].shape
        if len(indices) != len(shape) or any(i >= n for i, n in zip(indices, shape, strict=True)):
            raise FormulaError(f"{name} has the shape {list(shape)} and no element {list(indices)}")
        return name, sum(i * math.prod(shape[axis + 1 :]) for axis, i in enumerate(indices))


def _is_name(word: str) -> bool:
    return NAME.fullmatch(word) is not None and word not in KEYWORDS


def _visible(tensors: tuple[Tensor, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [(t.kind, t.shape) for t in tensors if not t.node]


def _sum(parts: list[Polynomial]) -> Polynomial:
    total: Polynomial = {}
    for part in parts:
        for factors, coefficient in part.items():
            total[factors] = total.get(factors, Fraction(0)) + coefficient
    return {factors: coefficient for factors, coefficient in total.items() if coefficient}


def _product(parts: list[Polynomial]) -> Polynomial:
    total: Polynomial = {(): Fraction(1)}
    for part in parts:
        if len(total) * len(part) > MOST_TERMS:
            raise FormulaError(f"a product of more than {MOST_TERMS} terms")
        total = _sum([{tuple(sorted(a + b)): c * d} for a, c in total.items() for b, d in part.items()])
    return total
