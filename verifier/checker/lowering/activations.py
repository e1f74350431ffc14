"""Activation functions with parameters: one function of one variable each, with a scaling before or after it."""

from __future__ import annotations

import math

import numpy as np

from verifier.checker.lowering.basic import inverse
from verifier.checker.lowering.builder import RELU, Array, Tensor, Value, indices, take
from verifier.checker.lowering.elementwise import clipping
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Diagonal
from verifier.checker.network import Function, Pieces, Smooth

ROUND = Pieces(step="round")
ROOT_HALF, DOUBLE_W = math.sqrt(0.5), 2 * math.sqrt(2 / math.pi)  # within 2 u and 4 u
Factor = tuple[Array, Array]  # a number, and how far the true one may be from it


def exactly(x: float) -> Factor:
    return np.array(x), np.array(0.0)


def about(x: float) -> Factor:
    """A computed number, at most 8 u off."""
    return np.array(x), np.array(abs(x) * 2.0**-50)


def scaled(op: Operator, before: Factor, function: Function, after: Factor) -> Tensor:
    """after f(before x)."""
    x = op.tensor(0)
    inner = x if before[0] == 1 else op.builder.scale(x, *before)
    found = op.builder.elementwise(function, inner)
    return found if after[0] == 1 else op.builder.scale(found, *after)


def elu(op: Operator) -> Value:
    alpha = op.real("alpha", 1.0)
    op.require(alpha >= 0, f"alpha {alpha}")
    return op.end(op.builder.elementwise(Smooth("elu", alpha) if alpha else RELU, op.tensor(0)), "kernel", name="Elu")


def celu(op: Operator) -> Value:
    """alpha elu(x / alpha), the elu of alpha 1."""
    alpha = op.real("alpha", 1.0)
    op.require(alpha > 0, f"alpha {alpha}")
    return op.end(scaled(op, inverse(np.array(alpha)), Smooth("elu", 1.0), exactly(alpha)), "kernel", name="Celu")


def selu(op: Operator) -> Value:
    alpha, gamma = op.real("alpha", float(np.float32(1.67326319217681884765625))), op.real("gamma", float(np.float32(1.05070102214813232421875)))
    op.require(alpha > 0 and gamma != 0, f"alpha {alpha}, gamma {gamma}")
    return op.end(scaled(op, exactly(1.0), Smooth("elu", alpha), exactly(gamma)), "kernel", name="Selu")


def hard_sigmoid(op: Operator) -> Value:
    """clip(alpha x + beta, 0, 1)."""
    alpha, beta = op.real("alpha", float(np.float32(0.2))), op.real("beta", 0.5)
    x = op.tensor(0)
    line = op.builder.plus(op.builder.scale(x, np.array(alpha)), np.broadcast_to(np.array(beta), x.shape))
    return op.end(op.builder.elementwise(clipping(0.0, 1.0), line), "pieces", 2)


def hard_swish(op: Operator) -> Value:
    """x clip(x / 6 + 1/2, 0, 1)."""
    return op.end(scaled(op, inverse(np.array(6.0)), Smooth("hard_swish", 0.5), exactly(6.0)), "kernel", name="HardSwish")


def swish(op: Operator) -> Value:
    """x sigmoid(alpha x)."""
    alpha = op.real("alpha", 1.0)
    op.require(alpha != 0, "alpha 0")
    return op.end(scaled(op, exactly(alpha), Smooth("swish"), inverse(np.array(alpha))), "kernel", name="Swish")


def gelu(op: Operator) -> Value:
    """x (1 + erf(x / sqrt 2)) / 2; or x (1 + tanh(w (x + 0.044715 x^3))) / 2 with w = sqrt(2 / pi), which is x sigmoid(2 w (x + ...))."""
    form = op.string("approximate", "none")
    op.require(form in ("none", "tanh"), f"approximate {form!r}")
    if form == "none":
        found = scaled(op, about(ROOT_HALF), Smooth("gelu"), about(math.sqrt(2.0)))
    else:
        found = scaled(op, about(DOUBLE_W), Smooth("swish", 0.044715 * math.pi / 8), about(1 / DOUBLE_W))
    return op.end(found, "kernel", name="Gelu")


def mish(op: Operator) -> Value:
    return op.end(op.builder.elementwise(Smooth("mish"), op.tensor(0)), "kernel", name="Mish")


def thresholded_relu(op: Operator) -> Value:
    """x for x > alpha, else 0."""
    alpha = op.real("alpha", 1.0)
    return op.end(op.builder.elementwise(Pieces((alpha,), (0.0, 1.0), (0.0, 0.0), (0.0,)), op.tensor(0)), "exact")


def shrink(op: Operator) -> Value:
    """x + bias for x < -lambd, x - bias for x > lambd, else 0."""
    limit, bias = op.real("lambd", 0.5), op.real("bias", 0.0)
    op.require(limit > 0, f"lambd {limit}")
    function = Pieces((-limit, limit), (1.0, 0.0, 1.0), (bias, 0.0, -bias), (0.0, 0.0))
    return op.end(op.builder.elementwise(function, op.tensor(0)), "pieces", 1)


def prelu(op: Operator) -> Value:
    """One slope: LeakyRelu. Several: slope x + (1 - slope) relu(x), the factor being known but for its rounding."""
    x, slope = op.tensor(0), op.known_floats(1)
    op.require(np.broadcast_shapes(x.shape, slope.shape) == x.shape, f"slopes of shape {slope.shape}")
    if (slope == slope.flat[0]).all():
        function = Pieces((0.0,), (float(slope.flat[0]), 1.0), (0.0, 0.0), (0.0,))
        return op.end(op.builder.elementwise(function, x), "pieces", 1)
    bent, rest = op.builder.elementwise(RELU, x), 1 - slope
    parts = [op.builder.scale(x, slope), op.builder.scale(bent, rest, np.abs(rest) * 2.0**-53)]
    return op.end(op.builder.sum(parts), "pieces", 1)


def acos(op: Operator) -> Value:
    """pi/2 - arcsin(x)."""
    bent = op.builder.scale(op.builder.elementwise(Smooth("asin"), op.tensor(0)), np.array(-1.0))
    half = np.full(bent.shape, math.pi / 2)
    return op.end(op.builder.plus(bent, half, half * 2.0**-52), "kernel", name="Acos")


def tan(op: Operator) -> Value:
    """tan(x - k pi), k being the whole number nearest to x / pi: the same for every k."""
    x, builder = op.tensor(0), op.builder
    branch = builder.elementwise(ROUND, builder.scale(x, *about(1 / math.pi)))
    value, radius = about(math.pi)
    turn = Diagonal(np.full(x.size, -value), np.full(x.size, radius))
    reduced = builder.affine([(take(x, indices(x.shape)), x), (turn, branch)], None, x.shape)
    return op.end(builder.elementwise(Smooth("tan"), reduced), "refused", name="Tan")
