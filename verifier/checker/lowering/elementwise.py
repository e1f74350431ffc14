"""Operators that apply a function of one variable to every element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from verifier.checker.lowering.builder import Known, Value
from verifier.checker.lowering.operator import Operator
from verifier.checker.network import Function, Pieces, Smooth

FLOAT32, FLOAT64 = 1, 11  # element types of the standard
RELU = Pieces((0.0,), (0.0, 1.0), (0.0, 0.0), (0.0,))
ABS = Pieces((0.0,), (-1.0, 1.0), (0.0, 0.0), (0.0,))


def at_least(limit: float) -> Pieces:
    """max(x, limit)."""
    return Pieces((limit,), (0.0, 1.0), (limit, 0.0), (limit,))


def at_most(limit: float) -> Pieces:
    """min(x, limit)."""
    return Pieces((limit,), (1.0, 0.0), (0.0, limit), (limit,))


def between(lower: float, upper: float) -> Pieces:
    return Pieces((lower, upper), (0.0, 1.0, 0.0), (lower, 0.0, upper), (lower, upper))


def apply(function: Function, kind: str, count: int = 0) -> Callable[[Operator], Value]:
    """The lowering of an operator without attributes; a measured kernel has the operator's name."""

    def lower(op: Operator) -> Value:
        return op.rounded(op.builder.elementwise(function, op.variable(0)), kind, count, name=op.kind)

    return lower


def smooth(name: str) -> Callable[[Operator], Value]:
    return apply(Smooth(name), "kernel")


def lower_leaky_relu(op: Operator) -> Value:
    function = Pieces((0.0,), (op["alpha"], 1.0), (0.0, 0.0), (0.0,))
    op.require(bool(np.isfinite(op["alpha"])), "alpha is not finite")
    return op.rounded(op.builder.elementwise(function, op.variable(0)), "pieces", 1)


def lower_clip(op: Operator) -> Value:
    """Limits are attributes before version 11, then inputs; where absent there is none."""
    x, limits = op.variable(0), list[float | None]()
    for i, name in ((1, "min"), (2, "max")):
        if op.version >= 11:
            given = op.optional(i)
            op.require(given is None or given.size == 1, f"{name} is not one number")
            limits.append(None if given is None else float(op.numbers(i).reshape(())))
        else:
            limits.append(op[name])
    lower, upper = limits
    op.require(all(limit is None or bool(np.isfinite(limit)) for limit in limits), "a limit that is not finite")
    if lower is None or upper is None:
        function = at_least(lower) if lower else RELU if lower is not None else None if upper is None else at_most(upper)
        return x if function is None else op.rounded(op.builder.elementwise(function, x), "exact")
    op.require(lower < upper, "min >= max")
    return op.rounded(op.builder.elementwise(between(lower, upper), x), "exact")


def lower_cast(op: Operator) -> Value:
    """From float32 to float32. (Casts of what is known are in constants.py.)"""
    op.require(op.given("to") == FLOAT32, f"a cast to type {op['to']}")
    x = op.any(0)
    return x if isinstance(x, Known) else op.variable(0)
