"""Operators on constants. Integers exactly, refused where they overflow; floats only where float32 does not round at all.

A float operator that does round is lowered like any other, on constant nodes: both semantics then have their rules for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np

from verifier.checker.lowering.builder import MOST_ELEMENTS, Array, Held, Known, Tensor, Value, constant_of
from verifier.checker.lowering.operator import Operator

Lowering = Callable[[Operator], Value]
INTEGERS = (np.int32, np.int64)
WHOLE = 1 << 53  # every integer up to it is a float64


class Rounds(Exception):
    """The result is not a float32 number: no constant."""


def constant(op: Operator) -> Held:
    op.require(len(op.attributes) == 1, "not exactly one value")
    ((name, found),) = op.attributes.items()
    if isinstance(found, np.ndarray):
        return constant_of(found)
    op.require(name != "value" and not isinstance(found, str), "no tensor")
    exact = np.array(found, dtype=np.float32 if "float" in name else np.int64)
    op.require(exact.dtype != np.float32 or bool(np.isfinite(exact).all()), "NaN or Inf")
    return Known(exact)


def _operands(op: Operator) -> list[Array]:
    values = [op.known(i) for i in range(len(op.inputs))]
    op.require(len({v.dtype for v in values}) == 1, "operands of different types")
    return values


def _floats(op: Operator, a: Array) -> None:
    """Float64 constants are computed as nodes, whose rounding is accounted for."""
    if a.dtype == np.float64:
        raise Rounds
    op.require(a.dtype == np.float32, f"type {a.dtype}")


def _integers(op: Operator, found: Array, dtype: np.dtype[np.generic]) -> Known:
    """Python integers back to the type of the file."""
    limits = np.iinfo(str(dtype))
    op.require(all(limits.min <= int(v) <= limits.max for v in found.reshape(-1)), "integer overflow")
    return Known(found.astype(dtype))


def _exact(found: Array, error: Array) -> Known:
    """Float64 numbers that are the exact results, if float32 holds them."""
    narrow = found.astype(np.float32)
    if error.any() or not np.isfinite(narrow).all() or (narrow.astype(np.float64) != found).any():
        raise Rounds
    return Known(narrow)


def _plus(op: Operator, sign: int) -> Value:
    a, b = _operands(op)
    if a.dtype in INTEGERS:
        return _integers(op, np.asarray(a.astype(object) + sign * b.astype(object), dtype=object), a.dtype)
    _floats(op, a)
    x, y = a.astype(np.float64), sign * b.astype(np.float64)
    s = np.asarray(x + y)
    back = s - x
    return _exact(s, (x - (s - back)) + (y - back))  # the rounding error of a sum, exactly


def add(op: Operator) -> Value:
    return _plus(op, 1)


def subtract(op: Operator) -> Value:
    return _plus(op, -1)


def multiply(op: Operator) -> Value:
    a, b = _operands(op)
    if a.dtype in INTEGERS:
        return _integers(op, np.asarray(a.astype(object) * b.astype(object), dtype=object), a.dtype)
    _floats(op, a)
    return _exact(np.asarray(a.astype(np.float64) * b.astype(np.float64)), np.zeros(1))  # 48 bits fit


def divide(op: Operator) -> Value:
    """Of integers: towards zero."""
    a, b = _operands(op)
    op.require(bool((b != 0).all()), "division by 0")
    if a.dtype in INTEGERS:
        cut: Callable[[int, int], int] = lambda x, y: abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)  # noqa: E731
        return _integers(op, np.asarray(np.frompyfunc(cut, 2, 1)(a.astype(object), b.astype(object)), dtype=object), a.dtype)
    _floats(op, a)
    if not (np.frexp(np.abs(b))[0] == 0.5).all():
        raise Rounds  # a runtime may multiply by 1/y, which is no float32, although the quotient is one
    quotient = np.asarray(a.astype(np.float64) / b.astype(np.float64)).astype(np.float32).astype(np.float64)
    return _exact(quotient, quotient * b.astype(np.float64) - a.astype(np.float64))  # a product of two float32 numbers is exact


def negate(op: Operator) -> Value:
    (a,) = _operands(op)
    return Known(-a) if a.dtype in (np.float32, np.float64) else _integers(op, np.asarray(-a.astype(object), dtype=object), a.dtype)


def extremum(name: str) -> Lowering:
    """The maximum or minimum of integers; of floats it is lowered."""

    def lower(op: Operator) -> Value:
        values = _operands(op)
        if values[0].dtype not in INTEGERS:
            raise Rounds
        return Known(np.asarray(reduce(getattr(np, name), values)))

    return lower


def clip(op: Operator) -> Value:
    """Of integers, since version 12; where the limits exclude each other all is the upper."""
    if op.known(0).dtype not in INTEGERS or op.version < 12:
        raise Rounds
    found = op.known(0)
    for i, name in ((1, "maximum"), (2, "minimum")):
        if op.optional(i) is not None:
            limit = op.known(i)
            op.require(limit.size == 1 and limit.dtype == found.dtype, f"limit {i} of type {limit.dtype} and shape {limit.shape}")
            found = np.asarray(getattr(np, name)(found, limit.reshape(())))
    return Known(found)


def power(op: Operator) -> Value:
    """Of integers, below what float64 holds: a runtime may compute in it."""
    a, b = op.known(0), op.known(1)
    if a.dtype not in INTEGERS or b.dtype not in INTEGERS:
        raise Rounds
    op.require(bool((b >= 0).all() and (b <= 64).all()), "a power of an integer to an exponent below 0 or above 64")
    found = np.asarray(a.astype(object) ** b.astype(object), dtype=object)
    op.require(all(abs(int(v)) <= WHOLE for v in found.reshape(-1)), "a power beyond 2^53")
    return _integers(op, found, a.dtype)


def cum_sum(op: Operator) -> Value:
    """Of integers."""
    a, axes = op.known(0), np.atleast_1d(op.known(1))
    if a.dtype not in INTEGERS:
        raise Rounds
    op.require(axes.dtype in INTEGERS and axes.shape == (1,), f"axes {axes}")
    axis, back = op.axis(int(axes[0]), a.ndim), slice(None, None, -1) if op.flag("reverse", 0) else slice(None)
    rows = np.moveaxis(a.astype(object), axis, -1)[..., back]
    found = np.cumsum(rows, axis=-1) - (rows if op.flag("exclusive", 0) else 0)
    return _integers(op, np.moveaxis(found[..., back], -1, axis), a.dtype)


def is_constant(values: tuple[Value | None, ...]) -> bool:
    return not any(isinstance(v, Tensor) for v in values)


def shape(op: Operator) -> Value:
    """From axis `start` up to `end`, counted from the back if negative, cut to the axes that there are."""
    return Known(np.array(op.value(0).shape[slice(op.integer("start", 0), op.integer("end", len(op.value(0).shape)))], dtype=np.int64))


def size(op: Operator) -> Value:
    return Known(np.array(op.value(0).size, dtype=np.int64))


def constant_of_shape(op: Operator) -> Value:
    wanted, value = op.known_integers(0) or (), op.attributes.get("value", np.zeros(1, dtype=np.float32))
    op.require(isinstance(value, np.ndarray) and value.size == 1 and all(n >= 0 for n in wanted), f"shape {wanted}")
    op.require(math.prod(n for n in wanted if n) <= MOST_ELEMENTS, f"shape {wanted}")
    return Known(np.full(wanted, np.asarray(value).reshape(())))


def cast(op: Operator) -> Value:
    return converted(op, op.known(0), {1: "float32", 6: "int32", 7: "int64", 9: "bool", 11: "float64"}.get(op.integer("to", 0)))


def cast_like(op: Operator) -> Value:
    return converted(op, op.known(0), str(op.known(1).dtype))


def converted(op: Operator, a: Array, kind: str | None) -> Value:
    """Between floats, integers and bool, where nothing is lost."""
    to = {"float32": np.float32, "int32": np.int32, "int64": np.int64, "bool": np.bool_, "float64": np.float64}.get(kind or "")
    op.require(to is not None, "another type")
    if to is np.bool_ or to is None:
        return Known(np.asarray(a != 0))
    if a.dtype.kind == "f" and to in (np.float32, np.float64):
        return _exact(a.astype(np.float64), np.zeros(1)) if to is np.float32 else Known(a.astype(to))
    limit = 2**24 if to is np.float32 else 2**31 - 1  # every integer up to it has a float32; within int32
    whole = bool((np.abs(a.astype(np.float64)) <= limit).all() and (a == np.trunc(a.astype(np.float64))).all())
    op.require(a.dtype == to or whole, "a cast that loses")
    return Known(a.astype(to))


def non_zero(op: Operator) -> Value:
    """The places of what is not 0, one row for each axis."""
    (a,) = _operands(op)
    op.require(a.ndim >= 1, "a scalar")
    return Known(np.array(np.nonzero(a), dtype=np.int64))


def compare(name: str) -> Lowering:
    """Equal, Less, ..., And, Or."""
    return lambda op: Known(np.asarray(getattr(np, name)(*_operands(op))))


def invert(op: Operator) -> Value:
    (a,) = _operands(op)
    op.require(a.dtype == np.bool_, f"type {a.dtype}")
    return Known(~a)


def unary(name: str) -> Lowering:
    """A function of numpy that gives float32 numbers for float32 numbers without rounding."""

    def lower(op: Operator) -> Value:
        (a,) = _operands(op)
        _floats(op, a)
        return Known(np.asarray(getattr(np, name)(a), dtype=np.float32))

    return lower


def unsigned(name: str) -> Lowering:
    """`unary`, and of integers."""

    def lower(op: Operator) -> Value:
        (a,) = _operands(op)
        if a.dtype not in INTEGERS:
            return unary(name)(op)
        return _integers(op, np.asarray(getattr(np, name)(a.astype(object)), dtype=object), a.dtype)

    return lower


def relu(op: Operator) -> Value:
    (a,) = _operands(op)
    _floats(op, a)
    return Known(np.where(a > 0, a, np.float32(0)))


def root(op: Operator) -> Value:
    (a,) = _operands(op)
    _floats(op, a)
    op.require(bool((a >= 0).all()), "a root of what is negative")
    found = np.asarray(np.sqrt(a)).astype(np.float64)
    return _exact(found, found * found - a.astype(np.float64))


def where(op: Operator) -> Value:
    condition, x, y = (op.known(i) for i in range(3))
    op.require(condition.dtype == np.bool_ and x.dtype == y.dtype, "operands of different types")
    return Known(np.where(condition, x, y))


def concat(op: Operator) -> Value:
    parts = _operands(op)
    return Known(np.concatenate(parts, axis=op.axis(op.integer("axis", 0), parts[0].ndim)))


def arange(op: Operator) -> Value:
    """Of integers, also as floats that hold them."""
    start, limit, delta = _operands(op)
    op.require(start.size == limit.size == delta.size == 1 and bool(delta.all()), "not three numbers, or a step of 0")
    numbers = [v.reshape(()).item() for v in (start, limit, delta)]
    first, end, step = (int(v) for v in numbers)
    whole = start.dtype == np.float32 and [first, end, step] == numbers and abs(first) < 1 << 23 and abs(end) < 1 << 23
    op.require(start.dtype in INTEGERS or whole, "not a range of integers")
    found = range(first, end, step)
    op.require(len(found) <= MOST_ELEMENTS, "too long")
    return Known(np.array(found, dtype=start.dtype))


def modulo(op: Operator) -> Value:
    """Of integers: the sign of the divisor; with fmod that of the dividend."""
    a, b = _operands(op)
    op.require(a.dtype in INTEGERS and bool((b != 0).all()), "not a remainder of integers")
    return Known(np.asarray(np.fmod(a, b) if op.flag("fmod", 0) else np.mod(a, b)))


def reduced(name: str, since_input: int) -> Lowering:
    """Of integers."""

    def lower(op: Operator) -> Value:
        a = op.known(0)
        if a.dtype not in INTEGERS:
            raise Rounds
        given = op.known_integers(1) if op.version >= since_input else op.integers("axes")
        axes = op.axes(given, a.ndim) if given else () if op.flag("noop_with_empty_axes", 0) else tuple(range(a.ndim))
        found = getattr(np, name)(a.astype(object), axis=axes, keepdims=op.flag("keepdims", 1))
        return _integers(op, np.asarray(found, dtype=object), a.dtype)

    return lower
