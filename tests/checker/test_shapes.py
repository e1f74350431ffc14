"""Facts about functions: where straight pieces jump and bend, where smooth ones curve, where they have a pole."""

from __future__ import annotations

import numpy as np
import pytest
from flint import ctx

from tests.checker.oracles import DERIVATIVES, ball
from verifier.checker import activations, shapes
from verifier.checker.network import Pieces, Smooth
from verifier.checker.refusal import Rejected

RELU = Pieces((0.0,), (0.0, 1.0), (0.0, 0.0), (0.0,))


@pytest.mark.parametrize(
    ("function", "jumps"),
    [
        (RELU, (False,)),
        (Pieces((0.0,), (0.0, 0.0), (-1.0, 1.0), (0.0,)), (True,)),  # Sign
        (Pieces((0.5,), (0.0, 0.0), (0.0, 1.0), (1.0,)), (True,)),  # from the left only
        (Pieces((0.5,), (0.0, 0.0), (0.0, 1.0), (0.0,)), (True,)),  # from the right only
        (Pieces((0.0,), (1.0, 1.0), (0.0, 0.0), (3.0,)), (True,)),  # only there
        (Pieces((-2.5, 2.5), (0.0, 0.2, 0.0), (0.0, 0.5, 1.0), (0.0, 1.0)), (True, True)),  # 0.2 is no double
        (Pieces((-1.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 1.0), (-1.0, 1.0)), (False, False)),
        (Pieces((-1.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 2.0), (-1.0, 1.0)), (False, True)),
        (Pieces((), (1.0,), (0.0,), ()), ()),
    ],
)
def test_jumps_are_decided_exactly(function: Pieces, jumps: tuple[bool, ...]) -> None:
    assert shapes.jumps(function) == jumps


def test_a_bend_at_0_only() -> None:
    assert shapes.kink(RELU) == (0.0, 1.0) and shapes.kink(Pieces((0.0,), (-1.0, 2.0), (0.0, 0.0), (0.0,))) == (-1.0, 2.0)
    others = (
        Pieces((0.5,), (0.0, 1.0), (0.0, -0.5), (0.0,)),
        Pieces((0.0,), (0.0, 1.0), (0.0, 1.0), (0.0,)),
        Pieces((0.0,), (0.0, 1.0), (0.0, 0.0), (1.0,)),
        Pieces((0.0, 1.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 1.0)),
        Pieces(step="floor"),
        Smooth("exp"),
    )
    assert all(shapes.kink(function) is None for function in others)


@pytest.mark.parametrize(
    ("function", "second"),
    [
        (Smooth("exp"), np.exp),
        (Smooth("softplus"), lambda x: np.exp(-np.abs(x))),
        (Smooth("log"), lambda x: -1 / x**2),
        (Smooth("sqrt"), lambda x: -(x**-1.5)),
        (Smooth("sigmoid"), lambda x: -np.tanh(x / 2)),
        (Smooth("tanh"), lambda x: -np.tanh(x)),
        (Smooth("erf"), lambda x: -x),
        (Smooth("reciprocal"), lambda x: x**-3),
        (Smooth("sin"), lambda x: -np.sin(x)),
        (Smooth("cos"), lambda x: -np.cos(x)),
        (Smooth("pow", 2.0), lambda x: x * x),
        (Smooth("pow", 3.0), lambda x: x),
        (Smooth("pow", -1.0), lambda x: x),
        (Smooth("pow", -2.0), lambda x: x * x),
        (Smooth("pow", 0.5), lambda x: -x),
        (Smooth("pow", 1.5), lambda x: x),
        (Smooth("pow", -0.5), lambda x: x),
        (Smooth("tan"), lambda x: x),
        (Smooth("asin"), lambda x: x),
        (Smooth("atan"), lambda x: -x),
        (Smooth("sinh"), lambda x: x),
        (Smooth("cosh"), lambda x: np.ones_like(x)),
        (Smooth("asinh"), lambda x: -x),
        (Smooth("atanh"), lambda x: x),
        (Smooth("softsign"), lambda x: -x),
        (Smooth("elu", 0.5), lambda x: np.ones_like(x)),
        (Smooth("elu", 2.0), lambda x: -x),  # right of 0 a line
        (Smooth("gelu"), lambda x: 1 - 1e-9 * np.sign(x) - x * x),  # at a bend: as right of it
        (Smooth("hard_swish", 0.5), lambda x: 0.25 - x * x),  # beyond a half a line
        (Smooth("swish", 0.0), lambda x: 2 - x * np.tanh(x / 2)),
        (Smooth("mish"), lambda x: (x + 2.2563763963607935) * (1.4905711794854284 - x)),
    ],
)
def test_curvature_has_the_sign_of_the_second_derivative(function: Smooth, second: np.ufunc) -> None:
    cuts, convex = shapes.curvature(function)
    positive_only = function.name in ("log", "sqrt") or not float(function.parameter).is_integer()
    for x in np.concatenate([np.linspace(0.1, 3.1, 31), [] if positive_only else -np.linspace(0.1, 3.1, 31)]).tolist():
        if shapes.is_periodic(function):
            here = convex == (np.floor((x - cuts[0]) / np.pi) % 2 == 0)
        else:
            here = convex != (sum(x >= cut for cut in cuts) % 2 == 1)
        assert here == (second(x) > 0), x


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_straight_powers_are_refused(exponent: float) -> None:
    with pytest.raises(Rejected, match="unsupported-function"):
        shapes.curvature(Smooth("pow", exponent))


def test_a_pole_must_be_outside() -> None:
    for function in (Smooth("reciprocal"), Smooth("pow", -1.0), Smooth("pow", -0.5)):
        for lower, upper in ((-1.0, 1.0), (0.0, 1.0), (-1.0, 0.0), (0.0, 0.0)):
            with pytest.raises(Rejected, match="domain"):
                shapes.defined(function, np.array([1.0, lower]), np.array([2.0, upper]))
        shapes.defined(function, np.array([1.0, -2.0]), np.array([2.0, -1.0]))
    for function in (Smooth("pow", 2.0), Smooth("exp"), Smooth("pow", 0.5)):
        shapes.defined(function, np.array([-1.0]), np.array([1.0]))


@pytest.mark.parametrize("function", [*(Smooth("swish", m) for m in (0.0, 1e-3, 0.0175594, 0.3, 1.0)), Smooth("mish")], ids=str)
def test_gates_bend_where_they_are_said_to(function: Smooth) -> None:
    """The sign of f'' in ball arithmetic, a blur beside either point; and one valley, whose depth is what a search finds."""
    name, p = function.name, function.parameter
    for at, sign in zip(activations.bends(name, p), (1, -1), strict=True):
        for side in (-1, 1):
            x, h = at + side * activations.BLUR, 2.0**-60
            before, ctx.prec = ctx.prec, 400
            rise = DERIVATIVES[name](p, ball(x) + ball(h)) - DERIVATIVES[name](p, ball(x) - ball(h))
            ctx.prec = before
            assert (rise > 0) == (side == sign) and (rise < 0) == (side != sign)
    at, least = activations.valley(name, p)
    falls, rises = (float(DERIVATIVES[name](p, ball(at + side * activations.BLUR))) for side in (-1, 1))
    x = np.linspace(at - 1e-3, at + 1e-3, 2001)
    lowest = float(activations.value(name, p, x)[0].min())
    assert falls < 0 < rises and least <= lowest <= least + 1e-12


@pytest.mark.parametrize("p", [0.0, 0.25, 0.5, 1.0])
def test_a_hard_swish_is_least_between_its_kinks(p: float) -> None:
    assert activations.bends("hard_swish", p) == (-p, 1 - p)
    at, least = activations.valley("hard_swish", p)
    assert at == -p / 2 and -p * p / 4 - 1e-15 <= least <= -p * p / 4


@pytest.mark.parametrize("function", [Smooth(n, p) for n, p in (("swish", -0.1), ("swish", 1.5), ("hard_swish", 2.0), ("elu", 0.0), ("elu", -1.0))])
def test_parameters_of_another_shape_are_refused(function: Smooth) -> None:
    with pytest.raises(Rejected, match="unsupported-function"):
        shapes.curvature(function)


def test_what_is_straight_or_has_a_kink() -> None:
    assert shapes.straight(Smooth("hard_swish", 0.5)) == (0, 2) and shapes.straight(Smooth("elu", 2.0)) == (1,)
    assert shapes.straight(Smooth("exp")) == ()
    assert shapes.hinge(Smooth("elu", 0.5)) and not shapes.hinge(Smooth("elu", 1.0)) and not shapes.hinge(Smooth("softplus"))
    assert shapes.blur(Smooth("mish")) == shapes.blur(Smooth("swish")) == activations.BLUR and shapes.blur(Smooth("gelu")) == 0.0
