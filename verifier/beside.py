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
from dataclasses import dataclass
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
    with _text_file() as given, _text_file() as out, _text_file() as log:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(command, stdin=given, stdout=out, stderr=log, start_new_session=True)
        peak, stopped = 0, None
        try:
            while process.poll() is None and stopped is None:
                memory = memory_of(process.pid)
                peak = max(peak, 0 if memory is None else memory.peak)
                make_room(0 if memory is None else memory.resident)
                stopped = _stopped(options, received, 0 if memory is None else memory.resident, doing)
                if stopped is None and needless():
                    stopped = Reason("check-unfinished", f"the answer was known before {doing}")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(min(POLL_SECONDS, max(0.0, options.limit - time.monotonic())))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        log.seek(0)
        return Ended(out.read(), log.read(), process.returncode, peak, stopped if process.returncode < 0 else None)


def _text_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


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
