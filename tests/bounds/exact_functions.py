"""Oracles for functions of one variable that share nothing with the product: exact rationals and 60-digit decimals."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

from graph.functions.facts import Pieces

DIGITS = 60


def piecewise(function: Pieces, x: Fraction) -> Fraction:
    """f(x) of a piecewise-linear function, from its facts."""
    for at, value in zip(function.breakpoints, function.values, strict=True):
        if x == Fraction(at):
            return Fraction(value)
    i = sum(x > Fraction(b) for b in function.breakpoints)
    return Fraction(function.slopes[i]) * x + Fraction(function.intercepts[i])


def smooth(name: str, parameter: float | None, x: float) -> Fraction:
    """f(x), off by at most 1e-45 relative to max(1, |f(x)|) or so."""
    with localcontext() as context:
        context.prec = DIGITS + 40
        context.Emax, context.Emin = 10**8, -(10**8)
        return Fraction(_value(name, parameter, Decimal(x)))


def _value(name: str, parameter: float | None, x: Decimal) -> Decimal:
    one = Decimal(1)
    match name:
        case "exp":
            return x.exp()
        case "log":
            return x.ln()
        case "sqrt":
            return x.sqrt()
        case "reciprocal":
            return one / x
        case "sigmoid":
            return one / (one + (-x).exp())
        case "tanh":
            return one - 2 / (one + (2 * x).exp())
        case "softplus":
            return (one + x.exp()).ln()
        case "pow" if parameter is not None:
            if parameter == int(parameter):
                return x ** int(parameter)
            return (Decimal(parameter) * x.ln()).exp()
        case "sin":
            return _series(x, x)
        case "cos":
            return _series(one, x, shift=-1)
        case "floor" | "ceil" | "nearest":
            return x.to_integral_value({"floor": ROUND_FLOOR, "ceil": ROUND_CEILING, "nearest": ROUND_HALF_EVEN}[name])
        case "erf":
            return _erf(x)
        case "elu" if parameter is not None:
            return x if x > 0 else Decimal(parameter) * (x.exp() - one)
        case "hard_swish" if parameter is not None:
            return x * min(max(x + Decimal(parameter), Decimal(0)), one)
        case "swish" if parameter is not None:
            return x / (one + (-(x + Decimal(parameter) * x**3)).exp())
        case "gelu":
            return x * (one + _erf(x)) / 2
        case "mish":
            return x - 2 * x / (one + (one + x.exp()) ** 2)
        case "softsign":
            return x / (one + abs(x))
        case "sinh":
            return (x.exp() - (-x).exp()) / 2
        case "cosh":
            return (x.exp() + (-x).exp()) / 2
        case "asinh":
            return (abs(x) + (x * x + one).sqrt()).ln().copy_sign(x)
        case "acosh":
            return (x + (x * x - one).sqrt()).ln()
        case "atanh":
            return ((one + x) / (one - x)).ln() / 2
        case "tan":
            return _series(x, x) / _series(one, x, shift=-1)
        case "atan":
            return _atan(x)
        case "asin":
            return _atan(x / (one - x * x).sqrt()) if abs(x) < 1 else (_PI / 2).copy_sign(x)
    raise NotImplementedError(f"no exact oracle for {name!r}: add it to tests/bounds/exact.py")


def _series(first: Decimal, x: Decimal, shift: int = 0) -> Decimal:
    """sin (first x) and cos (first 1): alternating Taylor series; |x| stays small in the tests."""
    total, term, n = Decimal(0), first, 1 + shift
    while abs(term) > Decimal(10) ** -(DIGITS + 20) or n < abs(x):
        total += term
        term *= -x * x / ((n + 1) * (n + 2))
        n += 2
    return total


def _atan(x: Decimal) -> Decimal:
    """x/(1 + sqrt(1 + x^2)) has half the angle; six times, then the series."""
    for _ in range(6):
        x = x / (1 + (1 + x * x).sqrt())
    total, term, n = Decimal(0), x, 1
    while abs(term) > Decimal(10) ** -(DIGITS + 30):
        total += term / n
        term *= -x * x
        n += 2
    return 64 * total


_PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899862803482534211706798")


def _erf(x: Decimal) -> Decimal:
    """2/sqrt(pi) exp(-x^2) sum of 2^n x^(2n+1) / (2n+1)!!, all terms of one sign."""
    if abs(x) > 15:
        return Decimal(1).copy_sign(x)
    total, term, n = Decimal(0), x, 0
    while abs(term) > Decimal(10) ** -(DIGITS + 20) or n < x * x:
        total += term
        n += 1
        term *= 2 * x * x / (2 * n + 1)
    return 2 / _PI.sqrt() * (-x * x).exp() * total
