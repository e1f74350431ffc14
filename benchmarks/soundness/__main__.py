"""python -m benchmarks.soundness build --out DIR [--seed N] [--family NAME ...]"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.soundness.build import FAMILIES, build
from benchmarks.soundness.instance import SuiteError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 when the suite is written, 4 when an instance is not what it claims."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soundness")
    build_it = parser.add_subparsers(dest="command", required=True).add_parser("build", help="write a suite of instances with known truth")
    build_it.add_argument("--out", type=Path, required=True)
    build_it.add_argument("--seed", type=_seed, default=1)
    build_it.add_argument("--family", action="append", choices=[family.name for family in FAMILIES])
    asked = parser.parse_args(arguments)
    try:
        entries = build(asked.out, asked.seed, asked.family)
    except SuiteError as error:
        print(f"error: {error}", file=sys.stderr)
        return 4
    for (family, truth), count in sorted(Counter((entry.family, entry.real) for entry in entries).items()):
        print(f"{family:12} {truth:8} {count:5}")
    print(f"{len(entries)} instances in {asked.out}")
    return 0


def _seed(text: str) -> int:
    """A whole number that is not negative; argparse names what raises ValueError."""
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    sys.exit(main())
