"""Quantised operators against onnxruntime, networks that its quantiser writes, and the bounds of rounding."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from graph_models import floats, model, node
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from bounds import interval, relaxation
from graph.errors import MalformedGraph, ModelError, ModelMismatch
from graph.functions import build
from graph.functions.facts import Pieces, Stairs
from graph.load import Model, load
from graph.selfcheck import compare

S, Z, B = np.float32, np.uint8, np.int8
ONE = {"xs": S(0.05), "xz": Z(128)}
OUT = {"ys": S(0.07), "yz": Z(100)}
WEIGHT = floats(4, 3)
BYTES = np.random.default_rng(0).integers(-100, 100, (3, 4)).astype(B)
KERNEL = np.random.default_rng(1).integers(-100, 100, (2, 2, 2, 2)).astype(B)
IMAGE, IMAGES = (1, 2, 4, 4), {"xs": S(0.02), "xz": Z(120)}
BOTH = {"xs": S(0.02), "xz": Z(120), "w": Z([[3, 200, 80]]), "ws": S(0.01), "wz": Z(90), **OUT}
CASES: list[tuple[str, str, tuple[int, ...], dict[str, Any], dict[str, Any]]] = [  # of a quantised x
    ("", "DequantizeLinear", (2, 3), ONE, {}),
    ("", "ConvInteger", IMAGE, {"w": KERNEL.view(Z), "xz": Z(120), "wz": Z(90)}, {"pads": [1, 0, 0, 1]}),
    ("", "MatMulInteger", (2, 3), {"w": BYTES, "xz": Z(120), "wz": B(3)}, {}),
    ("", "QLinearConv", IMAGE, {**IMAGES, "w": KERNEL, "ws": S([0.01, 0.02]), "wz": B([0, 0]), **OUT, "b": np.int32([100, -50])}, {"pads": [1] * 4}),
    ("", "QLinearMatMul", (2, 3), {**IMAGES, "w": BYTES, "ws": S([0.01, 0.02, 0.01, 0.03]), "wz": B([0, 0, 0, 0]), **OUT}, {}),
    ("com.microsoft", "QLinearAdd", (2, 3), BOTH, {}),
    ("com.microsoft", "QLinearMul", (2, 3), BOTH, {}),
    ("com.microsoft", "QLinearSigmoid", (2, 3), {**ONE, "ys": S(1 / 256), "yz": Z(0)}, {}),
    ("com.microsoft", "QLinearLeakyRelu", (2, 3), {**ONE, **OUT}, {"alpha": 0.2}),
    ("com.microsoft", "QLinearSoftmax", (2, 3), {**ONE, "ys": S(1 / 256), "yz": Z(0)}, {"opset": 13, "axis": -1}),
    ("com.microsoft", "QLinearAveragePool", IMAGE, {**ONE, **OUT}, {"kernel_shape": [2, 2]}),
    ("com.microsoft", "QLinearGlobalAveragePool", IMAGE, {**ONE, **OUT}, {}),
    ("com.microsoft", "QGemm", (2, 3), {**ONE, "w": BYTES, "ws": S(0.01), "wz": B(0), "b": np.int32([10, 20, -30, 0]), **OUT}, {}),
]


def graph(domain: str, kind: str, shape: tuple[int, ...], weights: dict[str, Any], attributes: dict[str, Any]) -> bytes:
    """x quantised, the operator, its output (dequantised, if it has one byte) as float32."""
    step = node(kind, ["q", *weights], ["raw"], **attributes)
    step.domain = domain
    start = node("QuantizeLinear", ["x", "first_s", "first_z"], ["q"])
    ends = node("Cast", ["raw"], ["y"], to=1) if kind != "DequantizeLinear" else node("Identity", ["raw"], ["y"])
    constants = {**weights, "first_s": weights.get("xs", S(0.05)), "first_z": weights.get("xz", Z(128))}
    built = helper.make_graph(
        [start, step, ends],
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(built, opset_imports=opsets, ir_version=8).SerializeToString())


def agree(loaded: Model, low: float = -2.0, high: float = 2.0) -> None:
    points = [{info.name: floats(*info.shape, seed=k, low=low, high=high) for info in loaded.inputs} for k in range(3)]
    found = compare(loaded, points)
    assert found.compared > 0 and found.skipped == 0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[1])
def test_operator_agrees_with_onnxruntime(case: Any) -> None:
    agree(load(graph(*case)))


@pytest.mark.parametrize(
    ("opset", "constants", "attributes"),
    [
        (10, {"s": S(0.01), "z": Z(30)}, {}),
        (13, {"s": S(0.03)}, {}),
        (13, {"s": S([0.01, 0.02, 0.05]), "z": B([1, 0, -3])}, {"axis": 1}),
        (21, {"s": S([[0.01, 0.02, 0.03]]), "z": B([[0, 1, 2]])}, {"axis": 0, "block_size": 2}),
        (21, {"s": S(0.001), "z": np.int16(-7)}, {}),
    ],
)
def test_quantising_and_back(opset: int, constants: dict[str, Any], attributes: dict[str, Any]) -> None:
    steps = [node("QuantizeLinear", ["x", *constants], ["q"], **attributes), node("DequantizeLinear", ["q", *constants], ["y"], **attributes)]
    agree(load(model(steps, {"x": (2, 3)}, weights=constants, opset=opset)))


def test_a_step_that_depends_on_the_input() -> None:
    loaded = load(model([node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]), node("Cast", ["q"], ["y"], to=1)], {"x": (2, 3)}, ["y", "s"]))
    agree(loaded)


def test_other_types_are_refused() -> None:
    with pytest.raises(ModelError, match="not positive"):
        load(model([node("QuantizeLinear", ["x", "s"], ["q"]), node("Cast", ["q"], ["y"], to=1)], {"x": (2, 3)}, weights={"s": S(-1)}))


class Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = iter([{"x": floats(1, 2, 6, 6, seed=k)} for k in range(4)])

    def get_next(self) -> Any:
        return next(self.left, None)


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_a_network_of_the_quantiser_of_onnxruntime_loads(form: QuantFormat, tmp_path: Path) -> None:
    steps = [
        node("Conv", ["x", "k", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "w", "v"], ["y"]),
    ]
    weights = {"k": floats(3, 2, 3, 3), "b": floats(3), "w": floats(27, 4), "v": floats(4)}
    plain = onnx.load(io.BytesIO(model(steps, {"x": (1, 2, 6, 6)}, weights=weights)))
    plain.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4]))
    onnx.save(plain, tmp_path / "plain.onnx")
    quantize_static(tmp_path / "plain.onnx", tmp_path / "small.onnx", Samples(), quant_format=form, weight_type=QuantType.QInt8, per_channel=True)
    loaded = load(tmp_path / "small.onnx")
    assert any(isinstance(n.function, Stairs) for n in loaded.graph.nodes if hasattr(n, "function"))
    agree(loaded)


# Bounds of rounding


STAIRS = build("round", -4.0, 7.0)
PLAIN = Pieces("plain", STAIRS.breakpoints, STAIRS.slopes, STAIRS.intercepts, STAIRS.values)


def boxes() -> tuple[Any, Any]:
    """Ends at random, at jumps, beside them and beyond all steps."""
    random = np.random.default_rng(0)
    ends = np.concatenate([random.uniform(-7, 10, 400), np.repeat(np.arange(-6, 9), 2) / 2, np.nextafter(np.arange(-4, 7) + 0.5, np.inf)])
    pairs = random.choice(ends, (600, 2)).astype(np.float32)
    return pairs.min(axis=1), pairs.max(axis=1)


def test_fast_rules_contain_the_function() -> None:
    """For any slopes, at points that include the jumps; and no looser than the rules that go piece by piece, up to rounding."""
    lower, upper = (torch.tensor(v) for v in boxes())
    inside = torch.tensor([*np.linspace(0, 1, 41)])
    x = (lower[:, None].double() + inside * (upper - lower)[:, None].double()).clamp(lower[:, None].double(), upper[:, None].double())
    jumps = torch.tensor(STAIRS.breakpoints, dtype=torch.float64).expand(len(x), -1)
    x = torch.cat([x, torch.maximum(torch.minimum(jumps, upper[:, None].double()), lower[:, None].double())], dim=1)
    y = torch.tensor(STAIRS.value(x.numpy()))
    assert (y.numpy() == PLAIN.value(x.numpy())).all()
    for slope in (-0.5, 0.0, 0.3, 1.0, 1.7):
        s = torch.full_like(lower, slope)
        low, high = relaxation.offset_lower(STAIRS, s, lower, upper), relaxation.offset_upper(STAIRS, s, lower, upper)
        assert (y >= slope * x + low[:, None].double()).all() and (y <= slope * x + high[:, None].double()).all()
        assert (low >= relaxation.offset_lower(PLAIN, s, lower, upper) - 1e-4).all() and (
            high <= relaxation.offset_upper(PLAIN, s, lower, upper) + 1e-4
        ).all()
    planes = relaxation.relax(STAIRS, lower, upper)
    assert planes.offset_lower is not None and planes.offset_upper is not None
    assert (y >= planes.slope_lower[:, None].double() * x + planes.offset_lower[:, None].double() - 1e-5).all()
    assert (y <= planes.slope_upper[:, None].double() * x + planes.offset_upper[:, None].double() + 1e-5).all()
    flat = relaxation.is_linear(STAIRS, lower, upper)
    assert ((y.amin(dim=1) == y.amax(dim=1)) | ~flat).all() and bool(flat.any())


def test_intervals_are_those_of_the_pieces() -> None:
    lower, upper = (v.astype(np.float64) for v in boxes())
    found, plain = interval.elementwise(STAIRS, lower, upper), interval.elementwise(PLAIN, lower, upper)
    assert all((a == b).all() for a, b in zip(found, plain, strict=True))


def test_limits_are_whole_numbers() -> None:
    with pytest.raises(MalformedGraph, match="whole numbers"):
        build("round", 0.5, 3.0)


# Where onnxruntime's own kernels come to other steps


def between_steps(kind: str, size: float = 1 / 255) -> bytes:
    """x quantised and restored, the operator, its output quantised and restored: what onnxruntime makes one kernel of."""
    first, last = {"xs": S(0.05), "xz": Z(128)}, {"ys": S(size), "yz": Z(0)}
    steps = [
        node("QuantizeLinear", ["x", *first], ["q"]), node("DequantizeLinear", ["q", *first], ["h"]), node(kind, ["h"], ["s"]),
        node("QuantizeLinear", ["s", *last], ["r"]), node("DequantizeLinear", ["r", *last], ["y"]),
    ]  # fmt: skip
    return model(steps, {"x": (8, 5)}, weights={**first, **last}, opset=13)


def test_other_steps_of_the_runtime_are_noted_over_the_reals_only() -> None:
    """Its quantised Softmax is not the file's; with optimisations off it is, so that the file was not misread."""
    loaded = load(between_steps("Softmax"))
    points = [[floats(8, 5, seed=k, low=-3.0, high=3.0)] for k in range(10)]
    with pytest.raises(ModelMismatch, match="optimisations on"):
        compare(loaded, points)
    found = compare(loaded, points, as_written=True)
    (note,) = found.notes
    assert found.compared > 0 and "compute otherwise" in note and "'y'" in note
    assert compare(load(between_steps("Sigmoid", 0.25)), points, as_written=True).notes == ()


def test_a_misread_network_with_steps_is_no_note() -> None:
    loaded = load(between_steps("Softmax"))
    other = replace(loaded, onnx_bytes=between_steps("Sigmoid"))
    with pytest.raises(ModelMismatch):
        compare(other, [[floats(8, 5, seed=k)] for k in range(4)], as_written=True)
