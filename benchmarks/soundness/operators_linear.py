"""Operators that add, multiply and divide: all that needs no comparison and no smooth function, but for the root in BatchNormalization."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from benchmarks.soundness.elementary import Enclosure, sqrt
from benchmarks.soundness.rule import Call, Rule, UnknownOperator, Value
from benchmarks.soundness.tensor import Array, Tensor, of_enclosures, of_fractions
from benchmarks.soundness.windows import Axis, axes, inside, spread


def _arithmetic(on_tensors: Callable[[Tensor, Tensor], Tensor], on_integers: Callable[[Array, Array], Array]) -> Rule:
    """An operator of two inputs; the shapes that a file computes are whole numbers and stay so."""

    def rule(call: Call) -> Value:
        a, b = call.value(0), call.value(1)
        if not isinstance(a, Tensor) and not isinstance(b, Tensor):
            return np.asarray(on_integers(a, b))
        return on_tensors(call.tensor(0), call.tensor(1))

    return rule


def _mul(call: Call) -> Value:
    a, b = call.value(0), call.value(1)
    return a.squared() if isinstance(a, Tensor) and a is b else _PRODUCT(call)


_PRODUCT = _arithmetic(Tensor.__mul__, np.multiply)


def inverse(pair: Enclosure) -> Enclosure:
    """1/x. Raises ZeroDivisionError where x may be 0."""
    if pair[0] <= 0 <= pair[1]:
        raise ZeroDivisionError("division by what may be 0")
    return 1 / pair[1], 1 / pair[0]


def reciprocal(tensor: Tensor) -> Tensor:
    """1/x, exact where denominators stay short."""
    return of_enclosures([inverse(pair) for pair in tensor.enclosures()], tensor.shape)


def _no_integers(a: Array, b: Array) -> Array:
    raise UnknownOperator("Div of whole numbers")


def _neg(call: Call) -> Value:
    return -call.tensor(0)


def _sum(call: Call) -> Value:
    total = call.tensor(0)
    for i in range(1, len(call.inputs)):
        total = total + call.tensor(i)
    return total


def _matmul(call: Call) -> Value:
    return call.tensor(0) @ call.tensor(1)


def _gemm(call: Call) -> Value:
    a, b = call.tensor(0), call.tensor(1)
    a = a.moved(np.transpose) if call.take("transA", 0) else a
    b = b.moved(np.transpose) if call.take("transB", 0) else b
    alpha, beta = (Fraction(call.take(name, 1.0)) for name in ("alpha", "beta"))
    product = (a @ b).scaled(alpha)
    return product + call.tensor(2).scaled(beta) if call.has(2) else product


def window_axes(call: Call, sizes: Sequence[int], kernel: Sequence[int]) -> list[Axis]:
    """The windows that the attributes of a convolution or pool describe."""
    n = len(sizes)
    ones = [1] * n
    return axes(
        sizes, kernel, call.take("strides", ones), call.take("dilations", ones), call.take("pads", [0] * 2 * n),
        call.take("auto_pad", "NOTSET"), bool(call.take("ceil_mode", 0)),
    )  # fmt: skip


def _conv(call: Call) -> Value:
    x, w = call.tensor(0), call.tensor(1)
    kernel, group = w.shape[2:], call.take("group", 1)
    if tuple(call.take("kernel_shape", kernel)) != tuple(kernel):
        raise UnknownOperator("Conv whose kernel_shape is not that of its weights")
    return _with_bias(convolved(x, w, window_axes(call, x.shape[2:], kernel), group), call)


def _with_bias(y: Tensor, call: Call) -> Tensor:
    if not call.has(2):
        return y
    return y + call.tensor(2).moved(lambda a: a.reshape(-1, *[1] * (len(y.shape) - 2)))


def convolved(x: Tensor, w: Tensor, where: Sequence[Axis], group: int) -> Tensor:
    """[n, c, *sizes] with weights [m, c / group, *kernel] -> [n, m, *counts]."""
    counts, taps = [axis.count for axis in where], math.prod(axis.kernel for axis in where)
    n, c, m = x.shape[0], x.shape[1] // group, w.shape[0] // group
    s = len(where)

    def columns(a: Array) -> Array:
        windows = spread(a, where, 0).reshape(n, group, c, *counts, taps)
        return np.moveaxis(windows, 2, -2).reshape(n, group, -1, c * taps)

    rows = w.moved(lambda a: a.reshape(group, m, c * taps).transpose(0, 2, 1))
    y = x.moved(columns) @ rows  # [n, group, places, m]
    return y.moved(lambda a: np.swapaxes(a, 2, 3).reshape(n, group * m, *counts) if s else a)


def _conv_transpose(call: Call) -> Value:
    x, w = call.tensor(0), call.tensor(1)
    kernel, s = w.shape[2:], len(x.shape) - 2
    group, strides = call.take("group", 1), call.take("strides", [1] * s)
    dilations, pads = call.take("dilations", [1] * s), call.take("pads", [0] * 2 * s)
    more = call.take("output_padding", [0] * s)
    if tuple(call.take("kernel_shape", kernel)) != tuple(kernel) or call.take("auto_pad", "NOTSET") != "NOTSET":
        raise UnknownOperator("ConvTranspose with auto_pad, or another kernel_shape")
    where = []
    for i in range(s):
        edge = (kernel[i] - 1) * dilations[i]
        size = (x.shape[2 + i] - 1) * strides[i] + 1
        where.append(Axis(size, kernel[i], 1, dilations[i], edge - pads[i], edge - pads[s + i] + more[i]))
    m = w.shape[1]

    def stuffed(a: Array) -> Array:
        wide = np.zeros((*a.shape[:2], *(axis.size for axis in where)), dtype=object)
        wide[(slice(None), slice(None), *(slice(None, None, step) for step in strides))] = a
        return wide

    def turned(a: Array) -> Array:  # [c, m / group, *kernel] -> [m, c / group, *kernel], taps in the opposite order
        parts = np.swapaxes(a.reshape(group, -1, m, *kernel), 1, 2).reshape(group * m, -1, *kernel)
        return np.flip(parts, axis=tuple(range(2, 2 + s)))

    return _with_bias(convolved(x.moved(stuffed), w.moved(turned), where, group), call)


def _average_pool(call: Call) -> Value:
    x, kernel, padding = call.tensor(0), call.take("kernel_shape"), bool(call.take("count_include_pad", 0))
    where = window_axes(call, x.shape[2:], kernel)
    total = x.moved(lambda a: spread(a, where, 0).reshape(*a.shape[:2], *(axis.count for axis in where), -1).sum(axis=-1))
    counts = inside(where, padding).reshape(*(axis.count for axis in where), -1).sum(axis=-1)
    if not counts.all():
        raise UnknownOperator("AveragePool over nothing but padding")
    return total * of_fractions([Fraction(1, int(k)) for k in counts.reshape(-1)], counts.shape)


def _global_average_pool(call: Call) -> Value:
    x = call.tensor(0)
    return mean(x, tuple(range(2, len(x.shape))), True)


def mean(x: Tensor, over: tuple[int, ...], keep: bool) -> Tensor:
    """The mean over some axes."""
    total = x.moved(lambda a: np.sum(a, axis=over, keepdims=keep))
    return total.scaled(Fraction(1, math.prod(x.shape[i] for i in over)))


def reduced_axes(call: Call, by_input: int) -> tuple[tuple[int, ...], bool]:
    """The axes of a reduction, an input from opset `by_input` on, and whether they are kept."""
    rank = len(call.tensor(0).shape)
    found = call.integers(1, "axes" if call.opset < by_input else "")
    keep, nothing = bool(call.take("keepdims", 1)), bool(call.take("noop_with_empty_axes", 0))
    over = tuple(a % rank for a in found) if found else () if nothing else tuple(range(rank))
    return over, keep


def _reduce_sum(call: Call) -> Value:
    over, keep = reduced_axes(call, 13)
    return call.tensor(0).moved(lambda a: np.sum(a, axis=over, keepdims=keep))


def _reduce_mean(call: Call) -> Value:
    over, keep = reduced_axes(call, 18)
    return mean(call.tensor(0), over, keep)


def _batch_normalization(call: Call) -> Value:
    x = call.tensor(0)
    call.take("momentum")
    if call.take("training_mode", 0) or call.take("spatial", 1) != 1 or call.outputs != 1:
        raise UnknownOperator("BatchNormalization that trains, or is not spatial")
    epsilon = Fraction(call.take("epsilon", float(np.float32(1e-5))))
    scale, shift, centre, variance = (call.tensor(i).moved(lambda a: a.reshape(-1, *[1] * (len(x.shape) - 2))) for i in range(1, 5))
    roots = of_enclosures([sqrt(v + epsilon) for v in variance.numbers().reshape(-1)], variance.shape)
    return (x - centre) * (scale * reciprocal(roots)) + shift


LINEAR: dict[str, Rule] = {
    "Add": _arithmetic(Tensor.__add__, np.add), "Sub": _arithmetic(Tensor.__sub__, np.subtract), "Mul": _mul,
    "Div": _arithmetic(lambda a, b: a * reciprocal(b), _no_integers), "Reciprocal": lambda call: reciprocal(call.tensor(0)), "Neg": _neg,
    "Sum": _sum, "MatMul": _matmul, "Gemm": _gemm, "Conv": _conv, "ConvTranspose": _conv_transpose, "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool, "ReduceSum": _reduce_sum, "ReduceMean": _reduce_mean,
    "BatchNormalization": _batch_normalization,
}  # fmt: skip
