"""Attack one box that was answered `unsat`: a search for a counterexample that shares no code with the engine's attack.

    python -m benchmarks.confront MODEL.onnx[.gz] PROPERTY.vnnlib[.gz] [--seconds S] [--seed N] [--threads M]

It knows the network only through forward runs in onnxruntime: corners and uniform samples, then, in turns, differential evolution
(Storn and Price 1997), coordinate search, and signed steps along gradients estimated by simultaneous perturbation (SPSA, Spall 1992).
Prints one line of JSON. Exit 0: no counterexample found, 1: found one (`witness` holds it), 3: the files cannot be run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import formula
from benchmarks.formula import Atom, Formula, FormulaError, Junction, Violation
from benchmarks.runtime import Runtime, RuntimeUnusable, fastest

BATCH = 64


@dataclass(frozen=True, eq=False)
class Target:
    """One box (float32 [n] each) and the formula over outputs, and mixed atoms, that a counterexample in it must satisfy."""

    lower: np.ndarray
    upper: np.ndarray
    rest: Formula


def choose_target(violation: Violation, rng: np.random.Generator) -> Target | None:
    """A box, by a random choice in each disjunction that bounds inputs; None where the bounds chosen contradict each other.

    Raises FormulaError for an input without both bounds.
    """
    low = np.full(violation.inputs, -np.inf, dtype=np.float32)
    high, rest = -low, []
    todo: list[Formula] = [violation.formula]
    while todo:
        node = todo.pop()
        if isinstance(node, Junction) and node.kind == "and":
            todo.extend(node.parts)
        elif isinstance(node, Junction) and _bounds_inputs(node):
            todo.append(node.parts[rng.integers(len(node.parts))])
        elif isinstance(node, Atom) and node.bounds_one_input:
            _, index, coefficient = node.terms[0]
            limit = formula.nearest_float32(node.limit())
            if coefficient > 0 or node.relation == "==":
                high[index] = np.minimum(high[index], limit)
            if coefficient < 0 or node.relation == "==":
                low[index] = np.maximum(low[index], limit)
        else:
            rest.append(node)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise FormulaError("an input has no lower or no upper bound")
    return Target(low, high, Junction("and", tuple(rest))) if (low <= high).all() else None


def _bounds_inputs(node: Formula) -> bool:
    return node.bounds_one_input if isinstance(node, Atom) else any(_bounds_inputs(part) for part in node.parts)


def margin(node: Formula, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How far each row is from satisfying `node` (at most 0: satisfied, up to rounding). x [b, n], y [b, m] -> [b], in float64."""
    if isinstance(node, Junction):
        if not node.parts:
            return np.full(len(x), -np.inf)
        margins = np.stack([margin(part, x, y) for part in node.parts])
        best: np.ndarray = margins.max(axis=0) if node.kind == "and" else margins.min(axis=0)
        return best
    total = np.full(len(x), -float(node.bound))
    for tensor, index, coefficient in node.terms:
        total += float(coefficient) * (x if tensor == "X" else y)[:, index]
    return np.abs(total) if node.relation == "==" else total


class Search:
    """The state of an attack: the clock, the runs made, the best margin seen, and the witness once there is one."""

    def __init__(self, violation: Violation, runtime: Runtime, seconds: float, seed: int) -> None:
        self.violation, self.runtime = violation, runtime
        self.rng = np.random.default_rng(seed)
        self.deadline = time.monotonic() + seconds
        self.runs, self.best = 0, np.inf
        self.witness: np.ndarray | None = None

    @property
    def over(self) -> bool:
        return self.witness is not None or time.monotonic() > self.deadline

    def score(self, target: Target, x: np.ndarray) -> np.ndarray:
        """Margins [b] of the float32 points x [b, n], moved into the box; a point that looks unsafe is judged exactly, on the file."""
        x = np.clip(x, target.lower, target.upper).astype(np.float32)
        y = self.runtime.run_batch(x)
        scores = np.where(np.isfinite(y).all(axis=1), margin(target.rest, x.astype(np.float64), y.astype(np.float64)), np.inf)
        self.runs += len(x)
        for rank, row in enumerate(np.argsort(scores)[:4]):
            near = 0.0 if rank else 1e-5 * (1 + np.abs(y[row]).max(initial=0))  # a batch rounds differently from a single run
            if self.witness is None and scores[row] <= near and self.violation.holds(x[row], Runtime.run(self.runtime, x[row])):
                self.witness = x[row]
        self.best = min(self.best, float(scores.min()))
        return scores

    def attack(self) -> None:
        """Attack randomly chosen boxes, each for a share of the time, until a witness is found or the time is over."""
        share = (self.deadline - time.monotonic()) / 8
        while not self.over:
            target = choose_target(self.violation, self.rng)
            if target is not None:
                self._attack_box(target, min(self.deadline, time.monotonic() + share))

    def _attack_box(self, target: Target, until: float) -> None:
        points = np.stack(list(self._starts(target)))
        scores = self.score(target, points)
        varying = np.flatnonzero(target.upper > target.lower)
        while not self.over and time.monotonic() < until and varying.size:
            for step in (self._evolve, self._coordinates, self._descend):
                points, scores = step(target, varying, points, scores)
                if self.over:
                    return

    def _starts(self, target: Target) -> Iterator[np.ndarray]:
        width = target.upper.astype(np.float64) - target.lower
        yield target.lower + 0.5 * width
        for k in range(1, BATCH):
            share = self.rng.uniform(size=width.size)
            yield target.lower + width * (np.round(share) if k % 2 else share)

    def _evolve(self, target: Target, varying: np.ndarray, points: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """One generation of differential evolution, current-to-best."""
        best = points[np.argmin(scores)]
        a, b = points[self.rng.permutation(len(points))], points[self.rng.permutation(len(points))]
        moved = points + 0.7 * (best - points) + 0.6 * (a - b)
        children = np.where(self.rng.uniform(size=points.shape) < 0.8, moved, points)
        return _better(points, scores, np.clip(children, target.lower, target.upper), self.score(target, children))

    def _coordinates(self, target: Target, varying: np.ndarray, points: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Around the best point: single coordinates to an end of their range or to a random place."""
        children = np.repeat(points[np.argmin(scores)][None], len(points), axis=0)
        for row, index in enumerate(self.rng.choice(varying, len(points))):
            low, high = float(target.lower[index]), float(target.upper[index])
            children[row, index] = (low, high, self.rng.uniform(low, high))[row % 3]
        return _better(points, scores, children, self.score(target, children))

    def _descend(self, target: Target, varying: np.ndarray, points: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """From the best point: the margin's slope estimated from pairs of perturbed runs, then signed steps of several lengths."""
        best, width = points[np.argmin(scores)], target.upper.astype(np.float64) - target.lower
        signs = self.rng.choice((-1.0, 1.0), size=(len(points) // 2, best.size))
        reach = 0.02 * width * signs
        ahead, behind = self.score(target, best + reach), self.score(target, best - reach)
        difference = np.where(np.isfinite(ahead) & np.isfinite(behind), ahead - behind, 0.0)
        lengths = np.geomspace(1e-3, 1.0, len(points))[:, None]
        children = best - lengths * width * np.sign(difference @ signs)
        return _better(points, scores, np.clip(children, target.lower, target.upper), self.score(target, children))


def _better(points: np.ndarray, scores: np.ndarray, children: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    wins = values < scores
    return np.where(wins[:, None], children, points), np.where(wins, values, scores)


def confront(model: Path, property_file: Path, seconds: float, seed: int = 0, threads: int = 1) -> Search:
    """Attack for `seconds` (reading the files comes on top). The result's `witness` is None or a judged float32 counterexample.

    Raises RuntimeUnusable, FormulaError, OSError.
    """
    violation, runtime = formula.read(property_file), fastest(model, threads)
    if violation.inputs != runtime.size:
        raise FormulaError(f"the property has {violation.inputs} inputs, the network {runtime.size}")
    search = Search(violation, runtime, seconds, seed)
    search.attack()
    return search


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.confront", description=__doc__.split("\n\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("property", type=Path)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    try:
        search = confront(options.model, options.property, options.seconds, options.seed, options.threads)
    except (RuntimeUnusable, FormulaError, OSError) as error:
        print(json.dumps({"error": str(error)}))
        return 3
    witness = None if search.witness is None else [float(v) for v in search.witness]
    best = search.best if np.isfinite(search.best) else None
    print(json.dumps({"hit": witness is not None, "runs": search.runs, "best_margin": best, "witness": witness}))
    return 0 if witness is None else 1


if __name__ == "__main__":
    sys.exit(main())
