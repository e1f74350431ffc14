"""The torch form of `graph.linear_map`: the same maps on tensors, differentiable, on any device.

Flat batches throughout: the last axis has `in_size` or `out_size` entries, every leading axis is a batch axis.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from bounds.transposed import Transpose
from graph import linear_map as lm

# Below this share of non-zero weights a large dense map is stored sparse (tables of selectors, one-hot layers).
SPARSE_DENSITY = 0.05
SPARSE_SIZE = 200_000

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Context:
    """Where and how numbers are held, and which weights are replaced by tensors that require a gradient.

    `weights` maps `id(array)` of a graph constant to the tensor used in its place (same shape).
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, weights: Mapping[int, Tensor] | None = None) -> None:
        self.dtype = dtype
        self.device = device
        self._weights = dict(weights or {})

    def replaces(self, array: NDArray[Any]) -> bool:
        """Whether a tensor is used in place of `array`."""
        return id(array) in self._weights

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """`array` as a tensor of this context, or the tensor that replaces it."""
        given = self._weights.get(id(array))
        if given is not None:
            return given.to(dtype=self.dtype, device=self.device)
        own = np.ascontiguousarray(array)
        return torch.from_numpy(own if own.flags.writeable else own.copy()).to(dtype=self.dtype, device=self.device)


class TorchMap:
    """Base: `apply` is W x, `adjoint` is d W, `abs_apply` is |W| x, `abs_adjoint` is d |W|."""

    def __init__(self, source: lm.LinearMap) -> None:
        self.source = source

    def apply(self, x: Tensor) -> Tensor:
        raise NotImplementedError(type(self).__name__)

    def adjoint(self, d: Tensor) -> Tensor:
        raise NotImplementedError(type(self).__name__)

    def abs_apply(self, x: Tensor) -> Tensor:
        raise NotImplementedError(type(self).__name__)

    def abs_adjoint(self, d: Tensor) -> Tensor:
        raise NotImplementedError(type(self).__name__)


class _Positive:
    """|weight|, kept unless the weight may change between calls."""

    def __init__(self, weight: Tensor, changes: bool) -> None:
        self._weight, self._changes = weight, changes
        self._kept: Tensor | None = None

    def __call__(self) -> Tensor:
        if self._changes:
            return self._weight.abs()
        if self._kept is None:
            self._kept = self._weight.abs()
        return self._kept


class _Reshape(TorchMap):
    def apply(self, x: Tensor) -> Tensor:
        return x

    abs_apply = apply

    def adjoint(self, d: Tensor) -> Tensor:
        return d

    abs_adjoint = adjoint


class _Dense(TorchMap):
    def __init__(self, source: lm.Dense, context: Context) -> None:
        super().__init__(source)
        self._weight = context.tensor(source.weight)
        self._positive = _Positive(self._weight, context.replaces(source.weight))
        self._outer = source.outer

    def _rows(self, x: Tensor, weight: Tensor) -> Tensor:
        # One flat matrix product: a batched product against a shared matrix runs at a third of the speed.
        return (x.reshape(-1, weight.shape[0]) @ weight).reshape(*x.shape[:-1], self._outer * weight.shape[1])

    def apply(self, x: Tensor) -> Tensor:
        return self._rows(x, self._weight.T)

    def adjoint(self, d: Tensor) -> Tensor:
        return self._rows(d, self._weight)

    def abs_apply(self, x: Tensor) -> Tensor:
        return self._rows(x, self._positive().T)

    def abs_adjoint(self, d: Tensor) -> Tensor:
        return self._rows(d, self._positive())


class _Sparse(TorchMap):
    """A dense map whose weight is nearly all zeros, in compressed rows both ways round."""

    def __init__(self, source: lm.Dense, context: Context) -> None:
        super().__init__(source)
        row, column = np.nonzero(source.weight)
        index = torch.from_numpy(np.stack([row, column])).to(context.device)
        value = context.tensor(source.weight[row, column])
        shape = (source.weight.shape[0], source.weight.shape[1])
        self._weight = _compressed(index, value, shape)
        self._transposed = _compressed(index.flip(0), value, shape[::-1])
        self._absolute = _compressed(index, value.abs(), shape)
        self._absolute_transposed = _compressed(index.flip(0), value.abs(), shape[::-1])
        self._outer = source.outer

    def _rows(self, x: Tensor, transposed_weight: Tensor) -> Tensor:
        out, inner = transposed_weight.shape
        flat = x.reshape(-1, inner)
        return (transposed_weight @ flat.T).T.reshape(*x.shape[:-1], self._outer * out)

    def apply(self, x: Tensor) -> Tensor:
        return self._rows(x, self._weight)

    def adjoint(self, d: Tensor) -> Tensor:
        return self._rows(d, self._transposed)

    def abs_apply(self, x: Tensor) -> Tensor:
        return self._rows(x, self._absolute)

    def abs_adjoint(self, d: Tensor) -> Tensor:
        return self._rows(d, self._absolute_transposed)


def _compressed(index: Tensor, value: Tensor, shape: tuple[int, ...]) -> Tensor:
    with warnings.catch_warnings():  # torch announces once per process that compressed rows are in beta and unchecked
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor support is in beta|invariant checks are)", category=UserWarning)
        return torch.sparse_coo_tensor(index, value, shape).to_sparse_csr()


class _Conv(TorchMap):
    def __init__(self, source: lm.Conv, context: Context) -> None:
        super().__init__(source)
        self._conv = source
        self._weight = context.tensor(source.weight)
        self._positive = _Positive(self._weight, context.replaces(source.weight))
        rank = len(source.kernel)
        if rank not in _CONV:
            raise NotImplementedError(f"convolution over {rank} spatial axes")
        self._forward, self._backward = _CONV[rank], Transpose(source, _CONV[rank])
        self._changes = context.replaces(source.weight)
        self._kernels: dict[bool, list[Tensor]] = {}  # of the transpose, by whether the weights are positive
        pads = zip(source.pads_begin, source.pads_end, strict=True)
        self._pads = [p for begin, end in reversed(list(pads)) for p in (begin, end)]
        self._symmetric = source.pads_begin == source.pads_end
        reached = [o * s for o, s in zip(source.out_shape[2:], source.strides, strict=True)]
        apart = source.strides == source.kernel and not any((*source.pads_begin, *source.pads_end)) and reached == [*source.in_shape[2:]]
        self._tiles = apart and source.groups == 1 and set(source.dilations) == {1}

    def _apply(self, x: Tensor, weight: Tensor) -> Tensor:
        c = self._conv
        image = x.reshape(-1, *c.in_shape[1:])
        if not self._symmetric:
            image = F.pad(image, self._pads)
        padding = c.pads_begin if self._symmetric else (0,) * len(c.kernel)
        with _sums_of_products(image):
            y = self._forward(image, weight, None, c.strides, padding, c.dilations, c.groups)
        return y.reshape(*x.shape[:-1], c.out_size)

    def apply(self, x: Tensor) -> Tensor:
        return self._apply(x, self._weight)

    def abs_apply(self, x: Tensor) -> Tensor:
        return self._apply(x, self._positive())

    def adjoint(self, d: Tensor) -> Tensor:
        return self._adjoint(d, positive=False)

    def abs_adjoint(self, d: Tensor) -> Tensor:
        return self._adjoint(d, positive=True)

    def _adjoint(self, d: Tensor, positive: bool) -> Tensor:
        c = self._conv
        image = d.reshape(-1, *c.out_shape[1:])
        weight = self._positive() if positive else self._weight
        if self._tiles:
            return self._tiled(image, weight).reshape(*d.shape[:-1], c.in_size)
        kernels = self._kernels.get(positive) or self._backward.kernels(weight)
        if not self._changes:
            self._kernels[positive] = kernels
        with _sums_of_products(image):
            y = self._backward(image, kernels)
        return y.reshape(*d.shape[:-1], c.in_size)

    def _tiled(self, image: Tensor, weight: Tensor) -> Tensor:
        """Windows that tile the input: one product of matrices, an eighth of the time of a transposed convolution."""
        rank, outs = len(self._conv.kernel), weight.shape[0]
        patches = image.movedim(1, -1).reshape(-1, outs) @ weight.reshape(outs, -1)
        patches = patches.reshape(len(image), *self._conv.out_shape[2:], *weight.shape[1:])  # [N, *places, C, *kernel]
        order = [axis for k in range(rank) for axis in (1 + k, 2 + rank + k)]
        return patches.permute(0, 1 + rank, *order)


@contextmanager
def _sums_of_products(image: Tensor) -> Iterator[None]:
    """cuDNN may convolve by Winograd, FFT or TF32, whose errors no bound for sums of products covers (ARITHMETIC 40)."""
    with torch.backends.cudnn.flags(enabled=False) if image.is_cuda else nullcontext():
        yield


class _Transposed(TorchMap):
    def __init__(self, source: lm.Transposed, context: Context) -> None:
        super().__init__(source)
        self._inner = torch_map(source.inner, context)

    def apply(self, x: Tensor) -> Tensor:
        return self._inner.adjoint(x)

    def adjoint(self, d: Tensor) -> Tensor:
        return self._inner.apply(d)

    def abs_apply(self, x: Tensor) -> Tensor:
        return self._inner.abs_adjoint(x)

    def abs_adjoint(self, d: Tensor) -> Tensor:
        return self._inner.abs_apply(d)


class _Gather(TorchMap):
    def __init__(self, source: lm.Gather, context: Context) -> None:
        super().__init__(source)
        self._size = source.in_size
        self._take, self._holes = _index_and_holes(source.index, context)
        self._untake: Tensor | None = None
        if source.multiplicity <= 1:
            inverse = np.full(source.in_size, -1, dtype=np.int64)
            used = np.flatnonzero(source.index >= 0)
            inverse[source.index[used]] = used
            self._untake, self._unholes = _index_and_holes(inverse, context)
        else:
            used = np.flatnonzero(source.index >= 0)
            self._used = torch.from_numpy(used).to(context.device)
            self._target = torch.from_numpy(source.index[used].astype(np.int64)).to(context.device)

    def apply(self, x: Tensor) -> Tensor:
        y = x.index_select(-1, self._take)
        return y if self._holes is None else y * self._holes

    abs_apply = apply

    def adjoint(self, d: Tensor) -> Tensor:
        if self._untake is not None:
            y = d.index_select(-1, self._untake)
            return y if self._unholes is None else y * self._unholes
        zero = torch.zeros(*d.shape[:-1], self._size, dtype=d.dtype, device=d.device)
        return zero.index_add(-1, self._target, d.index_select(-1, self._used))

    def abs_adjoint(self, d: Tensor) -> Tensor:
        return self.adjoint(d)


def _index_and_holes(index: NDArray[Any], context: Context) -> tuple[Tensor, Tensor | None]:
    """The index with -1 replaced by 0, and a 0/1 mask of the places that are not -1 (None if there is no hole)."""
    take = torch.from_numpy(np.maximum(index, 0).astype(np.int64)).to(context.device)
    full = bool((index >= 0).all())
    return take, None if full else context.tensor((index >= 0).astype(np.float32))


class _Scale(TorchMap):
    def __init__(self, source: lm.Scale, context: Context) -> None:
        super().__init__(source)
        self._factor = context.tensor(source.factor)

    def apply(self, x: Tensor) -> Tensor:
        return x * self._factor

    def adjoint(self, d: Tensor) -> Tensor:
        return d * self._factor

    def abs_apply(self, x: Tensor) -> Tensor:
        return x * self._factor.abs()

    def abs_adjoint(self, d: Tensor) -> Tensor:
        return d * self._factor.abs()


class _Sum(TorchMap):
    def __init__(self, source: lm.Sum) -> None:
        super().__init__(source)
        self._shape = source.in_shape
        self._axes = source.axes
        self._kept = tuple(1 if a in source.axes else n for a, n in enumerate(source.in_shape))

    def apply(self, x: Tensor) -> Tensor:
        y = x.reshape(*x.shape[:-1], *self._shape)
        y = y.sum(dim=tuple(x.ndim - 1 + a for a in self._axes))
        return y.reshape(*x.shape[:-1], self.source.out_size)

    abs_apply = apply

    def adjoint(self, d: Tensor) -> Tensor:
        y = d.reshape(*d.shape[:-1], *self._kept).expand(*d.shape[:-1], *self._shape)
        return y.reshape(*d.shape[:-1], math.prod(self._shape))

    abs_adjoint = adjoint


class _Composition(TorchMap):
    def __init__(self, source: lm.Composition, context: Context) -> None:
        super().__init__(source)
        self._maps = [torch_map(m, context) for m in source.maps]

    def apply(self, x: Tensor) -> Tensor:
        for m in self._maps:
            x = m.apply(x)
        return x

    def adjoint(self, d: Tensor) -> Tensor:
        for m in reversed(self._maps):
            d = m.adjoint(d)
        return d

    def abs_apply(self, x: Tensor) -> Tensor:
        for m in self._maps:
            x = m.abs_apply(x)
        return x

    def abs_adjoint(self, d: Tensor) -> Tensor:
        for m in reversed(self._maps):
            d = m.abs_adjoint(d)
        return d


def torch_map(source: lm.LinearMap, context: Context) -> TorchMap:
    """The torch form of `source` in `context`. Raises NotImplementedError for an unknown kind of map."""
    match source:
        case lm.Reshape():
            return _Reshape(source)
        case lm.Dense():
            sparse = _is_sparse(source.weight) and not context.replaces(source.weight)
            return _Sparse(source, context) if sparse else _Dense(source, context)
        case lm.Conv():
            return _Conv(source, context)
        case lm.Transposed():
            return _Transposed(source, context)
        case lm.Gather():
            return _Gather(source, context)
        case lm.Scale():
            return _Scale(source, context)
        case lm.Sum():
            return _Sum(source)
        case lm.Composition():
            return _Composition(source, context)
        case _:
            raise NotImplementedError(f"no torch form for linear map {type(source).__name__}")


def _is_sparse(weight: NDArray[Any]) -> bool:
    return weight.size >= SPARSE_SIZE and bool(np.count_nonzero(weight) < SPARSE_DENSITY * weight.size)
