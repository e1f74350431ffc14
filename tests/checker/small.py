"""A network small enough to check by hand, with properties of it: Y = scale (relu(X_0 + X_1) + relu(X_0 - X_1)).

On -1 <= X <= 1, with scale 1, it takes all values of [0, 2]; intervals say Y <= 4, a backward pass says Y <= X_0 + 2.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def model(scale: float = 1.0) -> bytes:
    """X [1, 2] -> Gemm "h" -> Relu "r" -> Gemm "Y" [1, 1]."""
    weights = {"W": [[1, 1], [1, -1]], "b": [0, 0], "V": [[scale], [scale]], "c": [0]}
    nodes = [
        helper.make_node("Gemm", ["X", "W", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "V", "c"], ["Y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("X", [1, 2]), ("Y", [1, 1])))
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "small", [x], [y], constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def softmax_model() -> bytes:
    """X [1, 2] -> Softmax "s" -> Gemm "Y" [1, 1], the first of both shares."""
    constants = [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in (("V", [[1], [0]]), ("c", [0]))]
    nodes = [helper.make_node("Softmax", ["X"], ["s"], axis=1), helper.make_node("Gemm", ["s", "V", "c"], ["Y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("X", [1, 2]), ("Y", [1, 1])))
    made = helper.make_model(helper.make_graph(nodes, "small", [x], [y], constants), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


def text(unsafe: str, lower: float = -1.0, upper: float = 1.0) -> bytes:
    """The property that `unsafe`, a formula, does not hold anywhere in the box."""
    names = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0"))
    box = "".join(f"(assert (>= {name} {lower}))\n(assert (<= {name} {upper}))\n" for name in ("X_0", "X_1"))
    return f"{names}{box}(assert {unsafe})\n".encode()
