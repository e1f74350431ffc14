"""Writes assignments as the VNN-LIB standard's other form: DIR/NAME.pb, an ONNX TensorProto for each tensor.

Light, like all that the parent process does: the few fields that are needed are written as protobuf's wire format has them, without onnx.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from verifier.result import Assignment, sync_and_rename

SUFFIX = ".pb"
FLOAT = 1  # TensorProto.DataType
# Fields of TensorProto, with protobuf's wire types: 0 a varint, 2 bytes with their length.
DIMS, DATA_TYPE, NAME, RAW_DATA = (1, 0), (2, 0), (8, 2), (9, 2)


def tensor_proto(assignment: Assignment) -> bytes:
    """The bytes of a TensorProto: float32, row-major. Values are float32 numbers, also of tensors that a query declares as `real`."""
    dims = b"".join(_key(DIMS) + _varint(size) for size in assignment.shape)
    raw = struct.pack(f"<{len(assignment.values)}f", *assignment.values)
    name = assignment.name.encode()
    return dims + _key(DATA_TYPE) + _varint(FLOAT) + _key(NAME) + _varint(len(name)) + name + _key(RAW_DATA) + _varint(len(raw)) + raw


def write_assignments(folder: str, assignments: Sequence[Assignment]) -> None:
    """Write every tensor into `folder`, which is made where it is missing; each file appears whole. May raise OSError."""
    os.makedirs(folder, exist_ok=True)
    for assignment in assignments:
        path = os.path.join(folder, assignment.name + SUFFIX)
        with open(path + ".part", "wb") as file:
            file.write(tensor_proto(assignment))
        sync_and_rename(path + ".part", path)


def refusal(folder: str) -> str | None:
    """Why tensors cannot be written there: it is no folder, or holds those of another run, which would pass for an answer to this question."""
    if not os.path.exists(folder):
        folder = os.path.dirname(folder.rstrip("/")) or "."
    elif os.path.isdir(folder) and any(name.endswith(SUFFIX) for name in os.listdir(folder)):
        return "it holds tensors of another run; name an empty folder, or one that does not exist"
    return None if os.path.isdir(folder) and os.access(folder, os.W_OK) else "expected a folder that can be written to"


def _key(field: tuple[int, int]) -> bytes:
    number, wire_type = field
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
