"""Batch normalisation and softmax."""

from __future__ import annotations

import math

import numpy as np

from graph.functions import build
from graph.linear_map import Reshape, Scale, Sum
from graph.lowering.arithmetic import broadcast, float64
from graph.lowering.builder import Tensor, Value, indices
from graph.lowering.operator import Operator


def lower_batch_normalization(op: Operator) -> Value:
    """(x - mean) scale / sqrt(var + eps) + B, at inference."""
    if op.integer("training_mode") or not op.integer("spatial", 1) or len([name for name in op.node.output if name]) > 1:
        raise op.refuse("training mode, spatial=0 and statistics outputs are not supported; export the model for inference")
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
    """exp(x - c) / sum exp(x - c) per row, c a constant that `simplify.recentre_softmax` may set (the same function for every c).

    Before version 13 all axes from `axis` on form one row; since then `axis` alone does.
    """
    x = op.variable(0)
    axis = op.axis(op.integer("axis"), len(x.shape))
    if op.version < 13:
        return _softmax_rows(op, x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), x.shape)
    order = np.moveaxis(indices(x.shape), axis, -1)
    rows = op.builder.gather(x, order)
    result = _softmax_rows(op, rows, (x.size // x.shape[axis], x.shape[axis]), rows.shape)
    return op.builder.gather(result, np.moveaxis(indices(rows.shape), -1, axis))


def _softmax_rows(op: Operator, x: Tensor, shape: tuple[int, int], out_shape: tuple[int, ...]) -> Tensor:
    builder = op.builder
    shifted = builder.affine([(Reshape(x.shape, shape), x)], np.zeros(shape), shape)
    builder.shifts.append(shifted.node)
    weight = builder.elementwise(build("exp"), shifted)
    total = builder.linear(Sum(shape, (shape[0], 1), (1,)), weight)
    inverse = broadcast(builder, builder.elementwise(build("reciprocal"), total), shape)
    product = builder.multiply(weight, inverse)
    return Tensor(product.node, out_shape, product.element_type)
