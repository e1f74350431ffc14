"""Inverse hyperbolic cosine."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _acosh(x: Array) -> Array:
    with np.errstate(invalid="ignore"):  # outside the domain: NaN, which the caller tests for
        return np.asarray(np.arccosh(x))


def _derivative(x: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 / (np.sqrt(x - 1) * np.sqrt(x + 1)))


def acosh() -> Smooth:
    """ln(x + sqrt(x^2 - 1)) on x >= 1; at 1 its slope is infinite."""
    return Smooth("acosh", _acosh, _derivative, convex_first=False, domain=(1.0, np.inf), range=(0.0, np.inf))
