"""The operators that networks are drawn from: each takes a tensor of any shape and gives one, with what it costs.

Shapes are solved, not rejected (`shapes`). Functions of one variable and comparisons are in `activations`, convolutions and pools in `windows`, what
else takes a tensor apart, sorts or averages it in `reductions`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from onnx import helper

from benchmarks.strategies.activations import ACTIVATIONS
from benchmarks.strategies.builder import ROUNDING, Builder, Draw, Tensor, largest, seldom, weights
from benchmarks.strategies.reductions import REDUCTIONS
from benchmarks.strategies.shapes import cut, matrix, partner, row, sequence, small, some_divisor
from benchmarks.strategies.windows import average_pool, conv, conv_transpose, global_average, max_pool

# --- linear operators --------------------------------------------------------------------------------------------------------

FACTORS = (1.0, 0.5, 2.0, -1.0, float(np.float32(0.1)), 0.0)  # alpha and beta of Gemm


def _gemm(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """alpha A B + beta C for constants B and C. A is the tensor as a row, or seldom what transA makes of it as a matrix."""
    turned, m = seldom(draw), draw(st.integers(1, 4))
    a = matrix(b, draw, x) if turned else row(b, x)
    rows, n = a.shape[::-1] if turned else a.shape
    transposed, scaled = draw(st.booleans()), seldom(draw)
    alpha, beta = (draw(st.sampled_from(FACTORS)) if scaled else 1.0 for _ in range(2))
    weight, bias = weights(draw, n, m), weights(draw, m)
    stored = weight.T.copy() if transposed else weight
    gain, shift = abs(alpha) * float(np.abs(weight).sum(axis=0).max()), abs(beta) * largest(bias)
    written = {"alpha": alpha, "beta": beta, "transA": int(turned)}
    unusual = {name: value for name, value in written.items() if value != (0 if name == "transA" else 1)}
    y = b.linear("Gemm", a, [b.constant(stored), b.constant(bias)], (rows, m), gain, shift, n + 3, transB=int(transposed), **unusual)
    y = y if rows == 1 else b.reindexed("Flatten", y, [], (1, y.size), axis=0)
    b.tensors = [tensor for tensor in b.tensors if tensor.shape[0] == 1]  # every operator leaves the first axis alone
    return y


def _matmul(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    n, m = x.shape[-1], draw(st.integers(1, 4))
    weight = weights(draw, n, m)
    return b.linear("MatMul", x, [b.constant(weight)], (*x.shape[:-1], m), float(np.abs(weight).sum(axis=0).max()), 0.0, n)


def _batch_norm(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    scale, bias, mean = (weights(draw, x.shape[1]) for _ in range(3))
    variance = np.abs(weights(draw, x.shape[1])) + np.float32(0.25)
    gain = float((np.abs(scale) / np.sqrt(variance)).max())
    parameters = [b.constant(a) for a in (scale, bias, mean, variance)]
    return b.linear("BatchNormalization", x, parameters, x.shape, gain, gain * largest(mean) + largest(bias), 8)


def _constant_arithmetic(operator: str) -> Callable[[Builder, Draw, Tensor], Tensor]:
    def build(b: Builder, draw: Draw, x: Tensor) -> Tensor:
        value = weights(draw, x.shape[-1])
        gain, shift = (largest(value), 0.0) if operator == "Mul" else (1.0, largest(value))
        if operator == "Div":
            value = (np.sign(value) + (value == 0)) * np.exp2(np.round(value)).astype(np.float32)
            gain, shift = largest(1 / value), 0.0
        return b.linear(operator, x, [b.constant(value)], x.shape, gain, shift, 1)

    return build


def _branches(operator: str) -> Callable[[Builder, Draw, Tensor], Tensor]:
    def build(b: Builder, draw: Draw, x: Tensor) -> Tensor:
        y = partner(b, draw, x)
        magnitude = x.magnitude * y.magnitude if operator == "Mul" else x.magnitude + y.magnitude
        error = _product_error(x, y) if operator == "Mul" else x.error + y.error
        return b.emit(operator, [x.name, y.name], x.shape, magnitude, error + 2 * ROUNDING * magnitude)

    return build


def _product_error(x: Tensor, y: Tensor) -> float:
    return x.error * (y.magnitude + y.error) + y.error * x.magnitude


def _matmul_of_branches(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = sequence(b, draw, x)
    y = _transpose(b, draw, partner(b, draw, x), swap_last=True)
    n = x.shape[-1]
    magnitude = n * x.magnitude * y.magnitude
    shape = (*x.shape[:-1], y.shape[-1])
    return b.emit("MatMul", [x.name, y.name], shape, magnitude, n * _product_error(x, y) + (n + 2) * ROUNDING * magnitude)


def _concat(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    axis = draw(st.integers(1, len(x.shape) - 1))
    x = small(b, x, axis)
    y = partner(b, draw, x)
    shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return b.emit("Concat", [x.name, y.name], shape, max(x.magnitude, y.magnitude), max(x.error, y.error), axis=axis)


# --- re-indexing -------------------------------------------------------------------------------------------------------------


def _slice(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    axis = draw(st.integers(1, len(x.shape) - 1))
    n = x.shape[axis]
    start = draw(st.integers(0, n - 1))
    return cut(b, x, axis, start, draw(st.integers(start + 1, n)), draw(st.integers(1, 2)))


def _gather(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    axis = draw(st.integers(1, len(x.shape) - 1))
    index = draw(st.lists(st.integers(-x.shape[axis], x.shape[axis] - 1), min_size=1, max_size=3))
    shape = (*x.shape[:axis], len(index), *x.shape[axis + 1 :])
    return b.reindexed("Gather", x, [b.constant(np.array(index, np.int64))], shape, axis=axis)


def _split(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Two parts, both can be used later; or one part, where every axis has length 1."""
    axis = draw(st.sampled_from([k for k in range(1, len(x.shape)) if x.shape[k] > 1] or [1]))
    first = draw(st.integers(1, max(1, x.shape[axis] - 1)))
    sizes = [size for size in (first, x.shape[axis] - first) if size]
    parts = [Tensor(f"t{len(b.nodes)}_{k}", (*x.shape[:axis], n, *x.shape[axis + 1 :]), x.magnitude, x.error) for k, n in enumerate(sizes)]
    inputs = [x.name, b.constant(np.array(sizes, np.int64))]
    b.nodes.append(helper.make_node("Split", inputs, [part.name for part in parts], name=f"Split_{len(b.nodes)}", axis=axis))
    b.tensors += parts
    return draw(st.sampled_from(parts))


def _reshaped(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    rows = some_divisor(draw, x.size)
    shape = draw(st.sampled_from([(1, x.size), (1, rows, x.size // rows), (1, 1, rows, x.size // rows)]))
    written = [-1 if draw(st.booleans()) and k == len(shape) - 1 else n for k, n in enumerate(shape)]
    return b.reindexed("Reshape", x, [b.constant(np.array(written, np.int64))], shape)


def _unsqueeze(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """An axis more, or where there are four already, one less."""
    if len(x.shape) < 4:
        axis = draw(st.integers(1, len(x.shape)))
        return b.reindexed("Unsqueeze", x, [b.constant(np.array([axis], np.int64))], (*x.shape[:axis], 1, *x.shape[axis:]))
    return _squeeze(b, draw, x)


def _squeeze(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Without one axis of length 1; where there is none, one is made first."""
    axes = [k for k in range(1, len(x.shape)) if x.shape[k] == 1 and len(x.shape) > 2]
    if not axes:
        x, axes = b.reshape(x, (1, 1, x.size)), [1]
    axis = draw(st.sampled_from(axes))
    return b.reindexed("Squeeze", x, [b.constant(np.array([axis], np.int64))], (*x.shape[:axis], *x.shape[axis + 1 :]))


def _pad(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Constants around the last axis."""
    x = small(b, x, len(x.shape) - 1)
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    value = weights(draw, 1)
    pads = np.zeros((2, len(x.shape)), np.int64)
    pads[:, -1] = before, after
    operands = [x.name, b.constant(pads.reshape(-1)), b.constant(value.reshape(()))]
    return b.emit("Pad", operands, (*x.shape[:-1], x.shape[-1] + before + after), max(x.magnitude, largest(value)), x.error)


def _transpose(b: Builder, draw: Draw, x: Tensor, swap_last: bool = False) -> Tensor:
    rank = len(x.shape)
    order = [*range(rank - 2), rank - 1, rank - 2] if swap_last else [0, *draw(st.permutations(range(1, rank)))]
    return b.reindexed("Transpose", x, [], tuple(x.shape[i] for i in order), perm=order)


# --- functions ---------------------------------------------------------------------------------------------------------------


def _clip(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    low, high = sorted(weights(draw, 2).tolist())
    high += (low == high) / 64  # a constant is no activation, and some verifiers refuse it
    limits = tuple(b.constant(np.array(v, np.float32)) for v in (low, high))
    return b.piecewise("Clip", x, max(abs(low), abs(high)), limits)


def _leaky_relu(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    return b.piecewise("LeakyRelu", x, x.magnitude, alpha=draw(st.sampled_from([0.0, 0.125, 0.5, 0.01])))


def _exp(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = b.tame(x, 3.0)
    top = math.exp(x.magnitude + x.error)
    return b.function("Exp", x, top, top)


def _pow(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    n = draw(st.integers(2, 3))
    steepest = n * (x.magnitude + x.error) ** (n - 1)
    return b.function("Pow", x, x.magnitude**n, steepest, (b.constant(np.float32(n).reshape(1)),))


def _above_one(b: Builder, y: Tensor) -> Tensor:
    """y y + 1."""
    square = b.emit("Mul", [y.name, y.name], y.shape, y.magnitude**2, _product_error(y, y) + 2 * ROUNDING * y.magnitude**2)
    return b.linear("Add", square, [b.constant(np.ones(1, np.float32))], y.shape, 1.0, 1.0, 1)


def _of_above_one(operator: str, magnitude: Callable[[float], float]) -> Callable[[Builder, Draw, Tensor], Tensor]:
    """A function with a domain, of a tensor that is at least 1; its slope there is at most 1."""

    def build(b: Builder, draw: Draw, x: Tensor) -> Tensor:
        positive = _above_one(b, x)
        return b.function(operator, positive, magnitude(positive.magnitude), 1.0)

    return build


def _div(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """x / (y y + 1): the divisor is at least 1."""
    divisor = _above_one(b, partner(b, draw, x))
    error = x.error + x.magnitude * divisor.error + 4 * ROUNDING * x.magnitude
    return b.emit("Div", [x.name, divisor.name], x.shape, x.magnitude, error)


def _bounded(operator: str, lipschitz: float = 1.0) -> Callable[[Builder, Draw, Tensor], Tensor]:
    return lambda b, draw, x: b.function(operator, x, 1.0, lipschitz)


def _softmax(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    return b.function("Softmax", x, 1.0, 1.0, axis=draw(st.sampled_from([-1, len(x.shape) - 1])))


def _reduce(operator: str) -> Callable[[Builder, Draw, Tensor], Tensor]:
    def build(b: Builder, draw: Draw, x: Tensor) -> Tensor:
        axis, keep = draw(st.integers(1, len(x.shape) - 1)), draw(st.booleans())
        keep = keep or len(x.shape) == 2  # else the result would be a vector without a batch axis of its own
        n = x.shape[axis]
        shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
        if operator == "ReduceSum":
            return b.linear(operator, x, [b.constant(np.array([axis], np.int64))], shape, float(n), 0.0, n, keepdims=int(keep))
        return b.linear(operator, x, [], shape, 1.0, 0.0, n, axes=[axis], keepdims=int(keep))

    return build


Operator = Callable[[Builder, Draw, Tensor], Tensor]
BUILDERS: dict[str, Operator] = {
    "Gemm": _gemm,
    "Relu": lambda b, draw, x: b.piecewise("Relu", x, x.magnitude),
    "Conv": conv,
    "MaxPool": max_pool,
    "MatMul": _matmul,
    "Add": _branches("Add"),
    "Sub": _branches("Sub"),
    "Mul": _branches("Mul"),
    "Max": _branches("Max"),
    "Min": _branches("Min"),
    "MatMul of two branches": _matmul_of_branches,
    "Add constant": _constant_arithmetic("Add"),
    "Sub constant": _constant_arithmetic("Sub"),
    "Mul constant": _constant_arithmetic("Mul"),
    "Div constant": _constant_arithmetic("Div"),
    "BatchNormalization": _batch_norm,
    "ConvTranspose": conv_transpose,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average,
    "Concat": _concat,
    "Slice": _slice,
    "Gather": _gather,
    "Split": _split,
    "Pad": _pad,
    "Transpose": _transpose,
    "Flatten": lambda b, draw, x: b.reindexed("Flatten", x, [], (1, x.size), axis=1),
    "Reshape": _reshaped,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Identity": lambda b, draw, x: b.reindexed("Identity", x, [], x.shape),
    "Neg": lambda b, draw, x: b.reindexed("Neg", x, [], x.shape),
    "LeakyRelu": _leaky_relu,
    "Abs": lambda b, draw, x: b.piecewise("Abs", x, x.magnitude),
    "Clip": _clip,
    "Sigmoid": _bounded("Sigmoid"),
    "Tanh": _bounded("Tanh"),
    "Erf": _bounded("Erf", 1.25),
    "Exp": _exp,
    "Sin": _bounded("Sin"),
    "Cos": _bounded("Cos"),
    "Softplus": lambda b, draw, x: b.function("Softplus", x, x.magnitude + 1.0, 1.0),
    "Sqrt": _of_above_one("Sqrt", math.sqrt),
    "Log": _of_above_one("Log", math.log),
    "Reciprocal": _of_above_one("Reciprocal", lambda _: 1.0),
    "Pow": _pow,
    "Softmax": _softmax,
    "Div": _div,
    "ReduceMean": _reduce("ReduceMean"),
    "ReduceSum": _reduce("ReduceSum"),
    "ReduceMax": _reduce("ReduceMax"),
    **ACTIVATIONS,
    **REDUCTIONS,
}
OPERATORS = tuple(BUILDERS)
