"""Natural logarithm."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _log(x: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):  # outside the domain: NaN or -inf, which the caller tests for
        return np.asarray(np.log(x))


def _derivative(x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return 1 / x


def log() -> Smooth:
    """ln x on x > 0."""
    return Smooth("log", _log, _derivative, convex_first=False, domain=(0.0, np.inf))
