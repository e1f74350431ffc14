"""Lexemes of VNN-LIB text (an SMT-LIB 2 dialect), as version 1.0 and as version 2 cut it, and the places and numbers in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from specs.errors import PropertyError

MAX_EXPONENT = 400
MAX_NUMBER_LENGTH = 4000
INFINITE = 2**128 - 2**103  # from here on float32 rounds to infinity (ARITHMETIC 55)
LARGEST = Fraction(INFINITE)

# A list without inner lists ("(>= X_0 0.5)") is one lexeme: files repeat them, so the parser reads each text once.
# Every quantifier is possessive: matching is linear in the text, whatever the text is.
_LEXEME = re.compile(r"(?:[ \t\r\n]++|;[^\n]*+)*+(\([^();]*+\)|[()]|[^ \t\r\n();]++|\Z)")
_WORD = re.compile(r"[()]|[^ \t\r\n()]+")
_QUOTIENT = re.compile(r"([+-]?[0-9]+)/([0-9]+)")
_NUMBER = re.compile(r"([+-]?)(?=\.?[0-9])([0-9]*)\.?([0-9]*)(?:[eE]([+-]?[0-9]+))?")

# Version 2: words may touch each other ("X[0]-1.0"), and an element is one word with its indices ("X[0, 1]").
_WORD_2 = r"""
    [()]
  | [A-Za-z][A-Za-z0-9_]*+ (?:-[A-Za-z]++)*+ (?:[ \t\r\n]*+ \[[^][();"]*+\])?+  # a name, an element, a type with its shape, a command
  | -?+[0-9]++ (?:\.[0-9]++)?+ (?![A-Za-z0-9_.])
  | <= | >= | == | != | <[0-9.]++> | [<>=*] | - (?![0-9.]) | (?<=\()\+ | \+ (?![0-9.])
  | "(?:[^"\\\n]|\\.)*+"
  | [^ \t\r\n();]++  # anything else, for an error that shows it
"""
_WORD_OF_2 = re.compile(_WORD_2, re.VERBOSE)
_LEXEME_OF_2 = re.compile(rf"(?:[ \t\r\n]++|;[^\n]*+)*+ (\([^();\"]*+\) | {_WORD_2} | \Z)", re.VERBOSE)
_NUMBER_OF_2 = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


def lexemes(text: str) -> Iterator[tuple[str, int]]:
    """Yield (lexeme, offset): "(", ")", a symbol, or a flat list "(...)" with its parentheses. Comments are skipped."""
    for match in _LEXEME.finditer(text):
        if match[1]:
            yield match[1], match.start(1)


def words(flat_list: str, offset: int) -> Iterator[tuple[str, int]]:
    """Yield the lexemes inside a flat list that starts at `offset` of the text, parentheses included."""
    for match in _WORD.finditer(flat_list):
        yield match[0], offset + match.start()


def lexemes_of_2(text: str) -> Iterator[tuple[str, int]]:
    """`lexemes` as version 2 cuts them."""
    for match in _LEXEME_OF_2.finditer(text):
        if match[1]:
            yield match[1], match.start(1)


def words_of_2(flat_list: str, offset: int) -> Iterator[tuple[str, int]]:
    """`words` as version 2 cuts them."""
    for match in _WORD_OF_2.finditer(flat_list):
        yield match[0], offset + match.start()


def number_of_2(word: str) -> Fraction | None:
    """The exact value of a number of version 2, which has no exponent and no sign +. Raises PropertyError if it is out of range."""
    return number(word) if _NUMBER_OF_2.fullmatch(word) else None


def place(text: str, offset: int) -> tuple[int, int]:
    """1-based line and column of an offset."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def number(word: str) -> Fraction | None:
    """The exact value of a decimal literal, or None if `word` is not one. Raises PropertyError if it is out of range."""
    match = _NUMBER.fullmatch(word)
    if match is None:
        return None
    if len(word) > MAX_NUMBER_LENGTH:
        raise PropertyError(f"number of {len(word)} characters; at most {MAX_NUMBER_LENGTH} are read")
    sign, whole, after, exponent = match.groups("0")
    if abs(int(exponent)) > MAX_EXPONENT:
        raise PropertyError(f"exponent of {shown(word)} is beyond {MAX_EXPONENT} in magnitude")
    digits, places = int(sign + whole + after), int(exponent) - len(after)
    value = Fraction(digits * 10**places) if places >= 0 else Fraction(digits, 10**-places)
    if abs(value.numerator) >= INFINITE * value.denominator:
        raise PropertyError(f"{shown(word)} is too large for float32 (2^128 - 2^103 or more in magnitude)")
    return value


def rational(word: str) -> Fraction | None:
    """The exact value of a decimal literal or of a quotient of integers such as 2/255, or None. Raises PropertyError if it is out of range."""
    quotient = _QUOTIENT.fullmatch(word)
    if quotient is None:
        return number(word)
    above, below = (number(part) for part in quotient.groups())
    if not above or not below:
        return above if below else None
    if abs(above) >= LARGEST * below:
        raise PropertyError(f"{shown(word)} is too large for float32 (2^128 - 2^103 or more in magnitude)")
    return above / below


def shown(word: str) -> str:
    """`word` quoted for a message: control characters escaped, shortened to one line."""
    return repr(word if len(word) <= 60 else word[:57] + "...")
