"""`check_verifier`: every check there is against any callable, failures shrunk to small networks and written out."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import hypothesis
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from benchmarks.strategies.asker import Asker, OutOfTime, Verify
from benchmarks.strategies.builder import OPSET
from benchmarks.strategies.findings import BAD_WITNESS, CONTRADICTION, FALSE_SAT, FALSE_UNSAT, Answer, Finding, write
from benchmarks.strategies.judge import fault
from benchmarks.strategies.minimise import NotReproduced, minimise
from benchmarks.strategies.networks import OPSETS
from benchmarks.strategies.operators import OPERATORS
from benchmarks.strategies.problems import Instance, instances, planted
from benchmarks.strategies.relations import RELATIONS, Pair, pairs

T = TypeVar("T")
CHECKS = ("known sat", "planted needle", "known unsat", *RELATIONS)


class Question(NamedTuple):
    """What an example of a check asks, one problem or several; `relation` holds between them, if there is one."""

    check: str
    problems: tuple[Instance, ...]


@dataclass(frozen=True)
class Report:
    """What was asked, and what was wrong. `verdicts` counts the answers to different questions, `refused` those that were `error` by the set of
    operators; `exhausted` says that the time was over before all examples were drawn."""

    findings: tuple[Finding, ...]
    verdicts: Counter[str]
    refused: Counter[tuple[str, ...]]
    exhausted: bool = False

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {verdict}" for verdict, n in self.verdicts.most_common())
        return "\n".join([f"{sum(self.verdicts.values())} questions ({counts}), {len(self.findings)} findings", *map(str, self.findings)])


def check_verifier(
    verify: Verify,
    *,
    out: Path | str | None = None,
    checks: Sequence[str] = CHECKS,
    operators: Sequence[str] = OPERATORS,
    opsets: Sequence[int] = (OPSET,),
    max_operators: int = 4,
    max_examples: int = 50,
    timeout: float = 5.0,
    seconds: float = float("inf"),
    seed: int = 0,
    files: bool = False,
) -> Report:
    """Ask `verify(model, property, timeout) -> (verdict, witness)` about networks whose answers are known, or must agree.

    `model` is the ONNX file as bytes and `property` VNN-LIB 1.0 text, or both are paths if `files`. The verdict is one of VERDICTS, the witness
    the flat inputs [n] of a `sat`, or None. Each of `checks` draws up to `max_examples` examples and stops at its first failure, which is shrunk;
    findings go to `out`, a folder for each. After `seconds` nothing new is asked. What `verify` raises is raised here; ValueError and TypeError
    where an argument, or what `verify` returns, is not what is expected.
    """
    checks, operators = _among("check", checks, CHECKS), _among("operator", operators, OPERATORS)
    opsets = _among("opset", opsets, OPSETS)
    for what, number in (("max_operators", max_operators), ("max_examples", max_examples)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{what} is {number!r}; it has to be a whole number, 1 or more")
    until = time.monotonic() + seconds
    asker = Asker(verify, timeout, files)
    findings, exhausted = [], False
    for number, name in enumerate(checks):
        left = until - time.monotonic()
        asker.until = time.monotonic() + 2 * left / (len(checks) - number + 1)  # what one check leaves, the others have
        try:
            finding = search(asker, questions(name, operators, max_operators, opsets), max_examples, f"{seed} {name}")
        except OutOfTime:
            exhausted = True
            continue
        if finding is not None:
            findings.append(finding)
            if out is not None:
                write(finding, Path(out))
    return Report(tuple(findings), asker.verdicts, asker.refused, exhausted)


def _among(what: str, given: Iterable[T], known: Sequence[T]) -> tuple[T, ...]:
    """`given`, all of it known. Raises TypeError for what is no list, a single text too, and ValueError for none, or others."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"{what}s={given!r}: expected a list, for example [{known[0]!r}]")
    names = tuple(given)
    wrong = [name for name in names if name not in known]
    if wrong or not names:
        found = f"no {what} is called {wrong[0]!r}" if wrong else f"{what}s={given!r}: at least one is needed"
        raise ValueError(f"{found}; there are {', '.join(map(str, known))}")
    return names


def questions(check: str, operators: tuple[str, ...], max_operators: int, opsets: tuple[int, ...]) -> st.SearchStrategy[Question]:
    """The questions of one of CHECKS."""
    if check == "planted needle":
        return planted(operators, max_operators, opsets).map(lambda one: Question(check, (one,)))
    if check in ("known sat", "known unsat"):
        return instances((check.split()[1],), operators, max_operators, opsets).map(lambda one: Question(check, (one,)))
    return pairs((check,), operators, max_operators, opsets).map(_of_pair)


def _of_pair(pair: Pair) -> Question:
    return Question(pair.relation, (pair.first, *pair.others))


def search(asker: Asker, strategy: st.SearchStrategy[Question], max_examples: int, seed: str) -> Finding | None:
    """The first failure, made small; None if there is none. Raises OutOfTime if the time was over before any failure.

    What delta debugging can judge, it makes small: it needs fewer questions than Hypothesis, which shrinks the rest.
    """
    kinds: list[str] = []

    def fails(question: Question) -> bool:
        try:
            found = judged(question, asker)
        except OutOfTime:
            if not kinds:
                raise
            return False  # shrinking ends with what is known
        if found is not None and not kinds:
            kinds.append(found.kind)
        return found is not None and found.kind == kinds[0]

    question = _find(strategy, fails, max_examples, seed, (Phase.generate,))
    if question is None:
        return None
    finding = judged(question, asker)
    small = None if finding is None else smaller(finding, asker)
    if small is not None:
        return small
    asker.until = time.monotonic() + asker.patience
    shrunk = _find(strategy, fails, max_examples, seed, (Phase.generate, Phase.shrink))
    return finding if shrunk is None else judged(shrunk, asker)


def _find(
    strategy: st.SearchStrategy[Question], fails: Callable[[Question], bool], max_examples: int, seed: str, phases: tuple[Phase, ...]
) -> Question | None:
    settings = hypothesis.settings(
        max_examples=max_examples, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck), print_blob=False, phases=phases
    )
    try:
        return hypothesis.find(strategy, fails, settings=settings, random=random.Random(seed))
    except NoSuchExample:
        return None


def smaller(finding: Finding, asker: Asker) -> Finding | None:
    """The finding after delta debugging; None where that cannot judge it: contradictions, and what only rounding decides."""
    if finding.kind not in (FALSE_UNSAT, BAD_WITNESS):
        return None
    (asked,) = finding.questions
    point, expect = (asked.witness, "sat") if finding.kind == FALSE_UNSAT else (None, "unsat")
    asker.until = time.monotonic() + asker.patience
    try:
        found = minimise(asked.network.model, asked.property, asker, expect, point, asker.patience)
    except (NotReproduced, OutOfTime):
        return None
    known = found.instance._replace(truth=asked.truth if expect == "sat" else None, witness=found.problem.centre if expect == "sat" else None)
    return replace(finding, questions=(known,), answers=(found.answer,))


def judged(question: Question, asker: Asker) -> Finding | None:
    """The first thing that is wrong with the answers, if something is."""
    answers = []
    for asked in question.problems:
        answers.append(asker(asked))
        why = wrong(asked, answers[-1])
        if why is not None:
            return Finding(question.check, why[0], (asked,), (answers[-1],), why[1])
    others = question.problems[1:]
    if others and answers[0].verdict == "sat" and all(answer.verdict == "unsat" for answer in answers[1:]):
        text = f"The first is sat, hence {'the other' if len(others) == 1 else 'one of the others'} is, but the answer was unsat ({question.check})."
        return Finding(question.check, CONTRADICTION, question.problems, tuple(answers), text)
    return None


def wrong(asked: Instance, answer: Answer) -> tuple[str, str] | None:
    """(kind, why) of an answer that is wrong by itself."""
    if answer.verdict == "unsat" and asked.truth == "sat":
        return FALSE_UNSAT, "Expected sat: the planted point violates the property. The answer was unsat."
    if answer.verdict == "sat" and answer.witness is not None:
        why = fault(asked, answer.witness)
        if why:
            return BAD_WITNESS, f"The answer was sat with a witness that is no counterexample: {why}."
    if answer.verdict == "sat" and asked.truth == "unsat":
        return FALSE_SAT, "Expected unsat: the outputs cannot get there. The answer was sat."
    return None
