"""The report in other people's forms: JUnit XML, SARIF 2.1.0, a section of a model card in Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
RULES = {
    "falsified": "A counterexample: onnxruntime, running the model, violates the property inside of the region.",
    "gate": "A gate of the policy was not passed.",
    "unknown": "Neither proven nor refuted within the budget.",
}
LEVELS = {"falsified": "error", "gate": "error", "unknown": "warning"}


def to_junit(report: Mapping[str, Any]) -> str:
    """A suite a check with a case a query, and a suite of the gates. Falsified queries and failed gates are failures, unknown ones are skipped:
    whether these matter is what gates say."""
    root = ElementTree.Element("testsuites", name="soundproof certify")
    suites = {check["name"]: [q for q in report["queries"] if q["check"] == check["name"]] for check in report["checks"]}
    ids = {s["index"]: s["id"] for s in report["samples"]}
    for name, queries in suites.items():
        bad, skipped = (sum(q["status"] in wanted for q in queries) for wanted in (("falsified",), ("unknown", "claimed")))
        suite = ElementTree.SubElement(root, "testsuite", name=name, tests=str(len(queries)), failures=str(bad), skipped=str(skipped), errors="0",
                                       time=f"{sum(q['seconds'] for q in queries):.3f}")
        for q in queries:
            title = f"{ids[q['sample']]}" + (f" within {q['radius']}" if q["radius"] else "")
            case = ElementTree.SubElement(suite, "testcase", classname=name, name=_clean(title), time=f"{q['seconds']:.3f}")
            if q["status"] == "falsified":
                ElementTree.SubElement(case, "failure", message=f"counterexample in {q['witness']['path']}")
            elif q["status"] != "certified":
                ElementTree.SubElement(case, "skipped", message=_clean(_why(q)))
    failed = [g for g in report["gates"] if not g["passed"]]
    counts = {"tests": str(len(report["gates"])), "failures": str(len(failed)), "skipped": "0", "errors": "0"}
    suite = ElementTree.SubElement(root, "testsuite", name="gates", **counts)
    for g in report["gates"]:
        case = ElementTree.SubElement(suite, "testcase", classname="gates", name=_clean(g["text"]))
        if not g["passed"]:
            ElementTree.SubElement(case, "failure", message=_clean(g["why"]))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    """Without what XML cannot hold."""
    return "".join(c if c in "\t\n" or (c >= " " and c not in "\ufffe\uffff" and not "\ud800" <= c <= "\udfff") else "?" for c in text)


def _why(query: Mapping[str, Any]) -> str:
    reason = query["reason"]
    return query["status"] if reason is None else str(reason.get("text") or query["status"])


def to_sarif(report: Mapping[str, Any]) -> str:
    """Findings: each falsified query, each undecided one, each failed gate."""
    ids = {s["index"]: s["id"] for s in report["samples"]}
    results = [_result("gate", f"{g['text']}: {g['why']}", "report.json", g["text"]) for g in report["gates"] if not g["passed"]]
    for q in report["queries"]:
        if q["status"] in ("falsified", "unknown"):
            where = q["witness"]["path"] if q["witness"] else q["property"]["path"]
            within = f" within {q['radius']}" if q["radius"] else ""
            text = f"sample {ids[q['sample']]}, {q['check']}{within}: " + ("a counterexample" if q["status"] == "falsified" else _why(q))
            results.append(_result(q["status"], text, where, q["key"]))
    rules = [{"id": name, "shortDescription": {"text": text}, "defaultConfiguration": {"level": LEVELS[name]}} for name, text in RULES.items()]
    driver = {"name": "soundproof certify", "version": report["tool"]["version"], "rules": rules}
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    return json.dumps({"$schema": SARIF, "version": "2.1.0", "runs": [run]}, indent=1, allow_nan=False) + "\n"


def _result(rule: str, text: str, path: str, key: str) -> dict[str, Any]:
    return {
        "ruleId": rule, "ruleIndex": list(RULES).index(rule), "level": LEVELS[rule], "message": {"text": text},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": path}}}], "partialFingerprints": {"query/v1": key},
    }


def to_card(report: Mapping[str, Any]) -> str:
    """A section of a model card."""
    lines = ["## Robustness", "", f"Checked with Soundproof {report['tool']['version']} on {len(report['samples'])} samples, semantics "
             f"{report['budget']['semantics']}; SHA-256 over the model's files {report['files']['model']}."]
    if report["accuracy"] is not None:
        lines.append(f"Accuracy on these samples: {100 * report['accuracy']:.1f} %.")
    if report["state"] != "complete":
        lines.append("**The run was not finished.**")
    lines += ["", "| check | property | radius | certified | falsified | unknown | misclassified | certified share |",
              "|---|---|---|---|---|---|---|---|"]
    for check in report["checks"]:
        for row in check.get("table", ()):
            share = "" if row["certified_share"] is None else f"{100 * row['certified_share']:.1f} %"
            counts = " | ".join(str(row[k]) for k in ("certified", "falsified", "unknown", "misclassified"))
            lines.append(f"| {check['name']} | {check['property']} | {row['radius'] or ''} | {counts} | {share} |")
        if check["bisect"]:
            known = [r for r in check["radii"] if r["outcome"] == "done"]
            told = f"{len(known)} radii by bisection, see report.json"
            lines.append(f"| {check['name']} | {check['property']} | up to {check['largest']} | {told} | | | | |")
    if report["gates"]:
        lines += ["", *(f"- {'passed' if g['passed'] else '**FAILED**'}: `{g['text']}` ({g['why']})" for g in report["gates"])]
    lines += ["", "Certified: an independent checker accepted a proof. Falsified: a counterexample that was replayed.", "", "Not covered:", "",
              *(f"- {s}" for s in report["not_covered"])]
    return "\n".join(lines) + "\n"
