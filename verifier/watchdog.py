"""The light parent process: starts the worker, listens to it, and answers in its place when it cannot (DESIGN 10, "Time").

The worker does everything that is slow or may fail; it reports over its standard output, one JSON object a line:

    {"facts": {...}}      keys of the result that are known by now (a timed-out result still carries them)
    {"say": "text"}       a line for the user
    {"result": {...}}     the answer; the run is over
    {"proof": {...}, "path": "..."}             the answer is `unsat` if the checker accepts the certificate at this path
    {"conjecture": {...}, "path": "..."}        the same, but nobody has computed whether it will: the worker goes on meanwhile
    {"part": "...", "count": n}       a part of the proof, n sub-problems that are new, stands at this path; the worker goes on meanwhile
    {"error": "text", "kind": "ModelError"}     the input is unusable; the run is over

It reads one line, the request. While it searches, it is asked for another part of the proof when the checker has begun with the last one. After a
proof it stays: another line may ask for a better one, where the checker could not follow it.

    {"part_at": seconds that the checker took for each sub-problem of the last part, or 0 where it is not known, "walked": sub-problems so far}
    {"repair": path of what the checker missed, "check_seconds": what the check took}

This module imports only the standard library, so that the worker starts at once and a hung worker cannot delay the answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from verifier import beside, check, confirm
from verifier.follow import Follower
from verifier.memory import memory_of
from verifier.options import Options
from verifier.result import FileIdentity, Result, write_atomically
from verifier.statement import statement

POLL_SECONDS = 0.1
CONJECTURE_SECONDS = 3.0  # at most, for the check of what nobody has computed: of 69 that were accepted in dev.csv the longest took 1.7
MENDED_MOST, MOST_MISSED = 6, 20_000  # times that a proof is mended; leaves that the checker may miss
EXIT_INPUT, EXIT_INTERNAL = 3, 4
_BOOT = "import sys; sys.path[:0] = [p for p in sys.argv[1:] if p not in sys.path]; from verifier.worker import main; sys.exit(main())"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Failure:
    """A run that ended without a verdict: exit code 3 or 4, the class name of the error, and what to tell the user."""

    exit_code: int
    kind: str
    text: str


@dataclass(frozen=True)
class Proof:
    """What the worker says it has proven: the result, if the checker accepts the certificate at `path`."""

    result: Result
    path: str


@dataclass(frozen=True)
class Conjecture:
    """What the worker has not proven, but the checker may accept."""

    proof: Proof


def worker_command() -> list[str]:
    """The worker, found beside this file even where the package is not installed; -P keeps the current folder out of it."""
    return [sys.executable, "-P", "-c", _BOOT, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]


def supervise(
    options: Options, say: Say, command: Sequence[str] | None = None, checker: Sequence[str] | None = None, judge: Sequence[str] | None = None
) -> Result | Failure:
    """Run the worker, then the checker of its proof or the judge of its witness, to their end or to a limit; write the results file and
    the JSON file, whatever happens; return what to tell.

    Called in the main thread, SIGINT and SIGTERM end the run as `unknown` (interrupted). `say` gets lines for the user.
    """
    with beside.signals() as received, _private_folder() as folder:  # before the worker starts: an early Ctrl-C must not leave it behind
        with tempfile.NamedTemporaryFile(prefix="soundproof-worker-", suffix=".log", delete=False) as log:
            worker = subprocess.Popen(
                command or worker_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True, env=_environment(options),
            )
        watch = _Watch(options, say, worker, log.name, folder, checker)
        keep = ""
        try:
            answer = _answer(watch, received, checker)
            _stop(worker)
            if isinstance(answer, Result) and answer.verdict == "sat":
                answer = confirm.confirmed(options, answer, received, judge)
            keep = (answer.certificate.path or "") if isinstance(answer, Result) else ""
            write_files(options, answer, say)
        finally:
            _clean_up(worker)
            watch.follower.close()
            _tidy(folder, keep)
            if not watch.keep_log:
                with contextlib.suppress(FileNotFoundError):  # somebody may have tidied the folder of temporary files
                    os.unlink(log.name)
    return answer


@contextlib.contextmanager
def _private_folder() -> Iterator[str]:
    """A folder for the certificate, which is gone at the end unless a certificate was left in it."""
    folder = tempfile.mkdtemp(prefix="soundproof-")
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def _tidy(folder: str, keep: str) -> None:
    """Remove what the worker did not finish, and every certificate but this one."""
    for name in os.listdir(folder):
        if (path := os.path.join(folder, name)) != keep:
            os.unlink(path)


def _answer(watch: _Watch, received: list[int], command: Sequence[str] | None) -> Result | Failure:
    """The worker's answer, once the checker has seen its proof; or, sooner, what the worker conjectures and the checker accepts."""
    ending = watch.until_the_end(received)
    while isinstance(ending, Conjecture):
        found = _accepted(watch, ending.proof, received, command)
        ending = watch.go_on(received) if found is None else found
    return _checked(watch, ending, received, command) if isinstance(ending, Proof) else ending


def _accepted(watch: _Watch, proof: Proof, received: list[int], command: Sequence[str] | None) -> Result | None:
    """The result, if the checker accepts this certificate soon; what it has against it interests nobody."""
    began = time.monotonic()
    options = watch.options
    seconds = CONJECTURE_SECONDS if options.nodes is None else options.timeout  # a run that is counted in nodes has to repeat
    brief = replace(options, timeout=min(options.timeout, began - options.started + seconds))
    answer = check.run(brief, proof.result, proof.path, received, command, needless=watch.overtaken)
    seconds = time.monotonic() - began
    if answer.outcome == "accepted":
        with contextlib.suppress(OSError):  # where the certificate cannot be kept, the worker's own proof will say so
            result = check.judged(options, proof.result, proof.path, answer, seconds)
            return replace(result, seconds={**result.seconds, "total": time.monotonic() - options.started})
    os.unlink(proof.path)
    return None


def _checked(watch: _Watch, proof: Proof, received: list[int], command: Sequence[str] | None) -> Result:
    """What the checker makes of a proof. A certificate that is not accepted is kept, and its path said."""
    options, say = watch.options, watch.say
    answer, proof, seconds = _until_accepted(watch, proof, received, command)
    if proof.result.verdict != "unsat":
        return replace(proof.result, seconds={**proof.result.seconds, "check": seconds})
    try:
        result = check.judged(options, proof.result, proof.path, answer, seconds)
    except OSError as error:
        say(f"could not write {options.certificate}: {error.strerror or error}; the certificate is at {proof.path}")
        kept = replace(options, certificate=proof.path)
        result = check.judged(kept, proof.result, "", answer, seconds)
    if answer.outcome != "accepted":
        say(f"{answer.text}; the certificate is kept at {proof.path}")
    return replace(result, seconds={**result.seconds, "total": time.monotonic() - options.started})


def _until_accepted(watch: _Watch, proof: Proof, received: list[int], command: Sequence[str] | None) -> tuple[check.Answer, Proof, float]:
    """Check, let the worker mend what the checker could not follow, check again: as long as there is time and that helps. Returns the
    last answer, what it is about (or a witness that was found on the way), and the seconds that checks took."""
    diagnosis, few = watch.diagnosis, (proof.result.nodes or 0) <= check.FEW_NODES
    seconds, fewest = 0.0, MOST_MISSED
    for left in range(MENDED_MOST, -1, -1):
        began = time.monotonic()
        if few:
            answer = check.run(watch.options, proof.result, proof.path, received, command, diagnosis, watch.make_room)
        else:
            answer = watch.follower.check(proof.result, proof.path, received)
        took = time.monotonic() - began
        seconds += took
        missed = _lines(diagnosis)
        if not (answer.partial and left and 0 < missed <= fewest and time.monotonic() + took < watch.options.deadline):
            break
        fewest = missed
        if watch.options.verbosity > 0:
            watch.say(f"the checker could not follow {missed} leaves: searching further there")
        better = watch.mended(diagnosis, took, received)
        if isinstance(better, Proof):
            os.unlink(proof.path)
            proof = better
            continue
        if isinstance(better, Result) and better.verdict == "sat":
            proof = replace(proof, result=better)
        elif isinstance(better, Failure):
            watch.say(better.text)
        elif watch.options.verbosity > 0 and better.reason is not None:
            watch.say(better.reason.text)
        break
    return answer, proof, seconds


def _lines(path: str) -> int:
    """How many lines the file has; none where there is no file."""
    try:
        with open(path, "rb") as file:
            return sum(1 for _ in file)
    except FileNotFoundError:
        return 0


class _Watch:
    """One worker being listened to. `draft` is the JSON of the result as far as it is known."""

    def __init__(
        self, options: Options, say: Say, worker: subprocess.Popen[bytes], log: str, folder: str, checker: Sequence[str] | None
    ) -> None:
        self.options, self.say, self.worker, self.log, self.folder = options, say, worker, log, folder
        self.diagnosis = os.path.join(folder, "diagnosis")
        self.follower = Follower(options, checker, self.diagnosis, self.make_room)
        self.draft = _first_draft(options)
        self.keep_log = False
        self._asked = False
        self._peak = 0
        self._unread = bytearray()
        self._ahead: Result | Proof | Conjecture | Failure | None = None  # what was heard before it was asked for

    def until_the_end(self, received: list[int]) -> Result | Proof | Conjecture | Failure:
        """Listen until there is an answer, a signal arrives, the worker dies or a limit is reached."""
        self._send({**self.options.to_request(), "folder": self.folder})
        return self.go_on(received)

    def go_on(self, received: list[int]) -> Result | Proof | Conjecture | Failure:
        """The same, to a worker that has its request."""
        if self._ahead is not None:
            ahead, self._ahead = self._ahead, None
            return ahead
        while True:
            if (asked := self.follower.asks()) is not None:
                self._send({"part_at": asked[0], "walked": asked[1]})
            ending = self._hear(self._seconds_to_wait())
            if ending is None and received:
                ending = self._unknown("interrupted", f"interrupted by {signal.Signals(received[0]).name}")
            if ending is None:
                ending = self._over_a_limit()
            if ending is not None:
                return ending

    def overtaken(self) -> bool:
        """Whether the worker's own answer has come meanwhile, and leaves nothing to hope of its conjecture: a witness, an error, or a proof
        that took a search. (A run that is counted in nodes has to repeat, and does not ask who was first with a proof.)"""
        if self._ahead is None:
            self._ahead = self._hear(0.0)
        match self._ahead:
            case Result(verdict="sat") | Failure():
                return True
            case Proof(result=result):
                return self.options.nodes is None and (result.nodes or 0) > 1
        return False

    def _send(self, message: dict[str, Any]) -> None:
        if self.worker.stdin is None:
            raise OSError("the worker has no standard input")
        with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed when its output ends
            self.worker.stdin.write(json.dumps(message).encode() + b"\n")
            self.worker.stdin.flush()  # left open: its end tells the worker that this process is gone

    def mended(self, diagnosis: str, check_seconds: float, received: list[int]) -> Result | Proof | Failure:
        """What the worker makes of its proof, given what the checker could not follow."""
        self._send({"repair": diagnosis, "check_seconds": check_seconds})
        ending = self.go_on(received)
        if isinstance(ending, Conjecture):
            raise ValueError("the worker was asked for a better proof, and sent a conjecture")
        return ending

    def make_room(self, bytes_elsewhere: int) -> None:
        """Stop the worker, which can mend nothing then, if it and what another process takes are more than the memory limit."""
        memory = None if self.options.memory is None else memory_of(self.worker.pid)
        if memory is not None and self.options.memory is not None and memory.resident + bytes_elsewhere > self.options.memory * 1e9:
            _stop(self.worker)

    def _seconds_to_wait(self) -> float:
        return min(POLL_SECONDS, max(0.0, self.options.limit - time.monotonic()))

    def _hear(self, seconds: float) -> Result | Proof | Conjecture | Failure | None:
        """Handle the complete lines up to one that is an ending; wait for output where there are none."""
        if self.worker.stdout is None:
            raise OSError("the worker has no standard output")
        if b"\n" not in self._unread:
            descriptor = self.worker.stdout.fileno()
            if not select.select([descriptor], [], [], seconds)[0]:
                return None
            data = os.read(descriptor, 1 << 20)
            if not data:
                return self._died()
            self._unread += data
        while (end := self._unread.find(b"\n")) >= 0:
            line = bytes(self._unread[:end])
            del self._unread[: end + 1]
            ending = self._handle(json.loads(line))
            if ending is not None:
                return ending
        return None

    def _handle(self, message: dict[str, Any]) -> Result | Proof | Conjecture | Failure | None:
        match message:
            case {"facts": dict(facts)}:
                self.draft.update(facts)
            case {"say": str(text)}:
                self.say(text)
            case {"part": str(path), "count": int(count)}:
                self.follower.take(path, count)
            case {"result": dict(plain)}:
                return self._timed(Result.from_dict(plain))
            case {"proof": dict(plain), "path": str(path)}:
                return Proof(self._timed(Result.from_dict(plain)), path)
            case {"conjecture": dict(plain), "path": str(path)}:
                return Conjecture(Proof(self._timed(Result.from_dict(plain)), path))
            case {"error": str(text), "kind": str(kind)}:
                return Failure(EXIT_INPUT, kind, text)
            case _:
                raise ValueError(f"the worker sent a message of an unknown kind: {list(message)}")
        return None

    def _over_a_limit(self) -> Result | None:
        now = time.monotonic()
        if now >= self.options.limit:
            return self._unknown("time", f"the limit of {self.options.timeout:g} s was reached")
        if not self._asked and now >= (self.options.deadline + self.options.limit) / 2:
            self._asked = True
            self.worker.terminate()
        memory = memory_of(self.worker.pid)
        if memory is not None:
            self._peak = max(self._peak, memory.peak)
            if self.options.memory is not None and memory.resident > self.options.memory * 1e9:
                return self._unknown("memory", f"the memory limit of {self.options.memory:g} GB was reached")
        return None

    def _died(self) -> Result | Failure:
        """The worker closed its output without an answer."""
        if self._asked:
            return self._unknown("time", f"the limit of {self.options.timeout:g} s was reached")
        code = self.worker.wait()
        self.keep_log = True
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        with open(self.log, encoding="utf-8", errors="replace") as file:
            last = ([line.strip() for line in file if line.strip()] or ["(it left no message)"])[-1]
        hint = " The system may have run out of memory; try --memory." if code == -signal.SIGKILL else ""
        text = f"internal error: the worker ended without an answer ({how}): {last}{hint}\nIts log is kept at {self.log}; please report it."
        return Failure(EXIT_INTERNAL, "InternalError", text)

    def _unknown(self, code: str, text: str) -> Result:
        """The answer in the worker's place, with what it had found so far."""
        draft = Result.from_dict({**self.draft, "reason": {"code": code, "text": text}, "verdict": "timed-out" if code == "time" else "unknown"})
        sentence = statement(draft.verdict, draft.assurance, self.options.model_names, self.options.property_path, draft.cases, draft.reason)
        return self._timed(replace(draft, statement=sentence))

    def _timed(self, result: Result) -> Result:
        seconds = {**result.seconds, "total": time.monotonic() - self.options.started}
        peak = max(result.peak_memory_bytes or 0, self._peak) or None
        return replace(result, seconds=seconds, peak_memory_bytes=peak)


def _first_draft(options: Options) -> dict[str, Any]:
    """The JSON of a result about which nothing is known yet."""
    return Result(
        models=tuple(FileIdentity(path, name=name or None) for name, path in options.models),
        property_file=FileIdentity(options.property_path),
        verdict="unknown",
        assurance="none",
        statement="",
        seed=options.seed,
        semantics=options.semantics if options.semantics != "auto" else "real",  # until the property has been read
        threads=options.threads,
        device=options.device,
    ).to_dict()


def _environment(options: Options) -> dict[str, str]:
    """Threads are set before numpy and torch start their pools; hashing is fixed so that runs are alike.

    Threads that wait for each other sleep instead of spinning: on a busy machine that halves the time of small networks
    (six layers of 50 neurons, beside two other runs on two cores: 3.0 s instead of 5.5 s), on an idle one it costs hundredths.
    """
    pools = {f"{pool}_NUM_THREADS": str(options.threads) for pool in ("OMP", "MKL", "OPENBLAS")}
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **pools, "PYTHONHASHSEED": "0"}


def _stop(worker: subprocess.Popen[bytes]) -> None:
    """Kill the worker and every process it started (it leads a session of its own)."""
    if worker.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)


def _clean_up(worker: subprocess.Popen[bytes]) -> None:
    """Leave no process and no pipe behind."""
    _stop(worker)
    worker.wait()
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def refused(options: Options, text: str, say: Say) -> Failure:
    """The ending of a run whose model was refused before it could begin; files are written as for any other."""
    ending = Failure(EXIT_INPUT, "ModelError", text)
    write_files(options, ending, say)
    return ending


def write_files(options: Options, ending: Result | Failure, say: Say) -> None:
    """Write what was asked for. A file that cannot be written is said, and does not cost the answer."""
    answered = isinstance(ending, Result)
    texts = (
        (options.results_file, ending.to_competition() if isinstance(ending, Result) else "error\n"),
        (options.json, ending.to_json() if isinstance(ending, Result) else None),
    )
    for path, text in texts:
        if path is None:
            continue
        try:
            if text is not None:
                write_atomically(path, text)
            elif os.path.exists(path):
                os.unlink(path)  # an old answer must not pass for one to this question
        except OSError as error:
            say(f"could not write {path}: {error.strerror or error}{' (the answer is on standard output)' if answered else ''}")
