"""Sequences of known length, and optional values that are there: who builds, changes and reads them moves tensors about."""

from __future__ import annotations

import numpy as np

from graph.lowering.arithmetic import concat
from graph.lowering.builder import Held, Items, Known, indices
from graph.lowering.control import stack
from graph.lowering.operator import Operator


def lower_sequence_construct(op: Operator) -> Held:
    return Items(tuple(op.value(i) for i in range(len(op.inputs))))


def lower_sequence_empty(op: Operator) -> Held:
    return Items(())


def lower_sequence_at(op: Operator) -> Held:
    return op.items(0)[_place(op, 1, len(op.items(0)) - 1)]


def lower_sequence_insert(op: Operator) -> Held:
    """Input 1 before position input 2, or at the end."""
    items = op.items(0)
    k = len(items) if op.optional(2) is None else _place(op, 2, len(items))
    return Items((*items[:k], op.value(1), *items[k:]))


def lower_sequence_erase(op: Operator) -> Held:
    items = op.items(0)
    k = len(items) - 1 if op.optional(1) is None else _place(op, 1, len(items) - 1)
    return Items((*items[:k], *items[k + 1 :]))


def lower_sequence_length(op: Operator) -> Held:
    return Known(np.array(len(op.items(0))))


def lower_split_to_sequence(op: Operator) -> Held:
    """Parts of the given sizes along an axis: one size for all, a size for each, or slices of size 1."""
    x = op.value(0)
    axis = op.axis(op.integer("axis"), len(x.shape))
    length = x.shape[axis]
    split = None if op.optional(1) is None else op.known(1)
    if split is None:
        sizes = [1] * length
    elif split.ndim == 0:
        step = int(split)
        if step < 1:
            raise op.malformed(f"parts of size {step}")
        sizes = [min(step, length - start) for start in range(0, length, step)]
    else:
        sizes = [int(n) for n in split]
    if sum(sizes) != length or min(sizes, default=0) < 0:
        raise op.malformed(f"parts of sizes {sizes} do not make up an axis of {length}")
    places = np.split(indices(x.shape), np.cumsum(sizes)[:-1], axis)
    if split is None and not op.integer("keepdims", 1):
        places = [place.squeeze(axis) for place in places]
    return Items(tuple(Known(x.value.reshape(-1)[p]) if isinstance(x, Known) else op.builder.gather(x, p) for p in places))


def lower_concat_from_sequence(op: Operator) -> Held:
    """All items along an axis, a new one with new_axis = 1."""
    items = list(op.items(0))
    if not items:
        raise op.malformed("an empty sequence")
    rank = len(items[0].shape)
    if op.integer("new_axis"):
        return stack(op.builder, items, op.axis(op.integer("axis"), rank + 1))
    axis = op.axis(op.integer("axis"), rank)
    known = [item.value for item in items if isinstance(item, Known)]
    if len(known) == len(items):
        return Known(np.concatenate(known, axis))
    starts = np.cumsum([0, *(item.size for item in items[:-1])])
    place = np.concatenate([indices(item.shape) + start for item, start in zip(items, starts, strict=True)], axis)
    return op.builder.gather(concat(op.builder, items), place)


def lower_optional(op: Operator) -> Held:
    """A value that is there. (The empty form has an attribute of a kind that is refused.)"""
    return _held(op)


def lower_optional_has_element(op: Operator) -> Held:
    return Known(np.array(bool(op.held) and op.held[0] is not None))


def lower_optional_get_element(op: Operator) -> Held:
    return _held(op)


def _held(op: Operator) -> Held:
    found = op.held[0] if op.held else None
    if found is None:
        raise op.refuse("an optional value that is missing")
    return found


def _place(op: Operator, i: int, last: int) -> int:
    """Input `i` as a position from 0 to `last`; negative ones count from the back."""
    found = int(op.known(i).reshape(()))
    if not -(last + 1) <= found <= last:
        raise op.malformed(f"position {found} in a sequence where {last} is the last one")
    return found % (last + 1)
