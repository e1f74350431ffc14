"""VNN-LIB 1.0 reader: text -> canonical.Property.

Grammar (an SMT-LIB 2 dialect), all `assert`s together describe the unsafe set:

    file    := (declare-const NAME Real)* | (assert formula)*        NAME := X_i (inputs) | Y_j (outputs)
    formula := (and formula+) | (or formula+) | (<= term term) | (>= ...) | (< ...) | (> ...) | (== ...) | (= ...)
    term    := NUMBER | NAME | (+ term+) | (- term+) | (* term+)     at most one factor of a product has variables

Numbers are exact rationals. An atom over a single input element bounds the box of its case (a strict one bounds it by its
closure and stays as an atom as well); every other atom stays as written, moved to the form sum <= bound.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specs import tokens, vacuous
from specs.canonical import Atom, Property, Variable
from specs.cases import FormulaCases
from specs.errors import PropertyError
from specs.formula import LOWER, UPPER, And, AtomTable, Formula, Or, normalise

_NAME = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_BITS = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What the reader accepts: decompressed bytes, depth of nested parentheses, number of cases."""

    size: int = 4 << 30
    depth: int = 100_000
    cases: int = 1_000_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class _Term:
    """sum of coefficient * element + constant. Shared between its readers, never changed."""

    coefficients: dict[tuple[str, int], Fraction]
    constant: Fraction


@dataclass(frozen=True)
class _Declare:
    name: str


@dataclass(frozen=True)
class _Assert:
    formula: Formula


_Item = str | _Term | Formula | _Declare | _Assert


class _Fault(Exception):
    """A complaint about argument `argument` of the list being read (0 is its head)."""

    def __init__(self, message: str, argument: int = 0) -> None:
        super().__init__(message)
        self.argument = argument


def read(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> Property:
    """Read a `.vnnlib` file, gzipped or not (its first bytes decide). Raises PropertyError, whatever the file contains."""
    source = str(path)
    data = _content(Path(path), limits.size)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise PropertyError(f"{source} is not UTF-8 text: byte {data[error.start]:#04x}", line, column) from error
    del data
    return parse(text, source, limits)


def _content(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
            data = stream.read(limit + 1)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise PropertyError(f"cannot read {path}: {error}. Is the file complete?") from error
    if len(data) > limit:
        raise PropertyError(f"{path} is larger than {limit} bytes when decompressed; raise the size limit if that is meant")
    return data


def parse(text: str, source: str = "<memory>", limits: Limits = DEFAULT_LIMITS) -> Property:
    """Parse VNN-LIB 1.0 text. Raises PropertyError with line and column, whatever the text is."""
    if len(text) > limits.size:
        raise PropertyError(f"{source} has {len(text)} characters; the limit is {limits.size}")
    return _Parser(text, limits).property(source)


class _Parser:
    """Reads lists bottom-up with an explicit stack: a list is reduced to one item when it closes."""

    def __init__(self, text: str, limits: Limits) -> None:
        self._text = text
        self._limits = limits
        self._declared: dict[str, int] = {}
        self._atoms = AtomTable()
        self._asserted: list[Formula] = []
        self._flat: dict[str, _Item] = {}  # flat lists already read; their meaning never changes, as names are never undeclared
        self._terms: dict[str, _Term] = {}

    def property(self, source: str) -> Property:
        self._read_commands()
        sizes = {tensor: self._size(tensor) for tensor in "XY"}
        if not sizes["X"]:
            raise PropertyError(f"{source} declares no input: (declare-const X_0 Real) is missing", 1, 1)
        atoms = self._atoms.freeze()
        root = normalise(self._asserted, atoms)
        if root.size > self._limits.cases:
            offset = max(root.choices, key=lambda choice: choice.size).offset
            raise self._error(f"the property has more than {self._limits.cases} cases; this `or` contributes", offset)
        self._require_bounds(root.bounded, sizes["X"])
        cases = FormulaCases(root, atoms, "X", sizes["X"])
        outputs = (Variable("Y", (sizes["Y"],)),) if sizes["Y"] else ()
        named = vacuous.describe(cases, atoms, lambda offset: tokens.place(self._text, offset)[0])
        return Property((Variable("X", (sizes["X"],)),), outputs, cases, cases.vacuous, "1.0", source, vacuous_cases=named)

    def _error(self, message: str, offset: int) -> PropertyError:
        return PropertyError(message, *tokens.place(self._text, offset))

    # --- lists ---------------------------------------------------------------------------------------------------------

    def _read_commands(self) -> None:
        stack: list[tuple[int, list[_Item], list[int]]] = []  # open lists: offset, items, offsets of the items
        items: list[_Item] = []
        offsets: list[int] = []
        flat, depth_limit = self._flat, self._limits.depth
        start = 0
        for lexeme, offset in tokens.lexemes(self._text):
            if lexeme == "(":
                if len(stack) >= depth_limit:
                    raise self._error(f"parentheses nested deeper than {depth_limit}", offset)
                stack.append((start, items, offsets))
                start, items, offsets = offset, [], []
                continue
            item: _Item
            if lexeme == ")":
                if not stack:
                    raise self._error("unbalanced parenthesis: this `)` closes nothing", offset)
                item, offset = self._reduce(items, offsets, start), start
                start, items, offsets = stack.pop()
            elif lexeme[0] == "(":
                known = flat.get(lexeme)
                if known is None:
                    known = flat[lexeme] = self._read_flat(lexeme, offset)
                item = known
            else:
                item = lexeme
            if stack:
                items.append(item)
                offsets.append(offset)
            else:
                self._execute(item, offset)
        if stack:
            raise self._error("unbalanced parenthesis: this `(` is never closed", start)

    def _read_flat(self, lexeme: str, start: int) -> _Item:
        inside = list(tokens.words(lexeme, start))[1:-1]
        return self._reduce([word for word, _ in inside], [offset for _, offset in inside], start)

    def _reduce(self, items: list[_Item], offsets: list[int], start: int) -> _Item:
        if not items:
            raise self._error("empty list", start)
        head = items[0]
        rule = _RULES.get(head) if isinstance(head, str) else None
        if rule is None:
            name = tokens.shown(head) if isinstance(head, str) else "a list"
            raise self._error(f"{name} is no command or operator of VNN-LIB 1.0; known are {', '.join(_RULES)}", offsets[0])
        try:
            return rule(self, items, start)
        except _Fault as fault:
            raise self._error(str(fault), offsets[fault.argument]) from None

    # --- commands ------------------------------------------------------------------------------------------------------

    def _execute(self, item: _Item, offset: int) -> None:
        match item:
            case _Assert(formula):
                self._asserted.append(formula)
            case _Declare(name):
                if name in self._declared:
                    raise self._error(f"{name} is declared twice", offset)
                self._declared[name] = offset
            case str():
                raise self._error(f"{tokens.shown(item)} stands outside of any command", offset)
            case _:
                raise self._error("this is no command: only declare-const and assert may stand at the top level", offset)

    def _declare(self, items: list[_Item], start: int) -> _Item:
        if len(items) != 3:
            raise _Fault("expected (declare-const NAME Real)")
        _, name, kind = items
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise _Fault(f"{_shown(name)} is no variable name of VNN-LIB 1.0: inputs are X_0, X_1, ..., outputs Y_0, Y_1, ...", 1)
        if kind != "Real":
            raise _Fault(f"{name} has type {_shown(kind)}; only Real is supported", 2)
        return _Declare(name)

    def _assertion(self, items: list[_Item], start: int) -> _Item:
        if len(items) != 2:
            raise _Fault(f"assert takes one formula, not {len(items) - 1}")
        if not isinstance(items[1], int | And | Or):
            raise _Fault(f"{_shown(items[1])} is no formula", 1)
        return _Assert(items[1])

    # --- formulas ------------------------------------------------------------------------------------------------------

    def _conjunction(self, items: list[_Item], start: int) -> _Item:
        numbers, parts = [i for i in items if type(i) is int], tuple(i for i in items if isinstance(i, And | Or))
        self._require_formulas(items, len(numbers) + len(parts))
        return And(np.asarray(numbers, np.int32), parts)

    def _disjunction(self, items: list[_Item], start: int) -> _Item:
        options = tuple(i for i in items if isinstance(i, int | And | Or))
        self._require_formulas(items, len(options))
        return Or(options, start)

    def _require_formulas(self, items: list[_Item], found: int) -> None:
        if len(items) == 1:
            raise _Fault(f"empty {items[0]}")
        if found != len(items) - 1:
            wrong = next(k for k, item in enumerate(items) if k and not isinstance(item, int | And | Or))
            raise _Fault(f"{_shown(items[wrong])} is no formula", wrong)

    def _comparison(self, items: list[_Item], start: int) -> _Item:
        if len(items) != 3:
            raise _Fault(f"{items[0]} compares two terms, not {len(items) - 1}")
        left, right = self._term(items[1], 1), self._term(items[2], 2)
        match items[0]:
            case "<=" | "<" as sign:
                return self._at_most(left, right, sign == "<", start)
            case ">=" | ">" as sign:
                return self._at_most(right, left, sign == ">", start)
            case "==" | "=":
                return And((), tuple(_as_part(self._at_most(*pair, False, start)) for pair in ((left, right), (right, left))))
            case other:
                raise _Fault(f"unknown comparison {_shown(other)}")

    def _at_most(self, left: _Term, right: _Term, strict: bool, start: int) -> Formula:
        """left <= right (< if strict)."""
        difference = _sum([left, _scaled(right, Fraction(-1))])
        terms = tuple((tensor, i, c) for (tensor, i), c in difference.coefficients.items())
        bound = -difference.constant
        if not terms:
            return And(()) if bound > 0 or (bound == 0 and not strict) else And((0,))
        linear = Atom(terms, bound, strict)
        if len(terms) > 1 or terms[0][0] != "X":
            return self._atoms.add_linear(linear, start)
        _, element, coefficient = terms[0]
        number = self._atoms.add_bound(UPPER if coefficient > 0 else LOWER, element, bound / coefficient, start)
        return And((number, self._atoms.add_linear(linear, start))) if strict else number

    # --- terms ---------------------------------------------------------------------------------------------------------

    def _term(self, item: _Item, argument: int) -> _Term:
        if isinstance(item, _Term):
            return item
        if not isinstance(item, str):
            raise _Fault(f"{_shown(item)} is no term", argument)
        term = self._terms.get(item)
        if term is None:
            term = self._terms[item] = self._symbol(item, argument)
        return term

    def _symbol(self, word: str, argument: int) -> _Term:
        if word in self._declared:
            tensor, element = word.split("_")
            return _Term({(tensor, int(element)): Fraction(1)}, Fraction(0))
        try:
            value = tokens.number(word)
        except (PropertyError, ValueError) as error:
            raise _Fault(str(error), argument) from error
        if value is None:
            raise _Fault(f"{tokens.shown(word)} is neither a number nor a declared variable", argument)
        return _Term({}, value)

    def _addition(self, items: list[_Item], start: int) -> _Item:
        return _sum(self._arguments(items))

    def _subtraction(self, items: list[_Item], start: int) -> _Item:
        first, *rest = self._arguments(items)
        minus = Fraction(-1)
        return _sum([first, *(_scaled(term, minus) for term in rest)]) if rest else _scaled(first, minus)

    def _product(self, items: list[_Item], start: int) -> _Item:
        result = _Term({}, Fraction(1))
        for argument, factor in enumerate(self._arguments(items), start=1):
            if result.coefficients and factor.coefficients:
                raise _Fault("non-linear term: a product of two variables", argument)
            result = _scaled(result, factor.constant) if not factor.coefficients else _scaled(factor, result.constant)
        return result

    def _arguments(self, items: list[_Item]) -> list[_Term]:
        if len(items) == 1:
            raise _Fault(f"{items[0]} needs at least one term")
        return [self._term(item, argument) for argument, item in enumerate(items) if argument]

    # --- the whole -----------------------------------------------------------------------------------------------------

    def _size(self, tensor: str) -> int:
        """Number of elements of X or Y; their indices must be 0 .. n-1."""
        indices = {int(name[2:]): offset for name, offset in self._declared.items() if name[0] == tensor}
        for index, offset in indices.items():
            if index >= len(indices):
                missing = next(i for i in range(len(indices)) if i not in indices)
                raise self._error(f"{tensor}_{index} is declared and {tensor}_{missing} is not: indices must be contiguous from 0", offset)
        return len(indices)

    def _require_bounds(self, bounded: NDArray[Any], size: int) -> None:
        missing = np.setdiff1d(np.arange(2 * size), bounded)
        if missing.size:
            element, side = divmod(int(missing[0]), 2)
            name = f"X_{element}"
            more = "" if missing.size == 1 else f" ({missing.size} such bounds are missing)"
            kind = "upper" if side == UPPER else "lower"
            raise self._error(f"{name} has no {kind} bound in some case{more}; every input needs both", self._declared[name])


_Rule = Callable[[_Parser, list[_Item], int], _Item]
_RULES: dict[str, _Rule] = {
    "declare-const": _Parser._declare,
    "assert": _Parser._assertion,
    "and": _Parser._conjunction,
    "or": _Parser._disjunction,
    **dict.fromkeys(("<=", ">=", "<", ">", "==", "="), _Parser._comparison),
    "+": _Parser._addition,
    "-": _Parser._subtraction,
    "*": _Parser._product,
}


def _as_part(formula: Formula) -> And | Or:
    return And((formula,)) if isinstance(formula, int) else formula


def _shown(item: _Item) -> str:
    match item:
        case str():
            return tokens.shown(item)
        case _Term():
            return "a term"
        case _Declare() | _Assert():
            return "a command"
        case _:
            return "a formula"


def _sum(terms: list[_Term]) -> _Term:
    total: dict[tuple[str, int], Fraction] = {}
    constant = Fraction(0)
    for term in terms:
        constant += term.constant
        for element, coefficient in term.coefficients.items():
            total[element] = total.get(element, Fraction(0)) + coefficient
    return _bounded(_Term({element: c for element, c in total.items() if c}, constant))


def _scaled(term: _Term, factor: Fraction) -> _Term:
    coefficients = {element: c * factor for element, c in term.coefficients.items()} if factor else {}
    return _bounded(_Term(coefficients, term.constant * factor))


def _bounded(term: _Term) -> _Term:
    if any(max(q.numerator.bit_length(), q.denominator.bit_length()) > _MAX_BITS for q in _numbers(term)):
        raise _Fault(f"a number in this term needs more than {_MAX_BITS} bits")
    return term


def _numbers(term: _Term) -> Iterator[Fraction]:
    yield term.constant
    yield from term.coefficients.values()
