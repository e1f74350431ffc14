"""Operators that few networks hold: means of several tensors, normalisation over neighbouring channels, resizing."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from benchmarks.soundness import elementary
from benchmarks.soundness.elementary import Enclosure
from benchmarks.soundness.operators_linear import reciprocal
from benchmarks.soundness.rule import Call, Rule, UnknownOperator, Value
from benchmarks.soundness.tensor import Tensor, of_enclosures, of_fractions

ROOTS = {Fraction(1, 4): 1, Fraction(1, 2): 2, Fraction(3, 4): 3, Fraction(1): 4}  # powers of the fourth root


def _mean(call: Call) -> Value:
    total = call.tensor(0)
    for i in range(1, len(call.inputs)):
        total = total + call.tensor(i)
    return total.scaled(Fraction(1, len(call.inputs)))


def _fourth_root(value: Fraction) -> Enclosure:
    """Encloses value ** (1/4)."""
    low, high = elementary.sqrt(value)
    return elementary.sqrt(low)[0], elementary.sqrt(high)[1]


def _local_response(call: Call) -> Value:
    """x / (bias + alpha / size * the sum of squares of `size` channels around) ** beta."""
    x, size = call.tensor(0), call.take("size")
    alpha, beta, bias = (Fraction(call.take(n, float(np.float32(d)))) for n, d in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    if beta not in ROOTS:
        raise UnknownOperator(f"LRN with beta {float(beta):g}")
    if size % 2 == 0:  # onnxruntime refuses it
        raise UnknownOperator(f"LRN over {size} channels")
    channels = x.shape[1]
    near = np.zeros((channels, channels), dtype=object)
    for c in range(channels):
        near[c, max(0, c - size // 2) : c + size // 2 + 1] = 1
    weights = of_fractions([Fraction(int(v)) for v in near.reshape(-1)], near.shape)
    squares = weights.product(x * x, lambda a, b: np.moveaxis(np.tensordot(a, b, axes=([1], [1])), 0, 1))
    sums = squares.scaled(alpha / size) + of_fractions([bias], ())
    roots = of_enclosures([(_fourth_root(a)[0], _fourth_root(b)[1]) for a, b in sums.enclosures()], sums.shape)
    power = roots
    for _ in range(ROOTS[beta] - 1):
        power = power * roots
    return x * reciprocal(power)


# --- Resize, from opset 11 on, and Upsample ----------------------------------------------------------------------------------------

_PLACES: dict[str, Callable[[int, int, int, Fraction], Fraction]] = {  # (output place, input size, output size, scale) -> input place
    "half_pixel": lambda i, n, m, scale: (i + Fraction(1, 2)) / scale - Fraction(1, 2),
    "asymmetric": lambda i, n, m, scale: i / scale,
    "align_corners": lambda i, n, m, scale: Fraction(i * (n - 1), m - 1) if m > 1 else Fraction(0),
}
_NEAREST: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda v: math.ceil(v - Fraction(1, 2)), "round_prefer_ceil": lambda v: math.floor(v + Fraction(1, 2)),
    "floor": math.floor, "ceil": math.ceil,
}  # fmt: skip


def _resize(call: Call) -> Value:
    mode, where = call.take("mode", "nearest"), call.take("coordinate_transformation_mode", "half_pixel")
    nearest, coefficient = call.take("nearest_mode", "round_prefer_floor"), call.take("cubic_coeff_a")
    if call.opset < 11 or where not in _PLACES or nearest not in _NEAREST or mode not in ("nearest", "linear") or coefficient is not None:
        raise UnknownOperator(f"Resize in mode {mode}, {where}, {nearest} (opset {call.opset})")
    if call.has(3) or not call.has(2):
        raise UnknownOperator("Resize by sizes")
    return _scaled_axes(call.tensor(0), list(call.tensor(2).numbers().reshape(-1)), mode, where, nearest)


def _upsample(call: Call) -> Value:
    if call.take("mode", "nearest") != "nearest" or not call.has(1):
        raise UnknownOperator("Upsample that is not nearest, or whose scales are an attribute")
    return _scaled_axes(call.tensor(0), list(call.tensor(1).numbers().reshape(-1)), "nearest", "asymmetric", "floor")


def _scaled_axes(x: Tensor, scales: list[Fraction], mode: str, where: str, nearest: str) -> Tensor:
    for axis, scale in enumerate(scales):
        size = x.shape[axis]
        count = math.floor(size * scale)
        if scale != 1:
            places = [_PLACES[where](i, size, count, scale) for i in range(count)]
            weights = _weights(places, size, _NEAREST[nearest] if mode == "nearest" else None)
            x = weights.product(x, lambda a, b, axis=axis: np.moveaxis(np.tensordot(a, b, axes=([1], [axis])), 0, axis))
    return x


def _weights(places: list[Fraction], size: int, nearest: Callable[[Fraction], int] | None) -> Tensor:
    """[output, input]: what each output takes of each input; places outside count as the border."""
    table = [[Fraction(0)] * size for _ in places]
    for row, place in zip(table, places, strict=True):
        if nearest is not None:
            row[min(max(nearest(place), 0), size - 1)] = Fraction(1)
            continue
        inside = min(max(place, Fraction(0)), Fraction(size - 1))
        low = min(math.floor(inside), max(size - 2, 0))
        row[low] += 1 - (inside - low)
        if size > 1:
            row[low + 1] += inside - low
    return of_fractions([v for row in table for v in row], (len(places), size))


RARE: dict[str, Rule] = {"Mean": _mean, "LRN": _local_response, "Resize": _resize, "Upsample": _upsample}
