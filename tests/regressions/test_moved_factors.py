"""Orders of float32 that the slack had not paid for, found where a narrow peak hid them from the comparison at load. A mean adds before it divides,
and a scaled product of matrices is scaled afterwards, so that what ends in range may overflow on the way. onnxruntime joins constant factors on all
sides of a product of matrices into one, and applies it last: what overflows, and what is flushed, is then another number. And its Tanh multiplies
by 0.0049, so that with flushing it loses more than what it reads and what it gives. Each was an accepted float32 certificate."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.defs import onnx_opset_version

from verifier.checker.bounds import Checker
from verifier.checker.network import Network
from verifier.checker.read_model import read
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.checker.state import State

LEVELS = onnxruntime.GraphOptimizationLevel
X = np.full((1, 1), 0.75, np.float32)
ROW, ONE = (1, 8), (1, 1)

# per model: nodes "OP inputs -> output", constants (a number, or a number and a shape); what the reals have at 0.75
OVERFLOWS = {
    "mean": (
        ["Mul x big -> a", "Relu a -> r", "MatMul r row -> b", "ReduceMean b -> c", "Relu c -> d", "Mul d small -> y"],
        {"big": 1e19, "row": (1e19, ROW), "small": 1e-20},
    ),
    "average": (
        ["Mul x big -> a", "Relu a -> r", "Mul r big -> b", "Mean b b b b b b b b -> c", "Relu c -> d", "Mul d small -> y"],
        {"big": 1e19, "small": 1e-20},
    ),
    "gemm": (["Mul x big -> a", "Gemm a one -> b", "Mul b small -> y"], {"big": 2.0**90, "one": (2.0**60, ONE), "small": 2.0**-90}),
    "scaler": (["Mul x big -> a", "Relu a -> r", "Mul r big -> s", "Scaler s -> b", "Mul b small -> y"], {"big": 1e19, "small": 1e-19}),
    "factor": (
        ["Mul x big -> a", "Relu a -> b", "Mul b less -> c", "MatMul c one -> d", "Relu d -> e", "Mul e small -> y"],
        {"big": 2.0**90, "less": 2.0**-90, "one": (2.0**70, ONE), "small": 2.0**-70},
    ),
    "joined": (
        ["Mul x less -> a", "Relu a -> b", "Mul b big -> c", "Transpose c -> d", "MatMul c d -> e", "MatMul e c -> y"],
        {"less": 1e-20, "big": 1e20},
    ),
    "factors": (
        ["Mul x big -> a", "Relu a -> b", "Mul b less -> c", "Transpose b -> t", "Mul t less -> d", "MatMul c d -> e", "Mul e small -> y"],
        {"big": 1e25, "less": 1e-20, "small": 1e-10},
    ),
}  # fmt: skip
FLUSHED = {
    "factor": (
        ["Mul x less -> a", "Relu a -> b", "Mul b big -> c", "MatMul c one -> d", "Relu d -> e", "Mul e more -> y"],
        {"less": 2.0**-90, "big": 2.0**90, "one": (2.0**-70, ONE), "more": 2.0**70},
    ),
    "factors": (
        ["Mul x big -> a", "Relu a -> b", "Mul b less -> c", "MatMul c one -> d", "Mul d less -> e", "Mul e more -> y"],
        {"big": 1e15, "less": 1e-23, "one": (1e23, ONE), "more": 1e8},
    ),
    "varying": (
        ["Mul x big -> a", "Relu a -> b", "Mul b less -> c", "Mul x one -> w", "Add w one -> v",
         "MatMul c v -> d", "Mul d less -> e", "Mul e more -> y"],
        {"big": 1e15, "less": 1e-23, "one": (1e23, ONE), "more": 1e8},
    ),
}  # fmt: skip
ATTRIBUTES = {"Gemm": {"alpha": 2.0**-60}, "Scaler": {"offset": [-3e38], "scale": [1e-19], "domain": "ai.onnx.ml"}, "Transpose": {"perm": [1, 0]}}


def model(lines: list[str], constants: dict[str, float | tuple[float, tuple[int, ...]]]) -> bytes:
    nodes = []
    for line in lines:
        (kind, *inputs), (output,) = (part.split() for part in line.split("->"))
        nodes.append(helper.make_node(kind, inputs, [output], **ATTRIBUTES.get(kind, {})))
    numbers = [
        numpy_helper.from_array(np.float32(c) if isinstance(c, float) else np.full(c[1], c[0], np.float32), name) for name, c in constants.items()
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "orders", ends[:1], ends[1:], numbers)
    sets = [helper.make_opsetid("", min(17, onnx_opset_version())), helper.make_opsetid("ai.onnx.ml", 3)]
    return bytes(helper.make_model(graph, opset_imports=sets, ir_version=8).SerializeToString())


def executions(content: bytes) -> list[float]:
    found = []
    for level in (LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        found.append(float(onnxruntime.InferenceSession(content, options).run(None, {"x": X})[0].ravel()[0]))
    return found


def in_float32(net: Network, x: float) -> State:
    point = np.array([[x]])
    return Checker(net, Slack(net)).state(1, point, point, {}, {}, 0)


@pytest.mark.parametrize("name", OVERFLOWS)
def test_what_overflows_in_some_order_is_rejected(name: str) -> None:
    content = model(*OVERFLOWS[name])
    assert not np.isfinite(executions(content)).all()
    with pytest.raises(Rejected, match="float32-overflow"):
        in_float32(read(content), 0.75)


@pytest.mark.parametrize("name", FLUSHED)
def test_what_is_flushed_in_some_order_is_paid_for(name: str) -> None:
    content = model(*FLUSHED[name])
    found = executions(content)
    assert min(found) == 0.0 < 0.5 < max(found)
    net = read(content)
    try:
        state = in_float32(net, 0.75)
    except Rejected as reason:
        assert "float32-overflow" in str(reason)
        return
    assert float(state.lower[net.outputs[0]][0, 0]) <= 0.0


def test_tanh_with_subnormals_as_zero() -> None:
    """onnxruntime sets this once for the process, by its first session."""
    content = model(["Tanh x -> y"], {})
    run = (
        "import sys, numpy, onnxruntime\n"
        "options = onnxruntime.SessionOptions()\n"
        "options.add_session_config_entry('session.set_denormal_as_zero', '1')\n"
        "session = onnxruntime.InferenceSession(sys.stdin.buffer.read(), options)\n"
        "print(float(session.run(None, {'x': numpy.full((1, 1), 2e-36, numpy.float32)})[0].ravel()[0]))\n"
    )
    said = float(subprocess.run([sys.executable, "-c", run], input=content, capture_output=True, check=True).stdout)
    net = read(content)
    state, at = in_float32(net, float(np.float32(2e-36))), net.outputs[0]
    assert state.lower[at][0, 0] <= said <= state.upper[at][0, 0]
