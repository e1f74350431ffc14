"""Slopes of convex hulls: which planes a linear program needs for a function to be relaxed as tightly as planes can.

Only slopes are chosen here. Offsets come from `bounds.relaxation`, which proves them for any slope, so nothing in this file can
make a plane wrong, only loose.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds import relaxation
from bounds.functions import torch_function
from graph.functions.facts import Function, Pieces, Smooth

Array = NDArray[Any]

TANGENTS = 5  # points at which a smooth function gives its slope to the planes of both sides


def elementwise_slopes(function: Function, lower: Array, upper: Array, side: int) -> Array:
    """Slopes [K, size] of planes below (side 1) or above (side -1) `function` over [lower, upper].

    Straight pieces: the edges of the convex hull of the graph, so that the planes are the hull (for ReLU the triangle of Ehlers 2017).
    Smooth: the slopes at `TANGENTS` points, the chord and the default slope, an envelope that is near the hull.
    """
    if isinstance(function, Pieces):
        return _edges(function, lower, upper, side)
    return _tangents(function, lower, upper, side)


def _edges(function: Pieces, lower: Array, upper: Array, side: int) -> Array:
    """Walks along the hull from `lower` to `upper`: the next corner is the one that is reached with the least slope."""
    x = np.stack([lower, upper, *(np.clip(b, lower, upper) for b in function.breakpoints)])
    y = np.stack([_extreme(function, point, lower, upper, side) for point in x])
    at, height, slope = lower, y[0], np.zeros_like(lower)
    edges: list[Array] = []
    while bool((at < upper).any()) or not edges:
        run = x - at
        rise = np.where(run > 0, (y - height) / np.where(run > 0, run, 1.0), np.inf)
        place = rise.argmin(axis=0)[None]
        going = at < upper
        slope = np.where(going, side * np.take_along_axis(rise, place, 0)[0], slope)
        at = np.where(going, np.take_along_axis(x, place, 0)[0], at)
        height = np.where(going, np.take_along_axis(y, place, 0)[0], height)
        edges.append(slope)
    return np.stack(edges)


def _extreme(function: Pieces, x: Array, lower: Array, upper: Array, side: int) -> Array:
    """side * f(x), or the least that side * f comes near to at x where it jumps there."""
    least = side * function.value(x)
    for i, b in enumerate(function.breakpoints):
        left, right = (side * (function.slopes[k] * b + function.intercepts[k]) for k in (i, i + 1))
        least = np.where((x == b) & (lower < b), np.minimum(least, left), least)
        least = np.where((x == b) & (upper > b), np.minimum(least, right), least)
    return np.asarray(least)


def _tangents(function: Smooth, lower: Array, upper: Array, side: int) -> Array:
    low, high = torch.from_numpy(lower), torch.from_numpy(upper)
    form = torch_function(function)
    default = relaxation.default_slopes(function, low, high)[0 if side > 0 else 1]
    width = torch.where(high > low, high - low, 1.0)
    slopes = [default, (form.value(high) - form.value(low)) / width]
    slopes += [form.derivative(low + share * (high - low)) for share in torch.linspace(0, 1, TANGENTS).tolist()]
    return torch.stack([torch.where(s.isfinite(), s, default) for s in slopes]).numpy()


def max_slopes(lower: Array, upper: Array) -> Array:
    """Slopes [k + 1, m, k] of the planes that are the upper hull of max(x_1..x_k) over boxes [m, k]; padded places have bounds -inf.

    Over the corners of the box the hull is a fractional knapsack: with t_j = (x_j - lower_j) / (upper_j - lower_j) and L the largest
    lower bound, it is the largest sum of p_j (upper_j - L) with 0 <= p_j <= t_j and sum of p_j <= 1. Its dual has one variable, whose
    optimum is 0 or one of the upper_j - L.
    """
    real = lower > -np.inf
    low, high = np.where(real, lower, 0.0), np.where(real, upper, 0.0)
    gain = np.where(real, np.maximum(upper - lower.max(axis=-1, keepdims=True), 0.0), 0.0)
    prices = np.concatenate([np.zeros((1, len(gain))), gain.T])
    width = np.where(high > low, high - low, 1.0)
    return np.where(high > low, np.maximum(gain - prices[..., None], 0.0) / width, 0.0)
