"""Tangent, on its branch around 0."""

import numpy as np

from graph.functions.facts import Array, Smooth

END = float.fromhex("0x1.921fb4p+0")  # the largest float32 below pi/2


def _derivative(x: Array) -> Array:
    y = np.tan(x)
    return np.asarray(1 + y * y)


def tan() -> Smooth:
    """tan(x) for |x| <= END. Beyond lie poles; other branches are not supported."""
    return Smooth("tan", np.tan, _derivative, inflections=(0.0,), convex_first=False, domain=(-END, END))
