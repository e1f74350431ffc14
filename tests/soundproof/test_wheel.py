"""The wheel works in an empty environment, away from the repository. Slow: it installs every dependency."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=900)


@pytest.mark.slow
def test_the_wheel_installs_and_verifies(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", ROOT, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("soundproof-*.whl")
    data = {"verifier/checker/FORMAT.md", "verifier/checker/tables/onnxruntime.json", "pytest_soundproof.py"}
    assert data <= set(zipfile.ZipFile(wheel).namelist())
    assert run(sys.executable, "-m", "venv", tmp_path / "empty", cwd=tmp_path).returncode == 0
    bin_ = tmp_path / "empty" / "bin"
    installed = run(bin_ / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=tmp_path)
    assert installed.returncode == 0, installed.stderr
    helped = run(bin_ / "soundproof", "--help", cwd=tmp_path)
    assert helped.returncode == 0 and "verify" in helped.stdout
    for name, code, word in (("far_and_slow", 0, "unsat"), ("near_and_fast", 10, "sat"), ("never_more", 0, "unsat")):
        done = run(bin_ / "soundproof", "verify", EXAMPLES / "brake.onnx", EXAMPLES / f"{name}.vnnlib", "--timeout", "100", cwd=tmp_path)
        assert (done.returncode, done.stdout.split("\n")[0]) == (code, word), done.stderr
    where = run(bin_ / "python", "-c", "import graph, verifier; print(graph.__file__, verifier.__file__)", cwd=tmp_path).stdout
    assert str(ROOT) not in where
