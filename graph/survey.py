"""What is in a file, whether or not it can be loaded: every operator, with the reason where it is not supported."""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from graph.errors import ModelError
from graph.load import ELEMENT_TYPES, Limits, Model, _decompressed, _parse, _read, load
from graph.weights import type_name

Where = tuple[str, str]  # a node's name, and why it is refused
TRIALS = 64
PLACE = re.compile(r"node '(.*?)': operator (\S+) ")  # as graph.lowering.operator.describe writes it


@dataclass(frozen=True)
class Use:
    """One kind of operator in the file: how many nodes, those refused and why, and how many could not be examined because what
    they read comes out of refused nodes in unknown shapes."""

    operator: str
    nodes: int
    refused: tuple[Where, ...] = ()
    unexamined: int = 0

    @property
    def verdict(self) -> str:
        return "unsupported" if self.refused else "not examined" if self.unexamined else "supported"


@dataclass(frozen=True)
class Survey:
    """`inputs` and `outputs` as the file declares them ("x float[N,3,32,32]"), `problem` what else stands in the way of loading it,
    `model` is there if nothing does."""

    producer: str
    opsets: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: int
    operators: tuple[Use, ...]
    problem: str
    model: Model | None


def survey(path: Path) -> Survey:
    """What is in the file. Raises ModelError where it is no ONNX file at all."""
    model = _parse(_decompressed(_read(path), path, Limits()))
    opsets = {("" if entry.domain == "ai.onnx" else entry.domain): int(entry.version) for entry in model.opset_import}
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    facts = (
        f"{model.producer_name} {model.producer_version}".strip(),
        opsets,
        tuple(_declared(i) for i in graph.input if i.name not in constants),
        tuple(_declared(o) for o in graph.output),
        sum(math.prod(t.dims) for t in graph.initializer),
    )
    counts = Counter(_operator(node) for node in graph.node)
    refused, unexamined, problem, loaded = dict[str, list[Where]](), Counter[str](), "", None
    try:
        loaded = load(path)
    except ModelError as error:
        external = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in graph.initializer)
        problem = str(error) if external else _trials(model, refused, unexamined)
    uses = tuple(Use(name, n, tuple(refused.get(name, ())), unexamined[name]) for name, n in sorted(counts.items()))
    return Survey(*facts, uses, problem, loaded)


def _trials(model: onnx.ModelProto, refused: dict[str, list[Where]], unexamined: Counter[str]) -> str:
    """Load the model; take the node that is refused out of it, its outputs becoming inputs; and again. Returns what cannot be taken out."""
    shapes = _inferred(model)
    for _ in range(TRIALS):
        try:
            load(bytes(model.SerializeToString()))
        except ModelError as error:
            reason = str(error).removeprefix("the model: ").partition(" Supported are:")[0]
            node = _blamed(model.graph, reason)
            if node is None:
                return reason
            refused.setdefault(_operator(node), []).append((node.name or node.output[0], reason))
            unexamined.update(_cut(model.graph, node, shapes))
            if model.graph.output:
                continue
        return ""
    return f"more than {TRIALS} nodes are refused; the rest was not examined"


def _blamed(graph: onnx.GraphProto, reason: str) -> onnx.NodeProto | None:
    """The node of the file that the message speaks of."""
    found = PLACE.search(reason)
    if found is None:
        return None
    return next((n for n in graph.node if (n.name or "".join(n.output[:1])) == found[1] and _operator(n) == found[2]), None)


def _cut(graph: onnx.GraphProto, node: onnx.NodeProto, shapes: Mapping[str, onnx.ValueInfoProto]) -> list[str]:
    """Take `node` out, and what reads an output of it that no input can stand for. Returns the operators of these others."""
    lost: set[str] = set()
    for name in filter(None, node.output):
        tensor = shapes[name].type.tensor_type if name in shapes else onnx.TypeProto.Tensor()
        shape = [int(dim.dim_value) for dim in tensor.shape.dim]
        if tensor.elem_type in ELEMENT_TYPES and tensor.HasField("shape") and all(n > 0 for n in shape):
            graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.elem_type, shape))
        else:
            lost.add(name)
    kept, gone = [], []
    for other in graph.node:
        if other == node:
            continue
        if lost.intersection(other.input):
            lost.update(filter(None, other.output))
            gone.append(_operator(other))
        else:
            kept.append(other)
    outputs = [info for info in graph.output if info.name not in lost]
    made = {name for other in kept for name in other.output}
    read = {name for other in kept for name in other.input}
    ends = [onnx.helper.make_empty_tensor_value_info(name) for other in kept for name in other.output if name and name not in read]
    outputs = [info for info in outputs if info.name in made] or ends
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    graph.output.extend(outputs)
    return gone


def _operator(node: onnx.NodeProto) -> str:
    return str(node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}")


def _inferred(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    """What ONNX infers of the shapes of hidden tensors, a symbolic batch dimension being 1."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for info in copy.graph.input:
        dims = info.type.tensor_type.shape.dim
        if len(dims) and not dims[0].dim_value:
            dims[0].dim_value = 1
    with contextlib.suppress(onnx.shape_inference.InferenceError):  # then what is declared has to do
        copy = onnx.shape_inference.infer_shapes(copy)
    return {info.name: info for info in (*copy.graph.value_info, *copy.graph.output)}


def _declared(info: onnx.ValueInfoProto) -> str:
    kind = info.type.WhichOneof("value")
    if kind != "tensor_type":
        return f"{info.name} {str(kind or 'without a type').removesuffix('_type')}"
    tensor = info.type.tensor_type
    shape = ",".join(str(dim.dim_value) if dim.dim_value else dim.dim_param or "?" for dim in tensor.shape.dim) if tensor.HasField("shape") else "?"
    return f"{info.name} {type_name(tensor.elem_type).lower()}[{shape}]"
