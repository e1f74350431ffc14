"""What is told of slopes: numbers that a checker can use whose bounds are a little wider."""

from __future__ import annotations

import numpy as np
import torch
from small_networks import relu_net

from bounds.linear import LinearBounds, State
from bounds.torch_graph import TorchGraph
from verifier.events import Places
from verifier.multipliers import gathered


def test_where_a_neuron_is_decided_its_own_slope_is_told() -> None:
    """It was 0, which is exact there, and costs all of a neuron that is active when the checker finds it undecided by a rounding."""
    bounds = LinearBounds(TorchGraph(relu_net(np.eye(4), np.zeros(4), np.ones((4, 1)), np.zeros(1)).graph, torch.float32))
    node, j = next((i, n.inputs[0]) for i, n in bounds.graph if type(n).__name__ == "Elementwise")
    size = bounds.graph.nodes[j].size
    low, high = torch.tensor([[0.0, -2.0, -1.0, -3.0]]), torch.tensor([[5.0, -1.0, 1.0, 2.0]])
    state = State(lower=[torch.zeros(1, n.size) for _, n in bounds.graph], upper=[torch.ones(1, n.size) for _, n in bounds.graph])
    state.lower[j], state.upper[j] = low, high
    slopes = {node: (torch.full((1, 1, size), 0.25), None)}
    told = gathered(bounds, state, Places(((node, 0, np.arange(size)),)), slopes, torch.tensor([0]), torch.tensor([0]))
    assert told.tolist() == [[1.0, 0.0, 0.25, 0.25]]
