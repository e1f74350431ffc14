"""The agreement campaign: a series of random instances, put to every engine; what each said goes to the disk at once.

    python -m benchmarks.exact                               2,000 instances; the same command continues after an interruption
    python -m benchmarks.exact --count 100 --engines bab,smt --out FILE

FILE has a row for each instance; FILE.jsonl has a line for each instance and engine, and is what is continued: an engine can be added later.
Exit code 1, and the two files in build/exact/NUMBER, if engines contradict each other; 2: usage.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.exact.engines import ENGINES, REFUSED, Effort, Said, timed
from benchmarks.exact.instances import Instance, seeded
from benchmarks.exact.judge import Judgement, judge

TABLE, BUILD = Path("benchmarks/results/exact.csv"), Path("build/exact")
SECONDS = 60.0
COLUMNS = (
    "number", "place", "pieces", "unstable", "patterns", "margin", "activations", "enumeration", "float32", "bab", "bab_assurance", "bab_nodes",
    "smt", "milp", "milp_certified", "float32_only", "off", "contradictions", "seconds",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or continue the campaign; returns its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.exact", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", default=",".join(ENGINES), help=f"some of {', '.join(ENGINES)}")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help=f"for each engine and instance (default {SECONDS:g})")
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args(arguments)
    names = options.engines.split(",")
    if unknown := sorted(set(names) - set(ENGINES)):
        parser.error(f"--engines {unknown[0]}: expected some of {', '.join(ENGINES)}")
    np.seterr(all="ignore")
    campaign = Campaign(options.out, options.seed)
    bad = sum(campaign.run(number, names, Effort(options.seconds)) for number in range(options.count))
    campaign.write_table()
    print(campaign.summary())
    return 1 if bad else 0


class Campaign:
    """The answers so far, by number and engine."""

    def __init__(self, out: Path, seed: int) -> None:
        self._out, self._seed = out, seed
        self._lines = out.with_name(out.name + ".jsonl")
        self._answers: dict[int, dict[str, Said]] = {}
        self._rows: dict[int, dict[str, str]] = {}
        out.parent.mkdir(parents=True, exist_ok=True)
        for said in self._read():
            if said.pop("seed") != seed:
                raise SystemExit(f"{self._lines} is of another seed; use another --out")
            self._answers.setdefault(said.pop("number"), {})[said.pop("engine")] = said

    def _read(self) -> list[dict[str, Any]]:
        """What is on the disk; a torn last line is removed, and done again."""
        if not self._lines.exists():
            return []
        text = self._lines.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self._lines.write_text(whole, encoding="utf-8")
        return [json.loads(line) for line in whole.splitlines()]

    def run(self, number: int, engines: Sequence[str], effort: Effort) -> bool:
        """Ask those engines that have not answered about instance `number`; whether the answers contradict each other."""
        instance = seeded(self._seed, number)
        answers = self._answers.setdefault(number, {})
        folder = BUILD / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        model, text = instance.write(folder)
        for engine in engines:
            if engine not in answers or answers[engine]["verdict"] == REFUSED:  # it may know the operator by now
                answers[engine] = timed(ENGINES[engine], model, text, effort)
                self._append({"seed": self._seed, "number": number, "engine": engine, **answers[engine]})
        judgement = judge(model, text, answers)
        self._rows[number] = row(number, instance, answers, judgement)
        if judgement.contradictions:
            print(f"benchmarks.exact: instance {number} ({folder}): {'; '.join(judgement.contradictions)}", file=sys.stderr, flush=True)
            return True
        for path in (model, text):
            path.unlink()
        folder.rmdir()
        return False

    def _append(self, line: dict[str, Any]) -> None:
        with self._lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def write_table(self) -> None:
        """All rows of this run."""
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(self._rows[number] for number in sorted(self._rows))
        part = self._out.with_name(self._out.name + ".part")
        part.write_text(text.getvalue(), encoding="utf-8")
        part.replace(self._out)

    def summary(self) -> str:
        """The counts that matter."""
        return "\n".join(f"{count:6}  {what}" for what, count in counts(list(self._rows.values())).items())


def row(number: int, instance: Instance, answers: Mapping[str, Said], judgement: Judgement) -> dict[str, str]:
    """One line of the table."""
    truth, bab = answers.get("enumeration", {}), answers.get("bab", {})
    margin = truth.get("margin")
    return {
        "number": str(number), "place": instance.place, "pieces": str(instance.pieces), "unstable": str(truth.get("unstable", "")),
        "patterns": str(truth.get("patterns", "")), "margin": "" if margin is None else f"{float(Fraction(margin)):.6g}",
        "activations": " ".join(instance.activations), "enumeration": truth.get("verdict", ""),
        "float32": "" if truth.get("verdict") != "sat" else "yes" if truth["float32"] else "none found",
        "bab": bab.get("verdict", ""), "bab_assurance": bab.get("assurance", ""), "bab_nodes": str(bab.get("nodes", "")),
        **{column: answers.get(engine, {}).get("verdict", "") for column, engine in
           (("smt", "smt"), ("milp", "milp"), ("milp_certified", "milp-certified"))},
        "float32_only": " ".join(judgement.float32_only), "off": " ".join(judgement.off),
        "contradictions": "; ".join(judgement.contradictions),
        "seconds": " ".join(f"{engine}:{said['seconds']:g}" for engine, said in answers.items()),
    }  # fmt: skip


def counts(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """What is reported of a table."""
    found: Counter[str] = Counter()
    for r in rows:
        known = r["enumeration"] in ("sat", "unsat")
        zero = known and r["margin"] == "0"
        found["instances"] += 1
        found["contradictions"] += bool(r["contradictions"])
        found[f"enumeration: {r['enumeration'] or 'not asked'}"] += 1
        found["enumeration: of these at most 10 unstable pieces"] += known and int(r["unstable"]) <= 10
        found["enumeration: exact margin 0"] += zero
        for engine in ("bab", "smt", "milp", "milp_certified"):
            word = r[engine] or "not asked"
            if word in ("unknown", "timed-out") and known:
                word += ", exact margin 0" if zero else ", margin not 0"
            found[f"{engine}: {word}"] += 1
        found["bab: unsat, certified"] += r["bab_assurance"] == "certified"
        found["a float32 witness that rounding alone makes one"] += bool(r["float32_only"])
        found["off: a solver that rounds was wrong"] += bool(r["off"])
    return dict(sorted(found.items()))
