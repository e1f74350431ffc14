"""Heuristics: default slopes, guesses where a tangent touches, and how far to tilt a form. They decide how tight a bound is, never whether it holds.

Not part of the kernel. Only exact operations and the kernels' own functions, so that every machine finds the same slopes (sin and cos
use libm for a guess).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from verifier.checker import kernels, shapes
from verifier.checker.arithmetic import Array
from verifier.checker.network import Function, Pieces, Smooth

TINY = 2.0**-900
Offset = Callable[[Pieces, Array, Array, Array, int], Array]  # function, slope, lower, upper, side -> rigorous least of side (f - slope x)


def default(function: Function, lower: Array, upper: Array, offset: Offset) -> tuple[Array, Array]:
    """Finite slopes (lower, upper). Straight pieces: the line of least area among the pieces and the chords between corners, which is CROWN's
    choice for ReLU (Zhang et al. 2018). Smooth: the tangent at the midpoint where f curves towards the plane, the chord where it curves
    away, else the tangent through the far end, or the chord where that touches beyond the interval."""
    if isinstance(function, Smooth):
        pair = _smooth(function, lower, upper)
    elif (kink := shapes.kink(function)) == (0.0, 1.0):
        low, high = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
        return (upper > -lower).astype(np.float64), high / np.maximum(high - low, TINY)
    else:
        pair = _least_area(function, lower, upper, offset) if kink is None else _kink(kink, lower, upper)
    return np.where(np.isfinite(pair[0]), pair[0], 0.0), np.where(np.isfinite(pair[1]), pair[1], 0.0)


def multiplier(lines: Array, a: Array, b: Array, lower: Array, upper: Array) -> Array:
    """About the m >= 0 [B, R] for which the least value of (lines + m a) . x + m b over a box is greatest, 0 where more is worse.

    lines [B, R, n]; a [B, 1, n]; b [B, 1]; boxes [B or 1, n]. A fractional knapsack (Dantzig 1957): the derivative in m is a . x + b
    at the minimiser x, and falls by |a_i| (upper_i - lower_i) where coefficient i changes its sign.
    """
    low, high = lower[:, None], upper[:, None]
    with np.errstate(all="ignore"):
        least = np.where(lines == 0, np.minimum(a * low, a * high), a * np.where(lines > 0, low, high))
        slope, turn = least.sum(-1) + b, -lines / a
        turns = np.isfinite(turn) & (turn > 0)
        turn = np.where(turns, turn, np.inf)
        order = np.argsort(turn, -1)
        drop = np.take_along_axis(np.where(turns, np.abs(a) * (high - low), 0.0), order, -1)
        first = np.minimum((slope[..., None] > np.cumsum(drop, -1)).sum(-1, keepdims=True), turn.shape[-1] - 1)
        m = np.take_along_axis(turn, np.take_along_axis(order, first, -1), -1)[..., 0]
        usable = (slope > 0) & (m * np.abs(a).max(-1) < 1 / TINY)  # far from overflow
    return np.where(usable, m, 0.0)


# ---------------------------------------------------------------- straight pieces


def _kink(slopes: tuple[float, float], lower: Array, upper: Array) -> tuple[Array, Array]:
    left, right = slopes
    chord = (right * upper - left * lower) / np.maximum(upper - lower, TINY)
    chord, steady = (
        np.where(lower >= 0, right, np.where(upper <= 0, left, x)) for x in (chord, np.where(upper > -lower, right, left))
    )
    return (steady, chord) if left <= right else (chord, steady)


def _least_area(function: Pieces, lower: Array, upper: Array, offset: Offset) -> tuple[Array, Array]:
    """The candidates whose planes are nearest to f at the midpoint: they cut off the least area. Ties go to the first."""
    middle, found = lower / 2 + upper / 2, []
    candidates = [np.full(lower.shape, s) for s in dict.fromkeys(function.slopes or (0.0, 1.0))] + _chords(function, lower, upper)
    for side in (1, -1):
        best, height = candidates[0], np.full(lower.shape, -np.inf)
        for slope in candidates:
            usable = np.where(np.isfinite(slope), slope, 0.0)
            other = side * usable * middle + offset(function, usable, lower, upper, side)
            best, height = np.where(other > height, usable, best), np.maximum(height, other)
        found.append(best)
    return found[0], found[1]


def _chords(function: Pieces, lower: Array, upper: Array) -> list[Array]:
    """Slopes between any two corners: the ends, and the limits at breakpoints, which move to an end they lie beyond."""
    at = [value(function, x) for x in (lower, upper)]
    points = [(lower, at[0]), (upper, at[1])]
    for i, (b, jumps) in enumerate(zip(function.breakpoints, shapes.jumps(function), strict=True)):
        x = np.minimum(np.maximum(lower, b), upper)
        for k in (i, i + 1) if jumps else (i,):
            limit = function.slopes[k] * b + function.intercepts[k]
            points.append((x, np.where(x == b, limit, np.where(x == lower, at[0], at[1]))))
    return [np.where(x == z, 0.0, (y - w) / np.where(x == z, 1.0, x - z)) for i, (x, y) in enumerate(points) for z, w in points[:i]]


def value(function: Pieces, x: Array) -> Array:
    """About f(x)."""
    if function.step:
        return np.asarray(shapes.WHOLE[function.step](x))
    piece = np.searchsorted(np.array(function.breakpoints), x)
    y = np.asarray(np.array(function.slopes)[piece] * x + np.array(function.intercepts)[piece])
    for b, v in zip(function.breakpoints, function.values, strict=True):
        y = np.where(x == b, v, y)
    return y


# ---------------------------------------------------------------- smooth functions


def touch(function: Smooth, a: Array, start: Array, end: Array) -> Array:
    """About where f' = a on a piece [start, end] of one curvature; for slopes that f' does not take: beyond the right end, or nonsense."""
    p, b, sign = function.parameter, np.maximum(a, TINY), np.where(start + end > 0, 1.0, -1.0)
    match function.name:
        case "exp":
            return _log(b)
        case "log":
            return 1 / b
        case "sqrt":
            return np.maximum(1 / (4 * b * b), end * 2.0**-60)
        case "reciprocal":
            return sign / np.sqrt(np.maximum(-a, TINY))
        case "sigmoid" | "tanh":
            b = np.minimum(4 * b if function.name == "sigmoid" else b, 1.0)
            r = _log((1 + np.sqrt(1 - b)) ** 2 / b)
            return sign * (r if function.name == "sigmoid" else r / 2)
        case "erf":
            return sign * np.sqrt(-_log(np.minimum(b / kernels.TWO_BY_ROOT_PI, 1.0)))
        case "softplus":
            b = np.minimum(b, 1 - kernels.U)
            return _log(b / (1 - b))
        case "pow":
            return _touch_power(p, a, sign)
    turn = 0.0 if function.name == "sin" else math.pi / 2  # cos x = sin(x + pi/2)
    k = np.floor((start / 2 + end / 2 + turn) / math.pi)
    return np.asarray(k * math.pi + np.arccos(np.clip(np.where(k % 2 == 0, a, -a), -1.0, 1.0)) - turn)


def _touch_power(p: float, a: Array, sign: Array) -> Array:
    if p == 2:
        return a / 2
    even = p % 2 == 0
    sign = np.sign(a / p) if even and p > 0 else np.where(float(p).is_integer(), sign, 1.0)
    size = np.maximum(sign * a / p if even else a / p, TINY)
    return sign * kernels.value("exp", 0.0, np.clip(_log(size) / (p - 1), -600.0, 600.0))[0]


def _log(x: Array) -> Array:
    return kernels.value("log", 0.0, x)[0]


def _smooth(function: Smooth, lower: Array, upper: Array) -> tuple[Array, Array]:
    shapes.defined(function, lower, upper)
    far = shapes.is_periodic(function) & (upper - lower > math.pi)
    low, high = np.where(far, 0.0, lower), np.where(far, 0.0, upper)
    tangent = kernels.derivative(function.name, function.parameter, low / 2 + high / 2)[0]
    narrow = high - low <= 2.0**-24 * (np.abs(low) + np.abs(high)) + 2.0**-40
    chord = np.where(narrow, tangent, _chord(function, low, high))
    left, right = _is_convex(function, low, np.greater_equal), _is_convex(function, high, np.greater)
    mixed, found = (left != right) & ~narrow, []
    for side in (1, -1):
        slope = np.where(left == (side > 0), tangent, chord)
        if mixed.any():
            onward = (right == (side > 0))[mixed]  # f curves towards the plane at the upper end: the line goes through the lower one
            ends = low[mixed], high[mixed]
            slope[mixed] = _through(function, np.where(onward, *ends), np.where(onward, *ends[::-1]))
        found.append(np.where(far, 0.0, slope))
    return found[0], found[1]


def _through(function: Smooth, anchor: Array, end: Array) -> Array:
    """The slope of the line through the anchor that touches f near `end`, or meets it there: to where f' is the chord's slope, again and again."""
    at = end
    for _ in range(5):
        guess = touch(function, _chord(function, anchor, at), end, end)
        at = np.clip(np.where(np.isnan(guess), at, guess), np.minimum(anchor, end), np.maximum(anchor, end))
    return _chord(function, anchor, at)


def _chord(function: Smooth, x: Array, y: Array) -> Array:
    rise = kernels.value(function.name, function.parameter, y)[0] - kernels.value(function.name, function.parameter, x)[0]
    return np.asarray(rise / np.where(x == y, 1.0, y - x))


def _is_convex(function: Smooth, x: Array, passed: np.ufunc) -> Array:
    """Whether f is convex right of x (passed: >=) or left of it (>)."""
    cut, first = shapes.curvature(function)
    if shapes.is_periodic(function):
        return np.asarray((np.floor((x - (cut or 0.0)) / math.pi) % 2 == 1) != first)
    return np.full(x.shape, first) if cut is None else np.asarray(passed(x, cut) != first)
