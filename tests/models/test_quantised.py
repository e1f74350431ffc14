"""Networks that onnxruntime's quantisers write: certified on a small box, and false where the property is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

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
