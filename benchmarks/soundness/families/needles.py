"""Planted needles: networks that are harmless but for one tiny region, with zero (or vanishing) gradient everywhere else.

    score(x) = base(x) + height * gate(z(x))        violation: score >= threshold

z is 1 at one point and falls off fast (`needle_parts`), so the gate opens in a tiny neighbourhood only. The base is a small random network, and
the threshold lies above all it can reach. Exact by construction: the planted point is where z is 1; the twins whose needle is too low are proven
by interval arithmetic in rationals on the file itself, over at most two parts of the box; rounding is monotone, so z is at most 1 in float32
too, and the score stays 1/8 below the threshold. This is the bump of research/soundness.md 1.11
(SoundnessBench, Zhou et al. 2024, plants by training what is planted here by construction), behind every kind of operator.

Four instances for each kind: one needle, high enough or not; two needles at different points, one of which is high enough, or neither, although
their sum would be (a verifier that adds up the two maxima does not decide it).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx

from benchmarks import formula
from benchmarks.exact.enumerate import unsafe_cases
from benchmarks.soundness import rational
from benchmarks.soundness.families import needle_parts as parts
from benchmarks.soundness.families.forms import FORMS, exactly, question
from benchmarks.soundness.families.needle_parts import Gate, Spot
from benchmarks.soundness.instance import Array, Instance, SuiteError
from benchmarks.soundness.net import Net
from benchmarks.soundness.recheck import margin

Distance = Callable[[Net, str, Spot], str]
NAME = "needles"
LEAST = Fraction(1, 8)  # that a score which is too low stays below the threshold, so that rounding does not matter
DEPTH, FACTOR = 3, 4.0  # layers that narrow, where there are any, and by how much each
BECAUSE = {
    True: "the needle at the planted point lifts the score above the threshold, exactly and in onnxruntime",
    False: "interval arithmetic in exact rationals, over {parts} of the box, keeps the score below the threshold by {gap:.3g}",
}


@dataclass(frozen=True)
class Kind:
    """A needle of `distance` behind `gate`, over inputs of `shape`; sharpness 1/width; `layers` that narrow it before the gate. Behind the first
    line that says `opset` are the kinds that came later: names and places of those before them stay."""

    name: str
    distance: Distance
    gate: Gate
    shape: tuple[int, ...]
    sharpness: float
    layers: int = 0
    opset: int = 13


ROW, IMAGE, DEEP = (1, 5), (1, 1, 4, 4), (1, 2, 6, 6)
KINDS = (
    Kind("relu", parts.hinges, parts.relu, (1, 3), 32.0), Kind("relu_wide", parts.hinges, parts.relu, (1, 60), 4.0),
    Kind("relu_deep", parts.hinges, parts.relu, ROW, 4.0, DEPTH), Kind("abs", parts.absolute, parts.relu, ROW, 64.0),
    Kind("leaky", parts.absolute, parts.leaky, ROW, 24.0), Kind("clip", parts.hinges, parts.clip, ROW, 40.0),
    Kind("max", parts.two_sided, parts.maximum, ROW, 32.0), Kind("min", parts.smallest, parts.minimum, ROW, 48.0),
    Kind("reduce_max", parts.largest, parts.relu, (1, 8), 64.0), Kind("max_pool", parts.pooled, parts.relu, IMAGE, 16.0),
    Kind("average_pool", parts.averaged, parts.relu, IMAGE, 16.0), Kind("global_average", parts.global_average, parts.clip, (1, 3, 3, 3), 12.0),
    Kind("reduce_mean", parts.reduced_mean, parts.maximum, ROW, 32.0), Kind("conv", parts.convolved, parts.relu, IMAGE, 16.0),
    Kind("conv_deep", parts.convolved_deep, parts.relu, DEEP, 2.0, 1), Kind("conv_transpose", parts.transposed, parts.relu, (1, 1, 3, 3), 8.0),
    Kind("batch_norm", parts.normalised, parts.relu, ROW, 48.0), Kind("residual", parts.residual, parts.relu, ROW, 8.0),
    Kind("pow", parts.squares, parts.relu, ROW, 32.0), Kind("mul_self", parts.products, parts.relu, ROW, 32.0),
    Kind("sqrt", parts.euclidean, parts.relu, (1, 4), 32.0), Kind("mul", parts.product_of_all, parts.relu, (1, 3), 48.0, 1),
    Kind("matmul", parts.inner_product, parts.relu, (1, 6), 24.0), Kind("div", parts.quotient, parts.relu, ROW, 32.0),
    Kind("reciprocal", parts.reciprocal, parts.relu, ROW, 32.0), Kind("exp", parts.decay, parts.exponential, ROW, 16.0),
    Kind("gather", parts.moved, parts.relu, (1, 8), 32.0), Kind("tanh_in", parts.detector, parts.relu, ROW, 32.0),
    Kind("sign", parts.hinges, parts.sign, (1, 3), 24.0),
    Kind("sigmoid", parts.hinges, parts.sigmoid, ROW, 8.0), Kind("tanh", parts.absolute, parts.tanh, ROW, 8.0),
    Kind("erf", parts.absolute, parts.erf, (1, 4), 8.0), Kind("softplus", parts.hinges, parts.softplus, ROW, 16.0),
    Kind("softmax", parts.absolute, parts.softmax, ROW, 8.0), Kind("sign_deep", parts.two_sided, parts.sign, ROW, 4.0, DEPTH),
    Kind("sigmoid_conv", parts.convolved, parts.sigmoid, DEEP, 2.0), Kind("softmax_pool", parts.pooled, parts.softmax, IMAGE, 8.0),
    Kind("sin", parts.sines, parts.relu, ROW, 16.0), Kind("cos", parts.cosines, parts.relu, ROW, 24.0),
    Kind("top_first", parts.first_of_all, parts.relu, (1, 8), 64.0), Kind("top_last", parts.last_of_all, parts.relu, ROW, 48.0),
    Kind("einsum", parts.named_product, parts.relu, (1, 6), 24.0), Kind("resize", parts.resized, parts.relu, IMAGE, 8.0),
    Kind("layer_norm", parts.hinges, parts.layer_norm, ROW, 32.0, opset=17), Kind("cast", parts.hinges, parts.compared, ROW, 16.0),
    Kind("where", parts.absolute, parts.chosen, ROW, 16.0), Kind("floor", parts.hinges, parts.floor, ROW, 16.0),
    Kind("ceil", parts.absolute, parts.ceil, ROW, 16.0), Kind("round", parts.two_sided, parts.rounded, ROW, 16.0),
    Kind("hard_sigmoid", parts.absolute, parts.hard_sigmoid, ROW, 24.0), Kind("elu", parts.hinges, parts.elu, ROW, 16.0),
    Kind("swish", parts.absolute, parts.swish, ROW, 12.0), Kind("hard_swish", parts.hinges, parts.hard_swish, ROW, 12.0, opset=14),
    Kind("gelu", parts.absolute, parts.gelu, ROW, 12.0, opset=20), Kind("lstm", parts.absolute, parts.lstm, ROW, 8.0, opset=14),
    Kind("lstm_parts", parts.hinges, parts.lstm_parts, ROW, 8.0), Kind("gru", parts.absolute, parts.gru, ROW, 8.0, opset=14),
    Kind("rnn", parts.hinges, parts.rnn, ROW, 8.0, opset=14), Kind("attention", parts.absolute, parts.attention, ROW, 8.0, opset=23),
    Kind("sin_tanh", parts.sines, parts.tanh, (1, 4), 4.0), Kind("cos_sigmoid", parts.cosines, parts.sigmoid, (1, 4), 6.0),
)  # fmt: skip


def instances(seed: int) -> Iterator[Instance]:
    """Four for every kind."""
    for kind in KINDS:
        for number, (two, sat) in enumerate(_order(kind.name), 1):
            yield _instance(kind, f"{NAME}_{kind.name}_{number}", two, sat, seed)


def _order(name: str) -> list[tuple[bool, bool]]:
    """(two needles, sat) in an order that differs from kind to kind, so that a number tells nothing."""
    order = [(False, True), (False, False), (True, True), (True, False)]
    return [order[i] for i in np.random.default_rng(zlib.crc32(name.encode())).permutation(4)]


def _instance(kind: Kind, name: str, two: bool, sat: bool, seed: int) -> Instance:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    lower, upper = _box(rng, kind)
    spots = [Spot(p.reshape(kind.shape), kind.sharpness) for p in _points(rng, lower, upper, two)]
    key = int(rng.integers(2**31))
    top = _score(kind, key, spots, [0.0] * len(spots)).bound(lower, upper)[1]
    threshold = Fraction(int(np.ceil(float(top) * 8)) + 4, 8)
    low_height = float((threshold - top) * 3 / 4)
    heights = [np.floor(low_height * 64) / 64 for _ in spots]
    if sat:
        base = _score(kind, key, spots, heights).at(exactly(spots[-1].point))
        heights[-1] += float(np.ceil(float((threshold - base) / parts.PEAK) * 64 + 24) / 64)
    score = _score(kind, key, spots, heights)
    asked = question(score.net, score.output, kind.shape, float(threshold), int(rng.integers(FORMS)), lower, upper)
    planted = asked.plant(spots[-1].point.reshape(-1)) if sat else None
    cut = _cut(spots) if two and not sat else None
    knobs = {"kind": kind.name, "needles": len(spots), "inputs": int(np.prod(kind.shape)), "sharpness": kind.sharpness,
             "layers": kind.layers, "cut": cut, "seed": seed}  # fmt: skip
    truth = "sat" if sat else "unsat"
    made = Instance(
        name, NAME, asked.model, *asked.texts, truth, truth, "planted" if sat else "theorem",
        BECAUSE[sat], tuple(sorted({n.op_type for n in asked.model.graph.node} - {"Reshape"})), knobs, planted,
    )  # fmt: skip
    if sat:
        return made
    gap = _gap(made)
    because = BECAUSE[False].format(parts="both halves" if two else "the whole", gap=float(gap))
    return Instance(**{**vars(made), "because": because})


def check(instance: Instance) -> None:
    """The bound of an unsat instance, again, from its files. Raises SuiteError."""
    if instance.real == "unsat":
        _gap(instance)


def _gap(instance: Instance) -> Fraction:
    """By how much the violation margin stays below 0 on every part of the box. Raises SuiteError where that is less than LEAST."""
    violation = formula.parse(instance.property)
    gaps = []
    for box in {case.box for case in unsafe_cases(violation)}:
        for piece in _pieces(list(zip(box.lower, box.upper, strict=True)), instance.knobs["cut"]):
            _, most = margin(violation.formula, [low for low, _ in piece], rational.bound(instance.model, piece))
            if most is None or most > -LEAST:
                raise SuiteError(f"{instance.name}: not proven, the margin may be {most}")
            gaps.append(-most)
    return min(gaps)


def _pieces(box: list[tuple[Fraction, Fraction]], cut: tuple[int, float] | None) -> list[list[tuple[Fraction, Fraction]]]:
    """The box, or its two parts on both sides of a cut."""
    if cut is None:
        return [box]
    (low, high), place = box[cut[0]], Fraction(cut[1])
    if not low < place < high:
        raise SuiteError(f"a cut at {cut[1]} outside the box")
    return [[*box[: cut[0]], side, *box[cut[0] + 1 :]] for side in ((low, place), (place, high))]


def _box(rng: np.random.Generator, kind: Kind) -> tuple[Array, Array]:
    """float64 [n] each; eighths."""
    n = int(np.prod(kind.shape))
    lower = rng.integers(-12, 5, n) / 8
    return lower, lower + rng.integers(4, 13, n) / 8


def _points(rng: np.random.Generator, lower: Array, upper: Array, two: bool) -> list[Array]:
    """Points inside; two of them are far from each other in one input."""
    steps = ((upper - lower) * 256).astype(int)
    first = lower + rng.integers(steps // 8, steps - steps // 8) / 256
    if not two:
        return [first]
    other = lower + rng.integers(steps // 8, steps - steps // 8) / 256
    i = int(np.argmax(upper - lower))
    first[i], other[i] = lower[i] + np.round(steps[i] * 0.125) / 256, upper[i] - np.round(steps[i] * 0.125) / 256
    return [first, other] if rng.random() < 0.5 else [other, first]


def _cut(spots: list[Spot]) -> tuple[int, float]:
    """(input, place) half way between two points, where they are farthest apart."""
    a, b = (spot.point.reshape(-1) for spot in spots)
    i = int(np.argmax(abs(a - b)))
    return i, float((a[i] + b[i]) / 2)


@dataclass(frozen=True, eq=False)
class _Score:
    """The network without its property. `output` [1, 1] is the score."""

    net: Net
    output: str
    shape: tuple[int, ...]

    def bound(self, lower: Array, upper: Array) -> tuple[Fraction, Fraction]:
        return rational.bound(self._file(), [(Fraction(a), Fraction(b)) for a, b in zip(lower.tolist(), upper.tolist(), strict=True)])[0]

    def at(self, point: list[Fraction]) -> Fraction:
        return rational.enclose(self._file(), point)[0][0]

    def _file(self) -> onnx.ModelProto:
        return self.net.model(self.output, self.shape, 1)


def _score(kind: Kind, key: int, spots: list[Spot], heights: list[float]) -> _Score:
    """The same network for the same key, whatever the heights."""
    net = Net(np.random.default_rng(key), kind.opset)
    n, hidden = int(np.prod(kind.shape)), 6
    row = net.row("x")
    first = np.round(net.draw(n, hidden) * 32 / n) / 32
    layer = net.node("Relu", net.node("Gemm", row, net.constant(first), net.constant(net.draw(hidden) / 4)))
    score = net.node("Gemm", layer, net.constant(net.draw(hidden, 1) / 8), net.constant(net.draw(1) / 4))
    for spot, height in zip(spots, heights, strict=True):
        z = parts.narrowed(net, kind.distance(net, "x", spot), kind.layers, FACTOR)
        score = net.node("Add", score, net.node("Mul", kind.gate(net, z), net.constant(height)))
    return _Score(net, score, kind.shape)

