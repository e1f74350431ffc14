"""Concrete evaluation of a core graph in numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from graph.core import Affine, Bilinear, Constant, Elementwise, Graph, Input, Max, Node
from graph.errors import MalformedGraph

Array = NDArray[Any]
FEW_TAPS = 16  # of a window


def evaluate(graph: Graph, inputs: Mapping[str, Array] | Sequence[Array], dtype: DTypeLike = np.float64) -> list[Array]:
    """The value of every node, flat and batched: [B, node.size], in `dtype` (float32 or float64).

    `inputs` by name, or in the order of `graph.inputs`; each of any shape that flattens to (B, size). Where the exact
    value overflows or an argument leaves a function's domain the result is Inf or NaN; the caller tests for it.
    Raises MalformedGraph for missing inputs or unequal batch sizes.
    """
    arrays, batch = input_values(graph, inputs, dtype)
    values: list[Array] = []
    for i, node in graph:
        value = arrays[i] if isinstance(node, Input) else node_value(graph, node, [values[j] for j in node.inputs], batch)
        values.append(value.astype(dtype, copy=False))
    return values


def input_values(graph: Graph, inputs: Mapping[str, Array] | Sequence[Array], dtype: DTypeLike) -> tuple[dict[int, Array], int]:
    """The flat batched value of every Input node, and the batch size. Raises MalformedGraph for missing or uneven inputs."""
    if isinstance(inputs, Mapping) and set(inputs) != set(graph.input_names):
        raise MalformedGraph(f"inputs {sorted(inputs)} given to a graph with inputs {sorted(graph.input_names)}")
    given = [inputs[name] for name in graph.input_names] if isinstance(inputs, Mapping) else list(inputs)
    if len(given) != len(graph.inputs):
        raise MalformedGraph(f"{len(given)} inputs given to a graph with {len(graph.inputs)}")
    arrays = {i: np.asarray(x, dtype=dtype).reshape(-1, graph.nodes[i].size) for i, x in zip(graph.inputs, given, strict=True)}
    batches = {len(x) for x in arrays.values()}
    if len(batches) != 1:
        raise MalformedGraph(f"inputs with different batch sizes: {sorted(batches)}")
    return arrays, batches.pop()


def node_value(graph: Graph, node: Node, x: Sequence[Array], batch: int) -> Array:
    """The value [batch, node.size] of a node (not an Input) from the values `x` of its inputs."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _node_value(graph, node, x, batch)


def _node_value(graph: Graph, node: Node, x: Sequence[Array], batch: int) -> Array:
    match node:
        case Constant(value=value):
            return np.broadcast_to(value, (batch, value.size))
        case Affine(maps=maps, bias=bias):
            total = maps[0].apply(x[0])
            for m, operand in zip(maps[1:], x[1:], strict=True):
                total = total + m.apply(operand)
            return total if bias is None else total + bias
        case Elementwise(function=function):
            return function.value(x[0])
        case Bilinear(kind="mul"):
            return x[0] * x[1]
        case Bilinear(kind="matmul"):
            left, right = (v.reshape(batch, *graph.nodes[j].shape) for v, j in zip(x, node.inputs, strict=True))
            return (left @ right).reshape(batch, node.size)
        case Max(windows=windows):
            return largest(x[0], windows, -np.inf)
        case _:
            raise MalformedGraph(f"no evaluation rule for a {type(node).__name__} node")


def largest(x: Array, windows: Array, padding: float) -> Array:
    """The largest of each window, as `take_windows`; of few taps tap by tap, which takes a fraction of the time."""
    taps = windows.shape[1]
    if taps > FEW_TAPS:
        return np.asarray(take_windows(x, windows, padding).max(axis=-1))
    return reduce(np.maximum, (take_windows(x, windows[:, k], padding) for k in range(taps)))


def take_windows(x: Array, windows: Array, padding: float) -> Array:
    """x[..., windows] with `padding` where a window index is -1: [..., windows, taps], or [..., windows] of one tap."""
    taken = x[..., np.maximum(windows, 0)]
    return taken if (windows >= 0).all() else np.where(windows >= 0, taken, np.asarray(padding, dtype=x.dtype))
