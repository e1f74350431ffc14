"""Softmax with logits around 1000: exp alone would overflow; shifted for the box it is bounded, proven and refuted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from onnx import helper

from bounds.interval import propagate
from bounds.linear import LinearBounds
from bounds.torch_graph import TorchGraph
from graph.load import Model
from specs.canonical import Property
from tests.verifier.small_networks import decimal, model, text
from verifier import engine
from verifier.fit import compare_with_runtime
from verifier.options import Options
from verifier.problem import compile_problem
from verifier.replay import Replayer

WEIGHT = np.array([[1.0, -1.0, 0.5], [0.25, 0.5, -1.0]])
BIAS = np.array([1000.0, 999.0, 998.0])
BOX = [("-0.5", "0.5"), ("-0.5", "0.5")]


def network() -> Model:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"]), helper.make_node("Softmax", ["h"], ["y"], axis=1)]
    return model(nodes, 2, 3, w=WEIGHT, b=BIAS)


def exact(points: np.ndarray) -> np.ndarray:
    """Softmax as its definition has it, rows shifted by their own maximum."""
    logits = points @ WEIGHT + BIAS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def smallest_first_output() -> float:
    grid = np.linspace(-0.5, 0.5, 101)
    return float(exact(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2))[:, 0].min())


def unsafe_below(threshold: float) -> Property:
    return text(BOX, 3, f"(<= Y_0 {decimal(threshold)})")


def test_bounds_are_finite_and_contain_executions() -> None:
    problem = compile_problem(network().graph, unsafe_below(0.1))
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (200, 2))
    truth, out = exact(points), problem.graph.outputs[0]
    interval = propagate(problem.graph, problem.lower, problem.upper)[out]
    net = TorchGraph(problem.graph, torch.float32)
    state = LinearBounds(net).propagate(torch.from_numpy(problem.lower).float(), torch.from_numpy(problem.upper).float())
    for lower, upper in (interval, (state.lower[out].double().numpy(), state.upper[out].double().numpy())):
        assert np.isfinite(lower).all() and np.isfinite(upper).all()
        assert (lower <= truth + 1e-12).all() and (truth - 1e-12 <= upper).all()
    assert np.abs(net.outputs(torch.from_numpy(points).float()).numpy() - truth).max() < 1e-4  # logits of 1000 have an ulp of 6e-5


def test_the_file_keeps_its_meaning() -> None:
    loaded, prop = network(), unsafe_below(0.1)
    before = compile_problem(loaded.graph, prop).graph
    assert before is not loaded.graph and loaded.graph.nodes[loaded.graph.shifts[0]] is not before.nodes[before.shifts[0]]
    compare_with_runtime(loaded, prop, 0)
    point = np.zeros((1, 2), dtype=np.float32)
    assert Replayer(loaded, prop).run(point)[0] == pytest.approx(exact(point)[0], abs=1e-4)


@pytest.mark.parametrize(("shift", "verdict"), [(-0.01, "unsat"), (0.01, "sat")])
@pytest.mark.parametrize("attack", [True, False])
def test_a_true_property_is_proven_and_a_false_one_is_not(shift: float, verdict: str, attack: bool) -> None:
    prop = unsafe_below(float(Fraction(smallest_first_output() + shift).limit_denominator(2**20)))
    outcome = engine.run(network(), prop, Options("m", "p", timeout=60, nodes=3000, threads=1, no_attack=not attack))
    assert outcome.verdict == (verdict if attack or verdict == "unsat" else "unknown")


def test_logits_that_overflow_are_left_alone() -> None:
    """1e38 to the 16th is no float64: the shift would be infinite."""
    squares = [helper.make_node("Mul", [a, a], [b]) for a, b in ("xs", "sh", "hk", "kl")]
    prop = text([("1e38", "2e38"), ("0", "1")], 2, "(<= Y_0 0)")
    loaded = model([*squares, helper.make_node("Softmax", ["l"], ["y"], axis=1)], 2, 2)
    problem = compile_problem(loaded.graph, prop)
    assert all(getattr(node, "bias", None) is None or np.isfinite(node.bias).all() for node in problem.graph.nodes)
