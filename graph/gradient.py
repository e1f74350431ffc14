"""Which way a core graph's values move with its inputs, in numpy: hints for searches. No proof reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node
from graph.errors import MalformedGraph
from graph.evaluate import take_windows

Array = NDArray[Any]

STEP = 2.0**-10  # what a function is taken as straight over, of 1 + |x|, to either side


def gradient(graph: Graph, values: Sequence[Array], towards: Mapping[int, Array]) -> dict[int, Array]:
    """For every input node the gradient [B, size] of sum_k <towards[k], value of node k> at the points with these `values`.

    `values` [B, size] of every node (`graph.evaluate.evaluate`); `towards` [B, size] by node. Elementwise functions count by their
    difference quotient over 2 `STEP` (1 + |x|), so that a kink has a slope between those of its sides; what is not finite counts as 0.
    An input that nothing depends on has gradient 0.
    """
    held = {k: np.asarray(d) for k, d in towards.items()}
    for i in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[i]
        if i in held and not isinstance(node, Input):
            d = held.pop(i)
            with np.errstate(all="ignore"):
                parts = _parts(graph, node, d, [values[j] for j in node.inputs])
            for j, part in zip(node.inputs, parts, strict=True):
                part = np.where(np.isfinite(part), part, 0)
                held[j] = held[j] + part if j in held else part
    return {i: held.get(i, np.zeros_like(values[i])) for i in graph.inputs}


def _parts(graph: Graph, node: Node, d: Array, x: Sequence[Array]) -> list[Array]:
    """What each input of a node gets of the node's gradient `d`."""
    match node:
        case Constant():
            return []
        case Affine(maps=maps):
            return [m.adjoint(d) for m in maps]
        case Elementwise(function=function):
            reach = STEP * (1 + np.abs(x[0]))
            low, high = x[0] - reach, x[0] + reach
            return [d * (function.value(high) - function.value(low)) / (high - low)]
        case Bilinear(kind="mul"):
            return [d * x[1], d * x[0]]
        case Bilinear(kind="matmul"):
            left, right = (v.reshape(len(d), *graph.nodes[j].shape) for v, j in zip(x, node.inputs, strict=True))
            grid = d.reshape(len(d), *node.shape)
            return [(grid @ right.swapaxes(-1, -2)).reshape(x[0].shape), (left.swapaxes(-1, -2) @ grid).reshape(x[1].shape)]
        case Max(windows=windows):
            largest = take_windows(x[0], windows, -np.inf).argmax(axis=-1)
            part = np.zeros_like(x[0])
            np.add.at(part, (np.arange(len(d))[:, None], windows[np.arange(len(windows)), largest]), d)
            return [part, np.zeros_like(x[1]), np.zeros_like(x[2])]  # what its other operands say is in x
        case _:
            raise MalformedGraph(f"no gradient of a {type(node).__name__} node")
