"""Atoms that only compare outputs of one softmax: over the reals they say the same of its arguments."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Elementwise, Graph, Node
from graph.functions import build
from graph.linear_map import Gather, LinearMap, Reshape, compose
from graph.simplify import drop_dead
from verifier.problem import Problem

Array = NDArray[np.int64]


def by_arguments(problem: Problem) -> Problem:
    """The problem with the arguments of a softmax in the place of an output, where every atom that speaks of that output is a (y_j - y_k) <= 0
    with j, k in one row, and of nothing else: exp rises, and a row is divided by one positive number. The checker does so for itself
    (`verifier/checker/orders.py`). Not for float32, where different arguments may have equal values."""
    graph, start = problem.graph, 0
    for k, o in enumerate(graph.outputs):
        places = range(start, start + graph.nodes[o].size)
        start = places.stop
        found = _argument(problem.graph, o)
        if found is not None and _only_orders(problem, places, found[1] // problem.graph.nodes[found[0]].shape[-1]):
            graph = _with_output(graph, k, *found)
    return problem if graph is problem.graph else replace(problem, graph=drop_dead(graph))


def _argument(graph: Graph, o: int) -> tuple[int, Array] | None:
    """The shifted argument of the softmax whose elements in another order are node o, and which of them these are; None if there is none."""
    order = np.arange(graph.nodes[o].size)
    while isinstance(node := graph.nodes[o], Affine):
        if len(node.maps) != 1 or node.bias is not None or not _moves(node.maps[0]):
            return None
        place = node.maps[0].apply(1.0 + np.arange(graph.nodes[node.inputs[0]].size)[None])[0].astype(np.int64) - 1
        if (place < 0).any():
            return None
        order, o = place[order], node.inputs[0]
    if isinstance(node, Elementwise) and node.function == build("clip", 0.0, 1.0):
        node = graph.nodes[node.inputs[0]]
    if not (isinstance(node, Bilinear) and node.kind == "mul"):
        return None
    for weight, inverse in (node.inputs, node.inputs[::-1]):
        if (s := _exponent(graph, weight)) in graph.shifts and _divides(graph, inverse, weight):
            return s, order
    return None


def _moves(m: LinearMap) -> bool:
    return isinstance(compose(m, Reshape(m.out_shape, m.out_shape)), Reshape | Gather)


def _exponent(graph: Graph, i: int) -> int:
    node = graph.nodes[i]
    return node.inputs[0] if isinstance(node, Elementwise) and node.function.name == "exp" else -1


def _divides(graph: Graph, i: int, weight: int) -> bool:
    """Whether node i repeats the reciprocals of sums of node `weight`."""
    node: Node = graph.nodes[i]
    while isinstance(node, Affine) and len(node.inputs) == 1 and node.bias is None and _moves(node.maps[0]):
        node = graph.nodes[node.inputs[0]]
    total = graph.nodes[node.inputs[0]] if isinstance(node, Elementwise) and node.function.name == "reciprocal" else None
    return isinstance(total, Affine) and total.inputs == (weight,) and total.bias is None


def _only_orders(problem: Problem, places: range, row: Array) -> bool:
    of, seen = problem.functionals, False
    for f in range(len(of)):
        part = slice(int(of.start[f]), int(of.start[f + 1]))
        at, factor = of.place[part], of.coefficient[part]
        if not any(int(p) in places for p in at):
            continue
        seen = True
        if len(at) != 2 or not all(int(p) in places for p in at) or factor.sum() != 0 or len({*row[at - places.start].tolist()}) != 1:
            return False
        if (problem.case_bounds[problem.case_rows == f] != 0).any():
            return False
    return seen


def _with_output(graph: Graph, k: int, s: int, order: Array) -> Graph:
    source = graph.nodes[s]
    nodes, i = list(graph.nodes), s
    if not np.array_equal(order, np.arange(source.size)):
        shape = graph.nodes[graph.outputs[k]].shape
        nodes.append(Affine(shape, (s,), source.origin, (Gather(source.shape, shape, order),)))
        i = len(nodes) - 1
    outputs = (*graph.outputs[:k], i, *graph.outputs[k + 1 :])
    return replace(graph, nodes=tuple(nodes), outputs=outputs, names={**graph.names, graph.output_names[k]: i})
