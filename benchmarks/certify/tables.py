"""The tables that `certify` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

MOST_REASONS, LONGEST_REASON = 3, 240


def tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """One table of counts for the radii of all checks, one for bisections."""
    plain = [c for c in report["checks"] if not c["bisect"]]
    if plain:
        table = Table("check", "radius", "certified", "falsified", "unknown", "misclassified", "open", "certified share")
        for check in plain:
            for row in check["table"]:
                share = "" if row["certified_share"] is None else f"{100 * row['certified_share']:.1f} %"
                counts = [str(row[k]) for k in ("certified", "falsified", "unknown", "misclassified", "open")]
                table.add_row(check["name"], row["radius"] or "", *counts, share)
        yield table
    bisected = [c for c in report["checks"] if c["bisect"]]
    if bisected:
        table = Table("check", "samples", "mean certified radius", "falsified within", "open")
        for check in bisected:
            known = [r for r in check["radii"] if r["outcome"] == "done"]
            mean = f"{sum(_value(r['lower']) for r in known) / len(known):.6g}" if known else ""
            falsified = sum(r["upper"] is not None for r in known)
            table.add_row(check["name"], str(len(check["radii"])), mean, f"{falsified} up to {check['largest']}",
                          str(sum(r["outcome"] == "open" for r in check["radii"])))
        yield table


def reasons(report: Mapping[str, Any]) -> Iterator[str]:
    """Why queries are unknown, the most frequent reasons first."""
    unknown = Counter(str((q["reason"] or {}).get("text") or "no reason is known") for q in report["queries"] if q["status"] == "unknown")
    for text, count in unknown.most_common(MOST_REASONS):
        yield f"{count} unknown: {text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 3] + '...'}"
    left = sum(unknown.values()) - sum(count for _, count in unknown.most_common(MOST_REASONS))
    if left:
        yield f"{left} unknown for other reasons: report.json has them"
    if any("float32-no" in text for text in unknown):
        yield "how float32 rounds is not known for all operators: --semantics real asks for proofs over the reals"


def _value(text: str) -> float:
    above, _, below = text.partition("/")
    return float(above) / float(below or 1)
