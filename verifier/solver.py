"""Exact solvers (z3, HiGHS), each question in a child process: a solver that hangs, grows or dies takes nothing with it.

Solvers are outside the trusted base. Their `unsat` is a hint, their `sat` a point to replay: see `verifier.exact_search`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import resource
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal

from numpy.typing import NDArray

from verifier.memory import memory_of
from verifier.problem import Problem

if TYPE_CHECKING:
    from graph.float32_program import Program

Array = NDArray[Any]

POLL_SECONDS = 0.05
ENDING = 5.0  # seconds that a child which has closed its end may take to be gone
STARTING = 400_000_000  # bytes of address space that a child takes before it holds anything: the interpreter and its libraries


@dataclass(frozen=True, eq=False)
class Question:
    """Has case `case` of `problem` an execution? `lower[i]`, `upper[i]` float64 [size]: rigorous bounds of node i over the case's box,
    for every node i of the graph. `program`: what the file computes in float32, for solvers that are asked about that."""

    problem: Problem
    case: int
    lower: Mapping[int, Array] = field(repr=False)
    upper: Mapping[int, Array] = field(repr=False)
    program: Program | None = field(repr=False, default=None)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a solver says. "unsat": no execution of the network over the reals is in the case. "sat": `point` float64 [n_in] may be one.

    `reason` says why the verdict is "unknown": "time", "memory", or a sentence. `splits`: (node, element) of pre-activations whose
    sides decided most, the most decisive first; for whoever proves the same with a search tree.
    """

    verdict: Literal["unsat", "sat", "unknown"]
    point: Array | None = field(default=None, repr=False)
    reason: str = ""
    splits: tuple[tuple[int, int], ...] = field(default=(), repr=False)


Solve = Callable[[Question, float], Answer]  # a module-level function: the question, and the seconds it may take


def ask(solve: Solve, question: Question, seconds: float, memory: float | None = None) -> Answer:
    """`solve(question, seconds)` in a child process of its own, which is killed when the time is over or when it holds more than `memory`
    bytes. A child that dies without an answer is an "unknown", never an error and never a pass."""
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_serve, args=(there, memory), daemon=True)
    child.start()
    there.close()
    try:
        return _converse(child, here, solve, question, began + seconds, memory)
    finally:
        child.kill()
        child.join()
        here.close()


def _converse(
    child: multiprocessing.process.BaseProcess, channel: Connection, solve: Solve, question: Question, limit: float, memory: float | None
) -> Answer:
    try:
        channel.send((solve, question, limit))
        while not channel.poll(POLL_SECONDS):
            if time.monotonic() > limit:
                return Answer("unknown", reason="time")
            held = memory_of(child.pid) if child.pid is not None else None
            if memory is not None and held is not None and held.resident > memory:
                return Answer("unknown", reason="memory")
        answer = channel.recv()
    except (EOFError, OSError):
        child.join(ENDING)
        return Answer("unknown", reason=f"the solver ended without an answer (exit code {child.exitcode})")
    if not isinstance(answer, Answer):
        raise TypeError(f"a solver answered {answer!r}")
    return answer


def _serve(channel: Connection, memory: float | None) -> None:
    """The child: answer one question."""
    if memory is not None:
        with contextlib.suppress(ValueError):  # a stricter limit is in force already
            resource.setrlimit(resource.RLIMIT_AS, (int(memory) + STARTING, resource.RLIM_INFINITY))
    solve, question, limit = channel.recv()
    try:
        answer = solve(question, limit - time.monotonic())
    except MemoryError:
        answer = Answer("unknown", reason="memory")
    channel.send(answer)
