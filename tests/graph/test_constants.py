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
from graph.load import load
from tests.effort import examples

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
