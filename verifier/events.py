"""What happens during a search, for those who watch: progress line, log, certificate writer, debug checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """A phase begins: probe, interval, attack, bound, search."""

    name: str
    detail: str = ""


@dataclass(frozen=True)
class Progress:
    """Counts so far: sub-problems bounded, still open, cases open, the smallest proven margin among what is open."""

    nodes: int
    open_nodes: int
    cases_open: int
    bound: float | None
    closed_volume: float


Event = Phase | Progress
Observer = Callable[[Event], None]


def ignore(_: Event) -> None:
    """An observer that does nothing."""
