"""The registry of lowerings: operator -> (function, versions, attributes). What is not here is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from verifier.checker.lowering import (
    activations,
    attention,
    basic,
    constants,
    contract,
    control,
    elementwise,
    learning,
    logic,
    moves,
    normal,
    order,
    picks,
    quantised,
    recurrent,
    resample,
    rows,
    windows,
)
from verifier.checker.lowering.builder import Held, Value
from verifier.checker.lowering.operator import Operator
from verifier.checker.network import Pieces

Lowering = Callable[[Operator], Held | list[Value] | list[Held]]


@dataclass(frozen=True)
class Entry:
    """`attributes` may be set (those that the version has); `constant` evaluates the operator where all its inputs are constants."""

    lower: Lowering | None
    versions: frozenset[int]
    attributes: frozenset[str]
    constant: Lowering | None = None


def register(*lines: tuple[str, Lowering | None, tuple[int, ...], str, Lowering | None]) -> Mapping[str, Entry]:
    """Raises ValueError where an operator is registered twice."""
    table: dict[str, Entry] = {}
    for name, lower, versions, attributes, constant in lines:
        if name in table:
            raise ValueError(f"{name} is registered twice")
        table[name] = Entry(lower, frozenset(versions), frozenset(attributes.split()), constant)
    return MappingProxyType(table)


LOWERINGS = register(
    ("Abs", elementwise.pieces(elementwise.ABSOLUTE), (6, 13), "", constants.unary("abs")),
    ("Acos", activations.acos, (7, 22), "", None),
    ("Acosh", elementwise.smooth("acosh"), (9, 22), "", None),
    ("Add", basic.add, (7, 13, 14), "", constants.add),
    ("AffineGrid", resample.affine_grid, (20,), "align_corners", None),
    ("And", logic.both, (7,), "", constants.compare("logical_and")),
    ("ArgMax", order.arg_extremum(1.0), (1, 11, 12, 13), "axis keepdims select_last_index", None),
    ("ArgMin", order.arg_extremum(-1.0), (1, 11, 12, 13), "axis keepdims select_last_index", None),
    ("Asin", elementwise.smooth("asin"), (7, 22), "", None),
    ("Asinh", elementwise.smooth("asinh"), (9, 22), "", None),
    ("Atan", elementwise.smooth("atan"), (7, 22), "", None),
    ("Atanh", elementwise.smooth("atanh"), (9, 22), "", None),
    ("Attention", attention.attention, (23, 24, 25), attention.ATTRIBUTES, None),
    ("AveragePool", windows.average_pool, (7, 10, 11, 19, 22), "auto_pad ceil_mode count_include_pad dilations kernel_shape pads strides", None),
    ("BatchNormalization", rows.batch_normalization, (7, 9, 14, 15), "epsilon momentum spatial training_mode", None),
    ("Cast", logic.cast, (6, 9, 13, 19, 21, 23, 24, 25, 28), "to", constants.cast),
    ("CastLike", logic.cast_like, (15, 19, 21, 23, 24, 25), "", None),
    ("Ceil", elementwise.pieces(Pieces(step="ceil")), (6, 13), "", constants.unary("ceil")),
    ("Celu", activations.celu, (12, 28), "alpha", None),
    ("CenterCropPad", picks.filling(picks.center_crop_pad), (18,), "axes", None),
    ("Clip", elementwise.clip, (6, 11, 12, 13), "max min", None),
    ("Col2Im", picks.col2im, (18,), "dilations pads strides", None),
    ("Compress", moves.moving(picks.compress), (9, 11, 28), "axis", None),
    ("Concat", basic.concat, (4, 11, 13), "axis", constants.concat),
    ("ConcatFromSequence", control.concatenate, (11,), "axis new_axis", None),
    ("Constant", None, (1, 9, 11, 12, 13, 19, 21, 23, 24, 25), "value value_float value_floats value_int value_ints", constants.constant),
    ("ConstantOfShape", None, (9, 20, 21, 23, 24, 25), "value", constants.constant_of_shape),
    ("Conv", windows.conv, (1, 11, 22), "auto_pad dilations group kernel_shape pads strides", None),
    ("ConvInteger", quantised.conv_integer, (10,), "auto_pad dilations group kernel_shape pads strides", None),
    ("ConvTranspose", windows.conv_transpose, (1, 11, 22), "auto_pad dilations group kernel_shape output_padding output_shape pads strides", None),
    ("Cos", elementwise.smooth("cos"), (7, 22), "", None),
    ("Cosh", elementwise.smooth("cosh"), (9, 22), "", None),
    ("CumProd", contract.cum_prod, (26,), "exclusive reverse", None),
    ("CumSum", contract.cum_sum, (11, 14), "exclusive reverse", None),
    ("DepthToSpace", moves.moving(moves.depth_to_space), (1, 11, 13, 28), "blocksize mode", None),
    ("DequantizeLinear", quantised.dequantize_linear, (10, 13, 19, 21, 23, 24, 25, 28), "axis block_size", None),
    ("Div", basic.divide, (7, 13, 14), "", constants.divide),
    ("Dropout", moves.dropout, (7, 10, 12, 13, 22), "ratio seed", None),
    ("DynamicQuantizeLinear", quantised.dynamic_quantize_linear, (11,), "", None),
    ("Einsum", contract.contraction, (12, 28), "equation", None),
    ("Elu", activations.elu, (6, 22), "alpha", None),
    ("Equal", logic.equal, (7, 11, 13, 19), "", constants.compare("equal")),
    ("Erf", elementwise.smooth("erf"), (9, 13), "", None),
    ("Exp", elementwise.smooth("exp"), (6, 13), "", None),
    ("Expand", moves.moving(moves.expand), (8, 13), "", None),
    ("EyeLike", picks.eye_like, (9, 22), "dtype k", None),
    ("Flatten", moves.moving(moves.flatten), (1, 9, 11, 13, 21, 23, 24, 25), "axis", None),
    ("Floor", elementwise.pieces(Pieces(step="floor")), (6, 13), "", constants.unary("floor")),
    ("GRU", recurrent.recurrent(3, ("sigmoid", "tanh"), 1, recurrent.gru_step), (7, 14, 22), f"{recurrent.CELL} linear_before_reset", None),
    ("Gather", moves.moving(moves.gather), (1, 11, 13), "axis", None),
    ("GatherElements", moves.moving(picks.gather_elements), (11, 13), "axis", None),
    ("GatherND", moves.moving(picks.gather_nd), (11, 12, 13), "batch_dims", None),
    ("Gelu", activations.gelu, (20,), "approximate", None),
    ("Gemm", basic.gemm, (7, 9, 11, 13), "alpha beta transA transB", None),
    ("GlobalAveragePool", rows.global_average_pool, (1, 22), "", None),
    ("GlobalLpPool", windows.global_lp_pool, (2, 22), "p", None),
    ("GlobalMaxPool", windows.global_max_pool, (1, 22), "", None),
    ("Greater", logic.compares(1.0, strict=True), (7, 9, 13), "", constants.compare("greater")),
    ("GreaterOrEqual", logic.compares(1.0, strict=False), (12, 16), "", constants.compare("greater_equal")),
    ("GridSample", resample.grid_sample, (16, 20, 22), "align_corners mode padding_mode", None),
    ("GroupNormalization", normal.group_normalization, (21,), "epsilon num_groups stash_type", None),
    ("HardSigmoid", activations.hard_sigmoid, (6, 22), "alpha beta", None),
    ("HardSwish", activations.hard_swish, (14, 22), "", None),
    ("Hardmax", order.hardmax, (1, 11, 13), "axis", None),
    ("Identity", moves.identity, (1, 13, 14, 16, 19, 21, 23, 24, 25), "", None),
    ("If", control.if_, (1, 11, 13, 16, 19, 21, 23, 24, 25), "else_branch then_branch", None),
    ("InstanceNormalization", normal.instance_normalization, (6, 22), "epsilon", None),
    ("IsInf", logic.never, (10, 20), "detect_negative detect_positive", None),
    ("IsNaN", logic.never, (9, 13, 20), "", None),
    ("LRN", contract.lrn, (1, 13), "alpha beta bias size", None),
    ("LSTM", recurrent.recurrent(4, ("sigmoid", "tanh", "tanh"), 2, recurrent.lstm_step), (7, 14, 22), f"{recurrent.CELL} input_forget", None),
    ("LayerNormalization", normal.layer_normalization, (17,), "axis epsilon stash_type", None),
    ("LeakyRelu", elementwise.leaky_relu, (6, 16), "alpha", None),
    ("Less", logic.compares(-1.0, strict=True), (7, 9, 13), "", constants.compare("less")),
    ("LessOrEqual", logic.compares(-1.0, strict=False), (12, 16), "", constants.compare("less_equal")),
    ("Log", elementwise.smooth("log"), (6, 13), "", None),
    ("LogSoftmax", normal.log_softmax, (1, 11, 13), "axis", None),
    ("Loop", control.loop, (1, 11, 13, 16, 19, 21, 23, 24, 25), "body", None),
    ("LpNormalization", contract.lp_normalization, (1, 22), "axis p", None),
    ("LpPool", windows.lp_pool, (2, 11, 18, 22), "auto_pad ceil_mode dilations kernel_shape p pads strides", None),
    ("MatMul", basic.matmul, (1, 9, 13), "", None),
    ("MatMulInteger", quantised.matmul_integer, (10,), "", None),
    ("Max", basic.extremum(1.0), (6, 8, 12, 13), "", None),
    ("MaxPool", windows.max_pool, (1, 8, 10, 11, 12, 22), "auto_pad ceil_mode dilations kernel_shape pads storage_order strides", None),
    ("Mean", basic.mean_all, (6, 8, 13), "", None),
    ("MeanVarianceNormalization", normal.mean_variance_normalization, (9, 13), "axes", None),
    ("Min", basic.extremum(-1.0), (6, 8, 12, 13), "", None),
    ("Mish", activations.mish, (18, 22), "", None),
    ("Mod", logic.remainder, (10, 13, 28), "fmod", constants.modulo),
    ("Mul", basic.multiply, (7, 13, 14), "", constants.multiply),
    ("Neg", basic.negate, (6, 13), "", constants.negate),
    ("NonZero", None, (9, 13), "", constants.non_zero),
    ("Not", logic.invert, (1,), "", constants.invert),
    ("OneHot", picks.one_hot, (9, 11, 28), "axis", None),
    ("Or", logic.either, (7,), "", constants.compare("logical_or")),
    ("PRelu", activations.prelu, (7, 9, 16), "", None),
    ("Pad", moves.pad, (2, 11, 13, 18, 19, 21, 23, 24, 25), "mode pads value", None),
    ("Pow", basic.power, (7, 12, 13, 15), "", None),
    ("QLinearConv", quantised.qlinear_conv, (10,), "auto_pad dilations group kernel_shape pads strides", None),
    ("QLinearMatMul", quantised.qlinear_matmul, (10, 21), "", None),
    ("QuantizeLinear", quantised.quantize_linear, (10, 13, 19, 21, 23, 24, 25, 28), "axis block_size output_dtype precision saturate", None),
    ("RMSNormalization", normal.rms_normalization, (23,), "axis epsilon stash_type", None),
    ("RNN", recurrent.recurrent(1, ("tanh",), 1, recurrent.rnn_step), (7, 14, 22), recurrent.CELL, None),
    ("Range", None, (11,), "", constants.arange),
    ("Reciprocal", elementwise.root("reciprocal", 2), (6, 13), "", None),
    ("ReduceL1", rows.reduce_norm(1), (1, 11, 13, 18), "axes keepdims noop_with_empty_axes", None),
    ("ReduceL2", rows.reduce_norm(2), (1, 11, 13, 18), "axes keepdims noop_with_empty_axes", None),
    ("ReduceLogSum", rows.reduce_log_sum, (1, 11, 13, 18, 28), "axes keepdims noop_with_empty_axes", None),
    ("ReduceLogSumExp", rows.reduce_log_sum_exp, (1, 11, 13, 18, 28), "axes keepdims noop_with_empty_axes", None),
    ("ReduceMax", rows.reduce_extremum(1.0), (1, 11, 12, 13, 18, 20), "axes keepdims noop_with_empty_axes", constants.reduce("max", 18)),
    ("ReduceMean", rows.reduce_mean, (1, 11, 13, 18), "axes keepdims noop_with_empty_axes", None),
    ("ReduceMin", rows.reduce_extremum(-1.0), (1, 11, 12, 13, 18, 20), "axes keepdims noop_with_empty_axes", constants.reduce("min", 18)),
    ("ReduceProd", rows.reduce_prod, (1, 11, 13, 18), "axes keepdims noop_with_empty_axes", constants.reduce("prod", 18)),
    ("ReduceSum", rows.reduce_sum, (1, 11, 13), "axes keepdims noop_with_empty_axes", constants.reduce("sum", 13)),
    ("ReduceSumSquare", rows.reduce_sum_square, (1, 11, 13, 18), "axes keepdims noop_with_empty_axes", None),
    ("Relu", elementwise.pieces(elementwise.RELU), (6, 13, 14), "", constants.relu),
    ("Reshape", moves.moving(moves.reshape), (5, 13, 14, 19, 21, 23, 24, 25), "allowzero", None),
    ("ReverseSequence", moves.moving(picks.reverse_sequence), (10, 28), "batch_axis time_axis", None),
    ("RotaryEmbedding", attention.rotary_embedding, (23,), "interleaved num_heads rotary_embedding_dim", None),
    ("Round", elementwise.pieces(Pieces(step="round")), (11, 22), "", constants.unary("rint")),
    ("Scan", control.scan, (9, 11, 16, 19, 21, 23, 24, 25), control.SCAN, None),
    ("Scatter", picks.scatter_elements, (9,), "axis", None),
    ("ScatterElements", picks.scatter_elements, (11, 13, 16, 18), "axis reduction", None),
    ("ScatterND", picks.scatter_nd, (11, 13, 16, 18), "reduction", None),
    ("Selu", activations.selu, (6, 22), "alpha gamma", None),
    ("SequenceAt", control.at, (11,), "", None),
    ("SequenceConstruct", control.construct, (11,), "", None),
    ("SequenceEmpty", control.empty, (11,), "dtype", None),
    ("SequenceErase", control.erase, (11,), "", None),
    ("SequenceInsert", control.insert, (11,), "", None),
    ("SequenceLength", control.length, (11,), "", None),
    ("SequenceMap", control.sequence_map, (17,), "body", None),
    ("Shape", constants.shape, (1, 13, 15, 19, 21, 23, 24, 25), "end start", None),
    ("Shrink", activations.shrink, (9,), "bias lambd", None),
    ("Sigmoid", elementwise.smooth("sigmoid"), (6, 13), "", None),
    ("Sign", elementwise.pieces(elementwise.SIGN), (9, 13), "", constants.unary("sign")),
    ("Sin", elementwise.smooth("sin"), (7, 22), "", None),
    ("Sinh", elementwise.smooth("sinh"), (9, 22), "", None),
    ("Size", constants.size, (1, 13, 19, 21, 23, 24, 25), "", None),
    ("Slice", moves.moving(moves.slicing), (1, 10, 11, 13), "axes ends starts", None),
    ("Softmax", rows.softmax, (1, 11, 13), "axis", None),
    ("Softplus", elementwise.smooth("softplus"), (1, 22), "", None),
    ("Softsign", elementwise.smooth("softsign"), (1, 22), "", None),
    ("SpaceToDepth", moves.moving(moves.space_to_depth), (1, 13, 28), "blocksize mode", None),
    ("Split", moves.moving(moves.split), (2, 11, 13, 18), "axis num_outputs split", None),
    ("SplitToSequence", control.split, (11, 24), "axis keepdims", None),
    ("Sqrt", elementwise.root("sqrt", 1), (6, 13), "", constants.root),
    ("Squeeze", moves.moving(moves.squeeze), (1, 11, 13, 21, 23, 24, 25), "axes", None),
    ("Sub", basic.subtract, (7, 13, 14), "", constants.subtract),
    ("Sum", basic.sum_all, (6, 8, 13), "", None),
    ("Swish", activations.swish, (24,), "alpha", None),
    ("Tan", activations.tan, (7, 22), "", None),
    ("Tanh", elementwise.smooth("tanh"), (6, 13), "", None),
    ("ThresholdedRelu", activations.thresholded_relu, (10, 22), "alpha", None),
    ("Tile", moves.moving(moves.tile), (6, 13), "", None),
    ("TopK", order.top_k, (1, 10, 11, 24), "axis k largest sorted", None),
    ("Transpose", moves.moving(moves.transpose), (1, 13, 21, 23, 24, 25), "perm", None),
    ("Trilu", picks.filling(picks.trilu), (14,), "upper", None),
    ("Unsqueeze", moves.moving(moves.unsqueeze), (1, 11, 13, 21, 23, 24, 25), "axes", None),
    ("Upsample", resample.upsample, (7, 9), "mode scales", None),
    ("Where", logic.where, (9, 16), "", constants.where),
    ("Xor", logic.one_of, (7,), "", constants.compare("logical_xor")),
    (
        "Resize",
        resample.resize,
        (10, 11, 13, 18, 19),
        "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value keep_aspect_ratio_policy mode nearest_mode",
        None,
    ),
    ("ai.onnx.ml.ArrayFeatureExtractor", learning.array_feature_extractor, (1,), "", None),
    ("ai.onnx.ml.Binarizer", learning.binarizer, (1,), "threshold", None),
    (
        "ai.onnx.ml.LinearClassifier",
        learning.linear_classifier,
        (1,),
        "classlabels_ints classlabels_strings coefficients intercepts multi_class post_transform",
        None,
    ),
    ("ai.onnx.ml.LinearRegressor", learning.linear_regressor, (1,), "coefficients intercepts post_transform targets", None),
    ("ai.onnx.ml.Normalizer", learning.normalizer, (1,), "norm", None),
    ("ai.onnx.ml.Scaler", learning.scaler, (1,), "offset scale", None),
    ("ai.onnx.ml.ZipMap", learning.zip_map, (1,), "classlabels_int64s classlabels_strings", None),
)

# What integers that depend on the input may go into. All others would read them as floats.
TAKES_INTEGERS = frozenset(
    """
    And ArgMax ArgMin ArrayFeatureExtractor Cast CastLike CenterCropPad Compress ConvInteger DepthToSpace DequantizeLinear Equal Expand EyeLike
    Flatten Gather GatherElements GatherND Greater GreaterOrEqual Identity Less LessOrEqual MatMulInteger Not OneHot Or QLinearConv
    QLinearMatMul Reshape ReverseSequence Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze Where Xor
    """.split()
)
