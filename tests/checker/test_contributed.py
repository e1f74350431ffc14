"""Operators of com.microsoft, as the checker reads them: against onnxruntime, which defines them, with the sites of the engine; refused forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph.lowering.schemas import CONTRIB_SCHEMAS, REQUIRED
from tests.checker.test_lowering import agrees, check_roundings, check_sites, engine_sites, onnxruntime_says
from tests.graph.graph_models import floats
from tests.graph.transformer_cases import FORMS as TRANSFORMERS
from tests.graph.transformer_cases import HEADS, NORM, PACKED, SIZED, SKIP, Form, content
from verifier.checker import read_model
from verifier.checker.lowering import LOWERINGS
from verifier.checker.lowering.contributed import schema_of
from verifier.checker.refusal import Rejected

S, Z, B = np.float32, np.uint8, np.int8
IMAGE = {"x": (1, 2, 5, 5)}
KERNEL = {"w": floats(3, 2, 2, 2), "b": floats(3), "r": floats(1, 3, 4, 4, seed=5)}
MATRIX = {"w": floats(8, 4), "b": floats(4)}
FORMS: list[Form] = [
    *TRANSFORMERS,
    ("FusedMatMul", {"x": (2, 8, 3)}, ["x", "w"], MATRIX, {"transA": 1, "alpha": 0.5}, 1),
    ("FusedGemm", {"x": (2, 8)}, ["x", "w", "b"], MATRIX, {"activation": "Relu"}, 1),
    ("FusedGemm", {"x": (2, 8)}, ["x", "w", "b"], MATRIX, {"activation": "LeakyRelu", "activation_alpha": 0.3}, 1),
    ("FusedConv", IMAGE, ["x", "w", "b"], KERNEL, {"activation": "Tanh"}, 1),
    ("FusedConv", IMAGE, ["x", "w", "b", "r"], KERNEL, {"activation": "Relu"}, 1),
]


def check(data: bytes, inputs: dict[str, tuple[int, ...]], low: float = -1.0, high: float = 1.0) -> None:
    network = read_model.read(data)
    for seed in range(3):
        given = {name: floats(*shape, seed=3 * seed + k, low=low, high=high) for k, (name, shape) in enumerate(inputs.items())}
        assert agrees(network, list(given.values()), onnxruntime_says(data, given), atol=1e-5)
    check_roundings(network)
    check_sites(engine_sites(data), network)
    assert "refused" in {n.rounding.kind for n in network.nodes if n.rounding is not None}  # over the reals only


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form[0]}-{len(form[2])}-{form[5]}")
def test_operators(form: Form) -> None:
    check(content(form), form[1])


def test_what_is_refused() -> None:
    mask = {**PACKED, "m": np.array([[1, 1, 0]], np.int32)}
    forms: list[tuple[Form, str]] = [
        (("Attention", {"x": (1, 3, 8)}, ["x", "w", "b", "m"], mask, {"num_heads": 2}, 1), "padding"),
        (("Attention", SIZED, ["x", "w", "b"], mask, {"num_heads": 2, "do_rotary": 1}, 1), "rotation"),
        (("Attention", SIZED, ["x", "w", "b"], mask, {}, 1), "missing"),
        (("MultiHeadAttention", HEADS, ["x", "k", "v"], {}, {"num_heads": 3}, 1), "heads"),
        (("QuickGelu", SIZED, ["x"], {}, {"alpha": 0.0}, 1), "alpha"),
        (("Gelu", SIZED, ["x"], {}, {"approximate": "none"}, 1), "attribute"),
        (("BiasGelu", SIZED, ["x"], {}, {}, 1), "1 inputs"),
        (("FusedConv", IMAGE, ["x", "w"], KERNEL, {"activation": "Sine"}, 1), "activation"),
        (("FusedMatMul", {"x": (2, 8, 3)}, ["x", "w"], MATRIX, {"transBatchA": 1}, 1), "transBatch"),
        (("MatMulNBits", SIZED, ["x"], {}, {}, 1), "MatMulNBits"),
    ]
    for form, reason in forms:
        with pytest.raises(Rejected, match=reason):
            read_model.read(content(form))
    with pytest.raises(Rejected, match="SkipLayerNormalization"):  # not one of the standard's
        read_model.read(content(("SkipLayerNormalization", SKIP, ["x", "z", "g"], NORM, {}, 1), ""))


def test_schemas_are_those_of_the_engine() -> None:
    """Written twice, from onnxruntime's documentation."""
    names = [name.removeprefix("com.microsoft.") for name in LOWERINGS if name.startswith("com.microsoft.")]
    assert len(names) >= 20
    for name in names:
        entry, theirs = LOWERINGS[f"com.microsoft.{name}"], CONTRIB_SCHEMAS[name]
        ours = schema_of("com.microsoft", name, 17, entry.attributes)
        assert (ours.min_input, ours.max_input) == (theirs.least_inputs, theirs.most_inputs) or name == "QLinearConcat", name
        assert entry.attributes <= theirs.attributes.keys() and entry.versions == {1}
        for key, attribute in ours.attributes.items():
            assert int(attribute.type) == int(theirs.attributes[key].kind), (name, key)
            assert attribute.required == (theirs.attributes[key].default is REQUIRED), (name, key)


# Between quantised tensors

ONE, OUT = {"xs": S(0.02), "xz": Z(120)}, {"ys": S(0.07), "yz": Z(100)}
HALF = {"ys": S(1 / 256), "yz": Z(0)}
BOTH = {**ONE, "w": Z([[3, 200, 80]]), "ws": S(0.01), "wz": Z(90), **OUT}
BYTES = np.random.default_rng(0).integers(-100, 100, (4, 3)).astype(B)
PER_ROW = {**ONE, "w": BYTES, "ws": S([0.01, 0.02, 0.01, 0.03]), "wz": B([1, 0, 2, -3]), "b": np.int32([10, 20, -30, 0])}
FILTER = np.random.default_rng(1).integers(-100, 100, (2, 2, 2, 2)).astype(B)
CONV = {**ONE, "w": FILTER, "ws": S([0.01, 0.02]), "wz": B([0, 0]), **OUT, "b": np.int32([100, -50])}
QUANTISED: list[tuple[str, tuple[int, ...], dict[str, Any], dict[str, Any], bool]] = [  # ..., attributes, whether x is read again
    ("QLinearAdd", (2, 3), BOTH, {}, False),
    ("QLinearMul", (2, 3), BOTH, {}, False),
    ("QLinearMul", (2, 3), {**ONE, "again_s": S(0.02), "again_z": Z(120), **OUT}, {}, True),
    ("QLinearSigmoid", (2, 3), {**ONE, **HALF}, {}, False),
    ("QLinearLeakyRelu", (2, 3), {**ONE, **OUT}, {"alpha": 0.2}, False),
    ("QLinearSoftmax", (2, 3), {**ONE, **HALF}, {"opset": 13, "axis": -1}, False),
    ("QLinearSoftmax", (2, 3), {**ONE, **HALF}, {"opset": 11, "axis": 1}, False),
    ("QLinearAveragePool", (1, 2, 4, 4), {**ONE, **OUT}, {"kernel_shape": [2, 2]}, False),
    ("QLinearGlobalAveragePool", (1, 2, 4, 4), {**ONE, **OUT}, {}, False),
    ("QLinearConv", (1, 2, 4, 4), CONV, {"pads": [1] * 4}, False),
    ("QGemm", (2, 3), {**PER_ROW, **OUT}, {"transB": 1}, False),
    ("QGemm", (2, 3), PER_ROW, {"transB": 1, "alpha": 0.5}, False),
]


def quantised(kind: str, shape: tuple[int, ...], weights: dict[str, Any], attributes: dict[str, Any], again: bool) -> bytes:
    """x quantised, the operator, its output as float32."""
    names = list(weights)
    names = [*names[:2], "q", *names[2:]] if again else names
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "first_s", "first_z"], ["q"]),
        helper.make_node(kind, ["q", *names], ["raw"], domain="com.microsoft", **attributes),
        helper.make_node("Cast", ["raw"], ["y"], to=1),
    ]
    constants = {**weights, "first_s": weights["xs"], "first_z": weights["xz"]}
    built = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    imports = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(built, opset_imports=imports, ir_version=8).SerializeToString())


@pytest.mark.parametrize("case", QUANTISED, ids=lambda case: case[0])
def test_operators_between_quantised_tensors(case: Any) -> None:
    check(quantised(*case), {"x": case[1]}, -2.0, 2.0)


def test_parts_with_steps_of_their_own() -> None:
    """QLinearConcat: its inputs begin with the steps of the output."""
    data = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
                helper.make_node("QLinearConcat", ["ys", "yz", "q", "xs", "xz", "w", "ws", "wz"], ["raw"], domain="com.microsoft", axis=1),
                helper.make_node("DequantizeLinear", ["raw", "ys", "yz"], ["y"]),
            ],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in BOTH.items()],
        ),
        opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )
    check(data.SerializeToString(), {"x": (1, 3)}, -2.0, 2.0)
    with pytest.raises(Rejected, match="channels_last"):
        read_model.read(quantised("QLinearGlobalAveragePool", (1, 2, 4, 4), {**ONE, **OUT}, {"channels_last": 1}, False))
