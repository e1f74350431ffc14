"""Which precision a search begins with: what float32's rounding takes of a margin is judged the quick way as it is the long way."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from small_networks import text
from test_certificate import network

from bounds.torch_graph import TorchGraph
from graph.evaluate import evaluate
from verifier import portfolio, search
from verifier.problem import compile_problem


@pytest.mark.parametrize("room", [1e-2, 1e-5])
@pytest.mark.parametrize(
    "operators", [("Relu", "Relu", "Relu"), ("Tanh", "Sigmoid", "Tanh"), ("Softplus", "Erf", "Relu", "Softsign"), ("Sin", "Elu", "Cos")]
)
def test_hidden_bounds_of_float64_judge_like_refined_ones(operators: tuple[str, ...], room: float, monkeypatch: pytest.MonkeyPatch) -> None:
    net, box = network(3, *operators), [("-1", "1")] * 3
    value = float(evaluate(net.graph, [np.zeros((1, 3), np.float32)])[net.graph.outputs[0]].reshape(-1)[0])
    problem = compile_problem(net.graph, text(box, 2, f"(<= Y_0 {value - room:.12f})"))
    found = []
    for rows in (0, 10**9):  # from how many hidden elements on the quick way is taken
        monkeypatch.setattr(search, "CONSTANTS", dataclasses.replace(portfolio.CONSTANTS, double_gap=-1.0, refine_rows=rows))
        found.append(search.rounding_share(problem, TorchGraph(net.graph, torch.float32), 10**9))
    quick, long = found
    assert 0 < quick <= 2 * long and long <= 2 * quick
    assert (quick < portfolio.CONSTANTS.double_gap) == (long < portfolio.CONSTANTS.double_gap) == (room == 1e-2)
