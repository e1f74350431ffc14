"""Hill climbing: multipliers, slopes and thresholds moved by hand until the checker's own bound is as high as it gets.

A tree of a few splits leads to the leaf that holds the witness; its one backward pass is driven upwards. That leaf must never close, so
its bound must never become positive, whatever numbers stand in the certificate: sensible, enormous, or tiny.
"""

from __future__ import annotations

import io
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.forgery.broken import HONEST, Engine, stored_slopes
from benchmarks.forgery.proof import BY_MULTIPLIERS, LEAF, REFINE, ROWS, WITHIN, Node, Proof, Record, Tree, leaf, pack, split, within
from benchmarks.forgery.subjects import Subject, shifted
from verifier.checker import certificate as certificates
from verifier.checker import slack, tree, walk
from verifier.checker.bounds import Checker
from verifier.checker.refusal import Refusal
from verifier.checker.state import State

Array = NDArray[Any]
Random = np.random.Generator
LIMIT = 1 << 30


@dataclass
class Climb:
    """One climb over `steps` certificates; `values` are the leaf's bounds, -inf where the checker refused for another reason."""

    subject: Subject
    semantics: str
    random: Random
    steps: int = 30
    depth: int = 3
    wild: bool = False
    values: list[float] = field(default_factory=list)
    best: bytes = b""

    def run(self) -> None:
        """Climb; afterwards `best` is the certificate of the highest bound."""
        self.engine = Engine(self.subject, HONEST, self.random)
        proof, marked = self._start()
        height = self._height(proof, marked)
        self.best = self.packed(proof)
        step = 0.3
        for k in range(self.steps):
            changed = proof.copy()
            for record in self._records(changed, marked):
                self._move(record, step)
            value = self._height(changed, marked)
            if value >= height:
                proof, height, self.best = changed, value, self.packed(changed)
            elif k % 5 == 4:
                step /= 2

    def packed(self, proof: Proof) -> bytes:
        """The file."""
        return pack({**self.subject.manifest, "semantics": self.semantics, "tensors": proof.tensors}, proof.columns())

    # ---------------------------------------------------------------- the proof

    def _start(self) -> tuple[Proof, int]:
        """The proof to begin with, and the number of the marked node: of the witness's tree, in preorder."""
        subject, random, engine = self.subject, self.random, self.engine
        cases, box = subject.cases, subject.cases.box(subject.case)
        lower, upper = cases.lower[box][None].copy(), cases.upper[box][None].copy()
        proof = engine.proof
        point = engine.checker.state(1, subject.witness[None], subject.witness[None], {}, {}, 0)
        state = engine.checker.state(1, lower, upper, {}, {}, engine.program)
        cuts: list[tuple[int, int, float, bool]] = []
        for _ in range(int(random.integers(0, self.depth + 1))):
            cut = self._cut(state, point, lower, upper)
            if cut is not None:
                cuts.append(cut)
        root, position = self._tree(state, cuts)
        if random.random() < 0.3:
            root.derive.append(Record(REFINE))
        if random.random() < 0.3:
            rows = self._rows(state)
            root.derive += [] if rows is None else [rows]
        others = [k for k in range(len(cases)) if k != subject.case]
        proof.trees = [Tree([subject.case], engine.program, root), *(Tree([k], engine.program, leaf()) for k in others)]
        return proof, position

    def _cut(self, state: State, point: State, lower: Array, upper: Array) -> tuple[int, int, float, bool] | None:
        """A split and whether the witness lies above: often exactly on it."""
        choice = self.engine._choose(state, lower, upper)
        if choice is None:
            return None
        j, e, t = choice
        value = float(self.subject.witness[e]) if j < 0 else float(point.lower[j][0, e] / 2 + point.upper[j][0, e] / 2)
        if self.random.random() < 0.5:
            t = value if j >= 0 or lower[0, e] < value < upper[0, e] else t
        above = bool(value > t or (value == t and self.random.random() < 0.5))
        if j < 0:
            (lower if above else upper)[0, e] = t
        return j, e, t, above

    def _tree(self, state: State, cuts: list[tuple[int, int, float, bool]]) -> tuple[Node, int]:
        """Splits along the path to the witness; everything aside is a leaf by default bounds. The marked node is the last on the path."""
        ending = self._multipliers(state, sum(j >= 0 for j, *_ in cuts))
        node = Node(ending, [within(ending) for _ in range(int(self.random.integers(3)))])
        position = 0
        for j, e, t, above in reversed(cuts):
            low, high = (leaf(), node) if above else (node, leaf())
            node = split(self.engine._tensor(j, e), self.engine._element(j, e), t, low, high)
            position += 2 if above else 1
        return node, position

    def _multipliers(self, state: State, betas: int) -> Record:
        groups, values = stored_slopes(self.engine, state)
        self.engine.proof.sets.append(groups)
        gamma = np.zeros(self.subject.cases.atoms(self.subject.case))
        gamma[int(self.random.integers(len(gamma)))] = 1.0
        return Record(LEAF, [BY_MULTIPLIERS, len(self.engine.proof.sets) - 1], slope=values, beta=[0.0] * betas, gamma=gamma.tolist())

    def _rows(self, state: State) -> Record | None:
        """Bounds of some rows of a late operand, with slopes of the elements before it."""
        engine, subject = self.engine, self.subject
        late = [j for j in engine.checker.readers if j in engine.site_of and j not in engine.checker.exact and j not in subject.network.inputs]
        if not late:
            return None
        j = int(self.random.choice(late))
        before = [g for g in engine.proof.sets[-1] if self._site(g[0]) < j]
        engine.proof.sets.append(before)
        size = subject.network.nodes[j].size
        codes = self.random.choice(2 * size, int(self.random.integers(1, min(2 * size, 6) + 1)), replace=False).tolist()
        count = len(codes) * sum(len(elements) for _, _, elements in before)
        return Record(ROWS, [engine.proof.tensor(engine.site_of[j]), len(engine.proof.sets) - 1, len(codes), *codes],
                      slope=self.random.uniform(-0.2, 1.2, count).tolist())

    def _site(self, t: int) -> int:
        entry = self.engine.proof.tensors[t]
        return self.subject.network.sites[entry["tensor"], entry["site"]]

    # ---------------------------------------------------------------- climbing

    def _records(self, proof: Proof, marked: int) -> list[Record]:
        """What multiplies at the marked node: `within` records, and the ending."""
        node = proof.trees[0].root.nodes()[marked]
        return [*(record for record in node.derive if record.op == WITHIN), node.ending]

    def _move(self, record: Record, step: float) -> None:
        """Change some slopes, betas and gammas."""
        random = self.random
        for numbers, legal in ((record.slope, False), (record.beta, True), (record.gamma, True)):
            for k in np.flatnonzero(random.random(len(numbers)) < 0.5).tolist():
                numbers[k] = self._number(numbers[k], step)
                if legal:
                    numbers[k] = abs(numbers[k])
        if not self.wild:  # else the bound could be driven to 0 by weights of almost 0
            total = sum(record.gamma) or 1.0
            record.gamma[:] = [x / total for x in record.gamma] if sum(record.gamma) else [1.0] * len(record.gamma)

    def _number(self, x: float, step: float) -> float:
        random = self.random
        kind = random.random()
        if self.wild and kind < 0.3:
            return float(random.choice([-1, 1]) * 2.0 ** random.uniform(-1000, 1000))
        if self.wild and kind < 0.4:
            return float(x * 2.0 ** random.integers(-60, 61)) if abs(x) < 1e280 else 1.0
        if kind < 0.5:
            return float(random.choice([0.0, 1.0, 0.5, x]))
        return float(x + random.standard_normal() * step)

    def _height(self, proof: Proof, marked: int) -> float:
        """The checker's bound at the marked node; inf if that is closed."""
        found, hidden, subject = dict[int, float](), list[int](), self.subject

        def note(node: int, rule: str, best: float, *_: Any) -> None:
            found[node] = best
            if rule != "leaf":
                hidden.append(node)  # what is below was not looked at

        try:
            certificate = certificates.read(self.packed(proof), LIMIT)
            forest = tree.grow(certificate, subject.cases, tree.sizes(certificate, subject.network))
            network = shifted(subject.network, proof.shift)
            with redirect_stderr(io.StringIO()):
                loss = slack.Slack(network) if self.semantics == "float32" else None
            walk.check(Checker(network, loss), subject.cases, certificate, forest, 64, note)
        except Refusal as refusal:
            value = found.get(marked, np.inf if refusal.rule == "open" and not hidden else -np.inf)
        else:
            value = np.inf
        self.values.append(value)
        return value

