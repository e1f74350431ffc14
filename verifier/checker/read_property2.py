"""VNN-LIB 2.0 text -> the list of unsafe cases (or 1.0, by `read_property`), written from the standard's grammar and text.

    file    := (vnnlib-version <2.0>) network (assert formula)+
    network := (declare-network NAME (declare-input NAME TYPE SHAPE)+ (declare-output NAME TYPE SHAPE)+)
    TYPE    := real | float32         SHAPE := [] | [n, ...]       NAME := letter (letter | digit | _)*, but not `and`, `or`, `initialized`
    formula := as in 1.0, without `=`; (!= term term) is (or (< term term) (< term term)), the second with the terms exchanged
    term    := as in 1.0; a NUMBER is -?digits(.digits)?; a variable is an element, NAME[i, ...], or NAME where the shape is []

One network; its tensors are those of the model in number, order and shape (`bind`). Its inputs, one after the other in row-major order, are
the X_0, X_1, ... of `read_property`, its outputs the Y_0, Y_1, ...: with these the list of cases, their order and their rounding are what is
said there. What is declared as float32 speaks of executions in float32: a certificate over the reals does not prove it.
Hidden nodes, several networks, `initialized`, other element types and everything else are refused.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from verifier.checker import read_property
from verifier.checker.network import Network
from verifier.checker.read_property import INPUTS, LOWER, RULE, UPPER, Cases, Item, PropertyText, Reader, Term
from verifier.checker.refusal import Rejected

Shape = tuple[int, ...]
MOST_ELEMENTS = 1 << 28

_WORDS = rb"""
    [A-Za-z][A-Za-z0-9_]*+ (?:-[a-z]++)*+ (?:[ \t\r\n]*+ \[[0-9, \t\r\n]*+\])?+  # a name, an element, a type with a shape, a command
  | -?+[0-9]++ (?:\.[0-9]++)?+ (?![A-Za-z0-9_.])
  | [<>=!]= | <[0-9.]++> | [<>*+] | -(?![0-9.])
  | [^ \t\r\n();]++  # what has no meaning
"""
_WORD = re.compile(_WORDS, re.VERBOSE)
_LEXEME = re.compile(rb"(?:[ \t\r\n]++|;[^\n]*+)*+ (?:(\([^();]*+\))|(\()|(\))|(" + _WORDS + rb")|\Z)", re.VERBOSE)
QUERY = re.compile(rb"(?:\xef\xbb\xbf)?+(?:[ \t\r\n]++|;[^\n]*+)*+\([ \t\r\n]*+(?:vnnlib-version|declare-network)")
_NAME = re.compile(rb"(?!(?:and|or|initialized)\Z)[A-Za-z][A-Za-z0-9_]*")
_INDEXED = re.compile(rb"([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*(?:\[([0-9, \t\r\n]*)\])?")
_INDEX = re.compile(rb"[ \t\r\n]*(0|[1-9][0-9]{0,8})[ \t\r\n]*")
_NUMBER = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?")
_HEADS = {b"assert", b"and", b"or", b"<=", b">=", b"<", b">", b"==", b"+", b"-", b"*"}  # that mean what they mean in 1.0


@dataclass(frozen=True, eq=False)
class Query:
    """Cases, and what the text says about the network: shapes in the order of declaration; whether some element type is float32."""

    cases: Cases = field(repr=False)
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    in_float32: bool


def read(data: bytes) -> PropertyText | Query:
    """The property of a text of version 1.0 or 2."""
    return QueryReader(data).query() if QUERY.match(data) else read_property.read(data)


def bind(text: PropertyText | Query, network: Network, semantics: str) -> Cases:
    """By position, as in 1.0; the tensors of a 2.0 text have the shapes of the network's, and `semantics` is strong enough for their types."""
    if not isinstance(text, Query):
        return read_property.bind(text, network)
    for kind, declared, nodes in (("input", text.inputs, network.inputs), ("output", text.outputs, network.outputs)):
        there = tuple(network.nodes[i].shape for i in nodes)
        if declared != there:
            raise Rejected(RULE, f"declares {kind}s of the shapes {list(declared)}, the network has {list(there)}")
    if text.in_float32 and semantics != "float32":
        raise Rejected("element-type", f"tensors are declared as float32, the certificate speaks of {semantics}")
    return read_property.bind(text.cases, network)


class _Tensor(NamedTuple):
    kind: bytes
    name: bytes
    shape: Shape
    in_float32: bool


class QueryReader(Reader):
    lexeme, word = _LEXEME, _WORD

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._versions = 0
        self._tensors: dict[bytes, tuple[_Tensor, int]] = {}  # with the key of their first element
        self._elements: dict[bytes, Term] = {}

    def query(self) -> Query:
        cases = self.cases()
        inputs, outputs = (tuple(t.shape for t, _ in self._tensors.values() if t.kind == kind) for kind in (b"declare-input", b"declare-output"))
        return Query(cases, inputs, outputs, any(t.in_float32 for t, _ in self._tensors.values()))

    def _sizes(self) -> tuple[int, int]:
        n_in, n_out = (sum(math.prod(t.shape) for t, _ in self._tensors.values() if t.kind == k) for k in (b"declare-input", b"declare-output"))
        if not self._tensors or not self._asserted:
            raise Rejected(RULE, "no network is declared, or nothing is asserted")
        if sum(kind in (LOWER, UPPER) for kind, _, _ in self._comparisons) < 2 * n_in:
            raise Rejected(RULE, f"{n_in} inputs are declared, and fewer than {2 * n_in} bounds are stated")
        return n_in, n_out

    def _reduce(self, items: list[Any], start: int) -> Item | Any:
        self._at = start
        match items:
            case [b"vnnlib-version", b"<2.0>" | b"<2.1>"] if not self._versions:
                self._versions = 1
                return None
            case [b"declare-input" | b"declare-output" as kind, bytes(name), bytes(kind_and_shape)] if _NAME.fullmatch(name):
                return self._tensor(kind, name, kind_and_shape)
            case [b"declare-network", bytes(name), *tensors] if _NAME.fullmatch(name) and self._versions and not self._tensors and not self._asserted:
                self._network(tensors)
                return None
            case [b"!=", left, right]:
                return [self._conjunction([self._at_most(*pair, True)]) for pair in ((left, right), (right, left))]
            case [bytes(head), *_] if head in _HEADS and (head != b"assert" or self._tensors):
                return super()._reduce(items, start)
            case _:
                head = items[0] if items and isinstance(items[0], bytes) else b"an empty list, or a list of lists,"
                self._refuse("with such operands, or in this place, is not supported", head)

    def _tensor(self, kind: bytes, name: bytes, kind_and_shape: bytes) -> _Tensor:
        match = _INDEXED.fullmatch(kind_and_shape)
        if match is None or match[2] is None or match[1] not in (b"real", b"Real", b"float32"):
            self._refuse("is no element type with a shape that is supported: real[...] or float32[...]", kind_and_shape)
        shape = self._integers(match[2])
        if not all(shape):
            self._refuse("has an axis of length 0", name)
        return _Tensor(kind, name, shape, match[1] == b"float32")

    def _network(self, tensors: list[Any]) -> None:
        """Inputs, then outputs, at least one of each."""
        keys = {b"declare-input": INPUTS, b"declare-output": 0}
        kinds = [tensor.kind if isinstance(tensor, _Tensor) else b"" for tensor in tensors]
        if kinds != sorted(kinds) or set(kinds) != set(keys):
            self._refuse("a network is some declare-input, then some declare-output, and nothing else")
        for tensor in tensors:
            if tensor.name in self._tensors:
                self._refuse("is declared twice", tensor.name)
            self._tensors[tensor.name] = tensor, keys[tensor.kind]
            keys[tensor.kind] += math.prod(tensor.shape)
        if keys[b"declare-input"] - INPUTS + keys[b"declare-output"] > MOST_ELEMENTS:
            self._refuse(f"more than {MOST_ELEMENTS} elements")

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
        return key + sum(i * math.prod(tensor.shape[axis + 1 :]) for axis, i in enumerate(index))

    def _integers(self, text: bytes) -> Shape:
        """What stands between brackets."""
        parts = [_INDEX.fullmatch(part) for part in text.split(b",")] if text.strip(b" \t\r\n") else []
        if not all(parts):
            self._refuse("between brackets: integers of at most nine digits are read, separated by commas", text)
        return tuple(int(part[1]) for part in parts if part is not None)
