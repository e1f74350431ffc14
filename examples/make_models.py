"""Makes the demo: a small brake controller, trained here with numpy, and three properties of it.

    python examples/make_models.py [FOLDER]       default: the folder of this file

The network reads the distance to an obstacle (0 to 1, for 100 m) and the speed (0 to 1, for 30 m/s) and returns how hard
to brake (0 to 1). It is trained towards brake = clip(0.5 + 2 (1.2 speed^2 - distance), 0, 1). The properties:

    far_and_slow   holds: on a free road at low speed it hardly brakes (one bounding pass suffices)
    near_and_fast  violated: it does not always brake fully when it should
    never_more     holds, but one bounding pass leaves it open: nowhere does it ask for more than a little over full braking
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
LAYERS = (2, 24, 24, 1)
STEPS = 3000


def wanted(points: Array) -> Array:
    """How hard to brake at points [n, 2] of (distance, speed), [n, 1]."""
    return np.clip(0.5 + 2 * (1.2 * points[:, 1:] ** 2 - points[:, :1]), 0, 1)


def forward(weights: list[tuple[Array, Array]], points: Array) -> list[Array]:
    """The input and the output of every layer."""
    values = [points]
    for k, (w, b) in enumerate(weights):
        z = values[-1] @ w.T + b
        values.append(np.maximum(z, 0) if k + 1 < len(weights) else z)
    return values


def gradients(weights: list[tuple[Array, Array]], points: Array) -> list[Array]:
    """Gradients of the mean squared error with respect to every weight and bias, layer by layer."""
    values = forward(weights, points)
    error = 2 * (values[-1] - wanted(points)) / len(points)
    found: list[Array] = []
    for k in reversed(range(len(weights))):
        found[:0] = [error.T @ values[k], error.sum(0)]
        error = (error @ weights[k][0]) * (values[k] > 0)
    return found


def train(seed: int = 0) -> list[tuple[Array, Array]]:
    """Weights [out, in] and biases [out] after `STEPS` steps of Adam (Kingma and Ba 2015) on random points."""
    draw = np.random.default_rng(seed)
    shapes = list(zip(LAYERS[1:], LAYERS[:-1], strict=True))
    weights = [(draw.normal(0, np.sqrt(2 / i), (o, i)), np.zeros(o)) for o, i in shapes]
    parameters = [p for pair in weights for p in pair]
    mean, square = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    for step in range(1, STEPS + 1):
        rate = 0.01 * (1 - step / STEPS)
        for p, g, m, s in zip(parameters, gradients(weights, draw.random((256, 2))), mean, square, strict=True):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            p -= rate * (m / (1 - 0.9**step)) / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
    return weights


def to_onnx(weights: list[tuple[Array, Array]]) -> onnx.ModelProto:
    """The network as Gemm and Relu, float32, opset 17."""
    nodes, stored, last = [], [], "situation"
    for k, (w, b) in enumerate(weights):
        final = k + 1 == len(weights)
        stored += [numpy_helper.from_array(a.astype(np.float32), f"{name}{k}") for name, a in (("w", w), ("b", b))]
        nodes.append(helper.make_node("Gemm", [last, f"w{k}", f"b{k}"], ["brake" if final else f"z{k}"], f"gemm{k}", transB=1))
        if not final:
            nodes.append(helper.make_node("Relu", [f"z{k}"], [f"h{k}"], f"relu{k}"))
        last = f"h{k}"
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in (("situation", [1, 2]), ("brake", [1, 1]))]
    graph = helper.make_graph(nodes, "brake_controller", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="soundproof examples")
    onnx.checker.check_model(model)
    return model


def property_text(title: str, distance: tuple[str, str], speed: tuple[str, str], unsafe: str) -> str:
    """VNN-LIB 1.0 text: the box, and the outputs that must not occur in it."""
    lines = [f"; {title}", *(f"(declare-const {name} Real)" for name in ("X_0", "X_1", "Y_0"))]
    for name, (lower, upper) in (("X_0", distance), ("X_1", speed)):
        lines += [f"(assert (>= {name} {lower}))", f"(assert (<= {name} {upper}))"]
    return "\n".join([*lines, f"(assert {unsafe})"]) + "\n"


PROPERTIES = {
    "far_and_slow": property_text(
        "Far away (80 to 100 m) and slow (up to 6 m/s) it must not brake hard.", ("0.8", "1.0"), ("0.0", "0.2"), "(>= Y_0 0.5)"
    ),
    "near_and_fast": property_text(
        "Near (up to 30 m) and fast (18 to 30 m/s) it should brake at nine tenths or more.", ("0.0", "0.3"), ("0.6", "1.0"), "(<= Y_0 0.9)"
    ),
    "never_more": property_text(
        "Nowhere may it ask for more than a little over full braking.", ("0.0", "1.0"), ("0.0", "1.0"), "(>= Y_0 1.1)"
    ),
}


def main(folder: Path) -> None:
    """Write the network and its properties into `folder`."""
    onnx.save(to_onnx(train()), folder / "brake.onnx")
    for name, text in PROPERTIES.items():
        (folder / f"{name}.vnnlib").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
