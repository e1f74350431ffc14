"""Memory: shares of --memory, batches that do not fit are halved, a queue that does not fit ends the search; nothing is lost."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from small_networks import relu_net, text
from torch import Tensor

from graph.load import Model
from specs.canonical import Property
from verifier import engine, portfolio
from verifier.allotment import Allotment, fits
from verifier.bounding import Bounder, Margins
from verifier.domains import Boxes, Stack
from verifier.options import Options
from verifier.result import Outcome

FULL = "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"
KINDS = ("inputs", "neurons")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    most = {"inputs": 10**6, "neurons": -1}[request.param]
    splitting = dataclasses.replace(portfolio.CONSTANTS, input_split_most=most, trial_nodes=0, close_work=0)  # no other way closes the cases
    monkeypatch.setattr(portfolio, "CONSTANTS", splitting)
    return str(request.param)


def problem() -> tuple[Model, Property]:
    """Two cases that hold and need splits: outputs beyond the extremes over a fine grid, with room to spare."""
    draw = np.random.default_rng(1)
    w1, b1, w2, b2 = (np.round(draw.uniform(-1, 1, shape) * 8) / 8 for shape in ((3, 12), (12,), (12, 1), (1,)))
    axis = np.linspace(-1, 1, 41)
    values = np.maximum(np.stack(np.meshgrid(axis, axis, axis), -1).reshape(-1, 3) @ w1 + b1, 0) @ w2 + b2
    unsafe = f"(or (<= Y_0 {values.min() - 0.05:.4f}) (>= Y_0 {values.max() + 0.05:.4f}))"
    return relu_net(w1, b1, w2, b2), text([("-1", "1")] * 3, 1, unsafe)


def decide(gigabytes: float | None, nodes: int = 4000) -> Outcome:
    return engine.run(*problem(), Options("", "", timeout=60.0, nodes=nodes, memory=gigabytes, no_attack=True, threads=1))


# ---------------------------------------------------------------- shares


def test_shares_grow_with_memory_and_stay_within_it() -> None:
    shares = [dataclasses.astuple(Allotment.of(gb)) for gb in (0.001, 0.1, 1, 4, 64)]
    for smaller, larger in itertools.pairwise(shares):
        assert all(a <= b for a, b in zip(smaller, larger, strict=True))
    assert all(sum(share) <= gb * 1e9 / 2 for share, gb in zip(shares, (0.001, 0.1, 1, 4, 64), strict=True))
    assert dataclasses.astuple(Allotment.of(64))[:-1] == dataclasses.astuple(Allotment.of(None))[:-1]


# ---------------------------------------------------------------- out of memory


def test_what_torch_and_numpy_raise_when_memory_runs_out_is_recognised() -> None:
    assert not fits(lambda: torch.empty(1 << 52, dtype=torch.uint8))
    assert not fits(lambda: np.empty(1 << 52, dtype=np.uint8))
    assert fits(lambda: torch.empty(1))


@pytest.mark.parametrize("error", [RuntimeError("not enough memory"), RuntimeError("shapes differ"), ValueError("can't allocate memory")])
def test_other_errors_pass_through(error: Exception) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        fits(fail)


def _limited(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """The bounding of more than `most` parts of the box at once fails for want of memory. Returns the sizes that were bounded."""
    whole, refined = Bounder.bound, Bounder.bound_in
    sizes: list[int] = []

    def bound(self: Bounder, lower: Tensor, upper: Tensor, group: Tensor, is_open: Tensor) -> Margins:
        if len(group) > most and bool((lower < upper).any()):  # a point is the look at the rounding before the search
            raise RuntimeError(FULL)
        return whole(self, lower, upper, group, is_open)

    def bound_in(self: Bounder, state, group: Tensor, is_open: Tensor, **more) -> Margins:  # type: ignore[no-untyped-def]
        if len(group) > most and bool((state.lower[0] < state.upper[0]).any()):
            raise RuntimeError(FULL)
        sizes.append(len(group))
        return refined(self, state, group, is_open, **more)

    monkeypatch.setattr(Bounder, "bound", bound)
    monkeypatch.setattr(Bounder, "bound_in", bound_in)
    return sizes


def test_a_batch_that_does_not_fit_is_halved(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = decide(None)
    sizes = _limited(monkeypatch, 2)
    found = decide(None)
    assert free.verdict == found.verdict == "unsat"
    assert free.closed_volume == found.closed_volume == 1.0
    assert max(sizes) == 2 and found.nodes > 2


def test_a_sub_problem_that_does_not_fit_at_all_ends_the_search(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _limited(monkeypatch, 1 if kind == "neurons" else 0)  # a split of a neuron bounds two
    found = decide(None)
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "memory"
    assert found.cases.open >= 1 and (kind == "neurons" or found.cases.open == 2)


# ---------------------------------------------------------------- the queue


def test_a_queue_beyond_its_share_ends_the_search_and_loses_nothing(kind: str) -> None:
    found = decide(1e-7)  # 25 bytes for the queue
    assert found.verdict == "unknown" and found.reason is not None and found.reason.code == "memory"
    assert found.cases.open >= 1 and found.bound is not None and found.bound <= 0
    assert found.closed_volume is not None and found.closed_volume < 1


def test_little_memory_still_decides(kind: str) -> None:
    assert decide(0.01).verdict == "unsat"


def test_the_stack_counts_its_bytes() -> None:
    def boxes(count: int) -> Boxes:
        margin = torch.arange(count, dtype=torch.float32)
        wide = torch.zeros(count, 3)
        whole = torch.zeros(count, dtype=torch.long)
        return Boxes(wide, wide, whole, torch.ones(count, 2, dtype=torch.bool), margin, whole, whole)

    stack: Stack[Boxes] = Stack()
    per_box = 2 * 3 * 4 + 8 + 2 + 4 + 8 + 8
    for push, pop in ((5, 2), (4, 4), (1, 3)):
        stack.push(boxes(push))
        taken = stack.pop(pop)
        assert len(taken) == pop and taken.nbytes() == pop * per_box
        assert stack.nbytes == len(stack) * per_box
    assert len(stack) == 1
