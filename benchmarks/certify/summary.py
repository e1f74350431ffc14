"""report.json: everything that is claimed, in one object that `recheck` holds against the files (`schema` 1; null, never NaN)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from benchmarks.certify import exact, gates, plan, properties
from benchmarks.certify.clean import Prediction
from benchmarks.certify.gates import Answered, Judged
from benchmarks.certify.policy import Check
from benchmarks.certify.question import Key, Subjects
from benchmarks.certify.store import Row
from verifier.version import NAME, VERSION

SCHEMA = 1
OUTCOMES = ("certified", "falsified", "unknown", "misclassified", "open")


@dataclass(frozen=True, eq=False)
class Findings:
    """What a campaign knows: of the samples, and of the queries that were answered."""

    subjects: Subjects = field(repr=False)
    samples: Sequence[int] = field(repr=False)
    clean: Mapping[int, Prediction] = field(repr=False)
    rows: Mapping[str, Row] = field(repr=False)

    def asked(self, check: Check) -> Sequence[int]:
        """The samples that the check asks about: the others are misclassified."""
        wants = properties.wants_label(check)
        return [s for s in self.meant(check) if not wants or self.clean[s].correct]

    def meant(self, check: Check) -> list[int]:
        """The samples that the check is about: all, but for those that are of the target themselves."""
        return [s for s in self.samples if properties.asks(check, self.subjects.label(s))]

    def outcome(self, key: Key) -> str:
        """One of OUTCOMES."""
        if self.misclassified(key):
            return "misclassified"
        status = plan.settled(key, self.rows)
        return "open" if status is None or status == "claimed" else status

    def misclassified(self, key: Key) -> bool:
        """Whether the query was not asked because the network is wrong about the sample as it is."""
        return properties.wants_label(self.subjects.check(key.check)) and not self.clean[key.sample].correct

    def answered(self) -> list[Answered]:
        """Every query of every check, bisections with what they asked."""
        found = []
        for check in self.subjects.policy.checks:
            for sample in self.meant(check):
                visited = {k.radius for k in plan.of_sample(check, sample, self.rows) if not k.part} if check.bisect else set(check.radii) or {None}
                for radius in sorted(visited, key=lambda r: r or 0):
                    key = Key(check.name, radius, sample)
                    found.append(Answered(check.name, radius, sample, self.outcome(key)))
        return found

    def outcome_counts(self) -> dict[str, int]:
        """How many queries ended how."""
        outcomes = [a.outcome for a in self.answered()]
        return {o: outcomes.count(o) for o in OUTCOMES}

    def accuracy(self) -> Fraction | None:
        """The share of samples about which the network is right; None where they have no labels."""
        known = [self.clean[s].correct for s in self.samples]
        return None if any(c is None for c in known) or not known else Fraction(sum(map(bool, known)), len(known))

    def judged(self) -> list[Judged]:
        """The gates of the policy, judged."""
        answered, accuracy = self.answered(), self.accuracy()
        return [gates.judge(gates.read(text, self.subjects.policy), answered, accuracy) for text in self.subjects.policy.gates]


def report(findings: Findings, context: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object. `context`: what is not derived from the findings (policy, budget, files, machine, whether the run is complete)."""
    accuracy, judged = findings.accuracy(), findings.judged()
    known = [key for key in keys(findings) if key.folder in findings.rows]
    return {
        "schema": SCHEMA,
        "tool": {"name": NAME, "version": VERSION},
        **context,
        "samples": [_sample(findings, s) for s in findings.samples],
        "accuracy": None if accuracy is None else float(accuracy),
        "checks": [_check(findings, check) for check in findings.subjects.policy.checks],
        "queries": [query(findings, key) for key in known if not key.part],
        "parts": [query(findings, key) for key in known if key.part],
        "gates": [asdict(j) for j in judged],
        "passed": all(j.passed for j in judged),
    }


def keys(findings: Findings) -> list[Key]:
    """Every query that the policy asks, given what is known, in order, each followed by its parts."""
    return [k for check in findings.subjects.policy.checks for s in findings.asked(check) for k in plan.of_sample(check, s, findings.rows)]


def _sample(findings: Findings, sample: int) -> dict[str, Any]:
    made = findings.clean[sample]
    return {"index": sample, "id": findings.subjects.samples.ids[sample], "label": findings.subjects.label(sample), "predicted": made.predicted,
            "correct": made.correct, "outputs": list(made.outputs)}


def _check(findings: Findings, check: Check) -> dict[str, Any]:
    plain: dict[str, Any] = {"name": check.name, "region": check.region, "property": check.property, "settings": dict(check.settings)}
    if check.bisect:
        return {**plain, "bisect": check.bisect, "largest": exact.text(check.radii[0]), "radii": _radii(findings, check)}
    answered = [a for a in findings.answered() if a.check == check.name]
    table = []
    for radius in check.radii or (None,):
        here = [a.outcome for a in answered if a.radius == radius]
        counts = {outcome: here.count(outcome) for outcome in OUTCOMES}
        share = counts["certified"] / len(here) if here else None
        table.append({"radius": None if radius is None else exact.text(radius), **counts, "certified_share": share})
    return {**plain, "bisect": 0, "table": table}


def _radii(findings: Findings, check: Check) -> list[dict[str, Any]]:
    """Per sample: certified up to `lower`, falsified at `upper` (null: nowhere up to the largest), by bisection."""
    found, decided = [], {k: r for k, r in findings.rows.items() if r.status != "claimed"}
    for sample in findings.meant(check):
        if findings.misclassified(Key(check.name, check.radii[0], sample)):
            found.append({"sample": sample, "outcome": "misclassified", "lower": None, "upper": None})
            continue
        known = plan.bisection(check, sample, decided)
        found.append({"sample": sample, "outcome": "open" if known.next is not None else "done", "lower": exact.text(known.lower),
                      "upper": None if known.upper is None else exact.text(known.upper)})
    return found


def _seconds(row: Row) -> float:
    taken = row.facts.get("result", {}).get("seconds") or {}
    return float(taken.get("total") or sum(v for v in taken.values() if v))


def query(findings: Findings, key: Key) -> dict[str, Any]:
    """One answer: everything but times is the same in every run with the same budget of nodes. That of a query which was divided is what its parts
    say together: a witness is that of a part, a certificate each part has of its own."""
    row, result = findings.rows[key.folder], findings.rows[key.folder].facts.get("result") or {}
    members = [k for k in plan.with_parts(key, findings.rows) if k.folder in findings.rows]
    status = plan.settled(key, findings.rows) or "unknown"
    falsified = next((k for k in members if findings.rows[k.folder].status == "falsified"), None)
    return {
        "key": key.folder, "check": key.check, "radius": None if key.radius is None else exact.text(key.radius), "sample": key.sample,
        "status": status, "reason": row.facts.get("reason") if status == "unknown" else None, "bound": result.get("bound"), "gap": result.get("gap"),
        "nodes": _sum(findings, members, "nodes"), "leaves": _sum(findings, members, "leaves"), "semantics": result.get("semantics"),
        "seconds": round(sum(_seconds(findings.rows[k.folder]) for k in members), 3),
        "model": {"path": f"composed/{row.facts['model']}.onnx", "sha256": row.facts["model"]},
        "property": {"path": f"queries/{key.folder}/query.vnnlib", "sha256": row.facts["property"]},
        "certificate": _file(key, "certificate", row) if row.status == "certified" else None,
        "witness": None if falsified is None else _file(falsified, "witness", findings.rows[falsified.folder]),
        "split": row.facts.get("split"), "parts": len(members) - 1,
    }


def _sum(findings: Findings, members: Sequence[Key], name: str) -> int | None:
    """Of a query and its parts together; None where nothing is known."""
    known = [(findings.rows[k.folder].facts.get("result") or {}).get(name) for k in members]
    return sum(n for n in known if n is not None) if any(n is not None for n in known) else None


def _file(key: Key, name: str, row: Row) -> dict[str, str]:
    place = {"certificate": "certificate", "witness": "witness.json"}[name]
    return {"path": f"queries/{key.folder}/{place}", "sha256": row.facts[name]}
