"""Hidden bounds at the root with optimised slopes of their own (alpha-CROWN applied to intermediate layers)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.linear import LinearBounds, State
from verifier.budget import Budget
from verifier.events import Places
from verifier.multipliers import gathered, places_in
from verifier.optimise import initial, optimise, planes_with, relaxed_nodes, storable

Array = NDArray[Any]

# Told of every layer: its node, the codes of the rows that improved (2 element for a lower bound, + 1 for an upper one), the places
# of the slopes, and the slopes [rows, places].
Tell = Callable[[int, Array, Places, Array], None]


def tighten(bounds: LinearBounds, state: State, *, steps: int, rate: float, most_work: int, budget: Budget, tell: Tell) -> State:
    """The state of one box (B = 1) with the undecided elements of every hidden layer bounded again, first layers first.

    `most_work` limits, per layer, elements to bound times hidden neurons below: a larger layer keeps its bounds.
    """
    lower, upper = torch.cat([state.lower[i] for i in bounds.graph.inputs], -1), torch.cat([state.upper[i] for i in bounds.graph.inputs], -1)
    known = {j: (state.lower[j], state.upper[j]) for j in bounds.targets if j not in bounds.graph.inputs}
    below = 0
    for j in sorted(known):
        if j not in bounds.exact_interval and below and not budget.exhausted():
            here = bounds.propagate(lower, upper, refine=False, known=known)
            rows = bounds.undecided(here, j)
            if 0 < rows.numel() * below <= most_work:
                known[j] = _bound_again(bounds, here, j, rows, steps, rate, tell)
        below += bounds.graph.nodes[j].size
    return bounds.propagate(lower, upper, refine=False, known=known)


def _bound_again(bounds: LinearBounds, state: State, j: int, rows: Tensor, steps: int, rate: float, tell: Tell) -> tuple[Tensor, Tensor]:
    count = rows.numel()
    unit = torch.zeros(1, 2 * count, bounds.graph.nodes[j].size, dtype=bounds.net.dtype, device=bounds.net.device)
    place = torch.arange(count, device=bounds.net.device)
    unit[0, place, rows] = 1.0
    unit[0, place + count, rows] = -1.0
    constant = torch.zeros(1, 2 * count, dtype=bounds.net.dtype, device=bounds.net.device)
    nodes = [i for i in relaxed_nodes(bounds, state) if i < j]
    found = optimise(bounds, state, {j: unit}, constant, initial(bounds, state, 2 * count, nodes), {}, steps=steps, rate=rate)
    slopes, _ = storable(bounds, state, found)
    value = bounds.lower_bound(state, {j: unit}, constant, planes=planes_with(bounds, state, slopes)).value
    value = torch.where(torch.isfinite(value), value, torch.full_like(value, -torch.inf))
    low = torch.maximum(state.lower[j].index_select(-1, rows), value[:, :count])
    high = torch.minimum(state.upper[j].index_select(-1, rows), -value[:, count:])
    crossed = low > high  # left to the caller's own comparison of rigorous bounds; a crossed pair proves nothing here
    old_low, old_high = state.lower[j].index_select(-1, rows), state.upper[j].index_select(-1, rows)
    low, high = torch.where(crossed, old_low, low), torch.where(crossed, old_high, high)
    better = torch.nonzero(torch.cat([low > old_low, high < old_high], -1)[0]).squeeze(-1)
    if better.numel():
        codes = torch.cat([2 * rows, 2 * rows + 1])[better]
        places = places_in(bounds, state, slopes)
        tell(j, codes.numpy(), places, gathered(bounds, state, places, slopes, torch.zeros_like(better), better))
    return state.lower[j].index_copy(-1, rows, low), state.upper[j].index_copy(-1, rows, high)
