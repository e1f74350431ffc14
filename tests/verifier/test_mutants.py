"""The tests have teeth: an engine with one planted defect calls a violated property verified (or is found out), and the engine does not.

Every property here is violated at a known point, which the original file confirms; the attack is off, so that nothing but
the bounds stands between the defect and a wrong verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from onnx import helper
from small_networks import distance_net, linear, model, relu_net, text
from test_search import KINDS, decide, searching
from torch import Tensor

from bounds import linear as backward
from bounds import relaxation
from bounds.linear import Betas
from graph.load import Model
from specs.canonical import Property
from tests.effort import examples
from verifier import bounding, engine, input_search, neuron_search, portfolio
from verifier.optimise import Sides
from verifier.replay import Replayer

Violated = tuple[Model, Property, list[float]]


def _smooth() -> Model:
    """y = sigmoid(x) + sigmoid(-x) = 1 everywhere."""
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Sigmoid", ["x"], ["a"]),
        helper.make_node("Sigmoid", ["n"], ["b"]), helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    return model(nodes, 1, 1)


def _product() -> Model:
    """y = x_0 x_1."""
    nodes = [
        helper.make_node("Gather", ["x", "zero"], ["a"], axis=1), helper.make_node("Gather", ["x", "one"], ["b"], axis=1),
        helper.make_node("Mul", ["a", "b"], ["m"]), helper.make_node("Reshape", ["m", "shape"], ["y"]),
    ]
    return model(nodes, 2, 1, zero=np.zeros(1), one=np.ones(1), shape=np.ones(2))


def _exponentials() -> Model:
    """y = exp(x_0) - exp(x_1), which no float can bound over a large box."""
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("MatMul", ["e", "w"], ["y"])]
    return model(nodes, 2, 1, w=np.array([[1.0], [-1.0]]))


VIOLATED: dict[str, Violated] = {
    "at a corner": (linear([[1.0], [1.0]]), text([("0", "1")] * 2, 1, "(>= Y_0 2.0)"), [1.0, 1.0]),
    "at the other corner": (linear([[1.0], [1.0]], np.array([1.0])), text([("0", "1")] * 2, 1, "(<= Y_0 1.0)"), [0.0, 0.0]),
    "at a needle, low": (distance_net(np.array([-0.6875, -0.5625])), text([("-1", "1")] * 2, 1, "(<= Y_0 0.0)"), [-0.6875, -0.5625]),
    "at a needle, high": (distance_net(np.array([0.6875, 0.5625])), text([("-1", "1")] * 2, 1, "(<= Y_0 0.0)"), [0.6875, 0.5625]),
    "a conjunction": (distance_net(np.array([0.25])), text([("-1", "1")], 1, "(and (>= Y_0 0.5) (<= Y_0 0.5))"), [0.75]),
    "the second of two": (distance_net(np.array([0.25])), text([("-1", "1")], 1, "(or (<= Y_0 -1.0) (>= Y_0 1.25))"), [-1.0]),
    "at a kink": (relu_net(np.array([[1.0, -1.0]]), np.zeros(2), -np.ones((2, 1)), np.ones(1)), text([("-1", "1")], 1, "(>= Y_0 1.0)"), [0.0]),
    "smooth": (_smooth(), text([("-3", "3")], 1, "(and (>= Y_0 0.99999) (<= Y_0 1.00001))"), [0.0]),
    "one case of two": (_smooth(), text([("-3", "3")], 1, "(or (>= Y_0 1.2) (and (>= Y_0 0.99999) (<= Y_0 1.00001)))"), [0.0]),
    "where a neuron is active": (
        relu_net(np.ones((1, 1)), np.zeros(1), np.ones((1, 1)), np.zeros(1)), text([("-0.125", "1")], 1, "(>= Y_0 0.5)"), [1.0]
    ),
    "overflow": (_exponentials(), text([("0", "1000")] * 2, 1, "(<= Y_0 -1.0)"), [0.0, 1.0]),
}


def _shrunk(patch: pytest.MonkeyPatch) -> None:
    original = engine.compile_problem

    def shrunk(graph: Any, prop: Property) -> Any:
        problem = original(graph, prop)
        inset = 0.005 * (problem.upper - problem.lower)
        return replace(problem, lower=problem.lower + inset, upper=problem.upper - inset)

    patch.setattr(engine, "compile_problem", shrunk)


def _lost_half(keep: slice) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(patch: pytest.MonkeyPatch) -> None:
        halves, children = input_search.split, neuron_search.NeuronSearch._halves
        patch.setattr(input_search, "split", lambda boxes, scores, ways, first: _some(*halves(boxes, scores, 1, first), keep))

        def some_children(self: Any, parents: Any, first: int) -> Any:
            both = children(self, parents, first)
            return _part(both, keep) if first else both  # numbered from 0: only tried out, to choose the split

        patch.setattr(neuron_search.NeuronSearch, "_halves", some_children)

    return plant


def _some(boxes: Any, parent: Tensor, halvings: Any, keep: slice) -> tuple[Any, Tensor, Any]:
    return _part(boxes, keep), _part(parent, keep), halvings


def _part(rows: Any, keep: slice) -> Any:
    half = len(rows) // 2
    chosen = torch.arange(half) if keep.start is None else torch.arange(half, 2 * half)
    return rows[chosen] if isinstance(rows, Tensor) else rows.select(chosen)


def _no_constants(patch: pytest.MonkeyPatch) -> None:
    affine = backward._Backward._affine

    def without_bias(self: Any, i: int, node: Any, d: Tensor) -> None:
        bias, self.net.bias[i] = self.net.bias[i], None
        affine(self, i, node, d)
        self.net.bias[i] = bias

    patch.setattr(backward._Backward, "_affine", without_bias)


def _nan_is_proof(patch: pytest.MonkeyPatch) -> None:
    def bound_in(self: Any, state: Any, group: Tensor, is_open: Tensor, **how: Any) -> Any:
        rows = self.needed_rows(group, is_open)
        low = self.linear.lower_bound(state, *self.functional(group, rows), **how)
        closed = self.closes(torch.where(low.value <= 0, -1.0, 1.0), group, rows)  # "not refuted" taken for proven
        return bounding.Margins(rows, low.value, closed & is_open, low, state)

    patch.setattr(bounding.Bounder, "bound_in", bound_in)


def _any_case(patch: pytest.MonkeyPatch) -> None:
    closes = bounding.Bounder.closes
    patch.setattr(bounding.Bounder, "closes", lambda self, *a: closes(self, *a) | closes(self, *a).any(-1, keepdim=True))


def _cutting_planes(patch: pytest.MonkeyPatch) -> None:
    relax = relaxation.relax

    def wrong(function: Any, lower: Tensor, upper: Tensor, *slopes: Any) -> relaxation.Planes:
        planes = relax(function, lower, upper, *slopes)
        return replace(planes, offset_upper=None if planes.offset_upper is None else 0.9 * planes.offset_upper)

    patch.setattr(relaxation, "relax", wrong)


def _wrong_multipliers(patch: pytest.MonkeyPatch) -> None:
    """On the side h >= 0 the multiplier is added where it should be subtracted. Without complete clipping, with which other splits are made."""
    patch.setattr(portfolio, "CONSTANTS", replace(portfolio.CONSTANTS, close_work=0))

    def wrong(sides: Sides, betas: dict[int, Tensor]) -> Betas:
        return {j: (beta.abs() + 1.0 * sides.floor[j].isfinite().unsqueeze(1), None) for j, beta in betas.items()}

    patch.setattr(neuron_search, "paid", wrong)


MUTANTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the box is 1% too small": _shrunk,
    "the backward pass forgets biases": _no_constants,
    "NaN is a proof": _nan_is_proof,
    "one closed case closes its neighbours": _any_case,
    "the upper plane cuts the function": _cutting_planes,
    "multipliers of splits have the wrong sign": _wrong_multipliers,
}

LOSSES = {"the second half is lost": _lost_half(slice(None, 1)), "the first half is lost": _lost_half(slice(1, None))}


def _verdicts(kind: str, nodes: int = 100) -> Iterator[str]:
    for net, prop, _ in VIOLATED.values():
        with searching(kind):
            verdict = decide(net, prop, nodes=nodes).verdict
        yield verdict


def _lies(kind: str) -> bool:
    """Whether one of them is called verified; no further one is asked then."""
    return "unsat" in _verdicts(kind)


@pytest.mark.parametrize("name", VIOLATED)
def test_the_known_point_violates(name: str) -> None:
    net, prop, point = VIOLATED[name]
    assert Replayer(net, prop).judge(np.array([point], dtype=np.float32)) is not None


@pytest.mark.parametrize("kind", KINDS)
def test_the_engine_itself_verifies_none_of_them(kind: str) -> None:
    assert set(_verdicts(kind, examples(100))) == {"unknown"}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_defect_gives_a_wrong_verdict(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[name](monkeypatch)
    assert any(map(_lies, KINDS))


@pytest.mark.parametrize("name", ["the second half is lost", pytest.param("the first half is lost", marks=pytest.mark.slow)])
def test_a_search_that_loses_sub_problems_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    LOSSES[name](monkeypatch)
    for kind in KINDS:
        with pytest.raises(engine.LostCases):
            list(_verdicts(kind))
    monkeypatch.setattr(engine, "_check_accounts", lambda *_: None)  # without the accounts it would lie
    assert any(map(_lies, KINDS))
