"""Scores and comparisons as tables for people, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.table import Column, Table

from benchmarks.contest.compare import Pair, Summary
from benchmarks.contest.published import COLUMNS
from benchmarks.contest.results import InstanceKey, ToolTable
from benchmarks.contest.scoring import Finding, Row, Scores


def score_tables(scores: Scores) -> list[Table]:
    """The rows, and the totals."""
    table = Table("benchmark", "tool", *(_right(name) for name in ("instances", "verified", "falsified", "penalties", "points", "score")))
    last = None
    for row in scores.rows:
        if last not in (None, row.category):
            table.add_section()
        numbers = (row.instances, row.verified, row.falsified, row.penalties, row.points)
        table.add_row("" if row.category == last else row.category, row.tool, *map(str, numbers), row.printed_score)
        last = row.category
    totals = Table("tool", _right("total score"), title="Sum of the scores", title_justify="left")
    for tool, total in scores.totals():
        totals.add_row(tool, f"{total:.1f}")
    return [table, totals]


def lines(scores: Scores, tables: Sequence[ToolTable]) -> list[str]:
    """What was found, and on what the scores rest."""
    text = [_finding(f) for f in scores.findings]
    believed = [f"{tool} {count}" for tool, count in scores.believed.items() if count]
    if believed:
        text.append(f"sat answers whose witnesses nobody has judged, taken at their word: {', '.join(believed)}")
    warm_up = [f"{t.tool} {t.warm_up}" for t in tables if t.warm_up]
    return text + ([f"rows of the organisers' test instances, left out: {', '.join(warm_up)}"] if warm_up else [])


def to_csv(scores: Scores) -> str:
    """In the columns of a published table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((r.category, r.tool, r.verified, r.falsified, r.penalties, r.points, r.printed_score) for r in scores.rows)
    return text.getvalue()


def to_json(scores: Scores, rules: str) -> dict[str, Any]:
    """Rows, totals and findings."""
    return {"schema": 1, "rules": rules, "rows": [_row(r) for r in scores.rows], "totals": dict(scores.totals()), "believed": dict(scores.believed),
            "findings": [{"kind": f.kind, "tool": f.tool, **vars(f.key), "text": f.text} for f in scores.findings]}


def summary_table(found: Sequence[Summary]) -> Table:
    """One line for each benchmark and tool."""
    table = Table("benchmark", "tool", *(_right(name) for name in ("instances", "sat", "unsat", "timeout", "error", "median s")))
    for s in found:
        median = "-" if s.median is None else f"{s.median:.2f}"
        table.add_row(s.category, s.tool, *map(str, (s.instances, s.sat, s.unsat, s.timeout, s.error)), median)
    return table


def pair_table(found: Sequence[Pair]) -> Table:
    """One line for each benchmark and pair."""
    columns = ("in both", "both decide", "only first", "only second", "contradictions", "time ratio")
    table = Table("benchmark", "first", "second", *(_right(name) for name in columns),
                  caption="time ratio: the first's seconds over the second's, geometric mean over what both decide", caption_justify="left")
    for p in found:
        counts = (p.instances, p.both, len(p.only[0]), len(p.only[1]), len(p.contradictions))
        table.add_row(p.category, *p.tools, *map(str, counts), "-" if p.faster is None else f"{p.faster:.2f}")
    return table


def pair_lines(found: Sequence[Pair], instances: bool) -> list[str]:
    """Contradictions by name, and, where `instances` is set, what only one tool decided."""
    text = []
    for p in found:
        if p.category == "all":
            continue
        text += [f"contradiction: {p.tools[0]} and {p.tools[1]}: {p.category} {key}" for key in p.contradictions]
        if instances:
            text += [f"only {tool}: {p.category} {key}" for tool, keys in zip(p.tools, p.only, strict=True) for key in keys]
    return text


def _finding(found: Finding) -> str:
    return f"{found.kind}: {found.tool}: {_name(found.key)}: {found.text}"


def _name(key: InstanceKey) -> str:
    return f"{key.category} {key}"


def _row(row: Row) -> dict[str, Any]:
    return {**vars(row), "printed_score": row.printed_score}


def _right(name: str) -> Column:
    return Column(name, justify="right")
