"""HiGHS on encoded cases: verdicts against the enumeration of all activation patterns, bounds against samples, duals against backward passes."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lp_networks import least, network, problem, question, random_layers
from small_networks import decimal

from bounds.linear import LinearBounds, State
from bounds.torch_graph import TorchGraph
from graph.core import Affine, Elementwise, Graph, Input, Origin, check
from graph.evaluate import evaluate
from graph.functions.abs import absolute
from graph.functions.clip import clip
from graph.functions.facts import Pieces
from graph.functions.leaky_relu import leaky_relu
from graph.functions.relu import relu
from graph.functions.sigmoid import sigmoid
from graph.functions.sign import sign
from graph.linear_map import Dense
from tests.effort import examples
from verifier.encode_lp import encode
from verifier.leaf_program import planes_with
from verifier.milp import MARGIN, Duals, _load, multipliers, refine, solve_milp, worst_excess
from verifier.problem import Problem
from verifier.solver import Question, ask

fast = settings(max_examples=examples(12), suppress_health_check=[HealthCheck.too_slow])
seeds = st.integers(0, 2**32 - 1)


def formula(rows: np.ndarray, bounds: np.ndarray) -> str:
    """All rows . y <= bounds."""
    atoms = []
    for row, bound in zip(rows, bounds, strict=True):
        terms = " ".join(f"(* {decimal(float(c))} Y_{k})" for k, c in enumerate(row))
        atoms.append(f"(<= (+ {terms}) {decimal(float(bound))})")
    return f"(and {' '.join(atoms)})"


@fast
@given(seeds, st.integers(1, 2), st.sampled_from([(2, 4, 2), (3, 3, 3, 2), (2, 5, 1)]))
def test_the_verdict_is_that_of_all_activation_patterns(seed: int, atoms: int, sizes: tuple[int, ...]) -> None:
    """Bounds well below and above the least value that all atoms can reach together; and the minimum is that value."""
    rng = np.random.default_rng(seed)
    layers = random_layers(rng, sizes)
    graph = network(layers, [relu()] * (len(layers) - 1))
    lower, upper = -np.ones(sizes[0]), np.ones(sizes[0])
    rows = np.round(rng.normal(size=(atoms, sizes[-1])) * 8) / 8 + 1 / 16
    best = least(layers, lower, upper, rows, np.zeros(atoms))
    for shift, verdict in ((-1 / 64, "unsat"), (1 / 64, "sat")):
        bounds = np.full(atoms, math.floor(best * 1024) / 1024 + shift)
        asked = question(problem(graph, lower, upper, formula(rows, bounds)))
        answer = solve_milp(asked, 60)
        assert answer.verdict == verdict, answer.reason
        if answer.point is not None:
            assert (lower <= answer.point).all() and (answer.point <= upper).all()
            values = evaluate(graph, [answer.point[None]])[graph.outputs[0]][0]
            assert (rows @ values <= bounds + 1e-9).all()
        assert all(asked.lower[j][e] < 0 < asked.upper[j][e] for j, e in answer.splits) and len(set(answer.splits)) == len(answer.splits)
    program = encode(asked)
    highs = _load(program, math.inf, time_limit=60.0, mip_rel_gap=0.0)
    highs.run()
    if atoms == 1:
        assert highs.getInfo().objective_function_value * program.scale[0] + bounds[0] == pytest.approx(best, abs=1e-5)


def test_a_jump_is_reached_from_both_sides() -> None:
    """sign(x) + sign(-x) is 0 everywhere; closed at the jump it could be 2 there: no unsat, and no witness either."""
    graph = network([(np.asarray([[1.0], [-1.0]]), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))], [sign()])
    assert solve_milp(question(problem(graph, -np.ones(1), np.ones(1), "(>= Y_0 3)")), 30).verdict == "unsat"
    answer = solve_milp(question(problem(graph, -np.ones(1), np.ones(1), "(>= Y_0 1)")), 30)
    assert answer.verdict == "unknown" and "misses the case" in answer.reason
    assert solve_milp(question(problem(graph, -np.ones(1), np.ones(1), "(<= Y_0 0)")), 30).verdict == "sat"


def test_envelopes_can_refute_but_a_point_of_theirs_has_to_be_one() -> None:
    graph = network([(np.eye(1), np.zeros(1)), (np.asarray([[1.0]]), np.zeros(1))], [sigmoid()])
    assert solve_milp(question(problem(graph, -np.ones(1), np.ones(1), "(>= Y_0 0.9)")), 30).verdict == "unsat"
    assert solve_milp(question(problem(graph, -np.ones(1), np.ones(1), "(>= Y_0 0.6)")), 30).verdict == "sat"
    layers = [(np.asarray([[1.0], [-1.0]]), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))]  # sigmoid(x) + sigmoid(-x) = 1
    answer = solve_milp(question(problem(network(layers, [sigmoid()]), -8 * np.ones(1), 8 * np.ones(1), "(>= Y_0 1.125)")), 30)
    assert answer.verdict == "unknown" and "only enveloped" in answer.reason


def test_a_case_that_says_nothing_of_outputs() -> None:
    graph = network(random_layers(np.random.default_rng(0), (2, 3, 1)), [relu()])
    asked = question(problem(graph, -np.ones(2), np.ones(2), "(<= (+ X_0 X_1) 0.5)"))
    assert solve_milp(asked, 30).verdict == "sat"
    assert solve_milp(question(problem(graph, -np.ones(2), np.ones(2), "(<= (+ X_0 X_1) -2.5)")), 30).verdict == "unsat"


def wide() -> Question:
    """Too much for a second: 3 hidden layers of 50, and a bound between the relaxation's and the least value ever sampled."""
    rng = np.random.default_rng(3)
    graph = network(random_layers(rng, (12, 50, 50, 50, 1)), [relu()] * 3)
    points = rng.uniform(-1, 1, (2000, 12))
    least_seen = float(evaluate(graph, [points])[graph.outputs[0]].min())
    return question(problem(graph, -np.ones(12), np.ones(12), f"(<= Y_0 {decimal(round(least_seen * 4))})"))


def test_the_time_is_kept_and_no_verdict_is_guessed() -> None:
    asked = wide()
    for seconds in (0.0, 0.5):
        began = time.monotonic()
        answer = solve_milp(asked, seconds)
        assert (answer.verdict, answer.reason) == ("unknown", "time")
        assert time.monotonic() - began < 20


def test_in_a_child_process() -> None:
    graph = network(random_layers(np.random.default_rng(1), (2, 3, 1)), [relu()])
    assert ask(solve_milp, question(problem(graph, -np.ones(2), np.ones(2), "(>= Y_0 1000)")), 60).verdict == "unsat"


@pytest.mark.parametrize("values", [(2.0, 3.0), (-np.inf, np.inf), (np.nan, np.nan), (1.0, -1.0)])
def test_wrong_bounds_never_pass(values: tuple[float, float]) -> None:
    """A program without solutions, or one that cannot be written: unknown, whatever HiGHS makes of it."""
    graph = network([(np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1))], [relu()])
    asked = question(problem(graph, -np.ones(1), np.ones(1), "(>= Y_0 5)"))
    wrong = replace(asked, lower={**asked.lower, 1: np.full(1, values[0])}, upper={**asked.upper, 1: np.full(1, values[1])})
    answer = solve_milp(wrong, 30)
    assert answer.verdict == "unknown" and answer.reason


def test_an_optimum_at_the_bound_is_not_refuted() -> None:
    """|x| <= -margin has no solution, but too little shows it; |x| <= 0 has one."""
    graph = network([(np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1))], [absolute()])
    for bound, verdicts in (("0", {"sat"}), ("-0.0000001", {"sat", "unknown"}), ("-0.001", {"unsat"})):
        asked = question(problem(graph, -np.ones(1), np.ones(1), f"(<= Y_0 {bound})"))
        answer = solve_milp(asked, 30)
        assert answer.verdict in verdicts
        if answer.point is not None:
            assert worst_excess(asked, answer.point, np.ones(1)) <= MARGIN


# ------------------------------------------------------------ bounds of neurons


@fast
@given(seeds, st.booleans(), st.booleans())
def test_refined_bounds_hold_and_are_tighter(seed: int, relax: bool, within: bool) -> None:
    rng = np.random.default_rng(seed)
    layers = random_layers(rng, (3, 5, 4, 1))
    graph = network(layers, [relu(), relu()])
    points = rng.uniform(-1, 1, (2000, 3))
    values = evaluate(graph, [points])
    bound = float(np.quantile(values[graph.outputs[0]], 0.25))
    asked = question(problem(graph, -np.ones(3), np.ones(3), f"(<= Y_0 {decimal(bound)})"))
    found = refine(asked, 60, relax=relax, within=within)
    keep = (values[graph.outputs[0]] <= bound).all(axis=1) if within else np.ones(len(points), dtype=bool)
    assert not found.refuted and keep.any()
    for i, value in enumerate(values):
        assert (found.lower[i] <= value[keep] + 1e-9).all() and (value[keep] <= found.upper[i] + 1e-9).all()
        assert (found.lower[i] >= asked.lower[i]).all() and (found.upper[i] <= asked.upper[i]).all()
    changed = sum(int((found.lower[i] > asked.lower[i]).sum() + (found.upper[i] < asked.upper[i]).sum()) for i in found.lower)
    assert changed == found.improved
    if not within and not relax:  # the second layer exactly: no worse than by a wide margin above what samples show
        assert refine(asked, 60).lower[3].sum() <= found.lower[3].sum() + 1e-4


def test_a_case_without_executions_is_refuted_on_the_way() -> None:
    graph = network(random_layers(np.random.default_rng(4), (2, 4, 4, 1)), [relu(), relu()])
    assert refine(question(problem(graph, -np.ones(2), np.ones(2), "(<= Y_0 -1000)")), 60, within=True).refuted
    assert refine(question(problem(graph, -np.ones(2), np.ones(2), "(<= Y_0 -1000)")), 0.0).improved == 0


def test_inputs_that_a_function_reads_are_refined_too() -> None:
    """y = relu(x1) + relu(x2) <= 0.5 leaves x <= 0.5; over the whole box there is nothing to gain."""
    nodes = (
        Input((1, 2), (), Origin(), "x"), Elementwise((1, 2), (0,), Origin(), relu()),
        Affine((1, 1), (1,), Origin(), (Dense((1, 2), (1, 1), np.ones((1, 2))),)),
    )
    asked = question(problem(check(Graph(nodes, (0,), (2,), ("y",), {"x": 0, "y": 2})), -np.ones(2), np.ones(2), "(<= Y_0 0.5)"))
    assert refine(asked, 30).improved == 0
    found = refine(asked, 30, within=True, relax=False)
    assert found.improved == 2 and found.upper[0] == pytest.approx([0.5, 0.5], abs=1e-5)


# ------------------------------------------------------------ duals


Cuts = dict[int, tuple[np.ndarray, np.ndarray]]


def backward(asked: Question, state: State, bounds: LinearBounds, found: Duals) -> float:
    """The bound of the weighted atoms and cuts by one rigorous backward pass with these multipliers; thresholds are 0."""
    problem, weights = asked.problem, found.weights
    outputs, _ = problem.functionals.dense(problem.case_rows[asked.case])
    functional = {problem.graph.outputs[0]: torch.from_numpy(weights @ outputs).view(1, 1, -1)}
    constant = torch.tensor([[-(weights @ problem.case_bounds[asked.case])]], dtype=torch.float64)
    told = {i: (torch.from_numpy(slope).view(1, 1, -1),) * 2 for i, slope in found.slopes.items()}
    added = {j: (torch.from_numpy(high - low).view(1, 1, -1), None) for j, (low, high) in found.betas.items()}
    return float(bounds.lower_bound(state, functional, constant, planes=planes_with(problem.graph, state, dict(told)), betas=added).value)


def sub_problem(bound: Problem, rng: np.random.Generator, share: float) -> tuple[Question, Cuts, State, LinearBounds]:
    """A share of the undecided neurons split, on the sides that a random input has them."""
    bounds = LinearBounds(TorchGraph(bound.graph, torch.float64))
    box = torch.from_numpy(bound.lower[:1]), torch.from_numpy(bound.upper[:1])
    root = bounds.propagate(*box)
    values = bounds.net.evaluate(torch.from_numpy(rng.uniform(bound.lower[:1], bound.upper[:1])))
    cuts, known = {}, {}
    for j in (1, 3):
        undecided = (root.lower[j] < 0) & (root.upper[j] > 0) & torch.from_numpy(rng.random(root.lower[j].shape) < share)
        ends = torch.where(undecided & (values[j] >= 0), 0.0, -torch.inf), torch.where(undecided & (values[j] < 0), 0.0, torch.inf)
        known[j] = torch.maximum(root.lower[j], ends[0]), torch.minimum(root.upper[j], ends[1])
        cuts[j] = ends[0][0].numpy(), ends[1][0].numpy()
    state = bounds.propagate(*box, known=known)
    sides = ({i: end[0].numpy() for i, end in enumerate(side)} for side in (state.lower, state.upper))
    return Question(bound, 0, next(sides), next(sides)), cuts, state, bounds


@fast
@given(seeds, st.sampled_from([0.0, 0.3, 0.7]), st.sampled_from([relu(), leaky_relu(0.125), absolute(), clip(-0.5, 0.25)]))
def test_duals_give_a_backward_pass_the_bound_of_the_relaxation(seed: int, share: float, function: Pieces) -> None:
    """The dual of the triangle relaxation is the best choice of slopes and betas (Salman et al. 2019), as long as no bound of a neuron is
    needed by itself."""
    rng = np.random.default_rng(seed)
    graph = network(random_layers(rng, (4, 8, 8, 2)), [function, function])
    rows = rng.normal(size=(1, 2))
    asked, cuts, state, bounds = sub_problem(problem(graph, -np.ones(4), np.ones(4), formula(rows, np.zeros(1))), rng, share)
    found = multipliers(asked, cuts, 60)
    betas = np.concatenate([side for pair in found.betas.values() for side in pair])
    assert (betas >= 0).all() and not betas[np.isinf(np.concatenate([side for pair in cuts.values() for side in pair]))].any()
    assert found.weights.sum() * np.abs(rows).sum() + betas.sum() == pytest.approx(1)
    reached = backward(asked, state, bounds, found)
    assert reached <= found.value + 1e-6 * (1 + abs(found.value))
    assert reached >= found.value - 1e-6 * (1 + abs(found.value)) - sum(float(strain.sum()) for strain in found.strains.values())


def test_duals_of_a_conjunction_weigh_its_atoms() -> None:
    """y = x - 0.5, its negative: neither atom is refuted alone over the box, and 1/2 of each together is."""
    graph = network([(np.asarray([[1.0], [-1.0]]), np.asarray([4.0, 4.0])), (np.eye(2), np.zeros(2))], [relu()])
    asked = question(problem(graph, -np.ones(1), np.ones(1), "(and (<= Y_0 3.75) (<= Y_1 3.75))"))
    found = multipliers(asked, {}, 30)
    assert found.value == pytest.approx(0.25) and found.weights == pytest.approx([0.5, 0.5])
    for k in range(2):
        alone = multipliers(asked, {}, 30, atoms=[k])
        assert alone.value == pytest.approx(-0.75) and alone.weights == pytest.approx([1.0])
