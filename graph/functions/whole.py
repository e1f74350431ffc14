"""Floor, Ceil and Round of any number, and casts to integers."""

from collections.abc import Callable

import numpy as np

from graph.functions.facts import Array, Steps

# the largest float32 that an integer type has, near enough; also in the checker
LARGEST_CAST = {"int32": 2.0**31 - 2.0**7, "int64": 2.0**63 - 2.0**39}


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


def cast(kind: str) -> Steps:
    """The largest whole number <= x of x >= 0 that an integer of this type may be: what more than that is cast to, no standard says."""
    return Steps(kind, CASTS[kind], _share, first=0.0, limits=(-1.0, 0.0))


def _cast(largest: float) -> Callable[[Array], Array]:
    def value(x: Array) -> Array:
        return np.asarray(np.where(x <= largest, np.floor(x), np.nan))

    return value


CASTS = {kind: _cast(largest) for kind, largest in LARGEST_CAST.items()}  # one of each, so that functions of one kind are equal
