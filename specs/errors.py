"""Errors about a property. `line` and `column` are 1-based places in the decompressed text, where known."""

from __future__ import annotations


class PropertyError(Exception):
    """The property cannot be read, or does not fit the model. Exit code 3."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None) -> None:
        place = "" if line is None else f"line {line}, column {column}: "
        super().__init__(place + message)
        self.line = line
        self.column = column
