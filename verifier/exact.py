"""The value of a network over the reals at one point: enclosed in float64, or in exact rationals where that is affordable."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node
from graph.functions.facts import Pieces
from graph.linear_map import Composition, LinearMap
from graph.load import Model
from graph.selfcheck import UNIT, running_errors

Array = NDArray[Any]
Rational = list[Fraction]

MAX_TERMS = 50_000  # non-zero weights beyond which exact rationals take seconds


def enclose_outputs(model: Model, inputs: Sequence[Array]) -> tuple[Array, Array]:
    """Float64 outputs [n_out] and a bound of their distance from the exact ones (inf: none); one flat array per graph input."""
    states = running_errors(model.lowered, [x[None].astype(np.float64) for x in inputs], unit=UNIT["float64"])
    chosen = [states[i] for i in model.lowered.outputs]
    return np.concatenate([s.value[0] for s in chosen]), np.concatenate([s.error[0] for s in chosen])


def exact_outputs(model: Model, x: Array) -> Rational | None:
    """The outputs [n_out] at `x` [n_in] in exact rationals; None for networks that are large or not piecewise linear."""
    graph = model.lowered
    if not _affordable(graph):
        return None
    given, values = [Fraction(float(v)) for v in x], list[Rational]()
    for _, node in graph:
        values.append(_take(given, node.size) if isinstance(node, Input) else _value(graph, node, [values[j] for j in node.inputs]))
    return [v for i in graph.outputs for v in values[i]]


def _take(queue: Rational, count: int) -> Rational:
    head = queue[:count]
    del queue[:count]
    return head


def _affordable(graph: Graph) -> bool:
    terms = sum(m.out_size * m.fan_in() for _, node in graph if isinstance(node, Affine) for m in node.maps)
    linear = all(not isinstance(node, Elementwise) or isinstance(node.function, Pieces) for _, node in graph)
    in_order = [i for i, node in graph if isinstance(node, Input)] == list(graph.inputs)
    # The matrix of a composition would be a rounded product; the lowered graph has none.
    single = not any(isinstance(m, Composition) for _, node in graph if isinstance(node, Affine) for m in node.maps)
    return terms <= MAX_TERMS and linear and single and in_order and not any(isinstance(node, Bilinear) and node.kind != "mul" for _, node in graph)


def _value(graph: Graph, node: Node, x: list[Rational]) -> Rational:
    match node:
        case Constant(value=value):
            return [Fraction(float(v)) for v in value]
        case Affine(maps=maps, bias=bias):
            total = [Fraction(0)] * node.size if bias is None else [Fraction(float(b)) for b in bias]
            for m, operand in zip(maps, x, strict=True):
                total = [t + y for t, y in zip(total, _apply(m, operand), strict=True)]
            return total
        case Elementwise(function=Pieces() as function):
            return [value_at(function, v) for v in x[0]]
        case Bilinear(kind="mul"):
            return [a * b for a, b in zip(x[0], x[1], strict=True)]
        case Max(windows=windows):
            return [max(x[0][j] for j in window if j >= 0) for window in windows.tolist()]
        case _:
            raise NotImplementedError(f"no exact evaluation of a {type(node).__name__} node")


def _apply(m: LinearMap, x: Rational) -> Rational:
    """Through the matrix of a map that is not a composition: its entries are the weights themselves, unrounded."""
    matrix = m.rows(np.arange(m.out_size))
    return [sum((Fraction(float(row[j])) * x[j] for j in np.flatnonzero(row)), Fraction(0)) for row in matrix]


def value_at(function: Pieces, x: Fraction) -> Fraction:
    """function(x) in exact rationals."""
    for at, value in zip(function.breakpoints, function.values, strict=True):
        if x == Fraction(at):
            return Fraction(value)
    piece = sum(x > Fraction(at) for at in function.breakpoints)
    return Fraction(function.slopes[piece]) * x + Fraction(function.intercepts[piece])
