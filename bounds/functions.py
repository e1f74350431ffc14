"""The elementwise functions in torch: value, derivative, and a guess at the point with a given derivative.

Adding a function is one entry here and one in bounds/accuracy.py; a name without an entry raises.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from graph.functions.facts import Function, Pieces

Unary = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TorchFunction:
    """`value` and `derivative` are differentiable and as accurate as bounds/accuracy.py says.

    `tangent_point(slope, near)` guesses where f' = slope, on the convex or concave piece that contains `near`. Nothing
    rests on it: a bad guess, NaN included, gives a looser relaxation, never an unsound one.
    """

    value: Unary
    derivative: Unary
    tangent_point: Callable[[Tensor, Tensor], Tensor]


def torch_function(function: Function) -> TorchFunction:
    """`function` in torch. Raises NotImplementedError for a name without an entry."""
    if isinstance(function, Pieces):
        return _pieces(function)
    if function.name == "pow":
        return _power(function.parameter)
    if function.name not in FUNCTIONS:
        raise NotImplementedError(f"the function {function.name!r} has no torch form: add it to bounds/functions.py")
    return FUNCTIONS[function.name]


def _pieces(function: Pieces) -> TorchFunction:
    def value(x: Tensor) -> Tensor:
        if function.name == "relu":
            return torch.relu(x)
        piece = torch.searchsorted(x.new_tensor(function.breakpoints), x.detach().contiguous(), right=True)
        y = x.new_tensor(function.slopes)[piece] * x + x.new_tensor(function.intercepts)[piece]
        for at, v in zip(function.breakpoints, function.values, strict=True):
            y = torch.where(x == at, x.new_tensor(v), y)
        return torch.where(torch.isnan(x), x, y)

    def derivative(x: Tensor) -> Tensor:
        piece = torch.searchsorted(x.new_tensor(function.breakpoints), x.detach().contiguous(), right=True)
        return x.new_tensor(function.slopes)[piece]

    return TorchFunction(value, derivative, lambda slope, near: near)


def _power(exponent: float | None) -> TorchFunction:
    if exponent is None:
        raise NotImplementedError("a power without its exponent")

    def tangent_point(slope: Tensor, near: Tensor) -> Tensor:
        side = slope / exponent if exponent % 2 == 0 else near  # the derivative of an even power tells left from right
        return (slope / exponent).abs() ** (1 / (exponent - 1)) * side.sign()

    return TorchFunction(lambda x: x**exponent, lambda x: exponent * x ** (exponent - 1), tangent_point)


def _logit(y: Tensor) -> Tensor:
    return torch.log(y) - torch.log1p(-y)


def _bell_point(slope: Tensor, near: Tensor) -> Tensor:
    """Where sigmoid' = slope: s (1 - s) = slope has the smaller root s = 2 slope / (1 + sqrt(1 - 4 slope))."""
    return _logit(2 * slope / (1 + (1 - 4 * slope).sqrt())).abs() * near.sign()


def _cosine_point(slope: Tensor, near: Tensor) -> Tensor:
    """Where cos = slope, on the half period [k pi, (k + 1) pi] of `near`."""
    half = torch.floor(near / math.pi)
    return torch.where(half % 2 == 0, half * math.pi + slope.acos(), (half + 1) * math.pi - slope.acos())


FUNCTIONS: Mapping[str, TorchFunction] = MappingProxyType(
    {
        "cos": TorchFunction(torch.cos, lambda x: -torch.sin(x), lambda a, near: _cosine_point(a, near + math.pi / 2) - math.pi / 2),
        "erf": TorchFunction(
            torch.erf,
            lambda x: 2 / math.sqrt(math.pi) * torch.exp(-x * x),
            lambda a, near: (-torch.log(a * math.sqrt(math.pi) / 2)).sqrt() * near.sign(),
        ),
        "exp": TorchFunction(torch.exp, torch.exp, lambda a, near: torch.log(a)),
        "log": TorchFunction(torch.log, torch.reciprocal, lambda a, near: 1 / a),
        "reciprocal": TorchFunction(torch.reciprocal, lambda x: -1 / (x * x), lambda a, near: (-a).rsqrt() * near.sign()),
        "sigmoid": TorchFunction(torch.sigmoid, lambda x: torch.sigmoid(x) * torch.sigmoid(-x), _bell_point),
        "sin": TorchFunction(torch.sin, torch.cos, _cosine_point),
        "softplus": TorchFunction(lambda x: torch.logaddexp(x, torch.zeros_like(x)), torch.sigmoid, lambda a, near: _logit(a)),
        "sqrt": TorchFunction(torch.sqrt, lambda x: 0.5 * torch.rsqrt(x), lambda a, near: 0.25 / (a * a)),
        "tanh": TorchFunction(
            torch.tanh,
            lambda x: 4 * torch.sigmoid(2 * x) * torch.sigmoid(-2 * x),
            lambda a, near: _bell_point(a / 4, near) / 2,
        ),
    }
)
