"""Branch and bound over neurons (beta-CROWN): split the sign of a pre-activation, inherit the parent's bounds and slopes.

Every sub-problem belongs to one case. Its splits enter the bounds twice: as bounds of the split neurons, and with
multipliers in the final backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from bounds.linear import LinearBounds, State
from graph.core import Elementwise, Input
from graph.functions.facts import Smooth
from verifier.allotment import fits
from verifier.bounding import Bounder, Margins
from verifier.branch_neuron import gap_scores, split_point
from verifier.budget import Budget
from verifier.clip_neurons import clip_layers
from verifier.domains import Boxes, Stack
from verifier.events import Array, Bounded, Closed, Crossed, Multiplied, Observer, Pending, Places, Roots, Split, Within, ignore
from verifier.groups import atom_of_row
from verifier.guide import Guide
from verifier.input_search import Probe, Tally
from verifier.leaf_program import Cut, Leaf, applies, attempt, both_sides
from verifier.multipliers import gathered, places_in
from verifier.optimise import Multipliers, Sides, Slopes, initial, optimise, paid, planes_with, storable
from verifier.portfolio import CONSTANTS, programs_fit
from verifier.replay import Witness

NAME = "neurons"
UNPAID = -2
LAST_STEPS, LAST_STRETCHES = 200, 8  # for sub-problems that cannot be split again
LEAST_GAIN = 1e-6  # of the distance to 0: what a half gains at least, in the product that compares splits
ROUND_GAIN = 0.05  # of the distance to 0: a smaller gain of a round of complete clipping counts as none
ROUND_SHARE = 0.25  # of the open sub-problems of a batch that have to gain for another round


@dataclass(frozen=True)
class Effort:
    """How hard to work on one batch: sub-problems at a time, gradient steps and rate, candidate splits to try, whether to re-bound
    hidden layers, gradient steps per half of a candidate split, rounds of complete clipping, whether each sub-problem is a linear program."""

    batch: int
    steps: int
    rate: float
    candidates: int
    refine: bool
    trial_steps: int = 0
    rounds: int = 0
    programs: bool = False


@dataclass(frozen=True)
class Splits:
    """Possible splits of B sub-problems, k each: `score` (larger is better), pre-activation `node`, `element`, `threshold` [B, k]."""

    score: Tensor
    node: Tensor
    element: Tensor
    threshold: Tensor

    def column(self, which: Tensor) -> Splits:
        """The splits `which` [B] or [B, m] of each sub-problem, [B, 1] or [B, m]."""
        index = which.unsqueeze(-1) if which.ndim == 1 else which
        return Splits(*(getattr(self, f.name).gather(1, index) for f in fields(self)))


@dataclass(frozen=True)
class Domains:
    """N sub-problems. `margin` [N]: their bounds, as far as known, and `proven` [N], as far as rigorous. `lower[j]`, `upper[j]` [N, size]: bounds
    of node j here; `node` [N], `element` [N], `threshold` [N]: the split to make next; `id` [N], unique within a search;
    `trail` [N, P]: the elements split so far from the root down, as numbers within all nodes' elements, inputs left out, then -1; and UNPAID
    in the place of a split that has no multiplier, since its element was split again on that side; `cuts` [N, P, 3] float64: these splits
    as (number of the element, threshold, +1 for h >= threshold or -1 for h <= threshold).
    """

    group: Tensor
    margin: Tensor
    proven: Tensor
    depth: Tensor
    lower: dict[int, Tensor]
    upper: dict[int, Tensor]
    multipliers: Multipliers
    node: Tensor
    element: Tensor
    threshold: Tensor
    id: Tensor
    trail: Tensor
    cuts: Tensor

    def __len__(self) -> int:
        return int(self.group.shape[0])

    def select(self, keep: Tensor) -> Domains:
        """The sub-problems `keep` (indices or mask)."""
        return Domains(
            self.group[keep], self.margin[keep], self.proven[keep], self.depth[keep],
            {j: t[keep] for j, t in self.lower.items()}, {j: t[keep] for j, t in self.upper.items()},
            self.multipliers.select(keep),
            self.node[keep], self.element[keep], self.threshold[keep], self.id[keep], self.trail[keep], self.cuts[keep],
        )

    @classmethod
    def concatenate(cls, parts: list[Domains]) -> Domains:
        """All sub-problems of `parts`, in order. `parts` is not empty."""
        def join(pick: list[dict[int, Tensor]]) -> dict[int, Tensor]:
            return {j: torch.cat([p[j] for p in pick]) for j in pick[0]}

        longest = max(p.trail.shape[1] for p in parts)
        slopes: dict[int, tuple[Tensor, Tensor | None]] = {}
        for i, (_, first_upper) in parts[0].multipliers.slopes.items():
            pairs = [p.multipliers.slopes[i] for p in parts]
            uppers = [high for _, high in pairs if high is not None]
            slopes[i] = (torch.cat([low for low, _ in pairs]), None if first_upper is None else torch.cat(uppers))
        return cls(
            torch.cat([p.group for p in parts]), torch.cat([p.margin for p in parts]), torch.cat([p.proven for p in parts]),
            torch.cat([p.depth for p in parts]),
            join([p.lower for p in parts]), join([p.upper for p in parts]),
            Multipliers(slopes, join([p.multipliers.betas for p in parts])),
            torch.cat([p.node for p in parts]), torch.cat([p.element for p in parts]), torch.cat([p.threshold for p in parts]),
            torch.cat([p.id for p in parts]), torch.cat([pad(p.trail, (0, longest - p.trail.shape[1]), value=-1) for p in parts]),
            torch.cat([pad(p.cuts, (0, 0, 0, longest - p.cuts.shape[1])) for p in parts]),
        )

    def nbytes(self) -> int:
        """Bytes held."""
        slopes = [t for pair in self.multipliers.slopes.values() for t in pair if t is not None]
        tables = [*self.lower.values(), *self.upper.values(), *self.multipliers.betas.values(), *slopes]
        more = self.threshold, self.trail, self.cuts
        return sum(t.nbytes for t in (self.group, self.margin, self.proven, self.depth, self.node, self.element, *more, *tables))


@dataclass(frozen=True)
class Tried:
    """Sub-problems [B] as they were bounded in `state`: what was proven, the multipliers found, and these as they are stored; `margin` [B, R]
    in float64, `closed` [B]."""

    domains: Domains
    state: State
    found: Margins
    multipliers: Multipliers
    slopes: Slopes
    betas: dict[int, Tensor]
    margin: Tensor
    closed: Tensor

    def planes(self) -> tuple[Tensor, Tensor, Tensor]:
        """Per sub-problem the row nearest to a proof [B], and its linear bound: coefficients [B, n_in], constant [B]."""
        row, k = self.found.margin.argmax(-1), torch.arange(len(self.domains))
        return row, self.found.lower.coefficients[k, row], self.found.lower.constant[k, row]


class NeuronSearch:
    """A search over the cases of `bounder.groups` (one case a group), `lower`, `upper` [G, n_in] being their boxes. It ends its
    budget ("memory") when more than `queue_bytes` are open, or when one sub-problem alone cannot be bounded."""

    def __init__(
        self,
        bounder: Bounder,
        lower: Tensor,
        upper: Tensor,
        effort: Effort,
        probe: Probe | None,
        queue_bytes: int,
        observer: Observer = ignore,
    ) -> None:
        self.bounder, self.effort, self.probe = bounder, effort, probe
        self.queue_bytes = queue_bytes
        self._events = Pending(observer)
        self._next_id = len(bounder.groups)  # a root has the number of its group
        self.linear: LinearBounds = bounder.linear
        self.lower, self.upper = lower, upper
        self.stack: Stack[Domains] = Stack()
        self.stuck: list[Domains] = []
        self.guide: Guide | None = None
        self._programs = applies(bounder.problem.graph) and programs_fit(bounder.linear)
        self._insisted = 0  # so many of them were tried again, in vain
        self.tally = Tally()
        self.witness: Witness | None = None
        self.rows = torch.arange(bounder.member.shape[-1], device=lower.device)
        self._atom = atom_of_row(bounder.problem, bounder.groups)
        sizes = [node.size for node in self.linear.graph.nodes]
        self._first = torch.tensor([sum(sizes[:j]) for j in range(len(sizes))])  # where a node's elements begin among all nodes'
        self._is_input = torch.tensor([isinstance(node, Input) for node in self.linear.graph.nodes])
        self._smooth = torch.zeros(len(sizes), dtype=torch.bool)  # whether a smooth function reads a node
        self._smooth[[n.inputs[0] for _, n in self.linear.graph if isinstance(n, Elementwise) and isinstance(n.function, Smooth)]] = True
        self._places: list[Places] = []
        self._both_sides: list[Places] = []  # the same, for what programs find
        self._places_of = torch.full((len(bounder.groups),), -1)  # per group

    @property
    def finished(self) -> bool:
        """Nothing left to do: a witness, or nothing that can be split."""
        return self.witness is not None or not len(self.stack)

    @property
    def proven(self) -> bool:
        """Every case was closed."""
        return self.witness is None and not len(self.stack) and not self.stuck

    def hardest(self, count: int) -> Boxes:
        """The boxes of the `count` hardest open sub-problems. Something is open."""
        parts = [*self.stuck, *self.stack.all()]
        margin, depth, ids = (torch.cat([getattr(p, name) for p in parts]) for name in ("margin", "depth", "id"))
        order = torch.argsort(margin, stable=True)[:count]
        group = torch.cat([p.group for p in parts])[order]
        slots = torch.ones(len(order), 1, dtype=torch.bool)
        return Boxes(self.lower[group], self.upper[group], group, slots, margin[order], depth[order], ids[order])

    def open_groups(self) -> Tensor:
        """Groups (cases) with something open."""
        parts = [d.group for d in (*self.stuck, *self.stack.all())]
        return torch.unique(torch.cat(parts)) if parts else torch.zeros(0, dtype=torch.long)

    def open_bytes(self) -> int:
        """Bytes of all that is open."""
        return self.stack.nbytes + sum(d.nbytes() for d in self.stuck)

    def lowest_margin(self) -> float:
        """The smallest proven margin among what is open."""
        return min((float(d.proven.min()) for d in (*self.stuck, *self.stack.all())), default=float("inf"))

    def start(self, group: Tensor, state: State, steps: int, relaxed: list[int]) -> bool:
        """Bound the cases `group` [B] at the root, in the state of their box ([B, size] tensors), with `steps` gradient steps; `relaxed`
        are the elementwise nodes that some root leaves non-linear. False, and nothing done, if that does not fit in memory."""
        return self._undone_unless_it_fits(lambda: self._start(group, state, steps, relaxed))

    def _start(self, group: Tensor, state: State, steps: int, relaxed: list[int]) -> None:
        multipliers = initial(self.linear, state, int(self.rows.numel()), relaxed)
        betas: dict[int, Tensor] = {}
        for i in multipliers.slopes:
            j = self.linear.graph.nodes[i].inputs[0]
            if not self._is_input[j]:
                count, size = state.lower[j].shape
                betas[j] = state.lower[j].new_zeros(count, self.rows.numel(), size)
        known = list(self.linear.targets)  # inputs too, where a function reads them: they can be split; or where programs may halve them
        known += [i for i in self.linear.graph.inputs if self._programs and i not in self.linear.targets]
        nothing = torch.zeros(group.shape[0], dtype=torch.long, device=group.device)
        if len(group):
            self._places.append(places_in(self.linear, state.select(nothing[:1]), multipliers.slopes))
            self._both_sides.append(both_sides(self.linear.graph, self._places[-1]))
            self._places_of[group] = len(self._places) - 1
        unknown = torch.full((group.shape[0],), -torch.inf, dtype=state.lower[0].dtype)
        root = Domains(
            group, unknown, unknown, nothing,
            {j: state.lower[j] for j in known}, {j: state.upper[j] for j in known}, Multipliers(multipliers.slopes, betas),
            nothing, nothing, torch.zeros(group.shape[0], dtype=state.lower[0].dtype), group, nothing[:, None][:, :0],
            torch.zeros(group.shape[0], 0, 3, dtype=torch.float64),
        )
        refine, forward = self.effort.refine or (self.bounder.forward and self.bounder.refined), self.bounder.forward
        self._events.add(Roots(NAME, group.numpy(), self.bounder.groups.case[group.numpy()], refine, forward, inherit=True))
        self._bound(root, state, steps)

    def run(self, budget: Budget, nodes: int | None = None) -> None:
        """Search until finished, until `budget` is exhausted, or until `nodes` more sub-problems were bounded."""
        stop_at = None if nodes is None else self.tally.nodes + nodes
        while not self.finished and not budget.exhausted() and (stop_at is None or self.tally.nodes < stop_at):
            left = budget.nodes_left()
            self.step(budget, self.effort.batch if left is None else max(1, min(self.effort.batch, left // 2)))
        if self.finished and self.witness is None:
            self._insist(budget)

    def step(self, budget: Budget, count: int) -> None:
        """Split up to `count` sub-problems in two and bound the halves. If that does not fit in memory, halve the batch instead."""
        parents = self.stack.pop(count)
        if self._undone_unless_it_fits(lambda: self._split(parents)):
            budget.spent += 2 * len(parents)
        else:
            self.stack.push(parents)
            self.effort = replace(self.effort, batch=len(parents) // 2)
        if not self.effort.batch or self.open_bytes() > self.queue_bytes:
            budget.out_of_memory()

    def _undone_unless_it_fits(self, work: Callable[[], None]) -> bool:
        """Do `work`, whose last deed is to push; if memory runs out, leave everything as it was and return False."""
        tally, stuck = replace(self.tally), len(self.stuck)
        if fits(work):
            self._events.send()
            return True
        self._events.drop()
        self.tally = tally
        del self.stuck[stuck:]
        return False

    def _split(self, parents: Domains) -> None:
        """Bound both halves of these sub-problems."""
        children = self._halves(parents, self._next_id)
        low, high = (self._next_id + torch.arange(2 * len(parents))).split(len(parents))
        self._next_id += 2 * len(parents)
        where = (parents.node.numpy(), parents.element.numpy(), parents.threshold.double().numpy())
        self._events.add(Split(NAME, parents.id.numpy(), low.numpy(), high.numpy(), *where))
        if self.guide is not None:
            self._bound_guided(self.guide, children)
            return
        known = {j: (children.lower[j], children.upper[j]) for j in children.lower}
        box = (self.lower[children.group], self.upper[children.group])
        state = self.linear.propagate(*box, refine=self.effort.refine, known=known)
        self._bound(children, state, self.effort.steps)

    def _state(self, domains: Domains) -> State:
        """The state of sub-problems."""
        known = {j: (domains.lower[j], domains.upper[j]) for j in domains.lower}
        return self.linear.propagate(self.lower[domains.group], self.upper[domains.group], refine=self.effort.refine, known=known)

    def _bound_guided(self, guide: Guide, domains: Domains) -> None:
        """Estimate sub-problems, bound those rigorously that seem to be closed, choose splits for the rest and push them."""
        self.tally.nodes += len(domains)
        known = guide.neurons(domains.lower, domains.upper, self._sides(domains))
        least = self.bounder.reserve[domains.group]
        guess = guide.maximise(domains.group, known, domains.multipliers, CONSTANTS.guided_steps, CONSTANTS.guided_rate, least)
        domains = replace(domains, margin=guess.value, multipliers=guide.multipliers(known, guess, domains.multipliers))
        hopeful = torch.nonzero(guess.value > least).squeeze(-1)
        is_open = torch.ones(len(domains), dtype=torch.bool)
        if hopeful.numel():
            part = domains.select(hopeful)
            is_open[hopeful] = ~self._confirm(part, self._state(part), part.multipliers).closed
        if bool(is_open.any()):
            self._branch_guided(guide, domains.select(is_open))

    def _branch_guided(self, guide: Guide, domains: Domains) -> None:
        """Choose splits for these sub-problems and push them."""
        known = guide.neurons(domains.lower, domains.upper, self._sides(domains))
        guess = guide.maximise(domains.group, known, domains.multipliers, 0, CONSTANTS.guided_rate, domains.margin)
        if self._hit(domains, guide.coefficients(guess)):
            return
        found = guide.candidates(domains.group, known, guess, CONSTANTS.guided_candidates, self.effort.batch)
        can = found.score[:, 0] > 0
        domains = replace(domains, node=found.node[:, 0], element=found.element[:, 0], threshold=torch.zeros_like(domains.margin))
        if not bool(can.all()):
            self.stuck.append(domains.select(~can))
        self.stack.push(domains.select(can))

    def _hit(self, domains: Domains, coefficients: Tensor) -> bool:
        """Whether the network violates the case somewhere in these sub-problems: a look at few points."""
        if self.probe is None:
            return False
        group = domains.group
        open_slots = torch.ones(len(group), 1, dtype=torch.bool)
        boxes = Boxes(self.lower[group], self.upper[group], group, open_slots, domains.margin, domains.depth, domains.id)
        self.witness = self.probe(boxes, coefficients)
        return self.witness is not None

    def _halves(self, parents: Domains, first_id: int) -> Domains:
        """Both sides of every sub-problem's split, h <= threshold first: 2N sub-problems with new ids from `first_id`."""
        return replace(_bounded_halves(parents, first_id), trail=self._trail(parents), cuts=self._cuts(parents))

    def _trail(self, parents: Domains) -> Tensor:
        """The trails of the lower halves, then of the upper ones: a split of an input is a matter of the box, and has no multiplier."""
        count, code = (parents.trail != -1).sum(-1, keepdim=True), (self._first[parents.node] + parents.element).unsqueeze(-1)
        again, side = parents.trail == code, parents.cuts[..., 2]
        before = torch.cat([torch.where(again & (side == mine), UNPAID, parents.trail) for mine in (-1.0, 1.0)])
        new = torch.where(self._is_input[parents.node].unsqueeze(-1), -1, code)
        return pad(before, (0, 1), value=-1).scatter(-1, count.repeat(2, 1), new.repeat(2, 1))

    def _cuts(self, parents: Domains) -> Tensor:
        """The splits of the lower halves, then of the upper ones; where an input was split, what stands there counts for nothing."""
        at = (parents.trail != -1).sum(-1).view(-1, 1, 1).expand(-1, 1, 3)
        code, threshold = (self._first[parents.node] + parents.element).double(), parents.threshold.double()
        wide = pad(parents.cuts, (0, 0, 0, 1))
        new = (torch.stack([code, threshold, torch.full_like(threshold, side)], -1).unsqueeze(1) for side in (-1.0, 1.0))
        return torch.cat([wide.scatter(1, at, cut) for cut in new])

    def _sides(self, domains: Domains) -> Sides:
        """What the splits of these sub-problems say of nodes that have multipliers."""
        box, at = torch.nonzero(domains.trail >= 0, as_tuple=True)
        code, threshold, side = domains.cuts[box, at].unbind(-1)
        floor: dict[int, Tensor] = {}
        ceiling: dict[int, Tensor] = {}
        for j in domains.multipliers.betas:
            element = code.long() - self._first[j]
            for ends, mine, nothing in ((floor, 1.0, -torch.inf), (ceiling, -1.0, torch.inf)):
                here = (element >= 0) & (element < domains.lower[j].shape[1]) & (side == mine)
                ends[j] = torch.full_like(domains.lower[j], nothing)
                ends[j][box[here], element[here]] = threshold[here].to(ends[j].dtype)
        return Sides(floor, ceiling)

    def _bound(self, domains: Domains, state: State, steps: int, last: bool = False) -> None:
        """Bound sub-problems in their states, close what is proven, choose splits for the rest and push them. `last`: nothing is left to split."""
        tried = self._try(domains, state, steps, last)
        self.tally.nodes += 0 if last else len(domains)
        for _ in range(self.effort.rounds):
            rest = torch.nonzero(~tried.closed).squeeze(-1)
            if rest.numel() == 0:
                return
            before = tried.found.margin[rest].amax(-1)
            tried = self._try(*self._within(tried, rest), steps, last)
            gained = tried.closed | (tried.found.margin.amax(-1) > before - ROUND_GAIN * before.clamp(max=0))
            if float(gained.double().mean()) < ROUND_SHARE:
                break
        splits = None
        if self._programs and (last or self.effort.programs):
            tried, splits = self._by_programs(tried)
        keep = torch.nonzero(~tried.closed).squeeze(-1)
        if keep.numel() == 0:
            return
        if last and splits is None:
            self.stuck.append(tried.domains.select(keep))
            return
        if self.guide is not None and not last:
            margin, left = tried.found.margin[keep].amax(-1), tried.domains.select(keep)
            self._branch_guided(self.guide, replace(left, margin=margin, proven=margin, multipliers=tried.multipliers.select(keep)))
            return
        self._branch(tried, keep, splits)

    def _by_programs(self, tried: Tried) -> tuple[Tried, Splits]:
        """Close what linear programs close of these, and say where they would split each."""
        closed = tried.closed.clone()
        found = Splits(torch.zeros(len(closed), 1), *(torch.zeros(len(closed), 1, dtype=d) for d in (torch.long, torch.long, torch.float64)))
        for k in torch.nonzero(~closed).squeeze(-1).tolist():
            domains = tried.domains.select(torch.tensor([k]))
            case, state = int(self.bounder.groups.case[int(domains.group), 0]), tried.state.select(torch.tensor([k]))
            nodes, least = list(domains.multipliers.slopes), float(self.bounder.reserve[domains.group])
            leaf = attempt(self.bounder.in_double().linear, self.bounder.problem, case, state, self._path(domains), nodes, least)
            if leaf is not None and leaf.margin > least:
                closed[k] = True
                self._tell_leaf(domains, state, leaf)
            elif leaf is not None and leaf.split is not None:
                found.score[k], (found.node[k], found.element[k], found.threshold[k]) = 1.0, leaf.split
        return replace(tried, closed=closed), found

    def _path(self, domains: Domains) -> list[Cut]:
        """The splits of one sub-problem, inputs left out."""
        rows = domains.cuts[0][domains.trail[0] != -1].tolist()
        nodes = torch.searchsorted(self._first, torch.tensor([code for code, _, _ in rows], dtype=torch.long), right=True) - 1
        return [Cut(j, int(code) - int(self._first[j]), t, int(side)) for j, (code, t, side) in zip(nodes.tolist(), rows, strict=True)]

    def _tell_leaf(self, domains: Domains, state: State, leaf: Leaf) -> None:
        """Count a sub-problem that a program has closed, and say how."""
        self.tally.leaves += 1
        self.tally.closed_volume += float(torch.exp2(-domains.depth.double()))
        ids, zero = domains.id.numpy(), torch.zeros(1, dtype=torch.long)
        self._events.add(Closed(NAME, ids, np.ones((1, 1), dtype=bool), "bound"))
        gamma = np.zeros((1, self.bounder.problem.case_rows.shape[1]))
        gamma[0, : leaf.gamma.size] = leaf.gamma
        places = self._both_sides[int(self._places_of[domains.group])]
        slopes = gathered(self.linear, state, places, leaf.slopes, zero, zero)
        counts = np.array([leaf.betas.size])
        self._events.add(Multiplied(NAME, ids, gamma, places, slopes, counts, leaf.betas, np.array([leaf.margin])))

    def _try(self, domains: Domains, state: State, steps: int, last: bool) -> Tried:
        """Optimise, bound with what a certificate can store, and tell what that closes."""
        return self._confirm(domains, state, self._optimised(domains, state, steps, last))

    def _optimised(self, domains: Domains, state: State, steps: int, last: bool) -> Multipliers:
        """Multipliers for sub-problems in their states."""
        if self.guide is not None and not last:
            known = self.guide.neurons(dict(enumerate(state.lower)), dict(enumerate(state.upper)), self._sides(domains))
            least = self.bounder.reserve[domains.group]
            guess = self.guide.maximise(domains.group, known, domains.multipliers, steps, CONSTANTS.rate, least)
            return self.guide.multipliers(known, guess, domains.multipliers)
        functional, constant = self.bounder.functional(domains.group, self.rows)

        def done(values: Tensor) -> Tensor:
            return self.bounder.closes(values, domains.group, self.rows).all(-1)

        return optimise(
            self.linear, state, functional, constant, domains.multipliers, self._sides(domains),
            steps=steps, rate=self.effort.rate * (2 if last else 1), done=done, stretches=LAST_STRETCHES if last else 0,
        )

    def _confirm(self, domains: Domains, state: State, multipliers: Multipliers) -> Tried:
        """Bound with these multipliers as a certificate can store them, and tell what that closes."""
        is_open = torch.ones(len(domains), 1, dtype=torch.bool, device=domains.group.device)
        slopes, betas = storable(self.linear, multipliers)
        planes, added = planes_with(self.linear, state, slopes), paid(self._sides(domains), betas)
        found = self.bounder.bound_in(state, domains.group, is_open, planes=planes, betas=added, record=(Elementwise,))
        refuted, margin = self.bounder.confirm_in_double(found, domains.group, is_open, slopes, added)
        if self.bounder.watched:
            self._events.add(Bounded(NAME, domains.id.numpy(), self.bounder.groups, domains.group, is_open, self.bounder.passes))
        tried = Tried(domains, state, found, multipliers, slopes, betas, margin, refuted.squeeze(-1))
        self._tell_closed(tried)
        return tried

    def _tell_closed(self, tried: Tried) -> None:
        """Count what is closed, and say how."""
        domains, state, closed = tried.domains, tried.state, tried.closed
        self.tally.leaves += int(closed.sum())
        self.tally.closed_volume += float(torch.exp2(-domains.depth[closed].double()).sum())
        empty = closed & state.crossed if state.crossed is not None else torch.zeros_like(closed)
        for mask, how in ((empty, "empty"), (closed & ~empty, "bound")):
            if bool(mask.any()):
                self._events.add(Closed(NAME, domains.id[mask].numpy(), mask[mask].unsqueeze(-1).numpy(), how))
        if bool(empty.any()) and state.where is not None:
            self._events.add(Crossed(NAME, domains.id[empty].numpy(), *state.where[empty].T.numpy()))
        row = tried.margin.argmax(-1)
        for box, numbers in self._stored(tried, closed & ~empty, row):
            gamma = np.eye(self.bounder.problem.case_rows.shape[1])[numbers[0]]
            self._events.add(Multiplied(NAME, domains.id[box].numpy(), gamma, *numbers[1:], tried.margin[box, row[box]].double().numpy()))

    def _within(self, tried: Tried, rest: Tensor) -> tuple[Domains, State]:
        """The sub-problems `rest` of these, and their states, with bounds of what the linear bound of their hardest row leaves of them.

        They hold for the executions that violate the case, which is the only one of its group: no other sub-problem may see them.
        """
        row, coefficients, constant = tried.planes()
        state, domains = tried.state.select(rest), tried.domains.select(rest)
        room = self.bounder.reserve[domains.group]  # the checker's plane may be so much lower
        known = clip_layers(self.linear, state, coefficients[rest], constant[rest] - room)
        tighter = [((low > state.lower[j]) | (high < state.upper[j])).any(-1) for j, (low, high) in known.items()]
        told = torch.stack(tighter).any(0) if tighter else torch.zeros(len(rest), dtype=torch.bool)
        lower, upper = dict(domains.lower), dict(domains.upper)
        for j, (low, high) in known.items():
            lower[j] = torch.where(told.unsqueeze(-1), torch.maximum(lower[j], low), lower[j])
            upper[j] = torch.where(told.unsqueeze(-1), torch.minimum(upper[j], high), upper[j])
        which = torch.zeros(len(tried.domains), dtype=torch.bool).index_copy(0, rest, told)
        for box, numbers in self._stored(tried, which, row):
            self._events.add(Within(NAME, tried.domains.id[box].numpy(), *numbers))
        domains = replace(domains, lower=lower, upper=upper, multipliers=tried.multipliers.select(rest))
        ends = {j: (lower[j], upper[j]) for j in lower}
        return domains, self.linear.propagate(self.lower[domains.group], self.upper[domains.group], refine=self.effort.refine, known=ends)

    def _insist(self, budget: Budget) -> None:
        """Try once more what cannot be split again; what stays open, or does not fit in memory, stays stuck."""
        parts = self.stuck[self._insisted :]
        del self.stuck[self._insisted :]
        for part in parts:
            if budget.exhausted() or not self._undone_unless_it_fits(partial(self._bound_last, part)):
                self.stuck.append(part)
        self._insisted = len(self.stuck)

    def _bound_last(self, domains: Domains) -> None:
        """With many larger steps, from no multipliers at all."""
        state = self._state(domains)
        fresh = initial(self.linear, state, int(self.rows.numel()), list(domains.multipliers.slopes))
        nothing = {j: torch.zeros_like(beta) for j, beta in domains.multipliers.betas.items()}
        self._bound(replace(domains, multipliers=Multipliers(fresh.slopes, nothing)), state, LAST_STEPS, last=True)

    def _stored(self, tried: Tried, which: Tensor, row: Tensor) -> Iterator[tuple[Tensor, tuple[Array, Places, Array, Array, Array]]]:
        """Of the sub-problems `which` [B] the indices, and for the row `row` [B] of each: atom, places, slopes, counts of betas, betas."""
        domains, trails, places = tried.domains, tried.domains.trail, self._places_of[tried.domains.group]
        for k in torch.unique(places[which]).tolist():
            box = torch.nonzero(which & (places == k)).squeeze(-1)
            told = torch.zeros(trails[box].shape, dtype=torch.float32)
            for j, beta in tried.betas.items():
                element = trails[box] - self._first[j]
                mine = (element >= 0) & (element < beta.shape[-1])
                at = box.unsqueeze(-1)
                value = beta[at, row[at], element.clamp(0, beta.shape[-1] - 1)] * -domains.cuts[box][..., 2]
                told = torch.where(mine, value.clamp(min=0).float(), told)
            atom = self._atom[domains.group[box].numpy(), row[box].numpy()]
            numbers = gathered(self.linear, tried.state, self._places[k], tried.slopes, box, row[box])
            used = trails[box] != -1
            yield box, (atom, self._places[k], numbers, used.sum(-1).numpy(), told[used].numpy())

    def _branch(self, tried: Tried, keep: Tensor, given: Splits | None) -> None:
        """Choose splits for the sub-problems `keep` of these, unless they are `given` for all, and push them."""
        domains, found = tried.domains, tried.found
        row, coefficients, _ = tried.planes()  # a conjunction is closed by one row: the nearest to a proof
        rows = row[keep].view(-1, 1, 1)
        pick = {i: d[keep].gather(1, rows.expand(-1, 1, d.shape[-1])).squeeze(1) for i, d in found.lower.at.items()}
        group = domains.group[keep]
        margin = found.margin[keep].amax(-1)
        if self._hit(replace(domains.select(keep), margin=margin), coefficients[keep]):
            return
        here = tried.state.select(keep)
        rest = replace(
            domains.select(keep), margin=margin, proven=margin, multipliers=tried.multipliers.select(keep),
            lower={j: here.lower[j] for j in domains.lower}, upper={j: here.upper[j] for j in domains.upper},
        )
        if given is None:
            candidates = self._candidates(here, pick)
            splits = self._best_of(rest, candidates) if candidates.score.shape[1] > 1 else candidates.column(torch.zeros_like(group))
        else:
            splits = Splits(*(getattr(given, f.name)[keep] for f in fields(Splits)))
        rest = replace(rest, node=splits.node[:, 0], element=splits.element[:, 0], threshold=splits.threshold[:, 0].to(rest.threshold.dtype))
        if self.effort.refine:
            # Halves start from what is in force in the proof, the root's bounds, those within a case and the splits, as the checker does,
            # and not from what was refined on the way.
            ends = ({j: end[j][keep] for j in end} for end in (domains.lower, domains.upper))
            rest = replace(rest, lower=next(ends), upper=next(ends))
        can = splits.score[:, 0] > 0
        if not bool(can.all()):
            self.stuck.append(rest.select(~can))
        self.stack.push(rest.select(can))

    def _candidates(self, state: State, at: dict[int, Tensor]) -> Splits:
        """The splits with the largest scores, best first [B, k]; a score of 0 means that there is nothing to split."""
        parts = []
        for i, scores in gap_scores(self.linear, state, at).items():
            core = self.linear.graph.nodes[i]
            if isinstance(core, Elementwise):
                j = core.inputs[0]
                value, place = scores.topk(min(self.effort.candidates, scores.shape[-1]), -1)
                low, high = state.lower[j].gather(-1, place), state.upper[j].gather(-1, place)
                point = split_point(core.function, low, high)
                value = torch.where((low < point) & (point < high), value, torch.zeros_like(value))
                parts.append(Splits(value, torch.full_like(place, j), place, point))
        if not parts:
            count = state.lower[0].shape[0]
            none = torch.zeros(count, 1, dtype=torch.long)
            return Splits(torch.zeros(count, 1), none, none, torch.zeros(count, 1))
        joined = Splits(*(torch.cat([getattr(p, f.name) for p in parts], -1) for f in fields(Splits)))
        best = joined.score.topk(min(self.effort.candidates, joined.score.shape[1]), -1).indices
        return joined.column(best)

    def _best_of(self, parents: Domains, candidates: Splits) -> Splits:
        """Of each parent's candidates the one whose halves have the best bounds (FSB, De Palma et al. 2021)."""
        ways = max(1, self.effort.batch // max(1, len(parents)))  # candidates at a time
        columns = [self._gain(parents, candidates.column(part.expand(len(parents), -1)))
                   for part in torch.arange(candidates.score.shape[1]).split(ways)]
        gains = torch.where(candidates.score > 0, torch.cat(columns, -1), -torch.inf)
        return candidates.column(gains.argmax(-1))

    def _gain(self, parents: Domains, candidates: Splits) -> Tensor:
        """How good the halves of these splits [N, k] are [N, k], with `trial_steps` gradient steps for each.

        With steps the product of what both gain, so that a split counts which helps on either side; without them bounds say little of the
        better half, and the weaker one decides. To cut off what is empty from where a smooth function is narrow gains nothing, however often.
        """
        count = candidates.score.shape[1]
        tried = parents.select(torch.arange(len(parents)).repeat_interleave(count))
        threshold = candidates.threshold.reshape(-1).to(parents.margin.dtype)
        children = self._halves(replace(tried, node=candidates.node.reshape(-1), element=candidates.element.reshape(-1), threshold=threshold), 0)
        known = {j: (children.lower[j], children.upper[j]) for j in children.lower}
        state = self.linear.propagate(self.lower[children.group], self.upper[children.group], refine=False, known=known)
        functional, constant = self.bounder.functional(children.group, self.rows)
        chosen, sides = children.multipliers, self._sides(children)
        if self.effort.trial_steps:
            chosen = optimise(
                self.linear, state, functional, constant, chosen, sides, steps=self.effort.trial_steps, rate=self.effort.rate
            )
        low = self.linear.lower_bound(
            state, functional, constant, planes=planes_with(self.linear, state, chosen.slopes),
            betas=paid(sides, chosen.betas), rigorous=False,
        )
        value = low.value.amax(-1)
        if state.crossed is not None:
            value = torch.where(state.crossed, torch.inf, value)
        first, second = value.clamp(max=0).view(2, -1, count)  # closed is closed
        if not self.effort.trial_steps:
            return torch.minimum(first, second) + 0.1 * torch.maximum(first, second)
        least, before = parents.margin.abs().unsqueeze(-1) * LEAST_GAIN, parents.margin.unsqueeze(-1)
        vain = self._smooth[candidates.node] & (torch.minimum(first, second) - before <= least)
        return torch.where(vain, 0.0, torch.maximum(first - before, least) * torch.maximum(second - before, least))


def _bounded_halves(parents: Domains, first_id: int) -> Domains:
    """Both sides of every sub-problem's split, h <= threshold first, with the bounds of the split elements; trails and cuts are the parents'."""
    double = torch.arange(len(parents)).repeat(2)
    both = parents.select(double)
    count = len(parents)
    lower = {j: t.clone() for j, t in both.lower.items()}
    upper = {j: t.clone() for j, t in both.upper.items()}
    for j in lower:
        mine = torch.nonzero(parents.node == j).squeeze(-1)
        if mine.numel() == 0:
            continue
        element, threshold = parents.element[mine], parents.threshold[mine]
        upper[j][mine, element] = torch.minimum(upper[j][mine, element], threshold)
        lower[j][mine + count, element] = torch.maximum(lower[j][mine + count, element], threshold)
    return Domains(
        both.group, both.margin, both.proven, both.depth + 1, lower, upper, both.multipliers, both.node, both.element, both.threshold,
        first_id + torch.arange(2 * count), both.trail, both.cuts,
    )
