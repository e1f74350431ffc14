"""Hyperbolic cosine."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _cosh(x: Array) -> Array:
    with np.errstate(over="ignore"):  # the caller tests for infinity
        return np.asarray(np.cosh(x))


def _derivative(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(np.sinh(x))


def cosh() -> Smooth:
    """(e^x + e^-x) / 2."""
    return Smooth("cosh", _cosh, _derivative, convex_first=True, stationary=(0.0,), range=(1.0, np.inf))
