"""What an answer is worth, in every combination of truth, semantics and witness."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from benchmarks.formula import Atom, parse
from benchmarks.ledger import Record
from benchmarks.soundness import judge, scoring
from benchmarks.soundness.instance import Entry, Instance, Planted, SuiteError, write
from benchmarks.soundness.judge import execute, holds_exactly
from benchmarks.soundness.property import vnnlib1, vnnlib2
from benchmarks.soundness.report import Report, to_json
from benchmarks.soundness.traps import executed
from tests.benchmarks.soundness.run_support import BIG, at_least, at_most, cancelling, prop, suite


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Entry]:
    return {entry.name: entry for entry in suite(tmp_path_factory.mktemp("suite"))}


def record(name: str, result: str, witness: list[str] | None = None, malformed: str | None = None) -> Record:
    return {"name": name, "mode": "default", "result": result, "witness": witness, "malformed": malformed, "error": None, "run_seconds": 0.1}


ONE, TWO = ["1"], ["1", "1.0"]
CASES = [
    ("sums_sat", "unsat", None, "false-unsat", "false-unsat"),
    ("sums_sat", "sat", TWO, "solved", "solved"),
    ("sums_sat", "sat", ["0.7", "0.7"], "invalid-witness", "invalid-witness"),
    ("sums_sat", "sat", ["2", "1"], "invalid-witness", "invalid-witness"),
    ("sums_sat", "sat", ["1"], "invalid-witness", "invalid-witness"),
    ("sums_sat", "sat", None, "no-witness", "no-witness"),
    ("sums_sat", "timeout", None, "timeout", "timeout"),
    ("sums_unsat", "unsat", None, "solved", "solved"),
    ("sums_unsat", "sat", None, "false-sat", "false-sat"),
    ("sums_unsat", "sat", TWO, "invalid-witness", "invalid-witness"),
    ("pairs_sat", "sat", TWO, "solved", "solved"),
    ("pairs_sat", "sat", ["1", "0.4"], "invalid-witness", "invalid-witness"),
    ("traps_float32", "unsat", None, "solved", "false-unsat"),
    ("traps_float32", "sat", ONE, "float32-only", "solved"),
    ("traps_float32", "sat", None, "no-witness", "no-witness"),
    ("traps_real", "unsat", None, "false-unsat", "solved"),
    ("traps_real", "sat", ONE, "solved", "invalid-witness"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "result", "witness", "real", "float32"), CASES)
def test_outcomes(entries: dict[str, Entry], name: str, result: str, witness: list[str] | None, real: str, float32: str) -> None:
    for semantics, expected in (("real", real), ("float32", float32)):
        outcome = scoring.assess(entries[name], record(name, result, witness), semantics)
        assert outcome.kind == expected, (semantics, outcome.text)
        assert outcome.fatal == (expected in scoring.FATAL)


def orders(folder: Path, threshold: float, float32: str) -> Entry:
    """Whether a sum that is 1 over the reals, 0 in onnxruntime and, as the manifest tells, 1.25 in another order reaches the threshold."""
    asked, model = prop([BIG - 2, 1, -BIG], [BIG, 1, -BIG], [at_least(threshold), at_most(1.5)]), cancelling()
    (ran,) = executed(model, (Fraction(BIG), Fraction(1), Fraction(-BIG)))
    assert ran == 0
    planted = Planted(np.array([BIG, 1, -BIG], np.float32), 1 - Fraction(threshold), ran - threshold)
    made = Instance("orders", "orders", model, vnnlib1(asked), vnnlib2(asked, (1, 3), (1, 1)), "sat" if threshold <= 1 else "unsat", float32,
                    "planted", "the order of the sum", ("ReduceSum",), {"runs": [(1.25).hex()]}, planted)
    (entry,) = write(folder, [made], seed=0)
    return entry


@pytest.mark.parametrize(("threshold", "float32", "witness", "kind"), [
    (0.75, "sat", (BIG, 1.00000000001, -BIG), "solved"),
    (1.125, "sat", (BIG, 1, -BIG), "solved"),
    (0.75, "sat", (BIG - 2, 1, -BIG), "no-witness"),
    (1.125, "sat", (BIG - 2, 1, -BIG), "no-witness"),
    (0.75, "unknown", (BIG, 1, -BIG), "no-witness"),
    (0.75, "unsat", (BIG, 1, -BIG), "invalid-witness"),
    (0.75, "sat", (BIG, 2, -BIG), "invalid-witness"),
    (0.75, "sat", (BIG,), "invalid-witness"),
])  # fmt: skip
def test_where_another_order_decides_onnxruntime_does_not(tmp_path: Path, threshold: float, float32: str, witness: tuple[float, ...],
                                                          kind: str) -> None:
    """Planted points of the family rounding, given as witnesses, were called fatal: an execution that the manifest knows violates, another than
    onnxruntime's."""
    outcome = scoring.assess(orders(tmp_path, threshold, float32), record("orders", "sat", [repr(v) for v in witness]), "float32")
    assert outcome.kind == kind, outcome.text


def test_who_denies_what_another_order_reaches_is_wrong(tmp_path: Path) -> None:
    """Where the planted point violates neither over the reals nor in onnxruntime, the suite had been called unusable."""
    entry = orders(tmp_path, 1.125, "sat")
    denied = scoring.assess(entry, record("orders", "unsat"), "float32")
    assert denied.kind == "false-unsat" and "by construction" in denied.text
    for knobs, said in (({}, "violates nothing"), ({"runs": [(1.0).hex()]}, "violates nothing"), ({"runs": ["x"]}, "cannot be judged")):
        with pytest.raises(SuiteError, match=said):
            scoring.assess(replace(entry, knobs=knobs), record("orders", "unsat"), "float32")


def test_a_near_miss_is_told_as_such(entries: dict[str, Entry]) -> None:
    near = scoring.assess(entries["sums_sat"], record("sums_sat", "sat", ["0.7499999", "0.75"]), "real")
    outside = scoring.assess(entries["sums_unsat"], record("sums_unsat", "sat", ["2", "2"]), "real")
    assert "misses by 1e-07" in near.text and "outside" not in near.text
    assert "misses" not in outside.text and "outside the box" in outside.text


def test_a_malformed_witness_is_fatal(entries: dict[str, Entry]) -> None:
    outcome = scoring.assess(entries["sums_sat"], record("sums_sat", "sat", malformed="the witness does not give every X"), "real")
    assert outcome.kind == "invalid-witness" and "every X" in outcome.text


def test_a_label_that_a_witness_refutes_makes_the_suite_unusable(entries: dict[str, Entry]) -> None:
    """A verifier that is right against the manifest must not be called wrong."""
    wrong = Entry(**{**vars(entries["sums_sat"]), "real": "unsat", "float32": "unsat"})
    with pytest.raises(SuiteError, match=r"unsat \(real\) by the manifest"):
        scoring.assess(wrong, record("sums_sat", "sat", TWO), "real")


def test_a_planted_point_that_does_not_violate_proves_nothing(entries: dict[str, Entry], tmp_path: Path) -> None:
    (moved,) = (entry for entry in suite(tmp_path) if entry.name == "sums_sat")
    file = tmp_path / "planted" / "sums_sat.json"
    data = json.loads(file.read_text())
    file.write_text(json.dumps({**data, "point": [(0.5).hex(), (0.5).hex()]}))
    with pytest.raises(SuiteError, match="planted point of sums_sat violates nothing"):
        scoring.assess(moved, record("sums_sat", "unsat"), "real")


def test_an_execution_says_what_happened(entries: dict[str, Entry]) -> None:
    execution = execute(entries["traps_real"], ["1"])
    assert execution.real is True and execution.float32 is False and execution.inside
    assert execution.exact == ("1",) and execution.runtime == (0.0,)
    (margin,) = execution.margins
    assert execution.margin == 0.5 and execute(entries["pairs_sat"], ["0.5", "0.75"]).margin == -0.25
    assert margin.text == "Y_0 >= 0.5" and margin.exact == "0.5" and margin.runtime == -0.5


def test_atoms_are_written_for_people() -> None:
    declared = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
    written = ["(< Y_0 Y_1)", "(>= (+ (* 2 Y_0) (* -1.5 Y_1)) 3)", "(== Y_1 X_0)", "(>= Y_1 0.25)"]
    violation = parse(declared + "".join(f"(assert {atom})" for atom in written))
    texts = [judge._text(part) for part in violation.formula.parts if isinstance(part, Atom)]
    assert texts == ["Y_0 - Y_1 < 0", "-2 Y_0 + 1.5 Y_1 <= -3", "Y_1 - X_0 == 0", "Y_1 >= 0.25"]


def test_the_decimals_as_written_count_over_the_reals(entries: dict[str, Entry]) -> None:
    """0.75000000001 is 0.75 in float32; the sum reaches 1.5 either way, and does not at 0.7499999999 as written, but does once rounded."""
    assert execute(entries["sums_sat"], ["0.75000000001", "0.75"]).real is True
    rounded = execute(entries["sums_sat"], ["0.7499999999", "0.75"])
    assert rounded.real is True and rounded.float32 is True
    assert execute(entries["sums_sat"], ["0.7499", "0.75"]).real is False


def test_three_values() -> None:
    """Enclosures that straddle a threshold tell nothing, and one case that holds is enough."""
    declared = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
    formula = parse(declared + "(assert (or (and (<= Y_0 1)) (and (>= Y_1 2) (>= X_0 0))))").formula

    def decide(y0: tuple[int, int], y1: tuple[int, int]) -> bool | None:
        return holds_exactly(formula, [0], [y0, y1])  # type: ignore[arg-type, list-item]

    assert decide((0, 1), (0, 0)) is True and decide((0, 2), (2, 3)) is True
    assert decide((0, 2), (0, 0)) is None and decide((2, 3), (1, 2)) is None
    assert decide((2, 3), (0, 1)) is False
    strict, equal = Atom((("Y", 0, 1),), "<", 1), Atom((("Y", 0, 1),), "==", 1)  # type: ignore[arg-type]
    assert [holds_exactly(strict, [], [y]) for y in ((0, 0), (1, 1), (0, 1))] == [True, False, None]  # type: ignore[list-item]
    assert [holds_exactly(equal, [], [y]) for y in ((1, 1), (0, 1), (2, 3))] == [True, None, False]  # type: ignore[list-item]


@pytest.mark.parametrize("value", ["1e39", "-1e39", "1e400"])
def test_a_witness_beyond_float32_is_no_counterexample(entries: dict[str, Entry], value: str) -> None:
    """It had made the suite unusable, and the larger one had ended in a traceback."""
    outcome = scoring.assess(entries["sums_sat"], record("sums_sat", "sat", [value, "1"]), "real")
    assert outcome.kind == "invalid-witness" and "does not fit float32" in outcome.text


def test_outputs_that_overflowed_are_written_as_text(entries: dict[str, Entry]) -> None:
    """JSON has no infinity; the command had ended with an internal error."""
    outcome = scoring.assess(entries["sums_sat"], record("sums_sat", "sat", ["3.4028235e38"] * 2), "real")
    report = Report((outcome,), "real", "", 1.0, {"default": {}})
    written = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert written["findings"][0]["execution"]["runtime"] == ["inf"]
