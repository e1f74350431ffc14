"""Arcsine."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _asin(x: Array) -> Array:
    with np.errstate(invalid="ignore"):  # outside the domain: NaN, which the caller tests for
        return np.asarray(np.arcsin(x))


def _derivative(x: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 / np.sqrt((1 - x) * (1 + x)))


def asin() -> Smooth:
    """arcsin(x) on [-1, 1]; at the ends its slope is infinite."""
    return Smooth("asin", _asin, _derivative, inflections=(0.0,), convex_first=False, domain=(-1.0, 1.0), range=(-np.pi / 2 - 1e-6, np.pi / 2 + 1e-6))
