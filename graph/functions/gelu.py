"""GELU, scaled: x (1 + erf(x)) / 2."""

import math

import numpy as np

from graph.functions.facts import Array, Smooth
from graph.functions.swish import bisect

_elementwise_erfc = np.vectorize(math.erfc, otypes=[np.float64])
_ROOT_PI = math.sqrt(math.pi)
_LOWEST = bisect(lambda x: math.erfc(-x) / 2 + x * math.exp(-x * x) / _ROOT_PI, -1.0, 0.0)


def _value(x: Array) -> Array:
    return np.asarray(x * (0.5 * np.asarray(_elementwise_erfc(-x)))).astype(x.dtype)


def _derivative(x: Array) -> Array:
    return np.asarray(0.5 * np.asarray(_elementwise_erfc(-x)) + x * np.exp(-x * x) / _ROOT_PI).astype(x.dtype)


def gelu() -> Smooth:
    """x (1 + erf(x)) / 2, so that GELU(x) = sqrt 2 f(x / sqrt 2). f'' = 2 (1 - x^2) exp(-x^2) / sqrt pi: it bends at -1 and 1 exactly."""
    return Smooth("gelu", _value, _derivative, inflections=(-1.0, 1.0), convex_first=False, stationary=(_LOWEST,), range=(-0.120188, np.inf))
