"""From the command's options to evidence: take the inputs in, ask, report. `soundproof certify` is this and its options."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import ledger
from benchmarks.certify import campaign, covered, evidence, forms, gates, merging, policy, summary
from benchmarks.certify.campaign import Budget, Campaign, Pool
from benchmarks.certify.clean import predictions
from benchmarks.certify.crew import Crew
from benchmarks.certify.errors import Stopped, UsageError
from benchmarks.certify.evidence import Sources
from benchmarks.certify.policy import Policy
from benchmarks.certify.store import Store, write_synced
from benchmarks.certify.summary import Findings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What `certify` was asked for. `shard`: (i, n), 1 <= i <= n; `cluster`: where queries run, None: here. `merge`: folders of shards."""

    sources: Sources
    policy: Policy
    out: Path
    budget: Budget = field(default_factory=Budget)
    jobs: int = 1
    shard: tuple[int, int] = (1, 1)
    cluster: str | None = None
    merge: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class Report:
    """The report as JSON, and whether the run was stopped before its end (a sentence)."""

    plain: Mapping[str, Any]
    stopped: str = ""

    @property
    def exit_code(self) -> int:
        """0: complete and all gates passed; 1: a gate failed; 20: stopped."""
        return 20 if self.stopped else 0 if self.plain["passed"] else 1


def certify(request: Request, notice: campaign.Notice, say: Say) -> Report:
    """Run, or continue, a campaign, and write its report, also when it is stopped. Raises CertifyError."""
    _checked(request)
    files = evidence.fingerprints(request.sources)
    identity = campaign.identity(request.budget, policy.to_plain(request.policy), files, "{}/{}".format(*request.shard))
    store = Store(request.out, identity)
    try:
        evidence.take_in(request.sources, request.policy, request.out)
        subjects = evidence.subjects(request.out)
        samples = evidence.chosen(subjects, request.shard)
        findings = Findings(subjects, samples, predictions(subjects, samples), store.rows)
        say(f"{len(samples)} samples; {sum(1 for s in samples if findings.clean[s].correct)} classified as labelled")
        for folder in request.merge:
            merging.merge(folder, store, identity, subjects, say)
        began, stopped = time.monotonic(), ""
        try:
            with _pool(request) as pool:
                Campaign(subjects, findings.asked, store, request.budget, pool, notice).run()
        except Stopped as stop:
            stopped = str(stop)
        plain = summary.report(findings, _context(request, files, stopped, time.monotonic() - began, findings))
        write(request.out, plain, findings, say)
        return Report(plain, stopped)
    finally:
        store.close()


def _checked(request: Request) -> None:
    """Raise UsageError for what can be seen before anything is read."""
    if not request.policy.checks:
        raise UsageError("nothing to certify: name a region (--region linf:2/255) or a policy (--policy F.toml)")
    for text in request.policy.gates:
        gates.read(text, request.policy)
    if request.cluster is not None and request.cluster != "ray" and not request.cluster.startswith("ray://"):
        raise UsageError(f"--cluster {request.cluster}: expected ray or ray://HOST:PORT")
    number, count = request.shard
    if not 1 <= number <= count:
        raise UsageError(f"--shard {number}/{count}: expected i/n with 1 <= i <= n")


@contextmanager
def _pool(request: Request) -> Iterator[Pool]:
    """Who answers queries."""
    pool: Pool
    if request.cluster is None:
        pool = Crew(request.jobs, request.budget.threads, request.out / "worker.log")
    else:
        try:
            module = importlib.import_module("benchmarks.certify.cluster")
        except ModuleNotFoundError as error:
            raise UsageError(f"--cluster needs {error.name}, which is not installed: pip install 'soundproof[cluster]'") from error
        pool = module.Cluster(request.cluster, request.jobs, request.budget.threads)
    try:
        yield pool
    finally:
        pool.stop()


def _context(request: Request, files: Mapping[str, str], stopped: str, seconds: float, findings: Findings) -> dict[str, Any]:
    return {
        "state": "partial" if stopped else "complete", "stopped": stopped or None, "policy": policy.to_plain(request.policy),
        "budget": asdict(request.budget), "files": dict(files), "shard": list(request.shard),
        "environment": {"machine": ledger.machine(), "versions": ledger.versions(), "commit": ledger.current_commit(), "jobs": request.jobs,
                        "run_seconds": round(seconds, 3)},
        "not_covered": covered.sentences(findings, request.budget.semantics, request.shard),
    }


def write(folder: Path, plain: Mapping[str, Any], findings: Findings, say: Say) -> None:
    """Write the report in all its forms, and the hashes of everything. Raises Stopped."""
    write_synced(folder / "report.json", policy.canonical(plain).encode())
    write_synced(folder / "junit.xml", forms.to_junit(plain).encode())
    write_synced(folder / "report.sarif", forms.to_sarif(plain).encode())
    write_synced(folder / "model_card.md", forms.to_card(plain).encode())
    try:
        page = importlib.import_module("benchmarks.certify.page")
    except ModuleNotFoundError as error:
        say(f"report.html needs {error.name}, which is not installed: pip install 'soundproof[report]'; all other forms are written")
    else:
        write_synced(folder / "report.html", page.to_html(plain, findings, folder).encode())
    evidence.write_hashes(folder)


