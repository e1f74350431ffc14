"""Image folders (Pillow, the extra `report`): CLASS/IMAGE, or images beside a labels.csv."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from benchmarks.certify import data
from benchmarks.certify.errors import InputError

Array = NDArray[Any]


def read(folder: Path, columns: data.Columns) -> data.Samples:
    """Samples uint8 -> float32 [n, height, width] (grey) or [n, height, width, 3]; ids are paths from `folder`. Raises InputError."""
    listed = folder / "labels.csv"
    if listed.exists():
        files, texts, classes = _listed(folder, listed, columns)
    else:
        names = sorted(p.name for p in folder.iterdir() if p.is_dir())
        classes = columns.classes or tuple(names)
        pairs = [(p, name) for name in names for p in sorted((folder / name).iterdir()) if p.suffix.lower() in data.IMAGES]
        files, texts = [p for p, _ in pairs], [name for _, name in pairs]
        if not files:
            raise InputError(f"{folder}: no images in folders named after their classes, and no labels.csv")
    if not files:
        raise InputError(f"{listed}: no images")
    pixels = [_pixels(path) for path in files]
    shape = pixels[0].shape
    for path, one in zip(files, pixels, strict=True):
        if one.shape != shape:
            raise InputError(f"{path}: an image of shape {list(one.shape)}, but {files[0].name} has {list(shape)}; all must be alike")
    ids = tuple(path.relative_to(folder).as_posix() for path in files)
    return data.Samples(ids, np.stack(pixels).astype(np.float32), data.labels_of(folder, texts, classes), (), classes)


def _listed(folder: Path, listed: Path, columns: data.Columns) -> tuple[list[Path], list[str], tuple[str, ...]]:
    try:
        rows = list(csv.DictReader(listed.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{listed}: not a table of file,label: {error}") from error
    for number, row in enumerate(rows, 2):
        if not row.get("file") or row.get("label") in (None, ""):
            raise InputError(f"{listed}, line {number}: a file or a label is missing; expected the columns file,label")
        if not (folder / row["file"]).resolve().is_relative_to(folder.resolve()):
            raise InputError(f"{listed}, line {number}: {row['file']!r} lies outside of the folder")
    return [folder / row["file"] for row in rows], [row["label"] for row in rows], columns.classes


def _pixels(path: Path) -> Array:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
                return np.asarray(image if image.mode in ("L", "RGB") else image.convert("L" if image.mode in ("1", "I;16", "LA") else "RGB"))
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such image") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: the image cannot be decoded: {error}") from error
