"""The registry of lowerings: ONNX operator -> function that emits core nodes. One line per operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from graph.errors import MalformedGraph
from graph.lowering import arithmetic, centring, elementwise, linear, normalisation, pooling, reduction, reindex
from graph.lowering.builder import Value
from graph.lowering.operator import Operator

Lowering = Callable[[Operator], Value | list[Value]]


def register(*entries: tuple[str, Lowering]) -> Mapping[tuple[str, str], Lowering]:
    """The read-only registry {(domain, operator): lowering}; a name without a domain is of the standard's. Raises MalformedGraph for duplicates."""
    table: dict[tuple[str, str], Lowering] = {}
    for name, lowering in entries:
        domain, _, operator = name.rpartition(".")
        if (domain, operator) in table:
            raise MalformedGraph(f"the operator {name!r} is registered twice")
        table[domain, operator] = lowering
    return MappingProxyType(table)


LOWERINGS = register(
    ("Abs", elementwise.apply("abs")),
    ("Add", arithmetic.lower_add),
    ("AveragePool", pooling.lower_average_pool),
    ("BatchNormalization", normalisation.lower_batch_normalization),
    ("Cast", elementwise.lower_cast),
    ("Clip", elementwise.lower_clip),
    ("Concat", reindex.lower_concat),
    ("Conv", linear.lower_conv),
    ("ConvTranspose", linear.lower_conv_transpose),
    ("Cos", elementwise.apply("cos")),
    ("DepthToSpace", reindex.lower_reindex),
    ("Div", arithmetic.lower_div),
    ("Dropout", reindex.lower_dropout),
    ("Erf", elementwise.apply("erf")),
    ("Exp", elementwise.apply("exp")),
    ("Expand", reindex.lower_reindex),
    ("Flatten", reindex.lower_reindex),
    ("Gather", reindex.lower_reindex),
    ("Gemm", linear.lower_gemm),
    ("GlobalAveragePool", pooling.lower_global_average_pool),
    ("GlobalMaxPool", pooling.lower_global_max_pool),
    ("GroupNormalization", centring.lower_group_normalization),
    ("Identity", reindex.lower_identity),
    ("InstanceNormalization", centring.lower_instance_normalization),
    ("LayerNormalization", centring.lower_layer_normalization),
    ("LeakyRelu", elementwise.lower_leaky_relu),
    ("Log", elementwise.apply("log")),
    ("LogSoftmax", normalisation.lower_log_softmax),
    ("MatMul", linear.lower_matmul),
    ("Max", arithmetic.lower_max),
    ("MaxPool", pooling.lower_max_pool),
    ("Mean", arithmetic.lower_mean),
    ("MeanVarianceNormalization", centring.lower_mean_variance_normalization),
    ("Min", arithmetic.lower_min),
    ("Mul", arithmetic.lower_mul),
    ("Neg", arithmetic.lower_neg),
    ("Pad", reindex.lower_pad),
    ("Pow", arithmetic.lower_pow),
    ("RMSNormalization", centring.lower_rms_normalization),
    ("Reciprocal", elementwise.apply("reciprocal")),
    ("ReduceMax", reduction.lower_reduce_max),
    ("ReduceMean", reduction.lower_reduce_mean),
    ("ReduceMin", reduction.lower_reduce_min),
    ("ReduceSum", reduction.lower_reduce_sum),
    ("Relu", elementwise.apply("relu")),
    ("Reshape", reindex.lower_reindex),
    ("Resize", reindex.lower_resize),
    ("Shape", reindex.lower_shape),
    ("Sigmoid", elementwise.apply("sigmoid")),
    ("Sign", elementwise.apply("sign")),
    ("Sin", elementwise.apply("sin")),
    ("Size", reindex.lower_size),
    ("Slice", reindex.lower_reindex),
    ("Softmax", normalisation.lower_softmax),
    ("Softplus", elementwise.apply("softplus")),
    ("SpaceToDepth", reindex.lower_reindex),
    ("Split", reindex.lower_reindex),
    ("Sqrt", elementwise.apply("sqrt")),
    ("Squeeze", reindex.lower_reindex),
    ("Sub", arithmetic.lower_sub),
    ("Sum", arithmetic.lower_sum),
    ("Tanh", elementwise.apply("tanh")),
    ("Tile", reindex.lower_reindex),
    ("Transpose", reindex.lower_reindex),
    ("Unsqueeze", reindex.lower_reindex),
    ("Upsample", reindex.lower_upsample),
    ("Where", arithmetic.lower_where),
)

# Operators that occur on constants only; onnx.reference evaluates them (as it does every operator above on constants).
CONSTANT_ONLY = frozenset(
    (
        "And",
        "Ceil",
        "Constant",
        "ConstantOfShape",
        "Equal",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Mod",
        "Not",
        "Or",
        "Range",
        "ReduceProd",
        "Round",
    )
)

# Operators that leave the numbers of a constant as they are: its dtype is kept and nothing is copied to float64.
MOVES_ONLY = frozenset(
    (
        "Concat",
        "Constant",
        "ConstantOfShape",
        "DepthToSpace",
        "Dropout",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Shape",
        "Size",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    )
)
