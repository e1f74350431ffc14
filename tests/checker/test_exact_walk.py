"""Random certificates through both walks: what the kernel accepts its exact twin accepts, and neither accepts what a run refutes."""

from __future__ import annotations

from random import Random

import pytest

from tests.checker.random_certificates import Problem, drawn, grown
from tests.effort import examples
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


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, PARTS))])
def test_both_walks_agree_and_neither_is_refuted(part: int) -> None:
    accepted, differ, total = 0, 0, 0
    seeds = range(part, SEEDS, PARTS)[: examples(SEEDS // PARTS)]
    for seed in seeds:
        given = drawn(Random(seed))
        if given is None:
            continue
        kernel, twin = _kernel(*given), _twin(*given)
        total += 1
        assert kernel or not twin, (seed, twin)  # the kernel has error terms, its twin has none
        assert twin or not given[0].is_violated(), seed
        accepted += not kernel
        differ += (not kernel) != (not twin)
    assert total > len(seeds) * 5 // 8 and accepted > total / 10 and total - accepted > total / 10
    assert differ <= total / 50


def test_the_size_of_blocks_changes_nothing() -> None:
    for seed in range(examples(40)):
        given = drawn(Random(seed))
        if given is not None:
            assert (_kernel(*given, block=1) == "") == (_kernel(*given) == ""), seed
