"""`make demo`: three properties of one network, and a certificate checked once more; fails unless each gets its expected verdict."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

import soundproof

HERE = Path(__file__).parent
EXPECTED = {"far_and_slow": "unsat", "near_and_fast": "sat", "never_more": "unsat"}
MEANING = {"unsat": "holds", "sat": "violated", "unknown": "open", "timed-out": "open"}


def main() -> int:
    """Run the three, show a table, return the exit code: 0 if all verdicts are the expected ones, 1 otherwise."""
    table = Table("property", "verdict", "meaning", "assurance", "nodes", "seconds")
    wrong = []
    for name, expected in EXPECTED.items():
        result = soundproof.verify(HERE / "brake.onnx", HERE / f"{name}.vnnlib", timeout=60)
        table.add_row(name, result.verdict, MEANING[result.verdict], result.assurance, str(result.nodes), f"{result.seconds['total']:.2f}")
        if result.verdict != expected:
            wrong.append(f"{name}: expected {expected}, got {result.verdict}")
        if result.verdict == "unsat" and result.assurance != "certified":
            wrong.append(f"{name}: the independent checker did not accept the certificate")
    Console().print(table)
    wrong += check_a_certificate("never_more")
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


def check_a_certificate(name: str) -> list[str]:
    """Keep a certificate, then check it as its receiver would: with the files and the checker alone."""
    files = [str(HERE / "brake.onnx"), str(HERE / f"{name}.vnnlib")]
    with tempfile.TemporaryDirectory() as folder:
        certificate = str(Path(folder) / f"{name}.cert")
        keep = ["--quiet", "--certificate", certificate]
        subprocess.run([sys.executable, "-m", "soundproof", "verify", *files, *keep], check=True, stdout=subprocess.DEVNULL)
        command = [sys.executable, "-I", "-m", "verifier.checker", *files, certificate]
        print(f"$ python -I -m verifier.checker brake.onnx {name}.vnnlib {name}.cert")
        code = subprocess.run(command, check=False).returncode
    return [f"{name}: the certificate was not accepted"] if code else []


if __name__ == "__main__":
    sys.exit(main())
