"""Drawn certificates, judged by the checker: well-formed ones are never malformed, none proves what is false, defects are named."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.strategies import Instance, instances
from benchmarks.strategies.certificates import DEFECTS, Certificate, certificates, malformed, model_bytes
from tests.effort import examples
from verifier.checker.main import Process

OPERATORS = ("Gemm", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Add", "Conv", "Flatten", "Mul", "Exp", "Abs", "Softmax")
OPTIONS = argparse.Namespace(memory=4.0, timeout=0.0, arithmetic="float64", limit_bytes=10**8, diagnose=None, processes=1, follow=False)
quick = settings(max_examples=examples(40), suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


def outcome(folder: Path, asked: Instance, certificate: Certificate) -> tuple[str, str]:
    """The checker's word and rule."""
    files = folder / "model.onnx", folder / "property.vnnlib", folder / "certificate"
    for path, data in zip(files, (model_bytes(asked), asked.property.encode(), certificate.data), strict=True):
        path.write_bytes(data)
    with contextlib.redirect_stderr(io.StringIO()):
        line, _ = Process(OPTIONS).outcome(files)
    word, _, rest = line.partition(" ")
    return word, json.loads(rest).get("rule", "")


@quick
@given(st.data())
def test_a_well_formed_certificate_is_judged_by_what_it_proves(folder: Path, data: st.DataObject) -> None:
    asked = data.draw(instances(("sat", "unsat"), OPERATORS, 4))
    word, rule = outcome(folder, asked, data.draw(certificates(asked, data.draw(st.sampled_from(["real", "float32"])))))
    assert word != "MALFORMED", rule
    if asked.truth == "sat":
        assert word == "REJECTED"


def test_some_certificates_are_accepted(folder: Path) -> None:
    words = []

    @settings(quick, max_examples=40, derandomize=True, database=None)
    @given(st.data())
    def collect(data: st.DataObject) -> None:
        asked = data.draw(instances(("unsat",), ("Gemm", "Relu"), 3))
        words.append(outcome(folder, asked, data.draw(certificates(asked)))[0])

    collect()
    assert words.count("ACCEPTED") >= len(words) // 4


@pytest.mark.parametrize("rule", sorted(DEFECTS))
def test_a_defect_is_refused_by_its_name(folder: Path, rule: str) -> None:
    @settings(quick, max_examples=5, derandomize=True, database=None)
    @given(st.data())
    def refused(data: st.DataObject) -> None:
        asked = data.draw(instances(("unsat",), OPERATORS, 2))
        certificate = data.draw(malformed(asked, rules=(rule,)))
        assert outcome(folder, asked, certificate) == ("MALFORMED", rule)

    refused()
