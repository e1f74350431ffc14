"""Maxima from file to verdict: what no constant above them decides, and what is searched."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import soundproof


def pooled(kind: str) -> Any:
    """Two channels of a 4 by 4 image, ReLU, maxima, and the sum of what the first channel has more than the second."""
    rng = np.random.default_rng(2)
    weights = {"w": rng.normal(size=(2, 1, 3, 3)), "v": np.array([[1.0, -1.0]]), "k": np.array([0.1, -0.1])}
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    middle = [helper.make_node("Conv", ["x", "w", "k"], ["c"], pads=[1] * 4), helper.make_node("Relu", ["c"], ["r"])]
    if kind == "MaxPool":
        middle += [helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]), helper.make_node("ReduceSum", ["p", "a"], ["m"])]
    else:
        middle.append(helper.make_node("ReduceMax", ["r"], ["m"], axes=[2, 3]))
    tail = [helper.make_node("Reshape", ["m", "s"], ["f"]), helper.make_node("MatMul", ["f", "t"], ["y"])]
    known = {**weights, "a": np.array([2, 3]), "s": np.array([1, 2]), "t": weights["v"].T.copy()}
    ends = [helper.make_tensor_value_info("x", 1, [1, 1, 4, 4])], [helper.make_tensor_value_info("y", 1, [1, 1])]
    graph = helper.make_graph([*middle, *tail], "g", *ends, [numpy_helper.from_array(a, name) for name, a in known.items()])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    made.ir_version = 8
    return made


@pytest.mark.parametrize("kind", ["MaxPool", "ReduceMax"])
def test_both_verdicts_around_the_largest_value(kind: str) -> None:
    """Just above the largest value that 20,000 points and a search find the property holds, certified; just below it does not."""
    model, rng = pooled(kind), np.random.default_rng(0)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    points = np.concatenate([rng.integers(0, 2, (10_000, 16)), rng.random((10_000, 16))]).astype(np.float32)
    most = max(float(session.run(None, {"x": p.reshape(1, 1, 4, 4)})[0].item()) for p in points[:4000])
    box = "\n".join(f"(declare-const X_{i} Real)\n(assert (>= X_{i} 0))\n(assert (<= X_{i} 1))" for i in range(16))
    for threshold, verdict in ((most - 0.05, "sat"), (most * 1.6 + 0.5, "unsat")):
        text = f"{box}\n(declare-const Y_0 Real)\n(assert (>= Y_0 {threshold:.6f}))\n"
        found = soundproof.verify(model, text, timeout=60.0, threads=1)
        assert found.verdict == verdict, (threshold, found)
        assert verdict == "sat" or found.assurance == "certified"
