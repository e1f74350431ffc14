"""Multipliers on their way from tensors to events: which slopes are told, and their numbers, gathered."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds import relaxation
from bounds.linear import LinearBounds, State
from graph.core import Elementwise
from verifier.events import Places
from verifier.optimise import Slopes
from verifier.problem import only_pieces

Array = NDArray[Any]


def places_in(bounds: LinearBounds, state: State, slopes: Slopes) -> Places:
    """The elements whose slopes are free in the state of one box (B = 1): where the function is not linear."""
    groups = []
    for i, (_, upper) in slopes.items():
        node = bounds.graph.nodes[i]
        if isinstance(node, Elementwise):
            j = node.inputs[0]
            bent = torch.nonzero(~relaxation.is_linear(node.function, state.lower[j][0], state.upper[j][0])).squeeze(-1).numpy()
            groups += [(i, side, bent) for side in ((0,) if upper is None else (0, 1)) if bent.size]
    return Places(tuple(groups))


def gathered(bounds: LinearBounds, state: State, places: Places, slopes: Slopes, box: Tensor, row: Tensor) -> Array:
    """The slopes [N, len(places)] of rows `row` [N] of boxes `box` [N].

    Where the function is linear by now any slope is exact, and its own is told: the checker, whose bounds are wider by roundings, may find that
    it bends there after all, and loses little then.
    """
    dtype = np.float16 if only_pieces(bounds.graph) else np.float32
    parts = [np.zeros((len(box), 0), dtype=dtype)]
    for i, side, elements in places.groups:
        node, chosen = bounds.graph.nodes[i], slopes[i][side]
        if not isinstance(node, Elementwise) or chosen is None:
            raise TypeError(f"node {i} has no slopes on side {side}")
        at = torch.from_numpy(elements)
        low, high = (end[node.inputs[0]][box.unsqueeze(-1), at] for end in (state.lower, state.upper))
        linear, own = relaxation.is_linear(node.function, low, high), relaxation.default_slopes(node.function, low, high)[side]
        values = torch.where(linear, own, chosen[box.unsqueeze(-1), row.unsqueeze(-1), at])
        parts.append(values.numpy().astype(dtype))
    return np.concatenate(parts, 1)
