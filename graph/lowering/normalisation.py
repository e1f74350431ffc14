"""Batch normalisation, softmax and its logarithm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.functions import build
from graph.linear_map import MINUS, Reshape, Scale, Sum
from graph.lowering.arithmetic import broadcast, float64
from graph.lowering.builder import Builder, Tensor, Value, indices, varying
from graph.lowering.centring import batch_normalization_in_training
from graph.lowering.operator import Operator

Array = NDArray[Any]

FEW_ROWS = 4  # of a softmax: also in the checker


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
    """exp(x - c) / sum exp(x - c) per row, c a constant that `simplify.recentre_softmax` may set (the same function for every c)."""
    return _by_rows(op, softmax_in_bounds)


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


def softmax_in_bounds(builder: Builder, x: Tensor) -> Tensor:
    """The same of every row of x, between 0 and 1 also by its bounds, as products do not know; of few rows, since in an attention that gains
    nothing and takes time."""
    found = softmax_rows(builder, x)
    return builder.elementwise(build("clip", 0.0, 1.0), found) if x.shape[0] <= FEW_ROWS else found


def _log_softmax_rows(builder: Builder, x: Tensor) -> Tensor:
    shifted, _, total = _weights(builder, x)
    logarithm = broadcast(builder, builder.elementwise(build("log"), total), x.shape)
    shape = x.shape
    return builder.affine([(Reshape(shape, shape), shifted), (Scale(shape, shape, MINUS), logarithm)], None, shape)


def _weights(builder: Builder, x: Tensor, mask: Array | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """x - c, exp(x - c) (0 under the mask) and the sum of that over each row."""
    shifted = builder.affine([(Reshape(x.shape, x.shape), x)], np.zeros(x.shape), x.shape)
    builder.shifts.append(shifted.node)
    weight = builder.elementwise(build("exp"), shifted)
    if mask is not None and mask.any():
        weight = builder.gather(weight, np.where(mask, -1, indices(x.shape)))
    empty = np.zeros((x.shape[0], 1)) if mask is None else np.where(mask.all(axis=1, keepdims=True), 1.0, 0.0)  # a row without elements is 0 / 1
    total = builder.affine([(Sum(x.shape, (x.shape[0], 1), (1,)), weight)], empty if empty.any() else None, (x.shape[0], 1))
    return shifted, weight, total
