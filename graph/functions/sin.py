"""Sine."""

import numpy as np

from graph.functions.facts import Smooth


def sin() -> Smooth:
    """sin(x)."""
    stationary = (np.pi / 2, 3 * np.pi / 2)
    return Smooth("sin", np.sin, np.cos, (0.0, np.pi), convex_first=True, stationary=stationary, period=2 * np.pi, range=(-1.0, 1.0))
