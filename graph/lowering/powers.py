"""Powers and remainders."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.functions import build, whole
from graph.lowering.arithmetic import add, broadcast, concat, float64, scale, where
from graph.lowering.builder import Known, Tensor, Value, indices, varying
from graph.lowering.logic import truncated
from graph.lowering.operator import Operator
from graph.lowering.roots import radicand

Array = NDArray[Any]

MOST_EXPONENTS = 256  # different ones in one operator: each is a node


def lower_pow(op: Operator) -> Value:
    """To constant exponents, or of constants above 0 to an exponent that depends on the input."""
    base, exponent = op.value(0), op.value(1)
    if isinstance(exponent, Tensor):
        if isinstance(base, Known):
            return _exponential(op, base.value, exponent)
        raise op.refuse(f"input 1 ({op.node.input[1]!r}) depends on the network's input, and so does the base; one of both must be constant")
    x = op.variable(0)
    exponents, shape = float64(exponent.value), op.builder.broadcast_shape(x.shape, exponent.shape)
    different = np.unique(exponents)
    if not np.isfinite(different).all() or different.size > MOST_EXPONENTS:
        raise op.refuse(f"{different.size} different exponents, or one that is not finite: at most {MOST_EXPONENTS} are supported")
    if not x.element_type.startswith("float") and ((different < 0) | (different != np.round(different))).any():
        raise op.refuse(f"{x.element_type} to a power that is negative or no whole number: what is behind the point is cut off")
    if different.size == 1:
        found = _powered(op, radicand(op.builder, x) if different[0] == 0.5 else x, float(different[0]))
        return Known(np.ones(shape)) if isinstance(found, Known) else broadcast(op.builder, found, shape)
    spread, flat = np.broadcast_to(indices(x.shape), shape).reshape(-1), np.broadcast_to(exponents, shape).reshape(-1)
    parts = [_powered(op, op.builder.gather(x, spread[flat == e]), float(e)) for e in different]
    return op.builder.gather(concat(op.builder, parts), np.argsort(np.argsort(flat, kind="stable")).reshape(shape))


def _powered(op: Operator, x: Tensor, exponent: float) -> Value:
    if exponent == 0:
        return Known(np.ones(x.shape))
    named = {0.5: "sqrt", -1.0: "reciprocal"}.get(exponent)
    return x if exponent == 1 else op.builder.elementwise(build(named) if named else build("pow", exponent), x)


def _exponential(op: Operator, base: Array, exponent: Tensor) -> Value:
    """exp(y log c); of integers c without what is behind the point, as the result is an integer then."""
    kind, c = base.dtype.name, float64(base)
    if not (c > 0).all():
        raise op.refuse("a constant base that is not above 0, to an exponent that depends on the input, is not supported")
    power = op.builder.elementwise(build("exp"), varying(scale(op.builder, exponent, np.log(c))))
    if base.dtype.kind == "f":
        return power
    shape = power.shape
    cut = truncated(op.builder, power, whole.cast(kind) if kind in whole.LARGEST_CAST else None)
    return op.builder.convert(varying(where(op.builder, np.broadcast_to(c == 1, shape), Known(np.ones(shape)), cut)), kind)


def lower_mod(op: Operator) -> Value:
    """x - y floor(x / y), or with fmod x - y trunc(x / y), by a constant. Of integers x / y is moved by half a step, away from the jumps."""
    x, y = op.variable(0), float64(op.known(1))
    whole = not x.element_type.startswith("float")
    if not y.all() or not np.isfinite(y).all():
        raise op.malformed("a remainder of a division by 0")
    if whole and (op.integer("fmod") or x.element_type == "bool"):
        raise op.refuse(f"a remainder of {x.element_type} with fmod is not supported for what depends on the input; cast to float32 before")
    moved = add(op.builder, x, Known(np.sign(y) / 2)) if whole else x
    share = varying(scale(op.builder, moved, 1 / y))
    count = truncated(op.builder, share) if op.integer("fmod") else op.builder.elementwise(build("floor"), share)
    return add(op.builder, x, scale(op.builder, count, y), -1.0)
