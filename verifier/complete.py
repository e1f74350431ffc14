"""The heavy half of the engine: attack, one bounding pass, complete search. Importing this imports torch."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from bounds.torch_graph import TorchGraph
from verifier.allotment import Allotment, fits
from verifier.attack import Attacker
from verifier.budget import Budget
from verifier.domains import Boxes
from verifier.events import Observer, Phase
from verifier.exact_engines import ENGINES
from verifier.groups import Groups
from verifier.options import Options
from verifier.portfolio import CONSTANTS
from verifier.problem import Problem
from verifier.replay import Replayer, Witness
from verifier.search import Found, Search
from verifier.self_check import SelfCheck

Array = NDArray[Any]

SOLVER_SHARE = 0.6  # of the time that is left, an exact solver may take; then comes our own proof of what it says
NEAR = 1e-3  # of the box's widths: how far a descent from a solver's point steps

DEVICE = "cpu"  # bounds run on CUDA as well; the search has not been tried there, and `Options` refuses to promise it


class Clock(Protocol):
    """Books the time since the last call on a phase."""

    def charge(self, phase: str) -> None: ...


@torch.no_grad()
def decide(
    problem: Problem, content: bytes, cases: Array, replayer: Replayer | None, options: Options, budget: Budget, observer: Observer, clock: Clock,
    check: SelfCheck | None = None,
) -> tuple[Found, float | None]:
    """Decide the open `cases`; `content`: the bytes of the file. Returns what was found, and the smallest violation margin that a concrete
    run reached."""
    torch.set_num_threads(options.threads)
    net = TorchGraph(problem.graph, torch.float32, DEVICE)
    allotment = Allotment.of(options.memory)
    if check is not None:
        _lead(check, net, options, budget, allotment)
    visit = None if check is None else check.visit
    attacker = None if replayer is None else Attacker(problem, net, replayer, options.seed, memory=allotment.attack_bytes, visit=visit)
    falsifier = None if attacker is None or replayer is None else _Falsifier(attacker, replayer.judge, options.timeout)
    accept = None if replayer is None else replayer.judge
    search = Search(problem, net, budget, observer, accept, allotment, True, check is not None)
    found = search.found
    found.open_cases = cases
    if falsifier is not None:
        observer(Phase("attack"))
        found.witness = falsifier.round(budget, cases)
        clock.charge("attack")
    if found.witness is None:
        cases = search.bound_once(cases)
        clock.charge("bound")
    if found.witness is None and len(cases) and falsifier is not None:
        found.witness = falsifier.round(budget, cases)
        clock.charge("attack")
    if found.witness is None and len(cases) and not budget.exhausted():
        if not fits(lambda: _complete(search, content, cases, falsifier, options)):
            budget.out_of_memory()  # what was open before is still open
        clock.charge("search")
    return found, None if falsifier is None else falsifier.least_margin()


def _complete(search: Search, content: bytes, cases: Array, falsifier: _Falsifier | None, options: Options) -> None:
    """The complete engine that was asked for."""
    engine = ENGINES[options.engine]
    if engine is None:
        search.branch(cases, None if falsifier is None else falsifier.interlude)
        return
    exact = importlib.import_module("verifier.exact_search")  # the solvers, only now
    near = None if falsifier is None else falsifier.near
    seconds = search.budget.seconds_left() * (1.0 if options.trusts_solver else SOLVER_SHARE)
    memory = None if options.memory is None else options.memory * 1e9
    exact.decide(search, cases, engine, content, near, options.trusts_solver, seconds, memory)


class _Nobody:
    """A judge to whom every candidate is worth nothing."""

    def judge(self, points: Array) -> Witness | None:
        """No witness."""
        return None


def _lead(check: SelfCheck, net: TorchGraph, options: Options, budget: Budget, allotment: Allotment) -> None:
    """Give the self-check the executions that an attack from its seed visits; what they violate does not end the run."""
    attacker = Attacker(check.problem, net, _Nobody(), check.seed, memory=allotment.attack_bytes, visit=check.visit)
    with torch.enable_grad():
        attacker.round(min(CONSTANTS.attack_seconds, CONSTANTS.attack_share * options.timeout, max(budget.seconds_left(), 0.0)))


class _Falsifier:
    """The attack, in rounds between instalments of the search.

    A round follows instalments 1, 2, 4, 8 ... of the search: counted, not timed, so that a run is reproducible. Seconds
    only cap a round.
    """

    def __init__(self, attacker: Attacker, judge: Callable[[Array], Witness | None], timeout: float) -> None:
        self._attacker, self._judge = attacker, judge
        self._seconds = min(CONSTANTS.attack_seconds, CONSTANTS.attack_share * timeout)
        self._instalments = 0

    def round(self, budget: Budget, cases: Array) -> Witness | None:
        """One round over `cases`, the hardest first."""
        with torch.enable_grad():
            return self._attacker.round(min(self._seconds, max(budget.seconds_left(), 0.0)), cases)

    def interlude(self, budget: Budget, groups: Groups, hardest: Boxes) -> Witness | None:
        """Called after every instalment with the hardest open sub-boxes: attack them, and their cases as a whole."""
        self._instalments += 1
        if self._instalments & (self._instalments - 1):
            return None
        slot = hardest.is_open.to(torch.int8).argmax(-1)
        cases = groups.case[hardest.group.numpy(), slot.numpy()]
        seconds = min(self._seconds, max(budget.seconds_left(), 0.0))
        with torch.enable_grad():
            hit = self._attacker.leaf_attack(hardest.lower.double().numpy(), hardest.upper.double().numpy(), cases, seconds)
        return hit if hit is not None else self.round(budget, np.unique(cases))

    def near(self, point: Array, case: int) -> Witness | None:
        """A witness at float32 neighbours of `point` [n_in], or where a short descent from there leads."""
        box = int(self._attacker.problem.case_box[case])
        low, high = self._attacker.problem.witness_lower[box], self._attacker.problem.witness_upper[box]
        start = np.clip(point.astype(np.float32), low, high)
        around = np.stack([start, *(np.nextafter(start, end) for end in (low, high))])
        hit = self._judge(np.clip(around, low, high))
        if hit is not None:
            return hit
        width = NEAR * (high - low).astype(np.float64)
        with torch.enable_grad():
            return self._attacker.leaf_attack((start - width)[None], (start + width)[None], np.asarray([case]), self._seconds)

    def least_margin(self) -> float | None:
        """The smallest violation margin reached so far."""
        least = float(self._attacker.best_margin.min(initial=np.inf))
        return least if np.isfinite(least) else None
