"""What the dialects of VNN-LIB share: nested lists, formulas and linear terms. A dialect says what words, names and commands are.

An atom over a single input element bounds the box of its case (a strict one bounds it by its closure and stays as an atom as
well); every other atom stays as written, moved to the form sum <= bound. All `assert`s together describe the unsafe set.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from specs import tokens, vacuous
from specs.canonical import Atom, Property, Variable
from specs.cases import FormulaCases
from specs.errors import PropertyError
from specs.formula import LOWER, UPPER, And, AtomTable, Conjunction, Formula, FrozenAtoms, Or, normalise

_MAX_BITS = 1 << 16


@dataclass(frozen=True)
class Limits:
    """What the reader accepts: decompressed bytes, depth of nested parentheses, number of cases."""

    size: int = 4 << 30
    depth: int = 100_000
    cases: int = 1_000_000


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class Term:
    """sum of coefficient * element + constant, an element being (tensor, flat index). Shared between its readers, never changed."""

    coefficients: dict[tuple[str, int], Fraction]
    constant: Fraction


class Command:
    """A list that is no formula and no term."""


@dataclass(frozen=True)
class Assert(Command):
    """(assert formula)"""

    formula: Formula


Item = str | Term | Formula | Command


class Fault(Exception):
    """A complaint about argument `argument` of the list being read (0 is its head)."""

    def __init__(self, message: str, argument: int = 0) -> None:
        super().__init__(message)
        self.argument = argument


class ListParser(ABC):
    """Reads lists bottom-up with an explicit stack: a list is reduced to one item when it closes.

    `first_inputs` holds the input tensors: their first element's place among all input elements. It is filled before formulas are read.
    """

    version: ClassVar[str]
    rules: ClassVar[Mapping[str, Rule]]  # by the head of a list
    commands: ClassVar[str]  # the commands that may stand at the top level, for messages

    def __init__(self, text: str, limits: Limits) -> None:
        self._text = text
        self._limits = limits
        self._first_inputs: dict[str, int] = {}
        self._atoms = AtomTable()
        self._asserted: list[Formula] = []
        self._flat: dict[str, Item] = {}  # flat lists already read; their meaning never changes, as names are never undeclared
        self._terms: dict[str, Term] = {}

    @abstractmethod
    def _lexemes(self) -> Iterator[tuple[str, int]]:
        """The lexemes of the text with their offsets: "(", ")", words, and lists without inner lists."""

    @abstractmethod
    def _words(self, flat_list: str, offset: int) -> Iterator[tuple[str, int]]:
        """The lexemes inside a list without inner lists, parentheses included."""

    @abstractmethod
    def _command(self, item: Command, offset: int) -> None:
        """Carry out a command of the top level other than assert."""

    @abstractmethod
    def _element(self, word: str) -> Term | None:
        """The term that a word names if it names a declared element. Raises Fault (about argument 0) for an element that does not exist."""

    @abstractmethod
    def _literal(self, word: str) -> Fraction | None:
        """The value of a word that is a number."""

    @abstractmethod
    def _tensors(self) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
        """The declared inputs and outputs, once the text has been read."""

    @abstractmethod
    def _input(self, element: int) -> tuple[str, int]:
        """The name of an input element by its place among all, and the offset of its declaration."""

    def property(self, source: str) -> Property:
        """The property that the text describes."""
        self._read_commands()
        inputs, outputs = self._tensors()
        atoms = self._atoms.freeze()
        root = normalise(self._asserted, atoms)
        if root.size > self._limits.cases:
            offset = max(root.choices, key=lambda choice: choice.size).offset
            raise self._error(f"the property has more than {self._limits.cases} cases; this `or` contributes", offset)
        again = self._again(root, atoms)
        if again is not None:
            return again.property(source)
        self._require_bounds(root.bounded, sum(v.size for v in inputs))
        cases = FormulaCases(root, atoms, inputs)
        named = vacuous.describe(cases, atoms, lambda offset: tokens.place(self._text, offset)[0], lambda element: self._input(element)[0])
        return Property(inputs, outputs, cases, cases.vacuous, self.version, source, vacuous_cases=named)

    def _again(self, root: Conjunction, atoms: FrozenAtoms) -> ListParser | None:
        """A parser that reads the text once more, now that it is known what it says; None where this one knew."""
        return None

    def _error(self, message: str, offset: int) -> PropertyError:
        return PropertyError(message, *tokens.place(self._text, offset))

    # --- lists ---------------------------------------------------------------------------------------------------------

    def _read_commands(self) -> None:
        stack: list[tuple[int, list[Item], list[int]]] = []  # open lists: offset, items, offsets of the items
        items: list[Item] = []
        offsets: list[int] = []
        flat, depth_limit = self._flat, self._limits.depth
        start = 0
        for lexeme, offset in self._lexemes():
            if lexeme == "(":
                if len(stack) >= depth_limit:
                    raise self._error(f"parentheses nested deeper than {depth_limit}", offset)
                stack.append((start, items, offsets))
                start, items, offsets = offset, [], []
                continue
            item: Item
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

    def _read_flat(self, lexeme: str, start: int) -> Item:
        inside = list(self._words(lexeme, start))[1:-1]
        return self._reduce([word for word, _ in inside], [offset for _, offset in inside], start)

    def _reduce(self, items: list[Item], offsets: list[int], start: int) -> Item:
        if not items:
            raise self._error("empty list", start)
        head = items[0]
        rule = self.rules.get(head) if isinstance(head, str) else None
        if rule is None:
            name = tokens.shown(head) if isinstance(head, str) else "a list"
            raise self._error(f"{name} is no command or operator of VNN-LIB {self.version}; known are {', '.join(self.rules)}", offsets[0])
        try:
            return rule(self, items, start)
        except Fault as fault:
            raise self._error(str(fault), offsets[fault.argument]) from None

    def _execute(self, item: Item, offset: int) -> None:
        match item:
            case Assert(formula):
                self._asserted.append(formula)
            case Command():
                self._command(item, offset)
            case str():
                raise self._error(f"{tokens.shown(item)} stands outside of any command", offset)
            case _:
                raise self._error(f"this is no command: only {self.commands} may stand at the top level", offset)

    def _assertion(self, items: list[Item], start: int) -> Item:
        if len(items) != 2:
            raise Fault(f"assert takes one formula, not {len(items) - 1}")
        if not isinstance(items[1], int | And | Or):
            raise Fault(f"{shown(items[1])} is no formula", 1)
        return Assert(items[1])

    # --- formulas ------------------------------------------------------------------------------------------------------

    def _conjunction(self, items: list[Item], start: int) -> Item:
        numbers, parts = [i for i in items if type(i) is int], tuple(i for i in items if isinstance(i, And | Or))
        self._require_formulas(items, len(numbers) + len(parts))
        return And(np.asarray(numbers, np.int32), parts)

    def _disjunction(self, items: list[Item], start: int) -> Item:
        options = tuple(i for i in items if isinstance(i, int | And | Or))
        self._require_formulas(items, len(options))
        return Or(options, start)

    def _require_formulas(self, items: list[Item], found: int) -> None:
        if len(items) == 1:
            raise Fault(f"empty {items[0]}")
        if found != len(items) - 1:
            wrong = next(k for k, item in enumerate(items) if k and not isinstance(item, int | And | Or))
            raise Fault(f"{shown(items[wrong])} is no formula", wrong)

    def _comparison(self, items: list[Item], start: int) -> Item:
        if len(items) != 3:
            raise Fault(f"{items[0]} compares two terms, not {len(items) - 1}")
        left, right = self._term(items[1], 1), self._term(items[2], 2)
        match items[0]:
            case "<=" | "<" as sign:
                return self._at_most(left, right, sign == "<", start)
            case ">=" | ">" as sign:
                return self._at_most(right, left, sign == ">", start)
            case "==" | "=":
                return And((), tuple(_as_part(self._at_most(*pair, False, start)) for pair in ((left, right), (right, left))))
            case "!=":
                return Or((self._at_most(left, right, True, start), self._at_most(right, left, True, start)), start)
            case other:
                raise Fault(f"unknown comparison {shown(other)}")

    def _at_most(self, left: Term, right: Term, strict: bool, start: int) -> Formula:
        """left <= right (< if strict)."""
        if not strict and (plain := _plain_bound(left, right)) is not None and plain[0] in self._first_inputs:
            tensor, element, side, value = plain
            return self._atoms.add_bound(side, self._first_inputs[tensor] + element, value, start)
        difference = total([left, scaled(right, Fraction(-1))])
        terms = tuple((tensor, i, c) for (tensor, i), c in difference.coefficients.items())
        bound = -difference.constant
        if not terms:
            return And(()) if bound > 0 or (bound == 0 and not strict) else And((0,))
        linear = Atom(terms, bound, strict)
        if len(terms) > 1 or terms[0][0] not in self._first_inputs:
            return self._atoms.add_linear(linear, start)
        tensor, element, coefficient = terms[0]
        side, place = UPPER if coefficient > 0 else LOWER, self._first_inputs[tensor] + element
        number = self._atoms.add_bound(side, place, bound / coefficient, start)
        return And((number, self._atoms.add_linear(linear, start))) if strict else number

    # --- terms ---------------------------------------------------------------------------------------------------------

    def _term(self, item: Item, argument: int) -> Term:
        if isinstance(item, Term):
            return item
        if not isinstance(item, str):
            raise Fault(f"{shown(item)} is no term", argument)
        term = self._terms.get(item)
        if term is None:
            term = self._terms[item] = self._symbol(item, argument)
        return term

    def _symbol(self, word: str, argument: int) -> Term:
        try:
            named = self._element(word)
            value = self._literal(word) if named is None else None
        except (PropertyError, Fault, ValueError) as error:
            raise Fault(str(error), argument) from error
        if named is not None:
            return named
        if value is None:
            raise Fault(f"{tokens.shown(word)} is neither a number nor a declared variable", argument)
        return Term({}, value)

    def _addition(self, items: list[Item], start: int) -> Item:
        return total(self._arguments(items))

    def _subtraction(self, items: list[Item], start: int) -> Item:
        first, *rest = self._arguments(items)
        minus = Fraction(-1)
        return total([first, *(scaled(term, minus) for term in rest)]) if rest else scaled(first, minus)

    def _product(self, items: list[Item], start: int) -> Item:
        result = Term({}, Fraction(1))
        for argument, factor in enumerate(self._arguments(items), start=1):
            if result.coefficients and factor.coefficients:
                raise Fault("non-linear term: a product of two variables", argument)
            result = scaled(result, factor.constant) if not factor.coefficients else scaled(factor, result.constant)
        return result

    def _arguments(self, items: list[Item]) -> list[Term]:
        if len(items) == 1:
            raise Fault(f"{items[0]} needs at least one term")
        return [self._term(item, argument) for argument, item in enumerate(items) if argument]

    def _require_bounds(self, bounded: NDArray[Any], size: int) -> None:
        """`bounded`: the codes 2 element + side that every case bounds, sorted. `size` may be far more than the text bounds."""
        missing = 2 * size - bounded.size
        if missing:
            gaps = np.flatnonzero(bounded != np.arange(bounded.size))
            element, side = divmod(int(gaps[0]) if gaps.size else bounded.size, 2)
            name, declared = self._input(element)
            more = "" if missing == 1 else f" ({missing} such bounds are missing)"
            kind = "upper" if side == UPPER else "lower"
            raise self._error(f"{name} has no {kind} bound in some case{more}; every input needs both", declared)


Rule = Callable[[Any, list[Item], int], Item]
FORMULA_RULES: Mapping[str, Rule] = {
    "assert": ListParser._assertion,
    "and": ListParser._conjunction,
    "or": ListParser._disjunction,
    **dict.fromkeys(("<=", ">=", "<", ">", "=="), ListParser._comparison),
    "+": ListParser._addition,
    "-": ListParser._subtraction,
    "*": ListParser._product,
}


def _plain_bound(left: Term, right: Term) -> tuple[str, int, int, Fraction] | None:
    """(tensor, element, side, value) where left <= right bounds one element by a number as it stands: nearly all that large files say."""
    named, number, side = (right, left, LOWER) if right.coefficients else (left, right, UPPER)
    if number.coefficients or len(named.coefficients) != 1 or named.constant:
        return None
    ((tensor, element), coefficient), = named.coefficients.items()
    return (tensor, element, side, _bounded(number).constant) if coefficient == 1 else None


def _as_part(formula: Formula) -> And | Or:
    return And((formula,)) if isinstance(formula, int) else formula


def shown(item: Item) -> str:
    """What kind of item it is, for messages."""
    match item:
        case str():
            return tokens.shown(item)
        case Term():
            return "a term"
        case Command():
            return "a command"
        case _:
            return "a formula"


def total(terms: list[Term]) -> Term:
    """The sum of the terms, without elements that cancel out."""
    coefficients: dict[tuple[str, int], Fraction] = {}
    constant = Fraction(0)
    for term in terms:
        constant += term.constant
        for element, coefficient in term.coefficients.items():
            coefficients[element] = coefficients.get(element, Fraction(0)) + coefficient
    return _bounded(Term({element: c for element, c in coefficients.items() if c}, constant))


def scaled(term: Term, factor: Fraction) -> Term:
    """The term times a number."""
    coefficients = {element: c * factor for element, c in term.coefficients.items()} if factor else {}
    return _bounded(Term(coefficients, term.constant * factor))


def _bounded(term: Term) -> Term:
    if any(max(q.numerator.bit_length(), q.denominator.bit_length()) > _MAX_BITS for q in _numbers(term)):
        raise Fault(f"a number in this term needs more than {_MAX_BITS} bits")
    return term


def _numbers(term: Term) -> Iterator[Fraction]:
    yield term.constant
    yield from term.coefficients.values()
