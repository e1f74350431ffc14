"""Where onnxruntime puts whole numbers in the place of a file's floats, and gets something else than any order of float32: such a file has no
float32 rule.

It reads DequantizeLinear, an operator and QuantizeLinear as one operator on whole numbers. With all operands in whole numbers, a bias in steps of
the product's and sums within 32 bits that is the same up to rounding, and is measured (tests/checker/test_rewritten.py). Otherwise it rounds
what the file does not round (a float operand or bias, numbers that are rescaled twice, an exponential), or wraps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import onnx

from verifier.checker.arithmetic import Array
from verifier.checker.lowering.builder import Held, Known, Rounded, Tensor

PRODUCTS = ("MatMul", "Gemm", "Conv", "ConvTranspose", "FusedMatMul")
EXPONENTIALS = ("Softmax", "LogSoftmax")
MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Identity", "Expand", "Split", "MaxPool", "DepthToSpace", "SpaceToDepth")
NARROW, WIDE = ("int8", "uint8"), ("int16", "uint16", "int32")
WRAPS = 2**31
SAME = 1e-4  # steps that are said to be a product of two others, in float32


Find = Callable[[str], Held | None]  # what a name of the graph stands for


@dataclass(frozen=True)
class Whole:
    """What a DequantizeLinear makes: the names of its step and zero point, and the name of what it reads."""

    step: str
    zero: str
    source: str


def reason(graph: onnx.GraphProto, functions: Iterable[onnx.FunctionProto], held: Find) -> str:
    """Why there is no float32 rule; "" where nothing of this is there."""
    for inner in (*(f.node for f in functions), *(a.g.node for n in graph.node for a in n.attribute if a.HasField("g"))):
        if any(node.op_type == "DequantizeLinear" for node in inner):
            return "DequantizeLinear inside a function or sub-graph"
    made: dict[str, Whole] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear":
            made[node.output[0]] = Whole(node.input[1], node.input[2] if len(node.input) > 2 else "", node.input[0])
        elif any(name in made for a in node.attribute if a.HasField("g") for inner in a.g.node for name in inner.input):
            return "DequantizeLinear read by a sub-graph"
        elif any(name in made for name in node.input):
            if found := _why(node, made, held):
                return f"{node.op_type} {node.name or node.output[0]!r}: {found}"
            if node.op_type in MOVES and node.input[0] in made:
                made.update((name, made[node.input[0]]) for name in node.output)
    return ""


def _why(node: onnx.NodeProto, made: dict[str, Whole], held: Find) -> str:
    inputs = [name for name in node.input if name]
    if node.op_type in EXPONENTIALS:
        return "of dequantised numbers, which onnxruntime computes in whole numbers"
    if node.op_type == "QuantizeLinear" and inputs[0] in made:
        before, after = made[inputs[0]], Whole(inputs[1], inputs[2] if len(inputs) > 2 else "", "")
        same = all(_same(a, b, held) for a, b in ((before.step, after.step), (before.zero, after.zero)))
        return "" if same else "of dequantised numbers, with another step: onnxruntime rounds once"
    if node.op_type in PRODUCTS:
        if not all(name in made for name in inputs):
            return "of dequantised numbers and of floats, which onnxruntime rounds to whole numbers"
        return _sums(node, [made[name] for name in inputs], held)
    return ""


def _sums(node: onnx.NodeProto, operands: list[Whole], held: Find) -> str:
    x, weight, *bias = operands
    added = 0.0
    for b in bias:
        of_x, of_weight, of_bias, number = (_number(name, held) for name in (x.step, weight.step, b.step, b.source))
        if of_x is None or of_weight is None or of_bias is None or number is None or of_x.size > 1 or of_bias.size not in (1, of_weight.size):
            return "a bias that is not in steps of the product's"
        if not np.allclose(of_x.ravel() * of_weight.ravel(), of_bias.ravel(), rtol=SAME, atol=0):
            return "a bias that is not in steps of the product's"
        added = float(np.abs(number).max())
    number, shape = _number(weight.source, held), _shape(weight.source, held)
    if _kind(weight, held) in WIDE:
        return ""  # onnxruntime has no such operator
    if not all(_kind(w, held) in NARROW for w in (x, weight)) or not shape:
        return "of other types than 8 bits, whose weights onnxruntime multiplies by itself"
    if node.op_type in ("Conv", "ConvTranspose"):
        summed = [tuple(k for k in range(len(shape)) if k != (node.op_type == "ConvTranspose"))]
    else:
        summed = [(k,) for k in range(len(shape))[-2:]]  # either: it may have been transposed since
    zero = _number(weight.zero, held) if weight.zero else np.zeros(())
    largest = np.full((), 255.0) if number is None or zero is None else np.abs(number) + np.abs(zero).max()
    total = float(np.max([np.broadcast_to(largest, shape).sum(axis=axes).max(initial=0.0) for axes in summed])) * 255
    return "" if total + added < WRAPS else "a sum that may not fit in 32 bits"


def _same(a: str, b: str, held: Find) -> bool:
    if a == b:
        return True
    first, second = (_number(name, held) if name else np.zeros(()) for name in (a, b))
    return first is not None and second is not None and first.size == second.size and bool((first.ravel() == second.ravel()).all())


def _number(name: str, held: Find) -> Array | None:
    value = held(name)
    return value.value.astype(np.float64) if isinstance(value, Known | Rounded) else None


def _kind(of: Whole, held: Find) -> str:
    value = held(of.source)
    return str(value.value.dtype) if isinstance(value, Known | Rounded) else value.element if isinstance(value, Tensor) else ""


def _shape(name: str, held: Find) -> tuple[int, ...]:
    value = held(name)
    return value.value.shape if isinstance(value, Known | Rounded) else value.shape if isinstance(value, Tensor) else ()
