"""What lowerings emit core nodes through. Every ONNX tensor that depends on an input is one core node of that tensor's shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifier.checker.maps import Diagonal, Index, Map
from verifier.checker.network import Affine, Constant, Elementwise, Function, Input, MatMul, Maximum, Node, Pieces, Product, Rounding, Softmax
from verifier.checker.refusal import Rejected

Array = NDArray[Any]
Shape = tuple[int, ...]
RELU = Pieces((0.0,), (0.0, 1.0), (0.0, 0.0), (0.0,))
MOST_NODES = 100_000
MOST_ELEMENTS = 1 << 29
UNSURE = "a constant that float32 may round to another step"


@dataclass(frozen=True)
class Tensor:
    """A tensor that is core node `node`; `element`: the type of its elements, as numpy calls it."""

    node: int
    shape: Shape
    element: str = "float32"

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Known:
    """A constant, exactly: of floats as the file says, or computed without rounding; of integers or bool."""

    value: Array

    @property
    def shape(self) -> Shape:
        return self.value.shape

    @property
    def size(self) -> int:
        return int(self.value.size)

    @property
    def element(self) -> str:
        return str(self.value.dtype)


Value = Tensor | Known


@dataclass(frozen=True, eq=False)
class Items:
    """A sequence of known length."""

    values: tuple[Value, ...]


@dataclass(frozen=True, eq=False)
class Unbounded:
    """A constant that is -infinity somewhere: a mask."""

    value: Array


@dataclass(frozen=True, eq=False)
class Masked:
    """A tensor that is -infinity where `mask` [its shape] is true, whatever it is there."""

    tensor: Tensor
    mask: Array


@dataclass(frozen=True, eq=False)
class Rounded:
    """A constant that operators made, exactly. Float32 gets there by at most `times` roundings of each number, all relative; -1: it may get
    somewhere else, and of such a network only the reals are spoken about."""

    value: Array
    times: int


Held = Value | Items | Unbounded | Masked | Rounded


def constant_of(value: Array) -> Known | Unbounded:
    """Of numbers below infinity."""
    return Unbounded(value) if value.dtype.kind == "f" and bool(np.isneginf(value).any()) else Known(value)
Term = tuple[Map, Tensor]


@dataclass
class Builder:
    """Collects core nodes in topological order; `begin` says which ONNX operator they belong to."""

    nodes: list[Node] = field(default_factory=list)
    sites: dict[tuple[str, int], int] = field(default_factory=dict)
    softmaxes: list[Softmax] = field(default_factory=list)
    opset: int = 0  # of the model, the standard's
    place: str = ""
    wide: bool = False  # something is computed in float64: of that float32 semantics says nothing
    _tensor: str = ""
    _count: int = 0  # non-linear nodes of the operator so far
    _first: int = 0  # the operator's first node
    forms: dict[int, Any] = field(default_factory=dict)  # `forms.Form` of nodes that are known as functions of others
    whole: set[int] = field(default_factory=set)  # nodes of floats that were cast from integers or bool
    made: set[str] = field(default_factory=set)  # first outputs of operators, prefixed

    def begin(self, place: str, tensor: str) -> None:
        """From now on nodes belong to the operator at `place` whose first output is `tensor`."""
        self.place, self._tensor, self._count, self._first = place, tensor, 0, len(self.nodes)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The operators of a body begin within; what follows belongs to the operator of before, and its body's nodes do not."""
        before = self.place, self._tensor, self._count
        yield
        self.place, self._tensor, self._count, self._first = *before, len(self.nodes)

    def end(self, x: Tensor, rounding: Rounding) -> Tensor:
        """`x` as an output of the operator: what float32 does to it. A tensor passed through keeps what it has."""
        if self.wide:
            rounding = Rounding("refused", rounding.sources, name="an operator of a network that computes in float64")
        if x.node >= self._first:
            self.nodes[x.node] = replace(self.nodes[x.node], rounding=rounding)
        return x

    def stage(self) -> None:
        """What follows is, for the rounding of float32, an operator of its own: it reads what has been rounded so far."""
        self.place, self._first = f"{self.place}, then", len(self.nodes)

    def input(self, name: str, shape: Shape) -> Tensor:
        return self._emit(Input(f"input {name!r}", (), checked(shape, name), None, name))

    def constant(self, value: Array) -> Tensor:
        flat = floats(value).reshape(-1)
        return self._emit(Constant(self.place, (), value.shape, None, flat, np.zeros(flat.size)))

    def affine(self, terms: Sequence[Term], bias: Array | None, shape: Shape) -> Tensor:
        """sum of map(x) over `terms`, plus `bias` (of `shape`)."""
        flat = None if bias is None else floats(bias).reshape(-1)
        return self._emit(Affine(self.place, tuple(x.node for _, x in terms), shape, None, tuple(m for m, _ in terms), flat))

    def rounded(self, x: Rounded) -> Tensor:
        """As an operator of its own."""
        found = self.scale(self.constant(x.value), np.ones(()))
        self.end(found, Rounding("affine" if x.times >= 0 else "refused", (), x.times, name=UNSURE))
        self.stage()
        return found

    def plus(self, x: Tensor, bias: Array, radius: Array | None = None) -> Tensor:
        """x + bias: in the node itself, if this operator has just made it without one. The true bias may be `radius` off (only there)."""
        node = self.nodes[x.node]
        if self._first <= x.node == len(self.nodes) - 1 and isinstance(node, Affine) and node.bias is None:
            error = None if radius is None else np.ascontiguousarray(radius).reshape(-1)
            self.nodes[x.node] = replace(node, bias=np.ascontiguousarray(floats(bias)).reshape(-1), bias_radius=error)
            return x
        if radius is not None:
            raise Rejected("unsupported-operator", f"{self.place}: a bias that is not known exactly")
        return self.affine([(take(x, indices(x.shape)), x)], bias, x.shape)

    def linear(self, linear_map: Map, x: Tensor, shape: Shape) -> Tensor:
        return self.affine([(linear_map, x)], None, shape)

    def sum(self, parts: Sequence[Tensor]) -> Tensor:
        """Of tensors of one shape."""
        return self.affine([(take(x, indices(x.shape)), x) for x in parts], None, parts[0].shape)

    def scale(self, x: Tensor, factor: Array, radius: Array | None = None) -> Tensor:
        """`x` times numbers that broadcast to its shape; the true ones may be `radius` off."""
        flat = np.broadcast_to(floats(factor), x.shape).reshape(-1)
        error = None if radius is None or not radius.any() else np.broadcast_to(radius, x.shape).reshape(-1)
        return self.linear(Diagonal(flat, error), x, x.shape)

    def elementwise(self, function: Function, x: Tensor) -> Tensor:
        return self._site(Elementwise(self.place, (x.node,), x.shape, None, function))

    def product(self, x: Tensor, y: Tensor) -> Tensor:
        return self._site(Product(self.place, (x.node, y.node), x.shape, None))

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """(outer..., n, k) times (outer..., k, m), equal outer axes."""
        return self._site(MatMul(self.place, (x.node, y.node), (*x.shape[:-1], y.shape[-1]), None))

    def maximum(self, x: Tensor, windows: Array, shape: Shape) -> Tensor:
        """Of `windows` [size, taps] of flat places, -1 for padding: of neighbours, of these again, until one is left."""
        windows = np.where(windows < 0, np.take_along_axis(windows, (windows >= 0).argmax(1)[:, None], 1), windows)
        while (taps := windows.shape[1]) > 1:
            half, rows, before = taps // 2, indices((len(windows), taps // 2)), x
            x = self._larger(x, windows[:, : taps - 1 : 2], windows[:, 1::2], shape if taps == 2 else (*shape, half))
            if taps % 2:  # the last one as it is
                held, last = np.pad(rows, ((0, 0), (0, 1)), constant_values=-1), np.pad(windows[:, -1:], ((0, 0), (half, 0)), constant_values=-1)
                x, rows = self.affine([(take(x, held), x), (take(before, last), before)], None, (*shape, half + 1)), indices(held.shape)
            windows = rows
        return self.gather(x, windows.reshape(shape))

    def _larger(self, x: Tensor, first: Array, second: Array, shape: Shape) -> Tensor:
        """max(a, b) = b + relu(a - b), a the elements `first` and b the elements `second` of x."""
        held, other = second.reshape(shape), np.where(first == second, -1, first).reshape(shape)
        b = self.gather(x, np.where(other < 0, -1, held))
        difference = self.affine([(take(x, other), x), (Diagonal(np.full(b.size, -1.0)), b)], None, shape)
        inputs = (x.node, self.sum([self.gather(x, held), self.elementwise(RELU, difference)]).node, difference.node)
        return self._emit(Maximum(self.place, inputs, shape, None, np.stack([held, other], -1).reshape(-1, 2)))

    def gather(self, x: Tensor, index: Array, bias: Array | None = None) -> Tensor:
        """The tensor of `index.shape` whose elements are the flat elements `index` of `x`, 0 for -1; plus `bias`."""
        if bias is None and index.shape == x.shape and bool((index.reshape(-1) == np.arange(x.size)).all()):
            return x
        return self.affine([(take(x, index), x)], bias, index.shape)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        return self.gather(x, np.arange(x.size, dtype=np.int64).reshape(shape))

    def spread(self, x: Tensor, shape: Shape) -> Tensor:
        """`x` repeated along axes to `shape`."""
        return self.gather(x, np.broadcast_to(indices(x.shape), shape))

    def _site(self, node: Node) -> Tensor:
        found = self._emit(node)
        self.sites[self._tensor, self._count] = found.node
        self._count += 1
        return found

    def _emit(self, node: Node) -> Tensor:
        if len(self.nodes) >= MOST_NODES:
            raise Rejected("unsupported-model", f"more than {MOST_NODES} core nodes")
        self.nodes.append(replace(node, shape=checked(node.shape, node.place)))
        return Tensor(len(self.nodes) - 1, self.nodes[-1].shape)


def checked(shape: Sequence[int], place: str) -> Shape:
    """`shape` as Python integers; a tensor is neither empty nor beyond the limit."""
    plain = tuple(int(n) for n in shape)
    if not 0 < math.prod(plain) <= MOST_ELEMENTS or any(n < 1 for n in plain):
        raise Rejected("unsupported-model", f"{place}: a tensor of shape {plain}")
    return plain


def indices(shape: Shape) -> Array:
    """The flat index of every element of a tensor of `shape`, in that shape."""
    return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)


def take(x: Tensor, index: Array) -> Index:
    """The map that makes `x[index]`, flat; 0 for -1."""
    return Index(np.ascontiguousarray(index, dtype=np.int64).reshape(-1), x.size)


def floats(value: Array) -> Array:
    """float32 or float64 numbers as float64."""
    if value.dtype not in (np.float32, np.float64):
        raise Rejected("no-rule", f"numbers of type {value.dtype} where floats are due")
    return np.asarray(value, dtype=np.float64)
