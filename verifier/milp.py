"""HiGHS on the programs of `verifier.encode_lp`: cases decided, neurons bounded, and duals as slopes and multipliers of a backward pass.

HiGHS computes in float64 with tolerances, so its answers are hints: an `unsat` from here is unchecked, and bounds are heuristics. What *can*
be proven is what the duals suggest: any slopes and any betas >= 0 give a bound that holds, and these give nearly that of the relaxation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import highspy
import numpy as np
from highspy import HighsModelStatus as Status
from numpy.typing import NDArray

from graph.core import Bilinear, Elementwise, Graph
from graph.evaluate import evaluate
from graph.functions.facts import Pieces
from verifier.encode_lp import Cuts, NotEncodable, Program, cone, encode, encode_nodes
from verifier.solver import Answer, Question

Array = NDArray[Any]

TOLERANCE = 1e-9  # what HiGHS may violate a row, a bound or integrality by; the default of 1e-6 would be as much as the margin
MARGIN = 1e-6  # an "unsat" needs the worst atom above this share of its coefficients' sum, in all of the case's box: 1,000 tolerances, since
# a row that is missed by one tolerance may be amplified by the layers after it
IDLE = 1e-3  # what a bend counts that is missed and has no multiplier: the next program may need it
CLIFF = 1024.0  # the steepest slope that is told: float16 holds it
FADING = 1e-9  # coefficients of a backward pass that are smaller have no slope to tell


class Unsolved(Exception):
    """HiGHS has refused a program; the message is its status."""


# ------------------------------------------------------------ cases


def solve_milp(question: Question, seconds: float) -> Answer:
    """Decide the case. "unsat": the minimum over all executions of the worst atom's excess, scaled, is above MARGIN, as HiGHS finds it.

    "sat": `point` meets all atoms in float64, or misses them by at most MARGIN. One thread, a fixed seed. "unknown": says why.
    """
    limit = time.monotonic() + seconds
    try:
        return _decide(question, limit)
    except NotEncodable as reason:
        return Answer("unknown", reason=str(reason))
    except Unsolved as status:
        late = time.monotonic() >= limit
        return Answer("unknown", reason="time" if late else f"solver-unknown: {status}")


def _decide(question: Question, limit: float) -> Answer:
    program = encode(question)
    if not program.atoms.size:
        return Answer("sat", point=_centre(question))
    hints, bound = _root(question, limit)
    start = execution(program, question, limit)
    if start is None:  # then nothing else that HiGHS says about the program counts
        why = "time" if time.monotonic() >= limit else "solver-unknown: HiGHS finds no execution of the network at the centre of the box"
        return Answer("unknown", reason=why, splits=hints)
    if bound > MARGIN:
        return Answer("unsat", splits=hints)
    return replace(_search(program, question, start, limit), splits=hints)


def _search(program: Program, question: Question, start: Array, limit: float) -> Answer:
    """Branch and bound by HiGHS, which prunes whatever is above MARGIN and stops at the first execution in the case.

    With the execution `start` as first incumbent an exhausted tree ends as "optimal": there is no execution at or below MARGIN. (The dual bound
    it then states is the incumbent's value, and no bound beyond MARGIN.) So "infeasible" is always an error of rounding, never a proof.
    """
    whole = bool(program.integral.any())
    options = {"mip_rel_gap": 0.0, "mip_abs_gap": TOLERANCE, "objective_bound": MARGIN, "objective_target": 0.0} if whole else {}
    highs = run_from(program, start, limit, **options)
    status, info = highs.getModelStatus(), highs.getInfo()
    if info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible and info.objective_function_value <= MARGIN:
        return _candidate(program, question, np.asarray(highs.getSolution().col_value), limit)
    if status == Status.kOptimal and dual_bound(highs, whole) > MARGIN:
        return Answer("unsat")
    return Answer("unknown", reason="time" if status == Status.kTimeLimit else f"solver-unknown: {highs.modelStatusToString(status)}")


def _candidate(program: Program, question: Question, values: Array, limit: float) -> Answer:
    """The input of a solution, moved to where its activation pattern meets the atoms best; rounded to float32 if it then still does."""
    fixed = np.where(program.integral, np.round(values), -np.inf), np.where(program.integral, np.round(values), np.inf)
    inside = replace(
        program, lower=np.maximum(program.lower, fixed[0]), upper=np.minimum(program.upper, fixed[1]), integral=np.zeros_like(program.integral)
    )
    points = [_input(program, question, values)]
    highs = _load(inside, limit)
    highs.run()
    if highs.getModelStatus() == Status.kOptimal:
        points.insert(0, _input(program, question, np.asarray(highs.getSolution().col_value)))
    box = question.problem.case_box[question.case]
    low, high = question.problem.witness_lower[box], question.problem.witness_upper[box]
    points = [np.clip(point.astype(np.float32), low, high).astype(np.float64) for point in points] + points
    excess = [worst_excess(question, point, program.scale) for point in points]
    best = next((k for k, value in enumerate(excess) if value <= 0.0), int(np.argmin(excess)))
    if not excess[best] <= MARGIN:
        names = f"; {program.inexact[0]} is only enveloped" if program.inexact else ""
        return Answer("unknown", reason=f"solver-unknown: the best point found misses the case by {excess[best]:.3g}{names}")
    return Answer("sat", point=points[best])


def worst_excess(question: Question, point: Array, scale: Array) -> float:
    """max over the case's atoms of (functional - bound) / scale at `point` [n_in], in float64; infinite where the value is not finite."""
    problem = question.problem
    used = problem.case_rows[question.case] >= 0
    outputs, inputs = problem.functionals.dense(problem.case_rows[question.case][used])
    values = _values(problem.graph, point)
    y = np.concatenate([values[i] for i in problem.graph.outputs])
    excess = (outputs @ y + inputs @ point - problem.case_bounds[question.case][used]) / scale
    return float(excess.max(initial=-np.inf)) if np.isfinite(excess).all() else np.inf


def _values(graph: Graph, point: Array) -> list[Array]:
    ends = np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1]
    return [value[0] for value in evaluate(graph, [part[None] for part in np.split(point, ends)])]


def _centre(question: Question) -> Array:
    box = question.problem.case_box[question.case]
    return np.asarray(question.problem.lower[box] / 2 + question.problem.upper[box] / 2)


def _input(program: Program, question: Question, values: Array) -> Array:
    """The input point [n_in] of a solution, inside the case's box; the centre where the case does not depend on an input."""
    graph, box = question.problem.graph, question.problem.case_box[question.case]
    column = np.concatenate([program.columns.get(i, np.full(graph.nodes[i].size, -1)) for i in graph.inputs])
    point = np.where(column >= 0, values[column], _centre(question))
    return np.clip(point, question.problem.lower[box], question.problem.upper[box])


def execution(program: Program, question: Question, limit: float) -> Array | None:
    """The execution at the centre of the box as a solution of the program; None if HiGHS finds none."""
    centre, lower, upper = _centre(question), program.lower.copy(), program.upper.copy()
    graph = question.problem.graph
    for i, part in zip(graph.inputs, np.split(centre, np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1]), strict=True):
        if i in program.columns:
            used = program.columns[i] >= 0
            lower[program.columns[i][used]] = upper[program.columns[i][used]] = part[used]
    highs = _load(replace(program, lower=lower, upper=upper), limit, mip_feasibility_tolerance=MARGIN, primal_feasibility_tolerance=MARGIN)
    highs.run()
    return np.asarray(highs.getSolution().col_value) if highs.getModelStatus() == Status.kOptimal else None


def _root(question: Question, limit: float) -> tuple[tuple[tuple[int, int], ...], float]:
    """Pre-activations by what their relaxation costs at the root, the costliest first; and the root's bound, -inf if there is none."""
    program = encode(question, relax=True, cuts={})
    try:
        highs = _solved(program, limit)
    except Unsolved:  # what an envelope leaves unbounded, the bounds of the nodes may still bound in the program itself
        return (), -np.inf
    solution = highs.getSolution()
    values, duals = np.asarray(solution.col_value), np.asarray(solution.row_dual)
    ranked: list[tuple[float, int, int]] = []
    for i, bends in program.bends.items():
        node = question.problem.graph.nodes[i]
        if isinstance(node, Elementwise):
            j = node.inputs[0]
            x, y = values[program.columns[j][bends.element]], values[program.columns[i][bends.element]]
            cost = np.abs(duals[bends.value] * (y - node.function.value(x)))
            ranked += [(-c, j, e) for c, e in zip(cost.tolist(), bends.element.tolist(), strict=True)]
    return tuple((j, e) for _, j, e in sorted(ranked)), float(highs.getInfo().objective_function_value)


# ------------------------------------------------------------ bounds of neurons


@dataclass(frozen=True, eq=False)
class Refined:
    """Bounds of every node, by node, and how many numbers of them were improved. `refuted`: HiGHS found the case to have no execution."""

    lower: dict[int, Array] = field(repr=False)
    upper: dict[int, Array] = field(repr=False)
    improved: int = 0
    refuted: bool = False


def refine(question: Question, seconds: float, *, relax: bool = True, within: bool = False) -> Refined:
    """Bound the undecided arguments of non-linear nodes anew, layer by layer, by linear programs (not `relax`: mixed-integer ones, each with an
    even share of the time left), until `seconds` are over. `within`: over the executions in the case, not over all of its box.

    The bounds are widened by MARGIN and rest on HiGHS: heuristics, or hints for what to prove.
    """
    limit = time.monotonic() + seconds
    graph = question.problem.graph
    refined = Refined(dict(question.lower), dict(question.upper))
    reached = cone(graph, {i: np.ones(graph.nodes[i].size, dtype=bool) for i in graph.outputs})
    for i in sorted(reached):
        if time.monotonic() >= limit or refined.refuted:
            break
        mask = reached[i] & _undecided(graph, i, refined.lower[i], refined.upper[i])
        if mask.any():
            refined = _refine_node(replace(question, lower=refined.lower, upper=refined.upper), i, mask, limit, relax, within, refined)
    return refined


def _undecided(graph: Graph, i: int, low: Array, high: Array) -> Array:
    """Elements [size] of node i whose bounds a non-linear reader would use better if they were tighter."""
    undecided = np.zeros(low.size, dtype=bool)
    for node in graph.nodes:
        if i in node.inputs and isinstance(node, Elementwise | Bilinear):
            bent = low < high
            if isinstance(node, Elementwise) and isinstance(node.function, Pieces):
                bent = np.logical_or.reduce([(low <= b) & (b <= high) & bent for b in node.function.breakpoints])
            undecided |= bent
    return undecided


def _refine_node(question: Question, i: int, mask: Array, limit: float, relax: bool, within: bool, before: Refined) -> Refined:
    try:
        program = encode(question, relax=relax) if within else encode_nodes(question, {i: mask}, relax=relax)
    except NotEncodable:
        return before
    if within and program.atoms.size:
        program = replace(program, upper=np.append(program.upper[:-1], 0.0))
    highs = _load(replace(program, cost=np.zeros_like(program.cost)), limit)
    low, high, improved = before.lower[i].copy(), before.upper[i].copy(), 0
    elements = [e for e in np.flatnonzero(mask).tolist() if program.columns[i][e] >= 0]
    for k, e in enumerate(elements):
        for sign, end in ((1.0, low), (-1.0, high)):
            share = (limit - time.monotonic()) / (1 if relax else 2 * (len(elements) - k))
            if share <= 0:
                return replace(before, lower={**before.lower, i: low}, upper={**before.upper, i: high}, improved=before.improved + improved)
            value = _extreme(highs, int(program.columns[i][e]), sign, share, bool(program.integral.any()))
            if within and value == np.inf:
                return replace(before, refuted=True)
            value = sign * (value - MARGIN * (1 + abs(value)))
            if np.isfinite(value) and sign * value > sign * end[e] and low[e] <= value <= high[e]:
                end[e] = value
                improved += 1
    return replace(before, lower={**before.lower, i: low}, upper={**before.upper, i: high}, improved=before.improved + improved)


def _extreme(highs: highspy.Highs, column: int, sign: float, seconds: float, whole: bool) -> float:
    """A lower bound of sign * v[column], as HiGHS finds it in this time: -inf if it finds none, +inf if it finds no solution."""
    highs.changeColCost(column, sign)
    highs.setOptionValue("time_limit", highs.getRunTime() + seconds)
    highs.run()
    status = highs.getModelStatus()
    bound = np.inf if status == Status.kInfeasible else dual_bound(highs, whole)
    highs.changeColCost(column, 0.0)
    return bound


def dual_bound(highs: highspy.Highs, whole: bool) -> float:
    """What HiGHS takes for proven about the minimum; -inf if nothing. `whole`: the program has integral columns (without, HiGHS says 0)."""
    status, info = highs.getModelStatus(), highs.getInfo()
    if status == Status.kOptimal:
        value = min(float(info.objective_function_value), float(info.mip_dual_bound) if whole else np.inf)
    else:
        value = float(info.mip_dual_bound) if whole and status == Status.kTimeLimit else -np.inf
    return value if np.isfinite(value) else -np.inf


# ------------------------------------------------------------ duals


@dataclass(frozen=True, eq=False)
class Duals:
    """An optimum of the relaxation, as a backward pass can repeat it: over the sub-problem, nearly,

        sum_k weights[k] (functional_k - bound_k) + sum over cuts of beta (lower - h, or h - upper) >= value,

    with the slopes `slopes[i]` [size] of elementwise node i, on the side that its coefficient asks for. `weights` [A] >= 0 belongs to the atoms of
    the case, `betas[j]` to the lower and the upper cuts of node j, [size] >= 0 each. `costs[i]` [size]: what the relaxation of
    elementwise node or maximum i costs at the optimum; `strains[i]` [size]: what the bound of elementwise node i's argument is worth there, which
    a backward pass does not have: where there are any, it gives less than `value`.
    """

    value: float
    weights: Array
    slopes: dict[int, Array] = field(repr=False)
    betas: dict[int, tuple[Array, Array]] = field(repr=False)
    costs: dict[int, Array] = field(repr=False)
    strains: dict[int, Array] = field(repr=False)


def multipliers(question: Question, cuts: Cuts, seconds: float, atoms: Sequence[int] | None = None) -> Duals:
    """The duals of the relaxation of a sub-problem: `question.lower`, `upper` are bounds there, `cuts` what its splits say.

    The dual of the triangle relaxation is the best choice of CROWN's slopes (Salman et al. 2019), and that of a cut is the split's beta.
    `atoms`: positions in the case, by default all. Raises NotEncodable, and Unsolved unless HiGHS finds an optimum.
    """
    program = encode(question, relax=True, cuts=cuts, atoms=atoms)
    highs = _solved(program, time.monotonic() + seconds)
    solution = highs.getSolution()
    values, duals = np.asarray(solution.col_value), np.asarray(solution.row_dual)
    graph = question.problem.graph
    slopes: dict[int, Array] = {}
    costs: dict[int, Array] = {}
    strains: dict[int, Array] = {}
    for i, bends in program.bends.items():
        node, costs[i] = graph.nodes[i], np.zeros(graph.nodes[i].size)
        if isinstance(node, Elementwise) and isinstance(node.function, Pieces):
            slopes[i], strains[i] = _slopes(question, program, i, duals)
            off = values[program.columns[i]] - node.function.value(values[program.columns[node.inputs[0]]])
            costs[i][bends.element] = ((np.abs(duals[bends.value]) + IDLE) * np.abs(off[bends.element]))
    betas = {
        j: tuple(_placed(graph.nodes[j].size, which, sign * duals[rows]) for (which, rows), sign in zip(sides, (1, -1), strict=True))
        for j, sides in program.cuts.items()
    }
    return Duals(float(highs.getInfo().objective_function_value), -duals[program.atoms] / program.scale, slopes, betas, costs, strains)  # type: ignore[arg-type]


def _slopes(question: Question, program: Program, i: int, duals: Array) -> tuple[Array, Array]:
    """The slopes of elementwise node i [size], and what they lack [size]."""
    node, bends = question.problem.graph.nodes[i], program.bends[i]
    if not isinstance(node, Elementwise) or not isinstance(node.function, Pieces):
        raise TypeError(f"node {i} has no pieces")
    j, e = node.inputs[0], bends.element
    at, to = duals[bends.value], -duals[bends.argument]  # the coefficients at the function's value, and at its argument
    slopes, strain = _slope_at(node.function, (question.lower[j] + question.upper[j]) / 2), np.zeros(node.size)
    told = np.abs(at) > FADING
    slopes[e] = np.clip(np.where(told, np.divide(to, at, out=np.zeros_like(at), where=told), slopes[e]), -CLIFF, CLIFF)
    strain[e] = np.abs(to - np.where(told, slopes[e] * at, 0.0)) * (question.upper[j] - question.lower[j])[e]
    return slopes, strain


def _placed(size: int, which: Array, numbers: Array) -> Array:
    """Those of `numbers` above 0 at the places `which`, and 0 elsewhere."""
    placed = np.zeros(size)
    placed[which] = np.maximum(numbers, 0.0)
    return placed


def _slope_at(function: Pieces, x: Array) -> Array:
    return np.asarray(function.slopes)[np.searchsorted(np.asarray(function.breakpoints), x, side="right")].copy()


# ------------------------------------------------------------ HiGHS


def _load(program: Program, limit: float, **options: float) -> highspy.Highs:
    """HiGHS, silent, with the program; it stops at `limit` (`time.monotonic`). Raises Unsolved if it does not accept it."""
    highs, lp = highspy.Highs(), highspy.HighsLp()  # type: ignore[no-untyped-call]
    lp.num_col_, lp.num_row_ = program.cost.size, program.row_lower.size
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = program.cost, program.lower, program.upper
    lp.row_lower_, lp.row_upper_ = program.row_lower, program.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = program.cost.size, program.row_lower.size
    lp.a_matrix_.start_, lp.a_matrix_.index_, lp.a_matrix_.value_ = program.start, program.index, program.value
    if program.integral.any():
        lp.integrality_ = [highspy.HighsVarType.kInteger if whole else highspy.HighsVarType.kContinuous for whole in program.integral.tolist()]
    settings: Mapping[str, float | int | bool | str] = {
        "output_flag": False, "threads": 1, "random_seed": 0, "time_limit": max(limit - time.monotonic(), 0.0),
        "small_matrix_value": 1e-12,  # what is smaller is dropped; the default of 1e-9 drops what matters
        "mip_feasibility_tolerance": TOLERANCE, "primal_feasibility_tolerance": TOLERANCE, "dual_feasibility_tolerance": TOLERANCE,
        **options,
    }
    for name, value in settings.items():
        if highs.setOptionValue(name, value) != highspy.HighsStatus.kOk:
            raise Unsolved(f"HiGHS does not take {name} = {value}")
    if highs.passModel(lp) == highspy.HighsStatus.kError:
        raise Unsolved("a program that HiGHS does not accept")
    return highs


def run_from(program: Program, start: Array, limit: float, **options: float) -> highspy.Highs:
    """HiGHS after its run on the program, with the solution `start` to begin with."""
    highs, solution = _load(program, limit, **options), highspy.HighsSolution()
    solution.col_value = start
    highs.setSolution(solution)
    highs.run()
    return highs


def _solved(program: Program, limit: float) -> highspy.Highs:
    """HiGHS at the optimum of a linear program. Raises Unsolved if it ends otherwise."""
    highs = _load(program, limit)
    highs.run()
    if highs.getModelStatus() != Status.kOptimal:
        raise Unsolved(highs.modelStatusToString(highs.getModelStatus()))
    return highs
