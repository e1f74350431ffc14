"""Products of linear maps: which neighbours in a chain become one map. All are identities over the reals; weights that
are multiplied are multiplied in float64, all others stay as they are in the file, by reference."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.linear_map import Composition, Conv, Dense, Gather, LinearMap, Reshape, Scale, Sum, Transposed

Array = NDArray[Any]

SMALL_MATRIX = 1 << 14  # weights that a sum of maps may be multiplied out to: evaluating it costs nothing, and bounds get tighter


def cost(m: LinearMap) -> int:
    """How many numbers one `apply` multiplies, adds or moves; a reshape is free."""
    match m:
        case Reshape():
            return 0
        case Composition(maps=maps):
            return sum(cost(part) for part in maps)
        case Transposed(inner=inner):
            return cost(inner)
        case Sum():
            return m.in_size
        case Gather(index=index):
            return int((index >= 0).sum())
        case _:
            return m.out_size * m.fan_in()


def chain(maps: Iterable[LinearMap]) -> LinearMap:
    """The composition of `maps` (first applied first) in its shortest form: a single map, a Reshape or a Composition."""
    parts = [part for m in maps for part in (m.maps if isinstance(m, Composition) else (m,))]
    reduced: list[LinearMap] = []
    for part in parts:
        _push(reduced, part)
    if len(reduced) == 1:
        return reduced[0]
    make = Composition if reduced else Reshape
    return make(parts[0].in_shape, parts[-1].out_shape, *((tuple(reduced),) if reduced else ()))


def add(first: LinearMap, second: LinearMap) -> LinearMap | None:
    """The sum of two maps between the same spaces as one map, where that is no more than a scaling or a small matrix."""
    factors = [_diagonal(m) for m in (first, second)]
    if factors[0] is not None and factors[1] is not None:
        return chain([Scale(first.in_shape, second.out_shape, factors[0] + factors[1])])
    small = first.in_size * first.out_size <= SMALL_MATRIX
    dense = isinstance(first, Dense) and isinstance(second, Dense) and first.outer == 1
    if not small and not dense:
        return None
    weight = sum(_double(m.weight) if isinstance(m, Dense) and m.outer == 1 else m.rows(np.arange(m.out_size)) for m in (first, second))
    return Dense((first.in_size,), (first.out_size,), np.asarray(weight))


def addable(m: LinearMap) -> str:
    """Only maps between the same spaces of which this is the same have a sum (`add`); "" for a map that has none with any."""
    if m.in_size * m.out_size <= SMALL_MATRIX:
        return "small"
    return "dense" if isinstance(m, Dense) else "diagonal" if isinstance(m, Reshape | Scale) else ""


def _diagonal(m: LinearMap) -> Array | None:
    match m:
        case Reshape():
            return np.ones(1)
        case Scale(factor=factor):
            return _double(factor)
    return None


def is_zero(m: LinearMap) -> bool:
    """Whether the map is visibly 0: a re-indexing in it reads nothing, or a factor vanishes."""
    match m:
        case Composition(maps=maps):
            return any(is_zero(part) for part in maps)
        case Gather(index=index):
            return not (index >= 0).any()
        case Scale(factor=array) | Dense(weight=array):
            return not array.any()
    return False


def _push(reduced: list[LinearMap], m: LinearMap) -> None:
    if isinstance(m, Reshape):
        return
    merged = _merge(reduced[-1], m) if reduced else _alone(m)
    if merged is None:
        reduced.append(m)
        return
    if reduced:
        reduced.pop()
    for part in merged:
        _push(reduced, part)


def _alone(m: LinearMap) -> list[LinearMap] | None:
    """The empty chain for an identity."""
    match m:
        case Gather(index=index) if m.in_size == m.out_size and (index == np.arange(m.in_size)).all():
            return []
        case Scale(factor=factor) if (factor == 1).all():
            return []
    return None


def _merge(first: LinearMap, then: LinearMap) -> list[LinearMap] | None:
    """The chain [first, then] made shorter or brought into normal order (re-indexings first), or None."""
    if _alone(then) is not None:
        return [first]
    match first, then:
        case Gather(), Gather():
            index = np.where(then.index >= 0, first.index[np.maximum(then.index, 0)], -1)
            return [Gather(first.in_shape, then.out_shape, index)]
        case Scale(), Scale():
            return [Scale(first.in_shape, then.out_shape, _double(first.factor) * then.factor)]
        case Scale(), Gather() if then.out_size <= then.in_size:
            factor = first.factor if first.factor.size == 1 else first.factor[np.maximum(then.index, 0)]
            return [Gather(first.in_shape, then.out_shape, then.index), Scale(then.out_shape, then.out_shape, factor)]
        case Dense(), Dense():
            return _dense_dense(first, then)
        case Gather(), Dense() if then.outer == 1 and first.in_size <= then.in_size:
            return [_select_columns(first, then)]
        case Dense(), Gather() if first.outer == 1 and then.out_size <= first.out_size:
            return [_select_rows(first, then)]
        case ((Dense() | Conv() | Transposed()), Scale()):
            return _scaled_rows(first, then.factor)
        case Scale(), (Dense() | Conv() | Transposed()):
            return _scaled_columns(then, first.factor)
    return None


def _dense_dense(first: Dense, then: Dense) -> list[LinearMap] | None:
    """One product where it has fewer weights than the two factors."""
    if first.weight.shape[0] != then.weight.shape[1]:
        return None
    rows, columns = then.weight.shape[0], first.weight.shape[1]
    if rows * columns > first.weight.size + then.weight.size:
        return None
    right, product = _double(first.weight), np.empty((rows, columns))
    block = max(1, (1 << 22) // max(then.weight.shape[1], 1))
    for start in range(0, rows, block):  # in blocks, so that a large float32 factor is never converted as a whole
        product[start : start + block] = _double(then.weight[start : start + block]) @ right
    return [Dense(first.in_shape, then.out_shape, product)]


def _select_columns(first: Gather, then: Dense) -> Dense:
    weight = then.weight if first.multiplicity <= 1 else _double(then.weight)
    return Dense(first.in_shape, then.out_shape, first.adjoint(weight))


def _select_rows(first: Dense, then: Gather) -> Dense:
    index = then.index
    if (np.diff(index) == 1).all() and index[0] >= 0:
        weight = first.weight[index[0] : index[-1] + 1]  # a run of rows: a view
    else:
        weight = first.weight[np.maximum(index, 0)]
        weight[index < 0] = 0
    return Dense(first.in_shape, then.out_shape, weight)


def _scaled_rows(m: LinearMap, factor: Array) -> list[LinearMap] | None:
    """factor * m, where the factor is the same for all elements that share a row of weights."""
    match m:
        case Dense(weight=weight):
            shared = _shared(factor, (m.outer, weight.shape[0], 1))
            return None if shared is None else [replace(m, weight=_double(weight) * shared[:, None])]
        case Conv(weight=weight):
            shared = _shared(factor, (m.out_shape[0], weight.shape[0], math.prod(m.out_shape[2:])))
            return None if shared is None else [replace(m, weight=_double(weight) * shared.reshape(-1, *(1,) * (weight.ndim - 1)))]
        case Transposed(inner=inner):
            scaled = _scaled_columns(inner, factor)
            return None if scaled is None else [replace(m, inner=scaled[0])]
    return None


def _scaled_columns(m: LinearMap, factor: Array) -> list[LinearMap] | None:
    """m after a product with factor, where the factor is the same for all elements that share a column of weights."""
    match m:
        case Dense(weight=weight):
            shared = _shared(factor, (m.outer, weight.shape[1], 1))
            return None if shared is None else [replace(m, weight=_double(weight) * shared[None, :])]
        case Conv(weight=weight):
            shared = _shared(factor, (m.in_shape[0], m.in_shape[1], math.prod(m.in_shape[2:])))
            if shared is None:
                return None
            # weight [M, C/groups, ...]: output channel i reads the input channels of its group
            per_output = np.repeat(shared.reshape(m.groups, -1), weight.shape[0] // m.groups, axis=0)
            return [replace(m, weight=_double(weight) * per_output.reshape(*weight.shape[:2], *(1,) * (weight.ndim - 2)))]
        case Transposed(inner=inner):
            scaled = _scaled_rows(inner, factor)
            return None if scaled is None else [replace(m, inner=scaled[0])]
    return None


def _shared(factor: Array, shape: tuple[int, int, int]) -> Array | None:
    """The factor per middle axis if it does not depend on the outer and inner axes, else None."""
    if factor.size == 1:
        return np.full(shape[1], factor[0])
    spread = factor.reshape(shape)
    return spread[0, :, 0] if (spread == spread[:1, :, :1]).all() else None


def _double(weight: Array) -> Array:
    return weight.astype(np.float64, copy=False)
