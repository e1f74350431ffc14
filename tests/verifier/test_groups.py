"""Grouping keeps every case and every atom: brute force over the arrays before and after."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_problem import NET, properties

from specs.vnnlib import parse
from tests.effort import examples
from verifier.groups import group_cases
from verifier.problem import compile_problem


@settings(max_examples=examples(150))
@given(properties(), st.data())
def test_every_case_is_in_one_slot_with_its_own_atoms(prop, data: st.DataObject) -> None:  # type: ignore[no-untyped-def]
    problem = compile_problem(NET.graph, prop)
    total = len(problem.case_box)
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, max(total - 1, 0)), max_size=total))) if total else [], dtype=np.int64)
    groups = group_cases(problem, chosen)
    assert sorted(groups.case[groups.slots].tolist()) == chosen.tolist()
    for g, c in zip(*np.nonzero(groups.slots), strict=True):
        case = groups.case[g, c]
        assert groups.box[g] == problem.case_box[case]
        mine = groups.member[g, c]
        found = set(zip(groups.row[g, mine].tolist(), groups.bound[g, mine].tolist(), strict=True))
        used = problem.case_rows[case] >= 0
        assert found == set(zip(problem.case_rows[case][used].tolist(), problem.case_bounds[case][used].tolist(), strict=True))
    assert not groups.member[~groups.slots].any()  # nothing can close what is not there
    assert not groups.member[np.broadcast_to((groups.row < 0)[:, None, :], groups.member.shape)].any()


def test_no_cases() -> None:
    text = "(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)"
    text += "(assert (>= X_0 0)) (assert (<= X_0 1)) (assert (>= X_1 0)) (assert (<= X_1 1)) (assert (<= Y_0 0))"
    problem = compile_problem(NET.graph, parse(text, "test"))
    assert len(group_cases(problem, np.zeros(0, dtype=np.int64))) == 0
