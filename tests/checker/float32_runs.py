"""Executions of affine chains in float32, as different as runtimes may make them, for tests of what the checker allows.

One `Machine` stands for one way of computing: any order and association of sums, fused multiply-add or not, wider accumulation,
flushing of subnormal results and arguments, folding of neighbours. Its numbers are numpy float32 scalars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
F = np.float32
SMALLEST_NORMAL = F(2.0**-126)


@dataclass
class Machine:
    """`r` decides what is not fixed."""

    r: Random
    fma: bool = False
    wide: bool = False
    flush: bool = False

    @classmethod
    def draw(cls, r: Random) -> Machine:
        return cls(r, r.random() < 0.4, r.random() < 0.2, r.random() < 0.4)

    def number(self, x: Any) -> F:
        """`x` rounded to float32 and, perhaps, flushed."""
        with np.errstate(all="ignore"):
            rounded = F(x)
        return F(0) if self.flush and abs(rounded) < SMALLEST_NORMAL else rounded

    def product(self, a: F, b: F) -> F:
        return self.number(float(self.number(a)) * float(self.number(b)))

    def add(self, a: F, b: F) -> F:
        return self.number(float(a) + float(b))

    def total(self, values: Sequence[F]) -> F:
        """A sum in a random order and association."""
        values = [self.number(v) for v in values]
        if self.wide and values:
            return self.number(sum(map(float, values)))
        style = self.r.randrange(3)
        self.r.shuffle(values)
        while len(values) > 1:
            i = 0 if style == 0 else self.r.randrange(len(values) - 1) if style == 1 else len(values) - 2
            values[i : i + 2] = [self.add(values[i], values[i + 1])]
        return values[0] if values else F(0)

    def dot(self, a: Sequence[F], b: Sequence[F], *start: F) -> F:
        """sum a b + start."""
        if self.wide:
            return self.number(sum((float(self.number(x)) * float(self.number(y)) for x, y in zip(a, b, strict=True)), sum(map(float, start))))
        if self.fma:
            pairs = list(zip(a, b, strict=True))
            self.r.shuffle(pairs)
            late = bool(self.r.randrange(2))
            value = F(0) if late or not start else start[0]
            for x, y in pairs:
                value = self.number(float(self.number(x)) * float(self.number(y)) + float(value))
            return self.total([value, *start]) if late else value
        return self.total([*(self.product(x, y) for x, y in zip(a, b, strict=True)), *start])

    def matrix(self, a: Array, b: Array) -> Array:
        """a @ b of float32 matrices: folding."""
        return np.array([[self.dot(list(row), list(column)) for column in b.T] for row in a], F)


@dataclass(frozen=True)
class Step:
    """y = W x + b, of float32 numbers: `style` gemm (W, b), norm (W = diag(s), by mean, var, B), mean (over all), scale, shift."""

    style: str
    weight: Array  # exact real W is this one, for norm and mean only nearly
    bias: Array
    parameters: tuple[Any, ...] = ()

    def run(self, machine: Machine, x: Array) -> Array:
        if self.style == "norm":
            return np.array([self._norm(machine, x[i], i) for i in range(len(x))], F)
        if self.style == "mean":
            total = machine.total(list(x))
            n = F(len(x))
            mean = machine.number(float(total) / float(n)) if machine.r.randrange(2) else machine.product(total, machine.number(1 / float(n)))
            return np.array([mean], F)
        if self.style == "scale":
            return np.array([machine.product(w, v) for w, v in zip(np.diag(self.weight), x, strict=True)], F)
        if self.style == "shift":
            return np.array([machine.add(machine.number(v), machine.number(b)) for v, b in zip(x, self.bias, strict=True)], F)
        return np.array([machine.dot(list(row), list(x), b) for row, b in zip(self.weight, self.bias, strict=True)], F)

    def _scale(self, machine: Machine, i: int) -> F:
        scale, _, _, variance, epsilon = (p[i] for p in self.parameters)
        under = machine.number(np.sqrt(machine.add(variance, epsilon)))
        return machine.number(float(scale) / float(under)) if machine.r.randrange(2) else machine.product(scale, machine.number(1 / float(under)))

    def _norm(self, machine: Machine, x: F, i: int) -> F:
        _, shift, mean, _, _ = (p[i] for p in self.parameters)
        s = self._scale(machine, i)
        if machine.r.randrange(2):
            return machine.dot([x], [s], machine.add(shift, machine.number(-float(machine.product(mean, s)))))
        return machine.dot([machine.add(machine.number(x), machine.number(-float(mean)))], [s], shift)

    def folded(self, machine: Machine) -> tuple[Array, Array]:
        """Weight and bias as constants in float32."""
        if self.style == "norm":
            s = [self._scale(machine, i) for i in range(len(self.bias))]
            _, shift, mean, _, _ = self.parameters
            b = [machine.add(c, machine.number(-float(machine.product(m, w)))) for c, m, w in zip(shift, mean, s, strict=True)]
            return np.diag(np.array(s, F)), np.array(b, F)
        if self.style == "mean":
            return np.full((1, self.weight.shape[1]), machine.number(1 / self.weight.shape[1]), F), np.zeros(1, F)
        return self.weight, self.bias


def run(steps: Sequence[Step], machine: Machine, x: Array) -> list[Array | None]:
    """The values of every step; None where it was folded into its successor."""
    values: list[Array | None] = []
    i = 0
    while i < len(steps):
        if machine.r.random() < 0.5:
            x = steps[i].run(machine, x)
            values.append(x)
            i += 1
            continue
        count = machine.r.randint(1, len(steps) - i)
        pairs = [step.folded(machine) for step in steps[i : i + count]]
        while len(pairs) > 1:
            k = machine.r.randrange(len(pairs) - 1)
            (w1, b1), (w2, b2) = pairs[k : k + 2]
            bias = np.array([machine.dot(list(row), list(b1), b) for row, b in zip(w2, b2, strict=True)], F)
            pairs[k : k + 2] = [(machine.matrix(w2, w1), bias)]
        weight, bias = pairs[0]
        x = np.array([machine.dot(list(row), list(x), b) for row, b in zip(weight, bias, strict=True)], F)
        values += [None] * (count - 1) + [x]
        i += count
    return values
