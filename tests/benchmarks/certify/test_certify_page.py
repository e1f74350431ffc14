"""The report in its forms; the page in a real browser (Debian's chromium; `make test-all` installs it), driven over W3C WebDriver."""

from __future__ import annotations

import base64
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks.certify import charts, tables
from benchmarks.certify.charts import Line
from tests.benchmarks.certify import campaigns
from tests.benchmarks.certify.campaigns import soundproof
from tests.browser import Browser, browser

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A campaign over small images, one with a hostile name; a gate that fails."""
    folder = tmp_path_factory.mktemp("page")
    model, data = campaigns.write_random(folder, 5)
    arrays = dict(np.load(data).items())
    np.savez(data, **arrays, ids=[HOSTILE, *"bcde"])
    asked = ["--region", "linf:0.01,0.2", "--radius", "0.4:3", "--nodes", "20", "--jobs", "1"]
    gates = ["--gate", "all certified at linf 0.01", "--gate", "no falsified sample"]
    done = soundproof("certify", model, "--data", data, "--out", folder / "evidence", *asked, *gates)
    assert done.returncode == 1, done.stderr
    return folder / "evidence"


def report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


class Links(HTMLParser):
    """What a page refers to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]


def test_the_page_stands_alone_and_escapes(evidence: Path) -> None:
    text = (evidence / "report.html").read_text()
    links = Links()
    links.feed(text)
    assert links.found and all(link.startswith("data:") for link in links.found)
    assert links.tags.count("script") == 2 and HOSTILE not in text


def test_junit_and_sarif_say_what_the_report_says(evidence: Path) -> None:
    plain = report(evidence)
    falsified = sum(q["status"] == "falsified" for q in plain["queries"])
    assert falsified
    root = ElementTree.fromstring((evidence / "junit.xml").read_text())
    assert len(root.findall("testsuite/testcase")) == len(plain["queries"]) + len(plain["gates"])
    assert len(root.findall("testsuite/testcase/failure")) == falsified + sum(not g["passed"] for g in plain["gates"])
    sarif = json.loads((evidence / "report.sarif").read_text())
    results = sarif["runs"][0]["results"]
    assert sarif["version"] == "2.1.0" and sum(r["ruleId"] == "falsified" for r in results) == falsified
    assert all((evidence / r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]).exists() for r in results)


def test_the_model_card_names_what_is_not_covered(evidence: Path) -> None:
    text = (evidence / "model_card.md").read_text()
    assert all(s in text for s in report(evidence)["not_covered"]) and "**FAILED**: `no falsified sample`" in text


def test_a_step_never_says_more_than_is_known() -> None:
    """A certified share that holds up to x is drawn up to x, and one that is possible from x on, from x on."""
    points = ((0.0, 1.0), (1.0, 0.5))
    for steps, corner in (("before", 0.5), ("after", 1.0)):
        drawn = charts.chart("t", "x", "y", [Line("n", points, steps=steps)], 1.0)
        path = [tuple(map(float, p.split(","))) for p in drawn.split('polyline points="')[1].split('"')[0].split()]
        top, bottom = path[0][1], charts.HEIGHT - charts.BOTTOM
        assert len(path) == 3 and (bottom - path[1][1]) / (bottom - top) == pytest.approx(corner)


def test_pictures_are_what_they_show(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    for values in (np.asarray([[0.0, 0.5], [1.0, 2.0]]), np.arange(12.0).reshape(2, 2, 3) / 11):
        content = base64.b64decode(charts.picture(values, 0, 1).split(",")[1])
        (tmp_path / "p.png").write_bytes(content)
        read = np.asarray(image.open(tmp_path / "p.png"))
        assert np.array_equal(read, np.clip(np.round(values * 255), 0, 255).astype(np.uint8))


ROWS = "return [...document.querySelectorAll('#queries tbody tr')].map(r => [...r.cells].map(c => c.textContent));"


def choose(page: Browser, field: str, value: str) -> list[list[str]]:
    page.run(f"const e = document.getElementById({field!r}); e.value = {value!r}; e.dispatchEvent(new Event('input'));")
    return page.run(ROWS)


@pytest.mark.slow
def test_the_page_in_a_browser(evidence: Path, tmp_path: Path) -> None:
    plain = report(evidence)
    statuses = [q["status"] for q in plain["queries"]]
    with browser(tmp_path, evidence / "report.html", 1280) as page:
        assert page.run("return document.title") == "Robustness certificate"
        assert len(page.run(ROWS)) == len(statuses) and page.run(ROWS)[0][0] == HOSTILE
        for status in ("certified", "falsified"):
            found = choose(page, "status", status)
            assert len(found) == statuses.count(status) and {r[3] for r in found} == {status}
        choose(page, "status", "")
        assert {r[2] for r in choose(page, "radius", "0.01")} == {"0.01"}
        choose(page, "radius", "")
        assert {r[0] for r in choose(page, "text", "onerror")} == {HOSTILE}
        assert choose(page, "text", "no such sample") == []
        assert page.run("return [...document.images].length > 0 && [...document.images].every(i => i.complete && i.naturalWidth > 0)")
        assert page.run("return [...document.querySelectorAll('svg')].every(s => s.getBoundingClientRect().height > 100)")
        assert page.run("return document.getElementById('uncovered').innerText").count("\n") + 1 == len(plain["not_covered"])
        assert page.call("/se/log", {"type": "browser"}) == []
        page.media("print")
        assert page.run("return getComputedStyle(document.querySelector('.filters')).display") == "none"
        assert base64.b64decode(page.call("/print", {})).startswith(b"%PDF-")


@pytest.mark.slow
def test_the_page_on_a_phone(evidence: Path, tmp_path: Path) -> None:
    with browser(tmp_path, evidence / "report.html", 360) as page:
        assert page.run("return innerWidth") == 360
        assert page.run("return document.documentElement.scrollWidth") <= 360, "the page scrolls sideways"
        sizes = page.run("return [...document.querySelectorAll('p, li, td, th, h1, figcaption')].map(e => parseFloat(getComputedStyle(e).fontSize))")
        assert min(sizes) >= 11
        wide = "return [...document.querySelectorAll('article, .filters, dl')].filter(e => e.getBoundingClientRect().right > 361).length"
        assert page.run(wide) == 0
        assert page.call("/se/log", {"type": "browser"}) == []


@pytest.mark.slow
def test_counterexamples_of_transformations_are_shown_as_images(tmp_path: Path) -> None:
    """A brightness that flips the class: the picture is that of the changed image, beside by how much it was changed."""
    model, data = campaigns.write_random(tmp_path, 2)
    (tmp_path / "p.toml").write_text('[preprocess]\nrange = [0, 1]\n[[check]]\nregion = "brightness"\nradius = [1]\ncontrast = 1\n')
    done = soundproof("certify", model, "--data", data, "--out", tmp_path / "e", "--policy", tmp_path / "p.toml", "--nodes", "20", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "e" / "report.html").read_text()
    falsified = sum(q["status"] == "falsified" for q in report(tmp_path / "e")["queries"])
    assert falsified and text.count("<img alt=\"counterexample\"") == falsified == text.count("<td>contrast</td>")


def test_the_command_says_why_queries_are_unknown() -> None:
    """Once for each reason, the most frequent first; a table of unknown queries alone had told a user nothing."""
    texts = ["rejected"] * 3 + ["a" * 300] * 2 + ["time", "memory", None]
    queries = [{"status": "unknown", "reason": None if text is None else {"text": text}} for text in texts]
    queries.append({"status": "certified", "reason": None})
    said = list(tables.reasons({"queries": queries}))
    assert said[:2] == ["3 unknown: rejected", f"2 unknown: {'a' * 237}..."] and len(said) == 4 and said[3].startswith("2 unknown for other")
    assert list(tables.reasons({"queries": queries[-1:]})) == []
    assert "real" in list(tables.reasons({"queries": [{"status": "unknown", "reason": {"text": "REJECTED (float32-no-rule, x)"}}]}))[1]
