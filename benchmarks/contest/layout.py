"""Reads a folder of VNN-COMP benchmarks, of any year and of either version of VNN-LIB.

    acasxu/acasxu_instances.csv                2021, and folders with `instance.csv`
    acasxu_2023/instances.csv                  2022 to 2025
    acasxu_2023/1.0/instances.csv              2026: a folder for each version of VNN-LIB

A line is network, property, seconds. In 2026 the network may be a list, [('f', 'onnx/a.onnx'), ('g', 'onnx/b.onnx')], for properties that name
several. Paths are relative to the table's folder; what is not there is looked for with `.gz`.
"""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.formula import decompressed
from benchmarks.instances import DataError, read_labels

VERSION = re.compile(r"\d+\.\d+")
VERSIONS = ("1.0", "2.0")
REPEATED = "#"  # `vnnlib/p.vnnlib#2` in our tables: the second line of instances.csv that says the same


@dataclass(frozen=True)
class Question:
    """One line of a table of instances, as written there. `seconds` is the listed limit; `label` an expected verdict, or empty.

    `occurrence` counts from 1 among lines with the same files: some years list an instance twice, and score it twice.
    """

    category: str
    network: str
    property_path: str
    seconds: float
    folder: Path
    label: str = ""
    occurrence: int = 1

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it in our tables."""
        return self.category, self.network, self.property_path + (f"{REPEATED}{self.occurrence}" if self.occurrence > 1 else "")

    @property
    def name(self) -> str:
        return " ".join([self.category, *(Path(path).name for _, path in parse_networks(self.network)), Path(self.key[2]).name])

    def files(self) -> tuple[list[tuple[str | None, Path]], Path]:
        """The networks, each with the name that the property calls it by (None: the only one), and the property. Raises DataError."""
        return [(name, _existing(self.folder / path)) for name, path in parse_networks(self.network)], _existing(self.folder / self.property_path)


def parse_networks(field: str) -> list[tuple[str | None, str]]:
    """The (name, path) pairs of a network field; a plain path has the name None. Raises DataError."""
    if not field.lstrip().startswith("["):
        return [(None, field)]
    try:
        pairs = [(str(name), str(path)) for name, path in ast.literal_eval(field.strip())]
    except (SyntaxError, ValueError, TypeError):
        pairs = []
    if not pairs or len(dict(pairs)) < len(pairs):
        raise DataError(f"{field[:80]}: not a list of networks, [('name', 'path'), ...], with different names")
    return [*pairs]


def read_questions(folder: Path, version: str | None = None) -> list[Question]:
    """All instances below `folder`: a year's repository, its `benchmarks`, or one category. Raises DataError.

    Where a category has both versions of VNN-LIB, `version` decides, or else the first is taken; with `version` categories without it are left out.
    """
    if version is not None and version not in VERSIONS:
        raise DataError(f"VNN-LIB {version}: there are {' and '.join(VERSIONS)}")
    folder = folder / "benchmarks" if (folder / "benchmarks").is_dir() else folder
    own = _table(folder, folder.resolve().name, version)
    tables = [own] if own else [found for sub in sorted(p for p in folder.glob("*") if p.is_dir()) if (found := _table(sub, sub.name, version))]
    if not tables:
        raise DataError(f"{folder}: no CATEGORY/instances.csv in it, nor CATEGORY/1.0/instances.csv{f' of VNN-LIB {version}' if version else ''}")
    return [question for category, table in tables for question in _read(category, table)]


def select(questions: list[Question], categories: str | None, per_category: int | None) -> list[Question]:
    """Those of the named categories (comma-separated), at most so many of each. Raises DataError for a category that is not there."""
    known = list(dict.fromkeys(q.category for q in questions))
    wanted = known if categories is None else [c.strip() for c in categories.split(",") if c.strip()]
    if unknown := [c for c in wanted if c not in known]:
        raise DataError(f"no category {', '.join(unknown)}; there are {', '.join(known)}")
    return [q for c in known if c in wanted for q in [q for q in questions if q.category == c][:per_category]]


def digest(questions: Iterable[Question]) -> str:
    """SHA-256 of the list: a table that is continued has to be about the same one."""
    return hashlib.sha256(repr([(*q.key, q.seconds) for q in questions]).encode()).hexdigest()


def unpacked(source: Path, folder: Path) -> Path:
    """The file itself, or a decompressed copy of it in `folder`: other tools need not read `.gz`. Raises DataError."""
    if source.suffix != ".gz":
        return source.resolve()
    copy = folder / source.name.removesuffix(".gz")
    copy.parent.mkdir(parents=True, exist_ok=True)
    try:
        copy.write_bytes(decompressed(source))
    except gzip.BadGzipFile as error:
        raise DataError(f"{source}: {error}") from error
    return copy


def _table(folder: Path, category: str, version: str | None) -> tuple[str, Path] | None:
    """(category, table) of one category's folder; None where it has none, or none of that version."""
    versions = {p.name: p for p in sorted(folder.glob("*")) if p.is_dir() and VERSION.fullmatch(p.name)}
    for name in (version,) if version else sorted(versions):
        if name in versions and (table := _table_in(versions[name], category)):
            return category, table
    table = _table_in(folder, category)
    return (category, table) if table and (version is None or not VERSION.fullmatch(folder.name) or folder.name == version) else None


def _table_in(folder: Path, category: str) -> Path | None:
    names = ("instances.csv", f"{category}_instances.csv", "instance.csv")
    found = [folder / f"{name}{end}" for name in names for end in ("", ".gz")] + sorted(folder.glob("*_instances.csv"))
    return next((path for path in found if path.is_file()), None)


def _read(category: str, table: Path) -> list[Question]:
    try:
        rows = list(csv.reader(io.StringIO(decompressed(table).decode("utf-8"))))
    except (OSError, UnicodeDecodeError, csv.Error, zlib.error) as error:
        raise DataError(f"{table}: cannot be read: {error}") from error
    labels, seen, questions = read_labels(table.with_name("expected.csv")), Counter[tuple[str, str]](), []
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        try:
            network, prop, seconds = row[0].strip(), row[1].strip(), float(row[2])
        except (IndexError, ValueError):
            raise DataError(f"{table}, line {number}: expected network,property,seconds and found {','.join(row)[:120]!r}") from None
        seen[network, prop] += 1
        questions.append(Question(category, network, prop, seconds, table.parent, labels.get((network, prop), ""), seen[network, prop]))
    return questions


def _existing(path: Path) -> Path:
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.is_file():
            return candidate
    raise DataError(f"{path}: there is no such file, nor one with .gz")
