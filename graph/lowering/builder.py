"""What lowerings emit core nodes through. Nodes are flat, so a reshape emits nothing: it is a new view of the same node."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Affine, Bilinear, Constant, Elementwise, Input, Max, Node, Origin, Shape
from graph.errors import MalformedGraph, ModelError
from graph.functions import build
from graph.functions.facts import Function
from graph.linear_map import MINUS, Gather, LinearMap, Reshape, Scale, compose
from graph.lowering.forms import Form

Array = NDArray[Any]

NON_LINEAR = (Elementwise, Bilinear)  # what records speak of by the operator and a number: its sites


@dataclass(frozen=True)
class Tensor:
    """A tensor that depends on the input: a view with `shape` of a core node's flat value."""

    node: int
    shape: Shape
    element_type: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Known:
    """A constant tensor, in the dtype of the file (float64 where it was computed from the file's floats)."""

    value: Array

    @property
    def shape(self) -> Shape:
        return self.value.shape

    @property
    def size(self) -> int:
        return int(self.value.size)


Value = Tensor | Known


def varying(x: Value) -> Tensor:
    """`x`, which depends on the input by how it was made. Raises TypeError if it does not."""
    if isinstance(x, Known):
        raise TypeError("a constant where the network's input has a say")
    return x


@dataclass(frozen=True, eq=False)
class Items:
    """A sequence of known length."""

    values: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Unbounded:
    """A constant some of whose elements are -infinity: a mask in front of a softmax, and good for nothing else."""

    value: Array

    @property
    def shape(self) -> Shape:
        return self.value.shape


@dataclass(frozen=True, eq=False)
class Masked:
    """A tensor that is -infinity where `mask` [shape] is true, whatever `tensor` is there."""

    tensor: Tensor
    mask: Array


There = tuple[Tensor | None, ...]


@dataclass(frozen=True, eq=False)
class Cut:
    """A constant of which, along some axes, the network's input decides what is there.

    `there` has for each axis a vector, 1 for the places of the axis that are there and 0 for the others, or None where all are.
    """

    value: Array
    there: There


@dataclass(frozen=True, eq=False)
class CutShape:
    """The shape of a `Cut`: integers as if all of it were there, and what counts as `there` along each axis."""

    sizes: Array
    there: There


Held = Value | Items | Unbounded | Masked | Cut | CutShape


def constant(value: Array, where: str) -> Known | Unbounded:
    """A constant of the file. Raises ModelError for NaN and +infinity."""
    if value.dtype.kind != "f" or bool(np.isfinite(value).all()):
        return Known(value)
    if not (value < np.inf).all():
        raise ModelError(f"{where} contains NaN or Inf")
    return Unbounded(value)


@dataclass
class Builder:
    """Collects core nodes in topological order. `origin` names the file operator that is being lowered; `begin` sets it."""

    node_limit: int
    element_limit: int
    nodes: list[Node] = field(default_factory=list)
    shifts: list[int] = field(default_factory=list)
    forms: dict[int, Form] = field(default_factory=dict)  # of nodes that are known as functions of others
    origin: Origin = field(default_factory=Origin)
    _tensor: str = ""
    _sites: int = 0  # non-linear nodes of the operator so far
    _begun: set[str] = field(default_factory=set)

    def begin(self, operator: str, element_type: str, tensor: str) -> None:
        """From now on nodes belong to this operator of the file, `tensor` being its first output. Raises ModelError for the second of a name."""
        if tensor in self._begun:
            raise ModelError(f"{operator}: two operators, one of them in a function or sub-graph, make {tensor!r}; rename one of the tensors")
        self._begun.add(tensor)
        self.origin = Origin((operator,), element_type)
        self._tensor, self._sites = tensor, 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Operators of a sub-graph begin within; afterwards nodes belong to the operator of before."""
        before = self.origin, self._tensor, self._sites
        yield
        self.origin, self._tensor, self._sites = before

    def check_size(self, shape: Sequence[int]) -> Shape:
        """`shape`, refused with ModelError before anything of that size is allocated if it is beyond the limit."""
        if math.prod(shape) > self.element_limit:
            place = ", ".join(self.origin.operators)
            raise ModelError(f"{place} would make a tensor of shape {tuple(shape)}, beyond {self.element_limit} elements; raise the limit to load it")
        return tuple(shape)

    def broadcast_shape(self, *shapes: Shape) -> Shape:
        """The shape that tensors of `shapes` broadcast to (numpy's rule, and ONNX's), within the limit."""
        return self.check_size(np.broadcast_shapes(*shapes))

    def input(self, name: str, shape: Shape, element_type: str) -> Tensor:
        return self._emit(Input(shape, (), Origin(("input",), element_type), name), element_type)

    def constant(self, value: Array) -> Tensor:
        return self._emit(Constant(value.shape, (), self.origin, _flat64(value)), self.origin.element_type)

    def affine(self, terms: Sequence[tuple[LinearMap, Tensor]], bias: Array | None, shape: Shape, *, roundings: int = 0) -> Tensor:
        """sum of map(x) over `terms`, plus `bias` (an array of `shape`); `roundings` as in Origin."""
        inputs = tuple(x.node for _, x in terms)
        maps = tuple(m for m, _ in terms)
        origin = replace(self.origin, roundings=roundings)
        return self._emit(Affine(shape, inputs, origin, maps, None if bias is None else _flat64(bias)), _common_type([x for _, x in terms]))

    def linear(self, linear_map: LinearMap, x: Tensor) -> Tensor:
        """One map without a bias."""
        return self.affine([(linear_map, x)], None, linear_map.out_shape)

    def type_of(self, x: Value) -> str:
        """The type that the file gives these numbers. Constants that were computed from its floats are in float64 here whatever that is: then that
        of its inputs."""
        if isinstance(x, Tensor):
            return x.element_type
        inputs = {node.origin.element_type for node in self.nodes if isinstance(node, Input)}
        return str(x.value.dtype) if x.value.dtype != np.float64 or "float64" in inputs else "float32"

    def convert(self, x: Tensor, element_type: str) -> Tensor:
        """`x` in another float type. Over the reals nothing changes, but the node's type says where a runtime rounds."""
        if x.element_type == element_type:
            return x
        identity = Affine(x.shape, (x.node,), self.origin, (Reshape(x.shape, x.shape),), np.zeros(x.size))
        return self._emit(identity, element_type)

    def elementwise(self, function: Function, x: Tensor) -> Tensor:
        return self._emit(Elementwise(x.shape, (x.node,), self.origin, function), x.element_type)

    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        """The elementwise product of two tensors of equal shape."""
        if x.shape != y.shape:
            raise MalformedGraph(f"a product of tensors of shapes {x.shape} and {y.shape}")
        return self._emit(Bilinear(x.shape, (x.node, y.node), self.origin, "mul"), _common_type([x, y]))

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """The matrix product of (outer..., n, k) and (outer..., k, m) with equal outer axes."""
        if x.shape[:-2] != y.shape[:-2] or x.shape[-1] != y.shape[-2]:
            raise MalformedGraph(f"a product of matrices of shapes {x.shape} and {y.shape}")
        left, right = self._as_shaped(x), self._as_shaped(y)
        shape = (*x.shape[:-1], y.shape[-1])
        return self._emit(Bilinear(shape, (left.node, right.node), self.origin, "matmul"), _common_type([x, y]))

    def maximum(self, x: Tensor, windows: Array, shape: Shape) -> Tensor:
        """Maxima over `windows` [size of shape, taps] of flat indices into `x`, -1 for padding: of neighbouring taps a, b as b + relu(a - b), of
        these again, until one is left. So they bend where two elements cross, which has bounds of its own and can be split."""
        real = windows >= 0
        if not bool(real.any(axis=1).all()):
            raise MalformedGraph(f"{', '.join(self.origin.operators)}: a maximum over nothing but padding")
        windows = np.where(real, windows, np.take_along_axis(windows, real.argmax(axis=1)[:, None], 1))
        while (taps := windows.shape[1]) > 1:
            pairs = indices((len(windows), taps // 2))
            left = (*shape, taps // 2) if taps > 2 else shape
            larger = self._larger(x, windows[:, : taps - 1 : 2], windows[:, 1::2], left)
            if taps % 2:  # the last one goes on as it is
                held, odd = (np.pad(i, ((0, 0), at), constant_values=-1) for i, at in ((pairs, (0, 1)), (windows[:, -1:], (taps // 2, 0))))
                pairs, left = indices(held.shape), (*shape, held.shape[1])
                larger = self.affine([(Gather(y.shape, left, i.reshape(-1)), y) for y, i in ((larger, held), (x, odd))], None, left)
            x, windows = larger, pairs
        return self.gather(x, windows.reshape(shape))

    def _larger(self, x: Tensor, first: Array, second: Array, shape: Shape) -> Tensor:
        """max(x[first], x[second]), element by element."""
        held, other = second.reshape(-1), np.where(first == second, -1, first).reshape(-1)
        b, a = (Gather(x.shape, shape, index) for index in (np.where(other >= 0, held, -1), other))
        difference = self.affine([(a, x), (compose(b, Scale(shape, shape, MINUS)), x)], None, shape)
        excess = self.elementwise(build("relu"), difference)
        same = self.affine([(Gather(x.shape, shape, held), x), (Reshape(shape, shape), excess)], None, shape)
        windows = np.stack([held, other], axis=1)
        return self._emit(Max(shape, (x.node, same.node, difference.node), self.origin, windows), x.element_type)

    def gather(self, x: Tensor, index: Array, bias: Array | None = None) -> Tensor:
        """The tensor of `index.shape` whose elements are the flat elements `index` of `x`, 0 for -1; plus `bias`."""
        linear_map = self.gather_map(x, index)
        if bias is None and isinstance(linear_map, Reshape):
            return replace(x, shape=index.shape)
        return self.affine([(linear_map, x)], bias, index.shape)

    def gather_map(self, x: Tensor, index: Array) -> LinearMap:
        """The map of `gather`; a plain Reshape where nothing moves."""
        flat = np.ascontiguousarray(index, dtype=np.int64).reshape(-1)
        if flat.size == x.size and bool((flat == np.arange(x.size)).all()):
            return Reshape(x.shape, index.shape)
        return Gather(x.shape, index.shape, flat)

    def _as_shaped(self, x: Tensor) -> Tensor:
        return x if self.nodes[x.node].shape == x.shape else self.linear(Reshape(x.shape, x.shape), x)

    def _emit(self, node: Node, element_type: str) -> Tensor:
        if len(self.nodes) >= self.node_limit:
            place = ", ".join(node.origin.operators)
            raise ModelError(f"the network needs more than {self.node_limit} core nodes (at {place}); raise the limit to load it")
        if element_type != node.origin.element_type:
            node = replace(node, origin=replace(node.origin, element_type=element_type))
        if isinstance(node, NON_LINEAR):
            node = replace(node, origin=replace(node.origin, site=(self._tensor, self._sites)))
            self._sites += 1
        self.nodes.append(node)
        return Tensor(len(self.nodes) - 1, node.shape, element_type)


def indices(shape: Shape) -> Array:
    """The flat index of every element of a tensor of `shape`, in that shape."""
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


def _flat64(value: Array) -> Array:
    return np.ascontiguousarray(value, dtype=np.float64).reshape(-1)


def _common_type(tensors: Sequence[Tensor]) -> str:
    types = {x.element_type for x in tensors}
    if len(types) != 1:
        raise ModelError(f"one operator mixes tensors of types {', '.join(sorted(types))}; ONNX needs a Cast between them")
    return types.pop()
