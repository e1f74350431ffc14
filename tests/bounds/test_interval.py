"""The numpy interval pass: every concrete run lies inside, exactly where that can be computed, and nothing bad looks proven."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bounds.interval import concretise, propagate
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Node, Origin, check
from graph.evaluate import evaluate
from graph.functions import build
from graph.linear_map import Dense, Gather, LinearMap, Scale, Sum
from tests.effort import examples
from tests.maxima import with_maximum

FROM = Origin(("test",))


def graph_of(*nodes: Node) -> Graph:
    inputs = tuple(i for i, n in enumerate(nodes) if isinstance(n, Input))
    names = {n.name: i for i, n in enumerate(nodes) if isinstance(n, Input)} | {"y": len(nodes) - 1}
    return check(Graph(nodes, inputs, (len(nodes) - 1,), ("y",), names))


def random_graph(seed: int) -> Graph:
    """Two inputs, every node type, both kinds of products, several linear maps, smooth and piecewise functions."""
    rng = np.random.default_rng(seed)

    def dense(n: int, m: int) -> LinearMap:
        return Dense((n,), (m,), (rng.normal(size=(m, n)) / 2).astype(np.float32))

    names = rng.permutation(["relu", "sigmoid", "tanh", "sin", "cos", "exp", "softplus", "erf", "abs", "sign"])
    nodes = with_maximum([
        Input((4,), (), FROM, "a"),
        Input((2,), (), FROM, "b"),
        Constant((6,), (), FROM, rng.normal(size=6)),
        Affine((6,), (0, 1), FROM, (dense(4, 6), dense(2, 6)), rng.normal(size=6).astype(np.float32)),
        Elementwise((6,), (3,), FROM, build(str(names[0]))),
        Bilinear((6,), (4, 3), FROM, "mul"),
        Affine((6,), (2, 5), FROM, (Scale((6,), (6,), rng.normal(size=6)), Gather((6,), (6,), rng.integers(-1, 6, 6)))),
        Elementwise((6,), (6,), FROM, build(str(names[1]))),
        Affine((2, 3), (7,), FROM, (Gather((6,), (2, 3), rng.permutation(6)),)),
        Affine((3, 2), (5,), FROM, (Gather((6,), (3, 2), rng.permutation(6)),)),
        Bilinear((2, 2), (8, 9), FROM, "matmul"),
    ], np.array([[0, 1, -1], [2, 3, 0], [1, -1, -1]]), (3,))  # fmt: skip
    nodes.append(Elementwise((3,), (len(nodes) - 1,), FROM, build("pow", 2.0)))
    return graph_of(*nodes, Affine((1,), (len(nodes) - 1,), FROM, (Sum((3,), (1,), (0,)),)))


def dot(row: np.ndarray, x: list[Fraction]) -> Fraction:
    return sum((Fraction(float(w)) * v for w, v in zip(row, x, strict=True)), Fraction(0))


@settings(max_examples=examples(60))
@given(st.integers(0, 10**6), st.sampled_from([0.0, 1e-9, 0.1, 3.0]), st.sampled_from([1e-3, 1.0, 20.0]))
def test_every_run_is_inside(seed: int, width: float, scale: float) -> None:
    graph, rng = random_graph(seed), np.random.default_rng(seed)
    lower = rng.normal(size=(3, 6)) * scale
    upper = lower + rng.random((3, 6)) * width
    states = propagate(graph, lower, upper)
    for mix in [np.zeros(6), np.ones(6), *rng.random((6, 6)), *rng.integers(0, 2, (6, 6))]:
        x = np.clip(lower + mix * (upper - lower), lower, upper)
        values = evaluate(graph, [x[:, :4], x[:, 4:]], np.float64)
        for i, (value, (low, high)) in enumerate(zip(values, states, strict=True)):
            largest = np.abs(value[np.isfinite(value)]).max(initial=0.0)
            rounding = 1e-13 * (1 + largest)  # of the float64 evaluation: the exact run is checked below
            low, high = np.where(np.isfinite(low), low, -np.inf), np.where(np.isfinite(high), high, np.inf)  # an overflow claims nothing
            inside = np.isnan(value) | ((value >= low - rounding) & (value <= high + rounding))  # a NaN run is no execution
            assert low.shape == value.shape and inside.all(), f"node {i}"
    wider = propagate(graph, lower - 0.01, upper + 0.01)
    for wide, narrow in zip(wider, states, strict=True):
        claims = np.isfinite(wide[0]) & np.isfinite(wide[1]) & np.isfinite(narrow[0]) & np.isfinite(narrow[1])
        slack = 1e-12 * (1 + np.abs(narrow[0]) + np.abs(narrow[1]))
        assert (~claims | ((wide[0] <= narrow[0] + slack) & (wide[1] >= narrow[1] - slack))).all()


@settings(max_examples=examples(80))
@given(st.integers(0, 10**6), st.sampled_from([1e-30, 1.0, 1e12]))
def test_exact_runs_are_inside_with_no_tolerance(seed: int, scale: float) -> None:
    """Dense, ReLU, Dense at the corners of a box, in rationals; cancellation makes the rounding matter."""
    rng = np.random.default_rng(seed)
    first = np.where(rng.random((5, 4)) < 0.5, 1.0, -1.0) * rng.choice([1.0, 1.0 + 2.0**-50, 1e8], (5, 4))
    second, bias = rng.normal(size=(2, 5)), rng.normal(size=5) * scale
    graph = graph_of(
        Input((4,), (), FROM, "x"),
        Affine((5,), (0,), FROM, (Dense((4,), (5,), first),), bias),
        Elementwise((5,), (1,), FROM, build("relu")),
        Affine((2,), (2,), FROM, (Dense((5,), (2,), second),)),
    )
    lower = rng.normal(size=(1, 4)) * scale
    upper = lower + rng.choice([0.0, 1e-16, 1.0], (1, 4)) * scale * rng.integers(0, 2)
    states = propagate(graph, lower, upper)
    for corner in range(16):
        x = [Fraction(float((lower, upper)[(corner >> i) & 1][0, i])) for i in range(4)]
        before = [dot(row, x) + Fraction(float(b)) for row, b in zip(first, bias, strict=True)]
        after = [max(h, Fraction(0)) for h in before]
        for values, (low, high) in zip([x, before, after, [dot(row, after) for row in second]], states, strict=True):
            for value, below, above in zip(values, low[0].tolist(), high[0].tolist(), strict=True):
                assert Fraction(below) <= value <= Fraction(above)


@settings(max_examples=examples(80))
@given(st.integers(0, 10**6))
def test_concretise_is_a_lower_bound_and_nearly_the_minimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, constant = rng.normal(size=(3, 5)), rng.normal(size=3)
    lower = rng.normal(size=(2, 5))
    upper = lower + rng.random((2, 5))
    bound = concretise(rows, constant, lower, upper)
    for b in range(2):
        for r in range(3):
            ends = [[Fraction(float(rows[r, i])) * Fraction(float(e[b, i])) for e in (lower, upper)] for i in range(5)]
            least = sum(map(min, ends), Fraction(float(constant[r])))
            assert 0 <= least - Fraction(float(bound[b, r])) <= Fraction(1, 10**12)


@pytest.mark.parametrize("wide", [1.0, 1e30])
def test_what_only_adds_loses_what_its_lower_ends_lose(wide: float) -> None:
    """The sum of a softmax stays above 0, however large its terms may be, and no rounding is forgotten."""
    rng = np.random.default_rng(0)
    for _ in range(examples(200)):
        weight, bias = rng.random((1, 40)), rng.normal(size=1)
        graph = graph_of(Input((40,), (), FROM, "x"), Affine((1,), (0,), FROM, (Dense((40,), (1,), weight),), bias))
        lower = rng.random((1, 40)) * 10.0 ** rng.integers(-3, 3) * (1 if wide > 1 else rng.choice([-1, 1], size=40))
        low, high = propagate(graph, lower, lower + wide)[1]
        terms = [Fraction(w) * Fraction(x) for w, x in zip(weight[0].tolist(), lower[0].tolist(), strict=True)]
        least, size = (sum(map(f, terms), f(Fraction(float(bias[0])))) for f in (lambda x: x, abs))
        assert least - size / 2**43 <= Fraction(float(low[0, 0])) <= least < Fraction(float(high[0, 0]))


def test_overflow_and_domains_are_never_finite() -> None:
    graph = graph_of(
        Input((1,), (), FROM, "x"),
        Elementwise((1,), (0,), FROM, build("reciprocal")),
        Elementwise((1,), (1,), FROM, build("sigmoid")),
    )
    low, high = propagate(graph, np.array([[-1.0], [1.0]]), np.array([[1.0], [2.0]]))[2]
    assert np.isnan(low[0]) and np.isnan(high[0]) and np.isfinite(low[1]) and np.isfinite(high[1])
    scale = Scale((1,), (1,), np.array([1e200]))
    graph = graph_of(Input((1,), (), FROM, "x"), Affine((1,), (0,), FROM, (scale,)), Affine((1,), (1,), FROM, (scale,)))
    low, high = propagate(graph, np.array([[-1.0]]), np.array([[1.0]]))[2]
    assert not np.isfinite(low).any() and not np.isfinite(high).any()


def test_a_box_of_the_wrong_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="6 inputs"):
        propagate(random_graph(0), np.zeros((1, 5)), np.zeros((1, 5)))


def test_the_interval_pass_does_not_import_torch() -> None:
    code = "import sys; import bounds.interval; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
