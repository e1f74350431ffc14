"""Masks of -infinity in front of a Softmax, as exporters write causal attention: the elements under it are left out of their row."""

from __future__ import annotations

import numpy as np

from graph.core import Shape
from graph.lowering.arithmetic import add, where
from graph.lowering.builder import Held, Known, Masked, Tensor, Unbounded
from graph.lowering.normalisation import masked_softmax
from graph.lowering.operator import Operator


def through_mask(op: Operator) -> Held:
    """An operator that reads something that is -infinity somewhere: a sum or a selection makes or keeps a mask, a Softmax ends it."""
    match op.kind, op.held:
        case "Add", (left, right) if left is not None and right is not None:
            (x, over), (y, under) = _taken(op, left), _taken(op, right)
            shape = op.builder.broadcast_shape(x.shape, y.shape)
            return _masked(add(op.builder, x, y), np.broadcast_to(over, shape) | np.broadcast_to(under, shape))
        case "Where", (Known(value=condition), left, right) if left is not None and right is not None:
            (x, over), (y, under) = _taken(op, left), _taken(op, right)
            shape = op.builder.broadcast_shape(condition.shape, x.shape, y.shape)
            masks = np.broadcast_to(over, shape), np.broadcast_to(under, shape)
            return _masked(where(op.builder, condition.astype(bool), x, y), np.where(condition, *masks))
        case "Softmax", (Masked(tensor=tensor, mask=mask),):
            return masked_softmax(op, tensor, mask)
    raise op.refuse("-infinity is only supported as a mask that Add or Where puts on the operand of a Softmax")


def _taken(op: Operator, held: Held) -> tuple[Tensor | Known, np.ndarray[Shape, np.dtype[np.bool_]]]:
    """The tensor with 0 for -infinity, and where that was."""
    match held:
        case Unbounded(value=value):
            mask = np.isneginf(value)
            return Known(np.where(mask, 0.0, value)), mask
        case Masked(tensor=tensor, mask=mask):
            return tensor, mask
        case Tensor() | Known():
            return held, np.zeros(held.shape, dtype=bool)
    raise op.refuse("a sequence where a tensor is due")


def _masked(x: Tensor | Known, mask: np.ndarray[Shape, np.dtype[np.bool_]]) -> Held:
    if isinstance(x, Tensor):
        return Masked(x, mask)
    return Unbounded(np.where(mask, -np.inf, x.value)) if mask.any() else x
