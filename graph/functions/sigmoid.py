"""Logistic sigmoid: 1 / (1 + exp(-x))."""

import numpy as np

from graph.functions.facts import Array, Smooth


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, in the dtype of x."""
    tail = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + tail), tail / (1 + tail))


def _derivative(x: Array) -> Array:
    tail = np.exp(-np.abs(x))  # y (1 - y) would cancel where y is near 1
    return np.asarray(tail / ((1 + tail) * (1 + tail)))


def sigmoid() -> Smooth:
    """1 / (1 + exp(-x))."""
    return Smooth("sigmoid", logistic, _derivative, inflections=(0.0,), convex_first=True, range=(0.0, 1.0))
