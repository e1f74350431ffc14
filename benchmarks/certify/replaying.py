"""Does a counterexample hold? The files as they lie there, run by onnxruntime, and the region as it was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from benchmarks.certify.regions import Region
from graph.errors import ModelError
from graph.load import load
from specs import vnnlib
from specs.errors import PropertyError
from verifier.replay import Replayer


def objection(model: Path, prop: Path, region: Region, inputs: Sequence[float]) -> str:
    """Nothing, if the network violates the property at `inputs` and these lie in the region; else a sentence."""
    x = np.asarray(inputs, np.float64)
    if x.shape != (region.size,) or not np.isfinite(x).all() or not np.array_equal(x.astype(np.float32).astype(np.float64), x):
        return f"its inputs are not {region.size} float32 numbers"
    if region.norm is not None and not region.norm.contains([Fraction(float(v)) for v in x]):
        return "it lies outside of the region"
    try:
        witness = Replayer(load(str(model)), vnnlib.read(prop)).judge([x.astype(np.float32)])
    except (ModelError, PropertyError) as error:
        return f"it cannot be replayed: {error}"
    return "it violates nothing" if witness is None else ""


def read(path: Path) -> list[float]:
    """The inputs that a witness file states. Raises OSError or ValueError."""
    plain = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(plain, dict) or not isinstance(plain.get("inputs"), list) or not all(isinstance(v, int | float) for v in plain["inputs"]):
        raise ValueError("no list of inputs")
    return [float(v) for v in plain["inputs"]]
