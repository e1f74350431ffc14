"""Judges a witness by VNN-COMP's rules of 2026: onnxruntime runs the file, the outputs that the tool wrote are ignored.

    python -m benchmarks.contest.witness MODEL PROPERTY RESULTS_FILE

Prints one line, `KIND: why`. `correct`: violates without tolerance (bounds of inputs rounded to float32). `tolerated`: its inputs miss their bounds
by at most 1e-4, its outputs violate exactly. `invalid`: neither. `missing`, `malformed`: there is none, or it cannot be read. `unsupported`: this
judge cannot say. Exit code 0 for a line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks import formula
from benchmarks.formula import Atom, Formula, FormulaError, Violation
from benchmarks.replay import WitnessError, read_assignment, read_witness
from benchmarks.runtime import Runtime, RuntimeUnusable

TOLERANCE = Fraction(1, 10_000)  # of an input's bound, absolute


class Kind(StrEnum):
    """What a witness is worth."""

    correct = "correct"
    tolerated = "tolerated"
    invalid = "invalid"
    missing = "missing"
    malformed = "malformed"
    unsupported = "unsupported"


def judge(model: Path, property_file: Path, results: str) -> tuple[Kind, str]:
    """(kind, why) of the witness in the text of a results file. Raises OSError."""
    if len(results.split(None, 1)) < 2:
        return Kind.missing, "nothing follows the verdict"
    try:
        violation, runtime = formula.read(property_file), Runtime(model)
    except (FormulaError, RuntimeUnusable) as error:
        return Kind.unsupported, str(error)
    try:
        x = read_assignment(results, violation) if violation.tensors else read_witness(results)
    except WitnessError as error:
        return Kind.malformed, str(error)
    if x.size != runtime.size or x.size != violation.inputs:
        return Kind.malformed, f"{x.size} values for {runtime.size} inputs"
    try:
        y = runtime.run(x)
    except RuntimeUnusable as error:
        return Kind.unsupported, str(error)
    return _kind(violation, x, y)


def _kind(violation: Violation, x: np.ndarray, y: np.ndarray) -> tuple[Kind, str]:
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return Kind.invalid, "a value is not finite"
    if violation.holds(x, y):
        return Kind.correct, f"violates, inside the {'exact' if violation.holds(x, y, exact_box=True) else 'rounded'} box"
    xs, ys = ([Fraction(float(v)) for v in values] for values in (x, y))
    if holds_nearly(violation.formula, xs, ys):
        return Kind.tolerated, f"violates, outside its box by at most {float(TOLERANCE):g}"
    return Kind.invalid, f"assertion {violation.first_failing(x, y)} of {len(violation.formula.parts)} does not hold"


def holds_nearly(part: Formula, x: Sequence[Fraction], y: Sequence[Fraction]) -> bool:
    """Whether the formula holds where each bound on one input is moved outward by TOLERANCE, and all else is exact."""
    if not isinstance(part, Atom):
        return (all if part.kind == "and" else any)(holds_nearly(p, x, y) for p in part.parts)
    if not part.bounds_one_input:
        return part.holds(x, y, exact_box=True)
    _, index, coefficient = part.terms[0]
    beyond = (x[index] - part.limit()) * (1 if coefficient > 0 else -1)
    return abs(beyond) <= TOLERANCE if part.relation == "==" else beyond <= TOLERANCE


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    model, property_file, results = map(Path, arguments)
    kind, why = judge(model, property_file, results.read_text(encoding="utf-8", errors="replace"))
    print(f"{kind}: {' '.join(why.split())}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
