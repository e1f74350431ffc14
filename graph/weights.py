"""Initialisers: read when first used, checked, never copied."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from graph.errors import ModelError

Array = NDArray[Any]

_READABLE: dict[int, np.dtype[Any]] = {
    onnx.TensorProto.FLOAT: np.dtype("<f4"),
    onnx.TensorProto.DOUBLE: np.dtype("<f8"),
    onnx.TensorProto.INT32: np.dtype("<i4"),
    onnx.TensorProto.INT64: np.dtype("<i8"),
    onnx.TensorProto.BOOL: np.dtype("?"),
    onnx.TensorProto.INT8: np.dtype("i1"),
    onnx.TensorProto.UINT8: np.dtype("u1"),
    onnx.TensorProto.INT16: np.dtype("<i2"),
    onnx.TensorProto.UINT16: np.dtype("<u2"),
    onnx.TensorProto.UINT32: np.dtype("<u4"),
    onnx.TensorProto.UINT64: np.dtype("<u8"),
    onnx.TensorProto.FLOAT16: np.dtype("<f2"),
}
# Two or four numbers a byte, which the onnx package takes apart; only inside the file.
_PACKED = frozenset((onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.INT2, onnx.TensorProto.UINT2))


def type_name(data_type: int) -> str:
    """The ONNX name of an element type, or its number where it has none."""
    return onnx.TensorProto.DataType.Name(data_type) if data_type in onnx.TensorProto.DataType.values() else str(data_type)


class WeightReader:
    """The initialisers of a graph by name. External data must lie inside `folder` (None: there is no folder)."""

    def __init__(self, graph: onnx.GraphProto, folder: Path | None, element_limit: int) -> None:
        self._tensors = {t.name: t for t in graph.initializer}
        self._folder, self._element_limit = folder, element_limit
        self._files: dict[str, bytes] = {}
        if len(self._tensors) != len(graph.initializer):
            raise ModelError("two initialisers have the same name")

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def read(self, name: str) -> Array:
        """The initialiser `name`. Raises ModelError where it is damaged, too large, or contains NaN or +Inf."""
        tensor = self._tensors[name]
        where = f"initialiser {name!r}"
        if tensor.data_type in _PACKED:
            return self._packed(tensor, where)
        if tensor.data_type not in _READABLE:
            raise ModelError(f"{where} has element type {type_name(tensor.data_type)}, which is not supported")
        shape = tuple(int(d) for d in tensor.dims)
        if _oversized(shape, self._element_limit):
            raise ModelError(f"{where} has shape {shape}: negative, or more than {self._element_limit} elements")
        value = self._external(tensor, where) if tensor.data_location == onnx.TensorProto.EXTERNAL else _internal(tensor, where)
        if value.size != math.prod(shape):
            raise ModelError(f"{where} has shape {shape} but data for {value.size} elements")
        if value.dtype.kind == "f" and not (value < np.inf).all():
            raise ModelError(f"{where} contains NaN or Inf")
        return value.reshape(shape)

    def _packed(self, tensor: onnx.TensorProto, where: str) -> Array:
        shape = tuple(int(d) for d in tensor.dims)
        if _oversized(shape, self._element_limit) or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(f"{where} has shape {shape} of type {type_name(tensor.data_type)}: negative, too large or in another file")
        try:
            return np.asarray(onnx.numpy_helper.to_array(tensor))
        except ValueError as error:
            raise ModelError(f"{where} has shape {shape} but other data: {error}") from error

    def external_hashes(self) -> tuple[tuple[str, str], ...]:
        """(location, SHA-256) of every external file that an initialiser names, in the order of locations."""
        for name, tensor in self._tensors.items():
            if tensor.data_location == onnx.TensorProto.EXTERNAL:
                self._file({entry.key: entry.value for entry in tensor.external_data}.get("location", ""), f"initialiser {name!r}")
        return tuple((location, hashlib.sha256(content).hexdigest()) for location, content in sorted(self._files.items()))

    def _external(self, tensor: onnx.TensorProto, where: str) -> Array:
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        content = self._file(location, where)
        dtype = _READABLE[tensor.data_type]
        length = math.prod(int(d) for d in tensor.dims) * dtype.itemsize
        try:
            start, declared = int(entries.get("offset", "0")), int(entries.get("length", str(length)))
        except ValueError as error:
            raise ModelError(f"{where}: offset or length of its external data is not a number") from error
        if start < 0 or declared != length or start + length > len(content):
            raise ModelError(f"{where} needs {length} bytes at offset {start} of {location!r} (declared {declared}), which has {len(content)} bytes")
        return np.frombuffer(content, dtype=dtype, count=length // dtype.itemsize, offset=start)

    def _file(self, location: str, where: str) -> bytes:
        if location not in self._files:
            if self._folder is None:
                raise ModelError(f"{where} has external data ({location!r}), but the model was given as bytes: load it from its folder")
            try:
                folder = self._folder.resolve()
                path = (folder / location).resolve()
                if not location or not path.is_relative_to(folder):
                    raise ModelError(f"{where}: its external data {location!r} lies outside the model's folder")
                self._files[location] = path.read_bytes()
            except (OSError, ValueError) as error:
                raise ModelError(f"{where}: its external data {location!r} cannot be read: {error}") from error
        return self._files[location]


def _oversized(shape: tuple[int, ...], limit: int) -> bool:
    """Whether no array may have this shape. numpy refuses (0, 2**62, 4) as well, though it has no elements: lengths of 0 do not count."""
    return any(d < 0 for d in shape) or math.prod(d for d in shape if d) > limit


def _internal(tensor: onnx.TensorProto, where: str) -> Array:
    dtype = _READABLE[tensor.data_type]
    if tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) % dtype.itemsize:
            raise ModelError(f"{where} has {len(raw)} bytes of data, not a multiple of {dtype.itemsize}")
        return np.frombuffer(raw, dtype=dtype)
    if dtype == np.float16:  # its bits, as whole numbers
        return np.asarray(tensor.int32_data, dtype=np.int64).astype("<u2").view(dtype)
    fields = {"f4": tensor.float_data, "f8": tensor.double_data, "i8": tensor.int64_data, "u4": tensor.uint64_data, "u8": tensor.uint64_data}
    found = fields.get(dtype.str[1:], tensor.int32_data)
    return np.asarray(found, dtype=np.dtype("<u8") if dtype.str[1:] in ("u4", "u8") else np.int64 if dtype.kind != "f" else dtype).astype(dtype)
