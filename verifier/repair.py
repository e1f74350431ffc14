"""Mends a proof that the checker did not follow everywhere: searches further there, in double precision, and leaves room for what the
checker loses (DESIGN 7: it proves every leaf again, in its own arithmetic, and under float32 semantics with more slack than the search).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds.torch_graph import TorchGraph
from verifier.allotment import Allotment, fits
from verifier.branch_input import slot_margins
from verifier.budget import Budget
from verifier.certificate import BY_BOUND, BY_FORMS, BY_MULTIPLIERS, Recorder
from verifier.complete import DEVICE
from verifier.events import Chosen, Mended, Observer, Phase
from verifier.options import Options
from verifier.replay import Replayer
from verifier.search import Found, Search
from verifier.self_check import SelfCheck

Array = NDArray[Any]

ROOM = 1.125  # times what the checker lost where it failed; with much more, what it could just prove would never count as closed
LESS, TIMES = 0.7, 6  # what is left to try of a room that was too much, where what the checker lost of planes above is in it


class Unmendable(Exception):
    """The search that should mend a proof contradicts itself. Always a defect of ours, never a proof."""


@dataclass(frozen=True, eq=False)
class Miss:
    """A node that the checker could not close: its number, the best bound, the cases open there, and its box, where the checker told it."""

    node: int
    best: float
    cases: list[int]
    lower: list[float] | None
    upper: list[float] | None
    rule: str


def misses(path: str) -> list[Miss]:
    """What `--diagnose` wrote."""
    with open(path, encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    return [Miss(a["node"], float(a["best"]), a["cases"], a.get("lower"), a.get("upper"), a["rule"]) for a in lines]


@torch.no_grad()
def mend(recorder: Recorder, missed: list[Miss], replayer: Replayer | None, options: Options, budget: Budget, observer: Observer, name: str) -> Found:
    """Search further where the checker `missed` something of the proof that `recorder` wrote last; with `proven`, it can write a better
    one. `name` is unique to this call."""
    torch.set_num_threads(options.threads)
    problem = recorder.problem
    net = TorchGraph(problem.graph, torch.float64, DEVICE)
    accept = None if replayer is None else replayer.judge
    observer = SelfCheck(problem, options.seed + 1).beside(observer) if options.self_check else observer
    search = Search(problem, net, budget, observer, accept, Allotment.of(options.memory), doubles=False, watched=options.self_check)
    return _Mending(recorder, search, missed).run(name)


class _Mending:
    """One call of `mend`. Below boxes the search goes on; what stands on other ground is searched again from the root."""

    def __init__(self, recorder: Recorder, search: Search, missed: list[Miss]) -> None:
        self.search, self.problem, self.observer, self.budget = search, search.problem, search.observer, search.budget
        self.found = search.found
        where = recorder.locate(np.array([m.node for m in missed]))
        self.how, self.ids, self.margin, self.within = where.how, where.ids, where.margin, where.within
        self.missed = missed
        told = np.array([m.lower is not None for m in missed])
        below = told & (self.ids >= 0)
        halved = below & (self.how != BY_FORMS) & np.array([m.rule == "leaf" for m in missed])  # others are bounded first
        self.below = np.concatenate([np.flatnonzero(halved), np.flatnonzero(below & ~halved)])
        self.halved, self.again = int(halved.sum()), np.flatnonzero(~below)
        self.reserve = search.reserve = np.zeros(len(self.problem.case_box))

    def run(self, name: str) -> Found:
        """Search everywhere; `found.proven` where all of it was closed."""
        again = np.unique([case for k in self.again for case in self.missed[k].cases]).astype(np.int64)
        self.found.open_cases = np.unique([case for miss in self.missed for case in miss.cases])
        self.observer(Phase("search", f"mend {len(self.below)} boxes and {len(again)} cases"))
        if not fits(lambda: self._measure()):
            self.budget.out_of_memory()
        done = not len(self.below) or self._go_on(name)
        if done and len(again) and not self.budget.exhausted():
            done = self._search_again(again)
            for _ in range(TIMES if self.within.any() else 0):
                if not done and not self.budget.exhausted() and self.found.witness is None:
                    self.reserve *= LESS
                    done = self._search_again(again)
        self.found.proven = done and not self.budget.exhausted() and self.found.witness is None
        return self.found

    def _go_on(self, name: str) -> bool:
        """Halve inputs below the boxes; whether all of it was closed."""
        boxes = [self.missed[k] for k in self.below]
        cases = [miss.cases for miss in boxes]
        self.observer(Mended(np.zeros(0, np.int64), self.ids[self.below]))
        search = self.search.go_on(*_ends(boxes), cases, self.halved, name)
        self.observer(Chosen(name))
        self.found.nodes += search.tally.nodes
        self.found.leaves += search.tally.leaves
        self.found.witness = search.witness
        self.found.portfolio.append(f"the checker missed {len(boxes)} leaves: {search.tally.nodes} more boxes in float64")
        slots = sum(map(len, cases))
        if search.proven and not search.tally.closed_volume >= slots * (1 - 1e-6):
            raise Unmendable(f"closed leaves cover {search.tally.closed_volume:.9g} of {slots} boxes and cases")
        return search.proven

    def _search_again(self, cases: Array) -> bool:
        """Search these cases from the root; whether all were closed."""
        self.observer(Mended(cases, np.zeros(0, np.int64)))
        self.found.portfolio.append(f"the checker missed {len(cases)} cases: again in float64")
        self.found.proven, self.found.open_cases, self.found.closed_volume = False, cases, 0.0
        if not fits(lambda: self.search.branch(cases)):
            self.budget.out_of_memory()
            return False
        if self.found.proven and not (len(self.found.open_cases) == 0 and self.found.closed_volume >= len(cases) * (1 - 1e-6)):
            raise Unmendable(f"{len(self.found.open_cases)} cases are open, closed leaves cover {self.found.closed_volume:.9g} of {len(cases)}")
        return self.found.proven

    def _measure(self) -> None:
        """Per case what the checker lost: the margin in float64 on the box that it told, less what it found there itself.

        What it loses of a plane that bounds neurons grows on the way to a leaf: where there are such planes the least loss counts, which is
        nearest to that of one backward pass, and if it was too little, the next call finds more.
        """
        stored = self.how == BY_MULTIPLIERS
        for k in np.flatnonzero(stored & ~self.within):
            self._lose(self.missed[k], float(self.margin[k]))
        near = [at for at in range(len(self.missed)) if stored[at] and self.within[at]]
        least: dict[int, int] = {}  # per case; a tree with such planes is about a single one
        for at in sorted(near, key=lambda at: float(self.margin[at]) - self.missed[at].best):
            least.setdefault(self.missed[at].cases[0], at)
        for at in least.values():
            self._lose(self.missed[at], float(self.margin[at]))
        bounded = [m for m, how in zip(self.missed, self.how, strict=True) if how == BY_BOUND and m.rule == "leaf" and m.lower is not None]
        if not bounded:
            return
        bounder, boxes = self.search.boxes(*_ends(bounded), [m.cases for m in bounded])
        for part in torch.arange(len(boxes)).split(self.search.batch_of_boxes(bounder)):
            b = boxes.select(part)
            found = bounder.bound(b.lower, b.upper, b.group, b.is_open)
            for k, margin in zip(part.tolist(), slot_margins(bounder, b.group, b.is_open, found).tolist(), strict=True):
                self._lose(bounded[k], margin)

    def _lose(self, miss: Miss, margin: float) -> None:
        lost = ROOM * (margin - miss.best)
        if np.isfinite(lost) and lost > 0:
            self.reserve[miss.cases] = np.maximum(self.reserve[miss.cases], lost)


def _ends(missed: list[Miss]) -> tuple[Array, Array]:
    """The boxes of these [N, n_in]."""
    return np.array([m.lower for m in missed], dtype=np.float64), np.array([m.upper for m in missed], dtype=np.float64)
