"""What an elementwise function states about itself. Facts only: no run state, no torch, no solver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Pieces:
    """A piecewise-linear function: f(x) = slopes[i] x + intercepts[i] between breakpoints[i-1] and breakpoints[i].

    `values[i]` is f at breakpoints[i]; it matters where f jumps (Sign, Heaviside).
    """

    name: str
    breakpoints: tuple[float, ...]
    slopes: tuple[float, ...]
    intercepts: tuple[float, ...]
    values: tuple[float, ...]

    def jumps(self) -> tuple[tuple[float, float], ...]:
        """(breakpoint, height) where f jumps: how far the value and both limits there are from each other, beyond the rounding of the facts."""
        found = []
        for i, (b, v) in enumerate(zip(self.breakpoints, self.values, strict=True)):
            reached = [v, *(self.slopes[k] * b + self.intercepts[k] for k in (i, i + 1))]
            if max(reached) - min(reached) > 2.0**-20 * (abs(b) + abs(v) + 1):
                found.append((b, max(reached) - min(reached)))
        return tuple(found)

    def value(self, x: Array) -> Array:
        """f(x), in the dtype of x."""
        piece = np.searchsorted(np.asarray(self.breakpoints), x, side="right")
        y = np.asarray(self.slopes, dtype=x.dtype)[piece] * x + np.asarray(self.intercepts, dtype=x.dtype)[piece]
        for at, v in zip(self.breakpoints, self.values, strict=True):
            y = np.where(x == at, np.asarray(v, dtype=x.dtype), y)
        return np.where(np.isnan(x), x, y)


@dataclass(frozen=True)
class Stairs(Pieces):
    """Pieces that are the whole numbers from intercepts[0] to intercepts[-1], jumping halfway between them, where the value is the even one.

    The same facts, with rules that do not go through hundreds of pieces one by one.
    """

    def jumps(self) -> tuple[tuple[float, float], ...]:
        return tuple((b, 1.0) for b in self.breakpoints)

    def value(self, x: Array) -> Array:
        """f(x), in the dtype of x."""
        return np.asarray(np.clip(np.rint(x), x.dtype.type(self.intercepts[0]), x.dtype.type(self.intercepts[-1])))


@dataclass(frozen=True)
class Smooth:
    """A differentiable function on an open interval `domain`.

    `inflections`: where convexity changes; `convex_first` says whether f is convex to the left of the first one.
    `range` holds also once its ends are rounded to float32. `stationary`: where f' = 0. With `period` p, both lists are those of one period [0, p).
    `poles`: points inside `domain` where f does not exist (Reciprocal at 0); an interval that contains one has no bounds.
    `straight`: the pieces between inflections, counted from the left, on which f is a line. Where f is not differentiable at an
    inflection, `derivative` there is that of the curved piece beside it; `hinge`: (p, q) where f has a convex kink at 0, its slope
    rising from p to q, both floats of every precision that is used.
    `value(x)` and `derivative(x)` work in the dtype of x.
    """

    name: str
    value: Callable[[Array], Array] = field(compare=False)
    derivative: Callable[[Array], Array] = field(compare=False)
    inflections: tuple[float, ...] = ()
    convex_first: bool = True
    stationary: tuple[float, ...] = ()
    period: float | None = None
    domain: tuple[float, float] = (-np.inf, np.inf)
    range: tuple[float, float] = (-np.inf, np.inf)
    parameter: float | None = None
    poles: tuple[float, ...] = ()
    straight: tuple[int, ...] = ()
    hinge: tuple[float, float] | None = None


@dataclass(frozen=True)
class Steps(Smooth):
    """A whole number near x, flat but where it jumps by 1: at every whole number + `first`, from x + limits[0] there to x + limits[1].

    Among the smooth functions, because there is no end to its pieces; its `derivative` is no derivative, but any number from 0 to 1.
    """

    first: float = 0.0
    limits: tuple[float, float] = (0.0, 0.0)


Function = Pieces | Smooth


def jumps(function: Function) -> bool:
    """Whether f jumps anywhere."""
    return isinstance(function, Steps) or (isinstance(function, Pieces) and bool(function.jumps()))
