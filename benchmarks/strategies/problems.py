"""Input boxes, points, and verification problems whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from benchmarks.soundness.property import Atom, Property, decimal, vnnlib1
from benchmarks.soundness.rational import enclose
from benchmarks.soundness.rule import UnknownOperator
from benchmarks.strategies.builder import OPSET, Draw, weights
from benchmarks.strategies.networks import RADIUS, Network, needles, networks
from benchmarks.strategies.operators import OPERATORS
from benchmarks.strategies.reference import reference

Array = NDArray[Any]
TRUTHS = ("sat", "unsat", None)


class InputBox(NamedTuple):
    """lower <= x <= upper, flat float32 arrays [n] inside [-RADIUS, RADIUS]; some sides have width 0."""

    lower: Array
    upper: Array


class Instance(NamedTuple):
    """A verification problem. `property` is VNN-LIB 1.0, `unsafe` the same as data. `truth` is "sat", "unsat" or None (not known);
    `witness` is a flat float32 input for "sat". What is known holds over the reals and in every float32 execution."""

    network: Network
    box: InputBox
    property: str
    truth: str | None
    witness: Array | None
    unsafe: Property


@st.composite
def boxes(draw: Draw, size: int) -> InputBox:
    """Boxes of `size` inputs inside [-RADIUS, RADIUS], with ends that are multiples of 1/64.

    Half of them are narrow: bounds over a wide box are wide, and a value that is wrong goes unseen in them.
    """
    ends = weights(draw, 2, size)
    lower, widths = ends.min(0), ends.max(0) - ends.min(0)
    narrow = draw(st.sampled_from((1, 1, 8, 128)))
    return InputBox(lower, lower + np.floor(64 * widths / narrow) / np.float32(64))


@st.composite
def shrinking_boxes(draw: Draw, size: int, steps: int = 3) -> list[InputBox]:
    """`steps` boxes, each inside the one before: bounds over them must not get wider."""
    found = [draw(boxes(size))]
    for _ in range(steps - 1):
        found.append(draw(inner_boxes(found[-1])))
    return found


@st.composite
def inner_boxes(draw: Draw, outer: InputBox) -> InputBox:
    """Boxes within a box: up to half of its width is cut off on either side."""
    cuts, width = eighths(draw, 4, 2, outer.lower.size), outer.upper - outer.lower
    return InputBox(outer.lower + cuts[0] * width, outer.upper - cuts[1] * width)


@st.composite
def points(draw: Draw, box: InputBox) -> Array:
    """Float32 points of a box, corners and centre among the likely ones."""
    return np.clip(box.lower + eighths(draw, 8, box.lower.size) * (box.upper - box.lower), box.lower, box.upper)


def eighths(draw: Draw, most: int, *shape: int) -> Array:
    """float32 multiples of 1/8, from 0 to most / 8; one byte of choice each."""
    size = math.prod(shape)
    return (np.frombuffer(draw(st.binary(min_size=size, max_size=size)), np.uint8) % (most + 1) / np.float32(8)).astype(np.float32).reshape(shape)


def instance(network: Network, box: InputBox, cases: Sequence[Sequence[Atom]], truth: str | None = None, witness: Array | None = None) -> Instance:
    """An instance from its parts; the text follows from them."""
    unsafe = Property(_decimals(box.lower), _decimals(box.upper), tuple(tuple(case) for case in cases))
    return Instance(network, box, vnnlib1(unsafe), truth, witness, unsafe)


@st.composite
def instances(
    draw: Draw,
    truths: tuple[str | None, ...] = TRUTHS,
    operators: tuple[str, ...] = OPERATORS,
    max_operators: int = 6,
    opsets: tuple[int, ...] = (OPSET,),
) -> Instance:
    """Networks with a box and a VNN-LIB 1.0 property, whose truth is known unless it is None.

    "sat": a drawn point satisfies one of the cases in every float32 execution (up to `network.error`, with room to spare).
    "unsat": every case contains an atom beyond what the outputs can reach, over the reals and in float32.
    """
    network = draw(networks(operators, max_operators, opsets))
    return draw(about(network, truths))


@st.composite
def about(draw: Draw, network: Network, truths: tuple[str | None, ...] = TRUTHS) -> Instance:
    """Instances about one network."""
    box = draw(boxes(math.prod(network.input_shape)))
    truth = draw(st.sampled_from(truths))
    most = draw(st.sampled_from((0, 3))) if truth == "sat" else 3  # a wrong unsat takes a mistake in every case
    others = draw(st.lists(_cases(network, impossible=truth == "unsat"), min_size=0 if truth == "sat" else 1, max_size=most))
    if truth != "sat":
        return instance(network, box, others, truth)
    witness = draw(points(box))
    flat = evaluate(network, witness)
    room = 2 * network.error + 2.0**-10
    chosen = draw(st.lists(st.tuples(st.integers(0, flat.size - 1), st.booleans()), min_size=1, max_size=3))
    reached = [_single(j, below, float(flat[j]) + (room if below else -room), flat.size) for j, below in chosen]
    place = draw(st.integers(0, len(others)))
    return instance(network, box, [*others[:place], reached, *others[place:]], "sat", witness)


@st.composite
def planted(
    draw: Draw, operators: tuple[str, ...] = OPERATORS, max_operators: int = 3, opsets: tuple[int, ...] = (OPSET,)
) -> Instance:
    """Planted counterexamples: `sat`, but only in a small part of the box, where a steep pyramid stands; attacks rarely see it."""
    network, point, j, threshold = draw(needles(operators, max_operators, opsets))
    cuts, radius = eighths(draw, 8, 2, point.size), np.float32(RADIUS)
    box = InputBox(point - cuts[0] * (radius + point), point + cuts[1] * (radius - point))
    return instance(network, box, [[_single(j, False, threshold, math.prod(network.output_shape))]], "sat", point)


def enclosed(network: Network, x: Array) -> tuple[list[tuple[Fraction, Fraction]], Fraction]:
    """(ranges, error): what the outputs [m] at a flat float32 input [n] are, and how far from that a float32 execution can be.

    By exact evaluation. Where that does not know an operator, by onnx's reference implementation, which is a float32 execution itself; the distance
    counts twice then.
    """
    try:
        return enclose(network.model, [Fraction(v) for v in x.astype(np.float32).tolist()]), Fraction(network.error)
    except UnknownOperator:
        name = network.model.graph.input[0].name
        (result,) = reference(network.model, {name: x.astype(np.float32).reshape(network.input_shape)})
        return [(Fraction(float(v)), Fraction(float(v))) for v in result.reshape(-1)], 2 * Fraction(network.error)


def evaluate(network: Network, x: Array) -> Array:
    """The flat outputs [m] at a flat float32 input [n], as doubles: any float32 execution is within 2 `network.error` of them."""
    return np.array([float((low + high) / 2) for low, high in enclosed(network, x)[0]])


@st.composite
def _cases(draw: Draw, network: Network, impossible: bool) -> list[Atom]:
    """Atoms of one unsafe case; if `impossible`, one of them is beyond the network's reach."""
    outputs = math.prod(network.output_shape)
    index = st.integers(0, outputs - 1)
    threshold = st.integers(-16, 16).map(lambda k: k / 16 * max(network.magnitude, 1.0))
    against_number = st.builds(_single, index, st.booleans(), threshold, st.just(outputs), st.booleans())
    pairs = st.lists(index, min_size=2, max_size=2, unique=True) if outputs > 1 else st.nothing()
    against_output = st.builds(lambda pair, strict: _difference(pair[0], pair[1], outputs, strict), pairs, st.booleans())
    atoms: list[Atom] = draw(st.lists(against_number | against_output, min_size=0 if impossible else 1, max_size=2))
    if impossible:
        beyond = network.magnitude + 2 * network.error + 1
        j, above = draw(index), draw(st.booleans())
        atoms.insert(draw(st.integers(0, len(atoms))), _single(j, not above, beyond if above else -beyond, outputs))
    return atoms


def _single(j: int, below: bool, threshold: float, outputs: int, strict: bool = False) -> Atom:
    """Y_j <= threshold if `below`, else Y_j >= threshold."""
    sign = 1 if below else -1
    return Atom(tuple(Decimal(sign if k == j else 0) for k in range(outputs)), decimal(sign * threshold), strict)


def _difference(i: int, j: int, outputs: int, strict: bool) -> Atom:
    """Y_i <= Y_j."""
    return Atom(tuple(Decimal((k == i) - (k == j)) for k in range(outputs)), Decimal(0), strict)


def _decimals(values: Array) -> tuple[Decimal, ...]:
    return tuple(decimal(v) for v in values.tolist())
