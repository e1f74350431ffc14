"""What the user asked `verify` for (DESIGN 10). Light: the watchdog reads it before anything heavy is imported."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from verifier.exact_engines import ENGINES

DEVICES = ("auto", "cpu", "cuda")
SEMANTICS = ("auto", "real", "float32")
TRUSTABLE = ("engine", "milp", "smt")


class OptionError(ValueError):
    """An option has a value that means nothing. Exit code 2."""


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Options:
    """The options of one `verify` run; `timeout` in seconds, `memory` in GB (10^9 bytes) of resident memory, None = no limit.

    `started` is the moment on the monotonic clock from which `timeout` counts. `trust` lists engines whose `unsat` may be
    printed without an accepted certificate. `semantics` is "real", "float32", or "auto" for what the property asks for; `certificate` says where
    to keep the certificate, `self_check` compares known executions with every bound. `engine` is the complete engine: "bab" branches and bounds,
    "smt" and "milp" ask an exact solver over the reals, "smt-float32" one about the float32 program.
    `more` are further networks, (name, path), beside `network` and `model_path`: those of a query of several networks.
    `original` is the user's file where that in `model_path` was made of it, by `choices` (--output and --shape); messages speak of it.
    `verbosity` is -1 (quiet), 0 or 1. Raises OptionError.
    """

    model_path: str
    property_path: str
    network: str = ""
    more: tuple[tuple[str, str], ...] = ()
    original: str = ""
    choices: str = ""
    timeout: float = 300.0
    memory: float | None = None
    nodes: int | None = None
    results_file: str | None = None
    json: str | None = None
    no_attack: bool = False
    seed: int = 0
    device: str = "cpu"
    threads: int = field(default_factory=available_threads)
    trust: tuple[str, ...] = ()
    semantics: str = "auto"
    certificate: str | None = None
    self_check: bool = False
    engine: str = "auto"
    verbosity: int = 0
    started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        _check(_real(self.timeout) and self.timeout > 0, "--timeout", self.timeout, "a positive number of seconds")
        _check(self.memory is None or (_real(self.memory) and self.memory > 0), "--memory", self.memory, "a positive number of GB")
        _check(self.nodes is None or (_whole(self.nodes) and self.nodes >= 0), "--nodes", self.nodes, "a number of nodes, 0 or more")
        _check(_whole(self.seed) and 0 <= self.seed < 2**63, "--seed", self.seed, "an integer from 0 to 2^63 - 1")
        _check(_whole(self.threads) and self.threads >= 1, "--threads", self.threads, "a number of threads, 1 or more")
        _check(self.device in DEVICES, "--device", self.device, f"one of {', '.join(DEVICES)}")
        _check(self.device != "cuda", "--device", self.device, "cpu or auto: the search has not been run on a GPU yet")
        for name in self.trust:
            _check(name in TRUSTABLE, "--trust", name, f"a list of {', '.join(TRUSTABLE)}, separated by commas")
        _check(self.semantics in SEMANTICS, "--semantics", self.semantics, f"one of {', '.join(SEMANTICS)}")
        _check(self.engine in ENGINES, "--engine", self.engine, f"one of {', '.join(ENGINES)}")
        if self.engine == "smt-float32":
            _check(self.semantics == "float32", "--semantics", self.semantics, "float32, which is what --engine smt-float32 is about")
        for flag, path in (("--results-file", self.results_file), ("--json", self.json), ("--certificate", self.certificate)):
            folder = os.path.dirname(path) or "." if path is not None else "."
            _check(os.path.isdir(folder) and os.access(folder, os.W_OK), flag, path, "a file in a folder that exists and can be written to")

    @property
    def models(self) -> tuple[tuple[str, str], ...]:
        """(name, path) of every network; the name of a single one may be ""."""
        return (self.network, self.model_path), *self.more

    @property
    def model_names(self) -> str:
        """The files of the networks, for a sentence."""
        if self.original:
            return f"{os.path.basename(self.original)} ({self.choices})"
        return " and ".join(os.path.basename(path) for _, path in self.models)

    def in_words(self, text: str) -> str:
        """A message with the user's file in the place of one that was made of it."""
        return text.replace(self.model_path, f"{self.original} ({self.choices})") if self.original else text

    @property
    def files(self) -> tuple[list[str], list[str]]:
        """Networks and property as arguments of the programs that check an answer, those without a flag and those with one: MODEL PROPERTY, or
        PROPERTY and --network NAME=MODEL ..."""
        if not self.more:
            return [self.model_path, self.property_path], []
        return [self.property_path], [word for name, path in self.models for word in ("--network", f"{name}={path}")]

    @property
    def limit(self) -> float:
        """The moment (monotonic clock) at which the run is over, whatever its state."""
        return self.started + self.timeout

    @property
    def deadline(self) -> float:
        """The moment (monotonic clock) by which the engine must have returned; what follows is for writing the answer."""
        return self.limit - min(0.5, 0.1 * self.timeout)

    @property
    def trusts_solver(self) -> bool:
        """Whether the word of the chosen exact engine is enough. What holds over the reals is not enough in float32."""
        speaks_of_it = self.engine == "smt-float32" or self.semantics != "float32"
        exact = ENGINES[self.engine]
        return speaks_of_it and exact is not None and exact.trust in self.trust

    @property
    def conjectures(self) -> bool:
        """Whether the checker may be asked about what the engine has not proven: it is not wanted where the engine's own word, or that of an
        exact engine, is asked for; nor where its memory would have to be taken from the engine's."""
        return not self.trust and ENGINES[self.engine] is None and not self.self_check and self.memory is None

    @property
    def check_seconds(self) -> float:
        """What it takes at least to start the checker; the engine leaves it this much, unless its word is enough."""
        return 0.0 if "engine" in self.trust else min(1.0, 0.05 * self.timeout)

    def to_request(self) -> dict[str, Any]:
        """The options as JSON for the worker process (the monotonic clock is the machine's)."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> Options:
        """The inverse of `to_request`."""
        return cls(**{**request, "trust": tuple(request["trust"]), "more": tuple((name, path) for name, path in request["more"])})


def _real(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(good: bool, flag: str, value: object, wanted: str) -> None:
    if not good:
        raise OptionError(f"{flag} {value}: expected {wanted}")
