"""Robustness that is a theorem, with the threshold just beyond the largest score (unsat), or just below it (sat, planted where it is attained).

The constructions are those of VeriStressGT (arXiv 2605.17153) whose truth is rigorous (embedded projection, mutually exclusive pairs, corners,
paired bias), and monotone networks, identities, iterated tent maps (`theorem_parts`); besides, random piecewise linear networks whose optimum is
found by walking all activation patterns in exact rationals (`benchmarks.exact`).

The distance to the threshold is at least 2^-10 of what a score adds up, far more than float32 loses on a few hundred terms (2^-24 for each), so
that the truth is the same in float32.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx

from benchmarks import formula
from benchmarks.exact import enumerate as patterns
from benchmarks.exact import network
from benchmarks.soundness import rational
from benchmarks.soundness.families import theorem_parts as parts
from benchmarks.soundness.families.forms import FORMS, Question, exactly, question
from benchmarks.soundness.families.theorem_parts import Made, Theorem
from benchmarks.soundness.instance import Array, Instance, SuiteError
from benchmarks.soundness.net import Net
from benchmarks.soundness.recheck import margin

NAME = "theorems"
SHARE = 2.0**-10  # of what a score adds up: the least distance to the threshold
NEAR = 2.0**-8  # of the largest score
TWINS = "tight: the threshold is {gap:.3g} {side} the largest score"
ENUMERATED = ((2, 4, "Relu"), (2, 6, "Relu"), (3, 5, "Relu"), (2, 5, "Abs"), (3, 4, "LeakyRelu"), (2, 4, "Clip"), (3, 6, "Relu"), (2, 5, "Max"))


def instances(seed: int) -> Iterator[Instance]:
    """Two of each theorem and setting, then two of each enumerated network."""
    for theorem in parts.THEOREMS:
        for number, setting in enumerate(theorem.settings, 1):
            for letter, sat in zip("ab", _order(f"{theorem.name}{number}"), strict=True):
                yield _instance(theorem, setting, f"{NAME}_{theorem.name}_{number}{letter}", sat, seed)
    for number, (inputs, hidden, kind) in enumerate(ENUMERATED, 1):
        for letter, sat in zip("ab", _order(f"{kind}{number}"), strict=True):
            yield _enumerated(inputs, hidden, kind, f"{NAME}_patterns_{number}{letter}", sat, seed)


def _order(name: str) -> tuple[bool, bool]:
    """Which of two twins is sat."""
    first = zlib.crc32(name.encode()) % 2 == 0
    return first, not first


def _instance(theorem: Theorem, setting: Mapping[str, int], name: str, sat: bool, seed: int) -> Instance:
    asked, point = _asked(theorem, setting, name, sat, seed)
    truth = "sat" if sat else "unsat"
    knobs = {"theorem": theorem.name, **setting, "sat": sat, "seed": seed}
    gap = float(abs(asked.margin(point)))
    made = Instance(
        name, NAME, asked.model, *asked.texts, truth, truth, "planted" if sat else "theorem",
        f"{theorem.because}; {TWINS.format(gap=gap, side='below' if sat else 'above')}",
        tuple(sorted({n.op_type for n in asked.model.graph.node} - {"Reshape"})), knobs, asked.plant(point) if sat else None,
    )  # fmt: skip
    check(made)
    return made


def _asked(theorem: Theorem, setting: Mapping[str, int], name: str, sat: bool, seed: int) -> tuple[Question, Array]:
    """The question, and where the score is largest."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    made = theorem.make(rng, **setting)
    file = made.net.model(made.output, made.shape, 1)
    point, best = _largest(made, file)
    gap = max(SHARE * made.size, NEAR * abs(float(best)), SHARE)
    step = 2.0 ** np.floor(np.log2(gap / 4))
    threshold = float(np.floor(float(best) / step) * step - gap // step * step if sat else np.ceil(float(best) / step) * step + gap // step * step)
    return question(made.net, made.output, made.shape, threshold, int(rng.integers(FORMS)), made.lower, made.upper), point


def _largest(made: Made, file: onnx.ModelProto) -> tuple[Array, Fraction]:
    if made.point is not None:
        return made.point, rational.enclose(file, exactly(made.point))[0][1]
    values = {corner: rational.enclose(file, exactly(np.array(corner)))[0][1] for corner in _corners(made.lower.tolist(), made.upper.tolist())}
    best = max(values, key=lambda corner: values[corner])
    return np.array(best), values[best]


def _corners(lower: list[float], upper: list[float]) -> Iterator[tuple[float, ...]]:
    return itertools.product(*((low,) if low == high else (low, high) for low, high in zip(lower, upper, strict=True)))


def check(instance: Instance) -> None:
    """The file is the construction's, its constants meet the hypotheses of the theorem, and the score at the point (at every corner) is on the
    right side of the threshold, exactly. Raises SuiteError."""
    if instance.proof == "enumeration" or "theorem" not in instance.knobs:
        return  # enumerated anew by benchmarks.soundness.recheck
    knobs = dict(instance.knobs)
    name, sat, seed = knobs.pop("theorem"), bool(knobs.pop("sat")), int(knobs.pop("seed"))
    theorem = next(t for t in parts.THEOREMS if t.name == name)
    asked, point = _asked(theorem, knobs, instance.name, sat, seed)
    if asked.model.SerializeToString(deterministic=True) != instance.model.SerializeToString(deterministic=True):
        raise SuiteError(f"{instance.name}: not the file that the theorem is about")
    if not theorem.holds(parts.constants(instance.model)):
        raise SuiteError(f"{instance.name}: its constants do not meet the hypotheses of the theorem")
    violation = formula.parse(instance.property)
    points = [tuple(float(v) for v in point)]
    if theorem.name == "corners":
        box = patterns.unsafe_cases(violation)[0].box
        points = list(_corners([float(v) for v in box.lower], [float(v) for v in box.upper]))
    if theorem.name == "projection" and not sat:
        box = patterns.unsafe_cases(violation)[0].box
        most = margin(violation.formula, box.lower, rational.bound(instance.model, list(zip(box.lower, box.upper, strict=True))))[1]
        if most is None or most >= 0:
            raise SuiteError(f"{instance.name}: the box is not mapped to one point")
    for place in points if not sat else points[:1]:
        at = list(exactly(np.array(point if sat else place)))
        low, high = margin(violation.formula, at, rational.enclose(instance.model, at))
        if low is None or high is None or (low <= 0 if sat else high >= 0):
            raise SuiteError(f"{instance.name}: at the optimum the margin is {low}")


@dataclass(frozen=True, eq=False)
class _Walked:
    """A small random piecewise linear network and its box."""

    net: Net
    output: str
    lower: Array
    upper: Array

    def asked(self, threshold: float) -> Question:
        return question(self.net, self.output, (1, len(self.lower)), threshold, 0, self.lower, self.upper)


def _enumerated(inputs: int, hidden: int, kind: str, name: str, sat: bool, seed: int) -> Instance:
    def ask(threshold: float) -> Question:
        return _walked(np.random.default_rng([seed, zlib.crc32(name.encode())]), inputs, hidden, kind).asked(threshold)

    truth = _decided(ask(0.0))
    if truth.margin is None:
        raise SuiteError(f"{name}: the enumeration found no optimum")
    best = float(-truth.margin)  # Y_0 >= 0 exceeds its bound by -Y_0
    gap = max(8 * hidden * SHARE, NEAR * abs(best))
    threshold = float(np.floor((best - gap) * 256) / 256 if sat else np.ceil((best + gap) * 256) / 256)
    asked = ask(threshold)
    planted = None
    if sat:  # a point that violates by more than is asked for, rounded
        found = _decided(ask(threshold + gap / 2)).witness
        if found is None:
            raise SuiteError(f"{name}: no point near the optimum")
        planted = asked.plant(np.array([np.float32(float(v)) for v in found]))
    truth, verdict = _decided(asked), "sat" if sat else "unsat"
    if truth.verdict != verdict:
        raise SuiteError(f"{name}: the enumeration says {truth.verdict}")
    because = f"all {truth.patterns} activation patterns, in exact rationals; {TWINS.format(gap=gap, side='below' if sat else 'above')}"
    knobs = {"inputs": inputs, "hidden": hidden, "activation": kind, "seed": seed}
    return Instance(name, NAME, asked.model, *asked.texts, verdict, verdict, "enumeration", because, (kind, "Gemm"), knobs, planted)


def _decided(asked: Question) -> patterns.Truth:
    return patterns.decide(network.parse(asked.model.SerializeToString()), formula.parse(asked.texts[0]))


def _walked(rng: np.random.Generator, inputs: int, hidden: int, kind: str) -> _Walked:
    net = Net(rng)
    lower, upper = parts.box(rng, inputs)
    value = net.node("Gemm", "x", net.numbers(inputs, hidden), net.numbers(hidden))
    match kind:
        case "Clip":
            value = net.node("Clip", value, net.constant(-0.5), net.constant(0.5))
        case "LeakyRelu":
            value = net.node("LeakyRelu", value, alpha=0.125)
        case "Max":
            value = net.node("Max", value, net.node("Gemm", "x", net.numbers(inputs, hidden), net.numbers(hidden)))
        case _:
            value = net.node(kind, value)
    second = net.node("Relu", net.node("Gemm", value, net.constant(net.draw(hidden, 3) / 2), net.numbers(3)))
    return _Walked(net, net.node("Gemm", second, net.constant(net.draw(3, 1) / 2), net.numbers(1)), lower, upper)
