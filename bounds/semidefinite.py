"""The semidefinite relaxation (Raghunathan, Steinhardt and Liang 2018), with the planes of the linear program added as cuts (Batten et
al. 2021), so that it is never looser than that.

With v = (1, t), t the variables scaled to [-1, 1], every product of two rows is linear in M = v v^T, of which only M >= 0 is kept:
t_i^2 <= 1 (input box and layer bounds), (y - s_1 x)(y - s_2 x) = 0 for a function that bends at 0 only (ReLU: y (y - x) = 0), the same
for a maximum of two, and y = a b for a product. It sees how neurons depend on each other, which no single-neuron relaxation does.

What the solver returns is not rigorous, but its multipliers give a quadratic function of t below the functional. A lower bound of that
over the box is one number gamma for which a matrix is positive semidefinite, which a floating-point Cholesky factorisation proves
(Rump 2006); so `safe` is rigorous, whatever the solver did. A certificate has no place for such multipliers yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cvxpy
import numpy as np
from cvxpy.atoms.affine.diag import diag
from cvxpy.atoms.affine.vec import vec
from numpy.typing import NDArray
from scipy import sparse

from bounds.convex import SolverFailure, solve, stacked
from bounds.encoding import CannotRelax, Encoding
from bounds.rows import Matrix, RowArithmetic, Rows, diagonal, unit_error
from graph.core import Bilinear, Elementwise, Max
from graph.functions.facts import Pieces

Array = NDArray[Any]

MOST_HIDDEN = 150  # undecided hidden elements: beyond, the matrix takes a solver minutes and more
MOST_VARIABLES = 220  # with the inputs that vary
SMALL = 40  # variables up to which an interior-point solver, which is exact but slow, is the default


@dataclass(frozen=True, eq=False)
class SemidefiniteBound:
    """`value` [R] is what the solver claims; functional >= `safe` [R] on every execution in the box."""

    value: Array = field(repr=False)
    safe: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class Products:
    """left_k * right_k + rest_k = 0 (or >= 0 where not `equal`) for every row k on every execution, rounding aside."""

    left: Rows
    right: Rows
    rest: Rows
    equal: bool


def semidefinite_program(encoding: Encoding, functional: Rows, *, seconds: float | None = None, solver: str | None = None) -> SemidefiniteBound:
    """Minimise each of the R functionals over the relaxation, at most `seconds` each. Raises CannotRelax where it is too large, SolverFailure."""
    n = len(encoding.lower)
    if encoding.hidden > MOST_HIDDEN or n > MOST_VARIABLES:
        raise CannotRelax(f"{encoding.hidden} undecided neurons and {encoding.inputs} inputs; at most {MOST_HIDDEN} and {MOST_VARIABLES} in all")
    scaled = _Scaled(encoding)
    constraints = [scaled.cuts(), *scaled.products()]
    program = _Program(n, constraints)
    values, safe = [], []
    chosen = solver or ("CLARABEL" if n <= SMALL else "SCS")
    options = {"eps": 1e-5, "max_iters": 20_000} if chosen == "SCS" else {}
    cost = scaled.rows(functional)
    for r in range(len(functional)):
        objective = cost.coefficient[[r]].toarray()[0]
        values.append(program.minimise(objective, chosen, seconds, options) + float(cost.constant[r]))
        safe.append(_safe_bound(cost, r, constraints, program.multipliers()))
    return SemidefiniteBound(np.array(values), np.array(safe))


class _Scaled:
    """Rows over t in [-1, 1] in the place of rows over v, v = centre + radius t."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.n = len(encoding.lower)
        centre = encoding.lower / 2 + encoding.upper / 2
        radius = np.maximum(encoding.upper - centre, centre - encoding.lower) * (1 + unit_error(1))  # |t| <= 1 all the same
        self.arithmetic = RowArithmetic(np.ones(self.n))
        self.variables = self.arithmetic.make(diagonal(radius), centre)

    def rows(self, rows: Rows) -> Rows:
        return self.arithmetic.combine([(rows.coefficient, self.variables)], rows.constant, rows.error)

    def one(self, m: int) -> Rows:
        return self.arithmetic.make(sparse.csr_array((m, self.n)), np.ones(m))

    def zero(self, m: int) -> Rows:
        return self.arithmetic.make(sparse.csr_array((m, self.n)), np.zeros(m))

    def cuts(self) -> Products:
        """The planes of the linear program."""
        matrix, constant, error, size = stacked(self.encoding)
        rows = self.rows(Rows(matrix, constant, error, size))
        return Products(rows, self.one(len(rows)), self.zero(len(rows)), False)

    def products(self) -> list[Products]:
        """What holds with equality, for the kinds of elements where two factors say it, and the bounds of what they read."""
        found = []
        for i, free in self.encoding.free.items():
            node = self.encoding.graph.nodes[i]
            match node:
                case Elementwise(function=Pieces(breakpoints=(0.0,), intercepts=(0.0, 0.0), values=(0.0,)) as function):
                    x = self._taken(node.inputs[0], free)
                    found.append(self._equality(*(self._difference(i, free, x, s) for s in function.slopes)))
                case Max(windows=windows) if windows.shape[1] == 2 and bool((windows[free] >= 0).all()):
                    sides = (self._difference(i, free, self._taken(node.inputs[0], windows[free, k]), 1.0) for k in (0, 1))
                    found.append(self._equality(*sides))
                case Bilinear(kind="mul"):
                    left, right = (self._taken(j, free) for j in node.inputs)
                    rest = self._difference(i, free, left, 0.0)
                    negative = self.arithmetic.combine([(diagonal(-np.ones(len(free))), rest)])
                    found.append(Products(left, right, negative, True))
        return found

    def _equality(self, left: Rows, right: Rows) -> Products:
        return Products(left, right, self.zero(len(left)), True)

    def _taken(self, j: int, elements: Array) -> Rows:
        """The rows of elements of node j."""
        rows = self.encoding.rows[j]
        return self.rows(Rows(rows.coefficient[elements], rows.constant[elements], rows.error[elements], rows.size[elements]))

    def _difference(self, i: int, elements: Array, x: Rows, slope: float) -> Rows:
        """y - slope x for the elements y of node i."""
        unit = diagonal(np.ones(len(elements)))
        return self.arithmetic.combine([(unit, self._taken(i, elements)), (-slope * unit, x)])


class _Program:
    """The program with M as its variable; the functional is a parameter of its own, so that it is compiled once."""

    def __init__(self, n: int, constraints: list[Products]) -> None:
        self._matrix = cvxpy.Variable((n + 1, n + 1), PSD=True)
        flat = vec(self._matrix, order="C")
        terms = [(_products_of(c) @ flat, c.equal) for c in constraints]
        self._constraints = [product == 0 if equal else product >= 0 for product, equal in terms]
        self._signs = [-1.0 if c.equal else 1.0 for c in constraints]
        self._box = diag(self._matrix)[1:] <= 1
        self._cost = cvxpy.Parameter(n)
        fixed = self._matrix[0, 0] == 1
        self._problem = cvxpy.Problem(cvxpy.Minimize(self._cost @ self._matrix[0, 1:]), [fixed, self._box, *self._constraints])

    def minimise(self, cost: Array, solver: str, seconds: float | None, options: dict[str, Any]) -> float:
        self._cost.value = cost
        return solve(self._problem, solver, seconds, rough=True, **options)

    def multipliers(self) -> tuple[Array, list[Array]]:
        """Those of t_i^2 <= 1 [n], and of each block of constraints, in the sense that functional >= sum of multiplier * constraint."""
        blocks = [sign * np.asarray(c.dual_value) for sign, c in zip(self._signs, self._constraints, strict=True)]
        return np.asarray(self._box.dual_value), blocks


def _products_of(c: Products) -> Matrix:
    """Rows [m, (n + 1)^2] with row k . vec(v v^T) = left_k right_k + rest_k."""
    left, right = (_with_constant(rows) for rows in (c.left, c.right))
    rest = _with_constant(c.rest)
    size = left.shape[1]
    row, column, value = [], [], []
    for k in range(left.shape[0]):
        a, b = left[[k]].tocoo(), right[[k]].tocoo()
        row.append(np.full(a.nnz * b.nnz, k))
        column.append((a.coords[1][:, None] * size + b.coords[1][None]).ravel())
        value.append(np.outer(a.data, b.data).ravel())
    r = rest.tocoo()
    row, column, value = [*row, r.coords[0]], [*column, r.coords[1]], [*value, r.data]
    return sparse.csr_array((np.concatenate(value), (np.concatenate(row), np.concatenate(column))), shape=(left.shape[0], size * size))


def _with_constant(rows: Rows) -> Matrix:
    """The coefficients of (1, t) [m, n + 1]."""
    return sparse.csr_array(sparse.hstack([sparse.csr_array(rows.constant[:, None]), rows.coefficient]))


# ---------------------------------------------------------------- what the multipliers prove


def _safe_bound(cost: Rows, r: int, constraints: list[Products], multipliers: tuple[Array, list[Array]]) -> float:
    """A lower bound of functional r, from any multipliers: negative ones of inequalities count as 0.

    functional >= v^T S v - lost, S = the functional less the multiplied constraints; see `_least`. Raises SolverFailure where the
    multipliers are not finite or nothing follows from them.
    """
    box, blocks = multipliers
    if not all(bool(np.isfinite(part).all()) for part in (box, *blocks)):
        raise SolverFailure("the solver's multipliers are not numbers")
    n = cost.coefficient.shape[1]
    row = np.concatenate([[float(cost.constant[r])], cost.coefficient[[r]].toarray()[0]])
    s, size = np.zeros((n + 1, n + 1)), np.zeros((n + 1, n + 1))
    s[0], size[0] = row, np.abs(row)
    lost, terms = float(cost.error[r]), n + 4
    for c, given in zip(constraints, blocks, strict=True):
        weight = given if c.equal else np.maximum(given, 0.0)
        left, right, rest = (_with_constant(rows).toarray() for rows in (c.left, c.right, c.rest))
        s -= left.T @ (weight[:, None] * right)
        size += np.abs(left).T @ (np.abs(weight)[:, None] * np.abs(right))
        s[0] -= weight @ rest
        size[0] += np.abs(weight) @ np.abs(rest)
        error = c.left.error * c.right.size + c.left.size * c.right.error + c.left.error * c.right.error + c.rest.error
        lost += float(np.abs(weight) @ error)
        terms += 2 * len(weight) + 4
    s, size = s / 2 + s.T / 2, size / 2 + size.T / 2
    weight = np.maximum(box, 0.0)
    s[0, 0] -= weight.sum()
    size[0, 0] += weight.sum()
    s[np.arange(1, n + 1), np.arange(1, n + 1)] += weight
    size[np.arange(1, n + 1), np.arange(1, n + 1)] += weight
    lost = lost * (1 + unit_error(terms)) + unit_error(terms) * float(size.sum()) + 2.0**-900  # |v_i v_j| <= 1
    bound = _least(s) - lost
    bound -= unit_error(4) * (abs(bound) + lost)
    if not np.isfinite(bound):
        raise SolverFailure("a number overflowed in the bound that the multipliers give")
    return float(bound)


def _least(s: Array) -> float:
    """gamma with v^T S v >= gamma for all v = (1, t), |t| <= 1: S - gamma e_0 e_0^T - delta sum (e_0 e_0^T - e_i e_i^T) >= 0, delta >= 0.

    delta comes from an eigenvalue decomposition of the part of S without its first row; then gamma is lowered until the matrix is proven
    to be positive semidefinite. Raises SolverFailure where it never is.
    """
    n = len(s) - 1
    gamma, delta = _guess(s)
    room = unit_error(n) * (float(np.abs(s).max()) + abs(gamma) + n * delta)
    for _ in range(60):
        shifted = s.copy()
        shifted[0, 0] = s[0, 0] - (gamma - (n + 1) * room) - n * (delta + room)
        shifted[np.arange(1, n + 1), np.arange(1, n + 1)] += delta + room
        if _is_positive(shifted, 4 * unit_error(4) * (float(np.abs(np.diag(s)).max()) + abs(gamma) + (n + 1) * (delta + room))):
            return float(gamma - (n + 1) * room)
        room *= 2
    raise SolverFailure("the solver's multipliers prove nothing")


def _guess(s: Array) -> tuple[float, float]:
    """(gamma, delta), about the best: gamma(delta) = S_00 - n delta - g^T (Q + delta)^-1 g is concave where Q + delta > 0."""
    n = len(s) - 1
    if n == 0:
        return float(s[0, 0]), 0.0
    values, vectors = np.linalg.eigh(s[1:, 1:])
    squares = (vectors.T @ s[1:, 0]) ** 2
    least = max(0.0, -float(values.min()))
    scale = float(np.abs(values).max()) + 1e-12
    deltas = least + scale * np.concatenate([np.logspace(-14, 1, 400)])
    gammas = s[0, 0] - n * deltas - (squares / np.maximum(values + deltas[:, None], 1e-300)).sum(1)
    best = int(gammas.argmax())
    return float(gammas[best]), float(deltas[best])


def _is_positive(a: Array, error: float) -> bool:
    """Whether every symmetric matrix within `error` of `a` on its diagonal is proven positive semidefinite (Rump 2006, theorem 2.3).

    A floating-point Cholesky factorisation that ends without a negative pivot proves a + c I >= 0 for c = gamma_{n+1} trace / (1 - gamma_{n+1}),
    plus underflow; so it is tried on a - (2 c + error) I.
    """
    n = len(a)
    shift = 2 * (n + 4) * 2.0**-52 * float(np.abs(np.diag(a)).sum()) + error + 2.0**-900
    try:
        factor = np.linalg.cholesky(a - shift * np.eye(n))
    except np.linalg.LinAlgError:
        return False
    return bool(np.isfinite(factor).all())
