"""Adam (Kingma and Ba 2015). torch.optim has it too, but imports torch's compiler on first use, which takes longer than many searches."""

from __future__ import annotations

from torch import Tensor

DECAYS = 0.9, 0.999  # of the two moments
LEAST = 1e-8
RATE_DECAY = 0.98  # of the rate, per step, wherever bounds are optimised


class Moments:
    """Both moments of the gradients of one tensor so far."""

    def __init__(self, first: Tensor, second: Tensor, steps: int = 0) -> None:
        self._first, self._second, self._steps = first, second, steps

    @classmethod
    def at_start(cls, like: Tensor) -> Moments:
        """Of no gradient yet, for a tensor of this shape."""
        return cls(like.new_zeros(like.shape), like.new_zeros(like.shape))

    def select(self, keep: Tensor) -> Moments:
        """Those of the rows `keep` (mask)."""
        return Moments(self._first[keep], self._second[keep], self._steps)

    def direction(self, gradient: Tensor) -> Tensor:
        """Take one more gradient in; where to go for a larger value, about 1 per element where all gradients so far agree."""
        self._steps += 1
        self._first.lerp_(gradient, 1 - DECAYS[0])
        self._second.mul_(DECAYS[1]).addcmul_(gradient, gradient, value=1 - DECAYS[1])
        spread = (self._second / (1 - DECAYS[1] ** self._steps)).sqrt_().add_(LEAST)
        return (self._first / spread).div_(1 - DECAYS[0] ** self._steps)
