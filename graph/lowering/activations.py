"""Activation functions with parameters: one univariate node each, with a scaling before or after it where that leaves fewer functions to know."""

from __future__ import annotations

import math

import numpy as np

from graph.functions import build
from graph.functions.facts import Function
from graph.lowering.arithmetic import add, float64, scale
from graph.lowering.builder import Known, Value, varying
from graph.lowering.operator import Operator

CUBIC = 0.044715  # of GELU's tanh form


def scaled(op: Operator, before: float, function: Function, after: float) -> Value:
    """after * function(before * x)."""
    x = op.variable(0)
    inner = x if before == 1 else varying(scale(op.builder, x, np.array(before)))
    found = op.builder.elementwise(function, inner)
    return found if after == 1 else scale(op.builder, found, np.array(after))


def lower_elu(op: Operator) -> Value:
    alpha = op.real("alpha")
    if not 0 <= alpha < math.inf:
        raise op.refuse(f"alpha {alpha} is not supported (0 and above is)")
    return scaled(op, 1.0, build("elu", alpha) if alpha else build("relu"), 1.0)


def lower_celu(op: Operator) -> Value:
    """alpha elu(x / alpha) with the elu of alpha 1, for alpha > 0."""
    alpha = op.real("alpha")
    if not 0 < alpha < math.inf:
        raise op.refuse(f"alpha {alpha} is not supported (above 0 is)")
    return scaled(op, 1 / alpha, build("elu", 1.0), alpha)


def lower_selu(op: Operator) -> Value:
    alpha, gamma = op.real("alpha"), op.real("gamma")
    if not (0 < alpha < math.inf and math.isfinite(gamma) and gamma):
        raise op.refuse(f"alpha {alpha} and gamma {gamma} are not supported (alpha above 0 and gamma other than 0 are)")
    return scaled(op, 1.0, build("elu", alpha), gamma)


def lower_hard_sigmoid(op: Operator) -> Value:
    """clip(alpha x + beta, 0, 1)."""
    inner = add(op.builder, scale(op.builder, op.variable(0), np.array(op.real("alpha"))), Known(np.array(op.real("beta"))))
    return op.builder.elementwise(build("clip", 0.0, 1.0), varying(inner))


def lower_hard_swish(op: Operator) -> Value:
    """x clip(x / 6 + 1/2, 0, 1)."""
    return scaled(op, 1 / 6, build("hard_swish", 0.5), 6.0)


def lower_swish(op: Operator) -> Value:
    """x sigmoid(alpha x)."""
    alpha = op.real("alpha", 1.0)
    if not (math.isfinite(alpha) and alpha):
        raise op.refuse(f"alpha {alpha} is not supported (finite numbers other than 0 are)")
    return scaled(op, alpha, build("swish", 0.0), 1 / alpha)


def lower_gelu(op: Operator) -> Value:
    """x (1 + erf(x / sqrt 2)) / 2, or x (1 + tanh(w (x + 0.044715 x^3))) / 2 with w = sqrt(2 / pi), which is x sigmoid(2 w (x + ...))."""
    form = op.string("approximate", "none")
    if form == "none":
        return scaled(op, math.sqrt(0.5), build("gelu"), math.sqrt(2.0))
    if form != "tanh":
        raise op.malformed(f"approximate {form!r} is neither none nor tanh")
    double = 2 * math.sqrt(2 / math.pi)
    return scaled(op, double, build("swish", CUBIC * math.pi / 8), 1 / double)


def lower_thresholded_relu(op: Operator) -> Value:
    alpha = op.real("alpha")
    if not math.isfinite(alpha):
        raise op.malformed(f"alpha is {alpha}")
    return scaled(op, 1.0, build("threshold", alpha) if alpha else build("relu"), 1.0)


def lower_shrink(op: Operator) -> Value:
    limit, bias = op.real("lambd"), op.real("bias")
    if not (0 < limit < math.inf and math.isfinite(bias)):
        raise op.refuse(f"lambd {limit} and bias {bias} are not supported (lambd above 0 and a finite bias are)")
    return scaled(op, 1.0, build("shrink", limit, bias), 1.0)


def lower_prelu(op: Operator) -> Value:
    """One slope: LeakyRelu. Several: slope x + (1 - slope) relu(x), whose planes are those of the function itself."""
    x, slopes = op.variable(0), float64(op.known(1))
    if np.broadcast_shapes(x.shape, slopes.shape) != x.shape:
        raise op.malformed(f"slopes of shape {slopes.shape} do not broadcast to {x.shape}")
    if np.unique(slopes).size == 1:
        return op.builder.elementwise(build("leaky_relu", float(slopes.flat[0])), x)
    rise = scale(op.builder, op.builder.elementwise(build("relu"), x), 1 - slopes)
    return add(op.builder, scale(op.builder, x, slopes), rise)


def lower_tan(op: Operator) -> Value:
    """tan(x - k pi) with k the whole number nearest to x / pi: on every branch. An interval that reaches over a pole has no bounds."""
    x = op.variable(0)
    branch = op.builder.elementwise(build("nearest"), varying(scale(op.builder, x, np.array(1 / math.pi))))
    return op.builder.elementwise(build("tan"), varying(add(op.builder, x, scale(op.builder, branch, np.array(math.pi)), -1.0)))


def lower_acos(op: Operator) -> Value:
    """pi/2 - arcsin(x)."""
    x = op.builder.elementwise(build("asin"), op.variable(0))
    return add(op.builder, Known(np.array(math.pi / 2)), x, sign=-1.0)


def lower_mish(op: Operator) -> Value:
    return scaled(op, 1.0, build("mish"), 1.0)
