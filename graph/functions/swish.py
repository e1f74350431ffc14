"""Swish (SiLU), and GELU in its tanh form: x sigmoid(x + m x^3)."""

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np

from graph.errors import MalformedGraph
from graph.functions.facts import Array, Smooth
from graph.functions.sigmoid import logistic


def _value(cubic: float, x: Array) -> Array:
    with np.errstate(over="ignore"):  # beyond the largest number x^3 is infinite, and the sigmoid 0 or 1
        return np.asarray(x * logistic(x + np.asarray(cubic, dtype=x.dtype) * (x * x * x))) if cubic else np.asarray(x * logistic(x))


def _derivative(cubic: float, x: Array) -> Array:
    m, near = np.asarray(cubic, dtype=x.dtype), np.clip(x, -1000, 1000)  # beyond, the slope is 0 or 1
    inner = near + m * (near * near * near)
    return np.asarray(logistic(inner) * (1 + near * (1 + 3 * m * near * near) * logistic(-inner)))


def bisect(rises: Callable[[float], float], low: float, high: float) -> float:
    """Where a function that goes from below 0 at `low` to above 0 at `high` is 0, as well as doubles can say."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        low, high = (middle, high) if rises(middle) < 0 else (low, middle)


@lru_cache(maxsize=64)
def _bends(cubic: float) -> tuple[float, float]:
    """(where f'' changes its sign right of 0, where f' = 0).

    f'' = sigmoid' (2 (1 + 6 m x^2) - x (1 + 3 m x^2)^2 tanh(t/2)), t = x + m x^3, is even, and the quotient of its two terms increases
    for x > 0: so it changes its sign once there. f'/sigmoid(t) = 1 + x (1 + 3 m x^2) sigmoid(-t), and f' increases between the inflections.
    """
    m = cubic

    def bend(x: float) -> float:
        return x * (1 + 3 * m * x * x) ** 2 / (1 + 6 * m * x * x) * math.tanh((x + m * x**3) / 2) - 2

    def slope(x: float) -> float:
        return 1 + x * (1 + 3 * m * x * x) / (1 + math.exp(x + m * x**3))

    right = bisect(bend, 0.0, 4.0)
    return right, bisect(slope, -right, 0.0)


def swish(cubic: float = 0.0) -> Smooth:
    """x sigmoid(x + m x^3) for 0 <= m <= 1. m = 0: SiLU. GELU's tanh form is f(2 w x) / (2 w), w = sqrt(2/pi), m = 0.044715 / (4 w^2)."""
    if not 0 <= cubic <= 1:
        raise MalformedGraph(f"x sigmoid(x + {cubic} x^3) does not bend as a Swish does")
    right, lowest = _bends(cubic)
    return Smooth(
        "swish",
        partial(_value, cubic),
        partial(_derivative, cubic),
        inflections=(-right, right),
        convex_first=False,
        stationary=(lowest,),
        range=(-0.278465, np.inf),
        parameter=cubic,
    )
