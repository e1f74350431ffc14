"""The page about what certificates cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import certificates


def record(search: float, check: float, assurance: str = "certified") -> str:
    facts = {"category": "a", "network": "onnx/n.onnx", "property": f"vnnlib/{search}-{check}.vnnlib", "assurance": assurance}
    return json.dumps({**facts, "certificate": {"bytes": 2000}, "seconds": {"search": search, "check": check}})


@pytest.mark.parametrize(("slowest", "code"), [(30.0, 0), (31.0, 1)])
def test_a_check_that_takes_more_than_three_times_its_search_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], slowest: float, code: int
) -> None:
    table, page = tmp_path / "t.csv", tmp_path / "page.md"
    rows = (record(0.1, 1.5), record(10.0, slowest), record(0.0, 99.0, "replayed"))
    (tmp_path / "t.csv.jsonl").write_text("".join(f"{row}\n" for row in rows))
    monkeypatch.setattr("sys.argv", ["certificates", str(table), "--out", str(page)])
    assert certificates.main() == code
    assert ("check takes 3.1 times the search" in capsys.readouterr().err) == bool(code)
    assert "2 certified instances" in page.read_text() and f"| a | 2 | 2.0 | 2.0 | {(1.5 + slowest) / 2:.2f} | {slowest:.1f} |" in page.read_text()
