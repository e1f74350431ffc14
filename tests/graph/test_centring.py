"""Normalisation by statistics of the input: outputs, offsets, sites and refusals (the forms are in composition_cases.py)."""

from __future__ import annotations

import numpy as np
import pytest
from graph_models import floats, model, node

from graph.errors import ModelError, UnsupportedOperator
from graph.evaluate import evaluate
from graph.load import Model, load
from graph.selfcheck import compare
from graph.simplify import recentre_softmax

WEIGHTS = {"s": floats(4), "b": floats(4, seed=1)}


def sites(loaded: Model) -> list[tuple[str, int, str]]:
    found = []
    for _, part in loaded.lowered:
        if part.origin.site is not None:
            name = getattr(getattr(part, "function", None), "name", type(part).__name__)
            found.append((*part.origin.site, name))
    return found


def test_layer_normalization_also_gives_its_statistics() -> None:
    step = node("LayerNormalization", ["x", "s", "b"], ["y", "middle", "inverse"], epsilon=0.5)
    loaded = load(model([step], {"x": (3, 4)}, ["y", "middle", "inverse"], WEIGHTS, opset=17))
    x = floats(3, 4)
    _, middle, inverse = (evaluate(loaded.graph, [x])[i] for i in loaded.graph.outputs)
    assert np.allclose(middle.reshape(-1), x.mean(-1)) and np.allclose(inverse.reshape(-1), 1 / np.sqrt(x.var(-1) + 0.5))
    assert [info.shape for info in loaded.outputs] == [(3, 4), (3, 1), (3, 1)]


def test_scale_and_bias_may_depend_on_the_input() -> None:
    nodes = [node("LayerNormalization", ["x", "z", "z"], ["y"])]
    compare(load(model(nodes, {"x": (3, 4), "z": (4,)}, opset=17)), [[floats(3, 4), floats(4, seed=2)]])
    nodes = [node("InstanceNormalization", ["x", "z", "z"], ["y"])]
    compare(load(model(nodes, {"x": (1, 4, 3), "z": (4,)}, opset=17)), [[floats(1, 4, 3), floats(4, seed=2)]])


@pytest.mark.parametrize("offset", [0.0, 10.0, 1000.0])
def test_a_large_mean_is_no_mismatch(offset: float) -> None:
    """Runtimes may subtract the square of the mean from the mean of the squares."""
    steps = [node("LayerNormalization", ["x", "s", "b"], ["y"])]
    compare(load(model(steps, {"x": (3, 4)}, weights=WEIGHTS, opset=17)), [[floats(3, 4, seed=k) + np.float32(offset)] for k in range(5)])


@pytest.mark.parametrize(
    ("kind", "names", "expected"),
    [
        ("LayerNormalization", ["x", "s", "b"], ["pow", "pow", "Bilinear"]),
        ("MeanVarianceNormalization", ["x"], ["pow", "relu", "sqrt", "reciprocal", "Bilinear"]),
        ("LogSoftmax", ["x"], ["exp", "log"]),
    ],
)
def test_sites_are_those_of_the_format(kind: str, names: list[str], expected: list[str]) -> None:
    attributes = {"axes": [1]} if kind == "MeanVarianceNormalization" else {}
    loaded = load(model([node(kind, names, **attributes)], {"x": (3, 4)}, weights=WEIGHTS, opset=17))
    assert sites(loaded) == [("y", k, name) for k, name in enumerate(expected)]


def test_log_softmax_neither_overflows_nor_vanishes() -> None:
    loaded = load(model([node("LogSoftmax", ["x"])], {"x": (2, 3)}, opset=13))
    x = np.array([[1000.0, 0.0, -1000.0], [-5000.0, -5000.0, -5001.0]])
    (y,) = (evaluate(recentre_softmax(loaded.graph, [x]), [x])[i] for i in loaded.graph.outputs)
    largest = x.max(-1, keepdims=True)
    assert np.allclose(y.reshape(2, 3), x - largest - np.log(np.exp(x - largest).sum(-1, keepdims=True)))


def test_what_has_no_meaning_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="epsilon"):
        load(model([node("LayerNormalization", ["x", "s"], epsilon=0.0)], {"x": (3, 4)}, weights=WEIGHTS, opset=17))
    with pytest.raises(UnsupportedOperator, match="stash_type"):
        load(model([node("LayerNormalization", ["x", "s"], stash_type=10)], {"x": (3, 4)}, weights=WEIGHTS, opset=17))
    with pytest.raises(ModelError, match="groups"):
        load(model([node("GroupNormalization", ["x", "s", "b"], num_groups=3)], {"x": (1, 4, 2)}, weights=WEIGHTS, opset=21))
    with pytest.raises(UnsupportedOperator, match="deprecated"):
        load(model([node("GroupNormalization", ["x", "s", "b"], num_groups=2)], {"x": (1, 4, 2)}, weights=WEIGHTS, opset=18))
    with pytest.raises(ModelError, match="broadcast"):
        load(model([node("LayerNormalization", ["x", "s"])], {"x": (3, 1)}, weights=WEIGHTS, opset=17))
