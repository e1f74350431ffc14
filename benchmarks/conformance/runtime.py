"""What a runtime that is not ours computes at sampled points: onnxruntime where it loads the model, onnx.reference elsewhere.

Of a thousand points only the extremes and a few points are kept, on disk, under a hash of the model: they depend on no code of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi import onnxruntime_pybind11_state as state

from benchmarks.conformance.subject import Subject

Array = NDArray[Any]
Run = Callable[[Sequence[Array]], list[Array]]

FOLDER = Path("build/conformance")
RANDOM = frozenset(("Bernoulli", "Dropout", "Multinomial", "RandomNormalLike", "RandomUniformLike"))  # Dropout where it is refused: in training
KEPT = 16  # points whose outputs are kept whole
REFUSALS = (RuntimeError, ValueError, *(getattr(state, n) for n in ("Fail", "InvalidArgument", "InvalidGraph", "NotImplemented", "RuntimeException")))
# What onnx.reference raises; it documents no exception types of its own.
COMPLAINTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError)


class NoRuntime(Exception):
    """Neither runtime runs the model."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Of every output, flat and in float64: the extremes over `count` points of the box, and the outputs at the first points.

    An extreme is NaN where some output was NaN. `first` has one list of arrays [KEPT, size] an input, `outputs` one an output.
    """

    oracle: str
    count: int
    lowest: tuple[Array, ...]
    highest: tuple[Array, ...]
    first: tuple[Array, ...]
    outputs: tuple[Array, ...]


def sample(subject: Subject, count: int) -> Samples:
    """Run the subject at `count` points of its box, or read what an earlier run found. Raises NoRuntime."""
    path = FOLDER / f"{subject.key}-{count}.npz"
    sizes = len(subject.points), len(onnx.ModelProto.FromString(subject.content).graph.output)
    if path.exists():
        with np.load(path) as held:
            counts = {"lowest": sizes[1], "highest": sizes[1], "first": sizes[0], "outputs": sizes[1]}
            groups = [tuple(held[f"{name}{k}"] for k in range(n)) for name, n in counts.items()]
            return Samples(str(held["oracle"]), count, *groups)
    found = _sample(subject, count)
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = {f"{name}{k}": x for name in ("lowest", "highest", "first", "outputs") for k, x in enumerate(getattr(found, name))}
    np.savez(path, oracle=np.array(found.oracle), **fields)
    return found


def _sample(subject: Subject, count: int) -> Samples:
    oracle, run = _runtime(subject)
    try:
        return _extremes(oracle, run, subject, count)
    except (*REFUSALS, *COMPLAINTS) as error:
        raise NoRuntime(f"{oracle}: {error}") from error


def _extremes(oracle: str, run: Run, subject: Subject, count: int) -> Samples:
    points = list(_points(subject, count))
    rows = [[np.asarray(y, dtype=np.float64).reshape(-1) for y in run(point)] for point in points[:KEPT]]
    outputs = tuple(np.stack(column) for column in zip(*rows, strict=True))
    lowest, highest = [x.min(0) for x in outputs], [x.max(0) for x in outputs]
    for point in points[KEPT:]:
        for k, y in enumerate(run(point)):
            value = np.asarray(y, dtype=np.float64).reshape(-1)
            lowest[k], highest[k] = np.minimum(lowest[k], value), np.maximum(highest[k], value)  # NaN stays
    first = tuple(np.stack([x.reshape(-1) for x in column]) for column in zip(*points[:KEPT], strict=True))
    return Samples(oracle, count, tuple(lowest), tuple(highest), first, outputs)


def _points(subject: Subject, count: int) -> Sequence[list[Array]]:
    """Half of the points anywhere in the box, half with every coordinate at an end or (one in four) anywhere."""
    draw = np.random.default_rng(0)
    boxes = subject.boxes()
    points = []
    for k in range(count):
        point = []
        for lower, upper in boxes:
            mix = draw.random(lower.shape)
            if k % 2:
                mix = np.where(draw.random(lower.shape) < 0.75, np.rint(mix), mix)
            point.append(np.asarray(np.clip((lower + (upper - lower) * mix).astype(lower.dtype), lower, upper), dtype=lower.dtype))
        points.append(point)
    return points


def _runtime(subject: Subject) -> tuple[str, Run]:
    """The first runtime that runs the subject at its point, and finds what the case wants there; and its name."""
    reasons = []
    for name, start, complaints in (("onnxruntime", _onnxruntime, REFUSALS), ("onnx.reference", _reference, COMPLAINTS)):
        try:
            run = start(subject)
            found = run(subject.points)
        except complaints as error:
            reasons.append(f"{name}: {' '.join(str(error).split())[:120]}")
            continue
        if _agrees(subject, found):
            return name, run
        reasons.append(f"{name}: not the outputs of the case")
    raise NoRuntime("; ".join(reasons))


def no_network(subject: Subject) -> str:
    """Why the subject is no function from floats to tensors of one shape, as far as a runtime shows it; "" if it is one, or no runtime runs it."""
    if subject.case.operator in RANDOM:
        return "random: its outputs are no function of its inputs"
    try:
        _, run = _runtime(subject)
        found = [run(point) for point in (subject.points, *_points(subject, KEPT))]
    except (NoRuntime, *REFUSALS, *COMPLAINTS):
        return ""
    if len({tuple(y.shape for y in outputs) for outputs in found}) > 1:
        return "the shape of its output depends on its float input"
    if subject.expected is None and not all(np.isfinite(np.asarray(y, dtype=np.float64)).all() for y in found[0]):
        return "inputs that are NaN or infinite, and without these its output still is"
    return ""


def _agrees(subject: Subject, found: Sequence[Array]) -> bool:
    if subject.expected is None:
        return True
    pairs = [(np.asarray(y, dtype=np.float64).reshape(-1), wanted) for y, wanted in zip(found, subject.expected, strict=True)]
    same = {"rtol": subject.case.rtol, "atol": max(subject.case.atol, 1e-6), "equal_nan": True}
    return all(y.shape == wanted.shape and np.allclose(y, wanted, **same) for y, wanted in pairs)


def _onnxruntime(subject: Subject) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    running = onnxruntime.InferenceSession(subject.content, options, providers=["CPUExecutionProvider"])
    return lambda point: [np.asarray(y) for y in running.run(None, dict(zip(subject.names, point, strict=True)))]


def _reference(subject: Subject) -> Run:
    running = ReferenceEvaluator(onnx.ModelProto.FromString(subject.content))
    return lambda point: [np.asarray(y) for y in running.run(None, dict(zip(subject.names, point, strict=True)))]
