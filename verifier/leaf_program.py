"""Sub-problems closed by linear programming: the duals of their relaxation are the multipliers of a proof, or say where to split.

At a sub-problem where every neuron is on one piece, or next to a jump, the relaxation is exact, and so is the linear program; gradient steps
find its multipliers slowly, if splits contradict each other hardly at all. Atoms are combined, so that a conjunction is closed that no atom
closes alone, and splits have multipliers whatever their thresholds. What HiGHS says is a hint: a rigorous backward pass in float64, with the
numbers as a certificate stores them, decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.linear import Functional, LinearBounds, State
from bounds.relaxation import Planes, default_slopes, is_linear, relax
from bounds.rounding import unit_error
from graph.core import Affine, Constant, Elementwise, Graph, Input, Max
from graph.functions.facts import Pieces
from verifier.branch_neuron import split_point
from verifier.encode_lp import NotEncodable
from verifier.events import Places
from verifier.milp import MARGIN, Duals, Unsolved, multipliers
from verifier.optimise import Slopes
from verifier.problem import Problem
from verifier.solver import Question

Array = NDArray[Any]

SECONDS = 5.0  # for one program
CHEAP = 1e-9  # a relaxation that costs no more is as good as exact


@dataclass(frozen=True)
class Cut:
    """A split on the way to a sub-problem: `element` of `node` is >= threshold (side 1) or <= threshold (side -1)."""

    node: int
    element: int
    threshold: float
    side: int


@dataclass(frozen=True, eq=False)
class Leaf:
    """What a sub-problem's program gave. `margin`: proven of sum gamma_a (functional_a - bound_a) + sum betas_s (cut s) in float64, with
    `gamma` [A] for the atoms of the case, `betas` [P] for the cuts (float32 numbers), `slopes` [1, 1, size] per elementwise node.

    `split`: (node, element, threshold) to split next, where that can help.
    """

    margin: float
    gamma: Array
    betas: Array
    slopes: Slopes
    split: tuple[int, int, float] | None


def applies(graph: Graph) -> bool:
    """Whether programs say of such a network what backward passes can repeat."""
    return all(
        isinstance(node, Input | Constant | Affine | Max) or (isinstance(node, Elementwise) and isinstance(node.function, Pieces))
        for node in graph.nodes
    )


def attempt(
    linear: LinearBounds, problem: Problem, case: int, state: State, cuts: list[Cut], nodes: list[int], least: float
) -> Leaf | None:
    """Close a sub-problem of `case` with this `state` (B = 1), which is one of the search, and the splits `cuts`, in the arithmetic of `linear`,
    which is float64; `nodes` are the elementwise nodes whose slopes can be stored. None where HiGHS finds no optimum.
    It counts as closed above `least`."""
    graph, wide = problem.graph, state.to(torch.float64)
    ends = ({i: end[0].numpy() for i, end in enumerate(side)} for side in (wide.lower, wide.upper))
    question = Question(problem, case, next(ends), next(ends))
    try:
        found = multipliers(question, _tightest(graph, cuts), SECONDS)
    except (NotEncodable, Unsolved):
        return None
    slopes = _slopes(graph, found, nodes)
    betas = _paid(cuts, found)
    low, coefficients = _confirm(linear, problem, case, wide, cuts, found.weights, betas, slopes)
    return Leaf(low, found.weights, betas, slopes, None if low > least else _next(graph, state, found, coefficients))


def _tightest(graph: Graph, cuts: list[Cut]) -> dict[int, tuple[Array, Array]]:
    """Per node the largest lower and the smallest upper threshold of each element."""
    ends: dict[int, tuple[Array, Array]] = {}
    for cut in cuts:
        size = graph.nodes[cut.node].size
        low, high = ends.setdefault(cut.node, (np.full(size, -np.inf), np.full(size, np.inf)))
        if cut.side > 0:
            low[cut.element] = max(low[cut.element], cut.threshold)
        else:
            high[cut.element] = min(high[cut.element], cut.threshold)
    return ends


def _paid(cuts: list[Cut], found: Duals) -> Array:
    """The multiplier of each cut [P]: only the tightest of an element has one, and of its two sides the one that is worth more."""
    betas = np.zeros(len(cuts), dtype=np.float32)
    last: dict[tuple[int, int, int], int] = {}
    for k, cut in enumerate(cuts):
        same = last.get((cut.node, cut.element, cut.side))
        if same is None or cut.side * (cut.threshold - cuts[same].threshold) >= 0:
            last[cut.node, cut.element, cut.side] = k
    for (node, element, side), k in last.items():
        if node in found.betas:  # else no atom reads it
            mine, other = found.betas[node][::side]
            betas[k] = mine[element] if mine[element] > other[element] else 0.0
    return betas


def _slopes(graph: Graph, found: Duals, nodes: list[int]) -> Slopes:
    """As a certificate stores them, in float16, for both sides."""
    slopes: Slopes = {}
    for i in nodes:
        told = found.slopes.get(i, np.zeros(graph.nodes[i].size))  # none of what no atom reads
        slopes[i] = (torch.from_numpy(told).half().double().view(1, 1, -1),) * 2
    return slopes


def both_sides(graph: Graph, places: Places) -> Places:
    """`places`, and the upper slopes of the same elements."""
    groups, there = list(places.groups), {(i, side) for i, side, _ in places.groups}
    for i, side, elements in places.groups:
        node = graph.nodes[i]
        if side == 0 and (i, 1) not in there and isinstance(node, Elementwise):
            groups.append((i, 1, elements))
    return Places(tuple(groups))


def planes_with(graph: Graph, state: State, slopes: Slopes) -> dict[int, Planes]:
    """The planes of these slopes where a function is not linear, and the exact line where it is."""
    planes: dict[int, Planes] = {}
    for i, (told, _) in slopes.items():
        node = graph.nodes[i]
        if isinstance(node, Elementwise):
            low, high = (end[node.inputs[0]].unsqueeze(1) for end in (state.lower, state.upper))
            linear, default = is_linear(node.function, low, high), default_slopes(node.function, low, high)
            planes[i] = relax(node.function, low, high, *(torch.where(linear, side, told) for side in default))
    return planes


def _confirm(
    linear: LinearBounds, problem: Problem, case: int, state: State, cuts: list[Cut], gamma: Array, betas: Array, slopes: Slopes
) -> tuple[float, Tensor]:
    """A lower bound of sum gamma_a (functional_a - bound_a) + sum betas_s (cut s) over the sub-problem; and its coefficients [n_in]."""
    graph, used = problem.graph, problem.case_rows[case] >= 0
    outputs, inputs = problem.functionals.dense(problem.case_rows[case][used])
    functional: Functional = {}
    lost = 0.0  # by the combination: the coefficients of each node are sums of A products
    for nodes, rows in ((graph.outputs, outputs), (graph.inputs, inputs)):
        for i, d in zip(nodes, np.split(rows, np.cumsum([graph.nodes[i].size for i in nodes])[:-1], axis=1), strict=True):
            part = torch.from_numpy(gamma @ d).view(1, 1, -1)
            functional[i] = functional[i] + part if i in functional else part
            lost += float((torch.from_numpy(gamma @ np.abs(d)) * state.largest(i)[0]).sum())
    added: dict[int, Tensor] = {}
    constant = -sum((Fraction(g) * Fraction(b) for g, b in zip(gamma.tolist(), problem.case_bounds[case][used].tolist(), strict=True)), Fraction(0))
    for cut, beta in zip(cuts, betas.tolist(), strict=True):
        if beta:
            added.setdefault(cut.node, torch.zeros(1, 1, graph.nodes[cut.node].size, dtype=torch.float64))[0, 0, cut.element] -= cut.side * beta
            constant += cut.side * Fraction(beta) * Fraction(cut.threshold)
    below = np.nextafter(float(constant), -np.inf)
    betas_of = {j: (m, None) for j, m in added.items()}  # their thresholds are in the constant
    low = linear.lower_bound(
        state, functional, torch.tensor([[below]], dtype=torch.float64), planes=planes_with(graph, state, slopes), betas=betas_of
    )
    value = float(low.value[0, 0]) - unit_error(2 * len(gamma) + 8, torch.float64) * lost
    return (value if np.isfinite(value) else -np.inf), low.coefficients[0, 0]


def _next(graph: Graph, state: State, found: Duals, coefficients: Tensor) -> tuple[int, int, float] | None:
    """Where the relaxation costs most: a neuron, or, for a maximum, the input that moves the bound most. None where it is exact.

    Where the program is above 0 and the pass is not, the neuron whose bounds it needs most.
    """
    best, choice, halve = CHEAP, None, False
    for i, costs in (found.strains if found.value > MARGIN else found.costs).items():
        node = graph.nodes[i]
        if isinstance(node, Elementwise):
            low, high = state.lower[node.inputs[0]][0], state.upper[node.inputs[0]][0]
            point = split_point(node.function, low, high)
            worth = np.where(((low < point) & (point < high) & ~is_linear(node.function, low, high)).numpy(), costs, 0.0)
            e = int(worth.argmax())
            if worth[e] > best:
                best, halve, choice = float(worth[e]), False, (node.inputs[0], e, float(point[e]))
        elif costs.max() > best:
            best, halve = float(costs.max()), True
    return _halved(graph, state, coefficients) if halve else choice


def _halved(graph: Graph, state: State, coefficients: Tensor) -> tuple[int, int, float] | None:
    """The middle of the input on which the bound depends most, or, if on none, of the widest; None where that has no width."""
    low, high = (torch.cat([end[i] for i in graph.inputs], -1)[0] for end in (state.lower, state.upper))
    moves = coefficients.abs() * (high - low)
    at = int((moves if bool((moves > 0).any()) else high - low).argmax())
    middle = low[at] / 2 + high[at] / 2
    if not bool((low[at] < middle) & (middle < high[at])):
        return None
    first = 0
    for i in graph.inputs:
        if at < first + graph.nodes[i].size:
            return i, at - first, float(middle)
        first += graph.nodes[i].size
    raise IndexError(f"no input {at}")
