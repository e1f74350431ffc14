"""Sums, products, quotients, powers, maxima: operators that broadcast their operands."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.functions import build
from graph.linear_map import LinearMap, Scale, compose
from graph.lowering.builder import Builder, Known, Tensor, Value, indices
from graph.lowering.operator import Operator

Array = NDArray[Any]


def float64(value: Array) -> Array:
    return np.asarray(value, dtype=np.float64)


def broadcast(builder: Builder, x: Tensor, shape: Shape) -> Tensor:
    """`x` repeated along axes to `shape`, by the rules of numpy (and ONNX)."""
    return builder.gather(x, np.broadcast_to(indices(x.shape), shape))


def add(builder: Builder, x: Value, y: Value, sign: float = 1.0) -> Value:
    """x + sign y."""
    shape = builder.broadcast_shape(x.shape, y.shape)
    if isinstance(x, Known) and isinstance(y, Known):
        return Known(float64(x.value) + sign * float64(y.value))
    terms: list[tuple[LinearMap, Tensor]] = []
    bias = None
    for operand, factor in ((x, 1.0), (y, sign)):
        if isinstance(operand, Known):
            bias = np.broadcast_to(factor * float64(operand.value), shape)
            continue
        linear_map = builder.gather_map(operand, np.broadcast_to(indices(operand.shape), shape))
        terms.append((linear_map if factor == 1 else compose(linear_map, Scale(shape, shape, np.array([factor]))), operand))
    return builder.affine(terms, bias, shape)


def scale(builder: Builder, x: Value, factor: Array) -> Value:
    """x times a constant, broadcast to the common shape."""
    if isinstance(x, Known):
        return Known(float64(x.value) * float64(factor))
    shape = builder.broadcast_shape(x.shape, factor.shape)
    spread = builder.gather_map(x, np.broadcast_to(indices(x.shape), shape))
    flat = float64(factor).reshape(1) if factor.size == 1 else np.broadcast_to(float64(factor), shape).reshape(-1)
    return builder.linear(compose(spread, Scale(shape, shape, flat)), x)


def multiply(builder: Builder, x: Value, y: Value) -> Value:
    """x y. A square is one univariate node: as a product it would lose the sign (x x >= 0)."""
    if isinstance(y, Known):
        return scale(builder, x, y.value)
    if isinstance(x, Known):
        return scale(builder, y, x.value)
    if x == y:
        return builder.elementwise(build("pow", 2.0), x)
    shape = builder.broadcast_shape(x.shape, y.shape)
    return builder.multiply(broadcast(builder, x, shape), broadcast(builder, y, shape))


def maximum(builder: Builder, values: list[Value], sign: float = 1.0) -> Value:
    """sign * max(sign * v for v in values): the maximum, or with sign -1 the minimum."""
    shape = builder.broadcast_shape(*(v.shape for v in values))
    size = int(np.prod(shape, dtype=np.int64))
    stacked = concat(builder, [_spread(builder, v, shape, sign) for v in values])
    windows = np.arange(size)[:, None] + size * np.arange(len(values))[None, :]
    result = builder.maximum(stacked, windows, shape)
    return result if sign == 1 else scale(builder, result, np.array(sign))


def concat(builder: Builder, parts: list[Value]) -> Tensor:
    """The flat elements of all parts, one after the other; at least one part depends on the input."""
    total = sum(p.size for p in parts)
    terms: list[tuple[LinearMap, Tensor]] = []
    bias = np.zeros(total)
    start = 0
    for part in parts:
        if isinstance(part, Known):
            bias[start : start + part.size] = float64(part.value).reshape(-1)
        else:
            index = np.full(total, -1)
            index[start : start + part.size] = np.arange(part.size)
            terms.append((builder.gather_map(part, index), part))
        start += part.size
    return builder.affine(terms, bias if bias.any() else None, (total,))


def _spread(builder: Builder, value: Value, shape: Shape, sign: float) -> Value:
    if isinstance(value, Known):
        return Known(np.broadcast_to(sign * float64(value.value), shape))
    spread = broadcast(builder, value, shape)
    return spread if sign == 1 else scale(builder, spread, np.array(sign))


def lower_add(op: Operator) -> Value:
    return add(op.builder, op.value(0), op.value(1))


def lower_sub(op: Operator) -> Value:
    return add(op.builder, op.value(0), op.value(1), sign=-1.0)


def lower_sum(op: Operator) -> Value:
    return reduce(lambda x, y: add(op.builder, x, y), (op.value(i) for i in range(len(op.inputs))))


def lower_mean(op: Operator) -> Value:
    return scale(op.builder, lower_sum(op), np.array(1 / len(op.inputs)))


def lower_neg(op: Operator) -> Value:
    return scale(op.builder, op.value(0), np.array(-1.0))


def lower_div(op: Operator) -> Value:
    """Division by a constant is a product with its float64 reciprocal, by a variable with a Reciprocal node."""
    divisor = op.value(1)
    whole = [x for x in (op.value(0), divisor) if isinstance(x, Tensor) and not x.element_type.startswith("float")]
    if whole:
        raise op.refuse(f"division of {whole[0].element_type} cuts off, which is not supported for what depends on the input; cast to float32 before")
    if isinstance(divisor, Known):
        if not float64(divisor.value).all():
            raise op.malformed("division by a constant that is 0")
        return scale(op.builder, op.value(0), 1 / float64(divisor.value))
    return multiply(op.builder, op.value(0), op.builder.elementwise(build("reciprocal"), divisor))


def lower_max(op: Operator) -> Value:
    return _extremum(op, 1.0)


def lower_min(op: Operator) -> Value:
    return _extremum(op, -1.0)


def _extremum(op: Operator, sign: float) -> Value:
    values = [op.value(i) for i in range(len(op.inputs))]
    if len(values) == 1:
        return values[0]
    x, y = values[0], values[1]
    if isinstance(x, Known):
        x, y = y, x
    if len(values) == 2 and isinstance(x, Tensor) and isinstance(y, Known) and y.size == 1:
        # against one constant it is a univariate function, with tighter bounds than a Max node
        limit = float(y.value.reshape(()))
        function = build("relu") if (limit, sign) == (0, 1) else build("clip", limit, np.inf) if sign == 1 else build("clip", -np.inf, limit)
        return broadcast(op.builder, op.builder.elementwise(function, x), op.builder.broadcast_shape(x.shape, y.shape))
    return maximum(op.builder, values, sign)


def where(builder: Builder, condition: Array, x: Value, y: Value) -> Value:
    """x where the constant condition holds, y elsewhere; at least one of both depends on the input."""
    shape = builder.broadcast_shape(condition.shape, x.shape, y.shape)
    terms: list[tuple[LinearMap, Tensor]] = []
    bias = np.zeros(shape)
    for branch, chosen in ((x, condition), (y, ~condition)):
        if isinstance(branch, Known):
            bias = np.where(chosen, float64(branch.value), bias)
        else:
            terms.append((builder.gather_map(branch, np.where(chosen, np.broadcast_to(indices(branch.shape), shape), -1)), branch))
    return builder.affine(terms, bias if bias.any() else None, shape)
