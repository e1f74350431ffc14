"""A walk in several processes counts what one counts, and what a process does not answer for is open."""

from __future__ import annotations

import os
import signal
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest

from tests.checker.build import Records, leaf, split
from tests.checker.random_certificates import drawn, grown
from tests.checker.test_walk import Scene, above
from tests.effort import examples
from verifier.checker import shares, walk
from verifier.checker.arithmetic import Array
from verifier.checker.bounds import Checker
from verifier.checker.certificate import Certificate
from verifier.checker.refusal import Rejected

X = 0
Arguments = tuple[Checker, walk.Cases, Certificate, walk.Forest, int]


def walked(seed: int) -> Arguments | None:
    """What a walk of a random certificate takes; None where there is none."""
    r = Random(seed)
    if (found := drawn(r)) is None:
        return None
    problem, certificate = found
    return Checker(problem.network, None), problem.cases, certificate, grown(problem, certificate), r.choice((1, 3, 256))


def deep(levels: int) -> Records:
    """A full tree of halves of the first input."""

    def below(low: float, high: float, level: int) -> Records:
        middle = (low + high) / 2
        return leaf() if level == 0 else split(X, 0, middle, below(low, middle, level - 1), below(middle, high, level - 1))

    return below(-1.0, 1.0, levels)


def scene(threshold: float, levels: int = 4) -> Arguments:
    walker = Scene(cases=above(threshold)).tree(deep(levels)).walk()
    return walker.checker, walker.cases, walker.certificate, walker.forest, 7


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares, "LEAST_WORK", 1)


def told(given: Arguments, processes: int) -> tuple[str, dict[int, tuple[str, float]]]:
    """The rule that refuses, "" if none does, and what failed where; `processes` 0: the walk itself."""
    failed: dict[int, tuple[str, float]] = {}

    def tell(node: int, rule: str, best: float, *where: object) -> None:
        failed[node] = (rule, best)

    try:
        if processes:
            shares.check(processes, *given, tell)
        else:
            walk.check(*given, tell)
    except Rejected as refusal:
        return refusal.rule, failed
    return "", failed


def test_shares_count_together_what_the_whole_counts() -> None:
    for seed in range(examples(60)):
        given = walked(seed)
        if given is None:
            continue
        whole = walk.Walk(*given, lambda *_: None)
        try:
            whole.count()
        except Rejected:
            continue
        nodes = len(given[3].ending)
        cuts = sorted({0, nodes, *np.random.default_rng(seed).integers(0, nodes + 1, 3).tolist()})
        counts = np.zeros(3, np.int64)
        failed: set[int] = set()
        for first, stop in pairwise(cuts):
            part = walk.Walk(*given, lambda node, *_, failed=failed: failed.add(node))
            part.count(slice(first, stop))
            assert part.visited <= stop - first
            counts += [part.visited, part.closed, 0]
        assert counts.tolist()[:2] == [whole.visited, whole.closed] and len(failed) == whole.failed, seed


@pytest.mark.parametrize("processes", [1, 2, 9])
def test_processes_say_what_one_says(processes: int) -> None:
    verdicts = set()
    for seed in range(0, examples(60, 24), 4):
        given = walked(seed)
        if given is not None:
            verdict, failed = told(given, 0)
            again, others = told(given, processes)
            assert again == verdict, seed
            if verdict in ("", "open"):
                assert others == pytest.approx(failed) if not failed else others.keys() == failed.keys(), seed
            verdicts.add(verdict)
    assert {"", "open"} <= verdicts


def test_failures_are_told_with_their_boxes() -> None:
    alone: list[tuple[object, ...]] = []
    together: list[tuple[object, ...]] = []
    for kept, check in ((alone, walk.check), (together, lambda *given: shares.check(3, *given))):

        def keep(node: int, rule: str, best: float, lower: np.ndarray, upper: np.ndarray, cases: np.ndarray, kept: list = kept) -> None:  # type: ignore[type-arg]
            kept.append((node, rule, best, *lower.tolist(), *upper.tolist(), *cases.tolist()))

        with pytest.raises(Rejected, match="open"):
            check(*scene(1.0), keep)
    assert len(alone) > 5 and sorted(alone, key=str) == sorted(together, key=str)


def test_shares_are_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many nodes of a small network, or few of a large one."""
    given, begun = scene(4.5), []
    nodes, elements = len(given[3].ending), sum(node.size for node in given[0].network.nodes)
    started = shares._started
    monkeypatch.setattr(shares, "_started", lambda work, rest: begun.append(len(rest)) or started(work, rest))
    for least, more in ((nodes * elements + 1, 0), (nodes * elements // 3, 2), (1, 7)):
        monkeypatch.setattr(shares, "LEAST_WORK", least)
        shares.check(8, *given)
        assert begun.pop() == more


def test_a_refusal_of_any_process_refuses() -> None:
    for processes in (1, 2, 5):
        with pytest.raises(Rejected, match="leaf"):
            shares.check(processes, *scene(1.0))
        shares.check(processes, *scene(4.5))


def test_a_process_without_an_answer_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, count = os.getpid(), shares.Work.count

    def dies(self: shares.Work, share: slice) -> tuple[list[int], shares.Told]:
        return count(self, share) if os.getpid() == parent else 1 // 0  # type: ignore[return-value]

    monkeypatch.setattr(shares.Work, "count", dies)
    with pytest.raises(Rejected, match="processes"):
        shares.check(2, *scene(4.5))


def test_a_process_that_counts_too_little_leaves_nodes_open(monkeypatch: pytest.MonkeyPatch) -> None:
    count = shares.Work.count

    def less(self: shares.Work, share: Array) -> tuple[list[int], shares.Told]:
        return count(self, share[:-1])

    monkeypatch.setattr(shares.Work, "count", less)
    with pytest.raises(Rejected, match="open"):
        shares.check(2, *scene(4.5))


def test_memory_that_a_process_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    parent, count = os.getpid(), shares.Work.count

    def lacks(self: shares.Work, share: slice) -> tuple[list[int], shares.Told]:
        if os.getpid() != parent:
            raise MemoryError
        return count(self, share)

    monkeypatch.setattr(shares.Work, "count", lacks)
    with pytest.raises(Rejected, match="memory"):
        shares.check(2, *scene(4.5))


def test_no_process_outlives_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the first share ends in an error while others are still at work."""
    parent, before, children = os.getpid(), len(os.listdir("/proc/self/fd")), _children()

    def breaks(self: shares.Work, share: slice) -> tuple[list[int], shares.Told]:
        if os.getpid() == parent:
            raise Rejected("leaf", "the first share")
        signal.pause()
        raise RuntimeError

    monkeypatch.setattr(shares.Work, "count", breaks)
    with pytest.raises(Rejected, match="the first share"):
        shares.check(3, *scene(4.5))
    assert _children() == children
    assert len(os.listdir("/proc/self/fd")) == before


def _children() -> set[str]:
    """Other tests of this process may have started a helper that stays (multiprocessing's resource tracker)."""
    return {pid for task in os.listdir("/proc/self/task") for pid in Path(f"/proc/self/task/{task}/children").read_text().split()}
