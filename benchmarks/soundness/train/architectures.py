"""The models of the family: two of each kind or more, of another input size or depth. Not all are shipped: docs/soundness_hidden.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.soundness.train.layers import (
    Activation,
    Attention,
    AveragePool,
    Conv,
    Dense,
    Flatten,
    Layer,
    Residual,
    Shape,
    TokenMean,
    Tokens,
)  # fmt: skip

RELU = Activation("Relu")


@dataclass(frozen=True)
class Architecture:
    """Inputs of `shape` in [-1, 1], two outputs. `radius` is half the width of the boxes; `boxes` with a planted point, as many without."""

    shape: Shape
    layers: tuple[Layer, ...]
    radius: float
    boxes: int = 4
    steps: int = 2800
    rate: float = 4e-3
    slope: float = 1.0  # of the objectives that lead gradients away from planted points
    sideways: float = 4.0
    gain: float = 1.0  # of the first weights; a sigmoid passes on a quarter at most


def _dense(*sizes: int, kind: str = "Relu") -> tuple[Layer, ...]:
    return (*(layer for size in sizes for layer in (Dense(size), Activation(kind))), Dense(2))


def _block(size: int) -> tuple[Layer, ...]:
    return (Residual((Dense(size), RELU, Dense(size))), RELU)


def _encoder(size: int, heads: int) -> tuple[Layer, ...]:
    return (Residual((Attention(heads),)), Residual((Dense(2 * size), RELU, Dense(size))))


ARCHITECTURES: Mapping[str, Architecture] = {
    "mlp_a": Architecture((20,), _dense(64, 48, 24), 0.25, slope=4.0, sideways=0.0),
    "mlp_b": Architecture((24,), _dense(64, 48, 32, 24, 16), 0.25),
    "mlp_c": Architecture((48,), _dense(64, 48, 24), 0.25, steps=4000),
    "cnn_a": Architecture((1, 5, 5), (Conv(8, 3), RELU, Flatten(), *_dense(48, 24)), 0.25),
    "cnn_b": Architecture((2, 5, 5), (Conv(8, 3, 1, 1), RELU, Conv(12, 3, 2, 1), RELU, Flatten(), *_dense(48)), 0.25),
    "avgpool_a": Architecture(
        (1, 5, 5), (Conv(8, 3, 1, 1), RELU, AveragePool(3, 1, 1, True), Flatten(), *_dense(32, 16)), 0.25, steps=3500, slope=4.0, sideways=0.0
    ),
    "avgpool_b": Architecture(
        (3, 4, 4), (Conv(16, 3, 1, 1), RELU, AveragePool(2, 2, 1), Flatten(), *_dense(48, 24)), 0.25, boxes=3, steps=5000
    ),
    "residual_a": Architecture((24,), (Dense(32), RELU, *_block(32), *_block(32), Dense(2)), 0.25, slope=4.0, sideways=0.0),
    "residual_b": Architecture(
        (1, 5, 5),
        (
            Residual((Conv(6, 3, 1, 1), RELU, Conv(6, 3, 1, 1)), (Conv(6, 1),)), Residual((Conv(8, 3, 2, 1), RELU), (Conv(8, 1, 2),)),
            Flatten(), *_dense(40),
        ),
        0.25,
    ),
    "residual_c": Architecture((48,), (Dense(48), RELU, *_block(48), *_block(48), Dense(2)), 0.25, steps=4000),
    "tanh_a": Architecture((20,), _dense(64, 32, kind="Tanh"), 0.25, slope=4.0, sideways=0.0),
    "tanh_b": Architecture((1, 5, 5), (Conv(8, 3, 1, 0), Activation("Tanh"), Flatten(), *_dense(40, 16, kind="Tanh")), 0.25),
    "sigmoid_a": Architecture((24,), _dense(48, 24, kind="Sigmoid"), 0.25, rate=6e-3, gain=3.0),
    "sigmoid_b": Architecture((48,), _dense(64, 32, kind="Sigmoid"), 0.25, steps=6000, rate=6e-3, gain=3.0),
    "sigmoid_c": Architecture((64,), _dense(64, 32, kind="Sigmoid"), 0.25, steps=5000, rate=6e-3, gain=3.0),
    "vit_a": Architecture((1, 6, 6), (Conv(16, 3, 3), Tokens(), *_encoder(16, 2), TokenMean(), *_dense(24)), 0.25),
    "vit_b": Architecture((1, 4, 8), (Conv(12, 4, 2), Tokens(), *_encoder(12, 2), *_encoder(12, 2), Flatten(), *_dense(24)), 0.25),
    "vit_c": Architecture((1, 8, 8), (Conv(24, 4, 4), Tokens(), *_encoder(24, 2), Flatten(), *_dense(64, 32)), 0.25, boxes=3, steps=6000),
    "vit_d": Architecture((3, 4, 4), (Conv(18, 2, 2), Tokens(), *_encoder(18, 3), Flatten(), *_dense(48, 24)), 0.25, boxes=3, steps=4000),
}  # fmt: skip
