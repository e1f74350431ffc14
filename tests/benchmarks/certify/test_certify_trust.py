"""A campaign with workers that lie: what they send counts for nothing that is not shown again."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.certify import campaign, data, policy
from benchmarks.certify.campaign import Budget, Campaign
from benchmarks.certify.compose import read as read_model
from benchmarks.certify.crew import Crew, Ended, Job
from benchmarks.certify.errors import Stopped
from benchmarks.certify.policy import Policy
from benchmarks.certify.question import Subjects
from benchmarks.certify.store import Store
from tests.benchmarks.certify import campaigns


class Liar:
    """A pool that answers at once with what it was told to say."""

    trusted = False

    def __init__(self, say: Callable[[Job], dict[str, Any]]) -> None:
        self._say, self._jobs = say, list[Job]()

    @property
    def idle(self) -> int:
        return 1 - len(self._jobs)

    @property
    def working(self) -> frozenset[str]:
        return frozenset(job.key for job in self._jobs)

    def give(self, job: Job) -> None:
        self._jobs.append(job)

    def step(self, seconds: float) -> Iterator[Ended]:
        while self._jobs:
            job = self._jobs.pop()
            yield Ended(job.key, self._say(job))

    def stop(self) -> None:
        pass


def result(verdict: str, values: list[float] | None = None, reason: str | None = None) -> dict[str, Any]:
    witness = {"inputs": None, "outputs": None, "inside_exact_box": None, "float32_only": None}
    if values is not None:
        witness.update(inputs=[{"values": values}], outputs=[{"values": [0.0, 1.0]}], float32_only=False)
    return {"verdict": verdict, "assurance": "replayed" if values else "none", "reason": {"code": reason, "text": reason}, "witness": witness,
            "semantics": "float32"}


def outcome(tmp_path: Path, say: Callable[[Job], dict[str, Any]], region: str = "linf:0.1") -> tuple[str, str]:
    """(status, reason) of the one query, sample (0.75, 0.35), certified within radii below 0.2."""
    model, values = campaigns.write_larger_wins(tmp_path)
    asked = policy.completed(Policy(()), [region], "top1", None)
    subjects = Subjects(read_model(model), data.read(values), asked)
    store = Store(tmp_path / "e", {})
    try:
        Campaign(subjects, lambda _: [0], store, Budget(timeout=60.0, nodes=20), Liar(say), lambda *_: None).run()
        (row,) = store.rows.values()
        return row.status, json.dumps(row.facts.get("reason"))
    finally:
        store.close()


@pytest.mark.parametrize(("values", "why"), [
    ([0.75, 0.375], "violates nothing"), ([0.25, 0.875], "violates nothing"), ([0.75], "not 2 float32"), ([0.75, 0.1], "not 2 float32"),
])
def test_a_counterexample_that_is_none(tmp_path: Path, values: list[float], why: str) -> None:
    status, reason = outcome(tmp_path, lambda _: {"result": result("sat", values)})
    assert status == "unknown" and why in reason


def test_a_counterexample_that_is_one(tmp_path: Path) -> None:
    assert outcome(tmp_path, lambda _: {"result": result("sat", [0.5, 0.5])}, "linf:0.25")[0] == "falsified"


def test_a_counterexample_in_the_margin_of_a_ball(tmp_path: Path) -> None:
    """(0.55, 0.55) is 0.2828427 away; the ball of 0.2828426 ends just before it."""
    x = [float(campaigns.np.float32(v)) for v in (0.55, 0.55)]
    status, reason = outcome(tmp_path, lambda _: {"result": result("sat", x)}, "l2:0.2828426")
    assert status == "unknown" and "margin" in reason
    (tmp_path / "again").mkdir()
    assert outcome(tmp_path / "again", lambda _: {"result": result("sat", x)}, "l2:0.29")[0] == "falsified"


def test_a_proof_that_is_none(tmp_path: Path) -> None:
    """The checker refuses it; the query is searched again here, and certified."""

    def forged(job: Job) -> dict[str, Any]:
        path = Path(job.request["folder"]) / "forged"
        path.write_bytes(b"trust me")
        return {"proof": result("unsat"), "path": str(path)}

    assert outcome(tmp_path, forged)[0] == "certified"
    (tmp_path / "wide").mkdir()
    assert outcome(tmp_path / "wide", forged, "linf:0.25")[0] == "falsified"


@pytest.mark.parametrize("reason", ["disk", "interrupted"])
def test_what_ended_for_a_reason_not_its_own_is_not_recorded(tmp_path: Path, reason: str) -> None:
    with pytest.raises(Stopped, match=reason):
        outcome(tmp_path, lambda _: {"result": result("unknown", reason=reason)})
    store = Store(tmp_path / "e", {})
    assert not store.rows
    store.close()


def test_a_crash_is_unknown(tmp_path: Path) -> None:
    assert outcome(tmp_path, lambda _: {"crash": "killed by SIGSEGV"}) == ("unknown", '{"code": "crash", "text": "killed by SIGSEGV"}')


def test_a_batch_in_which_the_checker_crashes_is_checked_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, sizes = campaign.Checking, list[int]()

    def checking(folder: Path, files: Any, limits: Any, seconds: float) -> Any:
        sizes.append(len(files))
        return real(folder, files, limits, seconds, [sys.executable, "-c", "raise SystemExit(1)"] if len(files) > 1 else None)

    monkeypatch.setattr(campaign, "Checking", checking)
    model, values = campaigns.write_larger_wins(tmp_path)
    subjects = Subjects(read_model(model), data.read(values), policy.completed(Policy(()), ["linf:0.1"], "top1", None))
    store = Store(tmp_path / "e", {})
    Campaign(subjects, lambda _: [0, 1], store, Budget(timeout=60.0, nodes=20), Crew(1, 1, tmp_path / "log"), lambda *_: None).run()
    assert [row.status for row in store.rows.values()] == ["certified"] * 2 and sizes == [2, 1, 1]
    store.close()


def test_identities_hold_all_that_decides() -> None:
    base = campaign.identity(Budget(), {"a": 1}, {"model": "x"}, "1/1")
    assert campaign.identity(Budget(nodes=3), {"a": 1}, {"model": "x"}, "1/1") != base
    assert set(base) == {"budget", "policy", "files", "shard"}
