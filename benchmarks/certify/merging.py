"""What other campaigns found, taken into this one: shards of the same question, each in a folder of its own.

Nothing is taken on their word: the files of every query are composed again and compared, proofs are claims until the checker here has accepted
them, counterexamples are replayed. What does not hold is left out, and asked again.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.certify import plan, replaying
from benchmarks.certify.errors import CertifyError, InputError, UsageError
from benchmarks.certify.evidence import sha256
from benchmarks.certify.question import Key, Subjects
from benchmarks.certify.store import NAME, Row, Store, write_synced


def merge(source: Path, store: Store, identity: Mapping[str, Any], subjects: Subjects, say: Callable[[str], None]) -> None:
    """Take in the rows of the campaign in `source`. Raises UsageError where it asked something else, InputError where it cannot be read."""
    other, rows = _read(source)
    changed = sorted(k for k in identity.keys() | other.keys() if k != "shard" and identity.get(k) != other.get(k))
    if changed:
        raise UsageError(f"--merge {source}: it was made with other {' and '.join(changed)}")
    taken = left = 0
    for folder, row in rows.items():
        if folder in store.rows:
            continue
        try:
            key = Key.parsed(folder)
            found = _taken(source, store.folder, key, row, subjects)
        except (CertifyError, OSError, ValueError, KeyError, StopIteration) as error:
            say(f"{source}: {folder}: left out: {error}")
            found = None
        if found is None:
            left += 1
        else:
            store.record(folder, found)
            taken += 1
    say(f"{source}: {taken} answers taken, {left} left out")


def _read(source: Path) -> tuple[dict[str, Any], dict[str, Row]]:
    try:
        base = sqlite3.connect(f"{(source / NAME).resolve().as_uri()}?mode=ro", uri=True)
        try:
            (text,) = base.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
            rows = {k: Row(s, json.loads(f)) for k, s, f in base.execute("SELECT key, status, facts FROM queries ORDER BY key")}
            return json.loads(text), rows
        finally:
            base.close()
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise InputError(f"--merge {source}: no campaign that can be read: {error}") from error


def _taken(source: Path, target: Path, key: Key, row: Row, subjects: Subjects) -> Row | None:
    """The row as it counts here, its files copied; None where it does not hold."""
    question = subjects.question(key)
    place, model = source / "queries" / key.folder, target / "composed" / f"{question.model_sha256}.onnx"
    if (row.facts["model"], row.facts["property"]) != (question.model_sha256, question.property_sha256):
        return None
    if not model.exists():
        write_synced(model, question.model)
    write_synced(target / "queries" / key.folder / "query.vnnlib", question.text.encode())
    if row.status == "unknown":
        for half in plan.divided(key, row):
            subjects.question(half)  # raises where there are no such halves
        return row
    name, hashed = ("witness.json", "witness") if row.status == "falsified" else ("certificate", "certificate")
    if sha256(place / name) != row.facts[hashed]:
        return None
    copy = target / "queries" / key.folder / name
    write_synced(copy, (place / name).read_bytes())
    if row.status != "falsified":
        return Row("claimed", {k: v for k, v in row.facts.items() if k != "refused"})
    return None if replaying.objection(model, copy.with_name("query.vnnlib"), question.region, replaying.read(copy)) else row
