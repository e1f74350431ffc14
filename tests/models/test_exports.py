"""Small networks as people write them, exported by torch: what stands between the layers is what breaks readers."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from graph.load import load
from graph.selfcheck import compare
from verifier.checker import read_model

Forward = Callable[[nn.ModuleList, torch.Tensor], torch.Tensor]
IMAGE, ROW = (1, 3, 8, 8), (1, 6)


class Written(nn.Module):
    """A network whose forward pass is a function of its layers and the input."""

    def __init__(self, forward: Forward, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.written = nn.ModuleList(layers), forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.written(self.layers, x)


def detector(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    shared = functional.leaky_relu(layers[0](x), 0.1)
    heads = layers[1](shared), layers[2](functional.interpolate(shared, scale_factor=2))
    return torch.cat([head.permute(0, 2, 3, 1).reshape(1, -1, 4) for head in heads], 1)


def binarised(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    pooled = functional.max_pool2d(torch.sign(layers[1](layers[0](x))), 2)
    return layers[3](layers[2](pooled).flatten(1))  # type: ignore[no-any-return]


def masks(_: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    highest = (x == x.max(1, keepdim=True)[0]).float()
    return (x > 0.1).float() * x + ((x > 0) & (x < 1)).float() + 2 * highest


def rounded(_: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    return torch.floor(4 * x) / 4 + torch.round(x) + torch.ceil(x) + (8 * x).to(torch.int32).float() + torch.fmod(x, 0.7) + torch.remainder(x, 0.7)


def running(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    return functional.glu(layers[0](x)) + torch.cumsum(x, 1)[:, :3] + torch.prod(x.view(1, 2, 3), 1) + x.view(1, 3, 2).logsumexp(2)


def shapes(layers: nn.ModuleList, x: torch.Tensor) -> torch.Tensor:
    y = layers[0](x).view(x.shape[0], -1, x.size(2) // 2, 2).transpose(1, 2)
    return y.reshape(x.size(0), -1).unsqueeze(1)[:, :, ::3]


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "detector": (Written(detector, nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)), IMAGE),
    "binarised": (Written(binarised, nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Linear(36, 5)), IMAGE),
    "masks": (Written(masks), ROW),
    "rounded": (Written(rounded), ROW),
    "running": (Written(running, nn.Linear(6, 6)), ROW),
    "shapes": (Written(shapes, nn.Conv2d(3, 4, 1)), IMAGE),
}


@pytest.mark.parametrize("opset", [13, 17])
@pytest.mark.parametrize("name", NETWORKS)
def test_exported_networks_agree_with_onnxruntime_and_the_checker_reads_them(name: str, opset: int) -> None:
    network, shape = NETWORKS[name]
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (torch.rand(shape),), content, opset_version=opset, dynamo=False, input_names=["x"])
    loaded = load(content.getvalue())
    points: list[dict[str, Any]] = [{"x": (2 * np.random.default_rng(k).random(shape) - 1).astype(np.float32)} for k in range(3)]
    found = compare(loaded, points)
    assert found.compared > 0 and found.skipped == 0
    assert len(read_model.read(content.getvalue()).outputs) == 1
