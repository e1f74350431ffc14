"""The checker's compositions: what onnxruntime computes, what the engine calls the sites, and what float32 may not say of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.checker.test_lowering import agrees, check_roundings, check_sites, engine_sites
from tests.graph.composition_cases import COMPOSITIONS, recurrent
from tests.graph.graph_models import floats, model, node
from verifier.checker import read_model
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack

Array = np.ndarray[Any, Any]
FORMS = [
    pytest.param(
        model([node(kind, [*inputs, *weights], **attributes)], inputs, weights=weights, opset=opset), id=f"{kind}-{opset}-{'-'.join(attributes)}"
    )
    for kind, opset, inputs, weights, attributes in COMPOSITIONS
]


def check(data: bytes) -> int:
    """The number of sites, where the checker's network agrees with onnxruntime and the engine."""
    network, running = read_model.read(data), onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    check_roundings(network)
    for seed in range(3):
        inputs = [floats(*info.shape, seed=seed + 7 * i) for i, info in enumerate(running.get_inputs())]
        feed = {info.name: x for info, x in zip(running.get_inputs(), inputs, strict=True)}
        assert agrees(network, inputs, running.run(None, feed))
    return check_sites(engine_sites(data), network)


@pytest.mark.parametrize("data", FORMS)
def test_forms_agree_with_onnxruntime_and_the_engine(data: bytes) -> None:
    check(data)


GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
@pytest.mark.parametrize("before", [0, 1])
def test_recurrent_operators_with_all_inputs(kind: str, direction: str, before: int) -> None:
    """Lengths, first states that are not 0 (constant or not), peepholes; all outputs."""
    directions, batch, hidden = 2 if direction == "bidirectional" else 1, 3, 2
    weights = recurrent(GATES[kind], directions, 2, hidden) | {"n": np.array([4, 1, 2], np.int32), "h": floats(directions, batch, hidden, seed=7)}
    names, outputs, inputs = ["x", "w", "r", "b", "n", "h"], ["y", "last"], {"x": (4, batch, 2)}
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if kind == "LSTM":
        weights["p"], attributes["clip"] = floats(directions, 3 * hidden, seed=8), 0.75
        names, outputs, inputs = [*names, "c", "p"], [*outputs, "memory"], inputs | {"c": (directions, batch, hidden)}
    if kind == "GRU":
        attributes["linear_before_reset"] = before
    assert check(model([node(kind, names, outputs, **attributes)], inputs, outputs, weights, opset=14)) >= 4 * directions


def test_an_unnamed_first_output_does_not_name_the_sites() -> None:
    weights = recurrent(4, 1, 2, 2)
    nodes = [node("LSTM", ["x", "w", "r", "b"], ["", name], hidden_size=2) for name in "hg"]
    nodes[1].name = "another"
    nodes.append(node("Add", ["h", "g"]))
    data = model(nodes, {"x": (2, 1, 2)}, weights=weights, opset=14)
    assert check(data) == 2 * (6 + 8) and {name for name, _ in read_model.read(data).sites} == {"h", "g"}


def test_scales_may_depend_on_the_input_and_statistics_are_outputs() -> None:
    steps = [node("LayerNormalization", ["x", "z", "z"], ["y", "middle", "inverse"])]
    check(model(steps, {"x": (3, 4), "z": (4,)}, ["y", "middle", "inverse"], opset=17))


@pytest.mark.parametrize("data", [form for form in FORMS if "Rotary" not in str(form.id)])
def test_float32_refuses_what_is_not_measured(data: bytes) -> None:
    network = read_model.read(data)
    with pytest.raises(Rejected, match="float32-no-rule"):
        run = Slack(network).start(1)
        for i, part in enumerate(network.nodes):
            run.step(i, np.zeros((1, part.size)), np.ones((1, part.size)))


def test_refusals() -> None:
    scale = {"s": floats(4), "b": floats(4, seed=1)}
    weights = recurrent(1, 1, 2, 2)
    for data in [
        model([node("LayerNormalization", ["x", "s"], stash_type=10)], {"x": (3, 4)}, weights=scale, opset=17),
        model([node("LayerNormalization", ["x", "s"], epsilon=0.0)], {"x": (3, 4)}, weights=scale, opset=17),
        model([node("LayerNormalization", ["x", "s"])], {"x": (3, 1)}, weights=scale, opset=17),
        model([node("GroupNormalization", ["x", "s", "b"], num_groups=3)], {"x": (1, 4, 2)}, weights=scale, opset=21),
        model([node("GroupNormalization", ["x", "s", "b"], num_groups=2)], {"x": (1, 4, 2)}, weights=scale, opset=18),
        model([node("RNN", ["x", "w", "r"], activations=["Elu"], hidden_size=2)], {"x": (3, 1, 2)}, weights=weights, opset=14),
        model([node("RNN", ["x", "w", "r"], activations=["Tanh", "Tanh"], hidden_size=2)], {"x": (3, 1, 2)}, weights=weights, opset=14),
        model([node("RNN", ["x", "w", "r"], hidden_size=3)], {"x": (3, 1, 2)}, weights=weights, opset=14),
        model([node("RNN", ["x", "w", "r"], direction="sideways", hidden_size=2)], {"x": (3, 1, 2)}, weights=weights, opset=14),
        model([node("Attention", ["x", "x", "x"])], {"x": (1, 2, 8)}, opset=23),
        model([node("Softmax", ["m"], ["s"]), node("Add", ["x", "s"])], {"x": (1, 2)}, weights={"m": np.float32([0, -np.inf])}, opset=13),
        model([node("Mul", ["x", "m"])], {"x": (1, 2)}, weights={"m": np.float32([0, -np.inf])}, opset=13),
        model([node("Add", ["x", "m"], ["s"]), node("Softmax", ["s"])], {"x": (1, 2)}, weights={"m": np.float32([-np.inf] * 2)}, opset=13),
        model([node("Add", ["x", "m"], ["s"]), node("Exp", ["s"])], {"x": (1, 2)}, weights={"m": np.float32([0, -np.inf])}, opset=13),
        model([node("RNN", ["x", "r", "w"], hidden_size=2)], {"x": (3, 1, 5)}, weights=weights, opset=14),
    ]:
        with pytest.raises(Rejected, match="unsupported-operator"):
            read_model.read(data)
