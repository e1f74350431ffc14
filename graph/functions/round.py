"""Rounding half to even, between two integers: what a quantiser does."""

from graph.errors import MalformedGraph
from graph.functions.facts import Stairs

MOST_LEVELS = 1 << 17


def round_within(lower: float, upper: float) -> Stairs:
    """The whole number nearest to x, of two the even one; below `lower` and above `upper` these. Both are whole, and not beyond those of 16 bits."""
    if not (float(lower).is_integer() and float(upper).is_integer() and lower < upper and upper - lower < MOST_LEVELS):
        raise MalformedGraph(f"rounding to the whole numbers from {lower} to {upper}")
    levels = tuple(float(k) for k in range(int(lower), int(upper) + 1))
    even = tuple(k if k % 2 == 0 else k + 1 for k in levels[:-1])
    return Stairs("round", tuple(k + 0.5 for k in levels[:-1]), (0.0,) * len(levels), levels, even)
