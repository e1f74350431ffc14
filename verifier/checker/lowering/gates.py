"""Products that are functions of one variable: x sigmoid(x), GELU as exporters write it, x clip(x + 3, 0, 6), x x x, sign(x) |x|.

In float32 they are computed as products of two tensors that remain in the network for what they may be off ("gate", `Rounding.drift`).
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from verifier.checker.lowering.builder import RELU, Array, Builder, Tensor
from verifier.checker.lowering.elementwise import ABSOLUTE, SIGN
from verifier.checker.lowering.forms import Form, form_of, note
from verifier.checker.network import Elementwise, Pieces, Rounding, Smooth

FINEST = 1 << 24  # where the ramp of a hard swish is at 0: a multiple of its inverse
Gate = tuple[Smooth, Fraction, Fraction]  # (f, a, k): k f(a x)


def gate(builder: Builder, x: Tensor, y: Tensor) -> Tensor | None:
    """x y as one function, of equal shapes; None where it is none."""
    if x.shape == y.shape and (itself := _signed(builder, x, y) or _signed(builder, y, x)) is not None:
        return itself
    left, right = form_of(builder, x), form_of(builder, y)
    if x.shape != y.shape or left.base != right.base:
        return None
    found = _power(left, right) or _gated(left, right) or _gated(right, left)
    if found is None:
        return None
    function, before, after = found
    base = Tensor(left.base, x.shape)
    bent = _times(builder, builder.elementwise(function, _times(builder, base, before)), after)
    result = builder.end(bent, Rounding("gate", (x.node, y.node), 1, drift=(left.drift, right.drift)))
    note(builder, "Mul", (x, y), result, lambda name, default: default)
    return result


def _signed(builder: Builder, sign: Tensor, size: Tensor) -> Tensor | None:
    """v itself for sign(v) |v| or sign(v) relu(|v|), neither of which rounds; None for anything else."""
    v, inner = _reads(builder, sign.node, SIGN), _reads(builder, size.node, RELU)
    same = v is not None and v == _reads(builder, size.node if inner is None else inner, ABSOLUTE)
    return Tensor(v, sign.shape) if v is not None and same else None


def _reads(builder: Builder, i: int, function: Pieces) -> int | None:
    """What node `i` applies the function to, if it does."""
    node = builder.nodes[i]
    return node.inputs[0] if isinstance(node, Elementwise) and node.function == function else None


def _times(builder: Builder, x: Tensor, factor: Fraction) -> Tensor:
    if factor == 1:
        return x
    near = float(factor)
    radius: Array | None = None if Fraction(near) == factor else np.array(abs(near) * 2.0**-52)
    return builder.scale(x, np.array(near), radius)


def _power(x: Form, y: Form) -> Gate | None:
    powers = x.power(), y.power()
    if not all(powers) or sum(powers) > 3:
        return None
    return Smooth("pow", float(sum(powers))), Fraction(1), x.polynomial[powers[0]] * y.polynomial[powers[1]]


def _gated(line: Form, other: Form) -> Gate | None:
    """`line` is c x, `other` rises from 0 to some height."""
    if line.chain or not line.slope() or not other.chain:
        return None
    names = [f.name if isinstance(f, Smooth) else "clip" for f in other.chain]
    c, slope, height = other.polynomial, other.slope(), line.slope() * other.scale
    match names:
        case ["sigmoid"] if slope and other.shift == 0:
            return Smooth("swish"), slope, height / slope
        case ["softplus", "tanh"] if slope and other.shift == 0:
            return Smooth("mish"), slope, height / slope
        case ["erf"] if slope and other.shift == other.scale:
            return Smooth("gelu"), slope, 2 * height / slope
        case ["tanh"] if c[1] and not (c[0] or c[2]) and other.shift == other.scale and 0 <= c[3] / c[1] ** 3 <= 4:
            return Smooth("swish", float(c[3] / (4 * c[1] ** 3))), 2 * c[1], height / c[1]
        case ["clip"]:
            return _hard(line, other)
    return None


def _hard(line: Form, other: Form) -> Gate | None:
    """scale clip(c0 + c1 x, lower, upper) + shift is a ramp from 0 on."""
    (ramp,), (c0, c1, *rest) = other.chain, other.polynomial
    if not isinstance(ramp, Pieces) or any(rest) or c1 <= 0:
        return None
    lower, upper = (Fraction(v) for v in ramp.values)
    height, start = upper - lower, (c0 - lower) / (upper - lower)
    if other.scale * lower + other.shift != 0 or not 0 <= start <= 1 or FINEST % start.denominator:
        return None
    return Smooth("hard_swish", float(start)), c1 / height, line.slope() * other.scale * height * height / c1
