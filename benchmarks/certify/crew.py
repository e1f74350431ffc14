"""The processes of a campaign: workers that answer queries, and the checker that reads their certificates, all watched by one loop."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verifier.check import checker_command

_BOOT = "import sys; sys.path[:0] = [p for p in sys.argv[1:] if p not in sys.path]; from benchmarks.certify.worker import main; sys.exit(main())"
HANGING = 30.0  # seconds after a query's limit at which its worker is taken for dead
MOST_LOSSES = 2  # workers, or processes of theirs, that one query may cost


@dataclass(frozen=True)
class Job:
    """A query as a worker gets it: `request` is its line."""

    key: str
    request: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Ended:
    """What came of a job: the worker's message, or {"crash": text}."""

    key: str
    message: Mapping[str, Any]


def root() -> str:
    """The folder that our packages lie in."""
    return str(Path(__file__).resolve().parents[2])


def environment(threads: int) -> dict[str, str]:
    """Threads are set before numpy and torch are imported; hashing is fixed so that runs are alike."""
    pools = {f"{pool}_NUM_THREADS": str(threads) for pool in ("OMP", "MKL", "OPENBLAS")}
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **pools, "PYTHONHASHSEED": "0"}


class Worker:
    """One worker process. It is started when the first job comes, and again when it has died."""

    def __init__(self, threads: int, log: Path, command: Sequence[str] | None = None) -> None:
        self._command = list(command or [sys.executable, "-P", "-c", _BOOT, root()])
        self._threads, self._log = threads, log
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self.job: Job | None = None
        self._until = 0.0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def give(self, job: Job) -> None:
        """Begin a job. A worker that has died in the meantime is noticed in `hear`."""
        if self._process is None:
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                                 start_new_session=True, env=environment(self._threads))
        self.job, self._until = job, time.monotonic() + job.seconds + HANGING
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(job.request).encode() + b"\n")
                self._process.stdin.flush()

    def descriptor(self) -> int | None:
        """What to wait for while there is a job."""
        return None if self.job is None or self._process is None or self._process.stdout is None else self._process.stdout.fileno()

    def hear(self, ready: bool) -> Ended | None:
        """The end of the job, if it has come; `ready`: there is something to read."""
        job = self.job
        if job is None:
            return None
        if ready:
            data = os.read(self.descriptor() or 0, 1 << 20)
            self._unread += data
            line, end, rest = self._unread.partition(b"\n")
            if end:
                self._unread, self.job = rest, None
                return Ended(job.key, json.loads(line))
            if not data:
                self.stop()
                return Ended(job.key, {"lost": "its worker died"})
        if time.monotonic() > self._until:
            self.stop()
            return Ended(job.key, {"lost": "its worker did not answer"})
        return None

    def stop(self) -> None:
        """End the process and what it started; the job is given up."""
        self.job, self._unread = None, b""
        if self._process is not None:
            end_session(self._process)
            self._process = None


class Checking:
    """One run of the checker on many certificates: `python -I -m verifier.checker --batch LIST`."""

    def __init__(
        self, folder: Path, files: Sequence[tuple[str, Path, Path, Path]], limits: Sequence[str], seconds: float, command: Sequence[str] | None = None
    ) -> None:
        """`seconds`: what the checker may take for each certificate; it is told so in `limits`, and stopped where it does not keep to it."""
        self._until = time.monotonic() + seconds * len(files) + HANGING
        self.keys = tuple(key for key, *_ in files)
        self._list, self._out, log = (folder / f"check.{suffix}" for suffix in ("list", "out", "log"))
        for path in (self._list, self._out, log):
            path.unlink(missing_ok=True)  # a checker of a run that was killed may still write to the old ones
        self._list.write_text("".join(f"{model}\t{prop}\t{certificate}\n" for _, model, prop, certificate in files), encoding="utf-8")
        with self._out.open("wb") as out, log.open("wb") as err:
            self._process = subprocess.Popen([*(command or checker_command()), "--batch", str(self._list), *limits], stdin=subprocess.DEVNULL,
                                             stdout=out, stderr=err, start_new_session=True)

    def ended(self) -> list[Mapping[str, Any]] | None:
        """None while it runs. Then an answer for each key, {"word", ...facts}; none at all if the checker did not end as it should, with as many
        lines as certificates and the exit code that they imply."""
        code = self._process.poll()
        if code is None:
            if time.monotonic() <= self._until:
                return None
            self.stop()
            return []
        answers = [a for a in map(_answer, self._out.read_text(encoding="utf-8", errors="replace").splitlines()) if a is not None]
        implied = 0 if all(a["word"] == "ACCEPTED" for a in answers) else 5
        return answers if len(answers) == len(self.keys) and code == implied else []

    def stop(self) -> None:
        """End the process."""
        end_session(self._process)


def _answer(line: str) -> Mapping[str, Any] | None:
    word, _, rest = line.partition(" ")
    try:
        facts = json.loads(rest)
    except ValueError:
        return None
    return {**facts, "word": word} if word in ("ACCEPTED", "REJECTED", "MALFORMED") and isinstance(facts, dict) else None


def accepted(answer: Mapping[str, Any], certificate: str, model: str, prop: str, semantics: str) -> bool:
    """Whether the checker's line says that exactly this was proven."""
    return answer == {"word": "ACCEPTED", "certificate": certificate, "model": model, "property": prop, "semantics": semantics}


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that leads a session, and all in it."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


class Crew:
    """Several workers; `step` waits a moment and tells what has ended. A query whose worker or process
    died is tried once more, then it is a crash."""

    trusted = True  # they are our own processes

    def __init__(self, jobs: int, threads: int, log: Path, command: Sequence[str] | None = None) -> None:
        self.workers = [Worker(threads, log, command) for _ in range(jobs)]
        self._losses: dict[str, int] = {}

    @property
    def idle(self) -> int:
        return sum(worker.job is None for worker in self.workers)

    @property
    def working(self) -> frozenset[str]:
        """Keys of the queries that are being answered."""
        return frozenset(worker.job.key for worker in self.workers if worker.job is not None)

    def give(self, job: Job) -> None:
        """Begin a job; there must be an idle worker."""
        next(worker for worker in self.workers if worker.job is None).give(job)

    def step(self, seconds: float) -> Iterator[Ended]:
        """What ended within `seconds`."""
        ready = self._ready(seconds)
        for worker in self.workers:
            job = worker.job
            ended = worker.hear(worker in ready)
            if ended is None or job is None:
                continue
            loss = ended.message.get("lost") or ended.message.get("crash")
            if loss is not None:
                self._losses[job.key] = self._losses.get(job.key, 0) + 1
                if self._losses[job.key] < MOST_LOSSES:
                    worker.give(job)
                    continue
                ended = Ended(job.key, {"crash": f"{loss}, twice"})
            yield ended

    def _ready(self, seconds: float) -> set[Worker]:
        with selectors.DefaultSelector() as selector:
            for worker in self.workers:
                descriptor = worker.descriptor()
                if descriptor is not None:
                    selector.register(descriptor, selectors.EVENT_READ, worker)
            if not selector.get_map():
                time.sleep(seconds)
                return set()
            return {key.data for key, _ in selector.select(seconds)}

    def stop(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.stop()
