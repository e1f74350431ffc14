"""What takes tensors apart, sorts, averages and normalises them, or makes them larger."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st
from onnx import helper

from benchmarks.strategies.builder import ACTIVATION_ERROR, ROUNDING, Array, Builder, Draw, Tensor, largest, weights
from benchmarks.strategies.shapes import image, partner, small, some_divisor

Operator = Callable[[Builder, Draw, Tensor], Tensor]
EPSILON = 0.25  # of normalisations: it bounds their slopes


def _reduced(draw: Draw, x: Tensor) -> tuple[int, tuple[int, ...], dict[str, Any]]:
    """How many elements become one, the shape, and the attributes: one axis that is not the first; a row keeps its axes."""
    axis = draw(st.integers(1, len(x.shape) - 1))
    keep = len(x.shape) == 2 or draw(st.booleans())
    shape = (*x.shape[:axis], *([1] if keep else []), *x.shape[axis + 1 :])
    return x.shape[axis], shape, {"axes": [axis], "keepdims": int(keep)}


def _smallest(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    _, shape, how = _reduced(draw, x)
    return b.reindexed("ReduceMin", x, [], shape, **how)


def _sum_of_sizes(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    n, shape, how = _reduced(draw, x)
    return b.linear("ReduceL1", x, [], shape, float(n), 0.0, n, **how)


def _length(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """The root of a sum of squares: its slope is at most 1 in the Euclidean norm."""
    n, shape, how = _reduced(draw, x)
    magnitude = math.sqrt(n) * x.magnitude
    error = math.sqrt(n) * x.error + ACTIVATION_ERROR * max(1.0, magnitude) + (n + 2) * ROUNDING * magnitude
    return b.emit("ReduceL2", [x.name], shape, magnitude, error, **how)


def _sum_of_squares(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    n, shape, how = _reduced(draw, x)
    magnitude = n * x.magnitude**2
    error = n * x.error * (2 * x.magnitude + x.error) + (n + 3) * ROUNDING * magnitude
    return b.emit("ReduceSumSquare", [x.name], shape, magnitude, error, **how)


def _log_sum_exp(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Its slopes sum to 1."""
    x = b.tame(x, 8.0)
    n, shape, how = _reduced(draw, x)
    magnitude = x.magnitude + math.log(n)
    error = x.error + (n + 2) * ACTIVATION_ERROR * max(1.0, magnitude)
    return b.emit("ReduceLogSumExp", [x.name], shape, magnitude, error, **how)


def _mean(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Of two or three tensors."""
    others = [partner(b, draw, x) for _ in range(draw(st.integers(1, 2)))]
    magnitude, error = max(t.magnitude for t in (x, *others)), max(t.error for t in (x, *others))
    return b.emit("Mean", [t.name for t in (x, *others)], x.shape, magnitude, error + 8 * ROUNDING * magnitude)


def _top(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """The k largest, or smallest, in order: order statistics have slope 1. Their places go nowhere."""
    axis = draw(st.integers(1, len(x.shape) - 1))
    k = draw(st.integers(1, x.shape[axis]))
    name = f"t{len(b.nodes)}"
    out = Tensor(name, (*x.shape[:axis], k, *x.shape[axis + 1 :]), x.magnitude, x.error)
    inputs = [x.name, b.constant(np.array([k], np.int64))]
    largest_first = draw(st.integers(0, 1))
    b.nodes.append(helper.make_node("TopK", inputs, [name, f"{name}_places"], name=f"TopK_{len(b.nodes)}", axis=axis, largest=largest_first))
    b.tensors.append(out)
    return out


def _resize(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Height and width doubled, by the nearest pixel or linearly."""
    x = small(b, small(b, image(b, draw, x), 1), 2)
    linear = draw(st.booleans())
    scales = b.constant(np.array([1, 1, 2, 2], np.float32))
    shape = (*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    how = {"mode": "linear", "coordinate_transformation_mode": draw(st.sampled_from(["half_pixel", "align_corners"]))} if linear else {
        "mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": draw(st.sampled_from(["floor", "round_prefer_floor"])),
    }  # fmt: skip
    no_region = b.constant(np.zeros(0, np.float32))  # opset 11 asks for one
    return b.linear("Resize", x, [no_region, scales], shape, 1.0, 0.0, 8, **how)


def _normalised(b: Builder, draw: Draw, x: Tensor, operator: str, size: int, parameters: tuple[Array, Array], **how: Any) -> Tensor:
    """(x - mean) / sqrt(variance + EPSILON) times a scale plus a bias, over `size` elements.

    The quotient is at most sqrt(size); where the elements move by d, mean and root of the variance move by at most d and 2 d, so that it moves by
    at most (2 + 2 sqrt(size)) d / sqrt(EPSILON). Float32 loses some roundings of the elements, of the result, and of the squares, where the
    variance is the mean of the squares less the square of the mean.
    """
    scale, bias = parameters
    squares = (size + 4) * ROUNDING * x.magnitude**2 / EPSILON * math.sqrt(size)
    steep = (2 + 2 * math.sqrt(size)) / math.sqrt(EPSILON)
    magnitude = math.sqrt(size) * largest(scale) + largest(bias)
    moved = x.error + (size + 4) * ROUNDING * x.magnitude
    error = largest(scale) * (steep * moved + squares) + ACTIVATION_ERROR * max(1.0, magnitude)
    return b.emit(operator, [x.name, b.constant(scale), b.constant(bias)], x.shape, magnitude, error, epsilon=EPSILON, **how)


def _layer_norm(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x, n = b.tame(x, 8.0), x.shape[-1]
    return _normalised(b, draw, x, "LayerNormalization", n, (weights(draw, n), weights(draw, n)), axis=draw(st.sampled_from([-1, len(x.shape) - 1])))


def _instance_norm(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = image(b, draw, b.tame(x, 8.0))
    channels = x.shape[1]
    return _normalised(b, draw, x, "InstanceNormalization", x.shape[2] * x.shape[3], (weights(draw, channels), weights(draw, channels)))


def _running_sum(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    axis = draw(st.integers(1, len(x.shape) - 1))
    n = x.shape[axis]
    how = {"exclusive": draw(st.integers(0, 1)), "reverse": draw(st.integers(0, 1))}
    return b.linear("CumSum", x, [b.constant(np.array(axis, np.int64))], x.shape, float(n), 0.0, n, **how)


def _tile(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    axis = draw(st.integers(1, len(x.shape) - 1))
    x = small(b, x, axis)
    repeats = [2 if k == axis else 1 for k in range(len(x.shape))]
    shape = tuple(n * k for n, k in zip(x.shape, repeats, strict=True))
    return b.reindexed("Tile", x, [b.constant(np.array(repeats, np.int64))], shape)


def _expand(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """A row becomes several."""
    x = b.reshape(x, (1, 1, x.size))
    x = small(b, x, 2)
    shape = (1, draw(st.integers(2, 3)), x.shape[2])
    return b.reindexed("Expand", x, [b.constant(np.array(shape, np.int64))], shape)


def _depth_to_space(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Four channels become four places, where there are four; else places become channels, where height and width are even."""
    x = image(b, draw, x)
    n, c, h, w = x.shape
    if c % 4 == 0:
        return b.reindexed("DepthToSpace", x, [], (n, c // 4, 2 * h, 2 * w), blocksize=2)
    if h % 2 == 0 and w % 2 == 0:
        return b.reindexed("SpaceToDepth", x, [], (n, 4 * c, h // 2, w // 2), blocksize=2)
    return b.reindexed("DepthToSpace", x, [], x.shape, blocksize=1)


def _einsum(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """A product of matrices, with a constant."""
    rows = some_divisor(draw, x.size)
    x = b.reshape(x, (1, rows, x.size // rows))
    m = draw(st.integers(1, 3))
    weight = weights(draw, x.shape[2], m)
    gain = float(np.abs(weight).sum(axis=0).max())
    return b.linear("Einsum", x, [b.constant(weight)], (1, m, rows), gain, 0.0, x.shape[2], equation="bij,jk->bki")


def _triangle(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    """Zeros above or below the diagonal."""
    return b.reindexed("Trilu", x, [b.constant(np.array(draw(st.integers(-1, 1)), np.int64))], x.shape, upper=draw(st.integers(0, 1)))


def _gather_elements(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    axis = len(x.shape) - 1
    index = np.array(draw(st.lists(st.integers(0, x.shape[axis] - 1), min_size=x.size, max_size=x.size)), np.int64).reshape(x.shape)
    return b.reindexed("GatherElements", x, [b.constant(index)], x.shape, axis=axis)


def _global_max(b: Builder, draw: Draw, x: Tensor) -> Tensor:
    x = image(b, draw, x)
    return b.reindexed("GlobalMaxPool", x, [], (*x.shape[:2], 1, 1))


REDUCTIONS: dict[str, Operator] = {
    "ReduceMin": _smallest,
    "ReduceL1": _sum_of_sizes,
    "ReduceL2": _length,
    "ReduceSumSquare": _sum_of_squares,
    "ReduceLogSumExp": _log_sum_exp,
    "Mean": _mean,
    "TopK": _top,
    "Resize": _resize,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "CumSum": _running_sum,
    "Tile": _tile,
    "Expand": _expand,
    "DepthToSpace": _depth_to_space,
    "Einsum": _einsum,
    "Trilu": _triangle,
    "GatherElements": _gather_elements,
    "GlobalMaxPool": _global_max,
}
