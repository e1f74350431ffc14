"""The table of growing costs: its points are measured on the networks that they describe, and the committed page is that of the committed table."""

from __future__ import annotations

import pytest

from benchmarks import growth, table
from benchmarks.growth import COLUMNS, ROOT, Point
from graph.core import Elementwise
from graph.load import load


def test_the_networks_are_as_described() -> None:
    dense = load(growth.network(Point("dense", "depth", 32, 3))).graph
    image = load(growth.network(Point("convolutional", "depth", 4, 2))).graph
    assert [node.size for _, node in dense if isinstance(node, Elementwise)] == [32, 32, 32]
    assert [node.size for _, node in image if isinstance(node, Elementwise)] == [4 * 16 * 16] * 2


def test_a_point_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SECONDS", 0.0)
    monkeypatch.setattr(growth, "SQUARE", 64)
    line = growth.measure(Point("dense", "rows", 16, 2, 3, 2))
    assert tuple(line) == COLUMNS and line["neurons"] == "32" and 0 < int(line["undecided"]) <= 32
    assert growth.ratio(line) > 1 and int(line["flops"]) > 0


def test_the_committed_page_is_that_of_the_committed_table() -> None:
    lines = table.read(ROOT / "benchmarks/results/growth.csv", COLUMNS)
    assert {tuple(line[name] for name in COLUMNS[:6]) for line in lines} == {point.key for point in growth.points()}
    assert (ROOT / "docs/growth.md").read_text(encoding="utf-8") == growth.page(lines)
