"""A verifier that is asked, and what it said."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.strategies.findings import Answer
from benchmarks.strategies.problems import Instance

VERDICTS = ("sat", "unsat", "unknown", "timeout", "timed-out", "error")
Verify = Callable[[Any, Any, float], tuple[str, Sequence[float] | None]]


class OutOfTime(Exception):
    """The time for a check is over, and nothing was found."""


@dataclass
class Asker:
    """Asks a verifier and remembers, so that it is a function. `until` is a moment on the monotonic clock after which nothing new is asked;
    `patience` is how many seconds a failure may take to get small; `observe` is told every new answer."""

    verify: Verify
    timeout: float
    files: bool = False
    until: float = float("inf")
    patience: float = 60.0
    observe: Callable[[Instance, Answer], None] = lambda asked, answer: None
    verdicts: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, ...]] = field(default_factory=Counter)
    known: dict[bytes, Answer] = field(default_factory=dict)

    def __call__(self, asked: Instance) -> Answer:
        """Raises OutOfTime; ValueError where the answer is no verdict, and TypeError where it is no pair; what `verify` raises."""
        model = asked.network.model.SerializeToString(deterministic=True)
        key = hashlib.sha256(model + asked.property.encode()).digest()
        if key not in self.known:
            if time.monotonic() > self.until:
                raise OutOfTime
            self.known[key] = answer = self._ask(model, asked.property)
            self.verdicts[answer.verdict] += 1
            if answer.verdict == "error":
                self.refused[asked.network.operators] += 1
            self.observe(asked, answer)
        return self.known[key]

    def _ask(self, model: bytes, text: str) -> Answer:
        if self.files:
            with tempfile.TemporaryDirectory() as folder:
                paths = Path(folder, "model.onnx"), Path(folder, "property.vnnlib")
                paths[0].write_bytes(model)
                paths[1].write_text(text)
                return answer_of(self.verify(*paths, self.timeout))
        return answer_of(self.verify(model, text, self.timeout))


def answer_of(said: object) -> Answer:
    """What a verifier returned. Raises ValueError where it is no verdict, and TypeError where it is no pair, or has no witness of numbers."""
    if not isinstance(said, tuple | list) or len(said) != 2:
        raise TypeError(f"the verifier returned {_shown(said)}; expected a pair (verdict, witness), the witness None or the flat inputs of a sat")
    verdict, witness = said
    if not isinstance(verdict, str) or verdict not in VERDICTS:
        raise ValueError(f"the verifier answered {_shown(verdict)}; a verdict is one of {', '.join(VERDICTS)}")
    try:
        return Answer(verdict, None if witness is None else tuple(float(v) for v in witness))
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"the verifier's witness is {_shown(witness)}; expected the flat inputs as numbers ({error})") from error


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
