"""Einsum as diagonals, sums and matrix products; CumSum and CumProd."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.linear_map import Dense, Sum
from graph.lowering.arithmetic import concat, float64, multiply
from graph.lowering.builder import Builder, Known, Tensor, Value, indices
from graph.lowering.linear import matmul, reshape
from graph.lowering.operator import Operator

Array = NDArray[Any]


@dataclass(frozen=True)
class Labelled:
    """A tensor whose axes have labels, no label twice."""

    labels: tuple[str, ...]
    value: Value

    def size(self, label: str) -> int:
        return self.value.shape[self.labels.index(label)]


def lower_einsum(op: Operator) -> Value:
    """Two operands at a time: what no later operand and not the result needs is summed as soon as it may be."""
    terms, result = _equation(op)
    operands = [_diagonal(op, labels, op.value(i)) for i, labels in enumerate(terms)]
    sizes: dict[str, int] = {}
    for operand in operands:
        for label in operand.labels:
            if sizes.setdefault(label, operand.size(label)) != operand.size(label):
                raise op.malformed(f"the axis {label!r} has two sizes")
    while len(operands) > 1:
        first, second, *rest = operands
        needed = {*result, *(label for other in rest for label in other.labels)}
        operands = [
            _contracted(
                op.builder, _summed(op.builder, first, needed | {*second.labels}), _summed(op.builder, second, needed | {*first.labels}), needed
            ),
            *rest,
        ]
    return _ordered(op.builder, _summed(op.builder, operands[0], set(result)), result).value


def _equation(op: Operator) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The labels of every operand and of the result; the axes of `...` are called 0, 1, ... from the back."""
    text = op.string("equation").replace(" ", "")
    left, arrow, right = text.partition("->")
    parts = left.split(",")
    if len(parts) != len(op.inputs):
        raise op.malformed(f"the equation {text!r} has {len(parts)} operands, not {len(op.inputs)}")
    terms = [_labels(op, part, len(op.value(i).shape)) for i, part in enumerate(parts)]
    dots = sorted({label for term in terms for label in term if label.isdigit()}, key=int, reverse=True)
    if arrow:
        return terms, tuple(label for piece in right.partition("...") for label in (dots if piece == "..." else piece))
    counts = Counter(label for part in parts for label in part if label.isalpha())
    return terms, (*dots, *sorted(label for label, n in counts.items() if n == 1))


def _labels(op: Operator, part: str, rank: int) -> tuple[str, ...]:
    before, dots, after = part.partition("...")
    count = rank - len(before) - len(after) if dots else 0
    if (before + after and not (before + after).isalpha()) or len(before) + len(after) + count != rank or count < 0:
        raise op.malformed(f"{part!r} does not name the axes of a tensor of rank {rank}")
    return (*before, *(str(count - 1 - i) for i in range(count)), *after)


def _diagonal(op: Operator, labels: tuple[str, ...], x: Value) -> Labelled:
    """The elements where axes of one label have the same index."""
    kept = tuple(dict.fromkeys(labels))
    if kept == labels:
        return Labelled(labels, x)
    letters = {label: chr(ord("a") + i) for i, label in enumerate(kept)}
    spec = f"{''.join(letters[label] for label in labels)}->{''.join(letters[label] for label in kept)}"
    return Labelled(kept, _moved(op.builder, x, np.einsum(spec, indices(x.shape))))


def _moved(builder: Builder, x: Value, index: Array) -> Value:
    return Known(x.value.reshape(-1)[index]) if isinstance(x, Known) else builder.gather(x, index)


def _summed(builder: Builder, x: Labelled, needed: set[str]) -> Labelled:
    axes = tuple(a for a, label in enumerate(x.labels) if label not in needed)
    if not axes:
        return x
    kept = tuple(label for label in x.labels if label in needed)
    if isinstance(x.value, Known):
        return Labelled(kept, Known(float64(x.value.value).sum(axis=axes)))
    shape = tuple(n for a, n in enumerate(x.value.shape) if a not in axes)
    return Labelled(kept, builder.linear(Sum(x.value.shape, shape, axes), x.value))


def _ordered(builder: Builder, x: Labelled, labels: tuple[str, ...]) -> Labelled:
    """The axes in the order of `labels`."""
    order = [x.labels.index(label) for label in labels]
    return Labelled(labels, _moved(builder, x.value, indices(x.value.shape).transpose(order)))


def _contracted(builder: Builder, x: Labelled, y: Labelled, needed: set[str]) -> Labelled:
    """The product of two operands, summed over common axes that are not needed: a batch of matrix products."""
    common = [label for label in x.labels if label in y.labels]
    batch, summed = [label for label in common if label in needed], [label for label in common if label not in needed]
    left = [label for label in x.labels if label not in common]
    right = [label for label in y.labels if label not in common]
    sizes = {label: operand.size(label) for operand in (x, y) for label in operand.labels}

    def count(labels: list[str]) -> int:
        return math.prod(sizes[label] for label in labels)

    a = reshape(_ordered(builder, x, (*batch, *left, *summed)).value, (count(batch), count(left), count(summed)))
    b = reshape(_ordered(builder, y, (*batch, *summed, *right)).value, (count(batch), count(summed), count(right)))
    labels = (*batch, *left, *right)
    shape = builder.check_size([sizes[label] for label in labels])
    if count(summed) == 1:  # an outer product, element by element
        product = multiply(builder, reshape(a, (count(batch), count(left), 1)), reshape(b, (count(batch), 1, count(right))))
    else:
        product = matmul(builder, a, b)
    return Labelled(labels, reshape(product, shape))


def lower_cum_sum(op: Operator) -> Value:
    """A triangular matrix of ones along an axis."""
    x, axis, order = _running(op)
    size = x.shape[axis]
    op.builder.check_size((size, size))
    matrix = np.tri(size, k=-1 if op.integer("exclusive") else 0)
    rows = op.builder.gather(x, order)
    total = op.builder.linear(Dense(rows.shape, rows.shape, matrix), rows)
    return op.builder.gather(total, _back(order).reshape(x.shape))


def lower_cum_prod(op: Operator) -> Value:
    """One product after the other."""
    x, _, order = _running(op)
    flat = order.reshape(-1, order.shape[-1])
    exclusive = bool(op.integer("exclusive"))
    found: list[Value] = [Known(np.ones(len(flat)))] if exclusive else [op.builder.gather(x, flat[:, 0])]
    for k in range(1, flat.shape[1]):
        found.append(multiply(op.builder, found[-1], op.builder.gather(x, flat[:, k - exclusive])))
    total = concat(op.builder, found)  # [size, rows]
    return op.builder.gather(total, indices((flat.shape[1], len(flat))).T.reshape(-1)[_back(order).reshape(x.shape)])


def _running(op: Operator) -> tuple[Tensor, int, Array]:
    """The input, the axis, and the order [..., size] in which its elements are gone through."""
    x = op.variable(0)
    axis = op.axis(int(op.known(1).reshape(())), len(x.shape))
    order = np.moveaxis(indices(x.shape), axis, -1)
    return x, axis, order[..., ::-1] if op.integer("reverse") else order


def _back(order: Array) -> Array:
    """Where each element of the input stands in `order` [size of the input]."""
    place = np.empty(order.size, dtype=np.int64)
    place[order.reshape(-1)] = np.arange(order.size)
    return place
