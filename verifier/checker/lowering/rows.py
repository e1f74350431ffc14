"""Reductions over axes, batch normalisation, softmax."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from verifier.checker.lowering.basic import inverse, signed
from verifier.checker.lowering.basic import total as sum_of
from verifier.checker.lowering.builder import Array, Builder, Shape, Tensor, Value, indices
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.windows import norm
from verifier.checker.maps import Diagonal, Index, Transposed
from verifier.checker.network import Smooth, Softmax


def axes_of(op: Operator, rank: int, since_input: int) -> tuple[int, ...]:
    """The axes to reduce: an attribute, or input 1 since version `since_input`; none: all of them, or nothing to do."""
    given = op.known_integers(1) if op.version >= since_input else op.integers("axes")
    return op.axes(given, rank) if given else () if op.flag("noop_with_empty_axes", 0) else tuple(range(rank))


def _reduced(op: Operator, shape: Shape, axes: tuple[int, ...]) -> Shape:
    keep = op.flag("keepdims", 1)
    return tuple(1 if a in axes else n for a, n in enumerate(shape) if keep or a not in axes)


def _summing(shape: Shape, axes: tuple[int, ...]) -> Transposed:
    """The transpose of repeating each sum along `axes`."""
    kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
    source = np.ascontiguousarray(np.broadcast_to(indices(kept), shape)).reshape(-1)
    return Transposed(Index(source, math.prod(kept)))


def _sum(builder: Builder, x: Tensor, axes: tuple[int, ...], shape: Shape) -> Tensor:
    return builder.linear(_summing(x.shape, axes), x, shape)


def reduce_sum(op: Operator) -> Value:
    x = op.tensor(0)
    axes = axes_of(op, len(x.shape), 13)
    if not axes:
        return x
    return op.end(_sum(op.builder, x, axes, _reduced(op, x.shape, axes)), "affine", math.prod(x.shape[a] for a in axes) - 1)


def reduce_mean(op: Operator) -> Value:
    x = op.tensor(0)
    axes = axes_of(op, len(x.shape), 18)
    if not axes:
        return x
    return _mean(op, x, axes, _reduced(op, x.shape, axes))


def _mean(op: Operator, x: Tensor, axes: tuple[int, ...], shape: Shape) -> Value:
    count = math.prod(x.shape[a] for a in axes)
    return op.end(op.builder.scale(_sum(op.builder, x, axes, shape), *inverse(np.array(float(count)))), "affine", count + 1)


def global_average_pool(op: Operator) -> Value:
    x = op.tensor(0)
    op.require(len(x.shape) >= 3, f"input of shape {x.shape}")
    return _mean(op, x, tuple(range(2, len(x.shape))), (*x.shape[:2], *(1,) * (len(x.shape) - 2)))


def reduce_extremum(sign: float) -> Callable[[Operator], Value]:
    def lower(op: Operator) -> Value:
        x = op.tensor(0)
        axes = axes_of(op, len(x.shape), 18)
        if not axes:
            return x
        shape = _reduced(op, x.shape, axes)
        windows = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
        source = signed(op.builder, x, sign, x.shape)
        found = op.builder.maximum(op.as_tensor(source), windows, shape)
        return op.end(found if sign == 1 else op.builder.scale(found, np.array(-1.0)), "exact")

    return lower


def reduce_norm(p: int) -> Callable[[Operator], Value]:
    """ReduceL1, ReduceL2."""

    def lower(op: Operator) -> Value:
        x = op.tensor(0)
        axes = axes_of(op, len(x.shape), 18)
        return norm(op, x, p, _summing(x.shape, axes), _reduced(op, x.shape, axes), math.prod(x.shape[a] for a in axes))

    return lower


def reduce_sum_square(op: Operator) -> Value:
    x = op.tensor(0)
    axes = axes_of(op, len(x.shape), 18)
    each = op.stage(op.builder.elementwise(Smooth("pow", 2.0), x), "kernel", name="Pow", sources=(x,))
    found = _sum(op.builder, each, axes, _reduced(op, x.shape, axes))
    return op.end(found, "affine", math.prod(x.shape[a] for a in axes) - 1, sources=(each.node,))


def reduce_log_sum(op: Operator) -> Value:
    x = op.tensor(0)
    axes = axes_of(op, len(x.shape), 18)
    summed = _sum(op.builder, x, axes, _reduced(op, x.shape, axes))
    summed = op.stage(summed, "affine", math.prod(x.shape[a] for a in axes) - 1, sources=(x,))
    return op.end(op.builder.elementwise(Smooth("log"), summed), "kernel", name="Log", sources=(summed.node,))


def reduce_log_sum_exp(op: Operator) -> Value:
    """log sum exp(x - c) + c, where c is written as x_0 - (x_0 - c) of the first element of each row."""
    x, builder = op.tensor(0), op.builder
    axes = axes_of(op, len(x.shape), 18)
    shape = _reduced(op, x.shape, axes)
    if not axes:
        return x
    order = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
    rows = builder.gather(x, order)
    shifted = builder.affine([(Index(indices((x.size,)), x.size), rows)], np.zeros(rows.shape), rows.shape)
    row_of = np.repeat(np.arange(len(order)), order.shape[1])
    builder.softmaxes.append(Softmax(shifted.node, len(order), row_of))
    total = builder.linear(Transposed(Index(row_of, len(order))), builder.elementwise(Smooth("exp"), shifted), shape)
    first, own = builder.gather(x, order[:, 0].reshape(shape)), builder.gather(shifted, indices(rows.shape)[:, 0].reshape(shape))
    back: list[Value] = [builder.elementwise(Smooth("log"), total), first, own]
    return op.end(sum_of(builder, back, [1.0, 1.0, -1.0]), "refused", name="a logarithm of a sum of exponentials")


def reduce_prod(op: Operator) -> Value:
    """Neighbours multiplied with each other, until one is left."""
    x = op.tensor(0)
    axes = axes_of(op, len(x.shape), 18)
    shape = _reduced(op, x.shape, axes)
    order = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
    left = [op.builder.gather(x, order[:, k].reshape(shape)) for k in range(order.shape[1])] if axes else [x]
    while len(left) > 1:
        pairs = list(zip(left[: len(left) // 2 * 2 : 2], left[1::2], strict=True))
        left = [*(op.builder.product(a, b) for a, b in pairs), *left[2 * len(pairs) :]]
    return op.end(left[0], "refused" if axes else "moves", name="a product over an axis")


def batch_normalization(op: Operator) -> Value:
    """(x - mean) s + B with s = scale / sqrt(var + epsilon) known to 4 u: a sum, a root and a quotient are rounded."""
    op.one_output()
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
    """Before version 13 all axes from `axis` on are one row; since then `axis` alone is."""
    x = op.tensor(0)
    axis = op.axis(op.integer("axis", -1 if op.version >= 13 else 1), len(x.shape))
    if op.version < 13:
        return op.end(softmax_rows(op.builder, x, math.prod(x.shape[axis:])), "softmax", math.prod(x.shape[axis:]))
    rows = op.builder.gather(x, np.moveaxis(indices(x.shape), axis, -1))
    found = softmax_rows(op.builder, rows, x.shape[axis])
    return op.end(op.builder.gather(found, np.moveaxis(indices(rows.shape), -1, axis)), "softmax", x.shape[axis])


def softmax_rows(builder: Builder, x: Tensor, width: int) -> Tensor:
    """exp(x - c) / sum exp(x - c) over rows of `width`, one after the other; c is 0 until a certificate chooses it."""
    count, row_of = x.size // width, np.arange(x.size, dtype=np.int64) // width
    shifted = builder.affine([(Index(indices((x.size,)), x.size), x)], np.zeros(x.shape), x.shape)
    builder.softmaxes.append(Softmax(shifted.node, count, row_of))
    weight = builder.elementwise(Smooth("exp"), shifted)
    total = builder.linear(Transposed(Index(row_of, count)), weight, (count,))
    inverted = builder.elementwise(Smooth("reciprocal"), total)
    spread = builder.linear(Index(row_of, count), inverted, x.shape)
    return builder.product(weight, spread)
