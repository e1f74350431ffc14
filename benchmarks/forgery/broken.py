"""Broken engines: an honest-looking search for a proof with one lie in it, whose certificates carry the true hashes.

The search splits inputs or neurons until its bounds say that a case is closed. It computes bounds with the checker's own rules, so that
nothing but the lie (or its impatience: after so many nodes it calls the rest closed) separates it from an honest engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks.forgery.proof import BY_FORMS, BY_MULTIPLIERS, CLIP, EMPTY, FORMS, LEAF, REFINE, Group, Node, Proof, Record, Tree, leaf, split, within
from benchmarks.forgery.subjects import Subject, shifted
from verifier.checker import functions, read_model
from verifier.checker.bounds import Bounds, Checker, Slopes
from verifier.checker.network import Constant, Elementwise, Input, Network
from verifier.checker.network import Node as GraphNode
from verifier.checker.read_property import Cases
from verifier.checker.refusal import Refusal
from verifier.checker.state import Forms, Planes, State

Array = NDArray[Any]
Random = np.random.Generator
SMALL = 2_000  # elements of a network up to which backward bounds of all layers are cheap


@dataclass(frozen=True)
class Lie:
    """What is wrong with an engine. `model`: its bytes as it reads them; `box`, `threshold`: shares by which it narrows the property;
    `shrink`, `planes`: by which its intervals and relaxations are too tight; chances `drop` (a child taken for closed), `stale` (the state of
    the sibling used), `swap` (children exchanged); `first`: only the first open case counts."""

    name: str
    model: Callable[[bytes, Random], bytes] | None = None
    box: float = 0.0
    threshold: float = 0.0
    shrink: float = 0.0
    planes: float = 0.0
    drop: float = 0.0
    stale: float = 0.0
    swap: float = 0.0
    first: bool = False


def skipped_bias(data: bytes, random: Random) -> bytes:
    """One vector of constants becomes 0."""
    return _changed(data, random, lambda value: value.ndim == 1, np.zeros_like)


def wrong_weights(data: bytes, random: Random) -> bytes:
    """One matrix or kernel is off by one index, or 1% too small."""
    change: Callable[[Array], Array] = (lambda w: np.roll(w, 1, -1)) if random.random() < 0.5 else (lambda w: (w * np.float32(0.99)).astype(w.dtype))
    return _changed(data, random, lambda value: value.ndim > 1, change)


def wrong_pad(data: bytes, random: Random) -> bytes:
    """Padding at the other end; without any, weights off by one."""
    model = onnx.load_model_from_string(data)
    pads = [a.ints for node in model.graph.node for a in node.attribute if a.name == "pads" and sum(a.ints)]
    if not pads:
        return _changed(data, random, lambda value: value.ndim > 1, lambda w: np.roll(w, 1, 0))
    chosen = pads[int(random.integers(len(pads)))]
    half, axis = len(chosen) // 2, int(random.integers(len(chosen) // 2))
    chosen[axis], chosen[axis + half] = chosen[axis] + chosen[axis + half], 0
    return bytes(model.SerializeToString())


def _changed(data: bytes, random: Random, fits: Callable[[Array], bool], change: Callable[[Array], Array]) -> bytes:
    model = onnx.load_model_from_string(data)
    found = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and fits(numpy_helper.to_array(t))]
    if found:
        chosen = found[int(random.integers(len(found)))]
        chosen.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(chosen)).copy(), chosen.name))
    return bytes(model.SerializeToString())


HONEST = Lie("none")
LIES = (
    Lie("impatient"),
    Lie("bounds shrunk by 1%", shrink=0.01),
    Lie("bounds shrunk by 30%", shrink=0.3),
    Lie("epsilon shrunk by 1%", box=0.01),
    Lie("epsilon shrunk by half", box=0.5),
    Lie("epsilon shrunk to a corner", box=0.97),
    Lie("threshold moved by 1e-9", threshold=1e-9),
    Lie("threshold moved by 10%", threshold=0.1),
    Lie("threshold moved a lot", threshold=10.0),
    Lie("relaxations too tight by 1%", planes=0.01),
    Lie("relaxations too tight by half", planes=0.5),
    Lie("dropped child", drop=0.3),
    Lie("stale sibling bounds", stale=0.5),
    Lie("children swapped", swap=0.5),
    Lie("one case of many", first=True),
    Lie("skipped bias", model=skipped_bias),
    Lie("wrong pad", model=wrong_pad),
    Lie("wrong weights", model=wrong_weights),
)


class LyingChecker(Checker):
    """The checker's rules, too tight."""

    def __init__(self, network: Network, lie: Lie) -> None:
        super().__init__(network, None)
        self.lie = lie

    def _interval(self, state: State, i: int, node: GraphNode, boxes: Bounds) -> tuple[Array, Array]:
        low, high = super()._interval(state, i, node, boxes)
        if isinstance(node, Input | Constant):
            return low, high
        cut = (high - low) * (self.lie.shrink / 2)
        return low + cut, high - cut

    def planes(self, state: State, i: int, node: Elementwise, slopes: Slopes | None = None) -> Planes:
        found = super().planes(state, i, node, slopes)
        if not self.lie.planes:
            return found
        j = node.inputs[0]
        room = (state.upper[j] - state.lower[j])[:, None] * (self.lie.planes / 4)
        return replace(found, offset_lower=found.offset_lower + room, offset_upper=found.offset_upper - room)


def told(subject: Subject, lie: Lie, random: Random) -> tuple[Network, Cases]:
    """The problem as the broken engine understands it: the same names and shapes."""
    network, cases = subject.network, subject.cases
    if lie.model is not None:
        try:
            network = read_model.read(lie.model(subject.model, random))
        except (Refusal, ValueError):
            network = subject.network
    centre = cases.lower + (cases.upper - cases.lower) * random.random(cases.lower.shape)
    share = lie.box * (1.0 if lie.box < 0.9 else float(random.random()))
    shrunk = [centre + (end - centre) * (1 - share) for end in (cases.lower, cases.upper)]
    moved = cases.threshold - lie.threshold * (1 + np.abs(cases.threshold))
    return network, replace(cases, lower=np.maximum(shrunk[0], cases.lower), upper=np.minimum(shrunk[1], cases.upper), threshold=moved)


@dataclass
class Engine:
    """One run of a broken engine; `nodes` it looks at, at most."""

    subject: Subject
    lie: Lie
    random: Random
    nodes: int = 40
    proof: Proof = field(default_factory=Proof)

    def __post_init__(self) -> None:
        subject, random = self.subject, self.random
        self.network, self.cases = told(subject, self.lie, random)
        self.proof.shift = [float(x) for x in random.choice([0.0, 0.5, -3.0], sum(s.rows for s in subject.network.softmaxes))]
        self.network = shifted(self.network, self.proof.shift)
        self.checker = LyingChecker(self.network, self.lie)
        self.site_of: dict[int, dict[str, Any]] = {}
        for (name, k), i in subject.network.sites.items():
            for argument, j in enumerate(subject.network.nodes[i].inputs):
                self.site_of.setdefault(j, {"tensor": name, "site": k, "argument": argument})
        size = sum(node.size for node in subject.network.nodes)
        self.program = int(random.choice([0, 1, 2, 3])) if size <= SMALL else 0
        self.inputs_only = self.checker.n_in <= 8 and random.random() < 0.5
        self.style = str(random.choice(["bound", "forms", "multipliers", "clip"]))
        self.refined = bool(random.random() < 0.3) and size <= SMALL
        self.left = self.nodes

    def run(self) -> Proof:
        """The certificate of everything that it takes for proven."""
        boxes: dict[int, list[int]] = {}
        for case in range(len(self.cases)):
            boxes.setdefault(self.cases.box(case), []).append(case)
        for box, members in boxes.items():
            lower, upper = self.cases.lower[box][None], self.cases.upper[box][None]
            together = self.style != "multipliers" and (len(members) > 20 or self.random.random() < 0.5)
            for part in [members] if together else [[case] for case in members]:
                self.left = self.nodes
                root = self._node(part, lower, upper, {}, [], None)
                if self.refined:
                    root.derive.insert(0, Record(REFINE))
                self.proof.trees.append(Tree(part, self.program, root))
        return self.proof

    def _node(self, members: list[int], lower: Array, upper: Array, cuts: Bounds, path: list[int], stale: State | None) -> Node:
        self.left -= 1
        if self.random.random() < self.lie.drop and path:
            return leaf()
        try:
            state = stale if stale is not None else self.checker.state(1, lower, upper, {}, cuts, self.program)
            excess = self._excess(members[:1] if self.lie.first else members, state, lower, upper)
        except Refusal:
            return leaf()
        if (excess > 0).all() or self.left <= 0 or len(path) > 60:
            return self._close(members, state, path)
        choice = self._choose(state, lower, upper)
        return leaf() if choice is None else self._split(members, lower, upper, cuts, path, state, *choice)

    def _excess(self, members: list[int], state: State, lower: Array, upper: Array) -> Array:
        """Per case the largest proven excess of one of its atoms."""
        if state.crossed.any():
            return np.full(len(members), np.inf)
        found = []
        for case in members[:200]:
            atoms = np.arange(self.cases.atom_start[case], self.cases.atom_start[case + 1])
            forms = atom_forms(self.checker, self.cases, state, atoms)
            found.append(float((self.checker.evaluate(forms, lower, upper)[0] - self.cases.threshold[atoms]).max(initial=-math.inf)))
        return np.array(found)

    def _choose(self, state: State, lower: Array, upper: Array) -> tuple[int, int, float] | None:
        """(-1, input, threshold), or (graph node, element, threshold)."""
        wide = np.flatnonzero(upper[0] > np.nextafter(lower[0], np.inf))
        operands = [j for j in self.checker.readers if j in self.site_of and j not in self.network.inputs]
        loose = [(j, int(e)) for j in operands for e in np.flatnonzero(self.checker.matter(state, j).any(0))[:50]]
        if loose and not (self.inputs_only and len(wide)):
            j, e = loose[int(self.random.integers(len(loose)))]
            low, high = float(state.lower[j][0, e]), float(state.upper[j][0, e])
            return j, e, 0.0 if low < 0 < high else low / 2 + high / 2
        if not len(wide):
            return None
        width = (upper - lower)[0]
        at = int(width.argmax()) if self.random.random() < 0.7 else int(self.random.choice(wide))
        t = float(lower[0, at] + width[at] * self.random.choice([0.5, 0.5, 0.25]))
        return (-1, at, t) if lower[0, at] < t < upper[0, at] else None

    def _split(
        self, members: list[int], lower: Array, upper: Array, cuts: Bounds, path: list[int], state: State, j: int, e: int, t: float
    ) -> Node:
        stale = state if self.random.random() < self.lie.stale else None
        sides = []
        for side in (0, 1):
            ends, halves = (lower.copy(), upper.copy()), dict(cuts)
            if j < 0:
                ends[1 - side][0, e] = t
            else:
                low, high = halves.get(j, tuple(np.full((1, self.network.nodes[j].size), sign * np.inf) for sign in (-1, 1)))
                low, high = low.copy(), high.copy()
                (high if side == 0 else low)[0, e] = t
                halves[j] = low, high
            child = self._node(members, *ends, halves, [*path, j], stale if side == 1 else None)
            sides.append(child)
        if self.random.random() < self.lie.swap:
            sides.reverse()
        found = split(self._tensor(j, e), self._element(j, e), t, *sides)
        if self.style in ("forms", "clip") and self.random.random() < 0.7:
            found.derive.append(Record(FORMS))
            if self.style == "clip":
                for child in sides:
                    child.derive.insert(0, Record(CLIP))
        return found

    def _tensor(self, j: int, e: int) -> int:
        if j >= 0:
            return self.proof.tensor(self.site_of[j])
        name, _ = self._input(e)
        return self.proof.tensor({"input": name})

    def _element(self, j: int, e: int) -> int:
        return e if j >= 0 else self._input(e)[1]

    def _input(self, e: int) -> tuple[str, int]:
        for name, i in zip(self.network.input_names, self.network.inputs, strict=True):
            if e < self.network.nodes[i].size:
                return name, e
            e -= self.network.nodes[i].size
        raise IndexError(f"input element {e} too many")

    def _close(self, members: list[int], state: State, path: list[int]) -> Node:
        """A leaf that claims to close everything."""
        if self.style == "multipliers" and len(members) == 1:
            ending = self._multipliers(members[0], state, path)
            return Node(ending, [within(ending) for _ in range(int(self.random.integers(3)))])
        if self.style in ("forms", "clip") and self.random.random() < 0.3:
            return Node(Record(LEAF, [BY_FORMS]), [Record(FORMS)])
        if state.crossed.any() and state.where and self.random.random() < 0.5:
            j = next(iter(state.where))
            if j in self.site_of:
                return Node(Record(EMPTY, [self.proof.tensor(self.site_of[j]), int(state.where[j][0].argmax())]))
        return leaf()

    def _multipliers(self, case: int, state: State, path: list[int]) -> Record:
        """Slopes of its own bounds, and a weight for the best atom."""
        groups, values = stored_slopes(self, state)
        self.proof.sets.append(groups)
        gamma = np.zeros(self.cases.atoms(case))
        gamma[int(self.random.integers(len(gamma)))] = 1.0
        beta = [float(self.random.choice([0.0, self.random.random()])) for j in path if j >= 0]
        return Record(LEAF, [BY_MULTIPLIERS, len(self.proof.sets) - 1], slope=values, beta=beta, gamma=gamma.tolist())


def stored_slopes(engine: Engine, state: State) -> tuple[list[Group], list[float]]:
    """A slope set over all undecided elements, and default slopes for it."""
    groups, values = list[Group](), list[float]()
    for (name, k), i in engine.subject.network.sites.items():
        node = engine.network.nodes[i]
        if not isinstance(node, Elementwise):
            continue
        low, high = state.lower[node.inputs[0]], state.upper[node.inputs[0]]
        elements = np.flatnonzero(~functions.is_linear(node.function, low[0], high[0]))[:2000].tolist()
        if elements:
            slopes = functions.default_slopes(node.function, low, high)
            t = engine.proof.tensor({"tensor": name, "site": k, "argument": 0})
            for side in (0, 1):
                groups.append((t, side, elements))
                values += slopes[side][0, elements].tolist()
    return groups, values


def atom_forms(checker: Checker, cases: Cases, state: State, atoms: Array) -> Forms:
    """Forms of the functionals of these atoms, without the thresholds."""
    outputs, inputs, _, _ = cases.functionals(cases.row[atoms])
    start: dict[int, Array] = {}
    for nodes, dense in ((checker.network.outputs, outputs), (checker.network.inputs, inputs)):
        at = 0
        for i in nodes:
            part = dense[:, at : at + checker.network.nodes[i].size]
            at += checker.network.nodes[i].size
            if part.any():
                start[i] = start[i] + part[None] if i in start else part[None]
    zero = np.zeros((1, len(atoms)))
    return checker.forms(state, start, zero, zero, {})
