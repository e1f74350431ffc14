"""A table as a CSV file that a resumable benchmark writes whole, after each of its lines."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.instances import DataError


def read(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The lines of a table that is there already. Raises DataError where it is another table."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != tuple(columns):
            raise DataError(f"{path}: it has other columns than {', '.join(columns)}; remove it or name another file with --out")
        return list(reader)


def write(path: Path, columns: Sequence[str], lines: Iterable[Mapping[str, str]]) -> None:
    """The old table stands until the new one is whole."""
    part = path.with_name(path.name + ".part")
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    part.replace(path)
