"""Facts about functions of one variable: where straight pieces jump, where smooth functions change their curvature."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache, partial

import numpy as np

from verifier.checker import activations
from verifier.checker.arithmetic import Array
from verifier.checker.network import Function, Pieces, Smooth
from verifier.checker.refusal import Rejected

CONVEX, CONCAVE = frozenset(("exp", "softplus", "cosh")), frozenset(("log", "sqrt", "acosh"))
CONVEX_BELOW = frozenset(("sigmoid", "tanh", "erf", "atan", "asinh", "softsign"))  # 0; concave above it
CONCAVE_BELOW = frozenset(("sin", "reciprocal", "tan", "asin", "atanh", "sinh"))
LARGEST_CAST = {"int32": 2.0**31 - 2.0**7, "int64": 2.0**63 - 2.0**39}  # the largest float32 that the type has, near enough


def cast(kind: str, x: Array) -> Array:
    """x >= 0 without what is behind the point, as an integer of this type. What one is that has no place in the type, no standard says."""
    if not (x <= LARGEST_CAST[kind]).all():
        raise Rejected("domain", f"a cast to {kind} of numbers that it may not have")
    return np.floor(x)


WHOLE: dict[str, Callable[[Array], Array]] = {
    "floor": np.floor, "ceil": np.ceil, "round": np.rint, **{kind: partial(cast, kind) for kind in LARGEST_CAST},
}  # fmt: skip
STEPS = {"ceil": (0.0, 0.0, 1.0), "round": (0.5, -0.5, 0.5), **dict.fromkeys(("floor", *LARGEST_CAST), (0.0, -1.0, 0.0))}
# of these: jumps are at integers + first; f(x) - x left and right of one


@lru_cache(maxsize=1024)
def jumps(function: Pieces) -> tuple[bool, ...]:
    """Whether f jumps at each breakpoint, decided on exact numbers."""
    lines = [(Fraction(s), Fraction(c)) for s, c in zip(function.slopes, function.intercepts, strict=True)]
    corners = zip(function.breakpoints, function.values, strict=True)
    return tuple(any(s * Fraction(b) + c != Fraction(v) for s, c in lines[i : i + 2]) for i, (b, v) in enumerate(corners))


def jumps_around(step: str, x: Array) -> tuple[Array, Array, Array, Array]:
    """The nearest jumps of a step function < x, <= x, >= x, > x, for |x| < 2^50: exact."""
    m = np.floor(x) + STEPS[step][0]
    return np.where(m < x, m, m - 1), np.where(m <= x, m, m - 1), np.where(m >= x, m, m + 1), np.where(m > x, m, m + 1)


def kink(function: Function) -> tuple[float, float] | None:
    """The slopes left and right of 0 of a function that bends there only and is 0 there: ReLU, LeakyReLU, Abs."""
    if isinstance(function, Smooth) or function.breakpoints != (0.0,) or any(function.intercepts) or any(function.values):
        return None
    return function.slopes[0], function.slopes[1]


def is_flat_below(function: Function) -> bool:
    """Whether f has one value below some number (ReLU)."""
    return isinstance(function, Pieces) and function.slopes[:1] == (0.0,)


def curvature(function: Smooth) -> tuple[tuple[float, ...], bool]:
    """(where it changes, modulo pi for sin and cos; whether f is convex left of all that, or everywhere; for sin and cos right of it).

    A gate changes within `blur` of these points. An elu of p <= 1 has a convex kink at 0, one of p > 1 a concave one."""
    name, p = function.name, function.parameter
    if name == "pow":
        if p in (0.0, 1.0):
            raise Rejected("unsupported-function", f"pow {p} is straight")
        if not float(p).is_integer():
            return (), not 0 < p < 1
        return ((), True) if p % 2 == 0 else ((0.0,), False)
    if name == "elu" and 0 < p < math.inf:
        return ((), True) if p <= 1 else ((0.0,), True)
    if name in activations.GATES:
        return activations.bends(name, p), False
    if name in CONVEX or name in CONCAVE:
        return (), name in CONVEX
    if name in CONVEX_BELOW or name in CONCAVE_BELOW:
        return (0.0,), name in CONVEX_BELOW
    if name == "cos":
        return (math.pi / 2,), True
    raise Rejected("unsupported-function", name)


def straight(function: Smooth) -> tuple[int, ...]:
    """The pieces between these points, from the left, on which f is a line: what its slope at a kink is, is not that of a line beside it."""
    return {"hard_swish": (0, 2), "elu": (1,)}.get(function.name, ())


def hinge(function: Smooth) -> bool:
    """Whether f is convex with a kink at 0, where its slope goes from p up to 1."""
    return function.name == "elu" and function.parameter < 1


def blur(function: Smooth) -> float:
    """How far from a point of `curvature` the curvature may change. |f'| < 2 there."""
    return activations.BLUR if function.name in ("swish", "mish") else 0.0


def is_periodic(function: Smooth) -> bool:
    """sin and cos."""
    return function.name in ("sin", "cos")


def defined(function: Smooth, lower: Array, upper: Array) -> None:
    """Refuse an interval that holds a pole at 0; the kernels refuse all else outside a domain."""
    pole = function.name == "reciprocal" or (function.name == "pow" and function.parameter < 0)
    if pole and not ((lower > 0) | (upper < 0)).all():
        raise Rejected("domain", function.name)
