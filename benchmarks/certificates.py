"""What certificates cost, as a page (`make bench-certificates` writes docs/certificates.md): sizes, times and memory of their checks.

Sizes and times are those of the table's rows that are certified. With `--memory N`, N of them in each category, the largest, are proven
and checked again, to compare the peak resident memory of the checker with that of the whole run (the larger of engine and checker).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.instances import Instance, default_folder, read_instances
from benchmarks.ledger import Record, read_records

LEAST_SECONDS = 1.5  # the start of a process counts as this much search
MB = 1e6
TIMEOUT = 120


def main() -> int:
    """Write the page; 0 if every check took at most three times its search, and no checker more memory than its run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.certificates", description=__doc__)
    parser.add_argument("table", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="instances of each category to prove and check again")
    options = parser.parse_args()
    records = [r for r in read_records(options.table) if r["assurance"] == "certified"]
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[record["category"]].append(record)
    peaks = _peaks(groups, options.memory)
    options.out.write_text("\n".join(_page(options.table, records, groups, peaks)) + "\n", encoding="utf-8")
    slow = [r for r in records if ratio(r) > 3]
    heavy = [p for p in peaks if p["checker"] > p["run"]]
    for record in slow:
        print(f"check takes {ratio(record):.1f} times the search: {record['network']} {record['property']}", file=sys.stderr)
    return 1 if slow or heavy else 0


def ratio(record: Record) -> float:
    """Seconds of the checks (all of them, where a proof was mended) per second of search."""
    seconds = record["seconds"]
    return float(seconds["check"] / max(LEAST_SECONDS, seconds["search"]))


def _page(table: Path, records: list[Record], groups: dict[str, list[Record]], peaks: list[dict[str, Any]]) -> list[str]:
    ratios = [ratio(r) for r in records]
    lines = [
        "# What certificates cost", "",
        f"From `{table}` by `python -m benchmarks.certificates`: {len(records)} certified instances. A check takes at median "
        f"{statistics.median(ratios):.2f} and at most {max(ratios):.2f} times max({LEAST_SECONDS} s, search). All checks of a run count: "
        "where a proof was mended there are several.", "",
        "| category | certified | kB, median | kB, largest | check s, median | check s, longest | check / search, largest |",
        "|---|---|---|---|---|---|---|",
    ]
    for category, rows in sorted(groups.items()):
        sizes, checks = [r["certificate"]["bytes"] / 1e3 for r in rows], [r["seconds"]["check"] for r in rows]
        lines.append(
            f"| {category} | {len(rows)} | {statistics.median(sizes):.1f} | {max(sizes):.1f} | {statistics.median(checks):.2f} | {max(checks):.1f} | "
            f"{max(map(ratio, rows)):.2f} |"
        )
    if peaks:
        lines += ["", "Peak resident memory, MB: the checker alone, and the whole run (the larger of engine and checker).", "",
                  "| category | network | property | checker | run |", "|---|---|---|---|---|"]
        lines += [f"| {p['category']} | {p['network']} | {p['property']} | {p['checker'] / MB:.0f} | {p['run'] / MB:.0f} |" for p in peaks]
    return lines


def _peaks(groups: dict[str, list[Record]], count: int) -> list[dict[str, Any]]:
    instances = {i.key: i for i in read_instances(default_folder())} if count else {}
    found = []
    for _, rows in sorted(groups.items()):
        for record in sorted(rows, key=lambda r: -r["certificate"]["bytes"])[:count]:
            instance = instances[record["category"], record["network"], record["property"]]
            measured = _measure(instance)
            if measured is not None:
                found.append(measured)
            print(f"{instance.name}: {measured}", file=sys.stderr, flush=True)
    return found


def _measure(instance: Instance) -> dict[str, Any] | None:
    """Peaks in bytes; None where the run does not end certified in time."""
    with tempfile.TemporaryDirectory(prefix="soundproof-certificates-") as folder:
        model, prop = map(str, instance.files())
        certificate, result = os.path.join(folder, "certificate"), os.path.join(folder, "json")
        verify = ["-m", "soundproof", "verify", model, prop, "--quiet", "--timeout", str(TIMEOUT), "--threads", "1"]
        _run([*verify, "--certificate", certificate, "--json", result])
        plain = json.loads(Path(result).read_text(encoding="utf-8"))
        if plain["assurance"] != "certified":
            return None
        peak = _run(["-I", "-m", "verifier.checker", model, prop, certificate])
    return {
        "category": instance.category, "network": Path(instance.network).name, "property": Path(instance.property_path).name,
        "checker": peak, "run": max(plain["peak_memory_bytes"], 0),
    }


def _run(arguments: list[str]) -> int:
    """Run Python with these arguments; its own peak resident bytes."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], dict(os.environ), file_actions=null)
    _, _, usage = os.wait4(child, 0)
    return int(usage.ru_maxrss) * 1024


if __name__ == "__main__":
    sys.exit(main())
