"""RNN, GRU and LSTM with all inputs: lengths, first states, peepholes, layouts, outputs (the other forms are in composition_cases.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from composition_cases import recurrent
from graph_models import floats, model, node

from graph.core import Affine
from graph.errors import ModelError, UnsupportedOperator
from graph.evaluate import evaluate
from graph.linear_map import Dense, LinearMap
from graph.load import load
from graph.selfcheck import compare

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
STEPS, BATCH, SIZE, HIDDEN = 4, 3, 2, 2


def built(
    kind: str, names: list[str], weights: dict[str, Any], outputs: list[str], shape: tuple[int, ...] = (STEPS, BATCH, SIZE), **attributes: Any
) -> Any:
    """The operator with all of its outputs that are named."""
    inputs = {"x": shape} | {name: (1, BATCH, HIDDEN) for name in names if name.startswith("variable")}
    step = node(kind, names, outputs, hidden_size=HIDDEN, **attributes)
    return load(model([step], inputs, [name for name in outputs if name], weights, opset=14))


def points(loaded: Any) -> list[list[Any]]:
    return [[floats(*info.shape, seed=10 * k + i) for i, info in enumerate(loaded.inputs)] for k in range(3)]


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_sequences_end_where_they_end(kind: str, direction: str) -> None:
    directions = 2 if direction == "bidirectional" else 1
    weights = recurrent(GATES[kind], directions, SIZE, HIDDEN) | {"n": np.array([4, 1, 2], np.int32), "h": floats(directions, BATCH, HIDDEN, seed=7)}
    loaded = built(kind, ["x", "w", "r", "b", "n", "h"], weights, ["y", "last"], direction=direction)
    assert compare(loaded, points(loaded)).skipped == 0


@pytest.mark.parametrize("kind", GATES)
def test_first_states_may_depend_on_the_input(kind: str) -> None:
    names, outputs = ["x", "w", "r", "b", "", "variable_h"], ["y", "last"]
    if kind == "LSTM":
        names, outputs = [*names, "variable_c"], [*outputs, "memory"]
    loaded = built(kind, names, recurrent(GATES[kind], 1, SIZE, HIDDEN), outputs)
    assert compare(loaded, points(loaded)).skipped == 0


@pytest.mark.parametrize("clip", [None, 0.2])
def test_peepholes_and_clipped_memory(clip: float | None) -> None:
    weights = recurrent(4, 1, SIZE, HIDDEN) | {"h": floats(1, BATCH, HIDDEN), "c": floats(1, BATCH, HIDDEN), "p": floats(1, 3 * HIDDEN)}
    attributes = {} if clip is None else {"clip": clip}
    loaded = built("LSTM", ["x", "w", "r", "b", "", "h", "c", "p"], weights, ["y", "last", "memory"], **attributes)
    assert compare(loaded, points(loaded)).skipped == 0


@pytest.mark.parametrize("kind", GATES)
def test_the_batch_may_be_the_first_axis(kind: str) -> None:
    """onnxruntime does not run layout 1: it is the other one, transposed."""
    first = floats(2, BATCH, HIDDEN, seed=5)
    weights, outputs = recurrent(GATES[kind], 2, SIZE, HIDDEN), ["y", "last"]
    names = ["x", "w", "r", "b", "", "h"]
    plain = built(kind, names, weights | {"h": first}, outputs, direction="bidirectional")
    turned_weights = weights | {"h": np.swapaxes(first, 0, 1).copy()}
    turned = built(kind, names, turned_weights, outputs, (BATCH, STEPS, SIZE), direction="bidirectional", layout=1)
    x = floats(STEPS, BATCH, SIZE)
    expected = [evaluate(plain.graph, [x])[i].reshape(info.shape) for i, info in zip(plain.graph.outputs, plain.outputs, strict=True)]
    found = [
        evaluate(turned.graph, [np.swapaxes(x, 0, 1)])[i].reshape(info.shape) for i, info in zip(turned.graph.outputs, turned.outputs, strict=True)
    ]
    assert np.allclose(found[0], np.transpose(expected[0], (2, 0, 1, 3))) and np.allclose(found[1], np.swapaxes(expected[1], 0, 1))


def test_steps_share_their_weights() -> None:
    """One map a gate, whatever the number of steps; the simplified graph multiplies no weights either."""
    weights = recurrent(4, 1, SIZE, HIDDEN)
    loaded = built("LSTM", ["x", "w", "r", "b"], weights, ["", "last"])
    maps: dict[int, LinearMap] = {}
    for _, part in loaded.lowered:
        if isinstance(part, Affine):
            maps.update({id(m): m for m in part.maps if isinstance(m, Dense)})
    assert len(maps) == 2 * 4
    stored = {id(m.weight.base) for m in maps.values() if isinstance(m, Dense)}
    assert len(stored) == 2


def test_sites_number_the_steps() -> None:
    """Per step i, f, f C, c, i c, o, h(C), o h(C); in the first step C is 0, and f left out."""
    loaded = built("LSTM", ["x", "w", "r", "b"], recurrent(4, 1, SIZE, HIDDEN), ["y"], (2, BATCH, SIZE))
    found = [getattr(getattr(p, "function", None), "name", "mul") for _, p in loaded.lowered if p.origin.site is not None]
    rest = ["tanh", "mul", "sigmoid", "tanh", "mul"]
    assert found == ["sigmoid", *rest, "sigmoid", "sigmoid", "mul", *rest]


def test_refusals() -> None:
    weights = recurrent(1, 1, SIZE, HIDDEN)
    with pytest.raises(UnsupportedOperator, match="activations"):
        built("RNN", ["x", "w", "r", "b"], weights, ["y"], activations=["Nonsense"])
    with pytest.raises(UnsupportedOperator, match="activations"):
        built("RNN", ["x", "w", "r", "b"], weights, ["y"], activations=["Tanh", "Tanh"])
    with pytest.raises(UnsupportedOperator, match="more numbers"):
        built("RNN", ["x", "w", "r", "b"], weights, ["y"], activations=["Tanh"], activation_alpha=[0.5])
    with pytest.raises(ModelError, match="sequence_lens"):
        built("RNN", ["x", "w", "r", "b", "n"], weights | {"n": np.array([9, 1, 1], np.int32)}, ["y"])
    with pytest.raises(ModelError, match="do not fit"):
        built("RNN", ["x", "w", "r", "b"], weights | {"w": floats(1, HIDDEN, 5)}, ["y"])
    with pytest.raises(ModelError, match="direction"):
        built("RNN", ["x", "w", "r", "b"], weights, ["y"], direction="sideways")
