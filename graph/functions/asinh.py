"""Inverse hyperbolic sine."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _derivative(x: Array) -> Array:
    return np.asarray(1 / np.hypot(x, np.ones_like(x)))


def asinh() -> Smooth:
    """ln(x + sqrt(x^2 + 1))."""
    return Smooth("asinh", np.arcsinh, _derivative, inflections=(0.0,), convex_first=True)
