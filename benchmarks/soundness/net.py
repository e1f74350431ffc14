"""Building small ONNX files. Names say nothing; numbers are drawn in the order of the calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
EIGHTHS = 16  # drawn numbers are k/8 with 1 <= |k| <= 16: exact in float32, and short as decimals


class Net:
    """Nodes and constants as they are added. `x` is the input. Two nets that draw from generators of one seed get the same numbers.

    `trailing`: an operator that reads the output and whose result nothing reads. `shuffled`: nodes are stored in some legal order, under names
    that sort otherwise.
    """

    def __init__(self, rng: np.random.Generator, opset: int = 13) -> None:
        self.rng, self.opset = rng, opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []
        self.inputs_too: list[TensorProto] = []
        self.trailing, self.shuffled = "", False

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """The name of the only output of a new node."""
        return self.nodes_of(kind, inputs, 1, **attributes)[0]

    def nodes_of(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """The names of the outputs of a new node; inputs "" are left out."""
        names = [f"t{len(self.nodes)}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def constant(self, values: Any, kind: Any = np.float32) -> str:
        """An initializer."""
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=kind), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def listed(self, constant: str) -> str:
        """List an initializer as a graph input as well, which makes it a default."""
        self.inputs_too += [t for t in self.constants if t.name == constant]
        return constant

    @staticmethod
    def tensor(values: Array) -> TensorProto:
        """The value of a Constant node."""
        return numpy_helper.from_array(values)

    def whole(self, *values: int) -> str:
        """An initializer int64 [n]."""
        return self.constant(values, np.int64)

    def draw(self, *shape: int, positive: bool = False) -> Array:
        """Numbers k/8, none of them 0."""
        sizes = self.rng.integers(1, EIGHTHS + 1, shape)
        signs = 1 if positive else self.rng.choice([-1, 1], shape)
        return np.asarray(sizes * signs / 8.0)

    def numbers(self, *shape: int, positive: bool = False) -> str:
        """An initializer of drawn numbers."""
        return self.constant(self.draw(*shape, positive=positive))

    def sum_over(self, value: str, axes: Sequence[int], keepdims: int = 0) -> str:
        """ReduceSum, as the opset writes it."""
        if self.opset < 13:
            return self.node("ReduceSum", value, axes=list(axes), keepdims=keepdims)
        return self.node("ReduceSum", value, self.whole(*axes), keepdims=keepdims)

    def row(self, value: str) -> str:
        """The same elements as [1, m]."""
        return self.node("Reshape", value, self.whole(1, -1))

    def model(self, output: str, shape: Sequence[int], outputs: int) -> onnx.ModelProto:
        """The file: input `x` of `shape`, output `y` [1, outputs], which is the tensor `output`. Raises onnx's ValidationError."""
        nodes = list(self.nodes)
        if self.trailing:
            nodes.append(helper.make_node(self.trailing, [output], ["idle"]))
        names = {output: "y"}
        if self.shuffled:
            nodes = _another_order(nodes, self.rng)
            names = {name: f"t{len(nodes) - i}" for i, node in enumerate(nodes) for name in node.output} | names
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(size)) for name, size in (("x", shape), ("y", (1, outputs)))]
        defaults = [helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)) for t in self.inputs_too]
        graph = helper.make_graph([_renamed(node, names) for node in nodes], "network", [ends[0], *defaults], ends[1:], self.constants)
        ir = 8 if self.opset < 18 else 10
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=ir, producer_name="soundproof")
        onnx.checker.check_model(made, full_check=True)
        return made


def _renamed(node: onnx.NodeProto, new: dict[str, str]) -> onnx.NodeProto:
    """A copy of a node whose tensors have other names."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    for names in (copy.input, copy.output):
        names[:] = [new.get(name, name) for name in names]
    return copy


def _another_order(nodes: Sequence[onnx.NodeProto], rng: np.random.Generator) -> list[onnx.NodeProto]:
    """The same nodes, each behind those that it reads."""
    waiting, made, order = list(nodes), {name for node in nodes for name in node.output}, []
    while waiting:
        ready = [node for node in waiting if not made & set(node.input)]
        order.append(ready[int(rng.integers(len(ready)))])
        waiting.remove(order[-1])
        made -= set(order[-1].output)
    return order
