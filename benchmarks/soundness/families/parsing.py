"""Parser traps: properties that a verifier must read exactly as written, over networks small enough to enumerate.

Each instance has a text, and another that says what a reader with a certain mistake takes it to mean; the two have opposite truths. The
mistakes are those of research/soundness.md 4.1 and research/verifiers.md 3.3: constraints behind an `or`, boxes of their own in alternatives,
`and` taken for `or`, strictness exactly at the optimum, signs, operands exchanged, numbers cut short, comments, lines, names in another order.

The networks (`Probe`) have two inputs, and outputs of which each rises strictly with one input: Y_0 with X_0 in [10, 20), Y_1 with X_1 in [-20, -10),
Y_2 and Y_3 by the same function with X_0 and X_1 in [10, 20); from Y_4 on, Y_j in [20 j - 70, 20 j - 60). Texts name values by the place of the input
that they belong to, in sixteenths of its range: {Y0 12} is the value of Y_0 where X_0 is at 12/16. All these values are short binary fractions
that float32 computes exactly, and weights are not negative, so that no float32 execution passes an extreme value either: the truth is the
same in float32. Where the witness lies exactly at the optimum (knob "edge") its margin is 0, or as small as the text says.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact
from fractions import Fraction

import numpy as np
import onnx

from benchmarks import formula
from benchmarks.exact import enumerate as patterns
from benchmarks.exact import network
from benchmarks.soundness.families import parsing_texts
from benchmarks.soundness.instance import Instance, Planted, SuiteError
from benchmarks.soundness.net import Net
from benchmarks.soundness.traps import Point, executed

PLACES, WIDTH = 16, 2  # of an input's range
KINKS = (4, 10)  # places of hinges
HAIR, EXACT = Decimal(1).scaleb(-30), Context(prec=200, traps=[Inexact])
SCIENTIFIC = re.compile(r"-?\d+(\.\d*)?[eE][-+]?\d+")
TERM = re.compile(r"([-+]?)\s*(?:(\d+(?:\.\d+)?)\s+)?(?:([XY])(\d+)\s+(\d+)|(\d+(?:\.\d+)?))")
Text = parsing_texts.Text


@dataclass(frozen=True, eq=False)
class Probe:
    """y_j = offset_j + sum over k of weights[j, k] relu(x_i - start + 1/2), relu(x_i - kink_1), relu(x_i - kink_2), with i = j mod 2."""

    start: Fraction
    weights: list[list[Fraction]]
    offsets: list[Fraction]

    @staticmethod
    def draw(rng: np.random.Generator, outputs: int) -> Probe:
        """Eighths."""
        rows, offsets = [], []
        for j in range(outputs):
            row = [Fraction(int(rng.integers(8, 13)), 8), *(Fraction(int(v), 8) for v in rng.integers(1, 9, 2))]
            base = (10, -20, 10, 10)[j] if j < 4 else 20 * j - 70
            rows.append(rows[2] if j == 3 else row)
            offsets.append(offsets[2] if j == 3 else base + Fraction(int(rng.integers(0, 20)), 8))
        return Probe(Fraction(int(rng.integers(-32, -23)), 8), rows, offsets)

    def place(self, k: int) -> Fraction:
        """The input at k sixteenths of its range; the same for all inputs."""
        return self.start + Fraction(WIDTH * k, PLACES)

    def output(self, j: int, x: Fraction) -> Fraction:
        """Y_j where its input is x."""
        bends = (self.start - Fraction(1, 2), *map(self.place, KINKS))
        return self.offsets[j] + sum((w * max(x - b, Fraction(0)) for w, b in zip(self.weights[j], bends, strict=True)), Fraction(0))

    def model(self) -> onnx.ModelProto:
        """Gemm, Relu, Gemm."""
        net = Net(np.random.default_rng(0))
        bends = [float(b) for b in (self.start - Fraction(1, 2), *map(self.place, KINKS))]
        first = np.kron(np.eye(2), np.ones((1, 3)))
        last = np.zeros((6, len(self.weights)))
        for j, row in enumerate(self.weights):
            last[3 * (j % 2) : 3 * (j % 2) + 3, j] = [float(w) for w in row]
        hidden = net.node("Relu", net.node("Gemm", "x", net.constant(first), net.constant([-b for b in bends * 2])))
        outputs = [float(o) for o in self.offsets]
        return net.model(net.node("Gemm", hidden, net.constant(last), net.constant(outputs)), (1, 2), len(outputs))

    def filled(self, text: str) -> str:
        """The text with a number in place of every {...}."""
        return re.sub(r"\{([^}]*)\}", lambda match: self._number(match.group(1)), text)

    def _number(self, written: str) -> str:
        """A sum like `2 Y0 12 - Y1 4 + 1`, and behind a bar how it is written. Raises SuiteError."""
        expression, _, style = written.partition("|")
        total, end = Fraction(0), 0
        for match in TERM.finditer(expression):
            sign, factor, tensor, index, place, constant = match.groups()
            if expression[end : match.start()].strip() or (end and not sign):
                raise SuiteError(f"{written!r} is no sum of values")
            if tensor is None:
                value = Fraction(constant)
            else:
                value = self.place(int(place)) if tensor == "X" else self.output(int(index), self.place(int(place)))
            total += value * Fraction(factor or 1) * (-1 if sign == "-" else 1)
            end = match.end()
        if expression[end:].strip():
            raise SuiteError(f"{written!r} is no sum of values")
        return _written(total, style)


def _written(value: Fraction, style: str) -> str:
    """A binary fraction as a decimal: plain, mantissa and exponent, a hair above or below, with many zeros, or as a whole number above or below."""
    exact = EXACT.divide(Decimal(value.numerator), Decimal(value.denominator))
    match style:
        case "":
            return f"{exact:f}"
        case "e":
            return f"{exact.scaleb(-exact.adjusted())}e{exact.adjusted()}"
        case "E":
            return f"{exact.scaleb(-3)}E+3"
        case "e-":
            return f"{exact.scaleb(2):f}e-02"
        case "above" | "below":
            return f"{EXACT.add(exact, HAIR if style == 'above' else -HAIR):f}"
        case "zeros":
            return f"{exact:f}{'' if '.' in f'{exact:f}' else '.'}{'0' * 40}"
    raise SuiteError(f"no way of writing numbers is called {style!r}")


def second(text: str, outputs: int) -> str:
    """The same in VNN-LIB 2.0, comments and lines as they are; numbers without exponents, parentheses without blanks."""
    kept = [line for line in text.splitlines(keepends=True) if not line.startswith("(declare-const")]
    body = re.sub(r"\b([XY])_(\d+)\b", r"\1[0,\2]", "".join(kept))
    body = SCIENTIFIC.sub(lambda match: f"{Decimal(match.group()):f}", body)
    body = re.sub(r"\([ \t]+", "(", re.sub(r"[ \t]+\)", ")", body))
    head = f"(vnnlib-version <2.0>)\n(declare-network N\n  (declare-input X float32 [1, 2])\n  (declare-output Y float32 [1, {outputs}]))\n"
    return head + body


def instances(seed: int) -> Iterator[Instance]:
    """Every text of `parsing_texts`. Raises SuiteError where an enumeration does not confirm a truth."""
    names: dict[str, int] = {}
    for text in sorted(parsing_texts.TEXTS, key=lambda t: (t.name, t.sat == bool(zlib.crc32(t.name.encode()) % 2))):
        number = names[text.name] = names.get(text.name, 0) + 1
        yield instance(text, number, seed)


def drawn(text: Text, number: int, seed: int) -> tuple[Probe, str, str]:
    """The network, the property, and what it is misread as."""
    probe = Probe.draw(np.random.default_rng([seed, zlib.crc32(text.name.encode()), number]), text.outputs)
    return probe, probe.filled(text.whole(text.right)), probe.filled(text.whole(text.wrong))


def instance(text: Text, number: int, seed: int) -> Instance:
    """Raises SuiteError."""
    probe, right, _ = drawn(text, number, seed)
    name, model = f"parsing_{text.name}_{number}", probe.model()
    violation = formula.parse(right)
    truth = "sat" if text.sat else "unsat"
    found = patterns.decide(network.parse(model.SerializeToString()), violation).verdict
    if found != truth:
        raise SuiteError(f"{name}: the enumeration says {found}")
    planted = _planted(name, probe, violation, model) if text.sat else None
    return Instance(
        name, "parsing", model, right, second(right, text.outputs), truth, truth, "planted" if text.sat else "enumeration",
        f"All activation patterns are enumerated in exact rationals. It catches a verifier for which {text.misreading}.",
        (), {"text": text.name, "edge": text.edge, "nested": text.nested, "seed": seed}, planted,
    )  # fmt: skip


def _planted(name: str, probe: Probe, violation: formula.Violation, model: onnx.ModelProto) -> Planted:
    """The place on the grid that violates by most. Raises SuiteError where none does."""
    best: tuple[Fraction, Point] | None = None
    for k in np.ndindex(PLACES + 1, PLACES + 1):
        point = tuple(probe.place(int(i)) for i in k)
        outputs = [probe.output(j, point[j % 2]) for j in range(len(probe.offsets))]
        if violation.formula.holds(point, outputs, True):
            margin = excess(violation.formula, point, outputs)
            best = (margin, point) if best is None or margin > best[0] else best
    if best is None:
        raise SuiteError(f"{name}: no place of the grid violates")
    ran = [Fraction(v) for v in executed(model, best[1])]
    return Planted(np.array([float(v) for v in best[1]], dtype=np.float32), best[0], float(excess(violation.formula, best[1], ran)))


def excess(part: formula.Formula, x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction:
    """The violation margin at a point within its box: least of an `and`, most of an `or`; bounds of one input do not count where they hold."""
    margin = _excess(part, x, y)
    if margin is None:
        raise SuiteError("a property of the inputs alone has no margin")
    return margin


def _excess(part: formula.Formula, x: Sequence[Fraction], y: Sequence[Fraction]) -> Fraction | None:
    if isinstance(part, formula.Atom):
        if part.bounds_one_input and part.holds(x, y, True):
            return None
        values = {"X": x, "Y": y}
        return part.bound - sum((c * values[t][i] for t, i, c in part.terms), Fraction(0))
    found = [_excess(p, x, y) for p in part.parts]
    known = [v for v in found if v is not None]
    if part.kind == "or":
        return max(known) if len(known) == len(found) else None
    return min(known, default=None)
