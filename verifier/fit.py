"""Do the network and the property belong together, and is the loaded network the one in the file?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graph import selfcheck
from graph.compose import Composed
from graph.core import Affine
from graph.load import Model, TensorInfo
from graph.map_algebra import cost
from specs.canonical import Box, Property, Variable
from specs.errors import PropertyError
from specs.rounding import nearest_float32

Array = NDArray[Any]
CORE_POINTS = 3  # the centre and two corners, however large the network is
COMPARED_NUMBERS = 100_000_000  # of all nodes at all points, and
COMPARED_PRODUCTS = 4_000_000_000  # in all of them: more takes longer than most runs may
RANDOM_POINTS = 20
RANDOM_CORNERS = 4


def check_fit(model: Model, prop: Property, network: str = "") -> None:
    """Raise PropertyError, naming all four counts, unless `prop` has one variable for each input and output of `model`.

    From VNN-LIB 2.0 on: unless its tensors are those of `model` in number, order, shape and, but for `real`, element type, and the network
    is called `network`, if that is a name.
    """
    if prop.network and not isinstance(model, Composed):  # whose parts were compared when it was made
        if network not in ("", prop.network):
            raise PropertyError(f"{prop.source}: the property declares the network {prop.network}, and --network names {network}")
        check_tensors("input", prop.inputs, model.inputs, prop.source, model.path)
        check_tensors("output", prop.outputs, model.outputs, prop.source, model.path)
    declared = sum(v.size for v in prop.inputs), sum(v.size for v in prop.outputs)
    there = sum(t.size for t in model.inputs), sum(t.size for t in model.outputs)
    if declared != there:
        raise PropertyError(
            f"{prop.source}: the property declares {declared[0]} input and {declared[1]} output variables, "
            f"but the network {model.path} has {there[0]} inputs and {there[1]} outputs; is it the property of another network?"
        )


def check_tensors(kind: str, declared: Sequence[Variable], there: Sequence[TensorInfo], source: str, path: Path | None) -> None:
    """Raise PropertyError unless the tensors agree, naming the first that does not."""
    if len(declared) != len(there):
        raise PropertyError(f"{source}: the property declares {len(declared)} {kind}s, but the network {path} has {len(there)}; all are declared")
    for variable, tensor in zip(declared, there, strict=True):
        shapes_differ, types_differ = variable.shape != tensor.shape, variable.element_type not in ("real", tensor.element_type)
        if shapes_differ or types_differ:
            raise PropertyError(
                f"{source}: the property declares the {kind} {variable.name} as {variable.element_type} {list(variable.shape)}, but "
                f"{tensor.name!r} of the network {path} is {tensor.element_type} {list(tensor.shape)}"
            )


def semantics_of(prop: Property, wanted: str) -> str:
    """What `unsat` speaks of: "float32" if the property declares float32 tensors, else "real", or what is `wanted`, if that is not "auto".

    Raises PropertyError where less is wanted than the property asks for.
    """
    if prop.asks_for_float32 and wanted == "real":
        raise PropertyError(
            f"{prop.source}: the property declares float32 tensors, so that unsat has to hold in float32, and --semantics real would not say "
            "that. Leave the option out, or declare the tensors as `real`"
        )
    return wanted if wanted != "auto" else "float32" if prop.asks_for_float32 else "real"


def compare_with_runtime(model: Model, prop: Property, seed: int, semantics: str = "float32") -> list[str]:
    """Compare `model`, or all its parts, with onnxruntime on points of the first case's box. Raises ModelMismatch if it is another network.
    Notes where, over the reals, onnxruntime's optimisations are what differs."""
    case, notes = next(iter(prop.cases), None), list[str]()
    if case is not None:
        boxes = {box.tensor: box for box in case.boxes}
        count = max(CORE_POINTS, min(COMPARED_NUMBERS // _numbers(model), COMPARED_PRODUCTS // _products(model)))
        points = box_points([boxes[v.name] for v in prop.inputs], seed)[:count]
        for part, columns in shares(model).values():
            ends = np.cumsum([t.size for t in part.inputs])[:-1]
            there = selfcheck.compare(part, [np.split(point, ends) for point in points[:, columns]], as_written=semantics == "real")
            notes += there.notes
    return notes


def _numbers(model: Model) -> int:
    """In all nodes at one point."""
    return sum(node.size for node in model.graph.nodes)


def _products(model: Model) -> int:
    """Of the linear maps at one point, and 1."""
    return 1 + sum(cost(m) for node in model.graph.nodes if isinstance(node, Affine) for m in node.maps)


def shares(model: Model) -> dict[str, tuple[Model, Array]]:
    """The networks that `model` consists of by name (itself is called ""), and the places of their inputs among its own."""
    if not isinstance(model, Composed):
        return {"": (model, np.arange(sum(t.size for t in model.inputs)))}
    ends = np.cumsum([sum(t.size for t in part.model.inputs) for part in model.parts])[:-1]
    return {part.name: (part.model, columns) for part, columns in zip(model.parts, np.split(model.source, ends), strict=True)}


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
