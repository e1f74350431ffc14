"""A small second reading of VNN-LIB, for the judges only: it shares no code with specs/, so that a mistake there shows here.

A property is kept as the formula that was written (nested and/or over linear atoms), never expanded into cases, and is evaluated
in exact rationals at one concrete execution. It reads what VNN-COMP writes: `declare-const` of X_i and Y_j, and `assert`. A text of VNN-LIB
2.0 is read by turning it into one of 1.0 first: its one network's inputs, one after the other in row-major order, become X_0, X_1, ...
Several networks, hidden tensors and products are refused here, and read by `benchmarks.query`.
"""

from __future__ import annotations

import gzip
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

VARIABLE = re.compile(r"[XY]_\d+", re.ASCII)
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?", re.ASCII)
LONG_EXPONENT = re.compile(r"[-+]?[\d.]+[eE][-+]?\d{4,}", re.ASCII)
LONGEST = 4300  # characters of a number: Python reads no integer of more digits
DEEPEST = 200
TOKEN = re.compile(r"\((<=|>=|<|>|==|=)\s+([XY]_[0-9]+)\s+([^\s()]+)\s*\)|[()]|[^\s()]+")
VERSION_2 = re.compile(r"(?:\s|;[^\n]*+)*+\(\s*(?:vnnlib-version|declare-network)\b")
_SHAPE = r"\[\s*(?:\d{1,9}(?:\s*,\s*\d{1,9})*\s*)?\]"
_DECLARE = r"\(\s*declare-{kind}\s+[A-Za-z]\w*\s+(?:[rR]eal|float32)\s*" + _SHAPE + r"\s*\)\s*"
HEAD_2 = re.compile(
    r"\s*\(\s*vnnlib-version\s*<2\.[01]>\s*\)\s*\(\s*declare-network\s+[A-Za-z]\w*\s*"
    rf"(?P<tensors>(?:{_DECLARE.replace('{kind}', 'input')})+(?:{_DECLARE.replace('{kind}', 'output')})+)\)", re.ASCII,
)  # fmt: skip
DECLARATION_2 = re.compile(r"declare-(input|output)\s+(\w+)\s+\w+\s*\[([^\]]*)\]", re.ASCII)
ELEMENT_2 = re.compile(r"(?<![\w.])(?P<name>[A-Za-z]\w*)(?:\s*\[(?P<indices>[\d\s,]*)\])?", re.ASCII)
UNREAD_2 = re.compile(r"\(\s*=\s|(?<![\w.])\+\d|(?<![\w.])[\d.]+[eE]|(?<![\w\]])\.\d|\(\s*declare|\[(?!\s*\d+\s*(?:,\s*\d+\s*)*\])", re.ASCII)
MOST_ELEMENTS = 1 << 24
FLIPPED = {">=": "<=", ">": "<", "<=": "<=", "<": "<", "==": "==", "=": "=="}


class FormulaError(Exception):
    """The property is not VNN-LIB as this reader knows it; the message says what was met."""


@dataclass(frozen=True)
class Atom:
    """sum of coefficient * tensor[index]  `relation`  bound, with relation one of <=, < and ==, tensor X or Y."""

    terms: tuple[tuple[str, int, Fraction], ...]
    relation: str
    bound: Fraction

    @property
    def bounds_one_input(self) -> bool:
        return len(self.terms) == 1 and self.terms[0][0] == "X"

    def limit(self) -> Fraction:
        """The number on the other side of a one-variable atom, after division by its coefficient."""
        return self.bound / self.terms[0][2]

    def holds(self, x: Sequence[Fraction], y: Sequence[Fraction], exact_box: bool) -> bool:
        """Exact, without tolerance. A bound on one input is rounded to the nearest float32, unless it is strict, or `exact_box`."""
        if self.bounds_one_input and self.relation != "<" and not exact_box:
            _, index, coefficient = self.terms[0]
            sign = 1 if coefficient > 0 else -1
            left, right = sign * x[index], sign * Fraction(float(nearest_float32(self.limit())))
        else:
            values = {"X": x, "Y": y}
            left, right = sum((c * values[t][i] for t, i, c in self.terms), Fraction(0)), self.bound
        return {"<=": left <= right, "<": left < right, "==": left == right}[self.relation]


@dataclass(frozen=True, eq=False)
class Junction:
    """The conjunction (`and`) or disjunction (`or`) of its parts."""

    kind: str
    parts: tuple[Formula, ...]

    def holds(self, x: Sequence[Fraction], y: Sequence[Fraction], exact_box: bool) -> bool:
        decide = all if self.kind == "and" else any
        return decide(part.holds(x, y, exact_box) for part in self.parts)


Formula = Atom | Junction


@dataclass(frozen=True)
class Tensor:
    """A tensor that a text of 2.0 declares; `first` is the number of its first element among all X or Y (`letter`)."""

    letter: str
    name: str
    shape: tuple[int, ...]
    first: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def variable(self, indices: Sequence[int]) -> str:
        """The variable of 1.0 that an element becomes. Raises FormulaError."""
        if len(indices) != len(self.shape) or any(i >= n for i, n in zip(indices, self.shape, strict=True)):
            raise FormulaError(f"{self.name} has the shape {list(self.shape)} and no element {list(indices)}")
        return f"{self.letter}_{self.first + int(np.ravel_multi_index(tuple(indices), self.shape)) if indices else self.first}"


@dataclass(frozen=True, eq=False)
class Violation:
    """The conjunction of all asserts: what a counterexample satisfies. `inputs`, `outputs` count the declared variables."""

    inputs: int
    outputs: int
    formula: Junction
    tensors: tuple[Tensor, ...] = ()  # of a text of 2.0

    def holds(self, x: np.ndarray, y: np.ndarray, exact_box: bool = False) -> bool:
        """Whether the execution x -> y (flat arrays of floats) is a counterexample; NaN and Inf never are."""
        if x.size != self.inputs or y.size != self.outputs:
            raise FormulaError(f"the property has {self.inputs} inputs and {self.outputs} outputs, the network {x.size} and {y.size}")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            return False
        return self.formula.holds(_exact(x), _exact(y), exact_box)

    def first_failing(self, x: np.ndarray, y: np.ndarray) -> int:
        """The 1-based number of the first assert that this execution does not satisfy; 0 if it satisfies all."""
        values = _exact(x), _exact(y)
        return next((k for k, part in enumerate(self.formula.parts, 1) if not part.holds(*values, exact_box=False)), 0)


def _exact(values: np.ndarray) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


@lru_cache(maxsize=1 << 16)
def approximate(value: Fraction) -> float:
    """The nearest float64; infinite where there is none: for people, and for guesses."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def nearest_float32(value: Fraction) -> np.float32:
    """RN32(value): nearest float32, ties to even, from the exact rational (a detour through float64 would round twice). Raises FormulaError."""
    with np.errstate(over="ignore"):
        guess = np.float32(approximate(value))
        if not np.isfinite(guess):
            raise FormulaError(f"{approximate(value):g} does not fit float32")
        near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]

    def distance(candidate: np.float32) -> tuple[Fraction, int]:
        return abs(Fraction(float(candidate)) - value), int(candidate.view(np.uint32)) & 1

    return min((c for c in near if np.isfinite(c)), key=distance)


def read(path: Path) -> Violation:
    """Read a `.vnnlib` or `.vnnlib.gz` file. Raises FormulaError, OSError."""
    try:
        return parse(decompressed(path).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise FormulaError(f"{path} is not text: {error}") from error


def decompressed(path: Path) -> bytes:
    """The bytes of a file, unpacked if its name ends in `.gz`. Raises OSError."""
    data = path.read_bytes()
    if path.suffix != ".gz":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, zlib.error) as error:
        raise OSError(f"{path}: not a whole gzip file: {error}") from error


def parse(text: str) -> Violation:
    """The counterexample formula of a VNN-LIB text. Raises FormulaError."""
    text, tensors = (text, ()) if VERSION_2.match(text) is None else _as_version_1(text)
    declared, asserts = set(), []
    for command in _commands(text):
        match command:
            case ["declare-const", str(name), "Real"] if VARIABLE.fullmatch(name):
                declared.add(name)
            case ["assert", body]:
                asserts.append(_formula(body))
            case _:
                raise FormulaError(f"unknown command {str(command)[:80]}")
    inputs, outputs = (sum(name[0] == tensor for name in declared) for tensor in "XY")
    expected = {*(f"X_{i}" for i in range(inputs)), *(f"Y_{i}" for i in range(outputs))}
    if declared != expected or not asserts:
        raise FormulaError("it needs X_0 .. X_n and Y_0 .. Y_m declared without gaps, and an assert")
    unknown = set(VARIABLE.findall(_without_comments(text))) - declared
    if unknown:
        raise FormulaError(f"{min(unknown)} is not declared")
    return Violation(inputs, outputs, Junction("and", tuple(asserts)), tensors)


def _as_version_1(text: str) -> tuple[str, tuple[Tensor, ...]]:
    """A text of 2.0 as one of 1.0, and what it declares. Raises FormulaError."""
    head = HEAD_2.match(text := _without_comments(text))
    if head is None:
        raise FormulaError(
            "it needs (vnnlib-version <2.0>), then one declare-network with inputs, then outputs, of real or float32 numbers; benchmarks.query reads "
            "hidden tensors, several networks and products"
        )
    tensors: list[Tensor] = []
    for kind, name, shape in DECLARATION_2.findall(head["tensors"]):
        letter = "X" if kind == "input" else "Y"
        sizes = tuple(int(n) for n in shape.split(",")) if shape.strip() else ()
        tensors.append(Tensor(letter, name, sizes, sum(t.size for t in tensors if t.letter == letter)))
    by_name = {t.name: t for t in tensors}
    if len(by_name) < len(tensors) or sum(t.size for t in tensors) > MOST_ELEMENTS or not all(t.size for t in tensors):
        raise FormulaError("a tensor is declared twice, or has no elements, or there are too many")

    def renamed(match: re.Match[str]) -> str:
        if match["name"] is None or match["name"] in ("and", "or", "assert"):
            return match[0]
        if match["name"] not in by_name or (match["indices"] is not None and not match["indices"].strip()):
            raise FormulaError(f"{match[0][:80]} is no element of a declared tensor")
        return f" {by_name[match['name']].variable([int(i) for i in (match['indices'] or '').split(',') if i])} "

    rest = text[head.end() :]
    if wrong := UNREAD_2.search(rest):
        raise FormulaError(f"{wrong[0]!r} is nothing that is read here (benchmarks.query reads several networks)")
    declared = [f"(declare-const {t.letter}_{t.first + i} Real)" for t in tensors for i in range(t.size)]
    return "".join(declared) + ELEMENT_2.sub(renamed, rest), tuple(tensors)


def _without_comments(text: str) -> str:
    return re.sub(r";[^\n]*", "", text)


def _commands(text: str) -> Iterator[list[Any]]:
    """Top-level lists; simple atoms (`(<= X_3 0.5)`) come out as Atom already, shared when their text repeats."""
    stack: list[list[Any]] = [[]]
    for match in TOKEN.finditer(_without_comments(text)):
        token = match.group()
        if match.lastindex:
            stack[-1].append(_simple_atom(*match.groups()))
        elif token == "(":
            if len(stack) > DEEPEST:
                raise FormulaError(f"nested deeper than {DEEPEST}, which this judge does not follow")
            stack.append([])
        elif token == ")":
            if len(stack) == 1:
                raise FormulaError("a closing parenthesis too many")
            done = stack.pop()
            if len(stack) > 1:
                stack[-1].append(done)
            else:
                yield done
        else:
            stack[-1].append(token)
    if len(stack) != 1 or stack[0]:
        raise FormulaError("parentheses do not match")


@lru_cache(maxsize=1 << 20)
def _simple_atom(relation: str, left: str, right: str) -> Atom:
    return _atom(relation, left, right)


def _formula(node: object) -> Formula:
    match node:
        case Atom():
            return node
        case ["and" | "or" as kind, *parts] if parts:
            return Junction(kind, tuple(_formula(part) for part in parts))
        case [str(relation), left, right] if relation in FLIPPED:
            return _atom(relation, left, right)
        case ["!=", left, right]:
            return Junction("or", (_atom("<", left, right), _atom("<", right, left)))
    raise FormulaError(f"unknown formula {str(node)[:80]}")


def _atom(relation: str, left: object, right: object) -> Atom:
    if relation in (">=", ">"):
        left, right = right, left
    terms, constant = _linear(left)
    other, other_constant = _linear(right)
    for variable, coefficient in other.items():
        terms[variable] = terms.get(variable, Fraction(0)) - coefficient
    kept = tuple((tensor, index, c) for (tensor, index), c in terms.items() if c)
    return Atom(kept, FLIPPED[relation], other_constant - constant)


def _linear(node: object) -> tuple[dict[tuple[str, int], Fraction], Fraction]:
    """A term as ({variable: coefficient}, constant)."""
    match node:
        case str() if VARIABLE.fullmatch(node):
            return {(node[0], int(node[2:])): Fraction(1)}, Fraction(0)
        case str():
            return {}, number(node)
        case ["+", *args] if args:
            return _combine([(Fraction(1), _linear(a)) for a in args])
        case ["-", only]:
            return _combine([(Fraction(-1), _linear(only))])
        case ["-", first, *rest]:
            return _combine([(Fraction(1), _linear(first)), *((Fraction(-1), _linear(a)) for a in rest)])
        case ["*", *args] if args:
            parts = [_linear(a) for a in args]
            variable = [p for p in parts if p[0]]
            factor = Fraction(1)
            for terms, constant in parts:
                factor *= Fraction(1) if terms else constant
            if len(variable) > 1:
                raise FormulaError(f"not linear (benchmarks.query reads products): {str(node)[:80]}")
            return _combine([(factor, variable[0])]) if variable else ({}, factor)
    raise FormulaError(f"unknown term {str(node)[:80]}")


def _combine(parts: list[tuple[Fraction, tuple[dict[tuple[str, int], Fraction], Fraction]]]) -> tuple[dict[tuple[str, int], Fraction], Fraction]:
    terms: dict[tuple[str, int], Fraction] = {}
    constant = Fraction(0)
    for factor, (some, number) in parts:
        constant += factor * number
        for variable, coefficient in some.items():
            terms[variable] = terms.get(variable, Fraction(0)) + factor * coefficient
    return terms, constant


@lru_cache(maxsize=1 << 16)
def number(text: str) -> Fraction:
    """A decimal literal as an exact rational. Raises FormulaError."""
    if len(text) > LONGEST:
        raise FormulaError(f"a number of {len(text)} characters, and no more than {LONGEST} are read: {text[:40]}...")
    if LONG_EXPONENT.fullmatch(text):
        raise FormulaError(f"a number whose exponent has more than three digits: {text[:40]}")
    if not NUMBER.fullmatch(text):
        raise FormulaError(f"neither a number nor a variable: {text[:40]}")
    return Fraction(text)
