"""What happens during a search, for those who watch: progress line, log, certificate writer, debug checks.

Sub-problems are numbered within a `search` (a name: racing searches build trees of their own). Arrays hold one entry a
sub-problem, so that a batch is one event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from verifier.bounding import Pass
    from verifier.groups import Groups
    from verifier.problem import Problem
    from verifier.result import Outcome

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


@dataclass(frozen=True)
class Paused:
    """A batch is done: all that belongs to it has been told."""


@dataclass(frozen=True, eq=False)
class Begun:
    """A run begins, on this problem: nodes, cases and boxes of later events are its."""

    problem: Problem


@dataclass(frozen=True, eq=False)
class Conjectured:
    """Default linear bounds over the whole boxes may refute every case, which nobody has computed: the checker, who would, can be asked while
    the engine goes on. `outcome` is what was decided if it agrees."""

    outcome: Outcome


@dataclass(frozen=True, eq=False)
class Roots:
    """A search begins: sub-problem ids [N], and for each the cases it is about [N, C] (indices, -1 = none).

    `refine`: the bounds of every sub-problem include default backward bounds of what intervals leave undecided; `forward`: they
    are forward bounds first, and refined where layers are narrow. `inherit`: those of the roots hold in all that they are split into.
    """

    search: str
    ids: Array
    cases: Array
    refine: bool = True
    forward: bool = False
    inherit: bool = False


@dataclass(frozen=True)
class Chosen:
    """Of the searches for a proof of the same cases this one goes on, or has ended in a proof; the others are of no use."""

    search: str


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
class Bounded:
    """Only for `--self-check`: sub-problems ids [N], of groups `group` [N] with `is_open` [N, C] slots, were bounded in `passes`, the first of
    which is about all of them."""

    search: str
    ids: Array
    groups: Groups
    group: Tensor
    is_open: Tensor
    passes: tuple[Pass, ...]


@dataclass(frozen=True, eq=False)
class Formed:
    """Sub-problems were bounded and stay open; the linear bounds found there are used below: they close slots, and they clip."""

    search: str
    ids: Array


@dataclass(frozen=True, eq=False)
class Derive:
    """The input box of sub-problem ids[k] was narrowed to [lower[k], upper[k]]: outside it the linear bounds of the last sub-problem
    above it that was `Formed` already refute every case that is open (clipping)."""

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
class Places:
    """For which slopes numbers are stored: groups (elementwise node, side 0 lower or 1 upper, flat elements), one after the other."""

    groups: tuple[tuple[int, int, Array], ...]

    def __len__(self) -> int:
        return sum(len(elements) for _, _, elements in self.groups)


@dataclass(frozen=True, eq=False)
class Tightened:
    """Bounds of node `node` were tightened for the roots ids, by a backward pass for each of `codes` [R] (2 element for a lower bound,
    2 element + 1 for an upper one), with `slopes` [R, len(places)]. The first of them follow default backward bounds of all nodes."""

    search: str
    ids: Array
    node: int
    codes: Array
    places: Places
    slopes: Array


@dataclass(frozen=True, eq=False)
class Multiplied:
    """How sub-problems ids [N] were closed: the combination `gamma` [N, A] >= 0 of their only case's atoms (which has at most A) is positive
    in the backward pass with `slopes` [N, len(places)] and `betas`, one per split of a node on the path, from the root down: counts [N],
    concatenated. The combination is at least `margin` [N]."""

    search: str
    ids: Array
    gamma: Array
    places: Places
    slopes: Array
    beta_count: Array
    betas: Array
    margin: Array


@dataclass(frozen=True, eq=False)
class Within:
    """Sub-problems ids [N]: row `atom[k]` of their only case's atoms, in the backward pass with `slopes` [N, len(places)] and `betas` (as in
    `Multiplied`), leaves a part of the box; the bounds of neurons over it are in force from here on."""

    search: str
    ids: Array
    atom: Array
    places: Places
    slopes: Array
    beta_count: Array
    betas: Array


@dataclass(frozen=True, eq=False)
class Crossed:
    """How sub-problems ids [N] were closed: the bounds of element [N] of node [N] contradict each other."""

    search: str
    ids: Array
    node: Array
    element: Array


@dataclass(frozen=True, eq=False)
class Mended:
    """The checker did not follow the proof. What comes now takes the place of what was said of `cases`, and of what stands below the
    sub-problems `leaves` [N] (numbers of `Recorder.locate`): those go on as the roots 0 to N - 1 of the next search."""

    cases: Array
    leaves: Array


@dataclass(frozen=True, eq=False)
class Hit:
    """A replayed witness: float32 inputs [n_in], and the case it violates."""

    inputs: Array
    case: int


Event = (
    Begun | Phase | Progress | Paused | Conjectured | Roots | Chosen | Split | Bounded | Formed | Derive | Closed | Tightened | Multiplied | Within
    | Crossed | Mended | Hit
)
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

    def send(self, *first: Event) -> None:
        """Tell these events, then what was kept, in order."""
        events, self._events = [*first, *self._events], []
        for event in events:
            self._observer(event)
        self._observer(Paused())

    def drop(self) -> None:
        """Forget what was kept."""
        self._events = []
