"""TensorProto -> array: one data field, the right number of bytes, finite numbers; types that a rule exists for."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx

from verifier.checker.lowering.builder import MOST_ELEMENTS, Array
from verifier.checker.refusal import Rejected

_P = onnx.TensorProto
FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
TYPES: dict[int, tuple[str, str]] = {
    _P.FLOAT: ("<f4", "float_data"),
    _P.DOUBLE: ("<f8", "double_data"),
    _P.INT32: ("<i4", "int32_data"),
    _P.INT64: ("<i8", "int64_data"),
    _P.UINT8: ("u1", "int32_data"),
    _P.INT8: ("i1", "int32_data"),
    _P.UINT16: ("<u2", "int32_data"),
    _P.INT16: ("<i2", "int32_data"),
    _P.BOOL: ("?", "int32_data"),
    _P.FLOAT16: ("<f2", "raw_data"),  # constants that a Cast widens; no field of whole numbers that are their bits
}


def take_external(proto: onnx.TensorProto, raw: bytes, files: Mapping[str, bytes]) -> bytes:
    """The raw data of an initialiser that is in one of the `files`; the tensor is left as if it had been in its own."""
    entries = {entry.key: entry.value for entry in proto.external_data}
    data, size = files.get(entries.get("location", "")), np.dtype(TYPES.get(proto.data_type, ("u1", ""))[0]).itemsize
    numbers = [entries.get("offset", "0"), entries.get("length", str(math.prod(proto.dims) * size))]
    counts = all(n.isascii() and n.isdigit() and len(n) < 19 for n in numbers)
    good = len(entries) == len(proto.external_data) and not raw and data is not None and counts
    if data is None or not good or int(numbers[0]) + int(numbers[1]) > len(data):
        raise Rejected("unsupported-model", f"initialiser {proto.name!r}: external data {entries}")
    proto.ClearField("external_data")
    proto.ClearField("data_location")
    return data[int(numbers[0]) : int(numbers[0]) + int(numbers[1])]


def read_tensor(proto: onnx.TensorProto, raw: bytes, place: str) -> Array:
    """The tensor, whose raw data is given apart, in its own type."""

    def require(holds: bool, what: str) -> None:
        if not holds:
            raise Rejected("unsupported-model", f"{place}: {what}")

    require(proto.data_location == _P.DEFAULT and not proto.external_data, "external data")
    require(not proto.HasField("segment"), "a tensor in segments")
    require(proto.data_type in TYPES, f"element type {proto.data_type}")
    shape = tuple(int(n) for n in proto.dims)
    # Lengths of 0 do not count: numpy refuses (0, 2**62, 4) too, though it has no elements.
    require(all(n >= 0 for n in shape) and math.prod(n for n in shape if n) <= MOST_ELEMENTS, f"shape {shape}")
    code, name = TYPES[proto.data_type]
    require(bool(raw) or name != "raw_data", f"element type {proto.data_type} without raw data")
    present = [f for f in FIELDS if len(getattr(proto, f))]
    require(set(present) <= {name} and not (raw and present), f"data fields {[*present, 'raw_data']}")
    if raw:
        require(len(raw) == math.prod(shape) * np.dtype(code).itemsize, f"{len(raw)} bytes for shape {shape}")
        require(code != "?" or set(raw) <= {0, 1}, "a bool that is neither 0 nor 1")
        found = np.frombuffer(raw, dtype=code)
    else:
        numbers = getattr(proto, name)
        require(len(numbers) == math.prod(shape), f"{len(numbers)} numbers for shape {shape}")
        require(code != "?" or set(numbers) <= {0, 1}, "a bool that is neither 0 nor 1")
        limits = np.iinfo(code) if np.dtype(code).kind in "iu" else None
        require(limits is None or all(limits.min <= n <= limits.max for n in numbers), "a whole number beyond its type")
        found = np.array(numbers, dtype=code)
    require(found.dtype.kind != "f" or bool((found < np.inf).all()), "NaN or Inf")
    return found.astype(found.dtype.newbyteorder("="), copy=False).reshape(shape)
