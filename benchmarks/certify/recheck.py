"""`soundproof recheck`: does the evidence show what its report claims? Every claim is derived again from the files, by nothing of the run.

Composed networks and queries are made again from model, data and policy and compared byte by byte; the checker process reads every certificate;
onnxruntime runs every witness and every misclassified sample; the parts that a query was divided into have to cover it, in exact numbers, as they
stand in the files; tables and gates are counted again. What differs is named; nothing is repaired.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.certify import clean, evidence, exact, parts, plan, policy, replaying, summary
from benchmarks.certify.crew import Checking, accepted
from benchmarks.certify.errors import CertifyError, InputError
from benchmarks.certify.question import Key, Question, Subjects
from benchmarks.certify.store import Row
from benchmarks.certify.summary import Findings
from specs.errors import PropertyError

CHECKED_TOGETHER = 256
Say = Callable[[str], None]
Claim = Mapping[str, Any]


@dataclass
class Found:
    """What a recheck found: sentences about what is wrong, and counts of what was shown again."""

    wrong: list[str] = field(default_factory=list)
    certificates: int = 0
    witnesses: int = 0
    misclassified: int = 0
    undecided: int = 0
    divided: int = 0

    @property
    def verdict(self) -> list[str]:
        return [f"{len(self.wrong)} claims do not hold"] if self.wrong else ["every claim holds"]


def recheck(folder: Path, timeout: float, memory: float, jobs: int, say: Say) -> Found:
    """Check the evidence in `folder`. Raises InputError where there is none that can be read."""
    report = _report(folder)
    found = Found()
    _hashes(folder, found)
    try:
        subjects = evidence.subjects(folder)
        samples = evidence.chosen(subjects, tuple(report["shard"]))
        predictions = clean.predictions(subjects, samples)
        rows, keys = _rows(report, subjects, found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / 'report.json'}: not a report of this version: {type(error).__name__} {error}") from error
    findings = Findings(subjects, samples, predictions, rows)
    found.misclassified = sum(1 for s in samples if predictions[s].correct is False)
    semantics = str(report["budget"]["semantics"])
    say(f"{len(rows)} queries: composing them again")
    claims = [(key, claim) for key, claim in zip(keys, _claims(report), strict=True) if _same_files(folder, subjects, key, claim, found)]
    proven = [(key, claim) for key, claim in claims if rows[key.folder].status == "certified"]
    say(f"checking {len(proven)} certificates")
    _certificates(folder, proven, semantics, (timeout, memory), jobs, found)
    for key, claim in claims:
        if rows[key.folder].status == "falsified":
            _witness(folder, subjects, key, claim, found)
    if dict(report["files"]) != evidence.fingerprints(evidence.copies(folder)):
        found.wrong.append("report.json: it names another model or other data than inputs/ holds")
    for key, claim in claims:
        _together(folder, findings, key, claim, found)
    found.undecided = sum(plan.settled(key, rows) == "unknown" for key in keys if not key.part)
    _counts(report, findings, found)
    return found


def _report(folder: Path) -> dict[str, Any]:
    place = folder / "report.json"
    try:
        plain = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: {getattr(error, 'strerror', None) or error}; is {folder} an evidence folder?") from error
    if not isinstance(plain, dict) or plain.get("schema") != summary.SCHEMA:
        raise InputError(f"{place}: not a report of schema {summary.SCHEMA}")
    return plain


def _hashes(folder: Path, found: Found) -> None:
    """Hold every file against hashes.sha256, and the list against what is there."""
    listed = evidence.read_hashes(folder)
    there = set(evidence.hashed_files(folder))
    found.wrong += [f"{name}: is in no list of hashes" for name in sorted(there - listed.keys())]
    for name, value in sorted(listed.items()):
        if name not in there:
            found.wrong.append(f"{name}: is missing")
        elif evidence.sha256(folder / name) != value:
            found.wrong.append(f"{name}: was changed since the report was written")


def _claims(report: Claim) -> list[Claim]:
    return [*report["queries"], *report.get("parts", ())]


def _rows(report: Mapping[str, Any], subjects: Subjects, found: Found) -> tuple[dict[str, Row], list[Key]]:
    """The claims as rows, under keys that we derive; a key twice, or one that the policy does not ask, is wrong."""
    rows: dict[str, Row] = {}
    keys = []
    names = {check.name for check in subjects.policy.checks}
    for claim in _claims(report):
        radius = None if claim["radius"] is None else exact.number(claim["radius"], "report.json")
        key = Key(str(claim["check"]), radius, int(claim["sample"]), Key.parsed(claim["key"]).part)
        if claim["check"] not in names or not 0 <= key.sample < len(subjects.samples) or key.folder != claim["key"] or key.folder in rows:
            raise InputError(f"report.json: the query {claim['key']!r} is none of the policy's, or occurs twice")
        if claim["status"] not in ("certified", "falsified", "unknown", "claimed"):
            raise InputError(f"report.json: {claim['key']}: unknown status {claim['status']!r}")
        split = claim.get("split")
        facts = {"model": claim["model"]["sha256"], "property": claim["property"]["sha256"], "reason": claim["reason"],
                 "certificate": (claim["certificate"] or {}).get("sha256"), "witness": (claim["witness"] or {}).get("sha256"),
                 "result": {k: claim[k] for k in ("bound", "gap", "nodes", "leaves", "semantics")} | {"seconds": {"total": claim["seconds"]}},
                 "split": split}
        rows[key.folder] = Row("unknown" if split else claim["status"], facts)
        plan.divided(key, rows[key.folder])  # raises where it is no way to divide
        keys.append(key)
    return rows, keys


def _same_files(folder: Path, subjects: Subjects, key: Key, claim: Claim, found: Found) -> bool:
    """Whether model and property of the query are what we compose, byte by byte."""
    try:
        question = subjects.question(key)
    except CertifyError as error:
        found.wrong.append(f"{key.folder}: cannot be composed: {error}")
        return False
    for path, content in ((_model(folder, question), question.model), (_place(folder, key) / "query.vnnlib", question.text.encode())):
        try:
            same = path.read_bytes() == content
        except OSError:
            same = False
        if not same:
            found.wrong.append(f"{key.folder}: {path.name} is not what model, data and policy give")
            return False
    if (claim["model"]["sha256"], claim["property"]["sha256"]) != (question.model_sha256, question.property_sha256):
        found.wrong.append(f"{key.folder}: the report names other files")
        return False
    return True


def _model(folder: Path, question: Question) -> Path:
    return folder / "composed" / f"{question.model_sha256}.onnx"


def _place(folder: Path, key: Key) -> Path:
    return folder / "queries" / key.folder


def _certificates(folder: Path, proven: Sequence[tuple[Key, Claim]], semantics: str, limits: tuple[float, float], jobs: int, found: Found) -> None:
    """Have the checker read every certificate, several at a time; a batch that ends badly is checked one by one."""
    batches = [list(proven[at : at + CHECKED_TOGETHER]) for at in range(0, len(proven), CHECKED_TOGETHER)]
    with tempfile.TemporaryDirectory(prefix="soundproof-recheck-") as scratch:
        for batch, answers in _checked(folder, batches, Path(scratch), limits, jobs):
            if not answers and len(batch) > 1:
                singles = [[one] for one in batch]
                for single, answer in _checked(folder, singles, Path(scratch), limits, jobs):
                    _judge(single, answer, semantics, found)
            else:
                _judge(batch, answers, semantics, found)


def _checked(
    folder: Path, batches: Sequence[Sequence[tuple[Key, Claim]]], scratch: Path, limits: tuple[float, float], jobs: int
) -> Iterator[tuple[Sequence[tuple[Key, Claim]], Sequence[Mapping[str, Any]]]]:
    """Each batch with the checker's answers, `jobs` checkers at a time; `limits`: seconds for each certificate, GB."""
    waiting, running = list(reversed(batches)), []
    options = ["--timeout", str(limits[0]), "--memory", str(limits[1])]
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                batch, place = waiting.pop(), Path(tempfile.mkdtemp(dir=scratch))
                files = [(k.folder, (folder / "composed" / f"{c['model']['sha256']}.onnx").resolve(), (_place(folder, k) / "query.vnnlib").resolve(),
                          (_place(folder, k) / "certificate").resolve()) for k, c in batch]
                running.append((batch, Checking(place, files, options, limits[0])))
            time.sleep(0.05)
            for one in list(running):
                answers = one[1].ended()
                if answers is not None:
                    running.remove(one)
                    yield one[0], answers
    finally:
        for _, checking in running:
            checking.stop()


def _judge(batch: Sequence[tuple[Key, Claim]], answers: Sequence[Mapping[str, Any]], semantics: str, found: Found) -> None:
    for (key, claim), answer in zip(batch, answers or [{"word": "the checker ended without an answer"}] * len(batch), strict=True):
        named = (claim["certificate"] or {}).get("sha256")
        if named is not None and accepted(answer, named, claim["model"]["sha256"], claim["property"]["sha256"], semantics):
            found.certificates += 1
        else:
            found.wrong.append(f"{key.folder}: its certificate is not accepted: {json.dumps(dict(answer))}")


def _witness(folder: Path, subjects: Subjects, key: Key, claim: Claim, found: Found) -> None:
    """Run the composed network at the witness, and look whether that violates the property inside of the region."""
    place, question = _place(folder, key), subjects.question(key)
    try:
        wrong = replaying.objection(_model(folder, question), place / "query.vnnlib", question.region, replaying.read(place / "witness.json"))
        named = evidence.sha256(place / "witness.json") == (claim["witness"] or {}).get("sha256")
    except (OSError, ValueError) as error:
        wrong, named = f"it cannot be read: {error}", True
    if wrong or not named:
        found.wrong.append(f"{key.folder}: its witness: {wrong or 'the report names another one'}")
    else:
        found.witnesses += 1


def _together(folder: Path, findings: Findings, key: Key, claim: Claim, found: Found) -> None:
    """Hold what is said of a query that was divided against its parts: what they say together, and whether they are all of it."""
    if not plan.divided(key, findings.rows[key.folder]):
        return
    again = summary.query(findings, key)
    if any(again[part] != claim[part] for part in ("status", "certificate", "witness")):
        found.wrong.append(f"{key.folder}: its parts say {again['status']}, the report {claim['status']}, or the witness is not theirs")
    elif again["status"] == "certified":
        small = list(plan.decisive(key, findings.rows))
        try:
            whole, those = parts.cases(_place(folder, key) / "query.vnnlib"), [parts.cases(_place(folder, k) / "query.vnnlib") for k in small]
        except (OSError, PropertyError) as error:
            found.wrong.append(f"{key.folder}: its parts cannot be read: {error}")
            return
        if parts.covers(whole, those) and {findings.rows[k.folder].facts["model"] for k in small} == {claim["model"]["sha256"]}:
            found.divided += not key.part
        else:
            found.wrong.append(f"{key.folder}: its parts do not cover it")


def _counts(report: Mapping[str, Any], findings: Findings, found: Found) -> None:
    """Count again: samples, tables, gates. Times are taken as they are; outputs may differ in their last digits on another machine."""
    if policy.canonical(report["policy"]) != policy.canonical(policy.to_plain(findings.subjects.policy)):
        found.wrong.append("report.json: another policy than inputs/policy.json")
        return
    again = summary.report(findings, {})
    for part in ("accuracy", "checks", "gates", "passed"):
        if json.loads(policy.canonical({part: again[part]})) != {part: report[part]}:
            found.wrong.append(f"report.json: {part}: counted again, it is {_short(again[part])}")
    kept = ("index", "id", "label", "predicted", "correct")
    if [{k: s[k] for k in kept} for s in again["samples"]] != [{k: s.get(k) for k in kept} for s in report["samples"]]:
        found.wrong.append("report.json: samples: run again, the network classifies them otherwise")
    asked = [k.folder for k in summary.keys(findings)]
    if sorted(k for k in asked if k in findings.rows) != sorted(findings.rows):
        found.wrong.append("report.json: it has queries that the policy does not ask")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) < 300 else f"{text[:300]}..."
