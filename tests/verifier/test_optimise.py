"""Optimised slopes and split multipliers: never worse than where they start, and valid on executions of the split domain."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from benchmarks.strategies import boxes, networks
from bounds.linear import LinearBounds
from bounds.torch_graph import TorchGraph
from graph.core import Elementwise, Max
from graph.functions.facts import Pieces
from graph.load import load
from tests.verifier.small_networks import onnx_file
from verifier.optimise import Multipliers, builders, initial, optimise, planes_of, planes_with, relaxed_nodes, signed, storable

OPERATORS = ("Gemm", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Add", "Conv", "Flatten", "Mul")
fast = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@fast
@given(st.data())
def test_bounds_improve_and_hold_in_the_split_domain(data: st.DataObject) -> None:
    """Split some neurons at zero, as a point of the box has them; every execution on those sides must lie above the bounds."""
    network = data.draw(networks(operators=OPERATORS))
    box = data.draw(boxes(math.prod(network.input_shape)))
    bounds = LinearBounds(TorchGraph(load(network.model.SerializeToString()).graph, torch.float64))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    points = torch.from_numpy(box.lower + rng.random((300, box.lower.size)) * (box.upper - box.lower))
    values = bounds.net.evaluate(points)
    lower, upper = (torch.from_numpy(end.astype(np.float64)).unsqueeze(0) for end in box)
    plain = bounds.propagate(lower, upper)
    signs, known, keep = {}, {}, torch.ones(len(points), dtype=torch.bool)
    for _, node in bounds.graph:
        j = node.inputs[0] if node.inputs else -1
        if isinstance(node, Elementwise) and isinstance(node.function, Pieces) and j not in signs:
            side = torch.where(values[j][:1] >= 0, 1, -1) * torch.from_numpy(rng.random((1, values[j].shape[1])) < 0.5)
            side = torch.where((plain.lower[j] < 0) & (plain.upper[j] > 0), side, 0)  # only what is undecided is ever split
            signs[j] = side.to(torch.int8)
            known[j] = torch.where(side > 0, 0.0, plain.lower[j]), torch.where(side < 0, 0.0, plain.upper[j])
            keep &= (values[j] * side >= 0).all(-1)
    state = bounds.propagate(lower, upper, known=known)
    out = bounds.graph.outputs[0]
    functional = {out: torch.from_numpy(rng.normal(size=(1, 3, bounds.graph.nodes[out].size)))}
    constant = torch.zeros(1, 3, dtype=torch.float64)
    start = initial(bounds, state, 3, relaxed_nodes(bounds, state))
    start = Multipliers(start.slopes, {j: torch.zeros(1, 3, s.shape[1], dtype=torch.float64) for j, s in signs.items()})
    default = bounds.lower_bound(state, functional, constant, planes=planes_of(builders(bounds, state, start.slopes), start.slopes)).value
    found = optimise(bounds, state, functional, constant, start, signs, steps=8, rate=0.2)
    assert all(bool((beta >= 0).all()) for beta in found.betas.values())
    planes = planes_of(builders(bounds, state, found.slopes), found.slopes)
    low = bounds.lower_bound(state, functional, constant, planes=planes, betas=signed(found.betas, signs)).value
    assert bool((low >= default - 1e-9 * (1 + default.abs())).all())  # the best is kept; only rounding terms may differ
    slopes, betas = storable(bounds, state, found)
    assert all(bool((low == low.half()).all()) for low, high in slopes.values() if high is None)
    stored = bounds.lower_bound(state, functional, constant, planes=planes_with(bounds, state, slopes), betas=signed(betas, signs)).value
    reached = values[out][keep] @ functional[out][0].T
    assert keep.any()  # the point that chose the sides is there
    assert bool((torch.maximum(low, stored) <= reached + 1e-9 * (1 + reached.abs())).all())
    assert bool(((low - stored).abs() <= 2.0**-6 * (1 + low.abs()) * (1 + functional[out].abs().sum())).all())  # rounding them costs little


@fast
@given(st.data())
def test_any_slopes_and_any_multipliers_are_valid(data: st.DataObject) -> None:
    """What the optimiser finds is irrelevant to soundness: random slopes and non-negative multipliers bound as validly."""
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
    signs = {}
    betas = {}
    keep = torch.ones(len(points), dtype=torch.bool)
    for i in start.slopes:
        j = bounds.graph.nodes[i].inputs[0]
        if j not in signs:
            signs[j] = torch.where(values[j][:1] >= 0, 1, -1).to(torch.int8)
            betas[j] = torch.from_numpy(rng.random((1, 2, values[j].shape[1])))
            keep &= (values[j] * signs[j] >= 0).all(-1)
    out = bounds.graph.outputs[0]
    functional = {out: torch.from_numpy(rng.normal(size=(1, 2, bounds.graph.nodes[out].size)))}
    found = bounds.lower_bound(state, functional, None, planes=planes_of(builders(bounds, state, slopes), slopes), betas=signed(betas, signs))
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
    found = optimise(bounds, state, functional, constant, start, {}, steps=3, rate=0.2)
    assert found.slopes.keys() == start.slopes.keys()
