"""Operators that onnxruntime's optimiser writes: a product or convolution with what follows it."""

from __future__ import annotations

import numpy as np

from graph.functions import build
from graph.lowering.arithmetic import add, scale
from graph.lowering.builder import Known, Tensor, Value, indices
from graph.lowering.linear import lower_conv, lower_gemm, matmul, swap
from graph.lowering.operator import Operator


def lower_fused_matmul(op: Operator) -> Value:
    """alpha A' B', the last two axes (trans) or the first and the one before the last (transBatch) exchanged."""
    operands = []
    for i, name in enumerate("AB"):
        x = op.value(i)
        if op.integer(f"transBatch{name}"):
            x = _batch_last(op, x)
        operands.append(swap(op.builder, x) if op.integer(f"trans{name}") else x)
    product = matmul(op.builder, *operands)
    return product if op.real("alpha") == 1 else scale(op.builder, product, np.array(op.real("alpha")))


def _batch_last(op: Operator, x: Value) -> Value:
    """(rows, batch..., columns) as (batch..., rows, columns)."""
    order = np.moveaxis(indices(x.shape), 0, -2)
    return Known(x.value.reshape(-1)[order]) if isinstance(x, Known) else op.builder.gather(x, order)


def lower_fused_gemm(op: Operator) -> Value:
    names = ("activation_alpha", "activation_beta", "activation_gamma")
    return _activated(op, lower_gemm(op), [op.real(name) for name in names if name in op.attributes])


def lower_fused_conv(op: Operator) -> Value:
    """A convolution, plus input 3, then the activation."""
    found = lower_conv(op)
    if op.optional(3) is not None:
        found = add(op.builder, found, op.value(3))
    return _activated(op, found, list(op.reals("activation_params") or ()))


def _activated(op: Operator, x: Value, parameters: list[float]) -> Value:
    name = op.string("activation")
    if not name:
        return x
    if not isinstance(x, Tensor):
        raise op.refuse("constant operands")
    match name, parameters:
        case "Relu" | "Sigmoid" | "Tanh" | "Abs", _:
            return op.builder.elementwise(build(name.lower()), x)
        case "LeakyRelu", _:
            return op.builder.elementwise(build("leaky_relu", parameters[0] if parameters else 0.01), x)
        case "Clip", [lower, upper]:
            return op.builder.elementwise(build("clip", lower, upper), x)
        case "HardSigmoid", [alpha, beta]:
            line = scale(op.builder, x, np.array(alpha))
            return op.builder.elementwise(build("clip", 0.0, 1.0), _variable(op, add(op.builder, line, Known(np.array(beta)))))
    raise op.refuse(f"activation {name!r} with parameters {parameters} is not supported")


def _variable(op: Operator, x: Value) -> Tensor:
    return op.builder.constant(x.value) if isinstance(x, Known) else x
