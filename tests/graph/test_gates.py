"""Products of a tensor and a function of it are one univariate node, and still what onnxruntime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from graph_models import floats, model, node

from graph.core import Affine, Bilinear, Elementwise, Input
from graph.load import load
from graph.selfcheck import compare

F = np.float32
Nodes = list[onnx.NodeProto]
SILU = [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"])]
GATES: dict[str, tuple[str, Nodes, dict[str, Any]]] = {
    "silu": ("swish", SILU, {}),
    "silu, reversed": ("swish", [SILU[0], node("Mul", ["s", "x"])], {}),
    "swish with a factor": ("swish", [node("Mul", ["x", "b"], ["z"]), node("Sigmoid", ["z"], ["s"]), node("Mul", ["x", "s"])], {"b": F(1.702)}),
    "gelu of torch": (
        "gelu",
        [
            node("Div", ["x", "r"], ["z"]),
            node("Erf", ["z"], ["e"]),
            node("Add", ["e", "one"], ["a"]),
            node("Mul", ["x", "a"], ["p"]),
            node("Mul", ["p", "half"]),
        ],
        {"r": F(1.41421354), "one": F(1), "half": F(0.5)},
    ),
    "gelu, half first": (
        "gelu",
        [
            node("Mul", ["x", "half"], ["h"]),
            node("Mul", ["x", "r"], ["z"]),
            node("Erf", ["z"], ["e"]),
            node("Add", ["one", "e"], ["a"]),
            node("Mul", ["h", "a"]),
        ],
        {"r": F(0.70710677), "one": np.ones(1, F), "half": F(0.5)},
    ),
    "gelu, tanh": (
        "swish",
        [
            node("Mul", ["x", "x"], ["x2"]),
            node("Mul", ["x2", "x"], ["x3"]),
            node("Mul", ["k", "x3"], ["t"]),
            node("Add", ["x", "t"], ["i"]),
            node("Mul", ["w", "i"], ["z"]),
            node("Tanh", ["z"], ["e"]),
            node("Add", ["e", "one"], ["a"]),
            node("Mul", ["x", "half"], ["h"]),
            node("Mul", ["h", "a"]),
        ],
        {"k": F(0.044715), "w": F(0.7978846), "one": F(1), "half": F(0.5)},
    ),
    "gelu, tanh with Pow": (
        "swish",
        [
            node("Pow", ["x", "three"], ["x3"]),
            node("Mul", ["x3", "k"], ["t"]),
            node("Add", ["t", "x"], ["i"]),
            node("Mul", ["i", "w"], ["z"]),
            node("Tanh", ["z"], ["e"]),
            node("Add", ["one", "e"], ["a"]),
            node("Mul", ["x", "a"], ["p"]),
            node("Mul", ["half", "p"]),
        ],
        {"three": F(3), "k": F(0.044715), "w": F(0.7978846), "one": F(1), "half": F(0.5)},
    ),
    "mish": ("mish", [node("Softplus", ["x"], ["p"]), node("Tanh", ["p"], ["t"]), node("Mul", ["x", "t"])], {}),
    "hard swish": ("hard_swish", [node("HardSigmoid", ["x"], ["s"], alpha=0.16666667, beta=0.5), node("Mul", ["x", "s"])], {}),
    "hard swish of torch": (
        "hard_swish",
        [node("Add", ["x", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["c"]), node("Mul", ["x", "c"], ["p"]), node("Div", ["p", "six"])],
        {"three": F(3), "zero": F(0), "six": F(6)},
    ),
    "cube": ("pow", [node("Mul", ["x", "x"], ["q"]), node("Mul", ["x", "q"])], {}),
    "x 2 times x 3": ("pow", [node("Mul", ["x", "b"], ["p"]), node("Mul", ["x", "c"], ["q"]), node("Mul", ["p", "q"])], {"b": F(2), "c": F(3)}),
}


@pytest.mark.parametrize("case", GATES.values(), ids=GATES)
def test_a_gate_is_one_node(case: tuple[str, Nodes, dict[str, Any]]) -> None:
    name, nodes, weights = case
    loaded = load(model(nodes, {"x": (3, 5)}, weights=weights))
    bent = [n for n in loaded.graph.nodes if not isinstance(n, (Input, Affine))]
    assert len(bent) == 1 and isinstance(bent[0], Elementwise) and bent[0].function.name == name
    found = compare(loaded, [[floats(3, 5, seed=k, low=-8.0, high=8.0)] for k in range(4)])
    assert found.compared > 0 and found.skipped == 0


SIGNED: dict[str, Nodes] = {
    "sign and size": [node("Sign", ["x"], ["s"]), node("Abs", ["x"], ["a"]), node("Mul", ["s", "a"])],
    "size and sign": [node("Sign", ["x"], ["s"]), node("Abs", ["x"], ["a"]), node("Mul", ["a", "s"])],
    "as torch writes it": [node("Sign", ["x"], ["s"]), node("Abs", ["x"], ["a"]), node("Relu", ["a"], ["r"]), node("Mul", ["s", "r"])],
}


@pytest.mark.parametrize("nodes", SIGNED.values(), ids=SIGNED)
def test_the_sign_times_the_size_is_the_number(nodes: Nodes) -> None:
    loaded = load(model(nodes, {"x": (3, 5)}))
    assert all(isinstance(n, (Input, Affine)) for n in loaded.graph.nodes)
    assert compare(loaded, [[floats(3, 5, seed=k, low=-8.0, high=8.0)] for k in range(4)]).compared > 0


NO_GATES: dict[str, tuple[Nodes, dict[str, Any], tuple[int, ...]]] = {
    "another tensor": ([node("Sigmoid", ["v"], ["s"]), node("Mul", ["x", "s"])], {}, (3, 5)),
    "a shifted argument": ([node("Add", ["x", "b"], ["z"]), node("Sigmoid", ["z"], ["s"]), node("Mul", ["x", "s"])], {"b": F(1)}, (3, 5)),
    "a shifted factor": ([node("Sigmoid", ["x"], ["s"]), node("Add", ["x", "b"], ["z"]), node("Mul", ["z", "s"])], {"b": F(1)}, (3, 5)),
    "a shifted gate": ([node("Sigmoid", ["x"], ["s"]), node("Add", ["s", "b"], ["g"]), node("Mul", ["x", "g"])], {"b": F(0.25)}, (3, 5)),
    "erf without its 1": ([node("Erf", ["x"], ["s"]), node("Mul", ["x", "s"])], {}, (3, 5)),
    "one number a column": ([node("Mul", ["x", "b"], ["z"]), node("Sigmoid", ["z"], ["s"]), node("Mul", ["x", "s"])], {"b": floats(5)}, (3, 5)),
    "a transposed gate": ([node("Sigmoid", ["x"], ["s"]), node("Transpose", ["s"], ["t"]), node("Mul", ["x", "t"])], {}, (4, 4)),
    "a broadcast gate": ([node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["p"]), node("Mul", ["v", "s"])], {}, (3, 5)),
    "another's sign": ([node("Sign", ["v"], ["s"]), node("Abs", ["x"], ["a"]), node("Mul", ["s", "a"])], {}, (3, 5)),
    "the sign of a positive part": ([node("Sign", ["x"], ["s"]), node("Relu", ["x"], ["a"]), node("Mul", ["s", "a"])], {}, (3, 5)),
    "a falling ramp": ([node("HardSigmoid", ["x"], ["s"], alpha=-0.5, beta=0.5), node("Mul", ["x", "s"])], {}, (3, 5)),
    "a ramp that is over at 0": ([node("HardSigmoid", ["x"], ["s"], alpha=0.5, beta=1.5), node("Mul", ["x", "s"])], {}, (3, 5)),
}


@pytest.mark.parametrize("case", NO_GATES.values(), ids=NO_GATES)
def test_what_only_looks_like_a_gate_is_a_product(case: tuple[Nodes, dict[str, Any], tuple[int, ...]]) -> None:
    nodes, weights, shape = case
    loaded = load(model(nodes, {"x": shape, "v": shape}, weights=weights))
    assert any(isinstance(n, Bilinear) for n in loaded.graph.nodes)
    compare(loaded, [[floats(*shape, seed=k), floats(*shape, seed=k + 9)] for k in range(3)])
