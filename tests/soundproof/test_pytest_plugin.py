"""The fixture `assert_certified`, and the example workflow that goes with it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper
from typer.main import get_command

import pytest_soundproof
from soundproof.cli import app

ROOT = Path(__file__).resolve().parents[2]
CI = ROOT / "examples" / "ci"


def classifier(path: Path) -> Path:
    """Two inputs, two scores: the scores are the inputs."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("pixels", "scores")]
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [2, 2], [1.0, 0.0, 0.0, 1.0])
    graph = helper.make_graph([helper.make_node("Gemm", ["pixels", "weights"], ["scores"])], "two", values[:1], values[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pytest_soundproof", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600, env={**os.environ, "PYTHONPATH": str(ROOT)})


def report(*statuses: str, gates: tuple[bool, ...] = ()) -> dict[str, Any]:
    """A report of one check at radius 0.1: certified, falsified, unknown, or misclassified (which is not asked)."""
    samples = [{"index": i, "id": f"s{i}", "label": 0, "predicted": int(s == "misclassified"), "correct": s != "misclassified"}
               for i, s in enumerate(statuses)]
    queries = [{"check": "linf", "radius": "0.1", "sample": i, "status": s, "reason": {"text": "out of time"} if s == "unknown" else None,
                "witness": {"path": f"w{i}"} if s == "falsified" else None} for i, s in enumerate(statuses) if s != "misclassified"]
    return {"samples": samples, "queries": queries, "checks": [{"name": "linf", "table": [{"radius": "0.1"}]}],
            "gates": [{"text": "all certified", "passed": p, "why": "because"} for p in gates]}


@pytest.mark.parametrize(("statuses", "at_least", "holds"), [
    (("certified",) * 4, 1.0, True), (("certified", "unknown"), 0.5, True), (("certified", "unknown"), 0.51, False),
    (("certified", "misclassified"), 1.0, False), (("falsified",), 0.01, False), ((), 0.5, False)])
def test_what_a_report_asserts(statuses: tuple[str, ...], at_least: float, holds: bool) -> None:
    assert (pytest_soundproof.failures(report(*statuses), at_least) == []) is holds


def test_what_is_not_certified_is_named() -> None:
    text = "\n".join(pytest_soundproof.failures(report("certified", "falsified", "unknown", "misclassified", gates=(True, False)), 1.0))
    assert "linf 0.1: 1 of 4 samples are certified" in text and "1 falsified, 1 misclassified, 1 unknown" in text
    named = ("sample s1: falsified, witness w1", "sample s2: unknown: out of time", "sample s3: misclassified: predicted 1")
    assert all(part in text for part in named)
    assert text.count("gate failed") == 1
    assert "and 10 more" in "\n".join(pytest_soundproof.failures(report(*["unknown"] * 20), 1.0))


def test_a_policy_that_asserts_nothing_is_a_failure() -> None:
    bisection = {**report("certified"), "checks": [{"name": "linf-radius", "radii": []}]}
    assert "nothing was asserted" in pytest_soundproof.failures(bisection, 1.0)[0]
    assert pytest_soundproof.failures({**bisection, "gates": report(gates=(True,))["gates"]}, 1.0) == []


@pytest.mark.parametrize(("value", "text"), [(0.1, "0.1"), ("2/255", "2/255"), (Fraction(2, 255), "2/255"), (1, "1"), (np.float64(0.25), "0.25")])
def test_a_radius_is_exact(value: object, text: str) -> None:
    assert pytest_soundproof.radius(value) == text


@pytest.mark.parametrize("value", ["x", -1, "1/0", float("nan"), float("inf")])
def test_what_is_no_radius_is_refused(value: object) -> None:
    with pytest.raises(pytest_soundproof.CertificationError, match="expected a radius"):
        pytest_soundproof.radius(value)


def test_wrong_calls_are_errors_and_not_failures(tmp_path: Path) -> None:
    for how, text in (({}, "linf=RADIUS"), ({"linf": 0.1, "at_least": 0}, "a share"), ({"linf": 0.1}, "give a path")):
        with pytest.raises(pytest_soundproof.CertificationError, match=text):
            pytest_soundproof.certify(tmp_path, object(), [[0.0]], [0], **how)  # type: ignore[arg-type]


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, pytest; before = set(sys.modules); import pytest_soundproof; print(*{m.split('.')[0] for m in set(sys.modules) - before})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    found = set(done.stdout.split()) - {"pytest_soundproof"}
    assert found <= set(sys.stdlib_module_names), found


def test_the_plugin_is_an_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_soundproof": "pytest_soundproof"}
    assert project["tool"]["setuptools"]["py-modules"] == ["pytest_soundproof"]


@pytest.mark.slow
def test_in_a_project_with_a_package_called_graph(tmp_path: Path) -> None:
    classifier(tmp_path / "two.onnx")
    (tmp_path / "graph").mkdir()
    (tmp_path / "graph" / "__init__.py").write_text("raise RuntimeError('not this one')\n")
    (tmp_path / "test_it.py").write_text(
        "import onnx, pytest\n"
        "def test_holds(assert_certified):\n"
        "    report = assert_certified(onnx.load('two.onnx'), [[1.0, 0.0], [0.0, 1.0]], [0, 1], linf=0.25)\n"
        "    assert [q['status'] for q in report['queries']] == ['certified'] * 2\n"
        "def test_does_not_hold(assert_certified):\n"
        "    with pytest.raises(AssertionError, match='1 falsified, 1 misclassified'):\n"
        "        assert_certified('two.onnx', [[1.0, 0.0], [0.5, 0.25], [0.25, 0.0]], [0, 1, 0], linf='1/4')\n"
        "def test_nothing_can_be_said(assert_certified):\n"
        "    with pytest.raises(Exception, match='exit code 3'):\n"
        "        assert_certified('missing.onnx', [[1.0, 0.0]], [0], linf=0.1)\n")
    done = run_pytest(tmp_path)
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout


# The example workflow.


def workflow_commands() -> list[list[str]]:
    steps = yaml.safe_load((CI / "certify.yml").read_text(encoding="utf-8"))["jobs"]["certify"]["steps"]
    return [shlex.split(step["run"]) for step in steps if step.get("run", "").startswith("soundproof ")]


def test_the_workflow_calls_what_there_is() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    called = workflow_commands()
    assert [c[1] for c in called] == ["certify", "recheck"]
    for _, name, *arguments in called:
        options = {o for p in commands[name].params for o in p.opts}
        assert {a for a in arguments if a.startswith("--")} <= options
    uses = re.findall(r"uses: (\S+)", (CI / "certify.yml").read_text(encoding="utf-8"))
    assert uses and all(re.fullmatch(r"actions/[\w-]+@v\d+", name) for name in uses)


@pytest.mark.slow
def test_the_workflow_and_the_example_test_pass_on_a_robust_model(tmp_path: Path) -> None:
    for folder in ("models", "certify"):
        (tmp_path / folder).mkdir()
    classifier(tmp_path / "models" / "model.onnx")
    np.savez(tmp_path / "certify" / "samples.npz", X=np.array([[0.75, 0.25], [0.125, 0.5]], np.float32), y=np.array([0, 1]))
    shutil.copy(CI / "policy.toml", tmp_path / "certify" / "policy.toml")
    for _, *arguments in workflow_commands():
        command = [sys.executable, "-m", "soundproof", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr
    for file in (tmp_path / "models" / "model.onnx", tmp_path / "certify" / "samples.npz", CI / "test_robustness.py"):
        shutil.copy(file, tmp_path / file.name)
    assert "1 passed" in run_pytest(tmp_path, "test_robustness.py").stdout
