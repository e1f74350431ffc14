"""Complete clipping (Clip-and-Verify, Zhou et al. 2025): bounds of neurons over the executions that a linear bound leaves in a case.

A row's bound says functional >= a . x + b on the box, and a violation needs functional <= 0, so a . x + b <= 0. With any multiplier m >= 0
every neuron h >= p . x + q of the box then satisfies h >= min over the box of (p + m a) . x + q + m b. The best m is where the minimiser
crosses the plane: a fractional knapsack (Dantzig 1957), sorted once per neuron. m may be any number, so only the last evaluation has to be
rigorous.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from bounds.linear import LinearBounds, State
from bounds.rounding import floor, underflow, unit_error

Known = dict[int, tuple[Tensor, Tensor]]


def clip_layers(bounds: LinearBounds, state: State, coefficients: Tensor, constant: Tensor) -> Known:
    """`clip_neurons` of every node that a non-linear one reads, inputs left out, first layers first: each sees the bounds of those before."""
    low_x, high_x = (torch.cat([end[i] for i in bounds.graph.inputs], -1) for end in (state.lower, state.upper))
    nodes = sorted(set(bounds.targets) - set(bounds.graph.inputs))
    known, found = {j: (state.lower[j], state.upper[j]) for j in nodes}, Known()
    for j in nodes:
        state = bounds.propagate(low_x, high_x, refine=False, known=known) if found else state
        found |= clip_neurons(bounds, state, coefficients, constant, [j])
        known |= found
    return found


def clip_neurons(bounds: LinearBounds, state: State, coefficients: Tensor, constant: Tensor, nodes: Iterable[int]) -> Known:
    """Bounds ([B, size], [B, size]) of `nodes`, never wider than those of `state`, of the executions with coefficients . x + constant <= 0.

    `coefficients` [B, n_in], `constant` [B]: a linear lower bound, rounding included, of a row that a violation needs to be <= 0, over the
    boxes of `state`. A lower bound may come out above the upper one: then no violation is in that box. Elements that no non-linear reader
    needs better keep their bounds.
    """
    low_x, high_x = (torch.cat([end[i] for i in bounds.graph.inputs], -1) for end in (state.lower, state.upper))
    found: Known = {}
    for j in nodes:
        rows = bounds.undecided(state, j)
        if rows.numel() == 0:
            continue
        lows, highs = [], []
        for part in rows.split(_block(bounds, state, j)):
            unit = torch.zeros(2 * part.numel(), state.lower[j].shape[-1], dtype=low_x.dtype, device=low_x.device)
            count = torch.arange(part.numel(), device=low_x.device)
            unit[count, part], unit[count + part.numel(), part] = 1.0, -1.0
            line = bounds.lower_bound(state, {j: unit.unsqueeze(0)}, None)
            value = least_within(low_x, high_x, line.coefficients, line.constant, coefficients, constant)
            lows.append(value[:, : part.numel()])
            highs.append(-value[:, part.numel() :])
        mine = bounds.matter(state, j).index_select(-1, rows)
        low = torch.maximum(state.lower[j].index_select(-1, rows), torch.where(mine, torch.cat(lows, -1), -torch.inf))
        high = torch.minimum(state.upper[j].index_select(-1, rows), torch.where(mine, torch.cat(highs, -1), torch.inf))
        found[j] = state.lower[j].index_copy(-1, rows, low), state.upper[j].index_copy(-1, rows, high)
    return found


def _block(bounds: LinearBounds, state: State, j: int) -> int:
    """How many elements of node j at a time, so that memory stays bounded."""
    widest = max(bounds.widest, sum(bounds.net.input_sizes))
    return max(1, bounds.memory // (8 * state.lower[j].shape[0] * widest * state.lower[j].element_size()))


def least_within(lower: Tensor, upper: Tensor, lines: Tensor, offsets: Tensor, coefficients: Tensor, constant: Tensor) -> Tensor:
    """Lower bounds [B, R] of lines . x + offsets (lines [B, R, n], offsets [B, R]) over the points of the boxes [B, n] on which
    coefficients . x + constant <= 0 ([B, n], [B]); -inf where nothing finite is proven."""
    low, high = lower.unsqueeze(1), upper.unsqueeze(1)
    a, b = coefficients.unsqueeze(1), constant.unsqueeze(1)
    weight = _multiplier(low, high, lines, a, b).unsqueeze(-1)
    total = torch.addcmul(lines, weight, a)
    value = torch.where(total > 0, total * low, total * high).sum(-1) + (offsets + weight.squeeze(-1) * b)
    size = ((lines.abs() + weight * a.abs() + floor(lower.dtype)) * torch.maximum(low.abs(), high.abs())).sum(-1)
    error = unit_error(2 * lower.shape[-1] + 12, lower.dtype) * (size + offsets.abs() + weight.squeeze(-1) * b.abs()) + underflow(lower.dtype)
    value = value - error
    return torch.where(value.isfinite(), value, -torch.inf)


def _multiplier(low: Tensor, high: Tensor, lines: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The m >= 0 [B, R] with the greatest minimum over the box of (lines + m a) . x + m b: 0 where any m > 0 is worse.

    Its derivative in m is a . x + b at the minimiser x, which falls by |a_i| (high_i - low_i) where coefficient i changes its sign.
    """
    slope = torch.where(lines > 0, a * low, torch.where(lines < 0, a * high, torch.minimum(a * low, a * high))).sum(-1) + b
    turn = -lines / a
    turns = turn.isfinite() & (turn > 0)
    turn, order = torch.where(turns, turn, torch.inf).sort(-1)
    drop = torch.where(turns, (a * (high - low)).abs().expand_as(lines), 0.0).gather(-1, order)
    after = slope.unsqueeze(-1) - drop.cumsum(-1)
    first = (after > 0).sum(-1, keepdim=True).clamp(max=turn.shape[-1] - 1)
    chosen = turn.gather(-1, first).squeeze(-1)
    return torch.where((slope > 0) & chosen.isfinite(), chosen, 0.0)
