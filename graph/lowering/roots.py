"""Roots: what is under them may be known to be never negative although its bounds, by their rounding, reach below 0."""

from __future__ import annotations

from collections.abc import Sequence

from graph.core import Affine, Elementwise, Node
from graph.functions import build
from graph.functions.facts import Pieces, Smooth
from graph.lowering.builder import Builder, Tensor, Value
from graph.lowering.operator import Operator


def root(builder: Builder, x: Tensor, p: int) -> Tensor:
    """x^(1/p) for x >= 0. Where x is made so that it is, of max(x, 0): the same number, and its bounds have a root."""
    return x if p == 1 else builder.elementwise(build("sqrt") if p == 2 else build("pow", 1 / p), radicand(builder, x))


def radicand(builder: Builder, x: Tensor) -> Tensor:
    """max(x, 0) where x is made so that it is never negative, else x."""
    return builder.elementwise(build("relu"), x) if never_negative(builder.nodes, x.node) else x


def never_negative(nodes: Sequence[Node], i: int) -> bool:
    """Whether node i adds even powers, absolute values or the like, each as often as 0 or more says. (The checker decides in the same way.)"""
    match nodes[i]:
        case Elementwise(function=Pieces() as f):
            return f.breakpoints == (0.0,) and f.slopes[0] <= 0 <= f.slopes[1] and not any((*f.intercepts, *f.values))
        case Elementwise(inputs=(j,), function=Smooth() as f):
            return f.name == "pow" and ((f.parameter is not None and f.parameter % 2 == 0) or never_negative(nodes, j))
        case Affine(inputs=inputs, maps=maps, bias=bias):
            adds = (bias is None or bool((bias >= 0).all())) and all(m.adds for m in maps)
            return adds and all(never_negative(nodes, j) for j in inputs)
    return False


def lower_sqrt(op: Operator) -> Value:
    """The square root."""
    return root(op.builder, op.variable(0), 2)
