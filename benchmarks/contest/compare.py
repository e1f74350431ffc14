"""Tools beside each other: what each decided, what only one of them did, where they contradict each other, and how their times compare."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.contest.results import DECIDED, InstanceKey, Said, ToolTable
from benchmarks.contest.scoring import in_time

SHORTEST = 0.01  # seconds: below it a ratio of times says nothing


@dataclass(frozen=True)
class Pair:
    """Two tools in one benchmark (category "all": in all of them), over the instances that both tables have.

    `faster`: the geometric mean, over what both decided, of the first's seconds over the second's (below 1: the first is faster); None without any.
    """

    category: str
    tools: tuple[str, str]
    instances: int
    both: int
    only: tuple[tuple[InstanceKey, ...], tuple[InstanceKey, ...]]
    contradictions: tuple[InstanceKey, ...]
    faster: float | None


@dataclass(frozen=True)
class Summary:
    """One tool in one benchmark; `median` seconds over what it decided, None without any."""

    category: str
    tool: str
    instances: int
    sat: int
    unsat: int
    timeout: int
    error: int
    median: float | None


def pairs(tables: Sequence[ToolTable]) -> list[Pair]:
    """The first tool against each of the others, by benchmark and in all."""
    first, *others = tables
    return [_pair(category, first, other) for other in others for category in _categories([first, other])]


def summaries(tables: Sequence[ToolTable]) -> list[Summary]:
    """Each tool, by benchmark and in all."""
    return [_summary(category, table) for category in _categories(tables) for table in tables if any(_within(table, category))]


def to_json(tables: Sequence[ToolTable]) -> dict[str, Any]:
    """Everything, with the instances by name."""
    listed = [{**vars(s)} for s in summaries(tables)]
    compared = [{"category": p.category, "tools": p.tools, "instances": p.instances, "both": p.both, "faster": p.faster,
                 "only_first": [_named(k) for k in p.only[0]], "only_second": [_named(k) for k in p.only[1]],
                 "contradictions": [_named(k) for k in p.contradictions]} for p in pairs(tables)] if len(tables) > 1 else []  # fmt: skip
    return {"schema": 1, "tools": [t.tool for t in tables], "summaries": listed, "pairs": compared}


def _categories(tables: Sequence[ToolTable]) -> list[str]:
    return [*sorted({key.category for table in tables for key in table.said}), "all"]


def _within(table: ToolTable, category: str) -> Iterator[tuple[InstanceKey, Said]]:
    return ((key, in_time(said)) for key, said in table.said.items() if category in ("all", key.category))


def _pair(category: str, first: ToolTable, second: ToolTable) -> Pair:
    theirs = dict(_within(second, category))
    common = [(key, said, theirs[key]) for key, said in _within(first, category) if key in theirs]
    decided = [(key, a, b) for key, a, b in common if a.result in DECIDED and b.result in DECIDED]
    only = (tuple(k for k, a, b in common if a.result in DECIDED and b.result not in DECIDED),
            tuple(k for k, a, b in common if a.result not in DECIDED and b.result in DECIDED))
    against = tuple(key for key, a, b in decided if a.result != b.result)
    ratios = [math.log(max(a.seconds, SHORTEST) / max(b.seconds, SHORTEST)) for _, a, b in decided if a.result == b.result]
    faster = math.exp(statistics.fmean(ratios)) if ratios else None
    return Pair(category, (first.tool, second.tool), len(common), len(decided) - len(against), only, against, faster)


def _summary(category: str, table: ToolTable) -> Summary:
    said = [s for _, s in _within(table, category)]
    times = [s.seconds for s in said if s.result in DECIDED]
    sat, unsat, timeout, error = (sum(s.result == word for s in said) for word in ("sat", "unsat", "timeout", "error"))
    return Summary(category, table.tool, len(said), sat, unsat, timeout, error, statistics.median(times) if times else None)


def _named(key: InstanceKey) -> list[str | int]:
    return [key.category, key.network, key.property, key.occurrence]
