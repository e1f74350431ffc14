"""One ONNX file for a query: from the numbers that a region varies to the numbers that a property is about.

    x [k]  ->  transformation  ->  sample, in the user's units  ->  preprocessing  ->  the model  ->  y [m]

The file is a pure function of its arguments, byte for byte, so that `recheck` can compose it again and compare. Operators are those that
every supported opset has.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.certify.errors import InputError
from benchmarks.certify.policy import Preprocess

Array = NDArray[Any]

PREFIX = "certify/"
X, Y = f"{PREFIX}x", f"{PREFIX}y"  # the ends: a model's own tensors are often called x and y


@dataclass(frozen=True, eq=False)
class Network:
    """The user's model, read once: one float32 input [1, ...] and the output that is judged, float32. `proto` is never changed."""

    proto: onnx.ModelProto = field(repr=False)
    input: str
    input_shape: tuple[int, ...]
    output: str
    outputs: int


class Draft:
    """A graph being written: constants and operators in front of and behind the model, under names that no model has."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, values: Array | Sequence[float] | float) -> str:
        """A float32 constant."""
        return self._tensor(np.asarray(values, np.float32))

    def shape(self, dims: Sequence[int]) -> str:
        """A shape."""
        return self._tensor(np.asarray(dims, np.int64))

    def _tensor(self, values: Array) -> str:
        name = f"{PREFIX}c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """One operator; the name of its (first) output."""
        name = f"{PREFIX}{kind.lower()}{len(self.nodes)}"
        names = [name, *(f"{name}_{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return name

    def reshape(self, x: str, dims: Sequence[int]) -> str:
        """`x` in another shape."""
        return self.op("Reshape", x, self.shape(dims))

    def linear(self, x: str, matrix: Array, constant: Array | None = None) -> str:
        """x [k] -> x @ matrix + constant [m]; matrix [k, m]."""
        row = self.op("MatMul", self.reshape(x, (1, len(matrix))), self.constant(matrix))
        flat = self.reshape(row, (matrix.shape[1],))
        return flat if constant is None else self.op("Add", flat, self.constant(constant))

    def clip(self, x: str, low: float, high: float) -> str:
        """`x` cut to [low, high]."""
        return self.op("Min", self.op("Max", x, self.constant(low)), self.constant(high))


Transform = Callable[[Draft, str], Sequence[str]]  # from x [k] to one or two samples in the user's units, flat
Judged = Callable[[Draft, Sequence[str], str], str]  # from the outputs [m] of each copy, and x, to y


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a query's file is made of, besides the model. `judged` may be None: y is the output of the one copy."""

    inputs: int
    outputs: int
    transform: Transform | None = None
    judged: Judged | None = None


def read(path: Path, output: str | None = None) -> Network:
    """Read the user's model. Raises InputError for what cannot be certified: several inputs, other element types, no fixed shape."""
    try:
        zipped = path.read_bytes()[:2] == b"\x1f\x8b"
        proto = onnx.load_model_from_string(gzip.decompress(path.read_bytes())) if zipped else onnx.load(str(path))
    except (OSError, EOFError, zlib.error, DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path}: not an ONNX model: {getattr(error, 'strerror', None) or error}") from error
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise InputError(f"{path}: {len(inputs)} inputs; a campaign varies the one input of a model")
    names = [value.name for value in proto.graph.output]
    if output is not None and output not in names:
        raise InputError(f"{path}: no output {output!r}; the model has {', '.join(names)}")
    if output is None and len(names) != 1:
        raise InputError(f"{path}: {len(names)} outputs, {', '.join(names)}; say which is judged: [model] output = ..., or --output")
    chosen = next(v for v in proto.graph.output if v.name == (output or names[0]))
    for value in (inputs[0], chosen):
        kind = value.type.tensor_type.elem_type
        if kind != TensorProto.FLOAT:
            raise InputError(f"{path}: {value.name!r} is of type {TensorProto.DataType.Name(kind).lower()}; a campaign needs float32 (float)")
    shape = _shape(path, inputs[0])
    outputs = _outputs(path, proto, inputs[0].name, shape, chosen.name)
    return Network(proto, inputs[0].name, shape, chosen.name, outputs)


def _shape(path: Path, value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The shape of an input, a batch of one."""
    dims = value.type.tensor_type.shape.dim
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in dims]
    if sizes and (sizes[0] is None or sizes[0] < 1):
        sizes[0] = 1
    if any(size is None or size < 1 for size in sizes):
        shown = ", ".join(d.dim_param or str(d.dim_value) for d in dims)
        raise InputError(f"{path}: the input {value.name!r} has no fixed shape: [{shown}]")
    return tuple(int(size or 1) for size in sizes)


def _outputs(path: Path, proto: onnx.ModelProto, name: str, shape: tuple[int, ...], output: str) -> int:
    """How many numbers the output has, by onnx's own inference with a batch of one. Raises InputError."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(proto)
    for value in fixed.graph.input:
        if value.name == name:
            value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    try:
        inferred = onnx.shape_inference.infer_shapes(fixed, strict_mode=False, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise InputError(f"{path}: {error}") from error
    dims = next(v for v in inferred.graph.output if v.name == output).type.tensor_type.shape.dim
    sizes = [d.dim_value for d in dims]
    if not sizes or min(sizes) < 1:
        declared = next(v for v in proto.graph.output if v.name == output).type.tensor_type.shape.dim
        sizes = [d.dim_value if d.HasField("dim_value") else 1 for d in declared[:1]] + [d.dim_value for d in declared[1:]]
    if not sizes or min(sizes) < 1:
        raise InputError(f"{path}: the shape of the output {output!r} is not known")
    return math.prod(sizes)


def check_shapes(path: Path, network: Network, shape: tuple[int, ...], preprocess: Preprocess) -> None:
    """Raise InputError unless samples of `shape` can be the model's input: the same numbers in the same order, but for `layout`."""
    arrived = _arranged(shape, preprocess)
    wanted, have = (tuple(n for n in dims if n != 1) for dims in (network.input_shape, arrived))
    flat = len(wanted) <= 1 or len(have) <= 1
    if math.prod(arrived) != math.prod(network.input_shape) or not (wanted == have or flat):
        hint = ""
        if len(shape) == 3 and shape[-1] in (1, 3) and preprocess.layout == "" and (shape[2], *shape[:2]) == network.input_shape[1:]:
            hint = '; is it layout = "HWC->CHW"?'
        raise InputError(f"{path}: samples of shape {list(shape)} do not fit the model's input {list(network.input_shape)}{hint}")


def _arranged(shape: tuple[int, ...], preprocess: Preprocess) -> tuple[int, ...]:
    return tuple(shape[i] for i in _order(len(shape), preprocess))


def _order(rank: int, preprocess: Preprocess) -> tuple[int, ...]:
    """The permutation of axes that the layout asks for."""
    if not preprocess.layout or rank != 3:
        return tuple(range(rank))
    return (2, 0, 1) if preprocess.layout == "HWC->CHW" else (1, 2, 0)


def composed(network: Network, shape: tuple[int, ...], preprocess: Preprocess, recipe: Recipe) -> bytes:
    """The file of a query. shape: of a sample in the user's units."""
    draft = Draft()
    samples = [X] if recipe.transform is None else recipe.transform(draft, X)
    results = [_copy(draft, network, number, _prepared(draft, sample, shape, network, preprocess)) for number, sample in enumerate(samples)]
    y = results[0] if recipe.judged is None else recipe.judged(draft, results, X)
    draft.nodes.append(helper.make_node("Identity", [y], [Y], name=Y))
    graph = helper.make_graph(
        draft.nodes, "certify", [helper.make_tensor_value_info(X, TensorProto.FLOAT, (recipe.inputs,))],
        [helper.make_tensor_value_info(Y, TensorProto.FLOAT, (recipe.outputs,))], [*draft.initializers],
    )
    model = helper.make_model(graph, opset_imports=list(network.proto.opset_import), functions=list(network.proto.functions))
    model.ir_version = max(network.proto.ir_version, 4)  # from 4 on initialisers need not be inputs
    model.producer_name, model.producer_version = "soundproof certify", ""
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except ValueError as error:
        raise InputError(f"the composed model cannot be written: {error}") from error


def _prepared(draft: Draft, x: str, shape: tuple[int, ...], network: Network, preprocess: Preprocess) -> str:
    """scale, mean, std, layout, shape: as the policy states them, in float32, in this order."""
    if preprocess.plain:
        return draft.reshape(x, network.input_shape)
    value = draft.reshape(x, shape)
    if preprocess.scale is not None:
        value = draft.op("Mul", value, draft.constant(float(preprocess.scale)))
    if preprocess.mean:
        value = draft.op("Sub", value, draft.constant(_spread(preprocess.mean, shape, preprocess)))
    if preprocess.std:
        value = draft.op("Div", value, draft.constant(_spread(preprocess.std, shape, preprocess)))
    order = _order(len(shape), preprocess)
    if order != tuple(range(len(shape))):
        value = draft.op("Transpose", value, perm=list(order))
    return draft.reshape(value, network.input_shape)


def _spread(numbers: Sequence[Any], shape: tuple[int, ...], preprocess: Preprocess) -> Array:
    """mean or std along the axis of channels (or features), so that it broadcasts over a sample."""
    values = np.asarray([float(v) for v in numbers], np.float32)
    axis = preprocess.channel_axis(shape)
    if len(values) not in (1, shape[axis]):
        raise InputError(f"[preprocess]: {len(values)} numbers of mean or std for samples of shape {list(shape)}; expected 1 or {shape[axis]}")
    dims = [1] * len(shape)
    dims[axis] = len(values)
    return values.reshape(dims)


def _copy(draft: Draft, network: Network, number: int, sample: str) -> str:
    """The model on `sample`, under names of its own but for its weights, which copies share; its output, flat."""
    graph = network.proto.graph
    prefix = f"{PREFIX}model{number}/" if number else ""
    constants = {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}
    if not number:
        draft.initializers.extend(graph.initializer)
    names: Mapping[str, str] = {name: name for name in constants}

    def renamed(name: str) -> str:
        return name if not name or name in names else sample if name == network.input else prefix + name

    for node in graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise InputError(f"the operator {node.op_type} {node.name!r} holds a sub-graph, which campaigns do not compose")
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [renamed(name) for name in node.input]
        copy.output[:] = [renamed(name) for name in node.output]
        copy.name = f"{prefix}{node.name}" if node.name else ""
        draft.nodes.append(copy)
    return draft.reshape(renamed(network.output), (network.outputs,))
