"""A model-local function that imports another version of the standard's operators than the model does: the standard forbids it where operators
differ, and onnxruntime reads the body by the model's versions. Engine and checker read it by the function's own, and certified `unsat` of a Softmax
over all axes (before version 13) where onnxruntime computes one over the last."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import FunctionProto, ModelProto, TensorProto, helper, numpy_helper

from graph.errors import UnsupportedOperator
from graph.load import load
from verifier.checker.read_model import read
from verifier.checker.refusal import Rejected


def model(kind: str, functions: int, models: int, nested: bool = False) -> bytes:
    """y = f(x), where f is an operator in a function that imports `functions`, or such a function within one that imports `models`."""
    node, own = helper.make_node(kind, ["a"], ["b"]), [helper.make_opsetid("", functions)]
    inner: FunctionProto = helper.make_function("local", "inner", ["a"], ["b"], [node], own)
    both = [helper.make_opsetid("", models), helper.make_opsetid("local", 1)]
    outer = helper.make_function("local", "outer", ["a"], ["b"], [helper.make_node("inner", ["a"], ["b"], domain="local")], both)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2]) for name in ("x", "y")]
    nodes = [helper.make_node("outer" if nested else "inner", ["x"], ["s"], domain="local"), helper.make_node("Add", ["s", "one"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(np.ones(1, np.float32), "one")])
    proto: ModelProto = helper.make_model(graph, opset_imports=both, functions=[inner, outer] if nested else [inner], ir_version=8)
    return bytes(proto.SerializeToString())


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(("functions", "models"), [(11, 17), (17, 11)])
def test_operators_of_two_versions_are_refused(functions: int, models: int, nested: bool) -> None:
    with pytest.raises(UnsupportedOperator, match="Softmax differ"):
        load(model("Softmax", functions, models, nested))
    with pytest.raises(Rejected, match="Softmax"):
        read(model("Softmax", functions, models, nested))


@pytest.mark.parametrize(("kind", "functions", "models"), [("Softmax", 13, 17), ("Softmax", 17, 17), ("Exp", 13, 18), ("Softmax", 11, 12)])
def test_versions_that_do_not_differ_in_what_is_used_are_read(kind: str, functions: int, models: int) -> None:
    assert load(model(kind, functions, models)).opset == models
    assert read(model(kind, functions, models)).outputs
