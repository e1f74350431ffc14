"""acasxu's prop_3 and prop_4 by the SMT engine alone: python -m benchmarks.exact.acasxu_smt [--seconds N] [--most N] [--output FILE]

Every instance that is known to be unsat, one after another in this process. Nothing is certified: the table says what decided, boxes that
linear bounds closed and boxes that z3 closed. Rows that are there already are kept, so that a run can be taken up again.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from dataclasses import fields
from pathlib import Path

from benchmarks.instances import Instance, default_folder, read_instances
from graph.load import load
from specs.vnnlib import read
from verifier.encode_smt import Tally, decide
from verifier.exact_search import question
from verifier.problem import compile_problem

OUTPUT = Path(__file__).resolve().parents[1] / "results" / "exact_acasxu.csv"
PROPERTIES = ("prop_4.vnnlib", "prop_3.vnnlib")
COUNTS = [field.name for field in fields(Tally)]
COLUMNS = ["network", "property", "verdict", "reason", "seconds", "cpu_seconds", *COUNTS]
BLOCK = 1 << 26  # bytes of one block of coefficients


def run(instance: Instance, seconds: float) -> dict[str, object]:
    """One row."""
    network, text = instance.files()
    problem = compile_problem(load(network).graph, read(text))
    began, cpu = time.monotonic(), time.process_time()
    answer, tally = decide(question(problem, 0, BLOCK), seconds)
    times = {"seconds": round(time.monotonic() - began, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    return {
        "network": Path(instance.network).name, "property": Path(instance.property_path).name, "verdict": answer.verdict, "reason": answer.reason,
        **times, **{name: getattr(tally, name) for name in COUNTS},
    }  # fmt: skip


def main() -> int:
    """The table. 1 where an instance that is unsat is said to be sat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--most", type=int, default=10**6)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args()
    unsat = [i for i in read_instances(default_folder()) if i.category == "acasxu" and i.label == "unsat"]
    wanted = [i for name in PROPERTIES for i in unsat if Path(i.property_path).name == name]
    rows = list(csv.DictReader(given.output.open(encoding="utf-8"))) if given.output.exists() else []
    done = {(row["network"], row["property"]) for row in rows}
    left = [i for i in wanted if (Path(i.network).name, Path(i.property_path).name) not in done]
    with given.output.open("a", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if not rows:
            table.writeheader()
        for instance in left[: given.most]:
            row = run(instance, given.seconds)
            table.writerow(row)
            file.flush()
            print(row, flush=True)
            if row["verdict"] == "sat":
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
