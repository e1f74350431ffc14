"""Optimised slopes and split multipliers: never worse than where they start, and valid on executions of the split domain."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from benchmarks.strategies import boxes, networks
from bounds.linear import LinearBounds, State
from bounds.torch_graph import TorchGraph
from graph.core import Elementwise, Input, Max
from graph.functions.facts import Pieces
from graph.load import load
from tests.effort import examples
from tests.verifier.small_networks import onnx_file
from verifier.optimise import UNSPLIT, Multipliers, Sides, initial, optimise, paid, planes_with, relaxed_nodes, storable

OPERATORS = ("Gemm", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Add", "Conv", "Flatten", "Mul")
fast = settings(max_examples=examples(30), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def drawn_sides(bounds: LinearBounds, state: State, values: list[torch.Tensor], rng: np.random.Generator) -> tuple[Sides, torch.Tensor]:
    """Splits on the sides where the first of the points lies: at 0 or anywhere, of no, one or both sides; and which points lie there too."""
    sides, keep = Sides({}, {}), torch.ones(len(values[0]), dtype=torch.bool)
    for _, node in bounds.graph:
        j = node.inputs[0] if node.inputs else -1
        if isinstance(node, Elementwise) and not isinstance(bounds.graph.nodes[j], Input) and j not in sides.floor:
            low, high, x = state.lower[j], state.upper[j], values[j][:1]
            below, above = (torch.from_numpy(rng.random(x.shape)) for _ in range(2))
            floor, ceiling = (torch.where(x.sign() == sign, 0.0, x + u * (end - x)) if isinstance(node.function, Pieces) else x + u * (end - x)
                              for u, end, sign in ((below, low, 1), (above, high, -1)))
            sides.floor[j] = torch.where(torch.from_numpy(rng.random(x.shape) < 0.5), floor, -torch.inf)
            sides.ceiling[j] = torch.where(torch.from_numpy(rng.random(x.shape) < 0.5), ceiling, torch.inf)
            keep &= ((values[j] >= sides.floor[j]) & (values[j] <= sides.ceiling[j])).all(-1)
    return sides, keep


@fast
@given(st.data())
def test_bounds_improve_and_hold_in_the_split_domain(data: st.DataObject) -> None:
    """Split some neurons on one side or both, as a point of the box has them; every execution on those sides must lie above the bounds."""
    network = data.draw(networks(operators=OPERATORS))
    box = data.draw(boxes(math.prod(network.input_shape)))
    bounds = LinearBounds(TorchGraph(load(network.model.SerializeToString()).graph, torch.float64))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    points = torch.from_numpy(box.lower + rng.random((300, box.lower.size)) * (box.upper - box.lower))
    values = bounds.net.evaluate(points)
    lower, upper = (torch.from_numpy(end.astype(np.float64)).unsqueeze(0) for end in box)
    plain = bounds.propagate(lower, upper)
    sides, keep = drawn_sides(bounds, plain, values, rng)
    known = {j: (torch.maximum(floor, plain.lower[j]), torch.minimum(sides.ceiling[j], plain.upper[j])) for j, floor in sides.floor.items()}
    state = bounds.propagate(lower, upper, known=known)
    out = bounds.graph.outputs[0]
    functional = {out: torch.from_numpy(rng.normal(size=(1, 3, bounds.graph.nodes[out].size)))}
    constant = torch.zeros(1, 3, dtype=torch.float64)
    start = initial(bounds, state, 3, relaxed_nodes(bounds, state))
    start = Multipliers(start.slopes, {j: torch.zeros(1, 3, s.shape[1], dtype=torch.float64) for j, s in sides.floor.items()})
    default = bounds.lower_bound(state, functional, constant, planes=planes_with(bounds, state, start.slopes)).value
    found = optimise(bounds, state, functional, constant, start, sides, steps=8, rate=0.2)
    for j, beta in found.betas.items():
        assert bool(((beta <= 0) | sides.ceiling[j].isfinite().unsqueeze(1)).all() and ((beta >= 0) | sides.floor[j].isfinite().unsqueeze(1)).all())
    planes = planes_with(bounds, state, found.slopes)
    low = bounds.lower_bound(state, functional, constant, planes=planes, betas=paid(sides, found.betas)).value
    assert bool((low >= default - 1e-9 * (1 + default.abs())).all())  # the best is kept; only rounding terms may differ
    slopes, betas = storable(bounds, found)
    assert all(bool((low == low.half()).all()) for low, high in slopes.values() if high is None)
    stored = bounds.lower_bound(state, functional, constant, planes=planes_with(bounds, state, slopes), betas=paid(sides, betas)).value
    reached = values[out][keep] @ functional[out][0].T
    assert keep.any()  # the point that chose the sides is there
    assert bool((torch.maximum(low, stored) <= reached + 1e-9 * (1 + reached.abs())).all())
    assert bool(((low - stored).abs() <= 2.0**-6 * (1 + low.abs()) * (1 + functional[out].abs().sum())).all())  # rounding them costs little


@fast
@given(st.data())
def test_any_slopes_and_any_multipliers_are_valid(data: st.DataObject) -> None:
    """What the optimiser finds is irrelevant to soundness: random slopes and multipliers, as far as they are allowed, bound as validly."""
    network = data.draw(networks(operators=OPERATORS))
    box = data.draw(boxes(math.prod(network.input_shape)))
    bounds = LinearBounds(TorchGraph(load(network.model.SerializeToString()).graph, torch.float64))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    points = torch.from_numpy(box.lower + rng.random((300, box.lower.size)) * (box.upper - box.lower))
    values = bounds.net.evaluate(points)
    state = bounds.propagate(*(torch.from_numpy(end.astype(np.float64)).unsqueeze(0) for end in box))
    start = initial(bounds, state, 2, relaxed_nodes(bounds, state))
    slopes = {
        i: tuple(None if t is None else t + torch.from_numpy(rng.normal(size=t.shape)) for t in pair) for i, pair in start.slopes.items()
    }
    sides, keep = drawn_sides(bounds, state, values, rng)
    betas = {j: torch.from_numpy(rng.normal(size=(1, 2, floor.shape[1]))) for j, floor in sides.floor.items()}
    out = bounds.graph.outputs[0]
    functional = {out: torch.from_numpy(rng.normal(size=(1, 2, bounds.graph.nodes[out].size)))}
    found = bounds.lower_bound(state, functional, None, planes=planes_with(bounds, state, slopes), betas=paid(sides, betas))
    reached = values[out][keep] @ functional[out][0].T
    assert len(reached) and bool((found.value <= reached + 1e-9 * (1 + reached.abs())).all())


def test_a_functional_above_nothing_that_is_relaxed_is_left_alone() -> None:
    """|x| as Max(x, -x), beside a ReLU that it does not depend on: there is nothing to optimise, and that is no error."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Max", ["x", "n"], ["m"]),
        helper.make_node("Add", ["r", "m"], ["y"]),
    ]  # fmt: skip
    bounds = LinearBounds(TorchGraph(load(onnx_file(nodes, 2, 2)).graph, torch.float64))
    one = torch.ones(1, 2, dtype=torch.float64)
    state = bounds.propagate(-one, 2 * one)
    place = next(i for i, node in bounds.graph if isinstance(node, Max))
    functional, constant = {place: torch.eye(2, dtype=torch.float64).unsqueeze(0)}, torch.zeros(1, 2, dtype=torch.float64)
    start = initial(bounds, state, 2, relaxed_nodes(bounds, state))
    assert start.slopes  # those of the ReLU
    found = optimise(bounds, state, functional, constant, start, UNSPLIT, steps=3, rate=0.2)
    assert found.slopes.keys() == start.slopes.keys()


@fast
@given(st.data())
def test_the_slopes_of_a_box_bound_no_worse_over_a_part_of_it(data: st.DataObject) -> None:
    """A sub-problem that starts with its parent's multipliers starts no lower than its parent: planes with the same slopes only come nearer.

    That is so for smooth functions alone: a ReLU that a split decides has another slope than its parent, and only betas make up for it.
    """
    network = data.draw(networks(operators=("Gemm", "Sigmoid", "Tanh", "Add", "Conv", "Flatten")))
    box = data.draw(boxes(math.prod(network.input_shape)))
    bounds = LinearBounds(TorchGraph(load(network.model.SerializeToString()).graph, torch.float64))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    lower, upper = (torch.from_numpy(end.astype(np.float64)).unsqueeze(0) for end in box)
    whole = bounds.propagate(lower, upper)
    values = bounds.net.evaluate(lower + torch.from_numpy(rng.random(lower.shape)) * (upper - lower))
    sides, _ = drawn_sides(bounds, whole, values, rng)
    known = {j: (torch.maximum(floor, whole.lower[j]), torch.minimum(sides.ceiling[j], whole.upper[j])) for j, floor in sides.floor.items()}
    part = bounds.propagate(lower, upper, known=known)
    out = bounds.graph.outputs[0]
    functional = {out: torch.from_numpy(rng.normal(size=(1, 3, bounds.graph.nodes[out].size)))}
    constant = torch.zeros(1, 3, dtype=torch.float64)
    start = initial(bounds, whole, 3, relaxed_nodes(bounds, whole))
    found = optimise(bounds, whole, functional, constant, start, UNSPLIT, steps=8, rate=0.2)
    before, after = (
        bounds.lower_bound(state, functional, constant, planes=planes_with(bounds, state, found.slopes), rigorous=False).value
        for state in (whole, part)
    )
    assert bool((after >= before - 1e-9 * (1 + before.abs())).all())
