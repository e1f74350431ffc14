"""The campaign: every query of the policy, answered, checked, recorded; from any state of the store to the end.

What is asked next depends on nothing but the policy and what is recorded, so a run that was killed goes on where it was. The engine's proofs
wait (`claimed`) until the checker, one process for many certificates, has accepted them; one that it does not accept is searched again alone,
where the engine can mend its proof (`verifier.watchdog`), and is `unknown` if that does not help.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from benchmarks.certify import parts, plan, replaying
from benchmarks.certify.crew import Checking, Ended, Job, accepted
from benchmarks.certify.errors import Stopped
from benchmarks.certify.policy import Check
from benchmarks.certify.question import Key, Question, Subjects
from benchmarks.certify.store import Row, Store, write_synced
from verifier import beside
from verifier.options import Options
from verifier.watchdog import Failure, supervise

CHECKED_TOGETHER = 64
STEP_SECONDS = 0.2
CRASHED = {"word": "CRASHED"}


@dataclass(frozen=True)
class Budget:
    """What each query may take: seconds (searching; and again checking), nodes, memory in GB. `split`: how often what it does not decide is
    halved; each half may take as much."""

    timeout: float = 60.0
    nodes: int | None = None
    memory: float | None = None
    threads: int = 1
    seed: int = 0
    semantics: str = "float32"
    split: int = 0


class Pool(Protocol):
    """Who answers queries: a `Crew`, or a cluster. What one that is not `trusted` calls a counterexample is replayed here."""

    @property
    def trusted(self) -> bool: ...
    @property
    def idle(self) -> int: ...
    @property
    def working(self) -> frozenset[str]: ...
    def give(self, job: Job) -> None: ...
    def step(self, seconds: float) -> Iterator[Ended]: ...
    def stop(self) -> None: ...


Asked = Callable[[Check], Sequence[int]]  # the samples that a check asks about
Notice = Callable[[int, int, str], None]  # queries done, queries known of, a line


class Campaign:
    """One run. `run` returns when everything is answered, or raises Stopped."""

    def __init__(self, subjects: Subjects, asked: Asked, store: Store, budget: Budget, pool: Pool, notice: Notice) -> None:
        self._subjects, self._asked, self._store, self._budget = subjects, asked, store, budget
        self._pool, self._notice = pool, notice
        self._keys: dict[str, Key] = {}
        self._questions: dict[str, Question] = {}
        self._queue: deque[Key] = deque()
        self._checking: Checking | None = None
        self._said = 0  # answers in this run: after each the plan may be another
        self._claimed: dict[str, None] = dict.fromkeys(k for k, row in store.rows.items() if row.status == "claimed")  # in order
        self._alone: set[str] = {k for k in self._claimed if store.rows[k].facts.get("refused", CRASHED) != CRASHED}
        self._singly: set[str] = set()  # of a batch in which the checker crashed: each is checked by itself

    def run(self) -> None:
        """Answer, check and record until nothing is left."""
        with beside.signals() as received:
            try:
                while self._turn():
                    if received:
                        raise Stopped(f"stopped by {signal.Signals(received[0]).name}; the same command continues")
            finally:
                self._pool.stop()
                if self._checking is not None:
                    self._checking.stop()

    def _turn(self) -> bool:
        """One round of the loop; whether there is anything left."""
        planned, before = not self._queue and not self._pool.working, self._said
        if planned:
            wanted = list(plan.wanted(self._subjects.policy, self._asked, self._store.rows))
            self._keys.update((key.folder, key) for key in wanted)
            self._queue.extend(key for key in wanted if key.folder not in self._store.rows)
        while self._queue and self._pool.idle:
            self._pool.give(self._job(self._queue.popleft()))
        for ended in self._pool.step(STEP_SECONDS if self._pool.working or self._checking else 0.0):
            self._record(ended)
        self._check(not self._queue and not self._pool.working)
        return bool(not planned or self._pool.working or self._checking or self._claimed or self._said != before)

    def _job(self, key: Key) -> Job:
        """Write the query's files and the request that names them."""
        question = self._subjects.question(key)
        folder = self._store.folder / "queries" / key.folder
        model = model_path(self._store.folder, question)
        if not model.exists():
            write_synced(model, question.model)
        write_synced(folder / "query.vnnlib", question.text.encode())
        self._questions[key.folder] = question
        options = Options(str(model), str(folder / "query.vnnlib"), timeout=self._budget.timeout, memory=self._budget.memory, verbosity=-1,
                          nodes=self._budget.nodes, seed=self._budget.seed, threads=self._budget.threads, semantics=self._budget.semantics)
        return Job(key.folder, {"options": options.to_request(), "folder": str(folder)}, self._budget.timeout)

    def _record(self, ended: Ended) -> None:
        """Put the outcome of a query on the disk."""
        question, message = self._questions.pop(ended.key), ended.message
        facts: dict[str, Any] = {"model": question.model_sha256, "property": question.property_sha256}
        if "crash" in message or "error" in message:
            text = str(message.get("crash") or message.get("error"))
            row = Row("unknown", {**facts, "reason": {"code": "crash" if "crash" in message else "unusable", "text": text}})
        elif "proof" in message:
            row = Row("claimed", {**facts, "result": _relative(message["proof"]), "certificate": self._keep(ended.key, Path(message["path"]))})
        else:
            _stop_where_it_ends(message["result"])
            row = self._judged(ended.key, question, message["result"], facts)
        self._say(ended.key, row)

    def _judged(self, key: str, question: Question, result: Mapping[str, Any], facts: dict[str, Any]) -> Row:
        """A result without a proof: falsified if the witness lies where the region says, else unknown."""
        facts = {**facts, "result": _relative(result)}
        if result["verdict"] != "sat":
            reason = result["reason"]
            return Row("unknown", {**facts, "reason": reason, **self._divided(self._keys[key], question, (reason or {}).get("code"))})
        text = "" if self._pool.trusted else self._objection(key, question, result)
        if text:
            return Row("unknown", {**facts, "reason": {"code": "crash", "text": f"a counterexample was sent that does not hold: {text}"}})
        x = [Fraction(v) for v in result["witness"]["inputs"][0]["values"]]
        if question.region.norm is not None and not question.region.norm.contains(x):
            text = "the counterexample that was found lies in the margin that rounding needs around the region, not in the region"
            return Row("unknown", {**facts, "reason": {"code": "margin", "text": text}})
        witness = {"inputs": result["witness"]["inputs"][0]["values"], "outputs": result["witness"]["outputs"][0]["values"],
                   "inside_region": question.region.contains(x), "float32_only": result["witness"]["float32_only"]}
        text = json.dumps(witness, sort_keys=True, allow_nan=False) + "\n"
        write_synced(self._store.folder / "queries" / key / "witness.json", text.encode())
        return Row("falsified", {**facts, "witness": hashlib.sha256(text.encode()).hexdigest()})

    def _divided(self, key: Key, question: Question, code: str | None) -> dict[str, Any]:
        """{"split": along which number the query is halved}, if it is one that halving may decide."""
        if code not in parts.HARD or len(key.part) >= self._budget.split:
            return {}
        chosen = parts.axis(question)
        return {} if chosen is None else {"split": {"axis": chosen[0]}}

    def _objection(self, key: str, question: Question, result: Mapping[str, Any]) -> str:
        """What speaks against a counterexample that another machine sent: it is replayed here."""
        place = self._store.folder / "queries" / key / "query.vnnlib"
        values = result["witness"]["inputs"][0]["values"]
        return replaying.objection(model_path(self._store.folder, question), place, replace(question.region, norm=None), values)

    def _keep(self, key: str, path: Path) -> str:
        """Give the certificate its name; its hash."""
        content = path.read_bytes()
        write_synced(self._store.folder / "queries" / key / "certificate", content)
        if path.name != "certificate":
            path.unlink(missing_ok=True)
        return hashlib.sha256(content).hexdigest()

    def _say(self, key: str, row: Row) -> None:
        self._store.record(key, row)
        self._said += 1
        if row.status == "claimed":
            self._claimed[key] = None
        else:
            self._claimed.pop(key, None)
        self._notice(len(self._store.rows), max(len(self._keys), len(self._store.rows)), f"{key}: {row.status}")

    def _check(self, last: bool) -> None:
        """Begin a check where enough waits, or nothing else will come; take in what a check has found."""
        if self._checking is not None:
            answers = self._checking.ended()
            if answers is not None:
                keys, self._checking = self._checking.keys, None
                self._answered(keys, answers)
            return
        waiting = [key for key in self._claimed if key not in self._alone and key not in self._singly]
        if waiting and (last or len(waiting) >= CHECKED_TOGETHER):
            self._begin_check(waiting[:CHECKED_TOGETHER])
        elif last and self._singly:
            self._begin_check([min(self._singly)])
        elif last and self._alone:
            self._again(min(self._alone))

    def _begin_check(self, keys: Sequence[str]) -> None:
        folder = self._store.folder
        files = []
        for key in keys:
            facts, place = self._store.rows[key].facts, folder / "queries" / key
            files.append((key, folder / "composed" / f"{facts['model']}.onnx", place / "query.vnnlib", place / "certificate"))
        memory = [] if self._budget.memory is None else ["--memory", str(self._budget.memory)]
        self._checking = Checking(folder, files, ["--timeout", f"{self._budget.timeout:.3f}", *memory], self._budget.timeout)

    def _answered(self, keys: Sequence[str], answers: Sequence[Mapping[str, Any]]) -> None:
        """Certified is what the checker's line names in every particular; all else is tried again alone."""
        if not answers and len(keys) > 1:
            self._singly.update(keys)
            return
        self._singly.difference_update(keys)
        for key, answer in zip(keys, answers or [CRASHED] * len(keys), strict=True):
            facts = self._store.rows[key].facts
            if accepted(answer, facts["certificate"], facts["model"], facts["property"], self._budget.semantics):
                self._say(key, Row("certified", facts))
            else:
                self._alone.add(key)
                self._store.record(key, Row("claimed", {**facts, "refused": dict(answer)}))

    def _again(self, key: str) -> None:
        """The query once more as `soundproof verify` runs it, with its own check and mended proofs."""
        facts, place = self._store.rows[key].facts, self._store.folder / "queries" / key
        certificate = place / "certificate"
        options = Options(str(self._store.folder / "composed" / f"{facts['model']}.onnx"), str(place / "query.vnnlib"),
                          timeout=2 * self._budget.timeout, memory=self._budget.memory, nodes=self._budget.nodes, seed=self._budget.seed,
                          threads=self._budget.threads, semantics=self._budget.semantics, certificate=str(certificate), verbosity=-1)
        ending = supervise(options, lambda _: None)
        self._alone.discard(key)
        kept = {"model": facts["model"], "property": facts["property"]}
        if isinstance(ending, Failure):
            self._say(key, Row("unknown", {**kept, "reason": {"code": "crash", "text": ending.text}}))
            return
        result = _relative(ending.to_dict())
        _stop_where_it_ends(result)
        if ending.verdict == "unsat" and ending.assurance == "certified":
            self._say(key, Row("certified", {**kept, "result": result, "certificate": hashlib.sha256(certificate.read_bytes()).hexdigest()}))
            return
        certificate.unlink(missing_ok=True)
        question = self._subjects.question(self._keys[key])
        self._say(key, self._judged(key, question, result, kept))


def _stop_where_it_ends(result: Mapping[str, Any]) -> None:
    """Raise Stopped where a query ended for a reason that is not its own: it will be asked again."""
    reason = result.get("reason") or {}
    if reason.get("code") in ("interrupted", "disk"):
        raise Stopped(f"{reason.get('text')}; what is done is kept, the same command continues")


def model_path(folder: Path, question: Question) -> Path:
    """Where the composed network of a query lies; queries with the same network share it."""
    return folder / "composed" / f"{question.model_sha256}.onnx"


def _relative(result: Mapping[str, Any]) -> dict[str, Any]:
    """The result without what differs between machines and runs: paths."""
    plain = {k: v for k, v in result.items() if k not in ("models", "property", "tool", "schema", "statement", "device", "certificate")}
    return json.loads(json.dumps(plain, allow_nan=False))  # type: ignore[no-any-return]


def identity(budget: Budget, policy: Mapping[str, Any], files: Mapping[str, str], shard: str) -> dict[str, Any]:
    """What a store is about: with anything else it is not continued."""
    return {"budget": asdict(budget), "policy": policy, "files": dict(files), "shard": shard}


def cores() -> int:
    """The processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


