"""Every broken checker against forgers: which forged certificate does it accept that the real one refuses?

The forger knows the mutant: it searches for a proof with the broken rules themselves (benchmarks.forgery's honest engine, which computes with
the checker's rules, run inside the patch), so that what it writes is what a broken engine with the same defect would write. Then come the
lies of benchmarks.forgery, climbs and mutations, judged by the broken checker. Subjects have a known violation, so nothing may be accepted:
random small models with a threshold that a point just reaches, and violated instances of the suite. For checks of the container (hashes,
format, semantics) the subject is safe, and what is forged is what the certificate says of itself.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from benchmarks.forgery import attempts, models, mutate, proof, subjects
from benchmarks.forgery.broken import HONEST, LIES, Engine
from benchmarks.forgery.climb import Climb
from benchmarks.forgery.judge import Judge
from benchmarks.forgery.proof import EMPTY, Node, Record, leaf, split
from benchmarks.forgery.subjects import Random, Subject
from benchmarks.soundness.instance import Entry
from benchmarks.soundness.mutants.campaign import Row, rows, write
from benchmarks.soundness.mutants.checking import MUTANTS
from benchmarks.soundness.mutants.edit import Mutant, applied
from verifier.checker import read_model, read_property
from verifier.checker.refusal import Refusal

PLANTED, SAFE = 150, 12
CONTAINER = ("verifier.checker.certificate", "verifier.checker.main:Process._check")
NEVER = ("model", "property", "format")  # changes of the manifest after which no certificate may be accepted
SMALL_MODEL = 60_000  # bytes
KINDS = {  # a word in the name of a mutant -> kinds of random models that run what is broken
    "maximum": ("pooling",), "smooth": ("smooth",), "tangent": ("smooth",), "sin_": ("smooth",), "even_power": ("smooth",), "kink": ("pieces",),
    "piece_": ("pieces",), "product": ("product", "softmax"), "shared": ("residual", "product"), "sums_": ("linear",), "float32": ("linear",),
}  # fmt: skip
TEXTS = ("regress", "parsing")  # families whose properties are hard to read
OPERATORS = {  # the function of a broken reader of models -> operators of instances that may show it
    "_pads": ("Conv", "MaxPool", "AveragePool"), "average_pool": ("AveragePool",), "gemm": ("Gemm",), "_plus": ("Gemm",), "concat": ("Concat",),
    "transpose": ("Transpose",), "batch_normalization": ("BatchNormalization",), "leaky_relu": ("LeakyRelu",), "subtract": ("Sub",),
}  # fmt: skip


@dataclass(frozen=True)
class Forgery:
    """What the broken checker accepted and the real one did not: how it was made, of what subject, and what the real one says."""

    how: str
    subject: str
    refused: str


@lru_cache(maxsize=4 * PLANTED)
def planted(seed: int) -> Subject | None:
    """A random subject with a violation."""
    return subjects.planted(seed)


@lru_cache(maxsize=1)
def safe_subjects() -> tuple[Subject, ...]:
    """A few subjects without one."""
    found = (subjects.safe(seed) for seed in range(1000, 1000 + SAFE))
    return tuple(subject for subject in found if subject is not None)


def _kinds(mutant: Mutant) -> tuple[str, ...]:
    """The kinds of random models that run the broken rule."""
    return next((kinds for word, kinds in KINDS.items() if word in mutant.name), models.KINDS)


def of_entry(entry: Entry) -> Subject | None:
    """A violated instance of the suite as a subject, as the checker reads it now; None where it cannot."""
    point = entry.planted()
    if point is None or entry.model.stat().st_size > SMALL_MODEL:
        return None
    model, text = entry.model.read_bytes(), entry.property.read_bytes()
    try:
        network = read_model.read(model)
        cases = read_property.bind(read_property.read(text), network)
    except Refusal:
        return None
    return Subject(entry.name, entry.family, model, text, network, cases, point.point.astype(np.float64), 0, entry.real == "sat")


def reread(subject: Subject) -> Subject | None:
    """The subject as the checker reads it now."""
    try:
        network = read_model.read(subject.model)
        return replace(subject, network=network, cases=read_property.bind(read_property.read(subject.text), network))
    except Refusal:
        return None


STRUCTURE_FIRST = ("structure", "lies", "changes", "short search", "search", "climb", "long search")  # where it is not a bound that is broken
STAGES = ("short search", "search", "climb", "lies", "long search", "changes")
NODES = {"short search": (4, 8), "search": (20, 30), "long search": (80, 160)}


def certificates(subject: Subject, stage: str, semantics: str, random: Random) -> Iterator[tuple[str, bytes]]:
    """Forged certificates of one stage. To be consumed inside the mutant."""
    match stage:
        case "climb":
            climb = Climb(subject, semantics, random, 25)
            climb.run()
            yield stage, climb.best
        case "lies":
            for lie in LIES:
                yield f"a lying search: {lie.name}", attempts.packed(subject, semantics, Engine(subject, lie, random, 8).run())
        case "structure":
            yield from ((stage, attempts.packed(subject, semantics, made)) for made in _structures(Engine(subject, HONEST, random, 8)))
        case "changes":
            for k in range(8):
                made, how = mutate.changed(Engine(subject, HONEST, random, 8 + 8 * (k % 3)).run(), random)
                yield f"a search by the broken rules, changed: {how}", attempts.packed(subject, semantics, made)
        case _:
            for nodes in NODES[stage]:
                yield "a search by the broken rules", attempts.packed(subject, semantics, Engine(subject, HONEST, random, nodes).run())


def _structures(engine: Engine) -> Iterator[proof.Proof]:
    """A proof without one of its trees; one whose trees are empty at once; one whose splits are all at one end of what they split."""
    whole = engine.run()
    for k in range(len(whole.trees) if len(whole.trees) > 1 else 0):
        less = whole.copy()
        del less.trees[k]
        yield less
    for j in list(engine.site_of)[:3]:
        empty = whole.copy()
        tensor = empty.tensor(engine.site_of[j])
        for tree in empty.trees:
            tree.root = Node(Record(EMPTY, [tensor, 0]))
        yield empty
        halves = whole.copy()
        for tree in halves.trees:
            tree.program, tree.root = 0, split(halves.tensor(engine.site_of[j]), 0, -1e6, leaf(), leaf())
        yield halves


def _usable(mutant: Mutant, subject: Subject | None) -> bool:
    if subject is None or not attempts.is_small(subject):
        return False
    return not subject.real if mutant.semantics == "float32" else subject.real


def forge(mutant: Mutant, real: Judge, folder: Path, entries: Sequence[Entry], seconds: float) -> tuple[Forgery | None, int]:
    """A forgery that the mutant accepts and the real checker refuses, or None; and how many were tried."""
    broken, deadline, tried = Judge(folder), time.process_time() + seconds, 0
    for stage in STRUCTURE_FIRST if mutant.area == "proof" else STAGES:
        for number, source in enumerate(_subjects(mutant, entries)):
            with applied(mutant.changes):
                found, count = _accepted(broken, source, stage, mutant.semantics, np.random.default_rng([7, number]), deadline)
            tried += count
            verdict = None if found is None else real(source, found[1])
            if found is not None and verdict is not None and not verdict.accepted:
                return Forgery(found[0], source.name, f"{verdict.word} ({verdict.rule})"), tried
            if time.process_time() > deadline:
                return None, tried
    return None, tried


def _accepted(broken: Judge, source: Subject, stage: str, semantics: str, random: Random, deadline: float) -> tuple[tuple[str, bytes] | None, int]:
    """The first forgery of a stage that the broken checker accepts, and how many were tried. Inside the mutant."""
    subject, tried = reread(source), 0
    if subject is None or not len(subject.cases):
        return None, 0
    for how, data in certificates(subject, stage, semantics, random):
        tried += 1
        if data and broken(subject, data).accepted:
            return (how, data), tried
        if time.process_time() > deadline:
            break
    return None, tried


def _subjects(mutant: Mutant, entries: Sequence[Entry]) -> Iterator[Subject]:
    """Violated ones: of the suite first where a reader is broken, planted ones else."""
    names = {name for place in mutant.places for name in OPERATORS.get(place.rpartition(":")[2], ())}
    mine = [entry for entry in entries if names.intersection(entry.operators) or (not names and entry.family in TEXTS)]
    mine.sort(key=lambda entry: not any(name.lower() in entry.name for name in names))
    of_suite = (found for found in map(of_entry, mine) if found is not None and _usable(mutant, found))
    kinds = _kinds(mutant)
    seeds = [seed for seed in range(PLANTED) if models.KINDS[seed % len(models.KINDS)] in kinds]
    random = (found for found in map(planted, seeds) if found is not None and _usable(mutant, found))
    yield from (*of_suite, *random) if mutant.area == "readers" else random
    if mutant.area != "readers":
        yield from of_suite


def forge_container(mutant: Mutant, real: Judge, folder: Path) -> tuple[Forgery | None, int]:
    """The same of what a certificate says of itself: an honest one, with a manifest that must never be accepted."""
    broken, tried = Judge(folder), 0
    for number, subject in enumerate(safe_subjects()):
        random = np.random.default_rng([11, number])
        for _ in range(4):
            data = attempts.packed(subject, "real", attempts.honest(subject, random, 60))
            if not real(subject, data).accepted:
                continue
            manifest, columns = proof.unpack(data)
            for _ in range(20):
                changed, how = mutate.changed_manifest(manifest, random)
                if how in NEVER or (how == "semantics" and changed["semantics"] not in ("real", "float32")):
                    tried += 1
                    forged = proof.pack(changed, columns)
                    with applied(mutant.changes):
                        accepted = broken(subject, forged).accepted
                    verdict = real(subject, forged)
                    if accepted and not verdict.accepted:
                        return Forgery(f"an honest certificate with another {how}", subject.name, f"{verdict.word} ({verdict.rule})"), tried
    return None, tried


def checker_row(mutant: Mutant, entries: Sequence[Entry], seconds: float) -> Row:
    """One line of the table."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as name:
        folder, real_folder = Path(name) / "broken", Path(name) / "real"
        folder.mkdir()
        real_folder.mkdir()
        real = Judge(real_folder)
        found, tried = forge(mutant, real, folder, entries, seconds)
        if found is None and any(place.startswith(CONTAINER) for place in mutant.places):
            found, more = forge_container(mutant, real, folder)
            tried += more
    facts = {} if found is None else {"killed": "yes", "lie": f"accepts a forgery: {found.how}", "families": found.subject, "checked": found.refused}
    took = f"{time.process_time() - began:.1f}"
    return Row(mutant.name, "checker", mutant.area, mutant.row, mutant.about, seen=tried, seconds=took, note=mutant.note, **facts)


def run_checkers(entries: Sequence[Entry], table: Path, seconds: float, names: Sequence[str] = (), again: bool = False) -> None:
    """Every broken checker that has no row yet (or `names`, anew)."""
    done = rows(table)
    violated = sorted((e for e in entries if e.real == "sat" or e.float32 == "sat"), key=lambda e: e.model.stat().st_size)
    for mutant in MUTANTS:
        if (names and mutant.name not in names) or (mutant.name in done and not again):
            continue
        row = checker_row(mutant, violated, seconds)
        done[mutant.name] = row
        write(table, done)
        print(f"{mutant.name}: {row.killed} {row.lie} | {row.families} | {row.checked} | {row.seen} tried, {row.seconds} s", flush=True)
