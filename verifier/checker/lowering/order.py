"""Operators that compare the elements of a tensor with each other.

Of every two elements a step says whether the later one is larger; indices are sums over steps. In float32 comparing rounds nothing; it may
read subnormal numbers as 0, which the differences are charged for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from verifier.checker.lowering.basic import stack, starts_of
from verifier.checker.lowering.builder import Array, Builder, Shape, Tensor, Value, indices, take
from verifier.checker.lowering.normal import rows_of
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.picks import table
from verifier.checker.maps import Dense, Diagonal, Index, Map, Transposed
from verifier.checker.network import Pieces

STEP = Pieces((0.0,), (0.0, 0.0), (0.0, 1.0), (0.0,))


def _pairs(taps: int) -> tuple[Array, Array]:
    first, second = np.triu_indices(taps, 1)
    return first, second


def _signed(op: Operator, sign: float) -> Tensor:
    x = op.tensor(0)
    return x if sign == 1 else op.stage(op.builder.scale(x, np.array(sign)), "exact", sources=(x,))


def _wins(op: Operator, x: Tensor, windows: Array, ties: bool) -> Tensor:
    """[rows, pairs of taps]: 1 where the later tap is larger (`ties`: or equal). Padding, -1 in `windows`, loses."""
    builder, (first, second) = op.builder, _pairs(windows.shape[1])
    early, late = windows[:, first], windows[:, second]
    real, shape = (early >= 0) & (late >= 0), early.shape
    other = builder.gather(x, np.where(real, early, -1))
    terms: list[tuple[Map, Tensor]] = [(take(x, np.where(real, late, -1)), x), (Diagonal(np.full(other.size, -1.0)), other)]
    bias = np.where(real, 0.0, np.where(late >= 0, 1.0, -1.0))
    difference = op.stage(builder.affine(terms, bias if bias.any() else None, shape), "affine", 1, sources=(x,))
    if not ties:
        return builder.elementwise(STEP, difference)
    behind = builder.elementwise(STEP, builder.scale(difference, np.array(-1.0)))
    return builder.affine([(Diagonal(np.full(behind.size, -1.0)), behind)], np.ones(shape), shape)


def first_largest(op: Operator, x: Tensor, windows: Array, ties: bool = False) -> Tensor:
    """[rows, taps]: 1 at the largest tap of each row, of equal ones the first (`ties`: the last), else 0: 1 - what speaks most against it."""
    builder, (rows, taps) = op.builder, windows.shape
    if taps == 1:
        return builder.affine([(Index(np.full(rows, -1), x.size), x)], np.ones((rows, 1)), (rows, 1))
    won = _wins(op, x, windows, ties)
    lost = builder.affine([(Diagonal(np.full(won.size, -1.0)), won)], np.ones(won.shape), won.shape)
    both, (first, second), count = stack(builder, [won, lost], np.arange(2 * won.size), [0, won.size]), _pairs(taps), won.shape[1]
    against = np.full((taps, taps), -1)
    against[first, second], against[second, first] = np.arange(count), np.arange(count) + won.size
    cut = against[~np.eye(taps, dtype=bool)].reshape(taps, taps - 1)
    worst = builder.maximum(both, (cut[None] + count * np.arange(rows)[:, None, None]).reshape(rows * taps, taps - 1), (rows, taps))
    return builder.affine([(Diagonal(np.full(worst.size, -1.0)), worst)], np.ones(worst.shape), worst.shape)


def arg_extremum(sign: float) -> Callable[[Operator], Value]:
    """ArgMax (sign 1) or ArgMin (-1): the sum over the places of each times whether it is there."""

    def lower(op: Operator) -> Value:
        x = _signed(op, sign)
        axis = op.axis(op.integer("axis", 0), len(x.shape))
        n = x.shape[axis]
        chosen = first_largest(op, x, np.moveaxis(indices(x.shape), axis, -1).reshape(-1, n), op.flag("select_last_index", 0))
        shape = (*x.shape[:axis], *(1,) * op.flag("keepdims", 1), *x.shape[axis + 1 :])
        found = op.builder.linear(Dense(np.arange(n, dtype=np.float64)[None], chosen.shape[0]), chosen, shape)
        return op.end(found, "exact", element="int64")

    return lower


def hardmax(op: Operator) -> Value:
    x = op.tensor(0)
    order, width = rows_of(op, x.shape)
    return op.end(op.builder.gather(first_largest(op, x, order.reshape(-1, width)), np.argsort(order.reshape(-1)).reshape(x.shape)), "exact")


def top_k(op: Operator) -> list[Value]:
    """Sorted values by rounds of exchanges of neighbours, their places by ranks."""
    sign = 1.0 if op.version < 11 or op.flag("largest", 1) else -1.0
    source = _signed(op, sign)
    x, axis = source, op.axis(op.integer("axis", -1), len(source.shape))
    wanted, n = op.known_integers(1) if op.version >= 10 else (op.integer("k", 0),), x.shape[axis]
    k = wanted[0] if wanted is not None and len(wanted) == 1 else 0
    op.require(1 <= k <= n and op.flag("sorted", 1), f"k = {k} of {n}, or not sorted")
    windows = np.moveaxis(indices(x.shape), axis, -1).reshape(-1, n)
    rest = tuple(m for a, m in enumerate(x.shape) if a != axis)
    back = np.moveaxis(np.arange(len(windows) * k).reshape(*rest, k), -1, axis)
    ordered = op.builder.gather(_sorted(op.builder, source, windows, k), back)
    values = op.end(ordered if sign == 1 else op.builder.scale(ordered, np.array(-1.0)), "exact")
    if not any(op.outputs[1:]):
        return [values]
    op.builder.stage()
    return [values, op.end(op.builder.gather(_ranked(op, source, windows, k), back), "exact", element="int64")]


def _sorted(builder: Builder, x: Tensor, windows: Array, k: int) -> Tensor:
    rows, taps = windows.shape
    if k == 1:
        return builder.maximum(x, windows, (rows, 1))
    now = builder.gather(x, windows)
    for turn in range(taps):
        now = _exchanged(builder, now, np.arange(turn % 2, taps - 1, 2))
    return builder.gather(now, indices(now.shape)[:, :k])


def _exchanged(builder: Builder, x: Tensor, left: Array) -> Tensor:
    """In every row the elements at `left` and their right neighbours, larger ones first."""
    if left.size == 0:
        return x
    place, shape = indices(x.shape), (x.shape[0], left.size)
    windows = np.stack([place[:, left].reshape(-1), place[:, left + 1].reshape(-1)], axis=1)
    smaller = builder.scale(builder.maximum(builder.scale(x, np.array(-1.0)), windows, shape), np.array(-1.0))
    parts: list[Value] = [x, builder.maximum(x, windows, shape), smaller]
    place[:, left], place[:, left + 1] = (indices(shape) + start for start in starts_of(parts)[1:])
    return stack(builder, parts, place, starts_of(parts))


def _ranked(op: Operator, x: Tensor, windows: Array, k: int) -> Tensor:
    """[rows, k]: which tap has rank 0, 1, ...: how many others come before it, of equal ones the earlier."""
    builder, (rows, taps) = op.builder, windows.shape
    if taps == 1:
        return builder.linear(Index(np.full(rows, -1), x.size), x, (rows, 1))
    won, (first, second) = _wins(op, x, windows, False), _pairs(taps)
    matrix = np.zeros((taps, first.size))
    matrix[first, np.arange(first.size)], matrix[second, np.arange(first.size)] = 1, -1
    rank = builder.affine([(Dense(matrix, rows), won)], np.broadcast_to(np.arange(taps, dtype=np.float64), (rows, taps)), (rows, taps))
    numbers, found = np.arange(taps, dtype=np.float64)[None], list[Value]()
    for r in range(k):
        here = builder.elementwise(table(r - 1, [0.0, 1.0, 0.0]), rank)
        found.append(builder.linear(Dense(numbers, rows), here, (rows, 1)))
    return stack(builder, found, np.arange(k * rows).reshape(k, rows).T, starts_of(found))


def largest_place(op: Operator, x: Tensor, windows: Array, numbers: Array, shape: Shape) -> Tensor:
    """For each window the number of its first largest tap."""
    chosen = first_largest(op, x, windows)
    weighted = op.builder.scale(chosen, numbers.astype(np.float64))
    rows = np.repeat(np.arange(len(windows)), windows.shape[1])
    return op.builder.linear(Transposed(Index(rows, len(windows))), weighted, shape)
