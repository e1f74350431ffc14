"""Quantised operators and doubles, as the checker reads them: against onnxruntime, with the sites of the engine, and in float32."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph.load import load
from tests.checker.test_lowering import agrees, check_roundings, check_sites, engine_sites, onnxruntime_says
from tests.graph.graph_models import floats, model, node
from verifier.checker import read_model
from verifier.checker.network import Affine, Constant, Network, Rounding
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
    ("MaxPool", IMAGE, {}, {"kernel_shape": [2, 2], "pads": [1] * 4}, 4),
    ("Pad", IMAGE, {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "v": Z(120)}, {}, 2),
    ("Resize", IMAGE, {"roi": S([]), "by": S([1, 1, 2, 2])}, {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"}, 2),
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


@pytest.mark.parametrize(("kind", "shape"), [("MatMulInteger", (2, 3)), ("ConvInteger", IMAGE)])
def test_a_zero_point_that_depends_on_the_input(kind: str, shape: tuple[int, ...]) -> None:
    """As onnxruntime's dynamic quantiser writes it."""
    weights = {"w": MATRIX if kind == "MatMulInteger" else KERNEL.view(Z), "wz": B(3) if kind == "MatMulInteger" else Z(90)}
    steps = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node(kind, ["q", "w", "z", "wz"], ["raw"]),
        node("Cast", ["raw"], ["h"], to=1), node("Mul", ["h", "s"], ["y"]),
    ]  # fmt: skip
    data = model(steps, {"x": shape}, weights=weights)
    network, given = read_model.read(data), {"x": floats(*shape)}
    assert agrees(network, [given["x"]], onnxruntime_says(data, given))
    check_roundings(network)
    assert check_sites(engine_sites(data), network) > 4


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


# Weights that operators make of constants


def folded(nodes: list[Any], shape: tuple[int, ...], weights: dict[str, Any], opset: int = 21) -> Network:
    """The network, which agrees with onnxruntime and with the engine's sites."""
    data, given = model(nodes, {"x": shape}, weights=weights, opset=opset), {"x": floats(*shape)}
    network = read_model.read(data)
    assert agrees(network, [given["x"]], onnxruntime_says(data, given))
    check_roundings(network)
    check_sites(engine_sites(data), network)
    return network


def affine(network: Network) -> tuple[Affine, Rounding]:
    """The last node."""
    node = network.nodes[network.outputs[0]]
    assert isinstance(node, Affine) and node.rounding is not None
    return node, node.rounding


STEPS = {"s": S([0.03, 0.0107]), "z": B([3, -5])}


@pytest.mark.parametrize("bias", ["s32", "float", "large"])
def test_a_convolution_of_restored_weights(bias: str) -> None:
    """Per channel: the map holds (q - z) s, exactly; float32 rounds each product once more than it would."""
    whole = np.int32([100, -50]) if bias == "s32" else np.int32([2**30 + 1, -7])
    weights = {"w": KERNEL, **STEPS, "b": floats(2) if bias == "float" else whole, "bs": S([1e-8, 3e-3]), "bz": np.int32([0, 0])}
    nodes = [
        node("DequantizeLinear", ["w", "s", "z"], ["kernel"], axis=0),
        *([] if bias == "float" else [node("DequantizeLinear", ["b", "bs", "bz"], ["shift"], axis=0)]),
        node("Conv", ["x", "kernel", "b" if bias == "float" else "shift"], ["y"]),
    ]
    network = folded(nodes, IMAGE, weights)
    found, rounding = affine(network)
    exact = {
        Fraction(int(q) - int(z)) * Fraction(float(s)) for rows, z, s in zip(KERNEL, STEPS["z"], STEPS["s"], strict=True) for q in rows.reshape(-1)
    }
    assert {Fraction(w) for _, _, w in found.maps[0].entries()} == exact - {0}
    assert (rounding.kind, rounding.count) == ("affine", {"s32": 8 + 1 + 2, "float": 8 + 1 + 1, "large": 8 + 1 + 1}[bias])
    assert len(network.nodes) == (4 if bias == "large" else 2)  # one that float64 does not hold stays a tensor


def test_a_normalisation_with_restored_parameters() -> None:
    names, draw = ("gain", "shift", "mean", "variance"), np.random.default_rng(2)
    weights = {name: draw.integers(1, 100, 2).astype(Z) for name in names} | {"s": S(0.013), "z": Z(0)}
    steps = [node("DequantizeLinear", [name, "s", "z"], [f"{name}_y"]) for name in names]
    network = folded([*steps, node("BatchNormalization", ["x", *(f"{name}_y" for name in names)], ["y"])], IMAGE, weights)
    assert affine(network)[1].count == 8 + 4 and len(network.nodes) == 3
    with pytest.raises(Rejected, match="below 0"):
        folded([*steps, node("BatchNormalization", ["x", *(f"{name}_y" for name in names)], ["y"], epsilon=9.0)], IMAGE, {**weights, "z": Z(101)})


def test_whole_numbers_are_filled_and_resized_as_such() -> None:
    for kind, weights, attributes, why in (
        ("Pad", {"p": np.array([0, 1, 0, 0]), "v": B(3)}, {}, "filling uint8 with int8"),
        ("Resize", {"roi": S([]), "by": S([1, 2])}, {"mode": "linear"}, "whole numbers in mode"),
    ):
        steps = [node("QuantizeLinear", ["x", "s", "z"], ["q"]), node(kind, ["q", *weights], ["h"], **attributes), node("Cast", ["h"], ["y"], to=1)]
        with pytest.raises(Rejected, match=why):
            read_model.read(model(steps, {"x": (2, 3)}, weights={"s": S(0.1), "z": Z(3), **weights}))


@pytest.mark.parametrize("kind", ["Gemm", "MatMul", "Mul", "moved", "LayerNormalization"])
def test_other_operators_of_restored_weights(kind: str) -> None:
    """Also behind what only moves numbers."""
    weights = {"w": MATRIX, "s": S(0.013), "z": B(4), "a": np.array([3]), "r": np.array([4, 3])}
    start = node("DequantizeLinear", ["w", "s", "z"], ["m"])
    if kind == "Gemm":
        found, rounding = affine(folded([start, node("Gemm", ["x", "m"], ["y"], alpha=0.5)], (2, 3), weights))
    elif kind == "MatMul":
        found, rounding = affine(folded([start, node("MatMul", ["x", "m"], ["y"])], (2, 3), weights))
    elif kind == "Mul":
        found, rounding = affine(folded([start, node("Mul", ["m", "x"], ["y"])], (3, 4), weights))
    elif kind == "moved":
        moves = [node("Transpose", ["m"], ["t"]), node("Reshape", ["t", "r"], ["u"]), node("Identity", ["u"], ["v"])]
        found, rounding = affine(folded([start, *moves, node("Gemm", ["x", "v"], ["y"], transB=1)], (2, 3), weights))
    else:
        gain = {"w": B([3, -7, 100]), "s": S(0.013), "z": B(4)}
        found, rounding = affine(folded([start, node("LayerNormalization", ["x", "m"], ["y"])], (2, 3), gain))
    assert len(found.maps) == 1
    assert rounding.count == {"Gemm": 3 + 1 + 1, "MatMul": 3 + 1, "Mul": 1 + 1, "moved": 3 + 1, "LayerNormalization": 1}[kind]


def test_restored_weights_where_no_rule_folds_them() -> None:
    """Nodes then, which float32 rounds; as the output, too."""
    weights = {"w": MATRIX, "s": S(0.013), "z": B(4)}
    start = node("DequantizeLinear", ["w", "s", "z"], ["m"])
    network = folded([start, node("Add", ["x", "m"], ["h"]), node("Max", ["h", "m"], ["y"])], (3, 4), weights)
    assert sum(isinstance(n, Constant) for n in network.nodes) == 2
    data = model([start, node("Relu", ["x"], ["h"])], {"x": (2,)}, ["m", "h"], weights=weights, opset=13)
    assert agrees(read_model.read(data), [floats(2)], onnxruntime_says(data, {"x": floats(2)}))


def test_float32_stays_within_its_slack() -> None:
    """The bound of what float32 adds holds for a runtime that restores weights in float32 and multiplies then, as onnxruntime does here, but not
    always: by default there is no rule (test_rewritten.py)."""
    weights = {"w": MATRIX, "s": S(0.013), "z": B(4)}
    data = model([node("DequantizeLinear", ["w", "s", "z"], ["m"]), node("MatMul", ["x", "m"], ["y"])], {"x": (5, 3)}, weights=weights, opset=13)
    network = replace(read_model.read(data), rewritten="")
    exact = (MATRIX.astype(np.float64) - 4) * float(S(0.013))
    for seed in range(20):
        x = floats(5, 3, seed=seed)
        big = np.abs(x.astype(np.float64)).reshape(1, -1)
        run = Slack(network).start(1)
        run.step(0, -big, big)
        top = np.abs(x.astype(np.float64)) @ np.abs(exact)
        slack = run.step(1, -top.reshape(1, -1), top.reshape(1, -1)).reshape(5, 4)
        there = onnxruntime_says(data, {"x": x})[0].astype(np.float64)
        assert (np.abs(there - x.astype(np.float64) @ exact) <= slack).all()
        assert (slack <= 1e-5).all()


def test_weights_quantised_in_the_file() -> None:
    """As training with simulated quantisation exports them: floats, quantised and restored. Ties go to even, over the reals."""
    numbers = S([[0.5, 1.5, 2.5, -0.5], [0.26, 40.0, -40.0, 0.0], [1.49, -1.51, 3.0, 7.2]])
    weights = {"w": numbers, "s": S(0.25), "z": B(0), "t": S(1.0)}
    nodes = [
        node("QuantizeLinear", ["w", "s", "z"], ["q"]), node("DequantizeLinear", ["q", "s", "z"], ["m"]), node("MatMul", ["x", "m"], ["y"]),
    ]  # fmt: skip
    found, rounding = affine(folded(nodes, (1, 3), weights))
    assert (rounding.kind, rounding.count) == ("affine", 3 + 1)
    held = {(j, i): w for i, j, w in found.maps[0].entries()}
    expected = np.clip(np.rint(numbers / 0.25), -128, 127) * 0.25
    assert held == {(j, i): float(expected[j, i]) for j in range(3) for i in range(4) if expected[j, i]}
    nodes = [node("QuantizeLinear", ["w", "t", "z"], ["q"]), *nodes[1:]]  # 0.5 and 1.5 are ties, of which float32 might say something else
    found, rounding = affine(folded(nodes, (1, 3), weights))
    assert rounding.kind == "refused" and "another step" in rounding.name
    assert {w for _, _, w in found.maps[0].entries()} == {0.5, -0.5, 10.0, -10.0, 0.25, 0.75, 1.75}
