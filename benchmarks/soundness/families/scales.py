"""Numbers so small or so large that a tool may take them for something else: a thin box for a point, a faint weight for 0, a low threshold for 0.

Every network is the same ordinary one, sum_i c_i relu(w_i u + b_i) with c_i > 0, asked in other units: its inputs, its hidden layer or its
output are scaled by a power of two, which is exact in float32 as it is over the reals. It is convex in u, so its largest value on a box is found
at a corner; all corners are evaluated in exact rationals. The threshold lies an eighth beyond the largest value (unsat), or an eighth short of it
(sat, planted in the best corner), where the eighth is of the distance to what remains of the largest value once the tool has made its mistake.

Marabou #568 (PREPROCESSOR_ALMOST_FIXED_THRESHOLD, 1e-5), #670 (constant inputs); tolerances of simplex and MILP codes (1e-6 to 1e-10).
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.soundness import rational
from benchmarks.soundness.families.forms import Question, exactly, question
from benchmarks.soundness.instance import Array, Instance, SuiteError
from benchmarks.soundness.net import Net

NAME = "scales"
INPUTS, HIDDEN = 3, 6
SHARE = 2.0**-8  # of what the score adds up: the least distance to the threshold, far more than float32 loses on so few terms
DRAWS = 100
FAR = 3  # the form with a case that is out of reach; the others need operators that have nothing to do with the subject


@dataclass(frozen=True)
class Kind:
    """How the ordinary network is asked. `settings`: powers of two (for `fixed`: how many inputs are constant); `fault` says what is mistaken."""

    name: str
    settings: tuple[int, ...]
    fault: str


KINDS = (
    Kind("thin", (14, 17, 20, 24, 30, 40), "a box of width 2^-k is taken for a point"),
    Kind("slit", (14, 17, 20, 30), "one input's range of width 2^-k is taken for a number"),
    Kind("off", (17, 20), "a box of width 2^-k beside 1 is taken for a point"),
    Kind("fixed", (1, 2, 3), "an input whose bounds are equal is lost"),
    Kind("faint", (20, 30, 34, 40), "weights of 2^-k are taken for 0"),
    Kind("loud", (10, 20, 30), "hidden values of 2^k drown what is added to them"),
    Kind("wide", (10, 20, 30), "an input's range of 2^k is taken for unbounded"),
    Kind("low", (20, 30, 34, 40), "a threshold of 2^-k is taken for 0"),
)


@dataclass(frozen=True, eq=False)
class Ordinary:
    """c relu(w u + b): w [HIDDEN, INPUTS], b, c [HIDDEN], on the box [low, high] of u; `mistaken` are boxes that a mistake leaves of it."""

    w: Array
    b: Array
    c: Array
    low: Array
    high: Array
    mistaken: tuple[tuple[Array, Array], ...]

    def largest(self, low: Array, high: Array) -> tuple[float, Array]:
        """The largest value over the corners of a box, and where it is attained; exact, since all numbers are small multiples of 2^-9."""
        corners = [np.array(c) for c in itertools.product(*zip(low, high, strict=True))]
        values = [float(self.c @ np.maximum(self.w @ u + self.b, 0)) for u in corners]
        return max(values), corners[int(np.argmax(values))]

    def adds_up(self) -> float:
        """What the score adds up, at most."""
        return float(self.c @ (np.abs(self.w).sum(axis=1) + np.abs(self.b)))


def instances(seed: int) -> Iterator[Instance]:
    """Two of each kind and setting."""
    for kind in KINDS:
        for number, k in enumerate(kind.settings, 1):
            first = zlib.crc32(f"{kind.name}{number}".encode()) % 2 == 0
            for letter, sat in (("a", first), ("b", not first)):
                yield _instance(kind, k, f"{NAME}_{kind.name}_{number}{letter}", sat, seed)


def check(instance: Instance) -> None:
    """All corners again, from the file, in exact rationals. Raises SuiteError."""
    knobs = instance.knobs
    kind = next(k for k in KINDS if k.name == knobs["kind"])
    asked, point, corners = _asked(kind, int(knobs["k"]), instance.name, bool(knobs["sat"]), int(knobs["seed"]))
    if asked.model.SerializeToString(deterministic=True) != instance.model.SerializeToString(deterministic=True):
        raise SuiteError(f"{instance.name}: another file")
    violated = [asked.property.violated(rational.exact(asked.model, exactly(corner))) for corner in corners]
    if any(violated) != (instance.real == "sat") or asked.property.violated(rational.exact(asked.model, exactly(point))) != (instance.real == "sat"):
        raise SuiteError(f"{instance.name}: is not {instance.real}")


def _instance(kind: Kind, k: int, name: str, sat: bool, seed: int) -> Instance:
    asked, point, corners = _asked(kind, k, name, sat, seed)
    truth = "sat" if sat else "unsat"
    because = f"convex, so largest at one of {len(corners)} corners, all evaluated exactly; in other units, where {kind.fault}"
    operators = tuple(dict.fromkeys(node.op_type for node in asked.model.graph.node))
    return Instance(
        name, NAME, asked.model, *asked.texts, truth, truth, "planted" if sat else "theorem", because, operators,
        {"kind": kind.name, "k": k, "sat": sat, "seed": seed}, asked.plant(point) if sat else None,
    )  # fmt: skip


def _asked(kind: Kind, k: int, name: str, sat: bool, seed: int) -> tuple[Question, Array, list[Array]]:
    """The question, the corner where the score is largest, and all corners, in the units of the file."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    plain = _ordinary(kind, k, rng)
    best, corner = plain.largest(plain.low, plain.high)
    left = max(plain.largest(*box)[0] for box in plain.mistaken)
    net = Net(rng)
    score, unit, offset, out = _written(net, kind, k, plain)
    threshold = (best + (best - left) / 8 * (-1 if sat else 1)) * out
    low, high, point = ((u / unit + offset) for u in (plain.low, plain.high, corner))
    form = 0 if kind.name == "low" else (0, FAR)[int(rng.integers(2))]  # the threshold of the far case would not be low
    corners = [np.array(c) for c in itertools.product(*zip(low, high, strict=True))]
    return question(net, score, (1, INPUTS), threshold, form, low, high), point, corners


def _ordinary(kind: Kind, k: int, rng: np.random.Generator) -> Ordinary:
    """Weights such that the mistake costs enough to be seen. Raises SuiteError."""
    for _ in range(DRAWS):
        w, b, c = (rng.integers(-16, 17, shape) / 8.0 for shape in ((HIDDEN, INPUTS), HIDDEN, HIDDEN))
        low, high = -np.ones(INPUTS), np.ones(INPUTS)
        if kind.name in ("thin", "off"):
            low = np.zeros(INPUTS)
        elif kind.name == "slit":
            low[0] = 0.0
        elif kind.name == "fixed":
            low[:k] = high[:k] = rng.integers(1, 9, k) / 8.0
        plain = Ordinary(w, b, np.abs(c) + 0.125, low, high, tuple(_mistakes(kind, k, low, high)))
        best, left = plain.largest(low, high)[0], max(plain.largest(*box)[0] for box in plain.mistaken)
        if (best - left) / 8 >= SHARE * plain.adds_up():
            return plain
    raise SuiteError(f"{NAME}: no weights for {kind.name} in {DRAWS} draws")


def _mistakes(kind: Kind, k: int, low: Array, high: Array) -> Iterator[tuple[Array, Array]]:
    """The boxes that are left of [low, high] by a mistake: points where it is thin, 0 where inputs are lost, else one point of the box."""
    touched = np.arange(INPUTS) < {"slit": 1, "fixed": k}.get(kind.name, INPUTS)
    for value in (0 * low,) if kind.name == "fixed" else (low, (low + high) / 2):
        yield np.where(touched, value, low), np.where(touched, value, high)


def _written(net: Net, kind: Kind, k: int, plain: Ordinary) -> tuple[str, Array, float, float]:
    """(score [1, 1], units u/x of the inputs [INPUTS], where x starts, unit of the output); the score is that unit times the ordinary value."""
    up, x, offset = 2.0**k, "x", 0.0
    unit, hidden, out = np.ones(INPUTS), 1.0, 1.0
    if kind.name in ("thin", "off"):
        unit *= up
    elif kind.name == "slit":
        unit[0] = up
    elif kind.name == "wide":
        unit /= up
    elif kind.name in ("faint", "loud"):
        hidden = up if kind.name == "loud" else 1 / up
    elif kind.name == "low":
        out = 1 / up
    if kind.name == "off":
        x, offset = net.node("Sub", "x", net.constant(np.ones((1, INPUTS)))), 1.0
    h = net.node("Add", net.node("MatMul", x, net.constant((plain.w * unit).T * hidden)), net.constant(plain.b * hidden))
    score = net.node("MatMul", net.node("Relu", h), net.constant(plain.c[:, None] * (out / hidden)))
    return score, unit, offset, out
