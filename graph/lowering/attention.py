"""Scaled dot-product attention and rotary position embeddings (of constant caches).

The sites of Attention, in order: the product of Q (scaled) and K transposed, Tanh (with softcap), Exp, Reciprocal, Product, the product with V.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.functions import build
from graph.linear_map import Gather, LinearMap, Reshape, Scale, compose
from graph.lowering.arithmetic import add, concat, float64, scale
from graph.lowering.builder import Builder, Held, Known, Masked, Tensor, Unbounded, Value, indices
from graph.lowering.linear import matmul, swap
from graph.lowering.normalisation import softmax_rows
from graph.lowering.operator import Operator

Array = NDArray[Any]


def lower_attention(op: Operator) -> list[Held]:
    """softmax(scale Q K' + mask) V for each head; also the keys and values with their past, and the scores."""
    b = op.builder
    query, key, value = (_heads(op, i, "q_num_heads" if i == 0 else "kv_num_heads") for i in range(3))
    past = 0 if op.optional(4) is None else op.value(4).shape[2]
    present = tuple(_joined(b, op.optional(i), x) for i, x in ((4, key), (5, value)))
    if any(len(x.shape) != 4 for x in (query, *present)) or query.shape[1] % key.shape[1] or query.shape[3] != key.shape[3]:
        raise op.malformed(f"heads of shapes {query.shape}, {key.shape} and {value.shape}")
    key, value = (_taken(b, x, np.repeat(indices(x.shape), query.shape[1] // x.shape[1], axis=1)) for x in present)
    factor = op.real("scale", 1 / math.sqrt(query.shape[3]))
    scores = _tensor(b, matmul(b, scale(b, query, np.array(factor)), swap(b, key)))
    capped, mask = _capped(op, scores), _allowed(op, scores.shape, past)
    biased, over = _biased(op, capped)
    mask = ~(mask & ~over)
    rows = softmax_rows(
        b, Tensor(biased.node, (biased.size // biased.shape[-1], biased.shape[-1]), biased.element_type), mask.reshape(-1, mask.shape[-1])
    )
    weights = Tensor(rows.node, scores.shape, rows.element_type)
    result = matmul(b, weights, value)
    result = joined_heads(b, result) if len(op.value(0).shape) == 3 else result
    shown: Held = (scores, capped, Masked(biased, mask) if mask.any() else biased, weights)[op.integer("qk_matmul_output_mode")]
    return [result, *present, shown]


def _heads(op: Operator, i: int, count: str) -> Value:
    """Input `i` as (batch, heads, steps, size), from there or from (batch, steps, heads size)."""
    x = op.value(i)
    return x if len(x.shape) != 3 else split_heads(op, x, op.integer(count))


def split_heads(op: Operator, x: Value, heads: int) -> Value:
    """(batch, heads, steps, size) from (batch, steps, heads size)."""
    if heads < 1 or len(x.shape) != 3 or x.shape[2] % heads:
        raise op.malformed(f"{heads} heads for an input of shape {x.shape}")
    return _taken(op.builder, x, np.swapaxes(indices(x.shape).reshape(*x.shape[:2], heads, -1), 1, 2))


def joined_heads(builder: Builder, x: Value) -> Value:
    """(batch, steps, heads size) from (batch, heads, steps, size)."""
    batch, heads, steps, size = x.shape
    return _taken(builder, x, np.swapaxes(indices(x.shape), 1, 2).reshape(batch, steps, heads * size))


def _joined(builder: Builder, past: Value | None, x: Value) -> Value:
    """What is cached and what is new, one after the other along the steps."""
    if past is None:
        return x
    place = np.concatenate([indices(past.shape), indices(x.shape) + past.size], axis=2)
    if isinstance(past, Known) and isinstance(x, Known):
        return Known(np.concatenate([past.value, x.value], axis=2))
    return builder.gather(concat(builder, [past, x]), place)


def _capped(op: Operator, scores: Tensor) -> Tensor:
    """cap tanh(scores / cap)."""
    cap = op.real("softcap")
    if cap <= 0:
        return scores
    inner = scale(op.builder, scores, np.array(1 / cap))
    return _tensor(op.builder, scale(op.builder, op.builder.elementwise(build("tanh"), _tensor(op.builder, inner)), np.array(cap)))


def _allowed(op: Operator, shape: Shape, past: int) -> Array:
    """Which scores count, of what is causal, within a window or not padding: [batch, heads, steps, keys]."""
    batch, _, steps, keys = shape
    lengths = None if op.optional(6) is None else np.array(op.known_integers(6))
    offset = np.full(batch, past) if lengths is None else lengths - steps
    position = np.arange(steps)[:, None] + offset.reshape(-1, 1, 1, 1)
    distance = np.broadcast_to(position - np.arange(keys), (batch, 1, steps, keys))
    allowed = np.ones(distance.shape, dtype=bool)
    if op.integer("is_causal"):
        allowed &= distance >= 0
    for name, sign in (("left_window_size", 1), ("right_window_size", -1)):
        if (limit := op.integer(name, -1)) >= 0:
            allowed &= sign * distance <= limit
    if lengths is not None:
        allowed &= np.arange(keys) < lengths.reshape(-1, 1, 1, 1)
    return np.broadcast_to(allowed, shape)


def _biased(op: Operator, scores: Tensor) -> tuple[Tensor, Array]:
    """Scores plus the mask of the file, and where that is -infinity (or false, or shorter than the keys)."""
    held, over = op.held[3] if len(op.held) > 3 else None, np.zeros(scores.shape, dtype=bool)
    if held is None:
        return scores, over
    if isinstance(held, Tensor):
        if held.shape[-1] != scores.shape[-1]:
            raise op.refuse("a mask that depends on the input and is shorter than the keys is not supported")
        return _tensor(op.builder, add(op.builder, scores, held)), over
    if not isinstance(held, Known | Unbounded):
        raise op.refuse("a mask that is a sequence, or that is -infinity somewhere and depends on the input, is not supported")
    given = np.where(held.value, 0.0, -np.inf) if held.value.dtype == bool else float64(held.value)
    missing = [(0, 0)] * (given.ndim - 1) + [(0, scores.shape[-1] - given.shape[-1])]
    full = np.broadcast_to(np.pad(given, missing, constant_values=-np.inf), scores.shape)
    over = np.isneginf(full)
    finite = np.where(over, 0.0, full)
    return (_tensor(op.builder, add(op.builder, scores, Known(finite))) if finite.any() else scores), over


def lower_rotary_embedding(op: Operator) -> Value:
    """Pairs of elements turned by the angles of their position: cos x - sin y, sin x + cos y."""
    x, heads = op.variable(0), op.integer("num_heads")
    place = indices(x.shape)
    if len(x.shape) == 3 and heads > 0 and x.shape[2] % heads == 0:
        place = place.reshape(*x.shape[:2], heads, -1)
    elif len(x.shape) == 4:
        place = np.swapaxes(place, 1, 2)
    else:
        raise op.malformed(f"an input of shape {x.shape} with {heads} heads")
    turned = op.integer("rotary_embedding_dim") or place.shape[-1]
    cosine, sine = (_angles(op, i, place.shape, turned // 2) for i in (1, 2))
    order = np.arange(turned).reshape((turned // 2, 2) if op.integer("interleaved") else (2, turned // 2))
    first, second = order.T if op.integer("interleaved") else order
    keep, cross, partner = np.ones(place.shape), np.zeros(place.shape), place.copy()
    keep[..., first] = keep[..., second] = cosine
    cross[..., first], cross[..., second] = -sine, sine
    partner[..., first], partner[..., second] = place[..., second], place[..., first]
    back = np.argsort(place.reshape(-1))
    factors = [v.reshape(-1)[back] for v in (keep, cross)]
    other = Gather(x.shape, x.shape, partner.reshape(-1)[back])
    maps: list[LinearMap] = [compose(m, Scale(x.shape, x.shape, f)) for m, f in zip((Reshape(x.shape, x.shape), other), factors, strict=True)]
    return op.builder.affine([(m, x) for m in maps], None, x.shape)


def _angles(op: Operator, i: int, shape: Shape, half: int) -> Array:
    """The cache of input `i` for every element (batch, steps, heads, half) of the first of a pair."""
    cache = float64(op.known(i))
    found = cache if op.optional(3) is None else cache[np.asarray(op.known(3)).astype(np.int64)]
    if found.shape[-1] != half:
        raise op.malformed(f"input {i} of shape {cache.shape} where {half} angles are due")
    return np.broadcast_to(found[:, :, None, :], (*shape[:3], half))


def _taken(builder: Builder, x: Value, index: Array) -> Value:
    return Known(x.value.reshape(-1)[index]) if isinstance(x, Known) else builder.gather(x, index)


def _tensor(builder: Builder, x: Value) -> Tensor:
    return builder.constant(x.value) if isinstance(x, Known) else x
