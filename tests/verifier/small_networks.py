"""Small networks and properties whose truth is known by construction, for the tests of this room."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from graph.load import Model, load
from specs.canonical import Property
from specs.vnnlib import parse


def model(nodes: list[onnx.NodeProto], n_in: int, n_out: int, **weights: np.ndarray) -> Model:
    """An ONNX file with input `x` [1, n_in] and output `y` [1, n_out], loaded."""
    return load(onnx_file(nodes, n_in, n_out, **weights))


def onnx_file(nodes: list[onnx.NodeProto], n_in: int, n_out: int, **weights: np.ndarray) -> bytes:
    """The same as a file."""
    graph = helper.make_graph(
        nodes, "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, n_out])],
        [numpy_helper.from_array(np.asarray(w, dtype=np.float32), name) for name, w in weights.items()],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())


def linear(weight: np.ndarray, bias: np.ndarray | None = None) -> Model:
    """y = x W + b."""
    w = np.asarray(weight, dtype=np.float32)
    b = np.zeros(w.shape[1]) if bias is None else bias
    return model([helper.make_node("Gemm", ["x", "w", "b"], ["y"])], w.shape[0], w.shape[1], w=w, b=b)


def relu_net(w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray) -> Model:
    """y = relu(x W1 + b1) W2 + b2."""
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
    ]
    return model(nodes, len(w1), np.asarray(w2).shape[1], w1=w1, b1=b1, w2=w2, b2=b2)


def clause_net(clauses: list[list[int]], variables: int) -> Model:
    """A formula in conjunctive normal form (literals +-1, +-2, ...): y_0 = minus the clauses that no literal satisfies, y_1 = how far the
    inputs in [0, 1] are from 0 and 1 together. Both are 0 exactly where the inputs satisfy the formula."""
    signs = np.zeros((variables, len(clauses)))
    for k, clause in enumerate(clauses):
        for literal in clause:
            signs[abs(literal) - 1, k] = 1 if literal > 0 else -1
    eye, none = np.eye(variables), np.zeros((variables, 1))
    w1, b1 = np.hstack([-signs, eye, 2 * eye]), np.concatenate([1 - (signs < 0).sum(0), np.zeros(variables), -np.ones(variables)])
    w2 = np.vstack([np.hstack([-np.ones((len(clauses), 1)), np.zeros((len(clauses), 1))]), np.hstack([none, none + 1]), np.hstack([none, none - 1])])
    return relu_net(w1, b1, w2, np.zeros(2))


def distance_net(target: np.ndarray) -> Model:
    """y = sum |x_i - target_i|: zero at exactly one point, reached by descent and not by sampling."""
    n = len(target)
    eye = np.eye(n)
    return relu_net(np.hstack([eye, -eye]), np.concatenate([-target, target]), np.ones((2 * n, 1)), np.zeros(1))


def text(boxes: list[tuple[str, str]], n_out: int, unsafe: str) -> Property:
    """A VNN-LIB 1.0 property: decimal bounds of X_0, X_1, ... and one formula for what is unsafe."""
    return parse(vnnlib_file(boxes, n_out, unsafe), "test")


def vnnlib_file(boxes: list[tuple[str, str]], n_out: int, unsafe: str) -> str:
    """The same as a file."""
    lines = [f"(declare-const X_{i} Real)" for i in range(len(boxes))] + [f"(declare-const Y_{j} Real)" for j in range(n_out)]
    for i, (lower, upper) in enumerate(boxes):
        lines += [f"(assert (>= X_{i} {lower}))", f"(assert (<= X_{i} {upper}))"]
    return "\n".join([*lines, f"(assert {unsafe})"])


def decimal(value: float) -> str:
    """The exact decimal expansion of a double."""
    q = Fraction(value)
    digits = q.denominator.bit_length() - 1
    scaled = str(abs(q.numerator) * 5**digits).rjust(digits + 1, "0")
    return ("-" if q < 0 else "") + (f"{scaled[:-digits]}.{scaled[-digits:]}" if digits else scaled)
