"""Linear relaxations of the non-linear nodes: any finite slope, rigorous offset (DESIGN 5, ARITHMETIC 3 and 6).

A slope may come from any heuristic or optimiser. The offset is a proven bound of the minimum (or maximum) of
f(x) - slope x over [lower, upper], over the reals, with the rounding of its own evaluation paid for. All tensors are
broadcastable, elementwise, float32 or float64, and results are differentiable in slope, lower and upper.

Where f is not defined on all of [lower, upper] (Reciprocal across 0, Sqrt below 0, Log at 0) the results are NaN, and
where a number overflows they are infinite or NaN. A caller must treat any bound that is not finite as nothing proven.
An empty interval (lower > upper) has no executions, so what is returned for it means nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.accuracy import accuracy
from bounds.functions import torch_function
from graph.functions.facts import Function, Pieces, Smooth, Stairs, Steps

STEEPEST = 2.0**15  # chord across a jump that is tried: float16 holds it, and no product of it overflows
UNDERFLOW = 2.0**-100  # more than underflow loses in an offset, and no products with it are subnormal numbers, which take ten times as long
TWIN_REACH = 0.45  # of a maximum's own width, where its upper plane turns into a constant: also in the checker
STEEPNESS = 8.0  # with which a default slope rises from one piece of a kinked function to the other: also in the checker, for which it is chosen
OWN_ROUNDINGS = 8  # units of rounding for the few + - * around one evaluation of f; at most 5 occur

Offset = Callable[[Tensor], Tensor]  # slopes -> offsets


@dataclass(frozen=True)
class Planes:
    """slope_lower x + offset_lower <= f(x) <= slope_upper x + offset_upper on the interval. An offset None is exactly 0."""

    slope_lower: Tensor
    offset_lower: Tensor | None
    slope_upper: Tensor
    offset_upper: Tensor | None

    def at(self, elements: Tensor) -> Planes:
        """Those of some elements."""
        lower, upper = (None if offset is None else offset.index_select(-1, elements) for offset in (self.offset_lower, self.offset_upper))
        return Planes(self.slope_lower.index_select(-1, elements), lower, self.slope_upper.index_select(-1, elements), upper)

    def but(self, elements: Tensor, others: Planes) -> Planes:
        """These, but for some elements: theirs are `others`, which may be of more rows. All have offsets."""
        parts = []
        for name in ("slope_lower", "offset_lower", "slope_upper", "offset_upper"):
            every, few = getattr(self, name), getattr(others, name)
            parts.append(every.expand(*few.shape[:-1], -1).index_copy(-1, elements, few))
        return Planes(*parts)


@dataclass(frozen=True)
class ProductPlanes:
    """x_lower x + y_lower y + offset_lower <= x y <= x_upper x + y_upper y + offset_upper on the box."""

    x_lower: Tensor
    y_lower: Tensor
    offset_lower: Tensor
    x_upper: Tensor
    y_upper: Tensor
    offset_upper: Tensor


# ---------------------------------------------------------------- univariate functions


def relax(
    function: Function, lower: Tensor, upper: Tensor, slope_lower: Tensor | None = None, slope_upper: Tensor | None = None
) -> Planes:
    """Both planes of `function` over [lower, upper]; slopes that are not given are the default ones."""
    if kink(function) == (0.0, 1.0) and slope_lower is None and slope_upper is None:
        return _relax_relu(lower, upper)
    if slope_lower is None or slope_upper is None:
        default_lower, default_upper = default_slopes(function, lower, upper)
        slope_lower = default_lower if slope_lower is None else slope_lower
        slope_upper = default_upper if slope_upper is None else slope_upper
    return Planes(
        slope_lower,
        offset_lower(function, slope_lower, lower, upper),
        slope_upper,
        offset_upper(function, slope_upper, lower, upper),
    )


def offset_lower(function: Function, slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """o with f(x) >= slope x + o for every real x in [lower, upper]."""
    return _offset(function, lower, upper, side=1)(slope)


def offset_upper(function: Function, slope: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """o with f(x) <= slope x + o for every real x in [lower, upper]."""
    return -_offset(function, lower, upper, side=-1)(slope)


def interval(function: Function, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """(low, high) with low <= f(x) <= high for every real x in [lower, upper]."""
    if kink(function) == (0.0, 1.0):
        return lower.clamp(min=0), upper.clamp(min=0)
    if isinstance(function, Stairs):
        level = torch.zeros_like(lower)
        return offset_lower(function, level, lower, upper), offset_upper(function, level, lower, upper)
    if isinstance(function, Pieces):
        return _pieces_interval(function, lower, upper)
    if isinstance(function, Steps):
        return torch_function(function).value(lower), torch_function(function).value(upper)
    return _smooth_interval(function, lower, upper)


def is_linear(function: Function, lower: Tensor, upper: Tensor) -> Tensor:
    """Boolean mask: f is one straight piece over [lower, upper], so that its relaxation is exact."""
    if isinstance(function, Steps):
        return torch_function(function).value(lower) == torch_function(function).value(upper)
    if isinstance(function, Smooth):
        return lower == upper
    if isinstance(function, Stairs):
        value = torch_function(function).value
        return value(lower) == value(upper)
    inside = torch.zeros_like(lower, dtype=torch.bool)
    jumps = {b for b, _ in function.jumps()}
    for b, (below, above) in zip(function.breakpoints, _breakpoints(function, lower), strict=True):
        bends = (lower < above) & (upper > below)
        inside = inside | (bends | (lower <= above) & (upper >= below) if b in jumps else bends)
    return ~inside


def default_slopes(function: Function, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Heuristic slopes (lower, upper), always finite where the ends are.

    Straight pieces: the line between two corner points of the graph with the smallest area, which for ReLU is the adaptive slope
    of CROWN (Zhang et al. 2018), but rises from one piece's to the other's where they cut off nearly the same: the checker, whose bounds
    differ by roundings, chooses nearly the same slope. Smooth: tangent at the midpoint where f curves towards the plane, the chord where it
    curves away, and otherwise the tangent through the far end, or the chord where that tangent leaves the interval.
    """
    slopes = kink(function)
    if slopes is not None:
        return _kink_slopes(slopes, lower, upper)
    if isinstance(function, Pieces | Steps):
        return _straight_or_least_area(function, lower, upper)
    return _smooth_slope(function, lower, upper, 1), _smooth_slope(function, lower, upper, -1)


def offsets(function: Function, lower: Tensor, upper: Tensor) -> tuple[Offset, Offset]:
    """`offset_lower` and `offset_upper` over these intervals, for many slopes."""
    below, above = (_offset(function, lower, upper, side) for side in (1, -1))
    return below, lambda slope: -above(slope)


def _offset(function: Function, lower: Tensor, upper: Tensor, side: int) -> Offset:
    """What is, for a slope, a proven lower bound of side * (f(x) - slope x) over [lower, upper]."""
    slopes = kink(function)
    if slopes is not None:
        return lambda slope: _kink_offset(slopes, slope, lower, upper, side)
    if isinstance(function, Stairs):
        return lambda slope: _stairs_offset(function, slope, lower, upper, side)
    if isinstance(function, Pieces):
        return _pieces_offset(function, lower, upper, side)
    if isinstance(function, Steps):
        return lambda slope: _steps_offset(function, slope, lower, upper, side)
    return lambda slope: _smooth_offset(function, slope, lower, upper, side)


# ---------------------------------------------------------------- straight pieces


def kink(function: Function) -> tuple[float, float] | None:
    """The slopes left and right of 0 of a function that bends there only and is 0 there: ReLU, LeakyReLU, Abs."""
    if isinstance(function, Pieces) and function.breakpoints == (0.0,) and not any(function.intercepts) and not any(function.values):
        return function.slopes[0], function.slopes[1]
    return None


def _relax_relu(lower: Tensor, upper: Tensor) -> Planes:
    """ReLU with its default slopes. Below, any share of x holds with offset exactly 0; above, the chord."""
    unit, tiny = _unit(lower)
    low, high = lower.clamp(max=0), upper.clamp(min=0)
    chord = high / (high - low).clamp(min=tiny)
    offset = torch.maximum(-chord * low, (1 - chord) * high) * (1 + OWN_ROUNDINGS * unit) + UNDERFLOW
    return Planes(_rising(lower, upper), None, chord, offset)


def of_maximum(lower: Tensor, upper: Tensor, least: Tensor, most: Tensor) -> Planes:
    """Of max(a, b), of bounds [least, most], over its twin b + relu(a - b), which is the same number; a - b in [lower, upper].

    Above it is a share of the twin, and `most` for the rest: all of it where the chord of the relu is off by little of the maximum's own width.
    """
    high, low = upper.clamp(min=0), (-lower).clamp(min=0)
    unit, tiny = _unit(lower)
    excess = high * (low / (high + low).clamp(min=tiny))
    share = (0.5 + STEEPNESS * (TWIN_REACH - excess / (most - least).clamp(min=tiny))).clamp(0, 1)
    rest = torch.where(share < 1, (1 - share) * most + 4 * unit * most.abs() + tiny, 0.0)
    return Planes(torch.ones_like(share), None, share, rest)


def _rising(lower: Tensor, upper: Tensor) -> Tensor:
    """0 where most of [lower, upper] is below 0, 1 where most is above, and steadily between these where 0 is near the middle."""
    return (0.5 + STEEPNESS * (upper + lower) / (upper - lower).clamp(min=_unit(lower)[1])).clamp(0, 1)


def _kink_slopes(slopes: tuple[float, float], lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    left, right = (lower.new_tensor(s) for s in slopes)
    chord = _chord(lower, left * lower, upper, right * upper)
    chord = torch.where(lower >= 0, right, torch.where(upper <= 0, left, chord))
    share = _rising(lower, upper)
    steady = torch.where(share == 1, right, left + (right - left) * share)  # left and right themselves are exact
    steady = torch.where(lower >= 0, right, torch.where(upper <= 0, left, steady))
    return (steady, chord) if slopes[0] <= slopes[1] else (chord, steady)


def _kink_offset(slopes: tuple[float, float], slope: Tensor, lower: Tensor, upper: Tensor, side: int) -> Tensor:
    """The minimum is at an end or at the kink. (s - slope) x has a relative error only, so exact slopes stay exact."""
    unit, _ = _unit(slope)
    left, right = (slope.new_tensor(s) for s in slopes)
    ends = [side * (torch.where(x > 0, right, left) - slope) * x for x in (lower, upper)]
    least = torch.minimum(*ends)
    least = torch.where((lower < 0) & (upper > 0), least.clamp(max=0), least)
    error = OWN_ROUNDINGS * unit * least.detach().abs() + UNDERFLOW
    if (left.item(), right.item()) != slopes:
        error = error + OWN_ROUNDINGS * unit * max(map(abs, slopes)) * torch.maximum(lower.abs(), upper.abs()).detach()
    return least - error


def _pieces_offset(function: Pieces, lower: Tensor, upper: Tensor, side: int) -> Offset:
    """Over every piece that meets the interval the ends, and the value at every breakpoint inside it, found once for all slopes.

    A one-sided limit at a jump counts exactly if the piece is entered. Slopes, intercepts and breakpoints that are not
    floats of the dtype are rounded; the allowance takes the steepest piece, so it covers the wrong side of a breakpoint too.
    """
    breakpoints = _breakpoints(function, lower)
    corners = []  # -x and f(x), both times `side`: infinite where it does not count
    for i, (s, c) in enumerate(zip(function.slopes, function.intercepts, strict=True)):
        start, end, entered = lower, upper, ~torch.isnan(lower)
        if i > 0:
            start, entered = lower.clamp(min=breakpoints[i - 1][0]), entered & (upper > breakpoints[i - 1][0])
        if i < len(breakpoints):
            end, entered = upper.clamp(max=breakpoints[i][1]), entered & (lower < breakpoints[i][1])
        corners += [(-side * x, torch.where(entered, side * (s * x + c), torch.inf)) for x in (start, end)]
    for (below, above), v in zip(breakpoints, function.values, strict=True):
        inside = (lower <= above) & (upper >= below)
        corners.append((torch.full_like(lower, -side * below), torch.where(inside, lower.new_tensor(side * v), torch.inf)))
    fixed, per_slope = _pieces_error(function, lower, upper)

    def offset(slope: Tensor) -> Tensor:
        least = torch.addcmul(corners[0][1], slope, corners[0][0])
        for x, v in corners[1:]:
            least = torch.minimum(least, torch.addcmul(v, slope, x))
        return least - torch.addcmul(fixed, slope.detach().abs(), per_slope)

    return offset


def _pieces_interval(function: Pieces, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The offsets of level planes, found piece by piece only for the elements that come near a breakpoint."""
    piece, near = torch.zeros_like(lower, dtype=torch.long), torch.zeros_like(lower, dtype=torch.bool)
    for below, above in _breakpoints(function, lower):
        piece, near = piece + (lower > above), near | ((lower <= above) & (upper >= below))
    slope, intercept = lower.new_tensor(function.slopes)[piece], lower.new_tensor(function.intercepts)[piece]
    ends = slope * lower + intercept, slope * upper + intercept
    error, _ = _pieces_error(function, lower, upper)
    least, most = torch.minimum(*ends) - error, torch.maximum(*ends) + error
    low, high = lower[near], upper[near]
    level = torch.zeros_like(low)
    least = least.index_put((near,), offset_lower(function, level, low, high))
    most = most.index_put((near,), offset_upper(function, level, low, high))
    return least, most


def _pieces_error(function: Pieces, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """(a, b): rounding can change f(x) - slope x at a point of the interval by at most a + |slope| b. NaN where an end is."""
    unit, tiny = _unit(lower)
    largest = _poison(torch.maximum(lower.abs(), upper.abs()).detach(), lower, upper)
    steepest, highest = max(map(abs, function.slopes)), max(map(abs, (*function.intercepts, *function.values)))
    return 2 * OWN_ROUNDINGS * unit * (steepest * largest + highest) + 4 * tiny, 2 * OWN_ROUNDINGS * unit * largest + tiny


def _stair_corners(function: Stairs, lower: Tensor, upper: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(x, v): the ends of [lower, upper], and the limits at the first and at the last jump between them.

    f - s x is least and largest there for every s: at the corners in between, k - s (k + 1/2) and k + 1 - s (k + 1/2), it is linear in k. All
    numbers are exact: halves of whole numbers, and values of f.
    """
    value = torch_function(function).value
    first, last = value(lower), value(upper)
    some = last > first
    corners = [(lower, first), (upper, last)]
    for x, below in ((first + 0.5, first), (last - 0.5, last - 1)):
        corners += [(torch.where(some, x, lower), torch.where(some, below + rise, first)) for rise in (0, 1)]
    return corners


def _stairs_offset(function: Stairs, slope: Tensor, lower: Tensor, upper: Tensor, side: int) -> Tensor:
    """The least of side * (v - slope x) over the corners, less the rounding of these two operations."""
    unit, tiny = _unit(slope)
    corners = _stair_corners(function, lower, upper)
    least = torch.stack(torch.broadcast_tensors(*(side * (v - slope * x) for x, v in corners))).amin(dim=0)
    weight = slope.abs() * torch.maximum(lower.abs(), upper.abs()) + max(map(abs, function.intercepts))
    return _poison(least - (OWN_ROUNDINGS * unit * weight + tiny).detach(), lower, upper)


def _stair_slopes(function: Stairs, lower: Tensor, upper: Tensor) -> list[Tensor]:
    """Level, and the lines between any two corners."""
    corners = _stair_corners(function, lower, upper)
    slopes = [_chord(*corners[i], *corners[j]).clamp(-STEEPEST, STEEPEST) for i in range(len(corners)) for j in range(i)]
    return [torch.zeros_like(lower), *slopes]


def _breakpoints(function: Pieces, like: Tensor) -> list[tuple[float, float]]:
    """Every breakpoint as (largest float <= it, smallest float >= it) in the dtype of `like`."""
    enclosures = []
    for b in function.breakpoints:
        rounded = torch.tensor(b, dtype=like.dtype)
        below = rounded if rounded.item() <= b else torch.nextafter(rounded, rounded.new_tensor(-torch.inf))
        above = rounded if rounded.item() >= b else torch.nextafter(rounded, rounded.new_tensor(torch.inf))
        enclosures.append((below.item(), above.item()))
    return enclosures


def _corner_slopes(function: Pieces, lower: Tensor, upper: Tensor) -> list[Tensor]:
    """The slopes of the pieces, and of the lines between any two of: the ends, the limits at the breakpoints."""
    value = torch_function(function).value
    points = [(lower, value(lower)), (upper, value(upper))]
    for i, b in enumerate(function.breakpoints):
        for k in (i, i + 1):
            x = lower.clamp(min=b).minimum(upper)
            points.append((x, torch.where(x == b, x.new_tensor(function.slopes[k] * b + function.intercepts[k]), value(x))))
    slopes = [torch.full_like(lower, s) for s in dict.fromkeys(function.slopes)]
    slopes += [_chord(*points[i], *points[j]).clamp(-STEEPEST, STEEPEST) for i in range(len(points)) for j in range(i)]
    return slopes


def _straight_or_least_area(function: Pieces | Steps, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """(lower, upper) slopes: that of the only piece over [lower, upper], or else of a line between two corners. Few elements have several pieces,
    and to try all lines costs dozens of passes over them."""
    level = isinstance(function, Steps | Stairs)
    straight = torch.zeros_like(lower) if level else torch_function(function).derivative((lower + upper) / 2)
    several = ~is_linear(function, lower, upper)
    low, high = lower[several], upper[several]
    if isinstance(function, Steps):
        candidates = _steps_slopes(function, low, high)
    else:
        candidates = _stair_slopes(function, low, high) if isinstance(function, Stairs) else _corner_slopes(function, low, high)
    below, above = (_least_area(function, candidates, low, high, side) for side in (1, -1))
    return straight.index_put((several,), below), straight.index_put((several,), above)


def _least_area(function: Function, candidates: list[Tensor], lower: Tensor, upper: Tensor, side: int) -> Tensor:
    """The candidate whose plane is nearest to f at the midpoint: it cuts off the least area (for fixed ends)."""
    middle, offset = (lower + upper) / 2, _offset(function, lower, upper, side)
    best = candidates[0]
    height = side * best * middle + offset(best)
    for slope in candidates[1:]:
        other = side * slope * middle + offset(slope)
        better = other > height
        best, height = torch.where(better, slope, best), torch.where(better, other, height)
    return best


# ---------------------------------------------------------------- whole numbers


def _steps_corners(function: Steps, lower: Tensor, upper: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(x, limit of f there): the ends, and of the jumps inside the first and the last ones that have a limit from either side; an end in
    their place where there is none. In between f - s x is linear in the jump, (1 - s) j + limit."""
    value, (left, right) = torch_function(function).value, function.limits
    low, high = torch.floor(lower - function.first) + function.first, torch.floor(upper - function.first) + function.first
    after, first = torch.where(low <= lower, low + 1, low), torch.where(low < lower, low + 1, low)
    before, last = torch.where(high < upper, high, high - 1), high
    corners = [(lower, value(lower)), (upper, value(upper))]
    for start, end, limit in ((after, last, left), (first, before, right)):
        some = start <= end
        corners += [(torch.where(some, j, lower), torch.where(some, j + limit, value(lower))) for j in (start, end)]
    return corners


def _steps_offset(function: Steps, slope: Tensor, lower: Tensor, upper: Tensor, side: int) -> Tensor:
    """The least of side (v - slope x) over the corners; where numbers are too coarse for halves, over x + limits."""
    unit, tiny = _unit(slope)
    largest, (left, right) = torch.maximum(lower.abs(), upper.abs()), function.limits
    corners = torch.broadcast_tensors(*(side * (v - slope * x) for x, v in _steps_corners(function, lower, upper)))
    ends = torch.broadcast_tensors(*(side * ((1 - slope) * x + (left if side > 0 else right)) for x in (lower, upper)))
    least = torch.where(largest < 2.0**20, torch.stack(corners).amin(dim=0), torch.stack(ends).amin(dim=0))
    return _poison(least - (2 * OWN_ROUNDINGS * unit * ((1 + slope.abs()) * largest + 1) + tiny).detach(), lower, upper)


def _steps_slopes(function: Steps, lower: Tensor, upper: Tensor) -> list[Tensor]:
    """Level, 1, and the lines between any two corners."""
    corners = _steps_corners(function, lower, upper)
    slopes = [_chord(*corners[i], *corners[j]).clamp(-STEEPEST, STEEPEST) for i in range(len(corners)) for j in range(i)]
    return [torch.zeros_like(lower), torch.ones_like(lower), *slopes]


# ---------------------------------------------------------------- smooth functions


def _smooth_offset(function: Smooth, slope: Tensor, lower: Tensor, upper: Tensor, side: int) -> Tensor:
    """The least of the bounds over the convex and concave pieces of side * f (ARITHMETIC 6)."""
    facts = accuracy(function)
    unit, _ = _unit(slope)
    least = slope.new_tensor(torch.inf)
    for piece, (start, end, convex) in enumerate(_curved_pieces(function, lower, upper)):
        rule = _tangent_bound if convex == (side > 0) and piece not in function.straight else _end_bound
        least = torch.minimum(least, rule(function, slope, start, end, side))
    if facts.curvature and function.period is None:
        # An inflection that is no float is off by less than 4 units: over that length |f''| is at most as much, times the curvature.
        least = least - ((16 * unit) ** 2 * facts.curvature * (upper - lower)).detach()
    if function.period is not None:
        # The pieces end within a few units of the true inflection points, where |f''| <= curvature * distance.
        largest = torch.maximum(lower.abs(), upper.abs()) + 2 * function.period
        least = least - (8 * unit * facts.curvature * largest * (upper - lower) ** 2).detach()
        floor = function.range[0] if side > 0 else -function.range[1]
        crude = floor - _highest(side * slope * lower, side * slope * upper, unit)
        least = torch.where(_is_wide(function, lower, upper), crude, torch.maximum(least, crude))
    return torch.where(_is_defined(function, lower, upper), least, torch.nan)


def _curved_pieces(function: Smooth, lower: Tensor, upper: Tensor) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """(start, end, f is convex there), covering [lower, upper]; pieces outside it shrink to one of its points.

    A periodic function is cut over two periods from the last multiple of the period before `lower`, enough for every
    interval that is not wide.
    """
    cuts: list[Tensor] = [lower.new_tensor(c) for c in function.inflections]
    if function.period is not None:
        base = torch.floor(lower.detach() / function.period) * function.period
        cuts = [base + (c + turn * function.period) for turn in range(2) for c in function.inflections]
    start, convex = lower, function.convex_first
    for cut in cuts:
        end = torch.minimum(torch.maximum(cut, lower), upper)
        yield start, end, convex
        start, convex = end, not convex
    yield start, upper, convex


def _end_bound(function: Smooth, slope: Tensor, start: Tensor, end: Tensor, side: int) -> Tensor:
    """side * (f - slope x) is concave on [start, end]: its minimum is at an end."""
    return torch.minimum(_gap(function, slope, start, side), _gap(function, slope, end, side))


def _tangent_bound(function: Smooth, slope: Tensor, start: Tensor, end: Tensor, side: int) -> Tensor:
    """g = side * (f - slope x) is convex on [start, end]: g(x) >= g(t) + g'(t)(x - t) for any t in it.

    The last term is about 0 (t is where g' = 0, or an end) and carries no gradient: that of g(t) is already the true one.
    """
    unit, tiny = _unit(slope)
    facts = accuracy(function)
    touch = _touching_point(function, slope, start, end, side)
    with torch.no_grad():
        slope_at = torch_function(function).derivative(touch)
        if function.hinge is not None:
            slope_at = torch.where(touch == 0, slope.clamp(*function.hinge), slope_at)
        steepness = side * (slope_at - slope)
        fall = torch.minimum(steepness * (start - touch), steepness * (end - touch))
        weight = slope_at.abs() + slope.abs() + facts.derivative_floor
        error = (facts.derivative + OWN_ROUNDINGS) * unit * weight * (end - start) + tiny * weight
        fall = torch.where(start == end, torch.zeros_like(fall), fall - error)
        rounding = OWN_ROUNDINGS * unit * fall.abs()
    gap = _gap(function, slope, touch, side)
    return gap + (fall - rounding - OWN_ROUNDINGS * unit * gap.detach().abs())


def _touching_point(function: Smooth, slope: Tensor, start: Tensor, end: Tensor, side: int) -> Tensor:
    """A point of [start, end] near the minimum of the convex side * (f - slope x). It moves with an end that it lies on."""
    form = torch_function(function)
    with torch.no_grad():
        middle = torch.minimum(torch.maximum(start / 2 + end / 2, start), end)
        guess = form.tangent_point(slope, middle)
        guess = torch.minimum(torch.maximum(torch.where(torch.isfinite(guess), guess, middle), start), end)
        guess = torch.where(side * (form.derivative(end) - slope) <= 0, end, guess)
        guess = torch.where(side * (form.derivative(start) - slope) >= 0, start, guess)
        guess = torch.where(torch.isfinite(form.derivative(guess)), guess, middle)
    return torch.where(guess == start, start, torch.where(guess == end, end, guess))


def _gap(function: Smooth, slope: Tensor, x: Tensor, side: int) -> Tensor:
    """At most side * (f(x) - slope x)."""
    (unit, tiny), facts = _unit(slope), accuracy(function)
    y, line = torch_function(function).value(x), slope * x
    error = (facts.value + OWN_ROUNDINGS) * unit * (y.abs() + line.abs() + facts.value_floor) + tiny * (4 + slope.abs())
    return side * (y - line) - error.detach()


def _smooth_interval(function: Smooth, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The extremes are at the ends or at stationary points. A stationary point that is not a float costs curvature d^2."""
    unit, tiny = _unit(lower)
    facts, value = accuracy(function), torch_function(function).value
    points = [lower, upper]
    base = torch.zeros_like(lower)
    if function.period is not None:
        base = torch.floor(lower.detach() / function.period) * function.period
    for turn in range(1 if function.period is None else 2):
        cuts = (base + (c + turn * (function.period or 0.0)) for c in function.stationary)
        points += [torch.minimum(torch.maximum(c, lower), upper) for c in cuts]
    values = [value(x) for x in points]
    low, high = values[0], values[0]
    for y in values[1:]:
        low, high = torch.minimum(low, y), torch.maximum(high, y)
    distance = 8 * unit * (torch.maximum(lower.abs(), upper.abs()) + 2 * (function.period or 0.0)).detach()
    relative = (facts.value + OWN_ROUNDINGS) * unit
    absolute = facts.curvature * distance**2 + relative * facts.value_floor + tiny
    low = low - relative * low.detach().abs() - absolute
    high = high + relative * high.detach().abs() + absolute
    wide = _is_wide(function, lower, upper)
    low = torch.where(wide, function.range[0], low.clamp(min=function.range[0]))
    high = torch.where(wide, function.range[1], high.clamp(max=function.range[1]))
    defined = _is_defined(function, lower, upper)
    return torch.where(defined, low, torch.nan), torch.where(defined, high, torch.nan)


def _is_wide(function: Smooth, lower: Tensor, upper: Tensor) -> Tensor:
    """A periodic function over more than one period."""
    if function.period is None:
        return torch.zeros_like(lower, dtype=torch.bool)
    return upper - lower > function.period


def _is_defined(function: Smooth, lower: Tensor, upper: Tensor) -> Tensor:
    """f exists on all of [lower, upper]. An end of the open domain passes: there f is finite (Sqrt at 0) or shows that it is not."""
    defined = (lower >= function.domain[0]) & (upper <= function.domain[1])
    for pole in function.poles:
        defined = defined & ((upper < pole) | (lower > pole))
    return defined


def _smooth_slope(function: Smooth, lower: Tensor, upper: Tensor, side: int) -> Tensor:
    """See default_slopes. `near_lower`: at the lower end f curves away from the plane, so that a tangent there supports it."""
    form = torch_function(function)
    if len(function.inflections) == 2 and function.period is None:
        return _least_area(function, _gate_slopes(function, lower, upper), lower, upper, side)
    with torch.no_grad():
        near_lower = _is_convex(function, lower, torch.ge) == (side > 0)
        near_upper = _is_convex(function, upper, torch.gt) == (side > 0)
        anchor, far = torch.where(near_upper, lower, upper), torch.where(near_upper, upper, lower)
        touch = _tangent_through(function, anchor, far, lower, upper)
    chord = _chord(lower, form.value(lower), upper, form.value(upper))
    tangent = form.derivative((lower + upper) / 2)
    through = _chord(anchor, form.value(anchor), touch, form.value(touch))
    slope = torch.where(near_lower & near_upper, tangent, torch.where(near_lower | near_upper, through, chord))
    if function.period is not None:
        slope = torch.where(upper - lower > function.period / 2, torch.zeros_like(slope), slope)
    return torch.where(torch.isfinite(slope), slope, torch.zeros_like(slope))


def _gate_slopes(function: Smooth, lower: Tensor, upper: Tensor) -> list[Tensor]:
    """For a function that is concave, convex, concave: the chord, the tangents at the midpoint and in the middle of what is convex, and the lines
    through either end that touch f."""
    form = torch_function(function)
    middle, (first, last) = (lower + upper) / 2, function.inflections
    inner = (torch.minimum(lower.clamp(first, last), upper) + torch.maximum(upper.clamp(first, last), lower)) / 2
    slopes = [_chord(lower, form.value(lower), upper, form.value(upper)), form.derivative(middle), form.derivative(inner)]
    for anchor, far in ((lower, upper), (upper, lower)):
        with torch.no_grad():
            touch = _tangent_through(function, anchor, far, lower, upper)
        slopes.append(_chord(anchor, form.value(anchor), touch, form.value(touch)))
    return [torch.where(torch.isfinite(slope), slope, torch.zeros_like(slope)) for slope in slopes]


def _is_convex(function: Smooth, x: Tensor, passed: Callable[[Tensor, float], Tensor]) -> Tensor:
    """Whether f is convex beside x: right of it with passed = ge, left of it with passed = gt."""
    if function.period is not None:
        x = x - torch.floor(x / function.period) * function.period
    convex = torch.full_like(x, function.convex_first, dtype=torch.bool)
    for inflection in function.inflections:
        convex = convex ^ passed(x, inflection)
    return convex


def _tangent_through(function: Smooth, anchor: Tensor, far: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Where the line from (anchor, f(anchor)) touches f on the side of `far`, or `far` where it would touch beyond it.

    The slope of the chord to t is extremal at the touching point, so `t := where f' equals that slope` converges quadratically.
    """
    form, touch = torch_function(function), far
    at_anchor = form.value(anchor)
    for _ in range(5):
        slope = _chord(anchor, at_anchor, touch, form.value(touch))
        guess = form.tangent_point(slope, far)
        guess = torch.where(torch.isfinite(guess), guess, touch)
        touch = torch.minimum(torch.maximum(guess, lower), upper)
    return touch


# ---------------------------------------------------------------- products and maxima


def product_offset_lower(a: Tensor, b: Tensor, lower_x: Tensor, upper_x: Tensor, lower_y: Tensor, upper_y: Tensor) -> Tensor:
    """o with x y >= a x + b y + o on the box, for any finite a and b: x y - a x - b y is least at a corner."""
    return _product_offset(a, b, lower_x, upper_x, lower_y, upper_y, side=1)


def product_offset_upper(a: Tensor, b: Tensor, lower_x: Tensor, upper_x: Tensor, lower_y: Tensor, upper_y: Tensor) -> Tensor:
    """o with x y <= a x + b y + o on the box, for any finite a and b."""
    return -_product_offset(a, b, lower_x, upper_x, lower_y, upper_y, side=-1)


def mccormick(
    lower_x: Tensor,
    upper_x: Tensor,
    lower_y: Tensor,
    upper_y: Tensor,
    interpolation_lower: Tensor | float = 0.0,
    interpolation_upper: Tensor | float = 0.0,
) -> ProductPlanes:
    """The planes of McCormick (1976) for x y, interpolated: 0 and 1 are the two classical planes of each side."""
    t, s = interpolation_lower, interpolation_upper
    x_lower, y_lower = lower_y + t * (upper_y - lower_y), lower_x + t * (upper_x - lower_x)
    x_upper, y_upper = upper_y + s * (lower_y - upper_y), lower_x + s * (upper_x - lower_x)
    box = (lower_x, upper_x, lower_y, upper_y)
    return ProductPlanes(
        x_lower,
        y_lower,
        product_offset_lower(x_lower, y_lower, *box),
        x_upper,
        y_upper,
        product_offset_upper(x_upper, y_upper, *box),
    )


def max_offset_upper(slopes: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """o with max(x) <= slopes . x + o on the box, for any finite slopes; [..., k] to [...] (ARITHMETIC 3)."""
    unit, tiny = _unit(slopes)
    real = lower > -torch.inf
    low, high = torch.where(real, lower, 0.0), torch.where(real, upper, 0.0)
    spare = torch.maximum(-slopes * low, -slopes * high)
    own = torch.maximum((1 - slopes) * low, (1 - slopes) * high)
    magnitude = ((1 + 2 * slopes.abs()) * torch.maximum(low.abs(), high.abs())).sum(-1)
    gain = torch.where(real, own - spare, -torch.inf).amax(-1)
    error = (2 * slopes.shape[-1] + OWN_ROUNDINGS) * unit * magnitude + tiny * (1 + slopes.shape[-1])
    return spare.sum(-1) + gain + error.detach()


def _product_offset(
    a: Tensor, b: Tensor, lower_x: Tensor, upper_x: Tensor, lower_y: Tensor, upper_y: Tensor, side: int
) -> Tensor:
    unit, tiny = _unit(a)
    corners = [x * y - a * x - b * y for x in (lower_x, upper_x) for y in (lower_y, upper_y)]
    least = side * corners[0]
    for corner in corners[1:]:
        least = torch.minimum(least, side * corner)
    x, y = torch.maximum(lower_x.abs(), upper_x.abs()), torch.maximum(lower_y.abs(), upper_y.abs())
    error = OWN_ROUNDINGS * unit * (x * y + a.abs() * x + b.abs() * y) + 4 * tiny
    return least - error.detach()


# ---------------------------------------------------------------- small helpers


def _unit(like: Tensor) -> tuple[float, float]:
    """(unit of rounding, allowance for underflow, flushed or gradual) of a dtype."""
    info = torch.finfo(like.dtype)
    return info.eps / 2, info.tiny * 4


def _chord(x: Tensor, at_x: Tensor, y: Tensor, at_y: Tensor) -> Tensor:
    """The slope of a line through two points; 0 where they are one."""
    run = y - x
    same = run == 0
    return torch.where(same, torch.zeros_like(run), (at_y - at_x) / torch.where(same, torch.ones_like(run), run))


def _highest(a: Tensor, b: Tensor, unit: float) -> Tensor:
    top = torch.maximum(a, b)
    return top + (4 * unit * (1 + torch.maximum(a.abs(), b.abs()))).detach()


def _poison(value: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """NaN where an end is NaN: the masks of `value` would otherwise hide it."""
    return torch.where(torch.isnan(lower) | torch.isnan(upper), math.nan, value)
