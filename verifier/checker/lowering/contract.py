"""Einsum as diagonals, sums and products of matrices; running sums and products; division by norms."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from verifier.checker.lowering.basic import common, matrix_product, reshape, stack, starts_of
from verifier.checker.lowering.builder import RELU, Array, Builder, Known, Tensor, Value, checked, floats, indices
from verifier.checker.lowering.elementwise import ABSOLUTE
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.order import STEP
from verifier.checker.maps import Convolution, Dense, Diagonal, Index, Map, Transposed
from verifier.checker.network import Smooth

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """A tensor whose axes have names, each once."""

    labels: Labels
    value: Value

    def sizes(self) -> dict[str, int]:
        return dict(zip(self.labels, self.value.shape, strict=True))


def contraction(op: Operator) -> Value:
    """Two operands at a time, from the left. What nothing else needs is summed first."""
    terms, result = _equation(op)
    operands, sizes = [_diagonal(op, labels, op.value(i)) for i, labels in enumerate(terms)], dict[str, int]()
    for operand in operands:
        op.require(all(sizes.setdefault(label, n) == n for label, n in operand.sizes().items()), f"axes of several sizes, {operand.sizes()}")
    op.require(set(result) <= sizes.keys() and len(set(result)) == len(result), f"a result with axes {result}")
    count, both = math.prod(n for label, n in sizes.items() if label not in result), 0
    while len(operands) > 1:
        (x, y, *rest), both = operands, both + (isinstance(operands[0].value, Tensor) and isinstance(operands[1].value, Tensor))
        needed = {*result, *(label for other in rest for label in other.labels)}
        left, right = _summed(op.builder, x, needed | {*y.labels}), _summed(op.builder, y, needed | {*x.labels})
        operands = [_contracted(op.builder, left, right, needed, sizes), *rest]
    found = _ordered(op.builder, _summed(op.builder, operands[0], {*result}), result)
    kind = "refused" if len(terms) > 2 else "product" if both else "affine"
    return op.end(op.as_tensor(found), kind, count, name="a product of several tensors")


def _equation(op: Operator) -> tuple[list[Labels], Labels]:
    """Names of the axes of every operand and of the result; those of `...` are numbers, counted from the last one."""
    left, arrow, right = op.string("equation", "").replace(" ", "").partition("->")
    parts = left.split(",")
    op.require(len(parts) == len(op.inputs), f"{len(parts)} operands")
    terms = [_names(op, part, len(op.value(i).shape)) for i, part in enumerate(parts)]
    dots = sorted({label for term in terms for label in term if label.isdigit()}, key=int, reverse=True)
    if arrow:
        before, some, after = right.partition("...")
        return terms, (*before, *(dots if some else ()), *after)
    letters = sorted(label for part in parts for label in part if label.isalpha())
    return terms, (*dots, *(label for label in letters if letters.count(label) == 1))


def _names(op: Operator, part: str, rank: int) -> Labels:
    before, some, after = part.partition("...")
    count = rank - len(before + after)
    op.require(all("a" <= c <= "z" or "A" <= c <= "Z" for c in before + after) and count >= 0 and (count == 0 or some == "..."), f"axes {part!r}")
    return (*before, *(str(i) for i in range(count - 1, -1, -1)), *after)


def _pick(builder: Builder, x: Value, index: Array) -> Value:
    return Known(x.value.reshape(-1)[index]) if isinstance(x, Known) else builder.gather(x, index)


def _diagonal(op: Operator, labels: Labels, x: Value) -> Named:
    """The elements where axes of one name have one index."""
    kept, index = tuple(dict.fromkeys(labels)), indices(x.shape)
    for label in kept:
        axes = [a for a, other in enumerate(labels) if other == label]
        op.require(len({x.shape[a] for a in axes}) == 1, f"axis {label} has several sizes")
    shape = [x.shape[labels.index(label)] for label in kept]
    at = np.indices(shape)
    return Named(kept, _pick(op.builder, x, index[tuple(at[kept.index(label)] for label in labels)]) if kept != labels else x)


def _summed(builder: Builder, x: Named, needed: set[str]) -> Named:
    axes = tuple(a for a, label in enumerate(x.labels) if label not in needed)
    kept = tuple(label for label in x.labels if label in needed)
    if not axes:
        return x
    value = builder.constant(x.value.value) if isinstance(x.value, Known) else x.value
    ones = tuple(1 if a in axes else n for a, n in enumerate(value.shape))
    source = np.ascontiguousarray(np.broadcast_to(indices(ones), value.shape)).reshape(-1)
    shape = tuple(n for a, n in enumerate(value.shape) if a not in axes)
    return Named(kept, builder.linear(Transposed(Index(source, math.prod(ones))), value, shape))


def _ordered(builder: Builder, x: Named, labels: Labels) -> Value:
    return _pick(builder, x.value, indices(x.value.shape).transpose([x.labels.index(label) for label in labels]))


def _contracted(builder: Builder, x: Named, y: Named, needed: set[str], sizes: dict[str, int]) -> Named:
    """The product, summed over common axes that are not needed: a batch of products of matrices."""
    shared = [label for label in x.labels if label in y.labels]
    batch, gone = tuple(label for label in shared if label in needed), tuple(label for label in shared if label not in needed)
    left, right = (tuple(label for label in side.labels if label not in shared) for side in (x, y))
    b, n, m, k = (math.prod(sizes[label] for label in labels) for labels in (batch, left, right, gone))
    first = reshape(builder, _ordered(builder, x, (*batch, *left, *gone)), (b, n, k))
    second = reshape(builder, _ordered(builder, y, (*batch, *gone, *right)), (b, k, m))
    shape = checked([sizes[label] for label in (*batch, *left, *right)], "Einsum")
    found = _outer(builder, first, second) if k == 1 else matrix_product(builder, first, second)
    return Named((*batch, *left, *right), reshape(builder, found, shape))


def _outer(builder: Builder, x: Value, y: Value) -> Tensor:
    """(b, n, 1) times (b, 1, m), element by element."""
    shape = common(x, y)
    if isinstance(x, Known):
        x, y = y, x
    left = builder.spread(_tensor(builder, x), shape)
    return builder.scale(left, floats(y.value)) if isinstance(y, Known) else builder.product(left, builder.spread(y, shape))


def _tensor(builder: Builder, x: Value) -> Tensor:
    return builder.constant(x.value) if isinstance(x, Known) else x


def _running(op: Operator) -> tuple[Tensor, Array]:
    """The input, and the order [..., n] in which its elements along an axis are gone through."""
    x, given = op.tensor(0), op.known(1)
    op.require(given.dtype in (np.int32, np.int64) and given.size == 1, f"an axis of type {given.dtype}")
    order = np.moveaxis(indices(x.shape), op.axis(int(given.reshape(())), len(x.shape)), -1)
    return x, order[..., ::-1] if op.flag("reverse", 0) else order


def cum_sum(op: Operator) -> Value:
    """A triangle of ones."""
    x, order = _running(op)
    n = order.shape[-1]
    rows = op.builder.gather(x, order)
    checked((n, n), op.place)
    matrix = np.tri(n, k=-1 if op.flag("exclusive", 0) else 0)
    found = op.builder.linear(Dense(matrix, x.size // n), rows, rows.shape)
    return op.end(op.builder.gather(found, np.argsort(order.reshape(-1)).reshape(x.shape)), "affine", n - 1)


def cum_prod(op: Operator) -> Value:
    """One product after the other, each rounded."""
    x, order = _running(op)
    flat, late = order.reshape(-1, order.shape[-1]), int(op.flag("exclusive", 0))
    found: list[Value] = [Known(np.ones(len(flat), dtype=np.float32)) if late else op.builder.gather(x, flat[:, 0])]
    for k in range(1, flat.shape[1]):
        factor, before = op.builder.gather(x, flat[:, k - late]), found[-1]
        found.append(factor if isinstance(before, Known) else op.builder.product(before, factor))
    stacked = stack(op.builder, found, np.arange(x.size), starts_of(found))
    place = np.arange(x.size).reshape(flat.shape[::-1]).T.reshape(-1)
    return op.end(op.builder.gather(stacked, place[np.argsort(order.reshape(-1))].reshape(x.shape)), "refused", name="a product over an axis")


def lp_normalization(op: Operator) -> Value:
    """x / n along an axis with n = (sum |x|^p)^(1/p), and 0 where n is 0: the divisor is n + 1 - [n > 0]."""
    x, p = op.tensor(0), op.integer("p", 2)
    axis = op.axis(op.integer("axis", -1), len(x.shape))
    op.require(p in (1, 2), f"p = {p}")
    return op.end(divided_by_norm(op.builder, x, axis, p), "refused", name="a quotient by a norm")


def divided_by_norm(builder: Builder, x: Tensor, axis: int, p: int) -> Tensor:
    """By n = (sum |x|^p)^(1/p) along `axis`, p 1 or 2."""
    kept = tuple(1 if a == axis else n for a, n in enumerate(x.shape))
    each = builder.elementwise(ABSOLUTE if p == 1 else Smooth("pow", 2.0), x)
    source = np.ascontiguousarray(np.broadcast_to(indices(kept), x.shape)).reshape(-1)
    total = builder.linear(Transposed(Index(source, math.prod(kept))), each, kept)
    n = total if p == 1 else builder.elementwise(Smooth("sqrt"), builder.elementwise(RELU, total))
    some = builder.elementwise(STEP, n)
    terms: list[tuple[Map, Tensor]] = [(Index(np.arange(n.size), n.size), n), (Diagonal(np.full(n.size, -1.0)), some)]
    inverse = builder.elementwise(Smooth("reciprocal"), builder.affine(terms, np.ones(kept), kept))
    return builder.product(x, builder.spread(inverse, x.shape))


def lrn(op: Operator) -> Value:
    """x (bias + alpha / size * the sum of squares over `size` channels)^(-beta)."""
    x, size, builder = op.tensor(0), op.integer("size", 0), op.builder
    alpha, beta, bias = op.real("alpha", float(np.float32(1e-4))), op.real("beta", 0.75), op.real("bias", 1.0)
    op.require(len(x.shape) >= 3 and size >= 1 and beta not in (0.0, -1.0), f"size {size}, beta {beta}")
    rest, channels = math.prod(x.shape[2:]), x.shape[1]
    squares = builder.elementwise(Smooth("pow", 2.0), x)
    planes = builder.reshape(squares, (x.shape[0], 1, channels, rest))
    window = Convolution(np.ones((1, 1, size, 1)), planes.shape, (1, 1), (1, 1), ((size - 1) // 2, 0, size - 1 - (size - 1) // 2, 0), 1)
    total = builder.scale(builder.linear(window, planes, x.shape), np.array(alpha / size), np.array(abs(alpha / size) * 2.0**-52))
    power = builder.elementwise(Smooth("pow", -beta), builder.affine([(Index(np.arange(x.size), x.size), total)], np.full(x.shape, bias), x.shape))
    return op.end(builder.product(x, power), "refused", name="a quotient by a power")
