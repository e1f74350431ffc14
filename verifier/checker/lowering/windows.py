"""The geometry of convolutions and poolings: the formulas of the standard, on Python integers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.lowering.builder import Shape
from verifier.checker.lowering.operator import Operator


@dataclass(frozen=True)
class Windows:
    """Per spatial axis. `end` is the padding that the windows reach, `positions` their number."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    begin: Shape
    end: Shape
    positions: Shape


def convolution(op: Operator, spatial: Shape, kernel: Shape) -> Windows:
    """The windows of a Conv or pooling; `ceil_mode` adds a last partial window that starts before the right padding."""
    rank, ones, ceil = len(spatial), (1,) * len(spatial), bool(op.attributes.get("ceil_mode"))
    strides, dilations = op["strides"] or ones, op.attributes.get("dilations") or ones
    op.require((op["kernel_shape"] or kernel) == kernel and len(kernel) == len(strides) == len(dilations) == rank, "kernel, strides or dilations")
    op.require(all(n > 0 for n in (*kernel, *strides, *dilations)), "kernel, strides or dilations")
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    begin, end = _pads(op, spatial, strides, reach)
    positions, reached = list[int](), list[int]()
    for n, b, e, r, s in zip(spatial, begin, end, reach, strides, strict=True):
        room = n + b + e - r
        op.require(room >= 0, "a window larger than its input")
        count = room // s + 1
        if ceil and room % s and count * s < n + b:
            count += 1
        positions.append(count)
        reached.append(int(np.maximum(0, (count - 1) * s + r - n - b)))
    return Windows(kernel, strides, dilations, begin, tuple(reached), tuple(positions))


def _pads(op: Operator, spatial: Shape, strides: Shape, reach: Shape) -> tuple[Shape, Shape]:
    rank, mode, pads = len(spatial), op["auto_pad"], op["pads"] or (0,) * (2 * len(spatial))
    op.require(len(pads) == 2 * rank and all(n >= 0 for n in pads), "pads")
    if mode == "NOTSET":
        return pads[:rank], pads[rank:]
    op.require(not any(pads) and mode in ("VALID", "SAME_UPPER", "SAME_LOWER"), f"auto_pad {mode}")
    if mode == "VALID":
        return pads[:rank], pads[rank:]
    missing = [(-(-n // s) - 1) * s + r - n for n, s, r in zip(spatial, strides, reach, strict=True)]
    both = [m if m > 0 else 0 for m in missing]
    less, more = tuple(m // 2 for m in both), tuple(m - m // 2 for m in both)
    return (less, more) if mode == "SAME_UPPER" else (more, less)


def taps(w: Windows, shape: Shape) -> Array:
    """[positions, kernel] flat indices into a tensor of `shape` (N, C, spatial...), -1 where a tap lies in the padding."""
    planes, spatial = math.prod(shape[:2]), shape[2:]
    flat = np.arange(planes, dtype=np.int64).reshape(planes, *(1,) * (2 * len(spatial)))
    inside = np.ones_like(flat, dtype=bool)
    for axis, n in enumerate(spatial):
        at = np.arange(w.positions[axis])[:, None] * w.strides[axis] + np.arange(w.kernel[axis]) * w.dilations[axis] - w.begin[axis]
        place = [1] * (1 + 2 * len(spatial))
        place[1 + axis], place[1 + len(spatial) + axis] = at.shape
        at = at.reshape(place)
        flat, inside = flat * n + at, inside & (at >= 0) & (at < n)
    return np.asarray(np.where(inside, flat, -1).reshape(planes * math.prod(w.positions), math.prod(w.kernel)))
