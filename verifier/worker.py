"""The worker process: reads the files, checks that they fit and mean what onnxruntime thinks, runs the engine, reports.

Started by the watchdog; speaks its protocol (see `verifier.watchdog`) on the original standard output.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gzip
import hashlib
import importlib
import json
import os
import queue
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from graph.compose import Composed
from graph.errors import ModelError
from graph.load import Model
from specs import vnnlib
from specs.canonical import Property
from specs.errors import PropertyError
from verifier import engine
from verifier.budget import Budget
from verifier.certificate import Recorder, Written
from verifier.events import Conjectured, Event, Observer, Paused, Phase, Progress
from verifier.fit import check_fit, compare_with_runtime, semantics_of
from verifier.memory import keep_freed_memory, own_peak
from verifier.networks import load_models
from verifier.options import Options
from verifier.replay import Replayer
from verifier.report import Loaded, build_result, uncertified
from verifier.result import Cases, CertificateFacts, FileIdentity, Outcome, Reason, Result, finite_or_none

PROGRESS_SECONDS = 0.2
SAY_SECONDS = 5.0
CHECKED_AGAIN = 1.2  # times what the last check took: the next one
PART_SECONDS, PART_SHARE = 1.0, 1 / 30  # that the checker should need for a part of a proof, or of the time since the engine began
FIRST_PART, LEAST_PART = 32, 16  # sub-problems in the first part, and in any
BATCH_SECONDS = 3.0  # or as long as a batch takes, after which the next part comes, but no longer
CHECK_LEFT, CHECK_WHOLE = 1.5, 0.04  # times what was left to check at the last rate; of the time of the search, to read and compare the whole
FASTER = 4.0  # times the sub-problems of the last part, at most, are in the next one; and twice as many at least until that takes too long
BOOKED_ON = {"probe": "attack", "attack": "attack", "interval": "bound", "bound": "bound", "search": "search"}


def main() -> int:
    """Serve one request and exit 0; whatever is not about the user's files is a crash, and its traceback goes to the log."""
    channel = Channel()
    faulthandler.enable()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    request = json.loads(sys.stdin.readline())
    folder = request.pop("folder")
    options = Options.from_request(request)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    parts: queue.SimpleQueue[Asked] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests, parts), daemon=True).start()
    if options.threads > 1 and options.memory is None and options.nodes is None:  # a run that is counted in nodes has to repeat
        parts.put(Asked())
    try:
        session = Session(options, channel, folder, conjectures=True, parts=parts)
        message = session.decide()
        channel.send(message)
        while "proof" in message:
            request = requests.get()
            message = session.mend(request["repair"], request["check_seconds"])
            channel.send(message)
    except (ModelError, PropertyError) as error:
        channel.send({"error": options.in_words(str(error)), "kind": type(error).__name__})
    return 0


class Channel:
    """The way to the watchdog: the original standard output. From now on prints, of ours or of libraries, go to the log."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def send(self, message: dict[str, Any]) -> None:
        """Send one message."""
        self._file.write(json.dumps(message, allow_nan=False) + "\n")
        self._file.flush()


@dataclass(frozen=True)
class Asked:
    """A part of the proof is asked for by a checker that took `rate` seconds for a sub-problem of the last one (0: there was none), and has walked
    so many in all."""

    rate: float = 0.0
    walked: int = 0


def _listen(requests: queue.SimpleQueue[dict[str, Any]], parts: queue.SimpleQueue[Asked]) -> None:
    """Pass requests on: those for a part of the proof, which are answered while the engine runs, by a way of their own. End when the watchdog
    has ended, however it ended: then this process' standard input is closed."""
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if "part_at" in request:
            parts.put(Asked(request["part_at"], request["walked"]))
        else:
            requests.put(request)
    os._exit(0)


class Session:
    """One run: from the files to an answer; and to a better proof, as long as the checker does not follow the one that there is."""

    def __init__(
        self, options: Options, channel: Channel, folder: str, conjectures: bool = False, parts: queue.SimpleQueue[Asked] | None = None
    ) -> None:
        """`conjectures`: who listens asks the checker about what is not proven. `parts` holds something when a part of the proof is asked for."""
        self._conjectures = conjectures
        self._parts, self._told, self._asked = parts, FIRST_PART, Asked()  # `_told`: sub-problems in the last part
        self._followed = False  # whether there was one
        self._began = self._paused = time.monotonic()  # when the session began, and when its last batch was done
        if options.memory is None:  # a limit is about what is resident
            keep_freed_memory()
        began = time.monotonic()
        self._loaded = _load(options, channel)
        self._options = options = replace(options, semantics=semantics_of(self._loaded.property, options.semantics))
        self._channel = channel
        self._seconds = {"load": time.monotonic() - began}
        channel.send({"facts": {**self._loaded.facts(), "seconds": self._seconds, "semantics": options.semantics}})
        self._proof, self._reporter = Notary(folder), Reporter(options, channel, self._loaded.cases(), self._seconds)
        self._mended = 0  # times

    def decide(self) -> dict[str, Any]:
        """The result, or a proof in the private folder."""
        self._budget = engine.budget_of(self._options)
        self._outcome = engine.run(self._loaded.model, self._loaded.property, self._options, self._observe, self._budget)
        for text in self._outcome.notes if self._options.verbosity >= 0 else ():
            self._channel.send({"say": text})
        return self._message()

    def mend(self, path: str, check_seconds: float) -> dict[str, Any]:
        """The same again, after a check that took this long and wrote to `path` what it could not follow."""
        self._mended += 1
        self._outcome = self._proof.mended(path, self._loaded, self._options, check_seconds, self._observe, self._mended, self._outcome)
        return self._message()

    def _observe(self, event: Event) -> None:
        self._reporter(event)
        self._proof(event)
        if self._conjectures and isinstance(event, Conjectured):
            self._conjecture(event.outcome)
        if isinstance(event, Paused) and self._parts is not None:
            now = time.monotonic()
            batch, self._paused = min(now - self._paused, BATCH_SECONDS), now
            if not self._parts.empty():
                self._tell_part(self._parts, max(PART_SECONDS, PART_SHARE * (now - self._began), batch))
            if self._asked.rate:
                left = self._asked.rate * (self._proof.decided - self._asked.walked)
                self._budget.check_takes(CHECK_LEFT * left + CHECK_WHOLE * (now - self._began))

    def _tell_part(self, parts: queue.SimpleQueue[Asked], seconds: float) -> None:
        """Write what of the proof is new, as much as the checker will take so many seconds for. Where there is not much yet, the answer waits."""
        self._asked = asked = parts.get()
        took = asked.rate * self._told
        growth = 1.0 if asked.rate == 0.0 else seconds / took if took > 2 * seconds else min(max(seconds / took, 2.0), FASTER)  # few take as long
        path, count = self._proof.part(self._loaded, self._options, max(int(growth * self._told), LEAST_PART))
        if count:
            if not self._followed:  # from now on the checker has a core: threads of one search would wait for each other
                importlib.import_module("torch").set_num_threads(max(1, self._options.threads - 1))
            self._told, self._followed = count, True
            self._channel.send({"part": path, "count": count})
        else:
            parts.put(asked)

    def _conjecture(self, outcome: Outcome) -> None:
        """Write what the checker is to find out; a disk that is full costs the conjecture only."""
        written = self._proof.conjectured(self._loaded, self._options)
        if written is not None:
            facts = CertificateFacts(written.path, written.sha256, written.bytes)
            result = build_result(outcome, self._loaded, self._options, self._seconds["load"], own_peak())
            self._channel.send({"conjecture": replace(result, certificate=facts).to_dict(), "path": written.path})

    def _message(self) -> dict[str, Any]:
        options, outcome = self._options, self._outcome
        if outcome.claimed_by:
            return {"result": self._claimed(build_result(outcome, self._loaded, options, self._seconds["load"], own_peak())).to_dict()}
        written = self._proof.written(self._loaded, options, self._mended) if outcome.verdict == "unsat" else None
        result = build_result(outcome, self._loaded, options, self._seconds["load"], own_peak())
        if written is not None:
            facts = CertificateFacts(written.path, written.sha256, written.bytes)
            return {"proof": replace(result, certificate=facts).to_dict(), "path": written.path}
        if outcome.verdict == "unsat" and ("engine" not in options.trust or options.semantics == "float32"):
            result = uncertified(result, Reason("disk", f"the certificate could not be written: {self._proof.trouble}"), options)
        return {"result": result.to_dict()}

    def _claimed(self, result: Result) -> Result:
        """An `unsat` on the word of an exact solver, if that is enough."""
        if self._options.trusts_solver:
            return result
        real = self._options.semantics == "float32" and self._options.engine != "smt-float32"
        word = "what it says holds over the reals, not in float32" if real else "--trust takes its word"
        text = f"{self._outcome.claimed_by} finds no counterexample, but our own search did not prove it; {word}"
        return uncertified(result, Reason("not-certified", text), self._options)


def decide(options: Options, channel: Channel, folder: str) -> dict[str, Any]:
    """The first answer of a run. Raises ModelError or PropertyError for unusable input."""
    return Session(options, channel, folder).decide()


class Notary:
    """Records the proof; a disk that is full ends the recording and not the search."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._recorder: Recorder | None = Recorder(folder)
        self._parts = 0
        self.trouble = ""

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        if self._recorder is not None:
            try:
                self._recorder(event)
            except OSError as error:
                self._give_up(error)

    @property
    def decided(self) -> int:
        """How many sub-problems of the chosen search are split or closed."""
        return 0 if self._recorder is None else self._recorder.decided

    def mended(
        self, path: str, loaded: Loaded, options: Options, check_seconds: float, observer: Observer, number: int, before: Outcome
    ) -> Outcome:
        """What is known once the proof has been mended where `path` says, or could not be."""
        if self._recorder is None:
            raise RuntimeError("there is no proof to mend")
        began = time.monotonic()
        nodes = None if options.nodes is None else max(options.nodes - before.nodes, 0)
        budget = Budget(options.deadline, nodes, CHECKED_AGAIN * check_seconds)
        repair = importlib.import_module("verifier.repair")  # torch
        replayer = None if options.no_attack else Replayer(loaded.model, loaded.property)
        found = repair.mend(self._recorder, repair.misses(path), replayer, options, budget, observer, f"repair-{number}")
        return engine.after_mending(before, found, budget, time.monotonic() - began)

    def written(self, loaded: Loaded, options: Options, number: int) -> Written | None:
        """The certificate, on the disk; None, and `trouble`, where that was not possible."""
        if self._recorder is None:
            return None
        try:
            return self._write(self._recorder, f"certificate-{number}" if number else "certificate", loaded, options)
        except OSError as error:
            self._give_up(error)
            return None

    def part(self, loaded: Loaded, options: Options, most: int) -> tuple[str, int]:
        """Where what is new of the proof was written, `most` sub-problems of it or fewer, and of how many: of none where there are not enough yet,
        or where it could not be written, which costs this part only."""
        path = os.path.join(self._folder, f"part-{self._parts}")
        with contextlib.suppress(OSError):
            if self._recorder is not None and (count := self._recorder.write_part(path, *_about(loaded, options), most=most, least=LEAST_PART)):
                self._parts += 1
                return path, count
        return path, 0

    def conjectured(self, loaded: Loaded, options: Options) -> Written | None:
        """The certificate of what may be a proof; None where it could not be written."""
        with contextlib.suppress(OSError):
            return None if self._recorder is None else self._write(self._recorder.conjecture(), "conjecture", loaded, options)
        return None

    def _write(self, recorder: Recorder, name: str, loaded: Loaded, options: Options) -> Written:
        path = os.path.join(self._folder, name)
        found = recorder.write(path + ".part", *_about(loaded, options))
        os.replace(path + ".part", path)
        return replace(found, path=path)

    def _give_up(self, error: OSError) -> None:
        self.trouble, self._recorder = error.strerror or str(error), None


def _about(loaded: Loaded, options: Options) -> tuple[str, str, str]:
    """What a certificate is about: hashes of model and property, semantics."""
    return loaded.model.sha256, loaded.property_sha256, options.semantics


def _load(options: Options, channel: Channel) -> Loaded:
    prop = vnnlib.read(options.property_path)
    model = load_models(prop, options.models)
    check_fit(model, prop, options.network)
    if options.engine == "smt-float32" and isinstance(model, Composed):
        raise PropertyError(f"{prop.source}: --engine smt-float32 speaks of the inputs and outputs of one network, and of nothing else")
    loaded = Loaded(
        options.model_path, options.network or None, model, options.property_path, prop, _sha256(options.property_path), _files(model, options),
    )  # fmt: skip
    if options.verbosity >= 0:
        for text in _notes(model, prop):
            channel.send({"say": text})
    for text in prop.vacuous_cases:  # a warning: also when quiet
        channel.send({"say": text})
    for text in compare_with_runtime(model, prop, options.seed, semantics_of(prop, options.semantics)):
        channel.send({"say": text})
    return loaded


def _files(model: Model, options: Options) -> tuple[FileIdentity, ...]:
    """The files of a composed network, in the order of declaration."""
    if not isinstance(model, Composed):
        return ()
    paths, firsts = dict(options.models), {id(part.model): part for part in reversed(model.parts)}
    found = [part for part in model.parts if firsts[id(part.model)] is part]
    alone = options.model_path if len(found) == 1 else ""
    return tuple(FileIdentity(alone or paths[part.name], part.model.sha256, part.name) for part in found)


def _notes(model: Model, prop: Property) -> list[str]:
    return [*model.notes, *prop.notes]


def _sha256(path: str) -> str:
    """SHA-256 of the file at `path`, decompressed if it is gzipped (as `vnnlib.read` decides it)."""
    digest = hashlib.sha256()
    with open(path, "rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rb") if zipped else open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class Reporter:
    """Observes the engine: keeps the watchdog's draft of the result current, and shows progress with -v."""

    def __init__(self, options: Options, channel: Channel, cases: Cases, seconds: dict[str, float]) -> None:
        self._verbose = options.verbosity > 0
        self._channel = channel
        self._cases = cases
        self._seconds = seconds
        self._sent = self._said = self._phase_began = time.monotonic()
        self._phase: str | None = None

    def __call__(self, event: Event) -> None:
        """Take note of one event."""
        match event:
            case Phase():
                self._begin(event)
            case Progress():
                self._progress(event)

    def _begin(self, phase: Phase) -> None:
        now = time.monotonic()
        if self._phase is not None:
            self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._phase_began
        self._phase, self._phase_began = BOOKED_ON.get(phase.name, "search"), now
        self._channel.send({"facts": {"seconds": self._seconds}})
        if self._verbose:
            self._channel.send({"say": f"{phase.name}: {phase.detail}" if phase.detail else phase.name})

    def _progress(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._sent < PROGRESS_SECONDS:
            return
        self._sent = now
        bound, volume = finite_or_none(progress.bound), finite_or_none(progress.closed_volume)
        cases = replace(self._cases, open=progress.cases_open, closed=self._cases.total - progress.cases_open)
        self._channel.send({"facts": {"nodes": progress.nodes, "bound": bound, "closed_volume": volume, "cases": asdict(cases)}})
        if self._verbose and now - self._said >= SAY_SECONDS:
            self._said = now
            told = "none yet" if bound is None else f"{bound:.6g}"
            self._channel.send({"say": f"{progress.nodes} nodes, {progress.open_nodes} open, {progress.cases_open} cases open, bound {told}"})
