"""Convolutions and poolings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from verifier.checker.lowering.basic import inverse
from verifier.checker.lowering.builder import Array, Shape, Tensor, Value, floats, indices, take
from verifier.checker.lowering.elementwise import ABSOLUTE, radicand
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.order import largest_place
from verifier.checker.maps import Convolution, Index, Map, Transposed
from verifier.checker.network import Smooth

CONV = "auto_pad dilations group kernel_shape pads strides"  # attributes


@dataclass(frozen=True)
class Windows:
    """Per spatial axis. `pads` is wide enough for `positions` windows; `partial`: some reach beyond the padding (ceil_mode)."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape
    positions: Shape
    partial: bool


def _geometry(op: Operator, kernel: Shape) -> tuple[Shape, Shape]:
    """Strides and dilations."""
    rank = len(kernel)
    strides, dilations = op.integers("strides") or (1,) * rank, op.integers("dilations") or (1,) * rank
    op.require((op.integers("kernel_shape") or kernel) == kernel, "kernel_shape")
    op.require(len(strides) == len(dilations) == rank and all(n >= 1 for n in (*strides, *dilations, *kernel)), "strides, dilations or kernel")
    return strides, dilations


def windows(op: Operator, spatial: Shape, kernel: Shape) -> Windows:
    """By the formulas of the standard."""
    rank = len(spatial)
    op.require(len(kernel) == rank and 1 <= rank <= 3, f"kernel {kernel} over {spatial}")
    strides, dilations = _geometry(op, kernel)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    begin, end = _pads(op, spatial, strides, reach)
    room = [n + b + e - r for n, b, e, r in zip(spatial, begin, end, reach, strict=True)]
    op.require(all(n >= 0 for n in room), "a window larger than the input")
    positions = [r // s + 1 for r, s in zip(room, strides, strict=True)]
    if op.flag("ceil_mode", 0):  # a last window counts if it begins before the padding at the end
        for i, (r, s) in enumerate(zip(room, strides, strict=True)):
            positions[i] += r % s > 0 and positions[i] * s < spatial[i] + begin[i]
    needed = [(p - 1) * s + r - n - b for p, s, r, n, b in zip(positions, strides, reach, spatial, begin, strict=True)]
    partial = any(n > e for n, e in zip(needed, end, strict=True))
    wide = tuple(n if n > e else e for n, e in zip(needed, end, strict=True))
    return Windows(kernel, strides, dilations, (*begin, *wide), tuple(positions), partial)


def _pads(op: Operator, spatial: Shape, strides: Shape, reach: Shape) -> tuple[Shape, Shape]:
    rank, mode, pads = len(spatial), op.string("auto_pad", "NOTSET"), op.integers("pads")
    if mode == "NOTSET":
        pads = pads or (0,) * (2 * rank)
        op.require(len(pads) == 2 * rank and all(n >= 0 for n in pads), f"pads {pads}")
        return pads[:rank], pads[rank:]
    op.require(mode in ("VALID", "SAME_UPPER", "SAME_LOWER") and not any(pads or ()), f"auto_pad {mode!r} with pads {pads}")
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    gaps = [(-(-n // s) - 1) * s + r - n for n, s, r in zip(spatial, strides, reach, strict=True)]
    less, more = tuple((g if g > 0 else 0) // 2 for g in gaps), tuple(((g if g > 0 else 0) + 1) // 2 for g in gaps)
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def conv(op: Operator) -> Value:
    x, weight, groups = op.tensor(0), op.known_floats(1), op.integer("group", 1)
    op.require(len(x.shape) == weight.ndim and groups >= 1, f"weight of shape {weight.shape}")
    w = windows(op, x.shape[2:], weight.shape[2:])
    found = Convolution(weight, x.shape, w.strides, w.dilations, w.pads, groups)
    op.require(found.out_shape == (x.shape[0], weight.shape[0], *w.positions), f"output of shape {found.out_shape}")
    return _with_bias(op, found, x, found.out_shape, math.prod(weight.shape[1:]))


def conv_transpose(op: Operator) -> Value:
    """The transpose of a convolution from the output to the input."""
    x, weight, groups = op.tensor(0), op.known_floats(1), op.integer("group", 1)
    kernel, rank = weight.shape[2:], weight.ndim - 2
    op.require(len(x.shape) == weight.ndim and 1 <= rank <= 3 and groups >= 1 and weight.shape[0] == x.shape[1], f"weight of shape {weight.shape}")
    strides, dilations = _geometry(op, kernel)
    extra = op.integers("output_padding") or (0,) * rank
    op.require(len(extra) == rank and all(e >= 0 for e in extra), f"output_padding {extra}")
    op.require(all(e < s or e < d for e, s, d in zip(extra, strides, dilations, strict=True)), f"output_padding {extra}")
    full = tuple(strides[i] * (x.shape[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(rank))
    pads = _cut(op, x.shape[2:], strides, full)
    shape = (x.shape[0], weight.shape[1] * groups, *(full[i] - pads[i] - pads[i + rank] for i in range(rank)))
    pads = tuple(n if n > 0 else 0 for n in pads)
    inner = Convolution(weight, shape, strides, dilations, pads, groups)
    op.require(inner.out_shape == x.shape, f"output of shape {shape}")
    return _with_bias(op, Transposed(inner), x, shape, weight.shape[0] // groups * math.prod(kernel))


def _cut(op: Operator, spatial: Shape, strides: Shape, full: Shape) -> Shape:
    """What is cut off at the begin of every axis and then at the end of each (below 0: zeros added there). An odd number where versions of the
    standard differ about the side is refused."""
    rank, mode, wanted, pads = len(spatial), op.string("auto_pad", "NOTSET"), op.integers("output_shape"), op.integers("pads")
    if wanted is None and mode in ("NOTSET", "VALID"):
        pads = pads or (0,) * (2 * rank)
        op.require(len(pads) == 2 * rank and all(n >= 0 for n in pads) and (mode == "NOTSET" or not any(pads)), f"pads {pads}")
        return pads
    op.require(mode in ("NOTSET", "SAME_UPPER", "SAME_LOWER") and not any(pads or ()), f"auto_pad {mode!r}, output_shape {wanted}, pads {pads}")
    gaps = [n - w for n, w in zip(full, wanted or [n * s for n, s in zip(spatial, strides, strict=True)], strict=True)]
    op.require(all(g <= 0 or g % 2 == 0 for g in gaps) or (mode != "NOTSET" and op.version >= 11), f"{gaps} places to cut off")
    first = [0 if g < 0 else (g + 1) // 2 if mode == "SAME_LOWER" else g // 2 for g in gaps]
    return (*first, *(g - f for g, f in zip(gaps, first, strict=True)))


def _with_bias(op: Operator, linear_map: Map, x: Tensor, shape: Shape, count: int) -> Value:
    """The map with input 2, one number per output channel, added."""
    if op.optional(2) is None:
        return op.end(op.builder.linear(linear_map, x, shape), "affine", count)
    bias = op.value(2)
    op.require(bias.shape == (shape[1],), f"bias of shape {bias.shape}")
    if isinstance(bias, Tensor):
        source = np.broadcast_to(indices(bias.shape).reshape(-1, *(1,) * (len(shape) - 2)), shape)
        return op.end(op.builder.affine([(linear_map, x), (take(bias, source), bias)], None, shape), "affine", count + 1)
    spread = np.broadcast_to(floats(bias.value).reshape(-1, *(1,) * (len(shape) - 2)), shape)
    return op.end(op.builder.affine([(linear_map, x)], spread, shape), "affine", count + 1)


def _taps(w: Windows, spatial: Shape) -> Array:
    """[positions, taps]: the place in a plane that each tap of each window reads, -1 for padding."""
    rank, found, inside = len(spatial), np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=bool)
    for i in range(rank):
        at = (np.arange(w.positions[i]) * w.strides[i] - w.pads[i])[:, None] + np.arange(w.kernel[i]) * w.dilations[i]
        good = (at >= 0) & (at < spatial[i])
        shape = (found.shape[0] * at.shape[0], found.shape[1] * at.shape[1])
        found = (found[:, None, :, None] * spatial[i] + at[None, :, None, :]).reshape(shape)
        inside = (inside[:, None, :, None] & good[None, :, None, :]).reshape(shape)
    return np.where(inside, found, -1)


def max_pool(op: Operator) -> Value | list[Value]:
    """The largest element of each window and, if it is asked for, the place of the first of them, counted along rows or columns."""
    x = op.tensor(0)
    w = windows(op, x.shape[2:], op.integers("kernel_shape") or ())
    taps, planes = _taps(w, x.shape[2:]), math.prod(x.shape[:2])
    op.require(bool((taps >= 0).any(1).all()), "a window of padding only")
    starts = np.arange(planes)[:, None, None] * math.prod(x.shape[2:])
    found = np.where(taps >= 0, taps + starts, -1).reshape(-1, taps.shape[1])
    shape = (*x.shape[:2], *w.positions)
    largest = op.end(op.builder.maximum(x, found, shape), "exact", element=x.element)
    if not any(op.outputs[1:]):
        return largest
    op.builder.stage()
    places = largest_place(op, x, found, _numbers(op, x.shape).reshape(-1)[np.where(found < 0, 0, found)], shape)
    return [largest, op.end(places, "exact", element="int64")]


def _numbers(op: Operator, shape: Shape) -> Array:
    """The flat places of a tensor, counted along rows or (storage_order) columns."""
    if not op.flag("storage_order", 0):
        return indices(shape)
    return indices((*shape[:2], *shape[:1:-1])).transpose(0, 1, *range(len(shape) - 1, 1, -1))


def lp_pool(op: Operator) -> Value:
    """(sum |x|^p)^(1/p) over each window; padding counts as 0."""
    x = op.tensor(0)
    w = windows(op, x.shape[2:], op.integers("kernel_shape") or ())
    total = Convolution(np.ones((x.shape[1], 1, *w.kernel)), x.shape, w.strides, w.dilations, w.pads, x.shape[1])
    shape = (*x.shape[:2], *w.positions)
    op.require(total.out_shape == shape, f"output of shape {total.out_shape}")
    return norm(op, x, op.integer("p", 2), total, shape, math.prod(w.kernel))


def norm(op: Operator, x: Tensor, p: int, total: Map, shape: Shape, count: int) -> Tensor:
    """(sum |x|^p)^(1/p) where `total` sums `count` elements."""
    op.require(p >= 1, f"p = {p}")
    each, builder = x, op.builder
    if p % 2:
        each = op.stage(builder.elementwise(ABSOLUTE, x), "exact", sources=(x,))
    if p > 1:
        each = op.stage(builder.elementwise(Smooth("pow", float(p)), each), "kernel", name="Pow", sources=(each,))
    if p == 1:
        return op.end(builder.linear(total, each, shape), "affine", count - 1, sources=(each.node,))
    summed = op.stage(builder.linear(total, each, shape), "affine", count - 1, sources=(each,))
    summed = radicand(op, summed)
    root = Smooth("sqrt") if p == 2 else Smooth("pow", 1 / p)
    return op.end(builder.elementwise(root, summed), "sqrt" if p == 2 else "refused", 1, name="a root", sources=(summed.node,))


def global_lp_pool(op: Operator) -> Value:
    x = op.tensor(0)
    op.require(len(x.shape) >= 3, f"input of shape {x.shape}")
    planes, each = math.prod(x.shape[:2]), math.prod(x.shape[2:])
    total = Transposed(Index(np.repeat(np.arange(planes), each), planes))
    return norm(op, x, op.integer("p", 2), total, (*x.shape[:2], *(1,) * (len(x.shape) - 2)), each)


def average_pool(op: Operator) -> Value:
    """The sum over each window, divided by the number of its elements (with those of the padding, if count_include_pad)."""
    x, rank = op.tensor(0), len(op.value(0).shape) - 2
    w, include = windows(op, x.shape[2:], op.integers("kernel_shape") or ()), op.flag("count_include_pad", 0)
    op.require(not (include and w.partial), "count_include_pad where windows reach beyond the padding")
    total = Convolution(np.ones((x.shape[1], 1, *w.kernel)), x.shape, w.strides, w.dilations, w.pads, x.shape[1])
    shape, taps = (*x.shape[:2], *w.positions), math.prod(w.kernel)
    op.require(total.out_shape == shape, f"output of shape {total.out_shape}")
    count = np.full(math.prod(w.positions), taps) if include else (_taps(w, x.shape[2:]) >= 0).sum(1)
    op.require(bool((count > 0).all()) and rank >= 1, "a window of padding only")
    each = count.astype(np.float64).reshape(1, 1, *w.positions)
    return op.end(op.builder.scale(op.builder.linear(total, x, shape), *inverse(each)), "affine", taps + 1)


def global_max_pool(op: Operator) -> Value:
    x = op.tensor(0)
    op.require(len(x.shape) >= 3, f"input of shape {x.shape}")
    planes = math.prod(x.shape[:2])
    return op.end(op.builder.maximum(x, indices(x.shape).reshape(planes, -1), (*x.shape[:2], *(1,) * (len(x.shape) - 2))), "exact")
