"""onnx's reference implementation, a float32 execution. Its BatchNormalization before opset 14 is that of training (onnx 1.23.2): ours stands in."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

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


def reference(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    """The outputs of the model. Raises what onnx's reference implementation raises."""
    return [np.asarray(y) for y in ReferenceEvaluator(model, new_ops=[BatchNormalization]).run(None, inputs)]
