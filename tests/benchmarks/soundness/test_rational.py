"""The suite's own evaluation against onnx.reference on single operators, and against the exact reader of benchmarks/exact on whole networks."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from benchmarks.exact import network
from benchmarks.exact.instances import seeded
from benchmarks.soundness.property import Atom, Property, decimal
from benchmarks.soundness.rational import bound, enclose, exact, margin
from benchmarks.soundness.rule import UnknownOperator

R = np.random.default_rng(7)


def f(*shape: int) -> np.ndarray:
    return R.integers(-32, 33, shape).astype(np.float32) / 16


def model(
    operator: str, shape: tuple[int, ...], constants: list[np.ndarray], attributes: dict[str, Any], opset: int, outputs: int = 1
) -> onnx.ModelProto:
    names = [f"c{i}" if c.size else "" for i, c in enumerate(constants)]
    node = helper.make_node(operator, ["x", *names], [f"y{i}" for i in range(outputs)], **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, None) for i in range(outputs)],
        [numpy_helper.from_array(c, n) for n, c in zip(names, constants, strict=True) if n],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


I64, NONE = np.int64, np.zeros(0, dtype=np.float32)
IMAGE, ROW = (1, 4, 6, 5), (1, 12)
EXACT: list[tuple[str, tuple[int, ...], list[np.ndarray], dict[str, Any], int]] = [
    ("Add", IMAGE, [f(4, 1, 1)], {}, 13), ("Sub", ROW, [f(1, 12)], {}, 13), ("Mul", ROW, [f(12)], {}, 13), ("Div", ROW, [2 + abs(f(12))], {}, 13),
    ("Neg", ROW, [], {}, 13), ("Sum", ROW, [f(12), f(1, 12)], {}, 13), ("MatMul", (2, 3, 4), [f(4, 5)], {}, 13),
    ("Gemm", (3, 4), [f(3, 5), f(5)], {"transA": 1, "alpha": 0.5, "beta": 2.0}, 13), ("Gemm", (3, 4), [f(5, 4)], {"transB": 1}, 13),
    ("Conv", IMAGE, [f(6, 4, 3, 2), f(6)], {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}, 13),
    ("Conv", IMAGE, [f(4, 2, 3, 3)], {"group": 2, "auto_pad": "SAME_UPPER", "strides": [2, 2]}, 13),
    ("Conv", IMAGE, [f(4, 1, 2, 2), f(4)], {"group": 4, "auto_pad": "SAME_LOWER"}, 13),
    ("Conv", (1, 3, 9), [f(2, 3, 3)], {"dilations": [2], "auto_pad": "VALID"}, 13),
    ("ConvTranspose", (1, 2, 3, 4), [f(2, 3, 3, 2), f(3)], {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 0]}, 13),
    ("ConvTranspose", (1, 4, 3, 3), [f(4, 1, 2, 2)], {"group": 2, "dilations": [2, 1]}, 13),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "strides": [2, 2]}, 13),
    ("AveragePool", IMAGE, [], {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0], "count_include_pad": 1}, 13),
    ("AveragePool", IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, 19),
    ("MaxPool", IMAGE, [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}, 12),
    ("MaxPool", IMAGE, [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "dilations": [2, 1]}, 12),
    ("GlobalAveragePool", IMAGE, [], {}, 13), ("GlobalMaxPool", IMAGE, [], {}, 13),
    ("ReduceSum", IMAGE, [np.array([1, -1])], {"keepdims": 0}, 13), ("ReduceMean", IMAGE, [], {"axes": [2, 3]}, 13),
    ("ReduceMax", IMAGE, [], {"axes": [1]}, 13), ("ReduceMin", IMAGE, [np.array([-1])], {"keepdims": 0}, 18),
    ("Relu", ROW, [], {}, 13), ("LeakyRelu", ROW, [], {"alpha": 0.25}, 13), ("PRelu", IMAGE, [f(4, 1, 1)], {}, 13), ("Abs", ROW, [], {}, 13),
    ("Sign", ROW, [], {}, 13), ("Clip", ROW, [np.float32(-0.5).reshape(()), np.float32(0.75).reshape(())], {}, 13),
    ("Clip", ROW, [NONE, np.float32(0.5).reshape(())], {}, 13), ("Clip", ROW, [], {"min": -0.25, "max": 1.0}, 6),
    ("Max", IMAGE, [f(4, 1, 1), f(1)], {}, 13), ("Min", ROW, [f(12)], {}, 13), ("HardSigmoid", ROW, [], {"alpha": 0.5, "beta": 0.25}, 13),
    ("HardSwish", ROW, [], {}, 14), ("Floor", ROW, [], {}, 13), ("Ceil", ROW, [], {}, 13), ("Round", ROW, [], {}, 13),
    ("Pow", ROW, [np.float32(3).reshape(())], {}, 13), ("Reshape", IMAGE, [np.array([0, -1, 5])], {}, 13), ("Flatten", IMAGE, [], {"axis": 2}, 13),
    ("Transpose", IMAGE, [], {"perm": [0, 2, 3, 1]}, 13), ("Squeeze", ROW, [np.array([0])], {}, 13), ("Unsqueeze", ROW, [], {"axes": [0, 3]}, 11),
    ("Concat", ROW, [f(2, 12)], {"axis": 0}, 13),
    ("Slice", IMAGE, [np.array([-1, 1]), np.array([-100, 4]), np.array([3, 1]), np.array([-2, 1])], {}, 13),
    ("Gather", IMAGE, [np.array([[2, -1], [0, 2]])], {"axis": 1}, 13), ("Expand", ROW, [np.array([2, 3, 1])], {}, 13),
    ("Tile", ROW, [np.array([2, 2])], {}, 13), ("Pad", IMAGE, [np.array([0, 0, 1, 2, 0, 0, 0, 1]), np.float32(1.5).reshape(())], {}, 13),
    ("Pad", IMAGE, [np.array([0, 0, 1, 2, 0, 0, 0, 1])], {"mode": "reflect"}, 13),
    ("Pad", IMAGE, [np.array([0, 0, 1, 2, 0, 0, 0, 1])], {"mode": "edge"}, 13),
    ("DepthToSpace", (1, 8, 2, 3), [], {"blocksize": 2, "mode": "CRD"}, 13), ("SpaceToDepth", (1, 2, 4, 6), [], {"blocksize": 2}, 13),
    ("Identity", ROW, [], {}, 13), ("Cast", ROW, [], {"to": TensorProto.FLOAT}, 13),
]  # fmt: skip
SMOOTH: list[tuple[str, tuple[int, ...], list[np.ndarray], dict[str, Any], int]] = [
    *((name, ROW, [], {}, 13) for name in ("Exp", "Sigmoid", "Tanh", "Erf", "Softplus", "Elu")),
    ("Softmax", IMAGE, [], {"axis": 1}, 13), ("Softmax", IMAGE, [], {}, 11), ("Gelu", ROW, [], {}, 20),
    ("BatchNormalization", IMAGE, [f(4), f(4), f(4), 1 + abs(f(4))], {"epsilon": 0.01}, 15),
    ("LayerNormalization", (2, 3, 8), [f(8), f(8)], {"epsilon": 0.01}, 17), ("Reciprocal", (1, 1), [], {}, 13),
]  # fmt: skip


def oracle(net: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """onnx.reference; onnxruntime where that is wrong (1.18: Softmax before opset 13, ConvTranspose with groups)."""
    kind = net.graph.node[0].op_type
    if kind == "ConvTranspose" or (kind == "Softmax" and net.opset_import[0].version < 13):
        return onnxruntime.InferenceSession(net.SerializeToString()).run(None, {"x": x})[0].astype(np.float64).reshape(-1)
    return np.asarray(ReferenceEvaluator(net).run(None, {"x": x})[0], dtype=np.float64).reshape(-1)


@pytest.mark.parametrize(("operator", "shape", "constants", "attributes", "opset"), EXACT)
def test_an_operator_is_exact(operator: str, shape: tuple[int, ...], constants: list[np.ndarray], attributes: dict[str, Any], opset: int) -> None:
    """Inputs and weights are multiples of 1/16, so that the reference's floats are right to the last bit wherever nothing is divided."""
    net, x = model(operator, shape, constants, attributes, opset), f(*shape)
    expected = oracle(net, x)
    found = exact(net, [Fraction(float(v)) for v in x.reshape(-1)])
    assert np.array([float(v) for v in found]) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    if operator not in ("Div", "AveragePool", "GlobalAveragePool", "ReduceMean", "HardSwish"):
        assert [float(v) for v in found] == expected.tolist()


@pytest.mark.parametrize(("operator", "shape", "constants", "attributes", "opset"), SMOOTH)
def test_an_operator_is_enclosed(operator: str, shape: tuple[int, ...], constants: list[np.ndarray], attributes: dict[str, Any], opset: int) -> None:
    net, x = model(operator, shape, constants, attributes, opset), f(*shape) + np.float32(1 / 3)
    expected = oracle(net, x)
    found = enclose(net, [Fraction(float(v)) for v in x.reshape(-1)])
    assert all(0 <= b - a <= max(abs(a), abs(b)) / 2**150 for a, b in found)
    assert np.array([float(a) for a, _ in found]) == pytest.approx(expected, rel=2e-5, abs=2e-6)


def test_split_gives_every_part() -> None:
    net, x = model("Split", ROW, [np.array([5, 4, 3])], {"axis": 1}, 13, outputs=3), f(*ROW)
    assert exact(net, [Fraction(float(v)) for v in x.reshape(-1)]) == [Fraction(float(v)) for v in x.reshape(-1)]


@pytest.mark.parametrize("number", range(25))
def test_whole_networks_agree_with_the_exact_reader(number: int) -> None:
    instance = seeded(11, number)
    net = network.parse(instance.model)
    point = [Fraction(int(k), 7) for k in R.integers(-7, 8, net.size)]  # not floats
    assert exact(onnx.load_model_from_string(instance.model), point) == net.evaluate(point)


def test_enclosures_pass_through_later_operators() -> None:
    """x - x behind a smooth function is 0, and the enclosure says so within its width."""
    nodes = [helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("Sub", ["t", "t"], ["d"]), helper.make_node("Relu", ["d"], ["y"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    net = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 13)])
    assert all(a == 0 <= b < Fraction(1, 2**240) for a, b in enclose(net, [Fraction(1, 3), Fraction(-2)]))


def test_what_is_not_known_is_an_error() -> None:
    with pytest.raises(UnknownOperator, match="Hardmax"):
        enclose(model("Hardmax", ROW, [], {}, 13), [Fraction(0)] * 12)
    with pytest.raises(UnknownOperator, match="'fancy'"):
        enclose(model("Relu", ROW, [], {"fancy": 1}, 13), [Fraction(0)] * 12)
    with pytest.raises(ValueError, match="3 numbers for 12 inputs"):
        enclose(model("Relu", ROW, [], {}, 13), [Fraction(0)] * 3)
    with pytest.raises(ZeroDivisionError):
        enclose(model("Reciprocal", (1, 1), [], {}, 13), [Fraction(0)])


def test_the_margin_of_enclosed_outputs_holds_the_margin_of_each_point() -> None:
    atoms = [Atom((decimal(1.0), decimal(-2.0)), decimal(0.5)), Atom((decimal(0.0), decimal(1.0)), decimal(1.0))]
    prop = Property((decimal(0),), (decimal(1),), ((atoms[0],), (atoms[1], atoms[0])))
    lower, upper = margin(prop, [(Fraction(1), Fraction(2)), (Fraction(-1), Fraction(1))])
    corners = [prop.margin([Fraction(a), Fraction(b)]) for a in (1, 2) for b in (-1, 1)]
    assert lower <= min(corners) and max(corners) <= upper and (lower, upper) == (Fraction(-7, 2), Fraction(3, 2))


@pytest.mark.parametrize("row", [row for row in (*EXACT, *SMOOTH) if row[0] != "Reciprocal"], ids=lambda row: row[0])
def test_a_box_encloses_its_points(row: tuple[str, tuple[int, ...], list[np.ndarray], dict[str, Any], int]) -> None:
    net, x = model(*row), f(*row[1]).reshape(-1)
    point = [Fraction(float(v)) for v in x]
    box = bound(net, [(v - Fraction(k % 3, 8), v + Fraction(k % 2, 16)) for k, v in enumerate(point)])
    assert all(low <= a and b <= high for (low, high), (a, b) in zip(box, enclose(net, point), strict=True))


def test_a_square_is_not_negative() -> None:
    assert bound(model("Pow", (1, 1), [np.float32(2).reshape(())], {}, 13), [(Fraction(-1), Fraction(2))]) == [(0, 4)]
