"""What float32 itself computes, bit for bit, by z3's theory of floating-point numbers: for a few dozen operations.

What is decided is one program: the file's operators in the order of `graph.float32_program`. Other orders are other programs, so
"unsat" here is no proof for every runtime; it is an oracle for `--semantics float32`. Inputs are the float32 numbers of the witness
box (ends rounded to nearest, as for witnesses), atoms are compared exactly, as written.

Every value carries the smallest and largest float32 number that it can be: rounding is monotone, so the ends of an interval, rounded
as the program rounds, enclose the program without error terms. They prove that nothing overflows (else "unknown": Inf and NaN are in no
proof), fix what is stable, and are given to z3 as lemmas.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import z3  # type: ignore[import-untyped]
from numpy.typing import NDArray

from graph.float32_program import Operation, Program
from specs.canonical import Atom, Case, Property, Rationals, Variable
from specs.rounding import nearest_float32
from verifier.solver import Answer, Question

Array = NDArray[Any]

MOST_WORK = 400  # floating-point operations; beyond that z3 is not asked
LARGEST = Fraction(2**128 - 2**104)  # of float32
GRID = Fraction(1, 2**149)  # every float32 number is a multiple of it
SINGLE, WIDE = z3.Float32(), z3.FPSort(10, 320)  # WIDE holds sums of fewer than 2^40 float32 numbers exactly
ROUND = z3.RNE()


class Undecidable(Exception):
    """The question is outside of what is encoded here; the sentence says why."""


@dataclass(frozen=True, eq=False)
class Number:
    """A float32 value of the program: `lower` <= it <= `upper` (float32 numbers, exactly), and its z3 term."""

    lower: Fraction
    upper: Fraction
    term: z3.FPRef


def solve_smt_float32(question: Question, seconds: float) -> Answer:
    """Whether the case has an execution of the question's float32 program. "sat": `point` [n_in] holds float32 numbers."""
    if question.program is None:
        return Answer("unknown", reason="the float32 program of the file is not known")
    problem = question.problem
    case = next(itertools.islice(iter(problem.spec.cases), question.case, None))
    box = problem.case_box[question.case]
    try:
        return decide(question.program, problem.witness_lower[box], problem.witness_upper[box], case, problem.spec, seconds)
    except Undecidable as error:
        return Answer("unknown", reason=str(error))


def decide(program: Program, lower: Array, upper: Array, case: Case, spec: Property, seconds: float) -> Answer:
    """The same for a program, its inputs between float32 `lower` and `upper` [n_in]. Raises Undecidable."""
    if program.work > MOST_WORK:
        raise Undecidable(f"the network has {program.work} floating-point operations, more than the {MOST_WORK} that are put to z3")
    inputs = between(lower, upper)
    values = enclose(program, inputs)
    tensors = {**_named(spec.inputs, inputs), **_named(spec.outputs, [values[i] for i in program.outputs])}
    unsafe = [_atom(atom, tensors) for atom in case.atoms]
    if any(z3.is_false(atom) for atom in unsafe):
        return Answer("unsat", reason="intervals in float32 suffice")
    solver = z3.Tactic("qffp").solver()
    solver.set("timeout", max(1, int(1000 * seconds)))
    solver.add(*unsafe, *(_lemma(value) for value in values if not _is_constant(value)))
    try:
        found = solver.check()
    except z3.Z3Exception as error:  # z3 has no other: what happened is in the text
        return Answer("unknown", reason=_why(str(error)))
    if found == z3.unsat:
        return Answer("unsat")
    if found != z3.sat:
        return Answer("unknown", reason=_why(solver.reason_unknown()))
    return Answer("sat", np.asarray([_number(solver.model(), x) for x in inputs], np.float64))


def _why(said: str) -> str:
    """"time", "memory", or a sentence, from what z3 says of itself."""
    for word, signs in (("time", ("timeout", "canceled")), ("memory", ("memory", "memout"))):
        if any(sign in said for sign in signs):
            return word
    return f"z3 says {said}"


def enclose(program: Program, inputs: Sequence[Number]) -> list[Number]:
    """Every value of the program. At a point (lower == upper) that is what the program computes. Raises Undecidable where it may overflow."""
    if len(inputs) != program.n_in:
        raise Undecidable(f"{len(inputs)} inputs given to a program with {program.n_in}")
    values = list(inputs)
    for operation in program.operations:
        values.append(_value(operation, [values[i] for i in operation.operands]))
    return values


def between(lower: Sequence[float] | Array, upper: Sequence[float] | Array) -> list[Number]:
    """Inputs between float32 numbers `lower` and `upper` [n_in]; fixed where these are equal."""
    return [_input(i, Fraction(float(a)), Fraction(float(b))) for i, (a, b) in enumerate(zip(lower, upper, strict=True))]


def _value(operation: Operation, operands: Sequence[Number]) -> Number:
    match operation.kind, operands:
        case "constant", []:
            return _constant(Fraction(operation.value))
        case "add", [a, b]:
            return _add(a, b)
        case "sub", [a, b]:
            return _add(a, _negated(b))
        case "mul", [a, b]:
            return _multiply(a, b)
        case "fma", [a, b, c]:
            return _fused(a, b, c)
        case "max", [a, b]:
            return _larger(a, b)
        case "min", [a, b]:
            return _negated(_larger(_negated(a), _negated(b)))
        case "neg", [a]:
            return _negated(a)
        case "abs", [a]:
            return _larger(a, _negated(a))
        case "sign", [a]:
            return _sign(a)
        case "leaky", [a, slope]:
            return _leaky(a, slope)
        case kind, _:
            raise Undecidable(f"{kind} of {len(operands)} numbers has no rule in verifier/encode_float32.py")


def _add(a: Number, b: Number) -> Number:
    if _is_zero(a) or _is_zero(b):
        return b if _is_zero(a) else a
    return _rounded(a.lower + b.lower, a.upper + b.upper, lambda: z3.fpAdd(ROUND, a.term, b.term))


def _multiply(a: Number, b: Number) -> Number:
    for one, other in ((a, b), (b, a)):
        if _is_constant(one) and one.lower in (1, -1):
            return other if one.lower == 1 else _negated(other)
    ends = [x * y for x in (a.lower, a.upper) for y in (b.lower, b.upper)]
    return _rounded(min(ends), max(ends), lambda: z3.fpMul(ROUND, a.term, b.term))


def _fused(a: Number, b: Number, c: Number) -> Number:
    ends = [x * y for x in (a.lower, a.upper) for y in (b.lower, b.upper)]
    whole = any(_is_constant(x) and _is_whole_power(x.lower) for x in (a, b))
    if whole and max(map(abs, ends)) <= LARGEST:  # the product is exact
        return _add(_multiply(a, b), c)
    if _is_zero(c):
        return _multiply(a, b)
    return _rounded(min(ends) + c.lower, max(ends) + c.upper, lambda: z3.fpFMA(ROUND, a.term, b.term, c.term))


def _larger(a: Number, b: Number) -> Number:
    if a.lower >= b.upper:
        return a
    if b.lower >= a.upper:
        return b
    return Number(max(a.lower, b.lower), max(a.upper, b.upper), z3.If(z3.fpGEQ(a.term, b.term), a.term, b.term))


def _sign(a: Number) -> Number:
    one, zero, minus = (_constant(Fraction(v)) for v in (1, 0, -1))
    if a.lower > 0 or a.upper < 0 or a.lower == a.upper == 0:
        return one if a.lower > 0 else minus if a.upper < 0 else zero
    term = z3.If(z3.fpGT(a.term, zero.term), one.term, z3.If(z3.fpLT(a.term, zero.term), minus.term, zero.term))
    return Number(Fraction(-1 if a.lower < 0 else 0), Fraction(1 if a.upper > 0 else 0), term)


def _leaky(a: Number, slope: Number) -> Number:
    if a.lower >= 0:
        return a
    below = _multiply(Number(a.lower, min(a.upper, Fraction(0)), a.term), slope)
    if a.upper < 0:
        return below
    term = z3.If(z3.fpGEQ(a.term, _constant(Fraction(0)).term), a.term, below.term)
    return Number(min(below.lower, Fraction(0)), max(below.upper, a.upper), term)


def _negated(a: Number) -> Number:
    return _constant(-a.lower) if _is_constant(a) else Number(-a.upper, -a.lower, z3.fpNeg(a.term))


def _rounded(lower: Fraction, upper: Fraction, term: Callable[[], z3.FPRef]) -> Number:
    """A number whose exact value, before rounding, is in [lower, upper]."""
    low, high = nearest(lower), nearest(upper)
    return _constant(low) if low == high else Number(low, high, term())


def nearest(value: Fraction) -> Fraction:
    """`value` rounded to float32, to nearest even. Raises Undecidable beyond the largest float32 number."""
    if abs(value) > LARGEST:
        raise Undecidable("a value may overflow in float32")
    return Fraction(float(nearest_float32(Rationals.of([value]))[0]))


def _constant(value: Fraction) -> Number:
    return Number(value, value, z3.FPVal(float(value), SINGLE))


def _is_constant(a: Number) -> bool:
    return a.lower == a.upper


def _is_zero(a: Number) -> bool:
    return a.lower == a.upper == 0


def _is_whole_power(value: Fraction) -> bool:
    """Whether multiplying a float32 number by `value` is exact: a power of 2, 1 or more, or its negative."""
    return value.denominator == 1 and value != 0 and abs(value.numerator) & (abs(value.numerator) - 1) == 0


def _input(i: int, lower: Fraction, upper: Fraction) -> Number:
    return _constant(lower) if lower == upper else Number(lower, upper, z3.FP(f"x{i}", SINGLE))


def _lemma(a: Number) -> z3.BoolRef:
    """lower <= a <= upper: the box, for inputs; known, for all else."""
    return z3.And(z3.fpLEQ(_constant(a.lower).term, a.term), z3.fpLEQ(a.term, _constant(a.upper).term))


def _number(model: z3.ModelRef, a: Number) -> float:
    """The value of an input in a model, a float32 number."""
    if _is_constant(a):
        return float(a.lower)
    bits = model.eval(z3.fpToIEEEBV(a.term), model_completion=True)
    return float(np.uint32(bits.as_long()).view(np.float32))


def _named(variables: Sequence[Variable], flat: Sequence[Number]) -> dict[str, Sequence[Number]]:
    """A concatenation of all `variables` as one flat vector per variable."""
    if len(flat) != sum(v.size for v in variables):
        raise Undecidable(f"the property declares {sum(v.size for v in variables)} variables where the program has {len(flat)}")
    starts = itertools.accumulate((v.size for v in variables), initial=0)
    return {v.name: flat[start : start + v.size] for v, start in zip(variables, starts, strict=False)}


def _atom(atom: Atom, tensors: dict[str, Sequence[Number]]) -> z3.BoolRef:
    """The atom, exactly: on the values, or on their differences and sums in a format that holds these without rounding."""
    gathered: dict[tuple[str, int], Fraction] = {}
    for tensor, i, c in atom.terms:
        gathered[tensor, i] = gathered.get((tensor, i), Fraction(0)) + c
    terms = [(tensors[t][i], c) for (t, i), c in gathered.items() if c]
    size = abs(terms[0][1]) if terms else Fraction(1)
    if any(abs(c) != size for _, c in terms):
        raise Undecidable("an atom has coefficients of different sizes, which are not encoded")
    signed = [_negated(a) if c < 0 else a for a, c in terms]
    bound = atom.bound / size
    steps = math.ceil(bound / GRID) - 1 if atom.strict else math.floor(bound / GRID)  # sums are multiples of GRID
    if sum((a.lower for a in signed), Fraction(0)) > steps * GRID:
        return z3.BoolVal(False)
    if sum((a.upper for a in signed), Fraction(0)) <= steps * GRID:
        return z3.BoolVal(True)
    match signed, steps:
        case [a], _:
            return z3.fpLEQ(a.term, _constant(_down(steps * GRID)).term)
        case [a, b], 0:
            return z3.fpLEQ(a.term, z3.fpNeg(b.term))
        case [a, b], -1:
            return z3.fpLT(a.term, z3.fpNeg(b.term))
        case _:
            total = z3.fpToFP(ROUND, signed[0].term, WIDE)
            for a in signed[1:]:
                total = z3.fpAdd(ROUND, total, z3.fpToFP(ROUND, a.term, WIDE))
            return z3.fpLEQ(total, z3.simplify(z3.fpRealToFP(ROUND, z3.RealVal(str(steps * GRID)), WIDE)))


def _down(value: Fraction) -> Fraction:
    """The largest float32 number <= value."""
    near = nearest(value)
    below = Fraction(float(np.nextafter(np.float32(float(near)), np.float32(-np.inf))))
    return near if near <= value else below
