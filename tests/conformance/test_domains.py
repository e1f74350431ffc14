"""Every node type of the core graph has a rule in every domain, and concrete runs satisfy it.

A subject is one node behind its inputs, with a definition of its own: plain Python over one point, no code of ours. A new
node type, kind of map or kind of function without a subject, or without a rule in a domain, fails here and names the file to edit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
import torch

from bounds.forward import forward
from bounds.interval import propagate
from bounds.linear import LinearBounds
from bounds.torch_graph import TorchGraph
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Node, Origin, check
from graph.errors import MalformedGraph
from graph.evaluate import evaluate
from graph.functions import build
from graph.functions.facts import Function, Pieces, Smooth
from graph.gradient import gradient
from graph.linear_map import Composition, Conv, Dense, Gather, LinearMap, Reshape, Scale, Sum, Transposed
from tests.maxima import with_maximum

Array = Any
Point = list[float]
FROM = Origin(("test",))
HERE = "tests/conformance/test_domains.py"
RNG = np.random.default_rng(11)


@dataclass(frozen=True)
class Subject:
    """The last node of `graph`, and its value at a point of the concatenated inputs, by definition."""

    graph: Graph
    definition: Callable[[Point], Sequence[float]]

    @property
    def node(self) -> Node:
        return self.graph.nodes[-1]


def subject(last: Node, shapes: Sequence[tuple[int, ...]], definition: Callable[[Point], Sequence[float]]) -> Subject:
    """`last` behind one Input node for each of `shapes`."""
    nodes = (*(Input(shape, (), FROM, f"x{k}") for k, shape in enumerate(shapes)), last)
    names = {f"x{k}": k for k in range(len(shapes))} | {"y": len(shapes)}
    return Subject(Graph(nodes, tuple(range(len(shapes))), (len(shapes),), ("y",), names), definition)


# ---------------------------------------------------------------- maps, with their matrices written down by definition


def matrix(out: int, n: int, entries: Callable[[], list[tuple[int, int, float]]]) -> Array:
    found = np.zeros((out, n))
    for i, j, value in entries():
        found[i, j] += value
    return found


def of_map(m: LinearMap, weights: Array) -> Subject:
    """y = m x + b; `weights` is the matrix that m should be."""
    bias = RNG.normal(size=m.out_size)

    def definition(x: Point) -> list[float]:
        return [sum(w * v for w, v in zip(row, x, strict=True)) + b for row, b in zip(weights, bias, strict=True)]

    return subject(Affine(m.out_shape, (0,), FROM, (m,), bias), [m.in_shape], definition)


KERNEL = RNG.normal(size=(2, 1, 2))  # two channels out, one in, two taps
CONV = Conv((1, 1, 5), (1, 2, 2), KERNEL, (2,), (0,), (0,), (1,), 1)
CONV_MATRIX = matrix(4, 5, lambda: [(2 * c + p, 2 * p + k, KERNEL[c, 0, k]) for c in range(2) for p in range(2) for k in range(2)])
WEIGHT = RNG.normal(size=(3, 4))
FACTOR = RNG.normal(size=4)
PICK = np.array([2, -1, 0, 0, 3])
PICK_MATRIX = matrix(5, 4, lambda: [(i, int(j), 1.0) for i, j in enumerate(PICK) if j >= 0])
MAPS: dict[str, Subject] = {
    "Reshape": of_map(Reshape((2, 2), (4,)), np.eye(4)),
    "Dense": of_map(Dense((4,), (3,), WEIGHT), WEIGHT),
    "Conv": of_map(CONV, CONV_MATRIX),
    "Transposed": of_map(Transposed((1, 2, 2), (1, 1, 5), CONV), CONV_MATRIX.T),
    "Gather": of_map(Gather((4,), (5,), PICK), PICK_MATRIX),
    "Scale": of_map(Scale((4,), (4,), FACTOR), np.diag(FACTOR)),
    "Sum": of_map(Sum((2, 3), (2, 1), (1,)), np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1.0]])),
    "Composition": of_map(Composition((4,), (3,), (Scale((4,), (4,), FACTOR), Dense((4,), (3,), WEIGHT))), WEIGHT @ np.diag(FACTOR)),
}


# ---------------------------------------------------------------- the other types


def matmul(x: Point) -> list[float]:
    left, right = x[:6], x[6:]  # [2, 3] times [3, 2]
    return [sum(left[3 * i + k] * right[2 * k + j] for k in range(3)) for i in range(2) for j in range(2)]


def constant_and_input() -> Subject:
    """The sum of an input and a Constant operand."""
    value, same = np.array([0.1, -2.0, 3.5]), Reshape((3,), (3,))
    nodes = (Input((3,), (), FROM, "x"), Constant((3,), (), FROM, value), Affine((3,), (0, 1), FROM, (same, same)))
    graph = Graph(nodes, (0,), (2,), ("y",), {"x": 0, "y": 2})
    return Subject(graph, lambda x: [a + float(b) for a, b in zip(x, value, strict=True)])


def maximum() -> Subject:
    nodes = with_maximum([Input((4,), (), FROM, "x")], np.array([[0, 1, 2], [3, -1, 1]]), (2,))
    last = len(nodes) - 1
    return Subject(Graph(tuple(nodes), (0,), (last,), ("y",), {"x": 0, "y": last}), lambda x: [max(x[:3]), max(x[3], x[1])])


SUBJECTS: dict[str, Subject] = {
    "Input": Subject(Graph((Input((3,), (), FROM, "x"),), (0,), (0,), ("x",), {"x": 0}), lambda x: x),
    "Constant": constant_and_input(),
    **{f"Affine {name}": s for name, s in MAPS.items()},
    "Elementwise Pieces": subject(Elementwise((4,), (0,), FROM, build("relu")), [(4,)], lambda x: [max(v, 0.0) for v in x]),
    "Elementwise Smooth": subject(Elementwise((4,), (0,), FROM, build("sigmoid")), [(4,)], lambda x: [1 / (1 + math.exp(-v)) for v in x]),
    "Bilinear mul": subject(Bilinear((3,), (0, 1), FROM, "mul"), [(3,), (3,)], lambda x: [a * b for a, b in zip(x[:3], x[3:], strict=True)]),
    "Bilinear matmul": subject(Bilinear((2, 2), (0, 1), FROM, "matmul"), [(2, 3), (3, 2)], matmul),
    "Max": maximum(),
}


# ---------------------------------------------------------------- domains: (lower, upper) [n_out] of the last node over a box


def by_numpy(graph: Graph, lower: Array, upper: Array) -> tuple[Array, Array]:
    return _at_a_point(graph, lower, upper, lambda x: evaluate(graph, _split(graph, x))[-1])


def by_torch(graph: Graph, lower: Array, upper: Array) -> tuple[Array, Array]:
    return _at_a_point(graph, lower, upper, lambda x: TorchGraph(graph, torch.float64).evaluate(torch.from_numpy(x))[-1].numpy())


def by_numpy_interval(graph: Graph, lower: Array, upper: Array) -> tuple[Array, Array]:
    low, high = propagate(graph, lower[None], upper[None])[-1]
    return low[0], high[0]


def by_torch_interval(graph: Graph, lower: Array, upper: Array) -> tuple[Array, Array]:
    state = _linear(graph).propagate(*_box(lower, upper), refine=False)
    return state.lower[-1][0].numpy(), state.upper[-1][0].numpy()


def by_backward(graph: Graph, lower: Array, upper: Array) -> tuple[Array, Array]:
    linear = _linear(graph)
    state = linear.propagate(*_box(lower, upper), refine=False)
    low, high = linear.backward(state, len(graph.nodes) - 1, torch.arange(graph.nodes[-1].size))
    return low[0].numpy(), high[0].numpy()


def by_forward(graph: Graph, lower: Array, upper: Array) -> tuple[Array, Array]:
    state = forward(_linear(graph), *_box(lower, upper)).state
    return state.lower[-1][0].numpy(), state.upper[-1][0].numpy()


def _at_a_point(graph: Graph, lower: Array, upper: Array, run: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Evaluation is the domain of single points: the box must be one."""
    if not np.array_equal(lower, upper):
        raise ValueError("a box that is no point")
    value = run(lower[None])[0]
    return value, value


def _split(graph: Graph, x: Array) -> list[Array]:
    return np.split(x, np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1], axis=1)


def _linear(graph: Graph) -> LinearBounds:
    return LinearBounds(TorchGraph(graph, torch.float64))


def _box(lower: Array, upper: Array) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(lower[None]), torch.from_numpy(upper[None])


Domain = Callable[[Graph, Array, Array], tuple[Array, Array]]
POINTS: dict[str, Domain] = {"graph/evaluate.py": by_numpy, "bounds/torch_graph.py": by_torch}
BOXES: dict[str, Domain] = {
    "bounds/interval.py": by_numpy_interval, "bounds/linear.py (interval_step)": by_torch_interval,
    "bounds/linear.py (backward)": by_backward, "bounds/forward.py": by_forward,
}


# ---------------------------------------------------------------- tests


def leaves(kind: type) -> set[type]:
    """The subclasses of a class that have none of their own."""
    below = kind.__subclasses__()
    return set().union(*map(leaves, below)) if below else {kind}


def in_our_rooms(kinds: set[type]) -> set[type]:
    return {kind for kind in kinds if kind.__module__.startswith("graph.")}


def test_every_node_type_map_and_function_kind_has_a_subject() -> None:
    seen = {type(node) for s in SUBJECTS.values() for node in s.graph.nodes}
    assert in_our_rooms(leaves(Node)) == seen, f"add a subject for each node type to {HERE}"
    maps = {type(m) for s in MAPS.values() if isinstance(s.node, Affine) for m in s.node.maps}
    assert in_our_rooms(leaves(LinearMap)) == maps, f"add a subject for each LinearMap to {HERE}"
    functions = {type(s.node.function) for s in SUBJECTS.values() if isinstance(s.node, Elementwise)}
    assert set(get_args(Function)) == functions == {Pieces, Smooth}, f"add a subject for each kind of function to {HERE}"


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("file", [*POINTS, *BOXES])
def test_the_domain_has_a_rule_and_concrete_runs_satisfy_it(file: str, name: str) -> None:
    s = SUBJECTS[name]
    check(s.graph)
    n = sum(s.graph.nodes[i].size for i in s.graph.inputs)
    draw = np.random.default_rng(5)
    for width in (0.0, 0.0, 0.0) if file in POINTS else (0.0, 0.25, 2.0):
        centre = draw.uniform(-1.5, 1.5, n)
        lower, upper = centre - width / 2, centre + width / 2
        try:
            low, high = (POINTS | BOXES)[file](s.graph, lower, upper)
        except Exception as error:
            pytest.fail(f"{file} has no working rule for {name}: {type(error).__name__}: {error}; add it there")
        assert low.shape == high.shape == (s.node.size,) and np.isfinite(low).all() and np.isfinite(high).all()
        mix = np.concatenate([draw.integers(0, 2, (16, n)), draw.random((16, n))])
        truth = np.array([s.definition((lower + (upper - lower) * m).tolist()) for m in mix])
        room = 1e-12 * (1 + np.abs(truth))
        assert (low <= truth + room).all() and (truth - room <= high).all(), f"{file}: a run of {name} lies outside"
        assert (high - low <= 40 * (width + 1e-12)).all(), f"{file}: the bounds of {name} claim next to nothing"


@pytest.mark.parametrize("name", SUBJECTS)
def test_the_gradient_is_that_of_the_definition(name: str) -> None:
    """No draw is near a kink; difference quotients of smooth functions are a millionth off."""
    s, draw, reach = SUBJECTS[name], np.random.default_rng(6), 1e-6
    x = draw.uniform(-1.5, 1.5, (4, sum(s.graph.nodes[i].size for i in s.graph.inputs)))
    last = s.graph.outputs[0]
    towards = draw.normal(size=(4, s.node.size))
    found = gradient(s.graph, evaluate(s.graph, _split(s.graph, x)), {last: towards})
    assert list(found) == list(s.graph.inputs)

    def value(point: Array, d: Array) -> float:
        return float(np.dot(s.definition(point.tolist()), d))

    moves = reach * np.eye(x.shape[1])
    slopes = [[(value(p + move, d) - value(p - move, d)) / (2 * reach) for move in moves] for p, d in zip(x, towards, strict=True)]
    np.testing.assert_allclose(np.concatenate([found[i] for i in s.graph.inputs], axis=1), slopes, rtol=1e-4, atol=1e-5)


class Novel(Node):
    """A node type that no domain knows."""


@pytest.mark.parametrize("file", [*POINTS, *BOXES])
def test_a_node_type_without_a_rule_is_an_error_in_every_domain(file: str) -> None:
    """Dispatch ends in an error that names the type, never in a default."""
    graph = subject(Novel((2,), (0,), FROM), [(2,)], lambda x: x).graph
    with pytest.raises(Exception, match="Novel"):
        (POINTS | BOXES)[file](graph, np.zeros(2), np.zeros(2))


def test_a_node_type_without_a_gradient_is_an_error() -> None:
    graph = subject(Novel((2,), (0,), FROM), [(2,)], lambda x: x).graph
    with pytest.raises(MalformedGraph, match="Novel"):
        gradient(graph, [np.zeros((1, 2))] * 2, {1: np.ones((1, 2))})
