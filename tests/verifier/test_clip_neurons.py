"""Complete clipping: the bounds hold for every execution that meets the row, and are the best that one plane can give."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.strategies import boxes, networks
from bounds.linear import LinearBounds
from bounds.torch_graph import TorchGraph
from graph.load import load
from tests.effort import examples
from verifier.clip_neurons import clip_neurons, least_within

fast = settings(max_examples=examples(30), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@fast
@given(st.data(), st.sampled_from([torch.float32, torch.float64]))
def test_every_execution_in_the_case_keeps_its_neurons_inside(data: st.DataObject, dtype: torch.dtype) -> None:
    network = data.draw(networks(operators=("Gemm", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Conv", "Flatten", "MaxPool", "Mul")))
    box = data.draw(boxes(math.prod(network.input_shape)))
    bounds = LinearBounds(TorchGraph(load(network.model.SerializeToString()).graph, dtype))
    exact = TorchGraph(bounds.graph, torch.float64)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    points = torch.from_numpy(box.lower + rng.random((400, box.lower.size)) * (box.upper - box.lower))
    values = exact.evaluate(points)
    out = bounds.graph.outputs[0]
    row = torch.from_numpy(rng.normal(size=bounds.graph.nodes[out].size)).float().double()
    reached = values[out] @ row
    threshold = float(np.float32(reached.quantile(0.3)))
    state = bounds.propagate(*(torch.from_numpy(end).to(dtype).unsqueeze(0) for end in box))
    low = bounds.lower_bound(state, {out: row.to(dtype).view(1, 1, -1)}, torch.full((1, 1), -threshold, dtype=dtype))
    found = clip_neurons(bounds, state, low.coefficients[:, 0], low.constant[:, 0], list(bounds.targets))
    keep = reached <= threshold
    for j, (lower, upper) in found.items():
        assert bool((lower >= state.lower[j]).all()) and bool((upper <= state.upper[j]).all())
        assert bool((lower.double() <= values[j][keep]).all()) and bool((values[j][keep] <= upper.double()).all())


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_the_multiplier_is_the_best_one(seed: int, n: int) -> None:
    """Against all multipliers at which a coefficient vanishes, where a concave piecewise-linear function has its maximum."""
    rng = np.random.default_rng(seed)
    lower = np.round(rng.normal(size=(2, n)) * 4) / 4
    upper = lower + rng.integers(0, 5, (2, n)) / 4
    lines, offsets = np.round(rng.normal(size=(2, 3, n)) * 4) / 4, rng.normal(size=(2, 3))
    a = np.round(rng.normal(size=(2, n)) * 2) / 2
    middle = (a * (lower + upper) / 2).sum(-1)
    b = -middle + rng.normal(size=2) * 0.1
    found = least_within(*(torch.from_numpy(t) for t in (lower, upper, lines, offsets, a, b))).numpy()
    for k in range(2):
        if np.where(a[k] > 0, a[k] * lower[k], a[k] * upper[k]).sum() + b[k] > 0:
            continue  # no point of the box is left: then every number is a bound
        for r in range(3):
            with np.errstate(divide="ignore", invalid="ignore"):
                turns = -lines[k, r] / a[k]
            values = []
            for m in [0.0, *(t for t in turns if np.isfinite(t) and t > 0)]:
                total = lines[k, r] + m * a[k]
                values.append(np.where(total > 0, total * lower[k], total * upper[k]).sum() + offsets[k, r] + m * b[k])
            assert found[k, r] <= max(values) and found[k, r] >= max(values) - 1e-9 * (1 + abs(max(values)))


def test_a_plane_that_excludes_half_of_the_box() -> None:
    """x + y <= -1 on [-1, 1]^2: x <= 0, x - y >= -1 (not -2), x + y keeps its bound; without a useful plane all do."""
    lower, upper = -torch.ones(1, 2, dtype=torch.float64), torch.ones(1, 2, dtype=torch.float64)
    lines = torch.tensor([[[-1.0, 0.0], [1.0, -1.0], [1.0, 1.0]]], dtype=torch.float64)
    offsets = torch.zeros(1, 3, dtype=torch.float64)
    plane = torch.ones(1, 2, dtype=torch.float64)
    found = least_within(lower, upper, lines, offsets, plane, torch.ones(1, dtype=torch.float64))
    np.testing.assert_allclose(found.numpy(), [[0.0, -1.0, -2.0]], atol=1e-12)
    useless = least_within(lower, upper, lines, offsets, plane, torch.full((1,), -5.0, dtype=torch.float64))
    np.testing.assert_allclose(useless.numpy(), [[-1.0, -2.0, -2.0]], atol=1e-12)


def test_what_overflows_proves_nothing() -> None:
    big = torch.full((1, 1), 3e38)
    found = least_within(-big, big, torch.full((1, 1, 1), 3e38), torch.zeros(1, 1), torch.ones(1, 1), torch.zeros(1))
    assert bool((found == -torch.inf).all())
