"""Arithmetic on shapes, as exporters write it, and one-hot vectors of integers: engine and checker read one network, and `unsat` is certified."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from graph.evaluate import evaluate
from graph.load import load
from soundproof import verify
from tests.graph.graph_models import floats, model, node
from verifier.checker import read_model
from verifier.checker.lowering import evaluate as checker_evaluate

ONE, TWO = np.array([1]), np.array([2])
CONSTANTS = {"w": floats(4, 4), "zero": np.array([0]), "one": ONE, "two": TWO, "minus": np.array([-1]), "first": np.array(0), "depth": np.array(4),
             "picks": np.array([0, 1])}  # fmt: skip
SIZES = [node("MatMul", ["x", "w"], ["a"]), node("Shape", ["a"], ["s"]), node("Gather", ["s", "one"], ["n"]), node("Gather", ["s", "zero"], ["m"])]
ENDS = [node("Concat", ["r", "minus"], ["t"], axis=0), node("Reshape", ["a", "t"])]
STEPS: dict[str, Sequence[onnx.NodeProto]] = {
    "max": [node("Max", ["n", "m"], ["r"])],
    "min": [node("Min", ["n", "two", "m"], ["r"])],
    "clip": [node("Clip", ["n", "one", "two"], ["r"])],
    "abs": [node("Neg", ["n"], ["q"]), node("Abs", ["q"], ["r"])],
    "sign": [node("Sign", ["n"], ["r"])],
    "power": [node("Pow", ["two", "m"], ["r"])],
    "running sum": [node("CumSum", ["s", "first"], ["q"]), node("Sub", ["q", "one"], ["q2"]), node("Gather", ["q2", "one"], ["r"])],
    "padded": [node("Concat", ["zero", "one"], ["p"], axis=0), node("Pad", ["n", "p", "depth"], ["q"]), node("Gather", ["q", "one"], ["r"])],
    "written": [node("ScatterND", ["s", "spot", "two"], ["q"]), node("Gather", ["q", "one"], ["r"])],
    "like": [node("Greater", ["n", "m"], ["q"]), node("CastLike", ["q", "n"], ["r"])],
}


def made(name: str) -> bytes:
    constants = {**CONSTANTS, "spot": np.array([[1]])}
    nodes = [*SIZES, *STEPS[name], *ENDS] if name in STEPS else ONE_HOT
    read = {word for one in nodes for word in one.input}
    return model(nodes, {"x": (1, 4)}, weights={k: v for k, v in constants.items() if k in read}, opset=15)


ONE_HOT = [
    node("ArgMax", ["x"], ["i"], axis=1, keepdims=0), node("OneHot", ["i", "depth", "picks"], ["h"]), node("Cast", ["h"], ["c"], to=1),
    node("MatMul", ["c", "w"]),
]  # fmt: skip


@pytest.mark.parametrize("name", [*STEPS, "one-hot of integers"])
def test_engine_and_checker_agree_and_what_holds_is_certified(name: str) -> None:
    data, rng = made(name), np.random.default_rng(0)
    ours, theirs, highest = load(data), read_model.read(data), -np.inf
    for _ in range(8):
        x = rng.uniform(-1, 1, (1, 4))
        mine = evaluate(ours.graph, [x])[ours.graph.outputs[0]].reshape(-1)
        other = checker_evaluate.evaluate(theirs, [x])[theirs.outputs[0]].reshape(-1)
        assert theirs.nodes[theirs.outputs[0]].shape == ours.outputs[0].shape
        assert np.abs(mine - other).max() < 1e-12
        highest = max(highest, float(mine[0]))
    declared = "".join(f"(declare-const X_{i} Real)(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(4))
    declared += "".join(f"(declare-const Y_{i} Real)" for i in range(4))
    found = verify(onnx.load_from_string(data), f"{declared}(assert (>= Y_0 9))", timeout=30.0, threads=1)
    assert (found.verdict, found.assurance) == ("unsat", "certified"), found.statement
    assert highest < 9
