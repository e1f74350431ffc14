"""Tiny networks and properties for tests of the command, in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper


def save(
    path: Path, nodes: Sequence[onnx.NodeProto], constants: dict[str, object], *, shape: Sequence[int | str] = (1, 2), outputs: int = 2, kind: int = 1
) -> str:
    """Write a model x -> y to `path`; float constants take the element type `kind`. Returns the path."""
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    stored = [numpy_helper.from_array(np.asarray(v, dtype=dtype if np.asarray(v).dtype.kind == "f" else None), k) for k, v in constants.items()]
    ends = [helper.make_tensor_value_info("x", kind, list(shape)), helper.make_tensor_value_info("y", kind, [1, outputs])]
    graph = helper.make_graph(list(nodes), "g", ends[:1], ends[1:], stored)
    imports = [helper.make_opsetid(domain, 1 if domain else 13) for domain in sorted({"", *(n.domain for n in nodes)})]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8), path)
    return str(path)


def relu_network(path: Path, weight: object = ((1.0, 0.0), (0.0, 1.0)), bias: object = (0.0, 0.0)) -> str:
    """y = relu(W x + b)."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["z"], "fc", transB=1), helper.make_node("Relu", ["z"], ["y"], "act")]
    return save(path, nodes, {"w": weight, "b": bias})


def property_file(path: Path, unsafe: str = "(assert (>= Y_0 5.0))", *, inputs: int = 2, outputs: int = 2, upper: str = "1.0") -> str:
    """A box for all inputs, and `unsafe`. Returns the path."""
    lines = [f"(declare-const X_{i} Real)" for i in range(inputs)] + [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    lines += [f"(assert (<= X_{i} {upper}))\n(assert (>= X_{i} -1.0))" for i in range(inputs)]
    path.write_text("\n".join([*lines, unsafe]) + "\n")
    return str(path)
