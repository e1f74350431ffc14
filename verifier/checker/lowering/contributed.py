"""Operators of com.microsoft, which onnxruntime's own tools write into files. No standard defines them: read as it documents them, over the
reals only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import onnx

from verifier.checker.lowering.activations import DOUBLE_W, ROOT_HALF, Factor, about, exactly, scaled
from verifier.checker.lowering.attention import flat, scores_of, softmax, taken
from verifier.checker.lowering.basic import gemm, inverse, matrix_product, stack, starts_of, swap, total
from verifier.checker.lowering.builder import RELU, Array, Known, Tensor, Value, indices
from verifier.checker.lowering.elementwise import ABSOLUTE
from verifier.checker.lowering.normal import normal
from verifier.checker.lowering.normal import scaled as with_gain
from verifier.checker.lowering.operator import Operator
from verifier.checker.lowering.windows import conv
from verifier.checker.network import Function, Pieces, Smooth

DOMAIN = "com.microsoft"
PACKED = "do_rotary mask_filter_value num_heads past_present_share_buffer qkv_hidden_sizes scale unidirectional"  # attributes of Attention
POOL = "auto_pad ceil_mode channels_last count_include_pad kernel_shape pads strides"
RUNTIME = "an operator that no standard defines"
_T = onnx.defs.OpSchema.AttrType
TYPES: Mapping[str, _T] = MappingProxyType(  # of attributes, which mean the same in all of them
    {
        **dict.fromkeys(("activation", "auto_pad"), _T.STRING),
        **dict.fromkeys(("activation_params",), _T.FLOATS),
        **dict.fromkeys(("axes", "dilations", "kernel_shape", "pads", "qkv_hidden_sizes", "strides"), _T.INTS),
        **dict.fromkeys(("activation_alpha", "alpha", "beta", "epsilon", "mask_filter_value", "scale"), _T.FLOAT),
    }
)
REQUIRED = MappingProxyType({"MultiHeadAttention": {"num_heads"}, "Attention": {"num_heads"}, "QLinearSoftmax": {"opset"}, "QLinearConcat": {"axis"}})
LIMITS = MappingProxyType(  # of inputs
    {
        "Attention": (2, 7), "BiasGelu": (2, 2), "DequantizeLinear": (2, 3), "FastGelu": (1, 2), "FusedConv": (2, 4), "FusedGemm": (2, 3),
        "FusedMatMul": (2, 2), "Gelu": (1, 1), "MultiHeadAttention": (3, 10), "QGemm": (6, 9), "QLinearAdd": (7, 8),
        "QLinearAveragePool": (4, 5), "QLinearConcat": (3, 1 << 20), "QLinearConv": (8, 9), "QLinearGlobalAveragePool": (5, 5),
        "QLinearLeakyRelu": (4, 5), "QLinearMul": (7, 8), "QLinearSigmoid": (4, 5), "QLinearSoftmax": (5, 5),
        "QuantizeLinear": (2, 3), "QuickGelu": (1, 1), "SkipLayerNormalization": (3, 5), "SkipSimplifiedLayerNormalization": (3, 4),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Attribute:
    type: _T
    required: bool


@dataclass(frozen=True)
class Schema:
    """What the onnx package would say of an operator, if it knew it."""

    min_input: int
    max_input: int
    attributes: Mapping[str, Attribute]
    since_version: int = 1
    deprecated: bool = False


def kind_of(domain: str, name: str) -> str:
    """What operators of com.microsoft are called, some of which share a name with one of the standard."""
    return f"{domain}.{name}" if domain == DOMAIN else name


def schema_of(domain: str, name: str, opset: int, attributes: frozenset[str]) -> onnx.defs.OpSchema | Schema:
    """Raises SchemaError where there is none. What is read of another domain than the standard's has one version in all of its operator sets."""
    if domain != DOMAIN:
        return onnx.defs.get_schema(name, domain) if domain else onnx.defs.get_schema(name, opset, "")
    needed = REQUIRED.get(name, set())
    return Schema(*LIMITS[name], {a: Attribute(TYPES.get(a, _T.INT), a in needed) for a in attributes})


def _end(op: Operator, x: Tensor) -> Tensor:
    return op.end(x, "refused", name=RUNTIME)


def through(before: Factor, function: Function, after: Factor) -> Callable[[Operator], Value]:
    """after f(before (A + B)), B if it is there."""

    def lower(op: Operator) -> Value:
        x = op.tensor(0) if op.optional(1) is None else total(op.builder, [op.tensor(0), op.value(1)], [1.0, 1.0])
        return _end(op, scaled(replace(op, inputs=(x,), held=(x,)), before, function, after))

    return lower


GELU = through(about(ROOT_HALF), Smooth("gelu"), about(math.sqrt(2.0)))
FAST_GELU = through(about(DOUBLE_W), Smooth("swish", 0.044715 * math.pi / 8), about(1 / DOUBLE_W))


def quick_gelu(op: Operator) -> Value:
    """x sigmoid(alpha x)."""
    alpha = op.real("alpha", float(np.float32(1.702)))
    op.require(alpha != 0, "alpha 0")
    return through(exactly(alpha), Smooth("swish"), inverse(np.array(alpha)))(op)


def skip_normalization(centre: bool, epsilon: float) -> Callable[[Operator], list[Value]]:
    """Of input + skip + bias over the last axis, with a gain and (if `centre`) a shift; the last output is that sum."""

    def lower(op: Operator) -> list[Value]:
        given = [op.value(0), op.value(1), op.optional(4 if centre else 3)]
        parts = [x for x in given if x is not None]
        x = total(op.builder, parts, [1.0] * len(parts))
        found, middle, inverted = normal(op.builder, x, (len(x.shape) - 1,), op.real("epsilon", float(np.float32(epsilon))), centre)
        y = with_gain(op, found, op.value(2), op.optional(3) if centre else None)
        outputs = (y, Known(np.zeros(0)) if middle is None else middle, inverted, x)
        return [_end(op, v) if isinstance(v, Tensor) else v for v in outputs]

    return lower


def fused_matmul(op: Operator) -> Value:
    """alpha A' B': the last two axes exchanged."""
    op.require(not op.flag("transBatchA", 0) and not op.flag("transBatchB", 0), "transBatch")
    a, b = (swap(op.builder, x) if op.flag(f"trans{name}", 0) else x for name, x in (("A", op.value(0)), ("B", op.value(1))))
    alpha = op.real("alpha", 1.0)
    found = matrix_product(op.builder, a, b)
    return _end(op, found if alpha == 1 else op.builder.scale(found, np.array(alpha)))


def fused_gemm(op: Operator) -> Value:
    return _activated(op, op.as_tensor(gemm(op)), [op.real("activation_alpha", 0.01)] if "activation_alpha" in op.attributes else [])


def fused_conv(op: Operator) -> Value:
    """A convolution, plus input 3, then the activation."""
    found = op.as_tensor(conv(op))
    if op.optional(3) is not None:
        op.builder.stage()
        found = total(op.builder, [found, op.value(3)], [1.0, 1.0])
    return _activated(op, found, list(op.reals("activation_params") or ()))


def _activated(op: Operator, x: Tensor, parameters: list[float]) -> Value:
    name = op.string("activation", "")
    known: dict[str, Function] = {"Relu": RELU, "Abs": ABSOLUTE, "Sigmoid": Smooth("sigmoid"), "Tanh": Smooth("tanh")}
    if name == "LeakyRelu":
        alpha = parameters[0] if parameters else float(np.float32(0.01))
        known[name] = Pieces((0.0,), (alpha, 1.0), (0.0, 0.0), (0.0,))
    op.require(not name or name in known, f"activation {name!r}")
    made = op.stage(x, "refused", sources=(), name=RUNTIME)
    return _end(op, op.builder.elementwise(known[name], made)) if name else made


def multi_head_attention(op: Operator) -> Value:
    """Query, key and value (batch, steps, size), with a bias for all three; no masks of padding, no past."""
    op.require(all(op.optional(i) is None for i in (4, 6, 7, 8, 9)), "masks of padding, or past states")
    parts, bias = [op.value(i) for i in range(3)], op.optional(3)
    op.require(all(len(x.shape) == 3 for x in parts), "packed inputs")
    if bias is not None:
        places = np.split(indices(bias.shape), np.cumsum([x.shape[2] for x in parts])[:-1])
        parts = [total(op.builder, [op.as_tensor(x), taken(op, bias, at)], [1.0, 1.0]) for x, at in zip(parts, places, strict=True)]
    return _attend(op, parts)


def packed_attention(op: Operator) -> Value:
    """One product gives query, key and value; no masks but the causal one, no past."""
    op.require(all(op.optional(i) is None for i in (3, 4, 6)) and not op.flag("do_rotary", 0), "masks of padding, past states or rotation")
    x, bias = matrix_product(op.builder, op.value(0), op.value(1)), op.optional(2)
    x = x if bias is None else total(op.builder, [x, bias], [1.0, 1.0])
    sizes = op.integers("qkv_hidden_sizes") or (x.shape[-1] // 3,) * 3
    op.require(len(x.shape) == 3 and len(sizes) == 3 and sum(sizes) == x.shape[2], f"sizes {sizes} of {x.shape}")
    return _attend(op, [op.builder.gather(x, at) for at in np.split(indices(x.shape), np.cumsum(sizes)[:-1], axis=2)])


def _attend(op: Operator, parts: list[Value]) -> Value:
    """softmax(scale Q K' + bias) V for each head."""
    heads, bias = op.integer("num_heads", 0), op.optional(5)
    op.require(heads > 0 and all(x.shape[2] % heads == 0 for x in parts), f"{heads} heads")
    query, key, value = (taken(op, x, np.swapaxes(indices(x.shape).reshape(*x.shape[:2], heads, -1), 1, 2)) for x in parts)
    plain = {name: v for name, v in op.attributes.items() if name != "scale" or v}  # 0: as if it were not given
    scores, _ = scores_of(replace(op, attributes=plain), query, key)
    found = scores if bias is None else total(op.builder, [scores, bias], [1.0, 1.0])
    steps, keys = scores.shape[2:]
    causal = op.flag("unidirectional", 0)
    op.require(found.shape == scores.shape and (not causal or steps == keys), "a bias of another shape, or causality of unequal lengths")
    mask = np.broadcast_to(np.triu(np.ones((steps, keys), dtype=bool), 1) & causal, scores.shape)
    return _end(op, flat(op, matrix_product(op.builder, softmax(op.builder, found, mask), value)))


def concatenated(op: Operator, parts: list[Value]) -> Tensor:
    """Along attribute `axis`."""
    axis, starts = op.axis(op.integer("axis", 0), len(parts[0].shape)), starts_of(parts)
    place: Array = np.concatenate([indices(p.shape) + start for p, start in zip(parts, starts, strict=True)], axis=axis)
    return stack(op.builder, parts, place, starts)
