"""One operator of the file as its lowering sees it: checked attributes, inputs, version and errors that name the place."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graph.errors import ModelError, UnsupportedOperator
from graph.lowering.builder import Builder, Held, Items, Known, Tensor, Value
from graph.lowering.reference import run_reference
from graph.lowering.schemas import REQUIRED, STANDARD, schema_of

Array = NDArray[Any]
Attribute = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...] | onnx.TensorProto | onnx.GraphProto

MAY_BE_INFINITE = {"min", "max", "value", "value_float", "value_floats"}  # attributes: no limit, and constants, which are checked where they are used


@dataclass(frozen=True, eq=False)
class Operator:
    """A node of the file. `version` is the operator's own version (the opset in which its current form appeared).

    `inputs` has None also where an input is a sequence, which `held` has. `run_body` gives the outputs of a sub-graph for its
    inputs; a label tells several runs apart.
    """

    builder: Builder
    node: onnx.NodeProto
    opset: int
    version: int
    attributes: dict[str, Attribute]
    inputs: tuple[Value | None, ...]
    held: tuple[Held | None, ...]
    run_body: Callable[[onnx.GraphProto, Sequence[Held | None], str, str], list[Held]]

    @property
    def kind(self) -> str:
        return self.node.op_type

    def refuse(self, reason: str) -> UnsupportedOperator:
        """The error to raise for a form of the operator that is not supported."""
        return UnsupportedOperator(f"{describe(self.node, self.opset)}: {reason}")

    def malformed(self, reason: str) -> ModelError:
        """The error to raise for a node that breaks the ONNX standard."""
        return ModelError(f"{describe(self.node, self.opset)}: {reason}")

    def value(self, i: int) -> Value:
        """Input `i`, which must be present."""
        found = self.optional(i)
        if found is None:
            raise self.malformed(f"input {i} is missing")
        return found

    def optional(self, i: int) -> Value | None:
        """Input `i`, or None where the file leaves it out."""
        if i < len(self.inputs) and self.inputs[i] is None and self.held[i] is not None:
            raise self.refuse(
                f"input {i} ({self.node.input[i]!r}) is a sequence, or -infinity somewhere, which is only supported in front of a Softmax"
            )
        return self.inputs[i] if i < len(self.inputs) else None

    def items(self, i: int) -> tuple[Value, ...]:
        """Input `i`, which must be a sequence."""
        found = self.held[i] if i < len(self.held) else None
        if not isinstance(found, Items):
            raise self.malformed(f"input {i} is not a sequence")
        return found.values

    def body(self, name: str) -> onnx.GraphProto:
        """The sub-graph in attribute `name`."""
        found = self.attributes.get(name)
        if not isinstance(found, onnx.GraphProto):
            raise self.malformed(f"attribute {name!r} is not a graph")
        return found

    def run(self, name: str, inputs: Sequence[Held | None], label: str = "") -> list[Held]:
        """The outputs of the sub-graph in attribute `name`."""
        return self.run_body(self.body(name), inputs, label, next(tensor for tensor in self.node.output if tensor))

    def variable(self, i: int) -> Tensor:
        """Input `i` as a tensor that depends on the network's input; a constant becomes a node of its own."""
        found = self.value(i)
        return self.builder.constant(found.value) if isinstance(found, Known) else found

    def known(self, i: int) -> Array:
        """Input `i`, which must be constant."""
        found = self.value(i)
        if isinstance(found, Tensor):
            raise self.refuse(f"input {i} ({self.node.input[i]!r}) depends on the network's input; only a constant is supported there")
        return found.value

    def known_integers(self, i: int) -> tuple[int, ...] | None:
        """Input `i` as a tuple of integers, or None where the file leaves it out."""
        return None if self.optional(i) is None else tuple(int(v) for v in np.atleast_1d(self.known(i)).ravel())

    def integer(self, name: str, default: int = 0) -> int:
        found = self.attributes.get(name, default)
        return int(found) if isinstance(found, int) else default

    def real(self, name: str, default: float = 0.0) -> float:
        found = self.attributes.get(name, default)
        return float(found) if isinstance(found, (int, float)) else default

    def string(self, name: str, default: str = "") -> str:
        found = self.attributes.get(name, default)
        return found if isinstance(found, str) else default

    def strings(self, name: str) -> tuple[str, ...] | None:
        found = self.attributes.get(name)
        return tuple(str(v) for v in found) if isinstance(found, tuple) else None

    def reals(self, name: str) -> tuple[float, ...] | None:
        found = self.attributes.get(name)
        return tuple(float(v) for v in found) if isinstance(found, tuple) else None

    def integers(self, name: str) -> tuple[int, ...] | None:
        found = self.attributes.get(name)
        return tuple(int(v) for v in found) if isinstance(found, tuple) else None

    def axis(self, axis: int, rank: int) -> int:
        """`axis` counted from the front."""
        if not -rank <= axis < rank:
            raise self.malformed(f"axis {axis} does not exist in a tensor of rank {rank}")
        return axis % rank

    def axes(self, rank: int, *, since_input: int) -> tuple[int, ...] | None:
        """`axes`, an attribute before operator version `since_input` and input 1 from then on; None where absent."""
        found = self.known_integers(1) if self.version >= since_input else self.integers("axes")
        return None if found is None else tuple(self.axis(a, rank) for a in found)

    def reference(self, inputs: Sequence[Array | None]) -> list[Array]:
        """What the standard's reference implementation computes for these inputs."""
        return run_reference(self.node, self.opset, inputs, self.builder.element_limit)


def describe(node: onnx.NodeProto, opset: int) -> str:
    """A node in words: name (or first output that has one), operator, opset."""
    name = node.name or next(filter(None, node.output), "")
    domain = f"{node.domain}." if node.domain not in STANDARD else ""
    return f"node {name!r}: operator {domain}{node.op_type} (opset {opset})"


def read_attributes(node: onnx.NodeProto, opset: int) -> tuple[int, dict[str, Attribute]]:
    """The operator's version and its attributes, defaults filled in, checked against the standard's schema.

    Raises UnsupportedOperator for an operator the opset does not have (or has deprecated) and for an attribute it does not define.
    """
    where = describe(node, opset)
    schema = schema_of(node, opset, where)
    found: dict[str, Attribute] = {}
    for attribute in node.attribute:
        defined = schema.attributes.get(attribute.name)
        if defined is None:
            raise UnsupportedOperator(f"{where}: attribute {attribute.name!r} is not defined; defined are {', '.join(schema.attributes) or 'none'}")
        if attribute.ref_attr_name or defined.kind != attribute.type:
            raise ModelError(f"{where}: attribute {attribute.name!r} has the wrong type")
        if attribute.name in found:
            raise ModelError(f"{where}: attribute {attribute.name!r} is given twice")
        found[attribute.name] = _plain(attribute, where)
        _check_value(attribute, where)
    for name, defined in schema.attributes.items():
        if name in found or defined.default is None:
            continue
        if defined.default is REQUIRED:
            raise ModelError(f"{where}: the required attribute {name!r} is missing")
        found[name] = defined.default
    if not schema.least_inputs <= len(node.input) <= schema.most_inputs:
        raise ModelError(f"{where}: {len(node.input)} inputs, but the operator takes {schema.least_inputs} to {schema.most_inputs}")
    return schema.since, found


def _check_value(attribute: onnx.AttributeProto, where: str) -> None:
    for x in (attribute.f, *attribute.floats):
        missing = attribute.name == "replaced_value_float"  # of an Imputer: what counts as missing
        if not missing and (math.isnan(x) or (math.isinf(x) and attribute.name not in MAY_BE_INFINITE)):
            raise ModelError(f"{where}: attribute {attribute.name!r} is NaN or infinite")
    if attribute.t.data_location == onnx.TensorProto.EXTERNAL:
        raise ModelError(f"{where}: attribute {attribute.name!r} has its data in another file; only initialisers may")


def _plain(attribute: onnx.AttributeProto, where: str) -> Attribute:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (int, float, onnx.TensorProto, onnx.GraphProto)):
        return value
    if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS):
        return tuple(value)
    if attribute.type == onnx.AttributeProto.STRINGS:
        return tuple(v.decode(errors="replace") for v in value)
    kind = onnx.AttributeProto.AttributeType.Name(attribute.type)
    raise UnsupportedOperator(f"{where}: attribute {attribute.name!r} is a {kind}, which is not supported")
