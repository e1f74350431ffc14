"""Run one instance as a process of its own, from outside, by the command's contract (DESIGN 10) alone; then have each `sat` judged.

Any verifier with the same contract can be run: the command is given MODEL PROPERTY and the options --timeout, --results-file, --json,
--threads and, if asked for, --memory, --no-attack, --semantics and --trust.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.instances import Instance
from benchmarks.ledger import Record, side_file

GRACE = 10.0  # seconds past the limit after which the process is stopped from outside
JUDGE_LIMIT = 600.0
EXIT_WORDS = {0: "unsat", 10: "sat", 20: "unknown", 30: "timeout"}
COPIED = ("assurance", "bound", "gap", "nodes", "leaves", "cases", "peak_memory_bytes", "seconds", "portfolio", "device",
          "semantics", "certificate")


@dataclass(frozen=True)
class Settings:
    """How every instance is run. `timeout`: seconds, None for the listed limit; `memory`: GB; `judge`: a further replay script.

    `semantics` and `trust` are passed on where given.
    """

    command: tuple[str, ...]
    timeout: float | None = None
    threads: int = 1
    no_attack: bool = False
    memory: float | None = None
    judge: Path | None = None
    semantics: str | None = None
    trust: str | None = None
    grace: float = GRACE


class Processes:
    """The processes that are running now, so that an interrupted batch leaves none behind."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self.stopping = False

    def run(self, command: list[str], limit: float, stdout: Path, stderr: Path) -> tuple[int | None, float]:
        """(exit code, wall seconds); the exit code is None where the limit was exceeded and the process was stopped."""
        start = time.monotonic()
        with stdout.open("wb") as out, stderr.open("wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
            with self._lock:
                self._running.add(process)
            if self.stopping:
                stop(process)
            try:
                code: int | None = process.wait(limit)
            except subprocess.TimeoutExpired:
                stop(process)
                code = None
            finally:
                with self._lock:
                    self._running.discard(process)
        return code, time.monotonic() - start

    def stop_all(self) -> None:
        self.stopping = True
        with self._lock:
            running = list(self._running)
        for process in running:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end; 3 s later kill it and everything it started, workers in sessions of their own included."""
    family = [process.pid, *_descendants(process.pid)]
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    for pid in family:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:  # the process has just ended, or this is not Linux
        return []
    return [p for child in children for p in (child, *_descendants(child))]


def run_instance(instance: Instance, settings: Settings, out: Path, processes: Processes) -> Record:
    """One line for FILE.jsonl. `result` is a word of VNN-COMP; raises DataError where a file of the instance is missing."""
    model, prop = instance.files()
    base = _side_folder(out) / instance.category / _short_name(instance)
    base.parent.mkdir(parents=True, exist_ok=True)
    results, details, stdout, log = (base.with_name(f"{base.name}.{suffix}") for suffix in ("result", "json", "stdout", "log"))
    for stale in (results, details):
        stale.unlink(missing_ok=True)
    limit = settings.timeout if settings.timeout is not None else instance.seconds
    command = [*settings.command, str(model), str(prop), *_options(settings, limit), "--results-file", str(results), "--json", str(details)]
    code, seconds = processes.run(command, limit + settings.grace, stdout, log)
    result, error = _result(code, stdout, results)
    record: Record = {"category": instance.category, "network": instance.network, "property": instance.property_path, "label": instance.label,
                      "limit": limit, "exit_code": code, "result": result, "run_seconds": round(seconds, 3),
                      "error": error and f"{error}: {_last_lines(log)}", **_details(details)}
    if result == "sat":
        record["replay"] = _judge([sys.executable, "-m", "benchmarks.replay"], model, prop, results, processes)
        if settings.judge is not None:
            record["judge"] = _judge([sys.executable, str(settings.judge)], model, prop, results, processes)
    stdout.unlink()
    return record


def _options(settings: Settings, limit: float) -> list[str]:
    options = ["--timeout", f"{limit:g}", "--threads", str(settings.threads)]
    if settings.memory is not None:
        options += ["--memory", f"{settings.memory:g}"]
    for flag, value in (("--semantics", settings.semantics), ("--trust", settings.trust)):
        options += [] if value is None else [flag, value]
    return options + (["--no-attack"] if settings.no_attack else [])


def _result(code: int | None, stdout: Path, results: Path) -> tuple[str, str | None]:
    """The result word, and what went wrong. An answer counts only if exit code, first line of stdout and results file agree on it."""
    if code is None:
        return "timeout", "stopped from outside"
    if code not in EXIT_WORDS:
        return "error", f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    word = EXIT_WORDS[code]
    said = {"exit code": word, "stdout": _first_word(stdout).replace("timed-out", "timeout"), "results file": _first_word(results)}
    if set(said.values()) != {word}:
        return "error", "contradictory answers: " + ", ".join(f"{where} says {what or 'nothing'}" for where, what in said.items())
    return word, None


def _details(path: Path) -> dict[str, Any]:
    """What is kept of the engine's own JSON; all null where there is none."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError):
        data = {}
    data = data if isinstance(data, dict) else {}
    reason, witness = data.get("reason"), data.get("witness")
    kept = {name: data.get(name) for name in COPIED}
    kept["reason"] = reason.get("code") if isinstance(reason, dict) else None
    for name in ("inside_exact_box", "float32_only"):
        kept[name] = witness.get(name) if isinstance(witness, dict) else None
    return kept


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _judge(judge: list[str], model: Path, prop: Path, results: Path, processes: Processes) -> dict[str, Any]:
    """{"violated": bool, "text": first line}: a witness counts as replayed only with exit code 0."""
    out = results.with_suffix(".judge")
    code, _ = processes.run([*judge, str(model), str(prop), str(results)], JUDGE_LIMIT, out, out.with_suffix(".judge-log"))
    text = _first_line(out) or _last_lines(out.with_suffix(".judge-log"))
    for file in (out, out.with_suffix(".judge-log")):
        file.unlink()
    return {"violated": code == 0, "text": text}


def _side_folder(out: Path) -> Path:
    return side_file(out, "d")


def _short_name(instance: Instance) -> str:
    """A file name for an instance: readable, and unique by a hash of both paths (they can be too long, and contain folders)."""
    readable = re.sub(r"[^\w.=-]+", "_", f"{Path(instance.network).stem}--{Path(instance.property_path).stem}")[:120]
    return f"{readable}-{hashlib.sha256(repr(instance.key).encode()).hexdigest()[:8]}"


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return file.readline(4096).strip()
    except OSError:
        return ""


def _first_word(path: Path) -> str:
    return (_first_line(path).split() or [""])[0]


def _last_lines(path: Path) -> str:
    """The last three lines of a log that say something, at most 400 characters."""
    lines = path.read_bytes()[-20000:].decode("utf-8", "replace").split("\n")
    return " | ".join([line.strip() for line in lines if line.strip()][-3:])[-400:] or "nothing on stderr"


def in_parallel(tasks: Sequence[Callable[[], Record]], jobs: int, processes: Processes) -> Generator[Record]:
    """Records as they come. If anything goes wrong, an interrupt included, what runs is stopped and what waits is dropped."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            processes.stop_all()
            raise
