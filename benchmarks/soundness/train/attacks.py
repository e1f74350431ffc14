"""Attacks on one box, as far as torch goes: how well does a counterexample hide? Nothing found by them, and nothing not found, is a truth.

Of the network only outputs and gradients are used. `Target.margins` is the violation margin with its sign turned: at most 0 is a violation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.torch_graph import TorchGraph
from graph.load import load

CHECKPOINTS = (0.22, 0.42, 0.58, 0.71, 0.81, 0.88, 0.94)  # shares of the steps at which APGD considers smaller steps


@dataclass(frozen=True, eq=False)
class Found:
    """The lowest margins [B] of an attack's rows and the points where they were [B, n]."""

    points: Tensor
    margins: Tensor


class Target:
    """A file, a box [n] each side, and the functional of its outputs [m] that must stay positive. float32."""

    def __init__(self, content: bytes, lower: Tensor, upper: Tensor, functional: Tensor) -> None:
        self._graph = TorchGraph(load(content).graph)
        self.lower, self.upper, self._functional = lower, upper, functional
        self.half = (upper - lower) / 2

    def margins(self, x: Tensor) -> Tensor:
        """x: [B, n]. Returns [B]."""
        return self._graph.outputs(x) @ self._functional

    def gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor] = torch.neg) -> tuple[Tensor, Tensor]:
        """The margins [B], and the gradient [B, n] of a loss of them that rises where they fall."""
        x = x.detach().requires_grad_(True)
        margins = self.margins(x)
        (gradient,) = torch.autograd.grad(loss(margins).sum(), x)
        return margins.detach(), gradient

    def uniform(self, count: int, random: torch.Generator) -> Tensor:
        """Uniform points of the box [count, n]."""
        return self.lower + 2 * self.half * torch.rand(count, len(self.lower), generator=random)

    def clamp(self, x: Tensor) -> Tensor:
        """Back into the box."""
        return torch.minimum(torch.maximum(x, self.lower), self.upper)


class _Best:
    """Keeps the lowest margin of every row."""

    def __init__(self, x: Tensor) -> None:
        self.points, self.margins = x, torch.full((len(x),), torch.inf)

    def see(self, x: Tensor, margins: Tensor) -> Tensor:
        """Returns which rows are lower than before."""
        lower = margins < self.margins
        self.points, self.margins = torch.where(lower[:, None], x, self.points), torch.where(lower, margins, self.margins)
        return lower

    def found(self) -> Found:
        return Found(self.points, self.margins)


def pgd(target: Target, restarts: int, steps: int, random: torch.Generator) -> Found:
    """Signed gradient steps (Madry et al. 2018) of 1/4, 1/20 and 1/50 of the half-width, a third of the restarts each; ends on the way count."""
    x = target.uniform(restarts, random)
    width = torch.tensor([0.25, 0.05, 0.02])[torch.arange(restarts) % 3][:, None] * target.half
    best = _Best(x)
    for _ in range(steps):
        margins, gradient = target.gradient(x)
        best.see(x, margins)
        x = target.clamp(x + width * gradient.sign())
    best.see(x, target.margins(x).detach())
    return best.found()


def apgd(target: Target, restarts: int, steps: int, random: torch.Generator, entropy: bool) -> Found:
    """APGD (Croce and Hein 2020): momentum 3/4, steps that halve at checkpoints where too few of them helped, from the best point again.

    The loss is cross-entropy or the margin. With two outputs both have the same signed gradient; they differ where cross-entropy saturates.
    (The difference-of-logits ratio needs three outputs; its numerator is the margin.)
    """
    def loss(margins: Tensor) -> Tensor:
        return torch.nn.functional.softplus(-margins) if entropy else -margins

    x = target.uniform(restarts, random)
    best, before, helped, since = _Best(x), x, torch.zeros(restarts), 0
    width = torch.full((restarts, 1), 2.0)
    last, last_best = torch.full((restarts,), torch.inf), torch.full((restarts,), torch.inf)
    checks = {int(share * steps) for share in CHECKPOINTS}
    for k in range(steps):
        margins, gradient = target.gradient(x, loss)
        best.see(x, margins)
        helped += (margins < last).float()
        last, since = margins, since + 1
        if k in checks:
            stuck = (helped < 0.75 * since) | (best.margins >= last_best)
            width = torch.where(stuck[:, None], width / 2, width)
            x, before = (torch.where(stuck[:, None], best.points, v) for v in (x, before))
            last_best, helped, since = best.margins, torch.zeros(restarts), 0
        step = target.clamp(x + width * target.half * gradient.sign())
        x, before = target.clamp(x + 0.75 * (step - x) + (0.25 * (x - before) if k else 0.25 * (step - x))), x
    best.see(x, target.margins(x).detach())
    return best.found()


def fab(target: Target, restarts: int, steps: int, random: torch.Generator) -> Found:
    """After FAB (Croce and Hein 2020): onto the linearised decision boundary, a little beyond it, and a tenth of the way back to the start's
    own projection. Without its search for the smallest distance: the whole box counts."""
    start = target.uniform(restarts, random)
    x, best = start, _Best(start)
    for _ in range(steps):
        margins, gradient = target.gradient(x)
        best.see(x, margins)
        near, near_start = (_project(target, point, margins + ((x - point) * gradient).sum(dim=1), gradient) for point in (x, start))
        x = target.clamp(0.9 * (x + 1.05 * (near - x)) + 0.1 * (start + 1.05 * (near_start - start)))
    best.see(x, target.margins(x).detach())
    return best.found()


def _project(target: Target, x: Tensor, margins: Tensor, gradient: Tensor) -> Tensor:
    """The nearest point of the box, in the maximum norm, where margins - gradient (z - x) is 0; the far corner where there is none."""
    low, high = torch.zeros(len(x), 1), 2 * target.half.max() * torch.ones(len(x), 1)
    for _ in range(25):
        middle = (low + high) / 2
        z = target.clamp(x + middle * gradient.sign())
        over = (margins - ((z - x) * gradient).sum(dim=1) <= 0)[:, None]
        low, high = torch.where(over, low, middle), torch.where(over, middle, high)
    return target.clamp(x + high * gradient.sign())


def square(target: Target, restarts: int, queries: int, random: torch.Generator) -> Found:
    """After Square (Andriushchenko et al. 2020), for flat inputs: from a random corner, a share of the inputs goes to random ends; kept if lower."""
    n = len(target.lower)
    signs = _signs((restarts, n), random)
    best = _Best(target.clamp(target.lower + target.half * (1 + signs)))
    with torch.no_grad():
        best.see(best.points, target.margins(best.points))
        for k in range(queries):
            share = 0.8 / 2 ** (k * 8 // queries)
            chosen = torch.rand(restarts, n, generator=random) < max(share, 1 / n)
            x = torch.where(chosen, target.clamp(target.lower + target.half * (1 + _signs((restarts, n), random))), best.points)
            best.see(x, target.margins(x))
    return best.found()


def _signs(shape: tuple[int, int], random: torch.Generator) -> Tensor:
    return (torch.randint(0, 2, shape, generator=random) * 2 - 1).float()


def gradient_norms(target: Target, count: int, random: torch.Generator) -> Tensor:
    """Euclidean norms of the margin's gradient at uniform points [count]."""
    return target.gradient(target.uniform(count, random))[1].norm(dim=1)
