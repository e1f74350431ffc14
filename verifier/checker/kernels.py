"""Enclosures of exp, log, sigmoid, ... that hold on every machine with IEEE doubles: no libm, only + - * / sqrt and exact steps.

`rint`, `floor`, `frexp` and `ldexp` are exact (ldexp up to one rounding of a subnormal result). u = 2^-53. In the proofs a bare
number is a relative error in units of u: products and quotients add those of their operands and 1; a sum of positive terms has the
mean of theirs, weighted by size, and 1. Squares of errors (below 10^9 u^2) vanish in the room that every bound leaves. Every
enclosure adds 2^-1021, more than what underflow (each time at most 2^-1074) or the cut at exp(-745) can change.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from verifier.checker.arithmetic import SMALLEST, Array, dn, up
from verifier.checker.refusal import Rejected

U = 2.0**-53
LN2_HEAD, LN2_TAIL = 2977044471 * 2.0**-32, float.fromhex("0x1.a39ef35793c76p-33")  # 32 bits, and ln 2 - head but for 2^-86
HALF_PI = (843314856 * 2.0**-29, 571903011 * 2.0**-59, 640037652 * 2.0**-90)  # 30 bits each; pi/2 is their sum + less than 2^-91
TWO_BY_ROOT_PI = float.fromhex("0x1.20dd750429b6dp+0")
STEEPEST = 1024  # integer exponents of pow
LARGEST = 2.0**1000  # a reciprocal beyond may have lost digits to underflow
EXP_TERMS = tuple(1 / math.factorial(j) for j in range(15))
SIN_TERMS = tuple((-1) ** j / math.factorial(2 * j + 1) for j in range(1, 9))
COS_TERMS = tuple((-1) ** j / math.factorial(2 * j) for j in range(2, 10))
ODD_TERMS = tuple(1 / (2 * j + 1) for j in range(18))


def _horner(x: Array, terms: tuple[float, ...]) -> Array:
    """terms[0] + terms[1] x + ..."""
    total = np.full(x.shape, terms[-1])
    for c in reversed(terms[:-1]):
        total *= x
        total += c
    return total


def _exp(x: Array) -> Array:
    """8 for x <= 700. k = rint(x / ln 2), |k| <= 1075: k head has 43 bits, and x - k head, a multiple of the last bit of x or of 2^-32
    and below 1/2, is exact. Taking k tail off leaves r, |r| < 0.3467, off by u |r| + 2^-74: 0.35. Degree 14 leaves out 0.001. Horner:
    Q_j = sum of r^i / (i + j)! has an error a_j <= |r| a_(j+1) + u (|r| Q_(j+1) + 1.5 Q_j): a_2 < u, a_1 < 2.6 u (Q_1 < 1.2, its term 1 is
    exact), a_0 < u (0.9 + 0.42 + Q_0), and Q_0 = e^r > 0.707: 1.32 / 0.707 + 1 < 3."""
    x = np.maximum(x, -745.0)
    k = np.rint(x * (1 / math.log(2)))
    return np.asarray(np.ldexp(_horner((x - k * LN2_HEAD) - k * LN2_TAIL, EXP_TERMS), k.astype(np.int32)))


def _log(x: Array) -> Array:
    """16. x = 2^k m, m in [0.71, 1.42): s = (m - 1) / (m + 1) is 2 (m - 1 is exact), |s| < 0.18, L = 2 atanh(s) is 2.1 + 3. If k = 0, that is
    all. Else |log x| > 0.34; L, |L| < 0.36, is off by 1.9 u, k tail + L rounds by 0.4 u, k head is exact: 2.3 / 0.34 + 1 < 8."""
    m, k = np.frexp(x)
    low = m < 0.71
    m, k = np.where(low, 2 * m, m), np.where(low, k - 1, k).astype(np.float64)
    return k * LN2_HEAD + (k * LN2_TAIL + _twice_atanh((m - 1) / (m + 1)))


def _twice_atanh(s: Array) -> Array:
    """3, for |s| <= 1/3: 2 (s + s^3/3 + ...), 18 terms leave out 0.01. What is added to 1 is below 0.04 and 6: 1.3; the product: 1."""
    return 2 * s * _horner(s * s, ODD_TERMS)


def _sigmoid(x: Array) -> Array:
    """16. t = exp(-|x|) is 8, 1 + t at most 8/2 + 1, the numerator 8 or 0: 8 + 5 + 1."""
    t = _exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, t) / (1 + t))


def _tanh(x: Array) -> Array:
    """32. y = 2|x|, t = exp(-y). y >= 1/2: 1 - t > 0.39 is off by 8 u 0.61 and rounds: 14; 1 + t is 5; 20 in all. y < 1/2: (e^y - 1) / y
    has 14 positive terms (the rest is 0.5), what is added to 1 is below 0.3 of the sum: 4; m = e^y - 1 is 5; m + 2 is 2.3; 9 in all."""
    y = 2 * np.abs(x)
    t, small = _exp(-y), np.minimum(y, 0.5)
    m = small * _horner(small, EXP_TERMS[1:])
    return np.asarray(np.copysign(np.where(y < 0.5, m / (m + 2), (1 - t) / (1 + t)), x))


def _softplus(x: Array) -> Array:
    """32. max(x, 0) + log(1 + t), t = exp(-|x|) is 8; log(1 + t) = 2 atanh(t / (2 + t)): 2 + t is 3.7, s 12.7, atanh(s) 1.09 of that, + 3."""
    t = _exp(-np.abs(x))
    return np.maximum(x, 0) + _twice_atanh(t / (2 + t))


def _erf(x: Array) -> Array:
    """1024. a = min(|x|, 6), q = 2 a^2: erf a = 2/sqrt(pi) exp(-a^2) a (1 + q/3 + q^2/(3 5) + ...). Term n is 3 n, a sum of N terms adds N. From
    n = q on terms halve, so N = q + 65 <= 137 leaves out 2^-60: 4 N. exp(-a^2): 36 u off in its argument, and 8. Constant, products: 4."""
    a = np.minimum(np.abs(x), 6.0)
    q = 2 * (a * a)
    term, total = np.ones(x.shape), np.ones(x.shape)
    for n in range(int(q.max(initial=0.0)) + 65):
        term = term * (q / (2 * n + 3))
        total = total + term
    return np.asarray(np.copysign(TWO_BY_ROOT_PI * _exp(-(a * a)) * a * total, x))


def _sine(x: Array, quarters: int) -> Array:
    """sin(x + quarters pi/2), 8 u absolute, for |x| <= 2^20. k = rint(2 x / pi) has 20 bits: all k HALF_PI[i] are exact; so is x - k HALF_PI[0],
    a multiple of the last bit of x or of 2^-53, below 1. Two more differences round by u/2 each, 2^-71 is left: r is off by 1.1 u, |r| < 0.786.
    sin r = r + r z S, z = r^2: |r z S| < 0.09 is 6, and u/2. cos r = 1 - (z/2 - z^2 C): z/2 0.31 u, z^2 C 0.1 u, u/4 and u/2."""
    k = np.rint(x * (2 / math.pi))
    r = ((x - k * HALF_PI[0]) - k * HALF_PI[1]) - k * HALF_PI[2]
    z, turn = r * r, np.mod(k + quarters, 4)
    sine, cosine = r + r * z * _horner(z, SIN_TERMS), 1 - (z / 2 - z * z * _horner(z, COS_TERMS))
    return np.where(turn >= 2, -1.0, 1.0) * np.where(np.mod(turn, 2) == 0, sine, cosine)


def _pow(p: float, x: Array) -> tuple[Array, Array]:
    """(x^p, error). Integers by squaring: |p| products at most, + 1 for a reciprocal. Others: w = p log x is off by (16 + 1) u |w|, and by
    u |w| if p was rounded (in `derivative`); exp adds 8. Where |x|^|p| underflows it is tiny, where its reciprocal is not, that is refused."""
    if float(p).is_integer():
        if not (abs(p) <= STEEPEST and (p >= 0 or (x != 0).all())):
            raise Rejected("domain", f"pow {p}")
        y, square = np.ones(x.shape), x
        for bit in reversed(f"{abs(int(p)):b}"):
            y, square = (y * square if bit == "1" else y), square * square
        y = 1 / y if p < 0 else y
        return np.where(np.abs(y) <= LARGEST, y, np.inf), (abs(p) + 2) * U * np.abs(y)
    w = p * value("log", 0.0, x)[0]
    y = value("exp", 0.0, w)[0]
    return y, (10 + 20 * np.abs(w)) * U * y


# name: kernel, error in units of u (sin, cos: absolute), domain, range
KERNELS: dict[str, tuple[Callable[[Array], Array], int, Callable[[Array], Array], tuple[float, float]]] = {
    "exp": (_exp, 8, lambda x: x <= 700, (0.0, np.inf)),
    "log": (_log, 16, lambda x: x > 0, (-np.inf, np.inf)),
    "sqrt": (np.sqrt, 2, lambda x: x >= 0, (0.0, np.inf)),
    "reciprocal": (lambda x: 1 / x, 2, lambda x: x != 0, (-np.inf, np.inf)),
    "sigmoid": (_sigmoid, 16, np.isfinite, (0.0, 1.0)),
    "tanh": (_tanh, 32, np.isfinite, (-1.0, 1.0)),
    "erf": (_erf, 1024, np.isfinite, (-1.0, 1.0)),
    "softplus": (_softplus, 32, np.isfinite, (0.0, np.inf)),
    "sin": (lambda x: _sine(x, 0), 8, lambda x: np.abs(x) <= 2.0**20, (-1.0, 1.0)),
    "cos": (lambda x: _sine(x, 1), 8, lambda x: np.abs(x) <= 2.0**20, (-1.0, 1.0)),
}


def value(name: str, parameter: float, x: Array) -> tuple[Array, Array]:
    """(y, error): |f(x) - y| <= error + 2^-1021. Rejects points outside the domain."""
    if name == "pow":
        return _pow(parameter, x)
    if name not in KERNELS or not KERNELS[name][2](x).all():
        raise Rejected("domain" if name in KERNELS else "unsupported-function", name)
    y = KERNELS[name][0](x)
    return y, KERNELS[name][1] * U * (np.ones(y.shape) if name in ("sin", "cos") else np.abs(y))


def derivative(name: str, parameter: float, x: Array) -> tuple[Array, Array]:
    """(y, error): |f'(x) - y| <= error + 2^-1021. sigmoid' = t / (1 + t)^2 with t = exp(-|x|), 8: (1 + t)^2 is 11, y 20."""
    match name:
        case "exp" | "sin" | "softplus":
            return value({"exp": "exp", "sin": "cos", "softplus": "sigmoid"}[name], 0.0, x)
        case "cos":
            return -value("sin", 0.0, x)[0], value("sin", 0.0, x)[1]
        case "log":
            y, units = value("reciprocal", 0.0, x)[0], 2.0
        case "sqrt":
            y, units = 0.5 / value("sqrt", 0.0, x)[0], 3.0
        case "reciprocal":
            y, units = -np.square(value("reciprocal", 0.0, x)[0]), 4.0
        case "sigmoid" | "tanh":
            t = _exp(-np.abs(x) if name == "sigmoid" else -2 * np.abs(x))
            y, units = (1.0 if name == "sigmoid" else 4.0) * t / ((1 + t) * (1 + t)), 32.0
        case "erf":
            y = TWO_BY_ROOT_PI * _exp(-(x * x))
            return y, (np.minimum(x * x, 800) + 16) * U * y  # x^2 is off by u x^2: relative, in exp(-x^2)
        case "pow":
            y, error = _pow(parameter - 1, x)
            return parameter * y, abs(parameter) * (error + 2 * U * np.abs(y))
        case _:
            raise Rejected("unsupported-function", name)
    return y, units * U * np.abs(y)


def enclose(name: str, parameter: float, x: Array) -> tuple[Array, Array]:
    """low <= f(x) <= high."""
    low, high = _outward(*value(name, parameter, x))
    if name == "erf":  # erfc(6) < u
        low, high = np.where(x >= 6, np.maximum(low, 1 - U), low), np.where(x <= -6, np.minimum(high, U - 1), high)
    bottom, top = KERNELS[name][3] if name in KERNELS else (-np.inf, np.inf)
    return np.maximum(low, bottom), np.minimum(high, top)


def derivative_enclosure(name: str, parameter: float, x: Array) -> tuple[Array, Array]:
    """low <= f'(x) <= high. Infinite where f' is (Sqrt at 0)."""
    return _outward(*derivative(name, parameter, x))


def _outward(y: Array, error: Array) -> tuple[Array, Array]:
    error = error + 2.0**-1021
    return dn(y - error, SMALLEST), up(y + error, SMALLEST)
