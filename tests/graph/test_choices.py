"""Indices that depend on the input: what is read, written and cut, against onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from graph.evaluate import evaluate
from graph.load import load
from tests.graph.choice_cases import CASES, PATCHES, Case
from tests.graph.graph_models import floats


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
