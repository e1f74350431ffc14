"""Sums, products, quotients, powers and maxima, whose operands are broadcast."""

from __future__ import annotations

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.lowering.builder import Known, Shape, Tensor, Value, inverse
from verifier.checker.lowering.elementwise import RELU, at_least, at_most
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Diagonal, Map
from verifier.checker.network import Smooth


def total(op: Operator, values: list[Value], signs: list[float]) -> Tensor:
    """The signed sum. One known operand becomes the bias; every other one is a node."""
    builder, shape, bias = op.builder, op.builder.broadcast(*(x.shape for x in values)), None
    terms: list[tuple[Map, Tensor]] = []
    for x, sign in zip(values, signs, strict=True):
        if isinstance(x, Known) and bias is None:
            bias = sign * x.value.astype(np.float64)
        elif sign == 1:
            node = builder.variable(x)
            terms.append((builder.index(node, builder.spread(node, shape)), node))
        else:
            node = op.spread(x, shape)
            terms.append((Diagonal(np.full(node.size, sign)), node))
    return builder.affine(terms, shape, bias)


def lower_sum(op: Operator) -> Value:
    """Add and Sum: p terms, p - 1 roundings."""
    if len(op.inputs) == 1:
        return op.variable(0)
    return op.rounded(total(op, _some_variable(op), [1.0] * len(op.inputs)), "affine", len(op.inputs) - 1)


def lower_sub(op: Operator) -> Value:
    return op.rounded(total(op, _some_variable(op), [1.0, -1.0]), "affine", 1)


def lower_mean(op: Operator) -> Value:
    count = len(op.inputs)
    added = total(op, _some_variable(op), [1.0] * count)
    return op.rounded(op.builder.affine([(inverse(np.full(added.size, count)), added)], added.shape), "affine", count + 1)


def lower_neg(op: Operator) -> Value:
    return op.rounded(op.builder.scale(op.variable(0), -1.0), "exact")


def lower_mul(op: Operator) -> Value:
    """A square is one function of one variable: as a product it would lose its sign."""
    x, y = _some_variable(op)
    if isinstance(x, Known) or isinstance(y, Known):
        constant, tensor = (x, y) if isinstance(x, Known) else (y, x)
        shape = op.builder.broadcast(x.shape, y.shape)
        return op.rounded(_times(op, constant, op.spread(tensor, shape)), "affine", 1)
    if op.builder.root(x) == op.builder.root(y) and x.shape == y.shape:
        return op.rounded(op.builder.elementwise(Smooth("pow", 2.0), x), "kernel", name="pow")
    return _product(op, x, y, 1)


def lower_div(op: Operator) -> Value:
    """By a constant: times its reciprocal, whose radius is known; by a variable: a Reciprocal node (site 0) and a product."""
    x, y = _some_variable(op)
    shape = op.builder.broadcast(x.shape, y.shape)
    if isinstance(y, Known):
        op.require(bool((y.value != 0).all()), "division by 0")
        spread = op.spread(x, shape)
        divisor = np.broadcast_to(y.value.astype(np.float64), shape).reshape(-1)
        return op.rounded(op.builder.affine([(inverse(divisor), spread)], shape), "affine", 2)
    reciprocal = op.builder.elementwise(Smooth("reciprocal"), y)
    if isinstance(x, Known):
        return op.rounded(_times(op, x, op.spread(reciprocal, shape)), "product", 2, sources=(y.node,), divisor=y.node)
    return _product(op, x, reciprocal, 2, y.node)


def lower_pow(op: Operator) -> Value:
    """One exponent for all elements, which float64 holds exactly."""
    x, exponents = op.variable(0), np.unique(op.known(1))
    op.require(exponents.size == 1 and abs(float(exponents[0])) < 2**24, "more than one exponent, or a large one")
    exponent, builder = float(exponents[0]), op.builder
    shape = builder.broadcast(x.shape, op.any(1).shape)
    if exponent == 0:
        return builder.constant(np.ones(shape))
    if exponent != 1:
        named = {0.5: Smooth("sqrt"), -1.0: Smooth("reciprocal")}.get(exponent)
        spread = builder.gather(builder.elementwise(named or Smooth("pow", exponent), x), builder.spread(x, shape))
        kind, name = ("refused", "a power as a square root or reciprocal") if named else ("kernel", "pow")
        return op.rounded(spread, "refused" if spread.shape != x.shape else kind, sources=(x.node,), name=name)
    return op.moved(x, builder.spread(x, shape))


def lower_max(op: Operator) -> Value:
    return _extremum(op, 1.0)


def lower_min(op: Operator) -> Value:
    return _extremum(op, -1.0)


def lower_where(op: Operator) -> Value:
    """A known condition selects elements; a known branch goes to the bias."""
    condition, builder = op.known(0), op.builder
    op.require(condition.dtype == np.bool_, "a condition that is not boolean")
    shape = builder.broadcast(*(op.any(i).shape for i in range(3)))
    condition, terms, bias = np.broadcast_to(condition, shape), list[tuple[Map, Tensor]](), np.zeros(shape)
    for branch, chosen in ((op.value(1), condition), (op.value(2), ~condition)):
        if isinstance(branch, Known):
            bias = np.where(chosen, branch.value.astype(np.float64), bias)
        else:
            terms.append((builder.index(branch, np.where(chosen, builder.spread(branch, shape), -1)), branch))
    return op.rounded(builder.affine(terms, shape, bias if bias.any() else None), "moves")


def _extremum(op: Operator, sign: float) -> Value:
    """Against one known number a function of one variable; otherwise site 0 is a maximum over sign * x, all operands one after the other."""
    values, builder = _some_variable(op), op.builder
    if len(values) == 1:
        return op.variable(0)
    shape = builder.broadcast(*(x.shape for x in values))
    x, y = (values[1], values[0]) if isinstance(values[0], Known) else (values[0], values[1])
    if len(values) == 2 and isinstance(x, Tensor) and isinstance(y, Known) and y.size == 1:
        limit = float(y.value.reshape(()))
        function = at_most(limit) if sign < 0 else at_least(limit) if limit else RELU
        return op.rounded(builder.gather(builder.elementwise(function, x), builder.spread(x, shape)), "exact")
    joined = concatenated(op, values, shape)
    size = joined.size // len(values)
    windows = np.arange(size)[:, None] + size * np.arange(len(values))
    if sign == 1:
        return op.rounded(builder.maximum(joined, windows, shape), "exact")
    return op.rounded(builder.scale(builder.maximum(builder.scale(joined, -1.0), windows, shape), -1.0), "exact")


def concatenated(op: Operator, values: list[Value], shape: Shape) -> Tensor:
    """All operands, broadcast to `shape`, one after the other."""
    size, builder = int(np.prod(shape)), op.builder
    terms, bias = list[tuple[Map, Tensor]](), np.zeros(size * len(values))
    for k, x in enumerate(values):
        here = slice(k * size, (k + 1) * size)
        if isinstance(x, Known):
            bias[here] = np.broadcast_to(x.value, shape).reshape(-1)
        else:
            index = np.full(bias.size, -1, dtype=np.int64)
            index[here] = builder.spread(x, shape).reshape(-1)
            terms.append((builder.index(x, index), x))
    return builder.affine(terms, (bias.size,), bias if bias.any() else None)


def _product(op: Operator, x: Tensor, y: Tensor, count: int, divisor: int = -1) -> Tensor:
    shape = op.builder.broadcast(x.shape, y.shape)
    x, y = op.spread(x, shape), op.spread(y, shape)
    sources = (x.node, y.node) if divisor < 0 else (x.node, divisor)
    return op.rounded(op.builder.product(x, y), "product", count, sources=sources, divisor=divisor)


def _times(op: Operator, constant: Known, x: Tensor) -> Tensor:
    return op.builder.affine([(Diagonal(_spread(constant.value, x.shape)), x)], x.shape)


def _spread(value: Array, shape: Shape) -> Array:
    return np.broadcast_to(value.astype(np.float64), shape).reshape(-1)


def _some_variable(op: Operator) -> list[Value]:
    """The operands, the first as a node if all are known."""
    values = op.values()
    return values if any(isinstance(x, Tensor) for x in values) else [op.variable(0), *values[1:]]
