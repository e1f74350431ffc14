"""Which neuron to split, and where. Heuristics: nothing here can affect soundness."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds import relaxation
from bounds.functions import torch_function
from bounds.linear import NEAR_ZERO, LinearBounds, State
from graph.core import Elementwise
from graph.functions.facts import Function, Pieces, Stairs, Steps, jumps


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
    if jumps(function):  # next to a jump there is nothing left to split
        point = split_point(function, low, high)
        linear = linear | (point <= low) | (point >= high)
    return torch.where(linear, torch.zeros_like(cost), cost)


def _probes(function: Function, low: Tensor, high: Tensor) -> list[Tensor]:
    if isinstance(function, Stairs | Steps):
        return [low, high, split_point(function, low, high)]
    if isinstance(function, Pieces):
        return [torch.minimum(torch.maximum(torch.full_like(low, b), low), high) for b in function.breakpoints] + [low, high]
    return [low + (high - low) * f for f in (0.0, 0.25, 0.5, 0.75, 1.0)]


def _beside_a_jump(function: Pieces, low: Tensor, high: Tensor) -> Tensor:
    """A little below or else above the breakpoint nearest to the middle; `low` where all that is inside is next to a breakpoint.

    Split at the jump itself, both sides would still take the value there, and in float32 (ARITHMETIC 50) the limit from beyond too. Split beside
    it, f is straight on either side, and what is left between two splits is as narrow as numbers allow.
    """
    middle = (low + high) / 2
    best, distance = low, torch.full_like(middle, torch.inf)
    if isinstance(function, Stairs):
        return _beside_a_stair(function, low, high, middle)
    for b in function.breakpoints:
        at = low.new_tensor(b)
        below, above = (torch.nextafter(at, at.new_tensor(side * torch.inf)) if b else at.new_tensor(side * NEAR_ZERO) for side in (-1, 1))
        point = torch.where(low < below, below, above)
        away = torch.where((low < point) & (point < high), (middle - b).abs(), torch.inf)
        best, distance = torch.where(away < distance, point, best), torch.minimum(away, distance)
    return best


def _beside_a_stair(function: Stairs, low: Tensor, high: Tensor, middle: Tensor) -> Tensor:
    """The same, of the jumps next to the middle."""
    best = low
    for jump in (-1.5, 1.5, -0.5, 0.5):
        b = (torch.floor(middle + 0.5) + jump).clamp(function.breakpoints[0], function.breakpoints[-1])
        below, above = (torch.nextafter(b, torch.full_like(b, side * torch.inf)) for side in (-1, 1))
        point = torch.where(low < below, below, above)
        best = torch.where((low < point) & (point < high), point, best)
    return best


def _beside_a_step(function: Steps, low: Tensor, high: Tensor) -> Tensor:
    """The same, of the jumps next to the middle; one may be at 0."""
    best, nearest = low, torch.round((low + high) / 2 - function.first) + function.first
    for jump in (-1.0, 1.0, 0.0):
        b = nearest + jump
        below, above = (torch.where(b == 0, side * NEAR_ZERO, torch.nextafter(b, torch.full_like(b, side * torch.inf))) for side in (-1, 1))
        point = torch.where(low < below, below, above)
        best = torch.where((low < point) & (point < high), point, best)
    return best


def split_point(function: Function, low: Tensor, high: Tensor) -> Tensor:
    """Where to split: at the breakpoint nearest to the middle that lies inside, else in the middle (zero if S-shaped and inside)."""
    if isinstance(function, Pieces) and function.jumps():
        return _beside_a_jump(function, low, high)
    if isinstance(function, Steps):
        return _beside_a_step(function, low, high)
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


