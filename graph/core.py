"""The core graph: six node types. Every domain has one rule per type, not per ONNX operator (DESIGN 3)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.errors import MalformedGraph
from graph.functions.facts import Function
from graph.linear_map import LinearMap

Array = NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Origin:
    """Where a node comes from: the file's operators ("Gemm 'fc1'"), and the element type of the file's tensor.

    `site`, of non-linear nodes: (ONNX tensor, k), the node being the k-th non-linear one of the operator whose first output
    the tensor is. So a certificate names it, whatever the passes do to the affine nodes around it. `roundings` are those that a
    runtime makes in constants of an affine operator that it computes itself, beyond a few (weights of an interpolation).
    """

    operators: tuple[str, ...] = ()
    element_type: str = "float32"
    site: tuple[str, int] | None = None
    roundings: int = 0


@dataclass(frozen=True, eq=False)
class Node:
    """`inputs` are indices of earlier nodes of the graph. `shape` includes the batch axis of the file (usually a leading 1)."""

    shape: Shape
    inputs: tuple[int, ...]
    origin: Origin

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Input(Node):
    """A graph input. `name` is the ONNX tensor name."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant(Node):
    """A constant that is an operand of its own (an Affine folds constants into its bias). `value` is flat [size]."""

    value: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Affine(Node):
    """sum_i maps[i](inputs[i]) + bias; `bias` is flat [size] or None for zero."""

    maps: tuple[LinearMap, ...]
    bias: Array | None = field(repr=False, default=None)


@dataclass(frozen=True, eq=False)
class Elementwise(Node):
    """function(x), element by element."""

    function: Function


@dataclass(frozen=True, eq=False)
class Bilinear(Node):
    """A product of two variable tensors: `kind` "mul" (equal shapes, elementwise) or "matmul".

    For "matmul" the inputs have shapes (outer..., n, k) and (outer..., k, m) with equal outer axes.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in ("mul", "matmul"):
            raise MalformedGraph(f"unknown bilinear kind {self.kind!r}")


@dataclass(frozen=True, eq=False)
class Max(Node):
    """y[i] = max over j of x[windows[i, j]]; -1 marks padding, which is ignored. Min is -Max(-x).

    `inputs` are x, a node that says the same of x by other means, b + relu(a - b), and that difference a - b: linear rules go by the second,
    as far as what is known of the third makes it the better one, and intervals by x. A window has at most two elements
    (`Builder.maximum` compares more in rounds).
    """

    windows: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in topological order. `names` maps ONNX tensor names to node indices (every graph input and output is there;
    hidden tensors where a pass has not removed them). `notes` are sentences for the user ("batch dimension N set to 1").
    `shifts` are the Affine nodes that feed the Exp of a softmax: adding one constant to a row (last axis) of such a node
    changes no softmax, so `simplify.recentre_softmax` may do it; it has subtracted `centres`, one array [rows] per shift (none: 0)."""

    nodes: tuple[Node, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    output_names: tuple[str, ...]
    names: Mapping[str, int]
    opset: int = 0
    notes: tuple[str, ...] = ()
    shifts: tuple[int, ...] = ()
    centres: tuple[Array, ...] = field(default=(), repr=False)

    def __iter__(self) -> Iterator[tuple[int, Node]]:
        return iter(enumerate(self.nodes))

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(node.name for i in self.inputs if isinstance(node := self.nodes[i], Input))

    def consumers(self) -> list[list[int]]:
        """For every node the indices of the nodes that read it."""
        readers: list[list[int]] = [[] for _ in self.nodes]
        for i, node in self:
            for j in dict.fromkeys(node.inputs):
                readers[j].append(i)
        return readers


def check(graph: Graph) -> Graph:
    """Raise MalformedGraph unless `graph` is well formed; return it, so that passes can end in `return check(...)`."""
    for i, node in graph:
        where = f"node {i} ({type(node).__name__}, from {', '.join(node.origin.operators) or 'nowhere'})"
        if any(not 0 <= j < i for j in node.inputs):
            raise MalformedGraph(f"{where}: inputs {node.inputs} are not earlier nodes")
        _check_node(graph, node, where)
    for i in graph.inputs:
        if not isinstance(graph.nodes[i], Input):
            raise MalformedGraph(f"graph input {i} is not an Input node")
    if {*graph.inputs} != {*range(len(graph.inputs))}:
        raise MalformedGraph("the graph's inputs are not its first nodes")
    if len(graph.outputs) != len(graph.output_names) or any(not 0 <= i < len(graph.nodes) for i in graph.outputs):
        raise MalformedGraph("graph outputs do not exist")
    if any(graph.names.get(name) != i for name, i in zip(graph.output_names, graph.outputs, strict=True)):
        raise MalformedGraph("an output name does not lead to its node")
    if any(not isinstance(graph.nodes[i], Affine) for i in graph.shifts):
        raise MalformedGraph("a softmax shift is not an Affine node")
    return graph


def _check_node(graph: Graph, node: Node, where: str) -> None:
    sizes = [graph.nodes[j].size for j in node.inputs]
    match node:
        case Input():
            fits = not sizes
        case Constant(value=value):
            fits = not sizes and value.shape == (node.size,) and bool(np.isfinite(value).all())
        case Affine(maps=maps, bias=bias):
            fits = [m.in_size for m in maps] == sizes and all(m.out_size == node.size for m in maps) and bool(sizes)
            fits = fits and (bias is None or (bias.shape == (node.size,) and bool(np.isfinite(bias).all())))
        case Elementwise():
            fits = sizes == [node.size]
        case Bilinear(kind="mul"):
            fits = sizes == [node.size, node.size]
        case Bilinear(kind="matmul"):
            fits = len(sizes) == 2 and _matmul_shape(*(graph.nodes[j].shape for j in node.inputs)) == node.shape
        case Max(windows=windows):
            fits = sizes[1:] == [node.size] * 2 and windows.shape == (node.size, 2) and bool((windows.max(axis=1) >= 0).all())
            fits = fits and bool(windows.max() < sizes[0]) and bool(windows.min() >= -1)
        case _:
            raise MalformedGraph(f"{where}: unknown node type")
    if not fits:
        raise MalformedGraph(f"{where}: shape {node.shape} does not fit its inputs {[graph.nodes[j].shape for j in node.inputs]}")


def _matmul_shape(left: Shape, right: Shape) -> Shape | None:
    if len(left) < 2 or len(left) != len(right) or left[:-2] != right[:-2] or left[-1] != right[-2]:
        return None
    return (*left[:-1], right[-1])
