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

from graph.functions.facts import Function, Pieces, Stairs
from graph.functions.whole import LARGEST_CAST

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
    if function.name in WITH_PARAMETER:
        return WITH_PARAMETER[function.name](function.parameter)
    if function.name not in FUNCTIONS:
        raise NotImplementedError(f"the function {function.name!r} has no torch form: add it to bounds/functions.py")
    return FUNCTIONS[function.name]


def _cast(kind: str) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.where(x <= LARGEST_CAST[kind], torch.floor(x), torch.nan)


def _pieces(function: Pieces) -> TorchFunction:
    def value(x: Tensor) -> Tensor:
        if function.name == "relu":
            return torch.relu(x)
        if isinstance(function, Stairs):
            return torch.round(x).clamp(function.intercepts[0], function.intercepts[-1])
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


def _elu(alpha: float | None) -> TorchFunction:
    if alpha is None:
        raise NotImplementedError("an ELU without its alpha")
    return TorchFunction(
        lambda x: torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0))),
        lambda x: torch.where(x > 0, torch.ones_like(x), alpha * torch.exp(x.clamp(max=0))),
        lambda slope, near: torch.log(slope / alpha).clamp(max=0),
    )


def _hard_swish(shift: float | None) -> TorchFunction:
    if shift is None:
        raise NotImplementedError("a HardSwish without its shift")

    def derivative(x: Tensor) -> Tensor:
        return torch.where(x < -shift, 0.0, torch.where(x > 1 - shift, 1.0, 2 * x + shift)).to(x.dtype)

    return TorchFunction(lambda x: x * (x + shift).clamp(0, 1), derivative, lambda slope, near: (slope - shift) / 2)


def _swish(cubic: float | None) -> TorchFunction:
    if cubic is None:
        raise NotImplementedError("a Swish without its cubic term")

    def value(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x + cubic * (x * x * x) if cubic else x)

    def derivative(x: Tensor) -> Tensor:
        near = x.clamp(-1000, 1000)  # beyond, the slope is 0 or 1
        inner = near + cubic * (near * near * near)
        return torch.sigmoid(inner) * (1 + near * (1 + 3 * cubic * near * near) * torch.sigmoid(-inner))

    return TorchFunction(value, derivative, _newton(derivative))


def _gelu_derivative(x: Tensor) -> Tensor:
    share: Tensor = 0.5 * torch.special.erfc(-x)
    return share + x * torch.exp(-x * x) / math.sqrt(math.pi)


def _mish_share(x: Tensor) -> tuple[Tensor, Tensor]:
    """(tanh(ln(1 + e^x)), its derivative), as in graph/functions/mish.py."""
    t = torch.exp(-x.abs())
    low, high = t * t + 2 * t, 1 + 2 * t
    share = torch.where(x < 0, low / (low + 2), high / (high + 2 * t * t))
    return share, torch.where(x < 0, 4 * t * (t + 1) / (low + 2) ** 2, 4 * t * t * (1 + t) / (high + 2 * t * t) ** 2)


def _mish_derivative(x: Tensor) -> Tensor:
    share, slope = _mish_share(x)
    return share + x * slope


def _newton(derivative: Unary) -> Callable[[Tensor, Tensor], Tensor]:
    """A tangent point by Newton's method with differences, from at most 4 away from 0: for functions whose f' has no inverse in closed form."""

    def tangent_point(slope: Tensor, near: Tensor) -> Tensor:
        x, h = near.clamp(-4, 4) + torch.zeros_like(slope), 2.0**-8
        for _ in range(5):
            bend = (derivative(x + h) - derivative(x - h)) / (2 * h)
            x = x - ((derivative(x) - slope) / bend).clamp(-1, 1)
        return x

    return tangent_point


def _logit(y: Tensor) -> Tensor:
    return torch.log(y) - torch.log1p(-y)


def _bell_point(slope: Tensor, near: Tensor) -> Tensor:
    """Where sigmoid' = slope: s (1 - s) = slope has the smaller root s = 2 slope / (1 + sqrt(1 - 4 slope))."""
    return _logit(2 * slope / (1 + (1 - 4 * slope).sqrt())).abs() * near.sign()


def _cosine_point(slope: Tensor, near: Tensor) -> Tensor:
    """Where cos = slope, on the half period [k pi, (k + 1) pi] of `near`."""
    half = torch.floor(near / math.pi)
    return torch.where(half % 2 == 0, half * math.pi + slope.acos(), (half + 1) * math.pi - slope.acos())


def _cosh(x: Tensor) -> Tensor:
    return torch.exp(x) / 2 + torch.exp(-x) / 2


def _sinh(x: Tensor) -> Tensor:
    rise = torch.expm1(x.abs())
    return torch.copysign((rise + rise / (rise + 1)) / 2, x)


def _asinh(x: Tensor) -> Tensor:
    size = x.abs()
    return torch.copysign(torch.log1p(size + size * (size / (1 + torch.hypot(size, torch.ones_like(size))))), x)


def _acosh(x: Tensor) -> Tensor:
    above = x - 1
    return torch.log1p(above + above.sqrt() * (above + 2).sqrt())


def _atanh(x: Tensor) -> Tensor:
    size = x.abs()
    return torch.copysign(torch.log1p(2 * size / (1 - size)) / 2, x)


WITH_PARAMETER: Mapping[str, Callable[[float | None], TorchFunction]] = MappingProxyType(
    {"elu": _elu, "hard_swish": _hard_swish, "pow": _power, "swish": _swish}
)

FUNCTIONS: Mapping[str, TorchFunction] = MappingProxyType(
    {
        "acosh": TorchFunction(_acosh, lambda x: ((x - 1).sqrt() * (x + 1).sqrt()).reciprocal(), lambda a, near: (1 + 1 / (a * a)).sqrt()),
        "asin": TorchFunction(torch.asin, lambda x: ((1 - x) * (1 + x)).rsqrt(), lambda a, near: (1 - 1 / (a * a)).sqrt() * near.sign()),
        "asinh": TorchFunction(
            _asinh, lambda x: torch.hypot(x, torch.ones_like(x)).reciprocal(), lambda a, near: (1 / (a * a) - 1).sqrt() * near.sign()
        ),
        "atan": TorchFunction(torch.atan, lambda x: 1 / (1 + x * x), lambda a, near: (1 / a - 1).sqrt() * near.sign()),
        "atanh": TorchFunction(_atanh, lambda x: 1 / ((1 - x) * (1 + x)), lambda a, near: (1 - 1 / a).sqrt() * near.sign()),
        "cosh": TorchFunction(_cosh, _sinh, lambda a, near: _asinh(a)),
        **{
            name: TorchFunction(step, lambda x: x - torch.floor(x), lambda a, near: near)
            for name, step in (("floor", torch.floor), ("ceil", torch.ceil), ("nearest", torch.round), *((k, _cast(k)) for k in LARGEST_CAST))
        },
        "gelu": TorchFunction(lambda x: x * (0.5 * torch.special.erfc(-x)), _gelu_derivative, _newton(_gelu_derivative)),
        "mish": TorchFunction(lambda x: x * _mish_share(x)[0], _mish_derivative, _newton(_mish_derivative)),
        "sinh": TorchFunction(_sinh, _cosh, lambda a, near: _acosh(a) * near.sign()),
        "softsign": TorchFunction(
            lambda x: x / (1 + x.abs()), lambda x: 1 / ((1 + x.abs()) * (1 + x.abs())), lambda a, near: (a.rsqrt() - 1) * near.sign()
        ),
        "tan": TorchFunction(torch.tan, lambda x: 1 + torch.tan(x).square(), lambda a, near: torch.atan((a - 1).sqrt()) * near.sign()),
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
