"""ELU: x for x >= 0, alpha (e^x - 1) below."""

from functools import partial

import numpy as np

from graph.errors import MalformedGraph
from graph.functions.facts import Array, Smooth


def _value(alpha: float, x: Array) -> Array:
    return np.asarray(np.where(x > 0, x, np.asarray(alpha, dtype=x.dtype) * np.expm1(np.minimum(x, 0))))


def _derivative(alpha: float, x: Array) -> Array:
    return np.asarray(np.where(x > 0, np.asarray(1, dtype=x.dtype), np.asarray(alpha, dtype=x.dtype) * np.exp(np.minimum(x, 0))))


def elu(alpha: float) -> Smooth:
    """x for x >= 0, alpha (e^x - 1) below, for alpha > 0. At 0 its slope goes from alpha to 1: up (it is convex) or, for alpha > 1, down."""
    if not 0 < alpha < np.inf:
        raise MalformedGraph(f"ELU with alpha {alpha} is not a function of this kind")
    value, derivative, bounds = partial(_value, alpha), partial(_derivative, alpha), (-alpha * (1 + 1e-6), np.inf)  # also once rounded to float32
    if alpha <= 1:
        # only where float32 holds alpha: it may be less than the true slope otherwise
        hinge = (alpha, 1.0) if float(np.float32(alpha)) == alpha else None
        return Smooth("elu", value, derivative, convex_first=True, range=bounds, parameter=alpha, hinge=hinge)
    return Smooth("elu", value, derivative, inflections=(0.0,), convex_first=True, range=bounds, parameter=alpha, straight=(1,))
