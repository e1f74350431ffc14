"""Rounding of exact rationals against a brute-force rounding by integers, and the examples of ARITHMETIC 52 and 53."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from specs import rounding
from specs.canonical import Rationals
from specs.errors import PropertyError
from tests.effort import examples


def nearest(q: Fraction, bits: int, least: int) -> Fraction:
    """q to `bits` significant bits, smallest step 2^least, ties to even: from the definition, in integers."""
    if q == 0:
        return q
    exponent = math.floor(math.log2(abs(q.numerator)) - math.log2(q.denominator)) if q else 0
    while Fraction(2) ** (exponent + 1) <= abs(q):
        exponent += 1
    while Fraction(2) ** exponent > abs(q):
        exponent -= 1
    step = Fraction(2) ** max(exponent - bits + 1, least)
    return round(q / step) * step  # round() of a Fraction is half-even


def single(q: Fraction) -> Fraction:
    return nearest(q, 24, -149)


def double(q: Fraction) -> Fraction:
    return nearest(q, 53, -1074)


anywhere = st.fractions(min_value=-1000, max_value=1000, max_denominator=10**12)
decimals = st.decimals(min_value=-(10**6), max_value=10**6, allow_nan=False).map(Fraction)
floats32 = st.floats(width=32, allow_nan=False, allow_infinity=False).map(Fraction)
tiny = st.integers(-3, 3).flatmap(lambda k: st.sampled_from([Fraction(k), Fraction(k, 2**200), Fraction(k, 10**90)]))
# half-way between two neighbouring floats, give or take almost nothing: where rounding twice goes wrong
midpoints = st.tuples(st.floats(width=32, min_value=-(2.0**127), max_value=2.0**127), tiny).map(
    lambda pair: (Fraction(pair[0]) + Fraction(float(np.nextafter(np.float32(pair[0]), np.float32(np.inf))))) / 2 + pair[1]
)
numbers = st.one_of(anywhere, decimals, floats32, midpoints, midpoints.map(lambda q: q / 2**140))


@settings(max_examples=examples(500))
@given(st.lists(numbers, min_size=1, max_size=4))
@example([1 + Fraction(1, 2**24) + Fraction(1, 2**60), Fraction("3.3e-05"), Fraction(1, 10**400), Fraction(3, 2**150)])
def test_roundings_agree_with_the_definition(values):
    vector = Rationals.of(values)
    down, up = rounding.down_float64(vector), rounding.up_float64(vector)
    lower, upper = rounding.hull_lower(vector), rounding.hull_upper(vector)
    for i, q in enumerate(values):
        assert Fraction(float(rounding.nearest_float32(vector)[i])) == single(q)
        assert Fraction(float(rounding.nearest_float64(vector)[i])) == double(q)
        assert Fraction(down[i]) <= q < Fraction(float(np.nextafter(down[i], np.inf)))
        assert Fraction(float(np.nextafter(up[i], -np.inf))) < q <= Fraction(up[i])
        hull = (q, single(q), single(double(q)))
        assert Fraction(lower[i]) <= min(hull) < Fraction(float(np.nextafter(lower[i], np.inf)))
        assert Fraction(float(np.nextafter(upper[i], -np.inf))) < max(hull) <= Fraction(upper[i])


def test_the_hull_covers_the_scorers_double_rounding():
    q = 1 + Fraction(1, 2**24) + Fraction(1, 2**60)
    vector = Rationals.of([q])
    assert rounding.nearest_float32(vector)[0] == 1 + 2.0**-23
    assert (rounding.hull_lower(vector)[0], rounding.hull_upper(vector)[0]) == (1.0, 1 + 2.0**-23)


LIMIT = Fraction(2**128 - 2**103)


def test_the_largest_magnitudes():
    below = Rationals.of([Fraction(2**128 - 2**104), Fraction(2**128 - 2**103 - 2**75)])
    assert (rounding.nearest_float32(below) == np.finfo(np.float32).max).all()
    for value in (LIMIT, -LIMIT, LIMIT - Fraction(1, 10), Fraction(10) ** 400, -(Fraction(10) ** 400)):
        with pytest.raises(PropertyError, match="infinite in float32"):
            rounding.hull_upper(Rationals.of([value]))


def test_results_cannot_be_changed_and_an_empty_vector_is_fine():
    vector = Rationals.of([])
    assert rounding.hull_lower(vector).shape == (0,)
    table = Rationals.of([Fraction(1), Fraction(1), Fraction(2)])
    assert len(table.table) == 2
    rounding.nearest_float32(table)[0] = 9  # a copy
    assert rounding.nearest_float32(table).tolist() == [1, 1, 2]
