"""VNN-LIB 2.0 reader: networks with typed tensors, and polynomial atoms over their inputs, outputs and hidden tensors.

    file    := (vnnlib-version <2.0>) network+ (assert formula)+
    network := (declare-network NAME relation? input+ hidden* output+)         relation := (equal-to NAME) | (isomorphic-to NAME)
    input   := (declare-input NAME TYPE SHAPE)        output := (declare-output NAME TYPE SHAPE)
    hidden  := (declare-hidden NAME TYPE SHAPE "NAME IN THE ONNX FILE")
    TYPE    := real | float32                SHAPE := [] | [n, ...]          NAME begins with a letter; letters, digits and _ follow
    formula := (and formula+) | (or formula+) | (R term term), R one of <= >= < > == !=
    term    := NUMBER | NAME (a tensor of shape []) | NAME[i, ...] | (+ term+) | (- term+) | (* term+)

NUMBER is -?digits(.digits)?, read exactly. `a == b` is `a <= b` and `b <= a`; `a != b` is `a < b` or `b < a`. What else atoms become is
told in `specs.lists`. Written after the standard's grammar (VNNLIB-Standard, syntax/grammar.cf); 2.1's `initialized` is recognised and refused,
and so are element types without semantics here. More is read than the standard's own parser does: integers as numbers everywhere, blanks after a
parenthesis, and comparisons between tensors of different types.

A text is read again once it is known which products of variables its atoms have, and, of several networks, which inputs are equal in every
case (`canonical.Query`): equal inputs become one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar

from specs import networks, tokens
from specs.canonical import FREE, PRODUCTS, Declared, Hidden, Property, Query, Variable
from specs.errors import PropertyError
from specs.formula import Conjunction, FrozenAtoms
from specs.lists import FORMULA_RULES, Command, Fault, Item, Limits, ListParser, Rule, Term, scaled, shown
from specs.products import Element, Product, Products

VERSIONS = ("2.0", "2.1")
ELEMENT_TYPES = {"real": "real", "Real": "real", "float32": "float32"}
FLOATS = ("bfloat16", "float16", "float64", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float4e2m1")
OTHER_TYPES = (  # of the standard, which has ONNX's
    *("bool", "complex64", "complex128", "string"), *(f"{sign}int{bits}" for sign in ("", "u") for bits in (2, 4, 8, 16, 32, 64)),
)  # fmt: skip
MOST_ELEMENTS = 1 << 28  # of all tensors together

_QUERY = re.compile(r"(?:[ \t\r\n]++|;[^\n]*+)*+\([ \t\r\n]*+(?:vnnlib-version|declare-network)")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_INDEXED = re.compile(r"([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*(?:\[([^\]]*)\])?")  # [1]: the name, [2]: what the brackets hold, None without brackets
_INDEX = re.compile(r"[ \t\r\n]*(0|[1-9][0-9]{0,8})[ \t\r\n]*")
_BLANK = " \t\r\n"
_ESCAPE = re.compile(r'\\(["\\])')
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
    node: str = ""  # of a hidden tensor: its name in the ONNX file


@dataclass(frozen=True)
class _Relation(Command):
    kind: str
    other: str


@dataclass(frozen=True)
class _Network(Command):
    declared: Declared


@dataclass(frozen=True)
class _Place:
    """A declared tensor, and the first of its elements among all of its kind: inputs, or hidden tensors and outputs."""

    is_input: bool
    variable: Variable
    first: int


class Parser(ListParser):
    """Version 2. Names are global; a network is declared before formulas use its tensors."""

    version = "2.0"
    commands = "vnnlib-version, declare-network and assert"

    def __init__(self, text: str, limits: Limits, source: tuple[int, ...] = (), products: Sequence[Product] = ()) -> None:
        """`source` and `products` are those of the text's Query, as far as they are known."""
        super().__init__(text, limits)
        self._version: str | None = None
        self._networks: dict[str, Declared] = {}
        self._network_at = 0
        self._places: dict[str, _Place] = {}
        self._sizes = {True: 0, False: 0}  # elements declared so far: inputs, and others
        self._source, self._known = source, tuple(products)
        self._products = Products(products, self._place_of)
        if source:
            self._first_inputs[FREE] = 0

    def property(self, source: str) -> Property:
        found = super().property(source)
        if found.query is not None:  # a later reading
            return found
        if self._version is None or not self._networks:
            raise PropertyError("no network is declared", 1, 1)
        query = Query(tuple(self._networks.values()), self._source, self._known)
        return replace(found, version=self._version, network=query.networks[0].name, query=query)

    def _again(self, root: Conjunction, atoms: FrozenAtoms) -> Parser | None:
        source, elements = self._source, {(tensor, i) for atom in atoms.linear if atom is not None for tensor, i, _ in atom.terms}
        if not source and len(self._networks) > 1:
            source = networks.equal_inputs(root.atoms, self._first_inputs, self._sizes[True])
        products = self._products.in_order(elements) if source == self._source else ()
        return None if (source, products) == (self._source, self._known) else Parser(self._text, self._limits, source, products)

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
        if items[1] in self._networks:
            raise Fault(f"a second network of the name {items[1]}", 1)
        if self._asserted:
            raise Fault("the network is declared after an assert")
        relation = items[2] if len(items) > 2 and isinstance(items[2], _Relation) else _Relation("", "")
        tensors: dict[str, list[_Tensor]] = {"input": [], "hidden": [], "output": []}
        for argument, item in enumerate(items[2 + bool(relation.kind) :], start=2 + bool(relation.kind)):
            if not isinstance(item, _Tensor):
                raise Fault(f"{shown(item)} in the place of a declare-input, declare-hidden or declare-output", argument)
            self._place(item, tensors, argument)
        for kind in ("input", "output"):
            if not tensors[kind]:
                raise Fault(f"the network {items[1]} has no declare-{kind}")
        inputs, outputs = (tuple(tensor.variable for tensor in tensors[kind]) for kind in ("input", "output"))
        hidden = tuple(Hidden(tensor.variable, tensor.node) for tensor in tensors["hidden"])
        network = Declared(items[1], inputs, hidden, outputs, relation.kind, relation.other)
        networks.check_relation(network, self._networks)
        self._networks[network.name], self._network_at = network, start
        return _Network(network)

    def _place(self, tensor: _Tensor, before: dict[str, list[_Tensor]], argument: int) -> None:
        """Make a tensor known, and put it to those of its network."""
        name, kind = tensor.variable.name, tensor.kind
        if name in self._places:
            raise Fault(f"{name} is declared twice", argument)
        if (kind == "input" and (before["output"] or before["hidden"])) or (kind == "hidden" and before["output"]):
            raise Fault(f"{name}: all inputs come first, then hidden tensors, then outputs", argument)
        if tensor.node and tensor.node in [other.node for other in before["hidden"]]:
            raise Fault(f"{tokens.shown(tensor.node)} is declared as hidden twice", argument)
        is_input = kind == "input"
        first = self._sizes[is_input]
        self._sizes[is_input] += tensor.variable.size
        if sum(self._sizes.values()) > MOST_ELEMENTS:
            raise Fault(f"the tensors have more than {MOST_ELEMENTS} elements", argument)
        self._places[name] = _Place(is_input, tensor.variable, first)
        if is_input and not self._source:
            self._first_inputs[name] = first
        before[kind].append(tensor)

    def _declare_tensor(self, items: list[Item], start: int) -> Item:
        head, *rest = items
        kind = str(head).removeprefix("declare-")
        words, hidden = [item for item in rest if isinstance(item, str)], kind == "hidden"
        form = f"(declare-{kind} NAME TYPE [shape]" + (' "ONNX NAME")' if hidden else ")")
        if len(words) == len(rest) == 3 and not hidden:
            what = "`initialized`" if words[2] == "initialized" else f"{tokens.shown(words[2])} after the shape"
            raise Fault(f"{what} is not supported: expected {form}", 3)
        match = _INDEXED.fullmatch(words[1]) if len(words) == len(rest) == 2 + hidden else None
        if match is None or match[2] is None:
            raise Fault(f"expected {form}")
        _require_name(words[0], 1)
        if match[1] not in ELEMENT_TYPES:
            raise Fault(_refused_type(match[1]), 2)
        shape = _integers(match[2], 2)
        if not all(shape):
            raise Fault(f"{words[0]} has an axis of length 0", 2)
        return _Tensor(kind, Variable(words[0], shape, ELEMENT_TYPES[match[1]]), _string(words[2], 3) if hidden else "")

    def _relation(self, items: list[Item], start: int) -> Item:
        if len(items) != 2 or not isinstance(items[1], str):
            raise Fault(f"expected ({items[0]} NAME)")
        return _Relation(str(items[0]), items[1])

    def _equals_sign(self, items: list[Item], start: int) -> Item:
        raise Fault("VNN-LIB 2 writes equality as ==")

    def _command(self, item: Command, offset: int) -> None:
        match item:
            case _Version(text):
                if self._version is not None:
                    raise self._error("the version stands twice", offset)
                self._version = text
            case _Tensor() | _Relation():
                raise self._error("a tensor or a relation is declared outside of a network", offset)

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
        place = self._places[match[1]]
        element = (FREE, self._source[place.first + flat]) if place.is_input and self._source else (match[1], flat)
        return Term({element: Fraction(1)}, Fraction(0))

    def _place_of(self, element: Element) -> int:
        """The place of an element among those of all tensors: first what is no input."""
        tensor, i = element
        if tensor == FREE:
            return self._sizes[False] + i
        place = self._places[tensor]
        return place.first + i + (self._sizes[False] if place.is_input else 0)

    def _multiplication(self, items: list[Item], start: int) -> Item:
        result = Term({}, Fraction(1))
        for argument, factor in enumerate(self._arguments(items), start=1):
            if not (result.coefficients and factor.coefficients):
                result = scaled(result, factor.constant) if not factor.coefficients else scaled(factor, result.constant)
                continue
            try:
                result = self._products.multiplied(result, factor)
            except Fault as fault:
                raise Fault(str(fault), argument) from None
        return result

    def _literal(self, word: str) -> Fraction | None:
        value = tokens.number_of_2(word)
        if value is None:
            raise Fault(f"{tokens.shown(word)} is neither a number nor a declared variable (numbers have no exponent and no sign +: -0.001)")
        return value

    def _tensors(self) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
        if not self._networks:
            raise PropertyError("no network is declared", 1, 1)
        if not self._asserted:
            raise self._error("nothing is asserted", self._network_at)
        inputs = tuple(variable for network in self._networks.values() for variable in network.inputs)
        if self._source:
            in_float32 = any(variable.element_type == "float32" for variable in inputs)
            inputs = (Variable(FREE, (max(self._source) + 1,), "float32" if in_float32 else "real"),)
        results = tuple(variable for network in self._networks.values() for variable in network.results)
        return inputs, (*results, Variable(PRODUCTS, (len(self._known),))) if self._known else results

    def _input(self, element: int) -> tuple[str, int]:
        declared = self._source.index(element) if self._source else element
        place = next(p for p in self._places.values() if p.is_input and p.first <= declared < p.first + p.variable.size)
        return element_name(place.variable, declared - place.first), self._network_at

    rules: ClassVar[Mapping[str, Rule]] = {
        "vnnlib-version": _is_version, "declare-network": _declare_network,
        **dict.fromkeys(("declare-input", "declare-hidden", "declare-output"), _declare_tensor),
        **dict.fromkeys(("equal-to", "isomorphic-to"), _relation), **FORMULA_RULES, "*": _multiplication, "!=": ListParser._comparison,
        "=": _equals_sign,
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


def _refused_type(name: str) -> str:
    """Why tensors of this type cannot be declared."""
    advice = "what is proven here holds for float32, or over the reals (declare `real` if that is enough)"
    if name in FLOATS:
        return f"element type {name!r} is not supported: no analysis here is sound for its arithmetic; {advice}"
    if name in OTHER_TYPES:
        return f"element type {name!r} is not supported: only tensors of real numbers can be declared; {advice}"
    return f"element type {tokens.shown(name)} is not supported: the standard has no such type; {advice}"


def _string(word: str, argument: int) -> str:
    """What a word in quotation marks says."""
    if not (len(word) > 2 and word[0] == word[-1] == '"') or _ESCAPE.sub("", word[1:-1]).count("\\"):
        raise Fault(f"{tokens.shown(word)}: expected the name that the tensor has in the ONNX file, in quotation marks", argument)
    return _ESCAPE.sub(lambda match: match[1], word[1:-1])


def _integers(text: str, argument: int) -> tuple[int, ...]:
    """The numbers between brackets."""
    if not text.strip(_BLANK):
        return ()
    found = [_INDEX.fullmatch(part) for part in text.split(",")]
    if not all(found):
        raise Fault(f"[{text}]: expected integers of at most nine digits, separated by commas", argument)
    return tuple(int(match[1]) for match in found if match is not None)
