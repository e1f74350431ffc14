"""The container: what is read back, and one bad file for every way to be refused."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checker.build import DTYPES, Draft, Member, described, empty, forms, leaf, multipliers, pack, rows, split, unpack, zip_file
from tests.effort import examples
from verifier.checker import certificate
from verifier.checker.certificate import COLUMNS, TensorName, read
from verifier.checker.refusal import Malformed

LIMIT = 1 << 20


def draft() -> Draft:
    found = Draft(b"model", b"property")
    x, r, _ = found.input("X"), found.site("relu", 0), found.site("mul", 2, 1)
    which = found.slopes((r, 0, [0, 2]), (r, 1, [1]))
    found.tree([0, 2], split(x, 0, 0.5, leaf(), forms() + leaf(1)), program=1)
    stored = multipliers(which, gamma=[1.0], slope=[0.25, 0.5, 0.75], beta=[0.125])
    found.tree([1], rows(r, which, [3], [1, 2, 3]) + split(r, 1, 0.0, empty(r, 1), stored))
    found.shift = [-1.5]
    return found


MANIFEST, NUMBERS = draft().manifest(), draft().columns()


def members(**changes: Member) -> list[Member]:
    """The members of a good certificate, some of them replaced."""
    text = json.dumps({"arrays": described(NUMBERS), **MANIFEST}).encode()
    found = {"manifest.json": Member("manifest.json", text), **{name: Member(name, column.tobytes()) for name, column in NUMBERS.items()}}
    return list({**found, **changes}.values())


def refused(data: bytes, rule: str, limit: int = LIMIT) -> str:
    with pytest.raises(Malformed) as caught:
        read(data, limit)
    assert caught.value.rule == rule
    return caught.value.place


@pytest.mark.parametrize("method", [0, 8])
def test_what_was_written_is_read(method: int) -> None:
    found = read(pack(MANIFEST, NUMBERS, method), LIMIT)
    assert (found.version, found.semantics, found.model, found.property) == (1, "real", MANIFEST["model"], MANIFEST["property"])
    assert found.tensors == (TensorName("input", "X"), TensorName("site", "relu", 0, 0), TensorName("site", "mul", 2, 1))
    for name, column in NUMBERS.items():
        stored = getattr(found, name)
        assert stored.tolist() == column.tolist()
        assert stored.dtype == (np.uint8 if column.dtype.kind == "u" else np.int64 if column.dtype.kind == "i" else np.float64)
        assert not stored.flags.writeable


def test_every_dtype_of_a_column() -> None:
    for name, dtypes in COLUMNS.items():
        for dtype in dtypes:
            columns = {**NUMBERS, name: NUMBERS[name].astype(dtype)}
            assert getattr(read(pack(MANIFEST, columns), LIMIT), name).tolist() == NUMBERS[name].tolist()


@pytest.mark.parametrize("opened", [False, True])
def test_zipfile_of_the_standard_library_writes_such_files(opened: bool, tmp_path: Any) -> None:
    path = tmp_path / "c"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as container:
        for member in members():
            if opened:
                with container.open(member.name, "w") as file:
                    file.write(member.data)
            else:
                container.writestr(member.name, member.data)
    assert read(path.read_bytes(), LIMIT).tree_cases.tolist() == [0, 2, 1]


def test_the_columns_are_those_of_the_format() -> None:
    assert COLUMNS.keys() == DTYPES.keys()


# -------------------------------------------------------------------- zip

GOOD = pack(MANIFEST, NUMBERS)
DIRECTORY = zip_file(members())[struct.unpack_from("<I", zip_file(members()), len(zip_file(members())) - 6)[0] : -22]
ONE = NUMBERS["slope"].tobytes()
ZIPS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "no zip": lambda: b"PK" * 100,
    "cut off": lambda: GOOD[:-1],
    "bytes before": lambda: zip_file(members(), before=b"x"),
    "bytes before that no offset knows": lambda: b"x" + GOOD,
    "bytes between members": lambda: zip_file(members(), between=b"x"),
    "bytes before the directory": lambda: zip_file(members(), middle=b"x"),
    "bytes after": lambda: zip_file(members(), after=b"x"),
    "bytes before the directory, counted as its": lambda: zip_file(members(), middle=b"x", end={"size": len(DIRECTORY) + 1}),
    "bytes at the end of the directory": lambda: zip_file(members(), inside=b"x"),
    "a comment that is not there": lambda: zip_file(members(), end={"comment": 1}),
    "a comment": lambda: zip_file(members(), end={"comment": 1}, after=b"x"),
    "two disks": lambda: zip_file(members(), end={"disk": 1}),
    "a start on another disk": lambda: zip_file(members(), end={"start": 1}),
    "fewer members here than in all": lambda: zip_file(members(), end={"here": 13}),
    "a directory of another size": lambda: zip_file(members(), end={"size": 46}),
    "a directory elsewhere": lambda: zip_file(members(), end={"offset": 0}),
    "a name that is longer in the directory": lambda: zip_file(members(op=Member("op", b"", central={"name": 3}))),
    "a directory of no bytes": lambda: GOOD[:-22] + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 14, 14, 0, len(GOOD) - 22, 0),
    "one member missing": lambda: zip_file(members()[:-1]),
    "one member too many": lambda: zip_file([*members(), Member("more", b"")]),
    "a member twice": lambda: zip_file([*members()[:-1], members()[1]]),
    "an unknown member": lambda: zip_file(members(op=Member("ops", b""))),
    "a path": lambda: zip_file(members(op=Member("../op", b""))),
    "a name that is not ASCII": lambda: zip_file(members(op=Member("öp", b""))),
    "an encrypted member": lambda: zip_file(members(op=Member("op", b"", local={"flags": 1}, central={"flags": 1}))),
    "a data descriptor": lambda: zip_file(members(op=Member("op", b"", local={"flags": 8}, central={"flags": 8}))),
    "bzip2": lambda: zip_file(members(op=Member("op", NUMBERS["op"].tobytes(), 12))),
    "extra field, local": lambda: zip_file(members(op=Member("op", b"", local={"extra": 4}))),
    "extra field, central": lambda: zip_file(members(op=Member("op", b"", central={"extra": 4}))),
    "comment of a member": lambda: zip_file(members(op=Member("op", b"", central={"comment": 4}))),
    "member on another disk": lambda: zip_file(members(op=Member("op", b"", central={"disk": 1}))),
    "offset of another member": lambda: zip_file(members(op=Member("op", b"", central={"offset": 0}))),
    "offset beyond the file": lambda: zip_file(members(op=Member("op", b"", central={"offset": 1 << 31}))),
    "no local signature": lambda: zip_file(members(op=Member("op", b"", local={"mark": b"PK\x03\x05"}))),
    "no central signature": lambda: zip_file(members(op=Member("op", b"", central={"mark": b"PK\x03\x04"}))),
    "two flags": lambda: zip_file(members(op=Member("op", b"", central={"flags": 2048}))),
    "two methods": lambda: zip_file(members(slope=Member("slope", ONE, 0, central={"method": 8}))),
    "two CRCs": lambda: zip_file(members(slope=Member("slope", ONE, central={"crc": 1}))),
    "two stored sizes": lambda: zip_file(members(slope=Member("slope", ONE, 0, central={"stored": len(ONE) - 8, "size": len(ONE) - 8}))),
    "two sizes": lambda: zip_file(members(slope=Member("slope", ONE, central={"size": 1}))),
    "two names": lambda: GOOD.replace(b"beta", b"bets", 1),
    "wrong CRC": lambda: zip_file(members(slope=Member("slope", ONE, local={"crc": 1}, central={"crc": 1}))),
    "wrong CRC, stored": lambda: zip_file(members(slope=Member("slope", ONE, 0, local={"crc": 1}, central={"crc": 1}))),
    "longer than declared": lambda: zip_file(members(slope=Member("slope", ONE, local={"size": 8}, central={"size": 8}))),
    "shorter than declared": lambda: zip_file(members(slope=Member("slope", ONE, local={"size": 80}, central={"size": 80}))),
    "stored with another size": lambda: zip_file(members(slope=Member("slope", ONE, 0, local={"size": 8}, central={"size": 8}))),
    "beyond the end of the file": lambda: zip_file(members(slope=Member("slope", ONE, 0, local={"stored": 1 << 20}, central={"stored": 1 << 20}))),
    "no deflate stream": lambda: zip_file(members(slope=Member("slope", b"\xff" * 40, 0, local={"method": 8}, central={"method": 8}))),
    "a deflate stream that does not end": lambda: zip_file(members(slope=CUT)),
    "a deflate stream and more": lambda: zip_file(members(slope=LONG)),
}  # fmt: skip


class Raw(Member):
    """A member whose stored bytes are given, declared as the deflate stream of `data`."""

    def __init__(self, name: str, data: bytes, raw: bytes) -> None:
        facts = {"stored": len(raw), "method": 8}
        super().__init__(name, data, 8, dict(facts), dict(facts))
        self.raw = raw

    def stored(self) -> bytes:
        return self.raw


CUT = Raw("slope", ONE, Member("slope", ONE).stored()[:-1])
LONG = Raw("slope", ONE, Member("slope", ONE).stored() + b"x")


@pytest.mark.parametrize("name", ZIPS)
def test_a_container_that_is_read_in_two_ways_is_refused(name: str) -> None:
    refused(ZIPS[name](), "zip")


def test_a_member_over_the_limit() -> None:
    columns = {**NUMBERS, "gamma": np.zeros(1000)}
    assert read(pack(MANIFEST, columns), 8000).gamma.size == 1000
    refused(pack(MANIFEST, columns), "limit", limit=7999)


def test_a_manifest_over_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert certificate.MANIFEST_BYTES == 16 * 2**20  # as FORMAT says
    monkeypatch.setattr(certificate, "MANIFEST_BYTES", len(TEXT))
    assert read(GOOD, LIMIT).version == 1
    monkeypatch.setattr(certificate, "MANIFEST_BYTES", len(TEXT) - 1)
    refused(GOOD, "limit")


def test_members_over_the_limit_together() -> None:
    columns = {**NUMBERS, **{name: np.zeros(1000) for name in ("slope", "beta", "gamma", "shift", "threshold")}}
    total = sum(column.nbytes for column in columns.values())
    text = json.dumps({"arrays": described(columns), **MANIFEST})
    text += " " * (-(len(text) + total) % certificate.TOTAL)
    container = [Member("manifest.json", text.encode()), *(Member(name, column.tobytes()) for name, column in columns.items())]
    limit = (len(text) + total) // certificate.TOTAL
    assert read(zip_file(container), limit).gamma.size == 1000
    refused(zip_file(container), "limit", limit=limit - 1)


def test_matches_from_far_away() -> None:
    far = np.tile(np.random.default_rng(0).random(4000), 3)
    assert read(pack(MANIFEST, {**NUMBERS, "gamma": far}), LIMIT).gamma.tolist() == far.tolist()


def test_a_bomb_is_not_inflated() -> None:
    """100 MB of zeros declared as 8 bytes: at most 9 are unpacked."""
    bomb = Member("slope", bytes(100_000_000), local={"size": 8}, central={"size": 8})
    refused(zip_file(members(slope=bomb)), "zip")


# -------------------------------------------------------------------- manifest

TEXT = json.dumps({"arrays": described(NUMBERS), **MANIFEST}).encode()
SITE = {"tensor": "relu", "site": 0, "argument": 0}
MANIFESTS: dict[str, tuple[str, Any]] = {
    "no JSON": ("manifest", b"{"),
    "no UTF-8": ("manifest", b'{"format": "\xff"}'),
    "deep": ("manifest", b"[" * 200_000 + b"]" * 200_000),
    "an endless integer": ("manifest", b'{"format": ' + b"1" * 5000 + b"}"),
    "a key twice": ("manifest", TEXT[:-1] + b', "format": 1}'),
    "a key twice, inside": ("manifest", TEXT[:-1] + b', "tool": {"a": 1, "a": 2}}'),
    "NaN": ("manifest", TEXT[:-1] + b', "tool": NaN}'),
    "Infinity": ("manifest", TEXT[:-1] + b', "tool": -Infinity}'),
    "a float": ("manifest", TEXT.replace(b'"format": 1', b'"format": 1.0')),
    "a huge float": ("manifest", TEXT[:-1] + b', "tool": 1e999}'),
    "no object": ("version", b"[]"),
    "a missing key": ("manifest", {"tensors": None}),
    "an unknown key": ("manifest", {"more": 1}),
    "a newer format": ("version", {"format": 2}),
    "no format": ("version", {"format": None}),
    "format true": ("version", {"format": True}),
    "format as text": ("version", {"format": "1"}),
    "another semantics": ("semantics", {"semantics": "float16"}),
    "semantics as a list": ("semantics", {"semantics": ["real"]}),
    "hash in capitals": ("manifest", {"model": "A" * 64}),
    "short hash": ("manifest", {"property": "a" * 63}),
    "hash and a line": ("manifest", {"property": "a" * 64 + "\n"}),
    "hash as a number": ("manifest", {"model": 1}),
    "tensors as an object": ("tensors", {"tensors": {}}),
    "tensor as text": ("tensors", {"tensors": ["X"]}),
    "input as a number": ("tensors", {"tensors": [{"input": 1}]}),
    "input and more": ("tensors", {"tensors": [{"input": "X", "site": 0}]}),
    "site without argument": ("tensors", {"tensors": [{"tensor": "relu", "site": 0}]}),
    "site of no tensor": ("tensors", {"tensors": [{**SITE, "tensor": 3}]}),
    "site -1": ("tensors", {"tensors": [{**SITE, "site": -1}]}),
    "site true": ("tensors", {"tensors": [{**SITE, "site": True}]}),
    "argument 2": ("tensors", {"tensors": [{**SITE, "argument": 2}]}),
    "argument false": ("tensors", {"tensors": [{**SITE, "argument": False}]}),
    "a site twice": ("tensors", {"tensors": [SITE, SITE]}),
    "arrays as a list": ("manifest", {"arrays": []}),
    "an array missing": ("manifest", {"arrays": described({k: v for k, v in NUMBERS.items() if k != "op"})}),
    "an array more": ("manifest", {"arrays": described({**NUMBERS, "ops": NUMBERS["op"]})}),
}  # fmt: skip


@pytest.mark.parametrize("name", MANIFESTS)
def test_bad_manifests(name: str) -> None:
    rule, change = MANIFESTS[name]
    text = change if isinstance(change, bytes) else json.dumps({"arrays": described(NUMBERS), **MANIFEST, **change}).encode()
    if isinstance(change, dict) and None in change.values():
        text = json.dumps({k: v for k, v in json.loads(text).items() if change.get(k, 0) is not None}).encode()
    refused(zip_file(members(**{"manifest.json": Member("manifest.json", text)})), rule)


def test_free_text_is_allowed() -> None:
    assert read(pack({**MANIFEST, "tool": {"name": "x", "seconds": "1.5"}}, NUMBERS), LIMIT).semantics == "real"


# -------------------------------------------------------------------- columns

SLOPE = {"dtype": "<f8", "shape": [6]}
FACTS: dict[str, Any] = {
    "no object": [],
    "no dtype": {"shape": [6]},
    "more keys": {**SLOPE, "order": "C"},
    "object dtype": {**SLOPE, "dtype": "|O"},
    "big-endian": {**SLOPE, "dtype": ">f8"},
    "native": {**SLOPE, "dtype": "f8"},
    "integers": {**SLOPE, "dtype": "<i8"},
    "dtype as a list": {**SLOPE, "dtype": ["<f8"]},
    "one number too many": {**SLOPE, "shape": [7]},
    "one number too few": {**SLOPE, "shape": [5]},
    "two axes": {**SLOPE, "shape": [2, 3]},
    "no axes": {**SLOPE, "shape": []},
    "shape as a number": {**SLOPE, "shape": 6},
    "length as text": {**SLOPE, "shape": ["6"]},
    "negative": {**SLOPE, "shape": [-6]},
    "10^18 numbers of no bytes": {"dtype": "|V0", "shape": [10**18]},
}


def test_a_length_is_an_integer() -> None:
    """`shift` holds one number, and True == 1."""
    refused(pack({**MANIFEST, "arrays": {**described(NUMBERS), "shift": {"dtype": "<f8", "shape": [True]}}}, NUMBERS), "column")


@pytest.mark.parametrize("name", FACTS)
def test_bad_descriptions(name: str) -> None:
    refused(pack({**MANIFEST, "arrays": {**described(NUMBERS), "slope": FACTS[name]}}, NUMBERS), "column")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["threshold", "slope", "beta", "gamma", "shift"])
def test_numbers_must_be_finite(name: str, bad: float) -> None:
    column = NUMBERS[name].copy()
    column[-1] = bad
    assert refused(pack(MANIFEST, {**NUMBERS, name: column}), "numbers").startswith(name)


def test_half_precision_does_not_reach_infinity_unseen() -> None:
    with np.errstate(over="ignore"):
        column = np.array([1, 2, 3, 4, 5, 65520.0]).astype("<f2")
    refused(pack(MANIFEST, {**NUMBERS, "slope": column}), "numbers")


@pytest.mark.parametrize("name", ["beta", "gamma", "arg", "tree_cases", "set_element", "set_count", "set_site", "tree_count"])
def test_what_must_not_be_negative(name: str) -> None:
    column = NUMBERS[name].copy()
    column[-1] = -1
    refused(pack(MANIFEST, {**NUMBERS, name: column}), "numbers")


@given(st.binary(max_size=400))
def test_any_bytes_end_in_a_refusal(data: bytes) -> None:
    with pytest.raises(Malformed):
        read(data, LIMIT)


@settings(max_examples=examples(300))
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_one_changed_byte_is_refused_or_changes_nothing(place: int, change: int) -> None:
    """Times, versions and attributes in the headers are the only bytes that say nothing."""
    data = bytearray(GOOD)
    data[place] ^= change
    try:
        found = read(bytes(data), LIMIT)
    except Malformed:
        return
    manifest, columns = unpack(GOOD)
    assert all(getattr(found, name).tolist() == column.tolist() for name, column in columns.items())
    assert (found.model, found.property, found.semantics, len(found.tensors)) == (*(manifest[k] for k in ("model", "property", "semantics")), 3)


def test_unpack_undoes_pack() -> None:
    manifest, columns = unpack(GOOD)
    assert pack(manifest, columns) == GOOD
    assert zipfile.ZipFile(io.BytesIO(GOOD)).testzip() is None
