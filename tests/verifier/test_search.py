"""The engine end to end on small problems whose truth is known: never `unsat` for a violated one, attack on or off."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from exact_relu import Question, eighths, layers, questions
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from onnx import helper
from small_networks import clause_net, decimal, distance_net, linear, model, relu_net, text

from benchmarks.strategies import Instance, instances
from bounds.linear import Lower
from bounds.torch_graph import TorchGraph
from graph.load import Model, load
from specs.canonical import Property
from specs.vnnlib import parse
from tests.effort import examples, thorough
from verifier import engine, portfolio, search
from verifier.bounding import Bounder
from verifier.branch_input import split
from verifier.budget import Budget
from verifier.domains import Boxes, Stack
from verifier.groups import group_cases
from verifier.input_search import InputSearch, Tally, _Lines
from verifier.options import Options
from verifier.problem import compile_problem
from verifier.result import Outcome
from verifier.tighten import tighten

NODES = 600
KINDS = ("inputs", "inputs, float64 after a batch", "neurons")
AT_ONCE: dict[str, Any] = {"precision_boxes": 0, "precision_share": -1.0}
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # a shrink takes minutes
slow = settings(max_examples=examples(20), phases=PHASES, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def decide(net: Model, prop: Property, *, attack: bool = False, nodes: int = NODES, seed: int = 0) -> Outcome:
    return engine.run(net, prop, Options("", "", timeout=60.0, nodes=nodes, no_attack=not attack, seed=seed, threads=1))


@contextmanager
def searching(kind: str) -> Iterator[None]:
    """Every search is of this kind, whatever the structure."""
    chosen = {"inputs": {"input_split_most": 10**6}, "neurons": {"input_split_most": -1}, KINDS[1]: {"input_split_most": 10**6, **AT_ONCE}}[kind]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portfolio, "CONSTANTS", dataclasses.replace(portfolio.CONSTANTS, trial_nodes=0, **chosen))
        yield


# ---------------------------------------------------------------- known truth


@slow
@given(instances(truths=("sat",)), st.sampled_from(KINDS), st.booleans())
def test_a_violated_property_is_never_called_verified(instance: Instance, kind: str, attack: bool) -> None:
    with searching(kind):
        found = decide(load(instance.network.model.SerializeToString()), parse(instance.property), attack=attack, nodes=75)
    assert found.verdict in (("sat", "unknown") if attack else ("unknown",))


@slow
@given(instances(truths=("unsat",)), st.sampled_from(KINDS))
def test_a_property_that_holds_is_never_called_violated(instance: Instance, kind: str) -> None:
    with searching(kind):
        found = decide(load(instance.network.model.SerializeToString()), parse(instance.property), attack=True, nodes=150)
    assert found.verdict in ("unsat", "unknown")


@settings(slow, max_examples=examples(40))
@given(questions(), st.sampled_from(KINDS), st.booleans())
def test_disjunctions_of_conjunctions_against_the_exact_truth(question: Question, kind: str, attack: bool) -> None:
    with searching(kind):
        found = decide(question.layers.onnx(), question.property(), attack=attack, nodes=examples(NODES))
    if found.verdict == "unsat":
        assert not question.truth()
    if found.verdict == "sat":
        assert found.witness is not None
        assert attack and (question.truth() or found.witness.float32_only is not False)


@settings(slow, max_examples=examples(25))
@given(questions(), st.sampled_from(KINDS))
def test_what_holds_with_room_to_spare_is_verified(question: Question, kind: str) -> None:
    if kind == "neurons":  # once every neuron is fixed, one atom alone must refute: neuron splitting does not weigh atoms
        question = Question(question.layers, tuple((low, high, atoms[:1]) for low, high, atoms in question.cases))
    assume(not question.truth(slack=Fraction(1, 8)))
    with searching(kind):
        found = decide(question.layers.onnx(), question.property())
    assert found.verdict == "unsat"


@settings(slow, max_examples=examples(20))
@given(layers(inputs=2), st.data())
def test_two_inputs_against_a_grid(net, data) -> None:  # type: ignore[no-untyped-def]
    """Thresholds are the exact extremes over a grid: attained, hence violated; a little beyond is open to either answer."""
    ends = [sorted((data.draw(eighths(-8, 8)), data.draw(eighths(-8, 8)))) for _ in range(2)]
    axes = [[low + (high - low) * k / 8 for k in range(9)] for low, high in ends]
    values = [net.outputs((x, y))[0] for x in axes[0] for y in axes[1]]
    above = data.draw(st.booleans())
    unsafe = f"(>= Y_0 {decimal(float(max(values)))})" if above else f"(<= Y_0 {decimal(float(min(values)))})"
    assume(all(v.denominator < 2**40 for v in values))
    box = [(decimal(float(low)), decimal(float(high))) for low, high in ends]
    with searching(data.draw(st.sampled_from(KINDS))):
        assert decide(net.onnx(), text(box, len(net.biases[-1]), unsafe), nodes=examples(NODES)).verdict == "unknown"


# ---------------------------------------------------------------- numbers that are not finite


def _unary(*operators: str) -> Model:
    names = ["x", *(f"h{k}" for k in range(len(operators) - 1)), "y"]
    return model([helper.make_node(op, [a], [b]) for op, a, b in zip(operators, names[:-1], names[1:], strict=True)], 1, 1)


def _division() -> Model:
    return model([helper.make_node("Div", ["one", "x"], ["y"])], 1, 1, one=np.ones((1, 1)))


def _difference_of_exponentials() -> Model:
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("MatMul", ["e", "w"], ["y"])]
    return model(nodes, 2, 1, w=np.array([[1.0], [-1.0]]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("net", "box", "unsafe"),
    [
        (_division(), [("-1", "1")], "(<= Y_0 -5.0)"),
        (_division(), [("0", "1")], "(>= Y_0 2.0)"),
        (_difference_of_exponentials(), [("0", "200")] * 2, "(<= Y_0 -1.0)"),
        (_difference_of_exponentials(), [("0", "2000")] * 2, "(and (<= Y_0 -1.0) (>= Y_0 -2.0))"),
        (_unary("Exp", "Exp"), [("0", "30")], "(<= Y_0 3.0)"),
        (_unary("Exp", "Exp", "Exp"), [("0", "9")], "(and (>= Y_0 16.0) (<= Y_0 17.0))"),
        (linear([[3e38], [-3e38]]), [("-3", "3")] * 2, "(<= Y_0 0.0)"),
        (linear([[3e38], [3e38]]), [("-3", "3")] * 2, "(>= Y_0 1.0)"),
    ],
)
def test_bounds_that_are_not_finite_prove_nothing(net: Model, box: list[tuple[str, str]], unsafe: str, kind: str) -> None:
    with searching(kind):
        found = decide(net, text(box, 1, unsafe), nodes=NODES if thorough() else 40)
    assert found.verdict == "unknown"
    assert found.bound is None or np.isfinite(found.bound)


@pytest.mark.parametrize("kind", KINDS)
def test_a_coefficient_that_float32_rounds_to_nothing_is_charged(kind: str) -> None:
    """Regression: 1e-50 Y is 0 in float32, but Y reaches 1e37: the property is violated at X = 1."""
    net = relu_net(np.ones((1, 1)), np.zeros(1), np.full((1, 1), 1e37), np.zeros(1))
    small = "0." + "0" * 24 + "1"
    prop = text([("-1", "1")], 1, f"(>= (* {small} (* {small} Y_0)) 0.{'0' * 13}1)")
    with searching(kind):
        assert decide(net, prop, nodes=20).verdict == "unknown"
    assert decide(net, prop, attack=True).verdict == "sat"


@pytest.fixture
def rounded(monkeypatch: pytest.MonkeyPatch) -> tuple[Callable[..., int], list[object]]:
    """|x - y| + 4096 (x + y + 3) - 4096 (x + y + 3): where x is near y, what float32 may lose is more than the distance to the threshold. How many
    boxes that takes with these constants, and a list that holds what goes on in float64."""
    hidden = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]])
    net = relu_net(hidden, np.array([0.0, 0.0, 3.0]), np.array([[1.0], [1.0], [4096.0]]), np.zeros(1))
    shifted = "(<= (- Y_0 (* 4096.0 (+ X_0 X_1))) 12287.999)"
    prop = text([("0", "1"), ("-1", "0.25")], 1, shifted)

    def nodes(**constants: float) -> int:
        with monkeypatch.context() as patch:
            chosen = dataclasses.replace(portfolio.CONSTANTS, double_gap=float("inf"), input_split_most=10**6, **constants)
            patch.setattr(portfolio, "CONSTANTS", chosen)
            patch.setattr(search, "CONSTANTS", chosen)
            found = decide(net, prop, nodes=5000)
        assert (found.verdict, found.closed_volume) == ("unsat", 1.0)
        return found.nodes

    switched: list[object] = []
    whole = Bounder.in_double
    monkeypatch.setattr(Bounder, "in_double", lambda self: switched.append(self) or whole(self))
    return nodes, switched


def test_the_search_goes_on_in_float64_where_that_saves_bounding_twice(rounded: tuple[Callable[..., int], list[object]]) -> None:
    nodes, switched = rounded
    single = nodes(precision_share=float("inf"))
    assert not switched
    assert nodes(precision_boxes=1) <= single and switched


def test_boxes_bounded_twice_to_be_clipped_count_where_bounds_go_forwards(
    rounded: tuple[Callable[..., int], list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes, switched = rounded
    monkeypatch.setattr(Bounder, "retried", property(lambda self: 0, lambda self, count: None), raising=False)
    often = {"precision_boxes": 1, "precision_share": 0.0, "precision_forward": 0.0, "clip_rare": 0.0, "clip_gap": 0.0}
    nodes(**often)
    assert not switched
    nodes(**often, forward_ratio=-1)
    assert switched


def test_linear_bounds_of_float64_are_kept_where_they_are_better_and_rounded_downwards() -> None:
    """Over the same network, boxes along x = y: what float64 says of a box, told in float32, lies below the network and above float32's own."""
    hidden = np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]])
    net = relu_net(hidden, np.array([0.0, 0.0, 3.0]), np.array([[1.0], [1.0], [4096.0]]), np.zeros(1))
    prop = text([("0", "1"), ("-1", "0.25")], 1, "(<= (- Y_0 (* 4096.0 (+ X_0 X_1))) 12287.9999)")
    problem = compile_problem(net.graph, prop)
    bounder = Bounder(problem, group_cases(problem, np.arange(1)), TorchGraph(net.graph), 1 << 20)
    lower = torch.tensor([[k / 64, k / 64] for k in range(16)])
    upper = lower + 1 / 128
    group, is_open = torch.zeros(16, dtype=torch.long), torch.ones(16, 1, dtype=torch.bool)
    found = bounder.bound(lower, upper, group, is_open)
    _, linear = bounder.retry_in_double(found, lower, upper, group, is_open)
    assert bounder.retried and linear.constant.dtype == torch.float32
    steps = torch.from_numpy(np.random.default_rng(3).random((16, 50, 2)))
    x = lower.double().unsqueeze(1) + steps * (upper - lower).double().unsqueeze(1)
    exact = (x[..., 0] - x[..., 1]).abs() + 12288 - 12287.9999
    told, own = ((x @ one.coefficients.double().mT).squeeze(-1) + one.constant.double() for one in (linear, found.lower))
    assert bool((told <= exact).all()) and bool((told.amin(-1) > own.amin(-1)).any())
    assert bool((linear.constant > found.lower.constant + 0.01).any())
    chosen = torch.tensor([3, 8])
    some = bounder.sharpened(found.lower, found.rows, lower, upper, group, is_open, chosen, chosen)
    told = (x @ some.coefficients.double().mT).squeeze(-1) + some.constant.double()
    assert bool((told <= exact).all()) and bool((some.constant[chosen] > found.lower.constant[chosen] + 0.01).all())
    assert bool((some.error[chosen] < 1e-3 * found.lower.error[chosen]).all())
    others = torch.ones(16, dtype=torch.bool).index_fill(0, chosen, False)
    assert all(torch.equal(getattr(some, part)[others], getattr(found.lower, part)[others]) for part in ("constant", "coefficients"))


@pytest.mark.parametrize(("error", "few", "doubles", "asked"), [
    (0.0, 0, True, []), (0.001, 0, True, []), (0.1, 0, True, [0, 1, 2, 3]), (0.1, 39, True, []), (9.0, 0, True, [0, 1, 2, 3]), (9.0, 0, False, []),
])  # fmt: skip
def test_what_rounding_decides_is_clipped_by_bounds_of_float64(error: float, few: int, doubles: bool, asked: list[int]) -> None:
    """x - 1/3 over halves of [0, 1]: left is [0, 1/3] of the lower halves, or less, and of the upper halves nothing."""
    count = 4 + few  # so many are certain
    lower, upper = torch.zeros(count, 1), torch.ones(count, 1)
    errors = torch.zeros(count, 1).index_fill(0, torch.arange(4), error)
    bounds = Lower(torch.zeros(count, 1), torch.ones(count, 1, 1), torch.full((count, 1), -1 / 3), errors, {})
    calls: list[list[int]] = []

    def sharpened(linear: Lower, *given: torch.Tensor) -> Lower:
        calls.append(given[-2].tolist())
        return dataclasses.replace(linear, constant=linear.constant + 0.01)

    one = InputSearch.__new__(InputSearch)
    one.bounder = SimpleNamespace(reserve=torch.zeros(1), sharpened=sharpened, doubles=doubles)  # type: ignore[assignment]
    group, is_open = torch.zeros(count, dtype=torch.long), torch.ones(count, 1, dtype=torch.bool)
    whole = Boxes(lower, upper, group, is_open, torch.zeros(count), group, torch.arange(count))
    children, parent, _ = split(whole, torch.ones(count, 1), 1, count)
    lines = _Lines(bounds, torch.zeros(1, dtype=torch.long), torch.ones(1, 1, 1, dtype=torch.bool), group)
    low, high, left = one._clipped(whole, children, parent, lines)
    assert calls == ([asked] if asked else [])
    first = children.lower[:, 0] == 0
    assert left[first].all() and not left[~first].any() and bool((low[first] == 0).all())
    assert high[first].flatten().tolist() == pytest.approx([1 / 3 - 0.01 * bool(asked)] * count, abs=1e-5)


# ---------------------------------------------------------------- cover, budget, determinism


@settings(max_examples=examples(60))
@given(st.data())
def test_halves_cover_the_box(data: st.DataObject) -> None:
    n, count, ways = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    a, b = rng.normal(size=(2, count, n)).astype(np.float32)
    b = np.where(rng.random((count, n)) < 0.3, a, b)
    lower, upper = torch.from_numpy(np.minimum(a, b)), torch.from_numpy(np.maximum(a, b))
    ids, depth = torch.arange(count), torch.zeros(count, dtype=torch.long)
    whole = Boxes(lower, upper, ids, torch.ones(count, 1, dtype=torch.bool), torch.zeros(count), depth, ids)
    parts, parent, halvings = split(whole, torch.from_numpy(rng.random((count, n)).astype(np.float32)), ways, count)
    assert len(set(parts.id.tolist())) == len(parts) == count + sum(len(h.id) for h in halvings)
    assert parts.volume() == count  # 2^-depth adds up
    assert torch.equal(parent, parts.group)
    for k in range(count):
        points = torch.from_numpy((lower[k].numpy() + rng.random((200, n)) * (upper[k] - lower[k]).numpy()).astype(np.float32))
        points = torch.cat([points.clamp(lower[k], upper[k]), lower[k : k + 1], upper[k : k + 1], (lower[k : k + 1] + upper[k : k + 1]) / 2])
        mine = parts.select(parts.group == k)
        inside = (points.unsqueeze(1) >= mine.lower) & (points.unsqueeze(1) <= mine.upper)
        assert bool(inside.all(-1).any(-1).all())


RANDOM = np.random.default_rng(1)
SHELL = distance_net(np.array([0.3125, -0.40625, 0.15625]))
DEEP = relu_net(RANDOM.normal(size=(6, 24)), RANDOM.normal(size=24), RANDOM.normal(size=(24, 1)), np.zeros(1))
HARD = text([("-1", "1")] * 6, 1, "(and (>= Y_0 0.5) (<= Y_0 0.5))")  # a surface: nothing refutes it and nothing ends the search


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nodes", [0, 1, 50, 333])
def test_a_budget_of_nodes_is_kept(kind: str, nodes: int) -> None:
    with searching(kind):
        found = decide(DEEP, HARD, nodes=nodes)
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "nodes"
    assert found.nodes <= nodes + 4  # the passes over whole boxes and the last pair are beyond the count


MANY = relu_net(RANDOM.normal(size=(20, 60)), RANDOM.normal(size=60), RANDOM.normal(size=(60, 1)), np.zeros(1))


@pytest.mark.parametrize("nodes", [1, 50, 300])
def test_a_budget_that_ends_before_neurons_are_split_leaves_all_open(nodes: int) -> None:
    """Regression: the trial of input splits spent the budget, no case was started, and nothing open passed for a proof."""
    found = decide(MANY, text([("-1", "1")] * 20, 1, "(>= Y_0 0.0)"), nodes=nodes)
    assert (found.verdict, found.cases.open) == ("unknown", 1)


@pytest.mark.parametrize("last", [0, 1])
def test_a_case_that_was_never_started_is_open(last: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: the time ends while the boxes' hidden layers are bounded; the cases of later boxes were taken for closed."""
    calls = []

    def slow_tighten(bounds, state, *, budget, **options):  # type: ignore[no-untyped-def]
        calls.append(state)
        if len(calls) > last:
            budget.stopped = "time"
        return tighten(bounds, state, budget=budget, **options)

    monkeypatch.setattr(search, "tighten", slow_tighten)
    monkeypatch.setattr(search, "choose", lambda *_: portfolio.Plan("neurons", 8, False, 0, "as the test wants it"))
    two = "(or (and (<= X_0 0.5) (<= Y_0 0.01)) (and (>= X_0 0.25) (<= Y_0 0.01)))"
    found = decide(SHELL, text([("-1", "1")] * 3, 1, two))
    assert len(calls) == 2 and (found.verdict, found.bound, found.cases.open) == ("timed-out", None, 2)


def test_functions_of_the_inputs_themselves_can_be_split() -> None:
    """Regression: a split of an input's own function changed nothing, and was chosen again and again. sin(x) - x / 2 < 0.343."""
    nodes = [helper.make_node("Sin", ["x"], ["s"]), helper.make_node("Mul", ["x", "half"], ["h"]), helper.make_node("Sub", ["s", "h"], ["y"])]
    net = model(nodes, 1, 1, half=np.full(1, 0.5))
    with searching("neurons"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(portfolio, "CONSTANTS", dataclasses.replace(portfolio.CONSTANTS, trial_nodes=0))
        found = decide(net, text([("0", "6")], 1, "(>= Y_0 0.343)"), nodes=300)
    assert found.verdict == "unsat" and found.nodes > 2


def test_a_lost_sub_problem_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted defect: the search forgets its boxes. The closed leaves do not add up, so there is no verdict."""
    monkeypatch.setattr(Stack, "push", lambda self, rows: None)
    with searching("inputs"), pytest.raises(engine.LostCases):
        decide(DEEP, HARD)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attack", [True, False])
def test_a_run_repeats_itself(kind: str, attack: bool) -> None:
    unsafe = "(or (<= Y_0 -0.000001) (and (>= Y_0 1.0) (<= Y_0 0.9999)))"
    with searching(kind):
        one, two = (decide(SHELL, text([("-1", "1")] * 3, 1, unsafe), attack=attack, nodes=examples(200), seed=7) for _ in range(2))
    facts = ("verdict", "nodes", "leaves", "bound", "closed_volume", "cases", "portfolio")
    assert [getattr(one, f) for f in facts] == [getattr(two, f) for f in facts]


@pytest.mark.parametrize("kind", KINDS)
def test_all_volume_is_closed_when_all_is_proven(kind: str) -> None:
    unsafe = "(or (<= Y_0 -0.01) (>= Y_0 7.0) (>= Y_0 3.9))"
    with searching(kind):
        found = decide(SHELL, text([("-1", "1")] * 3, 1, unsafe), nodes=3000)
    assert (found.verdict, found.closed_volume, found.cases.closed) == ("unsat", 1.0, 3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("unsafe", "verdict"), [("(>= Y_0 1.0)", "sat"), ("(>= Y_0 1.001)", "unsat"), ("(> Y_0 1.0)", "unknown")])
def test_a_box_that_is_a_point(kind: str, unsafe: str, verdict: str) -> None:
    """Nothing varies: probes still run, and nothing can be split. A tie is not proven."""
    net = model([helper.make_node("Abs", ["x"], ["a"]), helper.make_node("MatMul", ["a", "w"], ["y"])], 2, 1, w=np.full((2, 1), 0.5))
    with searching(kind):
        assert decide(net, text([("1", "1"), ("-1", "-1")], 1, unsafe), attack=True).verdict == verdict


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_without_atoms_is_a_violation(kind: str) -> None:
    with searching(kind):
        assert decide(SHELL, text([("-1", "1")] * 3, 1, "(<= (* 0.0 Y_0) 0.0)")).verdict == "unknown"
        assert decide(SHELL, text([("-1", "1")] * 3, 1, "(<= (* 0.0 Y_0) 0.0)"), attack=True).verdict == "sat"


def test_a_violated_property_reports_its_cases_as_open() -> None:
    net, prop = distance_net(np.array([0.3125, -0.40625])), text([("-1", "1")] * 2, 1, "(or (<= Y_0 0.0001) (<= Y_0 -1.0))")
    found = decide(net, prop, attack=True)
    assert found.verdict == "sat" and found.cases.open >= 1 and found.cases.closed + found.cases.open == found.cases.total


class Paced:
    """A search over inputs that closes `pace(boxes spent)` of the volume of 1 with each box, 100 boxes at a time."""

    batch, stack = 100, ()

    def __init__(self, pace: Callable[[int], float]) -> None:
        self.pace, self.tally, self.finished = pace, Tally(), False

    def lowest_margin(self) -> float:
        return -1.0

    def run(self, budget: Budget, nodes: int) -> None:
        stop = self.tally.nodes + nodes
        while self.tally.nodes < stop and not self.finished:
            self.tally.closed_volume += 100 * self.pace(self.tally.nodes)
            self.tally.nodes += 100
            self.finished = self.tally.closed_volume >= 1


@pytest.mark.parametrize(
    ("pace", "spent"),
    [
        (lambda nodes: 0.0, 2000),  # hopeless
        (lambda nodes: 1e-6, 2000),  # would take a million
        (lambda nodes: 1e-4, 10_000),  # ends soon, and is let
        (lambda nodes: 1e-4 if nodes < 4000 else 0.0, 8000),  # stalls
    ],
)
def test_halving_inputs_goes_on_while_it_promises_to_end(pace: Callable[[int], float], spent: int) -> None:
    trial = Paced(pace)
    told = SimpleNamespace(budget=Budget(time.monotonic() + 1000), found=SimpleNamespace(nodes=0), _progress=lambda *a: None)
    assert search.Search._try_inputs(told, [trial], 1, 2000) is trial  # type: ignore[arg-type, comparison-overlap, list-item]
    assert trial.tally.nodes == spent


def test_of_two_ways_to_halve_inputs_the_one_that_closes_more_goes_on() -> None:
    slow, fast, never = Paced(lambda nodes: 1e-5), Paced(lambda nodes: 1e-4), Paced(lambda nodes: 0.0)
    told = SimpleNamespace(budget=Budget(time.monotonic() + 1000), found=SimpleNamespace(nodes=0), _progress=lambda *a: None)
    assert search.Search._try_inputs(told, [slow, fast], 1, 2000) is fast  # type: ignore[arg-type, comparison-overlap, list-item]
    assert (slow.tally.nodes, fast.tally.nodes, told.found.nodes) == (2000, 10_000, 2000)
    done = Paced(lambda nodes: 1e-2)
    assert search.Search._try_inputs(told, [done, never], 1, 2000) is done and never.tally.nodes == 0  # type: ignore[arg-type, comparison-overlap, list-item]


def test_halving_inputs_is_given_up_where_it_is_not_cheap() -> None:
    """Whatever the number of boxes: a small share of the time is all that it gets."""
    trial = Paced(lambda nodes: time.sleep(0.01) or 0.0)  # type: ignore[func-returns-value]
    told = SimpleNamespace(budget=Budget(time.monotonic() + 1), found=SimpleNamespace(nodes=0), _progress=lambda *a: None)
    search.Search._try_inputs(told, [trial], 1, 10**6)  # type: ignore[arg-type, list-item]
    assert 0 < trial.tally.nodes < 5000


def contradiction(variables: int, count: int, rng: np.random.Generator) -> list[list[int]]:
    """Clauses that contradict each other: the leaves of a random tree of decisions, each ruled out."""
    clauses: list[list[int]] = [[]]
    while len(clauses) < count:
        clause = clauses.pop(int(rng.integers(len(clauses))))
        free = sorted(set(range(1, variables + 1)) - {abs(literal) for literal in clause})
        literal = int(rng.choice(free)) if free else 0
        clauses += [[*clause, literal], [*clause, -literal]] if free else [clause]
    return clauses


@pytest.mark.parametrize("seed", range(3))
def test_formulas_are_refuted_by_deciding_what_stands_in_many_clauses(seed: int) -> None:
    """All bounds are at 0 until a branch is decided to its end, so that no score by bounds tells the inputs apart."""
    variables, rng = 30, np.random.default_rng(seed)
    clauses = contradiction(variables, 90, rng)
    box, unsafe = [("0.0", "1.0")] * variables, "(and (>= Y_0 0.0) (<= Y_1 0.0))"
    found = decide(clause_net(clauses, variables), text(box, 2, unsafe), nodes=6000)
    assert found.verdict == "unsat" and any("'loose' sufficed" in line for line in found.portfolio)
    del clauses[int(rng.integers(len(clauses)))]
    assert decide(clause_net(clauses, variables), text(box, 2, unsafe), nodes=2000).verdict == "unknown"
