"""What the engine has not computed the checker is asked about, where that is cheap: whatever it says, the answer is right."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from small_networks import onnx_file, vnnlib_file

from graph.load import load
from specs.vnnlib import read
from verifier.options import Options
from verifier.presolve import CHECKED_BOXES, CHECKED_WORK, checker_may_know, work_of_a_pass
from verifier.problem import Problem, compile_problem
from verifier.result import Result
from verifier.watchdog import supervise

SUFFICED = ("default linear bounds sufficed",)


def difference(folder: Path, unsafe: str, boxes: int = 1) -> tuple[str, str]:
    """y = x - relu(x + 2) on [-1, 1]: -2 everywhere, which intervals do not see. `boxes`: so many cases, each on its part of the box."""
    one, two, minus = np.ones((1, 1)), np.full(1, 2.0), -np.ones((1, 1))
    nodes = [
        helper.make_node("Gemm", ["x", "one", "two"], ["h"]), helper.make_node("Relu", ["h"], ["r"]), helper.make_node("Gemm", ["r", "minus"], ["m"]),
        helper.make_node("Add", ["x", "m"], ["y"]),
    ]
    model, prop = folder / "m.onnx", folder / "p.vnnlib"
    model.write_bytes(onnx_file(nodes, 1, 1, one=one, two=two, minus=minus))
    ends = np.linspace(-1, 1, boxes + 1)
    parts = [f"(and (>= X_0 {low:.9f}) (<= X_0 {high:.9f}) {unsafe})" for low, high in pairwise(ends)]
    text = vnnlib_file([("-1.0", "1.0")], 1, unsafe) if boxes == 1 else (
        "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (or " + " ".join(parts) + "))"
    )
    prop.write_text(text)
    return str(model), str(prop)


def problem(files: tuple[str, str]) -> Problem:
    return compile_problem(load(files[0]).graph, read(files[1]))


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_the_checker_decides(tmp_path: Path, semantics: str) -> None:
    kept, said = tmp_path / "kept", list[str]()
    options = Options(*difference(tmp_path, "(>= Y_0 -1.5)"), timeout=60, threads=1, certificate=str(kept), semantics=semantics, verbosity=-1)
    found = supervise(options, said.append)
    assert isinstance(found, Result) and (found.verdict, found.assurance, found.portfolio, said) == ("unsat", "certified", SUFFICED, [])
    assert found.cases.open == 0 and found.cases.closed == found.cases.total == 1 and found.certificate.path == str(kept) and kept.exists()


def test_the_engine_goes_on_where_it_does_not(tmp_path: Path) -> None:
    """-2 is reached everywhere, and probes are not asked."""
    options = Options(*difference(tmp_path, "(>= Y_0 -2.0)"), timeout=60, threads=1, no_attack=True, nodes=50, verbosity=-1)
    found = supervise(options, lambda _: None)
    assert isinstance(found, Result) and found.verdict == "unknown" and found.portfolio != SUFFICED


def test_where_the_engine_is_asked_it_answers(tmp_path: Path) -> None:
    files = difference(tmp_path, "(>= Y_0 -1.5)")
    for other in ({"memory": 4.0}, {"self_check": True}, {"engine": "milp"}, {"engine": "smt"}, {"trust": ("milp",)}):
        assert not Options(*files, **other).conjectures  # type: ignore[arg-type]
    options = Options(*files, timeout=60, threads=1, verbosity=-1, trust=("engine",))
    found = supervise(options, lambda _: None)
    assert isinstance(found, Result) and (found.verdict, found.assurance) == ("unsat", "certified") and found.portfolio != SUFFICED


def test_what_is_too_much_is_not_asked(tmp_path: Path) -> None:
    few, many = problem(difference(tmp_path, "(>= Y_0 -1.5)", CHECKED_BOXES)), problem(difference(tmp_path, "(>= Y_0 -1.5)", CHECKED_BOXES + 1))
    assert checker_may_know(few, np.arange(CHECKED_BOXES)) and not checker_may_know(many, np.arange(CHECKED_BOXES + 1))
    assert checker_may_know(many, np.arange(3))  # cases that are decided already do not count


def test_the_work_of_a_pass_is_counted() -> None:
    """A layer of 40 neurons on 30 inputs, and 20 neurons on it: both feed a Relu."""
    nodes = [
        helper.make_node("Gemm", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"]), helper.make_node("Gemm", ["r", "b"], ["g"]),
        helper.make_node("Relu", ["g"], ["y"]),
    ]
    graph = load(onnx_file(nodes, 30, 20, a=np.ones((30, 40)), b=np.ones((40, 20)))).graph
    assert work_of_a_pass(graph) == 40 * (30 + 40 * 30) + 20 * (30 + 40 * 30 + 20 * 40) < CHECKED_WORK
