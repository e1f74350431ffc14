"""Quantised graphs in float32: what onnxruntime makes of them stays within the checker's bounds, or the checker says that it has no rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from verifier.checker.bounds import Checker
from verifier.checker.read_model import read
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack

Array = NDArray[Any]
LEVELS = onnxruntime.GraphOptimizationLevel
N, OF_X, OF_W = 4, np.float32(0.02), np.float32(0.01)
RANDOM = np.random.default_rng(0)
WHOLE = RANDOM.integers(-127, 128, (N, N)).astype(np.int8)
CONSTANTS: dict[str, Array] = {
    "sx": OF_X, "zx": np.uint8(128), "sw": OF_W, "zw": np.int8(0), "w": WHOLE, "wf": WHOLE * OF_W, "sb": OF_X * OF_W, "zb": np.int32(0),
    "b": RANDOM.integers(-5000, 5000, N).astype(np.int32), "bf": np.linspace(-1, 1, N, dtype=np.float32), "so": np.float32(0.15), "other": OF_X * 3,
    "k": WHOLE.reshape(N, N, 1, 1), "kf": (WHOLE * OF_W).reshape(N, N, 1, 1), "flat": np.array([1, -1]), "image": np.array([1, N, 1, 1]),
    "zh": np.int16(3), "sc": np.full(N, OF_W), "zc": np.zeros(N, np.int8), "far": np.float32(0.5), "huge": np.full(N, 2**31 - 1, np.int32),
}  # fmt: skip
START = ["QuantizeLinear x sx zx -> q", "DequantizeLinear q sx zx -> d"]
WEIGHT, BIAS = "DequantizeLinear w sw zw -> v", "DequantizeLinear b sb zb -> c"
END = ["QuantizeLinear r so zx -> e", "DequantizeLinear e so zx -> y"]
IMAGE = ["QuantizeLinear x sx zx -> q", "DequantizeLinear q sx zx -> p", "Reshape p image -> d"]
KERNEL = "DequantizeLinear k sw zw -> v"

AGREES: dict[str, Sequence[str]] = {
    "matmul": [*START, WEIGHT, "MatMul d v -> r", *END],
    "gemm": [*START, WEIGHT, BIAS, "Gemm d v c -> r", *END],
    "gemm and relu": [*START, WEIGHT, BIAS, "Gemm d v c -> g", "Relu g -> r", *END],
    "convolution": [*IMAGE, KERNEL, BIAS, "Conv d v c -> g", "Flatten g -> r", *END],
    "no end": [*START, WEIGHT, BIAS, "Gemm d v c -> y"],
    "product and no end": [*START, WEIGHT, "MatMul d v -> y"],
    "channels and no end": [*START, "DequantizeLinear w sc zc -> v", "MatMul d v -> y"],
    "channels": [*START, "DequantizeLinear w sc zc -> v", "MatMul d v -> r", *END],
    "twice": [*START, "QuantizeLinear d sx zx -> f", "DequantizeLinear f sx zx -> y"],
    "sum": [*START, "Add d d -> r", *END],
    "sigmoid": [*START, "Sigmoid d -> y"],
}  # fmt: skip
REFUSED: dict[str, tuple[Sequence[str], str]] = {
    "only weights": (["DequantizeLinear w sc zc -> v", "MatMul x v -> y"], "of dequantised numbers and of floats"),
    "float weight": ([*START, "MatMul d wf -> r", *END], "of dequantised numbers and of floats"),
    "float bias": ([*START, WEIGHT, "Gemm d v bf -> r", *END], "of dequantised numbers and of floats"),
    "float kernel": ([*IMAGE, "Conv d kf -> g", "Flatten g -> r", *END], "of dequantised numbers and of floats"),
    "another step": ([*START, "QuantizeLinear d other zx -> f", "DequantizeLinear f other zx -> y"], "with another step"),
    "step of the bias": ([*START, WEIGHT, "DequantizeLinear b other zb -> c", "Gemm d v c -> r", *END], "not in steps of the product's"),
    "no bias to look at": ([*START, WEIGHT, "DequantizeLinear b sb zb -> a", "Gemm d v d -> r", *END], "not in steps of the product's"),
    "overflow": ([*START, WEIGHT, "DequantizeLinear huge sb zb -> c", "Gemm d v c -> r", *END], "32 bits"),
    "other types": (["QuantizeLinear x sx zh -> q", "DequantizeLinear q sx zh -> d", WEIGHT, "MatMul d v -> y"], "other types than 8 bits"),
    "softmax": ([*START, "Softmax d -> y"], "in whole numbers"),
}  # fmt: skip


def model(lines: Sequence[str], functions: Sequence[Any] = ()) -> bytes:
    nodes = []
    for line in lines:
        (kind, *inputs), (output,) = (part.split() for part in line.split("->"))
        nodes.append(helper.make_node(kind, inputs, [output], domain="mine" if kind == "Pair" else ""))
    used = {name for node in nodes for name in node.input}
    numbers = [numpy_helper.from_array(np.asarray(value), name) for name, value in CONSTANTS.items() if name in used]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, N]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "quantised", ends[:1], ends[1:], numbers)
    sets = [helper.make_opsetid("", 21), *([helper.make_opsetid("mine", 1)] if functions else [])]
    return bytes(helper.make_model(graph, opset_imports=sets, ir_version=10, functions=functions).SerializeToString())


def executions(content: bytes, points: Array) -> Array:
    found = []
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        session = onnxruntime.InferenceSession(content, options)
        found.append(np.concatenate([session.run(None, {"x": x[None]})[0].reshape(1, N) for x in points]))
    return np.array(found)


@pytest.mark.parametrize("name", AGREES)
def test_what_has_a_rule_stays_within_it(name: str) -> None:
    content = model(AGREES[name])
    net, points = read(content), RANDOM.uniform(-3, 3, (200, N)).astype(np.float32)
    points[:20] = (RANDOM.integers(-100, 100, (20, N)) + 0.5).astype(np.float32) * OF_X  # between two steps
    state = Checker(net, Slack(net)).state(len(points), points.astype(np.float64), points.astype(np.float64), {}, {}, 0)
    at = net.outputs[0]
    for found in executions(content, points):
        assert (state.lower[at] <= found).all() and (found <= state.upper[at]).all()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_computed_otherwise_has_no_rule(name: str) -> None:
    lines, why = REFUSED[name]
    net = read(model(lines))
    with pytest.raises(Rejected, match=f"float32-no-rule: .*{why}"):
        Slack(net)
    state = Checker(net, None).state(1, np.full((1, N), -1.0), np.ones((1, N)), {}, {}, 0)
    assert state.upper[net.outputs[0]].shape == (1, N)  # over the reals there is


def test_pairs_inside_functions_are_not_looked_into() -> None:
    inside = [helper.make_node("QuantizeLinear", ["a", "s"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["b"])]
    pair = helper.make_function("mine", "Pair", ["a", "s"], ["b"], inside, [helper.make_opsetid("", 21)])
    with pytest.raises(Rejected, match="float32-no-rule: DequantizeLinear inside"):
        Slack(read(model(["Pair x sx -> y"], [pair])))


@pytest.mark.parametrize("count, fits", [(30_000, True), (34_000, False)])
def test_long_sums_of_varying_whole_numbers(count: int, fits: bool) -> None:
    """x and x again, both of 8 bits, along `count` elements."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]), helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
        helper.make_node("Reshape", ["d", "column"], ["t"]), helper.make_node("MatMul", ["d", "t"], ["y"]),
    ]  # fmt: skip
    numbers = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.array([count, 1]), "column")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [1, count]), ("y", [1, 1]))]
    graph = helper.make_graph(nodes, "long", ends[:1], ends[1:], numbers)
    net = read(bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()))
    assert ("32 bits" in net.rewritten) is not fits and bool(net.rewritten) is not fits
