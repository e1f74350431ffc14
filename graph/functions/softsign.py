"""Softsign: x / (1 + |x|)."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _value(x: Array) -> Array:
    return np.asarray(x / (1 + np.abs(x)))


def _derivative(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(1 / ((1 + np.abs(x)) * (1 + np.abs(x))))


def softsign() -> Smooth:
    """x / (1 + |x|)."""
    return Smooth("softsign", _value, _derivative, inflections=(0.0,), convex_first=True, range=(-1.0, 1.0))
