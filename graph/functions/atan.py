"""Arctangent."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _derivative(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + x * x))


def atan() -> Smooth:
    """arctan(x)."""
    return Smooth("atan", np.arctan, _derivative, inflections=(0.0,), convex_first=True, range=(-np.pi / 2 - 1e-6, np.pi / 2 + 1e-6))
