"""From a model and a property to an outcome: probes, intervals, attack, one bounding pass, search (DESIGN 6).

What is decided by probes or intervals never imports torch: the heavy half of the engine is loaded when it is needed.
"""

from __future__ import annotations

import importlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from graph.load import Model
from specs.canonical import Property
from verifier.budget import Budget
from verifier.events import Begun, Closed, Conjectured, Hit, Observer, Phase, Roots, ignore
from verifier.options import Options
from verifier.orders import by_arguments
from verifier.presolve import checker_may_know, closed_by_intervals, program_of_intervals
from verifier.probe import Probe
from verifier.problem import Problem, compile_problem
from verifier.replay import Replayer
from verifier.replay import Witness as Replayed
from verifier.result import Cases, Outcome, Reason, Witness
from verifier.self_check import SelfCheck

if TYPE_CHECKING:
    from verifier.search import Found

Array = NDArray[Any]

PROBE_SECONDS = 2.0
CHECK_SHARE = 0.25  # of the time of a search, its check may take at least this much


class LostCases(Exception):
    """The accounts of a search contradict each other. Always a defect of ours, never a proof. Exit code 4."""


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


def budget_of(options: Options) -> Budget:
    """What a run with these options may spend, from now on."""
    return Budget(options.deadline, options.nodes, options.check_seconds, CHECK_SHARE if options.check_seconds else 0.0)


def run(model: Model, prop: Property, options: Options, observer: Observer = ignore, budget: Budget | None = None) -> Outcome:
    """Decide `prop` for `model` within `options`, and `budget` if somebody else follows what is spent. Raises PropertyError if they do not fit
    each other."""
    budget = budget_of(options) if budget is None else budget
    problem = compile_problem(model.graph, prop)
    problem = problem if options.semantics == "float32" else by_arguments(problem)
    observer(Begun(problem))
    if not options.self_check or not len(problem.case_box):
        return _run(model, prop, problem, options, budget, observer)
    check = SelfCheck(problem, options.seed + 1)
    outcome = _run(model, prop, problem, options, budget, check.beside(observer), check)
    check.finish()
    return replace(outcome, notes=(*outcome.notes, check.told()))


def _run(
    model: Model, prop: Property, problem: Problem, options: Options, budget: Budget, observer: Observer, check: SelfCheck | None = None
) -> Outcome:
    clock = _Clock()
    cases = np.arange(len(problem.case_box))
    if len(cases) == 0:
        return _decided(problem, clock, cases, notes=("every case is vacuous: nothing was proven about the network",))
    replayer = None if options.no_attack else Replayer(model, prop)
    if replayer is not None:
        observer(Phase("probe", "centre, corners, random points and a few gradient steps"))
        witness = Probe(problem, replayer, options.seed).run(min(PROBE_SECONDS, max(budget.seconds_left(), 0.0)))
        clock.charge("attack")
        if witness is not None:
            observer(Hit(witness.inputs, witness.case))
            return _decided(problem, clock, cases, witness, ("a probe hit",))
    observer(Phase("interval"))
    refuted = closed_by_intervals(problem, cases)
    observer(Roots("intervals", cases, cases[:, None], *program_of_intervals(problem, cases[refuted])))
    observer(Closed("intervals", cases, refuted[:, None], "bound"))
    cases = cases[~refuted]
    clock.charge("bound")
    if len(cases) == 0:
        return _decided(problem, clock, cases, portfolio=("interval bounds sufficed",))
    if options.conjectures and checker_may_know(problem, cases):
        observer(Conjectured(_decided(problem, clock, cases[:0], portfolio=("default linear bounds sufficed",))))
    heavy = importlib.import_module("verifier.complete")  # torch, only now
    found, least = heavy.decide(problem, model.onnx_bytes, cases, replayer, options, budget, observer, clock, check)
    if found.witness is not None:
        observer(Hit(found.witness.inputs, found.witness.case))
    found.closed_volume += len(problem.case_box) - len(cases)  # what intervals refuted
    return _after_search(problem, found, least, budget, clock)


def _decided(
    problem: Problem, clock: _Clock, open_cases: Array, witness: Replayed | None = None, portfolio: tuple[str, ...] = (), notes: tuple[str, ...] = ()
) -> Outcome:
    """`sat` with a witness, else `unsat` without open cases."""
    told_witness = None if witness is None else told(witness)
    return Outcome(
        "unsat" if witness is None else "sat", cases=_count(problem, open_cases), witness=told_witness,
        closed_volume=1.0 if witness is None else None, seconds=clock.seconds, portfolio=portfolio, notes=notes,
    )


def _count(problem: Problem, open_cases: Array) -> Cases:
    total, vacuous = len(problem.case_box), problem.spec.vacuous
    return Cases(total=total + vacuous, closed=total - len(open_cases) + vacuous, vacuous=vacuous, open=len(open_cases))


def _after_search(problem: Problem, found: Found, least: float | None, budget: Budget, clock: _Clock) -> Outcome:
    facts: dict[str, Any] = {
        "cases": _count(problem, found.open_cases), "nodes": found.nodes, "leaves": found.leaves,
        "closed_volume": min(1.0, found.closed_volume / len(problem.case_box)), "seconds": clock.seconds, "portfolio": tuple(found.portfolio),
    }
    if found.witness is not None:
        return Outcome("sat", witness=told(found.witness), **facts)
    if found.proven or len(found.open_cases) == 0:
        _check_accounts(found, problem)
        return Outcome("unsat", **facts)
    if np.isin(found.open_cases, found.claimed).all():
        none, volume = found.open_cases[:0], found.closed_volume + len(found.open_cases)
        _check_accounts(replace(found, proven=True, open_cases=none, closed_volume=volume), problem)
        return Outcome("unsat", **{**facts, "cases": _count(problem, none)}, claimed_by=found.claimed_by)
    gap = None if least is None or found.bound is None else least - found.bound
    left = f"{len(found.open_cases)} of {len(problem.case_box)} cases are open"
    if budget.stopped == "nodes":
        return Outcome("unknown", Reason("nodes", f"the limit of {budget.nodes} nodes was reached; {left}"), bound=found.bound, gap=gap, **facts)
    if budget.stopped == "time":
        return Outcome("timed-out", Reason("time", f"the time limit was reached; {left}"), bound=found.bound, gap=gap, **facts)
    if budget.stopped == "memory":
        text = f"the search does not fit in memory (--memory gives it more); {left}"
        return Outcome("unknown", Reason("memory", text), bound=found.bound, gap=gap, **facts)
    if found.troubles:
        first = found.troubles[0]
        return Outcome("unknown", Reason(first.code, f"{first.text}; {left}"), bound=found.bound, gap=gap, **facts)
    text = f"what is open cannot be split further: no neuron is left, or boxes are too small for double precision; {left}"
    return Outcome("unknown", Reason("numerical", text), bound=found.bound, gap=gap, **facts)


def after_mending(before: Outcome, found: Found, budget: Budget, seconds: float) -> Outcome:
    """The outcome once a proof, `before`, was mended; or was not, and then it is none."""
    facts: dict[str, Any] = {
        "nodes": before.nodes + found.nodes, "leaves": before.leaves + found.leaves, "portfolio": (*before.portfolio, *found.portfolio),
        "seconds": {**before.seconds, "search": before.seconds.get("search", 0.0) + seconds},
    }
    if found.witness is not None:
        return replace(before, verdict="sat", witness=told(found.witness), closed_volume=None, **facts)
    if found.proven:
        return replace(before, **facts)
    open_now = len(found.open_cases)
    cases = replace(before.cases, open=open_now, closed=before.cases.total - open_now)
    text = f"the checker could not follow the proof, which could not be mended ({budget.stopped or 'nothing can be split further'})"
    return replace(before, verdict="unknown", reason=Reason("certificate-rejected", text), cases=cases, closed_volume=None, **facts)


def _check_accounts(found: Found, problem: Problem) -> None:
    """A proof is counted, not inferred from nothing being left: the closed leaves must add up to every case (only additions round)."""
    cases = len(problem.case_box)
    if not (found.proven and len(found.open_cases) == 0 and found.closed_volume >= cases * (1 - 1e-6)):
        text = f"proven={found.proven}, {len(found.open_cases)} open cases, closed leaves cover {found.closed_volume:.9g} of {cases} cases"
        raise LostCases(f"the accounts of the search contradict each other: {text}")


def told(witness: Replayed) -> Witness:
    """A replayed witness in the form that is reported."""
    outputs = witness.outputs.astype(np.float32)
    return Witness(witness.inputs, outputs, witness.inside_exact_box, witness.float32_only)

