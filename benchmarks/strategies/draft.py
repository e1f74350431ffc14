"""An ONNX graph that can be rewritten: nodes, and constants as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

Array = NDArray[Any]


@dataclass
class Draft:
    """A copy of a model with one float input and one output. Initializers and Constant nodes with a `value` are `constants`."""

    source: onnx.ModelProto
    nodes: list[onnx.NodeProto]
    constants: dict[str, Array]
    input: onnx.ValueInfoProto
    output: onnx.ValueInfoProto
    _taken: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Draft:
        """A draft of `model`. Raises ValueError if it has several inputs or outputs."""
        graph = model.graph
        constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        nodes = []
        for node in graph.node:
            if node.op_type == "Constant" and [a.name for a in node.attribute] == ["value"]:
                constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                nodes.append(_copy(node))
        inputs = [i for i in graph.input if i.name not in constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ValueError(f"the model has {len(inputs)} inputs and {len(graph.output)} outputs; only one of each can be rewritten")
        taken = {*constants, inputs[0].name, *(name for node in nodes for name in node.output)}
        return cls(model, nodes, constants, inputs[0], graph.output[0], taken)

    def copy(self) -> Draft:
        """One that can be changed without changing this; arrays are shared, since they are replaced, never written to."""
        return Draft(self.source, [_copy(node) for node in self.nodes], dict(self.constants), self.input, self.output, set(self._taken))

    def fresh(self, stem: str) -> str:
        """A name that no tensor has."""
        name, k = stem, 0
        while name in self._taken:
            name, k = f"{stem}_{k}", k + 1
        self._taken.add(name)
        return name

    def constant(self, stem: str, value: Array) -> str:
        """The name of a new constant."""
        name = self.fresh(stem)
        self.constants[name] = value
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        """A new node, not yet in the graph."""
        return helper.make_node(operator, inputs, [output], name=f"{operator}_{output}", **attributes)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor."""
        return [node for node in self.nodes if tensor in node.input]

    def rename_reads(self, old: str, new: str, start: int = 0) -> None:
        """Nodes from number `start` on read `new` in the place of `old`."""
        for node in self.nodes[start:]:
            for k, name in enumerate(node.input):
                if name == old:
                    node.input[k] = new

    def place(self, tensor: str) -> int:
        """The number of the first node that may read a tensor."""
        return next((k + 1 for k, node in enumerate(self.nodes) if tensor in node.output), 0)

    def float_tensors(self) -> list[str]:
        """The input, and what nodes make of type float32 and something depends on, in order: neither conditions nor places."""
        inferred = shape_inference.infer_shapes(self.without_dead().model()).graph
        types = {value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)}
        made = (name for node in self.nodes for name in node.output)
        return [self.input.name, *(name for name in made if types.get(name) == onnx.TensorProto.FLOAT)]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The static shapes of all tensors that onnx can infer, as for one element in the batch."""
        inferred = shape_inference.infer_shapes(self.model()).graph
        found = {name: tuple(value.shape) for name, value in self.constants.items()}
        for value in (*inferred.value_info, *inferred.input, *inferred.output):
            found[value.name] = tuple(d.dim_value or 1 for d in value.type.tensor_type.shape.dim)
        return found

    def without_dead(self) -> Draft:
        """Without what the output does not depend on."""
        needed, kept = {self.output.name}, []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                kept.append(node)
                needed |= set(node.input)
        return Draft(self.source, kept[::-1], {k: v for k, v in self.constants.items() if k in needed}, self.input, self.output, self._taken)

    def model(self) -> onnx.ModelProto:
        """The model; constants that nothing reads are left out."""
        used = {name for node in self.nodes for name in node.input} | {self.output.name}
        constants = [numpy_helper.from_array(np.asarray(v, order="C"), name) for name, v in self.constants.items() if name in used]
        graph = helper.make_graph(self.nodes, self.source.graph.name or "graph", [self.input], [self.output], constants)
        return helper.make_model(graph, opset_imports=self.source.opset_import, ir_version=max(self.source.ir_version, 4), producer_name="soundproof")


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of a node as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied
