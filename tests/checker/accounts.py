"""ARITHMETIC 4 and 5 once more, one number at a time, over rationals and with error terms of any size.

The kernel's error terms are too small to be seen next to its bounds. With `magnified` they are enormous, in the kernel and here, so that
each of them can be compared: a term that is left out, or counts one operation less, changes the tenth digit of no bound, but the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from verifier.checker import arithmetic, bounds, forward, functions, walk
from verifier.checker.maps import Diagonal, Map
from verifier.checker.network import Affine, Constant, Elementwise, Input, MatMul, Maximum, Network, Product
from verifier.checker.slopes import share_of_twin
from verifier.checker.state import State

Array = NDArray[np.float64]
Row = dict[int, list[Fraction]]  # node -> coefficients
UNIT, TINY, FLOOR = Fraction(1, 2**20), Fraction(1, 2**22), Fraction(1, 2**6)
STEP = Fraction(1, 2**12)  # to "the next double"
LOOSE = 2.0**47
ZERO = Fraction(0)


def rounding(m: int) -> Fraction:
    """G, magnified."""
    return (m + 4) * UNIT


def underflow(m: int, total: Fraction) -> Fraction:
    """T, magnified; `total` is the sum of magnitudes."""
    return (2 * m + 8) * TINY * (1 + total)


@contextmanager
def magnified() -> Iterator[None]:
    """A kernel whose G, T and F are those above, and for which the next double is far away."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (arithmetic, bounds, forward, walk):
            for name, step in (("up", float(STEP)), ("dn", -float(STEP))):
                patch.setattr(module, name, lambda x, step=step: np.asarray(x + step), raising=False)
        patch.setattr(arithmetic, "G", lambda m: float(rounding(m)))
        patch.setattr(arithmetic, "T", lambda m, x: np.asarray((2 * m + 8) * float(TINY) * (1 + x.sum(-1))))
        patch.setattr(arithmetic, "FLOOR", float(FLOOR))
        yield


def loosened(of: Network) -> Network:
    """The network with constants that may be far from the true ones, where they may be a little."""
    nodes = list(of.nodes)
    for i, node in enumerate(nodes):
        if isinstance(node, Constant):
            nodes[i] = replace(node, radius=node.radius * LOOSE)
        elif isinstance(node, Affine):
            maps = tuple(Diagonal(m.weight, m.error * LOOSE) if isinstance(m, Diagonal) and m.error is not None else m for m in node.maps)
            nodes[i] = replace(node, maps=maps, bias_radius=None if node.bias_radius is None else node.bias_radius * LOOSE)
    return replace(of, nodes=tuple(nodes))


def exact(x: Array) -> list[Fraction]:
    return [Fraction(v) for v in x.reshape(-1).tolist()]


def entries(m: Map) -> tuple[list[tuple[int, int, Fraction]], list[tuple[int, int, Fraction]]]:
    """(output, input, weight) and (output, input, radius)."""
    found = [[(i, j, Fraction(w)) for i, j, w in which] for which in (m.entries(), m.radii())]
    return found[0], found[1]


class Accounts:
    """The kernel's rules over the kernel's own state of box `b`: what follows from it, and what it costs."""

    def __init__(self, network: Network, state: State, b: int = 0) -> None:
        self.network, self.state, self.b = network, state, b
        self.ends = [[end[min(b, len(end) - 1)][None] for end in ends] for ends in (state.lower, state.upper)]
        self.lower, self.upper = ([exact(end) for end in ends] for ends in self.ends)
        self.slack = [[ZERO] * node.size if s is None else exact(s[min(b, len(s) - 1)]) for node, s in zip(network.nodes, state.slack, strict=True)]
        self.large = [[max(abs(a), abs(b)) for a, b in zip(*ends, strict=True)] for ends in zip(self.lower, self.upper, strict=True)]
        self.total = [sum(h, ZERO) for h in self.large]

    # ------------------------------------------------------------ interval step

    def interval(self, i: int) -> tuple[list[Fraction], list[Fraction]]:
        """Bounds of node i from those of its inputs, slack included."""
        node = self.network.nodes[i]
        match node:
            case Constant():
                pairs = [(v - r - STEP, v + r + STEP) for v, r in zip(exact(node.value), exact(node.radius), strict=True)]
            case Affine():
                pairs = self._affine_interval(node)
            case Elementwise():
                j = node.inputs[0]
                low, high = functions.interval(node.function, self.ends[0][j], self.ends[1][j])
                pairs = list(zip(exact(low[0]), exact(high[0]), strict=True))
            case Product():
                ends = [list(zip(self.lower[j], self.upper[j], strict=True)) for j in node.inputs]
                corners = [[a * b for a in xs for b in ys] for xs, ys in zip(*ends, strict=True)]
                pairs = [(min(c) - STEP, max(c) + STEP) for c in corners]
            case MatMul():
                pairs = self._matmul_interval(node)
            case Maximum():
                j = node.inputs[0]
                pairs = [(max(self.lower[j][k] for k in w if k >= 0), max(self.upper[j][k] for k in w if k >= 0)) for w in node.windows.tolist()]
            case _:
                raise TypeError(node)
        s = self.slack[i] if self.state.slack[i] is None else [e + STEP for e in self.slack[i]]
        return [low - e for (low, _), e in zip(pairs, s, strict=True)], [high + e for (_, high), e in zip(pairs, s, strict=True)]

    def _ball(self, j: int, k: int) -> tuple[Fraction, Fraction]:
        """Centre and reach of an element."""
        return (self.upper[j][k] + self.lower[j][k]) / 2, (self.upper[j][k] - self.lower[j][k]) / 2 + STEP

    def _affine_sums(self, node: Affine) -> tuple[list[list[Fraction]], int, Fraction]:
        """Per output [z, q, p without bias, d], products of one output, underflow."""
        sums = [[ZERO] * 4 for _ in range(node.size)]
        n, tiny = sum(m.products for m in node.maps), ZERO
        for j, m in zip(node.inputs, node.maps, strict=True):
            weights, radii = entries(m)
            for o, k, w in weights:
                centre, reach = self._ball(j, k)
                for place, term in enumerate((w * centre, abs(w) * reach, abs(w * centre))):
                    sums[o][place] += term
            for o, k, r in radii:
                sums[o][3] += r * self.large[j][k]
            tiny += underflow(n, self.total[j])
        for o in range(node.size):
            sums[o][0] += ZERO if node.bias is None else Fraction(float(node.bias[o]))
            sums[o][3] += ZERO if node.bias_radius is None else Fraction(float(node.bias_radius[o]))
        return sums, n, tiny

    def _affine_interval(self, node: Affine) -> list[tuple[Fraction, Fraction]]:
        sums, n, tiny = self._affine_sums(node)
        pairs = []
        for o, (z, q, p, d) in enumerate(sums):
            p += ZERO if node.bias is None else abs(Fraction(float(node.bias[o])))
            radius = q + d + rounding(n + 4 + len(node.maps)) * (q + p + d) + tiny + STEP
            pairs.append((z - radius, z + radius))
        if node.bias_radius is None and all(w >= 0 for m in node.maps for _, _, w in entries(m)[0]) and not any(list(m.radii()) for m in node.maps):
            pairs = [(max(low, end), high) for (low, high), end in zip(pairs, self._sums_of_ends(node, n, tiny), strict=True)]
        return self._moved(node) if bounds._is_pure(node) else pairs

    def _sums_of_ends(self, node: Affine, n: int, tiny: Fraction) -> list[Fraction]:
        """Of what only adds."""
        sums = [(b, abs(b)) for b in (exact(node.bias) if node.bias is not None else [ZERO] * node.size)]
        for j, m in zip(node.inputs, node.maps, strict=True):
            for o, k, w in entries(m)[0]:
                sums[o] = sums[o][0] + w * self.lower[j][k], sums[o][1] + w * abs(self.lower[j][k])
        return [low - rounding(n + 4 + len(node.maps)) * size - tiny - STEP for low, size in sums]

    def _moved(self, node: Affine) -> list[tuple[Fraction, Fraction]]:
        pairs = [(ZERO, ZERO)] * node.size
        for j, m in zip(node.inputs, node.maps, strict=True):
            for o, k, _ in entries(m)[0]:
                pairs[o] = self.lower[j][k], self.upper[j][k]
        return pairs

    def _terms(self, node: MatMul) -> list[list[tuple[int, int]]]:
        x, y = (np.arange(self.network.nodes[j].size).reshape(self.network.nodes[j].shape) for j in node.inputs)
        rows, columns = x.reshape(-1, *x.shape[-2:]), y.reshape(-1, *y.shape[-2:])
        return [list(zip(r.tolist(), c.tolist(), strict=True)) for a, b in zip(rows, columns, strict=True) for r in a for c in b.T]

    def _matmul_interval(self, node: MatMul) -> list[tuple[Fraction, Fraction]]:
        (x, y), pairs = node.inputs, []
        for terms in self._terms(node):
            z, reach, size = ZERO, Fraction(1, 2**900), ZERO
            for i, j in terms:
                (cx, rx), (cy, ry) = self._ball(x, i), self._ball(y, j)
                z, size = z + cx * cy, size + (abs(cx) + rx) * (abs(cy) + ry)
                reach += abs(cx) * ry + rx * (abs(cy) + ry)
            radius = reach + rounding(2 * len(terms) + 4) * size + STEP
            pairs.append((z - radius, z + radius))
        return pairs

    # ------------------------------------------------------------ backward pass

    def lower_bound(
        self,
        start: Row,
        slopes: Mapping[int, tuple[Array, Array]] | None = None,
        own: bool = False,
        constant: Fraction = ZERO,
        error: Fraction = ZERO,
    ) -> Fraction:
        """With these slopes [size] in place of the default ones; `own`: rows have their own, and pay for them alone."""
        self.rows: Row = {i: list(d) for i, d in start.items()}
        self.constant, self.error, self.given, self.own = constant, error, slopes or {}, own
        for i in sorted(range(max(start) + 1), reverse=True):
            if i in self.rows and not isinstance(self.network.nodes[i], Input):
                self._eliminate(i, self.rows.pop(i))
        return self._concretise()

    def _concretise(self) -> Fraction:
        form = self.constant - self.error - STEP
        value, size, total, n = form - 2 * STEP, abs(form), ZERO, 0
        for i in self.network.inputs:
            n, total = n + self.network.nodes[i].size, total + self.total[i]
            for k, d in enumerate(self.rows.get(i, [])):
                value += min(d * self.lower[i][k], d * self.upper[i][k])
                size += abs(d) * self.large[i][k]
        return value - rounding(2 * n + 4) * size - underflow(2 * n, total)

    def _add(self, terms: list[Fraction]) -> None:
        self.constant += sum(terms, ZERO)
        self.error += rounding(1) * abs(self.constant)

    def _charge(self, d: list[Fraction], charge: list[Fraction], terms: int, *inputs: int) -> None:
        self.error += sum((abs(a) * b for a, b in zip(d, charge, strict=True)), ZERO) + underflow(terms, sum((self.total[j] for j in inputs), ZERO))

    def _pass_on(self, j: int, m: list[Fraction]) -> None:
        if j not in self.rows:
            self.rows[j] = m
            return
        self.rows[j] = [a + b for a, b in zip(self.rows[j], m, strict=True)]
        self.error += rounding(1) * sum((abs(a) * h for a, h in zip(self.rows[j], self.large[j], strict=True)), ZERO) + underflow(1, self.total[j])

    def _slack_charge(self, i: int) -> list[Fraction]:
        node = self.network.nodes[i]
        products = sum(m.products for m in node.maps) if isinstance(node, Affine) else len(node.inputs)
        return [(1 + rounding(node.size + products)) * s for s in self.slack[i]]

    def _eliminate(self, i: int, d: list[Fraction]) -> None:
        node = self.network.nodes[i]
        match node:
            case Constant():
                value, radius = exact(node.value), exact(node.radius)
                self._add([a * v for a, v in zip(d, value, strict=True)])
                unit = rounding(node.size)
                lost = [unit * (abs(v) + FLOOR) + (1 + unit) * r + s for v, r, s in zip(value, radius, self._slack_charge(i), strict=True)]
                self.error += sum((abs(a) * e for a, e in zip(d, lost, strict=True)), ZERO) + underflow(node.size, sum(map(abs, value), ZERO))
            case Affine():
                self._affine(i, node, d)
            case Elementwise():
                self._elementwise(i, node, d)
            case Product():
                self._product(i, node, [[(k, k)] for k in range(node.size)], d, None)
            case MatMul():
                self._product(i, node, self._terms(node), d, self.network.nodes[node.inputs[0]].shape[-1])
            case Maximum():
                self._maximum(i, node, d)
            case _:
                raise TypeError(node)

    def _affine(self, i: int, node: Affine, d: list[Fraction]) -> None:
        charge, meets = self._slack_charge(i), max(m.meets for m in node.maps)
        if not bounds._is_pure(node):
            sums, n, _ = self._affine_sums(node)
            for o, (_, q, p, e) in enumerate(sums):
                charge[o] += rounding(meets + len(node.maps)) * (q + p + FLOOR) + (1 + rounding(node.size + n)) * e
                charge[o] += ZERO if node.bias is None else rounding(node.size) * (abs(Fraction(float(node.bias[o]))) + FLOOR)
        if not bounds._is_pure(node) or any(charge):
            self._charge(d, charge, meets + node.size, *node.inputs)
        if node.bias is not None:
            self._add([a * b for a, b in zip(d, exact(node.bias), strict=True)])
        for j, m in zip(node.inputs, node.maps, strict=True):
            back = [ZERO] * m.in_size
            for o, k, w in entries(m)[0]:
                back[k] += d[o] * w
            self._pass_on(j, back)

    def _elementwise(self, i: int, node: Elementwise, d: list[Fraction]) -> None:
        j = node.inputs[0]
        ends = self.state.lower[j], self.state.upper[j]  # of all boxes: where one has an offset, all pay for adding it
        slopes = self.given[i] if i in self.given else functions.default_slopes(node.function, *ends)
        offsets = functions.offsets(node.function, *(np.asarray(a).reshape(-1, node.size) for a in slopes), *ends)
        here = [np.broadcast_to(x, ends[0].shape)[min(self.b, len(ends[0]) - 1)] for x in (*slopes, *offsets)]
        a, b, o, p = map(exact, here)
        parts = [max(x, ZERO) for x in d], [min(x, ZERO) for x in d]
        for whole, offset, part in zip(offsets, (o, p), parts, strict=True):
            if whole.any():
                self._add([x * y for x, y in zip(part, offset, strict=True)])
        charge, back = self._slack_charge(i), [x * (s if x >= 0 else t) for x, s, t in zip(d, a, b, strict=True)]
        if self.own and i in self.given:
            offsets = sum((abs(x * y) for offset, part in zip((o, p), parts, strict=True) for x, y in zip(offset, part, strict=True)), ZERO)
            steep = sum((abs(m) * h for m, h in zip(back, self.large[j], strict=True)), ZERO)
            self.error += rounding(node.size) * offsets + rounding(2) * steep
        else:
            for k, h in enumerate(self.large[j]):
                charge[k] += rounding(2) * (max(abs(a[k]), abs(b[k])) * h + FLOOR) + rounding(node.size) * (max(abs(o[k]), abs(p[k])) + FLOOR)
        self._charge(d, charge, 1 + node.size, j)
        self._pass_on(j, back)

    def _product(self, i: int, node: Product | MatMul, terms: list[list[tuple[int, int]]], d: list[Fraction], k: int | None) -> None:
        x, y = node.inputs
        low_x, big_x, low_y, high_y, big_y = self.lower[x], self.large[x], self.lower[y], self.upper[y], self.large[y]
        free = 2 * max(node.shape[-2:]) if k is not None else 0
        charge, below, above = self._slack_charge(i), [], []
        to_x, to_y = [ZERO] * len(low_x), [ZERO] * len(low_y)
        for o, pairs in enumerate(terms):
            size = sum((abs(low_x[a]) * big_y[b] for a, b in pairs), ZERO)
            lost = ZERO if k is None else rounding(k + 1) * size + k * FLOOR
            below.append(-sum((low_x[a] * low_y[b] for a, b in pairs), ZERO) - lost - STEP)
            above.append(-sum((low_x[a] * high_y[b] for a, b in pairs), ZERO) + lost + STEP)
            weight = sum((big_x[a] * big_y[b] for a, b in pairs), ZERO) + size
            charge[o] += rounding(free + 3) * (weight + FLOOR) + rounding(2 * node.size) * (max(abs(below[o]), abs(above[o])) + FLOOR)
            for a, b in pairs:
                to_x[a] += d[o] * (low_y[b] if d[o] >= 0 else high_y[b])
                to_y[b] += d[o] * low_x[a]
        self._charge(d, charge, (free or 2) + 2 * node.size, x, y)
        self._add([max(c, ZERO) * v for c, v in zip(d, below, strict=True)])
        self._add([min(c, ZERO) * v for c, v in zip(d, above, strict=True)])
        self._pass_on(x, to_x)
        self._pass_on(y, to_y)

    def _maximum(self, i: int, node: Maximum, d: list[Fraction]) -> None:
        _, twin, difference = node.inputs
        charge, top = self._slack_charge(i), self.upper[i]
        ends = (np.array([[float(x) for x in end]]) for end in (self.lower[difference], self.upper[difference], self.lower[i], top))
        shares = exact(np.clip(share_of_twin(*ends), 0.0, 1.0)[0])
        for o in range(node.size):
            charge[o] += rounding(1) * self.large[twin][o] + rounding(node.size + 2) * (abs(top[o]) + FLOOR)
        self._charge(d, charge, 3 * node.size, twin)
        self._add([min(a, ZERO) * (1 - share) * end for a, share, end in zip(d, shares, top, strict=True)])
        self._pass_on(twin, [a if a > 0 else a * share for a, share in zip(d, shares, strict=True)])
