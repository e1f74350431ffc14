"""What bounds that torch computes lose by rounding, in units of the dtype in use (ARITHMETIC 4 and 5)."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_error(m: int, dtype: torch.dtype) -> float:
    """G(m): twice m rounding units of `dtype`, so that the error terms need no directed rounding themselves."""
    return (m + 6) * torch.finfo(dtype).eps


def underflow(dtype: torch.dtype) -> float:
    """T: more than the products that meet in one number (fewer than 2^24) lose together when they underflow, or are flushed to 0."""
    return torch.finfo(dtype).tiny * 2.0**24


def floor(dtype: torch.dtype) -> float:
    """G F: what a weight in an error term lacks when its own products underflowed (ARITHMETIC 5)."""
    return torch.finfo(dtype).tiny * 2.0**40


def dot(d: Tensor, v: Tensor) -> Tensor:
    """sum over elements of d [B or 1, R, n] times v [B or 1, n] or [B or 1, 1 or R, n]: [B or 1, R]."""
    if v.ndim == 3 and v.shape[1] > 1:
        return (d * v).sum(-1)
    v = v.flatten(0, 1) if v.ndim == 3 else v
    if d.shape[0] == 1:
        return v @ d[0].T
    if v.shape[0] == 1:
        return d @ v[0]
    return torch.bmm(v.unsqueeze(1), d.mT).squeeze(1)  # a row from the left: a half to a tenth of the time of a column from the right
