"""Compares scores with a table that the organisers published: track,category,tool,verified,falsified,penalties,points,score."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest.results import ToolTable
from benchmarks.contest.scoring import Finding, Row, Scores
from benchmarks.instances import DataError

COLUMNS = ("category", "tool", "verified", "falsified", "penalties", "points", "score")


@dataclass(frozen=True)
class Published:
    """One row of a published table; `score` as it is printed there."""

    category: str
    tool: str
    verified: int
    falsified: int
    penalties: int
    points: int
    score: str


@dataclass(frozen=True)
class Comparison:
    """A published row beside ours (None: we have none). `named`: instances on which this tool contradicts a replayed or majority verdict, or a tie.

    `unexplained` penalties have no such instance: they were given for witnesses, which tables do not hold; `suspects` counts the `sat` answers
    of this tool among which they are.
    """

    published: Published
    ours: Row | None
    named: tuple[Finding, ...]
    suspects: int

    @property
    def same(self) -> bool:
        """Whether all columns agree, the score to its printed digit."""
        p, o = self.published, self.ours
        return o is not None and (p.verified, p.falsified, p.penalties, p.points, p.score) == (
            o.verified, o.falsified, o.penalties, o.points, o.printed_score)  # fmt: skip

    @property
    def unexplained(self) -> int:
        return max(0, self.published.penalties - len(self.named))


def read_published(path: Path) -> list[Published]:
    """Raises DataError."""
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        return [Published(r["category"], r["tool"], int(r["verified"]), int(r["falsified"]), int(r["penalties"]), int(r["points"]), r["score"])
                for r in rows]
    except (OSError, UnicodeDecodeError, csv.Error, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: not a published table with the columns {', '.join(COLUMNS)}: {error!r}") from error


def compare(scores: Scores, published: Sequence[Published], tables: Sequence[ToolTable]) -> list[Comparison]:
    """Every published row of a tool that was scored, with ours and what explains its penalties."""
    ours = {(row.category, row.tool): row for row in scores.rows}
    by_tool: Mapping[str, ToolTable] = {t.tool: t for t in tables}
    compared = []
    for row in published:
        if row.tool in by_tool:
            named = _contradictions(scores, row, by_tool[row.tool])
            compared.append(Comparison(row, ours.get((row.category, row.tool)), named, _sats(by_tool[row.tool], row.category)))
    return compared


def lines(compared: Sequence[Comparison]) -> list[str]:
    """For people: how many rows agree, and what is to be said of the others and of every penalty."""
    without = [c for c in compared if not c.published.penalties]
    penalised = [c for c in compared if c.published.penalties]
    text = [f"{sum(c.same for c in compared)} of {len(compared)} published rows are the same in all columns; "
            f"without penalty {sum(c.same for c in without)} of {len(without)}, with penalty {sum(c.same for c in penalised)} of {len(penalised)}"]
    text += [f"differs: {c.published.category} {c.published.tool}: {_columns(c)}" for c in compared if not c.same]
    for c in penalised:
        p = c.published
        text.append(f"{p.category} {p.tool}, published penalties {p.penalties}, instances that contradict {len(c.named)}:")
        text += [f"    {f.key}: {f.text}" for f in c.named]
        if c.unexplained:
            text.append(f"    {c.unexplained} more for witnesses, which are not in the tables: among the {c.suspects} instances that it calls sat")
    return text


def _contradictions(scores: Scores, row: Published, table: ToolTable) -> tuple[Finding, ...]:
    """Penalties and contested `unsat`s of that tool in that benchmark, for a published row with penalties."""
    if not row.penalties:
        return ()
    mine = [f for f in scores.findings if f.tool == row.tool and f.key.category == row.category]
    return tuple(f for f in mine if f.kind == "penalty" or (f.kind == "contested" and table.said[f.key].result == "unsat"))


def _sats(table: ToolTable, category: str) -> int:
    return sum(said.result == "sat" for key, said in table.said.items() if key.category == category)


def _columns(c: Comparison) -> str:
    p, o = c.published, c.ours
    theirs = f"published {p.verified} verified, {p.falsified} falsified, {p.penalties} penalties, {p.points} points, score {p.score}"
    if o is None:
        return f"{theirs}; here it decided nothing"
    return f"{theirs}; here {o.verified}, {o.falsified}, {o.penalties}, {o.points}, {o.printed_score}"
