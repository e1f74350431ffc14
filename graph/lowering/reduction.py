"""Reductions over axes."""

from __future__ import annotations

import math

import numpy as np

from graph.core import Shape
from graph.functions import build
from graph.linear_map import Scale, Sum, compose
from graph.lowering.arithmetic import add, multiply, scale
from graph.lowering.builder import Tensor, Value, indices
from graph.lowering.operator import Operator
from graph.lowering.roots import root


def lower_reduce_sum(op: Operator) -> Value:
    x, axes, shape = _axes(op, since_input=13)
    return op.builder.linear(Sum(x.shape, shape, axes), x) if axes else x


def lower_reduce_mean(op: Operator) -> Value:
    x, axes, shape = _axes(op, since_input=18)
    if not axes:
        return x
    count = math.prod(x.shape[a] for a in axes)
    return op.builder.linear(compose(Sum(x.shape, shape, axes), Scale(shape, shape, np.array([1 / count]))), x)


def lower_reduce_max(op: Operator) -> Value:
    return _extremum(op, 1.0)


def lower_reduce_min(op: Operator) -> Value:
    return _extremum(op, -1.0)


def lower_reduce_prod(op: Operator) -> Value:
    """Halves multiplied with each other, until one is left."""
    x, axes, shape = _axes(op, since_input=18)
    if not axes:
        return x
    index = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
    left: list[Value] = [op.builder.gather(x, index[:, k].reshape(shape)) for k in range(index.shape[1])]
    while len(left) > 1:
        products = [multiply(op.builder, a, b) for a, b in zip(left[0::2], left[1::2], strict=False)]
        left = [*products, *left[2 * len(products) :]]
    return left[0]


def lower_reduce_l1(op: Operator) -> Value:
    x, axes, shape = _axes(op, since_input=18)
    return _sum(op, op.builder.elementwise(build("abs"), x), axes, shape)


def lower_reduce_sum_square(op: Operator) -> Value:
    x, axes, shape = _axes(op, since_input=18)
    return _sum(op, op.builder.elementwise(build("pow", 2.0), x), axes, shape)


def lower_reduce_l2(op: Operator) -> Value:
    x, axes, shape = _axes(op, since_input=18)
    return root(op.builder, _sum(op, op.builder.elementwise(build("pow", 2.0), x), axes, shape), 2)


def lower_reduce_log_sum(op: Operator) -> Value:
    x, axes, shape = _axes(op, since_input=18)
    return op.builder.elementwise(build("log"), _sum(op, x, axes, shape))


def lower_reduce_log_sum_exp(op: Operator) -> Value:
    """c + log sum exp(x - c) over the axes, the same function for every c; c is written as x_0 - (x_0 - c)."""
    x, axes, shape = _axes(op, since_input=18)
    if not axes:
        return x
    builder, rows = op.builder, (math.prod(shape), x.size // math.prod(shape))
    order = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(rows)
    moved = builder.gather(x, order)
    shifted = builder.affine([(builder.gather_map(moved, indices(rows)), moved)], np.zeros(rows), rows)
    builder.shifts.append(shifted.node)
    total = builder.linear(Sum(rows, shape, (1,)), builder.elementwise(build("exp"), shifted))
    shift = add(builder, builder.gather(x, order[:, 0].reshape(shape)), builder.gather(shifted, indices(rows)[:, 0].reshape(shape)), -1.0)
    return add(builder, builder.elementwise(build("log"), total), shift)


def _sum(op: Operator, x: Tensor, axes: tuple[int, ...], shape: Shape) -> Tensor:
    return op.builder.linear(Sum(x.shape, shape, axes), x) if axes else x


def _extremum(op: Operator, sign: float) -> Value:
    x, axes, shape = _axes(op, since_input=18)
    if not axes:
        return x
    windows = np.moveaxis(indices(x.shape), axes, range(-len(axes), 0)).reshape(math.prod(shape), -1)
    if sign == 1:
        return op.builder.maximum(x, windows, shape)
    negated = scale(op.builder, x, np.array(-1.0))
    return scale(op.builder, op.builder.maximum(negated, windows, shape), np.array(-1.0)) if isinstance(negated, Tensor) else negated


def _axes(op: Operator, *, since_input: int) -> tuple[Tensor, tuple[int, ...], Shape]:
    """The input, the axes to reduce (none: nothing to do) and the resulting shape."""
    x = op.variable(0)
    rank = len(x.shape)
    axes = op.axes(rank, since_input=since_input)
    if not axes:
        axes = () if op.integer("noop_with_empty_axes") else tuple(range(rank))
    keep = bool(op.integer("keepdims", 1))
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape) if keep or a not in axes)
    return x, tuple(sorted(set(axes))), shape
