"""Normalisation by statistics of the input itself: layer, instance, group, root mean square, mean and variance.

All are compositions: squares of what is centred, a power or a root of their mean, and a product. The sites are those of
`verifier/checker/FORMAT.md`: Pow 2, Pow -1/2, Product (MeanVarianceNormalization: Pow 2, Sqrt, Reciprocal, Product).
"""

from __future__ import annotations

import math

import numpy as np

from graph.core import Shape
from graph.functions import build
from graph.linear_map import Scale, Sum, compose
from graph.lowering.arithmetic import add, broadcast, float64, multiply, scale
from graph.lowering.builder import Builder, Known, Tensor, Value, varying
from graph.lowering.linear import reshape
from graph.lowering.operator import Operator
from graph.lowering.roots import root


def mean(builder: Builder, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """The mean over `axes`, which stay as 1."""
    shape = tuple(1 if a in axes else n for a, n in enumerate(x.shape))
    share = np.array([1 / math.prod(x.shape[a] for a in axes)])
    return builder.linear(compose(Sum(x.shape, shape, axes), Scale(shape, shape, share)), x)


def centre(builder: Builder, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """x minus its mean over `axes`, and the mean."""
    middle = mean(builder, x, axes)
    return varying(add(builder, x, middle, -1.0)), middle


def inverse_deviation(builder: Builder, x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    """(mean of x^2 over `axes` + epsilon)^(-1/2): one convex function, not a root and a reciprocal."""
    spread = mean(builder, builder.elementwise(build("pow", 2.0), x), axes)
    return builder.elementwise(build("pow", -0.5), varying(add(builder, spread, Known(np.array(epsilon)))))


def lower_layer_normalization(op: Operator) -> list[Value]:
    """Over all axes from `axis` on. The outputs Mean and InvStdDev are there too."""
    x = op.variable(0)
    axes = _trailing(op, x.shape)
    centred, middle = centre(op.builder, x, axes)
    inverse = inverse_deviation(op.builder, centred, axes, _epsilon(op))
    product = op.builder.multiply(centred, broadcast(op.builder, inverse, x.shape))
    return [_scaled(op, product, 1, op.optional(2)), middle, inverse]


def lower_rms_normalization(op: Operator) -> Value:
    x = op.variable(0)
    axes = _trailing(op, x.shape)
    inverse = inverse_deviation(op.builder, x, axes, _epsilon(op))
    return _scaled(op, op.builder.multiply(x, broadcast(op.builder, inverse, x.shape)), 1, None)


def lower_instance_normalization(op: Operator) -> Value:
    """Every channel of every batch element for itself."""
    x = op.variable(0)
    if len(x.shape) < 3 or any(op.value(i).shape != (x.shape[1],) for i in (1, 2)):
        raise op.malformed(f"an input of shape {x.shape} needs at least 3 axes, and one scale and one B a channel")
    return _by_channel(op, _normalised(op.builder, x, tuple(range(2, len(x.shape))), _epsilon(op)))


def batch_normalization_in_training(op: Operator) -> list[Value]:
    """By the statistics of the batch at hand, each channel over all else; and the running mean and variance, moved towards these."""
    x = op.variable(0)
    if len(x.shape) < 2 or any(op.value(i).shape != (x.shape[1],) for i in range(1, 5)):
        raise op.malformed(f"an input of shape {x.shape} needs at least 2 axes, and four parameters a channel")
    axes = (0, *range(2, len(x.shape)))
    centred, middle = centre(op.builder, x, axes)
    spread = mean(op.builder, op.builder.elementwise(build("pow", 2.0), centred), axes)
    inverse = op.builder.elementwise(build("pow", -0.5), varying(add(op.builder, spread, Known(np.array(_epsilon(op))))))
    found = _by_channel(op, op.builder.multiply(centred, broadcast(op.builder, inverse, x.shape)))
    kept, running = np.array(op.real("momentum")), []
    for i, now in ((3, middle), (4, spread)):
        share = scale(op.builder, reshape(now, (x.shape[1],)), 1 - kept)
        running.append(add(op.builder, scale(op.builder, op.value(i), kept), share))
    return [found, *running]


def lower_group_normalization(op: Operator) -> Value:
    """Groups of consecutive channels, each together."""
    x = op.variable(0)
    groups = op.integer("num_groups")
    if len(x.shape) < 2 or groups < 1 or x.shape[1] % groups or any(op.value(i).shape != (x.shape[1],) for i in (1, 2)):
        raise op.malformed(f"an input of shape {x.shape} in {groups} groups needs one scale and one bias a channel")
    rows = Tensor(x.node, (x.shape[0], groups, x.size // x.shape[0] // groups), x.element_type)
    normal = _normalised(op.builder, rows, (2,), _epsilon(op))
    return _by_channel(op, Tensor(normal.node, x.shape, x.element_type))


def lower_mean_variance_normalization(op: Operator) -> Value:
    """(x - mean) / (standard deviation + 1e-9), as the standard's function body has it."""
    x = op.variable(0)
    axes = tuple(sorted({op.axis(a, len(x.shape)) for a in op.integers("axes") or (0, 2, 3)}))
    centred, _ = centre(op.builder, x, axes)
    variance = mean(op.builder, op.builder.elementwise(build("pow", 2.0), centred), axes)
    deviation = add(op.builder, root(op.builder, variance, 2), Known(np.array(float(np.float32(1e-9)))))
    inverse = op.builder.elementwise(build("reciprocal"), varying(deviation))
    return op.builder.multiply(centred, broadcast(op.builder, inverse, x.shape))


def _normalised(builder: Builder, x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    centred, _ = centre(builder, x, axes)
    return builder.multiply(centred, broadcast(builder, inverse_deviation(builder, centred, axes, epsilon), x.shape))


def _by_channel(op: Operator, x: Tensor) -> Value:
    """x times input 1 plus input 2, both one number a channel."""
    per_channel: Shape = (-1, *(1,) * (len(x.shape) - 2))
    gain, bias = (reshape(op.value(i), tuple(op.value(i).size if n < 0 else n for n in per_channel)) for i in (1, 2))
    return add(op.builder, multiply(op.builder, x, gain), bias)


def _scaled(op: Operator, x: Tensor, gain: int, bias: Value | None) -> Value:
    """x times input `gain`, plus the bias where there is one; both broadcast to the shape of x."""
    factor = op.value(gain)
    if any(op.builder.broadcast_shape(v.shape, x.shape) != x.shape for v in (factor, bias) if v is not None):
        raise op.malformed(f"scale or bias cannot be broadcast to {x.shape}")
    scaled = scale(op.builder, x, float64(factor.value)) if isinstance(factor, Known) else multiply(op.builder, x, factor)
    return scaled if bias is None else add(op.builder, scaled, bias)


def _trailing(op: Operator, shape: Shape) -> tuple[int, ...]:
    """The axes from `axis` on. Statistics in half precision are another function, and refused."""
    if op.integer("stash_type", 1) not in (1, 11):
        raise op.refuse("statistics in another type than float or double (stash_type) are not supported")
    return tuple(range(op.axis(op.integer("axis", -1), len(shape)), len(shape)))


def _epsilon(op: Operator) -> float:
    epsilon = op.real("epsilon")
    if not 0 < epsilon < math.inf:
        raise op.refuse(f"epsilon {epsilon} is not a positive number: where nothing varies, 0 would be divided by 0")
    return epsilon
