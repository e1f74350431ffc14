"""Linear bounds: no run of a network lies outside, no rounding is forgotten, and what can be exact is exact."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import bounds.linear as linear
from benchmarks import strategies
from bounds.linear import LinearBounds, State
from bounds.relaxation import relax
from bounds.torch_graph import TorchGraph
from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node, Origin, check
from graph.evaluate import evaluate
from graph.functions import build
from graph.linear_map import Composition, Dense, Gather, LinearMap, Scale, Sum
from graph.load import load
from tests.effort import examples
from tests.maxima import with_maximum

Array = Any
FROM = Origin(("test",))
DTYPES = [torch.float32, torch.float64]


def graph_of(*nodes: Node) -> Graph:
    inputs = tuple(i for i, n in enumerate(nodes) if isinstance(n, Input))
    names = {n.name: i for i, n in enumerate(nodes) if isinstance(n, Input)} | {"y": len(nodes) - 1}
    return check(Graph(nodes, inputs, (len(nodes) - 1,), ("y",), names))


def affine(shape: tuple[int, ...], source: int | tuple[int, ...], *maps: LinearMap, bias: Array | None = None) -> Affine:
    return Affine(shape, source if isinstance(source, tuple) else (source,), FROM, maps, bias)


def dense(weight: Array) -> Dense:
    return Dense((weight.shape[1],), (weight.shape[0],), weight)


def prepare(graph: Graph, dtype: torch.dtype = torch.float64, memory: int = 1 << 26) -> LinearBounds:
    return LinearBounds(TorchGraph(graph, dtype), memory)


def tensor(values: Any, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(np.asarray(values), dtype=dtype)


def runs(graph: Graph, lower: Array, upper: Array, seed: int, count: int = 24) -> list[Array]:
    """float64 values of every node at corners, the centre and random points of a box."""
    rng, n = np.random.default_rng(seed), lower.size
    mix = np.concatenate([rng.integers(0, 2, (count, n)), rng.random((count, n)), np.zeros((1, n)), np.ones((1, n)), np.full((1, n), 0.5)])
    points = np.clip(lower + mix * (upper - lower), lower, upper)
    sizes = np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1]
    return evaluate(graph, np.split(points, sizes, axis=1), np.float64)


def inside(values: Array, low: Tensor, high: Tensor, what: str) -> None:
    """The values [P, n] of float64 runs, up to their own rounding, in [low, high] [n]; NaN bounds are outside too."""
    slack = 1e-9 * (1 + np.abs(values).max(axis=0, initial=0.0))  # of the concrete evaluation: exact runs are compared below
    below, above = low.detach().double().numpy(), high.detach().double().numpy()
    assert (values >= below - slack).all() and (values <= above + slack).all(), what


def no_higher(ours: Tensor, theirs: Tensor, slack: Tensor) -> Tensor:
    """Where ours <= theirs, up to the slack of what is finite: an infinite bound is no better than itself, and no finite one is near it."""
    return (ours <= theirs) | (theirs.isfinite() & (ours <= theirs + slack))


@st.composite
def cases(draw: Any) -> tuple[Graph, strategies.InputBox, int]:
    network = draw(strategies.networks())
    box = draw(strategies.boxes(math.prod(network.input_shape)))
    return load(network.model.SerializeToString()).graph, box, draw(st.integers(0, 2**16))


# ---------------------------------------------------------------- random networks of all operators


@settings(max_examples=examples(60))
@given(cases())
def test_where_intervals_are_kept_a_backward_pass_is_no_better(case: Any) -> None:
    graph, box, _ = case
    net = prepare(graph)
    state = net.propagate(tensor([box.lower]), tensor([box.upper]))
    for i in net.exact_interval & set(net.targets):
        low, high = net.backward(state, i, torch.arange(graph.nodes[i].size))
        slack = 1e-9 * (1 + state.largest(i))
        assert bool((no_higher(low, state.lower[i], slack) & no_higher(-high, -state.upper[i], slack)).all()), f"node {i}"


def pooled(rng: np.random.Generator) -> Graph:
    """Dense, ReLU, dense, ReLU, maxima over windows that overlap, dense, ReLU, dense; biases decide many elements and windows."""
    windows = np.array([[0, 1, 2, 3], [3, 4, 5, -1], [6, 7, 5, 1]])
    weights = [rng.normal(size=shape) for shape in ((8, 4), (8, 8), (5, 3), (2, 5))]
    biases = [rng.normal(size=len(w)) * 2 for w in weights]
    first, second, third, last = (dense(w) for w in weights)
    nodes = with_maximum([
        Input((4,), (), FROM, "x"), affine((8,), 0, first, bias=biases[0]), Elementwise((8,), (1,), FROM, build("relu")),
        affine((8,), 2, second, bias=biases[1]), Elementwise((8,), (3,), FROM, build("relu")),
    ], windows, (3,))  # fmt: skip
    nodes.append(affine((5,), len(nodes) - 1, third, bias=biases[2]))
    nodes.append(Elementwise((5,), (len(nodes) - 1,), FROM, build("leaky_relu", 0.1)))
    return graph_of(*nodes, affine((2,), len(nodes) - 1, last, bias=biases[3]))


def test_a_maximum_follows_its_elements() -> None:
    """max(x, x + z / 10) - x over [-1, 1]^2, which is in [0, 1/10]: with a constant above the maximum it reached 2."""
    weight = np.array([[1.0, 0.0], [1.0, 0.1]])
    nodes = with_maximum([Input((2,), (), FROM, "x"), affine((2,), 0, dense(weight))], np.array([[0, 1]]), (1,))
    net = prepare(graph_of(*nodes, affine((1,), (len(nodes) - 1, 0), dense(np.ones((1, 1))), dense(np.array([[-1.0, 0.0]])))))
    state = net.propagate(tensor(-np.ones((1, 2))), tensor(np.ones((1, 2))))
    low, high = net.backward(state, len(net.graph.nodes) - 1, torch.arange(1))
    assert -0.051 < float(low) <= 0 and 0.1 <= float(high) < 0.101


def test_only_differences_of_a_maximum_that_may_have_either_sign_need_backward_bounds() -> None:
    """Bounds are what they are when all differences that vary have backward bounds."""
    asked = needed = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        net = prepare(pooled(rng))
        differences = [node.inputs[2] for _, node in net.graph if isinstance(node, Max)]
        centre = rng.uniform(-1, 1, (2, 4))
        lower, upper = tensor(centre - 0.15), tensor(centre + 0.15)
        state = net.propagate(lower, upper)
        matter = net.matter
        net.matter = lambda state, i, all_of=matter: state.upper[i] > state.lower[i] if i in differences else all_of(state, i)  # type: ignore[method-assign]  # noqa: B023
        everything = net.propagate(lower, upper)
        needed += sum(int(matter(everything, i).sum()) for i in differences)
        asked += sum(int(net.matter(everything, i).sum()) for i in differences)
        for i in (*differences, *range(max(differences) + 3, len(net.graph.nodes))):
            low, high = net.backward(everything, i, torch.arange(net.graph.nodes[i].size))
            mine = net.backward(state, i, torch.arange(net.graph.nodes[i].size))
            assert torch.allclose(mine[0], low, rtol=1e-9, atol=1e-9) and torch.allclose(mine[1], high, rtol=1e-9, atol=1e-9), (seed, i)
    assert 0 < needed < 2 * asked / 3


def test_values_of_smooth_functions_keep_their_intervals() -> None:
    """Softmax: exp, and the reciprocal as it is read by the product; not its argument, nor the product."""
    rng = np.random.default_rng(0)
    softmax = graph_of(
        Input((3,), (), FROM, "x"), affine((3,), 0, dense(rng.normal(size=(3, 3)))), Elementwise((3,), (1,), FROM, build("relu")),
        affine((3,), 2, dense(rng.normal(size=(3, 3)))), Elementwise((3,), (3,), FROM, build("exp")), affine((1,), 4, dense(np.ones((1, 3)))),
        Elementwise((1,), (5,), FROM, build("reciprocal")), affine((3,), 6, Gather((1,), (3,), np.zeros(3, dtype=np.int64))),
        Bilinear((3,), (4, 7), FROM, "mul"), affine((1,), 8, dense(rng.normal(size=(1, 3)))), Elementwise((1,), (9,), FROM, build("exp")),
    )
    net = prepare(softmax)
    assert set(net.targets) - net.exact_interval == {3, 5, 9} and {4, 7} <= net.exact_interval


@settings(max_examples=examples(80))
@given(cases(), st.booleans(), st.sampled_from(DTYPES))
def test_no_run_lies_outside_the_bounds(case: Any, refine: bool, dtype: torch.dtype) -> None:
    """Every node, by State and by its own backward pass; and random functionals over several nodes."""
    graph, box, seed = case
    net = prepare(graph, dtype)
    state = net.propagate(tensor([box.lower], dtype), tensor([box.upper], dtype), refine=refine)
    values = runs(graph, box.lower.astype(np.float64), box.upper.astype(np.float64), seed)
    assert state.crossed is not None and not state.crossed.any()
    for i, node in graph:
        inside(values[i], state.lower[i][0], state.upper[i][0], f"state, node {i}")
        low, high = net.backward(state, i, torch.arange(node.size))
        inside(values[i], low[0], high[0], f"backward, node {i}")
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(graph.nodes), size=min(3, len(graph.nodes)), replace=False)
    functional = {int(i): rng.normal(size=(4, graph.nodes[i].size)) for i in chosen}
    shift = rng.normal(size=4)
    found = net.lower_bound(state, {i: tensor(rows[None], dtype) for i, rows in functional.items()}, tensor(shift[None], dtype))
    truth = sum(values[i] @ rows.T for i, rows in functional.items()) + shift
    size = 1 + sum(np.abs(values[i]) @ np.abs(rows).T for i, rows in functional.items()).max()
    value = torch.where(found.value.isfinite(), found.value, -torch.inf).double().numpy()  # what is not finite claims nothing
    assert (truth >= value - 1e-9 * size).all()
    if not found.value.isfinite().all():
        return
    points = np.concatenate([values[i] for i in graph.inputs], axis=1)
    plane = points @ found.coefficients[0].double().numpy().T + found.constant[0].double().numpy()
    assert (truth >= plane - 1e-9 * (size + np.abs(plane))).all()


@settings(max_examples=examples(40))
@given(st.data())
def test_bounds_shrink_with_the_box(data: Any) -> None:
    """The interval pass is monotone up to its error terms (backward bounds choose slopes anew and need not be), over a batch."""
    network = data.draw(strategies.networks())
    graph = load(network.model.SerializeToString()).graph
    boxes = data.draw(strategies.shrinking_boxes(math.prod(network.input_shape)))
    state = prepare(graph).propagate(tensor([b.lower for b in boxes]), tensor([b.upper for b in boxes]), refine=False)
    for i, _ in graph:
        low, high = state.lower[i], state.upper[i]
        slack = 1e-9 * (1 + state.largest(i)[:-1])
        assert (low[1:] >= low[:-1] - slack).all() and (high[1:] <= high[:-1] + slack).all(), f"node {i}"


@settings(max_examples=examples(30))
@given(cases())
def test_known_bounds_of_a_parent_keep_a_child_inside(case: Any) -> None:
    graph, box, seed = case
    net = prepare(graph)
    middle = (box.lower.astype(np.float64) + box.upper) / 2
    parent = net.propagate(tensor([box.lower]), tensor([box.upper]))
    known = {i: (parent.lower[i], parent.upper[i]) for i, _ in graph}
    child = net.propagate(tensor([box.lower]), tensor([middle]), known=known)
    values = runs(graph, box.lower.astype(np.float64), middle, seed)
    assert child.crossed is not None and not child.crossed.any()
    for i, _ in graph:
        inside(values[i], child.lower[i][0], child.upper[i][0], f"node {i}")
        assert (child.lower[i] >= parent.lower[i]).all() and (child.upper[i] <= parent.upper[i]).all()


@settings(max_examples=examples(25))
@given(cases())
def test_a_batch_and_small_blocks_of_memory_change_nothing(case: Any) -> None:
    graph, box, _ = case
    alone = prepare(graph).propagate(tensor([box.lower]), tensor([box.upper]))
    twice = prepare(graph, memory=1).propagate(tensor([box.lower] * 2), tensor([box.upper] * 2))
    for i, _ in graph:
        slack = 1e-9 * (1 + alone.largest(i))
        for ours, theirs in ((twice.lower[i], alone.lower[i]), (twice.upper[i], alone.upper[i])):
            assert (no_higher(ours, theirs, slack) & no_higher(-ours, -theirs, slack)).all()


# ---------------------------------------------------------------- exact rationals


def exact_map(m: LinearMap, x: Sequence[Fraction]) -> list[Fraction]:
    if isinstance(m, Composition):
        for part in m.maps:
            x = exact_map(part, x)
        return list(x)
    rows = m.rows(range(m.out_size))  # a unit vector times one map: no rounding
    return [sum((Fraction(float(w)) * v for w, v in zip(row, x, strict=True) if w), Fraction(0)) for row in rows]


def exact_run(graph: Graph, point: Sequence[Fraction]) -> list[list[Fraction]]:
    """Every node of a graph, in rationals; the point is that of all inputs, in their order."""
    values: list[list[Fraction]] = []
    left = list(point)
    for _, node in graph:
        given_values = [values[j] for j in node.inputs]
        if isinstance(node, Input):
            values.append(left[: node.size])
            del left[: node.size]
        elif isinstance(node, Constant):
            values.append([Fraction(float(v)) for v in node.value])
        elif isinstance(node, Affine):
            terms = [exact_map(m, x) for m, x in zip(node.maps, given_values, strict=True)]
            bias = [Fraction(0)] * node.size if node.bias is None else [Fraction(float(b)) for b in node.bias]
            values.append([sum(column, Fraction(0)) for column in zip(*terms, bias, strict=True)])
        elif isinstance(node, Elementwise) and node.function.name == "relu":
            values.append([max(v, Fraction(0)) for v in given_values[0]])
        elif isinstance(node, Elementwise) and node.function.name == "abs":
            values.append([abs(v) for v in given_values[0]])
        elif isinstance(node, Bilinear) and node.kind == "mul":
            values.append([a * b for a, b in zip(*given_values, strict=True)])
        elif isinstance(node, Max):
            values.append([max(given_values[0][k] for k in window if k >= 0) for window in node.windows])
        else:
            raise NotImplementedError(type(node).__name__)
    return values


def at_most(bound: float, exact: Fraction) -> bool:
    """Nothing is claimed by a number that is not finite."""
    return not math.isfinite(bound) or Fraction(bound) <= exact


SMALL = 2.0**-53 * (1 + 2.0**-20)  # a float32 whose sum with 1 is rounded up in float64


def point_sum() -> tuple[Graph, float]:
    return graph_of(Input((4096,), (), FROM, "x"), affine((1,), 0, dense(np.array([[1.0] + [SMALL] * 4095])))), 1.0


def wide_layer() -> tuple[Graph, float]:
    column = np.full((4096, 1), SMALL)
    column[0] = 1.0
    return graph_of(Input((1,), (), FROM, "x"), affine((4096,), 0, dense(column)), affine((1,), 1, dense(np.ones((1, 4096))))), 1.0


def tree_of_sums() -> tuple[Graph, float]:
    """One tensor read by 256 scalings."""
    factors = [1.0] + [SMALL] * 255
    nodes: list[Node] = [Input((1,), (), FROM, "x"), *(affine((1,), 0, Scale((1,), (1,), np.array([f]))) for f in factors)]
    level = list(range(1, 257))
    one = Gather((1,), (1,), np.array([0]))
    while len(level) > 1:
        nodes += [affine((1,), pair, one, one) for pair in zip(level[::2], level[1::2], strict=True)]
        level = list(range(len(nodes) - len(level) // 2, len(nodes)))
    return graph_of(*nodes), 1.0


def expand() -> tuple[Graph, float]:
    copies = Gather((1,), (4097,), np.zeros(4097, dtype=np.int64))
    return graph_of(Input((1,), (), FROM, "x"), affine((4097,), 0, copies), affine((1,), 1, dense(np.array([[1.0] + [SMALL] * 4096])))), 1.0


def constants() -> tuple[Graph, float]:
    """The constant of the last layer is there before the small ones arrive."""
    one = Gather((1,), (1,), np.array([0]))
    biases = [SMALL] * 512 + [1.0]
    return graph_of(Input((1,), (), FROM, "x"), *(affine((1,), i, one, bias=np.array([b])) for i, b in enumerate(biases))), 0.0


def underflowing() -> tuple[Graph, float]:
    """The coefficient vanishes on its way back; the value at -1 is 2^-80 - 2^-67."""
    factors = [2.0**127] * 8 + [2.0**-149] * 7
    layers = [affine((1,), i, Scale((1,), (1,), np.array([f]))) for i, f in enumerate(factors)]
    last = affine((1,), len(layers), Scale((1,), (1,), np.array([2.0**-40])), bias=np.array([2.0**-80]))
    return graph_of(Input((1,), (), FROM, "x"), *layers, last), -1.0


def absorption() -> tuple[Graph, float]:
    """2^54 x + x - 2^54 x: the coefficient 1 is lost; at -1 the value is -1, not 0."""
    scales = [affine((1,), 0, Scale((1,), (1,), np.array([f]))) for f in (-(2.0**54), 1.0, 2.0**54)]
    one = Gather((1,), (1,), np.array([0]))
    both = affine((1,), (1, 2), one, one)
    return graph_of(Input((1,), (), FROM, "x"), *scales, both, affine((1,), (4, 3), one, one)), -1.0


def cancelling_constants() -> tuple[Graph, float]:
    """Biases 2^54, -1, -2^54."""
    one = Gather((1,), (1,), np.array([0]))
    return graph_of(Input((1,), (), FROM, "x"), *(affine((1,), i, one, bias=np.array([b])) for i, b in enumerate((-(2.0**54), -1.0, 2.0**54)))), 0.0


def overflowing() -> tuple[Graph, float]:
    """128 + 128 overflows before -255 and -100 make the sum negative."""
    layers = [affine((4,), i + 1, Scale((4,), (4,), np.array([2.0**127]))) for i in range(8)]
    first = affine((4,), 0, dense(np.array([[128.0], [128.0], [-255.0], [-100.0]])))
    return graph_of(Input((1,), (), FROM, "x"), first, *layers, affine((1,), 9, Sum((4,), (1,), (0,)))), 2.0**-20


CONSTRUCTIONS = [point_sum, wide_layer, tree_of_sums, expand, constants, underflowing, absorption, cancelling_constants, overflowing]


def claim(construction: Any, dtype: torch.dtype = torch.float64, wide: bool = False) -> tuple[float, float, Fraction]:
    """The bounds of the output and its exact value at the point; `wide` puts the point at the lower end of a box of width 2^-20."""
    graph, x = construction()
    net = prepare(graph, dtype)
    point = torch.full((1, graph.nodes[0].size), x, dtype=dtype)
    state = net.propagate(point, point + (2.0**-20 if wide else 0.0))
    last = len(graph.nodes) - 1
    low, high = net.lower_bound(state, {last: tensor([[[1.0], [-1.0]]], dtype)}, None).value[0].tolist()
    (exact,) = exact_run(graph, [Fraction(x)] * graph.nodes[0].size)[last]
    assert at_most(float(state.lower[last]), exact) and at_most(-float(state.upper[last]), -exact)
    return low, high, exact


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_no_rounding_is_forgotten(construction: Any, dtype: torch.dtype, wide: bool) -> None:
    low, high, exact = claim(construction, dtype, wide)
    assert at_most(low, exact) and at_most(high, -exact)


@pytest.mark.parametrize("construction", [c for c in CONSTRUCTIONS if c not in (underflowing, absorption, cancelling_constants, overflowing)])
def test_the_error_terms_are_small(construction: Any) -> None:
    low, high, exact = claim(construction)
    assert abs(Fraction(low) - exact) < Fraction(1, 10**10) and abs(Fraction(high) + exact) < Fraction(1, 10**10)


def test_weights_that_stand_in_for_others_may_be_negative_where_those_are_not() -> None:
    weight = np.ones((1, 2), dtype=np.float32)
    graph = graph_of(Input((2,), (), FROM, "x"), affine((1,), 0, dense(weight)))
    bounds = LinearBounds(TorchGraph(graph, torch.float64, weights={id(weight): tensor([[-1.0, 2.0]])}), 1 << 20)
    state = bounds.propagate(tensor([[0.0, 0.0]]), tensor([[1.0, 1.0]]))
    assert -1 - 1e-9 < float(state.lower[1]) <= -1 and 2 <= float(state.upper[1]) < 2 + 1e-9


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("wide", [1.0, 1e25])
def test_what_only_adds_loses_what_its_lower_ends_lose(dtype: torch.dtype, wide: float) -> None:
    """The sum of a softmax stays above 0, however large its terms may be, and no rounding is forgotten."""
    rng = np.random.default_rng(0)
    for _ in range(examples(200)):
        weight, bias = rng.random((1, 40)).astype(np.float32), rng.normal(size=1).astype(np.float32)
        bounds = prepare(graph_of(Input((40,), (), FROM, "x"), affine((1,), 0, dense(weight), bias=bias)), dtype)
        signs = 1 if wide > 1 else rng.choice([-1, 1], size=40)
        lower = tensor((rng.random((1, 40)) * 10.0 ** rng.integers(-3, 3) * signs).astype(np.float32), dtype)
        state = bounds.propagate(lower, lower + wide)
        terms = [Fraction(w) * Fraction(x) for w, x in zip(weight[0].tolist(), lower[0].tolist(), strict=True)]
        least, size = (sum(map(f, terms), f(Fraction(float(bias[0])))) for f in (lambda x: x, abs))
        lost = size * Fraction(torch.finfo(dtype).eps) * 400
        assert least - lost <= Fraction(float(state.lower[1])) <= least < Fraction(float(state.upper[1]))


def test_without_error_terms_the_constructions_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant with unit_error = 0 (ARITHMETIC (a) 1-5, 19), and the one without underflow (6), prove what is false."""

    def exceeded(constructions: list[Any]) -> set[str]:
        found = set()
        for construction in constructions:
            graph, x = construction()
            net = prepare(graph)
            point = torch.full((1, graph.nodes[0].size), x, dtype=torch.float64)
            last = len(graph.nodes) - 1
            low, high = net.lower_bound(net.propagate(point, point), {last: tensor([[[1.0], [-1.0]]])}, None).value[0].tolist()
            (exact,) = exact_run(graph, [Fraction(x)] * graph.nodes[0].size)[last]
            if not (at_most(low, exact) and at_most(high, -exact)):
                found.add(construction.__name__)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(linear, "unit_error", lambda m, dtype: 0.0)
        assert exceeded(CONSTRUCTIONS) >= {"tree_of_sums", "constants", "absorption", "cancelling_constants"}
    with monkeypatch.context() as patch:
        patch.setattr(linear, "underflow", lambda dtype: 0.0)
        assert exceeded([underflowing]) == {"underflowing"}
    assert exceeded(CONSTRUCTIONS) == set()


def rough_graph(rng: Any, stable: bool = False) -> Graph:
    """Dense, ReLU, a residual sum, a product and a maximum, with weights of very different size (all float32)."""

    def weight(n: int, m: int) -> Array:
        return (rng.integers(-8, 9, (n, m)) * 2.0 ** rng.integers(-12, 13, (n, m)) * (1 + 2.0**-20)).astype(np.float32)

    bias = (rng.normal(size=4) * 2.0 ** rng.integers(-10, 20, 4)).astype(np.float32)
    same = Gather((4,), (4,), np.arange(4))
    nodes: list[Node] = [
        Input((3,), (), FROM, "x"),
        affine((4,), 0, dense(weight(4, 3)), bias=np.where(rng.random(4) < 0.5, 1, -1) * np.float32(2.0**22) if stable else bias),
        Elementwise((4,), (1,), FROM, build("relu")),
        affine((4,), (2, 1), dense(weight(4, 4)), same, bias=bias[::-1].copy()),
    ]
    if not stable:
        nodes = with_maximum([*nodes, Bilinear((4,), (3, 2), FROM, "mul")], np.array([[0, 1], [1, 2], [3, -1]]), (3,))
    size = nodes[-1].size
    return graph_of(*nodes, affine((2,), len(nodes) - 1, dense(weight(2, size))))


def corners(lower: Array, upper: Array) -> list[list[Fraction]]:
    return [[Fraction(float(v)) for v in choice] for choice in itertools.product(*zip(lower.tolist(), upper.tolist(), strict=True))]


@settings(max_examples=examples(60))
@given(st.integers(0, 10**6), st.sampled_from([0.0, 1e-6, 1.0]), st.sampled_from(DTYPES), st.booleans())
def test_exact_runs_are_inside_with_no_tolerance(seed: int, width: float, dtype: torch.dtype, refine: bool) -> None:
    rng = np.random.default_rng(seed)
    graph = rough_graph(rng)
    lower = rng.normal(size=3).astype(np.float32)
    upper = lower + np.float32(width) * rng.random(3).astype(np.float32)
    net = prepare(graph, dtype)
    state = net.propagate(tensor([lower], dtype), tensor([upper], dtype), refine=refine)
    passes = [net.backward(state, i, torch.arange(node.size)) for i, node in graph]
    for point in corners(lower, upper):
        for i, values in enumerate(exact_run(graph, point)):
            for low, high in ((state.lower[i], state.upper[i]), passes[i]):
                for value, below, above in zip(values, low[0].tolist(), high[0].tolist(), strict=True):
                    assert Fraction(below) <= value <= Fraction(above), f"node {i}"


@settings(max_examples=examples(40))
@given(st.integers(0, 10**6))
def test_where_every_relu_is_stable_the_bound_is_the_minimum(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = rough_graph(rng, stable=True)
    lower = rng.normal(size=3).astype(np.float32)
    upper = lower + rng.random(3).astype(np.float32)
    net = prepare(graph)
    state = net.propagate(tensor([lower]), tensor([upper]))
    last = len(graph.nodes) - 1
    low, high = net.backward(state, last, torch.arange(2))
    truth = [exact_run(graph, point)[last] for point in corners(lower, upper)]
    scale = Fraction(float(state.largest(last).max())) + 2**36
    for k in range(2):
        least, most = min(t[k] for t in truth), max(t[k] for t in truth)
        assert 0 <= least - Fraction(float(low[0, k])) <= scale / 10**12
        assert 0 <= Fraction(float(high[0, k])) - most <= scale / 10**12


# ---------------------------------------------------------------- splits, planes


def relu_network(seed: int) -> tuple[Graph, Array, Array]:
    rng = np.random.default_rng(seed)
    graph = graph_of(
        Input((3,), (), FROM, "x"),
        affine((5,), 0, dense(rng.normal(size=(5, 3))), bias=rng.normal(size=5) / 4),
        Elementwise((5,), (1,), FROM, build("relu")),
        affine((4,), 2, dense(rng.normal(size=(4, 5))), bias=rng.normal(size=4) / 4),
        Elementwise((4,), (3,), FROM, build("relu")),
        affine((2,), 4, dense(rng.normal(size=(2, 4)))),
    )
    return graph, -np.ones(3), np.ones(3)


@settings(max_examples=examples(60))
@given(st.integers(0, 10**6), st.booleans())
def test_splits_bound_the_executions_that_satisfy_them(seed: int, use_constraints: bool) -> None:
    """Two splits, in each layer one, with any multipliers of that side; `crossed` never marks a box that still has an execution."""
    graph, lower, upper = relu_network(seed)
    rng = np.random.default_rng(seed)
    values = runs(graph, lower, upper, seed, 200)
    element, signs = {i: int(rng.integers(graph.nodes[i].size)) for i in (1, 3)}, {i: rng.choice([-1.0, 1.0]) for i in (1, 3)}
    thresholds = {i: float(rng.choice([0.0, rng.normal()])) for i in (1, 3)}
    constraints, betas = {}, {}
    for i in (1, 3):
        size = graph.nodes[i].size
        low, high = torch.full((1, size), -torch.inf, dtype=torch.float64), torch.full((1, size), torch.inf, dtype=torch.float64)
        (high if signs[i] > 0 else low)[0, element[i]] = thresholds[i]  # sign +: h <= t
        constraints[i] = (low, high)
        multiplier = torch.zeros(1, size, dtype=torch.float64)
        multiplier[0, element[i]] = signs[i] * rng.random() * 3
        betas[i] = multiplier, torch.full((1, size), thresholds[i], dtype=torch.float64) if thresholds[i] else None
    meets = np.logical_and(*((values[i][:, element[i]] - thresholds[i]) * signs[i] <= 0 for i in (1, 3)))
    net = prepare(graph)
    state = net.propagate(tensor([lower]), tensor([upper]), constraints=constraints if use_constraints else None)
    rows = tensor(rng.normal(size=(1, 3, 2)))
    found = net.lower_bound(state, {5: rows}, None, betas=betas).value[0].numpy()
    if meets.any():
        assert state.crossed is not None and not state.crossed.any()
        assert (values[5][meets] @ rows[0].numpy().T >= found - 1e-9).all()
        if use_constraints:
            for i, _ in graph:
                inside(values[i][meets], state.lower[i][0], state.upper[i][0], f"node {i}")


def test_a_multiplier_proves_what_the_box_alone_does_not_and_a_contradiction_is_seen() -> None:
    double, negative = (Scale((1,), (1,), np.array([f])) for f in (2.0, -1.0))
    graph = graph_of(Input((1,), (), FROM, "x"), affine((1,), 0, double), affine((1,), 1, negative))
    net = prepare(graph)
    state = net.propagate(tensor([[-1.0]]), tensor([[1.0]]))
    row = {2: tensor([[[1.0]]])}
    assert float(net.lower_bound(state, row, None).value) == pytest.approx(-2.0)
    assert float(net.lower_bound(state, row, None, betas={1: (tensor([[1.0]]), None)}).value) == pytest.approx(0.0, abs=1e-9)  # 2 x <= 0
    inf = tensor([[torch.inf]])
    for below, above, empty in ((3.0, torch.inf, True), (-torch.inf, -3.0, True), (2.0, torch.inf, False), (-torch.inf, -2.0, False)):
        split = net.propagate(tensor([[-1.0]]), tensor([[1.0]]), constraints={1: (tensor([[below]]), tensor([[above]]))})
        assert split.crossed is not None and bool(split.crossed) is empty
    assert not net.propagate(tensor([[-1.0]]), tensor([[1.0]]), constraints={1: (-inf, inf)}).crossed


@settings(max_examples=examples(40))
@given(st.integers(0, 10**6), st.booleans())
def test_any_slopes_give_valid_bounds_and_rounding_only_lowers_them(seed: int, per_row: bool) -> None:
    graph, lower, upper = relu_network(seed)
    rng = np.random.default_rng(seed)
    net = prepare(graph)
    state = net.propagate(tensor([lower]), tensor([upper]))
    planes = {}
    for i, j in ((2, 1), (4, 3)):
        shape = (1, 3, graph.nodes[i].size) if per_row else (1, graph.nodes[i].size)
        low, high = (s.unsqueeze(1) if per_row else s for s in (state.lower[j], state.upper[j]))
        planes[i] = relax(build("relu"), low, high, tensor(rng.normal(size=shape)), tensor(rng.normal(size=shape)))
    rows = tensor(rng.normal(size=(1, 3, 2)))
    found = net.lower_bound(state, {5: rows}, None, planes=planes, record=(Elementwise,))
    truth = runs(graph, lower, upper, seed, 100)[5] @ rows[0].numpy().T
    assert (truth >= found.value[0].numpy() - 1e-9).all()
    loose = net.lower_bound(state, {5: rows}, None, planes=planes, rigorous=False).value
    assert (found.value < loose).all() and (loose - found.value < 1e-10 * (1 + loose.abs())).all()
    assert set(found.at) == {2, 4} and torch.allclose(found.at[4], rows @ tensor(graph.nodes[5].maps[0].weight)[None])


def test_selected_and_widened_states_keep_their_bounds() -> None:
    graph, lower, upper = relu_network(1)
    net = prepare(graph, torch.float32)
    state = net.propagate(tensor([lower, lower / 2], torch.float32), tensor([upper, upper / 2], torch.float32))
    part: State = state.select(torch.tensor([1])).to(torch.float64)
    for i, _ in graph:
        assert torch.equal(part.lower[i][0].float(), state.lower[i][1]) and part.lower[i].dtype == torch.float64
        inside(runs(graph, lower / 2, upper / 2, 3)[i], part.lower[i][0], part.upper[i][0], f"node {i}")
