"""Networks with Sign, bounded over boxes that end at a jump, cross it or are cut at it: every exact execution stays inside."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds import relaxation
from bounds.interval import elementwise, propagate
from bounds.linear import LinearBounds
from bounds.torch_graph import TorchGraph
from graph.core import Affine, Elementwise, Graph, Input, Node, Origin, check
from graph.functions import build
from graph.linear_map import Dense
from tests.effort import examples

FROM = Origin(("test",))
SIGN = build("sign")
Weights = list[tuple[np.ndarray, np.ndarray]]
Point = tuple[Fraction, ...]
DTYPES = st.sampled_from([torch.float32, torch.float64])


def network(weights: Weights) -> Graph:
    """Fully connected layers with Sign between them."""
    nodes: list[Node] = [Input((weights[0][0].shape[1],), (), FROM, "x")]
    for k, (w, b) in enumerate(weights):
        if k:
            nodes.append(Elementwise((w.shape[1],), (len(nodes) - 1,), FROM, SIGN))
        nodes.append(Affine((len(w),), (len(nodes) - 1,), FROM, (Dense((w.shape[1],), (len(w),), w),), b))
    return check(Graph(tuple(nodes), (0,), (len(nodes) - 1,), ("y",), {"x": 0, "y": len(nodes) - 1}))


def run(weights: Weights, x: Point) -> list[list[Fraction]]:
    """The value of every node, exactly."""
    values = [list(x)]
    for k, (w, b) in enumerate(weights):
        if k:
            values.append([Fraction((v > 0) - (v < 0)) for v in values[-1]])
        terms = [[Fraction(float(c)) * v for c, v in zip(row, values[-1], strict=True)] for row in w]
        values.append([sum(row, Fraction(float(d))) for row, d in zip(terms, b, strict=True)])
    return values


def drawn(seed: int) -> tuple[Weights, np.ndarray, np.ndarray]:
    """Two or three layers whose neurons are often exactly 0 at the corners and on the grid of a box [2]; weights are no powers of two."""
    rng = np.random.default_rng(seed)
    sizes = [2, *rng.integers(1, 5, int(rng.integers(1, 3))), 2]
    def numbers(*shape: int) -> np.ndarray:
        return (rng.integers(-3, 4, shape) * 0.3).astype(np.float32)

    weights = [(numbers(m, n), numbers(m)) for n, m in itertools.pairwise(sizes)]
    lower = rng.integers(-3, 3, 2) / 2
    return weights, lower, lower + rng.integers(0, 4, 2) / 2


def grid(lower: np.ndarray, upper: np.ndarray) -> list[Point]:
    sides = [[Fraction(a) + (Fraction(b) - Fraction(a)) * k / 6 for k in range(7)] for a, b in zip(lower.tolist(), upper.tolist(), strict=True)]
    return list(itertools.product(*sides))


@settings(max_examples=examples(40))
@given(st.integers(0, 10**6), DTYPES)
def test_no_execution_leaves_its_bounds(seed: int, dtype: torch.dtype) -> None:
    weights, lower, upper = drawn(seed)
    graph = network(weights)
    linear = LinearBounds(TorchGraph(graph, dtype))
    ends = tuple(torch.from_numpy(end[None]).to(dtype) for end in (lower, upper))
    states = [propagate(graph, lower[None], upper[None])]
    for refine in (False, True):
        state = linear.propagate(*ends, refine=refine)
        states.append([(low.numpy(), high.numpy()) for low, high in zip(state.lower, state.upper, strict=True)])
    rows = np.random.default_rng(seed).normal(size=2)
    functional = {graph.outputs[0]: torch.from_numpy(rows[None, None]).to(dtype)}
    bound = Fraction(float(linear.lower_bound(state, functional, None).value))
    exact_rows = [Fraction(float(r)) for r in functional[graph.outputs[0]][0, 0]]
    for x in grid(lower, upper):
        values = run(weights, x)
        for found in states:
            for (low, high), value in zip(found, values, strict=True):
                assert all(Fraction(float(a)) <= v <= Fraction(float(b)) for a, b, v in zip(low[0], high[0], value, strict=True))
        assert sum(r * v for r, v in zip(exact_rows, values[-1], strict=True)) >= bound


@settings(max_examples=examples(40))
@given(st.integers(0, 10**6), DTYPES, st.sampled_from([1, -1]))
def test_no_execution_leaves_its_half(seed: int, dtype: torch.dtype, side: int) -> None:
    """Cut at 0, where the value belongs to both halves, with a multiplier for the cut."""
    weights, lower, upper = drawn(seed)
    graph, rng = network(weights), np.random.default_rng(seed)
    linear = LinearBounds(TorchGraph(graph, dtype))
    ends = tuple(torch.from_numpy(end[None]).to(dtype) for end in (lower, upper))
    whole, element = linear.propagate(*ends, refine=False), int(rng.integers(len(weights[0][0])))
    low, high = whole.lower[1].clone(), whole.upper[1].clone()
    (low if side > 0 else high)[0, element] = 0.0
    state = linear.propagate(*ends, refine=True, known={1: (torch.maximum(low, whole.lower[1]), torch.minimum(high, whole.upper[1]))})
    beta = torch.zeros(1, graph.nodes[1].size, dtype=dtype)
    beta[0, element] = -side * float(rng.random())
    rows = rng.integers(-2, 3, 2).astype(float)
    functional = {graph.outputs[0]: torch.from_numpy(rows[None, None]).to(dtype)}
    bound = Fraction(float(linear.lower_bound(state, functional, None, betas={1: (beta, None)}).value))
    for x in grid(lower, upper):
        values = run(weights, x)
        if side * values[1][element] >= 0:
            assert sum(Fraction(r) * v for r, v in zip(rows.tolist(), values[-1], strict=True)) >= bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_default_planes_are_edges_of_the_hull(dtype: torch.dtype) -> None:
    low, high = (torch.tensor(x, dtype=dtype) for x in ([-1.0, -3.0, 0.0, -2.0, 0.5, -1.0, 0.0], [3.0, 1.0, 2.0, 0.0, 1.0, -0.5, 0.0]))
    below, above = relaxation.default_slopes(SIGN, low, high)
    assert below.tolist() == pytest.approx([2 / 3, 0, 0.5, 0, 0, 0, 0]) and above.tolist() == pytest.approx([0, 2 / 3, 0, 0.5, 0, 0, 0])
    assert relaxation.is_linear(SIGN, low, high).tolist() == [False] * 4 + [True, True, False]
    bottom, top = elementwise(SIGN, low.double().numpy(), high.double().numpy())
    assert bottom.tolist() == [-1, -1, 0, -1, 1, -1, 0] and top.tolist() == [1, 1, 1, 0, 1, -1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_beside_the_jump_slopes_and_offsets_are_finite(dtype: torch.dtype) -> None:
    tiny = torch.finfo(dtype).tiny
    low = torch.tensor([-tiny, -tiny, -1.0, 0.0, -tiny / 4], dtype=dtype)
    high = torch.tensor([tiny, 1.0, tiny / 4, tiny / 4, 0.0], dtype=dtype)
    planes = relaxation.relax(SIGN, low, high)
    for part in (planes.slope_lower, planes.offset_lower, planes.slope_upper, planes.offset_upper):
        assert part is not None and bool(part.isfinite().all())
