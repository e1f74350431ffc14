"""Networks and questions for the tests of the linear encodings, and the truth about them by enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import highspy
import numpy as np
from numpy.typing import NDArray
from small_networks import decimal, text

from bounds.interval import propagate
from graph.core import Affine, Elementwise, Graph, Input, Node, Origin, check
from graph.functions.facts import Function
from graph.linear_map import Dense
from verifier.problem import Problem, compile_problem
from verifier.solver import Question

Array = NDArray[Any]
Layer = tuple[Array, Array]  # weight [out, in], bias [out]


def network(layers: Sequence[Layer], functions: Sequence[Function]) -> Graph:
    """An affine layer, a function, an affine layer, ...: one function fewer than layers."""
    nodes: list[Node] = [Input((1, layers[0][0].shape[1]), (), Origin(), "x")]
    for k, (weight, bias) in enumerate(layers):
        n_out, n_in = weight.shape
        nodes.append(Affine((1, n_out), (len(nodes) - 1,), Origin(), (Dense((1, n_in), (1, n_out), weight),), bias))
        if k < len(functions):
            nodes.append(Elementwise((1, n_out), (len(nodes) - 1,), Origin(), functions[k]))
    last = len(nodes) - 1
    return check(Graph(tuple(nodes), (0,), (last,), ("y",), {"x": 0, "y": last}))


def random_layers(rng: np.random.Generator, sizes: Sequence[int]) -> list[Layer]:
    """Weights and biases that are multiples of 1/64, so that nothing is lost in a decimal."""
    return [(np.round(rng.normal(size=(m, n)) * 64) / 64, np.round(rng.normal(size=m) * 32) / 64) for n, m in pairwise(sizes)]


def problem(graph: Graph, lower: Array, upper: Array, unsafe: str) -> Problem:
    """`graph` over a box of doubles with a formula for what is unsafe."""
    box = [(decimal(float(a)), decimal(float(b))) for a, b in zip(lower, upper, strict=True)]
    return compile_problem(graph, text(box, sum(graph.nodes[i].size for i in graph.outputs), unsafe))


def question(bound: Problem, case: int = 0) -> Question:
    """With interval bounds."""
    box = bound.case_box[case]
    states = propagate(bound.graph, bound.lower[box : box + 1], bound.upper[box : box + 1])
    return Question(bound, case, {i: s[0][0] for i, s in enumerate(states)}, {i: s[1][0] for i, s in enumerate(states)})


def least(layers: Sequence[Layer], lower: Array, upper: Array, rows: Array, bounds: Array) -> float:
    """The minimum over the box of max_k rows_k y - bounds_k of a ReLU network, by one linear program for every pattern of signs.

    In the input alone, so that it has nothing in common with the encoder.
    """
    hidden = [len(bias) for _, bias in layers[:-1]]
    best = np.inf
    for pattern in product((0.0, 1.0), repeat=sum(hidden)):
        weight, bias, rest = np.eye(lower.size), np.zeros(lower.size), list(pattern)
        sides: list[tuple[Array, float]] = []  # a x <= b
        for k, (w, c) in enumerate(layers):
            weight, bias = w @ weight, w @ bias + c
            if k < len(hidden):
                on, rest = np.asarray(rest[: hidden[k]]), rest[hidden[k] :]
                sides += [(a * (1 - 2 * s), -b * (1 - 2 * s)) for a, b, s in zip(weight, bias, on, strict=True)]
                weight, bias = weight * on[:, None], bias * on
        best = min(best, _least_of_cell(lower, upper, sides, rows @ weight, rows @ bias - bounds))
    return best


def _least_of_cell(lower: Array, upper: Array, sides: list[tuple[Array, float]], rows: Array, constants: Array) -> float:
    """The minimum of max_k rows_k x + constants_k over the box and the half-spaces; +inf if they have no point in common."""
    highs = highspy.Highs()
    highs.silent()
    n = lower.size
    for a, b in zip(lower, upper, strict=True):
        highs.addVar(float(a), float(b))
    highs.addVar(-highspy.kHighsInf, highspy.kHighsInf)
    highs.changeColCost(n, 1.0)
    for a, b in sides:
        highs.addRow(-highspy.kHighsInf, float(b), n, np.arange(n), a.astype(np.float64))
    for row, constant in zip(rows, constants, strict=True):
        highs.addRow(-highspy.kHighsInf, float(-constant), n + 1, np.arange(n + 1), np.append(row, -1.0))
    highs.run()
    return float(highs.getInfo().objective_function_value) if highs.getModelStatus() == highspy.HighsModelStatus.kOptimal else np.inf
