"""Absolute value."""

from graph.functions.facts import Pieces


def absolute() -> Pieces:
    """|x|."""
    return Pieces("abs", breakpoints=(0.0,), slopes=(-1.0, 1.0), intercepts=(0.0, 0.0), values=(0.0,))
