"""Roots of what is never negative: engine and checker see it in the same places, and certify where rounding takes its bounds below 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from bounds.interval import propagate
from graph.core import Elementwise
from graph.load import load
from soundproof import verify
from verifier.checker import network, read_model

NUMBERS = {
    "two": np.float32(2), "three": np.float32(3), "half": np.float32(0.5), "axis": np.array([1], np.int64),
    "tiny": np.float32(1e-12), "minus": np.float32(-1e-12),
    "weights": np.array([[1], [2], [0]], np.float32), "mixed": np.array([[1], [-1], [2]], np.float32),
}  # fmt: skip


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def made(*nodes: onnx.NodeProto, shape: tuple[int, ...] = (1, 3)) -> onnx.ModelProto:
    read = {name for one in nodes for name in one.input}
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in NUMBERS.items() if name in read]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    return helper.make_model(helper.make_graph([*nodes], "g", *ends, constants), opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


SQUARE, SUM, ROOT = node("Pow", "x two", "a"), node("ReduceSum", "a axis", "s"), node("Sqrt", "s", "y")
NEVER = {
    "pow": made(SQUARE, SUM, ROOT),
    "mul": made(node("Mul", "x x", "a"), SUM, ROOT),
    "mean": made(SQUARE, node("ReduceMean", "a", "s", axes=[1]), ROOT),
    "variance": made(
        node("ReduceMean", "x", "m", axes=[1]), node("Sub", "x m", "d"), node("Mul", "d d", "a"), node("ReduceMean", "a", "s", axes=[1]), ROOT
    ),
    "sum of squares": made(node("ReduceSumSquare", "x", "s", axes=[1]), ROOT),
    "and a constant": made(node("ReduceSumSquare", "x", "t", axes=[1]), node("Add", "t tiny", "s"), ROOT),
    "power": made(SQUARE, SUM, node("Pow", "s half", "y")),
    "absolute": made(node("Abs", "x", "a"), SUM, ROOT),
    "ramp": made(node("Relu", "x", "a"), SUM, ROOT),
    "cubes": made(node("Abs", "x", "b"), node("Pow", "b three", "a"), SUM, ROOT),
    "weighted": made(SQUARE, node("MatMul", "a weights", "s"), ROOT),
    "norm": made(node("ReduceL2", "x", "y", axes=[1])),
    "pool": made(node("LpPool", "x", "y", kernel_shape=[3], p=2), shape=(1, 1, 3)),
    "cubic pool": made(node("LpPool", "x", "y", kernel_shape=[3], p=3), shape=(1, 1, 3)),
}
PERHAPS = {
    "sum": made(node("ReduceSum", "x axis", "s"), ROOT),
    "cubes": made(node("Pow", "x three", "a"), SUM, ROOT),
    "less a constant": made(node("ReduceSumSquare", "x", "t", axes=[1]), node("Add", "t minus", "s"), ROOT),
    "mixed": made(SQUARE, node("MatMul", "a mixed", "s"), ROOT),
    "sine": made(node("Sin", "x", "a"), SUM, ROOT),
}  # fmt: skip


def functions(model: onnx.ModelProto) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(tensor, k) of the ramps in front of roots, as engine and checker number them."""
    data = model.SerializeToString()
    graph, own = load(data).graph, read_model.read(data)
    ours, theirs = [], []
    for _, one in graph:
        if isinstance(one, Elementwise) and one.function.name in ("sqrt", "pow"):
            under = graph.nodes[one.inputs[0]]
            if isinstance(under, Elementwise) and under.function.name == "relu" and under.origin.site is not None:
                ours.append(under.origin.site)
    for site, i in own.sites.items():
        one = own.nodes[i]
        reads = [other.function for other in own.nodes if isinstance(other, network.Elementwise) and other.inputs == (i,)]
        if isinstance(one, network.Elementwise) and isinstance(one.function, network.Pieces) and one.function.slopes == (0.0, 1.0):
            theirs += [site] if any(isinstance(f, network.Smooth) and f.name in ("sqrt", "pow") for f in reads) else []
    return ours, theirs


@pytest.mark.parametrize("name", NEVER)
def test_what_is_never_negative_is_seen_by_both(name: str) -> None:
    ours, theirs = functions(NEVER[name])
    assert len(ours) == 1 and ours == theirs


@pytest.mark.parametrize("name", PERHAPS)
def test_what_may_be_negative_is_left_as_it_is(name: str) -> None:
    assert functions(PERHAPS[name]) == ([], [])


@pytest.mark.parametrize("name", sorted(NEVER.keys() - {"cubic pool"}))  # the checker bounds a third root by logarithms, which 0 has none of
def test_bounds_over_zero_are_finite_and_certified(name: str) -> None:
    """Over a box with 0 inside: the root of the largest sum is the largest value, and what is beyond is certified."""
    box = [(-0.1, 0.1), (-0.2, 0.2), (0.0, 0.3)]
    low, high = propagate(load(NEVER[name].SerializeToString()).graph, *(np.array([[side[k] for side in box]]) for k in (0, 1)))[-1]
    assert float(low.min()) == 0.0 or name == "and a constant"
    assert 0.1 < float(high.max()) < 1.0
    limits = "".join(f"(assert (>= X_{i} {a}))(assert (<= X_{i} {b}))" for i, (a, b) in enumerate(box))
    names = "".join(f"(declare-const X_{i} Real)" for i in range(3)) + "(declare-const Y_0 Real)"
    found = verify(NEVER[name], f"{names}{limits}(assert (>= Y_0 {float(high.max()) + 0.01:.4f}))", timeout=30.0, threads=1)
    assert (found.verdict, found.assurance) == ("unsat", "certified"), found.statement
