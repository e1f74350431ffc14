"""`check_verifier`: every check there is against any callable, failures shrunk to small networks and written out."""

from __future__ import annotations

import hashlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from benchmarks.strategies.builder import OPSET
from benchmarks.strategies.findings import BAD_WITNESS, CONTRADICTION, FALSE_SAT, FALSE_UNSAT, Answer, Finding, write
from benchmarks.strategies.judge import fault
from benchmarks.strategies.operators import OPERATORS
from benchmarks.strategies.problems import Instance, instances, planted
from benchmarks.strategies.relations import RELATIONS, Pair, pairs

VERDICTS = ("sat", "unsat", "unknown", "timeout", "timed-out", "error")
CHECKS = ("known sat", "planted needle", "known unsat", *RELATIONS)
SHRINKING = 60.0  # seconds at most for a failure to get small
Verify = Callable[[Any, Any, float], tuple[str, Sequence[float] | None]]


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


class OutOfTime(Exception):
    """The time for a check is over, and nothing was found."""


@dataclass
class Asker:
    """Asks a verifier and remembers, so that it is a function. `until` is a moment on the monotonic clock after which nothing new is asked."""

    verify: Verify
    timeout: float
    files: bool = False
    until: float = float("inf")
    verdicts: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, ...]] = field(default_factory=Counter)
    known: dict[bytes, Answer] = field(default_factory=dict)

    def __call__(self, asked: Instance) -> Answer:
        """Raises OutOfTime; ValueError where the answer is no verdict; what `verify` raises."""
        model = asked.network.model.SerializeToString(deterministic=True)
        key = hashlib.sha256(model + asked.property.encode()).digest()
        if key not in self.known:
            if time.monotonic() > self.until:
                raise OutOfTime
            self.known[key] = answer = self._ask(model, asked.property)
            self.verdicts[answer.verdict] += 1
            if answer.verdict == "error":
                self.refused[asked.network.operators] += 1
        return self.known[key]

    def _ask(self, model: bytes, text: str) -> Answer:
        if self.files:
            with tempfile.TemporaryDirectory() as folder:
                paths = Path(folder, "model.onnx"), Path(folder, "property.vnnlib")
                paths[0].write_bytes(model)
                paths[1].write_text(text)
                verdict, witness = self.verify(*paths, self.timeout)
        else:
            verdict, witness = self.verify(model, text, self.timeout)
        if verdict not in VERDICTS:
            raise ValueError(f"the verifier answered {verdict!r}; a verdict is one of {', '.join(VERDICTS)}")
        return Answer(verdict, None if witness is None else tuple(float(v) for v in witness))


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
    findings go to `out`, a folder for each. After `seconds` nothing new is asked. What `verify` raises is raised here.
    """
    for name in checks:
        if name not in CHECKS:
            raise ValueError(f"no check is called {name!r}; there are {', '.join(CHECKS)}")
    until = time.monotonic() + seconds
    asker = Asker(verify, timeout, files)
    findings, exhausted = [], False
    for number, name in enumerate(checks):
        left = until - time.monotonic()
        asker.until = time.monotonic() + 2 * left / (len(checks) - number + 1)  # what one check leaves, the others have
        try:
            finding = search(asker, questions(name, tuple(operators), max_operators, tuple(opsets)), max_examples, f"{seed} {name}")
        except OutOfTime:
            exhausted = True
            continue
        if finding is not None:
            findings.append(finding)
            if out is not None:
                write(finding, Path(out))
    return Report(tuple(findings), asker.verdicts, asker.refused, exhausted)


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
    """The smallest failure that Hypothesis comes to, or None. Raises OutOfTime if the time was over before any failure."""
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
            asker.until = min(asker.until, time.monotonic() + SHRINKING)
        return found is not None and found.kind == kinds[0]

    settings = hypothesis.settings(
        max_examples=max_examples, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck), print_blob=False
    )
    try:
        question = hypothesis.find(strategy, fails, settings=settings, random=random.Random(seed))
    except NoSuchExample:
        return None
    return judged(question, asker)


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
