"""Floating-point traps: the truth over the reals and the truth in float32 differ, or a margin is too small for careless arithmetic.

The gadgets (`rounding_parts`; research/soundness.md 2.1 and 2.5) are asked on both sides of a threshold between their value over the reals and
the value of some float32 execution. Over the reals the truth is worked out on the file: by enumeration, or by interval arithmetic in rationals. In
float32, `sat` needs an execution that violates, onnxruntime's or one evaluated step by step in numpy; where none is known, nothing is claimed.
Further: ends of boxes between a decimal and the float32 next to it, thresholds that are met exactly, steps at their jump, saturated functions,
and overflow.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np

from benchmarks import formula
from benchmarks.exact import enumerate as patterns
from benchmarks.exact import network
from benchmarks.soundness import rational
from benchmarks.soundness.families import rounding_parts as parts
from benchmarks.soundness.families.forms import Question, exactly
from benchmarks.soundness.families.rounding_parts import Gadget, Numbers
from benchmarks.soundness.instance import Array, Instance, SuiteError
from benchmarks.soundness.net import Net
from benchmarks.soundness.property import Atom, Property, decimal
from benchmarks.soundness.recheck import margin
from benchmarks.soundness.traps import executed

NAME = "rounding"
BELOW, ABOVE = (decimal(1.0),), (decimal(-1.0),)  # Y_0 <= t, and -Y_0 <= -t


@dataclass(frozen=True, eq=False)
class Case:
    """A question; a point that may violate, with the outputs that float32 executions have there; whether the
    float32 truth is that of the reals, by `because`."""

    name: str
    question: Question
    point: Array | None
    runs: tuple[float, ...]
    because: str
    as_the_reals: bool = False


def instances(seed: int) -> Iterator[Instance]:
    """All of them."""
    for case in cases(seed):
        yield _instance(case, seed)


@lru_cache(maxsize=2)
def _cases(seed: int) -> tuple[Case, ...]:
    return tuple(cases(seed))


def cases(seed: int) -> Iterator[Case]:
    """The questions, before their truth is worked out."""
    for make in parts.GADGETS:
        for gadget in make(seed):
            yield from _both_sides(gadget)
    yield from _edges_of_boxes()
    yield from _thresholds_that_are_met(seed)
    yield from _steps()
    yield from _saturated()
    yield from _overflows()
    yield from _constants()


def check(instance: Instance) -> None:
    """The case once more: the same file and texts, and the same truths. Raises SuiteError."""
    seed = int(instance.knobs["seed"])
    again = next((_instance(case, seed) for case in _cases(seed) if f"{NAME}_{case.name}" == instance.name), None)
    if again is None or (again.real, again.float32, again.property) != (instance.real, instance.float32, instance.property):
        raise SuiteError(f"{instance.name}: made again, it is not the same")
    if again.model.SerializeToString(deterministic=True) != instance.model.SerializeToString(deterministic=True):
        raise SuiteError(f"{instance.name}: made again, its file is not the same")


def _instance(case: Case, seed: int) -> Instance:
    """Work out both truths. Raises SuiteError where neither is known."""
    name, asked = f"{NAME}_{case.name}", case.question
    violation = formula.parse(asked.texts[0])
    real, proof = _over_the_reals(name, asked, case.point, violation)
    in_float32 = "unknown"
    if case.as_the_reals:
        in_float32 = real
    elif case.point is not None:
        point = exactly(case.point)
        outputs = [[Fraction(v)] for v in case.runs if np.isfinite(v)]
        ran = executed(asked.model, tuple(point))
        outputs += [[Fraction(v) for v in ran]] if np.isfinite(ran).all() else []
        in_float32 = "sat" if any(violation.formula.holds(point, y, exact_box=True) for y in outputs) else "unknown"
    planted = asked.plant(case.point) if case.point is not None and "sat" in (real, in_float32) else None
    knobs = {"trap": case.name.rsplit("_", 1)[0], "runs": [float(v).hex() for v in case.runs], "seed": seed}
    operators = tuple(sorted({n.op_type for n in asked.model.graph.node} - {"Reshape"}))
    return Instance(
        name, NAME, asked.model, *asked.texts, real, in_float32, proof, case.because, operators, knobs, planted
    )  # fmt: skip


def _over_the_reals(name: str, asked: Question, point: Array | None, violation: formula.Violation) -> tuple[str, str]:
    """The truth and the kind of its proof: the point violates, or interval arithmetic, or enumeration. Raises SuiteError."""
    if point is not None:
        at = exactly(point)
        low, high = margin(violation.formula, at, rational.enclose(asked.model, at))
        exact = low is not None and low == high
        if low is None or low > 0 or (exact and violation.formula.holds(at, rational.exact(asked.model, at), exact_box=True)):
            return "sat", "planted"
    box = patterns.unsafe_cases(violation)[0].box
    _, most = margin(violation.formula, box.lower, rational.bound(asked.model, list(zip(box.lower, box.upper, strict=True))))
    if most is not None and most < 0:
        return "unsat", "theorem"
    try:
        truth = patterns.decide(network.parse(asked.model.SerializeToString()), violation)
    except network.UnknownModel as error:
        raise SuiteError(f"{name}: its truth over the reals is not known: {error}") from error
    if truth.verdict == "sat":
        raise SuiteError(f"{name}: is sat over the reals, but not at the point")
    return "unsat", "enumeration"


def asked_of(
    net: Net, output: str, shape: tuple[int, ...], lower: Sequence[Decimal], upper: Sequence[Decimal], *atoms: Atom, outputs: int = 1
) -> Question:  # fmt: skip
    """One case of `atoms`."""
    return Question(net.model(output, shape, outputs), Property(tuple(lower), tuple(upper), (atoms,)), shape)


def _decimals(values: Numbers) -> list[Decimal]:
    return [decimal(float(v)) for v in values]


def _both_sides(gadget: Gadget) -> Iterator[Case]:
    """A threshold between the exact value and that of the execution that is farthest from it; Y_0 <= t and Y_0 >= t."""
    point = np.asarray(gadget.point, dtype=np.float64)
    model = gadget.net.model(gadget.output, gadget.shape, 1)
    value = rational.enclose(model, exactly(point))[0][0]
    values = [Fraction(v) for v in (*gadget.runs, *executed(model, tuple(exactly(point))))]
    far = min(values) if gadget.least else max(values, key=lambda v: abs(v - value))
    if far == value:
        raise SuiteError(f"{gadget.name}: no execution differs from the exact value")
    t = _between(far, value)
    because = f"over the reals Y_0 is {float(value):.9g} at the point, in float32 it may be {float(far):.9g}: {gadget.why}"
    sides = [(ABOVE, t.copy_negate()), (BELOW, t)]
    if value < Fraction(t):
        sides.reverse()  # the one that the exact value is on comes first
    letters = "ab" if zlib.crc32(gadget.name.encode()) % 2 else "ba"
    for letter, (side, bound) in zip(letters, sides, strict=True):
        asked = asked_of(gadget.net, gadget.output, gadget.shape, _decimals(gadget.lower), _decimals(gadget.upper), Atom(side, bound))
        yield Case(f"{gadget.name}{letter}", asked, point, gadget.runs, because)


def _between(a: Fraction, b: Fraction) -> Decimal:
    """A short binary fraction near the middle."""
    step = Fraction(1)
    while step > abs(b - a) / 4:
        step /= 2
    while step * 2 < abs(b - a) / 4:
        step *= 2
    return decimal(float(round((a + b) / 2 / step) * step))


def _edges_of_boxes() -> Iterator[Case]:
    """x <= 0.1 and Y_0 = 2^k x >= t with 2^k 0.1 < t < 2^k RN32(0.1): no x of the box, but the float32 number that its end is rounded to."""
    for number, (end, k) in enumerate((("0.1", 0), ("0.1", 3), ("0.7", 0), ("0.2", 1), ("0.3", 2), ("0.6", 0)), 1):
        exact, near = Fraction(end), Fraction(float(np.float32(end)))
        for letter, sign in (("a", 1), ("b", -1)):
            net = Net(np.random.default_rng(number))
            out = net.node("Gemm", "x", net.constant([[sign * 2.0**k]]), net.constant([0.0]))
            inner, outer = sorted((exact, near))
            t = _between(inner * 2**k, outer * 2**k)
            upper = end if near > exact else str(Decimal(float(near)))
            zero, side = Decimal(0), (ABOVE if sign > 0 else BELOW)
            asked = asked_of(net, out, (1, 1), [zero], [Decimal(upper)], Atom(side, t.copy_negate()))
            if near > exact:
                yield Case(f"box_{number}{letter}", asked, None, (), f"the box ends at {end}, and float32's next number lies beyond")


def _thresholds_that_are_met(seed: int) -> Iterator[Case]:
    """Whole numbers as weights, and every operator monotone towards one corner: the largest value is known exactly, and asked for with and
    without equality. Rounding is monotone, and at the corner nothing is rounded, so that no execution exceeds it."""
    for number in range(1, 7):
        rng = np.random.default_rng([seed, number])
        net = Net(rng)
        n, hidden = int(rng.integers(1, 4)), int(rng.integers(2, 6))
        signs = rng.choice([-1, 1], n)
        first = net.node("Gemm", "x", net.constant(rng.integers(1, 4, (n, hidden)) * signs[:, None]), net.constant(rng.integers(0, 3, hidden)))
        value = net.node("Relu", first) if number % 2 else net.node("LeakyRelu", first, alpha=0.25)
        out = net.node("Gemm", value, net.constant(rng.integers(1, 4, (hidden, 1))), net.constant(rng.integers(1, 3, 1)))
        lower, upper = -np.ones(n), np.ones(n) * int(rng.integers(1, 3))
        best = np.where(signs > 0, upper, lower)
        top = float(rational.exact(net.model(out, (1, n), 1), exactly(best))[0])
        ulp = float(np.spacing(np.float32(top)))
        because = f"every operator is monotone towards a corner, where nothing is rounded: the largest value is exactly {top:g}"
        for place, (t, strict, point) in enumerate(((top, False, best), (top, True, None), (top + ulp, False, None), (top - ulp, True, best))):
            asked = asked_of(net, out, (1, n), _decimals(lower), _decimals(upper), Atom(ABOVE, decimal(t).copy_negate(), strict))
            yield Case(f"met_{number}{'abcd'[(place + number) % 4]}", asked, point, (), because, as_the_reals=True)


def _steps() -> Iterator[Case]:
    """Sign is 0 at 0, and nowhere else between -1 and 1."""
    half = decimal(0.5)
    middle = (Atom(BELOW, half), Atom(ABOVE, half))
    between = (Atom(BELOW, decimal(0.75)), Atom(ABOVE, decimal(-0.25)))
    for number, weights in enumerate(([1.0], [2.0, -1.0], [1.0, 1.0, -3.0], [4.0, 2.0, 1.0, 1.0]), 1):
        n = len(weights)
        for letter, atoms, point in (("a", middle, np.zeros(n)), ("b", between, None)):
            net = Net(np.random.default_rng(number))
            out = net.node("Sign", net.node("Gemm", "x", net.constant(np.array(weights).reshape(-1, 1))))
            asked = asked_of(net, out, (1, n), [decimal(-1.0)] * n, [decimal(1.0)] * n, *atoms)
            because = "Sign takes the values -1, 0 and 1 only, and 0 where its argument is 0"
            yield Case(f"step_{number}{letter}", asked, point, (0.0,) if point is not None else (), because, as_the_reals=True)


def _saturated() -> Iterator[Case]:
    """Functions that never reach their limits, but for rounding."""
    one, zero = decimal(1.0), decimal(0.0)
    rows = (("Sigmoid", 24.0, ABOVE, one), ("Sigmoid", -120.0, BELOW, zero), ("Tanh", 14.0, ABOVE, one), ("Tanh", -14.0, BELOW, one.copy_negate()),
            ("Exp", -120.0, BELOW, zero), ("Erf", 6.0, ABOVE, one), ("Softplus", -120.0, BELOW, zero), ("Softmax", 30.0, ABOVE, one),
            ("Softmax", -120.0, BELOW, zero))  # fmt: skip
    for number, (kind, x, side, limit) in enumerate(rows, 1):
        for letter, width in (("a", 0.0), ("b", 2.0)):
            net = Net(np.random.default_rng(number))
            if kind == "Softmax":
                both = net.node("Softmax", net.node("Concat", "x", net.constant([[0.0]]), axis=1), axis=1)
                out = net.node("Slice", both, net.whole(0), net.whole(1), net.whole(1))
            else:
                out = net.node(kind, "x")
            lower, upper = sorted((x, x + np.sign(x) * width))
            bound = limit.copy_negate() if side is ABOVE and limit else limit
            asked = asked_of(net, out, (1, 1), [decimal(lower)], [decimal(upper)], Atom(side, bound))
            because = f"{kind} never reaches its limit over the reals; in float32 it may be rounded to it"
            yield Case(f"limit_{number}{letter}", asked, np.array([x + np.sign(x) * width]), (), because)


def _overflows() -> Iterator[Case]:
    """Infinity and NaN violate nothing, and prove nothing."""
    for number, (weights, t, side) in enumerate((([1.0, 1.0, -1.0], 1.5, ABOVE), ([1.0, 1.0, -1.0], 0.5, BELOW),
                                                 ([1.0, -1.0, 1.0, -1.0], 0.5, ABOVE), ([1.0, 1.0, -1.0, -1.0], -0.5, BELOW)), 1):  # fmt: skip
        for letter, relu in (("a", False), ("b", True)):
            net = Net(np.random.default_rng(number))
            n = len(weights)
            value = net.node("Gemm", "x", net.constant(np.array(weights).reshape(-1, 1) * 2.0**127))
            value = net.node("Sub", net.node("Relu", value), net.node("Relu", net.node("Neg", value))) if relu else value
            bound = decimal(t * 2.0**127)
            ones = [decimal(1.0)] * n
            asked = asked_of(net, value, (1, n), ones, ones, Atom(side, bound.copy_negate() if side is ABOVE else bound))
            because = "over the reals the sum is a moderate multiple of 2^127; in float32 it may overflow"
            yield Case(f"overflow_{number}{letter}", asked, None, (), because)


def _constants() -> Iterator[Case]:
    """A constant 0.1 of the file is RN32(0.1), which is above the 0.1 of the property."""
    for number, text in enumerate(("0.1", "0.7", "0.3", "0.6"), 1):
        for letter, side in (("a", ABOVE), ("b", BELOW)):
            net = Net(np.random.default_rng(number))
            value = net.node("Relu", net.node("Sub", "x", net.constant(2.0)))
            out = net.node("Add", value, net.constant(float(np.float32(text))))
            bound = Decimal(text)
            atom = Atom(side, bound.copy_negate() if side is ABOVE else bound)
            asked = asked_of(net, out, (1, 1), [decimal(-1.0)], [decimal(1.0)], atom)
            sat = (Fraction(float(np.float32(text))) >= Fraction(text)) == (side is ABOVE)
            because = f"the constant is the float32 number next to {text}, and Y_0 is always exactly that"
            yield Case(f"constant_{number}{letter}", asked, np.array([0.5]) if sat else None, (), because)
