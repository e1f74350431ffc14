"""What a batch run showed: the table per category, the findings by name, and the two gates. Pure functions of the records."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from rich.table import Table

from benchmarks.ledger import Key, Record

DECIDED = ("sat", "unsat")
QUICK = 10.0  # seconds: a committed answer that was faster has to be found again


@dataclass(frozen=True)
class Finding:
    """Something to look at: kind is `wrong`, `error`, `disputed` (against a label with `?`) or a gate's name."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True)
class Tally:
    """Counts over some instances. decided = sat + unsat = certified + replayed + unchecked; times in seconds, over the decided ones."""

    instances: int
    sat: int
    unsat: int
    certified: int
    replayed: int
    unchecked: int
    wrong: int
    error: int
    median_seconds: float | None

    @property
    def decided(self) -> int:
        return self.sat + self.unsat


def tally(records: list[Record]) -> Tally:
    """Score records; `replayed` needs our own judge's agreement, `certified` the engine's word that its checker accepted."""
    decided = [r for r in records if r["result"] in DECIDED]
    certified = sum(r["result"] == "unsat" and r["assurance"] == "certified" for r in decided)
    replayed = sum(r["result"] == "sat" and not _refused_by(r) for r in decided)
    sat = sum(r["result"] == "sat" for r in decided)
    return Tally(len(records), sat, len(decided) - sat, certified, replayed, len(decided) - certified - replayed,
                 sum(is_wrong(r) for r in records), sum(r["result"] == "error" for r in records),
                 statistics.median(r["run_seconds"] for r in decided) if decided else None)


def is_wrong(record: Record) -> bool:
    """Contradicts a plain label, or has a witness that fails a replay."""
    result, label = record["result"], record["label"]
    return result in DECIDED and ((label in DECIDED and label != result) or bool(_refused_by(record)))


def findings(records: Iterable[Record]) -> list[Finding]:
    """The wrong, the failed, and those that contradict a disputed label."""
    found = []
    for record in records:
        name, result, label = instance_name(record), record["result"], record["label"]
        if result in DECIDED:
            found += [Finding("wrong", name, f"the witness fails: {text}") for text in _refused_by(record)]
            if label.rstrip("?") in DECIDED and label.rstrip("?") != result:
                evidence = "; the witness replays, which refutes the label" if result == "sat" and not _refused_by(record) else ""
                found.append(Finding("disputed" if label.endswith("?") else "wrong", name, f"{result}, the label is {label}{evidence}"))
        elif result == "error":
            found.append(Finding("error", name, record["error"] or "no reason was given"))
    return found


def gate(records: Iterable[Record]) -> list[Finding]:
    """The attack-off gate over instances expected to be sat: every `unsat` is a failure, and every error, since it shows nothing."""
    return [Finding("gate", instance_name(r), f"{r['result']}, the label is {r['label']}") for r in records if r["result"] in ("unsat", "error")]


def disagreements(records: Iterable[Record], committed: dict[Key, tuple[str, float]]) -> list[Finding]:
    """Where a fresh run contradicts a committed table, or does not decide what the table says was decided within QUICK seconds."""
    found = []
    for record in records:
        before, seconds = committed[record["category"], record["network"], record["property"]]
        now = record["result"]
        contradiction = before in DECIDED and now in DECIDED and before != now
        lost = before in DECIDED and seconds < QUICK and now not in DECIDED
        if contradiction or lost:
            found.append(Finding("disagrees", instance_name(record), f"{now} now; the table says {before} in {seconds:.1f} s"))
    return found


def summary(records: list[Record]) -> Table:
    """The table of a batch run: one line a category, and the total."""
    table = Table(caption="decided = sat + unsat = certified + replayed + unchecked; median over the decided", caption_justify="left")
    table.add_column("category")
    for name in ("instances", "decided", "certified", "replayed", "unchecked", "sat", "unsat", "wrong", "error", "median s"):
        table.add_column(name, justify="right")
    categories = list(dict.fromkeys(r["category"] for r in records))
    for category in categories:
        table.add_row(category, *_cells(tally([r for r in records if r["category"] == category])))
    table.add_section()
    table.add_row("total", *_cells(tally(records)))
    return table


def instance_name(record: Record) -> str:
    return f"{record['category']} {record['network'].rsplit('/', 1)[-1]} {record['property'].rsplit('/', 1)[-1]}"


def _refused_by(record: Record) -> list[str]:
    """What the judges of a `sat` said, unless they saw the violation; no word from our own judge is a refusal."""
    if record["result"] != "sat":
        return []
    verdicts = [record.get("replay") or {"violated": False, "text": "it was not replayed"}, *([record["judge"]] if "judge" in record else [])]
    return [v["text"] for v in verdicts if v["violated"] is not True]


def _cells(t: Tally) -> list[str]:
    counts = (t.instances, t.decided, t.certified, t.replayed, t.unchecked, t.sat, t.unsat, t.wrong, t.error)
    return [*map(str, counts), "-" if t.median_seconds is None else f"{t.median_seconds:.2f}"]
