"""Normalisation by statistics of the input itself, and the logarithm of a softmax.

In float32 all are refused: runtimes compute the variance in ways that lose different digits (the mean of the squares minus the square of
the mean, for one), and no bound of that loss is known.
"""

from __future__ import annotations

import math

import numpy as np

from verifier.checker.lowering.basic import inverse, total
from verifier.checker.lowering.builder import RELU, Array, Builder, Known, Shape, Tensor, Value, indices
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Index, Transposed
from verifier.checker.network import Smooth, Softmax

EPSILON = float(np.float32(1e-5))
WAYS = "runtimes compute a variance in several ways"


def mean(builder: Builder, x: Tensor, axes: Shape) -> Tensor:
    """Over `axes`, which stay as 1."""
    kept = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    source = np.ascontiguousarray(np.broadcast_to(indices(kept), x.shape)).reshape(-1)
    summed = builder.linear(Transposed(Index(source, math.prod(kept))), x, kept)
    return builder.scale(summed, *inverse(np.array(float(math.prod(x.shape[a] for a in axes)))))


def normal(builder: Builder, x: Tensor, axes: Shape, epsilon: float, centre: bool = True) -> tuple[Tensor, Tensor | None, Tensor]:
    """x minus its mean (if `centre`) times (mean of the squares of that + epsilon)^(-1/2); the mean; the power."""
    middle = mean(builder, x, axes) if centre else None
    centred = x if middle is None else total(builder, [x, middle], [1.0, -1.0])
    spread = mean(builder, builder.elementwise(Smooth("pow", 2.0), centred), axes)
    inverted = builder.elementwise(Smooth("pow", -0.5), builder.plus(spread, np.full(spread.shape, epsilon)))
    return builder.product(centred, builder.spread(inverted, x.shape)), middle, inverted


def scaled(op: Operator, x: Tensor, gain: Value, bias: Value | None) -> Tensor:
    """x gain + bias, both of which broadcast to the shape of x."""
    for v in (gain, bias):
        op.require(v is None or np.broadcast_shapes(v.shape, x.shape) == x.shape, "a scale or bias of another shape")
    found = op.builder.scale(x, gain.value) if isinstance(gain, Known) else op.builder.product(x, op.builder.spread(gain, x.shape))
    return found if bias is None else total(op.builder, [found, bias], [1.0, 1.0])


def epsilon_of(op: Operator) -> float:
    found = op.real("epsilon", EPSILON)
    op.require(found > 0, f"epsilon {found}")
    return found


def _trailing(op: Operator, shape: Shape) -> Shape:
    op.require(op.integer("stash_type", 1) in (1, 11), "stash_type")
    return tuple(range(op.axis(op.integer("axis", -1), len(shape)), len(shape)))


def layer_normalization(op: Operator) -> list[Value]:
    x = op.tensor(0)
    found, middle, inverted = normal(op.builder, x, _trailing(op, x.shape), epsilon_of(op))
    outputs = (scaled(op, found, op.value(1), op.optional(2)), middle, inverted)
    return [op.end(y, "refused", name=WAYS) for y in outputs if y is not None]


def rms_normalization(op: Operator) -> Value:
    x = op.tensor(0)
    found, _, _ = normal(op.builder, x, _trailing(op, x.shape), epsilon_of(op), centre=False)
    return op.end(scaled(op, found, op.value(1), None), "refused", name=WAYS)


def by_channel(op: Operator, x: Tensor) -> Value:
    """x times input 1 plus input 2, one number a channel each."""
    gain, bias = op.value(1), op.value(2)
    op.require(gain.shape == bias.shape == (x.shape[1],), f"scale {gain.shape} and bias {bias.shape}")
    column = (x.shape[1], *(1,) * (len(x.shape) - 2))
    parts = [Known(v.value.reshape(column)) if isinstance(v, Known) else op.builder.reshape(v, column) for v in (gain, bias)]
    return op.end(scaled(op, x, *parts), "refused", name=WAYS)


def instance_normalization(op: Operator) -> Value:
    x = op.tensor(0)
    op.require(len(x.shape) >= 3, f"input of shape {x.shape}")
    return by_channel(op, normal(op.builder, x, tuple(range(2, len(x.shape))), epsilon_of(op))[0])


def group_normalization(op: Operator) -> Value:
    """Groups of consecutive channels."""
    x, groups = op.tensor(0), op.integer("num_groups", 0)
    op.require(len(x.shape) >= 2 and groups > 0 and x.shape[1] % groups == 0, f"{groups} groups of {x.shape}")
    rows = op.builder.reshape(x, (x.shape[0], groups, x.size // x.shape[0] // groups))
    return by_channel(op, op.builder.reshape(normal(op.builder, rows, (2,), epsilon_of(op))[0], x.shape))


def mean_variance_normalization(op: Operator) -> Value:
    """(x - mean) / (deviation + 1e-9), the number being a float32."""
    x, b = op.tensor(0), op.builder
    axes = op.axes(op.integers("axes") or (0, 2, 3), len(x.shape))
    centred = total(b, [x, mean(b, x, axes)], [1.0, -1.0])
    variance = mean(b, b.elementwise(Smooth("pow", 2.0), centred), axes)
    deviation = b.elementwise(Smooth("sqrt"), b.elementwise(RELU, variance))
    inverted = b.elementwise(Smooth("reciprocal"), b.plus(deviation, np.full(deviation.shape, float(np.float32(1e-9)))))
    return op.end(b.product(centred, b.spread(inverted, x.shape)), "refused", name=WAYS)


def rows_of(op: Operator, shape: Shape) -> tuple[Array, int]:
    """Indices with what is one row at the end, and its length: before version 13 all axes from `axis` on, since then `axis` alone."""
    axis = op.axis(op.integer("axis", -1 if op.version >= 13 else 1), len(shape))
    return (indices(shape), math.prod(shape[axis:])) if op.version < 13 else (np.moveaxis(indices(shape), axis, -1), shape[axis])


def log_softmax(op: Operator) -> Value:
    """(x - c) - log sum exp(x - c)."""
    x = op.tensor(0)
    order, width = rows_of(op, x.shape)
    shifted, _, summed, row_of = softmax_weights(op.builder, op.builder.gather(x, order), width)
    logarithm = op.builder.linear(Index(row_of, summed.size), op.builder.elementwise(Smooth("log"), summed), shifted.shape)
    back = np.argsort(order.reshape(-1), kind="stable").reshape(x.shape)
    return op.end(op.builder.gather(total(op.builder, [shifted, logarithm], [1.0, -1.0]), back), "refused", name="a logarithm of a softmax")


def softmax_weights(builder: Builder, x: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor, Array]:
    """Over rows of `width`, one after the other: x - c, exp(x - c), its sums, and the row of every element."""
    (shifted, row_of), count = softmax_shift(builder, x, width), x.size // width
    weight = builder.elementwise(Smooth("exp"), shifted)
    return shifted, weight, builder.linear(Transposed(Index(row_of, count)), weight, (count,)), row_of


def softmax_shift(builder: Builder, x: Tensor, width: int) -> tuple[Tensor, Array]:
    """Of these x - c alone, and the row of every element."""
    row_of = np.arange(x.size, dtype=np.int64) // width
    shifted = builder.affine([(Index(indices((x.size,)), x.size), x)], np.zeros(x.shape), x.shape)
    builder.softmaxes.append(Softmax(shifted.node, x.size // width, row_of))
    return shifted, row_of
