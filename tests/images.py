"""Small networks on images, as files: what the tests of parts of networks (`bounds.crop`, `verifier.checker.crop`) take apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class _File:
    """Nodes one after the other; weights are drawn."""

    def __init__(self, shape: tuple[int, ...], seed: int) -> None:
        self.shape, self.rng, self.nodes, self.weights = shape, np.random.default_rng(seed), list[onnx.NodeProto](), list[onnx.TensorProto]()

    def weight(self, *shape: int) -> str:
        return self.constant(self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]) + 1))

    def constant(self, value: Any) -> str:
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"h{len(self.nodes)}"], **attributes))
        return f"h{len(self.nodes) - 1}"

    def bytes(self, last: str) -> bytes:
        graph = helper.make_graph(
            self.nodes, "images", [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)], self.weights,
        )
        return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())


def residual() -> bytes:
    """Strides, dilations, groups and uneven padding; shortcuts with and without a convolution; a function that reads a sum which others read."""
    f = _File((1, 2, 12, 12), 0)
    a = f.add("Relu", f.add("Conv", "x", f.weight(4, 2, 3, 3), f.weight(4), pads=[1, 1, 1, 1]))
    b = f.add("Conv", a, f.weight(6, 2, 3, 3), f.weight(6), strides=[2, 2], pads=[1, 1, 1, 2], dilations=[1, 2], group=2)
    c = f.add("Add", b, f.add("Conv", a, f.weight(6, 4, 1, 1), strides=[2, 2]))
    d = f.add("Conv", f.add("Relu", c), f.weight(6, 6, 3, 3), f.weight(6), pads=[1, 1, 1, 1])
    e = f.add("Mul", d, f.constant(np.linspace(0.5, 1.5, 6).reshape(1, 6, 1, 1)))
    e = f.add("Add", e, f.add("Conv", c, f.weight(6, 6, 5, 5), pads=[2, 2, 2, 2]))
    return f.bytes(f.add("Conv", f.add("Relu", e), f.weight(3, 6, 3, 3), pads=[1, 1, 1, 1]))


def pooled() -> bytes:
    """Channels last, padding of its own, pools of both kinds, a maximum with constants, constant channels."""
    f = _File((1, 12, 12, 2), 1)
    a = f.add("Pad", f.add("Transpose", "x", perm=[0, 3, 1, 2]), f.constant(np.array([0, 0, 1, 0, 0, 0, 0, 1])))
    b = f.add("MaxPool", f.add("Conv", a, f.weight(4, 2, 3, 3), f.weight(4)), kernel_shape=[2, 2], strides=[2, 2], pads=[0, 1, 1, 0])
    c = f.add("Max", f.add("Conv", b, f.weight(4, 4, 3, 3), pads=[1, 1, 1, 1]), f.constant(f.rng.standard_normal((1, 4, 6, 6)) / 4))
    c = f.add("Concat", f.constant(f.rng.standard_normal((1, 1, 6, 6))), c, axis=1)
    d = f.add("AveragePool", c, kernel_shape=[2, 2], pads=[1, 1, 0, 0])
    return f.bytes(f.add("Conv", f.add("Tanh", f.add("Conv", d, f.weight(4, 5, 3, 3), pads=[1, 1, 1, 1])), f.weight(2, 4, 3, 3), pads=[1, 1, 1, 1]))


def sequence() -> bytes:
    """One spatial axis, and an input that is flat."""
    f = _File((1, 60), 2)
    a = f.add("Reshape", "x", f.constant(np.array([1, 2, 30])))
    b = f.add("LeakyRelu", f.add("Conv", a, f.weight(4, 2, 3), pads=[1, 1]), alpha=0.1)
    c = f.add("Relu", f.add("Conv", b, f.weight(4, 4, 3), f.weight(4), pads=[1, 1]))
    return f.bytes(f.add("Relu", f.add("Conv", c, f.weight(2, 4, 5), f.weight(2), pads=[2, 2])))


def volume() -> bytes:
    """Three spatial axes."""
    f = _File((1, 1, 6, 6, 6), 3)
    a = f.add("Relu", f.add("Conv", "x", f.weight(2, 1, 2, 2, 2), f.weight(2), pads=[0, 0, 0, 1, 1, 1]))
    b = f.add("Relu", f.add("Conv", a, f.weight(2, 2, 3, 3, 3), f.weight(2), pads=[1, 1, 1, 1, 1, 1]))
    return f.bytes(f.add("Conv", b, f.weight(2, 2, 3, 3, 3), strides=[2, 2, 2], pads=[1, 1, 1, 1, 1, 1]))


def upsampled() -> bytes:
    """Nearest neighbours, so that several outputs read one input; and a layer that reads everything, above which no part is smaller."""
    f = _File((1, 2, 8, 8), 4)
    a = f.add("Relu", f.add("Conv", "x", f.weight(3, 2, 3, 3), f.weight(3), pads=[1, 1, 1, 1]))
    b = f.add("Resize", a, "", f.constant(np.array([1.0, 1.0, 2.0, 2.0])), mode="nearest")
    c = f.add("Relu", f.add("Conv", b, f.weight(3, 3, 3, 3), f.weight(3), pads=[1, 1, 1, 1]))
    d = f.add("Gemm", f.add("Flatten", c), f.weight(8, 768), f.weight(8), transB=1)
    e = f.add("Reshape", f.add("Relu", d), f.constant(np.array([1, 2, 2, 2])))
    return f.bytes(f.add("Relu", f.add("Conv", e, f.weight(2, 2, 2, 2))))


def lit() -> bytes:
    """A number without axes that is taken from the input, and added to every pixel."""
    f = _File((1, 101), 5)
    image = f.add("Reshape", f.add("Slice", "x", f.constant(np.array([0])), f.constant(np.array([100])), f.constant(np.array([1]))),
                  f.constant(np.array([1, 1, 10, 10])))  # fmt: skip
    number = f.add("Relu", f.add("Gather", f.add("Reshape", "x", f.constant(np.array([101]))), f.constant(np.array(100)), axis=0))
    a = f.add("Relu", f.add("Conv", f.add("Add", image, number), f.weight(3, 1, 3, 3), f.weight(3), pads=[1, 1, 1, 1]))
    return f.bytes(f.add("Relu", f.add("Conv", a, f.weight(2, 3, 3, 3), f.weight(2), pads=[1, 1, 1, 1])))


NETWORKS = {made.__name__: made for made in (residual, pooled, sequence, volume, upsampled, lit)}
