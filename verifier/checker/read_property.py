"""VNN-LIB 1.0 text -> the list of unsafe cases that a certificate must close, written from the standard, in exact rationals.

    file    := command*             command := (declare-const NAME Real) | (assert formula)        NAME := X_i (inputs) | Y_j (outputs)
    formula := (and formula+) | (or formula+) | (R term term), R one of <= >= < > = ==
    term    := NUMBER | NAME | (+ term+) | (- term+) | (* term+), at most one factor of a product holds variables; (- t) negates

Anything else is refused with its line and column. All asserts together describe the unsafe set; the indices of X and of Y are 0 .. n-1;
names are declared before their use; a NUMBER is a decimal with an exponent of at most 400 and is read exactly; `;` begins a comment.
*Comparisons.* `left <= right` means: the sum of coefficients * variables <= bound, all variables on the left (`>=` with sides exchanged).
Without variables, true is left out and false is a contradiction. One single input: a bound on the box of its case, divided by the coefficient;
a strict one is an atom, too. Everything else is an atom, strict ones by their closure. `=`, `==`: `left <= right`, then `right <= left`.

*The list of cases* (normative). A conjunction is an ordered list of comparisons and an ordered list of `or`s. That of the file takes the
asserts in the order of the text. That of an `and` takes its plain operands (one bound or one atom) in the order of the text, then its compound
operands in the order of the text: inner `and`s, `or`s, equations, comparisons without variables, strict bounds of one input; their own comparisons
and `or`s stand in their place. An `or` of one operand is the conjunction of that operand. A case chooses one alternative of every `or`, depth
first: the first `or` varies slowest, the `or`s inside of a chosen alternative come before those that were waiting. Its box is the intersection
of the chosen bounds; its atoms are those of the chosen conjunctions, in the order of choice; nothing is merged, sorted or simplified. A case
whose bounds contradict each other (decided on the rationals), or with a false comparison, is vacuous: it has no number and is counted in
`dropped`. The others are numbered 0, 1, ... and must bound every input on both sides. At most 1,000,000 cases, vacuous ones included.
*Rounding* (ARITHMETIC 7). A bound q stands for the hull of {q, RN32(q), RN32(RN64(q))}: boxes are converted to float64 outward, an atom's
threshold is the smallest double >= the upper end of its hull. A number or bound of magnitude 2^128 - 2^103 or more is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from verifier.checker.network import Network
from verifier.checker.refusal import Rejected

Array = NDArray[Any]
RULE = "unsupported-property"
INFINITE = 2**128 - 2**103  # RN32 is infinite from here on
LARGEST = Fraction(INFINITE)
MOST_CASES, MOST_DEPTH, MOST_BITS, MOST_DIGITS, MOST_EXPONENT = 1_000_000, 10_000, 1 << 16, 4_000, 400
LOWER, UPPER, ATOM, FALSE = range(4)  # kinds of comparisons
CONSTANT, INPUTS = -1, 1 << 40  # keys of a term: the constant, j for Y_j, INPUTS + i for X_i

# A list without lists in it is one lexeme, because files repeat them; possessive, so that no text makes it slow. Every byte
# begins one of the alternatives: finditer skips nothing.
_LEXEME = re.compile(rb"(?:[ \t\r\n]++|;[^\n]*+)*+(?:(\([^();]*+\))|(\()|(\))|([^ \t\r\n();]++)|\Z)")
_WORD = re.compile(rb"[^ \t\r\n]+")
_NAME = re.compile(rb"([XY])_(0|[1-9][0-9]{0,8})")
_NUMBER = re.compile(rb"([+-]?)(?=\.?[0-9])([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?")


@dataclass(frozen=True, eq=False)
class Cases:
    """Case k is unsafe: input in lower[case_box[k]] .. upper[case_box[k]], and for all a in atom_start[k] .. atom_start[k + 1] - 1
    functional rows[row[a]] <= threshold[a]. A functional is ((place, coefficient), ...); places are flat outputs, then flat inputs."""

    n_in: int
    n_out: int
    lower: Array = field(repr=False)  # float64 [n_boxes, n_in]
    upper: Array = field(repr=False)
    crossed: Array = field(repr=False)  # bool [n_boxes], decided on the rationals
    case_box: Array = field(repr=False)  # int [N]
    atom_start: Array = field(repr=False)  # int [N + 1]
    row: Array = field(repr=False)  # int [n_atoms]
    threshold: Array = field(repr=False)  # float64 [n_atoms]
    rows: tuple[tuple[tuple[int, Fraction], ...], ...] = field(repr=False)
    dropped: int

    def __len__(self) -> int:
        return int(self.case_box.size)

    def atoms(self, case: int) -> int:
        """How many atoms the case has."""
        return int(self.atom_start[case + 1] - self.atom_start[case])

    def box(self, case: int) -> int:
        return int(self.case_box[case])

    def vacuous(self, case: int) -> bool:
        """Never: `dropped` cases have no number. Decided a second time, on the finished boxes."""
        return bool(self.crossed[self.case_box[case]])

    def functionals(self, rows: Array) -> tuple[Array, Array, Array | None, Array | None]:
        """Functionals by number (entries of `row`): coefficients of outputs [k, n_out] and of inputs [k, n_in], then how far these are
        from the exact ones, or None, None: not at all."""
        dense, radius = np.zeros((2, len(rows), self.n_out + self.n_in))
        for k, row in enumerate(rows):
            for place, exact in self.rows[int(row)]:
                dense[k, place], radius[k, place] = _nearest(exact)
        parts = dense[:, : self.n_out], dense[:, self.n_out :]
        return (*parts, radius[:, : self.n_out], radius[:, self.n_out :]) if radius.any() else (*parts, None, None)


PropertyText = Cases  # nothing in it depends on the network


def read(data: bytes) -> PropertyText:
    return Reader(data).cases()


def bind(text: PropertyText, network: Network) -> Cases:
    """By position: X_0, X_1, ... are the network's flat inputs, one after the other, Y_0, Y_1, ... its flat outputs."""
    n_in, n_out = (sum(network.nodes[i].size for i in nodes) for nodes in (network.inputs, network.outputs))
    if (text.n_in, text.n_out) != (n_in, n_out):
        raise Rejected(RULE, f"declares {text.n_in} inputs and {text.n_out} outputs, the network has {n_in} and {n_out}")
    return text


class And(NamedTuple):
    comparisons: Array  # their numbers
    choices: list[Or]
    size: int  # number of cases


Or = list[And]
Term = dict[int, Fraction]  # coefficients; what is absent is 0
Item = bytes | Term | int | And | Or | None  # int: a comparison, None: a command that has been carried out


class Reader:
    """Lists are reduced to one item when they close; an explicit stack holds the open ones."""

    lexeme, word = _LEXEME, _WORD

    def __init__(self, data: bytes) -> None:
        self._data = data.removeprefix(b"\xef\xbb\xbf")
        self._at = 0  # offset of the list that is being read, for messages
        self._declared: dict[bytes, int] = {}
        self._literals: dict[bytes, Term] = {}
        self._flat: dict[bytes, Item] = {}
        self._asserted: list[Item] = []
        self._values: dict[Fraction, int] = {Fraction(0): 0}
        self._rows: dict[tuple[tuple[int, Fraction], ...], int] = {}
        self._comparisons = [(FALSE, 0, 0)]  # kind, input element or functional, number of the value

    def cases(self) -> Cases:
        self._commands()
        return self._listed()

    def _listed(self) -> Cases:
        n_in, n_out = self._sizes()
        values = sorted(self._values, key=lambda value: (value.numerator / value.denominator, value))
        rank = np.empty(len(values), np.int32)  # comparing ranks compares the rationals
        rank[[self._values[value] for value in values]] = np.arange(len(values), dtype=np.int32)
        comparisons = np.array(self._comparisons, np.int32).T
        comparisons[2] = rank[comparisons[2]]
        whole = np.repeat(np.array([[-1], [len(values)]], np.int32), n_in, axis=1)
        boxes, case_box, atoms, dropped = _list(self._conjunction(self._asserted), comparisons, whole)
        rows = tuple(tuple((self._place(v, n_out), c) for v, c in row) for row in self._rows)
        low, high = _hull(values)
        _, row, bound = comparisons[:, np.concatenate([np.zeros(0, np.int32), *atoms])]
        start, crossed = np.cumsum([0, *map(len, atoms)]), np.asarray((boxes[:, 0] > boxes[:, 1]).any(1))
        arrays = low[boxes[:, 0]], high[boxes[:, 1]], crossed, case_box, start, row, high[bound]
        for array in arrays:
            array.flags.writeable = False
        return Cases(n_in, n_out, *arrays, rows, dropped)

    def _place(self, variable: int, n_out: int) -> int:
        """Of a variable's key: its place in a row."""
        return variable - INPUTS + n_out if variable >= INPUTS else variable

    def _sizes(self) -> tuple[int, int]:
        """How many inputs and outputs are declared."""
        indices = [sorted(v - base for v in self._declared.values() if (v >= INPUTS) == (base == INPUTS)) for base in (INPUTS, 0)]
        n_in, n_out = map(len, indices)
        if indices != [list(range(n_in)), list(range(n_out))] or not n_in:
            raise Rejected(RULE, "the indices of X or of Y are not 0 .. n-1, or no X is declared")
        return n_in, n_out

    def _refuse(self, why: str, word: bytes = b"") -> NoReturn:
        line, column = self._data.count(b"\n", 0, self._at) + 1, self._at - self._data.rfind(b"\n", 0, self._at)
        raise Rejected(RULE, f"line {line}, column {column}: {word[:60].decode('utf-8', 'replace')} {why}".replace("  ", " "))

    def _commands(self) -> None:
        if re.search(rb"\r(?!\n)", self._data) is not None:
            self._refuse("there is a carriage return without a line feed: it may end a comment or not")
        stack: list[tuple[int, list[Item]]] = []
        items: list[Item] = []
        start = 0
        for match in self.lexeme.finditer(self._data):
            group = match.lastindex
            if group == 1:
                text = match[1]
                item = self._flat.get(text)
                if item is None:  # new, or a command: that is carried out as often as it is written
                    item = self._flat[text] = self._reduce(self.word.findall(text[1:-1]), match.start(1))
                items.append(item)
            elif group == 2:
                stack.append((start, items))
                start, items = match.start(2), []
            elif group == 3 and stack:
                item = self._reduce(items, start)
                start, items = stack.pop()
                items.append(item)
            elif group is not None:
                items.append(match[group])
            if len(stack) > MOST_DEPTH or (not stack and items and items.pop() is not None):
                self._at = match.start(group or 0)
                self._refuse(f"what is no command, or lists deeper than {MOST_DEPTH}")
        if stack:
            self._at = start
            self._refuse("a list without end")

    def _reduce(self, items: list[Any], start: int) -> Item:
        self._at = start
        match items:
            case [b"declare-const", bytes(name), b"Real"] if (match := _NAME.fullmatch(name)) and name not in self._declared:
                self._declared[name] = int(match[2]) + (INPUTS if match[1] == b"X" else 0)
                return None
            case [b"assert", int() | And() | list() as formula]:
                self._asserted.append(formula)
                return None
            case [b"and", _, *_]:
                return self._conjunction(sorted(items[1:], key=lambda item: type(item) is not int))
            case [b"or", formula]:
                return self._conjunction([formula])
            case [b"or", *formulas] if formulas:
                return [o for part in formulas for o in (part if isinstance(part, list) else [self._conjunction([part])])]
            case [b"<=" | b"<" as relation, left, right]:
                return self._at_most(left, right, relation == b"<")
            case [b">=" | b">" as relation, left, right]:
                return self._at_most(right, left, relation == b">")
            case [b"=" | b"==", left, right]:
                return self._conjunction([self._at_most(left, right, False), self._at_most(right, left, False)])
            case [b"+" | b"-" | b"*" as operation, _, *_]:
                return self._arithmetic(operation, [self._term(item) for item in items[1:]])
            case _:
                head = items[0] if items and isinstance(items[0], bytes) else b"an empty list, or a list of lists,"
                self._refuse("with such operands is nothing that this version of VNN-LIB knows, or a name twice, or out of place", head)

    def _conjunction(self, items: list[Item]) -> And:
        """All of the items, in this order; inner conjunctions are spliced."""
        comparisons: list[int] = []
        choices: list[Or] = []
        for item in items:
            if isinstance(item, int):
                comparisons.append(item)
            elif isinstance(item, list):
                choices.append(item)
            elif isinstance(item, And):
                comparisons.extend(item.comparisons.tolist())
                choices.extend(item.choices)
            else:
                self._refuse("a formula is expected where a word, a term or a command stands")
        if _size(choices) > MOST_CASES:
            self._refuse(f"more than {MOST_CASES} cases")
        return And(np.array(comparisons, np.int32), choices, _size(choices))

    def _at_most(self, left: Item, right: Item, strict: bool) -> Item:
        """left <= right (< if strict): the number of a new comparison, or a conjunction. Nearly all are bounds of one input as they stand."""
        for name, number, kind in ((left, right, UPPER), (right, left, LOWER)):
            if not strict and isinstance(name, bytes) and isinstance(number, bytes) and self._declared.get(name, 0) >= INPUTS:
                (constant, value), *more = self._term(number).items() or ((CONSTANT, Fraction(0)),)
                if constant == CONSTANT and not more:
                    self._comparisons.append((kind, self._declared[name] - INPUTS, self._values.setdefault(value, len(self._values))))
                    return len(self._comparisons) - 1
        term = self._arithmetic(b"-", [self._term(left), self._term(right)])
        bound = -term.pop(CONSTANT, Fraction(0))
        if not term:
            return self._conjunction([] if bound > 0 or (bound == 0 and not strict) else [0])
        (variable, coefficient), *more = term.items()
        box = not more and variable >= INPUTS
        new = [(UPPER if coefficient > 0 else LOWER, variable - INPUTS, bound / coefficient)] if box else []
        if strict or not box:
            new.append((ATOM, self._rows.setdefault(tuple(sorted(term.items())), len(self._rows)), bound))
        if any(abs(value) >= LARGEST for _, _, value in new):
            self._refuse("a bound of 2^128 - 2^103 or more in magnitude is infinite in float32")
        first = len(self._comparisons)
        self._comparisons.extend((kind, index, self._values.setdefault(value, len(self._values))) for kind, index, value in new)
        return first if len(new) == 1 else self._conjunction([first, first + 1])

    def _term(self, item: Item) -> Term:
        if isinstance(item, dict):
            return item
        word = item if isinstance(item, bytes) else b"a formula or a command"
        if word in self._declared:
            return {self._declared[word]: Fraction(1)}
        if word not in self._literals:
            match = _NUMBER.fullmatch(word)
            if match is None or len(word) > MOST_DIGITS or abs(int(match[4] or b"0")) > MOST_EXPONENT:
                self._refuse(f"is no declared variable, and no decimal of at most {MOST_DIGITS} characters and exponent {MOST_EXPONENT}", word)
            sign, whole, after, exponent = match.groups(b"0")
            digits, places = int(sign + whole + after), int(exponent) - len(after)
            value = Fraction(digits * 10**places) if places >= 0 else Fraction(digits, 10**-places)
            if abs(value.numerator) >= INFINITE * value.denominator:
                self._refuse("is infinite in float32 (2^128 - 2^103 or more)", word)
            self._literals[word] = {CONSTANT: value}
        return self._literals[word]

    def _arithmetic(self, operation: bytes, terms: list[Term]) -> Term:
        """Sum, difference (of one: its negative) or product of terms; a new dictionary."""
        total: Term = {CONSTANT: Fraction(1)} if operation == b"*" else {}
        for k, term in enumerate(terms):
            if operation == b"*":
                if max(total, default=CONSTANT) != CONSTANT != max(term, default=CONSTANT):
                    self._refuse("a product of variables")
                total = {max(v, w): a * b for v, a in total.items() for w, b in term.items()}  # one of v, w is CONSTANT, the smallest
            else:
                negative = operation == b"-" and (k > 0 or len(terms) == 1)
                for v, c in term.items():
                    total[v] = total.get(v, 0) + (-c if negative else c)
        if any(q.numerator.bit_length() > MOST_BITS or q.denominator.bit_length() > MOST_BITS for q in total.values()):
            self._refuse(f"a number of more than {MOST_BITS} bits")
        return {v: c for v, c in total.items() if c}


def _size(choices: Sequence[Or]) -> int:
    return math.prod(sum(option.size for option in choice) for choice in choices)


def _list(root: And, comparisons: Array, whole: Array) -> tuple[Array, Array, list[Array], int]:
    """Boxes as ranks [n_boxes, 2, n_in]; box and atoms (numbers of comparisons) of every case; how many are vacuous.
    comparisons [3, K]: kind, index, rank. `whole` [2, n_in]: the box without bounds, -1 and the number of ranks."""
    boxes: dict[bytes, int] = {}
    case_box: list[int] = []
    atoms: list[Array] = []
    dropped = 0
    # The `or`s still to be decided are few: each doubles the number of cases.
    stack: list[tuple[And, Array, Array, tuple[Or, ...]]] = [(root, whole, np.zeros(0, np.int32), ())]
    while stack:
        chosen, region, found, todo = stack.pop()
        kind, index, rank = comparisons[:, chosen.comparisons]
        low, high = kind == LOWER, kind == UPPER
        if low.any() or high.any():
            region = region.copy()
            np.maximum.at(region[0], index[low], rank[low])
            np.minimum.at(region[1], index[high], rank[high])
        if (kind == FALSE).any() or (region[0] > region[1]).any():
            dropped += chosen.size * _size(todo)
            continue
        found = np.concatenate([found, chosen.comparisons[kind == ATOM]])
        if chosen.choices or todo:
            first, *rest = *chosen.choices, *todo
            stack.extend((option, region, found, tuple(rest)) for option in reversed(first))
            continue
        missing = (region == whole).any(axis=0)
        if missing.any():
            raise Rejected(RULE, f"X_{missing.argmax()} lacks a bound in case {len(case_box)}")
        case_box.append(boxes.setdefault(region.tobytes(), len(boxes)))
        atoms.append(found)
    return np.frombuffer(b"".join(boxes), np.int32).reshape(-1, *whole.shape), np.asarray(case_box, np.int64), atoms, dropped


def _nearest(value: Fraction) -> tuple[float, float]:
    """The nearest double, and a double >= its distance from the value (0 if there is none)."""
    try:
        double = value.numerator / value.denominator  # int / int is rounded correctly
    except OverflowError as error:
        raise Rejected(RULE, "a coefficient, multiplied out, is beyond float64") from error
    rest = abs(value - Fraction(double))
    return double, float(np.nextafter(rest.numerator / rest.denominator, np.inf)) if rest else 0.0


def _hull(values: list[Fraction]) -> tuple[Array, Array]:
    """Outward float64 ends of the hull of {q, RN32(q), RN32(RN64(q))} for every q.
    RN32(q) is RN32 of q rounded to odd: of the two doubles around an inexact q the one with an odd last bit. It lies on the same
    side of every float32 and of every midpoint of two float32s as q does, since these are doubles with an even last bit.
    """
    near = np.array([value.numerator / value.denominator for value in values], np.float64)
    if not (np.abs(near) < float(LARGEST)).all():
        raise Rejected(RULE, "a bound rounds to 2^128 - 2^103 or more: infinite in float32")
    crosswise = ((q.numerator * d, n * q.denominator) for q, (n, d) in zip(values, map(float.as_integer_ratio, near.tolist()), strict=True))
    rest = np.array([(a > b) - (a < b) for a, b in crosswise], np.int8)
    other = np.nextafter(near, np.where(rest > 0, np.inf, -np.inf))
    odd = np.where((rest == 0) | (near.view(np.int64) & 1 == 1), near, other)
    once, twice = odd.astype(np.float32).astype(np.float64), near.astype(np.float32).astype(np.float64)
    low, high = np.where(rest < 0, other, near), np.where(rest > 0, other, near)
    return np.minimum(low, np.minimum(once, twice)), np.maximum(high, np.maximum(once, twice))
