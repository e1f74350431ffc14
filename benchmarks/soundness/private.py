"""One instance, one process, one folder of its own: what the verifier sees of the suite is a model, a property and a time limit.

The files are copied under the same two names for every instance, to a folder that is removed afterwards: neither the family nor the truth nor
the planted point can be read from where they lie. The process runs below a supervisor (`supervisor.py`), which holds the limits.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness import Processes
from benchmarks.soundness import supervisor
from benchmarks.soundness.adapters.base import Output, Task
from benchmarks.soundness.answers import Answer, answer, input_names
from benchmarks.soundness.instance import Entry
from benchmarks.soundness.supervisor import Ending, Supervisor, enter, write_report

MOST_OUTPUT = 64 * 2**20  # bytes of a stream or a results file that are read
SPARE = 30.0  # seconds that a supervisor may take beyond its limit before it is itself stopped

Start = Literal["fork", "spawn"]
Verify = Callable[[str, str, float], tuple[str, Sequence[float] | None]]


class SupervisorLost(Exception):
    """The supervisor ended without a report: it was killed, or the run was interrupted."""


@dataclass(frozen=True)
class Limits:
    """`timeout`: what the verifier is told, seconds. It is stopped `grace` seconds later, and beyond `memory` bytes (None: no limit)."""

    timeout: float
    grace: float = 5.0
    memory: int | None = None


@contextmanager
def private_task(entry: Entry, limits: Limits, attack: bool, semantics: str, vnnlib2: bool) -> Iterator[Task]:
    """The instance in a folder of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="verify-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        source = entry.property2 if vnnlib2 else entry.property
        shutil.copyfile(entry.model, folder / "model.onnx")
        shutil.copyfile(source, folder / "property.vnnlib")
        inputs = input_names(source.read_text(encoding="utf-8")) if vnnlib2 else ("X",)
        (folder / "log").mkdir()
        yield Task(folder / "model.onnx", folder / "property.vnnlib", folder / "result.txt", limits.timeout, limits.memory, vnnlib2, attack,
                   semantics, inputs)


def run_command(command: Sequence[str], task: Task, seconds: float, processes: Processes) -> tuple[Ending, Output]:
    """Run `command` in the task's folder for at most `seconds`. Raises SupervisorLost."""
    folder = task.model.parent
    watch = [sys.executable, "-I", "-S", str(Path(supervisor.__file__)), str(folder), f"{seconds}", str(task.memory or 0), "--"]
    log, report, errors = (folder / "log" / name for name in (".", "report.json", "supervisor-errors"))
    log.mkdir(parents=True, exist_ok=True)  # a command before this one may have removed it
    report.unlink(missing_ok=True)
    code, took = processes.run([*watch, *command], seconds + SPARE, log / "supervisor", errors)
    if code and code > 0 and not _is_file(report) and (os.path.lexists(report) or not _is_file(errors)):
        # The supervisor has ended all processes, and then found no place for its report: the command has damaged its own folder.
        return Ending(None, None, round(took, 3), None), Output(code, "", "the folder of the run was removed, or replaced", None)
    return _ended(log, task.out)


def _ended(log: Path, results: Path) -> tuple[Ending, Output]:
    try:
        ending = Ending(**json.loads(_text(log / "report.json")))
    except ValueError:  # there is none, or the disk was full
        raise SupervisorLost(f"the supervisor left no report: {_text(log / 'supervisor-errors')[-300:]}") from None
    written = _text(results) if _is_file(results) else None
    return ending, Output(ending.code if ending.code is not None else 0, _text(log / "stdout"), _text(log / "stderr"), written)


def _is_file(path: Path) -> bool:
    """Whether it is one that can be read: commands may take away what they were given, permissions too."""
    try:
        return path.is_file() and os.access(path, os.R_OK)
    except PermissionError:
        return False


def _text(path: Path) -> str:
    if not _is_file(path):
        return ""
    with path.open("rb") as file:
        return file.read(MOST_OUTPUT).decode("utf-8", "replace")


def run_callable(verify: Verify, task: Task, seconds: float, start: Start) -> tuple[Ending, Output]:
    """Call `verify(model, property, timeout)` in a child process of a child process that watches it; `start` is fork or spawn.

    With `fork` any callable will do, a closure too; libraries with threads of their own (torch) may hang in a forked process once the parent
    has used them: then `spawn`, for which `verify` has to be importable. Raises SupervisorLost.
    """
    process = multiprocessing.get_context(start).Process(target=_watch, args=(verify, task, seconds))
    process.start()
    try:
        process.join()
    finally:
        process.terminate()
    return _ended(task.model.parent / "log", task.model.parent / "log" / "answer.json")


def _watch(verify: Verify, task: Task, seconds: float) -> None:
    write_report(task.model.parent, Supervisor(seconds, task.memory or 0).run(lambda: _fork(verify, task)))


def _fork(verify: Verify, task: Task) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        enter(task.model.parent)
        word, witness = verify(str(task.model), str(task.property), task.timeout)
        values = None if witness is None else [repr(float(v)) for v in witness]
        Path("log/answer.json").write_text(json.dumps({"verdict": word, "witness": values}), encoding="utf-8")
        code = 0
    finally:  # the process must not go on with what its parent was doing
        if code:
            os.write(2, traceback.format_exc().encode())
        sys.stdout.flush()
        os._exit(code)


def callable_answer(output: Output, words: dict[str, str]) -> Answer:
    """The answer of a callable that returned; `words` are the verdicts that are known."""
    if output.code or output.results is None:
        lines = [line for line in output.stderr.splitlines() if line.strip()]
        return Answer("error", error=f"exit code {output.code}: {lines[-1][:300] if lines else 'nothing was printed'}")
    data: dict[str, Any] = json.loads(output.results)
    if not isinstance(data["verdict"], str) or data["verdict"] not in words:
        return Answer("error", error=f"the callable returned {str(data['verdict'])[:40]!r}, which is no verdict")
    pairs = " ".join(f"(X_{i} {value})" for i, value in enumerate(data["witness"] or ()))
    return answer(words[data["verdict"]], f"({pairs})" if data["witness"] is not None else "")
