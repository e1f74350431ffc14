"""Branch and bound over the input box: bound a batch, drop what is closed, look for a witness, halve the rest."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.linear import Lower
from verifier import portfolio
from verifier.allotment import fits
from verifier.bounding import Bounder, Margins
from verifier.branch_input import Branching, Seen, slot_margins, split, splittable
from verifier.budget import Budget
from verifier.clip import clip, joint
from verifier.domains import Boxes, Stack
from verifier.events import Bounded, Closed, Derive, Formed, Multiplied, Observer, Pending, Places, Roots, Split, ignore
from verifier.groups import atom_of_row
from verifier.replay import Witness

# Given the open boxes of a batch, the coefficients of each box's hardest row [B, n_in]: a replayed witness, or None.
Probe = Callable[[Boxes, Tensor], Witness | None]
NO_PLACES = Places(())


@dataclass(frozen=True)
class _Lines:
    """Linear bounds of B boxes, which have these places in a batch: of `rows` [R], of which `member` [1 or B, C, R] says which a slot needs."""

    bounds: Lower
    rows: Tensor
    member: Tensor
    place: Tensor

    def select(self, keep: Tensor) -> _Lines:
        member = self.member if self.member.shape[0] == 1 else self.member[keep]
        return _Lines(self.bounds.at_boxes(keep), self.rows, member, self.place[keep])


@dataclass
class Tally:
    """Counts of a search. `closed_volume` sums 2^-depth over closed (box, slot) pairs."""

    nodes: int = 0
    leaves: int = 0
    closed_volume: float = 0.0


class InputSearch:
    """A depth-first search of `boxes`, `batch` boxes at a time. It may be run in instalments, by numbers of nodes. It ends its
    budget ("memory") when more than `queue_bytes` are open, or when one box alone cannot be bounded. Boxes with a number below
    `forced` are halved even where they could be closed."""

    def __init__(
        self,
        bounder: Bounder,
        boxes: Boxes,
        branching: Branching,
        batch: int,
        probe: Probe | None,
        queue_bytes: int,
        observer: Observer = ignore,
        name: str = "",
        forced: int = 0,
    ) -> None:
        self.forced = forced
        self.bounder, self.branching, self.batch, self.probe = bounder, branching, batch, probe
        self.queue_bytes = queue_bytes
        self._events = Pending(observer)
        self.name, self._next_id = name or f"inputs/{branching.name}", len(boxes)
        self._inputs = _places(bounder)
        observer(Roots(self.name, boxes.id.numpy(), bounder.groups.case[boxes.group.numpy()], refine=bounder.refined, forward=bounder.forward))
        self.stack: Stack[Boxes] = Stack()
        self.stack.push(boxes.select(torch.argsort(boxes.varying(), descending=True, stable=True)))  # the last are taken first
        self.stuck: list[Boxes] = []  # open, and too small to halve
        self.tally = Tally()
        self.witness: Witness | None = None
        self._sharpened = 0  # boxes of the last batch that were bounded again in float64, to clip their halves
        conjunctions = bounder.groups.member.shape[1] == 1 and bool((bounder.groups.member.sum(-1) > 1).any())
        self._atoms = atom_of_row(bounder.problem, bounder.groups) if conjunctions else None  # of a tree with multipliers, which has one case
        self._varying = int((boxes.upper > boxes.lower).any(0).sum()) if len(boxes) else 0

    @property
    def finished(self) -> bool:
        """Nothing left to do: a witness, or no box that can be halved."""
        return self.witness is not None or not len(self.stack)

    @property
    def proven(self) -> bool:
        """Every slot of every box was closed."""
        return self.witness is None and not len(self.stack) and not self.stuck

    def open_boxes(self) -> Boxes | None:
        """All that is open, in no particular order."""
        parts = [*self.stuck, *self.stack.all()]
        return Boxes.concatenate(parts) if parts else None

    def hardest(self, count: int) -> Boxes:
        """The `count` open boxes of smallest margin. Something is open."""
        everything = Boxes.concatenate([*self.stuck, *self.stack.all()])
        return everything.select(torch.argsort(everything.margin, stable=True)[:count])

    def open_bytes(self) -> int:
        """Bytes of all that is open."""
        return self.stack.nbytes + sum(b.nbytes() for b in self.stuck)

    def lowest_margin(self) -> float:
        """The smallest proven margin among what is open."""
        return min([self.stack.lowest_margin(), *(float(b.margin.min()) for b in self.stuck)])

    def run(self, budget: Budget, nodes: int | None = None) -> None:
        """Search until finished, until `budget` is exhausted, or until `nodes` more boxes were bounded."""
        stop_at = None if nodes is None else self.tally.nodes + nodes
        while not self.finished and not budget.exhausted() and (stop_at is None or self.tally.nodes < stop_at):
            left = budget.nodes_left()
            self.step(budget, self.batch if left is None else min(self.batch, left))

    def step(self, budget: Budget, count: int) -> None:
        """Bound up to `count` boxes and push what is left of their halves. If that does not fit in memory, halve the batch instead."""
        boxes = self.stack.pop(count)
        tally, stuck = replace(self.tally), len(self.stuck)
        if fits(lambda: self._bound(boxes)):
            watched = Bounded(self.name, boxes.id.numpy(), self.bounder.groups, boxes.group, boxes.is_open, self.bounder.passes)
            self._events.send(*([watched] if self.bounder.watched else []))
            budget.spent += len(boxes)
            self._choose_precision(boxes)
        else:
            self._events.drop()
            self.tally = tally
            del self.stuck[stuck:]
            self.stack.push(boxes)
            self.batch = len(boxes) // 2
        if not self.batch or self.open_bytes() > self.queue_bytes:
            budget.out_of_memory()

    def _choose_precision(self, boxes: Boxes) -> None:
        """Bound in float64 from now on where many boxes of a batch had to be bounded in both: once costs less, and its bounds are better.

        Forwards it costs little more than float32. Where halves of halves are clipped, what rounding left too much of adds up, until the checker,
        which rounds less, has cut off where they are halved: there those count, too, that were bounded in both to be clipped.
        """
        constants = portfolio.CONSTANTS
        twice, share = self.bounder.retried, constants.precision_share
        if self.bounder.forward and bool((boxes.depth > 0).any()):
            twice, share = twice + self._sharpened, constants.precision_forward
        if len(boxes) >= constants.precision_boxes and twice > len(boxes) * share:
            self.bounder, self.batch = self.bounder.in_double(), max(1, self.batch // 2)

    def _bound(self, boxes: Boxes) -> None:
        """Bound these boxes and push what is left of their halves; the push comes last."""
        self._sharpened = 0
        boxes = boxes.to(self.bounder.net.dtype)
        found = self.bounder.bound(boxes.lower, boxes.upper, boxes.group, boxes.is_open)
        closed, bounds = self.bounder.retry_in_double(found, boxes.lower, boxes.upper, boxes.group, boxes.is_open)
        closed = closed & (boxes.id >= self.forced).unsqueeze(-1)
        self._closed(boxes.id, closed, "bound")
        closed = closed | self._closed_jointly(boxes, found.rows, bounds, boxes.is_open & ~closed)
        self.tally.nodes += len(boxes)
        self.tally.closed_volume += float((torch.exp2(-boxes.depth.double()) * closed.sum(-1)).sum())
        is_open = boxes.is_open & ~closed
        margin = slot_margins(self.bounder, boxes.group, is_open, found)
        keep = torch.nonzero(is_open.any(-1)).squeeze(-1)
        self.tally.leaves += len(boxes) - int(keep.numel())
        if keep.numel() == 0:
            return
        seen = Seen.of(self.bounder, boxes, found)
        scores = self.branching.score(seen).index_select(0, keep)
        alive = replace(boxes, is_open=is_open, margin=margin).select(keep)
        if self.probe is not None:
            self.witness = self.probe(alive, seen.line()[keep])
            if self.witness is not None:
                return
        lines = _Lines(bounds.at_boxes(keep), found.rows, self._member(boxes.group[keep], found), keep)
        partly = closed[keep].any(-1)
        can = splittable(alive)
        if not bool(can.all()):
            self.stuck.append(alive.select(~can))
            alive, scores, partly = alive.select(can), scores[can], partly[can]
            lines = lines.select(can)
        self._push_halves(alive, scores, partly, lines)

    def _push_halves(self, alive: Boxes, scores: Tensor, partly: Tensor, lines: _Lines) -> None:
        """Halve the boxes and keep of each half what its parent's linear bounds do not show to be safe.

        It is told which boxes' linear bounds have a use below: they closed some slots (`partly`), or cut or close a half. Where few do, a
        certificate takes half the time to check.
        """
        children, parent, halvings = split(alive, scores, self._ways(len(alive)), self._next_id)
        lower, upper, is_open = self._clipped(alive, children, parent, lines)
        clipped = children.is_open & ~is_open
        cut = clipped.any(-1) | (lower != children.lower).any(-1) | (upper != children.upper).any(-1)
        if bool(cut.sum() > portfolio.CONSTANTS.cut_share * len(cut)):  # all alike: the checker takes those together that are
            cut = torch.ones_like(cut)
        self._events.add(Formed(self.name, alive.id[partly.index_fill(0, parent[cut], True)].numpy()))
        for h in halvings:
            self._next_id += 2 * len(h.id)
            dim = h.dim.numpy()
            ends = (h.id.numpy(), h.low.numpy(), h.high.numpy())
            self._events.add(Split(self.name, *ends, self._inputs[0][dim], self._inputs[1][dim], h.threshold.double().numpy()))
        self._closed(children.id, clipped, "clip")
        self.tally.closed_volume += float((torch.exp2(-children.depth.double()) * clipped.sum(-1)).sum())
        rest = is_open.any(-1)
        self.tally.leaves += int((~rest).sum())
        left = replace(children, lower=lower, upper=upper, is_open=is_open).select(rest)
        derived = cut[rest]
        if bool(derived.any()):
            self._events.add(Derive(self.name, left.id[derived].numpy(), left.lower[derived].numpy(), left.upper[derived].numpy()))
        self.stack.push(left)

    def _clipped(self, alive: Boxes, children: Boxes, parent: Tensor, lines: _Lines) -> tuple[Tensor, Tensor, Tensor]:
        """(lower, upper, is_open) of the children, clipped by the linear bounds of their parents: in float64 where it is rounding that decides
        how much is left. The checker rounds less, and where it would have cut off more than half it cannot halve what it has in the same place.
        """
        constants, left = portfolio.CONSTANTS, self._cut(children, parent, lines, 0.0)
        if not self.bounder.doubles:
            return left
        least = self._cut(children, parent, lines, constants.clip_rounded)
        gap = torch.maximum(least[0] - left[0], left[1] - least[1]) > constants.clip_gap * (left[1] - left[0])
        unsure = left[2].any(-1) & (gap.any(-1) | ~least[2].any(-1))
        if bool(unsure.sum() <= constants.clip_rare * len(unsure)):
            return left
        again = torch.unique(parent[unsure])
        self._sharpened = len(again)
        better = self.bounder.sharpened(
            lines.bounds, lines.rows, alive.lower, alive.upper, alive.group, alive.is_open, again, lines.place[again]
        )
        return self._cut(children, parent, replace(lines, bounds=better), 0.0)

    def _cut(self, children: Boxes, parent: Tensor, lines: _Lines, paid: float) -> tuple[Tensor, Tensor, Tensor]:
        """Clipped children, as if the bounds had not had to pay so many times their own rounding."""
        bounds, member = lines.bounds, lines.member if lines.member.shape[0] == 1 else lines.member[parent]
        constant = (bounds.constant + paid * bounds.error)[parent] - self.bounder.reserve[children.group].unsqueeze(-1)
        return clip(children.lower, children.upper, children.is_open, bounds.coefficients[parent], constant, member)

    def _closed(self, ids: Tensor, slots: Tensor, how: str) -> None:
        some = slots.any(-1)
        if bool(some.any()):
            self._events.add(Closed(self.name, ids[some].numpy(), slots[some].numpy(), how))

    def _closed_jointly(self, boxes: Boxes, rows: Tensor, bounds: Lower, is_open: Tensor) -> Tensor:
        """Slots [B, C] of boxes that a combination of linear bounds, about `rows`, refutes where none of them does alone."""
        closed = torch.zeros_like(is_open)
        some = torch.nonzero(is_open.any(-1) & (boxes.id >= self.forced)).squeeze(-1)
        if self._atoms is None or some.numel() == 0:
            return closed
        group = boxes.group[some]
        member = self.bounder.member[group, 0][:, rows]
        chosen = bounds.at_boxes(some)
        rounds = portfolio.CONSTANTS.joint_rounds
        gamma, value = joint(boxes.lower[some], boxes.upper[some], chosen.coefficients, chosen.constant, member, rounds)
        done = value > self.bounder.reserve[group]
        closed[some[done]] = True
        self._closed(boxes.id, closed, "bound")
        if bool(done.any()):
            ids, count = boxes.id[some[done]].numpy(), int(done.sum())
            atoms = self._atoms[group[done].numpy()][:, rows.numpy()]
            weights = np.zeros((count, self.bounder.problem.case_rows.shape[1]))
            np.add.at(weights, (np.arange(count)[:, None], np.maximum(atoms, 0)), np.where(atoms >= 0, gamma[done].numpy(), 0.0))
            nothing = np.zeros((count, 0), np.float32), np.zeros(count, np.int64), np.zeros(0, np.float32)
            self._events.add(Multiplied(self.name, ids, weights, NO_PLACES, *nothing, value[done].numpy()))
        return closed

    def _member(self, group: Tensor, found: Margins) -> Tensor:
        member = self.bounder.member[:, :, found.rows]
        return member if member.shape[0] == 1 else member[group]

    def _ways(self, boxes: int) -> int:
        """Halve several inputs at once while the batch is far from full: a small batch costs as much as a larger one."""
        room = self.batch / 4 / max(boxes + len(self.stack), 1)
        return max(1, min(int(math.log2(max(room, 1))), 3, self._varying))


def _places(bounder: Bounder) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For every flat input the graph node it belongs to, and its flat element there."""
    graph = bounder.net.graph
    sizes = [graph.nodes[i].size for i in graph.inputs]
    return np.repeat(np.asarray(graph.inputs, dtype=np.int64), sizes), np.concatenate([np.arange(n) for n in sizes])


def race(searches: list[InputSearch], budget: Budget, nodes: int, handicap: float, alone: int = 0) -> InputSearch:
    """Run each search for `nodes` boxes; return one that finished, else the first unless another's worst bound was far better then.

    The first goes on for `alone` boxes more before the others begin, since most searches that end soon end with it. The worst bound
    foretells better than the open volume, which a search can shrink by closing what is easy. Decided by counts, never by the clock, so
    that a run is the same on any machine.
    """
    margins = []
    for k, search in enumerate(searches):
        search.run(budget, nodes)
        margins.append(search.lowest_margin())
        if k == 0 and alone:
            search.run(budget, alone)
        if search.finished or budget.exhausted():
            return search
    best = max(range(1, len(searches)), key=margins.__getitem__, default=0)
    return searches[best] if margins[best] > margins[0] / handicap else searches[0]
