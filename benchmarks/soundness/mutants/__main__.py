"""python -m benchmarks.soundness.mutants SUITE [--engines|--checkers] [--names ...] [--again] | --report docs/soundness_mutants.md"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.soundness.instance import read
from benchmarks.soundness.mutants import campaign, forging, report

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
    parser.add_argument("--second-line", action="store_true", help="nothing but: what comes out where killed engines lied, with checker and judge")
    parser.add_argument("--family-seconds", type=float, default=4.0)
    parser.add_argument("--forge-seconds", type=float, default=60.0)
    parser.add_argument("--engines", action="store_true", help="of engines only")
    parser.add_argument("--checkers", action="store_true", help="of checkers only")
    parser.add_argument("--report", type=Path, help="write the page of the documentation instead of running anything")
    options = parser.parse_args(arguments)
    if options.report is not None:
        options.report.write_text(report.page(campaign.rows(options.out)), encoding="utf-8")
        return 0
    if options.suite is None:
        parser.error("a suite is needed: `soundproof soundness build --out SUITE` makes one")
    options.cache.parent.mkdir(parents=True, exist_ok=True)
    budget = campaign.Budget(options.family_seconds)
    if options.second_line:
        campaign.ask_second_line(options.suite, options.out, options.cache, budget.limits, options.names)
        return 0
    if not options.checkers:
        campaign.run_engines(options.suite, options.out, options.cache, budget, options.names, options.again, options.family)
    if not options.engines:
        forging.run_checkers(read(options.suite), options.out, options.forge_seconds, options.names, options.again)
    return 0


if __name__ == "__main__":
    sys.exit(main())
