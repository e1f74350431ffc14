"""Attention, masks of -infinity in front of a softmax, and rotary position embeddings (of constant caches).

A mask is known: the elements under it are left out of the sum of their row, and 0 (what is computed from them is not read). A row without
elements is 0 by the standard's rule for Attention, and no number in a Softmax.
"""

from __future__ import annotations

import math

import numpy as np

from verifier.checker.lowering.basic import common, matrix_product, stack, starts_of, total
from verifier.checker.lowering.builder import Array, Builder, Held, Known, Masked, Shape, Tensor, Unbounded, Value, floats, indices
from verifier.checker.lowering.normal import rows_of, softmax_weights
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Diagonal, Index, Transposed
from verifier.checker.network import Smooth

ATTRIBUTES = "is_causal kv_num_heads left_window_size q_num_heads qk_matmul_output_mode right_window_size scale softcap softmax_precision"
WAYS = "a softmax under a mask is not measured"


def softmax(builder: Builder, x: Tensor, mask: Array) -> Tensor:
    """Over the last axis, of what is not under the mask [shape of x]."""
    width, empty = x.shape[-1], mask.reshape(-1, x.shape[-1]).all(-1)
    _, weight, _, row_of = softmax_weights(builder, x, width)
    kept = builder.affine([(Index(np.where(mask.reshape(-1), -1, np.arange(x.size)), x.size), weight)], None, x.shape)
    summed = builder.affine([(Transposed(Index(row_of, empty.size)), kept)], np.where(empty, 1.0, 0.0), empty.shape)
    inverted = builder.elementwise(Smooth("reciprocal"), summed)
    return builder.product(kept, builder.linear(Index(row_of, empty.size), inverted, x.shape))


def through_mask(op: Operator) -> Held:
    """Add and Where make a mask, Softmax ends it."""
    parts = [_split(op, x) for x in op.held if x is not None]
    if op.kind == "Add" and len(parts) == 2:
        shape = common(*(x for x, _ in parts))
        return _masked(op, _added(op, [x for x, _ in parts]), np.any([np.broadcast_to(m, shape) for _, m in parts], axis=0))
    if op.kind == "Where" and len(parts) == 3 and isinstance(parts[0][0], Known) and parts[0][0].value.dtype == np.bool_:
        condition, (x, over), (y, under) = parts[0][0].value, parts[1], parts[2]
        shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
        chosen = [np.broadcast_to(indices(v.shape) + start, shape) for v, start in zip((x, y), starts_of([x, y]), strict=True)]
        found = _stacked(op, [x, y], np.where(condition, *chosen))
        return _masked(op, found, np.where(condition, np.broadcast_to(over, shape), np.broadcast_to(under, shape)))
    ends = op.kind == "Softmax" and op.version >= 13 and isinstance(parts[0][0], Tensor)
    op.require(ends, "NaN or Inf: -infinity is read as the mask of a Softmax only")
    return _softmax(op, op.as_tensor(parts[0][0]), parts[0][1])


def _softmax(op: Operator, x: Tensor, mask: Array) -> Value:
    order, under = rows_of(op, x.shape)[0], mask.reshape(-1)
    op.require(not under[order].all(-1).any(), "a row that is -infinity")
    found = softmax(op.builder, op.builder.gather(x, order), under[order])
    return op.end(op.builder.gather(found, np.argsort(order.reshape(-1), kind="stable").reshape(x.shape)), "refused", name=WAYS)


def _split(op: Operator, x: Held) -> tuple[Value, Array]:
    """With 0 for -infinity, and where that was."""
    if isinstance(x, Unbounded):
        mask = np.isneginf(x.value)
        return Known(np.where(mask, np.float32(0), x.value)), mask
    if isinstance(x, Masked):
        return x.tensor, x.mask
    op.require(isinstance(x, Tensor | Known), "a sequence")
    return (x, np.zeros(x.shape, dtype=bool)) if isinstance(x, Tensor | Known) else (Known(np.zeros(1)), np.zeros(1))


def _added(op: Operator, values: list[Value]) -> Value:
    known = [v.value for v in values if isinstance(v, Known)]
    if len(known) == 2:
        op.require(not (known[0] * known[1]).any(), "a sum of constants next to -infinity")
        return Known(known[0] + known[1])  # one of both is 0, everywhere
    return op.end(total(op.builder, values, [1.0, 1.0]), "affine", 1)


def _stacked(op: Operator, values: list[Value], place: Array) -> Value:
    known = [v.value.reshape(-1) for v in values if isinstance(v, Known)]
    if len(known) == 2:
        return Known(np.concatenate(known)[place])
    return op.end(stack(op.builder, values, place, starts_of(values)), "moves")


def _masked(op: Operator, x: Value, mask: Array) -> Held:
    if isinstance(x, Tensor):
        return Masked(x, mask)
    op.require(x.value.dtype == np.float32, f"type {x.value.dtype}")
    return Unbounded(np.where(mask, np.float32(-np.inf), x.value)) if mask.any() else x


def taken(op: Operator, x: Value, place: Array) -> Value:
    return Known(x.value.reshape(-1)[place]) if isinstance(x, Known) else op.builder.gather(x, place)


def _heads(op: Operator, i: int, count: str) -> Value:
    """(batch, heads, steps, size)."""
    x = op.value(i)
    if len(x.shape) != 3:
        return x
    heads = op.integer(count, 0)
    op.require(heads > 0 and x.shape[2] % heads == 0, f"{count} {heads} of {x.shape}")
    return taken(op, x, np.swapaxes(indices(x.shape).reshape(*x.shape[:2], heads, -1), 1, 2))


def _present(op: Operator, i: int, x: Value) -> Value:
    """What is cached in input `i`, then what is new."""
    past = op.optional(i)
    if past is None:
        return x
    return _stacked(op, [past, x], np.concatenate([indices(past.shape), indices(x.shape) + past.size], axis=2))


def attention(op: Operator) -> list[Held]:
    query, past = _heads(op, 0, "q_num_heads"), op.optional(4)
    key, value = (_present(op, i + 3, _heads(op, i, "kv_num_heads")) for i in (1, 2))
    fits = (
        all(len(x.shape) == 4 for x in (query, key, value)) and query.shape[1] % key.shape[1] == 0 and op.integer("softmax_precision", 1) in (1, 11)
    )
    op.require(fits, f"heads of shapes {query.shape}, {key.shape}, {value.shape}, or a precision")
    scores, capped = scores_of(op, query, _repeated(op, key, query.shape[1]))
    biased, mask = _biased(op, capped, 0 if past is None else past.shape[2])
    weights = softmax(op.builder, biased, mask)
    found = matrix_product(op.builder, weights, _repeated(op, value, query.shape[1]))
    found = flat(op, found) if len(op.value(0).shape) == 3 else found
    shown = (scores, capped, biased, weights)[op.integer("qk_matmul_output_mode", 0)]
    op.require(op.integer("qk_matmul_output_mode", 0) != 2 or not mask.any() or not any(op.outputs[3:]), "scores that are -infinity as an output")
    return [op.end(op.as_tensor(x), "refused", name=WAYS) if isinstance(x, Tensor) else x for x in (found, key, value, shown)]


def flat(op: Operator, x: Tensor) -> Tensor:
    """(batch, steps, heads size)."""
    turned = op.builder.gather(x, np.swapaxes(indices(x.shape), 1, 2))
    return op.builder.reshape(turned, (*turned.shape[:2], turned.shape[2] * turned.shape[3]))


def _repeated(op: Operator, x: Value, heads: int) -> Value:
    return taken(op, x, np.repeat(indices(x.shape), heads // x.shape[1], axis=1))


def scores_of(op: Operator, query: Value, key: Value) -> tuple[Tensor, Tensor]:
    """Q scaled times K transposed; cap tanh(that / cap). What is computed of constants is off by its rounding."""
    size, cap, b = query.shape[3], op.real("softcap", 0.0), op.builder
    given = op.attributes.get("scale")
    factor, off = (op.real("scale", 0.0), 0.0) if given is not None else (1 / math.sqrt(size), 2.0**-51 / math.sqrt(size))
    scaled = b.scale(op.as_tensor(query), np.array(factor), np.array(off))
    found = matrix_product(b, scaled, taken(op, key, np.swapaxes(indices(key.shape), 2, 3)))
    if cap <= 0:
        return found, found
    inner = b.scale(found, np.array(1 / cap), np.array(2.0**-51 / cap))
    return found, b.scale(b.elementwise(Smooth("tanh"), inner), np.array(cap))


def _biased(op: Operator, scores: Tensor, past: int) -> tuple[Tensor, Array]:
    """Scores plus the file's mask; where that, causality, a window or padding leaves elements out."""
    batch, _, steps, keys = scores.shape
    lengths = None if op.optional(6) is None else np.array(op.known_integers(6))
    offset = np.full(batch, past) if lengths is None else lengths - steps
    distance = (np.arange(steps)[:, None] + offset.reshape(-1, 1, 1, 1)) - np.arange(keys)
    left, right = op.integer("left_window_size", -1), op.integer("right_window_size", -1)
    out = (distance < 0) & op.flag("is_causal", 0) | (left >= 0) & (distance > left) | (right >= 0) & (-distance > right)
    out = out if lengths is None else out | (np.arange(keys) >= lengths.reshape(-1, 1, 1, 1))
    held = op.held[3] if len(op.held) > 3 else None
    if held is None:
        return scores, np.broadcast_to(out, scores.shape)
    x, over = _split(
        op, Unbounded(np.where(held.value, 0, -np.inf).astype(np.float32)) if isinstance(held, Known) and held.value.dtype == np.bool_ else held
    )
    short = keys - x.shape[-1]
    op.require(short == 0 or isinstance(x, Known), "a mask that is short and not known")
    if isinstance(x, Known):
        room = [(0, 0)] * (len(x.shape) - 1) + [(0, short)]
        x, over = Known(np.pad(x.value, room)), np.pad(over, room, constant_values=True)
    found = scores if isinstance(x, Known) and not x.value.any() else total(op.builder, [scores, x], [1.0, 1.0])
    op.require(found.shape == scores.shape, "a mask of another shape")
    return found, np.broadcast_to(out | over, scores.shape)


def rotary_embedding(op: Operator) -> Value:
    """cos x - sin y, sin x + cos y for the pairs of a head."""
    x, heads = op.tensor(0), op.integer("num_heads", 0)
    split = len(x.shape) == 3 and heads > 0 and x.shape[2] % heads == 0
    op.require(split or len(x.shape) == 4, f"{heads} heads of {x.shape}")
    place = indices(x.shape).reshape(*x.shape[:2], heads, -1) if split else np.swapaxes(indices(x.shape), 1, 2)
    turned = op.integer("rotary_embedding_dim", 0) or place.shape[-1]
    cosine, sine = (_angles(op, i, place.shape, turned // 2) for i in (1, 2))
    first, second = (slice(0, turned, 2), slice(1, turned, 2)) if op.flag("interleaved", 0) else (slice(0, turned // 2), slice(turned // 2, turned))
    keep, cross, partner = np.ones(place.shape), np.zeros(place.shape), place.copy()
    keep[..., first], keep[..., second], cross[..., first], cross[..., second] = cosine, cosine, -sine, sine
    partner[..., first], partner[..., second] = place[..., second], place[..., first]
    back = np.argsort(place.reshape(-1), kind="stable")
    other = op.builder.gather(x, partner.reshape(-1)[back].reshape(x.shape))
    return op.end(op.builder.affine([(Diagonal(f.reshape(-1)[back]), v) for f, v in ((keep, x), (cross, other))], None, x.shape), "affine", 2)


def _angles(op: Operator, i: int, shape: Shape, half: int) -> Array:
    cache = floats(op.known(i))
    if op.optional(3) is not None:
        positions = op.known(3)
        op.require(positions.dtype == np.int64 and bool(((positions >= 0) & (positions < len(cache))).all()), "position_ids")
        cache = cache[positions]
    op.require(cache.shape == (*shape[:2], half), f"input {i} of shape {cache.shape}")
    return np.broadcast_to(cache[:, :, None, :], (*shape[:3], half))
