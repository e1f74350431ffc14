"""Indices that depend on the input: the checker reads what onnxruntime computes, with the engine's sites."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from tests.checker.test_lowering import agrees, check_roundings, check_sites, engine_sites
from tests.graph.choice_cases import CASES, Case
from tests.graph.graph_models import floats
from verifier.checker import read_model


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_places_that_depend_on_the_input(case: Case) -> None:
    _, data, shape, places, least, most = case
    network = read_model.read(data)
    check_roundings(network)
    check_sites(engine_sites(data), network)
    session = onnxruntime.InferenceSession(data)
    for seed in range(6):
        x, p = floats(*shape, seed=seed), np.random.default_rng(seed).uniform(least - 0.99, most + 0.99, places).astype(np.float32)
        assert agrees(network, [x, p], session.run(None, {"x": x, "p": p}))
