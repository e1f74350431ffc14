"""The standard's own reference implementation, used for constants and for operators that only move elements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from graph.errors import ModelError
from graph.lowering.schemas import STANDARD

Array = NDArray[Any]

# What numpy and onnx.reference raise when a node's inputs make no sense. They document no exception types of their own.
COMPLAINTS = (
    onnx.checker.ValidationError, ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError,
)

BROADCASTING = frozenset(("Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min"))
BROADCASTING |= {"Mod", "Mul", "Or", "Pow", "Sub", "Sum", "Where"}


def run_reference(node: onnx.NodeProto, opset: int, inputs: Sequence[Array | None], element_limit: int) -> list[Array]:
    """The outputs of `node` for constant `inputs` (None where an optional input is absent), by onnx.reference.

    Raises ModelError where the reference implementation refuses the inputs.
    """
    where = f"node {node.name or ', '.join(node.output)!r}: operator {node.op_type}"
    names = [f"i{i}" if x is not None else "" for i, x in enumerate(inputs)]
    outputs = [f"o{i}" for i in range(len(node.output))]
    single = onnx.NodeProto()
    single.CopyFrom(node)
    single.ClearField("input")
    single.ClearField("output")
    single.input.extend(names)
    single.output.extend(outputs)
    info = onnx.helper.make_empty_tensor_value_info
    graph = onnx.helper.make_graph([single], "constant", [info(n) for n in names if n], [info(n) for n in outputs])
    try:
        if (size := _result_size(node, inputs)) > element_limit:
            raise ModelError(f"{where} would make a tensor of {size} elements; raise the limit to load it")
        if node.op_type == "GatherElements":
            return [_gather_elements(node, *(x for x in inputs if x is not None))]
        if node.op_type in ("CumSum", "CumProd"):  # an axis of one element does, as runtimes have it
            inputs = [x if x is None or i != 1 or x.size != 1 else x.reshape(()) for i, x in enumerate(inputs)]
        opsets = {"" if node.domain in STANDARD else node.domain: opset}
        found = ReferenceEvaluator(graph, opsets=opsets).run(None, {n: x for n, x in zip(names, inputs, strict=True) if n})
    except COMPLAINTS as error:
        raise ModelError(f"{where} cannot be evaluated on its constant inputs: {error}") from error
    return [np.asarray(x) for x in found]


def _gather_elements(node: onnx.NodeProto, data: Array, index: Array) -> Array:
    """As the standard has it: the reference implementation refuses negative axes and indices shorter than the data along other axes."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
    if index.ndim != data.ndim or not -data.ndim <= axis < data.ndim or index.dtype not in (np.int32, np.int64):
        raise ValueError(f"indices of type {index.dtype} and shape {index.shape} do not fit data of shape {data.shape} along axis {axis}")
    cut = data[tuple(slice(None) if a == axis % data.ndim else slice(n) for a, n in enumerate(index.shape))]
    if any(m > n for a, (m, n) in enumerate(zip(index.shape, cut.shape, strict=True)) if a != axis % data.ndim):
        raise ValueError(f"indices of shape {index.shape} do not fit data of shape {data.shape} along axis {axis}")
    return np.take_along_axis(cut, index, axis)


def _result_size(node: onnx.NodeProto, inputs: Sequence[Array | None]) -> int:
    """How many elements the result has at most, for operators that can make much from little."""
    given = [x for x in inputs if x is not None]
    match node.op_type:
        case "ConstantOfShape" if given:
            return math.prod(int(n) for n in given[0].ravel())
        case "Expand" | "Tile" if len(given) == 2:
            return int(given[0].size) * math.prod(abs(int(n)) for n in given[1].ravel())
        case "Range" if len(given) == 3 and all(x.size == 1 for x in given):
            start, limit, delta = (float(x.ravel()[0]) for x in given)
            return int(abs((limit - start) / delta)) if delta and math.isfinite((limit - start) / delta) else 0
        case "Gather" if len(given) == 2:
            return int(given[0].size) * int(given[1].size) if min(given[0].shape, default=1) <= 1 else 0
        case "MatMul" if len(given) == 2 and all(x.ndim >= 2 for x in given):
            outer = np.broadcast_shapes(given[0].shape[:-2], given[1].shape[:-2])
            return math.prod((*outer, given[0].shape[-2], given[1].shape[-1]))
        case "Gemm" if len(given) >= 2:
            return int(given[0].size) * int(given[1].size) if min(*given[0].shape, *given[1].shape, 2) <= 1 else 0
        case kind if kind in BROADCASTING:
            return math.prod(np.broadcast_shapes(*(x.shape for x in given)))
        case _:
            return 0
