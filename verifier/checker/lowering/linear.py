"""Matrix products and convolutions."""

from __future__ import annotations

import math

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.lowering.builder import Known, Shape, Tensor, Value, indices
from verifier.checker.lowering.operator import Operator, known
from verifier.checker.lowering.windows import convolution
from verifier.checker.maps import Convolution, Dense, Diagonal, Index, Map, Transposed


def swap(op: Operator, x: Value) -> Value:
    """The last two axes exchanged."""
    return known(np.swapaxes(x.value, -1, -2)) if isinstance(x, Known) else op.builder.gather(x, np.swapaxes(indices(x.shape), -1, -2))


def reshape(op: Operator, x: Value, shape: Shape) -> Value:
    return known(x.value.reshape(shape)) if isinstance(x, Known) else op.builder.gather(x, indices(shape))


def right_product(op: Operator, x: Tensor, weight: Array, outer: Shape) -> Tensor:
    """x (..., n, k) times known weights (..., k, m)."""
    if math.prod(weight.shape[:-2]) == 1:
        matrix = weight.reshape(weight.shape[-2:]).T
        return op.builder.affine([(Dense(matrix, x.size // matrix.shape[1]), x)], (*outer, x.shape[-2], len(matrix)))
    y = left_product(op, np.swapaxes(weight, -1, -2), op.builder.variable(swap(op, x)), outer)
    return op.builder.variable(swap(op, y))


def left_product(op: Operator, weight: Array, y: Tensor, outer: Shape) -> Tensor:
    """Known weights (..., n, k) times y (..., k, m): convolutions with a kernel of 1 over the columns, one group per matrix."""
    (n, k), m, count = weight.shape[-2:], y.shape[-1], math.prod(outer)
    y = op.spread(y, (*outer, k, m))
    shared = math.prod(weight.shape[:-2]) == 1
    kernel = (weight if shared else np.broadcast_to(weight, (*outer, n, k))).reshape(-1, k, 1)
    shape = (count, k, m) if shared else (1, count * k, m)
    return op.builder.affine([(Convolution(kernel, shape, (1,), (1,), (0, 0), 1 if shared else count), y)], (*outer, n, m))


def matmul(op: Operator, x: Value, y: Value) -> Tensor:
    """The product of (..., n, k) and (..., k, m); not both known."""
    op.require(x.shape[-1] == y.shape[-2], f"a product of shapes {x.shape} and {y.shape}")
    outer = x.shape[:-2] if x.shape[:-2] == y.shape[:-2] else np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    if isinstance(y, Known):
        return right_product(op, op.builder.variable(x), y.value, outer)
    if isinstance(x, Known):
        return left_product(op, x.value, y, outer)
    return op.builder.matmul(op.spread(x, (*outer, *x.shape[-2:])), op.spread(y, (*outer, *y.shape[-2:])))


def lower_matmul(op: Operator) -> Value:
    """Vectors are matrices with one row or column."""
    x, y = op.value(0), op.value(1)
    x = op.variable(0) if isinstance(x, Known) and isinstance(y, Known) else x
    op.require(bool(x.shape and y.shape), "a scalar operand")
    left, right = (1, *x.shape) if len(x.shape) == 1 else x.shape, (*y.shape, 1) if len(y.shape) == 1 else y.shape
    product = matmul(op, reshape(op, x, left), reshape(op, y, right))
    shape = tuple(n for axis, n in enumerate(product.shape, -len(product.shape)) if axis < -2 or len((x if axis == -2 else y).shape) > 1)
    result = op.builder.gather(product, indices(shape))
    return op.rounded(result, "product" if isinstance(x, Tensor) and isinstance(y, Tensor) else "affine", left[-1])


def lower_gemm(op: Operator) -> Value:
    """alpha A' B' + beta C; a factor is a map of its own, but C known, a float32 number times one, is exact in float64."""
    a, b, builder = op.value(0), op.value(1), op.builder
    a = op.variable(0) if isinstance(a, Known) and isinstance(b, Known) else a
    op.require(len(a.shape) == 2 == len(b.shape), "operands that are not matrices")
    product = matmul(op, swap(op, a) if op["transA"] else a, swap(op, b) if op["transB"] else b)
    c, alpha, beta = op.optional(2), op["alpha"], op["beta"]
    op.require(bool(np.isfinite([alpha, beta]).all()), "alpha or beta is not finite")
    inner = a.shape[0 if op["transA"] else 1]
    if not isinstance(a, Known) and not isinstance(b, Known):
        op.require(c is None and alpha == 1, "a product of two variable matrices with alpha or C")
        return op.rounded(product, "product", inner)
    count, terms, bias = inner + (c is not None) + (alpha != 1) + (c is not None and beta != 1), [_term(product, alpha)], None
    if isinstance(c, Known):
        bias = beta * op.numbers(2)
    elif c is not None:
        terms.append(_term(op.spread(c, product.shape), beta))
    op.require(c is None or builder.broadcast(c.shape, product.shape) == product.shape, "C does not broadcast to the product")
    if c is None and alpha == 1:
        return op.rounded(product, "affine", count)
    return op.rounded(_with_bias(op, product, bias) if len(terms) == 1 and alpha == 1 else builder.affine(terms, product.shape, bias), "affine", count)


def _term(x: Tensor, factor: float) -> tuple[Map, Tensor]:
    return (Index(indices((x.size,)), x.size) if factor == 1 else Diagonal(np.full(x.size, factor))), x


def lower_conv(op: Operator) -> Value:
    x, weight = op.variable(0), op.numbers(1)
    op.require(len(x.shape) == weight.ndim and 3 <= weight.ndim <= 5, "not 1 to 3 spatial axes")
    w = convolution(op, x.shape[2:], weight.shape[2:])
    linear = Convolution(weight, x.shape, w.strides, w.dilations, (*w.begin, *w.end), op["group"])
    op.require(linear.out_shape[2:] == w.positions, "its windows")
    return _channels(op, x, linear, linear.out_shape)


def lower_conv_transpose(op: Operator) -> Value:
    """The transpose of the convolution from the output to the input."""
    x, weight = op.variable(0), op.numbers(1)
    rank = weight.ndim - 2
    op.require(len(x.shape) == weight.ndim and 1 <= rank <= 3 and weight.shape[0] == x.shape[1], "not 1 to 3 spatial axes")
    op.require(op["output_shape"] is None and op["auto_pad"] == "NOTSET", "output_shape or auto_pad")
    kernel, ones = weight.shape[2:], (1,) * rank
    strides, dilations = op["strides"] or ones, op["dilations"] or ones
    pads, extra = op["pads"] or (0,) * (2 * rank), op["output_padding"] or (0,) * rank
    op.require((op["kernel_shape"] or kernel) == kernel and len(pads) == 2 * rank and len(extra) == rank, "kernel_shape, pads or output_padding")
    op.require(len(strides) == len(dilations) == rank and all(0 <= e < s for e, s in zip(extra, strides, strict=True)), "output_padding or strides")
    size = [strides[i] * (x.shape[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - pads[i] - pads[i + rank] for i in range(rank)]
    shape = op.builder.shape((x.shape[0], weight.shape[1] * op["group"], *size))
    linear = Convolution(weight, shape, strides, dilations, pads, op["group"])
    op.require(linear.out_shape == x.shape, "its shapes")
    return _channels(op, x, Transposed(linear), shape)


def _channels(op: Operator, x: Tensor, linear: Map, shape: Shape) -> Tensor:
    """The map, plus input 2, one number per channel."""
    bias = None if op.optional(2) is None else op.numbers(2)
    op.require(bias is None or bias.shape == (shape[1],), "a bias that does not fit the channels")
    spread = None if bias is None else bias.reshape(-1, *(1,) * (len(shape) - 2))
    return op.rounded(op.builder.affine([(linear, x)], shape, spread), "affine", linear.products + (bias is not None))


def _with_bias(op: Operator, product: Tensor, bias: Array | None) -> Tensor:
    """The bias in the product's own node."""
    node = op.builder.nodes[product.node]
    op.require(bias is not None and product.node >= op.builder.start, "bias")
    return op.builder.biased(node, product, bias)
