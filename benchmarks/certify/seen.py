"""What a region's transformation makes of its numbers, for people to look at: the sample as the model sees it at a counterexample."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from benchmarks.certify.compose import Draft, Transform

Array = NDArray[Any]
OPSET, IR = 13, 8


def sample(transform: Transform, x: Array) -> Array:
    """The (first) sample, flat, that the transformation makes of x [k]."""
    draft = Draft()
    made = transform(draft, "x")[0]
    graph = helper.make_graph(draft.nodes, "transformation", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
                              [helper.make_tensor_value_info(made, TensorProto.FLOAT, None)], draft.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x.astype(np.float32)})[0]).ravel()
