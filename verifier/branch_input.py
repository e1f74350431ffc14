"""Which input to halve. Heuristics: nothing here can affect soundness, only the number of boxes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds import relaxation
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max
from graph.functions.facts import Pieces
from verifier.bounding import Bounder, Margins
from verifier.domains import Boxes

Score = Callable[[Boxes, Margins], Tensor]  # [B, n_in], larger is better; only widths > 0 count


@dataclass(frozen=True)
class Branching:
    """A named score."""

    name: str
    score: Score


def longest() -> Branching:
    """The widest input (Katz et al., Wang et al. 2018)."""
    return Branching("longest", lambda boxes, _: boxes.upper - boxes.lower)


def weighted(graph: Graph, bounder: Bounder) -> Branching:
    """Width times the product of absolute weights from the input to the property's rows: a static measure of influence."""
    influence = torch.from_numpy(input_influence(graph)).to(dtype=bounder.net.dtype, device=bounder.net.device)
    return Branching("weighted", lambda boxes, _: (boxes.upper - boxes.lower) * influence)


def smart(bounder: Bounder) -> Branching:
    """Width times the coefficient of the linear bound, over the rows nearest to a proof (the `sb` score of alpha-beta-CROWN)."""

    def score(boxes: Boxes, found: Margins) -> Tensor:
        width = boxes.upper - boxes.lower
        best = best_rows(bounder, boxes, found)  # [B, C]
        coefficients = found.lower.coefficients.abs()  # [B, R, n]
        chosen = coefficients.gather(1, best.unsqueeze(-1).expand(-1, -1, coefficients.shape[-1]))
        chosen = chosen * boxes.is_open.unsqueeze(-1)
        return chosen.clamp(min=1e-9).sum(1) * width

    return Branching("smart", score)


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


def loose(graph: Graph, bounder: Bounder) -> Branching:
    """What relaxations leave open: of every function the gap between its planes, times its influence on the outputs, is shared among the inputs
    by what each adds to the interval of the function's argument. Where a bound says nothing yet (all halves are at 0 alike), this still says
    which inputs most of what is undecided hangs on, in this box: for networks that encode clauses it is the rule of solvers of those, by which
    variables that stand in many short clauses come first (Jeroslow and Wang 1990)."""
    reach = [torch.from_numpy(part).to(dtype=bounder.net.dtype, device=bounder.net.device) for part in influence(graph)]

    def score(boxes: Boxes, found: Margins) -> Tensor:
        state, linear = found.state, bounder.linear
        width = [(upper - lower).to(reach[0].dtype) for lower, upper in zip(state.lower, state.upper, strict=True)]
        spread = [torch.zeros_like(w) for w in width]
        for i in range(len(graph.nodes) - 1, -1, -1):
            node = graph.nodes[i]
            match node:
                case Affine():
                    maps = list(zip(node.inputs, linear.net.maps[i], strict=True))
                    total = sum((m.abs_apply(width[j]) for j, m in maps), torch.zeros_like(width[i]))
                    share = torch.where(total > 0, spread[i] / total, 0.0)
                    for j, m in maps:
                        spread[j] = spread[j] + width[j] * m.abs_adjoint(share)
                case Elementwise(function=function):
                    j = node.inputs[0]
                    planes = relaxation.relax(function, state.lower[j], state.upper[j])
                    spread[j] = spread[j] + spread[i] + reach[i] * _gap(planes, state.lower[j], state.upper[j])
                case Max(inputs=(_, twin, _)):
                    spread[twin] = spread[twin] + spread[i]
                case Bilinear():
                    for j in node.inputs:
                        spread[j] = spread[j] + spread[i].mean(-1, keepdim=True)
                case Input() | Constant():
                    pass
                case _:
                    raise NotImplementedError(f"no gap of relaxations for node type {type(node).__name__}")
        return torch.cat([spread[i] for i in graph.inputs], -1)

    return Branching("loose", score)


def _gap(planes: relaxation.Planes, lower: Tensor, upper: Tensor) -> Tensor:
    """How far the planes are apart, at most: at one end of the interval."""
    zero = torch.zeros_like(lower)
    offset = (zero if planes.offset_upper is None else planes.offset_upper) - (zero if planes.offset_lower is None else planes.offset_lower)
    slope = planes.slope_upper - planes.slope_lower
    return torch.maximum(slope * lower + offset, slope * upper + offset).clamp(min=0)


def input_influence(graph: Graph) -> NDArray[np.float64]:
    """Per flat input: the sum over outputs of products of absolute weights along all paths, scaled to a largest value of 1."""
    reach = influence(graph)
    flat = np.concatenate([reach[i] for i in graph.inputs])
    flat = flat / max(flat.max(initial=0.0), np.finfo(np.float64).tiny)
    return np.asarray(np.maximum(flat, 1e-6), dtype=np.float64)


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
    """Halve every box along its `ways` best inputs: 2^ways children a box (fewer where fewer inputs can be halved).

    Returns the children, for each the index of its parent, and the halvings in order; new ids count from `first_id`.
    Both halves contain the threshold: lower <= t <= upper with t the midpoint in the boxes' own dtype.
    """
    parent = torch.arange(len(boxes), device=boxes.group.device)
    halvings: list[Halving] = []
    for _ in range(ways):
        middle = boxes.lower / 2 + boxes.upper / 2
        possible = (middle > boxes.lower) & (middle < boxes.upper)
        scores = torch.where(possible, torch.where(scores.isfinite(), scores, 0.0), torch.full((), -1.0, dtype=scores.dtype, device=scores.device))
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
