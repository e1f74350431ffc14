"""Exact rationals to binary floating point: nearest, directed, and the outward hull of ARITHMETIC 7.

RN32 and RN64 round an exact rational to float32 and float64, to nearest, ties to even, gradual underflow. Every function takes
Rationals [n], gives float64 [n] (nearest_float32: float32 [n]), and raises PropertyError for a magnitude of 2^128 - 2^103 or more.
The table of the Rationals is converted once, however many vectors share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specs.canonical import Rationals
from specs.errors import PropertyError

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]

_REFUSED = 2.0**128 - 2.0**103  # from here on RN32 is infinite


def nearest_float32(values: Rationals) -> Float32s:
    """RN32(q), rounded once from the exact value (not by way of float64)."""
    return _table(values).single[values.index]


def nearest_float64(values: Rationals) -> Float64s:
    """RN64(q)."""
    return _table(values).double[values.index]


def down_float64(values: Rationals) -> Float64s:
    """The largest double <= q."""
    return _table(values).down[values.index]


def up_float64(values: Rationals) -> Float64s:
    """The smallest double >= q."""
    return _table(values).up[values.index]


def hull_lower(values: Rationals) -> Float64s:
    """The largest double <= min(q, RN32(q), RN32(RN64(q)))."""
    return _table(values).hull_lower[values.index]


def hull_upper(values: Rationals) -> Float64s:
    """The smallest double >= max(q, RN32(q), RN32(RN64(q)))."""
    return _table(values).hull_upper[values.index]


@dataclass(frozen=True, eq=False)
class _Rounded:
    single: Float32s
    double: Float64s
    down: Float64s
    up: Float64s
    hull_lower: Float64s
    hull_upper: Float64s


class _SameObject:
    """Makes a table a cache key by identity: hashing its numbers would cost as much as rounding them."""

    def __init__(self, table: tuple[Fraction, ...]) -> None:
        self.table = table

    def __hash__(self) -> int:
        return id(self.table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _SameObject) and other.table is self.table


def _table(values: Rationals) -> _Rounded:
    return _round(_SameObject(values.table))


@lru_cache(maxsize=64)
def _round(key: _SameObject) -> _Rounded:
    double = np.array([_nearest(value) for value in key.table], np.float64)
    # sign of q - RN64(q)
    rest = np.array([_compare(value, d) for value, d in zip(key.table, double.tolist(), strict=True)], np.int8)
    single, twice = _single(double, rest), double.astype(np.float32)
    down = np.where(rest < 0, np.nextafter(double, -np.inf), double)
    up = np.where(rest > 0, np.nextafter(double, np.inf), double)
    lower = np.minimum(down, np.minimum(single, twice).astype(np.float64))
    upper = np.maximum(up, np.maximum(single, twice).astype(np.float64))
    return _Rounded(*(_frozen(a) for a in (single, double, down, up, lower, upper)))


def _nearest(value: Fraction) -> float:
    try:
        double = value.numerator / value.denominator  # int / int is correctly rounded
    except OverflowError:
        double = np.inf
    if not abs(double) < _REFUSED:
        raise PropertyError("a bound of 2^128 - 2^103 or more in magnitude is infinite in float32")
    return double


def _compare(value: Fraction, double: float) -> int:
    numerator, denominator = double.as_integer_ratio()
    left, right = value.numerator * denominator, numerator * value.denominator
    return (left > right) - (left < right)


def _single(double: Float64s, rest: NDArray[np.int8]) -> Float32s:
    """RN32 of double + (something tiny of the sign `rest`).

    Rounding twice is wrong only where the double is half-way between two floats and q is not: there q decides.
    """
    near = double.astype(np.float32)
    with np.errstate(over="ignore"):  # beyond the largest float lies Inf, which is no tie
        other = np.nextafter(near, np.where(double > near, np.inf, -np.inf).astype(np.float32))
    tie = (near != double) & (rest != 0) & (near.astype(np.float64) / 2 + other.astype(np.float64) / 2 == double)
    towards = np.where(rest > 0, np.maximum(near, other), np.minimum(near, other))
    return np.where(tie, towards, near).astype(np.float32)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
