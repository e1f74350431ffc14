"""Errors about a property. `line` and `column` are 1-based places in the decompressed text, where known."""

from __future__ import annotations


class PropertyError(Exception):
    """The property cannot be read, or does not fit the model. Exit code 3. `source` names the file in the text of the error."""

    def __init__(self, message: str, line: int | None = None, column: int | None = None, source: str = "") -> None:
        file = f"{source}: " if source else ""
        place = "" if line is None else f"line {line}, column {column}: "
        super().__init__(file + place + message)
        self.message = message
        self.line = line
        self.column = column

    def inside(self, source: str) -> PropertyError:
        """The same error, naming the file."""
        return PropertyError(self.message, self.line, self.column, source)
