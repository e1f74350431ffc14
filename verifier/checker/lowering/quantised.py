"""Quantisation: q = clip(round(x / scale), lower - zero, upper - zero) + zero, and back. Two sites: a Clip, then rounding half to even.

What operators compute between quantised tensors is whole numbers, exact in every arithmetic that does not overflow, which is tested; how a
runtime scales them afterwards is its own affair: over the reals only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from verifier.checker.lowering.basic import common, matrix_product, multiply, swap, total
from verifier.checker.lowering.builder import RELU, Array, Held, Known, Rounded, Shape, Tensor, Value, indices, take
from verifier.checker.lowering.contributed import concatenated
from verifier.checker.lowering.elementwise import clipping
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.rows import softmax
from verifier.checker.lowering.windows import conv
from verifier.checker.network import Pieces, Smooth

ROUND = Pieces(step="round")
KINDS = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32"}  # ONNX element types
RADIUS = 2.0**-50  # relative, of a product and a quotient of scales
LARGEST, EXACT = 2**31 - 1, 2**29
SCALED = "a scale that a runtime computes"


@dataclass(frozen=True, eq=False)
class Steps:
    """The size of a step, the whole number that stands for 0 (both broadcast with the tensor), and the integer type."""

    size: Array
    zero: Array
    kind: str

    def limits(self) -> tuple[float, float]:
        found = np.iinfo(self.kind)
        return float(found.min), float(found.max)


def _steps(op: Operator, at: int, zero: int, shape: Shape = (), kind: str = "uint8") -> Steps:
    """From inputs `at` and `zero`; of a tensor of `shape` perhaps along an axis, or in blocks of it."""
    size, given = op.known_floats(at), np.zeros((), dtype=kind) if op.optional(zero) is None else op.known(zero)
    op.require(bool((size > 0).all()) and given.dtype.name in KINDS.values(), f"steps of type {given.dtype}")
    return Steps(_spread(op, size, shape), _spread(op, given.astype(np.float64), shape), given.dtype.name)


def _spread(op: Operator, v: Array, shape: Shape) -> Array:
    if v.size == 1:
        return v.reshape(())
    axis = op.axis(op.integer("axis", 1), len(shape))
    if v.ndim == 1:
        op.require(v.size == shape[axis], f"{v.size} steps for {shape[axis]} places")
        return v.reshape(-1, *(1,) * (len(shape) - axis - 1))
    block = op.integer("block_size", 0)
    op.require(block >= 1 and v.ndim == len(shape) and v.shape[axis] == -(-shape[axis] // block), f"steps of shape {v.shape}")
    return np.repeat(v, block, axis=axis)[tuple(slice(n) for n in shape)]


def _quantised(op: Operator, x: Tensor, to: Steps) -> Tensor:
    """x, in steps, rounded and cut; not yet an output."""
    lower, upper = to.limits()
    cut = op.builder.elementwise(clipping(lower - float(to.zero.max()), upper - float(to.zero.min())), x)
    found = op.builder.elementwise(ROUND, cut)
    if to.zero.any():
        found = op.builder.plus(op.builder.linear(take(found, indices(found.shape)), found, found.shape), np.broadcast_to(to.zero, found.shape))
    return found if to.zero.min() == to.zero.max() else op.builder.elementwise(clipping(lower, upper), found)


def quantize_linear(op: Operator) -> Value:
    x = op.tensor(0)
    to = _steps(op, 1, 2, x.shape, KINDS.get(op.integer("output_dtype", 0) or 2, ""))
    shape = np.broadcast_shapes(x.shape, to.size.shape)
    op.require(shape == x.shape, f"steps of shape {to.size.shape}")
    steps = op.stage(op.builder.scale(x, 1 / to.size, np.abs(1 / to.size) * RADIUS), "affine", 3, sources=(x,))
    return op.end(_quantised(op, steps, to), "exact", element=to.kind)


def quantize_constant(op: Operator) -> Held:
    """Rounded as the reals do. Where float32, whose quotient is a little off, may round to another step, that is all that is said."""
    x, kind = op.known_floats(0), KINDS.get(op.integer("output_dtype", 0) or 2, "")
    to = _steps(op, 1, 2, x.shape, kind)
    size = np.broadcast_to(to.size, x.shape)
    steps = x / size  # right to one part in 2^53
    middle = np.floor(steps) + 0.5
    away = np.abs(steps - middle)
    found, least, most = np.rint(steps), *to.limits()
    for at in np.argwhere(away <= np.abs(steps) * 2.0**-50):
        i = tuple(at)
        found[i] = round(Fraction(float(x[i])) / Fraction(float(size[i])))
    found = np.clip(found, least - to.zero, most - to.zero) + to.zero
    sure = (away > np.abs(steps) * 2.0**-20) | (np.abs(steps) > most - least + 1)
    exact = found.astype(to.kind)
    return Known(exact) if sure.all() else Rounded(exact, -1)


def dequantize_linear(op: Operator) -> Held:
    """Of constants too: whole numbers times a step, which float32 rounds."""
    x = op.value(0)
    of = _steps(op, 1, 2, x.shape, x.element)
    op.require(x.element == of.kind, f"whole numbers of type {x.element}")
    if isinstance(x, Known):
        whole, exact = _restored_constant(x, of)
        return op.made(whole * of.size, 1) if exact else op.end(op.builder.scale(op.builder.constant(whole), of.size), "affine", 1)
    return op.end(op.builder.scale(_centred(op, x, of.zero), of.size), "affine", 2)


def _restored_constant(x: Known, of: Steps) -> tuple[Array, bool]:
    """x - zero, and whether that times the size of a step is exact: 29 bits times 24, no float32 so small that more than its last bit is lost."""
    whole, narrow = x.value.astype(np.float64) - of.zero, of.size.astype(np.float32)
    return whole, bool((np.abs(whole) < EXACT).all() and (narrow == of.size).all() and (narrow > 2.0**-100).all())


def _centred(op: Operator, x: Tensor, zero: Array) -> Tensor:
    """x - zero, exactly."""
    if not zero.any():
        return x
    return op.builder.affine([(take(x, indices(x.shape)), x)], np.broadcast_to(-zero, x.shape), x.shape)


def _operand(op: Operator, i: int, zero: Array) -> Value:
    """Input i less its zero point: a tensor, or known whole numbers as floats."""
    x = op.value(i)
    if isinstance(x, Tensor):
        op.require(x.element in ("uint8", "int8"), f"whole numbers of type {x.element}")
        return op.stage(_centred(op, x, zero), "exact", sources=(x,))
    op.require(x.value.dtype in (np.uint8, np.int8), f"whole numbers of type {x.value.dtype}")
    return Known(x.value.astype(np.float64) - zero)


def _zero(op: Operator, i: int) -> Array:
    if op.optional(i) is None:
        return np.zeros(())
    found = op.known(i)
    op.require(found.dtype in (np.uint8, np.int8), f"a zero point of type {found.dtype}")
    return found.astype(np.float64).reshape(() if found.size == 1 else found.shape)


def _convolved(op: Operator, x: Value, weight: Array, bias: Value | None) -> Tensor:
    """As a float operator on whole numbers."""
    op.require(not op.flag("channels_last", 0), "channels_last")
    op.require(isinstance(x, Tensor) and 2**18 * math.prod(weight.shape[1:]) < LARGEST, "constant data, or sums beyond 32 bits")
    inputs = (x, Known(weight), bias)
    return op.as_tensor(conv(replace(op, inputs=inputs, held=inputs)))


def _without_zero(op: Operator) -> Value:
    """Input 0 less its zero point, input 2: a constant (one for each row, perhaps), or a number that DynamicQuantizeLinear chose."""
    x, zero = op.value(0), op.optional(2)
    if not isinstance(zero, Tensor):
        rows = _zero(op, 2)
        return _operand(op, 0, rows.reshape(-1, 1) if rows.ndim else rows)
    op.require(isinstance(x, Tensor) and x.element == zero.element == "uint8" and zero.size == 1, "a zero point that depends on the input")
    return op.stage(total(op.builder, [op.as_tensor(x), zero], [1.0, -1.0]), "exact", sources=(op.as_tensor(x), zero))


def conv_integer(op: Operator) -> Value:
    w = _operand(op, 1, _per_channel(_zero(op, 3), len(op.value(1).shape)))
    op.require(isinstance(w, Known), "a weight that depends on the input")
    found = _convolved(op, _without_zero(op), w.value if isinstance(w, Known) else np.zeros(1), None)
    return op.end(found, "exact", element="int32")


def _per_channel(v: Array, rank: int) -> Array:
    return v.reshape(-1, *(1,) * (rank - 1)) if v.ndim else v


def matmul_integer(op: Operator) -> Value:
    return op.end(_product(op, _without_zero(op), _operand(op, 1, _zero(op, 3))), "exact", element="int32")


def _product(op: Operator, a: Value, b: Value) -> Tensor:
    op.require(2**18 * a.shape[-1] < LARGEST, "sums beyond 32 bits")
    return matrix_product(op.builder, a, b)


def _written(op: Operator, found: Tensor, factor: Array, to: Steps) -> Tensor:
    """Whole numbers times `factor`, in steps of the output."""
    op.require(common(found, Known(np.broadcast_to(factor, factor.shape))) == found.shape, f"steps of shape {factor.shape}")
    scaled = op.builder.scale(found, factor, np.abs(factor) * RADIUS)
    return op.end(_quantised(op, scaled, to), "refused", name=SCALED, element=to.kind)


def qlinear_conv(op: Operator) -> Value:
    given, to, bias, rank = _steps(op, 1, 2), _steps(op, 6, 7), op.optional(8), len(op.value(3).shape)
    size, w = op.known_floats(4), _operand(op, 3, _per_channel(_zero(op, 5), rank))
    op.require(isinstance(w, Known) and given.size.size == to.size.size == 1 and bool((size > 0).all()), "steps of several sizes")
    op.require(bias is None or op.known(8).dtype == np.int32, "a bias of another type")
    whole = None if bias is None else Known(op.known(8).astype(np.float64))
    found = _convolved(op, _operand(op, 0, given.zero), w.value if isinstance(w, Known) else np.zeros(1), whole)
    op.builder.stage()
    channels = size.reshape(-1, *(1,) * (rank - 2)) if size.size > 1 else size.reshape(())
    return _written(op, found, given.size * channels / to.size, to)


def qlinear_matmul(op: Operator) -> Value:
    """Steps of A may be one for each row, those of B one for each column."""
    to, a, b = _steps(op, 6, 7), op.known_floats(1), op.known_floats(4)
    rows, columns = _zero(op, 2), _zero(op, 5)
    op.require(a.ndim <= 1 and b.ndim <= 1 and bool((a > 0).all() and (b > 0).all()), "steps of another shape")
    found = _product(op, _operand(op, 0, rows.reshape(-1, 1) if rows.ndim else rows), _operand(op, 3, columns))
    factor = (a.reshape(-1, 1) if a.size > 1 else a.reshape(())) * (b if b.size > 1 else b.reshape(())) / to.size
    return _written(op, found, factor, to)


def dynamic_quantize_linear(op: Operator) -> list[Value]:
    """The step is a 255th of the range of x and 0."""
    x, b, windows = op.tensor(0), op.builder, indices((1, op.tensor(0).size))
    high = b.elementwise(RELU, b.maximum(x, windows, ()))
    low = b.elementwise(RELU, b.maximum(b.scale(x, np.array(-1.0)), windows, ()))
    size = b.scale(b.sum([high, low]), np.array(1 / 255), np.array(RADIUS / 255))
    inverse = b.elementwise(Smooth("reciprocal"), size)
    zero = _whole(op, b.product(low, inverse), 0.0)
    steps = _whole(op, b.product(x, b.spread(inverse, x.shape)), -255.0)
    found = b.elementwise(clipping(0.0, 255.0), b.sum([steps, b.spread(zero, x.shape)]))
    ends = ((found, "uint8"), (size, "float32"), (zero, "uint8"))
    return [op.end(y, "refused", name="a step that a runtime computes", element=kind) for y, kind in ends]


def _whole(op: Operator, x: Tensor, lower: float) -> Tensor:
    return op.builder.elementwise(ROUND, op.builder.elementwise(clipping(lower, 255.0), x))


# Of com.microsoft: a float operator between quantised tensors


def _restored(op: Operator, i: int) -> Value:
    """Input i, the size of its steps and its zero in the next two, as floats."""
    x, of = op.value(i), _steps(op, i + 1, i + 2)
    op.require(x.element == of.kind, f"whole numbers of type {x.element}")
    if isinstance(x, Known):
        whole, exact = _restored_constant(x, of)
        op.require(exact, "steps that are not float32")
        return Known(whole * of.size)
    return op.stage(op.builder.scale(_centred(op, x, of.zero), of.size), "affine", 2, sources=(x,))


def between(lower: Callable[[Operator], Value], version: int = 1) -> Callable[[Operator], Value]:
    """An operator of the standard, of input 0."""

    def whole(op: Operator) -> Value:
        op.require(not op.flag("channels_last", 0), "channels_last")
        inputs, to = (_restored(op, 0),), _steps(op, 3, 4)
        return _rewritten(op, lower(replace(op, inputs=inputs, held=inputs, version=version)), to)

    return whole


def _rewritten(op: Operator, x: Value, to: Steps) -> Tensor:
    return _written(op, op.stage(op.as_tensor(x), "refused", sources=(), name=SCALED), 1 / to.size, to)


def qlinear_softmax(op: Operator) -> Value:
    return between(softmax, 13 if op.integer("opset", 0) >= 13 else 11)(op)


def qlinear_add(op: Operator) -> Value:
    return _rewritten(op, total(op.builder, [_restored(op, 0), _restored(op, 3)], [1.0, 1.0]), _steps(op, 6, 7))


def qlinear_multiply(op: Operator) -> Value:
    inputs = (_restored(op, 0), _restored(op, 3))
    return _rewritten(op, multiply(replace(op, inputs=inputs, held=inputs)), _steps(op, 6, 7))


def qlinear_concat(op: Operator) -> Value:
    return _rewritten(op, concatenated(op, [_restored(op, i) for i in range(2, len(op.inputs), 3)]), _steps(op, 0, 1))


def q_gemm(op: Operator) -> Value:
    """alpha A' B' + C in whole numbers; without a scale of the output a float."""
    turned, size, zero = op.flag("transB", 0), op.known_floats(4), _zero(op, 5)
    given, alpha, bias = _steps(op, 1, 2), op.real("alpha", 1.0), op.optional(6)
    op.require(bool((size > 0).all()) and size.ndim <= 1 and (bias is None or op.known(6).dtype == np.int32), "steps, or a bias of another type")
    a, b = _operand(op, 0, given.zero), _operand(op, 3, zero.reshape(-1, 1) if turned and zero.ndim else zero)
    a, b = (swap(op.builder, x) if turn else x for x, turn in ((a, op.flag("transA", 0)), (b, turned)))
    found = _product(op, a, b)
    if bias is not None:
        found = op.builder.plus(found, np.broadcast_to(op.known(6).astype(np.float64), found.shape))
    found = op.stage(found, "exact", sources=tuple(x for x in (a, b) if isinstance(x, Tensor)))
    factor = alpha * given.size * size.reshape(() if size.size == 1 else size.shape)
    if op.optional(7) is None:
        return op.end(op.builder.scale(found, factor, np.abs(factor) * RADIUS), "refused", name=SCALED)
    to = _steps(op, 7, 8)
    return _written(op, found, factor / to.size, to)
