"""Networks whose input is a constant: what the loader computes of them must be what onnxruntime computes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from benchmarks.strategies import OPERATORS, OPSETS, boxes, convolved, layered, networks, points
from bounds.torch_graph import TorchGraph
from graph.evaluate import evaluate
from graph.load import load
from tests.effort import examples
from tests.graph.graph_models import model, node

fast = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
thin = settings(max_examples=examples(4), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def beside_a_constant(model: onnx.ModelProto, x: Any) -> bytes:
    """The model of z -> z + f(x), where f is the network of the model and x stands in the file."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    (result,), (given_,) = model.graph.output, [item for item in model.graph.input if item.name not in {t.name for t in model.graph.initializer}]
    shape = [d.dim_value for d in result.type.tensor_type.shape.dim]
    model.graph.initializer.append(numpy_helper.from_array(x, given_.name))
    model.graph.node.append(helper.make_node("Add", ["free input", result.name], ["free output"]))
    model.graph.input.remove(given_)
    model.graph.input.append(helper.make_tensor_value_info("free input", TensorProto.FLOAT, shape))
    model.graph.output.remove(result)
    model.graph.output.append(helper.make_tensor_value_info("free output", TensorProto.FLOAT, shape))
    return model.SerializeToString()


def executed(network: Any, x: Any) -> tuple[Any, Any]:
    """The flat outputs of onnxruntime at the flat input x, and x as the network takes it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(network.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    held = x.astype(np.float32).reshape(network.input_shape)
    return session.run(None, {"x": held})[0].reshape(-1), held


def folds_as_it_runs(data: st.DataObject, network: Any) -> None:
    expected, held = executed(network, data.draw(points(data.draw(boxes(math.prod(network.input_shape))))))
    graph = load(beside_a_constant(network.model, held)).graph
    (found,) = TorchGraph(graph, torch.float64).evaluate(torch.zeros(1, expected.size, dtype=torch.float64))[-1]
    assert np.abs(found.numpy() - expected).max() <= 2 * network.error


@fast
@given(st.data())
def test_a_network_of_a_constant_folds_as_it_runs(data: st.DataObject) -> None:
    folds_as_it_runs(data, data.draw(networks(opsets=OPSETS) | convolved(opsets=OPSETS) | layered(opsets=OPSETS)))


@pytest.mark.parametrize("operator", OPERATORS)
@thin
@given(st.data())
def test_an_operator_of_a_constant_folds_as_it_runs(operator: str, data: st.DataObject) -> None:
    folds_as_it_runs(data, data.draw(networks(operators=(operator,), opsets=OPSETS)))


POOLS: list[tuple[str, list[float], dict[str, Any]]] = [
    ("MaxPool", [1], {"kernel_shape": [3, 3], "pads": [1, 1, 2, 2]}),
    ("MaxPool", [1], {"kernel_shape": [1, 3], "pads": [0, 1, 0, 1], "ceil_mode": 1}),
    ("MaxPool", [1], {"kernel_shape": [1, 2], "pads": [0, 1, 0, 0]}),
    ("AveragePool", [1, 2, 3, 4], {"kernel_shape": [1, 3], "strides": [1, 3], "ceil_mode": 1}),
    ("LpPool", [1, 2, 3, 4], {"kernel_shape": [1, 2], "pads": [0, 1, 0, 0]}),
]


@pytest.mark.parametrize(("kind", "row", "attributes"), POOLS)
def test_pools_of_constants_have_the_edges_that_onnxruntime_has(kind: str, row: list[float], attributes: dict[str, Any]) -> None:
    """onnx's reference implementation, which folded them, has others where pads differ or with ceil_mode: a false unsat, refused by the checker."""
    nodes = [node(kind, ["c"], ["p"], **attributes), node("ReduceSum", ["p"], ["s"], keepdims=0), node("Add", ["x", "s"])]
    data = model(nodes, {"x": (1,)}, weights={"c": np.array(row, np.float32).reshape(1, 1, 1, -1)}, opset=17)
    (expected,) = onnxruntime.InferenceSession(data).run(None, {"x": np.zeros(1, np.float32)})
    graph = load(data).graph
    assert evaluate(graph, {"x": np.zeros(1)})[graph.outputs[0]].item() == pytest.approx(float(expected[0]), rel=1e-6)
