"""More functions of one variable, built on the kernels: value, slope, where they bend and where they are least, with proven errors.

As in `kernels`, bare numbers in proofs are relative errors in units of u = 2^-53; every enclosure adds 2^-1021. The *gates* are x times something
that rises from 0 to 1: first concave, then convex, then concave, with one minimum. For |x| <= 2^36, so that what exp cuts off at -745,
times x and the slope of the argument, stays below FLOOR, which their slopes add.

gelu: x (1 + erf x) / 2. f'' = 2 (1 - x^2) exp(-x^2) / sqrt pi. (GELU is sqrt 2 f(x / sqrt 2).)
hard_swish, p in [0, 1]: x clip(x + p, 0, 1): 0 up to -p, x for x >= 1 - p, between them a parabola.
swish, p = m in [0, 1]: x sigmoid(t), t = x + m x^3, where the true m may be off by u. f'' / sigmoid'(t) = 2 (1 + 6 m x^2) - x t'^2 tanh(t / 2) is
  even, and for x > 0 the second term over the first, x t'^2 / (1 + 6 m x^2) tanh(t / 2) / 2, increases (t'^2 = 1 + 6 m x^2 + 9 m^2 x^4): one root.
  |f'| < 2: x t' <= 3 t, and t sigmoid'(t) < 0.23.
mish: x w, w = tanh(ln(1 + e^x)). With t = e^x, f'' has the sign of A + x D, A = 2 (t + 1) (t^2 + 2t + 2), D = 2 + 2t - 3t^2 - 2t^3, which has one
  root t* < 1. -A/D decreases on either side of it: its derivative is -(6t^4 + 40t^3 + 72t^2 + 48t + 8) / D^2. So A + x D has one root with D > 0
  (x < 0) and one with x > 0, D < 0; between t* and 1 it is positive. |f'| < 2: |x| w' is below 1 for x < 0, and x 4 exp(-2x) for x > 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from verifier.checker import kernels
from verifier.checker.arithmetic import Array, dn, up
from verifier.checker.kernels import EXP_TERMS, TWO_BY_ROOT_PI, U
from verifier.checker.refusal import Rejected

GATES = ("gelu", "hard_swish", "mish", "swish")
BLUR = 2.0**-38  # how far from the point that is taken for it a gate may change its curvature, or be least
FLOOR = 2.0**-960
FAR, STEEP = 2.0**36, 2.0**500
SINH_TERMS = tuple(1 / math.factorial(2 * j + 1) for j in range(10))
ATAN_TERMS = tuple((-1) ** j / (2 * j + 1) for j in range(10))


def _log1p(y: Array) -> Array:
    """log(1 + y) for y >= 0: 18, and what y is off. y <= 1: y / (2 + y) is 2, 1.09 of that, + 3. Else 1 + y is rounded, 1.45, and log is 16."""
    small = np.minimum(y, 1.0)
    return np.where(y <= 1, kernels._twice_atanh(small / (2 + small)), kernels._log(1 + y))


def _asinh(x: Array) -> Array:
    """32. sqrt(1 + a^2) is 2, a + a^2 / (1 + it) is 6, log1p 18."""
    a = np.abs(x)
    return np.asarray(np.copysign(_log1p(a + a * (a / (1 + np.sqrt(1 + a * a)))), x))


def _acosh(x: Array) -> Array:
    """32. t = x - 1 is 1, t (t + 2) is 4, its root 3, the sum 4, log1p 18."""
    t = x - 1
    return _log1p(t + np.sqrt(t * (t + 2)))


def _atanh(x: Array) -> Array:
    """32. 2a / (1 - a) is 2, log1p 18."""
    a = np.abs(x)
    return np.asarray(np.copysign(_log1p(2 * a / (1 - a)) / 2, x))


def _sinh(x: Array) -> Array:
    """32. Below 1/2 the series: 4. Else e^a and e^-a are 8, and their sum is at most 2.2 of their difference: 18 + 1."""
    a = np.abs(x)
    small = np.minimum(a, 0.5)
    series = small * kernels._horner(small * small, SINH_TERMS)
    return np.asarray(np.copysign(np.where(a < 0.5, series, (kernels._exp(a) - kernels._exp(-a)) / 2), x))


def _cosh(x: Array) -> Array:
    """16. Both terms are 8."""
    return (kernels._exp(x) + kernels._exp(-x)) / 2


def _atan(x: Array) -> Array:
    """32. For a > 1 of 1/a, taken from pi/2 (of which the double is 0.6 u off, absolute). s -> s / (1 + sqrt(1 + s^2)) halves the angle; what is
    1 off at first is at most 1.3 times that and 3.1 off after it, then 1.1 and 2.9, then 1.05 and 2.8: 11. s^2 < 0.0098: 10 terms leave out 2^-70,
    and the series is 2."""
    a = np.abs(x)
    s = np.where(a > 1, 1 / np.maximum(a, 1.0), a)
    for _ in range(3):
        s = s / (1 + np.sqrt(1 + s * s))
    angle = 8 * s * kernels._horner(s * s, ATAN_TERMS)
    return np.asarray(np.copysign(np.where(a > 1, math.pi / 2 - angle, angle), x))


def _asin(x: Array) -> Array:
    """48. Twice atan of x / (1 + sqrt((1 - x) (1 + x))): the product is 3, its root 2.5, the sum 3.5, the quotient 4.5; atan 32."""
    return 2 * _atan(x / (1 + np.sqrt((1 - x) * (1 + x))))


def _elu(p: float, x: Array) -> Array:
    """20. a = -x below 1/2: m = e^a - 1 is 5, m / (1 + m) is 9. Else 1 - e^-a > 0.39 is off by 8 u 0.61: 14. The product: 1."""
    a = np.maximum(-x, 0.0)
    small = np.minimum(a, 0.5)
    m = small * kernels._horner(small, EXP_TERMS[1:])
    return np.where(x > 0, x, -p * np.where(a < 0.5, m / (1 + m), 1 - kernels._exp(-a)))


def _mish_parts(x: Array) -> tuple[Array, Array]:
    """(w, w'): 24 and 50. With t = exp(-|x|), 8: n = t (t + 2) is 13, n / (n + 2) 23, 4t (1 + t) / (n + 2)^2 36; for x >= 0, d = 1 + 2t + 2t^2 is 12,
    (1 + 2t) / d 20, 4t^2 (1 + t) / d^2 50."""
    t = kernels._exp(-np.abs(x))
    n, d = t * (t + 2), 1 + 2 * t + 2 * t * t
    below, above = (n / (n + 2), 4 * t * (1 + t) / np.square(n + 2)), ((1 + 2 * t) / d, 4 * t * t * (1 + t) / np.square(d))
    return np.where(x < 0, below[0], above[0]), np.where(x < 0, below[1], above[1])


# name: kernel, error in units of u, domain
KERNELS: dict[str, tuple[Callable[[Array], Array], int, Callable[[Array], Array]]] = {
    "asinh": (_asinh, 32, lambda x: np.abs(x) <= STEEP),
    "acosh": (_acosh, 32, lambda x: (x >= 1) & (x <= STEEP)),
    "atanh": (_atanh, 32, lambda x: np.abs(x) < 1),
    "sinh": (_sinh, 32, lambda x: np.abs(x) <= 700),
    "cosh": (_cosh, 16, lambda x: np.abs(x) <= 700),
    "atan": (_atan, 32, np.isfinite),
    "asin": (_asin, 48, lambda x: np.abs(x) <= 1),
    "softsign": (lambda x: x / (1 + np.abs(x)), 4, np.isfinite),
}
OTHERS = ("tan", "elu", *GATES)


def _tangent(x: Array) -> tuple[Array, Array]:
    """sin and cos are 8 u off, absolute: with r = 8 u / |cos| <= 2^-9 the quotient is off by r (1 + |the true one|), below 1.01 r (1 + |y|)."""
    sine, cosine = kernels._sine(x, 0), kernels._sine(x, 1)
    if not (np.abs(cosine) >= 2.0**-40).all():
        raise Rejected("domain", "tan")
    y = sine / cosine
    return y, 9 * U * (1 + np.abs(y)) / np.abs(cosine) + 2 * U * np.abs(y)


def _swish_parts(m: float, x: Array) -> tuple[Array, Array, Array, Array]:
    """(sigmoid(t), units, x t' sigmoid(-t), units). t is 5: worth 5 |t| to a sigmoid's tail, less than 2 to its other half; x t' is 6."""
    t, steep = x + m * x * x * x, x * (1 + 3 * m * x * x)
    up_units, down_units = 20 + 6 * np.maximum(-t, 0.0), 28 + 6 * np.maximum(t, 0.0)
    return kernels._sigmoid(t), up_units, steep * kernels._sigmoid(-t), down_units


def _normal(x: Array) -> tuple[Array, Array]:
    """(1 + erf x) / 2 and its absolute error: erf is 1024; beyond 6, erfc(6) / 2 < u."""
    share = np.where(x >= 6, 1.0, np.where(x <= -6, 0.0, (1 + kernels._erf(x)) / 2))
    return share, np.where(np.abs(x) >= 6, 1.0, 520.0) * U


def _known(name: str, x: Array) -> None:
    bounded = {"tan": math.pi / 2, "elu": np.inf}.get(name, FAR)
    good = KERNELS[name][2](x) if name in KERNELS else np.isfinite(x) & (np.abs(x) <= bounded)
    if not good.all():
        raise Rejected("domain", name)


def value(name: str, p: float, x: Array) -> tuple[Array, Array]:
    """(y, error): |f(x) - y| <= error + 2^-1021. Rejects points outside the domain."""
    if name not in KERNELS and name not in OTHERS:
        return kernels.value(name, p, x)
    _known(name, x)
    match name:
        case "tan":
            return _tangent(x)
        case "elu":
            return (y := _elu(p, x)), np.where(x > 0, 0.0, 20 * U * np.abs(y))
        case "hard_swish":  # x + p rounds by u where it is not clipped
            return x * np.minimum(np.maximum(x + p, 0.0), 1.0), 3 * U * np.minimum(np.abs(x), 2.0)
        case "gelu":
            share, error = _normal(x)
            return x * share, np.abs(x) * (error + 2 * U * share)
        case "mish":
            return (y := x * _mish_parts(x)[0]), 32 * U * np.abs(y)
        case "swish":
            share, units, _, _ = _swish_parts(p, x)
            return x * share, (units + 2) * U * np.abs(x * share)
    y = KERNELS[name][0](x)
    return y, KERNELS[name][1] * U * np.abs(y)


def derivative(name: str, p: float, x: Array) -> tuple[Array, Array]:
    """(y, error): |f'(x) - y| <= error + 2^-1021; at a kink the slope of the curved side. Infinite where f' is (asin, acosh at the ends)."""
    if name not in KERNELS and name not in OTHERS:
        return kernels.derivative(name, p, x)
    _known(name, x)
    match name:
        case "sinh" | "cosh":
            return value("cosh" if name == "sinh" else "sinh", 0.0, x)
        case "tan":
            y, error = _tangent(x)
            return 1 + y * y, (2 * np.abs(y) + error) * error + 4 * U * (1 + y * y)
        case "elu":  # 8 + 1
            return (y := np.where(x > 0, 1.0, p * kernels._exp(np.minimum(x, 0.0)))), np.where(x > 0, 0.0, 16 * U * np.abs(y))
        case "hard_swish":
            y = np.where(x < -p, 0.0, np.where(x > 1 - p, 1.0, 2 * x + p))
            return y, np.where((x < -p) | (x > 1 - p), 0.0, 2 * U * np.abs(y))
        case "gelu":  # x^2 is off by u x^2, relative, in exp(-x^2)
            (share, error), bell = _normal(x), x * (TWO_BY_ROOT_PI / 2 * kernels._exp(-(x * x)))
            return share + bell, error + (np.minimum(x * x, 800.0) + 20) * U * np.abs(bell) + 2 * U * share + FLOOR
        case "mish":
            w, slope = _mish_parts(x)
            return w + x * slope, 64 * U * (w + np.abs(x) * slope) + FLOOR
        case "swish":
            share, units, fall, fall_units = _swish_parts(p, x)
            return share * (1 + fall), share * ((units + 4) * (1 + np.abs(fall)) + fall_units * np.abs(fall)) * U + FLOOR
    y = 1 / _inverse_slope(name, x)
    return y, 8 * U * np.abs(y)


def _inverse_slope(name: str, x: Array) -> Array:
    """1 / f', at most 5."""
    match name:
        case "asinh":
            return np.asarray(np.sqrt(1 + x * x))
        case "acosh":
            return np.asarray(np.sqrt((x - 1) * (x + 1)))
        case "asin":
            return np.asarray(np.sqrt((1 - x) * (1 + x)))
        case "atanh":
            return np.asarray((1 - x) * (1 + x))
        case "softsign":
            return np.asarray(np.square(1 + np.abs(x)))
    return 1 + x * x  # atan


def enclose(name: str, p: float, x: Array) -> tuple[Array, Array]:
    """low <= f(x) <= high."""
    return kernels._outward(*value(name, p, x)) if name in KERNELS or name in OTHERS else kernels.enclose(name, p, x)


def derivative_enclosure(name: str, p: float, x: Array) -> tuple[Array, Array]:
    """low <= f'(x) <= high."""
    return kernels._outward(*derivative(name, p, x))


# ---------------------------------------------------------------- where gates bend, and where they are least


def _bend(name: str, m: float, x: Array) -> tuple[Array, Array]:
    """A number of the sign of f'' (for swish: for x > 0), and the size of its terms, of which it is off by less than 2^-46."""
    if name == "swish":
        square = 3 * m * x * x
        first, second = 2 * (1 + 2 * square), x * np.square(1 + square) * kernels._tanh((x + m * x * x * x) / 2)
    else:
        t = kernels._exp(x)
        first, second = 2 * (t + 1) * (t * t + 2 * t + 2), -x * (2 + 2 * t - 3 * t * t - 2 * t * t * t)
        return first - second, first + np.abs(x) * (2 + 2 * t + 3 * t * t + 2 * t * t * t)
    return first - second, first + np.abs(second)


def _crossing(sign: Callable[[Array], Array], low: float, high: float) -> float:
    """A point where `sign`, which is -1 at `low` and 1 at `high`, is not -1 any more, BLUR after one where it is -1, and before one where it is 1."""
    start, end = low, high
    while start < (middle := (start + end) / 2) < end:
        start, end = (middle, end) if sign(np.array([middle]))[0] < 0 else (start, middle)
    around = sign(np.array([end - BLUR, end + BLUR]))
    if not (around[0] == -1 and around[1] == 1):
        raise Rejected("unsupported-function", "a gate that bends too slowly")
    return end


@lru_cache(maxsize=256)
def bends(name: str, p: float) -> tuple[float, float]:
    """Where a gate turns convex and where concave again; for swish and mish but for BLUR."""
    if name not in GATES or not 0 <= p <= 1:
        raise Rejected("unsupported-function", f"{name} {p}")
    if name in ("gelu", "hard_swish"):
        return (-1.0, 1.0) if name == "gelu" else (-p, 1 - p)

    def sign(x: Array, rising: float) -> Array:
        number, size = _bend(name, p, x)
        return np.asarray(rising * np.where(np.abs(number) > 2.0**-46 * size, np.sign(number), 0.0))

    right = _crossing(lambda x: sign(x, -1.0), 0.0, 4.0)
    return (-right if name == "swish" else _crossing(lambda x: sign(x, 1.0), -4.0, 0.0)), right


@lru_cache(maxsize=256)
def valley(name: str, p: float) -> tuple[float, float]:
    """(x, y): a gate falls up to x - BLUR, rises from x + BLUR on, and is nowhere less than y. Where it is convex the tangent at x is below it, and
    left of that it falls to there."""
    left, right = bends(name, p)
    if name == "hard_swish":
        return -p / 2, float(dn(np.array(-p * p / 4)))

    def sign(x: Array) -> Array:
        low, high = derivative_enclosure(name, p, x)
        return np.where(high < 0, -1.0, np.where(low > 0, 1.0, 0.0))

    x = np.array([_crossing(sign, left, right)])
    (low, _), slopes = enclose(name, p, x), derivative_enclosure(name, p, x)
    lost = up(np.maximum(np.abs(slopes[0]), np.abs(slopes[1])) * (right - left + 2 * BLUR) * (1 + 4 * U))
    return float(x[0]), float(dn(low - lost)[0])
