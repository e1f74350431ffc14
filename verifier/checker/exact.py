"""The exact twin of the kernel (`--arithmetic exact`): the rules of FORMAT.md over rational numbers, one node of a tree at a time.

Nothing rounds and nothing is batched, so it has neither error terms nor masks to get wrong: where it and the kernel disagree,
one of the two is wrong. Slopes that a certificate does not store are the kernel's default slopes, at states rounded outward to
doubles; smooth functions are enclosed by rationals. Written for clarity; for small networks, and for whoever doubts the kernel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from verifier.checker import functions
from verifier.checker.bounds import BACKWARD
from verifier.checker.certificate import Certificate
from verifier.checker.exact_bounds import ZERO, Box, ExactBounds, Form, Functional, Inherited, Slopes, Split, State, doubles, rationals
from verifier.checker.network import Elementwise, Network
from verifier.checker.read_property import Cases
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.checker.tree import CLIP, EMPTY, FORMS, LEAF, REFINE, ROWS, SPLIT, WITHIN, Forest

BY_BOUND, BY_FORMS, BY_MULTIPLIERS = 0, 1, 2
LEVELS, MOST_HALVED, HALVED_OF = 5, 256, 64  # how often a leaf's box is halved; halvings in one certificate, or one of so many leaves
LOW_SIDE = 1  # side of a child: value <= threshold


@dataclass(frozen=True)
class Scene:
    """What holds at a node of a tree: a box (input splits are in it), bounds from records above, the other splits on the path, the
    cases still open, the forms in force for each of them, one per atom (threshold subtracted), and whether a split or a `within` record
    is in force, so that bounds may contradict each other."""

    lower: Box
    upper: Box
    inherited: Inherited
    path: tuple[Split, ...]
    open_cases: tuple[int, ...]
    forms: Mapping[int, list[Form]]
    narrowed: bool = False


@dataclass(frozen=True)
class Cut:
    """What the forms leave of a box for one case. `refuted`: nothing, or an atom is positive all over the box."""

    refuted: bool
    lower: Box
    upper: Box


def check(network: Network, cases: Cases, certificate: Certificate, forest: Forest, slack: Slack | None = None) -> None:
    """Return only if every leaf of every tree closes the cases open there. Raises Rejected otherwise. `slack` is None for the reals."""
    ExactWalk(network, cases, certificate, forest, slack).run()


class ExactWalk:
    """One check of a forest, node after node of the preorder stream."""

    def __init__(self, network: Network, cases: Cases, certificate: Certificate, forest: Forest, slack: Slack | None) -> None:
        self.network, self.cases, self.certificate, self.forest = network, cases, certificate, forest
        self.bounds = ExactBounds(network, slack)
        self.halved, self.most_halved = 0, max(MOST_HALVED, int((forest.ending == LEAF).sum()) // HALVED_OF)

    def run(self) -> None:
        waiting: list[Scene] = []  # of nodes whose parents are done, the next one last
        nothing_open = math.inf  # the depth of a node where every case is closed: nothing below it can be open
        for node in range(len(self.forest.ending)):
            depth = int(self.forest.depth[node])
            if depth > nothing_open:
                continue
            scene = waiting.pop() if int(self.forest.parent[node]) >= 0 else self._root(int(self.forest.tree[node]))
            scene = self._records(node, scene)
            nothing_open = math.inf if scene.open_cases else depth
            if not scene.open_cases:
                continue
            if int(self.forest.ending[node]) == SPLIT:
                low, high = self._children(node, scene)
                waiting += [high, low]
            elif not self._closed(node, scene):
                raise Rejected("leaf", self.place(node))
        if waiting:
            raise Rejected("open", f"{len(waiting)} nodes are missing")

    def place(self, node: int) -> str:
        """Where a node is, for people."""
        return f"tree {int(self.forest.tree[node])}, node {node} of the stream"

    # ------------------------------------------------------------ names

    def _target(self, t: int) -> tuple[int | None, int]:
        """(the non-linear node of tensor number t, None for an input; the node whose elements it names)."""
        name = self.certificate.tensors[t]
        if name.kind == "input":
            return None, self.network.inputs[self.network.input_names.index(name.name)]
        site = self.network.sites[name.name, name.site]
        return site, self.network.nodes[site].inputs[name.argument]

    def _atoms(self, case: int) -> list[tuple[Functional, Fraction]]:
        """(functional, threshold) of every atom of a case; unsafe is functional <= threshold."""
        found = []
        for atom in range(int(self.cases.atom_start[case]), int(self.cases.atom_start[case + 1])):
            functional: Functional = {}
            for place, coefficient in self.cases.rows[int(self.cases.row[atom])]:
                node, element = self._variable(place)
                row = functional.setdefault(node, {})
                row[element] = row.get(element, ZERO) + coefficient
            found.append((functional, Fraction(float(self.cases.threshold[atom]))))
        return found

    def _variable(self, place: int) -> tuple[int, int]:
        """(node, element) of a place among flat outputs, then flat inputs."""
        for node in (*self.network.outputs, *self.network.inputs):
            if place < self.network.nodes[node].size:
                return node, place
            place -= self.network.nodes[node].size
        raise Rejected("unsupported-property", f"variable {place}")

    # ------------------------------------------------------------ scenes

    def _root(self, tree: int) -> Scene:
        forest, cases = self.forest, self.cases
        members = tuple(int(c) for c in forest.tree_cases[int(forest.tree_start[tree]) : int(forest.tree_start[tree + 1])])
        box = int(cases.case_box[members[0]])
        return Scene(self._split_box(cases.lower[box].tolist()), self._split_box(cases.upper[box].tolist()), {}, (), members, {})

    def _split_box(self, ends: list[float]) -> Box:
        found, at = {}, 0
        for node in self.network.inputs:
            size = self.network.nodes[node].size
            found[node] = [Fraction(x) for x in ends[at : at + size]]
            at += size
        return found

    def _children(self, node: int, scene: Scene) -> tuple[Scene, Scene]:
        site, target = self._target(int(self.forest.tensor[node]))
        scene = replace(scene, narrowed=True)
        element, threshold = int(self.forest.element[node]), Fraction(float(self.forest.threshold[node]))
        if site is not None:
            low, high = (replace(scene, path=(*scene.path, Split(target, element, threshold, side))) for side in (LOW_SIDE, LOW_SIDE + 1))
            return low, high
        if not scene.lower[target][element] < threshold < scene.upper[target][element]:
            raise Rejected("threshold", f"an input is not split strictly inside its interval, {self.place(node)}")
        return self._cut_in_two(scene, target, element, threshold)

    def _cut_in_two(self, scene: Scene, target: int, element: int, threshold: Fraction) -> tuple[Scene, Scene]:
        """What lies below and above a value of an input."""
        upper, lower = list(scene.upper[target]), list(scene.lower[target])
        upper[element] = lower[element] = threshold
        return replace(scene, upper={**scene.upper, target: upper}), replace(scene, lower={**scene.lower, target: lower})

    def _state(self, node: int, scene: Scene, program: int | None = None, last: int | None = None) -> State:
        """The state by the tree's program; a contradiction where nothing narrows the box is a defect."""
        if program is None:
            program = int(self.forest.program[int(self.forest.tree[node])])
        state = self.bounds.state(scene.lower, scene.upper, scene.inherited, scene.path, program, last)
        if state.crossed and not scene.narrowed:
            raise Rejected("crossed", f"bounds contradict each other, {self.place(node)}")
        return state

    def _inherit(self, node: int, scene: Scene, state: State) -> Scene:
        """`scene` with the bounds of `state` that relaxations read; what it does not reach stays as it was."""
        if state.crossed and scene.open_cases:
            raise Rejected("crossed", f"bounds contradict each other, {self.place(node)}")
        found = {k: (list(state.lower[k]), list(state.upper[k])) for k in self.bounds.readers if k < len(state.lower)}
        return replace(scene, inherited={**scene.inherited, **found})

    # ------------------------------------------------------------ records

    def _records(self, node: int, scene: Scene) -> Scene:
        for record in range(*self.forest.derive_range(node)):
            kind = int(self.forest.op[record])
            if kind == REFINE:
                scene = self._inherit(node, scene, self._state(node, scene, BACKWARD))
            elif kind == ROWS:
                scene = self._inherit(node, scene, self._with_rows(node, scene, record))
            elif kind == FORMS:
                scene = self._with_forms(node, scene)
            elif kind == CLIP:
                scene = self._clipped(node, scene)
            elif kind == WITHIN:
                scene = self._within(node, scene, record)
            else:
                raise Rejected("no-rule", f"derive record {kind}, {self.place(node)}")
        return scene

    def _with_rows(self, node: int, scene: Scene, record: int) -> State:
        """The state up to a tensor, with backward bounds of rows of it; all of these read the state as it was before."""
        t, which, codes, at = self.forest.rows_record(record)
        _, target = self._target(int(t))
        state = self._state(node, scene, last=target)
        entries, found = self._entries(int(which)), []
        for k, code in enumerate(map(int, codes)):
            slopes = self._slopes(state, int(which), int(at) + k * entries)
            found.append((code, self.bounds.lower_bound(state, {target: {code // 2: Fraction(1 - 2 * (code % 2))}}, ZERO, slopes)))
        for code, bound in found:
            self.bounds.intersect(state, target, code // 2, *((bound, None) if code % 2 == 0 else (None, -bound)))
        return state

    def _within(self, node: int, scene: Scene, record: int) -> Scene:
        """Bounds of what the plane of this record, <= 0 where the case is violated, leaves of the box; closed where that is nothing."""
        if not scene.open_cases:
            return scene
        state = self._state(node, scene)
        plane = self._by_multipliers(node, scene, state, record)
        empty = plane.minimum(state.lower, state.upper) > 0
        self.bounds.within(state, plane)
        open_cases = () if empty or state.crossed else scene.open_cases
        return self._inherit(node, replace(scene, open_cases=open_cases, narrowed=True), state)

    def _with_forms(self, node: int, scene: Scene) -> Scene:
        """New forms for the open cases; what they refute is closed from here on."""
        state = self._state(node, scene)
        forms = {case: self._forms(state, case) for case in scene.open_cases}
        rest = tuple(case for case in scene.open_cases if not self._refuted(state, scene, case))
        return replace(scene, forms=forms, open_cases=rest)

    def _refuted(self, state: State, scene: Scene, case: int) -> bool:
        """An atom is positive by its form over the box, or over the bounds of the variables it names."""
        for functional, threshold in self._atoms(case):
            named = sum((d * (state.lower if d > 0 else state.upper)[k][i] for k, row in functional.items() for i, d in row.items()), -threshold)
            if named > 0 or self.bounds.form(state, functional, -threshold).minimum(scene.lower, scene.upper) > 0:
                return True
        return False

    def _forms(self, state: State, case: int) -> list[Form]:
        """Linear lower bounds of each atom's left side minus its threshold."""
        return [self.bounds.form(state, functional, -threshold) for functional, threshold in self._atoms(case)]

    def _clipped(self, node: int, scene: Scene) -> Scene:
        """The hull over the open cases of what their forms leave of the box; cases of which nothing is left are closed."""
        cuts = {case: self._cut(node, scene, case) for case in scene.open_cases}
        rest = tuple(case for case, cut in cuts.items() if not cut.refuted)
        if not rest:
            return replace(scene, open_cases=())
        lower = {k: [min(ends) for ends in zip(*(cuts[case].lower[k] for case in rest), strict=True)] for k in scene.lower}
        upper = {k: [max(ends) for ends in zip(*(cuts[case].upper[k] for case in rest), strict=True)] for k in scene.upper}
        return replace(scene, open_cases=rest, lower=lower, upper=upper)

    def _cut(self, node: int, scene: Scene, case: int) -> Cut:
        """With L <= form on the box and a_i > 0, form >= L + a_i (x_i - lower_i): not positive only where x_i <= lower_i - L / a_i."""
        if case not in scene.forms:
            raise Rejected("no-forms", self.place(node))
        lower, upper = ({k: list(end) for k, end in ends.items()} for ends in (scene.lower, scene.upper))
        refuted = False
        for form in scene.forms[case]:
            least = form.minimum(scene.lower, scene.upper)
            refuted |= least > 0
            for k, row in form.coefficients.items():
                for i, a in row.items():
                    if a > 0:
                        upper[k][i] = min(upper[k][i], scene.lower[k][i] + max(-least, ZERO) / a)
                    elif a < 0:
                        lower[k][i] = max(lower[k][i], scene.upper[k][i] + max(-least, ZERO) / a)
        refuted |= any(low > high for k in lower for low, high in zip(lower[k], upper[k], strict=True))
        return Cut(refuted, lower, upper)

    # ------------------------------------------------------------ leaves

    def _closed(self, node: int, scene: Scene) -> bool:
        """Whether this leaf closes every case that is open."""
        ending, mode = int(self.forest.ending[node]), int(self.forest.mode[node])
        if ending == EMPTY:
            _, target = self._target(int(self.forest.tensor[node]))
            return (target, int(self.forest.element[node])) in self._state(node, scene).crossed
        if ending != LEAF:
            raise Rejected("no-rule", f"ending {ending}, {self.place(node)}")
        if mode == BY_FORMS:
            if all(self._cut(node, scene, case).refuted for case in scene.open_cases):
                return True
            if self.halved >= self.most_halved:
                return False
            self.halved, mode = self.halved + 1, BY_BOUND
        state = self._state(node, scene)
        if state.crossed:
            return True
        if mode == BY_BOUND:
            return self._closed_by_bound(node, scene, state, LEVELS)
        if mode == BY_MULTIPLIERS:
            return self._by_multipliers(node, scene, state, int(self.forest.record[node])).minimum(state.lower, state.upper) > 0
        raise Rejected("no-rule", f"leaf of mode {mode}, {self.place(node)}")

    def _closed_by_bound(self, node: int, scene: Scene, state: State, levels: int) -> bool:
        """Whether bounds close every open case over the box, or over both its halves across the widest side, `levels` times."""
        if state.crossed or all(self._refuted(state, scene, case) for case in scene.open_cases):
            return True
        if not levels or self.halved >= self.most_halved:
            return False
        self.halved += 1
        width, target, element = max(
            ((high - low, k, i) for k in scene.lower for i, (low, high) in enumerate(zip(scene.lower[k], scene.upper[k], strict=True))),
            key=lambda side: side[0],
        )
        halves = self._cut_in_two(replace(scene, narrowed=True), target, element, scene.lower[target][element] + width / 2)
        return all(self._closed_by_bound(node, half, self._state(node, half), levels - 1) for half in halves)

    def _by_multipliers(self, node: int, scene: Scene, state: State, record: int) -> Form:
        """Below the gamma-weighted atoms of the one case of the tree, plus beta (z - t) for z <= t and beta (t - z) for z >= t on the path."""
        forest, columns = self.forest, self.certificate
        case = int(forest.tree_cases[int(forest.tree_start[int(forest.tree[node])])])
        functional, constant = Functional(), ZERO
        for k, (atom, threshold) in enumerate(self._atoms(case)):
            gamma = Fraction(float(columns.gamma[int(forest.gamma_at[record]) + k]))
            constant -= gamma * threshold
            for target, row in atom.items():
                for element, coefficient in row.items():
                    _accumulate(functional, target, element, gamma * coefficient)
        for k, split in enumerate(scene.path):
            beta = Fraction(float(columns.beta[int(forest.beta_at[record]) + k])) * (1 if split.side == LOW_SIDE else -1)
            _accumulate(functional, split.node, split.element, beta)
            constant -= beta * split.threshold
        slopes = self._slopes(state, int(forest.slope_set[record]), int(forest.slope_at[record]))
        return self.bounds.form(state, functional, constant, slopes)

    # ------------------------------------------------------------ stored slopes

    def _entries(self, which: int) -> int:
        return sum(len(elements) for _, _, elements in self.forest.slope_sets[which])

    def _slopes(self, state: State, which: int, at: int) -> Slopes:
        """The slopes of set `which` that stand in the column from `at` on, where the function is not linear on this state; of an
        element that is named twice, the last."""
        found: dict[tuple[int, int], dict[int, Fraction]] = {}
        for t, side, elements in self.forest.slope_sets[which]:
            site, target = self._target(int(t))
            node = None if site is None else self.network.nodes[site]
            if site is None or not isinstance(node, Elementwise):
                raise Rejected("slopes", f"tensor {t} of slope set {which} is not the argument of an elementwise function")
            linear = functions.is_linear(node.function, *doubles(state.lower[target], state.upper[target]))[0]
            for element, slope in zip(map(int, elements), rationals(self.certificate.slope[at : at + len(elements)], len(elements)), strict=True):
                if not linear[element]:
                    found.setdefault((site, int(side)), {})[element] = slope
            at += len(elements)
        return found


def _accumulate(functional: Functional, node: int, element: int, coefficient: Fraction) -> None:
    row = functional.setdefault(node, {})
    row[element] = row.get(element, ZERO) + coefficient
