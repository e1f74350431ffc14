"""What is forged against: a model, a property, and an input that violates it, so that no certificate may be accepted.

A planted subject is a random small model with a threshold put where a chosen input just reaches it, by exact rational arithmetic:
often with nothing to spare, so that a bound without its rounding errors would prove what is false. Other subjects are published instances.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.forgery import models
from verifier.checker import read_model, read_property
from verifier.checker.bounds import BACKWARD, Checker
from verifier.checker.exact_bounds import ExactBounds, Vector, rationals
from verifier.checker.network import Affine, Network
from verifier.checker.refusal import Rejected

Array = NDArray[Any]
Random = np.random.Generator

MARGINS = (0.0, 0.0, 0.0, 1e-9, 1e-4)  # how far past the threshold the witness is, relative
SEARCHED, ROUNDS = 64, 5  # points tried for a witness
REDRAWN = 20


@dataclass(frozen=True, eq=False)
class Subject:
    """`witness` [n_in] violates `case`. `real`: over the reals, so that certificates of either semantics are forgeries; else only
    those for float32 are. `family` names subjects whose certificates fit each other's networks."""

    name: str
    family: str
    model: bytes = field(repr=False)
    text: bytes = field(repr=False)
    network: Network = field(repr=False)
    cases: read_property.Cases = field(repr=False)
    witness: Array = field(repr=False)
    case: int
    real: bool

    @property
    def manifest(self) -> dict[str, Any]:
        """The true hashes."""
        hashes = (hashlib.sha256(data).hexdigest() for data in (self.model, self.text))
        return {"format": 1, **dict(zip(("model", "property"), hashes, strict=True))}


def shifted(network: Network, shift: list[float]) -> Network:
    """The network with these constants in its softmaxes, one a row: the same function."""
    nodes, at = list(network.nodes), 0
    for softmax in network.softmaxes:
        node = nodes[softmax.node]
        if not isinstance(node, Affine):
            raise TypeError(node.place)
        nodes[softmax.node] = replace(node, bias=-np.array(shift[at : at + softmax.rows])[softmax.row_of])
        at += softmax.rows
    return replace(network, nodes=tuple(nodes))


def point_state(network: Network, points: Array) -> tuple[Array, Array]:
    """Enclosures of all outputs over the reals at `points` [N, n_in]: [N, n_out]."""
    state = Checker(network, None).state(len(points), points, points, {}, {}, 0)
    ends = ([np.broadcast_to(side[i], (len(points), network.nodes[i].size)) for i in network.outputs] for side in (state.lower, state.upper))
    low, high = (np.concatenate(parts, 1) for parts in ends)
    return low, high


def exact_outputs(network: Network, point: Array) -> list[tuple[Fraction, Fraction]]:
    """Enclosures of all outputs at one point, by rationals: exact but for smooth functions."""
    box: dict[int, Vector] = {}
    at = 0
    for i in network.inputs:
        box[i] = rationals(point[at : at + network.nodes[i].size], network.nodes[i].size)
        at += network.nodes[i].size
    state = ExactBounds(network).state(box, box)
    return [ends for i in network.outputs for ends in zip(state.lower[i], state.upper[i], strict=True)]


def enclosed(low: Array, high: Array) -> list[tuple[Fraction, Fraction]]:
    """Ends of outputs as rationals."""
    return [(Fraction(a), Fraction(b)) for a, b in zip(low.tolist(), high.tolist(), strict=True)]


def violated_case(cases: read_property.Cases, outputs: list[tuple[Fraction, Fraction]], point: Array) -> int | None:
    """A case all of whose atoms hold for certain, in a box that holds the point."""
    values = [*outputs, *((x, x) for x in map(Fraction, point.tolist()))]
    for case in range(len(cases)):
        box = cases.box(case)
        if not ((cases.lower[box] <= point) & (point <= cases.upper[box])).all():
            continue
        atoms = range(int(cases.atom_start[case]), int(cases.atom_start[case + 1]))
        if all(_most(cases.rows[int(cases.row[a])], values) <= Fraction(float(cases.threshold[a])) for a in atoms):
            return case
    return None


def _most(row: tuple[tuple[int, Fraction], ...], values: list[tuple[Fraction, Fraction]]) -> Fraction:
    return sum((max(c * values[place][0], c * values[place][1]) for place, c in row), Fraction(0))


def run_outputs(model: bytes, network: Network, point: Array) -> list[tuple[Fraction, Fraction]]:
    """What onnxruntime computes there."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    ends = np.cumsum([network.nodes[i].size for i in network.inputs])[:-1]
    parts = np.split(point.astype(np.float32), ends)
    shapes = dict(zip(network.input_names, (network.nodes[i].shape for i in network.inputs), strict=True))
    feed = {name: part.reshape(shapes[name]) for name, part in zip(network.input_names, parts, strict=True)}
    values = np.concatenate([np.asarray(y, np.float64).reshape(-1) for y in session.run(list(network.output_names), feed)])
    return [(Fraction(x), Fraction(x)) for x in values.tolist()]


def planted(seed: int) -> Subject | None:
    """A random subject; None where the drawn model or property is of no use."""
    random = np.random.default_rng(seed)
    kind = models.KINDS[seed % len(models.KINDS)]
    model = models.random_model(random, kind)
    network = read_model.read(model)
    for _ in range(REDRAWN if kind == "linear" else 1):  # until no rounding of the written threshold to float32 leaves room
        found = _planted(random, seed, kind, model, network)
        if found is not None and found.tight:
            break
    return None if found is None else found.subject


@dataclass(frozen=True)
class _Found:
    subject: Subject
    tight: bool


def _planted(random: Random, seed: int, kind: str, model: bytes, network: Network) -> _Found | None:
    n_in, n_out = (sum(network.nodes[i].size for i in nodes) for nodes in (network.inputs, network.outputs))
    straight = kind == "linear"
    lower, upper = _box(random, network, n_in, straight)
    atoms = [_row(random, 1 if straight else n_out) for _ in range(1 if straight else int(random.choice([1, 1, 2])))]
    try:
        witness = _lowest(random, network, lower, upper, atoms[0])
    except Rejected:
        return None
    if straight:
        place, sign = atoms[0][0]
        model = models.recentred(model, place, float(sign * _most(tuple(atoms[0]), exact_outputs(network, witness))))
        network = read_model.read(model)
    computed = random.random() < 0.15
    outputs = run_outputs(model, network, witness) if computed else exact_outputs(network, witness)
    least = [_least_double(_most(tuple(row), outputs)) for row in atoms]
    texts = [_atom(row, value, 0.0 if straight else float(random.choice(MARGINS))) for row, value in zip(atoms, least, strict=True)]
    safe = [f"(and {_atom([(j, Fraction(1))], -1e6, 0.0)} {_atom([(j, Fraction(-1))], -1e6, 0.0)})" for j in range(int(random.integers(0, 2)))]
    text = _text(lower, upper, n_out, [f"(and {' '.join(texts)})", *safe])
    cases = read_property.bind(read_property.read(text), network)
    case, real = violated_case(cases, outputs, witness), violated_case(cases, exact_outputs(network, witness), witness)
    if case is None:
        return None
    name = f"planted {seed} {kind}{'' if real is not None else ' float32'}"
    subject = Subject(name, f"planted {seed}", model, text, network, cases, witness, case, real is not None)
    return _Found(subject, float(cases.threshold[0]) == least[0])


def _box(random: Random, network: Network, n_in: int, straight: bool) -> tuple[Array, Array]:
    """Float32 ends; `straight`: so narrow that no function of the network bends inside."""
    centre, width = random.uniform(-1, 1, n_in), random.uniform(0.05, 1, n_in) * float(random.choice([1.0, 0.3]))
    for _ in range(40):
        lower, upper = ((centre + sign * width).astype(np.float32).astype(np.float64) for sign in (-1, 1))
        if not straight:
            break
        checker = Checker(network, None)
        state = checker.state(1, lower[None], upper[None], {}, {}, BACKWARD)
        if not any(checker.matter(state, i).any() for i in checker.readers):
            break
        width = width / 2
    return lower, upper


def _row(random: Random, n_out: int) -> list[tuple[int, Fraction]]:
    """One output, of either sign, or a difference of two."""
    j, sign = int(random.integers(n_out)), Fraction(int(random.choice([-1, 1])))
    if n_out > 1 and random.random() < 0.4:
        return [(j, sign), ((j + 1) % n_out, -sign)]
    return [(j, sign)]


def _lowest(random: Random, network: Network, lower: Array, upper: Array, row: list[tuple[int, Fraction]]) -> Array:
    """A float32 point of the box where the functional is small: corners, random points, and points near the best of them."""
    dense = np.zeros(sum(network.nodes[i].size for i in network.outputs))
    for place, c in row:
        dense[place] = float(c)
    parts = random.choice([0.0, 1.0, 0.5], (SEARCHED, len(lower)), p=[0.45, 0.45, 0.1])
    best, least = lower, math.inf
    for k in range(ROUNDS):
        points = np.clip((lower + parts * (upper - lower)).astype(np.float32).astype(np.float64), lower, upper)
        low, high = point_state(network, points)
        values = (low / 2 + high / 2) @ dense
        if values.min() < least:
            best, least = points[values.argmin()], float(values.min())
        middle = (best - lower) / np.where(upper > lower, upper - lower, 1.0)
        parts = np.clip(middle + random.standard_normal((SEARCHED, len(lower))) * 0.5 ** (k + 1), 0.0, 1.0)
    return best


def _least_double(value: Fraction) -> float:
    """The smallest double that is not less."""
    found = value.numerator / value.denominator
    return found if Fraction(found) >= value else math.nextafter(found, math.inf)


def _atom(row: list[tuple[int, Fraction]], threshold: float, margin: float) -> str:
    """row <= threshold, moved up by the margin: so that what reaches the threshold is past it."""
    threshold = threshold + margin * (1 + abs(threshold))
    terms = " ".join(f"(* {'-1' if c < 0 else '1'} Y_{place})" for place, c in row)
    if len(row) == 1:
        place, c = row[0]
        return f"(<= Y_{place} {decimal(threshold)})" if c > 0 else f"(>= Y_{place} {decimal(-threshold)})"
    return f"(<= (+ {terms}) {decimal(threshold)})"


def decimal(value: float | Fraction) -> str:
    """Exactly this double, or these digits."""
    return format(Decimal(float(value)), "f")


def _text(lower: Array, upper: Array, n_out: int, cases: list[str]) -> bytes:
    lines = [f"(declare-const X_{i} Real)" for i in range(len(lower))] + [f"(declare-const Y_{j} Real)" for j in range(n_out)]
    for i, (low, high) in enumerate(zip(lower.tolist(), upper.tolist(), strict=True)):
        lines += [f"(assert (>= X_{i} {decimal(low)}))", f"(assert (<= X_{i} {decimal(high)}))"]
    return ("\n".join([*lines, f"(assert (or {' '.join(cases)}))"]) + "\n").encode()


def written(cases: read_property.Cases) -> bytes:
    """A property of the same cases in the same order (rows, boxes and thresholds as they are): what a broken reader might have understood."""
    lines = [f"(declare-const X_{i} Real)" for i in range(cases.n_in)] + [f"(declare-const Y_{j} Real)" for j in range(cases.n_out)]
    boxes = [_bounds(cases.lower[k], cases.upper[k]) for k in range(len(cases.lower))]
    common = len(set(cases.case_box.tolist())) == 1
    if common:
        lines += [f"(assert {bound})" for bound in boxes[cases.box(0)]]
    found = []
    for case in range(len(cases)):
        atoms = [_general(cases.rows[int(cases.row[a])], float(cases.threshold[a]), cases.n_out)
                 for a in range(int(cases.atom_start[case]), int(cases.atom_start[case + 1]))]
        found.append("(and " + " ".join([*([] if common else boxes[cases.box(case)]), *atoms]) + ")")
    return ("\n".join([*lines, f"(assert (or {' '.join(found)}))"]) + "\n").encode()


def _bounds(lower: Array, upper: Array) -> list[str]:
    ends = enumerate(zip(lower.tolist(), upper.tolist(), strict=True))
    return [text for i, (low, high) in ends for text in (f"(>= X_{i} {decimal(low)})", f"(<= X_{i} {decimal(high)})")]


def _general(row: tuple[tuple[int, Fraction], ...], threshold: float, n_out: int) -> str:
    names = [(f"Y_{place}" if place < n_out else f"X_{place - n_out}", decimal(c)) for place, c in row]
    terms = [f"(* {c} {name})" for name, c in names]
    left = terms[0] if len(terms) == 1 else f"(+ {' '.join(terms)})"
    return f"(<= {left} {decimal(threshold)})"


def safe(seed: int) -> Subject | None:
    """A planted subject with its thresholds moved so that the witness, and hopefully every input, is safe. Its `case` is -1."""
    found = planted(seed)
    if found is None:
        return None
    room = float(np.random.default_rng([seed, 1]).choice([1e-4, 1e-3, 0.01, 0.1]))
    moved = found.cases.threshold - room * (1 + np.abs(found.cases.threshold))
    text = written(replace(found.cases, threshold=moved))
    cases = read_property.bind(read_property.read(text), found.network)
    return replace(found, name=f"safe {seed}", text=text, cases=cases, case=-1, real=False)
