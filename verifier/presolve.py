"""Which cases interval bounds refute, in numpy; and whether to ask the checker about the rest: easy instances are decided without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bounds.interval import concretise, propagate
from graph.core import Affine, Bilinear, Elementwise, Graph
from verifier.problem import Problem

Array = NDArray[Any]

BLOCK_BYTES = 1 << 28  # interval bounds of all nodes for one block of boxes
CHECKED_WORK = 1_000_000_000  # products of one backward pass over all boxes: up to here the checker needs about as long as importing torch does
CHECKED_BOXES = 64
FORWARD_MOST = 24  # varying inputs up to which forward bounds cost a few passes


def closed_by_intervals(problem: Problem, cases: Array) -> Array:
    """Mask over `cases` (indices): an atom's interval lower bound exceeds its threshold over the case's whole box."""
    closed = np.zeros(len(cases), dtype=bool)
    boxes = np.unique(problem.case_box[cases])
    per_box = 16 * sum(node.size for _, node in problem.graph)
    for part in np.array_split(boxes, -(-len(boxes) * per_box // BLOCK_BYTES)):
        lower, upper = _outputs_and_inputs(problem, part)
        chosen = np.flatnonzero(np.isin(problem.case_box[cases], part))
        place = np.searchsorted(part, problem.case_box[cases[chosen]])
        for a in range(problem.case_rows.shape[1]):
            rows = problem.case_rows[cases[chosen], a]
            used, inverse = np.unique(np.maximum(rows, 0), return_inverse=True)
            functionals = np.concatenate(problem.functionals.dense(used), axis=1)
            value = concretise(functionals, np.zeros(len(used)), lower, upper)[place, inverse]
            closed[chosen] |= (rows >= 0) & (value > problem.case_bounds[cases[chosen], a])
    return closed


def checker_may_know(problem: Problem, cases: Array) -> bool:
    """Whether the checker would soon find out that default linear bounds of the whole boxes refute these cases. (That they do is not said.)"""
    boxes = len(np.unique(problem.case_box[cases]))
    return boxes <= CHECKED_BOXES and boxes * work_of_a_pass(problem.graph) <= CHECKED_WORK


def program_of_intervals(problem: Problem, cases: Array) -> tuple[bool, bool]:
    """Whether the checker, which folds no weights, is to bound what intervals have closed here backwards, and whether forwards: as well as is cheap.
    (What it then does not close is searched.)"""
    boxes = np.unique(problem.case_box[cases])
    backward = len(boxes) * work_of_a_pass(problem.graph) <= CHECKED_WORK
    return backward, not backward and problem.varying(boxes) <= FORWARD_MOST


def work_of_a_pass(graph: Graph) -> int:
    """Products of a backward pass, down to the inputs, from every element that a non-linear node reads."""
    read = {j for _, node in graph if isinstance(node, Elementwise | Bilinear) for j in node.inputs}
    work, below = 0, sum(graph.nodes[i].size for i in graph.inputs)
    for i, node in graph:
        if isinstance(node, Affine):
            below += node.size * sum(m.fan_in() for m in node.maps)
        if i in read:
            work += node.size * below
    return work


def _outputs_and_inputs(problem: Problem, boxes: Array) -> tuple[Array, Array]:
    """Interval bounds of the concatenated outputs and inputs over these boxes [B, n_out + n_in]."""
    lower, upper = problem.lower[boxes], problem.upper[boxes]
    states = propagate(problem.graph, lower, upper)
    outputs = [states[i] for i in problem.graph.outputs]
    return np.concatenate([*(o[0] for o in outputs), lower], axis=1), np.concatenate([*(o[1] for o in outputs), upper], axis=1)
