"""A campaign of checks against one verifier, with a corpus on disk: it can be stopped, and continued.

    DIR/state.json            seed, how many rounds are done, the counts so far
    DIR/findings/KEY/         one folder for each finding (benchmarks.strategies.findings); KEY is check, kind and operators
    DIR/corpus/NAME.*         the first question of each kind that got a verdict: model, property, and what was answered

Each round takes the next check, some operators and opsets, and examples of its own seed. When a campaign is continued, the corpus is asked first,
so that another version of a verifier, or another verifier, is compared with what was answered before.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks import formula
from benchmarks.strategies.asker import Asker, OutOfTime, Verify
from benchmarks.strategies.check import CHECKS, questions, search, wrong
from benchmarks.strategies.findings import CONTRADICTION, Answer, Finding, write
from benchmarks.strategies.judge import fault
from benchmarks.strategies.minimise import problems
from benchmarks.strategies.networks import OPSETS, Network
from benchmarks.strategies.operators import OPERATORS
from benchmarks.strategies.problems import InputBox, Instance

SCHEMA, EXAMPLES, MOST_OPERATORS = 1, 25, 8
REPLAY_SHARE = 3  # the corpus may take one part in this many of the time


class CorpusError(Exception):
    """The folder is no corpus of this program; the message says what is wrong with it."""


@dataclass
class Campaign:
    """`folder` as above. `told` gets a line for people now and then."""

    verify: Verify
    folder: Path
    timeout: float = 5.0
    seed: int = 0
    operators: tuple[str, ...] = OPERATORS
    opsets: tuple[int, ...] = OPSETS
    files: bool = False
    told: Callable[[str], None] = lambda _: None
    rounds: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)

    def run(self, seconds: float) -> list[Path]:
        """Run for about `seconds`; the folders of new findings. Raises CorpusError, what `verify` raises."""
        begun = time.monotonic()
        until = begun + seconds
        self._load()
        asker = Asker(self.verify, self.timeout, self.files, begun + seconds / REPLAY_SHARE)
        new = [path for finding in self._replay(asker) if (path := self._keep(finding)) is not None]
        while time.monotonic() < until:
            asker = Asker(self.verify, self.timeout, self.files, until, min(60.0, seconds / 4))
            finding = self._round(asker)
            self.verdicts += asker.verdicts
            path = None if finding is None else self._keep(finding)
            new += [] if path is None else [path]
            self._save()
            if self.rounds % len(CHECKS) == 0:
                self.told(f"{self.rounds} rounds, {sum(self.verdicts.values())} questions, {len(self.found)} different findings")
        return new

    def _round(self, asker: Asker) -> Finding | None:
        """The next round, its examples and their order given by the seed and its number."""
        check, name = CHECKS[self.rounds % len(CHECKS)], f"{self.seed} {self.rounds}"
        chance = random.Random(name)
        some = tuple(sorted(chance.sample(self.operators, min(len(self.operators), chance.randint(1, MOST_OPERATORS)))))
        asker.observe = partial(self._record, check)
        self.rounds += 1
        try:
            return search(asker, questions(check, some, chance.randint(1, 5), self.opsets), EXAMPLES, name)
        except OutOfTime:
            return None

    def _record(self, check: str, asked: Instance, answer: Answer) -> None:
        """Keep the first question of each kind."""
        if answer.verdict in ("sat", "unsat"):
            kind = " ".join([check, answer.verdict, *asked.network.operators])
            path = self.folder / "corpus" / f"{hashlib.sha256(kind.encode()).hexdigest()[:16]}.json"
            if not path.exists():
                store(path, kind, asked, answer)

    def _keep(self, finding: Finding) -> Path | None:
        """Where a finding was written; None if one of its key is there already."""
        self.found[finding.key] += 1
        if (self.folder / "findings" / finding.key).exists():
            return None
        path = write(finding, self.folder / "findings")
        self.told(f"finding in {path}: {finding}")
        return path

    def _replay(self, asker: Asker) -> Iterator[Finding]:
        """What is wrong with the answers to the questions of the corpus, as far as the time allows."""
        paths = sorted((self.folder / "corpus").glob("*.json"))
        for number, path in enumerate(paths):
            asked, before = stored(path)
            try:
                answer = asker(asked)
            except OutOfTime:
                self.told(f"{number} of {len(paths)} questions of the corpus were asked again")
                return
            finding = compared(asked, before, answer)
            if finding is not None:
                yield finding

    def _load(self) -> None:
        path = self.folder / "state.json"
        if not path.exists():
            if self.folder.exists() and any(self.folder.iterdir()):
                raise CorpusError(f"{self.folder} is not empty and holds no state.json; name another folder for the corpus")
            (self.folder / "corpus").mkdir(parents=True, exist_ok=True)
            return
        try:
            state = json.loads(path.read_text())
            if state["schema"] != SCHEMA:
                raise CorpusError(f"{path}: schema {state['schema']}, this program writes {SCHEMA}")
            self.seed, self.rounds = int(state["seed"]), int(state["rounds"])
            self.verdicts, self.found = Counter(state["verdicts"]), Counter(state["found"])
        except (KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"{path} is damaged: {error}") from error

    def _save(self) -> None:
        state = {"schema": SCHEMA, "seed": self.seed, "rounds": self.rounds, "verdicts": dict(self.verdicts), "found": dict(self.found)}
        partial = self.folder / "state.json.part"
        partial.write_text(json.dumps(state, indent=1) + "\n")
        os.replace(partial, self.folder / "state.json")


def store(path: Path, kind: str, asked: Instance, answer: Answer) -> None:
    """Write a question with its answer to NAME.json, NAME.onnx, NAME.vnnlib."""
    path.with_suffix(".onnx").write_bytes(asked.network.model.SerializeToString(deterministic=True))
    path.with_suffix(".vnnlib").write_text(asked.property)
    data = {
        "kind": kind, "verdict": answer.verdict, "witness": None if answer.witness is None else [repr(v) for v in answer.witness],
        "truth": asked.truth, "planted": None if asked.witness is None else asked.witness.tolist(), "error": asked.network.error,
        "magnitude": asked.network.magnitude, "input_shape": asked.network.input_shape, "output_shape": asked.network.output_shape,
    }  # fmt: skip
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(data) + "\n")
    os.replace(partial, path)


def stored(path: Path) -> tuple[Instance, Answer]:
    """A question of the corpus, and what was answered then. Raises CorpusError."""
    try:
        data: dict[str, Any] = json.loads(path.read_text())
        model, text = onnx.load(str(path.with_suffix(".onnx"))), path.with_suffix(".vnnlib").read_text()
        network = Network(model, tuple(data["input_shape"]), tuple(data["output_shape"]), float(data["magnitude"]), float(data["error"]))
        (problem,) = problems(model, text, None)
        planted = None if data["planted"] is None else np.array(data["planted"], np.float32)
        lower, upper = (np.array([float(v) for v in side], np.float32) for side in (problem.unsafe.lower, problem.unsafe.upper))
        asked = Instance(network, InputBox(lower, upper), text, data["truth"], planted, problem.unsafe)
        return asked, Answer(data["verdict"], None if data["witness"] is None else tuple(map(float, data["witness"])))
    except (OSError, KeyError, TypeError, ValueError, formula.FormulaError) as error:
        raise CorpusError(f"{path}: {error}") from error


def compared(asked: Instance, before: Answer, now: Answer) -> Finding | None:
    """What is wrong with an answer, by itself or beside an earlier one to the same question."""
    found = wrong(asked, now)
    if found is not None:
        return Finding("corpus", found[0], (asked,), (now,), found[1])
    if {before.verdict, now.verdict} != {"sat", "unsat"}:
        return None
    sat = before if before.verdict == "sat" else now
    if sat.witness is not None and fault(asked, sat.witness):
        return None  # an invalid witness says nothing about the other answer
    why = f"The answer was {now.verdict}, and {before.verdict} to the same question at an earlier time (perhaps by another verifier)."
    return Finding("corpus", CONTRADICTION, (asked,), (now,), why)

