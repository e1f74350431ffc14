"""Pooling: maxima and means over windows."""

from __future__ import annotations

import math

import numpy as np

from graph.functions import build
from graph.linear_map import Conv, Scale, Sum, compose, window_taps
from graph.lowering.builder import Builder, Tensor, Value, indices
from graph.lowering.operator import Operator
from graph.lowering.ordering import first_largest, weighted_index
from graph.lowering.roots import root
from graph.lowering.windows import Windows, convolution_windows


def lower_max_pool(op: Operator) -> Value | list[Value]:
    """The largest element of each window and, where asked for, its flat index in the input (row or column-major)."""
    x, w = _windows(op)
    op.builder.check_size((*x.shape[:2], *w.positions, *w.kernel))
    taps = window_taps(x.shape[2:], w.positions, w.kernel, w.strides, w.pads_begin, w.dilations)
    if not (taps >= 0).any(axis=1).all():
        raise op.malformed("a window lies entirely in the padding")
    planes = np.arange(math.prod(x.shape[:2])) * math.prod(x.shape[2:])
    windows = np.where(taps >= 0, taps + planes[:, None, None], -1).reshape(-1, taps.shape[1])
    shape = (*x.shape[:2], *w.positions)
    largest = op.builder.maximum(x, windows, shape)
    if len(op.node.output) < 2 or not op.node.output[1]:
        return largest
    spatial = tuple(range(2, len(x.shape)))
    numbers = indices(x.shape)
    if op.integer("storage_order"):
        numbers = np.moveaxis(np.arange(x.size).reshape(*x.shape[:2], *x.shape[:1:-1]), spatial, spatial[::-1])
    chosen = first_largest(op.builder, x, windows)
    return [largest, weighted_index(op.builder, chosen, numbers.reshape(-1)[np.maximum(windows, 0)], shape)]


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
    x = _images(op)
    shape = (*x.shape[:2], *(1,) * (len(x.shape) - 2))
    total = Sum(x.shape, shape, tuple(range(2, len(x.shape))))
    return op.builder.linear(compose(total, Scale(shape, shape, np.array([1 / math.prod(x.shape[2:])]))), x)


def lower_global_max_pool(op: Operator) -> Value:
    x = _images(op)
    planes = math.prod(x.shape[:2])
    return op.builder.maximum(x, np.arange(x.size).reshape(planes, -1), (*x.shape[:2], *(1,) * (len(x.shape) - 2)))


def lower_lp_pool(op: Operator) -> Value:
    """(sum |x|^p)^(1/p) over each window; padding counts as 0."""
    x, w = _windows(op)
    shape = op.builder.check_size((*x.shape[:2], *w.positions))
    op.builder.check_size((*shape, *w.kernel))
    weight = np.ones((x.shape[1], 1, *w.kernel))
    total = Conv(x.shape, shape, weight, w.strides, w.pads_begin, w.reached_end(x.shape[2:]), w.dilations, groups=x.shape[1])
    return root(op.builder, op.builder.linear(total, power(op.builder, x, op.integer("p", 2))), op.integer("p", 2))


def lower_global_lp_pool(op: Operator) -> Value:
    x, p = _images(op), op.integer("p", 2)
    total = Sum(x.shape, (*x.shape[:2], *(1,) * (len(x.shape) - 2)), tuple(range(2, len(x.shape))))
    return root(op.builder, op.builder.linear(total, power(op.builder, x, p)), p)


def power(builder: Builder, x: Tensor, p: int) -> Tensor:
    """|x|^p for a whole p >= 1."""
    if p % 2:
        x = builder.elementwise(build("abs"), x)
    return x if p == 1 else builder.elementwise(build("pow", float(p)), x)


def _images(op: Operator) -> Tensor:
    """Input 0, of shape [n, channels, spatial axes]."""
    x = op.variable(0)
    if len(x.shape) < 3:
        raise op.malformed(f"its input has shape {x.shape}, without spatial axes")
    return x


def _windows(op: Operator) -> tuple[Tensor, Windows]:
    x = op.variable(0)
    if not 3 <= len(x.shape) <= 5:
        raise op.refuse(f"input of shape {x.shape}: only 1 to 3 spatial axes are supported")
    return x, convolution_windows(op, x.shape[2:], op.integers("kernel_shape") or ())
