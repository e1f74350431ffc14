"""A verdict is an exact token, a witness is complete: nothing else counts."""

from __future__ import annotations

import pytest

from benchmarks.soundness.answers import Answer, read

PAIRS = "((X_0 0.5)\n(X_1 -1e-3)\n(Y_0 2.0))"


@pytest.mark.parametrize(("results", "stdout", "expected"), [
    ("sat\n" + PAIRS, "", Answer("sat", ("0.5", "-1e-3"))),
    ("sat " + PAIRS, "", Answer("sat", ("0.5", "-1e-3"))),
    ("violated", "", Answer("sat")),
    ("holds\n", "", Answer("unsat")),
    ("unsat 4 56 93\n", "", Answer("unsat")),
    ("timed-out", "", Answer("timeout")),
    (None, "unsat\n", Answer("unsat")),
    (None, "  unknown  \nbye\n", Answer("unknown")),
    ("", "loading\nsat\n" + PAIRS, Answer("sat", ("0.5", "-1e-3"))),
    ("sat", "sat\n" + PAIRS, Answer("sat", ("0.5", "-1e-3"))),
    (None, "found 3 unsatisfied constraints\nunsat core: none\nunknown\n", Answer("unknown")),
])  # fmt: skip
def test_verdicts(results: str | None, stdout: str, expected: Answer) -> None:
    assert read(results, stdout) == expected


@pytest.mark.parametrize(("results", "stdout", "said"), [
    (None, "3 unsatisfied constraints, none sat\nResult: unsat\n", "no verdict"),
    (None, "unsat.\n", "no verdict"),
    (None, "UNSAT\n", "no verdict"),
    ("unsat,12.5\n", "", "begins with 'unsat,12.5'"),
    ("unsatisfiable", "", "begins with 'unsatisfiable'"),
    ("sat((X_0 1))", "", "no verdict"),
    ("safe", "unsat\n", "begins with 'safe'"),
    ("unsat", "sat\n", "contradictory"),
    (None, "sat\nunsat\n", "contradictory"),
    (None, "", "no verdict"),
])  # fmt: skip
def test_what_is_no_verdict_is_an_error(results: str | None, stdout: str, said: str) -> None:
    answer = read(results, stdout)
    assert answer.result == "error" and said in (answer.error or "")


@pytest.mark.parametrize(("witness", "said"), [
    ("((X_0 0.5) (X_2 1))", "exactly once"),
    ("((X_0 0.5) (X_0 1))", "exactly once"),
    ("((Y_0 0.5))", "exactly once"),
    ("((X_0 nan))", "neither a number"),
    ("((X_0 1_0))", "neither a number"),
    ("((X_0 inf))", "neither a number"),
    ("X float32 [1,2]\n0.5\n", "fewer than 2"),
    ("X float32 [1,2]\n0.5\nY float32 [1]\n", "neither a number"),
    ("Y float32 [1]\n0.5\n", "no input X"),
    ("((X_0 (- 0.5)) (X_1 1))", "the value of X_0 cannot be read, it is not a decimal: (- 0.5)"),
    ("((X_0 (/ 1 3)))", "the value of X_0 cannot be read"),
    ("((X_0 1e999999999))", "exponent has more than three digits: 1e999999999"),
    ("((X_0 0." + "5" * 5000 + "))", "a number of 5002 characters"),
    ("((X_0 " + "5" * 3_000_000 + "))", "a number of 3000000 characters"),
    ("((X_0 0.5) (X_" + "1" * 5000 + " 0.5))", "exactly once"),
    ("X float32 [" + "1" * 5000 + "]\n0.5\n", "more than 16777216 elements"),
    ("X float32 [" + "999999999," * 999 + "9]\n0.5\n", "more than 16777216 elements"),
])  # fmt: skip
def test_a_witness_that_cannot_be_read_is_said_to_be_malformed(witness: str, said: str) -> None:
    answer = read("sat\n" + witness, "")
    assert answer.result == "sat" and answer.witness is None and said in (answer.malformed or ""), answer


def test_assignments_of_the_standard() -> None:
    text = "sat\nA float32 [2]\n1\n2\nB float32 []\n-3.5\nY float32 [1,2]\n0\n0\n"
    assert read(None, text, ("A", "B")).witness == ("1", "2", "-3.5")
    assert read(None, text, ("B", "A")).witness == ("-3.5", "1", "2")
