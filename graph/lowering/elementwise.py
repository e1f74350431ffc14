"""Operators that apply a univariate function to every element."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graph.functions import build
from graph.lowering.builder import Value
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
    """Limits are attributes before version 11 and optional inputs from then on."""
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
        raise op.refuse(f"limits {limits} with min >= max are not supported")
    return op.builder.elementwise(build("clip", lower, upper), op.variable(0))
