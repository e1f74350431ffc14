"""The rational enclosures of smooth functions, against balls of 1,000 bits (python-flint)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.soundness import elementary

flint = pytest.importorskip("flint")
FUNCTIONS: dict[str, Callable] = {
    "exp": lambda a: a.exp(), "sigmoid": lambda a: 1 / (1 + (-a).exp()), "tanh": lambda a: a.tanh(), "erf": lambda a: a.erf(),
    "softplus": lambda a: (1 + a.exp()).log(), "sqrt": lambda a: a.sqrt(), "log": lambda a: a.log(),
    "sin": lambda a: a.sin(), "cos": lambda a: a.cos(),
}  # fmt: skip
SMALL = st.builds(Fraction, st.integers(-(2**30), 2**30), st.sampled_from([2**29, 2**99, 2**149]))
ARGUMENTS = st.fractions(-600, 600, max_denominator=2**20) | SMALL


def ball(x: Fraction) -> object:
    return flint.arb(flint.fmpq(x.numerator, x.denominator))


@pytest.mark.parametrize("name", FUNCTIONS)
@given(x=ARGUMENTS)
def test_it_encloses_and_is_narrow(name: str, x: Fraction) -> None:
    x = abs(x) + Fraction(1, 2**60) if name in ("sqrt", "log") else x
    lower, upper = getattr(elementary, name)(x)
    before = flint.ctx.prec
    flint.ctx.prec = 3000
    try:
        value = FUNCTIONS[name](ball(x))
        assert not value < ball(lower) and not value > ball(upper)
    finally:
        flint.ctx.prec = before
    assert upper - lower <= abs(upper) / 2**200 or (name == "erf" and upper - lower <= Fraction(1, 2**300))\
        or (name in ("sin", "cos") and upper - lower <= Fraction(1, 2**200))


def test_what_is_rational_is_exact() -> None:
    assert elementary.sqrt(Fraction(9, 4)) == (Fraction(3, 2), Fraction(3, 2))
    assert elementary.exp(Fraction(0)) == elementary.cos(Fraction(0)) == (1, 1)
    assert elementary.tanh(Fraction(0)) == elementary.erf(Fraction(0)) == elementary.log(Fraction(1)) == (0, 0)


@pytest.mark.parametrize(("function", "x"), [(elementary.sqrt, -1), (elementary.log, 0), (elementary.exp, 10**6), (elementary.sin, 10**6)])
def test_outside_the_domain_is_an_error(function: Callable, x: int) -> None:
    with pytest.raises(elementary.OutOfRange):
        function(Fraction(x))


PLACES = st.fractions(-20, 20, max_denominator=2**20)


@given(a=PLACES, width=PLACES.map(abs), offset=st.sampled_from([0, 1, Fraction(1, 2)]))
def test_multiples_of_pi_in_an_interval(a: Fraction, width: Fraction, offset: Fraction) -> None:
    held = [k for k in range(-12, 12) if a <= (2 * k + offset) * Fraction(flint.arb.pi().mid().str(30, radius=False)) <= a + width]
    assert elementary.meets((a, a + width), Fraction(offset)) == bool(held) or (a == 0 and offset == 0)
