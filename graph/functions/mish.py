"""Mish: x tanh(ln(1 + e^x))."""

import math

import numpy as np

from graph.functions.facts import Array, Smooth
from graph.functions.swish import bisect


def _parts(x: Array) -> tuple[Array, Array]:
    """(tanh(ln(1 + e^x)), its derivative): with t = e^x, n = t^2 + 2t they are n / (n + 2) and 4t(t + 1) / (n + 2)^2."""
    t = np.exp(-np.abs(x))
    low, high = t * t + 2 * t, 1 + 2 * t  # n, and n / t^2 for 1/t in the place of t
    share = np.where(x < 0, low / (low + 2), high / (high + 2 * t * t))
    slope = np.where(x < 0, 4 * t * (t + 1) / (low + 2) ** 2, 4 * t * t * (1 + t) / (high + 2 * t * t) ** 2)
    return share, slope


def _value(x: Array) -> Array:
    return np.asarray(x * _parts(x)[0])


def _derivative(x: Array) -> Array:
    share, slope = _parts(x)
    return np.asarray(share + x * slope)


def _bend(x: float) -> float:
    """f'' (n + 2)^3 / (4 t)."""
    t = math.exp(x)
    return 2 * (t + 1) * (t * t + 2 * t + 2) + x * (2 + 2 * t - 3 * t * t - 2 * t**3)


_LEFT, _RIGHT = bisect(_bend, -4.0, 0.0), bisect(lambda x: -_bend(x), 0.0, 4.0)
_LOWEST = bisect(lambda x: float(_derivative(np.asarray(x))), _LEFT, 0.0)


def mish() -> Smooth:
    """x tanh(ln(1 + e^x)): concave, convex between two points, concave. (The quotient of the two terms of `_bend` is monotone on either side of
    the one root of 2 + 2t - 3t^2 - 2t^3.)"""
    return Smooth("mish", _value, _derivative, inflections=(_LEFT, _RIGHT), convex_first=False, stationary=(_LOWEST,), range=(-0.308844, np.inf))
