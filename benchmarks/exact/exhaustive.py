"""The truth about float32 in onnxruntime: run the file at every float32 point of a small box.

`python -m benchmarks.exact.exhaustive MODEL PROPERTY` prints what it finds. A point is what a witness may be: its coordinates lie
between the ends of the box rounded to nearest. Both zeros count. Points are run many at a time on a copy of the file with a free batch
axis; that this changes no bit is measured on a sample in every run, against the original file, one point at a time.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graph.load import Model, load
from graph.selfcheck import execute, session
from specs.canonical import Atom, Case, Property, Rationals, Variable, atom_holds
from specs.rounding import down_float64, nearest_float32, up_float64
from specs.vnnlib import read

Array = NDArray[Any]

MOST_POINTS = 1 << 24
BATCH = 1 << 16
SAMPLE = 200  # points that are also run one by one
ROUNDING = 2.0**-50  # of a sum's magnitudes, per term: more than float64 can err


class CannotExhaust(Exception):
    """The box has too many points, or the file cannot be run in batches, or batches change results."""


@dataclass(frozen=True, eq=False)
class Truth:
    """What onnxruntime does on all `points`: `violations` of them violate (`witness` float32 [n_in] is the first), `overflows` end in NaN or Inf.

    "unsat" means that every execution was finite and safe.
    """

    points: int
    violations: int
    overflows: int
    witness: Array | None = field(repr=False)

    @property
    def verdict(self) -> str:
        return "sat" if self.violations else "unknown" if self.overflows else "unsat"


class Batches:
    """A file, run at many points at once. Raises CannotExhaust where its batch axis cannot be freed."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._ends = np.cumsum([info.size for info in model.inputs])[:-1]
        self._single = session(model)
        self._many = session(model, content=_with_free_batch(model.onnx_bytes))

    def run(self, points: Array) -> Array:
        """The outputs, concatenated, float32 [P, n_out], at `points` float32 [P, n_in]."""
        shapes = [(len(points), *info.shape[1:]) for info in self._model.inputs]
        parts = np.split(points, self._ends, axis=1)
        feed = {info.name: part.reshape(shape) for info, part, shape in zip(self._model.inputs, parts, shapes, strict=True)}
        found = self._many.run([info.name for info in self._model.outputs], feed)
        if any(len(y) != len(points) for y in found):
            raise CannotExhaust("the network mixes the points of a batch")
        return np.concatenate([y.reshape(len(points), -1) for y in found], axis=1)

    def run_singly(self, points: Array) -> Array:
        """The same, by the file as it is, one point at a time."""
        runs = [execute(self._single, self._model, np.split(x, self._ends)) for x in points]
        return np.stack([np.concatenate([y.ravel() for y in outputs]) for outputs in runs])

    def check(self, points: Array, seed: int = 0) -> int:
        """Raise CannotExhaust unless a batch gives the bits of single runs, on a sample of `points`; return the size of the sample."""
        chosen = np.random.default_rng(seed).integers(0, len(points), SAMPLE) if len(points) > SAMPLE else np.arange(len(points))
        together, alone = self.run(points)[chosen], self.run_singly(points[chosen])
        differs = (together.view(np.int32) != alone.view(np.int32)).any(axis=1)
        if differs.any():
            raise CannotExhaust(f"batches change the results of {int(differs.sum())} of {len(chosen)} points")
        return len(chosen)


def exhaust(model: Model, prop: Property, most: int = MOST_POINTS) -> Truth:
    """Every case of `prop` at every point of its box. Raises CannotExhaust where that are more than `most` points."""
    batches = Batches(model)
    cases = [(case, *ends(case, prop)) for case in prop.cases]
    points = sum(count(lower, upper) for _, lower, upper in cases)
    if points > most:
        raise CannotExhaust(f"{points} float32 points, more than {most}")
    violations, overflows, witness = 0, 0, None
    for case, lower, upper in cases:
        for k, chunk in enumerate(all_points(lower, upper)):
            if k == 0:
                batches.check(chunk)
            outputs = batches.run(chunk)
            finite = np.isfinite(outputs).all(axis=1)
            bad = finite & unsafe(case, prop, chunk, outputs)
            overflows += int((~finite).sum())
            violations += int(bad.sum())
            if witness is None and bad.any():
                witness = chunk[int(bad.argmax())].copy()
                batches.check(witness[None])
    return Truth(points, violations, overflows, witness)


def ends(case: Case, prop: Property) -> tuple[Array, Array]:
    """The smallest and largest float32 of every input [n_in], as for witnesses."""
    boxes = {box.tensor: box for box in case.boxes}
    sides = ([nearest_float32(getattr(boxes[v.name], side)) for v in prop.inputs] for side in ("lower", "upper"))
    lower, upper = (np.concatenate(side) for side in sides)
    return lower, upper


def count(lower: Array, upper: Array) -> int:
    """How many points lie between float32 `lower` and `upper` [n_in]."""
    return math.prod(int(b - a) + 1 for a, b in zip(*_orders(lower, upper), strict=True))


def all_points(lower: Array, upper: Array, batch: int = BATCH) -> Iterator[Array]:
    """All float32 points between `lower` and `upper` [n_in], the last coordinate fastest: float32 [<= batch, n_in]."""
    first, last = _orders(lower, upper)
    sizes = [int(b - a) + 1 for a, b in zip(first, last, strict=True)]
    for start in range(0, math.prod(sizes), batch):
        flat = np.arange(start, min(start + batch, math.prod(sizes)))
        yield np.stack([_of_order(a + k) for a, k in zip(first, np.unravel_index(flat, sizes), strict=True)], axis=1)


def unsafe(case: Case, prop: Property, inputs: Array, outputs: Array) -> Array:
    """Whether all atoms of `case` hold, exactly: bool [P] for finite float32 `inputs` [P, n_in] and `outputs` [P, n_out]."""
    columns = {**_columns(prop.inputs, inputs), **_columns(prop.outputs, outputs)}
    found = np.ones(len(inputs), dtype=bool)
    for atom in case.atoms:
        found &= _holds(atom, columns)
    return found


def _holds(atom: Atom, columns: Mapping[str, Array]) -> Array:
    """bool [P]. NaN and Inf give what they give; the caller leaves such points out."""
    values = [columns[t][:, i].astype(np.float64) for t, i, _ in atom.terms]
    coefficients = [c for *_, c in atom.terms]
    if len(values) == 1 and coefficients[0]:
        at = Rationals.of([atom.bound / coefficients[0]])
        if coefficients[0] > 0:
            return values[0] < up_float64(at)[0] if atom.strict else values[0] <= down_float64(at)[0]
        return values[0] > down_float64(at)[0] if atom.strict else values[0] >= up_float64(at)[0]
    with np.errstate(invalid="ignore"):
        total = sum((float(c) * v for c, v in zip(coefficients, values, strict=True)), np.zeros(len(next(iter(columns.values())))))
        size = sum((abs(float(c)) * np.abs(v) for c, v in zip(coefficients, values, strict=True)), abs(float(atom.bound)))
    margin = float(atom.bound) - total
    found = margin > 0
    unclear = ~(np.abs(margin) > ROUNDING * (len(values) + 1) * size) & np.isfinite(total)
    if unclear.any():
        rows, back = np.unique(np.stack([v[unclear] for v in values], axis=1), axis=0, return_inverse=True)
        found[unclear] = np.asarray([_exactly(atom, row) for row in rows])[back.ravel()]
    return np.asarray(found)


def _exactly(atom: Atom, row: Sequence[float]) -> bool:
    """The atom where its k-th term has the value row[k]."""
    alone = Atom(tuple(("terms", k, c) for k, (_, _, c) in enumerate(atom.terms)), atom.bound, atom.strict)
    return atom_holds(alone, {"terms": [Fraction(float(v)) for v in row]})


def _columns(variables: Sequence[Variable], flat: Array) -> dict[str, Array]:
    parts = np.split(flat, np.cumsum([v.size for v in variables])[:-1], axis=1)
    return {v.name: part for v, part in zip(variables, parts, strict=True)}


def _orders(lower: Array, upper: Array) -> tuple[Array, Array]:
    """Places in the order of float32 numbers, -0 just before 0, as int64; an end at zero takes both zeros in."""
    return _order(np.where(lower == 0, np.float32(-0.0), lower)), _order(np.where(upper == 0, np.float32(0.0), upper))


def _order(x: Array) -> Array:
    bits = np.asarray(x, np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF) - 1)


def _of_order(order: Array) -> Array:
    bits = np.where(order >= 0, order, (-order - 1) | 0x80000000)
    return bits.astype(np.uint32).view(np.float32)


def _with_free_batch(content: bytes) -> bytes:
    """The file with a symbolic first axis of its inputs and outputs."""
    proto = onnx.ModelProto.FromString(content)
    constants = {tensor.name for tensor in proto.graph.initializer}
    for info in (*proto.graph.input, *proto.graph.output):
        if info.name not in constants and info.type.tensor_type.shape.dim:
            info.type.tensor_type.shape.dim[0].dim_param = "batch"
    del proto.graph.value_info[:]
    return bytes(proto.SerializeToString())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("property", type=Path)
    parser.add_argument("--most", type=int, default=MOST_POINTS, help="points at most")
    given = parser.parse_args()
    truth = exhaust(load(given.model), read(given.property), given.most)
    name = "unsat for onnxruntime" if truth.verdict == "unsat" else truth.verdict
    at = "" if truth.witness is None else f", first at {[float(v) for v in truth.witness]}"
    print(f"{name}: {truth.violations} of {truth.points} float32 points violate{at}; {truth.overflows} end in NaN or Inf")


if __name__ == "__main__":
    main()
