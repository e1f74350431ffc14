"""The operators beyond the spine that networks are drawn from: read by engine and checker, and nothing false is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from benchmarks.strategies import boxes, check_verifier, models, networks, points
from benchmarks.strategies.activations import ACTIVATIONS
from benchmarks.strategies.problems import evaluate
from benchmarks.strategies.reductions import REDUCTIONS
from benchmarks.strategies.reexport import oldest_opset, reexport
from graph.evaluate import evaluate as values_of
from graph.load import load
from tests.effort import examples
from tests.verifier.composed import Asked
from verifier import engine
from verifier.certificate import Recorder
from verifier.checker import read_model

FURTHER = (*ACTIVATIONS, *REDUCTIONS)


@pytest.mark.parametrize("operator", FURTHER)
def test_engine_and_checker_read_it_at_the_oldest_and_the_newest_opset(operator: str) -> None:
    kind = operator.split(" ")[0]
    wanted = settings(max_examples=200, database=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    drawn = find(models((operator,), 1), lambda m: any(node.op_type == kind for node in m.graph.node), settings=wanted)
    for opset in (oldest_opset(drawn), 17, 22):
        written = drawn if opset == 17 else reexport(drawn, opset)
        assert load(written.SerializeToString()).outputs[0].name == written.graph.output[0].name
        assert len(read_model.read(written.SerializeToString()).outputs) == 1


@settings(max_examples=examples(80), suppress_health_check=list(HealthCheck))
@given(st.data())
def test_their_errors_are_what_they_say(data: st.DataObject) -> None:
    """onnxruntime is within the stated error of the core graph in double precision, and of onnx's reference."""
    network = data.draw(networks(FURTHER, 3))
    x = data.draw(points(data.draw(boxes(int(np.prod(network.input_shape))))))
    session = onnxruntime.InferenceSession(network.model.SerializeToString(), providers=["CPUExecutionProvider"])
    y = np.asarray(session.run(None, {"x": x.reshape(network.input_shape)})[0], np.float64).reshape(-1)
    assert y.size == np.prod(network.output_shape) and np.abs(y).max() <= network.magnitude + network.error
    loaded = load(network.model.SerializeToString())
    ours = values_of(loaded.graph, [x.astype(np.float64)[None]])[loaded.graph.outputs[0]][0]
    assert np.abs(ours - y).max() <= network.error * (1 + 1e-9) and np.abs(evaluate(network, x) - y).max() <= 2 * network.error


def ours(folder: Path) -> Callable[[bytes, str, float], tuple[str, Any]]:
    """Our engine and checker, in this process, with few nodes."""

    def verify(model: bytes, prop: str, timeout: float) -> tuple[str, Any]:
        asked, recorder = Asked(folder, prop, f=model), Recorder(str(folder))
        outcome = engine.run(asked.model, asked.property, asked.options(nodes=20), recorder)
        if outcome.witness is not None:
            return "sat", outcome.witness.inputs.tolist()
        if outcome.verdict != "unsat":
            return "unknown", None
        return ("unsat" if asked.checked(recorder, "real").startswith("ACCEPTED") else "unknown"), None

    return verify


def asked_about(folder: Path, examples: int) -> None:
    report = check_verifier(ours(folder), operators=FURTHER, checks=("known sat", "known unsat"), max_operators=3, max_examples=examples)
    assert not report.findings, str(report)
    assert report.verdicts["sat"] + report.verdicts["unsat"] > report.verdicts["unknown"], report.verdicts


def test_our_verifier_says_nothing_false(tmp_path: Path) -> None:
    asked_about(tmp_path, 15)


@pytest.mark.slow
def test_our_verifier_says_nothing_false_about_many(tmp_path: Path) -> None:
    asked_about(tmp_path, 100)
