"""The float32 program that a file's operators spell out: one scalar operation at a time, in the order in which they round.

The core graph is the network over the reals: its passes fold and fuse what rounds separately. Who asks what float32 does, bit for
bit, needs the file's own operators. Order: that of onnxruntime 1.31.1 on x86-64 with FMA, as far as `tests/verifier/test_encode_float32.py`
found it on the machine at hand (it fails where onnxruntime does otherwise): each output of Gemm and of MatMul by a constant is
x_0 w_0, then fma(x_k, w_k, sum) for k = 1, 2, ..., then one addition of the bias, whatever the batch size, with or without onnxruntime's
graph optimisations (they make MatMul + Add one Gemm, and fold Relu into it). Elementwise operators round once per element.
Two forms have another order. A Mul by a single number before a MatMul is moved behind it when onnxruntime optimises: refused here.
A matrix that the file computes from constants is multiplied without FMA when it does not optimise: what holds here is the default, optimised.
Signs of zeros are not told apart; nothing here divides, so no finite value depends on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from graph.errors import ModelError, UnsupportedOperator
from graph.lowering import MOVES_ONLY
from graph.lowering.operator import Attribute, describe, read_attributes
from graph.lowering.reference import COMPLAINTS, run_reference
from graph.weights import WeightReader

Array = NDArray[Any]

MOST_PRODUCTS = 32  # in one sum: up to here the order was measured; onnxruntime cuts longer sums into blocks
MOST_OPERATIONS = 10_000
ARITY = {"add": 2, "sub": 2, "mul": 2, "fma": 3, "max": 2, "min": 2, "neg": 1, "abs": 1, "sign": 1, "leaky": 2}


@dataclass(frozen=True)
class Operation:
    """One operation on float32 numbers, rounded once to nearest even. Operands are places of earlier values.

    add, sub, mul; fma: a b + c; leaky: a if a >= 0 else b a. Exact: max, min, neg, abs, sign; constant: `value`, a float32 number.
    """

    kind: str
    operands: tuple[int, ...] = ()
    value: float = 0.0


@dataclass(frozen=True, eq=False)
class Program:
    """Value i is input i for i < n_in, else what operation i - n_in computes. `outputs` are the places of the outputs, flat.

    `work` counts floating-point operations: an fma is two, a constant none.
    """

    n_in: int
    operations: tuple[Operation, ...]
    outputs: tuple[int, ...]

    @property
    def work(self) -> int:
        return sum({"constant": 0, "fma": 2}.get(op.kind, 1) for op in self.operations)


def read_program(content: bytes) -> Program:
    """The program of an ONNX file (its bytes, uncompressed, without external data).

    Raises ModelError for a damaged file, UnsupportedOperator for an operator or a form of it whose order of rounding is not known here.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(f"not an ONNX file, or truncated: {error}") from error
    versions = [int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx")]
    if len(versions) != 1 or proto.functions:
        raise UnsupportedOperator("a file with local functions, or without exactly one version of the standard operator set, has no program here")
    return _Reader(proto.graph, versions[0]).run()


class _Reader:
    """Tensors are arrays: int64 arrays of places where they depend on the inputs (`places`), the file's own arrays otherwise (`known`)."""

    def __init__(self, graph: onnx.GraphProto, opset: int) -> None:
        self.graph, self.opset = graph, opset
        self.reader = WeightReader(graph, None, 1 << 24)
        self.places: dict[str, Array] = {}
        self.known: dict[str, Array] = {}
        self.makers: dict[str, onnx.NodeProto] = {}
        self.operations: list[Operation] = []
        self.constants: dict[float, int] = {}
        self.n_in = 0

    def run(self) -> Program:
        self._inputs()
        for node in self.graph.node:
            self._read(node)
        outputs = [self._as_places(self._tensor(info.name, "the graph's outputs"), info.name) for info in self.graph.output]
        return Program(self.n_in, tuple(self.operations), tuple(int(i) for array in outputs for i in array.ravel()))

    def emit(self, kind: str, *operands: int) -> int:
        """The place of a new value."""
        if len(self.operations) >= MOST_OPERATIONS:
            raise UnsupportedOperator(f"the network has more than {MOST_OPERATIONS} scalar operations")
        if len(operands) != ARITY[kind]:
            raise ModelError(f"{kind} of {len(operands)} operands")
        self.operations.append(Operation(kind, operands))
        return self.n_in + len(self.operations) - 1

    def constant(self, value: float) -> int:
        """The place of a float32 number."""
        if value not in self.constants:
            self.operations.append(Operation("constant", (), float(np.float32(value))))
            self.constants[value] = self.n_in + len(self.operations) - 1
        return self.constants[value]

    def each(self, kind: str, *operands: Array) -> Array:
        """An elementwise operation with broadcasting."""
        arrays = np.broadcast_arrays(*operands)
        flat = [self.emit(kind, *(int(i) for i in row)) for row in zip(*(a.ravel() for a in arrays), strict=True)]
        return np.asarray(flat, np.int64).reshape(arrays[0].shape)

    def product(self, x: Array, w: Array, bias: Array | None, where: str) -> Array:
        """x [..., K] w [K, M] (+ bias, places, broadcast), `x` places and `w` numbers."""
        if w.ndim != 2 or x.ndim < 2 or x.shape[-1] != w.shape[0] or w.dtype != np.float32:
            raise UnsupportedOperator(f"{where}: only a product by a constant float32 matrix from the right has a known order")
        if not 1 <= w.shape[0] <= MOST_PRODUCTS:
            raise UnsupportedOperator(f"{where}: sums of {w.shape[0]} products, where the order is known for 1 to {MOST_PRODUCTS}")
        rows = x.reshape(-1, w.shape[0])
        sums = [[self._sum(row, column) for column in w.T] for row in rows]
        found = np.asarray(sums, np.int64).reshape(*x.shape[:-1], w.shape[1])
        return found if bias is None else self.each("add", found, np.broadcast_to(bias, found.shape))

    def _sum(self, row: Array, column: Array) -> int:
        total: int | None = None
        for place, weight in zip(row, column, strict=True):
            if weight == 0:  # adds a zero
                continue
            factors = int(place), self.constant(float(weight))
            total = self.emit("mul", *factors) if total is None else self.emit("fma", *factors, total)
        return self.constant(0.0) if total is None else total

    def _inputs(self) -> None:
        for info in self.graph.input:
            if info.name in self.reader:
                continue
            tensor = info.type.tensor_type
            shape = [d.dim_value if d.HasField("dim_value") else 1 for d in tensor.shape.dim]
            if tensor.elem_type != onnx.TensorProto.FLOAT or any(not d.HasField("dim_value") for d in tensor.shape.dim[1:]):
                raise UnsupportedOperator(f"input {info.name!r} is not float32 of a fixed shape")
            self.places[info.name] = np.arange(self.n_in, self.n_in + math.prod(shape)).reshape(shape)
            self.n_in += math.prod(shape)

    def _tensor(self, name: str, where: str) -> Array:
        if name in self.places:
            return self.places[name]
        if name not in self.known and name in self.reader:
            self.known[name] = self.reader.read(name)
        if name not in self.known:
            raise ModelError(f"{where}: tensor {name!r} is made by no earlier node")
        return self.known[name]

    def _as_places(self, value: Array, name: str) -> Array:
        """The tensor `name` as places: a constant becomes values of the program."""
        if name in self.places:
            return value
        if value.dtype != np.float32:
            raise UnsupportedOperator(f"tensor {name!r} is a constant of type {value.dtype}, not float32")
        return np.asarray([self.constant(float(v)) for v in value.ravel()], np.int64).reshape(value.shape)

    def _read(self, node: onnx.NodeProto) -> None:
        where = describe(node, self.opset)
        if node.domain not in ("", "ai.onnx"):
            raise UnsupportedOperator(f"{where}: only operators of the standard have a known order")
        version, attributes = read_attributes(node, self.opset)
        self.makers.update(dict.fromkeys(node.output, node))
        values = [self._tensor(name, where) if name else None for name in node.input]
        try:
            if node.op_type in MOVES_ONLY - {"Dropout"}:
                self._move(node, values)
            elif node.op_type in RULES:
                self.places[node.output[0]] = RULES[node.op_type](_Node(self, node, version, attributes, where))
            else:
                raise UnsupportedOperator(f"{where}: how onnxruntime rounds it is not known here; known are {', '.join(sorted(RULES))}")
        except COMPLAINTS as error:
            raise ModelError(f"{where}: its inputs or attributes do not fit together: {error}") from error

    def _move(self, node: onnx.NodeProto, values: Sequence[Array | None]) -> None:
        """An operator that moves elements: it moves places as it moves numbers (all of its floating-point inputs become places)."""
        moves = any(name in self.places for name in node.input)
        if moves and node.op_type not in ("Shape", "Size"):
            values = [
                self._as_places(v, name) if v is not None and (name in self.places or v.dtype == np.float32) else v
                for v, name in zip(values, node.input, strict=True)
            ]
        found = run_reference(node, self.opset, values, 1 << 24)
        target = self.places if moves and node.op_type not in ("Shape", "Size") else self.known
        for name, value in zip(node.output, found, strict=True):
            target[name] = value


@dataclass(frozen=True, eq=False)
class _Node:
    """An operator and what its rule may ask for."""

    reader: _Reader
    node: onnx.NodeProto
    version: int
    attributes: dict[str, Attribute]
    where: str

    def places(self, i: int) -> Array:
        """Input i as places."""
        name = self.node.input[i]
        return self.reader._as_places(self.reader._tensor(name, self.where), name)

    def optional(self, i: int) -> Array | None:
        return self.places(i) if i < len(self.node.input) and self.node.input[i] else None

    def numbers(self, i: int) -> Array:
        """Input i, which must be a constant."""
        name = self.node.input[i]
        if name in self.reader.places:
            raise UnsupportedOperator(f"{self.where}: only a product by a constant float32 matrix from the right has a known order")
        return self.reader._tensor(name, self.where)


def _gemm(at: _Node) -> Array:
    attributes = at.attributes
    if attributes["alpha"] != 1.0 or attributes["beta"] != 1.0 or attributes["transA"]:
        raise UnsupportedOperator(f"{at.where}: alpha, beta or transA: their rounding has not been measured")
    w = at.numbers(1)
    return at.reader.product(at.places(0), w.T if attributes["transB"] else w, at.optional(2), at.where)


def _matmul(at: _Node) -> Array:
    made = at.reader.makers.get(at.node.input[0])
    if made is not None and made.op_type == "Mul" and any(name in at.reader.known and at.reader.known[name].size == 1 for name in made.input):
        raise UnsupportedOperator(f"{at.where}: a factor before it, which onnxruntime moves behind it, has no known order")
    return at.reader.product(at.places(0), at.numbers(1), None, at.where)


def _leaky(at: _Node) -> Array:
    slope = at.attributes["alpha"]
    if not isinstance(slope, float):
        raise ModelError(f"{at.where}: alpha is not a number")
    return at.reader.each("leaky", at.places(0), np.asarray(at.reader.constant(float(np.float32(slope)))))


def _clip(at: _Node) -> Array:
    """min(max(x, low), high)."""
    low, high = (at.optional(1), at.optional(2)) if at.version >= 11 else (_end(at, "min"), _end(at, "max"))
    found = at.places(0)
    found = found if low is None else at.reader.each("max", found, low)
    return found if high is None else at.reader.each("min", found, high)


def _end(at: _Node, name: str) -> Array | None:
    value = at.attributes.get(name)
    return np.asarray(at.reader.constant(float(np.float32(value)))) if isinstance(value, float) else None


def _binary(kind: str) -> Callable[[_Node], Array]:
    return lambda at: at.reader.each(kind, at.places(0), at.places(1))


def _unary(kind: str) -> Callable[[_Node], Array]:
    return lambda at: at.reader.each(kind, at.places(0))


def _variadic(kind: str) -> Callable[[_Node], Array]:
    def rule(at: _Node) -> Array:
        found = at.places(0)
        for _, i in pairwise(range(len(at.node.input))):
            found = at.reader.each(kind, found, at.places(i))
        return found

    return rule


RULES: dict[str, Callable[[_Node], Array]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _binary("add"),
    "Sub": _binary("sub"),
    "Mul": _binary("mul"),
    "Neg": _unary("neg"),
    "Abs": _unary("abs"),
    "Sign": _unary("sign"),
    "Relu": lambda at: at.reader.each("max", at.places(0), np.asarray(at.reader.constant(0.0))),
    "LeakyRelu": _leaky,
    "Clip": _clip,
    "Max": _variadic("max"),
    "Min": _variadic("min"),
}
