"""Softplus: ln(1 + exp(x))."""

import numpy as np

from graph.functions.facts import Array, Smooth
from graph.functions.sigmoid import logistic


def _value(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus() -> Smooth:
    """ln(1 + e^x)."""
    return Smooth("softplus", _value, logistic, convex_first=True, range=(0.0, np.inf))
