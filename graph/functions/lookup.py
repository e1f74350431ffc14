"""A table over the integers: what an integer that depends on the input selects."""

from graph.errors import MalformedGraph
from graph.functions.facts import Pieces


def lookup(first: float, *values: float) -> Pieces:
    """values[k] at the integer first + k, jumping halfway between integers; left of all integers the first value, right of all the last."""
    if not float(first).is_integer() or len(set(values)) < 2:
        raise MalformedGraph(f"a table of {len(values)} values from {first} is not a function with jumps")
    jumps = [k for k in range(1, len(values)) if values[k] != values[k - 1]]
    levels = (values[0], *(values[k] for k in jumps))
    return Pieces(
        "lookup", tuple(first + k - 0.5 for k in jumps), slopes=(0.0,) * len(levels), intercepts=tuple(float(v) for v in levels), values=levels[1:]
    )
