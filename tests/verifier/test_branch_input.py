"""Which input to halve: what the scores say of small networks where it is known, and the boxes that they cost."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from onnx import helper
from small_networks import linear, model, relu_net, text

from bounds.torch_graph import TorchGraph
from graph.evaluate import evaluate
from graph.load import Model
from specs.canonical import Property
from verifier import branch_input
from verifier.bounding import Bounder, Margins
from verifier.branch_input import Branching, Seen
from verifier.budget import Budget
from verifier.domains import Boxes
from verifier.groups import group_cases
from verifier.input_search import InputSearch
from verifier.problem import Problem, compile_problem

RANDOM = np.random.default_rng(11)
DTYPES = (torch.float32, torch.float64)


def problem_of(net: Model, prop: Property) -> Problem:
    return compile_problem(net.graph, prop)


def bounder_of(problem: Problem, dtype: torch.dtype = torch.float32) -> Bounder:
    return Bounder(problem, group_cases(problem, np.arange(len(problem.case_box))), TorchGraph(problem.graph, dtype), 1 << 20)


def boxes_of(problem: Problem, bounder: Bounder) -> Boxes:
    box, count = torch.from_numpy(bounder.groups.box), len(bounder.groups)
    low, high = (torch.from_numpy(side).to(bounder.net.dtype)[box] for side in (problem.lower, problem.upper))
    return Boxes(
        low, high, torch.arange(count), torch.from_numpy(bounder.groups.slots), torch.full((count,), -torch.inf, dtype=bounder.net.dtype),
        torch.zeros(count, dtype=torch.long), torch.arange(count),
    )


def bounded(problem: Problem, dtype: torch.dtype) -> tuple[Bounder, Boxes, Margins]:
    bounder = bounder_of(problem, dtype)
    boxes = boxes_of(problem, bounder)
    return bounder, boxes, bounder.bound(boxes.lower, boxes.upper, boxes.group, boxes.is_open)


def ways(problem: Problem) -> list[Branching]:
    return [branch_input.balanced(), branch_input.longest(), branch_input.smart(), branch_input.loose(problem.graph)]


def product_net() -> Model:
    """y = (x A + 3)(x B) + tanh(max(x C, x D)), elementwise, and a matrix product that it ends with."""
    nodes = [helper.make_node("MatMul", ["x", name], [f"x{name}"]) for name in "abcd"] + [
        helper.make_node("Add", ["xa", "three"], ["left"]),
        helper.make_node("Mul", ["left", "xb"], ["product"]),
        helper.make_node("Max", ["xc", "xd"], ["largest"]),
        helper.make_node("Tanh", ["largest"], ["t"]),
        helper.make_node("Add", ["product", "t"], ["s"]),
        helper.make_node("Transpose", ["xa"], ["column"], perm=[1, 0]),
        helper.make_node("MatMul", ["column", "s"], ["square"]),
        helper.make_node("ReduceSum", ["square"], ["y"], keepdims=1),
    ]
    weights = {name: RANDOM.normal(size=(3, 2)) for name in "abcd"}
    return model(nodes, 3, 1, three=np.full((1, 2), 3.0), **weights)


NETS = {
    "relu": (relu_net(RANDOM.normal(size=(4, 9)), RANDOM.normal(size=9), RANDOM.normal(size=(9, 2)), np.zeros(2)), 4, 2),
    "products, maxima": (product_net(), 3, 1),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_scores_are_finite_and_not_negative(name: str, dtype: torch.dtype) -> None:
    net, n_in, n_out = NETS[name]
    problem = problem_of(net, text([("-1", "1")] * n_in, n_out, "(<= Y_0 -100.0)"))
    for way in ways(problem):
        score = way.score(Seen.of(*bounded(problem, dtype)))
        assert score.shape == (1, n_in) and bool(score.isfinite().all()) and bool((score >= 0).all()) and bool((score > 0).any()), way.name


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("way", range(4))
def test_a_search_goes_on_in_double_with_any_score(name: str, way: int) -> None:
    """Regression: `loose` kept its own bounder, and multiplied numbers of one precision by those of another after a change."""
    net, n_in, n_out = NETS[name]
    problem = problem_of(net, text([("-1", "1")] * n_in, n_out, "(<= Y_0 -2.0)"))
    bounder = bounder_of(problem)
    search = InputSearch(bounder, boxes_of(problem, bounder), ways(problem)[way], 8, None, 1 << 30)
    search.run(Budget(float("inf")), 4)
    search.bounder = bounder.in_double()
    search.run(Budget(float("inf")), 40)
    assert search.tally.nodes >= 40 or search.finished


def test_shares_add_up_to_what_relaxations_lose() -> None:
    """Of a ReLU network all of it comes down to the inputs."""
    net, n_in, n_out = NETS["relu"]
    problem = problem_of(net, text([("-1", "1")] * n_in, n_out, "(<= Y_0 -100.0)"))
    bounder, _, found = bounded(problem, torch.float64)
    (i,) = [i for i, node in problem.graph if type(node).__name__ == "Elementwise"]
    low, high = (side[problem.graph.nodes[i].inputs[0]] for side in (found.state.lower, found.state.upper))
    weight = torch.from_numpy(RANDOM.uniform(size=low.shape))
    bent = (low < 0) & (high > 0)
    gap = torch.where(bent, torch.where(high > -low, -low, high), 0.0)  # between the chord and the line of slope 0 or 1, at one end
    assert bool(bent.any()) and torch.allclose(branch_input._shared(bounder, found.state, {i: weight}).sum(-1), (weight * gap).sum(-1))


def test_an_input_that_nothing_is_loose_in_is_not_halved_first() -> None:
    """y = 5 x_0 + |x_1|: bounds of x_1 are loose, those of x_0 exact, though they change most along it."""
    absolute = relu_net(np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]), np.zeros(4), np.array([[5.0], [-5.0], [1.0], [1.0]]), np.zeros(1))
    problem = problem_of(absolute, text([("1", "2"), ("-1", "2")], 1, "(<= Y_0 4.9)"))
    bounder, boxes, found = bounded(problem, torch.float64)
    assert float(found.lower.coefficients[0, 0, 0].abs()) > 4
    assert int(branch_input.balanced().score(Seen.of(bounder, boxes, found)).argmax()) == 1


def test_where_nothing_is_known_the_widest_input_comes_first() -> None:
    """A linear network loses nothing along any input; what cannot be closed is still halved somewhere."""
    problem = problem_of(linear(np.zeros((3, 1))), text([("0", "1"), ("0", "3"), ("0", "2")], 1, "(<= Y_0 0.0)"))
    bounder, boxes, found = bounded(problem, torch.float32)
    assert int(branch_input.balanced().score(Seen.of(bounder, boxes, found)).argmax()) == 1


def test_where_a_node_has_no_bounds_the_widest_input_is_halved() -> None:
    """1 / (x_0 + x_1): infinite until the box is away from the pole, along whichever input."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Reciprocal", ["h"], ["y"])]
    problem = problem_of(model(nodes, 2, 1, w=np.ones((2, 1))), text([("0", "1"), ("-0.5", "3")], 1, "(<= Y_0 -100.0)"))
    bounder, boxes, found = bounded(problem, torch.float64)
    assert not bool(found.state.upper[-1].isfinite().all())
    (halving,) = branch_input.split(boxes, branch_input.balanced().score(Seen.of(bounder, boxes, found)), 1, 1)[2]
    assert halving.dim.tolist() == [1] and halving.threshold.tolist() == [1.25]


def deep_net(seed: int) -> Model:
    """Four inputs, of which the last hardly matters, and three layers of 16 ReLUs."""
    rng = np.random.default_rng(seed)
    sizes = (4, 16, 16, 16, 1)
    weights = {f"w{k}": rng.normal(size=(n, m)) * np.sqrt(2 / n) for k, (n, m) in enumerate(pairwise(sizes))}
    weights["w0"][3] *= 0.02
    biases = {f"b{k}": rng.normal(size=m) * 0.2 for k, m in enumerate(sizes[1:])}
    nodes, at = [], "x"
    for k in range(4):
        nodes.append(helper.make_node("Gemm", [at, f"w{k}", f"b{k}"], [f"h{k}" if k < 3 else "y"]))
        if k < 3:
            nodes.append(helper.make_node("Relu", [f"h{k}"], [f"r{k}"]))
            at = f"r{k}"
    return model(nodes, 4, 1, **weights, **biases)


def boxes_for(problem: Problem, way: Branching, most: int) -> int:
    bounder = bounder_of(problem)
    search = InputSearch(bounder, boxes_of(problem, bounder), way, 32, None, 1 << 30)
    search.run(Budget(float("inf")), most)
    return search.tally.nodes if search.proven else most


def hard(net: Model) -> Property:
    """y stays above a little less than its least value at 20,000 points."""
    values = evaluate(net.graph, [np.random.default_rng(1).uniform(-1, 1, (20_000, 4))])[net.graph.outputs[0]]
    return text([("-1", "1")] * 4, 1, f"(<= Y_0 {values.min() - 0.05 * np.ptp(values):.6f})")


def test_far_fewer_boxes_than_by_width_alone() -> None:
    """Deep networks near the decision boundary, with an input that hardly matters."""
    spent = []
    for seed in range(4):
        net = deep_net(seed)
        problem = problem_of(net, hard(net))
        spent.append([boxes_for(problem, way, 8_000) for way in (branch_input.balanced(), branch_input.longest())])
    print(spent)
    assert sum(a for a, _ in spent) < sum(b for _, b in spent) / 2 and all(a < 8_000 for a, _ in spent)
