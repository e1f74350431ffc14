"""Inverse hyperbolic tangent."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _atanh(x: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):  # outside the domain: NaN or infinity, which the caller tests for
        return np.asarray(np.arctanh(x))


def _derivative(x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.asarray(1 / ((1 - x) * (1 + x)))


def atanh() -> Smooth:
    """ln((1 + x) / (1 - x)) / 2 on -1 < x < 1."""
    return Smooth("atanh", _atanh, _derivative, inflections=(0.0,), convex_first=False, domain=(-1.0, 1.0))
