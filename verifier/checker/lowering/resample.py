"""Resize, Upsample, GridSample, AffineGrid: weighted sums of a few inputs. Places and weights are exact fractions, then the nearest float64.

Over the reals the file's numbers mean what they are. A runtime computes places in float32: in float32 only what is read by whole factors, where
no rounding can change the element, has a rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from verifier.checker.lowering.builder import Array, Shape, Tensor, Value, checked, indices, take
from verifier.checker.lowering.operator import Operator
from verifier.checker.maps import Diagonal, Index, Transposed

RESIZE = "antialias axes coordinate_transformation_mode cubic_coeff_a exclude_outside extrapolation_value keep_aspect_ratio_policy mode nearest_mode"
HALF = Fraction(1, 2)
Row = dict[int, Fraction]  # what one output takes: place -> weight
RADIUS = 2.0**-52  # relative, of a fraction rounded to float64


@dataclass(frozen=True)
class Axis:
    """Sizes before and after, size after over size before as the file has it, and the region of tf_crop_and_resize."""

    size: int
    resized: int
    scale: Fraction
    start: Fraction = Fraction(0)
    end: Fraction = Fraction(1)


def _axis(size: int, scale: Fraction) -> Axis:
    return Axis(size, int(np.float32(size) * np.float32(float(scale))), scale)


def _fractions(op: Operator, i: int) -> list[Fraction]:
    return [Fraction(v) for v in op.known_floats(i).reshape(-1).tolist()]


def upsample(op: Operator) -> Value:
    """Output i reads i / scale."""
    given = op.attributes.get("scales", ())
    scales = _fractions(op, 1) if op.version >= 9 else [Fraction(s) for s in given] if isinstance(given, tuple) else []
    return _resized(op, [_axis(n, s) for n, s in zip(op.tensor(0).shape, scales, strict=True)], "asymmetric", "floor")


def resize(op: Operator) -> Value:
    """By scales, or by sizes, of the axes that are named."""
    shape = op.tensor(0).shape
    if op.version == 10:
        return _resized(op, [_axis(n, s) for n, s in zip(shape, _fractions(op, 1), strict=True)], "asymmetric", "floor")
    named, coordinate = op.integers("axes"), op.string("coordinate_transformation_mode", "half_pixel")
    chosen = list(range(len(shape))) if named is None else [op.axis(a, len(shape)) for a in named]
    op.require(len(set(chosen)) == len(chosen), f"axes {named}")
    axes = [Axis(n, n, Fraction(1)) for n in shape]
    for a, axis in zip(chosen, _sized(op, [shape[a] for a in chosen]), strict=True):
        axes[a] = axis
    if coordinate == "tf_crop_and_resize":
        region = _fractions(op, 1)
        op.require(len(region) == 2 * len(chosen), f"a region of {len(region)} numbers")
        for i, a in enumerate(chosen):
            axes[a] = Axis(axes[a].size, axes[a].resized, axes[a].scale, region[i], region[i + len(chosen)])
    return _resized(op, axes, coordinate, op.string("nearest_mode", "round_prefer_floor"))


def _sized(op: Operator, before: list[int]) -> list[Axis]:
    if op.optional(2) is not None and op.value(2).size:
        op.require(op.optional(3) is None, "scales and sizes")
        return [_axis(n, s) for n, s in zip(before, _fractions(op, 2), strict=True)]
    sizes, policy = op.known_integers(3) or (), op.string("keep_aspect_ratio_policy", "stretch")
    scales = [Fraction(m, n) for n, m in zip(before, sizes, strict=True)]
    if policy == "stretch":
        return [Axis(n, m, s) for n, m, s in zip(before, sizes, scales, strict=True)]
    op.require(policy in ("not_larger", "not_smaller"), f"keep_aspect_ratio_policy {policy!r}")
    scale = sorted(scales)[0 if policy == "not_larger" else -1]
    return [Axis(n, math.floor(scale * n + HALF), scale) for n in before]


def _resized(op: Operator, axes: list[Axis], coordinate: str, rounding: str) -> Value:
    """One axis after the other; outside of a region there is a constant."""
    source = x = op.tensor(0)
    mode, safe = op.string("mode", "nearest"), True
    outside = np.zeros(checked([axis.resized for axis in axes], op.place), dtype=bool)
    op.require(all(axis.resized > 0 and axis.scale > 0 for axis in axes), "an empty axis")
    for a, axis in enumerate(axes):
        at = [_place(op, axis, i, coordinate) for i in range(axis.resized)]
        if coordinate == "tf_crop_and_resize":
            outside |= np.array([not 0 <= v <= axis.size - 1 for v in at]).reshape(-1, *(1,) * (len(axes) - a - 1))
        if axis.size == axis.resized and axis.scale == 1 and at == [*range(axis.size)]:
            continue
        rows = [_row(op, axis, v, mode, rounding) for v in at]
        safe = safe and mode == "nearest" and axis.scale.denominator == 1 and _certain(axis, coordinate, rounding)
        x = _along(op, x, a, rows)
    if outside.any():
        x = op.builder.gather(x, np.where(outside, -1, indices(x.shape)), np.where(outside, op.real("extrapolation_value", 0.0), 0.0))
    op.require(source.element == "float32" or (mode == "nearest" and not outside.any()), f"whole numbers in mode {mode!r}")
    return op.end(x, "moves" if safe else "refused", name="weights that a runtime computes", sources=(source.node,), element=source.element)


def _certain(axis: Axis, coordinate: str, rounding: str) -> bool:
    """By a whole factor no rounding of a runtime changes which element is the nearest."""
    whole = axis.scale.numerator
    half = coordinate in ("half_pixel", "pytorch_half_pixel")
    return coordinate == "asymmetric" or (half and (rounding.startswith("round") or whole & (whole - 1) == 0))


def _place(op: Operator, axis: Axis, i: int, coordinate: str) -> Fraction:
    """The coordinate that output i of an axis reads."""
    n, m, scale = axis.size, axis.resized, axis.scale
    match coordinate:
        case "asymmetric":
            return i / scale
        case "half_pixel":
            return (i + HALF) / scale - HALF
        case "pytorch_half_pixel":
            return (i + HALF) / scale - HALF if m > 1 else Fraction(0)
        case "half_pixel_symmetric":
            return Fraction(n, 2) * (1 - m / (scale * n)) + (i + HALF) / scale - HALF
        case "align_corners":
            return i * Fraction(n - 1) / (scale * n - 1) if scale * n != 1 else Fraction(0)
        case "tf_crop_and_resize" if m > 1:
            return axis.start * (n - 1) + i * (axis.end - axis.start) * (n - 1) / (m - 1)
        case "tf_crop_and_resize":
            return (axis.start + axis.end) * (n - 1) / 2
    raise op.refuse(f"coordinate_transformation_mode {coordinate!r}")


def _row(op: Operator, axis: Axis, at: Fraction, mode: str, rounding: str) -> Row:
    """What the output at `at` takes of its axis; places beyond the axis are those at its ends."""
    last = axis.size - 1
    if mode == "nearest":
        return {_cut(_nearest(op, at, rounding), last): Fraction(1)}
    op.require(mode in ("linear", "cubic"), f"mode {mode!r}")
    a, exclude = Fraction(op.real("cubic_coeff_a", -0.75)), op.flag("exclude_outside", 0)
    narrow = op.flag("antialias", 0) and axis.scale < 1
    stretch = axis.scale if narrow else Fraction(1)
    reach = math.ceil((1 if mode == "linear" else 2) / stretch)
    kernel: Callable[[Fraction], Fraction] = _triangle if mode == "linear" else lambda t: _cubic(t, a)
    taps = [math.floor(at) + t for t in range(1 - reach, reach + 1)]
    found = [(t, kernel((at - t) * stretch)) for t in taps if not exclude or 0 <= t <= last]
    whole = sum((w for _, w in found), Fraction(0)) if exclude or narrow else Fraction(1)
    op.require(whole != 0, "weights that sum to 0")
    return _gathered([(_cut(t, last), w / whole) for t, w in found])


def _gathered(taps: list[tuple[int, Fraction]]) -> Row:
    """Weights of one place added; 0 left out, but for one."""
    row: Row = {}
    for t, w in taps:
        row[t] = row.get(t, Fraction(0)) + w
    return {t: w for t, w in row.items() if w != 0} or {taps[0][0]: Fraction(0)}


def _cut(t: int, last: int) -> int:
    return 0 if t < 0 else last if t > last else t


def _nearest(op: Operator, at: Fraction, rounding: str) -> int:
    match rounding:
        case "round_prefer_floor":
            return math.ceil(at - HALF)
        case "round_prefer_ceil":
            return math.floor(at + HALF)
        case "floor":
            return math.floor(at)
        case "ceil":
            return math.ceil(at)
    raise op.refuse(f"nearest_mode {rounding!r}")


def _triangle(t: Fraction) -> Fraction:
    return 1 - abs(t) if abs(t) < 1 else Fraction(0)


def _cubic(t: Fraction, a: Fraction) -> Fraction:
    """Keys' kernel."""
    t = abs(t)
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else Fraction(0)


def _along(op: Operator, x: Tensor, axis: int, rows: list[Row]) -> Tensor:
    """Each place of an axis replaced by a weighted sum over it."""
    most = int(np.max([len(row) for row in rows]))
    taps = np.array([[*row, *(next(iter(row)),) * (most - len(row))] for row in rows], dtype=np.int64)
    weights = [[*row.values(), *(Fraction(0),) * (most - len(row))] for row in rows]
    index = np.moveaxis(np.take(indices(x.shape), taps, axis=axis), axis + 1, -1)
    around = (len(rows), *(1,) * (len(x.shape) - axis - 1), most)
    return _weighted(op, x, index, [np.broadcast_to(w.reshape(around), index.shape) for w in _floats(weights)])


def _floats(weights: list[list[Fraction]]) -> tuple[Array, Array]:
    """The nearest float64, and how far the fraction may be off."""
    found = np.array([[float(w) for w in row] for row in weights])
    off = np.array([[Fraction(float(w)) != w for w in row] for row in weights])
    return found, np.where(off, np.abs(found) * RADIUS + 2.0**-1022, 0.0)


def _weighted(op: Operator, x: Tensor, index: Array, weights: list[Array]) -> Tensor:
    """[...]: sums over the last axis of `index` of weight times x[index], 0 for -1."""
    shape, taps = index.shape[:-1], index.shape[-1]
    if taps == 1 and bool((weights[0] == 1).all()):
        return op.builder.gather(x, index.reshape(shape))
    checked(index.shape, op.place)
    taken = op.builder.linear(take(x, index), x, index.shape)
    factor, radius = (w.reshape(-1) for w in weights)
    scaled = op.builder.linear(Diagonal(factor, radius if radius.any() else None), taken, index.shape)
    rows = np.repeat(np.arange(math.prod(shape)), taps)
    return op.builder.linear(Transposed(Index(rows, math.prod(shape))), scaled, shape)


def grid_sample(op: Operator) -> Value:
    """The input read at the places of a constant grid."""
    x, grid = op.tensor(0), op.known_floats(1)
    rank, old = len(x.shape) - 2, op.version < 20
    mode = op.string("mode", "bilinear" if old else "linear").removeprefix("bi")
    op.require(rank in (2, 3) and grid.ndim == rank + 2 and grid.shape[-1] == rank and grid.shape[0] == x.shape[0], f"a grid of shape {grid.shape}")
    op.require(mode in ("nearest", "linear", "cubic") and (rank == 2 or mode != "cubic"), f"mode {mode!r}")
    shape, planes = (*x.shape[:2], *grid.shape[1:-1]), math.prod(x.shape[2:])
    rows = [_sample(op, place, x.shape[2:], mode) for place in grid.reshape(-1, rank).tolist()]
    most = int(np.max([len(row) for row in rows]))
    taps = np.array([[*(t for t, _ in row), *(-1,) * (most - len(row))] for row in rows], dtype=np.int64)
    weights = _floats([[*(w for _, w in row), *(Fraction(0),) * (most - len(row))] for row in rows])
    taps = np.broadcast_to(taps.reshape(x.shape[0], 1, *grid.shape[1:-1], most), (*shape, most))
    start = (np.arange(math.prod(x.shape[:2])) * planes).reshape(*x.shape[:2], *(1,) * (rank + 1))
    spread = [np.broadcast_to(w.reshape(x.shape[0], 1, *grid.shape[1:-1], most), (*shape, most)) for w in weights]
    found = _weighted(op, x, np.where(taps < 0, -1, taps + start), spread)
    return op.end(found, "refused", name="weights that a runtime computes", sources=(x.node,))


def _sample(op: Operator, place: list[float], sizes: Shape, mode: str) -> list[tuple[int, Fraction]]:
    """(flat place, weight) of what one point of the grid reads; its first coordinate is that of the last axis."""
    found = [(0, Fraction(1))]
    for v, n in zip(place[::-1], sizes, strict=True):
        taps = _taps(op, Fraction(v), n, mode)
        found = [(p * n + t, w * u) for p, w in found for t, u in taps]
    return found or [(-1, Fraction(0))]


def _taps(op: Operator, v: Fraction, n: int, mode: str) -> list[tuple[int, Fraction]]:
    """Of one axis: pixels and weights; what is outside of it is left out, or read where the padding mode says."""
    aligned, padding = op.flag("align_corners", 0), op.string("padding_mode", "zeros")
    op.require(padding in ("zeros", "border", "reflection"), f"padding_mode {padding!r}")
    at = (v + 1) / 2 * (n - 1) if aligned else ((v + 1) * n - 1) / 2
    if mode != "cubic" and padding != "zeros":
        at = _inside(at, n, aligned, padding)
    if mode == "nearest":
        taps = [(round(at), Fraction(1))]
    else:
        kernel: Callable[[Fraction], Fraction] = _triangle if mode == "linear" else lambda t: _cubic(t, Fraction(-3, 4))
        taps = [(math.floor(at) + t, kernel(at - math.floor(at) - t)) for t in (range(2) if mode == "linear" else range(-1, 3))]
    if padding != "zeros":
        return [(_cut(int(_inside(Fraction(t), n, aligned, padding)), n - 1), w) for t, w in taps]
    return [(t, w) for t, w in taps if 0 <= t < n and w != 0]


def _inside(at: Fraction, n: int, aligned: bool, padding: str) -> Fraction:
    """Cut to the pixels, or mirrored at the centres (`aligned`) or outer edges of the outermost ones."""
    if padding == "border":
        return Fraction(0) if at < 0 else Fraction(n - 1) if at > n - 1 else at
    low, span = (Fraction(0), n - 1) if aligned else (-HALF, n)
    if span == 0:
        return Fraction(0)
    turns, rest = divmod(abs(at - low), span)
    return low + (rest if turns % 2 == 0 else span - rest)


def affine_grid(op: Operator) -> Value:
    """theta [N, r, r + 1] applied to the normalised coordinates of all places of an image: a product with a constant matrix."""
    theta, size = op.tensor(0), op.known_integers(1) or ()
    rank, aligned = len(size) - 2, op.flag("align_corners", 0)
    op.require(rank in (2, 3) and all(n >= 1 for n in size) and theta.shape == (size[0], rank, rank + 1), f"size {size}")
    axes = [[_coordinate(i, n, aligned) for i in range(n)] for n in size[2:]]
    points = [[*(axes[a][i] for a, i in reversed(list(enumerate(at)))), Fraction(1)] for at in np.ndindex(*size[2:])]
    shape = checked((size[0], len(points), rank, rank + 1), op.place)
    index = np.broadcast_to(indices(theta.shape)[:, None], shape)
    found = _weighted(op, theta, index, [np.broadcast_to(w[None, :, None], shape) for w in _floats(points)])
    found = op.builder.reshape(found, (size[0], *size[2:], rank))
    return op.end(found, "refused", name="coordinates that a runtime computes", sources=(theta.node,))


def _coordinate(i: int, n: int, aligned: bool) -> Fraction:
    if aligned:
        return Fraction(2 * i, n - 1) - 1 if n > 1 else Fraction(-1)
    return Fraction(2 * i + 1, n) - 1
