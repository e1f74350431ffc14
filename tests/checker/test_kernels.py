"""The kernels against ball arithmetic: measured errors below the proven ones, and enclosures that enclose."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from flint import ctx

from tests.checker.oracles import DERIVATIVES, KERNELS, SMOOTH, VALUES, Array, ball, points_of, true_values
from verifier.checker import activations, kernels
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
        (y, error), table = activations.value(function.name, function.parameter, points), VALUES
        low, high = activations.enclose(function.name, function.parameter, points)
    else:
        (y, error), table = activations.derivative(function.name, function.parameter, points), DERIVATIVES
        low, high = activations.derivative_enclosure(function.name, function.parameter, points)
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


UNITS = {  # of value and derivative, relative to y, as their proofs say; of sin, cos and their derivatives absolute
    "exp": (8, 8), "log": (16, 2), "sqrt": (2, 3), "reciprocal": (2, 4), "sigmoid": (16, 32), "tanh": (32, 32), "softplus": (32, 16), "sin": (8, 8),
    "cos": (8, 8),
}  # fmt: skip


def wanted_error(function: Smooth, which: int, x: Array, y: Array) -> Array:
    """What `value` (0) or `derivative` (1) owes, before 2^-1021, in units of u."""
    name, p = function.name, function.parameter
    if name == "erf":
        return (1024 if which == 0 else np.minimum(x * x, 800) + 16) * np.abs(y)
    if name != "pow":
        return UNITS[name][which] * (np.ones(x.shape) if name in ("sin", "cos") else np.abs(y))
    if which == 1:
        inner, error = kernels.value("pow", p - 1, x)
        return abs(p) * (error / kernels.U + 2 * np.abs(inner))
    return (abs(p) + 2) * np.abs(y) if float(p).is_integer() else (10 + 20 * np.abs(p * kernels.value("log", 0.0, x)[0])) * np.abs(y)


@pytest.mark.parametrize("function", KERNELS, ids=name_of)
def test_errors_are_not_larger_than_their_proofs_say(function: Smooth) -> None:
    """A larger error would be sound, and bounds looser than they need be. An enclosure adds 2^-1021 and steps outward once."""
    x = points_of(function, 120, seed=3)
    ways = (kernels.value, kernels.enclose), (kernels.derivative, kernels.derivative_enclosure)
    bottom, top = kernels.KERNELS[function.name][3] if function.name in kernels.KERNELS else (-np.inf, np.inf)
    for which, (of, around) in enumerate(ways):
        y, error = of(function.name, function.parameter, x)
        usable = np.isfinite(y) & np.isfinite(error) & (error > 2.0**-1000)
        assert usable.sum() > 50 and np.allclose((error / kernels.U)[usable], wanted_error(function, which, x, y)[usable], rtol=1e-12, atol=0)
        low, high = around(function.name, function.parameter, x)
        ends = [np.nextafter(y - (error + FLOOR), -np.inf), np.nextafter(y + (error + FLOOR), np.inf)]
        if which == 0:
            ends = [np.maximum(ends[0], bottom), np.minimum(ends[1], top)]
            inner = np.abs(x) < 6 if function.name == "erf" else np.ones(x.shape, dtype=bool)  # beyond, erf is known to be nearly 1
            usable &= inner
        assert (low == ends[0])[usable].all() and (high == ends[1])[usable].all()


ACTIVATION_UNITS = {  # of value and derivative, relative to y, as their proofs say
    "asinh": (32, 8), "acosh": (32, 8), "atanh": (32, 8), "sinh": (32, 16), "cosh": (16, 32), "atan": (32, 8), "asin": (48, 8), "softsign": (4, 8),
    "elu": (20, 16), "mish": (32, np.inf),
}  # fmt: skip


def most_error(function: Smooth, which: int, x: Array, y: Array) -> Array:
    """The most that an activation may owe, before 2^-1021 and the floor of a gate's slope, in units of u."""
    name, p, size = function.name, function.parameter, np.abs(y)
    if name == "elu":
        return np.where(x > 0, 0.0, ACTIVATION_UNITS[name][which] * size)
    if name == "hard_swish":
        return 3 * np.minimum(np.abs(x), 2.0) if which == 0 else np.where((x < -p) | (x > 1 - p), 0.0, 2 * size)
    if name == "gelu" and which == 0:
        return np.where(np.abs(x) >= 6, 1.0, 520.0) * np.abs(x) + 2 * size
    if name == "tan":
        return 16 * (1 + size) ** 2 if which == 0 else 40 * (1 + size) ** 3
    units = ACTIVATION_UNITS.get(name, (np.inf, np.inf))[which]
    return units * size if np.isfinite(units) else 600 * (1 + np.abs(x))


@pytest.mark.parametrize("function", [f for f in SMOOTH if f.name in activations.KERNELS or f.name in activations.OTHERS], ids=name_of)
def test_errors_of_activations_are_not_larger_than_their_proofs_say(function: Smooth) -> None:
    """A larger error would be sound, and bounds looser than they need be."""
    x = points_of(function, 120, seed=3)
    for which, of in enumerate((activations.value, activations.derivative)):
        y, error = of(function.name, function.parameter, x)
        usable = np.isfinite(y) & np.isfinite(error) & (np.abs(x) < 2.0**30)
        most = most_error(function, which, x, y)
        assert usable.sum() > 50 and (error <= kernels.U * most * (1 + 1e-12) + 2.0**-959)[usable].all()


@pytest.mark.parametrize("x", [2.0, np.pi / 2, np.pi / 2 - 2.0**-41, 2.0**-41 - np.pi / 2, np.inf, np.nan])
def test_tan_is_refused_at_and_near_its_poles(x: float) -> None:
    assert np.isfinite(activations.value("tan", 0.0, np.array([np.pi / 2 - 2.0**-39]))).all()
    for of in (activations.enclose, activations.derivative_enclosure):
        with pytest.raises(Rejected, match="domain: tan"):
            of("tan", 0.0, np.array([1.0, x]))


def test_a_crossing_that_is_not_sharp_is_refused() -> None:
    """A sign that cannot be told a blur beside the point: no answer rather than one that may be wrong."""
    assert abs(activations._crossing(np.sign, -1.0, 2.0)) <= activations.BLUR
    with pytest.raises(Rejected, match="bends too slowly"):
        activations._crossing(lambda x: np.where(np.abs(x) < 2 * activations.BLUR, 0.0, np.sign(x)), -1.0, 2.0)


def test_an_activation_at_its_kinks_has_the_slope_of_its_curved_side() -> None:
    at = {"hard_swish": ([-0.25, 0.75], [-0.25, 1.75]), "elu": ([0.0], [0.25])}
    for name, (x, slopes) in at.items():
        found, error = activations.derivative(name, 0.25, np.array(x))
        assert found.tolist() == slopes and (error > 0).all()


def test_what_underflows_is_enclosed_by_the_floor_alone() -> None:
    for name, x in (("exp", -800.0), ("sigmoid", -800.0), ("tanh", 0.0), ("softplus", -800.0), ("erf", 0.0)):
        low, high = kernels.enclose(name, 0.0, np.array([x]))
        assert low[0] <= 0.0 and 0 < high[0] <= 2 * FLOOR


def test_erf_is_nearly_one_far_out() -> None:
    low, high = kernels.enclose("erf", 0.0, np.array([-6.0, np.nextafter(6.0, 0), 6.0]))
    assert (high[0], low[2]) == (kernels.U - 1, 1 - kernels.U) and low[1] < 1 - kernels.U


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


EDGES = [("exp", 0.0, 700.0, 1e9), ("log", 0.0, 5e-324, -5e-324), ("sqrt", 0.0, 0.0, -5e-324)]
EDGES += [(name, 0.0, sign * 2.0**20, sign * (2.0**20 + 1)) for name in ("sin", "cos") for sign in (1, -1)]


EDGES += [(name, 0.0, sign * x, sign * np.inf) for name, x in (("asinh", 2.0**500), ("sinh", 700.0), ("cosh", 700.0)) for sign in (1, -1)]
EDGES += [("acosh", 0.0, 1.0, -np.inf), ("acosh", 0.0, 2.0**500, np.inf), ("atanh", 0.0, 1 - kernels.U, 1.0), ("atanh", 0.0, kernels.U - 1, -1.0)]
EDGES += [("asin", 0.0, 1.0, 2.0), ("asin", 0.0, -1.0, -2.0)]
EDGES += [(name, 0.5, sign * 2.0**36, sign * np.inf) for name in ("hard_swish", "swish") for sign in (1, -1)]
EDGES += [(name, 0.0, sign * 2.0**36, sign * np.inf) for name in ("gelu", "mish") for sign in (1, -1)]


@pytest.mark.parametrize("name, parameter, inside, outside", EDGES)
def test_a_domain_ends_where_its_proof_does(name: str, parameter: float, inside: float, outside: float) -> None:
    low, high = activations.enclose(name, parameter, np.array([inside]))
    assert np.isfinite(low) and np.isfinite(high) and low <= high
    with pytest.raises(Rejected, match="domain"):
        activations.enclose(name, parameter, np.array([outside]))
    with pytest.raises(Rejected, match="domain"):
        activations.value(name, parameter, np.nextafter([inside], [outside]))


def test_exponents_have_a_limit() -> None:
    for p in (1024.0, -1024.0):
        low, high = kernels.enclose("pow", p, np.ones(1))
        assert low <= 1 <= high
        with pytest.raises(Rejected, match="domain"):
            kernels.enclose("pow", p + np.sign(p), np.ones(1))


def test_a_power_beyond_the_largest_is_not_used() -> None:
    for p, x in ((1.0, 2.0**1000), (-1.0, 2.0**-1000), (2.0, -(2.0**500))):
        y, _ = kernels.value("pow", p, np.array([x, np.nextafter(x, 0.0 if p < 0 else 2 * x)]))
        assert y[0] == 2.0**1000 and (y[1] == np.inf)


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
        points = np.abs(x) / 8 if function.name in ("asin", "atanh") else np.minimum(np.abs(x) / 2, 1.5) + (function.name == "acosh") + 0.01
        together = activations.value(function.name, function.parameter, points)[0]
        strided = activations.value(function.name, function.parameter, points.T)[0].T
        assert (together == strided).all()
        for i, j in ((0, 0), (3, 17), (6, 30)):
            assert activations.value(function.name, function.parameter, points[i : i + 1, j : j + 1])[0][0, 0] == together[i, j]
