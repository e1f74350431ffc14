"""LeakyReLU: x for x >= 0, alpha x below."""

from graph.functions.facts import Pieces


def leaky_relu(alpha: float) -> Pieces:
    """x for x >= 0 and alpha x for x < 0; any finite alpha, also negative or above 1."""
    return Pieces("leaky_relu", breakpoints=(0.0,), slopes=(alpha, 1.0), intercepts=(0.0, 0.0), values=(0.0,))
