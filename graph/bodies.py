"""Operators that the standard defines by others: the function body in an operator's schema stands for it where there is no lowering.

The names inside are those of the installed onnx package, so that certificates cannot be about them: the checker has no such rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from graph.lowering.builder import Held, Known, Tensor

TYPES = {"float32": onnx.TensorProto.FLOAT, "float64": onnx.TensorProto.DOUBLE}


def standard_body(node: onnx.NodeProto, opset: int, inputs: Sequence[Held | None]) -> onnx.FunctionProto | None:
    """The function that the standard's operator is, with the defaults of its attributes; None where it is no function."""
    if not isinstance(node.op_type, str):  # protobuf gives bytes for what is not UTF-8
        return None
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, "")  # its stubs do not know of functions
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    if schema.has_function:
        text = schema.get_function_with_opset_version(schema.function_opset_versions[-1])
    elif schema.has_context_dependent_function:
        if any(isinstance(x, Tensor) and x.element_type not in TYPES for x in inputs):
            return None
        version = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
        types = [_type(x).SerializeToString() for x in inputs]
        text = schema.get_context_dependent_function_with_opset_version(version[-1], node.SerializeToString(), types) if version else b""
    else:
        return None
    function = onnx.FunctionProto()
    function.ParseFromString(text)
    if not function.node:
        return None
    function.ClearField("attribute")
    function.ClearField("attribute_proto")
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
            added = function.attribute_proto.add()
            added.CopyFrom(attribute.default_value)
            added.name = name
    known = {a.name for a in function.attribute_proto}
    function.attribute.extend(a.name for a in node.attribute if a.name in schema.attributes and a.name not in known)
    return function


def _type(x: Held | None) -> onnx.TypeProto:
    if isinstance(x, Tensor):
        return onnx.helper.make_tensor_type_proto(TYPES[x.element_type], x.shape)
    if isinstance(x, Known):
        kind = onnx.TensorProto.FLOAT if x.value.dtype.kind == "f" else onnx.helper.np_dtype_to_tensor_dtype(x.value.dtype)
        return onnx.helper.make_tensor_type_proto(kind, x.shape)
    return onnx.TypeProto()
