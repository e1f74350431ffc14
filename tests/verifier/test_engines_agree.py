"""No engine contradicts another: on drawn instances, and on those that were kept because one did (tests/regressions/).

A folder there holds model.onnx and property.vnnlib. What Hypothesis finds, shrunk as far as it goes, is written to tests/regressions/found:
give the folder a name that says what was wrong, and commit it with the repair.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path

import pytest
from exact_relu import Question, questions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks import formula
from benchmarks.exact import network
from benchmarks.exact.engines import ENGINES, Effort, Engine, Said
from benchmarks.exact.enumerate import decide
from benchmarks.exact.instances import SMALL, Instance, draw
from benchmarks.exact.judge import judge
from tests.effort import examples

KEPT = Path(__file__).resolve().parents[1] / "regressions"
EFFORT = Effort(seconds=30.0, nodes=300)
NEXT = Fraction(1, 2**60)
COMPLETE = ("enumeration", "smt")
few = settings(max_examples=examples(15), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@st.composite
def instances(choose: st.DrawFn) -> Instance:
    """Small ones, the same that the campaign draws."""
    return draw(lambda low, high: choose(st.integers(low, high)), SMALL)


def compare(model: Path, text: Path, engines: Mapping[str, Engine]) -> dict[str, Said]:
    """What the engines say; fails where that does not fit together, or where one that is complete has no answer."""
    answers = {name: engine(model, text, EFFORT) for name, engine in engines.items()}
    assert not (found := judge(model, text, answers).contradictions), (found, answers)
    for name in set(COMPLETE) & set(engines):
        assert answers[name]["verdict"] in ("sat", "unsat"), (name, answers[name])
    return answers


def agreement(engines: Mapping[str, Engine], keep: Path) -> Callable[[], None]:
    """A test of these engines; `keep` holds the last instance on which they did not agree, which is the smallest that was found."""

    @few
    @given(instances())
    def test(instance: Instance) -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = instance.write(Path(folder))
            try:
                compare(*files, engines)
            except AssertionError:
                keep.mkdir(parents=True, exist_ok=True)
                for path in files:
                    shutil.copy(path, keep)
                raise

    return test


def test_engines_agree_on_drawn_instances() -> None:
    agreement(ENGINES, KEPT / "found")()


@pytest.mark.parametrize("folder", [pytest.param(path, id=path.name) for path in sorted(KEPT.iterdir()) if path.is_dir()])
def test_what_went_wrong_once(folder: Path) -> None:
    answers = compare(folder / "model.onnx", folder / "property.vnnlib", ENGINES)
    assert len({answers[name]["verdict"] for name in COMPLETE}) == 1


def test_a_disagreement_is_shrunk_and_kept(tmp_path: Path) -> None:
    def lie(model: Path, text: Path, effort: Effort) -> Said:
        return {"verdict": "unsat"}

    with pytest.raises(AssertionError, match="proved what has an execution"):
        agreement({"enumeration": ENGINES["enumeration"], "smt": lie}, tmp_path / "found")()
    net = network.read(tmp_path / "found" / "model.onnx")
    assert net.size == 1 and len(net.steps) <= 6
    assert ENGINES["enumeration"](tmp_path / "found" / "model.onnx", tmp_path / "found" / "property.vnnlib", EFFORT)["verdict"] == "sat"


@settings(few, max_examples=examples(60))
@given(questions())
def test_the_oracle_against_another_one(question: Question) -> None:
    """The segments of one input, walked by other code."""
    net = network.parse(question.layers.onnx().onnx_bytes)
    truth = decide(net, formula.parse(question.text()))
    assert (truth.verdict == "sat") == question.truth()
    about_outputs = all(any(b) for _, _, atoms in question.cases for _, b, _, _ in atoms)  # others bound the box, and are not relaxed
    if truth.margin is not None and about_outputs:
        assert question.truth(truth.margin + NEXT) and not question.truth(truth.margin - NEXT)
