"""The loop: every node of every tree, in batches; what is closed is counted, and the count must be the one the trees ask for.

Nodes wait in chunks, and are taken in blocks of one kind each (order.py). A child gets copies of what its parent knows, never views,
or the same arrays, which nothing writes to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from verifier.checker import arithmetic, functions
from verifier.checker.arithmetic import Array
from verifier.checker.bounds import BACKWARD, Bounds, Checker
from verifier.checker.certificate import Certificate
from verifier.checker.network import Elementwise
from verifier.checker.order import Kind, Order
from verifier.checker.read_property import Cases
from verifier.checker.refusal import Rejected
from verifier.checker.state import Forms, State
from verifier.checker.tree import CLIP, EMPTY, FORMS, LEAF, REFINE, ROWS, SPLIT, WITHIN, Forest

BY_BOUND, BY_FORMS, BY_MULTIPLIERS = 0, 1, 2
MOST_FAILURES = 20_000  # after that many there is no use in looking for more
LEVELS, MOST_HALVED, HALVED_OF = 5, 256, 64  # how often a leaf's box is halved; halvings in one certificate, or one of so many leaves
Diagnose = Callable[[int, str, float, Array, Array, Array], None]  # node, what failed, best value, the node's box, cases that are open


@dataclass(frozen=True)
class Chunk:
    """M nodes (numbers in the forest). `box` [M] indexes `lower`, `upper` [K, n_in]; `open_` [M, C]: cases of the node's tree not
    yet closed; `forms` [M boxes] over the functionals `rows`, or None; `known`: bounds [M or 1, size] by records above; `narrowed` [M]:
    a split or `within` is in force, so that bounds may contradict each other."""

    nodes: Array
    box: Array
    lower: Array
    upper: Array
    open_: Array
    forms: Forms | None
    rows: Array
    known: Bounds
    narrowed: Array

    def __len__(self) -> int:
        return len(self.nodes)

    def select(self, keep: Array) -> Chunk:
        """The nodes `keep` (indices), with the boxes they use."""
        used, box = np.unique(self.box[keep], return_inverse=True)
        forms = None if self.forms is None else self.forms.select(keep)
        lower, upper = (self.lower, self.upper) if len(used) == len(self.lower) else (self.lower[used], self.upper[used])
        known = {i: (low if len(low) == 1 else low[keep], high if len(high) == 1 else high[keep]) for i, (low, high) in self.known.items()}
        return Chunk(self.nodes[keep], box, lower, upper, self.open_[keep], forms, self.rows, known, self.narrowed[keep])

    def boxes(self) -> tuple[Array, Array]:
        """lower, upper [M, n_in], or [1, n_in] where all nodes share one box."""
        return (self.lower, self.upper) if len(self.lower) == 1 else (self.lower[self.box], self.upper[self.box])


class Walk:
    """One check of a forest: `run` returns only if every case of every tree was closed."""

    def __init__(self, checker: Checker, cases: Cases, certificate: Certificate, forest: Forest, block: int, diagnose: Diagnose | None) -> None:
        self.checker, self.cases, self.certificate, self.forest, self.block = checker, cases, certificate, forest, block
        self.diagnose, self.leaves = diagnose, forest.ending != SPLIT
        self.order = Order([node.size for node in checker.network.nodes], checker.n_in, block)
        self.most_halved = int(np.maximum(MOST_HALVED, self.leaves.sum() // HALVED_OF))
        self.closed = self.failed = self.visited = self.halved = 0
        self.kept: dict[object, State] = {}  # the last state with nothing but a box, by program and box: trees share boxes
        self.targets = [self._target(t) for t in range(len(certificate.tensors))]
        self.splits = [column.tolist() for column in (forest.parent, forest.tensor, forest.element, forest.threshold, forest.side)]
        starts = dict(zip(checker.network.inputs, np.cumsum([0, *checker.sizes]).tolist()[:-1], strict=True))
        self.offset = np.array([starts[i] if site < 0 else -1 for site, i in self.targets], np.int64)  # of an input's elements among all inputs'

    def run(self) -> None:
        self.count()
        compare(self.forest, self.visited, self.closed, self.failed)

    def count(self, share: slice | Array = slice(None)) -> None:
        """Walk a share of the nodes, a part of their preorder, and what is above them. Counts, of the share, nodes visited and leaves
        closed, and all nodes that failed: walks of shares that make up the whole count together what `compare` asks for."""
        self.mine = np.isin(np.arange(len(self.leaves)), np.arange(len(self.leaves))[share])
        self.nodes_before, self.leaves_before = (np.concatenate([[0], np.cumsum(found)]) for found in (self.mine, self.mine & self.leaves))
        waiting: dict[Kind, list[Chunk]] = {}
        self._push(waiting, self._roots())
        while any(waiting.values()):
            chunk = self._next(waiting)
            self.visited += int(self.mine[chunk.nodes].sum())
            self._push(waiting, self._process(chunk))

    def _push(self, waiting: dict[Kind, list[Chunk]], chunks: list[Chunk]) -> None:
        """Add blocks of nodes of one kind each. Left out are nodes below which, and at which, nothing is of the share."""
        for chunk in chunks:
            mine, near = self.nodes_before[self.forest.end[chunk.nodes]] > self.nodes_before[chunk.nodes], np.argsort(chunk.nodes)
            signature, rows = np.where(mine, self.forest.signature[chunk.nodes], -1), None if chunk.forms is None else tuple(chunk.rows.tolist())
            for one in np.unique(signature[mine]).tolist():
                found = near[signature[near] == one]  # in preorder: nodes near each other have much in common
                kind = Kind(one, bool(self.leaves[chunk.nodes[found[0]]]), chunk.open_.shape[1], rows, tuple(sorted(chunk.known)))
                parts = [chunk.select(keep) for keep in np.array_split(found, -(-len(found) // self.block))]
                waiting[kind] = waiting.pop(kind, []) + parts[::-1]

    def _next(self, waiting: dict[Kind, list[Chunk]]) -> Chunk:
        """A block of nodes of one kind: what came last, and as much of the rest as fits."""
        kind = self.order.choose({kind: sum(map(len, parts)) for kind, parts in waiting.items() if parts})
        chunk = (parts := waiting[kind]).pop()
        while parts and len(chunk) + len(parts[-1]) <= self.block:
            chunk = _joined(chunk, parts.pop())
        return chunk

    # ---------------------------------------------------------------- names

    def _target(self, t: int) -> tuple[int, int]:
        """(the non-linear node of tensor number t, or -1 for an input; the node whose elements it names)."""
        name, network = self.certificate.tensors[t], self.checker.network
        if name.kind == "input":
            return -1, network.inputs[network.input_names.index(name.name)]
        site = network.sites[name.name, name.site]
        return site, network.nodes[site].inputs[name.argument]

    def _roots(self) -> list[Chunk]:
        """The roots of all trees. Chunks are of one width, so trees with many cases do not widen the others."""
        forest, cases = self.forest, self.cases
        roots, widths = np.flatnonzero(forest.parent < 0), np.diff(forest.tree_start)
        chunks = []
        for width in np.unique(widths):
            part = roots[widths[forest.tree[roots]] == width]
            first = forest.tree_cases[forest.tree_start[forest.tree[part]]]
            used, box = np.unique(cases.case_box[first], return_inverse=True)
            is_open, narrowed = np.ones((len(part), width), dtype=bool), np.zeros(len(part), dtype=bool)
            chunks.append(Chunk(part, box, cases.lower[used], cases.upper[used], is_open, None, np.zeros(0, np.int64), {}, narrowed))
        return chunks

    def _pairs(self, chunk: Chunk) -> tuple[Array, Array, Array]:
        """Open (node of the chunk, slot, case) triples."""
        node, slot = np.nonzero(chunk.open_)
        return node, slot, self.forest.tree_cases[self.forest.tree_start[self.forest.tree[chunk.nodes[node]]] + slot]

    def _atoms(self, case: Array) -> tuple[Array, Array]:
        """The atoms of these cases, concatenated, and for each the index of its case in `case`."""
        start, count = self.cases.atom_start[case], self.cases.atom_start[case + 1] - self.cases.atom_start[case]
        owner = np.repeat(np.arange(len(case)), count)
        return np.repeat(start - np.cumsum(count) + count, count) + np.arange(len(owner)), owner

    def place(self, node: int) -> str:
        """Where a node is, for people."""
        return f"tree {self.forest.tree[node]}, node {node} of the stream"

    # ---------------------------------------------------------------- one chunk

    def _process(self, chunk: Chunk) -> list[Chunk]:
        """Do the records of these nodes of one signature, close the leaves, return the children."""
        kinds = self.forest.op[slice(*self.forest.derive_range(int(chunk.nodes[0])))].tolist()
        parts = [chunk.select(np.array([m])) for m in range(len(chunk))] if ROWS in kinds else [chunk]  # each node has rows of its own
        return [child for part in parts for child in self._finish(self._records(part, kinds))]

    def _records(self, part: Chunk, kinds: list[int]) -> Chunk:
        for k, kind in enumerate(kinds):
            records = self.forest.record[part.nodes] - len(kinds) + k
            if kind == CLIP:
                part = self._clip(part)
            elif kind == FORMS:
                part = self._forms(part)
            elif kind == REFINE:
                part = self._known(part, self._state(part, BACKWARD))
            elif kind == ROWS:
                part = self._rows(part, int(records[0]))
            elif kind == WITHIN:
                part = self._within(part, records)
            else:
                raise Rejected("no-rule", f"derive record {kind}, {self.place(int(part.nodes[0]))}")
        return part

    def _finish(self, part: Chunk) -> list[Chunk]:
        done = ~part.open_.any(1)
        if done.any():  # every case is closed already: nothing below can be open
            self.closed += int((self.leaves_before[self.forest.end[part.nodes[done]]] - self.leaves_before[part.nodes[done]]).sum())
            self._pass_by(part.nodes[done])
            part = part.select(np.flatnonzero(~done))
            if not len(part):
                return []
        first = int(part.nodes[0])
        ending = int(self.forest.ending[first])
        if ending == SPLIT:
            return self._split(part)
        if ending == EMPTY:
            self._count(part, self._is_empty(part), np.full(len(part), -np.inf))
        elif ending == LEAF and self.forest.mode[first] == BY_FORMS:
            self._count(part, *self._closed_by_forms(part))
        elif ending == LEAF and self.forest.mode[first] == BY_BOUND:
            self._count(part, *self._closed_by_bound(part, LEVELS))
        elif ending == LEAF and self.forest.mode[first] == BY_MULTIPLIERS:
            state = self._state(part)
            value = self.checker.evaluate(self._multipliers(part, state, self.forest.record[part.nodes]), *self.checker.box(state))[:, 0]
            self._count(part, arithmetic.positive(value) | state.crossed, value)
        else:
            raise Rejected("no-rule", f"ending {ending}, {self.place(first)}")
        return []

    def _pass_by(self, nodes: Array) -> None:
        """Nothing below these nodes has to be looked at."""
        self.visited += int((self.nodes_before[self.forest.end[nodes]] - self.nodes_before[nodes + 1]).sum())

    def _count(self, part: Chunk, closed: Array, best: Array) -> None:
        if closed.shape != (len(part),):
            raise Rejected("count", self.place(int(part.nodes[0])))
        self.closed += int(closed.sum())
        for m in np.flatnonzero(~closed):
            self._fail(part.select(np.array([m])), "leaf", float(best[m]), f"the best bound is {float(best[m])!r}")

    def _fail(self, one: Chunk, rule: str, best: float, why: str) -> None:
        """A single node fails: the end, unless all failures are asked for."""
        self.failed += 1
        if self.diagnose is None or self.failed > MOST_FAILURES:
            raise Rejected(rule, f"{why}, {self.place(int(one.nodes[0]))}")
        self.diagnose(int(one.nodes[0]), rule, best, one.lower[one.box[0]], one.upper[one.box[0]], self._pairs(one)[2])

    # ---------------------------------------------------------------- states

    def _path(self, node: int) -> list[tuple[int, int, float, int]]:
        """The splits above `node` that are not on inputs, from the root down: (tensor number, element, threshold, side)."""
        found, (above, tensor, element, threshold, side) = [], self.splits
        while (parent := above[node]) >= 0:
            if self.targets[tensor[parent]][0] >= 0:
                found.append((tensor[parent], element[parent], threshold[parent], side[node]))
            node = parent
        return found[::-1]

    def _cuts(self, part: Chunk, paths: list[list[tuple[int, int, float, int]]]) -> dict[int, tuple[Array, Array]]:
        """The half-spaces on each node's path as bounds: side 1 says element <= threshold, side 2 says >=."""
        cuts: dict[int, tuple[Array, Array]] = {}
        for m, path in enumerate(paths):
            for t, element, threshold, side in path:
                i = self.targets[t][1]
                if i not in cuts:
                    shape = (len(part), self.checker.network.nodes[i].size)
                    cuts[i] = (np.full(shape, -np.inf), np.full(shape, np.inf))
                end, tighter = (cuts[i][1], np.minimum) if side == 1 else (cuts[i][0], np.maximum)
                end[m, element] = tighter(end[m, element], threshold)
        return cuts

    def _state(self, part: Chunk, program: int | None = None, last: int | None = None) -> State:
        """The state of these nodes by their tree's program; a contradiction where nothing narrows the box is a defect."""
        paths = [self._path(int(node)) for node in part.nodes]
        program = int(self.forest.program[self.forest.tree[part.nodes[0]]]) if program is None else program
        key = (program, *map(np.ndarray.tobytes, part.boxes())) if len(part) == 1 and last is None and not (part.known or any(paths)) else None
        state = self.kept.get(key) or self.checker.state(len(part), *part.boxes(), part.known, self._cuts(part, paths), program, last)
        self.kept = self.kept if key is None else {key: state}
        if (state.crossed & ~part.narrowed).any():
            raise Rejected("crossed", f"bounds contradict each other, {self.place(int(part.nodes[0]))}")
        return state.copy()

    def _is_empty(self, part: Chunk) -> Array:
        """Whether the bounds of the element that each record names contradict each other."""
        state, forest = self._state(part), self.forest
        found = np.zeros(len(part), dtype=bool)
        for m, node in enumerate(part.nodes):
            where = state.where.get(self.targets[int(forest.tensor[node])][1])
            found[m] = where is not None and bool(where[np.minimum(m, len(where) - 1), int(forest.element[node])])
        return found

    def _known(self, part: Chunk, state: State) -> Chunk:
        """`part` with the bounds of `state` inherited below; what is open must not be empty."""
        crossed = part.nodes[state.crossed & part.open_.any(1)]
        if len(crossed):
            raise Rejected("crossed", f"bounds contradict each other, {self.place(int(crossed[0]))}")
        return replace(part, known={i: (state.lower[i].copy(), state.upper[i].copy()) for i in self.checker.readers if i < len(state.lower)} | {
            i: ends for i, ends in part.known.items() if i >= len(state.lower)})

    # ---------------------------------------------------------------- closing

    def _functionals(self, part: Chunk, state: State) -> tuple[Forms, Array, Array]:
        """Of the distinct functionals that open cases of these nodes read, thresholds not included: forms, lower bounds, numbers."""
        atoms, _ = self._atoms(np.unique(self._pairs(part)[2]))
        rows = np.unique(self.cases.row[atoms])
        functional, radius = self._dense(rows)
        start = {i: d[None] for i, d in functional.items()}
        error = np.zeros((1, len(rows)))
        for i, d in start.items():
            h = state.largest(i)
            error = error + arithmetic.G(2) * (h @ np.abs(d[0]).T) + arithmetic.T(len(rows), h)[:, None]
        for i, r in radius.items():
            error = error + (1 + arithmetic.G(r.shape[1])) * (state.largest(i) @ r.T)
        if not start:
            raise Rejected("no-atoms", self.place(int(part.nodes[0])))
        forms = self.checker.forms(state, start, np.zeros((1, len(rows))), error, {})
        ends = (np.concatenate([np.broadcast_to(side[i], (len(part), side[i].shape[1])) for i in start], 1) for side in (state.lower, state.upper))
        at_once = Forms(np.concatenate(list(start.values()), -1), np.broadcast_to(-error, (len(part), len(rows))))  # where products are, often better
        return forms, np.maximum(self.checker.evaluate(forms, *part.boxes()), self.checker.evaluate(at_once, *ends)), rows

    def _dense(self, rows: Array) -> tuple[dict[int, Array], dict[int, Array]]:
        """Coefficients [k, size] of the functionals `rows` per graph node, and how far the true rationals may be from them."""
        outputs, inputs, *radii = self.cases.functionals(rows)
        radius = [np.zeros_like(d) if r is None else r for d, r in zip((outputs, inputs), radii, strict=True)]
        return self._by_node(np.concatenate([outputs, inputs], 1)), self._by_node(np.concatenate(radius, 1))

    def _by_node(self, dense: Array) -> dict[int, Array]:
        """Columns over outputs and inputs [k, n_out + n_in] per graph node; one tensor under two names must not get two coefficients."""
        network, at = self.checker.network, 0
        found: dict[int, Array] = {}
        for i in (*network.outputs, *network.inputs):
            part = dense[:, at : at + network.nodes[i].size]
            at += network.nodes[i].size
            if i in found and ((found[i] != 0) & (part != 0)).any():
                raise Rejected("unsupported-property", "an atom names one tensor by two names")
            found[i] = found[i] + part if i in found else part
        return {i: d for i, d in found.items() if d.any()}

    def _refuted(self, part: Chunk, value: Array, rows: Array) -> tuple[Array, Array]:
        """Which open cases [M, C] have an atom whose functional, >= value [M, R], exceeds its threshold; the best excess per node."""
        node, slot, case = self._pairs(part)
        atoms, owner = self._atoms(case)
        value = np.broadcast_to(value, (len(part), len(rows)))
        excess = value[node[owner], np.searchsorted(rows, self.cases.row[atoms])] - self.cases.threshold[atoms]  # the sign is exact
        proven, best = np.zeros(len(case), dtype=bool), np.full(len(case), -np.inf)
        np.logical_or.at(proven, owner, arithmetic.positive(excess))
        np.maximum.at(best, owner, excess)
        closed, worst = np.zeros_like(part.open_), np.full(len(part), np.inf)
        closed[node, slot] = proven
        np.minimum.at(worst, node, best)
        return closed, worst

    def _closed_by_forms(self, part: Chunk) -> tuple[Array, Array]:
        """Which of these nodes the forms in force close, or bounds over the box; the best excess by forms."""
        refuted, best, _, _ = self._cut(part)
        closed = _all(~part.open_ | refuted)
        if len(again := self._tried_again(closed)):
            closed[again], _ = self._closed_by_bound(part.select(again), LEVELS)
        return closed, best

    def _closed_by_bound(self, part: Chunk, levels: int) -> tuple[Array, Array]:
        """Which of these nodes bounds over their box close, or over both its halves, `levels` times; the best excess over the box."""
        state = self._state(part)
        _, value, rows = self._functionals(part, state)
        refuted, best = self._refuted(part, value, rows)
        closed = _all(~part.open_ | refuted) | state.crossed
        if levels and len(again := self._tried_again(closed)):
            halves, _ = self._closed_by_bound(self._halves(part.select(np.repeat(again, 2))), levels - 1)
            closed[again] = _all(halves.reshape(-1, 2))
        return closed, best

    def _tried_again(self, closed: Array) -> Array:
        """The nodes that are not closed, as many as may still be tried in another way and fit into one batch with their halves."""
        found = np.flatnonzero(~closed)[: self.block // 2 + 1][: self.most_halved - self.halved]
        self.halved += len(found)
        return found

    def _halves(self, twice: Chunk) -> Chunk:
        """Nodes, each given twice, over the halves of their boxes across the widest side. Whatever the middle is, they cover the box."""
        lower, upper = twice.lower[twice.box], twice.upper[twice.box]
        first = np.arange(0, len(twice), 2)
        widest = (upper - lower)[first].argmax(1)
        upper[first, widest] = lower[first + 1, widest] = lower[first, widest] / 2 + upper[first, widest] / 2
        return replace(twice, box=np.arange(len(twice)), lower=lower, upper=upper, narrowed=np.ones(len(twice), dtype=bool))

    def _forms(self, part: Chunk) -> Chunk:
        """Forms in force from here on; what they close here is closed below."""
        if not part.open_.any():
            return part
        forms, value, rows = self._functionals(part, self._state(part))
        closed, _ = self._refuted(part, value, rows)
        return replace(part, forms=forms, rows=rows, open_=part.open_ & ~closed)

    def _clip(self, part: Chunk) -> Chunk:
        """The box without what the forms show to be safe for every open case; cases without a rest are closed."""
        closed, _, lower, upper = self._cut(part)
        return replace(part, box=np.arange(len(part)), lower=lower, upper=upper, open_=part.open_ & ~closed)

    def _cut(self, part: Chunk) -> tuple[Array, Array, Array, Array]:
        """(cases refuted by the forms [M, C], best excess [M], hull over the other open cases of what is left of the box)."""
        if part.forms is None and part.open_.any():
            raise Rejected("no-forms", self.place(int(part.nodes[0])))
        box_lower, box_upper = (end[part.box] for end in (part.lower, part.upper))
        closed, best = np.zeros_like(part.open_), np.full(len(part), np.inf)
        hull_lower, hull_upper = np.full_like(box_lower, np.inf), np.full_like(box_upper, -np.inf)
        node, slot, case = self._pairs(part)
        atoms, owner = self._atoms(case)
        if part.forms is not None and len(case):
            m, place = node[owner], np.searchsorted(part.rows, self.cases.row[atoms])
            if not (part.rows[np.minimum(place, len(part.rows) - 1)] == self.cases.row[atoms]).all():
                raise Rejected("no-forms", self.place(int(part.nodes[0])))
            constant = arithmetic.dn(part.forms.constant[m, place] - self.cases.threshold[atoms])
            forms = Forms(part.forms.coefficients[m, place][:, None], constant[:, None])
            least, low, high = self.checker.cut(forms, box_lower[m], box_upper[m])
            case_low, case_high = box_lower[node], box_upper[node]
            np.maximum.at(case_low, owner, low[:, 0])
            np.minimum.at(case_high, owner, high[:, 0])
            proven, most = np.zeros(len(case), dtype=bool), np.full(len(case), -np.inf)
            np.logical_or.at(proven, owner, arithmetic.positive(least[:, 0]))
            np.maximum.at(most, owner, least[:, 0])
            proven |= (case_low > case_high).any(1)
            closed[node, slot] = proven
            np.minimum.at(best, node, most)
            np.minimum.at(hull_lower, node[~proven], case_low[~proven])
            np.maximum.at(hull_upper, node[~proven], case_high[~proven])
        rest = ~_all(~part.open_ | closed)[:, None]
        return closed, best, np.where(rest, hull_lower, box_lower), np.where(rest, hull_upper, box_upper)

    # ---------------------------------------------------------------- multipliers

    def _slopes(self, part: Chunk, state: State, which: int, stored: Array) -> dict[int, tuple[Array, Array]]:
        """Slopes [M, R, size]: `stored` [M, R, entries] at the elements of slope set `which` where f is not linear, default elsewhere."""
        found: dict[int, tuple[Array, Array]] = {}
        at = 0
        for t, side, elements in self.forest.slope_sets[which]:
            site, argument = self.targets[t]
            node = self.checker.network.nodes[site]
            if site < 0 or not isinstance(node, Elementwise):
                raise Rejected("slopes", f"tensor {t} of slope set {which} is not the argument of an elementwise function")
            values = stored[:, :, at : at + len(elements)]
            at += len(elements)
            if argument >= len(state.lower):
                raise Rejected("slopes", f"tensor {t} of slope set {which} comes after the rows it should bound")
            low, high = state.lower[argument][:, None], state.upper[argument][:, None]
            if site not in found:
                shape = (*stored.shape[:2], node.size)
                below, above = functions.default_slopes(node.function, low, high)
                found[site] = (np.broadcast_to(below, shape).copy(), np.broadcast_to(above, shape).copy())
            bent = ~functions.is_linear(node.function, low[:, :, elements], high[:, :, elements])
            chosen = found[site][side]
            chosen[:, :, elements] = np.where(bent, values, chosen[:, :, elements])
        return found

    def _rows(self, part: Chunk, record: int) -> Chunk:
        """A single node with backward bounds of chosen rows, by stored slopes, inherited below."""
        t, which, codes, slope_at = self.forest.rows_record(record)
        i = self.targets[t][1]
        state = self._state(part, last=i)
        entries = self.forest.set_size[which]
        stored = self.certificate.slope[slope_at : slope_at + len(codes) * entries].reshape(1, len(codes), entries)
        self.checker.derive(state, i, codes, self._slopes(part, state, which, stored))
        return self._known(part, state)

    def _within(self, part: Chunk, records: Array) -> Chunk:
        """Bounds of what the plane of these records leaves of the boxes; closed where that is nothing.

        An execution that violates the case meets a <= d for every atom, and in this node z <= t or z >= t for every split. No multiplier
        is negative, so the functional of `_multipliers` is <= 0 there, and so is the plane below it. Whatever contradicts that shows
        that no execution violates the case here. In float32 atoms and splits speak of computed values, which passes bound.
        """
        state = self._state(part)
        plane = self._multipliers(part, state, records)
        closed = arithmetic.positive(self.checker.evaluate(plane, *self.checker.box(state))[:, 0])
        self.checker.within(state, plane)
        open_ = part.open_ & ~(closed | state.crossed)[:, None]
        return self._known(replace(part, open_=open_, narrowed=np.ones(len(part), dtype=bool)), state)

    def _multipliers(self, part: Chunk, state: State, records: Array) -> Forms:
        """One backward pass per node [M, 1], of the one case of its tree: gamma-weighted atoms, stored slopes, betas of the path."""
        forest, cases = self.forest, self.cases
        which = int(forest.slope_set[records[0]])
        entries = forest.set_size[which]
        stored = np.stack([self.certificate.slope[at : at + entries] for at in forest.slope_at[records]])[:, None]
        case = forest.tree_cases[forest.tree_start[forest.tree[part.nodes]]]
        atoms, owner = self._atoms(case)
        counts = cases.atom_start[case + 1] - cases.atom_start[case]
        gamma = np.concatenate([self.certificate.gamma[at : at + n] for at, n in zip(forest.gamma_at[records], counts, strict=True)])
        rows, place = np.unique(cases.row[atoms], return_inverse=True)
        weight = np.zeros((len(part), len(rows)))
        np.add.at(weight, (owner, place), gamma)
        constant, size = np.zeros(len(part)), np.zeros(len(part))
        np.add.at(constant, owner, -(gamma * cases.threshold[atoms]))
        np.add.at(size, owner, np.abs(gamma * cases.threshold[atoms]))
        n = len(atoms)
        functional, radius = self._dense(rows)
        error = arithmetic.G(n + 2) * (size + arithmetic.FLOOR)
        start: dict[int, Array] = {}
        for i in functional.keys() | radius.keys():  # a coefficient that is 0 here may not be 0 in the property
            h, none = state.largest(i), np.zeros((len(rows), self.checker.network.nodes[i].size))
            d, r = functional.get(i, none), radius.get(i, none)
            start[i] = (weight @ d)[:, None]
            lost = arithmetic.G(n + 2) * (weight @ np.abs(d)) + (1 + arithmetic.G(n)) * (weight @ r)
            error = error + (lost * h).sum(1) + arithmetic.T(n, h)
        constant, error = self._betas(part, state, records, start, constant, error)
        return self.checker.forms(state, start, constant[:, None], error[:, None], self._slopes(part, state, which, stored))

    def _betas(self, part: Chunk, state: State, records: Array, start: dict[int, Array], constant: Array, error: Array) -> tuple[Array, Array]:
        """Add beta (t - z) for z >= t, beta (z - t) for z <= t: not positive where the split holds, so the value only falls.

        A sum of n terms, in any order, loses at most G(n) of their magnitudes (ARITHMETIC 7, all splits of a path at once).
        """
        rows: list[tuple[int, int, int, int, float, float]] = []
        for row, (node, at) in enumerate(zip(part.nodes.tolist(), self.forest.beta_at[records].tolist(), strict=True)):
            for k, (t, place, x, side) in enumerate(self._path(node)):
                rows.append((row, self.targets[t][1], place, 1 if side == 1 else -1, float(self.certificate.beta[at + k]), x))
        if not rows:
            return constant, error
        m, target, element, sign, beta, threshold = (np.array(column) for column in zip(*rows, strict=True))
        n, shift, total = int(np.bincount(m).max()) + 2, beta * threshold, np.abs(constant)
        for i in np.unique(target).tolist():
            mine, h = target == i, state.largest(i)
            d = start[i] if i in start else np.zeros((len(part), 1, h.shape[1]))
            size = np.abs(d[:, 0])
            np.add.at(size, (m[mine], element[mine]), beta[mine])
            np.add.at(d, (m[mine], 0, element[mine]), (sign * beta)[mine])
            start[i], error = d, error + arithmetic.G(n) * (size * h).sum(1) + arithmetic.T(n, h)
        np.add.at(total, m, np.abs(shift))
        np.add.at(constant, m, -sign * shift)
        return constant, error + arithmetic.G(n) * total

    # ---------------------------------------------------------------- splits

    def _split(self, part: Chunk) -> list[Chunk]:
        """Both children of every node: input splits cut the box, other splits are read off the path."""
        forest, offset = self.forest, self.offset[self.forest.tensor[part.nodes]]
        cut = np.flatnonzero(offset >= 0)
        at, x = (offset + forest.element[part.nodes])[cut], forest.threshold[part.nodes[cut]]
        outside = cut[~((part.lower[part.box[cut], at] < x) & (x < part.upper[part.box[cut], at]))]
        if len(outside):
            for m in outside:
                self._fail(part.select(np.array([m])), "threshold", -np.inf, "an input is not split strictly inside its interval")
                self._pass_by(part.nodes[m])
            return self._split(part.select(np.delete(np.arange(len(part)), outside))) if len(outside) < len(part) else []
        halves = []
        for side, children in enumerate((forest.child_low, forest.child_high)):
            half = replace(part, nodes=children[part.nodes], narrowed=np.ones(len(part), dtype=bool))
            if len(cut):
                half = replace(half, box=np.arange(len(part)), lower=part.lower[part.box].copy(), upper=part.upper[part.box].copy())
                (half.upper if side == 0 else half.lower)[cut, at] = x
            halves.append(half)
        return [_joined(*halves)]


def _all(mask: Array) -> Array:
    """Whether every entry of a row is true [M]."""
    return np.asarray(mask.all(1))


def _joined(a: Chunk, b: Chunk) -> Chunk:
    """Two chunks of one kind. Bounds that all their nodes share stay shared."""
    pairs = zip(*(vars(x.forms).values() for x in (a, b) if x.forms is not None), strict=True)
    forms = None if a.forms is None else Forms(*map(np.concatenate, pairs))
    shared = a.lower is b.lower  # no input was split: the same boxes
    box = np.concatenate([a.box, b.box + (0 if shared else len(a.lower))])
    ends = (a.lower, a.upper) if shared else (np.concatenate([a.lower, b.lower]), np.concatenate([a.upper, b.upper]))
    known = {i: (_stacked(a, low, b, b.known[i][0]), _stacked(a, high, b, b.known[i][1])) for i, (low, high) in a.known.items()}
    nodes, open_, narrowed = (np.concatenate(pair) for pair in ((a.nodes, b.nodes), (a.open_, b.open_), (a.narrowed, b.narrowed)))
    return Chunk(nodes, box, *ends, open_, forms, a.rows, known, narrowed)


def _stacked(a: Chunk, x: Array, b: Chunk, y: Array) -> Array:
    """One row for each node of both chunks, or the one that all share."""
    return x if x is y and len(x) == 1 else np.concatenate([np.broadcast_to(end, (len(of), end.shape[1])) for of, end in ((a, x), (b, y))])


def compare(forest: Forest, visited: int, closed: int, failed: int) -> None:
    """Return only if every node was visited, every leaf closed, and nothing failed."""
    expected = int((forest.ending != SPLIT).sum())
    if failed or closed != expected or visited != len(forest.ending):
        raise Rejected("open", f"{closed} of {expected} leaves are closed, {visited} of {len(forest.ending)} nodes were visited")


def check(checker: Checker, cases: Cases, certificate: Certificate, forest: Forest, block: int = 256, diagnose: Diagnose | None = None) -> None:
    """Return only if every case of the property is closed: vacuous, or by every leaf of its tree. Raises Rejected otherwise."""
    Walk(checker, cases, certificate, forest, block, diagnose).run()
