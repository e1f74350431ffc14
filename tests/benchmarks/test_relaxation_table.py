"""The relaxation table: what is written is read back, the committed picture is that of the committed table, and its bounds are in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.instances import DataError
from benchmarks.relaxations import COLUMNS, ROOT, SUBJECTS, lines, read_table, tables, write_table
from verifier.relaxation_picture import picture
from verifier.relaxations import Row, Table

COMMITTED = ROOT / "benchmarks/results/relaxations.csv"


def test_a_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    rows = (Row("interval", -1 / 3, 0.125), Row("LP", 0.1, 2.0, 0.2, 'a note, with "signs"'), Row("SDP", None, 0.0, note="too large"))
    table = Table(1, 2, "Y[0] <= 1", 3, 4, rows, 1e-300, 0.5)
    write_table(tmp_path / "t.csv", lines("n", "p", table))
    assert tables(read_table(tmp_path / "t.csv")) == {"n": table}
    assert read_table(tmp_path / "none.csv") == []
    (tmp_path / "t.csv").write_text(",".join(COLUMNS[1:]) + "\n")
    with pytest.raises(DataError, match="other columns"):
        read_table(tmp_path / "t.csv")


def test_the_committed_picture_is_that_of_the_committed_table() -> None:
    found = tables(read_table(COMMITTED))
    assert len(found) == len(SUBJECTS)
    assert (ROOT / "docs/relaxations.svg").read_text(encoding="utf-8") == picture(found)


def test_the_committed_bounds_are_in_order_and_below_every_execution() -> None:
    for name, table in tables(read_table(COMMITTED)).items():
        bounds = {row.method: row.bound for row in table.rows if row.bound is not None}
        order = [bounds[m] for m in ("CROWN", "alpha-CROWN", "LP", "SDP", "exact") if m in bounds]
        assert order == sorted(order) and bounds["interval"] < bounds["LP"] <= table.execution, name
        assert table.exact is None or table.exact <= table.execution + 1e-6
