"""Reciprocal: two branches, either side of the pole at 0."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _value(x: Array) -> Array:
    with np.errstate(divide="ignore"):  # at the pole: infinity, which the caller tests for
        return 1 / x


def _derivative(x: Array) -> Array:
    with np.errstate(divide="ignore", over="ignore"):
        return -1 / (x * x)


def reciprocal() -> Smooth:
    """1/x, concave left of the pole at 0 and convex right of it."""
    return Smooth("reciprocal", _value, _derivative, inflections=(0.0,), convex_first=False, poles=(0.0,))
