"""What a check found, and the folder it is written to: models, properties, and a README that says what failed, expected and why."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.strategies.problems import Array, Instance

FALSE_UNSAT, FALSE_SAT, BAD_WITNESS, CONTRADICTION = "false unsat", "false sat", "invalid witness", "contradiction"


@dataclass(frozen=True)
class Answer:
    """A verdict, and the witness [n] if one was given."""

    verdict: str
    witness: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Finding:
    """A wrong answer. `check` is the check that asked, `kind` how it is wrong; `questions` and `answers` belong together, the wrong one first
    unless it is a contradiction. `why` is a sentence."""

    check: str
    kind: str
    questions: tuple[Instance, ...]
    answers: tuple[Answer, ...]
    why: str

    @property
    def operators(self) -> tuple[str, ...]:
        """The kinds of nodes of all networks, sorted."""
        return tuple(sorted({kind for asked in self.questions for kind in asked.network.operators}))

    @property
    def key(self) -> str:
        """What makes two findings the same: the check, the kind of failure, and the operators."""
        text = "-".join([self.check, self.kind, *self.operators]).lower()
        plain = re.sub(r"[^a-z0-9]+", "_", text).strip("_")
        return plain if len(plain) < 120 else f"{plain[:100]}_{hashlib.sha256(plain.encode()).hexdigest()[:12]}"

    def __str__(self) -> str:
        nodes = " vs ".join(" ".join(node.op_type for node in asked.network.model.graph.node) for asked in self.questions)
        return f"{self.kind} ({self.check}): {self.why} Networks: {nodes}."


def write(finding: Finding, folder: Path) -> Path:
    """Write a finding to `folder`/KEY and return that path. Files of an older finding of this key are replaced."""
    here = folder / finding.key
    here.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, asked, answer in zip(names(len(finding.questions)), finding.questions, finding.answers, strict=True):
        (here / f"{name}.onnx").write_bytes(asked.network.model.SerializeToString(deterministic=True))
        (here / f"{name}.vnnlib").write_text(asked.property)
        lines.append(f"- `{name}.onnx`, `{name}.vnnlib`: answered `{answer.verdict}`; {_known(asked)}\n")
    data = {
        "check": finding.check, "kind": finding.kind, "operators": finding.operators, "why": finding.why,
        "answers": [{"verdict": a.verdict, "witness": None if a.witness is None else [_told(v) for v in a.witness]} for a in finding.answers],
        "planted": [None if q.witness is None else q.witness.tolist() for q in finding.questions],
    }  # fmt: skip
    (here / "finding.json").write_text(json.dumps(data, indent=1, allow_nan=False) + "\n")
    (here / "README.md").write_text(f"# {finding.kind}: {finding.check}\n\n{finding.why}\n\n{''.join(lines)}")
    return here


def small(asked: Instance, answer: Answer, truth: str, point: Array) -> Finding:
    """The finding that delta debugging comes to: `point` [n] violates where the truth is sat."""
    known = asked._replace(truth=truth, witness=point if truth == "sat" else None)
    kind = FALSE_UNSAT if truth == "sat" else BAD_WITNESS if answer.witness is not None else FALSE_SAT
    why = f"Expected {truth}" + (": the point violates the property exactly, and in onnx's reference implementation" if truth == "sat" else "")
    return Finding("minimised", kind, (known,), (answer,), f"{why}. The answer was {answer.verdict}.")


def names(count: int) -> Sequence[str]:
    """What the questions of a finding are called."""
    return ["question"] if count == 1 else ["first", *(f"other_{k}" for k in range(1, count))]


def _told(value: float) -> float | str:
    return value if abs(value) < float("inf") else str(value)


def _known(asked: Instance) -> str:
    if asked.truth == "sat" and asked.witness is not None:
        return f"the truth is `sat`, for example at X = {asked.witness.tolist()}"
    return "the truth is not known" if asked.truth is None else f"the truth is `{asked.truth}`: the outputs cannot get there"
