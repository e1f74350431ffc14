"""The comparison of relaxations: each method at least as tight as the one before, none above the exact value, reasons where there is none."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import helper

import verifier.relaxations as relaxations
from bounds.convex import SolverFailure
from tests.verifier.small_networks import model, relu_net, text
from verifier.problem import Problem, compile_problem
from verifier.relaxation_picture import picture
from verifier.relaxations import NothingToBound, Table, compare

TOLERANCE = 2e-4  # of the solvers, the first-order one for semidefinite programs included, relative to 1 + |value|
ORDER = ("CROWN", "alpha-CROWN", "LP", "SDP", "exact")  # interval bounds may beat CROWN with its default slopes, but no program
BOX = [("-1.0", "1.0")] * 3


def random_problem(seed: int, unsafe: str = "(<= Y_0 -1.5)") -> Problem:
    rng = np.random.default_rng(seed)
    net = relu_net(rng.normal(size=(3, 7)), rng.normal(size=7) / 2, rng.normal(size=(7, 2)), rng.normal(size=2))
    return compile_problem(net.graph, text(BOX, 2, unsafe))


def bounds_of(table: Table) -> dict[str, float | None]:
    return {row.method: row.bound for row in table.rows}


def through(function: str, **attributes: float) -> onnx.NodeProto:
    return helper.make_node(function, ["z"], ["r"], **attributes)


def deep_problem(function: onnx.NodeProto, seed: int = 0) -> Problem:
    rng = np.random.default_rng(seed)
    nodes = [helper.make_node("Gemm", ["x", "a", "b"], ["z"]), function, helper.make_node("Gemm", ["r", "c", "d"], ["y"])]
    net = model(nodes, 3, 2, a=rng.normal(size=(3, 5)), b=rng.normal(size=5), c=rng.normal(size=(5, 2)), d=rng.normal(size=2))
    return compile_problem(net.graph, text(BOX, 2, "(<= Y_0 Y_1)"))


@pytest.mark.parametrize("seed", range(3))
def test_each_method_is_at_least_as_tight_as_the_one_before(seed: int) -> None:
    table = compare(random_problem(seed), 30.0)
    found = bounds_of(table)
    values = [found[name] for name in ORDER]
    assert all(v is not None for v in values), table
    room = TOLERANCE * (1 + max(abs(v) for v in values if v is not None))
    for below, above in [*itertools.pairwise(values), (found["interval"], found["LP"])]:
        assert below is not None and above is not None and below <= above + room
    exact = found["exact"]
    assert exact is not None and exact <= table.execution + room and table.execution - exact <= 0.2 * (1 + abs(exact))
    assert all(row.bound is not None and row.bound <= table.execution for row in table.rows if row.method != "exact")
    assert [table.gap(row) for row in table.rows][-1] == 0.0


@pytest.mark.parametrize("function", [through("LeakyRelu", alpha=0.25), through("Abs")])
def test_other_straight_pieces_have_all_methods_too(function: onnx.NodeProto) -> None:
    table = compare(deep_problem(function), 30.0)
    found = bounds_of(table)
    line, semidefinite, exact = (found[name] for name in ("LP", "SDP", "exact"))
    assert line is not None and semidefinite is not None and exact is not None
    assert line <= semidefinite + TOLERANCE and semidefinite <= exact + TOLERANCE and exact <= table.execution + TOLERANCE


def test_a_smooth_network_has_no_exact_value_and_says_so() -> None:
    table = compare(deep_problem(through("Sigmoid")), 30.0)
    found = bounds_of(table)
    assert found["exact"] is None and "sigmoid" in table.rows[-1].note.lower()
    line = found["LP"]
    assert line is not None and line <= table.execution
    gap = table.gap(next(row for row in table.rows if row.method == "LP"))
    assert gap == pytest.approx(table.execution - line)


def test_the_hardest_case_and_its_best_atom_are_compared() -> None:
    problem = random_problem(0, "(or (<= Y_0 -50.0) (and (<= Y_0 -2.0) (<= Y_1 -90.0)) (<= Y_0 -2.5))")
    table = compare(problem, 20.0)
    assert (table.case, table.atom, table.text) == (2, 0, "Y[0] <= -2.5")
    other = compare(problem, 20.0, case=1)
    assert (other.case, other.text) == (1, "Y[1] <= -90")
    for case in (-1, 3):
        with pytest.raises(NothingToBound, match="there is no case"):
            compare(problem, 20.0, case=case)


def test_a_solver_that_fails_is_a_row_without_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise SolverFailure("the solver went home")

    monkeypatch.setattr(relaxations, "linear_program", fail)
    rows = {row.method: row for row in compare(random_problem(0), 20.0).rows}
    assert rows["LP"].bound is None and rows["LP"].note == "the solver went home" and rows["SDP"].bound is not None


def test_without_time_the_solvers_have_no_numbers() -> None:
    rows = {row.method: row for row in compare(random_problem(1), 0.0).rows}
    assert rows["CROWN"].bound is not None
    for name in ("LP", "SDP", "exact"):
        assert rows[name].bound is None and rows[name].note, name


def test_json_and_picture_hold_what_the_table_holds() -> None:
    table = compare(random_problem(2), 20.0)
    plain = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert [row["method"] for row in plain["rows"]] == ["interval", "forward linear", "CROWN", "alpha-CROWN", "LP", "SDP", "exact"]
    assert plain["rows"][2]["bound"] == table.rows[2].bound and plain["undecided"] == table.hidden > 0
    holes = replace(table, rows=tuple(replace(row, bound=None, note="no") if row.method in ("LP", "exact") else row for row in table.rows))
    root = ElementTree.fromstring(picture({"a < b": table, "holes": holes}))
    name = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{name}polyline")) == 2 and len(root.findall(f"{name}circle")) == 11
    assert [line.get("stroke-dasharray") for line in root.findall(f"{name}polyline")] == [None, "6 4"]
    assert "a < b" in [element.text for element in root.findall(f"{name}text")]
    with pytest.raises(ValueError, match="no table"):
        picture({})
