"""Operators that only move, copy or drop elements: the standard's reference implementation moves the flat indices."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graph.linear_map import LinearMap
from graph.lowering.arithmetic import float64
from graph.lowering.builder import Known, Tensor, Value, indices
from graph.lowering.operator import Operator

Array = NDArray[Any]

_PAD_MODES: dict[str, Literal["edge", "reflect"]] = {"edge": "edge", "reflect": "reflect"}


def lower_reindex(op: Operator) -> list[Value]:
    """Any operator that moves elements of input 0 and whose other inputs are constants."""
    x = op.variable(0)
    others = [op.known(i) if op.optional(i) is not None else None for i in range(1, len(op.inputs))]
    return [op.builder.gather(x, index) for index in op.reference([indices(x.shape), *others])]


def lower_identity(op: Operator) -> Value:
    return op.variable(0)


def lower_dropout(op: Operator) -> Value:
    """Dropout does nothing at inference."""
    if len([name for name in op.node.output if name]) > 1:
        raise op.refuse("the mask output is not supported")
    if op.version >= 12 and op.optional(2) is not None and bool(op.known(2).any()):
        raise op.refuse("training mode is not supported; export the model for inference")
    return op.variable(0)


def lower_shape(op: Operator) -> Value:
    """The shape of a tensor is known at load (a symbolic batch dimension has become 1)."""
    shape = op.variable(0).shape
    return Known(np.array(shape[op.integer("start") : op.integer("end", len(shape))], dtype=np.int64))


def lower_size(op: Operator) -> Value:
    return Known(np.array(op.variable(0).size, dtype=np.int64))


def lower_concat(op: Operator) -> Value:
    parts = [op.value(i) for i in range(len(op.inputs))]
    axis = op.axis(op.integer("axis", 1), len(parts[0].shape))
    sizes = [p.size for p in parts]
    starts = np.cumsum([0, *sizes[:-1]])
    place = np.concatenate([indices(p.shape) + start for p, start in zip(parts, starts, strict=True)], axis=axis)
    terms: list[tuple[LinearMap, Tensor]] = []
    bias = np.zeros(place.shape)
    for part, start, size in zip(parts, starts, sizes, strict=True):
        here = (place >= start) & (place < start + size)
        if isinstance(part, Known):
            bias[here] = float64(part.value).reshape(-1)[place[here] - start]
        else:
            terms.append((op.builder.gather_map(part, np.where(here, place - start, -1)), part))
    return op.builder.affine(terms, bias if bias.any() else None, place.shape)


def lower_pad(op: Operator) -> Value:
    """Pads are an attribute before version 11; negative ones crop. Constant padding goes to the bias."""
    x = op.variable(0)
    rank = len(x.shape)
    pads = op.known_integers(1) if op.version >= 11 else op.integers("pads" if op.version >= 2 else "paddings")
    fill = (0.0 if op.optional(2) is None else float(op.known(2).reshape(()))) if op.version >= 11 else op.real("value")
    axes = op.known_integers(3) if op.version >= 18 else None
    axes = tuple(range(rank)) if axes is None else tuple(op.axis(a, rank) for a in axes)
    mode = op.string("mode", "constant")
    if pads is None or len(pads) != 2 * len(axes) or mode not in ("constant", *_PAD_MODES):
        raise op.refuse(f"mode {mode!r} with pads {pads} is not supported (constant, edge and reflect are)")
    if not np.isfinite(fill):
        raise op.refuse(f"padding with {fill} is not supported")
    widths = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[i + len(axes)])
    op.builder.check_size([max(n + b + e, 0) for (b, e), n in zip(widths, x.shape, strict=True)])
    crop = tuple(slice(max(-b, 0), n - max(-e, 0)) for (b, e), n in zip(widths, x.shape, strict=True))
    grow = [(max(b, 0), max(e, 0)) for b, e in widths]
    source = indices(x.shape)[crop]
    index = np.pad(source, grow, constant_values=-1) if mode == "constant" else np.pad(source, grow, mode=_PAD_MODES[mode])
    return op.builder.gather(x, index, np.where(index < 0, fill, 0.0) if fill and mode == "constant" else None)


def lower_upsample(op: Operator) -> Value:
    """Upsample (versions 7 and 9), nearest: output position i reads floor(i / scale)."""
    scales = op.known(1) if op.version >= 9 else np.asarray(op.attributes["scales"])
    if op.string("mode") != "nearest":
        raise op.refuse(f"mode {op.string('mode')!r} is not supported (nearest is)")
    return _nearest(op, _asymmetric(op, scales))


def lower_resize(op: Operator) -> Value:
    """Resize, nearest: by scales or sizes, for the coordinate transformations and roundings of the standard."""
    x = op.variable(0)
    if op.string("mode") != "nearest":
        raise op.refuse(f"mode {op.string('mode')!r} is not supported (nearest is)")
    if op.version == 10:
        return _nearest(op, _asymmetric(op, op.known(1)))
    if op.integers("axes") is not None or op.string("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise op.refuse("axes and keep_aspect_ratio_policy are not supported")
    scales = op.known(2) if op.optional(2) is not None and op.value(2).size else None
    sizes = op.known_integers(3) if scales is None else tuple(int(np.floor(n * s)) for n, s in zip(x.shape, float64(scales), strict=True))
    if sizes is None or len(sizes) != len(x.shape):
        raise op.malformed("neither scales nor sizes are given for every axis")
    op.builder.check_size(sizes)
    ratios = [m / n for n, m in zip(x.shape, sizes, strict=True)] if scales is None else [float(s) for s in scales]
    return _nearest(op, [_source(op, n, m, r) for n, m, r in zip(x.shape, sizes, ratios, strict=True)])


def _asymmetric(op: Operator, scales: Array) -> list[Array]:
    """Output position i reads floor(i / scale)."""
    sizes = [int(np.floor(n * s)) for n, s in zip(op.variable(0).shape, float64(scales), strict=True)]
    op.builder.check_size(sizes)
    return [np.floor(np.arange(size) / s) for size, s in zip(sizes, float64(scales), strict=True)]


def _source(op: Operator, size: int, resized: int, ratio: float) -> Array:
    """The input coordinate that each output position of one axis reads (ONNX Resize, attribute coordinate_transformation_mode)."""
    i = np.arange(resized)
    x: Array
    if ratio == 1:
        return i.astype(np.float64)
    match op.string("coordinate_transformation_mode"):
        case "asymmetric":
            x = i / ratio
        case "half_pixel":
            x = (i + 0.5) / ratio - 0.5
        case "pytorch_half_pixel":
            x = (i + 0.5) / ratio - 0.5 if resized > 1 else i * 0.0
        case "align_corners":
            x = i * (size - 1) / (resized - 1) if resized > 1 else i * 0.0
        case mode:
            raise op.refuse(f"coordinate_transformation_mode {mode!r} is not supported")
    match op.string("nearest_mode"):
        case "round_prefer_floor":
            x = np.ceil(x - 0.5)
        case "round_prefer_ceil":
            x = np.floor(x + 0.5)
        case "floor":
            x = np.floor(x)
        case "ceil":
            x = np.ceil(x)
        case mode:
            raise op.refuse(f"nearest_mode {mode!r} is not supported")
    return x


def _nearest(op: Operator, sources: list[Array]) -> Value:
    x = op.variable(0)
    clipped = [np.clip(s, 0, n - 1).astype(np.int64) for s, n in zip(sources, x.shape, strict=True)]
    return op.builder.gather(x, indices(x.shape)[np.ix_(*clipped)])
