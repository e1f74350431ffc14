"""Mutated texts and models: whatever is wrong with them, only our own errors come out.

`make test-all` goes on for minutes (benchmarks/fuzz_readers.py)."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from benchmarks import formula, query
from benchmarks.formula import FormulaError
from benchmarks.strategies.broken import GOOD, broken_model, property_texts
from graph.errors import ModelError
from graph.load import Limits, load
from specs.errors import PropertyError
from specs.vnnlib import parse
from tests.bad_input.make import GOOD as GOOD_MODEL
from tests.bad_input.make import model, node, one
from tests.effort import examples
from verifier.checker import read_model, read_property2
from verifier.checker.refusal import Refusal

ROOT = Path(__file__).resolve().parents[2]
SEEDS = [
    GOOD_MODEL, one("Softmax", axis=1)(), one("Clip", "a", "b", weights={"a": np.float32(-1), "b": np.float32(1)})(),
    one("Reshape", "s", weights={"s": np.array([2, 1])})(), one("Gather", "i", weights={"i": np.array([1, 0])}, axis=1)(),
    one("Conv", "k", weights={"k": np.ones((1, 1, 2, 2), np.float32)}, pads=[1, 1, 1, 1])(), one("ReduceMean", keepdims=0)(),
    model([node("Constant", [], ["c"], value_floats=[1.0, 2.0]), node("Mul", ["x", "c"], ["z"]), node("Sigmoid", ["z"])])(),
    model([node("Split", ["x"], ["u", "v"], axis=1), node("Concat", ["v", "u"], axis=1)])(),
]
LIMITS = Limits(decompressed_bytes=1 << 24, tensor_elements=1 << 16, core_nodes=2_000)


def refused(read: Callable[[], object], error: type[Exception]) -> bool:
    """Whether reading ends in an error of ours; any other exception is the test's."""
    try:
        read()
    except error:
        return True
    return False


@settings(max_examples=examples(300), suppress_health_check=[HealthCheck.too_slow])
@given(property_texts())
def test_texts_are_read_or_refused_by_all_parsers(text: str) -> None:
    refused(lambda: parse(text), PropertyError)
    refused(lambda: formula.parse(text), FormulaError)
    refused(lambda: query.parse(text), FormulaError)
    refused(lambda: read_property2.read(text.encode("utf-8", "surrogatepass")), Refusal)


def test_the_texts_that_are_mutated_are_good_and_the_mutations_are_not() -> None:
    """Otherwise the test above would show nothing. (The third text needs what not every reader knows: hidden nodes, two networks.)"""
    assert not any(refused(lambda text=text: parse(text), PropertyError) for text in GOOD[:2])
    assert not any(refused(lambda text=text: read_property2.read(text.encode()), Refusal) for text in GOOD[:2])
    outcomes: Counter[bool] = Counter()

    @settings(max_examples=100)
    @given(property_texts())
    def count(text: str) -> None:
        outcomes[refused(lambda: parse(text), PropertyError)] += 1

    count()
    assert outcomes[True] >= 30 and outcomes[False] >= 3


@pytest.mark.parametrize("seed", range(3))
def test_models_are_read_or_refused_by_both_readers(seed: int) -> None:
    draw = random.Random(seed)
    outcomes: Counter[bool] = Counter()
    for _ in range(120):
        data = broken_model(draw.choice(SEEDS), draw)
        outcomes[refused(lambda data=data: load(data, limits=LIMITS), ModelError)] += 1
        refused(lambda data=data: read_model.read(data), Refusal)
    assert min(outcomes.values()) >= 3  # some are still models


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["onnx", "vnnlib"])
def test_the_fuzzers_run(reader: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.fuzz_readers", "--reader", reader, "--seconds", "10"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
