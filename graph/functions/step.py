"""The step of a strict comparison: 0 up to 0, 1 above."""

from graph.functions.facts import Pieces


def step() -> Pieces:
    """1 where x > 0, else 0."""
    return Pieces("step", breakpoints=(0.0,), slopes=(0.0, 0.0), intercepts=(0.0, 1.0), values=(0.0,))
