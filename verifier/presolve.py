"""Which cases interval bounds refute, in numpy: trivial instances are decided without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bounds.interval import concretise, propagate
from verifier.problem import Problem

Array = NDArray[Any]

BLOCK_BYTES = 1 << 28  # interval bounds of all nodes for one block of boxes


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


def _outputs_and_inputs(problem: Problem, boxes: Array) -> tuple[Array, Array]:
    """Interval bounds of the concatenated outputs and inputs over these boxes [B, n_out + n_in]."""
    lower, upper = problem.lower[boxes], problem.upper[boxes]
    states = propagate(problem.graph, lower, upper)
    outputs = [states[i] for i in problem.graph.outputs]
    return np.concatenate([*(o[0] for o in outputs), lower], axis=1), np.concatenate([*(o[1] for o in outputs), upper], axis=1)
