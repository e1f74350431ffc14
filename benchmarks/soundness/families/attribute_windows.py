"""Attribute traps of convolutions and pools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.soundness.net import Net
from benchmarks.soundness.traps import AFFINE, RISING, Features, Trap, misread

Attributes = Mapping[str, Any]


def _conv(name: str, says: str, shape: Sequence[int], weight: Sequence[int], right: Attributes, wrong: Attributes, summed: bool = False) -> Trap:
    over = range(2, len(shape)) if summed else ()
    return Trap(f"conv_{name}", says, ("Conv",), tuple(shape), misread("Conv", [weight, weight[:1]], right, wrong, over))


def _transposed(
    name: str, says: str, shape: Sequence[int], weight: Sequence[int], right: Attributes, wrong: Attributes, summed: bool = False
) -> Trap:  # fmt: skip
    over = range(2, len(shape)) if summed else ()
    return Trap(f"convtranspose_{name}", says, ("ConvTranspose",), tuple(shape), misread("ConvTranspose", [weight], right, wrong, over))


def _pool(kind: str, name: str, says: str, shape: Sequence[int], right: Attributes, wrong: Attributes, summed: bool = False, opset: int = 13) -> Trap:
    features = misread(kind, [], right, wrong, range(2, len(shape)) if summed else ())
    return Trap(f"{kind.lower()}_{name}", says, (kind,), tuple(shape), features, RISING if kind == "MaxPool" else AFFINE, opset)


def _interleaved(kind: str, weight: Sequence[int]) -> Features:
    """Two groups: misread, channels 0 and 2 are the first group."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        value = net.node("Gather", x, net.whole(0, 2, 1, 3), axis=1) if wrongly else x
        return net.node(kind, value, net.numbers(*weight), group=2)

    return features


def _flipped(net: Net, x: str, wrongly: bool) -> str:
    weight = net.draw(2, 1, 2, 2)
    return net.node("Conv", x, net.constant(weight[:, :, ::-1, ::-1] if wrongly else weight))


def _unbiased(net: Net, x: str, wrongly: bool) -> str:
    weight, bias = net.numbers(2, 1, 2, 2), net.constant(net.draw(2) * 4)
    return net.node("Conv", x, weight) if wrongly else net.node("Conv", x, weight, bias)


def _weights_turned(net: Net, x: str, wrongly: bool) -> str:
    weight = net.draw(2, 2, 2, 2)
    return net.node("ConvTranspose", x, net.constant(weight.swapaxes(0, 1) if wrongly else weight))


def _overhang(net: Net, x: str, wrongly: bool) -> str:
    """The last window of ceil_mode holds one element and no padding; misread, its sum is divided by all taps."""
    if not wrongly:
        return net.node("AveragePool", x, kernel_shape=[1, 2], strides=[1, 2], ceil_mode=1)
    wide = net.node("Pad", x, net.whole(0, 0, 0, 0, 0, 0, 0, 1))
    return net.node("AveragePool", wide, kernel_shape=[1, 2], strides=[1, 2])


def _zero_padded(net: Net, x: str, wrongly: bool) -> str:
    """Padding of MaxPool is never the largest; misread, it holds zeros (put there by Concat: onnxruntime 1.31 fuses Pad and MaxPool, and errs)."""
    if not wrongly:
        return net.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1])
    row, column = net.constant([[[[0.0] * 3]]]), net.constant([[[[0.0]] * 5]])
    wide = net.node("Concat", column, net.node("Concat", row, x, row, axis=2), column, axis=3)
    return net.node("MaxPool", wide, kernel_shape=[2, 2], strides=[2, 2])


def _global(kind: str, instead: str) -> Features:
    def features(net: Net, x: str, wrongly: bool) -> str:
        return net.node(instead, x, net.whole(2, 3)) if wrongly and instead == "ReduceSum" else net.node(instead if wrongly else kind, x)

    return features


SIDES = "pads at the end of an axis stand at its beginning"
ORDER = "the two numbers of an attribute belong to the axes in the opposite order"
IGNORED = "the attribute is ignored"
CONVS = (
    _conv("pads_sides", SIDES, (1, 1, 3, 3), (2, 1, 2, 2), {"pads": [0, 0, 1, 1]}, {"pads": [1, 1, 0, 0]}),
    _conv("pads_order", "pads go axis by axis (begin, end, begin, end)", (1, 1, 3, 4), (2, 1, 2, 2), {"pads": [2, 1, 0, 0]}, {"pads": [2, 0, 1, 0]},
          True),
    _conv("pads_ignored", "pads are ignored", (1, 2, 3, 3), (2, 2, 3, 3), {"pads": [1, 1, 1, 1]}, {}, True),
    _conv("pads_one_axis", "the pads of the first axis are those of all", (1, 1, 3, 3), (2, 1, 2, 2), {"pads": [1, 0, 1, 0]}, {"pads": [1, 1, 1, 1]},
          True),
    _conv("auto_pad_upper", "SAME_UPPER pads at the beginning", (1, 1, 3, 3), (2, 1, 2, 2), {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}),
    _conv("auto_pad_lower", "SAME_LOWER pads at the end", (1, 1, 3, 3), (2, 1, 2, 2), {"auto_pad": "SAME_LOWER"}, {"auto_pad": "SAME_UPPER"}),
    _conv("auto_pad_strided", "SAME pads as if the stride were 1", (1, 1, 4, 4), (2, 1, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
          {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    _conv("auto_pad_valid", "auto_pad VALID pads", (1, 1, 3, 3), (2, 1, 2, 2), {"auto_pad": "VALID"}, {"auto_pad": "SAME_UPPER"}, True),
    _conv("strides_order", ORDER, (1, 1, 4, 4), (1, 1, 2, 2), {"strides": [1, 2], "pads": [0, 0, 1, 0]}, {"strides": [2, 1], "pads": [0, 0, 0, 1]}),
    _conv("strides_ignored", IGNORED, (1, 1, 4, 4), (2, 1, 2, 2), {"strides": [2, 2]}, {}, True),
    _conv("strides_one", "the stride of the first axis is that of all", (1, 1, 4, 4), (2, 1, 2, 2), {"strides": [2, 1]}, {"strides": [2, 2]}, True),
    _conv("dilations_order", ORDER, (1, 1, 4, 4), (1, 1, 2, 2), {"dilations": [1, 2]}, {"dilations": [2, 1]}),
    _conv("dilations_ignored", IGNORED, (1, 1, 4, 4), (2, 1, 2, 2), {"dilations": [2, 2]}, {}, True),
    _conv("dilations_padded", "dilation is ignored and the output has the right size all the same", (1, 1, 3, 3), (1, 1, 3, 3),
          {"dilations": [2, 2], "pads": [2, 2, 2, 2]}, {"pads": [1, 1, 1, 1]}),
    _conv("line_pads", SIDES, (1, 2, 5), (2, 2, 3), {"pads": [0, 2]}, {"pads": [2, 0]}),
    _conv("line_dilation", IGNORED, (1, 1, 6), (3, 1, 2), {"dilations": [3]}, {}, True),
    _conv("volume_pads", SIDES, (1, 1, 2, 2, 2), (1, 1, 2, 2, 2), {"pads": [0, 0, 0, 1, 1, 1]}, {"pads": [1, 1, 1, 0, 0, 0]}),
    Trap("conv_groups", "the channels of a group are not neighbours", ("Conv",), (1, 4, 2, 2), _interleaved("Conv", (4, 2, 2, 2))),
    Trap("conv_flipped", "the kernel is turned round, as in a mathematical convolution", ("Conv",), (1, 1, 3, 3), _flipped),
    Trap("conv_bias", "the bias, an optional input, is left out", ("Conv",), (1, 1, 3, 3), _unbiased),
)  # fmt: skip
TRANSPOSED = (
    _transposed("pads_sides", SIDES, (1, 1, 3, 3), (1, 2, 2, 2), {"pads": [0, 0, 1, 1]}, {"pads": [1, 1, 0, 0]}),
    _transposed("pads_ignored", "pads, which remove here, are ignored", (1, 1, 3, 3), (1, 2, 3, 3), {"pads": [1, 1, 1, 1]}, {}, True),
    _transposed("pads_grow", "pads are added to the output instead of being taken from it", (1, 1, 1, 3), (1, 2, 1, 3), {"pads": [0, 1, 0, 0]},
                {"pads": [0, 0, 0, 1]}),
    _transposed("strides_order", ORDER, (1, 1, 2, 2), (1, 1, 2, 2), {"strides": [1, 2]}, {"strides": [2, 1]}),
    _transposed("dilations_order", ORDER, (1, 1, 2, 2), (1, 1, 2, 2), {"dilations": [1, 2]}, {"dilations": [2, 1]}),
    _transposed("output_padding", "output_padding adds at the beginning", (1, 1, 2, 2), (1, 1, 3, 3),
                {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
    _transposed("output_padding_lost", "output_padding is ignored", (1, 1, 2, 2), (1, 2, 3, 3),
                {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}, True),
    Trap("convtranspose_groups", "the channels of a group are not neighbours", ("ConvTranspose",), (1, 4, 2, 2),
         _interleaved("ConvTranspose", (4, 1, 2, 2))),
    Trap("convtranspose_weights", "weights are [output, input, ...] as in Conv", ("ConvTranspose",), (1, 2, 2, 2), _weights_turned),
)  # fmt: skip
PADDED = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
MEANS = (
    _pool("AveragePool", "excluded", "padding counts in the divisor by default", (1, 1, 3, 3), PADDED, {**PADDED, "count_include_pad": 1}),
    _pool("AveragePool", "included", "count_include_pad is ignored", (1, 1, 3, 3), {**PADDED, "count_include_pad": 1}, PADDED),
    _pool("AveragePool", "strides", "windows do not overlap: the stride is the kernel", (1, 1, 4, 4), {"kernel_shape": [2, 2]},
          {"kernel_shape": [2, 2], "strides": [2, 2]}, True),
    _pool("AveragePool", "overlap", "the stride of the first axis is that of all", (1, 1, 5, 5), {"kernel_shape": [3, 3], "strides": [2, 1]},
          {"kernel_shape": [3, 3], "strides": [2, 2]}, True),
    _pool("AveragePool", "pads_sides", SIDES, (1, 1, 3, 3), {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]},
          {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
    _pool("AveragePool", "pads_sides_included", SIDES, (1, 1, 3, 3), {"kernel_shape": [2, 2], "pads": [0, 1, 1, 0], "count_include_pad": 1},
          {"kernel_shape": [2, 2], "pads": [1, 0, 0, 1], "count_include_pad": 1}),
    _pool("AveragePool", "ceil", "ceil_mode is ignored", (1, 1, 1, 5), {"kernel_shape": [1, 2], "strides": [1, 2], "ceil_mode": 1},
          {"kernel_shape": [1, 2], "strides": [1, 2]}, True),
    _pool("AveragePool", "floor", "ceil_mode is taken to be 1", (1, 1, 1, 5), {"kernel_shape": [1, 2], "strides": [1, 2]},
          {"kernel_shape": [1, 2], "strides": [1, 2], "ceil_mode": 1}, True),
    Trap("averagepool_overhang", "a window that overhangs is divided by all its taps", ("AveragePool",), (1, 1, 2, 5), _overhang),
    _pool("AveragePool", "auto_pad_upper", "SAME_UPPER pads at the beginning", (1, 1, 3, 3), {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
          {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
    _pool("AveragePool", "auto_pad_lower", "SAME_LOWER pads at the end", (1, 1, 4, 4),
          {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
          {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    _pool("AveragePool", "kernel_order", ORDER, (1, 1, 4, 4), {"kernel_shape": [1, 2]}, {"kernel_shape": [2, 1]}),
    _pool("AveragePool", "dilations", IGNORED, (1, 1, 1, 6), {"kernel_shape": [1, 2], "dilations": [1, 3]}, {"kernel_shape": [1, 2]}, True, opset=19),
    Trap("globalaveragepool_sum", "the mean is a sum", ("GlobalAveragePool",), (1, 3, 2, 2), _global("GlobalAveragePool", "ReduceSum")),
)  # fmt: skip
MAXIMA = (
    Trap("maxpool_padding", "padding holds zeros", ("MaxPool",), (1, 1, 3, 3), _zero_padded, RISING, low=-24, high=-4),
    _pool("MaxPool", "pads_sides", SIDES, (1, 1, 3, 3), {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]},
          {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [1, 1, 0, 0]}),
    _pool("MaxPool", "strides", "windows do not overlap: the stride is the kernel", (1, 1, 4, 4), {"kernel_shape": [2, 2]},
          {"kernel_shape": [2, 2], "strides": [2, 2]}, True),
    _pool("MaxPool", "strides_order", ORDER, (1, 1, 4, 4), {"kernel_shape": [2, 2], "strides": [1, 2], "pads": [0, 0, 1, 0]},
          {"kernel_shape": [2, 2], "strides": [2, 1], "pads": [0, 0, 0, 1]}),
    _pool("MaxPool", "kernel_order", ORDER, (1, 1, 3, 3), {"kernel_shape": [1, 2]}, {"kernel_shape": [2, 1]}),
    _pool("MaxPool", "ceil", "ceil_mode is ignored", (1, 2, 1, 5), {"kernel_shape": [1, 2], "strides": [1, 2], "ceil_mode": 1},
          {"kernel_shape": [1, 2], "strides": [1, 2]}, True),
    _pool("MaxPool", "dilations", IGNORED, (1, 1, 1, 6), {"kernel_shape": [1, 2], "dilations": [1, 3]}, {"kernel_shape": [1, 2]}, True),
    _pool("MaxPool", "dilations_order", ORDER, (1, 1, 4, 4), {"kernel_shape": [2, 2], "dilations": [1, 2]},
          {"kernel_shape": [2, 2], "dilations": [2, 1]}),
    _pool("MaxPool", "auto_pad_upper", "SAME_UPPER pads at the beginning", (1, 1, 3, 3),
          {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
          {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    Trap("globalmaxpool_mean", "the maximum is a mean", ("GlobalMaxPool",), (1, 2, 2, 2), _global("GlobalMaxPool", "GlobalAveragePool"), RISING),
)  # fmt: skip
WINDOWS: tuple[Trap, ...] = (*CONVS, *TRANSPOSED, *MEANS, *MAXIMA)
