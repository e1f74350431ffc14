"""One run of the engine on one instance, in this process: the worker's session with nobody listening, and the checker on its certificate.

The processes of a real run are left out for speed only; `engine.py` runs them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import replay
from benchmarks.formula import FormulaError
from benchmarks.runtime import RuntimeUnusable
from benchmarks.soundness.instance import Entry
from graph import load as graph_load
from graph.errors import MalformedGraph, ModelError
from specs import vnnlib
from specs.errors import PropertyError
from verifier import engine, judge, worker
from verifier.bounding import CrossedBounds
from verifier.certificate import IncompleteProof
from verifier.checker import main as checker_main
from verifier.checker.refusal import Refusal
from verifier.options import Options
from verifier.report import Loaded, build_result
from verifier.result import InvalidResult, Result

MENDED_MOST = 2
CHECKER = {"timeout": 0.0, "memory": 8.0, "limit_bytes": 100_000_000, "processes": 1, "arithmetic": "float64", "follow": False}
REFUSALS = (ModelError, PropertyError)
CRASHES = (  # what a mutant may end in, and no other program would take for an answer
    ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError, MalformedGraph, engine.LostCases, CrossedBounds,
    InvalidResult, IncompleteProof,
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a run said: sat, unsat, unknown, timed-out or error; the results file's text; and why there is no more."""

    verdict: str
    results: str = ""
    why: str = ""


@dataclass(frozen=True)
class Limits:
    """Seconds and sub-problems of one run; the seed."""

    seconds: float = 5.0
    nodes: int = 150
    seed: int = 0


class Silent:
    """A channel to nobody."""

    def send(self, message: dict[str, Any]) -> None:
        """Forget it."""


def options_for(entry: Entry, limits: Limits, *, attack: bool, semantics: str = "real") -> Options:
    """The options of a run with the engine's word trusted."""
    return Options(
        str(entry.model),
        str(entry.property),
        timeout=limits.seconds,
        nodes=limits.nodes,
        seed=limits.seed,
        threads=1,
        no_attack=not attack,
        trust=("engine",),
        semantics=semantics,
        verbosity=-1,
    )


def trusted(options: Options) -> Answer:
    """What the engine says, with nobody to doubt it: no certificate is written, so nothing counts along."""
    return _quietly(lambda: _trusted(options))


def checked(options: Options) -> Answer:
    """The engine and both second lines: `unsat` only if the checker accepts the certificate, `sat` only if the judge confirms the witness."""
    return _quietly(lambda: _checked(options))


def _trusted(options: Options) -> Answer:
    model, prop = graph_load.load(options.model_path), vnnlib.read(options.property_path)
    worker.check_fit(model, prop)
    worker.compare_with_runtime(model, prop, options.seed)
    outcome = engine.run(model, prop, options)
    return _told(build_result(outcome, Loaded(options.model_path, None, model, options.property_path, prop, "0" * 64), options, 0.0, None))


def _checked(options: Options) -> Answer:
    with tempfile.TemporaryDirectory() as folder:
        session = worker.Session(options, Silent(), folder)  # type: ignore[arg-type]
        message, diagnosis = session.decide(), os.path.join(folder, "diagnosis")
        for left in range(MENDED_MOST, -1, -1):
            if "proof" not in message:
                return _judged(options, Result.from_dict(message["result"]))
            line, accepted = _check(options, message["path"], diagnosis)
            if accepted:
                return Answer("unsat", "unsat\n", line)
            facts = json.loads(line.split(" ", 1)[1])
            missed = Path(diagnosis).read_text().count("\n") if os.path.exists(diagnosis) else 0
            if not left or not missed or facts["rule"] not in ("open", "leaf", "threshold"):
                return Answer("unknown", "unknown\n", f"the checker: {facts['rule']}")
            message = session.mend(diagnosis, 1.0)
    raise RuntimeError("a proof was mended without end")


def _judged(options: Options, result: Result) -> Answer:
    """The answer, a `sat` only if the judge of witnesses confirms what would be printed."""
    if result.verdict == "sat":
        try:
            judge.judge(Path(options.model_path), Path(options.property_path), result.to_stdout(), result.to_competition())
        except (judge.Refuted, Refusal) as error:
            return Answer("unknown", "unknown\n", f"the judge: {str(error)[:120]}")
    return _told(result)


def _check(options: Options, path: str, diagnosis: str) -> tuple[str, bool]:
    """The checker's line, and whether it accepts. A process of its own for every certificate: no network is kept."""
    process = checker_main.Process(argparse.Namespace(**CHECKER, diagnose=diagnosis))
    return process.outcome((Path(options.model_path), Path(options.property_path), Path(path)))


def _told(result: Result) -> Answer:
    return Answer(result.verdict, result.to_competition(), "" if result.reason is None else result.reason.code)


def _quietly(run: Any) -> Answer:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found: Answer = run()
        except REFUSALS as error:
            return Answer("error", why=f"{type(error).__name__}: {str(error)[:120]}")
        except CRASHES as error:
            return Answer("error", why=f"{type(error).__name__}: {str(error)[:120]}")
    return found


def lie(entry: Entry, answer: Answer, semantics: str = "real") -> str:
    """What the judge says of an answer: "false unsat", "invalid witness" (replayed in onnxruntime, compared in rationals), or nothing."""
    if answer.verdict == "unsat":
        return "false unsat" if entry.truth(semantics) == "sat" else ""
    if answer.verdict != "sat":
        return ""
    try:
        judgement = replay.judge(entry.model, entry.property, answer.results)
    except (RuntimeUnusable, FormulaError) as error:
        return f"cannot be judged: {error}"
    return "" if judgement.violated else "invalid witness"
