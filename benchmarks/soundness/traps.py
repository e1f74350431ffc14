"""Traps: a network, its misreading, and a property that is true of exactly one of the two.

A trap makes features of the input, rightly and as a verifier with a certain mistake would; a tail (a linear map, or two with hinges between)
makes one score of them, and the property asks whether the score reaches a threshold. The tail is drawn until the largest score over the box
differs between network and misreading by more than GAP of what it sums, and the threshold is put half way: a verifier that makes the mistake
answers wrongly.

The largest score is known since it is attained at known points: a convex function on a box is largest at a corner (CONVEX; an affine one at
the corner that the signs of its coefficients name: AFFINE), one that never decreases along `signs` at one corner (RISING). The score at these
points is evaluated on the file itself, in exact rationals. A tail keeps the shape of its features: its weights are not negative unless they
are affine.

In float32 the truth is the same: networks are small and weights are eighths of at most 16/8 (a few up to 32), so that what rounding moves, a
millionth or so of what a score sums (onnxruntime is compared with the rationals to 2e-5 in the tests), is a thousandth of the distance GAP / 3
to the threshold. This last step is an estimate with a wide margin, not a proof; over the reals nothing is estimated.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from benchmarks.soundness import rational
from benchmarks.soundness.instance import Instance, Planted, SuiteError
from benchmarks.soundness.net import Net
from benchmarks.soundness.property import Atom, Property, decimal, vnnlib1, vnnlib2

Array = NDArray[Any]
Point = tuple[Fraction, ...]
Features = Callable[[Net, str, bool], str]
AFFINE, CONVEX, RISING = "affine", "convex", "rising"
BECAUSE = {
    AFFINE: "the score is affine in the inputs, so its maximum over the box is a finite sum of exact rationals",
    CONVEX: "the score is convex in the inputs, so its maximum over the box is attained at a corner, and all corners are evaluated in rationals",
    RISING: "the score is monotone in every input, so its maximum over the box is attained at one corner, which is evaluated in rationals",
}
GAP = 1 / 30  # of the sum of magnitudes that a score adds up
MOST_VARYING = 5  # inputs that vary where corners are enumerated
TRIES, HINGED_TRIES, TAILS = 40, 6, 200  # draws of the features, how many of them are tried with hinges, and tails for each
HIDDEN = 3


@dataclass(frozen=True)
class Trap:
    """`features(net, x, wrong)` adds the nodes of the features, rightly or misread, and returns their tensor; both draw the same numbers.

    `kind`: what is known of the features, element by element, as functions of the inputs; `signs` (RISING): +1 where they never decrease, -1
    where they never increase. `low`, `high`: where boxes are drawn, in eighths. `truths`: which are possible, where
    the misreading errs to one side only. `misreading` goes on after "a verifier for which".
    """

    name: str
    misreading: str
    operators: tuple[str, ...]
    shape: tuple[int, ...]
    features: Features
    kind: str = AFFINE
    opset: int = 13
    low: int = -12
    high: int = 12
    signs: tuple[int, ...] = ()
    truths: tuple[bool, ...] = (True, False)


def misread(
    kind: str, constants: Sequence[Sequence[int]], right: Mapping[str, Any], wrong: Mapping[str, Any], summed: Sequence[int] = ()
) -> Features:  # fmt: skip
    """Features of one operator with drawn constants, whose attributes are misread; summed over the axes `summed` where the two differ in shape."""

    def features(net: Net, x: str, wrongly: bool) -> str:
        value = net.node(kind, x, *[net.numbers(*shape) for shape in constants], **(wrong if wrongly else right))
        return net.sum_over(value, summed) if summed else value

    return features


@dataclass(frozen=True)
class Box:
    """lower <= x <= upper, [n]; eighths."""

    lower: Point
    upper: Point

    def varying(self) -> list[int]:
        """The inputs that vary."""
        return [i for i, (low, high) in enumerate(zip(self.lower, self.upper, strict=True)) if low < high]

    def corners(self) -> Iterator[Point]:
        """Every corner once."""
        sides = ((low,) if low == high else (low, high) for low, high in zip(self.lower, self.upper, strict=True))
        return itertools.product(*sides)

    def corner(self, signs: Sequence[Fraction | int]) -> Point:
        """Upper ends where the sign is positive, lower ends elsewhere."""
        return tuple(high if sign > 0 else low for sign, low, high in zip(signs, self.lower, self.upper, strict=True))


@dataclass(frozen=True, eq=False)
class Tail:
    """score = last . features + constant, or last . relu(first . features + shifts) + constant. `form` says how the property is written:
    0: Y_0 >= t, 1: Y_0 = -score <= -t, 2: Y_0 >= Y_1 with Y_0 - Y_1 = score - t and `common` [k] drawn weights of Y_1."""

    first: Array | None
    shifts: Array | None
    last: Array
    constant: float
    form: int
    common: Array

    def score(self, features: Array) -> tuple[Array, Array]:
        """For features float64 [points, m]: the scores [points], and the magnitudes that are added up for them. Only to choose by."""
        size, values = np.zeros(len(features)), features
        if self.first is not None and self.shifts is not None:
            size = (np.abs(features) @ np.abs(self.first).T + np.abs(self.shifts)) @ np.abs(self.last)
            values = np.maximum(features @ self.first.T + self.shifts, 0.0)
        return values @ self.last + self.constant, size + np.abs(values) @ np.abs(self.last) + abs(self.constant)

    def attach(self, net: Net, features: str, threshold: Fraction) -> tuple[str, int]:
        """Add the nodes; the tensor of the outputs, and how many these are."""
        value = net.row(features)
        if self.first is not None:
            value = net.node("Relu", net.node("Gemm", value, net.constant(self.first.T), net.constant(self.shifts)))
        columns, constants = [self.last], [self.constant]
        if self.form == 1:
            columns, constants = [-self.last], [-self.constant]
        if self.form == 2:
            columns, constants = [self.last + self.common, self.common], [self.constant - float(threshold), 0.0]
        return net.node("Gemm", value, net.constant(np.stack(columns, axis=1)), net.constant(constants)), len(columns)

    def unsafe(self, threshold: Fraction) -> Atom:
        """score >= threshold."""
        bound = decimal(float(threshold))
        match self.form:
            case 0:
                return Atom((decimal(-1.0),), bound.copy_negate() if bound else bound)
            case 1:
                return Atom((decimal(1.0),), bound.copy_negate() if bound else bound)
            case 2:
                return Atom((decimal(-1.0), decimal(1.0)), decimal(0.0))
        raise SuiteError(f"form {self.form}")


@dataclass(frozen=True, eq=False)
class Built:
    """A trap with its numbers: `right` is the file, `wrong` its misreading; `sat` is the truth of `right`, and `wrong` has the other."""

    trap: Trap
    hinge: bool
    sat: bool
    right: onnx.ModelProto
    wrong: onnx.ModelProto
    box: Box
    property: Property


def largest(model: onnx.ModelProto, trap: Trap, hinge: bool, box: Box, prop: Property) -> tuple[Point, rational.Enclosure]:
    """Where the violation margin of `model`, a file of `trap`, is largest over the box, and an enclosure of its largest value there."""

    def margin(point: Point) -> rational.Enclosure:
        return rational.margin(prop, rational.enclose(model, point))

    if trap.kind == AFFINE and not hinge:
        corners = [margin(point) for point in _simplex(len(box.lower))]
        if all(low == high for low, high in corners):  # else all corners are enclosed
            best = box.corner([low - corners[0][0] for low, _ in corners[1:]])
            return best, margin(best)
    points = _candidates(trap, box)
    values = [margin(point) for point in points]
    best = max(range(len(points)), key=lambda i: values[i][0])
    return points[best], (values[best][0], max(upper for _, upper in values))


def _simplex(n: int) -> list[Point]:
    """The origin and the unit vectors."""
    return [tuple(Fraction(int(i == k)) for i in range(n)) for k in range(-1, n)]


def build(trap: Trap, seed: int, hinge: bool, sat: bool) -> Built:
    """Draw boxes, features and tails until the trap catches its misreading; without hinges where it does not with them. Raises SuiteError where
    none of the draws does."""
    for attempt in range(TRIES):
        hinged = hinge and attempt < HINGED_TRIES
        key = [seed, zlib.crc32(trap.name.encode()), hinge, sat, attempt]
        rng = np.random.default_rng(key)
        box = _box(trap, rng, hinged)
        looks = [_Look.of(trap, key, wrong, hinged, box) for wrong in (False, True)]
        counts = [look.values.shape[1] for look in looks]
        if counts[0] != counts[1]:
            raise SuiteError(f"{trap.name}: {counts[0]} features, misread {counts[1]}")
        for _ in range(TAILS):
            tail = _tail(rng, looks, hinged, trap.kind)
            threshold = _threshold(looks, tail, box, sat)
            if threshold is not None:
                files = [_file(trap, key, wrong, tail, threshold) for wrong in (False, True)]
                lower, upper = (tuple(decimal(float(v)) for v in side) for side in (box.lower, box.upper))
                return Built(trap, hinged, sat, *files, box, Property(lower, upper, ((tail.unsafe(threshold),),)))
    raise SuiteError(f"{trap.name}: no draw tells the network from its misreading (sat: {sat}, hinge: {hinge})")


def _box(trap: Trap, rng: np.random.Generator, hinge: bool) -> Box:
    n = int(np.prod(trap.shape))
    lower = rng.integers(trap.low, trap.high, n)
    upper = np.minimum(trap.high, lower + rng.integers(4, 13, n))
    if trap.kind == CONVEX or (trap.kind == AFFINE and hinge):
        fixed = rng.permutation(n)[MOST_VARYING:]
        upper[fixed] = lower[fixed]
    return Box(tuple(Fraction(int(v), 8) for v in lower), tuple(Fraction(int(v), 8) for v in upper))


def _tail(rng: np.random.Generator, looks: Sequence[_Look], hinge: bool, kind: str) -> Tail:
    """Weights of either sign for affine features, positive ones for convex features, and ones of one sign for monotone features. Hinges bend
    near the middle of what reaches them."""
    draw, features = Net(rng).draw, looks[0].values.shape[1]
    sign = float(rng.choice([-1, 1])) if kind == RISING else 1.0
    if not hinge:
        weights = draw(features, positive=kind != AFFINE) * sign
        return Tail(None, None, weights, float(draw()), int(rng.integers(3)), draw(features))
    first = draw(HIDDEN, features, positive=kind != AFFINE) * sign
    middle = np.concatenate([look.values for look in looks]).mean(axis=0) @ first.T
    shifts = draw(HIDDEN) * 2 - np.round(middle)
    return Tail(first, shifts, draw(HIDDEN, positive=True), float(draw()), int(rng.integers(3)), draw(HIDDEN))


@dataclass(frozen=True, eq=False)
class _Look:
    """The features before there is a tail: float64 values [points, m] where the score can be largest, or for affine features without hinges
    their constants and coefficients [1 + n, m]."""

    values: Array
    affine: bool

    @staticmethod
    def of(trap: Trap, key: Sequence[int], wrong: bool, hinge: bool, box: Box) -> _Look:
        net = Net(np.random.default_rng([*key, 1]), trap.opset)
        row = net.row(trap.features(net, "x", wrong))
        model = _unchecked(net, row, trap.shape)
        affine = trap.kind == AFFINE
        points = _simplex(len(box.lower)) if affine else _candidates(trap, box)
        values = np.array([[float(low) for low, _ in rational.enclose(model, p)] for p in points])
        if affine:
            values[1:] -= values[0]
            if hinge:
                corners = np.array([[1.0, *map(float, p)] for p in box.corners()])
                return _Look(corners @ values, False)
        return _Look(values, affine)

    def peak(self, tail: Tail, box: Box) -> tuple[float, float]:
        """The largest score over the box, and what it adds up."""
        values = self.values
        if self.affine:
            best = box.corner((values[1:] @ tail.last).tolist())
            values = np.array([[1.0, *map(float, best)]]) @ values
        scores, sizes = tail.score(values)
        return float(scores.max()), float(sizes.max())


def _candidates(trap: Trap, box: Box) -> list[Point]:
    """Where a score that is not affine can be largest."""
    if trap.kind != RISING:
        return list(box.corners())
    signs = np.array(trap.signs or [1] * len(box.lower))
    return [box.corner(signs.tolist()), box.corner((-signs).tolist())]


def _unchecked(net: Net, output: str, shape: Sequence[int]) -> onnx.ModelProto:
    """The features alone; only `rational` sees this file."""
    model = onnx.ModelProto()
    model.opset_import.add(version=net.opset)
    model.graph.node.extend(net.nodes)
    model.graph.initializer.extend(net.constants)
    model.graph.input.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(shape)))
    model.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None))
    return model


def _threshold(looks: Sequence[_Look], tail: Tail, box: Box, sat: bool) -> Fraction | None:
    """About half way between the two largest scores, with few digits; None if they are too close, or on the wrong sides of each other."""
    (right, size), (wrong, other) = (look.peak(tail, box) for look in looks)
    gap = right - wrong if sat else wrong - right
    if gap < GAP * max(size, other):
        return None
    grid = Fraction(1)
    while grid > gap / 8:
        grid /= 2
    return round(Fraction((right + wrong) / 2) / grid) * grid


def _file(trap: Trap, key: Sequence[int], wrong: bool, tail: Tail, threshold: Fraction) -> onnx.ModelProto:
    net = Net(np.random.default_rng([*key, 1]), trap.opset)
    output, outputs = tail.attach(net, trap.features(net, "x", wrong), threshold)
    return net.model(output, trap.shape, outputs)


def executed(model: onnx.ModelProto, point: Point) -> list[float]:
    """The outputs of the file in onnxruntime, flat."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    item = session.get_inputs()[0]
    x = np.array([float(v) for v in point], dtype=np.float32).reshape(item.shape)
    return [float(v) for y in session.run(None, {item.name: x}) for v in np.asarray(y).ravel()]


def instance(family: str, number: int, seed: int, built: Built) -> Instance:
    """Prove the truth of `built.right` on the file itself. Raises SuiteError where it is not what was built."""
    trap, prop = built.trap, built.property
    name = f"{family}_{trap.name}_{number}"
    point, (low, high) = largest(built.right, trap, built.hinge, built.box, prop)
    if (low <= 0) if built.sat else (high >= 0):
        raise SuiteError(f"{name}: the margin is in [{float(low):g}, {float(high):g}]")
    planted = None
    if built.sat:
        runtime = float(prop.margin([Fraction(v) for v in executed(built.right, point)]))
        planted = Planted(np.array([float(v) for v in point], dtype=np.float32), low, runtime)
    truth = "sat" if built.sat else "unsat"
    outputs = len(prop.cases[0][0].coefficients)
    verdict = "reaches" if built.sat else "stays below"
    return Instance(
        name, family, built.right, vnnlib1(prop), vnnlib2(prop, trap.shape, (1, outputs)), truth, truth, "planted" if built.sat else "theorem",
        f"{BECAUSE[trap.kind if trap.kind != AFFINE or not built.hinge else CONVEX]}: it {verdict} the threshold. "
        f"It catches a verifier for which {trap.misreading}.",
        trap.operators, {"trap": trap.name, "hinge": built.hinge, "seed": seed}, planted,
    )  # fmt: skip


def variants(trap: Trap) -> list[tuple[bool, bool]]:
    """(hinge, sat) of the instances made of a trap: one truth without hinges and the other with them, in an order that does not tell."""
    drawn = zlib.crc32(trap.name.encode())
    first, last = trap.truths[:: 1 if drawn % 2 else -1][:: max(1, len(trap.truths) - 1)] * (3 - len(trap.truths))
    return [(False, first), (True, last)] if drawn // 2 % 2 else [(True, first), (False, last)]


def instances_of(family: str, traps: Sequence[Trap], seed: int) -> Iterator[Instance]:
    """All variants of all traps."""
    for trap in traps:
        for number, (hinge, sat) in enumerate(variants(trap), 1):
            yield instance(family, number, seed, build(trap, seed, hinge, sat))
