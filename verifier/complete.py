"""The heavy half of the engine: attack, one bounding pass, complete search. Importing this imports torch."""

from __future__ import annotations

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
from verifier.groups import Groups
from verifier.options import Options
from verifier.portfolio import CONSTANTS
from verifier.problem import Problem
from verifier.replay import Replayer, Witness
from verifier.search import Found, Search
from verifier.self_check import SelfCheck

Array = NDArray[Any]

DEVICE = "cpu"  # bounds run on CUDA as well; the search has not been tried there, and `Options` refuses to promise it


class Clock(Protocol):
    """Books the time since the last call on a phase."""

    def charge(self, phase: str) -> None: ...


@torch.no_grad()
def decide(
    problem: Problem, cases: Array, replayer: Replayer | None, options: Options, budget: Budget, observer: Observer, clock: Clock,
    check: SelfCheck | None = None,
) -> tuple[Found, float | None]:
    """Decide the open `cases`. Returns what was found, and the smallest violation margin that a concrete run reached."""
    torch.set_num_threads(options.threads)
    net = TorchGraph(problem.graph, torch.float32, DEVICE)
    allotment = Allotment.of(options.memory)
    if check is not None:
        _lead(check, net, options, budget, allotment)
    visit = None if check is None else check.visit
    attacker = None if replayer is None else Attacker(problem, net, replayer, options.seed, memory=allotment.attack_bytes, visit=visit)
    falsifier = None if attacker is None else _Falsifier(attacker, options.timeout)
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
        if not fits(lambda: search.branch(cases, None if falsifier is None else falsifier.interlude)):
            budget.out_of_memory()  # what was open before is still open
        clock.charge("search")
    return found, None if falsifier is None else falsifier.least_margin()


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

    def __init__(self, attacker: Attacker, timeout: float) -> None:
        self._attacker = attacker
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

    def least_margin(self) -> float | None:
        """The smallest violation margin reached so far."""
        least = float(self._attacker.best_margin.min(initial=np.inf))
        return least if np.isfinite(least) else None
