"""Forward bounds: every error term against a second computation, and which inputs vary."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import cast

import numpy as np
import pytest

from tests.checker.accounts import FLOOR, STEP, ZERO, Accounts, entries, exact, loosened, magnified, rounding, underflow
from tests.checker.random_networks import RELU, Array, random_box, random_network, random_point
from tests.checker.test_bounds import LOPSIDED
from tests.checker.test_exact import _SomeSlack
from tests.checker.twins import box_of
from tests.effort import examples
from verifier.checker import bounds, functions
from verifier.checker.bounds import FORWARD, Checker
from verifier.checker.exact_bounds import ExactBounds
from verifier.checker.forward import NEGLIGIBLE, Forward
from verifier.checker.maps import Dense, Index
from verifier.checker.network import Affine, Elementwise, Input, Maximum, Network, Node, Product
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.checker.slopes import share_of_twin
from verifier.checker.state import State

Rows = list[list[Fraction]]  # constants, then a row for each input that varies
Pair = tuple[Rows, Rows]


class ForwardAccounts(Accounts):
    """The linear functions of every node over box `b` of the boxes `lower`, `upper`, from those before it."""

    def __init__(self, network: Network, state: State, b: int, lower: Array, upper: Array, varying: list[int]) -> None:
        super().__init__(network, state, b)
        self.varying, self.box = varying, (exact(lower[b]), exact(upper[b]))
        self.centre = [(self.box[1][k] + self.box[0][k]) / 2 for k in varying]
        self.weight = [Fraction(1), *((self.box[1][k] - self.box[0][k]) / 2 + STEP for k in varying)]
        self.forms: list[Pair] = []

    def step(self, i: int) -> Pair:
        node, s = self.network.nodes[i], self.slack[i]
        match node:
            case Input():
                form = self._input(i)
            case Affine():
                form = self._affine_form(node)
            case Elementwise():
                form = self._elementwise_form(i, node)
            case Product():
                form = self._product_form(node)
            case Maximum():
                form = self._maximum_form(i, node)
            case _:
                flat = [[ZERO] * node.size for _ in self.varying]
                ends = self.interval(i)
                return [list(ends[0]), *flat], [list(ends[1]), *flat]
        if self.state.slack[i] is not None:
            return _moved(form, [-x for x in s], s)
        return form

    def size(self, form: Pair) -> list[Fraction]:
        return [sum((w * (abs(a[k]) + abs(c[k])) for w, a, c in zip(self.weight, *form, strict=True)), ZERO) for k in range(len(form[0][0]))]

    def over_box(self, form: Pair) -> tuple[list[Fraction], list[Fraction]]:
        """What the functions say of the node, over the box."""
        n, found = len(self.varying), []
        tiny = underflow(n + 1, sum(self.weight[1:], ZERO))
        for rows, sign in ((form[0], -1), (form[1], 1)):
            side = []
            for k in range(len(rows[0])):
                reach = sum((w * abs(row[k]) for w, row in zip(self.weight[1:], rows[1:], strict=True)), ZERO)
                side.append(rows[0][k] + sign * (reach + rounding(n + 4) * (abs(rows[0][k]) + reach) + tiny + STEP))
            found.append(side)
        return found[0], found[1]

    def _input(self, i: int) -> Pair:
        first = sum(self.network.nodes[k].size for k in self.network.inputs if k < i)
        pair = []
        mine = range(first, first + self.network.nodes[i].size)
        for end in self.box:
            constants = [self.centre[self.varying.index(k)] if k in self.varying else end[k] for k in mine]
            pair.append([constants, *([Fraction(k == v) for k in mine] for v in self.varying)])
        return pair[0], pair[1]

    def _affine_form(self, node: Affine) -> Pair:
        n, count = sum(m.products for m in node.maps), 1 + len(self.varying)
        low, high = ([[ZERO] * node.size for _ in range(count)] for _ in range(2))
        lost = [ZERO] * node.size if node.bias_radius is None else exact(node.bias_radius)
        for j, m in zip(node.inputs, node.maps, strict=True):
            form, size = self.forms[j], self.size(self.forms[j])
            weights, radii = entries(m)
            for o, k, w in weights:
                for row in range(count):
                    a, b = (form[0][row][k], form[1][row][k])[:: 1 if w >= 0 else -1]
                    low[row][o] += w * a
                    high[row][o] += w * b
                lost[o] += rounding(n + 6 + len(node.maps)) * abs(w) * size[k]
            for o, k, r in radii:
                lost[o] += (1 + rounding(n)) * r * self.large[j][k]
            lost = [x + underflow(2 * n, sum(size, ZERO)) for x in lost]
        if bounds._is_pure(node):
            return low, high
        bias = [ZERO] * node.size if node.bias is None else exact(node.bias)
        down = [b - e - 2 * STEP for b, e in zip(bias, lost, strict=True)]
        return _moved((low, high), down, [b + e + 2 * STEP for b, e in zip(bias, lost, strict=True)])

    def _maximum_form(self, i: int, node: Maximum) -> Pair:
        _, twin, difference = node.inputs
        form, (low, high) = self.forms[twin], self.interval(i)
        ends = [np.array([[float(x) for x in end]]) for end in (self.lower[difference], self.upper[difference], low, high)]
        shares = exact(np.clip(share_of_twin(*ends), 0.0, 1.0)[0])
        lost = [rounding(4) * (x + abs(top) + FLOOR) + STEP for x, top in zip(self.size(form), high, strict=True)]
        above = [[share * x for share, x in zip(shares, row, strict=True)] for row in form[1]]
        rest = [(1 - share) * top + e + STEP for share, top, e in zip(shares, high, lost, strict=True)]
        return _moved((form[0], above), [-e for e in lost], rest)

    def _elementwise_form(self, i: int, node: Elementwise) -> Pair:
        j = node.inputs[0]
        ends = self.ends[0][j], self.ends[1][j]
        slopes = functions.default_slopes(node.function, *ends)
        offsets = functions.offsets(node.function, *slopes, *ends)
        (a, b), (o, p) = ([exact(np.broadcast_to(x, (1, node.size))) for x in pair] for pair in (slopes, offsets))
        form, size = self.forms[j], self.size(self.forms[j])
        low = [[a[k] * form[0 if a[k] >= 0 else 1][row][k] for k in range(node.size)] for row in range(len(form[0]))]
        high = [[b[k] * form[1 if b[k] >= 0 else 0][row][k] for k in range(node.size)] for row in range(len(form[0]))]
        lost = [[rounding(2) * abs(x) * y + underflow(2, sum(size, ZERO)) + STEP for x, y in zip(slope, size, strict=True)] for slope in (a, b)]
        return _moved((low, high), [x - e for x, e in zip(o, lost[0], strict=True)], [x + e for x, e in zip(p, lost[1], strict=True)])

    def _product_form(self, node: Product) -> Pair:
        x, y = node.inputs
        fx, fy = self.forms[x], self.forms[y]
        sizes = self.size(fx), self.size(fy)
        low, high, down, rise = [], [], [], []
        for row in range(len(fx[0])):
            low.append([_times(self.lower[y][k], fx, 0, row, k) + _times(self.lower[x][k], fy, 0, row, k) for k in range(node.size)])
            high.append([_times(self.upper[y][k], fx, 1, row, k) + _times(self.lower[x][k], fy, 1, row, k) for k in range(node.size)])
        for k in range(node.size):
            lost = rounding(4) * (sizes[0][k] * self.large[y][k] + sizes[1][k] * abs(self.lower[x][k]) + FLOOR)
            down.append(-self.lower[x][k] * self.lower[y][k] - lost - 2 * STEP)
            rise.append(-self.lower[x][k] * self.upper[y][k] + lost + 2 * STEP)
        return _moved((low, high), down, rise)


def _times(slope: Fraction, form: Pair, side: int, row: int, k: int) -> Fraction:
    return slope * form[side if slope >= 0 else 1 - side][row][k]


def _moved(form: Pair, down: list[Fraction], rise: list[Fraction]) -> Pair:
    low = [a + x - STEP for a, x in zip(form[0][0], down, strict=True)]
    return [low, *form[0][1:]], [[a + x + STEP for a, x in zip(form[1][0], rise, strict=True)], *form[1][1:]]


def near(got: float, wanted: Fraction, size: Fraction) -> bool:
    return abs(Fraction(got) - wanted) <= Fraction(1, 10**10) * (1 + size)


def captured(of: Network, slack: Slack | None, lower: Array, upper: Array) -> tuple[State, Forward]:
    """A state with forward bounds, and the functions behind them."""
    kept: list[Forward] = []

    def made(*arguments: object) -> Forward:
        kept.append(Forward(*arguments))  # type: ignore[arg-type]
        return kept[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "Forward", made)
        checker = Checker(of, slack)
        checker.widen = 0.0
        return checker.state(len(lower), lower, upper, {}, {}, FORWARD), kept[0]


@pytest.mark.parametrize("slack", [False, True])
def test_every_error_term_is_accounted_for(slack: bool) -> None:
    for seed in range(examples(80)):
        r = Random(seed)
        of = loosened(random_network(r, 6))
        lower, upper = (np.stack(end) for end in zip(*(random_box(r, of) for _ in range(2)), strict=True))
        with magnified():
            state, found = captured(of, cast(Slack, _SomeSlack(r, of)) if slack else None, lower, upper)
        for b in range(2):
            accounts = ForwardAccounts(of, state, b, lower, upper, found.varying.tolist())
            for i in range(len(of.nodes)):
                form = accounts.step(i)
                accounts.forms.append(form)
                size = sum(accounts.size(form), ZERO)
                for rows, wanted in zip((found.forms[i].low[b], found.forms[i].high[b]), form, strict=True):
                    for got, want in zip(rows.reshape(-1).tolist(), [x for row in wanted for x in row], strict=True):
                        assert near(got, want, size), (seed, i, type(of.nodes[i]).__name__)
                interval = list(accounts.box[0]), list(accounts.box[1])
                interval = accounts.interval(i) if not isinstance(of.nodes[i], Input) else _part(of, i, *interval)
                low, high = accounts.over_box(form)
                for k in range(of.nodes[i].size):
                    ends = (float(side[i][min(b, len(side[i]) - 1), k]) for side in (state.lower, state.upper))
                    for got, want in zip(ends, (max(interval[0][k], low[k]), min(interval[1][k], high[k])), strict=True):
                        assert near(got, want, size), (seed, i, k)


def _part(of: Network, i: int, *ends: list[Fraction]) -> tuple[list[Fraction], list[Fraction]]:
    first = sum(of.nodes[k].size for k in of.inputs if k < i)
    low, high = (end[first : first + of.nodes[i].size] for end in ends)
    return low, high


def test_no_function_excludes_a_run() -> None:
    """Functions, not only their ends: at a point of the box, of which t is known, every node of the exact run lies between them."""
    for seed in range(60):
        r = Random(seed)
        of = random_network(r, 6)
        lower, upper = random_box(r, of)
        try:
            _, found = captured(of, None, lower[None], upper[None])
        except Rejected:
            continue
        for _ in range(3):
            point = random_point(r, lower, upper)
            run = ExactBounds(of).state(box_of(of, point), box_of(of, point))
            centre = lower[found.varying] / 2 + upper[found.varying] / 2
            t = [Fraction(1), *(Fraction(float(x)) - Fraction(float(c)) for x, c in zip(point[found.varying], centre, strict=True))]
            for i, form in enumerate(found.forms):
                for k in range(of.nodes[i].size):
                    low, high = (sum((Fraction(float(a)) * x for a, x in zip(side[0, :, k], t, strict=True)), ZERO) for side in (form.low, form.high))
                    assert low <= run.upper[i][k] and run.lower[i][k] <= high, (seed, i, k)


def test_inputs_that_hardly_vary_enter_as_intervals() -> None:
    """Less than 2^-12 of the widest, in every box."""
    width = np.array([[1.0, NEGLIGIBLE, NEGLIGIBLE * 1.5, 0.0, 0.0], [1.0, NEGLIGIBLE / 2, 0.0, 0.0, 0.5]])
    of = Network((Input("x", (), (1, 5), None, "X"),), (0,), (0,), ("X",), ("Y",), {}, ())
    state, found = captured(of, None, np.zeros((2, 5)), width)
    assert found.varying.tolist() == [0, 2, 4] and NEGLIGIBLE == 2.0**-12
    assert found.forms[0].low[0, :, 1].tolist() == [0.0] * 4 and found.forms[0].high[0, :, 1].tolist() == [NEGLIGIBLE, 0.0, 0.0, 0.0]
    assert found.forms[0].low[1, :, 4].tolist() == found.forms[0].high[1, :, 4].tolist() == [0.25, 0.0, 0.0, 1.0]
    assert (state.upper[0] == width).all()


def test_a_radius_reaches_both_ends_whichever_way_the_centre_rounds() -> None:
    r = Random(4)
    lower = np.array([[r.choice((1.0, -1.0)) * r.uniform(1, 2) * 2.0 ** r.randint(-3, 3)] for _ in range(2000)])
    upper = lower + np.array([[r.choice((2.0**-52, r.random() * 2.0 ** r.randint(-52, 4)))] for _ in range(2000)])
    lower[0], upper[0] = LOPSIDED
    of = Network((Input("x", (), (1, 1), None, "X"),), (0,), (0,), ("X",), ("Y",), {}, ())
    for low, high in ((lower, upper), (-upper, -lower)):
        _, found = captured(of, None, low, high)
        centre = found.forms[0].low[:, 0]
        for a, b, c, rho in zip(*(exact(x) for x in (low, high, centre, found.radius)), strict=True):
            assert b - c <= rho and c - a <= rho


def test_functions_of_inputs_are_those_of_their_own() -> None:
    """y = relu(a - b0 + 2 b1 - (a - b0)) for inputs a and b is 2 relu(b1): forward bounds see that a and b0 cancel."""
    nodes: tuple[Node, ...] = (
        Input("a", (), (1, 1), None, "A"), Input("b", (), (1, 2), None, "B"),
        Affine("d", (0, 1), (1, 2), None, (Dense(np.array([[1.0], [1.0]])), Dense(np.array([[-1.0, 0.0], [-1.0, 2.0]])))),
        Affine("e", (2,), (1, 1), None, (Dense(np.array([[-1.0, 1.0]])),)), Elementwise("r", (3,), (1, 1), None, RELU),
        Affine("same", (4,), (1, 1), None, (Index(np.array([0]), 1),)),
    )  # fmt: skip
    of = Network(nodes, (0, 1), (5,), ("A", "B"), ("Y",), {}, ())
    state, _ = captured(of, None, np.array([[-1.0, -1.0, 0.25]]), np.array([[1.0, 1.0, 0.5]]))
    for i in (3, 4, 5):
        assert abs(float(state.lower[i][0, 0]) - 0.5) < 1e-9 and abs(float(state.upper[i][0, 0]) - 1) < 1e-9
