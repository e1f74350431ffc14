"""Judge candidate points by running the *original* file (DESIGN 1): the only place where a `sat` can come from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph.compose import Composed
from graph.load import Model
from graph.selfcheck import execute, session
from specs.canonical import Case, Property, Variable
from specs.errors import PropertyError
from specs.evaluate import violated_case
from specs.rounding import down_float64, up_float64
from verifier.exact import enclose_outputs, exact_outputs
from verifier.fit import shares

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Witness:
    """A confirmed violation of `case`: the file, run at `inputs`, gave `outputs`.

    inputs: float32 [n_in], with RN32(lower) <= x <= RN32(upper); outputs: as the runtime returned them [n_out].
    `float32_only`: whether only rounding violates; None where float64 with its error bound cannot tell.
    """

    inputs: Array = field(repr=False)
    outputs: Array = field(repr=False)
    case: int
    inside_exact_box: bool
    float32_only: bool | None


class Replayer:
    """Runs the file that `model` was read from in onnxruntime, and compares with `prop` in exact rationals.

    Inputs and outputs are bound by position: the property's variables, concatenated, are the model's. `runs` counts
    executions. Raises ModelError where onnxruntime refuses the file, PropertyError where the numbers of variables differ.
    """

    def __init__(self, model: Model, prop: Property) -> None:
        self._model = model
        self._property = prop
        self._running = Running(model)
        self._ends = np.cumsum([info.size for info in model.inputs])[:-1]
        self._size = sum(info.size for info in model.inputs)
        self.runs = 0
        declared = sum(v.size for v in prop.inputs)
        if declared != self._size:
            raise PropertyError(f"{prop.source}: the property declares {declared} input variables, the network has {self._size} inputs")

    def run(self, points: Array) -> Array:
        """All outputs of the file, concatenated, at each row of `points` float32 [P, n_in]: float64 [P, n_out], exactly."""
        return np.stack([self._run(x).astype(np.float64) for x in points])

    def judge(self, points: Iterable[Array]) -> Witness | None:
        """The first of `points` (float32 [n_in] each) that violates, moved into the exact decimal box where that still violates.

        A point outside the witness set, and a point where the file returns NaN or an infinity, never counts.
        """
        for x in points:
            found = self._violation(x)
            if found is not None:
                found = self._inside(found)
                return replace(found, float32_only=self._only_rounding(found))
        return None

    def _run(self, x: Array) -> Array:
        self.runs += 1
        return self._running(x)

    def _violation(self, x: Array) -> Witness | None:
        if x.dtype != np.float32 or x.shape != (self._size,) or not np.isfinite(x).all():
            raise ValueError(f"a candidate is {self._size} finite float32 numbers, not {x.dtype} {x.shape}")
        y = self._run(x)
        if not np.isfinite(y).all():
            return None
        exact_case = self._case(x, y, exact_box=True)
        case = exact_case if exact_case is not None else self._case(x, y)
        return None if case is None else Witness(x.copy(), y, case, exact_case is not None, None)

    def _case(self, x: Sequence[Any] | Array, y: Sequence[Any] | Array, *, exact_box: bool = False) -> int | None:
        """The index of a case that holds at inputs `x` and outputs `y`, as written."""
        inputs, outputs = _by_name(self._property.inputs, x), _by_name(self._property.outputs, y)
        return violated_case(self._property, inputs, outputs, exact_box=exact_box)

    def _nth_case(self, index: int) -> Case:
        return next(itertools.islice(iter(self._property.cases), index, None))

    def _inside(self, witness: Witness) -> Witness:
        """`witness`, or its neighbour inside the exact box of its case where that violates too."""
        if witness.inside_exact_box:
            return witness
        lower, upper = float32_inside(self._nth_case(witness.case), self._property.inputs)
        if not (lower <= upper).all():
            return witness
        moved = self._violation(np.clip(witness.inputs, lower, upper))
        return moved if moved is not None and moved.inside_exact_box else witness

    def _only_rounding(self, witness: Witness) -> bool | None:
        """Whether the network over the reals is safe at a point where the file is not."""
        values, errors = enclose_outputs(self._model, np.split(witness.inputs, self._ends))
        if not (np.isfinite(values).all() and np.isfinite(errors).all()):
            return None
        real_case = self._case(witness.inputs, values)
        case = self._nth_case(witness.case if real_case is None else real_case)
        verdict = _holds_within(case, self._property, witness.inputs, values, errors)
        if verdict is None:
            exact = exact_outputs(self._model, witness.inputs)
            return None if exact is None else self._case(witness.inputs, exact) is None
        return not verdict


class Running:
    """The original files of a model in onnxruntime. Raises ModelError where it refuses one."""

    def __init__(self, model: Model) -> None:
        self._model, self._parts = model, shares(model)
        self._sessions = {id(part): session(part) for part, _ in self._parts.values()}

    def __call__(self, x: Array) -> Array:
        """All outputs at `x` float32 [n_in], concatenated [n_out]; products, which no file computes, rounded to double."""
        found = {name: self._outputs(part, x[columns]) for name, (part, columns) in self._parts.items()}
        if not isinstance(self._model, Composed):
            return np.concatenate(list(found[""].values()))
        values = np.concatenate([found[part.name][name] for part in self._model.parts for name in part.outputs])
        factors = np.concatenate([values, x]).astype(np.float64)
        return np.concatenate([values, [np.prod(factors[list(product)]) for product in self._model.products]])

    def _outputs(self, part: Model, x: Array) -> dict[str, Array]:
        """By name, flat."""
        ends = np.cumsum([info.size for info in part.inputs])[:-1]
        values = execute(self._sessions[id(part)], part, np.split(x, ends))
        return {info.name: y.ravel() for info, y in zip(part.outputs, values, strict=True)}


def float32_inside(case: Case, inputs: Sequence[Variable]) -> tuple[Array, Array]:
    """The smallest and largest float32 of each side's exact interval [n_in]; lower > upper where it contains no float32."""
    boxes = {box.tensor: box for box in case.boxes}
    low = np.concatenate([up_float64(boxes[v.name].lower) for v in inputs])
    high = np.concatenate([down_float64(boxes[v.name].upper) for v in inputs])
    lower, upper = low.astype(np.float32), high.astype(np.float32)
    lower = np.where(lower.astype(np.float64) < low, np.nextafter(lower, np.float32(np.inf)), lower)
    upper = np.where(upper.astype(np.float64) > high, np.nextafter(upper, np.float32(-np.inf)), upper)
    return lower, upper


def _by_name(variables: Sequence[Variable], flat: Sequence[Any] | Array) -> dict[str, Any]:
    """A concatenation of all `variables` as one flat vector per variable."""
    if len(flat) != sum(v.size for v in variables):
        raise PropertyError(f"the property declares {sum(v.size for v in variables)} variables where the network has {len(flat)}")
    starts = itertools.accumulate((v.size for v in variables), initial=0)
    return {v.name: flat[start : start + v.size] for v, start in zip(variables, starts, strict=False)}


def _holds_within(case: Case, prop: Property, x: Array, values: Array, errors: Array) -> bool | None:
    """Whether every output vector within `errors` of `values` satisfies all atoms (True), none does (False), or neither is clear."""
    point = {**_by_name(prop.inputs, x), **_by_name(prop.outputs, values)}
    doubt = {**_by_name(prop.inputs, np.zeros(len(x))), **_by_name(prop.outputs, errors)}
    clear = True
    for atom in case.atoms:
        margin = sum((c * Fraction(float(point[t][i])) for t, i, c in atom.terms), Fraction(0)) - atom.bound
        slack = sum((abs(c) * Fraction(float(doubt[t][i])) for t, i, c in atom.terms), Fraction(0))
        if margin > slack or (atom.strict and margin >= slack):
            return False
        clear = clear and (margin < -slack or (margin == -slack and not atom.strict))
    return True if clear else None
