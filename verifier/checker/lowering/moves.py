"""Operators that only move, copy or drop elements. Each is one function of arrays: applied to a constant, or to the indices of a tensor."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from verifier.checker.lowering.basic import stack
from verifier.checker.lowering.builder import Array, Known, Shape, Tensor, Value, checked, indices
from verifier.checker.lowering.constants import Rounds
from verifier.checker.lowering.operator import Operator

Move = Callable[[Operator, Array], list[Array]]


def moving(move: Move, filling: int = 0) -> Callable[[Operator], list[Value]]:
    """The lowering of an operator that moves elements of input 0, and (`filling` 1) fills up with zeros."""

    def lower(op: Operator) -> list[Value]:
        x = op.value(0)
        if isinstance(x, Known):
            return [Known(np.array(part)) for part in move(op, x.value)]
        moved = move(op, indices(x.shape) + filling)
        return [op.end(op.builder.gather(x, np.asarray(index) - filling), "moves", element=x.element) for index in moved]

    return lower


def identity(op: Operator) -> Value:
    return op.value(0)


def flatten(op: Operator, x: Array) -> list[Array]:
    axis, rank = op.integer("axis", 1), x.ndim
    op.require((-rank if op.version >= 11 else 0) <= axis <= rank, f"axis {axis} of a tensor of rank {rank}")
    axis += rank if axis < 0 else 0
    return [x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))]


def reshape(op: Operator, x: Array) -> list[Array]:
    """0 keeps an axis (unless allowzero), one -1 is what is left."""
    wanted = op.known_integers(1)
    op.require(wanted is not None and all(n >= -1 for n in wanted) and wanted.count(-1) <= 1, f"shape {wanted}")
    op.require(not op.flag("allowzero", 0) or 0 not in (wanted or ()), "allowzero with a 0")
    op.require(all(n != 0 or i < x.ndim for i, n in enumerate(wanted or ())), f"shape {wanted}")
    shape = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted or ())]
    if -1 in shape:
        rest = math.prod(n for n in shape if n != -1)
        op.require(rest > 0 and x.size % rest == 0, f"shape {wanted} for {x.size} elements")
        shape[shape.index(-1)] = x.size // rest
    op.require(math.prod(shape) == x.size, f"shape {wanted} for {x.size} elements")
    return [x.reshape(shape)]


def transpose(op: Operator, x: Array) -> list[Array]:
    perm = op.integers("perm")
    order = tuple(range(x.ndim))[::-1] if perm is None else perm
    op.require(sorted(order) == list(range(x.ndim)), f"perm {perm}")
    return [x.transpose(order)]


def squeeze(op: Operator, x: Array) -> list[Array]:
    given = op.known_integers(1) if op.version >= 13 else op.integers("axes")
    op.require(given is None or len(given) > 0, "no axes, which runtimes read as all")
    axes = tuple(i for i, n in enumerate(x.shape) if n == 1) if given is None else op.axes(given, x.ndim)
    return [x.squeeze(axes)]


def unsqueeze(op: Operator, x: Array) -> list[Array]:
    given = op.known_integers(1) if op.version >= 13 else op.integers("axes")
    op.require(given is not None, "no axes")
    axes = op.axes(given or (), x.ndim + len(given or ()))
    return [np.expand_dims(x, axes)]


def slicing(op: Operator, x: Array) -> list[Array]:
    if op.version >= 10:
        starts, ends, axes, steps = (op.known_integers(i) for i in range(1, 5))
    else:
        starts, ends, axes, steps = op.integers("starts"), op.integers("ends"), op.integers("axes"), None
    starts, ends = starts or (), ends or ()
    axes = tuple(range(len(starts))) if axes is None else tuple(op.axis(a, x.ndim) for a in axes)
    steps = (1,) * len(starts) if steps is None else steps
    fits = len(starts) == len(ends) == len(axes) == len(steps) == len(set(axes)) > 0
    op.require(fits and all(steps), f"starts {starts}, axes {axes}, steps {steps}")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        x = np.take(x, np.arange(x.shape[axis])[slice(start, end, step)], axis=axis)
    return [x]


def gather(op: Operator, x: Array) -> list[Array]:
    chosen, axis = op.known(1), op.axis(op.integer("axis", 0), x.ndim)
    op.require(chosen.dtype in (np.int32, np.int64), f"indices of type {chosen.dtype}")
    n = x.shape[axis]
    op.require(bool((chosen >= (-n if op.version >= 11 else 0)).all() and (chosen < n).all()), f"an index past {n}")
    return [np.take(x, np.where(chosen < 0, chosen + n, chosen), axis=axis)]


def split(op: Operator, x: Array) -> list[Array]:
    axis, count = op.axis(op.integer("axis", 0), x.ndim), len(op.outputs)
    n, sizes = x.shape[axis], op.known_integers(1) if op.version >= 13 else op.integers("split")
    op.require(op.integer("num_outputs", count) == count and (sizes is None or "num_outputs" not in op.attributes), "num_outputs")
    if sizes is None:
        op.require(n % count == 0 or op.version >= 18, f"{n} elements in {count} parts")
        each = -(-n // count)
        sizes = (*(each,) * (count - 1), n - each * (count - 1))
    op.require(len(sizes) == count and sum(sizes) == n and all(s >= 0 for s in sizes), f"sizes {sizes}")
    ends = np.cumsum(sizes)
    return [np.take(x, np.arange(end - size, end), axis=axis) for end, size in zip(ends.tolist(), sizes, strict=True)]


def expand(op: Operator, x: Array) -> list[Array]:
    wanted = op.known_integers(1) or ()
    op.require(all(n >= 1 for n in wanted), f"shape {wanted}")
    return [np.broadcast_to(x, checked(np.broadcast_shapes(x.shape, wanted), op.place))]


def tile(op: Operator, x: Array) -> list[Array]:
    repeats = op.known_integers(1) or ()
    op.require(len(repeats) == x.ndim and all(n >= 1 for n in repeats), f"repeats {repeats}")
    checked([n * r for n, r in zip(x.shape, repeats, strict=True)], op.place)
    return [np.tile(x, repeats)]


def dropout(op: Operator) -> list[Value]:
    """Does nothing at inference; its mask, since version 12, is true."""
    op.require(op.version >= 12 or not any(op.outputs[1:]), "a mask")
    training = op.version >= 12 and op.optional(2) is not None and bool(op.known(2).any())
    op.require(not training or (op.optional(1) is not None and not op.known(1).any()), "training mode")
    return [op.value(0), Known(np.ones(op.value(0).shape, dtype=np.bool_))]


def depth_to_space(op: Operator, x: Array) -> list[Array]:
    block, mode = op.integer("blocksize", 0), op.string("mode", "DCR")
    op.require(x.ndim == 4 and block >= 1 and x.shape[1] % (block * block) == 0 and mode in ("DCR", "CRD"), f"blocksize {block}, mode {mode!r}")
    n, c, h, w = x.shape
    if mode == "DCR":
        parts = x.reshape(n, block, block, c // block**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(n, c // block**2, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return [parts.reshape(n, c // block**2, h * block, w * block)]


def space_to_depth(op: Operator, x: Array) -> list[Array]:
    block, mode = op.integer("blocksize", 0), op.string("mode", "DCR")
    op.require(x.ndim == 4 and block >= 1 and x.shape[2] % block == 0 and x.shape[3] % block == 0, f"blocksize {block}")
    op.require(mode in ("DCR", "CRD"), f"mode {mode!r}")
    n, c, h, w = x.shape
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return [x.reshape(n, c, h // block, block, w // block, block).transpose(order).reshape(n, c * block**2, h // block, w // block)]


def pad(op: Operator) -> Value:
    """What is filled goes to the bias, unless it depends on the input."""
    x, mode = op.tensor(0), op.string("mode", "constant")
    filled = op.optional(2) if op.version >= 11 else None
    fill = op.real("value", 0.0) if filled is None else 0.0 if isinstance(filled, Tensor) else _filling(op, x)
    op.require(math.isfinite(fill), f"filling with {fill}")
    index = _grown(op, x.shape, mode)
    if isinstance(filled, Tensor) and mode == "constant":
        op.require(filled.element == x.element, f"filling {x.element} with {filled.element}")
        return op.end(stack(op.builder, [x, filled], np.where(index < 0, x.size, index), [0, x.size]), "moves", element=x.element)
    bias = np.where(index < 0, fill, 0.0) if fill and mode == "constant" else None
    return op.end(op.builder.gather(x, index, bias), "moves", element=x.element)


def pad_known(op: Operator) -> Value:
    """Of integers and booleans; what floats are padded with is lowered."""
    x, mode = op.known(0), op.string("mode", "constant")
    if x.dtype.kind == "f":
        raise Rounds
    op.require(op.version >= 11, f"type {x.dtype}")
    fill = np.zeros(1, dtype=x.dtype) if op.optional(2) is None else op.known(2)
    op.require(fill.size == 1 and fill.dtype == x.dtype, f"filling {x.dtype} with {fill.dtype}")
    index = _grown(op, x.shape, mode)
    return Known(np.where(index < 0, fill.reshape(()), x.reshape(-1)[index]))


def _filling(op: Operator, x: Tensor) -> float:
    """Input 2, of the type of `x`."""
    given = op.known(2)
    op.require(given.dtype.kind == "f" if x.element == "float32" else given.dtype.name == x.element, f"filling {x.element} with {given.dtype}")
    return float(given.reshape(()))


def _grown(op: Operator, shape: Shape, mode: str) -> Array:
    """Which element stands where, -1 for what is filled; negative pads crop."""
    pads, rank = op.known_integers(1) if op.version >= 11 else op.integers("pads"), len(shape)
    given = op.known_integers(3) if op.version >= 18 else None
    axes = tuple(range(rank)) if given is None else tuple(op.axis(a, rank) for a in given)
    op.require(pads is not None and len(pads) == 2 * len(axes) == 2 * len(set(axes)), f"pads {pads}")
    widths = {axis: ((pads or ())[i], (pads or ())[len(axes) + i]) for i, axis in enumerate(axes)}
    index = indices(shape)
    for axis, (before, after) in widths.items():
        n = shape[axis]
        op.require(n + before + after > 0 and -before < n and -after < n, f"pads {pads}")
        index = np.take(index, np.arange(-before if before < 0 else 0, n + after if after < 0 else n), axis=axis)
        index = _padded(op, index, axis, (before if before > 0 else 0, after if after > 0 else 0), mode)
    return index


def _padded(op: Operator, index: Array, axis: int, widths: tuple[int, int], mode: str) -> Array:
    around = [(0, 0)] * index.ndim
    around[axis] = widths
    checked([n + a + b for n, (a, b) in zip(index.shape, around, strict=True)], op.place)
    if mode == "constant":
        return np.pad(index, around, constant_values=-1)
    if mode == "edge":
        return np.pad(index, around, mode="edge")
    if mode == "wrap":
        return np.pad(index, around, mode="wrap")
    op.require(mode == "reflect" and all(w < index.shape[axis] for w in widths), f"mode {mode!r} with pads {widths}")
    return np.pad(index, around, mode="reflect")
