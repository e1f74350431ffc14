"""The table of measured activations: how rows are made of cells, and what is committed."""

from __future__ import annotations

import itertools
import json

import numpy as np

from benchmarks import kernels
from verifier.checker import measured


def test_cells_cover_all_floats_without_a_gap() -> None:
    order = [*range(2047, 1023, -1), *range(1024)]
    finite = [kernels.edges(cell) for cell in order if np.isfinite(kernels.inputs(cell)).any()]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(finite))
    assert finite[0][0] == -finite[-1][1] == -float(np.finfo(np.float32).max)
    for cell in (0, 1, 500, 1019, 1024, 1500):
        x = kernels.inputs(cell)
        low, high = kernels.edges(cell)
        assert low <= float(x[np.isfinite(x)].min()) and float(x[np.isfinite(x)].max()) <= high


def test_rows_hold_the_errors_of_their_cells_and_say_where_there_is_no_result() -> None:
    cells = np.zeros(kernels.CELLS, kernels.CELL)
    used = [300, 301, 302, 400]
    cells["inputs"][used] = 1
    cells["relative"][used] = [1e-7, 1.5e-7, 1.0, 1e-7]
    cells["absolute"][used] = [1e-9, 1e-9, 1e-3, 1e-9]
    found = kernels.rows(cells)
    assert [row[2:] for row in found[:2]] == [[kernels.FACTOR * 1.5e-7 + kernels.REFERENCE, 0.0], [kernels.REFERENCE, kernels.FACTOR * 1e-3]]
    assert found[2][2:] == [0.0, 2.0**127]  # between the cells
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))


def test_the_committed_table_is_complete_and_without_gaps() -> None:
    tables = json.loads(measured.FILE.read_text(encoding="utf-8"))["tables"]
    assert tables
    for table in tables:
        assert {"sigmoid", "tanh", "exp", "log", "erf", "sin", "cos", "softplus"} <= table["kernels"].keys()
        for kernel in table["kernels"].values():
            rows = np.array(kernel["rows"])
            assert (rows[1:, 0] == rows[:-1, 1]).all() and (rows[:, 0] < rows[:, 1]).all()
            assert np.isfinite(rows).all() and (rows[:, 2:] >= 0).all()
