"""Linear maps W between flat tensors, in float64: the sums of products that every arithmetic of the checker is made of.

Arguments are flat on their last axis; all other axes are batch axes. An element of W x is a conventional sum of at most
`products` weights times entries of x, in some order; an element of d W one of at most `meets`. Two weights are never
multiplied together. Where weights were computed, the true W differs from the one held by at most R, entry by entry.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verifier.checker.refusal import Rejected

Array = NDArray[Any]
Sizes = Sequence[int]
Entries = Iterator[tuple[int, int, float]]
BLOCK = 1 << 18  # numbers in one block of patches of a convolution: 2 MB, which stays in the cache of a core


def _require(holds: bool, *said: str) -> None:
    """Refuse; what is said is the rule, "shape" if it is left out, and the place."""
    if not holds:
        raise Rejected(*("shape", *said)[-2:])


def _numbers(x: Array, dimensions: int, what: str) -> Array:
    """A read-only float64 copy of finite floats; widening is exact."""
    _require(x.ndim == dimensions and x.size > 0, f"{what} of shape {x.shape}")
    _require(x.dtype in (np.float16, np.float32, np.float64), "dtype", f"{what} of {x.dtype}")
    copy = np.array(x, dtype=np.float64, order="C")
    _require(bool(np.isfinite(copy).all()), "not-finite", what)
    copy.setflags(write=False)
    return copy


def _sizes(x: Sizes, count: int, least: int, what: str) -> tuple[int, ...]:
    _require(len(x) == count and all(type(n) is int and n >= least for n in x), f"{what} {x}")
    return tuple(x)


class Map:
    """W. A kind of map says how rows of numbers are multiplied by its weights, and by their transpose."""

    def __init__(self, sizes: tuple[int, int], products: int, meets: int, weight: Array, error: Array | None = None, moves: bool = False) -> None:
        self.in_size, self.out_size = sizes
        self.products = products  # most products in one element of W x: n_in of ARITHMETIC 4
        self.meets = meets  # most products in one element of d W: m of ARITHMETIC 5
        self.moves = moves  # each output is one input or 0, each input at most one output: no arithmetic either way
        self.weight, self.size, self.error, self.adds = weight, np.abs(weight), error, error is None and bool((weight >= 0).all())  # it adds

    def _multiply(self, rows: Array, weight: Array, transposed: bool) -> Array:
        """Of `rows` [n, in] every W x; if `transposed`, of `rows` [n, out] every d W; W has these weights. Rows may come out re-cut."""
        raise NotImplementedError

    def _times(self, x: Array, weight: Array, transposed: bool) -> Array:
        before, after = (self.out_size, self.in_size) if transposed else (self.in_size, self.out_size)
        _require(x.dtype == np.float64, "dtype", f"argument of {type(self).__name__}")  # names of dtypes take longer than most products
        _require(x.ndim > 0 and x.shape[-1] == before, f"argument of {type(self).__name__}: {x.shape} instead of {before}")
        return np.asarray(self._multiply(x.reshape(-1, before), weight, transposed)).reshape(*x.shape[:-1], after)

    def apply(self, x: Array) -> Array:
        """W x."""
        return self._times(x, self.weight, False)

    def adjoint(self, d: Array) -> Array:
        """d W."""
        return self._times(d, self.weight, True)

    def magnitude(self, x: Array) -> Array:
        """|W| x."""
        return self._times(x, self.size, False)

    def radius(self, x: Array) -> Array | None:
        """R x, or None where all weights were read."""
        return None if self.error is None else self._times(x, self.error, False)

    def row_sums(self) -> Array:
        """Per output the sum of |W|."""
        return self.magnitude(np.ones(self.in_size))

    def entries(self) -> Entries:
        """(output, input, weight) of every weight that is not 0, each place once."""
        raise NotImplementedError

    def radii(self) -> Entries:
        """(output, input, radius) of every weight that was computed: only scales hold such weights."""
        return iter(()) if self.error is None else ((i, i, r) for i, r in enumerate(self.error.tolist()))


class Dense(Map):
    """weight [out, in], applied to each of `outer` rows of the tensor."""

    def __init__(self, weight: Array, outer: int = 1) -> None:
        numbers, (self.outer,) = _numbers(weight, 2, "dense weight"), _sizes((outer,), 1, 1, "rows of a dense map")
        out, within = numbers.shape
        super().__init__((outer * within, outer * out), within, out, numbers)

    def _multiply(self, rows: Array, weight: Array, transposed: bool) -> Array:
        matrix = weight if transposed else weight.T
        return np.asarray(rows.reshape(-1, len(matrix)) @ matrix)

    def entries(self) -> Entries:
        (out, within), places = self.weight.shape, np.argwhere(self.weight).tolist()
        return ((n * out + i, n * within + j, float(self.weight[i, j])) for n in range(self.outer) for i, j in places)


class Sparse(Map):
    """weight [out, in], of which only the numbers that are not 0 are multiplied: as many per element as the fullest one needs."""

    def __init__(self, weight: Array) -> None:
        matrix = _numbers(weight, 2, "sparse weight")
        self.places = out, within = np.nonzero(matrix)
        self.tables = tables = _table(out, within, len(matrix)), _table(within, out, matrix.shape[1])
        super().__init__(matrix.shape[::-1], tables[0].shape[1], tables[1].shape[1], matrix[self.places])

    def _multiply(self, rows: Array, weight: Array, transposed: bool) -> Array:
        (places, slots), weight = self.tables[transposed], np.append(weight, 0.0)
        total = np.zeros((len(rows), places.shape[1]))
        for read, slot in zip(places, slots, strict=True):
            total += np.take(rows, read, axis=1) * weight[slot]
        return total

    def entries(self) -> Entries:
        return zip(*(side.tolist() for side in (*self.places, self.weight)), strict=True)


def _table(into: Array, read: Array, size: int) -> Array:
    """For each of `size` elements the places that it reads, and the numbers of these entries [2, most, size]; padded with place 0 and -1."""
    order, counts = np.argsort(into, kind="stable"), np.bincount(into, minlength=size)
    table = np.repeat([[[0]], [[-1]]], size, 2).repeat(counts.max(initial=1), 1)
    table[:, np.arange(into.size) - np.repeat(np.cumsum(counts) - counts, counts), into[order]] = read[order], order
    return table


class Convolution(Map):
    """weight [C_out, C_in/groups, *kernel] over [N, C_in, *spatial], as one product of matrices per block of patches."""

    def __init__(self, weight: Array, in_shape: Sizes, strides: Sizes, dilations: Sizes, pads: Sizes, groups: int) -> None:
        rank = weight.ndim - 2
        _require(1 <= rank <= 3, f"convolution weight of shape {weight.shape}")
        (c_out, c_in, *kernel), shape = weight.shape, _sizes(in_shape, rank + 2, 1, "input of a convolution")
        self.strides, self.dilations = _sizes(strides, rank, 1, "strides"), _sizes(dilations, rank, 1, "dilations")
        self.before, (groups,) = _sizes(pads, 2 * rank, 0, "pads")[:rank], _sizes((groups,), 1, 1, "groups")
        _require(shape[1] == groups * c_in and c_out % groups == 0, f"{shape[1]} channels in {groups} groups, weight of shape {weight.shape}")
        self.padded = tuple(n + a + b for n, a, b in zip(shape[2:], pads[:rank], pads[rank:], strict=True))
        room = [n - step * (k - 1) - 1 for n, step, k in zip(self.padded, self.dilations, kernel, strict=True)]
        _require(all(n >= 0 for n in room), f"kernel {kernel} on a padded input {self.padded}")
        self.in_shape, self.out_shape = shape, (shape[0], c_out, *(n // s + 1 for n, s in zip(room, self.strides, strict=True)))
        self.spatial, self.out_spatial, self.taps = shape[2:], self.out_shape[2:], list(np.ndindex(*kernel))
        along = list(zip(self.dilations, self.strides, self.out_spatial, strict=True))
        self.windows: list[tuple[Any, ...]] = [  # the places of the padded input that a tap of the kernel reads, one for every output
            (..., *(slice(t * d, t * d + s * (n - 1) + 1, s) for t, (d, s, n) in zip(tap, along, strict=True)), slice(None)) for tap in self.taps
        ]
        grouped = _numbers(weight, rank + 2, "convolution weight").reshape(groups, c_out // groups, c_in, len(self.taps))
        matrix = np.ascontiguousarray(grouped.transpose(0, 3, 2, 1))  # [groups, taps, C_in/groups, C_out/groups]
        super().__init__((math.prod(shape), math.prod(self.out_shape)), c_in * len(self.taps), c_out // groups * len(self.taps), matrix)

    def _multiply(self, rows: Array, weight: Array, transposed: bool) -> Array:
        """Over blocks of rows and taps whose patches are at most BLOCK numbers, as far as one tap of one row is. The rows of a block are the last
        axis, so that what is added lies together."""
        groups, _, per_group, outs = weight.shape
        d_shape, x_shape = (groups, outs, *self.out_spatial), (groups, per_group, *self.spatial)
        before, after = (d_shape, x_shape) if transposed else (x_shape, d_shape)
        rows, result = rows.reshape(-1, math.prod(before)), np.zeros((rows.size // math.prod(before), math.prod(after)))
        one_tap = groups * per_group * math.prod(self.out_spatial)
        taps_at_once = np.clip(BLOCK // one_tap, 1, len(self.taps))
        rows_at_once = np.maximum(BLOCK // (one_tap * taps_at_once), 1)
        inside: tuple[Any, ...] = (..., *(slice(a, a + n) for a, n in zip(self.before, self.spatial, strict=True)), slice(None))
        for block in (slice(a, a + rows_at_once) for a in range(0, len(rows), rows_at_once)):
            x = np.ascontiguousarray(rows[block].T).reshape(*before, -1)
            padded, y = np.zeros((groups, per_group, *self.padded, x.shape[-1])), np.zeros((*d_shape, x.shape[-1]))
            if not transposed:
                padded[inside] = x
            for taps in (slice(a, a + taps_at_once) for a in range(0, len(self.taps), taps_at_once)):
                matrix = weight[:, taps].reshape(groups, -1, outs)
                if transposed:
                    patches = (matrix @ x.reshape(groups, outs, -1)).reshape(groups, -1, per_group, *self.out_spatial, x.shape[-1])
                    for i, window in enumerate(self.windows[taps]):
                        padded[window] += patches[:, i]
                else:
                    patches = np.stack([padded[window] for window in self.windows[taps]], axis=1)
                    y += (matrix.swapaxes(1, 2) @ patches.reshape(groups, matrix.shape[1], -1)).reshape(y.shape)
            result[block] = (padded[inside] if transposed else y).reshape(-1, x.shape[-1]).T
        return result

    def entries(self) -> Entries:
        per_group, outs = self.weight.shape[2:]
        for i, (n, c, *at) in enumerate(np.ndindex(*self.out_shape)):
            for (t, tap), j in product(enumerate(self.taps), range(per_group)):
                where = [o * s + k * step - a for o, s, k, step, a in zip(at, self.strides, tap, self.dilations, self.before, strict=True)]
                weight = float(self.weight[c // outs, t, j, c % outs])
                if weight != 0 and all(0 <= w < size for w, size in zip(where, self.spatial, strict=True)):
                    yield i, int(np.ravel_multi_index((n, c // outs * per_group + j, *where), self.in_shape)), weight


class Index(Map):
    """y[i] = x[source[i]], or 0 where source[i] is -1."""

    def __init__(self, source: Array, in_size: int) -> None:
        _require(source.ndim == 1 and source.size > 0 and source.dtype == np.int64, f"index of shape {source.shape} and {source.dtype}")
        _require(type(in_size) is int and in_size > 0 and bool((source >= -1).all() and (source < in_size).all()), f"index past {in_size} inputs")
        self.source, used = source.copy(), np.flatnonzero(source >= 0)
        self.used = used[np.argsort(source[used], kind="stable")]  # outputs that are not 0, by the input they read
        self.inputs, self.starts, counts = np.unique(source[self.used], return_index=True, return_counts=True)
        super().__init__((in_size, source.size), 1, meets := int(counts.max(initial=1)), np.ones(1), None, meets == 1)
        self.inverse = np.full(in_size, -1)
        self.inverse[source[self.used]] = self.used  # of use where the map moves
        self.identity = in_size == source.size and bool((source == np.arange(in_size)).all())

    def _multiply(self, rows: Array, weight: Array, transposed: bool) -> Array:
        if self.identity:
            return rows
        if transposed and not self.moves:
            sums = np.zeros((len(rows), self.in_size))
            sums[:, self.inputs] = np.add.reduceat(np.take(rows, self.used, axis=1), self.starts, axis=1)
            return sums
        source = self.inverse if transposed else self.source
        result = np.take(rows, np.maximum(source, 0), axis=1)
        return np.asarray(result if bool((source >= 0).all()) else np.where(source >= 0, result, 0.0))

    def entries(self) -> Entries:
        return ((i, j, 1.0) for i, j in enumerate(self.source.tolist()) if j >= 0)


class Diagonal(Map):
    """y = weight * x; the true weight is within `error` of `weight`, or equal to it without one."""

    def __init__(self, weight: Array, error: Array | None = None) -> None:
        around = None if error is None else _numbers(error, 1, "radius of a scale")
        _require(around is None or (around.size == weight.size and bool((around >= 0).all())), "radius of a scale")
        super().__init__((weight.size, weight.size), 1, 1, _numbers(weight, 1, "scale"), around)

    def _multiply(self, rows: Array, weight: Array, transposed: bool) -> Array:
        return np.asarray(rows * weight)

    def entries(self) -> Entries:
        return ((i, i, w) for i, w in enumerate(self.weight.tolist()) if w != 0)


class Transposed(Map):
    """The transpose of a map: sums over what an expansion copied, transposed convolutions."""

    def __init__(self, of: Map) -> None:
        super().__init__((of.out_size, of.in_size), of.meets, of.products, of.weight, of.error, of.moves)
        self.of, self.size = of, of.size

    def _multiply(self, rows: Array, weight: Array, transposed: bool) -> Array:
        return self.of._multiply(rows, weight, not transposed)

    def entries(self) -> Entries:
        return ((j, i, w) for i, j, w in self.of.entries())
