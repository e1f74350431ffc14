"""Bytes -> certificate: the container, and every check that needs neither model nor property (FORMAT.md, sections 1 to 3).

A zip is read strictly, so that all readers see the same thing: members follow each other from the first byte, then comes the
central directory, then its end record, and nothing else; both headers of a member agree. Nothing is extracted to disk, sizes
are limited before memory is taken, and arrays are raw bytes whose dtype and length are compared with the manifest.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.refusal import Malformed

VERSION = 1
SEMANTICS = ("real", "float32")
MANIFEST = "manifest.json"
MANIFEST_BYTES = 1 << 24
TOTAL = 4  # all members together may hold this many times the limit of one
NATURAL, BYTE, EXACT, SHORT, SHORTEST = ("<i4",), ("|u1",), ("<f8",), ("<f4", "<f8"), ("<f2", "<f4", "<f8")
COLUMNS = {
    "tree_cases": NATURAL, "tree_count": NATURAL, "tree_program": BYTE, "op": BYTE, "arg": NATURAL, "threshold": EXACT,
    "slope": SHORTEST, "beta": SHORT, "gamma": EXACT, "shift": EXACT, "set_site": NATURAL, "set_count": NATURAL, "set_element": NATURAL,
}  # fmt: skip
MULTIPLIERS = ("beta", "gamma")  # of inequalities: never negative
LOCAL, CENTRAL, END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")


@dataclass(frozen=True)
class TensorName:
    """What records refer to by number: the graph input `name` (kind "input"), or operand `argument` of a site (kind "site")."""

    kind: str
    name: str
    site: int = 0
    argument: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """`model` and `property` are the hashes it was made for, `sha256` its own. Integer columns are int64 and >= 0 (u1 ones stay u1),
    the others finite float64; beta and gamma are >= 0. All are read-only."""

    version: int
    model: str
    property: str
    semantics: str
    sha256: str
    tensors: tuple[TensorName, ...]
    tree_cases: Array
    tree_count: Array
    tree_program: Array
    op: Array
    arg: Array
    threshold: Array
    slope: Array
    beta: Array
    gamma: Array
    shift: Array
    set_site: Array
    set_count: Array
    set_element: Array


def read(data: bytes, limit: int) -> Certificate:
    """The certificate in `data`; `limit` is in bytes, for each member."""
    try:
        members = _members(data, limit)
    except (struct.error, zlib.error) as error:
        raise Malformed("zip", f"a header is cut off, or a member is no deflate stream: {error}") from error
    manifest = _manifest(members[MANIFEST])
    described = manifest["arrays"]
    if type(described) is not dict or described.keys() != COLUMNS.keys():
        raise Malformed("manifest", f"arrays must be exactly {' '.join(COLUMNS)}")
    return Certificate(
        version=manifest["format"], model=manifest["model"], property=manifest["property"], semantics=manifest["semantics"],
        sha256=hashlib.sha256(data).hexdigest(), tensors=_tensors(manifest["tensors"]),
        **{name: _column(name, described[name], members[name]) for name in COLUMNS},
    )  # fmt: skip


# -------------------------------------------------------------------- zip


def _members(data: bytes, limit: int) -> dict[str, bytes]:
    """Name -> content of every member; their names are MANIFEST and COLUMNS, once each."""
    last = len(data) - END.size
    if END.unpack_from(data, last)[:3] != (b"PK\x05\x06", 0, 0):
        raise Malformed("zip", "the last 22 bytes are no end record")
    here, count, size, central, comment = END.unpack_from(data, last)[3:]
    if here != count or comment or central + size != last or count != 1 + len(COLUMNS):
        raise Malformed("zip", "the end record does not fit")
    members: dict[str, bytes] = {}
    local, total = 0, 0
    for _ in range(count):
        name, body, facts = _headers(data, local, central)
        local, central, total = local + LOCAL.size + len(name) + len(body), central + CENTRAL.size + len(name), total + facts[-1]
        text = name.decode("ascii", "replace")
        if text in members or (text != MANIFEST and text not in COLUMNS):
            raise Malformed("zip", f"member {text!r} is unknown or stands twice")
        if facts[-1] > (MANIFEST_BYTES if text == MANIFEST else limit) or total > TOTAL * limit:
            raise Malformed("limit", f"member {text}: {facts[-1]} bytes")
        members[text] = _content(text, body, *facts)
    if central != last or local != last - size:
        raise Malformed("zip", "bytes that belong to no member")
    return members


def _headers(data: bytes, local: int, central: int) -> tuple[bytes, bytes, tuple[int, int, int]]:
    """Name, stored bytes, and (method, CRC, size) of the member whose headers stand at `local` and `central`."""
    mark, _, flags, method, _, _, crc, stored, size, name_length, extra = LOCAL.unpack_from(data, local)
    mirror, _, _, *again, n, m, k, disk, _, _, offset = CENTRAL.unpack_from(data, central)
    start = local + LOCAL.size + name_length
    name, body = data[start - name_length : start], data[start : start + stored]
    other = data[central + CENTRAL.size : central + CENTRAL.size + n]
    if (mark, mirror, flags, extra, m, k, disk, offset) != (b"PK\x03\x04", b"PK\x01\x02", 0, 0, 0, 0, 0, local):
        raise Malformed("zip", f"headers at {local} and {central}: signature, flags, extra fields, comment, disk or offset")
    if (flags, method, crc, stored, size, name) != (again[0], again[1], *again[4:], other):
        raise Malformed("zip", f"headers at {local} and {central} differ")
    return name, body, (method, crc, size)


def _content(name: str, body: bytes, method: int, crc: int, size: int) -> bytes:
    if method not in (0, 8):
        raise Malformed("zip", f"member {name}: method {method}; stored (0) and deflate (8) are known")
    if method == 8:
        inflate = zlib.decompressobj(-15)
        body = inflate.decompress(body, size + 1)
        if not inflate.eof or inflate.unused_data:
            raise Malformed("zip", f"member {name}: deflate stream longer than declared, or cut off")
    if len(body) != size or zlib.crc32(body) != crc:
        raise Malformed("zip", f"member {name}: length or CRC")
    return body


# -------------------------------------------------------------------- manifest


def _manifest(data: bytes) -> dict[str, Any]:
    """The manifest, checked but for `arrays` and `tensors`."""
    try:
        manifest = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_no_number)
    except (ValueError, RecursionError) as error:  # ValueError: bad UTF-8, bad JSON, an integer of thousands of digits
        raise Malformed("manifest", f"not strict JSON: {type(error).__name__}") from error
    if type(manifest) is not dict or type(manifest.get("format")) is not int or manifest["format"] != VERSION:
        raise Malformed("version", f"this checker reads format {VERSION}")
    if manifest.keys() - {"tool"} != {"format", "model", "property", "semantics", "tensors", "arrays"}:
        raise Malformed("manifest", "keys must be format, model, property, semantics, tensors, arrays, and may be tool")
    if manifest["semantics"] not in SEMANTICS:
        raise Malformed("semantics", "must be real or float32")
    for key in ("model", "property"):
        if type(manifest[key]) is not str or not re.fullmatch("[0-9a-f]{64}", manifest[key]):
            raise Malformed("manifest", f"{key} must be a SHA-256 in lower-case hexadecimal")
    return manifest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("manifest", "a key stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise Malformed("manifest", f"{text[:40]}: numbers must be integers")


def _tensors(entries: Any) -> tuple[TensorName, ...]:
    if type(entries) is not list:
        raise Malformed("tensors", "must be a list")
    names = tuple(_tensor(number, entry) for number, entry in enumerate(entries))
    if len(set(names)) != len(names):
        raise Malformed("tensors", "an entry stands twice")
    return names


def _tensor(number: int, entry: Any) -> TensorName:
    if type(entry) is dict and entry.keys() == {"input"} and type(entry["input"]) is str:
        return TensorName("input", entry["input"])
    if type(entry) is not dict or entry.keys() != {"tensor", "site", "argument"} or type(entry["tensor"]) is not str:
        raise Malformed("tensors", f"entry {number}: neither {{input}} nor {{tensor, site, argument}}")
    site, argument = entry["site"], entry["argument"]
    if type(site) is not int or site < 0 or type(argument) is not int or argument not in (0, 1):
        raise Malformed("tensors", f"entry {number}: site or argument")
    return TensorName("site", entry["tensor"], site, argument)


# -------------------------------------------------------------------- columns


def _column(name: str, described: Any, data: bytes) -> Array:
    """The numbers of one column: raw little-endian, 1-d, of the declared length."""
    if type(described) is not dict or described.keys() != {"dtype", "shape"} or described["dtype"] not in list(COLUMNS[name]):
        raise Malformed("column", f"{name}: needs dtype (one of {' '.join(COLUMNS[name])}) and shape")
    shape, dtype = described["shape"], np.dtype(described["dtype"])
    if type(shape) is not list or len(shape) != 1 or type(shape[0]) is not int or shape[0] * dtype.itemsize != len(data):
        raise Malformed("column", f"{name}: shape must be [n] with n numbers in {len(data)} bytes")
    stored = np.frombuffer(data, dtype)
    column = stored if dtype.kind == "u" else stored.astype(np.float64 if dtype.kind == "f" else np.int64)
    if not np.isfinite(column).all() or ((name in MULTIPLIERS or dtype.kind == "i") and not (column >= 0).all()):
        raise Malformed("numbers", f"{name}: not finite, or negative")
    column.setflags(write=False)
    return column
