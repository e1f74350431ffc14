"""Functions of one variable: intervals, default slopes, and rigorous offsets for any slopes (ARITHMETIC 6).

Slopes are data from any source; offsets are proven: f(x) >= slope_lower x + offset_lower and f(x) <= slope_upper x + offset_upper
for every real x in [lower, upper]. `side` is 1 for bounds from below, -1 for bounds from above, which are those of -f from below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np

from verifier.checker import kernels
from verifier.checker.arithmetic import Array, dn, finite, up
from verifier.checker.network import Function, Pieces, Smooth
from verifier.checker.refusal import Rejected

TINY = 2.0**-1010
UNITS = 2.0**-50  # 8 u
FAR = 2.0**50  # half-integers below are doubles
TURN = up(np.float64(2 * math.pi))  # 2 pi, not less
FAR_TURN = 2.0**19  # beyond, sin and cos are only known to lie in [-1, 1]
STEPS = {"floor": (np.floor, 0.0, -1.0, 0.0), "ceil": (np.ceil, 0.0, 0.0, 1.0), "round": (np.rint, 0.5, -0.5, 0.5)}
# f, where it jumps (integers + this), and f(x) - x left and right of a jump: its least and largest value
CONVEX, CONCAVE = frozenset(("exp", "softplus")), frozenset(("log", "sqrt"))


@np.errstate(all="ignore")
def interval(function: Function, lower: Array, upper: Array, widen: float = 0.0) -> tuple[Array, Array]:
    """low <= f(x) <= high on [lower, upper]."""
    if isinstance(function, Smooth):
        low, high = _smooth_interval(function, lower, upper)
    elif _kink(function) == (0.0, 1.0):
        return np.maximum(lower, 0.0), np.maximum(upper, 0.0)
    elif function.step:
        low, high = (STEPS[function.step][0](x) for x in _read(function, lower, upper, widen))
    else:
        flat = np.zeros_like(lower)
        return offsets(function, flat, flat, lower, upper, widen)
    return finite(low, str(function)), finite(high, str(function))


@np.errstate(all="ignore")
def offsets(function: Function, slope_lower: Array, slope_upper: Array, lower: Array, upper: Array, widen: float = 0.0) -> tuple[Array, Array]:
    """(offset_lower, offset_upper) for any finite slopes that broadcast with the ends."""
    if isinstance(function, Smooth):
        low, high = _smooth_offset(function, slope_lower, lower, upper, 1), -_smooth_offset(function, slope_upper, lower, upper, -1)
    elif _kink(function) == (0.0, 1.0) and _is_usual(slope_lower, slope_upper):
        low, high = _relu_offsets(slope_lower, slope_upper, lower, upper)
    else:
        low, high = (side * _pieces_offset(function, a, lower, upper, side, widen) for side, a in ((1, slope_lower), (-1, slope_upper)))
    return finite(low, str(function)), finite(high, str(function))


def is_linear(function: Function, lower: Array, upper: Array) -> Array:
    """Mask: f is one straight piece over [lower, upper], so that default slopes are exact."""
    if isinstance(function, Smooth):
        return np.asarray(lower == upper)
    if function.step:
        at = np.asarray(_jumps_around(function.step, lower)[3])
        return np.asarray((at > upper) & (upper < FAR) & (lower > -FAR))
    inside = np.zeros(lower.shape, dtype=bool)
    for b, jumps in zip(function.breakpoints, _jumps(function), strict=True):
        inside |= (lower <= b) & (upper >= b) if jumps else (lower < b) & (upper > b)
    return ~inside


@np.errstate(all="ignore")
def default_slopes(function: Function, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Heuristic slopes, finite. Straight pieces: the line of least area among the pieces and the chords between corners. Smooth: the tangent at
    the midpoint where f curves towards the plane, the chord where it curves away, else the tangent through the far end."""
    if isinstance(function, Smooth):
        slopes = _smooth_slopes(function, lower, upper)
    elif _kink(function) == (0.0, 1.0):
        low, high = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
        return (upper > -lower).astype(np.float64), high / np.maximum(high - low, TINY)
    elif _kink(function) is not None:
        slopes = _kink_slopes(*function.slopes, lower, upper)
    else:
        slopes = _least_area(function, lower, upper)
    return np.where(np.isfinite(slopes[0]), slopes[0], 0.0), np.where(np.isfinite(slopes[1]), slopes[1], 0.0)


# ---------------------------------------------------------------- straight pieces


@lru_cache(maxsize=1024)
def _jumps(function: Pieces) -> tuple[bool, ...]:
    """Whether f jumps at each breakpoint, decided on exact numbers."""
    lines = [(Fraction(s), Fraction(c)) for s, c in zip(function.slopes, function.intercepts, strict=True)]
    return tuple(
        any(s * Fraction(b) + c != Fraction(v) for s, c in lines[i : i + 2])
        for i, (b, v) in enumerate(zip(function.breakpoints, function.values, strict=True))
    )


def _kink(function: Function) -> tuple[float, ...] | None:
    """The slopes of a continuous function that bends at 0 only and is 0 there: ReLU, LeakyReLU, Abs."""
    if isinstance(function, Smooth) or function.breakpoints != (0.0,) or any(function.intercepts) or any(function.values):
        return None
    return function.slopes


def _read(function: Pieces, lower: Array, upper: Array, widen: float) -> tuple[Array, Array]:
    """The interval that a function reads: wider for one that jumps, if float32 may flush its argument to zero."""
    if widen == 0.0 or not (function.step or any(_jumps(function))):
        return lower, upper
    return dn(lower - widen), up(upper + widen)


def _least(side: int, d: Array, x: Array, c: Array | float = 0.0) -> Array:
    """At most side (d x + c), where d was rounded once: 2.1 u |t| and u |v| before, u |result| in the last subtraction. Exact for d = 0."""
    t = d * x
    v = t + c
    return np.asarray(side * v - np.where(d == 0, 0.0, (np.abs(t) + np.abs(v)) * UNITS + TINY))


def _is_usual(slope_lower: Array, slope_upper: Array) -> bool:
    """Lower slopes 0 or 1, upper slopes in [0, 1]."""
    return bool(((slope_lower == 0) | (slope_lower == 1)).all() and ((slope_upper >= 0) & (slope_upper <= 1)).all())


def _relu_offsets(a: Array, b: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Exact below: relu(x) - 0 x >= lower+, relu(x) - x >= (-upper)+. Above: relu(x) - b x <= b (-x) for x <= 0, (1 - b) x for x >= 0."""
    low = np.maximum(np.where(a > 0, -upper, lower), 0.0)
    above = np.maximum(b * np.maximum(-lower, 0.0), (1 - b) * np.maximum(upper, 0.0))
    above *= 1 + UNITS
    above += TINY * ((b > 0) & (b < 1))  # for b = 0 or 1 nothing has rounded
    return low, above


def _pieces_offset(function: Pieces, a: Array, lower: Array, upper: Array, side: int, widen: float) -> Array:
    """At most side (f(x) - a x): it is least at an end of a piece, or at a limit or value where f jumps."""
    if (kink := _kink(function)) is not None:
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
            least = np.minimum(least, np.where((low <= b) & (high >= b), _least(side, -a, np.float64(b), v), np.inf))
    if low is lower:
        return least
    return dn(least - (1 + UNITS) * (np.abs(a) * widen + TINY))  # f reads x' with |x' - x| <= widen, and a x' is not a x


def _jumps_around(step: str, x: Array) -> tuple[Array, Array, Array, Array]:
    """The nearest jumps < x, <= x, >= x, > x, for |x| < 2^50: exact."""
    m = np.floor(x) + STEPS[step][1]
    return np.where(m < x, m, m - 1), np.where(m <= x, m, m - 1), np.where(m >= x, m, m + 1), np.where(m > x, m, m + 1)


def _step_offset(step: str, a: Array, lower: Array, upper: Array, side: int) -> Array:
    """At a jump j the limits are j + left and j + right, so f - a x is (1 - a) j + left there: least at the first or the last jump.

    Far out left <= f(x) - x <= right is used: no count of jumps matters."""
    whole, _, left, right = STEPS[step]
    least = np.minimum(_least(side, -a, lower, whole(lower)), _least(side, -a, upper, whole(upper)))
    (_, _, first, after), (before, last, _, _) = _jumps_around(step, lower), _jumps_around(step, upper)
    for start, end, limit in ((after, last, left), (first, before, right)):  # the limit from the left needs lower < j, that from the right j < upper
        for j in (start, end):
            least = np.minimum(least, np.where(start <= end, _least(side, 1 - a, j, limit), np.inf))
    crude = np.minimum(*(_least(side, 1 - a, x, left if side > 0 else right) for x in (lower, upper)))
    return np.where((lower > -FAR) & (upper < FAR), least, crude)


def _kink_slopes(left: float, right: float, lower: Array, upper: Array) -> tuple[Array, Array]:
    low, high = np.minimum(lower, 0.0), np.maximum(upper, 0.0)
    chord = np.where(lower >= 0, right, np.where(upper <= 0, left, (right * high - left * low) / np.maximum(high - low, TINY)))
    steady = np.where(lower >= 0, right, np.where(upper <= 0, left, np.where(upper > -lower, right, left)))
    return (steady, chord) if left <= right else (chord, steady)


def _least_area(function: Pieces, lower: Array, upper: Array) -> tuple[Array, Array]:
    """The candidates whose planes are nearest to f at the midpoint: they cut off the least area."""
    middle, slopes = lower / 2 + upper / 2, []
    candidates = [np.full(lower.shape, s) for s in dict.fromkeys(function.slopes or (0.0, 1.0))] + _chords(function, lower, upper)
    for side in (1, -1):
        best, height = candidates[0], np.full(lower.shape, -np.inf)
        for slope in candidates:
            slope = np.where(np.isfinite(slope), slope, 0.0)
            other = side * slope * middle + _pieces_offset(function, slope, lower, upper, side, 0.0)
            best, height = np.where(other > height, slope, best), np.maximum(height, other)
        slopes.append(best)
    return slopes[0], slopes[1]


def _chords(function: Pieces, lower: Array, upper: Array) -> list[Array]:
    """Slopes between any two corners: the ends, and the limits at breakpoints, which move to an end they lie beyond."""
    at = [_value(function, x) for x in (lower, upper)]
    points = [(lower, at[0]), (upper, at[1])]
    for i, (b, jumps) in enumerate(zip(function.breakpoints, _jumps(function), strict=True)):
        x = np.minimum(np.maximum(lower, b), upper)
        for k in (i, i + 1) if jumps else (i,):
            limit = function.slopes[k] * b + function.intercepts[k]
            points.append((x, np.where(x == b, limit, np.where(x == lower, at[0], at[1]))))
    return [np.where(x == z, 0.0, (y - w) / np.where(x == z, 1.0, x - z)) for i, (x, y) in enumerate(points) for z, w in points[:i]]


def _value(function: Pieces, x: Array) -> Array:
    if function.step:
        return np.asarray(STEPS[function.step][0](x))
    piece = np.searchsorted(np.array(function.breakpoints), x)
    y = np.asarray(np.array(function.slopes)[piece] * x + np.array(function.intercepts)[piece])
    for b, v in zip(function.breakpoints, function.values, strict=True):
        y = np.where(x == b, v, y)
    return y


# ---------------------------------------------------------------- smooth functions


def _shape(function: Smooth) -> tuple[float | None, bool]:
    """(where convexity changes, other than for sin and cos; whether f is convex left of it or, without it, everywhere)."""
    name, p = function.name, function.parameter
    if name == "pow":
        if not float(p).is_integer():
            return None, not 0 < p < 1
        return (None, True) if p % 2 == 0 else (0.0, False)
    if name in ("sin", "cos", "reciprocal"):
        return 0.0, name == "cos"
    return (None, name in CONVEX) if name in CONVEX | CONCAVE else (0.0, True)


def _is_periodic(function: Smooth) -> bool:
    return function.name in ("sin", "cos")


def _defined(function: Smooth, lower: Array, upper: Array) -> None:
    """Refuse an interval that holds a pole at 0; the kernels refuse all else outside a domain."""
    odd = function.name == "reciprocal" or (function.name == "pow" and function.parameter < 0)
    if odd and not ((lower > 0) | (upper < 0)).all():
        raise Rejected("domain", str(function))


def _smooth_interval(function: Smooth, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Least and largest at the ends, or 0 (even powers), or -1 and 1 (sin, cos, near a multiple of pi/2 or beyond 2^19)."""
    _defined(function, lower, upper)
    far = _is_periodic(function) & ((lower < -FAR_TURN) | (upper > FAR_TURN))
    ends = [kernels.enclose(function.name, function.parameter, np.where(far, 0.0, x)) for x in (lower, upper)]
    low, high = np.minimum(ends[0][0], ends[1][0]), np.maximum(ends[0][1], ends[1][1])
    if _is_periodic(function):
        start, end = lower / math.pi - 2.0**-32, upper / math.pi + 2.0**-32  # 2^-32 is more than 2^20 has lost
        for top, sign in ((0.5 if function.name == "sin" else 0.0, 1), (1.5 if function.name == "sin" else 1.0, -1)):
            inside = far | (np.floor((end - top) / 2) >= np.ceil((start - top) / 2))
            low, high = (low, np.where(inside, 1.0, high)) if sign > 0 else (np.where(inside, -1.0, low), high)
    elif function.name == "pow" and function.parameter > 0 and function.parameter % 2 == 0:
        low = np.where((lower <= 0) & (upper >= 0), 0.0, np.maximum(low, 0.0))
    return low, high


def _curved(function: Smooth, lower: Array, upper: Array) -> Iterator[tuple[Array, Array, bool]]:
    """(start, end, f is convex there), covering [lower, upper]; pieces outside it shrink to one of its points. sin, cos: from an even half-turn on."""
    cut, convex = _shape(function)
    cuts: list[Array] = [] if cut is None else [np.float64(cut)]
    if _is_periodic(function):
        shift = 0.5 if function.name == "cos" else 0.0
        base = 2 * np.floor((lower / math.pi - shift) / 2) + shift
        cuts = [(base + k) * math.pi for k in range(1, 5)]
    start = lower
    for at in cuts:
        end = np.minimum(np.maximum(at, lower), upper)
        yield start, end, convex
        start, convex = end, not convex
    yield start, upper, convex


def _smooth_offset(function: Smooth, a: Array, lower: Array, upper: Array, side: int) -> Array:
    """At most side (f(x) - a x), piece by piece. Over more than a turn, f - a x is least in the first or in the last turn.

    The cuts of sin and cos are off by at most 2^-50 (|x| + 8), and so is |f''| where its sign is wrong."""
    _defined(function, lower, upper)
    far, start, end = np.zeros(1, dtype=bool), lower, upper
    if _is_periodic(function):
        far = (lower < -FAR_TURN) | (upper > FAR_TURN)
        start = np.where(far, 0.0, np.where(side * a >= 0, np.maximum(lower, dn(upper - TURN)), lower))
        end = np.where(far, 0.0, np.where(side * a >= 0, upper, np.minimum(upper, up(lower + TURN))))
    least = np.full(np.broadcast(a, start).shape, np.inf)
    for p, q, convex in _curved(function, start, end):
        if convex == (side > 0):
            least = np.minimum(least, _tangent_bound(function, a, p, q, side))
        else:
            least = np.minimum(least, np.minimum(_gap(function, a, p, side), _gap(function, a, q, side)))
    if not _is_periodic(function):
        return least
    least = dn(least - 2.0**-44 * (np.maximum(np.abs(start), np.abs(end)) + 8))  # (q - p)^2 < 2^6
    return np.where(far, np.minimum(*(_least(side, -a, x, -side) for x in (lower, upper))), least)


def _gap(function: Smooth, a: Array, x: Array, side: int) -> Array:
    """At most side (f(x) - a x)."""
    low, high = kernels.enclose(function.name, function.parameter, x)
    t = side * a * x
    v = (low if side > 0 else -high) - t
    return np.asarray(v - ((np.abs(t) + np.abs(v)) * UNITS + TINY))


def _tangent_bound(function: Smooth, a: Array, start: Array, end: Array, side: int) -> Array:
    """g = side (f - a x) is convex on [start, end]: at any x0 in it g >= g(x0) + min(g'(x0) (start - x0), g'(x0) (end - x0))."""
    middle, x = np.minimum(np.maximum(start / 2 + end / 2, start), end), _touch(function, a, start, end)
    x = np.minimum(np.maximum(np.where(np.isfinite(x), x, middle), start), end)
    low, high = kernels.derivative_enclosure(function.name, function.parameter, x)
    low, high = (dn(low - a), up(high - a)) if side > 0 else (dn(a - high), up(a - low))
    fall = np.minimum(high * (start - x), low * (end - x))
    fall = np.where(start == end, 0.0, fall - (np.abs(fall) * UNITS + TINY))
    return dn(_gap(function, a, x, side) + fall)


def _touch(function: Smooth, a: Array, start: Array, end: Array) -> Array:
    """A guess where f' = a on a piece [start, end] of one curvature; slopes that f' does not take give an end, or nonsense."""
    p, b, sign = function.parameter, np.maximum(a, 2.0**-900), np.where(start + end > 0, 1.0, -1.0)
    match function.name:
        case "exp":
            return _log(b)
        case "log":
            return 1 / b
        case "sqrt":
            return np.maximum(1 / (4 * b * b), end * 2.0**-60)
        case "reciprocal":
            return sign / np.sqrt(np.maximum(-a, 2.0**-900))
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
            if p == 2:
                return a / 2
            even = p % 2 == 0
            sign = np.sign(a / p) if even and p > 0 else np.where(float(p).is_integer(), sign, 1.0)
            size = np.maximum(sign * a / p if even else a / p, 2.0**-900)
            return sign * np.exp(np.clip(_log(size) / (p - 1), -600.0, 600.0))
    shift = 0.5 if function.name == "cos" else 0.0  # cos' x = cos(x + pi/2)
    k = np.floor((start / 2 + end / 2) / math.pi - shift)
    return (k + shift) * math.pi + np.arccos(np.clip(np.where(k % 2 == 0, a, -a) * (1 if shift == 0 else -1), -1.0, 1.0))


def _log(x: Array) -> Array:
    return kernels.value("log", 0.0, x)[0]


# ---------------------------------------------------------------- default slopes of smooth functions


def _smooth_slopes(function: Smooth, lower: Array, upper: Array) -> tuple[Array, Array]:
    _defined(function, lower, upper)
    far = _is_periodic(function) & (upper - lower > math.pi)
    low, high = np.where(far, 0.0, lower), np.where(far, 0.0, upper)
    tangent = kernels.derivative(function.name, function.parameter, low / 2 + high / 2)[0]
    narrow = high - low <= 2.0**-24 * (np.abs(low) + np.abs(high)) + 2.0**-40
    chord = np.where(narrow, tangent, _slope(function, low, high))
    left, right = _is_convex(function, low, np.greater_equal), _is_convex(function, high, np.greater)
    slopes = []
    for side in (1, -1):
        slope = np.where(left == (side > 0), tangent, chord)
        mixed = (left != right) & ~narrow
        if mixed.any():
            toward = (right == (side > 0))[mixed]  # f curves towards the plane at the upper end: the line goes through the lower one
            anchor, touch = np.where(toward, low[mixed], high[mixed]), np.where(toward, high[mixed], low[mixed])
            slope[mixed] = _through(function, anchor, touch)
        slopes.append(np.where(far, 0.0, slope))
    return slopes[0], slopes[1]


def _through(function: Smooth, anchor: Array, end: Array) -> Array:
    """The slope of the line through the anchor that touches f towards `end`, or that meets it there: where f' is the slope of the chord."""
    touch = end
    for _ in range(5):
        guess = _touch(function, _slope(function, anchor, touch), end, end)
        touch = np.clip(np.where(np.isfinite(guess), guess, touch), np.minimum(anchor, end), np.maximum(anchor, end))
    return _slope(function, anchor, touch)


def _slope(function: Smooth, x: Array, y: Array) -> Array:
    value = kernels.value(function.name, function.parameter, x)[0], kernels.value(function.name, function.parameter, y)[0]
    return np.asarray((value[1] - value[0]) / np.where(x == y, 1.0, y - x))


def _is_convex(function: Smooth, x: Array, passed: np.ufunc) -> Array:
    """Whether f is convex right of x (passed: >=) or left of it (>)."""
    cut, first = _shape(function)
    if _is_periodic(function):
        turns = x / math.pi - (0.5 if function.name == "cos" else 0.0)
        return np.asarray((np.floor(turns) % 2 == 1) != first)
    return np.full(x.shape, first) if cut is None else np.asarray(passed(x, cut) != first)
