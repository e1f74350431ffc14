"""Operators with kinks and jumps (exact), and smooth ones (enclosed)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from benchmarks.soundness import elementary
from benchmarks.soundness.elementary import Enclosure
from benchmarks.soundness.operators_linear import inverse, mean, reciprocal, reduced_axes, window_axes
from benchmarks.soundness.rule import Call, Rule, UnknownOperator, Value
from benchmarks.soundness.tensor import Tensor, aligned, between, of_enclosures, of_floats, of_fractions
from benchmarks.soundness.windows import inside, spread


def growing(tensor: Tensor, function: Callable[[Fraction], Enclosure]) -> Tensor:
    """A function that never decreases, element by element, from its enclosures at both ends."""
    pairs = [(function(a)[0], function(b)[1]) if a != b else function(a) for a, b in tensor.enclosures()]
    return of_enclosures(pairs, tensor.shape)


def _exactly(function: Callable[[Fraction], Fraction | int]) -> Rule:
    """The rule of a function that never decreases and has rational values."""

    def both(x: Fraction) -> Enclosure:
        value = Fraction(function(x))
        return value, value

    return lambda call: growing(call.tensor(0), both)


def _smooth(function: Callable[[Fraction], Enclosure]) -> Rule:
    return lambda call: growing(call.tensor(0), function)


def _wave(function: Callable[[Fraction], Enclosure], top: Fraction) -> Rule:
    """A sine or cosine: 1 at (2 k + top) pi, -1 half a turn later, and rising or falling between them."""

    def over(pair: Enclosure) -> Enclosure:
        ends = [function(v) for v in (pair if pair[0] != pair[1] else pair[:1])]
        low, high = min(a for a, _ in ends), max(b for _, b in ends)
        if len(ends) == 1:
            return low, high
        return Fraction(-1) if elementary.meets(pair, top + 1) else low, Fraction(1) if elementary.meets(pair, top) else high

    return lambda call: of_enclosures([over(pair) for pair in call.tensor(0).enclosures()], call.tensor(0).shape)


def _sign_of(x: Fraction) -> int:
    return (x > 0) - (x < 0)


def _relu(call: Call) -> Value:
    return _largest([call.tensor(0), _level(0)])


def _level(value: Fraction | int) -> Tensor:
    return of_fractions([Fraction(value)], ())


def _largest(tensors: Sequence[Tensor]) -> Tensor:
    """The elementwise maximum."""
    result = tensors[0]
    for tensor in tensors[1:]:
        a, b, denominator = aligned(result, tensor)
        lower = np.maximum(a.ends()[0], b.ends()[0])
        upper = lower if a.exact and b.exact else np.maximum(a.ends()[1], b.ends()[1])
        result = between(lower, upper, denominator)
    return result


def _max(call: Call) -> Value:
    return _largest([call.tensor(i) for i in range(len(call.inputs))])


def _min(call: Call) -> Value:
    return -_largest([-call.tensor(i) for i in range(len(call.inputs))])


def _leaky_relu(call: Call) -> Value:
    return _kinked(call.tensor(0), of_floats(np.array(call.take("alpha", float(np.float32(0.01))))))


def _prelu(call: Call) -> Value:
    return _kinked(call.tensor(0), call.tensor(1))


def _kinked(x: Tensor, slope: Tensor) -> Tensor:
    return _largest([x, _level(0)]) - slope * _largest([-x, _level(0)])


def _abs(call: Call) -> Value:
    return _kinked(call.tensor(0), _level(-1))


def _clip(call: Call) -> Value:
    x = call.tensor(0)
    limits: list[Tensor | None] = []
    for i, name in ((1, "min"), (2, "max")):
        old = call.take(name) if call.opset < 11 else None
        limits.append(call.tensor(i) if call.has(i) else None if old is None else of_floats(np.array(old)))
    low, high = limits
    x = x if low is None else _largest([x, low])
    return x if high is None else -_largest([-x, -high])


def _hard_sigmoid(call: Call) -> Value:
    alpha, beta = (Fraction(call.take(n, float(np.float32(d)))) for n, d in (("alpha", 0.2), ("beta", 0.5)))
    return _unit(call.tensor(0).scaled(alpha) + _level(beta))


def _unit(x: Tensor) -> Tensor:
    """Clipped to [0, 1]."""
    return -_largest([-_largest([x, _level(0)]), _level(-1)])


def _hard_swish(call: Call) -> Value:
    x = call.tensor(0)
    return x * _unit(x.scaled(Fraction(1, 6)) + _level(Fraction(1, 2)))


def _max_pool(call: Call) -> Value:
    x, kernel = call.tensor(0), call.take("kernel_shape")
    call.take("storage_order")
    where = window_axes(call, x.shape[2:], kernel)
    counts = [axis.count for axis in where]
    if call.outputs != 1 or not inside(where, False).reshape(*counts, -1).any(axis=-1).all():
        raise UnknownOperator("MaxPool with indices, or over nothing but padding")
    lowest = min(x.ends()[0].reshape(-1)) - 1
    ends = [spread(end, where, lowest).reshape(*x.shape[:2], *counts, -1).max(axis=-1) for end in x.ends()]
    return between(ends[0], ends[1], x.denominator)


def _extreme(sign: int) -> Rule:
    """ReduceMax (1), ReduceMin (-1)."""

    def rule(call: Call) -> Value:
        over, keep = reduced_axes(call, 18)
        x = call.tensor(0).scaled(sign)
        low, high = (np.asarray(np.max(end, axis=over, keepdims=keep), dtype=object) for end in x.ends())
        return between(low, high, x.denominator).scaled(sign)

    return rule


def _global_max_pool(call: Call) -> Value:
    x = call.tensor(0)
    low, high = (np.max(end, axis=tuple(range(2, len(x.shape))), keepdims=True) for end in x.ends())
    return between(low, high, x.denominator)


def _pow(call: Call) -> Value:
    x, exponents = call.tensor(0), set(call.tensor(1).numbers().reshape(-1))
    if len(exponents) != 1:
        raise UnknownOperator("Pow with several exponents")
    power = exponents.pop()
    if power == Fraction(1, 2):
        return growing(x, elementary.sqrt)
    if power.denominator != 1 or abs(power) > 64:
        raise UnknownOperator(f"Pow by {float(power):g}")
    result = _level(1).moved(lambda a: np.broadcast_to(a, x.shape))
    for _ in range(abs(int(power)) // 2):
        result = result * x.squared()
    result = result * x if power % 2 else result
    return reciprocal(result) if power < 0 else result


def _elu(call: Call) -> Value:
    alpha = Fraction(call.take("alpha", 1.0))
    x = call.tensor(0)
    negative = growing(-_largest([-x, _level(0)]), elementary.exp) - _level(1)
    return _largest([x, _level(0)]) + negative.scaled(alpha)


def _gelu(call: Call) -> Value:
    x = call.tensor(0)
    if call.take("approximate", "none") != "none":
        raise UnknownOperator("Gelu that is approximate")
    root = of_enclosures([inverse(elementary.sqrt(Fraction(2)))], ())
    return x * (growing(x * root, elementary.erf) + _level(1)).scaled(Fraction(1, 2))


def _softmax(call: Call) -> Value:
    x = call.tensor(0)
    axis = call.take("axis", -1 if call.opset >= 13 else 1)
    if call.opset < 13:  # all from `axis` on counts as one
        flat = x.moved(lambda a: a.reshape(math.prod(a.shape[:axis]), -1))
        return softmax_over(flat, 1).moved(lambda a: a.reshape(x.shape))
    return softmax_over(x, axis)


def softmax_over(x: Tensor, axis: int) -> Tensor:
    """e^(x_i - m) / sum: each end from its own number's end and the opposite ends of the others."""
    rows = x.moved(lambda a: np.moveaxis(a, axis, -1))
    made: list[Enclosure] = []
    pairs = rows.enclosures()
    for start in range(0, len(pairs), rows.shape[-1]):
        row = pairs[start : start + rows.shape[-1]]
        top = Fraction(math.floor(max(b for _, b in row)))
        low, high = [elementary.exp(a - top)[0] for a, _ in row], [elementary.exp(b - top)[1] for _, b in row]
        most, least = sum(high, Fraction(0)), sum(low, Fraction(0))
        for a, b in zip(low, high, strict=True):
            ends = a / (a + most - b), b / (b + least - a)
            made.append((elementary.rounded(ends[0], up=False), elementary.rounded(ends[1], up=True)))
    return of_enclosures(made, rows.shape).moved(lambda a: np.moveaxis(a, -1, axis))


def _layer_normalization(call: Call) -> Value:
    x, axis = call.tensor(0), call.take("axis", -1)
    epsilon = Fraction(call.take("epsilon", float(np.float32(1e-5))))
    if call.take("stash_type", 1) != 1 or call.outputs != 1:
        raise UnknownOperator("LayerNormalization with another precision, or with its statistics")
    over = tuple(range(axis % len(x.shape), len(x.shape)))
    centred = x - mean(x, over, True)
    variance = mean(centred.squared(), over, True)
    roots = growing(variance + _level(epsilon), elementary.sqrt)
    y = centred * reciprocal(roots) * call.tensor(1)
    return y + call.tensor(2) if call.has(2) else y


NONLINEAR: dict[str, Rule] = {
    "Relu": _relu, "LeakyRelu": _leaky_relu, "PRelu": _prelu, "Abs": _abs, "Clip": _clip, "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish, "Max": _max, "Min": _min, "MaxPool": _max_pool, "GlobalMaxPool": _global_max_pool,
    "ReduceMax": _extreme(1), "ReduceMin": _extreme(-1), "Sign": _exactly(_sign_of), "Floor": _exactly(math.floor),
    "Ceil": _exactly(math.ceil), "Round": _exactly(round), "Pow": _pow, "Sin": _wave(elementary.sin, Fraction(1, 2)),
    "Cos": _wave(elementary.cos, Fraction(0)),
    "Exp": _smooth(elementary.exp), "Log": _smooth(elementary.log), "Sqrt": _smooth(elementary.sqrt), "Sigmoid": _smooth(elementary.sigmoid),
    "Tanh": _smooth(elementary.tanh), "Erf": _smooth(elementary.erf), "Softplus": _smooth(elementary.softplus), "Elu": _elu, "Gelu": _gelu,
    "Softmax": _softmax, "LayerNormalization": _layer_normalization,
}  # fmt: skip
