"""Exact engines behind `--engine`: a solver is asked about every open case, and its word is not taken for it.

A point it finds is replayed like every other. What it says is impossible is proven again by our own branch and bound, so that there is
a certificate; what is not rests on the solver, which is said (`--trust`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from bounds.torch_graph import TorchGraph
from graph.errors import ModelError
from graph.float32_program import read_program
from verifier.bounding import Bounder, raise_if_crossed
from verifier.budget import Budget
from verifier.events import Phase
from verifier.exact_engines import Engine
from verifier.groups import group_cases
from verifier.memory import memory_of
from verifier.portfolio import CONSTANTS
from verifier.problem import Problem
from verifier.replay import Witness
from verifier.result import ReasonCode
from verifier.search import Search, Trouble
from verifier.solver import Answer, Question, ask
from verifier.tighten import tighten

Array = NDArray[Any]
LEAST_BYTES = 100_000_000  # with which a solver may begin

KEPT_BOXES = 16  # whose bounds are kept for further cases on them

BoxBounds = Callable[[int], tuple[dict[int, Array], dict[int, Array]]]  # a box -> bounds of every node over it
Near = Callable[[Array, int], Witness | None]  # a point [n_in] and its case -> a witness at or near it


def question(problem: Problem, case: int, memory: int) -> Question:
    """The question whether `case` has an execution, with rigorous float64 bounds of every node over its box. `memory`: bytes that one block
    of coefficients may take."""
    return Question(problem, case, *node_bounds(problem, case, memory))


def node_bounds(problem: Problem, case: int, memory: int, budget: Budget | None = None) -> tuple[dict[int, Array], dict[int, Array]]:
    """Rigorous float64 bounds, lower and upper, of every node over the box of `case`; with a budget, hidden bounds have optimised slopes."""
    groups = group_cases(problem, np.asarray([case]))
    net = TorchGraph(problem.graph, torch.float64, "cpu")
    bounder = Bounder(problem, groups, net, memory)
    box = groups.box[:1]
    lower, upper = torch.from_numpy(problem.lower[box]), torch.from_numpy(problem.upper[box])
    state = bounder.root_state(lower, upper)
    if budget is not None:
        state = tighten(
            bounder.linear, state, steps=CONSTANTS.hidden_steps, rate=CONSTANTS.rate, most_work=CONSTANTS.hidden_work, budget=budget,
            tell=lambda *_: None,
        )
        raise_if_crossed(state)
    low, high = ({i: side[i][0].numpy() for i in range(len(side))} for side in (state.lower, state.upper))
    return low, high


def decide(
    search: Search, cases: Array, engine: Engine, content: bytes, near: Near | None, trusted: bool, seconds: float, memory: float | None
) -> None:
    """Ask `engine` about every one of the open `cases`, for `seconds` in all, and prove again what it refutes; `search.found` holds the outcome.

    `content`: the bytes of the ONNX file. `near` replays a point of the solver, or what lies beside it; None: no concrete execution may end
    the run. With `trusted` nothing is proven again. `memory`: bytes that this process and the solver may hold.
    """
    found, budget = search.found, search.budget
    asked = f"{engine.name} is asked about {len(cases)} case{'s' * (len(cases) != 1)}"
    search.observer(Phase("search", asked))
    found.portfolio.append(asked)
    deadline = time.monotonic() + seconds
    refuted = []
    first = dict(zip(search.problem.case_box[cases[::-1]].tolist(), cases[::-1].tolist(), strict=True))  # a case of every box

    @lru_cache(KEPT_BOXES)
    def bounds(box: int) -> tuple[dict[int, Array], dict[int, Array]]:
        return node_bounds(search.problem, first[box], search.allotment.block_bytes, budget)

    for k, case in enumerate(cases.tolist()):
        if budget.exhausted():
            return
        share = (deadline - time.monotonic()) / (len(cases) - k)
        answer = _answer(search.problem, case, engine, content, bounds, share, memory)
        if answer.verdict == "sat" and near is not None and answer.point is not None:
            found.witness = near(answer.point, case)
            if found.witness is not None:
                return
        if answer.verdict == "unsat":
            refuted.append(case)
        else:
            found.troubles.append(_trouble(engine, case, answer, near is not None))
        found.nodes += 1
    found.claimed, found.claimed_by = np.asarray(refuted, dtype=np.int64), engine.name
    if len(refuted) == len(cases) and not trusted and not budget.exhausted():
        search.branch(cases)


def _answer(problem: Problem, case: int, engine: Engine, content: bytes, bounds: BoxBounds, seconds: float, memory: float | None) -> Answer:
    began = time.monotonic()
    if engine.float32:
        try:
            asked = Question(problem, case, {}, {}, read_program(content))
        except ModelError as error:
            return Answer("unknown", reason=str(error))
    else:
        asked = Question(problem, case, *bounds(int(problem.case_box[case])))
    held = memory_of(os.getpid())
    left = None if memory is None else memory - (0 if held is None else held.resident)
    if left is not None and left < LEAST_BYTES:
        return Answer("unknown", reason="memory")
    return ask(engine.solver(), asked, began + seconds - time.monotonic(), left)


def _trouble(engine: Engine, case: int, answer: Answer, may_replay: bool) -> Trouble:
    where = f"{engine.name} on case {case}"
    if answer.verdict == "sat":
        how = "found a point that could not be replayed as a float32 witness" if may_replay else "found a point, and no execution may end the run"
        return Trouble("solver-unknown", f"{where} {how}")
    if answer.reason in ("time", "memory"):
        return Trouble(cast(ReasonCode, answer.reason), f"{where} ran out of {answer.reason}")
    return Trouble("solver-unknown", f"{where}: {answer.reason}")
