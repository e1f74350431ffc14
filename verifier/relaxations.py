"""How tight is each way of bounding a network: one atom of a property, bounded by all of them (`soundproof relaxations`).

Every bound is a rigorous lower bound of the atom's margin, functional - threshold, over the case's box; positive means that the case is
refuted. Of linear and semidefinite programs it is what their multipliers prove, not what the solver claims. The exact value is the one
number here that rests on a solver's tolerance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.convex import SolverFailure, linear_program, slopes_to_planes
from bounds.encoding import CannotRelax, Encoding, encode
from bounds.forward import forward
from bounds.interval import concretise, propagate
from bounds.linear import LinearBounds, State
from bounds.semidefinite import semidefinite_program
from bounds.torch_graph import TorchGraph
from graph import linear_map as lm
from graph.core import Affine, Graph, Origin
from specs.canonical import Atom
from verifier import encode_lp, milp
from verifier.minimum import minimum
from verifier.optimise import UNSPLIT, initial, optimise, planes_with, relaxed_nodes
from verifier.problem import Problem
from verifier.solver import Question

Array = NDArray[Any]

MOST_CASES = 64  # cases among which the hardest is looked for
STEPS, RATE = 100, 0.15  # of the gradient ascent over slopes
STARTS, DESCENT = 64, 60  # executions that look for a small margin, and their gradient steps
TOLERANCE = 1e-6  # relative gap at which the exact search stops


class NothingToBound(Exception):
    """The property has no atom that could be bounded. Exit code 3."""


@dataclass(frozen=True)
class Row:
    """One method's `bound` of the margin (None: it has none, and `note` says why), the value its solver claims, and its seconds."""

    method: str
    bound: float | None
    seconds: float
    claimed: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """All methods on atom `atom` of case `case`. `execution` is the smallest margin that a sampled execution reached: the exact one is at most that.

    `inputs` and `hidden` count the inputs that vary and the non-linear elements that the linear bounds leave undecided. `prepared`: seconds for
    these linear bounds of the hidden layers, which CROWN and all after it start from; they are in no row.
    """

    case: int
    atom: int
    text: str
    inputs: int
    hidden: int
    rows: tuple[Row, ...]
    execution: float
    prepared: float

    @property
    def exact(self) -> float | None:
        return next((row.bound for row in self.rows if row.method == "exact"), None)

    def gap(self, row: Row) -> float | None:
        """How far the bound is below the exact margin, or below the best execution where the exact one is not known."""
        reached = self.execution if self.exact is None else self.exact
        return None if row.bound is None else max(reached - row.bound, 0.0)

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"method": r.method, "bound": r.bound, "claimed": r.claimed, "gap": self.gap(r), "seconds": round(r.seconds, 3), "note": r.note or None}
            for r in self.rows
        ]
        return {
            "schema": 1, "case": self.case, "atom": self.atom, "text": self.text, "varying_inputs": self.inputs, "undecided": self.hidden,
            "execution": self.execution, "prepared_seconds": round(self.prepared, 3), "rows": rows,
        }


def compare(problem: Problem, seconds: float, case: int | None = None) -> Table:
    """All methods on the case that linear bounds find hardest (or on `case`), and in it on the atom that they bound best.

    Solvers get `seconds` each. Raises NothingToBound, also for a case that does not exist.
    """
    boxes = _Boxes(problem)
    chosen, atom = _hardest(boxes, case)
    subject = _Subject(boxes, chosen, atom, seconds)
    methods: Mapping[str, Callable[[], tuple[float, float | None, str]]] = {
        "interval": subject.interval,
        "forward linear": subject.forward,
        "CROWN": subject.crown,
        "alpha-CROWN": subject.alpha,
        "LP": subject.triangle,
        "SDP": subject.semidefinite,
        "exact": subject.exact,
    }
    rows = tuple(_row(name, method) for name, method in methods.items())
    hidden, inputs = (subject.encoding.hidden, subject.encoding.inputs) if subject.encodable else (0, 0)
    text = _text(next(islice(problem.spec.cases, chosen, None)).atoms[atom])
    return Table(chosen, atom, text, inputs, hidden, rows, subject.execution(), boxes.seconds[int(problem.case_box[chosen])])


def _row(name: str, method: Callable[[], tuple[float, float | None, str]]) -> Row:
    began = time.perf_counter()
    try:
        bound, claimed, note = method()
    except (CannotRelax, SolverFailure, encode_lp.NotEncodable, milp.Unsolved) as reason:
        return Row(name, None, time.perf_counter() - began, note=str(reason))
    if not np.isfinite(bound):
        return Row(name, None, time.perf_counter() - began, claimed, "the bound is not finite")
    return Row(name, bound, time.perf_counter() - began, claimed, note)


class _Boxes:
    """The linear bounds of all nodes over the boxes of a problem, each computed once."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.linear = LinearBounds(TorchGraph(problem.graph, torch.float64))
        self.seconds: dict[int, float] = {}
        self._states: dict[int, State] = {}

    def state(self, box: int) -> State:
        if box not in self._states:
            ends = (torch.from_numpy(side[box : box + 1]) for side in (self.problem.lower, self.problem.upper))
            began = time.perf_counter()
            self._states[box] = self.linear.propagate(*ends)
            self.seconds[box] = time.perf_counter() - began
        return self._states[box]


def _hardest(boxes: _Boxes, case: int | None) -> tuple[int, int]:
    """(case, atom): the case whose best atom has the lowest linear bound, and that atom."""
    problem = boxes.problem
    count = len(problem.case_box)
    if case is not None and not 0 <= case < count:
        raise NothingToBound(f"there is no case {case}; the property has {count}")
    best: dict[int, tuple[float, int]] = {}
    for k in range(min(count, MOST_CASES)) if case is None else (case,):
        atoms = np.flatnonzero(problem.case_rows[k] >= 0)
        if atoms.size:
            values = [_Subject(boxes, k, int(a), 0.0).crown()[0] for a in atoms]
            place = int(np.argmax(np.where(np.isnan(values), -np.inf, values)))
            best[k] = values[place], int(atoms[place])
    if not best:
        raise NothingToBound("no case of the property has an atom over the network's values: there is nothing to bound")
    chosen = min(best, key=lambda k: best[k][0])
    return chosen, best[chosen][1]


class _Subject:
    """One atom over one box, and each method's (bound, what its solver claims, note) of it. float64 throughout."""

    def __init__(self, boxes: _Boxes, case: int, atom: int, seconds: float) -> None:
        self.problem, self.case, self.atom, self.seconds = boxes.problem, case, atom, seconds
        self.linear, self._boxes, problem = boxes.linear, boxes, boxes.problem
        self.graph: Graph = problem.graph
        box, row = int(problem.case_box[case]), int(problem.case_rows[case, atom])
        self.lower, self.upper = problem.lower[box : box + 1], problem.upper[box : box + 1]
        self.outputs, self.inputs = problem.functionals.dense(np.array([row]))
        self.constant = -problem.case_bounds[case, atom : atom + 1]
        self.coefficients = self._coefficients()

    def _coefficients(self) -> dict[int, Array]:
        """node -> coefficients [1, size]."""
        found: dict[int, Array] = {}
        for nodes, row in ((self.graph.outputs, self.outputs), (self.graph.inputs, self.inputs)):
            ends = np.cumsum([self.graph.nodes[i].size for i in nodes])[:-1]
            for i, part in zip(nodes, np.split(row, ends, axis=1), strict=True):
                if nodes is self.graph.outputs or bool(part.any()):
                    found[i] = found[i] + part if i in found else part
        return found

    @property
    def state(self) -> State:
        return self._boxes.state(int(self.problem.case_box[self.case]))

    @cached_property
    def encoding(self) -> Encoding:
        lower, upper = ([end[0].numpy() for end in side] for side in (self.state.lower, self.state.upper))
        return encode(self.graph, lower, upper)

    @property
    def encodable(self) -> bool:
        try:
            return bool(self.encoding)
        except CannotRelax:
            return False

    @property
    def functional(self) -> dict[int, Tensor]:
        return {i: torch.from_numpy(d).unsqueeze(0) for i, d in self.coefficients.items()}

    @property
    def offset(self) -> Tensor:
        return torch.from_numpy(self.constant).unsqueeze(0)

    def interval(self) -> tuple[float, float | None, str]:
        states = propagate(self.graph, self.lower, self.upper)
        lower, upper = (np.concatenate([states[i][side] for i in (*self.graph.outputs, *self.graph.inputs)], axis=1) for side in (0, 1))
        return float(concretise(np.concatenate([self.outputs, self.inputs], axis=1), self.constant, lower, upper)[0, 0]), None, ""

    def forward(self) -> tuple[float, float | None, str]:
        """The functional becomes a last affine node, so that its form is carried forward like any other."""
        maps = tuple(lm.Dense((d.shape[1],), (1,), d) for d in self.coefficients.values())
        node = Affine((1,), tuple(self.coefficients), Origin(), maps, self.constant)
        graph = replace(self.graph, nodes=(*self.graph.nodes, node))
        bounds = LinearBounds(TorchGraph(graph, torch.float64))
        state = forward(bounds, torch.from_numpy(self.lower), torch.from_numpy(self.upper)).state
        return float(state.lower[-1]), None, ""

    def crown(self) -> tuple[float, float | None, str]:
        return float(self.linear.lower_bound(self.state, self.functional, self.offset).value), None, ""

    def alpha(self) -> tuple[float, float | None, str]:
        """CROWN with slopes of the last pass improved by gradient ascent; hidden bounds stay as they are."""
        nodes = relaxed_nodes(self.linear, self.state)
        start = initial(self.linear, self.state, 1, nodes)
        found = optimise(self.linear, self.state, self.functional, self.offset, start, UNSPLIT, steps=STEPS, rate=RATE)
        planes = planes_with(self.linear, self.state, found.slopes)
        improved = float(self.linear.lower_bound(self.state, self.functional, self.offset, planes=planes).value)
        return max(improved, self.crown()[0]), None, ""

    def triangle(self) -> tuple[float, float | None, str]:
        found = linear_program(self.encoding, self.encoding.functional(self.coefficients, self.constant), seconds=self.seconds)
        planes = slopes_to_planes(self.encoding, self.state, found.slopes)
        backward = float(self.linear.lower_bound(self.state, self.functional, self.offset, planes=planes).value)
        note = f"a backward pass with its slopes gives {backward:.6g}"
        return max(float(found.safe[0]), backward if np.isfinite(backward) else -np.inf), float(found.value[0]), note

    def semidefinite(self) -> tuple[float, float | None, str]:
        functional = self.encoding.functional(self.coefficients, self.constant)
        found = semidefinite_program(self.encoding, functional, seconds=self.seconds)
        return float(found.safe[0]), float(found.value[0]), ""

    def exact(self) -> tuple[float, float | None, str]:
        """The minimum over all executions, by mixed-integer programming."""
        lower, upper = ({i: end[0].numpy() for i, end in enumerate(side)} for side in (self.state.lower, self.state.upper))
        question = Question(self.problem, self.case, lower, upper)
        least = minimum(question, self.atom, self.seconds, TOLERANCE)
        return least, least, f"HiGHS, within {TOLERANCE:g}"

    def execution(self) -> float:
        """The smallest margin among a few gradient descents from random starts, in float64 (Madry et al. 2018)."""
        generator = torch.Generator().manual_seed(0)
        low, high = torch.from_numpy(self.lower), torch.from_numpy(self.upper)
        x = low + (high - low) * torch.rand((STARTS, low.shape[1]), generator=generator, dtype=torch.float64)
        x = torch.cat([low / 2 + high / 2, x])
        least = float("inf")
        for step in range(DESCENT):
            x = x.detach().requires_grad_()
            values = self.linear.net.evaluate(x)
            margins = sum((values[i] @ torch.from_numpy(d[0]) for i, d in self.coefficients.items()), torch.from_numpy(self.constant))
            finite = margins.detach()[margins.detach().isfinite()]
            least = min([least, *finite.tolist()])
            (gradient,) = torch.autograd.grad(margins.sum(), x)
            gradient = torch.where(gradient.isfinite(), gradient, 0.0)
            x = torch.clamp(x - (high - low) / 2 * 0.01 ** (step / DESCENT) * gradient.sign(), low, high)
        return least


def _text(atom: Atom) -> str:
    """The atom as it was meant: unsafe where it holds."""
    terms = " ".join(f"{'-' if c < 0 else '+'} {'' if abs(c) == 1 else f'{float(abs(c)):g} '}{tensor}[{i}]" for tensor, i, c in atom.terms)
    return f"{terms.removeprefix('+ ')} {'<' if atom.strict else '<='} {float(atom.bound):g}"
