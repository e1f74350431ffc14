"""The long campaign: forged certificates for problems with a known violation, and mutations of honest ones for problems without.

    python -m benchmarks.forgery                          run, or continue, benchmarks/results/forgery.csv (hours, one thread)
    python -m benchmarks.forgery --out FILE --every 20    every 20th subject only

Subjects: the published instances that are `sat` in $SOUNDPROOF_VNNCOMP with a witness that the engine finds, planted ones, safe ones. A
row for each, appended when it is done. Exit code 1, and the files in build/forgery/forged/, if a certificate was accepted that must not be.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.forgery import attempts, engines, proof, subjects
from benchmarks.forgery.attempts import KINDS, Mutations, Plan, Tally, forge, is_small, mutate_all
from benchmarks.forgery.judge import Judge
from benchmarks.forgery.proof import Proof
from benchmarks.forgery.subjects import Subject
from benchmarks.instances import DataError, Instance, default_folder, read_instances
from benchmarks.ledger import read_table
from verifier.checker import main as checker_main
from verifier.checker import read_model, read_property
from verifier.checker.refusal import Refusal

COLUMNS = ("subject", "truth", *KINDS, "mutations", "attempts", "evaluations", "processes", "best", "accepted", "disputed", "rules", "seconds")
BUILD, TABLE = Path("build/forgery"), Path("benchmarks/results/forgery.csv")
DEV_TABLE = Path("benchmarks/results/dev.csv")
APART = 100  # subjects of which one attempt is checked by a process of its own
LARGE = Plan(broken=10, engine=2, mutated=8, climbed=3, nodes=8, steps=6, seconds=20.0)
TWIN_SECONDS = 20.0  # for one certificate in rationals
DONORS = 3  # honest certificates of published instances, for each category


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign; returns its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.forgery")
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--planted", type=int, default=190, metavar="N")
    parser.add_argument("--safe", type=int, default=220, metavar="N")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of all subjects, only each N-th")
    parser.add_argument("--seconds", type=float, default=120.0, metavar="S", help="for one subject; a large one gets fewer attempts")
    options = parser.parse_args(arguments)
    np.seterr(all="ignore")
    BUILD.mkdir(parents=True, exist_ok=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    done = _rows(options.out)
    with tempfile.TemporaryDirectory(dir=BUILD) as folder:
        run = Run(Path(folder), options.seconds, sum(int(row["processes"]) for row in done.values()))
        names = _names(options.planted, options.safe)[:: options.every]
        for name in names:
            if name in done:
                continue
            started = time.monotonic()
            row = run.row(name)
            row = {**dict.fromkeys(COLUMNS, "0"), **row, "subject": name, "seconds": f"{time.monotonic() - started:.1f}"}
            _append(options.out, row)
            done[name] = row
            print(" ".join(f"{key}={value}" for key, value in row.items() if value not in ("0", "")), flush=True)
            if row["accepted"] != "0" or row["disputed"] != "0":
                print(f"benchmarks.forgery: {name}: a certificate was accepted that must not be; see {BUILD / 'forged'}", file=sys.stderr)
                return 1
    _summary([done[name] for name in names if name in done])
    return 0


def _names(planted: int, safe: int) -> list[str]:
    """Small ones first."""
    ranges = {"planted": range(planted), "safe": range(1000, 1000 + safe), "published": range(len(_published()))}
    return [f"{kind} {k}" for kind, numbers in ranges.items() for k in numbers]


@lru_cache(maxsize=1)
def _published() -> list[Instance]:
    """Instances that the engine's committed table calls sat, the smallest files first."""
    try:
        table = read_table(DEV_TABLE)
        found = [instance for instance in read_instances(default_folder()) if table.get(instance.key, ("", 0.0))[0] == "sat"]
    except DataError as error:
        print(f"benchmarks.forgery: no published instances: {error}", file=sys.stderr)
        return []
    return sorted(found, key=lambda instance: (os.path.getsize(instance.files()[0]), instance.name))


class Run:
    """One run of the campaign."""

    def __init__(self, folder: Path, seconds: float, processes: int) -> None:
        self.folder, self.seconds, self.processes = folder, seconds, processes
        self.judge, self.twin = Judge(folder), Judge(folder, "exact", TWIN_SECONDS)
        self.donors: dict[str, list[Proof]] = {}

    def row(self, name: str) -> dict[str, str]:
        """Everything on one subject."""
        kind, _, number = name.partition(" ")
        if kind == "safe":
            safe = subjects.safe(int(number))
            return {"truth": "none drawn"} if safe is None else self._mutations(safe, int(number))
        subject = subjects.planted(int(number)) if kind == "planted" else self._load(_published()[int(number)])
        if subject is None:
            return {"truth": "none drawn" if kind == "planted" else f"not used: {_published()[int(number)].name}"}
        return self._attempts(subject, int(number) + (10_000 if kind == "published" else 0))

    def _attempts(self, subject: Subject, seed: int) -> dict[str, str]:
        small, tally, deadline = is_small(subject), Tally(), time.monotonic() + self.seconds
        donors = self._donors(subject, seed)
        for current in forge(subject, self.judge, Plan() if small else LARGE, seed, donors, self.folder):
            tally = current
            if time.monotonic() > deadline:
                break
        processes = 0
        if self.processes < APART:
            made = attempts.honest(subject, np.random.default_rng(seed), 10)
            data = attempts.packed(subject, "real" if subject.real else "float32", made)
            tally.note("broken", "as a process", self.judge.apart(subject, data), data)
            self.processes, processes = self.processes + 1, 1
        _keep(subject, tally.forged)
        facts = {kind: str(tally.made[kind]) for kind in KINDS}
        return {
            **facts, "truth": f"sat{'' if subject.real else ' in float32'}: {subject.name}", "attempts": str(sum(tally.made.values())),
            "evaluations": str(tally.evaluations), "processes": str(processes), "best": f"{tally.best:.3g}",
            "accepted": str(len(tally.forged)), "rules": _rules(tally),
        }  # fmt: skip

    def _mutations(self, subject: Subject, seed: int) -> dict[str, str]:
        found = mutate_all(subject, self.judge, self.twin, 20, seed)
        _keep(subject, found.disputed)
        counts = {"mutations": str(found.made), "disputed": str(len(found.disputed))}
        return {**counts, "truth": f"unsat, {found.accepted} accepted", "rules": _rules(found)}

    def _donors(self, subject: Subject, seed: int) -> list[Proof]:
        """Honest certificates of similar problems."""
        if subject.family.startswith("planted"):
            safe = subjects.safe(seed)
            near = [] if safe is None else [attempts.honest(safe, np.random.default_rng([seed, k]), 30) for k in range(2)]
            return near
        if subject.family not in self.donors:
            self.donors[subject.family] = list(self._published_donors(subject.family))
        return self.donors[subject.family]

    def _published_donors(self, category: str) -> Iterator[Proof]:
        table, made = read_table(DEV_TABLE), 0
        for instance in read_instances(default_folder()):
            word, seconds = table.get(instance.key, ("", 0.0))
            if instance.category != category or word != "unsat" or seconds > 20 or made == DONORS:
                continue
            model, text = (checker_main._unpacked(path.read_bytes(), path) for path in instance.files())
            verdict, _, _, data = engines.decided(model, text, 30.0, self.folder)
            if verdict == "unsat":
                cases = read_property.read(text)
                yield proof.parse(*proof.unpack(data), {k: cases.atoms(k) for k in range(len(cases))})
                made += 1

    def _load(self, instance: Instance) -> Subject | None:
        """A published instance with a witness; None where the checker cannot read it, or the engine finds no witness in time."""
        model, text = (checker_main._unpacked(path.read_bytes(), path) for path in instance.files())
        try:
            network = read_model.read(model)
            cases = read_property.bind(read_property.read(text), network)
        except Refusal:
            return None
        _, witness, _, _ = engines.decided(model, text, 60.0, self.folder)
        if witness is None:
            return None
        low, high = subjects.point_state(network, witness[None])
        certain = subjects.violated_case(cases, subjects.enclosed(low[0], high[0]), witness)
        case = subjects.violated_case(cases, subjects.run_outputs(model, network, witness), witness)
        if case is None and certain is None:
            return None
        chosen = certain if certain is not None else case
        return Subject(instance.name, instance.category, model, text, network, cases, witness, chosen or 0, certain is not None)


def _rules(found: Tally | Mutations) -> str:
    return " ".join(f"{rule}:{count}" for rule, count in found.rules.most_common())


def _keep(subject: Subject, files: list[tuple[str, bytes]]) -> None:
    folder = BUILD / "forged" / subject.name.replace(" ", "-")
    for k, (how, data) in enumerate(files):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(subject.model)
        (folder / "property.vnnlib").write_bytes(subject.text)
        (folder / f"{k}.cert").write_bytes(data)
        (folder / f"{k}.txt").write_text(how + "\n", encoding="utf-8")


def _rows(path: Path) -> dict[str, dict[str, str]]:
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as lines:
        return {row["subject"]: row for row in csv.DictReader(lines)}


def _append(path: Path, row: dict[str, str]) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def _summary(rows: list[dict[str, str]]) -> None:
    used = [row for row in rows if row["truth"].startswith("sat")]
    keys = (*KINDS, "attempts", "evaluations", "processes", "mutations", "accepted", "disputed")
    counts = {key: sum(int(row[key]) for row in rows) for key in keys}
    print(f"{len(used)} subjects that are sat: " + ", ".join(f"{key} {value}" for key, value in counts.items()))
