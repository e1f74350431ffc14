"""The bytes of an ONNX file -> Network. Whatever has no rule is refused (ARITHMETIC 9 "Model", 65 to 69).

The bytes are parsed as protobuf, whatever the file is called. Shapes are computed, never read from value_info.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from verifier.checker import rewritten
from verifier.checker.lowering.builder import Builder, Known, Rounded, Shape, Tensor
from verifier.checker.lowering.scope import Scope, check_names, domain_of, require, standard_version
from verifier.checker.lowering.tensors import take_external
from verifier.checker.network import Network, without_the_unread
from verifier.checker.refusal import Rejected

IR_VERSIONS, RESERVED = range(3, 15), ("ai.onnx", "com.microsoft")


def read(data: bytes, hidden: tuple[str, ...] = (), external: Mapping[str, bytes] = MappingProxyType({})) -> Network:
    """The network of the file with these bytes; the tensors `hidden`, which nodes of the graph make, are outputs, too, behind the file's.
    `external` are the files of its `locations`."""
    model, weights = _parse(data)
    for k, tensor in enumerate(model.graph.initializer):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            weights[k] = take_external(tensor, weights[k], external)
    return _Reader(model, weights).run(hidden)


def locations(data: bytes) -> tuple[str, ...]:
    """The files, relative to the folder of the file with these bytes, in which initialisers have their data; in alphabetical order."""
    if b"location" not in data:  # the key of such an entry
        return ()
    model, _ = _parse(data)
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data if tensor.data_location == onnx.TensorProto.EXTERNAL]
    return tuple(sorted({entry.value for entry in entries if entry.key == "location"}))


def _parse(data: bytes) -> tuple[onnx.ModelProto, list[bytes]]:
    """The model without the raw data of its initialisers, and that."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as error:
        raise Rejected("unsupported-model", f"not an ONNX file: {error}") from error
    require(model.HasField("graph"), "no graph")
    weights = _take_weights(model, len(data))
    require(model.ir_version in IR_VERSIONS, f"IR version {model.ir_version}")
    require(not model.training_info, "training information")
    require(not model.graph.sparse_initializer, "sparse initialisers")
    require(not model.graph.quantization_annotation, "quantisation")
    return model, weights


def _take_weights(model: onnx.ModelProto, size: int) -> list[bytes]:
    """The raw data of the initialisers, taken out of a file of `size` bytes. The rest has to have the length that onnx would write it in,
    also without fields that onnx does not know: it does not if a field stands twice, or two files in one. (Large weights take long to write.)"""
    weights, within = [tensor.raw_data for tensor in model.graph.initializer], 0
    for tensor, raw in zip(model.graph.initializer, weights, strict=True):
        if tensor.HasField("raw_data"):
            tensor.ClearField("raw_data")
            rest, gone = tensor.ByteSize(), 1 + _length(len(raw)) + len(raw)
            within += gone + _length(rest + gone) - _length(rest)
    rest = model.graph.ByteSize()
    expected = size - within - _length(rest + within) + _length(rest)
    require(model.ByteSize() == expected, "not encoded as onnx would: repeated fields, or several files in one")
    model.DiscardUnknownFields()
    require(model.ByteSize() == expected, "unknown fields")
    return weights


def _length(number: int) -> int:
    """Of a non-negative number in a protobuf, in bytes."""
    return 1 if number == 0 else -(-number.bit_length() // 7)


class _Reader:
    """The inputs, the nodes (a scope) and the outputs of the graph."""

    def __init__(self, model: onnx.ModelProto, weights: list[bytes]) -> None:
        self.graph, self.builder = model.graph, Builder()
        self.initialisers = {proto.name: (proto, raw) for proto, raw in zip(model.graph.initializer, weights, strict=True)}
        functions = {(domain_of(f), f.name): f for f in model.functions if not f.overload}
        foreign = not any(domain == "" or domain.startswith(RESERVED) for domain, _ in functions)
        require(len(functions) == len(model.functions) and foreign, "functions: two of one name, an overloaded one, or one of a runtime's domain")
        self.builder.opset = standard_version(model)
        self.scope = Scope(self.builder, functions, self.builder.opset, self.initialisers)
        self.values = self.scope.values

    def run(self, hidden: tuple[str, ...]) -> Network:
        g, names = self.graph, (*_numeric(self.graph), *hidden)
        require({*hidden} <= {name for node in g.node for name in node.output}, "a hidden tensor that no node makes")
        free = [info.name for info in g.input if info.name not in self.initialisers]
        require(len({info.name for info in g.input}) == len(g.input), "two inputs of one name")
        check_names(g.node, free, [t.name for t in g.initializer], names, set())
        inputs = self._inputs()
        self.scope.run(g.node, names)
        outputs, b = [self._output(name) for name in names], self.builder
        return without_the_unread(Network(
            tuple(b.nodes), tuple(x.node for _, x in inputs), tuple(outputs), tuple(n for n, _ in inputs), names, b.sites, tuple(b.softmaxes),
            rewritten.reason(g, self.scope.functions.values(), self.scope.find),
        ))

    def _inputs(self) -> list[tuple[str, Tensor]]:
        """The inputs without an initialiser. One with an initialiser has a default that a caller could override (before IR version 4 all
        initialisers had to be listed so); properties speak about the network with its defaults, and name the other inputs only."""
        free = [proto for proto in self.graph.input if proto.name not in self.initialisers]
        found = [(proto.name, self.builder.input(proto.name, _shape(proto))) for proto in free]
        require(len(found) > 0, "no inputs")
        self.builder.wide = any(proto.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for proto in free)
        self.values.update(found)
        return found

    def _output(self, name: str) -> int:
        value = self.scope.find(name)
        if isinstance(value, Known | Rounded):
            kind = value.value.dtype
            require(kind.kind == "f" and kind.itemsize >= 4, f"output {name!r} of type {kind}")
            self.builder.begin(f"output {name!r}", name)
            value = self.values[name] = self.builder.constant(value.value) if isinstance(value, Known) else self.builder.rounded(value)
        require(isinstance(value, Tensor), f"output {name!r} is a sequence")
        return value.node if isinstance(value, Tensor) else -1


def _numeric(graph: onnx.GraphProto) -> tuple[str, ...]:
    """The outputs: in the place of one that a ZipMap makes the tensor it reads (once), and none that are strings."""
    maps = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "ZipMap" and n.domain == "ai.onnx.ml" and n.output and n.input}
    given, kept = {info.name for info in graph.output}, list[str]()
    require(len(given) == len(graph.output), "two outputs of one name")
    for info in graph.output:
        name = maps.get(info.name, info.name)
        taken = name in kept or (info.name in maps and name in given)
        if not taken and (info.name in maps or info.type.tensor_type.elem_type != onnx.TensorProto.STRING):
            kept.append(name)
    require(len(kept) > 0, "no outputs that are numbers, or none")
    return tuple(kept)


def _shape(proto: onnx.ValueInfoProto) -> Shape:
    """Of a float32 or float64 tensor; the leading axis may be dynamic and is 1 then."""
    require(proto.type.HasField("tensor_type"), f"input {proto.name!r} is no tensor")
    tensor = proto.type.tensor_type
    require(tensor.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE), f"input {proto.name!r} of element type {tensor.elem_type}")
    require(tensor.HasField("shape"), f"input {proto.name!r} without a shape")
    shape = [int(d.dim_value) if d.HasField("dim_value") else 0 for d in tensor.shape.dim]
    dynamic = [i for i, n in enumerate(shape) if n == 0]
    require(dynamic in ([], [0]) and all(n >= 0 for n in shape), f"input {proto.name!r} of shape {shape}")
    return tuple(1 if n == 0 else n for n in shape)
