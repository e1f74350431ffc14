"""Which queries a campaign still has to answer: a function of the policy and of what is known.

A query that its budget did not decide may be divided (`split` in its facts says along which number): its halves are queries of their own, and
may be divided again. Halves are asked a level at a time, once all of the level above is settled, so that what is asked in the end does not depend
on what was answered first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.certify.policy import Check, Policy
from benchmarks.certify.question import Key
from benchmarks.certify.store import Row, Status


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
    """The queries of one sample, each followed by its parts."""
    for radius in _tried(check, sample, rows)[0] if check.bisect else check.radii or (None,):
        yield from with_parts(Key(check.name, radius, sample), rows)


def with_parts(whole: Key, rows: Mapping[str, Row]) -> Iterator[Key]:
    """A query and the parts of it that are to be asked, by levels: the next one if all of the last is settled, and nothing falsified."""
    level: Sequence[Key] = (whole,)
    while level:
        yield from level
        known = [(key, rows.get(key.folder)) for key in level]
        if any(row is None or row.status in ("claimed", "falsified") for _, row in known):
            return
        level = [half for key, row in known for half in divided(key, row)]


def divided(key: Key, row: Row | None) -> tuple[Key, ...]:
    """The two parts that a query was divided into; none if it was not. Raises ValueError where what is recorded names no number."""
    if row is None or row.status != "unknown" or not row.facts.get("split"):
        return ()
    axis = row.facts["split"]["axis"]
    if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
        raise ValueError(f"{key.folder}: divided along {axis!r}")
    return key.halves(axis)


def settled(key: Key, rows: Mapping[str, Row]) -> Status | None:
    """What is known of a query with its parts: falsified if one of them is, certified if all are, None while this is open."""
    row = rows.get(key.folder)
    found = [settled(half, rows) for half in divided(key, row)]
    if row is None or not found:
        return None if row is None else row.status
    if "falsified" in found:
        return "falsified"
    if None in found or "claimed" in found:
        return None
    return "certified" if found == ["certified"] * len(found) else "unknown"


def decisive(key: Key, rows: Mapping[str, Row]) -> Iterator[Key]:
    """The query itself, or the smallest parts that it was divided into."""
    halves = divided(key, rows.get(key.folder))
    for half in halves:
        yield from decisive(half, rows)
    if not halves:
        yield key


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
        status = settled(Key(check.name, radius, sample), rows)
        if status is None:
            return visited, Radius(low, falsified, radius)
        if status in ("certified", "claimed"):
            low = max(low, radius)
            if low == check.radii[0]:
                break
        else:
            high = min(high, radius)
            if status == "falsified":
                falsified = radius if falsified is None else min(falsified, radius)
        radius = (low + high) / 2
    return visited, Radius(low, falsified, None)
