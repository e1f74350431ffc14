"""Maxima in graphs that tests make by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from graph.core import Node, Shape
from graph.lowering.builder import Builder, Tensor


def with_maximum(nodes: Sequence[Node], windows: NDArray[np.int64], shape: Shape) -> list[Node]:
    """`nodes` and then those of the maxima over `windows` of the last one; the last of them holds the result."""
    source = nodes[-1]
    builder = Builder(10_000, 10**9, [*nodes], origin=source.origin)
    found = builder.maximum(Tensor(len(nodes) - 1, source.shape, source.origin.element_type), windows, shape)
    if found.node != len(builder.nodes) - 1 or builder.nodes[-1].shape != shape:
        raise ValueError("the maximum is not a node of this shape")
    return builder.nodes
