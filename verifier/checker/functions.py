"""Functions of one variable: intervals, and rigorous offsets for any slopes (ARITHMETIC 6).

f(x) >= slope_lower x + offset_lower and f(x) <= slope_upper x + offset_upper for every real x in [lower, upper]. Slopes are data from any
source. `side` is 1 for bounds from below, -1 for bounds from above, which are those of -f from below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from verifier.checker import activations, shapes, slopes
from verifier.checker.arithmetic import SMALLEST, Array, dn, finite, up
from verifier.checker.network import Function, Pieces, Smooth

TINY = 2.0**-1010
UNITS = 2.0**-50  # 8 u
FAR_STEP, FAR_TURN = 2.0**50, 2.0**19  # beyond, a step function is known to lie near x, and sin and cos in [-1, 1]
TURN = math.nextafter(2 * math.pi, math.inf)  # 2 pi, not less


@np.errstate(all="ignore")
def interval(function: Function, lower: Array, upper: Array, widen: float = 0.0) -> tuple[Array, Array]:
    """low <= f(x) <= high on [lower, upper]."""
    if isinstance(function, Smooth):
        low, high = _smooth_interval(function, lower, upper)
        return finite(low, function.name), finite(high, function.name)
    if shapes.kink(function) == (0.0, 1.0):
        return np.maximum(lower, 0.0), np.maximum(upper, 0.0)
    if function.step:
        low, high = (np.asarray(shapes.WHOLE[function.step](x)) for x in _read(function, lower, upper, widen))
        return low, high
    flat = np.zeros_like(lower)
    return offsets(function, flat, flat, lower, upper, widen)


@np.errstate(all="ignore")
def offsets(function: Function, slope_lower: Array, slope_upper: Array, lower: Array, upper: Array, widen: float = 0.0) -> tuple[Array, Array]:
    """(offset_lower, offset_upper) for any finite slopes that broadcast with the ends."""
    if isinstance(function, Smooth):
        low, high = _smooth_offset(function, slope_lower, lower, upper, 1), -_smooth_offset(function, slope_upper, lower, upper, -1)
    elif shapes.kink(function) == (0.0, 1.0) and _is_usual(slope_lower, slope_upper):
        low, high = _relu_offsets(slope_lower, slope_upper, lower, upper)
        return low, finite(high, "offset")
    else:
        low, high = (side * _pieces_offset(function, a, lower, upper, side, widen) for side, a in ((1, slope_lower), (-1, slope_upper)))
    return finite(low, "offset"), finite(high, "offset")


@np.errstate(all="ignore")
def default_slopes(function: Function, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Finite slopes, exact where f is one straight piece."""
    return slopes.default(function, lower, upper, _offset)


def _offset(function: Function, a: Array, lower: Array, upper: Array, side: int) -> Array:
    """At most side (f(x) - a x)."""
    rule = _smooth_offset if isinstance(function, Smooth) else _pieces_offset
    return rule(function, a, lower, upper, side)  # type: ignore[arg-type]


def is_linear(function: Function, lower: Array, upper: Array) -> Array:
    """Mask: f is one straight piece over [lower, upper]."""
    if isinstance(function, Smooth):
        return np.asarray(lower == upper)
    if function.step:
        return np.asarray((shapes.jumps_around(function.step, lower)[2] > upper) & (upper < FAR_STEP) & (lower > -FAR_STEP))
    inside = np.zeros(lower.shape, dtype=bool)
    for b, jumps in zip(function.breakpoints, shapes.jumps(function), strict=True):
        inside |= (lower <= b) & (upper >= b) if jumps else (lower < b) & (upper > b)
    return ~inside


# ---------------------------------------------------------------- straight pieces


def _read(function: Pieces, lower: Array, upper: Array, widen: float) -> tuple[Array, Array]:
    """The interval that a function reads: wider for one that jumps, if float32 may flush its argument to zero."""
    if widen == 0.0 or not (function.step or any(shapes.jumps(function))):
        return lower, upper
    return dn(lower - widen, SMALLEST), up(upper + widen, SMALLEST)


def _least(side: int, d: Array, x: Array | float, c: Array | float = 0.0) -> Array:
    """At most side (d x + c), where d was rounded once: 2.1 u |t| and u |v| before, u |result| in the last subtraction. Exact for d = 0."""
    t = d * x
    v = t + c
    return np.asarray(side * v - np.where(d == 0, 0.0, (np.abs(t) + np.abs(v)) * UNITS + TINY))


def _is_usual(slope_lower: Array, slope_upper: Array) -> bool:
    """Slopes in [0, 1]."""
    return bool(all(slope.min() >= 0 and slope.max() <= 1 for slope in (slope_lower, slope_upper)))


def _relu_offsets(a: Array, b: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """relu(x) - a x is -a x for x <= 0 and (1 - a) x for x >= 0, never negative for a in [0, 1]; for a = 0 or 1, and at 0, nothing rounds."""
    low = np.maximum(np.maximum(lower, 0.0) * (1 - a), np.maximum(-upper, 0.0) * a)
    low -= ((a > 0) & (a < 1)) * np.minimum(low, low * UNITS + TINY)
    above = np.maximum(np.maximum(-lower, 0.0) * b, np.maximum(upper, 0.0) * (1 - b))
    above = above * (1 + UNITS) + TINY * ((b > 0) & (b < 1))
    return low, above


def _pieces_offset(function: Pieces, a: Array, lower: Array, upper: Array, side: int, widen: float = 0.0) -> Array:
    """At most side (f(x) - a x): it is least at an end of a piece, or at a limit or value where f jumps."""
    if (kink := shapes.kink(function)) is not None:
        left, right = kink
        least = np.minimum(*(_least(side, np.where(x > 0, right, left) - a, x) for x in (lower, upper)))
        return np.where((lower < 0) & (upper > 0), np.minimum(least, 0.0), least)
    low, high = _read(function, lower, upper, widen)
    if function.step:
        least = _step_offset(function.step, a, low, high, side)
    else:
        least, edges = np.full(np.broadcast(a, low).shape, np.inf), (-np.inf, *function.breakpoints, np.inf)
        for i, (s, c) in enumerate(zip(function.slopes, function.intercepts, strict=True)):
            entered = (high > edges[i]) & (low < edges[i + 1])
            for x in (np.maximum(low, edges[i]), np.minimum(high, edges[i + 1])):
                least = np.minimum(least, np.where(entered, _least(side, s - a, np.where(entered, x, 0.0), c), np.inf))
        for b, v in zip(function.breakpoints, function.values, strict=True):
            least = np.minimum(least, np.where((low <= b) & (high >= b), _least(side, -a, b, v), np.inf))
    if low is lower:
        return least
    return np.where(a == 0, least, dn(least - (1 + UNITS) * (np.abs(a) * widen + TINY)))  # f reads x', |x' - x| <= widen, and a x' is not a x


def _step_offset(step: str, a: Array, lower: Array, upper: Array, side: int) -> Array:
    """At a jump j the limits are j + left and j + right, so f - a x is (1 - a) j + left there: least at the first or the last jump.

    Far out left <= f(x) - x <= right is used. The number of jumps costs nothing."""
    _, left, right = shapes.STEPS[step]
    least = np.minimum(*(_least(side, -a, x, shapes.WHOLE[step](x)) for x in (lower, upper)))
    (_, _, first, after), (before, last, _, _) = shapes.jumps_around(step, lower), shapes.jumps_around(step, upper)
    for start, end, limit in ((after, last, left), (first, before, right)):  # from the left needs lower < j, from the right j < upper
        for j in (start, end):
            least = np.minimum(least, np.where(start <= end, _least(side, 1 - a, j, limit), np.inf))
    crude = np.minimum(*(_least(side, 1 - a, x, left if side > 0 else right) for x in (lower, upper)))
    return np.where((lower > -FAR_STEP) & (upper < FAR_STEP), least, crude)


# ---------------------------------------------------------------- smooth functions


def _smooth_interval(function: Smooth, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Least and largest at the ends, or 0 (even powers), 1 (cosh), in a gate's valley, or -1 and 1 (sin, cos: near a multiple of pi/2)."""
    shapes.defined(function, lower, upper)
    far = shapes.is_periodic(function) & ((lower < -FAR_TURN) | (upper > FAR_TURN))
    ends = [activations.enclose(function.name, function.parameter, np.where(far, 0.0, x)) for x in (lower, upper)]
    low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    if shapes.is_periodic(function):
        start, end, top = lower / math.pi - 2.0**-32, upper / math.pi + 2.0**-32, 0.5 if function.name == "sin" else 0.0  # 2^19 loses 2^-33
        holds = [far | (np.floor((end - at) / 2) >= np.ceil((start - at) / 2)) for at in (top, top + 1)]
        low, high = np.where(holds[1], -1.0, low), np.where(holds[0], 1.0, high)
    elif function.name == "pow" and function.parameter > 0 and function.parameter % 2 == 0:
        low = np.where((lower <= 0) & (upper >= 0), 0.0, np.maximum(low, 0.0))
    elif function.name == "cosh":
        low = np.where((lower <= 0) & (upper >= 0), 1.0, np.maximum(low, 1.0))
    elif function.name in activations.GATES:
        at, least = activations.valley(function.name, function.parameter)
        low = np.where((lower <= at + activations.BLUR) & (upper >= at - activations.BLUR), least, low)
    return low, high


def _curved(function: Smooth, lower: Array, upper: Array) -> Iterator[tuple[Array, Array, bool]]:
    """(start, end, f is convex there), covering [lower, upper] but for what is blurred; pieces outside it shrink to one of its points. sin, cos: two
    turns at most."""
    points, convex = shapes.curvature(function)
    cuts, blur = [np.full((), cut) for cut in points], shapes.blur(function)
    if shapes.is_periodic(function):
        base = 2 * np.floor((lower - cuts[0]) / (2 * math.pi))
        cuts = [(base + k) * math.pi + cuts[0] for k in range(1, 5)]
    start = lower
    for at in cuts:
        yield start, np.minimum(np.maximum(at - blur, lower), upper), convex
        start, convex = np.minimum(np.maximum(at + blur, lower), upper), not convex
    yield start, upper, convex


def _smooth_offset(function: Smooth, a: Array, lower: Array, upper: Array, side: int) -> Array:
    """At most side (f(x) - a x), piece by piece. Over more than a turn, sin x - a x is least in the first or in the last turn.

    The cuts of sin and cos are off by less than 2^-50 (|x| + 8), and so is |f''| where its sign is wrong; (q - p)^2 < 2^6. In what is blurred, 2 blur
    wide and beside a piece, f - a x falls by less than 2 + |a| a unit."""
    shapes.defined(function, lower, upper)
    far, start, end = np.zeros(1, dtype=bool), lower, upper
    if shapes.is_periodic(function):
        far, last = (lower < -FAR_TURN) | (upper > FAR_TURN), side * a >= 0
        start = np.where(far, 0.0, np.where(last, np.maximum(lower, dn(upper - TURN)), lower))
        end = np.where(far, 0.0, np.where(last, upper, np.minimum(upper, up(lower + TURN))))
    least = np.full(np.broadcast(a, start).shape, np.inf)
    for piece, (p, q, convex) in enumerate(_curved(function, start, end)):
        if convex == (side > 0) and piece not in shapes.straight(function):
            least = np.minimum(least, _tangent_bound(function, a, p, q, side))
        else:
            least = np.minimum(least, np.minimum(_gap(function, a, p, side), _gap(function, a, q, side)))
    if (blur := shapes.blur(function)) > 0:
        reached = np.any([(start <= c + blur) & (end >= c - blur) for c in shapes.curvature(function)[0]], axis=0)
        least = np.where(reached, dn(least - (2 * blur + TINY) * (2 + np.abs(a)) * (1 + UNITS)), least)
    if not shapes.is_periodic(function):
        return least
    least = dn(least - 2.0**-44 * (np.maximum(np.abs(start), np.abs(end)) + 8))
    return np.where(far, np.minimum(*(_least(side, -a, x, -side) for x in (lower, upper))), least)


def _gap(function: Smooth, a: Array, x: Array, side: int) -> Array:
    """At most side (f(x) - a x)."""
    low, high = activations.enclose(function.name, function.parameter, x)
    t = side * a * x
    v = (low if side > 0 else -high) - t
    return np.asarray(v - ((np.abs(t) + np.abs(v)) * UNITS + TINY))


def _tangent_bound(function: Smooth, a: Array, start: Array, end: Array, side: int) -> Array:
    """g = side (f - a x) is convex on [start, end]: at any x0 in it g >= g(x0) + min(g'(x0) (start - x0), g'(x0) (end - x0))."""
    middle, x = start / 2 + end / 2, slopes.touch(function, a, start, end)
    x = np.minimum(np.maximum(np.where(np.isnan(x), middle, x), start), end)
    low, high = activations.derivative_enclosure(function.name, function.parameter, x)
    if shapes.hinge(function):  # any slope between both sides supports f there
        low, high = (np.where(x == 0, np.minimum(np.maximum(a, function.parameter), 1.0), e) for e in (low, high))
    low, high = (dn(low - a), up(high - a)) if side > 0 else (dn(a - high), up(a - low))
    fall = np.minimum(high * (start - x), low * (end - x))
    fall = np.where(start == end, 0.0, fall - (np.abs(fall) * UNITS + TINY))
    return dn(_gap(function, a, x, side) + fall)
