"""Resize, Upsample, GridSample and AffineGrid: every output is a weighted sum of a few inputs, with constant weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.core import Shape
from graph.linear_map import Dense, Gather, LinearMap, Scale, Sum, compose
from graph.lowering.arithmetic import float64
from graph.lowering.builder import Value, indices
from graph.lowering.operator import Operator

Array = NDArray[Any]

COORDINATE_ROUNDINGS = 64  # a runtime computes coordinates, and weights from them, in float32


@dataclass(frozen=True)
class Axis:
    """One axis of a Resize: sizes before and after, output size over input size, and the region [start, end] (tf_crop_and_resize)."""

    size: int
    resized: int
    ratio: float
    region: tuple[float, float]


def weighted(index: Array, weight: Array, in_shape: Shape, out_shape: Shape) -> LinearMap:
    """y[i] = sum over t of weight[i, t] x[index[i, t]], flat; -1 reads 0. A map that only moves elements has no weights."""
    if index.shape[1] == 1 and bool(((weight == 1) | (index < 0)).all()):
        return Gather(in_shape, out_shape, index.reshape(-1))
    taken = Gather(in_shape, index.shape, index.reshape(-1))
    return compose(compose(taken, Scale(index.shape, index.shape, weight.reshape(-1))), Sum(index.shape, out_shape, (1,)))


def lower_upsample(op: Operator) -> Value:
    """Upsample (versions 7 and 9): output position i reads the place i / scale."""
    x = op.variable(0)
    scales = op.known(1) if op.version >= 9 else np.asarray(op.attributes["scales"])
    ratios = [float(s) for s in float64(scales).reshape(-1)]
    axes = [Axis(n, _scaled(op, n, r), r, (0.0, 1.0)) for n, r in zip(x.shape, ratios, strict=True)]
    return _resize(op, axes, op.string("mode", "nearest"), "asymmetric", "floor")


def _scaled(op: Operator, size: int, ratio: float) -> int:
    """The size that runtimes give an axis: the product in float32, cut off (10 by 0.7, which as a float32 is less, is 7)."""
    resized = int(np.float32(size) * np.float32(ratio))
    if resized < 1:
        raise op.malformed(f"an axis of {size} elements by a scale of {ratio:g} has none left")
    return resized


def lower_resize(op: Operator) -> Value:
    """Resize by scales or sizes. Version 10 knows no coordinate transformation but that of Upsample."""
    mode = op.string("mode", "nearest")
    if op.version == 10:
        x = op.variable(0)
        ratios = [float(s) for s in float64(op.known(1)).reshape(-1)]
        axes = [Axis(n, _scaled(op, n, r), r, (0.0, 1.0)) for n, r in zip(x.shape, ratios, strict=True)]
        return _resize(op, axes, mode, "asymmetric", "floor")
    return _resize(op, _axes(op), mode, op.string("coordinate_transformation_mode"), op.string("nearest_mode"))


def _axes(op: Operator) -> list[Axis]:
    """Every axis of the input, by `scales` or `sizes` of the axes that the attribute `axes` names (all, without one)."""
    x = op.variable(0)
    rank = len(x.shape)
    named = op.integers("axes")
    chosen = list(range(rank)) if named is None else [op.axis(a, rank) for a in named]
    scales = op.known(2) if op.optional(2) is not None and op.value(2).size else None
    sizes = op.known_integers(3) if scales is None else None
    if len(chosen) != (len(sizes or ()) if scales is None else scales.size):
        raise op.malformed("scales or sizes do not fit the axes")
    if scales is not None:
        ratios = [float(s) for s in float64(scales).reshape(-1)]
        resized = [_scaled(op, x.shape[a], r) for a, r in zip(chosen, ratios, strict=True)]
    else:
        resized, ratios = _by_sizes(op, [x.shape[a] for a in chosen], sizes or ())
    region = float64(op.known(1)).reshape(-1) if op.string("coordinate_transformation_mode") == "tf_crop_and_resize" else np.zeros(0)
    found = [Axis(n, n, 1.0, (0.0, 1.0)) for n in x.shape]
    for i, a in enumerate(chosen):
        place = (float(region[i]), float(region[i + len(chosen)])) if region.size else (0.0, 1.0)
        found[a] = Axis(x.shape[a], resized[i], ratios[i], place)
    return found


def _by_sizes(op: Operator, before: list[int], sizes: tuple[int, ...]) -> tuple[list[int], list[float]]:
    """Sizes and ratios; with a policy one ratio for all axes, so that nothing gets larger, or smaller, than asked for."""
    ratios = [m / n for n, m in zip(before, sizes, strict=True)]
    match op.string("keep_aspect_ratio_policy", "stretch"):
        case "stretch":
            return list(sizes), ratios
        case "not_larger" | "not_smaller" as policy:
            ratio = min(ratios) if policy == "not_larger" else max(ratios)
            return [math.floor(ratio * n + 0.5) for n in before], [ratio] * len(before)
        case policy:
            raise op.refuse(f"keep_aspect_ratio_policy {policy!r} is not supported")


def _resize(op: Operator, axes: list[Axis], mode: str, coordinates: str, rounding: str) -> Value:
    """One axis after the other. What lies outside of a region of tf_crop_and_resize is extrapolation_value."""
    x, linear_map, outside = op.variable(0), None, np.zeros(op.builder.check_size([a.resized for a in axes]), dtype=bool)
    shape = x.shape
    for a, axis in enumerate(axes):
        places = _places(op, axis, coordinates)
        if axis.size == axis.resized and axis.ratio == 1 and bool((places == np.arange(axis.size)).all()):
            continue
        matrix = _matrix(op, axis, places, mode, rounding)
        if coordinates == "tf_crop_and_resize":
            lost = (places < 0) | (places > axis.size - 1)
            outside |= lost.reshape(-1, *(1,) * (len(axes) - a - 1))
        step = _along(shape, a, matrix)
        linear_map = step if linear_map is None else compose(linear_map, step)
        shape = step.out_shape
    if linear_map is None:
        return x
    if not outside.any():
        return op.builder.affine([(linear_map, x)], None, shape, roundings=_roundings(mode))
    kept = compose(linear_map, Gather(shape, shape, np.where(outside, -1, indices(shape)).reshape(-1)))
    return op.builder.affine([(kept, x)], np.where(outside, op.real("extrapolation_value"), 0.0), shape, roundings=_roundings(mode))


def _roundings(mode: str) -> int:
    return 0 if mode == "nearest" else COORDINATE_ROUNDINGS


def _along(shape: Shape, axis: int, matrix: Array) -> LinearMap:
    """`matrix` [resized, size] applied along one axis, by the entries of each row that are not 0."""
    used = max(int((matrix != 0).sum(axis=1).max()), 1)
    tap = np.sort(np.argsort(matrix == 0, axis=1, kind="stable")[:, :used], axis=1)
    weight = np.take_along_axis(matrix, tap, axis=1)
    out_shape = (*shape[:axis], len(matrix), *shape[axis + 1 :])
    index = np.moveaxis(np.take(indices(shape), np.where(weight != 0, tap, tap[:, :1]), axis=axis), axis + 1, -1)
    spread = np.broadcast_to(weight.reshape(len(matrix), *(1,) * (len(shape) - axis - 1), used), index.shape)
    return weighted(index.reshape(-1, used), spread.reshape(-1, used), shape, out_shape)


def _places(op: Operator, axis: Axis, mode: str) -> Array:
    """The input coordinate that each output position reads (attribute coordinate_transformation_mode)."""
    i, n, m, r = np.arange(axis.resized), axis.size, axis.resized, axis.ratio
    start, end = axis.region
    match mode:
        case "asymmetric":
            return np.asarray(i / r)
        case "half_pixel":
            return np.asarray((i + 0.5) / r - 0.5)
        case "pytorch_half_pixel":
            return np.asarray((i + 0.5) / r - 0.5 if m > 1 else i * 0.0)
        case "half_pixel_symmetric":
            return np.asarray(n / 2 * (1 - m / (r * n)) + (i + 0.5) / r - 0.5)
        case "align_corners":
            return np.asarray(i * ((n - 1) / (r * n - 1)) if r * n != 1 else i * 0.0)
        case "tf_crop_and_resize":
            return np.asarray(start * (n - 1) + i * (end - start) * (n - 1) / (m - 1) if m > 1 else 0.5 * (start + end) * (n - 1) + i * 0.0)
    raise op.refuse(f"coordinate_transformation_mode {mode!r} is not supported")


def _matrix(op: Operator, axis: Axis, places: Array, mode: str, rounding: str) -> Array:
    """[resized, size]: how much of each input every output of one axis takes."""
    found, rows = np.zeros((axis.resized, axis.size)), np.arange(axis.resized)
    if mode == "nearest":
        found[rows, np.clip(_nearest(op, places, rounding), 0, axis.size - 1).astype(np.int64)] = 1
        return found
    if mode not in ("linear", "cubic"):
        raise op.refuse(f"mode {mode!r} is not supported (nearest, linear and cubic are)")
    stretch = min(axis.ratio, 1.0) if op.integer("antialias") else 1.0
    reach = math.ceil((1 if mode == "linear" else 2) / stretch)
    base = np.floor(places)
    taps = base[:, None] + np.arange(1 - reach, reach + 1)[None, :]
    distance = (places[:, None] - taps) * stretch
    weight = _triangle(distance) if mode == "linear" else cubic(distance, op.real("cubic_coeff_a", -0.75))
    if op.integer("exclude_outside"):
        weight = np.where((taps >= 0) & (taps < axis.size), weight, 0.0)
    if stretch < 1 or op.integer("exclude_outside"):
        weight = weight / weight.sum(axis=1, keepdims=True)
    for t in range(taps.shape[1]):
        np.add.at(found, (rows, np.clip(taps[:, t], 0, axis.size - 1).astype(np.int64)), weight[:, t])
    return found


def _nearest(op: Operator, places: Array, rounding: str) -> Array:
    match rounding:
        case "round_prefer_floor":
            return np.asarray(np.ceil(places - 0.5))
        case "round_prefer_ceil":
            return np.asarray(np.floor(places + 0.5))
        case "floor":
            return np.asarray(np.floor(places))
        case "ceil":
            return np.asarray(np.ceil(places))
    raise op.refuse(f"nearest_mode {rounding!r} is not supported")


def _triangle(distance: Array) -> Array:
    return np.asarray(np.maximum(1 - np.abs(distance), 0.0))


def cubic(distance: Array, a: float) -> Array:
    """Keys' convolution kernel with parameter `a`."""
    t = np.abs(distance)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.asarray(np.where(t <= 1, near, np.where(t < 2, far, 0.0)))


def lower_grid_sample(op: Operator) -> Value:
    """The input read at the places of a constant grid, by the nearest pixel or by linear or cubic weights."""
    x, grid = op.variable(0), float64(op.known(1))
    rank = len(x.shape) - 2
    if grid.ndim != rank + 2 or grid.shape[-1] != rank or grid.shape[0] != x.shape[0] or rank not in (2, 3):
        raise op.malformed(f"a grid of shape {grid.shape} does not fit an input of shape {x.shape}")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(op.string("mode"), op.string("mode"))
    if mode not in ("nearest", "linear", "cubic") or (mode == "cubic" and rank != 2):
        raise op.refuse(f"mode {mode!r} over {rank} axes is not supported")
    taps, weights = [np.zeros((*grid.shape[:-1], 1), dtype=np.int64)], [np.ones((*grid.shape[:-1], 1))]
    for a in range(rank):
        tap, weight = _samples(op, grid[..., rank - 1 - a], x.shape[2 + a], mode)  # the grid's last axis begins with the last axis of the input
        inside = (tap >= 0)[..., None, :] & (taps[-1] >= 0)[..., :, None]
        flat = np.where(inside, taps[-1][..., :, None] * x.shape[2 + a] + tap[..., None, :], -1)
        taps.append(flat.reshape(*grid.shape[:-1], -1))
        weights.append((weights[-1][..., :, None] * weight[..., None, :]).reshape(*grid.shape[:-1], -1))
    shape = op.builder.check_size((*x.shape[:2], *grid.shape[1:-1]))
    index, weight = (np.broadcast_to(v[-1][:, None], (*shape, v[-1].shape[-1])) for v in (taps, weights))
    op.builder.check_size(index.shape)
    planes = (np.arange(math.prod(x.shape[:2])) * math.prod(x.shape[2:])).reshape(*x.shape[:2], *(1,) * (rank + 1))
    index = np.where(index >= 0, index + planes, -1).reshape(-1, index.shape[-1])
    linear_map = weighted(index, weight.reshape(index.shape), x.shape, shape)
    return op.builder.affine([(linear_map, x)], None, shape, roundings=_roundings(mode))


def _samples(op: Operator, place: Array, size: int, mode: str) -> tuple[Array, Array]:
    """Pixels [..., taps] of one axis, -1 for padding with zeros, and their weights, at the normalised coordinates `place`."""
    aligned = bool(op.integer("align_corners"))
    at = (place + 1) / 2 * (size - 1) if aligned else ((place + 1) * size - 1) / 2
    padding = op.string("padding_mode")
    if padding not in ("zeros", "border", "reflection"):
        raise op.refuse(f"padding_mode {padding!r} is not supported")
    if padding == "border" and mode != "cubic":
        at = np.clip(at, 0, size - 1)
    if padding == "reflection" and mode != "cubic":
        at = _reflected(at, size, aligned)
    if mode == "nearest":
        tap, weight = np.rint(at)[..., None], np.ones((*at.shape, 1))
    else:
        tap = np.floor(at)[..., None] + np.arange(*((0, 2) if mode == "linear" else (-1, 3)))
        distance = at[..., None] - tap
        weight = _triangle(distance) if mode == "linear" else cubic(distance, -0.75)
    if padding == "border":
        tap = np.clip(tap, 0, size - 1)
    elif padding == "reflection":
        tap = np.clip(_reflected(tap, size, aligned), 0, size - 1)
    inside = (tap >= 0) & (tap <= size - 1)
    return np.where(inside, np.where(inside, tap, 0), -1).astype(np.int64), weight


def _reflected(at: Array, size: int, aligned: bool) -> Array:
    """`at` mirrored at the borders, which are the centres of the outer pixels, or their outer edges."""
    low, high = (0.0, size - 1.0) if aligned else (-0.5, size - 0.5)
    span = high - low
    if span == 0:
        return np.zeros_like(at)
    offset = np.abs(at - low)
    turns, rest = np.floor(offset / span), np.mod(offset, span)
    return np.asarray(np.where(turns % 2 == 0, low + rest, high - rest))


def lower_affine_grid(op: Operator) -> Value:
    """theta times the normalised coordinates of every place, the last axis first, and 1: linear in theta."""
    theta, size = op.variable(0), op.known_integers(1) or ()
    rank = len(size) - 2
    if rank not in (2, 3) or theta.shape != (size[0], rank, rank + 1):
        raise op.malformed(f"theta of shape {theta.shape} does not fit size {size}")
    op.builder.check_size((rank * (rank + 1), *size[2:], rank))
    axes = [_coordinates(n, bool(op.integer("align_corners"))) for n in size[2:]]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(size[2:])], axis=-1).reshape(-1, rank + 1)
    matrix = np.einsum("pc,rs->prsc", places, np.eye(rank)).reshape(len(places) * rank, rank * (rank + 1))
    return op.builder.affine([(Dense(theta.shape, (size[0], *size[2:], rank), matrix), theta)], None, (size[0], *size[2:], rank), roundings=8)


def _coordinates(size: int, aligned: bool) -> Array:
    """From -1 to 1: the centres of `size` pixels, or (`aligned`) of the outermost ones at the ends."""
    if aligned:
        return np.linspace(-1.0, 1.0, size) if size > 1 else np.array([-1.0])
    return (2 * np.arange(size) + 1) / size - 1
