"""The registry of lowerings: ONNX operator -> function that emits core nodes. One line per operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from graph.errors import MalformedGraph
from graph.lowering import activations, arithmetic, centring, elementwise, linear, normalisation, pooling, reduction, reindex
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
    ("Acos", activations.lower_acos),
    ("Acosh", elementwise.apply("acosh")),
    ("Add", arithmetic.lower_add),
    ("Asin", elementwise.apply("asin")),
    ("Asinh", elementwise.apply("asinh")),
    ("Atan", elementwise.apply("atan")),
    ("Atanh", elementwise.apply("atanh")),
    ("AveragePool", pooling.lower_average_pool),
    ("BatchNormalization", normalisation.lower_batch_normalization),
    ("Cast", elementwise.lower_cast),
    ("Celu", activations.lower_celu),
    ("Clip", elementwise.lower_clip),
    ("Concat", reindex.lower_concat),
    ("Conv", linear.lower_conv),
    ("ConvTranspose", linear.lower_conv_transpose),
    ("Cos", elementwise.apply("cos")),
    ("Cosh", elementwise.apply("cosh")),
    ("DepthToSpace", reindex.lower_reindex),
    ("Div", arithmetic.lower_div),
    ("Dropout", reindex.lower_dropout),
    ("Elu", activations.lower_elu),
    ("Erf", elementwise.apply("erf")),
    ("Exp", elementwise.apply("exp")),
    ("Expand", reindex.lower_reindex),
    ("Flatten", reindex.lower_reindex),
    ("Gather", reindex.lower_reindex),
    ("Gelu", activations.lower_gelu),
    ("Gemm", linear.lower_gemm),
    ("GlobalAveragePool", pooling.lower_global_average_pool),
    ("GlobalMaxPool", pooling.lower_global_max_pool),
    ("GroupNormalization", centring.lower_group_normalization),
    ("HardSigmoid", activations.lower_hard_sigmoid),
    ("HardSwish", activations.lower_hard_swish),
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
    ("Mish", activations.lower_mish),
    ("Mul", arithmetic.lower_mul),
    ("Neg", arithmetic.lower_neg),
    ("PRelu", activations.lower_prelu),
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
    ("Selu", activations.lower_selu),
    ("Shape", reindex.lower_shape),
    ("Shrink", activations.lower_shrink),
    ("Sigmoid", elementwise.apply("sigmoid")),
    ("Sign", elementwise.apply("sign")),
    ("Sin", elementwise.apply("sin")),
    ("Sinh", elementwise.apply("sinh")),
    ("Size", reindex.lower_size),
    ("Slice", reindex.lower_reindex),
    ("Softmax", normalisation.lower_softmax),
    ("Softplus", elementwise.apply("softplus")),
    ("Softsign", elementwise.apply("softsign")),
    ("SpaceToDepth", reindex.lower_reindex),
    ("Split", reindex.lower_reindex),
    ("Sqrt", elementwise.apply("sqrt")),
    ("Squeeze", reindex.lower_reindex),
    ("Sub", arithmetic.lower_sub),
    ("Sum", arithmetic.lower_sum),
    ("Swish", activations.lower_swish),
    ("Tan", elementwise.apply("tan")),
    ("Tanh", elementwise.apply("tanh")),
    ("ThresholdedRelu", activations.lower_thresholded_relu),
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
