"""Projected gradient: finds planted violations, never invents one, and repeats itself for a fixed seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper
from small_networks import distance_net, linear, model, text

from bounds.torch_graph import TorchGraph
from graph.load import Model
from specs.canonical import Property
from verifier.attack import Attacker, Budget, Margins
from verifier.problem import compile_problem
from verifier.replay import Replayer, Witness

SMALL = Budget(starts=32, steps=40)


def attacker(net: Model, prop: Property, seed: int = 0, budget: Budget = SMALL) -> Attacker:
    problem = compile_problem(net.graph, prop)
    return Attacker(problem, TorchGraph(net.graph), Replayer(net, prop), seed, budget)


def attacked(net: Model, prop: Property, rounds: int = 1, seed: int = 0) -> Witness | None:
    search = attacker(net, prop, seed)
    found = (search.round(60.0) for _ in range(rounds))
    return next((w for w in found if w is not None), None)


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_needle_is_reached_by_descent(seed: int) -> None:
    target = np.random.default_rng(seed).uniform(-0.9, 0.9, 16)
    witness = attacked(distance_net(target), text([("-1", "1")] * 16, 1, "(<= Y_0 0.4)"), rounds=3, seed=seed)
    assert witness is not None
    assert np.abs(witness.inputs - target).sum() <= 0.4 + 1e-5


@pytest.mark.parametrize("unsafe", ["(<= Y_0 -0.001)", "(< Y_0 0.0)", "(and (<= Y_0 0.5) (>= Y_0 40.0))", "(or (<= Y_0 -1.0) (>= Y_0 40.0))"])
def test_nothing_is_found_where_nothing_is(unsafe: str) -> None:
    assert attacked(distance_net(np.full(6, 0.25)), text([("-1", "1")] * 6, 1, unsafe), rounds=2) is None


@pytest.mark.parametrize(("relation", "violated"), [("<=", True), ("<", False)])
def test_a_tie_at_the_edge_of_the_box(relation: str, violated: bool) -> None:
    witness = attacked(linear([[1.0], [1.0]]), text([("0", "1")] * 2, 1, f"({relation} Y_0 0.0)"))
    assert (witness is not None) == violated


def test_several_atoms_hold_at_once() -> None:
    """Two outputs must be small at the same time: the descent may not trade one for the other."""
    net = linear(np.array([[1.0, -1.0], [0.5, 0.75], [0.25, 0.1]]))
    witness = attacked(net, text([("-1", "1")] * 3, 2, "(and (<= Y_0 -0.7) (<= Y_1 -0.05) (>= Y_1 -0.3))"), rounds=2)
    assert witness is not None
    assert witness.outputs[0] <= -0.7 and -0.3 <= witness.outputs[1] <= -0.05


def test_mixed_atoms_are_descended_through_the_input_as_well() -> None:
    net = linear([[0.0], [1.0]])
    witness = attacked(net, text([("0", "1"), ("0", "1")], 1, "(<= (+ Y_0 X_0) 0.0001)"))
    assert witness is not None
    assert witness.inputs.sum() <= 0.0001


def test_each_case_has_its_own_box() -> None:
    boxes = [(k / 100, (k + 1) / 100) for k in range(100)]
    formula = "(or " + " ".join(f"(and (>= X_0 {a}) (<= X_0 {b}) (<= Y_0 {0.005 if k == 73 else -0.1}))" for k, (a, b) in enumerate(boxes)) + ")"
    search = attacker(distance_net(np.array([0.7371, 0.2])), text([("0", "1")] * 2, 1, formula))
    witness = search.round(60.0)
    assert witness is not None
    assert witness.case == 73
    assert 0.73 <= witness.inputs[0] <= 0.74


def test_a_leaf_is_attacked_from_its_own_box() -> None:
    target = np.random.default_rng(3).uniform(-0.9, 0.9, 16)
    prop = text([("-1", "1")] * 16, 1, "(<= Y_0 0.02)")
    search = attacker(distance_net(target), prop)
    near, far = target - 0.005, np.full(16, -1.0)
    lower, upper = np.stack([far, near]), np.stack([far + 0.01, near + 0.012])
    witness = search.leaf_attack(lower, upper, np.zeros(2, dtype=np.int64), 60.0)
    assert witness is not None
    assert np.abs(witness.inputs - target).sum() <= 0.02 + 1e-5


def test_a_box_without_any_float32_has_one_candidate() -> None:
    witness = attacked(linear([[1.0]]), text([("0.1", "0.1")], 1, "(>= Y_0 0.05)"))
    assert witness is not None
    assert not witness.inside_exact_box


def test_a_property_of_the_inputs_alone() -> None:
    assert attacked(linear([[1.0]]), text([("0", "1")], 1, "(<= (- X_0 0.9) -0.1)")) is not None


def test_a_network_that_ignores_its_input() -> None:
    net = linear([[0.0]], np.array([1.0]))
    assert attacked(net, text([("0", "1")], 1, "(<= Y_0 0.5)")) is None
    assert attacked(net, text([("0", "1")], 1, "(>= Y_0 0.5)")) is not None


def test_the_recorded_margin_is_one_that_was_reached() -> None:
    search = attacker(distance_net(np.full(4, 0.5)), text([("-1", "1")] * 4, 1, "(or (<= Y_0 -1.0) (<= Y_0 -2.0))"))
    assert search.round(60.0) is None
    assert (search.best_margin >= np.array([1.0, 2.0]) - 1e-5).all()
    assert search.best_margin == pytest.approx([1.0, 2.0], abs=0.2)


def test_executions_that_are_not_finite_do_not_count() -> None:
    big = np.array([1e30])
    nodes = [helper.make_node("Mul", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"]), helper.make_node("Mul", ["r", "a"], ["y"])]
    search = attacker(model(nodes, 1, 1, a=big), text([("0.5", "1")], 1, "(>= Y_0 1.0)"))
    assert search.round(60.0) is None
    assert search.best_margin.tolist() == [np.inf]


def test_margins_agree_with_the_atoms_by_hand() -> None:
    prop = text([("0", "1")] * 2, 2, "(or (and (<= Y_0 0.25) (< Y_1 (+ X_0 0.5))) (and (>= (- Y_0 Y_1) 0.125)))")
    problem = compile_problem(linear(np.eye(2)).graph, prop)
    x = torch.tensor([[0.5, 0.75], [0.5, 0.75]])
    y = torch.tensor([[0.5, 1.5], [0.5, 1.5]])
    margins = Margins(problem, np.array([0, 1]), torch.device("cpu"))
    assert margins.of_cases(margins.atoms(x, y)).tolist() == [0.5, 1.125]  # max(0.5 - 0.25, 1.5 - 0.5 - 0.5), 0.125 - (0.5 - 1.5)
    assert margins.violates(torch.zeros(2, dtype=torch.float64)).tolist() == [False, True]


def test_a_seed_fixes_the_search() -> None:
    prop = text([("-1", "1")] * 16, 1, "(<= Y_0 0.4)")
    target = np.random.default_rng(11).uniform(-0.9, 0.9, 16)
    searches = [attacker(distance_net(target), prop, seed=5) for _ in range(2)]
    for _ in range(2):
        first, second = (search.round(60.0) for search in searches)
        assert (first is None) == (second is None)
        assert first is None or second is None or first.inputs.tolist() == second.inputs.tolist()
    assert searches[0].best_margin.tolist() == searches[1].best_margin.tolist()


def test_no_time_means_at_most_one_step() -> None:
    search = attacker(distance_net(np.full(16, 0.3)), text([("-1", "1")] * 16, 1, "(<= Y_0 -1)"))
    assert search.round(0.0) is None
    assert search.rounds == 0


@pytest.mark.parametrize("seed", range(3))
def test_where_functions_jump_points_are_all_over_a_box_of_few_inputs(seed: int) -> None:
    """One of 4,096 squares, which no gradient leads to: the square's number is a sum of floors."""
    nodes = [helper.make_node("Floor", ["x"], ["f"]), helper.make_node("Sub", ["f", "c"], ["d"]), helper.make_node("Abs", ["d"], ["a"])]
    nodes += [helper.make_node("Clip", ["a", "", "one"], ["k"]), helper.make_node("ReduceSum", ["k"], ["y"], keepdims=1)]
    square = np.random.default_rng(seed).integers(0, 64, (1, 2)).astype(np.float32)
    net = model(nodes, 2, 1, c=square, one=np.float32(1))
    witness = attacked(net, text([("0", "63.999")] * 2, 1, "(<= Y_0 0.5)"), seed=seed)
    assert witness is not None and (np.floor(witness.inputs) == square.ravel()).all()
