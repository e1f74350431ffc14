"""The relaxation table: one atom each of five networks, bounded by every method.

    OMP_NUM_THREADS=1 python -m benchmarks.relaxations [--timeout S] [--out CSV] [--picture SVG]

Resumable: networks that are in the table are not run again. The picture is drawn from the table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks import table
from benchmarks.instances import DataError, Instance, default_folder, read_instances
from graph.load import load
from specs.vnnlib import read
from verifier.problem import compile_problem
from verifier.relaxation_picture import picture
from verifier.relaxations import Row, Table, compare

ROOT = Path(__file__).resolve().parents[1]
SUBJECTS = (  # category, network, property: deep and narrow, one hidden layer, many inputs, hidden bounds far from exact, sigmoids
    ("acasxu", "ACASXU_run2a_4_9_batch_2000.onnx", "prop_4.vnnlib"),
    ("safenlp", "perturbations_0.onnx", "hyperrectangle_92.vnnlib"),
    ("mnist_fc", "mnist-net_256x2.onnx", "prop_9_0.03.vnnlib"),
    ("reach_prob_density", "vdp.onnx", "vdp_11.vnnlib"),
    ("dist_shift", "mnist_concat.onnx", "index9586_delta0.13.vnnlib"),
)
COLUMNS = (
    "network", "property", "case", "atom", "text", "inputs", "undecided", "execution", "prepared_seconds", "method", "bound", "claimed", "gap",
    "seconds", "note",
)


def lines(name: str, prop: str, table: Table) -> list[dict[str, str]]:
    """One line of the CSV per method; a bound that does not exist is empty."""
    common = {
        "network": name, "property": prop, "case": str(table.case), "atom": str(table.atom), "text": table.text, "inputs": str(table.inputs),
        "undecided": str(table.hidden), "execution": repr(table.execution), "prepared_seconds": f"{table.prepared:.3f}",
    }
    return [
        {
            **common, "method": row.method, "bound": _written(row.bound), "claimed": _written(row.claimed), "gap": _written(table.gap(row)),
            "seconds": f"{row.seconds:.3f}", "note": row.note,
        }
        for row in table.rows
    ]


def tables(found: Iterable[Mapping[str, str]]) -> dict[str, Table]:
    """The tables of a CSV, by network."""
    by_network: dict[str, list[Mapping[str, str]]] = {}
    for line in found:
        by_network.setdefault(line["network"], []).append(line)
    return {name: _table(part) for name, part in by_network.items()}


def _table(part: list[Mapping[str, str]]) -> Table:
    first = part[0]
    rows = tuple(Row(p["method"], _number(p["bound"]), float(p["seconds"]), _number(p["claimed"]), p["note"]) for p in part)
    return Table(
        int(first["case"]), int(first["atom"]), first["text"], int(first["inputs"]), int(first["undecided"]), rows, float(first["execution"]),
        float(first["prepared_seconds"]),
    )


def _written(value: float | None) -> str:
    return "" if value is None else repr(value)


def _number(text: str) -> float | None:
    return float(text) if text else None


def read_table(path: Path) -> list[dict[str, str]]:
    """The lines of a table that is there already. Raises DataError where it is another table."""
    return table.read(path, COLUMNS)


def write_table(path: Path, found: list[dict[str, str]]) -> None:
    """All of it."""
    table.write(path, COLUMNS, found)


def subjects() -> list[Instance]:
    """The instances of `SUBJECTS`, in that order. Raises DataError where one is missing."""
    known = {(i.category, Path(i.network).name, Path(i.property_path).name): i for i in read_instances(default_folder())}
    missing = [" ".join(key) for key in SUBJECTS if key not in known]
    if missing:
        raise DataError(f"the data folder lacks {', '.join(missing)}")
    return [known[key] for key in SUBJECTS]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.relaxations", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds for each solver")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/relaxations.csv")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/relaxations.svg")
    options = parser.parse_args(arguments)
    try:
        found = read_table(options.out)
        for instance in subjects():
            name, prop = f"{instance.category} {Path(instance.network).stem}", Path(instance.property_path).stem
            if any(line["network"] == name for line in found):
                continue
            print(f"{name} {prop}", file=sys.stderr, flush=True)
            network, property_file = instance.files()
            table = compare(compile_problem(load(network).graph, read(property_file)), options.timeout)
            found += lines(name, prop, table)
            write_table(options.out, found)
    except DataError as error:
        print(error, file=sys.stderr)
        return 3
    options.picture.parent.mkdir(parents=True, exist_ok=True)
    options.picture.write_text(picture(tables(found)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
