"""Pooling: maxima and means over windows."""

from __future__ import annotations

import math

import numpy as np

from graph.linear_map import Conv, Scale, Sum, compose, window_taps
from graph.lowering.builder import Tensor, Value
from graph.lowering.operator import Operator
from graph.lowering.windows import Windows, convolution_windows


def lower_max_pool(op: Operator) -> Value:
    if len([name for name in op.node.output if name]) > 1:
        raise op.refuse("the indices output is not supported")
    x, w = _windows(op)
    op.builder.check_size((*x.shape[:2], *w.positions, *w.kernel))
    taps = window_taps(x.shape[2:], w.positions, w.kernel, w.strides, w.pads_begin, w.dilations)
    if not (taps >= 0).any(axis=1).all():
        raise op.malformed("a window lies entirely in the padding")
    planes = np.arange(math.prod(x.shape[:2])) * math.prod(x.shape[2:])
    windows = np.where(taps >= 0, taps + planes[:, None, None], -1).reshape(-1, taps.shape[1])
    return op.builder.maximum(x, windows, (*x.shape[:2], *w.positions))


def lower_average_pool(op: Operator) -> Value:
    """A sum over each window, divided by the number of its elements (padding counts if count_include_pad is set)."""
    x, w = _windows(op)
    channels, taps = x.shape[1], math.prod(w.kernel)
    shape = (*x.shape[:2], *w.positions)
    op.builder.check_size((*shape, *w.kernel))
    weight = np.ones((channels, 1, *w.kernel))
    total = Conv(x.shape, shape, weight, w.strides, w.pads_begin, w.reached_end(x.shape[2:]), w.dilations, groups=channels)
    padded = tuple(n + b + e for n, b, e in zip(x.shape[2:], w.pads_begin, w.pads_end, strict=True))
    include = bool(op.integer("count_include_pad"))
    inside = window_taps(padded, w.positions, w.kernel, w.strides, (0,) * len(padded), w.dilations) if include else total.columns
    count = (inside >= 0).sum(axis=1)
    if not count.all():
        raise op.malformed("a window lies entirely in the padding")
    factor = np.array([1 / taps]) if (count == taps).all() else np.broadcast_to(1 / count, (math.prod(x.shape[:2]), count.size)).reshape(-1)
    return op.builder.linear(compose(total, Scale(shape, shape, factor)), x)


def lower_global_average_pool(op: Operator) -> Value:
    x = op.variable(0)
    shape = (*x.shape[:2], *(1,) * (len(x.shape) - 2))
    total = Sum(x.shape, shape, tuple(range(2, len(x.shape))))
    return op.builder.linear(compose(total, Scale(shape, shape, np.array([1 / math.prod(x.shape[2:])]))), x)


def lower_global_max_pool(op: Operator) -> Value:
    x = op.variable(0)
    planes = math.prod(x.shape[:2])
    return op.builder.maximum(x, np.arange(x.size).reshape(planes, -1), (*x.shape[:2], *(1,) * (len(x.shape) - 2)))


def _windows(op: Operator) -> tuple[Tensor, Windows]:
    x = op.variable(0)
    if not 3 <= len(x.shape) <= 5:
        raise op.refuse(f"input of shape {x.shape}: only 1 to 3 spatial axes are supported")
    if op.integer("storage_order"):
        raise op.refuse("column-major storage_order is not supported")
    return x, convolution_windows(op, x.shape[2:], op.integers("kernel_shape") or ())
