"""The transpose of a convolution as convolutions: torch's transposed ones take two to four times as long for the same products."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor

from graph import linear_map as lm

Convolve = Callable[..., Tensor]


@dataclass(frozen=True)
class _Along:
    """One axis of a phase, the places first, first + stride, ... of the convolution's input: place first + stride u is the sum over j of
    weight[..., taps[j]] times the output's place u + lowest + step j. `count` places; `padding` zeros on both sides of the output are enough."""

    first: int
    count: int
    taps: tuple[int, ...]
    lowest: int
    step: int
    padding: int


class Transpose:
    """d -> d W for a convolution W: its input's places fall into phases by their remainders modulo the strides, each the places of a plain
    convolution of d by every stride-th entry of the kernel, in reverse. An element is the sum of the same products as in any other way."""

    def __init__(self, conv: lm.Conv, convolve: Convolve) -> None:
        self._conv, self._convolve = conv, convolve
        self._phases = list(product(*(_along(conv, axis) for axis in range(len(conv.kernel)))))
        self._full = all(along.taps for phase in self._phases for along in phase)

    def kernels(self, weight: Tensor) -> list[Tensor]:
        """The weight [C_out, C_in / groups, *kernel] as each phase's convolution takes it: [C_in, C_out / groups, *taps]."""
        groups, (outs, per_group, *kernel) = self._conv.groups, weight.shape
        turned = weight.reshape(groups, outs // groups, per_group, *kernel).transpose(1, 2).reshape(groups * per_group, outs // groups, *kernel)
        found = []
        for phase in self._phases:
            part = turned
            for axis, along in enumerate(phase):
                part = part.index_select(2 + axis, torch.tensor(along.taps, dtype=torch.long, device=weight.device))
            found.append(part.contiguous())
        return found

    def __call__(self, image: Tensor, kernels: list[Tensor]) -> Tensor:
        """`image` [N, C_out, *spatial] -> [N, C_in, *spatial of the input]."""
        c = self._conv
        if len(self._phases) == 1 and self._full:
            return self._phase(image, self._phases[0], kernels[0])
        make = torch.empty if self._full else torch.zeros  # a phase that no entry of the kernel reaches is 0
        total = make(len(image), *c.in_shape[1:], dtype=image.dtype, device=image.device)
        for phase, kernel in zip(self._phases, kernels, strict=True):
            if all(along.taps for along in phase):
                places: list[Any] = [slice(along.first, None, stride) for along, stride in zip(phase, c.strides, strict=True)]
                total[(..., *places)] = self._phase(image, phase, kernel)
        return total

    def _phase(self, image: Tensor, phase: tuple[_Along, ...], kernel: Tensor) -> Tensor:
        padding, step = tuple(along.padding for along in phase), tuple(along.step for along in phase)
        y = self._convolve(image, kernel, None, 1, padding, step, self._conv.groups)
        for axis, along in enumerate(phase):
            y = y.narrow(2 + axis, along.padding + along.lowest, along.count)
        return y


def _along(conv: lm.Conv, axis: int) -> list[_Along]:
    """All phases along one spatial axis: entry k of the kernel takes output place i to input place stride i + dilation k - pad."""
    stride, dilation, pad = conv.strides[axis], conv.dilations[axis], conv.pads_begin[axis]
    size, places = conv.in_shape[2 + axis], conv.out_shape[2 + axis]
    found = []
    for first in range(min(stride, size)):
        count = -(-(size - first) // stride)
        taps = [k for k in reversed(range(conv.kernel[axis])) if (first + pad - dilation * k) % stride == 0]
        reads = [(first + pad - dilation * k) // stride for k in taps]
        lowest, highest = (reads[0], reads[-1]) if reads else (0, 0)
        padding = max(-lowest, count + highest - places, 0)
        found.append(_Along(first, count, tuple(taps), lowest, dilation // math.gcd(dilation, stride), padding))
    return found
