"""Slices of constants between places that depend on the network's input, as exporters write x[:, i : i + k] = 0 with such an i.

Such a slice has no size of its own. It is kept whole, with a tensor for each cut axis that says of every place whether it is there (1) or not (0).
What exporters do with it until something is written to these places is computed for all of it. Where the true sizes decide how operands broadcast,
equal ones are only taken for such if they come from the same slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.functions import build
from graph.lowering.arithmetic import add, broadcast, float64, multiply, scale
from graph.lowering.builder import Cut, CutShape, Held, Known, Tensor, There, Value, indices, varying
from graph.lowering.logic import positive
from graph.lowering.operator import Operator
from graph.lowering.reindex import lower_reindex
from graph.lowering.scatter import places_nd

Array = NDArray[Any]
ELEMENTWISE = ("Add", "Mul", "Neg", "Sub")  # of integers


def lower_slice(op: Operator) -> Held | list[Value]:
    """Slice: of a constant also between places that depend on the input, in steps of 1."""
    bounds = [x for x in op.inputs[1:3] if isinstance(x, Tensor)]
    return _slice(op) if bounds and isinstance(op.value(0), Known) else lower_reindex(op)


def through_cut(op: Operator) -> Held:
    """An operator that reads a cut constant or its shape."""
    match op.kind, op.held:
        case "Slice", _:
            return _slice(op)
        case "Shape", (Cut() as x, *_):
            axes = slice(op.integer("start"), op.integer("end", x.value.ndim))
            return _sized(np.array(x.value.shape, dtype=np.int64)[axes], x.there[axes])
        case "Shape", (CutShape() as shape, *_):
            return Known(np.array([shape.sizes.size], dtype=np.int64))
        case "ConstantOfShape", (CutShape() as shape, *_):
            return _cut(op.reference([shape.sizes])[0], shape.there)
        case "Expand", (_, target):
            return _expanded(op, _as_cut(op, 0), _as_shape(op, target))
        case "Unsqueeze", (Cut() as x, *rest):
            given = (op.known_integers(1) if rest else op.integers("axes")) or ()
            added = {op.axis(a, x.value.ndim + len(given)) for a in given}
            old = iter(x.there)
            there = tuple(None if a in added else next(old) for a in range(x.value.ndim + len(added)))
            return _cut(np.expand_dims(x.value, tuple(added)), there)
        case "Reshape", (_, target):
            return _reshaped(op, target)
        case "Equal", (left, right):
            return _compared(op, left, right)
        case "Where", (Known(value=condition), left, right):
            return _selected(op, condition, _as_shape(op, left), _as_shape(op, right))
        case "Concat", parts if any(isinstance(x, CutShape) for x in parts):
            shapes = [_as_shape(op, x) for x in parts]
            return _sized(np.concatenate([s.sizes for s in shapes]), tuple(t for s in shapes for t in s.there))
        case "Concat", parts:
            return _concatenated(op, [_as_cut(op, i) for i in range(len(parts))])
        case kind, parts if kind in ELEMENTWISE:
            cuts = [_as_cut(op, i) for i in range(len(parts))]
            if any(x.value.dtype.kind != "i" for x in cuts):
                raise op.refuse("floats in a slice between places that depend on the input")
            return _cut(op.reference([x.value for x in cuts])[0], _joined(op, cuts))
        case "ScatterND", _:
            return _written(op)
    raise op.refuse("a slice between places that depend on the input is only supported as the places that ScatterND writes to")


def _expanded(op: Operator, x: Cut, wanted: CutShape) -> Cut | Known:
    shape = op.builder.check_size(tuple(int(n) for n in wanted.sizes))
    return _cut(op.reference([x.value, wanted.sizes])[0], _joined(op, [x, Cut(np.zeros(shape), wanted.there)]))


def _selected(op: Operator, condition: Array, x: CutShape, y: CutShape) -> CutShape | Known:
    if not condition.shape == x.sizes.shape == y.sizes.shape:
        raise op.refuse("a selection among shapes of different rank")
    there = tuple(a if c else b for c, a, b in zip(condition, x.there, y.there, strict=True))
    return _sized(np.where(condition, x.sizes, y.sizes), there)


def _cut(value: Array, there: There) -> Cut | Known:
    return Cut(value, there) if any(t is not None for t in there) else Known(value)


def _sized(sizes: Array, there: There) -> CutShape | Known:
    return CutShape(sizes, there) if any(t is not None for t in there) else Known(sizes)


def _as_cut(op: Operator, i: int) -> Cut:
    held = op.held[i]
    if isinstance(held, Cut):
        return held
    if not isinstance(held, Known):
        raise op.refuse(f"input {i} ({op.node.input[i]!r}) depends on the network's input, next to a slice whose places do")
    return Cut(held.value, (None,) * held.value.ndim)


def _as_shape(op: Operator, held: Held | None) -> CutShape:
    if isinstance(held, CutShape):
        return held
    if not isinstance(held, Known) or held.value.ndim != 1 or held.value.dtype.kind != "i":
        raise op.refuse("something else than a shape, next to the shape of a slice whose places depend on the network's input")
    return CutShape(held.value, (None,) * held.value.size)


def _joined(op: Operator, parts: Sequence[Cut]) -> There:
    """What is there of parts that broadcast: of each axis either the same in all of them, or one place that is there in all but one kind."""
    rank = max(x.value.ndim for x in parts)
    found: list[Tensor | None] = []
    for axis in range(-rank, 0):
        here = [(x.value.shape[axis], x.there[axis]) for x in parts if x.value.ndim >= -axis]
        kinds = {t for _, t in here if t is not None}
        if len(kinds) > 1 or (kinds and any(t is None and n != 1 for n, t in here)):
            raise op.refuse("operands that broadcast if slices, whose places depend on the network's input, are of equal size")
        found.append(next(iter(kinds), None))
    return tuple(found)


def _slice(op: Operator) -> Cut | Known:
    """The whole constant, and what is there of the axes that are cut: what does not lie before the start, but before the end."""
    x = _as_cut(op, 0)
    starts, ends, steps = op.value(1), op.value(2), op.known_integers(4) if len(op.inputs) > 4 else None
    axes = op.known_integers(3) if len(op.inputs) > 3 else None
    axes = tuple(op.axis(a, x.value.ndim) for a in (range(starts.size) if axes is None else axes))
    if any(step != 1 for step in steps or ()) or len({*axes}) != len(axes) or not len(axes) == starts.size == ends.size:
        raise op.refuse("a slice between places that depend on the network's input needs steps of 1, and axes that are named once")
    there = list(x.there)
    for k, axis in enumerate(axes):
        if there[axis] is not None:
            raise op.refuse("a slice of a slice along one axis, between places that depend on the network's input")
        size = x.value.shape[axis]
        inside = add(op.builder, _behind(op, starts, k, size), _behind(op, ends, k, size), -1.0)
        there[axis] = op.builder.elementwise(build("relu"), inside if isinstance(inside, Tensor) else op.builder.constant(inside.value))
    return _cut(x.value, tuple(there))


def _behind(op: Operator, bounds: Value, k: int, size: int) -> Value:
    """[size] 1 for the places of an axis at or behind bound k, which counts from the end where it is negative, else 0."""
    numbers = np.arange(size, dtype=np.float64)
    if isinstance(bounds, Known):
        bound = int(bounds.value.reshape(-1)[k])
        return Known((numbers >= (bound + size if bound < 0 else bound)).astype(np.float64))
    if np.dtype(bounds.element_type).kind != "i":
        raise op.refuse(f"a slice between places of type {bounds.element_type}")
    builder = op.builder
    bound_of_all = builder.gather(bounds, np.full(size, k))
    negative = positive(builder, varying(scale(builder, bound_of_all, np.array(-1.0))))
    from_front = add(builder, bound_of_all, scale(builder, negative, np.array(float(size))))
    return positive(builder, varying(add(builder, Known(numbers + 0.5), from_front, -1.0)))  # of integers


def _reshaped(op: Operator, target: Held | None) -> Cut | Known:
    """Axes of one place added or removed; -1 stands for the axis that is cut. A constant of one value has any shape that fits."""
    x = _as_cut(op, 0)
    if isinstance(target, CutShape):
        values = np.unique(x.value)
        if values.size != 1:
            raise op.refuse("a reshape to the shape of a slice whose places depend on the network's input is only supported for equal elements")
        return _cut(np.full(op.builder.check_size(tuple(target.sizes)), values[0]), target.there)
    wanted = op.known_integers(1) or ()
    value = op.reference([x.value, np.array(wanted, dtype=np.int64)])[0]
    before = [(n, t) for n, t in zip(x.value.shape, x.there, strict=True) if n != 1 or t is not None]
    kept = [a for a, n in enumerate(value.shape) if n != 1 or wanted[a] == -1]
    same = [value.shape[a] for a in kept] == [n for n, _ in before]
    if not same or any(t is not None and wanted[a] != -1 for a, (_, t) in zip(kept, before, strict=True)):
        raise op.refuse("a slice whose places depend on the network's input is only reshaped by axes of one element, with -1 for what is cut")
    found = dict(zip(kept, (t for _, t in before), strict=True))
    return _cut(value, tuple(found.get(a) for a in range(value.ndim)))


def _compared(op: Operator, left: Held | None, right: Held | None) -> Known:
    """A shape compared with constants: a size that is not known is only known not to be negative."""
    x, y = _as_shape(op, left), _as_shape(op, right)
    if x.sizes.shape != y.sizes.shape:
        raise op.refuse("a comparison of shapes of different rank")
    pairs = list(zip(x.sizes, x.there, y.sizes, y.there, strict=True))
    if any((t is not None and (u is not None or m >= 0)) or (u is not None and n >= 0) for n, t, m, u in pairs if not (t is None and u is None)):
        raise op.refuse("a size that depends on the network's input is compared with one that it might have")
    return Known(np.array([t is None and u is None and bool(n == m) for n, t, m, u in pairs], dtype=bool))


def _concatenated(op: Operator, parts: Sequence[Cut]) -> Cut | Known:
    axis = op.axis(op.integer("axis"), parts[0].value.ndim)
    if any(x.there[axis] is not None or x.there != parts[0].there for x in parts):
        raise op.refuse("slices whose places depend on the network's input are only joined with others of the same places")
    return _cut(op.reference([x.value for x in parts])[0], parts[0].there)


def _written(op: Operator) -> Value:
    """ScatterND to places that are there or not: data + there (updates - data)."""
    data, place, updates, builder = op.value(0), _as_cut(op, 1), _as_cut(op, 2), op.builder
    target, depth = places_nd(op, data.shape, place.value), place.value.ndim - 1
    if op.string("reduction", "none") != "none" or np.unique(target).size != target.size:
        raise op.refuse("writing to places that depend on the network's input, but once each and without a reduction, is supported")
    same = updates.there[:depth] == place.there[:depth] and not any(updates.there[depth:]) and updates.value.shape == target.shape
    values = np.unique(updates.value)
    if place.there[depth] is not None or not (same or values.size == 1):
        raise op.refuse("updates whose places are not those that they are written to")
    written = np.zeros(data.size)
    written[target.reshape(-1)] = float64(updates.value if same else np.full(target.shape, values[0])).reshape(-1)
    axes = [(axis, t) for axis, t in enumerate(place.there[:depth]) if t is not None]
    shape = target.shape
    spread = [broadcast(builder, _along(t, axis, len(shape)), shape) for axis, t in axes]
    all_there = spread[0]
    if len(spread) > 1:
        total: Value = spread[0]
        for other in spread[1:]:
            total = add(builder, total, other)
        all_there = builder.elementwise(build("relu"), varying(add(builder, total, Known(np.array(1.0 - len(spread))))))
    index = np.full(data.size, -1)
    index[target.reshape(-1)] = indices(shape).reshape(-1)
    kind = data.element_type if isinstance(data, Tensor) else str(data.value.dtype)
    chosen = builder.convert(builder.gather(all_there, index.reshape(data.shape)), kind)
    return add(builder, data, multiply(builder, chosen, add(builder, Known(written.reshape(data.shape)), data, -1.0)))


def _along(x: Tensor, axis: int, rank: int) -> Tensor:
    """A vector as a tensor of `rank` axes, all but `axis` of one element."""
    return Tensor(x.node, tuple(x.size if a == axis else 1 for a in range(rank)), x.element_type)
