"""Marabou's wheel, run for real: the command that installs it, both front ends, and a fault of 2.0.0 that the suite has to see."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from benchmarks.soundness.adapters import Tool, adapter
from benchmarks.soundness.adapters.marabou import HOME
from benchmarks.soundness.instance import Entry, Instance, Planted, write
from benchmarks.soundness.private import Limits
from benchmarks.soundness.property import Property, vnnlib1, vnnlib2
from benchmarks.soundness.runner import DEFAULT, Mode, Settings, run
from benchmarks.soundness.scoring import score
from tests.benchmarks.soundness.run_support import at_least, network, prop, suite

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def marabou(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with Marabou: the one under build/, or a new one; skipped where PyPI is out of reach."""
    if (ROOT / HOME / "bin" / "Marabou").exists():
        return ROOT / HOME
    home = tmp_path_factory.mktemp("marabou") / "environment"
    command = [sys.executable, "-m", "soundproof", "soundness", "install", "--adapter", "marabou", "--tool", str(home)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 1:
        pytest.skip(f"Marabou cannot be installed here: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return home


def thin() -> tuple[ModelProto, Property]:
    """y = 2^17 x with x in [0, 2^-17] exceeds 0.75: a box narrower than Marabou's threshold for constants (1e-5)."""
    return network([[2.0**17]]), prop([0], [2.0**-17], [at_least(0.75)])


def outcomes(name: str, home: Path, entries: Sequence[Entry], table: Path) -> dict[str, str]:
    settings = Settings(Limits(10, 20))
    records = run(entries, [Mode(DEFAULT, adapter(name, Tool(home)))], settings, table, lambda _: None)
    return {o.entry.name: o.kind for o in score(entries, records, "real")}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["marabou", "marabou-command"])
def test_marabou_answers_and_is_caught(name: str, marabou: Path, tmp_path: Path) -> None:
    entries = [entry for entry in suite(tmp_path / "plain") if not entry.name.startswith("traps")]
    kinds = outcomes(name, marabou, entries, tmp_path / "plain.csv")
    assert kinds["sums_sat"] == kinds["sums_unsat"] == "solved" and kinds["pairs_sat"] in ("solved", "invalid-witness"), kinds
    model, what = thin()
    planted = Planted(np.array([2.0**-17], dtype=np.float32), what.margin([1]), 0.25)  # type: ignore[list-item]
    texts = vnnlib1(what), vnnlib2(what, (1, 1), (1, 1))
    made = Instance("boxes_thin", "boxes", model, *texts, "sat", "sat", "planted", "by hand", ("MatMul",), {}, planted)
    assert outcomes(name, marabou, write(tmp_path / "thin", [made], 0), tmp_path / "thin.csv") == {"boxes_thin": "false-unsat"}
