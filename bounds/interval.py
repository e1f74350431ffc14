"""Interval bounds of a core graph in float64 numpy, without torch: enough to decide trivial instances quickly.

Rigorous over the reals (ARITHMETIC 4): every step is widened by a bound of its own rounding. A number that overflows or
a function used outside its domain ends as infinity or NaN and stays one; a caller must treat any bound that is not finite
as nothing proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bounds.accuracy import accuracy
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max
from graph.functions.facts import Function, Pieces, Smooth, Stairs, Steps
from graph.linear_map import LinearMap

Array = NDArray[Any]
Interval = tuple[Array, Array]

UNIT = 2.0**-53
OWN_ROUNDINGS = 8  # units of rounding for the few + - * around one evaluation of f
TINY = 2.0**-1020


def propagate(graph: Graph, lower: Array, upper: Array) -> list[Interval]:
    """(lower, upper) of every node, [B, size] float64 each, for the boxes `lower` <= x <= `upper`, both [B, n_in].

    n_in is the total size of the graph inputs, in their order. Raises ValueError where the box does not fit the inputs.
    """
    sizes = [graph.nodes[i].size for i in graph.inputs]
    if lower.ndim != 2 or lower.shape != upper.shape or lower.shape[1] != sum(sizes):
        raise ValueError(f"boxes of shape {lower.shape} and {upper.shape} for a network with {sum(sizes)} inputs")
    ends = np.cumsum(sizes)
    places = {i: slice(e - n, e) for i, n, e in zip(graph.inputs, sizes, ends, strict=True)}
    states: list[Interval] = []
    with np.errstate(all="ignore"):  # what overflows becomes infinite or NaN, and proves nothing
        for i, node in graph:
            inputs = [states[j] for j in node.inputs]
            match node:
                case Input():
                    states.append((lower[:, places[i]].astype(np.float64), upper[:, places[i]].astype(np.float64)))
                case Constant(value=value):
                    row = np.broadcast_to(value.astype(np.float64), (lower.shape[0], node.size))
                    states.append((row, row))
                case Affine(maps=maps, bias=bias):
                    states.append(_affine(maps, bias, inputs))
                case Elementwise(function=function):
                    states.append(elementwise(function, *inputs[0]))
                case Bilinear(kind="mul"):
                    states.append(_product(*inputs))
                case Bilinear(kind="matmul"):
                    states.append(_matmul(inputs[0], inputs[1], graph.nodes[node.inputs[0]].shape, graph.nodes[node.inputs[1]].shape))
                case Max(windows=windows):
                    states.append((_window_max(inputs[0][0], windows), _window_max(inputs[0][1], windows)))
                case _:
                    raise NotImplementedError(f"no interval rule for node {i}, a {type(node).__name__}")
    return states


def concretise(rows: Array, constant: Array, lower: Array, upper: Array) -> Array:
    """A lower bound [B, R] of rows v + constant over lower <= v <= upper; rows [R, n], constant [R], boxes [B, n].

    v is whatever the rows speak of, usually outputs followed by inputs.
    """
    with np.errstate(all="ignore"):
        centre, spread = _centre(lower, upper)
        value = centre @ rows.T + constant
        magnitude = np.abs(centre) @ np.abs(rows).T + np.abs(constant)
        radius = spread @ np.abs(rows).T
        radius = radius + _gamma(rows.shape[1] + 4) * (radius + magnitude) + _underflow(rows.shape[1], lower, upper)
        return np.asarray(np.nextafter(value - np.nextafter(radius, np.inf), -np.inf))


# ---------------------------------------------------------------- affine nodes


def _affine(maps: Sequence[LinearMap], bias: Array | None, inputs: Sequence[Interval]) -> Interval:
    """z +- radius with z = W c + b and radius = |W| rho + G(n + 4)(|W| rho + |W||c| + |b|) + underflow; where no weight is negative, also not
    below W l + b less G(n + 4)(W |l| + |b|) + underflow."""
    if bias is None and len(maps) == 1 and maps[0].is_exact:
        a, b = maps[0].apply(inputs[0][0]), maps[0].apply(inputs[0][1])
        return np.minimum(a, b), np.maximum(a, b)
    start = np.zeros(maps[0].out_size) if bias is None else bias.astype(np.float64)
    value, magnitude, radius = start, np.abs(start), np.zeros_like(start)
    underflow, terms = np.zeros(1), 4
    for m, (lower, upper) in zip(maps, inputs, strict=True):
        centre, spread = _centre(lower, upper)
        value = value + m.apply(centre)
        both = m.abs_apply(np.stack([spread, np.abs(centre)]))
        radius, magnitude = radius + both[0], magnitude + both[1]
        underflow = underflow + _underflow(m.fan_in(), lower, upper)
        terms += m.fan_in() + 1
    radius = radius + _gamma(terms) * (radius + magnitude) + underflow
    radius = np.nextafter(radius, np.inf)
    low, high = np.nextafter(value - radius, -np.inf), np.nextafter(value + radius, np.inf)
    if not all(m.adds for m in maps):
        return low, high
    # A sum of what is small where it is least loses little there, however large it may be: the sum of a softmax stays above 0.
    ends = np.stack([start, np.abs(start)])[:, None]
    for m, (lower, _) in zip(maps, inputs, strict=True):
        ends = ends + m.apply(np.stack([lower, np.abs(lower)]))
    least = np.nextafter(ends[0] - (_gamma(terms) * ends[1] + underflow), -np.inf)
    return np.where(least > low, least, low), high


def _centre(lower: Array, upper: Array) -> tuple[Array, Array]:
    """(c, rho) with [lower, upper] inside [c - rho, c + rho]."""
    centre = lower / 2 + upper / 2
    spread = np.maximum(np.nextafter(upper - centre, np.inf), np.nextafter(centre - lower, np.inf))
    return centre, np.where(lower == upper, np.abs(upper - centre), spread)


def _gamma(terms: int) -> float:
    """G(m): more than twice the relative error of a sum of m products, so that it needs no directed rounding itself."""
    return (terms + 4) * 2.0**-52


def _underflow(terms: int, lower: Array, upper: Array) -> Array:
    """T(m, H) per box [B, 1]."""
    largest = np.maximum(np.abs(lower), np.abs(upper)).sum(axis=-1, keepdims=True)
    return np.asarray((2 * terms + 8) * 2.0**-1022 * (1 + largest))


# ---------------------------------------------------------------- functions of one variable


def elementwise(function: Function, lower: Array, upper: Array) -> Interval:
    """low <= f(x) <= high for every real x in [lower, upper]; NaN where f is not defined on all of it."""
    low, high = _pieces(function, lower, upper) if isinstance(function, Pieces) else _smooth(function, lower, upper)
    unknown = np.isnan(lower) | np.isnan(upper)
    return np.where(unknown, np.nan, low), np.where(unknown, np.nan, high)


def _pieces(function: Pieces, lower: Array, upper: Array) -> Interval:
    """The ends of every piece that meets the interval, and the value at every breakpoint inside it."""
    if isinstance(function, Stairs):  # it never falls, and whole numbers are exact
        return function.value(lower), function.value(upper)
    low, high = np.full_like(lower, np.inf), np.full_like(lower, -np.inf)
    bounds = (-np.inf, *function.breakpoints, np.inf)
    for i, (slope, intercept) in enumerate(zip(function.slopes, function.intercepts, strict=True)):
        entered = (lower <= upper) & (upper > bounds[i]) & (lower < bounds[i + 1])
        exact = abs(slope) in (0.0, 1.0) and 0.0 in (slope, intercept)
        for x in (np.maximum(lower, bounds[i]), np.minimum(upper, bounds[i + 1])):
            line = slope * x if slope else np.zeros_like(x)  # also at infinity
            y = line + intercept
            error = 0.0 if exact else OWN_ROUNDINGS * UNIT * (np.abs(line) + abs(intercept)) + TINY
            low = np.where(entered, np.minimum(low, y - error), low)
            high = np.where(entered, np.maximum(high, y + error), high)
    for at, value in zip(function.breakpoints, function.values, strict=True):
        inside = (lower <= at) & (upper >= at)
        low, high = np.where(inside, np.minimum(low, value), low), np.where(inside, np.maximum(high, value), high)
    return low, high


def _smooth(function: Smooth, lower: Array, upper: Array) -> Interval:
    """The extremes are at the ends or at stationary points; one that is not a float costs curvature * distance^2."""
    if isinstance(function, Steps):  # it never falls, and whole numbers are exact
        return function.value(lower), function.value(upper)
    facts = accuracy(function)
    points = [lower, upper, *(np.clip(c, lower, upper) for c in _stationary(function, lower))]
    values = [function.value(x) for x in points]
    low, high = np.minimum.reduce(values), np.maximum.reduce(values)
    relative = (facts.value + OWN_ROUNDINGS) * UNIT
    distance = 8 * UNIT * (np.maximum(np.abs(lower), np.abs(upper)) + 2 * (function.period or 0.0))
    absolute = TINY + relative * facts.value_floor + (facts.curvature * distance**2 if facts.curvature else 0.0)
    low = np.maximum(low - relative * np.abs(low) - absolute, function.range[0])
    high = np.minimum(high + relative * np.abs(high) + absolute, function.range[1])
    if function.period is not None:
        wide = upper - lower > function.period
        low, high = np.where(wide, function.range[0], low), np.where(wide, function.range[1], high)
    defined = (lower >= function.domain[0]) & (upper <= function.domain[1])
    for pole in function.poles:
        defined &= (upper < pole) | (lower > pole)
    return np.where(defined, low, np.nan), np.where(defined, high, np.nan)


def _stationary(function: Smooth, lower: Array) -> list[Array]:
    """The stationary points; of a periodic function those in the two periods from the last multiple before `lower`."""
    if function.period is None:
        return [np.full_like(lower, c) for c in function.stationary]
    base = np.floor(lower / function.period) * function.period
    return [base + (c + turn * function.period) for turn in range(2) for c in function.stationary]


# ---------------------------------------------------------------- products and maxima


def _product(x: Interval, y: Interval) -> Interval:
    corners = [a * b for a in x for b in y]
    return np.nextafter(np.minimum.reduce(corners), -np.inf), np.nextafter(np.maximum.reduce(corners), np.inf)


def _matmul(x: Interval, y: Interval, left: tuple[int, ...], right: tuple[int, ...]) -> Interval:
    """Sums over k of the corner products, +- G(k) times the sum of their magnitudes."""
    a = [end.reshape(-1, *left) for end in x]
    b = [end.reshape(-1, *right) for end in y]
    low = high = magnitude = np.zeros((a[0].shape[0], *left[:-1], right[-1]))
    for k in range(left[-1]):
        corners = [p[..., :, k, None] * q[..., None, k, :] for p in a for q in b]
        least, greatest = np.minimum.reduce(corners), np.maximum.reduce(corners)
        low, high, magnitude = low + least, high + greatest, magnitude + np.maximum(np.abs(least), np.abs(greatest))
    error = _gamma(left[-1] + 2) * magnitude + left[-1] * TINY
    return (low - error).reshape(low.shape[0], -1), (high + error).reshape(low.shape[0], -1)


def _window_max(x: Array, windows: Array) -> Array:
    return np.asarray(np.where(windows >= 0, x[..., np.maximum(windows, 0)], -np.inf).max(axis=-1))
