"""Whether what the engines said fits together.

Over the reals a case either has an execution or not, so a proof and an execution contradict each other, whoever found them. A float32
execution that violates where the network over the reals does not is no contradiction; it is counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks import formula
from benchmarks.exact import network
from benchmarks.exact.engines import Said
from benchmarks.exact.enumerate import unsafe_cases, violates
from benchmarks.runtime import Runtime

PROVES = {  # engine -> whether its `unsat` is a proof, or the word of a solver that rounds
    "enumeration": True, "bab": True, "smt": True, "milp": False, "milp-certified": True,
}  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """`contradictions` must be empty. `real`: engines with an execution over the reals; `float32_only`: those whose witness violates by
    rounding alone, or outside of the exact box; `off`: solvers that round and were wrong."""

    contradictions: tuple[str, ...]
    real: tuple[str, ...]
    float32_only: tuple[str, ...]
    off: tuple[str, ...]


def judge(model: Path, text: Path, answers: Mapping[str, Said]) -> Judgement:
    """Compare the answers of all engines about one instance."""
    net, violation = network.read(model), formula.read(text)
    cases = unsafe_cases(violation)
    points = {engine: tuple(map(Fraction, said["point"])) for engine, said in answers.items() if said.get("point") and said["verdict"] == "sat"}
    real = [engine for engine, point in points.items() if violates(net, cases, point)]
    words = {engine: said.get("claimed", said["verdict"]) for engine, said in answers.items()}
    refuted = [engine for engine, word in words.items() if word == "unsat" and PROVES[engine]]
    found = [f"{engine} proved what has an execution: that of {real[0]}" for engine in refuted if real]
    off = []
    truth = [engine for engine in ("enumeration", "smt") if words.get(engine) == "sat" and engine not in real]
    if truth and refuted:
        found.append(f"{' and '.join(truth)} said sat over the reals (its point is rounded), and {' and '.join(refuted)} unsat")
    if "enumeration" in truth:
        found.append("the witness of the enumeration does not violate")
    for engine, word in words.items():
        if not PROVES[engine] and ((word == "unsat" and (real or truth)) or (word == "sat" and refuted)):
            off.append(engine)
    only = [engine for engine in points if engine in ("bab", "milp-certified") and engine not in real]
    for engine in ("bab", "milp-certified"):
        if engine in points:
            found += _replayed(net, violation, model, points[engine], answers[engine], engine)
    return Judgement(tuple(found), tuple(real), tuple(only), tuple(off))


def _replayed(
    net: network.Network, violation: formula.Violation, model: Path, point: tuple[Fraction, ...], said: Said, engine: str
) -> list[str]:  # fmt: skip
    """What is wrong with a float32 witness: it must violate in onnxruntime, and what was said of it must be true."""
    found = []
    x = np.array([np.float32(float(v)) for v in point], dtype=np.float32)
    if [Fraction(float(v)) for v in x] != list(point):
        found.append(f"{engine}: the witness is not of float32 numbers")
    if not violation.holds(x, Runtime(model).run(x)):
        found.append(f"{engine}: the witness does not violate in onnxruntime")
    outputs = net.evaluate(point)
    over_reals = violation.formula.holds(list(point), outputs, False)
    if said["float32_only"] is not None and said["float32_only"] == over_reals:
        found.append(f"{engine}: float32_only is {said['float32_only']}, and over the reals the witness {'violates' if over_reals else 'does not'}")
    return found
