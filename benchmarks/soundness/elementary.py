"""Rational enclosures of smooth functions at a rational point, with whole numbers only: for the truth of the suite, not for speed.

Each function returns (lower, upper) with lower <= f(x) <= upper, at most 2^-200 apart relatively (erf beyond 16: 2^-300 absolutely; sin and
cos: 2^-200 absolutely); equal where the value is rational and known to be. Sums of series are rounded down and up, term by term; what is left
of a series is added.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from math import isqrt

Enclosure = tuple[Fraction, Fraction]
BITS = 256  # significant binary digits of what is returned
LARGEST = 2**16  # of an argument of exp, sin and cos
ZERO, ONE = Fraction(0), Fraction(1)


class OutOfRange(ArithmeticError):
    """The function is not defined there, or its value would be too large to write down."""


def rounded(value: Fraction, up: bool, bits: int = BITS) -> Fraction:
    """A dyadic number of at most bits + 1 digits next to `value`, not below it if `up`, else not above it."""
    if not value:
        return ZERO
    shift = bits - value.numerator.bit_length() + value.denominator.bit_length()
    top = value.numerator << shift if shift >= 0 else value.numerator
    bottom = value.denominator if shift >= 0 else value.denominator << -shift
    digits = -(-top // bottom) if up else top // bottom
    return Fraction(digits, 1 << shift) if shift >= 0 else Fraction(digits << -shift)


def _outward(lower: Fraction, upper: Fraction, bits: int = BITS) -> Enclosure:
    return rounded(lower, up=False, bits=bits), rounded(upper, up=True, bits=bits)


def _small(x: Fraction) -> int:
    """Binary zeros after the point, before x begins; at least 0."""
    return max(0, x.denominator.bit_length() - abs(x.numerator).bit_length() + 1)


def exp(x: Fraction, bits: int = BITS) -> Enclosure:
    """e^x, relatively to 2^-bits. Raises OutOfRange beyond 2^16."""
    if not x:
        return ONE, ONE
    if abs(x) > LARGEST:
        raise OutOfRange(f"exp({float(x):g})")
    halvings = abs(x.numerator // x.denominator).bit_length() + 8
    point = bits + 2 * halvings + 64
    low = (abs(x.numerator) << point) // (x.denominator << halvings)
    lower, upper = _series(low, point)[0], _series(low + 1, point)[1]
    for _ in range(halvings):
        lower, upper = lower * lower >> point, (upper * upper >> point) + 1
    ends = (Fraction(lower, 1 << point), Fraction(upper, 1 << point)) if x > 0 else (Fraction(1 << point, upper), Fraction(1 << point, lower))
    return _outward(*ends, bits)


def _series(r: int, point: int) -> tuple[int, int]:
    """e^(r / 2^point) for 0 <= r < 2^(point - 7), times 2^point: rounded down, rounded up."""
    below = above = 1 << point
    lower = upper = 1 << point
    n = 0
    while below or above > 1:
        n += 1
        below = (below * r >> point) // n
        above = -(-above * r // (n << point))
        lower, upper = lower + below, upper + above
    return lower, upper + 2  # what is left is less than the last term, which is 1


def sigmoid(x: Fraction) -> Enclosure:
    """1 / (1 + e^-x)."""
    lower, upper = exp(x)
    return _outward(lower / (1 + lower), upper / (1 + upper))


def tanh(x: Fraction) -> Enclosure:
    """(1 - e^-2x) / (1 + e^-2x)."""
    if not x:
        return ZERO, ZERO
    if x < 0:
        lower, upper = tanh(-x)
        return -upper, -lower
    low, high = exp(-2 * x, BITS + _small(x))
    return _outward((1 - high) / (1 + high), (1 - low) / (1 + low))


def sqrt(x: Fraction) -> Enclosure:
    """The square root; exact where it is rational. Raises OutOfRange below 0."""
    if x < 0:
        raise OutOfRange(f"sqrt({float(x):g})")
    top, bottom = isqrt(x.numerator), isqrt(x.denominator)
    if top * top == x.numerator and bottom * bottom == x.denominator:
        return Fraction(top, bottom), Fraction(top, bottom)
    point = BITS + _small(x)
    root = isqrt((x.numerator << 2 * point) // x.denominator)
    return _outward(Fraction(root, 1 << point), Fraction(root + 1, 1 << point))


def log(x: Fraction) -> Enclosure:
    """The natural logarithm. Raises OutOfRange at and below 0."""
    if x <= 0:
        raise OutOfRange(f"log({float(x):g})")
    if x == 1:
        return ZERO, ZERO
    power = x.numerator.bit_length() - x.denominator.bit_length()
    part = x / Fraction(2) ** power  # in (1/2, 2)
    bits = BITS + 64 + _small(x - 1)
    low, high = _twice_atanh((part - 1) / (part + 1), bits)
    two = _twice_atanh(Fraction(1, 3), bits)
    return _outward(low + min(power * t for t in two), high + max(power * t for t in two))


def _twice_atanh(z: Fraction, bits: int) -> Enclosure:
    """2 atanh z for |z| <= 1/3: 2 (z + z^3/3 + ...)."""
    if z < 0:
        lower, upper = _twice_atanh(-z, bits)
        return -upper, -lower
    point = bits + 32
    low = (z.numerator << point) // z.denominator
    total = power = low
    square, n = low * low >> point, 1
    while power:
        n += 2
        power = power * square >> point
        total += power // n
    return Fraction(2 * total, 1 << point), Fraction(2 * total + 8 * n, 1 << point)  # n terms, each short of less than 2; the rest is shorter


def softplus(x: Fraction) -> Enclosure:
    """log(1 + e^x)."""
    low, high = exp(x)
    return log(1 + rounded(low, up=False))[0], log(1 + rounded(high, up=True))[1]


def erf(x: Fraction) -> Enclosure:
    """2 / sqrt(pi) e^(-x^2) (x + 2 x^3 / 3 + 4 x^5 / 15 + ...); beyond 16, within e^(-x^2) of 1."""
    if not x:
        return ZERO, ZERO
    if x < 0:
        lower, upper = erf(-x)
        return -upper, -lower
    if x > 16:
        return 1 - Fraction(1, 1 << 300), ONE
    low, high = rounded(x, up=False), rounded(x, up=True)
    sums = _erf_series(low, up=False), _erf_series(high, up=True)
    powers = exp(-high * high)[0], exp(-low * low)[1]
    scales = [2 / root for root in (sqrt(pi()[1])[1], sqrt(pi()[0])[0])]
    return _outward(scales[0] * powers[0] * sums[0], min(scales[1] * powers[1] * sums[1], ONE))


def _erf_series(x: Fraction, up: bool) -> Fraction:
    """x + 2 x^3 / 3 + 4 x^5 / 15 + ... for x > 0, every term rounded up, or every term down."""
    point = BITS + 64 + _small(x)
    sign = -1 if up else 1  # -(-a // b) rounds up
    square = 2 * x * x
    term = sign * (sign * (x.numerator << point) // x.denominator)
    factor = sign * (sign * (square.numerator << point) // square.denominator)
    total, n = term, 1
    while term > 1 or n < 2 * square:
        n += 2
        term = sign * (sign * term * factor // (n << point))
        total += term
    return Fraction(total + (2 * term + 2 if up else 0), 1 << point)  # from here on each term is at most half the one before


def cos(x: Fraction) -> Enclosure:
    """The cosine. Raises OutOfRange beyond 2^16."""
    if not x:
        return ONE, ONE
    rest, width = _remainder(x)
    low, high = _alternating(abs(rest), 0)
    return _outward(max(low - width, -ONE), min(high + width, ONE))


def sin(x: Fraction) -> Enclosure:
    """The sine. Raises OutOfRange beyond 2^16."""
    if not x:
        return ZERO, ZERO
    rest, width = _remainder(x)
    low, high = _alternating(abs(rest), 1)
    low, high = (low, high) if rest >= 0 else (-high, -low)
    return _outward(max(low - width, -ONE), min(high + width, ONE))


def _remainder(x: Fraction) -> Enclosure:
    """(r, w): x less a multiple of 2 pi is within w of r, |r| < 4; w = 0 where the multiple is 0. A sine or cosine moves by at most w."""
    if abs(x) > LARGEST:
        raise OutOfRange(f"the sine or cosine of {float(x):g}")
    low, high = pi()
    turns = round(x / (2 * low))
    return rounded(x, up=False) - 2 * turns * low, 2 * abs(turns) * (high - low) + rounded(x, up=True) - rounded(x, up=False)


def _alternating(r: Fraction, start: int) -> Enclosure:
    """r^start (1/start! - r^2 / (start + 2)! + ...) for 0 <= r < 4 and start 0 or 1: each term's size is rounded down and up."""
    point, n = BITS + 64 + _small(r), start
    square = (r.numerator**2 << point) // r.denominator**2
    below = above = 1 << point
    if start:
        below = (r.numerator << point) // r.denominator
        above = below + 1
    low, high, sign = below, above, 1
    while above > 1 or n < 8:
        n, sign = n + 2, -sign
        below = (below * square >> point) // (n * (n - 1))
        above = -(-above * (square + 1) // (n * (n - 1) << point))
        low, high = low + (below if sign > 0 else -above), high + (above if sign > 0 else -below)
    return Fraction(low - 2, 1 << point), Fraction(high + 2, 1 << point)  # from here on each term is less than half the one before


def meets(interval: Enclosure, offset: Fraction) -> bool:
    """Whether [a, b] may hold some (2 k + offset) pi, k whole; never False where it does."""
    low, high = min(interval[0] / v for v in pi()), max(interval[1] / v for v in pi())
    return -((offset - low) // 2) <= (high - offset) // 2


@lru_cache(maxsize=1)
def pi() -> Enclosure:
    """16 atan(1/5) - 4 atan(1/239) (Machin 1706)."""
    (a, b), (c, d) = _atan_of_inverse(5), _atan_of_inverse(239)
    return 16 * a - 4 * d, 16 * b - 4 * c


def _atan_of_inverse(k: int) -> Enclosure:
    """atan(1/k): an alternating series, so two consecutive sums enclose it."""
    total, n = ZERO, 0
    while k ** (2 * n + 1) < 1 << (BITS + 64):
        total += Fraction((-1) ** n, (2 * n + 1) * k ** (2 * n + 1))
        n += 1
    after = total + Fraction((-1) ** n, (2 * n + 1) * k ** (2 * n + 1))
    return min(total, after), max(total, after)
