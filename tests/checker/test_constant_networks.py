"""Networks whose input is a constant: what the checker reads of them is what onnxruntime computes, or a refusal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from benchmarks.strategies import OPERATORS, OPSETS, boxes, convolved, layered, networks, points
from tests.effort import examples
from tests.graph.test_constants import beside_a_constant, executed
from verifier.checker import read_model
from verifier.checker.lowering.evaluate import evaluate
from verifier.checker.refusal import Rejected

fast = settings(max_examples=examples(60), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
thin = settings(max_examples=examples(4), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def reads_as_it_runs(data: st.DataObject, network: Any) -> None:
    x = data.draw(points(data.draw(boxes(math.prod(network.input_shape)))))
    expected, held = executed(network, x)
    try:
        found = read_model.read(beside_a_constant(network.model, held))
    except Rejected as refusal:
        event(f"refused: {refusal.rule}")
        return
    computed = evaluate(found, [np.zeros(expected.size)])[found.outputs[0]]
    assert np.abs(computed - expected).max() <= 2 * network.error


@fast
@given(st.data())
def test_a_network_of_a_constant_reads_as_it_runs(data: st.DataObject) -> None:
    reads_as_it_runs(data, data.draw(networks(opsets=OPSETS) | convolved(opsets=OPSETS) | layered(opsets=OPSETS)))


@pytest.mark.parametrize("operator", OPERATORS)
@thin
@given(st.data())
def test_an_operator_of_a_constant_reads_as_it_runs(operator: str, data: st.DataObject) -> None:
    reads_as_it_runs(data, data.draw(networks(operators=(operator,), opsets=OPSETS)))
