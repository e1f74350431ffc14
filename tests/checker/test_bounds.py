"""The rules of bounds.py: every error term against a second computation, and what states, rows and cuts are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from random import Random
from typing import cast

import numpy as np
import pytest

from tests.checker.accounts import Accounts, exact, loosened, magnified
from tests.checker.random_networks import (
    RELU,
    Array,
    random_box,
    random_functional,
    random_network,
    random_point,
    random_slopes,
)
from tests.checker.test_exact import _SomeSlack
from tests.effort import examples
from verifier.checker import functions
from verifier.checker.bounds import BACKWARD, FORWARD, NARROW, Checker, _centre
from verifier.checker.maps import Dense, Diagonal, Index
from verifier.checker.network import Affine, Constant, Elementwise, Input, MatMul, Network, Node, Product, Smooth
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.checker.state import Forms, State

ZERO = np.zeros((1, 1))


def network(*nodes: Node, inputs: tuple[int, ...] = (0,)) -> Network:
    """The last node is the output."""
    return Network(nodes, inputs, (len(nodes) - 1,), tuple(f"X{i}" for i in inputs), ("Y",), {}, ())


def source(n: int = 1, name: str = "X0") -> Input:
    return Input("x", (), (1, n), None, name)


def dense(i: int, weight: list[list[float]], bias: list[float] | None = None) -> Affine:
    return Affine("dense", (i,), (1, len(weight)), None, (Dense(np.array(weight)),), None if bias is None else np.array(bias))


def moved(i: int, places: list[int], n: int) -> Affine:
    return Affine("moved", (i,), (1, len(places)), None, (Index(np.array(places), n),))


def relu(i: int, n: int = 1) -> Elementwise:
    return Elementwise("relu", (i,), (1, n), None, RELU)


def box(lower: list[float], upper: list[float]) -> tuple[Array, Array]:
    return np.array([lower]), np.array([upper])


def state(of: Network, lower: list[float], upper: list[float], program: int = 0, **more: object) -> State:
    return Checker(of, None).state(1, *box(lower, upper), {}, {}, program, **more)  # type: ignore[arg-type]


def least(checker: Checker, found: State, functional: Mapping[int, Array], slopes: Mapping[int, tuple[Array, Array]] | None = None) -> Array:
    """Lower bounds of rows of coefficients [R, size]."""
    rows = len(next(iter(functional.values())))
    return checker.lower_bound(found, {i: d[None] for i, d in functional.items()}, np.zeros((1, rows)), np.zeros((1, rows)), slopes or {})


def test_values_of_smooth_functions_keep_their_intervals() -> None:
    """Softmax: no backward pass for exp, nor for the reciprocal as the product reads it; one for either would be no better."""
    exp, inverse = Smooth("exp"), Smooth("reciprocal")
    softmax = network(
        source(2), dense(0, [[1.0, 2.0], [-1.0, 1.0]]), relu(1, 2), dense(2, [[0.5, -1.0], [1.0, 0.25]]),
        Elementwise("exp", (3,), (1, 2), None, exp), dense(4, [[1.0, 1.0]]), Elementwise("inverse", (5,), (1, 1), None, inverse),
        moved(6, [0, 0], 1), Product("share", (4, 7), (1, 2), None),
    )
    checker = Checker(softmax, None)
    assert set(checker.readers) - checker.exact == {3, 5} and {4, 7} <= checker.exact
    found = checker.state(1, *box([-1.0, -1.0], [1.0, 0.5]), {}, {}, BACKWARD)
    for i in (4, 7):
        low, high = (checker.rows(found, i, np.array([side, 2 + side]), {}) for side in (0, 1))
        assert (low <= found.lower[i] + 1e-12).all() and (-high >= found.upper[i] - 1e-12).all()


def test_a_sum_keeps_its_sign_however_wide_its_terms_are() -> None:
    """1 + exp(x) and a softmax's sum have a reciprocal. Centre and radius alone would leave -1e20 below."""
    exp = Elementwise("exp", (0,), (1, 3), None, Smooth("exp"))
    of = network(source(3), exp, dense(1, [[1.0, 1.0, 1.0]], [0.5]), Elementwise("inverse", (2,), (1, 1), None, Smooth("reciprocal")))
    found = state(of, [-60.0, -70.0, -80.0], [80.0, 60.0, 70.0])
    assert 0.5 - 1e-12 < found.lower[2][0, 0] <= 0.5 + float(np.exp(-60.0)) and 0 < found.lower[3][0, 0] < found.upper[3][0, 0] < 2 + 1e-12
    for weight, bias in (([[1.0, -1e-3, 1.0]], None), ([[1.0, 1.0, 1.0]], [-1.0])):
        assert state(network(source(3), exp, dense(1, weight, bias)), [-60.0] * 3, [80.0] * 3).lower[2][0, 0] < 0


def test_what_adds_has_no_weight_that_may_be_negative() -> None:
    loose = Affine("a", (0,), (1, 1), None, (Diagonal(np.ones(1), np.full(1, 2.0)),))
    shaken = Affine("a", (0,), (1, 1), None, (Diagonal(np.ones(1)),), np.zeros(1), np.ones(1))
    nodes = loose, shaken, dense(0, [[1.0], [-1.0]]), dense(0, [[1.0], [0.0]]), dense(0, [[1.0]], [-1.0])
    assert [Checker(network(source(), node), None).adds[1] for node in nodes] == [False, False, False, True, True]


# ---------------------------------------------------------------- error terms, magnified


def near(got: float, wanted: Fraction, size: Fraction) -> bool:
    return abs(Fraction(got) - wanted) <= Fraction(1, 10**10) * (1 + size)


def agree(of: Network, found: State, batch: int) -> None:
    """Every node of every box has the bounds that follow from those before it."""
    for b in range(batch):
        accounts = Accounts(of, found, b)
        for i, node in enumerate(of.nodes):
            if not isinstance(node, Input):
                for end, wanted in zip((found.lower[i], found.upper[i]), accounts.interval(i), strict=True):
                    for got, value in zip(end[min(b, len(end) - 1)].tolist(), wanted, strict=True):
                        assert near(got, value, max(accounts.large[i])), f"{type(node).__name__} {i} of box {b}"


@pytest.mark.parametrize("slack", [False, True])
def test_every_error_term_is_the_one_of_arithmetic(slack: bool) -> None:
    """Two boxes and two functionals at once, over all kinds of nodes: intervals and backward bounds."""
    for seed in range(examples(100)):
        r = Random(seed)
        of = loosened(random_network(r, 6))
        ends = [np.stack(end) for end in zip(*(random_box(r, of) for _ in range(2)), strict=True)]
        drawn = [random_functional(r, of) for _ in range(2)]
        functional = {k: np.array([d.get(k, np.zeros(of.nodes[k].size)) for d in drawn]) for k in sorted(set().union(*drawn))}
        with magnified():
            checker = Checker(of, cast(Slack, _SomeSlack(r, of)) if slack else None)
            checker.widen = 0.0
            found = checker.state(2, *ends, {}, {}, 0)
            bound = least(checker, found, functional)
        agree(of, found, 2)
        for b in range(2):
            accounts = Accounts(of, found, b)
            for k in range(2):
                wanted = accounts.lower_bound({i: exact(d[k]) for i, d in functional.items()})
                assert near(float(bound[b, k]), wanted, abs(wanted) + accounts.error), seed


@pytest.mark.parametrize("own", [False, True])
def test_stored_slopes_pay_by_row_or_together(own: bool) -> None:
    for seed in range(60):
        r = Random(seed)
        of = random_network(r, 6)
        ends, functional, slopes = random_box(r, of), random_functional(r, of), random_slopes(r, of)
        rows = 2 if own else 1
        stored = {k: (np.tile(low, (1, rows, 1)), np.tile(high, (1, rows, 1))) for k, (low, high) in slopes.items()}
        with magnified():
            checker = Checker(of, None)
            found = checker.state(1, ends[0][None], ends[1][None], {}, {}, 0)
            bound = least(checker, found, {k: np.tile(d, (rows, 1)) for k, d in functional.items()}, stored)
        accounts = Accounts(of, found)
        wanted = accounts.lower_bound({k: exact(d) for k, d in functional.items()}, slopes, own)
        assert bound.shape == (1, rows)
        for got in bound[0].tolist():
            assert near(got, wanted, abs(wanted) + accounts.error), seed


def test_the_start_of_a_backward_pass_is_paid_for() -> None:
    """The constant and the error that a leaf begins with enter the bound, and the coefficients of several nodes add up."""
    of = network(source(), dense(0, [[2.0]]))
    checker = Checker(of, None)
    found = checker.state(1, *box([1.0], [3.0]), {}, {}, 0)
    start = {0: np.ones((1, 1, 1)), 1: np.ones((1, 1, 1))}
    plain = checker.lower_bound(found, start, np.full((1, 1), 5.0), ZERO, {})
    lossy = checker.lower_bound(found, start, np.full((1, 1), 5.0), np.full((1, 1), 0.25), {})
    assert 8 - 1e-9 < plain[0, 0] < 8 and abs(plain[0, 0] - lossy[0, 0] - 0.25) < 1e-12


LOPSIDED = float.fromhex("0x1.51a27901b0b2cp-2"), float.fromhex("0x1.03f0ce1dd44ccp+4")  # the distance of its lower end rounds down


def test_a_ball_holds_its_interval_whichever_way_the_centre_rounds() -> None:
    """2,000 intervals of all kinds: neighbours, points, wide ones, ends of very different size."""
    r = Random(3)
    lower = np.array([r.choice((1.0, -1.0)) * r.uniform(1, 2) * 2.0 ** r.randint(-3, 3) for _ in range(2000)])
    width = np.array([r.choice((0.0, 2.0**-52, r.random() * 2.0 ** r.randint(-60, 4))) for _ in range(2000)])
    upper = lower + width
    lower[0], upper[0] = LOPSIDED  # the random ones hardly ever show it
    for low, high in ((lower, upper), (-upper, -lower)):
        centre, reach = (exact(x) for x in _centre(low[None], high[None], (2000,)))
        for a, b, c, rho in zip(exact(low), exact(high), centre, reach, strict=True):
            assert b - c <= rho and c - a <= rho <= (b - a) / 2 + 2 * abs(c) / 2**52 + (b - a) / 2**50 + Fraction(1, 2**1000)


# ---------------------------------------------------------------- states


def test_an_interval_step_without_arithmetic_is_exact() -> None:
    of = network(source(3), moved(0, [2, -1, 0], 3))
    found = state(of, [0.1, 0.2, 0.3], [1.1, 1.2, 1.3])
    assert found.lower[1].tolist() == [[0.3, 0.0, 0.1]] and found.upper[1].tolist() == [[1.3, 0.0, 1.1]]
    assert 1 not in found.charge


def test_what_counts_as_moving_numbers() -> None:
    """Two maps onto different places move; onto the same place, with a bias or a weight, they compute."""
    first, second = Index(np.array([0, -1]), 1), Index(np.array([-1, 0]), 1)
    maps = {
        "apart": Affine("a", (0, 0), (1, 2), None, (first, second)),
        "together": Affine("a", (0, 0), (1, 2), None, (first, first)),
        "bias": Affine("a", (0,), (1, 2), None, (first,), np.zeros(2)),
        "weight": Affine("a", (0,), (1, 1), None, (Diagonal(np.ones(1)),)),
        "copies": Affine("a", (0,), (1, 2), None, (Index(np.array([0, 0]), 1),)),
    }
    assert {name: Checker(network(source(), node), None).pure[1] for name, node in maps.items()} == {
        "apart": True, "together": False, "bias": False, "weight": False, "copies": False,
    }  # fmt: skip
    found = state(network(source(), maps["apart"]), [0.1], [0.7])
    assert found.lower[1].tolist() == [[0.1, 0.1]] and found.upper[1].tolist() == [[0.7, 0.7]]


def test_backward_bounds_are_those_of_rows_taken_first_layers_first() -> None:
    """A program with BACKWARD is nothing but `rows` of the undecided elements, handed on as known bounds."""
    for seed in range(80):
        r = Random(seed)
        of, program = random_network(r, 6), BACKWARD
        lower, upper = (end[None] for end in random_box(r, of))
        checker = Checker(of, None)
        try:
            found = checker.state(1, lower, upper, {}, {}, program)
        except Rejected:
            continue
        known: dict[int, tuple[Array, Array]] = {}
        for i in sorted(checker.readers):
            if i in checker.exact:
                continue
            before = checker.state(1, lower, upper, known, {}, 0)
            rows = np.flatnonzero(_undecided(of, checker, before, i))
            if not len(rows):
                continue
            low, high = before.lower[i].copy(), before.upper[i].copy()
            low[:, rows] = np.maximum(low[:, rows], checker.rows(before, i, 2 * rows, {}))
            high[:, rows] = np.minimum(high[:, rows], -checker.rows(before, i, 2 * rows + 1, {}))
            known[i] = np.minimum(low, high), high
        again = checker.state(1, lower, upper, known, {}, 0)
        for i in range(len(of.nodes)):
            scale = 1 + np.abs(found.lower[i]) + np.abs(found.upper[i])
            assert (np.abs(found.lower[i] - again.lower[i]) <= 1e-12 * scale).all(), (seed, i)
            assert (np.abs(found.upper[i] - again.upper[i]) <= 1e-12 * scale).all(), (seed, i)


def _undecided(of: Network, checker: Checker, found: State, i: int) -> Array:
    """Elements that some non-linear reader does not take as a line."""
    matter = np.zeros(of.nodes[i].size, dtype=bool)
    for node in of.nodes:
        if isinstance(node, Elementwise) and i in node.inputs:
            matter |= ~functions.is_linear(node.function, found.lower[i][0], found.upper[i][0])
        elif isinstance(node, Product | MatMul) and i in node.inputs:
            matter |= found.lower[i][0] < found.upper[i][0]
    own = of.nodes[i]
    if isinstance(own, Elementwise) and own.inputs[0] not in checker.exact:
        j = own.inputs[0]
        matter &= functions.is_linear(own.function, found.lower[j][0], found.upper[j][0])
    return matter


def test_only_undecided_elements_are_refined() -> None:
    """y = relu(h), h = (x0 - x0' , x0 + 2) through two layers, of which intervals know only the second to be positive."""
    layers = (source(), dense(0, [[1.0], [1.0]]), dense(1, [[1.0, -1.0], [1.0, 1.0]], [0.0, 4.0]), relu(2, 2))
    of = network(*layers)
    found = state(of, [-1.0], [1.0], BACKWARD)
    assert abs(found.lower[2][0, 0]) < 1e-12 and abs(found.upper[2][0, 0]) < 1e-12 and found.lower[2][0, 1] < 2 + 1e-9
    skewed = network(source(), dense(0, [[1.0], [1.0]]), dense(1, [[1.0, -1.0], [2.0, -1.0]], [0.0, 4.0]), relu(2, 2))
    assert abs(state(skewed, [-1.0], [1.0], BACKWARD).lower[2][0, 1] - 1) < 1e-9


def test_what_is_undecided_in_one_box_is_refined_there_alone() -> None:
    """The bounds of a box are those that it has alone, whatever boxes are bounded with it."""
    of = network(source(), dense(0, [[1.0], [1.0]]), dense(1, [[1.0, -1.0], [2.0, -1.0]], [0.0, 4.0]), relu(2, 2))
    boxes = ([-1.0], [1.0]), ([-5.0], [5.0])
    alone = [state(of, *box, BACKWARD) for box in boxes]
    together = Checker(of, None).state(2, *(np.array(ends) for ends in zip(*boxes, strict=True)), {}, {}, BACKWARD)
    assert together.lower[2].tolist() == [found.lower[2][0].tolist() for found in alone]
    assert together.upper[2].tolist() == [found.upper[2][0].tolist() for found in alone]
    assert alone[0].lower[2][0, 1] < 2 < alone[1].upper[2][0, 1]


def test_what_a_backward_pass_cannot_improve_is_left_alone() -> None:
    """Functions of the inputs through one map that mixes; not through two, nor of two tensors."""
    two = Affine("two", (0, 1), (1, 1), None, (Dense(np.ones((1, 2))), Dense(np.ones((1, 1)))))
    nodes = (
        source(2), source(1, "X1"), dense(0, [[1.0, 2.0]]), relu(2), dense(3, [[1.0]]), two, Affine("s", (0,), (1, 2), None, (Diagonal(np.ones(2)),)),
        relu(6, 2), dense(7, [[1.0, 1.0]]), dense(8, [[1.0]]), Constant("c", (), (1, 1), None, np.ones(1), np.zeros(1)), relu(9),
        Affine("copies", (0,), (1, 3), None, (Index(np.array([0, 1, 0]), 2),)), relu(12, 3), dense(13, [[1.0, 1.0, 1.0]]),
    )  # fmt: skip
    assert Checker(network(*nodes, inputs=(0, 1)), None).exact == {0, 1, 2, 3, 6, 7, 8, 10, 12, 13}


def test_readers_are_the_nonlinear_nodes() -> None:
    nodes = (source(2), dense(0, [[1.0, 1.0], [0.0, 1.0]]), relu(1, 2), Product("p", (1, 1), (1, 2), None), dense(1, [[1.0, 1.0]]))
    assert Checker(network(*nodes), None).readers == {1: (2, 3)}


def test_known_bounds_and_cuts_are_intersected_and_reach_what_follows() -> None:
    of = network(source(), dense(0, [[1.0]]), relu(1), dense(2, [[3.0]]))
    checker = Checker(of, None)
    known = {1: (np.array([[-5.0]]), np.array([[0.5]]))}
    cuts = {1: (np.array([[-np.inf], [0.25]]), np.array([[0.125], [np.inf]]))}
    found = checker.state(2, *box([-1.0], [1.0]), known, cuts, 0)
    assert found.upper[1].tolist() == [[0.125], [0.5]] and found.lower[1][1, 0] == 0.25 and -1.1 < found.lower[1][0, 0] < -1
    assert found.lower[3][1, 0] > 0.74 and found.upper[3][0, 0] < 0.376
    assert not found.crossed.any()


def test_contradictions_are_remembered_and_leave_ordered_bounds() -> None:
    """Of three boxes the second is cut to nothing, at one element; the state stays usable."""
    of = network(source(2), dense(0, [[1.0, 0.0], [0.0, 1.0]]), relu(1, 2))
    low, high = np.full((3, 2), -np.inf), np.full((3, 2), np.inf)
    low[1, 1], high[1, 1] = 0.5, 0.25
    low[2, 0], high[2, 1] = 0.5, 0.0
    found = Checker(of, None).state(3, *box([-1.0, -1.0], [1.0, 1.0]), {}, {1: (low, high)}, 0)
    assert found.crossed.tolist() == [False, True, False]
    assert found.where[1].tolist() == [[False, False], [False, True], [False, False]]
    assert all((a <= b).all() for a, b in zip(found.lower, found.upper, strict=True))
    beyond = Checker(of, None).state(1, *box([-1.0, -1.0], [1.0, 1.0]), {1: (np.full((1, 2), 7.0), np.full((1, 2), 9.0))}, {}, 0)
    assert beyond.crossed.tolist() == [True] and beyond.where[1].tolist() == [[True, True]]


def test_two_contradictions_at_one_node_add_up() -> None:
    of = network(source(2), relu(0, 2))
    known = {0: (np.array([[3.0, -9.0]]), np.array([[9.0, 9.0]]))}
    cuts = {0: (np.array([[-np.inf, 4.0]]), np.array([[np.inf, np.inf]]))}
    found = Checker(of, None).state(1, *box([-1.0, -1.0], [1.0, 1.0]), known, cuts, 0)
    assert found.where[0].tolist() == [[True, True]]


def test_new_bounds_of_an_operand_make_its_relaxation_anew() -> None:
    of = network(source(), dense(0, [[1.0]]), relu(1), dense(2, [[1.0]]))
    checker = Checker(of, None)
    found = checker.state(1, *box([-1.0], [1.0]), {}, {}, 0)
    minus = {3: -np.ones((1, 1))}
    assert abs(least(checker, found, minus)[0, 0] + 1) < 1e-9  # y <= (x + 1) / 2
    checker._intersect(found, 1, np.array([[-0.5]]), np.array([[0.25]]))
    assert abs(least(checker, found, minus)[0, 0] + 0.5) < 1e-9  # y <= (x + 0.5) / 3, over all of the box


def test_stored_slopes_and_default_ones_do_not_stand_in_for_each_other() -> None:
    """On one state: y = relu(x) <= 1 by default, <= 2 with an upper slope of 1."""
    of = network(source(), dense(0, [[1.0]]), relu(1))
    checker = Checker(of, None)
    for order in ((1, 2, 1), (2, 1, 2)):
        found = checker.state(1, *box([-1.0], [1.0]), {}, {}, 0)
        for value in order:
            slopes = {2: (np.ones((1, 1, 1)), np.ones((1, 1, 1)))} if value == 2 else None
            assert abs(least(checker, found, {2: -np.ones((1, 1))}, slopes)[0, 0] + value) < 1e-9


def test_a_state_ends_where_it_is_told() -> None:
    """But not before the last input: every bound ends at all of them."""
    of = network(source(), relu(0), source(1, "X1"), dense(1, [[1.0]]), relu(3), inputs=(0, 2))
    lengths = {last: len(state(of, [0.0, 0.0], [1.0, 1.0], last=last).lower) for last in (0, 1, 3, 4)}
    assert lengths == {0: 3, 1: 3, 3: 4, 4: 5} and len(state(of, [0.0, 0.0], [1.0, 1.0]).lower) == 5


def test_with_forward_bounds_only_narrow_nodes_are_refined(monkeypatch: pytest.MonkeyPatch) -> None:
    refined: list[int] = []
    monkeypatch.setattr(Checker, "refine", lambda self, found, i: refined.append(i))
    wide = NARROW + 1
    nodes = [source(), dense(0, [[1.0]] * NARROW), relu(1, NARROW), dense(2, [[1.0] * NARROW] * NARROW), relu(3, NARROW)]
    nodes += [dense(4, [[1.0] * NARROW] * wide), relu(5, wide)]
    for program, wanted in ((0, []), (BACKWARD, [3, 5]), (FORWARD, []), (BACKWARD | FORWARD, [3])):
        refined.clear()
        state(network(*nodes), [0.0], [1.0], program)
        assert refined == wanted


def test_forward_bounds_are_intersected() -> None:
    """x - x through two layers: intervals say [-2, 2], forward bounds almost nothing."""
    of = network(source(), dense(0, [[1.0], [1.0]]), dense(1, [[1.0, -1.0]]))
    plain, forward = (state(of, [-1.0], [1.0], program) for program in (0, FORWARD))
    assert plain.upper[2][0, 0] > 1.9 and 0 < forward.upper[2][0, 0] < 1e-9 and -1e-9 < forward.lower[2][0, 0] < 0


# ---------------------------------------------------------------- rows


def test_codes_say_which_bound_of_which_element() -> None:
    of = network(source(2), dense(0, [[1.0, 0.0], [0.0, 1.0]]), relu(1, 2))
    checker = Checker(of, None)
    found = checker.state(1, *box([-1.0, 2.0], [1.0, 5.0]), {}, {}, 0)
    value = checker.rows(found, 1, np.array([2, 1, 3, 0]), {})
    assert np.allclose(value, [[2.0, -1.0, -5.0, -1.0]], rtol=0, atol=1e-9)


def test_derived_rows_narrow_what_their_codes_name_and_nothing_else() -> None:
    """h = (x - x + 3, x - x - 5) through two layers: four bounds, each of which can be asked for alone."""
    of = network(source(), dense(0, [[1.0], [1.0]]), dense(1, [[1.0, -1.0], [1.0, -1.0]], [3.0, -5.0]), relu(2, 2))
    checker = Checker(of, None)
    for codes in ([0], [1], [2], [3], [3, 0], [1, 2, 0]):
        found = checker.state(1, *box([-1.0], [1.0]), {}, {}, 0)
        checker.derive(found, 2, np.array(codes), {})
        apart = [float(abs(end[0, k] - (3.0, -5.0)[k])) for k in (0, 1) for end in (found.lower[2], found.upper[2])]
        assert [x < 1e-9 for x in apart] == [k in codes for k in range(4)] and all(x < 2.1 for x in apart)


def test_rows_are_derived_for_every_box_of_a_batch() -> None:
    of = network(source(2), dense(0, [[1.0, 0.0], [1.0, 1.0]]), dense(1, [[1.0, -1.0], [-1.0, 1.0]]), relu(2, 2))  # (-x1, x1)
    checker = Checker(of, None)
    for codes in ([1], [0], [3, 0]):
        found = checker.state(2, np.array([[-1.0, -2.0], [-1.0, 3.0]]), np.array([[1.0, 2.0], [1.0, 4.0]]), {}, {}, 0)
        checker.derive(found, 2, np.array(codes), {})
        for code, wanted in ((0, [-2, -4]), (1, [2, -3]), (3, [2, 4])):
            end = (found.upper if code % 2 else found.lower)[2][:, code // 2]
            assert np.allclose(end, wanted, rtol=0, atol=1e-9) == (code in codes)


def test_rows_have_their_own_slopes() -> None:
    """y = relu(x), x in [-1, 1]: the upper bound of y by slope a is max(a, 1 - a) + a, the lower bound by slope b is -b."""
    of = network(source(), dense(0, [[1.0]]), relu(1), relu(2))
    for block in (1, 1 << 19):
        checker = Checker(of, None, block)
        found = checker.state(1, *box([-1.0], [1.0]), {}, {}, 0)
        low, high = np.array([[[0.25], [0.5], [0.0]]]), np.array([[[0.5], [0.25], [1.0]]])
        value = checker.rows(found, 2, np.array([0, 1, 1]), {2: (low, high)})
        assert np.allclose(value, [[-0.25, -1.0, -2.0]], rtol=0, atol=1e-9), block


def test_blocks_change_nothing_but_the_order_of_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    of = network(source(3), dense(0, np.arange(12.0).reshape(4, 3).tolist()), relu(1, 4), dense(2, np.ones((4, 4)).tolist()), relu(3, 4))
    asked: list[int] = []
    plain = Checker.lower_bound

    def counted(self: Checker, found: State, functional: Mapping[int, Array], *rest: object) -> Array:
        asked.append(next(iter(functional.values())).shape[1])
        return plain(self, found, functional, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Checker, "lower_bound", counted)
    ends = np.array([[-1.0, 0.0, 2.0], [0.0, 1.0, 2.5]]), np.array([[1.0, 0.5, 3.0], [0.5, 1.5, 3.0]])
    for block, sizes in ((1, [1] * 8), (23, [2] * 4), (24, [3, 3, 2]), (1 << 19, [8])):
        checker = Checker(of, None, block)
        found = checker.state(2, *ends, {}, {}, 0)
        asked.clear()
        value = checker.rows(found, 3, np.arange(8), {})
        assert asked == sizes if block != 23 else sum(asked) == 8
        assert np.allclose(value, Checker(of, None).rows(found, 3, np.arange(8), {}), rtol=1e-12)


# ---------------------------------------------------------------- cuts


def test_cuts_leave_every_point_that_is_not_proven_safe() -> None:
    """By brute force over points: outside the cut the form is positive; and a cut is as good as it can be, up to rounding."""
    for seed in range(200):
        r = Random(seed)
        n = r.randint(1, 3)
        of = network(source(n), dense(0, [[1.0] * n]))
        checker = Checker(of, None)
        lower, upper = (np.array([x]) for x in random_box(r, of))
        a, c = np.array([[[r.choice((0.0, 1.0, -1.0, r.uniform(-2, 2))) for _ in range(n)]]]), np.array([[r.uniform(-2, 2)]])
        value, low, high = checker.cut(Forms(a, c), lower, upper)
        true = Fraction(c[0, 0])
        for w, x, y in zip(*_floats(a, lower, upper), strict=True):
            true += min(Fraction(w) * Fraction(x), Fraction(w) * Fraction(y))
        assert Fraction(float(value[0, 0])) <= true <= Fraction(float(value[0, 0])) + Fraction(1, 10**9)
        for k, (w, x, y) in enumerate(zip(*_floats(a, lower, upper), strict=True)):
            room = max(-true, Fraction(0)) / abs(Fraction(w)) if w else None
            ends = float(low[0, 0, k]), float(high[0, 0, k])
            if w == 0:
                assert ends == (-np.inf, np.inf)
            elif w > 0:
                assert ends[0] == -np.inf and room is not None and 0 <= Fraction(ends[1]) - Fraction(x) - room < Fraction(1, 10**8)
            else:
                assert ends[1] == np.inf and room is not None and 0 <= Fraction(y) - room - Fraction(ends[0]) < Fraction(1, 10**8)


def _floats(*arrays: Array) -> list[list[float]]:
    return [x.reshape(-1).tolist() for x in arrays]


def test_a_form_is_evaluated_where_it_is_least() -> None:
    for seed in range(100):
        r = Random(seed)
        of = random_network(r, 3)
        checker, (lower, upper) = Checker(of, None), random_box(r, of)
        a, c = np.array([r.uniform(-1, 1) for _ in lower]), r.uniform(-1, 1)
        value = float(checker.evaluate(Forms(a[None, None], np.array([[c]])), lower[None], upper[None])[0, 0])
        points = [exact(random_point(r, lower, upper)) for _ in range(8)]
        reached = [sum((Fraction(w) * x for w, x in zip(a.tolist(), point, strict=True)), Fraction(c)) for point in points]
        corner = exact(np.where(a > 0, lower, upper))
        assert Fraction(value) <= min(reached)
        assert sum((Fraction(w) * x for w, x in zip(a.tolist(), corner, strict=True)), Fraction(c)) - Fraction(value) < Fraction(1, 10**12)


# ---------------------------------------------------------------- refusals


@dataclass(frozen=True, eq=False)
class Unknown(Node):
    """A kind of node without a rule."""


def test_a_node_without_a_rule_is_refused() -> None:
    of = network(source(), Unknown("here", (0,), (1, 1), None))
    checker = Checker(of, None)
    with pytest.raises(Rejected) as interval:
        checker.state(1, *box([0.0], [1.0]), {}, {}, 0)
    found = checker.state(1, *box([0.0], [1.0]), {}, {}, 0, last=0)
    found.lower.append(np.zeros((1, 1)))
    found.upper.append(np.ones((1, 1)))
    with pytest.raises(Rejected) as backward:
        checker.lower_bound(found, {1: np.ones((1, 1, 1))}, ZERO, ZERO, {})
    for refusal in (interval, backward):
        assert refusal.value.rule == "no-rule" and "here" in refusal.value.place


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_what_is_not_finite_is_refused_where_it_appears() -> None:
    huge = dense(0, [[1e300]])
    for nodes in ((source(), huge, dense(1, [[1e300]])), (source(), huge, Product("p", (1, 1), (1, 1), None))):
        with pytest.raises(Rejected, match="not-finite"):
            state(network(*nodes), [0.0], [1.0])
    of = network(source(), dense(0, [[1.0]]), relu(1))
    checker = Checker(of, None)
    found = checker.state(1, *box([-1.0], [1.0]), {}, {}, 0)
    for steep in (1e308, np.inf, np.nan):
        slope = np.full((1, 1, 1), steep)
        with pytest.raises(Rejected):
            checker.lower_bound(found, {2: np.full((1, 1, 1), 1e10)}, ZERO, ZERO, {2: (slope, slope)})
    for coefficient in (np.inf, np.nan):
        with pytest.raises(Rejected):
            checker.lower_bound(found, {2: np.full((1, 1, 1), coefficient)}, ZERO, ZERO, {})
        with pytest.raises(Rejected):
            checker.evaluate(Forms(np.full((1, 1, 1), coefficient), ZERO), *box([0.0], [1.0]))
