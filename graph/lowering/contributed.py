"""Transformer operators of com.microsoft, as onnxruntime's own optimiser writes them: fused activations, norms and attention."""

from __future__ import annotations

import math

import numpy as np

from graph.functions import build
from graph.lowering.activations import CUBIC
from graph.lowering.arithmetic import add, broadcast, multiply, scale
from graph.lowering.attention import joined_heads, split_heads
from graph.lowering.builder import Builder, Held, Known, Tensor, Value, indices
from graph.lowering.centring import centre, inverse_deviation
from graph.lowering.linear import matmul, swap
from graph.lowering.normalisation import softmax_rows
from graph.lowering.operator import Operator


def lower_bias_gelu(op: Operator) -> Value:
    """gelu(A + B) by erf; com.microsoft.Gelu has no B."""
    return _through(op.builder, _biased(op, 1), math.sqrt(0.5), "gelu", math.sqrt(2.0))


def lower_fast_gelu(op: Operator) -> Value:
    """gelu(X + bias) by tanh."""
    double = 2 * math.sqrt(2 / math.pi)
    return _through(op.builder, _biased(op, 1), double, "swish", 1 / double, CUBIC * math.pi / 8)


def lower_quick_gelu(op: Operator) -> Value:
    """x sigmoid(alpha x)."""
    alpha = op.real("alpha")
    if not (math.isfinite(alpha) and alpha):
        raise op.refuse(f"alpha {alpha} is not supported (finite numbers other than 0 are)")
    return _through(op.builder, op.variable(0), alpha, "swish", 1 / alpha, 0.0)


def lower_skip_layer_normalization(op: Operator) -> list[Held]:
    """LayerNormalization of input + skip + bias over the last axis; the last output is that sum."""
    x = _sum(op, (0, 1, 4))
    centred, middle = centre(op.builder, x, (len(x.shape) - 1,))
    inverse = inverse_deviation(op.builder, centred, (len(x.shape) - 1,), op.real("epsilon"))
    scaled = multiply(op.builder, op.builder.multiply(centred, broadcast(op.builder, inverse, x.shape)), op.value(2))
    shift = op.optional(3)
    return [scaled if shift is None else add(op.builder, scaled, shift), middle, inverse, x]


def lower_skip_simplified_layer_normalization(op: Operator) -> list[Held]:
    """RMSNormalization of input + skip + bias over the last axis; the last output is that sum."""
    x = _sum(op, (0, 1, 3))
    inverse = inverse_deviation(op.builder, x, (len(x.shape) - 1,), op.real("epsilon"))
    scaled = multiply(op.builder, op.builder.multiply(x, broadcast(op.builder, inverse, x.shape)), op.value(2))
    return [scaled, Known(np.zeros(0)), inverse, x]


def lower_multi_head_attention(op: Operator) -> Value:
    """Query, key and value (batch, steps, size) with a bias for all three; an attention bias. No padding masks, no past."""
    _refuse_more(op, (4, 6, 7, 8, 9))
    parts = [op.value(i) for i in range(3)]
    if any(len(x.shape) != 3 for x in parts):
        raise op.refuse(f"query, key and value of shapes {[x.shape for x in parts]}: only (batch, steps, size) is supported, not packed")
    bias = op.optional(3)
    if bias is not None:
        ends = np.cumsum([x.shape[2] for x in parts])[:-1]
        parts = [add(op.builder, x, _taken(op.builder, bias, i)) for x, i in zip(parts, np.split(indices(bias.shape), ends), strict=True)]
    return _attend(op, parts, op.optional(5))


def lower_packed_attention(op: Operator) -> Value:
    """com.microsoft.Attention: one product gives query, key and value. No masks but the causal one, no past."""
    _refuse_more(op, (3, 4, 6))
    x, bias = matmul(op.builder, op.value(0), op.value(1)), op.optional(2)
    if op.integer("do_rotary"):
        raise op.refuse("do_rotary is not supported")
    x = x if bias is None else add(op.builder, x, bias)
    sizes = op.integers("qkv_hidden_sizes") or (x.shape[2] // 3,) * 3
    if sum(sizes) != x.shape[2] or len(sizes) != 3:
        raise op.malformed(f"qkv_hidden_sizes {sizes} of {x.shape[2]} columns")
    parts = [_taken(op.builder, x, place) for place in np.split(indices(x.shape), np.cumsum(sizes)[:-1], axis=2)]
    return _attend(op, parts, op.optional(5))


def _attend(op: Operator, parts: list[Value], bias: Value | None) -> Value:
    """softmax(scale Q K' + bias) V for each head, of parts (batch, steps, size)."""
    b, heads = op.builder, op.integer("num_heads")
    query, key, value = (split_heads(op, x, heads) for x in parts)
    factor = op.real("scale") or 1 / math.sqrt(query.shape[3])
    scores = matmul(b, scale(b, query, np.array(factor)), swap(b, key))
    scores = scores if bias is None else add(b, scores, bias)
    steps, keys = scores.shape[2:]
    if op.integer("unidirectional") and steps != keys:
        raise op.refuse("unidirectional attention of unequal lengths is not supported")
    mask = np.broadcast_to(np.triu(np.ones((steps, keys), dtype=bool), 1) & bool(op.integer("unidirectional")), scores.shape)
    matrix = _tensor(b, scores)
    rows = softmax_rows(b, Tensor(matrix.node, (matrix.size // keys, keys), matrix.element_type), mask.reshape(-1, keys))
    return joined_heads(b, matmul(b, Tensor(rows.node, scores.shape, rows.element_type), value))


def _refuse_more(op: Operator, inputs: tuple[int, ...]) -> None:
    given = [i for i in inputs if i < len(op.held) and op.held[i] is not None]
    if given:
        raise op.refuse(f"inputs {given} (masks of padding, past states) are not supported")


def _biased(op: Operator, i: int) -> Tensor:
    bias = op.optional(i)
    return op.variable(0) if bias is None else _tensor(op.builder, add(op.builder, op.value(0), bias))


def _sum(op: Operator, inputs: tuple[int, ...]) -> Tensor:
    total = op.value(inputs[0])
    for value in (op.optional(i) for i in inputs[1:]):
        total = total if value is None else add(op.builder, total, value)
    return _tensor(op.builder, total)


def _through(builder: Builder, x: Tensor, before: float, name: str, after: float, *numbers: float) -> Value:
    """after f(before x)."""
    inner = _tensor(builder, scale(builder, x, np.array(before)))
    return scale(builder, builder.elementwise(build(name, *numbers), inner), np.array(after))


def _taken(builder: Builder, x: Value, place: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Value:
    return Known(x.value.reshape(-1)[place]) if isinstance(x, Known) else builder.gather(x, place)


def _tensor(builder: Builder, x: Value) -> Tensor:
    return builder.constant(x.value) if isinstance(x, Known) else x
