"""The forms in which a result is written: JSON keys, results file, standard output; read back by independent readers."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.result import (
    PHASES,
    Assignment,
    Cases,
    Counterexample,
    FileIdentity,
    InvalidResult,
    Outcome,
    Reason,
    Result,
    Verdict,
    Witness,
    shortest_float32,
    write_atomically,
)

KEYS = (  # DESIGN 10, in its order
    "schema tool models property semantics verdict assurance reason statement bound gap cases nodes leaves closed_volume witness certificate "
    "seconds peak_memory_bytes seed threads device portfolio"
).split()
NESTED = {
    "reason": {"code", "text"},
    "cases": {"total", "closed", "vacuous", "open"},
    "witness": {"inputs", "outputs", "inside_exact_box", "float32_only"},
    "certificate": {"path", "sha256", "bytes", "outcome", "seconds"},
    "seconds": {"load", "attack", "bound", "search", "check", "total"},
}
finite_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def result(verdict: Verdict = "unsat", **changes: object) -> Result:
    given = {
        "models": (FileIdentity("m.onnx", "00", None),), "property_file": FileIdentity("p.vnnlib", "11", "1.0"),
        "verdict": verdict, "assurance": "none", "statement": "A sentence.",
    }
    return Result(**{**given, **changes})  # type: ignore[arg-type]


def sat(inputs: list[float], outputs: list[float], shape: tuple[int, ...] | None = None) -> Result:
    x = Assignment("X", shape or (1, len(inputs)), tuple(inputs))
    return result("sat", witness=Counterexample((x,), (Assignment("Y", (len(outputs),), tuple(outputs)),), True, False))


@given(finite_float32)
def test_shortest_decimal_reads_back(value: float) -> None:
    text = shortest_float32(value)
    assert np.float32(text) == np.float32(value) and math.copysign(1, float(text)) == math.copysign(1, value)
    digits = len(re.sub(r"e.*|[-.]", "", text).strip("0"))
    assert digits <= len(re.sub(r"e.*|[-.]", "", np.format_float_scientific(np.float32(value), unique=True)).strip("0"))


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.1, 1e300])
def test_only_finite_float32_numbers_are_printed(value: float) -> None:
    with pytest.raises(InvalidResult):
        shortest_float32(value)


def test_json_has_every_key_in_every_verdict() -> None:
    verdicts: tuple[Verdict, ...] = ("unsat", "unknown", "timed-out")
    for found in [*map(result, verdicts), sat([1.0], [2.0])]:
        plain = json.loads(found.to_json())
        assert sorted(plain) == sorted(KEYS)
        for key, keys in NESTED.items():
            assert set(plain[key]) == keys, key
        assert plain["schema"] == 1 and set(plain["tool"]) == {"name", "version"}
    assert set(PHASES) == NESTED["seconds"]


@pytest.mark.parametrize("field", ["bound", "gap", "closed_volume"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_refuses_nan_and_infinity(field: str, value: float) -> None:
    with pytest.raises(InvalidResult, match=field):
        result(**{field: value}).to_json()


@given(st.lists(finite_float32, min_size=1, max_size=6), st.lists(finite_float32, min_size=1, max_size=3))
def test_json_round_trip(inputs: list[float], outputs: list[float]) -> None:
    found = sat(inputs, outputs)
    assert Result.from_dict(json.loads(found.to_json())) == found
    open_one = result("unknown", reason=Reason("nodes", "no nodes left"), bound=-0.5, cases=Cases(3, 1, 1, 2), seconds={"load": 0.5})
    assert Result.from_dict(json.loads(open_one.to_json())) == open_one


@given(st.lists(finite_float32, min_size=1, max_size=6), st.lists(finite_float32, min_size=1, max_size=3))
def test_results_file_holds_the_exact_witness(inputs: list[float], outputs: list[float]) -> None:
    text = sat(inputs, outputs).to_competition()
    assert text.split("\n", 1)[0] == "sat" and text.rstrip().endswith(")") and text.count("(") == text.count(")")
    pairs = re.findall(r"\(([XY])_(\d+) ([^\s()]+)\)", text)
    assert [float(v) for k, _, v in pairs if k == "X"] == inputs and [float(v) for k, _, v in pairs if k == "Y"] == outputs
    assert [int(i) for k, i, _ in pairs if k == "X"] == list(range(len(inputs)))


def test_results_file_words() -> None:
    assert [result(v).to_competition() for v in ("unsat", "unknown", "timed-out")] == ["unsat\n", "unknown\n", "timeout\n"]


@given(st.lists(finite_float32, min_size=1, max_size=6))
def test_standard_output_is_verdict_header_values(inputs: list[float]) -> None:
    lines = sat(inputs, [0.5], (1, len(inputs))).to_stdout().splitlines()
    assert lines[0] == "sat" and lines[1] == f"X float32 [1,{len(inputs)}]" and lines[-2:] == ["Y float32 [1]", "0.5"]
    assert np.array_equal(np.array(lines[2:-2], dtype=np.float32), np.array(inputs, dtype=np.float32))
    assert result("timed-out").to_stdout() == "timed-out\n"


def test_sat_without_a_witness_is_never_written() -> None:
    for write in (Result.to_stdout, Result.to_competition):
        with pytest.raises(InvalidResult):
            write(result("sat"))


def test_outcomes_that_contradict_themselves_are_refused() -> None:
    one = np.zeros(1, dtype=np.float32)
    with pytest.raises(InvalidResult):
        Outcome("sat")
    with pytest.raises(InvalidResult):
        Outcome("unsat", witness=Witness(one, one, True, False))
    with pytest.raises(InvalidResult):
        Outcome("unknown")
    with pytest.raises(InvalidResult):
        Outcome("unsat", cases=Cases(total=2, closed=1, open=1))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result"
    write_atomically(str(target), "old\n")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomically(str(target), "new\n")
    assert target.read_text() == "old\n"
