"""Which planted instances a verifier decides: the table of a run on the suite, summed up by model (trained) and by kind (needles)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.instances import DataError
from benchmarks.soundness.instance import Entry
from benchmarks.soundness.suite import load_report

COLUMNS = ("family", "kind", "asked", "sat", "seconds")
NAMED = {"trained": "model", "needles": "kind"}  # the knob that tells what an instance is one of


def summary(results: Path, entries: Sequence[Entry]) -> list[dict[str, str]]:
    """A line per kind: how many instances that are sat were asked, attack on, and of how many an answer was right, with its witness replayed.
    Raises DataError where the run is of another suite, is not finished or has a fatal finding, and SuiteError."""
    said: list[str] = []
    report = load_report(results, entries, said.append)
    if said or report.fatal:
        raise DataError(f"{results}: {said[0] if said else report.fatal[0].text}")
    asked, solved = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for outcome in report.of_mode("default"):
        entry = outcome.entry
        if entry.family in NAMED and entry.real == "sat":
            place = entry.family, str(entry.knobs[NAMED[entry.family]])
            asked[place] += 1
            solved[place] += outcome.kind == "solved"
    return [{"family": family, "kind": kind, "asked": str(count), "sat": str(solved[family, kind]), "seconds": f"{report.timeout:g}"}
            for (family, kind), count in sorted(asked.items())]
