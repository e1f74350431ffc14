"""Hyperbolic sine."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _sinh(x: Array) -> Array:
    with np.errstate(over="ignore"):  # the caller tests for infinity
        return np.asarray(np.sinh(x))


def _derivative(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(np.cosh(x))


def sinh() -> Smooth:
    """(e^x - e^-x) / 2."""
    return Smooth("sinh", _sinh, _derivative, inflections=(0.0,), convex_first=False)
