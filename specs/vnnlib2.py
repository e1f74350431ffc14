"""VNN-LIB 2.0 reader: one network with typed tensors, linear atoms over any of its inputs and outputs.

    file    := (vnnlib-version <2.0>) network (assert formula)+
    network := (declare-network NAME (declare-input NAME TYPE SHAPE)+ (declare-output NAME TYPE SHAPE)+)
    TYPE    := real | float32                SHAPE := [] | [n, ...]          NAME begins with a letter; letters, digits and _ follow
    formula := (and formula+) | (or formula+) | (R term term), R one of <= >= < > == !=
    term    := NUMBER | NAME (a tensor of shape []) | NAME[i, ...] | (+ term+) | (- term+) | (* term+)

NUMBER is -?digits(.digits)?, read exactly. `a == b` is `a <= b` and `b <= a`; `a != b` is `a < b` or `b < a`. What else atoms become is
told in `specs.lists`. Written after the standard's grammar (VNNLIB-Standard, syntax/grammar.cf); its hidden nodes, several networks, products
of variables and 2.1's `initialized` are recognised and refused. More is read than the standard's own parser does: integers as numbers
everywhere, and blanks after a parenthesis.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

from specs import tokens
from specs.canonical import Property, Variable
from specs.errors import PropertyError
from specs.lists import FORMULA_RULES, Command, Fault, Item, Limits, ListParser, Rule, Term, shown

VERSIONS = ("2.0", "2.1")
ELEMENT_TYPES = {"real": "real", "Real": "real", "float32": "float32"}
MOST_ELEMENTS = 1 << 28  # of all tensors together

_QUERY = re.compile(r"(?:[ \t\r\n]++|;[^\n]*+)*+\([ \t\r\n]*+(?:vnnlib-version|declare-network)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_INDEXED = re.compile(r"([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*(?:\[([^\]]*)\])?")  # [1]: the name, [2]: what the brackets hold, None without brackets
_INDEX = re.compile(r"[ \t\r\n]*(0|[1-9][0-9]{0,8})[ \t\r\n]*")
_BLANK = " \t\r\n"
_RESERVED = ("and", "or", "initialized")


def is_query(text: str) -> bool:
    """Whether the text is of version 2: it begins with (vnnlib-version or (declare-network."""
    return _QUERY.match(text) is not None


@dataclass(frozen=True)
class _Version(Command):
    text: str


@dataclass(frozen=True)
class _Tensor(Command):
    kind: str
    variable: Variable


@dataclass(frozen=True)
class _Network(Command):
    name: str
    tensors: tuple[_Tensor, ...]


@dataclass(frozen=True)
class _Place:
    """A declared tensor: its kind, and the first of its elements among all of that kind."""

    kind: str
    variable: Variable
    first: int


class Parser(ListParser):
    """Version 2. Names are global; a network is declared before formulas use its tensors."""

    version = "2.0"
    commands = "vnnlib-version, declare-network and assert"

    def __init__(self, text: str, limits: Limits) -> None:
        super().__init__(text, limits)
        self._version: str | None = None
        self._network: _Network | None = None
        self._network_at = 0
        self._places: dict[str, _Place] = {}
        self._sizes = {"input": 0, "output": 0}  # elements declared so far

    def property(self, source: str) -> Property:
        found = super().property(source)
        if self._version is None or self._network is None:
            raise PropertyError("no network is declared", 1, 1)
        return replace(found, version=self._version, network=self._network.name)

    def _lexemes(self) -> Iterator[tuple[str, int]]:
        return tokens.lexemes_of_2(self._text)

    def _words(self, flat_list: str, offset: int) -> Iterator[tuple[str, int]]:
        return tokens.words_of_2(flat_list, offset)

    # --- commands ------------------------------------------------------------------------------------------------------

    def _is_version(self, items: list[Item], start: int) -> Item:
        if len(items) != 2 or not isinstance(items[1], str) or items[1][1:-1] not in VERSIONS:
            what = shown(items[1]) if len(items) == 2 else "this"
            raise Fault(f"{what} is no version that can be read: expected (vnnlib-version <2.0>), or <2.1>", len(items) - 1)
        return _Version(items[1][1:-1])

    def _declare_network(self, items: list[Item], start: int) -> Item:
        if self._version is None:
            raise Fault("a network is declared before the version: the first line must be (vnnlib-version <2.0>)")
        if len(items) < 2 or not isinstance(items[1], str):
            raise Fault("expected (declare-network NAME (declare-input ...) ... (declare-output ...) ...)")
        _require_name(items[1], 1)
        if self._network is not None:
            raise Fault(f"a second network: several networks are not supported yet, and {self._network.name} is declared already")
        if self._asserted:
            raise Fault("the network is declared after an assert")
        tensors: list[_Tensor] = []
        for argument, item in enumerate(items[2:], start=2):
            if not isinstance(item, _Tensor):
                raise Fault(f"{shown(item)} in the place of a declare-input or declare-output", argument)
            self._place(item, argument)
            tensors.append(item)
        for kind, size in self._sizes.items():
            if not size:
                raise Fault(f"the network {items[1]} has no declare-{kind}")
        self._network, self._network_at = _Network(items[1], tuple(tensors)), start
        return self._network

    def _place(self, tensor: _Tensor, argument: int) -> None:
        """Make a tensor known."""
        name, kind = tensor.variable.name, tensor.kind
        if name in self._places:
            raise Fault(f"{name} is declared twice", argument)
        if kind == "input" and self._sizes["output"]:
            raise Fault("an input is declared after an output; all inputs come first", argument)
        first = self._sizes[kind]
        self._sizes[kind] += tensor.variable.size
        if sum(self._sizes.values()) > MOST_ELEMENTS:
            raise Fault(f"the tensors have more than {MOST_ELEMENTS} elements", argument)
        self._places[name] = _Place(kind, tensor.variable, first)
        if kind == "input":
            self._first_inputs[name] = first

    def _declare_tensor(self, items: list[Item], start: int) -> Item:
        head, *rest = items
        kind = str(head).removeprefix("declare-")
        words = [item for item in rest if isinstance(item, str)]
        if len(words) == 3 and len(rest) == 3:
            what = "`initialized`" if words[2] == "initialized" else f"{tokens.shown(words[2])} after the shape"
            raise Fault(f"{what} is not supported yet: expected (declare-{kind} NAME TYPE [shape])", 3)
        match = _INDEXED.fullmatch(words[1]) if len(words) == 2 and len(rest) == 2 else None
        if match is None or match[2] is None:
            raise Fault(f"expected (declare-{kind} NAME TYPE [shape])")
        _require_name(words[0], 1)
        if match[1] not in ELEMENT_TYPES:
            raise Fault(
                f"element type {tokens.shown(match[1])} is not supported: what is proven here holds for float32, or over the reals (declare "
                "`real` if that is enough)", 2,
            )  # fmt: skip
        shape = _integers(match[2], 2)
        if not all(shape):
            raise Fault(f"{words[0]} has an axis of length 0", 2)
        return _Tensor(kind, Variable(words[0], shape, ELEMENT_TYPES[match[1]]))

    def _refused(self, items: list[Item], start: int) -> Item:
        why = {
            "declare-hidden": "hidden nodes are not supported yet",
            "isomorphic-to": "several networks are not supported yet",
            "equal-to": "several networks are not supported yet",
            "=": "VNN-LIB 2 writes equality as ==",
        }
        raise Fault(why[str(items[0])])

    def _command(self, item: Command, offset: int) -> None:
        match item:
            case _Version(text):
                if self._version is not None:
                    raise self._error("the version stands twice", offset)
                self._version = text
            case _Tensor():
                raise self._error("a tensor is declared outside of a network", offset)

    # --- terms ---------------------------------------------------------------------------------------------------------

    def _element(self, word: str) -> Term | None:
        match = _INDEXED.fullmatch(word)
        if match is None:
            return None
        if match[1] not in self._places:
            raise Fault(f"{match[1]} is not declared")
        variable = self._places[match[1]].variable
        if match[2] is not None and not match[2].strip(_BLANK):
            raise Fault(f"{match[1]}[] is no element: a tensor of shape [] is written without brackets")
        index = () if match[2] is None else _integers(match[2], 0)
        if len(index) != len(variable.shape):
            raise Fault(f"{match[1]} has {len(variable.shape)} axes, and {len(index)} indices are given")
        flat = 0
        for i, n in zip(index, variable.shape, strict=True):
            if i >= n:
                raise Fault(f"index {i} is out of range: {match[1]} has the shape {list(variable.shape)}")
            flat = flat * n + i
        return Term({(match[1], flat): Fraction(1)}, Fraction(0))

    def _literal(self, word: str) -> Fraction | None:
        value = tokens.number_of_2(word)
        if value is None:
            raise Fault(f"{tokens.shown(word)} is neither a number nor a declared variable (numbers have no exponent and no sign +: -0.001)")
        return value

    def _tensors(self) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
        if self._network is None:
            raise PropertyError("no network is declared", 1, 1)
        if not self._asserted:
            raise self._error("nothing is asserted", self._network_at)
        found = [[tensor.variable for tensor in self._network.tensors if tensor.kind == kind] for kind in ("input", "output")]
        return tuple(found[0]), tuple(found[1])

    def _input(self, element: int) -> tuple[str, int]:
        place = next(p for p in self._places.values() if p.kind == "input" and p.first <= element < p.first + p.variable.size)
        return element_name(place.variable, element - place.first), self._network_at

    rules: ClassVar[Mapping[str, Rule]] = {
        "vnnlib-version": _is_version, "declare-network": _declare_network, "declare-input": _declare_tensor,
        "declare-output": _declare_tensor, **FORMULA_RULES, "!=": ListParser._comparison,
        **dict.fromkeys(("=", "declare-hidden", "isomorphic-to", "equal-to"), _refused),
    }  # fmt: skip


def element_name(variable: Variable, flat: int) -> str:
    """How a text calls an element: `X[0,3]`, or `X` where the shape is []."""
    index: list[int] = []
    for n in reversed(variable.shape):
        flat, i = divmod(flat, n)
        index.insert(0, i)
    return f"{variable.name}[{','.join(map(str, index))}]" if index else variable.name


def _require_name(word: str, argument: int) -> None:
    if _NAME.fullmatch(word) is None or word in _RESERVED:
        why = f"it begins with a letter, letters, digits and _ follow; {', '.join(_RESERVED)} are taken"
        raise Fault(f"{tokens.shown(word)} is no name: {why}", argument)


def _integers(text: str, argument: int) -> tuple[int, ...]:
    """The numbers between brackets."""
    if not text.strip(_BLANK):
        return ()
    found = [_INDEX.fullmatch(part) for part in text.split(",")]
    if not all(found):
        raise Fault(f"[{text}]: expected integers of at most nine digits, separated by commas", argument)
    return tuple(int(match[1]) for match in found if match is not None)
