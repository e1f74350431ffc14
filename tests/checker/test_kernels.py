"""The kernels against ball arithmetic: measured errors below the proven ones, and enclosures that enclose."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from flint import ctx

from tests.checker.oracles import DERIVATIVES, SMOOTH, VALUES, ball, points_of, true_values
from verifier.checker import kernels
from verifier.checker.network import Smooth
from verifier.checker.refusal import Rejected

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # infinities are meant
FLOOR = 2.0**-1021
SIZES = (120, pytest.param(17000, marks=pytest.mark.slow))  # 17000: about 10^5 points per function


def name_of(function: Smooth) -> str:
    return function.name if function.name != "pow" else f"pow{function.parameter}"


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("function", SMOOTH, ids=name_of)
@pytest.mark.parametrize("which", ["value", "derivative"])
def test_errors_stay_below_the_proven_bounds(function: Smooth, which: str, n: int) -> None:
    points = points_of(function, n, seed=1)
    if which == "value":
        (y, error), table = kernels.value(function.name, function.parameter, points), VALUES
        low, high = kernels.enclose(function.name, function.parameter, points)
    else:
        (y, error), table = kernels.derivative(function.name, function.parameter, points), DERIVATIVES
        low, high = kernels.derivative_enclosure(function.name, function.parameter, points)
    usable = np.isfinite(low) & np.isfinite(high) & np.isfinite(error)  # what overflows is refused by all who ask
    assert usable.mean() > 0.98
    points, columns = points[usable], (a[usable] for a in (y, error, low, high))
    worst = 0.0
    for x, true, *ends in zip(points, true_values(function, points, table), *columns, strict=True):
        at, allowed, below, above = map(float, ends)
        assert ball(below) <= true <= ball(above) or true.overlaps(ball(below)) or true.overlaps(ball(above)), (function, x)
        off = float(abs(true - ball(at)).mid())
        if off > FLOOR:
            worst = max(worst, (off - FLOOR) / allowed)
    assert worst < 1, f"{worst} of the proven error"


def test_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heads and tails of ln 2 and pi/2, and 2/sqrt(pi), are what the proofs say."""
    monkeypatch.setattr(ctx, "prec", 200)
    pi, ln2 = ball(1.0).atan() * 4, ball(2.0).log()
    assert abs(ball(kernels.LN2_HEAD) + ball(kernels.LN2_TAIL) - ln2) < ball(2.0**-86)
    assert abs(sum((ball(x) for x in kernels.HALF_PI), ball(0.0)) - pi / 2) < ball(2.0**-91)
    assert abs(ball(kernels.TWO_BY_ROOT_PI) - 2 / pi.sqrt()) < ball(2.0**-53)
    for x, bits in ((kernels.LN2_HEAD, 32), *((x, 30) for x in kernels.HALF_PI)):
        assert Fraction(x).numerator.bit_length() <= bits
    assert all(Fraction(k) * Fraction(x) == Fraction(k * x) for x in kernels.HALF_PI for k in (float(2**20 - 1), 667545.0))


OUTSIDE = [
    *(("exp", 0.0, 700.5), ("log", 0.0, 0.0), ("log", 0.0, -1.0), ("log", 0.0, np.nan), ("sqrt", 0.0, -1e-300), ("reciprocal", 0.0, 0.0)),
    *(("pow", -1.0, 0.0), ("pow", 0.5, 0.0), ("pow", 1.5, -1.0), ("pow", 2000.0, 1.0), ("pow", 1e300, 1.0), ("pow", 90.5, 1e10)),
    ("sin", 0.0, 2.0**21),
]


@pytest.mark.parametrize("name, parameter, x", OUTSIDE)
def test_outside_the_domain(name: str, parameter: float, x: float) -> None:
    with pytest.raises(Rejected, match="domain"):
        kernels.enclose(name, parameter, np.array([1.0, x]))


def test_unknown_functions() -> None:
    with pytest.raises(Rejected, match="unsupported-function"):
        kernels.enclose("gamma", 0.0, np.ones(1))
    with pytest.raises(Rejected, match="unsupported-function"):
        kernels.derivative_enclosure("gamma", 0.0, np.ones(1))


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "erf", "softplus", "sin", "cos"])
def test_ranges_and_far_arguments(name: str) -> None:
    """Nothing leaves the range, nothing is NaN, however large the argument."""
    largest = 2.0**20 if name in ("sin", "cos") else 1e308
    x = np.array([-largest, -1e5, -745.0, -40.0, 0.0, 40.0, 700.0] + ([] if name == "exp" else [largest]))
    low, high = kernels.enclose(name, 0.0, x)
    bottom, top = kernels.KERNELS[name][3]
    assert (low >= bottom).all() and (high <= top).all() and (low <= high).all()


def test_a_reciprocal_that_lost_digits_is_not_used() -> None:
    low, high = kernels.enclose("pow", -2.0, np.array([1e-160, 1e-150]))
    assert not np.isfinite(high[0]) and np.isfinite(high[1])
    assert low[1] <= 1e300 <= high[1]


def test_the_value_does_not_depend_on_the_place() -> None:
    """Elementwise: one element alone gives the same bits as in a batch, contiguous or not."""
    x = np.random.default_rng(0).normal(size=(7, 31))
    for function in SMOOTH:
        points = np.abs(x) + 0.25
        together = kernels.value(function.name, function.parameter, points)[0]
        strided = kernels.value(function.name, function.parameter, points.T)[0].T
        assert (together == strided).all()
        for i, j in ((0, 0), (3, 17), (6, 30)):
            assert kernels.value(function.name, function.parameter, points[i : i + 1, j : j + 1])[0][0, 0] == together[i, j]
