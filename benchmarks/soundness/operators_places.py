"""Operators that only move elements, or make constants and shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, numpy_helper

from benchmarks.soundness.rule import Call, Rule, UnknownOperator, Value
from benchmarks.soundness.tensor import Array, Tensor, of_floats, of_integers


def _shape(value: Tensor | Array) -> tuple[int, ...]:
    return tuple(value.shape)


def _reshape(call: Call) -> Value:
    shape, keep = _shape(call.value(0)), not call.take("allowzero", 0)
    target = call.integers(1) or []
    sizes = [shape[i] if d == 0 and keep else d for i, d in enumerate(target)]
    return call.same(0, lambda a: a.reshape(sizes))


def _flatten(call: Call) -> Value:
    shape, axis = _shape(call.value(0)), call.take("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return call.same(0, lambda a: a.reshape(int(np.prod(shape[:axis])), int(np.prod(shape[axis:]))))


def _transpose(call: Call) -> Value:
    order = call.take("perm")
    return call.same(0, lambda a: a.transpose(order))


def _squeeze(call: Call) -> Value:
    axes = call.integers(1, "axes")
    return call.same(0, lambda a: np.squeeze(a, axis=None if axes is None else tuple(axes)))


def _unsqueeze(call: Call) -> Value:
    axes = call.integers(1, "axes")
    return call.same(0, lambda a: np.expand_dims(a, tuple(axes or ())))


def joined(values: Sequence[Tensor | Array], axis: int) -> Tensor | Array:
    """Concat of tensors (over a common denominator), or of whole numbers."""
    if not any(isinstance(v, Tensor) for v in values):
        return np.concatenate([np.asarray(v) for v in values], axis=axis)
    tensors = [v if isinstance(v, Tensor) else of_integers(v) for v in values]
    common = Tensor(np.zeros((), dtype=object), int(np.lcm.reduce(np.array([t.denominator for t in tensors], dtype=object))))
    aligned = [_over(t, common.denominator) for t in tensors]
    radius = None
    if any(t.radius is not None for t in aligned):
        radius = np.concatenate([np.zeros(t.shape, dtype=object) if t.radius is None else t.radius for t in aligned], axis=axis)
    return Tensor(np.concatenate([t.centre for t in aligned], axis=axis), common.denominator, radius)


def _over(tensor: Tensor, denominator: int) -> Tensor:
    factor = denominator // tensor.denominator
    return Tensor(tensor.centre * factor, denominator, None if tensor.radius is None else tensor.radius * factor)


def _concat(call: Call) -> Value:
    return joined([call.value(i) for i in range(len(call.inputs))], call.take("axis"))


def _split(call: Call) -> list[Value]:
    axis, parts = call.take("axis", 0), call.take("num_outputs", call.outputs)
    size = _shape(call.value(0))[axis]
    each = -(-size // parts)
    sizes = call.integers(1, "split", [min(each, size - i * each) for i in range(parts)]) or []
    if sum(sizes) != size or len(sizes) != call.outputs:
        raise UnknownOperator(f"Split of {size} into {sizes}")
    ends = np.cumsum([0, *sizes])
    value = call.value(0)
    return [_take(value, np.arange(ends[i], ends[i + 1]), axis) for i in range(len(sizes))]


def _slice(call: Call) -> Value:
    starts, ends = call.integers(1, "starts") or [], call.integers(2, "ends") or []
    axes, steps = call.integers(3, "axes", range(len(starts))) or [], call.integers(4, "", [1] * len(starts)) or []
    shape = _shape(call.value(0))
    index: list[slice] = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        index[axis] = _range(start, end, step, size)
    return call.same(0, lambda a: a[tuple(index)])


def _range(start: int, end: int, step: int, size: int) -> slice:
    """ONNX's clamping: a negative number counts from the end once; for a negative step the end may lie before the first element."""
    start, end = (v + size if v < 0 else v for v in (start, end))
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    if step == 0:
        raise UnknownOperator("Slice with step 0")
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(start, None if end == -1 else end, step)


def _gather(call: Call) -> Value:
    axis, places = call.take("axis", 0), np.asarray(call.value(1))
    if places.dtype.kind not in "iu":
        raise UnknownOperator("Gather at places that are not whole numbers")
    return call.same(0, lambda a: np.take(a, places, axis=axis))


def _gather_elements(call: Call) -> Value:
    axis, places = call.take("axis", 0), np.asarray(call.value(1))
    return call.same(0, lambda a: np.take_along_axis(a, np.where(places < 0, places + a.shape[axis], places), axis=axis))


def _expand(call: Call) -> Value:
    target = call.integers(1) or []
    return call.same(0, lambda a: np.broadcast_to(a, np.broadcast_shapes(a.shape, tuple(target))))


def _tile(call: Call) -> Value:
    repeats = call.integers(1) or []
    return call.same(0, lambda a: np.tile(a, repeats))


def _pad(call: Call) -> Value:
    mode, value = call.take("mode", "constant"), call.value(0)
    pads = call.integers(1, "pads") or []
    axes = call.integers(3, "", range(len(_shape(value)))) or []
    if call.opset < 11:
        filler: Tensor | Array = of_floats(np.array(call.take("value", 0.0)))
    else:
        filler = call.value(2) if call.has(2) else np.zeros((), dtype=np.int64)
    for i, axis in enumerate(axes):
        value = _pad_axis(value, axis, pads[i], pads[len(axes) + i], mode, filler)
    return value


def _pad_axis(value: Tensor | Array, axis: int, before: int, after: int, mode: str, filler: Tensor | Array) -> Tensor | Array:
    size = _shape(value)[axis]
    if before < 0 or after < 0:  # negative pads remove
        value = _take(value, np.arange(max(0, -before), size - max(0, -after)), axis)
        before, after, size = max(0, before), max(0, after), _shape(value)[axis]
    places = np.arange(-before, size + after)
    match mode:
        case "edge":
            return _take(value, places.clip(0, size - 1), axis)
        case "reflect":
            period = max(1, 2 * (size - 1))
            folded = places % period
            return _take(value, np.where(folded >= size, period - folded, folded), axis)
        case "wrap":
            return _take(value, places % size, axis)
        case "constant":
            shape = [list(_shape(value)) for _ in range(2)]
            shape[0][axis], shape[1][axis] = before, after
            sides = [_filled(filler, s) for s in shape]
            return joined([sides[0], value, sides[1]], axis)
    raise UnknownOperator(f"Pad in mode {mode}")


def _take(value: Tensor | Array, places: Array, axis: int) -> Tensor | Array:
    return value.moved(lambda a: np.take(a, places, axis=axis)) if isinstance(value, Tensor) else np.take(value, places, axis=axis)


def _filled(filler: Tensor | Array, shape: Sequence[int]) -> Tensor | Array:
    if isinstance(filler, Tensor):
        return filler.moved(lambda a: np.broadcast_to(a.reshape(()), tuple(shape)))
    return np.broadcast_to(np.asarray(filler).reshape(()), tuple(shape))


def _depth_to_space(call: Call) -> Value:
    block, mode = call.take("blocksize"), call.take("mode", "DCR")
    n, c, h, w = _shape(call.value(0))
    deep = c // block**2
    if mode == "DCR":
        return call.same(0, lambda a: a.reshape(n, block, block, deep, h, w).transpose(0, 3, 4, 1, 5, 2).reshape(n, deep, h * block, w * block))
    if mode == "CRD":
        return call.same(0, lambda a: a.reshape(n, deep, block, block, h, w).transpose(0, 1, 4, 2, 5, 3).reshape(n, deep, h * block, w * block))
    raise UnknownOperator(f"DepthToSpace in mode {mode}")


def _space_to_depth(call: Call) -> Value:
    block = call.take("blocksize")
    n, c, h, w = _shape(call.value(0))
    low, wide = h // block, w // block
    return call.same(0, lambda a: a.reshape(n, c, low, block, wide, block).transpose(0, 3, 5, 1, 2, 4).reshape(n, c * block**2, low, wide))


def _constant(call: Call) -> Value:
    if "value" in call.attributes:
        return _typed(numpy_helper.to_array(call.take("value")))
    for name, kind in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if name in call.attributes:
            return _typed(np.array(call.take(name), dtype=kind))
    raise UnknownOperator("Constant without a value")


def _typed(array: Array) -> Tensor | Array:
    return of_floats(array) if array.dtype.kind == "f" else array


def _constant_of_shape(call: Call) -> Value:
    value = call.take("value")
    filler = np.zeros(1, dtype=np.float32) if value is None else numpy_helper.to_array(value)
    return _typed(np.full(call.integers(0) or [], filler.reshape(-1)[0]))


def _shape_of(call: Call) -> Value:
    shape = _shape(call.value(0))
    start, end = call.take("start", 0), call.take("end", len(shape))
    return np.array(shape[start:end], dtype=np.int64)


def _cast(call: Call) -> Value:
    to, value = call.take("to"), call.value(0)
    if to in (TensorProto.FLOAT, TensorProto.DOUBLE):
        return call.tensor(0)  # over the reals nothing is rounded
    if to in (TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL) and not isinstance(value, Tensor):
        return value.astype(bool if to == TensorProto.BOOL else np.int64)
    raise UnknownOperator(f"Cast to type {to}")


def _same(call: Call) -> Value:
    return call.value(0)


def _dropout(call: Call) -> Value:
    call.take("ratio"), call.take("seed")
    if (call.has(2) and np.asarray(call.value(2)).any()) or call.outputs != 1:
        raise UnknownOperator("Dropout that trains, or with a mask")
    return call.value(0)


PLACES: dict[str, Rule] = {
    "Reshape": _reshape, "Flatten": _flatten, "Transpose": _transpose, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Concat": _concat,
    "Split": _split, "Slice": _slice, "Gather": _gather, "GatherElements": _gather_elements, "Expand": _expand, "Tile": _tile, "Pad": _pad,
    "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth, "Constant": _constant, "ConstantOfShape": _constant_of_shape,
    "Shape": _shape_of, "Cast": _cast, "Identity": _same, "Dropout": _dropout,
}  # fmt: skip
