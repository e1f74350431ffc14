"""The cheapest search: run the file itself at centres, corners and a few random points, and where a few gradient steps lead. Needs no torch.

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
from graph.evaluate import evaluate
from graph.gradient import gradient
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
DESCENT_WORK = 1_000_000_000  # the same, for gradient steps in numpy: a tenth of a second; importing torch takes ten to twenty times that
ELEMENT_WORK = 32  # what storing and reading one activation costs, in multiplications
STEPS, LAST_STEP = 12, 0.02  # steps of one descent, and the length of the last one in half-widths of the box; the first has length 1
LEAST_STARTS, MOST_STARTS = 4, 32


def probe(problem: Problem, replayer: Replayer, seed: int = 0, seconds: float = float("inf")) -> Witness | None:
    """A confirmed violation at a centre, a corner or a random point of some box, or a few gradient steps further, or None."""
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
        """Centre of every box, then corners and random points, boxes with the smallest margin first; then descents."""
        deadline = time.monotonic() + seconds
        witness = self._sample(deadline)
        return witness if witness is not None or time.monotonic() >= deadline else self._descend(deadline)

    def _sample(self, deadline: float) -> Witness | None:
        """All points that do not depend on a gradient, as many as may be run."""
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
        margins = self._atoms(points, np.where(finite[:, None], outputs, 0.0), point, case)
        worst = margins.max(axis=1, initial=-np.inf)
        return np.where(finite[point] & ~np.isnan(worst), worst, np.inf)

    def _atoms(self, points: Array, outputs: Array, point: Array, case: Array) -> Array:
        """functional - bound of each atom of each pair (point, case); -inf where a case has no further atom."""
        on_outputs, on_inputs = self._functionals
        values = outputs @ on_outputs.T + points.astype(np.float64) @ on_inputs.T
        rows = self.problem.case_rows[case]
        absent = np.asarray(rows < 0)
        atoms = values[point[:, None], np.maximum(rows, 0)] if rows.shape[1] else np.zeros(rows.shape)
        return np.where(absent, -np.inf, atoms - np.where(absent, 0.0, self.problem.case_bounds[case]))

    # ---------------------------------------------------------------- descents

    def _descend(self, deadline: float) -> Witness | None:
        """Projected sign gradient steps in numpy, of cases with the smallest margins, from centres and random points. Where the graph seems to
        violate a case the file is run."""
        cases = self._starts()
        if not len(cases):
            return None
        boxes = self.problem.case_box[cases]
        lower, upper = self.problem.witness_lower[boxes], self.problem.witness_upper[boxes]
        again = np.concatenate([[False], cases[1:] == cases[:-1]])[:, None]
        x = _clip(lower + np.where(again, self._random.random(lower.shape), 0.5) * (upper - lower), lower, upper)
        for length in (*np.geomspace(1.0, LAST_STEP, STEPS), 0.0):  # after the last step only a look
            violates, slope = self._slope(x, cases)
            witness = self._try(boxes[violates], x[violates], deadline) if violates.any() else None
            if witness is not None or time.monotonic() >= deadline:
                return witness
            x = _clip(x - length * np.sign(slope) * (0.5 * upper - 0.5 * lower), lower, upper)
        return None

    def _starts(self) -> Array:
        """The case of each descent, ascending: none where the network is large for numpy."""
        rows = min(DESCENT_WORK // (3 * STEPS * work_in_arrays(self.problem)), MOST_STARTS)
        nearest = np.argsort(self.best_margin, kind="stable")[: max(rows // 4, 1)]
        return np.sort(np.resize(nearest, rows)) if rows >= LEAST_STARTS and self.problem.case_rows.shape[1] else nearest[:0]

    def _slope(self, x: Array, case: Array) -> tuple[Array, Array]:
        """Whether the graph violates each case [P] at its point [P, n_in], and the gradient of the largest margin of an atom."""
        graph = self.problem.graph
        values = evaluate(graph, np.split(x, np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1], axis=1), np.float32)
        outputs = np.concatenate([values[i] for i in graph.outputs], axis=1).astype(np.float64)
        atoms = self._atoms(x, np.where(np.isfinite(outputs), outputs, 0.0), np.arange(len(x)), case)
        worst = self.problem.case_rows[case, atoms.argmax(axis=1)]
        on_outputs, on_inputs = (part[worst] for part in self._functionals)
        parts = np.split(on_outputs.astype(np.float32), np.cumsum([graph.nodes[i].size for i in graph.outputs])[:-1], axis=1)
        towards: dict[int, Array] = {}
        for i, part in zip(graph.outputs, parts, strict=True):  # a node may be an output twice
            towards[i] = towards[i] + part if i in towards else part
        found = gradient(graph, values, towards)
        violates = np.isfinite(outputs).all(axis=1) & (atoms.max(axis=1) <= 0)
        return violates, np.concatenate([found[i] for i in graph.inputs], axis=1) + on_inputs


def _work(problem: Problem) -> int:
    """Multiplications of one execution, about."""
    return sum(m.out_size * m.fan_in() for _, node in problem.graph if isinstance(node, Affine) for m in node.maps)


def work_in_arrays(problem: Problem) -> int:
    """The same where every activation is stored: what evaluating the graph once costs, in multiplications."""
    return _work(problem) + ELEMENT_WORK * sum(node.size for _, node in problem.graph)


def _clip(points: Array, lower: Array, upper: Array) -> Array:
    return np.clip(points.astype(np.float32), lower, upper)
