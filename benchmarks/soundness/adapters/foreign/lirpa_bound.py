"""Ask auto_LiRPA for bounds: MODEL PROPERTY RESULTS_FILE [METHOD]. Needs auto_LiRPA, onnx2pytorch, torch, onnx, numpy, and `benchmarks.formula`.

The property is read by `benchmarks.formula` and taken apart into a box and cases (conjunctions of atoms of the outputs). A property that bounds
its inputs inside an `or` is beyond this oracle.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm
from onnx2pytorch import ConvertModel

from benchmarks.formula import Atom, Formula, Junction, Violation, read

MOST_CASES = 10_000


def cases(formula: Formula) -> list[tuple[Atom, ...]]:
    """The formula as a disjunction of conjunctions of atoms. Raises ValueError beyond MOST_CASES."""
    if isinstance(formula, Atom):
        return [(formula,)]
    parts = [cases(part) for part in formula.parts]
    if formula.kind == "or":
        return [case for part in parts for case in part]
    if np.prod([len(part) for part in parts], dtype=float) > MOST_CASES:
        raise ValueError("too many cases")
    return [tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)]


def box(violation: Violation) -> tuple[np.ndarray, np.ndarray, list[tuple[Atom, ...]]]:
    """(lower [n], upper [n], cases over the outputs), float32 bounds rounded outwards. Raises ValueError."""
    bounds = [part for part in violation.formula.parts if isinstance(part, Atom) and part.bounds_one_input]
    rest = [part for part in violation.formula.parts if not (isinstance(part, Atom) and part.bounds_one_input)]
    low, high = np.full(violation.inputs, -np.inf), np.full(violation.inputs, np.inf)
    for atom in bounds:
        _, index, coefficient = atom.terms[0]
        value = float(atom.limit())
        if coefficient > 0 or atom.relation == "==":
            high[index] = min(high[index], np.nextafter(value, np.inf))
        if coefficient < 0 or atom.relation == "==":
            low[index] = max(low[index], np.nextafter(value, -np.inf))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("an input is not bounded outside the disjunctions")
    outputs = cases(Junction("and", tuple(rest)))
    if any(tensor != "Y" for case in outputs for atom in case for tensor, _, _ in atom.terms):
        raise ValueError("atoms over inputs inside a disjunction")
    return np.nextafter(low.astype(np.float32), -np.inf, dtype=np.float32), np.nextafter(high.astype(np.float32), np.inf, dtype=np.float32), outputs


def refuted(found: Sequence[tuple[Atom, ...]], outputs: int, bound: Callable[[np.ndarray], np.ndarray]) -> bool:
    """Whether in every case some atom cannot hold. `bound(rows [k, outputs])` gives lower bounds of the rows' products with the outputs, [k]."""
    atoms = list({atom: None for case in found for atom in case})
    rows = np.zeros((len(atoms), outputs), dtype=np.float32)
    for row, atom in zip(rows, atoms, strict=True):
        for _, index, coefficient in atom.terms:
            row[index] += float(coefficient)
    lower = dict(zip(atoms, bound(rows), strict=True))
    return all(any(lower[a] > float(a.bound) or (a.relation == "<" and lower[a] >= float(a.bound)) for a in case) for case in found)


def main(model: str, prop: str, results: str, method: str = "CROWN") -> None:
    violation = read(Path(prop))
    low, high, found = box(violation)
    proto = onnx.load(model)
    names = {tensor.name for tensor in proto.graph.initializer}
    shape = [max(1, d.dim_value) for i in proto.graph.input if i.name not in names for d in i.type.tensor_type.shape.dim]
    lower, upper = (torch.from_numpy(v.reshape(shape)) for v in (low, high))
    x = BoundedTensor((lower + upper) / 2, PerturbationLpNorm(norm=float("inf"), x_L=lower, x_U=upper))
    module = BoundedModule(ConvertModel(proto, experimental=True), (lower + upper) / 2)

    def bound(rows: np.ndarray) -> np.ndarray:
        values, _ = module.compute_bounds(x=(x,), C=torch.from_numpy(rows)[None], method=method, bound_upper=False)
        return values.detach().numpy().ravel()

    Path(results).write_text("unsat\n" if refuted(found, violation.outputs, bound) else "unknown\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
