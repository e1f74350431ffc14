"""Floor, Ceil and Round of any number."""

import numpy as np

from graph.functions.facts import Array, Steps


def _share(x: Array) -> Array:
    return np.asarray(x - np.floor(x))


def floor() -> Steps:
    """The largest whole number <= x."""
    return Steps("floor", np.floor, _share, first=0.0, limits=(-1.0, 0.0))


def ceil() -> Steps:
    """The least whole number >= x."""
    return Steps("ceil", np.ceil, _share, first=0.0, limits=(0.0, 1.0))


def nearest() -> Steps:
    """The nearest whole number, of two the even one."""
    return Steps("nearest", np.rint, _share, first=0.5, limits=(-0.5, 0.5))
