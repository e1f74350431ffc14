"""The page of a score, in a real browser: what a lying verifier said is shown with its counterexample, and nothing that it prints is run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.soundness import page
from benchmarks.soundness.report import Report
from benchmarks.soundness.suite import run_suite
from tests.benchmarks.soundness.run_support import suite
from tests.browser import browser

HOSTILE = "</p><script>document.title='owned'</script><img src=x onerror=alert(1)>"
TABLES = "return [...document.querySelectorAll('.scroll table')].map(t => [...t.rows].map(r => [...r.cells].map(c => c.textContent)));"


def liar(model: str, prop: str, timeout: float) -> tuple[str, list[float] | None]:
    """Whatever it is asked, it says that the property holds."""
    return "unsat", None


def written(folder: Path, report: Report) -> Path:
    path = folder / "score.html"
    path.write_text(page.to_html(report), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("page")
    suite(folder / "suite")
    return run_suite(liar, folder / "suite", timeout=20.0)


@pytest.mark.slow
def test_the_page_in_a_browser(scored: Report, tmp_path: Path) -> None:
    named = replace(scored, modes={name: HOSTILE for name in scored.modes})
    with browser(tmp_path, written(tmp_path, named), 1280) as shown:
        fatal = scored.fatal
        assert len(fatal) >= 2 and shown.run("return document.title") == f"Soundness: {len(fatal)} fatal"
        assert shown.run("return document.querySelectorAll('script, img').length") == 0
        assert shown.run("return document.querySelector('h2 + p').textContent") == HOSTILE
        names = shown.run("return [...document.querySelectorAll('article:not(.note) h3')].map(h => h.firstChild.textContent.trim())")
        assert sorted(names) == sorted(outcome.entry.name for outcome in fatal)
        text = shown.run("return document.querySelector('article').textContent")
        assert all(part in text for part in ("false-unsat", "Replayed", "violates", "Outputs, exact", "Outputs, onnxruntime"))
        by_family, by_operator = shown.run(TABLES)
        column = by_family[0].index("false unsat")
        assert by_family[-1][0] == "total" and int(by_family[-1][column]) == len(fatal)
        assert {row[0] for row in by_operator[1:]} == {operator for o in scored.outcomes for operator in o.entry.operators}
        assert [entry["message"] for entry in shown.call("/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"] == []


@pytest.mark.slow
def test_a_narrow_window_scrolls_its_tables_only(scored: Report, tmp_path: Path) -> None:
    with browser(tmp_path, written(tmp_path, scored), 360) as shown:
        assert shown.run("return document.documentElement.scrollWidth <= window.innerWidth")
        shown.media("print")
        assert shown.run("return [...document.querySelectorAll('article')].every(a => a.getBoundingClientRect().height > 50)")


def test_the_page_is_one_file(scored: Report) -> None:
    """Nothing is loaded from elsewhere, and what a verifier is called is text."""
    text = page.to_html(replace(scored, modes={name: HOSTILE for name in scored.modes}))
    assert "<script" not in text and "src=" not in text.replace("src=x", "") and "http" not in text
    assert json.dumps(len(scored.fatal)) + " fatal" in text
