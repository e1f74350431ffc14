"""Operators that write elements to chosen places, or put what stands in windows back: ScatterElements, ScatterND, Col2Im, OneHot, EyeLike."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.functions import build
from graph.linear_map import Gather, Transposed, window_taps
from graph.lowering.arithmetic import add, concat, multiply, scale
from graph.lowering.builder import Builder, Known, Tensor, Value, indices
from graph.lowering.linear import reshape
from graph.lowering.operator import Operator

Array = NDArray[Any]


def scatter_elements(op: Operator) -> Value:
    """ScatterElements, and Scatter, its older name: data with updates written to `indices` along `axis`."""
    data, place = op.value(0), op.known(1)
    rank = len(data.shape)
    axis = op.axis(op.integer("axis"), rank)
    if place.ndim != rank or place.shape != op.value(2).shape:
        raise op.malformed(f"indices of shape {place.shape} do not fit data of shape {data.shape} and updates of shape {op.value(2).shape}")
    return _scatter(op, np.take_along_axis(indices(data.shape), _inside(op, place, data.shape[axis]), axis))


def scatter_rows(op: Operator) -> Value:
    """Rows of `updates` written to the places that the last axis of `indices` names."""
    return _scatter(op, places_nd(op, op.value(0).shape, op.known(1)))


def places_nd(op: Operator, shape: Shape, place: Array) -> Array:
    """The flat places of data of `shape` that the last axis of `place` names, and all that follows them."""
    depth = place.shape[-1] if place.ndim else 0
    if not 0 < depth <= len(shape):
        raise op.malformed(f"indices of shape {place.shape} do not fit data of shape {shape}")
    return indices(shape)[tuple(_inside(op, place[..., a], shape[a]) for a in range(depth))]


def _inside(op: Operator, place: Array, size: int) -> Array:
    """`place` counted from the front."""
    if not ((place >= -size) & (place < size)).all():
        raise op.malformed(f"an index outside of an axis of {size} elements")
    return np.where(place < 0, place + size, place)


def _scatter(op: Operator, target: Array) -> Value:
    """Input 0 with input 2 written to its flat places `target` (of the shape of input 2)."""
    data, updates, builder = op.value(0), op.value(2), op.builder
    if target.shape != updates.shape:
        raise op.malformed(f"updates of shape {updates.shape}, where indices need {target.shape}")
    flat = target.reshape(-1)
    match op.string("reduction", "none"):
        case "none":
            chosen = np.arange(data.size)
            chosen[flat] = data.size + np.arange(flat.size)  # of several writes to one place the last holds
            return builder.gather(concat(builder, [data, updates]), chosen.reshape(data.shape))
        case "add":
            return _scatter_add(builder, data, updates, flat)
        case "mul":
            rounds = [picked(builder, updates, chosen, 1.0) for chosen in _rounds(flat, data.size)]
            return reduce(lambda x, y: multiply(builder, x, reshape(y, data.shape)), rounds, data)
        case "max" | "min" as kind:
            both = concat(builder, [data, updates])
            taps = [np.arange(data.size), *(np.where(chosen < 0, -1, data.size + chosen) for chosen in _rounds(flat, data.size))]
            sign = np.array(1.0 if kind == "max" else -1.0)
            signed = scale(builder, both, sign)
            if not isinstance(signed, Tensor):
                raise op.refuse("constant data and updates")
            return scale(builder, builder.maximum(signed, np.stack(taps, axis=1), data.shape), sign)
        case mode:
            raise op.refuse(f"reduction {mode!r} is not supported")


def _rounds(flat: Array, size: int) -> list[Array]:
    """For the first, second, ... update of every place: its number, or -1 where the place has none."""
    found: list[Array] = []
    seen = np.zeros(size, dtype=np.int64)
    for k, place in enumerate(flat):
        if seen[place] == len(found):
            found.append(np.full(size, -1))
        found[seen[place]][place] = k
        seen[place] += 1
    return found


def picked(builder: Builder, x: Value, chosen: Array, missing: float = 0.0) -> Value:
    """The flat elements `chosen` of x, `missing` for -1."""
    if isinstance(x, Known):
        return Known(np.where(chosen < 0, missing, x.value.reshape(-1)[np.maximum(chosen, 0)].astype(np.float64)))
    return builder.gather(x, chosen, np.where(chosen < 0, missing, 0.0) if missing and (chosen < 0).any() else None)


def _scatter_add(builder: Builder, data: Value, updates: Value, flat: Array) -> Value:
    """The transpose of reading every place as often as it is written to."""
    if isinstance(updates, Known):
        total = np.zeros(data.size)
        np.add.at(total, flat, updates.value.reshape(-1).astype(np.float64))
        return add(builder, data, Known(total.reshape(data.shape)))
    written = Transposed(updates.shape, data.shape, Gather(data.shape, updates.shape, flat))
    return add(builder, data, builder.linear(written, updates))


def lower_col2im(op: Operator) -> Value:
    """Columns of blocks added up in the image they come from: the transpose of cutting it into blocks."""
    x, image, kernel = op.variable(0), op.known_integers(1) or (), op.known_integers(2) or ()
    rank = len(image)
    strides, dilations = op.integers("strides") or (1,) * rank, op.integers("dilations") or (1,) * rank
    pads = op.integers("pads") or (0,) * (2 * rank)
    taps = int(np.prod(kernel))
    if len(x.shape) != 3 or x.shape[1] % max(taps, 1) or not len(kernel) == len(strides) == len(dilations) == len(pads) // 2 == rank:
        raise op.malformed(f"an input of shape {x.shape} does not fit blocks of {kernel} in an image of {image}")
    axes = zip(image, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True)
    positions = tuple((n + b + e - (k - 1) * d - 1) // s + 1 for n, k, s, d, b, e in axes)
    n, channels = x.shape[0], x.shape[1] // taps
    if int(np.prod(positions)) != x.shape[2]:
        raise op.malformed(f"{x.shape[2]} blocks, where the image has {positions}")
    shape = op.builder.check_size((n, channels, *image))
    place = window_taps(image, positions, kernel, strides, pads[:rank], dilations).T  # [taps, blocks]
    planes = (np.arange(n * channels) * int(np.prod(image)))[:, None, None]
    index = np.where(place >= 0, place + planes, -1).reshape(-1)
    return op.builder.linear(Transposed(x.shape, shape, Gather(shape, x.shape, index)), x)


def lower_eye_like(op: Operator) -> Value:
    """Depends on the shape of its input alone."""
    return Known(op.reference([np.zeros(op.value(0).shape, dtype=np.float32)])[0])


def lower_one_hot(op: Operator) -> Value:
    """off + (on - off) [index = k] along a new axis; the index or the values may depend on the input, or both."""
    depth, axis = int(op.known(1).reshape(())), op.integer("axis", -1)
    index = op.value(0)
    if isinstance(index, Known):
        values = op.value(2)
        hot = op.reference([index.value, np.array(depth), np.array([0, 1])])[0]
        return Known(np.take(values.value, hot)) if isinstance(values, Known) else op.builder.gather(values, hot)
    if np.dtype(index.element_type).kind not in "iu":
        raise op.refuse(f"indices of type {index.element_type} that depend on the input; cast them to int64")
    rank = len(index.shape)
    where = axis + rank + 1 if axis < 0 else axis
    if not 0 <= where <= rank:
        raise op.malformed(f"axis {axis} of a tensor of rank {rank + 1}")
    builder = op.builder
    found = [builder.elementwise(build("lookup", k - depth - 1, *_bumps(depth)), index) for k in range(depth)]
    stacked = builder.gather(concat(builder, list(found)), np.moveaxis(indices((depth, *index.shape)), 0, where))
    stacked = builder.convert(stacked, builder.type_of(op.value(2)))
    off, on = (picked(builder, op.value(2), np.array(k)) for k in (0, 1))
    return add(builder, multiply(builder, stacked, add(builder, on, off, -1.0)), off)


def _bumps(depth: int) -> list[float]:
    """0, 1 at k - depth, 0, ..., 0, 1 at k, 0."""
    return [0.0, 1.0, *(0.0,) * (depth - 1), 1.0, 0.0]
