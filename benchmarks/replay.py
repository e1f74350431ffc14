"""Judge a `sat` answer from outside: run the witness in onnxruntime and evaluate the property as written, in exact rationals.

    python -m benchmarks.replay MODEL.onnx[.gz] PROPERTY.vnnlib[.gz] RESULTS_FILE

Prints `VIOLATED` (and whether the witness lies in the exact decimal box) or `NOT VIOLATED` with the reason. Exit 0 only for VIOLATED,
1 for NOT VIOLATED, 3 when it cannot be judged. Shares no code with the engine, its replay, graph/ or specs/.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import formula
from benchmarks.formula import FormulaError, Violation, nearest_float32
from benchmarks.runtime import Runtime, RuntimeUnusable

HEADER = re.compile(r"([A-Za-z]\w*) (?:float32|[rR]eal) \[([\d, ]*)\]", re.ASCII)
PAIR = re.compile(r"\(\s*X_(\d+)\s+([^\s()]+)\s*\)")


class WitnessError(Exception):
    """The results file holds no complete witness; the message says what is missing."""


@dataclass(frozen=True)
class Judgement:
    """`violated`: the file in onnxruntime violates the property at the witness (float32, box rounded to float32)."""

    violated: bool
    text: str


def read_witness(results: str) -> np.ndarray:
    """The input of a VNN-COMP results file as float32 [n], each decimal rounded to the nearest float32. Raises WitnessError."""
    if results.split()[:1] != ["sat"]:
        raise WitnessError("the results file does not say sat")
    pairs = [(int(i), text) for i, text in PAIR.findall(results)]
    if not pairs or sorted(i for i, _ in pairs) != list(range(len(pairs))):
        raise WitnessError("the witness does not give every X_0 .. X_n exactly once")
    try:
        values = [nearest_float32(formula.number(text)) for _, text in sorted(pairs)]
    except FormulaError as error:
        raise WitnessError(f"the witness: {error}") from error
    return np.array(values, dtype=np.float32)


def read_assignment(results: str, violation: Violation) -> np.ndarray:
    """The same of the assignment text of VNN-LIB 2.0: for each tensor of the property a line NAME TYPE [shape], then a value a line."""
    word, *lines = [line.strip() for line in results.splitlines() if line.strip()] or [""]
    if word != "sat":
        raise WitnessError("the results file does not say sat")
    values: list[np.float32] = []
    for tensor in violation.tensors:
        head = HEADER.fullmatch(lines[0]) if lines else None
        if head is None or head[1] != tensor.name or tuple(int(n) for n in head[2].split(",") if n.strip()) != tensor.shape:
            raise WitnessError(f"the assignment has no line `{tensor.name} float32 {list(tensor.shape)}` where it is expected")
        mine, lines = lines[1 : 1 + tensor.size], lines[1 + tensor.size :]
        if len(mine) < tensor.size:
            raise WitnessError(f"the assignment has not all of the {tensor.size} values of {tensor.name}")
        if tensor.letter == "X":
            try:
                values += [nearest_float32(formula.number(text)) for text in mine]
            except FormulaError as error:
                raise WitnessError(f"the witness: {error}") from error
    if lines:
        raise WitnessError(f"the assignment goes on after its last tensor: {lines[0][:40]}")
    return np.array(values, dtype=np.float32)


def judge(model: Path, property_file: Path, results: str) -> Judgement:
    """Replay the witness in `results`. Raises RuntimeUnusable, FormulaError, OSError where it cannot be judged."""
    violation, runtime = formula.read(property_file), Runtime(model)
    try:
        x = read_assignment(results, violation) if violation.tensors else read_witness(results)
    except WitnessError as error:
        return Judgement(False, f"NOT VIOLATED: {error}")
    if x.size != runtime.size:
        return Judgement(False, f"NOT VIOLATED: the witness has {x.size} values, the network {runtime.size} inputs")
    y = runtime.run(x)
    if not np.isfinite(y).all():
        return Judgement(False, "NOT VIOLATED: an output is not finite")
    if violation.holds(x, y):
        exact = violation.holds(x, y, exact_box=True)
        return Judgement(True, f"VIOLATED (inside the {'exact decimal box' if exact else 'box rounded to float32'})")
    return Judgement(False, f"NOT VIOLATED: assertion {violation.first_failing(x, y)} of {len(violation.formula.parts)} does not hold")


def main(arguments: list[str]) -> int:
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    model, property_file, results = map(Path, arguments)
    try:
        verdict = judge(model, property_file, results.read_text())
    except (RuntimeUnusable, FormulaError, OSError, UnicodeDecodeError) as error:
        print(f"CANNOT JUDGE: {error}")
        return 3
    print(verdict.text)
    return 0 if verdict.violated else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
