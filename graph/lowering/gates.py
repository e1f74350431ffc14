"""Products that are functions of one variable: x sigmoid(x), GELU as exporters write it, x clip(x + 3, 0, 6), x x x, sign(x) |x|.

As a product of two tensors each would be bounded as if its factors varied on their own. `note` follows what operators do to one
tensor by exact constants; `recognise` looks two factors up.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from graph.core import Elementwise
from graph.functions import build
from graph.functions.facts import Function
from graph.lowering.arithmetic import multiply, scale
from graph.lowering.builder import Builder, Known, Tensor, Value
from graph.lowering.forms import IDENTITY, Form, added, multiplied
from graph.lowering.operator import Operator

FINEST = 1 << 24  # where the ramp of a hard swish is at 0: a multiple of its inverse
INNER = frozenset(("Clip", "Erf", "HardSigmoid", "Sigmoid", "Softplus", "Tanh"))


def note(op: Operator, result: Value) -> None:
    """Remember `result` as a function of what the operator's operands are functions of, where that is known exactly."""
    if isinstance(result, Known) or result.node in op.builder.forms:
        return
    operands = [x for x in op.inputs if x is not None]
    tensors = [x for x in operands if isinstance(x, Tensor)]
    if not tensors or any(x.shape != result.shape for x in tensors):
        return
    form = _applied(op, tensors[0], result) if op.kind in INNER else _combined(op, operands)
    if form is not None:
        op.builder.forms[result.node] = form


def _form(builder: Builder, x: Tensor) -> Form:
    return builder.forms.get(x.node, Form(x.node, IDENTITY))


def _number(x: Value) -> Fraction | None:
    """A constant of one element."""
    if isinstance(x, Tensor) or x.size != 1 or x.value.dtype.kind != "f" or not math.isfinite(float(x.value.reshape(()))):
        return None
    return Fraction(float(x.value.reshape(())))


def _combined(op: Operator, operands: list[Value]) -> Form | None:
    """Of sums, products and powers."""
    first, last = operands[0], operands[-1]
    if op.kind == "Neg" and isinstance(first, Tensor):
        return _form(op.builder, first).times(Fraction(-1))
    if len(operands) != 2:
        return None
    if isinstance(first, Tensor) and isinstance(last, Tensor):
        x, y = _form(op.builder, first), _form(op.builder, last)
        match op.kind:
            case "Add" | "Sum":
                return added(x, y)
            case "Sub":
                return added(x, y.times(Fraction(-1)))
            case "Mul":
                return multiplied(x, y)
        return None
    constant = _number(last if isinstance(first, Tensor) else first)
    x = _form(op.builder, first if isinstance(first, Tensor) else op.variable(1))
    if constant is None:
        return None
    match op.kind:
        case "Add" | "Sum":
            return x.plus(constant)
        case "Sub":
            return x.plus(-constant) if isinstance(first, Tensor) else x.times(Fraction(-1)).plus(constant)
        case "Mul":
            return x.times(constant)
        case "Div" if isinstance(first, Tensor) and constant:
            return x.times(1 / constant)
        case "Pow" if isinstance(first, Tensor) and constant in (2, 3):
            square = multiplied(x, x)
            return square if constant == 2 or square is None else multiplied(square, x)
    return None


def _applied(op: Operator, x: Tensor, result: Tensor) -> Form | None:
    """Of a function of a polynomial, or tanh of a softplus."""
    node = op.builder.nodes[result.node]
    if not isinstance(node, Elementwise):
        return None
    form = _form(op.builder, x)
    if op.kind == "HardSigmoid":
        form = form.times(Fraction(op.real("alpha"))).plus(Fraction(op.real("beta")))
    if not form.functions:
        return replace(form, functions=(node.function,), operand=node.inputs[0])
    plain = form.scale == 1 and form.shift == 0 and [f.name for f in form.functions] == ["softplus"]
    return replace(form, functions=(*form.functions, node.function)) if plain and node.function.name == "tanh" else None


def lower_mul(op: Operator) -> Value:
    x, y = op.value(0), op.value(1)
    found = recognise(op.builder, x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) and x != y else None
    return multiply(op.builder, x, y) if found is None else found


def recognise(builder: Builder, x: Tensor, y: Tensor) -> Value | None:
    """x y as one function of one variable, or None. Equal shapes."""
    if x.shape == y.shape and (itself := _signed(builder, x, y) or _signed(builder, y, x)) is not None:
        return itself
    left, right = _form(builder, x), _form(builder, y)
    if x.shape != y.shape or left.base != right.base:
        return None
    powers = left.monomial(), right.monomial()
    if all(powers) and sum(powers) <= 3:
        factor = left.polynomial[powers[0]] * right.polynomial[powers[1]]
        return _scaled(builder, build("pow", float(sum(powers))), Tensor(left.base, x.shape, x.element_type), factor)
    for line, gate in ((left, right), (right, left)):
        if not line.functions and line.slope() and gate.functions and (found := _gated(gate)) is not None:
            function, argument, factor = found
            base = Tensor(gate.base, x.shape, x.element_type)
            operand = Tensor(gate.operand, x.shape, x.element_type)
            if argument is not None:
                operand = _as_tensor(scale(builder, base, np.array(float(argument)))) if argument != 1 else base
            return _scaled(builder, function, operand, line.slope() * factor)
    return None


def _signed(builder: Builder, sign: Tensor, size: Tensor) -> Tensor | None:
    """v itself for sign(v) |v| or sign(v) relu(|v|), as torch writes the inside of LPPool2d's root; None for anything else."""
    v, inner = _reads(builder, sign.node, "sign"), _reads(builder, size.node, "relu")
    same = v is not None and v == _reads(builder, size.node if inner is None else inner, "abs")
    return Tensor(v, sign.shape, sign.element_type) if v is not None and same else None


def _reads(builder: Builder, i: int, function: str) -> int | None:
    """What node `i` applies the function to, if it does."""
    node = builder.nodes[i]
    return node.inputs[0] if isinstance(node, Elementwise) and node.function.name == function else None


def _gated(gate: Form) -> tuple[Function, Fraction | None, Fraction] | None:
    """(f, a, k) with x gate(x) = k f(a x), a None where a x is what the gate's own function reads."""
    c, slope, k = gate.polynomial, gate.slope(), gate.scale
    match [f.name for f in gate.functions]:
        case ["sigmoid"] if slope and gate.shift == 0:
            return build("swish", 0.0), None, k / slope
        case ["softplus", "tanh"] if slope and gate.shift == 0:
            return build("mish"), None, k / slope
        case ["erf"] if slope and gate.shift == k:
            return build("gelu"), None, 2 * k / slope
        case ["tanh"] if c[1] and not (c[0] or c[2]) and gate.shift == k and 0 <= c[3] / c[1] ** 3 <= 4:
            return build("swish", float(c[3] / (4 * c[1] ** 3))), 2 * c[1], k / c[1]
        case ["clip"]:
            return _hard(gate)
    return None


def _hard(gate: Form) -> tuple[Function, Fraction | None, Fraction] | None:
    """k clip(c0 + c1 x, lower, upper) + shift, a ramp that starts at 0."""
    limits, (c0, c1, *rest) = gate.functions[0].values, gate.polynomial  # type: ignore[union-attr]
    if len(limits) != 2 or any(rest) or c1 <= 0:
        return None
    lower, upper = (Fraction(v) for v in limits)
    start, height = (c0 - lower) / (upper - lower), upper - lower
    if gate.scale * lower + gate.shift != 0 or not 0 <= start <= 1 or FINEST % start.denominator:
        return None
    return build("hard_swish", float(start)), c1 / height, gate.scale * height * height / c1


def _scaled(builder: Builder, function: Function, operand: Tensor, factor: Fraction) -> Value:
    found = builder.elementwise(function, operand)
    return found if factor == 1 else scale(builder, found, np.array(float(factor)))


def _as_tensor(value: Value) -> Tensor:
    if isinstance(value, Known):
        raise TypeError("a constant where the network's input has a say")
    return value
