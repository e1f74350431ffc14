"""Architectures in torch, over a flat list of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.soundness.train.architectures import Architecture
from benchmarks.soundness.train.layers import AveragePool, Conv, Shape, write

ACTIVATIONS = {"Relu": torch.relu, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid}


class Torch:
    """A `Language` of batched tensors [B, ...]; parameters come from a list.

    On images this small a convolution is fastest as a matrix. `matrices` keeps them from one evaluation to the next, while no parameter changes.
    """

    def __init__(self, parameters: Sequence[Tensor], matrices: dict[int, Tensor] | None = None) -> None:
        self._parameters: Iterator[Tensor] = iter(parameters)
        self._matrices = matrices

    def parameter(self, shape: Shape, fan_in: int) -> Tensor:
        found = next(self._parameters)
        if found.shape != shape:
            raise ValueError(f"a parameter of shape {tuple(found.shape)} where {shape} is needed")
        return found

    def shape(self, x: Tensor) -> Shape:
        return tuple(x.shape[1:])

    def dense(self, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return x @ weight + bias

    def conv(self, x: Tensor, weight: Tensor, bias: Tensor, layer: Conv) -> Tensor:
        sides = tuple((n + 2 * layer.pad - layer.kernel) // layer.stride + 1 for n in self.shape(x)[1:])
        matrix = None if self._matrices is None else self._matrices.get(id(weight))
        if matrix is None:
            size = prod(self.shape(x))
            units = torch.eye(size).reshape(size, *self.shape(x))
            matrix = functional.conv2d(units, weight, stride=layer.stride, padding=layer.pad).flatten(1)
        if self._matrices is not None:
            matrix = self._matrices[id(weight)] = matrix.detach()
        return (x.flatten(1) @ matrix).reshape(len(x), layer.channels, *sides) + bias[:, None, None]

    def average_pool(self, x: Tensor, layer: AveragePool) -> Tensor:
        matrix, shape = _pool_matrix(layer, self.shape(x))
        return (x.flatten(1) @ matrix).reshape(len(x), self.shape(x)[0], *shape)

    def activation(self, x: Tensor, kind: str) -> Tensor:
        return ACTIVATIONS[kind](x)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def scale(self, x: Tensor, factor: float) -> Tensor:
        return x * factor

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    def softmax(self, x: Tensor) -> Tensor:
        return x.softmax(dim=-1)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        return x.reshape(len(x), *shape)

    def transpose(self, x: Tensor, order: tuple[int, ...]) -> Tensor:
        return x.permute(0, *(axis + 1 for axis in order))

    def mean(self, x: Tensor, axis: int) -> Tensor:
        return x.mean(dim=axis + 1)


@cache
def _pool_matrix(layer: AveragePool, shape: Shape) -> tuple[Tensor, Shape]:
    """Average pooling as a matrix [inputs, outputs], and the sides of what it makes."""
    units = torch.eye(prod(shape)).reshape(-1, *shape)
    made = functional.avg_pool2d(units, layer.kernel, layer.stride, layer.pad, count_include_pad=layer.counts_padding)
    return made.flatten(1), tuple(made.shape[2:])


class _Fresh(Torch):
    """The same, making every parameter when it is first asked for: uniform, weights of variance 2 gain^2 / fan-in (He et al. 2015)."""

    def __init__(self, generator: torch.Generator, gain: float) -> None:
        super().__init__(())
        self._gain = gain
        self.made: list[Tensor] = []
        self._generator = generator

    def parameter(self, shape: Shape, fan_in: int) -> Tensor:
        limit = self._gain * (6.0 / fan_in) ** 0.5 if len(shape) > 1 else fan_in**-0.5
        self.made.append((2 * torch.rand(shape, generator=self._generator) - 1) * limit)
        return self.made[-1]


class Network:
    """`parameters` are trained in place; `margins(x, labels)` is what a property is about."""

    def __init__(self, architecture: Architecture, parameters: Sequence[Tensor]) -> None:
        self.architecture = architecture
        self.parameters = list(parameters)

    @classmethod
    def fresh(cls, architecture: Architecture, seed: int) -> Network:
        """With random parameters."""
        language = _Fresh(torch.Generator().manual_seed(seed), architecture.gain)
        write(architecture.layers, torch.zeros(1, *architecture.shape), language)
        return cls(architecture, [p.requires_grad_(True) for p in language.made])

    def size(self) -> int:
        """The number of parameters."""
        return sum(prod(p.shape) for p in self.parameters)

    def outputs(self, x: Tensor, matrices: dict[int, Tensor] | None = None) -> Tensor:
        """x: [B, n] flat. Returns [B, 2]. `matrices`: of a series of evaluations between which no parameter changes, and that train none."""
        return write(self.architecture.layers, x.reshape(len(x), *self.architecture.shape), Torch(self.parameters, matrices))

    def margins(self, x: Tensor, labels: Tensor, matrices: dict[int, Tensor] | None = None) -> Tensor:
        """Output of the label less the other output [B]: at most 0 is a violation."""
        y = self.outputs(x, matrices)
        return (y[:, 0] - y[:, 1]) * (1 - 2 * labels)
