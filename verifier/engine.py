"""From a model and a property to an outcome: probes, intervals, attack, one bounding pass, search (DESIGN 6).

What is decided by probes or intervals never imports torch: the heavy half of the engine is loaded when it is needed.
"""

from __future__ import annotations

import importlib
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.load import Model
from specs.canonical import Property
from verifier.budget import Budget
from verifier.events import Observer, Phase, ignore
from verifier.options import Options
from verifier.presolve import closed_by_intervals
from verifier.probe import probe
from verifier.problem import Problem, compile_problem
from verifier.replay import Replayer
from verifier.replay import Witness as Replayed
from verifier.result import Cases, Outcome, Reason, Witness

Array = NDArray[Any]


class _Clock:
    """Seconds per phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"attack": 0.0, "bound": 0.0, "search": 0.0}
        self._last = time.monotonic()

    def charge(self, phase: str) -> None:
        """Book the time since the last call on `phase`."""
        now = time.monotonic()
        self.seconds[phase] += now - self._last
        self._last = now


def run(model: Model, prop: Property, options: Options, observer: Observer = ignore) -> Outcome:
    """Decide `prop` for `model` within `options`. Raises PropertyError if they do not fit each other."""
    clock = _Clock()
    problem = compile_problem(model.graph, prop)
    budget = Budget(options.deadline, options.nodes)
    cases = np.arange(len(problem.case_box))
    if len(cases) == 0:
        return _outcome(prop, clock, cases, notes=("every case is vacuous: nothing was proven about the network",))
    replayer = None if options.no_attack else Replayer(model, prop)
    if replayer is not None:
        observer(Phase("probe", "centre, corners and random points"))
        witness = probe(problem, replayer, options.seed)
        clock.charge("attack")
        if witness is not None:
            return _outcome(prop, clock, cases, witness=witness, portfolio=("a probe hit",))
    observer(Phase("interval"))
    cases = cases[~closed_by_intervals(problem, cases)]
    clock.charge("bound")
    if len(cases) == 0:
        return _outcome(prop, clock, cases, portfolio=("interval bounds sufficed",), total=len(problem.case_box))
    heavy = importlib.import_module("verifier.complete")  # torch, only now
    result: Outcome = heavy.run(problem, cases, replayer, options, budget, observer, clock)
    return result


def _outcome(
    prop: Property,
    clock: _Clock,
    open_cases: Array,
    *,
    witness: Replayed | None = None,
    portfolio: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    total: int = 0,
) -> Outcome:
    count = Cases(total=total + prop.vacuous, closed=total - len(open_cases) + prop.vacuous, vacuous=prop.vacuous, open=len(open_cases))
    if witness is None:
        return Outcome("unsat", cases=count, closed_volume=1.0, seconds=clock.seconds, portfolio=portfolio, notes=notes)
    return Outcome("sat", cases=count, witness=told(witness), seconds=clock.seconds, portfolio=portfolio, notes=notes)


def told(witness: Replayed) -> Witness:
    """A replayed witness in the form that is reported."""
    outputs = witness.outputs.astype(np.float32)
    return Witness(witness.inputs, outputs, witness.inside_exact_box, witness.float32_only)


__all__ = ["Problem", "Reason", "run", "told"]
