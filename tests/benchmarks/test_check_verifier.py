"""check_verifier against liars of every kind, and against verifiers that do not lie."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import Phase, find, settings

from benchmarks import formula
from benchmarks.strategies import CHECKS, check_verifier, pairs
from benchmarks.strategies.asker import Asker
from benchmarks.strategies.check import Question, judged
from benchmarks.strategies.findings import BAD_WITNESS, CONTRADICTION, FALSE_SAT, FALSE_UNSAT
from specs.evaluate import violated_case
from specs.vnnlib import parse

DOCS = Path(__file__).resolve().parents[2] / "docs" / "testing_a_verifier.md"


def test_the_example_of_the_docs(tmp_path, monkeypatch, capsys):
    """The code of the page is run as it stands: the liar is found, and shrunk to one negative weight."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(DOCS), "exec"), {"__name__": "example"})
    printed = capsys.readouterr().out
    assert "1 findings" in printed and "false unsat (neuron permutation)" in printed
    here = tmp_path / "findings" / "neuron_permutation_false_unsat_gemm"
    model = onnx.load(here / "question.onnx")
    assert [node.op_type for node in model.graph.node] == ["Gemm"]
    (weight,) = [a for a in map(onnx.numpy_helper.to_array, model.graph.initializer) if a.ndim == 2]
    assert np.count_nonzero(weight) == 1 and weight.min() < 0
    planted = np.array(json.loads((here / "finding.json").read_text())["planted"][0], np.float32)
    output = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {model.graph.input[0].name: planted.reshape(1, -1)})[0]
    assert violated_case(parse((here / "question.vnnlib").read_text()), {"X": planted}, {"Y": output.reshape(-1)}, exact_box=True) is not None
    assert "Expected sat" in (here / "README.md").read_text()


def centre(model, prop, timeout):
    """An honest verifier: sat if the centre of the box violates in onnxruntime, else unknown."""
    violation, session = formula.parse(prop), onnxruntime.InferenceSession(model)
    atoms = [part for part in violation.formula.parts if isinstance(part, formula.Atom) and part.bounds_one_input]
    ends = [[float(atom.limit()) for atom in atoms if atom.terms[0][1] == i] for i in range(violation.inputs)]
    x = np.array([sum(pair) / len(pair) for pair in ends], np.float32)
    shape = session.get_inputs()[0].shape
    y = session.run(None, {session.get_inputs()[0].name: x.reshape(shape)})[0]
    return ("sat", x.tolist()) if violation.holds(x, y.reshape(-1), exact_box=True) else ("unknown", None)


def test_who_does_not_lie_is_not_accused():
    report = check_verifier(centre, max_examples=4, opsets=(9, 13, 17, 21))
    assert not report.findings, str(report)
    assert report.verdicts["sat"] > 10 and not report.exhausted


def liar(name):
    """Verifiers that always give the same answer."""
    answers = {FALSE_UNSAT: ("unsat", None), FALSE_SAT: ("sat", None), BAD_WITNESS: ("sat", [3.0])}
    return lambda model, prop, timeout: answers[name]


@pytest.mark.parametrize(("kind", "check"), [(FALSE_UNSAT, "planted needle"), (FALSE_SAT, "known unsat"), (BAD_WITNESS, "known sat")])
def test_liars_are_told_by_their_lie(kind, check, tmp_path):
    report = check_verifier(liar(kind), operators=("Gemm", "Relu"), checks=(check,), max_examples=5, out=tmp_path)
    (finding,) = report.findings
    assert (finding.kind, finding.check) == (kind, check)
    assert len(finding.questions[0].network.model.graph.node) <= 2
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {"README.md", "finding.json", "question.onnx", "question.vnnlib"}


def test_a_contradiction_counts_where_the_truth_is_unknown():
    """sat where an Identity was inserted, unsat where it was not."""

    def verify(model, prop, timeout):
        return ("sat" if b"Identity" in model else "unsat"), None

    def contradicts(pair):
        found = judged(Question(pair.relation, (pair.first, *pair.others)), Asker(verify, 1.0))
        return found is not None and found.kind == CONTRADICTION

    strategy = pairs(("identity insertion",), ("Gemm", "Identity"), 2, truths=(None,))
    found = find(strategy, contradicts, settings=settings(max_examples=300, database=None, phases=(Phase.generate,)))
    assert found.first.truth is None and "Identity" in found.first.network.operators


def test_answers_are_asked_for_once_and_words_are_checked():
    asked = []

    def verify(model, prop, timeout):
        asked.append((model, prop))
        return "unknown", None

    report = check_verifier(verify, max_examples=3, checks=CHECKS[:2])
    assert len(asked) == len(set(asked)) == sum(report.verdicts.values())
    with pytest.raises(ValueError, match="'maybe'"):
        check_verifier(lambda model, prop, timeout: ("maybe", None), max_examples=1)
    with pytest.raises(ValueError, match="no check"):
        check_verifier(verify, checks=("luck",))


def test_refusals_are_counted_and_time_is_kept():
    report = check_verifier(lambda model, prop, timeout: ("error", None), max_examples=2, checks=("known sat",))
    assert report.verdicts["error"] == sum(report.refused.values()) > 0 and not report.findings
    report = check_verifier(liar(FALSE_UNSAT), seconds=0.0)
    assert report.exhausted and not report.findings


def test_files_are_given_where_they_are_wanted():
    def verify(model, prop, timeout):
        onnx.checker.check_model(onnx.load(model))
        assert prop.read_text().startswith("(declare-const X_0 Real)")
        return "unknown", None

    assert check_verifier(verify, max_examples=2, checks=("known sat",), files=True).verdicts["unknown"] > 0


@pytest.mark.parametrize(("given", "error", "said"), [
    ({"operators": ["Gemm", "Foo"]}, ValueError, "no operator is called 'Foo'; there are "),
    ({"operators": "Gemm"}, TypeError, r"operators='Gemm': expected a list, for example \["),
    ({"operators": ()}, ValueError, r"operators=\(\): at least one is needed; there are "),
    ({"operators": None}, TypeError, "operators=None: expected a list"),
    ({"checks": ()}, ValueError, r"checks=\(\): at least one"),
    ({"checks": "known sat"}, TypeError, "checks='known sat': expected a list"),
    ({"opsets": (17, 99)}, ValueError, "no opset is called 99; there are 9, 10"),
    ({"opsets": 17}, TypeError, "opsets=17: expected a list"),
    ({"max_operators": 0}, ValueError, "max_operators is 0"),
    ({"max_examples": 0}, ValueError, "max_examples is 0"),
])  # fmt: skip
def test_arguments_that_are_none_are_said_to_be(given, error, said):
    """They had ended in KeyError: 'Foo', KeyError: 'G', errors of Hypothesis, or in nothing asked and nothing found."""
    with pytest.raises(error, match=said):
        check_verifier(centre, **given)


@pytest.mark.parametrize(("answer", "error", "said"), [
    (None, TypeError, "the verifier returned None; expected a pair"),
    ("unsat", TypeError, "the verifier returned 'unsat'; expected a pair"),
    (("sat", [0.0], 1), TypeError, "expected a pair"),
    (("maybe", None), ValueError, "answered 'maybe'; a verdict is one of sat, unsat"),
    ((["sat"], None), ValueError, r"answered \['sat'\]"),
    (("sat", 0.5), TypeError, "witness is 0.5; expected the flat inputs as numbers"),
    (("sat", ["x"] * 99), TypeError, r"witness is \['x', .*\.\.\.; expected the flat inputs"),
])  # fmt: skip
def test_an_answer_that_is_none_is_said_to_be(answer, error, said):
    with pytest.raises(error, match=said):
        check_verifier(lambda model, prop, timeout: answer, max_examples=2)
