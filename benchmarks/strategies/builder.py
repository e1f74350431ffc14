"""A model under construction, with a bound of every tensor and of what a float32 execution loses on the way to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
Shape = tuple[int, ...]
Draw = Callable[[st.SearchStrategy[Any]], Any]

OPSET, IR_VERSION = 17, 8
ROUNDING = 2.0**-22  # more than one float32 operation loses, relative to its result
ACTIVATION_ERROR = 2.0**-17  # more than a runtime's Sigmoid, Tanh, Exp, Sin, ... loses, relative to max(1, result)
INPUT_ERROR = 2.0**-20  # networks bear inputs that are off by this much, so that inputs may be translated
_TAME = 64.0  # tensors are scaled down to this magnitude


@dataclass(frozen=True)
class Tensor:
    """A float tensor: its exact values lie in [-magnitude, magnitude], those of a float32 execution differ by at most `error`."""

    name: str
    shape: Shape
    magnitude: float
    error: float

    @property
    def size(self) -> int:
        return math.prod(self.shape)


@dataclass
class Builder:
    """Nodes, constants and tensors so far; `tensors` begins with the input."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)

    def constant(self, value: Array) -> str:
        """The name of a new initializer."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def emit(self, operator: str, inputs: list[str], shape: Shape, magnitude: float, error: float, **attributes: Any) -> Tensor:
        """Append a node; `error` is what the inputs' errors and the rounding of this operator amount to."""
        out = Tensor(f"t{len(self.nodes)}", shape, magnitude, error)
        self.nodes.append(helper.make_node(operator, inputs, [out.name], name=f"{operator}_{len(self.nodes)}", **attributes))
        self.tensors.append(out)
        return out

    def linear(
        self, operator: str, x: Tensor, operands: list[str], shape: Shape, gain: float, shift: float, terms: int, **attributes: Any
    ) -> Tensor:
        """A node with |out| <= gain |x| + shift that sums `terms` products."""
        magnitude = gain * x.magnitude + shift
        error = gain * x.error + (terms + 2) * ROUNDING * magnitude
        return self.emit(operator, [x.name, *operands], shape, magnitude, error, **attributes)

    def function(self, operator: str, x: Tensor, magnitude: float, lipschitz: float, inputs: tuple[str, ...] = (), **attributes: Any) -> Tensor:
        """A univariate function that a runtime may compute by a table."""
        error = lipschitz * x.error + ACTIVATION_ERROR * max(1.0, magnitude)
        return self.emit(operator, [x.name, *inputs], x.shape, magnitude, error, **attributes)

    def piecewise(self, operator: str, x: Tensor, magnitude: float, inputs: tuple[str, ...] = (), **attributes: Any) -> Tensor:
        """A univariate function of slopes at most 1 that takes at most one multiplication."""
        return self.emit(operator, [x.name, *inputs], x.shape, magnitude, x.error + 2 * ROUNDING * magnitude, **attributes)

    def reindexed(self, operator: str, x: Tensor, operands: list[str], shape: Shape, **attributes: Any) -> Tensor:
        """A node whose every output element is one of x (or its negative, or the largest of some)."""
        return self.emit(operator, [x.name, *operands], shape, x.magnitude, x.error, **attributes)

    def gemm(self, x: Tensor, weight: Array, bias: Array) -> Tensor:
        """x [1, n] times weight [n, m] plus bias [m]."""
        gain, shift = float(np.abs(weight).sum(axis=0).max()), largest(bias)
        return self.linear("Gemm", x, [self.constant(weight), self.constant(bias)], (1, weight.shape[1]), gain, shift, weight.shape[0] + 1)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        """x itself where it has the shape."""
        if x.shape == shape:
            return x
        return self.reindexed("Reshape", x, [self.constant(np.array(shape, np.int64))], shape)

    def tame(self, x: Tensor, limit: float = _TAME) -> Tensor:
        """x, scaled by a power of two if its bound is above `limit`."""
        if x.magnitude <= limit:
            return x
        factor = 2.0 ** -math.ceil(math.log2(x.magnitude / limit))
        return self.linear("Mul", x, [self.constant(np.float32(factor).reshape(1))], x.shape, factor, 0.0, 1)

    def model(self, output: Tensor) -> onnx.ModelProto:
        """The model from the first tensor to `output`, at OPSET."""
        value, x = helper.make_tensor_value_info, self.tensors[0]
        inputs, outputs = [value(x.name, TensorProto.FLOAT, x.shape)], [value(output.name, TensorProto.FLOAT, output.shape)]
        graph = helper.make_graph(self.nodes, "drawn", inputs, outputs, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="soundproof")


def weights(draw: Draw, *shape: int) -> Array:
    """float32 multiples of 1/64 in [-2, 2), one byte of choice each; they shrink to 0."""
    size = math.prod(shape)
    return (np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.int8) / np.float32(64)).astype(np.float32).reshape(shape)


def seldom(draw: Draw) -> bool:
    """True one time in four; it shrinks to False. For forms that many verifiers refuse, so that most networks are without."""
    return bool(draw(st.sampled_from((False, False, False, True))))


def largest(a: Array) -> float:
    """The largest magnitude in an array."""
    return float(np.abs(a).max())
