"""The results of a batch run on disk: written a row at a time, so that a run killed at any moment can be continued.

FILE             VNN-COMP's six columns, no header: category, network, property, prepare seconds, result, run seconds
FILE.meta.json   options, commits, machine, versions
FILE.jsonl       one line an instance: verdict, assurance, bound, nodes, memory, seconds per phase, portfolio, what the judges said
FILE.d/          per instance the engine's JSON, results file (witness) and log; not meant to be committed
"""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import platform
import subprocess
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from benchmarks.instances import DataError

WORDS = ("sat", "unsat", "unknown", "timeout", "error")
Key = tuple[str, str, str]
Record = dict[str, Any]


class ResumeRefused(Exception):
    """The results file belongs to a run with other options, or another run is writing it. Exit code 2."""


class Ledger:
    """An open results file. `done` maps (category, network, property) to the record of every instance that has a row.

    A line is on the disk before `append` returns; the row is written after its JSON line and is what counts, so that after a
    kill between the two the instance is simply run again.
    """

    def __init__(self, path: Path, options: dict[str, Any], may_change: frozenset[str] = frozenset(),
                 check: Callable[[Record], None] = lambda _: None) -> None:
        """Options that `may_change` names are recorded, but a continued run may have others. `check` raises ResumeRefused for a row that does not
        fit them; then the files stay as they are. Raises ResumeRefused, DataError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._table: TextIO = path.open("a+", newline="", encoding="utf-8")
        try:
            fcntl.flock(self._table, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ResumeRefused(f"{path}: another run is writing it") from None
        _drop_torn_line(path)
        rows = read_table(path)
        records = [r for r in read_records(path, repair=True) if record_key(r) in rows]
        for record in records:
            check(record)
        self._write_meta(options, may_change, resuming=bool(rows))
        self.done: dict[Key, Record] = {record_key(r): r for r in records}
        missing = rows.keys() - self.done.keys()
        if missing:
            raise DataError(f"{side_file(path, 'jsonl')}: no line for {' '.join(sorted(missing)[0])}; restore the file, or use another --out")
        _replace(side_file(path, "jsonl"), "".join(_line(r) for r in self.done.values()))
        self._lines: TextIO = side_file(path, "jsonl").open("a", encoding="utf-8")

    def append(self, record: Record) -> None:
        """Add one finished instance; both lines are synced."""
        _append(self._lines, _line(record))
        text = io.StringIO()
        row = [*record_key(record), record.get("prepare_seconds", 0.0), record["result"], f"{record['run_seconds']:.3f}"]
        csv.writer(text, lineterminator="\n").writerow(row)
        _append(self._table, text.getvalue())
        self.done[record_key(record)] = record

    def close(self) -> None:
        self._lines.close()
        self._table.close()

    def _write_meta(self, options: dict[str, Any], may_change: frozenset[str], resuming: bool) -> None:
        path, commit = side_file(self.path, "meta.json"), current_commit()
        commits = [commit]
        if resuming:
            try:
                before = json.loads(path.read_text(encoding="utf-8"))
                known, commits = before["options"], [c for c in before["commits"] if c != commit] + [commit]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise ResumeRefused(f"{path}: not readable ({error}), so the rows of {self.path} cannot be continued; use another --out") from error
            changed = sorted(k for k in (known.keys() | options.keys()) - may_change if known.get(k) != options.get(k))
            if changed:
                was = ", ".join(f"{k}: {known.get(k)} there, {options.get(k)} now" for k in changed)
                raise ResumeRefused(f"{self.path} was begun with other options ({was}); use the same ones, or another --out")
        meta = {"options": options, "commits": commits, "machine": machine(), "versions": versions()}
        _replace(path, json.dumps(meta, indent=1, sort_keys=True) + "\n")


def side_file(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def record_key(record: Record) -> Key:
    return record["category"], record["network"], record["property"]


def read_table(path: Path) -> dict[Key, tuple[str, float]]:
    """(result word, run seconds) per instance of a results file; if an instance occurs twice the last row counts. Raises DataError."""
    table = {}
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.reader(lines), 1):
                if len(row) != 6 or row[4] not in WORDS:
                    raise DataError(f"{path}, line {number}: not a results row (six columns, the fifth one of {' '.join(WORDS)})")
                table[row[0], row[1], row[2]] = row[4], float(row[5])
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return table


def read_records(path: Path, repair: bool = False) -> list[Record]:
    """The lines of FILE.jsonl; with `repair` a torn last line is dropped. Raises DataError."""
    lines = side_file(path, "jsonl")
    if not lines.exists():
        return []
    if repair:
        _drop_torn_line(lines)
    records = []
    for number, line in enumerate(lines.read_text(encoding="utf-8").splitlines(), 1):
        try:
            record = json.loads(line)
            record_key(record)
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{lines}, line {number}: not a record of a batch run; restore the file, or use another --out") from None
        records.append(record)
    return records


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


def _drop_torn_line(path: Path) -> None:
    """Cut what follows the last newline: the remains of a write that was killed."""
    data = path.read_bytes()
    if data and not data.endswith(b"\n"):
        os.truncate(path, data.rfind(b"\n") + 1)


def _replace(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        _append(file, text)
    part.replace(path)
