"""Clipping cuts off no violation: brute force over points in exact rationals, and numbers that are not finite."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.effort import examples
from verifier.clip import MOST_SLOTS, clip

WIDE = torch.tensor([[-1.0, -1.0]]), torch.tensor([[1.0, 1.0]])
numbers = st.one_of(st.integers(-16, 16).map(lambda k: k / 8), st.floats(-3, 3, width=32))


def _row(coefficients: list[float], constant: float, x: Tensor) -> Fraction:
    return sum((Fraction(c) * Fraction(float(v)) for c, v in zip(coefficients, x, strict=True)), Fraction(constant))


@settings(max_examples=examples(200))
@given(st.data())
def test_what_may_violate_is_kept(data: st.DataObject) -> None:
    n, rows, slots = (data.draw(st.integers(1, 3)) for _ in range(3))
    ends = [sorted((data.draw(numbers), data.draw(numbers))) for _ in range(n)]
    lower, upper = (torch.tensor([[e[k] for e in ends]]) for k in (0, 1))
    coefficients = torch.tensor([[[data.draw(numbers) for _ in range(n)] for _ in range(rows)]])
    constant = torch.tensor([[data.draw(numbers) for _ in range(rows)]])
    member = torch.tensor([[[data.draw(st.booleans()) for _ in range(rows)] for _ in range(slots)]])
    was_open = torch.tensor([[data.draw(st.booleans()) for _ in range(slots)]])
    new_lower, new_upper, still = clip(lower, upper, was_open, coefficients, constant, member)
    assert bool((new_lower >= lower).all() and (new_upper <= upper).all() and (still <= was_open).all())
    shares = torch.tensor([[data.draw(st.sampled_from([0.0, 0.25, 0.5, 1.0])) for _ in range(n)] for _ in range(8)])
    corners = torch.where(torch.rand(8, n, generator=torch.Generator().manual_seed(0)) < 0.5, lower, upper)
    for x in torch.cat([(lower + (upper - lower) * shares).clamp(lower, upper), corners]):
        values = [_row(coefficients[0, r].tolist(), float(constant[0, r]), x) for r in range(rows)]
        for c in range(slots):
            if was_open[0, c] and all(v <= 0 for v, m in zip(values, member[0, c], strict=True) if m):
                assert bool(still[0, c])
                assert bool((new_lower[0] <= x).all() and (x <= new_upper[0]).all())


def test_a_row_cuts_to_its_zero_and_a_positive_row_refutes() -> None:
    is_open, member = torch.ones(1, 2, dtype=torch.bool), torch.tensor([[[True, False], [False, True]]])
    lower, upper, still = clip(*WIDE, is_open, torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]), torch.tensor([[0.5, 2.5]]), member)
    assert still.tolist() == [[True, False]]
    assert upper[0, 0] == pytest.approx(-0.5, abs=1e-5) and upper[0, 0] >= -0.5 and lower.tolist() == [[-1.0, -1.0]] and upper[0, 1] == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["coefficient", "constant"])
def test_a_row_that_is_not_finite_cuts_nothing(bad: float, place: str) -> None:
    coefficients, constant = torch.tensor([[[1.0, -2.0]]]), torch.tensor([[0.25]])
    if place == "coefficient":
        coefficients[0, 0, 0] = bad
    else:
        constant[0, 0] = bad
    one = torch.ones(1, 1, dtype=torch.bool)
    lower, upper, still = clip(*WIDE, one, coefficients, constant, one.unsqueeze(0))
    assert bool(still.all()) and torch.equal(lower, WIDE[0]) and torch.equal(upper, WIDE[1])


def test_many_slots_are_left_alone() -> None:
    is_open = torch.ones(1, MOST_SLOTS + 1, dtype=torch.bool)
    lower, upper, still = clip(*WIDE, is_open, torch.ones(1, 1, 2), torch.full((1, 1), 9.0), torch.ones(1, MOST_SLOTS + 1, 1, dtype=torch.bool))
    assert torch.equal(lower, WIDE[0]) and torch.equal(upper, WIDE[1]) and torch.equal(still, is_open)
