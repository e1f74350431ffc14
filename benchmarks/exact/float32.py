"""Networks of at most 12 floating-point operations, asked about in float32: z3 bit by bit, all points in onnxruntime, and a certified run.

    python -m benchmarks.exact.float32 --count 200 --out benchmarks/results/exact_float32.csv

Network k depends on k alone; lines that are in the table already are kept. Thresholds lie at the largest float32 value over the box, one
step above it, or a little above. Ends with 1 where two of the answers contradict each other.
"""

from __future__ import annotations

import argparse
import csv
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.exact.exhaustive import MOST_POINTS, Batches, all_points, count, ends, exhaust
from benchmarks.harness import Processes
from graph.float32_program import read_program
from graph.load import load
from specs.vnnlib import parse
from verifier.encode_float32 import between, enclose, solve_smt_float32
from verifier.problem import compile_problem
from verifier.replay import Replayer
from verifier.solver import Question, ask

Array = NDArray[Any]

MOST_WORK = 12
LIMIT = 60.0  # seconds for z3
VERIFY = 5.0  # seconds for the certified run
VERIFIED = 4  # of what no point violates, one in so many is put to the certified run (each takes seconds to start)
EASY = 0.125
SAMPLE = 200_000  # points from which the threshold is taken where there are too many to run all
WORDS = {0: "unsat", 10: "sat", 20: "unknown", 30: "timed-out"}


@dataclass(frozen=True)
class Row:
    """One network. `points`: float32 points of the box. `exhaustive` is empty where they are too many; `replayed`: whether z3's point violates
    in onnxruntime; `certified`: the verdict of `verify --semantics float32 --no-attack`, empty where it was not run. Seconds are wall time, of z3
    with the start of its process."""

    index: int
    kind: str
    work: int
    inputs: int
    points: int
    threshold: str
    z3: str
    z3_seconds: float
    z3_reason: str
    replayed: str
    exhaustive: str
    exhaustive_seconds: float
    certified: str

    def contradictions(self) -> list[str]:
        """What cannot all be right. z3 decides the same float32 program as onnxruntime runs; a certificate covers all orders."""
        said = {"z3": self.z3, "all points": self.exhaustive, "the certified run": self.certified}
        found = [str({who: word for who, word in said.items() if word})] if {"sat", "unsat"} <= set(said.values()) else []
        return found + (["z3's point does not violate in onnxruntime"] if self.replayed == "no" else [])


@dataclass(frozen=True)
class Drawn:
    """A network and the ends of its float32 box."""

    kind: str
    content: bytes
    outputs: int
    lower: Array
    upper: Array


def draw(r: Random) -> Drawn:
    """A network of at most 12 operations."""
    while True:
        kind = r.choice(sorted(KINDS))
        n_in, n_out, nodes, weights = KINDS[kind](r)
        content = _file(nodes, n_in, n_out, weights)
        work = read_program(content).work
        if 1 <= work <= MOST_WORK:
            lower, upper = _box(r, n_in)
            return Drawn(kind, content, n_out, lower, upper)


@dataclass(frozen=True)
class Posed:
    """A network, where the threshold lies, and the property."""

    drawn: Drawn
    threshold: str
    text: str


def pose(index: int) -> Posed:
    """Question `index`: unsafe is a large Y_0, or a large Y_0 - Y_1. Of what intervals in float32 decide, one in eight is kept."""
    r = Random(index)
    while True:
        drawn = draw(r)
        top = _top(r, drawn)
        if _interval_top(drawn) > top or r.random() < EASY:
            break
    near = Fraction(float(np.float32(float(top))))
    step = Fraction(float(np.nextafter(np.float32(float(top)), np.float32(np.inf)))) - near
    name, relation, at = r.choice([
        ("optimum", ">=", top), ("optimum", ">=", top), ("strict", ">", top), ("step above", ">=", top + step),
        ("a little above", ">=", top + abs(top) / 2**16 + step),
    ])
    return Posed(drawn, name, property_text(drawn, f"({relation} {'Y_0' if drawn.outputs == 1 else '(- Y_0 Y_1)'} {decimal(at)})"))


def _top(r: Random, drawn: Drawn) -> Fraction:
    """The largest Y_0 (or Y_0 - Y_1) over all points, or over many where there are too many."""
    batches, n = Batches(load(drawn.content)), count(drawn.lower, drawn.upper)
    chunks = all_points(drawn.lower, drawn.upper) if n <= MOST_POINTS else [_sample(r, drawn)]
    return max(_largest(batches.run(chunk)) for chunk in chunks)


def _interval_top(drawn: Drawn) -> Fraction:
    """The same by intervals in float32."""
    program = read_program(drawn.content)
    values = enclose(program, between(drawn.lower, drawn.upper))
    ends = [values[i] for i in program.outputs]
    return ends[0].upper if len(ends) == 1 else ends[0].upper - ends[1].lower


def _weight(r: Random, *shape: int) -> Array:
    return np.asarray([r.gauss(0, 1) for _ in range(math.prod(shape))], np.float32).reshape(shape)


def _activation(r: Random, source: str, target: str) -> onnx.NodeProto:
    kind = r.choice(["Relu", "Relu", "Relu", "LeakyRelu", "Abs", "Sign", "Clip"])
    if kind == "LeakyRelu":
        return helper.make_node(kind, [source], [target], alpha=0.1)
    return helper.make_node(kind, [source, "low", "high"] if kind == "Clip" else [source], [target])


Parts = tuple[int, int, list[onnx.NodeProto], dict[str, Array]]


def _layers(r: Random) -> Parts:
    """Two or three layers, with or without biases, as Gemm or as MatMul and Add."""
    sizes = r.choice([(1, 2, 1), (1, 2, 1), (2, 2, 1), (1, 2, 2), (2, 1, 1), (1, 1, 2, 1)])
    biased, fused = r.random() < 0.7, r.random() < 0.5
    nodes, weights, at = [], {}, "x"
    for k in range(len(sizes) - 1):
        weights[f"w{k}"], out = _weight(r, sizes[k], sizes[k + 1]), "y" if k == len(sizes) - 2 else f"h{k}"
        if biased:
            weights[f"b{k}"] = _weight(r, sizes[k + 1])
        if biased and not fused:
            nodes += [helper.make_node("MatMul", [at, f"w{k}"], [f"m{k}"]), helper.make_node("Add", [f"m{k}", f"b{k}"], [out])]
        else:
            nodes.append(helper.make_node("Gemm", [at, f"w{k}", *([f"b{k}"] if biased else [])], [out]))
        if out != "y":
            nodes.append(_activation(r, out, f"a{k}"))
        at = f"a{k}"
    return sizes[0], sizes[-1], nodes, weights


def _residual(r: Random) -> Parts:
    """y = w a(x w + b) + b + x, or minus x: what cancels shows the rounding."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0", "b0"], ["h"]), _activation(r, "h", "a"), helper.make_node("Gemm", ["a", "w1", "b1"], ["s"]),
        helper.make_node(r.choice(["Add", "Sub"]), ["s", "x"], ["y"]),
    ]
    return 1, 1, nodes, {name: _weight(r, *([1, 1] if name[0] == "w" else [1])) for name in ("w0", "b0", "w1", "b1")}


def _chain(r: Random) -> Parts:
    """Elementwise operators, each on the latest value and perhaps an earlier one."""
    values, nodes, weights = ["x"], [], {}
    for k in range(r.randint(3, 9)):
        out, kind = f"v{k}", r.choice(["Mul", "Add", "Sub", "Max", "Min", "Activation", "Square"])
        if kind == "Activation":
            nodes.append(_activation(r, values[-1], out))
        elif kind == "Square":
            nodes.append(helper.make_node("Mul", [values[-1], r.choice(values)], [out]))
        else:
            weights[f"c{k}"] = _weight(r, 1)
            nodes.append(helper.make_node(kind, [values[-1], f"c{k}" if kind == "Mul" or r.random() < 0.5 else r.choice(values)], [out]))
        values.append(out)
    return 1, 1, [*nodes, helper.make_node("Identity", [values[-1]], ["y"])], weights


KINDS: Mapping[str, Callable[[Random], Parts]] = {"layers": _layers, "residual": _residual, "chain": _chain}


def _file(nodes: list[onnx.NodeProto], n_in: int, n_out: int, weights: Mapping[str, Array]) -> bytes:
    used = {name for node in nodes for name in node.input}
    held = {"low": np.asarray(-0.7, np.float32), "high": np.asarray(0.9, np.float32), **weights}
    graph = helper.make_graph(
        nodes, "float32", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, n_out])], [numpy_helper.from_array(v, k) for k, v in held.items() if k in used],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())


def _box(r: Random, n_in: int) -> tuple[Array, Array]:
    """Ends that are 2^bits float32 numbers apart, or [-1, 1] in every coordinate."""
    if r.random() < 0.1:
        return np.full(n_in, -1, np.float32), np.full(n_in, 1, np.float32)
    bits = r.choice([8, 12, 16, 20, 22]) if n_in == 1 else r.choice([3, 6, 9, 11])
    start = _weight(r, n_in)
    other = (start.view(np.int32) + np.int32(2**bits)).view(np.float32)
    return np.minimum(start, other), np.maximum(start, other)


def _largest(outputs: Array) -> Fraction:
    """The largest Y_0, or Y_0 - Y_1, exactly."""
    if outputs.shape[1] == 1:
        return Fraction(float(outputs.max()))
    gaps = outputs[:, 0].astype(np.float64) - outputs[:, 1].astype(np.float64)
    near = np.unique(outputs[gaps >= gaps.max() - abs(gaps.max()) * 2.0**-50], axis=0)
    return max(Fraction(float(a)) - Fraction(float(b)) for a, b in near)


def _sample(r: Random, drawn: Drawn) -> Array:
    x = np.random.default_rng(r.getrandbits(32)).uniform(drawn.lower, drawn.upper, (SAMPLE, len(drawn.lower))).astype(np.float32)
    return np.clip(x, drawn.lower, drawn.upper)


def property_text(drawn: Drawn, unsafe: str) -> str:
    lines = [f"(declare-const X_{i} Real)" for i in range(len(drawn.lower))] + [f"(declare-const Y_{j} Real)" for j in range(drawn.outputs)]
    for i, (low, high) in enumerate(zip(drawn.lower, drawn.upper, strict=True)):
        lines += [f"(assert (>= X_{i} {decimal(Fraction(float(low)))}))", f"(assert (<= X_{i} {decimal(Fraction(float(high)))}))"]
    return "\n".join([*lines, f"(assert {unsafe})"]) + "\n"


def decimal(value: Fraction) -> str:
    """The exact decimal expansion of a dyadic rational."""
    digits = value.denominator.bit_length() - 1
    scaled = str(abs(value.numerator) * 5**digits).rjust(digits + 1, "0")
    whole = f"{scaled[:-digits]}.{scaled[-digits:]}" if digits else f"{scaled}.0"
    return ("-" if value < 0 else "") + whole


def run(index: int, folder: Path, limit: float, verify: float) -> Row:
    """Everything about network `index`."""
    posed = pose(index)
    drawn, text = posed.drawn, posed.text
    model, prop = load(drawn.content), parse(text, f"network {index}")
    case = next(iter(prop.cases))
    points, program = count(*ends(case, prop)), read_program(drawn.content)
    question = Question(compile_problem(model.graph, prop), 0, {}, {}, program)
    answer, seconds = _timed(lambda: ask(solve_smt_float32, question, limit))
    replayed = ""
    if answer.verdict == "sat":
        replayed = "no" if answer.point is None or Replayer(model, prop).judge([answer.point.astype(np.float32)]) is None else "yes"
    truth, spent = _timed(lambda: exhaust(model, prop).verdict if points <= MOST_POINTS else "")
    certified = _verify(drawn.content, text, folder, verify) if "sat" in (answer.verdict, truth) or index % VERIFIED == 0 else ""
    about = index, drawn.kind, program.work, len(drawn.lower), points, posed.threshold
    return Row(*about, answer.verdict, seconds, answer.reason, replayed, truth, spent, certified)


def _timed(action: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    found = action()
    return found, round(time.monotonic() - began, 3)


def _verify(content: bytes, text: str, folder: Path, seconds: float) -> str:
    """The verdict of a certified run in float32 semantics, by the command."""
    (folder / "network.onnx").write_bytes(content)
    (folder / "property.vnnlib").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "soundproof", "verify", str(folder / "network.onnx"), str(folder / "property.vnnlib")]
    options = ["--semantics", "float32", "--timeout", f"{seconds:g}", "--threads", "1", "--no-attack"]
    code, _ = Processes().run([*command, *options], seconds + 30, folder / "stdout", folder / "stderr")
    return WORDS.get(-1 if code is None else code, f"exit code {code}")


def read_rows(out: Path) -> list[Row]:
    """The lines of a table written earlier."""
    if not out.exists():
        return []
    with out.open(newline="", encoding="utf-8") as file:
        kinds = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Row)}
        return [Row(**{name: kind(line[name]) for name, kind in kinds.items()}) for line in csv.DictReader(file)]


def summary(rows: list[Row], limit: float) -> str:
    """What the table says, in a few lines."""
    decided = [row for row in rows if row.z3 in ("sat", "unsat")]
    both = [row for row in decided if row.exhaustive in ("sat", "unsat")]
    seconds, work = sorted(row.z3_seconds for row in decided) or [0.0], [row.work for row in rows] or [0]
    lines = [
        f"{len(rows)} networks of {min(work)} to {max(work)} operations, {limit:g} s each",
        f"z3: {dict(Counter(row.z3 for row in rows))}; seconds of those decided: median {seconds[len(seconds) // 2]}, largest {seconds[-1]}",
        f"of these by intervals in float32 alone: {sum('intervals' in row.z3_reason for row in rows)}",
        f"all points: {dict(Counter(row.exhaustive or 'too many' for row in rows))}; decided both ways: {len(both)}",
        f"certified runs: {dict(Counter(row.certified or 'not run' for row in rows))}",
    ]
    wrong = [f"network {row.index}: {text}" for row in rows for text in row.contradictions()]
    return "\n".join([*lines, f"contradictions: {len(wrong)}", *wrong])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds for z3")
    parser.add_argument("--verify", type=float, default=VERIFY, help="seconds for the certified run")
    given = parser.parse_args()
    os.nice(10)
    rows = read_rows(given.out)
    done = {row.index for row in rows}
    with tempfile.TemporaryDirectory() as folder, given.out.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        if file.tell() == 0:
            writer.writeheader()
        for index in (k for k in range(given.count) if k not in done):
            row = run(index, Path(folder), given.limit, given.verify)
            writer.writerow(asdict(row))
            file.flush()
            rows.append(row)
            for text in row.contradictions():
                print(f"network {index}: {text}", flush=True)
    print(summary(rows, given.limit))
    return 1 if any(row.contradictions() for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
