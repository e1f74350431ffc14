"""Open sub-problems of a search, held in chunks of tensors; the hardest are taken first."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor

from bounds.forward import NEGLIGIBLE


@dataclass(frozen=True)
class Boxes:
    """N sub-boxes: lower, upper [N, n_in]; group [N]; is_open [N, C]; margin [N] (best proven so far); depth [N];
    id [N], unique within a search."""

    lower: Tensor
    upper: Tensor
    group: Tensor
    is_open: Tensor
    margin: Tensor
    depth: Tensor
    id: Tensor

    def __len__(self) -> int:
        return int(self.group.shape[0])

    def select(self, keep: Tensor) -> Boxes:
        """The boxes `keep` (indices, a mask, or a slice's worth of indices)."""
        return Boxes(*(getattr(self, f.name)[keep] for f in fields(self)))

    def varying(self) -> Tensor:
        """In how many inputs each box varies [N]. A batch costs by the most of any of its boxes: alike ones belong together."""
        width = self.upper - self.lower
        return (width > NEGLIGIBLE * width.amax(-1, keepdim=True)).sum(-1)

    def to(self, dtype: torch.dtype) -> Boxes:
        """The same boxes, in a dtype that holds their numbers."""
        return replace(self, lower=self.lower.to(dtype), upper=self.upper.to(dtype), margin=self.margin.to(dtype))

    @classmethod
    def concatenate(cls, parts: list[Boxes]) -> Boxes:
        """All boxes of `parts`, in order. `parts` is not empty."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Boxes)))

    def nbytes(self) -> int:
        """Bytes held."""
        return sum(getattr(self, f.name).nbytes for f in fields(self))

    def volume(self) -> float:
        """Sum of 2^-depth times the number of open slots."""
        return float((torch.exp2(-self.depth.double()) * self.is_open.sum(-1)).sum())


class Batch(Protocol):
    """Anything held in rows that can be selected and joined, with a margin per row."""

    @property
    def margin(self) -> Tensor: ...
    def __len__(self) -> int: ...
    def select(self, keep: Tensor) -> Self: ...
    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self: ...
    def nbytes(self) -> int: ...


B = TypeVar("B", bound=Batch)


class Stack(Generic[B]):
    """Last in, first out, in chunks: depth first, so that memory grows with depth and not with the number of boxes."""

    def __init__(self) -> None:
        self._chunks: list[B] = []
        self.nbytes = 0  # of all chunks

    def __len__(self) -> int:
        return sum(len(c) for c in self._chunks)

    def push(self, rows: B) -> None:
        """Add rows; of these the one with the smallest margin will be taken first."""
        if len(rows):
            self._add(rows.select(torch.argsort(rows.margin, descending=True, stable=True)))

    def pop(self, count: int) -> B:
        """Take up to `count` rows. The stack is not empty."""
        taken: list[B] = []
        while self._chunks and count > 0:
            chunk = self._chunks.pop()
            self.nbytes -= chunk.nbytes()
            if len(chunk) > count:
                rest = len(chunk) - count
                self._add(chunk.select(torch.arange(rest)))
                chunk = chunk.select(torch.arange(rest, len(chunk)))
            count -= len(chunk)
            taken.append(chunk)
        return taken[0].concatenate(taken)

    def _add(self, chunk: B) -> None:
        self._chunks.append(chunk)
        self.nbytes += chunk.nbytes()

    def all(self) -> list[B]:
        """Every chunk, left in place."""
        return list(self._chunks)

    def lowest_margin(self) -> float:
        """The smallest margin proven for anything open; +inf if there is nothing."""
        return min((float(c.margin.min()) for c in self._chunks), default=float("inf"))
