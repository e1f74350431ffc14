"""Operators that only move, copy or drop elements: the standard's reference implementation moves the flat indices."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graph.linear_map import LinearMap
from graph.lowering.arithmetic import concat, float64
from graph.lowering.builder import Known, Tensor, Value, indices
from graph.lowering.operator import Operator

Array = NDArray[Any]

_PAD_MODES: dict[str, Literal["edge", "reflect", "wrap"]] = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}


def lower_reindex(op: Operator) -> list[Value]:
    """Any operator that moves elements of input 0 (or fills up with zeros) and whose other inputs are constants."""
    x = op.variable(0)
    others = [op.known(i) if op.optional(i) is not None else None for i in range(1, len(op.inputs))]
    return [op.builder.gather(x, index - 1) for index in op.reference([indices(x.shape) + 1, *others])]


def lower_split(op: Operator) -> list[Value]:
    shape = op.value(0).shape
    sizes = op.known_integers(1) if op.version >= 13 else op.integers("split")
    if sizes is not None and sum(sizes) != shape[op.axis(op.integer("axis"), len(shape))]:  # the reference implementation would cut the last part
        raise op.malformed(f"its parts {sizes} do not add up to its input")
    return lower_reindex(op)


def lower_identity(op: Operator) -> Value:
    return op.variable(0)


def lower_dropout(op: Operator) -> list[Value]:
    """Dropout does nothing at inference, nor in training with ratio 0; its mask is true then."""
    x, given = op.variable(0), op.optional(1) if op.version >= 12 else None
    training = op.version >= 12 and op.optional(2) is not None and bool(op.known(2).any())
    if training and not (isinstance(given, Known) and not given.value.any()):
        raise op.refuse("training mode is not supported; export the model for inference")
    if op.version < 12 and len([name for name in op.node.output if name]) > 1:
        raise op.refuse("the mask output is not supported before opset 12")
    return [x, Known(np.ones(x.shape, dtype=bool))]


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
    given = op.optional(2) if op.version >= 11 else Known(np.array(op.real("value")))
    fill = 0.0 if given is None or isinstance(given, Tensor) else float(given.value.reshape(()))
    axes = op.known_integers(3) if op.version >= 18 else None
    axes = tuple(range(rank)) if axes is None else tuple(op.axis(a, rank) for a in axes)
    mode = op.string("mode", "constant")
    if pads is None or len(pads) != 2 * len(axes) or mode not in ("constant", *_PAD_MODES):
        raise op.refuse(f"mode {mode!r} with pads {pads} is not supported (constant, edge, reflect and wrap are)")
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
    if isinstance(given, Tensor) and mode == "constant":
        return op.builder.gather(concat(op.builder, [x, given]), np.where(index < 0, x.size, index))
    return op.builder.gather(x, index, np.where(index < 0, fill, 0.0) if fill and mode == "constant" else None)
