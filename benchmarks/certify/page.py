"""report.html: the report for people, in one file without anything from elsewhere. Needs jinja2 (the extra `report`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from benchmarks.certify import charts, exact, seen
from benchmarks.certify.charts import Line
from benchmarks.certify.page_template import TEMPLATE
from benchmarks.certify.question import Key
from benchmarks.certify.summary import Findings

Array = NDArray[Any]

MOST_EXAMPLES, MOST_CHANGES = 48, 12
COUNTS = (("good", "certified"), ("bad", "falsified"), ("open", "unknown"), ("bad", "misclassified"), ("open", "open"))


def to_html(report: Mapping[str, Any], findings: Findings, folder: Path) -> str:
    """The page. Whatever comes from a file is escaped; `folder` is where the witnesses lie."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    examples = _examples(report, findings, folder)
    return environment.from_string(TEMPLATE).render(
        title="Robustness certificate" if report["gates"] else "Robustness report",
        report=report, failed=sum(not g["passed"] for g in report["gates"]), rows=_rows(report), bisections=_bisections(report),
        accuracy=[Markup(svg) for svg in accuracy(report)], cactus=Markup(cactus(report)) if report["queries"] else "",
        classes=_classes(report), examples=examples, falsified=sum(q["status"] == "falsified" for q in report["queries"]),
        facts=_facts(report), data=Markup(_data(report)),
    )


def value(text: str) -> float:
    """A radius as a number for a picture."""
    return float(exact.number(text, "report"))


def _rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"check": c["name"], "radius": r["radius"], "counts": [(kind, r[name]) for kind, name in COUNTS],
         "share": "" if r["certified_share"] is None else f"{100 * r['certified_share']:.1f} %"}
        for c in report["checks"] if not c["bisect"] for r in c["table"]
    ]


def _bisections(report: Mapping[str, Any]) -> list[str]:
    told = []
    for check in (c for c in report["checks"] if c["bisect"]):
        known = [r for r in check["radii"] if r["outcome"] == "done"]
        if known:
            lower = sorted(value(r["lower"]) for r in known)
            falsified = sum(r["upper"] is not None for r in known)
            middle = lower[len(lower) // 2]
            told.append(f"{check['name']}: certified radius of {len(known)} samples: median {middle:.6g}, least {lower[0]:.6g}, "
                        f"largest {lower[-1]:.6g}; {falsified} have a counterexample within {check['largest']}.")
    return told


def accuracy(report: Mapping[str, Any]) -> list[str]:
    """A chart for each check that has a curve: certified, and not falsified, share of samples against the radius."""
    made = []
    for check in report["checks"]:
        total = len(report["samples"])
        if check["bisect"]:
            known = [r for r in check["radii"] if r["outcome"] == "done"]
            ends = sorted({0.0, value(check["largest"]), *(value(r[k]) for r in known for k in ("lower", "upper") if r[k] is not None)})
            proven = [(x, sum(value(r["lower"]) >= x for r in known) / total) for x in ends]
            possible = [(x, sum(r["upper"] is None or value(r["upper"]) > x for r in known) / total) for x in ends]
        elif len(check["table"]) > 1:
            rows = sorted((value(r["radius"]), r) for r in check["table"] if r["radius"] is not None)
            start = [] if report["accuracy"] is None or check["property"] not in ("top1", "topk", "targeted") else [(0.0, report["accuracy"])]
            proven = [*start, *((x, r["certified"] / total) for x, r in rows)]
            possible = [*start, *((x, (total - r["falsified"] - r["misclassified"]) / total) for x, r in rows)]
        else:
            continue
        marks = not check["bisect"]  # what is certified at a radius is certified within smaller ones; what is falsified, within larger ones
        lines = [Line("certified", tuple(proven), False, "before", marks), Line("not falsified", tuple(possible), True, "after", marks)]
        made.append(charts.chart(f"{check['name']}: share of samples", f"radius ({check['name']})", "share of samples", lines, 1.0))
    return made


def cactus(report: Mapping[str, Any]) -> str:
    """How many queries were decided within how many seconds each."""
    lines = []
    for status in ("certified", "falsified"):
        seconds = sorted(q["seconds"] for q in report["queries"] if q["status"] == status)
        if seconds:
            step = max(1, len(seconds) // 400)
            kept = [*range(0, len(seconds), step), len(seconds) - 1]
            lines.append(Line(status, ((0.0, 0.0), *((float(i + 1), seconds[i]) for i in kept)), steps="after"))
    return charts.chart("seconds of each decided query, sorted", "queries", "seconds", lines)


def _classes(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """A row a class; None where samples have no labels."""
    samples = report["samples"]
    if any(s["label"] is None for s in samples):
        return None
    columns = [(c["name"], r["radius"]) for c in report["checks"] if not c["bisect"] for r in c["table"]]
    label = {s["index"]: s["label"] for s in samples}
    names = report["policy"]["data"]["classes"]
    counts: dict[tuple[int, str, str | None, str], int] = {}
    for q in report["queries"]:
        key = (label[q["sample"]], q["check"], q["radius"], q["status"])
        counts[key] = counts.get(key, 0) + 1
    rows = []
    for one in sorted(set(label.values())):
        members = [s for s in samples if s["label"] == one]
        cells = [" / ".join(str(counts.get((one, check, radius, status), 0)) for status in ("certified", "falsified", "unknown"))
                 for check, radius in columns]
        rows.append([names[one] if 0 <= one < len(names) else str(one), len(members), sum(bool(s["correct"]) for s in members), *cells])
    return {"headings": [f"{c} {r or ''}" for c, r in columns], "rows": rows}


def _examples(report: Mapping[str, Any], findings: Findings, folder: Path) -> list[dict[str, Any]]:
    """Counterexamples beside their originals, at most one a sample and check."""
    best: dict[tuple[str, int], Mapping[str, Any]] = {}
    for q in report["queries"]:
        at = (q["check"], q["sample"])
        radius = 0.0 if q["radius"] is None else value(q["radius"])
        if q["status"] == "falsified" and (at not in best or radius < value(best[at]["radius"] or "0")):
            best[at] = q
    chosen = sorted(best.values(), key=lambda q: (value(q["radius"] or "0"), q["sample"], q["check"]))[:MOST_EXAMPLES]
    return [_example(q, findings, folder) for q in chosen]


def _example(query: Mapping[str, Any], findings: Findings, folder: Path) -> dict[str, Any]:
    sample, subjects = query["sample"], findings.subjects
    witness = json.loads((folder / query["witness"]["path"]).read_text(encoding="utf-8"))
    x, original = np.asarray(witness["inputs"], np.float64), subjects.samples.values[sample].astype(np.float64)
    prediction = findings.clean[sample]
    outputs = ", ".join(f"{v:.4g}" for v in witness["outputs"][:12])
    told = {"id": subjects.samples.ids[sample], "check": query["check"], "radius": query["radius"], "pictures": [], "changes": [], "more": 0,
            "text": f"label {subjects.label(sample)}, predicted {prediction.predicted}; outputs at the counterexample: {outputs}"
                    + ("; only rounding violates" if witness["float32_only"] else "")
                    + ("" if witness["inside_region"] else "; in the float32 rounding of the region, not in the region as written")}
    key = Key(query["check"], None if query["radius"] is None else exact.number(query["radius"], "report"), sample)
    region = subjects.question(key).region
    changed = x if region.transform is None else seen.sample(region.transform, x)
    if changed.size == original.size:
        told["pictures"] = _pictures(original, changed.reshape(original.shape), findings)
    if told["pictures"] and x.size == original.size:
        return told
    names = subjects.samples.features or tuple(f"x{i}" for i in range(original.size))
    if x.size == original.size:
        flat = original.ravel()
        places = np.flatnonzero(x != flat)
        places = places[np.argsort(-np.abs(x[places] - flat[places]), kind="stable")]
        told["changes"] = [(names[i], f"{flat[i]:.6g}", f"{x[i]:.6g}") for i in places[:MOST_CHANGES]]
        told["more"] = max(0, len(places) - MOST_CHANGES)
    else:
        called = region.names or (*names, "raised by")
        told["changes"] = [(name, "", f"{v:.6g}") for name, v in zip(called[-MOST_CHANGES:], x[-MOST_CHANGES:], strict=True)]
    return told


def _pictures(original: Array, changed: Array, findings: Findings) -> list[tuple[str, str]]:
    """Sample and counterexample as images, if they are images, on one scale."""
    image, other = charts.as_picture(original), charts.as_picture(changed)
    if image is None or other is None:
        return []
    prepared = findings.subjects.policy.preprocess
    low = float(min(image.min(), other.min()) if prepared.low is None else prepared.low)
    high = float(max(image.max(), other.max()) if prepared.high is None else prepared.high)
    return [("sample", charts.picture(image, low, high)), ("counterexample", charts.picture(other, low, high))]


def _facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    budget, made = report["budget"], report["environment"]
    limits = ", ".join(f"{k} {v}" for k, v in budget.items() if v is not None)
    return [
        ("soundproof", report["tool"]["version"]), *((f"SHA-256 of {name}", value) for name, value in sorted(report["files"].items())),
        ("each query", limits), ("shard", "{} of {}".format(*report["shard"])), ("machine", json.dumps(made["machine"])),
        ("versions", json.dumps(made["versions"])), ("commit", str(made["commit"])), ("seconds of the last run", str(made["run_seconds"])),
    ]


def _data(report: Mapping[str, Any]) -> str:
    """The rows of the table of queries, as JSON that cannot end its script element."""
    ids = {s["index"]: s["id"] for s in report["samples"]}
    rows = [[str(ids[q["sample"]]), q["check"], q["radius"] or "", q["status"], _short(q["bound"]), _short(q["nodes"]), f"{q['seconds']:.2f}",
             _why(q)] for q in report["queries"]]
    return json.dumps(rows, ensure_ascii=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _why(query: Mapping[str, Any]) -> str:
    told = "" if query["reason"] is None else str(query["reason"].get("text") or "")[:200]
    return told if not query["parts"] else f"in {query['parts']} parts" + (f": {told}" if told else "")


def _short(number: float | None) -> str:
    return "" if number is None else f"{number:.4g}"


