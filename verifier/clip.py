"""Relaxed clipping (Clip-and-Verify, Zhou et al. 2025): cut from a box what a linear bound already shows to be safe.

A row's bound says functional >= a . x + b on the box. A violation needs functional <= 0, so a . x + b <= 0: in every
coordinate that leaves an interval, found with all other coordinates at their best. What is cut off contains no violation.

Where a violation needs several rows to be <= 0, it needs every combination of them with weights >= 0 to be: `joint` looks for one that is
positive all over the box (Farkas' lemma: there is one if and only if no point of the box has all a . x + b <= 0).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.rounding import unit_error

MOST_SLOTS = 16  # cases per box up to which each is clipped by itself; the box becomes the hull of what is left


def clip(
    lower: Tensor, upper: Tensor, is_open: Tensor, coefficients: Tensor, constant: Tensor, member: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(lower, upper, is_open) after clipping [B, n], [B, n], [B, C].

    `coefficients` [B, R, n] and `constant` [B, R]: linear lower bounds of the rows over (a box around) each box, rounding
    included. `member` [B or 1, C, R] says which rows a slot needs all to be <= 0.
    """
    if is_open.shape[-1] > MOST_SLOTS:
        return lower, upper, is_open
    least, cut_lower, cut_upper = _cuts(lower, upper, coefficients, constant)
    infinity = torch.full((), torch.inf, dtype=lower.dtype, device=lower.device)
    new_lower, new_upper = torch.full_like(lower, torch.inf), torch.full_like(upper, -torch.inf)
    still = []
    for c in range(is_open.shape[-1]):
        rows = member[:, c, :]
        low = torch.maximum(torch.where(rows.unsqueeze(-1), cut_lower, -infinity).amax(1), lower)
        high = torch.minimum(torch.where(rows.unsqueeze(-1), cut_upper, infinity).amin(1), upper)
        refuted = (rows & (least > 0)).any(-1) | (low > high).any(-1)
        alive = is_open[:, c] & ~refuted
        new_lower = torch.where(alive.unsqueeze(-1), torch.minimum(new_lower, low), new_lower)
        new_upper = torch.where(alive.unsqueeze(-1), torch.maximum(new_upper, high), new_upper)
        still.append(alive)
    open_now = torch.stack(still, -1)
    some = open_now.any(-1, keepdim=True)
    return torch.where(some, new_lower, lower), torch.where(some, new_upper, upper), open_now


def _cuts(lower: Tensor, upper: Tensor, coefficients: Tensor, constant: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per row the least value over the box [B, R], and the coordinate ends outside which the row is positive [B, R, n]."""
    eps = torch.finfo(lower.dtype).eps
    low, high = lower.unsqueeze(1), upper.unsqueeze(1)
    size = coefficients.abs()
    slack = unit_error(2 * lower.shape[-1] + 8, lower.dtype) * ((size * torch.maximum(low.abs(), high.abs())).sum(-1) + constant.abs())
    least = torch.where(coefficients > 0, coefficients * low, coefficients * high).sum(-1) + constant - slack
    least = torch.where(torch.isfinite(least), least, torch.full_like(least, -torch.inf))
    room = -least.clamp(max=0).unsqueeze(-1) / size * (1 + 8 * eps) + torch.finfo(lower.dtype).tiny
    room = torch.where(room >= 0, room, torch.full_like(room, torch.inf))  # NaN (0 / 0, inf / inf) cuts nothing
    cut_upper = low + room + 4 * eps * (low.abs() + room)
    cut_lower = high - room - 4 * eps * (high.abs() + room)
    infinity = torch.full((), torch.inf, dtype=lower.dtype, device=lower.device)
    return least, torch.where(coefficients < 0, cut_lower, -infinity), torch.where(coefficients > 0, cut_upper, infinity)


def joint(lower: Tensor, upper: Tensor, coefficients: Tensor, constant: Tensor, member: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """(gamma [B, R] >= 0, value [B]), float64: sum_r gamma_r (a_r . x + b_r) >= value over the box, rounding included; gamma is 0 but for the
    rows that are `member` [B, R], and sums to 1. A value that is NaN or -inf says nothing.

    An ascent on the least value over the box: where the combination is least, the row that is largest there is mixed in, exactly as far as
    it helps, up to `rounds` times. If none is positive there, all rows are <= 0 at that point of the box, and nothing helps.
    """
    low, high = lower.double(), upper.double()
    a, b = torch.where(member.unsqueeze(-1), coefficients.double(), 0.0), torch.where(member, constant.double(), 0.0)
    centre, radius = (low + high) / 2, (high - low) / 2
    scaled, shift = a * radius.unsqueeze(1), b + (a * centre.unsqueeze(1)).sum(-1)  # rows over [-1, 1], brought to one size
    size = (scaled.abs().sum(-1) + shift.abs()).clamp(min=torch.finfo(torch.float64).tiny)
    scaled, shift = scaled / size.unsqueeze(-1), shift / size
    every, nothing = torch.arange(len(b), device=b.device), torch.full((), -torch.inf, dtype=b.dtype, device=b.device)
    value, row = torch.where(member, shift - scaled.abs().sum(-1), nothing).max(-1)
    p, c, gamma = scaled[every, row], shift[every, row], torch.nn.functional.one_hot(row, b.shape[-1]).to(b.dtype)
    for _ in range(rounds):
        there = torch.where(member, shift - (scaled * torch.sign(p).unsqueeze(1)).sum(-1), nothing)
        most, row = there.max(-1)
        if not bool(((most > 0) & (value <= 0)).any()):
            break
        step, rise = scaled[every, row] - p, shift[every, row] - c
        share = torch.where(step == 0, 0.0, -p / step).clamp(0, 1)  # where a coefficient of (1 - share) p + share row changes its sign
        found = c.unsqueeze(-1) + share * rise.unsqueeze(-1) - (p.unsqueeze(1) + share.unsqueeze(-1) * step.unsqueeze(1)).abs().sum(-1)
        best, at = found.max(-1)
        share = torch.where(best > value, share[every, at], torch.zeros_like(best))
        p, c, value = p + share.unsqueeze(-1) * step, c + share * rise, torch.maximum(best, value)
        gamma = gamma * (1 - share).unsqueeze(-1)
        gamma[every, row] += share
    gamma = gamma / size
    gamma = gamma / gamma.sum(-1, keepdim=True)
    return gamma, torch.where(member.any(-1), _least(gamma, low, high, a, b), nothing)


def _least(gamma: Tensor, low: Tensor, high: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A lower bound of the combination over the box."""
    d, largest = (gamma.unsqueeze(-1) * a).sum(1), torch.maximum(low.abs(), high.abs())
    size = (gamma * ((a.abs() * largest.unsqueeze(1)).sum(-1) + b.abs())).sum(-1)
    least = torch.where(d > 0, d * low, d * high).sum(-1) + (gamma * b).sum(-1)
    return least - unit_error(2 * sum(a.shape[1:]) + 8, b.dtype) * size
