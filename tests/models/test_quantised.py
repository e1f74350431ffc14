"""Networks that onnxruntime's quantisers write: certified on a small box, and false where the property is."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from torch import nn
from torch.nn import functional

from graph.load import load
from graph.selfcheck import compare
from tests.checker.test_lowering import check_sites, engine_sites
from verifier.checker import read_model

ROOT = Path(__file__).resolve().parents[2]
IMAGE, ROW = (1, 1, 8, 8), (1, 5)
RADIUS = 0.002


class Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, shape: tuple[int, ...]) -> None:
        draw = np.random.default_rng(0)
        self.left = iter([{"x": draw.uniform(-1, 1, shape).astype(np.float32)} for _ in range(20)])

    def get_next(self) -> Any:
        return next(self.left, None)


def plain(kind: str, path: Path) -> tuple[int, ...]:
    """A CNN of two convolutions or an MLP of a MatMul and a Gemm, three outputs; the shape of its input."""
    draw = np.random.default_rng(0)
    if kind == "CNN":
        shape, node = IMAGE, helper.make_node
        nodes = [
            node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1] * 4, strides=[2, 2]), node("Relu", ["c1"], ["r1"]),
            node("Conv", ["r1", "w2", "b2"], ["c2"], strides=[2, 2]), node("Relu", ["c2"], ["r2"]),
            node("Flatten", ["r2"], ["f"]), node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
        ]  # fmt: skip
        shapes = {"w1": (4, 1, 3, 3), "b1": (4,), "w2": (6, 4, 2, 2), "b2": (6,), "w3": (3, 24), "b3": (3,)}
    else:
        shape, node = ROW, helper.make_node
        nodes = [
            node("MatMul", ["x", "w1"], ["m"]), node("Add", ["m", "b1"], ["a"]), node("Relu", ["a"], ["r"]), node("Gemm", ["r", "w2", "b2"], ["y"])
        ]
        shapes = {"w1": (5, 12), "b1": (12,), "w2": (12, 3), "b2": (3,)}
    weights = [numpy_helper.from_array(draw.normal(0, 0.4, size).astype(np.float32), name) for name, size in shapes.items()]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3))]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", *ends, weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return shape


def verified(path: Path, shape: tuple[int, ...], folder: Path) -> list[tuple[str, str]]:
    """Whether the smallest output at 0.3 stays below the largest in the box around it, and whether it is above: verdict and comment of both."""
    y = onnxruntime.InferenceSession(path).run(None, {"x": np.full(shape, 0.3, np.float32)})[0].reshape(-1)
    declared = [f"(declare-const X_{i} Real)" for i in range(int(np.prod(shape)))] + [f"(declare-const Y_{i} Real)" for i in range(3)]
    box = [f"(assert (<= X_{i} {0.3 + RADIUS}))\n(assert (>= X_{i} {0.3 - RADIUS}))" for i in range(int(np.prod(shape)))]
    found = []
    for sign in (">=", "<="):
        text = [*declared, *box, f"(assert ({sign} Y_{np.argmin(y)} Y_{np.argmax(y)}))"]
        (folder / "p.vnnlib").write_text("\n".join(text))
        command = [sys.executable, "-m", "soundproof", "verify", str(path), str(folder / "p.vnnlib"), "--timeout", "60"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        found.append((done.stdout.split()[0] if done.stdout else "", done.stderr))
    return found


@pytest.mark.parametrize(
    ("kind", "form", "per_channel"),
    [
        ("CNN", QuantFormat.QDQ, True),
        ("MLP", QuantFormat.QOperator, False),
        *(pytest.param(kind, form, False, marks=pytest.mark.slow) for kind, form in (("CNN", QuantFormat.QDQ), ("CNN", QuantFormat.QOperator))),
        *(pytest.param("MLP", QuantFormat.QDQ, channels, marks=pytest.mark.slow) for channels in (False, True)),
        *(pytest.param(kind, QuantFormat.QOperator, True, marks=pytest.mark.slow) for kind in ("CNN", "MLP")),
    ],
    ids=str,
)
def test_quantised_networks_are_certified(kind: str, form: QuantFormat, per_channel: bool, tmp_path: Path) -> None:
    shape = plain(kind, tmp_path / "plain.onnx")
    quantize_static(tmp_path / "plain.onnx", tmp_path / "small.onnx", Samples(shape), quant_format=form, per_channel=per_channel)
    (proven, said), (broken, _) = verified(tmp_path / "small.onnx", shape, tmp_path)
    assert proven == "unsat" and "the independent checker accepted the certificate" in said
    assert broken == "sat"


@pytest.mark.parametrize("kind", ["MLP", pytest.param("CNN", marks=pytest.mark.slow)])
def test_dynamically_quantised_networks_are_certified(kind: str, tmp_path: Path) -> None:
    shape = plain(kind, tmp_path / "plain.onnx")
    quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "small.onnx")
    (proven, said), (broken, _) = verified(tmp_path / "small.onnx", shape, tmp_path)
    assert proven == "unsat" and "the independent checker accepted the certificate" in said
    assert broken == "sat"


# What else is quantised

LAYERS: dict[str, tuple[tuple[int, ...], Callable[[nn.ModuleList, torch.Tensor], torch.Tensor], list[nn.Module]]] = {
    "poolings": (
        (1, 3, 8, 8),
        lambda part, x: part[1](functional.adaptive_avg_pool2d(functional.max_pool2d(part[0](x), 2), 1).flatten(1)),
        [nn.Conv2d(3, 4, 3), nn.Linear(4, 3)],
    ),
    "residual": (
        (1, 3, 8, 8),
        lambda part, x: part[2]((functional.leaky_relu(part[1](functional.relu(part[0](x))), 0.1) + part[0](x)).flatten(1)),
        [nn.Conv2d(3, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1), nn.Linear(128, 3)],
    ),
    "concatenated": (
        (1, 3, 8, 8),
        lambda part, x: part[2](functional.interpolate(torch.cat([functional.hardswish(part[0](x)), torch.sigmoid(part[1](x))], 1), scale_factor=2)),
        [nn.Conv2d(3, 2, 3), nn.Conv2d(3, 2, 3), nn.Conv2d(4, 1, 3, stride=3)],
    ),
    "normalised": ((1, 6), lambda part, x: part[2](functional.gelu(part[1](part[0](x)))), [nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 3)]),
    "batches": (
        (1, 3, 8, 8),
        lambda part, x: part[2](functional.relu(part[1](functional.relu(part[0](x)))).mean((2, 3))),
        [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)],
    ),
    "gated": (
        (1, 6), lambda part, x: torch.softmax(part[2](torch.sigmoid(part[0](x)) * torch.tanh(part[1](x))), -1),
        [nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 3)],
    ),
    "attention": (
        (1, 4, 8),
        lambda part, x: part[3](torch.softmax(part[0](x) @ part[1](x).transpose(1, 2) / 3, -1) @ part[2](x)),
        [nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(8, 4), nn.Linear(4, 2)],
    ),
}  # fmt: skip
ODD = {"WeightSymmetric": False, "DedicatedQDQPair": True, "AddQDQPairToWeight": True, "QuantizeBias": False}
FORMS: dict[str, dict[str, Any]] = {
    "QDQ": {"quant_format": QuantFormat.QDQ},
    "QOperator": {"quant_format": QuantFormat.QOperator},
    "channels": {"quant_format": QuantFormat.QDQ, "per_channel": True, "activation_type": QuantType.QUInt8},
    "weights in pairs": {
        "quant_format": QuantFormat.QDQ, "weight_type": QuantType.QUInt8, "activation_type": QuantType.QUInt8, "extra_options": ODD,
    },
}  # fmt: skip


class Written(nn.Module):
    def __init__(self, forward: Callable[[nn.ModuleList, torch.Tensor], torch.Tensor], parts: list[nn.Module]) -> None:
        super().__init__()
        self.parts, self.written = nn.ModuleList(parts), forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.written(self.parts, x)


def exported(net: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net.eval(), (torch.zeros(shape),), str(path), dynamo=False, opset_version=17, input_names=["x"])


def read_by_both(path: Path, shape: tuple[int, ...]) -> None:
    """The engine agrees with onnxruntime, and the checker with the engine on the sites."""
    found = compare(load(path), [[np.random.default_rng(k).uniform(-1, 1, shape)] for k in range(3)], as_written=True)
    assert found.compared > 0
    sites = engine_sites(path.read_bytes())
    assert sites and check_sites(sites, read_model.read(path.read_bytes())) > 0


@pytest.mark.slow
@pytest.mark.parametrize("form", [*FORMS, "dynamic"])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_that_are_quantised_are_read(kind: str, form: str, tmp_path: Path) -> None:
    shape, forward, parts = LAYERS[kind]
    exported(Written(forward, parts), shape, tmp_path / "plain.onnx")
    if form == "dynamic":
        quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "small.onnx")
    else:
        quantize_static(tmp_path / "plain.onnx", tmp_path / "small.onnx", Samples(shape), **FORMS[form])
    read_by_both(tmp_path / "small.onnx", shape)


class Trained(nn.Module):
    """As training with simulated quantisation leaves it: weights are floats in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.01, 3, -128, 127)
        sizes, zeros = torch.tensor([0.004, 0.003, 0.005, 0.004]), torch.zeros(4, dtype=torch.int32)
        weight = torch.fake_quantize_per_channel_affine(self.first.weight, sizes, zeros, 0, -128, 127)
        hidden = torch.fake_quantize_per_tensor_affine(functional.relu(functional.linear(x, weight, self.first.bias)), 0.02, 0, -128, 127)
        return functional.linear(hidden, torch.fake_quantize_per_tensor_affine(self.last.weight, 0.004, 0, -128, 127), self.last.bias)


def test_networks_trained_with_simulated_quantisation_are_certified(tmp_path: Path) -> None:
    torch.manual_seed(0)
    exported(Trained(), ROW, tmp_path / "small.onnx")
    read_by_both(tmp_path / "small.onnx", ROW)
    (proven, said), (broken, _) = verified(tmp_path / "small.onnx", ROW, tmp_path)
    assert proven == "unsat" and "the independent checker accepted the certificate" in said and broken == "sat"
