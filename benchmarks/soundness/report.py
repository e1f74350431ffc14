"""The score of a run as text, JSON and JUnit XML; all say the same, from the same outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from rich.table import Table

from benchmarks.soundness.scoring import FATAL, OUTCOMES, Outcome, Tally, families, groups, operators, tally

SCHEMA = 1
NEAR = 1e-6  # only for the sentence that names near misses; they are no less wrong
HEADINGS = {"false-unsat": "false unsat", "invalid-witness": "bad witness", "false-sat": "false sat", "float32-only": "float32 only",
            "no-witness": "no witness"}
ALWAYS = ("solved", *FATAL[:2], "unknown", "timeout", "error")


@dataclass(frozen=True)
class Report:
    """A run and what it was worth. `semantics`: what the verifier claimed; `suite`: digest, as in the ledger; `modes`: how the tool was called;
    `missing`: how many answers a run that is not finished lacks."""

    outcomes: tuple[Outcome, ...]
    semantics: str
    suite: str
    timeout: float
    modes: dict[str, Any]
    missing: int = 0

    @property
    def fatal(self) -> list[Outcome]:
        return [o for o in self.outcomes if o.fatal]

    def of_mode(self, mode: str) -> list[Outcome]:
        return [o for o in self.outcomes if o.mode == mode]


def tables(report: Report) -> list[Table]:
    """For each mode: a line a family and the total, and a line an operator."""
    made = []
    for mode in report.modes:
        outcomes = report.of_mode(mode)
        made.append(_table(f"{mode}, {report.semantics} semantics, {report.timeout:g} s", "family", groups(outcomes, families), outcomes))
        made.append(_table(f"{mode}, by operator (an instance counts for each of its operators)", "operator",
                           dict(sorted(groups(outcomes, operators).items())), None))
    return made


def _table(title: str, first: str, rows: dict[str, list[Outcome]], total: Sequence[Outcome] | None) -> Table:
    met = {outcome.kind for outcomes in rows.values() for outcome in outcomes}
    shown = [kind for kind in OUTCOMES if kind in ALWAYS or kind in met]
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for heading in ("instances", "solved", "sat", "unsat", *(HEADINGS.get(k, k) for k in shown if k != "solved")):
        table.add_column(heading, justify="right")
    for name, outcomes in rows.items():
        table.add_row(name, *_cells(tally(outcomes), shown))
    if total is not None:
        table.add_section()
        table.add_row("total", *_cells(tally(total), shown))
    return table


def _cells(t: Tally, shown: Iterable[str]) -> list[str]:
    return [str(n) for n in (t.instances, t.solved, t.sat, t.solved - t.sat, *(t.kinds[k] for k in shown if k != "solved"))]


def lines(report: Report) -> list[str]:
    """What to look at, one line each: the fatal findings with the input, then what violates in float32 only, then one line of conclusion."""
    found = []
    for outcome in report.fatal:
        found.append(f"FATAL {outcome.kind}: {outcome.entry.name} ({outcome.mode}): {outcome.text}")
        if outcome.execution is not None:
            found.append(f"  X = {_shortened(outcome.execution.x)}")
            found += [f"  {m.text}: margin {m.exact} exactly, {m.runtime} in onnxruntime" for m in outcome.execution.margins[:8]]
    found += [f"float32 only: {o.entry.name} ({o.mode}): {o.text}" for o in report.outcomes if o.kind == "float32-only"]
    near = [o for o in report.fatal if o.kind == "invalid-witness" and o.execution and o.execution.inside and -NEAR < (o.execution.margin or -1) < 0]
    if near:
        found.append(f"{len(near)} of the invalid witnesses lie in the box and miss by less than {NEAR:g}: rounded away, and no counterexamples")
    t = tally(report.outcomes)
    verdict = f"{t.fatal} FATAL" if t.fatal else "no fatal finding"
    missing = f", {report.missing} answers missing" if report.missing else ""
    return [*found, f"{verdict}; {t.solved} of {t.instances} solved, {t.kinds['error']} errors{missing}"]


def _shortened(values: Sequence[str]) -> str:
    return " ".join(values) if len(values) <= 20 else f"{' '.join(values[:20])} ... ({len(values)} values; all of them are in the JSON)"


def to_json(report: Report) -> dict[str, Any]:
    """Schema 1. Every fatal outcome and every float32-only one has its execution in full."""
    return {
        "schema": SCHEMA, "tool": "soundproof soundness", "semantics": report.semantics, "suite_sha256": report.suite, "timeout": report.timeout,
        "fatal": len(report.fatal), "missing": report.missing,
        "modes": {mode: {"verifier": described, "total": _counts(report.of_mode(mode)),
                         "families": {k: _counts(v) for k, v in groups(report.of_mode(mode), families).items()},
                         "operators": {k: _counts(v) for k, v in sorted(groups(report.of_mode(mode), operators).items())}}
                  for mode, described in report.modes.items()},
        "findings": [_finding(o) for o in report.outcomes if o.fatal or o.kind == "float32-only"],
        "instances": [{"name": o.entry.name, "family": o.entry.family, "mode": o.mode, "real": o.entry.real, "float32": o.entry.float32,
                       "result": o.result, "outcome": o.kind, "seconds": o.seconds} for o in report.outcomes],
    }


def _counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    t = tally(outcomes)
    solved = {"solved_sat": t.sat, "solved_unsat": t.solved - t.sat}
    return {"instances": t.instances, "fatal": t.fatal, **solved, **{kind: t.kinds[kind] for kind in OUTCOMES}}


def _finding(outcome: Outcome) -> dict[str, Any]:
    entry = outcome.entry
    return {"name": entry.name, "family": entry.family, "mode": outcome.mode, "kind": outcome.kind, "fatal": outcome.fatal, "result": outcome.result,
            "text": outcome.text, "truth": {"real": entry.real, "float32": entry.float32, "proof": entry.proof, "because": entry.because},
            "model": f"onnx/{entry.name}.onnx", "property": f"vnnlib/{entry.name}.vnnlib",
            "execution": None if outcome.execution is None else _finite(asdict(outcome.execution))}


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN, and an output that overflowed is one: written as the texts inf, -inf and nan."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def to_junit(report: Report) -> str:
    """One suite a family and mode, one case an instance: fatal findings fail, errors are errors, what was not decided is skipped."""
    root = ElementTree.Element("testsuites", name="soundproof soundness")
    for mode in report.modes:
        for family, outcomes in groups(report.of_mode(mode), families).items():
            t = tally(outcomes)
            skipped = t.instances - t.fatal - t.solved - t.kinds["error"]
            suite = ElementTree.SubElement(root, "testsuite", name=family if mode == "default" else f"{family}:{mode}", tests=str(t.instances),
                                           failures=str(t.fatal), errors=str(t.kinds["error"]), skipped=str(skipped))
            for outcome in outcomes:
                _case(suite, outcome)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, outcome: Outcome) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=outcome.entry.family, name=outcome.entry.name, time=f"{outcome.seconds:.3f}")
    if outcome.kind == "solved":
        return
    tag = "failure" if outcome.fatal else "error" if outcome.kind == "error" else "skipped"
    element = ElementTree.SubElement(case, tag, message=_printable(outcome.text))
    if tag != "skipped":
        element.set("type", outcome.kind)
    if outcome.fatal and outcome.execution is not None:
        element.text = f"X = {' '.join(outcome.execution.x)}"


def _printable(text: str) -> str:
    """XML 1.0 has no control characters; logs of tools do."""
    return "".join(c if c.isprintable() else " " for c in text)
