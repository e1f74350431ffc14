"""Sums, products, quotients, powers, matrix products, selections: operators that broadcast their operands."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from verifier.checker.lowering.builder import Array, Builder, Known, Shape, Tensor, Term, Value, floats, indices, take
from verifier.checker.lowering.elementwise import clipping, radicand
from verifier.checker.lowering.gates import gate
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Convolution, Dense, Diagonal, Map, Sparse
from verifier.checker.network import Smooth
from verifier.checker.refusal import Rejected

SPARSE_FROM, SPARSE = 1 << 13, 8  # a matrix of so many entries, of which one in so many is multiplied, is not multiplied as a dense one


MOST_EXPONENTS = 256  # of one operator


def common(*values: Value) -> Shape:
    """The shape that all broadcast to."""
    return np.broadcast_shapes(*(v.shape for v in values))


def total(builder: Builder, values: list[Value], signs: list[float]) -> Tensor:
    """sum of sign * value, at most one of them constant."""
    shape, terms, bias = common(*values), list[Term](), None
    for value, sign in zip(values, signs, strict=True):
        if isinstance(value, Known) and bias is None and not (value is values[-1] and not terms):
            bias = np.broadcast_to(sign * floats(value.value), shape)
            continue
        x = builder.constant(value.value) if isinstance(value, Known) else value
        if sign == 1:
            terms.append((take(x, np.broadcast_to(indices(x.shape), shape)), x))
        else:
            x = builder.spread(x, shape)
            terms.append((Diagonal(np.full(x.size, sign)), x))
    return builder.affine(terms, bias, shape)


def add(op: Operator) -> Value:
    return op.end(total(op.builder, [op.value(0), op.value(1)], [1.0, 1.0]), "affine", 1)


def subtract(op: Operator) -> Value:
    return op.end(total(op.builder, [op.value(0), op.value(1)], [1.0, -1.0]), "affine", 1)


def sum_all(op: Operator) -> Value:
    values = [op.value(i) for i in range(len(op.inputs))]
    return op.end(total(op.builder, values, [1.0] * len(values)), "affine", len(values) - 1)


def mean_all(op: Operator) -> Value:
    values = [op.value(i) for i in range(len(op.inputs))]
    x = total(op.builder, values, [1.0] * len(values))
    return op.end(op.builder.scale(x, *inverse(np.array(float(len(values))))), "affine", len(values) + 1)


def negate(op: Operator) -> Value:
    return op.end(op.builder.scale(op.tensor(0), np.array(-1.0)), "exact")


def inverse(divisor: Array) -> tuple[Array, Array]:
    """1 / divisor and how far it may be off: 0 for powers of two."""
    found = 1 / floats(divisor)
    exact = (np.abs(np.frexp(floats(divisor))[0]) == 0.5) & (np.abs(found) >= 2.0**-1022)
    return found, np.where(exact, 0.0, np.abs(found) * 2.0**-52 + 2.0**-1022)


def multiply(op: Operator) -> Value:
    """A square is one function of one variable: as a product it would lose the sign."""
    x, y = op.value(0), op.value(1)
    shape = common(x, y)
    if isinstance(x, Known) and isinstance(y, Tensor):
        x, y = y, x
    if isinstance(x, Tensor) and isinstance(y, Known):
        return op.end(op.builder.scale(op.builder.spread(x, shape), y.value), "affine", 1)
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.node == y.node:
        return op.end(op.builder.elementwise(Smooth("pow", 2.0), x), "kernel", name="Pow")
    left, right = op.as_tensor(x), op.as_tensor(y)
    if (found := gate(op.builder, left, right)) is not None:
        return found
    return op.end(op.builder.product(op.builder.spread(left, shape), op.builder.spread(right, shape)), "product", 1)


def divide(op: Operator) -> Value:
    """By a constant: times its reciprocal. By a variable: a Reciprocal node, then a product."""
    x, y = op.value(0), op.value(1)
    shape = common(x, y)
    if isinstance(y, Known) and isinstance(x, Tensor):
        op.require(bool(floats(y.value).all()), "division by 0")
        return op.end(op.builder.scale(op.builder.spread(x, shape), *inverse(y.value)), "affine", 2)
    divisor = op.as_tensor(y)
    inverted = op.builder.spread(op.builder.elementwise(Smooth("reciprocal"), divisor), shape)
    found = op.builder.scale(inverted, x.value) if isinstance(x, Known) else op.builder.product(op.builder.spread(x, shape), inverted)
    return op.end(found, "product", 2, divisor=divisor.node)


def _columns(builder: Builder, matrix: Array, y: Tensor, outer: Shape) -> Tensor:
    """`matrix` (outer..., n, k) times y (outer..., k, m): a convolution with kernel 1 over the columns, k channels in, n out."""
    n, k, m, count = *matrix.shape[-2:], y.shape[-1], math.prod(outer)
    y = builder.spread(y, (*outer, k, m))
    shared = math.prod(matrix.shape[:-2]) == 1
    if m == 1 and count == 1:
        found: Map = Dense(matrix.reshape(n, k))
    elif shared:
        found = Convolution(matrix.reshape(n, k, 1), (count, k, m), (1,), (1,), (0, 0), 1)
    else:
        weight = np.broadcast_to(matrix, (*outer, n, k)).reshape(count * n, k, 1)
        found = Convolution(weight, (1, count * k, m), (1,), (1,), (0, 0), count)
    return builder.linear(found, y, (*outer, n, m))


def _times(builder: Builder, x: Tensor, matrix: Array, shape: Shape) -> Tensor:
    """The rows of `x` times `matrix`. Of a large one that is nearly all zeros these are not multiplied."""
    outer, weight = x.size // len(matrix), np.ascontiguousarray(matrix.T)
    sparse = outer == 1 and matrix.size >= SPARSE_FROM
    if sparse:
        most = [int(np.count_nonzero(matrix, axis).max()) for axis in (0, 1)]  # multiplied per element of the result, there and back
        sparse = 0 < SPARSE * (most[0] * matrix.shape[1] + most[1] * len(matrix)) <= 2 * matrix.size
    return builder.linear(Sparse(weight) if sparse else Dense(weight, outer), x, shape)


def swap(builder: Builder, x: Value) -> Value:
    """The last two axes exchanged."""
    return Known(np.swapaxes(x.value, -1, -2)) if isinstance(x, Known) else builder.gather(x, np.swapaxes(indices(x.shape), -1, -2))


def reshape(builder: Builder, x: Value, shape: Shape) -> Value:
    return Known(x.value.reshape(shape)) if isinstance(x, Known) else builder.reshape(x, shape)


def _tensor(x: Value) -> Tensor:
    if isinstance(x, Known):
        raise Rejected("no-rule", "a product of constants")
    return x


def matrix_product(builder: Builder, x: Value, y: Value) -> Tensor:
    """By the rules of numpy.matmul."""
    left = reshape(builder, x, (1, *x.shape)) if len(x.shape) == 1 else x
    right = reshape(builder, y, (*y.shape, 1)) if len(y.shape) == 1 else y
    outer = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    if isinstance(left, Known) and isinstance(right, Known):
        left = builder.constant(left.value)
    if isinstance(right, Known) and isinstance(left, Tensor):
        if math.prod(right.shape[:-2]) == 1:
            found = _times(builder, left, right.value.reshape(right.shape[-2:]), (*outer, left.shape[-2], right.shape[-1]))
        else:
            flipped = _columns(builder, np.swapaxes(right.value, -1, -2), _tensor(swap(builder, left)), outer)
            found = _tensor(swap(builder, flipped))
    elif isinstance(left, Known):
        found = _columns(builder, left.value, _tensor(right), outer)
    else:
        found = builder.matmul(builder.spread(left, (*outer, *left.shape[-2:])), builder.spread(_tensor(right), (*outer, *right.shape[-2:])))
    shape = found.shape[:-2] if len(x.shape) == 1 else found.shape[:-1]
    return builder.reshape(found, shape if len(y.shape) == 1 else (*shape, found.shape[-1]))


def matmul(op: Operator) -> Value:
    x, y = op.value(0), op.value(1)
    op.require(len(x.shape) > 0 and len(y.shape) > 0, "a scalar operand")
    op.require(x.shape[-1] == (y.shape[-2] if len(y.shape) > 1 else y.shape[0]), f"shapes {x.shape} and {y.shape}")
    both = isinstance(x, Tensor) and isinstance(y, Tensor)
    return op.end(matrix_product(op.builder, x, y), "product" if both else "affine", x.shape[-1])


def gemm(op: Operator) -> Value:
    """alpha A' B' + beta C."""
    a, b, c = op.value(0), op.value(1), op.optional(2)
    op.require(len(a.shape) == 2 and len(b.shape) == 2, f"shapes {a.shape} and {b.shape}")
    alpha, beta = op.real("alpha", 1.0), op.real("beta", 1.0)
    a = swap(op.builder, a) if op.flag("transA", 0) else a
    b = swap(op.builder, b) if op.flag("transB", 0) else b
    op.require(a.shape[1] == b.shape[0], f"shapes {a.shape} and {b.shape}")
    linear = isinstance(a, Known) or isinstance(b, Known)
    found, count = matrix_product(op.builder, a, b), a.shape[1]
    if alpha != 1:
        found, count = op.builder.scale(found, np.array(alpha)), count + 1
    if c is not None and beta != 0:
        op.require(common(c, found) == found.shape, f"C of shape {c.shape}")
        found, count = _plus(op, found, c, beta), count + (1 if beta == 1 else 2)
    return op.end(found, "affine" if linear else "product", count)


def _plus(op: Operator, product: Tensor, c: Value, beta: float) -> Tensor:
    """product + beta c; the product of two float32 numbers is exact in float64."""
    if isinstance(c, Known):
        return op.builder.plus(product, np.broadcast_to(beta * floats(c.value), product.shape))
    return total(op.builder, [product, c], [1.0, beta])


def power(op: Operator) -> Value:
    """To constant exponents, the elements of each together."""
    x, given = op.tensor(0), op.known(1)
    shape, each = common(x, op.value(1)), given.astype(np.float64)
    exponents = np.unique(each)
    op.require(given.dtype != np.bool_ and bool(np.isfinite(each).all()) and exponents.size <= MOST_EXPONENTS, f"{exponents.size} exponents")
    if exponents.size == 1:
        return _power(op, x, float(exponents[0]), shape)
    source, each = np.broadcast_to(indices(x.shape), shape).reshape(-1), np.broadcast_to(each, shape).reshape(-1)
    parts = [_to_the(op.builder, float(e), op.builder.gather(x, source[each == e])) for e in exponents]
    place = np.argsort(np.argsort(each, kind="stable"), kind="stable").reshape(shape)
    return op.end(stack(op.builder, parts, place, starts_of(parts)), "refused", name="several exponents")


def _to_the(builder: Builder, e: float, x: Tensor) -> Value:
    if e in (0, 1):
        return x if e else Known(np.ones(x.shape, dtype=np.float32))
    return builder.elementwise(Smooth("sqrt") if e == 0.5 else Smooth("reciprocal") if e == -1 else Smooth("pow", e), x)


def _power(op: Operator, x: Tensor, exponent: float, shape: Shape) -> Value:
    x = radicand(op, x) if exponent == 0.5 else x
    found = _to_the(op.builder, exponent, x)
    if isinstance(found, Known):
        return Known(np.ones(shape, dtype=np.float32))
    if exponent == 1:
        return op.end(op.builder.spread(x, shape), "moves")
    if shape != x.shape:
        return op.end(op.builder.spread(found, shape), "refused", name="a power that is broadcast")
    return op.end(found, "sqrt" if exponent in (0.5, -1) else "kernel", 2, name="Pow", sources=(x.node,) if exponent == 0.5 else None)


def stack(builder: Builder, parts: list[Value], place: Array, starts: list[int]) -> Tensor:
    """The tensor of `place.shape` whose elements are those of all parts, flat, one part after the other from `starts` on."""
    terms, bias = list[Term](), np.zeros(place.shape)
    for part, start in zip(parts, starts, strict=True):
        here = (place >= start) & (place < start + part.size)
        if isinstance(part, Known):
            bias[here] = floats(part.value).reshape(-1)[place[here] - start]
        else:
            terms.append((take(part, np.where(here, place - start, -1)), part))
    if not terms:
        return builder.constant(bias)
    return builder.affine(terms, bias if bias.any() else None, place.shape)


def starts_of(parts: list[Value]) -> list[int]:
    return [sum(p.size for p in parts[:i]) for i in range(len(parts))]


def concat(op: Operator) -> Value:
    parts = [op.value(i) for i in range(len(op.inputs))]
    axis, starts = op.axis(op.integer("axis", 0), len(parts[0].shape)), starts_of(parts)
    place = np.concatenate([indices(p.shape) + start for p, start in zip(parts, starts, strict=True)], axis=axis)
    return op.end(stack(op.builder, parts, place, starts), "moves")


def where(op: Operator) -> Value:
    """A constant condition selects."""
    condition, parts = op.known(0), [op.value(1), op.value(2)]
    op.require(condition.dtype == np.bool_, f"a condition of type {condition.dtype}")
    shape, starts = np.broadcast_shapes(condition.shape, *(p.shape for p in parts)), starts_of(parts)
    left, right = (np.broadcast_to(indices(p.shape) + start, shape) for p, start in zip(parts, starts, strict=True))
    return op.end(stack(op.builder, parts, np.where(condition, left, right), starts), "moves")


def extremum(sign: float) -> Callable[[Operator], Value]:
    """Max (sign 1) or Min (-1) of all inputs; against one constant number it is a function of one variable."""

    def lower(op: Operator) -> Value:
        values = [op.value(i) for i in range(len(op.inputs))]
        if len(values) == 1:
            return values[0]
        x, y = (values[1], values[0]) if isinstance(values[0], Known) else (values[0], values[1])
        if len(values) == 2 and isinstance(x, Tensor) and isinstance(y, Known) and y.size == 1:
            limit = float(floats(y.value).reshape(()))
            function = clipping(limit, math.inf) if sign == 1 else clipping(-math.inf, limit)
            return op.end(op.builder.spread(op.builder.elementwise(function, x), common(x, y)), "exact")
        return op.end(_extremum(op.builder, values, sign), "exact")

    return lower


def _extremum(builder: Builder, values: list[Value], sign: float) -> Tensor:
    shape, size = common(*values), math.prod(common(*values))
    parts = [signed(builder, v, sign, shape) for v in values]
    stacked = stack(builder, parts, np.arange(size * len(parts)), [i * size for i in range(len(parts))])
    found = builder.maximum(stacked, np.arange(size)[:, None] + size * np.arange(len(parts)), shape)
    return found if sign == 1 else builder.scale(found, np.array(-1.0))


def signed(builder: Builder, value: Value, sign: float, shape: Shape) -> Value:
    """sign * value, repeated along axes to `shape`."""
    if isinstance(value, Known):
        return Known(np.broadcast_to(sign * floats(value.value), shape))
    spread = builder.spread(value, shape)
    return spread if sign == 1 else builder.scale(spread, np.array(-1.0))
