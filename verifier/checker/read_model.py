"""The bytes of an ONNX file -> Network. Whatever has no rule is refused (ARITHMETIC 9 "Model", 65 to 69).

The bytes are parsed as protobuf, whatever the file is called. Shapes are computed, never read from value_info.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from verifier.checker.lowering import LOWERINGS, TAKES_INTEGERS, Entry
from verifier.checker.lowering.builder import Builder, Known, Shape, Tensor, Value
from verifier.checker.lowering.constants import Rounds, is_constant
from verifier.checker.lowering.operator import Attribute, Operator
from verifier.checker.lowering.tensors import read_tensor
from verifier.checker.network import Network
from verifier.checker.refusal import Rejected

IR_VERSIONS, OPSETS = range(3, 15), range(7, 29)
STANDARD = ("", "ai.onnx")
_P, _T = onnx.AttributeProto, onnx.defs.OpSchema.AttrType
FIELDS = {  # the type of an attribute -> the field that holds it, and the standard's name of the type
    _P.FLOAT: ("f", _T.FLOAT), _P.INT: ("i", _T.INT), _P.STRING: ("s", _T.STRING), _P.TENSOR: ("t", _T.TENSOR),
    _P.FLOATS: ("floats", _T.FLOATS), _P.INTS: ("ints", _T.INTS),
}  # fmt: skip


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Rejected("unsupported-model", what)


def read(data: bytes) -> Network:
    """The network of the file with these bytes."""
    model, weights = _parse(data)
    return _Reader(model.graph, weights, _opset(model)).run()


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
    require(not model.functions, "functions")
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


def _opset(model: onnx.ModelProto) -> int:
    """The version of the standard's operators; other domains may be imported, but nodes of theirs are refused."""
    versions = {entry.version for entry in model.opset_import if entry.domain in STANDARD}
    require(len(versions) == 1 and versions <= set(OPSETS), f"versions {sorted(versions)} of the standard's operators")
    return int(versions.pop())


class _Reader:
    """One pass over the graph; `values` are the tensors known so far."""

    def __init__(self, graph: onnx.GraphProto, weights: list[bytes], opset: int) -> None:
        self.graph, self.opset, self.builder = graph, opset, Builder()
        self.initialisers = {proto.name: (proto, raw) for proto, raw in zip(graph.initializer, weights, strict=True)}
        self.values: dict[str, Value] = {}

    def run(self) -> Network:
        self._check_names()
        inputs = self._inputs()
        for node in self._needed():
            self._lower(node)
        outputs = [self._output(info.name) for info in self.graph.output]
        b, names = self.builder, tuple(info.name for info in self.graph.output)
        return Network(
            tuple(b.nodes), tuple(x.node for _, x in inputs), tuple(outputs), tuple(n for n, _ in inputs), names, b.sites, tuple(b.softmaxes)
        )

    def _check_names(self) -> None:
        """Every tensor has one name and one origin, and exists before it is read."""
        g = self.graph
        names = [name for n in g.node for name in (*n.input, *n.output, n.name, n.op_type, n.domain)]
        names += [*self.initialisers, *(proto.name for proto in (*g.input, *g.output))]
        require(all(type(name) is str for name in names), "a name that is not UTF-8")
        require(len(self.initialisers) == len(g.initializer), "two initialisers of one name")
        require(len({i.name for i in g.input}) == len(g.input), "two inputs of one name")
        require(len({o.name for o in g.output}) == len(g.output) > 0, "two outputs of one name, or none")
        defined = {*self.initialisers, *(i.name for i in g.input)}
        require("" not in defined, "an input or initialiser without a name")
        for node in g.node:
            missing = [name for name in node.input if name and name not in defined]
            require(not missing, f"{_place(node)} reads {missing}, which no earlier node makes")
            made = [name for name in node.output if name]
            require(len(set(made)) == len(made) > 0 and not defined.intersection(made), f"{_place(node)} makes {made}")
            defined.update(made)
        require(all(o.name in defined for o in g.output), "an output that nothing makes")

    def _inputs(self) -> list[tuple[str, Tensor]]:
        """The inputs without an initialiser. One with an initialiser has a default that a caller could override (before IR version 4 all
        initialisers had to be listed so); properties speak about the network with its defaults, and name the other inputs only."""
        free = [proto for proto in self.graph.input if proto.name not in self.initialisers]
        found = [(proto.name, self.builder.input(proto.name, _shape(proto))) for proto in free]
        require(len(found) > 0, "no inputs")
        self.builder.wide = any(proto.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE for proto in free)
        self.values.update(found)
        return found

    def _needed(self) -> list[onnx.NodeProto]:
        """The nodes that an output depends on, in the order of the file."""
        wanted, found = {info.name for info in self.graph.output}, []
        for node in reversed(self.graph.node):
            if wanted.intersection(name for name in node.output if name):
                found.append(node)
                wanted.update(node.input)
        return found[::-1]

    def _lower(self, node: onnx.NodeProto) -> None:
        entry, op = self._operator(node)
        try:
            results = self._results(entry, op)
        except Rejected as error:
            raise error if error.rule.startswith("unsupported") else op.refuse(str(error)) from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise op.refuse(f"inputs or attributes that do not fit together: {error}") from error
        op.require(not any(node.output[len(results) :]), f"more than {len(results)} outputs")
        self.values.update({name: results[i] for i, name in enumerate(node.output) if name})

    def _operator(self, node: onnx.NodeProto) -> tuple[Entry, Operator]:
        place, entry = _place(node), LOWERINGS.get(node.op_type)
        if node.domain not in STANDARD or entry is None or node.overload:
            raise Rejected("unsupported-operator", place)
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        except onnx.defs.SchemaError as error:
            raise Rejected("unsupported-operator", f"{place} in operator set {self.opset}") from error
        version = schema.since_version
        if version not in entry.versions or schema.deprecated or not schema.min_input <= len(node.input) <= schema.max_input:
            raise Rejected("unsupported-operator", f"{place}: version {version} with {len(node.input)} inputs")
        attributes = dict(_attributes(node, entry, schema, place))
        missing = [name for name, a in schema.attributes.items() if a.required and name not in attributes]
        if missing or len(attributes) != len(node.attribute):
            raise Rejected("unsupported-operator", f"{place}: attributes {missing} missing, or one given twice")
        inputs = tuple(self._value(name) if name else None for name in node.input)
        return entry, Operator(node.op_type, version, place, self.builder, attributes, inputs, tuple(node.output))

    def _results(self, entry: Entry, op: Operator) -> list[Value]:
        self.builder.begin(op.place, op.outputs[0])
        if entry.constant is not None and is_constant(op.inputs):
            try:
                return _list(entry.constant(op))
            except Rounds:
                pass  # lowered on constant nodes, which float32 has a rule for
        integers = [x.element for x in op.inputs if isinstance(x, Tensor) and x.element != "float32"]
        if entry.lower is None or (integers and op.kind not in TAKES_INTEGERS):
            raise op.refuse(f"not on constants only{''.join(f', and of {kind}' for kind in integers)}")
        self.builder.wide |= any(isinstance(x, Known) and x.value.dtype == np.float64 for x in op.inputs)
        return _list(entry.lower(op))

    def _value(self, name: str) -> Value:
        if name not in self.values:
            self.values[name] = Known(read_tensor(*self.initialisers[name], f"initialiser {name!r}"))
        return self.values[name]

    def _output(self, name: str) -> int:
        value = self._value(name)
        if isinstance(value, Known):
            self.builder.begin(f"output {name!r}", name)
            value = self.values[name] = self.builder.constant(value.value)
        return value.node


def _list(found: Value | list[Value]) -> list[Value]:
    return found if isinstance(found, list) else [found]


def _place(node: onnx.NodeProto) -> str:
    kind = f"{node.domain}{'.' if node.domain else ''}{node.op_type}"
    return f"{kind if kind.isprintable() else repr(kind)} {node.name or (node.output[0] if node.output else '')!r}"


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


def _attributes(node: onnx.NodeProto, entry: Entry, schema: onnx.defs.OpSchema, place: str) -> Iterator[tuple[str, Attribute]]:
    """The attributes of a node: each known here and to its version, of the type that the standard says, in one field."""
    for a in node.attribute:
        defined, (field, expected) = schema.attributes.get(a.name), FIELDS.get(a.type, ("", None))
        if a.name not in entry.attributes or defined is None or not field or defined.type != expected:
            raise Rejected("unsupported-operator", f"{place}: attribute {a.name!r} of type {a.type}")
        others = [f.name for f, _ in a.ListFields() if f.name not in ("name", "type", "doc_string", field)]
        if others:
            raise Rejected("unsupported-operator", f"{place}: attribute {a.name!r} with {others}")
        yield a.name, _plain(a, field, place)


def _plain(a: onnx.AttributeProto, field: str, place: str) -> Attribute:
    found = getattr(a, field)
    if field == "t":
        return read_tensor(found, found.raw_data, f"{place}: attribute {a.name!r}")
    if field == "s":
        return str(found.decode("utf-8", errors="backslashreplace"))
    if field in ("f", "i"):
        return float(found) if field == "f" else int(found)
    return tuple(float(v) for v in found) if field == "floats" else tuple(int(v) for v in found)
