"""One model file in a process of its own: load, compare with onnxruntime, bound, sample. Prints one line of JSON.

    python -m benchmarks.models.measure FILE RADIUS image|signal [--output NAME] [--samples N] [--elements N] [--products N]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bounds.interval import propagate
from bounds.library import crown_bounds
from graph.errors import ModelError
from graph.load import Model, load
from graph.selfcheck import compare, execute, session
from graph.simplify import recentre_softmax
from graph.specialise import specialise
from verifier.checker import read_model
from verifier.checker.refusal import Refusal
from verifier.inspection import estimated_products
from verifier.memory import own_peak

Array = NDArray[Any]

SLACK = 2e-5  # times 1 + |y|: what float32 rounding may put the runtime's output outside of bounds over the reals
NOISE = 2.0**-17  # of an output's size: what varies by less, varies by the roundings of the runtime
STILL = "samples do not vary"


def measured(path: Path, radius: float, image: bool, samples: int, elements: int, products: float) -> dict[str, Any]:
    """The facts of one file; `error` says what went wrong, if something did. Without `samples` it is loaded and compared only."""
    began = time.monotonic()
    try:
        model = load(path)
    except ModelError as error:
        return {"error": " ".join(str(error).partition(" Supported are:")[0].split())}
    facts: dict[str, Any] = {"load_seconds": time.monotonic() - began, "load_bytes": own_peak(), "nodes": len(model.graph.nodes)}
    draw = np.random.default_rng(0)
    point = [draw.uniform(0.0 if image else -1.0, 1.0, info.size) for info in model.inputs]
    facts["compared"] = compare(model, [[x.reshape(info.shape) for x, info in zip(point, model.inputs, strict=True)]]).compared
    facts["checker"] = _checker(path)
    if samples == 0:
        return {**facts, "peak_bytes": own_peak(), "error": ""}
    centre = np.concatenate(point)
    lower, upper = centre - radius, centre + radius
    if image:
        lower, upper = np.maximum(lower, 0), np.minimum(upper, 1)
    chosen = _chosen(model, elements)
    began = time.monotonic()
    graph = recentre_softmax(model.graph, point)
    intervals = propagate(graph, lower[None], upper[None])
    ends = [(intervals[i][0][0][part], intervals[i][1][0][part]) for i, part in zip(graph.outputs, chosen, strict=True)]
    facts["interval_seconds"] = time.monotonic() - began
    least, greatest = _samples(model, lower, upper, chosen, samples, draw)
    facts["interval_width"] = _compare("interval", ends, least, greatest)
    facts["products"] = estimated_products(graph, lower, upper)
    began = time.monotonic()
    linear = crown_bounds(graph, lower[None], upper[None], chosen, refine=facts["products"] <= products)
    facts["linear_seconds"] = time.monotonic() - began
    facts["linear_width"] = _compare("linear", [(low[0], high[0]) for low, high in linear], least, greatest)
    facts["precision"] = "float64"
    facts["refined"] = bool(facts["products"] <= products)
    return {**facts, "peak_bytes": own_peak(), "samples": samples, "inputs": int(centre.size), "error": ""}


def _checker(path: Path) -> str:
    try:
        read_model.read(path.read_bytes())
    except Refusal as refusal:
        return f"{refusal.rule}: {refusal.place}"[:200]
    return "reads it"


def _chosen(model: Model, elements: int) -> list[Array]:
    draw = np.random.default_rng(1)
    return [np.sort(draw.permutation(info.size)[:elements]) for info in model.outputs]


def _samples(model: Model, lower: Array, upper: Array, chosen: list[Array], count: int, draw: np.random.Generator) -> tuple[list[Array], list[Array]]:
    """The extremes of the chosen outputs in onnxruntime; half of the points at corners of the box."""
    running = session(model)
    cuts = np.cumsum([info.size for info in model.inputs])[:-1]
    least = [np.full(len(part), np.inf) for part in chosen]
    greatest = [np.full(len(part), -np.inf) for part in chosen]
    for k in range(count):
        mix = draw.random(lower.size) if k % 2 else draw.integers(0, 2, lower.size)
        found = execute(running, model, np.split(lower + (upper - lower) * mix, cuts))
        for i, (y, part) in enumerate(zip(found, chosen, strict=True)):
            value = np.asarray(y, dtype=np.float64).reshape(-1)[part]
            least[i], greatest[i] = np.minimum(least[i], value), np.maximum(greatest[i], value)
    return least, greatest


def _compare(name: str, ends: list[tuple[Array, Array]], least: list[Array], greatest: list[Array]) -> float | str | None:
    """The width of the bounds over the spread of the samples, in the median over outputs that vary; STILL where none does, None where no bound
    is finite. Raises RuntimeError where a sample lies outside."""
    ratios = []
    for (low, high), a, b in zip(ends, least, greatest, strict=True):
        room = SLACK * (1 + np.maximum(np.abs(a), np.abs(b)))
        if bool(((low > a + room) | (high < b - room)).any()):
            raise RuntimeError(f"{name} bounds exclude a sample")
        varies = b - a > NOISE * np.maximum(np.abs(a), np.abs(b))
        ratios.append((high - low)[varies] / (b - a)[varies])
    together = np.concatenate(ratios)
    if not together.size:
        return STILL
    middle = float(np.median(together))
    return middle if math.isfinite(middle) else None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models.measure")
    parser.add_argument("file", type=Path)
    parser.add_argument("radius", type=float)
    parser.add_argument("kind", choices=("image", "signal"))
    parser.add_argument("--output", default="")
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--elements", type=int, default=32)
    parser.add_argument("--products", type=float, default=1e13)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = options.file
        if options.output:
            path = Path(folder) / "one_output.onnx"
            path.write_bytes(specialise(options.file, [options.output], {}))
        facts = measured(path, options.radius, options.kind == "image", options.samples, options.elements, options.products)
    print(json.dumps(facts, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
