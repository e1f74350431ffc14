"""Which of the nodes that wait a walk takes next. Heuristics: whatever is chosen is walked, and in the end nothing waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

MOST_WAITING = 16  # numbers that all that waits may hold, for each element of a block of states; beyond that a walk goes deep


class Kind(NamedTuple):
    """What nodes have in common that may go together: signature, whether they are leaves, cases of their trees, functionals `rows` of
    the forms in force (None: no forms), nodes with known bounds."""

    signature: int
    leaf: bool
    cases: int
    rows: tuple[int, ...] | None
    known: tuple[int, ...]


class Order:
    """The order for networks with nodes of these sizes, `inputs` elements in all inputs, and blocks of so many nodes.

    A block costs almost as much with few nodes as with many where the network is small, so that nodes wait until a block of them is full,
    and those with children come first, since they fill it.
    """

    def __init__(self, sizes: Sequence[int], inputs: int, block: int) -> None:
        self.sizes, self.inputs, self.block = sizes, inputs, block

    def choose(self, waiting: Mapping[Kind, int]) -> Kind:
        """One of the kinds, of which so many nodes wait each, those that came last at the end."""
        if sum(count * self._numbers(kind) for kind, count in waiting.items()) > MOST_WAITING * self.block * sum(self.sizes):
            return [*waiting][-1]
        return sorted(waiting, key=lambda kind: (waiting[kind] >= self.block, not kind.leaf, waiting[kind]))[-1]

    def _numbers(self, kind: Kind) -> int:
        """How many numbers one node holds, as if it shared none."""
        return self.inputs * (2 + len(kind.rows or ())) + 2 * sum(self.sizes[i] for i in kind.known)
