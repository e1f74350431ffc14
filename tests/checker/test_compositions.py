"""The checker's compositions: what onnxruntime computes, what the engine calls the sites, and what float32 may not say of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from tests.checker.test_lowering import agrees, check_roundings, check_sites, engine_sites
from tests.graph.composition_cases import COMPOSITIONS, recurrent
from tests.graph.graph_models import floats, model, node
from verifier.checker import read_model
from verifier.checker.network import Elementwise
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
        model([node("RNN", ["x", "w", "r"], activations=["Sign"], hidden_size=2)], {"x": (3, 1, 2)}, weights=weights, opset=14),
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


# The table of sites in FORMAT.md


def kinds_of(kind: str, names: list[str], weights: dict[str, Array], shape: tuple[int, ...], opset: int, **attributes: Any) -> list[str]:
    network = read_model.read(model([node(kind, names, **attributes)], {"x": shape}, weights=weights, opset=opset))
    assert list(network.sites) == [("y", k) for k in range(len(network.sites))]
    nodes = [network.nodes[i] for i in network.sites.values()]
    named = [getattr(x.function, "name", "pieces") if isinstance(x, Elementwise) else type(x).__name__ for x in nodes]
    return [f"{name}{x.function.parameter:g}" if name == "pow" else name for name, x in zip(named, nodes, strict=True)]  # type: ignore[attr-defined]


def test_the_table_of_sites() -> None:
    scale = {"s": floats(4), "b": floats(4, seed=1)}
    normal, weights = ["pow2", "pow-0.5", "Product"], {"first": 1 + floats(1, 1, 2, low=0)}
    assert kinds_of("LayerNormalization", ["x", "s", "b"], scale, (3, 4), 17) == normal
    assert kinds_of("InstanceNormalization", ["x", "s", "b"], scale, (1, 4, 3), 17) == normal
    assert kinds_of("GroupNormalization", ["x", "s", "b"], scale, (1, 4, 3), 21, num_groups=2) == normal
    assert kinds_of("RMSNormalization", ["x", "s"], scale, (3, 4), 23) == normal
    assert kinds_of("LayerNormalization", ["x", "x"], scale, (3, 4), 17) == [*normal, "Product"]
    assert kinds_of("MeanVarianceNormalization", ["x"], {}, (3, 4), 13, axes=[0]) == ["pow2", "pieces", "sqrt", "reciprocal", "Product"]
    assert kinds_of("LogSoftmax", ["x"], {}, (3, 4), 13) == ["exp", "log"]
    assert kinds_of("RotaryEmbedding", ["x", "c", "d"], {"c": floats(1, 2, 2), "d": floats(1, 2, 2)}, (1, 1, 2, 4), 23) == []
    softmax = ["exp", "reciprocal", "Product"]
    assert kinds_of("Attention", ["x", "x", "x"], {}, (1, 1, 2, 4), 23, softcap=1.0) == ["MatMul", "tanh", *softmax, "MatMul"]
    steps, names = (2, 1, 2), ["x", "w", "r", "b"]
    assert kinds_of("RNN", names, recurrent(1, 1, 2, 2), steps, 14) == ["tanh", "tanh"]
    both = ["sigmoid", "tanh", "Product"]  # z, h, (1 - z) h, and later r, the product with it, z H
    later = ["sigmoid", "sigmoid", "Product", "tanh", "Product", "Product"]
    assert kinds_of("GRU", names, recurrent(3, 1, 2, 2), steps, 14) == [*both, *later]
    assert kinds_of("GRU", [*names, "", "first"], recurrent(3, 1, 2, 2) | weights, steps, 14)[:5] == [
        "sigmoid",
        "sigmoid",
        "tanh",
        "Product",
        "sigmoid",
    ]
    own = ["tanh", "Product", "sigmoid", "tanh", "Product"]  # c, i c, o, h(C), o h(C)
    assert kinds_of("LSTM", names, recurrent(4, 1, 2, 2), steps, 14) == ["sigmoid", *own, "sigmoid", "sigmoid", "Product", *own]
    clipped = kinds_of("LSTM", names, recurrent(4, 1, 2, 2), (1, 1, 2), 14, clip=1.0, input_forget=1)
    assert clipped == ["pieces", "sigmoid", "pieces", "tanh", "Product", "pieces", "sigmoid", "tanh", "Product"]


def test_bodies_have_the_float32_rules_of_their_operators() -> None:
    """A function of the model is no operator of its own: what it computes is rounded step by step."""
    inner = helper.make_function(
        "ours", "F", ["a"], ["d"], [helper.make_node("Relu", ["a"], ["c"]), helper.make_node("Add", ["c", "a"], ["d"])], [helper.make_opsetid("", 13)]
    )
    proto = onnx.ModelProto.FromString(model([node("Neg", ["x"], ["h"]), helper.make_node("F", ["h"], ["y"], domain="ours")], {"x": (1, 4)}))
    plain = model([node("Neg", ["x"], ["h"]), node("Relu", ["h"], ["c"]), node("Add", ["c", "h"])], {"x": (1, 4)})
    proto.functions.append(inner)
    proto.opset_import.append(helper.make_opsetid("ours", 1))
    losses = []
    for data in (proto.SerializeToString(), plain):
        network = read_model.read(data)
        run = Slack(network).start(1)
        losses.append([run.step(i, -np.ones((1, part.size)), np.ones((1, part.size))) for i, part in enumerate(network.nodes)])
    assert len(losses[0]) == len(losses[1]) and all((a == b).all() for a, b in zip(*losses, strict=True)) and losses[0][-1].any()
