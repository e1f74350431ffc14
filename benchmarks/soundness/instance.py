"""One instance of the suite, and the folder that holds many.

    DIR/manifest.json      what is true of each instance and why, seeds, knobs, hashes: for the judge, never for the verifier
    DIR/instances.csv      VNN-COMP's list: network, property, seconds
    DIR/onnx/NAME.onnx  DIR/vnnlib/NAME.vnnlib (VNN-LIB 1.0)  DIR/vnnlib2/NAME.vnnlib (2.0)
    DIR/planted/NAME.json  the planted counterexample; the runner copies it nowhere

Truth is stated twice, since programs round: `real` is the file over the reals, `float32` every execution of it in float32 (DESIGN 7).
`sat` in float32 means that some execution violates; `unknown` that nothing is claimed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]
SCHEMA = 1
SECONDS = 5  # the limit that instances.csv lists
TRUTHS = ("sat", "unsat", "unknown")
PROOFS = ("planted", "theorem", "enumeration", "exhaustive")
NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")


class SuiteError(Exception):
    """The folder, or an instance, is not what the suite promises; the message says where and what."""


@dataclass(frozen=True)
class Planted:
    """A violating input: float32 values, flat [n], within the box. `real` is the exact violation margin there (positive: violated),
    `runtime` the margin of onnxruntime's outputs; either may be negative or zero where only the other violates."""

    point: Array
    real: Fraction
    runtime: float


@dataclass(frozen=True)
class Instance:
    """A model and a property with known truth.

    `operators` are the ONNX operators it puts to the test; `proof` is one of PROOFS and `because` the sentence that says why the truth is what it
    is; `knobs` are the parameters it was made with (JSON values). `property2` is the same property in VNN-LIB 2.0. Raises SuiteError.
    """

    name: str
    family: str
    model: onnx.ModelProto
    property: str
    property2: str
    real: str
    float32: str
    proof: str
    because: str
    operators: tuple[str, ...]
    knobs: Mapping[str, Any] = field(default_factory=dict)
    planted: Planted | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise SuiteError(f"{self.name!r}: a name is lower-case letters and digits with single underscores")
        if self.real not in TRUTHS or self.float32 not in TRUTHS or self.real == self.float32 == "unknown":
            raise SuiteError(f"{self.name}: truth ({self.real}, {self.float32})")
        if self.proof not in PROOFS or not self.because:
            raise SuiteError(f"{self.name}: no proof of its truth")
        if (self.planted is None) != ("sat" not in (self.real, self.float32)):
            raise SuiteError(f"{self.name}: an instance that is sat, and no other, has a planted point")


@dataclass(frozen=True)
class Entry:
    """A line of the manifest. Paths are relative to `folder`."""

    name: str
    family: str
    real: str
    float32: str
    proof: str
    because: str
    operators: tuple[str, ...]
    knobs: Mapping[str, Any]
    model_sha256: str
    property_sha256: str
    property2_sha256: str
    folder: Path

    @property
    def model(self) -> Path:
        return self.folder / "onnx" / f"{self.name}.onnx"

    @property
    def property2(self) -> Path:
        return self.folder / "vnnlib2" / f"{self.name}.vnnlib"

    def truth(self, semantics: str) -> str:
        """The truth under `real` or `float32`. Raises SuiteError for anything else."""
        if semantics not in ("real", "float32"):
            raise SuiteError(f"semantics {semantics!r}: real or float32")
        return self.real if semantics == "real" else self.float32

    def planted(self) -> Planted | None:
        """The planted point, for the judge; None where there is none. Raises SuiteError where its file is damaged."""
        path = self.folder / "planted" / f"{self.name}.json"
        if not path.exists():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            point = np.array([float.fromhex(v) for v in data["point"]], dtype=np.float32)
            return Planted(point, Fraction(data["real"]), float(data["runtime"]))
        except (OSError, ValueError, KeyError, TypeError, ArithmeticError, RecursionError) as error:
            raise SuiteError(f"{path}: not a planted point ({type(error).__name__}: {error}); build the suite again") from error

    @property  # the last of them: below it, in this class, the name is its own
    def property(self) -> Path:
        return self.folder / "vnnlib" / f"{self.name}.vnnlib"


def write(folder: Path, instances: Iterable[Instance], seed: int) -> list[Entry]:
    """Write a suite, one instance at a time; the manifest last, so that a folder with a manifest is whole. Raises SuiteError."""
    for part in ("onnx", "vnnlib", "vnnlib2", "planted"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").unlink(missing_ok=True)
    entries: dict[str, Entry] = {}
    for instance in instances:
        if instance.name in entries:
            raise SuiteError(f"{instance.name}: two instances of this name")
        entries[instance.name] = _write_one(folder, instance)
    rows = [f"onnx/{name}.onnx,vnnlib/{name}.vnnlib,{SECONDS}\n" for name in sorted(entries)]
    (folder / "instances.csv").write_text("".join(rows))
    lines = [{k: v for k, v in asdict(entries[name]).items() if k != "folder"} for name in sorted(entries)]
    partial = folder / "manifest.json.part"
    partial.write_text(json.dumps({"schema": SCHEMA, "seed": seed, "instances": lines}, indent=1, allow_nan=False) + "\n")
    os.replace(partial, folder / "manifest.json")
    return [entries[name] for name in sorted(entries)]


def _write_one(folder: Path, instance: Instance) -> Entry:
    files = {
        f"onnx/{instance.name}.onnx": instance.model.SerializeToString(deterministic=True),
        f"vnnlib/{instance.name}.vnnlib": instance.property.encode(),
        f"vnnlib2/{instance.name}.vnnlib": instance.property2.encode(),
    }
    for path, content in files.items():
        (folder / path).write_bytes(content)
    if instance.planted is not None:
        planted = instance.planted
        text = json.dumps({"point": [float(v).hex() for v in planted.point], "real": str(planted.real), "runtime": planted.runtime})
        (folder / "planted" / f"{instance.name}.json").write_text(text + "\n")
    model, first, second = (hashlib.sha256(content).hexdigest() for content in files.values())
    return Entry(
        instance.name, instance.family, instance.real, instance.float32, instance.proof, instance.because, tuple(instance.operators),
        dict(instance.knobs), model, first, second, folder,
    )


def read(folder: Path) -> list[Entry]:
    """The suite in `folder`, its files compared with the manifest's hashes. Raises SuiteError."""
    path = folder / "manifest.json"
    if not path.exists():
        raise SuiteError(f"{folder}: no manifest.json; build a suite with `soundproof soundness build --out {folder}`")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SuiteError(f"{path}: {error}") from error
    lines = data.get("instances") if isinstance(data, dict) and data.get("schema") == SCHEMA else None
    if not isinstance(lines, list) or not all(isinstance(line, dict) for line in lines):
        raise SuiteError(f"{path}: not a manifest of schema {SCHEMA}; build the suite again")
    return list(_entries(folder, lines))


def _entries(folder: Path, lines: list[dict[str, Any]]) -> Iterator[Entry]:
    for line in lines:
        try:
            entry = Entry(**{**line, "operators": tuple(line["operators"])}, folder=folder)
        except (KeyError, TypeError) as error:
            raise SuiteError(f"{folder}/manifest.json: {line.get('name', '?')}: {error}") from error
        for file, promised in ((entry.model, entry.model_sha256), (entry.property, entry.property_sha256), (entry.property2, entry.property2_sha256)):
            if not file.exists() or hashlib.sha256(file.read_bytes()).hexdigest() != promised:
                raise SuiteError(f"{file}: missing, or not what the manifest describes; build the suite again")
        yield entry
