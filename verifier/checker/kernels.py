"""Enclosures of exp, log, sigmoid, ... that hold on every machine with IEEE doubles: no libm, only + - * / sqrt and exact steps.

`rint`, `floor`, `frexp` and `ldexp` are exact (ldexp up to one rounding of a subnormal result). u = 2^-53. In the proofs `e` is
a relative error in units of u: products and quotients add those of their operands and 1; a sum of positive terms has the mean of
theirs, weighted by size, and 1. Squares of errors (below 10^6 u^2) vanish in the room that every bound leaves. Every enclosure
adds 2^-1021, more than what underflow (each time at most 2^-1074) or the cut at exp(-745) can change.
"""

from __future__ import annotations

import math

import numpy as np

from verifier.checker.arithmetic import Array, dn, up
from verifier.checker.refusal import Rejected

U = 2.0**-53
LN2_HEAD, LN2_TAIL = 2977044471 * 2.0**-32, float.fromhex("0x1.a39ef35793c76p-33")  # ln 2 = head + tail - less than 2^-86
HALF_PI = (843314856 * 2.0**-29, 571903011 * 2.0**-59, 640037652 * 2.0**-90)  # pi/2 = their sum + less than 2^-91; 30 bits each
TWO_BY_ROOT_PI = float.fromhex("0x1.20dd750429b6dp+0")
FAR = 2.0**20  # sin and cos reduce arguments up to here
STEEPEST = 1024  # integer exponents of pow
LARGEST = 2.0**1000  # a reciprocal beyond may have lost digits to underflow
RANGES = {"exp": (0.0, np.inf), "sqrt": (0.0, np.inf), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "erf": (-1.0, 1.0), "sin": (-1.0, 1.0),
          "cos": (-1.0, 1.0), "softplus": (0.0, np.inf)}
EXP_TERMS = tuple(1 / math.factorial(j) for j in range(15))
SIN_TERMS = tuple((-1) ** j / math.factorial(2 * j + 1) for j in range(1, 9))
COS_TERMS = tuple((-1) ** j / math.factorial(2 * j) for j in range(2, 10))
ODD_TERMS = tuple(1 / (2 * j + 1) for j in range(18))


def enclose(name: str, parameter: float, x: Array) -> tuple[Array, Array]:
    """low <= f(x) <= high. Rejects points outside the domain."""
    low, high = _outward(*value(name, parameter, x))
    bottom, top = RANGES.get(name, (-np.inf, np.inf))
    if name == "erf":  # erfc(6) < 2^-53
        low, high = np.where(x >= 6, np.maximum(low, 1 - U), low), np.where(x <= -6, np.minimum(high, U - 1), high)
    return np.maximum(low, bottom), np.minimum(high, top)


def derivative_enclosure(name: str, parameter: float, x: Array) -> tuple[Array, Array]:
    """low <= f'(x) <= high. Infinite where f' is (Sqrt at 0)."""
    return _outward(*derivative(name, parameter, x))


def _outward(y: Array, error: Array) -> tuple[Array, Array]:
    error = error + 2.0**-1021
    return dn(y - error), up(y + error)


def value(name: str, parameter: float, x: Array) -> tuple[Array, Array]:
    """(y, error): |f(x) - y| <= error + 2^-1021."""
    match name:
        case "exp":
            y, e = _exp(_within(x, x <= 700, name)), 8
        case "log":
            y, e = _log(_within(x, x > 0, name)), 16
        case "sqrt":
            y, e = np.sqrt(_within(x, x >= 0, name)), 2
        case "reciprocal":
            y, e = 1 / _within(x, x != 0, name), 2
        case "sigmoid":
            y, e = _sigmoid(x), 16
        case "tanh":
            y, e = _tanh(x), 32
        case "erf":
            y, e = _erf(x), 1024
        case "softplus":
            y, e = _softplus(x), 32
        case "sin" | "cos":
            y = _turn(_within(x, np.abs(x) <= FAR, name), name == "cos")
            return y, np.full(y.shape, 8 * U)
        case "pow":
            return _pow(parameter, x)
        case _:
            raise Rejected("unsupported-function", name)
    return y, e * U * np.abs(y)


def derivative(name: str, parameter: float, x: Array) -> tuple[Array, Array]:
    """(y, error): |f'(x) - y| <= error + 2^-1021. `sigmoid'` = t / (1 + t)^2 with t = exp(-|x|): t 8, 1 + t 5, its square 11, y 20."""
    match name:
        case "exp" | "sin":
            return value("cos" if name == "sin" else name, 0.0, x)
        case "log":
            y, e = value("reciprocal", 0.0, x)[0], 2.0
        case "sqrt":
            y, e = 0.5 / value("sqrt", 0.0, x)[0], 3.0
        case "reciprocal":
            y, e = -(value("reciprocal", 0.0, x)[0] ** 2), 4.0
        case "sigmoid" | "tanh":
            t = _exp(-np.abs(x) if name == "sigmoid" else -2 * np.abs(x))
            y, e = (1.0 if name == "sigmoid" else 4.0) * t / ((1 + t) * (1 + t)), 32.0
        case "erf":
            y = TWO_BY_ROOT_PI * _exp(-(x * x))
            return y, (np.minimum(x * x, 800) + 16) * U * y  # x^2 is off by u x^2, which is relative to exp(-x^2)
        case "softplus":
            return value("sigmoid", 0.0, x)
        case "cos":
            y, error = value("sin", 0.0, x)
            return -y, error
        case "pow":
            y, error = _pow(parameter - 1, x)
            return parameter * y, abs(parameter) * (error + 2 * U * np.abs(y))
        case _:
            raise Rejected("unsupported-function", name)
    return y, e * U * np.abs(y)


def _within(x: Array, mask: Array, name: str) -> Array:
    if not mask.all():
        raise Rejected("domain", name)
    return x


def _horner(x: Array, terms: tuple[float, ...]) -> Array:
    """terms[0] + terms[1] x + ..."""
    total = np.full(x.shape, terms[-1])
    for c in reversed(terms[:-1]):
        total *= x
        total += c
    return total


def _exp(x: Array) -> Array:
    """8 for x <= 700. k = rint(x / ln 2), |k| <= 1075: k head has 43 bits and x - k head, a multiple of 2^-54 below 1/2, is exact (for k = 0
    too). r = that - k tail is off by u |r| + 2^-76, |r| <= 0.3467: 0.35. Taylor to degree 14 leaves out 0.001. Horner: with
    Q_j = sum of r^i / (i + j)! its error a_j <= |r| a_{j+1} + u (|r| Q_{j+1} + 1.5 Q_j): a_2 < 1, a_1 < 2.4 (Q_1 <= 1.2), a_0 < 3 u, and
    e^r >= 0.707 where the last three roundings are u (Q_0 <= 1.42): below 5 in all."""
    x = np.maximum(x, -745.0)
    k = np.rint(x * (1 / math.log(2)))
    return np.asarray(np.ldexp(_horner((x - k * LN2_HEAD) - k * LN2_TAIL, EXP_TERMS), k.astype(np.int32)))


def _log(x: Array) -> Array:
    """16. x = 2^k m with m in [0.7, 1.42): m - 1 exact, s = (m-1)/(m+1) 2 (m + 1 is rounded), |s| < 0.1764, L = 2 atanh(s) 5 (13 or more terms leave out 10^-21).
    k = 0: 5. Else |log x| >= 0.336, |L| <= 0.357 is off by 1.8 u, k tail + L rounds by 0.36 u, the last sum by u |log x|; k head is exact: 1 + 2.2 / 0.336 < 8."""
    m, k = np.frexp(x)
    low = m < 0.71
    m, k = np.where(low, 2 * m, m), np.where(low, k - 1, k).astype(np.float64)
    return k * LN2_HEAD + (k * LN2_TAIL + _twice_atanh((m - 1) / (m + 1)))


def _twice_atanh(s: Array) -> Array:
    """2 (s + s^3/3 + ...), 18 terms: for |s| <= 1/3 the rest is below 0.01 u. The series in s^2 (1) is 1.6 (share of what is not 1 at most 0.04), 2 s times it 1 more: 3."""
    return 2 * s * _horner(s * s, ODD_TERMS)


def _sigmoid(x: Array) -> Array:
    """16. t = exp(-|x|) 8; 1 + t at most (8 + 0) / 2 + 1 = 5; the numerator 8 or 0; the quotient 8 + 5 + 1 = 14."""
    t = _exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1.0, t) / (1 + t))


def _tanh(x: Array) -> Array:
    """32. y = 2|x|, t = exp(-y). y >= 1/2: 1 - t >= 0.39 is off by 8 u 0.61 and rounds: 14; 1 + t: 5; quotient 20. y < 1/2: (e^y - 1)/y, 15 positive
    terms (the rest 0.02 u), shares of the tail at most 0.27: 3; m = e^y - 1: 4; m + 2: 1.9; quotient 7."""
    y = 2 * np.abs(x)
    t = _exp(-y)
    small = np.minimum(y, 0.5)
    m = small * _horner(small, EXP_TERMS[1:]) if (y < 0.5).any() else small
    return np.asarray(np.copysign(np.where(y < 0.5, m / (m + 2), (1 - t) / (1 + t)), x))


def _softplus(x: Array) -> Array:
    """32. max(x, 0) + log(1 + t), t = exp(-|x|) 8; log(1 + t) = 2 atanh(t / (2 + t)): 2 + t 3.7, s 12.7, atanh scales that by at most 1.09 and adds 3: 17; the sum 18."""
    t = _exp(-np.abs(x))
    return np.maximum(x, 0) + _twice_atanh(t / (2 + t))


def _erf(x: Array) -> Array:
    """1024. With a = min(|x|, 6), q = 2 a^2: erf a = 2/sqrt(pi) exp(-a^2) a sum_n q^n / (3 5 ... (2n+1)), positive. Term n is 3n, the sum of N terms adds N;
    from n = q on terms halve, so N = q + 64 <= 136 leaves out 2^-60: 544; exp(-a^2): 36 + 8; three products and the constant: 4."""
    a = np.minimum(np.abs(x), 6.0)
    q = 2 * (a * a)
    term, total = np.ones(x.shape), np.ones(x.shape)
    for n in range(int(q.max(initial=0.0)) + 65):
        term = term * (q / (2 * n + 3))
        total = total + term
    return np.copysign(TWO_BY_ROOT_PI * _exp(-(a * a)) * a * total, x)


def _turn(x: Array, quarter: bool) -> Array:
    """sin x, or cos x = sin(x + pi/2); absolute 8u for |x| <= 2^20. k = rint(2x/pi) has 20 bits: k HALF_PI[i] is exact; x - k HALF_PI[0], a multiple of 2^-53
    below 1, is exact; the two other differences round by u/2 each; the rest of pi/2 is 2^-71: r is off by 1.1 u, |r| < 0.7855. sin r = r + r z S(z), z = r^2:
    |r z S| < 0.081 is 6 and the sum rounds by u/2. cos r = 1 - (z/2 - z^2 C(z)): 0.31 u from z, 0.1 u from C, 0.16 u and u/2 from the differences.
    The terms left out are below 10^-19. In all below 3u."""
    k = np.rint(x * (2 / math.pi))
    r = ((x - k * HALF_PI[0]) - k * HALF_PI[1]) - k * HALF_PI[2]
    z, turn = r * r, np.mod(k + quarter, 4)
    sine, cosine = r + r * z * _horner(z, SIN_TERMS), 1 - (z / 2 - z * z * _horner(z, COS_TERMS))
    return np.where(turn >= 2, -1.0, 1.0) * np.where(np.mod(turn, 2) == 0, sine, cosine)


def _pow(p: float, x: Array) -> tuple[Array, Array]:
    """Integers by squaring: |p| products at most, and 1 for a reciprocal; |x|^|p| underflows only if it is tiny itself. Others: x > 0, w = p log x is off by
    (16 + 1) u |w| and p by u (see `derivative`); exp: 8, plus that error of its argument times less than 1.1."""
    if float(p).is_integer():
        if not (abs(p) <= STEEPEST and (p >= 0 or (x != 0).all())):
            raise Rejected("domain", f"pow {p}")
        y, square = np.ones(x.shape), x
        for bit in reversed(f"{abs(int(p)):b}"):
            y, square = (y * square if bit == "1" else y), square * square
        y = 1 / y if p < 0 else y
        return np.where(np.abs(y) <= LARGEST, y, np.inf), (abs(p) + 2) * U * np.abs(y)
    w = p * _log(_within(x, x > 0, f"pow {p}"))
    y = _exp(_within(w, w <= 700, f"pow {p}"))
    return y, (10 + 20 * np.abs(w)) * U * y
