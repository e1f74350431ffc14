"""Square root."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _sqrt(x: Array) -> Array:
    with np.errstate(invalid="ignore"):  # below 0: NaN, which the caller tests for
        return np.asarray(np.sqrt(x))


def _derivative(x: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return 0.5 / np.sqrt(x)


def sqrt() -> Smooth:
    """The square root. It is also defined at 0, the end of the open domain, where its slope is infinite."""
    return Smooth("sqrt", _sqrt, _derivative, convex_first=False, domain=(0.0, np.inf), range=(0.0, np.inf))
