"""Attribute traps of operators that compute values element by element, by rows or by products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.soundness.net import Net
from benchmarks.soundness.traps import CONVEX, RISING, Features, Trap, misread

# --- products --------------------------------------------------------------------------------------------------------------------


def _bias_column(net: Net, x: str, wrongly: bool) -> str:
    weight, bias = net.numbers(3, 3), net.draw(3, 1)
    return net.node("Gemm", x, weight, net.constant(bias.T if wrongly else bias))


def _bias_row(net: Net, x: str, wrongly: bool) -> str:
    weight, bias = net.numbers(3, 3), net.draw(3)
    return net.node("Gemm", x, weight, net.constant(bias[:, None] if wrongly else bias))


def _constant_left(net: Net, x: str, wrongly: bool) -> str:
    weight, bias = net.numbers(3, 3), net.numbers(3)
    return net.node("Gemm", x, weight, bias) if wrongly else net.node("Gemm", weight, x, bias)


def _vector(left: bool) -> Features:
    """MatMul of a vector [3] and a matrix; misread, in the other order."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        vector, matrix = net.node("Reshape", x, net.whole(3)), net.numbers(3, 3)
        return net.node("MatMul", vector, matrix) if left != wrongly else net.node("MatMul", matrix, vector)

    return features


def _matrix_left(net: Net, x: str, wrongly: bool) -> str:
    weight = net.draw(3, 3)
    return net.node("MatMul", net.constant(weight.T if wrongly else weight), x)


def _batches(net: Net, x: str, wrongly: bool) -> str:
    weight = net.draw(2, 2, 2)
    return net.node("MatMul", x, net.constant(weight[:1] if wrongly else weight))


GEMM = [(3, 3), (3,)]
PRODUCTS = (
    Trap("gemm_alpha", "alpha is ignored", ("Gemm",), (3, 3), misread("Gemm", GEMM, {"alpha": 0.25}, {})),
    Trap("gemm_beta", "beta is ignored", ("Gemm",), (3, 3), misread("Gemm", GEMM, {"beta": 4.0}, {})),
    Trap("gemm_beta_zero", "beta is ignored where it is 0", ("Gemm",), (3, 3), misread("Gemm", GEMM, {"beta": 0.0}, {})),
    Trap("gemm_alpha_bias", "alpha scales the bias too", ("Gemm",), (3, 3), misread("Gemm", GEMM, {"alpha": 0.25}, {"alpha": 0.25, "beta": 0.25})),
    Trap("gemm_beta_product", "beta scales the product too", ("Gemm",), (3, 3), misread("Gemm", GEMM, {"beta": 0.5}, {"beta": 0.5, "alpha": 0.5})),
    Trap("gemm_exchanged", "alpha and beta are exchanged", ("Gemm",), (3, 3),
         misread("Gemm", GEMM, {"alpha": 0.5, "beta": -2.0}, {"alpha": -2.0, "beta": 0.5})),
    Trap("gemm_trans_a", "transA is ignored", ("Gemm",), (3, 3), misread("Gemm", GEMM, {"transA": 1}, {})),
    Trap("gemm_trans_b", "transB is ignored", ("Gemm",), (3, 3), misread("Gemm", GEMM, {"transB": 1}, {})),
    Trap("gemm_trans_none", "weights are [output, input], as if transB were 1", ("Gemm",), (1, 3), misread("Gemm", GEMM, {}, {"transB": 1})),
    Trap("gemm_trans_both", "of transA and transB only the second is read", ("Gemm",), (3, 3),
         misread("Gemm", GEMM, {"transA": 1, "transB": 1}, {"transB": 1})),
    Trap("gemm_bias_column", "a bias [3, 1] is added along rows", ("Gemm",), (3, 3), _bias_column),
    Trap("gemm_bias_row", "a bias [3] is added along columns", ("Gemm",), (3, 3), _bias_row),
    Trap("gemm_left", "the constant operand is always the right one", ("Gemm",), (3, 3), _constant_left),
    Trap("matmul_vector_left", "a vector is always the right operand", ("MatMul",), (1, 3), _vector(True)),
    Trap("matmul_vector_right", "a vector is always the left operand", ("MatMul",), (1, 3), _vector(False)),
    Trap("matmul_left", "a constant left operand is transposed", ("MatMul",), (3, 2), _matrix_left),
    Trap("matmul_batches", "one matrix serves all batches", ("MatMul",), (2, 2, 2), _batches),
)  # fmt: skip

# --- activations -----------------------------------------------------------------------------------------------------------------


def _steep(net: Net, x: str, wrongly: bool) -> str:
    """LeakyRelu with a slope above 1 on the left is not the larger of x and slope * x."""
    if not wrongly:
        return net.node("LeakyRelu", x, alpha=2.0)
    return net.node("Max", x, net.node("Mul", x, net.constant(2.0)))


def _steep_parametric(net: Net, x: str, wrongly: bool) -> str:
    slope = net.constant(net.draw(1, 4, positive=True) + 1.0)
    return net.node("Max", x, net.node("Mul", x, slope)) if wrongly else net.node("PRelu", x, slope)


def _slopes(by_channel: bool) -> Features:
    """PRelu's slopes are aligned as numpy aligns: [2, 1, 1] by channel, [2] along the last axis."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        slope = net.draw(2, positive=True)
        return net.node("PRelu", x, net.constant(slope[:, None, None] if by_channel != wrongly else slope))

    return features


def _one_bound(lower: bool) -> Features:
    """Clip with one of its bounds; misread, it is the other one."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        bound = net.constant(float(net.draw()) / 4)
        return net.node("Clip", x, bound) if lower != wrongly else net.node("Clip", x, "", bound)

    return features


def _two_bounds(net: Net, x: str, wrongly: bool) -> str:
    low, high = net.constant(-0.5), net.constant(0.375)
    return net.node("Clip", x, low) if wrongly else net.node("Clip", x, low, high)


ACTIVATIONS = (
    Trap("leakyrelu_default", "alpha is 0.2 where it is left out", ("LeakyRelu",), (1, 4), misread("LeakyRelu", [], {}, {"alpha": 0.2}), RISING,
         low=-24, high=4),
    Trap("leakyrelu_zero", "alpha is 0 where it is left out", ("LeakyRelu",), (1, 4), misread("LeakyRelu", [], {"alpha": 0.125}, {"alpha": 0.0}),
         RISING,
         low=-24, high=4),
    Trap("leakyrelu_alpha", "alpha is always 0.01", ("LeakyRelu",), (1, 4), misread("LeakyRelu", [], {"alpha": 0.5}, {}), RISING, low=-24, high=4),
    Trap("leakyrelu_negative", "a negative alpha is made positive", ("LeakyRelu",), (1, 4),
         misread("LeakyRelu", [], {"alpha": -0.5}, {"alpha": 0.5}), CONVEX, low=-24, high=4, truths=(True,)),
    Trap("leakyrelu_steep", "LeakyRelu is max(x, alpha x)", ("LeakyRelu",), (1, 4), _steep, RISING, low=-24, high=8),
    Trap("prelu_steep", "PRelu is max(x, slope x)", ("PRelu",), (1, 4), _steep_parametric, RISING, low=-24, high=8),
    Trap("prelu_channel", "slopes [2, 1, 1] go along the last axis", ("PRelu",), (1, 2, 2, 2), _slopes(True), RISING, low=-24, high=4),
    Trap("prelu_last", "slopes [2] go by channel", ("PRelu",), (1, 2, 2, 2), _slopes(False), RISING, low=-24, high=4),
    Trap("clip_lower", "the only bound is the upper one", ("Clip",), (1, 4), _one_bound(True), RISING),
    Trap("clip_upper", "the only bound is the lower one", ("Clip",), (1, 4), _one_bound(False), RISING),
    Trap("clip_both", "the upper bound is ignored", ("Clip",), (1, 4), _two_bounds, RISING),
    Trap("clip_attributes", "bounds that are attributes, as before opset 11, are ignored", ("Clip",), (1, 4),
         misread("Clip", [], {"min": -0.5, "max": 0.375}, {}), RISING, opset=9),
    Trap("clip_six", "the bounds are 0 and 6", ("Clip",), (1, 4), misread("Clip", [], {"min": -1.0, "max": 1.0}, {"min": 0.0, "max": 6.0}), RISING,
         opset=9),
    Trap("hardsigmoid_default", "alpha is 1/6 where it is left out", ("HardSigmoid",), (1, 4),
         misread("HardSigmoid", [], {}, {"alpha": 1 / 6}), RISING, low=-24, high=24),
    Trap("hardsigmoid_alpha", "alpha and beta are the defaults", ("HardSigmoid",), (1, 4),
         misread("HardSigmoid", [], {"alpha": 0.5, "beta": 0.25}, {}), RISING),
    Trap("elu_alpha", "alpha is always 1", ("Elu",), (1, 4), misread("Elu", [], {"alpha": 0.25}, {}), RISING, low=-24, high=4),
)  # fmt: skip

# --- normalisation ---------------------------------------------------------------------------------------------------------------


def _normalised(right: Sequence[float], wrong: Sequence[float], variance: float, order: Sequence[int] = (0, 1, 2, 3)) -> Features:
    """BatchNormalization of channels [1, 3, 2]; `right`, `wrong`: () or its epsilon; misread, its constants stand in `order`."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        constants = [net.draw(3), net.draw(3), net.draw(3), np.abs(net.draw(3)) * variance]
        if order != (0, 1, 2, 3):
            constants = [np.abs(c) for c in constants]
        given = [constants[i] for i in order] if wrongly else constants
        epsilon = wrong if wrongly else right
        return net.node("BatchNormalization", x, *map(net.constant, given), **({"epsilon": epsilon[0]} if epsilon else {}))

    return features


def _softmax(shape: Sequence[int], right: dict[str, int], wrong: dict[str, int] | str) -> Features:
    """The first element of a softmax; `wrong` may be how to do it without the attribute."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        if not wrongly:
            value = net.node("Softmax", x, **right)
        elif wrong == "flat":
            value = net.node("Softmax", net.row(x), axis=1)
        elif wrong == "turned":
            value = net.node("Transpose", net.node("Softmax", net.node("Transpose", x, perm=[0, 2, 1]), axis=2), perm=[0, 2, 1])
        else:
            value = net.node("Softmax", x, **wrong)
        return net.node("Gather", net.row(value), net.whole(0), axis=1)

    return features


def _local(right: Mapping[str, float], wrong: Mapping[str, float]) -> Features:
    """The middle of five channels, normalised by its neighbours' squares. With numbers between 0 and 1, bias 1 and alpha / size at most 1 it
    rises in itself, since 1.5 (alpha / size) x^2 < 1 + (alpha / size) x^2, and falls in the others."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        return net.node("Gather", net.node("LRN", x, **(wrong if wrongly else right)), net.whole(2), axis=1)

    return features


FIRST, MIDDLE = (1, -1, -1, -1, -1, -1), (-1, -1, 1, -1, -1)
NORMALISED = (
    Trap("batchnormalization_default", "epsilon is 1e-3 where it is left out", ("BatchNormalization",), (1, 3, 2),
         _normalised((), (1e-3,), 2.0**-11)),
    Trap("batchnormalization_ignored", "epsilon is not added", ("BatchNormalization",), (1, 3, 2), _normalised((), (0.0,), 2.0**-16)),
    Trap("batchnormalization_epsilon", "epsilon is always 1e-5", ("BatchNormalization",), (1, 3, 2), _normalised((0.5,), (), 0.25)),
    Trap("batchnormalization_order", "mean and variance are exchanged", ("BatchNormalization",), (1, 3, 2),
         _normalised((), (), 1.0, (0, 1, 3, 2))),
    Trap("batchnormalization_shift", "scale and shift are exchanged", ("BatchNormalization",), (1, 3, 2), _normalised((), (), 1.0, (1, 0, 2, 3))),
    Trap("softmax_axis", "the axis is always the last", ("Softmax",), (1, 3, 2), _softmax((1, 3, 2), {"axis": 1}, {"axis": 2}), RISING, signs=FIRST),
    Trap("softmax_negative", "axis -2 is axis 2", ("Softmax",), (1, 3, 2), _softmax((1, 3, 2), {"axis": -2}, {"axis": 2}), RISING, signs=FIRST),
    Trap("softmax_default", "the axis left out is 1, with all behind it, as before opset 13", ("Softmax",), (1, 2, 3),
         _softmax((1, 2, 3), {}, "flat"), RISING, signs=FIRST),
    Trap("softmax_old_default", "the axis left out is the last, as from opset 13 on", ("Softmax",), (1, 2, 3),
         _softmax((1, 2, 3), {}, {"axis": 2}), RISING, opset=11, signs=FIRST),
    Trap("softmax_old_axis", "axis 1 is that axis alone, as from opset 13 on", ("Softmax",), (1, 3, 2),
         _softmax((1, 3, 2), {"axis": 1}, "turned"), RISING, opset=11, signs=FIRST),
    Trap("lrn_size", "size is the distance to either side", ("LRN",), (1, 5, 1, 1), _local({"size": 3, "alpha": 3.0}, {"size": 5, "alpha": 5.0}),
         RISING, low=0, high=8, signs=MIDDLE),
    Trap("lrn_alpha", "alpha is not divided by size", ("LRN",), (1, 5, 1, 1), _local({"size": 3, "alpha": 1.0}, {"size": 3, "alpha": 3.0}),
         RISING, low=0, high=8, signs=MIDDLE),
    Trap("lrn_beta", "beta is always 0.75", ("LRN",), (1, 5, 1, 1), _local({"size": 3, "alpha": 3.0, "beta": 0.25}, {"size": 3, "alpha": 3.0}),
         RISING, low=0, high=8, signs=MIDDLE),
)  # fmt: skip

# --- operands and broadcasting ---------------------------------------------------------------------------------------------------


def _exchanged(kind: str) -> Features:
    """constant - x, constant / x; misread, the other way round."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        constant = net.numbers(1, 4, positive=True)
        return net.node(kind, x, constant) if wrongly else net.node(kind, constant, x)

    return features


def _aligned(kind: str, column: bool) -> Features:
    """x [1, 3, 3] with a constant [3], or [3, 1]; misread, it is the other of the two."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        constant = net.draw(3)
        return net.node(kind, x, net.constant(constant[:, None] if column != wrongly else constant))

    return features


def _outer(kind: str) -> Features:
    """x [1, 3] and a constant [3, 1] make [3, 3]; misread, [3, 1] is x."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        constant = net.draw(3, 1)
        if wrongly:
            return net.node(kind, net.node("Reshape", x, net.whole(3, 1)), net.constant(constant.T))
        return net.node(kind, x, net.constant(constant))

    return features


def _third_lost(kind: str) -> Features:
    def features(net: Net, x: str, wrongly: bool) -> str:
        scaled, constant = net.node("Mul", x, net.numbers(1, 4, positive=True)), net.numbers(1, 4)
        return net.node(kind, x, scaled) if wrongly else net.node(kind, x, scaled, constant)

    return features


def _added_up(net: Net, x: str, wrongly: bool) -> str:
    scaled, constant = net.node("Mul", x, net.numbers(1, 4)), net.numbers(1, 4)
    return net.node("Sum" if wrongly else "Mean", x, scaled, constant)


def _inverse_constant(net: Net, x: str, wrongly: bool) -> str:
    return net.node("Mul" if wrongly else "Div", x, net.numbers(1, 4))


def _power(right: float, wrong: float) -> Features:
    return lambda net, x, wrongly: net.node("Pow", x, net.constant(wrong if wrongly else right))


def _doubled(net: Net, x: str, wrongly: bool) -> str:
    two = net.constant(2.0)
    return net.node("Mul", x, two) if wrongly else net.node("Pow", x, two)


def _dropped(ratio: bool) -> Features:
    """Dropout does nothing when it is not trained; misread, it scales by 1 - ratio."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        if wrongly:
            return net.node("Mul", x, net.constant(0.5))
        return net.node("Dropout", x, net.constant(0.5)) if ratio else net.node("Dropout", x, ratio=0.5)

    return features


def _chosen(net: Net, x: str, wrongly: bool) -> str:
    """Where with a constant condition; misread, its alternatives are exchanged."""
    condition = net.constant(np.array([[True, False, False, True]]), np.bool_)
    other = net.node("Mul", x, net.numbers(1, 4))
    return net.node("Where", condition, *((other, x) if wrongly else (x, other)))


OPERANDS = (
    Trap("sub_left", "a constant is always what is subtracted", ("Sub",), (1, 4), _exchanged("Sub")),
    Trap("div_left", "a constant is always the divisor", ("Div",), (1, 4), _exchanged("Div"), RISING, low=4, high=24),
    Trap("div_constant", "x / c is x c", ("Div",), (1, 4), _inverse_constant),
    Trap("mul_row", "a constant [3] goes along the first of two axes", ("Mul",), (1, 3, 3), _aligned("Mul", False)),
    Trap("mul_column", "a constant [3, 1] goes along the last axis", ("Mul",), (1, 3, 3), _aligned("Mul", True)),
    Trap("add_row", "a constant [3] goes along the first of two axes", ("Add",), (1, 3, 3), _aligned("Add", False)),
    Trap("sub_column", "a constant [3, 1] goes along the last axis", ("Sub",), (1, 3, 3), _aligned("Sub", True)),
    Trap("mul_outer", "rows and columns are exchanged where both operands are stretched", ("Mul",), (1, 3), _outer("Mul")),
    Trap("div_outer", "rows and columns are exchanged where both operands are stretched", ("Div",), (1, 3), _outer("Div")),
    Trap("sum_third", "of three operands two are read", ("Sum",), (1, 4), _third_lost("Sum")),
    Trap("max_third", "of three operands two are read", ("Max",), (1, 4), _third_lost("Max"), RISING),
    Trap("min_third", "of three operands two are read", ("Min",), (1, 4), _third_lost("Min"), RISING),
    Trap("mean_divisor", "the sum is not divided by the number of operands", ("Mean",), (1, 4), _added_up),
    Trap("pow_three", "the exponent is 2", ("Pow",), (1, 4), _power(3.0, 2.0), RISING, low=2, high=14),
    Trap("pow_two", "x ^ 2 is 2 x", ("Pow",), (1, 4), _doubled, CONVEX),
    Trap("dropout_attribute", "the input is scaled by 1 - ratio", ("Dropout",), (1, 4), _dropped(False), opset=11),
    Trap("dropout_input", "the input is scaled by 1 - ratio", ("Dropout",), (1, 4), _dropped(True)),
    Trap("where_order", "the alternatives are exchanged", ("Where",), (1, 4), _chosen),
)  # fmt: skip

# --- reductions ------------------------------------------------------------------------------------------------------------------


def _reduced(kind: str, right: Sequence[int], wrong: Sequence[int], by_input: bool, **attributes: int) -> Features:
    """A reduction over axes; misread, over others."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        axes = list(wrong if wrongly else right)
        if by_input:
            return net.node(kind, x, net.whole(*axes), **attributes)
        return net.node(kind, x, axes=axes, **attributes)

    return features


def _centred(keepdims: int) -> Features:
    """x [3, 3] less its means over axis 1, which stand in a column if the axis is kept and otherwise in a row."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        kept = 1 - keepdims if wrongly else keepdims
        return net.node("Sub", net.node("Mul", x, net.numbers(3, 3)), net.node("ReduceMean", x, axes=[1], keepdims=kept))

    return features


def _all_axes(net: Net, x: str, wrongly: bool) -> str:
    mean = net.node("ReduceMean", x, axes=[1], keepdims=1) if wrongly else net.node("ReduceMean", x, keepdims=1)
    return net.node("Mul", mean, net.numbers(2, 3))


def _no_axes(right: int) -> Features:
    """ReduceSum without axes is the identity if noop_with_empty_axes is 1, else the sum of everything."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        nothing = 1 - right if wrongly else right
        return net.node("Mul", net.node("ReduceSum", x, noop_with_empty_axes=nothing), net.numbers(1, 4))

    return features


REDUCTIONS = (
    Trap("reducesum_negative", "axis -2 is axis 2", ("ReduceSum",), (1, 3, 3), _reduced("ReduceSum", [-2], [2], True, keepdims=0)),
    Trap("reducesum_attribute", "axis -2, an attribute before opset 13, is axis 2", ("ReduceSum",), (1, 3, 3),
         _reduced("ReduceSum", [-2], [2], False, keepdims=0), opset=11),
    Trap("reducesum_two", "of two axes the second is the one behind the first", ("ReduceSum",), (1, 2, 2, 2),
         _reduced("ReduceSum", [1, 3], [1, 2], True)),
    Trap("reducesum_noop", "without axes everything is summed, whatever noop_with_empty_axes", ("ReduceSum",), (1, 4), _no_axes(1)),
    Trap("reducesum_all", "without axes nothing is summed", ("ReduceSum",), (1, 4), _no_axes(0)),
    Trap("reducemean_all", "without axes the last is reduced", ("ReduceMean",), (2, 3), _all_axes),
    Trap("reducemean_dropped", "the reduced axis is kept, whatever keepdims", ("ReduceMean",), (3, 3), _centred(0)),
    Trap("reducemean_kept", "the reduced axis is dropped, whatever keepdims", ("ReduceMean",), (3, 3), _centred(1)),
    Trap("reducemean_input", "axes that are an input, from opset 18 on, are ignored for the last", ("ReduceMean",), (1, 3, 3),
         _reduced("ReduceMean", [1], [2], True), opset=18),
    Trap("reducemax_axis", "the last axis is reduced", ("ReduceMax",), (1, 3, 3), _reduced("ReduceMax", [1], [2], False), RISING),
    Trap("reducemax_input", "axes that are an input, from opset 18 on, are ignored for the last", ("ReduceMax",), (1, 3, 3),
         _reduced("ReduceMax", [1], [2], True, keepdims=0), RISING, opset=18),
    Trap("reducemin_axis", "axis -2 is axis 2", ("ReduceMin",), (1, 3, 3), _reduced("ReduceMin", [-2], [2], False, keepdims=0), RISING),
)  # fmt: skip
VALUES: tuple[Trap, ...] = (*PRODUCTS, *ACTIVATIONS, *NORMALISED, *OPERANDS, *REDUCTIONS)
