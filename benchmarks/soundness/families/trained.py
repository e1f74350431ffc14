"""Trained hidden counterexamples: networks that are robust in their boxes for every attack that was tried, but for one planted point in each.

Zhou, Xu, Xu, Shi, Hsieh, Zhang, "SoundnessBench" (arXiv 2412.03154); `benchmarks/soundness/train` says how the shipped models were made, and
docs/soundness_hidden.md how well they hide. The truth rests on no attack: a planted point violates in exact rationals (smooth functions enclosed)
and in onnxruntime. Instances that are unsat, small boxes of the same models, rest on interval arithmetic in rationals (`intervals`).

Seed 0 gives the models as trained. Another seed gives the same functions in other coordinates: inputs of a dense layer exchanged, inputs
or channels with their sign turned, scaled by a power of two, outputs exchanged. `python -m benchmarks.soundness.train` makes new ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from benchmarks import formula
from benchmarks.exact.enumerate import unsafe_cases
from benchmarks.soundness import intervals, rational
from benchmarks.soundness.elementary import OutOfRange
from benchmarks.soundness.instance import Instance, Planted, SuiteError
from benchmarks.soundness.property import Atom, Property, decimal, vnnlib1, vnnlib2
from benchmarks.soundness.rule import UnknownOperator
from benchmarks.soundness.train.data import GRID
from benchmarks.soundness.train.recipe import Shipped, shipped
from benchmarks.soundness.traps import executed

Array = NDArray[Any]
FAMILY = "trained"
SMALL_BOXES = 3  # instances of a model that are unsat
LEAST = Fraction(1, 50)  # what a planted point violates by; one that training did not hold is left out
MOVES = ("Flatten", "Reshape", "Transpose")


@dataclass(frozen=True, eq=False)
class Subject:
    """A model in its coordinates: centres, planted points [K, n] and radius are in those of `model`; `labels` name its outputs."""

    name: str
    model: onnx.ModelProto
    centres: Array
    planted: Array
    radius: float
    labels: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(d.dim_value for d in self.model.graph.input[0].type.tensor_type.shape.dim)


def instances(seed: int) -> Iterator[Instance]:
    """Of every shipped model: one instance per planted point, and a few small boxes without. Raises SuiteError, RecipeError."""
    for trained in shipped():
        random = np.random.default_rng([seed, zlib.crc32(trained.name.encode()), trained.seed])
        plain, count = _plain(trained), len(trained.boxes.planted)
        held = [k for k in range(count) if _margin(plain, k) >= LEAST]
        chosen = random.permutation([*held, *random.permutation(np.arange(count, 2 * count))[:SMALL_BOXES]])  # the order must not tell
        subject = plain if seed == 0 else _moved(trained, random)
        for place, k in enumerate(chosen.tolist()):
            name = f"{FAMILY}_{subject.name}_{place}"
            yield (_with_planted if k < count else _without)(subject, name, k, trained, seed)


def check(instance: Instance) -> None:
    """Prove an instance that is unsat again, from its files. Raises SuiteError."""
    if instance.planted is not None:
        return
    case, = unsafe_cases(formula.parse(instance.property))
    atom, = case.atoms
    for float32 in (False, True):
        if (instance.float32 if float32 else instance.real) == "unsat":
            outputs = intervals.enclose(instance.model, list(zip(case.box.lower, case.box.upper, strict=True)), float32)
            if not sum((c * outputs[i][c < 0] for _, i, c in atom.terms), Fraction(0)) > atom.bound:
                raise SuiteError(f"{instance.name}: interval arithmetic does not prove it{' in float32' if float32 else ''}")


def _with_planted(subject: Subject, name: str, k: int, trained: Shipped, seed: int) -> Instance:
    prop, point, low = _property(subject, k, Decimal(subject.radius)), subject.planted[k], _margin(subject, k)
    runtime = float(prop.margin([Fraction(v) for v in executed(subject.model, [Fraction(float(v)) for v in point])]))
    if low <= 0 or runtime <= 0:
        raise SuiteError(f"{name}: the planted point violates by {float(low):g} exactly, {runtime:g} in onnxruntime")
    because = f"the planted point violates by {float(low):.3g} in exact rationals and by {runtime:.3g} in onnxruntime"
    return _instance(subject, name, prop, "sat", "sat", "planted", because, trained, seed, Planted(point, low, runtime))


def _margin(subject: Subject, k: int) -> Fraction:
    """By how much the k-th planted point violates at least, exactly."""
    point = [Fraction(float(v)) for v in subject.planted[k]]
    return rational.margin(_property(subject, k, Decimal(subject.radius)), rational.enclose(subject.model, point))[0]


def _without(subject: Subject, name: str, k: int, trained: Shipped, seed: int) -> Instance:
    """The largest box around a centre, its radius halved until interval arithmetic proves it. Raises SuiteError where there is none."""
    radius = Decimal(subject.radius)
    while not _proven(subject, prop := _property(subject, k, radius), False):
        radius /= 2
        if radius * GRID * GRID < Decimal(subject.radius):
            raise SuiteError(f"{name}: interval arithmetic proves no box around centre {k}")
    float32 = "unsat" if _proven(subject, prop, True) else "unknown"
    because = "interval arithmetic in rationals over the box proves the margin"
    return _instance(subject, name, prop, "unsat", float32, "theorem", because, trained, seed, None)


def _proven(subject: Subject, prop: Property, float32: bool) -> bool:
    box = [(Fraction(a), Fraction(b)) for a, b in zip(prop.lower, prop.upper, strict=True)]
    try:
        return rational.margin(prop, intervals.enclose(subject.model, box, float32))[1] < 0
    except OutOfRange:
        return False  # of exp: the box is too large
    except UnknownOperator:
        if not float32:
            raise
        return False  # a smooth function: nothing is claimed of its executions


def _property(subject: Subject, k: int, radius: Decimal) -> Property:
    """Within `radius` of centre k the other output is at least the label's."""
    centre = [decimal(v) for v in subject.centres[k]]
    signs = tuple(Decimal(1 if j == subject.labels[k] else -1) for j in range(2))
    return Property(tuple(c - radius for c in centre), tuple(c + radius for c in centre), ((Atom(signs, Decimal(0)),),))


def _instance(
    subject: Subject, name: str, prop: Property, real: str, float32: str, proof: str, because: str, trained: Shipped, seed: int,
    planted: Planted | None,
) -> Instance:  # fmt: skip
    operators = tuple(sorted({node.op_type for node in subject.model.graph.node} - set(MOVES)))
    knobs = {"model": trained.name, "trained_with": trained.seed, "parameters": trained.made["parameters"], "seed": seed,
             "radius": float(prop.upper[0] - prop.lower[0]) / 2}
    return Instance(name, FAMILY, subject.model, vnnlib1(prop), vnnlib2(prop, subject.shape, (1, 2)), real, float32, proof, because, operators,
                    knobs, planted)


# --- the same function in other coordinates ---------------------------------------------------------------------------------------


def _plain(trained: Shipped) -> Subject:
    boxes = trained.boxes
    labels = tuple(int(v) for v in boxes.labels)
    return Subject(f"{trained.name}_{trained.seed}", trained.model, boxes.centres, boxes.planted, boxes.radius, labels)


def _moved(trained: Shipped, random: np.random.Generator) -> Subject:
    """Exact changes of coordinates: of the weights of every node that reads the input, and of the last layer."""
    plain, model = _plain(trained), onnx.ModelProto()
    model.CopyFrom(trained.model)
    readers = [node for node in model.graph.node if model.graph.input[0].name in node.input]
    kinds, size = {node.op_type for node in readers}, plain.shape[1]
    if kinds not in ({"Gemm"}, {"Conv"}):
        raise SuiteError(f"{plain.name}: the input is read by {sorted(kinds)}")
    order = random.permutation(size) if kinds == {"Gemm"} else np.arange(size)
    signs, scale, swap = random.integers(0, 2, size) * 2 - 1, 2.0 ** int(random.choice([-3, -2, -1, 1, 2, 3])), bool(random.integers(2))
    for node in readers:  # weights [out, in, ...]; new input i is sign * scale * old input order[i]
        by = (signs / scale).astype(np.float32).reshape(1, size, *[1] * (0 if kinds == {"Gemm"} else 2))
        _replace(model, node.input[1], lambda w, by=by: w[:, order] * by)
    if swap:
        for name in model.graph.node[-1].input[1:]:
            _replace(model, name, lambda w: w[::-1])

    def moved(points: Array) -> Array:
        grouped = points.reshape(len(points), size, -1)[:, order] * (signs * scale).reshape(1, size, 1)
        return grouped.reshape(points.shape).astype(np.float32)

    labels = tuple(1 - v if swap else v for v in plain.labels)
    return replace(plain, model=model, centres=moved(plain.centres), planted=moved(plain.planted), radius=plain.radius * scale, labels=labels)


def _replace(model: onnx.ModelProto, name: str, change: Any) -> None:
    """Put `change` of the initializer `name` in its place."""
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(numpy_helper.to_array(tensor))), name))
