"""Random properties and random certificates of random networks: well formed, often a proof, often just not one.

A certificate is built without its container (tests of that are elsewhere): `Certificate` as the reader would return it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from random import Random

import numpy as np

from tests.checker.random_networks import Array, random_box, random_network, random_point
from tests.checker.twins import box_of, float_bound, float_state
from verifier.checker import tree
from verifier.checker.bounds import BACKWARD, Checker
from verifier.checker.certificate import Certificate, TensorName
from verifier.checker.exact_bounds import ExactBounds
from verifier.checker.network import Elementwise, Network
from verifier.checker.read_property import Cases
from verifier.checker.refusal import Rejected
from verifier.checker.state import State as FloatState

Row = tuple[tuple[int, Fraction], ...]
Run = tuple[list[Fraction], list[tuple[Fraction, Fraction]]]


@dataclass(frozen=True, eq=False)
class Problem:
    """A network and the cases to be closed; `runs`: concrete (input, output) pairs of each box, in rationals, outputs as (low, high)."""

    network: Network
    cases: Cases
    runs: list[list[Run]]

    def is_violated(self) -> bool:
        """Whether some run certainly meets all atoms of a case: then nothing may be accepted."""
        return any(self._violates(case, run) for case in range(len(self.cases)) for run in self.runs[self.cases.box(case)])

    def _violates(self, case: int, run: Run) -> bool:
        inputs, outputs = run
        for atom in range(self.cases.atom_start[case], self.cases.atom_start[case + 1]):
            highest = Fraction(0)
            for place, a in self.cases.rows[self.cases.row[atom]]:
                low, high = outputs[place] if place < len(outputs) else (inputs[place - len(outputs)],) * 2
                highest += max(a * low, a * high)
            if highest > Fraction(float(self.cases.threshold[atom])):
                return False
        return True


def random_problem(r: Random, network: Network) -> Problem:
    """One or two boxes, one to three cases, one or two atoms each, thresholds around what holds in some run and what can be bounded."""
    boxes = [random_box(r, network) for _ in range(r.randint(1, 2))]
    out = network.outputs[0]
    n_out, n_in = network.nodes[out].size, len(boxes[0][0])
    case_box = [0, *(r.randrange(len(boxes)) for _ in range(r.randint(0, 2)))]
    boxes = boxes[: max(case_box) + 1]
    rows = [_random_row(r, n_out, n_in) for _ in range(r.randint(1, 3))]
    runs = [[_run(network, random_point(r, lower, upper)) for _ in range(4)] for lower, upper in boxes]
    checker = Checker(network, None)
    states = [float_state(checker, *box, program=BACKWARD) for box in boxes]
    row, threshold, start = [], [], [0]
    for box in case_box:
        for _ in range(r.randint(1, 2)):
            row.append(r.randrange(len(rows)))
            threshold.append(_threshold(r, checker, states[box], rows[row[-1]], runs[box]))
        start.append(len(row))
    lower, upper = (np.stack(end) for end in zip(*boxes, strict=True))
    crossed, numbers = np.zeros(len(boxes), dtype=bool), (np.array(x) for x in (case_box, start, row, threshold))
    return Problem(network, Cases(n_in, n_out, lower, upper, crossed, *numbers, tuple(rows), 0), runs)


def _random_row(r: Random, n_out: int, n_in: int) -> Row:
    places = sorted({r.randrange(n_out), r.randrange(n_out), *([n_out + r.randrange(n_in)] if r.random() < 0.2 else [])})
    return tuple((place, r.choice((Fraction(1), Fraction(-1), Fraction(r.randint(1, 20), 10)))) for place in places)


def _run(network: Network, point: Array) -> Run:
    box = box_of(network, point)
    state, out = ExactBounds(network).state(box, box), network.outputs[0]
    return [x for k in network.inputs for x in box[k]], list(zip(state.lower[out], state.upper[out], strict=True))


def _threshold(r: Random, checker: Checker, state: FloatState, row: Row, runs: list[Run]) -> float:
    """Between what the kernel can prove and what some run reaches, or a little outside."""
    network = checker.network
    dense: dict[int, Array] = {}
    for place, a in row:
        for k in (*network.outputs, *network.inputs):
            if place < network.nodes[k].size:
                dense.setdefault(k, np.zeros(network.nodes[k].size))[place] += float(a)
                break
            place -= network.nodes[k].size
    proven = float(float_bound(checker, state, dense, {}))
    reached = min(sum(float(a) * float(outputs[p][0] if p < len(outputs) else inputs[p - len(outputs)]) for p, a in row) for inputs, outputs in runs)
    return proven + (reached - proven) * r.uniform(-0.4, 1.2) - r.choice((1e-3, 1e-6, -1e-6)) * (1 + abs(proven))


@dataclass
class _Writer:
    """The columns of a certificate, filled in preorder."""

    r: Random
    problem: Problem
    tensors: list[TensorName] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)  # the node whose elements a tensor names
    sites: list[int] = field(default_factory=list)  # the non-linear node, -1 for an input
    ints: dict[str, list[int]] = field(default_factory=lambda: {name: [] for name in INTS})
    floats: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in FLOATS})
    root: FloatState = field(init=False)  # of the tree that is being written

    def __post_init__(self) -> None:
        network = self.problem.network
        for k, name in zip(network.inputs, network.input_names, strict=True):
            self._name(TensorName("input", name), k, -1)
        for (name, site), k in network.sites.items():
            for argument, target in enumerate(network.nodes[k].inputs):
                self._name(TensorName("site", name, site, argument), target, k)

    def _name(self, name: TensorName, target: int, site: int) -> None:
        self.tensors.append(name)
        self.targets.append(target)
        self.sites.append(site)

    def record(self, op: int, *args: int) -> None:
        self.ints["op"].append(op)
        self.ints["arg"].extend(args)

    def slope_set(self, before: int) -> int:
        """A slope set over sites before node `before`; returns its number."""
        groups = []
        for t, site in enumerate(self.sites):
            if 0 <= site < before and isinstance(self.problem.network.nodes[site], Elementwise):
                groups += [(t, side) for side in (0, 1) if self.r.random() < 0.6]
        self.ints["set_count"].append(len(groups))
        for t, side in groups:
            size = self.problem.network.nodes[self.sites[t]].size
            elements = sorted(self.r.sample(range(size), self.r.randint(1, size)))
            self.ints["set_site"] += [t, side, len(elements)]
            self.ints["set_element"] += elements
        return len(self.ints["set_count"]) - 1

    def entries(self, which: int) -> int:
        first = sum(self.ints["set_count"][:which])
        return sum(self.ints["set_site"][2::3][first : first + self.ints["set_count"][which]])

    def slopes(self, n: int) -> None:
        self.floats["slope"] += [self.r.choice((0.0, 1.0, 0.5, self.r.uniform(0, 1), self.r.uniform(-0.5, 1.5))) for _ in range(n)]

    # ------------------------------------------------------------ trees

    def tree(self, members: list[int]) -> None:
        self.ints["tree_cases"] += members
        self.ints["tree_count"].append(len(members))
        self.ints["tree_program"].append(self.r.choice((0, 1, 1, 2, 3)))
        box = self.problem.cases.box(members[0])
        lower, upper = self.problem.cases.lower[box].copy(), self.problem.cases.upper[box].copy()
        self.root = float_state(Checker(self.problem.network, None), lower, upper)
        self.node(members, lower, upper, 0, [], False)

    def node(self, members: list[int], lower: Array, upper: Array, depth: int, path: list[tuple[int, int, float]], forms: bool) -> None:
        r = self.r
        if r.random() < 0.2:
            self.record(tree.REFINE)
        if r.random() < 0.2:
            self.rows()
        if r.random() < 0.3:
            self.record(tree.FORMS)
            forms = True
        if forms and depth and r.random() < 0.3:
            self.record(tree.CLIP)
        for _ in range(r.choice((0, 0, 1, 2)) if len(members) == 1 else 0):
            self.multipliers(members[0], len(path), tree.WITHIN)
        wide = np.flatnonzero(upper > lower).tolist()
        kind = r.random()
        if depth < 3 and wide and kind < 0.3:
            self.input_split(members, lower, upper, depth, path, forms, r.choice(wide))
        elif depth < 3 and kind < 0.6 and (undecided := self.undecided()):
            self.site_split(members, lower, upper, depth, path, forms, *r.choice(undecided))
        elif forms and kind > 0.9:
            self.record(tree.LEAF, 1)
        elif len(members) == 1 and kind > 0.75:
            self.multipliers(members[0], len(path))
        else:
            self.record(tree.LEAF, 0)

    def rows(self) -> None:
        choices = [t for t, site in enumerate(self.sites) if site >= 0]
        if choices:
            t = self.r.choice(choices)
            size = self.problem.network.nodes[self.targets[t]].size
            codes = self.r.sample(range(2 * size), self.r.randint(1, 2 * size))
            which = self.slope_set(self.targets[t] + 1)
            self.record(tree.ROWS, t, which, len(codes), *codes)
            self.slopes(len(codes) * self.entries(which))

    def input_split(
        self, members: list[int], lower: Array, upper: Array, depth: int, path: list[tuple[int, int, float]], forms: bool, at: int
    ) -> None:
        middle = float(lower[at] + (upper[at] - lower[at]) * self.r.choice((0.5, 0.5, 0.25)))
        t, element = 0, at
        while element >= self.problem.network.nodes[self.targets[t]].size:
            t, element = t + 1, element - self.problem.network.nodes[self.targets[t]].size
        self.record(tree.SPLIT, t, element)
        self.floats["threshold"].append(middle)
        for side in (0, 1):
            ends = lower.copy(), upper.copy()
            ends[1 - side][at] = middle
            self.node(members, *ends, depth + 1, path, forms)

    def undecided(self) -> list[tuple[int, int]]:
        """(tensor, element) of all arguments of sites whose values vary at the root."""
        ends = [(t, self.root.lower[k][0], self.root.upper[k][0]) for t, k in enumerate(self.targets) if self.sites[t] >= 0]
        return [(t, int(i)) for t, low, high in ends for i in np.flatnonzero(high - low > 1e-6 * (1 + np.abs(low)))]

    def site_split(
        self, members: list[int], lower: Array, upper: Array, depth: int, path: list[tuple[int, int, float]], forms: bool, t: int, element: int
    ) -> None:
        low, high = (float(end[self.targets[t]][0, element]) for end in (self.root.lower, self.root.upper))
        threshold = 0.0 if low < 0 < high and self.r.random() < 0.5 else low + (high - low) * self.r.choice((0.5, self.r.random()))
        self.record(tree.SPLIT, t, element)
        self.floats["threshold"].append(threshold)
        path = [*path, (t, element, threshold)]
        self.node(members, lower, upper, depth + 1, path, forms)
        if self.r.random() < 0.1:  # split the upper half below its own threshold: the lower part is empty
            self.record(tree.SPLIT, t, element)
            self.floats["threshold"].append(threshold - 0.5)
            self.record(tree.EMPTY, t, element)
            path = [*path, (t, element, threshold - 0.5)]
        self.node(members, lower, upper, depth + 1, path, forms)

    def multipliers(self, case: int, betas: int, *record: int) -> None:
        """A leaf of mode 2, or another `record` with its columns."""
        which, r = self.slope_set(len(self.problem.network.nodes)), self.r
        self.record(*(record or (tree.LEAF, 2)), which)
        self.slopes(self.entries(which))
        self.floats["beta"] += [r.choice((0.0, 0.0, r.uniform(0, 0.5))) for _ in range(betas)]
        self.floats["gamma"] += [r.choice((0.0, 1.0, r.uniform(0, 2))) for _ in range(self.problem.cases.atoms(case))]

    def certificate(self) -> Certificate:
        ints = {name: np.array(values, np.uint8 if name in ("op", "tree_program") else np.int64) for name, values in self.ints.items()}
        floats = {name: np.array(values, np.float64) for name, values in self.floats.items()}
        return Certificate(1, "", "", "real", "", tuple(self.tensors), **ints, **floats)


INTS = ("tree_cases", "tree_count", "tree_program", "op", "arg", "set_site", "set_count", "set_element")
FLOATS = ("threshold", "slope", "beta", "gamma", "shift")


def random_certificate(r: Random, problem: Problem) -> Certificate:
    """Trees over all cases, those of one box together or alone."""
    writer, cases = _Writer(r, problem), problem.cases
    groups: dict[int, list[int]] = {}
    for case in range(len(cases)):
        groups.setdefault(cases.box(case), []).append(case)
    for members in groups.values():
        for part in [members] if r.random() < 0.5 else [[case] for case in members]:
            writer.tree(part)
    return writer.certificate()


def grown(problem: Problem, certificate: Certificate) -> tree.Forest:
    """The forest of a certificate."""
    return tree.grow(certificate, problem.cases, tree.sizes(certificate, problem.network))


def drawn(r: Random) -> tuple[Problem, Certificate] | None:
    """A problem and a certificate; None where not even a state can be computed (domains, overflow)."""
    network = random_network(r, 6)
    try:
        problem = random_problem(r, network)
    except Rejected:
        return None
    return problem, random_certificate(r, problem)
