"""What a search leaves to the check of its proof."""

from __future__ import annotations

import time

import pytest

from verifier.budget import Budget


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return clock


def test_the_check_has_its_share(now: list[float]) -> None:
    budget = Budget(160.0, check=1.0, check_share=0.25, began=100.0)
    assert budget.seconds_left() == 59.0
    now[0] = 140.0
    assert budget.seconds_left() == 20.0 - 1.0 - 10.0


@pytest.mark.parametrize(("takes", "left"), [(3.0, 16.0), (30.0, 9.0)])
def test_a_check_that_follows_needs_no_more_than_it_does(takes: float, left: float, now: list[float]) -> None:
    """What is known of the check may let the search go on for longer, never for less."""
    budget = Budget(160.0, check=1.0, check_share=0.25, began=100.0)
    now[0] = 140.0
    budget.check_takes(takes)
    assert budget.seconds_left() == left
    assert not budget.exhausted()
