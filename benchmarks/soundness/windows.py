"""Where the windows of convolutions and pools lie, written from the ONNX standard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Axis:
    """Windows along one axis of `size` elements: `kernel` taps `dilation` apart, every `stride`, from `before` places ahead of the first
    element to `after` places behind the last."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    ceil: bool = False

    @property
    def reach(self) -> int:
        """From a window's first tap to its last, both included."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def count(self) -> int:
        """How many windows there are. With `ceil`, one that starts behind the last element and its padding before does not count."""
        room = self.size + self.before + self.after - self.reach
        if not self.ceil:
            return room // self.stride + 1
        windows = -(-room // self.stride) + 1
        return windows - 1 if (windows - 1) * self.stride >= self.size + self.before else windows

    def positions(self) -> Array:
        """int [count, kernel]: the element under each tap; outside [0, size) is padding."""
        return np.arange(self.count)[:, None] * self.stride + np.arange(self.kernel)[None, :] * self.dilation - self.before


def axes(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], pads: Sequence[int], auto: str, ceil: bool = False
) -> list[Axis]:
    """One Axis per spatial dimension. `pads` holds all begins, then all ends; `auto` is ONNX's auto_pad."""
    n, made = len(sizes), []
    for i in range(n):
        before, after = pads[i], pads[n + i]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            reach = (kernel[i] - 1) * dilations[i] + 1
            total = max(0, (-(-sizes[i] // strides[i]) - 1) * strides[i] + reach - sizes[i])
            small, large = total // 2, total - total // 2
            before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
        elif auto == "VALID":
            before = after = 0
        elif auto != "NOTSET":
            raise ValueError(f"auto_pad {auto!r}")
        made.append(Axis(sizes[i], kernel[i], strides[i], dilations[i], before, after, ceil))
    return made


def spread(array: Array, where: Sequence[Axis], filler: Any) -> Array:
    """[n, c, *sizes] -> [n, c, *counts, *kernels]: what lies under every tap of every window; `filler` in the padding."""
    for i, axis in enumerate(where):
        place = 2 + 2 * i
        edge = np.full([1 if j == place else d for j, d in enumerate(array.shape)], filler, dtype=array.dtype)
        positions = axis.positions()
        positions = np.where((positions < 0) | (positions >= axis.size), axis.size, positions)
        array = np.take(np.concatenate([array, edge], axis=place), positions, axis=place)
    n = len(where)
    return array.transpose(0, 1, *(2 + 2 * i for i in range(n)), *(3 + 2 * i for i in range(n)))


def inside(where: Sequence[Axis], padding: bool) -> Array:
    """bool [*counts, *kernels]: whether a tap lies on an element, or with `padding` on an element or its padding."""
    n = len(where)
    total = np.ones((), dtype=bool)
    for i, axis in enumerate(where):
        positions = axis.positions()
        low, high = (-axis.before, axis.size + axis.after) if padding else (0, axis.size)
        hit = (positions >= low) & (positions < high)
        total = total & hit.reshape([axis.count if j == i else axis.kernel if j == n + i else 1 for j in range(2 * n)])
    return total
