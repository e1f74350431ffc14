"""What was walked of parts of a proof, so that it need not be walked again in the whole.

A *part* is a certificate with leaves of mode *open*, of which it claims nothing; it is never accepted. That a leaf is closed means that no
execution on the splits above it violates a case of its tree, whoever found that and when. Which splits these are, and by which bounds it
is found, is said by the records from the root of the tree down to the leaf: where they are equal in two certificates for the same files,
numbers included, so is what the leaf says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.bounds import Checker
from verifier.checker.certificate import Certificate
from verifier.checker.order import Kind
from verifier.checker.read_property import Cases
from verifier.checker.tree import MULTIPLIERS, OPEN, ROWS, SPLIT, WITHIN, Forest
from verifier.checker.walk import Chunk, Walk

Kinds = dict[tuple[object, ...], int]
TABLES = ("set_site", "set_count", "set_element")


@dataclass(frozen=True, eq=False, repr=False)
class Proof:
    """A certificate and its trees."""

    certificate: Certificate
    forest: Forest

    def kinds(self, known: Kinds) -> tuple[Array, Array]:
        """Of every node the number of its kind (program, derive records, ending, mode), and whether it has more than a tensor, an element and
        a threshold of its own: codes of rows, multipliers."""
        _, first, signature = np.unique(self.forest.signature, return_index=True, return_inverse=True)
        numbers, more = [], []
        for node in first.tolist():
            derived = self.forest.op[slice(*self.forest.derive_range(node))]
            mode, program = int(self.forest.mode[node]), int(self.forest.program[self.forest.tree[node]])
            numbers.append(known.setdefault((program, derived.tobytes(), int(self.forest.ending[node]), mode), len(known)))
            more.append(mode == MULTIPLIERS or bool(np.isin(derived, (ROWS, WITHIN)).any()))
        return np.array(numbers)[signature], np.array(more)[signature]

    def numbers(self, node: int) -> list[bytes]:
        """All arguments and numbers of the records of a node."""
        forest, columns = self.forest, self.certificate
        first, last = forest.derive_range(node)[0], int(forest.record[node]) + 1
        found = []
        for starts, column in ((forest.arg_at, columns.arg), (forest.slope_at, columns.slope), (forest.beta_at, columns.beta),
                               (forest.gamma_at, columns.gamma)):  # fmt: skip
            stop = int(starts[last]) if last < len(starts) else column.size
            found.append(column[int(starts[first]) : stop].tobytes())
        return found


@dataclass(eq=False, repr=False)
class Entry:
    """What was walked: of each node of a proof, or of a part of one, whether it is done: visited, and closed if it is a leaf; and `left`: open
    leaves, as a walk came to them."""

    proof: Proof
    done: Array
    left: list[Chunk]


def done_before(entries: list[Entry], certificate: Certificate, forest: Forest) -> Array:
    """Of every node of this certificate whether it stands in an entry, below equal records, and was done there."""
    whole, found = Proof(certificate, forest), np.zeros(len(forest.ending), dtype=bool)
    for entry in entries:
        for old, new, same in _levels(entry.proof, whole):
            found[new[same]] |= entry.done[old[same]]
    return found


@dataclass(frozen=True, eq=False, repr=False)
class Resumed:
    """Where walks may go on: chunks of nodes, and of every node whether it is one of these or below. And what is `open` there, too."""

    starts: list[Chunk]
    open: list[Chunk]
    inside: Array


def walk_part(entries: list[Entry], checker: Checker, cases: Cases, certificate: Certificate, forest: Forest, block: int) -> Entry:
    """Walk a part, from where the walks of others came to its nodes, which are no longer left there.

    No box is halved here: how often that may be done, a walk of the whole counts.
    """
    failed, left = list[int](), list[Chunk]()
    one = PartWalk(checker, cases, certificate, forest, block, lambda node, *_: failed.append(node))
    one.most_halved = 0
    claimed = forest.mode != OPEN
    if entries:
        resumed = resume(entries, certificate, forest)
        one.starts, left, claimed = resumed.starts, resumed.open, claimed & resumed.inside
    one.count(claimed)
    return Entry(Proof(certificate, forest), done(forest, claimed, failed, one.visited, one.closed), one.left + left)


def done(forest: Forest, walked: Array, failed: list[int], visited: int, closed: int) -> Array:
    """Of every node whether it is done. All that were `walked` and are not below a failure are, if the counts say so; else none counts as done."""
    found = walked.copy()
    for node in failed:
        found[node : forest.end[node]] = False
    return found & bool(visited == walked.sum() and closed == (found & (forest.ending != SPLIT)).sum())


class PartWalk(Walk):
    """A walk that begins with the chunks `starts`, if there are any, and keeps what it comes to and nothing is claimed of."""

    starts: list[Chunk] | None = None

    def count(self, share: slice | Array = slice(None)) -> None:
        self.left: list[Chunk] = []
        super().count(share)

    def _roots(self) -> list[Chunk]:
        return super()._roots() if self.starts is None else self.starts

    def _push(self, waiting: dict[Kind, list[Chunk]], chunks: list[Chunk]) -> None:
        self.left += [chunk.select(some) for chunk in chunks if len(some := np.flatnonzero(self.forest.mode[chunk.nodes] == OPEN))]
        super()._push(waiting, chunks)


def resume(entries: list[Entry], certificate: Certificate, forest: Forest) -> Resumed:
    """What is left in the entries and stands in this certificate; it is taken from there."""
    proof, found = Proof(certificate, forest), Resumed([], [], np.zeros(len(forest.ending), dtype=bool))
    change = np.zeros(len(forest.ending) + 1, np.int64)  # of how many starts a node is or is below
    for entry in entries:
        place = np.full(len(entry.done), -1)
        for old, new, _ in _levels(entry.proof, proof) if entry.left else ():
            place[old] = new
        left, entry.left = entry.left, []
        for chunk in left:
            at = place[chunk.nodes]
            waits = (at >= 0) & (forest.mode[at] == OPEN)
            for where, which in ((found.starts, (at >= 0) & ~waits), (found.open, waits), (entry.left, at < 0)):
                if which.any():
                    where.append(replace(chunk.select(np.flatnonzero(which)), nodes=np.where(at < 0, chunk.nodes, at)[which]))
    for chunk in found.starts:
        np.add.at(change, chunk.nodes, 1)
        np.add.at(change, forest.end[chunk.nodes], -1)
    return replace(found, inside=change.cumsum()[:-1] > 0)


def _same_tables(part: Certificate, whole: Certificate) -> bool:
    """Whether both are about the same files, and numbers of tensors and slope sets in the part mean the same in the whole."""
    same = all(getattr(part, name) == getattr(whole, name) for name in ("model", "property", "semantics")) and np.array_equal(part.shift, whole.shift)
    return same and part.tensors == whole.tensors[: len(part.tensors)] and all(
        np.array_equal(getattr(part, name), getattr(whole, name)[: getattr(part, name).size]) for name in TABLES
    )


def _levels(part: Proof, whole: Proof) -> Iterator[tuple[Array, Array, Array]]:
    """Nodes of both, level by level, all above which are equal; and whether they are, too."""
    known: Kinds = {}
    (kind, more), (its_kind, _) = part.kinds(known), whole.kinds(known)
    a, b = part.forest, whole.forest
    old, new = _roots(part, whole) if _same_tables(part.certificate, whole.certificate) else (np.zeros(0, np.int64),) * 2
    while len(old):
        same = kind[old] == its_kind[new]
        for name in ("tensor", "element", "threshold"):
            same &= getattr(a, name)[old] == getattr(b, name)[new]
        for k in np.flatnonzero(same & more[old]).tolist():
            same[k] = part.numbers(int(old[k])) == whole.numbers(int(new[k]))
        yield old, new, same
        inner = same & (a.ending[old] == SPLIT)
        old, new = (np.concatenate([x.child_low[at], x.child_high[at]]) for x, at in ((a, old[inner]), (b, new[inner])))


def _roots(part: Proof, whole: Proof) -> tuple[Array, Array]:
    """Roots of trees that hold the same cases in the same order."""
    of = [
        {x.tree_cases[x.tree_start[t] : x.tree_start[t + 1]].tobytes(): int(root) for t, root in enumerate(np.flatnonzero(x.parent < 0).tolist())}
        for x in (part.forest, whole.forest)
    ]
    both = [(root, of[1][cases]) for cases, root in of[0].items() if cases in of[1]]
    return tuple(np.array(both, np.int64).reshape(-1, 2).T)  # type: ignore[return-value]
