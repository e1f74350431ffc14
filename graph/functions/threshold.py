"""ThresholdedRelu and Shrink: nothing near 0, a line beyond a threshold."""

from graph.errors import MalformedGraph
from graph.functions.facts import Pieces


def threshold(alpha: float) -> Pieces:
    """x for x > alpha, 0 up to alpha; it jumps there, unless alpha is 0."""
    return Pieces("threshold", breakpoints=(alpha,), slopes=(0.0, 1.0), intercepts=(0.0, 0.0), values=(0.0,))


def shrink(limit: float, bias: float) -> Pieces:
    """x + bias for x < -limit, 0 for |x| <= limit, x - bias for x > limit. Continuous where bias is the limit."""
    if not limit > 0:
        raise MalformedGraph(f"shrink with the limit {limit} has no middle")
    return Pieces("shrink", breakpoints=(-limit, limit), slopes=(1.0, 0.0, 1.0), intercepts=(bias, 0.0, -bias), values=(0.0, 0.0))
