"""Functions of one variable over rationals: the exact twin of `functions` and `kernels`, with the standard library only.

Straight pieces are exact. Smooth functions are enclosed to any number of bits: integers scaled by 2^p are summed, and every sum
carries a count of the units its roundings can have lost. Slopes are data and come from `functions.default_slopes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import lru_cache

import numpy as np

from verifier.checker import activations, shapes, slopes
from verifier.checker.network import Function, Pieces, Smooth
from verifier.checker.refusal import Rejected

Enclosure = tuple[Fraction, Fraction]
ZERO, ONE = Fraction(0), Fraction(1)
HALF = Fraction(1, 2)
NOTHING = Fraction(1, 1 << 2000)  # above exp(-2000)
SPECK = NOTHING / (1 << 600)  # also above exp(-2000); what is multiplied by it is still below NOTHING
BITS = 100
NOTHING_AT_0 = ("sin", "tanh", "erf", "tan", "asin", "atan", "sinh", "asinh", "atanh", "elu", "gelu", "mish", "swish")
BLUR = Fraction(activations.BLUR)
EDGES = {"tan": Fraction(math.pi / 2), "asin": Fraction(1), "atanh": Fraction(1), "sinh": Fraction(700), "cosh": Fraction(700)}


# ---------------------------------------------------------------- fixed point: (integer, units) means value 2^p within `units` of it


def _fixed(x: Fraction, p: int) -> int:
    return (x.numerator << p) // x.denominator


def _twice_atanh(s: Fraction, p: int) -> tuple[int, int]:
    """2 atanh(s) for |s| <= 1/3. Every term loses at most 3 units."""
    size = _fixed(abs(s), p)
    square, total, term, n = size * size >> p, size, size, 1
    while term:
        term, n = term * square >> p, n + 2
        total += term // n
    return (2 * total if s >= 0 else -2 * total), 4 * n + 16


def _arctan_inverse(n: int, p: int) -> int:
    """atan(1/n) for n >= 5, less than 2p units off."""
    total = term = (1 << p) // n
    k = 1
    while term:
        term, k = term // (n * n), k + 2
        total += term // k if k % 4 == 1 else -(term // k)
    return total


@lru_cache(maxsize=64)
def _constants(p: int) -> tuple[int, int]:
    """(ln 2, pi/2), each less than 1 unit off: computed with 32 more bits."""
    more = p + 32
    return _twice_atanh(Fraction(1, 3), more)[0] >> 32, (8 * _arctan_inverse(5, more) - 2 * _arctan_inverse(239, more)) >> 32


def _arctan(x: Fraction, p: int) -> tuple[int, int]:
    """atan x for 0 <= x <= 1: s / (1 + sqrt(1 + s^2)) has half the angle, and is off by half as much and 1.5 units; thrice. Then as above."""
    s = _fixed(x, p)
    for _ in range(3):
        s = (s << p) // ((1 << p) + math.isqrt((1 << 2 * p) + s * s))
    square, total, term, n = s * s >> p, s, s, 1
    while term:
        term, n = term * square >> p, n + 2
        total += term // n if n % 4 == 1 else -(term // n)
    return 8 * total, 8 * (4 * n + 16)


def _taylor(r: int, p: int, start: int, step: int) -> tuple[int, int]:
    """sum over n = start, start + step, ... of r^n / n! for |r| < 0.8, signs alternating if step is 2; 4 units per term are lost."""
    size, n = abs(r), start
    term, total = ((1 << p), 0) if start == 0 else (size, 0)
    while term:
        sign = -1 if (r < 0 and n % 2) != (step == 2 and (n - start) % 4 == 2) else 1
        total += sign * term
        for _ in range(step):
            n += 1
            term = (term * size >> p) // n
    return total, 4 * n + 8


# ---------------------------------------------------------------- elementary enclosures, about `bits` bits relative to 1 or to the result


def _exp(x: Fraction, bits: int) -> Enclosure:
    if x == 0:
        return ONE, ONE
    if x < -2000:
        return ZERO, NOTHING
    if x > 4000:
        raise Rejected("domain", "exp")
    k, p = round(float(x) / math.log(2)), bits + 32
    total, units = _taylor(_fixed(x, p) - k * _constants(p)[0], p, 0, 1)
    units += 2 * (2 + abs(k))
    scale = Fraction(1 << k if k >= 0 else 1, 1 << (p if k >= 0 else p - k))
    return (total - units) * scale, (total + units) * scale


def _log(x: Fraction, bits: int) -> Enclosure:
    if x <= 0:
        raise Rejected("domain", "log")
    if x == 1:
        return ZERO, ZERO
    k = x.numerator.bit_length() - x.denominator.bit_length()
    m = x / (1 << k) if k >= 0 else x * (1 << -k)  # in (1/2, 2)
    if m > Fraction(4, 3):
        m, k = m / 2, k + 1
    p = bits + 32
    total, units = _twice_atanh((m - 1) / (m + 1), p)
    total, units = total + k * _constants(p)[0], units + abs(k) + 1
    return Fraction(total - units, 1 << p), Fraction(total + units, 1 << p)


def _sin(x: Fraction, bits: int, quarters: int) -> Enclosure:
    """sin(x + quarters pi/2)."""
    if abs(x) > 1 << 40:
        return -ONE, ONE
    k, p = round(float(x) * 2 / math.pi), bits + 80
    r = _fixed(x, p) - k * _constants(p)[1]
    total, units = _taylor(r, p, 1 - (k + quarters) % 2, 2)
    units += 2 * (2 + abs(k))
    total = -total if (k + quarters) % 4 >= 2 else total
    return max(-ONE, Fraction(total - units, 1 << p)), min(ONE, Fraction(total + units, 1 << p))


def _sqrt(x: Fraction, bits: int) -> Enclosure:
    if x < 0:
        raise Rejected("domain", "sqrt")
    shift = 2 * (bits + max(0, x.denominator.bit_length() - x.numerator.bit_length()))
    scaled = _fixed(x, shift)
    root = math.isqrt(scaled)
    exact = root * root == scaled and scaled * x.denominator == x.numerator << shift
    return Fraction(root, 1 << shift // 2), Fraction(root + (not exact), 1 << shift // 2)


def _erf(x: Fraction, bits: int) -> Enclosure:
    """x >= 0: 2/sqrt(pi) exp(-x^2) (x + 2 x^3/3 + 4 x^5/(3 5) + ...); far out 1 - exp(-x^2) <= erf x <= 1."""
    if x * x > bits:
        return 1 - _exp(-min(x * x, Fraction(2000)), bits)[1], ONE
    p = bits + 64 + 2 * math.ceil(x * x)
    square, a = _fixed(2 * x * x, p), _fixed(x, p)
    term, total, n = a, 0, 0
    while term:
        total += term
        n += 1
        term = (term * square >> p) // (2 * n + 1)
    # Step n loses 2 units, and as many as the term before is large (square is off by 1); what is lost grows like the terms: total / a at most.
    units = (2 * n + (total >> p) + 4) * (total // max(a, 1) + 2)
    low, high = Fraction(total - units, 1 << p), Fraction(total + units, 1 << p)
    fall, scale = _exp(-x * x, bits + 8), _two_by_root_pi(bits + 8)
    return max(ZERO, low) * fall[0] * scale[0], min(ONE, high * fall[1] * scale[1])


def _two_by_root_pi(bits: int) -> Enclosure:
    half = _constants(bits)[1]
    low, high = _sqrt(Fraction(2 * (half - 1), 1 << bits), bits)[0], _sqrt(Fraction(2 * (half + 1), 1 << bits), bits)[1]
    return 2 / high, 2 / low


def _angle(x: Fraction, bits: int) -> Enclosure:
    """atan x for x >= 0."""
    p = bits + 32
    total, units = _arctan(x if x <= 1 else 1 / x, p)
    total, units = (total, units) if x <= 1 else (_constants(p)[1] - total, units + 1)
    return Fraction(total - units, 1 << p), Fraction(total + units, 1 << p)


def _logistic(t: Fraction, bits: int) -> Enclosure:
    if t < -2000:
        return ZERO, SPECK
    low, high = _exp(-t, bits)
    return 1 / (1 + high), 1 / (1 + low)


def _fall(x: Fraction, bits: int) -> Enclosure:
    return _exp(x, bits) if x >= -2000 else (ZERO, SPECK)


def _times(x: Fraction, ends: Enclosure) -> Enclosure:
    return (x * ends[0], x * ends[1]) if x >= 0 else (x * ends[1], x * ends[0])


def _normal(x: Fraction, bits: int) -> Enclosure:
    """(1 + erf x) / 2."""
    low, high = _signed(x, _erf(abs(x), bits))
    return (1 + low) / 2, (1 + high) / 2


def _mish_parts(x: Fraction, bits: int) -> tuple[Enclosure, Enclosure]:
    """tanh(ln(1 + e^x)), and its slope 4 t (t + 1) / ((t + 1)^2 + 1)^2 from the two ends of t = e^x."""
    if x > 2000:
        return (1 - SPECK, ONE), (ZERO, SPECK)
    low, high = _fall(x, bits)
    share = [1 - 2 / (1 + (1 + t) ** 2) for t in (low, high)]
    return (share[0], share[1]), (4 * low * (low + 1) / ((high + 1) ** 2 + 1) ** 2, 4 * high * (high + 1) / ((low + 1) ** 2 + 1) ** 2)


def _power(p: float, x: Fraction, bits: int) -> Enclosure:
    if float(p).is_integer():
        if abs(p) > 1024 or (p < 0 and x == 0):
            raise Rejected("domain", f"pow {p}")
        return x ** int(p), x ** int(p)
    low, high = _log(x, bits + 16)
    ends = Fraction(p) * low, Fraction(p) * high
    if max(ends) > 701:
        raise Rejected("domain", f"pow {p}")
    return _exp(min(ends), bits)[0], _exp(max(ends), bits)[1]


# ---------------------------------------------------------------- the functions and their derivatives


def enclose(name: str, parameter: float, x: Fraction, bits: int = BITS) -> Enclosure:
    """f(x) within two rationals that differ by at most 2^-bits of their size (or are below 2^-1900)."""
    if x == 0 and name in NOTHING_AT_0:
        return ZERO, ZERO
    return _widened(name, parameter, x, _precise(lambda more: _value(name, parameter, x, more), bits), x**4)


def derivative(name: str, parameter: float, x: Fraction, bits: int = BITS) -> Enclosure:
    """f'(x), like `enclose`."""
    m = Fraction(parameter)
    found = _precise(lambda more: _slope(name, parameter, x, more), bits)
    return _widened(name, parameter, x, found, 4 * abs(x) ** 3 + x**4 * (1 + 3 * m * x * x))


def _widened(name: str, p: float, x: Fraction, ends: Enclosure, steepness: Fraction) -> Enclosure:
    """Of a swish, whose parameter m may be off by u: f changes with m by x^4 s', s' = sigmoid'(t) < exp(-|t|), f' by 4 x^3 s' + x^4 t' s'',
    and |s''| < s'."""
    if name != "swish" or p == 0:
        return ends
    m = Fraction(p)
    room = steepness * _exp(-abs(x + m * x**3), 32)[1] * m / (1 << 52)
    return ends[0] - room, ends[1] + room


def _precise(evaluate: Callable[[int], Enclosure], bits: int) -> Enclosure:
    more = bits + 8
    while True:
        low, high = evaluate(more)
        if (high - low) * (1 << bits) <= min(abs(low), abs(high)) or max(abs(low), abs(high)) <= 2 * NOTHING:
            return low, high
        more *= 2


def _value(name: str, p: float, x: Fraction, bits: int) -> Enclosure:
    match name:
        case "exp":
            if x > 700:
                raise Rejected("domain", "exp")
            return _exp(x, bits)
        case "log":
            return _log(x, bits)
        case "sqrt":
            return _sqrt(x, bits)
        case "reciprocal":
            return _power(-1.0, x, bits)
        case "sigmoid":
            return _logistic(x, bits)
        case "tanh":
            low, high = _exp(-2 * abs(x), bits)
            return _signed(x, ((1 - high) / (1 + high), (1 - low) / (1 + low)))
        case "erf":
            return _signed(x, _erf(abs(x), bits))
        case "softplus":
            if x < -2000:
                return ZERO, NOTHING
            low, high = _exp(-abs(x), bits)
            return max(x, ZERO) + _log(1 + low, bits)[0], max(x, ZERO) + _log(1 + high, bits)[1]
        case "sin" | "cos":
            return _sin(x, bits, int(name == "cos"))
        case "pow":
            return _power(p, x, bits)
    return _activation(name, Fraction(p), x, bits)


def _activation(name: str, p: Fraction, x: Fraction, bits: int) -> Enclosure:
    match name:
        case "softsign":
            return x / (1 + abs(x)), x / (1 + abs(x))
        case "hard_swish":
            y = x * min(max(x + p, ZERO), ONE)
            return y, y
        case "elu":
            return (x, x) if x > 0 else _times(p, tuple(e - 1 for e in _exp(x, bits)))  # type: ignore[arg-type]
        case "gelu":
            return _times(x, _normal(x, bits))
        case "mish":
            return _times(x, _mish_parts(x, bits)[0])
        case "swish":
            return _times(x, _logistic(x + p * x**3, bits))
        case "atan":
            return _signed(x, _angle(abs(x), bits))
    return _inverse_or_hyperbolic(name, x, bits)


def _inverse_or_hyperbolic(name: str, x: Fraction, bits: int) -> Enclosure:
    size = abs(x)
    if name in EDGES and (size > EDGES[name] or (name, size) == ("atanh", ONE)):
        raise Rejected("domain", name)
    match name:
        case "tan":
            (low, high), (least, most) = _sin(size, bits, 0), _sin(size, bits, 1)
            return _signed(x, (low / most, high / least)) if least > 0 else (-1 / NOTHING, 1 / NOTHING)
        case "asin":
            if size == 1:
                half, p = _constants(bits)[1], 1 << bits
                return _signed(x, (Fraction(half - 1, p), Fraction(half + 1, p)))
            low, high = _sqrt(1 - x * x, bits)
            return _signed(x, (_angle(size / high, bits)[0], _angle(size / low, bits)[1]))
        case "sinh" | "cosh":
            (low, high), (least, most) = _exp(x, bits), _exp(-x, bits)
            return ((low + least) / 2, (high + most) / 2) if name == "cosh" else ((low - most) / 2, (high - least) / 2)
        case "asinh":
            low, high = _sqrt(1 + x * x, bits)
            return _signed(x, (_log(size + low, bits)[0], _log(size + high, bits)[1]))
        case "acosh":
            if x < 1:
                raise Rejected("domain", name)
            low, high = _sqrt(x * x - 1, bits)
            return _log(x + low, bits)[0], _log(x + high, bits)[1]
        case "atanh":
            low, high = _log((1 + size) / (1 - size), bits)
            return _signed(x, (low / 2, high / 2))
    raise Rejected("unsupported-function", name)


def _slope(name: str, p: float, x: Fraction, bits: int) -> Enclosure:
    match name:
        case "exp":
            return _value(name, p, x, bits)
        case "log":
            return _power(-1.0, x, bits)
        case "sqrt":
            low, high = _sqrt(x, bits)
            if low == 0:
                raise Rejected("not-finite", "sqrt at 0 has no slope")
            return 1 / (2 * high), 1 / (2 * low)
        case "reciprocal":
            low, high = _power(-2.0, x, bits)
            return -high, -low
        case "sigmoid" | "tanh":
            low, high = _exp(-abs(x) if name == "sigmoid" else -2 * abs(x), bits)
            scale, high = (1 if name == "sigmoid" else 4), min(high, ONE)
            return scale * low / (1 + low) ** 2, scale * high / (1 + high) ** 2  # t / (1 + t)^2 increases on [0, 1]
        case "erf":
            fall, size = _exp(-x * x, bits), _two_by_root_pi(bits)
            return fall[0] * size[0], fall[1] * size[1]
        case "softplus":
            return _value("sigmoid", p, x, bits)
        case "sin" | "cos":
            return _sin(x, bits, 1 if name == "sin" else 2)
        case "pow":
            low, high = _power(p - 1, x, bits)
            return min(Fraction(p) * low, Fraction(p) * high), max(Fraction(p) * low, Fraction(p) * high)
    return _activation_slope(name, Fraction(p), x, bits)


def _activation_slope(name: str, p: Fraction, x: Fraction, bits: int) -> Enclosure:
    match name:
        case "softsign":
            return 1 / (1 + abs(x)) ** 2, 1 / (1 + abs(x)) ** 2
        case "hard_swish":
            y = ZERO if x < -p else ONE if x > 1 - p else 2 * x + p
            return y, y
        case "elu":
            return (ONE, ONE) if x > 0 else _times(p, _fall(x, bits))
        case "gelu":
            share, fall, size = _normal(x, bits), _fall(-x * x, bits), _two_by_root_pi(bits)
            bell = _times(x, (fall[0] * size[0] / 2, fall[1] * size[1] / 2))
            return share[0] + bell[0], share[1] + bell[1]
        case "mish":
            share, slope = _mish_parts(x, bits)
            moved = _times(x, slope)
            return share[0] + moved[0], share[1] + moved[1]
        case "swish":
            t, steep = x + p * x**3, x * (1 + 3 * p * x * x)
            share, other = _logistic(t, bits), _logistic(-t, bits)
            moved = _times(steep, (share[0] * other[0], share[1] * other[1]))
            return share[0] + moved[0], share[1] + moved[1]
        case "sinh" | "cosh":
            return _inverse_or_hyperbolic("cosh" if name == "sinh" else "sinh", x, bits)
        case "tan":
            low, high = _inverse_or_hyperbolic("tan", abs(x), bits)
            return 1 + max(low, ZERO) ** 2, 1 + high**2
        case "atan" | "atanh":
            y = 1 + x * x if name == "atan" else 1 - x * x
            return 1 / y, 1 / y
    low, high = _sqrt({"asin": 1 - x * x, "asinh": 1 + x * x, "acosh": x * x - 1}[name], bits)
    if low == 0:
        raise Rejected("not-finite", f"{name} has no slope at {x}")
    return 1 / high, 1 / low


def _signed(x: Fraction, ends: Enclosure) -> Enclosure:
    return ends if x >= 0 else (-ends[1], -ends[0])


# ---------------------------------------------------------------- intervals and offsets


def interval(function: Function, lower: Fraction, upper: Fraction, widen: Fraction = ZERO) -> Enclosure:
    """The range of f over [lower, upper]; smooth functions outward by less than 2^-BITS of their size."""
    if isinstance(function, Pieces):
        low, high = _read(function, lower, upper, widen)
        return _least(function, ZERO, low, high, 1), -_least(function, ZERO, low, high, -1)
    _defined(function, lower, upper)
    name, p = function.name, function.parameter
    ends = [enclose(name, p, x) for x in (lower, upper)]
    low, high = min(ends[0][0], ends[1][0]), max(ends[0][1], ends[1][1])
    if name in ("sin", "cos"):
        top = 1 if name == "sin" else 0  # in quarters of a turn
        high = ONE if _meets(lower, upper, top) else high
        low = -ONE if _meets(lower, upper, top + 2) else low
    elif name == "pow" and p > 0 and p % 2 == 0 and lower <= 0 <= upper:
        low = ZERO
    elif name == "cosh" and lower <= 0 <= upper:
        low = ONE
    elif name in activations.GATES:
        at, least = _valley(name, p)
        low = least if lower <= at + BLUR and upper >= at - BLUR else low
    return low, high


@lru_cache(maxsize=64)
def _bends(name: str, p: float) -> Enclosure:
    """Where a gate turns convex and concave, within BLUR for swish and mish: the guess of `activations`, tested by the slope, which falls (or rises)
    on either side of a bend: what the proofs there say of one bend a side is assumed."""
    left, right = map(Fraction, activations.bends(name, p))
    if name in ("swish", "mish"):
        for at, up in ((left, 1), (right, -1)):
            slopes_there = [derivative(name, p, at + k * BLUR)[0] * up for k in (-2, -1, 1, 2)]
            if not (slopes_there[0] > slopes_there[1] and slopes_there[3] > slopes_there[2]):
                raise Rejected("unsupported-function", f"{name} {p}")
    return left, right


@lru_cache(maxsize=64)
def _valley(name: str, p: float) -> Enclosure:
    """Where a gate is least, within BLUR, and a bound of how little that is."""
    (left, right), at = _bends(name, p), Fraction(activations.valley(name, p)[0])
    falls, rises = derivative(name, p, at - BLUR)[1], derivative(name, p, at + BLUR)[0]
    if name == "hard_swish":
        return at, -Fraction(p) ** 2 / 4
    if not (falls < 0 < rises):
        raise Rejected("unsupported-function", f"{name} {p}")
    steep = max(abs(e) for e in derivative(name, p, at))
    return at, enclose(name, p, at)[0] - steep * (right - left + 2 * BLUR)


def offsets(
    function: Function, slope_lower: Fraction, slope_upper: Fraction, lower: Fraction, upper: Fraction, widen: Fraction = ZERO
) -> tuple[Fraction, Fraction]:
    """(the least f(x) - slope_lower x, the largest f(x) - slope_upper x) over [lower, upper]."""
    if isinstance(function, Pieces):
        low, high = _read(function, lower, upper, widen)
        moved = ZERO if (low, high) == (lower, upper) else widen
        below = _least(function, slope_lower, low, high, 1) - abs(slope_lower) * moved
        return below, -_least(function, slope_upper, low, high, -1) + abs(slope_upper) * moved
    _defined(function, lower, upper)
    return _smooth_least(function, slope_lower, lower, upper, 1), -_smooth_least(function, slope_upper, lower, upper, -1)


def is_linear(function: Function, lower: Fraction, upper: Fraction) -> bool:
    """f is one straight piece over [lower, upper]."""
    if isinstance(function, Smooth):
        return lower == upper
    return not any(lower <= b <= upper if jumps else lower < b < upper for b, _, jumps in _corners(function, lower, upper))


def _jumps(function: Pieces, i: int) -> bool:
    b, v = Fraction(function.breakpoints[i]), Fraction(function.values[i])
    return any(Fraction(function.slopes[k]) * b + Fraction(function.intercepts[k]) != v for k in (i, i + 1))


def _read(function: Pieces, lower: Fraction, upper: Fraction, widen: Fraction) -> Enclosure:
    """Functions that jump read a wider interval in float32, where an argument may be flushed to zero."""
    jumps = function.step or any(_jumps(function, i) for i in range(len(function.breakpoints)))
    return (lower - widen, upper + widen) if jumps else (lower, upper)


def _step(step: str, x: Fraction) -> Fraction:
    if x > shapes.LARGEST_CAST.get(step, x):
        raise Rejected("domain", f"a cast to {step} of numbers that it may not have")
    return Fraction(math.ceil(x) if step == "ceil" else round(x) if step == "round" else math.floor(x))


def _corners(function: Pieces, lower: Fraction, upper: Fraction) -> Iterator[tuple[Fraction, Fraction, bool]]:
    """(breakpoint, value there, whether f jumps) for the breakpoints in [lower, upper]: of a step function, the first two and the last two."""
    if not function.step:
        for i, (b, v) in enumerate(zip(function.breakpoints, function.values, strict=True)):
            if lower <= b <= upper:
                yield Fraction(b), Fraction(v), _jumps(function, i)
        return
    shift = HALF if function.step == "round" else ZERO
    first, last = math.ceil(lower - shift), math.floor(upper - shift)
    for k in sorted({k for k in (first, first + 1, last - 1, last) if first <= k <= last}):
        yield k + shift, _step(function.step, k + shift), True


def _least(function: Pieces, a: Fraction, lower: Fraction, upper: Fraction, side: int) -> Fraction:
    """The infimum of side (f(x) - a x) on [lower, upper]: at the ends, the values at breakpoints, and the limits there from inside.

    At the breakpoints of a step function f - a x is linear in the breakpoint, so the outermost ones suffice: two, because a limit from the left
    does not exist at `lower`, nor one from the right at `upper`, and the value of Round alternates."""
    found = [(x, _at(function, x)) for x in (lower, upper)]
    for b, v, _ in _corners(function, lower, upper):
        found.append((b, v))
        if lower < b:
            found.append((b, _limit(function, b, -1)))
        if b < upper:
            found.append((b, _limit(function, b, 1)))
    return min(side * (y - a * x) for x, y in found)


def _at(function: Pieces, x: Fraction) -> Fraction:
    if function.step:
        return _step(function.step, x)
    for b, v in zip(function.breakpoints, function.values, strict=True):
        if x == b:
            return Fraction(v)
    i = sum(x > b for b in function.breakpoints)
    return Fraction(function.slopes[i]) * x + Fraction(function.intercepts[i])


def _limit(function: Pieces, b: Fraction, direction: int) -> Fraction:
    """The limit at a breakpoint from the left (-1) or the right (1)."""
    if function.step:
        return _step(function.step, b + direction * Fraction(1, 4))
    i = sum(b > c if direction < 0 else b >= c for c in function.breakpoints)
    return Fraction(function.slopes[i]) * b + Fraction(function.intercepts[i])


def _defined(function: Smooth, lower: Fraction, upper: Fraction) -> None:
    pole = function.name == "reciprocal" or (function.name == "pow" and function.parameter < 0)
    if pole and lower <= 0 <= upper:
        raise Rejected("domain", str(function))


def _meets(lower: Fraction, upper: Fraction, quarters: int) -> bool:
    """Whether [lower, upper] holds a point quarters pi/2 + 2 k pi (or might, at 2^-250)."""
    slack, quarter = Fraction(1, 1 << 250), Fraction(_constants(300)[1], 1 << 300)
    turn = 4 * quarter
    return math.floor((upper - quarters * quarter) / turn + slack) >= math.ceil((lower - quarters * quarter) / turn - slack)


def _curved(function: Smooth, lower: Fraction, upper: Fraction) -> Iterator[tuple[Fraction, Fraction, bool]]:
    """(start, end, f is convex there), covering [lower, upper]; the cuts of sin and cos are off by less than 2^-200."""
    name, p = function.name, function.parameter
    cuts: list[Fraction] = []
    if name in ("sin", "cos"):
        half_turn, shift = Fraction(_constants(300)[1], 1 << 299), HALF if name == "cos" else ZERO
        first = math.floor(lower / half_turn - shift)
        convex = (first % 2 == 1) != (name == "cos")
        cuts = [(first + k + shift) * half_turn for k in range(1, math.floor((upper - lower) / half_turn) + 3)]
    elif name == "pow" and not float(p).is_integer():
        convex = not 0 < p < 1
    elif name == "pow" and p % 2 == 0:
        convex = True
    elif name in ("exp", "softplus", "cosh", "log", "sqrt", "acosh") or (name == "elu" and p <= 1):
        convex = name in ("exp", "softplus", "cosh", "elu")
    elif name in activations.GATES:
        cuts, convex = list(_bends(name, p)), False
    else:
        cuts, convex = [ZERO], name in ("sigmoid", "tanh", "erf", "atan", "asinh", "softsign", "elu")
    start, blur = lower, Fraction(shapes.blur(function))
    for cut in cuts:
        if cut > lower and cut < upper:
            yield start, max(lower, cut - blur), convex
            start = min(cut + blur, upper)
        if cut < upper:
            convex = not convex
    yield start, upper, convex


def _smooth_least(function: Smooth, a: Fraction, lower: Fraction, upper: Fraction, side: int) -> Fraction:
    """At most the least side (f(x) - a x), and very close to it."""
    kappa, crude = ZERO, [-side * a * x - 1 for x in (lower, upper)]
    if function.name in ("sin", "cos"):
        turn, kappa = Fraction(4 * _constants(300)[1] + 8, 1 << 300), Fraction(1, 1 << 200)
        if side * a >= 0:
            lower = max(lower, upper - turn)
        else:
            upper = min(upper, lower + turn)
    found = []
    for start, end, convex in _curved(function, lower, upper):
        if convex == (side > 0) and not _is_line(function, start, end):
            found.append(_tangent_bound(function, a, start, end, side))
        else:
            found += [_gap(function, a, x, side) for x in (start, end)]
    blur = Fraction(shapes.blur(function))
    reached = blur > 0 and any(lower <= c + blur and upper >= c - blur for c in _bends(function.name, function.parameter))
    least = min(found) - kappa * (upper - lower) ** 2 - (2 * blur * (2 + abs(a)) if reached else ZERO)
    return max(least, min(crude)) if kappa else least


def _is_line(function: Smooth, start: Fraction, end: Fraction) -> bool:
    """A piece of a function with kinks on which it is straight: the slope at a kink is that of the other side."""
    if function.name == "hard_swish":
        return end <= -Fraction(function.parameter) or start >= 1 - Fraction(function.parameter)
    return function.name == "elu" and function.parameter > 1 and start >= 0


def _gap(function: Smooth, a: Fraction, x: Fraction, side: int) -> Fraction:
    low, high = enclose(function.name, function.parameter, x)
    return (low if side > 0 else -high) - side * a * x


def _tangent_bound(function: Smooth, a: Fraction, start: Fraction, end: Fraction, side: int) -> Fraction:
    """The best of the tangent bounds at a few points: the guess of the float64 kernel, and Newton's steps from it."""
    if start == end:
        return _gap(function, a, start, side)
    ends = [np.array([float(x)]) for x in (a, start, end)]
    with np.errstate(all="ignore"):
        guess = float(slopes.touch(function, *ends)[0])
    x = Fraction(guess) if math.isfinite(guess) else end if guess > 0 else start if guess < 0 else (start + end) / 2
    best: list[Fraction] = []
    for _ in range(5):
        x = min(max(_shorter(x), start), end)
        x = (start + end) / 2 if function.name == "sqrt" and x == 0 else x
        low, high = derivative(function.name, function.parameter, x)
        if x == 0 and shapes.hinge(function):
            low = high = min(max(a, Fraction(function.parameter)), ONE)
        steep = (low - a, high - a) if side > 0 else (a - high, a - low)
        best.append(_gap(function, a, x, side) + min(steep[1] * (start - x), steep[0] * (end - x)))
        if steep[1] == steep[0] == 0 or (x == start and steep[0] >= 0) or (x == end and steep[1] <= 0):
            break
        step = (abs(x) if x else ONE) / (1 << 30)
        step = step if x + step <= end else -step
        bend = (derivative(function.name, function.parameter, x + step)[0] - low) / step
        if bend == 0:
            break
        x -= (low - a) / bend
    return max(best)


def _shorter(x: Fraction) -> Fraction:
    """x to about 256 bits: points of evaluation are free to choose."""
    excess = x.denominator.bit_length() - x.numerator.bit_length() + 256
    return Fraction(_fixed(x, excess), 1 << excess) if 0 < excess < x.denominator.bit_length() else x
