"""`make demo`: three properties of one network; fails unless each gets its expected verdict."""

from __future__ import annotations

import sys
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
    Console().print(table)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
