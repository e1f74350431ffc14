"""Makes the demo networks: a brake controller and a collision avoidance controller, trained here with numpy, and properties of them.

    python examples/make_models.py [FOLDER]       default: the folder of this file

`brake.onnx` reads the distance to an obstacle (0 to 1, for 100 m) and the speed (0 to 1, for 30 m/s) and returns how hard
to brake (0 to 1). It is trained towards brake = clip(0.5 + 2 (1.2 speed^2 - distance), 0, 1). The properties:

    far_and_slow   holds: on a free road at low speed it hardly brakes (one bounding pass suffices)
    near_and_fast  violated: it does not always brake fully when it should
    never_more     holds, but one bounding pass leaves it open: nowhere does it ask for more than a little over full braking

`avoid.onnx` is what ACAS Xu's networks are, in small: it reads where an intruder is and returns the cost of five advisories (clear of conflict, weak
left, weak right, strong left, strong right), of which the cheapest is given. It reads distance (0 to 1, for 10 km), bearing (-1 to 1, for half a turn
to the right or to the left), heading (the same), own speed and the intruder's (0 to 1, for 300 m/s). The properties, in `avoid/`:

    clear_when_far     holds: of an intruder far away it is clear
    never_into_it      holds: with an intruder near on the left it never advises a strong left
    out_of_its_way     violated: with an intruder near on the left it does not always advise a strong right
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]
Weights = list[tuple[Array, Array]]
BRAKE, AVOID = (2, 24, 24, 1), (5, 20, 20, 5)
STEPS = 3000


def braking(points: Array) -> Array:
    """How hard to brake at points [n, 2] of (distance, speed), [n, 1]."""
    return np.clip(0.5 + 2 * (1.2 * points[:, 1:] ** 2 - points[:, :1]), 0, 1)


def costs(points: Array) -> Array:
    """The costs [n, 5] of the advisories at points [n, 5] of (distance, bearing, heading, own speed, intruder's speed)."""
    distance, bearing, heading, own, intruder = points.T
    danger = np.clip(1.2 - 2 * distance + 0.3 * (own * np.cos(np.pi * bearing) - intruder * np.cos(np.pi * heading)), 0, 1)
    left = danger * np.clip(2 * bearing, -1, 1)
    weak, strong = 0.3 + 0.3 * danger, 0.5 - 0.1 * danger
    return np.stack([danger, weak + 0.2 * left, weak - 0.2 * left, strong + 0.3 * left, strong - 0.3 * left], axis=1)


def forward(weights: Weights, points: Array) -> list[Array]:
    """The input and the output of every layer."""
    values = [points]
    for k, (w, b) in enumerate(weights):
        z = values[-1] @ w.T + b
        values.append(np.maximum(z, 0) if k + 1 < len(weights) else z)
    return values


def gradients(weights: Weights, points: Array, wanted: Array) -> list[Array]:
    """Gradients of the mean squared error with respect to every weight and bias, layer by layer."""
    values = forward(weights, points)
    error = 2 * (values[-1] - wanted) / len(points)
    found: list[Array] = []
    for k in reversed(range(len(weights))):
        found[:0] = [error.T @ values[k], error.sum(0)]
        error = (error @ weights[k][0]) * (values[k] > 0)
    return found


def train(layers: Sequence[int], wanted: Callable[[Array], Array], lower: Sequence[float], seed: int = 0) -> Weights:
    """Weights [out, in] and biases [out] after `STEPS` steps of Adam (Kingma and Ba 2015) on random points between `lower` and 1."""
    draw = np.random.default_rng(seed)
    shapes = list(zip(layers[1:], layers[:-1], strict=True))
    weights = [(draw.normal(0, np.sqrt(2 / i), (o, i)), np.zeros(o)) for o, i in shapes]
    parameters = [p for pair in weights for p in pair]
    mean, square = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters]
    low = np.array(lower)
    for step in range(1, STEPS + 1):
        rate = 0.01 * (1 - step / STEPS)
        points = low + (1 - low) * draw.random((256, layers[0]))
        for p, g, m, s in zip(parameters, gradients(weights, points, wanted(points)), mean, square, strict=True):
            m += 0.1 * (g - m)
            s += 0.001 * (g * g - s)
            p -= rate * (m / (1 - 0.9**step)) / (np.sqrt(s / (1 - 0.999**step)) + 1e-8)
    return weights


def to_onnx(weights: Weights, title: str, ends: tuple[str, str]) -> onnx.ModelProto:
    """The network as Gemm and Relu, float32, opset 17; `ends` name its input and its output."""
    nodes, stored, last = [], [], ends[0]
    for k, (w, b) in enumerate(weights):
        final = k + 1 == len(weights)
        stored += [numpy_helper.from_array(a.astype(np.float32), f"{name}{k}") for name, a in (("w", w), ("b", b))]
        nodes.append(helper.make_node("Gemm", [last, f"w{k}", f"b{k}"], [ends[1] if final else f"z{k}"], f"gemm{k}", transB=1))
        if not final:
            nodes.append(helper.make_node("Relu", [f"z{k}"], [f"h{k}"], f"relu{k}"))
        last = f"h{k}"
    sizes = ([1, weights[0][0].shape[1]], [1, weights[-1][0].shape[0]])
    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in zip(ends, sizes, strict=True)]
    graph = helper.make_graph(nodes, title, values[:1], values[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="soundproof examples")
    onnx.checker.check_model(model)
    return model


def property_text(title: str, box: Sequence[tuple[str, str]], outputs: int, unsafe: str) -> str:
    """VNN-LIB 1.0 text: the box, and the outputs that must not occur in it."""
    names = [f"X_{i}" for i in range(len(box))] + [f"Y_{j}" for j in range(outputs)]
    lines = [f"; {title}", *(f"(declare-const {name} Real)" for name in names)]
    for i, (lower, upper) in enumerate(box):
        lines += [f"(assert (>= X_{i} {lower}))", f"(assert (<= X_{i} {upper}))"]
    return "\n".join([*lines, f"(assert {unsafe})"]) + "\n"


def not_the_cheapest(advisory: int) -> str:
    """Another advisory costs as little."""
    return "(or " + " ".join(f"(and (<= Y_{j} Y_{advisory}))" for j in range(5) if j != advisory) + ")"


def the_cheapest(advisory: int) -> str:
    """No other advisory costs less: each Y_j is at least as much."""
    return "(or (and " + " ".join(f"(<= Y_{advisory} Y_{j})" for j in range(5) if j != advisory) + "))"


PROPERTIES = {
    "far_and_slow": property_text(
        "Far away (80 to 100 m) and slow (up to 6 m/s) it must not brake hard.", [("0.8", "1.0"), ("0.0", "0.2")], 1, "(>= Y_0 0.5)"
    ),
    "near_and_fast": property_text(
        "Near (up to 30 m) and fast (18 to 30 m/s) it should brake at nine tenths or more.", [("0.0", "0.3"), ("0.6", "1.0")], 1, "(<= Y_0 0.9)"
    ),
    "never_more": property_text(
        "Nowhere may it ask for more than a little over full braking.", [("0.0", "1.0"), ("0.0", "1.0")], 1, "(>= Y_0 1.1)"
    ),
}
ANYWHERE, ANY_SPEED = ("-1.0", "1.0"), ("0.0", "1.0")
NEAR_ON_THE_LEFT = [("0.05", "0.3"), ("0.3", "0.5"), ANYWHERE, ("0.4", "1.0"), ANY_SPEED]
AVOID_PROPERTIES = {
    "clear_when_far": property_text(
        "Of an intruder that is 8.5 km away or more it is clear.", [("0.85", "1.0"), ANYWHERE, ANYWHERE, ANY_SPEED, ANY_SPEED], 5, not_the_cheapest(0)
    ),
    "never_into_it": property_text(
        "With an intruder on the left, 0.5 to 3 km away, it never advises a strong left.", NEAR_ON_THE_LEFT, 5, the_cheapest(3)
    ),
    "out_of_its_way": property_text(
        "With an intruder on the left, 0.5 to 3 km away, it advises a strong right.", NEAR_ON_THE_LEFT, 5, not_the_cheapest(4)
    ),
}


def main(folder: Path) -> None:
    """Write the networks and their properties into `folder`."""
    onnx.save(to_onnx(train(BRAKE, braking, (0, 0)), "brake_controller", ("situation", "brake")), folder / "brake.onnx")
    onnx.save(to_onnx(train(AVOID, costs, (0, -1, -1, 0, 0)), "avoidance_controller", ("situation", "costs")), folder / "avoid.onnx")
    (folder / "avoid").mkdir(exist_ok=True)
    for place, properties in ((folder, PROPERTIES), (folder / "avoid", AVOID_PROPERTIES)):
        for name, text in properties.items():
            (place / f"{name}.vnnlib").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
