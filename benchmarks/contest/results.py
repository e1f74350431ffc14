"""Reads the results.csv of any tool and any year: category, network, property, prepare seconds, result, run seconds; no header.

Tools and years write the same instance in different ways (`./onnx/a.onnx`, `acasxu/onnx/a.onnx`, `../benchmarks/acasxu/1.0/onnx/a.onnx.gz`) and the
same answer in different words. Beside a table that `soundproof bench run` wrote lies FILE.jsonl, which also says what became of each witness.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from benchmarks.contest.layout import REPEATED, VERSION, parse_networks
from benchmarks.formula import decompressed
from benchmarks.instances import DataError
from benchmarks.ledger import read_records, record_key, side_file

DECIDED = ("sat", "unsat")
EXACT = {"sat": "sat", "violated": "sat", "unsat": "unsat", "holds": "unsat", "": "unknown", "unknown": "unknown", "no_result_in_file": "unknown"}
BEGINNINGS = {"timeout": "timeout", "timed-out": "timeout", "run_instance_timeout": "timeout", "prepare_instance_timeout": "timeout",
              "prepare_instance_error": "unknown", "error_nonmaximal": "unknown", "error": "error"}
WARM_UP = "test"  # the organisers' own category, and its instances at the head of every other
YEAR = re.compile(r"(?:19|20)\d\d_")


@dataclass(frozen=True, order=True)
class InstanceKey:
    """An instance as all tools know it: paths below the category's folder, without `.gz`; `occurrence` as in `layout.Question`."""

    category: str
    network: str
    property: str
    occurrence: int = 1

    def __str__(self) -> str:
        repeated = f" (line {self.occurrence} of the same)" if self.occurrence > 1 else ""
        return f"{PurePosixPath(self.network).name} {PurePosixPath(self.property).name}{repeated}"


@dataclass(frozen=True)
class Said:
    """What a tool said of an instance: a word of VNN-COMP and its seconds.

    `witness` is what a judge made of its witness (see `witness.Kind`), None where none has judged; `limit` the seconds it had, where that is known.
    """

    result: str
    seconds: float
    witness: str | None = None
    limit: float | None = None


@dataclass(frozen=True)
class ToolTable:
    """All that one tool said. `warm_up` counts the rows that were left out because they are the organisers' test instances."""

    tool: str
    said: Mapping[InstanceKey, Said]
    warm_up: int = 0


def read_tool(path: Path, tool: str | None = None) -> ToolTable:
    """Read a results.csv or results.csv.gz. Raises DataError."""
    try:
        rows = list(csv.reader(io.StringIO(decompressed(path).decode("utf-8"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    details = {} if path.suffix == ".gz" or not side_file(path, "jsonl").exists() else {record_key(r): r for r in read_records(path)}
    said: dict[InstanceKey, Said] = {}
    seen, warm_up = Counter[tuple[str, str, str]](), 0
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        answer = _answer(row, f"{path}, line {number}")
        if row[0] == WARM_UP or PurePosixPath(row[1]).parts[:1] == (WARM_UP,):
            warm_up += 1
            continue
        record = details.get((row[0], row[1], row[2]), {})
        prop, _, repeated = row[2].partition(REPEATED)
        files = (category_name(row[0]), normal_network(row[0], row[1]), normal_path(row[0], prop))
        seen[files] += 1
        key = InstanceKey(*files, int(repeated) if repeated.isdecimal() else seen[files])
        said[key] = Said(*answer, _witness(record), record.get("limit"))
    return ToolTable(tool or default_name(path), said, warm_up)


def read_tools(names: list[str]) -> list[ToolTable]:
    """Tables given as PATH or NAME=PATH. Raises DataError, also where two tools have one name."""
    tables = []
    for text in names:
        name, sign, path = text.partition("=")
        tables.append(read_tool(Path(path), name) if sign and not Path(text).exists() else read_tool(Path(text)))
    doubled = [name for name, count in Counter(t.tool for t in tables).items() if count > 1]
    if doubled:
        raise DataError(f"two tables are of a tool {doubled[0]}; name them: A=FILE B=FILE")
    return tables


def restrict(tables: list[ToolTable], categories: Sequence[str]) -> list[ToolTable]:
    """The same tables with these benchmarks alone. Raises DataError for one that no table has."""
    known = {key.category for t in tables for key in t.said}
    if unknown := [c for c in categories if c not in known]:
        raise DataError(f"no table has a benchmark {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return [ToolTable(t.tool, {k: s for k, s in t.said.items() if k.category in categories}, t.warm_up) for t in tables]


def default_name(path: Path) -> str:
    """The tool's name in a table's path: of `pyrat/results.csv` the folder's, otherwise the file's."""
    stem = path.name.removesuffix(".gz").removesuffix(".csv")
    return path.resolve().parent.name if stem == "results" else stem


def category_name(text: str) -> str:
    """Without the year that some competitions put before it."""
    return YEAR.sub("", text, count=1) if YEAR.match(text) else text


def normal_path(category: str, text: str) -> str:
    """The path below the category's folder (and below its folder of a VNN-LIB version), without `.gz`."""
    parts = [part for part in PurePosixPath(text.strip()).parts if part not in (".", "..", "/")]
    for name in (category, category_name(category)):
        if name in parts[:-1]:
            parts = parts[parts.index(name) + 1 :]
    if len(parts) > 1 and VERSION.fullmatch(parts[0]):
        parts = parts[1:]
    return "/".join(parts).removesuffix(".gz")


def normal_network(category: str, field: str) -> str:
    """The same of a network field; of several networks joined by `+`."""
    return "+".join(normal_path(category, path) for _, path in parse_networks(field))


def word(text: str) -> str | None:
    """A result as sat, unsat, unknown, timeout or error; None for a word that no competition has used. `sat` and `unsat` only as whole words."""
    text = text.strip().lower()
    return EXACT[text] if text in EXACT else next((short for beginning, short in BEGINNINGS.items() if text.startswith(beginning)), None)


def _witness(record: Mapping[str, Any]) -> str | None:
    """What was made of a witness: by `bench run`, or by `benchmarks.vnncomp`, which knows violated and not."""
    if record.get("witness"):
        return str(record["witness"]["kind"])
    return None if "replay" not in record else "correct" if record["replay"]["violated"] is True else "invalid"


def _answer(row: list[str], where: str) -> tuple[str, float]:
    found = word(row[4]) if len(row) == 6 else None
    try:
        if found is None:
            raise ValueError
        return found, float(row[5])
    except ValueError:
        raise DataError(f"{where}: not a row of results (category, network, property, seconds, result, seconds): {','.join(row)[:120]}") from None
