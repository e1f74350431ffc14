"""What each answer was worth, given the truth of the instance; and the counts over instances.

Fatal: `false-unsat` (unsat where there is a counterexample under the semantics claimed; the planted point is run as the proof), `invalid-witness`
(a witness that does not violate), `false-sat` (sat without a witness where the truth is unsat in both semantics).
Under float32 a witness has to violate in onnxruntime, unless the suite itself knows that onnxruntime does not decide: where the planted point
violates in an execution in another order, it is right, and of another point within the box nobody can say (`no-witness`).
Not fatal, and not solved either: `float32-only` (claimed real, and the witness violates in onnxruntime but not over the reals), `no-witness`,
`unclaimed` (unsat where the suite claims no truth), unknown, timeout, error. A finding that refutes the suite's own label raises SuiteError.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.ledger import Record
from benchmarks.soundness import judge
from benchmarks.soundness.instance import Entry, SuiteError
from benchmarks.soundness.judge import Execution

FATAL = ("false-unsat", "invalid-witness", "false-sat")
OUTCOMES = (*FATAL, "solved", "float32-only", "no-witness", "unclaimed", "unknown", "timeout", "error")
SAID = {
    "false-unsat": "said unsat; there is a counterexample",
    "invalid-witness": "said sat; the witness is no counterexample",
    "false-sat": "said sat without a witness; the property holds",
    "float32-only": "said sat; the witness violates in float32 and not over the reals",
    "no-witness": "said sat and gave no witness",
    "unclaimed": "said unsat, of which the suite claims nothing",
}


@dataclass(frozen=True)
class Outcome:
    """One answer, judged. `execution`: what was run as proof (the planted point, or the witness); None where nothing was."""

    entry: Entry
    mode: str
    result: str
    kind: str
    text: str
    seconds: float
    execution: Execution | None = None

    @property
    def fatal(self) -> bool:
        return self.kind in FATAL


def score(entries: Sequence[Entry], records: Iterable[Record], semantics: str, say: Callable[[str], None] = lambda _: None) -> list[Outcome]:
    """Judge every record against the suite. Raises SuiteError where the suite itself is refuted, or lacks an instance of the records."""
    by_name = {entry.name: entry for entry in entries}
    outcomes = []
    for record in records:
        if record["name"] not in by_name:
            raise SuiteError(f"the suite has no instance {record['name']}; score with the suite that was run")
        outcomes.append(assess(by_name[record["name"]], record, semantics))
        if outcomes[-1].fatal:
            say(f"FATAL {record['name']} ({record['mode']}): {outcomes[-1].text}")
    return outcomes


def assess(entry: Entry, record: Record, semantics: str) -> Outcome:
    """The outcome of one record. Raises SuiteError where a witness refutes the manifest, or a planted point cannot be confirmed."""
    result = record["result"]
    if result == "unsat":
        kind, text, execution = _unsat(entry, semantics)
    elif result == "sat":
        kind, text, execution = _sat(entry, record, semantics)
    else:
        kind, text, execution = result, record["error"] or result, None
    return Outcome(entry, record["mode"], result, kind, text, record["run_seconds"], execution)


def _unsat(entry: Entry, semantics: str) -> tuple[str, str, Execution | None]:
    truth = entry.truth(semantics)
    if truth == "unsat":
        return "solved", f"unsat: {entry.because}", None
    if truth == "unknown":
        return "unclaimed", SAID["unclaimed"], None
    execution = judge.planted(entry)
    how = "the planted point violates" if semantics == "real" or execution.float32 else f"by construction ({entry.because})"
    if semantics == "real" and execution.real is not True:
        raise SuiteError(f"{entry.name} is sat over the reals by the manifest, but its planted point does not violate there")
    return "false-unsat", f"{SAID['false-unsat']} ({semantics}): {how}", execution


def _sat(entry: Entry, record: Record, semantics: str) -> tuple[str, str, Execution | None]:
    if record["malformed"] is not None:
        return "invalid-witness", f"said sat; {record['malformed']}", None
    if record["witness"] is None:
        both = entry.real == "unsat" and entry.float32 == "unsat"
        return ("false-sat", f"{SAID['false-sat']}: {entry.because}", None) if both else ("no-witness", SAID["no-witness"], None)
    execution = judge.execute(entry, record["witness"])
    _compare_with_label(entry, execution)
    if semantics == "float32":
        return *_in_float32(entry, execution), execution
    if execution.real:
        return "solved", "sat: the witness violates over the reals", execution
    if execution.float32:
        known = "" if execution.real is False else "; over the reals the enclosures do not tell"
        return "float32-only", SAID["float32-only"] + known, execution
    if execution.real is None:
        return "no-witness", "said sat; whether the witness violates over the reals is beyond the enclosures", execution
    missed = f"; it misses by {-execution.margin:.3g}" if execution.margin is not None and execution.margin < 0 else ""
    outside = "" if execution.inside else "; it is outside the box"
    return "invalid-witness", f"{SAID['invalid-witness']}: {execution.text}{missed}{outside}", execution


def _in_float32(entry: Entry, execution: Execution) -> tuple[str, str]:
    """The kind of a witness, and why, for float32: some execution has to violate there, of which onnxruntime's is only one."""
    if execution.float32:
        return "solved", "sat: the witness violates in onnxruntime"
    planted = "sat" in (entry.real, entry.float32) and entry.float32 != "unsat"
    if execution.inside and planted and not judge.planted(entry).float32:
        if entry.float32 == "sat" and judge.is_planted(entry, execution.x) and judge.constructed(entry):
            return "solved", f"sat: the witness is the planted point, which violates by construction ({entry.because})"
        return "no-witness", "said sat; the witness does not violate in onnxruntime, and here executions in another order may"
    only = " (it violates over the reals only)" if execution.real else ""
    return "invalid-witness", f"{SAID['invalid-witness']}: {execution.text}{only}"


def _compare_with_label(entry: Entry, execution: Execution) -> None:
    """A counterexample to what the manifest calls unsat: then the suite is wrong, and no score can be given."""
    refuted = [name for name, seen in (("real", execution.real is True), ("float32", execution.float32 and execution.inside))
               if seen and entry.truth(name) == "unsat"]
    if refuted:
        point = " ".join(execution.x)[:400]
        raise SuiteError(f"{entry.name} is unsat ({refuted[0]}) by the manifest, and the witness X = {point} violates: {execution.text}")


@dataclass(frozen=True)
class Tally:
    """Counts over some outcomes: by kind, and of the solved ones how many were sat."""

    instances: int
    kinds: Counter[str]
    sat: int

    @property
    def fatal(self) -> int:
        return sum(self.kinds[kind] for kind in FATAL)

    @property
    def solved(self) -> int:
        return self.kinds["solved"]


def tally(outcomes: Iterable[Outcome]) -> Tally:
    """Count."""
    outcomes = list(outcomes)
    return Tally(len(outcomes), Counter(o.kind for o in outcomes), sum(o.kind == "solved" and o.result == "sat" for o in outcomes))


def groups(outcomes: Sequence[Outcome], key: Callable[[Outcome], Iterable[str]]) -> dict[str, list[Outcome]]:
    """Outcomes by family or by operator, in order of first appearance; an outcome may be in several groups."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        for name in key(outcome):
            found.setdefault(name, []).append(outcome)
    return found


def families(outcome: Outcome) -> tuple[str, ...]:
    return (outcome.entry.family,)


def operators(outcome: Outcome) -> tuple[str, ...]:
    return outcome.entry.operators
