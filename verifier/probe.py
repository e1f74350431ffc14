"""The cheapest search: run the file itself at centres, corners and a few random points. Needs no torch.

Whatever the runtime returns has been executed by the program that would be deployed, so a violation seen here needs no
further replay than the exact comparison. For a fixed seed the points depend on counts only; the clock may cut them short.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine
from verifier.problem import Problem
from verifier.replay import Replayer, Witness

Array = NDArray[Any]

WORK = 2_000_000_000  # multiplications one probe may take, estimated from the graph
MOST_RUNS = 8_000
BATCH = 64
ALL_CORNERS = 6  # varying inputs up to which every corner is tried
RANDOM_CORNERS = 8
RANDOM_POINTS = 24
CANDIDATES = 3


def probe(problem: Problem, replayer: Replayer, seed: int = 0, seconds: float = float("inf")) -> Witness | None:
    """A confirmed violation at a centre, a corner or a random point of some box, or None."""
    return Probe(problem, replayer, seed).run(seconds)


class Probe:
    """`best_margin` [N]: per case, the smallest violation margin that an execution reached so far (+inf: none)."""

    def __init__(self, problem: Problem, replayer: Replayer, seed: int = 0) -> None:
        self.problem = problem
        self.best_margin: Array = np.full(len(problem.case_box), np.inf)
        self._replayer = replayer
        self._random = np.random.default_rng(seed)
        self._order = np.argsort(problem.case_box, kind="stable")
        self._first = np.searchsorted(problem.case_box[self._order], np.arange(len(problem.lower) + 1))
        self._functionals = problem.functionals.dense(np.arange(len(problem.functionals)))

    def run(self, seconds: float) -> Witness | None:
        """Centre of every box, then corners and random points, boxes with the smallest margin first."""
        deadline = time.monotonic() + seconds
        left = max(8, min(MOST_RUNS, WORK // max(_work(self.problem), 1)))
        for boxes, points in self._points():
            for at in range(0, len(boxes), BATCH):
                part = slice(at, min(at + BATCH, at + left))
                witness = self._try(boxes[part], points[part], deadline)
                left -= len(boxes[part])
                if witness is not None or left <= 0 or time.monotonic() >= deadline:
                    return witness
        return None

    def _points(self) -> Iterator[tuple[Array, Array]]:
        """(box [P], points float32 [P, n_in]), the most promising kinds first."""
        lower, upper = self.problem.witness_lower, self.problem.witness_upper
        every = np.arange(len(lower))
        yield every, _clip(0.5 * lower + 0.5 * upper, lower, upper)
        for box in self._boxes_by_margin():
            place = self._places(np.flatnonzero(lower[box] < upper[box]), lower.shape[1])
            points = lower[box] + place * (upper[box] - lower[box])
            points = np.where(place == 1, upper[box], points)  # lower + (upper - lower) may round past upper, or short of it
            yield np.full(len(points), box), _clip(points, lower[box], upper[box])

    def _places(self, varying: Array, n_in: int) -> Array:
        """Corners (all, if few inputs vary) and random points, as positions in [0, 1]^n_in, float32."""
        n = len(varying)
        if n <= ALL_CORNERS:
            corners = np.array(list(itertools.product((0.0, 1.0), repeat=n))).reshape(2**n, n)
        else:
            corners = np.vstack([np.zeros(n), np.ones(n), self._random.integers(0, 2, (RANDOM_CORNERS, n))])
        inner = np.vstack([corners, self._random.random((RANDOM_POINTS, n))])
        place = np.zeros((len(inner), n_in), dtype=np.float32)
        place[:, varying] = inner
        return place

    def _boxes_by_margin(self) -> Array:
        margin = np.full(len(self.problem.lower), np.inf)
        np.minimum.at(margin, self.problem.case_box, self.best_margin)
        return np.argsort(margin, kind="stable")

    def _try(self, boxes: Array, points: Array, deadline: float) -> Witness | None:
        """Run a batch; judge its best violations. Every case of a point's box is looked at."""
        runs = list[Array]()
        for x in points:
            runs.append(self._replayer.run(x[None])[0])
            if time.monotonic() >= deadline:
                break
        outputs, points, boxes = np.stack(runs), points[: len(runs)], boxes[: len(runs)]
        counts = self._first[boxes + 1] - self._first[boxes]
        point = np.repeat(np.arange(len(boxes)), counts)
        offset = np.arange(len(point)) - np.repeat(np.cumsum(counts) - counts, counts)
        case = self._order[np.repeat(self._first[boxes], counts) + offset]
        margin = self._margins(points, outputs, point, case)
        np.minimum.at(self.best_margin, case, margin)
        strict = np.asarray(self.problem.case_strict[case].any(axis=1))
        hit = np.flatnonzero(np.where(strict, margin < 0, margin <= 0))
        best = hit[np.argsort(margin[hit], kind="stable")]
        promising = list(dict.fromkeys(point[best].tolist()))[:CANDIDATES]
        return self._replayer.judge(points[promising])

    def _margins(self, points: Array, outputs: Array, point: Array, case: Array) -> Array:
        """Largest atom margin of each pair (point, case); +inf where the execution is not finite."""
        finite = np.asarray(np.isfinite(outputs).all(axis=1))
        on_outputs, on_inputs = self._functionals
        values = np.where(finite[:, None], outputs, 0.0) @ on_outputs.T + points.astype(np.float64) @ on_inputs.T
        rows = self.problem.case_rows[case]
        absent = np.asarray(rows < 0)
        atoms = values[point[:, None], np.maximum(rows, 0)] if rows.shape[1] else np.zeros(rows.shape)
        margins = np.where(absent, -np.inf, atoms - np.where(absent, 0.0, self.problem.case_bounds[case]))
        worst = margins.max(axis=1, initial=-np.inf)
        return np.where(finite[point] & ~np.isnan(worst), worst, np.inf)


def _work(problem: Problem) -> int:
    """Multiplications of one execution, about."""
    return sum(m.out_size * m.fan_in() for _, node in problem.graph if isinstance(node, Affine) for m in node.maps)


def _clip(points: Array, lower: Array, upper: Array) -> Array:
    return np.clip(points.astype(np.float32), lower, upper)
