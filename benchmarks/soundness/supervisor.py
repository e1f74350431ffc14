"""Runs one program to its end, within limits on time and memory that the program cannot lift, and leaves no process behind.

    python -I -S supervisor.py FOLDER SECONDS BYTES -- COMMAND ...      (BYTES 0: no limit)

The program runs in FOLDER and writes to FOLDER/log/stdout and stderr; how it ended is in FOLDER/log/report.json, an Ending.
The supervisor is the reaper of everything the program starts (PR_SET_CHILD_SUBREAPER), so that a process which leaves its group and its parent
is still found and killed. Memory is the sum of what all of them hold resident, read from /proc several times a second.
Standard library only; Linux. Elsewhere the process group is killed, and a memory limit is refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

SET_CHILD_SUBREAPER = 36  # linux/prctl.h
POLITE = 1.0  # seconds between the request to end and the end
LONGEST_PAUSE = 0.05


@dataclass(frozen=True)
class Ending:
    """How it ended. `code` is Python's return code (negative: a signal), None where the supervisor ended it; then `stopped` says why."""

    code: int | None
    stopped: str | None  # "time", "memory" or "interrupted"
    seconds: float
    peak_memory_bytes: int | None


class Supervisor:
    """One run. `start` forks and returns the child's process id; the child must lead a session of its own."""

    def __init__(self, seconds: float, memory: int) -> None:
        self.seconds, self.memory = seconds, memory
        self.parent = os.getppid()
        self.interrupted = False
        self.peak = 0
        self.code: int | None = None

    def run(self, start: Callable[[], int]) -> Ending:
        """Start, watch, stop where a limit is passed, and end what is left."""
        adopt()
        signal.signal(signal.SIGTERM, self._interrupt)
        signal.signal(signal.SIGINT, self._interrupt)
        begun, pause = time.monotonic(), 0.002
        leader = start()
        reason = None
        while not self._reaped(leader) and reason is None:
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE)
            reason = self._reason(time.monotonic() - begun)
        took = time.monotonic() - begun
        if reason is not None:
            self._ask(leader)
        self._end_all(leader)
        return Ending(None if reason else self.code, reason, round(took, 3), self.peak or None)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True

    def _reason(self, seconds: float) -> str | None:
        """Why the run has to stop now, if it has to. A parent that is gone counts as an interrupt."""
        resident = sum(map(_resident, descendants(os.getpid())))
        self.peak = max(self.peak, resident)
        if self.interrupted or os.getppid() != self.parent:
            return "interrupted"
        if seconds > self.seconds:
            return "time"
        return "memory" if self.memory and resident > self.memory else None

    def _reaped(self, leader: int) -> bool:
        """Collect all that has ended; whether the leader has."""
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                if found[0] == leader:
                    self.code = os.waitstatus_to_exitcode(found[1])
        return self.code is not None

    def _ask(self, leader: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGTERM)
        deadline = time.monotonic() + POLITE
        while not self._reaped(leader) and time.monotonic() < deadline:
            time.sleep(0.01)

    def _end_all(self, leader: int) -> None:
        """Kill the group and every descendant until there is none: what is killed may just have started another."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
        while left := descendants(os.getpid()):
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            self._reaped(leader)
            time.sleep(0.002)
        self._reaped(leader)


def adopt() -> None:
    """Become the parent of every orphan among the descendants; does nothing where the system has no such thing."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def limits_memory() -> bool:
    """Whether this system tells what a process holds."""
    return Path("/proc/self/statm").exists()


def descendants(pid: int) -> list[int]:
    """The processes below `pid`; none where the system does not tell."""
    try:
        children = [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:
        return []
    return [p for child in children for p in (child, *descendants(child))]


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):  # it has just ended
        return 0


def enter(folder: Path) -> None:
    """In a new child: lead a session, work in `folder`, read nothing, write to its log."""
    os.setsid()
    os.chdir(folder)
    created = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, (path, flags) in enumerate(((os.devnull, os.O_RDONLY), ("log/stdout", created), ("log/stderr", created))):
        handle = os.open(path, flags, 0o600)
        os.dup2(handle, number)
        if handle > 2:
            os.close(handle)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_DFL)


def write_report(folder: Path, ending: Ending) -> None:
    """Leave the ending where the runner looks for it, also where the program has removed the folder. Raises OSError."""
    (folder / "log").mkdir(parents=True, exist_ok=True)
    (folder / "log" / "report.json").write_text(json.dumps(asdict(ending)) + "\n", encoding="utf-8")


def _start(folder: Path, command: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        enter(folder)
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def main(arguments: list[str]) -> None:
    folder, seconds, memory, dashes, *command = arguments
    if dashes != "--" or not command:
        raise SystemExit(2)
    write_report(Path(folder), Supervisor(float(seconds), int(memory)).run(lambda: _start(Path(folder), command)))


if __name__ == "__main__":
    main(sys.argv[1:])
