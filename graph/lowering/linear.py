"""Matrix products and convolutions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.linear_map import Conv, Dense, LinearMap, Transposed
from graph.lowering.arithmetic import add, broadcast, scale
from graph.lowering.builder import Builder, Known, Tensor, Value, indices, varying
from graph.lowering.operator import Operator
from graph.lowering.windows import convolution_windows, transposed_pads

Array = NDArray[Any]


def matmul(builder: Builder, x: Value, y: Value) -> Value:
    """The matrix product by the rules of numpy.matmul (and ONNX), at least one operand depending on the input."""
    left = (1, *x.shape) if len(x.shape) == 1 else x.shape
    right = (*y.shape, 1) if len(y.shape) == 1 else y.shape
    outer = builder.broadcast_shape(left[:-2], right[:-2])
    shape: Shape = builder.check_size((*outer, left[-2], right[-1]))
    product = _product(builder, reshape(x, left), reshape(y, right), outer)
    if len(x.shape) == 1:
        shape = (*shape[:-2], shape[-1])
    return reshape(product, shape[:-1] if len(y.shape) == 1 else shape)


def _product(builder: Builder, x: Value, y: Value, outer: Shape) -> Value:
    if isinstance(y, Known) and isinstance(x, Tensor):
        if math.prod(y.shape[:-2]) == 1:
            weight = y.value.reshape(y.shape[-2:])
            return builder.linear(Dense(x.shape, (*outer, x.shape[-2], weight.shape[1]), weight.T), x)
        return swap(builder, _left_product(builder, np.swapaxes(y.value, -1, -2), varying(swap(builder, x)), outer))
    if isinstance(x, Known) and isinstance(y, Tensor):
        return _left_product(builder, x.value, y, outer)
    if isinstance(x, Known) or isinstance(y, Known):
        return Known(np.matmul(x.value.astype(np.float64), y.value.astype(np.float64)))  # type: ignore[union-attr]
    return builder.matmul(broadcast(builder, x, (*outer, *x.shape[-2:])), broadcast(builder, y, (*outer, *y.shape[-2:])))


def _left_product(builder: Builder, matrix: Array, y: Tensor, outer: Shape) -> Tensor:
    """`matrix` (outer..., n, k) times y (outer..., k, m): a convolution with kernel 1 over the columns, k channels in, n out."""
    n, k = matrix.shape[-2:]
    m = y.shape[-1]
    y = broadcast(builder, y, (*outer, *y.shape[-2:]))
    count = math.prod(outer)
    shared = math.prod(matrix.shape[:-2]) == 1
    if m == 1 and count == 1:
        linear_map: LinearMap = Dense(y.shape, (*outer, n, 1), matrix.reshape(n, k))
    else:
        weight = matrix if shared else np.broadcast_to(matrix, (*outer, n, k))
        groups = 1 if shared else count
        batch = count if shared else 1
        kernel = weight.reshape(groups * n, k, 1)
        linear_map = Conv((batch, groups * k, m), (batch, groups * n, m), kernel, (1,), (0,), (0,), (1,), groups)
    return varying(reshape(builder.linear(linear_map, y), (*outer, n, m)))


def reshape(x: Value, shape: Shape) -> Value:
    """The same elements in another shape; no node."""
    return Known(x.value.reshape(shape)) if isinstance(x, Known) else Tensor(x.node, shape, x.element_type)


def swap(builder: Builder, x: Value) -> Value:
    """The last two axes exchanged."""
    return Known(np.swapaxes(x.value, -1, -2)) if isinstance(x, Known) else builder.gather(x, np.swapaxes(indices(x.shape), -1, -2))


def lower_matmul(op: Operator) -> Value:
    x, y = op.value(0), op.value(1)
    if not x.shape or not y.shape:
        raise op.malformed("a scalar operand")
    if x.shape[-1] != (y.shape[-2] if len(y.shape) > 1 else y.shape[0]):
        raise op.malformed(f"shapes {x.shape} and {y.shape} cannot be multiplied")
    return matmul(op.builder, x, y)


def lower_gemm(op: Operator) -> Value:
    """alpha A' B' + beta C."""
    a, b = op.value(0), op.value(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise op.malformed(f"Gemm needs matrices, not shapes {a.shape} and {b.shape}")
    a = swap(op.builder, a) if op.integer("transA") else a
    b = swap(op.builder, b) if op.integer("transB") else b
    if a.shape[1] != b.shape[0]:
        raise op.malformed(f"shapes {a.shape} and {b.shape} cannot be multiplied")
    product = matmul(op.builder, a, b)
    if op.real("alpha") != 1:
        product = scale(op.builder, product, np.array(op.real("alpha")))
    c = op.optional(2)
    if c is None or op.real("beta") == 0:
        return product
    c = c if op.real("beta") == 1 else scale(op.builder, c, np.array(op.real("beta")))
    if op.builder.broadcast_shape(c.shape, product.shape) != product.shape:
        raise op.malformed(f"C of shape {c.shape} cannot be broadcast to {product.shape}")
    return add(op.builder, product, c)


def lower_conv(op: Operator) -> Value:
    x, weight = op.variable(0), op.known(1)
    if len(x.shape) != weight.ndim or not 3 <= weight.ndim <= 5:
        raise op.refuse(f"input of shape {x.shape} and weight of shape {weight.shape}: only 1 to 3 spatial axes are supported")
    groups = op.integer("group", 1)
    if weight.shape[1] * groups != x.shape[1] or weight.shape[0] % groups:
        raise op.malformed(f"weight of shape {weight.shape} in {groups} groups does not fit an input of shape {x.shape}")
    w = convolution_windows(op, x.shape[2:], weight.shape[2:])
    out = op.builder.check_size((x.shape[0], weight.shape[0], *w.positions))
    return _with_bias(op, Conv(x.shape, out, weight, w.strides, w.pads_begin, w.pads_end, w.dilations, groups), x)


def lower_conv_transpose(op: Operator) -> Value:
    """The transpose of a convolution that maps the output to the input."""
    x, weight = op.variable(0), op.known(1)
    if len(x.shape) != weight.ndim or not 3 <= weight.ndim <= 5:
        raise op.refuse(f"input of shape {x.shape} and weight of shape {weight.shape}: only 1 to 3 spatial axes are supported")
    groups = op.integer("group", 1)
    if weight.shape[0] != x.shape[1] or weight.shape[0] % groups:
        raise op.malformed(f"weight of shape {weight.shape} in {groups} groups does not fit an input of shape {x.shape}")
    rank = weight.ndim - 2
    kernel = weight.shape[2:]
    strides, dilations = op.integers("strides") or (1,) * rank, op.integers("dilations") or (1,) * rank
    extra = op.integers("output_padding") or (0,) * rank
    if (op.integers("kernel_shape") or kernel) != kernel or not len(strides) == len(dilations) == len(extra) == rank:
        raise op.malformed("kernel_shape, strides, dilations or output_padding do not fit the weight")
    if min(strides) < 1 or min(dilations) < 1 or min(extra) < 0:
        raise op.malformed("strides and dilations must be positive, output_padding not negative")
    full = tuple(strides[i] * (x.shape[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 for i in range(rank))
    begin, end = transposed_pads(op, x.shape[2:], strides, full)
    size = tuple(n - b - e for n, b, e in zip(full, begin, end, strict=True))
    if min(size) < 1:
        raise op.malformed(f"the output would have spatial shape {size}")
    out = op.builder.check_size((x.shape[0], weight.shape[1] * groups, *size))
    inner = Conv(out, x.shape, weight, strides, begin, tuple(max(e, 0) for e in end), dilations, groups)
    return _with_bias(op, Transposed(x.shape, out, inner), x)


def _with_bias(op: Operator, linear_map: LinearMap, x: Tensor) -> Value:
    """The map with input 2, one number per output channel, added."""
    if op.optional(2) is None:
        return op.builder.linear(linear_map, x)
    bias = op.known(2)
    shape = linear_map.out_shape
    if bias.shape != (shape[1],):
        raise op.malformed(f"bias of shape {bias.shape} does not fit {shape[1]} output channels")
    return op.builder.affine([(linear_map, x)], np.broadcast_to(bias.reshape(-1, *(1,) * (len(shape) - 2)), shape), shape)
