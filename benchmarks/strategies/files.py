"""What delta debugging reads: a model, a property, and a point that violates it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx

from benchmarks.formula import FormulaError, decompressed, nearest_float32, number
from benchmarks.soundness.answers import AnswerError, witness
from benchmarks.strategies.draft import Array


class FileError(Exception):
    """A file is not what it should be; the message says which and why."""


def read_model(path: Path) -> onnx.ModelProto:
    """The model in an ONNX file (.gz allowed). Raises FileError, OSError."""
    data = decompressed(path)
    try:
        onnx.checker.check_model(data)
    except onnx.checker.ValidationError as error:
        raise FileError(f"{path}: no valid ONNX model: {error}") from error
    return onnx.load_model_from_string(data)


def read_text(path: Path) -> str:
    """The text of a property (.gz allowed). Raises FileError, OSError."""
    try:
        return decompressed(path).decode()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: no text: {error}") from error


def read_point(path: Path) -> Array:
    """The input [n], float32, of a results file with a witness, or of a planted point of the soundness suite. Raises FileError, OSError."""
    text = path.read_text()
    try:
        if text.lstrip().startswith("{"):
            return np.array([float.fromhex(v) for v in json.loads(text)["point"]], np.float32)
        values = witness(text)
        if values is None:
            raise FileError(f"{path} holds no witness")
        return np.array([nearest_float32(number(v)) for v in values], np.float32)
    except (AnswerError, FormulaError, KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: {error}") from error
