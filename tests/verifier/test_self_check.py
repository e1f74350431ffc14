"""`--self-check`: silent on the engine as it is, and an error that names bound and execution for every planted defect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from exact_relu import Question, questions
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from small_networks import model, relu_net, text
from test_mutants import MUTANTS as LIES
from test_mutants import VIOLATED
from test_search import KINDS, searching, slow
from torch import Tensor

from benchmarks.strategies import Instance, instances
from bounds import linear as backward
from bounds import relaxation
from bounds.torch_graph import TorchGraph
from graph.load import Model, load
from specs.canonical import Property
from specs.vnnlib import parse
from verifier import bounding, engine, input_search, neuron_search, search, self_check
from verifier.allotment import Allotment
from verifier.attack import Attacker
from verifier.budget import Budget
from verifier.events import Closed, Roots
from verifier.options import Options
from verifier.problem import compile_problem
from verifier.result import Outcome
from verifier.search import Search
from verifier.self_check import BoundExcludesRun, Executions, SelfCheck

Case = tuple[Model, Property]


@pytest.fixture(autouse=True)
def _fewer_executions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_check, "MOST", 256)


def decide(net: Model, prop: Property, *, attack: bool = False, nodes: int = 30, **options: Any) -> Outcome:
    return engine.run(net, prop, Options("", "", timeout=60.0, nodes=nodes, no_attack=not attack, threads=1, self_check=True, **options))


def _deep() -> Model:
    """Two hidden layers of tanh and ReLU, a product, a maximum, and a matrix product of variables."""
    random = np.random.default_rng(3)
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"]), helper.make_node("Tanh", ["h1"], ["t"]),
        helper.make_node("Gemm", ["t", "w2", "b2"], ["h2"]), helper.make_node("Relu", ["h2"], ["r"]),
        helper.make_node("Mul", ["r", "t"], ["m"]), helper.make_node("Max", ["m", "t"], ["k"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[1, 0]), helper.make_node("MatMul", ["r", "kt"], ["p"]),
        helper.make_node("Gemm", ["p", "w3", "b3"], ["y"]),
    ]
    weights = {"w1": random.normal(size=(2, 6)), "b1": random.normal(size=6), "w2": random.normal(size=(6, 6)), "b2": random.normal(size=6)}
    return model(nodes, 2, 2, w3=random.normal(size=(1, 2)), b3=random.normal(size=2), **weights)


def _wide() -> Case:
    """Six inputs, a property with room to spare that takes a search."""
    random = np.random.default_rng(5)
    net = relu_net(random.normal(size=(6, 12)), random.normal(size=12), random.normal(size=(12, 2)), np.zeros(2))
    return net, text([("-0.5", "0.5")] * 6, 2, "(or (and (>= Y_0 0.8) (<= Y_1 3.0)) (>= Y_1 5.0))")


CLEAN: dict[str, Case] = {
    "every node type": (_deep(), text([("-0.3", "0.3")] * 2, 2, "(or (and (>= Y_0 0.5) (<= Y_1 1.0)) (<= Y_0 -19.0))")),
    "hidden": _wide(),
} | {name: (net, prop) for name, (net, prop, _) in VIOLATED.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CLEAN)
def test_no_bound_of_the_engine_excludes_a_run(name: str, kind: str) -> None:
    with searching(kind):
        outcome = decide(*CLEAN[name])
    assert "no bound excludes any" in outcome.notes[-1]
    assert int(outcome.notes[-1].split(" executions, ")[1].split()[0]) > 50


@settings(slow, max_examples=8)
@given(instances(), st.sampled_from(KINDS), st.booleans())
def test_it_is_silent_on_generated_networks(instance: Instance, kind: str, attack: bool) -> None:
    with searching(kind):
        decide(load(instance.network.model.SerializeToString()), parse(instance.property), attack=attack, nodes=40)


@settings(slow, max_examples=8)
@given(questions(), st.sampled_from(KINDS), st.booleans())
def test_it_is_silent_on_disjunctions(question: Question, kind: str, attack: bool) -> None:
    with searching(kind):
        decide(question.layers.onnx(), question.property(), attack=attack, nodes=40)


def test_the_verdict_stays_the_same_and_nothing_is_watched_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    net, prop = CLEAN["hidden"]
    checked = decide(net, prop, nodes=300)
    monkeypatch.setattr(engine, "SelfCheck", None)
    watched: list[bool] = []
    monkeypatch.setattr(bounding.Bounder, "bound", _spying(watched, bounding.Bounder.bound))
    plain = engine.run(net, prop, Options("", "", timeout=60.0, nodes=300, no_attack=True, threads=1))
    assert (plain.verdict, plain.nodes, plain.leaves) == (checked.verdict, checked.nodes, checked.leaves) == ("unsat", checked.nodes, checked.leaves)
    assert watched and not any(watched)


def _spying(seen: list[bool], bound: Callable[..., Any]) -> Callable[..., Any]:
    def spy(self: Any, *args: Any) -> Any:
        found = bound(self, *args)
        seen.append(bool(self.watched or self.passes))
        return found

    return spy


# ---------------------------------------------------------------- planted defects


def _narrow(inset: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    def narrow(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        less = inset * (high - low)
        return torch.where(less.isfinite(), low + less, low), torch.where(less.isfinite(), high - less, high)

    return narrow


def _narrow_intervals(patch: pytest.MonkeyPatch) -> None:
    step, narrow = backward.LinearBounds.interval_step, _narrow(0.01)
    patch.setattr(backward.LinearBounds, "interval_step", lambda self, state, i, given: narrow(*step(self, state, i, given)))


def _narrow_refinement(patch: pytest.MonkeyPatch) -> None:
    refine, narrow = backward.LinearBounds.refine, _narrow(0.01)

    def tight(self: Any, state: Any, i: int) -> None:
        mine = self.matter(state, i)
        refine(self, state, i)
        low, high = narrow(state.lower[i], state.upper[i])
        state.lower[i], state.upper[i] = torch.where(mine, low, state.lower[i]), torch.where(mine, high, state.upper[i])

    patch.setattr(backward.LinearBounds, "refine", tight)


def _high_rows(patch: pytest.MonkeyPatch) -> None:
    bound = backward.LinearBounds.lower_bound

    def raised(self: Any, *args: Any, **how: Any) -> Any:
        low = bound(self, *args, **how)
        return replace(low, value=low.value + 0.01 * low.value.abs(), constant=low.constant + 0.01 * low.value.abs())

    patch.setattr(backward.LinearBounds, "lower_bound", raised)


def _tilted_forms(patch: pytest.MonkeyPatch) -> None:
    """Only what clipping reads is wrong."""
    bound = backward.LinearBounds.lower_bound

    def tilted(self: Any, *args: Any, **how: Any) -> Any:
        low = bound(self, *args, **how)
        return replace(low, coefficients=1.02 * low.coefficients)

    patch.setattr(backward.LinearBounds, "lower_bound", tilted)


def _greedy_clip(patch: pytest.MonkeyPatch) -> None:
    clip = input_search.clip

    def greedy(lower: Tensor, upper: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high, is_open = clip(lower, upper, *rest)
        return low + 0.02 * (high - low), high - 0.02 * (high - low), is_open

    patch.setattr(input_search, "clip", greedy)


def _closing_clip(patch: pytest.MonkeyPatch) -> None:
    """The last half of every batch is dropped as if it were clipped away."""
    clip = input_search.clip

    def closing(*args: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        low, high, is_open = clip(*args)
        return low, high, is_open & (torch.arange(len(is_open)) < len(is_open) - 1).unsqueeze(-1)

    patch.setattr(input_search, "clip", closing)


def _bounds_of_a_neighbour(patch: pytest.MonkeyPatch) -> None:
    """A state is stale: hidden bounds are those of another box of the batch."""
    propagate = backward.LinearBounds.propagate

    def stale(self: Any, *args: Any, **how: Any) -> Any:
        state = propagate(self, *args, **how)
        for i in range(len(self.graph.nodes)):
            if i not in self.graph.inputs:
                state.lower[i], state.upper[i] = state.lower[i].roll(1, 0), state.upper[i].roll(1, 0)
        return state

    patch.setattr(backward.LinearBounds, "propagate", stale)


def _halves_exchanged(patch: pytest.MonkeyPatch) -> None:
    """Each half of a neuron's split inherits the other's bounds."""
    halves = neuron_search._bounded_halves

    def exchanged(parents: Any, first: int) -> Any:
        both, n = halves(parents, first), len(parents)
        return replace(both, lower={j: t.roll(n, 0) for j, t in both.lower.items()}, upper={j: t.roll(n, 0) for j, t in both.upper.items()})

    patch.setattr(neuron_search, "_bounded_halves", exchanged)


def _offsets(patch: pytest.MonkeyPatch) -> None:
    relax = relaxation.relax

    def wrong(function: Any, lower: Tensor, upper: Tensor, *slopes: Any) -> relaxation.Planes:
        planes = relax(function, lower, upper, *slopes)
        offset = planes.offset_lower
        return replace(planes, offset_lower=torch.zeros_like(lower) + 0.01 if offset is None else offset + 0.01)

    patch.setattr(relaxation, "relax", wrong)


def _tight_roots(patch: pytest.MonkeyPatch) -> None:
    tighten, narrow = search.tighten, _narrow(0.01)

    def tightened(bounds: Any, state: Any, **how: Any) -> Any:
        state = tighten(bounds, state, **how)
        for i in range(len(state.lower)):
            if i not in bounds.graph.inputs:
                state.lower[i], state.upper[i] = narrow(state.lower[i], state.upper[i])
        return state

    patch.setattr(search, "tighten", tightened)


def _narrow_forward(patch: pytest.MonkeyPatch) -> None:
    forward, narrow = bounding.forward, _narrow(0.01)
    patch.setattr(bounding, "prefers_forward", lambda *_: True)

    def tight(*args: Any) -> Any:
        found = forward(*args)
        for i in range(len(found.state.lower)):
            found.state.lower[i], found.state.upper[i] = narrow(found.state.lower[i], found.state.upper[i])
        return found

    patch.setattr(bounding, "forward", tight)


DEFECTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    **{name: lie for name, lie in LIES.items() if name != "NaN is a proof"},
    "intervals are 1% too narrow": _narrow_intervals,
    "refined bounds are 1% too narrow": _narrow_refinement,
    "bounds of rows are 1% too high": _high_rows,
    "linear forms are 2% too steep": _tilted_forms,
    "clipping takes 2% too much": _greedy_clip,
    "clipping closes a box": _closing_clip,
    "hidden bounds of another box": _bounds_of_a_neighbour,
    "halves exchanged": _halves_exchanged,
    "lower offsets too high": _offsets,
    "tightened bounds of the root are 1% too narrow": _tight_roots,
    "forward bounds are 1% too narrow": _narrow_forward,
}


def _caught(names: Iterable[str] = CLEAN) -> Iterator[str]:
    for kind in KINDS:
        with searching(kind):
            for net, prop in (CLEAN[name] for name in names):
                try:
                    decide(net, prop)
                except BoundExcludesRun as error:
                    yield str(error)
                except bounding.CrossedBounds:
                    continue  # the engine found it out by itself


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_an_error_that_names_the_execution(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    DEFECTS[name](monkeypatch)
    message = next(_caught(), "")
    assert (message.startswith("self-check: ") and "excluded: the execution at [" in message) or "exclude the execution at [" in message


def test_forward_bounds_as_they_are_exclude_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounding, "prefers_forward", lambda *_: True)
    assert not list(_caught(("smooth", "every node type", "hidden")))


# ---------------------------------------------------------------- executions


def test_attacks_lead_executions_through_what_was_said_before() -> None:
    """The needle is where descent leads and no sample: a case closed before the visit is found out after it."""
    net, prop, _ = VIOLATED["at a needle, low"]
    check = SelfCheck(problem := compile_problem(net.graph, prop), 1)
    ids = np.array([0])
    check(Roots("root", ids, np.array([[0]])))
    check(Closed("root", ids, np.array([[True]]), "bound"))
    check.visit(np.array([0]), np.array([[-0.6875, -0.5]], dtype=np.float32))
    check.finish()
    check.visit(np.array([0]), np.array([[-0.6875, -0.5625]], dtype=np.float32))
    with pytest.raises(BoundExcludesRun, match=r"case 0 is closed .*-0\.6875, -0\.5625"):
        check.finish()
    assert problem.case_box[0] == 0


def test_descents_of_the_attack_are_visited(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    monkeypatch.setattr(SelfCheck, "visit", lambda self, cases, points: seen.append(points))
    made = []
    monkeypatch.setattr(Attacker, "__init__", _counting(made, Attacker.__init__))
    decide(*CLEAN["hidden"], attack=True, seed=4)
    assert sorted(made) == [4, 5] and sum(map(len, seen)) > 10


def _counting(made: list[int], init: Callable[..., None]) -> Callable[..., None]:
    def counted(self: Any, problem: Any, net: Any, judge: Any, seed: int, **rest: Any) -> None:
        made.append(seed)
        init(self, problem, net, judge, seed, **rest)

    return counted


@pytest.mark.parametrize("name", CLEAN)
def test_enclosures_contain_a_finer_evaluation(name: str) -> None:
    """A second evaluation, in another order of the points and in torch's arithmetic, stays inside, and enclosures are narrow."""
    net, prop = CLEAN[name]
    problem = compile_problem(net.graph, prop)
    some = SelfCheck(problem, 7)._executions[0]
    few = Executions.at(problem.graph, some.box[:20], some.inputs[:20])
    other = TorchGraph(problem.graph, torch.float64).evaluate(torch.from_numpy(few.inputs).flip(0))
    for i in problem.graph.outputs:
        again = other[i].flip(0).numpy()
        assert (~np.isfinite(again) | ((few.lower[i] <= again) & (again <= few.upper[i]))).all()
        assert ((few.upper[i] - few.lower[i] <= 1e-9 * (1 + np.abs(few.upper[i]))) | ~np.isfinite(few.upper[i])).all()


@pytest.mark.parametrize("greedy", [False, True])
def test_what_goes_on_below_sub_boxes_is_followed_too(greedy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As mending does: roots are parts of a box, and about some of its cases only."""
    net, prop = CLEAN["every node type"]
    problem, budget = compile_problem(net.graph, prop), Budget(float("inf"), 40)
    check = SelfCheck(problem, 1)
    if greedy:
        _greedy_clip(monkeypatch)
    again = Search(problem, TorchGraph(problem.graph, torch.float64), budget, check, None, Allotment(), doubles=False, watched=True)
    middle = problem.lower[0] / 2 + problem.upper[0] / 2
    lower, upper = np.stack([problem.lower[0], middle]), np.stack([middle, problem.upper[0]])
    with torch.no_grad(), pytest.raises(BoundExcludesRun) if greedy else nullcontext():
        again.go_on(lower, upper, [[0], [1, 0]], 1, "repair-1")
    assert check.comparisons > 0
