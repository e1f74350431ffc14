"""safenlp by the MILP engine, whose word is taken, and by default: python -m benchmarks.exact.safenlp [--seconds N] [--output FILE]

Every instance of the folder twice, as processes of their own with one thread, one after another. `seconds` is wall-clock time and says little
where the machine was busy (`load` is its load average); `cpu_seconds` are those of the processes. Rows that are there already are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.instances import Instance, default_folder, read_instances

OUTPUT = Path(__file__).resolve().parents[1] / "results" / "exact_safenlp.csv"
WAYS = {"milp": ["--engine", "milp", "--trust", "milp"], "default": []}
COLUMNS = ["network", "property", "label", "way", "verdict", "assurance", "nodes", "reason", "seconds", "cpu_seconds", "load"]
GRACE = 30.0  # seconds after the limit, then the process is stopped


def run(instance: Instance, way: str, seconds: float) -> dict[str, object]:
    """One row."""
    network, text = instance.files()
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told.json"
        command = [sys.executable, "-P", "-m", "soundproof", "verify", str(network), str(text), *WAYS[way], "--timeout", f"{seconds:g}"]
        began, cpu = time.monotonic(), _children()
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([*command, "--threads", "1", "--json", str(told)], capture_output=True, timeout=seconds + GRACE, check=False)
        result = json.loads(told.read_text(encoding="utf-8")) if told.exists() else {"verdict": "error", "assurance": "", "nodes": ""}
    return {
        "network": Path(instance.network).name, "property": Path(instance.property_path).name, "label": instance.label, "way": way,
        "verdict": result["verdict"], "assurance": result["assurance"], "nodes": result["nodes"],
        "reason": (result.get("reason") or {}).get("code") or "", "seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(_children() - cpu, 1), "load": round(os.getloadavg()[0], 1),
    }  # fmt: skip


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """The table. 1 where a verdict contradicts the label."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    rows = list(csv.DictReader(given.output.open(encoding="utf-8"))) if given.output.exists() else []
    done = {(row["network"], row["property"], row["way"]) for row in rows}
    with given.output.open("a", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not rows:
            table.writeheader()
        for instance in [i for i in read_instances(default_folder()) if i.category == "safenlp"]:
            for way in WAYS:
                if (Path(instance.network).name, Path(instance.property_path).name, way) not in done:
                    row = run(instance, way, given.seconds)
                    table.writerow(row)
                    file.flush()
                    print(*row.values(), flush=True)
                    if {row["verdict"], instance.label} == {"sat", "unsat"}:
                        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
