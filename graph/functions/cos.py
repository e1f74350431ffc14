"""Cosine."""

import numpy as np

from graph.functions.facts import Array, Smooth


def _derivative(x: Array) -> Array:
    return -np.sin(x)


def cos() -> Smooth:
    """cos(x)."""
    inflections = (np.pi / 2, 3 * np.pi / 2)
    return Smooth("cos", np.cos, _derivative, inflections, convex_first=False, stationary=(0.0, np.pi), period=2 * np.pi, range=(-1.0, 1.0))
