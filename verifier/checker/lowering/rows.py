"""Reductions over axes, batch normalisation, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from verifier.checker.lowering.basic import inverse, signed
from verifier.checker.lowering.basic import total as sum_of
from verifier.checker.lowering.builder import Array, Builder, Shape, Tensor, Value, indices
from verifier.checker.lowering.elementwise import clipping
from verifier.checker.lowering.normal import rows_of, softmax_shift, softmax_weights
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.windows import norm
from verifier.checker.maps import Diagonal, Index, Transposed
from verifier.checker.network import Smooth

FEW_ROWS = 4  # of a softmax: that of a classifier, not that of an attention
MOST_DIFFERENCES = 2_000  # of the scores of a self-attention, a matrix of as many rows as columns


def axes_of(op: Operator, rank: int, since_input: int) -> tuple[int, ...]:
    """The axes to reduce: an attribute, or input 1 since version `since_input`; none: all of them, or nothing to do."""
    given = op.known_integers(1) if op.version >= since_input else op.integers("axes")
    return op.axes(given, rank) if given else () if op.flag("noop_with_empty_axes", 0) else tuple(range(rank))


def _reduction(op: Operator, since_input: int = 18) -> tuple[Tensor, tuple[int, ...], Shape, int]:
    """What is reduced, along which axes, to which shape, and how many elements to one."""
    x, keep = op.tensor(0), op.flag("keepdims", 1)
    axes = axes_of(op, len(x.shape), since_input)
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes)
    return x, axes, shape, math.prod(x.shape[a] for a in axes)


def _summing(shape: Shape, axes: tuple[int, ...]) -> Transposed:
    """The transpose of repeating each sum along `axes`."""
    kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
    source = np.ascontiguousarray(np.broadcast_to(indices(kept), shape)).reshape(-1)
    return Transposed(Index(source, math.prod(kept)))


def reduce_sum(op: Operator) -> Value:
    x, axes, shape, count = _reduction(op, 13)
    return op.end(op.builder.linear(_summing(x.shape, axes), x, shape), "affine", count - 1) if axes else x


def reduce_mean(op: Operator) -> Value:
    x, axes, shape, _ = _reduction(op)
    return _mean(op, x, axes, shape) if axes else x


def _mean(op: Operator, x: Tensor, axes: tuple[int, ...], shape: Shape) -> Value:
    count = math.prod(x.shape[a] for a in axes)
    return op.end(op.builder.scale(op.builder.linear(_summing(x.shape, axes), x, shape), *inverse(np.array(float(count)))), "affine", count + 1)


def global_average_pool(op: Operator) -> Value:
    x = op.tensor(0)
    op.require(len(x.shape) >= 3, f"input of shape {x.shape}")
    return _mean(op, x, tuple(range(2, len(x.shape))), (*x.shape[:2], *(1,) * (len(x.shape) - 2)))


def reduce_extremum(sign: float) -> Callable[[Operator], Value]:
    def lower(op: Operator) -> Value:
        x, axes, shape, _ = _reduction(op)
        if not axes:
            return x
        windows = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
        source = signed(op.builder, x, sign, x.shape)
        found = op.builder.maximum(op.as_tensor(source), windows, shape)
        return op.end(found if sign == 1 else op.builder.scale(found, np.array(-1.0)), "exact")

    return lower


def reduce_norm(p: int) -> Callable[[Operator], Value]:
    """ReduceL1, ReduceL2."""

    def lower(op: Operator) -> Value:
        x, axes, shape, count = _reduction(op)
        return norm(op, x, p, _summing(x.shape, axes), shape, count)

    return lower


def reduce_sum_square(op: Operator) -> Value:
    x, axes, shape, count = _reduction(op)
    each = op.stage(op.builder.elementwise(Smooth("pow", 2.0), x), "kernel", name="Pow", sources=(x,))
    return op.end(op.builder.linear(_summing(each.shape, axes), each, shape), "affine", count - 1, sources=(each.node,))


def reduce_log_sum(op: Operator) -> Value:
    x, axes, shape, count = _reduction(op)
    summed = op.stage(op.builder.linear(_summing(x.shape, axes), x, shape), "affine", count - 1, sources=(x,))
    return op.end(op.builder.elementwise(Smooth("log"), summed), "kernel", name="Log", sources=(summed.node,))


def reduce_log_sum_exp(op: Operator) -> Value:
    """log sum exp(x - c) + c, where c is written as x_0 - (x_0 - c) of the first element of each row."""
    (x, axes, shape, _), builder = _reduction(op), op.builder
    if not axes:
        return x
    order = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
    shifted, _, total, _ = softmax_weights(builder, builder.gather(x, order), order.shape[1])
    first, own = builder.gather(x, order[:, 0].reshape(shape)), builder.gather(shifted, indices(order.shape)[:, 0].reshape(shape))
    back: list[Value] = [builder.reshape(builder.elementwise(Smooth("log"), total), shape), first, own]
    return op.end(sum_of(builder, back, [1.0, 1.0, -1.0]), "refused", name="a logarithm of a sum of exponentials")


def reduce_prod(op: Operator) -> Value:
    """Neighbours multiplied with each other, until one is left."""
    x, axes, shape, _ = _reduction(op)
    order = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
    left = [op.builder.gather(x, order[:, k].reshape(shape)) for k in range(order.shape[1])] if axes else [x]
    while len(left) > 1:
        pairs = list(zip(left[: len(left) // 2 * 2 : 2], left[1::2], strict=True))
        left = [*(op.builder.product(a, b) for a, b in pairs), *left[2 * len(pairs) :]]
    return op.end(left[0], "refused" if axes else "moves", name="a product over an axis")


def batch_normalization(op: Operator) -> Value:
    """(x - mean) s + B with s = scale / sqrt(var + epsilon) known to 4 u: a sum, a root and a quotient are rounded."""
    op.require(not any(op.outputs[1:]), "more than the first output")
    x = op.tensor(0)
    op.require(not op.flag("training_mode", 0) and op.flag("spatial", 1), "training mode, or not spatial")
    scale, shift, mean, variance = (op.known_floats(i) for i in range(1, 5))
    op.require(len(x.shape) >= 2 and all(v.shape == (x.shape[1],) for v in (scale, shift, mean, variance)), "parameters of another shape")
    op.require(op.times == 0 or bool((variance >= 0).all()), "a variance below 0")  # whose rounding the epsilon may make the larger part
    spread = variance + op.real("epsilon", float(np.float32(1e-5)))
    op.require(bool((spread >= 2.0**-126).all()), "variance + epsilon")
    factor = scale / np.sqrt(spread)

    def per_channel(v: Array) -> Array:
        return np.broadcast_to(v.reshape(-1, *(1,) * (len(x.shape) - 2)), x.shape)

    radius = per_channel(np.abs(factor) * 2.0**-51 + np.where(factor != 0, 2.0**-1022, 0.0)).reshape(-1)
    centred = op.builder.affine([(Index(indices((x.size,)), x.size), x)], per_channel(-mean), x.shape)
    scaled = Diagonal(per_channel(factor).reshape(-1), radius)
    return op.end(op.builder.affine([(scaled, centred)], per_channel(shift), x.shape), "affine", 8)


def softmax(op: Operator) -> Value:
    order, width = rows_of(op, (x := op.tensor(0)).shape)
    found = softmax_rows(op.builder, op.builder.gather(x, order), width)
    return op.end(op.builder.gather(found, np.argsort(order.reshape(-1), kind="stable").reshape(x.shape)), "softmax", width)


def softmax_rows(builder: Builder, x: Tensor, width: int) -> Tensor:
    """exp(x - c) / sum exp(x - c) over rows of `width`, one after the other; c is 0 until a certificate chooses it."""
    if x.size > FEW_ROWS * width and x.shape[-2:] == (width, width) and 0 < x.size * (width - 1) <= MOST_DIFFERENCES:
        return _by_differences(builder, x, width)
    _, weight, summed, row_of = softmax_weights(builder, x, width)
    inverted = builder.elementwise(Smooth("reciprocal"), summed)
    found = builder.product(weight, builder.linear(Index(row_of, summed.size), inverted, x.shape))
    return builder.elementwise(clipping(0.0, 1.0), found) if summed.size <= FEW_ROWS else found


def _by_differences(builder: Builder, x: Tensor, width: int) -> Tensor:
    """1 / (1 + sum exp(x_j - x_i) over the others, j = i + 1, i + 2, ... modulo the width): the same function."""
    shifted, own = softmax_shift(builder, x, width)[0], np.repeat(np.arange(x.size, dtype=np.int64), width - 1)
    other = own // width * width + (own + 1 + np.arange(own.size) % (width - 1)) % width
    weight = builder.elementwise(Smooth("exp"), sum_of(builder, [builder.gather(shifted, place) for place in (other, own)], [1.0, -1.0]))
    return builder.elementwise(Smooth("reciprocal"), builder.affine([(Transposed(Index(own, x.size)), weight)], np.ones(x.shape), x.shape))
