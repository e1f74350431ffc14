"""Random certificates through both walks: what the kernel accepts its exact twin accepts, and neither accepts what a run refutes."""

from __future__ import annotations

from random import Random

import pytest

from tests.checker.random_certificates import Problem, grown, random_certificate, random_problem
from tests.checker.random_networks import random_network
from verifier.checker import exact, walk
from verifier.checker.bounds import Checker
from verifier.checker.certificate import Certificate
from verifier.checker.refusal import Rejected

SEEDS, PARTS = 320, 4


def _kernel(problem: Problem, certificate: Certificate, block: int = 256) -> str:
    """"" if the kernel accepts, else the rule that says no."""
    try:
        walk.check(Checker(problem.network, None), problem.cases, certificate, grown(problem, certificate), block)
    except Rejected as refusal:
        return refusal.rule
    return ""


def _twin(problem: Problem, certificate: Certificate) -> str:
    try:
        exact.check(problem.network, problem.cases, certificate, grown(problem, certificate))
    except Rejected as refusal:
        return refusal.rule
    return ""


def _drawn(seed: int) -> tuple[Problem, Certificate] | None:
    """A problem and a certificate; None where not even a state can be computed (domains, overflow)."""
    r = Random(seed)
    network = random_network(r, 6)
    try:
        problem = random_problem(r, network)
    except Rejected:
        return None
    return problem, random_certificate(r, problem)


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))])
def test_both_walks_agree_and_neither_is_refuted(part: int) -> None:
    accepted, differ, total = 0, 0, 0
    for seed in range(part, SEEDS, PARTS):
        drawn = _drawn(seed)
        if drawn is None:
            continue
        kernel, twin = _kernel(*drawn), _twin(*drawn)
        total += 1
        assert kernel or not twin, (seed, twin)  # the kernel has error terms, its twin has none
        assert twin or not drawn[0].is_violated(), seed
        accepted += not kernel
        differ += (not kernel) != (not twin)
    assert total > 50 and accepted > total / 10 and total - accepted > total / 10
    assert differ <= total / 50


def test_the_size_of_blocks_changes_nothing() -> None:
    for seed in range(40):
        drawn = _drawn(seed)
        if drawn is not None:
            assert (_kernel(*drawn, block=1) == "") == (_kernel(*drawn) == ""), seed
