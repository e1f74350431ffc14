"""Affine functions of a few variables, many at a time, with a bound of what rounding did to them.

A network's values over a box, written over its inputs and the outputs of the non-linear elements that are not linear there: what
linear and semidefinite programs are made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from graph.linear_map import LinearMap

Array = NDArray[Any]
Matrix = Any  # scipy.sparse.csr_array: scipy has no types

BLOCK = 512
TINY = 2.0**-960  # more than underflow loses in one row, per unit of the variables' magnitude


def unit_error(terms: int) -> float:
    """More than twice the relative error of a sum of so many products in float64, so that it needs no directed rounding itself."""
    return (terms + 8) * 2.0**-52


@dataclass(frozen=True, eq=False)
class Rows:
    """|h - (coefficient v + constant)| <= error for the m quantities h that the rows stand for, wherever the n variables v are what
    they stand for. `coefficient` sparse [m, n]; `constant`, `error` and `size`, an upper bound of |coefficient| |v| + |constant|, [m]."""

    coefficient: Matrix = field(repr=False)
    constant: Array = field(repr=False)
    error: Array = field(repr=False)
    size: Array = field(repr=False)

    def __len__(self) -> int:
        return len(self.constant)


class RowArithmetic:
    """Sums of rows over n variables with |v| <= `largest` [n]."""

    def __init__(self, largest: Array) -> None:
        self.largest = largest
        self._tiny = TINY * (1 + float(largest.sum()))

    def make(self, coefficient: Matrix, constant: Array, error: Array | float = 0.0) -> Rows:
        """Rows whose coefficients and constants are exact up to `error`."""
        size = (abs(coefficient) @ self.largest + np.abs(constant)) * (1 + unit_error(len(self.largest)))
        return Rows(coefficient, constant, np.broadcast_to(np.asarray(error, dtype=np.float64), constant.shape), size)

    def combine(self, terms: Iterable[tuple[Matrix, Rows]], constant: Array | float = 0.0, error: Array | float = 0.0) -> Rows:
        """sum of W rows + constant, for exact matrices W [m, size of rows]; the constant, or anything else, is off by up to `error`."""
        terms = list(terms)
        m, n = terms[0][0].shape[0], len(self.largest)
        total, value = sparse.csr_array((m, n)), np.zeros(m) + constant
        lost, magnitude, count = np.zeros(m) + error, np.abs(value), 4
        for weight, rows in terms:
            total = total + weight @ rows.coefficient
            value = value + weight @ rows.constant
            both = abs(weight)
            lost, magnitude = lost + both @ rows.error, magnitude + both @ rows.size
            count += int(np.diff(weight.indptr).max(initial=0)) + 2
        lost = lost * (1 + unit_error(count)) + unit_error(2 * count) * magnitude + self._tiny
        return self.make(sparse.csr_array(total), value, lost)


def diagonal(values: Array) -> Matrix:
    """The sparse matrix with `values` on its diagonal."""
    return sparse.csr_array(sparse.diags_array(values))


def selection(indices: Array, n: int) -> Matrix:
    """The matrix [m, n] that takes the elements `indices` [m]; a row of zeros where an index is -1."""
    return entries(np.ones((len(indices), 1)), np.asarray(indices)[:, None], n)


def entries(values: Array, places: Array, n: int) -> Matrix:
    """The matrix [m, n] with values[i, k] in row i and column places[i, k], added where two meet; -1: nowhere."""
    row = np.repeat(np.arange(len(values)), values.shape[1])
    keep = places.ravel() >= 0
    return sparse.csr_array((values.ravel()[keep], (row[keep], places.ravel()[keep])), shape=(len(values), n))


def matrix_of(m: LinearMap) -> Matrix:
    """W [out_size, in_size]; its entries may have up to 2 m.fan_in() roundings, relative to m.absolute()."""
    blocks = [sparse.csr_array(m.rows(np.arange(at, min(at + BLOCK, m.out_size)))) for at in range(0, m.out_size, BLOCK)]
    return sparse.csr_array(sparse.vstack(blocks))
