"""Networks and data whose robustness is known in closed form, and runs of the commands on them."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[3]


def network(layers: Sequence[tuple[np.ndarray, np.ndarray]], shape: tuple[int, ...], batch: object = 1) -> onnx.ModelProto:
    """Flatten, then layers x @ W + b with ReLU between them. W [k, m], b [m]."""
    nodes = [helper.make_node("Flatten", ["image"], ["h0"])]
    constants = []
    for i, (w, b) in enumerate(layers):
        constants += [numpy_helper.from_array(np.asarray(w, np.float32), f"w{i}"), numpy_helper.from_array(np.asarray(b, np.float32), f"b{i}")]
        last = i == len(layers) - 1
        nodes.append(helper.make_node("Gemm", [f"h{i}", f"w{i}", f"b{i}"], ["scores" if last else f"g{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"g{i}"], [f"h{i + 1}"]))
    outputs = len(layers[-1][1])
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, *shape])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, outputs])], constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    return model


def larger_wins() -> onnx.ModelProto:
    """Scores relu(x0), relu(x1) of two non-negative inputs: the larger wins, and a margin of m is certified within every radius below m / 2."""
    eye = np.eye(2)
    return network([(eye, np.zeros(2)), (eye, np.zeros(2))], (2,), "N")


def write_larger_wins(folder: Path) -> tuple[Path, Path]:
    """(model, data): margins 0.4, -0.5, 0.1 and a misclassified sample; values 0 to 1."""
    onnx.save(larger_wins(), folder / "model.onnx")
    values = np.asarray([[0.75, 0.35], [0.25, 0.75], [0.5, 0.4], [0.2, 0.9]], np.float32)
    np.savez(folder / "data.npz", X=values, y=np.asarray([0, 1, 0, 0]))
    return folder / "model.onnx", folder / "data.npz"


def write_random(folder: Path, samples: int = 6) -> tuple[Path, Path]:
    """(model, data): a small random network, 6-10-10-3, and samples with the labels it gives them; some queries need a search."""
    draw = np.random.default_rng(3)
    sizes = [6, 10, 10, 3]
    layers = [(draw.normal(size=(a, b)) / np.sqrt(a / 2), 0.1 * draw.normal(size=b)) for a, b in itertools.pairwise(sizes)]
    onnx.save(network(layers, (2, 3)), folder / "model.onnx")
    values = draw.random((samples, 2, 3)).astype(np.float32)
    h = values.reshape(samples, 6)
    for i, (w, b) in enumerate(layers):
        h = h @ w + b if i == len(layers) - 1 else np.maximum(h @ w + b, 0)
    np.savez(folder / "data.npz", X=values, y=h.argmax(1))
    return folder / "model.onnx", folder / "data.npz"


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "soundproof", *map(str, arguments)]


def soundproof(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line; text out."""
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=environment(), cwd=cwd, check=False, timeout=300)
