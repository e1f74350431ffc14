"""The numbers of ARITHMETIC 1: rounding units, error factors, outward steps, positive tests, and probes of the machine.

u = 2^-53 is the unit of float64. G(m) is at least twice what m roundings can lose, so that error terms need no directed
rounding themselves; T(m, H) is at least what m products can lose to underflow, flushed or gradual.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifier.checker.refusal import Rejected

Array = NDArray[Any]

TINY = 2.0**-1022
FLOOR = 2.0**-960  # F of ARITHMETIC 5: what a magnitude lacks when its own products underflowed
THETA = 2.0**-126  # the smallest normal float32: what flushing to zero can change
MU = 2.0**-24 * (1 + 2.0**-10)  # unit of one float32 rounding, double rounding included
MOST_TERMS = 1 << 40


def G(m: int) -> float:
    """(m + 4) 2^-52. Refuses more than 2^40 terms."""
    if not 0 <= m <= MOST_TERMS:
        raise Rejected("too-many-terms", str(m))
    return (m + 4) * 2.0**-52


def T(m: int, magnitude: Array) -> Array:
    """(2m + 8) 2^-1022 (1 + sum of `magnitude` over its last axis)."""
    if not 0 <= m <= MOST_TERMS:
        raise Rejected("too-many-terms", str(m))
    return np.asarray((2 * m + 8) * TINY * (1 + magnitude.sum(-1)))


def g(k: int) -> float:
    """k mu / (1 - k mu): k float32 roundings, relative. Refuses k mu > 2^-4."""
    if k < 0 or k * MU > 2.0**-4:
        raise Rejected("too-many-terms", f"{k} roundings in float32")
    return k * MU / (1 - k * MU)


def up(x: Array) -> Array:
    """The next double above."""
    return np.asarray(np.nextafter(x, np.inf))


def dn(x: Array) -> Array:
    """The next double below."""
    return np.asarray(np.nextafter(x, -np.inf))


def finite(x: Array, place: str) -> Array:
    """`x`, which must be float64 and finite everywhere."""
    if x.dtype != np.float64:
        raise Rejected("dtype", place)
    if not np.isfinite(x).all():
        raise Rejected("not-finite", place)
    return x


def positive(x: Array) -> Array:
    """Mask of what is proven positive: finite and > 0, so that NaN and Inf prove nothing."""
    return np.asarray(np.isfinite(x) & (x > 0))


def probe_machine() -> None:
    """Refuse a machine whose float64 is not IEEE 754 with gradual underflow, in numpy's loops or in its matrix products."""
    one, tiny = np.ones(8), np.full(8, 2.0**-1074)
    holds = (
        (tiny * one > 0).all(),
        (np.full(8, 2.0**-1022) / 2 > 0).all(),
        (one + 2.0**-53 == one).all(),
        (one + 2.0**-52 > one).all(),
        (np.full((8, 8), 2.0**-540) @ np.full((8, 8), 2.0**-530) > 0).all(),
        (tiny.reshape(1, 8) @ np.eye(8) > 0).all(),
    )
    if not all(bool(x) for x in holds):
        raise Rejected("machine", "float64 here is not IEEE 754 with gradual underflow, round to nearest")
