"""Interval arithmetic over a box, in rationals: the suite's own proof that a property holds there. Rules as in `benchmarks.soundness.rational`.

With `float32`, the outputs of every execution in float32 are enclosed too, whatever the order of its sums and whether products are rounded:
a sum of n terms is off by at most gamma_n = n u / (1 - n u) of the sum of their sizes, u = 2^-24 (Higham 2002, 3.1), and by n 2^-120 where
numbers underflow. Functions whose accuracy in float32 nobody states (Tanh, Sigmoid, Softmax) are refused there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

import onnx
from onnx import numpy_helper

from benchmarks.soundness.elementary import Enclosure
from benchmarks.soundness.operators import RULES
from benchmarks.soundness.rational import constant
from benchmarks.soundness.rule import Call, UnknownOperator, Value
from benchmarks.soundness.tensor import Array, Tensor, aligned, of_enclosures

UNIT = Fraction(1, 1 << 24)
UNDERFLOW = Fraction(1, 1 << 120)
PLACES = 128  # binary places that are kept of an enclosure, which is rounded outward
EXACT = ("Relu", "Flatten", "Reshape", "Transpose")  # in float32 as well


def _gemm_terms(call: Call) -> int:
    return call.tensor(0).shape[-1] + 1


def _conv_terms(call: Call) -> int:
    return math.prod(call.tensor(1).shape[1:]) + 1


def _pool_terms(call: Call) -> int:
    return math.prod(call.attributes["kernel_shape"]) + 1


TERMS: dict[str, Callable[[Call], int]] = {  # roundings that a term of a result goes through, at most
    "Gemm": _gemm_terms, "MatMul": _gemm_terms, "Conv": _conv_terms, "AveragePool": _pool_terms, "Add": lambda call: 1,
}  # fmt: skip


def enclose(model: onnx.ModelProto, box: Sequence[Enclosure], float32: bool = False) -> list[Enclosure]:
    """(lower, upper) of every output, flat, over all points of `box`, flat. One input and one output. Raises UnknownOperator, ValueError."""
    graph = model.graph
    values: dict[str, Value] = {t.name: constant(numpy_helper.to_array(t)) for t in graph.initializer}
    shape = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    if len(graph.input) != 1 or len(graph.output) != 1 or math.prod(shape) != len(box):
        raise ValueError(f"{len(graph.input)} inputs of shape {shape}, {len(graph.output)} outputs, and a box of {len(box)} sides")
    values[graph.input[0].name] = of_enclosures(list(box), shape)
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for node in graph.node:
        values[node.output[0]] = _step(node, opset, [values[name] for name in node.input], float32)
    result = values[graph.output[0].name]
    if not isinstance(result, Tensor):
        raise ValueError("an output without numbers")
    return result.enclosures()


def _step(node: onnx.NodeProto, opset: int, inputs: list[Value], float32: bool) -> Value:
    made = _apply(node, opset, inputs)
    if not isinstance(made, Tensor):
        raise UnknownOperator(f"{node.op_type} with several outputs, or without numbers")
    if float32 and node.op_type not in EXACT:
        if node.op_type not in TERMS:
            raise UnknownOperator(f"{node.op_type} in float32")
        sizes = [Tensor(_size(v), v.denominator) if isinstance(v, Tensor) else v for v in inputs]
        terms = TERMS[node.op_type](_call(node, opset, sizes))
        total = _apply(node, opset, sizes)
        if not isinstance(total, Tensor):
            raise UnknownOperator(f"{node.op_type} without numbers")
        made = _widened(made, total.scaled(terms * UNIT / (1 - terms * UNIT)), terms * UNDERFLOW)
    return _shortened(made)


def _call(node: onnx.NodeProto, opset: int, inputs: list[Value]) -> Call:
    return Call(node.op_type, opset, list(inputs), {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}, len(node.output))


def _apply(node: onnx.NodeProto, opset: int, inputs: list[Value]) -> Value | list[Value]:
    if node.op_type not in RULES or node.domain not in ("", "ai.onnx"):
        raise UnknownOperator(f"operator {node.domain}.{node.op_type}")
    call = _call(node, opset, inputs)
    made = RULES[node.op_type](call)
    if call.attributes:
        raise UnknownOperator(f"attributes {sorted(call.attributes)} of {node.op_type}")
    return made


def _size(tensor: Tensor) -> Array:
    """The largest size of each number, over the denominator."""
    return abs(tensor.centre) if tensor.radius is None else abs(tensor.centre) + tensor.radius


def _widened(tensor: Tensor, by: Tensor, more: Fraction) -> Tensor:
    """A tensor whose radius grows by `by` (exact) and `more`."""
    a, b, denominator = aligned(tensor, by)
    extra = -(-more.numerator * denominator // more.denominator)
    return Tensor(a.centre, denominator, (0 if a.radius is None else a.radius) + b.centre + extra)


def _shortened(tensor: Tensor) -> Tensor:
    """The same, or a little more, over 2^PLACES."""
    if tensor.denominator.bit_length() <= PLACES:
        return tensor
    low, high = tensor.ends()
    low, high = (low << PLACES) // tensor.denominator, -((-high << PLACES) // tensor.denominator)
    return Tensor(low + high, 2 << PLACES, high - low)
