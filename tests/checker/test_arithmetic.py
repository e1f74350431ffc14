"""The numbers of ARITHMETIC 1, as written there, and what they are for: sums whose rounding they must exceed."""

from __future__ import annotations

from fractions import Fraction
from random import Random

import numpy as np
import pytest

from verifier.checker import arithmetic
from verifier.checker.arithmetic import FLOOR, LEAST, MOST_TERMS, MU, SMALLEST, THETA, TINY, Array, G, T, dn, finite, g, positive, probe_machine, up
from verifier.checker.refusal import Rejected


def test_constants_are_those_of_the_text() -> None:
    """But for those of underflow, which are larger: what the text's leave behind is multiplied as subnormals, many times more slowly."""
    assert (THETA, TINY, MOST_TERMS) == (2.0**-126, 2.0**-1022, 2**40)
    assert FLOOR > 2.0**-960 and LEAST > TINY
    assert Fraction(MU) == Fraction(1, 2**24) * (1 + Fraction(1, 2**10))


@pytest.mark.parametrize("m", [0, 1, 7, 4096, 2**40])
def test_error_factors_are_those_of_the_text(m: int) -> None:
    assert G(m) == (m + 4) * 2.0**-52
    sizes = np.array([[1.0, 2.0], [0.0, 0.5]])
    assert T(m, sizes).tolist() == [(2 * m + 8) * LEAST * 4, (2 * m + 8) * LEAST * 1.5]
    assert T(m, sizes[0]).shape == () and T(m, sizes[None]).tolist() == [T(m, sizes).tolist()]  # the last axis, of however many
    if m <= 2**19:
        assert abs(Fraction(g(m)) - m * Fraction(MU) / (1 - m * Fraction(MU))) <= Fraction(g(m)) / 2**51


@pytest.mark.parametrize("m", [-1, 2**40 + 1])
def test_too_many_terms_are_refused(m: int) -> None:
    for refused in (lambda: G(m), lambda: T(m, np.ones(1)), lambda: g(m)):
        with pytest.raises(Rejected, match="too-many-terms"):
            refused()


def test_float32_roundings_end_at_a_sixteenth() -> None:
    last = int(Fraction(1, 16) / Fraction(MU))
    assert 0 < g(last) < 2.0**-4 * 1.07
    with pytest.raises(Rejected, match="too-many-terms"):
        g(last + 1)
    assert g(0) == 0.0


def test_a_sum_of_products_loses_less_than_its_error_factor() -> None:
    """|fl(a.b) - a.b| <= G(n) |a||b| / 2, for any order numpy may choose."""
    for seed in range(50):
        r = Random(seed)
        n = r.choice((1, 2, 3, 10, 1000))
        a, b = (np.array([r.uniform(-1, 1) * 2.0 ** r.randint(-30, 30) for _ in range(n)]) for _ in range(2))
        terms = [Fraction(x) * Fraction(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
        assert abs(Fraction(float(a @ b)) - sum(terms)) <= Fraction(G(n)) / 2 * sum(map(abs, terms))


@pytest.mark.parametrize(("least", "exact_from"), [(LEAST, 2.0**-840), (SMALLEST, 2.0**-1019)])
def test_steps_go_outward_by_one_double(least: float, exact_from: float) -> None:
    """Or further, where numbers are tiny. At every power of two and its neighbours, and at doubles with random bits."""
    powers = np.ldexp(1.0, np.arange(-1074, 1024))
    around = np.concatenate([np.zeros(1), powers, np.nextafter(powers, np.inf), np.nextafter(powers, 0), np.array([np.finfo(np.float64).max])])
    bits = np.random.default_rng(0).integers(0, 0x7FF << 52, 1_000_000).view(np.float64)
    for x in (around, -around, bits, -bits):
        with np.errstate(over="ignore"):
            above, below, next_above, next_below = up(x, least), dn(x, least), np.nextafter(x, np.inf), np.nextafter(x, -np.inf)
        assert (above >= next_above).all() and (below <= next_below).all()
        usual = np.abs(x) >= exact_from
        assert usual.sum() > 1000 and (above[usual] == next_above[usual]).all() and (below[usual] == next_below[usual]).all()
        assert (above - x <= 2.0**-52 * exact_from)[~usual].all() and (x - below <= 2.0**-52 * exact_from)[~usual].all()


def test_no_step_makes_a_number_of_what_is_none() -> None:
    """The next double below infinity is a number; it must not become an end of an interval."""
    with np.errstate(invalid="ignore"):
        for x in (np.inf, -np.inf, np.nan):
            assert not np.isfinite(up(np.array(x))) and not np.isfinite(dn(np.array(x)))


def test_nothing_that_a_step_or_an_error_term_leaves_is_subnormal() -> None:
    """Subnormal operands made checks of networks with many zeros take twice as long. A dense layer and its error terms on zeros."""
    zero, weight = np.zeros(8), np.full((8, 8), 2.0**-20)
    left = [up(zero), -dn(zero), T(1, zero), np.array(G(1) * FLOOR)]
    assert all((np.abs(x @ weight if x.ndim else x * weight) >= 2.0**-1022).all() for x in left)


def test_what_is_finite_and_of_doubles_passes() -> None:
    x = np.array([1.0, -(2.0**1023)])
    assert finite(x, "here") is x
    for bad in (np.array([1.0, np.inf]), np.array([np.nan, 1.0]), np.array([-np.inf])):
        with pytest.raises(Rejected, match="not-finite: here"):
            finite(bad, "here")
    for narrow in (np.ones(2, np.float32), np.ones(2, np.int64), np.ones(2, np.longdouble)):
        with pytest.raises(Rejected, match="dtype: here"):
            finite(narrow, "here")


def test_only_finite_positive_numbers_are_positive() -> None:
    x = np.array([[2.0**-1074, 1.0], [0.0, -0.0], [-1.0, np.nan], [np.inf, -np.inf]])
    assert positive(x).tolist() == [[True, True], [False, False], [False, False], [False, False]]


def test_this_machine_passes_its_probes() -> None:
    probe_machine()


class _Numpy:
    """numpy on a machine that loses something."""

    def __init__(self, **changed: object) -> None:
        self.changed = changed

    def __getattr__(self, name: str) -> object:
        return self.changed.get(name, getattr(np, name))


class _Faulty(np.ndarray):
    """Doubles on a machine with one `fault`, everywhere or only in some lanes."""

    fault = ""
    lanes = slice(None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **more: object) -> object:
        plain = [np.asarray(x) for x in inputs]
        found = getattr(ufunc, method)(*plain, **more)
        if not isinstance(found, np.ndarray) or found.dtype != np.float64:
            return found
        normal = all((x[x != 0] >= 2.0**-1022).all() for x in plain)
        if self.fault in (f"{ufunc.__name__} flushes", f"{ufunc.__name__} of normal numbers flushes" if normal else ""):
            found[..., self.lanes] = np.where(np.abs(found) < 2.0**-1022, 0.0, found)[..., self.lanes]
        if ufunc.__name__ == "add" and self.fault == "ties go up" and (plain[1] == 2.0**-53).all():
            found[..., self.lanes] += 2.0**-52
        if ufunc.__name__ == "add" and self.fault == "short sums":
            found[..., self.lanes] = found.astype(np.float32)[..., self.lanes]
        return found.view(type(self))


FAULTS = (
    "multiply flushes",
    "divide flushes",
    "ties go up",
    "short sums",
    "matmul flushes",
    "matmul of normal numbers flushes",
    "1 times a subnormal is 0",
)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("lanes", [slice(None), slice(0, 1), slice(7, 8)], ids=["all", "first", "last"])
def test_a_machine_that_is_not_ieee_is_refused(monkeypatch: pytest.MonkeyPatch, fault: str, lanes: slice) -> None:
    kind = type("Kind", (_Faulty,), {"fault": fault, "lanes": lanes})

    def made(plain: object) -> object:
        return lambda *arguments: np.asarray(plain(*arguments)).view(kind)  # type: ignore[operator]

    changed = {name: made(getattr(np, name)) for name in ("ones", "full")}
    if fault == FAULTS[-1]:  # a matrix product that takes subnormals for 0
        changed["eye"] = lambda n: np.diag([float(k not in range(n)[lanes]) for k in range(n)])
    monkeypatch.setattr(arithmetic, "np", _Numpy(**changed))
    with pytest.raises(Rejected, match="machine"):
        probe_machine()


def test_arrays_are_of_numpy() -> None:
    x: Array = up(np.ones((2, 3)))
    assert x.shape == (2, 3)
