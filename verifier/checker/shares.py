"""A walk in several processes, each of which counts its share of the nodes. What they count together is compared as what one counts is.

A process that ends without its counts leaves nodes that nobody visited, and these refuse the certificate.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from verifier.checker import ledger, walk
from verifier.checker.arithmetic import Array
from verifier.checker.bounds import Checker
from verifier.checker.certificate import Certificate
from verifier.checker.read_property import Cases
from verifier.checker.refusal import Refusal, Rejected
from verifier.checker.tree import SPLIT, Forest

LEAST_WORK = 500_000  # of a share, in nodes times elements of the network: less does not pay for the process
Told = dict[int, tuple[str, float, list[float], list[float], list[int]]]


@dataclass(frozen=True, eq=False, repr=False)
class Work:
    """What is walked, whether all failures are asked for, and where walks may go on."""

    checker: Checker
    cases: Cases
    certificate: Certificate
    forest: Forest
    block: int
    diagnosed: bool
    resumed: ledger.Resumed | None = None

    def count(self, share: Array) -> tuple[list[int], Told]:
        """Of a share of the nodes how many are visited, and leaves closed; nodes failed; and what failed, by node."""
        told: Told = {}

        def tell(node: int, rule: str, best: float, lower: Array, upper: Array, cases: Array) -> None:
            told[node] = (rule, best, lower.tolist(), upper.tolist(), cases.tolist())

        counts = np.zeros(3, np.int64)
        for starts, nodes in self._walks(share):
            one = ledger.PartWalk(self.checker, self.cases, self.certificate, self.forest, self.block, tell if self.diagnosed else None)
            one.starts = starts
            one.count(nodes)
            counts += [one.visited, one.closed, one.failed]
        return counts.tolist(), told

    def _walks(self, share: Array) -> list[tuple[list[walk.Chunk] | None, Array]]:
        """From where on (None: the roots) which nodes are walked."""
        if self.resumed is None:
            return [(None, share)]
        inside = self.resumed.inside[share]
        return [(starts, nodes) for starts, nodes in ((self.resumed.starts, share[inside]), (None, share[~inside])) if len(nodes)]


def check(
    processes: int, checker: Checker, cases: Cases, certificate: Certificate, forest: Forest, block: int, diagnose: walk.Diagnose | None = None,
    entries: list[ledger.Entry] | None = None,
) -> None:  # fmt: skip
    """`walk.check` in so many processes: returns only if every case of the property is closed. Raises Rejected otherwise. What was done
    before, by `entries`, is not walked again; what is done now is added to them."""
    before, resumed = np.zeros(len(forest.ending), dtype=bool), None
    if entries is not None:
        before, resumed = ledger.done_before(entries, certificate, forest), ledger.resume(entries, certificate, forest)
        sys.stderr.write(f"{int(before.sum())} of {len(before)} nodes were done before\n")
    mine = np.flatnonzero(~before)
    elements = sum(node.size for node in checker.network.nodes)
    parts = int(np.maximum(1, np.minimum(processes, len(mine) * elements // LEAST_WORK)))
    ends = [len(mine) * k // parts for k in range(parts + 1)]
    shares = [mine[first:stop] for first, stop in pairwise(ends)]
    work = Work(checker, cases, certificate, forest, block, diagnose is not None, resumed)
    with _started(work, shares[1:]) as pipes:
        counted = [work.count(shares[0]), *map(_answer, pipes)]
    failures = {node: told for _, found in counted for node, told in found.items()}
    for node, (rule, best, lower, upper, open_cases) in failures.items():
        if diagnose is not None:
            diagnose(node, rule, best, np.array(lower), np.array(upper), np.array(open_cases, np.int64))
    first = [int(before.sum()), int((before & (forest.ending != SPLIT)).sum()), 0]
    visited, closed, failed = (sum(column) for column in zip(first, *(counts for counts, _ in counted), strict=True))
    if entries is not None:
        done = ledger.done(forest, np.ones(len(forest.ending), dtype=bool), [*failures], visited, closed)
        entries.append(ledger.Entry(ledger.Proof(certificate, forest), done, []))
    walk.compare(forest, visited, closed, failed)


@contextmanager
def _started(work: Work, shares: list[Array]) -> Iterator[list[int]]:
    """A process for each share; yields the ends of pipes that their answers can be read from. None of them outlives this."""
    children, pipes = [], []
    try:
        for share in shares:
            reading, writing = os.pipe()
            pipes.append(reading)
            child = os.fork()
            if child == 0:
                _child(work, share, writing)
            children.append(child)
            os.close(writing)
        yield pipes
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for pipe in pipes:
            os.close(pipe)


def _child(work: Work, share: Array, pipe: int) -> None:
    """Write counts, or a refusal, and end. Whatever else happens ends the process without an answer."""
    try:
        try:
            answer: dict[str, Any] = dict(zip(("counts", "told"), work.count(share), strict=True))
        except Refusal as refusal:
            answer = {"rule": refusal.rule, "place": refusal.place}
        except MemoryError:
            answer = {"rule": "memory", "place": "the limit of a process"}
        with os.fdopen(pipe, "w", encoding="utf-8") as file:
            json.dump(answer, file)
    finally:
        os._exit(0)


def _answer(pipe: int) -> tuple[list[int], Told]:
    with os.fdopen(os.dup(pipe), encoding="utf-8") as file:
        text = file.read()
    if not text:
        raise Rejected("processes", "a process that shares the work ended without an answer")
    answer = json.loads(text)
    if "rule" in answer:
        raise Rejected(answer["rule"], answer["place"])
    visited, closed, failed = map(int, answer["counts"])
    return [visited, closed, failed], {int(node): told for node, told in answer["told"].items()}
