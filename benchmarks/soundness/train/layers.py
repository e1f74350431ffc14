"""Architectures as data, and one walk that writes them in any language: torch tensors (network.py) or ONNX nodes (export.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

Shape = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class Dense:
    """A linear layer over the last axis, to `size` values."""

    size: int


@dataclass(frozen=True)
class Conv:
    """[C, H, W] to [channels, H', W'], square kernel."""

    channels: int
    kernel: int
    stride: int = 1
    pad: int = 0


@dataclass(frozen=True)
class AveragePool:
    """Square kernel; `counts_padding`: whether padded zeros are in the denominator."""

    kernel: int
    stride: int
    pad: int = 0
    counts_padding: bool = False


@dataclass(frozen=True)
class Activation:
    """Relu, Tanh or Sigmoid."""

    kind: str


@dataclass(frozen=True)
class Flatten:
    """To one axis."""


@dataclass(frozen=True)
class Residual:
    """body(x) + carrier(x); an empty carrier is x itself. A carrier without activation is where alpha-beta-CROWN #103 was wrong."""

    body: tuple[Layer, ...]
    carrier: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Tokens:
    """[E, H, W] to [H W, E]."""


@dataclass(frozen=True)
class Attention:
    """Self-attention of [T, E] with `heads` heads and its output projection (Vaswani et al. 2017), no mask, no normalisation."""

    heads: int


@dataclass(frozen=True)
class TokenMean:
    """[T, E] to [E]."""


Layer = Dense | Conv | AveragePool | Activation | Flatten | Residual | Tokens | Attention | TokenMean


class Language(Protocol[T]):
    """What an architecture is written in. Shapes are without the batch."""

    def parameter(self, shape: Shape, fan_in: int) -> T: ...
    def shape(self, x: T) -> Shape: ...
    def dense(self, x: T, weight: T, bias: T) -> T: ...
    def conv(self, x: T, weight: T, bias: T, layer: Conv) -> T: ...
    def average_pool(self, x: T, layer: AveragePool) -> T: ...
    def activation(self, x: T, kind: str) -> T: ...
    def add(self, a: T, b: T) -> T: ...
    def scale(self, x: T, factor: float) -> T: ...
    def matmul(self, a: T, b: T) -> T: ...
    def softmax(self, x: T) -> T: ...
    def reshape(self, x: T, shape: Shape) -> T: ...
    def transpose(self, x: T, order: tuple[int, ...]) -> T: ...
    def mean(self, x: T, axis: int) -> T: ...


def write(layers: Sequence[Layer], x: T, language: Language[T]) -> T:
    """The output of `layers` at x. Parameters are asked for in the order of the layers, a weight before its bias."""
    for layer in layers:
        x = _layer(layer, x, language)
    return x


def _layer(layer: Layer, x: T, to: Language[T]) -> T:
    match layer:
        case Dense(size):
            return _dense(x, size, to)
        case Conv(channels, kernel):
            shape = (channels, to.shape(x)[0], kernel, kernel)
            fan_in = shape[1] * kernel * kernel
            return to.conv(x, to.parameter(shape, fan_in), to.parameter((channels,), fan_in), layer)
        case AveragePool():
            return to.average_pool(x, layer)
        case Activation(kind):
            return to.activation(x, kind)
        case Flatten():
            size = 1
            for n in to.shape(x):
                size *= n
            return to.reshape(x, (size,))
        case Residual(body, carrier):
            return to.add(write(body, x, to), write(carrier, x, to))
        case Tokens():
            channels, height, width = to.shape(x)
            return to.transpose(to.reshape(x, (channels, height * width)), (1, 0))
        case Attention(heads):
            return _attention(x, heads, to)
        case TokenMean():
            return to.mean(x, 0)
    raise TypeError(f"no way to write {layer}")


def _dense(x: T, size: int, to: Language[T]) -> T:
    fan_in = to.shape(x)[-1]
    return to.dense(x, to.parameter((fan_in, size), fan_in), to.parameter((size,), fan_in))


def _attention(x: T, heads: int, to: Language[T]) -> T:
    """Softmax(Q K^T / sqrt(width)) V per head, then a projection."""
    tokens, size = to.shape(x)
    if size % heads:
        raise ValueError(f"{size} features do not divide into {heads} heads")
    width = size // heads

    def split(order: tuple[int, ...]) -> T:
        return to.transpose(to.reshape(_dense(x, size, to), (tokens, heads, width)), order)

    query, key, value = split((1, 0, 2)), split((1, 2, 0)), split((1, 0, 2))
    weights = to.softmax(to.scale(to.matmul(query, key), width**-0.5))
    mixed = to.reshape(to.transpose(to.matmul(weights, value), (1, 0, 2)), (tokens, size))
    return _dense(mixed, size, to)
