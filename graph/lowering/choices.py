"""Elements read from, or written to, places that depend on the network's input: Gather and Scatter with such indices.

For every border between two places that an index may name there is a step: 1 where the index is behind it, else 0. What is read is the first
candidate and, for every step, how the next candidate differs from the one before it. Indices count from the end where they are negative. One beyond
the axis is an error of the runtime: what it names here is nothing that an execution has.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.linear_map import MINUS, Dense, Gather, Scale, compose
from graph.lowering.arithmetic import add, float64, multiply, scale
from graph.lowering.builder import Builder, Known, Tensor, Value, indices, varying
from graph.lowering.logic import positive
from graph.lowering.operator import Operator
from graph.lowering.reindex import lower_reindex
from graph.lowering.scatter import picked, scatter_elements, scatter_rows

Array = NDArray[Any]


def from_front(op: Operator, index: Tensor, size: int | Array) -> Tensor:
    """The index counted from the front of an axis of `size` elements (which broadcasts to its shape): index + size [index < 0]."""
    if np.dtype(index.element_type).kind != "i":
        raise op.refuse(f"indices of type {index.element_type} that depend on the input; cast them to int64")
    below = add(op.builder, scale(op.builder, index, np.array(-1.0)), Known(np.array(0.5)), -1.0)  # rounding makes no index of 0 negative
    negative = positive(op.builder, varying(below))
    return varying(add(op.builder, index, scale(op.builder, negative, float64(np.asarray(size)))))


def reached(builder: Builder, index: Tensor, count: int) -> Tensor:
    """[size of index, count - 1] the steps [index >= 1], [index >= 2], ...: what is read is the first candidate and, for every step, how the next
    one differs from the one before it, so that bounds mix no more candidates than the index may name. There is more than one."""
    shape = builder.check_size((index.size, count - 1))
    borders = np.broadcast_to(0.5 - np.arange(1, count), shape)
    return positive(builder, builder.gather(index, np.broadcast_to(np.arange(index.size)[:, None], shape), borders))


def named(builder: Builder, index: Tensor, count: int) -> Tensor:
    """[size of index, count] 1 where the index is 0, 1, ..., else 0: each step less the next one."""
    shape = (index.size, count)
    first = np.zeros(shape)
    first[:, 0] = 1
    if count == 1:
        return builder.affine([(Gather(index.shape, shape, np.full(index.size, -1)), index)], first, shape)
    steps = reached(builder, index, count)
    place = indices(steps.shape)
    here, beyond = (np.pad(place, ((0, 0), side), constant_values=-1) for side in ((1, 0), (0, 1)))
    minus = compose(builder.gather_map(steps, beyond), Scale(shape, shape, MINUS))
    return builder.affine([(builder.gather_map(steps, here), steps), (minus, steps)], first, shape)


def _read(op: Operator, index: Tensor, row_of: Array, candidates: Array, shape: Shape) -> Value:
    """Of `shape`: each the one of its candidates [elements, count], flat places in input 0, that the index of its row names."""
    data, builder = op.value(0), op.builder
    elements, count = builder.check_size(candidates.shape)
    if count == 1:
        return builder.convert(builder.gather(op.variable(0), candidates.reshape(shape)), builder.type_of(data))
    taken = [picked(builder, data, candidates[:, k]) for k in (0, slice(1, None), slice(None, -1))]
    steps = reached(builder, index, count)
    spread = builder.convert(builder.gather(steps, row_of[:, None] * (count - 1) + np.arange(count - 1)), builder.type_of(data))
    weighed = varying(multiply(builder, spread, add(builder, taken[1], taken[2], -1.0)))
    summed = builder.linear(Dense((elements, count - 1), (elements,), np.ones((1, count - 1))), weighed)
    found = varying(add(builder, summed, taken[0]))
    return builder.gather(found, indices(shape))


def lower_gather(op: Operator) -> Value | list[Value]:
    """Gather; of a constant table (an embedding) as a product with the differences of its rows."""
    index = op.value(1)
    if isinstance(index, Known):
        return lower_reindex(op)
    data, builder = op.value(0), op.builder
    axis = op.axis(op.integer("axis"), len(data.shape))
    size, before, after = data.shape[axis], data.shape[:axis], data.shape[axis + 1 :]
    front = from_front(op, index, size)
    shape, wide, deep = (*before, *index.shape, *after), int(np.prod(before, dtype=np.int64)), int(np.prod(after, dtype=np.int64))
    if isinstance(data, Known) and size > 1:
        table = np.moveaxis(float64(data.value), axis, -1).reshape(-1, size)  # [before and after, size]
        steps = builder.convert(reached(builder, front, size), builder.type_of(data))
        first = np.broadcast_to(table[:, 0], (index.size, len(table)))
        found = builder.affine([(Dense(steps.shape, first.shape, np.diff(table)), steps)], first, first.shape)
        return builder.gather(found, indices((index.size, wide, deep)).transpose(1, 0, 2).reshape(shape))
    row_of = np.broadcast_to(np.arange(index.size)[:, None], (wide, index.size, deep)).reshape(-1)
    rows = np.moveaxis(indices(data.shape), axis, -1).reshape(wide, 1, deep, size)
    return _read(op, front, row_of, np.broadcast_to(rows, (wide, index.size, deep, size)).reshape(-1, size), shape)


def lower_gather_elements(op: Operator) -> Value | list[Value]:
    data, index = op.value(0), op.value(1)
    if isinstance(index, Known):
        return lower_reindex(op)
    axis = _aligned(op, data, index)
    size = data.shape[axis]
    columns = np.moveaxis(indices(data.shape), axis, -1)[tuple(slice(n) for a, n in enumerate(index.shape) if a != axis)]
    candidates = np.broadcast_to(np.expand_dims(columns, axis), (*index.shape, size)).reshape(-1, size)
    return _read(op, from_front(op, index, size), np.arange(index.size), candidates, index.shape)


def _aligned(op: Operator, data: Value, index: Value) -> int:
    """The axis, where data and indices have equal rank and no other axis of the indices is longer."""
    axis = op.axis(op.integer("axis"), len(data.shape))
    if len(index.shape) != len(data.shape) or any(m > n for a, (m, n) in enumerate(zip(index.shape, data.shape, strict=True)) if a != axis):
        raise op.malformed(f"indices of shape {index.shape} do not fit data of shape {data.shape}")
    return axis


def lower_gather_nd(op: Operator) -> Value | list[Value]:
    """GatherND: the coordinates of a place become one number."""
    data, index = op.value(0), op.value(1)
    if isinstance(index, Known):
        return lower_reindex(op)
    batch = op.integer("batch_dims")
    depth = index.shape[-1] if index.shape else 0
    if not 0 <= batch < len(index.shape) or index.shape[:batch] != data.shape[:batch] or not 0 < depth <= len(data.shape) - batch:
        raise op.malformed(f"indices of shape {index.shape} do not fit data of shape {data.shape}")
    outer, named_axes, rest = data.shape[:batch], data.shape[batch : batch + depth], data.shape[batch + depth :]
    number = _number(op, index, named_axes)  # [of the index, without its last axis]
    shape, count, deep = (*number.shape, *rest), int(np.prod(named_axes)), int(np.prod(rest, dtype=np.int64))
    groups = int(np.prod(outer, dtype=np.int64))
    rows = indices((groups, count, deep)).transpose(0, 2, 1)[:, None]  # [groups, 1, deep, count]
    candidates = np.broadcast_to(rows, (groups, number.size // groups, deep, count)).reshape(-1, count)
    return _read(op, number, np.repeat(np.arange(number.size), deep), candidates, shape)


def _number(op: Operator, index: Tensor, axes: Shape) -> Tensor:
    """The places along `axes` that the last axis of `index` names, as numbers of places in row-major order."""
    front = from_front(op, index, np.array(axes, dtype=np.float64))
    strides = np.array([np.prod(axes[a + 1 :]) for a in range(len(axes))], dtype=np.float64)
    return op.builder.linear(Dense(front.shape, index.shape[:-1], strides[None]), front)


def lower_scatter_elements(op: Operator) -> Value:
    """ScatterElements; with an index that depends on the input: one place along the axis, or sums."""
    data, index, updates = op.value(0), op.value(1), op.value(2)
    if isinstance(index, Known):
        return scatter_elements(op)
    axis = _aligned(op, data, index)
    if updates.shape != index.shape:
        raise op.malformed(f"updates of shape {updates.shape}, where indices need {index.shape}")
    here = named(op.builder, from_front(op, index, data.shape[axis]), data.shape[axis])
    turns = []
    for j in range(index.shape[axis]):  # the j-th index along the axis decides about a place in data with the same other coordinates
        source = np.full(data.shape, -1)
        part = source[tuple(slice(None) if a == axis else slice(n) for a, n in enumerate(index.shape))]
        part[:] = np.take(indices(index.shape), [j], axis=axis)
        turns.append(source)
    return _write(op, data, updates, here, turns, np.indices(data.shape)[axis])


def lower_scatter_nd(op: Operator) -> Value:
    """ScatterND; with an index that depends on the input: one place, or sums."""
    data, index, updates = op.value(0), op.value(1), op.value(2)
    if isinstance(index, Known):
        return scatter_rows(op)
    depth = index.shape[-1] if index.shape else 0
    if not 0 < depth <= len(data.shape) or updates.shape != (*index.shape[:-1], *data.shape[depth:]):
        raise op.malformed(f"indices of shape {index.shape} and updates of shape {updates.shape} do not fit data of shape {data.shape}")
    axes, rest = data.shape[:depth], data.shape[depth:]
    count = int(np.prod(axes))
    number = _number(op, index, axes)
    here = named(op.builder, number, count)
    parts = indices(updates.shape).reshape(number.size, *rest)
    turns = [np.broadcast_to(part, (count, *rest)).reshape(data.shape) for part in parts]
    number_of = np.broadcast_to(np.arange(count).reshape(-1, *(1,) * len(rest)), (count, *rest)).reshape(data.shape)
    return _write(op, data, updates, here, turns, number_of, parts)


def _write(op: Operator, data: Value, updates: Value, here: Tensor, turns: list[Array], place: Array, parts: Array | None = None) -> Value:
    """data with each update written where `here` [indices, places] says. `turns`: for one index after the other the update (-1: none) that an
    element of data may get; `place`: what number each element of data has along what is indexed; `parts`: the updates of each index."""
    builder, rule = op.builder, op.string("reduction", "none")
    if rule not in ("none", "add") or (rule == "none" and len(turns) > 1):
        raise op.refuse("writing to places that depend on the input is supported for one place along an axis, or with reduction 'add'")
    here = builder.convert(here, builder.type_of(data))
    result: Value = data
    for turn, source in enumerate(turns):
        row = source if parts is None else np.full(data.shape, turn)
        chosen = builder.gather(here, np.where(source < 0, -1, row * here.shape[1] + place))
        new = picked(builder, updates, source)
        change = new if rule == "add" else add(builder, new, data, -1.0)
        result = add(builder, result, multiply(builder, chosen, change))
    return result
