"""What an operator's inputs and attributes are: of the standard's domains as the onnx package says, of com.microsoft as written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import onnx

from graph.errors import UnsupportedOperator

STANDARD = ("", "ai.onnx")
LEARNING, CONTRIBUTED = "ai.onnx.ml", "com.microsoft"
REQUIRED = object()
MANY = 2**31 - 1

INT, FLOAT, STRING, INTS, FLOATS = (
    onnx.AttributeProto.INT,
    onnx.AttributeProto.FLOAT,
    onnx.AttributeProto.STRING,
    onnx.AttributeProto.INTS,
    onnx.AttributeProto.FLOATS,
)


@dataclass(frozen=True)
class Attribute:
    """`kind` as in AttributeProto.type; `default` REQUIRED, None (there is none), or the value as a plain Python object."""

    kind: int
    default: Any = None


@dataclass(frozen=True)
class Schema:
    """`since` is the operator's own version: the opset in which its current form appeared."""

    since: int
    least_inputs: int
    most_inputs: int
    attributes: Mapping[str, Attribute]


def _contributed(least: int, most: int, **attributes: Attribute) -> Schema:
    return Schema(1, least, most, MappingProxyType(attributes))


_FLAG, _ONE = Attribute(INT, 0), Attribute(FLOAT, 1.0)
_WINDOWS = {"auto_pad": Attribute(STRING, "NOTSET"), "kernel_shape": Attribute(INTS), "pads": Attribute(INTS), "strides": Attribute(INTS)}
_CONV = {**_WINDOWS, "dilations": Attribute(INTS), "group": Attribute(INT, 1)}
_GEMM = {"alpha": _ONE, "transA": _FLAG, "transB": _FLAG}
_HEADS = {
    "num_heads": Attribute(INT, REQUIRED),
    "scale": Attribute(FLOAT, 0.0),
    "unidirectional": _FLAG,
    "mask_filter_value": Attribute(FLOAT, -10000.0),
}
_ACTIVATION = {"activation": Attribute(STRING), "activation_alpha": Attribute(FLOAT), "activation_beta": Attribute(FLOAT)}

# com.microsoft: the operators that have a lowering, as onnxruntime's own registry states them. One entry per operator.
CONTRIB_SCHEMAS: Mapping[str, Schema] = MappingProxyType(
    {
        "Attention": _contributed(2, 7, **_HEADS, do_rotary=_FLAG, past_present_share_buffer=_FLAG, qkv_hidden_sizes=Attribute(INTS)),
        "BiasGelu": _contributed(2, 2),
        "DequantizeLinear": _contributed(2, 3, axis=Attribute(INT, 1)),
        "DynamicQuantizeMatMul": _contributed(3, 5),
        "FastGelu": _contributed(1, 2),
        "FusedConv": _contributed(2, 4, **_CONV, activation=Attribute(STRING), activation_params=Attribute(FLOATS)),
        "FusedGemm": _contributed(2, 3, **_GEMM, **_ACTIVATION, activation_gamma=Attribute(FLOAT), beta=_ONE),
        "FusedMatMul": _contributed(2, 2, **_GEMM, transBatchA=_FLAG, transBatchB=_FLAG),
        "Gelu": _contributed(1, 1),
        "MatMulIntegerToFloat": _contributed(4, 7),
        "MultiHeadAttention": _contributed(3, 10, **_HEADS),
        "QGemm": _contributed(6, 9, **_GEMM),
        "QLinearAdd": _contributed(7, 8),
        "QLinearAveragePool": _contributed(4, 5, **_WINDOWS, ceil_mode=_FLAG, channels_last=_FLAG, count_include_pad=_FLAG),
        "QLinearConcat": _contributed(3, MANY, axis=Attribute(INT, REQUIRED)),
        "QLinearConv": _contributed(8, 9, **_CONV, channels_last=_FLAG),
        "QLinearGlobalAveragePool": _contributed(5, 5, channels_last=_FLAG),
        "QLinearLeakyRelu": _contributed(4, 5, alpha=Attribute(FLOAT, 0.01)),
        "QLinearMul": _contributed(7, 8),
        "QLinearReduceMean": _contributed(4, 5, axes=Attribute(INTS, REQUIRED), keepdims=Attribute(INT, REQUIRED)),
        "QLinearSigmoid": _contributed(4, 5),
        "QLinearSoftmax": _contributed(5, 5, axis=Attribute(INT, -1), opset=Attribute(INT, REQUIRED)),
        "QuantizeLinear": _contributed(2, 3, axis=Attribute(INT, 1)),
        "QuickGelu": _contributed(1, 1, alpha=Attribute(FLOAT, 1.702)),
        "SkipLayerNormalization": _contributed(3, 5, epsilon=Attribute(FLOAT, 1e-12)),
        "SkipSimplifiedLayerNormalization": _contributed(3, 4, epsilon=Attribute(FLOAT, 1e-6)),
    }
)


def schema_of(node: onnx.NodeProto, opset: int, where: str) -> Schema:
    """The schema of the node's operator in version `opset` of its domain. Raises UnsupportedOperator where there is none."""
    if node.domain == CONTRIBUTED:
        if node.op_type not in CONTRIB_SCHEMAS:
            raise UnsupportedOperator(f"{where}: no schema of this operator of onnxruntime is known")
        return CONTRIB_SCHEMAS[node.op_type]
    try:
        found = onnx.defs.get_schema(node.op_type, opset, "" if node.domain in STANDARD else node.domain)
    except onnx.defs.SchemaError as error:
        raise UnsupportedOperator(f"{where}: the ONNX standard has no such operator in this opset; check the model's opset_import") from error
    if found.deprecated:
        raise UnsupportedOperator(f"{where}: deprecated in this opset and without a meaning; export the model again with a current exporter")
    attributes = {name: Attribute(_KINDS.get(a.type, 0), REQUIRED if a.required else _default(a)) for name, a in found.attributes.items()}
    return Schema(found.since_version, found.min_input, found.max_input, attributes)


def _default(attribute: onnx.defs.OpSchema.Attribute) -> Any:
    value = attribute.default_value
    if value.type in (onnx.AttributeProto.UNDEFINED, onnx.AttributeProto.TENSOR):
        return None
    plain = onnx.helper.get_attribute_value(value)
    return plain.decode(errors="replace") if isinstance(plain, bytes) else tuple(plain) if isinstance(plain, list) else plain


_TYPES = onnx.defs.OpSchema.AttrType
_KINDS = {
    _TYPES.FLOAT: FLOAT,
    _TYPES.INT: INT,
    _TYPES.STRING: STRING,
    _TYPES.TENSOR: onnx.AttributeProto.TENSOR,
    _TYPES.FLOATS: FLOATS,
    _TYPES.INTS: INTS,
    _TYPES.STRINGS: onnx.AttributeProto.STRINGS,
    _TYPES.GRAPH: onnx.AttributeProto.GRAPH,
}
