"""Solving shapes: where an operator needs an image, a longer axis or a second tensor, its operand is first made into one."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import strategies as st

from benchmarks.strategies.builder import Builder, Draw, Tensor

MOST_ELEMENTS = 16  # operators that enlarge a tensor take at most this many elements
MOST_COLUMNS = 4


def some_divisor(draw: Draw, n: int) -> int:
    return int(draw(st.sampled_from([k for k in range(1, n + 1) if n % k == 0])))


def row(b: Builder, x: Tensor) -> Tensor:
    """x as (1, n)."""
    return x if len(x.shape) == 2 else b.reindexed("Flatten", x, [], (1, x.size), axis=1)


def matrix(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """x as a column, or as a matrix with few columns."""
    rank = len(x.shape)
    axis = draw(st.sampled_from([k for k in range(rank, 1, -1) if math.prod(x.shape[k:]) <= MOST_COLUMNS]))
    return b.reindexed("Flatten", x, [], (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])), axis=axis)


def sequence(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """x with at least three axes."""
    if len(x.shape) > 2:
        return x
    rows = some_divisor(draw, x.size)
    return b.reshape(x, (1, rows, x.size // rows))


def image(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """x as (1, channels, height, width)."""
    if len(x.shape) == 4:
        return x
    channels = some_divisor(draw, x.size)
    height = some_divisor(draw, x.size // channels)
    return b.reshape(x, (1, channels, height, x.size // channels // height))


def small(b: Builder, x: Tensor, axis: int) -> Tensor:
    """x, cut along `axis` until it has at most MOST_ELEMENTS elements, or one place."""
    room = max(1, MOST_ELEMENTS * x.shape[axis] // x.size)
    if x.shape[axis] <= room:
        return x
    return cut(b, x, axis, 0, room, 1)


def cut(b: Builder, x: Tensor, axis: int, start: int, end: int, step: int) -> Tensor:
    shape = (*x.shape[:axis], len(range(start, end, step)), *x.shape[axis + 1 :])
    return b.reindexed("Slice", x, [b.constant(np.array([v], np.int64)) for v in (start, end, axis, step)], shape)


def partner(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """A tensor of the shape of x: an earlier one, or x itself."""
    return draw(st.sampled_from([t for t in reversed(b.tensors) if t.shape == x.shape]))
