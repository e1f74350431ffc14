"""The table on disk: examined an operator at a time."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import fields
from pathlib import Path

from benchmarks import table
from benchmarks.conformance import page
from benchmarks.conformance.cases import Case, collect
from benchmarks.conformance.examine import Row, examine
from benchmarks.instances import DataError

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "benchmarks/results/conformance.csv"
COLUMNS = tuple(field.name for field in fields(Row))


def by_operator() -> dict[str, list[Case]]:
    """All cases of every operator."""
    found: dict[str, list[Case]] = {}
    for case in collect():
        found.setdefault(case.operator, []).append(case)
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conformance", description="Every operator case of the onnx package.")
    parser.add_argument("--operator", action="append", default=[], metavar="NAME", help="examine (again) this operator only; may be repeated")
    parser.add_argument("--again", action="store_true", help="examine all operators again")
    parser.add_argument("--samples", type=int, default=1000, help="points of every box")
    parser.add_argument("--table", type=Path, default=TABLE, help="the CSV file")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/operators.md", help="the page")
    options = parser.parse_args(arguments)
    cases = by_operator()
    unknown = set(options.operator) - cases.keys()
    if unknown or options.samples < 1:
        parser.error(f"no cases of {', '.join(sorted(unknown))}" if unknown else "--samples must be positive")
    try:
        found = [] if options.again and not options.operator else table.read(options.table, COLUMNS)
    except DataError as error:
        print(error, file=sys.stderr)
        return 3
    done = {line["operator"] for line in found}
    for operator in options.operator or [name for name in cases if name not in done]:
        began = time.process_time()
        new = [examine(case, options.samples).line() for case in cases[operator]]
        kept = [line for line in found if line["operator"] != operator]
        found = sorted(kept + new, key=lambda line: (line["operator"], line["expanded"], line["case"]))
        table.write(options.table, COLUMNS, found)
        print(page.sentence(operator, new), f"({time.process_time() - began:.1f} s)", file=sys.stderr, flush=True)
    options.out.write_text(page.page(found), encoding="utf-8")
    return 1 if any(line["outcome"] in ("wrong", "error") or line["checker"] in ("wrong", "error") for line in found) else 0
