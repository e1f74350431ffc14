"""Functions of one variable in ball arithmetic (FLINT), the outside oracle of the checker's kernels; and intervals to try them on."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from flint import arb, ctx, fmpq
from numpy.typing import NDArray

from verifier.checker.network import Pieces, Smooth

Array = NDArray[np.float64]
PRECISION = 240
EXPONENTS = (2.0, 3.0, 4.0, 5.0, -1.0, -2.0, -3.0, 0.5, 1.5, -0.7, 7.3)
NAMES = ("exp", "log", "sqrt", "reciprocal", "sigmoid", "tanh", "erf", "softplus", "sin", "cos")
KERNELS = (*map(Smooth, NAMES), *(Smooth("pow", p) for p in EXPONENTS))
ACTIVATIONS = (
    *map(Smooth, ("softsign", "tan", "asin", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "gelu", "mish", "swish")),
    *(Smooth("elu", p) for p in (0.25, 1.0, 1.6732631921768188)),
    *(Smooth("hard_swish", p) for p in (0.0, 0.5, 1.0, 0.25)),
    *(Smooth("swish", p) for p in (0.017559623, 1.0)),
)
SMOOTH = (*KERNELS, *ACTIVATIONS)
PIECES = (
    Pieces((0.0,), (0.0, 1.0), (0.0, 0.0), (0.0,)),  # ReLU
    Pieces((0.0,), (0.125, 1.0), (0.0, 0.0), (0.0,)),  # LeakyReLU
    Pieces((0.0,), (0.1, 1.0), (0.0, 0.0), (0.0,)),
    Pieces((0.0,), (1.5, 1.0), (0.0, 0.0), (0.0,)),  # concave
    Pieces((0.0,), (-1.0, 1.0), (0.0, 0.0), (0.0,)),  # Abs
    Pieces((-1.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 1.0), (-1.0, 1.0)),  # Clip
    Pieces((6.0,), (1.0, 0.0), (0.0, 6.0), (6.0,)),
    Pieces((-2.5, 2.5), (0.0, 0.2, 0.0), (0.0, 0.5, 1.0), (0.0, 1.0)),  # HardSigmoid, whose double slope 0.2 leaves tiny jumps
    Pieces((0.0,), (0.0, 0.0), (-1.0, 1.0), (0.0,)),  # Sign
    Pieces((0.5,), (0.0, 0.0), (0.0, 1.0), (1.0,)),  # x >= 1/2
    Pieces((-1.0, 0.0, 2.0), (1.0, -1.0, 2.0, 0.0), (0.0, 0.0, 1.0, -3.0), (0.5, 1.0, 7.0)),  # jumps everywhere
    Pieces(step="floor"),
    Pieces(step="ceil"),
    Pieces(step="round"),
)


def ball(x: float | Fraction) -> arb:
    """x, exactly (a rational: to PRECISION bits)."""
    return arb(fmpq(x.numerator, x.denominator)) if isinstance(x, Fraction) else arb(float(x))


def _logistic(x: arb) -> arb:
    return 1 / (1 + (-x).exp())


def _power(p: float, x: arb) -> arb:
    return x ** int(p) if float(p).is_integer() else (x.log() * ball(Fraction(p))).exp()


def _ramp(p: float, x: arb) -> arb:
    return arb(0) if x < -ball(p) else arb(1) if x > 1 - ball(p) else x + ball(p)


def _mish_slope(p: float, x: arb) -> arb:
    w = x.exp().log1p().tanh()
    return w + x * (1 - w * w) * _logistic(x)


def _swish_slope(p: float, x: arb) -> arb:
    t = x + ball(p) * x**3
    return _logistic(t) * (1 + x * (1 + 3 * ball(p) * x * x) * _logistic(-t))


VALUES: dict[str, Callable[[float, arb], arb]] = {
    "exp": lambda p, x: x.exp(),
    "log": lambda p, x: x.log(),
    "sqrt": lambda p, x: x.sqrt(),
    "reciprocal": lambda p, x: 1 / x,
    "sigmoid": lambda p, x: _logistic(x),
    "tanh": lambda p, x: x.tanh(),
    "erf": lambda p, x: x.erf(),
    "softplus": lambda p, x: x.exp().log1p(),
    "sin": lambda p, x: x.sin(),
    "cos": lambda p, x: x.cos(),
    "pow": _power,
    "softsign": lambda p, x: x / (1 + abs(x)),
    "tan": lambda p, x: x.tan(),
    "asin": lambda p, x: x.asin(),
    "atan": lambda p, x: x.atan(),
    "sinh": lambda p, x: x.sinh(),
    "cosh": lambda p, x: x.cosh(),
    "asinh": lambda p, x: x.asinh(),
    "acosh": lambda p, x: x.acosh(),
    "atanh": lambda p, x: x.atanh(),
    "elu": lambda p, x: x if x > 0 else ball(p) * x.expm1(),
    "gelu": lambda p, x: x * (-x).erfc() / 2,
    "hard_swish": lambda p, x: x * _ramp(p, x),
    "mish": lambda p, x: x * x.exp().log1p().tanh(),
    "swish": lambda p, x: x * _logistic(x + ball(p) * x**3),
}
DERIVATIVES: dict[str, Callable[[float, arb], arb]] = {
    "exp": lambda p, x: x.exp(),
    "log": lambda p, x: 1 / x,
    "sqrt": lambda p, x: 1 / (2 * x.sqrt()),
    "reciprocal": lambda p, x: -1 / (x * x),
    "sigmoid": lambda p, x: _logistic(x) * _logistic(-x),
    "tanh": lambda p, x: 1 / x.cosh() ** 2,
    "erf": lambda p, x: 2 / arb.pi().sqrt() * (-x * x).exp(),
    "softplus": lambda p, x: _logistic(x),
    "sin": lambda p, x: x.cos(),
    "cos": lambda p, x: -x.sin(),
    "softsign": lambda p, x: 1 / (1 + abs(x)) ** 2,
    "tan": lambda p, x: 1 + x.tan() ** 2,
    "asin": lambda p, x: 1 / (1 - x * x).sqrt(),
    "atan": lambda p, x: 1 / (1 + x * x),
    "sinh": lambda p, x: x.cosh(),
    "cosh": lambda p, x: x.sinh(),
    "asinh": lambda p, x: 1 / (1 + x * x).sqrt(),
    "acosh": lambda p, x: 1 / (x * x - 1).sqrt(),
    "atanh": lambda p, x: 1 / (1 - x * x),
    "elu": lambda p, x: arb(1) if x > 0 else ball(p) * x.exp(),
    "gelu": lambda p, x: (-x).erfc() / 2 + x * (-x * x).exp() / arb.pi().sqrt(),
    "hard_swish": lambda p, x: arb(0) if x < -ball(p) else arb(1) if x > 1 - ball(p) else 2 * x + ball(p),
    "mish": _mish_slope,
    "swish": _swish_slope,
    "pow": lambda p, x: ball(Fraction(p)) * (x ** int(p - 1) if float(p).is_integer() else _power(p, x) / x),
}


def true_values(function: Smooth, points: Array, table: dict[str, Callable[[float, arb], arb]]) -> list[arb]:
    """f or f' at the points, to PRECISION bits."""
    before, ctx.prec = ctx.prec, PRECISION
    found = [table[function.name](function.parameter, arb(float(x))) for x in points]
    ctx.prec = before
    return found


INSIDE = 1 - 2.0**-50
EDGES = {  # between which a function is tried
    "tan": (-1.5707963, 1.5707963), "asin": (-1.0, 1.0), "atanh": (-INSIDE, INSIDE), "acosh": (1.0, np.inf), "sinh": (-700.0, 700.0),
    "cosh": (-700.0, 700.0),
}  # fmt: skip


def points_of(function: Smooth, n: int, seed: int) -> Array:
    """About 6 n points of the domain: of every size, near 0 and 1, near multiples of pi/2, and the edges."""
    r, name, p = np.random.default_rng(seed), function.name, function.parameter
    edges = np.concatenate([np.arange(-40, 41) / 4, np.arange(-40, 41) * (np.pi / 2), [1e-300, -1e-300, 5e-324, 700, -745.1, -800, 6.0, -6.0]])
    x = [r.normal(size=n), 10 * r.normal(size=n), r.uniform(-700, 700, n), 2.0 ** r.uniform(-300, 9, n) * r.choice([-1, 1], n)]
    x += [1 + 1e-5 * r.normal(size=n), np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf), edges, -edges]
    if name in ("sin", "cos"):
        x += [np.rint(r.uniform(-(2**19), 2**19, n)) * (np.pi / 2), r.uniform(-(2**20), 2**20, n)]
    if name in ("log", "sqrt"):
        x.append(2.0 ** r.uniform(-1000, 1000, n))
    if name in ("tanh", "sigmoid", "erf"):
        x += [r.uniform(-0.3, 0.3, n), r.uniform(-7, 7, n)]
    if function in ACTIVATIONS:
        x += [r.uniform(-3, 3, n), r.uniform(-0.6, 0.6, n), 1 - 2.0 ** r.uniform(-50, -1, n), 1 + 2.0 ** r.uniform(-50, 20, n)]
    points = np.concatenate(x)
    if name in ("log", "sqrt") or not float(p).is_integer():
        points = np.abs(points)
    if name in ("log", "reciprocal", "pow", "sqrt"):
        points = points[points != 0]
    if name == "exp":
        points = points[points <= 700]
    if name == "gelu":  # between them exact values take long: they are tiny differences
        points = points[(np.abs(points) <= 8) | (np.abs(points) >= 40)]
    if name in EDGES:
        points = points[(points >= EDGES[name][0]) & (points <= EDGES[name][1])]
    if name in ("pow", "reciprocal"):
        points = points[np.abs(np.log(np.abs(points))) * (abs(p if name == "pow" else -1) + 1) < 600]
    return points


def intervals_of(function: Pieces | Smooth, n: int, seed: int) -> tuple[Array, Array]:
    """n intervals in the domain, of many sizes; some are points; for straight pieces some ends are breakpoints."""
    r = np.random.default_rng(seed)
    centre = r.normal(size=n) * r.choice([0.1, 1, 5, 20], n)
    width = np.abs(r.normal(size=n)) * r.choice([0, 1e-12, 1e-6, 0.1, 1, 5, 30], n)
    if isinstance(function, Pieces):
        centre, width = (np.where(r.random(n) < 0.3, np.rint(2 * x) / 2, x) for x in (centre, width))
    lower, upper = centre - width, centre + width
    if isinstance(function, Smooth) and function.name in EDGES:
        low, high = EDGES[function.name] if function.name in ("tan", "asin", "atanh") else (EDGES[function.name][0], 12.0)
        low, high = {"tan": (-1.55, 1.55), "asin": (-0.9999, 0.9999)}.get(function.name, (low, high))
        low = np.maximum(low, -12.0) + (1e-3 if function.name == "acosh" else 0.0)
        return np.clip(lower, low, high), np.clip(upper, low, high)
    if isinstance(function, Smooth) and function in KERNELS:
        if function.name in ("log", "sqrt") or not float(function.parameter).is_integer():
            return np.abs(centre) / 2 + 1e-3, np.abs(centre) / 2 + 1e-3 + width
        if function.name == "reciprocal" or function.parameter < 0:
            flip = r.random(n) < 0.5
            lower, upper = np.abs(centre) / 2 + 1e-3, np.abs(centre) / 2 + 1e-3 + width
            return np.where(flip, -upper, lower), np.where(flip, -lower, upper)
    return lower, upper
