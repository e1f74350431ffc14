"""`soundproof relaxations`: the table for people, and its files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from graph.load import load
from specs.vnnlib import read
from verifier.fit import check_fit
from verifier.problem import compile_problem
from verifier.relaxation_picture import picture
from verifier.relaxations import Row, Table, compare


def report(model: str, prop: str, seconds: float, case: int | None, json_path: str | None, picture_path: str | None) -> None:
    """Compare the relaxations, print the table on standard output, write the files. Raises ModelError, PropertyError, NothingToBound, OSError."""
    network, meant = load(model), read(prop)
    check_fit(network, meant)
    problem = compile_problem(network.graph, meant)
    table = compare(problem, seconds, case)
    show(table, Console(file=sys.stdout))
    if json_path is not None:
        Path(json_path).write_text(json.dumps(table.to_json(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if picture_path is not None:
        Path(picture_path).write_text(picture({Path(model).name: table}), encoding="utf-8")


def show(table: Table, console: Console) -> None:
    """Print the table, what it speaks of above and the reasons for missing bounds below."""
    rich = RichTable(title=f"case {table.case}, atom {table.atom}: unsafe where {table.text}", title_justify="left")
    rich.add_column("method")
    for column in ("bound of the margin", "gap", "seconds"):
        rich.add_column(column, justify="right")
    for row in table.rows:
        rich.add_row(row.method, _number(row.bound), _number(table.gap(row)), f"{row.seconds:.2f}")
    console.print(f"{table.inputs} inputs vary, {table.hidden} neurons are undecided", highlight=False, soft_wrap=True)
    console.print(rich)
    console.print(_reference(table), highlight=False, soft_wrap=True)
    for row in table.rows:
        if row.note:
            console.print(f"{row.method}: {row.note}{_claim(row)}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"bounds of the hidden layers, which CROWN and all below start from: {table.prepared:.2f} s", highlight=False, soft_wrap=True)


def _reference(table: Table) -> str:
    execution = f"the smallest margin that an execution reached is {table.execution:.6g}"
    known = "gaps are to the exact value" if table.exact is not None else "gaps are to that"
    return f"{execution}; {known}. A positive bound refutes the case; every bound is rigorous but the exact value, which has a tolerance."


def _claim(row: Row) -> str:
    return "" if row.claimed is None or row.claimed == row.bound else f"; the solver claims {row.claimed:.6g}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
