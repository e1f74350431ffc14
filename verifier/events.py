"""What happens during a search, for those who watch: progress line, log, certificate writer, debug checks.

Sub-problems are numbered within a `search` (a name: racing searches build trees of their own). Arrays hold one entry a
sub-problem, so that a batch is one event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


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


@dataclass(frozen=True, eq=False)
class Roots:
    """A search begins: sub-problem ids [N], and for each the cases it is about [N, C] (indices, -1 = none)."""

    search: str
    ids: Array
    cases: Array


@dataclass(frozen=True, eq=False)
class Split:
    """Sub-problem ids[k] is split at `threshold[k]` on flat element `element[k]` of graph node `node[k]`.

    Child low[k] has element <= threshold, child high[k] has element >= threshold.
    """

    search: str
    ids: Array
    low: Array
    high: Array
    node: Array
    element: Array
    threshold: Array


@dataclass(frozen=True, eq=False)
class Derive:
    """The input box of sub-problem ids[k] was narrowed to [lower[k], upper[k]]: outside it the linear bounds of its parent
    already refute every case that is open (clipping)."""

    search: str
    ids: Array
    lower: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class Closed:
    """Slots of sub-problems are refuted: mask [N, C] over the cases of their roots. `how`: "bound" (a row is positive),
    "clip" (the parent's linear bounds leave nothing) or "empty" (bounds of a split neuron cross)."""

    search: str
    ids: Array
    slots: Array
    how: str


@dataclass(frozen=True, eq=False)
class Hit:
    """A replayed witness: float32 inputs [n_in], and the case it violates."""

    inputs: Array
    case: int


Event = Phase | Progress | Roots | Split | Derive | Closed | Hit
Observer = Callable[[Event], None]


def ignore(_: Event) -> None:
    """An observer that does nothing."""


class Pending:
    """Events of one batch, told once the batch is done: a batch that does not fit in memory is undone, and nobody hears of it."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._events: list[Event] = []

    def add(self, event: Event) -> None:
        """Keep an event for `send`."""
        self._events.append(event)

    def send(self) -> None:
        """Tell what was kept, in order."""
        events, self._events = self._events, []
        for event in events:
            self._observer(event)

    def drop(self) -> None:
        """Forget what was kept."""
        self._events = []
