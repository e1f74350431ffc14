"""The instances of a folder in VNN-COMP's layout: CATEGORY/instances.csv (network, property, seconds) and, optionally, CATEGORY/expected.csv."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


class DataError(Exception):
    """The folder, a table in it, or a results file cannot be used; the message says which, where and what to do."""


@dataclass(frozen=True)
class Instance:
    """One line of instances.csv. Paths as written there; `folder` is what they are relative to; `seconds` is the listed limit.

    `label` is the expected verdict: sat, unsat, the same with `?` (tools disagreed), unknown, or empty where nothing is published.
    """

    category: str
    network: str
    property_path: str
    seconds: float
    label: str
    folder: Path

    @property
    def key(self) -> tuple[str, str, str]:
        return self.category, self.network, self.property_path

    @property
    def name(self) -> str:
        return f"{self.category} {Path(self.network).name} {Path(self.property_path).name}"

    def files(self) -> tuple[Path, Path]:
        """The network and the property file: as written, or else with `.gz`. Raises DataError."""
        return _existing(self.folder / self.network), _existing(self.folder / self.property_path)


def default_folder() -> Path:
    """$SOUNDPROOF_VNNCOMP, or ../shared/vnncomp beside the repository."""
    return Path(os.environ.get("SOUNDPROOF_VNNCOMP") or Path(__file__).resolve().parents[2] / "shared" / "vnncomp")


def read_instances(folder: Path) -> list[Instance]:
    """All instances of all categories (sub-folders with an instances.csv), in the order of the files. Raises DataError."""
    tables = sorted(folder.glob("*/instances.csv"))
    if not tables:
        raise DataError(f"{folder}: no CATEGORY/instances.csv in it; name another folder, or set SOUNDPROOF_VNNCOMP")
    return [instance for table in tables for instance in _category(table)]


def select(instances: list[Instance], categories: str | None, expected: str | None, per_category: int | None) -> list[Instance]:
    """The instances of the named categories (comma-separated), with label `expected` or `expected?`, at most so many per category.

    Raises DataError for an unknown category or an empty selection.
    """
    known = {i.category for i in instances}
    wanted = known if categories is None else {c.strip() for c in categories.split(",") if c.strip()}
    if wanted - known:
        raise DataError(f"no category {', '.join(sorted(wanted - known))}; there are {', '.join(sorted(known))}")
    labels = None if expected is None else {expected, expected + "?"}
    chosen, taken = [], dict.fromkeys(known, 0)
    for instance in instances:
        if instance.category in wanted and (labels is None or instance.label in labels):
            if per_category is None or taken[instance.category] < per_category:
                chosen.append(instance)
            taken[instance.category] += 1
    if not chosen:
        raise DataError("no instance is left by --categories, --only-expected and --per-category")
    return chosen


def digest(instances: Iterable[Instance]) -> str:
    """SHA-256 of the list: resuming compares it, so that a table never mixes two selections."""
    return hashlib.sha256(repr([(*i.key, i.seconds) for i in instances]).encode()).hexdigest()


def _category(table: Path) -> list[Instance]:
    labels = read_labels(table.with_name("expected.csv"))
    instances = []
    for number, row in _rows(table):
        try:
            network, prop, seconds = row[0].strip(), row[1].strip(), float(row[2])
        except (IndexError, ValueError):
            raise DataError(f"{table}, line {number}: expected network,property,seconds and found {','.join(row)!r}") from None
        instances.append(Instance(table.parent.name, network, prop, seconds, labels.get((network, prop), ""), table.parent))
    return instances


def read_labels(table: Path) -> dict[tuple[str, str], str]:
    """The verdicts of an expected.csv by (network, property); none where there is no such file. Raises DataError."""
    if not table.exists():
        return {}
    (_, header), *rows = _rows(table)
    try:
        columns = [header.index(name) for name in ("onnx", "vnnlib", "verdict")]
        return {(row[columns[0]], row[columns[1]]): row[columns[2]] for _, row in rows}
    except (ValueError, IndexError):
        raise DataError(f"{table}: it needs a header with onnx, vnnlib and verdict, and these columns in each line") from None


def _rows(table: Path) -> list[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not blank. Raises DataError."""
    try:
        with table.open(newline="", encoding="utf-8") as lines:
            reader = csv.reader(lines)
            rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read: {error}") from error
    if not rows:
        raise DataError(f"{table}: it is empty")
    return rows


def _existing(path: Path) -> Path:
    for candidate in (path, path.with_name(path.name + ".gz")):
        if candidate.exists():
            return candidate
    raise DataError(f"{path}: there is no such file, nor one with .gz")
