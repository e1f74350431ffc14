"""The attacks of docs/soundness_hidden.md, on a file and a property with one case of one atom. Numpy in and out."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.soundness.train import attacks as methods
from benchmarks.soundness.train.budgets import ATTACKS, OWN_ROUNDS, POINTS
from bounds.torch_graph import TorchGraph
from graph.load import load
from specs.vnnlib import read
from verifier.attack import Attacker
from verifier.problem import Problem, compile_problem
from verifier.replay import Replayer, Witness

Array = NDArray[Any]

@dataclass(frozen=True, eq=False)
class Result:
    """Points [B, n] that an attack ended with and their margins [B], as torch computes them: at most 0 is a violation."""

    points: Array
    margins: Array


def attacks(content: bytes, prop: str, seed: int) -> Iterator[tuple[str, Result]]:
    """Every attack of ATTACKS, in that order, each of its own random numbers at that seed."""
    problem = _problem(content, prop)
    target = _target(content, problem)
    for name in ATTACKS:
        random = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
        if name == "own":
            yield name, _own(content, prop, seed)
            continue
        found = run(name, target, random)
        yield name, Result(found.points.detach().numpy(), found.margins.detach().numpy())


def gradients(content: bytes, prop: str) -> Array:
    """Euclidean norms of the margin's gradient at uniform points of the box [POINTS]."""
    target = _target(content, _problem(content, prop))
    return np.asarray(methods.gradient_norms(target, POINTS, torch.Generator().manual_seed(1)).numpy())


def run(name: str, target: methods.Target, random: torch.Generator) -> methods.Found:
    """One attack of ATTACKS at its budget; not the engine's own, which needs a property. Raises ValueError."""
    match name:
        case "pgd_100":
            return methods.pgd(target, 100, 100, random)
        case "pgd_1000":
            return methods.pgd(target, 1000, 100, random)
        case "apgd_ce" | "apgd_margin":
            return methods.apgd(target, 50, 100, random, entropy=name == "apgd_ce")
        case "fab":
            return methods.fab(target, 50, 50, random)
        case "square":
            return methods.square(target, 50, 1000, random)
    raise ValueError(f"no attack {name!r}")


def _problem(content: bytes, prop: str) -> Problem:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "property.vnnlib"
        path.write_text(prop)
        return compile_problem(load(content).graph, read(path))


def _target(content: bytes, problem: Problem) -> methods.Target:
    """Raises ValueError where the property is not one case of one atom that compares outputs with 0."""
    outputs, inputs = problem.functionals.dense(np.arange(len(problem.functionals)))
    if len(problem.case_box) != 1 or outputs.shape[0] != 1 or inputs.any() or problem.case_bounds.any():
        raise ValueError("attacks are measured on properties of one case with one atom, outputs against 0")
    lower, upper = (torch.from_numpy(side[0].astype(np.float32)) for side in (problem.witness_lower, problem.witness_upper))
    return methods.Target(content, lower, upper, torch.from_numpy(outputs[0].astype(np.float32)))


def _own(content: bytes, prop: str, seed: int) -> Result:
    """The engine's attack, with its own judge; its best margin, and the witness if it has one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "property.vnnlib"
        path.write_text(prop)
        spec = read(path)
    model = load(content)
    problem = compile_problem(model.graph, spec)
    attacker = Attacker(problem, TorchGraph(model.graph), Replayer(model, spec), seed=seed)
    witness: Witness | None = None
    for _ in range(OWN_ROUNDS):
        witness = attacker.round(600.0) if witness is None else witness
    points = problem.witness_lower[:1] if witness is None else witness.inputs[None]
    return Result(points.astype(np.float32), attacker.best_margin if witness is None else np.minimum(attacker.best_margin, 0.0))
