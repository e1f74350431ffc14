"""The encoder, rule by rule: no execution is left out, and nothing else is let in where a rule is exact."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from lp_networks import network, problem, question, random_layers
from small_networks import text

from benchmarks.strategies import boxes, networks
from graph.evaluate import evaluate
from graph.functions.abs import absolute
from graph.functions.clip import clip
from graph.functions.facts import Pieces
from graph.functions.leaky_relu import leaky_relu
from graph.functions.relu import relu
from graph.functions.sigmoid import sigmoid
from graph.functions.sign import sign
from graph.load import load
from tests.effort import examples
from tests.maxima import with_maximum
from verifier.encode_lp import NotEncodable, Program, cone, encode, encode_nodes, path
from verifier.milp import _load, _solved
from verifier.problem import Problem, compile_problem
from verifier.solver import Question

EXACT = ("Gemm", "Relu", "LeakyRelu", "Conv", "MaxPool", "Add", "Sub", "Concat", "Slice", "Gather", "Flatten", "Neg", "ReduceSum", "Transpose")
FUNCTIONS = (relu(), leaky_relu(0.25), leaky_relu(-0.5), leaky_relu(2.0), absolute(), clip(-0.5, 0.75), clip(-np.inf, 0.25), sign())
STAIRS = Pieces("stairs", (-1.0, 0.5, 0.5625), (0.5, -1.0, 0.0, 2.0), (0.0, 1.0, -3.0, 1.0), (-1.0, 0.25, 2.125))
fast = settings(max_examples=examples(25), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def unsafe(n_out: int) -> str:
    """A formula that reads all outputs."""
    return "(and " + " ".join(f"(<= Y_{k} 1000000)" for k in range(n_out)) + ")"


def ends(program: Program, inputs: np.ndarray, x: np.ndarray, column: int) -> tuple[float, float]:
    """The least and the largest value of a column where the input columns are x; (inf, -inf) if there is no solution at all."""
    lower, upper = program.lower.copy(), program.upper.copy()
    lower[inputs[inputs >= 0]] = upper[inputs[inputs >= 0]] = x[inputs >= 0]
    found = []
    for sense in (1.0, -1.0):
        cost = np.zeros_like(program.cost)
        cost[column] = sense
        highs = _load(replace(program, lower=lower, upper=upper, cost=cost), math.inf, time_limit=60.0, mip_rel_gap=0.0)
        highs.run()
        status = highs.modelStatusToString(highs.getModelStatus())
        if status == "Infeasible":
            return np.inf, -np.inf
        assert status in ("Optimal", "Unbounded")
        found.append(sense * highs.getInfo().objective_function_value if status == "Optimal" else -sense * np.inf)
    return found[0], found[1]


def sample(asked: Question, rng: np.random.Generator) -> np.ndarray:
    box = asked.problem.case_box[asked.case]
    low, high = asked.problem.lower[box], asked.problem.upper[box]
    return low + rng.choice([0.0, 0.5, 1.0, rng.random()], size=low.size) * (high - low)


def columns_of(program: Program, asked: Question) -> tuple[np.ndarray, np.ndarray]:
    graph = asked.problem.graph
    parts = [
        np.concatenate([program.columns.get(i, np.full(graph.nodes[i].size, -1)) for i in nodes]) for nodes in (graph.inputs, graph.outputs)
    ]
    return parts[0], parts[1]


def outputs_at(asked: Question, x: np.ndarray) -> np.ndarray:
    graph = asked.problem.graph
    values = evaluate(graph, np.split(x[None], np.cumsum([graph.nodes[i].size for i in graph.inputs])[:-1], axis=1))
    return np.concatenate([values[i][0] for i in graph.outputs])


@st.composite
def problems(draw: st.DrawFn, operators: tuple[str, ...], **limits: int) -> tuple[Problem, int]:
    """A network of these operators over a box, and how many outputs it has."""
    drawn = draw(networks(operators=operators, **limits))
    box = draw(boxes(math.prod(drawn.input_shape)))
    n_out = math.prod(drawn.output_shape)
    ends = [(repr(float(a)), repr(float(b))) for a, b in zip(box.lower, box.upper, strict=True)]
    return compile_problem(load(drawn.model.SerializeToString()).graph, text(ends, n_out, unsafe(n_out))), n_out


@fast
@given(st.data())
def test_at_an_input_the_program_has_the_output_of_the_network_and_no_other(data: st.DataObject) -> None:
    """Piecewise-linear networks of every shape of map: the program is the graph of the function; the relaxation contains it."""
    bound, n_out = data.draw(problems(EXACT))
    asked = question(bound)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = sample(asked, rng)
    y = outputs_at(asked, x)
    program, relaxed = encode(asked), encode(asked, relax=True)
    assert not program.inexact and not relaxed.integral.any()
    inputs, outputs = columns_of(program, asked)
    k = int(rng.integers(n_out))
    low, high = ends(program, inputs, x, int(outputs[k]))
    assert abs(low - y[k]) <= 1e-5 * (1 + abs(y[k])) and abs(high - y[k]) <= 1e-5 * (1 + abs(y[k]))
    inputs, outputs = columns_of(relaxed, asked)
    low, high = ends(relaxed, inputs, x, int(outputs[k]))
    assert low - 1e-5 * (1 + abs(y[k])) <= y[k] <= high + 1e-5 * (1 + abs(y[k]))


@fast
@given(st.data())
def test_envelopes_leave_no_execution_out(data: st.DataObject) -> None:
    """Smooth functions and products: the output at an input is among the values of the program there, which says that it is wider."""
    operators = ("Gemm", "Relu", "Sigmoid", "Tanh", "Exp", "Sin", "Mul", "MatMul of two branches", "Softmax", "Pow")
    bound, n_out = data.draw(problems(operators, max_operators=4))
    asked = question(bound)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    x = sample(asked, rng)
    y = outputs_at(asked, x)
    known = [end for ends in (asked.lower, asked.upper) for end in ends.values()]
    assume(all((np.abs(end) < 1e4).all() for end in known))  # intervals of a softmax can be anything, and HiGHS has tolerances
    program = encode(asked)
    inputs, outputs = columns_of(program, asked)
    k = int(rng.integers(n_out))
    low, high = ends(program, inputs, x, int(outputs[k]))
    assert low - 1e-5 * (1 + abs(y[k])) <= y[k] <= high + 1e-5 * (1 + abs(y[k]))


@pytest.mark.parametrize("function", [*FUNCTIONS, STAIRS], ids=lambda f: f"{f.name}{f.slopes}")
def test_every_function_of_straight_pieces(function: Pieces) -> None:
    """Between, at and beyond its breakpoints the argument determines the value; at a jump the value and both limits are there, no more."""
    for lower, upper in ((-2.0, 2.0), (-2.0, -1.25), (-1.0, 0.5), (0.0, 0.0), (0.0, 1.5), (-0.75, 0.0), (0.5, 0.5), (1.0, 1.25)):
        eye = np.eye(1)
        graph = network([(eye, np.zeros(1)), (eye, np.zeros(1))], [function])
        asked = question(problem(graph, np.asarray([lower]), np.asarray([upper]), "(<= Y_0 0)"))
        asked = replace(asked, lower={**asked.lower, 1: asked.lower[0]}, upper={**asked.upper, 1: asked.upper[0]})  # not a unit wider
        program = encode(asked)
        inputs, outputs = columns_of(program, asked)
        points = [x for x in (lower, upper, (lower + upper) / 2, *function.breakpoints) if lower <= x <= upper]
        for x in points:
            limits = [float(function.value(np.asarray(x)))]
            if x in function.breakpoints:
                k = function.breakpoints.index(x)
                if lower < x:
                    limits.append(function.slopes[k] * x + function.intercepts[k])
                if x < upper:
                    limits.append(function.slopes[k + 1] * x + function.intercepts[k + 1])
            low, high = ends(program, inputs, np.asarray([x]), int(outputs[0]))
            assert low == pytest.approx(min(limits), abs=1e-6) and high == pytest.approx(max(limits), abs=1e-6)


def test_between_the_limits_of_a_jump_there_is_nothing() -> None:
    graph = network([(np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1))], [sign()])
    for unsafe_values, feasible in (("(and (<= Y_0 0.75) (>= Y_0 0.25))", False), ("(and (<= Y_0 0.25) (>= Y_0 -0.25))", True)):
        asked = question(problem(graph, -np.ones(1), np.ones(1), unsafe_values))
        highs = _load(encode(asked), math.inf, time_limit=60.0)
        highs.run()
        assert (highs.getInfo().objective_function_value <= 1e-6) == feasible
    assert _solved(encode(asked, relax=True), math.inf).getInfo().objective_function_value <= 0


@given(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from([*FUNCTIONS, STAIRS]))
def test_a_path_goes_through_every_value(a: float, b: float, function: Pieces) -> None:
    lower, upper = min(a, b), max(a, b)
    vertices = path(function, lower, upper)
    xs = [x for x, _ in vertices]
    assert xs == sorted(xs) and xs[0] == lower and xs[-1] == upper
    for x in np.linspace(lower, upper, 17).tolist():
        y = float(function.value(np.asarray(x)))
        near = 1e-5 * (1 + abs(y))
        on_a_step = any(
            p <= x <= q and abs(u + (v - u) * ((x - p) / (q - p) if q > p else 0) - y) <= near
            for (p, u), (q, v) in pairwise(vertices)
        )
        assert on_a_step or any(p == x and abs(u - y) <= near for p, u in vertices)


def test_only_what_the_atoms_read_is_encoded() -> None:
    layers = [(np.asarray([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.zeros(3)), (np.asarray([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]), np.zeros(2))]
    asked = question(problem(network(layers, [relu()]), -np.ones(2), np.ones(2), "(<= Y_0 0)"))
    program = encode(asked)
    assert [(program.columns[i] >= 0).tolist() for i in range(4)] == [[True, False], [True, False, False], [True, False, False], [True, False]]
    assert {(j, e) for _, j, e in program.sides.tolist()} == {(1, 0)}
    assert set(cone(asked.problem.graph, {3: np.asarray([False, False])})) == set()


def test_stable_neurons_have_no_binary() -> None:
    graph = network([(np.eye(2), np.asarray([3.0, -3.0])), (np.ones((1, 2)), np.zeros(1))], [relu()])
    program = encode(question(problem(graph, -np.ones(2), np.ones(2), "(<= Y_0 0)")))
    assert not program.integral.any() and not program.bends[2].element.size


def test_a_maximum_takes_one_of_its_window() -> None:
    """And one whose bounds are below another's is no candidate."""
    graph = network([(np.eye(4), np.asarray([0.0, 0.5, -9.0, 0.0]))], [])
    windows = np.asarray([[0, 1, 2], [3, 0, 2]])
    nodes = with_maximum(graph.nodes, windows, (1, 2))
    last = len(nodes) - 1
    graph = replace(graph, nodes=tuple(nodes), outputs=(last,), names={"x": 0, "y": last})
    asked = question(problem(graph, -np.ones(4), np.ones(4), "(and (<= Y_0 0) (<= Y_1 0))"))
    program = encode(asked)
    assert int(program.integral.sum()) == 2
    inputs, outputs = columns_of(program, asked)
    rng = np.random.default_rng(1)
    for x in rng.uniform(-1, 1, (6, 4)):
        for k, y in enumerate(outputs_at(asked, x)):
            assert ends(program, inputs, x, int(outputs[k])) == pytest.approx((y, y), abs=1e-6)


def test_what_cannot_be_encoded_is_named() -> None:
    graph = network([(np.eye(1), np.zeros(1)), (np.eye(1), np.zeros(1))], [sigmoid()])
    asked = question(problem(graph, -np.ones(1), np.ones(1), "(<= Y_0 0)"))
    assert encode(asked).inexact == ("node 2 (Elementwise, from nowhere)",)
    with pytest.raises(NotEncodable, match="node 1"):
        encode(replace(asked, upper={**asked.upper, 1: np.full(1, np.inf)}))
    for wrong in (np.full(1, 5.0), np.full(1, np.nan)):
        with pytest.raises(NotEncodable, match="contradict"):
            encode(replace(asked, lower={**asked.lower, 1: wrong}))


def test_a_relaxation_is_never_above_the_program() -> None:
    rng = np.random.default_rng(5)
    for function in FUNCTIONS:
        graph = network(random_layers(rng, (3, 4, 3, 2)), [function, function])
        asked = question(problem(graph, -np.ones(3), np.ones(3), "(and (<= Y_0 0) (<= Y_1 0.5))"))
        highs = _load(encode(asked), math.inf, time_limit=60.0, mip_rel_gap=0.0)
        highs.run()
        assert highs.modelStatusToString(highs.getModelStatus()) == "Optimal"
        exact = highs.getInfo().objective_function_value
        for cuts in (None, {}):
            assert _solved(encode(asked, relax=True, cuts=cuts), math.inf).getInfo().objective_function_value <= exact + 1e-6


def test_the_network_alone_has_no_cost_and_no_atoms() -> None:
    graph = network(random_layers(np.random.default_rng(2), (2, 3, 3, 1)), [relu(), relu()])
    program = encode_nodes(question(problem(graph, -np.ones(2), np.ones(2), "(<= Y_0 0)")), {3: np.asarray([True, False, True])}, relax=True)
    assert not program.cost.any() and not program.atoms.size and set(program.columns) == {0, 1, 2, 3} and program.columns[3].tolist()[1] == -1
