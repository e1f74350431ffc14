"""Answers queries in forks of one process that has imported what is slow to import: python -m benchmarks.certify.worker

Each line of standard input is a request {"options": those of `verifier.options.Options`, "folder": where a certificate goes}; each line of
standard output is the message of `verifier.worker` that ends a run (result, proof or error), or {"crash": text}. A query runs in a process
of its own, so that one which crashes, hangs or grows takes nothing with it, and the next one begins as if it were the first: equal budgets
give equal answers. The end of standard input ends all of it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import sys
import time
import traceback
from dataclasses import replace
from typing import Any, NoReturn

import verifier.complete  # noqa: F401 (torch, before the first fork)
from graph.errors import ModelError
from specs.errors import PropertyError
from verifier import worker as engine_worker
from verifier.memory import memory_of
from verifier.options import Options
from verifier.result import FileIdentity, Reason, Result
from verifier.statement import statement

POLL_SECONDS = 0.05


def main() -> int:
    """Serve requests until standard input ends."""
    channel = engine_worker.Channel()
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the campaign, which ends this process by closing its input
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        options = Options.from_request({**request["options"], "started": time.monotonic()})
        channel.send(answer(options, request["folder"]))
    return 0


class _Pipe:
    """The child's way to its parent."""

    def __init__(self, number: int) -> None:
        self._file = os.fdopen(number, "w", encoding="utf-8")

    def send(self, message: dict[str, Any]) -> None:
        self._file.write(json.dumps(message, allow_nan=False) + "\n")
        self._file.flush()


def answer(options: Options, folder: str) -> dict[str, Any]:
    """Run one query in a fork, within its limits; the message that tells the outcome."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        _serve(options, folder, write)
    os.close(write)
    watch = _Watch(options, child, read)
    try:
        return watch.until_the_end()
    finally:
        watch.end()
        os.close(read)


def _serve(options: Options, folder: str, write: int) -> NoReturn:
    """The child: one run of the engine, and no way back."""
    code = 1
    try:
        pipe = _Pipe(write)
        try:
            message = engine_worker.decide(options, pipe, folder)  # type: ignore[arg-type]
        except (ModelError, PropertyError) as error:
            message = {"error": str(error), "kind": type(error).__name__}
        pipe.send(message)
        code = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Watch:
    """One child being listened to; `draft` is what is known of the result so far."""

    def __init__(self, options: Options, child: int, descriptor: int) -> None:
        self._options, self._child, self._descriptor = options, child, descriptor
        self._draft: dict[str, Any] = {}
        self._unread = bytearray()
        self._peak = 0
        self._reaped = False

    def end(self) -> None:
        """Leave no process behind."""
        if not self._reaped:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)

    def until_the_end(self) -> dict[str, Any]:
        while True:
            ready = select.select([self._descriptor, sys.stdin], [], [], POLL_SECONDS)[0]
            if self._descriptor in ready:
                data = os.read(self._descriptor, 1 << 20)
                ending = self._read(data) if data else self._died()
            elif sys.stdin in ready:
                raise SystemExit(0)  # the campaign sends nothing while a query runs: it is gone
            else:
                ending = None
            ending = ending or self._over_a_limit()
            if ending is not None:
                return ending

    def _read(self, data: bytes) -> dict[str, Any] | None:
        self._unread += data
        *lines, rest = self._unread.split(b"\n")
        self._unread = rest
        for line in lines:
            message: dict[str, Any] = json.loads(line)
            if "facts" in message:
                self._draft.update(message["facts"])
            elif "say" not in message:
                return message
        return None

    def _over_a_limit(self) -> dict[str, Any] | None:
        memory = memory_of(self._child)
        if memory is not None:
            self._peak = max(self._peak, memory.peak)
            if self._options.memory is not None and memory.resident > self._options.memory * 1e9:
                return self._unknown("memory", f"the memory limit of {self._options.memory:g} GB was reached")
        if time.monotonic() >= self._options.limit:
            return self._unknown("time", f"the limit of {self._options.timeout:g} s was reached")
        return None

    def _died(self) -> dict[str, Any]:
        code, self._reaped = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1]), True
        return {"crash": f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"}

    def _unknown(self, code: Any, text: str) -> dict[str, Any]:
        """The result of a query that was stopped, with what it had found so far."""
        options, reason = self._options, Reason(code, text)
        empty = Result((FileIdentity(options.model_path),), FileIdentity(options.property_path), "unknown", "none", "", options.semantics,
                       seed=options.seed, threads=options.threads, device=options.device)
        verdict = "timed-out" if code == "time" else "unknown"
        result = Result.from_dict({**empty.to_dict(), **self._draft, "reason": {"code": code, "text": text}, "verdict": verdict})
        sentence = statement(result.verdict, result.assurance, options.model_names, options.property_path, result.cases, reason)
        seconds = {**result.seconds, "total": time.monotonic() - options.started}
        return {"result": replace(result, statement=sentence, seconds=seconds, peak_memory_bytes=self._peak or None).to_dict()}


if __name__ == "__main__":
    sys.exit(main())
