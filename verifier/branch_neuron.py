"""Which neuron to split, and where. Heuristics: nothing here can affect soundness."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds import relaxation
from bounds.functions import torch_function
from bounds.linear import LinearBounds, State
from graph.core import Elementwise
from graph.functions.facts import Function, Pieces


def gap_scores(bounds: LinearBounds, state: State, at: dict[int, Tensor]) -> dict[int, Tensor]:
    """Per elementwise node and element [B, size]: how much of the bound the relaxation may have cost.

    `at[i]` [B, size] are the coefficients of the bound at the node's output. The cost is |coefficient| times the largest
    distance between the function and the plane that the sign selects: for ReLU the BaBSR score (Bunel et al. 2020)
    without its bias term; defined alike for every function, so that smooth nodes compete with ReLUs.
    """
    scores = {}
    for i, d in at.items():
        node = bounds.graph.nodes[i]
        if isinstance(node, Elementwise):
            j = node.inputs[0]
            scores[i] = _gap(node.function, state.lower[j], state.upper[j], d)
    return scores


def _gap(function: Function, low: Tensor, high: Tensor, d: Tensor) -> Tensor:
    planes = relaxation.relax(function, low, high)
    linear = relaxation.is_linear(function, low, high)
    evaluate = torch_function(function).value
    above, below = torch.zeros_like(low), torch.zeros_like(low)
    for x in _probes(function, low, high):
        y = evaluate(x)
        upper = planes.slope_upper * x + (0 if planes.offset_upper is None else planes.offset_upper)
        lower = planes.slope_lower * x + (0 if planes.offset_lower is None else planes.offset_lower)
        above, below = torch.maximum(above, upper - y), torch.maximum(below, y - lower)
    cost = torch.where(d < 0, -d * above, d * below)
    return torch.where(linear, torch.zeros_like(cost), cost)


def _probes(function: Function, low: Tensor, high: Tensor) -> list[Tensor]:
    if isinstance(function, Pieces):
        return [torch.minimum(torch.maximum(torch.full_like(low, b), low), high) for b in function.breakpoints] + [low, high]
    return [low + (high - low) * f for f in (0.0, 0.25, 0.5, 0.75, 1.0)]


def split_point(function: Function, low: Tensor, high: Tensor) -> Tensor:
    """Where to split: at the breakpoint nearest to the middle that lies inside, else in the middle (zero if S-shaped and inside)."""
    middle = (low + high) / 2
    candidates = function.breakpoints if isinstance(function, Pieces) else function.inflections
    best, distance = middle, torch.full_like(middle, torch.inf)
    for b in candidates:
        inside = (low < b) & (b < high)
        away = (middle - b).abs()
        take = inside & (away < distance)
        best = torch.where(take, torch.full_like(middle, b), best)
        distance = torch.where(take, away, distance)
    return best


