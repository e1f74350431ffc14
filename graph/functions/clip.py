"""Clip: the nearest point of [lower, upper]."""

import math

from graph.errors import MalformedGraph
from graph.functions.facts import Pieces


def clip(lower: float, upper: float) -> Pieces:
    """min(max(x, lower), upper); either side may be infinite, but not both."""
    if not lower < upper or (math.isinf(lower) and math.isinf(upper)):
        raise MalformedGraph(f"clip to [{lower}, {upper}] has no pieces")
    if math.isinf(lower):
        return Pieces("clip", (upper,), slopes=(1.0, 0.0), intercepts=(0.0, upper), values=(upper,))
    if math.isinf(upper):
        return Pieces("clip", (lower,), slopes=(0.0, 1.0), intercepts=(lower, 0.0), values=(lower,))
    return Pieces("clip", (lower, upper), slopes=(0.0, 1.0, 0.0), intercepts=(lower, 0.0, upper), values=(lower, upper))
