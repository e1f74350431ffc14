"""Offsets, intervals and default slopes: never violated, hardly loose, and as tight as the engine's."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bounds import relaxation
from graph.functions import build, facts
from tests.checker.oracles import EDGES, PIECES, SMOOTH, Array, intervals_of
from tests.effort import examples
from verifier.checker import exact_functions, functions, slopes
from verifier.checker.network import Function, Pieces, Smooth
from verifier.checker.refusal import Rejected

ALL: tuple[Function, ...] = (*PIECES, *SMOOTH)
RELU, SIGN, FLOOR = PIECES[0], PIECES[8], Pieces(step="floor")
THETA = 2.0**-126
# the exact offsets take a moment each; the bits of what they bound are few
SIZES = (12, pytest.param(200, marks=pytest.mark.slow))


def random_slopes(function: Function, lower: Array, upper: Array, seed: int) -> Array:
    """Some of every kind: 0, 1, moderate, tiny, huge, and those of the function itself."""
    r = np.random.default_rng(seed)
    own = functions.default_slopes(function, lower, upper)
    kinds = [np.zeros_like(lower), np.ones_like(lower), *(scale * r.normal(size=lower.shape) for scale in (1, 1e-9, 1e6)), *own]
    return np.choose(r.integers(0, len(kinds), lower.shape), kinds)


def least_and_most(function: Function, slope: float, lower: float, upper: float, widen: float = 0.0) -> tuple[Fraction, Fraction]:
    exact = map(Fraction, (slope, slope, lower, upper, widen))
    return exact_functions.offsets(function, *exact)


def magnitude(function: Function, slope: float, lower: float, upper: float) -> float:
    """The size of what was added up to get an offset."""
    low, high = exact_functions.interval(function, Fraction(lower), Fraction(upper))
    return float(max(abs(low), abs(high)) + (1 + abs(Fraction(slope))) * max(abs(Fraction(lower)), abs(Fraction(upper))))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("widen", [0.0, THETA])
@pytest.mark.parametrize("function", ALL, ids=str)
def test_offsets_against_exact_ones(function: Function, widen: float, n: int) -> None:
    """Never above the least of f - slope x, nor below the most; within 1e-9 of it, for straight pieces within 29 u of what is added up."""
    lower, upper = intervals_of(function, n, seed=5)
    if isinstance(function, Smooth) and function.name == "exp":
        lower, upper = np.minimum(lower, 50), np.minimum(upper, 50)
    a, b = random_slopes(function, lower, upper, 6), random_slopes(function, lower, upper, 7)
    low, high = functions.offsets(function, a, b, lower, upper, widen)
    bottom, top = functions.interval(function, lower, upper, widen)
    near = 3.6 * 2.0**-50 if isinstance(function, Pieces) else 1e-9
    for i in range(n):
        below, _ = least_and_most(function, a[i], lower[i], upper[i], widen)
        _, above = least_and_most(function, b[i], lower[i], upper[i], widen)
        assert Fraction(low[i]) <= below and above <= Fraction(high[i]), (a[i], b[i], lower[i], upper[i])
        loss = max(float(below - Fraction(low[i])), float(Fraction(high[i]) - above))
        size = max(magnitude(function, slope, lower[i], upper[i]) for slope in (a[i], b[i]))
        assert loss <= near * size + 2 * widen * (1 + max(abs(a[i]), abs(b[i]))) + 2.0**-900
        ends = exact_functions.interval(function, *map(Fraction, (lower[i], upper[i], widen)))
        assert Fraction(bottom[i]) <= ends[0] and ends[1] <= Fraction(top[i])
        assert float(Fraction(top[i]) - Fraction(bottom[i]) - ends[1] + ends[0]) <= 1e-12 * (1 + float(max(map(abs, ends))))


@pytest.mark.parametrize("function", ALL, ids=str)
def test_offsets_at_many_points(function: Function) -> None:
    """f(x) lies between the planes at exact points of each interval."""
    lower, upper = intervals_of(function, 3, seed=8)
    if isinstance(function, Smooth) and function.name in ("exp", "pow"):
        lower, upper = (np.clip(x, -20, 20) for x in (lower, upper))
    a, b = functions.default_slopes(function, lower, upper)
    low, high = functions.offsets(function, a, b, lower, upper)
    for i in range(3):
        start, end, *planes = map(Fraction, (lower[i], upper[i], a[i], b[i], low[i], high[i]))
        for k in range(points := examples(200)):
            x = start + (end - start) * Fraction(k, points - 1)
            if isinstance(function, Pieces):
                y = exact_functions._at(function, x), exact_functions._at(function, x)
            else:
                y = exact_functions.enclose(function.name, function.parameter, x, 90)
            assert planes[0] * x + planes[2] <= y[1] and y[0] <= planes[1] * x + planes[3]


@pytest.mark.parametrize("function", ALL, ids=str)
def test_slopes_of_many_rows(function: Function) -> None:
    """Slopes [B, R, n] with ends [B, 1, n] give the same numbers, row by row, as the same slopes alone."""
    lower, upper = (x.reshape(2, 1, 5) for x in intervals_of(function, 10, seed=9))
    if isinstance(function, Smooth) and function.name in ("exp", "pow"):
        lower, upper = (np.clip(x, -20, 20) for x in (lower, upper))
    rows = np.random.default_rng(0).normal(size=(2, 3, 5))
    low, high = functions.offsets(function, rows, -rows, lower, upper)
    assert low.shape == high.shape == (2, 3, 5)
    for r in range(3):
        own = functions.offsets(function, rows[:, r : r + 1], -rows[:, r : r + 1], lower, upper)
        assert (low[:, r : r + 1] == own[0]).all() and (high[:, r : r + 1] == own[1]).all()


@example(np.full((2, 6), 3.4e-297), np.zeros(6))
@given(arrays(np.float64, (2, 6), elements=st.floats(-1e3, 1e3)), arrays(np.float64, 6, elements=st.floats(-2, 2)))
def test_relu(ends: Array, slope: Array) -> None:
    """Offset 0 below for default slopes, exactly; exact slopes and offset 0 for stable neurons; the fast path is the slow one."""
    lower, upper = ends.min(0), ends.max(0)
    a, b = functions.default_slopes(RELU, lower, upper)
    low, high = functions.offsets(RELU, a, b, lower, upper)
    assert (low == 0).all()
    stable = (lower >= 0) | (upper <= 0)
    clear = stable & ((lower > 1e-200) | (upper < -1e-200))
    assert (a == b)[clear].all() and (high == 0)[clear].all()
    assert (functions.is_linear(RELU, lower, upper) == stable).all()
    general = functions.offsets(RELU, np.append(a, 0.5), np.append(b, 2.0), np.append(lower, 0.0), np.append(upper, 1.0))
    assert (general[0][:-1] <= 0).all() and np.allclose(general[1][:-1], high, rtol=1e-14, atol=1e-300)
    for each in (slope, np.abs(slope) / 2):  # the latter in [0, 1], where offsets have a rule of their own
        low, high = functions.offsets(RELU, each, each, lower, upper)
        for i in range(6):
            below, above = least_and_most(RELU, each[i], lower[i], upper[i])
            assert Fraction(low[i]) <= below and above <= Fraction(high[i])
        tight = np.array([float(least_and_most(RELU, each[i], lower[i], upper[i])[0]) for i in range(6)])
        assert np.allclose(low, tight, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [f for f in PIECES if len(f.breakpoints) == 1 and f.breakpoints[0] == 0 and not any((*f.intercepts, *f.values))])
def test_slopes_of_a_kink_follow_the_bounds_steadily(function: Pieces) -> None:
    """Engine and checker bound with other roundings: where it hardly matters which slope is taken they must take nearly the same one."""
    lower, upper = np.full(401, -1.0), np.linspace(0.8, 1.25, 401)
    found, engine = functions.default_slopes(function, lower, upper), engine_function(function)
    assert engine is not None
    for ours, theirs in zip(found, relaxation.default_slopes(engine, torch.from_numpy(lower), torch.from_numpy(upper)), strict=True):
        assert np.allclose(ours, theirs.numpy(), atol=1e-12)
        assert np.abs(np.diff(ours)).max() < 0.02 * abs(function.slopes[1] - function.slopes[0])


def test_jumps_are_seen_on_closed_intervals() -> None:
    """ARITHMETIC 49: at an end of the interval Sign takes the value there and the limit from inside, and not the one from outside."""
    for lower, upper, low, high in ((0.0, 1.0, 0, 1), (-1.0, 0.0, -1, 0), (0.0, 0.0, 0, 0), (5e-324, 1.0, 1, 1)):
        ends = functions.interval(SIGN, np.array([lower]), np.array([upper]))
        assert (ends[0][0], ends[1][0]) == (low, high)
    assert [x[0] for x in functions.interval(SIGN, np.array([2.0**-130]), np.ones(1), THETA)] == [-1, 1]  # ARITHMETIC 50
    assert [x[0] for x in functions.interval(RELU, np.array([2.0**-130]), np.ones(1), THETA)] == [2.0**-130, 1]


def test_a_flushed_argument_moves_along_the_slope() -> None:
    """f reads 0 where the state says 2^-127: with slope 2^100 that is worth 2^-27 at the offset."""
    a = np.array([2.0**100])
    low, _ = functions.offsets(SIGN, a, a, np.array([2.0**-127]), np.array([2.0**-127]), THETA)
    assert low[0] <= -1 - 2.0**-27 + 2.0**-40


def test_steps_far_out() -> None:
    """Where doubles are too coarse for half-integers f is only known to lie near x; no count of jumps is needed before."""
    lower, upper = np.array([0.0, 2.0**52, -(2.0**60)]), np.array([2.0**49, 2.0**53, 2.0**60])
    for function in PIECES[-3:]:
        assert not functions.is_linear(function, lower, upper).any()
        low, high = functions.offsets(function, np.ones(3), np.ones(3), lower, upper)
        for i in range(3):
            below, above = least_and_most(function, 1.0, lower[i], upper[i])
            assert Fraction(low[i]) <= below <= Fraction(low[i]) + 2 and Fraction(high[i]) - 2 <= above <= Fraction(high[i])
    assert functions.is_linear(FLOOR, np.array([0.25, 1.0]), np.array([0.75, 1.0])).tolist() == [True, False]
    near, quarter = np.array([2.0**50, 2.0**50 - 0.25, -(2.0**50), 0.25 - 2.0**50]), np.array([-0.25, 0.0, 0.25, 0.0])  # of Round, no jump
    ends = np.sort(np.stack([near, near + quarter]), 0)
    assert functions.is_linear(PIECES[-1], *ends).tolist() == [False, True, False, True]


def test_an_even_power_is_least_at_zero_where_zero_is_in() -> None:
    """Small steps around 0, on both sides: exact in the middle, within a few units elsewhere, and never below 0."""
    ends = [(a / 8, b / 8) for a in range(-12, 13) for b in range(a, 13)] + [(-5e-324, 5e-324), (1e-200, 1.0), (-1.0, -1e-200)]
    lower, upper = (np.array(side) for side in zip(*ends, strict=True))
    least = np.where((lower <= 0) & (upper >= 0), 0.0, np.minimum(np.abs(lower), np.abs(upper)))
    most = np.maximum(np.abs(lower), np.abs(upper))
    for p in (2, 4):
        low, high = functions.interval(Smooth("pow", float(p)), lower, upper)
        assert (low[least == 0] == 0).all() and (low >= 0).all() and (low <= least**p).all() and (high >= most**p).all()
        assert np.allclose(low, least**p, rtol=1e-14, atol=1e-300) and np.allclose(high, most**p, rtol=1e-14, atol=1e-300)


def test_sine_far_out() -> None:
    """Beyond 2^19 sin is known to lie in [-1, 1]; over many turns only the outermost one matters."""
    for name in ("sin", "cos"):
        lower, upper = np.array([1e6, -1e9, -1e4]), np.array([1e6 + 1, 1e9, 1e5])
        assert [x.tolist() for x in functions.interval(Smooth(name), lower, upper)] == [[-1, -1, -1], [1, 1, 1]]
        for slope in (-1.5, 0.0, 0.25):
            a = np.full(3, slope)
            low, high = functions.offsets(Smooth(name), a, a, lower, upper)
            for i in range(3):
                below, above = least_and_most(Smooth(name), slope, lower[i], upper[i])
                assert Fraction(low[i]) <= below <= Fraction(low[i]) + 2 and Fraction(high[i]) - 2 <= above <= Fraction(high[i])
            below, above = least_and_most(Smooth(name), slope, lower[2], upper[2])
            assert float(below) - low[2] < 1e-8 and high[2] - float(above) < 1e-8


def test_a_useless_guess_is_loose_and_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tangent touches is only a guess (ARITHMETIC 20)."""
    count = examples(5, 2)
    for nonsense in (np.nan, np.inf, -np.inf, 1e9, 0.0):
        monkeypatch.setattr(slopes, "touch", lambda function, a, start, end, x=nonsense: np.full(np.broadcast(a, start).shape, x))
        for function in SMOOTH:
            if function.name == "pow" and abs(function.parameter) > 4:
                continue
            lower, upper = intervals_of(function, count, seed=10)
            lower, upper = np.minimum(lower, 50), np.minimum(upper, 50)
            a = np.random.default_rng(0).normal(size=count)
            low, high = functions.offsets(function, a, a, lower, upper)
            for i in range(count):
                below, above = least_and_most(function, a[i], lower[i], upper[i])
                assert Fraction(low[i]) <= below and above <= Fraction(high[i])


def test_a_guess_that_is_no_number_is_the_midpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    lower, upper, a = np.array([0.5, 1.0]), np.array([2.0, 7.0]), np.array([-0.125, 0.25])
    found = []
    for guess in (lambda f, a, start, end: np.full(np.broadcast(a, start).shape, np.nan), lambda f, a, start, end: start / 2 + end / 2 + 0 * a):
        monkeypatch.setattr(slopes, "touch", guess)
        found.append([functions.offsets(function, a, a, lower, upper) for function in SMOOTH if function.name not in EDGES])
    assert all((x == y).all() for one, other in zip(*found, strict=True) for x, y in zip(one, other, strict=True))


def test_what_overflows_is_refused() -> None:
    huge = np.array([1e308])
    with pytest.raises(Rejected, match="not-finite"):
        functions.offsets(PIECES[5], -huge, huge, -huge, huge)
    for low, high in ((0.0, 1e308), (1e308, 0.0)):  # one side alone
        with pytest.raises(Rejected, match="not-finite"):
            functions.offsets(PIECES[4], np.array([low]), np.array([high]), np.full(1, -20.0), np.full(1, 20.0))
    for slope in (0.0, 1.0):  # the usual slopes of ReLU
        with pytest.raises(Rejected, match="not-finite"):
            functions.offsets(RELU, *np.full((2, 1), slope), -np.full(1, np.finfo(np.float64).max), np.full(1, np.finfo(np.float64).max))
    with pytest.raises(Rejected, match="not-finite"):
        functions.interval(Smooth("pow", 2.0), -huge, huge)
    with pytest.raises(Rejected, match="unsupported-function"):
        functions.offsets(Smooth("pow", 1.0), huge, huge, np.zeros(1), np.ones(1))
    with pytest.raises(Rejected, match="unsupported-function"):
        functions.interval(Smooth("gamma"), np.zeros(1), np.ones(1))
    for pole in (Smooth("reciprocal"), Smooth("pow", -2.0)):
        for ends in ((-1.0, 1.0), (-1.0, 0.0), (0.0, 1.0)):
            with pytest.raises(Rejected, match="domain"):
                functions.offsets(pole, np.zeros(1), np.zeros(1), *(np.array([end]) for end in ends))
    for a in functions.default_slopes(RELU, -huge, huge):
        assert np.isfinite(a).all()


def engine_function(function: Function) -> facts.Function | None:
    """The engine's function of the same name, where it has one."""
    if isinstance(function, Smooth):
        return build(function.name, *((function.parameter,) if function.name in ("pow", "elu", "hard_swish", "swish") else ()))
    return None if function.step else facts.Pieces("test", function.breakpoints, function.slopes, function.intercepts, function.values)


@pytest.mark.parametrize("function", [f for f in ALL if engine_function(f)], ids=str)
def test_as_tight_as_the_engine(function: Function) -> None:
    """The area between the default planes, summed over random intervals, is that of the engine's planes, within 1%."""
    engine = engine_function(function)
    assert engine is not None
    lower, upper = intervals_of(function, 2000, seed=11)
    if isinstance(function, Smooth) and function.name in ("exp", "pow"):
        lower, upper = (np.clip(x, -5, 5) for x in (lower, upper))
    a, b = functions.default_slopes(function, lower, upper)
    low, high = functions.offsets(function, a, b, lower, upper)
    theirs = relaxation.relax(engine, torch.tensor(lower), torch.tensor(upper))
    middle, width = lower / 2 + upper / 2, upper - lower
    area = width * ((b - a) * middle + high - low)
    offset_lower, offset_upper = (np.zeros_like(lower) if x is None else x.numpy() for x in (theirs.offset_lower, theirs.offset_upper))
    other = width * ((theirs.slope_upper - theirs.slope_lower).numpy() * middle + offset_upper - offset_lower)
    use = np.isfinite(other) & (width > 1e-5)
    assert use.any() and area[use].sum() <= 1.01 * other[use].sum()
    assert (area[use] <= 1.5 * other[use] + 1e-9).mean() > 0.99
