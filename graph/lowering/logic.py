"""Comparisons and what follows from them: booleans are the numbers 0 and 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graph.core import Affine
from graph.functions import build, whole
from graph.functions.facts import Function
from graph.linear_map import Gather, Reshape
from graph.lowering.arithmetic import add, broadcast, multiply, scale, where
from graph.lowering.builder import Builder, Known, Tensor, Value, varying
from graph.lowering.operator import Operator

ONE = Known(np.ones(()))


def difference(op: Operator, sign: float = 1.0) -> Tensor:
    """sign (x - y) of the first two inputs."""
    found = add(op.builder, op.value(0), op.value(1), -1.0)
    return varying(found if sign == 1 else scale(op.builder, found, np.array(sign)))


def positive(builder: Builder, x: Tensor) -> Tensor:
    """1 where x > 0, else 0."""
    return builder.elementwise(build("step"), x)


def is_whole(builder: Builder, x: Value) -> bool:
    """Whether all elements are integers: of such a type, or cast from it and moved since."""
    if isinstance(x, Known):
        return bool((np.rint(x.value) == x.value).all())
    node, kind = builder.nodes[x.node], x.element_type
    while np.dtype(kind).kind == "f" and isinstance(node, Affine) and len(node.maps) == 1 and isinstance(node.maps[0], Gather | Reshape):
        if node.bias is not None and node.bias.any():
            return False
        node = builder.nodes[node.inputs[0]]
        kind = node.origin.element_type
    return np.dtype(kind).kind in "iub"


def _beyond(op: Operator, x: Tensor) -> Tensor:
    """`x` moved so that what is not positive is negative: a difference of integers by a half, which no rounding of bounds bridges."""
    compared = all(is_whole(op.builder, op.value(i)) for i in range(len(op.inputs)))
    return varying(add(op.builder, x, Known(np.array(-0.5)))) if compared else x


def _truth(builder: Builder, x: Value) -> Value:
    return builder.convert(varying(x), "bool")


def compares(sign: float, *, strict: bool) -> Callable[[Operator], Value]:
    """sign x > sign y, or (not strict) its opposite: not y > x."""

    def lower(op: Operator) -> Value:
        found = positive(op.builder, _beyond(op, difference(op, sign if strict else -sign)))
        return _truth(op.builder, found if strict else add(op.builder, ONE, found, -1.0))

    return lower


def _apart(op: Operator, x: Tensor) -> Value:
    """1 where x, made of the operands, is not 0: above or below it, and not both, which bounds of the two do not know."""
    below = varying(scale(op.builder, x, np.array(-1.0)))
    sides = add(op.builder, positive(op.builder, _beyond(op, x)), positive(op.builder, _beyond(op, below)))
    return op.builder.elementwise(build("clip", -np.inf, 1.0), varying(sides))


def lower_equal(op: Operator) -> Value:
    return _truth(op.builder, add(op.builder, ONE, _apart(op, difference(op)), -1.0))


def lower_not(op: Operator) -> Value:
    return _truth(op.builder, add(op.builder, ONE, op.value(0), -1.0))


def lower_and(op: Operator) -> Value:
    """relu(x + y - 1)."""
    both = add(op.builder, add(op.builder, op.value(0), op.value(1)), ONE, -1.0)
    return _truth(op.builder, op.builder.elementwise(build("relu"), varying(both)))


def lower_or(op: Operator) -> Value:
    """min(x + y, 1)."""
    either = varying(add(op.builder, op.value(0), op.value(1)))
    return _truth(op.builder, op.builder.elementwise(build("clip", -np.inf, 1.0), either))


def lower_xor(op: Operator) -> Value:
    """|x - y|."""
    return _truth(op.builder, op.builder.elementwise(build("abs"), difference(op)))


def lower_never(op: Operator) -> Value:
    """IsNaN and IsInf: no number of the networks that are reasoned about is either."""
    return Known(np.zeros(op.value(0).shape, dtype=bool))


def lower_where(op: Operator) -> Value:
    """A constant condition selects elements; another one, c, gives y + c (x - y)."""
    condition = op.value(0)
    shape = op.builder.broadcast_shape(*(op.value(i).shape for i in range(3)))
    x, y = op.value(1), op.value(2)
    if isinstance(condition, Tensor):
        kind = op.builder.type_of(y if isinstance(y, Tensor) else x)
        chosen = op.builder.convert(broadcast(op.builder, condition, shape), kind)
        return add(op.builder, y, multiply(op.builder, chosen, add(op.builder, x, y, -1.0)))
    return where(op.builder, condition.value.astype(bool), x, y)


def truncated(builder: Builder, x: Tensor, floor: Function | None = None) -> Tensor:
    """x without what is behind the point: floor(relu(x)) - floor(relu(-x))."""
    parts, floor = [], build("floor") if floor is None else floor
    for part in (x, varying(scale(builder, x, np.array(-1.0)))):
        parts.append(builder.elementwise(floor, builder.elementwise(build("relu"), part)))
    return varying(add(builder, parts[0], parts[1], -1.0))


def lower_cast(op: Operator) -> Value:
    """Over the reals a Cast between float types is the identity, as is one of integers to a type that has them all. To bool: what is not 0; of a
    float to an integer: without what is behind the point, where the type has it (to 4 bits onnxruntime rounds, and the standard cuts off)."""
    return cast(op, op.variable(0), TYPES.get(op.integer("to"), f"ONNX type {op.integer('to')}"))


def lower_cast_like(op: Operator) -> Value:
    """To the type of the second operand."""
    like = op.value(1)
    return cast(op, op.variable(0), like.element_type if isinstance(like, Tensor) else str(like.value.dtype))


TYPES = {1: "float32", 11: "float64", 9: "bool", 6: "int32", 7: "int64", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}


def cast(op: Operator, x: Tensor, kind: str) -> Value:
    floats = ("float32", "float64")
    if kind in floats or kind == x.element_type:
        return op.builder.convert(x, kind)
    if x.element_type in WHOLE and kind in WHOLE and np.can_cast(x.element_type, kind, "safe"):
        return op.builder.convert(x, kind)
    if kind == "bool":
        return _truth(op.builder, _apart(op, x))
    if kind in ("int32", "int64") and x.element_type in floats:
        return op.builder.convert(truncated(op.builder, x, whole.cast(kind)), kind)
    raise op.refuse(
        f"casting a tensor of {x.element_type} that depends on the input to {kind} is not supported "
        "(to float32, float64, bool, and of floats to int32 and int64 is)"
    )


WHOLE = frozenset(TYPES.values()) - {"float32", "float64"}
