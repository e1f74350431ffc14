"""What convex bounds pay for: rounding, errors of rows, multipliers of the wrong sign; compared with exact rationals."""

from __future__ import annotations

import contextlib
import itertools
from fractions import Fraction

import numpy as np
from scipy import sparse

from bounds import semidefinite
from bounds.convex import safe_bound, stacked
from bounds.encoding import Encoding, encode
from bounds.rows import RowArithmetic, Rows
from bounds.semidefinite import Products
from graph.core import Bilinear, Elementwise, Graph, Input
from graph.functions import build
from tests.bounds.test_convex import encoded
from tests.bounds.test_linear import FROM, Array, graph_of


def exact(row: Array, constant: float, v: list[Fraction]) -> Fraction:
    return sum((Fraction(float(c)) * x for c, x in zip(row, v, strict=True)), Fraction(float(constant)))


def rational(values: Array) -> list[Fraction]:
    return [Fraction(float(x)) for x in values]


def relu_graph() -> Graph:
    return graph_of(Input((1,), (), FROM, "x"), Elementwise((1,), (0,), FROM, build("relu")))


def bare(lower: Array, upper: Array) -> Encoding:
    """Only inputs: nothing ties the variables."""
    return encode(graph_of(Input((len(lower),), (), FROM, "x")), [lower], [upper])


def test_sums_of_rows_know_their_rounding_and_the_errors_they_inherit() -> None:
    """Coefficients of very different sizes that cancel; the true rows are off by their whole error, in either direction."""
    missed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        largest = rng.random(3) * 10.0 ** rng.integers(-3, 4, 3)
        arithmetic = RowArithmetic(largest)
        parts = [rng.normal(size=(4, 3)) * 10.0 ** rng.integers(-8, 8, (4, 3)) for _ in range(2)]
        error = rng.random(4) * 10.0 ** rng.integers(-18, 1, 4)
        weights = [rng.normal(size=(1, 4)) * 10.0 ** rng.integers(-8, 8, (1, 4)) for _ in range(2)]
        rows = [arithmetic.make(sparse.csr_array(p), p[:, 0], error) for p in parts]
        found = arithmetic.combine([(sparse.csr_array(w), r) for w, r in zip(weights, rows, strict=True)], np.ones(1))
        for signs in itertools.product((-1, 1), repeat=3):
            v = [s * x for s, x in zip(signs, rational(largest), strict=True)]
            value = Fraction(1)
            for w, p in zip(weights, parts, strict=True):
                for k in range(4):
                    off = Fraction(float(error[k])) * (1 if w[0, k] > 0 else -1)
                    value += Fraction(float(w[0, k])) * (exact(p[k], p[k, 0], v) + off)
            mine = exact(found.coefficient.toarray()[0], found.constant[0], v)
            assert abs(value - mine) <= Fraction(float(found.error[0]))
            missed += value != mine
    assert missed > 100


def test_rounding_of_the_bound_itself_is_paid_for() -> None:
    """A sum over a box that cancels: never above the exact minimum, which plain arithmetic exceeds for some."""
    above = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        lower, width = rng.normal(size=6) * 10.0 ** rng.integers(-2, 6, 6), rng.random(6)
        encoding = bare(lower, lower + width)
        row = rng.normal(size=(1, 6)) * 10.0 ** rng.integers(-4, 4, (1, 6))
        functional = Rows(sparse.csr_array(row), np.zeros(1), np.zeros(1), np.abs(row) @ np.maximum(np.abs(lower), np.abs(lower + width)))
        ends = zip(rational(row[0]), rational(lower), rational(lower + width), strict=True)
        truth = sum((min(c * a, c * b) for c, a, b in ends), Fraction(0))
        assert Fraction(safe_bound(encoding, functional, 0, np.zeros(0))) <= truth
        above += Fraction(float(np.minimum(row[0] * lower, row[0] * (lower + width)).sum())) > truth
    assert above > 5


def test_errors_of_rows_lower_the_bound() -> None:
    encoding = encoded(relu_graph(), -np.ones(1), np.ones(1))
    count = len(stacked(encoding)[1])
    plain = encoding.functional({1: np.ones((1, 1))}, np.zeros(1))
    worse = Rows(plain.coefficient, plain.constant, plain.error + 0.5, plain.size)
    assert safe_bound(encoding, worse, 0, np.zeros(count)) <= safe_bound(encoding, plain, 0, np.zeros(count)) - 0.5


def test_multipliers_of_the_wrong_sign_do_not_help() -> None:
    """x - relu(x) is -1 at x = -1; minus one times (relu(x) - x >= 0) would say that it is 0 everywhere."""
    encoding = encoded(relu_graph(), -np.ones(1), np.ones(1))
    functional = encoding.functional({0: np.ones((1, 1)), 1: -np.ones((1, 1))}, np.zeros(1))
    for k in range(len(stacked(encoding)[1])):
        assert safe_bound(encoding, functional, 0, -np.eye(len(stacked(encoding)[1]))[k]) <= -1.0


def product_bound(weight: float, error: float, equal: bool) -> float:
    """The functional -t_0 t_1's bound from one constraint t_0 t_1 + 0 >= 0 (or = 0) with this multiplier and these errors."""
    arithmetic = RowArithmetic(np.ones(2))
    eye = sparse.csr_array(np.eye(2))
    left, right = (arithmetic.make(eye[[k]], np.zeros(1), error) for k in (0, 1))
    zero = arithmetic.make(sparse.csr_array((1, 2)), np.zeros(1))
    return semidefinite._safe_bound(zero, 0, [Products(left, right, zero, equal)], (np.zeros(2), [np.array([weight])]))


def test_the_semidefinite_bound_pays_for_errors_and_drops_negative_multipliers() -> None:
    assert -1e-9 < product_bound(-1.0, 0.0, False) <= 0.0  # dropped
    assert -1.0 - 1e-6 < product_bound(-1.0, 0.0, True) <= -1.0  # t_0 t_1 over the box
    assert product_bound(1.0, 0.0, False) <= -1.0
    assert product_bound(1.0, 0.25, False) <= -1.5  # (1 + 1/4) (1 + 1/4) - 1 is 1/2 + 1/16


def test_no_matrix_that_is_indefinite_by_a_rounding_passes() -> None:
    """Rank-deficient matrices rounded to float64: the sign of the exact determinant, and what a plain factorisation believes."""
    fooled = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        b = rng.normal(size=(3, 2))
        a = b @ b.T
        a = a / 2 + a.T / 2
        q = [rational(row) for row in a]
        minors = q[1][1] * q[2][2] - q[1][2] * q[2][1], q[1][0] * q[2][2] - q[1][2] * q[2][0], q[1][0] * q[2][1] - q[1][1] * q[2][0]
        if q[0][0] * minors[0] - q[0][1] * minors[1] + q[0][2] * minors[2] < 0:
            assert not semidefinite._is_positive(a, 0.0)
            with contextlib.suppress(np.linalg.LinAlgError):
                fooled += bool(np.isfinite(np.linalg.cholesky(a)).all())
    assert fooled > 5


def test_an_element_that_counts_as_linear_carries_the_gap_as_its_error() -> None:
    """Sigmoid over an interval so narrow that its planes nearly touch: its line is off by more than rounding."""
    graph = graph_of(Input((1,), (), FROM, "x"), Elementwise((1,), (0,), FROM, build("sigmoid")))
    lower, upper = np.array([0.6]), np.array([0.6002])
    encoding = encoded(graph, lower, upper)
    rows = encoding.rows[1]
    assert encoding.hidden == 0
    x = np.linspace(lower[0], upper[0], 101)
    off = np.abs(rows.coefficient.toarray()[0, 0] * x + rows.constant[0] - 1 / (1 + np.exp(-x)))
    assert 1e-12 < off.max() <= rows.error[0] < 1e-7


def test_planes_of_sums_of_products_hold_in_exact_arithmetic() -> None:
    """Terms that cancel to the last digit: every plane of a product of matrices holds at every corner."""
    graph = graph_of(Input((1, 3), (), FROM, "x"), Input((3, 1), (), FROM, "y"), Bilinear((1, 1), (0, 1), FROM, "matmul"))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        low = rng.normal(size=6) * 10.0 ** rng.integers(-3, 9, 6)
        encoding = encoded(graph, low, low + rng.random(6))
        for corner in itertools.product((0, 1), repeat=6):
            v = rational(np.where(corner, encoding.upper[:6], encoding.lower[:6]))
            v.append(sum((v[k] * v[3 + k] for k in range(3)), Fraction(0)))
            for plane in encoding.planes:
                row = exact(plane.rows.coefficient.toarray()[0], plane.rows.constant[0], v)
                assert row >= -Fraction(float(plane.rows.error[0]))
