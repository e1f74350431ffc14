"""HardSwish: x times a ramp from 0 to 1."""

from functools import partial

import numpy as np

from graph.errors import MalformedGraph
from graph.functions.facts import Array, Smooth


def _value(shift: float, x: Array) -> Array:
    return np.asarray(x * np.clip(x + np.asarray(shift, dtype=x.dtype), 0, 1))


def _derivative(shift: float, x: Array) -> Array:
    b, one = np.asarray(shift, dtype=x.dtype), np.asarray(1, dtype=x.dtype)
    return np.asarray(np.where(x < -b, 0 * one, np.where(x > 1 - b, one, 2 * x + b)))


def hard_swish(shift: float) -> Smooth:
    """x clip(x + shift, 0, 1) for 0 <= shift <= 1: 0, then a parabola, then x. At both joints the slope falls. (ONNX: HardSwish(x) = 6 f(x/6),
    shift 1/2.)"""
    if not 0 <= shift <= 1 or shift % 2.0**-24:  # so that float32 holds both joints
        raise MalformedGraph(f"x clip(x + {shift}, 0, 1) does not bend as a HardSwish does")
    return Smooth(
        "hard_swish",
        partial(_value, shift),
        partial(_derivative, shift),
        inflections=(-shift, 1 - shift),
        convex_first=False,
        stationary=(-shift / 2,),
        range=(-shift * shift / 4 - 1e-6, np.inf),
        parameter=shift,
        straight=(0, 2),
    )
