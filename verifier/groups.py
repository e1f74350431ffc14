"""Cases by input box, padded into arrays, so that any number of cases and boxes is bounded in one batch.

A group is one input box; its *slots* are the cases on that box, its *rows* their distinct atoms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifier.problem import Problem

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Groups:
    """`box` [G]; `case` [G, C] (-1 = no case); `row` [G, R] (functional, -1 = none); `bound` [G, R]; `member` [G, C, R].

    Slot c of group g is closed over a box when some row r with member[g, c, r] is proven > bound[g, r] over it.
    """

    box: Array
    case: Array = field(repr=False)
    row: Array = field(repr=False)
    bound: Array = field(repr=False)
    member: Array = field(repr=False)

    def __len__(self) -> int:
        return int(self.box.size)

    @property
    def slots(self) -> Array:
        """Which slots hold a case, bool [G, C]."""
        return np.asarray(self.case >= 0)


def group_cases(problem: Problem, cases: Array) -> Groups:
    """The given cases of the problem (indices), grouped by box."""
    boxes, inverse = np.unique(problem.case_box[cases], return_inverse=True)
    members: list[list[int]] = [[] for _ in boxes]
    for case, g in zip(cases, inverse, strict=True):
        members[g].append(int(case))
    rows = [_distinct_rows(problem, m) for m in members]
    n_slots, n_rows = max(map(len, members), default=0), max([1, *map(len, rows)])  # a case without atoms has a row of padding
    case = np.full((len(boxes), n_slots), -1, dtype=np.int64)
    row = np.full((len(boxes), n_rows), -1, dtype=np.int64)
    bound = np.full((len(boxes), n_rows), np.inf)
    member = np.zeros((len(boxes), n_slots, n_rows), dtype=bool)
    for g, (cases_here, rows_here) in enumerate(zip(members, rows, strict=True)):
        case[g, : len(cases_here)] = cases_here
        for (functional, threshold), r in rows_here.items():
            row[g, r], bound[g, r] = functional, threshold
        for c, k in enumerate(cases_here):
            for functional, threshold in _atoms(problem, k):
                member[g, c, rows_here[functional, threshold]] = True
    return Groups(boxes, case, row, bound, member)


def _atoms(problem: Problem, case: int) -> list[tuple[int, float]]:
    pairs = zip(problem.case_rows[case], problem.case_bounds[case], strict=True)
    return [(int(row), float(bound)) for row, bound in pairs if row >= 0]


def atom_of_row(problem: Problem, groups: Groups) -> Array:
    """Per group and row [G, R] the place of the row among the atoms of the group's first case; -1 where it is none of them."""
    found = np.full(groups.row.shape, -1, dtype=np.int64)
    for g, k in enumerate(groups.case[:, 0]):
        for a in range(problem.case_rows.shape[1] - 1, -1, -1):
            here = (groups.row[g] == problem.case_rows[k, a]) & (groups.bound[g] == problem.case_bounds[k, a]) & groups.member[g, 0]
            found[g, here] = a
    return found


def _distinct_rows(problem: Problem, cases: list[int]) -> dict[tuple[int, float], int]:
    found: dict[tuple[int, float], int] = {}
    for k in cases:
        for atom in _atoms(problem, k):
            found.setdefault(atom, len(found))
    return found
