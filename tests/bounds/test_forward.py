"""Forward linear bounds: no concrete execution outside them, never wider than intervals, exact where the network is affine."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.strategies import boxes, networks, points
from bounds.forward import Forward, forward
from bounds.linear import LinearBounds
from bounds.torch_graph import TorchGraph
from graph.load import load
from tests.effort import examples

DTYPES = st.sampled_from([torch.float32, torch.float64])
fast = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def passed(network, box, dtype: torch.dtype) -> tuple[LinearBounds, Forward]:  # type: ignore[no-untyped-def]
    bounds = LinearBounds(TorchGraph(load(network.model.SerializeToString()).graph, dtype))
    lower, upper = (torch.from_numpy(np.asarray(end)).to(dtype).unsqueeze(0) for end in box)
    return bounds, forward(bounds, lower, upper)


@fast
@given(st.data(), DTYPES)
def test_concrete_executions_lie_inside_the_bounds_and_between_the_forms(data: st.DataObject, dtype: torch.dtype) -> None:
    network = data.draw(networks())
    box = data.draw(boxes(math.prod(network.input_shape)))
    bounds, found = passed(network, box, dtype)
    x = torch.from_numpy(np.stack([data.draw(points(box)) for _ in range(4)] + [box.lower, box.upper])).double()
    values = TorchGraph(bounds.graph, torch.float64).evaluate(x)
    steps = torch.cat([torch.ones(len(x), 1, dtype=torch.float64), x[:, found.varying[0]] - found.centre.double()], -1)
    for i, value in enumerate(values):
        room = 1e-9 * (1 + value.abs())  # the concrete run is itself rounded, in float64
        assert bool((found.state.lower[i].double() <= value + room).all()) and bool((value - room <= found.state.upper[i].double()).all())
        low, high = (torch.einsum("pk,bkn->pn", steps, f.double()) for f in (found.forms[i].low, found.forms[i].high))
        assert bool(((low <= value + room) | low.isinf()).all()) and bool(((value - room <= high) | high.isinf()).all())
    assert found.state.crossed is not None and not bool(found.state.crossed.any())


@fast
@given(st.data(), DTYPES)
def test_never_wider_than_intervals(data: st.DataObject, dtype: torch.dtype) -> None:
    network = data.draw(networks())
    box = data.draw(boxes(math.prod(network.input_shape)))
    bounds, found = passed(network, box, dtype)
    lower, upper = (torch.from_numpy(np.asarray(end)).to(dtype).unsqueeze(0) for end in box)
    plain = bounds.propagate(lower, upper, refine=False)
    slack = 1e-5 if dtype == torch.float32 else 1e-13  # interval steps on narrower inputs round differently
    for i in range(len(plain.lower)):
        room = slack * (1 + plain.largest(i))
        assert bool((found.state.lower[i] >= plain.lower[i] - room).all()) and bool((found.state.upper[i] <= plain.upper[i] + room).all())


@fast
@given(st.data())
def test_affine_networks_are_bounded_exactly(data: st.DataObject) -> None:
    """An affine network reaches both bounds at corners of the box; intervals do not know that."""
    network = data.draw(networks(operators=("Gemm", "MatMul", "Add", "Sub", "Conv", "Neg", "Flatten")))
    box = data.draw(boxes(math.prod(network.input_shape)))
    bounds, found = passed(network, box, torch.float64)
    if any(type(node).__name__ not in ("Input", "Affine", "Constant") for node in bounds.graph.nodes):
        return  # the fallback of the strategy is a single Relu
    out = bounds.graph.outputs[0]
    slopes = found.forms[out].low[0, 1:]  # [n_varying, size]
    for element in range(slopes.shape[1]):
        for sign, end in ((1.0, found.state.lower[out]), (-1.0, found.state.upper[out])):
            x = torch.from_numpy(box.lower.astype(np.float64)).clone()
            down = (sign * slopes[:, element] < 0)
            x[found.varying[0, down]] = torch.from_numpy(box.upper.astype(np.float64))[found.varying[0, down]]
            reached = bounds.net.evaluate(x.unsqueeze(0))[out][0, element]
            assert float(reached) == pytest.approx(float(end[0, element]), rel=1e-9, abs=1e-9)


def test_a_cancellation_that_intervals_miss() -> None:
    """x - relu(x) + ... over a box where relu is the identity: forms cancel, intervals add up."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "verifier"))
    from small_networks import relu_net

    net = relu_net(np.array([[1.0, 1.0]]), np.array([3.0, 5.0]), np.array([[1.0], [-1.0]]), np.zeros(1))
    bounds = LinearBounds(TorchGraph(net.graph, torch.float64))
    box = torch.tensor([[-1.0]]).double(), torch.tensor([[1.0]]).double()
    found = forward(bounds, *box)
    out = bounds.graph.outputs[0]
    assert float(found.state.lower[out]) == pytest.approx(-2.0) and float(found.state.upper[out]) == pytest.approx(-2.0)
    assert float(bounds.propagate(*box, refine=False).lower[out]) == pytest.approx(-4.0)


def test_boxes_that_vary_in_different_inputs_share_rows() -> None:
    """A form has as many rows as the box with the most varying inputs needs; every box has what it has alone."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "verifier"))
    from small_networks import relu_net

    weight = np.array([[1.0, -2.0, 0.5, 1.0], [0.5, 1.0, -1.0, 2.0], [-1.0, 0.25, 1.5, -0.5]])
    net = relu_net(weight, np.array([0.1, -0.2, 0.3, 0.0]), np.array([[1.0], [-1.0], [2.0], [0.5]]), np.zeros(1))
    bounds = LinearBounds(TorchGraph(net.graph, torch.float64))
    lower = torch.tensor([[-1.0, 0.25, 0.5], [0.5, -1.0, -0.5], [0.0, 0.0, 0.0]]).double()
    upper = torch.tensor([[1.0, 0.25, 0.5], [0.5, 1.0, 0.5], [0.0, 0.0, 1.0]]).double()
    found = forward(bounds, lower, upper)
    assert found.varying.shape == (3, 2) and found.varying[0, 0] == 0 and found.varying[1].tolist() == [1, 2] and found.varying[2, 0] == 2
    for b in range(3):
        alone = forward(bounds, lower[b : b + 1], upper[b : b + 1]).state
        for i in range(len(alone.lower)):
            torch.testing.assert_close(found.state.lower[i][b : b + 1], alone.lower[i], rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(found.state.upper[i][b : b + 1], alone.upper[i], rtol=1e-12, atol=1e-12)
