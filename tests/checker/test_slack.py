"""What float32 may do to a network, against executions of it: none leaves what the checker allows (ARITHMETIC 8, examples 28 to 39)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.checker.float32_runs import F, Machine, Step, run
from verifier.checker import arithmetic, factors
from verifier.checker.bounds import Checker
from verifier.checker.factors import Moved
from verifier.checker.maps import Dense, Diagonal, Index, Transposed
from verifier.checker.measured import Table
from verifier.checker.network import Affine, Constant, Elementwise, Input, MatMul, Network, Node, Pieces, Product, Rounding, Smooth, Softmax
from verifier.checker.refusal import Rejected
from verifier.checker.slack import FLUSHED, Slack, softmax_loss
from verifier.checker.state import State

Array = NDArray[Any]
RELU = Pieces((0.0,), (0.0, 1.0), (0.0, 0.0), (0.0,))
# Errors that were measured for some version, doubled; the values only have to be no smaller than those of the runtime in use.
ROWS = {name: np.array([[-3.5e38, 3.5e38, 2.0**-20, 2.0**-21]]) for name in ("sigmoid", "tanh", "erf", "sin", "cos", "softplus")}
ROWS |= {"exp": np.array([[-200.0, 88.8, 2.0**-21, 2.0**-126]]), "log": np.array([[0.0, 3.5e38, 2.0**-21, 2.0**-22]])}
TABLE = Table("made up", False, ROWS)


def network(*nodes: Node, outputs: Sequence[int] = ()) -> Network:
    shifts = [i for i, node in enumerate(nodes) if node.place == "softmax" and nodes[i - 1].place != "softmax"]
    rows = tuple(Softmax(i, 1, np.zeros(nodes[i].size, np.int64)) for i in shifts)
    inputs = tuple(i for i, node in enumerate(nodes) if isinstance(node, Input))
    return Network(tuple(nodes), inputs, tuple(outputs) or (len(nodes) - 1,), ("x",), ("y",), {}, rows)


def source(n: int) -> Input:
    return Input("x", (), (1, n), None, "x")


def gemm(at: int, weight: Array, bias: Array | None = None, count: int | None = None) -> Affine:
    n = weight.shape[1] + (bias is not None)
    rounding = Rounding("affine", (at,), n if count is None else count)
    return Affine("gemm", (at,), (1, len(weight)), rounding, (Dense(weight),), None if bias is None else np.asarray(bias, np.float64))


def state_of(net: Network, lower: Sequence[float] | Array, upper: Sequence[float] | Array) -> State:
    ends = (np.array([end], dtype=np.float64) for end in (lower, upper))
    return Checker(net, Slack(net, TABLE)).state(1, *ends, {}, {}, 0)


def slack_at(net: Network, x: Sequence[float] | Array, node: int = -1) -> Array:
    found = state_of(net, x, x).slack[node]
    return np.zeros(1) if found is None else found[0]


# ---------------------------------------------------------------- chains of affine operators


def nodes_of(steps: Sequence[Step]) -> Network:
    """The checker's view of the chain."""
    nodes: list[Node] = [source(steps[0].weight.shape[1])]
    for step in steps:
        at, n = len(nodes) - 1, len(step.weight)
        if step.style == "gemm":
            nodes.append(gemm(at, step.weight, step.bias))
        elif step.style == "scale":
            nodes.append(Affine("mul", (at,), (1, n), Rounding("affine", (at,), 1), (Diagonal(np.diag(step.weight)),)))
        elif step.style == "shift":
            nodes.append(Affine("add", (at,), (1, n), Rounding("affine", (at,), 1), (Index(np.arange(n), n),), step.bias.astype(np.float64)))
        elif step.style == "mean":
            k = step.weight.shape[1]
            nodes.append(Affine("mean", (at,), (1, 1), None, (Transposed(Index(np.zeros(k, np.int64), 1)),)))
            share = Diagonal(np.array([1 / k]), np.array([2.0**-53 / k]))
            nodes.append(Affine("mean", (at + 1,), (1, 1), Rounding("affine", (at,), k + 1), (share,)))
        else:
            nodes += norm(at, *step.parameters)
    return network(*nodes)


def norm(at: int, scale: Array, shift: Array, mean: Array, variance: Array, epsilon: Array) -> list[Node]:
    n, same = len(scale), Index(np.arange(len(scale)), len(scale))
    s = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon.astype(np.float64))
    return [
        Affine("norm", (at,), (1, n), None, (same,), -mean.astype(np.float64)),
        Affine("norm", (at + 1,), (1, n), None, (Diagonal(s, 4 * 2.0**-53 * np.abs(s)),)),
        Affine("norm", (at + 2,), (1, n), Rounding("affine", (at,), 8), (same,), shift.astype(np.float64)),
    ]


def exactly(step: Step, x: list[Fraction]) -> list[Fraction]:
    if step.style == "mean":
        return [sum(x, Fraction(0)) / len(x)]
    if step.style != "norm":
        rows = zip(step.weight.tolist(), step.bias.tolist(), strict=True)
        return [sum((Fraction(w) * v for w, v in zip(row, x, strict=True)), Fraction(b)) for row, b in rows]
    found = []
    for v, *parameters in zip(x, *step.parameters, strict=True):
        scale, shift, mean, variance, epsilon = (Fraction(float(p)) for p in parameters)
        found.append((v - mean) * scale / root(variance + epsilon) + shift)
    return found


def root(x: Fraction) -> Fraction:
    """Within 2^-200 or so, relative."""
    k = 400
    return Fraction(math.isqrt(x.numerator * 4**k // x.denominator), 2**k)


def draw_number(r: Random, wild: bool) -> float:
    if r.random() < 0.1:
        return 0.0
    size = 2.0 ** r.uniform(-140, 40) if wild and r.random() < 0.3 else 2.0 ** r.uniform(-4, 4)
    return float(F(r.choice((-1, 1)) * size))


def draw_chain(r: Random) -> list[Step]:
    wild, steps, n = r.random() < 0.4, list[Step](), r.randint(1, 4)
    for _ in range(r.randint(1, 4)):
        style = r.choice(("gemm", "gemm", "norm", "scale", "shift", "mean"))
        m = r.randint(1, 4) if style == "gemm" else 1 if style == "mean" else n
        numbers = lambda *shape: np.array([draw_number(r, wild) for _ in range(math.prod(shape))], F).reshape(shape)  # noqa: E731
        weight = np.ones((1, n), F) if style == "mean" else np.eye(n, dtype=F)
        if style in ("gemm", "scale"):
            weight = numbers(m, n) if style == "gemm" else np.diag(numbers(n))
        bias = np.zeros(m, F) if style in ("scale", "mean", "norm") else numbers(m)
        positive = np.abs(numbers(n)) + F(2.0**-20)
        parameters = (numbers(n), numbers(n), numbers(n), positive, np.full(n, 1e-5, F)) if style == "norm" else ()
        steps.append(Step(style, weight, bias, parameters))
        n = m
    return steps


def test_no_execution_of_an_affine_chain_leaves_what_is_allowed() -> None:
    check_chains(range(120))


@pytest.mark.slow
def test_no_execution_of_many_affine_chains_leaves_what_is_allowed() -> None:
    check_chains(range(1000, 5000))


def check_chains(seeds: range) -> None:
    executions, nearest = 0, 0.0
    for seed in seeds:
        r = Random(seed)
        steps = draw_chain(r)
        x = np.array([draw_number(r, seed % 3 == 0) for _ in range(steps[0].weight.shape[1])], F)
        net = nodes_of(steps)
        try:
            state = state_of(net, x, x)
        except Rejected as refusal:
            assert refusal.rule == "float32-overflow"
            continue
        ends = [i for i, node in enumerate(net.nodes) if node.rounding is not None]
        for _ in range(5):
            executions += 1
            before: list[Fraction] | None = [Fraction(float(v)) for v in x]
            for step, value, end in zip(steps, run(steps, Machine.draw(r), x), ends, strict=True):
                # What was folded away may be any number: the exact one.
                before = exactly(step, before)
                if value is None:
                    continue
                allowed = np.broadcast_to(0.0 if state.slack[end] is None else state.slack[end][0], len(before))
                for found, exact, s in zip(value, before, allowed, strict=True):
                    assert np.isfinite(found)
                    assert abs(Fraction(float(found)) - exact) <= Fraction(float(s)), (seed, step.style)
                    nearest = max(nearest, float(abs(Fraction(float(found)) - exact) / Fraction(float(s)))) if s else nearest
                assert (state.lower[end][0] <= value).all() and (value <= state.upper[end][0]).all()
                before = [Fraction(float(v)) for v in value]
    assert executions > 4 * len(seeds)
    assert 0.2 < nearest < 1


def test_an_affine_tensor_of_several_readers_may_have_several_values() -> None:
    """A stream h_k = h_(k-1) + W_k h_(k-1) + b_k: both readers of a tensor may see it computed again, from inputs that are computed again."""
    for seed in range(120):
        r = Random(seed)
        n, depth = r.randint(1, 3), r.randint(1, 4)
        x = np.array([draw_number(r, False) for _ in range(n)], F)
        nodes: list[Node] = [source(n)]
        steps = []
        for _ in range(depth):
            weight, bias = (np.array([draw_number(r, False) for _ in range(k * n)], F).reshape(-1, n) for k in (n, 1))
            steps.append(Step("gemm", weight, bias[0]))
            at, same = len(nodes) - 1, Index(np.arange(n), n)
            nodes += [gemm(at, weight, bias[0]), Affine("add", (at, at + 1), (1, n), Rounding("affine", (at, at + 1), 1), (same, same))]

        def value(k: int, x: Array = x, steps: Sequence[Step] = steps, r: Random = r) -> tuple[Array, Array, Array]:
            """One value of h_k, and of what it read last."""
            if k == 0:
                return x, x, x
            machine, left, right = Machine.draw(r), value(k - 1)[0], value(k - 1)[0]
            product = steps[k - 1].run(machine, right)
            return np.array([machine.add(machine.number(a), machine.number(b)) for a, b in zip(left, product, strict=True)], F), left, product

        state = state_of(network(*nodes), x, x)
        for k in range(1, depth + 1):
            before, (found, _, product) = value(k - 1)[0], value(k)  # what others were given of h_(k-1) counts
            exact = [Fraction(float(a)) + Fraction(float(b)) for a, b in zip(before, product, strict=True)]
            within(product, exactly(steps[k - 1], [Fraction(float(v)) for v in before]), state.slack[2 * k - 1])
            within(found, exact, state.slack[2 * k])


def within(found: Array, exact: list[Fraction], slack: Array | None) -> None:
    allowed = np.zeros(len(found)) if slack is None else slack[0]
    assert all(abs(Fraction(float(v)) - e) <= Fraction(float(s)) for v, e, s in zip(found, exact, allowed, strict=True))


# ---------------------------------------------------------------- the examples


def test_28_products_and_a_bias_round_once_more_than_products() -> None:
    w, x, b = (float.fromhex(h) for h in ("0x1.843968p0", "0x1.58eae4p0", "0x1.b76fb6p-11"))
    found, exact = F(F(w) * F(x)) + F(b), Fraction(w) * Fraction(x) + Fraction(b)
    off = abs(Fraction(float(found)) - exact)
    assert off > Fraction(1.9 * arithmetic.g(1)) * exact
    assert off <= Fraction(float(slack_at(network(source(1), gemm(0, np.array([[w]]), np.array([b]))), [x])[0]))


def scaled(*scales: float) -> Network:
    return network(source(1), *(Affine("mul", (i,), (1, 1), Rounding("affine", (i,), 1), (Diagonal(np.array([s])),)) for i, s in enumerate(scales)))


def test_29_affine_operators_may_be_folded() -> None:
    bn = (np.array([2.0**-60]), np.zeros(1), np.zeros(1), np.ones(1), np.zeros(1))
    net = network(source(1), gemm(0, np.array([[2.0**-100]])), *norm(1, *bn), gemm(4, np.array([[2.0**40]])))
    state = state_of(net, [2.0**120], [2.0**120])
    assert state.lower[-1][0, 0] <= 0.0 and state.upper[-1][0, 0] >= 1.0  # folded and unfolded
    with pytest.raises(Rejected, match="float32-overflow"):
        state_of(scaled(2.0**100, 2.0**-20, 2.0**-100), [2.0**40], [2.0**40])


def test_29_constants_that_overflow_when_they_are_folded() -> None:
    state_of(scaled(2.0**-100, 2.0**100), [1.0], [1.0])
    with pytest.raises(Rejected, match="float32-overflow"):
        state_of(scaled(2.0**-100, 2.0**100, 2.0**100), [1.0], [1.0])


def test_29_a_flush_between_the_later_two_of_three() -> None:
    # (W3 W2) W1 x: W3 W2 = 2^-130 is flushed, though W1 x is large.
    state = state_of(scaled(2.0**60, 2.0**-65, 2.0**-65), [2.0**20], [2.0**20])
    assert state.lower[-1][0, 0] <= 0.0
    assert slack_at(scaled(2.0**60, 2.0**-65, 2.0**-65), [2.0**20])[0] >= 2.0**-50


def test_29_a_wide_kernel_folded_into_a_narrow_one_sums_more_terms() -> None:
    # 1 -> 1000 -> 1: one output reads 1,000 elements of the middle, each with one term; folded, that sum has 1,000 of them.
    net = network(source(1), gemm(0, np.ones((1000, 1))), gemm(1, np.ones((1, 1000))))
    operators = Slack(net, TABLE).operators
    assert operators[1].roundings == 1 and operators[2].roundings >= 1000 + 1
    # 50 -> 50 -> 50 (dense) then a mean of 10: the first layer's sums have 50 terms, however many outputs are read.
    net = network(source(50), gemm(0, np.ones((50, 50))), gemm(1, np.ones((1, 50)), None))
    assert Slack(net, TABLE).operators[2].roundings == 50 + 50 + 1


def test_29_windows_folded_into_a_sum_of_windows_are_one_long_sum() -> None:
    """Ten sums of ten, then a sum of ten: folded, one of a hundred, whose terms are all rounded away after a large one."""
    tens = Affine("gemm", (0,), (1, 10), Rounding("affine", (0,), 10), (Dense(np.ones((1, 10)), 10),))
    net = network(source(100), tens, gemm(1, np.ones((1, 10))))
    x = np.full(100, 0.9 * 2.0**-24, F)
    x[0] = 1
    total = F(0)
    for v in x:
        total = total + v
    s = slack_at(net, x)[0]
    assert abs(float(total) - float(x.astype(np.float64).sum())) <= s
    assert s > 100 * 2.0**-24


def test_29_flushes_pass_through_two_operators() -> None:
    assert slack_at(scaled(2.0**-130, 2.0**60, 2.0**60), [1.0])[0] >= 2.0**-10


def test_38_each_affine_reader_pays_twice_for_what_is_computed_again() -> None:
    """h = W x has two readers; a = V h too; b = U a."""
    def matrix(k: int) -> Array:
        return np.random.default_rng(k).normal(size=(3, 3))

    w, v, u = (matrix(k) for k in range(3))
    relu = [Elementwise("relu", (at,), (1, 3), Rounding("exact", (at,)), RELU) for at in (1, 3)]
    net = network(source(3), gemm(0, w), relu[0], gemm(1, v), relu[1], gemm(3, u))
    x = np.ones(3)
    state = state_of(net, x, x)
    own = [slack_at(net, x, 1), *(arithmetic.g(3) * np.abs(m) @ np.maximum(-state.lower[at][0], state.upper[at][0]) for m, at in ((v, 1), (u, 3)))]
    off = [own[0], own[1] + np.abs(v) @ own[0]]
    for node, m, k in ((3, v, 1), (5, u, 2)):
        exactly_this = own[k] + 2 * np.abs(m) @ off[k - 1]
        assert (state.slack[node][0] >= exactly_this * (1 - 1e-12)).all() and (state.slack[node][0] <= exactly_this * (1 + 1e-3)).all()


def test_30_batch_normalisation_is_not_computed_as_it_is_written() -> None:
    mean, x, s = 2.0**20, 2.0**20 + 1, float(F(1) / F(3))
    net = network(source(1), *norm(0, np.array([s]), np.zeros(1), np.array([mean]), np.ones(1), np.zeros(1)))
    found = float(F(F(x) * F(s)) + F(-F(F(mean) * F(s))))
    assert abs(found - s) > 5e4 * arithmetic.g(8) * s * abs(x - mean)
    assert abs(found - s) <= slack_at(net, [x])[0]


@pytest.mark.parametrize("kind", ["refused", "unheard of"])
def test_31_no_rule_no_slack(kind: str) -> None:
    net = network(source(1), Affine("layer norm", (0,), (1, 1), Rounding(kind, (0,), name="LayerNormalization"), (Diagonal(np.ones(1)),)))
    with pytest.raises(Rejected, match="float32-no-rule"):
        state_of(net, [1.0], [1.0])


def overflow() -> Network:
    return network(source(3), gemm(0, np.array([[2.0**127, 2.0**127, -(2.0**127)]]), np.zeros(1)))


def test_35_partial_sums_must_not_overflow() -> None:
    with pytest.raises(Rejected, match="float32-overflow"):
        state_of(overflow(), np.ones(3), np.ones(3))


def unary(function: Smooth, kind: str, count: int = 0, name: str = "") -> Network:
    return network(source(1), Elementwise("f", (0,), (1, 1), Rounding(kind, (0,), count, name=name), function))


@pytest.mark.parametrize(
    ("net", "lower", "upper"),
    [
        (unary(Smooth("log"), "kernel", name="Log"), 2.0**-127, 1.0),
        (unary(Smooth("reciprocal"), "sqrt", 2), 2.0**-127, 1.0),
        (unary(Smooth("reciprocal"), "sqrt", 2), -1.0, -(2.0**-127)),
        (unary(Smooth("exp"), "kernel", name="Exp"), 0.0, 88.5),  # above 2^127
        (unary(Smooth("exp"), "kernel", name="Exp"), 0.0, 100.0),  # above what was measured
        (unary(Smooth("pow", 0.3), "kernel", name="Pow"), 1.0, 2.0),  # not measured
        (unary(Smooth("pow", 0.5), "kernel", name="Pow"), 0.0, 2.0),
    ],
)
def test_35_domains_keep_their_distance(net: Network, lower: float, upper: float) -> None:
    with pytest.raises(Rejected):
        state_of(net, [lower], [upper])


def test_35_a_square_root_of_what_float32_may_make_negative() -> None:
    root_of = lambda low: network(  # noqa: E731
        source(1), gemm(0, np.array([[3.0]])), Elementwise("f", (1,), (1, 1), Rounding("sqrt", (1,), 1), Smooth("sqrt"))
    )
    state_of(root_of(0), [1.0], [2.0])
    with pytest.raises(Rejected, match="domain"):
        state_of(root_of(0), [0.0], [2.0])


def divided() -> Network:
    same = Smooth("reciprocal")
    return network(
        source(2), Affine("x", (0,), (1, 1), Rounding("moves", (0,)), (Index(np.array([0]), 2),)),
        Affine("y", (0,), (1, 1), Rounding("moves", (0,)), (Index(np.array([1]), 2),)),
        Elementwise("div", (2,), (1, 1), None, same), Product("div", (1, 3), (1, 1), Rounding("product", (1, 2), 2, divisor=2)),
    )  # fmt: skip


def test_division_of_two_variables() -> None:
    for x, y in ((1.0, 3.0), (2.0**-120, 2.0**-20), (-5.0, 2.0**-100)):
        found = F(x) / F(y)
        assert abs(Fraction(float(found)) - Fraction(x) / Fraction(y)) <= Fraction(float(slack_at(divided(), [x, y])[0]))
    # a flushed numerator
    assert slack_at(divided(), [2.0**-127, 2.0**-20])[0] >= 2.0**-107
    with pytest.raises(Rejected, match="float32-divisor"):
        state_of(divided(), [1.0, 2.0**-127], [1.0, 1.0])


def test_a_constant_over_a_variable() -> None:
    """2^-127 / 2^-100, where the numerator may be flushed."""
    scale = Affine("div", (1,), (1, 1), Rounding("product", (0,), 2, divisor=0), (Diagonal(np.array([2.0**-127])),))
    net = network(source(1), Elementwise("div", (0,), (1, 1), None, Smooth("reciprocal")), scale)
    assert slack_at(net, [2.0**-100])[0] >= 2.0**-27


def test_a_product_accumulated_onto_what_is_added_to_it() -> None:
    """x y + c as a sum that starts from c, where every product is rounded away or up."""
    k = 64
    nodes: list[Node] = [
        source(2 * k), Affine("a", (0,), (1, k), Rounding("moves", (0,)), (Index(np.arange(k), 2 * k),)),
        Affine("b", (0,), (k, 1), Rounding("moves", (0,)), (Index(np.arange(k, 2 * k), 2 * k),)),
        MatMul("matmul", (1, 2), (1, 1), Rounding("product", (1, 2), k)),
        Affine("add", (3,), (1, 1), Rounding("affine", (3,), 1), (Index(np.arange(1), 1),), np.ones(1)),
    ]  # fmt: skip
    x = np.concatenate([np.full(k, 0.9 * 2.0**-24, F), np.ones(k, F)])
    state = state_of(network(*nodes), x, x)
    total = F(1)
    for v in x[:k]:
        total = total + v
    assert state.lower[-1][0, 0] <= total <= state.upper[-1][0, 0]
    assert Slack(network(*nodes), TABLE).operators[3].roundings == k + 3  # scales of x, of y, of the product


def test_roots() -> None:
    for name, count in (("Sqrt", 1), ("Pow", 2)):  # a power is not correctly rounded
        rounding = Rounding("sqrt", (0,), 1, name=name)
        found = slack_at(network(source(1), Elementwise("f", (0,), (1, 1), rounding, Smooth("sqrt"))), [4.0])[0]
        assert 2 * arithmetic.g(count) <= found <= 2 * arithmetic.g(count) * (1 + 1e-5)
        assert slack_at(network(source(1), Elementwise("f", (0,), (1, 1), rounding, Smooth("sqrt"))), [2.0**-127])[0] >= 2.0**-63.5


def test_a_reciprocal_rounds_as_often_as_it_says() -> None:
    for count in (1, 2):
        found = slack_at(unary(Smooth("reciprocal"), "sqrt", count), [3.0])[0]
        assert arithmetic.g(count) / 3 <= found <= arithmetic.g(count) / 3 * (1 + 1e-5)


def test_constants_of_an_operator_count_with_their_radius() -> None:
    """concat(x, 3 +- 1/2), then a sum of both."""
    constant = Constant("concat", (), (1, 1), None, np.array([-3.0]), np.array([0.5]))
    both = Affine("concat", (0, 1), (1, 2), Rounding("moves", (0,)), tuple(Index(np.array(k), 1) for k in ([0, -1], [-1, 0])))
    net = network(source(1), constant, both, gemm(2, np.ones((1, 2))))
    found, roundings = slack_at(net, [1.0])[0], Slack(net, TABLE).operators[3].roundings
    assert arithmetic.g(roundings) * 4.5 <= found <= arithmetic.g(roundings) * 4.5 * (1 + 1e-5)


def test_36_flushing_to_zero() -> None:
    assert slack_at(scaled(1.0, 2.0**120), [2.0**-130])[0] >= 2.0**-10
    relu = network(source(1), Elementwise("relu", (0,), (1, 1), Rounding("exact", (0,)), RELU))
    assert slack_at(relu, [2.0**-127])[0] >= 2.0**-127
    neg = network(source(1), Affine("neg", (0,), (1, 1), Rounding("exact", (0,)), (Diagonal(np.array([-1.0])),)))
    assert slack_at(neg, [2.0**-127])[0] >= 2.0**-127


def test_a_product_of_matrices_and_what_is_folded_into_it() -> None:
    """x y with a scale after it, of numbers that cancel: the scale may be multiplied into x first."""
    r, rng = Random(3), np.random.default_rng(3)
    nodes: list[Node] = [
        source(16), Affine("a", (0,), (2, 4), Rounding("moves", (0,)), (Index(np.arange(8), 16),)),
        Affine("b", (0,), (4, 2), Rounding("moves", (0,)), (Index(np.arange(8, 16), 16),)),
        MatMul("matmul", (1, 2), (2, 2), Rounding("product", (1, 2), 4)),
        Affine("mul", (3,), (2, 2), Rounding("affine", (3,), 1), (Diagonal(np.full(4, 3.0)),)),
    ]  # fmt: skip
    for _ in range(200):
        x = rng.normal(size=16).astype(F)
        x[12:] = -x[8:12] * F(1 + 2.0**-12)
        state, machine = state_of(network(*nodes), x, x), Machine.draw(r)
        a, b = x[:8].reshape(2, 4), x[8:].reshape(4, 2)
        first = machine.matrix(np.array([[machine.product(F(3), v) for v in row] for row in a], F), b)
        second = np.array([[machine.product(F(3), v) for v in row] for row in machine.matrix(a, b)], F)
        for found in (first.reshape(-1), second.reshape(-1)):
            assert (state.lower[-1][0] <= found).all() and (found <= state.upper[-1][0]).all()


def test_pieces_and_powers() -> None:
    leaky = Pieces((0.0,), (float(F(0.01)), 1.0), (0.0, 0.0), (0.0,))
    hard = Pieces((-2.5, 2.5), (0.0, float(F(0.2)), 0.0), (0.0, 0.5, 1.0), (0.0, 1.0))
    rng = np.random.default_rng(0)
    for x in rng.normal(size=300).astype(F):
        v = Fraction(float(x))
        cases = (
            (leaky, Rounding("pieces", (0,), 1), x if x > 0 else F(0.01) * x, v if v > 0 else Fraction(float(F(0.01))) * v),
            (hard, Rounding("pieces", (0,), 2), F(0.2) * x + F(0.5), Fraction(float(F(0.2))) * v + Fraction(1, 2)),
            (Smooth("pow", 2.0), Rounding("kernel", (0,), name="Pow"), x * x, v * v),
            (Smooth("pow", 3.0), Rounding("kernel", (0,), name="Pow"), x * x * x, v * v * v),
        )
        for function, rounding, found, exact in cases:
            s = slack_at(network(source(1), Elementwise("f", (0,), (1, 1), rounding, function)), [float(x)])
            assert abs(Fraction(float(found)) - exact) <= Fraction(float(s[0]))


# ---------------------------------------------------------------- onnxruntime, with the table that is committed


def runtime(model: onnx.ModelProto, optimised: bool) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def onnx_model(nodes: Sequence[onnx.NodeProto], constants: dict[str, Array], n: int, m: int) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, k]) for name, k in (("x", n), ("y", m))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(v, k) for k, v in constants.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def softmax(at: int, n: int, shift: float) -> list[Node]:
    """Over all n, as the checker lowers it: exp(x - c) times 1 / their sum."""
    same, copies = Index(np.arange(n), n), Index(np.zeros(n, np.int64), 1)
    return [
        Affine("softmax", (at,), (1, n), None, (same,), np.full(n, -shift)),
        Elementwise("softmax", (at + 1,), (1, n), None, Smooth("exp")),
        Affine("softmax", (at + 2,), (1, 1), None, (Transposed(copies),)),
        Elementwise("softmax", (at + 3,), (1, 1), None, Smooth("reciprocal")),
        Affine("softmax", (at + 4,), (1, n), None, (copies,)),
        Product("softmax", (at + 2, at + 5), (1, n), Rounding("softmax", (at,), n)),
    ]


@pytest.mark.parametrize("optimised", [True, False])
@pytest.mark.parametrize("last", ["Sigmoid", "Tanh", "Exp", "Erf", "Sin", "Cos", "Softplus", "Softmax", "Relu"])
def test_the_runtime_stays_within_what_is_allowed(last: str, optimised: bool) -> None:
    """Gemm, BatchNormalization, Relu, Gemm, Mul, an activation: on points, boxes of width 0."""
    rng = np.random.default_rng(11)
    n, hidden, m = 13, 37, 21
    w, v = rng.normal(size=(hidden, n)).astype(F), rng.normal(size=(m, hidden)).astype(F) * F(0.3)
    constants = {
        "w": w, "b": rng.normal(size=hidden).astype(F), "scale": rng.normal(size=hidden).astype(F), "shift": rng.normal(size=hidden).astype(F),
        "mean": rng.normal(size=hidden).astype(F), "var": rng.uniform(0.1, 2, hidden).astype(F), "v": v, "c": rng.normal(size=m).astype(F),
        "k": np.array([1.7], F),
    }  # fmt: skip
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["1"], transB=1),
        helper.make_node("BatchNormalization", ["1", "scale", "shift", "mean", "var"], ["2"]),
        helper.make_node("Relu", ["2"], ["3"]), helper.make_node("Gemm", ["3", "v", "c"], ["4"], transB=1),
        helper.make_node("Mul", ["4", "k"], ["5"]), helper.make_node(last, ["5"], ["y"]),
    ]  # fmt: skip
    session = runtime(onnx_model(nodes, constants, n, m), optimised)
    parameters = [constants[k] for k in ("scale", "shift", "mean", "var")]
    core: list[Node] = [source(n), gemm(0, w, constants["b"]), *norm(1, *parameters, np.full(hidden, 1e-5, F))]
    core.append(Elementwise("relu", (4,), (1, hidden), Rounding("exact", (4,)), RELU))
    core += [gemm(5, v, constants["c"]), Affine("mul", (6,), (1, m), Rounding("affine", (6,), 1), (Diagonal(np.full(m, float(F(1.7)))),))]
    for x in rng.normal(size=(40, n)).astype(F):
        y = session.run(None, {"x": x[None]})[0][0]
        if last == "Softmax":
            final = softmax(7, m, 5.0)
        else:
            rounding = Rounding("exact", (7,)) if last == "Relu" else Rounding("kernel", (7,), name=last)
            final = [Elementwise(last, (7,), (1, m), rounding, RELU if last == "Relu" else Smooth(last.lower()))]
        ends = np.array([x], dtype=np.float64)
        net = network(*core, *final)
        state = Checker(net, Slack(net)).state(1, ends, ends, {}, {}, 0)
        assert (state.lower[-1][0] <= y).all() and (y <= state.upper[-1][0]).all()


KERNELS = ("Sigmoid", "Tanh", "Exp", "Log", "Erf", "Sin", "Cos", "Softplus")


def unary_session(operator: str) -> onnxruntime.InferenceSession:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", ends[:1], ends[1:])
    return runtime(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), True)


@pytest.mark.parametrize("operator", KERNELS)
def test_32_and_33_kernels_stay_within_the_table_wherever_an_element_stands(operator: str) -> None:
    rng, session = np.random.default_rng(2), unary_session(operator)
    x = (rng.normal(size=3000) * np.exp(2 * rng.normal(size=3000))).astype(F)
    x = np.concatenate([np.clip(x, -80, 80), np.array([-16.32, -17.99, -17.49, 0.0, -0.0, 2.0**-130, 1.0], F)])
    x = np.abs(x) + F(2.0**-60) if operator == "Log" else x
    net = unary(Smooth(operator.lower()), "kernel", name=operator)
    ends = x[:, None].astype(np.float64)
    state = Checker(net, Slack(net)).state(len(x), ends, ends, {}, {}, 0)
    together = session.run(None, {"x": x})[0]
    alone = np.array([session.run(None, {"x": x[i : i + 1]})[0][0] for i in range(len(x))])
    for y in (together, alone):
        assert (state.lower[-1][:, 0] <= y).all() and (y <= state.upper[-1][:, 0]).all()


def test_34_softmax_of_a_wide_range() -> None:
    n, rng = 50, np.random.default_rng(9)
    session = runtime(onnx_model([helper.make_node("Softmax", ["x"], ["y"])], {}, n, n), True)
    net = network(source(n), *softmax(0, n, 40.0))
    for spread in (1.0, 20.0, 80.0):
        x = (rng.uniform(-spread, spread, (1, n))).astype(F)
        state = Checker(net, Slack(net)).state(1, x.astype(np.float64), x.astype(np.float64), {}, {}, 0)
        y = session.run(None, {"x": x})[0]
        assert (state.lower[-1] <= y).all() and (y <= state.upper[-1]).all()


def test_the_table_says_where_it_is_from(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Table.fitting().key.startswith("onnxruntime ")
    monkeypatch.setattr("verifier.checker.measured.runtime", lambda: "99.0")
    other = Table.fitting()
    assert other.assumed and other.kernels
    with pytest.raises(Rejected, match="float32-not-measured"):
        other.loss("gelu", np.zeros(1), np.zeros(1), np.zeros(1), "here")


# ---------------------------------------------------------------- no more than what the formulas say

OUT, THETA, g = 1 + 2.0**-20, arithmetic.THETA, arithmetic.g
ABOVE = float(np.nextafter(THETA, 1.0))  # bounds go one step outward
HALF, SHIFTED = Pieces((0.0,), (-0.5, 0.25), (0.0, 0.0), (0.0,)), Pieces((1.0,), (0.0, 0.5), (-3.0, 0.5), (1.0,))
OWED: list[tuple[Pieces | Smooth, Rounding, float, float]] = [  # function, how it is computed, argument, slack
    (RELU, Rounding("exact", (0,)), 3.0, THETA),
    (Smooth("sqrt"), Rounding("sqrt", (0,), 1, name="Sqrt"), 4.0, OUT * (g(1) * 2 + 2.0**64 * THETA)),
    (Smooth("sqrt"), Rounding("sqrt", (0,), 1, name="Pow"), 2.0**-80, OUT * (g(2) * 2.0**-40 + 2.0**64 * THETA)),
    (Smooth("reciprocal"), Rounding("sqrt", (0,), 2), 4.0, OUT * g(2) / 4),
    (Smooth("reciprocal"), Rounding("sqrt", (0,), 2), 2.0**100, OUT * (g(2) * 2.0**-100 + 4 * THETA)),
    (Smooth("pow", 2.0), Rounding("kernel", (0,), name="Pow"), -3.0, OUT * g(3) * 9),
    (Smooth("pow", 3.0), Rounding("kernel", (0,), name="Pow"), 2.0**-34, OUT * (g(3) * 2.0**-102 + 8 * THETA)),
    (Smooth("exp"), Rounding("kernel", (0,), name="Exp"), -90.0, OUT * (2.0**-21 * math.exp(-90) + (FLUSHED + 1) * THETA)),
    (Smooth("tanh"), Rounding("kernel", (0,), name="Tanh"), 0.5, OUT * (2.0**-20 * math.tanh(0.5) + 2.0**-21)),
    (HALF, Rounding("pieces", (0,), 1), -2.0**-104, OUT * (g(1) * 2.0**-105 + 4.5 * THETA)),
    (SHIFTED, Rounding("pieces", (0,), 2), 2.0, OUT * g(2) * (0.5 * 2 + 3)),
]  # fmt: skip


@pytest.mark.parametrize("function, rounding, x, owed", OWED)
def test_functions_owe_what_their_formula_says(function: Pieces | Smooth, rounding: Rounding, x: float, owed: float) -> None:
    found = slack_at(network(source(1), Elementwise("f", (0,), (1, 1), rounding, function)), [x])[0]
    assert found == pytest.approx(owed, rel=1e-9, abs=0)


def test_sums_and_products_owe_what_their_formulas_say() -> None:
    """Tiny numbers, so that roundings and what flushing loses both show."""
    weight, bias, x = np.array([[1.0, -2.0], [0.5, 0.25]]), np.array([2.0**-101, 0.0]), np.array([2.0**-100, -(2.0**-104)])
    size = np.abs(weight) @ np.abs(x) + bias
    wanted = OUT * (g(3) * size + THETA * (2 * 2 + 2 + 3) + THETA * np.abs(x).sum())
    assert slack_at(network(source(2), gemm(0, weight, bias)), x) == pytest.approx(wanted, rel=1e-9, abs=0)
    for k, kind in ((1, Product), (2, MatMul)):
        product = kind("product", (1, 2), (1, 1), Rounding("product", (1, 2), k))
        shapes, halves = ((1, k), (k, 1)), (np.arange(k), np.arange(k, 2 * k))
        parts = [Affine("part", (0,), shape, Rounding("moves", (0,)), (Index(at, 2 * k),)) for shape, at in zip(shapes, halves, strict=True)]
        x = np.array([2.0**-50] * k + [2.0**-54] * k)
        wanted = OUT * (g(k + 3) * k * 2.0**-104 + (2 * k + 2) * THETA)
        assert slack_at(network(source(2 * k), *parts, product), x) == pytest.approx([wanted], rel=1e-9, abs=0)
        x = np.array([2.0**20] * k + [3.0] * k)
        assert slack_at(network(source(2 * k), *parts, product), x) == pytest.approx([OUT * g(k + 3) * k * 3 * 2.0**20], rel=1e-9, abs=0)


def test_what_is_owed_is_for_the_largest_magnitude_in_the_box() -> None:
    for lower, upper in ((-3.0, 1.0), (-1.0, 3.0), (-3.0, -1.0)):
        s = state_of(network(source(1), gemm(0, np.ones((1, 1)))), [lower], [upper]).slack[1]
        assert s is not None and s[0, 0] == pytest.approx(OUT * 3 * g(1), rel=1e-9, abs=0)


def test_moving_numbers_loses_nothing() -> None:
    swap = Affine("swap", (0,), (1, 1), Rounding("moves", (0,)), (Index(np.zeros(1, np.int64), 1),))
    found = slack_at(network(source(1), swap, gemm(1, np.ones((1, 1)))), [2.0**-100])
    assert found == pytest.approx([OUT * (g(1) * OUT * 2.0**-100 + 5 * THETA)], rel=1e-9, abs=0)


def test_every_reader_counts_however_small_its_weights() -> None:
    """Two sums that read h, and one that reads each element of k once."""
    few = np.full((1, 2), 0.125)
    net = network(source(2), gemm(0, np.eye(2)), gemm(1, few), gemm(1, few), gemm(0, np.eye(2)), gemm(4, few), outputs=(2, 3, 5))
    operators = Slack(net, TABLE).operators
    assert [operators[i].shared for i in (1, 2, 3, 4, 5)] == [True, False, False, False, False]
    halves = [Affine("half", (1,), (1, 1), Rounding("moves", (1,)), (Index(np.array([k]), 2),)) for k in (0, 1)]
    assert not Slack(network(source(2), gemm(0, np.eye(2)), *halves, outputs=(2, 3)), TABLE).operators[1].shared  # an element each


def test_products_of_a_batch_owe_what_they_owe_alone() -> None:
    """(2, 1, 3) times (2, 3, 2), over two boxes."""
    shapes, sizes = ((2, 1, 3), (2, 3, 2)), (6, 12)
    parts = [Affine("part", (0,), shape, Rounding("moves", (0,)), (Index(np.arange(at, at + n), 18),))
             for shape, n, at in zip(shapes, sizes, (0, 6), strict=True)]  # fmt: skip
    net = network(source(18), *parts, MatMul("matmul", (1, 2), (2, 1, 2), Rounding("product", (1, 2), 3)))
    x = np.random.default_rng(0).normal(size=(2, 18))
    together = Checker(net, Slack(net, TABLE)).state(2, x, x, {}, {}, 0).slack[-1]
    assert together is not None and together == pytest.approx(np.array([slack_at(net, row) for row in x]), rel=1e-9, abs=0)
    size = (np.abs(x[:, :6].reshape(2, 2, 1, 3)) @ np.abs(x[:, 6:].reshape(2, 2, 3, 2))).reshape(2, 4)
    assert together == pytest.approx(OUT * g(3 + 3) * size, rel=1e-9, abs=0)
    tiny = Checker(net, Slack(net, TABLE)).state(2, x * 2.0**-52, x * 2.0**-52, {}, {}, 0).slack[-1]
    assert tiny is not None and tiny == pytest.approx(OUT * (g(3 + 3) * size * 2.0**-104 + 8 * THETA), rel=1e-9, abs=0)


def test_magnitudes_along_a_chain_grow_by_what_may_be_off() -> None:
    """h has two affine readers; what each makes of it may be off by its own roundings and by those of h, twice."""
    v, w = np.array([[1.0, -2.0], [0.5, 0.25]]), np.array([[3.0, 1.0], [-1.0, 2.0]])
    net = network(source(2), gemm(0, w), gemm(1, v), gemm(1, v), outputs=(2, 3))
    state, run = state_of(net, [1.0, 0.5], [1.0, 0.5]), Slack(net, TABLE).start(1)
    for i in range(4):
        s = run.step(i, state.lower[i], state.upper[i])
    magnitude = OUT * run.big[1] @ np.abs(v).T
    assert run.flows[3].w - magnitude == pytest.approx(s, rel=1e-5, abs=0) and (s > 2 * g(2) * magnitude).all()


@pytest.mark.parametrize("rho, good", [(0.499, True), (0.5, False)])
def test_an_exp_that_is_wrong_by_half_is_no_softmax(rho: float, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Table, "worst", lambda self, *_: (rho, 0.0))
    net = network(source(2), *softmax(0, 2, 0.0))
    if good:
        state_of(net, [0.0, 0.0], [0.0, 0.0])
    else:
        with pytest.raises(Rejected, match="float32-softmax"):
            state_of(net, [0.0, 0.0], [0.0, 0.0])


def test_a_softmax_owes_what_its_formula_says() -> None:
    state = state_of(network(source(3), *softmax(0, 3, 0.0)), [-1.0, -1.0, 0.0], [1.0, 2.0, 1.0])
    relative, lost, share = softmax_loss(2.0**-21, 2.0**-126, np.array([3.0]), 3)
    t = arithmetic.MU * OUT * 3
    a = 2.0**-21 + (1 + 2.0**-21) * (t + t * t)
    b = a + g(3) + a * g(3) + 6 * THETA
    assert [relative[0], lost, share[0]] == pytest.approx([(a + g(2) + a * g(2) + b) / (1 - b), 8 * THETA, b], rel=1e-9, abs=0)
    for tau in (2.0**-100, 2.0**-130):
        assert softmax_loss(0.0, tau, np.zeros(1), 3)[1] == 8 * max(tau, THETA)
    s = state.slack[-1]
    assert s is not None and s[0] == pytest.approx(OUT * (relative * np.maximum(-state.lower[-1], state.upper[-1])[0]), rel=1e-5, abs=0)
    wide = state_of(network(source(2), *softmax(0, 2, 300.0)), [0.0, 300.0], [0.0, 300.0]).slack[-1]
    relative, _, _ = softmax_loss(2.0**-21, 2.0**-126, np.array([104.0]), 2)  # beyond 104 exp is 0
    assert wide is not None and wide[0, 1] == pytest.approx(OUT * relative[0], rel=1e-6, abs=0)


@pytest.mark.parametrize("net, inside, outside", [
    (network(source(1), Elementwise("f", (0,), (1, 1), Rounding("exact", (0,)), RELU)), 2.0**127, 2.0**127 * (1 + 2.0**-50)),
    (scaled(1.0), 2.0**127 * (1 - 2.0**-22), 2.0**127),
    (unary(Smooth("reciprocal"), "sqrt", 2), ABOVE, THETA),
    (unary(Smooth("reciprocal"), "sqrt", 2), -ABOVE, -THETA),
    (unary(Smooth("log"), "kernel", name="Log"), ABOVE, THETA),
    (unary(Smooth("sqrt"), "sqrt", 1), 5e-324, 0.0),
])  # fmt: skip
def test_limits_are_where_they_should_be(net: Network, inside: float, outside: float) -> None:
    state_of(net, [inside], [inside])
    with pytest.raises(Rejected):
        state_of(net, [outside], [outside])


def test_constants_that_are_folded_stay_below_their_limit() -> None:
    Slack(scaled(2.0**126 * (1 - 2.0**-22)), TABLE)
    with pytest.raises(Rejected, match="float32-overflow"):
        Slack(scaled(2.0**126), TABLE)


def test_a_kernel_of_a_constant() -> None:
    """Its argument is no output of another operator."""
    constant = Constant("c", (), (1, 1), None, np.array([2.0]), np.array([0.0]))
    tanh = Elementwise("tanh", (1,), (1, 1), Rounding("kernel", (), name="Tanh"), Smooth("tanh"))
    assert slack_at(network(source(1), constant, tanh), [1.0])[0] >= 2.0**-20 * math.tanh(2)


def test_a_factor_counts_wherever_it_is_applied() -> None:
    """x 2^90, then 2^-150 of that: if the factor comes last, 2^-150 x is flushed before."""
    factor = Affine("mul", (0,), (1, 1), Rounding("affine", (0,), 1), (Diagonal(np.array([2.0**90])),))
    assert slack_at(network(source(1), factor, gemm(1, np.array([[2.0**-150]]))), [2.0**-90])[0] >= 2.0**90 * THETA
    assert slack_at(network(source(1), gemm(0, np.array([[2.0**-150]]))), [1.0])[0] <= 2.0**-120
    later = Affine("mul", (1,), (1, 1), Rounding("affine", (1,), 1), (Diagonal(np.array([2.0**90])),))
    with pytest.raises(Rejected, match="float32-overflow"):  # first 2^60 2^90
        slack_at(network(source(1), gemm(0, np.array([[2.0**-100]])), later), [2.0**60])


def moved(peak: float, most: float, lost: float, gain: float) -> Moved:
    return Moved(*(np.array([[v]]) for v in (peak, most, lost, gain)))


def numbers(found: Moved | None) -> tuple[float, ...]:
    assert found is not None
    return tuple(float(x[0, 0]) for x in (found.peak, found.most, found.lost, found.gain))


def test_how_constant_factors_are_carried() -> None:
    """Through one node each, in whole numbers and units of THETA: largest, largest on the way, lost, gain."""
    a, b = moved(5.0, 7.0, 0.0, 2.0), moved(3.0, 11.0, 0.0, 4.0)
    constant = Constant("c", (), (1, 1), None, np.array([-3.0]), np.array([0.5]))
    assert numbers(factors.carry(constant, [], [], 1, 0)) == (3.5, 3.5, 0.0, 1.0)
    scale = Affine("mul", (0,), (1, 1), Rounding("affine", (0,), 1), (Diagonal(np.array([8.0])),))
    assert numbers(factors.carry(scale, [a], [8.0], 1, 10)) == (40.0, 56.0, 2 * THETA * 51 * 23 * 8, 16.0)
    assert numbers(factors.carry(scale, [a], [0.5], 1, 10)) == (5.0, 7.0, 2 * THETA * 51 * 23, 2.0)
    dense = gemm(0, np.array([[0.5]]), np.array([-2.0]))
    assert numbers(factors.carry(dense, [a], [0.5], 1, 10)) == (4.5, 7.0, 2 * THETA * 51 * 22.5, 2.0)
    both = MatMul("product", (0, 1), (1, 1), Rounding("product", (0, 1), 6))
    assert numbers(factors.carry(both, [a, b], [], 6, 10)) == (90.0, 90.0, 8 * THETA * 81 * 14, 8.0)
    wide = [moved(1.0, 1.0, THETA, 2.0**80), moved(2.0, 3.0, THETA, 2.0)]
    assert numbers(factors.carry(both, wide, [], 6, 0)) == (12.0, 2.0**82, 6 * (THETA + 2 * THETA + THETA * THETA), 2.0**81)
    half = Elementwise("f", (0,), (1, 1), Rounding("pieces", (0,), 1), HALF)
    assert numbers(factors.carry(half, [a], [], 1, 10)) == (2.5, 7.0, 4.5 * THETA * 51 * 2, 2.0)
    assert factors.carry(Elementwise("f", (0,), (1, 1), Rounding("kernel", (0,), name="Exp"), Smooth("exp")), [a], [], 1, 10) is None
