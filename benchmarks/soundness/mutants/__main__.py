"""python -m benchmarks.soundness.mutants SUITE [--engines|--checkers] [--names ...] [--again] | --report docs/soundness_mutants.md"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.soundness.mutants import campaign

TABLE = Path("benchmarks/results/suite_mutants.csv")


def main(arguments: list[str] | None = None) -> int:
    """Run or continue the campaign; returns its exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.soundness.mutants")
    parser.add_argument("suite", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=TABLE)
    parser.add_argument("--cache", type=Path, default=Path("build/suite_mutants.json"))
    parser.add_argument("--names", nargs="*", default=[])
    parser.add_argument("--family", nargs="*", default=[])
    parser.add_argument("--again", action="store_true", help="also mutants that have a row")
    parser.add_argument("--family-seconds", type=float, default=20.0)
    options = parser.parse_args(arguments)
    options.cache.parent.mkdir(parents=True, exist_ok=True)
    budget = campaign.Budget(options.family_seconds)
    campaign.run_engines(options.suite, options.out, options.cache, budget, options.names, options.again, options.family)
    return 0


if __name__ == "__main__":
    sys.exit(main())
