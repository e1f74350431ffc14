"""What bounding a network over one box comes to: elements that stay undecided, work and memory of every method."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bounds.interval import propagate
from bounds.library import outward, parameters
from bounds.linear import LinearBounds, State
from bounds.torch_graph import TorchGraph
from graph.core import Affine, Bilinear, Elementwise, Graph, Max, Node
from graph.functions.facts import Pieces
from graph.load import Model
from graph.simplify import recentre_softmax
from specs.errors import PropertyError
from specs.vnnlib import read
from verifier.portfolio import CONSTANTS
from verifier.problem import compile_problem

Array = NDArray[Any]
Mask = NDArray[np.bool_]
CROWN, OPTIMISED = "linear (CROWN)", "linear, optimised slopes"

VISIT = 1e-4  # seconds that a rule takes in Python, whatever the size of its node
LINEAR_LIMIT = 2_000_000_000_000  # products: what costs more is estimated and not done


@dataclass(frozen=True)
class Undecided:
    """A node that is not linear: its elements, and those that intervals and linear bounds (None: not computed) leave undecided over the box.

    Undecided is a piecewise function with a breakpoint inside the bounds, a smooth one or a product of which no factor is fixed, and a
    maximum that several arguments may attain.
    """

    node: int
    kind: str
    tensor: str
    elements: int
    by_interval: int
    by_linear: int | None


@dataclass(frozen=True)
class Cost:
    """An estimate, for one box and one row of the output: bytes, and seconds at the speed that this machine has just shown."""

    method: str
    bytes: int
    products: int
    seconds: float


@dataclass(frozen=True)
class Inspection:
    """`box` in words."""

    box: str
    undecided: tuple[Undecided, ...]
    costs: tuple[Cost, ...]


def over_property(model: Model, path: str) -> Inspection:
    """The network over the first box of the property in file `path`. Raises PropertyError."""
    problem = compile_problem(model.graph, read(path))
    if not len(problem.lower):
        raise PropertyError(f"{path}: it has no box that is not empty")
    others = f", the first of {len(problem.lower)}" if len(problem.lower) > 1 else ""
    return inspect(problem.graph, problem.lower[0], problem.upper[0], f"the box of {path}{others}")


def around(model: Model, centre: float, radius: float) -> Inspection:
    """The network over the box of `radius` around the point all of whose inputs are `centre`."""
    point = np.full(sum(info.size for info in model.inputs), centre)
    graph = recentre_softmax(model.graph, np.split(point, np.cumsum([info.size for info in model.inputs])[:-1]))
    return inspect(graph, point - radius, point + radius, f"the box of radius {radius:g} around {centre:g}")


def inspect(graph: Graph, lower: Array, upper: Array, box: str) -> Inspection:
    """Bound every node over lower <= x <= upper, both [n_in]. Linear bounds are left out where they would take very long."""
    intervals = propagate(graph, lower[None], upper[None])
    by_interval = {i: _undecided(graph, node, [(intervals[j][0][0], intervals[j][1][0]) for j in node.inputs]) for i, node in _nonlinear(graph)}
    costs = estimate(graph, {i: int(mask.sum()) for i, mask in by_interval.items()})
    linear: dict[int, Mask] = {}
    if next(cost.products for cost in costs if cost.method == CROWN) <= LINEAR_LIMIT:
        state = _linear(graph, lower, upper)
        ends = [(low[0].numpy(), high[0].numpy()) for low, high in zip(state.lower, state.upper, strict=True)]
        linear = {i: _undecided(graph, node, [ends[j] for j in node.inputs]) for i, node in _nonlinear(graph)}
    rows = []
    for i, node in _nonlinear(graph):
        tensor = node.origin.site[0] if node.origin.site else ""
        rows.append(Undecided(i, _kind(node), tensor, node.size, int(by_interval[i].sum()), int(linear[i].sum()) if linear else None))
    return Inspection(box, tuple(rows), costs)


def _nonlinear(graph: Graph) -> list[tuple[int, Node]]:
    return [(i, node) for i, node in graph if isinstance(node, Elementwise | Bilinear)]


def _kind(node: Node) -> str:
    match node:
        case Elementwise(function=function):
            return function.name
        case Bilinear(kind=kind):
            return f"product ({kind})"
        case Max():
            return "maximum"
        case _:
            raise NotImplementedError(f"a {type(node).__name__} node has no name here")


def _linear(graph: Graph, lower: Array, upper: Array) -> State:
    low, high = (outward(torch.from_numpy(x[None]), torch.float32, side) for x, side in ((lower, -1), (upper, 1)))
    with torch.no_grad():
        return LinearBounds(TorchGraph(graph, torch.float32)).propagate(low, high)


def _undecided(graph: Graph, node: Node, ends: Sequence[tuple[Array, Array]]) -> Mask:
    """Which elements of a non-linear node are not linear between the bounds `ends` of its operands."""
    low, high = ends[0]
    match node:
        case Elementwise(function=Pieces(breakpoints=breakpoints)):
            return np.asarray(np.any([(low < at) & (at < high) for at in (*breakpoints, np.inf)], axis=0))
        case Elementwise():
            return np.asarray(~(low == high))
        case Bilinear(kind="mul"):
            return np.asarray(~(low == high) & ~(ends[1][0] == ends[1][1]))
        case Bilinear():
            rows, columns = (~(a == b).reshape(graph.nodes[j].shape) for (a, b), j in zip(ends, node.inputs, strict=True))
            both = rows.astype(np.int64) @ columns.astype(np.int64)
            return np.asarray((both > 0).reshape(-1))
        case Max(windows=windows):
            there = windows >= 0
            below = np.where(there, low[np.maximum(windows, 0)], -np.inf).max(-1, keepdims=True)
            return np.asarray((there & ~(high[np.maximum(windows, 0)] < below)).sum(-1) > 1)
        case _:
            raise NotImplementedError(f"nothing says when a {type(node).__name__} node is undecided")


# ---------------------------------------------------------------- costs


def estimated_products(graph: Graph, lower: Array, upper: Array) -> int:
    """Of linear bounds (CROWN) over one box; an estimate from above, since intervals leave more undecided than linear bounds do."""
    intervals = propagate(graph, lower[None], upper[None])
    counts = {i: int(_undecided(graph, node, [(intervals[j][0][0], intervals[j][1][0]) for j in node.inputs]).sum()) for i, node in _nonlinear(graph)}
    return next(cost.products for cost in estimate(graph, counts) if cost.method == CROWN)


def estimate(graph: Graph, undecided: dict[int, int]) -> tuple[Cost, ...]:
    """Of intervals, forward linear bounds, backward linear bounds, and these with optimised slopes, for one box.

    Backwards, every undecided element is a row that is multiplied with all layers below it, twice (lower and upper).
    """
    below: list[int] = []
    for _, node in graph:
        below.append(_products(graph, node) + max((below[j] for j in node.inputs), default=0))
    total = sum(_products(graph, node) for _, node in graph)
    weights = sum(array.size for array in parameters(graph).values())
    states = 6 * sum(node.size for _, node in graph)
    steps = CONSTANTS.root_steps
    inputs, widest = sum(graph.nodes[i].size for i in graph.inputs), max(node.size for _, node in graph)
    rows = {i: count * len(graph.nodes[i].inputs) for i, count in undecided.items()}
    backward = sum(2 * count * max(below[j] for j in graph.nodes[i].inputs) for i, count in rows.items()) + 2 * below[max(graph.outputs)]
    block = 3 * min(1 << 26, 2 * 4 * widest * max([1, *rows.values()]))
    speed, nodes, passes = _speed(), len(graph.nodes), 1 + sum(1 for count in rows.values() if count)
    found = (
        ("interval", 8 * (weights + states), 2 * total, nodes),
        ("linear, forward", 4 * (weights + states + 4 * widest * inputs), 2 * total * (inputs + 1), nodes),
        (CROWN, 4 * (weights + states) + block, backward, nodes * passes),
        (OPTIMISED, 4 * (weights + 2 * states) + 2 * block, backward + 3 * steps * 2 * below[max(graph.outputs)], nodes * (passes + 3 * steps)),
    )
    return tuple(Cost(name, size, work, work / speed + VISIT * visits) for name, size, work, visits in found)


def _products(graph: Graph, node: Node) -> int:
    match node:
        case Affine(maps=maps):
            return sum(m.fan_in() * m.out_size for m in maps) + node.size
        case Bilinear(kind="matmul"):
            return node.size * graph.nodes[node.inputs[0]].shape[-1]
        case Max(windows=windows):
            return int(windows.size)
        case _:
            return node.size


def _speed() -> float:
    """Products a second that passes reach here: a tenth of what a product of matrices does."""
    a = torch.ones(384, 384, dtype=torch.float32)
    best = np.inf
    for _ in range(5):
        began = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - began)
    return 0.1 * 384**3 / best
