"""The second line behind a `sat`: what is printed is judged again, by a program that shares nothing with the engine but the files."""

from __future__ import annotations

import gzip
import json
import math
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.effort import examples
from tests.specs import queries
from verifier.confirm import judge_command
from verifier.judge import Point, Refuted, assignment, competition, judge, nearest_float32, violates
from verifier.options import Options
from verifier.result import Result
from verifier.watchdog import supervise

HEAD = "(declare-const X_0 Real)\n(declare-const X_1 Real)\n(declare-const Y_0 Real)\n(assert (>= X_1 -1))\n(assert (<= X_1 1))\n"
BOX = HEAD + "(assert (>= X_0 0.1))\n(assert (<= X_0 0.9))\n"
TENTH = float(np.float32(0.1))  # above the decimal 0.1
NINE_TENTHS = float(np.float32(0.9))  # below the decimal 0.9


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x0 - 2 x1."""
    weights = numpy_helper.from_array(np.array([[1.0], [-2.0]], np.float32), "w")
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in (("x", 2), ("y", 1))]
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
    path = tmp_path_factory.mktemp("judge") / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def printed(x: tuple[float, ...], y: float) -> tuple[str, str]:
    """Standard output and results file."""
    stdout = "sat\nX float32 [1,2]\n" + "".join(f"{v!r}\n" for v in x) + f"Y float32 [1,1]\n{y!r}\n"
    return stdout, "sat\n(" + "\n".join(f"({n} {v!r})" for n, v in zip(("X_0", "X_1", "Y_0"), (*x, y), strict=True)) + ")\n"


def judged(model: Path, tmp_path: Path, text: str, x: tuple[float, ...], y: float) -> bool:
    prop = tmp_path / "p.vnnlib"
    prop.write_text(text)
    return judge(model, prop, *printed(x, y))


def test_a_witness_is_confirmed_and_its_place_told(model: Path, tmp_path: Path) -> None:
    assert judged(model, tmp_path, BOX + "(assert (<= Y_0 -0.5))\n", (0.5, 0.5), -0.5)
    edge = HEAD + "(assert (>= X_0 0.1))\n(assert (<= X_0 0.1))\n(assert (<= Y_0 0.5))\n"
    assert not judged(model, tmp_path, edge, (TENTH, 0.0), TENTH)  # only the rounding of the decimal box holds a float32


def test_packed_files_are_read(model: Path, tmp_path: Path) -> None:
    packed = tmp_path / "m.onnx.gz", tmp_path / "p.vnnlib.gz"
    packed[0].write_bytes(gzip.compress(model.read_bytes()))
    packed[1].write_bytes(gzip.compress((BOX + "(assert (<= Y_0 -0.5))\n").encode()))
    assert judge(*packed, *printed((0.5, 0.5), -0.5))


@pytest.mark.parametrize(("unsafe", "x", "y", "why"), [
    ("(<= Y_0 -0.5)", (0.5, 0.25), 0.0, "do not violate"),
    ("(< Y_0 -0.5)", (0.5, 0.5), -0.5, "do not violate"),  # strict, exactly at its threshold
    ("(<= Y_0 -0.5)", (0.5, 0.5), -0.625, "not what onnxruntime returns"),
    ("(<= Y_0 -0.5)", (0.5, 1.5), -2.5, "outside of its region"),
    ("(<= Y_0 -0.5)", (float(np.nextafter(np.float32(0.1), np.float32(0))), 1.0), None, "outside of its region"),
    ("(and (<= Y_0 -0.5) (< X_0 0.5))", (0.5, 0.5), -0.5, "do not violate"),
    ("(or (and (<= X_0 0.25) (<= Y_0 0)) (and (>= X_0 0.5) (>= Y_0 0)))", (0.5, 0.5), -0.5, "do not violate"),
    ("(<= Y_1 0)", (0.5, 0.5), -0.5, "no declared variable"),
])  # fmt: skip
def test_what_is_no_witness_is_refuted(model: Path, tmp_path: Path, unsafe: str, x: tuple[float, ...], y: float | None, why: str) -> None:
    y = float(np.float32(x[0]) - np.float32(2 * x[1])) if y is None else y
    with pytest.raises(Exception, match=why) as caught:
        judged(model, tmp_path, BOX + f"(assert {unsafe})\n", x, y)
    assert type(caught.value).__name__ in ("Refuted", "Rejected")


@pytest.mark.parametrize(("stdout", "results", "why"), [
    (("0.5", "0.4"), ("0.5", "0.5"), "two different witnesses"),
    (("0.5", "nan"), ("0.5", "nan"), "not finite"),
    (("0.5", "half"), ("0.5", "half"), "no number"),
])  # fmt: skip
def test_the_texts_are_judged_as_printed(model: Path, tmp_path: Path, stdout: tuple[str, str], results: tuple[str, str], why: str) -> None:
    first, second = printed((7.0, 8.0), -0.5)
    for old, new, other in zip(("7.0", "8.0"), stdout, results, strict=True):
        first, second = first.replace(old, new), second.replace(old, other)
    prop = tmp_path / "p.vnnlib"
    prop.write_text(BOX + "(assert (<= Y_0 -0.5))\n")
    with pytest.raises(Refuted, match=why):
        judge(model, prop, first, second)


@pytest.mark.parametrize("text", ["unsat\n", "sat", "sat\n1.0\n", "sat\nX float32 [1,2]\n1.0\n", "sat\nX float32 [1,2]\n1.0\n2.0\n3.0\n"])
def test_an_assignment_of_another_form_is_none(text: str) -> None:
    with pytest.raises(Refuted):
        assignment(text)


@pytest.mark.parametrize("text", ["sat\n((Y_0 1.0)\n(X_0 1.0))\n", "sat\n((X_1 1.0)\n(Y_0 1.0))\n", "sat\n((X_0 1.0) (Y_0 1.0) oops)\n"])
def test_pairs_have_the_order_of_the_standard(text: str) -> None:
    with pytest.raises(Refuted):
        competition(text)


@settings(max_examples=examples(150))
@given(st.lists(queries.formulas, min_size=1, max_size=3), st.lists(queries.points, min_size=1, max_size=3), st.sampled_from([1, 2]))
def test_formulas_mean_what_their_words_mean(asserted: list[object], points: list[dict[str, Fraction]], version: int) -> None:
    """All numbers are float32 here, so that the box and its rounding are the same."""
    text = queries.asserted(asserted, version).encode()
    for point in points:
        x, y = (np.array([float(point[name]) for name in names], np.float32) for names in (queries.INPUTS, queries.OUTPUTS))
        wanted = all(queries.evaluate(formula, point) for formula in asserted)
        assert violates(text, Point(x, y, exact=True)) == violates(text, Point(x, y, exact=False)) == wanted


@settings(max_examples=examples(300))
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.sampled_from([-1, 0, 1]), st.integers(60, 200))
def test_nearest_float32_is_the_nearest(base: float, side: int, power: int) -> None:
    """A float32, a midpoint of two, and what lies a little beside these."""
    other = float(np.nextafter(np.float32(base), np.float32(0)))
    for value in (Fraction(base), (Fraction(base) + Fraction(other)) / 2):
        value += side * Fraction(1, 1 << power) * max(abs(Fraction(base)), Fraction(1, 1 << 149))
        found = np.float32(nearest_float32(value))
        steps = [Fraction(float(near)) for near in (np.nextafter(found, np.float32(d)) for d in (-math.inf, math.inf)) if np.isfinite(near)]
        assert all(abs(value - Fraction(float(found))) <= abs(value - near) for near in steps)


# --- as a part of a run -------------------------------------------------------------------------------------------------------------------------


def run(model: Path, tmp_path: Path, judge_script: str | None, timeout: float = 20) -> Result:
    prop = tmp_path / "p.vnnlib"
    prop.write_text(BOX + "(assert (<= Y_0 -0.5))\n")
    options = Options(str(model), str(prop), timeout=timeout, threads=1, results_file=str(tmp_path / "r"))
    command = None if judge_script is None else [judge_command()[0], "-c", judge_script]
    found = supervise(options, [].append, judge=command)
    assert isinstance(found, Result) and (tmp_path / "r").read_text().split("\n")[0] == found.verdict.replace("timed-out", "timeout")
    return found


def test_a_run_asks_the_judge(model: Path, tmp_path: Path) -> None:
    found = run(model, tmp_path, None)
    assert (found.verdict, found.assurance) == ("sat", "replayed") and found.seconds["check"] > 0
    done = subprocess.run(
        [*judge_command(), str(model), str(tmp_path / "p.vnnlib")], capture_output=True, text=True, check=True,
        input=json.dumps({"stdout": found.to_stdout(), "results": found.to_competition()}),
    )
    assert done.stdout == f'CONFIRMED {{"inside_exact_box": {json.dumps(found.witness.inside_exact_box)}}}\n'


@pytest.mark.parametrize(("script", "why"), [
    ("print('REFUTED {\"why\": \"no\"}'); raise SystemExit(5)", "does not confirm: no"),
    ("print('REFUTED {\"why\": \"no\"}')", "without an answer"),
    ("print('CONFIRMED {\"inside_exact_box\": true}'); raise SystemExit(5)", "without an answer"),
    ("print('CONFIRMED {\"inside_exact_box\": false}')", "disagrees"),
    ("raise MemoryError", "MemoryError"),
    ("", "without an answer"),
])  # fmt: skip
def test_nothing_but_a_confirmation_is_one(model: Path, tmp_path: Path, script: str, why: str) -> None:
    found = run(model, tmp_path, script)
    assert found.verdict == "unknown" and found.witness.inputs is None
    assert found.reason is not None and found.reason.code == "not-certified" and why in found.reason.text


def test_a_judge_that_hangs_does_not_hold_the_run(model: Path, tmp_path: Path) -> None:
    found = run(model, tmp_path, "import time; time.sleep(60)", timeout=3)
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "check-unfinished"
