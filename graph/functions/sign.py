"""Sign: -1 below 0, 0 at 0, 1 above."""

from graph.functions.facts import Pieces


def sign() -> Pieces:
    """-1, 0 or 1. It jumps at 0, where its value is neither of the limits."""
    return Pieces("sign", breakpoints=(0.0,), slopes=(0.0, 0.0), intercepts=(-1.0, 1.0), values=(0.0,))
