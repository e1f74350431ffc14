"""Functions of one variable, and comparisons: activations, gates, steps. Where one jumps, a float32 execution may be off by the jump."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st
from onnx import TensorProto, helper

from benchmarks.strategies.builder import ACTIVATION_ERROR, ROUNDING, Builder, Draw, Tensor, largest, weights
from benchmarks.strategies.shapes import partner

Operator = Callable[[Builder, Draw, Tensor], Tensor]


def _bounded(operator: str, magnitude: float, lipschitz: float) -> Operator:
    """A function with |f| <= magnitude."""
    return lambda b, draw, x: b.function(operator, x, magnitude, lipschitz)


def _sublinear(operator: str, lipschitz: float, at_least: float = 0.0) -> Operator:
    """A function with |f(x)| <= lipschitz max(|x|, at_least)."""
    return lambda b, draw, x: b.function(operator, x, lipschitz * max(x.magnitude, at_least), lipschitz)


def _elu(operator: str) -> Operator:
    """Elu and Celu; their slopes are at most max(1, alpha)."""

    def build(b: Builder, draw: Draw, x: Tensor) -> Tensor:
        alpha = draw(st.sampled_from([1.0, 0.5, 1.5]))
        return b.function(operator, x, max(x.magnitude, alpha), max(1.0, alpha), alpha=alpha)

    return build


def _hard_sigmoid(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    return b.piecewise("HardSigmoid", x, 1.0, alpha=draw(st.sampled_from([0.25, 0.5])), beta=draw(st.sampled_from([0.5, 0.25])))


def _prelu(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Slopes of its own for every place of the last axis."""
    slopes = weights(draw, x.shape[-1])
    return b.linear("PRelu", x, [b.constant(slopes)], x.shape, max(1.0, largest(slopes)), 0.0, 1)


def _steep(operator: str, slope: Callable[[float], float]) -> Operator:
    """Sinh and Cosh, near 0; no larger than cosh, and `slope` is that of the end of the range."""

    def build(b: Builder, draw: Draw, x: Tensor) -> Tensor:
        x = b.tame(x, 3.0)
        end = x.magnitude + x.error
        return b.function(operator, x, math.cosh(end), slope(end))

    return build


def _of_half_a_sine(operator: str, magnitude: float, lipschitz: float) -> Operator:
    """A function with the domain (-1, 1), of sin(x) / 2."""

    def build(b: Builder, draw: Draw, x: Tensor) -> Tensor:
        sine = b.function("Sin", x, 1.0, 1.0)
        half = b.linear("Mul", sine, [b.constant(np.full(1, 0.5, np.float32))], x.shape, 0.5, 0.0, 1)
        return b.function(operator, half, magnitude, lipschitz)

    return build


def _gate(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """x sigmoid(x), or as exporters write GELU: x (1 + erf(x)) / 2. Slopes are below 1.2."""
    if draw(st.booleans()):
        factor = b.function("Sigmoid", x, 1.0, 1.0)
    else:
        factor = b.function("Erf", x, 1.0, 1.2)
        factor = b.linear("Add", factor, [b.constant(np.ones(1, np.float32))], x.shape, 1.0, 1.0, 1)
        factor = b.linear("Mul", factor, [b.constant(np.full(1, 0.5, np.float32))], x.shape, 0.5, 0.0, 1)
    error = x.error * factor.magnitude + (x.magnitude + x.error) * factor.error + 4 * ROUNDING * x.magnitude
    return b.emit("Mul", [x.name, factor.name], x.shape, x.magnitude, error)


def _step(operator: str, widest: float) -> Operator:
    """Sign, Floor, Ceil, Round: none is further than `widest` from its argument."""

    def build(b: Builder, draw: Draw, x: Tensor) -> Tensor:
        if operator == "Sign":
            return b.emit(operator, [x.name], x.shape, 1.0, 2.0)
        return b.emit(operator, [x.name], x.shape, x.magnitude + widest, x.error + 1.0)

    return build


def _thresholded(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """x above alpha, else 0: it jumps by alpha."""
    alpha = draw(st.sampled_from([0.5, 1.0]))
    return b.emit("ThresholdedRelu", [x.name], x.shape, x.magnitude, x.error + alpha + ROUNDING, alpha=alpha)


def _shrink(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """0 between -lambd and lambd, beyond them nearer to 0 by the bias; it jumps by lambd - bias."""
    limit, bias = draw(st.sampled_from([0.5, 1.0])), draw(st.sampled_from([0.0, 0.5]))
    error = x.error + (limit - bias) + 2 * ROUNDING * (x.magnitude + bias)
    return b.emit("Shrink", [x.name], x.shape, x.magnitude, error, lambd=limit, bias=bias)


def _logical(b: Builder, operator: str, *inputs: str) -> str:
    """The name of a tensor of truth values, which no other operator takes."""
    name = f"t{len(b.nodes)}"
    b.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"{operator}_{len(b.nodes)}"))
    return name


def _condition(b: Builder, draw: Draw, x: Tensor) -> str:
    """Truth values in the shape of x: it is compared with numbers, or with an earlier tensor; perhaps two such, or the contrary."""
    other = b.constant(weights(draw, x.shape[-1])) if draw(st.booleans()) else partner(b, draw, x).name
    found = _logical(b, draw(st.sampled_from(["Greater", "Less", "GreaterOrEqual", "LessOrEqual"])), x.name, other)
    join = draw(st.sampled_from(["", "", "Not", "And", "Or", "Xor"]))
    if join == "Not":
        return _logical(b, "Not", found)
    if not join:
        return found
    second = _logical(b, "Less", x.name, b.constant(weights(draw, x.shape[-1])))
    return _logical(b, join, found, second)


def _where(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """One of two tensors, by a comparison. Where it turns out otherwise in float32, the result is the other one."""
    y = partner(b, draw, x)
    condition = _condition(b, draw, x)
    error = 0.0 if x == y else x.magnitude + y.magnitude
    return b.emit("Where", [condition, x.name, y.name], x.shape, max(x.magnitude, y.magnitude), max(x.error, y.error) + error)


def _cast(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """1 where a comparison holds, else 0."""
    return b.emit("Cast", [_condition(b, draw, x)], x.shape, 1.0, 1.0, to=TensorProto.FLOAT)


def _log_softmax(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    magnitude = 2 * x.magnitude + math.log(x.shape[-1])
    error = 2 * x.error + 4 * ACTIVATION_ERROR * max(1.0, magnitude)
    return b.emit("LogSoftmax", [x.name], x.shape, magnitude, error, axis=draw(st.sampled_from([-1, len(x.shape) - 1])))


ACTIVATIONS: dict[str, Operator] = {
    "Elu": _elu("Elu"),
    "Celu": _elu("Celu"),
    "Selu": _sublinear("Selu", 1.76, 1.0),
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _sublinear("HardSwish", 1.5),
    "Softsign": _bounded("Softsign", 1.0, 1.0),
    "PRelu": _prelu,
    "Atan": _bounded("Atan", 1.6, 1.0),
    "Asinh": _sublinear("Asinh", 1.0),
    "Sinh": _steep("Sinh", math.cosh),
    "Cosh": _steep("Cosh", math.sinh),
    "Asin": _of_half_a_sine("Asin", 0.53, 1.2),
    "Acos": _of_half_a_sine("Acos", 2.1, 1.2),
    "Atanh": _of_half_a_sine("Atanh", 0.55, 1.4),
    "Mul as a gate": _gate,
    "LogSoftmax": _log_softmax,
    "Sign": _step("Sign", 1.0),
    "Floor": _step("Floor", 1.0),
    "Ceil": _step("Ceil", 1.0),
    "Round": _step("Round", 0.5),
    "ThresholdedRelu": _thresholded,
    "Shrink": _shrink,
    "Where": _where,
    "Cast of a comparison": _cast,
}
