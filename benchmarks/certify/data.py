"""Data sets: files -> samples with ids, float32 values and labels. Every defect is an InputError that names the file and the place.

    .npz            arrays X (or x, data, images, inputs) and y (or labels, target, targets); ids, if there are any
    .npy            the values; labels from a second file
    .csv, .parquet  a row a sample, a header; the label, id and feature columns are named in the policy, or `label`, `id` and all others
    a folder        CLASS/IMAGE (classes in the order of their names), or images and a labels.csv of `file,label`
"""

from __future__ import annotations

import csv
import importlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.certify.errors import InputError, UsageError
from specs.canonical import Rationals
from specs.errors import PropertyError
from specs.rounding import nearest_float32
from specs.tokens import rational

Array = NDArray[Any]

VALUE_NAMES, LABEL_NAMES = ("X", "x", "data", "images", "inputs"), ("y", "labels", "label", "target", "targets")
LABEL_COLUMN, ID_COLUMN = "label", "id"
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


@dataclass(frozen=True)
class Columns:
    """How a table or a set of labels is read. `classes`: names of labels that are no numbers, in the order of the outputs."""

    label: str | None = None
    id: str | None = None
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Samples:
    """values float32 [n, *shape]: what the program is given; labels int64 [n], or None; `features`: names, where the data have them."""

    ids: tuple[str, ...]
    values: Array = field(repr=False)
    labels: Array | None = field(repr=False)
    features: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.values.shape[1:])

    def __len__(self) -> int:
        return len(self.ids)


def read(path: Path, labels: Path | None = None, columns: Columns | None = None) -> Samples:
    """The samples of a file or a folder. Raises InputError or UsageError."""
    columns = columns or Columns()
    if not path.exists():
        raise InputError(f"{path}: there is no such file or folder")
    if labels is not None and path.suffix.lower() != ".npy":
        raise UsageError(f"--labels goes with .npy files; {path} has its labels in it")
    try:
        if path.is_dir():
            samples = importlib.import_module("benchmarks.certify.images").read(path, columns)
        elif path.suffix.lower() in (".npz", ".npy"):
            samples = _arrays(path, labels, columns)
        elif path.suffix.lower() == ".csv":
            samples = table(path, *_csv(path), columns)
        elif path.suffix.lower() in (".parquet", ".pq"):
            samples = table(path, *importlib.import_module("benchmarks.certify.parquet").read(path), columns)
        else:
            raise UsageError(f"{path}: a data set is a .npz, .npy, .csv or .parquet file or a folder of images")
    except ModuleNotFoundError as error:
        raise UsageError(missing(error, path)) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return checked(path, samples)


def missing(error: ModuleNotFoundError, path: Path) -> str:
    """The sentence about a package of an extra that is not installed."""
    extra = "tables" if error.name == "pyarrow" else "report"
    return f"{path} needs {error.name}, which is not installed: pip install 'soundproof[{extra}]'"


def checked(path: Path, samples: Samples) -> Samples:
    """The samples, if they can be used: some, finite, ids once, as many labels."""
    if not len(samples):
        raise InputError(f"{path}: no samples")
    if samples.labels is not None and len(samples.labels) != len(samples):
        raise InputError(f"{path}: {len(samples)} samples and {len(samples.labels)} labels")
    flat = samples.values.reshape(len(samples), -1)
    bad = np.argwhere(~np.isfinite(flat))
    if len(bad):
        row, place = int(bad[0, 0]), int(bad[0, 1])
        rows = len(np.unique(bad[:, 0]))
        raise InputError(f"{path}: {rows} samples with NaN or infinite values; the first is {samples.ids[row]!r}, {feature(samples, place)}")
    seen: set[str] = set()
    for name in samples.ids:
        if name in seen:
            raise InputError(f"{path}: the id {name!r} occurs twice")
        seen.add(name)
    return samples


def feature(samples: Samples, place: int) -> str:
    """What to call the flat element `place` of a sample."""
    if samples.features:
        return f"column {samples.features[place]!r}"
    where = ", ".join(str(int(i)) for i in np.unravel_index(place, samples.shape))
    return f"element [{where}]"


def in_range(path: Path, samples: Samples, low: Fraction, high: Fraction) -> None:
    """Raise InputError if a value lies outside of [low, high], both rounded to float32 as the values are."""
    ends = nearest_float32(Rationals.of([low, high]))
    outside = np.argwhere((samples.values < ends[0]) | (samples.values > ends[1]))
    if len(outside):
        row, *at = (int(i) for i in outside[0])
        place = int(np.ravel_multi_index(at, samples.shape)) if at else 0
        value = float(samples.values[row].ravel()[place])
        raise InputError(
            f"{path}: {len(np.unique(outside[:, 0]))} samples with values outside of the declared range [{float(low):g}, {float(high):g}]; "
            f"the first is {samples.ids[row]!r}, {feature(samples, place)}: {value:g}. Correct the data, or `range`"
        )


def _arrays(path: Path, labels: Path | None, columns: Columns) -> Samples:
    ids = None
    if path.suffix.lower() == ".npy":
        values, given = _load(path), None if labels is None else _load(labels)
    else:
        arrays = _load(path)
        values, given, ids = _named(path, arrays, VALUE_NAMES), _one_of(arrays, LABEL_NAMES), _one_of(arrays, ("ids", "id"))
    if values.ndim < 2:
        raise InputError(f"{path}: values of shape {list(values.shape)}; expected one row a sample, [samples, ...]")
    names = tuple(map(str, range(len(values)))) if ids is None else tuple(str(i) for i in np.asarray(ids).tolist())
    if len(names) != len(values):
        raise InputError(f"{path}: {len(values)} samples and {len(names)} ids")
    classes = columns.classes
    return Samples(names, _shaped(path, float32(path, values), columns.shape), None if given is None else _labels(path, given, classes), (), classes)


def _load(path: Path) -> Any:
    try:
        loaded = np.load(path, allow_pickle=False)
        return dict(loaded.items()) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a file of numpy arrays: {error}") from error


def _named(path: Path, arrays: Mapping[str, Array], names: Sequence[str]) -> Array:
    found = _one_of(arrays, names)
    if found is None:
        raise InputError(f"{path}: no array {' or '.join(names)}; the file has {', '.join(arrays) or 'none'}")
    return found


def _one_of(arrays: Mapping[str, Array], names: Sequence[str]) -> Array | None:
    return next((arrays[name] for name in names if name in arrays), None)


def float32(path: Path, values: Array) -> Array:
    """The values as float32, rounded to nearest. Raises InputError for what are no numbers, or too large."""
    if values.dtype.kind not in "fiub":
        raise InputError(f"{path}: values of type {values.dtype}; expected numbers")
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if (np.isinf(rounded) & np.isfinite(values)).any():
        raise InputError(f"{path}: values too large for float32")
    return rounded


def _shaped(path: Path, values: Array, shape: tuple[int, ...]) -> Array:
    if not shape:
        return values
    if int(np.prod(shape)) != int(np.prod(values.shape[1:])):
        raise InputError(f"{path}: samples of shape {list(values.shape[1:])} cannot have the shape {list(shape)} of the policy")
    return values.reshape(len(values), *shape)


def _labels(path: Path, given: Array, classes: Sequence[str]) -> Array:
    flat = np.asarray(given).ravel()
    if flat.dtype.kind in "iub" or (flat.dtype.kind == "f" and np.isfinite(flat).all() and (flat == np.round(flat)).all()):
        return flat.astype(np.int64)
    return labels_of(path, [str(v) for v in flat.tolist()], classes)


def labels_of(path: Path, texts: Sequence[str], classes: Sequence[str]) -> Array:
    """Class numbers of labels written as texts: indices into `classes`, or integers."""
    found = []
    for row, text in enumerate(texts):
        if text in classes:
            found.append(classes.index(text))
        elif not text.strip():
            raise InputError(f"{path}: sample {row} has no label")
        elif classes or not text.strip().removeprefix("-").isdigit():
            known = f"the classes are {', '.join(classes)}" if classes else "name the classes in the policy: [data] classes = [...]"
            raise InputError(f"{path}: sample {row} has the label {text!r}; {known}")
        else:
            found.append(int(text))
    return np.asarray(found, np.int64)


def _csv(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a table of comma-separated values: {error}") from error
    rows = [row for row in rows if row]
    if not rows:
        raise InputError(f"{path}: an empty table")
    header, body = [name.strip() for name in rows[0]], rows[1:]
    for number, row in enumerate(body, 2):
        if len(row) != len(header):
            raise InputError(f"{path}, line {number}: {len(row)} values, but the header has {len(header)} columns")
    return header, body


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], columns: Columns) -> Samples:
    """Samples of a table of texts; numbers are rounded once, from their exact decimals, to float32."""
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise InputError(f"{path}: two columns are called {twice[0]!r}")
    label = _column(path, header, columns.label, LABEL_COLUMN)
    ids = _column(path, header, columns.id, ID_COLUMN)
    features = columns.features or tuple(name for name in header if name not in (label, ids))
    for name in features:
        if name not in header:
            raise InputError(f"{path}: no column {name!r}; the columns are {', '.join(header)}")
    at = [header.index(name) for name in features]
    names = tuple(str(i) for i in range(len(rows))) if ids is None else tuple(row[header.index(ids)] for row in rows)
    exact = [_number(path, names[r], header[c], rows[r][c]) for r in range(len(rows)) for c in at]
    try:
        values = nearest_float32(Rationals.of(exact)).reshape(len(rows), len(at)) if exact else np.zeros((len(rows), len(at)), np.float32)
    except PropertyError as error:
        raise InputError(f"{path}: values too large for float32") from error
    labels = None if label is None else labels_of(path, [row[header.index(label)] for row in rows], columns.classes)
    shaped = _shaped(path, values, columns.shape)
    return Samples(names, shaped, labels, () if columns.shape else tuple(features), columns.classes)


def _column(path: Path, header: Sequence[str], wanted: str | None, usual: str) -> str | None:
    if wanted is not None and wanted not in header:
        raise InputError(f"{path}: no column {wanted!r}; the columns are {', '.join(header)}")
    return wanted if wanted is not None else usual if usual in header else None


def _number(path: Path, row: str, column: str, text: str) -> Fraction:
    where = f"{path}: row {row!r}, column {column!r}"
    try:
        found = rational(text.strip())
    except PropertyError as error:
        raise InputError(f"{where}: {error}") from error
    if found is None:
        raise InputError(f"{where} {f'holds {text!r}, which is no number' if text.strip() else 'is empty'}")
    return found
