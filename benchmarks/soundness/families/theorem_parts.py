"""Networks whose largest score over a box is a theorem, with the point where it is attained.

Every construction draws its numbers from one generator and adds the nodes of a score [1, 1]. What the theorem needs of the weights is read back
from the file by its `holds`, in exact rationals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
from onnx import numpy_helper

from benchmarks.soundness.families.forms import exactly
from benchmarks.soundness.instance import Array
from benchmarks.soundness.net import Net


@dataclass(frozen=True, eq=False)
class Made:
    """A network without its property. The score is largest at `point` [n], or, where that is None, at one of the corners of the box. `size` is
    about what a score adds up."""

    net: Net
    output: str
    shape: tuple[int, ...]
    lower: Array
    upper: Array
    point: Array | None
    size: float


@dataclass(frozen=True)
class Theorem:
    """`make(rng, **setting)`; `holds(constants)`: whether the file's float constants meet the hypotheses; `because`: the argument."""

    name: str
    make: Callable[..., Made]
    holds: Callable[[list[Array]], bool]
    because: str
    settings: tuple[Mapping[str, int], ...]


def constants(model: onnx.ModelProto) -> list[Array]:
    """The float initializers of a file in their order, as Fractions, without the threshold that is an output (`forms.question`)."""
    found = [a for a in (numpy_helper.to_array(t) for t in model.graph.initializer) if a.dtype == np.float32]
    outputs = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    return [np.array(exactly(a), dtype=object).reshape(a.shape) for a in found[: len(found) - (outputs == 2)]]


def box(rng: np.random.Generator, n: int) -> tuple[Array, Array]:
    """lower, upper [n]: eighths."""
    lower = rng.integers(-8, 5, n) / 8
    return lower, lower + rng.integers(3, 9, n) / 8


def _inner(rng: np.random.Generator, lower: Array, upper: Array) -> Array:
    """A point of sixty-fourths inside."""
    return lower + np.floor((upper - lower) * 64 * rng.random(lower.size)) / 64


def _layers(net: Net, value: str, sizes: tuple[int, ...], positive: bool = False) -> str:
    """Random dense layers, Relu between them."""
    for i in range(len(sizes) - 1):
        weights = np.round(net.draw(sizes[i], sizes[i + 1], positive=positive) * 64 / sizes[i]) / 64
        value = net.node("Gemm", value, net.constant(weights), net.constant(net.draw(sizes[i + 1]) / 4))
        value = net.node("Relu", value) if i + 2 < len(sizes) else value
    return value


def projection(rng: np.random.Generator, inputs: int, hidden: int, depth: int, exceeding: int = 0) -> Made:
    """x -> relu(a - x) + relu(x - b) + c with the box within [a, b]: one point for all that follows."""
    net = Net(rng)
    lower, upper = box(rng, inputs)
    slack = rng.integers(0, 3, (2, inputs)) / 64
    low = net.node("Relu", net.node("Sub", net.constant([lower - slack[0]]), "x"))
    high = net.node("Relu", net.node("Sub", "x", net.constant([upper + slack[1]])))
    value = net.node("Add", net.node("Add", low, high), net.numbers(1, inputs))
    score = _layers(net, value, (inputs, *[hidden] * depth, 1))
    return Made(net, score, (1, inputs), lower, upper, _inner(rng, lower, upper), 64.0)


def _anything(file: list[Array]) -> bool:
    return True


def pairs(rng: np.random.Generator, inputs: int, count: int, kind: int = 0) -> Made:
    """score = - min over pairs of max(relu(w x + c + g), relu(g - w x - c)): every maximum is at least g, and one of them is g at `point`."""
    net = Net(rng)
    lower, upper = box(rng, inputs)
    point, g = _inner(rng, lower, upper), 0.125
    weights = net.draw(inputs, count)
    shifts = net.draw(count)
    shifts[0] = -float(point @ weights[:, 0])
    both = net.node("Gemm", "x", net.constant(np.concatenate([weights, -weights], axis=1)), net.constant(np.concatenate([shifts + g, g - shifts])))
    first, second = net.nodes_of("Split", [net.node("Relu", both)], 2, axis=1)
    larger = _maximum(net, first, second, by_relu=kind != 0)
    if kind == 2:
        smaller, parts = None, net.nodes_of("Split", [larger], count, axis=1)
        for part in parts:
            smaller = part if smaller is None else net.node("Sub", smaller, net.node("Relu", net.node("Sub", smaller, part)))
    else:
        smaller = net.node("ReduceMin", larger, axes=[1], keepdims=1)
    return Made(net, net.node("Neg", smaller or larger), (1, inputs), lower, upper, point, 32.0)


def _maximum(net: Net, a: str, b: str, by_relu: bool) -> str:
    """max(a, b), also as a + relu(b - a)."""
    return net.node("Add", a, net.node("Relu", net.node("Sub", b, a))) if by_relu else net.node("Max", a, b)


def _paired(file: list[Array]) -> bool:
    """Gemm's weights are [W, -W], its shifts [c + g, g - c] with one g > 0 for all."""
    weights, shifts = file[0], file[1]
    half = weights.shape[1] // 2
    sums = shifts[:half] + shifts[half:]
    return bool((weights[:, :half] == -weights[:, half:]).all() and (sums == sums[0]).all() and sums[0] > 0)


def corners(rng: np.random.Generator, inputs: int, hidden: int, varying: int, deep: int = 0) -> Made:
    """A sum of hinges with weights that are not negative is convex; with `deep`, two such layers and a skip connection (Amos et al. 2017)."""
    net = Net(rng)
    lower, upper = box(rng, inputs)
    fixed = rng.permutation(inputs)[varying:]
    upper[fixed] = lower[fixed]
    value = net.node("Relu", net.node("Gemm", "x", net.constant(net.draw(inputs, hidden) / 2), net.constant(net.draw(hidden))))
    if deep:
        mixed = net.node("MatMul", value, net.constant(net.draw(hidden, hidden, positive=True) / 8))
        skipped = net.node("Gemm", "x", net.constant(net.draw(inputs, hidden) / 2), net.constant(net.draw(hidden)))
        value = net.node("Relu", net.node("Add", mixed, skipped))
    score = net.node("MatMul", value, net.constant(net.draw(hidden, 1, positive=True) / 4))
    return Made(net, score, (1, inputs), lower, upper, None, 8.0 * hidden)


def _convex(file: list[Array]) -> bool:
    """What is applied behind a Relu is not negative: the last weights, and the third constant of a deep one."""
    last = file[2:3] if len(file) == 3 else [file[2], file[5]]
    return all(bool((a >= 0).all()) for a in last)


def paired_bias(rng: np.random.Generator, size: int, channels: int, kind: int = 0) -> Made:
    """score = - sum a (relu(s + b) - relu(s + c)) with b > c and a > 0, s a convolution: never above 0, and 0 at `point`, where all are off."""
    net = Net(rng)
    shape = (1, 1, size, size)
    lower, upper = box(rng, size * size)
    point = _inner(rng, lower, upper)
    kernels = net.draw(channels, 1, 3, 3)
    image = point.reshape(size, size)
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3))
    most = np.einsum("ijkl,ckl->cij", windows, kernels[:, 0]).max(axis=(1, 2))
    low = -most - 0.25
    if kind == 0:
        both = net.node("Conv", "x", net.constant(np.concatenate([kernels, kernels])), net.constant(np.concatenate([low, low - 0.5])))
        upper_part, lower_part = net.nodes_of("Split", [net.node("Relu", both)], 2, axis=1)
    else:  # the same sum, biased twice
        plain = net.node("Conv", "x", net.constant(kernels))
        biases = [net.constant(b.reshape(1, channels, 1, 1)) for b in (low, low - 0.5)]
        upper_part, lower_part = (net.node("Relu", net.node("Add", plain, b)) for b in biases)
    weights = net.constant(net.draw(channels, size - 2, size - 2, positive=True).reshape(-1, 1) / 4)
    gap = net.row(net.node("Sub", upper_part, lower_part))
    return Made(net, net.node("Neg", net.node("MatMul", gap, weights)), shape, lower, upper, point, 8.0 * channels * size**2)


def _biased(file: list[Array]) -> bool:
    """The same kernels under both biases, the first of which is larger; weights that are positive."""
    if len(file) == 3:
        half = len(file[1]) // 2
        same, first, second, last = bool((file[0][:half] == file[0][half:]).all()), file[1][:half], file[1][half:], file[2]
    else:
        same, first, second, last = True, file[1], file[2], file[3]
    return same and bool((first > second).all() and (last > 0).all())


def rising(rng: np.random.Generator, inputs: int, hidden: int, depth: int, kind: int = 0) -> Made:
    """Weights that are not negative and activations that never decrease: largest where every input is."""
    net = Net(rng)
    lower, upper = box(rng, inputs)
    value = "x"
    for width in [hidden] * depth:
        before = inputs if value == "x" else hidden
        weights = np.round(net.draw(before, width, positive=True) * 64 / before) / 64
        value = net.node("Gemm", value, net.constant(weights), net.constant(net.draw(width) / 4))
        activation = ("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Softplus")[kind]
        value = net.node(activation, value, alpha=0.25) if activation == "LeakyRelu" else net.node(activation, value)
    score = net.node("MatMul", value, net.constant(net.draw(hidden, 1, positive=True) / 4))
    return Made(net, score, (1, inputs), lower, upper, upper, 8.0 * hidden)


def _rises(file: list[Array]) -> bool:
    """Every matrix is without negative numbers."""
    return all(bool((a >= 0).all()) for a in file if a.ndim == 2)


IDENTITIES: tuple[Callable[[Net, str], str], ...] = (
    lambda net, s: net.node("Sub", net.node("Sub", net.node("Relu", s), net.node("Relu", net.node("Neg", s))), s),
    lambda net, s: net.node("Sub", net.node("Add", net.node("Relu", s), net.node("Relu", net.node("Neg", s))), net.node("Abs", s)),
    lambda net, s: net.node("Sub", net.node("Add", net.node("Max", s, net.constant(0.5)), net.node("Min", s, net.constant(0.5))),
                            net.node("Add", s, net.constant(0.5))),
    lambda net, s: net.node("Sub", net.node("Add", net.node("Clip", s, net.constant(0.0), net.constant(1.0)),
                                            net.node("Relu", net.node("Sub", s, net.constant(1.0)))), net.node("Relu", s)),
    lambda net, s: net.node("Sub", net.node("Add", net.node("Sigmoid", s), net.node("Sigmoid", net.node("Neg", s))), net.constant(1.0)),
    lambda net, s: net.node("Add", net.node("Tanh", s), net.node("Tanh", net.node("Neg", s))),
    lambda net, s: net.node("Sub", net.node("Sub", net.node("Pow", net.node("Add", s, net.constant(1.0)), net.constant(2.0)),
                                            net.node("Pow", s, net.constant(2.0))),
                            net.node("Add", net.node("Mul", s, net.constant(2.0)), net.constant(1.0))),
    lambda net, s: net.node("Sub", net.node("Mul", net.node("LeakyRelu", s, alpha=0.25), net.constant(2.0)),
                            net.node("Add", net.node("Mul", s, net.constant(1.25)), net.node("Mul", net.node("Abs", s), net.constant(0.75)))),
    lambda net, s: net.node("Sub", net.node("Softplus", s), net.node("Add", net.node("Softplus", net.node("Neg", s)), s)),
)  # fmt: skip
"""s [1, k] -> what is 0 whatever s is."""


def identity(rng: np.random.Generator, inputs: int, count: int, kind: int) -> Made:
    """score = a sum of things that are 0, and a linear form: largest at the corner that the form's signs name."""
    net = Net(rng)
    lower, upper = box(rng, inputs)
    nothing = IDENTITIES[kind](net, net.node("Gemm", "x", net.constant(net.draw(inputs, count) / 2), net.constant(net.draw(count) / 4)))
    form = net.draw(inputs)
    linear = net.node("MatMul", "x", net.constant(form.reshape(-1, 1) / 8))
    score = net.node("Add", linear, net.node("MatMul", nothing, net.constant(net.draw(count, 1) / 4)))
    return Made(net, score, (1, inputs), lower, upper, np.where(form > 0, upper, lower), 16.0 * count)


def tents(rng: np.random.Generator, depth: int, inputs: int) -> Made:
    """The mean of t(t(...t(x_i))), t(x) = 2 relu(x) - 4 relu(x - 1/2) maps [0, 1] to itself: 2^depth pieces (Telgarsky 2016)."""
    net = Net(rng)
    point = (2 * rng.integers(0, 2 ** (depth - 1), inputs) + 1) / 2.0**depth
    value = "x"
    for _ in range(depth):
        up = net.node("Mul", net.node("Relu", value), net.constant(2.0))
        value = net.node("Sub", up, net.node("Mul", net.node("Relu", net.node("Sub", value, net.constant(0.5))), net.constant(4.0)))
    score = net.node("ReduceMean", value, axes=[1], keepdims=1)
    return Made(net, score, (1, inputs), np.zeros(inputs), np.ones(inputs), point, 2.0)


def _tents(file: list[Array]) -> bool:
    """Nothing but 2, 1/2 and 4, in this order."""
    expected = [Fraction(2), Fraction(1, 2), Fraction(4)]
    return len(file) % 3 == 0 and all(a.item() == expected[i % 3] for i, a in enumerate(file))


def _settings(**knobs: tuple[int, ...]) -> tuple[Mapping[str, int], ...]:
    """One setting for every position of the tuples."""
    return tuple(dict(zip(knobs, row, strict=True)) for row in zip(*knobs.values(), strict=True))


THEOREMS = (
    Theorem("projection", projection, _anything, "the first layer maps the whole box to one point (embedded projection)",
            _settings(inputs=(2, 8, 20, 40, 80), hidden=(8, 12, 16, 16, 24), depth=(1, 2, 2, 3, 4))),
    Theorem("pairs", pairs, _paired, "of max(g + s, g - s) one is at least g, so the minimum over all pairs is (mutually exclusive pairs)",
            _settings(inputs=(2, 3, 5, 8, 12, 20, 4, 6), count=(2, 4, 6, 10, 16, 24, 5, 8), kind=(0, 1, 2, 0, 1, 0, 2, 1))),
    Theorem("corners", corners, _convex, "the score is convex, so it is largest at a corner, and all corners are evaluated in rationals",
            _settings(inputs=(2, 4, 6, 10, 20, 30), hidden=(4, 8, 10, 16, 20, 24), varying=(2, 4, 5, 6, 6, 5), deep=(0, 0, 1, 0, 1, 1))),
    Theorem("bias", paired_bias, _biased, "relu(s + b) >= relu(s + c) for b > c, so no difference is below 0 (paired bias)",
            _settings(size=(3, 4, 4, 5, 6, 8), channels=(1, 1, 2, 2, 3, 4), kind=(0, 1, 0, 1, 0, 0))),
    Theorem("rising", rising, _rises, "the score never decreases in any input, so it is largest where all are",
            _settings(inputs=(3, 5, 8, 12, 6, 20), hidden=(6, 8, 8, 12, 8, 16), depth=(1, 2, 2, 3, 2, 3), kind=(0, 1, 2, 3, 4, 1))),
    Theorem("identity", identity, _anything, "the non-linear part is 0 everywhere by an identity, and the rest is linear",
            _settings(inputs=(2, 3, 4, 3, 3, 4, 2, 5, 3), count=(3, 5, 4, 4, 3, 4, 3, 6, 3), kind=(0, 1, 2, 3, 4, 5, 6, 7, 8))),
    Theorem("tents", tents, _tents, "the tent map takes [0, 1] to itself, however often it is applied",
            _settings(depth=(2, 3, 4, 6, 5, 3), inputs=(1, 1, 1, 1, 2, 3))),
)  # fmt: skip
