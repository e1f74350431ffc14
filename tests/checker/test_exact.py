"""The kernel against its exact twin: never above it, never far from it, and both right about concrete runs."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from statistics import median
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from tests.checker.random_networks import (
    PIECES,
    POSITIVE_DOMAIN,
    SMOOTH,
    Array,
    bounding_problems,
    flat_slopes,
    random_box,
    random_functional,
    random_network,
    random_point,
    random_slopes,
)
from tests.checker.twins import as_rows, both_bounds, box_of, float_bound, float_state, same_state
from tests.effort import examples
from verifier.checker.bounds import BACKWARD, FORWARD, Checker
from verifier.checker.exact_bounds import ExactBounds, State
from verifier.checker.network import Affine, Constant, Elementwise, Input, MatMul, Maximum, Network, Product
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack

SEEDS, PARTS = 1000, 4


def _relative(loss: Fraction, *sizes: Fraction) -> float:
    return float(loss / max(Fraction(1), *map(abs, sizes)))


def _problem(seed: int) -> tuple[Random, Network, Array, Array]:
    r = Random(seed)
    network = random_network(r)
    return (r, network, *random_box(r, network))


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))])
def test_a_thousand_networks(part: int) -> None:
    """Lower bounds never above the exact ones with the same slopes, intervals around the exact intervals; both close."""
    bound_loss, interval_loss, refused = [], [], 0
    seeds = range(part, SEEDS, PARTS)[: examples(SEEDS // PARTS)]
    for seed in seeds:
        r, network, lower, upper = _problem(seed)
        functional, slopes = random_functional(r, network), random_slopes(r, network)
        try:
            state = float_state(checker := Checker(network, None), lower, upper)
            bound = float_bound(checker, state, functional, slopes)
        except Rejected as refusal:  # an exponent or a domain out of reach
            assert refusal.rule in ("domain", "not-finite"), seed
            refused += 1
            continue
        twin = ExactBounds(network)
        exact = twin.lower_bound(same_state(network, state), as_rows(functional), slopes=flat_slopes(slopes))
        assert bound <= exact, seed
        bound_loss.append(_relative(exact - bound, exact))
        own = twin.state(box_of(network, lower), box_of(network, upper))
        for k in range(len(network.nodes)):
            for i, (low, high) in enumerate(zip(own.lower[k], own.upper[k], strict=True)):
                wide = Fraction(float(state.lower[k][0, i])), Fraction(float(state.upper[k][0, i]))
                assert wide[0] <= low and high <= wide[1], (seed, k, i)
                interval_loss.append(_relative(wide[1] - wide[0] - (high - low), low, high))
    assert refused <= len(seeds) // 20
    assert median(bound_loss) < 1e-10 and median(interval_loss) < 1e-10


def test_absorption_and_cancellation() -> None:
    """Weights from 2^-60 to 2^40, where most of a sum is lost: still never above."""
    for seed in range(examples(300)):
        r = Random(seed)
        network = random_network(r, wild=True)
        lower, upper = random_box(r, network)
        bound, exact = both_bounds(network, lower, upper, random_functional(r, network), random_slopes(r, network), BACKWARD * (seed % 2))
        assert bound <= exact, seed


def test_the_random_networks_hold_every_kind_of_node() -> None:
    kinds, functions, consumers = set(), set(), 0
    for seed in range(200):
        network = _problem(seed)[1]
        kinds |= {type(node) for node in network.nodes}
        functions |= {node.function for node in network.nodes if isinstance(node, Elementwise)}
        uses = [source for node in network.nodes for source in node.inputs]
        consumers += len(uses) > len(set(uses))
    assert {Affine, Constant, Elementwise, Product, MatMul, Maximum} <= kinds
    assert functions >= {*PIECES, *SMOOTH, *POSITIVE_DOMAIN}
    assert consumers > 50


@pytest.mark.parametrize("program", [0, BACKWARD, FORWARD, BACKWARD | FORWARD])
def test_no_bound_excludes_a_concrete_run(program: int) -> None:
    """A box of width 0 in exact arithmetic is a run: it lies in every state, and no functional is below its bound."""
    for seed in range(60):
        r, network, lower, upper = _problem(seed)
        functional, slopes = random_functional(r, network), random_slopes(r, network)
        try:
            state = float_state(checker := Checker(network, None), lower, upper, program)
            bound = float_bound(checker, state, functional, slopes)
        except Rejected:
            continue
        for _ in range(3):
            point = box_of(network, random_point(r, lower, upper))
            run = ExactBounds(network).state(point, point)
            terms = [(d, k, i) for k, row in as_rows(functional).items() for i, d in row.items()]
            assert bound <= sum((d * (run.lower if d < 0 else run.upper)[k][i] for d, k, i in terms), Fraction(0)), seed
            for k in range(len(network.nodes)):
                for i, (low, high) in enumerate(zip(run.lower[k], run.upper[k], strict=True)):
                    assert float(state.lower[k][0, i]) <= high and low <= float(state.upper[k][0, i]), (seed, k, i)


class _SomeSlack:
    """What float32 may add to each node: numbers out of a hat, in the place of the rules of slack.py."""

    def __init__(self, r: Random, network: Network) -> None:
        self.slack = [np.array([r.choice((0.0, 1e-7, 1e-3)) for _ in range(node.size)]) for node in network.nodes]
        for k, node in enumerate(network.nodes):
            if isinstance(node, Input | Constant):  # these never have slack: what is wrong with a constant stands in its radius
                self.slack[k][:] = 0.0

    def start(self, batch: int) -> _SomeSlack:
        return self

    def step(self, i: int, lower: Array, upper: Array) -> Array:
        return np.broadcast_to(self.slack[i], lower.shape)

    def execution(self, r: Random, network: Network, point: Array) -> list[list[Fraction]]:
        """A run in which every node is off by at most its slack; of an enclosure (smooth functions) the lower end."""
        twin, run, start = ExactBounds(network), State(), box_of(network, point)
        for k, node in enumerate(network.nodes):
            exact = start[k] if k in start else twin.interval_step(run, k)[0]
            values = [x + Fraction(s) * r.randint(-8, 8) / 8 for x, s in zip(exact, self.slack[k].tolist(), strict=True)]
            run.lower.append(values)
            run.upper.append(values)
            run.slack.append([Fraction(0)] * node.size)
        return run.lower


@pytest.mark.parametrize("program", [0, BACKWARD, FORWARD])
def test_slack_enters_every_bound(program: int) -> None:
    """With any slack at the nodes: never above the exact twin, and no perturbed run is excluded."""
    for seed in range(60):
        r, network, lower, upper = _problem(seed)
        functional, slopes, slack = random_functional(r, network), random_slopes(r, network), _SomeSlack(r, network)
        try:
            state = float_state(checker := Checker(network, cast(Slack, slack)), lower, upper, program)
            bound = float_bound(checker, state, functional, slopes)
            exact = both_bounds(network, lower, upper, functional, slopes, program, cast(Slack, slack))[1]
            runs = [slack.execution(r, network, random_point(r, lower, upper)) for _ in range(3)]
        except Rejected:
            continue
        assert bound <= exact, seed
        for run in runs:
            assert bound <= sum((d * run[k][i] for k, row in as_rows(functional).items() for i, d in row.items()), Fraction(0)), seed
            for k, values in enumerate(run):
                for i, x in enumerate(values):
                    assert float(state.lower[k][0, i]) <= x <= float(state.upper[k][0, i]), (seed, k, i)


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(bounding_problems(4))
def test_the_kernel_is_never_above_its_twin(problem: tuple[Network, Array, Array, dict[int, Array], dict[int, tuple[Array, Array]]]) -> None:
    """The same as above with Hypothesis, which makes a failure small."""
    try:
        bound, exact = both_bounds(*problem, program=BACKWARD)
    except Rejected:
        return
    assert bound <= exact


def test_batches_agree_with_single_boxes() -> None:
    """Rows and boxes in one call give what they give one at a time, up to the order of sums."""
    for seed in range(60):
        r, network, lower, upper = _problem(seed)
        boxes = [(lower, upper), *(random_box(r, network) for _ in range(2))]
        drawn = [random_functional(r, network) for _ in range(3)]
        nodes = sorted(set().union(*drawn))
        functional = {k: np.array([[d.get(k, np.zeros(network.nodes[k].size)) for d in drawn]]) for k in nodes}
        zero, checker = np.zeros((1, 3)), Checker(network, None)
        try:
            state = checker.state(3, *(np.stack(ends) for ends in zip(*boxes, strict=True)), {}, {}, BACKWARD)
            whole = checker.lower_bound(state, functional, zero, zero, {})
            singles = [float_state(checker, *box, program=BACKWARD) for box in boxes]
        except Rejected:
            continue
        for b, single in enumerate(singles):
            for row in range(3):
                alone = float_bound(checker, single, drawn[row], {})
                assert _relative(abs(alone - Fraction(float(whole[b, row]))), alone) < 1e-6, seed
