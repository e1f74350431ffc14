"""Parquet tables (pyarrow, the extra `tables`) as texts: numbers as the shortest decimals that read back to the same."""

from __future__ import annotations

from pathlib import Path

import pyarrow
from pyarrow import parquet

from benchmarks.certify.errors import InputError


def read(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows. Raises InputError."""
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet table: {error}") from error
    columns = [["" if value is None else _text(value) for value in column.to_pylist()] for column in table.columns]
    return list(table.column_names), [list(row) for row in zip(*columns, strict=True)]


def _text(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(value)
