"""Judge a `sat` answer from outside: run the witness in onnxruntime and evaluate the property as written, in exact rationals.

    python -m benchmarks.replay MODEL.onnx[.gz] PROPERTY.vnnlib[.gz] RESULTS_FILE
    python -m benchmarks.replay PROPERTY.vnnlib[.gz] RESULTS_FILE NAME=MODEL.onnx[.gz] ...      a query of several networks, or about their inside

Prints `VIOLATED` (and whether the witness lies in the exact decimal box) or `NOT VIOLATED` with the reason. Exit 0 only for VIOLATED,
1 for NOT VIOLATED, 3 when it cannot be judged. Shares no code with the engine, its replay, graph/ or specs/.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import formula, query
from benchmarks.formula import FormulaError, Violation, nearest_float32
from benchmarks.query import KINDS, Network
from benchmarks.runtime import Runtime, RuntimeUnusable

MOST_DIGITS = 9  # of an index or a dimension; Python refuses to read more than 4,300
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
    pairs = [(int(i) if len(i) <= MOST_DIGITS else -1, text) for i, text in PAIR.findall(results)]
    if not pairs or sorted(i for i, _ in pairs) != list(range(len(pairs))):
        raise WitnessError("the witness does not give every X_0 .. X_n exactly once")
    try:
        values = [nearest_float32(formula.number(text)) for _, text in sorted(pairs)]
    except FormulaError as error:
        raise WitnessError(f"the witness: {error}") from error
    return np.array(values, dtype=np.float32)


def read_assignment(results: str, violation: Violation) -> np.ndarray:
    """The same of the assignment text of VNN-LIB 2.0: for each tensor of the property a line NAME TYPE [shape], then a value a line."""
    found = read_inputs(results, [(tensor.name, tensor.shape, tensor.letter == "X") for tensor in violation.tensors])
    return np.array([value for values in found.values() for value in values], dtype=np.float32)


def read_inputs(results: str, tensors: Iterable[tuple[str, tuple[int, ...], bool]]) -> dict[str, list[np.float32]]:
    """The values of the inputs in an assignment, each decimal rounded; `tensors` are its (name, shape, whether an input). Raises WitnessError."""
    word, *lines = [line.strip() for line in results.splitlines() if line.strip()] or [""]
    if word != "sat":
        raise WitnessError("the results file does not say sat")
    found: dict[str, list[np.float32]] = {}
    for name, shape, is_input in tensors:
        head, size = HEADER.fullmatch(lines[0]) if lines else None, math.prod(shape)
        if head is None or head[1] != name or [n.strip().lstrip("0") or "0" for n in head[2].split(",") if n.strip()] != [str(n) for n in shape]:
            raise WitnessError(f"the assignment has no line `{name} float32 {list(shape)}` where it is expected")
        mine, lines = lines[1 : 1 + size], lines[1 + size :]
        if len(mine) < size:
            raise WitnessError(f"the assignment has not all of the {size} values of {name}")
        if is_input:
            found[name] = rounded(mine)
    if lines:
        raise WitnessError(f"the assignment goes on after its last tensor: {lines[0][:40]}")
    return found


def rounded(texts: Iterable[str]) -> list[np.float32]:
    """Decimals as the nearest float32. Raises WitnessError."""
    try:
        return [nearest_float32(formula.number(text)) for text in texts]
    except FormulaError as error:
        raise WitnessError(f"the witness: {error}") from error


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


def judge_query(models: Mapping[str, Path], property_file: Path, results: str) -> Judgement:
    """The same for any query of VNN-LIB 2; `models` are the files of its networks, by name. Raises what `judge` raises."""
    asked = query.parse(formula.decompressed(property_file).decode("utf-8"))
    if {network.file for network in asked.networks} != set(models):
        raise FormulaError(f"files are given for {', '.join(models)}, and the networks are {', '.join(network.name for network in asked.networks)}")
    values: dict[str, np.ndarray] = {}
    try:
        written = read_inputs(results, [(tensor.name, tensor.shape, tensor.kind == KINDS[0]) for tensor in asked.tensors])
        for network in asked.networks:
            values |= _executed(network, models[network.file], written)
    except WitnessError as error:
        return Judgement(False, f"NOT VIOLATED: {error}")
    if asked.holds(values):
        return Judgement(True, f"VIOLATED (inside the {'exact decimal box' if asked.holds(values, exact_box=True) else 'box rounded to float32'})")
    return Judgement(False, "NOT VIOLATED: what is asserted does not hold")


def _executed(network: Network, model: Path, written: Mapping[str, list[np.float32]]) -> dict[str, np.ndarray]:
    """The values of all tensors of a network, at its inputs."""
    inputs, hidden, outputs = ([tensor for tensor in network.tensors if tensor.kind == kind] for kind in KINDS)
    x = np.array([value for tensor in inputs for value in written[tensor.name]], dtype=np.float32)
    y = Runtime(model, hidden=[tensor.node for tensor in hidden]).run(x)
    found: dict[str, np.ndarray] = {}
    for flat, tensors in ((x, inputs), (y, [*outputs, *hidden])):
        if flat.size != sum(tensor.size for tensor in tensors):
            raise FormulaError(f"the tensors of {network.name} are not those of {model}")
        ends = np.cumsum([tensor.size for tensor in tensors])
        found |= {tensor.name: flat[end - tensor.size : end] for tensor, end in zip(tensors, ends, strict=True)}
    return found


def main(arguments: list[str]) -> int:
    several = all("=" in argument for argument in arguments[2:]) and not (len(arguments) == 3 and Path(arguments[2]).exists())
    if len(arguments) < 3 or (len(arguments) > 3 and not several):
        print(__doc__, file=sys.stderr)
        return 2
    named = dict(argument.split("=", 1) for argument in arguments[2:]) if several else {}
    try:
        if named:
            verdict = judge_query({name: Path(path) for name, path in named.items()}, Path(arguments[0]), Path(arguments[1]).read_text())
        else:
            model, property_file, results = map(Path, arguments)
            verdict = judge(model, property_file, results.read_text())
    except (RuntimeUnusable, FormulaError, OSError, UnicodeDecodeError) as error:
        print(f"CANNOT JUDGE: {error}")
        return 3
    print(verdict.text)
    return 0 if verdict.violated else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
