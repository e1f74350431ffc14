"""Attribute traps of operators that move, cut, repeat and pad."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.soundness.net import Net
from benchmarks.soundness.traps import RISING, Features, Trap, misread

LAST = 2**63 - 1  # "to the end" in a Slice

# --- joining and cutting -----------------------------------------------------------------------------------------------------------


def _joined(right: int, wrong: int) -> Features:
    def features(net: Net, x: str, wrongly: bool) -> str:
        return net.node("Concat", x, net.node("Mul", x, net.numbers(1, 2, 3)), axis=wrong if wrongly else right)

    return features


def _joined_order(net: Net, x: str, wrongly: bool) -> str:
    parts = [x, net.node("Mul", x, net.numbers(1, 2, 3)), net.numbers(1, 2, 3)]
    return net.node("Concat", *(parts[::-1] if wrongly else parts), axis=1)


def _second_part(net: Net, x: str, wrongly: bool) -> str:
    return net.nodes_of("Split", [x, net.whole(1, 3)], 2, axis=2 if wrongly else 1)[1]


def _first_axis(net: Net, x: str, wrongly: bool) -> str:
    """Split's axis is 0 where it is left out."""
    return net.nodes_of("Split", [x, net.whole(1, 2)], 2, **({"axis": 1} if wrongly else {}))[1]


def _sums(right: Sequence[int], wrong: Sequence[int], how: str) -> Features:
    """The sums of the parts of x [1, 5]. `how`: the sizes are an input, an attribute, or follow from `num_outputs`."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        sizes = wrong if wrongly else right
        value = net.node("Mul", x, net.numbers(1, 5))
        if how == "input" or (wrongly and how == "number"):
            parts = net.nodes_of("Split", [value, net.whole(*sizes)], len(sizes), axis=1)
        elif how == "attribute":
            parts = net.nodes_of("Split", [value], len(sizes), axis=1, split=list(sizes))
        else:
            parts = net.nodes_of("Split", [value], len(sizes), axis=1, num_outputs=len(sizes))
        return net.node("Concat", *[net.sum_over(part, [1], keepdims=1) for part in parts], axis=1)

    return features


def _outputs_order(net: Net, x: str, wrongly: bool) -> str:
    first, second = net.nodes_of("Split", [x, net.whole(2, 2)], 2, axis=1)
    return net.node("Sub", *((second, first) if wrongly else (first, second)))


def _slice(starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Callable[[Net, str], str]:
    def cut(net: Net, x: str) -> str:
        if net.opset < 10:
            return net.node("Slice", x, starts=list(starts), ends=list(ends), axes=list(axes))
        return net.node("Slice", x, *(net.whole(*values) for values in (starts, ends, axes, steps)))

    return cut


def _cut(right: Callable[[Net, str], str], wrong: Callable[[Net, str], str]) -> Features:
    return lambda net, x, wrongly: wrong(net, x) if wrongly else right(net, x)


def _no_axes(net: Net, x: str) -> str:
    return net.node("Slice", x, net.whole(0, 1), net.whole(1, 3))


JOINED = (
    Trap("concat_axis", "the axis is the last", ("Concat",), (1, 2, 3), _joined(1, 2)),
    Trap("concat_negative", "axis -2 is axis 2", ("Concat",), (1, 2, 3), _joined(-2, 2)),
    Trap("concat_order", "the operands are taken from the last to the first", ("Concat",), (1, 2, 3), _joined_order),
    Trap("split_axis", "the axis is the last", ("Split",), (1, 4, 4), _second_part),
    Trap("split_default", "the axis left out is not 0", ("Split",), (3, 3), _first_axis),
    Trap("split_sizes", "the sizes are taken in the opposite order", ("Split",), (1, 5), _sums([1, 4], [4, 1], "input")),
    Trap("split_attribute", "sizes that are an attribute, as before opset 13, are in the opposite order", ("Split",), (1, 5),
         _sums([1, 4], [4, 1], "attribute"), opset=11),
    Trap("split_uneven", "of uneven parts the first is the smaller one", ("Split",), (1, 5), _sums([3, 2], [2, 3], "number"), opset=18),
    Trap("split_outputs", "the outputs are exchanged", ("Split",), (1, 4), _outputs_order),
    Trap("slice_backwards", "a negative step goes forwards", ("Slice",), (1, 6), _cut(_slice([4], [0], [1], [-1]), _slice([1], [5], [1], [1]))),
    Trap("slice_backwards_far", "an end before the first element is the last element", ("Slice",), (1, 6),
         _cut(_slice([2], [-LAST], [1], [-1]), _slice([3], [LAST], [1], [1]))),
    Trap("slice_backwards_step", "a step of -2 starts at the other end", ("Slice",), (1, 6),
         _cut(_slice([-1], [-LAST], [1], [-2]), _slice([0], [LAST], [1], [2]))),
    Trap("slice_negative_start", "a negative start is clamped to 0", ("Slice",), (1, 6),
         _cut(_slice([-3], [LAST], [1], [1]), _slice([0], [3], [1], [1]))),
    Trap("slice_negative_end", "an end of -1 is the end of the axis", ("Slice",), (1, 6),
         _cut(_slice([2], [-1], [1], [1]), _slice([3], [LAST], [1], [1]))),
    Trap("slice_far_start", "a start far before the axis counts from its end", ("Slice",), (1, 6),
         _cut(_slice([-9], [3], [1], [1]), _slice([3], [6], [1], [1]))),
    Trap("slice_step", "the step is ignored", ("Slice",), (1, 6), _cut(_slice([0], [6], [1], [2]), _slice([0], [3], [1], [1]))),
    Trap("slice_axes", "axes are taken in ascending order", ("Slice",), (1, 3, 3),
         _cut(_slice([0, 1], [1, 3], [2, 1], [1, 1]), _slice([0, 1], [1, 3], [1, 2], [1, 1]))),
    Trap("slice_attributes", "starts, an attribute before opset 10, are ignored", ("Slice",), (1, 6),
         _cut(_slice([2], [5], [1], [1]), _slice([0], [3], [1], [1])), opset=9),
    Trap("slice_no_axes", "without axes the last ones are cut", ("Slice",), (3, 3, 3), _cut(_no_axes, _slice([0, 1], [1, 3], [1, 2], [1, 1]))),
)  # fmt: skip

# --- axes and shapes ---------------------------------------------------------------------------------------------------------------


def _stretched(kind: str, axes: Sequence[int], wrong: Sequence[int], shape: Sequence[int]) -> Features:
    """Squeeze or Unsqueeze, then a product with [3, 3], along one axis or the other."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        value, given = net.node("Reshape", x, net.whole(*shape)), list(wrong if wrongly else axes)
        value = net.node(kind, value, axes=given) if net.opset < 13 else net.node(kind, value, net.whole(*given))
        return net.node("Mul", value, net.numbers(3, 3))

    return features


def _row_maxima(kind: str, right: Any, wrong: Any) -> Features:
    """Flatten or Reshape of x [2, 3, 2] to a matrix; the sum of its rows' maxima."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        given = wrong if wrongly else right
        value = net.node("Mul", x, net.numbers(2, 3, 2, positive=True))
        matrix = net.node("Flatten", value, **given) if kind == "Flatten" else net.node("Reshape", value, net.whole(*given))
        return net.sum_over(net.node("ReduceMax", matrix, axes=[1], keepdims=1), [0], keepdims=1)

    return features


def _columns_first(net: Net, x: str, wrongly: bool) -> str:
    value = net.node("Reshape", x, net.whole(3, 2) if wrongly else net.whole(2, 3))
    value = net.node("Transpose", value, perm=[1, 0]) if wrongly else value
    return net.node("MatMul", value, net.numbers(3, 2))


def _expanded(net: Net, x: str, wrongly: bool) -> str:
    """Expand [3, 1] by [1, 3]: both are stretched."""
    value = net.node("Reshape", x, net.whole(1, 3) if wrongly else net.whole(3, 1))
    return net.node("Expand", value, net.whole(3, 1) if wrongly else net.whole(1, 3))


def _tiled(net: Net, x: str, wrongly: bool) -> str:
    if not wrongly:
        return net.node("Tile", x, net.whole(1, 2))
    column = net.node("Reshape", x, net.whole(4, 1))
    return net.node("Expand", column, net.whole(4, 2))


MOVED = (
    Trap("transpose_inverse", "perm says where axes go, not where they come from", ("Transpose",), (1, 2, 3, 2),
         misread("Transpose", [], {"perm": [0, 2, 3, 1]}, {"perm": [0, 3, 1, 2]})),
    Trap("transpose_default", "without perm the last two axes are exchanged", ("Transpose",), (2, 3, 2),
         misread("Transpose", [], {}, {"perm": [0, 2, 1]})),
    Trap("transpose_ignored", "nothing is moved", ("Transpose",), (1, 3, 3), misread("Transpose", [], {"perm": [0, 2, 1]}, {"perm": [0, 1, 2]})),
    Trap("unsqueeze_negative", "axis -1 counts from the end of the input", ("Unsqueeze",), (1, 3), _stretched("Unsqueeze", [-1], [0], (3,))),
    Trap("unsqueeze_attribute", "axes that are an attribute, as before opset 13, are ignored for 0", ("Unsqueeze",), (1, 3),
         _stretched("Unsqueeze", [1], [0], (3,)), opset=11),
    Trap("unsqueeze_two", "the second of two axes counts in the input", ("Unsqueeze",), (1, 3), _stretched("Unsqueeze", [0, 2], [0, 1], (3,))),
    Trap("squeeze_negative", "axis -1 is the first", ("Squeeze",), (1, 3), _stretched("Squeeze", [-1], [0], (1, 3, 1))),
    Trap("squeeze_attribute", "axes that are an attribute, as before opset 13, are ignored for 0", ("Squeeze",), (1, 3),
         _stretched("Squeeze", [2], [0], (1, 3, 1)), opset=11),
    Trap("flatten_axis", "the axis is always 1", ("Flatten",), (2, 3, 2), _row_maxima("Flatten", {"axis": 2}, {}), RISING),
    Trap("flatten_default", "the axis left out is the last", ("Flatten",), (2, 3, 2), _row_maxima("Flatten", {}, {"axis": 2}), RISING),
    Trap("flatten_negative", "axis -1 is axis 1", ("Flatten",), (2, 3, 2), _row_maxima("Flatten", {"axis": -1}, {"axis": 1}), RISING),
    Trap("flatten_zero", "axis 0 keeps the first axis", ("Flatten",), (2, 3, 2), _row_maxima("Flatten", {"axis": 0}, {"axis": 1}), RISING),
    Trap("reshape_zero", "a 0 in the shape is 1", ("Reshape",), (2, 3, 2), _row_maxima("Reshape", (0, -1), (1, -1)), RISING),
    Trap("reshape_rest", "-1 is 1", ("Reshape",), (2, 3, 2), _row_maxima("Reshape", (-1, 2), (1, 12)), RISING),
    Trap("reshape_order", "elements are read down the columns", ("Reshape",), (1, 6), _columns_first),
    Trap("expand_both", "rows and columns are exchanged", ("Expand",), (1, 3), _expanded),
    Trap("tile_order", "each element is repeated in its place", ("Tile",), (1, 4), _tiled),
    Trap("depthtospace_dcr", "the default mode is CRD", ("DepthToSpace",), (1, 8, 1, 1),
         misread("DepthToSpace", [], {"blocksize": 2}, {"blocksize": 2, "mode": "CRD"})),
    Trap("depthtospace_crd", "the mode is always DCR", ("DepthToSpace",), (1, 8, 1, 1),
         misread("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}, {"blocksize": 2, "mode": "DCR"})),
)  # fmt: skip

# --- padding and picking -----------------------------------------------------------------------------------------------------------


def _pad(
    right: Sequence[int], wrong: Sequence[int], mode: str = "constant", wrong_mode: str = "",
    value: float | None = None, wrong_value: float | None = None,
) -> Features:  # fmt: skip
    """Pad as an operator of opset 11 and later."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        filler = wrong_value if wrongly else value
        constants = [net.whole(*(wrong if wrongly else right)), *([] if filler is None else [net.constant(filler)])]
        return net.node("Pad", x, *constants, mode=(wrong_mode or mode) if wrongly else mode)

    return features


def _pad_axes(net: Net, x: str, wrongly: bool) -> str:
    return net.node("Pad", x, net.whole(1, 0), "", net.whole(2 if wrongly else -1))


def _old_pad(net: Net, x: str, wrongly: bool) -> str:
    """Before opset 11 pads and value are attributes; misread, they are ignored."""
    value = x if wrongly else net.node("Pad", x, pads=[0, 0, 1, 0, 0, 0, 0, 1], value=1.5)
    return net.sum_over(net.node("Conv", value, net.numbers(2, 1, 2, 2)), [2, 3])


def _gathered(right: Any, wrong: Any, axis: int, wrong_axis: int) -> Features:
    def features(net: Net, x: str, wrongly: bool) -> str:
        places, along = (wrong, wrong_axis) if wrongly else (right, axis)
        return net.node("Gather", x, net.constant(places, np.int64), axis=along)

    return features


def _one_gathered(net: Net, x: str, wrongly: bool) -> str:
    """A scalar index takes its axis away; misread, the axis stays, and the product is another."""
    value = net.node("Gather", x, net.constant([1] if wrongly else 1, np.int64), axis=1)
    return net.node("Mul", value, net.numbers(3, 3))


def _elements(net: Net, x: str, wrongly: bool) -> str:
    places = net.constant([[0, 2, 1], [2, 1, 1], [1, 0, 2]], np.int64)
    return net.node("GatherElements", x, places, axis=0 if wrongly else 1)


def _resized(scales: Sequence[float], right: Mapping[str, str], wrong: Mapping[str, str]) -> Features:
    def features(net: Net, x: str, wrongly: bool) -> str:
        return net.node("Resize", x, "", net.constant(scales), **(wrong if wrongly else right))

    return features


def _upsampled(net: Net, x: str, wrongly: bool) -> str:
    return net.node("Tile", x, net.whole(1, 1, 1, 2)) if wrongly else net.node("Upsample", x, net.constant([1, 1, 1, 2]))


TWICE, HALF = (1, 1, 1, 2), (1, 1, 1, 0.5)
RESIZED = (
    Trap("resize_nearest_mode", "what lies half way is rounded up", ("Resize",), (1, 1, 2, 4),
         _resized(TWICE, {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
                  {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "ceil"})),
    Trap("resize_nearest_default", "the nearest of two is the upper one", ("Resize",), (1, 1, 2, 4),
         _resized(HALF, {}, {"nearest_mode": "round_prefer_ceil"})),
    Trap("resize_half_pixel", "pixels are points at whole places (asymmetric)", ("Resize",), (1, 1, 2, 3),
         _resized(TWICE, {"mode": "linear"}, {"mode": "linear", "coordinate_transformation_mode": "asymmetric"})),
    Trap("resize_align_corners", "corners are not aligned", ("Resize",), (1, 1, 2, 3),
         _resized(TWICE, {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, {"mode": "linear"})),
    Trap("resize_asymmetric", "pixels are areas (half_pixel)", ("Resize",), (1, 1, 2, 3),
         _resized(TWICE, {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}, {"mode": "linear"})),
    Trap("resize_mode", "the mode is always nearest", ("Resize",), (1, 1, 2, 3), _resized(TWICE, {"mode": "linear"}, {})),
    Trap("upsample_order", "rows are repeated, not elements", ("Upsample",), (1, 1, 2, 3), _upsampled, opset=9),
)  # fmt: skip
FAR = [0, 0, 0, 2, 0, 0, 0, 0]
PICKED = (
    Trap("pad_sides", "pads at the end of an axis stand at its beginning", ("Pad",), (1, 1, 2, 2),
         _pad([0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0, 0, 0])),
    Trap("pad_order", "pads go axis by axis (begin, end, begin, end)", ("Pad",), (3, 3), _pad([1, 0, 0, 1], [0, 1, 1, 0])),
    Trap("pad_last_first", "pads begin with the last axis, as in PyTorch", ("Pad",), (3, 3), _pad([1, 0, 0, 0], [0, 1, 0, 0])),
    Trap("pad_value", "padding is always 0", ("Pad",), (1, 4), _pad([0, 1, 0, 2], [0, 1, 0, 2], value=-1.5, wrong_value=0.0)),
    Trap("pad_reflect", "reflect repeats the border", ("Pad",), (1, 1, 1, 4),
         _pad([0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0, 1], "reflect", "edge")),
    Trap("pad_reflect_far", "reflect repeats the border", ("Pad",), (1, 1, 1, 4), _pad(FAR, FAR, "reflect", "edge")),
    Trap("pad_edge", "edge is constant", ("Pad",), (1, 1, 1, 3), _pad([0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 0, 1], "edge", "constant")),
    Trap("pad_wrap", "wrap is reflect", ("Pad",), (1, 4), _pad([0, 2, 0, 1], [0, 2, 0, 1], "wrap", "reflect"), opset=19),
    Trap("pad_negative", "negative pads pad", ("Pad",), (1, 5), _pad([0, -1, 0, 1], [0, 1, 0, -1])),
    Trap("pad_axes", "the axes that are padded are ignored", ("Pad",), (1, 1, 2, 2), _pad_axes, opset=18),
    Trap("pad_attributes", "pads that are attributes, as before opset 11, are ignored", ("Pad",), (1, 1, 3, 3), _old_pad, opset=10),
    Trap("gather_negative", "negative indices are clamped to 0", ("Gather",), (1, 5), _gathered([-1, 2, -2], [0, 2, 0], 1, 1)),
    Trap("gather_axis", "the axis is always 0", ("Gather",), (3, 3), _gathered([2, 0], [2, 0], 1, 0)),
    Trap("gather_default", "the axis left out is the last", ("Gather",), (3, 3), _gathered([2, 1], [2, 1], 0, 1)),
    Trap("gather_matrix", "a matrix of indices is read down its columns", ("Gather",), (1, 5), _gathered([[0, 3], [4, 1]], [[0, 4], [3, 1]], 1, 1)),
    Trap("gather_scalar", "a single index keeps its axis", ("Gather",), (3, 3), _one_gathered),
    Trap("gatherelements_axis", "the axis is always 0", ("GatherElements",), (3, 3), _elements),
)  # fmt: skip
SHAPES: tuple[Trap, ...] = (*JOINED, *MOVED, *RESIZED, *PICKED)
