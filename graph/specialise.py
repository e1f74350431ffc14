"""Another network in the same file: chosen outputs, symbolic dimensions with a value.

What is verified is always a file as it stands. So a choice is made by writing a file in which nothing else is changed, and everything after
that (engine, runtime, checker, certificate) reads that file and needs to know nothing of the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import onnx

from graph.errors import ModelError
from graph.load import Limits, _decompressed, _parse, _read
from graph.weights import WeightReader

PROTOBUF_BYTES = 2_000_000_000  # protobuf's limit is 2^31


def specialise(path: Path, outputs: Sequence[str], shapes: Mapping[str, int]) -> bytes:
    """The model in file `path` with `outputs` (any of its tensors) as its only outputs, and the symbolic dimensions `shapes` set.

    A dimension is named as the file names it, or NAME[AXIS] for an axis of input NAME. Raises ModelError for names that are not there.
    """
    model = _parse(_decompressed(_read(path), path, Limits()))
    _take_in(model.graph, path)
    if outputs:
        _choose(model.graph, outputs, path)
    for name, size in shapes.items():
        _set(model.graph, name, size, path)
    return bytes(model.SerializeToString())


def _take_in(graph: onnx.GraphProto, path: Path) -> None:
    """External data becomes the file's own: the new file lies in another folder."""
    limits = Limits()
    reader = WeightReader(graph, path.parent, limits.tensor_elements)
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.CopyFrom(onnx.numpy_helper.from_array(reader.read(tensor.name), tensor.name))
    if graph.ByteSize() > PROTOBUF_BYTES:
        raise ModelError(f"{path}: with its external data it does not fit in one file, which --output and --shape write")


def _choose(graph: onnx.GraphProto, outputs: Sequence[str], path: Path) -> None:
    typed = {info.name: info for info in (*graph.value_info, *graph.output)}
    made = {name for node in graph.node for name in node.output if name}
    for name in outputs:
        if name not in made:
            present = ", ".join(info.name for info in graph.output)
            raise ModelError(f"{path}: --output {name}: no node makes a tensor of this name; the outputs are {present}")
    chosen = [typed.get(name) or onnx.helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(outputs)]
    del graph.output[:]
    graph.output.extend(chosen)


def _set(graph: onnx.GraphProto, name: str, size: int, path: Path) -> None:
    """Give a dimension its size, wherever the file names it. Shapes of hidden tensors may depend on it, so they are dropped."""
    inputs = [info for info in graph.input if info.name not in {t.name for t in graph.initializer}]
    found = [dim for info in inputs for place, dim in _dimensions(info) if place == name or (dim.dim_param and dim.dim_param == name)]
    if not found:
        known = dict.fromkeys(dim.dim_param or place for info in inputs for place, dim in _dimensions(info) if not dim.dim_value)
        raise ModelError(f"{path}: --shape {name}={size}: no input has such a dimension; symbolic are {', '.join(known) or 'none'}")
    if any(dim.dim_value not in (0, size) for dim in found):
        raise ModelError(f"{path}: --shape {name}={size}: the file says {found[0].dim_value}; only symbolic dimensions can be set")
    for dim in found:
        dim.dim_value = size
    for info in graph.output:
        for _, dim in _dimensions(info):
            if dim.dim_param == name:
                dim.dim_value = size
    del graph.value_info[:]


def _dimensions(info: onnx.ValueInfoProto) -> Iterator[tuple[str, onnx.TensorShapeProto.Dimension]]:
    """(NAME[AXIS], dimension) of every axis."""
    return ((f"{info.name}[{axis}]", dim) for axis, dim in enumerate(info.type.tensor_type.shape.dim))
