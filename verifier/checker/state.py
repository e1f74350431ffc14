"""What the rules of bounds.py and forward.py read and write: states of a batch of boxes, planes, linear forms."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np

from verifier.checker.arithmetic import Array


@dataclass
class Planes:
    """slope_lower x + offset_lower <= f(x) <= slope_upper x + offset_upper [B, 1 or R, size]; `charge` what |D| pays, if shared by all rows."""

    slope_lower: Array
    slope_upper: Array
    offset_lower: Array
    offset_upper: Array
    charge: Array | None


@dataclass
class State:
    """Bounds of every node over B boxes, lower[i] and upper[i] [B, size]; `slack[i]` what float32 may add to it (None: nothing).

    `charge[i]` [B, size]: what one unit of |D| at node i costs in rounding (the vector v of ARITHMETIC 5, radii and slack
    included). `crossed` [B]: some rigorous lower bound exceeds its upper bound, so the splits on the path contradict each other;
    `where[i]` [B, size] says at which elements.
    """

    crossed: Array
    lower: list[Array] = field(default_factory=list)
    upper: list[Array] = field(default_factory=list)
    slack: list[Array | None] = field(default_factory=list)
    charge: dict[int, Array] = field(default_factory=dict)
    planes: dict[int, Planes] = field(default_factory=dict)
    sums: dict[int, Array] = field(default_factory=dict)
    where: dict[int, Array] = field(default_factory=dict)

    def copy(self) -> State:
        """One with lists and dictionaries of its own. Nothing writes to the arrays in them."""
        return State(*(copy.copy(part) for part in vars(self).values()))

    def largest(self, i: int) -> Array:
        """H of node i."""
        return np.maximum(np.abs(self.lower[i]), np.abs(self.upper[i]))

    def total(self, i: int) -> Array:
        """The sum of H over node i [B, 1], kept: a later, tighter state only makes it smaller."""
        if i not in self.sums:
            self.sums[i] = self.largest(i).sum(-1, keepdims=True)
        return self.sums[i]


@dataclass(frozen=True)
class Forms:
    """functional >= coefficients . x + constant for every execution in scope, R functionals over B boxes: [B, R, n_in], [B, R]."""

    coefficients: Array
    constant: Array

    def select(self, keep: Array) -> Forms:
        """Those of the boxes `keep`."""
        return Forms(self.coefficients[keep], self.constant[keep])
