"""Builders: common properties without writing VNN-LIB. The input tensor is X, the output tensor Y, both flat.

Numbers are exact. A float means its binary value; for the decimal 0.1 pass "0.1" or Fraction(1, 10).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from numbers import Integral
from typing import Any

from specs.canonical import Atom, Box, Case, Property, Rationals, Variable
from specs.errors import PropertyError
from specs.tokens import rational

Number = int | float | str | Fraction


def box(lower: Iterable[Number], upper: Iterable[Number]) -> Box:
    """lower[i] <= X_i <= upper[i]. Raises PropertyError if it is empty, or the lengths differ."""
    low, high = [_exact(v) for v in lower], [_exact(v) for v in upper]
    if len(low) != len(high) or not low:
        raise PropertyError(f"a box needs as many lower as upper bounds, at least one: {len(low)} and {len(high)}")
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        if a > b:
            raise PropertyError(f"the box is empty: X_{i} has lower bound {a} above its upper bound {b}")
    return Box("X", Rationals.of(low), Rationals.of(high))


def linf_box(center: Iterable[Number], epsilon: Number, clip: tuple[Number, Number] | None = None) -> Box:
    """All X with |X_i - center_i| <= epsilon, cut to clip[0] <= X_i <= clip[1] if given."""
    radius = _exact(epsilon)
    if radius < 0:
        raise PropertyError(f"the radius {radius} is negative")
    points = [_exact(v) for v in center]
    lower, upper = [v - radius for v in points], [v + radius for v in points]
    if clip is not None:
        low, high = _exact(clip[0]), _exact(clip[1])
        lower, upper = [max(v, low) for v in lower], [min(v, high) for v in upper]
    return box(lower, upper)


def untargeted(region: Box, label: int, classes: int, *, ties_are_safe: bool = False) -> Property:
    """Unsafe: some other class scores at least as much as `label` (VNN-COMP's convention: a tie is unsafe).

    With `ties_are_safe` it must score more. One case for every other class.
    """
    _require_class(label, classes)
    return _property(region, classes, [(_beats(other, label, ties_are_safe),) for other in range(classes) if other != label])


def targeted(region: Box, label: int, target: int, classes: int, *, ties_are_safe: bool = False) -> Property:
    """Unsafe: class `target` scores at least as much as `label` (a tie is unsafe; with `ties_are_safe` it is not)."""
    _require_class(label, classes)
    _require_class(target, classes)
    if label == target:
        raise PropertyError(f"the target {target} is the label itself")
    return _property(region, classes, [(_beats(target, label, ties_are_safe),)])


def output_range(region: Box, lower: Sequence[Number | None], upper: Sequence[Number | None]) -> Property:
    """Unsafe: some output leaves its range, Y_j < lower[j] or Y_j > upper[j] (the ends are safe; None: no bound)."""
    if len(lower) != len(upper):
        raise PropertyError(f"{len(lower)} lower and {len(upper)} upper bounds for the outputs")
    for j, (low, high) in enumerate(zip(lower, upper, strict=True)):
        if low is not None and high is not None and _exact(low) > _exact(high):
            raise PropertyError(f"the range of Y_{j} is empty: from {low} to {high}")
    below = [(Atom((("Y", j, Fraction(1)),), _exact(v), strict=True),) for j, v in enumerate(lower) if v is not None]
    above = [(Atom((("Y", j, Fraction(-1)),), -_exact(v), strict=True),) for j, v in enumerate(upper) if v is not None]
    return _property(region, len(lower), below + above)


def _property(region: Box, outputs: int, cases: Iterable[tuple[Atom, ...]]) -> Property:
    boxes = (region,)
    inputs = (Variable(region.tensor, (len(region.lower),)),)
    return Property(inputs, (Variable("Y", (outputs,)),), tuple(Case(boxes, atoms) for atoms in cases))


def _beats(other: int, label: int, strictly: bool) -> Atom:
    """Y_label - Y_other <= 0 (`<` if strictly)."""
    return Atom((("Y", label, Fraction(1)), ("Y", other, Fraction(-1))), Fraction(0), strictly)


def _require_class(label: int, classes: int) -> None:
    if not isinstance(label, Integral) or not isinstance(classes, Integral):
        raise PropertyError(f"classes are counted in integers, not {label!r} of {classes!r}")
    if not 0 <= label < classes:
        raise PropertyError(f"class {label} is not among the {classes} classes 0 .. {classes - 1}")


def _exact(value: Any) -> Fraction:
    """A number, also one of numpy or torch; of a text what `rational` reads."""
    try:
        found = rational(value) if isinstance(value, str) else Fraction(value.item() if hasattr(value, "item") else value)
    except (ValueError, OverflowError, TypeError, RuntimeError) as error:
        raise PropertyError(f"{value!r} is no finite number") from error
    if found is None:
        raise PropertyError(f"{value!r} is no number; write a decimal, or a quotient of integers such as 2/255")
    return found
