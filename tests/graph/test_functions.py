"""The facts that functions state, against numbers: derivatives, convexity, stationary points, ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from graph.errors import MalformedGraph
from graph.functions import FUNCTIONS, Pieces, Smooth, build, register
from graph.functions.facts import Steps

SMOOTH = {
    **{name: build(name) for name in ("sigmoid", "tanh", "exp", "log", "sqrt", "reciprocal", "sin", "cos", "softplus", "erf")},
    **{name: build(name) for name in ("softsign", "tan", "asin", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "gelu", "mish")},
    **{f"elu {p}": build("elu", p) for p in (0.25, 1.0, 1.6732631921768188)},
    **{f"hard_swish {p}": build("hard_swish", p) for p in (0.0, 0.25, 0.5, 1.0)},
    **{f"swish {p}": build("swish", p) for p in (0.0, 0.01755953, 1.0)},
    **{f"pow {p}": build("pow", p) for p in (2.0, 3.0, 4.0, -1.0, -2.0, 0.5, 1.5, -0.5)},
}
PIECES = {
    "relu": (build("relu"), lambda x: np.maximum(x, 0)),
    "abs": (build("abs"), np.abs),
    "leaky_relu": (build("leaky_relu", 0.3), lambda x: np.where(x >= 0, x, 0.3 * x)),
    "negative slope": (build("leaky_relu", -2.0), lambda x: np.where(x >= 0, x, -2.0 * x)),
    "sign": (build("sign"), np.sign),
    "step": (build("step"), lambda x: np.where(x > 0, 1, 0)),
    "lookup": (build("lookup", 0.0, 1.0, 3.0), lambda x: np.where(x >= 0.5, 3, 1)),
    "round": (build("round", -1.0, 2.0), lambda x: np.clip(np.rint(x), -1, 2)),
    "threshold": (build("threshold", 0.5), lambda x: np.where(x > 0.5, x, 0)),
    "shrink": (build("shrink", 0.5, 0.25), lambda x: np.where(np.abs(x) > 0.5, x - np.sign(x) * 0.25, 0)),
    "clip": (build("clip", -1.0, 2.0), lambda x: np.clip(x, -1, 2)),
    "clip below": (build("clip", 0.5, np.inf), lambda x: np.maximum(x, 0.5)),
    "clip above": (build("clip", -np.inf, 0.5), lambda x: np.minimum(x, 0.5)),
}


WHOLE = {"floor": np.floor, "ceil": np.ceil, "nearest": np.rint}


@pytest.mark.parametrize("name", WHOLE)
def test_steps_jump_where_they_say(name: str) -> None:
    f = build(name)
    assert isinstance(f, Steps)
    for dtype in (np.float32, np.float64):
        x = np.concatenate([np.linspace(-4, 4, 97), [1e6 + 0.5, -1e6]]).astype(dtype)
        np.testing.assert_array_equal(f.value(x), WHOLE[name](x))
        jumps = np.arange(-3, 3).astype(dtype) + dtype(f.first)
        np.testing.assert_array_equal(f.value(np.nextafter(jumps, dtype(-9))), jumps + f.limits[0])
        np.testing.assert_array_equal(f.value(np.nextafter(jumps, dtype(9))), jumps + f.limits[1])


def grid(f: Smooth) -> Any:
    lower, upper = max(f.domain[0], -6.0), min(f.domain[1], 6.0)
    x = np.linspace(lower, upper, 2403)[1:-1]
    return x[np.all([np.abs(x - p) > 0.2 for p in f.poles] or [np.isfinite(x)], axis=0)]


@pytest.mark.parametrize("f", SMOOTH.values(), ids=SMOOTH)
def test_derivative_is_the_slope_of_the_value(f: Smooth) -> None:
    x, h = grid(f)[5:-5], 1e-5
    corners = (0.0,) if f.name == "elu" else f.inflections if f.straight else ()
    x = x[np.all([np.abs(x - p) > 2 * h for p in corners] or [np.isfinite(x)], axis=0)]
    slope = (f.value(x + h) - f.value(x - h)) / (2 * h)
    np.testing.assert_allclose(f.derivative(x), slope, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("f", SMOOTH.values(), ids=SMOOTH)
def test_convexity_changes_exactly_at_the_inflections(f: Smooth) -> None:
    x = grid(f)[20:-20]
    step = x[1] - x[0]
    bend = f.derivative(x + step / 2) - f.derivative(x - step / 2)
    if f.period is None:
        points = np.asarray(f.inflections)
    else:
        points = np.sort(np.concatenate([np.asarray(f.inflections) + k * f.period for k in (-2, -1, 0, 1, 2)]))
    first = np.searchsorted(points, f.inflections[0] - 1e-9) if f.inflections else 0
    convex = ((np.searchsorted(points, x) - first) % 2 == 0) == f.convex_first
    clear = np.all([np.abs(x - p) > 2 * step for p in points] or [np.isfinite(x)], axis=0)
    if f.name == "elu":
        clear &= np.abs(x) > 2 * step
    assert np.array_equal((bend > 0)[clear & (np.abs(bend) > 1e-12)], convex[clear & (np.abs(bend) > 1e-12)])
    for k, piece in enumerate(np.split(bend, np.searchsorted(x, f.inflections))):
        assert k not in f.straight or (np.abs(piece[2:-2]) < 1e-12).all()


@pytest.mark.parametrize("f", SMOOTH.values(), ids=SMOOTH)
def test_slope_changes_sign_only_at_stationary_points(f: Smooth) -> None:
    for p in f.stationary:
        assert abs(f.derivative(np.asarray(p))) < 1e-12
    x = grid(f)[1:-1]
    points = [p + k * (f.period or 0) for p in f.stationary for k in ((-2, -1, 0, 1) if f.period else (0,))] + list(f.poles)
    piece = np.searchsorted(np.sort(points), x)
    slope = f.derivative(x)
    for k in np.unique(piece):
        signs = np.sign(slope[(piece == k) & (np.abs(slope) > 1e-12)])
        assert np.unique(signs).size <= 1


@pytest.mark.parametrize("f", SMOOTH.values(), ids=SMOOTH)
def test_values_stay_in_range_and_keep_their_dtype(f: Smooth) -> None:
    for dtype in (np.float32, np.float64):
        x = grid(f).astype(dtype)
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            y = f.value(x)
        assert y.dtype == dtype and f.derivative(x).dtype == dtype
        assert (y >= f.range[0]).all() and (y <= f.range[1]).all()


def test_extreme_arguments_raise_no_warning() -> None:
    x = np.array([-1e5, -800.0, 0.0, 800.0, 1e5])
    with np.errstate(all="raise", under="ignore"):
        for name in ("sigmoid", "tanh", "softplus", "erf", "sin", "cos", "softsign", "atan", "asinh", "gelu", "mish", "swish"):
            f = build(name)
            assert np.isfinite(f.value(x)).all() and np.isfinite(f.derivative(x)).all()
    np.testing.assert_array_equal(build("sigmoid").value(x), [0, 0, 0.5, 1, 1])


@pytest.mark.parametrize(("f", "oracle"), PIECES.values(), ids=PIECES)
def test_pieces(f: Pieces, oracle: Any) -> None:
    x = np.concatenate([np.linspace(-3, 3, 101), f.breakpoints])
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(f.value(x.astype(dtype)), oracle(x.astype(dtype)).astype(dtype))
        assert f.value(x.astype(dtype)).dtype == dtype
    assert len(f.slopes) == len(f.intercepts) == len(f.breakpoints) + 1 == len(f.values) + 1
    assert np.isnan(f.value(np.array([np.nan]))).all()


def test_registry() -> None:
    assert {f.name for f in SMOOTH.values()} | {f.name for f, _ in PIECES.values()} | set(WHOLE) == set(FUNCTIONS)
    with pytest.raises(MalformedGraph, match="twice"):
        register(("relu", build), ("relu", build))
    with pytest.raises(MalformedGraph, match="gelo"):
        build("gelo")
    for name, *bad_parameters in (("elu", 0.0), ("elu", -1.0), ("hard_swish", 1.5), ("hard_swish", 0.3), ("swish", -0.1), ("shrink", 0.0, 1.0)):
        with pytest.raises(MalformedGraph):
            build(name, *bad_parameters)
    for bad in (0.0, 1.0, float("nan")):
        with pytest.raises(MalformedGraph):
            build("pow", bad)
    with pytest.raises(MalformedGraph):
        build("clip", 1.0, 1.0)
