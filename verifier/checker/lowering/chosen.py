"""Elements read from, or written to, places that depend on the input: sums over all places, each times whether the index names it.

No execution has an index past the end: that is an error of the runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from verifier.checker.lowering.basic import total
from verifier.checker.lowering.builder import Array, Known, Shape, Tensor, Value, indices
from verifier.checker.lowering.logic import STEP, blended, number
from verifier.checker.lowering.moves import Move, moving
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.picks import table, written
from verifier.checker.maps import Dense


def _layout(op: Operator, data: Shape, index: Shape) -> tuple[Shape, int, int]:
    """The sizes of what an index names, and how often it is read for what stands before these axes, and behind."""
    if op.kind.endswith("ND"):
        first, depth = op.integer("batch_dims", 0), index[-1] if index else 0
        op.require(0 < depth <= len(data) - first, f"indices of shape {index}")
        return data[first : first + depth], 1, math.prod(data[first + depth :])
    axis = op.axis(op.integer("axis", 0), len(data))
    before, behind = (math.prod(data[:axis]), math.prod(data[axis + 1 :])) if op.kind == "Gather" else (1, 1)
    return data[axis : axis + 1], before, behind


def _named(op: Operator, sizes: Shape) -> tuple[Tensor, list[Operator]]:
    """[indices, places] 1 where the index, which counts from the end where it is negative, names the place; and `op` with each place as all of
    its indices. The last axis of an index of coordinates becomes one number."""
    index, builder, count, coordinates = op.tensor(1), op.builder, math.prod(sizes), op.kind.endswith("ND")
    op.require(index.element in ("int32", "int64"), f"indices of type {index.element}")
    from_end = builder.elementwise(STEP, builder.scale(index, np.array(-1.0)))
    front = builder.sum([index, builder.scale(from_end, np.array(sizes if coordinates else count, dtype=np.float64))])
    rows, strides = index.size // (len(sizes) if coordinates else 1), [float(math.prod(sizes[a + 1 :])) for a in range(len(sizes))]
    flat = builder.linear(Dense(np.array([strides]), rows), front, (rows, 1))
    row, column = np.indices((rows, count))
    apart = builder.plus(builder.gather(flat, row), -column.astype(np.float64))
    spots = np.stack(np.unravel_index(np.arange(count), sizes), axis=-1) if coordinates else np.arange(count)
    fixed = [Known(np.broadcast_to(spot, index.shape)) for spot in spots]
    return builder.elementwise(table(-1, [0.0, 1.0, 0.0]), apart), [replace(op, inputs=(op.inputs[0], k, *op.inputs[2:])) for k in fixed]


def reading(move: Move) -> Callable[[Operator], list[Value]]:
    """By a constant index: `move`."""

    def lower(op: Operator) -> list[Value]:
        index, data, builder = op.value(1), op.value(0), op.builder
        if isinstance(index, Known):
            return moving(move)(op)
        sizes, before, behind = _layout(op, data.shape, index.shape)
        here, fixed = _named(op, sizes)
        found, (rows, count) = [move(one, indices(data.shape))[0] for one in fixed], here.shape
        candidates, row_of = np.stack([f.reshape(-1) for f in found], axis=1), np.tile(np.repeat(np.arange(rows), behind), before)
        spread, values = builder.gather(here, row_of[:, None] * count + np.arange(count)), number(op, 0)
        known = values.value.reshape(-1)[candidates] if isinstance(values, Known) else None
        weighed = builder.product(spread, builder.gather(op.as_tensor(values), candidates)) if known is None else builder.scale(spread, known)
        return [op.end(builder.linear(Dense(np.ones((1, count)), len(candidates)), weighed, found[0].shape), "exact", element=data.element)]

    return lower


def writing(places: Callable[[Operator], Array]) -> Callable[[Operator], Value]:
    """`places`: the flat places that the updates are written to, by a constant index."""

    def lower(op: Operator) -> Value:
        index, data = op.value(1), op.value(0)
        if isinstance(index, Known):
            return written(op, places(op))
        sizes, _, behind = _layout(op, data.shape, index.shape)
        here, fixed = _named(op, sizes)
        return _put(op, data, here, [places(one) for one in fixed], behind)

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
        chosen, known = builder.gather(here, place), updates.value.reshape(-1)[new] if isinstance(updates, Known) else None
        taken = builder.gather(op.as_tensor(updates), new) if known is None else Known(np.where(new < 0, 0.0, known))
        if rule == "none":
            return op.end(blended(builder, chosen, taken, base), "exact", element=data.element)
        parts.append(builder.scale(chosen, taken.value) if isinstance(taken, Known) else builder.product(chosen, taken))
    return op.end(total(builder, parts, [1.0] * len(parts)), "affine", many, element=data.element)
