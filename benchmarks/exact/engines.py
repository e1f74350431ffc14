"""What each engine says about two files, asked in this process: a process of its own for every one of thousands of instances would take hours."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

from benchmarks import formula
from benchmarks.exact import network
from benchmarks.exact.enumerate import TooManyPatterns, decide
from graph.errors import ModelError
from graph.load import load
from specs import vnnlib
from verifier import exact_search
from verifier.checker.main import Process
from verifier.exact_engines import exact_engine
from verifier.options import Options
from verifier.problem import compile_problem
from verifier.solver import Answer, Question, Solve
from verifier.worker import Channel, Session

Said = dict[str, Any]  # JSON: "verdict", "seconds", and what belongs to the engine

REFUSED = "refused"
BLOCK = 1 << 26  # bytes of coefficients at a time
MENDED_MOST, MENDABLE = 6, ("open", "leaf", "threshold")
CHECKER = {"timeout": 0.0, "memory": 8.0, "limit_bytes": 100_000_000, "processes": 1, "arithmetic": "float64", "follow": False}


@dataclass(frozen=True)
class Effort:
    """What one engine may take for one instance: seconds, nodes of a search, activation patterns for each box."""

    seconds: float = 60.0
    nodes: int = 2000
    patterns: int = 600


Engine = Callable[[Path, Path, Effort], Said]


def timed(engine: Engine, model: Path, text: Path, effort: Effort) -> Said:
    """What `engine` says, and the CPU seconds of this process for it; "refused" where it does not know an operator yet."""
    began = time.process_time()
    try:
        said = engine(model, text, effort)
    except ModelError as error:
        said = {"verdict": REFUSED, "reason": str(error)}
    return {"seconds": round(time.process_time() - began, 3), **said}  # another process knows its own


def enumeration(model: Path, text: Path, effort: Effort) -> Said:
    """The truth over the reals; "unknown" where the patterns are too many."""
    try:
        truth = decide(network.read(model), formula.read(text), effort.patterns)
    except TooManyPatterns as error:
        return {"verdict": "unknown", "reason": str(error)}
    return {
        "verdict": truth.verdict, "margin": None if truth.margin is None else str(truth.margin), "patterns": truth.patterns,
        "unstable": truth.unstable, "point": _written(truth.witness), "float32": _written(truth.float32),
    }  # fmt: skip


def _written(point: tuple[Fraction, ...] | None) -> list[str] | None:
    return None if point is None else [str(x) for x in point]


def branch_and_bound(model: Path, text: Path, effort: Effort, engine: str = "auto") -> Said:
    """The whole tool but for its processes: probes, attack, search, the certificate, the checker, mending."""
    options = Options(str(model), str(text), timeout=effort.seconds, nodes=effort.nodes, threads=1, verbosity=-1, engine=engine)
    with tempfile.TemporaryDirectory() as folder:
        session = Session(options, _Silent(), folder)
        message, mended = session.decide(), 0
        while "proof" in message:
            began, diagnosis = time.monotonic(), Path(folder) / f"diagnosis-{mended}"
            line, accepted = _checked(model, text, Path(message["path"]), diagnosis)
            if accepted:
                return {"verdict": "unsat", "assurance": "certified", "nodes": message["proof"]["nodes"], "mended": mended}
            if mended == MENDED_MOST or json.loads(line.split(" ", 1)[1]).get("rule") not in MENDABLE:
                return {"verdict": "unknown", "claimed": "unsat", "reason": line}
            mended += 1
            message = session.mend(str(diagnosis), time.monotonic() - began)
    said = _told(message["result"])
    return {**said, "claimed": "unsat"} if mended and said["verdict"] != "sat" else said  # what could not be mended was claimed all the same


def _told(result: dict[str, Any]) -> Said:
    """What matters of the tool's JSON."""
    said = {"verdict": result["verdict"], "assurance": result["assurance"], "nodes": result["nodes"]}
    if result["reason"]["code"] is not None:
        said["reason"] = f"{result['reason']['code']}: {result['reason']['text']}"
    witness = result["witness"]
    if witness["inputs"] is not None:
        said |= {"point": [str(Fraction(v)) for part in witness["inputs"] for v in part["values"]]}
        said |= {key: witness[key] for key in ("inside_exact_box", "float32_only")}
    return said


def _checked(model: Path, text: Path, certificate: Path, diagnosis: Path) -> tuple[str, bool]:
    """The checker's last line, and whether it accepted."""
    process = Process(argparse.Namespace(**CHECKER, diagnose=None))
    with contextlib.redirect_stderr(io.StringIO()):
        line, accepted = process.outcome((model, text, certificate))
        if not accepted:
            process = Process(argparse.Namespace(**CHECKER, diagnose=str(diagnosis)))
            line, accepted = process.outcome((model, text, certificate))
    if accepted != line.startswith("ACCEPTED"):
        raise RuntimeError(f"line and outcome differ: {line}")
    return line, accepted


class _Silent(Channel):
    """A channel to nobody; this process keeps its standard output."""

    def __init__(self) -> None:
        pass

    def send(self, message: dict[str, Any]) -> None:
        """A message must be JSON; that is all that is asked of it."""
        json.dumps(message, allow_nan=False)


def solved(name: str, model: Path, text: Path, effort: Effort) -> Said:
    """What the solver behind `--engine name` says of every case, without attack, replay or certificate."""
    deadline = time.monotonic() + effort.seconds
    problem = compile_problem(load(model).graph, vnnlib.read(text))
    reasons = []
    for case in range(len(problem.case_box)):
        asked = exact_search.question(problem, case, BLOCK)
        answer = exact_engine(name).solver()(asked, max(deadline - time.monotonic(), 0.0))
        if answer.verdict == "sat":
            return {"verdict": "sat", "point": None if answer.point is None else [str(Fraction(v)) for v in answer.point.tolist()]}
        reasons += [answer.reason] * (answer.verdict == "unknown")
    return {"verdict": "unknown", "reason": "; ".join(reasons)} if reasons else {"verdict": "unsat"}


def smt(model: Path, text: Path, effort: Effort) -> Said:
    """z3 over the reals, in a process that is kept: z3 can die (a segmentation fault after 166 instances), and takes nothing with it there."""
    if not _APART:
        _APART.append(ProcessPoolExecutor(1, multiprocessing.get_context("spawn")))
    try:
        return _APART[0].submit(_timed_smt, model, text, effort).result()
    except BrokenProcessPool:
        _APART.clear()
        return {"verdict": "unknown", "reason": "the solver's process died"}


_APART: list[ProcessPoolExecutor] = []  # none or one


def _timed_smt(model: Path, text: Path, effort: Effort) -> Said:
    began = time.process_time()
    return {**solved("smt", model, text, effort), "seconds": round(time.process_time() - began, 3)}


def milp(model: Path, text: Path, effort: Effort) -> Said:
    """HiGHS, which rounds."""
    return solved("milp", model, text, effort)


def certified_milp(model: Path, text: Path, effort: Effort) -> Said:
    """The tool with `--engine milp`: what HiGHS refutes is proven again by our own leaves and checked. HiGHS is asked in this process."""
    with mock.patch.object(exact_search, "ask", _ask_here):
        return branch_and_bound(model, text, effort, "milp")


def _ask_here(solve: Solve, question: Question, seconds: float, memory: float | None) -> Answer:
    return solve(question, seconds)


ENGINES: Mapping[str, Engine] = MappingProxyType({
    "enumeration": enumeration, "bab": branch_and_bound, "smt": smt, "milp": milp, "milp-certified": certified_milp,
})  # fmt: skip
