"""Projected-gradient search for a violation, batched over cases and starting points. Whatever it finds is only a
candidate: `Replayer` decides. Nothing here can affect the soundness of a proof.

For a fixed seed the sequence of points depends on counts only (rounds, starts, steps); the clock may only cut it short.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.torch_graph import TorchGraph
from graph.core import Elementwise
from graph.functions.facts import jumps
from verifier.probe import work_in_arrays
from verifier.problem import Problem
from verifier.replay import Witness

Array = NDArray[Any]

MEMORY_BYTES = 256 << 20  # what the activations of one batch may take, gradients included, if nothing else is said
MAX_ROWS = 1024
CANDIDATES = 3  # points handed to the runtime per step in which new violations appear
FIRST_WORK = 4_000_000_000  # multiplications the first round may take, estimated from the graph
SWEPT = 4  # varying inputs up to which points are spread evenly where functions jump
SWEEP_WORK = 200_000_000_000  # multiplications that the points of the first such round may take
MOST_SWEPT = 1 << 14  # and how many they may be
NEAR = 1e-6  # relative margin up to which a point that almost violates is tried in the runtime as well


@dataclass(frozen=True)
class Budget:
    """What one round may take: about `starts` points in all, and `steps` gradient steps from each."""

    starts: int
    steps: int = 40

    @classmethod
    def first(cls, problem: Problem) -> Budget:
        """A first round of about a second on one core, whatever the size of the network."""
        return cls(int(min(max(FIRST_WORK // (work_in_arrays(problem) * cls.steps), 8), 256)))

    def escalated(self, level: int) -> Budget:
        """The budget of the level-th round: twice the starts each time, and more steps."""
        return Budget(self.starts << min(level, 8), self.steps + 20 * min(level, 8))


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of one descent: case [B], start, range [B, n_in] of each."""

    cases: Array
    start: Tensor
    lower: Tensor
    upper: Tensor
    step_width: Tensor  # half the width of the box that steps are measured in


class Judge(Protocol):
    """Who decides what a candidate is worth: a `Replayer`."""

    def judge(self, points: Array) -> Witness | None: ...


class Attacker:
    """Looks for violations in rounds of growing effort.

    `best_margin` [N] is, per case, the smallest violation margin max over atoms of (functional - bound) that a float32
    execution reached so far (+inf: none yet; non-finite executions do not count). `visit` is told where descents led: cases [B], points [B, n_in].
    """

    def __init__(
        self, problem: Problem, torch_graph: TorchGraph, replayer: Judge, seed: int = 0, budget: Budget | None = None, memory: int = MEMORY_BYTES,
        visit: Callable[[Array, Array], None] | None = None,
    ) -> None:
        self.problem = problem
        self.best_margin: Array = np.full(len(problem.case_box), np.inf)
        self.rounds = 0
        self._graph = torch_graph
        self._replayer, self._visit = replayer, visit
        self._budget = Budget.first(problem) if budget is None else budget
        self._random = torch.Generator(device="cpu").manual_seed(seed)
        self._lower = torch.from_numpy(problem.witness_lower)
        self._upper = torch.from_numpy(problem.witness_upper)
        per_row = 8 * sum(node.size for _, node in problem.graph)
        self._rows = max(1, min(MAX_ROWS, memory // max(per_row, 1)))
        self._jumps = any(isinstance(node, Elementwise) and jumps(node.function) for node in problem.graph.nodes)
        self._sequences: dict[int, torch.quasirandom.SobolEngine] = {}  # of a case: its points so far

    def round(self, seconds: float, cases: Array | None = None) -> Witness | None:
        """One round over `cases` (indices; all by default), the smallest margins first; None when nothing was confirmed.

        The first round looks at the centre of every case, so that there are margins to go by.
        """
        deadline = time.monotonic() + seconds
        budget = self._budget.escalated(self.rounds)
        chosen = np.arange(len(self.best_margin)) if cases is None else np.asarray(cases, dtype=np.int64)
        if self.rounds == 0:
            witness = self._descend_all(self._batches(chosen, centred=np.ones(len(chosen), dtype=bool)), 0, deadline)
            if witness is not None:
                return witness
        focus = chosen[np.argsort(self.best_margin[chosen], kind="stable")][: max(1, budget.starts // 2)]
        each = -(-budget.starts // max(len(focus), 1))
        centred = np.tile(np.arange(each) == 0, len(focus)) & (self.rounds == 0)
        witness = self._descend_all(self._batches(np.repeat(focus, each), centred), budget.steps, deadline)
        if witness is None and self._jumps and time.monotonic() < deadline:
            witness = self._sweep(focus, deadline)
        if witness is None and time.monotonic() < deadline:
            self.rounds += 1
        return witness

    def _sweep(self, cases: Array, deadline: float) -> Witness | None:
        """Points all over the box of each case in which few inputs vary, which a gradient does not lead to where functions jump: a Sobol sequence,
        which goes on from round to round, twice as far each time."""
        box = self.problem.case_box[cases]
        varies = self._lower[box] < self._upper[box]
        few = ((varies.sum(1) > 0) & (varies.sum(1) <= SWEPT)).numpy()
        most = min(SWEEP_WORK // work_in_arrays(self.problem), MOST_SWEPT) << self.rounds
        for case, moves in zip(cases[few], varies[few], strict=True):
            if int(case) not in self._sequences:
                self._sequences[int(case)] = torch.quasirandom.SobolEngine(int(moves.sum()), scramble=True, seed=int(case))
            low, high = self._lower[self.problem.case_box[case]], self._upper[self.problem.case_box[case]]
            for _ in range(max(1, int(most // (few.sum() * self._rows)))):
                start = low.repeat(self._rows, 1)
                start[:, moves] += self._sequences[int(case)].draw(self._rows) * (high - low)[moves]
                each = low.expand_as(start), high.expand_as(start)
                witness = self._descend(Batch(np.full(self._rows, case), start, *each, 0.5 * (each[1] - each[0])), 0, deadline)
                if witness is not None or time.monotonic() >= deadline:
                    return witness
        return None

    def leaf_attack(self, lower: Array, upper: Array, cases: Array, seconds: float, steps: int = 20) -> Witness | None:
        """A short descent from the centre of each sub-box [B, n_in] against its case [B].

        Steps are measured in the sub-box, but the point may leave it: every point of the case's box is a witness.
        """
        deadline = time.monotonic() + seconds
        centre = torch.from_numpy(0.5 * (lower + upper)).float()
        width = torch.from_numpy(0.5 * (upper - lower)).float()
        box = self.problem.case_box[cases]
        parts = [slice(at, at + self._rows) for at in range(0, len(cases), self._rows)]
        batches = (Batch(cases[p], centre[p], self._lower[box[p]], self._upper[box[p]], width[p]) for p in parts)
        return self._descend_all(batches, steps, deadline)

    def _descend_all(self, batches: Iterable[Batch], steps: int, deadline: float) -> Witness | None:
        for batch in batches:
            witness = self._descend(batch, steps, deadline)
            if witness is not None or time.monotonic() >= deadline:
                return witness
        return None

    def _batches(self, cases: Array, centred: Array) -> Iterator[Batch]:
        """One start for every entry of `cases`, in chunks that fit into memory; the box's centre where `centred`."""
        for at in range(0, len(cases), self._rows):
            part = slice(at, at + self._rows)
            yield self._starts(cases[part], torch.from_numpy(centred[part]))

    def _starts(self, cases: Array, centred: Tensor) -> Batch:
        """Centres, uniform points and random corners; half of the others moved towards diverse outputs."""
        box = self.problem.case_box[cases]
        lower, upper = self._lower[box], self._upper[box]
        half = 0.5 * upper - 0.5 * lower
        place = torch.rand(lower.shape, generator=self._random)
        corner = (torch.rand((len(cases), 1), generator=self._random) < 0.25) & ~centred[:, None]
        place = torch.where(corner, place.round(), place)
        place = torch.where(centred[:, None], torch.full_like(place, 0.5), place)
        start = (lower + 2.0 * half * place).clamp(lower, upper)
        diverse = (torch.rand((len(cases), 1), generator=self._random) < 0.4) & ~centred[:, None]
        batch = Batch(cases, start, lower, upper, half)
        return Batch(cases, torch.where(diverse, self._diversified(batch), start), lower, upper, half)

    def _diversified(self, batch: Batch, steps: int = 3) -> Tensor:
        """Starts moved along a random direction of the outputs (output-diversified initialisation, Tashiro et al. 2020)."""
        x = batch.start
        n_out = self.problem.functionals.n_out
        direction = 2.0 * torch.rand((len(batch.cases), n_out), generator=self._random) - 1.0
        for _ in range(steps):
            x = x.detach().requires_grad_(True)
            gradient = _gradient((direction.to(self._graph.device) * self._outputs(x)).sum(), x)
            x = (x.detach() + batch.step_width * gradient.sign()).clamp(batch.lower, batch.upper)
        return x

    def _outputs(self, x: Tensor) -> Tensor:
        return self._graph.outputs(x.to(self._graph.device, self._graph.dtype))

    def _descend(self, batch: Batch, steps: int, deadline: float) -> Witness | None:
        """Descend from every start; hand new violations to the runtime as they appear, and near misses at the end."""
        margins = Margins(self.problem, batch.cases, self._graph.device)
        adam = torch.rand((len(batch.cases), 1), generator=self._random) < 0.5
        hinge = torch.rand(len(batch.cases), generator=self._random) < 0.5
        first = torch.zeros_like(batch.start)
        second = torch.zeros_like(batch.start)
        x = batch.start.clamp(batch.lower, batch.upper)
        best, best_x = torch.full((len(batch.cases),), torch.inf, dtype=torch.float64), x
        for step in range(steps + 1):
            x = x.detach().requires_grad_(True)
            atoms = margins.atoms(x, self._outputs(x))
            margin = margins.of_cases(atoms).cpu()
            improved = margin < best
            best, best_x = torch.where(improved, margin, best), torch.where(improved[:, None], x.detach(), best_x)
            witness = self._replay(best, best_x, improved & margins.violates(margin))
            if witness is not None or step == steps or time.monotonic() >= deadline:
                break
            gradient = _gradient(margins.loss(atoms, hinge), x) * batch.step_width
            first = 0.8 * first + 0.2 * gradient
            second = 0.9 * second + 0.1 * gradient.square()
            smooth = (first / (1 - 0.8 ** (step + 1))) / ((second / (1 - 0.9 ** (step + 1))).sqrt() + 1e-30)
            move = torch.where(adam, smooth.clamp(-2, 2), gradient.sign()) * batch.step_width
            x = (x.detach() - _step_size(step, steps) * move).clamp(batch.lower, batch.upper)
        self._record(batch.cases, best)
        if self._visit is not None:
            for points in (best_x, x):
                self._visit(batch.cases, points.detach().numpy())
        return witness if witness is not None else self._replay(best, best_x, margins.nearly(best))

    def _replay(self, margin: Tensor, points: Tensor, chosen: Tensor) -> Witness | None:
        """Judge the few best of the chosen points."""
        rows = torch.nonzero(chosen).flatten()
        if not rows.numel():
            return None
        rows = rows[torch.argsort(margin[rows], stable=True)[:CANDIDATES]]
        return self._replayer.judge(points[rows].numpy())

    def _record(self, cases: Array, margin: Tensor) -> None:
        np.minimum.at(self.best_margin, cases, margin.numpy())


class Margins:
    """Violation margins of one batch of cases [B]: atom by atom, and their maximum per case."""

    def __init__(self, problem: Problem, cases: Array, device: torch.device) -> None:
        rows = problem.case_rows[cases]
        used, place = np.unique(np.maximum(rows, 0), return_inverse=True)
        outputs, inputs = problem.functionals.dense(used) if rows.size else (np.zeros((0, 0)), np.zeros((0, 0)))
        self._padding = torch.from_numpy(rows < 0).to(device)
        self._place = torch.from_numpy(place.reshape(rows.shape)).to(device)
        self._bounds = torch.from_numpy(np.where(rows < 0, 0.0, problem.case_bounds[cases])).to(device)
        self._strict = torch.from_numpy((problem.case_strict[cases] & (rows >= 0)).any(axis=1))
        self._outputs = torch.from_numpy(outputs).to(device)
        self._inputs = torch.from_numpy(inputs).to(device) if inputs.any() else None

    def atoms(self, x: Tensor, y: Tensor) -> Tensor:
        """functional - bound per atom [B, A], float64; -inf where there is no atom, +inf where the execution is not finite."""
        if not self._place.numel():
            return torch.full(self._place.shape, -torch.inf, dtype=torch.float64, device=y.device)
        y = y.double()
        values = y @ self._outputs.T
        if self._inputs is not None:
            values = values + x.to(y.device).double() @ self._inputs.T
        margin = values.gather(1, self._place) - self._bounds
        finite = y.isfinite().all(dim=1, keepdim=True) & margin.isfinite()
        return margin.masked_fill(~finite, torch.inf).masked_fill(self._padding, -torch.inf)

    def of_cases(self, atoms: Tensor) -> Tensor:
        """The largest atom margin per case [B]: at most 0 where the case holds; -inf for a case without atoms."""
        if not atoms.shape[1]:
            return torch.full((len(atoms),), -torch.inf, dtype=torch.float64)
        return atoms.detach().amax(dim=1)

    def violates(self, margin: Tensor) -> Tensor:
        """Whether a margin is small enough for its case to hold: <= 0, or < 0 where an atom is strict."""
        return torch.where(self._strict, margin < 0, margin <= 0)

    def nearly(self, margin: Tensor) -> Tensor:
        """Whether rounding could make the difference, so that the runtime should be asked."""
        scale = 1.0 + self._bounds.abs().amax(dim=1).cpu() if self._bounds.shape[1] else torch.ones(len(margin))
        return margin <= NEAR * scale

    def loss(self, atoms: Tensor, hinge: Tensor) -> Tensor:
        """What descends: the worst atom, or (rows of `hinge`) the sum of all atoms that do not hold yet."""
        usable = torch.where(atoms.isfinite(), atoms, torch.zeros_like(atoms))
        if not atoms.shape[1]:
            return usable.sum()
        worst = usable.masked_fill(self._padding, -torch.inf).amax(dim=1)
        broken = usable.clamp(min=0).sum(dim=1)
        worst = torch.where(worst.isfinite(), worst, torch.zeros_like(worst))
        return torch.where(hinge.to(atoms.device) & (broken > 0), broken, worst).sum()


def _step_size(step: int, steps: int) -> float:
    """From the whole half-width of the box to a hundredth of it, geometrically."""
    return float(0.01 ** (step / max(steps - 1, 1)))


def _gradient(loss: Tensor, x: Tensor) -> Tensor:
    """d loss / d x with NaNs and infinities taken as zero: such a coordinate stays where it is. Zero where `loss` does not read `x`."""
    if not loss.requires_grad:
        return torch.zeros_like(x)
    (gradient,) = torch.autograd.grad(loss, x, allow_unused=True)
    return torch.zeros_like(x) if gradient is None else torch.where(gradient.isfinite(), gradient, torch.zeros_like(gradient))
