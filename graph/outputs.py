"""Outputs that are no tensors of numbers: the probabilities behind a ZipMap are read in its place, outputs of strings are left out."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from graph.errors import ModelError
from graph.lowering.schemas import LEARNING


def numeric_outputs(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """The same model with outputs that are tensors of numbers, and notes that say what was done. Raises ModelError where none is left.

    A ZipMap makes a list of dictionaries of a tensor; what it reads takes its place among the outputs.
    """
    maps = {
        node.output[0]: node.input[0]
        for node in proto.graph.node
        if node.op_type == "ZipMap" and node.domain == LEARNING and node.output and node.input
    }
    outputs, notes = list[onnx.ValueInfoProto](), list[str]()
    for info in proto.graph.output:
        if info.name in maps:
            notes.append(f"output {info.name!r}, a list of dictionaries (ZipMap), is read as the tensor {maps[info.name]!r} that it is made of")
            if maps[info.name] not in {other.name for other in (*proto.graph.output, *outputs)}:
                outputs.append(onnx.helper.make_empty_tensor_value_info(maps[info.name]))
        elif info.type.tensor_type.elem_type == onnx.TensorProto.STRING:
            notes.append(f"output {info.name!r} is a tensor of strings: left out")
        else:
            outputs.append(info)
    if not notes:
        return proto, ()
    if not outputs:
        raise ModelError("all outputs are strings; there is nothing to verify")
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    del changed.graph.output[:]
    changed.graph.output.extend(outputs)
    nodes = [node for node in changed.graph.node if not (node.output and node.output[0] in maps)]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed, tuple(notes)


def with_hidden(proto: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The same model with the tensors `names` as further outputs. Raises ModelError for one that no node makes, or that is an output."""
    if not names:
        return proto
    typed = {info.name: info for info in proto.graph.value_info}
    outputs, made = {info.name for info in proto.graph.output}, {name for node in proto.graph.node for name in node.output if name}
    for name in names:
        if name in outputs:
            raise ModelError(f"{name!r} is an output of the network, and cannot be declared as hidden")
        if name not in made:
            raise ModelError(f"no node of the network makes a tensor {name!r}, which is declared as hidden")
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    changed.graph.output.extend(typed.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in names)
    return changed
