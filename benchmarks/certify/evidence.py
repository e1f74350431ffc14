"""The evidence folder: copies of what was given, so that everything in it can be checked from it alone.

    inputs/model/      the model, with its external data        inputs/data/    the data set        inputs/policy.json    what was asked
    composed/          networks of queries, by their hash       queries/CHECK/RADIUS/SAMPLE/        query.vnnlib, certificate, witness.json
    report.json        what is claimed                          hashes.sha256   of every file       results.sqlite        for resuming only
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from benchmarks.certify import compose, data, policy
from benchmarks.certify.errors import InputError, Stopped, UsageError
from benchmarks.certify.policy import Policy
from benchmarks.certify.question import Subjects
from benchmarks.certify.store import write_synced

HASHES = "hashes.sha256"
UNHASHED = {HASHES, "results.sqlite", "results.sqlite-wal", "results.sqlite-shm", "lock", "check.list", "check.out", "check.log", "worker.log"}


@dataclass(frozen=True)
class Sources:
    """What the user gave: files anywhere."""

    model: Path
    data: Path
    labels: Path | None = None
    policy: Path | None = None


def fingerprints(sources: Sources) -> dict[str, str]:
    """SHA-256 of each input, of a folder over all its files. Raises InputError."""
    given = {"model": sources.model, "data": sources.data, "labels": sources.labels}
    found = {}
    for name, path in given.items():
        if path is None:
            continue
        if not path.exists():
            raise InputError(f"{path}: there is no such file")
        try:
            lines = "".join(f"{sha256(p)} {n}\n" for n, p in _files(path, name == "model"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
        found[name] = hashlib.sha256(lines.encode()).hexdigest()
    return found


def _files(path: Path, is_model: bool) -> Iterator[tuple[str, Path]]:
    """(name below the input's folder, path) of what belongs to an input."""
    if path.is_dir():
        wanted = {*data.IMAGES, ".csv"}
        yield from ((p.relative_to(path).as_posix(), p) for p in sorted(path.rglob("*")) if p.is_file() and p.suffix.lower() in wanted)
        return
    yield path.name, path
    if is_model:
        for location in _external(path):
            yield location, path.parent / location


def _external(path: Path) -> list[str]:
    """Files that the model keeps its weights in. Raises InputError."""
    try:
        proto = onnx.load(str(path), load_external_data=False) if path.suffix != ".gz" else onnx.ModelProto()
    except (OSError, DecodeError, ValueError) as error:
        raise InputError(f"{path}: not an ONNX model: {getattr(error, 'strerror', None) or error}") from error
    tensors = [t for t in proto.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    found = sorted({entry.value for t in tensors for entry in t.external_data if entry.key == "location"})
    for location in found:
        if not (path.parent / location).resolve().is_relative_to(path.parent.resolve()):
            raise InputError(f"{path}: its weights lie outside of its folder: {location}")
    return found


def take_in(sources: Sources, asked: Policy, folder: Path) -> None:
    """Copy the inputs into the evidence, where they are not there yet. Raises UsageError or Stopped."""
    given = {"model": sources.model, "data": sources.data, "labels": sources.labels}
    for name, path in given.items():
        for relative, source in () if path is None else _files(path, name == "model"):
            target = folder / "inputs" / name / relative
            if not target.exists():
                _copy(source, target)
    if sources.policy is not None:
        _copy(sources.policy, folder / "inputs" / "policy.toml")
    main = {name: path.name for name, path in given.items() if path is not None and not path.is_dir()}
    write_synced(folder / "inputs" / "policy.json", policy.canonical({"files": main, "policy": policy.to_plain(asked)}).encode())


def _copy(source: Path, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        raise Stopped(f"{target}: cannot be written: {error.strerror}") from error


def copies(folder: Path) -> Sources:
    """The inputs as they lie in the evidence. Raises InputError."""
    place = folder / "inputs" / "policy.json"
    try:
        files = json.loads(place.read_text(encoding="utf-8"))["files"]
        named = {name: folder / "inputs" / name / _plain_name(place, file) for name, file in files.items()}
        return Sources(named["model"], named.get("data", folder / "inputs" / "data"), named.get("labels"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{place}: {getattr(error, 'strerror', None) or error}; is {folder} an evidence folder?") from error


def subjects(folder: Path) -> Subjects:
    """Model, samples and policy from the evidence alone. Raises InputError or UsageError."""
    place, there = folder / "inputs" / "policy.json", copies(folder)
    try:
        asked = policy.from_plain(json.loads(place.read_text(encoding="utf-8"))["policy"], str(place))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place}: {getattr(error, 'strerror', None) or error}; is {folder} an evidence folder?") from error
    where = there.data
    network = compose.read(there.model, asked.output)
    samples = data.read(where, there.labels, asked.columns)
    prepared = asked.preprocess
    if prepared.low is not None and prepared.high is not None:
        data.in_range(where, samples, prepared.low, prepared.high)
    compose.check_shapes(where, network, samples.shape, prepared)
    return Subjects(network, samples, asked)


def _plain_name(place: Path, name: object) -> str:
    if not isinstance(name, str) or Path(name).name != name:
        raise InputError(f"{place}: {name!r} is not the name of a file")
    return name


def chosen(whole: Subjects, shard: tuple[int, int]) -> list[int]:
    """The samples of this run: those of the policy, of which every n-th is this shard's. Raises UsageError where none are left."""
    first, most = whole.policy.first, whole.policy.most
    of_policy = range(len(whole.samples))[first : None if most is None else first + most]
    mine = [s for s in of_policy if s % shard[1] == shard[0] - 1]
    if not mine:
        wanted = f"from {first} on {'all' if most is None else most}, shard {shard[0]}/{shard[1]}"
        raise UsageError(f"no samples: the data have {len(whole.samples)}; asked for: {wanted}")
    return mine


def sha256(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hashed_files(folder: Path) -> list[str]:
    """What `hashes.sha256` lists: every file of the evidence, but for what a run needs to be resumed."""
    names = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(n for n in names if n not in UNHASHED and not n.endswith(".part"))


def write_hashes(folder: Path) -> None:
    """Write hashes.sha256, in the form of sha256sum."""
    write_synced(folder / HASHES, "".join(f"{sha256(folder / n)}  {n}\n" for n in hashed_files(folder)).encode())


def read_hashes(folder: Path) -> Mapping[str, str]:
    """The listed hash of each file. Raises InputError."""
    try:
        lines = (folder / HASHES).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{folder / HASHES}: {getattr(error, 'strerror', None) or error}; is {folder} an evidence folder?") from error
    pairs = [line.split("  ", 1) for line in lines]
    if any(len(pair) != 2 for pair in pairs):
        raise InputError(f"{folder / HASHES}: not a list of hashes")
    return {name: value for value, name in pairs}


