"""Two objectives at once: cross-entropy over a sliding window of attack perturbations, and a margin on the planted points.

Zhou et al. (arXiv 2412.03154), section 4, changed so that a minute or two of one core suffice instead of hours:
- in each box the outputs are to become safer towards the planted point, up to its pit (`slope`), or along another diagonal of the box at right
  angles to that (`sideways`), so that neither descending nor climbing leads to the pit (with `slope` alone, an attack that climbs first finds it);
- decoys, planted points with some of their inputs drawn again, are training points: they keep the pit small;
- of each box the worst points found so far, outside the pit, are kept (`elite`), attacked further and trained on at every step;
- random searches among corners (`search.py`) go on from step to step while the network changes, and where they are is trained on: the strongest
  attack on most of these models, and one that gradients say nothing about;
- of a descent a point on its way enters the window too, and each step sees a sample of the window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.soundness.train.architectures import Architecture
from benchmarks.soundness.train.data import Boxes
from benchmarks.soundness.train.network import Network
from benchmarks.soundness.train.search import Searches

WIDTHS = (0.5, 0.25, 0.05)  # of the steps of a check, in radii


@dataclass(frozen=True)
class Knobs:
    """How to train.

    `margin`: how far planted points are to violate, a hinge of weight `weight`. `window`: steps it spans; `rows`: points of it that a step sees.
    `restarts`, `iterations`: of the attack of one step, per box and kind of start. `elite`: points kept per box. `decoys`, `mutants`: of one step.
    `searches`: random searches per box. `outward`: weight of the objective that the margin rises across the box, by `slope` towards the planted
    point and by `sideways` along a direction at right angles to that. `check_every`: steps; `clean` checks in a row that find nothing end a run,
    `queries`: of the random searches of a check.
    """

    steps: int
    rate: float
    margin: float = 0.2
    window: int = 300
    rows: int = 192
    restarts: int = 2
    elite: int = 12
    iterations: int = 5
    decoys: int = 128
    mutants: int = 128
    searches: int = 12
    weight: float = 2.0
    outward: float = 2.0
    slope: float = 1.0
    sideways: float = 4.0
    check_every: int = 250
    clean: int = 3
    queries: int = 600


@dataclass(frozen=True)
class Progress:
    """`holding`: planted points that violate by at least half the margin; `hidden`: those of them that the attack does not find; `rate`: the
    share of descents that find any violation; `found`: boxes in which descents or random search find one."""

    step: int
    loss: float
    holding: int
    hidden: int
    rate: float
    found: int


@dataclass(frozen=True, eq=False)
class Best:
    """The parameters of the best check so far: most hidden, then fewest successful descents."""

    progress: Progress
    parameters: list[Tensor]


class Trainer:
    """The state of a run: parameters, optimiser, window. `step()` is one step of the optimiser."""

    def __init__(self, architecture: Architecture, boxes: Boxes, knobs: Knobs, seed: int) -> None:
        self.knobs, self.random = knobs, torch.Generator().manual_seed(seed)
        self.network = Network.fresh(architecture, seed)
        self.done, self.streak = 0, 0
        self.best = Best(Progress(0, 0.0, 0, 0, 1.0, len(boxes.planted)), self._copy())
        self.centres, self.labels = torch.from_numpy(boxes.centres), torch.from_numpy(boxes.labels)
        self.planted, self.radius = torch.from_numpy(boxes.planted), boxes.radius
        self.aside = (self.planted - self.centres[: len(self.planted)]).sign()
        for signs in self.aside:  # half of the signs turned: as far from the planted corner as from the opposite one
            signs[torch.randperm(len(signs), generator=self.random)[: len(signs) // 2]] *= -1
        self.optimiser = torch.optim.Adam(self.network.parameters, lr=knobs.rate)
        per_step = 2 * len(self.centres)
        self.window = self._uniform(torch.arange(knobs.window * per_step) % len(self.centres))
        self.owner = torch.arange(knobs.window * per_step) % len(self.centres)
        self.elite_owner = torch.arange(len(self.centres)).repeat_interleave(knobs.elite)
        self.elite = self._uniform(self.elite_owner)
        self.search_owner = torch.arange(len(self.centres)).repeat_interleave(knobs.searches)
        self.searches = Searches(self.centres[self.search_owner], self.radius, self.random)

    def step(self) -> float:
        """One step. Returns the loss."""
        self._extend_window()
        self.searches.step(lambda x: self._outside(x, self.search_owner))
        loss = self._loss()
        self._set_rate()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters, 10.0)
        self.optimiser.step()
        self.done += 1
        return float(loss.detach())

    def _loss(self) -> Tensor:
        """Cross-entropy of two outputs is softplus of minus the margin. Pairs: a point of a guarded box, and one between it and the planted one."""
        count, k = len(self.planted), self.knobs
        rows = torch.randint(len(self.window), (k.rows,), generator=self.random)
        guarded, others = rows[self.owner[rows] < count], rows[self.owner[rows] >= count]
        decoys, whose = self._decoys(k.decoys)
        far, owner = torch.cat([decoys, self.window[guarded]]), torch.cat([whose, self.owner[guarded]])
        nearer, beside = self._nearer(far, owner), self._beside(far, owner)
        x = torch.cat([self.planted, nearer, beside, far, self.centres, self.window[others], self.elite, self.searches.places])
        every = torch.arange(len(self.centres))
        labels = self.labels[torch.cat([every[:count], owner, owner, owner, every, self.owner[others], self.elite_owner, self.search_owner])]
        margins = self.network.margins(x, labels)
        planted, between, aside, away, _ = margins.split([count, len(far), len(far), len(far), len(x) - count - 3 * len(far)])
        outward = functional.relu(k.slope * self._distance(nearer, far) - (between - away)).mean()
        sideways = functional.relu(k.sideways * self._distance(beside, far) - (aside - away)).mean()
        entropy, hold = functional.softplus(-margins[count:]).mean(), functional.relu(planted + k.margin).mean()
        return entropy + k.weight * hold + k.outward * (outward + sideways)

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Mean distance of the inputs as a share of the box [B]."""
        return (a - b).abs().mean(dim=1) / (2 * self.radius)

    def _beside(self, far: Tensor, owner: Tensor) -> Tensor:
        """Points along the aside direction of their box from `far`; `far` itself where that is in the pit."""
        step = 0.2 + 0.6 * torch.rand(len(far), 1, generator=self.random)
        centre = self.centres[owner]
        moved = torch.clamp(far + step * self.radius * self.aside[owner], centre - self.radius, centre + self.radius)
        return torch.where(self._in_pit(moved, owner)[:, None], far, moved)

    def _nearer(self, far: Tensor, owner: Tensor) -> Tensor:
        """Points between `far` and the planted ones: on the way there, or (half of them, outside the pit) with some inputs as in either."""
        share = 0.5 + 0.4 * torch.rand(len(far), 1, generator=self.random)
        between = torch.lerp(self.planted[owner], far, share)
        mixed = torch.where(torch.rand(far.shape, generator=self.random) < share, far, self.planted[owner])
        straight = (torch.rand(len(far), generator=self.random) < 0.5) | self._in_pit(mixed, owner)
        return torch.where(straight[:, None], between, mixed)

    def check(self, loss: float) -> Progress:
        """Attack, and remember the parameters if they are the best so far."""
        found = self.progress(loss)
        self.streak = 0 if found.found else self.streak + 1
        if (found.hidden, -found.rate) >= (self.best.progress.hidden, -self.best.progress.rate):
            self.best = Best(found, self._copy())
        return found

    def state(self) -> dict[str, object]:
        """All that a run needs to go on exactly as it would have."""
        return {
            "parameters": self._copy(), "optimiser": self.optimiser.state_dict(), "random": self.random.get_state(), "window": self.window,
            "elite": self.elite, "done": self.done, "streak": self.streak, "best": (asdict(self.best.progress), self.best.parameters),
            "searches": (self.searches.places, self.searches.ages),
        }  # fmt: skip

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from `state()`."""
        with torch.no_grad():
            for parameter, value in zip(self.network.parameters, state["parameters"], strict=True):
                parameter.copy_(value)
        self.optimiser.load_state_dict(state["optimiser"])
        self.random.set_state(state["random"])
        self.window, self.elite = state["window"], state["elite"]
        self.done, self.streak = state["done"], state["streak"]
        self.searches.places, self.searches.ages = state["searches"]
        self.best = Best(Progress(**state["best"][0]), state["best"][1])

    def _copy(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.network.parameters]

    def progress(self, loss: float, restarts: int = 100, iterations: int = 50) -> Progress:
        """Attack every box with a planted point."""
        count = len(self.planted)
        with torch.no_grad():
            holds = self.network.margins(self.planted, self.labels[:count]) <= -self.knobs.margin / 2
            holds &= self.network.margins(self.centres[:count], self.labels[:count]) > 0
        found = torch.zeros(count, dtype=torch.bool)
        rate = 0.0
        owner = torch.arange(count).repeat(restarts)
        for width in WIDTHS:
            _, _, best = self.descend(self._uniform(owner), owner, iterations, width)
            found |= (best.reshape(restarts, count) <= 0).any(dim=0)
            rate += float((best <= 0).float().mean()) / len(WIDTHS)
        found |= (self._random_search(owner, self.knobs.queries) <= 0).reshape(restarts, count).any(dim=0)
        return Progress(self.done, loss, int(holds.sum()), int((holds & ~found).sum()), rate, int(found.sum()))

    def descend(self, start: Tensor, owner: Tensor, iterations: int, width: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
        """Signed gradient descent on the margin, steps of `width` radii that shrink to a tenth. Returns the best point of each row
        [B, n], one of its way [B, n], and the best margin [B]."""
        centre, labels = self.centres[owner], self.labels[owner]
        x, best_x, way = start, start, start
        best = torch.full((len(start),), torch.inf)
        pick = torch.randint(iterations, (len(start),), generator=self.random)
        matrices: dict[int, Tensor] = {}
        for i in range(iterations + 1):
            x = x.detach().requires_grad_(True)
            margins = self.network.margins(x, labels, matrices)
            better = margins.detach() < best
            best, best_x = torch.where(better, margins.detach(), best), torch.where(better[:, None], x.detach(), best_x)
            way = torch.where((pick == i)[:, None], x.detach(), way)
            if i < iterations:
                (gradient,) = torch.autograd.grad(margins.sum(), x)
                step = width * self.radius * max(1 - i / iterations, 0.1)
                x = torch.clamp(x.detach() - step * gradient.sign(), centre - self.radius, centre + self.radius)
        return best_x, way, best

    @torch.no_grad()
    def _random_search(self, owner: Tensor, queries: int) -> Tensor:
        """The best margins [B] of a random search over corners that keeps what lowers the margin (after Andriushchenko et al. 2020)."""
        matrices: dict[int, Tensor] = {}
        best, best_x = torch.full((len(owner),), torch.inf), self.centres[owner]
        for k in range(queries):
            corner = self.centres[owner] + self.radius * (torch.randint(0, 2, best_x.shape, generator=self.random) * 2.0 - 1.0)
            chosen = torch.rand(best_x.shape, generator=self.random) < max(0.8 / 2 ** (8 * k // queries), 1 / best_x.shape[1])
            x = torch.where(chosen, corner, best_x) if k else corner
            margins = self.network.margins(x, self.labels[owner], matrices)
            lower = margins < best
            best, best_x = torch.where(lower, margins, best), torch.where(lower[:, None], x, best_x)
        return best

    def _extend_window(self) -> None:
        """Replace the oldest part of the window: per box, the best point of some descents and one from the way there. A third of the descents
        starts anew, a third from decoys, a third from the elite, into which the best point goes as well, and the best of some mutants."""
        count, k = len(self.centres), self.knobs
        every = torch.arange(count)
        decoys, whose = self._decoys(len(self.planted) * k.restarts, balanced=True)
        fresh = every.repeat(k.restarts)
        picked = every.repeat(k.restarts) * k.elite + torch.randint(k.elite, (count * k.restarts,), generator=self.random)
        owner = torch.cat([fresh, whose, every.repeat(k.restarts)])
        best_x, way, best = self.descend(torch.cat([self._uniform(fresh), decoys, self.elite[picked]]), owner, k.iterations)
        row = self._lowest(best_x, best, owner)
        at = (self.done % k.window) * 2 * count
        self.window[at : at + count], self.window[at + count : at + 2 * count] = best_x[row], way[row]
        self._into_elite(best_x[row])
        mutants, mutated = self._mutants(k.mutants)
        with torch.no_grad():
            margins = self.network.margins(mutants, self.labels[mutated])
        self._into_elite(mutants[self._lowest(mutants, margins, mutated)])

    def _lowest(self, x: Tensor, margins: Tensor, owner: Tensor) -> Tensor:
        """The row of the lowest margin of each box, outside the pits where there is one. Boxes without a row get any."""
        margins = margins.masked_fill(self._in_pit(x, owner), 1e9)
        return torch.where(owner[None, :] == torch.arange(len(self.centres))[:, None], margins[None, :], torch.inf).argmin(dim=1)

    def _into_elite(self, x: Tensor) -> None:
        """A point of each box, in the place of a random member; but no point of a pit, and none of another box."""
        every = torch.arange(len(self.centres))
        usable = ~self._in_pit(x, every) & ((x - self.centres).abs().amax(dim=1) <= self.radius * 1.001)
        place = torch.randint(self.knobs.elite, (int(usable.sum()),), generator=self.random)
        self.elite[every[usable] * self.knobs.elite + place] = x[usable]

    def _mutants(self, count: int) -> tuple[Tensor, Tensor]:
        """Members of the elite, a few of their inputs at random ends of the box; and their owners."""
        chosen = torch.randint(len(self.elite), (count,), generator=self.random)
        owner = self.elite_owner[chosen]
        share = 0.5 * torch.rand(count, 1, generator=self.random)
        again = torch.rand(count, self.elite.shape[1], generator=self.random) < share
        corner = torch.randint(0, 2, self.elite[chosen].shape, generator=self.random) * 2.0 - 1.0
        return torch.where(again, self.centres[owner] + self.radius * corner, self.elite[chosen]), owner

    def _in_pit(self, x: Tensor, owner: Tensor) -> Tensor:
        """Whether a point is the planted one but for a twelfth of its inputs: what is to be hidden, not to be trained away."""
        count = len(self.planted)
        differ = ((x - self.planted[owner % count]).abs() > self.radius / 2).sum(dim=1)
        return (owner < count) & (differ <= max(1, x.shape[1] // 12))

    @torch.no_grad()
    def _outside(self, x: Tensor, owner: Tensor) -> Tensor:
        """The margins [B] of points; infinite in a pit."""
        return self.network.margins(x, self.labels[owner]).masked_fill(self._in_pit(x, owner), torch.inf)

    def _uniform(self, owner: Tensor) -> Tensor:
        """A uniform point of the box of each owner; one in four a corner."""
        place = 2 * torch.rand(len(owner), self.centres.shape[1], generator=self.random) - 1
        corner = torch.rand(len(owner), 1, generator=self.random) < 0.25
        return self.centres[owner] + self.radius * torch.where(corner, place.sign(), place)

    def _decoys(self, count: int, balanced: bool = False) -> tuple[Tensor, Tensor]:
        """Planted points of which some inputs are drawn again, more than a twelfth and mostly few (half of the rows: turned to the other side)."""
        n = self.centres.shape[1]
        owner = torch.arange(count) % len(self.planted) if balanced else torch.randint(len(self.planted), (count,), generator=self.random)
        least = max(1, n // 12) + 1
        again = torch.rand(count, n, generator=self.random).argsort(dim=1) < least + (n - least) * torch.rand(count, 1, generator=self.random) ** 2
        place = 2 * torch.rand(count, n, generator=self.random) - 1
        turned = torch.rand(count, 1, generator=self.random) < 0.5
        other = torch.where(turned, 2 * self.centres[owner] - self.planted[owner], self.centres[owner] + self.radius * place)
        return torch.where(again, other, self.planted[owner]), owner

    def _set_rate(self) -> None:
        """From 0 to the full rate in the first twentieth of the steps, and linearly down to a twentieth."""
        share = self.done / self.knobs.steps
        factor = min(share / 0.05 + 0.02, 1.0, max(0.05, (1 - share) / 0.95))
        for group in self.optimiser.param_groups:
            group["lr"] = self.knobs.rate * factor


def train(trainer: Trainer, report: Callable[[Progress], None]) -> Progress:
    """Steps until `clean` checks in a row found nothing and all planted points held at some such check, or the steps are used up.
    Returns the last check."""
    last, everything = trainer.best.progress, len(trainer.planted)
    while trainer.done < trainer.knobs.steps and (trainer.streak < trainer.knobs.clean or trainer.best.progress.hidden < everything):
        loss = trainer.step()
        if trainer.done % trainer.knobs.check_every == 0 or trainer.done == trainer.knobs.steps:
            last = trainer.check(loss)
            report(last)
    return last
