"""Follows one proof while it is found: the checker, as a process that is given parts of it and at last the whole (verifier/checker/ledger.py).

Only the standard library is imported: the parent process does this.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence

from verifier import beside, check
from verifier.options import Options
from verifier.result import Result

AHEAD = 2  # parts that the checker may have


class Follower:
    """The checker of one proof. What it has walked in a part it does not walk again in the whole, nor what it could follow there in a better one.

    `diagnosis` is where it tells which leaves of a whole proof are not closed. `make_room` hears again and again how many bytes it takes.
    """

    def __init__(self, options: Options, command: Sequence[str] | None, diagnosis: str, make_room: Callable[[int], None]) -> None:
        self._options, self._command, self._diagnosis, self._make_room = options, command or check.checker_command(), diagnosis, make_room
        self._process: beside.Process | None = None
        self._given = 0  # certificates
        self._parts: list[tuple[str, int]] = []  # that were given: where they are, and of how many sub-problems they tell
        self._done, self._since, self._asked = 0, 0.0, False  # parts; when the next one began; whether another one was asked for
        self._rate, self._whole = 0.0, False  # seconds for a sub-problem of the last part; whether no more parts are wanted

    def asks(self) -> tuple[float, int] | None:
        """If it is time for another part, the seconds that a sub-problem of the last one took, 0 where that is not known yet, and how many were
        walked. Two parts may wait."""
        if self._whole or self._process is None or not self._process.running:
            return None
        now, done = time.monotonic(), self._process.lines
        if done > self._done:
            self._rate = (now - self._since) / sum(count for _, count in self._parts[self._done : done])
            for path, _ in self._parts[self._done : done]:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            self._done, self._since = done, now
        if self._asked or len(self._parts) - self._done >= AHEAD:
            return None
        self._asked = True
        return self._rate, sum(count for _, count in self._parts[:done])

    def take(self, part: str, count: int) -> None:
        """A part of the proof was written to this path, of so many sub-problems."""
        if self._process is None:
            self._start(check.FEW_NODES + 1)
        if self._done == len(self._parts):
            self._since = time.monotonic()
        self._asked = False
        self._parts.append((part, count))
        self._give(f"part\t{part}")

    def check(self, proof: Result, path: str, received: Sequence[int]) -> check.Answer:
        """Whether the certificate at `path` is accepted within the limits of the options; signals that arrive in `received` end the check."""
        self._whole = True
        if self._process is None or not self._process.running:
            self._start(proof.nodes or 0)
        if self._process is None:
            return check.LATE
        self._give(path)
        options, process, doing = self._options, self._process, check.DOING
        stopped = process.wait(options, received, doing, self._make_room, lines=self._given)
        last = process.printed().rstrip("\n").rpartition("\n")[2]
        if stopped is None and process.running and not last.startswith("ACCEPTED"):  # it stays, for a better proof
            return check.answer(options, proof, process.so_far(check.REFUSED))
        process.tell_no_more()
        return check.answer(options, proof, process.ended(stopped or process.wait(options, received, doing, self._make_room)))

    def close(self) -> None:
        """Leave no process behind."""
        if self._process is not None:
            self._process.close()

    def _start(self, nodes: int) -> None:
        self.close()
        limits = check.limits(self._options, nodes)
        files, named = self._options.files
        self._given, self._process = 0, None
        if limits is not None:
            self._process = beside.Process([*self._command, *files, *named, "--follow", "--diagnose", self._diagnosis, *limits])

    def _give(self, line: str) -> None:
        if self._process is not None:
            self._given += 1
            self._process.tell(line)
