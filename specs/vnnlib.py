"""VNN-LIB reader: text -> canonical.Property. This file reads version 1.0 and hands texts of version 2 to `specs.vnnlib2`.

Grammar of 1.0 (an SMT-LIB 2 dialect), all `assert`s together describe the unsafe set:

    file    := (declare-const NAME Real)* | (assert formula)*        NAME := X_i (inputs) | Y_j (outputs)
    formula := (and formula+) | (or formula+) | (<= term term) | (>= ...) | (< ...) | (> ...) | (== ...) | (= ...)
    term    := NUMBER | NAME | (+ term+) | (- term+) | (* term+)     at most one factor of a product has variables

Numbers are exact rationals. What atoms become is told in `specs.lists`.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from specs import tokens, vnnlib2
from specs.canonical import Property, Variable
from specs.errors import PropertyError
from specs.formula import LOWER, UPPER
from specs.lists import DEFAULT_LIMITS, FORMULA_RULES, Command, Fault, Item, Limits, ListParser, Rule, Term, shown

__all__ = ["DEFAULT_LIMITS", "Limits", "parse", "read"]

_NAME = re.compile(r"([XY])_(0|[1-9][0-9]{0,8})")
_DECLARATION = re.compile(rf"\(declare-const[ \t\r\n]+({_NAME.pattern})[ \t\r\n]+Real\)")
_BOUND = re.compile(r"\(([<>])=[ \t\r\n]+X_([0-9]+)[ \t\r\n]+([-+.0-9][^ \t\r\n]*)\)")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class _Declare(Command):
    name: str


def read(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> Property:
    """Read a `.vnnlib` file, gzipped or not (its first bytes decide). Raises PropertyError, whatever the file contains."""
    source = str(path)
    data = _content(Path(path), limits.size)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise PropertyError(f"not UTF-8 text: byte {data[error.start]:#04x}", line, column, source) from error
    del data
    return parse(text, source, limits)


def _content(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == _GZIP_MAGIC
        with gzip.open(path, "rb") if zipped else path.open("rb") as stream:
            data = stream.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PropertyError(f"cannot be decompressed: {error}. Is the file complete?", source=str(path)) from error
    except (OSError, ValueError) as error:
        raise PropertyError(f"cannot be read: {getattr(error, 'strerror', None) or error}", source=str(path)) from error
    if len(data) > limit:
        raise PropertyError(f"larger than {limit} bytes when decompressed; raise the size limit if that is meant", source=str(path))
    return data


def parse(text: str, source: str = "<memory>", limits: Limits = DEFAULT_LIMITS) -> Property:
    """Parse VNN-LIB text of version 1.0 or 2. Raises PropertyError with line and column, whatever the text is."""
    if len(text) > limits.size:
        raise PropertyError(f"{len(text)} characters; the limit is {limits.size}", source=source)
    parser = vnnlib2.Parser if vnnlib2.is_query(text) else _Parser
    try:
        return parser(text, limits).property(source)
    except PropertyError as error:
        raise error.inside(source) from error


class _Parser(ListParser):
    """Version 1.0: the inputs are one flat tensor X, the outputs one flat tensor Y."""

    version = "1.0"
    commands = "declare-const and assert"

    def __init__(self, text: str, limits: Limits) -> None:
        super().__init__(text, limits)
        self._declared: dict[str, int] = {}  # offsets
        self._first_inputs["X"] = 0

    def _lexemes(self) -> Iterator[tuple[str, int]]:
        return tokens.lexemes(self._text)

    def _words(self, flat_list: str, offset: int) -> Iterator[tuple[str, int]]:
        return tokens.words(flat_list, offset)

    def _read_flat(self, lexeme: str, start: int) -> Item:
        """Declarations and bounds of one input by a number, of which large files consist, are read without cutting them into words."""
        if (declaration := _DECLARATION.fullmatch(lexeme)) is not None:
            return _Declare(declaration[1])
        bound = _BOUND.fullmatch(lexeme)
        if bound is None or f"X_{bound[2]}" not in self._declared or (value := self._value(bound[3])) is None:
            return super()._read_flat(lexeme, start)
        return self._atoms.add_bound(UPPER if bound[1] == "<" else LOWER, int(bound[2]), value, start)

    def _value(self, word: str) -> Fraction | None:
        """The value of a decimal literal; None where there is something to complain about."""
        try:
            return tokens.number(word)
        except PropertyError:
            return None

    def _declare(self, items: list[Item], start: int) -> Item:
        if len(items) != 3:
            raise Fault("expected (declare-const NAME Real)")
        _, name, kind = items
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise Fault(f"{shown(name)} is no variable name of VNN-LIB 1.0: inputs are X_0, X_1, ..., outputs Y_0, Y_1, ...", 1)
        if kind != "Real":
            raise Fault(f"{name} has type {shown(kind)}; only Real is supported", 2)
        return _Declare(name)

    def _command(self, item: Command, offset: int) -> None:
        if not isinstance(item, _Declare):
            raise self._error("this is no command of VNN-LIB 1.0", offset)
        if item.name in self._declared:
            raise self._error(f"{item.name} is declared twice", offset)
        self._declared[item.name] = offset

    def _element(self, word: str) -> Term | None:
        if word not in self._declared:
            return None
        tensor, element = word.split("_")
        return Term({(tensor, int(element)): Fraction(1)}, Fraction(0))

    def _literal(self, word: str) -> Fraction | None:
        return tokens.number(word)

    def _tensors(self) -> tuple[tuple[Variable, ...], tuple[Variable, ...]]:
        inputs, outputs = (self._size(tensor) for tensor in "XY")
        if not inputs:
            raise PropertyError("no input is declared: (declare-const X_0 Real) is missing", 1, 1)
        return (Variable("X", (inputs,)),), (Variable("Y", (outputs,)),) if outputs else ()

    def _input(self, element: int) -> tuple[str, int]:
        return f"X_{element}", self._declared[f"X_{element}"]

    def _size(self, tensor: str) -> int:
        """Number of elements of X or Y; their indices must be 0 .. n-1."""
        indices = {int(name[2:]): offset for name, offset in self._declared.items() if name[0] == tensor}
        for index, offset in indices.items():
            if index >= len(indices):
                missing = next(i for i in range(len(indices)) if i not in indices)
                raise self._error(f"{tensor}_{index} is declared and {tensor}_{missing} is not: indices must be contiguous from 0", offset)
        return len(indices)

    rules: ClassVar[Mapping[str, Rule]] = {"declare-const": _declare, **FORMULA_RULES, "=": ListParser._comparison}
