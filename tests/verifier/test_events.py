"""The events of a search that ends in `unsat` form a proof's skeleton: trees whose leaves close every case of every root."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import relu_net, text
from test_search import KINDS, questions, searching, slow

from bounds.torch_graph import TorchGraph
from graph.load import Model
from specs.canonical import Property
from tests.effort import examples
from verifier import engine
from verifier.events import Closed, Derive, Event, Formed, Hit, Roots, Split, Within
from verifier.options import Options
from verifier.result import Outcome


class Trees:
    """Collects the trees of all searches; a sub-problem that is split twice, or that nobody opened, is an error at once."""

    def __init__(self) -> None:
        self.cases: dict[tuple[str, int], np.ndarray] = {}
        self.children: dict[tuple[str, int], tuple[int, int]] = {}
        self.slots: dict[tuple[str, int], np.ndarray] = {}
        self.hits = 0

    def __call__(self, event: Event) -> None:
        match event:
            case Roots():
                for i, cases in zip(event.ids, event.cases, strict=True):
                    self._open(event.search, int(i), np.asarray(cases))
            case Split():
                for i, low, high in zip(event.ids, event.low, event.high, strict=True):
                    if (event.search, int(i)) in self.children:
                        raise AssertionError(f"sub-problem {i} of {event.search} is split twice")
                    self.children[event.search, int(i)] = int(low), int(high)
                    for child in (low, high):
                        self._open(event.search, int(child), self.cases[event.search, int(i)])
            case Derive():
                assert (event.lower <= event.upper).all()
            case Within():
                for i in event.ids.tolist():
                    if (event.search, i) in self.children or self.slots[event.search, i].any() or (self.cases[event.search, i] < 0).all():
                        raise AssertionError(f"sub-problem {i} of {event.search} is narrowed after it was split or closed")
            case Closed():
                for i, slots in zip(event.ids, event.slots, strict=True):
                    self.slots[event.search, int(i)] = self.slots[event.search, int(i)] | slots
            case Hit():
                self.hits += 1

    def _open(self, search: str, i: int, cases: np.ndarray) -> None:
        if (search, i) in self.cases:
            raise AssertionError(f"sub-problem {i} of {search} is opened twice")
        self.cases[search, i], self.slots[search, i] = cases, np.zeros(len(cases), dtype=bool)

    def refuted(self, search: str, i: int) -> set[int]:
        """The cases that the sub-tree of a sub-problem closes: here, or in both halves."""
        here = set(self.cases[search, i][self.slots[search, i]].tolist())
        if (search, i) not in self.children:
            return here
        low, high = self.children[search, i]
        return here | (self.refuted(search, low) & self.refuted(search, high))

    def proven(self) -> set[int]:
        """Cases closed by some root that has them. (A case is on one root of each search.)"""
        split = {child for pair in self.children.items() for child in ((pair[0][0], pair[1][0]), (pair[0][0], pair[1][1]))}
        roots = [key for key in self.cases if key not in split]
        return set().union(*(self.refuted(*key) for key in roots)) - {-1}


def watched(net: Model, prop: Property) -> tuple[Outcome, Trees]:
    trees = Trees()
    return engine.run(net, prop, Options("", "", timeout=60.0, nodes=300, no_attack=True, threads=1), trees), trees


@settings(slow, max_examples=examples(25))
@given(questions(), st.sampled_from(KINDS))
def test_the_trees_close_exactly_what_the_verdict_says(question: object, kind: str) -> None:
    with searching(kind):
        outcome, trees = watched(question.layers.onnx(), question.property())  # type: ignore[attr-defined]
    everything = set(range(outcome.cases.total - outcome.cases.vacuous))
    assert trees.proven() <= everything
    assert (trees.proven() == everything) == (outcome.verdict == "unsat")
    assert len(everything - trees.proven()) == outcome.cases.open


class Uses:
    """Which sub-problems' linear bounds were told, and which of their halves, or halves of halves, used them."""

    def __init__(self) -> None:
        self.above: dict[int, int] = {}
        self.formed: set[int] = set()
        self.partly: set[int] = set()
        self.used: set[int] = set()

    def __call__(self, event: Event) -> None:
        match event:
            case Closed(search="root" | "intervals"):
                pass
            case Formed():
                self.formed |= set(event.ids.tolist())
            case Split():
                self.above |= {int(c): int(i) for i, *pair in zip(event.ids, event.low, event.high, strict=True) for c in pair}
            case Closed(how="bound"):
                self.partly |= set(event.ids.tolist())
            case Derive() | Closed(how="clip"):
                self.used |= {self._bounded(i) for i in event.ids.tolist()}

    def _bounded(self, i: int) -> int:
        while i not in self.formed:
            i = self.above[i]  # a KeyError: nothing above it was told
        return i


def test_linear_bounds_are_told_exactly_where_something_uses_them() -> None:
    """Forty random ReLUs of two inputs, a little above a threshold: some halves are cut or closed by cutting, others neither."""
    rng = np.random.default_rng(1)
    net = relu_net(rng.normal(size=(2, 40)), rng.normal(size=40), rng.normal(size=(40, 2)), np.zeros(2))
    uses = Uses()
    grid = torch.from_numpy(np.stack(np.meshgrid(*[np.linspace(-3, 3, 121)] * 2), -1).reshape(-1, 2))
    least = float(TorchGraph(net.graph, torch.float64).outputs(grid)[:, 0].min()) - 0.2
    prop = text([("-3", "3"), ("-3", "3")], 2, f"(<= Y_0 {least:.6f})")
    out = engine.run(net, prop, Options("", "", timeout=60.0, nodes=500, no_attack=True, threads=1), uses)
    assert out.verdict == "unsat" and uses.used and uses.formed <= uses.used | uses.partly
    bounded_and_open = out.nodes - 1 - len(uses.partly - set(uses.above.values()))  # the root is bounded twice
    assert 0 < len(uses.formed) < bounded_and_open


def test_a_tree_with_a_hole_proves_less() -> None:
    trees = Trees()
    trees(Roots("s", np.array([0]), np.array([[0, 1]])))
    trees(Closed("s", np.array([0]), np.array([[True, False]]), "bound"))
    trees(Split("s", np.array([0]), np.array([1]), np.array([2]), np.array([0]), np.array([0]), np.array([0.5])))
    trees(Closed("s", np.array([1]), np.array([[False, True]]), "clip"))
    assert trees.proven() == {0}
    trees(Closed("s", np.array([2]), np.array([[False, True]]), "bound"))
    assert trees.proven() == {0, 1}
    with pytest.raises(AssertionError, match="split twice"):
        trees(Split("s", np.array([0]), np.array([3]), np.array([4]), np.array([0]), np.array([0]), np.array([0.5])))
