"""Elements read from, or written to, places that depend on the input, by steps that say which places an index is at or behind.

No execution has an index past the end: that is an error of the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from verifier.checker.lowering.attention import taken
from verifier.checker.lowering.basic import total
from verifier.checker.lowering.builder import Array, Builder, Known, Shape, Tensor, Value, indices, take
from verifier.checker.lowering.logic import STEP, number, times
from verifier.checker.lowering.moves import Move, moving
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.picks import written
from verifier.checker.maps import Dense, Diagonal


def _layout(op: Operator, data: Shape, index: Shape) -> tuple[Shape, int, int]:
    """The sizes of what an index names, and how often it is read for what stands before these axes, and behind."""
    if op.kind.endswith("ND"):
        first, depth = op.integer("batch_dims", 0), index[-1] if index else 0
        op.require(0 < depth <= len(data) - first, f"indices of shape {index}")
        return data[first : first + depth], 1, math.prod(data[first + depth :])
    axis = op.axis(op.integer("axis", 0), len(data))
    return data[axis : axis + 1], *((math.prod(data[:axis]), math.prod(data[axis + 1 :])) if op.kind == "Gather" else (1, 1))


def _steps(op: Operator, sizes: Shape) -> tuple[Tensor | None, list[Operator]]:
    """[indices, places - 1] the steps [n >= k] of each index n, counted from the front, for k = 1, 2, ... (None: there is one place); and `op` with
    each place as all of its indices. The last axis of an index of coordinates becomes one number."""
    index, builder, count, coordinates = op.tensor(1), op.builder, math.prod(sizes), op.kind.endswith("ND")
    op.require(index.element in ("int32", "int64"), f"indices of type {index.element}")
    from_end = builder.elementwise(STEP, builder.plus(builder.scale(index, np.array(-1.0)), np.full(index.shape, -0.5)))
    front = builder.sum([index, builder.scale(from_end, np.array(sizes if coordinates else count, dtype=np.float64))])
    rows, strides = index.size // (len(sizes) if coordinates else 1), [float(math.prod(sizes[a + 1 :])) for a in range(len(sizes))]
    number_of = builder.linear(Dense(np.array([strides]), rows), front, (rows, 1))
    spots = [np.broadcast_to(np.array(np.unravel_index(k, sizes) if coordinates else k), index.shape) for k in range(count)]
    fixed = [replace(op, inputs=(op.inputs[0], Known(spot), *op.inputs[2:])) for spot in spots]
    row, column = np.indices((rows, count - 1))
    return builder.elementwise(STEP, builder.plus(builder.gather(number_of, row), -column - 0.5)) if count > 1 else None, fixed


def reading(move: Move) -> Callable[[Operator], list[Value]]:
    """By a constant index: `move`. By another one the first candidate, and for every step how the next differs from the one before."""

    def lower(op: Operator) -> list[Value]:
        index, data, builder, values = op.value(1), op.value(0), op.builder, number(op, 0)
        if isinstance(index, Known):
            return moving(move)(op)
        sizes, before, behind = _layout(op, data.shape, index.shape)
        steps, fixed = _steps(op, sizes)
        if steps is None:
            return moving(move)(fixed[0])
        found, (rows, last) = [move(one, indices(data.shape))[0] for one in fixed], steps.shape
        places, row_of = np.stack([f.reshape(-1) for f in found], axis=1), np.tile(np.repeat(np.arange(rows), behind), before)
        spread = builder.gather(steps, row_of[:, None] * last + np.arange(last))
        first, *pair = (taken(op, values, places[:, part]) for part in (slice(1), slice(1, None), slice(-1)))
        total_of = builder.linear(Dense(np.ones((1, last)), len(places)), times(builder, spread, *pair), (len(places), 1))
        return [op.end(builder.reshape(total(builder, [total_of, first], [1.0, 1.0]), found[0].shape), "exact", element=data.element)]

    return lower


def _hot(builder: Builder, steps: Tensor) -> Tensor:
    """[rows, places] 1 where a number is 0, 1, ...: each step less the next one."""
    place, first = indices(steps.shape), np.eye(steps.shape[1] + 1)[:1].repeat(steps.shape[0], axis=0)
    beyond, here = builder.gather(steps, np.pad(place, ((0, 0), (0, 1)), constant_values=-1)), np.pad(place, ((0, 0), (1, 0)), constant_values=-1)
    return builder.affine([(take(steps, here), steps), (Diagonal(np.full(first.size, -1.0)), beyond)], first, first.shape)


def writing(places: Callable[[Operator], Array]) -> Callable[[Operator], Value]:
    """`places`: the flat places that the updates are written to, by a constant index."""

    def lower(op: Operator) -> Value:
        if isinstance(op.value(1), Known):
            return written(op, places(op))
        sizes, _, behind = _layout(op, op.value(0).shape, op.value(1).shape)
        steps, fixed = _steps(op, sizes)
        if steps is None:
            return written(fixed[0], places(fixed[0]))
        return _put(op, op.value(0), _hot(op.builder, steps), [places(one) for one in fixed], behind)

    return lower


def _put(op: Operator, data: Value, here: Tensor, targets: list[Array], behind: int) -> Value:
    """`targets`: for each place where the updates go if all indices name it. Those of one index along the axis, or of one row, take a turn."""
    builder, rows, base, updates = op.builder, indices(targets[0].shape) // behind, number(op, 0), number(op, 2)
    turns = rows if op.kind.endswith("ND") else np.indices(rows.shape)[op.axis(op.integer("axis", 0), rows.ndim)]
    rule, many, parts = op.string("reduction", "none"), int(turns.max()) + 1, [base]
    op.require(updates.shape == rows.shape and (rule == "add" or (rule == "none" and many == 1)), f"reduction {rule!r} of {many} updates")
    for mine in (turns == turn for turn in range(many)):
        place, new = np.full(data.shape, -1), np.full(data.shape, -1)
        for k, target in enumerate(targets):
            place.flat[target[mine]], new.flat[target[mine]] = rows[mine] * here.shape[1] + k, indices(target.shape)[mine]
        parts.append(times(builder, builder.gather(here, place), taken(op, updates, new), base if rule == "none" else Known(np.zeros(()))))
    return op.end(total(builder, parts, [1.0] * len(parts)), *(("exact", 0) if rule == "none" else ("affine", many)), element=data.element)
