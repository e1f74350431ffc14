"""What is known, on the disk, at every moment: an SQLite file (WAL) that one process at a time writes, beside the files of the queries.

A row is committed and synced only when the files it speaks of are; so a run that is killed loses what it was doing, and nothing else, and what
has a row is not done again.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from benchmarks.certify.errors import InputError, Stopped, UsageError

SCHEMA = 1
NAME, LOCK = "results.sqlite", "lock"
Status = Literal["certified", "falsified", "unknown", "claimed"]  # claimed: proven by the engine, not yet by the checker

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE queries (key TEXT PRIMARY KEY, status TEXT NOT NULL, facts TEXT NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Row:
    """One query that was answered: its status, and what is told about it (JSON)."""

    status: Status
    facts: Mapping[str, Any]


class Store:
    """The open results of an evidence folder. Raises UsageError where another run holds it, or it was begun with other options."""

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self._lock = _locked(folder)
        try:
            self._base = _opened(folder / NAME)
            self._check(identity)
            self.rows: dict[str, Row] = {k: Row(s, json.loads(f)) for k, s, f in self._base.execute("SELECT key, status, facts FROM queries")}
        except BaseException:
            self._lock.close()
            raise

    def record(self, key: str, row: Row) -> None:
        """Add or replace what is known of a query; on the disk when this returns. Raises Stopped where the disk does not take it."""
        text = json.dumps(row.facts, sort_keys=True, allow_nan=False)
        try:
            with self._base:
                self._base.execute("INSERT OR REPLACE INTO queries VALUES (?, ?, ?)", (key, row.status, text))
        except sqlite3.OperationalError as error:
            raise Stopped(f"{self.folder / NAME}: {error}; make room, and the same command continues") from error
        self.rows[key] = row

    def close(self) -> None:
        """Close and unlock."""
        self._base.close()
        self._lock.close()

    def _check(self, identity: Mapping[str, Any]) -> None:
        """Write what this run is about; or compare, where there is a run already."""
        text = json.dumps(identity, sort_keys=True, allow_nan=False)
        found = self._base.execute("SELECT value FROM meta WHERE name = 'identity'").fetchone()
        if found is None:
            with self._base:
                self._base.execute("INSERT INTO meta VALUES ('identity', ?)", (text,))
        elif found[0] != text:
            before = json.loads(found[0])
            changed = sorted(k for k in before.keys() | identity.keys() if before.get(k) != identity.get(k))
            raise UsageError(f"{self.folder} was begun with other {' and '.join(changed)}; use the same command, or another --out")


def _locked(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("a")
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise UsageError(f"{folder}: another run is writing it") from None
    return lock


def _opened(path: Path) -> sqlite3.Connection:
    fresh = not path.exists()
    try:
        base = sqlite3.connect(path)
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=FULL")
        if fresh or base.execute("PRAGMA user_version").fetchone()[0] == 0:
            base.executescript(f"BEGIN; {TABLES} PRAGMA user_version={SCHEMA}; COMMIT;")
        if base.execute("PRAGMA user_version").fetchone()[0] != SCHEMA:
            raise UsageError(f"{path}: written by another version; use another --out")
        return base
    except sqlite3.OperationalError as error:
        raise UsageError(f"{path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise InputError(f"{path}: not a store of results: {error}") from error


def write_synced(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or not at all, and on the disk. Raises Stopped."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise Stopped(f"{path}: cannot be written: {error.strerror}; what is done is kept, the same command continues") from error
