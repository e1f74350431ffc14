"""VNN-COMP's rules since 2025: 10 for a right answer, -150 for a wrong one, nothing for speed; of a benchmark's best points 100 are its best score.

What is right rests on witnesses. A witness is `correct` (violates in onnxruntime without tolerance: the instance is sat, and every `unsat` wrong),
`tolerated` (leaves its box by at most the tolerance), or refused. The two sets of rules differ in the tolerated: `tolerant`, the competition's,
gives its tool the points and settles nothing; under `strict` it is refused. A published table comes without witnesses: then a `sat` is taken at its
word, and an `unsat` is wrong where more tools say sat than unsat; where they do not, the instance is contested and nobody loses points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.contest.results import DECIDED, InstanceKey, Said, ToolTable

RIGHT, WRONG = 10, -150
RULES = ("tolerant", "strict")
REFUSED = ("invalid", "missing", "malformed")
REPLAYED, MAJORITY = "a replayed witness", "the majority"


@dataclass(frozen=True)
class Finding:
    """An instance on which something is to be said about one tool.

    `kind`: `penalty`, `contested` (contradicts others, who are no majority) or `late` (after the limit, which makes it a timeout).
    """

    kind: str
    tool: str
    key: InstanceKey
    text: str


@dataclass(frozen=True)
class Row:
    """One tool in one benchmark, with the columns of the published tables."""

    category: str
    tool: str
    verified: int
    falsified: int
    penalties: int
    points: int
    score: float
    instances: int

    @property
    def printed_score(self) -> str:
        """As the competition prints it: one digit after the point; `0` where the points are negative."""
        return "0" if self.points < 0 else str(round(self.score, 1))


@dataclass(frozen=True)
class Scores:
    """All rows, the best of a benchmark first, and what was found. `believed`: how many `sat` came without a judged witness, by tool."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    believed: Mapping[str, int]

    def totals(self) -> list[tuple[str, float]]:
        """Sum of the scores over the benchmarks, the best tool first."""
        sums: dict[str, float] = {}
        for row in self.rows:
            sums[row.tool] = sums.get(row.tool, 0.0) + row.score
        return sorted(sums.items(), key=lambda item: -item[1])


@dataclass
class _Count:
    verified: int = 0
    falsified: int = 0
    penalties: int = 0
    points: int = field(init=False, default=0)

    def add(self, result: str, worth: int) -> None:
        self.points += worth
        self.penalties += worth < 0
        self.verified += worth > 0 and result == "unsat"
        self.falsified += worth > 0 and result == "sat"


def score(tables: Sequence[ToolTable], rules: str = "tolerant") -> Scores:
    """Score tools against each other. A tool takes part in a benchmark where it decided something, as in the competition."""
    findings: list[Finding] = []
    counts: dict[tuple[str, str], _Count] = {}
    believed = dict.fromkeys((t.tool for t in tables), 0)
    keys = dict.fromkeys(key for t in tables for key in t.said)
    sizes: dict[str, int] = {}
    for key in keys:
        sizes[key.category] = sizes.get(key.category, 0) + 1
        said = {t.tool: in_time(t.said[key]) for t in tables if key in t.said}
        findings += [Finding("late", t.tool, key, f"{t.said[key].result} after {t.said[key].seconds:.1f} s of {t.said[key].limit:g}")
                     for t in tables if key in t.said and said[t.tool] != t.said[key]]
        authority = settled(list(said.values()))
        for tool, answer in said.items():
            if answer.result in DECIDED:
                worth, finding = judge(tool, key, answer, list(said.values()), authority, rules)
                counts.setdefault((key.category, tool), _Count()).add(answer.result, worth)
                findings += [] if finding is None else [finding]
                believed[tool] += answer.result == "sat" and answer.witness is None
    return Scores(tuple(_rows(counts, sizes)), tuple(findings), believed)


def in_time(said: Said) -> Said:
    """An answer after the limit, where the limit is known, is a timeout."""
    late = said.limit is not None and said.seconds > said.limit and said.result in DECIDED
    return Said("timeout", said.seconds, None, said.limit) if late else said


def settled(answers: Sequence[Said]) -> str | None:
    """What settles that an instance is sat: a replayed witness, more tools that say so (their witnesses not judged), or None."""
    if any(a.result == "sat" and a.witness == "correct" for a in answers):
        return REPLAYED
    taken = sum(a.result == "sat" and a.witness is None for a in answers)
    return MAJORITY if taken > sum(a.result == "unsat" for a in answers) else None


def judge(tool: str, key: InstanceKey, answer: Said, answers: Sequence[Said], authority: str | None, rules: str) -> tuple[int, Finding | None]:
    """(points, finding) of one decided answer among all `answers` to its instance."""
    sat, unsat = (sum(a.result == word for a in answers) for word in DECIDED)
    if answer.result == "unsat":
        if authority is not None:
            return WRONG, Finding("penalty", tool, key, f"unsat, against {authority} ({sat} say sat, {unsat} unsat)")
        taken = sum(a.result == "sat" and a.witness is None for a in answers)
        contested = Finding("contested", tool, key, f"unsat; {taken} say sat, {unsat} unsat, and no witness has been judged")
        return RIGHT, contested if taken else None
    if answer.witness in REFUSED or (rules == "strict" and answer.witness == "tolerated"):
        return WRONG, Finding("penalty", tool, key, f"sat, and its witness is {answer.witness}")
    if answer.witness == "unsupported":
        return 0, None
    if unsat >= sat and answer.witness is None:
        return RIGHT, Finding("contested", tool, key, f"sat; {unsat} say unsat, and its witness has not been judged")
    return RIGHT, None


def _rows(counts: Mapping[tuple[str, str], _Count], sizes: Mapping[str, int]) -> list[Row]:
    rows = []
    for category in sorted({category for category, _ in counts}):
        mine = [(tool, count) for (c, tool), count in counts.items() if c == category]
        best = max(count.points for _, count in mine)
        made = [Row(category, tool, c.verified, c.falsified, c.penalties, c.points, max(0.0, 100 * c.points / max(best, 1)), sizes[category])
                for tool, c in mine]
        rows += sorted(made, key=lambda row: (-row.points, row.tool))
    return rows
