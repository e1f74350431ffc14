"""Hidden bounds at the root with optimised slopes of their own (alpha-CROWN applied to intermediate layers)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.linear import Functional, LinearBounds, State
from verifier.budget import Budget
from verifier.events import Places
from verifier.multipliers import gathered, places_in
from verifier.optimise import UNSPLIT, Multipliers, initial, optimise, planes_with, relaxed_nodes, storable
from verifier.reduced import Neurons, Reduction, Rows, reducible, stacked, units

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
    reduction = Reduction(bounds, lower[0], upper[0]) if reducible(bounds) else None
    below = 0
    for j in sorted(known):
        here = bounds.propagate(lower, upper, refine=False, known=known)
        rows = bounds.undecided(here, j)
        parts = None if reduction is None or not rows.numel() else reduction.rows(here, *units(bounds, j, rows))
        if j not in bounds.exact_interval and below and 0 < rows.numel() * below <= most_work and not budget.exhausted():
            if reduction is None or parts is None:
                found = _steepest(bounds, here, j, rows, steps, rate)
            else:
                found = _guessed(bounds, here, j, reduction, parts, steps, rate)
            known[j] = _bound_again(bounds, here, j, rows, found, tell)
        if reduction is not None and parts is not None:
            low, high = known[j]
            bent = (low[0, rows] < 0) & (high[0, rows] > 0)
            for reader in bounds.targets[j] if bool(bent.any()) else ():
                reduction.add(reader, j, rows[bent], parts.select(bent))
        below += bounds.graph.nodes[j].size
    return bounds.propagate(lower, upper, refine=False, known=known)


def _both_signs(bounds: LinearBounds, j: int, rows: Tensor) -> tuple[Functional, Tensor]:
    """The elements `rows` of node j, and their negatives, as functionals."""
    functional, constant = units(bounds, j, rows)
    return {j: torch.cat([functional[j], -functional[j]], 1)}, torch.cat([constant, constant], 1)


def _steepest(bounds: LinearBounds, state: State, j: int, rows: Tensor, steps: int, rate: float) -> Multipliers:
    """Multipliers for both bounds of the elements `rows` of node j, by gradients through the whole network."""
    nodes = [i for i in relaxed_nodes(bounds, state) if i < j]
    start = initial(bounds, state, 2 * rows.numel(), nodes)
    return optimise(bounds, state, *_both_signs(bounds, j, rows), start, UNSPLIT, steps=steps, rate=rate)


def _guessed(bounds: LinearBounds, state: State, j: int, reduction: Reduction, parts: Rows, steps: int, rate: float) -> Multipliers:
    """The same through the reduced network below node j; `parts` are the elements as they read it."""
    net, count = reduction.finished(), len(parts.constant)
    low, high = (torch.cat([state.lower[j].new_zeros(1, 0), *(end[b.source][:, b.elements] for b in net.blocks)], -1).expand(2 * count, -1)
                 for end in (state.lower, state.upper))
    start = initial(bounds, state, 2 * count, [b.node for b in net.blocks])
    alpha = torch.cat([low.new_zeros(2 * count, 0), *(start.slopes[b.node][0][0][:, b.elements] for b in net.blocks)], -1)
    nothing = torch.zeros_like(low)
    found = net.maximise(stacked([parts, parts.negated()]), Neurons(low, high, nothing), alpha, nothing, steps, rate)
    slopes = dict(start.slopes)
    for b in net.blocks:
        slopes[b.node] = (slopes[b.node][0].index_copy(-1, b.elements, found.alpha[:, b.start : b.stop].unsqueeze(0)), None)
    return Multipliers(slopes, {})


def _bound_again(bounds: LinearBounds, state: State, j: int, rows: Tensor, found: Multipliers, tell: Tell) -> tuple[Tensor, Tensor]:
    """Rigorous bounds of node j with these multipliers for its elements `rows`."""
    count, (functional, constant) = rows.numel(), _both_signs(bounds, j, rows)
    slopes, _ = storable(bounds, found)
    value = bounds.lower_bound(state, functional, constant, planes=planes_with(bounds, state, slopes)).value
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
