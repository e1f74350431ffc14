"""Which queries a campaign still has to answer: a function of the policy and of what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.certify.policy import Check, Policy
from benchmarks.certify.question import Key
from benchmarks.certify.store import Row


@dataclass(frozen=True)
class Radius:
    """What bisection knows of a sample: certified at `lower` (0: at no radius), falsified at `upper` (None: nowhere up to the largest)."""

    lower: Fraction
    upper: Fraction | None
    next: Fraction | None


def wanted(policy: Policy, asked: Callable[[Check], Sequence[int]], rows: Mapping[str, Row]) -> Iterator[Key]:
    """The queries to answer, given what is known, those known included; in an order that depends on nothing else. `asked`: the samples of a
    check."""
    for check in policy.checks:
        for sample in asked(check):
            yield from of_sample(check, sample, rows)


def of_sample(check: Check, sample: int, rows: Mapping[str, Row]) -> Iterator[Key]:
    """The queries of one sample."""
    if check.bisect:
        for radius in _tried(check, sample, rows)[0]:
            yield Key(check.name, radius, sample)
    else:
        for one in check.radii or (None,):
            yield Key(check.name, one, sample)


def bisection(check: Check, sample: int, rows: Mapping[str, Row]) -> Radius:
    """What is known of the largest radius of a sample."""
    return _tried(check, sample, rows)[1]


def _tried(check: Check, sample: int, rows: Mapping[str, Row]) -> tuple[list[Fraction], Radius]:
    """The radii that bisection visits, up to the first that is not known yet: the largest, then halves of what is left between the largest
    certified and the smallest that is not. Unknown counts as not certified; a claim as certified, until the checker has spoken."""
    low, high, falsified = Fraction(0), check.radii[0], None
    visited: list[Fraction] = []
    radius = high
    for _ in range(check.bisect):
        visited.append(radius)
        row = rows.get(Key(check.name, radius, sample).folder)
        if row is None:
            return visited, Radius(low, falsified, radius)
        if row.status in ("certified", "claimed"):
            low = max(low, radius)
            if low == check.radii[0]:
                break
        else:
            high = min(high, radius)
            if row.status == "falsified":
                falsified = radius if falsified is None else min(falsified, radius)
        radius = (low + high) / 2
    return visited, Radius(low, falsified, None)
