"""The exact functions: against ball arithmetic, against brute force, and as the oracle of the kernel's own enclosures."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.checker.oracles import ACTIVATIONS, DERIVATIVES, PIECES, SMOOTH, VALUES, ball, intervals_of, points_of, true_values
from tests.effort import examples
from verifier.checker import activations, exact_functions, functions
from verifier.checker.network import Pieces, Smooth
from verifier.checker.refusal import Rejected

BITS = 80
numbers = st.fractions(min_value=-6, max_value=6, max_denominator=8)


@pytest.mark.parametrize("function", SMOOTH, ids=str)
@pytest.mark.parametrize("which", ["value", "derivative"])
def test_enclosures(function: Smooth, which: str) -> None:
    """Around the true value, as narrow as asked for, and inside the kernel's enclosure."""
    name, p = function.name, function.parameter
    points = points_of(function, 15, seed=2)
    if which == "value":
        exact, kernel, table = exact_functions.enclose, activations.enclose, VALUES
    else:
        exact, kernel, table = exact_functions.derivative, activations.derivative_enclosure, DERIVATIVES
    with np.errstate(all="ignore"):
        wide_low, wide_high = kernel(name, p, points)
    for x, true, below, above in zip(points, true_values(function, points, table), wide_low, wide_high, strict=True):
        if not (np.isfinite(below) and np.isfinite(above)):
            continue
        low, high = exact(name, p, Fraction(x), BITS)
        size = max(min(abs(low), abs(high)), 2 * exact_functions.NOTHING * 2**BITS)
        assert low <= high and ((high - low) * 2**BITS <= size or (name == "swish" and p and (high - low) * 2**45 <= 1))  # its p may be off
        if high > 2 * exact_functions.NOTHING or low < 0:
            assert not ball(low) > true and not ball(high) < true, (function, x)
        assert Fraction(below) <= low and high <= Fraction(above), (function, x)


def test_exact_values() -> None:
    for name in ("sin", "tanh", "erf"):
        assert exact_functions.enclose(name, 0.0, Fraction(0)) == (0, 0)
    assert exact_functions.enclose("exp", 0.0, Fraction(0)) == (1, 1)
    assert exact_functions.enclose("log", 0.0, Fraction(1)) == (0, 0)
    assert exact_functions.enclose("sqrt", 0.0, Fraction(9, 4)) == (Fraction(3, 2), Fraction(3, 2))
    assert exact_functions.enclose("pow", -3.0, Fraction(2, 3)) == (Fraction(27, 8), Fraction(27, 8))


@pytest.mark.parametrize("name, parameter, lower, upper", [
    *(("reciprocal", 0.0, -1, 1), ("reciprocal", 0.0, 0, 1), ("pow", -2.0, -1, 0), ("log", 0.0, 0, 1), ("sqrt", 0.0, -1, 1)),
    *(("pow", 0.5, 0, 1), ("exp", 0.0, 0, 701), ("pow", 2000.0, 0, 1)),
])
def test_both_refuse_what_is_not_defined(name: str, parameter: float, lower: int, upper: int) -> None:
    function = Smooth(name, parameter)
    with pytest.raises(Rejected, match="domain"):
        exact_functions.interval(function, Fraction(lower), Fraction(upper))
    with pytest.raises(Rejected, match="domain"):
        functions.interval(function, np.array([float(lower)]), np.array([float(upper)]))
    with pytest.raises(Rejected):
        functions.offsets(function, np.ones(1), np.ones(1), np.array([float(lower)]), np.array([float(upper)]))


def brute_force(function: Pieces, slope: Fraction, lower: Fraction, upper: Fraction) -> list[Fraction]:
    """f(x) - slope x at the ends, at every breakpoint, and a hair beside each: what its infimum and supremum are the limits of."""
    if function.step:
        at = {"floor": lambda x: x.__floor__(), "ceil": lambda x: x.__ceil__(), "round": round}[function.step]
        corners = [Fraction(k, 2) for k in range(-20, 21)]
    else:
        corners = [Fraction(b) for b in function.breakpoints]

        def at(x: Fraction) -> Fraction:
            if x in function.breakpoints:
                return Fraction(function.values[function.breakpoints.index(x)])
            i = sum(x > b for b in function.breakpoints)
            return Fraction(function.slopes[i]) * x + Fraction(function.intercepts[i])

    hair = Fraction(1, 10**12)
    points = [lower, upper, *corners, *(c - hair for c in corners), *(c + hair for c in corners), lower + hair, upper - hair]
    return [Fraction(at(x)) - slope * x for x in points if lower <= x <= upper]


@given(st.sampled_from(PIECES), numbers, numbers, numbers)
def test_straight_pieces_by_brute_force(function: Pieces, slope: Fraction, one: Fraction, other: Fraction) -> None:
    lower, upper = min(one, other), max(one, other)
    low, high = exact_functions.offsets(function, slope, slope, lower, upper)
    found = brute_force(function, slope, lower, upper)
    hair = Fraction(1, 10**10)
    assert low <= min(found) <= low + hair and high - hair <= max(found) <= high


@given(st.sampled_from(PIECES), numbers, numbers)
def test_one_straight_piece(function: Pieces, one: Fraction, other: Fraction) -> None:
    """True where all points lie on a line, unless f may jump at an end; both arithmetics agree."""
    lower, upper = min(one, other), max(one, other)
    linear = exact_functions.is_linear(function, lower, upper)
    if function.breakpoints != (-2.5, 2.5):  # whose jumps are far below a hair
        hair = Fraction(1, 10**6)
        halves = [Fraction(c, 2) for c in range(2 * floor(lower), 2 * ceil(upper) + 1)]
        inside = [x for x in sorted({lower, upper, *(c + k * hair for c in halves for k in (-1, 0, 1))}) if lower <= x <= upper]
        values = [exact_functions._at(function, x) for x in inside]
        steepness = {(v - u) / (y - x) for (x, y), (u, v) in zip(pairwise(inside), pairwise(values), strict=True)}
        assert len(steepness) <= 1 if linear else len(steepness) > 1 or {lower, upper} & set(halves)
    ends = np.array([float(lower)]), np.array([float(upper)])
    if (Fraction(ends[0][0]), Fraction(ends[1][0])) == (lower, upper):
        assert bool(functions.is_linear(function, *ends)[0]) == linear


@pytest.mark.parametrize("function", SMOOTH, ids=str)
def test_offsets_of_smooth_functions(function: Smooth) -> None:
    """Never violated at 50 points of an interval, and met by one of them or by a point that a search finds."""
    r = np.random.default_rng(3)
    lower, upper = intervals_of(function, examples(12, 4), seed=4)
    for low, high in zip(map(Fraction, lower), map(Fraction, upper), strict=True):
        if function.name in ("exp", "pow") and high > 20:
            continue
        middle = exact_functions.derivative(function.name, function.parameter, (low + high) / 2)[0]
        points = [low + (high - low) * Fraction(k, 50) for k in range(51)]
        values = [exact_functions.enclose(function.name, function.parameter, x) for x in points]
        for slope in (Fraction(0), Fraction(r.normal()), Fraction(float(middle))):
            below, above = exact_functions.offsets(function, slope, slope, low, high)
            found = [[end - slope * x for end in ends] for x, ends in zip(points, values, strict=True)]
            assert all(high_end >= below and low_end <= above for low_end, high_end in found)
            spread = max(f[1] for f in found) - min(f[0] for f in found) + (function in ACTIVATIONS) * Fraction(1, 10**7)  # nearly flat tails
            assert min(f[1] for f in found) - below <= spread / 10 + abs(below) / 10**15
            assert above - max(f[0] for f in found) <= spread / 10 + abs(above) / 10**15


def test_sine_is_1_where_it_is() -> None:
    """The kernel says 1 near a top; the exact range says so exactly where the top lies inside."""
    assert exact_functions.interval(Smooth("sin"), Fraction(1), Fraction(2))[1] == 1
    assert exact_functions.interval(Smooth("cos"), Fraction(3), Fraction(4))[0] == -1
    low, high = exact_functions.interval(Smooth("sin"), Fraction(-1), Fraction(1))
    assert -1 < low < high < 1
    low, high = exact_functions.interval(Smooth("cos"), Fraction(-100), Fraction(100))
    assert (low, high) == (-1, 1)
