"""The training data: disjoint boxes in [-1, 1]^n, a label each, and in half of them a planted point next to a corner.

All numbers are multiples of 2^-12, so that boxes and points are short decimals and exact in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
GRID = 4096
PULL = 0.05  # how far from the corner a planted point may be, in each input, as a share of the radius


@dataclass(frozen=True, eq=False)
class Boxes:
    """centres [2 K, n], labels [2 K] (0 or 1), radius; planted [K, n] in the first K boxes. float32 values."""

    centres: Array
    labels: Array
    radius: float
    planted: Array


def draw(n: int, count: int, radius: float, seed: int) -> Boxes:
    """`count` boxes with a planted point and as many without. Raises ValueError where the boxes do not fit beside each other."""
    random = np.random.default_rng([seed, 8])
    centres: list[Array] = []
    for _ in range(1000 * count):
        centre = _rounded(random.uniform(-1 + radius, 1 - radius, n))
        if all(np.abs(centre - other).max() > 2 * radius for other in centres):
            centres.append(centre)
        if len(centres) == 2 * count:
            break
    else:
        raise ValueError(f"{2 * count} boxes of radius {radius} do not fit into [-1, 1]^{n}")
    signs = random.integers(0, 2, (count, n)) * 2 - 1
    offset = _rounded(radius * random.uniform(1 - PULL, 1, (count, n)))
    labels = random.permutation(2 * count) % 2
    return Boxes(np.stack(centres).astype(np.float32), labels, radius, (np.stack(centres[:count]) + signs * offset).astype(np.float32))


def _rounded(values: Array) -> Array:
    return np.round(values * GRID) / GRID
