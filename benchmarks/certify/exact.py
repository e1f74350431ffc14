"""Exact numbers of regions, and their decimals for a query: rounded outwards where no short decimal is exact."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction

from benchmarks.certify.errors import UsageError
from specs.errors import PropertyError
from specs.tokens import rational

DIGITS = 17  # significant digits of a bound that is rounded outwards
NO_NUMBER = 'is no number; write an integer, a decimal or a fraction such as "2/255"'
LONGEST = 40  # digits after the point of a decimal that is kept exact: a float32 in [2^-16, 2^24) has at most 39


def number(value: object, place: str) -> Fraction:
    """The exact value of an integer, a decimal or a fraction such as "2/255". Raises UsageError."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | str | Fraction | Decimal):
            raise ValueError(value)
        found = rational(value) if isinstance(value, str) else Fraction(value)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{place}: {value!r} {NO_NUMBER}") from error
    except PropertyError as error:
        raise UsageError(f"{place}: {error}") from error
    if found is None:
        raise UsageError(f"{place}: {value!r} {NO_NUMBER}")
    return found


def outward(value: Fraction, up: bool) -> Fraction:
    """`value` itself if it is a short decimal, else a decimal of DIGITS digits that is not below (`up`) or not above it."""
    if _places(value) <= LONGEST:
        return value
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    rounded = Fraction(Context(prec=DIGITS, rounding=rounding, Emin=-10**6, Emax=10**6).divide(Decimal(value.numerator), Decimal(value.denominator)))
    if (rounded < value) if up else (rounded > value):
        raise ArithmeticError(f"{value} was rounded to the wrong side")
    return rounded


def _places(value: Fraction) -> float:
    """Digits after the point of the exact decimal; infinite if there is none."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else math.inf


def text(value: Fraction) -> str:
    """The number as people write it: a decimal if it is a short one, else a fraction. `number` reads it back."""
    if _places(value) <= 12:
        plain = f"{Decimal(value.numerator) / Decimal(value.denominator):f}"
        return plain.rstrip("0").rstrip(".") if "." in plain else plain
    return f"{value.numerator}/{value.denominator}"
