"""Constant factors of a chain of affine operators of float32, wherever they are applied: what slack must pay for flushing, and where numbers end.

A runtime may apply a factor before what it follows and after what follows it: x 2^-90 W as (x W) 2^-90, which overflows where the file's order
does not, and (x 2^90) W as (x W) 2^90, which multiplies what was flushed. So magnitudes are taken with no factor less than 1, and losses times
all factors that may come later.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from verifier.checker import arithmetic
from verifier.checker.arithmetic import Array
from verifier.checker.maps import Dense
from verifier.checker.network import Affine, Constant, Elementwise, MatMul, Node, Pieces, Product

NONE, ONE = np.zeros((1, 1)), np.ones((1, 1))


@dataclass(frozen=True)
class Moved:
    """Of a chain, with constant factors wherever they may be [B, 1]: its largest number, and that on the way there; what flushing may lose, and by
    how much factors that come later may multiply that."""

    peak: Array
    most: Array
    lost: Array
    gain: Array


def start(big: Array) -> Moved:
    """Where a chain starts: at numbers of these magnitudes [B, size]."""
    peak = big.max(-1, keepdims=True)
    return Moved(peak, peak, NONE, ONE)


def carry(node: Node, parts: list[Moved], steep: list[float], terms: int, widest: int) -> Moved | None:
    """Through a node of an operator: of its inputs `parts`, the largest row sums of its maps, the terms of a product of matrices, and most
    elements of a tensor of the chain (0: nothing is flushed). None where no factor passes."""
    peaks, most, gain = sum((x.peak for x in parts), NONE), NONE, ONE
    for x in parts:
        most, gain = np.maximum(most, x.most), np.maximum(gain, x.gain)
    flushed = arithmetic.THETA * (1 + widest * peaks) * bool(widest)
    match node:
        case Constant():
            return start((np.abs(node.value) + node.radius)[None])
        case Affine():
            factor = all(m.products == 1 and not isinstance(m, Dense) for m in node.maps)
            norms = [np.maximum(a, 1.0) if factor else a for a in steep]
            peak = sum((a * x.peak for a, x in zip(norms, parts, strict=True)), NONE)
            peak = peak + sum(np.abs(extra).max() for extra in (node.bias, node.bias_radius) if extra is not None)
            lost = sum((a * x.lost for a, x in zip(norms, parts, strict=True)), NONE)
            if factor:
                by = np.max(norms)
                return Moved(peak, np.maximum(peak, most * by), lost + gain * flushed * (2 * widest + 3) * sum(norms), gain * by)
            return Moved(peak, np.maximum(peak, most), lost + gain * flushed * (2 * widest + 2 + sum(norms)), gain)
        case Product() | MatMul():
            (x, y), n = parts, terms
            peak, both = n * x.peak * y.peak, x.gain * y.gain
            lost = n * (x.peak * y.lost + x.lost * y.peak + x.lost * y.lost)
            most = np.maximum(np.maximum(peak, most), 2 * both)  # the factors joined are a folded constant, of which half as much is allowed
            return Moved(peak, most, lost + both * flushed * (2 * n + 2), both)
        case Elementwise() if isinstance(node.function, Pieces) and not node.function.step:
            (x,), slope, high = parts, *steepest(node.function)
            peak = slope * x.peak + high
            return Moved(peak, np.maximum(peak, most), slope * x.lost + (4 + slope) * flushed * gain, gain)
    return None


def steepest(function: Pieces) -> tuple[float, float]:
    """The largest slope and intercept, in magnitude."""
    slope, high = (float(np.abs(np.array(x)).max(initial=0.0)) for x in (function.slopes, function.intercepts))
    return slope, high
