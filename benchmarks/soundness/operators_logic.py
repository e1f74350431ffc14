"""Comparisons and what is made of them, the largest of a row in order, sums of products by name.

A truth value that an enclosure does not decide is a tensor between 0 and 1; `Where` then encloses both of its values.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from benchmarks.soundness.operators_places import joined
from benchmarks.soundness.rule import Call, Rule, UnknownOperator, Value
from benchmarks.soundness.tensor import Array, Tensor, aligned, between, of_fractions, of_integers


def truth(least: Array, most: Array) -> Tensor | Array:
    """Truth values, from the least and the most that they can be."""
    low, high = (np.asarray(end, dtype=bool) for end in (least, most))
    if (low == high).all():
        return low
    return between(*(of_integers(end).centre for end in (low, high)), 1)


def _compare(strict: bool, flipped: bool) -> Rule:
    """a > b (strict) or a >= b, and their mirror images."""

    def rule(call: Call) -> Value:
        gap = call.tensor(1) - call.tensor(0) if flipped else call.tensor(0) - call.tensor(1)
        low, high = (end > 0 if strict else end >= 0 for end in gap.ends())
        return truth(low, high)

    return rule


def _equal(call: Call) -> Value:
    low, high = (call.tensor(0) - call.tensor(1)).ends()
    return truth((low == 0) & (high == 0), (low <= 0) & (high >= 0))


def _not(call: Call) -> Value:
    value = call.value(0)
    return of_fractions([Fraction(1)], ()) - _decidable(value) if isinstance(value, Tensor) else ~np.asarray(value, dtype=bool)


def _joint(on_arrays: Callable[[Array, Array], Array], on_ends: Callable[[Array, Array], Array]) -> Rule:
    """And, Or."""

    def rule(call: Call) -> Value:
        values = call.value(0), call.value(1)
        if not any(isinstance(v, Tensor) for v in values):
            return np.asarray(on_arrays(*values))
        a, b, _ = aligned(*(_decidable(v) if isinstance(v, Tensor) else of_integers(v) for v in values))
        return truth(*(on_ends(x, y) > 0 for x, y in zip(a.ends(), b.ends(), strict=True)))

    return rule


def _decidable(value: Tensor) -> Tensor:
    """A tensor that is a truth value. Raises UnknownOperator."""
    low, high = value.ends()
    if value.exact or (low < 0).any() or (high > value.denominator).any():
        raise UnknownOperator("a truth value was expected")
    return value


def _pick(a: Tensor, b: Tensor, first: Array) -> Tensor:
    """Elements of `a` where `first`, else of `b`."""
    whole = joined([x.moved(lambda v: np.broadcast_to(v, first.shape)[None]) for x in (a, b)], 0)
    if not isinstance(whole, Tensor):
        raise UnknownOperator("numbers were expected")
    return whole.moved(lambda v: np.where(first.astype(bool), v[0], v[1]))


def _where(call: Call) -> Value:
    condition, a, b = call.value(0), call.tensor(1), call.tensor(2)
    shape = np.broadcast_shapes(condition.shape, a.shape, b.shape)
    if not isinstance(condition, Tensor):
        return _pick(a, b, np.broadcast_to(np.asarray(condition, dtype=bool), shape))
    low, high = (np.broadcast_to(end, shape) for end in _decidable(condition).ends())
    x, y, denominator = aligned(a, b)
    hull = np.minimum(x.ends()[0], y.ends()[0]), np.maximum(x.ends()[1], y.ends()[1])
    both = between(*(np.asarray(end, dtype=object) for end in hull), denominator)
    return _pick(a, _pick(b, both, high == 0), low == condition.denominator)


def _top_k(call: Call) -> Value | list[Value]:
    """The values in order, each of which never decreases in any number; whoever reads the places gets an error."""
    if call.opset < 10 or not call.take("sorted", 1):
        raise UnknownOperator("TopK that is not sorted, or before opset 10")
    axis, sign = call.take("axis", -1), 1 if call.take("largest", 1) else -1
    x, (count,) = call.tensor(0).scaled(sign), call.integers(1) or [0]
    low, high = (-np.sort(-end, axis=axis) for end in x.ends())
    values = between(low, high, x.denominator).scaled(sign).moved(lambda a: np.take(a, np.arange(count), axis=axis))
    return [values, None] if call.outputs == 2 else values


def _einsum(call: Call) -> Value:
    equation = call.take("equation")
    match len(call.inputs):
        case 1:
            return call.tensor(0).moved(lambda a: np.asarray(np.einsum(equation, a), dtype=object))
        case 2:
            return call.tensor(0).product(call.tensor(1), lambda a, b: np.asarray(np.einsum(equation, a, b), dtype=object))
    raise UnknownOperator(f"Einsum of {len(call.inputs)} tensors")


LOGIC: dict[str, Rule] = {
    "Greater": _compare(True, False), "Less": _compare(True, True), "GreaterOrEqual": _compare(False, False),
    "LessOrEqual": _compare(False, True), "Equal": _equal, "Not": _not, "And": _joint(np.logical_and, np.minimum),
    "Or": _joint(np.logical_or, np.maximum), "Where": _where, "TopK": _top_k, "Einsum": _einsum,
}  # fmt: skip
