"""Runs a process of ours beside the run, within its limits: the checker of a certificate, the judge of a witness.

Only the standard library is imported: the parent process does this.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO

from verifier.memory import memory_of
from verifier.options import Options
from verifier.result import Reason

POLL_SECONDS = 0.05
_BOOT = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"


@dataclass(frozen=True)
class Ended:
    """What a process printed, its exit code, the most bytes it took; `stopped`: why it had to end, if it had to."""

    out: str
    log: str
    exit_code: int
    peak: int
    stopped: Reason | None = None


def module_command(module: str) -> list[str]:
    """`python -I -m MODULE`, from the folder that this file is in, also where the package is not installed."""
    return [sys.executable, "-I", "-c", _BOOT.format(module=module), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]


def run(
    command: Sequence[str], options: Options, received: Sequence[int], doing: str,
    make_room: Callable[[int], None] = lambda _: None, stdin: str = "", needless: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run `command` to its end or to a limit of `options`; a signal that arrives in `received` ends it too, and so does an answer that
    makes it `needless`, which is asked again and again. `doing` is what happened meanwhile, in words. `make_room` hears as often how many
    bytes the process takes."""
    with contextlib.closing(Process(command, stdin)) as process:
        return process.ended(process.wait(options, received, doing, make_room, needless))


class Process:
    """A process that was started, and leads a session of its own. Its standard input is `stdin`, or else what it is told; what it prints goes to
    files without names."""

    def __init__(self, command: Sequence[str], stdin: str | None = None) -> None:
        self._out, self._log, self._peak, self._gone = _text_file(), _text_file(), 0, False
        with _text_file() as given:
            given.write(stdin or "")
            given.seek(0)
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE if stdin is None else given, stdout=self._out, stderr=self._log, start_new_session=True, text=True,
            )  # fmt: skip

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def tell(self, line: str) -> None:
        """A line for its standard input. (One that has ended does not hear it.)"""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()

    def tell_no_more(self) -> None:
        """Close its standard input."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def printed(self) -> str:
        """What it has printed so far."""
        return _content(self._out)

    @property
    def lines(self) -> int:
        """How many lines it has printed."""
        return self.printed().count("\n")

    def wait(
        self, options: Options, received: Sequence[int], doing: str, make_room: Callable[[int], None] = lambda _: None,
        needless: Callable[[], bool] = lambda: False, lines: int | None = None,
    ) -> Reason | None:
        """Wait for its end, or until it has printed so many lines; or for one of the reasons to end it that `run` states, and return that."""
        process = self._process
        while process.poll() is None and (lines is None or self.lines < lines):
            memory = memory_of(process.pid)
            self._peak = max(self._peak, 0 if memory is None else memory.peak)
            make_room(0 if memory is None else memory.resident)
            stopped = _stopped(options, received, 0 if memory is None else memory.resident, doing)
            if stopped is None and needless():
                stopped = Reason("check-unfinished", f"the answer was known before {doing}")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(min(POLL_SECONDS, max(0.0, options.limit - time.monotonic())))
            if stopped is not None:
                return stopped
        return None

    def so_far(self, code: int) -> Ended:
        """All about it, as if it had ended with this exit code."""
        return Ended(self.printed(), _content(self._log), code, self._peak)

    def ended(self, stopped: Reason | None) -> Ended:
        """All about it; it is ended if it has not ended. `stopped`: why it has to end."""
        self._kill()
        code = self._process.returncode
        return replace(self.so_far(code), stopped=stopped if code < 0 else None)

    def close(self) -> None:
        """Leave neither the process behind nor files."""
        self._kill()
        self.tell_no_more()
        self._out.close()
        self._log.close()

    def _kill(self) -> None:
        """End it, and every process it started."""
        if not self._gone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._gone = True


def _text_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _content(file: IO[str]) -> str:
    """All that others have written to it; its place stays."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode(errors="replace")


def last_line(log: str) -> str:
    """The last thing a process complained of."""
    return ([line for line in log.splitlines() if line.strip()] or ["(it left no message)"])[-1]


def _stopped(options: Options, received: Sequence[int], resident: int, doing: str) -> Reason | None:
    """Why the process has to end now, if it has to."""
    if time.monotonic() >= options.limit:
        return Reason("check-unfinished", f"the limit of {options.timeout:g} s was reached while {doing}")
    if received:
        return Reason("interrupted", f"interrupted by {signal.Signals(received[0]).name} while {doing}")
    if options.memory is not None and resident > options.memory * 1e9:
        return Reason("memory", f"the memory limit of {options.memory:g} GB was reached while {doing}")
    return None


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying of them. Only the main thread may; elsewhere nothing is collected."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {number: signal.signal(number, lambda caught, _: received.append(caught)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
