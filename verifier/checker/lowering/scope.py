"""Nodes of one graph -> values: the file's graph, the body of a function, one run of a sub-graph.

The operators of a body are named after it (FORMAT.md, "Sites"): "y/" and the tensor, y being the first output of what has the body,
or "y/k/" in iteration k of a Loop, Scan or SequenceMap. No name may stand for two tensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from verifier.checker.lowering import LOWERINGS, TAKES_INTEGERS, Entry
from verifier.checker.lowering.attention import through_mask
from verifier.checker.lowering.builder import Builder, Held, Items, Known, Masked, Tensor, Unbounded, Value, constant_of
from verifier.checker.lowering.constants import Rounds, is_constant
from verifier.checker.lowering.contributed import Schema, kind_of, schema_of
from verifier.checker.lowering.operator import Attribute, Operator, carried, settled
from verifier.checker.lowering.tensors import read_tensor
from verifier.checker.refusal import Rejected

STANDARD, OPSETS, DEEPEST = ("", "ai.onnx"), range(7, 29), 64
_P, _T = onnx.AttributeProto, onnx.defs.OpSchema.AttrType
FIELDS = {  # the type of an attribute -> the field that holds it, and the standard's name of the type
    _P.FLOAT: ("f", _T.FLOAT), _P.INT: ("i", _T.INT), _P.STRING: ("s", _T.STRING), _P.TENSOR: ("t", _T.TENSOR),
    _P.FLOATS: ("floats", _T.FLOATS), _P.INTS: ("ints", _T.INTS), _P.STRINGS: ("strings", _T.STRINGS), _P.GRAPH: ("g", _T.GRAPH),
}  # fmt: skip
Functions = Mapping[tuple[str, str], onnx.FunctionProto]
Initialisers = Mapping[str, tuple[onnx.TensorProto, bytes]]


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Rejected("unsupported-model", what)


def domain_of(proto: onnx.NodeProto | onnx.FunctionProto) -> str:
    return "" if proto.domain in STANDARD else str(proto.domain)


def standard_version(proto: onnx.ModelProto | onnx.FunctionProto) -> int:
    """Of the standard's operators; other domains may be imported, and a model that has only their operators needs no other import."""
    versions = {entry.version for entry in proto.opset_import if entry.domain in STANDARD}
    if isinstance(proto, onnx.ModelProto) and proto.opset_import and not versions and not any(n.domain in STANDARD for n in proto.graph.node):
        return OPSETS[-1]
    require(len(versions) == 1 and versions <= set(OPSETS), f"versions {sorted(versions)} of the standard's operators")
    return int(versions.pop())


def check_names(nodes: Sequence[onnx.NodeProto], inputs: Sequence[str], constants: Sequence[str], outputs: Sequence[str], outer: set[str]) -> None:
    """Every tensor has one name and one origin, and exists before it is read; `outer` are those that a sub-graph sees besides."""
    names = [name for n in nodes for name in (*n.input, *n.output, n.name, n.op_type, n.domain)]
    require(all(type(name) is str for name in (*names, *inputs, *constants, *outputs)), "a name that is not UTF-8")
    require(len(set(constants)) == len(constants), "two initialisers of one name")
    require(len(set(inputs)) == len(inputs), "two inputs of one name")
    require(len(set(outputs)) == len(outputs) > 0, "two outputs of one name, or none")
    defined = {*constants, *inputs}
    require("" not in defined and not defined & outer, "an input or initialiser without a name, or with one that is taken")
    defined |= outer
    for node in nodes:
        missing = [name for name in node.input if name and name not in defined]
        require(not missing, f"{place_of(node)} reads {missing}, which no earlier node makes")
        for g in bodies(node):
            check_names(g.node, [i.name for i in g.input], [t.name for t in g.initializer], [o.name for o in g.output], defined)
        made = [name for name in node.output if name]
        require(len(set(made)) == len(made) > 0 and not defined.intersection(made), f"{place_of(node)} makes {made}")
        defined.update(made)
    require(all(name in defined for name in outputs), "an output that nothing makes")


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [a.g for a in node.attribute if a.type == _P.GRAPH]


class Scope:
    """`values` are the tensors and sequences known so far (None: an optional input of a function that the node leaves out)."""

    def __init__(self, builder: Builder, functions: Functions, opset: int, initialisers: Initialisers, prefix: str = "", depth: int = 0) -> None:
        self.builder, self.functions, self.opset, self.initialisers, self.prefix, self.depth = builder, functions, opset, initialisers, prefix, depth
        self.values: dict[str, Held | None] = {}
        self.parent: Scope | None = None
        require(depth <= DEEPEST, f"bodies within each other at {prefix!r}")

    def run(self, nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> list[Held | None]:
        """The outputs, from the nodes that they depend on, in the order of the file."""
        wanted, found = set(outputs), []
        for node in reversed(nodes):
            if wanted.intersection(name for name in node.output if name):
                found.append(node)
                wanted.update(_read_by(node))
        for node in reversed(found):
            self._lower(node)
        return [self.find(name) for name in outputs]

    def find(self, name: str) -> Held | None:
        if name in self.initialisers and name not in self.values:
            known = constant_of(read_tensor(*self.initialisers[name], f"initialiser {name!r}"))
            self.builder.wide, self.values[name] = self.builder.wide or known.value.dtype == np.float64, known
        if name in self.values or self.parent is None:
            return self.values[name]
        return self.parent.find(name)

    def _lower(self, node: onnx.NodeProto) -> None:
        held = tuple(self.find(name) if name else None for name in node.input)
        function = self.functions.get((domain_of(node), node.op_type))
        if function is not None and not node.overload:
            results = self._call(function, node, held)
        else:
            entry, op = self._operator(node, held)
            try:
                results = list(self._results(entry, op))
            except Rejected as error:
                raise error if error.rule.startswith("unsupported") else op.refuse(error.place) from error
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise op.refuse(f"inputs or attributes that do not fit together: {error}") from error
            op.require(not any(node.output[len(results) :]), f"more than {len(results)} outputs")
        self.values.update({name: results[i] for i, name in enumerate(node.output) if name})

    def _operator(self, node: onnx.NodeProto, held: tuple[Held | None, ...]) -> tuple[Entry, Operator]:
        place, domain = place_of(node) + (f" in {self.prefix!r}" if self.prefix else ""), domain_of(node)
        entry = LOWERINGS.get(f"{domain}.{node.op_type}" if domain else node.op_type)
        if entry is None or node.overload:
            raise Rejected("unsupported-operator", place)
        try:
            schema, models = (schema_of(domain, node.op_type, opset, entry.attributes) for opset in (self.opset, self.builder.opset))
        except onnx.defs.SchemaError as error:
            raise Rejected("unsupported-operator", f"{place} in operator set {self.opset}") from error
        version = schema.since_version
        fits = schema.min_input <= len(node.input) <= schema.max_input and version == models.since_version  # functions are read by the model's
        if version not in entry.versions or schema.deprecated or not fits:
            raise Rejected("unsupported-operator", f"{place}: version {version} with {len(node.input)} inputs, {models.since_version} in the model")
        given = dict(_attributes(node, entry, schema, place))
        missing = [name for name, a in schema.attributes.items() if a.required and name not in given]
        if missing or len(given) != len(node.attribute):
            raise Rejected("unsupported-operator", f"{place}: attributes {missing} missing, or one given twice")
        inputs = tuple(x if isinstance(x, Tensor | Known) else None for x in held)
        return entry, Operator(kind_of(domain, node.op_type), version, place, self.builder, given, inputs, tuple(node.output), held, self._run_body)

    def _results(self, entry: Entry, op: Operator) -> Sequence[Held]:
        tensor = self.prefix + _first(op.outputs)
        require(tensor not in self.builder.made, f"{op.place}: two operators, one of them in a body, make {tensor!r}")
        self.builder.made.add(tensor)
        self.builder.begin(op.place, tensor)
        op = settled(op)
        if op.kind == "Identity" and isinstance(x := op.held[0], Items | Unbounded | Masked):
            return [x]
        if op.kind != "Attention" and any(isinstance(x, Unbounded | Masked) for x in op.held):
            return [through_mask(op)]
        if entry.constant is not None and is_constant(op.inputs):
            try:
                return _list(entry.constant(op))
            except Rounds:
                pass  # lowered on constant nodes, which float32 has a rule for
        integers = [x.element for x in op.inputs if isinstance(x, Tensor) and x.element != "float32"]
        if entry.lower is None or (integers and op.kind not in TAKES_INTEGERS):
            raise op.refuse(f"not on constants only{''.join(f', and of {kind}' for kind in integers)}")
        return carried(op, _list(entry.lower(op)))

    def _call(self, function: onnx.FunctionProto, node: onnx.NodeProto, held: tuple[Held | None, ...]) -> list[Held | None]:
        """The outputs of a function of the model."""
        place, inputs, outputs = place_of(node), list(function.input), list(function.output)
        given, known = {a.name: a for a in node.attribute}, {a.name: a for a in function.attribute_proto}
        names = {*function.attribute, *known}
        require(len(held) <= len(inputs) and len(node.output) <= len(outputs), f"{place}: more inputs or outputs than the function has")
        require(len(given) == len(node.attribute) and given.keys() <= names <= given.keys() | known.keys(), f"{place}: attributes")
        nodes = [_bound(inner, known | given) for inner in function.node]
        check_names(nodes, inputs, [], outputs, set())
        body = Scope(self.builder, self.functions, standard_version(function), {}, f"{self.prefix}{_first(node.output)}/", self.depth + 1)
        body.values = {name: held[i] if i < len(held) else None for i, name in enumerate(inputs)}
        wanted = [outputs[i] for i, name in enumerate(node.output) if name]
        body.run(nodes, wanted)
        return [body.find(name) if name in wanted else None for name in outputs]

    def _run_body(self, graph: onnx.GraphProto, inputs: Sequence[Held], name: str) -> list[Held]:
        """The outputs of a sub-graph, which sees the tensors of this scope; `name` tells its operators from others."""
        require(len(inputs) == len(graph.input), f"a sub-graph of {name!r} with {len(inputs)} inputs")
        require(not graph.sparse_initializer and not graph.quantization_annotation, f"sparse or quantised tensors in {name!r}")
        initialisers = {t.name: (t, t.raw_data) for t in graph.initializer}
        body = Scope(self.builder, self.functions, self.opset, initialisers, f"{self.prefix}{name}/", self.depth + 1)
        body.parent = self
        body.values = {info.name: value for info, value in zip(graph.input, inputs, strict=True)}
        with self.builder.inside():
            found = body.run(graph.node, [info.name for info in graph.output])
        require(all(value is not None for value in found), f"an output of {name!r} is missing")
        return [value for value in found if value is not None]


def _first(names: Sequence[str]) -> str:
    return next(name for name in names if name)


def _read_by(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node and its sub-graphs read."""
    inner = [name for g in bodies(node) for name in (*(o.name for o in g.output), *(name for n in g.node for name in _read_by(n)))]
    return {name for name in (*node.input, *inner) if name}


def _bound(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """A node of a function whose attributes are those of the call where it says so."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.ClearField("attribute")
    for a in node.attribute:
        if not a.ref_attr_name or a.ref_attr_name in given:
            added = copy.attribute.add()
            added.CopyFrom(given[a.ref_attr_name] if a.ref_attr_name else a)
            added.name = a.name
            inner = [_bound(n, given) for n in added.g.node]
            if inner:
                added.g.ClearField("node")
                added.g.node.extend(inner)
    return copy


def _list(found: Held | list[Value] | list[Held]) -> Sequence[Held]:
    return found if isinstance(found, list) else [found]


def place_of(node: onnx.NodeProto) -> str:
    kind = f"{node.domain}{'.' if node.domain else ''}{node.op_type}"
    return f"{kind if kind.isprintable() else repr(kind)} {node.name or (node.output[0] if node.output else '')!r}"


def _attributes(node: onnx.NodeProto, entry: Entry, schema: onnx.defs.OpSchema | Schema, place: str) -> Iterator[tuple[str, Attribute]]:
    """The attributes of a node: each known here and to its version, of the type that the standard says, in one field."""
    for a in node.attribute:
        defined, (field, expected) = schema.attributes.get(a.name), FIELDS.get(a.type, ("", None))
        if a.name not in entry.attributes or defined is None or not field or defined.type != expected:
            raise Rejected("unsupported-operator", f"{place}: attribute {a.name!r} of type {a.type}")
        others = [f.name for f, _ in a.ListFields() if f.name not in ("name", "type", "doc_string", field)]
        if others:
            raise Rejected("unsupported-operator", f"{place}: attribute {a.name!r} with {others}")
        found = _plain(a, field, place)
        below = isinstance(found, np.ndarray) and found.dtype.kind == "f" and not np.isfinite(found).all()
        if below and node.op_type != "Constant":
            raise Rejected("unsupported-operator", f"{place}: attribute {a.name!r} with Inf")
        yield a.name, found


def _plain(a: onnx.AttributeProto, field: str, place: str) -> Attribute:
    found = getattr(a, field)
    if field == "t":
        return read_tensor(found, found.raw_data, f"{place}: attribute {a.name!r}")
    if field == "s":
        return str(found.decode("utf-8", errors="backslashreplace"))
    if field == "strings":
        return tuple(str(v.decode("utf-8", errors="backslashreplace")) for v in found)
    if field in ("f", "i"):
        return float(found) if field == "f" else int(found)
    if isinstance(found, onnx.GraphProto):
        return found
    return tuple(float(v) for v in found) if field == "floats" else tuple(int(v) for v in found)
