"""ReLU: max(x, 0)."""

from graph.functions.facts import Pieces


def relu() -> Pieces:
    """max(x, 0)."""
    return Pieces("relu", breakpoints=(0.0,), slopes=(0.0, 1.0), intercepts=(0.0, 0.0), values=(0.0,))
