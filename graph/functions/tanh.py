"""Hyperbolic tangent."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _derivative(x: Array) -> Array:
    tail = np.exp(-2 * np.abs(x))  # 1 - tanh^2 would cancel where tanh is near 1
    return np.asarray(4 * tail / ((1 + tail) * (1 + tail)))


def tanh() -> Smooth:
    """tanh(x)."""
    return Smooth("tanh", np.tanh, _derivative, inflections=(0.0,), convex_first=True, range=(-1.0, 1.0))
