"""Is a concrete execution unsafe? Exact evaluation of a property, atoms as written (DESIGN 1)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specs.canonical import PRODUCTS, Box, Property, Rationals, atom_holds
from specs.errors import PropertyError
from specs.rounding import down_float64, nearest_float32, up_float64

Values = Sequence[Fraction] | NDArray[Any]


def violated_case(
    property: Property, inputs: Mapping[str, Values], outputs: Mapping[str, Values], *, exact_box: bool = False
) -> int | None:
    """Index of the first case that contains the execution, or None if it is safe.

    `inputs` and `outputs` map tensor names to flat vectors [size of the variable] of rationals, or of floats, which are taken
    exactly. A box contains x if RN32(lower) <= x <= RN32(upper), coordinate by coordinate; with `exact_box` if
    lower <= x <= upper. Atoms are compared in rationals, without tolerance; products are those of the values of
    their factors, whatever is given for them. Raises PropertyError if a vector is missing, has another size, or contains NaN or Inf.
    """
    points = {v.name: _point(v.name, v.size, {**inputs, **outputs}) for v in (*property.inputs, *property.outputs)}
    values = {name: point.values for name, point in points.items()}
    if property.query is not None and property.query.products:
        values[PRODUCTS] = tuple(math.prod((values[t][i] for t, i in product), start=Fraction(1)) for product in property.query.products)
    boxes: tuple[Box, ...] | None = None
    inside = False
    for k, case in enumerate(property.cases):
        if case.boxes is not boxes:  # neighbouring cases often share their boxes
            boxes = case.boxes
            inside = all(_contains(box, points[box.tensor], exact_box) for box in boxes)
        if inside and all(atom_holds(atom, values) for atom in case.atoms):
            return k
    return None


@dataclass(frozen=True)
class _Point:
    """Exact values of a tensor, and the doubles around them (equal where a value is a double)."""

    values: tuple[Fraction, ...]

    @cached_property
    def _rationals(self) -> Rationals:
        return Rationals.of(self.values)

    @cached_property
    def down(self) -> NDArray[np.float64]:
        return down_float64(self._rationals)

    @cached_property
    def up(self) -> NDArray[np.float64]:
        return up_float64(self._rationals)


def _point(name: str, size: int, given: Mapping[str, Values]) -> _Point:
    if name not in given:
        raise PropertyError(f"no values for {name}")
    vector = given[name]
    flat = vector.ravel().tolist() if isinstance(vector, np.ndarray) else list(vector)
    if len(flat) != size:
        raise PropertyError(f"{len(flat)} values for {name}, which has {size} elements")
    if not all(isinstance(v, Fraction) or np.isfinite(v) for v in flat):
        raise PropertyError(f"the values of {name} contain NaN or Inf")
    return _Point(tuple(Fraction(v) for v in flat))


def _contains(box: Box, x: _Point, exact: bool) -> bool:
    if not exact:  # RN32 of a bound is a double r, and x >= r exactly when the largest double <= x is
        return bool((x.down >= nearest_float32(box.lower)).all() and (x.up <= nearest_float32(box.upper)).all())
    if (x.up < down_float64(box.lower)).any() or (x.down > up_float64(box.upper)).any():
        return False
    return all(box.lower[i] <= value <= box.upper[i] for i, value in enumerate(x.values))
