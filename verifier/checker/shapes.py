"""Facts about functions of one variable: where straight pieces jump, where smooth functions change their curvature."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.network import Function, Pieces, Smooth
from verifier.checker.refusal import Rejected

CONVEX, CONCAVE = frozenset(("exp", "softplus")), frozenset(("log", "sqrt"))
WHOLE = {"floor": np.floor, "ceil": np.ceil, "round": np.rint}
STEPS = {"floor": (0.0, -1.0, 0.0), "ceil": (0.0, 0.0, 1.0), "round": (0.5, -0.5, 0.5)}  # jumps: integers + first; f(x) - x left and right of one


@lru_cache(maxsize=1024)
def jumps(function: Pieces) -> tuple[bool, ...]:
    """Whether f jumps at each breakpoint, decided on exact numbers."""
    lines = [(Fraction(s), Fraction(c)) for s, c in zip(function.slopes, function.intercepts, strict=True)]
    corners = zip(function.breakpoints, function.values, strict=True)
    return tuple(any(s * Fraction(b) + c != Fraction(v) for s, c in lines[i : i + 2]) for i, (b, v) in enumerate(corners))


def kink(function: Function) -> tuple[float, float] | None:
    """The slopes left and right of 0 of a function that bends there only and is 0 there: ReLU, LeakyReLU, Abs."""
    if isinstance(function, Smooth) or function.breakpoints != (0.0,) or any(function.intercepts) or any(function.values):
        return None
    return function.slopes[0], function.slopes[1]


def curvature(function: Smooth) -> tuple[float | None, bool]:
    """(where it changes, modulo pi for sin and cos, None: nowhere; whether f is convex left of that, or everywhere; for sin and cos right of it)."""
    name, p = function.name, function.parameter
    if name == "pow":
        if p in (0.0, 1.0):
            raise Rejected("unsupported-function", f"pow {p} is straight")
        if not float(p).is_integer():
            return None, not 0 < p < 1
        return (None, True) if p % 2 == 0 else (0.0, False)
    if name in CONVEX or name in CONCAVE:
        return None, name in CONVEX
    return (math.pi / 2, True) if name == "cos" else (0.0, name in ("sigmoid", "tanh", "erf"))


def is_periodic(function: Smooth) -> bool:
    """sin and cos."""
    return function.name in ("sin", "cos")


def defined(function: Smooth, lower: Array, upper: Array) -> None:
    """Refuse an interval that holds a pole at 0; the kernels refuse all else outside a domain."""
    pole = function.name == "reciprocal" or (function.name == "pow" and function.parameter < 0)
    if pole and not ((lower > 0) | (upper < 0)).all():
        raise Rejected("domain", function.name)
