"""Which input to halve. Heuristics: nothing here can affect soundness, only the number of boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds import relaxation
from bounds.linear import LinearBounds, State
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max
from graph.functions.facts import Pieces
from verifier.bounding import Bounder, Margins
from verifier.domains import Boxes

LEAST = 1e-20  # of a width: what inputs count by of which nothing else is known


@dataclass(frozen=True)
class Seen:
    """What scores read: boxes, what a bounder found of them, and per box the position in `found.rows` of the row that decides its hardest open
    slot [B, 1, 1]."""

    bounder: Bounder
    boxes: Boxes
    found: Margins
    row: Tensor

    @classmethod
    def of(cls, bounder: Bounder, boxes: Boxes, found: Margins) -> Seen:
        """Boxes as a bounder has found them, with their hardest rows."""
        best = best_rows(bounder, boxes, found)  # [B, C]
        margin = torch.where(boxes.is_open, found.margin.gather(1, best), torch.inf)
        return cls(bounder, boxes, found, best.gather(1, margin.argmin(-1, keepdim=True)).unsqueeze(-1))

    @property
    def width(self) -> Tensor:
        """Of every input [B, n_in]."""
        return self.boxes.upper - self.boxes.lower

    def line(self) -> Tensor:
        """The coefficients of the hardest rows' linear bounds [B, n_in]."""
        coefficients = self.found.lower.coefficients
        return coefficients.gather(1, self.row.expand(-1, 1, coefficients.shape[-1])).squeeze(1)


Score = Callable[[Seen], Tensor]  # -> [B, n_in], larger is better; only widths > 0 count


@dataclass(frozen=True)
class Branching:
    """A named score."""

    name: str
    score: Score


def longest() -> Branching:
    """The widest input (Katz et al., Wang et al. 2018)."""
    return Branching("longest", lambda seen: seen.width)


def smart() -> Branching:
    """Width times the change of the linear bound of the hardest row (the `sb` score of alpha-beta-CROWN)."""
    return Branching("smart", lambda seen: (seen.line().abs() + LEAST) * seen.width)


def balanced() -> Branching:
    """What halving an input gains on both sides: the geometric mean of the change of the linear bound along it, which only the half away from
    the bound's least corner has, and of what relaxations lose along it, which both halves have.

    The first alone is the smart score. Where bounds do not change along an input that they are loose in, it never halves
    that, and neither half closes. The product of what either side gains is how solvers of integer programs score (Achterberg 2007, section 5.3).
    """

    def score(seen: Seen) -> Tensor:
        change, lost = seen.line().abs() * seen.width, _shared(seen.bounder, seen.found.state, _met(seen))
        return (change * lost).sqrt() + LEAST * seen.width

    return Branching("balanced", score)


def best_rows(bounder: Bounder, boxes: Boxes, found: Margins) -> Tensor:
    """For every box and slot the position in `found.rows` of the slot's row with the largest margin [B, C]."""
    member = bounder.member[:, :, found.rows]
    member = member.expand(len(boxes), -1, -1) if member.shape[0] == 1 else member[boxes.group]
    margin = torch.where(member, found.margin.unsqueeze(1), torch.full((), -torch.inf, dtype=found.margin.dtype, device=found.margin.device))
    return margin.argmax(-1)


def slot_margins(bounder: Bounder, group: Tensor, is_open: Tensor, found: Margins) -> Tensor:
    """The smallest, over a box's open slots, of the largest margin of the slot's rows [B]; +inf where nothing is open."""
    member = bounder.member[:, :, found.rows]
    member = member.expand(group.shape[0], -1, -1) if member.shape[0] == 1 else member[group]
    margin = torch.where(member, found.margin.unsqueeze(1), torch.full((), -torch.inf, dtype=found.margin.dtype, device=found.margin.device))
    best = margin.amax(-1)
    return torch.where(is_open, best, torch.full((), torch.inf, dtype=best.dtype, device=best.device)).amin(-1)


def loose(graph: Graph) -> Branching:
    """What relaxations leave open: of every function and product the gap between its planes, times its influence on the outputs, is shared among
    the inputs by what each adds to the interval of the argument. Where a bound says nothing yet (all halves are at 0 alike), this still says
    which inputs most of what is undecided hangs on, in this box: for networks that encode clauses it is the rule of solvers of those, by which
    variables that stand in many short clauses come first (Jeroslow and Wang 1990)."""
    reach = dict(enumerate(torch.from_numpy(part) for part in influence(graph)))
    return Branching("loose", lambda seen: _shared(seen.bounder, seen.found.state, reach))


def _met(seen: Seen) -> dict[int, Tensor]:
    """How much the linear bound of the hardest row changes with the elements of a non-linear node [B, size]."""
    parts, _ = seen.bounder.functional(seen.boxes.group, seen.found.rows)
    count = len(seen.boxes)
    chosen = {i: d.expand(count, -1, -1).gather(1, seen.row.expand(-1, 1, d.shape[-1])) for i, d in parts.items()}
    met = seen.bounder.linear.lower_bound(seen.found.state, chosen, None, record=(Elementwise, Bilinear), rigorous=False).at
    return {i: d.squeeze(1).abs() for i, d in met.items()}


def _shared(bounder: Bounder, state: State, weight: dict[int, Tensor]) -> Tensor:
    """What relaxations lose, shared among the inputs [B, n_in]: of non-linear nodes the gap between their planes times `weight`, [size] or
    [B, size], is shared among what they read, down to the inputs, by what each adds to the interval."""
    graph, linear = bounder.net.graph, bounder.linear
    width = [upper - lower for lower, upper in zip(state.lower, state.upper, strict=True)]
    spread = [torch.zeros_like(w) for w in width]
    for i in range(len(graph.nodes) - 1, -1, -1):
        node, own = graph.nodes[i], weight[i].to(width[i]) if i in weight else None
        match node:
            case Affine():
                maps = list(zip(node.inputs, linear.net.maps[i], strict=True))
                share = _ratio(spread[i], sum((m.abs_apply(width[j]) for j, m in maps), torch.zeros_like(width[i])))
                for j, m in maps:
                    spread[j] = spread[j] + width[j] * m.abs_adjoint(share)
            case Elementwise(inputs=(j,)):
                gap = 0 if own is None else own * _gap(linear.planes(state, i), state.lower[j], state.upper[j])
                spread[j] = spread[j] + spread[i] + gap
            case Max(inputs=(_, twin, _)):
                spread[twin] = spread[twin] + spread[i]
            case Bilinear(inputs=(x, y)):
                for j, part in zip((x, y), _of_factors(linear, state, node, spread[i], own), strict=True):
                    spread[j] = spread[j] + part
            case Input() | Constant():
                pass
            case _:
                raise NotImplementedError(f"no gap of relaxations for node type {type(node).__name__}")
    return torch.cat([spread[i] for i in graph.inputs], -1)


def _of_factors(linear: LinearBounds, state: State, node: Bilinear, spread: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """The shares of both factors of a product in what it passes down and in what its own planes lose, half of the product of the widths."""
    low_x, high_x, low_y, high_y = linear.factors(state, node)
    width_x, width_y = high_x - low_x, high_y - low_y
    largest_x, largest_y = torch.maximum(low_x.abs(), high_x.abs()), torch.maximum(low_y.abs(), high_y.abs())
    if node.kind == "mul":
        lost = spread if weight is None else spread + weight * width_x * width_y / 2
        share = _ratio(lost, width_x * largest_y + largest_x * width_y)
        return width_x * largest_y * share, width_y * largest_x * share
    gap = width_x @ width_y / 2
    lost = spread.reshape(gap.shape)
    lost = lost if weight is None else lost + weight.reshape(-1, *gap.shape[1:]) * gap
    share = _ratio(lost, width_x @ largest_y + largest_x @ width_y)
    return (width_x * (share @ largest_y.mT)).flatten(1), (width_y * (largest_x.mT @ share)).flatten(1)


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole, 0.0)


def _gap(planes: relaxation.Planes, lower: Tensor, upper: Tensor) -> Tensor:
    """How far the planes are apart, at most: at one end of the interval."""
    zero = torch.zeros_like(lower)
    offset = (zero if planes.offset_upper is None else planes.offset_upper) - (zero if planes.offset_lower is None else planes.offset_lower)
    slope = planes.slope_upper - planes.slope_lower
    return torch.maximum(slope * lower + offset, slope * upper + offset).clamp(min=0)


def influence(graph: Graph) -> list[NDArray[np.float64]]:
    """Per element of every node the sum over outputs of products of absolute weights along all paths, up to one scale for all."""
    reach = [np.zeros(node.size) for node in graph.nodes]
    for i in graph.outputs:
        reach[i] += 1.0
    for i in range(len(graph.nodes) - 1, -1, -1):
        if not 1e-100 < reach[i].max(initial=0.0) < 1e100:  # products of weights overflow, and only ratios matter: those between branches too
            most = max(part.max(initial=0.0) for part in reach[: i + 1]) or 1.0
            reach = [part / most for part in reach]
        node, r = graph.nodes[i], reach[i]
        match node:
            case Affine():
                for j, m in zip(node.inputs, node.maps, strict=True):
                    reach[j] += m.absolute().adjoint(r)
            case Elementwise(function=function):
                steep = (max(map(abs, function.slopes)) or 1.0) if isinstance(function, Pieces) else 1.0  # steps are flat, but not without effect
                reach[node.inputs[0]] += r * steep
            case Max(inputs=(_, twin, _)):
                reach[twin] += r
            case Bilinear():
                for j in node.inputs:
                    reach[j] += r.mean()
            case Input() | Constant():
                pass
            case _:
                raise NotImplementedError(f"no influence rule for node type {type(node).__name__}")
    return reach


@dataclass(frozen=True)
class Halving:
    """Boxes `id` [N] were halved along flat inputs `dim` at `threshold` into boxes `low` and `high` (ids)."""

    id: Tensor
    low: Tensor
    high: Tensor
    dim: Tensor
    threshold: Tensor


def split(boxes: Boxes, scores: Tensor, ways: int, first_id: int) -> tuple[Boxes, Tensor, list[Halving]]:
    """Halve every box along its `ways` best inputs: 2^ways children a box (fewer where fewer inputs can be halved). Where a score is not finite,
    since nothing bounds some node of the network yet, the box's widest inputs are best.

    Returns the children, for each the index of its parent, and the halvings in order; new ids count from `first_id`.
    Both halves contain the threshold: lower <= t <= upper with t the midpoint in the boxes' own dtype.
    """
    parent = torch.arange(len(boxes), device=boxes.group.device)
    halvings: list[Halving] = []
    scores = torch.where(scores.isfinite().all(-1, keepdim=True), scores, boxes.upper - boxes.lower)
    for _ in range(ways):
        middle = boxes.lower / 2 + boxes.upper / 2
        possible = (middle > boxes.lower) & (middle < boxes.upper)
        scores = torch.where(possible, scores, torch.full((), -1.0, dtype=scores.dtype, device=scores.device))
        best, dim = scores.max(-1)
        can = best >= 0
        stuck, stuck_parent = boxes.select(~can), parent[~can]
        if not bool(can.any()):
            break
        boxes, scores, at, parent = boxes.select(can), scores[can], dim[can].unsqueeze(-1), parent[can]
        threshold = boxes.lower.gather(-1, at) / 2 + boxes.upper.gather(-1, at) / 2
        ids = first_id + torch.arange(2 * len(boxes), device=boxes.group.device)
        first_id += 2 * len(boxes)
        low_id, high_id = ids[: len(boxes)], ids[len(boxes) :]
        halvings.append(Halving(boxes.id, low_id, high_id, at.squeeze(-1), threshold.squeeze(-1)))
        below = replace(boxes, upper=boxes.upper.scatter(-1, at, threshold), depth=boxes.depth + 1, id=low_id)
        above = replace(boxes, lower=boxes.lower.scatter(-1, at, threshold), depth=boxes.depth + 1, id=high_id)
        halved = scores.scatter(-1, at, scores.gather(-1, at) / 2)
        boxes, parent = Boxes.concatenate([below, above, stuck]), torch.cat([parent, parent, stuck_parent])
        scores = torch.cat([halved, halved, torch.full((len(stuck), scores.shape[-1]), -1.0, dtype=scores.dtype, device=scores.device)])
    return boxes, parent, halvings


def splittable(boxes: Boxes) -> Tensor:
    """Boxes some input of which has a number strictly between its ends [B]."""
    middle = boxes.lower / 2 + boxes.upper / 2
    return ((middle > boxes.lower) & (middle < boxes.upper)).any(-1)
