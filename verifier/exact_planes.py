"""Relaxations in exact rationals with short coefficients, and linear bounds made of them: late layers of a system eliminated, as far as wanted.

Everything holds for every execution in the ranges of the system's variables. What is cut from a coefficient is paid for by an error term.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds import relaxation
from graph.functions.facts import Pieces, Smooth
from verifier.exact_system import Element, Form, NoRule, Range, System, limits

Array = NDArray[Any]
Q = Fraction
Line = tuple[Fraction, Fraction]  # slope, offset

ROUNDING = 2.0**-49  # sixteen units of float64: more than the roundings of one term of a backward pass, and of its factors
TINY = 2.0**-960  # more than underflowing products lose together


def rounded(q: Fraction, grid: Fraction, side: int) -> Fraction:
    """The multiple of `grid` next to q: below (side -1), above (1)."""
    return grid * (math.floor(q / grid) if side < 0 else math.ceil(q / grid))


def grid_of(width: Fraction, bits: int) -> Fraction:
    """A power of two about 2^-bits of a positive width."""
    exponent = width.numerator.bit_length() - width.denominator.bit_length() - bits
    return Q(2) ** exponent


def coarse(bounds: Range, bits: int | None) -> Range:
    """Bounds with fewer digits, rounded outwards."""
    low, high = bounds
    if bits is None or low is None or high is None or low >= high:
        return bounds
    grid = grid_of(high - low, bits)
    return rounded(low, grid, -1), rounded(high, grid, 1)


@dataclass(frozen=True, eq=False)
class Cut:
    """A form with short coefficients: the form lies within `error` of sum of terms + constant, for all values in the variables' ranges."""

    terms: dict[int, Fraction]
    constant: Fraction
    error: Fraction

    @property
    def least(self) -> Fraction:
        """At most constant - error, with few digits where there is an error."""
        return rounded(self.constant - self.error, grid_of(self.error, 2), -1) if self.error else self.constant


def cut(terms: Mapping[int, Fraction], constant: Fraction, ranges: Sequence[Range], bits: int | None) -> Cut:
    """Every coefficient to a multiple of a power of two; what is lost over half the variable's range goes into the error, and the rest,
    at its middle, into the constant."""
    if bits is None:
        return Cut(dict(terms), constant, Q(0))
    spread = {v: _half(ranges[v]) for v in terms}
    total = sum((abs(c) * r for v, c in terms.items() if (r := spread[v]) is not None), Q(0))
    short, error = dict[int, Fraction](), Q(0)
    for v, c in terms.items():
        half, (low, high) = spread[v], ranges[v]
        if half is None or low is None or high is None or not total:
            short[v] = c
            continue
        short[v] = rounded(c, grid_of(total / half, bits), -1) if half else Q(0)
        constant += (c - short[v]) * (low + high) / 2
        error += (c - short[v]) * half
    tidy = rounded(constant, grid_of(total, bits), -1) if total else constant
    return Cut({v: c for v, c in short.items() if c}, tidy, _short(error + constant - tidy, bits))


def _half(bounds: Range) -> Fraction | None:
    low, high = bounds
    return None if low is None or high is None else (high - low) / 2


def _short(error: Fraction, bits: int) -> Fraction:
    return rounded(error, grid_of(error, bits), 1) if error else error



# ---------------------------------------------------------------- planes of one element


def corners_of(function: Pieces, bounds: Range) -> list[tuple[Fraction, Fraction]]:
    """Points whose convex hull is that of the closed graph of `function` over the bounds; none where one is unknown."""
    low, high = bounds
    if low is None or high is None:
        return []
    points = list[tuple[Fraction, Fraction]]()
    breaks, edges = [Q(b) for b in function.breakpoints], limits(function)
    for i, (slope, intercept) in enumerate(zip(function.slopes, function.intercepts, strict=True)):
        start, end = low if i == 0 else max(low, breaks[i - 1]), high if i == len(breaks) else min(high, breaks[i])
        if start <= end:
            points += [(x, Q(slope) * x + Q(intercept)) for x in (start, end)]
    return points + [(b, value) for b, (_, value, _) in zip(breaks, edges, strict=True) if low <= b <= high]


def chain(points: Iterable[tuple[Fraction, Fraction]], side: int) -> list[Line]:
    """The lines (slope, offset) below (side 1) or above (-1) all points, through neighbours of their convex hull (Andrew 1979)."""
    corners: list[tuple[Fraction, Fraction]] = []
    for x, y in sorted({(x, side * y) for x, y in points}):
        if corners and corners[-1][0] == x:
            continue  # the lower of the two came first
        while len(corners) > 1 and _steepness(corners[-2], corners[-1]) >= _steepness(corners[-1], (x, y)):
            corners.pop()
        corners.append((x, y))
    if len(corners) == 1:
        return [(Q(0), side * corners[0][1])]
    slopes = [(_steepness(a, b), *a) for a, b in pairwise(corners)]
    return [(side * s, side * (y - s * x)) for s, x, y in slopes]


def _steepness(a: tuple[Fraction, Fraction], b: tuple[Fraction, Fraction]) -> Fraction:
    return (b[1] - a[1]) / (b[0] - a[0])


def smooth_lines(function: Smooth, bounds: Range) -> tuple[list[Line], list[Line]]:
    """Lines below and above `function`: tangents or secants, and constants, with offsets that are rigorous (bounds/relaxation.py)."""
    low, high = bounds
    if low is None or high is None:
        return [], []
    ends = torch.tensor([[_outward(low, -1)], [_outward(high, 1)]], dtype=torch.float64)
    planes, tops = relaxation.relax(function, ends[0], ends[1]), relaxation.interval(function, ends[0], ends[1])
    flat, none = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    below = [(planes.slope_lower, none if planes.offset_lower is None else planes.offset_lower), (flat, tops[0])]
    above = [(planes.slope_upper, none if planes.offset_upper is None else planes.offset_upper), (flat, tops[1])]
    return _finite(below), _finite(above)


def _finite(lines: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> list[Line]:
    """As rationals; a number that overflowed, or is none, bounds nothing."""
    return [(Q(float(s)), Q(float(o))) for s, o in lines if math.isfinite(float(s)) and math.isfinite(float(o))]


def _outward(q: Fraction, side: int) -> float:
    near = float(q)
    return near if side * Q(near) >= side * q else math.nextafter(near, side * math.inf)


@dataclass(frozen=True)
class Plane:
    """sum of slope * operand + offset, on one side of an element over its ranges."""

    slopes: tuple[Fraction, ...]
    offset: Fraction


def plane(element: Element, ranges: Sequence[Range], side: int, bits: int | None) -> Plane | None:
    """A plane below (side 1) or above (-1) the element, with a short slope; None where its ranges are not known."""
    if element.kind == "same":
        return Plane((Q(1),), Q(0))
    if any(end is None for r in ranges for end in r):
        return None
    ends = [(low, high) for low, high in ranges if low is not None and high is not None]
    match element.kind:
        case "product":
            (a, _), (low, high) = ends
            b = low if side > 0 else high  # (x - a)(y - low) >= 0 and (x - a)(y - high) <= 0
            return Plane((b, a), -a * b)
        case "max":
            return _max_plane(ends, side)
        case Pieces() as function:
            points = corners_of(function, ends[0])
            slope = _short_slope(_best(chain(points, side), ends[0], side), bits)
            return Plane((slope,), side * min(side * (y - slope * x) for x, y in points))
        case Smooth() as function:
            lines = smooth_lines(function, ends[0])[0 if side > 0 else 1]
            best = _best(lines, ends[0], side) if lines else None
            return None if best is None else Plane((best[0],), best[1])
        case _:
            raise NoRule(f"SMT has no plane for {element.kind!r} at node {element.at[0]}")


def _best(lines: Sequence[Line], ends: tuple[Fraction, Fraction], side: int) -> Line:
    """The line nearest to the function at the middle: it cuts off the least area."""
    return max(lines, key=lambda line: side * (line[0] * (ends[0] + ends[1]) / 2 + line[1]))


def _short_slope(line: Line, bits: int | None) -> Fraction:
    return line[0] if bits is None or not line[0] else rounded(line[0], grid_of(abs(line[0]), bits), -1)


def _max_plane(ends: Sequence[tuple[Fraction, Fraction]], side: int) -> Plane:
    """Below: the operand with the largest lower bound. Above: that one, and how far another may exceed it, or the largest upper bound."""
    best = max(range(len(ends)), key=lambda j: ends[j][0])
    unit = tuple(Q(j == best) for j in range(len(ends)))
    if side > 0:
        return Plane(unit, Q(0))
    rise = max([Q(0), *(high - ends[best][0] for j, (_, high) in enumerate(ends) if j != best)])
    top = max(high for _, high in ends)
    return Plane(unit, rise) if (ends[best][0] + ends[best][1]) / 2 + rise < top else Plane(tuple(Q(0) for _ in ends), top)


# ---------------------------------------------------------------- elimination


class Eliminator:
    """Linear lower bounds of forms in terms of the inputs and the elements that are kept: a backward pass (CROWN, Zhang et al. 2018).

    It runs in float64, all forms at once, and every product and sum pays for its rounding: what comes out holds over the reals.
    """

    def __init__(self, system: System, bits: int | None) -> None:
        self.system, self.bits = system, bits
        self.ranges = [coarse(r, bits) for r in system.ranges]
        self.operand_ranges = [[coarse(r, bits) for r in e.ranges] for e in system.elements]
        self.planes = [{side: plane(e, r, side, bits) for side in (1, -1)} for e, r in zip(system.elements, self.operand_ranges, strict=True)]
        unbounded = {k for k, e in enumerate(system.elements) if None in system.ranges[e.result]}
        self.must_keep = {k for k, planes in enumerate(self.planes) if None in planes.values()} | unbounded
        self.used: dict[tuple[int, int], float] = {}  # (eliminated element, side) -> the largest coefficient that its plane was met with
        self.steps = [[Step.of(form, self.largest) for form in e.operands] for e in system.elements]

    @cached_property
    def largest(self) -> Array:
        """At least the largest absolute value of every variable [V]; infinite where it is not known."""
        ends = [[abs(end) for end in r if end is not None] for r in self.ranges]
        return np.asarray([_outward(max(e), 1) if len(e) == 2 else np.inf for e in ends])

    def lower(self, forms: Sequence[tuple[Mapping[int, Fraction], Fraction]], kept: Container[int]) -> list[Cut | None]:
        """Per form (coefficients, constant) a bound: form >= terms . variables + constant - error, with no variables but inputs and results of
        elements in `kept`. Where no element is eliminated, the form lies within `error`. None where numbers overflowed."""
        gone = {e.result: k for k, e in enumerate(self.system.elements) if k not in kept}
        passing = [n for n, (terms, _) in enumerate(forms) if not gone.keys().isdisjoint(terms)]
        bounds = dict(zip(passing, self._pass([forms[n] for n in passing], gone), strict=True))
        return [bounds[n] if n in bounds else cut(*form, self.ranges, self.bits) for n, form in enumerate(forms)]

    def _pass(self, forms: Sequence[tuple[Mapping[int, Fraction], Fraction]], gone: Mapping[int, int]) -> list[Cut | None]:
        coefficients = np.zeros((len(forms), len(self.ranges)))
        for n, (terms, _) in enumerate(forms):
            coefficients[n, list(terms)] = [float(c) for c in terms.values()]
        total = np.asarray([float(constant) for _, constant in forms])
        charge = _weigh(coefficients, self.largest) + np.abs(total)  # what is rounded, in all
        error = np.zeros(len(forms))
        with np.errstate(all="ignore"):  # what overflows is seen at the end
            for v in sorted(gone, reverse=True):
                c = coefficients[:, v].copy()
                if not c.any():
                    continue
                coefficients[:, v] = 0.0
                self._note(gone[v], c)
                offset, slopes = self._chosen(gone[v], c)
                total, charge = total + c * offset, charge + np.abs(c * offset)
                for slope, step in zip(slopes, self.steps[gone[v]], strict=True):
                    m = c * slope
                    coefficients[:, step.place] += m[:, None] * step.weight
                    total, error = total + m * step.constant, error + np.abs(m) * step.error
                    charge = charge + np.abs(m) * step.size + _weigh(coefficients[:, step.place], self.largest[step.place])
                charge = charge + np.abs(total)
            error = (error + charge * ROUNDING + TINY * (1 + self.largest[np.isfinite(self.largest)].sum())) * (1 + 2.0**-20)
        return [self._result(*row) for row in zip(coefficients, total.tolist(), error.tolist(), strict=True)]

    def _note(self, k: int, c: Array) -> None:
        for side in (1, -1):
            self.used[k, side] = max(self.used.get((k, side), 0.0), float((side * c).max()))

    def _chosen(self, k: int, c: Array) -> tuple[Array, list[Array]]:
        """The offsets, and the slopes per operand, of the planes that bound c * element from below."""
        below, above = self.planes[k][1], self.planes[k][-1]
        if below is None or above is None:
            raise ValueError("an element without planes cannot be eliminated")
        slopes = [np.where(c > 0, float(a), float(b)) for a, b in zip(below.slopes, above.slopes, strict=True)]
        return np.where(c > 0, float(below.offset), float(above.offset)), slopes

    def _result(self, coefficients: Array, constant: float, error: float) -> Cut | None:
        if not (np.isfinite(coefficients).all() and math.isfinite(constant) and math.isfinite(error)):
            return None
        terms = {int(v): Q(float(coefficients[v])) for v in np.flatnonzero(coefficients)}
        short = cut(terms, Q(constant), self.ranges, self.bits)
        return Cut(short.terms, short.constant, short.error + (Q(error) if self.bits is None else _short(Q(error), self.bits)))


@dataclass(frozen=True, eq=False)
class Step:
    """A form in float64: weights [n] at variables `place` [n], and the constant; `size` is at least |weight| . largest + |constant|, and
    `error` at least what the numbers lost when they became float64, beyond a relative 2^-53 each."""

    place: Array
    weight: Array
    constant: float
    size: float
    error: float

    def at(self, values: Array) -> float:
        """About the value of the form."""
        return float(self.weight @ values[self.place]) + self.constant

    @staticmethod
    def of(form: Form, largest: Array) -> Step:
        terms = form.terms
        place = np.asarray(list(terms), dtype=np.int64)
        weight = np.asarray([float(c) for c in terms.values()], dtype=np.float64)
        with np.errstate(all="ignore"):
            size = float(_weigh(weight, largest[place])) + abs(float(form.constant))
        return Step(place, weight, float(form.constant), size, TINY * (1.0 + float(largest[place][np.isfinite(largest[place])].sum())))


def _weigh(coefficients: Array, largest: Array) -> Array:
    """|coefficients| . largest, without 0 times infinity."""
    return np.asarray((np.abs(coefficients) * np.where(coefficients == 0, 0.0, largest)).sum(-1))
