"""A recurrent operator whose file gives an activation's numbers nowhere: onnxruntime takes 0 for them where the standard's default is 1. A narrow
peak hid that from the comparison at load, and `unsat` was certified of what onnxruntime does not compute. Such files are refused; of what else they
may leave out onnxruntime and we have the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from graph.errors import UnsupportedOperator
from graph.evaluate import evaluate
from graph.load import load
from verifier.checker.read_model import read
from verifier.checker.refusal import Rejected

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
BEFORE = {"RNN": [], "GRU": ["Sigmoid"], "LSTM": ["Sigmoid", "Tanh"]}
BOTH = {"activation_alpha": [0.5], "activation_beta": [2.0]}
NUMBERS = {"ThresholdedRelu": {"activation_alpha": [0.5]}, "Affine": BOTH, "ScaledTanh": BOTH}
MAY_LEAVE_OUT = ("Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")


def cell(kind: str, function: str, steps: int = 1, **attributes: Any) -> bytes:
    """`steps` numbers from -3 to 3, each a sequence of its own, through a cell whose last activation is `function`."""
    n = GATES[kind]
    node = helper.make_node(kind, ["x", "w", "r"], ["", "y"], hidden_size=1, activations=[*BEFORE[kind], function], **attributes)
    weights = [numpy_helper.from_array(np.full((1, n, 1), value, np.float32), name) for name, value in (("w", 1.0), ("r", 0.0))]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, steps, 1]) for name in ("x", "y")]
    graph = helper.make_graph([node], "cell", ends[:1], ends[1:], weights)
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8).SerializeToString())


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("function", NUMBERS)
def test_numbers_that_nobody_agrees_on_have_to_be_there(kind: str, function: str) -> None:
    with pytest.raises(UnsupportedOperator, match="activation_alpha"):
        load(cell(kind, function))
    with pytest.raises(Rejected, match=f"{function.lower()} without its numbers"):
        read(cell(kind, function))
    for name in NUMBERS[function]:
        with pytest.raises(UnsupportedOperator, match="activation_alpha"):
            load(cell(kind, function, **{k: v for k, v in NUMBERS[function].items() if k != name}))
    _agrees(cell(kind, function, 64, **NUMBERS[function]))


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("function", MAY_LEAVE_OUT)
def test_what_may_be_left_out_is_what_onnxruntime_takes(kind: str, function: str) -> None:
    _agrees(cell(kind, function, 64))


def _agrees(content: bytes) -> None:
    x = np.linspace(-3, 3, 64, dtype=np.float32).reshape(1, 64, 1)
    graph = load(content).graph
    ours = evaluate(graph, [x.reshape(1, -1)])[graph.outputs[0]]
    theirs = onnxruntime.InferenceSession(content).run(["y"], {"x": x})[0]
    np.testing.assert_allclose(ours.reshape(-1), theirs.reshape(-1), rtol=1e-5, atol=1e-6)
