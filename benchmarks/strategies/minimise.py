"""Delta debugging: the smallest problem about which a verifier still gives the wrong answer.

The truth is established again at every step, so that the wrong answer never becomes a right one. `expect="sat"`: the centre violates the property
exactly and in onnx's reference implementation, and the verifier says unsat. `expect="unsat"`: the verifier says sat, and either its witness is none,
exactly and in the reference implementation, or the exact enumeration of activation patterns finds no violation.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import onnx
from onnx import checker, shape_inference

from benchmarks import formula
from benchmarks.exact.enumerate import TooManyPatterns, Unsafe, decide, unsafe_cases
from benchmarks.exact.network import UnknownModel, parse
from benchmarks.soundness.property import Atom, Property, vnnlib1
from benchmarks.soundness.rational import enclose, margin
from benchmarks.soundness.rule import UnknownOperator
from benchmarks.strategies.asker import Asker, OutOfTime
from benchmarks.strategies.draft import Array, Draft
from benchmarks.strategies.edits import EDITS, Problem, model_of, shape_of
from benchmarks.strategies.findings import Answer
from benchmarks.strategies.networks import Network
from benchmarks.strategies.problems import InputBox, Instance
from benchmarks.strategies.reference import reference

ROOM = Fraction(1, 1024)  # a violation, or a miss, of at least this much is asked for, or half of what there was at first
PATTERNS = 2000
# What onnx and its reference implementation raise for models that an edit has made invalid.
UNUSABLE = (
    checker.ValidationError, shape_inference.InferenceError, UnknownOperator, ValueError, TypeError, IndexError, KeyError, RuntimeError,
    ArithmeticError,
)  # fmt: skip


class NotReproduced(Exception):
    """The failure is not there to begin with; the message says what was asked and answered."""


@dataclass(frozen=True)
class Minimal:
    """The smallest problem, what the verifier says about it, the edits that were made, and the sizes before and after."""

    problem: Problem
    answer: Answer
    edits: tuple[str, ...]
    before: tuple[int, int, int, int]

    @property
    def instance(self) -> Instance:
        """As a question."""
        return as_instance(self.problem)


def problems(model: onnx.ModelProto, text: str, point: Array | None) -> list[Problem]:
    """One problem for each input box of the property. `point`, flat [n], becomes the centre where it is inside. Raises ValueError, FormulaError."""
    grouped: dict[object, list[Unsafe]] = {}
    for case in unsafe_cases(formula.parse(text)):
        grouped.setdefault(case.box, []).append(case)
    found = []
    outputs = int(np.prod(shape_of(model.graph.output[0])))
    for cases in grouped.values():
        lower, upper = (tuple(map(_exact, side)) for side in (cases[0].box.lower, cases[0].box.upper))
        unsafe = Property(lower, upper, tuple(tuple(_atom(a, outputs) for a in case.atoms) for case in cases if case.atoms))
        ends = [np.array([float(v) for v in side], np.float32) for side in (lower, upper)]
        inside = point is not None and bool((ends[0] <= point).all() and (point <= ends[1]).all())
        centre = point if point is not None and inside else ((ends[0].astype(np.float64) + ends[1]) / 2).astype(np.float32)
        found += [Problem(Draft.of(model).without_dead(), unsafe, centre.astype(np.float32))] if unsafe.cases else []
    return found


def _atom(atom: formula.Atom, outputs: int) -> Atom:
    row = [Decimal(0)] * outputs
    for tensor, index, c in atom.terms:
        if tensor == "X":
            raise ValueError("an atom that compares inputs cannot be minimised")
        row[index] = _exact(c)
    return Atom(tuple(row), _exact(atom.bound), atom.relation == "<")


def _exact(value: Fraction) -> Decimal:
    """The same number as a decimal. Raises ValueError if it has none of 1,100 digits."""
    digits = next((d for d in range(1100) if 10**d % value.denominator == 0), None)
    if digits is None:
        raise ValueError(f"{value} has no finite decimal")
    return Decimal(f"{value.numerator * 10**digits // value.denominator}E-{digits}")


def as_instance(problem: Problem) -> Instance:
    """A question about the problem; nothing is known about its float32 error."""
    model = model_of(problem)
    lower, upper = (np.array([float(v) for v in side], np.float32) for side in (problem.unsafe.lower, problem.unsafe.upper))
    network = Network(model, shape_of(model.graph.input[0]), shape_of(model.graph.output[0]), float("inf"), 0.0)
    return Instance(network, InputBox(lower, upper), vnnlib1(problem.unsafe), None, None, problem.unsafe)


def violation(asked: Instance, x: Array) -> tuple[Fraction, Fraction]:
    """The least and the largest violation margin at a flat float32 input [n], of the exact outputs and of a float32 execution. Raises UNUSABLE."""
    ranges = enclose(asked.network.model, [Fraction(v) for v in x.tolist()])
    name = asked.network.model.graph.input[0].name
    (result,) = reference(asked.network.model, {name: x.astype(np.float32).reshape(asked.network.input_shape)})
    executed = [(Fraction(float(v)), Fraction(float(v))) for v in result.reshape(-1)]
    exact, run = margin(asked.unsafe, ranges), margin(asked.unsafe, executed)
    return min(exact[0], run[0]), max(exact[1], run[1])


@dataclass(frozen=True)
class Oracle:
    """Whether the wrong answer is still there. `room` is the margin that the truth must have."""

    asker: Asker
    expect: str
    room: Fraction

    def fails(self, problem: Problem) -> tuple[Problem, Answer] | None:
        """The problem, its centre perhaps moved to the verifier's witness, and the answer; None if the answer may be right, or the edit has made
        the model invalid. Raises OutOfTime, what the verifier raises."""
        asked = self._valid(problem)
        if asked is None:
            return None
        answer = self.asker(asked)
        if self.expect == "sat":
            return (problem, answer) if answer.verdict == "unsat" else None
        return self._false_sat(problem, asked, answer) if answer.verdict == "sat" else None

    def _valid(self, problem: Problem) -> Instance | None:
        """The question, if the model is valid, and the centre violates where the truth is to be sat."""
        try:
            asked = as_instance(problem)
            checker.check_model(asked.network.model, full_check=True)
            good = self.expect == "unsat" or (_inside(asked, problem.centre) and violation(asked, problem.centre)[0] >= self.room)
        except UNUSABLE:
            return None
        return asked if good else None

    def _false_sat(self, problem: Problem, asked: Instance, answer: Answer) -> tuple[Problem, Answer] | None:
        if answer.witness is not None:
            witness = np.array(answer.witness, np.float32)
            wrong = witness.size != problem.centre.size or not _inside(asked, witness) or self._missed(asked, witness)
            moved = problem if witness.size != problem.centre.size else replace(problem, centre=witness)
            return (moved, answer) if wrong else None
        try:
            truth = decide(parse(asked.network.model.SerializeToString()), formula.parse(asked.property), PATTERNS)
        except (UnknownModel, TooManyPatterns):
            return None
        return (problem, answer) if truth.verdict == "unsat" else None

    def _missed(self, asked: Instance, x: Array) -> bool:
        """Whether the input is far from violating."""
        try:
            return violation(asked, x)[1] < -self.room
        except UNUSABLE:
            return False


def _inside(asked: Instance, x: Array) -> bool:
    return bool((asked.box.lower <= x).all() and (x <= asked.box.upper).all())


def minimise(
    model: onnx.ModelProto, text: str, asker: Asker, expect: str, point: Array | None = None, seconds: float = 300.0,
    told: Callable[[str], None] = lambda _: None,
) -> Minimal:  # fmt: skip
    """The smallest problem that the edits come to. `expect` is the truth, "sat" (then `point`, flat [n], violates) or "unsat".

    After `seconds` the best so far is returned. Raises NotReproduced; ValueError, FormulaError for files that cannot be read.
    """
    if expect not in ("sat", "unsat"):
        raise ValueError(f"expect {expect!r}: sat or unsat")
    until = time.monotonic() + seconds
    first = next((start for problem in problems(model, text, point) for start in _starts(problem, asker, expect)), None)
    if first is None:
        raise NotReproduced(_why(model, text, asker, expect, point))
    problem, answer, oracle = first
    before, edits = problem.size, []
    progress = True
    while progress and time.monotonic() < until:
        progress = False
        for name, edit in EDITS.items():
            while (smaller := _first(edit(problem), oracle, until)) is not None:
                problem, answer = smaller
                edits.append(name)
                told(f"{name}: {' '.join(node.op_type for node in problem.draft.nodes)}, {problem.size[1]} numbers, {problem.size[2]} inputs vary")
                progress = True
    return Minimal(problem, answer, tuple(edits), before)


def _starts(problem: Problem, asker: Asker, expect: str) -> list[tuple[Problem, Answer, Oracle]]:
    """The oracle for a problem that fails at first, with the margin it is to keep."""
    failing = Oracle(asker, expect, Fraction(0)).fails(problem)
    if failing is None:
        return []
    margin = ROOM
    if expect == "sat" or failing[1].witness is not None:
        asked = as_instance(failing[0])
        if _inside(asked, failing[0].centre):
            low, high = violation(asked, failing[0].centre)
            margin = min(ROOM, (low if expect == "sat" else -high) / 2)
    return [(*failing, Oracle(asker, expect, max(margin, Fraction(0))))]


def _first(candidates: Iterator[Problem], oracle: Oracle, until: float) -> tuple[Problem, Answer] | None:
    """The first candidate that fails still; None where there is none, or the time is over."""
    try:
        for candidate in candidates:
            if time.monotonic() > until:
                return None
            found = oracle.fails(candidate)
            if found is not None:
                return found
    except OutOfTime:
        return None
    return None


def _why(model: onnx.ModelProto, text: str, asker: Asker, expect: str, point: Array | None) -> str:
    verdicts = sorted({asker(as_instance(problem)).verdict for problem in problems(model, text, point)})
    if expect == "unsat":
        return f"the verifier answers {', '.join(verdicts)}; a sat that is wrong was expected, and a witness that is none, or a small network"
    text = "no point that violates the property was given" if point is None else "the point must lie in the box and violate the property exactly"
    return f"the verifier answers {', '.join(verdicts)} where a wrong unsat was expected; {text}"
