"""Cases of operators that move, pick, order, resample or reduce: (operator, opset, shapes of inputs, weights, attributes, outputs)."""

from __future__ import annotations

from typing import Any

import numpy as np
from graph_models import floats

Case = tuple[str, int, dict[str, tuple[int, ...]], dict[str, Any], dict[str, Any]]


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


NONE = np.zeros(0, np.float32)
IMAGE = {"x": (1, 2, 4, 5)}
SCALES = {"r": NONE, "s": np.array([1, 1, 1.5, 0.6], np.float32)}
WHOLE = {"r": NONE, "s": np.array([1, 1, 2, 2], np.float32)}
PLACES = np.array([[[0, 1], [2, 0]], [[1, 1], [0, 2]]])  # of rows of a tensor of shape (3, 3, 2)

MOVES: list[Case] = [
    ("CenterCropPad", 18, {"x": (4, 3)}, {"s": ints(2, 6)}, {}),
    ("CenterCropPad", 18, {"x": (4, 3, 2)}, {"s": ints(5)}, {"axes": [-2]}),
    ("Compress", 9, {"x": (3, 2)}, {"c": np.array([True, False, True])}, {"axis": 0}),
    ("Compress", 11, {"x": (3, 2)}, {"c": np.array([False, True, True])}, {}),
    ("Col2Im", 18, {"x": (1, 8, 6)}, {"i": ints(4, 3), "k": ints(2, 2)}, {}),
    ("Col2Im", 18, {"x": (2, 3, 9)}, {"i": ints(5, 5), "k": ints(1, 3)}, {"strides": [2, 2], "pads": [0, 1, 0, 1]}),
    ("EyeLike", 9, {"x": (3, 4)}, {}, {"k": 1}),
    ("GatherElements", 11, {"x": (3, 3)}, {"i": np.array([[1, 2, 0], [2, 0, 0]])}, {"axis": 0}),
    ("GatherElements", 13, {"x": (3, 3)}, {"i": np.array([[-1, 2], [2, 0], [1, -3]])}, {"axis": 1}),
    ("GatherElements", 13, {"x": (3, 4)}, {"i": np.array([[1], [-4]])}, {"axis": -1}),  # shorter along the other axis
    ("GatherND", 11, {"x": (3, 3, 2)}, {"i": PLACES}, {}),
    ("GatherND", 12, {"x": (2, 2, 3)}, {"i": np.array([[1], [0]])}, {"batch_dims": 1}),
    ("ReverseSequence", 10, {"x": (4, 3)}, {"n": ints(1, 2, 4)}, {"time_axis": 0, "batch_axis": 1}),
    ("Scatter", 9, {"x": (3, 3)}, {"i": np.array([[1, 0, 2]]), "u": floats(1, 3)}, {"axis": 0}),
    (
        "ScatterElements",
        11,
        {
            "x": (3, 3),
        },
        {"i": np.array([[1, 0, 2]]), "u": floats(1, 3)},
        {"axis": -2},
    ),
    ("ScatterElements", 16, {"x": (3, 3)}, {"i": np.array([[1, 1], [0, 0], [2, -1]]), "u": floats(3, 2)}, {"axis": 1, "reduction": "add"}),
    ("ScatterElements", 18, {"x": (3, 3)}, {"i": np.array([[1, 1], [0, 0], [2, -1]]), "u": floats(3, 2)}, {"axis": 1, "reduction": "mul"}),
    ("ScatterElements", 18, {"x": (3, 3)}, {"i": np.array([[1, 1], [0, 0], [2, -1]]), "u": floats(3, 2)}, {"axis": 1, "reduction": "max"}),
    ("ScatterND", 11, {"x": (3, 3, 2)}, {"i": PLACES, "u": floats(2, 2, 2)}, {}),
    ("ScatterND", 16, {"x": (4, 2)}, {"i": ints(1, 1, 3).reshape(3, 1), "u": floats(3, 2)}, {"reduction": "add"}),
    ("ScatterND", 18, {"x": (4, 2)}, {"i": ints(1, 1, 3).reshape(3, 1), "u": floats(3, 2)}, {"reduction": "min"}),
    ("Trilu", 14, {"x": (3, 4)}, {"k": np.int64(1)}, {}),
    ("Trilu", 14, {"x": (2, 3, 3)}, {}, {"upper": 0}),
    ("Pad", 19, {"x": (2, 3)}, {"p": ints(1, 0, 2, 2)}, {"mode": "wrap"}),
]
WEIGHTED: list[Case] = [
    ("AffineGrid", 20, {"x": (2, 2, 3)}, {"s": ints(2, 1, 3, 4)}, {}),
    ("AffineGrid", 20, {"x": (1, 3, 4)}, {"s": ints(1, 1, 2, 3, 2)}, {"align_corners": 1}),
    ("CumSum", 11, {"x": (2, 3, 4)}, {"a": np.int64(-2)}, {}),
    ("CumSum", 14, {"x": (2, 5)}, {"a": np.int64(1)}, {"exclusive": 1, "reverse": 1}),
    ("CumSum", 14, {"x": (2, 5)}, {"a": ints(1)}, {}),
    ("Einsum", 12, {"x": (2, 3, 3)}, {}, {"equation": "bii->bi"}),
    ("Einsum", 12, {"x": (2, 3, 4), "z": (2, 4, 5)}, {}, {"equation": "bij, bjk -> bik"}),
    ("Einsum", 12, {"x": (2, 3, 4)}, {"w": floats(5, 4)}, {"equation": "...k,jk"}),
    ("Einsum", 12, {"x": (3, 4)}, {"w": floats(4, 2), "v": floats(2, 5)}, {"equation": "ab,bc,cd->da"}),
    ("GridSample", 16, IMAGE, {"g": floats(1, 3, 4, 2, low=-1.2, high=1.2)}, {}),
    ("GridSample", 16, IMAGE, {"g": floats(1, 3, 4, 2)}, {"mode": "bicubic", "padding_mode": "border", "align_corners": 1}),
    ("GridSample", 20, {"x": (1, 2, 3, 4, 3)}, {"g": floats(1, 2, 3, 2, 3)}, {"mode": "linear", "padding_mode": "reflection"}),
    ("GridSample", 22, IMAGE, {"g": floats(1, 3, 4, 2, low=-0.9, high=0.9)}, {"mode": "nearest"}),
    ("Resize", 10, {"x": (1, 1, 3, 4)}, {"s": np.array([1, 1, 2, 1.5], np.float32)}, {"mode": "linear"}),
    # 10 by 0.7, which as a float32 is less, is 7
    ("Resize", 13, {"x": (1, 1, 10)}, {"r": NONE, "s": np.array([1, 1, 0.7], np.float32)}, {"mode": "linear"}),
    ("Upsample", 9, {"x": (1, 1, 3, 6)}, {"s": np.array([1, 1, 5 / 3, 7 / 6], np.float32)}, {"mode": "nearest"}),
    ("Resize", 11, IMAGE, SCALES, {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}),
    ("Resize", 13, IMAGE, SCALES, {"mode": "cubic", "coordinate_transformation_mode": "align_corners"}),
    ("Resize", 13, IMAGE, WHOLE, {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}),
    ("Resize", 18, IMAGE, {"r": NONE, "s": NONE, "z": ints(6, 3)}, {"mode": "linear", "axes": [2, 3]}),
    ("Resize", 19, IMAGE, SCALES, {"mode": "linear", "antialias": 1, "coordinate_transformation_mode": "half_pixel"}),
    ("Resize", 19, IMAGE, {"r": NONE, "s": NONE, "z": ints(6, 6)}, {"mode": "nearest", "axes": [3, 2], "keep_aspect_ratio_policy": "not_larger"}),
    ("Upsample", 9, {"x": (1, 2, 3, 2)}, {"s": np.array([1, 1, 2, 3], np.float32)}, {"mode": "linear"}),
]
POOLED: list[Case] = [
    ("CumProd", 26, {"x": (3, 4)}, {"a": np.int64(1)}, {}),
    ("GlobalLpPool", 7, {"x": (1, 3, 4, 5)}, {}, {}),
    ("GlobalLpPool", 11, {"x": (1, 3, 4)}, {}, {"p": 1}),
    ("LRN", 7, {"x": (1, 5, 3, 2)}, {}, {"size": 3}),
    ("LRN", 13, {"x": (2, 4, 3, 1)}, {}, {"size": 3, "alpha": 0.5, "beta": 0.5, "bias": 2.0}),
    ("LpNormalization", 7, {"x": (2, 3, 4)}, {}, {"axis": 1, "p": 1}),
    ("LpNormalization", 22, {"x": (2, 3, 4)}, {}, {}),
    ("LpPool", 7, {"x": (1, 2, 5, 5)}, {}, {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1], "strides": [1, 2]}),
    ("LpPool", 18, {"x": (1, 2, 6, 6)}, {}, {"kernel_shape": [2, 2], "dilations": [2, 2], "p": 3}),
    ("ReduceL1", 13, {"x": (2, 3, 4)}, {}, {"axes": [1]}),
    ("ReduceL2", 18, {"x": (2, 3, 4)}, {"a": ints(-1)}, {"keepdims": 0}),
    ("ReduceLogSumExp", 13, {"x": (2, 3, 4)}, {}, {"axes": [2, 0], "keepdims": 0}),
    ("ReduceLogSumExp", 18, {"x": (2, 3)}, {}, {}),
    ("ReduceProd", 13, {"x": (2, 5, 3)}, {}, {"axes": [1]}),
    ("ReduceSumSquare", 18, {"x": (2, 3, 4)}, {"a": ints(0, 2)}, {}),
]
ORDERED: list[Case] = [
    ("ArgMax", 7, {"x": (3, 4)}, {}, {}),
    ("ArgMax", 13, {"x": (3, 4)}, {}, {"axis": 1, "keepdims": 0, "select_last_index": 1}),
    ("ArgMin", 12, {"x": (3, 4, 2)}, {}, {"axis": -2}),
    ("Hardmax", 7, {"x": (2, 3, 2)}, {}, {"axis": 1}),
    ("Hardmax", 13, {"x": (2, 3, 2)}, {}, {"axis": 1}),
    ("MaxPool", 12, {"x": (1, 2, 5, 5)}, {}, {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1], "strides": [2, 2]}),
    ("OneHot", 11, {"v": (2,)}, {"i": ints(0, 2, -1), "d": np.int64(3)}, {"axis": 0}),
    ("TopK", 7, {"x": (3, 4)}, {}, {"k": 2, "axis": 1}),
    ("TopK", 11, {"x": (5, 2)}, {"k": ints(3)}, {"axis": 0, "largest": 0}),
    ("TopK", 11, {"x": (2, 4)}, {"k": ints(1)}, {}),
]
OUTPUTS = {"TopK": 2, "MaxPool": 2}
MOVEMENT = [*MOVES, *WEIGHTED, *POOLED, *ORDERED]
POSITIVE: list[Case] = [("ReduceLogSum", 13, {"x": (2, 3)}, {}, {"axes": [1]}), ("ReduceLogSum", 18, {"x": (2, 3)}, {}, {})]
COVERED = {case[0] for case in [*MOVEMENT, *POSITIVE]}
COVERED |= {"Scaler", "Normalizer", "Binarizer", "LinearRegressor", "LinearClassifier", "ArrayFeatureExtractor"}  # test_learning.py
COVERED |= {"ZipMap", "Imputer"}  # the same
QUANTISED = ("ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QuantizeLinear", "MatMulIntegerToFloat", "QGemm")
COVERED |= {*QUANTISED}  # test_quantised.py
COVERED |= {f"QLinear{kind}" for kind in ("Add", "AveragePool", "Concat", "Conv", "GlobalAveragePool", "LeakyRelu", "MatMul", "Mul")}
COVERED |= {f"QLinear{kind}" for kind in ("ReduceMean", "Sigmoid", "Softmax")}
COVERED |= {"FusedMatMul", "FusedGemm", "FusedConv", "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"}
