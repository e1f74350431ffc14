"""Certificates as trees that can be built, taken apart and changed, and written back with every hash, length and CRC right.

Nothing here is checked: a forger must be able to write anything that looks like a certificate (verifier/checker/FORMAT.md).
"""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SPLIT, LEAF, EMPTY, FORMS, CLIP, REFINE, ROWS, WITHIN = range(8)
BY_BOUND, BY_FORMS, BY_MULTIPLIERS = range(3)
DTYPES = {
    "tree_cases": "<i4", "tree_count": "<i4", "tree_program": "|u1", "op": "|u1", "arg": "<i4", "threshold": "<f8", "slope": "<f8",
    "beta": "<f8", "gamma": "<f8", "shift": "<f8", "set_site": "<i4", "set_count": "<i4", "set_element": "<i4",
}  # fmt: skip
Group = tuple[int, int, list[int]]  # tensor, side, elements


@dataclass(eq=False)
class Record:
    """One record of the stream with everything it consumes."""

    op: int
    args: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    slope: list[float] = field(default_factory=list)
    beta: list[float] = field(default_factory=list)
    gamma: list[float] = field(default_factory=list)


@dataclass(eq=False)
class Node:
    """Derive records, an ending, and for a split its two children."""

    ending: Record
    derive: list[Record] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    def records(self) -> Iterator[Record]:
        """The node and all below it, in preorder."""
        stack = [self]
        while stack:
            node = stack.pop()
            yield from node.derive
            yield node.ending
            stack.extend(reversed(node.children))

    def nodes(self) -> list[Node]:
        """The node and all below it, in preorder."""
        found, stack = list[Node](), [self]
        while stack:
            found.append(stack.pop())
            stack.extend(reversed(found[-1].children))
        return found


@dataclass(eq=False)
class Tree:
    """The cases it closes, how bounds are made, and its root."""

    cases: list[int]
    program: int
    root: Node


@dataclass
class Proof:
    """A certificate but for its container."""

    tensors: list[dict[str, Any]] = field(default_factory=list)
    trees: list[Tree] = field(default_factory=list)
    sets: list[list[Group]] = field(default_factory=list)
    shift: list[float] = field(default_factory=list)

    def tensor(self, entry: dict[str, Any]) -> int:
        """The number of an entry of the table of tensors, which is added if it is new."""
        if entry not in self.tensors:
            self.tensors.append(entry)
        return self.tensors.index(entry)

    def columns(self) -> dict[str, Array]:
        """The columns of section 3."""
        stream = [record for tree in self.trees for record in tree.root.records()]
        groups = [group for groups in self.sets for group in groups]
        found: dict[str, list[Any]] = {
            "tree_cases": [case for tree in self.trees for case in tree.cases],
            "tree_count": [len(tree.cases) for tree in self.trees],
            "tree_program": [tree.program for tree in self.trees],
            "op": [record.op for record in stream],
            "arg": [x for record in stream for x in record.args],
            "shift": self.shift,
            "set_site": [x for tensor, side, elements in groups for x in (tensor, side, len(elements))],
            "set_count": [len(groups) for groups in self.sets],
            "set_element": [x for _, _, elements in groups for x in elements],
        }
        for name in ("threshold", "slope", "beta", "gamma"):
            found[name] = [x for record in stream for x in getattr(record, name)]
        return {name: np.array(found[name], dtype) for name, dtype in DTYPES.items()}

    def copy(self) -> Proof:
        """A copy that shares nothing."""
        return copy.deepcopy(self)


def leaf(mode: int = BY_BOUND) -> Node:
    """A leaf that stores nothing."""
    return Node(Record(LEAF, [mode]))


def within(multipliers: Record) -> Record:
    """A `within` with the slope set and the numbers of a leaf that multiplies, or of another `within`."""
    return Record(WITHIN, multipliers.args[-1:], [], list(multipliers.slope), list(multipliers.beta), list(multipliers.gamma))


def split(tensor: int, element: int, threshold: float, low: Node, high: Node) -> Node:
    """The children are element <= threshold and element >= threshold."""
    return Node(Record(SPLIT, [tensor, element], [threshold]), children=[low, high])


def pack(manifest: Mapping[str, Any], columns: Mapping[str, Array]) -> bytes:
    """The file: lengths and CRCs are those of the columns. `arrays` is filled in unless the manifest has it."""
    arrays = {name: {"dtype": column.dtype.str, "shape": list(column.shape)} for name, column in columns.items()}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, allowZip64=False, compresslevel=1) as archive:
        archive.writestr("manifest.json", json.dumps({"arrays": arrays, **manifest}))
        for name, column in columns.items():
            archive.writestr(name, column.tobytes())
    return data.getvalue()


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Manifest (without `arrays`) and columns, writable, of a good certificate."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        columns = {name: np.frombuffer(archive.read(name), facts["dtype"]).copy() for name, facts in manifest.pop("arrays").items()}
    return manifest, columns


class _Reader:
    """Consumes the columns of a good certificate, record by record."""

    def __init__(self, columns: Mapping[str, Array], tensors: list[dict[str, Any]], sets: list[list[Group]], atoms: Mapping[int, int]) -> None:
        self.left = {name: iter(columns[name].tolist()) for name in ("op", "arg", "threshold", "slope", "beta", "gamma")}
        self.tensors, self.sizes, self.atoms = tensors, [sum(len(elements) for _, _, elements in groups) for groups in sets], atoms

    def take(self, name: str, count: int) -> list[Any]:
        return [next(self.left[name]) for _ in range(count)]

    def node(self, case: int, cuts: int) -> tuple[Node, int]:
        """One node without its children, and how many site splits stand above these."""
        derive = []
        while (op := next(self.left["op"])) > EMPTY:
            record = Record(op, self.take("arg", 3 if op == ROWS else int(op == WITHIN)))
            if op == ROWS:
                record.args += self.take("arg", record.args[2])
                record.slope = self.take("slope", record.args[2] * self.sizes[record.args[1]])
            elif op == WITHIN:
                self.multipliers(record, case, cuts)
            derive.append(record)
        record = Record(op, self.take("arg", 1 if op == LEAF else 2))
        if op == SPLIT:
            record.threshold = self.take("threshold", 1)
            cuts += "input" not in self.tensors[record.args[0]]
        elif op == LEAF and record.args[0] == BY_MULTIPLIERS:
            record.args += self.take("arg", 1)
            self.multipliers(record, case, cuts)
        return Node(record, derive), cuts

    def multipliers(self, record: Record, case: int, cuts: int) -> None:
        """The numbers of a record whose last argument is its slope set."""
        record.slope = self.take("slope", self.sizes[record.args[-1]])
        record.beta, record.gamma = self.take("beta", cuts), self.take("gamma", self.atoms[case])


def parse(manifest: Mapping[str, Any], columns: Mapping[str, Array], atoms: Mapping[int, int]) -> Proof:
    """A good certificate as trees; `atoms` of every case."""
    elements, groups, sets = iter(columns["set_element"].tolist()), iter(columns["set_site"].reshape(-1, 3).tolist()), list[list[Group]]()
    for count in columns["set_count"].tolist():
        triples = [next(groups) for _ in range(count)]
        sets.append([(tensor, side, [next(elements) for _ in range(size)]) for tensor, side, size in triples])
    proof = Proof(list(manifest["tensors"]), [], sets, columns["shift"].tolist())
    reader, cases = _Reader(columns, proof.tensors, sets, atoms), iter(columns["tree_cases"].tolist())
    for count, program in zip(columns["tree_count"].tolist(), columns["tree_program"].tolist(), strict=True):
        members = [next(cases) for _ in range(count)]
        root, cuts = reader.node(members[0], 0)
        waiting = [(root, cuts)] * 2 if root.ending.op == SPLIT else []
        while waiting:
            parent, above = waiting.pop()
            node, cuts = reader.node(members[0], above)
            parent.children.append(node)
            if node.ending.op == SPLIT:
                waiting += [(node, cuts)] * 2
        proof.trees.append(Tree(members, program, root))
    return proof
