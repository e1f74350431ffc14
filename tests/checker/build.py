"""Certificates for tests: honest ones in a few lines, and bad ones with every byte under control.

    draft = Draft(model, text)                                  # bytes of the files
    x, r = draft.input("X"), draft.site("relu", 0)
    kinds = draft.slopes((r, 0, [3, 5]))
    draft.tree([0], split(x, 0, 0.5, leaf(), forms() + clip() + leaf(FORMS_MODE)), program=1)
    draft.tree([1], split(r, 3, 0.0, empty(r, 3), multipliers(kinds, gamma=[1], slope=[0.2, 0.3], beta=[0.5])))
    data = draft.bytes()

A node is a list of records, so derive records are put in front of an ending with `+`. `unpack` and `pack` take a certificate
apart and put it together again; `zip_file` writes any container, however wrong.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES = {
    "tree_cases": "<i4", "tree_count": "<i4", "tree_program": "|u1", "op": "|u1", "arg": "<i4", "threshold": "<f8", "slope": "<f8", "beta": "<f8",
    "gamma": "<f8", "shift": "<f8", "set_site": "<i4", "set_count": "<i4", "set_element": "<i4",
}  # fmt: skip


class Record(NamedTuple):
    """One record of the stream with everything it consumes."""

    op: int
    args: tuple[int, ...] = ()
    threshold: tuple[float, ...] = ()
    slope: tuple[float, ...] = ()
    beta: tuple[float, ...] = ()
    gamma: tuple[float, ...] = ()


Records = list[Record]


def split(tensor: int, element: int, threshold: float, low: Records, high: Records) -> Records:
    return [Record(0, (tensor, element), (threshold,)), *low, *high]


def leaf(mode: int = 0) -> Records:
    return [Record(1, (mode,))]


def multipliers(which: int, gamma: Sequence[float], slope: Sequence[float] = (), beta: Sequence[float] = ()) -> Records:
    """A leaf of mode 2."""
    return [Record(1, (2, which), slope=tuple(slope), beta=tuple(beta), gamma=tuple(gamma))]


def empty(tensor: int, element: int) -> Records:
    return [Record(2, (tensor, element))]


def forms() -> Records:
    return [Record(3)]


def clip() -> Records:
    return [Record(4)]


def refine() -> Records:
    return [Record(5)]


def rows(tensor: int, which: int, codes: Sequence[int], slope: Iterable[float] = ()) -> Records:
    """Codes are 2 element + side; slopes are given row after row."""
    return [Record(6, (tensor, which, len(codes), *codes), slope=tuple(slope))]


def within(which: int, gamma: Sequence[float], slope: Sequence[float] = (), beta: Sequence[float] = ()) -> Records:
    """The columns of a leaf of mode 2."""
    return [Record(7, (which,), slope=tuple(slope), beta=tuple(beta), gamma=tuple(gamma))]


@dataclass
class Draft:
    """A certificate being written. Nothing is checked."""

    model: bytes = b""
    property: bytes = b""
    semantics: str = "real"
    tensors: list[dict[str, Any]] = field(default_factory=list)
    trees: list[tuple[list[int], int, Records]] = field(default_factory=list)
    sets: list[tuple[tuple[int, int, Sequence[int]], ...]] = field(default_factory=list)
    shift: list[float] = field(default_factory=list)
    dtypes: dict[str, str] = field(default_factory=lambda: dict(DTYPES))

    def input(self, name: str) -> int:
        return self._number({"input": name})

    def site(self, tensor: str, site: int = 0, argument: int = 0) -> int:
        return self._number({"tensor": tensor, "site": site, "argument": argument})

    def _number(self, entry: dict[str, Any]) -> int:
        if entry not in self.tensors:
            self.tensors.append(entry)
        return self.tensors.index(entry)

    def slopes(self, *groups: tuple[int, int, Sequence[int]]) -> int:
        """A slope set of (tensor, side, elements); its number."""
        self.sets.append(groups)
        return len(self.sets) - 1

    def tree(self, cases: Sequence[int], records: Records, program: int = 0) -> None:
        self.trees.append((list(cases), program, records))

    def columns(self) -> dict[str, Array]:
        stream = [record for _, _, records in self.trees for record in records]
        groups = [group for groups in self.sets for group in groups]
        found: dict[str, list[Any]] = {
            "tree_cases": [case for cases, _, _ in self.trees for case in cases],
            "tree_count": [len(cases) for cases, _, _ in self.trees],
            "tree_program": [program for _, program, _ in self.trees],
            "op": [record.op for record in stream],
            "arg": [x for record in stream for x in record.args],
            "threshold": [x for record in stream for x in record.threshold],
            "slope": [x for record in stream for x in record.slope],
            "beta": [x for record in stream for x in record.beta],
            "gamma": [x for record in stream for x in record.gamma],
            "shift": self.shift,
            "set_site": [x for tensor, side, elements in groups for x in (tensor, side, len(elements))],
            "set_count": [len(groups) for groups in self.sets],
            "set_element": [x for _, _, elements in groups for x in elements],
        }
        return {name: np.array(values, self.dtypes[name]) for name, values in found.items()}

    def manifest(self) -> dict[str, Any]:
        hashes = (hashlib.sha256(data).hexdigest() for data in (self.model, self.property))
        return {"format": 1, "semantics": self.semantics, **dict(zip(("model", "property"), hashes, strict=True)), "tensors": self.tensors}

    def bytes(self) -> bytes:
        return pack(self.manifest(), self.columns())


def described(columns: Mapping[str, Array]) -> dict[str, Any]:
    """The `arrays` of a manifest."""
    return {name: {"dtype": column.dtype.str, "shape": list(column.shape)} for name, column in columns.items()}


def pack(manifest: Mapping[str, Any], columns: Mapping[str, Array], method: int = 8) -> bytes:
    """A well-formed container; `arrays` is filled in unless the manifest has it."""
    text = json.dumps({"arrays": described(columns), **manifest}).encode()
    return zip_file([Member("manifest.json", text, method), *(Member(name, column.tobytes(), method) for name, column in columns.items())])


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Manifest (without `arrays`) and columns, writable, of a good certificate."""
    with zipfile.ZipFile(io.BytesIO(data)) as container:
        manifest = json.loads(container.read("manifest.json"))
        columns = {name: np.frombuffer(container.read(name), facts["dtype"]).copy() for name, facts in manifest.pop("arrays").items()}
    return manifest, columns


@dataclass
class Member:
    """One member of a zip. `local` and `central` replace header fields by name (LOCAL, CENTRAL), after the content was compressed."""

    name: str
    data: bytes
    method: int = 8
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)

    def stored(self) -> bytes:
        if self.method != 8:
            return self.data
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        return deflate.compress(self.data) + deflate.flush()


LOCAL = ("<4s5H3I2H", "mark need flags method time date crc stored size name extra".split())
CENTRAL = ("<4s6H3I5H2I", "mark made need flags method time date crc stored size name extra comment disk internal external offset".split())
END = ("<4s4H2IH", "mark disk start here count size offset comment".split())


def _header(layout: tuple[str, list[str]], facts: Mapping[str, Any]) -> bytes:
    return struct.pack(layout[0], *(facts.get(name, 0) for name in layout[1]))


def zip_file(
    members: Sequence[Member],
    *,
    before: bytes = b"",
    between: bytes = b"",
    middle: bytes = b"",
    inside: bytes = b"",
    after: bytes = b"",
    end: Mapping[str, Any] | None = None,
) -> bytes:
    """A zip with bytes `before` it, `between` its members, in the `middle` before the central directory, `inside` that, and `after` it.

    Offsets and sizes are true unless `end` replaces them.
    """
    data, directory = before, b""
    for k, member in enumerate(members):
        data += between if k else b""
        stored, name = member.stored(), member.name.encode()
        facts = {
            "need": 20, "method": member.method, "crc": zlib.crc32(member.data), "stored": len(stored), "size": len(member.data), "name": len(name),
        }  # fmt: skip
        central = {**facts, "mark": b"PK\x01\x02", "made": 20, "offset": len(data), **member.central}
        tails = [name + b"\0" * (fields.get("extra", 0) + fields.get("comment", 0)) for fields in (member.local, member.central)]
        data += _header(LOCAL, {**facts, "mark": b"PK\x03\x04", **member.local}) + tails[0] + stored
        directory += _header(CENTRAL, central) + tails[1]
    data, directory = data + middle, directory + inside
    last = {"mark": b"PK\x05\x06", "here": len(members), "count": len(members), "size": len(directory), "offset": len(data), **(end or {})}
    return data + directory + _header(END, last) + after
