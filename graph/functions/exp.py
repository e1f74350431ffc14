"""Exponential."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _exp(x: Array) -> Array:
    with np.errstate(over="ignore"):  # the caller tests for infinity
        return np.asarray(np.exp(x))


def exp() -> Smooth:
    """e^x."""
    return Smooth("exp", _exp, _exp, convex_first=True, range=(0.0, np.inf))
