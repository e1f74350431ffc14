"""Do the network and the property belong together, and is the loaded network the one in the file?"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph import selfcheck
from graph.load import Model
from specs.canonical import Box, Property
from specs.errors import PropertyError
from specs.rounding import nearest_float32

Array = NDArray[Any]
RANDOM_POINTS = 20
RANDOM_CORNERS = 4


def check_fit(model: Model, prop: Property) -> None:
    """Raise PropertyError, naming all four counts, unless `prop` has one variable for each input and output of `model`."""
    declared = sum(v.size for v in prop.inputs), sum(v.size for v in prop.outputs)
    there = sum(t.size for t in model.inputs), sum(t.size for t in model.outputs)
    if declared != there:
        raise PropertyError(
            f"{prop.source}: the property declares {declared[0]} input and {declared[1]} output variables, "
            f"but the network {model.path} has {there[0]} inputs and {there[1]} outputs; is it the property of another network?"
        )


def compare_with_runtime(model: Model, prop: Property, seed: int) -> None:
    """Compare `model` with onnxruntime on points of the first case's box. Raises ModelMismatch if it is another network."""
    case = next(iter(prop.cases), None)
    if case is not None:
        boxes = {box.tensor: box for box in case.boxes}
        points = box_points([boxes[v.name] for v in prop.inputs], seed)
        ends = np.cumsum([t.size for t in model.inputs])[:-1]
        selfcheck.compare(model, [np.split(point, ends) for point in points])


def box_points(boxes: list[Box], seed: int) -> Array:
    """Points of the product of `boxes`, float32 [P, n_in]: centre, two opposite corners, random corners, random points."""
    lower = np.concatenate([nearest_float32(box.lower) for box in boxes])
    upper = np.concatenate([nearest_float32(box.upper) for box in boxes])
    draw = np.random.default_rng(seed)
    fractions = draw.random((RANDOM_POINTS, lower.size), dtype=np.float32)
    corners = draw.random((RANDOM_CORNERS, lower.size)) < 0.5
    inside = lower + (upper - lower) * fractions
    points = np.concatenate([(lower / 2 + upper / 2)[None], lower[None], upper[None], np.where(corners, lower, upper), inside])
    return np.asarray(np.clip(points, lower, upper), dtype=np.float32)
