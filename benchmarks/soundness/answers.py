"""What a verifier said: its verdict as an exact token, and its witness.

A verdict is one of sat, unsat, unknown, timeout, timed-out, error, or VNN-COMP's older violated and holds: the first token of the results file,
or a line of standard output that is this word and nothing else. A word inside a line of a log never counts ("unsatisfied constraints", "sat: 0"),
and neither does a word with anything attached to it. Two different verdicts are an error, not a choice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from benchmarks.formula import MOST_ELEMENTS, FormulaError, number

VERDICTS = {"sat": "sat", "violated": "sat", "unsat": "unsat", "holds": "unsat", "unknown": "unknown", "timeout": "timeout", "timed-out": "timeout",
            "error": "error"}
MOST_DIGITS = 9  # of an index or a dimension; Python refuses to read more than 4,300
PAIR = re.compile(r"\(\s*([XY])_([0-9]+)\s+([^\s()]+)\s*\)")
NESTED = re.compile(r"\(\s*X_([0-9]+)\s+(\([^()]*\)?)")  # a value in parentheses: a term of SMT-LIB, as in (X_0 (- 0.5)), and no decimal
HEADER = re.compile(r"(\S+)\s+([A-Za-z]\w*)\s+\[([0-9,\s]*)\]")
INPUT = re.compile(r"\(\s*declare-input\s+([^\s()]+)")


class AnswerError(Exception):
    """The verifier gave no answer that can be read; the message says what was found."""


@dataclass(frozen=True)
class Answer:
    """`result` is a word of VNN-COMP (sat, unsat, unknown, timeout, error).

    `witness`: the input as decimals, as written, in the order of the network's flat input; None where none was given. `malformed` says why the
    witness that was given cannot be read. `error` says what went wrong.
    """

    result: str
    witness: tuple[str, ...] | None = None
    malformed: str | None = None
    error: str | None = None


def read(results: str | None, stdout: str, inputs: Sequence[str] = ("X",)) -> Answer:
    """The answer in a results file (None or blank: not written) and on standard output; `inputs` are the input tensors' names (VNN-LIB 2.0)."""
    try:
        from_file = file_verdict(results) if results and results.strip() else None
        from_stdout = stdout_verdict(stdout)
    except AnswerError as error:
        return Answer("error", error=str(error))
    if from_file is None and from_stdout is None:
        return Answer("error", error="no verdict: no results file, and no line of standard output is a verdict")
    if from_file is not None and from_stdout is not None and from_file[0] != from_stdout[0]:
        return Answer("error", error=f"contradictory answers: the results file says {from_file[0]}, standard output {from_stdout[0]}")
    said = [a for a in (from_file, from_stdout) if a is not None]
    return answer(said[0][0], next((rest for _, rest in said if rest.strip()), ""), inputs)


def answer(word: str, rest: str, inputs: Sequence[str] = ("X",)) -> Answer:
    """The answer of a result word and the text after it, which holds the witness of a `sat`."""
    if word != "sat" or not rest.strip():
        return Answer(word)
    try:
        return Answer("sat", witness(rest, inputs))
    except AnswerError as error:
        return Answer("sat", malformed=str(error))


def file_verdict(text: str) -> tuple[str, str]:
    """(result word, what follows it) of a results file. Raises AnswerError."""
    first, *rest = text.split(None, 1)
    if first not in VERDICTS:
        raise AnswerError(f"the results file begins with {first[:40]!r}, which is no verdict")
    return VERDICTS[first], "".join(rest)


def stdout_verdict(text: str) -> tuple[str, str] | None:
    """(result word, what follows it) of standard output; None where no line is a verdict. Raises AnswerError."""
    lines = text.splitlines()
    found = [(at, VERDICTS[line.strip()]) for at, line in enumerate(lines) if line.strip() in VERDICTS]
    if not found:
        return None
    if len({word for _, word in found}) > 1:
        raise AnswerError("contradictory answers on standard output: " + ", ".join(word for _, word in found))
    return found[0][1], "\n".join(lines[found[0][0] + 1 :])


def witness(text: str, inputs: Sequence[str] = ("X",)) -> tuple[str, ...] | None:
    """The input of a witness in VNN-COMP's pairs (1.0) or the standard's assignment text (2.0); None where the text has neither form.

    Raises AnswerError where it has one of them and is incomplete, repeats an element, or holds what is not a finite decimal.
    """
    if nested := NESTED.search(text):
        raise AnswerError(f"the witness: the value of X_{nested[1][:9]} cannot be read, it is not a decimal: {nested[2][:40]}")
    if PAIR.search(text):
        values = _pairs(text)
    elif any(HEADER.fullmatch(line.strip()) for line in text.splitlines()):
        values = _assignment(text, inputs)
    else:
        return None
    for value in values:
        try:
            number(value)
        except FormulaError as error:
            raise AnswerError(f"the witness: {error}") from error
    return values


def _pairs(text: str) -> tuple[str, ...]:
    written = [(i.lstrip("0") or "0", value) for tensor, i, value in PAIR.findall(text) if tensor == "X"]
    found = [(int(i), value) for i, value in written if len(i) <= MOST_DIGITS]
    if len(found) < len(written) or not found or sorted(i for i, _ in found) != list(range(len(found))):
        raise AnswerError("the witness does not give every X_0 .. X_n exactly once")
    return tuple(value for _, value in sorted(found))


def _assignment(text: str, inputs: Sequence[str]) -> tuple[str, ...]:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    tensors: dict[str, tuple[str, ...]] = {}
    while lines and (header := HEADER.fullmatch(lines[0])):
        name, dimensions = header[1], header[3].replace(",", " ").split()
        if any(len(d) > MOST_DIGITS for d in dimensions) or prod(map(int, dimensions)) > MOST_ELEMENTS:
            raise AnswerError(f"the witness: {name[:40]} is said to have more than {MOST_ELEMENTS} elements")
        size = prod(map(int, dimensions))
        if name in tensors or len(lines) <= size:
            raise AnswerError(f"the witness: {name} is given twice" if name in tensors else f"the witness: {name} has fewer than {size} values")
        tensors[name], lines = tuple(lines[1 : size + 1]), lines[size + 1 :]
    missing = [name for name in inputs if name not in tensors]
    if missing:
        raise AnswerError(f"the witness has no input {missing[0]}")
    return tuple(value for name in inputs for value in tensors[name])


def input_names(property2: str) -> tuple[str, ...]:
    """The input tensors that a VNN-LIB 2.0 text declares, in order."""
    return tuple(INPUT.findall(property2))
