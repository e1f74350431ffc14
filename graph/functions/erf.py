"""Gauss error function."""

import math

import numpy as np

from graph.functions.facts import Array, Smooth

_elementwise_erf = np.vectorize(math.erf, otypes=[np.float64])


def _value(x: Array) -> Array:
    return np.asarray(_elementwise_erf(x)).astype(x.dtype)


def _derivative(x: Array) -> Array:
    return np.asarray((2 / math.sqrt(math.pi)) * np.exp(-x * x))


def erf() -> Smooth:
    """2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return Smooth("erf", _value, _derivative, inflections=(0.0,), convex_first=True, range=(-1.0, 1.0))
