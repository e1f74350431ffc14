"""Relaxed clipping (Clip-and-Verify, Zhou et al. 2025): cut from a box what a linear bound already shows to be safe.

A row's bound says functional >= a . x + b on the box. A violation needs functional <= 0, so a . x + b <= 0: in every
coordinate that leaves an interval, found with all other coordinates at their best. What is cut off contains no violation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.linear import unit_error

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
