"""The results of a batch run on disk: written a row at a time, so that a run killed at any moment can be continued.

FILE             VNN-COMP's six columns, no header: category, network, property, prepare seconds, result, run seconds
FILE.meta.json   options, commits, machine, versions
FILE.jsonl       one line an instance: verdict, assurance, bound, nodes, memory, seconds per phase, portfolio, what the judges said
FILE.d/          per instance the engine's JSON, results file (witness) and log; not meant to be committed
"""

from __future__ import annotations

import codecs
import contextlib
import csv
import fcntl
import io
import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from benchmarks.instances import DataError

WORDS = ("sat", "unsat", "unknown", "timeout", "error")
Key = tuple[str, str, str]
Record = dict[str, Any]


class ResumeRefused(Exception):
    """The results file belongs to a run with other options, another run is writing it, or it cannot be written. Exit code 2."""


class TableUnwritable(Exception):
    """A finished instance cannot be written (the disk is full, say). What was written before is kept. Exit code 20."""


class Ledger:
    """An open results file. `done` maps (category, network, property) to the record of every instance that has a row.

    A line is on the disk before `append` returns; the row is written after its JSON line and is what counts, so that after a
    kill between the two the instance is simply run again.
    """

    def __init__(self, path: Path, options: dict[str, Any], may_change: frozenset[str] = frozenset(),
                 check: Callable[[Record], None] = lambda _: None, fault: Callable[[Record], str | None] = lambda _: None) -> None:
        """Options that `may_change` names are recorded, but a continued run may have others. `check` raises ResumeRefused for a row that does not
        fit them, and `fault` is that of `read_records`; then the files stay as they are. Raises ResumeRefused, DataError."""
        self.path = path
        self._table = _locked(path)
        try:
            whole = _without_torn_line(path)
            if whole.torn and not side_file(path, "meta.json").exists():  # it is written before the first row
                raise DataError(f"{path}: not a results table; name another results file")
            rows = _rows(path, whole.text)
            self.done = joined(path, rows, read_records(path, repair=True, fault=fault))
            for record in self.done.values():
                check(record)
            self._write_meta(options, may_change, resuming=bool(rows))
            os.truncate(path, whole.size)
            _replace(side_file(path, "jsonl"), "".join(_line(r) for r in self.done.values()))
            self._lines: TextIO = side_file(path, "jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise ResumeRefused(f"{error.filename or path}: cannot be written: {error.strerror or error}") from error

    def append(self, record: Record) -> None:
        """Add one finished instance; both lines are synced. Raises TableUnwritable."""
        text = io.StringIO()
        row = [*record_key(record), record.get("prepare_seconds", 0.0), record["result"], f"{record['run_seconds']:.3f}"]
        csv.writer(text, lineterminator="\n").writerow(row)
        try:
            _append(self._lines, _line(record))
            _append(self._table, text.getvalue())
        except OSError as error:
            why = f"{self.path}: cannot be written: {error.strerror or error}"
            raise TableUnwritable(f"{why}; the {len(self.done)} answers before are kept") from error
        self.done[record_key(record)] = record

    def close(self) -> None:
        """Close and unlock. What could not be written before still cannot, and that was said."""
        for file in (self._lines, self._table):
            with contextlib.suppress(OSError):
                file.close()

    def _write_meta(self, options: dict[str, Any], may_change: frozenset[str], resuming: bool) -> None:
        path, commit = side_file(self.path, "meta.json"), current_commit()
        commits = [commit]
        if resuming:
            try:
                before = json.loads(path.read_text(encoding="utf-8"))
                known, commits = dict(before["options"]), [c for c in before["commits"] if c != commit] + [commit]
            except (OSError, ValueError, KeyError, TypeError) as error:
                why = f"not readable ({error}), so the rows of {self.path} cannot be continued"
                raise ResumeRefused(f"{path}: {why}; name another results file") from error
            changed = sorted(k for k in (known.keys() | options.keys()) - may_change if known.get(k) != options.get(k))
            if changed:
                was = ", ".join(f"{k}: {known.get(k)} there, {options.get(k)} now" for k in changed)
                raise ResumeRefused(f"{self.path} was begun with other options ({was}); use the same ones, or name another results file")
        meta = {"options": options, "commits": commits, "machine": machine(), "versions": versions()}
        _replace(path, json.dumps(meta, indent=1, sort_keys=True) + "\n")


def side_file(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def record_key(record: Record) -> Key:
    return record["category"], record["network"], record["property"]


def read_table(path: Path) -> dict[Key, tuple[str, float]]:
    """(result word, run seconds) per instance of a results file; if an instance occurs twice the last row counts. Raises DataError."""
    return _rows(path, _text(path))


def _rows(path: Path, text: str) -> dict[Key, tuple[str, float]]:
    table = {}
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
            if len(row) != 6 or row[4] not in WORDS:
                raise DataError(f"{path}, line {number}: not a results row (six columns, the fifth one of {' '.join(WORDS)})")
            table[row[0], row[1], row[2]] = row[4], float(row[5])
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return table


def read_records(path: Path, repair: bool = False, fault: Callable[[Record], str | None] = lambda _: None) -> list[Record]:
    """The lines of FILE.jsonl; with `repair` a torn last line is left out. `fault` says what else is wrong with a record. Raises DataError."""
    lines = side_file(path, "jsonl")
    if not lines.exists():
        return []
    records = []
    for number, line in enumerate((_without_torn_line(lines).text if repair else _text(lines)).splitlines(), 1):
        try:
            record = json.loads(line)
            wrong = _fault(record) or fault(record)
        except (ValueError, RecursionError):
            wrong = "not a record of a batch run"
        if wrong:
            raise DataError(f"{lines}, line {number}: {wrong}; restore the file, or name another results file")
        records.append(record)
    return records


def _fault(record: object) -> str | None:
    """Why a line of JSON is no record, if it is none."""
    if not isinstance(record, dict) or not all(isinstance(record.get(name), str) for name in ("category", "network", "property")):
        return "not a record of a batch run"
    result = record.get("result", WORDS[0])
    return None if isinstance(result, str) and result in WORDS else f"the result is {json.dumps(result)[:60]}, none of {' '.join(WORDS)}"


def joined(path: Path, rows: dict[Key, tuple[str, float]], records: list[Record]) -> dict[Key, Record]:
    """The last record of every row. Raises DataError where a row has none, or one with another result."""
    found = {record_key(r): r for r in records if record_key(r) in rows}
    missing = rows.keys() - found.keys()
    if missing:
        raise DataError(f"{side_file(path, 'jsonl')}: no line for {' '.join(min(missing))}; restore the file, or name another results file")
    for key, record in found.items():
        if record.get("result") != rows[key][0]:
            raise DataError(f"{path}: {' '.join(key)} is {rows[key][0]}, and {record.get('result')} in {side_file(path, 'jsonl').name}; "
                            "restore the file that was changed, or name another results file")
    return found


def current_commit() -> str:
    """The commit of this source tree, with `+` if tracked Python files differ from it; "unknown" outside a repository."""
    root = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    packages = ("graph", "specs", "bounds", "verifier", "benchmarks", "soundproof")
    return "unknown" if commit is None else commit + ("+" if git("status", "--porcelain", "-uno", "--", *packages) else "")


def machine() -> dict[str, Any]:
    """What the times depend on: processor, cores, memory in bytes, system."""
    try:
        models = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        models = []
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": (models or [platform.processor()])[0], "cores": os.cpu_count(), "memory_bytes": memory, "system": platform.platform()}


def versions() -> dict[str, str | None]:
    """Installed versions of what decides results; null where a package is missing."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in ("soundproof", "torch", "numpy", "onnx", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _line(record: Record) -> str:
    return json.dumps(record, sort_keys=True, allow_nan=False) + "\n"


def _append(file: TextIO, text: str) -> None:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())


@dataclass(frozen=True)
class _Whole:
    """The lines of a file that end, their size in bytes, and whether anything follows: the remains of a write that was killed."""

    text: str
    size: int
    torn: bool


def _without_torn_line(path: Path) -> _Whole:
    """Raises DataError where the file is no text: then its end is nothing that a run has written."""
    text = _text(path, torn=True)
    size = len(path.read_bytes())
    whole, torn = text[: text.rfind("\n") + 1], text[text.rfind("\n") + 1 :]
    if not all(c.isprintable() for c in torn):
        raise DataError(f"{path}: its last line is no text; restore the file, or name another results file")
    return _Whole(whole, len(whole.encode()), size > len(whole.encode()))


def _text(path: Path, torn: bool = False) -> str:
    """A file's text; one that is `torn` may end within a character. Raises DataError."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(path.read_bytes(), final=not torn)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _locked(path: Path) -> TextIO:
    """The table, opened for this run alone. Raises ResumeRefused."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            raise ResumeRefused(f"{path}: cannot be written: it is no regular file")
        table = path.open("a+", newline="", encoding="utf-8")
    except OSError as error:
        raise ResumeRefused(f"{path}: cannot be written: {error.strerror or error}") from error
    try:
        fcntl.flock(table, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        table.close()
        raise ResumeRefused(f"{path}: another run is writing it") from None
    return table


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        _append(file, text)
    part.replace(path)
