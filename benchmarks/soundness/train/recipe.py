"""What is shipped of a training run: NAME_SEED.onnx and NAME_SEED.json, which says how it was made and where its boxes and planted points are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.soundness.train.data import GRID, Boxes

Array = NDArray[Any]
MODELS = Path(__file__).resolve().parents[1] / "models"
SCHEMA = 1


class RecipeError(Exception):
    """A shipped model and its recipe do not belong together; the message says what differs."""


@dataclass(frozen=True, eq=False)
class Shipped:
    """A trained model. `made` is the rest of the recipe: architecture, knobs, steps, results, commit, versions."""

    name: str
    seed: int
    model: onnx.ModelProto
    boxes: Boxes
    made: Mapping[str, Any]


def save(folder: Path, name: str, seed: int, model: onnx.ModelProto, boxes: Boxes, made: Mapping[str, Any]) -> Path:
    """Write both files, the recipe last. Returns the recipe's path."""
    data = model.SerializeToString(deterministic=True)
    stem = folder / f"{name}_{seed}"
    stem.with_suffix(".onnx").write_bytes(data)
    recipe = {
        "schema": SCHEMA, "name": name, "seed": seed, **made,
        "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "grid": GRID,
        "radius": _whole(np.array(boxes.radius)), "labels": boxes.labels.tolist(), "centres": _whole(boxes.centres), "planted": _whole(boxes.planted),
    }  # fmt: skip
    path = stem.with_suffix(".json")
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(recipe, allow_nan=False) + "\n")
    part.replace(path)
    return path


def read(path: Path) -> Shipped:
    """The model of a recipe. Raises RecipeError where the file is not the one that was trained."""
    recipe = json.loads(path.read_text())
    if recipe.get("schema") != SCHEMA or recipe.get("grid") != GRID:
        raise RecipeError(f"{path}: not a recipe of schema {SCHEMA}")
    data = path.with_suffix(".onnx").read_bytes()
    if hashlib.sha256(data).hexdigest() != recipe["sha256"]:
        raise RecipeError(f"{path.with_suffix('.onnx')}: not the model that {path.name} describes; train it again")
    centres, planted = (np.array(recipe[key], dtype=np.float32) / np.float32(GRID) for key in ("centres", "planted"))
    boxes = Boxes(centres, np.array(recipe["labels"]), recipe["radius"] / GRID, planted)
    return Shipped(recipe["name"], recipe["seed"], onnx.load_model_from_string(data), boxes, recipe)


def shipped(folder: Path = MODELS) -> Iterator[Shipped]:
    """Every model of a folder, in the order of their names. Raises RecipeError."""
    for path in sorted(folder.glob("*.json")):
        yield read(path)


def _whole(values: Array) -> Any:
    """Multiples of 1 / GRID as whole numbers. Raises ValueError."""
    scaled = values.astype(np.float64) * GRID
    if (scaled != np.round(scaled)).any():
        raise ValueError("a number that is not on the grid")
    return scaled.astype(np.int64).tolist()
