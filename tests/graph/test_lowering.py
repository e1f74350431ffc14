"""Every supported operator, in the forms of several opsets, against onnxruntime within its own rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from composition_cases import COMPOSITIONS, CONTROL
from graph_models import floats, model, node
from movement_cases import COVERED

from graph.core import Affine, Bilinear, Elementwise, Max
from graph.errors import UnsupportedOperator
from graph.evaluate import evaluate
from graph.load import load
from graph.lowering import LOWERINGS
from graph.selfcheck import compare

Weights = dict[str, Any]
BIG = np.iinfo(np.int64).max


def ints(*values: int) -> Any:
    return np.array(values, dtype=np.int64)


# (operator, opset, inputs' shapes, weights, attributes); inputs are called a, b, ..., in the order of `order` if given
CASES: list[tuple[str, int, dict[str, tuple[int, ...]], Weights, dict[str, Any]]] = [
    ("Abs", 13, {"x": (2, 3)}, {}, {}),
    ("Add", 7, {"x": (1, 3)}, {"w": floats(3)}, {}),
    ("Add", 13, {"x": (2, 3), "z": (1, 3)}, {}, {}),
    ("AveragePool", 7, {"x": (1, 2, 5, 6)}, {}, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    ("AveragePool", 11, {"x": (1, 2, 5, 6)}, {}, {"kernel_shape": [3, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", 19, {"x": (1, 1, 6, 6)}, {}, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    (
        "BatchNormalization",
        9,
        {"x": (2, 3, 4)},
        {"s": floats(3), "b": floats(3, seed=1), "m": floats(3, seed=2), "v": floats(3, low=0.1)},
        {"epsilon": 0.01},
    ),
    ("BatchNormalization", 15, {"x": (1, 3)}, {"s": floats(3), "b": floats(3, seed=1), "m": floats(3, seed=2), "v": floats(3, low=0.1)}, {}),
    ("Cast", 13, {"x": (2, 2)}, {}, {"to": 1}),
    ("Clip", 13, {"x": (4,)}, {"l": np.float32(1), "h": np.float32(-1)}, {}),
    ("Clip", 13, {"x": (4,), "l": ()}, {"h": np.float32(1)}, {}),
    ("Clip", 13, {"x": (4,), "l": (), "h": ()}, {}, {}),
    ("Clip", 7, {"x": (4,)}, {}, {"min": -0.5, "max": 0.25}),
    ("Clip", 7, {"x": (4,)}, {}, {"min": 0.0}),
    ("Clip", 13, {"x": (4,)}, {"l": np.float32(-1), "h": np.float32(1)}, {}),
    ("Concat", 7, {"x": (1, 2, 3), "z": (1, 2, 2)}, {}, {"axis": 2}),
    ("Concat", 13, {"x": (1, 2, 3)}, {"w": floats(1, 4, 3)}, {"axis": -2}),
    ("Celu", 12, {"x": (7,)}, {}, {}),
    ("Celu", 12, {"x": (7,)}, {}, {"alpha": 1.7}),
    ("Conv", 7, {"x": (1, 2, 5, 6)}, {"w": floats(4, 2, 3, 2), "b": floats(4)}, {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    ("Conv", 11, {"x": (2, 4, 7)}, {"w": floats(6, 2, 3)}, {"group": 2, "dilations": [2], "kernel_shape": [3]}),
    ("Conv", 11, {"x": (1, 2, 3, 4, 3)}, {"w": floats(3, 2, 2, 2, 2)}, {}),
    ("Conv", 11, {"x": (1, 2, 5, 5)}, {"w": floats(3, 2, 2, 2)}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("Conv", 11, {"x": (1, 2, 5, 5)}, {"w": floats(3, 2, 2, 2)}, {"auto_pad": "SAME_LOWER"}),
    ("Conv", 11, {"x": (1, 2, 5, 5)}, {"w": floats(3, 2, 2, 2)}, {"auto_pad": "VALID"}),
    ("ConvTranspose", 7, {"x": (1, 4, 3, 3)}, {"w": floats(4, 2, 3, 3), "b": floats(2)}, {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("ConvTranspose", 11, {"x": (1, 4, 3, 2)}, {"w": floats(4, 1, 3, 2)}, {"group": 2, "strides": [2, 3], "output_padding": [1, 2]}),
    ("ConvTranspose", 11, {"x": (2, 2, 5)}, {"w": floats(2, 3, 3)}, {"dilations": [2], "pads": [1, 0]}),
    ("ConvTranspose", 11, {"x": (1, 2, 3, 4)}, {"w": floats(2, 1, 3, 4)}, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ("ConvTranspose", 22, {"x": (1, 2, 3, 4)}, {"w": floats(2, 1, 3, 4)}, {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    ("ConvTranspose", 11, {"x": (1, 2, 3, 3)}, {"w": floats(2, 2, 3, 3)}, {"output_shape": [10, 8], "strides": [3, 2]}),
    ("ConvTranspose", 7, {"x": (1, 2, 4)}, {"w": floats(2, 2, 3)}, {"output_shape": [4]}),
    ("Cos", 7, {"x": (5,)}, {}, {}),
    ("Cosh", 9, {"x": (5,)}, {}, {}),
    ("Elu", 7, {"x": (2, 5)}, {}, {}),
    ("Elu", 22, {"x": (2, 5)}, {}, {"alpha": 2.5}),
    ("Elu", 13, {"x": (2, 5)}, {}, {"alpha": 0.3}),
    ("Elu", 13, {"x": (2, 5)}, {}, {"alpha": 0.0}),
    ("Asinh", 9, {"x": (9,)}, {}, {}),
    ("Atan", 7, {"x": (9,)}, {}, {}),
    ("Sinh", 9, {"x": (9,)}, {}, {}),
    ("Softsign", 7, {"x": (9,)}, {}, {}),
    ("Gelu", 20, {"x": (9,)}, {}, {}),
    ("Gelu", 20, {"x": (9,)}, {}, {"approximate": "tanh"}),
    ("HardSigmoid", 7, {"x": (3, 9)}, {}, {}),
    ("HardSigmoid", 22, {"x": (3, 9)}, {}, {"alpha": -0.7, "beta": 0.1}),
    ("HardSwish", 14, {"x": (3, 9)}, {}, {}),
    ("Mish", 18, {"x": (3, 9)}, {}, {}),
    ("PRelu", 7, {"x": (2, 3, 4)}, {"s": floats(3, 1)}, {}),
    ("PRelu", 9, {"x": (2, 3, 4)}, {"s": floats(2, 3, 4)}, {}),
    ("PRelu", 16, {"x": (2, 3, 4)}, {"s": np.array([0.25], np.float32)}, {}),
    ("Selu", 7, {"x": (9,)}, {}, {}),
    ("Selu", 22, {"x": (9,)}, {}, {"alpha": 0.5, "gamma": -2.0}),
    ("Shrink", 9, {"x": (4, 9)}, {}, {}),
    ("Shrink", 9, {"x": (4, 9)}, {}, {"lambd": 1.5, "bias": 1.5}),
    ("ThresholdedRelu", 10, {"x": (4, 9)}, {}, {}),
    ("ThresholdedRelu", 22, {"x": (4, 9)}, {}, {"alpha": -0.5}),
    ("ThresholdedRelu", 10, {"x": (4, 9)}, {}, {"alpha": 0.0}),
    ("Floor", 7, {"x": (4, 9)}, {}, {}),
    ("Ceil", 13, {"x": (4, 9)}, {}, {}),
    ("Round", 11, {"x": (4, 9)}, {}, {}),
    ("DepthToSpace", 13, {"x": (1, 8, 2, 3)}, {}, {"blocksize": 2, "mode": "CRD"}),
    ("Div", 7, {"x": (2, 3)}, {"w": floats(3, low=0.5)}, {}),
    ("Dropout", 7, {"x": (2, 3)}, {}, {"ratio": 0.3}),
    ("Dropout", 13, {"x": (2, 3)}, {"r": np.float32(0.3)}, {}),
    ("Dropout", 13, {"x": (2, 3)}, {"r": np.float32(0), "t": np.bool_(True)}, {}),
    ("Erf", 13, {"x": (7,)}, {}, {}),
    ("Exp", 13, {"x": (7,)}, {}, {}),
    ("Expand", 8, {"x": (3, 1)}, {"s": ints(2, 1, 4)}, {}),
    ("Flatten", 9, {"x": (2, 3, 4)}, {}, {"axis": 2}),
    ("Flatten", 11, {"x": (2, 3, 4)}, {}, {"axis": -2}),
    ("Flatten", 11, {"x": (2, 3)}, {}, {"axis": 0}),
    ("Gather", 11, {"x": (2, 5)}, {"i": ints(0, -1, 3, 3)}, {"axis": 1}),
    ("Gather", 13, {"x": (2, 5)}, {"i": np.int64(1)}, {"axis": 0}),
    ("Gemm", 7, {"x": (2, 3)}, {"w": floats(3, 4), "b": floats(4)}, {}),
    ("Gemm", 11, {"x": (3, 2)}, {"w": floats(4, 3), "b": floats(1, 4)}, {"transA": 1, "transB": 1, "alpha": 0.3, "beta": -1.7}),
    ("Gemm", 13, {"x": (2, 3), "z": (3, 4)}, {}, {}),
    ("GlobalAveragePool", 7, {"x": (1, 3, 4, 5)}, {}, {}),
    ("GlobalMaxPool", 7, {"x": (1, 3, 4, 5)}, {}, {}),
    ("Identity", 13, {"x": (3,)}, {}, {}),
    ("LeakyRelu", 7, {"x": (2, 3)}, {}, {"alpha": 0.2}),
    ("LeakyRelu", 16, {"x": (2, 3)}, {}, {"alpha": -1.5}),
    ("MatMul", 9, {"x": (2, 3)}, {"w": floats(3, 4)}, {}),
    ("MatMul", 9, {"x": (1, 2, 5, 3)}, {"w": floats(3, 4)}, {}),
    ("MatMul", 9, {"x": (3,)}, {"w": floats(3, 4)}, {}),
    ("MatMul", 9, {"x": (2, 3)}, {"w": floats(3)}, {}),
    ("MatMul", 13, {"x": (2, 4, 3)}, {"w": floats(2, 3, 5)}, {}),
    ("MatMul", 13, {"x": (4, 3)}, {"w": floats(2, 3, 5)}, {}),
    ("MatMul", 13, {"x": (2, 3, 4), "z": (1, 4, 2)}, {}, {}),
    ("Max", 8, {"x": (2, 3), "z": (3,)}, {}, {}),
    ("Max", 13, {"x": (2, 3)}, {"w": floats(2, 1)}, {}),
    ("Max", 13, {"x": (2, 3)}, {"w": np.float32(0)}, {}),
    ("MaxPool", 8, {"x": (1, 2, 5, 5)}, {}, {"kernel_shape": [2, 3], "pads": [1, 1, 0, 1], "strides": [1, 2]}),
    ("MaxPool", 12, {"x": (1, 2, 6, 6)}, {}, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ("MaxPool", 12, {"x": (1, 1, 9)}, {}, {"kernel_shape": [3], "dilations": [2]}),
    ("Mean", 13, {"x": (2, 3), "z": (2, 3)}, {}, {}),
    ("Min", 8, {"x": (2, 3), "z": (2, 1)}, {}, {}),
    ("Min", 13, {"x": (2, 3)}, {"w": np.float32(0.5)}, {}),
    ("Mul", 7, {"x": (2, 3)}, {"w": floats(2, 1)}, {}),
    ("Mul", 13, {"x": (2, 3), "z": (3,)}, {}, {}),
    ("Neg", 7, {"x": (2,)}, {}, {}),
    ("Pad", 10, {"x": (2, 3)}, {}, {"pads": [1, 0, 0, 2], "value": 0.5}),
    ("Pad", 13, {"x": (1, 4)}, {"p": ints(0, 1, 0, -2)}, {}),
    ("Pad", 13, {"x": (2, 4)}, {"p": ints(0, 2, 0, 1)}, {"mode": "reflect"}),
    ("Pad", 13, {"x": (2, 4)}, {"p": ints(1, 2, 0, 1)}, {"mode": "edge"}),
    ("Mod", 13, {"x": (2, 3)}, {"w": np.float32([0.75, -1.5, 2])}, {"fmod": 1}),
    ("Pow", 7, {"x": (2, 3)}, {"e": np.float32(2)}, {}),
    ("Pow", 13, {"x": (2, 3)}, {"e": np.float32(3)}, {}),
    ("ReduceMax", 13, {"x": (2, 3, 4)}, {}, {"axes": [1]}),
    ("ReduceMin", 13, {"x": (2, 3, 4)}, {}, {"axes": [0, 2], "keepdims": 0}),
    ("ReduceMax", 18, {"x": (2, 3, 4)}, {"a": ints(-1)}, {}),
    ("ReduceMean", 11, {"x": (2, 3, 4)}, {}, {"axes": [-1, 0]}),
    ("ReduceMean", 18, {"x": (2, 3, 4)}, {"a": ints(1)}, {"keepdims": 0}),
    ("ReduceSum", 11, {"x": (2, 3, 4)}, {}, {"axes": [1], "keepdims": 0}),
    ("ReduceSum", 13, {"x": (2, 3, 4)}, {"a": ints(1, 2)}, {}),
    ("ReduceSum", 13, {"x": (2, 3)}, {}, {}),
    ("Relu", 7, {"x": (2, 3)}, {}, {}),
    ("Reshape", 7, {"x": (2, 3, 4)}, {"s": ints(0, -1)}, {}),
    ("Resize", 10, {"x": (1, 1, 3, 4)}, {"s": np.array([1, 1, 2, 1.5], np.float32)}, {"mode": "nearest"}),
    ("Resize", 13, {"x": (1, 1, 3, 4)}, {"r": floats(0), "s": np.array([1, 1, 2, 2], np.float32)}, {"mode": "nearest"}),
    ("Shape", 13, {"x": (2, 3)}, {}, {}),
    ("Sigmoid", 13, {"x": (9,)}, {}, {}),
    ("Sign", 9, {"x": (9,)}, {}, {}),
    ("Sign", 13, {"x": (3, 3)}, {}, {}),
    ("Sin", 7, {"x": (9,)}, {}, {}),
    ("Size", 13, {"x": (2, 3)}, {}, {}),
    ("Slice", 9, {"x": (4, 5)}, {}, {"starts": [1, -3], "ends": [3, BIG], "axes": [0, 1]}),
    ("Slice", 10, {"x": (4, 5)}, {"s": ints(3), "e": ints(-BIG), "a": ints(1), "t": ints(-2)}, {}),
    ("Slice", 13, {"x": (4, 5)}, {"s": ints(1, 0), "e": ints(4, 5)}, {}),
    ("Softmax", 11, {"x": (2, 3, 4)}, {}, {"axis": 1}),
    ("Softmax", 9, {"x": (2, 3, 4)}, {}, {}),
    ("Softmax", 13, {"x": (2, 3, 4)}, {}, {"axis": 1}),
    ("Softmax", 13, {"x": (2, 3)}, {}, {}),
    ("Softplus", 7, {"x": (9,)}, {}, {}),
    ("SpaceToDepth", 13, {"x": (1, 2, 4, 6)}, {}, {"blocksize": 2}),
    ("Squeeze", 11, {"x": (1, 3, 1)}, {}, {"axes": [0]}),
    ("Squeeze", 13, {"x": (1, 3, 1)}, {"a": ints(-1)}, {}),
    ("Sub", 7, {"x": (2, 3), "z": (1, 3)}, {}, {}),
    ("Sum", 8, {"x": (2, 3), "z": (3,)}, {"w": floats(2, 1)}, {}),
    ("Tanh", 7, {"x": (9,)}, {}, {}),
    ("Tile", 13, {"x": (2, 3)}, {"r": ints(2, 1)}, {}),
    ("Transpose", 7, {"x": (2, 3, 4)}, {}, {"perm": [2, 0, 1]}),
    ("Transpose", 13, {"x": (2, 3)}, {}, {}),
    ("Unsqueeze", 11, {"x": (3,)}, {}, {"axes": [0, 2]}),
    ("Unsqueeze", 13, {"x": (3,)}, {"a": ints(-1)}, {}),
    ("Upsample", 9, {"x": (1, 2, 3, 2)}, {"s": np.array([1, 1, 2, 3], np.float32)}, {"mode": "nearest"}),
    ("Upsample", 7, {"x": (1, 2, 3, 2)}, {}, {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 3.0]}),
    *COMPOSITIONS,
]
POSITIVE = [  # operators whose domain is x > 0
    ("Div", 13, {"x": (2, 3), "z": (2, 1)}, {}, {}),
    ("Div", 13, {"z": (2, 3)}, {"w": floats(3)}, {}),
    ("Log", 13, {"x": (9,)}, {}, {}),
    ("Pow", 13, {"x": (5,)}, {"e": np.float32(0.5)}, {}),
    ("Pow", 13, {"x": (2, 4)}, {"e": np.float32([[0.5], [0], [-1], [1.5]]).reshape(4, 1, 1)}, {}),
    ("Pow", 13, {"x": (5,)}, {"e": np.float32(-1)}, {}),
    ("Pow", 13, {"x": (5,)}, {"e": np.float32(-2)}, {}),
    ("Pow", 13, {"x": (5,)}, {"e": np.float32(1.5)}, {}),
    ("Reciprocal", 13, {"x": (9,)}, {}, {}),
    ("Sqrt", 13, {"x": (9,)}, {}, {}),
]
SMALL = [(kind, opset, {"x": (9,)}, {}, {}) for kind in ("Acos", "Asin", "Tan", "Atanh") for opset in (9, 22)]
LARGE = [("Acosh", 9, {"x": (9,)}, {}, {}), ("Acosh", 22, {"x": (3, 3)}, {}, {})]


LOGIC = {"And", "CastLike", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor"}  # test_logic.py


def name_of(case: Any) -> str:
    return f"{case[0]}-{case[1]}-{'-'.join(map(str, case[4])) or 'plain'}"


def run(case: Any, low: float, high: float) -> None:
    kind, opset, inputs, weights, attributes = case
    operands = [*inputs, *weights]
    if kind == "Div" and "w" in weights and "z" in inputs:
        operands = ["w", "z"]  # a constant divided by a variable
    step = node(kind, operands, ["raw"], **attributes)
    integer = kind in ("Shape", "Size")
    tail = [node("Cast", ["raw"], ["f"], to=1), node("Add", ["f", "x"], ["y"])] if integer else [node("Identity", ["raw"], ["y"])]
    if integer:
        weights = {}
        inputs = {"x": (2,)} if kind == "Shape" else inputs
        step = node(kind, ["x"], ["raw"], **attributes)
    if kind == "Shape":
        tail = [node("Cast", ["raw"], ["f"], to=1), node("Add", ["f", "x"], ["y"])]
    loaded = load(model([step, *tail], inputs, weights=weights, opset=opset))
    points = [{n: floats(*s, seed=k + i, low=low, high=high) for i, (n, s) in enumerate(inputs.items())} for k in range(3)]
    found = compare(loaded, points)
    assert found.compared > 0 and found.skipped == 0


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_operator_agrees_with_onnxruntime(case: Any) -> None:
    run(case, -2.0, 2.0)


@pytest.mark.parametrize("case", POSITIVE, ids=name_of)
def test_operator_on_positive_numbers_agrees_with_onnxruntime(case: Any) -> None:
    run(case, 0.25, 3.0)


@pytest.mark.parametrize("case", SMALL, ids=name_of)
def test_operator_between_minus_one_and_one_agrees_with_onnxruntime(case: Any) -> None:
    run(case, -0.95, 0.95)


@pytest.mark.parametrize("case", LARGE, ids=name_of)
def test_operator_above_one_agrees_with_onnxruntime(case: Any) -> None:
    run(case, 1.25, 30.0)


def test_every_registered_operator_has_a_case() -> None:
    tested = {case[0] for case in [*CASES, *POSITIVE, *SMALL, *LARGE]} | {"Split", "Swish", "Where"} | LOGIC | COVERED | CONTROL
    assert {name for _, name in LOWERINGS} == tested


@pytest.mark.parametrize(
    ("opset", "weights", "attributes"),
    [
        (11, {}, {"split": [1, 2, 3], "axis": 1}),
        (13, {"s": ints(1, 2, 3)}, {"axis": -1}),
        (11, {}, {"axis": 1}),
        (18, {}, {"axis": 1, "num_outputs": 3}),
    ],
)
def test_split(opset: int, weights: Weights, attributes: dict[str, Any]) -> None:
    nodes = [node("Split", ["x", *weights], ["p", "q", "r"], **attributes), node("Concat", ["r", "p"], ["y"], axis=1)]
    compare(load(model(nodes, {"x": (2, 6)}, ["y", "q"], weights, opset)), [[floats(2, 6)]])


@pytest.mark.parametrize("alpha", [1.0, -0.7, 1.702])
def test_swish(alpha: float) -> None:
    """onnxruntime has no kernel of it yet."""
    graph = load(model([node("Swish", ["x"], alpha=alpha)], {"x": (9,)}, opset=24)).graph
    x = np.linspace(-5, 5, 9)
    np.testing.assert_allclose(evaluate(graph, [x])[graph.outputs[0]][0], x / (1 + np.exp(-alpha * np.float32(1) * x)), rtol=1e-6)


def test_where_with_a_constant_condition() -> None:
    weights = {"c": np.array([[True, False, True]]), "w": floats(2, 3)}
    nodes = [node("Where", ["c", "x", "w"], ["h"]), node("Where", ["c", "h", "z"], ["y"])]
    compare(load(model(nodes, {"x": (2, 3), "z": (1, 3)}, weights=weights)), [[floats(2, 3), floats(1, 3, seed=1)]])


def test_shape_arithmetic_and_float_constants_fold_away() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"], axis=0),
        node("Unsqueeze", ["n", "zero1"], ["n1"]),
        node("Concat", ["n1", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["flat"]),
        node("ConstantOfShape", ["two"], ["ones"], value=__import__("onnx").helper.make_tensor("v", 7, [1], [1])),
        node("Mul", ["ones", "minus"], ["neg"]),
        node("Equal", ["rest2", "neg"], ["same"]),
        node("Where", ["same", "ones", "rest2"], ["expanded"]),
        node("Expand", ["w", "expanded"], ["big"]),
        node("Exp", ["big"], ["e"]),
        node("Add", ["flat", "e"], ["y"]),
    ]
    weights = {"zero": np.int64(0), "zero1": ints(0), "rest": ints(-1), "two": ints(2), "minus": np.int64(-1), "rest2": ints(1, -1), "w": floats(12)}
    loaded = load(model(nodes, {"x": ("batch", 3, 4)}, weights=weights))
    assert [type(n).__name__ for n in loaded.graph.nodes] == ["Input", "Affine"]
    assert "batch" in loaded.notes[0] and loaded.inputs[0].shape == (1, 3, 4)
    compare(loaded, [[floats(1, 3, 4)]])


def test_square_is_one_univariate_node() -> None:
    graph = load(model([node("Mul", ["x", "x"])], {"x": (3,)})).graph
    assert isinstance(graph.nodes[1], Elementwise) and graph.nodes[1].function.name == "pow" and len(graph.nodes) == 2


def test_core_node_types() -> None:
    kinds = {"Add": Affine, "Mul": Bilinear, "MatMul": Bilinear, "Max": Max}
    for kind, expected in kinds.items():
        assert isinstance(load(model([node(kind, ["x", "z"])], {"x": (2, 2), "z": (2, 2)})).graph.nodes[-1], expected)


def test_float64_model() -> None:
    weights = {"w": np.random.default_rng(0).normal(size=(3, 4))}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Sigmoid", ["h"], ["s"]), node("Add", ["s", "s"])]
    loaded = load(model(nodes, {"x": (1, 3)}, weights=weights, element_type=11))
    assert loaded.inputs[0].element_type == "float64"
    compare(loaded, [[np.random.default_rng(1).normal(size=(1, 3))]])


REFUSED: list[tuple[str, int, dict[str, tuple[int, ...]], Weights, dict[str, Any], str]] = [
    ("Resize", 13, {"x": (1, 1, 2, 2)}, {"r": floats(0), "s": np.array([1, 1, 2, 2], np.float32)}, {"mode": "area"}, "area"),
    ("ConvTranspose", 11, {"x": (1, 1, 3)}, {"w": floats(1, 1, 2)}, {"output_shape": [3]}, "several ways"),
    ("ConvTranspose", 7, {"x": (1, 1, 3)}, {"w": floats(1, 1, 4)}, {"auto_pad": "SAME_UPPER"}, "several ways"),
    ("ConvTranspose", 11, {"x": (1, 1, 3)}, {"w": floats(1, 1, 2)}, {"output_shape": [4, 4]}, "output_shape"),
    ("Dropout", 13, {"x": (2,)}, {"r": np.float32(0.3), "t": np.bool_(True)}, {}, "training"),
    ("Dropout", 13, {"x": (2,), "r": ()}, {"t": np.bool_(True)}, {}, "training"),
    ("Mod", 13, {"x": (2,), "z": (2,)}, {}, {"fmod": 1}, "depends on"),
    ("Pow", 13, {"x": (300,)}, {"e": floats(300)}, {}, "exponents"),
    ("Pow", 13, {"x": (2,), "z": (2,)}, {}, {}, "depends on"),
    ("Gather", 13, {"x": (2, 3)}, {"i": ints(0)}, {"nonsense": 1}, "nonsense"),
    ("Cast", 13, {"x": (2,)}, {}, {"to": 10}, "casting"),
    ("BatchNormalization", 7, {"x": (1, 2)}, dict.fromkeys("sbmv", floats(2, low=0.1)), {"spatial": 0}, "spatial"),
    ("Conv", 11, {"x": (1, 1, 3), "z": (1, 1, 2)}, {}, {}, "depends on"),
    ("Upsample", 10, {"x": (1, 1, 2, 2)}, {"s": np.array([1, 1, 2, 2], np.float32)}, {"mode": "nearest"}, "deprecated"),
    ("Det", 13, {"x": (2, 2)}, {}, {}, "Supported are"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda c: f"{c[0]}-{c[5]}")
def test_unsupported_forms_are_refused_by_name(case: Any) -> None:
    kind, opset, inputs, weights, attributes, words = case
    with pytest.raises(UnsupportedOperator) as error:
        load(model([node(kind, [*inputs, *weights], **attributes)], inputs, weights=weights, opset=opset))
    assert words in str(error.value) and f"the_{kind}" in str(error.value) and str(opset) in str(error.value)


def test_batch_normalization_in_training_has_the_statistics_of_the_batch() -> None:
    weights = {"s": floats(3), "b": floats(3, seed=1), "m": floats(3, seed=2), "v": floats(3, low=0.1)}
    step = node("BatchNormalization", ["x", *weights], ["y", "mean", "var"], training_mode=1, momentum=0.75)
    loaded = load(model([step], {"x": (2, 3, 4)}, ["y", "mean", "var"], weights=weights, opset=15))
    assert compare(loaded, [{"x": floats(2, 3, 4, seed=k)} for k in range(3)]).compared > 0


def test_a_constant_base_to_an_exponent_that_varies() -> None:
    loaded = load(model([node("Pow", ["c", "x"])], {"x": (2, 3)}, weights={"c": np.float32([0.5, 1, 3])}, opset=13))
    assert compare(loaded, [{"x": floats(2, 3, seed=k)} for k in range(3)]).compared > 0
    with pytest.raises(UnsupportedOperator, match="not above 0"):
        load(model([node("Pow", ["c", "x"])], {"x": (2, 3)}, weights={"c": np.float32([0.5, -1, 3])}, opset=13))


def test_the_tangent_has_all_of_its_branches() -> None:
    loaded = load(model([node("Tan", ["x"])], {"x": (9,)}, opset=7))
    assert compare(loaded, [{"x": floats(9, seed=k, low=-12, high=12)} for k in range(3)]).compared > 0


@pytest.mark.parametrize("exponent", [np.int32(-3), np.float32(0.5)])
def test_a_power_of_integers_that_would_be_cut_off_is_refused(exponent: Any) -> None:
    """4^-3 is 0 as an integer, and had bounds around 1/64."""
    steps = [node("Cast", ["x"], ["i"], to=6), node("Pow", ["i", "n"], ["r"]), node("Cast", ["r"], ["y"], to=1)]
    with pytest.raises(UnsupportedOperator, match="behind the point"):
        load(model(steps, {"x": (3,)}, weights={"n": exponent}, opset=13))


def test_remainders_of_integers_are_exact_at_multiples() -> None:
    steps = [node("Cast", ["x"], ["i"], to=7), node("Mod", ["i", "n"], ["r"]), node("Cast", ["r"], ["y"], to=1)]
    for divisor in (3, -7):
        graph = load(model(steps, {"x": (31,)}, weights={"n": ints(divisor)}, opset=13)).graph
        x = np.arange(-15, 16, dtype=np.float32)
        assert np.array_equal(evaluate(graph, [x])[graph.outputs[0]].reshape(-1), np.mod(x.astype(np.int64), divisor))


def test_weights_in_half_precision_behind_a_cast() -> None:
    weight = floats(3, 2).astype(np.float16)
    for packed in (weight, onnx.helper.make_tensor("w", 10, weight.shape, weight.reshape(-1).view(np.uint16).tolist(), raw=False)):
        proto = onnx.ModelProto.FromString(model([node("Cast", ["w"], ["f"], to=1), node("MatMul", ["x", "f"])], {"x": (1, 3)}, opset=13))
        proto.graph.initializer.append(packed if isinstance(packed, onnx.TensorProto) else onnx.numpy_helper.from_array(packed, "w"))
        loaded = load(proto.SerializeToString())
        assert compare(loaded, [{"x": floats(1, 3, seed=k)} for k in range(3)]).compared > 0


@pytest.mark.parametrize(("kind", "opset"), [("CumSum", 13), ("CumProd", 26)])
def test_running_sums_and_products_keep_their_shape(kind: str, opset: int) -> None:
    """As what reads them sees it: a flat result broadcasts in another way."""
    nodes, weights = [node(kind, ["x", "axis"], ["r"]), node("Mul", ["r", "w"])], {"axis": ints(0), "w": floats(2, 1)}
    loaded = load(model(nodes, {"x": (2, 3)}, weights=weights, opset=opset))
    assert loaded.outputs[0].shape == (2, 3)
    x = floats(2, 3, seed=4)
    wanted = (np.cumsum if kind == "CumSum" else np.cumprod)(x.astype(np.float64), axis=0) * floats(2, 1)
    assert np.allclose(evaluate(loaded.graph, [x])[loaded.graph.outputs[0]].reshape(2, 3), wanted, rtol=1e-12)
