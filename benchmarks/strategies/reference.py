"""onnx's reference implementation, a float32 execution, with operators of our own where that of onnx 1.23.2 is wrong.

Its BatchNormalization before opset 14 is that of training. Its pools fail, or give too many or wrong outputs, where pads differ by side or axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from benchmarks.soundness.rule import UnknownOperator
from benchmarks.soundness.windows import Axis, axes, inside, spread

Array = NDArray[Any]


class BatchNormalization(OpRun):
    """That of inference, which is all that the strategies draw: scale (x - mean) / sqrt(variance + epsilon) + bias, per channel of x [n, c, ...]."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, variance: Array, epsilon: float | None = None, **_: Any
    ) -> tuple[Array]:
        def along(values: Array) -> Array:
            return values.reshape(-1, *(1,) * (x.ndim - 2))

        deviation = np.sqrt(along(variance) + np.float32(1e-5 if epsilon is None else epsilon))
        return (np.asarray(along(scale) * (x - along(mean)) / deviation + along(bias), dtype=x.dtype),)


class MaxPool(OpRun):
    """The largest element of every window. Raises UnknownOperator where the places are asked for."""

    op_domain = ""

    def _run(self, x: Array, storage_order: int | None = None, **geometry: Any) -> tuple[Array]:
        if len(self.output) > 1:
            raise UnknownOperator("MaxPool with indices")
        where = _windows(x, geometry)
        return (_flat(spread(x, where, x.min()), where).max(axis=-1),)


class AveragePool(OpRun):
    """The mean of every window, with the padding's zeros if count_include_pad."""

    op_domain = ""

    def _run(self, x: Array, count_include_pad: int | None = None, **geometry: Any) -> tuple[Array]:
        where = _windows(x, geometry)
        counts = inside(where, bool(count_include_pad)).reshape(*(axis.count for axis in where), -1).sum(axis=-1)
        total = _flat(spread(x, where, 0), where).sum(axis=-1)
        return ((total / counts.astype(x.dtype)).astype(x.dtype),)


def _windows(x: Array, geometry: dict[str, Any]) -> list[Axis]:
    n = len(x.shape) - 2
    given = {"strides": [1] * n, "dilations": [1] * n, "pads": [0] * 2 * n, "auto_pad": "NOTSET", "ceil_mode": 0}
    given |= {name: value for name, value in geometry.items() if value is not None}
    names = ("kernel_shape", "strides", "dilations", "pads", "auto_pad")
    return axes(x.shape[2:], *(given[name] for name in names), ceil=bool(given["ceil_mode"]))


def _flat(taps: Array, where: list[Axis]) -> Array:
    """[n, c, *counts, *kernels] -> [n, c, *counts, taps]."""
    return taps.reshape(*taps.shape[:2], *(axis.count for axis in where), -1)


def reference(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """The outputs of the model. Raises what onnx's reference implementation raises."""
    return [np.asarray(y) for y in ReferenceEvaluator(model, new_ops=[BatchNormalization, MaxPool, AveragePool]).run(None, inputs)]
