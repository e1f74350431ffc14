"""Heuristics: default slopes, guesses where a tangent touches, how far to tilt a form, of what to ask for better bounds. They decide how tight a
bound is, never whether it holds.

Not part of the kernel. Only exact operations and the kernels' own functions, so that every machine finds the same slopes (sin and cos
use libm for a guess).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from verifier.checker import activations, kernels, shapes
from verifier.checker.arithmetic import Array
from verifier.checker.network import Function, Pieces, Smooth

TINY = 2.0**-900
TWIN_REACH = 0.45  # of a maximum's own width, where its upper plane turns into a constant
STEEPNESS = 8.0  # of the way from one piece's slope to the other's, where a kink is near the middle of the bounds
TANH_GELU, GELU = 0.0175594, 2.2567583  # x (1 + erf x) / 2 is about f(2.2567583 x) / 2.2567583 with this swish
Offset = Callable[[Function, Array, Array, Array, int], Array]  # function, slope, lower, upper, side -> rigorous least of side (f - slope x)


def default(function: Function, lower: Array, upper: Array, offset: Offset) -> tuple[Array, Array]:
    """Finite slopes (lower, upper). Straight pieces: the line of least area among the pieces and the chords between corners, which is CROWN's
    choice for ReLU (Zhang et al. 2018); with a kink at 0 it rises from one piece's slope to the other's where they cut off nearly the same.
    Smooth: the tangent at the midpoint where f curves towards the plane, the chord where it curves away, else the tangent through the far
    end, or the chord where that touches beyond the interval. Gates: the line of least area among the chord, the tangents at the midpoint and in
    the middle of where f is convex, and those through either end."""
    if isinstance(function, Smooth) and function.name in activations.GATES:
        pair = _least_of(function, _gate_slopes(function, lower, upper), lower, upper, offset)
    elif isinstance(function, Smooth):
        pair = _smooth(function, lower, upper)
    elif (kink := shapes.kink(function)) == (0.0, 1.0):
        low, high = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
        return _rising(lower, upper), high / np.maximum(high - low, TINY)
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


def share_of_twin(lower: Array, upper: Array, least: Array, most: Array) -> Array:
    """How much, cut off at 0 and 1, of the upper plane of max(a, b), of bounds [least, most], is that of b + relu(a - b), a - b in [lower, upper]:
    all where the chord of the relu is off by little of the maximum's own width. The rest is `most`."""
    high, low = np.maximum(upper, 0.0), np.maximum(-lower, 0.0)
    excess = high * (low / np.maximum(high + low, TINY))
    return np.asarray(0.5 + STEEPNESS * (TWIN_REACH - excess / np.maximum(most - least, TINY)))


# ---------------------------------------------------------------- straight pieces


def _kink(slopes: tuple[float, float], lower: Array, upper: Array) -> tuple[Array, Array]:
    left, right = slopes
    chord = (right * upper - left * lower) / np.maximum(upper - lower, TINY)
    share = _rising(lower, upper)
    between = np.where(share == 1, right, left + (right - left) * share)  # left and right themselves are exact
    chord, steady = (np.where(lower >= 0, right, np.where(upper <= 0, left, x)) for x in (chord, between))
    return (steady, chord) if left <= right else (chord, steady)


def _rising(lower: Array, upper: Array) -> Array:
    """0 where most of [lower, upper] is below 0, 1 where most is above; in between it rises steadily, so that bounds that differ by roundings get
    slopes that do."""
    share = np.clip(0.5 + STEEPNESS * (upper + lower) / np.maximum(upper - lower, TINY), 0.0, 1.0)
    return np.asarray(np.where(lower >= 0, 1.0, np.where(upper <= 0, 0.0, share)))


def _least_area(function: Pieces, lower: Array, upper: Array, offset: Offset) -> tuple[Array, Array]:
    """The candidates whose planes are nearest to f at the midpoint: they cut off the least area. Ties go to the first."""
    candidates = [np.full(lower.shape, s) for s in dict.fromkeys(function.slopes or (0.0, 1.0))] + _chords(function, lower, upper)
    return _least_of(function, candidates, lower, upper, offset)


def _least_of(function: Function, candidates: list[Array], lower: Array, upper: Array, offset: Offset) -> tuple[Array, Array]:
    middle, found = lower / 2 + upper / 2, []
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
        case "elu":
            return np.where((a > 1) & (p <= 1), end, np.minimum(_log(b / p), 0.0))
        case "hard_swish":
            return (a - p) / 2
        case "gelu" | "swish" | "mish":
            return _touch_gate(function.name, p, a, start, end)
        case "atan" | "asinh" | "softsign" | "tan" | "asin" | "atanh" | "sinh" | "cosh" | "acosh":
            return _touch_inverse(function.name, a, sign)
    turn = 0.0 if function.name == "sin" else math.pi / 2  # cos x = sin(x + pi/2)
    k = np.floor((start / 2 + end / 2 + turn) / math.pi)
    return np.asarray(k * math.pi + np.arccos(np.clip(np.where(k % 2 == 0, a, -a), -1.0, 1.0)) - turn)


def _touch_inverse(name: str, a: Array, sign: Array) -> Array:
    low, high = np.minimum(np.maximum(a, TINY), 1.0), np.maximum(a, 1.0)
    match name:
        case "atan":
            return sign * np.sqrt(1 / low - 1)
        case "asinh":
            return sign * np.sqrt(1 / (low * low) - 1)
        case "softsign":
            return sign * (1 / np.sqrt(low) - 1)
        case "tan":
            return sign * np.minimum(activations.value("atan", 0.0, np.sqrt(high - 1))[0], 1.5707963)
        case "asin":
            return sign * np.minimum(np.sqrt(1 - 1 / (high * high)), 1 - 2.0**-40)
        case "atanh":
            return sign * np.sqrt(1 - 1 / high)
        case "sinh":
            return sign * activations.value("acosh", 0.0, np.minimum(high, 1e150))[0]
        case "cosh":
            return activations.value("asinh", 0.0, np.clip(a, -1e150, 1e150))[0]
    return np.sqrt(1 + 1 / np.square(np.maximum(a, 1e-150))) + 2.0**-40  # acosh


def _touch_gate(name: str, p: float, a: Array, start: Array, end: Array) -> Array:
    """Newton's method between two ends, or halves of what is between them; beyond 16 a gate is nearly straight. GELU first as about a swish."""
    if name == "gelu":
        x = _touch_gate("swish", TANH_GELU, a, GELU * start, GELU * end) / GELU
        for _ in range(5):
            slope, bend = _bent(name, p, np.clip(x, -6.0, 6.0))
            x = np.where(np.abs(x) < 6, x - np.clip((slope - a) / np.where(bend == 0, TINY, bend), -0.5, 0.5), x)
        return x
    low, high = (np.clip(e, -16.0, 16.0) + np.zeros(a.shape) for e in (start, end))
    x = low / 2 + high / 2
    rising, first, last = _bent(name, p, x)[1] > 0, _bent(name, p, low)[0], _bent(name, p, high)[0]
    at_start, at_end = np.where(rising, first >= a, first <= a), np.where(rising, last <= a, last >= a)
    for _ in range(10):
        slope, bend = _bent(name, p, x)
        below = (slope < a) == rising
        low, high = np.where(below, x, low), np.where(below, high, x)
        guess = x - (slope - a) / np.where(bend == 0, TINY, bend)
        x = np.where((guess >= low) & (guess <= high), guess, low / 2 + high / 2)
    return np.where(at_start, start, np.where(at_end, end, x))


def _bent(name: str, p: float, x: Array) -> tuple[Array, Array]:
    """About f' and f'' of a gate, |x| <= 16 (swish: 40)."""
    match name:
        case "gelu":
            return _steep(name, p, x), (1 - x * x) * kernels.derivative("erf", 0.0, x)[0]
        case "swish":
            t, rise = x + p * x * x * x, 1 + 3 * p * x * x
            s = kernels.value("sigmoid", 0.0, t)[0]
            return s + x * rise * s * (1 - s), s * (1 - s) * (2 * rise + 6 * p * x * x + x * rise * rise * (1 - 2 * s))
    t = kernels.value("exp", 0.0, x)[0]
    n = t * t + 2 * t + 2
    return _steep(name, p, x), 4 * t * (2 * (t + 1) * n + x * (2 + 2 * t - 3 * t * t - 2 * t * t * t)) / (n * n * n)


def _steep(name: str, p: float, x: Array) -> Array:
    return activations.derivative(name, p, x)[0]


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
    tangent = activations.derivative(function.name, function.parameter, low / 2 + high / 2)[0]
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
    rise = activations.value(function.name, function.parameter, y)[0] - activations.value(function.name, function.parameter, x)[0]
    return np.asarray(rise / np.where(x == y, 1.0, y - x))


def _is_convex(function: Smooth, x: Array, passed: np.ufunc) -> Array:
    """Whether f is convex right of x (passed: >=) or left of it (>)."""
    cuts, first = shapes.curvature(function)
    if shapes.is_periodic(function):
        return np.asarray((np.floor((x - cuts[0]) / math.pi) % 2 == 1) != first)
    return np.full(x.shape, first) if not cuts else np.asarray(passed(x, cuts[0]) != first)


def _gate_slopes(function: Smooth, lower: Array, upper: Array) -> list[Array]:
    shapes.defined(function, lower, upper)
    name, p, (left, right) = function.name, function.parameter, shapes.curvature(function)[0]
    narrow = upper - lower <= 2.0**-24 * (np.abs(lower) + np.abs(upper)) + 2.0**-40
    inner = np.minimum(np.clip(lower, left, right), upper) / 2 + np.maximum(np.clip(upper, left, right), lower) / 2
    tangents = [_steep(name, p, x) for x in (lower / 2 + upper / 2, inner)]
    lines = [_chord(function, lower, upper), _through(function, lower, upper), _through(function, upper, lower)]
    return [*tangents, *(np.where(narrow, tangents[0], line) for line in lines)]
