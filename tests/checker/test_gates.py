"""Gates are the same univariate nodes in engine and checker, and float32 executions of their products stay within the slack."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from tests.checker.test_lowering import check_roundings, check_sites, engine_sites
from tests.graph.graph_models import model, node
from verifier.checker import read_model
from verifier.checker.lowering.evaluate import evaluate
from verifier.checker.measured import Table
from verifier.checker.network import Elementwise, Smooth
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack

F = np.float32
Nodes = list[onnx.NodeProto]
GELU = [node("Erf", ["z"], ["e"]), node("Add", ["e", "one"], ["a"]), node("Mul", ["x", "a"], ["p"]), node("Mul", ["p", "half"])]
TANH = [node("Tanh", ["z"], ["e"]), node("Add", ["e", "one"], ["a"]), node("Mul", ["x", "half"], ["h"]), node("Mul", ["h", "a"])]
CUBIC = [node("Mul", ["k", "x3"], ["t"]), node("Add", ["x", "t"], ["i"]), node("Mul", ["w", "i"], ["z"])]
W: dict[str, Any] = {"k": F(0.044715), "w": F(0.7978846), "one": F(1), "half": F(0.5), "three": F(3), "zero": F(0), "six": F(6), "r": F(1.41421354)}
CASES: dict[str, tuple[str, Nodes]] = {
    "silu": ("swish", [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"])]),
    "swish": ("swish", [node("Mul", ["x", "r"], ["z"]), node("Sigmoid", ["z"], ["s"]), node("Mul", ["x", "s"])]),
    "gelu": ("gelu", [node("Div", ["x", "r"], ["z"]), *GELU]),
    "gelu, tanh": ("swish", [node("Mul", ["x", "x"], ["x2"]), node("Mul", ["x2", "x"], ["x3"]), *CUBIC, *TANH]),
    "gelu, tanh with Pow": ("swish", [node("Pow", ["x", "three"], ["x3"]), *CUBIC, *TANH]),
    "mish": ("mish", [node("Softplus", ["x"], ["p"]), node("Tanh", ["p"], ["t"]), node("Mul", ["x", "t"])]),
    "hard swish": ("hard_swish", [node("HardSigmoid", ["x"], ["s"], alpha=0.16666667), node("Mul", ["x", "s"])]),
    "hard swish of torch": (
        "hard_swish",
        [node("Add", ["x", "three"], ["a"]), node("Clip", ["a", "zero", "six"], ["c"]), node("Mul", ["x", "c"], ["p"]), node("Div", ["p", "six"])],
    ),
    "cube": ("pow", [node("Mul", ["x", "x"], ["q"]), node("Mul", ["x", "q"])]),
}


def data_of(nodes: Nodes, size: int) -> bytes:
    used = {name for step in nodes for name in step.input}
    return model(nodes, {"x": (size,)}, weights={name: value for name, value in W.items() if name in used})


def gate_of(data: bytes) -> tuple[Any, int, str]:
    """The network, the place of its gate, and the tensor that the product is."""
    network = read_model.read(data)
    (place,) = [i for i, x in enumerate(network.nodes) if x.rounding is not None and x.rounding.kind == "gate" and i in live(network)][-1:]
    tensor = next(name for (name, _), i in network.sites.items() if network.nodes[i].place == network.nodes[place].place)
    return network, place, tensor


def live(network: Any) -> set[int]:
    alive = set(network.outputs)
    for i in reversed(range(len(network.nodes))):
        alive |= set(network.nodes[i].inputs) if i in alive else set()
    return alive


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_gate_is_one_node_here_and_in_the_engine(case: tuple[str, Nodes]) -> None:
    name, nodes = case
    data = data_of(nodes, 15)
    network = read_model.read(data)
    check_roundings(network)
    assert check_sites(engine_sites(data), network) == 1
    bent = [network.nodes[i] for i in network.sites.values() if i in live(network)]
    assert len(bent) == 1 and isinstance(bent[0], Elementwise) and isinstance(bent[0].function, Smooth) and bent[0].function.name == name
    x = np.linspace(-6, 6, 15).astype(F)
    session = onnxruntime.InferenceSession(data)
    (theirs,) = session.run(None, {"x": x})
    assert np.allclose(evaluate(network, [x])[network.outputs[0]], theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_float32_stays_within_the_slack_of_a_gate(case: tuple[str, Nodes]) -> None:
    """onnxruntime's product at 200 points against the gate's function of the same points in float64: each within the slack at that point."""
    data = data_of(case[1], 200)
    network, place, tensor = gate_of(data)
    x = np.random.default_rng(0).uniform(-9, 9, 200).astype(F)
    watched = onnx.ModelProto.FromString(data)
    watched.graph.output.append(helper.make_empty_tensor_value_info(tensor))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    theirs = onnxruntime.InferenceSession(watched.SerializeToString(), options).run([tensor], {"x": x})[0] if tensor != "y" else (
        onnxruntime.InferenceSession(data, options).run(None, {"x": x})[0]
    )
    ours, run, s = evaluate(network, [x]), Slack(network, Table.fitting()).start(1), np.zeros(200)
    for i, value in enumerate(ours):
        s = run.step(i, value[None], value[None])
        if i == place:
            break
    off = np.abs(theirs.astype(np.float64) - ours[place])
    assert (off <= s[0]).all() and (s[0] <= 3e-4 * (1 + np.abs(ours[place]))).all() and s[0].min() > 0


@pytest.mark.parametrize("size", [["Abs"], ["Abs", "Relu"]], ids=str)
def test_the_sign_times_the_size_is_the_number(size: list[str]) -> None:
    """Nothing rounds there, in float32 either: the output is the node that both read."""
    steps = [node(kind, [f"a{k}"], [f"a{k + 1}"]) for k, kind in enumerate(size)]
    nodes = [node("Mul", ["x", "half"], ["a0"]), node("Sign", ["a0"], ["s"]), *steps, node("Mul", ["s", f"a{len(size)}"])]
    network = read_model.read(data_of(nodes, 6))
    assert not any(isinstance(network.nodes[i], Elementwise) for i in live(network))
    assert network.nodes[network.outputs[0]].rounding is not None  # of the product with 0.5


def test_a_gate_of_what_is_not_known_to_be_near_is_refused_in_float32_alone() -> None:
    """The cube of a scaled tensor: how far it may be off is no multiple of a slack."""
    nodes = [node("Mul", ["x", "r"], ["v"]), node("Mul", ["v", "v"], ["x2"]), node("Mul", ["x2", "v"], ["x3"])]
    tail = [node("Mul", ["k", "x3"], ["t"]), node("Add", ["v", "t"], ["z"]), node("Tanh", ["z"], ["e"]), node("Add", ["e", "one"], ["a"])]
    data = data_of([*nodes, *tail, node("Mul", ["v", "a"])], 3)
    network, x = read_model.read(data), np.ones(3)
    assert check_sites(engine_sites(data), network) == 1
    run = Slack(network, Table.fitting()).start(1)
    with pytest.raises(Rejected, match="float32"):
        for i, value in enumerate(evaluate(network, [x])):
            run.step(i, value[None], value[None])


def test_numbers_of_the_tests_are_as_the_file_has_them() -> None:
    stored = onnx.ModelProto.FromString(data_of(CASES["gelu, tanh"][1], 3)).graph.initializer
    assert {w.name: float(numpy_helper.to_array(w)) for w in stored} == {name: float(W[name]) for name in ("k", "w", "one", "half")}
