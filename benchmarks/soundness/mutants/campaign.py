"""Every mutant of the engine against the suite: does the suite catch it, which family alone, and does the checker stop it?

A mutant runs alone first: its word is trusted, no certificate is written, the guards it names are out. An instance kills it if it says
`unsat` of what is violated, or tells a witness that is none (benchmarks.replay). In every family it goes on until the first kill, cheap
instances first, those left out that never call what is changed. Where it lied it runs again with the checker, guards out: nothing false may
come out; and once more with the guards in, as shipped: who stops it first?
"""

from __future__ import annotations

import csv
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from benchmarks.soundness.instance import Entry, read
from benchmarks.soundness.mutants.edit import Mutant, applied, touched
from benchmarks.soundness.mutants.play import Answer, Limits, checked, lie, options_for, trusted
from benchmarks.soundness.mutants.registry import ENGINES, changes

CHECKED = 2  # kills, of different families, that are run again with the checker
TOUCH = Limits(seconds=30.0, nodes=0)  # files are read, and every case is bounded once


@dataclass(frozen=True)
class Row:
    """One line of the table. `families`: family:instance of the first kill in each; `lie`: what it told there; `checked` and `shipped`: what came of
    these with the checker, guards out and in; `noticed`: errors it ended in; `seen`: instances run; `tried`: the families that were asked."""

    mutant: str
    kind: str
    area: str
    row: str
    about: str
    killed: str = "no"
    lie: str = ""
    families: str = ""
    checked: str = ""
    leak: str = ""
    shipped: str = ""
    noticed: str = ""
    seen: int = 0
    seconds: str = ""
    note: str = ""
    tried: str = ""


COLUMNS = tuple(f.name for f in fields(Row))


@dataclass
class Budget:
    """Seconds of this process for one mutant in one family, and the limits of one run (whose seconds are of the clock: nodes should decide)."""

    family_seconds: float = 4.0
    limits: Limits = field(default_factory=lambda: Limits(seconds=20.0, nodes=60))


def rows(path: Path) -> dict[str, Row]:
    """The table so far, by mutant."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {line["mutant"]: Row(**{**line, "seen": int(line["seen"])}) for line in csv.DictReader(file)}


def write(path: Path, table: Mapping[str, Row]) -> None:
    """All rows, engines first, in the order of their names."""
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(table[name]) for name in sorted(table, key=lambda name: (table[name].kind != "engine", table[name].area, name)))
    part.replace(path)


class Suite:
    """The entries, and what the engine itself calls on each: found once, kept in `cache`."""

    def __init__(self, folder: Path, cache: Path, families: Sequence[str] = ()) -> None:
        self.entries = [e for e in read(folder) if not families or e.family in families]
        self._cache = cache
        self._known: dict[str, list[object]] = json.loads(cache.read_text()) if cache.exists() else {}
        self._places = sorted({place for mutant in ENGINES.values() for place in mutant.places})

    def measure(self) -> None:
        """Run the engine once on every violated entry that is not known yet; what it calls and how long it takes."""
        violated = [e for e in self.entries if "sat" in (e.real, e.float32)]
        for number, entry in enumerate(e for e in violated if e.model_sha256 + e.property_sha256 not in self._known):
            began = time.process_time()
            with touched(self._places) as called:
                answer = trusted(options_for(entry, TOUCH, attack=False))
            self._known[entry.model_sha256 + entry.property_sha256] = [answer.verdict, round(time.process_time() - began, 3), sorted(called)]
            if number % 20 == 19:
                self._cache.write_text(json.dumps(self._known))
                print(f"measured {number + 1}", flush=True)
        self._cache.write_text(json.dumps(self._known))

    def cost(self, entry: Entry) -> float:
        """Seconds of a short run; of what was not measured a guess from its size."""
        known = self._known.get(entry.model_sha256 + entry.property_sha256)
        return 0.1 + entry.model.stat().st_size * 1e-6 if known is None else float(str(known[1]))

    def calls(self, entry: Entry, mutant: Mutant) -> bool:
        """Whether the engine calls something of what the mutant changes; where that depends on a setup or the attack, it may."""
        known = self._known.get(entry.model_sha256 + entry.property_sha256)
        searched = any(place.startswith("verifier.") for place in mutant.places)  # a short run may not come that far
        if known is None or mutant.setup or mutant.attack or searched:
            return True
        return any(place in known[2] for place in mutant.places)  # type: ignore[operator]

    def families(self, mutant: Mutant) -> Iterator[tuple[str, list[Entry]]]:
        """Per family the instances that may show the mutant, the cheapest first. Only violated ones where it says nothing but `unsat`."""
        told: dict[str, list[Entry]] = {}
        for entry in sorted(self.entries, key=self.cost):
            if (mutant.attack or entry.truth(mutant.semantics) == "sat") and self.calls(entry, mutant):
                told.setdefault(entry.family, []).append(entry)
        yield from sorted(told.items())


def attempt(mutant: Mutant, entry: Entry, limits: Limits) -> Answer:
    """What the mutant says when its word is enough."""
    with applied(changes(mutant, guards=False)):
        return trusted(options_for(entry, limits, attack=mutant.attack, semantics=mutant.semantics))


def engine_row(mutant: Mutant, suite: Suite, budget: Budget, before: Row | None = None) -> Row:
    """The mutant against every family that was not asked before; and what is known already."""
    row = before or Row(mutant.name, "engine", mutant.area, mutant.row, mutant.about, note=mutant.note)
    asked, began, seen = row.tried.split(), time.process_time(), row.seen
    kills, noticed = list[tuple[Entry, str]](), Counter({name: int(n) for name, _, n in (part.partition(":") for part in row.noticed.split())})
    for family, entries in suite.families(mutant):
        if family in asked:
            continue
        asked, started = [*asked, family], time.process_time()
        for entry in entries:
            answer = attempt(mutant, entry, budget.limits)
            seen += 1
            found = lie(entry, answer, mutant.semantics)
            if found in ("false unsat", "invalid witness"):
                kills.append((entry, found))
                break
            if answer.verdict == "error":
                noticed[answer.why.split(":")[0]] += 1
            if time.process_time() - started > budget.family_seconds:
                break
    seconds = float(row.seconds or 0) + time.process_time() - began
    row = replace(row, noticed=" ".join(f"{name}:{count}" for name, count in sorted(noticed.items())), seen=seen, seconds=f"{seconds:.1f}")
    row = replace(row, tried=" ".join(asked))
    return _with_kills(mutant, row, kills, budget.limits) if kills else row


def _with_kills(mutant: Mutant, row: Row, kills: Sequence[tuple[Entry, str]], limits: Limits) -> Row:
    """The row with kills by more families; the checker is asked about the first few."""
    asked = [entry for entry, _ in kills][: max(0, CHECKED - len(row.families.split()))]
    told = " ".join(f"{entry.family}:{entry.name}" for entry, _ in kills)
    row = replace(row, killed="yes", lie=row.lie or kills[0][1], families=f"{row.families} {told}".strip())
    if not asked:
        return row
    found = second_line(mutant, asked, limits)
    return replace(row, **{name: f"{getattr(row, name)} {text}".strip() for name, text in found.items()})  # type: ignore[arg-type]


def second_line(mutant: Mutant, entries: Sequence[Entry], limits: Limits) -> dict[str, str]:
    """What comes out with the checker on, guards out and in, on the instances where the mutant lied."""
    out, shipped, leaks = Counter[str](), Counter[str](), list[str]()
    for guards, tally in ((False, out), (True, shipped)):
        for entry in entries:
            with applied(changes(mutant, guards=guards)):
                answer = checked(options_for(entry, limits, attack=mutant.attack, semantics=mutant.semantics))
            found = lie(entry, answer, mutant.semantics)
            tally[found or (answer.why.split(":")[0] if answer.verdict == "error" else answer.why) or answer.verdict] += 1
            if found:
                leaks.append(f"{entry.name}{'' if guards else ' (guards out)'}: {found}")
    told = [" ".join(f"{name.replace(' ', '_')}:{count}" for name, count in tally.items()) for tally in (out, shipped)]
    return {"checked": told[0], "shipped": told[1], "leak": "; ".join(leaks)}


def ask_second_line(folder: Path, table: Path, cache: Path, limits: Limits, names: Sequence[str] = ()) -> None:
    """For the mutants that are killed (or `names`): what comes out now where they lied, with the checker and the judge on."""
    suite = {entry.name: entry for entry in Suite(folder, cache).entries}
    done = rows(table)
    for name, mutant in ENGINES.items():
        row = done.get(name)
        if row is None or row.killed != "yes" or (names and name not in names):
            continue
        lies = [part.partition(":")[2] for part in row.families.split()][:CHECKED]
        done[name] = replace(row, **second_line(mutant, [suite[lie] for lie in lies], limits))  # type: ignore[arg-type]
        write(table, done)
        print(f"{name}: checked {done[name].checked} | shipped {done[name].shipped} | leak {done[name].leak}", flush=True)


def run_engines(
    folder: Path, table: Path, cache: Path, budget: Budget, names: Sequence[str] = (), again: bool = False, families: Sequence[str] = ()
) -> None:
    """Every mutant that has no row yet (or `names`, anew)."""
    suite = Suite(folder, cache, families)
    suite.measure()
    done = rows(table)
    for name, mutant in ENGINES.items():
        if names and name not in names:
            continue
        before = None if again else done.get(name)
        row = engine_row(mutant, suite, budget, before)
        if row == before or (before is not None and row.tried == before.tried):
            continue
        done[name] = row
        write(table, done)
        print(f"{name}: {row.killed} {row.lie} {row.families} | checked {row.checked} | shipped {row.shipped} | leak {row.leak}", flush=True)
