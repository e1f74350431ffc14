"""Operators that apply a function of one variable to every element."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from verifier.checker.lowering.builder import RELU, Known, Tensor, Value
from verifier.checker.lowering.operator import Operator
from verifier.checker.network import Affine, Elementwise, Node, Pieces, Smooth

ABSOLUTE = Pieces((0.0,), (-1.0, 1.0), (0.0, 0.0), (0.0,))
SIGN = Pieces((0.0,), (0.0, 0.0), (-1.0, 1.0), (0.0,))
LARGEST = float(np.finfo(np.float32).max)


def pieces(function: Pieces) -> Callable[[Operator], Value]:
    return lambda op: op.end(op.builder.elementwise(function, op.tensor(0)), "exact")


def smooth(name: str) -> Callable[[Operator], Value]:
    """A function that a measured table says the float32 error of."""
    return lambda op: op.end(op.builder.elementwise(Smooth(name), op.tensor(0)), "kernel", name=op.kind)


def square_root(op: Operator) -> Value:
    x = radicand(op, op.tensor(0))
    return op.end(op.builder.elementwise(Smooth("sqrt"), x), "sqrt", 1, sources=(x.node,))


def reciprocal(op: Operator) -> Value:
    return op.end(op.builder.elementwise(Smooth("reciprocal"), op.tensor(0)), "sqrt", 2)


def radicand(op: Operator, x: Tensor) -> Tensor:
    """max(x, 0) where x is made so that it is never negative, else x: the bounds of sums reach below 0 by their rounding, where there is no root."""
    return op.stage(op.builder.elementwise(RELU, x), "exact", sources=(x,)) if never_negative(op.builder.nodes, x.node) else x


def never_negative(nodes: Sequence[Node], i: int) -> bool:
    """Whether node i adds even powers, absolute values or the like, each as often as 0 or more says. (The engine decides in the same way.)"""
    match nodes[i]:
        case Elementwise(function=Pieces(breakpoints=(0.0,)) as f):
            return f.slopes[0] <= 0 <= f.slopes[1] and not any((*f.intercepts, *f.values))
        case Elementwise(inputs=(j,), function=Smooth(name="pow", parameter=power)):
            return power % 2 == 0 or never_negative(nodes, j)
        case Affine(inputs=inputs, maps=maps, bias=bias):
            adds = all((m.weight >= (0 if m.error is None else m.error)).all() for m in maps) and (bias is None or bool((bias >= 0).all()))
            return bool(adds) and all(never_negative(nodes, j) for j in inputs)
    return False


def leaky_relu(op: Operator) -> Value:
    alpha = op.real("alpha", float(np.float32(0.01)))
    return op.end(op.builder.elementwise(Pieces((0.0,), (alpha, 1.0), (0.0, 0.0), (0.0,)), op.tensor(0)), "pieces", 1)


def clipping(lower: float, upper: float) -> Pieces:
    """min(max(x, lower), upper); an infinite limit is none."""
    if math.isinf(lower):
        return Pieces((upper,), (1.0, 0.0), (0.0, upper), (upper,))
    if math.isinf(upper):
        return Pieces((lower,), (0.0, 1.0), (lower, 0.0), (lower,))
    return Pieces((lower, upper), (0.0, 1.0, 0.0), (lower, 0.0, upper), (lower, upper))


def clip(op: Operator) -> Value:
    """Limits are attributes before version 11, by default the largest float32 (real numbers go beyond); inputs since, by default none."""
    limits = []
    for i, (name, sign) in enumerate((("min", -1.0), ("max", 1.0)), start=1):
        if op.version < 11:
            limits.append(op.real(name, sign * LARGEST))
        else:
            limits.append(sign * math.inf if op.optional(i) is None else float(op.known_floats(i).reshape(())))
    lower, upper = limits
    op.require(lower < math.inf and upper > -math.inf and (lower < upper or op.version >= 11), f"limits {limits}")
    if lower >= upper:  # all is the upper
        return Known(np.full(op.value(0).shape, np.float32(upper)))
    if math.isinf(lower) and math.isinf(upper):
        return op.value(0)
    return op.end(op.builder.elementwise(clipping(lower, upper), op.tensor(0)), "exact")
