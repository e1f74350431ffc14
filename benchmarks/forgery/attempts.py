"""All ways to forge, tried on one subject, and what the checker said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.forgery import engines, mutate, proof
from benchmarks.forgery.broken import HONEST, LIES, SMALL, Engine, Lie
from benchmarks.forgery.climb import Climb
from benchmarks.forgery.judge import Judge, Verdict
from benchmarks.forgery.proof import Proof
from benchmarks.forgery.subjects import Random, Subject

KINDS = ("broken", "engine", "mutated", "climbed")
ENGINE_LIES = (Lie("corner", box=0.97), Lie("half", box=0.5), Lie("moved", threshold=0.1), Lie("moved", threshold=10.0), *LIES[-3:])


@dataclass
class Tally:
    """What became of the attempts on one subject."""

    made: Counter[str] = field(default_factory=Counter)  # by kind
    rules: Counter[str] = field(default_factory=Counter)  # by what the checker said
    evaluations: int = 0  # of certificates while climbing
    best: float = -np.inf  # the highest bound of a leaf that must not close, of weights that sum up to 1
    forged: list[tuple[str, bytes]] = field(default_factory=list)  # accepted: how they were made, and the files

    def note(self, kind: str, how: str, verdict: Verdict, data: bytes) -> None:
        """Count one judged certificate."""
        self.made[kind] += 1
        self.rules[verdict.rule or verdict.word] += 1
        if verdict.accepted:
            self.forged.append((f"{kind}: {how}", data))


@dataclass(frozen=True)
class Plan:
    """How many attempts of each kind, and how long they may take: nodes of a search, steps of a climb, seconds of the real engine."""

    broken: int = 18
    engine: int = 2
    mutated: int = 10
    climbed: int = 8
    nodes: int = 40
    steps: int = 25
    seconds: float = 5.0


def packed(subject: Subject, semantics: str, made: Proof) -> bytes:
    """A certificate with the true hashes."""
    return proof.pack({**subject.manifest, "semantics": semantics, "tensors": made.tensors}, made.columns())


def semantics_of(subject: Subject, random: Random) -> str:
    """Either, or float32 where the witness violates only there."""
    return "real" if subject.real and random.random() < 0.6 else "float32"


def honest(subject: Subject, random: Random, nodes: int) -> Proof:
    """What a careful search writes."""
    return Engine(subject, HONEST, random, nodes).run()


def forge(subject: Subject, judge: Judge, plan: Plan, seed: int, donors: list[Proof], folder: Path) -> Iterator[Tally]:
    """Everything in `plan`; the tally so far after every attempt. `donors` are honest certificates of similar problems."""
    tally, kinds = Tally(), list[tuple[str, int]]()
    for kind in KINDS:
        kinds += [(kind, k) for k in range(getattr(plan, kind))]
    for number, (kind, k) in enumerate(kinds):
        random = np.random.default_rng([seed, number])
        semantics = semantics_of(subject, random)
        if kind == "broken":
            lie = LIES[k % len(LIES)]
            data, how = packed(subject, semantics, Engine(subject, lie, random, plan.nodes).run()), lie.name
        elif kind == "engine":
            lie = ENGINE_LIES[int(random.integers(len(ENGINE_LIES)))]
            data, how = engines.certificate(subject, lie, random, plan.seconds, folder), lie.name
            if data:  # and as a donor of mutations
                donors = [*donors, _parsed(subject, data)]
        elif kind == "mutated":
            donor = donors[int(random.integers(len(donors)))] if donors else Engine(subject, LIES[k % len(LIES)], random, plan.nodes).run()
            made, how = mutate.changed(mutate.transplanted(donor, subject, random), random) if random.random() < 0.8 else (donor, "as it is")
            data = packed(subject, semantics, made if how != "as it is" else mutate.transplanted(donor, subject, random))
        else:
            climb = Climb(subject, semantics, random, plan.steps, wild=k % 3 == 2)
            climb.run()
            data, how = climb.best, f"climb {'wild ' if climb.wild else ''}to {climb.values and max(climb.values)!r}"
            tally.evaluations += len(climb.values)
            if not climb.wild:
                tally.best = float(np.maximum(tally.best, np.max(climb.values)))
            if max(climb.values) > 0:
                tally.forged.append((f"climbed: a leaf that holds the witness: {how}", data))
        if data:
            tally.note(kind, how, judge(subject, data), data)
        yield tally


def _parsed(subject: Subject, data: bytes) -> Proof:
    manifest, columns = proof.unpack(data)
    return proof.parse(manifest, columns, {k: subject.cases.atoms(k) for k in range(len(subject.cases))})


def is_small(subject: Subject) -> bool:
    """Whether hundreds of passes through its network cost next to nothing."""
    return sum(node.size for node in subject.network.nodes) <= SMALL


@dataclass
class Mutations:
    """Part two: changes to accepted certificates of problems without a violation. `disputed`: accepted, but not by the exact twin, or
    with another hash or format than the true one, or for other semantics than it says."""

    made: int = 0
    accepted: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    disputed: list[tuple[str, bytes]] = field(default_factory=list)


def mutate_all(subject: Subject, judge: Judge, twin: Judge, count: int, seed: int) -> Mutations:
    """`count` mutations of honest certificates of a safe subject; none if no honest search finds a proof."""
    found, good = Mutations(), list[tuple[str, Proof]]()
    for k in range(6):
        random = np.random.default_rng([seed, 0, k])
        made, semantics = honest(subject, random, 60), str(random.choice(["real", "real", "float32"]))
        if judge(subject, packed(subject, semantics, made)).accepted:
            good.append((semantics, made))
    for k in range(count if good else 0):
        random = np.random.default_rng([seed, 1, k])
        semantics, made = good[int(random.integers(len(good)))]
        manifest, columns = {**subject.manifest, "semantics": semantics, "tensors": made.tensors}, made.columns()
        kind, how = random.random(), "columns"
        if kind < 0.15:
            manifest, how = mutate.changed_manifest(manifest, random)
        elif kind < 0.35:
            columns = mutate.changed_columns(columns, random)
        else:
            made, how = mutate.changed(made, random)
            manifest, columns = {**manifest, "tensors": made.tensors}, made.columns()
        data = proof.pack(manifest, columns)
        verdict = judge(subject, data)
        found.made += 1
        found.accepted += verdict.accepted
        found.rules[verdict.rule or verdict.word] += 1
        never = how in ("model", "property", "format") or (how == "semantics" and manifest["semantics"] not in ("real", "float32"))
        if verdict.accepted and (never or verdict.facts["semantics"] != manifest["semantics"]):
            found.disputed.append((how, data))
        elif verdict.accepted:
            exact = twin(subject, data)
            if exact.rule == "time":  # rationals grow: not judged, and not counted
                found.made, found.accepted = found.made - 1, found.accepted - 1
                break
            if not exact.accepted:
                found.disputed.append((how, data))
    return found
