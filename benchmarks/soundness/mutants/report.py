"""The table of the campaign as a page of the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.soundness.mutants.campaign import Row

HEAD = """# The mutants of the soundness suite

*Written by `python -m benchmarks.soundness.mutants SUITE --report docs/soundness_mutants.md`; do not edit. The numbers are those of
`benchmarks/results/suite_mutants.csv`.*

A suite that never finds anything may be a good sign for the verifiers, or a bad one for the suite. So our own engine and our own checker are
broken on purpose, one small defect at a time (`benchmarks/soundness/mutants/`): a few lines of one function, exchanged while the process runs.
Defects are named after rows of the catalogues of bugs that verifiers really had, where they have a row.

An engine is *killed* if it says `unsat` of an instance that is violated, or prints a witness that is none, when its word is trusted
(`--trust engine`) and the guards that other tools do not have are out: the comparison with onnxruntime at load (every mutant of the lowering), the
accounts of the search and the alarm about contradicting bounds. Then it runs again **with the checker**: nothing false may come out. *As
shipped* says who stops it first when the guards are in, too. Attacks are off, but for mutants that lie about witnesses. A checker is killed by a
forged certificate that it accepts and the real one refuses.

To try one yourself: `python -m benchmarks.soundness.mutants.engine NAME --guards-out MODEL PROPERTY --no-attack [--trust engine]`.
"""

NOT_FORGED = "No forgery was found in the time that it got; nothing is claimed."


def page(table: Mapping[str, Row]) -> str:
    """The whole page."""
    engines = [row for row in table.values() if row.kind == "engine"]
    checkers = [row for row in table.values() if row.kind == "checker"]
    return "\n".join([HEAD, *_summary(engines, checkers), *_leaks(engines), *_families(engines), *_survivors(table.values()), *_engines(engines),
                      *_checkers(checkers)]) + "\n"  # fmt: skip


def _killed(rows: Sequence[Row]) -> str:
    return f"{sum(row.killed == 'yes' for row in rows)} of {len(rows)}"


def _summary(engines: Sequence[Row], checkers: Sequence[Row]) -> Iterator[str]:
    yield "## In short\n"
    yield "| broken | killed | by a false `unsat` | by a witness that is none | something false with checker and judge on |"
    yield "|---|---|---|---|---|"
    for area in (*dict.fromkeys(row.area for row in engines), ""):
        mine = [row for row in engines if area in ("", row.area)]
        told = Counter(row.lie for row in mine)
        leaks = sum(bool(row.leak) for row in mine)
        yield f"| engine: {area or '**all**'} | {_killed(mine)} | {told['false unsat']} | {told['invalid witness']} | {leaks} |"
    yield f"| checker | {_killed(checkers)} | | | |"
    yield ""


def _leaks(engines: Sequence[Row]) -> Iterator[str]:
    leaks = [row for row in engines if row.leak]
    false = [row for row in leaks if "false unsat" in row.leak]
    yield "## The second line\n"
    yield (
        f"With the checker of certificates and the judge of witnesses on, {len(false) or 'no'} mutant{'' if len(false) == 1 else 's'} got a false "
        f"`unsat` out, and {len(leaks) - len(false) or 'none'} a `sat` whose witness is none. The checker and the judge read the files for "
        "themselves; what they share with each other is the checker's reader of properties.\n"
    )
    for row in leaks:
        yield f"- `{row.mutant}`: {row.about} ({row.leak.split(';')[0]})."
    yield ""


def _families(engines: Sequence[Row]) -> Iterator[str]:
    asked, killed, alone = Counter[str](), Counter[str](), Counter[str]()
    for row in engines:
        names = [part.partition(":")[0] for part in row.families.split()]
        asked.update(row.tried.split())
        killed.update(names)
        alone.update(names if len(names) == 1 else [])
    yield "## What each family kills\n"
    yield (
        "The first kill in each family counts, among the cheapest instances: a mutant had a second or two a family, some more. A family is asked "
        "where an instance of it calls what is broken. `regress` was written with the mutants. *Alone*: no other family that was asked kills it.\n"
    )
    yield "| family | mutants asked | killed | alone |"
    yield "|---|---|---|---|"
    for family in sorted(asked):
        yield f"| {family} | {asked[family]} | {killed[family]} | {alone[family]} |"
    yield ""


def _survivors(rows: Sequence[Row] | object) -> Iterator[str]:
    left = [row for row in rows if row.killed != "yes"]  # type: ignore[attr-defined]
    yield "## Survivors\n"
    yield from (
        f"- `{row.mutant}` ({row.seen} runs): {row.about}. {row.note or NOT_FORGED if row.kind == 'checker' else row.note or 'Not explained yet.'}"
        for row in left
    )
    yield ""


def _engines(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Engines\n"
    yield "| mutant | named after | what is wrong | killed by | with the checker | as shipped |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        told = "<br>".join(row.families.split()) or "-"
        yield f"| `{row.mutant}` | {row.row} | {_cell(row.about)} | {told} | {_ends(row.checked)} | {_ends(row.shipped)} |"
    yield ""


def _checkers(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Checkers\n"
    yield "| mutant | named after | what is wrong | forged by | subject | the real checker says |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        how = row.lie.removeprefix("accepts a forgery: ") or "-"
        yield f"| `{row.mutant}` | {row.row} | {_cell(row.about)} | {how} | {row.families or '-'} | {row.checked or '-'} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _ends(text: str) -> str:
    """What a run ended in, without counts."""
    return ", ".join(dict.fromkeys(part.rpartition(":")[0].replace("_", " ") for part in text.split())) or "-"
