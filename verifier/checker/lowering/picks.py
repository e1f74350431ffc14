"""Operators that pick elements by lists of places, and those that write to such places."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from verifier.checker.lowering.basic import stack, starts_of
from verifier.checker.lowering.builder import Array, Known, Shape, Tensor, Value, checked, indices, take
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Index, Transposed
from verifier.checker.network import Pieces

MOST = 1 << 52  # integers below it, and their differences, are floats


def places(op: Operator, chosen: Array, size: int) -> Array:
    """Indices into an axis of `size` elements, counted from the front."""
    within = bool(((chosen >= -size) & (chosen < size)).all())
    op.require(chosen.dtype in (np.int32, np.int64) and within, f"an index past {size}, or of {chosen.dtype}")
    return np.where(chosen < 0, chosen + size, chosen).astype(np.int64)


def gather_elements(op: Operator, x: Array) -> list[Array]:
    chosen, axis = op.known(1), op.axis(op.integer("axis", 0), x.ndim)
    fits = chosen.ndim == x.ndim and all(m <= n for a, (m, n) in enumerate(zip(chosen.shape, x.shape, strict=True)) if a != axis)
    op.require(fits, f"indices of shape {chosen.shape}")
    cut = x[tuple(slice(None) if a == axis else slice(m) for a, m in enumerate(chosen.shape))]
    return [np.take_along_axis(cut, places(op, chosen, x.shape[axis]), axis)]


def gather_nd(op: Operator, x: Array) -> list[Array]:
    chosen, batch = op.known(1), op.integer("batch_dims", 0)
    depth = chosen.shape[-1] if chosen.ndim else 0
    op.require(0 <= batch < chosen.ndim and chosen.shape[:batch] == x.shape[:batch] and 1 <= depth <= x.ndim - batch, f"indices of {chosen.shape}")
    outer = [n.reshape(*n.shape, *(1,) * (chosen.ndim - 1 - batch)) for n in np.indices(x.shape[:batch])]
    inner = [places(op, chosen[..., i], x.shape[batch + i]) for i in range(depth)]
    return [x[(*outer, *inner)]]


def compress(op: Operator, x: Array) -> list[Array]:
    keep, axis = op.known(1), op.attributes.get("axis")
    op.require(keep.dtype == np.bool_ and keep.ndim == 1, f"a condition of shape {keep.shape} and type {keep.dtype}")
    flat, at = (x.reshape(-1), 0) if axis is None else (x, op.axis(op.integer("axis", 0), x.ndim))
    op.require(len(keep) <= flat.shape[at], f"a condition of {len(keep)} elements")
    return [np.take(flat, np.flatnonzero(keep), axis=at)]


def reverse_sequence(op: Operator, x: Array) -> list[Array]:
    lengths, time, batch = op.known_integers(1) or (), op.integer("time_axis", 0), op.integer("batch_axis", 1)
    op.require(x.ndim >= 2 and {time, batch} == {0, 1} and len(lengths) == x.shape[batch], f"axes {time} and {batch}")
    op.require(all(0 <= n <= x.shape[time] for n in lengths), f"lengths {lengths}")
    order = np.array([[*range(n - 1, -1, -1), *range(n, x.shape[time])] for n in lengths], dtype=np.int64)
    at, row = (order, np.arange(len(lengths))[:, None]) if batch == 0 else (order.T, np.arange(len(lengths))[None, :])
    return [x[row, at] if batch == 0 else x[at, row]]


def trilu(op: Operator, x: Array) -> list[Array]:
    k = 0 if op.optional(1) is None else int(op.known(1).reshape(()))
    op.require(x.ndim >= 2, f"a tensor of rank {x.ndim}")
    beyond = np.arange(x.shape[-1])[None, :] - np.arange(x.shape[-2])[:, None] - k
    return [np.where(beyond >= 0 if op.flag("upper", 1) else beyond <= 0, x, np.zeros((), dtype=x.dtype))]


def center_crop_pad(op: Operator, x: Array) -> list[Array]:
    """What is too long is cut, what is too short is filled up, on both sides; an odd rest is cut and filled at the end."""
    wanted, named = op.known_integers(1) or (), op.integers("axes")
    axes = range(x.ndim) if named is None else [op.axis(a, x.ndim) for a in named]
    op.require(len(wanted) == len(axes) == len(set(axes)) and all(n > 0 for n in wanted), f"shape {wanted}")
    for axis, n in zip(axes, wanted, strict=True):
        size = x.shape[axis]
        gap = (size - n) // 2 if n < size else (n - size) // 2
        source = np.arange(n) + gap if n < size else np.arange(n) - gap
        checked([*x.shape[:axis], n, *x.shape[axis + 1 :]], op.place)
        inside = ((source >= 0) & (source < size)).reshape(-1, *(1,) * (x.ndim - axis - 1))
        x = np.where(inside, np.take(x, np.clip(source, 0, size - 1), axis=axis), np.zeros((), dtype=x.dtype))
    return [x]


def eye_like(op: Operator) -> Value:
    shape, kinds = op.value(0).shape, {1: "float32", 6: "int32", 7: "int64", 11: "float64"}
    kind = kinds.get(op.integer("dtype", 0), "") if "dtype" in op.attributes else op.value(0).element
    op.require(len(shape) == 2 and kind in kinds.values(), f"a matrix of type {kind}")
    return Known(np.eye(shape[0], shape[1], k=op.integer("k", 0), dtype=kind))


def element_places(op: Operator) -> Array:
    """Where the updates of a ScatterElements go."""
    return gather_elements(op, indices(op.value(0).shape))[0]


def row_places(op: Operator) -> Array:
    """Where the updates of a ScatterND go."""
    return gather_nd(op, indices(op.value(0).shape))[0]


def written(op: Operator, target: Array) -> Value:
    """Input 0 with the elements of input 2 written to the flat places `target`, or added, multiplied, ... there."""
    x, updates, rule = op.value(0), op.value(2), op.string("reduction", "none")
    op.require(target.shape == updates.shape, f"updates of shape {updates.shape}")
    rounds = _rounds(target.reshape(-1), x.size)
    if rule == "none":
        op.require(len(rounds) <= 1, "two updates of one place: which of them holds is the runtime's choice")
        source = np.where(rounds[0] < 0, np.arange(x.size), x.size + rounds[0]) if rounds else np.arange(x.size)
        if isinstance(x, Known) and isinstance(updates, Known) and x.value.dtype.kind != "f":
            op.require(x.value.dtype == updates.value.dtype, f"updates of type {updates.value.dtype}")
            return Known(np.concatenate([x.value.reshape(-1), updates.value.reshape(-1)])[source].reshape(x.shape))
        return op.end(stack(op.builder, [x, updates], source.reshape(x.shape), starts_of([x, updates])), "moves")
    op.require(rule in ("add", "mul", "max", "min"), f"reduction {rule!r}")
    if rule == "add":
        return _added(op, x, updates, target.reshape(-1), len(rounds))
    if rule == "mul":
        return _multiplied(op, x, updates, rounds)
    sign = 1.0 if rule == "max" else -1.0
    both = stack(op.builder, [x, updates], np.arange(x.size + updates.size), starts_of([x, updates]))
    windows = np.stack([np.arange(x.size), *(np.where(r < 0, -1, x.size + r) for r in rounds)], axis=1)
    found = op.builder.maximum(both if sign == 1 else op.builder.scale(both, np.array(sign)), windows, x.shape)
    return op.end(found if sign == 1 else op.builder.scale(found, np.array(sign)), "exact")


def _rounds(target: Array, size: int) -> list[Array]:
    """For the first, second, ... update of every place its number, -1 where there is none."""
    order = np.argsort(target, kind="stable")
    ranked = target[order]
    turn = np.arange(target.size) - np.searchsorted(ranked, ranked)
    found = []
    for r in range(int(turn.max(initial=-1)) + 1):
        found.append(np.full(size, -1, dtype=np.int64))
        found[-1][ranked[turn == r]] = order[turn == r]
    return found


def _added(op: Operator, x: Value, updates: Value, target: Array, most: int) -> Value:
    base, more = op.as_tensor(x), op.as_tensor(updates)
    terms = [(take(base, indices(x.shape)), base), (Transposed(Index(target, x.size)), more)]
    return op.end(op.builder.affine(terms, None, x.shape), "affine", most)


def _multiplied(op: Operator, x: Value, updates: Value, rounds: list[Array]) -> Value:
    """One product for each round; a place without an update in a round is multiplied by 1."""
    for r in rounds:
        before = op.as_tensor(x)
        if isinstance(updates, Known):
            op.require(updates.value.dtype == np.float32, f"updates of type {updates.value.dtype}")
            factor = np.where(r < 0, np.float32(1), updates.value.reshape(-1)[np.where(r < 0, 0, r)]).reshape(x.shape)
            x = op.stage(op.builder.scale(before, factor), "affine", 1, sources=(before,))
        else:
            factor_of = op.builder.gather(updates, r.reshape(x.shape), np.where(r < 0, 1.0, 0.0).reshape(x.shape))
            x = op.stage(op.builder.product(before, factor_of), "product", 1, sources=(before, updates))
    return x


def col2im(op: Operator) -> Value:
    """Blocks added up where they overlap: the transpose of cutting an image into blocks."""
    x, image, block = op.tensor(0), op.known_integers(1) or (), op.known_integers(2) or ()
    op.require(all(n >= 1 for n in (*image, *block)) and len(block) == len(image), f"image {image} and block {block}")
    taps = math.prod(block)
    op.require(len(x.shape) == 3 and x.shape[1] % taps == 0, f"input of shape {x.shape}")
    planes = x.shape[0] * x.shape[1] // taps
    columns = _blocks(op, indices((planes, *image)), block)
    op.require(columns.shape == (planes, taps, x.shape[2]), f"{x.shape[2]} blocks")
    found = Transposed(Index(np.ascontiguousarray(columns).reshape(-1), planes * math.prod(image)))
    return op.end(op.builder.linear(found, x, (x.shape[0], x.shape[1] // taps, *image)), "affine", taps - 1)


def _blocks(op: Operator, source: Array, block: Shape) -> Array:
    """[planes, taps, blocks]: `source` [planes, *image] cut into blocks, -1 for padding."""
    rank = len(block)
    strides, dilations, pads = op.integers("strides") or (1,) * rank, op.integers("dilations") or (1,) * rank, op.integers("pads") or (0,) * 2 * rank
    op.require(len(strides) == len(dilations) == rank and len(pads) == 2 * rank, "attributes of another rank")
    op.require(all(n >= 1 for n in (*strides, *dilations)) and all(n >= 0 for n in pads), "strides, dilations or pads")
    source = np.pad(source, [(0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=-1)
    for i, (k, s, d) in enumerate(zip(block, strides, dilations, strict=True)):  # every axis becomes two: taps and blocks
        count = (source.shape[1 + 2 * i] - d * (k - 1) - 1) // s + 1
        op.require(count > 0, "a block larger than the image")
        source = np.take(source, np.arange(k)[:, None] * d + np.arange(count)[None, :] * s, axis=1 + 2 * i)
    taps, blocks = range(1, 2 * rank, 2), range(2, 2 * rank + 1, 2)
    return source.transpose(0, *taps, *blocks).reshape(len(source), math.prod(block), -1)


def one_hot(op: Operator) -> Value:
    """off + (on - off) [index = k], the index constant or an integer that depends on the input."""
    depth, values, given = int(op.known(1).reshape(())), op.value(2), op.value(0)
    axis = op.axis(op.integer("axis", -1), len(given.shape) + 1)
    op.require(depth > 0 and values.shape == (2,), f"depth {depth}")
    if isinstance(given, Tensor):
        return _hot(op, given, depth, axis)
    chosen = given.value
    op.require(chosen.dtype in (np.int32, np.int64) or bool((chosen == np.rint(chosen)).all()), f"indices of type {chosen.dtype}")
    hot = np.moveaxis(np.where(chosen < 0, chosen + depth, chosen)[..., None] == np.arange(depth), -1, axis).astype(np.int64)
    return Known(values.value[hot]) if isinstance(values, Known) else op.end(op.builder.gather(values, hot), "moves")


def _hot(op: Operator, index: Tensor, depth: int, axis: int) -> Value:
    """Integers are what a runtime picks; of floats it may take a sum of products."""
    op.require(index.element in ("int32", "int64"), f"indices of type {index.element}")
    kind = str(op.known(2).dtype)
    whole = kind in ("int32", "int64")
    op.require(not whole or bool((np.abs(op.known(2).astype(np.float64)) < MOST).all()), f"values {op.known(2)}")
    off, on = (float(v) for v in (op.known(2) if whole else op.known_floats(2)))
    gap = on - off
    error = 0.0 if Fraction(on) - Fraction(off) == Fraction(gap) else abs(gap) * 2.0**-53
    found: list[Value] = [op.builder.elementwise(table(k - depth - 1, [0.0, 1.0, *(0.0,) * (depth - 1), 1.0, 0.0]), index) for k in range(depth)]
    shape = (depth, *index.shape)
    stacked = stack(op.builder, found, np.moveaxis(indices(shape), 0, axis), starts_of(found))
    between = op.builder.plus(op.builder.scale(stacked, np.array(gap), np.array(error)), np.full(stacked.shape, off))
    if whole:
        return op.end(between, "exact", element=kind)
    return op.end(between, "refused", name="a product and a sum of on and off")


def table(first: int, values: Sequence[float]) -> Pieces:
    """values[k] at the integer first + k, jumping halfway between integers."""
    jumps = [k for k in range(1, len(values)) if values[k] != values[k - 1]]
    levels = (values[0], *(values[k] for k in jumps))
    return Pieces(tuple(first + k - 0.5 for k in jumps), (0.0,) * len(levels), levels, levels[1:])
