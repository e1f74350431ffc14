"""The triangle linear program (Ehlers 2017; Salman et al. 2019), solved by cvxpy, and what its duals prove.

The value a solver returns is not rigorous: solvers stop at tolerances. What it returns as duals is used instead, in two ways that are:

- any multipliers >= 0 of the program's rows leave a linear function of the variables, which is minimised over their certified bounds
  (Neumaier and Shcherbina 2004), rounding included: `safe`;
- the multipliers of an element's planes, added up, are a slope, and any slope is sound in a backward pass with rigorous offsets: `slopes`,
  with which `bounds.linear.LinearBounds.lower_bound` reaches the program's value (the dual of the triangle program is CROWN with the
  best slopes, Salman et al. 2019), up to the solver's tolerance. Max and products keep their default planes there.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cvxpy
import numpy as np
import torch
from cvxpy.error import SolverError
from numpy.typing import NDArray
from scipy import sparse

from bounds import relaxation
from bounds.encoding import Encoding
from bounds.linear import Relaxations, State
from bounds.rows import Matrix, Rows, unit_error
from graph.core import Elementwise
from graph.functions.facts import Smooth

Array = NDArray[Any]

NEGLIGIBLE = 1e-7  # of a coefficient, beside the multipliers that add up to it: as good as 0, so its slope is the default one
ROOM = 1e-7  # by which the solver may violate tangents of smooth functions: where they nearly touch, it calls the program infeasible


class SolverFailure(Exception):
    """A convex solver gave no usable answer; the message says which one and why. There is then no bound, not even a bad one."""


@dataclass(frozen=True, eq=False)
class ProgramBound:
    """Lower bounds of R functionals by one linear program each.

    `value` [R] is what the solver claims, for information. `safe` [R]: functional >= safe on every execution in the box, whatever the
    solver did. `slopes`: elementwise node -> (lower, upper) slopes [R, size].
    """

    value: Array = field(repr=False)
    safe: Array = field(repr=False)
    slopes: Mapping[int, tuple[Array, Array]] = field(repr=False)


def linear_program(encoding: Encoding, functional: Rows, *, seconds: float | None = None, solver: str = "HIGHS") -> ProgramBound:
    """Minimise each of the R functionals over the relaxation, at most `seconds` each. Raises SolverFailure."""
    matrix, constant, _, _ = stacked(encoding)
    v = cvxpy.Variable(len(encoding.lower))
    cost = cvxpy.Parameter(len(encoding.lower))
    first = encoding.inputs
    constraints = [v[:first] >= encoding.lower[:first], v[:first] <= encoding.upper[:first]] if first else []
    room = ROOM if any(isinstance(n.function, Smooth) for n in encoding.graph.nodes if isinstance(n, Elementwise)) else 0.0
    planes = [matrix @ v + constant + room >= 0] if len(constant) else []
    problem = cvxpy.Problem(cvxpy.Minimize(cost @ v), [*constraints, *planes])
    values, safe, multipliers = [], [], []
    for r in range(len(functional)):
        cost.value = functional.coefficient[[r]].toarray()[0]
        values.append(solve(problem, solver, seconds) + float(functional.constant[r]))
        found = np.maximum(planes[0].dual_value, 0.0) if planes else np.zeros(0)
        safe.append(safe_bound(encoding, functional, r, found))
        multipliers.append(found)
    return ProgramBound(np.array(values), np.array(safe), _slopes(encoding, multipliers))


def solve(problem: cvxpy.Problem, solver: str, seconds: float | None, rough: bool = False, **options: Any) -> float:
    """The optimal value that `solver` reports, with `rough` also one that it calls inaccurate. Raises SolverFailure where it reports none,
    also for one that is not finite."""
    if seconds is not None and seconds <= 0:
        raise SolverFailure("no time is left")
    limit = {"HIGHS": "time_limit", "CLARABEL": "time_limit", "SCS": "time_limit_secs"}
    if solver not in limit:
        raise SolverFailure(f"unknown solver {solver}; there are {', '.join(limit)}")
    timed = {} if seconds is None else {limit[solver]: float(seconds)}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            problem.solve(solver=solver, **timed, **options)  # type: ignore[no-untyped-call]
    except SolverError as error:
        raise SolverFailure(f"{solver}: {str(error).splitlines()[0]}") from error
    if problem.status != cvxpy.OPTIMAL and not (rough and problem.status == cvxpy.OPTIMAL_INACCURATE):
        late = problem.status == cvxpy.USER_LIMIT and seconds is not None
        raise SolverFailure(f"{solver} found no optimum in {seconds:g} s" if late else f"{solver} ended with the status {problem.status}")
    value = np.asarray(problem.value, dtype=np.float64)
    if value.size != 1 or not bool(np.isfinite(value).all()):
        raise SolverFailure(f"{solver} reported the optimal value {problem.value}")
    return float(value.item())


def stacked(encoding: Encoding) -> tuple[Matrix, Array, Array, Array]:
    """All planes on top of each other: coefficients [m, n], constants, errors and sizes [m]."""
    if not encoding.planes:
        return sparse.csr_array((0, len(encoding.lower))), np.zeros(0), np.zeros(0), np.zeros(0)
    rows = [plane.rows for plane in encoding.planes]
    whole = sparse.csr_array(sparse.vstack([r.coefficient for r in rows]))
    return whole, *(np.concatenate(parts) for parts in ([r.constant for r in rows], [r.error for r in rows], [r.size for r in rows]))


def safe_bound(encoding: Encoding, functional: Rows, r: int, multipliers: Array) -> float:
    """A lower bound of functional r on every execution, from any multipliers [m] of the planes; negative ones count as 0.

    functional >= functional - sum of multipliers * (rows >= 0), which is linear in v and least at one end of each variable's bounds
    (Neumaier and Shcherbina 2004). Raises SolverFailure where the multipliers, or what follows from them, are not finite.
    """
    matrix, constant, error, size = stacked(encoding)
    if multipliers.shape != constant.shape or not bool(np.isfinite(multipliers).all()):
        raise SolverFailure("the solver's multipliers are not numbers")
    weight = np.maximum(multipliers, 0.0)
    cost = functional.coefficient[[r]].toarray()[0]
    left = cost - matrix.T @ weight
    ends = np.minimum(left * encoding.lower, left * encoding.upper)
    value = float(functional.constant[r] - weight @ constant + ends.sum())
    lost = float(functional.error[r] + weight @ error)
    magnitude = float(functional.size[r] + weight @ size)
    bound = value - lost * (1 + unit_error(len(weight))) - unit_error(2 * len(weight) + 2 * len(left)) * magnitude
    if not np.isfinite(bound):
        raise SolverFailure("a number overflowed in the bound that the multipliers give")
    return bound


def _slopes(encoding: Encoding, multipliers: list[Array]) -> dict[int, tuple[Array, Array]]:
    """Per elementwise node the slopes [R, size] that the multipliers [m] of each functional add up to.

    An element that meets the functional with coefficient d = sum of (lower - upper) multipliers uses the lower plane where d > 0 and the
    upper one where d < 0, with the weighted mean of its planes' slopes; the offset that is proven for it is at least as good as theirs.
    """
    found: dict[int, tuple[Array, Array]] = {}
    starts = np.cumsum([0, *(len(plane.elements) for plane in encoding.planes)])
    for i in encoding.free:
        node = encoding.graph.nodes[i]
        if not isinstance(node, Elementwise):
            continue
        d, slope, total = (np.zeros((len(multipliers), node.size)) for _ in range(3))
        steepest = np.zeros((2, 2, node.size)) + np.array([np.inf, -np.inf])[:, None, None]  # least and greatest; of lower and of upper planes
        for plane, at in zip(encoding.planes, starts, strict=False):
            if plane.node != i or plane.slope is None:
                continue
            weight = np.stack([m[at : at + len(plane.elements)] for m in multipliers])
            d[:, plane.elements] += plane.side * weight
            slope[:, plane.elements] += plane.side * weight * plane.slope
            total[:, plane.elements] += weight
            k = 0 if plane.side > 0 else 1
            steepest[0, k, plane.elements] = np.minimum(steepest[0, k, plane.elements], plane.slope)
            steepest[1, k, plane.elements] = np.maximum(steepest[1, k, plane.elements], plane.slope)
        used = np.abs(d) > NEGLIGIBLE * total
        mean = np.where(used, slope / np.where(used, d, 1.0), 0.0)
        found[i] = (_chosen(mean, used & (d > 0), steepest[:, 0]), _chosen(mean, used & (d < 0), steepest[:, 1]))
    return found


def _chosen(mean: Array, used: Array, steepest: Array) -> Array:
    """The mean slope within those of the planes; NaN, for "the default", where no plane of this side is used."""
    return np.where(used, np.clip(mean, *steepest), np.nan)


def slopes_to_planes(encoding: Encoding, state: State, slopes: Mapping[int, tuple[Array, Array]]) -> Relaxations:
    """The relaxations [1, R, size] that a backward pass takes, rigorous offsets included, in the state (B = 1) of the encoding's bounds."""
    planes = {}
    for i, sides in slopes.items():
        node = encoding.graph.nodes[i]
        if not isinstance(node, Elementwise):
            raise TypeError(f"node {i} is a {type(node).__name__}; only elementwise nodes have slopes")
        low, high = state.lower[node.inputs[0]].unsqueeze(1), state.upper[node.inputs[0]].unsqueeze(1)
        default = relaxation.default_slopes(node.function, low, high)
        given = [torch.from_numpy(side).to(low.dtype).unsqueeze(0) for side in sides]
        chosen = [torch.where(g.isnan(), d, g) for g, d in zip(given, default, strict=True)]
        planes[i] = relaxation.relax(node.function, low, high, *chosen)
    return planes
