"""Hard queries in parts: along which number a query is halved, and whether the parts in the files cover it.

Which number is a matter of taste, chosen here by running the network; that nothing is left out is not, and `recheck` shows it from the files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.certify.compose import X
from benchmarks.certify.question import Question
from specs import vnnlib
from specs.canonical import Atom

HARD = frozenset(("nodes", "time", "memory", "numerical", "certificate-rejected", "check-unfinished"))  # reasons that a smaller box may not have
MOST_DEPTH = 8  # 256 parts
MOST_PROBED = 1024  # numbers of a region that the network is run for; of more than that, the widest

Corners = tuple[tuple[Fraction, ...], tuple[Fraction, ...]]
Cases = Mapping[tuple[Atom, ...], Sequence[Corners]]


def axis(question: Question) -> tuple[int | None] | None:
    """Along which number to halve the region of a query: (i,), or (None,) for its list of boxes; None where it is a point.

    That number whose two ends, all others in the middle, move the outputs most; of equals the first. A function of the query alone, up to the
    rounding of onnxruntime; it is recorded, and whatever it says, the halves are the whole.
    """
    region = question.region
    if len(region.boxes) > 1:
        return (None,)
    low, high = (np.asarray([float(v) for v in end]) for end in region.boxes[0])
    varied = [i for i, (a, b) in enumerate(zip(*region.boxes[0], strict=True)) if a < b]
    if not varied:
        return None
    widest = sorted(varied, key=lambda i: (low[i] - high[i], i))[:MOST_PROBED]
    moved = _moved(question.model, (low + high) / 2, [(i, low[i], high[i]) for i in widest])
    return (max(zip(moved, widest, strict=True), key=lambda found: (found[0], -found[1]))[1],)


def _moved(model: bytes, middle: NDArray[np.float64], ends: Sequence[tuple[int, float, float]]) -> list[float]:
    """How far the outputs lie apart with x[i] at either end, for each (i, low, high); 0 where they are not finite."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    found = []
    for i, *values in ends:
        outputs = []
        for value in values:
            x = middle.copy()
            x[i] = value
            outputs.append(session.run(None, {X: x.astype(np.float32)})[0].astype(np.float64))
        distance = float(np.abs(outputs[1] - outputs[0]).max())
        found.append(distance if np.isfinite(distance) else 0.0)
    return found


def cases(place: Path) -> Cases:
    """The unsafe sets of a query's file: the boxes over x of each conjunction of atoms. Raises OSError or PropertyError."""
    found: dict[tuple[Atom, ...], list[Corners]] = {}
    for case in vnnlib.read(place).cases:
        (box,) = case.boxes
        found.setdefault(case.atoms, []).append((tuple(box.lower), tuple(box.upper)))
    return found


def covers(whole: Cases, parts: Sequence[Cases]) -> bool:
    """Whether every unsafe set of a query is one of a part of it: under the same atoms, the parts' boxes cover the query's."""
    return bool(whole) and all(_all_covered(boxes, [box for part in parts for box in part.get(atoms, ())]) for atoms, boxes in whole.items())


def _all_covered(boxes: Sequence[Corners], parts: Sequence[Corners]) -> bool:
    there = set(parts)
    return all(box in there or _one_covered(box, parts) for box in boxes)


def _one_covered(box: Corners, parts: Sequence[Corners]) -> bool:
    """`covered`, over those numbers alone along which some part is smaller than the box."""
    axes = [i for i, (a, b) in enumerate(zip(*box, strict=True)) if any(low[i] > a or high[i] < b for low, high in parts)]
    shorter = [tuple(tuple(end[i] for i in axes) for end in one) for one in (box, *parts)]
    return covered(shorter[0], shorter[1:])  # type: ignore[arg-type]


def covered(box: Corners, parts: Sequence[Corners]) -> bool:
    """Whether every point of a box lies in one of the parts, in exact numbers: it does if all of it lies in one, or if both sides of a cut are
    covered. Cuts are at faces of parts inside of the box, each at most once, so this ends; that which goes through the fewest parts is first."""
    near = [part for part in parts if all(a <= d and c <= b for a, b, c, d in zip(*box, *part, strict=True))]
    if any(all(c <= a and b <= d for a, b, c, d in zip(*box, *part, strict=True)) for part in near):
        return True
    faces = {(i, v) for part in near for end in part for i, v in enumerate(end) if box[0][i] < v < box[1][i]}
    if not faces:
        return False
    i, value = min(faces, key=lambda face: (sum(low[face[0]] < face[1] < high[face[0]] for low, high in near), face))
    low, high = box
    return covered((low, (*high[:i], value, *high[i + 1 :])), near) and covered(((*low[:i], value, *low[i + 1 :]), high), near)
