"""Operators that apply a univariate function to every element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graph.functions import build
from graph.lowering.arithmetic import maximum
from graph.lowering.builder import Known, Tensor, Value
from graph.lowering.operator import Operator

INTEGERS = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"}  # ONNX element types


def apply(name: str) -> Callable[[Operator], Value]:
    """The lowering of an operator without attributes to the function `name`."""

    def lower(op: Operator) -> Value:
        return op.builder.elementwise(build(name), op.variable(0))

    return lower


def lower_leaky_relu(op: Operator) -> Value:
    return op.builder.elementwise(build("leaky_relu", op.real("alpha")), op.variable(0))


def lower_clip(op: Operator) -> Value:
    """Limits are attributes before version 11 and optional inputs from then on. Where the lower is not below the upper, all is
    the upper since then."""
    if op.version >= 11 and any(isinstance(op.optional(i), Tensor) for i in (1, 2)):
        return _between(op)
    limits = []
    for i, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        if op.version >= 11:
            limits.append(default if op.optional(i) is None else float(op.known(i).reshape(())))
        else:
            limits.append(op.real(name, default))
    lower, upper = (np.inf * np.sign(v) if abs(v) >= np.finfo(np.float32).max else v for v in limits)  # the old default means "no limit"
    if np.isinf(lower) and np.isinf(upper):
        return op.variable(0)
    if not lower < upper:
        if op.version < 11 or not np.isfinite(upper):
            raise op.refuse(f"limits {limits} with min >= max are not supported")
        return Known(np.full(op.variable(0).shape, upper))
    return op.builder.elementwise(build("clip", lower, upper), op.variable(0))


def _between(op: Operator) -> Value:
    """min(max(x, lower), upper), of limits that depend on the input."""
    found: Value = op.variable(0)
    for i, sign in ((1, 1.0), (2, -1.0)):
        limit = op.optional(i)
        if limit is not None:
            found = maximum(op.builder, [found, limit], sign)
    if found.shape != op.value(0).shape:
        raise op.malformed("a limit is not one number")
    return found
