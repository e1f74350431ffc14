"""Indices that depend on the input: what is read, written and cut, against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from graph.errors import ModelError
from graph.evaluate import evaluate
from graph.load import load
from tests.graph.choice_cases import CASES, PATCHES, Case
from tests.graph.graph_models import floats, model, node


def agree(case: Case, seed: int) -> None:
    _, data, shape, places, least, most = case
    rng = np.random.default_rng(seed)
    x, p = floats(*shape, seed=seed), rng.uniform(least - 0.99, most + 0.99, places).astype(np.float32)
    expected = onnxruntime.InferenceSession(data).run(None, {"x": x, "p": p})[0]
    graph = load(data).graph
    found = evaluate(graph, {"x": x, "p": p})[graph.outputs[0]]
    np.testing.assert_allclose(np.reshape(found, expected.shape), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", [*CASES, *PATCHES], ids=lambda case: case[0])
def test_places_that_depend_on_the_input(case: Case) -> None:
    for seed in range(12):
        agree(case, seed)


REFUSED = [  # an operator behind p, cast to the index i, and what is said
    ([node("ScatterElements", ["x", "i", "u"], axis=1)], (1, 2), "one place along an axis"),
    ([node("Cast", ["x"], ["w"], to=1), node("Gather", ["w", "p"])], (2,), "malformed|type"),
    ([node("Slice", ["t", "i", "end"], ["s"]), node("Add", ["s", "x"])], (1,), "only supported|next to a slice"),
    ([node("Slice", ["t", "i", "end"], ["s"]), node("ReduceSum", ["s"])], (1,), "only supported"),
    ([node("Slice", ["t", "i", "end", "zero", "two"], ["s"]), node("Shape", ["s"])], (1,), "steps of 1"),
    ([node("Slice", ["t", "i", "end"], ["s"]), node("Slice", ["s", "i", "end"], ["r"]), node("Shape", ["r"])], (1,), "slice of a slice"),
    ([node("Slice", ["t", "i", "end"], ["s"]), node("Shape", ["s"], ["n"]), node("Equal", ["n", "two"], ["b"]), node("Cast", ["b"], to=1)], (1,),
     "compared with one that it might have"),
    ([node("Slice", ["t", "i", "end"], ["s"]), node("Slice", ["t", "zero", "i"], ["r"]), node("Add", ["s", "r"])], (1,), "of equal size"),
]  # fmt: skip


@pytest.mark.parametrize(("nodes", "places", "says"), REFUSED)
def test_what_is_not_supported_is_refused(nodes: list[onnx.NodeProto], places: tuple[int, ...], says: str) -> None:
    weights = {"t": np.arange(4), "end": np.array([3]), "zero": np.array([0]), "two": np.array([2]), "u": floats(1, 2)}
    with pytest.raises(ModelError, match=says):
        load(model([node("Cast", ["p"], ["i"], to=7), *nodes], {"x": (1, 4), "p": places}, weights=weights, opset=16))
