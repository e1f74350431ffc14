"""Functions that jump: the same sites in both readers, and bounds that hold on both sides of the jump and at it, in both arithmetics."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graph.load import load
from tests.checker.twins import both_bounds
from tests.effort import examples
from tests.graph.graph_models import floats, model, node
from verifier.checker import exact_functions, functions, read_model
from verifier.checker.arithmetic import THETA
from verifier.checker.lowering.elementwise import SIGN
from verifier.checker.network import Elementwise
from verifier.checker.slack import Slack

SPECIAL = (0.0, 2.0**-1074, 2.0**-140, 2.0**-126, 2.0**-125, 2.0**-60, 0.25, 1.0, 3.0, 2.0**100)
ends = st.one_of(st.sampled_from([*SPECIAL, *(-x for x in SPECIAL)]), st.floats(-4, 4, width=64))


def sign(x: Fraction) -> int:
    return (x > 0) - (x < 0)


def reached(lower: float, upper: float, read: float) -> list[tuple[Fraction, int]]:
    """(x, values) of Sign at points of [lower, upper], at the jump and beside it; what is read may be `read` away from x."""
    hair = Fraction(2) ** -1200
    points = [x for x in (Fraction(lower), Fraction(upper), Fraction(0), hair, -hair) if lower <= x <= upper]
    moves = (Fraction(0), Fraction(read), -Fraction(read))
    return [(x, sign(x + move)) for x in points for move in moves] + [(x, 0) for x in points if abs(x) <= read]


@settings(max_examples=examples(300))
@given(ends, ends, st.one_of(st.sampled_from([0.0, 1.0, -2.0, 2.0**15, -(2.0**40)]), st.floats(-8, 8)), st.sampled_from([0.0, THETA]))
def test_no_value_at_the_jump_is_lost(a: float, b: float, slope: float, widen: float) -> None:
    lower, upper = sorted((a, b))
    low, high, slopes = np.array([lower]), np.array([upper]), np.array([slope])
    below, above = functions.interval(SIGN, low, high, widen)
    offsets = functions.offsets(SIGN, slopes, slopes, low, high, widen)
    exactly = exact_functions.offsets(SIGN, *(Fraction(t) for t in (slope, slope, lower, upper, widen)))
    for x, y in reached(lower, upper, widen):
        assert below[0] <= y <= above[0]
        for o in ((Fraction(float(offsets[0][0])), Fraction(float(offsets[1][0]))), exactly):
            assert Fraction(slope) * x + o[0] <= y <= Fraction(slope) * x + o[1]
    assert Fraction(float(offsets[0][0])) <= exactly[0] and Fraction(float(offsets[1][0])) >= exactly[1]


def test_beyond_the_jump_it_is_a_constant() -> None:
    for lower, upper, widen, expected in (
        (2.0**-1074, 1.0, 0.0, (1, 1)), (-1.0, -(2.0**-1074), 0.0, (-1, -1)), (0.0, 0.0, 0.0, (0, 0)), (0.0, 1.0, 0.0, (0, 1)),
        (-1.0, 0.0, 0.0, (-1, 0)), (2.0**-125, 1.0, THETA, (1, 1)), (-1.0, -(2.0**-125), THETA, (-1, -1)), (0.0, 0.0, THETA, (-1, 1)),
    ):  # fmt: skip
        low, high = functions.interval(SIGN, np.array([lower]), np.array([upper]), widen)
        assert (low[0], high[0]) == expected
        assert exact_functions.interval(SIGN, *(Fraction(t) for t in (lower, upper, widen))) == expected


def test_planes_across_the_jump_are_the_edges_of_the_hull() -> None:
    """Over [-1, 3]: above through (-1, -1) and (0, 1), or 1; below through (0, -1) and (3, 1), or -1: of each pair the one of less area."""
    for lower, upper, expected in ((-1.0, 3.0, (2 / 3, 0.0)), (-3.0, 1.0, (0.0, 2 / 3)), (0.0, 2.0, (0.5, 0.0)), (-2.0, 0.0, (0.0, 0.5))):
        found = functions.default_slopes(SIGN, np.array([lower]), np.array([upper]))
        assert (found[0][0], found[1][0]) == pytest.approx(expected)


@pytest.mark.parametrize("opset", [9, 13])
def test_both_readers_name_the_same_site(opset: int) -> None:
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Sign", ["h"], ["s"]), node("Sign", ["s"], ["y"])]
    data = model(nodes, {"x": (1, 3)}, weights={"w": floats(3, 4)}, opset=opset)
    network = read_model.read(data)
    engine = {n.origin.site: n.size for _, n in load(data).graph if n.origin.site is not None}
    assert engine == {site: network.nodes[i].size for site, i in network.sites.items()} == {("s", 0): 4, ("y", 0): 4}
    for i in network.sites.values():
        found = network.nodes[i]
        assert isinstance(found, Elementwise) and found.function == SIGN
        assert found.rounding is not None and found.rounding.kind == "exact"


@settings(max_examples=examples(60))
@given(st.integers(0, 10**6), st.booleans())
def test_networks_stay_above_their_bounds(seed: int, float32: bool) -> None:
    """Weights are small multiples of 1/4, so that many neurons are exactly 0 at the corners and the centre, where nothing rounds."""
    rng = np.random.default_rng(seed)
    w, b, v = (rng.integers(-3, 4, shape).astype(np.float32) / 4 for shape in ((2, 4), (4,), (4, 2)))
    nodes = [node("Gemm", ["x", "w", "b"], ["h"]), node("Sign", ["h"], ["s"]), node("MatMul", ["s", "v"], ["t"]), node("Sign", ["t"], ["y"])]
    network = read_model.read(model(nodes, {"x": (1, 2)}, weights={"w": w, "b": b, "v": v}))
    lower = rng.integers(-4, 4, 2) / 4
    upper = lower + rng.integers(0, 5, 2) / 4
    row = rng.integers(-2, 3, 2).astype(float)
    least = Fraction(10)
    for mix in np.array(np.meshgrid(*[np.linspace(0, 1, 9)] * 2)).reshape(2, -1).T:
        x = lower + mix * (upper - lower)
        least = min(least, Fraction(float(row @ np.sign(np.sign(x @ w + b) @ v))))
    program = int(rng.integers(0, 2))
    found, exactly = both_bounds(network, lower, upper, {network.outputs[0]: row}, {}, program, Slack(network) if float32 else None)
    assert found <= exactly <= least
