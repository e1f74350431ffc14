"""Queries answered on a Ray cluster (the extra `cluster`): the same workers as on one machine, each behind an actor on some node.

The actor gets the files of a query and sends back the message and the certificate; checking, recording and everything that decides a verdict
stay with the campaign. So a node that lies or dies costs work and nothing else: what it proved has to be accepted by the checker here, and what it
was doing when it died is given to another one, MOST_LOSSES times, and is `unknown` after that.
"""

from __future__ import annotations

import os
import select
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from benchmarks.certify.crew import Ended, Job, Worker, root
from benchmarks.certify.errors import UsageError

MOST_LOSSES = 3
STORE_BYTES = 100_000_000
POLL_SECONDS = 0.05


class Answerer:
    """One worker on a node of the cluster."""

    def __init__(self, threads: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="soundproof-ray-"))
        self._worker = Worker(threads, self._folder / "worker.log")

    def answer(self, key: str, request: Mapping[str, Any], seconds: float, model: bytes, text: bytes) -> dict[str, Any]:
        """{"message": what the worker says, "certificate": its bytes, if there is one}."""
        files = {"model_path": model, "property_path": text}
        for name, content in files.items():
            (self._folder / name).write_bytes(content)
        options = {**request["options"], **{name: str(self._folder / name) for name in files}}
        self._worker.give(Job(key, {"options": options, "folder": str(self._folder)}, seconds))
        ended = None
        while ended is None:
            descriptor = self._worker.descriptor()
            ready = descriptor is not None and bool(select.select([descriptor], [], [], POLL_SECONDS)[0])
            ended = self._worker.hear(ready)
        message = dict(ended.message)
        if "proof" not in message:
            return {"message": message, "certificate": None}
        certificate = Path(message["path"])
        content = certificate.read_bytes()
        certificate.unlink()
        return {"message": message, "certificate": content}


class Cluster:
    """A pool of `Answerer`s; the place of a `Crew`. `address`: "ray" starts a cluster on this machine, "ray://HOST:PORT" joins one."""

    trusted = False  # on machines that may be anybody's

    def __init__(self, address: str, jobs: int, threads: int) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's own is 15: a cluster on this machine would be slower than no cluster
        environment = {"env_vars": {"PYTHONPATH": root(), "RAY_USAGE_STATS_ENABLED": "0"}}
        try:
            if address == "ray":
                ray.init(num_cpus=jobs, include_dashboard=False, log_to_driver=False, configure_logging=False, object_store_memory=STORE_BYTES,
                         runtime_env=environment)
            else:
                ray.init(address, log_to_driver=False, runtime_env=environment)
        except (ConnectionError, OSError, ValueError, RuntimeError) as error:
            raise UsageError(f"--cluster {address}: {error}") from error
        self._actor = ray.remote(num_cpus=1, max_restarts=0)(Answerer)
        self._threads = threads
        self._actors: list[Any] = [self._actor.remote(threads) for _ in range(jobs)]
        self._jobs: dict[int, tuple[Job, Any]] = {}  # number of the actor: what it does, and the answer to come
        self._losses: dict[str, int] = {}

    @property
    def idle(self) -> int:
        return len(self._actors) - len(self._jobs)

    @property
    def working(self) -> frozenset[str]:
        """Keys of the queries that are being answered."""
        return frozenset(job.key for job, _ in self._jobs.values())

    def give(self, job: Job) -> None:
        """Begin a job; there must be an idle actor."""
        number = next(n for n in range(len(self._actors)) if n not in self._jobs)
        options = job.request["options"]
        files = [Path(options[name]).read_bytes() for name in ("model_path", "property_path")]
        self._jobs[number] = job, self._actors[number].answer.remote(job.key, dict(job.request), job.seconds, *files)

    def step(self, seconds: float) -> Iterator[Ended]:
        """What ended within `seconds`."""
        if not self._jobs:
            return
        ready, _ = ray.wait([answer for _, answer in self._jobs.values()], timeout=seconds)
        for number, (job, answer) in list(self._jobs.items()):
            if answer in ready:
                del self._jobs[number]
                ended = self._ended(number, job, answer)
                if ended is not None:
                    yield ended

    def _ended(self, number: int, job: Job, answer: Any) -> Ended | None:
        """The end of a job, its certificate put where the campaign looks for it; None where the job is given to another actor."""
        try:
            found = ray.get(answer)
        except RayError as error:
            return self._lost(number, job, type(error).__name__)
        message = found["message"]
        loss = message.get("lost") or message.get("crash")
        if loss is not None:
            return self._lost(number, job, str(loss))
        if found["certificate"] is not None:
            path = Path(job.request["folder"]) / "certificate.ray"
            path.write_bytes(found["certificate"])
            message["path"] = str(path)
        return Ended(job.key, message)

    def _lost(self, number: int, job: Job, why: str) -> Ended | None:
        ray.kill(self._actors[number])
        self._actors[number] = self._actor.remote(self._threads)
        self._losses[job.key] = self._losses.get(job.key, 0) + 1
        if self._losses[job.key] >= MOST_LOSSES:
            return Ended(job.key, {"crash": f"{MOST_LOSSES} workers of the cluster were lost on it ({why})"})
        self.give(job)
        return None

    def stop(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if ray.is_initialized():
            for actor in self._actors:
                ray.kill(actor)
            ray.shutdown()
