"""Linear maps as frozen data: the one protocol behind evaluation, interval, backward, rounding and LP rules.

A map takes a tensor of shape `in_shape` to one of shape `out_shape`. All methods work on *flat* batches: the last
axis of the argument has `in_size` (`apply`, `abs_apply`) or `out_size` (`adjoint`) entries in C order, and every
leading axis is a batch axis. Weights are held by reference and never copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.errors import MalformedGraph

Array = NDArray[Any]
Shape = tuple[int, ...]
PATCHES = 1 << 22  # numbers that the adjoint of a convolution makes at a time: 32 MB
MINUS = np.array([-1.0])  # a factor that is a sign, and no weight that may be replaced
TILE = 1 << 18  # numbers that a convolution copies at a time: 2 MB, which stays in a cache


@dataclass(frozen=True, eq=False)
class LinearMap:
    """Base of all linear maps. Compared by identity: unrolled steps of a recurrent net share one object."""

    in_shape: Shape
    out_shape: Shape

    @property
    def in_size(self) -> int:
        return math.prod(self.in_shape)

    @property
    def out_size(self) -> int:
        return math.prod(self.out_shape)

    def apply(self, x: Array) -> Array:
        """W x for every row of `x` [..., in_size]; result [..., out_size]."""
        raise NotImplementedError(type(self).__name__)

    def adjoint(self, d: Array) -> Array:
        """d W for every row of `d` [..., out_size]; result [..., in_size]."""
        raise NotImplementedError(type(self).__name__)

    def absolute(self) -> LinearMap:
        """The map |W|."""
        raise NotImplementedError(type(self).__name__)

    def abs_apply(self, x: Array) -> Array:
        """|W| x for every row of `x` [..., in_size]; result [..., out_size]."""
        return self.absolute().apply(x)

    def rows(self, indices: Sequence[int] | Array) -> Array:
        """Rows of W as a dense array [len(indices), in_size]."""
        index = np.asarray(indices, dtype=np.int64)
        unit = np.zeros((index.size, self.out_size))
        unit[np.arange(index.size), index] = 1.0
        return self.adjoint(unit)

    @property
    def is_exact(self) -> bool:
        """Whether `apply` and `adjoint` only move, copy or negate numbers, without a rounding."""
        return False

    @property
    def adds(self) -> bool:
        """Whether no weight is known to be negative."""
        return False

    def fan_in(self) -> int:
        """The largest number of products that meet in one output element."""
        raise NotImplementedError(type(self).__name__)

    def fan_out(self) -> int:
        """The largest number of products that meet in one element of the adjoint."""
        raise NotImplementedError(type(self).__name__)


@dataclass(frozen=True, eq=False)
class Reshape(LinearMap):
    """The identity on flat tensors."""

    def __post_init__(self) -> None:
        if self.in_size != self.out_size:
            raise MalformedGraph(f"reshape from {self.in_shape} to {self.out_shape} changes the size")

    def apply(self, x: Array) -> Array:
        return x

    def adjoint(self, d: Array) -> Array:
        return d

    def absolute(self) -> LinearMap:
        return self

    @property
    def is_exact(self) -> bool:
        return True

    @property
    def adds(self) -> bool:
        return True

    def fan_in(self) -> int:
        return 1

    def fan_out(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class Dense(LinearMap):
    """y = x W^T along the last axis, the same for each of `groups_of_rows` leading rows.

    `weight` is [out_features, in_features]; in_shape flattens to (outer, in_features) and out_shape to
    (outer, out_features) with the same `outer`.
    """

    weight: Array = field(repr=False)

    def __post_init__(self) -> None:
        out_features, in_features = self.weight.shape
        if self.in_size // max(in_features, 1) * out_features != self.out_size or self.in_size % max(in_features, 1):
            raise MalformedGraph(f"dense weight {self.weight.shape} does not map {self.in_shape} to {self.out_shape}")

    @property
    def outer(self) -> int:
        return self.in_size // int(self.weight.shape[1])

    def apply(self, x: Array) -> Array:
        y = x.reshape(-1, self.weight.shape[1]) @ self.weight.T
        return y.reshape(*x.shape[:-1], self.out_size)

    def adjoint(self, d: Array) -> Array:
        y = d.reshape(-1, self.weight.shape[0]) @ self.weight
        return y.reshape(*d.shape[:-1], self.in_size)

    def absolute(self) -> LinearMap:
        return Dense(self.in_shape, self.out_shape, np.abs(self.weight))

    @cached_property
    def adds(self) -> bool:
        return bool((self.weight >= 0).all())

    def fan_in(self) -> int:
        return int(self.weight.shape[1])

    def fan_out(self) -> int:
        return int(self.weight.shape[0])


def window_taps(spatial: Shape, positions: Shape, kernel: Shape, strides: Shape, pads_begin: Shape, dilations: Shape) -> Array:
    """For every window position and kernel tap the flat spatial input index it reads, -1 for padding [positions, taps]."""
    index = np.zeros((1, 1), dtype=np.int64)
    valid = np.ones((1, 1), dtype=bool)
    for axis, size in enumerate(spatial):
        start = np.arange(positions[axis]) * strides[axis] - pads_begin[axis]
        place = start[:, None] + (np.arange(kernel[axis]) * dilations[axis])[None, :]
        inside = (place >= 0) & (place < size)
        index = (index[:, None, :, None] * size + place[None, :, None, :]).reshape(index.shape[0] * place.shape[0], -1)
        valid = (valid[:, None, :, None] & inside[None, :, None, :]).reshape(index.shape)
    return np.where(valid, index, -1)


@dataclass(frozen=True, eq=False)
class Conv(LinearMap):
    """Cross-correlation over 1 to 3 spatial axes, as ONNX `Conv` without bias.

    in_shape (N, C, *spatial), out_shape (N, M, *spatial); `weight` [M, C/groups, *kernel];
    `pads_begin`/`pads_end` per spatial axis, zero padding.
    """

    weight: Array = field(repr=False)
    strides: Shape = ()
    pads_begin: Shape = ()
    pads_end: Shape = ()
    dilations: Shape = ()
    groups: int = 1

    @property
    def kernel(self) -> Shape:
        return tuple(int(k) for k in self.weight.shape[2:])

    @cached_property
    def columns(self) -> Array:
        """`window_taps` of this convolution [positions, taps]."""
        return window_taps(self.in_shape[2:], self.out_shape[2:], self.kernel, self.strides, self.pads_begin, self.dilations)

    @cached_property
    def _places(self) -> tuple[Shape, list[Any], Any]:
        """Of the padded input: its size, what the windows read of it by each tap, and where the input is (as indices of its last axes)."""
        along = list(zip(self.in_shape[2:], self.out_shape[2:], self.kernel, self.strides, self.pads_begin, self.dilations, strict=True))
        size = tuple(max((positions - 1) * s + (k - 1) * d + 1, b + n) for n, positions, k, s, b, d in along)
        reads = [[slice(t * d, t * d + (positions - 1) * s + 1, s) for t in range(k)] for _, positions, k, s, _, d in along]
        return size, [(..., *places) for places in product(*reads)], (..., *(slice(b, b + n) for n, _, _, _, b, _ in along))

    def _products(self, rows: int) -> Iterator[tuple[Array, list[Any]]]:
        """The weight as [groups, M/groups, C/groups * taps], some taps at a time, with what these read: patches of `rows` images
        hold at most PATCHES numbers, as far as one tap of them does."""
        groups, (outs, per_group) = self.groups, self.weight.shape[:2]
        weight, taps = self.weight.reshape(groups, outs // groups, per_group, -1), self._places[1]
        count = max(1, PATCHES // max(1, rows * groups * per_group * math.prod(self.out_shape[2:])))
        for start in range(0, len(taps), count):
            yield weight[..., start : start + count].reshape(groups, outs // groups, -1), taps[start : start + count]

    def apply(self, x: Array) -> Array:
        """Some images, or some of the first axis of one, at a time: as much as TILE holds the patches of."""
        (size, _, inner), kind, (outs, per_group) = self._places, np.result_type(self.weight, x), self.weight.shape[:2]
        matrix = self.weight.reshape(self.groups, outs // self.groups, -1).astype(kind, copy=False)
        image = x.reshape(-1, self.groups, per_group, *self.in_shape[2:])
        y = np.empty((len(image), self.groups, outs // self.groups, self.out_shape[2], math.prod(self.out_shape[3:])), kind)
        slices = max(1, TILE // max(1, self.groups * matrix.shape[2] * y.shape[4]))  # of the first axis
        count = max(1, slices // max(1, y.shape[3]))
        for i in range(0, len(image), count):
            part = image[i : i + count]
            padded = np.zeros((*part.shape[:3], *size), dtype=kind)
            padded[inner] = part
            for a in range(0, y.shape[3], slices):
                into = y[i : i + count, :, :, a : a + slices]
                patches = np.stack([padded[tap] for tap in self._taps(a, a + into.shape[3])], axis=3)
                into[...] = (matrix @ patches.reshape(len(part), self.groups, matrix.shape[2], -1)).reshape(into.shape)
        return y.reshape(*x.shape[:-1], self.out_size)

    def _taps(self, start: int, end: int) -> list[Any]:
        """What each tap reads of the padded input for the positions from `start` to `end` of the first axis."""
        s, d, reads = self.strides[0], self.dilations[0], self._places[1]
        each = len(reads) // self.kernel[0]
        return [(..., slice(k // each * d + start * s, k // each * d + (end - 1) * s + 1, s), *tap[2:]) for k, tap in enumerate(reads)]

    def adjoint(self, d: Array) -> Array:
        size, _, inner = self._places
        flat = d.reshape(-1, self.groups, self.weight.shape[0] // self.groups, math.prod(self.out_shape[2:]))
        padded = np.zeros((len(flat), self.groups, self.weight.shape[1], *size), np.result_type(self.weight, d))
        for matrix, taps in self._products(len(flat)):
            patches = (matrix.swapaxes(1, 2) @ flat).reshape(*padded.shape[:3], len(taps), *self.out_shape[2:])
            for i, tap in enumerate(taps):
                padded[tap] += patches[:, :, :, i]
        inside: Array = padded[inner]
        return inside.reshape(*d.shape[:-1], self.in_size)

    def absolute(self) -> LinearMap:
        return Conv(self.in_shape, self.out_shape, np.abs(self.weight), self.strides, self.pads_begin, self.pads_end, self.dilations, self.groups)

    @cached_property
    def adds(self) -> bool:
        return bool((self.weight >= 0).all())

    def fan_in(self) -> int:
        return math.prod(int(k) for k in self.weight.shape[1:])

    def fan_out(self) -> int:
        return int(self.weight.shape[0]) // self.groups * math.prod(self.kernel)


@dataclass(frozen=True, eq=False)
class Transposed(LinearMap):
    """The transpose of another map: ONNX `ConvTranspose` is the transpose of a `Conv`."""

    inner: LinearMap

    def __post_init__(self) -> None:
        if self.inner.out_size != self.in_size or self.inner.in_size != self.out_size:
            raise MalformedGraph(f"transpose of a map {self.inner.in_shape} -> {self.inner.out_shape} used as {self.in_shape} -> {self.out_shape}")

    def apply(self, x: Array) -> Array:
        return self.inner.adjoint(x)

    def adjoint(self, d: Array) -> Array:
        return self.inner.apply(d)

    def absolute(self) -> LinearMap:
        return Transposed(self.in_shape, self.out_shape, self.inner.absolute())

    @property
    def adds(self) -> bool:
        return self.inner.adds

    def fan_in(self) -> int:
        return self.inner.fan_out()

    def fan_out(self) -> int:
        return self.inner.fan_in()


@dataclass(frozen=True, eq=False)
class Gather(LinearMap):
    """y[i] = x[index[i]], or 0 where index[i] is -1: Slice, Transpose, Gather, Concat, Pad, Split, Expand, nearest Resize."""

    index: Array = field(repr=False)

    def __post_init__(self) -> None:
        if self.index.shape != (self.out_size,) or (self.index.size and (self.index.min() < -1 or self.index.max() >= self.in_size)):
            raise MalformedGraph(f"gather index {self.index.shape} does not fit {self.in_shape} -> {self.out_shape}")

    def apply(self, x: Array) -> Array:
        y = x[..., np.maximum(self.index, 0)]
        return y if (self.index >= 0).all() else np.where(self.index >= 0, y, np.zeros((), dtype=x.dtype))

    def adjoint(self, d: Array) -> Array:
        used = self.index >= 0
        if self.multiplicity <= 1:
            spread = np.zeros((*d.shape[:-1], self.in_size), dtype=d.dtype)
            spread[..., self.index[used]] = d[..., used]
            return spread
        out = np.zeros((self.in_size, *d.shape[:-1]), dtype=d.dtype)
        np.add.at(out, self.index[used], np.moveaxis(d, -1, 0)[used])
        return np.moveaxis(out, 0, -1)

    def absolute(self) -> LinearMap:
        return self

    @cached_property
    def multiplicity(self) -> int:
        """How often the most used input element is copied."""
        used = self.index[self.index >= 0]
        return int(np.bincount(used).max()) if used.size else 0

    @property
    def is_exact(self) -> bool:
        return self.multiplicity <= 1

    @property
    def adds(self) -> bool:
        return True

    def fan_in(self) -> int:
        return 1

    def fan_out(self) -> int:
        return max(self.multiplicity, 1)


@dataclass(frozen=True, eq=False)
class Scale(LinearMap):
    """Elementwise product with a constant; `factor` has `out_size` entries or one."""

    factor: Array = field(repr=False)

    def __post_init__(self) -> None:
        if self.in_size != self.out_size or self.factor.shape not in ((self.out_size,), (1,)):
            raise MalformedGraph(f"scale factor {self.factor.shape} does not fit {self.in_shape} -> {self.out_shape}")

    def apply(self, x: Array) -> Array:
        return x * self.factor

    def adjoint(self, d: Array) -> Array:
        return d * self.factor

    def absolute(self) -> LinearMap:
        return Scale(self.in_shape, self.out_shape, np.abs(self.factor))

    @property
    def is_exact(self) -> bool:
        return bool((np.abs(self.factor) == 1).all())

    @cached_property
    def adds(self) -> bool:
        return bool((self.factor >= 0).all())

    def fan_in(self) -> int:
        return 1

    def fan_out(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class Sum(LinearMap):
    """Sum over `axes` of the input; out_shape may keep them as 1 or drop them."""

    axes: Shape = ()

    def apply(self, x: Array) -> Array:
        y = x.reshape((*x.shape[:-1], *self.in_shape))
        total: Array = y.sum(axis=tuple(x.ndim - 1 + a for a in self.axes))
        return total.reshape(*x.shape[:-1], self.out_size)

    def adjoint(self, d: Array) -> Array:
        kept = tuple(1 if a in self.axes else n for a, n in enumerate(self.in_shape))
        y = np.broadcast_to(d.reshape((*d.shape[:-1], *kept)), (*d.shape[:-1], *self.in_shape))
        return y.reshape(*d.shape[:-1], self.in_size)

    def absolute(self) -> LinearMap:
        return self

    @property
    def is_exact(self) -> bool:
        return self.fan_in() == 1

    @property
    def adds(self) -> bool:
        return True

    def fan_in(self) -> int:
        return math.prod(self.in_shape[a] for a in self.axes)

    def fan_out(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class Composition(LinearMap):
    """maps[-1] after ... after maps[0]."""

    maps: tuple[LinearMap, ...] = ()

    def __post_init__(self) -> None:
        sizes = [self.in_size, *(m.out_size for m in self.maps)]
        if [m.in_size for m in self.maps] != sizes[:-1] or sizes[-1] != self.out_size:
            raise MalformedGraph(f"composition of maps whose sizes do not meet: {sizes}")

    def apply(self, x: Array) -> Array:
        for m in self.maps:
            x = m.apply(x)
        return x

    def adjoint(self, d: Array) -> Array:
        for m in reversed(self.maps):
            d = m.adjoint(d)
        return d

    def absolute(self) -> LinearMap:
        """|W_k| ... |W_1|, which is at least |W_k ... W_1|."""
        return Composition(self.in_shape, self.out_shape, tuple(m.absolute() for m in self.maps))

    @property
    def is_exact(self) -> bool:
        return all(m.is_exact for m in self.maps)

    @property
    def adds(self) -> bool:
        return all(m.adds for m in self.maps)

    def fan_in(self) -> int:
        return sum(m.fan_in() for m in self.maps)

    def fan_out(self) -> int:
        return sum(m.fan_out() for m in self.maps)


def compose(first: LinearMap, then: LinearMap) -> LinearMap:
    """`then` after `first`, flattened, with re-indexings merged; no weight is copied or multiplied."""
    chain: list[LinearMap] = []
    for m in (*_parts(first), *_parts(then)):
        if isinstance(m, Reshape):
            continue
        previous = chain[-1] if chain else None
        if isinstance(m, Gather) and isinstance(previous, Gather):
            chain.pop()
            index = np.where(m.index >= 0, previous.index[np.maximum(m.index, 0)], -1)
            m = Gather(previous.in_shape, m.out_shape, index)
        chain.append(m)
    if not chain:
        return Reshape(first.in_shape, then.out_shape)
    if len(chain) == 1 and (chain[0].in_shape, chain[0].out_shape) == (first.in_shape, then.out_shape):
        return chain[0]
    return Composition(first.in_shape, then.out_shape, tuple(chain))


def _parts(m: LinearMap) -> tuple[LinearMap, ...]:
    return m.maps if isinstance(m, Composition) else (m,)
