"""Interval and backward linear bounds in float64, batched over boxes and rows, every rounding paid for (ARITHMETIC 2 to 5).

A state says of every execution whose input is in the box, and that meets the splits on the path: lower <= h <= upper. A
backward pass turns sum_k D_k h_k + c into a function of the input, with an error E: value >= sum_k D_k h_k + c - E. All error
terms are taken from `arithmetic`, as attributes, so that a test can switch them off and see the checker fail.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from verifier.checker import arithmetic, crop, functions, shapes
from verifier.checker.arithmetic import Array, dn, finite, up
from verifier.checker.forward import Forward
from verifier.checker.network import Affine, Constant, Elementwise, Input, MatMul, Maximum, Network, Node, Product, Smooth
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.checker.slopes import multiplier, share_of_twin
from verifier.checker.state import Forms, Planes, State

Functional = Mapping[int, Array]  # node -> coefficients [1 or B, R, size]
Slopes = Mapping[int, tuple[Array, Array]]  # elementwise node -> lower and upper slopes [B, 1 or R, size], in place of the default ones
Bounds = Mapping[int, tuple[Array, Array]]  # node -> lower, upper [B or 1, size], known already
GEMM_FLOATS = 1 << 19  # coefficients of one block of rows: more only leaves the caches
BACKWARD, FORWARD = 1, 2  # bits of a program
NARROW = 128  # elements up to which backward bounds follow forward ones


class Checker:
    """The rules of one network. `slack` is None for the reals. Rows are walked in blocks of about `block` coefficients."""

    def __init__(self, network: Network, slack: Slack | None, block: int = GEMM_FLOATS) -> None:
        self.network, self.slack, self.block = network, slack, block
        self.widen = 0.0 if slack is None else arithmetic.THETA
        self.sizes = [network.nodes[i].size for i in network.inputs]
        self.n_in = sum(self.sizes)
        self.readers, self.exact = _readers(network), _exact_intervals(network)
        asked = {
            j for node in network.nodes if not (isinstance(node, Elementwise) and shapes.is_flat_below(node.function))
            for j in (node.inputs[:1] if isinstance(node, Maximum) else node.inputs)
        }
        self.flat_below = self.readers.keys() - asked - {*network.outputs}  # of these, who is small enough is not asked how small
        self.pure = {i: _is_pure(node) for i, node in enumerate(network.nodes)}
        self.adds = [isinstance(node, Affine) and node.bias_radius is None and all(m.adds for m in node.maps) for node in network.nodes]

    # ---------------------------------------------------------------- states

    def state(self, batch: int, lower: Array, upper: Array, known: Bounds, cuts: Bounds, program: int, last: int | None = None) -> State:
        """Bounds of the nodes (up to `last`) over boxes [batch or 1, n_in], intersected with what is `known` and with the paths' `cuts`.

        Arrays have one row, not `batch`, as long as nothing differs between the boxes. `program`: BACKWARD refines undecided elements;
        FORWARD carries forward bounds, and then only narrow nodes are refined.
        """
        state = State(np.zeros(batch, dtype=bool))
        ends = np.cumsum(self.sizes)[:-1]
        boxes = dict(zip(self.network.inputs, zip(np.split(lower, ends, 1), np.split(upper, ends, 1), strict=True), strict=True))
        run = None if self.slack is None else self.slack.start(batch)
        whole = [np.broadcast_to(end, (batch if cuts or known else len(end), self.n_in)) for end in (lower, upper)]  # paths may differ
        forward = Forward(self.network, self.planes, self.pure, *whole) if program & FORWARD else None
        stop = None if last is None else int(np.max([last, *self.network.inputs])) + 1  # every bound ends at all of the inputs
        for i, node in enumerate(self.network.nodes[:stop]):
            low, high = self._interval(state, i, node, boxes)
            s = None if run is None else run.step(i, low, high)
            s = None if s is None or not s.any() else s
            if s is not None:
                low, high = dn(low - s), up(high + s)
                self._pay(state, i, (1 + arithmetic.G(node.size + _products(node))) * s)
            finite(low, node.place)
            finite(high, node.place)
            state.lower.append(low)
            state.upper.append(high)
            state.slack.append(s)
            if forward is not None:
                self._intersect(state, i, *forward.step(state, i, node, s))
            for given in (known, cuts):
                if i in given:
                    self._intersect(state, i, *given[i])
            if program & BACKWARD and i in self.readers and i not in self.exact and (forward is None or node.size <= NARROW):
                self.refine(state, i)
        return state

    def _intersect(self, state: State, i: int, lower: Array, upper: Array, rows: Array | slice = slice(None)) -> None:
        """Intersect bounds of the elements `rows` of node i; a contradiction is remembered in `crossed`, and the arrays stay usable."""
        low, high = state.lower[i].copy(), state.upper[i].copy()
        if len(lower) > len(low):
            low, high = np.repeat(low, len(lower), 0), np.repeat(high, len(lower), 0)
        low[:, rows], high[:, rows] = np.maximum(low[:, rows], lower), np.minimum(high[:, rows], upper)
        bad = low > high
        if bad.any():
            state.crossed = state.crossed | bad.any(-1)
            state.where[i] = state.where[i] | bad if i in state.where else bad
        state.lower[i], state.upper[i] = np.minimum(low, high), high
        for reader in self.readers.get(i, ()):
            state.planes.pop(reader, None)

    def within(self, state: State, plane: Forms) -> None:
        """Refine every operand of a non-linear node for the executions with plane <= 0 ([B, 1, n_in], [B, 1]), first layers first."""
        for i in sorted(self.readers):
            self.refine(state, i, plane)

    def refine(self, state: State, i: int, plane: Forms | None = None) -> None:
        """Intersect backward bounds of what is undecided of node i, in each box for itself, with default slopes."""
        for sides in ((1,), (0,)) if i in self.flat_below else ((0, 1),):
            rows = np.flatnonzero((matter := self.matter(state, i)).any(0))
            if rows.size:
                self.derive(state, i, np.concatenate([2 * rows + side for side in sides]), {}, plane, matter)

    def derive(self, state: State, i: int, codes: Array, slopes: Slopes, plane: Forms | None = None, mine: Array | None = None) -> None:
        """Intersect backward bounds of the rows `codes` (2 element + side) of node i, with these slopes [B, R, size] per row; only those that
        are `mine` [B or 1, size]."""
        value = np.where(True if mine is None else mine[:, codes // 2], self.rows(state, i, codes, slopes, plane), -np.inf)
        for side in set((codes % 2).tolist()):
            rows, ends, infinite = codes[codes % 2 == side] // 2, value[:, codes % 2 == side], np.full((1, 1), np.inf)
            self._intersect(state, i, *((ends, infinite) if side == 0 else (np.repeat(-infinite, len(ends), 0), -ends)), rows)

    def matter(self, state: State, i: int) -> Array:
        """Which elements of node i are undecided [B or 1, size]: some reader's relaxation depends on their bounds (FORMAT.md, "Refine")."""
        low, high = state.lower[i], state.upper[i]
        matter = np.zeros(low.shape, dtype=bool)
        for node in (self.network.nodes[reader] for reader in self.readers[i]):
            matter |= ~functions.is_linear(node.function, low, high) if isinstance(node, Elementwise) else low < high
        if isinstance(own := self.network.nodes[i], Elementwise) and own.inputs[0] not in self.exact:
            matter &= functions.is_linear(own.function, state.lower[own.inputs[0]], state.upper[own.inputs[0]])
        return matter

    def rows(self, state: State, i: int, codes: Array, slopes: Slopes, plane: Forms | None = None) -> Array:
        """Lower bounds [B, R] of +element (even codes) or -element (odd codes) of node i, in blocks of rows, of images tile by tile."""
        if not slopes and plane is None and (found := crop.rows(self, state, i, codes)) is not None:
            return found
        batch, parts = len(state.crossed), []
        widest = int(np.max([node.size for node in self.network.nodes[: i + 1]]))
        step = int(np.maximum(1, self.block // (batch * widest)))
        for start in range(0, len(codes), step):
            part = codes[start : start + step]
            unit = np.zeros((1, len(part), self.network.nodes[i].size))
            unit[0, np.arange(len(part)), part // 2] = 1.0 - 2.0 * (part % 2)
            chosen = {k: (low[:, start : start + step], high[:, start : start + step]) for k, (low, high) in slopes.items()}
            parts.append(self.lower_bound(state, {i: unit}, np.zeros((1, len(part))), np.zeros((1, len(part))), chosen, plane))
        return np.concatenate(parts, 1)

    # ---------------------------------------------------------------- interval step (ARITHMETIC 4)

    def _interval(self, state: State, i: int, node: Node, boxes: Bounds) -> tuple[Array, Array]:
        match node:
            case Input():
                return boxes[i]
            case Constant():
                return dn(node.value - node.radius)[None], up(node.value + node.radius)[None]
            case Affine():
                return self._affine_interval(state, i, node)
            case Elementwise():
                j = node.inputs[0]
                return functions.interval(node.function, state.lower[j], state.upper[j], self.widen)
            case Product():
                return _product_interval(*(state.lower[j] for j in node.inputs), *(state.upper[j] for j in node.inputs))
            case MatMul():
                return self._matmul_interval(state, node)
            case Maximum():
                return self._over_windows(node, state.lower[node.inputs[0]]), self._over_windows(node, state.upper[node.inputs[0]])
        raise Rejected("no-rule", f"interval step of {type(node).__name__}, {node.place}")

    def _affine_interval(self, state: State, i: int, node: Affine) -> tuple[Array, Array]:
        if self.pure[i]:
            ends = ([m.apply(end[j]) for j, m in zip(node.inputs, node.maps, strict=True)] for end in (state.lower, state.upper))
            low, high = (sum(parts[1:], parts[0]) for parts in ends)
            return low, high
        n, (z, q, p, d, tiny) = _products(node), (np.zeros((1, node.size)) for _ in range(5))
        for j, m in zip(node.inputs, node.maps, strict=True):
            c, rho = _centre(state.lower[j], state.upper[j], (m.in_size,))
            h = state.largest(j)
            size = m.magnitude(np.concatenate([rho, np.abs(c)]))
            z, q, p = z + m.apply(c), q + size[: len(c)], p + size[len(c) :]
            radius = m.radius(h)
            d = d if radius is None else d + radius
            tiny = tiny + arithmetic.T(n, h)[:, None]
        weight = p + q  # at least |W| H
        if node.bias is not None:
            z, p = z + node.bias, p + np.abs(node.bias)
        d = d if node.bias_radius is None else d + node.bias_radius
        charge = arithmetic.G(_meets(node) + len(node.maps)) * (weight + arithmetic.FLOOR)
        charge = charge if node.bias is None else charge + arithmetic.G(node.size) * (np.abs(node.bias) + arithmetic.FLOOR)
        self._pay(state, i, charge + (1 + arithmetic.G(node.size + n)) * d)
        radius = q + d + (lost := arithmetic.G(n + 4 + len(node.maps))) * (q + p + d) + tiny
        least = self._sum_of_ends(state, node, lost, tiny) if self.adds[i] else -np.inf
        return np.maximum(dn(z - radius), least), up(z + radius)

    def _sum_of_ends(self, state: State, node: Affine, lost: float, tiny: Array) -> Array:
        """W l + b, where no weight is negative: it loses little where all of these are small, whatever the upper ends (a softmax's sum)."""
        start = np.zeros(node.size) if node.bias is None else node.bias
        parts = (m.apply(np.stack([x := state.lower[j], np.abs(x)])) for j, m in zip(node.inputs, node.maps, strict=True))
        low, size = sum(parts, np.stack([start, np.abs(start)])[:, None])
        return dn(low - lost * size - tiny)

    def _pay(self, state: State, i: int, charge: Array) -> None:
        state.charge[i] = state.charge[i] + charge if i in state.charge else charge

    def _matmul_interval(self, state: State, node: MatMul) -> tuple[Array, Array]:
        """Centre and radius (Rump): [x][y] lies within cx cy +- (|cx| ry + rx (|cy| + ry))."""
        (cx, rx), (cy, ry) = (_centre(state.lower[j], state.upper[j], self.network.nodes[j].shape) for j in node.inputs)
        size = (np.abs(cx) + rx) @ (np.abs(cy) + ry)
        radius = np.abs(cx) @ ry + rx @ (np.abs(cy) + ry) + arithmetic.G(2 * cx.shape[-1] + 4) * size + 2.0**-900
        z = cx @ cy
        return dn(z - radius).reshape(len(z), -1), up(z + radius).reshape(len(z), -1)

    def _over_windows(self, node: Maximum, x: Array) -> Array:
        return np.asarray(np.where(node.windows >= 0, x[:, np.maximum(node.windows, 0)], -np.inf).max(-1))

    # ---------------------------------------------------------------- backward pass (ARITHMETIC 5)

    def lower_bound(self, state: State, functional: Functional, constant: Array, error: Array, slopes: Slopes, plane: Forms | None = None) -> Array:
        """lower bounds [B, R] of sum_k D_k h_k + c over the boxes, or what plane <= 0 leaves of them; `error` [B or 1, R] is lost already."""
        forms, box = self.forms(state, functional, constant, error, slopes), self.box(state)
        return self.evaluate(forms if plane is None else self.tilted(forms, plane, *box), *box)

    def forms(self, state: State, functional: Functional, constant: Array, error: Array, slopes: Slopes) -> Forms:
        """The functionals as functions of the input that bound them from below over the boxes."""
        d, c, e = _Backward(self, state, dict(functional), constant, error, slopes).eliminate()
        return Forms(d, dn(c - e))

    def evaluate(self, forms: Forms, lower: Array, upper: Array) -> Array:
        """The least value [B, R] of the forms over boxes [B, n], rounding included."""
        d, c, h = forms.coefficients, forms.constant, np.maximum(np.abs(lower), np.abs(upper))
        positive = np.maximum(d, 0.0)
        value, size = _dot(positive, lower) + _dot(d - positive, upper), _dot(np.abs(d), h) + np.abs(c)
        lost = arithmetic.G(2 * d.shape[-1] + 4) * size + arithmetic.T(2 * d.shape[-1], h)[:, None]
        return finite(dn(dn(value + c) - lost), "concretisation")

    def tilted(self, forms: Forms, plane: Forms, lower: Array, upper: Array) -> Forms:
        """forms + m plane, rounded down, with one m >= 0 for each form: below the forms wherever plane <= 0 in the boxes [B or 1, n_in].

        fl(p + m a) is two roundings of p and m a, and two underflows, away from p + m a, times |x| at most; m itself is data.
        """
        m = multiplier(forms.coefficients, plane.coefficients, plane.constant, lower, upper)
        m = np.where(np.isfinite(m) & (m > 0), m, 0.0)
        p, tilt, h = forms.coefficients, m[..., None] * plane.coefficients, np.maximum(np.abs(lower), np.abs(upper))
        lost = arithmetic.G(2) * _dot(np.abs(p) + np.abs(tilt), h) + arithmetic.T(2 * p.shape[-1], h)[:, None]
        return Forms(p + tilt, dn(dn(forms.constant + dn(m * plane.constant)) - lost))

    def box(self, state: State) -> tuple[Array, Array]:
        """The inputs of a state, together; a split on one of them (as the operand of a site) may have given it more rows than the others."""
        batch = int(np.max([len(state.lower[i]) for i in self.network.inputs]))
        lower, upper = (
            np.concatenate([np.broadcast_to(end[i], (batch, n)) for i, n in zip(self.network.inputs, self.sizes, strict=True)], 1)
            for end in (state.lower, state.upper)
        )
        return lower, upper

    def planes(self, state: State, i: int, node: Elementwise, slopes: Slopes | None = None) -> Planes:
        """Any finite slopes, rigorous offsets; slopes shared by all rows are paid for by one vector per box."""
        chosen = None if slopes is None else slopes.get(i)
        if chosen is None and i in state.planes:
            return state.planes[i]
        j = node.inputs[0]
        low, high = state.lower[j][:, None], state.upper[j][:, None]
        a, b = functions.default_slopes(node.function, low, high) if chosen is None else chosen
        o, p = functions.offsets(node.function, a, b, low, high, self.widen)
        charge = None
        if a.shape[1] == 1:
            steep, high_offset = np.maximum(np.abs(a), np.abs(b)), np.maximum(np.abs(o), np.abs(p))
            h = state.largest(j)[:, None]
            charge = arithmetic.G(2) * (steep * h + arithmetic.FLOOR) + arithmetic.G(node.size) * (high_offset + arithmetic.FLOOR)
            charge = charge[:, 0] if i not in state.charge else charge[:, 0] + state.charge[i]
        planes = Planes(a, b, o, p, charge)
        if chosen is None:
            state.planes[i] = planes
        return planes

    # ---------------------------------------------------------------- clipping

    def cut(self, forms: Forms, lower: Array, upper: Array) -> tuple[Array, Array, Array]:
        """Per row the least value over the box [B, R], and ends [B, R, n_in] outside which the functional is positive.

        With L <= a.x + b on the box, a_i > 0: a.x + b >= L + a_i (x_i - lower_i), so it is <= 0 only where x_i <= lower_i - L / a_i.
        """
        least, a = self.evaluate(forms, lower, upper), forms.coefficients
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            room = up(np.maximum(-least, 0.0)[..., None] / np.abs(a))  # +inf where a is 0 or tiny: no cut
            new_upper = np.where(a > 0, up(lower[:, None] + room), np.inf)
            new_lower = np.where(a < 0, dn(upper[:, None] - room), -np.inf)
        return least, new_lower, new_upper


class _Backward:
    """One elimination: coefficients per node, the constant c and the error E so far.

    A coefficient or constant that is not finite makes E not finite (every charge is positive, and E pays for |c|); E is tested after every step.
    """

    def __init__(self, checker: Checker, state: State, functional: dict[int, Array], constant: Array, error: Array, slopes: Slopes) -> None:
        self.checker, self.nodes, self.state, self.coefficients, self.slopes = checker, checker.network.nodes, state, functional, slopes
        self.batch, rows = len(state.crossed), constant.shape[-1]
        self.constant = np.broadcast_to(constant, (self.batch, rows))
        self.error = np.broadcast_to(error, (self.batch, rows))

    def eliminate(self) -> tuple[Array, Array, Array]:
        """(D over the input [B, R, n_in], c [B, R], E [B, R])."""
        found: dict[int, Array] = {}
        for i in sorted(range(int(np.max([-1, *self.coefficients])) + 1), reverse=True):
            d = self.coefficients.pop(i, None)
            if d is None:
                continue
            if isinstance(self.nodes[i], Input):
                found[i] = d
            else:
                self._step(i, self.nodes[i], d)
                finite(self.error, self.nodes[i].place)
        rows = self.constant.shape[1]
        parts = [np.broadcast_to(found.get(i, np.zeros((1, rows, n))), (self.batch, rows, n))
                 for i, n in zip(self.checker.network.inputs, self.checker.sizes, strict=True)]
        return np.concatenate(parts, -1), self.constant, self.error

    def _step(self, i: int, node: Node, d: Array) -> None:
        match node:
            case Constant():
                self._add(_dot(d, node.value[None]))
                lost = (arithmetic.G(node.size) * (np.abs(node.value) + arithmetic.FLOOR) + (1 + arithmetic.G(node.size)) * node.radius)[None]
                self._lose(_dot(np.abs(d), lost + self.state.charge.get(i, 0.0)) + arithmetic.T(node.size, np.abs(node.value)))
            case Affine():
                self._affine(i, node, d)
            case Elementwise():
                self._elementwise(i, node, d)
            case Product():
                self._product(i, node, d)
            case MatMul():
                self._matmul(i, node, d)
            case Maximum():
                self._maximum(i, node, d)
            case _:
                raise Rejected("no-rule", f"backward step of {type(node).__name__}, {node.place}")

    def _lose(self, lost: Array) -> None:
        self.error = self.error + lost

    def _add(self, term: Array) -> None:
        self.constant = self.constant + term
        self.error = self.error + arithmetic.G(1) * np.abs(self.constant)

    def _charge(self, size: Array, charge: Array, terms: int, *inputs: int) -> None:
        """E += |D| charge + T, `size` being |D|."""
        tiny = arithmetic.T(terms, sum((self.state.total(j) for j in inputs[1:]), self.state.total(inputs[0])))[:, None]
        self._lose(_dot(size, charge) + tiny)

    def _pass_on(self, j: int, m: Array) -> None:
        """Add coefficients to node j; a second contribution rounds (ARITHMETIC, example 3)."""
        held = self.coefficients.get(j)
        self.coefficients[j] = m if held is None else held + m
        if held is not None:
            lost = arithmetic.G(1) * _dot(np.abs(self.coefficients[j]), self.state.largest(j))
            self._lose(lost + arithmetic.T(1, self.state.total(j))[:, None])

    def _affine(self, i: int, node: Affine, d: Array) -> None:
        if i in self.state.charge:
            self._charge(np.abs(d), self.state.charge[i], _meets(node) + node.size, *node.inputs)
        if node.bias is not None:
            self._add(_dot(d, node.bias[None]))
        for j, m in zip(node.inputs, node.maps, strict=True):
            self._pass_on(j, m.adjoint(d))

    def _elementwise(self, i: int, node: Elementwise, d: Array) -> None:
        planes, j = self.checker.planes(self.state, i, node, self.slopes), node.inputs[0]
        size = np.abs(d)
        if planes.charge is not None:
            self._charge(size, planes.charge, 1 + node.size, j)
        positive = np.multiply(np.add(size, d, out=size), 0.5, out=size)  # max(d, 0), exactly, in a third of the time
        negative = d - positive
        self._by_offsets(positive, negative, planes.offset_lower, planes.offset_upper)
        if planes.charge is None:
            self._charge(positive - negative, self.state.charge.get(i, np.zeros((1, node.size))), 1 + node.size, j)
            self._lose(arithmetic.G(node.size) * (_dot(positive, np.abs(planes.offset_lower)) - _dot(negative, np.abs(planes.offset_upper))))
        m = _scaled(positive, planes.slope_lower)
        m += _scaled(negative, planes.slope_upper)  # one of the two is 0: no rounding
        if planes.charge is None:
            self._lose(arithmetic.G(2) * _dot(np.abs(m), self.state.largest(j)))
        self._pass_on(j, m)

    def _by_offsets(self, positive: Array, negative: Array, below: Array, above: Array) -> None:
        """c += what max(d, 0) and min(d, 0) meet. Nothing but zeros adds no rounding."""
        for part, offset in ((positive, below), (negative, above)):
            if offset.any():
                self._add(_dot(part, offset))

    def _product(self, i: int, node: Product, d: Array) -> None:
        """x y >= y_low x + x_low y - x_low y_low, and x y <= y_high x + x_low y - x_low y_high: (x - x_low)(y - y_low) >= 0 (McCormick)."""
        (x, y), state = node.inputs, self.state
        low_x, low_y, high_y = state.lower[x], state.lower[y], state.upper[y]
        below, above = dn(-(low_x * low_y)), up(-(low_x * high_y))
        weight = state.largest(y) * state.largest(x) + np.abs(low_x) * state.largest(y)
        charge = arithmetic.G(3) * (weight + arithmetic.FLOOR)
        charge = charge + arithmetic.G(2 * node.size) * (np.maximum(np.abs(below), np.abs(above)) + arithmetic.FLOOR)
        self._charge(np.abs(d), charge + state.charge.get(i, 0.0), 2 + 2 * node.size, x, y)
        self._by_offsets(positive := np.maximum(d, 0.0), negative := d - positive, below, above)
        self._pass_on(x, positive * low_y[:, None] + negative * high_y[:, None])
        self._pass_on(y, d * low_x[:, None])

    def _matmul(self, i: int, node: MatMul, d: Array) -> None:
        """The same planes, contracted like the product; the offsets are sums of k terms each, +- G(k + 1) of their magnitudes."""
        (x, y), state = node.inputs, self.state
        shape_x, shape_y = (self.nodes[j].shape for j in node.inputs)
        low_x, big_x = (t.reshape(-1, *shape_x) for t in (state.lower[x], state.largest(x)))
        low_y, high_y, big_y = (t.reshape(-1, *shape_y) for t in (state.lower[y], state.upper[y], state.largest(y)))
        k = shape_x[-1]
        size = (np.abs(low_x) @ big_y).reshape(-1, node.size)
        lost = arithmetic.G(k + 1) * size + k * arithmetic.FLOOR
        below, above = dn(-(low_x @ low_y).reshape(size.shape) - lost), up(-(low_x @ high_y).reshape(size.shape) + lost)
        terms = 2 * int(np.max(node.shape[-2:]))
        weight = (big_x @ big_y).reshape(size.shape) + size
        charge = arithmetic.G(terms + 3) * (weight + arithmetic.FLOOR)
        charge = charge + arithmetic.G(2 * node.size) * (np.maximum(np.abs(below), np.abs(above)) + arithmetic.FLOOR)
        self._charge(np.abs(d), charge + state.charge.get(i, 0.0), terms + 2 * node.size, x, y)
        self._by_offsets(positive := np.maximum(d, 0.0), negative := d - positive, below, above)
        lead = (*d.shape[:2], *node.shape)
        pos, neg = positive.reshape(lead), negative.reshape(lead)
        to_x = pos @ np.swapaxes(low_y, -1, -2)[:, None] + neg @ np.swapaxes(high_y, -1, -2)[:, None]
        to_y = np.swapaxes(low_x, -1, -2)[:, None] @ d.reshape(lead)
        self._pass_on(x, to_x.reshape(*to_x.shape[:2], -1))
        self._pass_on(y, to_y.reshape(*to_y.shape[:2], -1))

    def _maximum(self, i: int, node: Maximum, d: Array) -> None:
        """Lower: its twin, which is the same number. Upper: a share of that, and its own upper bound for the rest."""
        state, (_, twin, difference) = self.state, node.inputs
        top = state.upper[i]
        share = np.clip(share_of_twin(state.lower[difference], state.upper[difference], state.lower[i], top), 0.0, 1.0)
        charge = arithmetic.G(1) * state.largest(twin) + arithmetic.G(node.size + 2) * (np.abs(top) + arithmetic.FLOOR)
        self._charge(np.abs(d), charge + state.charge.get(i, 0.0), 3 * node.size, twin)
        positive = np.maximum(d, 0.0)
        negative = d - positive
        self._add(_dot(negative, (1 - share) * top))
        self._pass_on(twin, positive + negative * share[:, None])


def _dot(d: Array, v: Array) -> Array:
    """sum over elements of d [B or 1, R, n] times v [B or 1, n] or [B or 1, 1 or R, n]: [B, R] (or [1, R])."""
    if v.ndim == 3 and v.shape[1] > 1:
        return np.asarray((d * v).sum(-1))
    v = v[:, 0] if v.ndim == 3 else v
    if d.shape[0] == 1:
        return np.asarray(v @ d[0].T)
    if v.shape[0] == 1:
        return np.asarray(d @ v[0])
    return np.asarray((d @ v[..., None])[..., 0])


def _scaled(d: Array, by: Array) -> Array:
    """d times `by`, in place of d where it fits."""
    return np.multiply(d, by, out=d) if np.broadcast_shapes(d.shape, by.shape) == d.shape else d * by


def _centre(lower: Array, upper: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    c = lower / 2 + upper / 2
    return c.reshape(-1, *shape), up(np.maximum(upper - c, c - lower)).reshape(-1, *shape)


def _product_interval(low_x: Array, low_y: Array, high_x: Array, high_y: Array) -> tuple[Array, Array]:
    corners = np.stack([low_x * low_y, low_x * high_y, high_x * low_y, high_x * high_y])
    return dn(corners.min(0)), up(corners.max(0))


def _products(node: Node) -> int:
    """Products of one output: n_in of ARITHMETIC 4."""
    return sum(m.products for m in node.maps) if isinstance(node, Affine) else len(node.inputs)


def _meets(node: Affine) -> int:
    return max(m.meets for m in node.maps)


def _is_pure(node: Node) -> bool:
    """Only moves numbers: every output is one input, or 0."""
    if not isinstance(node, Affine) or node.bias is not None or not all(m.moves for m in node.maps):
        return False
    return bool((sum((m.row_sums() for m in node.maps), np.zeros(node.size)) <= 1).all())


def _readers(network: Network) -> dict[int, tuple[int, ...]]:
    """Nodes whose bounds a relaxation reads, with the non-linear nodes that read them."""
    found: dict[int, list[int]] = {}
    for i, node in enumerate(network.nodes):
        if isinstance(node, Elementwise | Product | MatMul):
            for j in dict.fromkeys(node.inputs):
                found.setdefault(j, []).append(i)
    return {j: tuple(readers) for j, readers in found.items()}


def _exact_intervals(network: Network) -> frozenset[int]:
    """Nodes whose interval a backward pass cannot improve: functions of the input box through one map that mixes, and smooth functions.

    A plane below f over the bounds of its argument is nowhere above f there, so over them it is at most the least of f; that of the argument is
    bounded backwards (unless it is one number), and so the interval of f, and of what takes its elements one by one, is as good.
    """
    boxes, exact, smooth = set(network.inputs), set(network.inputs), set[int]()  # boxes: every element depends on an input of its own
    for i, node in enumerate(network.nodes):
        match node:
            case Constant():
                exact.add(i)
            case Affine() if len(node.inputs) == 1 and node.inputs[0] in boxes:
                exact.add(i)
                if node.maps[0].products <= 1 and node.maps[0].meets <= 1:
                    boxes.add(i)
            case Affine() if len(node.inputs) == 1 and node.inputs[0] in smooth and node.maps[0].products <= 1:
                smooth.add(i)
            case Elementwise() if node.inputs[0] in exact:
                exact.add(i)
                if node.inputs[0] in boxes:
                    boxes.add(i)
        if isinstance(node, Elementwise) and isinstance(node.function, Smooth):
            smooth.add(i)
    return frozenset(exact | smooth)
