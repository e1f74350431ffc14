"""Reductions over axes."""

from __future__ import annotations

import math

import numpy as np

from graph.core import Shape
from graph.linear_map import Scale, Sum, compose
from graph.lowering.arithmetic import scale
from graph.lowering.builder import Tensor, Value, indices
from graph.lowering.operator import Operator


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
