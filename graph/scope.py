"""The nodes of one graph in their scope: the file's graph, the body of a model-local function, one run of a sub-graph.

Bodies are expanded where they are used. An operator inside is known by the name of its first output after the prefix of its
scope: "y/" for the function or If whose first output is y, "y/3/" for the fourth iteration of such a Loop or Scan.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graph.bodies import standard_body
from graph.errors import MalformedGraph, ModelError, UnsupportedOperator
from graph.lowering import ALWAYS_LOWERED, CONSTANT_ONLY, LOWERINGS, MOVES_ONLY, gates
from graph.lowering.builder import Builder, Cut, CutShape, Held, Known, Masked, Tensor, Unbounded, constant
from graph.lowering.cuts import through_cut
from graph.lowering.masks import through_mask
from graph.lowering.operator import Operator, describe, read_attributes
from graph.lowering.reference import COMPLAINTS, run_reference
from graph.lowering.schemas import CONTRIBUTED, STANDARD
from graph.weights import WeightReader

Array = NDArray[Any]
FunctionKey = tuple[str, str, str]  # domain, name, overload

FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE}
DEEPEST = 64  # scopes within each other


@dataclass(frozen=True, eq=False)
class Shared:
    """What all scopes of a file share. `readers`: of the initialisers of every (sub-)graph, by the graph's identity."""

    builder: Builder
    functions: Mapping[FunctionKey, onnx.FunctionProto]
    opsets: Mapping[str, int]  # of the model
    folder: Path | None
    element_limit: int
    readers: dict[int, tuple[onnx.GraphProto, WeightReader]] = field(default_factory=dict)

    def reader(self, graph: onnx.GraphProto) -> WeightReader:
        if id(graph) not in self.readers:
            self.readers[id(graph)] = graph, WeightReader(graph, self.folder, self.element_limit)
        return self.readers[id(graph)][1]

    def external_hashes(self) -> tuple[tuple[str, str], ...]:
        return tuple(sorted({pair for _, reader in self.readers.values() for pair in reader.external_hashes()}))


def functions_of(proto: onnx.ModelProto) -> dict[FunctionKey, onnx.FunctionProto]:
    """The model-local functions. Raises ModelError where two have the same name."""
    found = {(domain_of(f), f.name, f.overload): f for f in proto.functions}
    if len(found) != len(proto.functions):
        raise ModelError("two model-local functions have the same domain, name and overload")
    reserved = [name for domain, name, _ in found if domain == "" or domain.startswith(("ai.onnx", "com.microsoft"))]
    if reserved:
        raise ModelError(f"model-local functions {reserved} stand in a domain of the standard or of onnxruntime: rename their domain")
    return found


def domain_of(proto: onnx.NodeProto | onnx.FunctionProto) -> str:
    return "" if proto.domain in STANDARD else str(proto.domain)


class Scope:
    """One pass over the nodes of a graph; `values` holds every tensor computed so far (None: an optional input left out)."""

    depth = 0  # how many scopes are around this one

    def __init__(self, shared: Shared, opsets: Mapping[str, int], reader: WeightReader, prefix: str = "", parent: Scope | None = None) -> None:
        self.shared, self.opsets, self.reader, self.prefix, self.parent = shared, opsets, reader, prefix, parent
        self.values: dict[str, Held | None] = {}
        self.made: set[str] = set()  # by some node of this scope, perhaps a later one

    def run(self, nodes: Iterable[onnx.NodeProto], outputs: Sequence[str]) -> None:
        """Lower the nodes that `outputs` depend on, in the order of the file."""
        nodes, wanted, needed = list(nodes), set(outputs), []
        self.made = {name for node in nodes for name in node.output}
        for node in reversed(nodes):
            if wanted.intersection(name for name in node.output if name):
                needed.append(node)
                wanted.update(_read_by(node))
        for node in reversed(needed):
            self.lower(node)

    def find(self, name: str) -> Held | None:
        """The tensor or sequence `name` in this scope or one around it. Raises ModelError where there is none."""
        if name in self.values:
            return self.values[name]
        if name in self.reader:
            self.values[name] = constant(self.reader.read(name), f"initialiser {name!r}")
            return self.values[name]
        if self.parent is not None:
            return self.parent.find(name)
        if name in self.made:
            raise ModelError(f"{name!r} is made by a later node; ONNX wants nodes behind those that they read: sort them, if they are no cycle")
        raise ModelError(f"{name!r} is neither made by an earlier node nor an input or initialiser")

    def define(self, name: str, value: Held | None, place: str) -> None:
        self._check_new(name, place)
        self.values[name] = value

    def _check_new(self, name: str, place: str) -> None:
        if name in self.values or name in self.reader:
            raise ModelError(f"{place}: tensor {name!r} is defined twice")

    def opset(self, node: onnx.NodeProto) -> int:
        """The version of the node's operator set."""
        domain = domain_of(node)
        if domain not in self.opsets:
            raise ModelError(f"{describe(node, 0)}: opset_import does not name the domain {domain!r}")
        return self.opsets[domain]

    def lower(self, node: onnx.NodeProto) -> None:
        """The node's outputs from the tensors it reads."""
        place = describe(node, self.opsets.get(domain_of(node), 0))
        for name in node.output:
            self._check_new(name, place)
        inputs = [self._input(name, place) for name in node.input]
        function = self.shared.functions.get((domain_of(node), node.op_type, node.overload))
        if function is not None and (other := _of_other_versions(function, self.shared.opsets)):
            raise UnsupportedOperator(
                f"{place}: the function imports an operator set in which {', '.join(other)} differ from those of the model's, by which onnxruntime "
                "would read them (and the standard forbids it): give both the same version"
            )
        results = self._standard(node, inputs) if function is None else self._call(function, node, inputs, place)
        for name, value in zip(node.output, results, strict=False):
            if name:
                self.define(name, value, place)
        if any(node.output[len(results) :]):
            raise UnsupportedOperator(f"{place}: only the first {len(results)} outputs are supported")

    def _input(self, name: str, place: str) -> Held | None:
        try:
            return self.find(name) if name else None
        except ModelError as error:
            raise ModelError(f"{place}: input {error}") from error

    def _standard(self, node: onnx.NodeProto, inputs: Sequence[Held | None]) -> Sequence[Held | None]:
        """An operator of the registry, or one that the standard defines by others."""
        key = domain_of(node), node.op_type
        cut = any(isinstance(x, Cut | CutShape) for x in inputs)
        if (key not in LOWERINGS and not (key[0] == "" and node.op_type in CONSTANT_ONLY)) or node.overload:
            body = standard_body(node, self.opset(node), inputs) if key[0] == "" and not node.overload else None
            if body is not None:
                read_attributes(node, self.opset(node))
                return self._call(body, node, inputs, describe(node, self.opset(node)))
            place = describe(node, self.opsets.get(key[0], 0))
            raise UnsupportedOperator(f"{place} is not supported. Supported are: what `soundproof supports --onnx-operators` lists")
        opset = self.opset(node)
        version, attributes = read_attributes(node, opset)
        variables = [x.tensor if isinstance(x, Masked) else x for x in inputs if isinstance(x, Tensor | Masked)]
        if node.op_type == "Identity" and inputs and not isinstance(inputs[0], Known):
            return inputs
        if not variables and not cut and key[0] != CONTRIBUTED and node.op_type not in ALWAYS_LOWERED:
            return self._fold(node, opset, [x.value if isinstance(x, Known | Unbounded) else None for x in inputs])
        tensor = next(name for name in node.output if name)
        # com.microsoft has no reference implementation: on constants these operators are lowered like all others
        self.shared.builder.begin(
            f"{node.op_type} {node.name or tensor!r}", variables[0].element_type if variables else "float32", self.prefix + tensor
        )
        plain = tuple(x if isinstance(x, Tensor | Known) else None for x in inputs)
        return self._emit(Operator(self.shared.builder, node, opset, version, attributes, plain, tuple(inputs), self._run_body))

    def _emit(self, op: Operator) -> list[Held]:
        lowering = LOWERINGS.get((domain_of(op.node), op.kind))
        if any(isinstance(x, Cut | CutShape) for x in op.held):
            lowering = through_cut
        if lowering is None:
            raise op.refuse("its input depends on the network's input; only constants are supported")
        try:
            masked = op.kind != "Attention" and any(isinstance(x, Unbounded | Masked) for x in op.held)
            found = through_mask(op) if masked else lowering(op)
        except (*COMPLAINTS, MalformedGraph) as error:
            raise op.malformed(f"its inputs or attributes do not fit together: {error}") from error
        results: list[Held] = list(found) if isinstance(found, list) else [found]
        if len(results) == 1 and isinstance(results[0], Tensor | Known):
            gates.note(op, results[0])
        return results

    def _fold(self, node: onnx.NodeProto, opset: int, inputs: list[Array | None]) -> list[Known | Unbounded]:
        """A node whose inputs are all constant: integers in the file's types, floats in float64."""
        if node.op_type not in MOVES_ONLY:
            inputs = [x.astype(np.float64) if x is not None and x.dtype == np.float32 else x for x in inputs]
        first = inputs[0] if inputs else None
        if node.op_type == "Cast" and first is not None and first.dtype.kind == "f" and node.attribute[0].i in FLOATS:
            return [Known(first.astype(np.float32) if first.dtype == np.float16 else first)]
        found = run_reference(node, opset, inputs, self.shared.element_limit)
        return [constant(x, f"{describe(node, opset)}: its constant value") for x in found]

    def _call(self, function: onnx.FunctionProto, node: onnx.NodeProto, inputs: Sequence[Held | None], place: str) -> list[Held | None]:
        """The outputs of a model-local function; its operators have the operator sets that it imports."""
        if len(inputs) > len(function.input) or len(node.output) > len(function.output):
            raise ModelError(f"{place}: the function has {len(function.input)} inputs and {len(function.output)} outputs, the node has more")
        opsets = dict(self.opsets) | _imports(function)
        tensor = next(name for name in node.output if name)
        body = self._within(opsets, onnx.GraphProto(), f"{tensor}/", None)
        for i, name in enumerate(function.input):
            body.define(name, inputs[i] if i < len(inputs) else None, place)
        given = _attributes(function, node, place)
        wanted = [name for name, out in zip(function.output, node.output, strict=False) if out]
        body.run([_bound(inner, given) for inner in function.node], wanted)
        return [body.find(name) if name in wanted else None for name in function.output]

    def _within(self, opsets: Mapping[str, int], graph: onnx.GraphProto, name: str, parent: Scope | None) -> Scope:
        """A scope inside this one, which sees the tensors of `parent`."""
        body = Scope(self.shared, opsets, self.shared.reader(graph), self.prefix + name, parent)
        body.depth = self.depth + 1
        if body.depth > DEEPEST:
            raise ModelError(f"functions or sub-graphs stand within each other {DEEPEST} deep (at {body.prefix!r}): recursion is not part of ONNX")
        return body

    def _run_body(self, graph: onnx.GraphProto, inputs: Sequence[Held | None], label: str, tensor: str) -> list[Held]:
        """The outputs of a sub-graph of an operator in this scope, whose tensors it sees; `label` numbers the run."""
        if len(inputs) != len(graph.input):
            raise ModelError(f"the sub-graph {graph.name!r} of {tensor!r} takes {len(graph.input)} inputs, not {len(inputs)}")
        body = self._within(self.opsets, graph, f"{tensor}/{label}{'/' if label else ''}", self)
        for info, value in zip(graph.input, inputs, strict=True):
            body.define(info.name, value, f"the sub-graph {graph.name!r} of {tensor!r}")
        names = [info.name for info in graph.output]
        with self.shared.builder.inside():
            body.run(graph.node, names)
        found = [body.find(name) for name in names]
        if any(value is None for value in found):
            raise ModelError(f"the sub-graph {graph.name!r} of {tensor!r} has an output that was left out")
        return [value for value in found if value is not None]


def _of_other_versions(function: onnx.FunctionProto, models: Mapping[str, int]) -> list[str]:
    """Operators in a function that are not those of the same name in the model's operator sets."""
    own = _imports(function)
    both = [(domain, kind) for domain, kind in sorted(set(_operators(function.node))) if domain in own and domain in models]
    return [kind for domain, kind in both if _since(kind, own[domain], domain) != _since(kind, models[domain], domain)]


def _imports(function: onnx.FunctionProto) -> dict[str, int]:
    """The version of every operator set that a function imports."""
    return {"" if entry.domain in STANDARD else entry.domain: int(entry.version) for entry in function.opset_import}


def _operators(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
    """Domain and name of nodes and of those in their sub-graphs."""
    for node in nodes:
        yield domain_of(node), node.op_type
        for graph in _sub_graphs(node):
            yield from _operators(graph.node)


def _since(kind: str, version: int, domain: str) -> int | None:
    try:
        return int(onnx.defs.get_schema(kind, version, domain).since_version)
    except onnx.defs.SchemaError:
        return None  # of another domain, or none at all, which is said where it is lowered


def _read_by(node: onnx.NodeProto) -> set[str]:
    """The names that a node reads, those that its sub-graphs read included."""
    names = {name for name in node.input if name}
    for graph in _sub_graphs(node):
        names.update(info.name for info in graph.output)
        names.update(*(_read_by(inner) for inner in graph.node))
    return names


def _sub_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs)


def _attributes(function: onnx.FunctionProto, node: onnx.NodeProto, place: str) -> dict[str, onnx.AttributeProto]:
    """What the node gives for the function's attributes, or else their defaults."""
    given = {a.name: a for a in node.attribute}
    unknown = given.keys() - {*function.attribute, *(a.name for a in function.attribute_proto)}
    if unknown or len(given) != len(node.attribute):
        raise ModelError(f"{place}: attributes {sorted(unknown)} are none of the function's, or one is given twice")
    missing = [name for name in function.attribute if name not in given]
    if missing:
        raise ModelError(f"{place}: the function's attributes {missing} are missing")
    return {a.name: a for a in function.attribute_proto} | given


def _bound(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> onnx.NodeProto:
    """A node of a function with references to the function's attributes replaced; one that is not given is left out."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.ClearField("attribute")
    for attribute in node.attribute:
        source = given.get(attribute.ref_attr_name) if attribute.ref_attr_name else attribute
        if source is None:
            continue
        added = copy.attribute.add()
        added.CopyFrom(source)
        added.name = attribute.name
        if added.HasField("g"):
            inner = [_bound(part, given) for part in added.g.node]
            added.g.ClearField("node")
            added.g.node.extend(inner)
    return copy
