"""Quantisation: a float becomes a whole number of steps, between the limits of an integer type, and back.

q = clip(round(x / scale), lower - zero, upper - zero) + zero: two sites, Clip and then rounding. What is computed between quantised
tensors is computed on whole numbers, exactly, and scaled once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.functions import build
from graph.linear_map import MINUS, Scale
from graph.lowering.arithmetic import add, broadcast, concat, float64, multiply, scale
from graph.lowering.builder import Builder, Known, Tensor, Value, indices, varying
from graph.lowering.linear import lower_conv, matmul, reshape, swap
from graph.lowering.normalisation import softmax_in_bounds
from graph.lowering.operator import Operator
from graph.lowering.pooling import lower_average_pool, lower_global_average_pool
from graph.lowering.reduction import lower_reduce_mean

Array = NDArray[Any]

# ONNX element types that are quantised to
TYPES = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 21: "uint4", 22: "int4", 25: "uint2", 26: "int2"}
PACKED = {"uint4": (0, 15), "int4": (-8, 7), "uint2": (0, 3), "int2": (-2, 1)}


@dataclass(frozen=True, eq=False)
class Steps:
    """How numbers are written: `size` of a step, the whole number `zero` that stands for 0 (both broadcast with the tensor), the type."""

    size: Array
    zero: Array
    kind: str

    def limits(self) -> tuple[int, int]:
        """The least and the largest number of the type."""
        if self.kind in PACKED:
            return PACKED[self.kind]
        found = np.iinfo(self.kind)
        return int(found.min), int(found.max)


def steps(op: Operator, at: int, zero: int, *, kind: str = "uint8", shape: Shape = (), axis: int | None = None) -> Steps:
    """Scale and zero point from inputs `at` and `zero` (left out: 0 of type `kind`); of tensors along an axis, or in blocks, for `shape`."""
    size, known = float64(op.known(at)), units(op, zero, kind=kind, shape=shape, axis=axis)
    if not (size > 0).all():
        raise op.refuse("a scale that is not positive is not supported")
    return replace(known, size=_along(op, size, shape, axis))


def units(op: Operator, zero: int, *, kind: str = "uint8", shape: Shape = (), axis: int | None = None) -> Steps:
    """As `steps`, of size 1: where the scale is not a constant."""
    offset = op.optional(zero)
    whole = np.zeros(1) if offset is None else np.asarray(op.known(zero))
    name = kind if offset is None else whole.dtype.name
    if name not in TYPES.values():
        raise op.refuse(f"steps of type {name}: {', '.join(TYPES.values())} are supported")
    return Steps(np.ones(()), _along(op, float64(whole), shape, axis), name)


def _along(op: Operator, v: Array, shape: Shape, axis: int | None) -> Array:
    """One number, or one for each place of an axis or for each block of it, so that it broadcasts with `shape`."""
    if v.size == 1:
        return v.reshape(())
    if axis is None:
        return v
    if v.ndim == 1:
        if v.size != shape[axis]:
            raise op.malformed(f"{v.size} scales for {shape[axis]} places of axis {axis}")
        return v.reshape(-1, *(1,) * (len(shape) - axis - 1))
    block = op.integer("block_size") or -(-shape[axis] // v.shape[axis])
    return np.repeat(v, block, axis=axis)[tuple(slice(n) for n in shape)]


def quantise(builder: Builder, x: Value, to: Steps) -> Tensor:
    """x, in units of 1, as whole numbers of steps: what `to` says of their size is not applied here."""
    least, most = to.limits()
    lower, upper = float(least - to.zero.max()), float(most - to.zero.min())
    whole = builder.elementwise(build("clip", lower, upper), builder.constant(x.value) if isinstance(x, Known) else x)
    found: Value = builder.elementwise(build("round", lower, upper), whole)
    if to.zero.any():
        found = add(builder, found, Known(np.broadcast_to(to.zero, x.shape)))
    if to.zero.min() != to.zero.max():
        found = builder.elementwise(build("clip", float(least), float(most)), varying(found))
    return builder.convert(varying(found), to.kind)


def restored(builder: Builder, x: Value, of: Steps) -> Value:
    """(x - zero) size, a float."""
    if isinstance(x, Known):
        return Known((float64(x.value) - of.zero) * of.size)
    return builder.convert(varying(scale(builder, _centred(builder, x, of.zero), of.size)), "float32")


def _centred(builder: Builder, x: Value, zero: Array) -> Value:
    """x - zero."""
    if isinstance(x, Known):
        return Known(float64(x.value) - zero)
    return add(builder, x, Known(-zero)) if zero.any() else x


def _written(op: Operator, x: Value, to: Steps) -> Value:
    """The float x as whole numbers of steps."""
    return quantise(op.builder, scale(op.builder, x, 1 / to.size), to)


def lower_quantize_linear(op: Operator) -> Value:
    """Of constants too, as `lower_dequantize_linear`."""
    x = op.value(0)
    axis = op.axis(op.integer("axis", 1), len(x.shape)) if op.value(1).size > 1 else None
    to = steps(op, 1, 2, kind=TYPES.get(op.integer("output_dtype") or 2, ""), shape=x.shape, axis=axis)
    if isinstance(x, Tensor):
        return _written(op, x, to)
    return Known(np.clip(np.rint(float64(x.value) / to.size) + to.zero, *to.limits()).astype(np.int64 if to.kind in PACKED else to.kind))


def lower_dequantize_linear(op: Operator) -> Value:
    """Of constants too: the reference implementation knows new versions only."""
    x, size = op.value(0), op.value(1)
    axis = op.axis(op.integer("axis", 1), len(x.shape)) if size.size > 1 else None
    if isinstance(size, Tensor):
        whole = _centred(op.builder, x, units(op, 2, kind="int32", shape=x.shape, axis=axis).zero)
        spread = np.broadcast_to(_along(op, indices(size.shape), x.shape, axis), x.shape)
        return multiply(op.builder, _floats(op, whole), op.builder.gather(size, spread))
    return restored(op.builder, x, steps(op, 1, 2, kind="int32", shape=x.shape, axis=axis))


def lower_dynamic_quantize_linear(op: Operator) -> list[Value]:
    """The step is a 255th of the range of x and 0, which depends on x."""
    x, b = op.variable(0), op.builder
    windows = np.arange(x.size)[None]
    high = b.elementwise(build("relu"), b.maximum(x, windows, ()))
    negative = b.linear(Scale(x.shape, x.shape, MINUS), x)
    low = b.elementwise(build("relu"), b.maximum(negative, windows, ()))  # of which the least number is the negative
    size = scale(b, add(b, high, low), np.array(1 / 255))
    inverse = b.elementwise(build("reciprocal"), varying(size))
    zero = _whole(b, b.multiply(low, inverse), 0.0, 255.0)
    found = add(b, _whole(b, b.multiply(x, broadcast(b, inverse, x.shape)), -255.0, 255.0), zero)
    clipped = b.elementwise(build("clip", 0.0, 255.0), varying(found))
    return [b.convert(clipped, "uint8"), size, b.convert(zero, "uint8")]


def _whole(builder: Builder, x: Tensor, lower: float, upper: float) -> Tensor:
    return builder.elementwise(build("round", lower, upper), builder.elementwise(build("clip", lower, upper), x))


def lower_matmul_integer(op: Operator) -> Value:
    """(A - zero) (B - zero), whole numbers."""
    return op.builder.convert(varying(_integer_product(op, 2, 3)), "int32")


def _integer_product(op: Operator, zero_a: int, zero_b: int) -> Value:
    second = np.zeros(()) if op.optional(zero_b) is None else float64(op.known(zero_b))
    return matmul(op.builder, _without_zero(op, zero_a), _floats(op, _centred(op.builder, op.value(1), _plain(second))))


def _without_zero(op: Operator, i: int) -> Value:
    """Input 0 less its zero point, input i: a constant (one for each row, perhaps), or a number that DynamicQuantizeLinear chose."""
    x, zero = op.value(0), op.optional(i)
    if isinstance(zero, Tensor):
        if zero.size != 1:
            raise op.refuse(f"{zero.size} zero points that depend on the input")
        return add(op.builder, _floats(op, x), broadcast(op.builder, op.builder.convert(zero, "float32"), x.shape), -1.0)
    first = np.zeros(()) if zero is None else float64(zero.value)
    first = first.reshape(-1, 1) if first.ndim == 1 and first.size > 1 else first
    return _floats(op, _centred(op.builder, x, _plain(first)))


def _plain(zero: Array) -> Array:
    return zero.reshape(()) if zero.size == 1 else zero


def _floats(op: Operator, x: Value) -> Value:
    """Whole numbers as floats: products of two types of integers are not of either."""
    return x if isinstance(x, Known) else op.builder.convert(x, "float32")


def lower_conv_integer(op: Operator) -> Value:
    x, w = _without_zero(op, 2), _weight(op, 1, 3)
    return op.builder.convert(varying(_convolved(op, x, w, None)), "int32")


def _zero(op: Operator, i: int) -> Array:
    return np.zeros(()) if op.optional(i) is None else _plain(float64(op.known(i)))


def _weight(op: Operator, i: int, zero: int) -> Array:
    """The weight less its zero point, which may be one for each output channel."""
    w, offset = float64(op.known(i)), _zero(op, zero)
    return np.asarray(w - (offset.reshape(-1, *(1,) * (w.ndim - 1)) if offset.ndim else offset))


def _convolved(op: Operator, x: Value, weight: Array, bias: Value | None) -> Value:
    if op.integer("channels_last"):
        raise op.refuse("channels_last is not supported")
    inputs = (_floats(op, x), Known(weight), bias)
    return lower_conv(replace(op, inputs=inputs, held=inputs))


def lower_q_linear_conv(op: Operator) -> Value:
    """A convolution of whole numbers, scaled by the steps of input and weight over those of the output, per channel."""
    x, to = op.value(0), steps(op, 6, 7)
    found = _convolved(op, _centred(op.builder, x, units(op, 2).zero), _weight(op, 3, 5), op.optional(8))
    column = (-1, *(1,) * (len(found.shape) - 2))
    return _rescaled(op, found, _positive(op, 1, ()), _positive(op, 4, column if op.value(4).size > 1 else ()), to)


def lower_q_linear_matmul(op: Operator) -> Value:
    """Steps of A may be one for each row, those of B one for each column."""
    rows, to = units(op, 2).zero, steps(op, 6, 7)
    left = _centred(op.builder, op.value(0), rows.reshape(-1, 1) if rows.ndim == 1 else rows)
    found = matmul(op.builder, _floats(op, left), _floats(op, _centred(op.builder, op.value(3), units(op, 5).zero)))
    return _rescaled(op, found, _positive(op, 1, (-1, 1) if op.value(1).size > 1 else ()), _positive(op, 4, None if op.value(4).size > 1 else ()), to)


def _positive(op: Operator, i: int, shape: Shape | None) -> Value:
    """The steps in input `i`, in another shape (-1: what is left), as floats."""
    found = op.value(i)
    if isinstance(found, Tensor):
        return found if shape is None else reshape(found, tuple(found.size if n < 0 else n for n in shape))
    size = float64(found.value)
    if not (size > 0).all():
        raise op.refuse("a scale that is not positive is not supported")
    return Known(size if shape is None else size.reshape(shape))


def _rescaled(op: Operator, found: Value, first: Value, second: Value, to: Steps) -> Value:
    """Whole numbers times two sizes of steps over those of `to`, as such."""
    if isinstance(first, Known) and isinstance(second, Known):
        return quantise(op.builder, scale(op.builder, found, first.value * second.value / to.size), to)
    both = scale(op.builder, multiply(op.builder, first, second), 1 / to.size)
    return quantise(op.builder, multiply(op.builder, found, both), to)


def lower_q_gemm(op: Operator) -> Value:
    """alpha A' B' + C in whole numbers; without a scale of the output a float."""
    a, b = steps(op, 1, 2), steps(op, 4, 5)
    if op.integer("transB") and b.zero.ndim == 1:  # of every row, which is a column of B'
        b = replace(b, zero=b.zero.reshape(-1, 1))
    left, right = (_floats(op, _centred(op.builder, op.value(i), of.zero)) for i, of in ((0, a), (3, b)))
    found = matmul(op.builder, swap(op.builder, left) if op.integer("transA") else left, swap(op.builder, right) if op.integer("transB") else right)
    if op.optional(6) is not None:
        found = add(op.builder, found, op.value(6))
    found = scale(op.builder, found, op.real("alpha", 1.0) * a.size * b.size)
    return found if op.optional(7) is None else _written(op, found, steps(op, 7, 8))


def lower_matmul_integer_to_float(op: Operator) -> Value:
    """The product of whole numbers times both scales, plus a bias."""
    size = _plain(float64(op.known(2))) * _plain(float64(op.known(3)))
    found = scale(op.builder, _integer_product(op, 4, 5), size)
    return found if op.optional(6) is None else add(op.builder, found, op.value(6))


def lower_q_linear_add(op: Operator) -> Value:
    return _written(op, add(op.builder, *_both(op)), steps(op, 6, 7))


def lower_q_linear_mul(op: Operator) -> Value:
    return _written(op, multiply(op.builder, *_both(op)), steps(op, 6, 7))


def _both(op: Operator) -> tuple[Value, Value]:
    a, b = (restored(op.builder, op.value(i), steps(op, i + 1, i + 2)) for i in (0, 3))
    return a, b


def _first(op: Operator) -> Tensor:
    return varying(restored(op.builder, op.variable(0), steps(op, 1, 2)))


def lower_q_linear_sigmoid(op: Operator) -> Value:
    return _written(op, op.builder.elementwise(build("sigmoid"), _first(op)), steps(op, 3, 4))


def lower_q_linear_leaky_relu(op: Operator) -> Value:
    return _written(op, op.builder.elementwise(build("leaky_relu", op.real("alpha")), _first(op)), steps(op, 3, 4))


def lower_q_linear_softmax(op: Operator) -> Value:
    """From opset 13 on along one axis, before over all from `axis` on."""
    x = _first(op)
    axis = op.axis(op.integer("axis", -1), len(x.shape))
    if op.integer("opset") < 13:
        rows = Tensor(x.node, (int(np.prod(x.shape[:axis])), x.size // int(np.prod(x.shape[:axis]))), x.element_type)
        found = softmax_in_bounds(op.builder, rows, x.shape)
        return _written(op, Tensor(found.node, x.shape, found.element_type), steps(op, 3, 4))
    order = np.moveaxis(indices(x.shape), axis, -1)
    moved = op.builder.gather(x, order)
    found = softmax_in_bounds(op.builder, Tensor(moved.node, (x.size // x.shape[axis], x.shape[axis]), x.element_type), moved.shape)
    return _written(op, op.builder.gather(found, np.moveaxis(indices(order.shape), -1, axis)), steps(op, 3, 4))


def _pooled(op: Operator, lower: Any) -> Value:
    if op.integer("channels_last"):
        raise op.refuse("channels_last is not supported")
    inputs = (_first(op),)
    return _written(op, lower(replace(op, inputs=inputs, held=inputs)), steps(op, 3, 4))


def lower_q_linear_average_pool(op: Operator) -> Value:
    return _pooled(op, lower_average_pool)


def lower_q_linear_global_average_pool(op: Operator) -> Value:
    return _pooled(op, lower_global_average_pool)


def lower_q_linear_reduce_mean(op: Operator) -> Value:
    return _pooled(op, lower_reduce_mean)


def lower_q_linear_concat(op: Operator) -> Value:
    """Parts with steps of their own, written with those of the output."""
    parts = [restored(op.builder, op.value(i), steps(op, i + 1, i + 2)) for i in range(2, len(op.inputs), 3)]
    axis = op.axis(op.integer("axis"), len(parts[0].shape))
    starts = np.cumsum([0, *(p.size for p in parts[:-1])])
    place = np.concatenate([indices(p.shape) + start for p, start in zip(parts, starts, strict=True)], axis=axis)
    return _written(op, op.builder.gather(concat(op.builder, parts), place), steps(op, 0, 1))
