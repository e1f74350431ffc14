"""Facts about functions: where straight pieces jump and bend, where smooth ones curve, where they have a pole."""

from __future__ import annotations

import numpy as np
import pytest

from verifier.checker import shapes
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
    ],
)
def test_curvature_has_the_sign_of_the_second_derivative(function: Smooth, second: np.ufunc) -> None:
    cut, convex = shapes.curvature(function)
    positive_only = function.name in ("log", "sqrt") or not float(function.parameter).is_integer()
    for x in np.concatenate([np.linspace(0.1, 3.1, 31), [] if positive_only else -np.linspace(0.1, 3.1, 31)]).tolist():
        if shapes.is_periodic(function):
            here = convex == (np.floor((x - (cut or 0.0)) / np.pi) % 2 == 0)
        else:
            here = convex if cut is None else convex == (x < cut)
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
