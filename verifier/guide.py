"""What a reduced network says of the sub-problems of a search over neurons: their bounds, the multipliers to hand to a rigorous pass, their splits.

Estimates: nothing here is a bound, and nothing here can affect soundness.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.linear import State
from verifier.bounding import Bounder
from verifier.optimise import Multipliers, Sides
from verifier.reduced import Guess, Neurons, Reduced, Reduction, Rows, reduce

LEAST_GAIN = 1e-6  # of the distance to 0: what a half gains at least, in the product that compares splits


@dataclass(frozen=True)
class Candidates:
    """Sides at 0 of B sub-problems, the best first: `score` [B, k] (0: nothing to split), pre-activation `node` and `element` [B, k]."""

    score: Tensor
    node: Tensor
    element: Tensor


def guide(bounder: Bounder, state: State) -> Guide | None:
    """The guide for cases on one box; None where a case has several atoms, or nothing is left that could be split."""
    if bounder.member.shape[-1] != 1:
        return None
    reduction, net = reduce(bounder.linear, state)
    return Guide(bounder, state, reduction, net) if len(net) else None


class Guide:
    """Of the cases of `bounder.groups`, of one atom each, on one box with the root's bounds `state` (B = 1)."""

    def __init__(self, bounder: Bounder, state: State, reduction: Reduction, net: Reduced) -> None:
        self.net = net
        group = torch.arange(len(bounder.groups))
        functional, constant = bounder.functional(group, torch.zeros(1, dtype=torch.long))
        rows = {i: d[:, 0].expand(len(group), -1).unsqueeze(0) for i, d in functional.items()}
        self._rows: Rows = reduction.rows(state, rows, constant[:, 0].expand(len(group)).unsqueeze(0))
        self._source = torch.cat([torch.full((b.stop - b.start,), b.source) for b in self.net.blocks])
        self._element = torch.cat([b.elements for b in self.net.blocks])
        self._inputs = sum(bounder.net.input_sizes)

    def neurons(self, lower: dict[int, Tensor], upper: dict[int, Tensor], sides: Sides) -> Neurons:
        """What these tables [B, size] per pre-activation say of the neurons that are left."""
        low, high, floor, ceiling = (
            torch.cat([table[b.source][:, b.elements] for b in self.net.blocks], -1) for table in (lower, upper, sides.floor, sides.ceiling)
        )
        return Neurons(low, high, floor.isfinite().to(low.dtype) - ceiling.isfinite().to(low.dtype))

    def maximise(self, group: Tensor, known: Neurons, start: Multipliers, steps: int, rate: float, least: Tensor) -> Guess:
        """Estimated bounds of the cases `group` [B]; those beyond `least` [B] are not improved further."""
        alpha = torch.cat([start.slopes[b.node][0][:, 0, b.elements] for b in self.net.blocks], -1)
        beta = torch.cat([start.betas[b.source][:, 0, b.elements].abs() for b in self.net.blocks], -1)
        return self.net.maximise(self._rows.select(group), known, alpha, beta, steps, rate, least)

    def multipliers(self, known: Neurons, guess: Guess, old: Multipliers) -> Multipliers:
        """`old` with what was found of these neurons in its place."""
        slopes, betas, beta = dict(old.slopes), dict(old.betas), -known.signs * guess.beta
        for b in self.net.blocks:
            here = slice(b.start, b.stop)
            low, high = slopes[b.node]
            slopes[b.node] = (low.clone().index_copy_(-1, b.elements, guess.alpha[:, here].unsqueeze(1)), high)
            betas[b.source] = betas[b.source].clone().index_copy_(-1, b.elements, beta[:, here].unsqueeze(1))
        return Multipliers(slopes, betas)

    def coefficients(self, guess: Guess) -> Tensor:
        """Those of all inputs [B, n_in]; 0 where one does not vary."""
        return guess.inputs.new_zeros(len(guess.value), self._inputs).index_copy_(-1, self.net.varying, guess.inputs)

    def candidates(self, group: Tensor, known: Neurons, guess: Guess, count: int, batch: int) -> Candidates:
        """Of the `count` neurons of each sub-problem whose upper planes cost most (kFSB, De Palma et al. 2021) those whose halves gain most,
        `batch` halves at a time."""
        planes = self.net.planes(known, guess.alpha, guess.beta)
        score, place = (-guess.meets.clamp(max=0) * planes.offset).topk(min(count, len(self.net)), -1)
        rows = max(1, batch // (2 * place.shape[1]))
        gains = torch.cat([self._gains(group[k], known.select(k), Guess(*(part[k] for part in guess.parts())), place[k])
                           for k in torch.arange(len(group)).split(rows)])
        gains = torch.where(score > 0, gains, 0.0)
        order = gains.sort(dim=-1, descending=True, stable=True).indices
        place, gains = place.gather(-1, order), gains.gather(-1, order)
        spare = self._any(known)  # where no upper plane costs anything: whatever is not linear
        empty = gains[:, 0] <= 0
        place[:, 0] = torch.where(empty, spare[0], place[:, 0])
        gains[:, 0] = torch.where(empty, spare[1], gains[:, 0])
        return Candidates(gains, self._source[place], self._element[place])

    def _any(self, known: Neurons) -> tuple[Tensor, Tensor]:
        width = torch.where((known.lower < 0) & (known.upper > 0), torch.minimum(-known.lower, known.upper), 0.0)
        best = width.max(-1)
        return best.indices, best.values

    def _gains(self, group: Tensor, known: Neurons, guess: Guess, place: Tensor) -> Tensor:
        """The product of what both halves of each split [B, k] gain, with the multipliers that are there."""
        batch, count = place.shape
        number = torch.arange(batch).repeat_interleave(count).repeat(2)
        low, high, signs = known.lower[number], known.upper[number], known.signs[number]
        flat, below = place.reshape(-1), torch.arange(batch * count)
        high[below, flat], signs[below, flat] = 0.0, -1.0
        low[below + batch * count, flat], signs[below + batch * count, flat] = 0.0, 1.0
        halves = Neurons(low, high, signs)
        rows, planes = self._rows.select(group[number]), self.net.planes(halves, guess.alpha[number], guess.beta[number])
        value, before = self.net.backward(rows, planes)[0].clamp(max=0).view(2, batch, count), guess.value.clamp(max=0).unsqueeze(-1)
        least = before.abs() * LEAST_GAIN + torch.finfo(before.dtype).tiny
        return torch.maximum(value[0] - before, least) * torch.maximum(value[1] - before, least)
