"""What is claimed of an instance, checked again on the files that a verifier will read: by the judges' reader of VNN-LIB (`benchmarks.formula`),
in exact rationals (`benchmarks.soundness.rational`), in onnxruntime (`benchmarks.runtime`), and by enumeration (`benchmarks.exact`)."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx

from benchmarks import formula
from benchmarks.exact import enumerate as patterns
from benchmarks.exact import network
from benchmarks.runtime import Runtime
from benchmarks.soundness import rational
from benchmarks.soundness.elementary import Enclosure
from benchmarks.soundness.instance import Array, Instance, Planted, SuiteError

LEAST = Fraction(1, 1000)  # of the numbers compared: by how much a planted point violates, where rounding is not the subject
ABOUT_ROUNDING = ("rounding",)  # families whose two truths differ, or whose margins are tiny
SAMPLES, EXACT_SAMPLES = 40, 2  # executions that must not violate where the truth is unsat
TELLING = {"sat", "unsat", "safe", "unsafe", "robust", "planted", "violated", "holds", "true", "false", "needle"}
Margin = Fraction | None  # None: violated without any comparison of outputs


def recheck(instance: Instance) -> None:
    """Raises SuiteError where a claim does not hold, or cannot be checked."""
    _says_nothing(instance)
    violation = formula.parse(instance.property)
    onnx.checker.check_model(instance.model, full_check=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(instance.model.SerializeToString())
        runtime = Runtime(path)
        outputs = runtime.run(np.zeros(runtime.size, dtype=np.float32)).size
        if (violation.inputs, violation.outputs) != (runtime.size, outputs):
            raise SuiteError(f"{instance.name}: the property and the network differ in their numbers of inputs or outputs")
        if instance.planted is not None:
            _planted(instance, instance.planted, violation, runtime)
        if "unsat" in (instance.real, instance.float32):
            _sampled(instance, violation, runtime)
    if instance.proof == "enumeration":
        found = patterns.decide(network.parse(instance.model.SerializeToString()), violation).verdict
        if found != instance.real:
            raise SuiteError(f"{instance.name}: the enumeration says {found}")


def _says_nothing(instance: Instance) -> None:
    """The files must not tell the truth: no telling words, no comments of the exporter, no metadata."""
    graph = instance.model.graph
    nodes = [n.name for n in graph.node] + [n.doc_string for n in graph.node] + [name for n in graph.node for name in (*n.input, *n.output)]
    texts = [instance.name, instance.property, instance.property2, instance.model.doc_string, graph.name, graph.doc_string, *nodes]
    texts += [f"{p.key} {p.value}" for p in instance.model.metadata_props] + [t.name for t in graph.initializer]
    told = {word for text in texts for word in re.findall(r"[a-z]+", text.lower())} & TELLING
    if told:
        raise SuiteError(f"{instance.name}: its files say {sorted(told)}")


def _planted(instance: Instance, planted: Planted, violation: formula.Violation, runtime: Runtime) -> None:
    name, x = instance.name, planted.point
    if x.dtype != np.float32 or x.shape != (violation.inputs,) or not np.isfinite(x).all():
        raise SuiteError(f"{name}: the planted point is not {violation.inputs} finite float32 numbers")
    point = [Fraction(float(v)) for v in x]
    enclosures = rational.enclose(instance.model, point)
    exact = [a for a, b in enclosures if a == b]
    low, _ = margin(violation.formula, point, enclosures)
    run = runtime.run(x)
    executed = [Fraction(float(v)) for v in run] if np.isfinite(run).all() else None
    ran = None if executed is None else margin(violation.formula, point, [(y, y) for y in executed])[0]
    if low is not None and planted.real != low:
        raise SuiteError(f"{name}: the exact margin at the planted point is {float(low):g}, not {float(planted.real):g}")
    if ran is not None and float(ran) != planted.runtime:
        raise SuiteError(f"{name}: onnxruntime's margin at the planted point is {float(ran):g}, not {planted.runtime:g}")
    violates = violation.formula.holds(point, exact, exact_box=True) if len(exact) == len(enclosures) else low is None or low > 0
    if violates != (instance.real == "sat") and instance.real != "unknown":
        raise SuiteError(f"{name}: over the reals the planted point {'violates' if violates else 'does not violate'}")
    if instance.family in ABOUT_ROUNDING or instance.knobs.get("edge"):  # edge: a parser trap decided exactly at the optimum
        return
    if executed is None or not violation.formula.holds(point, executed, exact_box=True):
        raise SuiteError(f"{name}: the planted point does not violate in onnxruntime")
    for kind, y in (("exactly", enclosures), ("in onnxruntime", [(v, v) for v in executed])):
        share = relative(violation.formula, point, y)
        if share is not None and share < LEAST:
            raise SuiteError(f"{name}: the planted point violates by {float(share):.2g} of the numbers compared only, {kind}")


def margin(part: formula.Formula, x: Sequence[Fraction], y: Sequence[Enclosure]) -> tuple[Margin, Margin]:
    """The least and the largest violation margin: of an atom, bound - left side; smallest of an `and`, largest of an `or`. Bounds of single
    inputs do not count where they hold."""
    if isinstance(part, formula.Atom):
        if part.bounds_one_input and part.holds(x, (), exact_box=True):
            return None, None
        values = {"X": [(v, v) for v in x], "Y": y}
        ends = [part.bound - sum((c * values[t][i][(c > 0) != upper] for t, i, c in part.terms), Fraction(0)) for upper in (False, True)]
        if part.relation == "==":
            return min(ends[0], -ends[1]), min(abs(ends[0]), abs(ends[1])) if ends[0] * ends[1] > 0 else Fraction(0)
        return ends[0], ends[1]
    parts = [margin(p, x, y) for p in part.parts]
    pick = _least if part.kind == "and" else _most
    return pick([a for a, _ in parts]), pick([b for _, b in parts])


def _least(values: Sequence[Margin]) -> Margin:
    return min((v for v in values if v is not None), default=None)


def _most(values: Sequence[Margin]) -> Margin:
    known = [v for v in values if v is not None]
    return max(known) if len(known) == len(values) else None


def relative(part: formula.Formula, x: Sequence[Fraction], y: Sequence[Enclosure]) -> Margin:
    """The violation margin where that of every atom of outputs is divided by the largest number it compares: its bound, or a term."""
    if isinstance(part, formula.Atom):
        low = margin(part, x, y)[0]
        size = max((abs(part.bound), *(abs(c * y[i][0]) for t, i, c in part.terms if t == "Y")))
        return low if low is None or part.bounds_one_input or not size else low / size
    return (_least if part.kind == "and" else _most)([relative(p, x, y) for p in part.parts])


def _sampled(instance: Instance, violation: formula.Violation, runtime: Runtime) -> None:
    """Random points and corners must not violate: in onnxruntime (where float32 is unsat), exactly (where real is)."""
    boxes = [case.box for case in patterns.unsafe_cases(violation)]
    rng = np.random.default_rng(len(boxes))
    for k in range(SAMPLES):
        box = boxes[k % len(boxes)]
        x = _point(rng, box, corner=k % 2 == 0)
        if x is None:
            continue
        point = [Fraction(float(v)) for v in x]
        y = runtime.run(x)
        if instance.float32 == "unsat" and (not np.isfinite(y).all() or violation.formula.holds(point, [Fraction(float(v)) for v in y], True)):
            raise SuiteError(f"{instance.name}: is not unsat in float32: {x.tolist()} -> {y.tolist()}")
        if instance.real == "unsat" and k < EXACT_SAMPLES:
            low, _ = margin(violation.formula, point, rational.enclose(instance.model, point))
            if low is None or low > 0:
                raise SuiteError(f"{instance.name}: is not unsat: {x.tolist()} violates by {low}")


def _point(rng: np.random.Generator, box: patterns.Box, corner: bool) -> Array | None:
    """A float32 point of the box, exactly inside; None if a side holds no float32 number."""
    low, high = _inner(box.lower, up=True), _inner(box.upper, up=False)
    if (low > high).any():
        return None
    random = rng.random(low.size).astype(np.float32)
    return np.where(random < 0.5, low, high) if corner else np.clip(low + (high - low) * random, low, high)


def _inner(values: Sequence[Fraction], up: bool) -> Array:
    """The nearest float32 not below (up), not above (down)."""
    near = np.array([formula.nearest_float32(v) for v in values], dtype=np.float32)
    off = np.array([(Fraction(float(n)) < v) if up else (Fraction(float(n)) > v) for n, v in zip(near, values, strict=True)])
    return np.where(off, np.nextafter(near, np.float32(np.inf if up else -np.inf)), near)

