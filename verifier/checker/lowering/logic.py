"""Comparisons and what follows from them: booleans are the numbers 0 and 1, which float32 holds exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from verifier.checker.lowering.basic import common, inverse, total
from verifier.checker.lowering.basic import where as select
from verifier.checker.lowering.builder import RELU, Builder, Known, Tensor, Value, indices, take
from verifier.checker.lowering.constants import converted
from verifier.checker.lowering.elementwise import ABSOLUTE, clipping
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Index
from verifier.checker.network import Affine, Pieces

STEP = Pieces((0.0,), (0.0, 0.0), (0.0, 1.0), (0.0,))
FLOOR = Pieces(step="floor")
ONE = Known(np.ones(()))
KINDS = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 11: "float64"}
MOST = 1 << 53


def number(op: Operator, i: int) -> Value:
    """Input `i`; a constant of integers or booleans as floats, exactly."""
    x = op.value(i)
    if isinstance(x, Tensor) or x.value.dtype.kind == "f":
        return x
    op.require(x.value.dtype.kind in "bi" and bool((np.abs(x.value.astype(np.float64)) < MOST).all()), f"input {i}")
    return Known(x.value.astype(np.float64))


def _combined(op: Operator, signs: tuple[float, float], constant: float = 0.0) -> Tensor:
    """sign x + sign y + constant."""
    x, y = number(op, 0), number(op, 1)
    found = total(op.builder, [x, y], list(signs))
    return op.builder.plus(found, np.full(found.shape, constant)) if constant else found


def _not(builder: Builder, x: Tensor) -> Tensor:
    return builder.plus(builder.scale(x, np.array(-1.0)), np.ones(x.shape))


def _is_whole(builder: Builder, x: Value) -> bool:
    """Of integers: by its type, or cast from such and only moved since."""
    if isinstance(x, Known):
        return bool((np.rint(x.value) == x.value).all())
    k, y = x.node, builder.nodes[x.node]
    while k not in builder.whole and isinstance(y, Affine) and y.bias is None and len(y.maps) == 1 and isinstance(y.maps[0], Index):
        k, y = y.inputs[0], builder.nodes[y.inputs[0]]
    return x.element != "float32" or k in builder.whole


def _step(op: Operator, x: Tensor) -> Tensor:
    """1 where `x`, made of the operands, is positive. Of integers half of what is positive is at least a half, which rounding does not bridge."""
    whole = all(_is_whole(op.builder, op.value(i)) for i in range(len(op.inputs)))
    return op.builder.elementwise(STEP, op.builder.plus(x, np.full(x.shape, -0.5)) if whole else x)


def compares(sign: float, *, strict: bool) -> Callable[[Operator], Value]:
    """sign x > sign y, or (not strict) not sign y > sign x."""

    def lower(op: Operator) -> Value:
        found = _step(op, _combined(op, (sign, -sign) if strict else (-sign, sign)))
        return op.end(found if strict else _not(op.builder, found), "exact", element="bool")

    return lower


def _apart(op: Operator, x: Tensor) -> Tensor:
    """1 where x is not 0."""
    below = op.builder.scale(x, np.array(-1.0))
    return op.builder.elementwise(clipping(-np.inf, 1.0), op.builder.sum([_step(op, x), _step(op, below)]))


def equal(op: Operator) -> Value:
    return op.end(_not(op.builder, _apart(op, _combined(op, (1.0, -1.0)))), "exact", element="bool")


def invert(op: Operator) -> Value:
    return op.end(_not(op.builder, op.tensor(0)), "exact", element="bool")


def both(op: Operator) -> Value:
    """relu(x + y - 1)."""
    return op.end(op.builder.elementwise(RELU, _combined(op, (1.0, 1.0), -1.0)), "exact", element="bool")


def either(op: Operator) -> Value:
    """min(x + y, 1)."""
    return op.end(op.builder.elementwise(clipping(-np.inf, 1.0), _combined(op, (1.0, 1.0))), "exact", element="bool")


def one_of(op: Operator) -> Value:
    """|x - y|."""
    return op.end(op.builder.elementwise(ABSOLUTE, _combined(op, (1.0, -1.0))), "exact", element="bool")


def never(op: Operator) -> Value:
    """IsNaN and IsInf: executions have neither."""
    return Known(np.zeros(op.value(0).shape, dtype=np.bool_))


def where(op: Operator) -> Value:
    """A constant condition selects; another one, c, gives y + c (x - y)."""
    if isinstance(op.value(0), Known):
        return select(op)
    condition, x, y = op.tensor(0), number(op, 1), number(op, 2)
    kind = next((v.element for v in (x, y) if isinstance(v, Tensor)), op.value(1).element)
    change = times(op.builder, op.builder.spread(condition, common(condition, x, y)), x, y)
    return op.end(total(op.builder, [y, change], [1.0, 1.0]), "exact", element=kind)


def times(builder: Builder, chosen: Tensor, x: Value, y: Value) -> Tensor:
    """chosen (x - y)."""
    if isinstance(x, Known) and isinstance(y, Known):
        gap = np.broadcast_to(x.value.astype(np.float64) - y.value.astype(np.float64), chosen.shape)
        return builder.scale(chosen, gap, np.abs(gap) * 2.0**-53)
    return builder.product(chosen, builder.spread(total(builder, [x, y], [1.0, -1.0]), chosen.shape))


def cast(op: Operator) -> Value:
    return _cast(op, KINDS.get(op.integer("to", 0)))


def cast_like(op: Operator) -> Value:
    x, like = op.value(0), op.value(1)
    return converted(op, x.value, like.element) if isinstance(x, Known) and x.value.dtype.kind != "f" else _cast(op, like.element)


def _cast(op: Operator, kind: str | None) -> Value:
    """Between floats nothing changes, of an integer to float32 it may round; to bool: what is not 0; of a float to an integer: floor(relu(x)) -
    floor(relu(-x)), without what is behind the point, refused where it may be more than the type has."""
    x, builder = op.tensor(0), op.builder
    floats = ("float32", "float64")
    op.require(kind in KINDS.values(), "another type")
    if kind in floats:
        builder.wide = builder.wide or kind == "float64"
        if x.element == "float32":
            return x
        found = op.end(builder.linear(take(x, indices(x.shape)), x, x.shape), *(("moves", 0) if x.element == "bool" else ("affine", 1)))
        builder.whole.add(found.node)
        return found
    if kind == "bool":
        return op.end(_apart(op, x), "exact", element="bool") if x.element != "bool" else x
    if x.element not in floats:
        op.require(np.can_cast(x.element, str(kind), "safe"), f"{x.element} to {kind}")
        return op.end(builder.linear(take(x, indices(x.shape)), x, x.shape), "moves", element=str(kind))
    return op.end(_whole(builder, x, Pieces(step=str(kind))), "exact", element=str(kind))


def _whole(builder: Builder, x: Tensor, floor: Pieces = FLOOR) -> Tensor:
    parts = [builder.elementwise(floor, builder.elementwise(RELU, part)) for part in (x, builder.scale(x, np.array(-1.0)))]
    return builder.sum([parts[0], builder.scale(parts[1], np.array(-1.0))])


def remainder(op: Operator) -> Value:
    """x - y floor(x / y) by a constant y; with fmod x / y is cut off, not rounded down."""
    x, y, builder = op.tensor(0), op.known_floats(1), op.builder
    op.require(bool(y.all()), "division by 0")
    spread = builder.spread(x, common(x, Known(y)))
    share = builder.scale(spread, *inverse(y))
    count = _whole(builder, share) if op.flag("fmod", 0) else builder.elementwise(FLOOR, share)
    return op.end(total(builder, [spread, builder.scale(count, y)], [1.0, -1.0]), "refused", name="a remainder")
