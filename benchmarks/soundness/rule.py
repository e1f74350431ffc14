"""What a rule of `operators.py` sees of one ONNX node."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.soundness.tensor import Array, Tensor, of_integers

Value = Tensor | Array | None  # Arrays are whole numbers or truth values; None is an input that was left out


class UnknownOperator(Exception):
    """The file holds an operator, an attribute or a form of one that the suite's evaluation does not know; the message says what."""


@dataclass
class Call:
    """A node: what it is, its inputs, the attributes that no rule has taken yet, the number of its outputs."""

    operator: str
    opset: int
    inputs: list[Value]
    attributes: dict[str, Any]
    outputs: int

    def take(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, which is then known."""
        value = self.attributes.pop(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, place: int) -> bool:
        """Whether there is an input at `place`."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def value(self, place: int) -> Tensor | Array:
        """An input of any kind. Raises UnknownOperator where there is none."""
        value = self.inputs[place] if place < len(self.inputs) else None
        if value is None:
            raise UnknownOperator(f"{self.operator} without input {place}")
        return value

    def tensor(self, place: int) -> Tensor:
        """An input as numbers."""
        value = self.value(place)
        return value if isinstance(value, Tensor) else of_integers(value)

    def integers(self, place: int, name: str = "", default: Any = None) -> list[int] | None:
        """Whole numbers from an input, or from the attribute `name` (older opsets)."""
        if self.has(place):
            value = self.value(place)
            if isinstance(value, Tensor) or value.dtype.kind not in "iu":
                raise UnknownOperator(f"{self.operator}: input {place} is not of whole numbers")
            return [int(v) for v in value.reshape(-1)]
        found = self.take(name, default) if name else default
        return None if found is None else [int(v) for v in found]

    def same(self, place: int, move: Callable[[Array], Array]) -> Tensor | Array:
        """An input with its elements in other places."""
        value = self.value(place)
        return value.moved(move) if isinstance(value, Tensor) else np.asarray(move(value))


Rule = Callable[[Call], Value | list[Value]]
