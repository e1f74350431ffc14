"""What is assumed of the elementary functions of numpy and torch. Data only, no torch: both interval rules read it.

Units are units of rounding, u = 2^-53 (float64) or 2^-24 (float32). Measured over float32 in torch 2.13 (AVX2) the worst
value is off by 2.5 u relative; SVML, SLEEF and CUDA promise at most 8 u (4 units in the last place). The margin is sixfold.
The checker assumes none of this: it brings its own kernels (ARITHMETIC 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from graph.functions.facts import Smooth


@dataclass(frozen=True)
class Accuracy:
    """|computed f - f| <= value u (|f| + value_floor), |computed f' - f'| <= derivative u (|f'| + derivative_floor), plus underflow.

    `curvature` bounds |f''| and |f'''|; it is needed where an inflection or stationary point is not a float (k pi).
    """

    value: float = 16.0
    derivative: float = 16.0
    derivative_floor: float = 0.0
    curvature: float = 0.0
    value_floor: float = 0.0


ACCURACY: Mapping[str, Accuracy] = MappingProxyType(
    {
        "acosh": Accuracy(derivative=32.0),
        "asin": Accuracy(derivative=32.0),
        "asinh": Accuracy(derivative=32.0),
        "atan": Accuracy(),
        "atanh": Accuracy(derivative=32.0),
        "cos": Accuracy(curvature=1.0),
        "cosh": Accuracy(derivative=32.0),
        "elu": Accuracy(),
        "erf": Accuracy(derivative_floor=1.0),  # exp(-x^2): the rounding of x^2 becomes an absolute error
        "exp": Accuracy(),
        # the gates: x times what has a relative error that grows with x^2, where x times it vanishes; parameters that are no floats
        "gelu": Accuracy(value_floor=1.0, derivative=32.0, derivative_floor=1.0, curvature=4.0),
        "hard_swish": Accuracy(value_floor=1.0, derivative=32.0, derivative_floor=1.0, curvature=4.0),
        "log": Accuracy(),
        "mish": Accuracy(value_floor=1.0, derivative=32.0, derivative_floor=1.0, curvature=4.0),
        "pow": Accuracy(128.0, 128.0),  # a float32 exponent off by u |p| costs u |p log x|, and |p log x| < 89
        "reciprocal": Accuracy(),
        "sigmoid": Accuracy(),
        "sin": Accuracy(curvature=1.0),
        "sinh": Accuracy(),
        "softplus": Accuracy(),
        "softsign": Accuracy(),
        "sqrt": Accuracy(),
        "swish": Accuracy(value_floor=1.0, derivative=32.0, derivative_floor=1.0, curvature=4.0),
        **dict.fromkeys(("floor", "ceil", "nearest", "int32", "int64"), Accuracy(value=0.0)),
        "tan": Accuracy(derivative=64.0),
        "tanh": Accuracy(),
    }
)


def accuracy(function: Smooth) -> Accuracy:
    """The assumption for `function`. Raises NotImplementedError when none is stated, or not enough of one."""
    if function.name == "pow" and function.parameter is not None and abs(function.parameter) <= 8 and float(function.parameter).is_integer():
        return Accuracy()
    known = ACCURACY.get(function.name)
    if known is None:
        raise NotImplementedError(f"no accuracy is stated for the function {function.name!r}: add it to bounds/accuracy.py")
    if known.curvature == 0.0 and (function.period is not None or any(function.inflections) or any(function.stationary)):
        raise NotImplementedError(f"{function.name!r} bends at points that are not floats: state its curvature in bounds/accuracy.py")
    return known
