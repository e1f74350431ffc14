"""Architectures as ONNX: nodes as PyTorch's exporter writes them (Gemm with transB, MatMul and Add over tokens), names that say nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.soundness.train.architectures import Architecture
from benchmarks.soundness.train.layers import AveragePool, Conv, Shape, write

Array = NDArray[Any]
OPSET, IR_VERSION = 17, 8


class Onnx:
    """A `Language` of tensor names. The batch is 1."""

    def __init__(self, parameters: Sequence[Array], shape: Shape) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._parameters: Iterator[Array] = iter(parameters)
        self._shapes: dict[str, Shape] = {"X": shape}

    def parameter(self, shape: Shape, fan_in: int) -> str:
        value = next(self._parameters)
        if value.shape != shape:
            raise ValueError(f"a parameter of shape {value.shape} where {shape} is needed")
        return self._constant(value.astype(np.float32))

    def shape(self, x: str) -> Shape:
        return self._shapes[x]

    def dense(self, x: str, weight: str, bias: str) -> str:
        shape = (*self.shape(x)[:-1], self.shape(weight)[1])
        if len(shape) > 1:
            return self._node("Add", [self._node("MatMul", [x, weight], shape), bias], shape)
        at = next(k for k, tensor in enumerate(self.initializers) if tensor.name == weight)
        self.initializers[at] = numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(self.initializers[at]).T), weight)
        return self._node("Gemm", [x, weight, bias], shape, transB=1)

    def conv(self, x: str, weight: str, bias: str, layer: Conv) -> str:
        shape = (layer.channels, *self._sides(x, layer.kernel, layer.stride, layer.pad))
        return self._node("Conv", [x, weight, bias], shape, **_window(layer.kernel, layer.stride, layer.pad))

    def average_pool(self, x: str, layer: AveragePool) -> str:
        shape = (self.shape(x)[0], *self._sides(x, layer.kernel, layer.stride, layer.pad))
        window = _window(layer.kernel, layer.stride, layer.pad)
        return self._node("AveragePool", [x], shape, **window, count_include_pad=int(layer.counts_padding))

    def activation(self, x: str, kind: str) -> str:
        return self._node(kind, [x], self.shape(x))

    def add(self, a: str, b: str) -> str:
        return self._node("Add", [a, b], self.shape(a))

    def scale(self, x: str, factor: float) -> str:
        return self._node("Mul", [x, self._constant(np.array(factor, dtype=np.float32))], self.shape(x))

    def matmul(self, a: str, b: str) -> str:
        return self._node("MatMul", [a, b], (*self.shape(a)[:-1], self.shape(b)[-1]))

    def softmax(self, x: str) -> str:
        return self._node("Softmax", [x], self.shape(x), axis=-1)

    def reshape(self, x: str, shape: Shape) -> str:
        if len(shape) == 1:
            return self._node("Flatten", [x], shape, axis=1)
        return self._node("Reshape", [x, self._constant(np.array([-1, *shape], dtype=np.int64))], shape)

    def transpose(self, x: str, order: tuple[int, ...]) -> str:
        shape = tuple(self.shape(x)[axis] for axis in order)
        return self._node("Transpose", [x], shape, perm=[0, *(axis + 1 for axis in order)])

    def mean(self, x: str, axis: int) -> str:
        shape = tuple(n for k, n in enumerate(self.shape(x)) if k != axis)
        return self._node("ReduceMean", [x], shape, axes=[axis + 1], keepdims=0)

    def _sides(self, x: str, kernel: int, stride: int, pad: int) -> Shape:
        return tuple((n + 2 * pad - kernel) // stride + 1 for n in self.shape(x)[1:])

    def _constant(self, value: Array) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(value, name))
        self._shapes[name] = value.shape
        return name

    def _node(self, operator: str, inputs: list[str], shape: Shape, **attributes: Any) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        self._shapes[name] = shape
        return name


def _window(kernel: int, stride: int, pad: int) -> dict[str, list[int]]:
    return {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": [pad] * 4}


def export(architecture: Architecture, parameters: Sequence[Array]) -> onnx.ModelProto:
    """The file: X float32 [1, *shape] to Y float32 [1, 2]. Raises ValueError, onnx.checker.ValidationError."""
    language = Onnx(parameters, architecture.shape)
    last = write(architecture.layers, "X", language)
    language.nodes[-1].output[0] = "Y"
    if last != f"t{len(language.nodes) - 1}" or language.shape(last) != (2,):
        raise ValueError("the last node of an architecture makes its two outputs")
    x = helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, *architecture.shape])
    y = helper.make_tensor_value_info("Y", TensorProto.FLOAT, [1, 2])
    graph = helper.make_graph(language.nodes, "main", [x], [y], language.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model
