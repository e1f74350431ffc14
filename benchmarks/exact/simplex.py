"""Linear programs in exact arithmetic: a dictionary simplex on integers with Bland's rule, so that it neither rounds nor cycles.

Pivots keep all entries integers over one common denominator (Edmonds 1967); every division below is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import lcm

Row = tuple[int, ...]  # (a_1, ..., a_n, b): a y <= b


class UnboundedProgram(ValueError):
    """The objective has no largest value; who asks here bounds every variable."""


@dataclass(frozen=True)
class Optimum:
    """The largest value of the objective, and a point [n] that has it: numbers over one denominator > 0."""

    value: Fraction
    point: tuple[int, ...]
    denominator: int


def maximise(objective: Sequence[int], rows: Sequence[Row]) -> Optimum | None:
    """The optimum of objective * y over y >= 0 with a y <= b for all `rows`; None if no such y exists. Raises UnboundedProgram."""
    program = _Dictionary([list(row) for row in rows], [*(-c for c in objective), 0], len(objective))
    if not program.make_feasible():
        return None
    program.climb(program.cost)
    return Optimum(Fraction(program.cost[-1], program.denominator), program.point(len(objective)), program.denominator)


def integers(row: Sequence[Fraction]) -> Row:
    """A positive multiple of a row of rationals."""
    scale = lcm(*(c.denominator for c in row))
    return tuple(c.numerator * (scale // c.denominator) for c in row)


class _Dictionary:
    """basic_i = (b_i - sum_j a_ij nonbasic_j) / denominator, where table[i] = [*a_i, b_i]; the objective is a row like the others.

    Variables 0..n-1 are those of the program, n..n+m-1 the slacks, n+m the helper of the first phase.
    """

    def __init__(self, table: list[list[int]], cost: list[int], n: int) -> None:
        self.table, self.cost, self.denominator = table, cost, 1
        self.nonbasic = list(range(n))
        self.basic = list(range(n, n + len(table)))
        self.helper = n + len(table)

    def make_feasible(self) -> bool:
        """Reach a dictionary without negative b; False if there is none. Phase one: minimise how far all constraints are relaxed."""
        worst = min(range(len(self.table)), key=lambda i: self.table[i][-1], default=None)
        if worst is None or self.table[worst][-1] >= 0:
            return True
        for row in self.table:
            row.insert(-1, -1)
        self.cost.insert(-1, 0)
        self.nonbasic.append(self.helper)
        relaxed = [0] * len(self.nonbasic) + [0]
        relaxed[-2] = 1  # maximise -helper
        self._pivot(worst, len(self.nonbasic) - 1, relaxed)
        self.climb(relaxed)
        if relaxed[-1] != 0:
            return False
        if self.helper in self.basic:
            row = self.basic.index(self.helper)
            self._pivot(row, next(j for j, a in enumerate(self.table[row][:-1]) if a))
        place = self.nonbasic.index(self.helper)
        del self.nonbasic[place]
        for row_of in (*self.table, self.cost):
            del row_of[place]
        return True

    def climb(self, objective: list[int]) -> None:
        """Pivot until no nonbasic variable raises `objective`: the smallest variable enters, of the tightest rows the smallest leaves."""
        while True:
            rising = [j for j in range(len(self.nonbasic)) if objective[j] < 0]
            if not rising:
                return
            column = min(rising, key=lambda j: self.nonbasic[j])
            leaving = None
            for i, row in enumerate(self.table):
                if row[column] > 0:
                    gap = 0 if leaving is None else row[-1] * self.table[leaving][column] - self.table[leaving][-1] * row[column]
                    if leaving is None or gap < 0 or (gap == 0 and self.basic[i] < self.basic[leaving]):
                        leaving = i
            if leaving is None:
                raise UnboundedProgram("the program is unbounded")
            self._pivot(leaving, column, None if objective is self.cost else objective)

    def _pivot(self, r: int, s: int, other: list[int] | None = None) -> None:
        """Exchange basic variable r and nonbasic variable s in the table, the cost, and an `other` objective."""
        pivot_row, before = self.table[r], self.denominator
        p = pivot_row[s]
        sign = 1 if p > 0 else -1
        if sign < 0:  # the denominator stays positive
            p, pivot_row[:] = -p, [-a for a in pivot_row]
        for row in (*self.table, self.cost, *(() if other is None else (other,))):
            if row is not pivot_row:
                if factor := row[s]:
                    row[:] = [(a * p - factor * b) // before for a, b in zip(row, pivot_row, strict=True)]
                    row[s] = -sign * factor
                else:
                    row[:] = [a * p // before for a in row]
        pivot_row[s] = sign * before
        self.denominator = p
        self.basic[r], self.nonbasic[s] = self.nonbasic[s], self.basic[r]

    def point(self, n: int) -> tuple[int, ...]:
        """The values of the first n variables, where all nonbasic ones are 0, over the denominator."""
        values = {variable: row[-1] for variable, row in zip(self.basic, self.table, strict=True)}
        return tuple(values.get(j, 0) for j in range(n))
