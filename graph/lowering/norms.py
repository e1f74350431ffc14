"""Division by norms: LpNormalization, local response normalisation."""

from __future__ import annotations

import numpy as np

from graph.functions import build
from graph.linear_map import MINUS, Conv, LinearMap, Reshape, Scale, Sum
from graph.lowering.arithmetic import broadcast
from graph.lowering.builder import Builder, Tensor, Value, indices
from graph.lowering.operator import Operator
from graph.lowering.pooling import power
from graph.lowering.roots import root


def lower_lp_normalization(op: Operator) -> Value:
    """x divided by its p-norm along an axis."""
    x = op.variable(0)
    axis, p = op.axis(op.integer("axis", -1), len(x.shape)), op.integer("p", 2)
    if p not in (1, 2):
        raise op.malformed(f"p = {p}; the standard has 1 and 2")
    return over_norm(op.builder, x, axis, p)


def over_norm(builder: Builder, x: Tensor, axis: int, p: int) -> Tensor:
    """x / n with n = (sum |x|^p)^(1/p) along `axis`, and 0 where n is 0: the divisor is n + 1 - [n > 0]."""
    kept = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    norm = root(builder, builder.linear(Sum(x.shape, kept, (axis,)), power(builder, x, p)), p)
    some = builder.elementwise(build("step"), norm)
    terms: list[tuple[LinearMap, Tensor]] = [(Reshape(kept, kept), norm), (Scale(kept, kept, MINUS), some)]
    inverse = builder.elementwise(build("reciprocal"), builder.affine(terms, np.ones(kept), kept))
    return builder.multiply(x, broadcast(builder, inverse, x.shape))


def lower_lrn(op: Operator) -> Value:
    """x (bias + alpha / size * the sum of squares over `size` channels around each)^(-beta)."""
    x, size = op.variable(0), op.integer("size")
    if len(x.shape) < 3 or size < 1:
        raise op.malformed(f"an input of shape {x.shape} and size {size}")
    squares = op.builder.elementwise(build("pow", 2.0), x)
    columns = op.builder.gather(squares, indices(x.shape).reshape(x.shape[0], x.shape[1], -1).transpose(0, 2, 1))  # channels last
    rows = (columns.size // x.shape[1], 1, x.shape[1])
    weight = np.full((1, 1, size), op.real("alpha") / size)
    before = (size - 1) // 2
    around = Conv(rows, rows, weight, (1,), (before,), (size - 1 - before,), (1,), 1)
    total = op.builder.affine([(around, columns)], np.full(rows, op.real("bias")), rows)
    back = np.moveaxis(indices((x.shape[0], *x.shape[2:], x.shape[1])), -1, 1)
    factor = op.builder.gather(op.builder.elementwise(build("pow", -op.real("beta")), total), back)
    return op.builder.multiply(x, factor)
