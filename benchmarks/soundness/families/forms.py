"""A score and a threshold as a file and a property; shared by families that know the largest score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx

from benchmarks.soundness import rational
from benchmarks.soundness.instance import Array, Planted
from benchmarks.soundness.net import Net
from benchmarks.soundness.property import Atom, Property, decimal, vnnlib1, vnnlib2
from benchmarks.soundness.traps import executed

FORMS = 4


@dataclass(frozen=True, eq=False)
class Question:
    """A file, with its property and the texts of it."""

    model: onnx.ModelProto
    property: Property
    shape: tuple[int, ...]

    @property
    def texts(self) -> tuple[str, str]:
        """VNN-LIB 1.0 and 2.0."""
        return vnnlib1(self.property), vnnlib2(self.property, self.shape, (1, len(self.property.cases[0][0].coefficients)))

    def margin(self, point: Array) -> Fraction:
        """The exact violation margin there; its lower end where smooth functions are involved."""
        return rational.margin(self.property, rational.enclose(self.model, exactly(point)))[0]

    def plant(self, point: Array) -> Planted:
        """The point with both its margins."""
        run = [Fraction(v) for v in executed(self.model, tuple(exactly(point)))]
        return Planted(np.asarray(point, dtype=np.float32), self.margin(point), float(self.property.margin(run)))


def exactly(point: Array) -> list[Fraction]:
    """The numbers of an array, flat."""
    return [Fraction(float(v)) for v in np.asarray(point).reshape(-1)]


def question(
    net: Net, score: str, shape: tuple[int, ...], threshold: float, form: int, lower: Sequence[float] | Array, upper: Sequence[float] | Array
) -> Question:  # fmt: skip
    """Does `score` [1, 1] reach the threshold? form 0: Y_0 >= t; 1: Y_0 = -score <= -t; 2: Y_0 >= Y_1 with Y_1 = t; 3: Y_0 >= t, or what is
    out of reach."""
    t, outputs = decimal(threshold), 1
    cases: tuple[tuple[Atom, ...], ...] = ((Atom((decimal(-1.0),), t.copy_negate()),),)
    if form == 1:
        score, cases = net.node("Neg", score), ((Atom((decimal(1.0),), t.copy_negate()),),)
    elif form == 2:
        score, outputs = net.node("Concat", score, net.constant([[threshold]]), axis=1), 2
        cases = ((Atom((decimal(-1.0), decimal(1.0)), decimal(0.0)),),)
    elif form == 3:
        cases = ((Atom((decimal(-1.0),), decimal(-4.0 * abs(threshold) - 4096.0)),), *cases)
    low, high = (tuple(decimal(float(v)) for v in side) for side in (lower, upper))
    return Question(net.model(score, shape, outputs), Property(low, high, cases), shape)
