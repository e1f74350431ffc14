"""Random searches among the corners of boxes, after Square (Andriushchenko et al. 2020), that go on while the network they search is trained."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

LENGTH = 500  # steps of a search
HALVINGS = 8  # of the share of the inputs that a step draws again, 4/5 at first


class Searches:
    """A search per row of `centres` [B, n], in the box of that radius around it. `places` [B, n] is where they are, `ages` [B] their steps."""

    def __init__(self, centres: Tensor, radius: float, random: torch.Generator) -> None:
        self._centres, self._radius, self._random = centres, radius, random
        self.places = self._corners()
        self.ages = torch.randint(LENGTH, (len(centres),), generator=random)

    def step(self, value: Callable[[Tensor], Tensor]) -> None:
        """One step of each: a move to what is lower. `value`: [B, n] to [B] for the network as it is now; a search at infinity starts anew."""
        share = torch.clamp(0.8 / 2.0 ** (HALVINGS * self.ages // LENGTH), min=1 / self.places.shape[1])
        drawn = torch.rand(self.places.shape, generator=self._random) < share[:, None]
        moved = torch.where(drawn, self._corners(), self.places)
        before, after = value(self.places), value(moved)
        over = (self.ages + 1 >= LENGTH) | before.isinf()
        self.ages = torch.where(over, 0, self.ages + 1)
        self.places = torch.where((over | (after < before))[:, None], torch.where(over[:, None], self._corners(), moved), self.places)

    def _corners(self) -> Tensor:
        signs = torch.randint(0, 2, self._centres.shape, generator=self._random) * 2.0 - 1.0
        return self._centres + self._radius * signs
