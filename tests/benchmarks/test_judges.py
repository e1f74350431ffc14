"""The judges of the batch runner: their reading of VNN-LIB, their runs, and the attack that confronts `unsat`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from benchmarks import formula, replay
from benchmarks.confront import Target, choose_target, confront, margin
from benchmarks.formula import FormulaError, nearest_float32
from benchmarks.instances import read_instances
from benchmarks.runtime import BatchedRuntime, Runtime, RuntimeUnusable, fastest
from tests.effort import examples

ROOT = Path(__file__).resolve().parents[2]
DECLARED = [f"X_{i}" for i in range(2)] + [f"Y_{i}" for i in range(2)]


@given(st.fractions(min_value=-4, max_value=4), st.sampled_from([Fraction(0), Fraction(1, 2**60), -Fraction(1, 2**60)]), st.floats(-4, 4, width=32))
def test_nearest_float32_is_nearest_with_ties_to_even(value: Fraction, nudge: Fraction, float32: float) -> None:
    middle = (Fraction(float32) + Fraction(float(np.nextafter(np.float32(float32), np.float32(9))))) / 2
    for exact in (value, middle + nudge):
        found = nearest_float32(exact)
        for neighbour in (np.nextafter(found, np.float32(-np.inf)), np.nextafter(found, np.float32(np.inf))):
            ours, theirs = abs(Fraction(float(found)) - exact), abs(Fraction(float(neighbour)) - exact)
            assert ours < theirs or (ours == theirs and int(found.view(np.uint32)) % 2 == 0)


def test_nearest_float32_does_not_round_twice() -> None:
    assert nearest_float32(1 + Fraction(1, 2**24) + Fraction(1, 2**60)) == np.float32(1) + np.float32(2**-23)
    with pytest.raises(FormulaError, match="does not fit"):
        nearest_float32(Fraction(10) ** 39)


@pytest.mark.parametrize("text", ["5" * 5000, "-0." + "5" * 5000, "1e9999"])
def test_numbers_beyond_what_python_reads_are_our_error(text: str) -> None:
    with pytest.raises(FormulaError, match="a number"):
        formula.number(text)
    with pytest.raises(replay.WitnessError, match="a number"):
        replay.read_witness(f"sat\n((X_0 {text}))")
    with pytest.raises(replay.WitnessError, match="exactly once"):
        replay.read_witness(f"sat\n((X_{text.strip('-.e')} 0.5))" if text.isdigit() else "sat\n((X_00000000000 0.5))")
    with pytest.raises(replay.WitnessError, match="no line"):
        replay.read_inputs(f"sat\nX float32 [1, {'5' * 5000}]\n0.5\n", [("X", (1, 1), True)])


number = st.decimals(-3, 3, places=2).map(lambda d: f"{d:f}")
variable = st.sampled_from(DECLARED)


def _product(pair: tuple[str, str]) -> str:
    return f"(* {pair[0]} {pair[1]})"


def _applied(*heads: str) -> Callable[[st.SearchStrategy[str]], st.SearchStrategy[str]]:
    """(HEAD part part part) for one of the heads and one to three parts."""
    return lambda parts: st.builds(lambda head, some: f"({head} {' '.join(some)})", st.sampled_from(heads), st.lists(parts, min_size=1, max_size=3))


leaf = st.one_of(number, variable, st.tuples(number, variable).map(_product), st.tuples(variable, number).map(_product))
term = st.recursive(leaf, _applied("+", "-"), max_leaves=4)
atom = st.tuples(st.sampled_from(["<=", ">=", "<", ">", "="]), term, term).map(lambda t: f"({' '.join(t)})")
formulas = st.recursive(atom, _applied("and", "or"), max_leaves=8)
grid = st.sampled_from([-2.0, -1.5, -1.0, -0.25, 0.0, 0.5, 1.0, 1.25, 2.0])


def _text(asserts: list[str]) -> str:
    return "".join(f"(declare-const {v} Real)\n" for v in DECLARED) + "".join(f"(assert {a}) ; why\n" for a in asserts)


def _z3_says(text: str, values: dict[str, float]) -> bool:
    """The same text, in z3's reading: an independent parser and exact arithmetic."""
    body = re.sub(r"-(\d[\d.]*)", r"(- \1)", text)
    numerals = [(z3.Real(name), z3.RealVal(Fraction(value))) for name, value in values.items()]
    return all(z3.is_true(z3.simplify(z3.substitute(a, *numerals))) for a in z3.parse_smt2_string(body))


@settings(max_examples=examples(150))
@given(st.lists(formulas, min_size=1, max_size=3), st.lists(grid, min_size=4, max_size=4))
def test_formulas_agree_with_z3(asserts: list[str], point: list[float]) -> None:
    text = _text(asserts)
    violation, values = formula.parse(text), np.array(point)
    holds = violation.holds(values[:2], values[2:], exact_box=True)
    assert holds == _z3_says(text, dict(zip(DECLARED, point, strict=True)))
    failing = 0 if violation.holds(values[:2], values[2:]) else violation.first_failing(values[:2], values[2:])
    assert bool(failing) != violation.holds(values[:2], values[2:])
    score = margin(violation.formula, values[None, :2], values[None, 2:])[0]
    assert score <= 1e-9 if holds else score >= -1e-9


PIECES = ["(", ")", "assert", "and", "or", "<=", "==", "X_0", "Y_1", "1e5", "-", "*", "(declare-const X_0 Real)"]


@given(st.text(alphabet="()<>=+-*; XY_019.e\nandorassert", max_size=80) | st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join))
def test_no_text_gives_anything_but_our_error(text: str) -> None:
    try:
        formula.parse(text)
    except FormulaError:
        pass
    else:
        assert "assert" in text


@pytest.mark.parametrize(("text", "message"), [
    ("(assert (<= X_0 1))", "X_0 is not declared"), ("(declare-const X_1 Real)(assert (<= X_1 1))", "declared without gaps"),
    (_text(["(<= (* X_0 Y_0) 1)"]), "not linear"), (_text(["(<= X_0 Y_7)"]), "Y_7 is not declared"), (_text(["(<= X_0 1"]), "parenthes"),
    (_text(["(<= X_0 1))"]), "parenthes"), (_text(["(<= X_0 nan)"]), "neither a number"), (_text(["(=> X_0 1)"]), "unknown formula"),
    ("(check-sat)", "unknown command"), ("(" * 10**5, "nested deeper")])
def test_what_it_does_not_know_is_an_error(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        formula.parse(text)


def test_the_box_is_rounded_and_the_outputs_are_not() -> None:
    violation = formula.parse("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (<= X_0 0.1))(assert (>= X_0 -1e-1))(assert (<= Y_0 0.1))")
    tenth = np.array([np.float32(0.1)])  # a little more than 0.1
    assert violation.holds(tenth, np.zeros(1)) and violation.holds(-tenth, np.zeros(1))
    assert not violation.holds(tenth, np.zeros(1), exact_box=True)
    assert not violation.holds(tenth, tenth)
    assert not violation.holds(np.nextafter(tenth, np.float32(1)), np.zeros(1))
    assert not violation.holds(np.array([np.nan]), np.zeros(1)) and not violation.holds(np.zeros(1), np.array([-np.inf]))
    with pytest.raises(FormulaError, match="1 inputs and 1 outputs"):
        violation.holds(np.zeros(2), np.zeros(1))


def test_the_attack_draws_boxes_from_the_disjunction() -> None:
    choice = "(or (and (<= X_0 0) (>= X_0 -1) (>= Y_0 1)) (and (== X_0 3) (<= Y_0 Y_1)))"
    violation = formula.parse(_text([choice, "(<= X_1 1)", "(>= 1 (* -2 X_1))"]))
    targets = [choose_target(violation, np.random.default_rng(seed)) for seed in range(20)]
    assert all(isinstance(t, Target) for t in targets)
    assert {(tuple(t.lower), tuple(t.upper)) for t in targets if t} == {((-1.0, -0.5), (0.0, 1.0)), ((3.0, -0.5), (3.0, 1.0))}
    empty = formula.parse(_text(["(<= X_0 0)", "(>= X_0 1)", "(<= X_1 1)", "(>= X_1 0)"]))
    assert choose_target(empty, np.random.default_rng(0)) is None
    with pytest.raises(FormulaError, match="no lower or no upper bound"):
        choose_target(formula.parse(_text(["(<= X_0 0)"])), np.random.default_rng(0))


def _save(path: Path, nodes: list[onnx.NodeProto], shape: list[int], weights: list[onnx.TensorProto], out: list[int],
          element: int = TensorProto.FLOAT) -> Path:
    x, y = helper.make_tensor_value_info("x", element, shape), helper.make_tensor_value_info("y", element, out)
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def _dense(path: Path, rng: np.random.Generator, size: int, element: int = TensorProto.FLOAT) -> Path:
    w = rng.normal(size=(size, 3)).astype(helper.tensor_dtype_to_np_dtype(element))
    weight = helper.make_tensor("w", element, w.shape, w.ravel())
    return _save(path, [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])], [1, size], [weight], [1, 3], element)


@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.DOUBLE])
def test_a_batch_gives_the_rows_of_the_file(tmp_path: Path, element: int) -> None:
    path = _dense(tmp_path / "m.onnx", np.random.default_rng(0), 5, element)
    x = np.random.default_rng(1).normal(size=(7, 5)).astype(np.float32)
    runtime = fastest(path)
    assert isinstance(runtime, BatchedRuntime)
    np.testing.assert_allclose(runtime.run_batch(x), Runtime(path).run_batch(x), rtol=1e-5)


def test_rows_that_influence_each_other_are_run_one_by_one(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0]), helper.make_node("Sub", ["x", "m"], ["y"])]
    path = _save(tmp_path / "m.onnx", nodes, [1, 3], [], [1, 3])
    runtime = fastest(path)
    assert type(runtime) is Runtime
    assert (runtime.run_batch(np.ones((4, 3), np.float32)) == 0).all()


def test_integer_inputs_and_wrong_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnusable, match="not floating point"):
        Runtime(_save(tmp_path / "i.onnx", [helper.make_node("Identity", ["x"], ["y"])], [1, 2], [], [1, 2], TensorProto.INT64))
    with pytest.raises(RuntimeUnusable, match="3 inputs, 2 values"):
        Runtime(_dense(tmp_path / "m.onnx", np.random.default_rng(0), 3)).run(np.zeros(2, np.float32))


@pytest.mark.parametrize("size", [3, 60])
def test_the_attack_comes_close_to_the_true_maximum(tmp_path: Path, size: int) -> None:
    """Random dense nets: the largest of output 0 over the box is known (the corner of the weights' signs), and nearly reached."""
    path = _dense(tmp_path / "m.onnx", np.random.default_rng(size), size)
    w = onnx.numpy_helper.to_array(onnx.load(str(path)).graph.initializer[0]).astype(np.float64)[:, 0]
    largest = np.abs(w).sum()
    box = "".join(f"(declare-const X_{i} Real)(assert (<= X_{i} 1))(assert (>= X_{i} -1))" for i in range(size))
    outputs = "".join(f"(declare-const Y_{i} Real)" for i in range(3))
    for threshold, found in ((0.98 * largest, True), (1.001 * largest, False)):
        prop = tmp_path / "p.vnnlib"
        prop.write_text(f"{box}{outputs}(assert (>= Y_0 {threshold:.6f}))")
        search = confront(path, prop, seconds=5.0 if found else 0.3)
        assert (search.witness is not None) == found and search.runs >= 64
        if search.witness is not None:
            results = "sat\n(" + "\n".join(f"(X_{i} {float(v)!r})" for i, v in enumerate(search.witness)) + ")\n"
            assert replay.judge(path, prop, results).violated


def test_files_may_have_equals_signs_in_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """tllverifybench has property_N=8_0.vnnlib; NAME=MODEL is meant only where no such file is there."""
    model, prop, results = tmp_path / "n=2_N=M=8.onnx", tmp_path / "p_N=8.vnnlib", tmp_path / "w_N=8.vnnlib.txt"
    _dense(model, np.random.default_rng(0), 1)
    prop.write_text("(declare-const X_0 Real)" + "".join(f"(declare-const Y_{i} Real)" for i in range(3)) + "(assert (>= X_0 0))(assert (<= X_0 1))")
    y = Runtime(model).run(np.array([0.5], np.float32))
    results.write_text("sat\n((X_0 0.5)\n" + "\n".join(f"(Y_{i} {float(v)!r})" for i, v in enumerate(y)) + ")\n")
    assert replay.main([str(model), str(prop), str(results)]) == 0
    assert "VIOLATED" in capsys.readouterr().out


@pytest.mark.vnncomp
@pytest.mark.parametrize("category", ["reach_prob_density", "cora", "tllverifybench", "safenlp", "cgan", "collins_rul_cnn"])
def test_real_counterexamples_are_found_and_both_judges_agree(vnncomp_dir: Path, tmp_path: Path, category: str) -> None:
    network, prop = next(i for i in read_instances(vnncomp_dir) if i.category == category and i.label == "sat").files()
    search = confront(network, prop, seconds=20)
    assert search.witness is not None
    moved = search.witness.copy()
    moved[0] += 100
    for name, x, expected in (("witness", search.witness, 0), ("outside", moved, 1)):
        results = tmp_path / name
        results.write_text("sat\n(" + "\n".join(f"(X_{i} {float(v)!r})" for i, v in enumerate(x)) + ")\n")
        judges = [["-m", "benchmarks.replay"]]
        if (outside := vnncomp_dir.parent / "tools" / "replay.py").exists():
            judges.append([str(outside)])
        for judge in judges:
            done = subprocess.run([sys.executable, *judge, str(network), str(prop), str(results)], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == expected, (judge, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.vnncomp
def test_the_attack_is_worth_confronting_with(vnncomp_dir: Path) -> None:
    """Of the 82 real instances known or said to be sat it found 81 within 5 s each (2 cores, 2026-11); fewer than 78 is a defect."""
    instances = [i for i in read_instances(vnncomp_dir) if i.label in ("sat", "sat?")]
    missed = [i.name for i in instances if confront(*i.files(), seconds=5).witness is None]
    assert len(missed) <= len(instances) - 78, missed
