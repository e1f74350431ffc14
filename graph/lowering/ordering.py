"""Operators that compare the elements of a tensor with each other: ArgMax, ArgMin, Hardmax, TopK.

Of two elements a comparison says whether the later one is larger; an index is a sum over comparisons. All of it is exact,
also where elements are equal, and becomes a constant where the order is certain on a box.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.functions import build
from graph.linear_map import MINUS, Dense, Gather, LinearMap, Scale, Transposed, compose
from graph.lowering.arithmetic import concat, scale
from graph.lowering.builder import Builder, Tensor, Value, indices
from graph.lowering.operator import Operator

Array = NDArray[Any]


def later_wins(builder: Builder, x: Tensor, windows: Array, *, ties: bool) -> Tensor:
    """[rows, pairs]: 1 where of a pair of taps the later is larger (with `ties` also where it is equal), else 0.

    `windows` [rows, taps] are flat indices into x, -1 for padding, which loses against everything. Pairs i < j in the order of `pairs`.
    """
    first, second = pairs(windows.shape[1])
    early, late = windows[:, first], windows[:, second]
    real = (early >= 0) & (late >= 0)
    rows = builder.check_size(real.shape)
    taken = [(builder.gather_map(x, np.where(real, late, -1)), x), (_negated(builder, x, np.where(real, early, -1)), x)]
    bias = np.where(real, 0.0, np.where(late >= 0, 1.0, -1.0))
    difference = builder.affine(taken, bias if bias.any() else None, rows)
    if not ties:
        return builder.elementwise(build("step"), difference)
    behind = builder.elementwise(build("step"), builder.linear(Scale(rows, rows, MINUS), difference))
    return builder.affine([(Scale(rows, rows, MINUS), behind)], np.ones(rows), rows)


def _negated(builder: Builder, x: Tensor, index: Array) -> LinearMap:
    shape = index.shape
    return compose(builder.gather_map(x, index), Scale(shape, shape, MINUS))


def pairs(taps: int) -> tuple[Array, Array]:
    """The numbers i < j of every pair of taps."""
    first, second = np.triu_indices(taps, 1)
    return first, second


def first_largest(builder: Builder, x: Tensor, windows: Array, *, last: bool = False) -> Tensor:
    """[rows, taps]: 1 at the largest tap of every row (of equal ones the first, or the last), 0 elsewhere."""
    rows, taps = windows.shape
    if taps == 1:
        return builder.affine([(Gather(x.shape, (rows, 1), np.full(rows, -1)), x)], np.ones((rows, 1)), (rows, 1))
    won = later_wins(builder, x, windows, ties=last)
    return _undefeated(builder, won, taps)


def _undefeated(builder: Builder, won: Tensor, taps: int) -> Tensor:
    """1 - the largest of what counts against each tap: `won` of later ones, 1 - `won` of earlier ones."""
    rows, count = won.shape
    lost = builder.affine([(Scale(won.shape, won.shape, MINUS), won)], np.ones(won.shape), won.shape)
    both = concat(builder, [won, lost])
    first, second = pairs(taps)
    against = np.full((taps, taps), -1)
    against[first, second] = np.arange(count)
    against[second, first] = np.arange(count) + won.size
    against = against[~np.eye(taps, dtype=bool)].reshape(taps, taps - 1)
    offset = count * np.arange(rows)[:, None, None]
    worst = builder.maximum(both, (against[None] + offset).reshape(rows * taps, taps - 1), (rows, taps))
    return builder.affine([(Scale(worst.shape, worst.shape, MINUS), worst)], np.ones(worst.shape), worst.shape)


def weighted_index(builder: Builder, chosen: Tensor, numbers: Array, shape: tuple[int, ...], element_type: str = "int64") -> Tensor:
    """sum over taps of chosen * numbers (`numbers` [taps] or [rows, taps]) as a tensor of integers of `shape`."""
    rows, taps = chosen.shape
    if numbers.ndim == 1:
        found = builder.linear(Dense(chosen.shape, shape, numbers[None].astype(np.float64)), chosen)
    else:
        summed = Transposed(chosen.shape, shape, Gather(shape, chosen.shape, np.repeat(np.arange(rows), taps)))
        scaled = Scale(chosen.shape, chosen.shape, numbers.reshape(-1).astype(np.float64))
        found = builder.linear(compose(scaled, summed), chosen)
    return builder.convert(found, element_type)


def lower_arg_max(op: Operator) -> Value:
    return _index_of(op, op.variable(0))


def lower_arg_min(op: Operator) -> Value:
    return _index_of(op, _negative(op.builder, op.variable(0)))


def _negative(builder: Builder, x: Tensor) -> Tensor:
    return builder.linear(Scale(x.shape, x.shape, MINUS), x)


def _index_of(op: Operator, x: Tensor) -> Value:
    """The place of the largest element along `axis`."""
    axis = op.axis(op.integer("axis"), len(x.shape))
    windows = np.moveaxis(indices(x.shape), axis, -1).reshape(-1, x.shape[axis])
    chosen = first_largest(op.builder, x, windows, last=bool(op.integer("select_last_index")))
    kept = (1,) if op.integer("keepdims", 1) else ()
    return weighted_index(op.builder, chosen, np.arange(x.shape[axis]), (*x.shape[:axis], *kept, *x.shape[axis + 1 :]))


def lower_hardmax(op: Operator) -> Value:
    """1 at the first largest element of each row, 0 elsewhere. Before version 13 all axes from `axis` on form one row."""
    x = op.variable(0)
    axis = op.axis(op.integer("axis"), len(x.shape))
    moved = indices(x.shape) if op.version < 13 else np.moveaxis(indices(x.shape), axis, -1)
    windows = moved.reshape(int(np.prod(x.shape[:axis])), -1) if op.version < 13 else moved.reshape(-1, x.shape[axis])
    chosen = first_largest(op.builder, x, windows)
    back = np.empty(x.size, dtype=np.int64)
    back[windows.reshape(-1)] = np.arange(x.size)
    return op.builder.gather(chosen, back.reshape(x.shape))


def lower_top_k(op: Operator) -> list[Value]:
    """The k largest (or smallest) elements along an axis, sorted, by rounds of exchanges; and their places, from their ranks."""
    x = op.variable(0)
    axis = op.axis(op.integer("axis", -1), len(x.shape))
    wanted = op.known_integers(1) if op.version >= 10 else (op.integer("k"),)
    size, k = x.shape[axis], (wanted or (0,))[0]
    if not 0 < k <= size:
        raise op.malformed(f"the {k} largest of {size} elements")
    if not op.integer("sorted", 1):
        raise op.refuse("sorted = 0 leaves the order to the runtime; only sorted results are supported")
    sign = 1.0 if op.integer("largest", 1) else -1.0
    signed = x if sign == 1 else _negative(op.builder, x)
    windows = np.moveaxis(indices(x.shape), axis, -1).reshape(-1, size)
    back = np.moveaxis(np.arange(len(windows) * k).reshape(*np.delete(x.shape, axis), k), -1, axis)
    values = scale(op.builder, op.builder.gather(_largest(op.builder, signed, windows, k), back), np.array(sign))
    if len(op.node.output) < 2 or not op.node.output[1]:
        return [values]
    places = _places(op.builder, signed, windows, k)
    return [values, op.builder.convert(op.builder.gather(places, back), "int64")]


def _largest(builder: Builder, x: Tensor, windows: Array, k: int) -> Tensor:
    """[rows, k] the largest taps in falling order: k passes, each of which carries the largest of what is left to the front."""
    rows, taps = windows.shape
    if k == 1:
        return builder.maximum(x, windows, (rows, 1))
    now = builder.gather(x, windows)
    for number in range(taps):  # odd-even transposition sorts n elements in n rounds
        now = _exchange(builder, now, number % 2)
    return builder.gather(now, indices(now.shape)[:, :k])


def _exchange(builder: Builder, x: Tensor, start: int) -> Tensor:
    """Neighbours (start, start + 1), (start + 2, start + 3), ... of every row put in falling order."""
    rows, taps = x.shape
    left = np.arange(start, taps - 1, 2)
    place = indices(x.shape)
    windows = np.stack([place[:, left].reshape(-1), place[:, left + 1].reshape(-1)], axis=1)
    if not left.size:
        return x
    larger = builder.maximum(x, windows, (rows, left.size))
    smaller = _negative(builder, builder.maximum(_negative(builder, x), windows, (rows, left.size)))
    source = place.copy()
    numbers = np.arange(rows * left.size).reshape(rows, -1)
    source[:, left], source[:, left + 1] = x.size + numbers, x.size + rows * left.size + numbers
    return builder.gather(concat(builder, [x, larger, smaller]), source)


def _places(builder: Builder, x: Tensor, windows: Array, k: int) -> Tensor:
    """[rows, k] which tap has rank 0, 1, ..., k - 1; a rank is how many taps come before, of equal ones the earlier."""
    rows, taps = windows.shape
    if taps == 1:
        return builder.linear(Gather(x.shape, (rows, 1), np.full(rows, -1)), x)
    won = later_wins(builder, x, windows, ties=False)
    first, second = pairs(taps)
    matrix = np.zeros((taps, first.size))
    matrix[first, np.arange(first.size)] = 1
    matrix[second, np.arange(first.size)] = -1
    rank = builder.affine(
        [(Dense(won.shape, (rows, taps), matrix), won)], np.broadcast_to(np.arange(taps, dtype=np.float64), (rows, taps)), (rows, taps)
    )
    found: list[Value] = []
    for r in range(k):
        here = builder.elementwise(build("lookup", r - 1, 0.0, 1.0, 0.0), rank)
        found.append(builder.linear(Dense(here.shape, (rows, 1), np.arange(taps, dtype=np.float64)[None]), here))
    return builder.gather(concat(builder, found), np.arange(k * rows).reshape(k, rows).T)
