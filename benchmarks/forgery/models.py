"""Small random ONNX models of every kind of node that the checker has a rule for, written in a few lines each."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Random = np.random.Generator

PIECES = ("Relu", "LeakyRelu", "Abs", "Clip", "Max")
SMOOTH = ("Sigmoid", "Tanh", "Sin", "Cos", "Exp", "Pow2", "Pow3")
KINDS = ("dense", "linear", "residual", "convolution", "pieces", "smooth", "product", "softmax", "pooling")


@dataclass
class _Graph:
    """Nodes and constants so far."""

    random: Random
    scale: float
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def emit(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=f"n{len(self.nodes)}", **attributes))
        return name

    def weights(self, *shape: int) -> Array:
        """Normal numbers, or short ones that cancel, of about unit gain."""
        numbers = self.random.standard_normal(shape) if self.random.random() < 0.7 else self.random.integers(-4, 5, shape) / 4.0
        return np.asarray(numbers * self.scale / math.sqrt(max(1, math.prod(shape[1:]))), np.float32)

    def gemm(self, x: str, n: int, m: int) -> str:
        bias = self.weights(m) if self.random.random() < 0.8 else np.zeros(m)
        return self.emit("Gemm", x, self.constant(self.weights(m, n)), self.constant(bias), transB=1)

    def activation(self, x: str, name: str) -> str:
        match name:
            case "LeakyRelu":
                return self.emit(name, x, alpha=float(np.float32(self.random.choice([0.125, 0.01, 0.5]))))
            case "Clip":
                return self.emit(name, x, self.constant(np.float32(-0.5)), self.constant(np.float32(0.75)))
            case "Max":
                return self.emit(name, x, self.constant(np.float32(0.125).reshape(1)))
            case "Pow2" | "Pow3":
                return self.emit("Pow", x, self.constant(np.float32(name[-1]).reshape(1)))
        return self.emit(name, x)


def random_model(random: Random, kind: str) -> bytes:
    """A model x [1, n] or [1, c, h, w] -> y [1, m]."""
    graph = _Graph(random, float(random.choice([0.5, 1.0, 1.0, 2.0])))
    n, m, width = int(random.integers(1, 5)), int(random.integers(1, 4)), int(random.integers(2, 7))
    shape: tuple[int, ...] = (1, n)
    match kind:
        case "dense" | "linear" | "pieces" | "smooth":
            names = {"dense": ("Relu",), "linear": ("Relu",), "pieces": PIECES, "smooth": SMOOTH}[kind]
            last = graph.activation(graph.gemm("x", n, width), str(random.choice(names)))
            for _ in range(int(random.integers(2, 5) if kind == "linear" else random.integers(0, 3))):  # deep: so that much is rounded
                last = graph.activation(graph.gemm(last, width, width), str(random.choice(names)))
        case "residual":
            base = graph.emit("Relu", graph.gemm("x", n, width))
            inner = graph.emit("Relu", graph.gemm(base, width, width))
            last = graph.emit("Relu", graph.emit(str(random.choice(["Add", "Sub"])), graph.gemm(inner, width, width), base))
        case "product":
            left, right = (graph.activation(graph.gemm("x", n, width), str(random.choice(("Relu", "Tanh")))) for _ in range(2))
            last = graph.emit("Mul", left, graph.gemm("x", n, width) if random.random() < 0.3 else right)
        case "softmax":
            scores = graph.emit("Softmax", graph.gemm("x", n, width), axis=-1)
            last = graph.emit("Mul", scores, graph.gemm("x", n, width))
        case _:
            shape, last, width = _image(graph, kind == "pooling")
    out = graph.gemm(last, width, m)
    value = helper.make_tensor_value_info
    made = helper.make_graph(graph.nodes, kind, [value("x", TensorProto.FLOAT, shape)], [value(out, TensorProto.FLOAT, (1, m))], graph.constants)
    return bytes(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def recentred(data: bytes, output: int, value: float) -> bytes:
    """The same model with `value` taken off an output: what is left of it there is much smaller than what its sums round."""
    model = onnx.load_model_from_string(data)
    bias = numpy_helper.to_array(model.graph.initializer[-1]).copy()  # of the last Gemm
    bias[output] -= np.float32(value)
    model.graph.initializer[-1].CopyFrom(numpy_helper.from_array(bias, model.graph.initializer[-1].name))
    return bytes(model.SerializeToString())


def _image(graph: _Graph, pooled: bool) -> tuple[tuple[int, ...], str, int]:
    """Convolutions with padding on a small image; the flat result and its size."""
    random = graph.random
    channels, side, out = int(random.integers(1, 3)), int(random.integers(3, 5)), int(random.integers(1, 3))
    layout = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    last = graph.emit("Conv", "x", graph.constant(graph.weights(out, channels, 3, 3)), graph.constant(graph.weights(out)), **layout)
    last = graph.emit("Relu", last)
    if pooled:
        last = graph.emit(str(random.choice(["MaxPool", "AveragePool"])), last, kernel_shape=[2, 2])
    size = out * (side - pooled) ** 2
    return (1, channels, side, side), graph.emit("Flatten", last), size
