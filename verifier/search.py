"""The complete search, in torch: one bounding pass over all open cases, then branch and bound by the portfolio's plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.linear import State
from bounds.torch_graph import TorchGraph
from graph.core import Affine, Bilinear, Constant, Elementwise, Input, Max, Node
from graph.functions.facts import Smooth
from verifier import branch_input, portfolio
from verifier.allotment import Allotment, fits
from verifier.bounding import Bounder, outward, raise_if_crossed
from verifier.budget import Budget
from verifier.domains import Boxes
from verifier.events import Bounded, Chosen, Closed, Observer, Phase, Places, Progress, Roots, Tightened
from verifier.groups import Groups, group_cases
from verifier.guide import guide
from verifier.input_search import InputSearch, Probe, race
from verifier.neuron_search import NAME, Effort, NeuronSearch
from verifier.optimise import relaxed_nodes
from verifier.portfolio import CONSTANTS, Plan, choose
from verifier.problem import Problem
from verifier.replay import Witness
from verifier.result import ReasonCode
from verifier.tighten import tighten

Array = NDArray[Any]
Interlude = Callable[[Budget, Groups, Boxes], Witness | None]  # between instalments: attack the hardest open boxes
Accept = Callable[[Array], Witness | None]  # float32 points [P, n_in], inside the witness set -> a replayed witness

GENTLE = frozenset(("atan", "asinh", "cos", "elu", "erf", "gelu", "hard_swish", "mish", "sigmoid", "sin", "softplus", "softsign", "swish", "tanh"))


@dataclass(frozen=True)
class Trouble:
    """Why an exact engine did not refute a case: a reason code, and a sentence."""

    code: ReasonCode
    text: str


@dataclass
class Found:
    """What a search found. `open_cases`: indices of cases not refuted (empty: all are). `bound`: least proven margin among them.
    `closed_volume`: the sum of 2^-depth over closed leaves. A proof needs `proven`, no open case, and a volume that adds up.
    `claimed`: cases that the exact engine `claimed_by` refutes, which is no proof; `troubles`: why it did not refute others.
    """

    open_cases: Array
    witness: Witness | None = None
    nodes: int = 0
    leaves: int = 0
    closed_volume: float = 0.0
    bound: float | None = None
    proven: bool = False  # set where a phase saw every case closed, never by absence
    portfolio: list[str] = field(default_factory=list)
    claimed: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    claimed_by: str = ""
    troubles: list[Trouble] = field(default_factory=list)


class Search:
    """One search over the open cases of a problem. `accept` replays candidates; None: no concrete execution may end the run.
    `doubles`: margins that only double precision shows count. Under float32 semantics too: few are lost there, and the checker says which.
    `watched`: the observer is told of every bounding pass."""

    def __init__(
        self, problem: Problem, net: TorchGraph, budget: Budget, observer: Observer, accept: Accept | None, allotment: Allotment, doubles: bool,
        watched: bool = False,
    ) -> None:
        self.allotment, self.doubles, self.watched = allotment, doubles, watched
        self.reserve: Array | None = None  # what the margins of the cases have to exceed
        self.problem, self.net, self.budget, self.observer, self.accept = problem, net, budget, observer, accept
        self.found = Found(np.arange(len(problem.case_box)))  # open until refuted
        if doubles and rounding_share(problem, net, allotment.block_bytes) > CONSTANTS.double_gap:
            self.net = net = TorchGraph(net.graph, torch.float64, net.device)
            self.found.portfolio.append("float64: the rounding of float32 alone would hide the margins")
        self._root_state: State | None = None  # of the only box there is
        lower, upper = outward(problem.lower, problem.upper, net.dtype)
        self.lower, self.upper = lower.to(net.device), upper.to(net.device)

    # ---------------------------------------------------------------- one bounding pass

    def bound_once(self, cases: Array) -> Array:
        """Bound every case on its whole box; returns the cases that stay open, the hardest first."""
        groups = group_cases(self.problem, cases)
        bounder = self._bounder(groups)
        boxes = self._root(groups)
        self.observer(Phase("bound", f"{len(cases)} cases on {len(groups)} boxes"))
        self.observer(Roots("root", boxes.id.numpy(), groups.case, refine=bounder.refined, forward=bounder.forward))
        large = sum(node.size for node in self.net.graph.nodes) > CONSTANTS.refine_rows
        open_slots, margins = boxes.is_open.clone(), torch.full((len(boxes),), -torch.inf, dtype=self.net.dtype)

        def bound(part: Tensor) -> None:
            b = boxes.select(part)
            found = bounder.bound(b.lower, b.upper, b.group, b.is_open)
            closed, _ = bounder.retry_in_double(found, b.lower, b.upper, b.group, b.is_open, hidden=len(boxes) > 1 or not large)
            if len(boxes) == 1:
                self._root_state = found.state
            if self.watched:
                self.observer(Bounded("root", b.id.numpy(), groups, b.group, b.is_open, bounder.passes))
            still_open = b.is_open & ~closed
            margins[part] = branch_input.slot_margins(bounder, b.group, still_open, found)
            open_slots[part] = still_open
            self.found.nodes += len(b)

        self._in_parts(torch.argsort(boxes.varying(), stable=True), self.batch_of_boxes(bounder), lambda part: fits(lambda: bound(part)))
        self.observer(Closed("root", boxes.id.numpy(), (boxes.is_open & ~open_slots).numpy(), "bound"))
        left = groups.case[open_slots.numpy()]
        box_of = torch.arange(len(boxes)).unsqueeze(-1).expand(open_slots.shape)[open_slots]
        order = torch.argsort(margins[box_of], stable=True).numpy()
        self.found.closed_volume += len(cases) - len(left)
        self.found.leaves += int((~open_slots).all(-1).sum())
        self.found.proven = len(left) == 0 and bool((groups.slots & ~open_slots.numpy()).sum() == len(cases))
        self._remember(left, float(margins[box_of].min()) if len(left) else None)
        return np.asarray(left[order])

    def _in_parts(self, members: Tensor, size: int, work: Callable[[Tensor], bool]) -> None:
        """`work` through `members`, `size` at a time, within the budget. A part for which it returns False, for want of memory, is halved."""
        parts = list(members.split(max(1, size)))[::-1]
        while parts and not self.budget.exhausted():
            part = parts.pop()
            if work(part):
                continue
            if len(part) == 1:
                self.budget.out_of_memory()
            else:
                parts += part.split(-(-len(part) // 2))[::-1]

    def _bounder(self, groups: Groups) -> Bounder:
        return Bounder(self.problem, groups, self.net, self.allotment.block_bytes, self.doubles, self.watched, self.reserve)

    def batch_of_boxes(self, bounder: Bounder) -> int:
        """Boxes that may be bounded at a time."""
        varying = self.problem.varying(bounder.groups.box)
        return portfolio.batch_of_boxes(bounder.linear, bounder.member.shape[-1], varying, self.allotment)

    def _root(self, groups: Groups) -> Boxes:
        count = len(groups)
        box = torch.from_numpy(groups.box)
        return Boxes(
            self.lower[box], self.upper[box], torch.arange(count), torch.from_numpy(groups.slots),
            torch.full((count,), -torch.inf, dtype=self.net.dtype), torch.zeros(count, dtype=torch.long), torch.arange(count),
        )

    def _remember(self, open_cases: Array, bound: float | None) -> None:
        self.found.open_cases = open_cases
        self.found.bound = bound if bound is not None and np.isfinite(bound) else None

    # ---------------------------------------------------------------- branch and bound

    def branch(self, cases: Array, interlude: Interlude | None = None) -> Found:
        """Branch and bound on these cases until they are refuted, a witness is found, or the budget is spent."""
        groups = group_cases(self.problem, cases)
        bounder = self._bounder(groups)
        plan = choose(bounder.linear, self.problem.varying(groups.box), self._relaxed(bounder, groups), bounder.member.shape[-1], self.allotment)
        self.found.portfolio.append(plan.reason)
        self.observer(Phase("search", plan.reason))
        if plan.kind == "inputs":
            racers = self._racers(bounder, groups, plan.batch)
            search = race(racers, self.budget, CONSTANTS.race_nodes, CONSTANTS.race_handicap, CONSTANTS.race_alone)
            self.observer(Chosen(search.name))
            raced = f" (raced, {CONSTANTS.race_nodes} boxes each)" if any(r.tally.nodes for r in racers[1:]) else ""
            self.found.portfolio.append(f"halve the input of the best score '{search.branching.name}'{raced}")
            self._instalments(search, groups, plan, interlude)
            self.found.nodes += sum(r.tally.nodes for r in racers if r is not search)
            self._account_inputs(search, groups)
            return self.found
        if plan.trial:
            trial = self._try_inputs(self._trials(bounder, groups), len(cases), plan.trial, plan.trial_goes_on)
            if trial.finished and not trial.stuck:
                self.observer(Chosen(trial.name))
                self.found.portfolio.append(f"halving inputs by the score '{trial.branching.name}' sufficed")
                self._account_inputs(trial, groups)
                return self.found
            self.found.nodes += trial.tally.nodes
        self.observer(Chosen(NAME))
        self._branch_neurons(cases, plan, interlude)
        return self.found

    def _try_inputs(self, trials: list[InputSearch], total: int, first: int, goes_on: bool = True) -> InputSearch:
        """Halve inputs for `first` boxes (or a share of those that the budget has), with each of the `trials` in turn; the one that closes most
        goes on (if it `goes_on` at all), and again and again for as many boxes as until then, while the pace at which that closes the
        `total` volume ends the search soon: where hidden neurons are many and bend little, halving inputs is hundreds of times cheaper than
        splitting neurons. Returns the one that went on."""
        share, left = CONSTANTS.trial_share * self.budget.seconds_left() / len(trials), self.budget.nodes_left()
        first = first if left is None else min(first, int(CONSTANTS.trial_nodes_share * left / len(trials)))
        for search in trials:
            until = time.monotonic() + share
            while not search.finished and search.tally.nodes < first and time.monotonic() < until and not self.budget.exhausted():
                search.run(self.budget, 1)  # a batch
            if search.finished:
                return search
        trial = max(trials, key=lambda search: search.tally.closed_volume)
        self.found.nodes += sum(search.tally.nodes for search in trials if search is not trial)
        nodes, volume = 0, 0.0
        while goes_on and not trial.finished and trial.tally.nodes > nodes and not self.budget.exhausted():
            tally = trial.tally
            pace = (tally.closed_volume - volume) / (tally.nodes - nodes)
            if total - tally.closed_volume > pace * CONSTANTS.trial_patience * tally.nodes:
                break
            nodes, volume = tally.nodes, tally.closed_volume
            self._progress(tally.nodes, len(trial.stack), trial.lowest_margin(), tally.closed_volume)
            trial.run(self.budget, nodes)
        return trial

    def _trials(self, bounder: Bounder, groups: Groups) -> list[InputSearch]:
        """Searches over inputs that a search over neurons begins with."""
        ways = [branch_input.balanced(), branch_input.loose(self.net.graph)]
        return self._input_searches(bounder, groups, self._root(groups), ways, self.batch_of_boxes(bounder))

    def _racers(self, bounder: Bounder, groups: Groups, batch: int) -> list[InputSearch]:
        """Searches that differ in the choice of the input to halve, the preferred one first; alone where most boxes leave no choice."""
        boxes = self._root(groups)
        ways = self._ways() if 2 * int((boxes.varying() > 1).sum()) >= len(boxes) else self._ways()[:1]
        return self._input_searches(bounder, groups, boxes, ways, batch)

    def _input_searches(
        self, bounder: Bounder, groups: Groups, boxes: Boxes, ways: list[branch_input.Branching], batch: int
    ) -> list[InputSearch]:
        queue, observer = self.allotment.queue_bytes, self.observer
        return [InputSearch(bounder, boxes, way, batch, self._probe(groups), queue, observer) for way in ways]

    def _ways(self) -> list[branch_input.Branching]:
        return [branch_input.balanced(), branch_input.longest(), branch_input.smart()]

    def go_on(self, lower: Array, upper: Array, cases: list[list[int]], forced: int, name: str) -> InputSearch:
        """Halve inputs below these boxes [N, n_in], each about its cases, the first `forced` of them in any case. Only the events of the
        search are told, under `name`."""
        bounder, boxes = self.boxes(lower, upper, cases)
        search = InputSearch(
            bounder, boxes, self._ways()[0], self.batch_of_boxes(bounder), self._probe(bounder.groups), self.allotment.queue_bytes,
            self.observer, name, forced,
        )
        while not search.finished and not self.budget.exhausted():
            search.run(self.budget, 8 * search.batch)
            self._progress(search.tally.nodes, len(search.stack), search.lowest_margin(), search.tally.closed_volume)
        return search

    def boxes(self, lower: Array, upper: Array, cases: list[list[int]]) -> tuple[Bounder, Boxes]:
        """These boxes [N, n_in], each with its cases open."""
        groups = group_cases(self.problem, np.unique([case for part in cases for case in part]))
        group = np.searchsorted(groups.box, [self.problem.case_box[part[0]] for part in cases])
        slots = np.stack([np.isin(groups.case[g], part) for g, part in zip(group, cases, strict=True)])
        count = len(cases)
        return self._bounder(groups), Boxes(
            *outward(lower, upper, self.net.dtype), torch.from_numpy(group), torch.from_numpy(slots),
            torch.full((count,), -torch.inf, dtype=self.net.dtype), torch.zeros(count, dtype=torch.long), torch.arange(count),
        )

    def _relaxed(self, bounder: Bounder, groups: Groups) -> list[int]:
        """Nodes that intervals leave non-linear on the first box."""
        state = bounder.linear.propagate(self.lower[groups.box[:1]], self.upper[groups.box[:1]], refine=False)
        return relaxed_nodes(bounder.linear, state)

    def _relaxed_anywhere(self, bounder: Bounder, boxes: Tensor) -> list[int]:
        """Elementwise nodes that intervals leave non-linear on one of these boxes: the same multipliers for all sub-problems."""
        found: set[int] = set()
        for b in boxes.tolist():
            state = bounder.linear.propagate(self.lower[b : b + 1], self.upper[b : b + 1], refine=False)
            found.update(relaxed_nodes(bounder.linear, state))
        return sorted(found)

    def _account_inputs(self, search: InputSearch, groups: Groups) -> None:
        """Book what a search over inputs did and left."""
        self.found.nodes += search.tally.nodes
        self.found.leaves += search.tally.leaves
        self.found.closed_volume += search.tally.closed_volume
        self.found.witness = search.witness
        rest = search.open_boxes()
        if search.proven:
            self.found.proven = True
            self._remember(np.zeros(0, dtype=np.int64), None)
        elif rest is not None:
            slots = torch.zeros(len(groups), rest.is_open.shape[1], dtype=torch.bool)
            slots.index_put_((rest.group,), rest.is_open, accumulate=True)
            self._remember(groups.case[slots.numpy()], search.lowest_margin())

    def _branch_neurons(self, cases: Array, plan: Plan, interlude: Interlude | None) -> None:
        groups = _one_case_each(self.problem, cases)
        bounder = self._bounder(groups)
        effort = Effort(plan.batch, CONSTANTS.node_steps, CONSTANTS.rate, plan.candidates, plan.refine, plan.trial_steps, plan.rounds, plan.programs)
        box = torch.from_numpy(groups.box)
        search = NeuronSearch(
            bounder, self.lower[box], self.upper[box], effort, self._probe(groups), self.allotment.queue_bytes, self.observer
        )
        started = np.zeros(len(groups), dtype=bool)
        relaxed = self._relaxed_anywhere(bounder, torch.unique(box))
        for b in torch.unique(box):  # one bounding pass of the hidden layers per box, shared by its cases
            members = torch.nonzero(box == b).squeeze(-1)
            state = self._root_state or bounder.root_state(self.lower[b : b + 1], self.upper[b : b + 1])
            state = tighten(
                bounder.linear, state, steps=CONSTANTS.hidden_steps, rate=CONSTANTS.rate, most_work=plan.hidden_work, budget=self.budget,
                tell=partial(_tell, self.observer, members.numpy()),
            )
            raise_if_crossed(state)
            if plan.guided and len(members) == len(groups):
                search.guide = guide(bounder, state)

            def start(part: Tensor, state: State = state) -> bool:
                if search.witness is not None:
                    return True
                begun = search.start(part, _expand(state, len(part)), CONSTANTS.root_steps, relaxed)
                started[part.numpy()] = begun
                return begun

            self._in_parts(members, plan.batch, start)
        self._instalments(search, groups, plan, interlude)
        self.found.nodes += search.tally.nodes
        self.found.leaves += search.tally.leaves
        self.found.closed_volume += search.tally.closed_volume
        self.found.witness = search.witness
        if search.witness is None:
            left = ~started  # what the budget did not let begin is as open as what is left of the rest
            left[search.open_groups().numpy()] = True
            self.found.proven = search.proven and bool(started.all())
            self._remember(groups.case[left, 0], search.lowest_margin() if bool(started.all()) else None)

    def _instalments(self, search: InputSearch | NeuronSearch, groups: Groups, plan: Plan, interlude: Interlude | None) -> None:
        """Run the search to its end or the budget's, with progress and an attack between instalments."""
        while not search.finished and not self.budget.exhausted():
            search.run(self.budget, plan.batch * 8)
            self._progress(search.tally.nodes, len(search.stack), search.lowest_margin(), search.tally.closed_volume)
            if interlude is not None and not search.finished and not self.budget.exhausted():
                search.witness = interlude(self.budget, groups, search.hardest(CONSTANTS.hardest_boxes))

    # ---------------------------------------------------------------- concrete executions

    def _probe(self, groups: Groups) -> Probe | None:
        """Run the network at the centre of every open box and where its hardest linear bound is smallest."""
        if self.accept is None:
            return None
        accept = self.accept
        box_of = torch.from_numpy(groups.box)
        low, high = torch.from_numpy(self.problem.witness_lower), torch.from_numpy(self.problem.witness_upper)
        bounder = self._bounder(groups)

        def probe(boxes: Boxes, coefficients: Tensor) -> Witness | None:
            box = box_of[boxes.group]
            corner = torch.where(coefficients > 0, boxes.lower, boxes.upper)
            points = torch.cat([corner, boxes.lower / 2 + boxes.upper / 2]).float()
            points = points.clamp(low[box].repeat(2, 1), high[box].repeat(2, 1))
            worst = concrete_margins(bounder, points.to(self.net.dtype), boxes.group.repeat(2), boxes.is_open.repeat(2, 1))
            hits = torch.nonzero(worst <= 0).squeeze(-1)
            best = hits[torch.argsort(worst[hits])][:4]
            return accept(points[best].numpy()) if best.numel() else None

        return probe

    def _progress(self, nodes: int, open_nodes: int, bound: float, closed: float) -> None:
        least = bound if np.isfinite(bound) else None
        volume = (self.found.closed_volume + closed) / max(len(self.problem.case_box), 1)
        self.observer(Progress(self.found.nodes + nodes, open_nodes, len(self.found.open_cases), least, volume))


def rounding_share(problem: Problem, net: TorchGraph, memory: int) -> float:
    """How much of the margin at the centre of the first box float32's rounding terms take: 0 for none, inf if all is lost.

    At a point, bounds of float64 need no refinement; those of float32 get it where intervals alone lose too much. Of a large network whose
    functions are all gentle, the hidden bounds are then float64's: to refine them takes as long as to bound the box, and they lose little.
    """
    groups = group_cases(problem, np.flatnonzero(problem.case_box == 0)[:1])
    centre = torch.from_numpy((problem.lower[:1] + problem.upper[:1]) / 2).float()
    double, single = Bounder(problem, groups, TorchGraph(net.graph, torch.float64, net.device), memory), Bounder(problem, groups, net, memory)
    there = double.linear.propagate(centre.double(), centre.double(), refine=False)
    exact = _margins_in(double, there)

    def share(state: State) -> float:
        lost = (exact - _margins_in(single, state)) / exact.abs().clamp(min=torch.finfo(torch.float64).tiny)
        return float(lost.amax()) if bool(torch.isfinite(lost.amax())) else float("inf")

    plain = share(single.linear.propagate(centre, centre, refine=False))
    if plain <= CONSTANTS.double_gap:
        return plain
    gentle = all(isinstance(node, Input | Constant | Affine | Max | Bilinear) or _is_gentle(node) for node in net.graph.nodes)
    if gentle and sum(net.graph.nodes[j].size for j in single.linear.targets) > CONSTANTS.refine_rows:
        ends = {j: outward(there.lower[j].cpu().numpy(), there.upper[j].cpu().numpy(), net.dtype) for j in single.linear.targets}
        known = {j: (low.to(net.device), high.to(net.device)) for j, (low, high) in ends.items()}
        return share(single.linear.propagate(centre, centre, refine=False, known=known))
    return share(single.root_state(centre, centre))


def _is_gentle(node: Node) -> bool:
    """A function that is defined everywhere and nowhere steep: what its argument is off by, it is off by at most a few times."""
    return isinstance(node, Elementwise) and (not isinstance(node.function, Smooth) or node.function.name in GENTLE)


def _margins_in(bounder: Bounder, state: State) -> Tensor:
    """Margins [1, R] of the first group's rows in a state of one box."""
    return bounder.bound_in(state, torch.zeros(1, dtype=torch.long), torch.from_numpy(bounder.groups.slots)).margin.double()


def concrete_margins(bounder: Bounder, points: Tensor, group: Tensor, is_open: Tensor) -> Tensor:
    """At each point the smallest, over its open slots, of the largest of (functional - bound) over the slot's rows [P].

    At most 0: the float32 evaluation in torch meets every atom of some open case there.
    """
    rows = torch.arange(bounder.member.shape[-1])
    functional, constant = bounder.functional(group, rows)
    values = bounder.net.evaluate(points)
    total = constant.expand(points.shape[0], -1)
    for i, d in functional.items():
        total = total + (d * values[i].unsqueeze(1)).sum(-1)
    member = bounder.member if bounder.member.shape[0] == 1 else bounder.member[group]
    total = torch.where(total.isfinite(), total, torch.inf)
    infinity = torch.full((), torch.inf, dtype=total.dtype)
    per_slot = torch.where(member, total.unsqueeze(1), -infinity).amax(-1)
    return torch.where(is_open, per_slot, infinity).amin(-1)


def _one_case_each(problem: Problem, cases: Array) -> Groups:
    """A group for every case, so that cases on one box can be at different stages of their searches."""
    parts = [group_cases(problem, cases[k : k + 1]) for k in range(len(cases))]
    rows = max(p.row.shape[1] for p in parts)

    def pad(name: str, fill: float | bool) -> Array:
        wide = [np.pad(getattr(p, name), [(0, 0)] * (getattr(p, name).ndim - 1) + [(0, rows - p.row.shape[1])], constant_values=fill) for p in parts]
        return np.concatenate(wide)

    return Groups(
        np.concatenate([p.box for p in parts]), np.concatenate([p.case for p in parts]), pad("row", -1), pad("bound", np.inf), pad("member", False)
    )


def _tell(observer: Observer, ids: Array, node: int, codes: Array, places: Places, slopes: Array) -> None:
    observer(Tightened(NAME, ids, node, codes, places, slopes))


def _expand(state: State, count: int) -> State:
    """The state of one box, repeated for `count` cases."""
    return state.select(torch.zeros(count, dtype=torch.long))


