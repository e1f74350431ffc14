"""Convolutions and pools: where their windows lie is drawn so that they fit, in one form for both axes or in another for each axis and side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from benchmarks.soundness.windows import Axis, inside
from benchmarks.strategies.builder import Builder, Draw, Tensor, largest, seldom, weights
from benchmarks.strategies.shapes import image, small

# --- convolutions ------------------------------------------------------------------------------------------------------------


def conv(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = image(b, draw, x)
    where = _windows(draw, x.shape[2:])
    channels = x.shape[1]
    group = draw(st.sampled_from(sorted({1, channels})))
    out = group * draw(st.integers(1, 2))
    weight, bias = weights(draw, out, channels // group, *(axis.kernel for axis in where)), weights(draw, out)
    gain, terms = float(np.abs(weight).sum(axis=(1, 2, 3)).max()), weight[0].size + 1
    layout = {**_layout(where), "dilations": [axis.dilation for axis in where], "group": group}
    shape = (1, out, *(axis.count for axis in where))
    return b.linear("Conv", x, [b.constant(weight), b.constant(bias)], shape, gain, largest(bias), terms, **layout)


def conv_transpose(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = small(b, image(b, draw, x), 1)
    where, out = _spread(draw, x.shape[2:]), draw(st.integers(1, 2))
    weight, bias = weights(draw, x.shape[1], out, *(axis.kernel for axis in where)), weights(draw, out)
    gain, terms = float(np.abs(weight).sum(axis=(0, 2, 3)).max()), weight[:, 0].size + 1
    layout = {"kernel_shape": [axis.kernel for axis in where], "strides": [axis.stride for axis in where]}
    further = {
        "pads": [axis.before for axis in where] + [axis.after for axis in where],
        "dilations": [axis.dilation for axis in where],
        "output_padding": [axis.extra for axis in where],
    }
    layout |= {name: values for name, values in further.items() if set(values) != {int(name == "dilations")}}
    shape = (1, out, *(axis.count for axis in where))
    return b.linear("ConvTranspose", x, [b.constant(weight), b.constant(bias)], shape, gain, largest(bias), terms, **layout)


# --- pools -------------------------------------------------------------------------------------------------------------------


def max_pool(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = image(b, draw, x)
    where, layout = _pooled(draw, x, dilated=True)
    dilations = [axis.dilation for axis in where]
    layout |= {"dilations": dilations} if dilations != [1, 1] else {}  # they are younger than the operator
    return b.reindexed("MaxPool", x, [], (*x.shape[:2], *(axis.count for axis in where)), **layout)


def average_pool(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = image(b, draw, x)
    where, layout = _pooled(draw, x, dilated=False)
    overhang = any((axis.count - 1) * axis.stride + axis.reach > axis.size + axis.before + axis.after for axis in where)
    padding = 0 if overhang else draw(st.integers(0, 1))  # what lies behind the padding counts for some runtimes, and for others not
    shape, terms = (*x.shape[:2], *(axis.count for axis in where)), math.prod(axis.kernel for axis in where)
    return b.linear("AveragePool", x, [], shape, 1.0, 0.0, terms, count_include_pad=padding, **layout)


def global_average(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = image(b, draw, x)
    return b.linear("GlobalAveragePool", x, [], (*x.shape[:2], 1, 1), 1.0, 0.0, x.shape[2] * x.shape[3])


def _pooled(draw: Draw, x: Tensor, dilated: bool) -> tuple[list[Axis], dict[str, Any]]:
    """Windows that each hold an element, and how a pool says them. With ceil_mode only where all versions of the standard agree on what it means."""
    where = _windows(draw, x.shape[2:])
    if not dilated or not _filled(where):
        where = [replace(axis, dilation=1) for axis in where]
    wider = [replace(axis, ceil=True) for axis in where]
    if seldom(draw) and _filled(wider) and all(axis.count == -(-_room(axis) // axis.stride) + 1 for axis in wider):
        return wider, {**_layout(wider), "ceil_mode": 1}
    return where, _layout(where)


def _filled(where: Sequence[Axis]) -> bool:
    return bool(inside(where, False).any(axis=(2, 3)).all())


def _room(axis: Axis) -> int:
    """How far the first window can move."""
    return axis.size + axis.before + axis.after - axis.reach


# --- geometry ----------------------------------------------------------------------------------------------------------------

_MOST = (3, 2, 2)  # kernel, stride, dilation; they are followed by the padding before and after
_NUMBERS = tuple(st.integers(1, most) for most in _MOST)
_AXIS = st.tuples(*_NUMBERS, st.integers(0, 2), st.integers(0, 2))


def _layout(where: Sequence[Axis]) -> dict[str, Any]:
    pads = [axis.before for axis in where] + [axis.after for axis in where]
    return {"kernel_shape": [axis.kernel for axis in where], "strides": [axis.stride for axis in where], "pads": pads}


def _windows(draw: Draw, sizes: Sequence[int]) -> list[Axis]:
    """Windows that fit an image: half of the time the same along both axes with as much padding before as behind, else all of it may differ."""
    if draw(st.booleans()):
        return [_fitted(size, *numbers) for size, numbers in zip(sizes, _uneven(draw), strict=True)]
    pad = draw(st.integers(0, 1))
    common = _fitted(min(sizes), *map(draw, _NUMBERS), pad, pad)
    return [replace(common, size=size) for size in sizes]


def _uneven(draw: Draw) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of two axes that differ in everything, or in one thing: then both may have as many windows, and only values tell them apart."""
    first, second, what = draw(_AXIS), draw(_AXIS), draw(st.integers(0, 4))
    if what < 2:
        return first, second if what == 0 else (*first[:3], *second[3:])
    k = what - 2
    return first, (*first[:k], 1 + first[k] % _MOST[k], *first[k + 1 :])


def _fitted(size: int, kernel: int, stride: int, dilation: int, before: int, after: int) -> Axis:
    """What fits of numbers that are drawn of the same ranges always, so that they shrink one by one.

    A kernel is larger than the padding on either side: runtimes ask it of pools, and it keeps tensors small.
    """
    room = size + before + after
    kernel = min(room, max(kernel, before + 1, after + 1))
    return Axis(size, kernel, stride, dilation if room > (kernel - 1) * dilation else 1, before, after)


class Spread(NamedTuple):
    """A transposed convolution along one axis; `count` is the size of its output."""

    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    extra: int
    count: int


def _spread(draw: Draw, sizes: Sequence[int]) -> list[Spread]:
    """Transposed convolutions: half of the time the same along both axes and without padding, else all of it may differ."""
    steps = 2 if max(sizes) <= 4 else 1
    if draw(st.booleans()):
        return [_fitted_spread(size, steps, *numbers, draw(st.integers(0, 1))) for size, numbers in zip(sizes, _uneven(draw), strict=True)]
    kernel, stride = map(draw, _NUMBERS[:2])
    return [_fitted_spread(size, steps, kernel, stride, 1, 0, 0, 0) for size in sizes]


def _fitted_spread(size: int, steps: int, kernel: int, stride: int, dilation: int, before: int, after: int, extra: int) -> Spread:
    """What fits, and is not too large. Runtimes refuse output_padding that is not less than the stride."""
    stride, dilation = min(stride, steps), dilation if kernel == 2 else 1
    full = (size - 1) * stride + (kernel - 1) * dilation + 1
    before = min(before, full - 1)
    after, extra = min(after, full - 1 - before), min(extra, stride - 1)
    return Spread(kernel, stride, dilation, before, after, extra, full - before - after + extra)
