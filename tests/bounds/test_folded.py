"""Bounds by way of what bends alone are those of the whole network, hold of every run, and forget no rounding."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_linear import DTYPES, FROM, affine, corners, dense, exact_run, graph_of, prepare, tensor

from bounds import folded
from bounds.linear import State
from bounds.torch_graph import TorchGraph
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Node
from graph.functions import build
from graph.linear_map import Gather, Scale
from tests.effort import examples

Array = Any
BOXES = 5
FUNCTIONS = {"relu": build("relu"), "leaky": build("leaky_relu", 0.1), "abs": build("abs")}


def network(rng: np.random.Generator, kind: str, weights: Any = None) -> Graph:
    """Three hidden layers, the second with a residual sum, behind two inputs, the first of which is read again, and a constant."""
    draw = weights or (lambda *shape: rng.normal(size=shape))

    def bends(size: int, j: int) -> Elementwise:
        return Elementwise((size,), (j,), FROM, FUNCTIONS[kind])

    nodes: list[Node] = [
        Input((2,), (), FROM, "x"), Input((1,), (), FROM, "z"), Constant((6,), (), FROM, draw(6)),
        affine((6,), (0, 1, 2), dense(draw(6, 2)), dense(draw(6, 1)), Scale((6,), (6,), draw(6)), bias=draw(6)), bends(6, 3),
        affine((6,), (4, 3), dense(draw(6, 6)), Gather((6,), (6,), np.array([5, -1, 0, 1, 2, 2])), bias=draw(6)), bends(6, 5),
        affine((4,), (6, 0), dense(draw(4, 6)), dense(draw(4, 2)), bias=draw(4)), bends(4, 7),
        affine((3,), 8, dense(draw(3, 4)), bias=draw(3)),
    ]
    return graph_of(*nodes)


def boxes(rng: np.random.Generator, width: float, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Near each other, so that most neurons are on one side in all of them."""
    lower = (rng.normal(size=3) + width * rng.random((BOXES, 3))).astype(np.float32)
    return tensor(lower, dtype), tensor(lower + (width * rng.random((BOXES, 3))).astype(np.float32), dtype)


def every_row(graph: Graph, at: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype, memory: int = 1 << 26) -> tuple[State, dict[int, Any]]:
    """The state, and both bounds of all elements of all nodes that a function reads."""
    bounds = prepare(graph, dtype, memory)
    state = bounds.propagate(*at)
    return state, {i: bounds.backward(state, i, torch.arange(graph.nodes[i].size)) for i in bounds.targets if i not in bounds.exact_interval}


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Whatever it saves; the nodes that are bounded so are noted."""
    for name in ("LEAST_BOXES", "LEAST_GAIN", "SHARED"):
        monkeypatch.setattr(folded, name, 0)
    used, bound = list[int](), folded.lower_bounds

    def noted(of: folded.Folded, state: State, i: int, *more: Any) -> torch.Tensor:
        used.append(i)
        return bound(of, state, i, *more)

    monkeypatch.setattr(folded, "lower_bounds", noted)
    return used


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.parametrize("width", [0.01, 0.3])
def test_they_are_the_bounds_of_the_whole(kind: str, width: float, always: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        graph, at = network(rng, kind), boxes(rng, width, torch.float64)
        (state, found), used = every_row(graph, at, torch.float64), set(always)
        assert used == {3, 5, 7}
        assert state.folded is not None and any(len(block.elements) < 4 for block in state.folded.blocks)
        with monkeypatch.context() as patch:
            patch.setattr(folded, "LEAST_BOXES", 1 << 60)
            plain, expected = every_row(graph, at, torch.float64)
        assert plain.folded is None
        for a, b in zip(state.lower + state.upper, plain.lower + plain.upper, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        for i, ends in found.items():
            torch.testing.assert_close(ends, expected[i], rtol=1e-9, atol=1e-11)


@settings(max_examples=examples(40))
@given(
    st.integers(0, 10**6), st.sampled_from([0.0, 1e-6, 0.1]), st.sampled_from(DTYPES), st.sampled_from(["relu", "abs"]),
    st.sampled_from([1 << 26, 64]),
)
def test_exact_runs_are_inside_with_no_tolerance(seed: int, width: float, dtype: torch.dtype, kind: str, memory: int) -> None:
    """Weights of very different size, so that sums cancel. With little memory few rows are bounded at a time."""
    rng = np.random.default_rng(seed)

    def rough(*shape: int) -> Array:
        return (rng.integers(-8, 9, shape) * 2.0 ** rng.integers(-12, 13, shape) * (1 + 2.0**-20)).astype(np.float32)

    graph, at = network(rng, kind, rough), boxes(rng, width, dtype)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("LEAST_BOXES", "LEAST_GAIN", "SHARED"):
            patch.setattr(folded, name, 0)
        patch.setattr(folded.Folded, "fits", lambda _: True)
        state, found = every_row(graph, at, dtype, memory)
    assert state.folded is not None
    for b in range(BOXES):
        for point in corners(*(end[b].numpy() for end in at)):
            values = exact_run(graph, point)
            for i, ends in found.items():
                for low, high in (ends, (state.lower[i], state.upper[i])):
                    assert all(a <= v <= c for v, a, c in zip(values[i], low[b].tolist(), high[b].tolist(), strict=True)), f"node {i}"


def test_without_error_terms_bounds_are_wrong(always: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is charged is needed: at points, float32 alone is beside the exact value."""

    def wrong() -> int:
        count = 0
        for seed in range(30):
            rng = np.random.default_rng(seed)
            graph, at = network(rng, "relu"), boxes(rng, 0.0, torch.float32)
            _, found = every_row(graph, at, torch.float32)
            for b in range(BOXES):
                values = exact_run(graph, [Fraction(x) for x in at[0][b].tolist()])
                for i, (low, high) in found.items():
                    count += sum(not a <= v <= c for v, a, c in zip(values[i], low[b].tolist(), high[b].tolist(), strict=True))
        return count

    assert wrong() == 0
    monkeypatch.setattr(folded, "unit_error", lambda m, dtype: 0.0)
    assert wrong() > 20


def test_a_box_without_executions_spoils_no_other(always: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a split contradicts the bounds of one box, ends of that box are moved: what bends was decided before."""
    rng = np.random.default_rng(3)
    graph, at = network(rng, "relu"), boxes(rng, 0.3, torch.float64)
    bounds = prepare(graph)
    high = torch.full((BOXES, 6), torch.inf, dtype=torch.float64)
    high[0] = -100.0
    state = bounds.propagate(*at, constraints={5: (-torch.inf * torch.ones_like(high), high)})
    monkeypatch.setattr(folded, "LEAST_BOXES", 1 << 60)
    plain = bounds.propagate(*at)
    assert always and state.crossed is not None and state.crossed.tolist() == [True] + [False] * (BOXES - 1)
    for a, b in zip(state.lower + state.upper, plain.lower + plain.upper, strict=True):
        torch.testing.assert_close(a[1:], b[1:], rtol=1e-9, atol=1e-11)


def test_where_it_gains_little_the_whole_network_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    graph, at = network(rng, "relu"), boxes(rng, 0.01, torch.float64)

    def used(one: Graph = graph, **weights: Any) -> bool:
        bounds = prepare(one) if not weights else type(prepare(one))(TorchGraph(one, torch.float64, **weights))
        state = bounds.propagate(*at)
        return any(bounds.targets[i] and folded.of(bounds, state, i, 2 * one.nodes[i].size) is not None for i in bounds.targets)

    assert not used()  # few boxes
    monkeypatch.setattr(folded, "LEAST_BOXES", 0)
    monkeypatch.setattr(folded, "SHARED", 0)
    monkeypatch.setattr(folded, "ELEMENT", 0)
    assert used()
    weight = next(m.weight for node in graph.nodes if isinstance(node, Affine) for m in node.maps if hasattr(m, "weight"))
    assert not used(weights={id(weight): torch.from_numpy(2 * weight)})
    product = graph_of(*graph.nodes, Bilinear((3,), (9, 9), FROM, "mul"))
    assert not folded.foldable(product) and not used(product)
    smooth = graph_of(*graph.nodes, Elementwise((3,), (9,), FROM, build("sigmoid")))
    assert not folded.foldable(smooth) and not used(smooth)
    monkeypatch.setattr(folded, "SHARED", 1 << 60)  # too few rows for the work of making the maps
    assert not used()
    monkeypatch.setattr(folded, "SHARED", 0)
    monkeypatch.setattr(folded, "ELEMENT", 1)
    monkeypatch.setattr(folded, "LEAST_GAIN", 1e9)
    assert not used()
