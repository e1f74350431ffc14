"""How far float32 may take each ONNX operator's output from the reals: s of ARITHMETIC 8, per node and box.

An affine operator may be run alone, or folded into the affine operator that alone reads it. So besides s it has a *flow*: magnitudes
composed along the chain of operators that it ends, and `off`, how far any computation of it may be from the ideal function of where all
chains start. A tensor that several operators read ends its chain. Readers that are not affine see one value of it, each affine one may see a
value computed again: off twice over, as |W| 2 off.

Constant factors may be applied anywhere along a chain, and all at once: `factors`. Around a product of two variables they gather in one that
may be flushed itself.

Roundings are those of the worst folding: an operator of n terms, of whose output F elements are folded into one, sums up to
min(F n, elements of its input) terms; sums run on into each other (a convolution onto a residual), so branches add.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from verifier.checker import arithmetic, factors
from verifier.checker.arithmetic import Array, dn, up
from verifier.checker.factors import NONE, Moved, steepest
from verifier.checker.measured import Table
from verifier.checker.network import Affine, Constant, Elementwise, Input, MatMul, Network, Node, Pieces, Product, Rounding, Smooth
from verifier.checker.refusal import Rejected

OUTWARD = 1 + 2.0**-20  # pays for the float64 rounding of every formula here (sums of less than 2^32 terms), and for computed weights
LARGEST, LARGEST_FOLDED = 2.0**127, 2.0**126  # half of what float32 holds; of what a folded constant, or 1 over one, may be
FLUSHED = 2.0**16  # times theta: what a measured kernel may lose where products inside it are flushed (200 in Tanh of onnxruntime, x 0.0049)
SCALES = 3  # constant factors of both operands and of the result may be folded into a product of two variables


@dataclass(frozen=True)
class Operator:
    """`inner` nodes in order, the output last; `sources`: outputs of other operators; `folds`: affine operators of the chain -> F."""

    inner: tuple[int, ...]
    sources: tuple[int, ...]
    linear: bool
    shared: bool  # several operators read some element
    terms: int  # elements of the sources that one output reads
    entries: int  # elements of the sources
    folds: dict[int, int]
    roundings: int  # of the whole chain
    widest: int  # most elements of a tensor of the chain


@dataclass(frozen=True)
class Flow:
    """w + s and `off` [B, size]."""

    w: Array
    off: Array


Parts = tuple[Array, Array, Array]  # of a node inside an operator: w, off, 2 off of what is computed again


def _require(holds: Array, rule: str, place: str) -> None:
    if not holds.all():
        raise Rejected(rule, place)


def softmax_loss(rho: float, tau: float, span: Array, n: int) -> tuple[Array, float, Array]:
    """Relative and absolute error of a softmax of n values within `span`, by an exp with these errors; and b, which must be <= 1/2."""
    t, rounded, two, lost = arithmetic.MU * OUTWARD * span, arithmetic.g(n), arithmetic.g(2), np.maximum(tau, arithmetic.THETA)
    a = rho + (1 + rho) * (t + t * t)  # exp(t) - 1 <= t + t^2 for t <= 1
    b = a + rounded + a * rounded + 2 * n * lost
    return (a + two + a * two + b) / (1 - b), 8 * lost, b


class Slack:
    """What operators do in float32. Unary kernels are as in `table`: by default the one that fits this machine."""

    def __init__(self, network: Network, table: Table | None = None) -> None:
        if network.rewritten:
            raise Rejected("float32-no-rule", network.rewritten)
        self.network, self.table = network, Table.fitting() if table is None else table
        self.readers = [np.zeros(node.size) for node in network.nodes]  # of every element
        for i in network.outputs:
            self.readers[i] += 1
        for node in network.nodes:
            for k, p in enumerate(node.inputs):
                # slices may have readers of their own
                self.readers[p] += node.maps[k].adjoint(np.ones(node.size)) if isinstance(node, Affine) and node.maps[k].moves else 1
        self.operators: dict[int, Operator] = {}
        self.steep = {j: [float(m.row_sums().max()) for m in node.maps] for j, node in enumerate(network.nodes) if isinstance(node, Affine)}
        unit = Run(self)  # magnitudes 1 at every tensor: no product of weights that may be folded overflows
        for i, node in enumerate(network.nodes):
            unit.note(np.ones((1, node.size)), np.ones((1, node.size)))
            if node.rounding is not None:
                op = self.operators[i] = self._operator(i, node.rounding)
                if op.linear:
                    unit.affine(i, op, node.rounding, LARGEST_FOLDED)
                if i in unit.flows:
                    unit.flows[i] = replace(unit.flows[i], w=np.maximum(unit.flows[i].w, 1.0))
                    unit.moved[i] = replace(unit.moved[i], peak=np.maximum(unit.moved[i].peak, 1.0), most=np.maximum(unit.moved[i].most, 1.0))

    def start(self, batch: int) -> Run:
        """The slack of one state of `batch` boxes."""
        return Run(self)

    def _operator(self, i: int, rounding: Rounding) -> Operator:
        nodes, fan, inner, sources = self.network.nodes, Counter({i: 1}), list[int](), list[int]()
        while left := fan.keys() - set(inner) - set(sources):
            node = nodes[j := sorted(left)[-1]]
            if j != i and (j in rounding.sources or node.rounding is not None or isinstance(node, Input)):
                sources.append(j)
                continue
            inner.append(j)
            for p, q in enumerate(node.inputs):
                terms = node.maps[p].products if isinstance(node, Affine) else nodes[node.inputs[0]].shape[-1] if isinstance(node, MatMul) else 1
                fan[q] = int(np.minimum(fan[q] + fan[j] * terms, nodes[q].size))
        linear = rounding.kind in ("affine", "moves", "exact") and all(isinstance(nodes[j], Affine | Constant) for j in inner)
        terms, entries = sum(fan[p] for p in sources), sum(nodes[p].size for p in sources)
        before, folds = {p: self.operators[p] for p in sources if p in self.operators}, Counter[int]()
        count = rounding.count + (SCALES if rounding.kind == "product" else 0)
        for p, op in before.items() if linear else ():
            for q, reads in op.folds.items() if not op.shared else ():
                folds[q] = int(np.minimum(folds[q] + fan[p] * reads, nodes[q].size))
        for q, reads in folds.items():
            op, own = self.operators[q], nodes[q].rounding
            more = np.minimum(reads * op.terms, op.entries) - op.terms if op.linear else 0
            count += 1 + (own.count if own is not None else 0) + int(np.maximum(more, 0))
        shared = bool((self.readers[i] > 1).any())
        widest = int(np.max([nodes[j].size for j in (*inner, *sources)] + [op.widest for op in before.values()] + [terms]))
        if rounding.kind in ("affine", "product"):  # a sum may start from what is added to a product of two variables
            folds[i] = 1
        return Operator(tuple(inner[::-1]), tuple(sources), linear, shared, terms, entries, dict(folds), count, widest)


class Run:
    """Nodes in order: `step` says what float32 may add to each."""

    def __init__(self, slack: Slack) -> None:
        self.slack, self.nodes, self.flows = slack, slack.network.nodes, dict[int, Flow]()
        self.moved = dict[int, Moved]()  # of affine operators
        self.joined = dict[int, tuple[Array, Array]]()  # of products: what it may lose that their factors are one, and how large that is
        self.lower, self.upper, self.big, self.slacks = list[Array](), list[Array](), list[Array](), list[Array]()

    def note(self, lower: Array, upper: Array) -> None:
        """The next node's bounds, slack included."""
        self.lower.append(lower)
        self.upper.append(upper)
        self.big.append(np.maximum(np.abs(lower), np.abs(upper)))

    def step(self, i: int, lower: Array, upper: Array) -> Array:
        """s [B, size] >= 0 of node i, whose bounds over what it reads (slack of that included) these are."""
        op, rounding, place, size = self.slack.operators.get(i), self.nodes[i].rounding, self.nodes[i].place, np.maximum(np.abs(lower), np.abs(upper))
        s = np.zeros(lower.shape)
        if op is not None and rounding is not None:
            s = s + (self.affine(i, op, rounding, LARGEST) if op.linear else self._rule(i, op, rounding, size))
            _require(size + s <= LARGEST, "float32-overflow", place)
        self.note(dn(lower - s, arithmetic.SMALLEST), up(upper + s, arithmetic.SMALLEST))
        self.slacks.append(s)
        return s

    def affine(self, i: int, op: Operator, rounding: Rounding, largest: float) -> Array:
        """s of an affine operator, and its flow; moving numbers or signs rounds nothing."""
        w, off, again = self._compose(op)
        lost, most = self._move(i, op, rounding.kind == "affine")
        if rounding.kind == "affine":
            own = OUTWARD * (arithmetic.g(op.roundings) * w + lost)
            _require(np.maximum(w, most) * (1 + arithmetic.g(op.roundings)) + own + again <= largest, "float32-overflow", self.nodes[i].place)
        else:
            own = np.full(w.shape, arithmetic.THETA if rounding.kind == "exact" else 0.0)
        self.flows[i] = Flow(OUTWARD * w + own + again, OUTWARD * (own + off))
        return own + OUTWARD * again

    def _compose(self, op: Operator) -> Parts:
        """Magnitude, deviations, and those of values computed again, through an operator's nodes."""
        found = dict[int, Parts]()
        for p in op.sources:
            flow, zeros = self.flows.get(p), np.zeros((1, self.nodes[p].size))
            folded = flow is not None and op.linear and not self.slack.operators[p].shared
            off = flow.off if flow is not None and op.linear else zeros
            found[p] = flow.w if flow is not None and folded else self.big[p], off, zeros if folded else 2 * off
        for j in op.inner:
            found[j] = self._carry(j, found)
        return found[op.inner[-1]]

    def _move(self, i: int, op: Operator, flushes: bool) -> tuple[Array, Array]:
        """What flushing may lose, and the largest number on the way [B, 1], wherever constant factors are applied."""
        found = {p: self.moved.get(p) or factors.start(self.big[p]) for p in op.sources}
        steep, by = self.slack.steep, 1.0
        joined = [self.joined[p] for p in op.sources if p in self.joined and op.terms == 1]  # a factor of a product, or moved numbers
        for j in op.inner:
            node, norms = self.nodes[j], steep.get(j, [])
            terms = self.nodes[node.inputs[0]].shape[-1] if isinstance(node, MatMul) else 1
            part = factors.carry(node, [found[p] for p in node.inputs], norms, terms, op.widest if flushes else 0) or factors.start(self.big[j])
            found[j], by = part, by * float(np.max([1.0, *norms]))
        self.moved[i] = found[op.inner[-1]]
        lost, gain = (by * sum((x[k] for x in joined), NONE) for k in (0, 1))
        self.joined[i] = lost, gain
        return self.moved[i].lost + (lost if flushes else NONE), np.maximum(self.moved[i].most, 2 * gain)

    def _carry(self, j: int, found: dict[int, Parts]) -> Parts:
        node, zeros = self.nodes[j], np.zeros((1, self.nodes[j].size))
        parts = [found[p] for p in node.inputs]
        match node:
            case Constant():
                return (np.abs(node.value) + node.radius)[None], zeros, zeros
            case Affine():
                w, off, again = (
                    sum((m.magnitude(x[k]) for m, x in zip(node.maps, parts, strict=True) if k == 0 or x[k].any()), zeros) for k in range(3)
                )
                for extra in (node.bias, node.bias_radius):
                    w = w if extra is None else w + np.abs(extra)
                return w, off, again
            case Product():
                return parts[0][0] * parts[1][0], zeros, zeros
            case MatMul():
                x, y = (part[0].reshape(-1, *self.nodes[p].shape) for part, p in zip(parts, node.inputs, strict=True))
                return (x @ y).reshape(-1, node.size), zeros, zeros
            case Elementwise() if isinstance(node.function, Pieces) and not node.function.step:
                slope, high = steepest(node.function)
                return slope * parts[0][0] + high, zeros, zeros
        return self.big[j], zeros, zeros

    def _rule(self, i: int, op: Operator, rounding: Rounding, size: Array) -> Array:
        """s of an operator that ends a chain; `size` is H of its output over the reals."""
        node, place, theta = self.nodes[i], self.nodes[i].place, arithmetic.THETA
        match rounding.kind:
            case "exact":
                return np.full(size.shape, theta)
            case "product" | "pieces":
                if rounding.divisor >= 0:
                    self._away(rounding.divisor, place)
                (w, *_), (lost, most) = self._compose(op), self._move(i, op, True)
                s = OUTWARD * (arithmetic.g(op.roundings) * w + lost)
                free = self.moved.pop(i)  # a chain ends here
                self.joined[i] = free.lost + theta * free.peak * free.gain, free.gain
                _require(np.maximum(w, most) * (1 + arithmetic.g(op.roundings)) + s <= LARGEST, "float32-overflow", place)
                return s
            case "sqrt" | "kernel":
                return OUTWARD * self._function(node, rounding, size)
            case "gate":
                return OUTWARD * self._gate(rounding, place)
            case "softmax":
                return OUTWARD * self._softmax(op, rounding, size, place)
        raise Rejected("float32-no-rule", f"{place}: {rounding.kind} {rounding.name}")

    def _gate(self, rounding: Rounding, place: str) -> Array:
        """A product of what is at most `off` from the two factors whose product the function is."""
        x, y = (self.big[p] for p in rounding.sources)
        off_x, off_y = (sum((times * self.slacks[j] for j, times in part), np.zeros((1, 1))) for part in rounding.drift)
        w = (x + off_x) * (y + off_y)
        flushed = arithmetic.THETA * 6 * (1 + x.sum(-1, keepdims=True) + y.sum(-1, keepdims=True))
        own = arithmetic.g(rounding.count + SCALES) * w + flushed
        _require(w + own <= LARGEST, "float32-overflow", place)
        return np.asarray(x * off_y + (y + off_y) * off_x + own)

    def _function(self, node: Node, rounding: Rounding, size: Array) -> Array:
        """A function of one variable: correctly rounded by IEEE 754, counted products, or measured."""
        x, theta = (*rounding.sources, *node.inputs)[0], arithmetic.THETA  # a constant is no source
        function = node.function if isinstance(node, Elementwise) else None
        name, parameter = (function.name, function.parameter) if isinstance(function, Smooth) else ("", 0.0)
        counted = arithmetic.g(rounding.count + (rounding.name == "Pow")) * size  # a power with such an exponent: one rounding more
        if name == "sqrt":
            _require(self.lower[x] >= 0, "float32-domain", node.place)
            return counted + 2.0**64 * theta  # the root of what is flushed
        if name == "reciprocal":
            self._away(x, node.place)
            return counted + 4 * theta
        if name == "log" or (name == "pow" and (parameter < 0 or parameter != int(parameter))):
            _require(self.lower[x] >= theta, "float32-domain", node.place)
        if name == "pow" and parameter in (2.0, 3.0):
            return arithmetic.g(3) * size + 8 * theta
        key = f"{rounding.name.lower()} {parameter:g}" if name == "pow" else rounding.name.lower()
        return self.slack.table.loss(key, self.lower[x], self.upper[x], size, node.place) + FLUSHED * theta

    def _softmax(self, op: Operator, rounding: Rounding, size: Array, place: str) -> Array:
        """Any runtime subtracts some x_j of the row, so arguments of exp are at most the row's range in magnitude."""
        n, (found,) = rounding.count, [x for x in self.slack.network.softmaxes if x.node in op.inner]
        x, order = self.nodes[found.node].inputs[0], np.argsort(found.row_of, kind="stable")
        top, least = (end[:, order].reshape(len(end), found.rows, -1) for end in (self.upper[x], self.lower[x]))
        span = np.minimum((top.max(-1) - least.min(-1)).max(-1, keepdims=True), 104.0)
        relative, lost, share = softmax_loss(*self.slack.table.worst("exp", -104.0, 0.0, place), span, n)
        _require(share <= 0.5, "float32-softmax", place)
        return np.asarray(relative * size + lost)

    def _away(self, x: int, place: str) -> None:
        """A divisor, of either sign, that flushing does not make 0."""
        _require((self.lower[x] >= arithmetic.THETA) | (self.upper[x] <= -arithmetic.THETA), "float32-divisor", place)
