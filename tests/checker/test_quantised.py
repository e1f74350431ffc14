"""Quantised operators and doubles, as the checker reads them: against onnxruntime, with the sites of the engine, and in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph.load import load
from tests.checker.test_lowering import agrees, check_roundings, check_sites, engine_sites, onnxruntime_says
from tests.graph.graph_models import floats, model, node
from verifier.checker import read_model
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack

S, Z, B = np.float32, np.uint8, np.int8
GIVEN, OUT = {"xs": S(0.02), "xz": Z(120)}, {"ys": S(0.07), "yz": Z(100)}
MATRIX = np.random.default_rng(0).integers(-100, 100, (3, 4)).astype(B)
KERNEL = np.random.default_rng(1).integers(-100, 100, (2, 2, 2, 2)).astype(B)
IMAGE = (1, 2, 4, 4)
CONV = {**GIVEN, "w": KERNEL, "ws": S([0.01, 0.02]), "wz": B([0, 0]), **OUT, "b": np.int32([100, -50])}
MATMUL = {**GIVEN, "w": MATRIX, "ws": S([0.01, 0.02, 0.01, 0.03]), "wz": B([0, 0, 0, 0]), **OUT}
CASES: list[tuple[str, tuple[int, ...], dict[str, Any], dict[str, Any], int]] = [  # of a quantised x, and how many sites there are
    ("DequantizeLinear", (2, 3), GIVEN, {}, 2),
    ("ConvInteger", IMAGE, {"w": KERNEL.view(Z), "xz": Z(120), "wz": Z(90)}, {"pads": [1, 0, 0, 1]}, 2),
    ("MatMulInteger", (2, 3), {"w": MATRIX, "xz": Z(120), "wz": B(3)}, {}, 2),
    ("QLinearConv", IMAGE, CONV, {"pads": [1] * 4}, 4),
    ("QLinearMatMul", (2, 3), MATMUL, {}, 4),
]


@pytest.mark.parametrize(("kind", "shape", "weights", "attributes", "sites"), CASES)
def test_operators(kind: str, shape: tuple[int, ...], weights: dict[str, Any], attributes: dict[str, Any], sites: int) -> None:
    first = {"first_s": weights.get("xs", S(0.02)), "first_z": weights.get("xz", Z(128))}
    steps = [node("QuantizeLinear", ["x", *first], ["q"]), node(kind, ["q", *weights], ["raw"], **attributes), node("Cast", ["raw"], ["y"], to=1)]
    data = model(steps, {"x": shape}, weights={**weights, **first})
    network, given = read_model.read(data), {"x": floats(*shape)}
    assert agrees(network, [given["x"]], onnxruntime_says(data, given))
    check_roundings(network)
    assert check_sites(engine_sites(data), network) == sites


@pytest.mark.parametrize(
    ("opset", "constants", "attributes", "sites"),
    [
        (10, {"s": S(0.01), "z": Z(30)}, {}, 2),
        (13, {"s": S(0.03)}, {}, 2),
        (13, {"s": S([0.01, 0.02, 0.05]), "z": B([1, 0, -3])}, {"axis": 1}, 3),
        (21, {"s": S([[0.01, 0.02, 0.03]]), "z": B([[0, 1, 2]])}, {"axis": 0, "block_size": 2}, 3),
        (21, {"s": S(0.001), "z": np.int16(-7)}, {}, 2),
    ],
)
def test_quantising_and_back(opset: int, constants: dict[str, Any], attributes: dict[str, Any], sites: int) -> None:
    """In float32 too: every stage has a rule."""
    steps = [node("QuantizeLinear", ["x", *constants], ["q"], **attributes), node("DequantizeLinear", ["q", *constants], ["y"], **attributes)]
    data, given = model(steps, {"x": (2, 3)}, weights=constants, opset=opset), {"x": floats(2, 3)}
    network = read_model.read(data)
    assert agrees(network, [given["x"]], onnxruntime_says(data, given))
    check_roundings(network)
    assert check_sites(engine_sites(data), network) == sites
    kinds = {n.rounding.kind for n in network.nodes if n.rounding is not None}
    assert kinds == {"affine", "exact"} and len(Slack(network).operators) >= 3


def test_whole_numbers_do_not_pass_for_floats() -> None:
    steps = [node("QuantizeLinear", ["x", "s"], ["q"]), node("Div", ["q", "two"], ["h"]), node("Cast", ["h"], ["y"], to=1)]
    with pytest.raises(Rejected, match="of uint8"):
        read_model.read(model(steps, {"x": (2, 3)}, weights={"s": S(0.1), "two": Z(2)}))
    beyond = helper.make_tensor("z", TensorProto.UINT8, [], [3])
    beyond.int32_data[0] = 300
    proto = helper.make_model(
        helper.make_graph(
            [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["y"])],
            "test",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
            [numpy_helper.from_array(S(0.1), "s"), beyond],
        ),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    with pytest.raises(Rejected, match="beyond its type"):
        read_model.read(proto.SerializeToString())


def test_doubles_are_read_over_the_reals_only() -> None:
    """A network that computes in float64 has no rule in float32."""
    data = model(
        [node("Gemm", ["x", "w"], ["h"]), node("Relu", ["h"])], {"x": (1, 3)}, weights={"w": floats(3, 2).astype(np.float64)}, element_type=11
    )
    network, x = read_model.read(data), np.array([[0.25, -1.5, 2.0]])
    assert agrees(network, [x], onnxruntime_says(data, {"x": x}))
    assert {n.rounding.kind for n in network.nodes if n.rounding is not None} == {"refused"}
    assert load(data).inputs[0].element_type == "float64"
