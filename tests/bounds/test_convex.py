"""Convex relaxations: no execution is cut off, what multipliers prove is true whatever the solver did, and solvers that fail give no number."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from benchmarks import strategies
from bounds import relaxation, semidefinite
from bounds.convex import ProgramBound, SolverFailure, linear_program, safe_bound, slopes_to_planes, solve, stacked
from bounds.encoding import CannotRelax, Encoding, encode
from bounds.hull import elementwise_slopes, max_slopes
from bounds.linear import LinearBounds, State
from bounds.semidefinite import semidefinite_program
from bounds.torch_graph import TorchGraph
from graph.core import Bilinear, Elementwise, Graph, Input
from graph.functions import build
from graph.functions.facts import Pieces
from graph.load import load
from tests.bounds.test_linear import FROM, Array, affine, dense, graph_of, runs
from tests.effort import examples
from tests.maxima import with_maximum

TOLERANCE = 1e-5  # of solvers, relative to 1 + |value|; only tests know it
RELU = build("relu")


def state_of(graph: Graph, lower: Array, upper: Array) -> tuple[LinearBounds, State]:
    bounds = LinearBounds(TorchGraph(graph, torch.float64))
    return bounds, bounds.propagate(torch.from_numpy(lower)[None], torch.from_numpy(upper)[None])


def encoded(graph: Graph, lower: Array, upper: Array) -> Encoding:
    _, state = state_of(graph, lower, upper)
    return encode(graph, [x[0].numpy() for x in state.lower], [x[0].numpy() for x in state.upper])


def variables(encoding: Encoding, values: list[Array]) -> Array:
    """The variables [P, n] that runs of all nodes stand for."""
    return np.concatenate([np.zeros((len(values[0]), 0)), *(values[i][:, encoding.free[i]] for i in encoding.start)], axis=1)


def backward(graph: Graph, lower: Array, upper: Array, rows: Array, found: ProgramBound, encoding: Encoding) -> Array:
    bounds, state = state_of(graph, lower, upper)
    functional = {graph.outputs[0]: torch.from_numpy(rows)[None]}
    return bounds.lower_bound(state, functional, None, planes=slopes_to_planes(encoding, state, found.slopes)).value[0].numpy()


def random_network(seed: int, function: Any = RELU, widths: tuple[int, ...] = (3, 6, 5, 2)) -> Graph:
    rng = np.random.default_rng(seed)
    nodes: list[Any] = [Input((widths[0],), (), FROM, "x")]
    for k, (n, m) in enumerate(itertools.pairwise(widths)):
        nodes.append(affine((m,), len(nodes) - 1, dense(rng.normal(size=(m, n)) / math.sqrt(n)), bias=rng.normal(size=m) / 4))
        if k < len(widths) - 2:
            nodes.append(Elementwise((m,), (len(nodes) - 1,), FROM, function))
    return graph_of(*nodes)


BOX = -np.ones(3), np.ones(3)


# ---------------------------------------------------------------- soundness


@settings(max_examples=examples(40))
@given(network=strategies.networks(), seed=st.integers(0, 2**16), data=st.data())
def test_no_execution_is_cut_off_and_any_multipliers_give_a_bound(network: Any, seed: int, data: Any) -> None:
    box = data.draw(strategies.boxes(math.prod(network.input_shape)))
    graph = load(network.model.SerializeToString()).graph
    lower, upper = np.asarray(box.lower, dtype=np.float64), np.asarray(box.upper, dtype=np.float64)
    try:
        encoding = encoded(graph, lower, upper)
    except CannotRelax:  # an overflow, or a function outside its domain
        return
    values = runs(graph, lower, upper, seed)
    v = variables(encoding, values)
    slack = [1e-9 * (1 + np.abs(x).max(initial=0.0)) for x in values]  # of the concrete runs
    for i, rows in enumerate(encoding.rows):
        assert (np.abs(v @ rows.coefficient.toarray().T + rows.constant - values[i]) <= rows.error + slack[i]).all(), i
        assert (np.abs(values[i]) <= rows.size + rows.error + slack[i]).all()
    for plane in encoding.planes:
        missed = v @ plane.rows.coefficient.toarray().T + plane.rows.constant + plane.rows.error
        assert (missed >= -1e-9 * (1 + plane.rows.size)).all(), (plane.node, plane.side)
    rng, out = np.random.default_rng(seed), graph.outputs[0]
    row = rng.normal(size=(1, graph.nodes[out].size))
    functional = encoding.functional({out: row}, np.array([0.5]))
    least = (values[out] @ row[0] + 0.5).min()
    for scale in (0.0, 0.1, 10.0):
        bound = safe_bound(encoding, functional, 0, scale * rng.normal(size=len(stacked(encoding)[1])))
        assert bound <= least + slack[out] * np.abs(row).sum()


def test_rounding_is_paid_for() -> None:
    """An affine network, whose bound could be exact: in rationals it is never above the minimum."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        weight, bias = rng.normal(size=(4, 5)) * 10.0 ** rng.integers(-6, 6, (4, 5)), rng.normal(size=4)
        graph = graph_of(Input((5,), (), FROM, "x"), affine((4,), 0, dense(weight), bias=bias), affine((1,), 1, dense(np.ones((1, 4)) / 3)))
        lower, upper = -rng.random(5), rng.random(5)
        encoding = encoded(graph, lower, upper)
        found = float(linear_program(encoding, encoding.functional({2: np.ones((1, 1))}, np.zeros(1))).safe[0])
        third = Fraction(1 / 3)
        total = [sum((third * Fraction(float(w)) for w in column), Fraction(0)) for column in weight.T]
        exact = sum((third * Fraction(float(b)) for b in bias), Fraction(0))
        exact += sum(min(c * Fraction(float(a)), c * Fraction(float(b))) for c, a, b in zip(total, lower, upper, strict=True))
        assert Fraction(found) <= exact and float(exact) - found <= 1e-9 * (1 + abs(found))


def test_gamma_is_below_the_quadratic_function_and_near_its_best_bound() -> None:
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n = int(rng.integers(1, 7))
        s = rng.normal(size=(n + 1, n + 1))
        s = s @ s.T if seed % 3 == 0 else s / 2 + s.T / 2
        v = np.concatenate([np.ones((4000, 1)), rng.uniform(-1, 1, (4000, n)).clip(-0.9, 0.9) / 0.9], axis=1)
        values = np.einsum("pi,ij,pj->p", v, s, v)
        found = semidefinite._least(s)
        assert found <= values.min() + 1e-9
        smallest = float(np.linalg.eigvalsh(s).min())
        assert smallest * (n + 1 if smallest < 0 else 1) - 1e-6 <= found  # what the smallest eigenvalue alone would give


def test_a_matrix_with_a_tiny_negative_eigenvalue_is_not_positive() -> None:
    nearly = np.array([[1.0, 1.0], [1.0, 1.0 - 2.0**-52]])
    assert not semidefinite._is_positive(nearly, 0.0)
    assert not semidefinite._is_positive(np.array([[1.0, np.nan], [np.nan, 1.0]]), 0.0)
    assert semidefinite._is_positive(nearly + 1e-12 * np.eye(2), 0.0)
    assert not semidefinite._is_positive(nearly + 1e-12 * np.eye(2), 1e-11)


# ---------------------------------------------------------------- tightness


@pytest.mark.parametrize("name, parameters", [("relu", ()), ("leaky_relu", (0.1,)), ("abs", ()), ("clip", (-0.5, 0.75)), ("sign", ())])
def test_planes_of_pieces_are_their_convex_hull(name: str, parameters: tuple[float, ...]) -> None:
    function = build(name, *parameters)
    assert isinstance(function, Pieces)
    rng = np.random.default_rng(0)
    for _ in range(25):
        low, high = np.sort(rng.choice([rng.normal(), -1.5, -0.5, 0.0, 0.75, 2.0, rng.normal()], 2, replace=False))
        if low == high:
            continue
        points = [(p, float(function.value(np.array(p)))) for p in (low, high, *(b for b in function.breakpoints if low <= b <= high))]
        for k, b in enumerate(function.breakpoints):
            points += [(b, function.slopes[k] * b + function.intercepts[k])] if low < b <= high else []
            points += [(b, function.slopes[k + 1] * b + function.intercepts[k + 1])] if low <= b < high else []
        x = rng.uniform(low, high)
        for side, offset in ((1, relaxation.offset_lower), (-1, relaxation.offset_upper)):
            slopes = elementwise_slopes(function, np.array([low]), np.array([high]), side)[:, 0]
            offsets = offset(function, *(torch.tensor(t, dtype=torch.float64) for t in (slopes, low, high))).numpy()
            planes = side * max(side * (slopes * x + offsets))
            chords = [p[1] if p[0] == q[0] else p[1] + (q[1] - p[1]) * (x - p[0]) / (q[0] - p[0])
                      for p in points for q in points if p[0] <= x <= q[0] and (p[0] < q[0] or p[0] == x)]
            assert planes == pytest.approx(side * min(side * np.array(chords)), abs=1e-12), (low, high, x, side)


def test_the_planes_above_a_maximum_are_its_concave_hull() -> None:
    """Against a linear program over the corners of the box (a convex function has its concave hull there)."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        low = rng.normal(size=3)
        high = low + rng.random(3) * rng.integers(0, 2, 3)
        x = low + rng.random(3) * (high - low)
        corners = np.array(list(itertools.product(*zip(low, high, strict=True))))
        equal = np.vstack([corners.T, np.ones(len(corners))])
        truth = -linprog(-corners.max(1), A_eq=equal, b_eq=np.append(x, 1.0)).fun
        slopes = max_slopes(low[None], high[None])[:, 0]
        offsets = relaxation.max_offset_upper(*(torch.from_numpy(t) for t in (slopes, low, high))).numpy()
        assert (slopes @ x + offsets).min() == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_duals_become_slopes_with_which_a_backward_pass_reaches_the_program(seed: int) -> None:
    function = (RELU, RELU, build("leaky_relu", 0.1), build("abs"), build("clip", -0.5, 0.75), build("sigmoid"))[seed]
    graph = random_network(seed, function)
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]])
    bounds, state = state_of(graph, *BOX)
    encoding = encoded(graph, *BOX)
    out = graph.outputs[0]
    found = linear_program(encoding, encoding.functional({out: rows}, np.zeros(3)))
    crown = bounds.lower_bound(state, {out: torch.from_numpy(rows)[None]}, None).value[0].numpy()
    again = backward(graph, *BOX, rows, found, encoding)
    least = (runs(graph, *BOX, seed, 500)[out] @ rows.T).min(0)
    room = TOLERANCE * (1 + np.abs(found.value))
    assert (crown <= found.safe + room).all() and (found.safe <= least).all() and (again <= least).all()
    assert (np.abs(found.safe - found.value) <= room).all() and (again >= found.value - room).all()
    if isinstance(function, Pieces):  # a mean of tangents lies below the tangent with the mean slope, so here it may be better
        assert (again <= found.value + room).all()


@pytest.mark.parametrize("seed", range(3))
def test_the_semidefinite_program_is_at_least_as_tight(seed: int) -> None:
    graph = random_network(seed, (RELU, build("leaky_relu", 0.1), build("abs"))[seed], (3, 4, 3, 2))
    encoding = encoded(graph, *BOX)
    out, rows = graph.outputs[0], np.array([[1.0, -1.0]])
    functional = encoding.functional({out: rows}, np.array([0.25]))
    line, found = linear_program(encoding, functional), semidefinite_program(encoding, functional)
    least = (runs(graph, *BOX, seed, 2000)[out] @ rows.T + 0.25).min()
    assert line.safe[0] - TOLERANCE * (1 + abs(least)) <= found.safe[0] <= least
    assert found.safe[0] == pytest.approx(found.value[0], abs=TOLERANCE * (1 + abs(least)))
    rough = semidefinite_program(encoding, functional, solver="SCS")
    assert rough.safe[0] <= least and rough.safe[0] == pytest.approx(found.safe[0], abs=1e-3 * (1 + abs(least)))


def test_products_are_seen_by_the_semidefinite_program() -> None:
    """x y - x over [-1, 1]^2 has the minimum -2; x y + (y - x)^2 / 4 is (x + y)^2 / 4 >= 0, which McCormick's planes do not see."""
    graph = graph_of(
        Input((2,), (), FROM, "x"),
        affine((3,), 0, dense(np.array([[1.0, 0.0], [-0.5, 0.5], [-0.5, 0.5]]))),
        affine((3,), 0, dense(np.array([[0.0, 1.0], [-0.5, 0.5], [-0.5, 0.5]]))),
        Bilinear((3,), (1, 2), FROM, "mul"),
    )
    encoding = encoded(graph, -np.ones(2), np.ones(2))
    functional = encoding.functional({3: np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]), 0: np.array([[0.0, 0.0], [-1.0, 0.0]])}, np.zeros(2))
    line, found = linear_program(encoding, functional), semidefinite_program(encoding, functional)
    assert line.safe == pytest.approx([-2.0, -2.0], abs=1e-6)
    assert found.safe == pytest.approx([0.0, -2.0], abs=1e-6) and (found.safe <= [0.0, -2.0]).all()


def maximum_networks() -> list[tuple[str, Graph]]:
    """max(x, y): y + relu(x - y), with y = relu(y); (x + y + |x - y|) / 2; the same by two ReLUs."""
    point = Input((2,), (), FROM, "x")
    found = []
    for name, function, first, last in (
        ("one", RELU, [[1, -1], [0, 1]], [[1, 1]]),
        ("abs", build("abs"), [[1, -1], [1, 1]], [[0.5, 0.5]]),
        ("two", RELU, [[1, -1], [-1, 1], [1, 1]], [[0.5, 0.5, 0.5]]),
    ):
        hidden = len(first)
        found.append((name, graph_of(
            point, affine((hidden,), 0, dense(np.array(first, dtype=float))), Elementwise((hidden,), (1,), FROM, function),
            affine((1,), 2, dense(np.array(last, dtype=float))),
        )))
    return [*found, ("node", graph_of(*with_maximum([point], np.array([[0, 1]]), (1,))))]


@pytest.mark.parametrize("name, graph", maximum_networks())
def test_no_single_neuron_relaxation_is_exact_on_the_maximum_of_two_inputs(name: str, graph: Graph) -> None:
    """Baader et al. 2024. Over [0, 1]^2 the largest value is 1; the triangle program says 3/2, the semidefinite one (1 + sqrt 2) / 2."""
    encoding = encoded(graph, np.zeros(2), np.ones(2))
    functional = encoding.functional({graph.outputs[0]: np.array([[-1.0], [1.0]])}, np.zeros(2))
    line, found = linear_program(encoding, functional), semidefinite_program(encoding, functional)
    assert line.safe == pytest.approx([-1.0 if name == "node" else -1.5, 0.0], abs=1e-7)
    assert found.safe == pytest.approx([-1.0 if name == "node" else -(1 + math.sqrt(2)) / 2, 0.0], abs=1e-6)


# ---------------------------------------------------------------- failures


def test_a_solver_that_fails_gives_an_error_and_no_number() -> None:
    v = cvxpy.Variable(2)
    for problem in (cvxpy.Problem(cvxpy.Minimize(v[0]), [v >= 1, v <= 0]), cvxpy.Problem(cvxpy.Minimize(v[0]))):
        with pytest.raises(SolverFailure, match="HIGHS ended with the status"):
            solve(problem, "HIGHS", 10.0)
    feasible = cvxpy.Problem(cvxpy.Minimize(cvxpy.norm(v)), [cvxpy.sum(v) >= 3])
    with pytest.raises(SolverFailure, match="SCS"):
        solve(feasible, "SCS", 10.0, max_iters=1)
    with pytest.raises(SolverFailure, match="no time is left"):
        solve(feasible, "CLARABEL", 0.0)
    with pytest.raises(SolverFailure, match="unknown solver"):
        solve(feasible, "NAMELESS", 1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e308])
def test_multipliers_that_are_not_numbers_give_an_error(bad: float) -> None:
    encoding = encoded(random_network(0), *BOX)
    functional = encoding.functional({encoding.graph.outputs[0]: np.eye(2)}, np.zeros(2))
    with pytest.raises(SolverFailure), np.errstate(all="ignore"):
        safe_bound(encoding, functional, 0, np.full(len(stacked(encoding)[1]), bad))


def test_bounds_that_say_nothing_or_contradict_each_other_are_refused() -> None:
    graph = random_network(0)
    encoding = encoded(graph, *BOX)
    ends = [[x.copy() for x in side] for side in ([r.constant * 0 - 9 for r in encoding.rows], [r.constant * 0 + 9 for r in encoding.rows])]
    for side, value in ((0, -np.inf), (1, np.nan), (1, -10.0)):
        changed = [[x.copy() for x in part] for part in ends]
        changed[side][1][0] = value
        with pytest.raises(CannotRelax, match="node 1"):
            encode(graph, *changed)


def test_a_network_that_is_too_large_for_the_semidefinite_program_is_refused() -> None:
    encoding = encoded(random_network(0, widths=(3, semidefinite.MOST_HIDDEN + 100, 1)), *BOX)
    assert encoding.hidden > semidefinite.MOST_HIDDEN
    with pytest.raises(CannotRelax, match="undecided neurons"):
        semidefinite_program(encoding, encoding.functional({3: np.ones((1, 1))}, np.zeros(1)))
