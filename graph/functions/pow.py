"""Powers x^p with a constant exponent."""

from functools import partial

import numpy as np

from graph.errors import MalformedGraph
from graph.functions.facts import Array, Smooth


def power(exponent: float) -> Smooth:
    """x^p for a finite p other than 0 and 1. Integer p: all x (p < 0: a pole at 0). Any other p: x > 0."""
    if not np.isfinite(exponent) or exponent in (0.0, 1.0):
        raise MalformedGraph(f"power {exponent} is not a smooth function of its own")

    value, derivative = partial(_value, exponent), partial(_derivative, exponent)
    if not float(exponent).is_integer():
        return Smooth("pow", value, derivative, convex_first=not 0 < exponent < 1, domain=(0.0, np.inf), range=(0.0, np.inf), parameter=exponent)
    even = exponent % 2 == 0
    return Smooth(
        "pow",
        value,
        derivative,
        inflections=() if even else (0.0,),
        convex_first=even,
        stationary=(0.0,) if exponent > 0 else (),
        range=(0.0, np.inf) if even else (-np.inf, np.inf),
        parameter=exponent,
        poles=(0.0,) if exponent < 0 else (),
    )


def _value(exponent: float, x: Array) -> Array:
    if exponent == 2:
        return x * x
    with np.errstate(all="ignore"):  # overflow and points outside the domain give inf or NaN, which the caller tests for
        return np.asarray(np.power(x, np.asarray(exponent, dtype=x.dtype)))


def _derivative(exponent: float, x: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(exponent * np.power(x, np.asarray(exponent - 1, dtype=x.dtype)))
