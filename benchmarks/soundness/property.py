"""A property over boxes and linear atoms of the outputs, written as VNN-LIB 1.0 and 2.0. The parser traps write their own text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction


@dataclass(frozen=True)
class Atom:
    """sum of coefficients[j] Y_j <= bound (or < if strict). The unsafe set is where every atom of some case holds."""

    coefficients: tuple[Decimal, ...]
    bound: Decimal
    strict: bool = False

    def margin(self, outputs: Sequence[Fraction]) -> Fraction:
        """bound - sum c_j y_j, exactly: positive inside, 0 on the edge."""
        return Fraction(self.bound) - sum((Fraction(c) * y for c, y in zip(self.coefficients, outputs, strict=True)), Fraction(0))

    def holds(self, outputs: Sequence[Fraction]) -> bool:
        """As written, strictness included."""
        return self.margin(outputs) > 0 if self.strict else self.margin(outputs) >= 0


@dataclass(frozen=True)
class Property:
    """lower <= X <= upper (decimals, flat [n]) and one of `cases`, each a conjunction of atoms over the flat outputs [m]."""

    lower: tuple[Decimal, ...]
    upper: tuple[Decimal, ...]
    cases: tuple[tuple[Atom, ...], ...]

    def margin(self, outputs: Sequence[Fraction]) -> Fraction:
        """The violation margin: the largest over the cases of the smallest over their atoms. Positive: violated."""
        return max(min(atom.margin(outputs) for atom in case) for case in self.cases)

    def violated(self, outputs: Sequence[Fraction]) -> bool:
        """Whether the outputs are unsafe, as written."""
        return any(all(atom.holds(outputs) for atom in case) for case in self.cases)


def decimal(value: float) -> Decimal:
    """The exact decimal of a float."""
    return Decimal(float(value))


def vnnlib1(prop: Property) -> str:
    """The text in VNN-LIB 1.0 as VNN-COMP writes it."""
    outputs = len(prop.cases[0][0].coefficients)
    lines = [f"(declare-const X_{i} Real)" for i in range(len(prop.lower))] + [f"(declare-const Y_{j} Real)" for j in range(outputs)]
    for i, (low, high) in enumerate(zip(prop.lower, prop.upper, strict=True)):
        lines += [f"(assert (>= X_{i} {_number(low)}))", f"(assert (<= X_{i} {_number(high)}))"]
    lines += _unsafe(prop, [f"Y_{j}" for j in range(outputs)])
    return "\n".join(lines) + "\n"


def vnnlib2(prop: Property, input_shape: Sequence[int], output_shape: Sequence[int]) -> str:
    """The text in VNN-LIB 2.0: one network, `X` and `Y` of element type float32, elements named by their indices."""
    x, y = _elements("X", input_shape), _elements("Y", output_shape)
    lines = [
        "(vnnlib-version <2.0>)",
        "(declare-network N",
        f"  (declare-input X float32 {_shape(input_shape)})",
        f"  (declare-output Y float32 {_shape(output_shape)}))",
    ]
    for name, low, high in zip(x, prop.lower, prop.upper, strict=True):
        lines += [f"(assert (>= {name} {_number(low)}))", f"(assert (<= {name} {_number(high)}))"]
    return "\n".join(lines + _unsafe(prop, y)) + "\n"


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join(str(n) for n in shape) + "]"


def _elements(name: str, shape: Sequence[int]) -> list[str]:
    indices: list[tuple[int, ...]] = [()]
    for n in shape:
        indices = [(*index, i) for index in indices for i in range(n)]
    return [f"{name}{_shape(index)}" for index in indices]


def _unsafe(prop: Property, outputs: Sequence[str]) -> list[str]:
    cases = [" ".join(_atom(atom, outputs) for atom in case) for case in prop.cases]
    if len(cases) == 1:
        return [f"(assert {_atom(atom, outputs)})" for atom in prop.cases[0]]
    return ["(assert (or", *(f"    (and {case})" for case in cases), "))"]


def _atom(atom: Atom, outputs: Sequence[str]) -> str:
    """The form that VNN-COMP's files use where one fits, since many verifiers read nothing else: Y_j against a number, Y_i against Y_j."""
    used = [(c, name) for c, name in zip(atom.coefficients, outputs, strict=True) if c]
    less, greater = ("<", ">") if atom.strict else ("<=", ">=")
    match used:
        case []:
            raise ValueError("an atom without outputs")
        case [(c, name)] if abs(c) == 1:
            return f"({less if c > 0 else greater} {name} {_number(_negated(atom.bound) if c < 0 else atom.bound)})"
        case [(c, first), (d, second)] if not atom.bound and c == -d and abs(c) == 1:
            return f"({less if c > 0 else greater} {first} {second})"
    terms = [name if c == 1 else f"(* {_number(c)} {name})" for c, name in used]
    form = terms[0] if len(terms) == 1 else "(+ " + " ".join(terms) + ")"
    return f"({less} {form} {_number(atom.bound)})"


def _number(value: Decimal) -> str:
    """Without an exponent and with a decimal place: to the standard's parser `1` is a whole number, and no float32."""
    text = f"{value:f}"
    return text if "." in text else f"{text}.0"


def _negated(value: Decimal) -> Decimal:
    """-value exactly (arithmetic on decimals rounds), and 0 without a sign."""
    return value.copy_negate() if value else Decimal(0)
