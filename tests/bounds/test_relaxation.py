"""Relaxation planes never cut the graph of the function: checked against exact rationals, for every registered function."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import exact_functions as exact
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bounds import relaxation
from bounds.accuracy import accuracy
from bounds.functions import TorchFunction, torch_function
from bounds.interval import elementwise
from graph.functions import FUNCTIONS, build
from graph.functions.facts import Function, Pieces, Smooth, Steps
from tests.effort import examples

PARAMETERS: dict[str, list[tuple[float, ...]]] = {
    "elu": [(1.0,), (0.25,), (1.6732631921768188,)],
    "lookup": [(0.0, 1.0, 3.0, 2.0)],
    "round": [(-4.0, 3.0)],
    "hard_swish": [(0.5,), (0.0,), (1.0,), (0.25,)],
    "shrink": [(0.5, 0.0), (1.5, 1.5), (0.7, -0.2)],
    "swish": [(0.0,), (0.044715 * math.pi / 8,), (1.0,)],
    "threshold": [(1.0,), (-0.3,)],
    "clip": [(0.0, 6.0), (-1.0, 1.0), (-math.inf, 0.3), (0.1, math.inf)],
    "leaky_relu": [(0.01,), (0.1,), (-0.5,), (3.0,)],
    "pow": [(2.0,), (3.0,), (4.0,), (-1.0,), (-2.0,), (-3.0,), (0.5,), (0.1,), (2.5,), (-0.7,)],
}
REGISTERED = [build(name, *p) for name in FUNCTIONS for p in PARAMETERS.get(name, [()])]
STEPS = [  # pieces that jump, and breakpoints that are not floats
    Pieces("heaviside", (0.0,), (0.0, 0.0), (0.0, 1.0), (0.5,)),
    Pieces("hard_sigmoid", (-2.5 / 1.1, 2.5 / 1.1), (0.0, 0.22, 0.0), (0.0, 0.5, 1.0), (0.0, 1.0)),
    Pieces("floor_of_three", (0.0, 0.1, 0.7), (0.0, 0.0, 0.0, 1.0), (0.0, 1.0, -2.0, 0.0), (1.0, -2.0, 0.7)),
]
DTYPES = [torch.float32, torch.float64]
NUMPY = {torch.float32: np.float32, torch.float64: np.float64}


def label(function: Function) -> str:
    extra = function.parameter if isinstance(function, Smooth) else function.slopes
    return f"{function.name}-{extra}"


def boxes(function: Function, dtype: torch.dtype, seed: int, n: int = 60) -> tuple[Tensor, Tensor]:
    """Intervals of every width from a point to 40, around 0, far from it and at the special points, inside the domain."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=n) * 10.0 ** rng.integers(-3, 2, n)
    special = function.breakpoints if isinstance(function, Pieces) else (*function.inflections, *function.stationary)
    if isinstance(function, Steps):
        special = (-1.0, -0.5, 0.0, 1.5, 2.0)
    if special:
        near = rng.choice(np.asarray(special), n)
        centre = np.where(rng.random(n) < 0.4, near + rng.choice([0.0, 1e-6, -1e-6], n), centre)
    half = np.where(rng.random(n) < 0.1, 0.0, rng.random(n) * 10.0 ** rng.integers(-6, 2, n))
    if isinstance(function, Smooth) and (function.domain[0] == 0 or function.poles):
        centre = np.where(np.abs(centre) < 1e-3, 0.5, centre)
        centre = np.abs(centre) if function.domain[0] == 0 else centre
        half = np.minimum(half, 0.9 * np.abs(centre))
    elif isinstance(function, Smooth) and function.domain[0] > -math.inf:
        centre = 1 + np.abs(centre) if function.domain[0] == 1 else centre
        edge = 0.97 if function.name == "atanh" else 1.0  # the others are finite at the ends of their domains
        centre = np.clip(centre, *(edge * np.clip(function.domain, -2.0, 3.0)))
        half = np.minimum(half, np.minimum(np.abs(centre - function.domain[0]), np.abs(function.domain[1] - centre)) * (1 - 1e-6))
    low, high = centre - half, np.where(rng.random(n) < 0.1, np.maximum(centre, centre - half), centre + half)
    return torch.from_numpy(low).to(dtype), torch.from_numpy(high).to(dtype)


def value(function: Function, x: float) -> Fraction:
    return exact.piecewise(function, Fraction(x)) if isinstance(function, Pieces) else exact.smooth(function.name, function.parameter, x)


def samples(function: Function, low: float, high: float, rng: np.random.Generator) -> list[float]:
    points = [low, high, (low + high) / 2, *(low + (high - low) * rng.random(5))]
    special = function.breakpoints if isinstance(function, Pieces) else function.stationary
    if isinstance(function, Steps):
        special = tuple(math.floor(low + (high - low) * k / 4) + function.first for k in range(6))
    for b in special:
        points += [b, float(np.nextafter(b, -math.inf)), float(np.nextafter(b, math.inf))]
    return [x for x in points if low <= x <= high]


def check_planes(function: Function, low: Tensor, high: Tensor, planes: relaxation.Planes, rng: np.random.Generator) -> int:
    """Every sampled point lies between the planes, in exact arithmetic; returns how many planes were finite."""
    zero = torch.zeros_like(low)
    sides = (
        (planes.slope_lower, zero if planes.offset_lower is None else planes.offset_lower, 1),
        (planes.slope_upper, zero if planes.offset_upper is None else planes.offset_upper, -1),
    )
    checked = 0
    for i in range(low.numel()):
        points = samples(function, low[i].item(), high[i].item(), rng)
        truth = {x: value(function, x) for x in points}
        for slope, offset, side in sides:
            a, o = slope[i].item(), offset[i].item()
            if not (math.isfinite(a) and math.isfinite(o)):
                continue
            checked += 1
            for x in points:
                gap = side * (truth[x] - Fraction(a) * Fraction(x) - Fraction(o))
                assert gap >= 0, f"{label(function)} on [{low[i].item()!r}, {high[i].item()!r}]: plane {a!r}, {o!r} cuts at {x!r} by {float(gap)}"
    return checked


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", REGISTERED + STEPS, ids=label)
def test_planes_never_cut_the_graph(function: Function, dtype: torch.dtype) -> None:
    low, high = boxes(function, dtype, seed=1, n=examples(60))
    rng = np.random.default_rng(2)
    default = relaxation.relax(function, low, high)
    assert check_planes(function, low, high, default, rng) >= 0.9 * 2 * low.numel()
    for scale in (1.0, 1000.0):
        slopes = [torch.from_numpy(rng.normal(size=low.numel()) * scale).to(dtype) for _ in range(2)]
        assert check_planes(function, low, high, relaxation.relax(function, low, high, *slopes), rng) >= 0.9 * 2 * low.numel()
    bottom, top = relaxation.interval(function, low, high)
    flat = relaxation.Planes(torch.zeros_like(low), bottom, torch.zeros_like(low), top)
    assert check_planes(function, low, high, flat, rng) >= 0.9 * 2 * low.numel()


@pytest.mark.parametrize("function", [f for f in REGISTERED if isinstance(f, Smooth)], ids=label)
@pytest.mark.parametrize("guess", [0.1, 1.0, -3.0, math.nan], ids=str)
def test_a_bad_tangent_point_never_makes_a_plane_unsound(function: Smooth, guess: float, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = torch_function(function)
    lie = TorchFunction(honest.value, honest.derivative, lambda slope, near: torch.full_like(near, guess))
    monkeypatch.setattr(relaxation, "torch_function", lambda _: lie)
    low, high = boxes(function, torch.float64, seed=6, n=20)
    rng = np.random.default_rng(7)
    middle = honest.derivative(low + (high - low) * torch.from_numpy(rng.random(20)))
    check_planes(function, low, high, relaxation.relax(function, low, high, middle, middle), rng)
    assert check_planes(function, low, high, relaxation.relax(function, low, high), rng) >= 36


@pytest.mark.parametrize("function", REGISTERED + STEPS, ids=label)
def test_the_numpy_interval_contains_the_graph(function: Function) -> None:
    low, high = boxes(function, torch.float64, seed=3)
    bottom, top = (torch.from_numpy(t) for t in elementwise(function, low.numpy(), high.numpy()))
    flat = relaxation.Planes(torch.zeros_like(low), bottom, torch.zeros_like(low), top)
    assert check_planes(function, low, high, flat, np.random.default_rng(4)) >= 0.9 * 2 * low.numel()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", REGISTERED + STEPS, ids=label)
def test_the_default_planes_are_tight(function: Function, dtype: torch.dtype) -> None:
    """On a short interval without a bend or a jump the two planes meet to second order: 'sound' is not enough."""
    places = {"acosh": [1.4, 1.7, 5.0], "asin": [-0.4, 0.4, 0.9], "atanh": [-0.4, 0.4, 0.9], "tan": [-0.4, 0.4, 1.2]}
    centre, half = torch.tensor(places.get(function.name, [0.4, 1.7, 5.0]), dtype=dtype), 1e-2
    low, high = centre - half, centre + half
    planes = relaxation.relax(function, low, high)
    above = planes.slope_upper * centre + (0 if planes.offset_upper is None else planes.offset_upper)
    below = planes.slope_lower * centre + (0 if planes.offset_lower is None else planes.offset_lower)
    bend = torch.tensor([abs(_second_difference(function, x.item(), half)) for x in centre], dtype=dtype)
    largest = torch_function(function).value(centre).abs() + planes.slope_upper.abs() * centre + 1
    assert (above - below <= 2 * bend + 500 * torch.finfo(dtype).eps * largest).all()


def _second_difference(function: Function, x: float, half: float) -> float:
    at = function.value(np.asarray([x - half, x, x + half]))
    return float(at[0] + at[2] - 2 * at[1])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("function", [f for f in REGISTERED if isinstance(f, Smooth)], ids=label)
def test_torch_functions_are_as_accurate_as_stated(function: Smooth, dtype: torch.dtype) -> None:
    low, high = boxes(function, dtype, seed=5, n=120)
    x = torch.cat([low, high])
    y, unit, facts = torch_function(function).value(x), torch.finfo(dtype).eps / 2, accuracy(function)
    for at, got in zip(x.tolist(), y.tolist(), strict=True):
        truth = value(function, at)
        if math.isfinite(got):
            size = abs(truth) + Fraction(facts.value_floor)
            assert abs(Fraction(got) - truth) <= Fraction(facts.value * unit) * size + Fraction(torch.finfo(dtype).tiny) * 4
    slope = torch.from_numpy(np.asarray(function.derivative(x.double().numpy())))
    error = (torch_function(function).derivative(x).double() - slope).abs()
    allowed = facts.derivative * unit * (slope.abs() + facts.derivative_floor) + 1e-10 * slope.abs() * (dtype == torch.float32)
    finite = torch.isfinite(error)
    assert finite.sum() > 200 and (error <= allowed + torch.finfo(dtype).tiny * 4)[finite].all()


@pytest.mark.parametrize("function", REGISTERED, ids=label)
def test_offsets_are_differentiable(function: Function) -> None:
    """The gradient in slope and ends is that of finite differences (central, float64), where both sides agree."""
    shift = 2.0 if isinstance(function, Smooth) and (function.poles or function.domain[0] == 0) else 0.0
    shift, scale = (3.0 if function.name == "acosh" else shift), (0.45 if function.name in ("asin", "atanh", "tan") else 1.0)  # inside the domain
    low = torch.tensor([-1.3, -0.4, 0.3, -1.7], dtype=torch.float64) * scale + shift
    high = torch.tensor([0.9, 1.6, 1.9, -0.2], dtype=torch.float64) * scale + shift
    slope = torch.tensor([0.31, 0.17, 0.42, -0.23], dtype=torch.float64)
    for offset in (relaxation.offset_lower, relaxation.offset_upper):
        inputs = [t.clone().requires_grad_() for t in (slope, low, high)]
        gradients = torch.autograd.grad(offset(function, *inputs).sum(), inputs, allow_unused=True)
        for k, gradient in enumerate(gradients):
            forward, backward = _difference(offset, function, (slope, low, high), k)
            agree = (forward - backward).abs() < 1e-3
            got = torch.zeros_like(slope) if gradient is None else gradient
            assert agree.sum() >= 2 and torch.allclose(got[agree], forward[agree], atol=2e-3), (offset.__name__, k)


def _difference(offset: Callable[..., Tensor], function: Function, inputs: tuple[Tensor, Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    step, at = 1e-6, offset(function, *inputs)
    moved = [offset(function, *(t + (sign * step if i == k else 0.0) for i, t in enumerate(inputs))) for sign in (1, -1)]
    return (moved[0] - at) / step, (at - moved[1]) / step


def test_relu_is_exact_where_it_is_linear() -> None:
    relu = build("relu")
    low, high = torch.tensor([1.0, -3.0, -1.0, -2.0, 0.0]), torch.tensor([2.0, -1.0, 2.0, 1.0, 0.0])
    planes = relaxation.relax(relu, low, high)
    assert planes.offset_lower is None and planes.slope_lower.tolist() == [1, 0, 1, 0, 0.5]
    assert planes.offset_upper is not None and planes.offset_upper.tolist()[:2] == pytest.approx([0, 0], abs=1e-30)
    assert planes.slope_upper.tolist() == pytest.approx([1, 0, 2 / 3, 1 / 3, 0])
    assert planes.offset_upper.tolist()[2:4] == pytest.approx([2 / 3, 2 / 3], rel=1e-6)
    assert relaxation.is_linear(relu, low, high).tolist() == [True, True, False, False, True]
    assert relaxation.is_linear(STEPS[0], low, high).tolist() == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("name", "parameters", "low", "high"),
    [
        ("reciprocal", (), -1.0, 1.0),
        ("reciprocal", (), 0.0, 1.0),
        ("log", (), 0.0, 1.0),
        ("log", (), -1.0, 1.0),
        ("sqrt", (), -1e-3, 1.0),
        ("pow", (-2.0,), -1.0, 1.0),
        ("pow", (0.5,), -1.0, 1.0),
        ("exp", (), 0.0, 1e4),
        ("relu", (), 0.0, math.nan),
        ("clip", (0.0, 1.0), math.nan, math.nan),
    ],
)
def test_outside_the_domain_nothing_is_proven(name: str, parameters: tuple[float, ...], low: float, high: float) -> None:
    function = build(name, *parameters)
    bounds = torch.tensor([low]), torch.tensor([high])
    assert not (torch.isfinite(torch.cat(relaxation.interval(function, *bounds))).all())
    planes = relaxation.relax(function, *bounds)
    values = [planes.slope_lower, planes.slope_upper, *(o for o in (planes.offset_lower, planes.offset_upper) if o is not None)]
    assert not torch.isfinite(torch.cat(values)).all()
    assert not np.isfinite(elementwise(function, np.array([low]), np.array([high]))).all()


def test_a_function_without_a_torch_form_is_an_error() -> None:
    unknown = Smooth("mystery", np.sin, np.cos)
    with pytest.raises(NotImplementedError, match="mystery"):
        relaxation.interval(unknown, torch.zeros(1), torch.ones(1))


NUMBER = st.floats(-8, 8, width=32)


def box(data: list[float], k: int) -> tuple[list[float], list[float]]:
    pairs = [sorted(data[2 * i : 2 * i + 2]) for i in range(k)]
    return [p[0] for p in pairs], [p[1] for p in pairs]


@settings(max_examples=examples(150))
@given(st.tuples(*[NUMBER] * 4).map(list), st.tuples(*[st.floats(0, 1, width=32)] * 2).map(list), st.tuples(NUMBER, NUMBER).map(list))
def test_product_planes_hold_at_every_corner(ends: list[float], mix: list[float], free: list[float]) -> None:
    """x y - a x - b y is bilinear: holding at the corners, exactly, is holding on the box."""
    low, high = box(ends, 2)
    for dtype in DTYPES:
        args = [torch.tensor([v], dtype=dtype) for v in (low[0], high[0], low[1], high[1])]
        p = relaxation.mccormick(*args, torch.tensor(mix[0], dtype=dtype), torch.tensor(mix[1], dtype=dtype))
        a, b = (torch.tensor([v], dtype=dtype) for v in free)
        planes = [(p.x_lower, p.y_lower, p.offset_lower, 1), (p.x_upper, p.y_upper, p.offset_upper, -1)]
        planes += [(a, b, relaxation.product_offset_lower(a, b, *args), 1), (a, b, relaxation.product_offset_upper(a, b, *args), -1)]
        for s, t, o, side in planes:
            gaps = [
                side * (Fraction(x) * Fraction(y) - Fraction(s.item()) * Fraction(x) - Fraction(t.item()) * Fraction(y) - Fraction(o.item()))
                for x in (low[0], high[0])
                for y in (low[1], high[1])
            ]
            assert min(gaps) >= 0
            assert min(gaps) <= 1e-3, "the offset is the corner minimum but for rounding"


@settings(max_examples=examples(150))
@given(st.integers(1, 4), st.lists(NUMBER, min_size=8, max_size=8), st.lists(st.floats(-2, 2, width=32), min_size=4, max_size=4))
def test_planes_above_a_maximum_hold_at_every_corner(k: int, ends: list[float], free: list[float]) -> None:
    """max(x) - a x is convex, so its maximum is at a corner; padding is ignored."""
    low, high = box(ends, k)
    corners = [[(low, high)[(c >> i) & 1][i] for i in range(k)] for c in range(2**k)]
    for dtype in DTYPES:
        a = torch.tensor([free[:k]], dtype=dtype)
        plain = relaxation.max_offset_upper(a, torch.tensor([low], dtype=dtype), torch.tensor([high], dtype=dtype))
        none = torch.tensor([[-torch.inf]], dtype=dtype)
        padded = (torch.cat([torch.tensor([end], dtype=dtype), none], -1) for end in (low, high))
        for offset in (plain, relaxation.max_offset_upper(torch.cat([a, torch.zeros_like(none)], -1), *padded)):
            gaps = [sum(Fraction(s) * Fraction(v) for s, v in zip(a[0].tolist(), x, strict=True)) - max(map(Fraction, x)) for x in corners]
            assert min(gaps) + Fraction(offset.item()) >= 0
            assert min(gaps) + Fraction(offset.item()) <= 1e-3, "the offset is the corner maximum but for rounding"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_value_at_a_jump_is_no_coarser_than_the_dtype(dtype: torch.dtype) -> None:
    """0.05 in float32 lies above 0.05 by more than float64 allows for."""
    function = Pieces("spike", (0.0,), (0.0, 0.0), (0.1, 0.3), (0.05,))
    lower, upper, level = (torch.tensor([x], dtype=dtype) for x in (-1.0, 1.0, 0.0))
    for found in (relaxation.offset_lower(function, level, lower, upper), relaxation.interval(function, lower, upper)[0]):
        assert 0.05 - 40 * torch.finfo(dtype).eps < found.item() <= 0.05
    turned = Pieces("spike", (0.0,), (0.0, 0.0), (-0.1, -0.3), (-0.05,))
    assert -0.05 <= relaxation.offset_upper(turned, level, lower, upper).item() < -0.05 + 40 * torch.finfo(dtype).eps
