"""Judges what a verifier said about one instance: the witness it gave, or the planted point that its `unsat` denies.

Two judges, of two kinds: onnxruntime on the suite's own file (`benchmarks.replay`), and the exact rationals of `benchmarks.soundness.rational`.
The property is read by `benchmarks.formula`. Both write down what they saw: input, outputs, and the margin of every atom.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx

from benchmarks import formula, replay
from benchmarks.formula import Atom, Formula, FormulaError, Violation, approximate, nearest_float32
from benchmarks.runtime import Runtime, RuntimeUnusable
from benchmarks.soundness.instance import Entry, SuiteError
from benchmarks.soundness.rational import enclose
from benchmarks.soundness.rule import UnknownOperator

Interval = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class AtomMargin:
    """An atom of the outputs as text, and by how much it holds (positive: inside the unsafe set) exactly and in onnxruntime."""

    text: str
    exact: str
    runtime: float | None


@dataclass(frozen=True)
class Execution:
    """One input and what becomes of it. `real`: whether it violates over the reals (None: the enclosures do not tell), `float32`: in onnxruntime.

    `x` are the decimals that were judged; `exact` and `runtime` the outputs; `inside` whether `x` is in the box as written; `margin` by how much
    it violates over the reals, the outputs' atoms alone (the lower end; negative: by how much it misses), None where no atom names an output.
    """

    x: tuple[str, ...]
    runtime: tuple[float, ...]
    exact: tuple[str, ...]
    margins: tuple[AtomMargin, ...]
    real: bool | None
    float32: bool
    inside: bool
    text: str
    margin: float | None = None


def execute(entry: Entry, point: Sequence[str]) -> Execution:
    """Judge the input whose decimals are `point`, flat; onnxruntime gets the nearest float32. Raises SuiteError where the suite cannot be judged.

    Over the reals both the decimals as written and their float32 neighbours are tried: either is an input, and either may violate.
    """
    try:
        return _execute(entry, point)
    except (FormulaError, RuntimeUnusable, UnknownOperator, ValueError) as error:
        raise SuiteError(f"{entry.name} cannot be judged: {error}") from error


def _execute(entry: Entry, point: Sequence[str]) -> Execution:
    violation, runtime = formula.read(entry.property), Runtime(entry.model)
    if len(point) != runtime.size:
        return Execution(tuple(point), (), (), (), False, False, False, f"{len(point)} values for {runtime.size} inputs")
    written = [formula.number(value) for value in point]
    try:
        rounded = [nearest_float32(value) for value in written]
    except FormulaError as error:  # no input of a network of float32, whatever the box
        return Execution(tuple(point), (), (), (), False, False, False, str(error))
    verdict = replay.judge(entry.model, entry.property, "sat\n(" + " ".join(f"(X_{i} {v})" for i, v in enumerate(point)) + ")")
    outputs = runtime.run(np.array(rounded, dtype=np.float32))
    model = onnx.load(str(entry.model))
    tried = [written, [Fraction(float(v)) for v in rounded]]
    real, x, exact = _best([_over_the_reals(model, violation, candidate) for candidate in (tried if tried[0] != tried[1] else tried[:1])])
    margins = tuple(_margins(violation.formula, x, exact, outputs)) if exact else ()
    inside = all(holds_exactly(part, x, ()) for part in _box(violation.formula))
    shown = tuple(_decimal(e) for e in exact)
    overall = violation_margin(violation.formula, x, exact) if exact else None
    return Execution(tuple(point), tuple(float(v) for v in outputs), shown, margins, real, verdict.violated, inside, verdict.text,
                     None if overall is None else approximate(overall))


def planted(entry: Entry) -> Execution:
    """The planted point's execution. Raises SuiteError where it is missing, or violates in neither semantics, also in no execution that the manifest
    tells: then the suite is no evidence."""
    point = entry.planted()
    if point is None:
        raise SuiteError(f"{entry.folder}: {entry.name} is sat and has no planted point")
    execution = execute(entry, [repr(float(v)) for v in point.point])
    if execution.real is not True and not execution.float32 and not constructed(entry):
        raise SuiteError(f"{entry.folder}: the planted point of {entry.name} violates nothing ({execution.text})")
    return execution


def constructed(entry: Entry) -> bool:
    """Whether the planted point violates in a float32 execution other than onnxruntime's: one whose output the manifest tells (the knob `runs`, of
    the family rounding). Raises SuiteError."""
    point = entry.planted()
    try:
        runs = [float.fromhex(v) for v in entry.knobs.get("runs", ())]
        violation = formula.read(entry.property)
        if point is None or violation.outputs != 1 or violation.inputs != len(point.point):
            return False
        x = [Fraction(float(v)) for v in point.point]
        return any(violation.formula.holds(x, [Fraction(y)], exact_box=True) for y in runs if np.isfinite(y))
    except (FormulaError, TypeError, ValueError, OverflowError) as error:
        raise SuiteError(f"{entry.name} cannot be judged: {error}") from error


def is_planted(entry: Entry, point: Sequence[str]) -> bool:
    """Whether the decimals `point`, each rounded to float32, are the planted point. Raises SuiteError, FormulaError."""
    planted = entry.planted()
    rounded = [nearest_float32(formula.number(value)) for value in point]
    return planted is not None and [float(v) for v in rounded] == [float(v) for v in planted.point]


def _over_the_reals(model: onnx.ModelProto, violation: Violation, x: list[Fraction]) -> tuple[bool | None, list[Fraction], list[Interval]]:
    try:
        exact = enclose(model, x)
    except ArithmeticError:  # outside the domain of a function: no execution over the reals, hence no violation
        return False, x, []
    if len(exact) != violation.outputs or len(x) != violation.inputs:
        raise SuiteError(f"the property has {violation.inputs} inputs and {violation.outputs} outputs, the network {len(x)} and {len(exact)}")
    return holds_exactly(violation.formula, x, exact), x, exact


def _best(tried: list[tuple[bool | None, list[Fraction], list[Interval]]]) -> tuple[bool | None, list[Fraction], list[Interval]]:
    """A violation if there is one, else what is not known, else the first."""
    return next((t for wanted in (True, None) for t in tried if t[0] is wanted), tried[0])


def holds_exactly(part: Formula, x: Sequence[Fraction], y: Sequence[Interval]) -> bool | None:
    """Whether the formula holds over the reals where the outputs lie in `y`; None where these intervals do not tell."""
    if isinstance(part, Atom):
        low, high = margin(part, x, y)
        if part.relation == "==":
            return None if low <= 0 <= high and low != high else low == 0 == high
        holds: Callable[[Fraction], bool] = (lambda m: m > 0) if part.relation == "<" else (lambda m: m >= 0)
        return True if holds(low) else None if holds(high) else False
    found = [holds_exactly(p, x, y) for p in part.parts]
    decisive = part.kind == "or"
    return decisive if decisive in found else None if None in found else not decisive


def margin(atom: Atom, x: Sequence[Fraction], y: Sequence[Interval]) -> Interval:
    """bound - sum of the terms, as an interval: positive inside the unsafe set."""
    low = high = atom.bound
    for tensor, index, coefficient in atom.terms:
        ends = (x[index], x[index]) if tensor == "X" else y[index]
        products = sorted((coefficient * ends[0], coefficient * ends[1]))
        low, high = low - products[1], high - products[0]
    return low, high


def violation_margin(part: Formula, x: Sequence[Fraction], y: Sequence[Interval]) -> Fraction | None:
    """The lower end of the largest margin over alternatives of the smallest over atoms; bounds on one input are left out. None: no such atom."""
    if isinstance(part, Atom):
        low, high = margin(part, x, y)
        return None if part.bounds_one_input else min(low, -high) if part.relation == "==" else low
    found = [m for m in (violation_margin(p, x, y) for p in part.parts) if m is not None]
    return None if not found else min(found) if part.kind == "and" else max(found)


def _box(part: Formula) -> list[Atom]:
    """The atoms outside every `or` that bound one input."""
    if isinstance(part, Atom):
        return [part] if part.bounds_one_input else []
    return [atom for p in part.parts for atom in _box(p)] if part.kind == "and" else []


def _margins(part: Formula, x: Sequence[Fraction], exact: Sequence[Interval], runtime: np.ndarray) -> list[AtomMargin]:
    """The margins of the atoms that are not bounds on one input, in the property's order."""
    if not isinstance(part, Atom):
        return [m for p in part.parts for m in _margins(p, x, exact, runtime)]
    if part.bounds_one_input:
        return []
    seen = None
    if np.isfinite(runtime).all():
        seen = approximate(margin(part, x, [(Fraction(float(v)), Fraction(float(v))) for v in runtime])[0])
    return [AtomMargin(_text(part), _decimal(margin(part, x, exact)), seen)]


def _text(atom: Atom) -> str:
    """For people; an atom without positive coefficients is turned around: Y_0 >= 1, not -1 Y_0 <= -1."""
    turn = -1 if all(c < 0 for _, _, c in atom.terms) else 1
    relation = atom.relation.replace("<", ">") if turn < 0 else atom.relation
    terms = [(turn * c, f"{tensor}_{index}") for tensor, index, c in atom.terms]
    text = " + ".join(name if c == 1 else f"{float(c):.6g} {name}" for c, name in terms).replace("+ -1 ", "- ").replace("+ -", "- ")
    return f"{text or 0} {relation} {float(turn * atom.bound):.9g}"


def _decimal(ends: Interval) -> str:
    """An exact value for people, rounded to 12 digits; both ends where they differ."""
    low, high = approximate(ends[0]), approximate(ends[1])
    return f"{low:.12g}" if ends[0] == ends[1] else f"[{low:.12g}, {high:.12g}]"
