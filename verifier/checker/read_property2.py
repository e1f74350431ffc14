"""VNN-LIB 2.0 text -> the list of unsafe cases (or 1.0, by `read_property`), written from the standard's grammar and text.

    file    := (vnnlib-version <2.0>) network+ (assert formula)+
    network := (declare-network NAME relation? (declare-input NAME TYPE SHAPE)+ (declare-hidden NAME TYPE SHAPE "ONNX NAME")* (declare-output NAME
               TYPE SHAPE)+)          relation := (equal-to NAME) | (isomorphic-to NAME), a network above that has none
    TYPE    := real | float32         SHAPE := [] | [n, ...]       NAME := letter (letter | digit | _)*, but not `and`, `or`, `initialized`
    formula := as in 1.0, without `=`; (!= term term) is (or (< term term) (< term term)), the second with the terms exchanged
    term    := as in 1.0, but any factors of a product may hold variables; a NUMBER is -?digits(.digits)?; a variable is an element, NAME[i, ...],
               or NAME where the shape is []

The tensors of a network are those of the model in number, order and shape. All inputs, one after the other in row-major order, are the X_0,
X_1, ... of `read_property`, hidden tensors and outputs, network by network, the Y_0, Y_1, ...: with these the list of cases, their order and
their rounding are what is said there. *Products*, multiplied out, are further Y: those that atoms have, by the keys of their factors; a power
has its factor several times. *Equal inputs*: where there are several networks and comparisons of the file's own conjunction say a <= b and
b <= a of two inputs, they are one X wherever they are named; X are numbered anew, in the order of the first of each. What is declared as
float32 speaks of executions in float32: a certificate over the reals does not prove it.
`initialized`, other element types, products of more than 8 variables and everything else are refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from verifier.checker import read_property
from verifier.checker.network import Network
from verifier.checker.read_property import ATOM, CONSTANT, INPUTS, LOWER, RULE, UPPER, Cases, Item, PropertyText, Reader, Term
from verifier.checker.refusal import Rejected

Shape = tuple[int, ...]
Factors = tuple[int, ...]  # keys in order; a power has one several times
MOST_ELEMENTS, MOST_FACTORS, MOST_TERMS = 1 << 28, 8, 4096
PRODUCTS = 1 << 39  # + k is the key of a product
KINDS = (b"declare-input", b"declare-hidden", b"declare-output")

_WORDS = rb"""
    [A-Za-z][A-Za-z0-9_]*+ (?:(?:-[a-z]++)++(?![A-Za-z0-9_]))?+ (?:[ \t\r\n]*+ \[[0-9, \t\r\n]*+\])?+  # name, element, type with a shape, command
  | -?+[0-9]++ (?:\.[0-9]++)?+ (?![A-Za-z0-9_.])
  | [<>=!]= | <[0-9.]++> | [<>*+] | -(?![0-9.])
  | "(?:[^"\\\n]|\\["\\])++"
  | [^ \t\r\n();]++  # what has no meaning
"""
_WORD = re.compile(_WORDS, re.VERBOSE)
_LEXEME = re.compile(rb"(?:[ \t\r\n]++|;[^\n]*+)*+ (?:(\([^();\x22]*+\))|(\()|(\))|(" + _WORDS + rb")|\Z)", re.VERBOSE)
QUERY = re.compile(rb"(?:\xef\xbb\xbf)?+(?:[ \t\r\n]++|;[^\n]*+)*+\([ \t\r\n]*+(?:vnnlib-version|declare-network)")
_NAME = re.compile(rb"(?!(?:and|or|initialized)\Z)[A-Za-z][A-Za-z0-9_]*")
_INDEXED = re.compile(rb"([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*(?:\[([0-9, \t\r\n]*)\])?")
_INDEX = re.compile(rb"[ \t\r\n]*(0|[1-9][0-9]{0,8})[ \t\r\n]*")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
_STRING, _ESCAPE = re.compile(rb'"(?:[^"\\\n]|\\["\\])+"'), re.compile(rb'\\(["\\])')
_HEADS = {b"assert", b"and", b"or", b"<=", b">=", b"<", b">", b"==", b"+", b"-", b"*"}  # that mean what they mean in 1.0


@dataclass(frozen=True)
class Declared:
    """A network: shapes in the order of declaration, hidden tensors with the names that the file gives them."""

    name: str
    relation: bytes
    other: str
    inputs: tuple[Shape, ...]
    hidden: tuple[tuple[str, Shape], ...]
    outputs: tuple[Shape, ...]


@dataclass(frozen=True, eq=False)
class Query:
    """Cases, and what the text says about networks. `source`: the number of the X that an input is, if some are equal (then X are fewer)."""

    cases: Cases = field(repr=False)
    networks: tuple[Declared, ...]
    in_float32: bool
    source: tuple[int, ...] = ()
    products: tuple[Factors, ...] = ()

    @property
    def composed(self) -> bool:
        """Whether it is about more than the inputs and outputs of one network."""
        return len(self.networks) > 1 or bool(self.networks[0].hidden or self.products)


def read(data: bytes) -> PropertyText | Query:
    """The property of a text of version 1.0 or 2."""
    return QueryReader(data).query() if QUERY.match(data) else read_property.read(data)


def bind(text: PropertyText | Query, network: Network, semantics: str) -> Cases:
    """By position, as in 1.0; the tensors of a 2.0 text have the shapes of the network's (`compose` has seen to those of a composed one), and
    `semantics` is strong enough for their types."""
    if not isinstance(text, Query):
        return read_property.bind(text, network)
    (only, *_) = text.networks
    for kind, declared, nodes in (("input", only.inputs, network.inputs), ("output", only.outputs, network.outputs)):
        there = tuple(network.nodes[i].shape for i in nodes)
        if not text.composed and declared != there:
            raise Rejected(RULE, f"declares {kind}s of the shapes {list(declared)}, the network has {list(there)}")
    if text.in_float32 and semantics != "float32":
        raise Rejected("element-type", f"tensors are declared as float32, the certificate speaks of {semantics}")
    return read_property.bind(text.cases, network)


class _Tensor(NamedTuple):
    kind: bytes
    name: bytes
    shape: Shape
    in_float32: bool
    inside: str  # the name in the file, of a hidden one


class QueryReader(Reader):
    """`source` and `products` are those of the query: a text is read again once they are known."""

    lexeme, word = _LEXEME, _WORD

    def __init__(self, data: bytes, source: tuple[int, ...] = (), products: tuple[Factors, ...] = ()) -> None:
        super().__init__(data)
        self._versions = 0
        self._networks: dict[bytes, tuple[Declared, list[_Tensor]]] = {}
        self._tensors: dict[bytes, tuple[_Tensor, int]] = {}  # with the key of their first element
        self._sizes_of = {b"declare-input": 0, b"": 0}  # elements so far: inputs, others
        self._elements: dict[bytes, Term] = {}
        self._source, self._known, self._factors = source, products, list(products)
        self._numbers = {factors: number for number, factors in enumerate(products)}

    def declared(self) -> list[tuple[Declared, list[_Tensor]]]:
        """The networks with their tensors, in the order of declaration."""
        self._commands()
        return list(self._networks.values())

    def query(self) -> Query:
        self._commands()
        if not self._networks or not self._asserted:
            raise Rejected(RULE, "no network is declared, or nothing is asserted")
        source = self._source or (self._equal_inputs() if len(self._networks) > 1 else ())
        used = {self._factors[v - PRODUCTS] for row in self._rows for v, _ in row if PRODUCTS <= v < INPUTS}
        products = tuple(sorted(used)) if source == self._source else ()
        if (source, products) != (self._source, self._known):
            return QueryReader(self._data, source, products).query()
        networks = tuple(network for network, _ in self._networks.values())
        return Query(self._listed(), networks, any(t.in_float32 for t, _ in self._tensors.values()), source, products)

    def _equal_inputs(self) -> tuple[int, ...]:
        """The number of the X that each input is, where two are equal in every case; else nothing."""
        rows, below = list(self._rows), set[tuple[int, int]]()
        for number in self._conjunction(self._asserted).comparisons.tolist():
            kind, index, value = self._comparisons[number]
            if kind == ATOM and value == 0 and len(rows[index]) == 2:  # the value numbered 0 is 0
                (v, c), (w, d) = rows[index]
                if v >= INPUTS and w >= INPUTS and c == -d:
                    below.add((v, w) if c > 0 else (w, v))
        first = list(range(self._sizes_of[b"declare-input"]))

        def found(i: int) -> int:
            while first[i] != i:
                i = first[i]
            return i

        for v, w in sorted(pair for pair in below if pair[::-1] in below):
            kept, gone = sorted((found(v - INPUTS), found(w - INPUTS)))
            first[gone] = kept
        order = {i: number for number, i in enumerate(i for i in range(len(first)) if first[i] == i)}
        return tuple(order[found(i)] for i in range(len(first))) if len(order) < len(first) else ()

    def _sizes(self) -> tuple[int, int]:
        n_in = len(set(self._source)) or self._sizes_of[b"declare-input"]
        if sum(kind in (LOWER, UPPER) for kind, _, _ in self._comparisons) < 2 * n_in:
            raise Rejected(RULE, f"{n_in} inputs are declared, and fewer than {2 * n_in} bounds are stated")
        return n_in, self._sizes_of[b""] + len(self._known)

    def _place(self, variable: int, n_out: int) -> int:
        is_product = PRODUCTS <= variable < INPUTS
        return variable - PRODUCTS + self._sizes_of[b""] if is_product else super()._place(variable, n_out)

    def _reduce(self, items: list[Any], start: int) -> Item | Any:
        self._at = start
        match items:
            case [b"vnnlib-version", b"<2.0>" | b"<2.1>"] if not self._versions:
                self._versions = 1
                return None
            case [b"declare-input" | b"declare-output" as kind, bytes(name), bytes(kind_and_shape)] if _NAME.fullmatch(name):
                return self._tensor(kind, name, kind_and_shape, "")
            case [b"declare-hidden", bytes(name), bytes(kind_and_shape), bytes(inside)] if _NAME.fullmatch(name) and _STRING.fullmatch(inside):
                return self._tensor(b"declare-hidden", name, kind_and_shape, _ESCAPE.sub(rb"\1", inside[1:-1]).decode("utf-8", "replace"))
            case [b"equal-to" | b"isomorphic-to" as relation, bytes(name)]:
                return relation, name
            case [b"declare-network", bytes(name), *rest] if _NAME.fullmatch(name) and self._versions and not self._asserted:
                relation, other = rest.pop(0) if rest and type(rest[0]) is tuple else (b"", b"")
                self._network(name, relation, other, rest)
                return None
            case [b"!=", left, right]:
                return [self._conjunction([self._at_most(*pair, True)]) for pair in ((left, right), (right, left))]
            case [bytes(head), *_] if head in _HEADS and (head != b"assert" or self._networks):
                return super()._reduce(items, start)
            case _:
                head = items[0] if items and isinstance(items[0], bytes) else b"an empty list, or a list of lists,"
                self._refuse("with such operands, or in this place, is not supported", head)

    def _tensor(self, kind: bytes, name: bytes, kind_and_shape: bytes, inside: str) -> _Tensor:
        match = _INDEXED.fullmatch(kind_and_shape)
        if match is None or match[2] is None or match[1] not in (b"real", b"Real", b"float32"):
            self._refuse("is no element type with a shape that is supported: real[...] or float32[...]", kind_and_shape)
        shape = self._integers(match[2])
        if not all(shape):
            self._refuse("has an axis of length 0", name)
        return _Tensor(kind, name, shape, match[1] == b"float32", inside)

    def _network(self, name: bytes, relation: bytes, other: bytes, tensors: list[Any]) -> None:
        """Inputs, hidden tensors, outputs, in this order, at least one of the first and the last."""
        kinds = [KINDS.index(tensor.kind) if isinstance(tensor, _Tensor) else -1 for tensor in tensors]
        if kinds != sorted(kinds) or not {0, 2} <= {*kinds} <= {0, 1, 2} or name in self._networks:
            self._refuse("a network is some declare-input, declare-hidden and declare-output, in this order, under a name of its own")
        for tensor in tensors:
            if tensor.name in self._tensors:
                self._refuse("is declared twice", tensor.name)
            counted = b"declare-input" if tensor.kind == b"declare-input" else b""
            self._tensors[tensor.name] = tensor, self._sizes_of[counted] + (INPUTS if counted else 0)
            self._sizes_of[counted] += math.prod(tensor.shape)
        if sum(self._sizes_of.values()) > MOST_ELEMENTS:
            self._refuse(f"more than {MOST_ELEMENTS} elements")
        inputs, hidden, outputs = ([t for t in tensors if t.kind == kind] for kind in KINDS)
        if len({t.inside for t in hidden}) < len(hidden) or (relation and not self._related(relation, other, tensors)):
            self._refuse(f"{relation.decode()}: to no such network, or their tensors differ; or a hidden tensor twice", name)
        shapes = [tuple(t.shape for t in part) for part in (inputs, outputs)]
        named = tuple((t.inside, t.shape) for t in hidden)
        self._networks[name] = Declared(name.decode(), relation, other.decode("utf-8", "replace"), shapes[0], named, shapes[1]), tensors

    def _related(self, relation: bytes, other: bytes, tensors: list[_Tensor]) -> bool:
        """Whether there is such a network without a relation of its own whose inputs and outputs are of these shapes, and, if it is to be
        equal, of these types; hidden tensors of one name likewise."""
        found, theirs = self._networks.get(other, (None, []))
        if found is None or found.relation:
            return False
        facts = [[(t.kind, t.inside, t.shape, t.in_float32 and relation == b"equal-to") for t in part] for part in (tensors, theirs)]
        visible = [[fact for fact in part if not fact[1]] for part in facts]
        hidden = [{fact[1]: fact for fact in part if fact[1]} for part in facts]
        return visible[0] == visible[1] and all(hidden[0][name] == hidden[1][name] for name in hidden[0].keys() & hidden[1].keys())

    def _arithmetic(self, operation: bytes, terms: list[Term]) -> Term:
        if operation != b"*":
            return super()._arithmetic(operation, terms)
        total: Term = {CONSTANT: Fraction(1)}
        for term in terms:
            if len(total) * len(term) > MOST_TERMS:
                self._refuse(f"a product of more than {MOST_TERMS} terms when it is multiplied out")
            parts = [{self._key(v, w): a * b} for v, a in total.items() for w, b in term.items()]
            total = super()._arithmetic(b"+", parts)
        return total

    def _key(self, v: int, w: int) -> int:
        """Of the product of what has these keys."""
        if CONSTANT in (v, w):
            return w if v == CONSTANT else v
        factors = tuple(sorted(part for key in (v, w) for part in self.parts(key)))
        if len(factors) > MOST_FACTORS:
            self._refuse(f"a product of more than {MOST_FACTORS} variables")
        if factors not in self._numbers:
            self._numbers[factors] = len(self._factors)
            self._factors.append(factors)
        return PRODUCTS + self._numbers[factors]

    def parts(self, key: int) -> Factors:
        """The factors of what has this key: itself, if it is no product."""
        return self._factors[key - PRODUCTS] if PRODUCTS <= key < INPUTS else (key,)

    def _term(self, item: Item) -> Term:
        if not isinstance(item, bytes):
            return super()._term(item)
        if item not in self._elements:
            match = _INDEXED.fullmatch(item)
            if match is None:
                if _NUMBER.fullmatch(item) is None:
                    self._refuse("is no number and no element of a tensor", item)
                return super()._term(item)
            self._elements[item] = {self._element(match[1], match[2]): Fraction(1)}
        return self._elements[item]

    def _element(self, name: bytes, indices: bytes | None) -> int:
        """The key of an element."""
        if name not in self._tensors:
            self._refuse("is not declared", name)
        tensor, key = self._tensors[name]
        index = () if indices is None else self._integers(indices)
        if len(index) != len(tensor.shape) or (indices is not None and not index) or any(i >= n for i, n in zip(index, tensor.shape, strict=True)):
            self._refuse(f"has the shape {list(tensor.shape)}, and no such element", name)
        key += sum(i * math.prod(tensor.shape[axis + 1 :]) for axis, i in enumerate(index))
        return INPUTS + self._source[key - INPUTS] if self._source and key >= INPUTS else key

    def _integers(self, text: bytes) -> Shape:
        """What stands between brackets."""
        parts = [_INDEX.fullmatch(part) for part in text.split(b",")] if text.strip(b" \t\r\n") else []
        if not all(parts):
            self._refuse("between brackets: integers of at most nine digits are read, separated by commas", text)
        return tuple(int(part[1]) for part in parts if part is not None)
