"""Mean, LRN, Resize and Upsample of the suite's own evaluation, against onnxruntime; what it does not know is refused."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.soundness import rational
from benchmarks.soundness.rule import UnknownOperator
from benchmarks.soundness.traps import executed

SHAPE = (1, 4, 3, 5)


def model(kind: str, inputs: list[Any], opset: int, **attributes: Any) -> onnx.ModelProto:
    """One operator of `x` and constants; None leaves an input out."""
    constants = [numpy_helper.from_array(np.asarray(v, dtype=np.float32), f"c{i}") for i, v in enumerate(inputs) if v is not None]
    names = ["" if v is None else f"c{i}" for i, v in enumerate(inputs)]
    node = helper.make_node(kind, ["x", *names], ["y"], **attributes)
    x, y = helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "network", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def same(made: onnx.ModelProto) -> None:
    point = tuple(Fraction(int(v), 16) for v in np.random.default_rng(1).integers(-40, 40, int(np.prod(SHAPE))))
    pairs = rational.enclose(made, point)
    assert all(low <= high <= low + Fraction(1, 2**50) for low, high in pairs)
    np.testing.assert_allclose(executed(made, point), [float(low) for low, _ in pairs], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("where", ["half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest(where: str, nearest: str) -> None:
    for scales in ((1, 1, 2, 3), (1, 1, 1, 0.5), (1, 1, 2.5, 1)):
        same(model("Resize", [None, scales], 13, coordinate_transformation_mode=where, nearest_mode=nearest))


@pytest.mark.parametrize("where", ["half_pixel", "asymmetric", "align_corners"])
def test_linear(where: str) -> None:
    for scales in ((1, 1, 2, 3), (1, 1, 1, 2)):
        same(model("Resize", [None, scales], 13, mode="linear", coordinate_transformation_mode=where))


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("beta", [0.25, 0.5, 0.75, 1.0])
def test_local_response(size: int, beta: float) -> None:
    same(model("LRN", [], 13, size=size, alpha=0.75, beta=beta, bias=2.0))


def test_local_response_defaults() -> None:
    same(model("LRN", [], 13, size=3))


def test_mean_and_upsample() -> None:
    same(model("Mean", [np.ones(5), 2 * np.ones((3, 1))], 13))
    same(model("Upsample", [(1, 1, 2, 3)], 9))


@pytest.mark.parametrize(("made", "says"), [
    (model("Resize", [None, (1, 1, 2, 2)], 13, mode="cubic"), "Resize in mode cubic"),
    (model("Resize", [None, (1, 1, 2, 2)], 13, coordinate_transformation_mode="pytorch_half_pixel"), "pytorch_half_pixel"),
    (model("LRN", [], 13, size=3, beta=0.6), "LRN with beta 0.6"),
    (model("LRN", [], 13, size=4), "LRN over 4 channels"),
    (model("Upsample", [(1, 1, 2, 2)], 9, mode="linear"), "not nearest"),
])  # fmt: skip
def test_what_is_not_known_is_refused(made: onnx.ModelProto, says: str) -> None:
    with pytest.raises(UnknownOperator, match=says):
        rational.enclose(made, [Fraction(1)] * int(np.prod(SHAPE)))
