"""Regions: what a sample may become. Each is a union of boxes over the numbers x that a query varies, in exact rationals.

A region may transform x to a sample (brightness, rotation), and may be cut by a norm, which then is an output of the composed network
with an unsafe atom of its own; nothing is replaced by a hull in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from benchmarks.certify.compose import Transform
from benchmarks.certify.errors import InputError, UsageError

Vector = tuple[Fraction, ...]
Box = tuple[Vector, Vector]

MOST_BOXES = 20_000


@dataclass(frozen=True)
class Norm:
    """|| x - centre ||_p <= radius, p 1 or 2."""

    p: int
    centre: Vector
    radius: Fraction

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Whether the exact norm is at most the radius."""
        distances = [abs(a - b) for a, b in zip(x, self.centre, strict=True)]
        return sum(distances, Fraction(0)) <= self.radius if self.p == 1 else sum((d * d for d in distances), Fraction(0)) <= self.radius**2


@dataclass(frozen=True)
class Region:
    """The union of `boxes` over x [n], cut by `norm`; `transform` makes the sample of x, None: x is the sample."""

    boxes: tuple[Box, ...]
    norm: Norm | None = None
    transform: Transform | None = None

    @property
    def size(self) -> int:
        return len(self.boxes[0][0])

    def contains(self, x: Sequence[Fraction]) -> bool:
        """Whether x lies in the region exactly as asked."""
        inside = any(all(a <= v <= b for a, v, b in zip(low, x, high, strict=True)) for low, high in self.boxes)
        return inside and (self.norm is None or self.norm.contains(x))


@dataclass(frozen=True)
class Subject:
    """One sample: exact values, shape, names of its features, and the range that values have, if one is declared."""

    values: Vector
    shape: tuple[int, ...]
    features: tuple[str, ...] = ()
    low: Fraction | None = None
    high: Fraction | None = None

    def cut(self, low: Sequence[Fraction], high: Sequence[Fraction]) -> Box:
        """The box [low, high] within the declared range."""
        lower = tuple(low) if self.low is None else tuple(max(v, self.low) for v in low)
        upper = tuple(high) if self.high is None else tuple(min(v, self.high) for v in high)
        if any(a > b for a, b in zip(lower, upper, strict=True)):
            raise InputError("a region is empty within the declared range")
        return lower, upper

    def place(self, name: object, where: str) -> int:
        """The flat element that `name` means: a column's name, or a number."""
        if isinstance(name, str) and name in self.features:
            return self.features.index(name)
        if isinstance(name, int) and not isinstance(name, bool) and 0 <= name < len(self.values):
            return name
        known = ", ".join(self.features) if self.features else f"0 to {len(self.values) - 1}"
        raise UsageError(f"{where}: no feature {name!r}; known: {known}")


Make = Callable[[Subject, Fraction | None, Mapping[str, Any], str], Region]


def region(kind: str, subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """The region of a check around one sample. Raises UsageError where the check does not fit the samples."""
    made = MAKERS[kind](subject, radius, settings, where)
    if not 0 < len(made.boxes) <= MOST_BOXES:
        raise UsageError(f"{where}: {len(made.boxes)} boxes; a region has at most {MOST_BOXES}")
    return made


def _radius(radius: Fraction | None, where: str) -> Fraction:
    if radius is None:
        raise UsageError(f"{where}: a radius is missing")
    return radius


def linf(subject: Subject, radius: Fraction | None, settings: Mapping[str, Any], where: str) -> Region:
    """|x_i - sample_i| <= radius, for all elements or for `features`."""
    r = _radius(radius, where)
    varied = _varied(subject, settings, where)
    low = [v - r if i in varied else v for i, v in enumerate(subject.values)]
    high = [v + r if i in varied else v for i, v in enumerate(subject.values)]
    return Region((subject.cut(low, high),))


def _varied(subject: Subject, settings: Mapping[str, Any], where: str) -> set[int]:
    chosen = settings.get("features")
    if chosen is None:
        return set(range(len(subject.values)))
    if not isinstance(chosen, list) or not chosen:
        raise UsageError(f"{where}: features is a list of names or numbers")
    return {subject.place(name, where) for name in chosen}


MAKERS: Mapping[str, Make] = {"linf": linf}


def extended(region: Region, low: Fraction, high: Fraction) -> Region:
    """The region with one more number, in [low, high], behind x."""
    return replace(region, boxes=tuple(((*a, low), (*b, high)) for a, b in region.boxes))
