"""Tensors of exact rationals, or of rational enclosures: whole numbers over one denominator, in numpy's object arrays.

A number with an enclosure is centre and radius; both are exact, so that every operation below encloses, and adds nothing to what was exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.soundness.elementary import BITS, Enclosure, rounded

Array = NDArray[Any]
LONGEST = 4096  # binary digits of a common denominator, beyond which enclosures are rounded outward


@dataclass(frozen=True, eq=False)
class Tensor:
    """(centre +- radius) / denominator; arrays of Python integers of one shape, radius >= 0 or None: exact. denominator > 0."""

    centre: Array
    denominator: int
    radius: Array | None = None

    def __post_init__(self) -> None:
        for name in ("centre", "radius"):  # numpy makes plain integers of object arrays without dimensions; this undoes it
            value = getattr(self, name)
            if value is not None and not isinstance(value, np.ndarray):
                object.__setattr__(self, name, np.asarray(value, dtype=object))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.centre.shape

    @property
    def exact(self) -> bool:
        return self.radius is None

    def moved(self, move: Callable[[Array], Array]) -> Tensor:
        """The same numbers in other places: `move` re-indexes an array."""
        return Tensor(move(self.centre), self.denominator, None if self.radius is None else move(self.radius))

    def ends(self) -> tuple[Array, Array]:
        """Lower and upper ends, over the denominator."""
        return (self.centre, self.centre) if self.radius is None else (self.centre - self.radius, self.centre + self.radius)

    def enclosures(self) -> list[Enclosure]:
        """Flat (lower, upper)."""
        low, high = self.ends()
        pairs = zip(low.reshape(-1), high.reshape(-1), strict=True)
        return [(Fraction(a, self.denominator), Fraction(b, self.denominator)) for a, b in pairs]

    def numbers(self) -> Array:
        """The values as Fractions, which must be exact. Raises ValueError."""
        if self.radius is not None:
            raise ValueError("an exact number was expected where only an enclosure is known")
        return _mapped(self.centre, lambda v: Fraction(v, self.denominator))

    def __add__(self, other: Tensor) -> Tensor:
        a, b, denominator = aligned(self, other)
        return Tensor(a.centre + b.centre, denominator, _sum(*_radii(a, b)))

    def __neg__(self) -> Tensor:
        return Tensor(-self.centre, self.denominator, self.radius)

    def __sub__(self, other: Tensor) -> Tensor:
        return self + -other

    def __mul__(self, other: Tensor) -> Tensor:
        if self.radius is None or other.radius is None:
            return self.product(other, np.multiply)
        corners = [a * b for a in self.ends() for b in other.ends()]
        return between(np.minimum.reduce(corners), np.maximum.reduce(corners), self.denominator * other.denominator)

    def squared(self) -> Tensor:
        """x x, never below 0."""
        low, high = self.ends()
        ends = [a * a for a in (low, high)]
        least = np.where((low <= 0) & (high >= 0), 0, np.minimum(*ends))
        return between(least, np.maximum(*ends), self.denominator**2)

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.product(other, np.matmul)

    def product(self, other: Tensor, multiply: Callable[[Array, Array], Array]) -> Tensor:
        """Any bilinear `multiply` whose terms have coefficient 1: |ab - AB| <= |A| rb + ra |B| + ra rb."""
        ra, rb = self.radius, other.radius
        radius = None if ra is None else multiply(ra, abs(other.centre))
        if rb is not None:
            more = multiply(abs(self.centre) if ra is None else abs(self.centre) + ra, rb)
            radius = more if radius is None else radius + more
        return reduced(Tensor(multiply(self.centre, other.centre), self.denominator * other.denominator, radius))

    def scaled(self, factor: Fraction | int) -> Tensor:
        """Times a number."""
        factor = Fraction(factor)
        radius = None if self.radius is None else self.radius * abs(factor.numerator)
        return reduced(Tensor(self.centre * factor.numerator, self.denominator * factor.denominator, radius))


def _mapped(array: Array, function: Callable[[Any], Any]) -> Array:
    result = np.empty(array.shape, dtype=object)
    result.reshape(-1)[:] = [function(v) for v in array.reshape(-1)]
    return result


def _sum(a: Array | None, b: Array | None) -> Array | None:
    if a is None or b is None:
        return a if b is None else b
    return a + b


def _radii(a: Tensor, b: Tensor) -> list[Array | None]:
    """Both radii, in the shape that the centres broadcast to."""
    shape = np.broadcast_shapes(a.shape, b.shape)
    return [None if t.radius is None else np.broadcast_to(t.radius, shape) for t in (a, b)]


def aligned(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, int]:
    """The same tensors over a common denominator."""
    common = math.lcm(a.denominator, b.denominator)
    first, second = (
        t if t.denominator == common
        else Tensor(t.centre * (common // t.denominator), common, None if t.radius is None else t.radius * (common // t.denominator))
        for t in (a, b)
    )  # fmt: skip
    return first, second, common


def reduced(tensor: Tensor) -> Tensor:
    """The same in lowest terms; an enclosure over a long denominator is rounded outward to LONGEST / 2 binary places."""
    if tensor.radius is not None and tensor.denominator.bit_length() > LONGEST:
        point, d = LONGEST // 2, tensor.denominator
        radius = _mapped(tensor.radius, lambda r: -(-(r << point) // d) + 1)
        return Tensor(_mapped(tensor.centre, lambda c: (c << point) // d), 1 << point, radius)
    common = math.gcd(tensor.denominator, *tensor.centre.reshape(-1), *(() if tensor.radius is None else tensor.radius.reshape(-1)))
    if common == 1:
        return tensor
    return Tensor(tensor.centre // common, tensor.denominator // common, None if tensor.radius is None else tensor.radius // common)


def of_floats(array: Array) -> Tensor:
    """The exact values of floats, all finite. Raises ValueError."""
    wide = np.asarray(array, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise ValueError("a constant that is not finite")
    digits, exponents = np.frexp(wide)
    exponents = exponents.astype(np.int64) - 53
    least = min(0, int(exponents[wide != 0].min(initial=0)))
    parts = zip((digits * 2.0**53).reshape(-1).tolist(), exponents.reshape(-1).tolist(), strict=True)
    whole = np.empty(wide.shape, dtype=object)
    whole.reshape(-1)[:] = [int(d) << (e - least) if d else 0 for d, e in parts]
    return reduced(Tensor(whole, 1 << -least))


def of_integers(array: Array) -> Tensor:
    """Whole numbers, or bools, as a tensor."""
    return Tensor(_mapped(np.asarray(array), int), 1)


def of_fractions(values: Sequence[Fraction], shape: Sequence[int]) -> Tensor:
    """Exact numbers."""
    return of_enclosures([(v, v) for v in values], shape)


def of_enclosures(pairs: Sequence[Enclosure], shape: Sequence[int]) -> Tensor:
    """Enclosures, flat. Where their common denominator would be too long, those that are not exact are rounded outward first."""
    exact = all(a == b for a, b in pairs)
    denominator = math.lcm(*(v.denominator for pair in pairs for v in pair))
    if denominator.bit_length() > LONGEST:
        pairs, exact = [(rounded(a, up=False, bits=BITS), rounded(b, up=True, bits=BITS)) for a, b in pairs], False
        denominator = math.lcm(*(v.denominator for pair in pairs for v in pair))
    low, high = (np.empty(len(pairs), dtype=object) for _ in range(2))
    low[:] = [a.numerator * (denominator // a.denominator) for a, _ in pairs]
    high[:] = low if exact else [b.numerator * (denominator // b.denominator) for _, b in pairs]
    return between(low.reshape(tuple(shape)), high.reshape(tuple(shape)), denominator)


def between(lower: Array, upper: Array, denominator: int) -> Tensor:
    """What lies between two arrays of integers over one denominator; exact where all are equal."""
    if lower is upper or (lower == upper).all():
        return reduced(Tensor(lower, denominator))
    return reduced(Tensor(lower + upper, 2 * denominator, upper - lower))
