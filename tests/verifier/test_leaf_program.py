"""Sub-problems as linear programs: any multipliers give a bound that holds, the duals give nearly the best, and what needs them is certified."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lp_networks import network, problem, random_layers

from benchmarks.exact.engines import Effort, branch_and_bound
from benchmarks.exact.instances import seeded
from bounds.linear import NEAR_ZERO, LinearBounds, State
from bounds.torch_graph import TorchGraph
from graph.evaluate import evaluate
from graph.functions.clip import clip
from graph.functions.facts import Pieces
from graph.functions.relu import relu
from graph.functions.sigmoid import sigmoid
from graph.functions.sign import sign
from tests.effort import examples
from verifier.events import Places
from verifier.leaf_program import Cut, _confirm, applies, attempt, both_sides
from verifier.problem import Problem

TWO = "(and (<= (+ Y_0 (* 2.0 Y_1)) 0.5) (<= (* -1.0 Y_0) 0.25))"
fast = settings(max_examples=examples(12), suppress_health_check=[HealthCheck.too_slow])


def bound_in(asked: Problem, known: dict[int, tuple[np.ndarray, np.ndarray]]) -> tuple[LinearBounds, State]:
    """The state of the only box, where `known` holds."""
    linear = LinearBounds(TorchGraph(asked.graph, torch.float64))
    ends = {j: (torch.from_numpy(low).unsqueeze(0), torch.from_numpy(high).unsqueeze(0)) for j, (low, high) in known.items()}
    return linear, linear.propagate(torch.from_numpy(asked.lower), torch.from_numpy(asked.upper), known=ends)


@pytest.mark.parametrize("unsafe", ["(<= (* 0.0 Y_0) 0.25)", "(and (<= (* 0.0 Y_0) 0.25) (<= X_0 3.0))"])
def test_a_split_of_what_no_atom_reads_has_no_multiplier(unsafe: str) -> None:
    """Seen where a case holds everywhere: nothing refutes it, and its splits end at a program."""
    asked = problem(network(random_layers(np.random.default_rng(0), (3, 5, 4, 2)), [relu(), relu()]), -np.ones(3), np.ones(3), unsafe)
    linear, state = bound_in(asked, {1: (np.full(5, -np.inf), np.array([0.0] + [np.inf] * 4))})
    leaf = attempt(linear, asked, 0, state, [Cut(1, 0, 0.0, -1)], [2, 4], 0.0)
    assert leaf is None or (leaf.betas.tolist() == [0.0] and not leaf.margin > 0)


@fast
@given(st.integers(0, 2**32 - 1), st.sampled_from([relu(), clip(-0.5, 0.25), sign()]))
def test_any_multipliers_give_a_bound_that_holds(seed: int, function: Pieces) -> None:
    """At every execution that meets the splits, whatever was chosen."""
    rng = np.random.default_rng(seed)
    asked = problem(network(random_layers(rng, (3, 5, 4, 2)), [function, function]), -np.ones(3), np.ones(3), TWO)
    points = rng.uniform(-1, 1, (400, 3))
    values = evaluate(asked.graph, [points])
    cuts, met, known = [], np.ones(len(points), dtype=bool), {}
    for j in (1, 3):
        element, side = int(rng.integers(4)), int(rng.choice([-1, 1]))
        threshold = float(np.quantile(values[j][:, element], 0.5))
        cuts.append(Cut(j, element, threshold, side))
        met &= side * (values[j][:, element] - threshold) >= 0
        ends = np.full(values[j].shape[1], -np.inf), np.full(values[j].shape[1], np.inf)
        ends[0 if side > 0 else 1][element] = threshold
        known[j] = ends
    linear, state = bound_in(asked, known)
    gamma, betas = rng.exponential(size=2), rng.exponential(size=2).astype(np.float32)
    slopes = {i: (torch.from_numpy(rng.normal(size=asked.graph.nodes[i].size)).view(1, 1, -1),) * 2 for i in (2, 4)}
    low, _ = _confirm(linear, asked, 0, state, cuts, gamma, betas, dict(slopes))
    outputs, _ = asked.functionals.dense(asked.case_rows[0])
    total = (values[asked.graph.outputs[0]] @ outputs.T - asked.case_bounds[0]) @ gamma
    for cut, beta in zip(cuts, betas.tolist(), strict=True):
        total -= cut.side * beta * (values[cut.node][:, cut.element] - cut.threshold)
    assert np.isfinite(low) and (total[met] >= low).all()


def test_a_conjunction_is_closed_by_both_of_its_atoms() -> None:
    asked = problem(network([(np.array([[1.0], [-1.0]]), np.zeros(2))], []), -np.ones(1), np.ones(1), "(and (<= Y_0 -0.25) (<= Y_1 -0.25))")
    linear, state = bound_in(asked, {})
    found = attempt(linear, asked, 0, state, [], [], 0.0)
    assert found is not None and found.margin == pytest.approx(0.25) and found.gamma == pytest.approx([0.5, 0.5]) and found.split is None
    above = attempt(linear, asked, 0, state, [], [], 0.3)
    assert above is not None and above.margin <= 0.3  # not closed, and there is nothing to split


def test_splits_that_exclude_each_other_are_multiplied() -> None:
    """h = (x, -x), both >= 0.25: no interval shows it, one multiplier each does, and no atom takes part."""
    layers = [(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.eye(2), np.zeros(2))]
    asked = problem(network(layers, [relu()]), -np.ones(1), np.ones(1), "(and (<= Y_0 9.0) (<= Y_1 9.0))")
    linear, state = bound_in(asked, {1: (np.full(2, 0.25), np.full(2, np.inf))})
    found = attempt(linear, asked, 0, state, [Cut(1, k, 0.25, 1) for k in (0, 1)], [2], 0.0)
    assert found is not None and found.margin == pytest.approx(0.25) and not found.gamma.any() and found.betas == pytest.approx([0.5, 0.5])
    older = [Cut(1, 0, 0.125, 1), *(Cut(1, k, 0.25, 1) for k in (0, 1))]
    again = attempt(linear, asked, 0, state, older, [2], 0.0)
    assert again is not None and again.betas == pytest.approx([0.0, 0.5, 0.5])  # only the tightest split of a neuron has a multiplier


def test_what_is_open_is_split_where_it_costs() -> None:
    asked = problem(network([(np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1))], [sign()]), -np.ones(1), np.ones(1), "(<= Y_0 -0.5)")
    linear, state = bound_in(asked, {})
    found = attempt(linear, asked, 0, state, [], [2], 0.0)
    assert found is not None and found.margin <= 0 and found.split is not None and found.split[:2] == (1, 0) and abs(found.split[2]) == NEAR_ZERO


def test_programs_are_for_pieces_and_store_both_sides() -> None:
    graph = network([(np.eye(2), np.zeros(2)), (np.eye(2), np.zeros(2))], [relu()])
    assert applies(graph) and not applies(network([(np.eye(2), np.zeros(2)), (np.eye(2), np.zeros(2))], [sigmoid()]))
    places = both_sides(graph, Places(((2, 0, np.array([1])),)))
    assert [(i, side, elements.tolist()) for i, side, elements in places.groups] == [(2, 0, [1]), (2, 1, [1])]
    assert len(both_sides(graph, places).groups) == 2


@pytest.mark.parametrize("number", [110, 201, 221])
def test_signs_and_maxima_with_a_margin_are_certified(number: int, tmp_path: Path) -> None:
    """Three instances of the agreement campaign that gradient steps left open."""
    said = branch_and_bound(*seeded(0, number).write(tmp_path), Effort(seconds=60.0, nodes=100))
    assert (said["verdict"], said["assurance"]) == ("unsat", "certified")
