"""The same graph at another opset: what moved between attributes and inputs, or changed its default, is written as the opset wants it.

Knows the operators that the strategies draw, in the form of any opset from 9 on; anything else is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

NEWEST = 22
SAME = frozenset(
    "Gemm Relu Conv MatMul Add Sub Mul Div Max Min BatchNormalization ConvTranspose Concat Transpose Flatten Reshape LeakyRelu Abs Sigmoid Tanh Exp "
    "Log Sqrt Reciprocal Erf Sin Cos Softplus Pow Neg Identity MaxPool AveragePool GlobalAveragePool Gather Softmax Sum Sign "
    "Elu Selu HardSigmoid Softsign PRelu Atan Asinh Sinh Cosh Asin Acos Atanh LogSoftmax Floor Ceil Shrink Where Cast Greater Less Not And Or Xor "
    "Mean InstanceNormalization Tile Expand DepthToSpace SpaceToDepth GlobalMaxPool".split()
)
# operator: the first opset that has it in the form that is drawn
SINCE: Mapping[str, int] = {
    "Celu": 12, "HardSwish": 14, "Round": 11, "ThresholdedRelu": 10, "GreaterOrEqual": 12, "LessOrEqual": 12, "TopK": 11, "Resize": 11,
    "LayerNormalization": 17, "CumSum": 11, "Einsum": 12, "Trilu": 14, "GatherElements": 11,
}  # fmt: skip
# operator: (first opset where these are inputs, (attribute, rank of the tensor))
MOVED: Mapping[str, tuple[int, tuple[tuple[str, int], ...]]] = {
    "ReduceSum": (13, (("axes", 1),)),
    "ReduceMean": (18, (("axes", 1),)),
    "ReduceMax": (18, (("axes", 1),)),
    "ReduceMin": (18, (("axes", 1),)),
    "ReduceL1": (18, (("axes", 1),)),
    "ReduceL2": (18, (("axes", 1),)),
    "ReduceSumSquare": (18, (("axes", 1),)),
    "ReduceLogSumExp": (18, (("axes", 1),)),
    "Split": (13, (("split", 1),)),
    "Squeeze": (13, (("axes", 1),)),
    "Unsqueeze": (13, (("axes", 1),)),
    "Slice": (10, (("starts", 1), ("ends", 1), ("axes", 1), ("steps", 1))),
    "Clip": (11, (("min", 0), ("max", 0))),
    "Pad": (11, (("pads", 1), ("value", 0))),
}
FLOATS = ("min", "max", "value")


class NotExportable(ValueError):
    """The graph holds something that this writer does not know, or that the opset cannot say; the message names it."""


def oldest_opset(model: onnx.ModelProto) -> int:
    """The first opset, 9 or later, that can say the model. Raises NotExportable."""
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    return max((_oldest(node, constants) for node in model.graph.node), default=9)


def _oldest(node: onnx.NodeProto, constants: Mapping[str, Any]) -> int:
    if node.op_type in SINCE:
        return SINCE[node.op_type]
    if node.op_type not in SAME and node.op_type not in MOVED:
        raise NotExportable(f"operator {node.op_type}")
    if node.op_type == "Slice" and len(node.input) > 4 and (constants[node.input[4]] != 1).any():
        return 10
    if node.op_type in ("MaxPool", "AveragePool") and {"ceil_mode", "dilations"} & set(_attributes(node)):
        return 10
    if node.op_type == "Gather" and (constants[node.input[1]] < 0).any():
        return 11
    if node.op_type in ("Softmax", "LogSoftmax") and _attributes(node).get("axis", -1) == -1:
        return 13  # before that, a negative axis is either not allowed or means something else
    return 9


def reexport(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """The model with its graph written for `opset`, 9 to NEWEST. Raises NotExportable."""
    oldest = oldest_opset(model)
    if not oldest <= opset <= NEWEST:
        raise NotExportable(f"opset {opset}: this graph can be written for {oldest} to {NEWEST}")
    constants = {t.name: t for t in model.graph.initializer}
    added: list[onnx.TensorProto] = []
    nodes = [_moved(node, constants, added, opset) if node.op_type in MOVED else node for node in model.graph.node]
    used = {name for node in nodes for name in node.input}
    initializers = [t for t in [*model.graph.initializer, *added] if t.name in used]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, initializers)
    identifiers = [helper.make_opsetid("", opset)]
    version = max(helper.find_min_ir_version_for(identifiers, ignore_unknown=True), 4)
    return helper.make_model(graph, opset_imports=identifiers, ir_version=version, producer_name="soundproof")


def _moved(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto], added: list[onnx.TensorProto], opset: int) -> onnx.NodeProto:
    """One node whose parameters are attributes before an opset, and inputs from it on."""
    since, names = MOVED[node.op_type]
    attributes = _attributes(node)
    values: dict[str, Any] = {name: attributes.pop(name) for name, _ in names if name in attributes}
    for (name, _), tensor in zip(names, node.input[1:], strict=False):
        if tensor:
            values[name] = numpy_helper.to_array(constants[tensor])
    fresh = _namer(constants, added, node)
    inputs = [node.input[0]]
    if opset >= since:
        last = max((k for k, (name, _) in enumerate(names) if name in values), default=-1)
        inputs += [fresh(name, values[name], rank) if name in values else "" for name, rank in names[: last + 1]]
    else:
        values.pop("steps", None)
        attributes |= {name: float(np.asarray(v)) if name in FLOATS else [int(n) for n in np.asarray(v).reshape(-1)] for name, v in values.items()}
    return helper.make_node(node.op_type, inputs, list(node.output), name=node.name, **attributes)


def _namer(
    constants: Mapping[str, onnx.TensorProto], added: list[onnx.TensorProto], node: onnx.NodeProto
) -> Callable[[str, Any, int], str]:
    def fresh(name: str, value: Any, rank: int) -> str:
        tensor = f"{node.output[0]}_{name}"
        if tensor in constants:
            raise NotExportable(f"the name {tensor} is taken")
        array = np.asarray(value, dtype=np.float32 if name in FLOATS else np.int64)
        added.append(numpy_helper.from_array(array.reshape(-1) if rank else array.reshape(()), tensor))
        return tensor

    return fresh


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
