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

TINY, SMALLEST = 2.0**-1022, 2.0**-1074
# What a sum or a step loses at least; ARITHMETIC has TINY, SMALLEST and F = 2^-960. Products of what is left of these would be subnormal,
# which processors multiply in microcode: checks of networks with many zeros took twice as long.
LEAST, FLOOR = 2.0**-900, 2.0**-850  # FLOOR: what a magnitude lacks when its own products underflowed
THETA = 2.0**-126  # the smallest normal float32: what flushing to zero can change
MU = 2.0**-24 * (1 + 2.0**-10)  # unit of one float32 rounding, double rounding included
MOST_TERMS = 1 << 40
STEP = 2.0**-53 * (1 + 2.0**-52)  # of `up` and `dn`, relative


def G(m: int) -> float:
    """(m + 4) 2^-52. Refuses more than 2^40 terms."""
    if not 0 <= m <= MOST_TERMS:
        raise Rejected("too-many-terms", str(m))
    return (m + 4) * 2.0**-52


def T(m: int, magnitude: Array) -> Array:
    """(2m + 8) LEAST (1 + sum of `magnitude` over its last axis)."""
    if not 0 <= m <= MOST_TERMS:
        raise Rejected("too-many-terms", str(m))
    return np.asarray((2 * m + 8) * LEAST * (1 + magnitude.sum(-1)))


def g(k: int) -> float:
    """k mu / (1 - k mu): k float32 roundings, relative. Refuses k mu > 2^-4."""
    if k < 0 or k * MU > 2.0**-4:
        raise Rejected("too-many-terms", f"{k} roundings in float32")
    return k * MU / (1 - k * MU)


def up(x: Array, least: float = LEAST) -> Array:
    """A double above `x`: the next one where |x| >= 2^60 least, at least that one elsewhere; inf or NaN where `x` is not finite.

    `least` >= SMALLEST: that one where the sign of a tiny end decides what may follow, as in a logarithm. In a sixth of the time of
    np.nextafter. Rump, Zimmermann, Boldo, Melquiond: Computing predecessor and successor in rounding to nearest (BIT 49, 2009) prove it
    for SMALLEST; with more the sum is no less.
    """
    return np.asarray(x + (np.abs(x) * STEP + least))


def dn(x: Array, least: float = LEAST) -> Array:
    """A double below `x`: -up(-x, least)."""
    return np.asarray(x - (np.abs(x) * STEP + least))


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
