"""What a network computes at points, in plain float64 without any account of rounding: for comparisons with other readers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from verifier.checker.lowering.builder import Array
from verifier.checker.network import Affine, Constant, Elementwise, Function, Input, MatMul, Maximum, Network, Node, Pieces, Product
from verifier.checker.refusal import Rejected

SMOOTH: dict[str, Callable[[Array], Array]] = {
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "reciprocal": np.reciprocal, "tanh": np.tanh, "sin": np.sin, "cos": np.cos,
    "erf": np.vectorize(math.erf, otypes=[np.float64]), "sigmoid": lambda x: 0.5 * (1 + np.tanh(x / 2)), "softplus": lambda x: np.logaddexp(x, 0),
}  # fmt: skip
SMOOTH |= {
    "tan": np.tan, "asin": np.arcsin, "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "softsign": lambda x: x / (1 + np.abs(x)), "gelu": lambda x: x * (1 + SMOOTH["erf"](x)) / 2,
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
}  # fmt: skip
WITH_PARAMETER: dict[str, Callable[[Array, float], Array]] = {
    "pow": lambda x, p: x**p, "elu": lambda x, p: np.where(x > 0, x, p * np.expm1(np.minimum(x, 0))),
    "hard_swish": lambda x, p: x * np.clip(x + p, 0, 1), "swish": lambda x, p: x * SMOOTH["sigmoid"](x + p * x**3),
}  # fmt: skip
STEPS = {"floor": np.floor, "ceil": np.ceil, "round": np.rint, "int32": np.floor, "int64": np.floor}


def evaluate(network: Network, inputs: Sequence[Array]) -> list[Array]:
    """The value of every node, flat, for one array per network input."""
    given = {i: np.asarray(x, dtype=np.float64).reshape(-1) for i, x in zip(network.inputs, inputs, strict=True)}
    values: list[Array] = []
    for i, node in enumerate(network.nodes):
        values.append(given[i] if isinstance(node, Input) else _value(network, node, [values[j] for j in node.inputs]))
    return values


def _value(network: Network, node: Node, x: list[Array]) -> Array:
    match node:
        case Constant():
            return node.value
        case Affine():
            found = sum((m.apply(a) for m, a in zip(node.maps, x, strict=True)), np.zeros(node.size))
            return np.asarray(found if node.bias is None else found + node.bias)
        case Elementwise():
            return _function(node.function, x[0])
        case Product():
            return np.asarray(x[0] * x[1])
        case MatMul():
            left, right = (a.reshape(network.nodes[j].shape) for a, j in zip(x, node.inputs, strict=True))
            return np.asarray((left @ right).reshape(-1))
        case Maximum():
            return np.asarray(np.where(node.windows < 0, -np.inf, x[0][node.windows]).max(-1))
    raise Rejected("no-rule", node.place)


def _function(function: Function, x: Array) -> Array:
    if not isinstance(function, Pieces):
        with_parameter = WITH_PARAMETER.get(function.name)
        return np.asarray(SMOOTH[function.name](x) if with_parameter is None else with_parameter(x, function.parameter))
    if function.step:
        return np.asarray(STEPS[function.step](x))
    piece = np.searchsorted(function.breakpoints, x)
    found = np.array(function.slopes)[piece] * x + np.array(function.intercepts)[piece]
    for at, value in zip(function.breakpoints, function.values, strict=True):
        found = np.where(x == at, value, found)
    return np.asarray(found)
