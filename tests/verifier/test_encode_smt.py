"""z3 on encoded cases: every rule against exact evaluation, verdicts at the very optimum, and what ends in "unknown"."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import z3  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lp_networks import network, problem, question, random_layers
from numpy.typing import NDArray
from small_networks import decimal

from graph import functions
from graph.core import Affine, Bilinear, Elementwise, Graph, Input, Node, Origin
from graph.core import check as checked
from graph.evaluate import evaluate
from graph.functions.facts import Function, Pieces, Smooth
from graph.linear_map import Composition, Dense, Gather, Scale, Transposed
from tests.effort import examples
from tests.maxima import with_maximum
from verifier import encode_smt, exact
from verifier.encode_smt import Query, decide, solve_smt
from verifier.exact_planes import Eliminator, chain, cut, plane
from verifier.exact_system import Element, Reduction, piece_over, single_maps
from verifier.solver import Question, ask

Array = NDArray[Any]
Q = Fraction
few = settings(max_examples=examples(15), suppress_health_check=[HealthCheck.too_slow])
some = settings(max_examples=examples(40))
seeds = st.integers(0, 2**32 - 1)

STAIRS = Pieces("stairs", (-0.5, 0.0, 0.75), (0.0, 1.0, -0.5, 2.0), (0.0, 0.25, 1.0, -1.0), (0.5, 1.0, 0.625))  # jumps thrice; values off both sides
STRAIGHT = [functions.build("relu"), functions.build("leaky_relu", 0.01), functions.build("abs"), functions.build("clip", -0.5, 0.25)]
STEPS = [Pieces("sign", (0.0,), (0.0, 0.0), (-1.0, 1.0), (0.0,)), STAIRS]
SMOOTH = [*map(functions.build, ("sigmoid", "tanh", "exp", "sin", "softplus")), functions.build("pow", 2.0), functions.build("pow", 3.0)]


def affine(source: int, weight: Array, bias: Array | None = None) -> Affine:
    """weight [out, in]."""
    return Affine((1, len(weight)), (source,), Origin(), (Dense((1, weight.shape[1]), (1, len(weight)), weight),), bias)


def graph_of(*nodes: Node) -> Graph:
    last = len(nodes) - 1
    return checked(Graph(tuple(nodes), (0,), (last,), ("y",), {"x": 0, "y": last}))


def inputs(size: int) -> Input:
    return Input((1, size), (), Origin(), "x")


def drawn(rng: np.random.Generator, rule: Function | str) -> Graph:
    """Two inputs, two layers with `rule` in the middle of both, and one output."""
    first, second = random_layers(rng, (2, 4, 4)), random_layers(rng, (2, 4, 1))
    nodes: list[Node] = [inputs(2), affine(0, *first[0])]
    for k, size in ((0, 4), (1, 4)):
        source = len(nodes) - 1
        match rule:
            case "max":
                windows = np.array([[0, 1, -1], [1, 2, 3], [3, -1, -1], [0, 3, 1]])
                nodes = with_maximum(nodes, windows, (1, size))
            case "mul":
                nodes.append(Bilinear((1, size), (source, source), Origin(), "mul"))
            case "matmul":
                left = [Gather((1, 4), shape, np.array(index)) for shape, index in (((2, 2), (0, 1, 2, 3)), ((2, 2), (3, 1, 0, 2)))]
                nodes += [Affine((2, 2), (source,), Origin(), (m,)) for m in left]
                nodes.append(Bilinear((2, 2), (len(nodes) - 2, len(nodes) - 1), Origin(), "matmul"))
                nodes.append(Affine((1, 4), (len(nodes) - 1,), Origin(), (Gather((2, 2), (1, 4), np.arange(4)),)))
            case _:
                nodes.append(Elementwise((1, size), (source,), Origin(), rule))
        nodes.append(affine(len(nodes) - 1, *((first[1], second[1])[k])))
    return graph_of(*nodes)


@dataclass(frozen=True)
class Pinned:
    """Whether a query whose inputs are pinned has a model, for some output bounds."""

    asked: Question
    point: Array

    def allows(self, kept: set[int] | None, bits: int | None, products: bool = True) -> bool:
        system = Reduction(self.asked.problem, self.asked.case).system(self.asked.lower, self.asked.upper)
        forms = Eliminator(system, bits)
        chosen = range(len(system.elements)) if kept is None else sorted(kept & set(range(len(system.elements))) | forms.must_keep)
        query = Query(system, forms, {k: [] for k in chosen}, products)
        for k, v in system.inputs.items():
            query.solver.add(query.variables[v] == encode_smt.number(Q(float(self.point[k]))))
        return bool(query.solver.check() == z3.sat)


def pinned(graph: Graph, point: Array, unsafe: str) -> Pinned:
    return Pinned(question(problem(graph, -np.ones(len(point)), np.ones(len(point)), unsafe)), point)


def value_at(graph: Graph, point: Array) -> Fraction:
    """The one output, exactly."""
    values = Reduction(problem(graph, -np.ones(len(point)), np.ones(len(point)), "(<= Y_0 0.0)"), 0).values([Q(float(x)) for x in point])
    assert values is not None
    return values[0][0]


def equals(y: Fraction) -> str:
    return f"(and (<= Y_0 {decimal(float(y))}) (>= Y_0 {decimal(float(y))}))"


# ---------------------------------------------------------------- rules


@few
@given(seeds, st.sampled_from([*STRAIGHT, *STEPS, "max", "mul", "matmul"]), st.sets(st.integers(0, 12)), st.sampled_from([None, 6, 12]))
def test_an_execution_is_a_model_of_every_query(seed: int, rule: Function | str, kept: set[int], bits: int | None) -> None:
    """Whatever is kept or eliminated, cut or not; with everything kept and nothing cut, nothing else is a model at these inputs."""
    rng = np.random.default_rng(seed)
    graph, point = drawn(rng, rule), rng.integers(-8, 9, size=2) / 8
    y = value_at(graph, point)
    near = float(y)
    if Q(near) != y:
        near = float(evaluate(graph, [point[None]])[-1][0, 0])
        low, high = np.nextafter(near, -np.inf) - 1e-9, np.nextafter(near, np.inf) + 1e-9
        unsafe = f"(and (<= Y_0 {decimal(float(high))}) (>= Y_0 {decimal(float(low))}))"
        assert pinned(graph, point, unsafe).allows(kept, bits, products=False)
        return
    there = pinned(graph, point, equals(y))
    assert there.allows(kept, bits, products=False)
    assert there.allows(None, bits, products=True)
    for other in (float(y) + 2.0**-20, float(y) - 2.0**-20):
        assert not pinned(graph, point, equals(Q(other))).allows(None, None)


@few
@given(seeds, st.sampled_from(SMOOTH), st.sets(st.integers(0, 8)), st.sampled_from([None, 6, 12]))
def test_an_execution_lies_in_the_envelopes(seed: int, function: Smooth, kept: set[int], bits: int | None) -> None:
    rng = np.random.default_rng(seed)
    graph, point = drawn(rng, function), rng.integers(-8, 9, size=2) / 8
    with np.errstate(all="ignore"):
        y = float(evaluate(graph, [point[None]])[-1][0, 0])
    slack = 1e-9 * (1 + abs(y))
    if np.isfinite(slack):
        assert pinned(graph, point, f"(and (<= Y_0 {decimal(y + slack)}) (>= Y_0 {decimal(y - slack)}))").allows(kept, bits)


@some
@given(st.lists(st.tuples(*[st.fractions(-10, 10, max_denominator=1000)] * 3), min_size=1, max_size=6), st.fractions(-9, 9), st.integers(2, 20))
def test_what_is_cut_from_a_form_is_paid_for(rows: list[tuple[Fraction, Fraction, Fraction]], constant: Fraction, bits: int) -> None:
    ranges = [(min(a, b), max(a, b)) for _, a, b in rows]
    terms = {v: c for v, (c, _, _) in enumerate(rows)}
    short = cut(terms, constant, ranges, bits)
    for corner in range(1 << len(rows)):
        x = [r[corner >> v & 1] for v, r in enumerate(ranges)]
        exact = constant + sum(c * x[v] for v, c in terms.items())
        assert abs(exact - short.constant - sum(c * x[v] for v, c in short.terms.items())) <= short.error


@some
@given(st.lists(st.tuples(st.fractions(-4, 4, max_denominator=8), st.fractions(-4, 4, max_denominator=8)), min_size=1, max_size=8))
def test_lines_through_a_hull_are_below_and_above_all_points(points: list[tuple[Fraction, Fraction]]) -> None:
    for side in (1, -1):
        lines = chain(points, side)
        assert all(side * (y - s * x - c) >= 0 for s, c in lines for x, y in points)
        assert all(any(y == s * x + c for x, y in points) for s, c in lines)


@few
@given(st.sampled_from([*STRAIGHT, *STEPS, *SMOOTH]), st.integers(-8, 8), st.integers(1, 12), st.sampled_from([None, 4, 12]))
def test_planes_are_on_their_side(function: Function, start: int, width: int, bits: int | None) -> None:
    low, high = Q(start, 4), Q(start + width, 4)
    element = Element(function, (), ((low, high),), 0, (0, 0))
    below, above = (plane(element, [(low, high)], side, bits) for side in (1, -1))
    assert below is not None and above is not None
    x = np.linspace(float(low), float(high), 193)  # meets the breakpoints
    for at in map(Q, x):
        y = exact.value_at(function, at) if isinstance(function, Pieces) else Q(float(function.value(np.array(float(at)))))
        slack = 0 if isinstance(function, Pieces) else Q(1, 10**11)
        assert below.slopes[0] * at + below.offset <= y + slack
        assert above.slopes[0] * at + above.offset >= y - slack


def test_a_piece_is_certain_only_if_its_ends_are_its_own() -> None:
    relu, sign = STRAIGHT[0], STEPS[0]
    assert isinstance(relu, Pieces) and isinstance(sign, Pieces)
    assert piece_over(relu, (Q(0), Q(1))) == 1 and piece_over(relu, (Q(-1), Q(0))) == 0 and piece_over(relu, (Q(-1), Q(1, 2**60))) is None
    assert piece_over(sign, (Q(0), Q(1))) is None and piece_over(sign, (Q(1, 2**60), None)) == 1 and piece_over(sign, (None, Q(0))) is None


def test_stable_elements_are_no_variables() -> None:
    weight, bias = np.array([[1.0, 1.0], [1.0, -1.0], [0.5, 0.5]]), np.array([3.0, 0.25, -1.5])
    asked = question(problem(network([(weight, bias), (np.ones((1, 3)), np.zeros(1))], [STRAIGHT[0]]), -np.ones(2), np.ones(2), "(<= Y_0 1.0)"))
    system = Reduction(asked.problem, 0).system(asked.lower, asked.upper)
    assert [element.site for element in system.elements] == [(1, 1)]


def test_maps_of_a_composition_are_multiplied_without_rounding() -> None:
    third, weight = np.array([1 / 3]), np.array([[0.1, 0.7], [1e-9, 1e9]])
    chained = Composition((1, 2), (1, 2), (Scale((1, 2), (1, 2), third), Dense((1, 2), (1, 2), weight)))
    for m in (chained, Transposed((1, 2), (1, 2), chained)):
        graph = graph_of(inputs(2), Affine((1, 2), (0,), Origin(), (m,)), affine(1, np.ones((1, 2))))
        x = [Q(float(v)) for v in (0.3, -0.9)]
        exact = [[Q(float(w)) for w in row] for row in (weight if isinstance(m, Composition) else weight.T)]
        assert value_at(graph, np.array([0.3, -0.9])) == sum(Q(1 / 3) * w * v for row in exact for w, v in zip(row, x, strict=True))
    assert [type(part) for part in single_maps(Transposed((1, 2), (1, 2), chained))] == [Transposed, Transposed]


# ---------------------------------------------------------------- verdicts


def verdict(graph: Graph, unsafe: str, lower: Array, upper: Array, seconds: float = 20.0, case: int = 0) -> str:
    answer = solve_smt(question(problem(graph, lower, upper, unsafe), case), seconds)
    if answer.point is not None:
        assert answer.verdict == "sat" and (answer.point >= lower).all() and (answer.point <= upper).all()
    return answer.verdict


ONE = np.ones(1)


@pytest.mark.parametrize(("unsafe", "expected"), [
    ("(<= Y_0 0.0)", "sat"), ("(< Y_0 0.0)", "unsat"), ("(>= Y_0 2.0)", "sat"), ("(> Y_0 2.0)", "unsat"),
    ("(and (>= Y_0 2.0) (<= X_0 0.5))", "sat"), ("(and (>= Y_0 2.0) (< X_0 1.0) (> X_0 -1.0))", "unsat"),
    ("(and (<= Y_0 1.0) (>= (+ X_0 X_1) 1.0))", "sat"), ("(and (< Y_0 1.0) (>= (+ X_0 X_1) 1.0))", "unsat"),
])  # fmt: skip
def test_strict_and_not_at_the_optimum(unsafe: str, expected: str) -> None:
    """|x_0| + |x_1|."""
    graph = network([(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))], [functions.build("abs")])
    assert verdict(graph, unsafe, -np.ones(2), np.ones(2)) == expected


def test_an_optimum_that_is_no_double_is_reached_over_the_reals() -> None:
    """|3 x - 1| is 0 at a third."""
    graph = network([(np.array([[3.0]]), -ONE), (np.ones((1, 1)), np.zeros(1))], [functions.build("abs")])
    assert verdict(graph, "(<= Y_0 0.0)", -ONE, ONE) == "sat"
    assert verdict(graph, "(< Y_0 0.0)", -ONE, ONE) == "unsat"


@pytest.mark.parametrize(("function", "unsafe", "expected"), [
    (STEPS[0], "(and (> Y_0 -1.0) (< Y_0 1.0))", "sat"), (STEPS[0], "(and (> Y_0 0.0) (< Y_0 1.0))", "unsat"),
    (STEPS[0], "(and (>= Y_0 1.0) (<= X_0 0.0))", "unsat"), (STEPS[0], "(and (>= Y_0 0.0) (<= X_0 0.0))", "sat"),
    (STAIRS, "(and (<= X_0 0.0) (>= Y_0 1.0))", "sat"), (STAIRS, "(and (< X_0 0.0) (>= Y_0 0.5) (> X_0 -0.5))", "unsat"),
    (STAIRS, "(and (> X_0 0.0) (>= Y_0 1.0) (< X_0 0.75))", "unsat"), (STAIRS, "(> Y_0 1.0)", "unsat"), (STAIRS, "(>= Y_0 1.0)", "sat"),
])  # fmt: skip
def test_jumps(function: Pieces, unsafe: str, expected: str) -> None:
    graph = network([(np.ones((1, 1)), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))], [function])
    assert verdict(graph, unsafe, -ONE, ONE) == expected


@pytest.mark.parametrize(("unsafe", "expected"), [
    ("(and (>= Y_0 0.1875) (<= (+ X_0 X_1) 0.75))", "unsat"), ("(and (>= Y_0 0.125) (<= (+ X_0 X_1) 0.75))", "sat"),
    ("(and (<= Y_0 0.0) (>= X_0 0.01) (>= X_1 0.01))", "unsat"),
])  # fmt: skip
def test_products(unsafe: str, expected: str) -> None:
    """x_0 x_1 over [0, 1]^2; at most 9 / 64 where x_0 + x_1 <= 3 / 4."""
    pick = [affine(0, np.eye(2)[k : k + 1]) for k in (0, 1)]
    graph = graph_of(inputs(2), *pick, Bilinear((1, 1), (1, 2), Origin(), "mul"))
    assert verdict(graph, unsafe, np.zeros(2), np.ones(2)) == expected


def test_maxima() -> None:
    """max(x, -x, 1/4): at least 1/4, and where it is 1/4, |x| <= 1/4."""
    before = affine(0, np.array([[1.0], [-1.0], [0.0]]), np.array([0.0, 0.0, 0.25]))
    graph = graph_of(*with_maximum([inputs(1), before], np.array([[0, 1, 2]]), (1, 1)))
    for unsafe, expected in (
        ("(< Y_0 0.25)", "unsat"), ("(<= Y_0 0.25)", "sat"),
        ("(and (<= Y_0 0.25) (> X_0 0.25))", "unsat"), ("(and (<= Y_0 0.25) (>= X_0 0.25))", "sat"),
        ("(and (>= Y_0 0.5) (<= X_0 0.4) (>= X_0 -0.4))", "unsat"),
    ):  # fmt: skip
        assert verdict(graph, unsafe, -ONE, ONE) == expected, unsafe


@pytest.mark.parametrize(("name", "level"), [("sigmoid", 1 / (1 + np.exp(-0.5))), ("tanh", np.tanh(0.5)), ("sin", np.sin(0.5)), ("exp", np.exp(0.5))])
def test_smooth_functions_are_decided_by_finer_envelopes(name: str, level: float) -> None:
    """f(x) - f(-x) / 2 over [-1, 1] where x is about 1/2."""
    graph = network([(np.array([[1.0], [-1.0]]), np.zeros(2)), (np.array([[1.0, -0.5]]), np.zeros(1))], [functions.build(name)])
    value = float(evaluate(graph, [np.array([[0.5]])])[-1][0, 0])
    assert abs(value) > 0.01 and level > 0
    near = "(>= X_0 0.4999) (<= X_0 0.5001)"
    assert verdict(graph, f"(and {near} (>= Y_0 {decimal(value + 0.01)}))", -ONE, ONE) == "unsat"
    assert verdict(graph, f"(and {near} (<= Y_0 {decimal(value - 0.01)}))", -ONE, ONE) == "unsat"
    assert verdict(graph, f"(and {near} (>= Y_0 {decimal(value - 0.01)}))", -ONE, ONE) == "sat"


def test_cases_are_asked_one_by_one_over_their_own_boxes() -> None:
    graph = network([(np.eye(1), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))], [STRAIGHT[0]])
    unsafe = "(or (and (<= X_0 -0.5) (>= Y_0 0.1)) (and (>= X_0 0.5) (<= Y_0 0.5)))"
    assert verdict(graph, unsafe, -ONE, ONE, case=0) == "unsat"
    assert verdict(graph, unsafe, -ONE, ONE, case=1) == "sat"


@settings(few, max_examples=5)
@given(seeds)
def test_halves_of_a_box_give_the_answer_of_the_box(seed: int) -> None:
    """Nothing but sub-boxes of one query each, against one query about everything."""
    rng = np.random.default_rng(seed)
    layers = random_layers(rng, (2, 5, 5, 1))
    graph = network(layers, [STRAIGHT[0]] * 2)
    values = evaluate(graph, [rng.uniform(-1, 1, size=(50, 2))])[-1][:, 0]
    for level in (float(values.min()) - 0.5, float(np.median(values))):
        asked = question(problem(graph, -np.ones(2), np.ones(2), f"(<= Y_0 {decimal(np.round(level * 64) / 64)})"))
        whole = solve_smt(asked, 20.0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(encode_smt, "MOST", 2)
            halved, tally = decide(asked, 20.0)
        assert halved.verdict == whole.verdict != "unknown", (halved.reason, whole.reason, tally)
        assert halved.verdict == "sat" or not (tally.halved and halved.splits)  # elements that mattered in a half say nothing of the whole


def test_the_elements_that_mattered_are_named() -> None:
    graph = network([(np.eye(2), np.zeros(2)), (np.ones((1, 2)), np.zeros(1))], [functions.build("abs")])
    answer = solve_smt(question(problem(graph, -np.ones(2), np.ones(2), "(and (< Y_0 0.5) (>= X_0 0.5))")), 20.0)
    assert answer.verdict == "unsat" and set(answer.splits) <= {(1, 0), (1, 1)}


# ---------------------------------------------------------------- no verdict


def hard() -> Question:
    rng = np.random.default_rng(1)
    graph = network(random_layers(rng, (40, 40, 40, 40, 1)), [STRAIGHT[0]] * 3)
    return question(problem(graph, -np.ones(40), np.ones(40), "(<= Y_0 -100000.0)"))


def test_time_is_kept() -> None:
    began = time.monotonic()
    answer = solve_smt(hard(), 1.0)
    assert (answer.verdict, answer.reason) == ("unknown", "time")
    assert time.monotonic() - began < 10.0


def test_a_killed_solver_says_unknown() -> None:
    """The child needs more than a second to start, and more than 100 MB."""
    assert ask(solve_smt, hard(), 1.0).reason == "time"
    found = ask(solve_smt, hard(), 30.0, memory=1e8)
    assert found.verdict == "unknown" and found.reason != "time"


class Odd(Node):
    """A node that nothing knows."""


def test_a_node_without_a_rule_is_named() -> None:
    known = question(problem(network([(np.eye(1), np.zeros(1))], []), -ONE, ONE, "(<= Y_0 0.0)"))
    nodes = (inputs(1), Odd((1, 1), (0,), Origin()))
    odd = Graph(nodes, (0,), (1,), ("y",), {"x": 0, "y": 1})
    bound = type(known.problem)(**{**vars(known.problem), "graph": odd})
    answer = solve_smt(Question(bound, 0, known.lower, known.upper), 5.0)
    assert answer.verdict == "unknown" and "no rule for a Odd node" in answer.reason


def test_an_unknown_of_z3_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(z3.Solver, "check", lambda self: z3.unknown)
    monkeypatch.setattr(z3.Solver, "reason_unknown", lambda self: "incomplete")
    graph = network([(np.eye(1), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))], [STRAIGHT[0]])
    answer = solve_smt(question(problem(graph, -ONE, ONE, "(<= Y_0 -1.0)")), 5.0)
    assert (answer.verdict, answer.reason) == ("unknown", "solver-unknown: incomplete")


def test_z3_without_memory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: z3.Solver) -> z3.CheckSatResult:
        raise z3.Z3Exception(b"out of memory")

    monkeypatch.setattr(z3.Solver, "check", fail)
    graph = network([(np.eye(1), np.zeros(1)), (np.ones((1, 1)), np.zeros(1))], [STRAIGHT[0]])
    assert solve_smt(question(problem(graph, -ONE, ONE, "(<= Y_0 -1.0)")), 5.0).reason == "memory"
