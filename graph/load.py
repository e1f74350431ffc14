"""Reading an ONNX file: bytes -> checked protobuf -> core graph."""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray

from graph.core import Graph, Origin, Shape, check
from graph.errors import ModelError
from graph.lowering.builder import Builder, Known, Tensor
from graph.lowering.schemas import STANDARD
from graph.outputs import numeric_outputs, with_hidden
from graph.scope import Scope, Shared, functions_of
from graph.simplify import simplify
from graph.weights import type_name

Array = NDArray[Any]

ELEMENT_TYPES: dict[int, str] = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.DOUBLE: "float64"}
OLDEST_OPSET = 7


@dataclass(frozen=True)
class Limits:
    """What a file may ask for before it is refused: bytes after decompression, elements of one tensor, core nodes."""

    decompressed_bytes: int = 4 << 30
    tensor_elements: int = 1 << 29
    core_nodes: int = 20_000


@dataclass(frozen=True)
class TensorInfo:
    """A graph input or output: ONNX name, shape (symbolic batch dimension set to 1) and element type."""

    name: str
    shape: Shape
    element_type: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, eq=False)
class Model:
    """A loaded file. `graph` is what gets verified; `lowered` is the same network with one group of core nodes per file
    operator, from which `selfcheck` derives its error bounds. Both hold the same weights by reference.

    `onnx_bytes` are what runtimes run: the file, with a ZipMap's input in the place of its output, without outputs of strings, and with the
    hidden tensors that were asked for as outputs.
    `sha256` is that of the decompressed file, and where it has external data the `joint_hash` of it and of the `external` files: (location,
    SHA-256) in the order of locations.
    """

    graph: Graph
    lowered: Graph
    sha256: str
    external: tuple[tuple[str, str], ...]
    onnx_bytes: bytes = field(repr=False)
    path: Path | None
    opset: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    notes: tuple[str, ...]


def load(source: str | Path | bytes, *, limits: Limits = Limits(), hidden: Sequence[str] = ()) -> Model:
    """Read `.onnx` or `.onnx.gz` (a path, or the bytes themselves) and lower it to a simplified core graph.

    The tensors `hidden` are outputs, too, after the file's own (`sha256` is still the file's).
    Raises ModelError (or UnsupportedOperator) for everything that is wrong with the file, and nothing else.
    """
    path = None if isinstance(source, bytes) else Path(source)
    content = _decompressed(source if isinstance(source, bytes) else _read(Path(source)), path, limits)
    place = str(path) if path else "the model"
    try:
        return _load(content, path, limits, hidden)
    except ModelError as error:
        raise type(error)(f"{place}: {error}") from error


def _require_text(message: Any) -> None:
    """Raise ModelError for a name that is not UTF-8, which protobuf gives out as bytes. Of tensors only the name is looked at: they are large."""
    for part, value in [(None, message.name)] if isinstance(message, onnx.TensorProto) else message.ListFields():
        if part is not None and part.type not in (part.TYPE_STRING, part.TYPE_MESSAGE):
            continue
        for one in [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value:
            if isinstance(one, bytes):
                raise ModelError(f"a name in the file is not UTF-8 text: {one[:60]!r}")
            if not isinstance(one, str):
                _require_text(one)


def _load(content: bytes, path: Path | None, limits: Limits, hidden: Sequence[str]) -> Model:
    parsed = _parse(content)
    _require_text(parsed)
    proto, read_otherwise = numeric_outputs(parsed)
    proto = with_hidden(proto, hidden)
    opsets = _opsets(proto)
    builder = Builder(limits.core_nodes, limits.tensor_elements)
    shared = Shared(builder, functions_of(proto), opsets, path.parent if path else None, limits.tensor_elements)
    lowered, inputs, outputs, notes = _Lowering(proto.graph, Scope(shared, opsets, shared.reader(proto.graph)), limits).run()
    external = shared.external_hashes()
    return Model(
        graph=simplify(lowered),
        lowered=lowered,
        sha256=joint_hash([hashlib.sha256(content).hexdigest(), *(found for _, found in external)]),
        external=external,
        onnx_bytes=proto.SerializeToString() if read_otherwise or hidden else content,
        path=path,
        opset=opsets[""],
        inputs=inputs,
        outputs=outputs,
        notes=(*read_otherwise, *notes),
    )


def joint_hash(hashes: Sequence[str]) -> str:
    """Of several files: the SHA-256 of their SHA-256s in hexadecimal, one after the other. Of one file: its own."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error


def _decompressed(content: bytes, path: Path | None, limits: Limits) -> bytes:
    place = str(path) if path else "the model"
    if content[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                content = stream.read(limits.decompressed_bytes + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise ModelError(f"{place}: damaged gzip data: {error}") from error
    if len(content) > limits.decompressed_bytes:
        raise ModelError(f"{place}: larger than {limits.decompressed_bytes} bytes after decompression; raise the limit to load it")
    return content


def _parse(content: bytes) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(f"not an ONNX file, or truncated: {error}") from error
    if not proto.HasField("graph") or not proto.graph.output:
        raise ModelError("not an ONNX file: it has no graph with outputs")
    extras = {"sparse initialisers": proto.graph.sparse_initializer, "training information": proto.training_info}
    for what, present in extras.items():
        if present:
            raise ModelError(f"{what}: not supported; export the model without")
    return proto


def _opsets(proto: onnx.ModelProto) -> dict[str, int]:
    """The version of every imported operator set by domain, that of the standard's under "". Sets that no node uses do no harm."""
    versions: dict[str, set[int]] = {}
    for entry in proto.opset_import:
        if abs(entry.version) >= 1 << 31:
            raise ModelError(f"opset {entry.version} of domain {entry.domain!r}: there is no such version")
        versions.setdefault("" if entry.domain in STANDARD else entry.domain, set()).add(int(entry.version))
    standard, newest = versions.setdefault("", set()), onnx.defs.onnx_opset_version()
    if len(versions) > 1 and not standard and not any(node.domain in STANDARD for node in proto.graph.node):
        standard.add(newest)  # a model of other domains alone
    if len(standard) != 1:
        raise ModelError(f"opset_import names {len(standard)} versions of the standard operator set; exactly one is needed")
    twice = sorted(domain for domain, found in versions.items() if len(found) > 1)
    if twice:
        raise ModelError(f"opset_import names several versions of {', '.join(twice)}; one of each is needed")
    version = max(standard)
    if not OLDEST_OPSET <= version <= newest:
        raise ModelError(f"opset {version} is not supported ({OLDEST_OPSET} to {newest} are); convert the model with onnx.version_converter")
    return {domain: max(found) for domain, found in versions.items()}


class _Lowering:
    """The file's graph: its inputs, its nodes (a scope), its outputs."""

    def __init__(self, graph: onnx.GraphProto, scope: Scope, limits: Limits) -> None:
        self.graph, self.scope, self.limits = graph, scope, limits
        self.builder, self.reader, self.values = scope.shared.builder, scope.reader, scope.values
        self.notes: list[str] = []

    def run(self) -> tuple[Graph, tuple[TensorInfo, ...], tuple[TensorInfo, ...], tuple[str, ...]]:
        inputs = self._inputs()
        self.scope.run(self.graph.node, [info.name for info in self.graph.output])
        outputs = [self._output(info.name) for info in self.graph.output]
        names = {name: value.node for name, value in self.values.items() if isinstance(value, Tensor)}
        infos = tuple(TensorInfo(o.name, t.shape, t.element_type) for o, t in zip(self.graph.output, outputs, strict=True))
        graph = Graph(
            nodes=tuple(self.builder.nodes),
            inputs=tuple(self.values[i.name].node for i in inputs),  # type: ignore[union-attr]
            outputs=tuple(t.node for t in outputs),
            output_names=tuple(info.name for info in infos),
            names=names,
            opset=self.scope.opsets[""],
            notes=tuple(self.notes),
            shifts=tuple(self.builder.shifts),
        )
        return check(graph), inputs, infos, tuple(self.notes)

    def _inputs(self) -> tuple[TensorInfo, ...]:
        """Graph inputs; an initialiser listed among them is an initialiser."""
        found = []
        for proto in self.graph.input:
            if proto.name in self.reader:
                continue
            if proto.name in self.values:
                raise ModelError(f"two inputs are called {proto.name!r}")
            info = TensorInfo(proto.name, *self._type(proto))
            self.values[info.name] = self.builder.input(info.name, info.shape, info.element_type)
            found.append(info)
        if not found:
            raise ModelError("the network has no input")
        return tuple(found)

    def _type(self, proto: onnx.ValueInfoProto) -> tuple[Shape, str]:
        tensor = proto.type.tensor_type
        if tensor.elem_type not in ELEMENT_TYPES:
            raise ModelError(f"input {proto.name!r} has element type {type_name(tensor.elem_type)}; only float32 and float64 inputs are supported")
        if not tensor.HasField("shape"):
            raise ModelError(f"input {proto.name!r} has no shape; give it one (onnx.tools.update_model_dims)")
        shape = []
        for axis, dim in enumerate(tensor.shape.dim):
            if dim.dim_value > 0:
                shape.append(int(dim.dim_value))
            elif axis == 0:
                shape.append(1)
                self.notes.append(f"symbolic batch dimension {dim.dim_param or '?'!r} of input {proto.name!r} set to 1")
            else:
                size = f"--shape {dim.dim_param or f'{proto.name}[{axis}]'}=N"
                place = f"axis {axis} of input {proto.name!r} is dynamic ({dim.dim_param or '?'!r})"
                raise ModelError(f"{place}; only axis 0 may be: give it a size ({size}, or onnx.tools.update_model_dims for a file of its own)")
        if math.prod(shape) > self.limits.tensor_elements:
            limit = self.limits.tensor_elements
            raise ModelError(f"input {proto.name!r} of shape {tuple(shape)} has more than {limit} elements; raise the limit to load it")
        return tuple(shape), ELEMENT_TYPES[tensor.elem_type]

    def _output(self, name: str) -> Tensor:
        value = self.scope.find(name)
        if isinstance(value, Known):
            if value.value.dtype.kind != "f":
                raise ModelError(f"output {name!r} is a constant of type {value.value.dtype}; only float outputs are supported")
            self.builder.origin = Origin(("constant",))
            value = self.values[name] = self.builder.constant(value.value)
        if not isinstance(value, Tensor):
            raise ModelError(f"output {name!r} is a sequence; only tensors are supported as outputs")
        return value
