"""Batch normalisation, softmax and its logarithm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.functions import build
from graph.linear_map import MINUS, Reshape, Scale, Sum
from graph.lowering.arithmetic import broadcast, float64
from graph.lowering.builder import Builder, Tensor, Value, indices, varying
from graph.lowering.centring import batch_normalization_in_training
from graph.lowering.operator import Operator

Array = NDArray[Any]

FEW_ROWS = 4  # of a softmax: also in the checker
MOST_DIFFERENCES = 2_000  # of the numbers of a softmax: also in the checker


def lower_batch_normalization(op: Operator) -> Value | list[Value]:
    """(x - mean) scale / sqrt(var + eps) + B, at inference by constant statistics."""
    if op.integer("training_mode"):
        return batch_normalization_in_training(op)
    if not op.integer("spatial", 1) or len([name for name in op.node.output if name]) > 1:
        raise op.refuse("spatial=0 and statistics outputs are not supported; export the model for inference")
    x = op.variable(0)
    gamma, beta, mean, variance = (float64(op.known(i)) for i in range(1, 5))
    channels = x.shape[1] if len(x.shape) > 1 else 1
    if any(v.shape != (channels,) for v in (gamma, beta, mean, variance)):
        raise op.malformed(f"the parameters are not vectors of {channels} channels")
    spread = variance + op.real("epsilon")
    if not (spread > 0).all():
        raise op.malformed("variance + epsilon is not positive")
    factor = gamma / np.sqrt(spread)
    per_channel = (-1, *(1,) * (len(x.shape) - 2))
    flat = np.broadcast_to(factor.reshape(per_channel), x.shape).reshape(-1)
    # in two steps, so that the rounding analysis of `selfcheck` sees the magnitudes of mean and B before they cancel
    centred = op.builder.affine([(Scale(x.shape, x.shape, flat), x)], np.broadcast_to((-mean * factor).reshape(per_channel), x.shape), x.shape)
    return op.builder.affine([(Reshape(x.shape, x.shape), centred)], np.broadcast_to(beta.reshape(per_channel), x.shape), x.shape)


def lower_softmax(op: Operator) -> Value:
    """exp(x - c) / sum exp(x - c) per row, c a constant that `simplify.recentre_softmax` may set (the same function for every c); in attentions
    of few tokens 1 / sum exp(x_j - x_i)."""
    x = op.variable(0)
    shape = x.shape if op.version < 13 else _last(x.shape, op.axis(op.integer("axis"), len(x.shape)))
    return _by_rows(op, lambda builder, matrix: softmax_in_bounds(builder, matrix, shape))


def lower_log_softmax(op: Operator) -> Value:
    """(x - c) - log sum exp(x - c) per row, the same function for every c."""
    return _by_rows(op, _log_softmax_rows)


def masked_softmax(op: Operator, x: Tensor, mask: Array) -> Value:
    """The softmax of what is -infinity under the mask."""
    axis = op.axis(op.integer("axis"), len(x.shape))
    if op.version < 13:
        raise op.refuse("-infinity in front of a Softmax before opset 13 is not supported; convert the model with onnx.version_converter")
    rows = np.moveaxis(mask, axis, -1).reshape(-1, x.shape[axis])
    if rows.all(axis=1).any():
        raise op.refuse("a row is -infinity everywhere: its softmax is not a number")
    return _by_rows(op, lambda builder, matrix: softmax_rows(builder, matrix, rows), x)


def _by_rows(op: Operator, lower: Callable[[Builder, Tensor], Tensor], x: Tensor | None = None) -> Value:
    """`lower` on a matrix of rows. Before version 13 all axes from `axis` on form one row; since then `axis` alone does."""
    x = op.variable(0) if x is None else x
    axis = op.axis(op.integer("axis"), len(x.shape))
    if op.version < 13:
        result = lower(op.builder, Tensor(x.node, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), x.element_type))
        return Tensor(result.node, x.shape, result.element_type)
    rows = op.builder.gather(x, np.moveaxis(indices(x.shape), axis, -1))
    result = lower(op.builder, Tensor(rows.node, (x.size // x.shape[axis], x.shape[axis]), rows.element_type))
    return op.builder.gather(result, np.moveaxis(indices(rows.shape), -1, axis))


def softmax_rows(builder: Builder, x: Tensor, mask: Array | None = None) -> Tensor:
    """The softmax of every row of the matrix x; elements under the `mask` are left out of their row, and 0."""
    weight, total = _weights(builder, x, mask)[1:]
    inverse = broadcast(builder, builder.elementwise(build("reciprocal"), total), x.shape)
    return varying(builder.multiply(weight, inverse))


def softmax_in_bounds(builder: Builder, x: Tensor, shape: Shape) -> Tensor:
    """The same of every row of the matrix x, between 0 and 1 also by its bounds, as products do not know: of few rows, those of a classifier, by a
    further function; of more, where x has a `shape` with as many rows as columns at its end, the scores of a self-attention, by differences,
    where these are not too many. (Differences grow twice as fast as what they are of, and exp overflows where a classifier tells its classes
    apart by 100, which attentions do not.)"""
    rows, width = x.shape
    if rows > FEW_ROWS and shape[-2:] == (width, width) and 0 < x.size * (width - 1) <= MOST_DIFFERENCES:
        return _by_differences(builder, x)
    found = softmax_rows(builder, x)
    return builder.elementwise(build("clip", 0.0, 1.0), found) if rows <= FEW_ROWS else found


def _last(shape: Shape, axis: int) -> Shape:
    """The shape with this axis moved to the end."""
    return (*shape[:axis], *shape[axis + 1 :], shape[axis])


def _by_differences(builder: Builder, x: Tensor) -> Tensor:
    """1 / (1 + sum exp(x_j - x_i) over j != i) of every row: no product, and what moves a row as a whole moves nothing. The others of element i of
    a row of n are i + 1, i + 2, ... modulo n."""
    (rows, n), shifted = x.shape, _shifted(builder, x)
    own = np.repeat(np.arange(x.size), n - 1)
    other = own // n * n + (own + 1 + np.arange(own.size) % (n - 1)) % n
    shape = (rows, n, n - 1)
    ends = [builder.gather(shifted, place.reshape(shape)) for place in (other, own)]
    weight = builder.elementwise(build("exp"), builder.affine([(Reshape(shape, shape), ends[0]), (Scale(shape, shape, MINUS), ends[1])], None, shape))
    total = builder.affine([(Sum(shape, x.shape, (2,)), weight)], np.ones(x.shape), x.shape)
    return builder.elementwise(build("reciprocal"), total)


def _log_softmax_rows(builder: Builder, x: Tensor) -> Tensor:
    shifted, _, total = _weights(builder, x)
    logarithm = broadcast(builder, builder.elementwise(build("log"), total), x.shape)
    shape = x.shape
    return builder.affine([(Reshape(shape, shape), shifted), (Scale(shape, shape, MINUS), logarithm)], None, shape)


def _weights(builder: Builder, x: Tensor, mask: Array | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """x - c, exp(x - c) (0 under the mask) and the sum of that over each row."""
    shifted = _shifted(builder, x)
    weight = builder.elementwise(build("exp"), shifted)
    if mask is not None and mask.any():
        weight = builder.gather(weight, np.where(mask, -1, indices(x.shape)))
    empty = np.zeros((x.shape[0], 1)) if mask is None else np.where(mask.all(axis=1, keepdims=True), 1.0, 0.0)  # a row without elements is 0 / 1
    total = builder.affine([(Sum(x.shape, (x.shape[0], 1), (1,)), weight)], empty if empty.any() else None, (x.shape[0], 1))
    return shifted, weight, total


def _shifted(builder: Builder, x: Tensor) -> Tensor:
    """x - c of a softmax's rows."""
    shifted = builder.affine([(Reshape(x.shape, x.shape), x)], np.zeros(x.shape), x.shape)
    builder.shifts.append(shifted.node)
    return shifted
