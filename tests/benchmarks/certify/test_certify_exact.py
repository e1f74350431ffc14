"""Numbers of regions: exact where they can be, outwards where not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.certify import exact
from benchmarks.certify.errors import UsageError
from specs.write import decimal

fractions = st.fractions(min_value=-(10**6), max_value=10**6)


@given(fractions, st.booleans())
def test_a_bound_is_rounded_outwards_and_never_far(value: Fraction, up: bool) -> None:
    rounded = exact.outward(value, up)
    assert rounded >= value if up else rounded <= value
    assert abs(rounded - value) <= abs(value) * Fraction(1, 10**15)
    decimal(rounded)  # raises where it is no decimal


@given(st.floats(width=32, min_value=2.0**-16, max_value=2.0**24))
def test_float32_numbers_stay_as_they_are(value: float) -> None:
    assert exact.outward(Fraction(value), True) == Fraction(value) == exact.outward(Fraction(value), False)


@given(fractions)
def test_texts_read_back(value: Fraction) -> None:
    assert exact.number(exact.text(value), "here") == value


@pytest.mark.parametrize("wrong", ["two", "1/0", "nan", "inf", "5_1", "0x5", 0.5, True, None, [1]])
def test_what_is_no_number_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError, match="no number"):
        exact.number(wrong, "here")


@pytest.mark.parametrize("huge", ["1e999999999", "1e-999999999", "1e400", f"1{'0' * 60}/3", "9" * 5000])
def test_numbers_out_of_range_are_refused_at_once(huge: str) -> None:
    """The exact value of 1e999999999 is a number of 400 MB."""
    with pytest.raises(UsageError, match="here: "):
        exact.number(huge, "here")


def test_a_fraction_and_a_decimal() -> None:
    assert exact.number("2/255", "here") == Fraction(2, 255) and exact.text(Fraction(2, 255)) == "2/255"
    assert exact.number("0.01", "here") == Fraction(1, 100) and exact.text(Fraction(1, 100)) == "0.01"
