"""Records -> proof trees: a stack machine reads the preorder stream, which therefore cannot hold cycles, orphans or gaps (FORMAT.md 4).

Only structure is checked here: every record is known and complete, every column is used up exactly, every index is in range,
and the trees hold every case exactly once. Whether the trees prove anything is for walk.py to say.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from verifier.checker.arithmetic import Array
from verifier.checker.certificate import Certificate
from verifier.checker.network import Network
from verifier.checker.refusal import Malformed

SPLIT, LEAF, EMPTY, FORMS, CLIP, REFINE, ROWS, WITHIN = range(8)
MODES, PROGRAMS, MULTIPLIERS, OPEN = 4, 4, 2, 3  # how many there are; modes of leaves that store multipliers, and that nothing is claimed of
DEPTH = 10_000


class CaseList(Protocol):
    """What is asked about the checker's own list of cases."""

    def __len__(self) -> int: ...
    def atoms(self, case: int) -> int: ...
    def box(self, case: int) -> int: ...
    def vacuous(self, case: int) -> bool: ...


@dataclass(frozen=True, eq=False, repr=False)
class Forest:
    """Tree t holds the cases tree_cases[tree_start[t] : tree_start[t + 1]]. Most arrays have one entry per node, in preorder, -1 where
    nothing is meant: parent; `end`, the first node that is not below; side 1 below the threshold of the parent, 2 above, 0 root; ending
    SPLIT, LEAF or EMPTY with its tensor and element, or mode; `record`: the number of that ending in the stream, where the node's derive
    records stand before it. From `op` to `gamma_at` there is one entry per record of the stream: its kind, the slope set by which it
    multiplies atoms (-1: it does not), and where its arguments and numbers start in the certificate. Nodes of equal `signature` have
    the same program, kinds of derive records, ending, mode and slope sets."""

    tree_cases: Array
    tree_start: Array
    program: Array
    tree: Array
    parent: Array
    side: Array
    depth: Array
    end: Array
    child_low: Array
    child_high: Array
    signature: Array
    ending: Array
    tensor: Array
    element: Array
    threshold: Array
    mode: Array
    record: Array
    op: Array
    slope_set: Array
    arg_at: Array
    slope_at: Array
    beta_at: Array
    gamma_at: Array
    arg: Array
    slope_sets: tuple[tuple[tuple[int, int, Array], ...], ...]  # (tensor, side, elements)
    set_size: Array

    def derive_range(self, node: int) -> tuple[int, int]:
        """Where the derive records of a node stand in the stream."""
        return (int(self.record[node - 1]) + 1 if node else 0), int(self.record[node])

    def rows_record(self, record: int) -> tuple[int, int, Array, int]:
        """Tensor, slope set, codes 2 element + side, and where the slopes start, of record `record`."""
        at = int(self.arg_at[record])
        tensor, which, count = self.arg[at : at + 3].tolist()
        return tensor, which, self.arg[at + 3 : at + 3 + count], int(self.slope_at[record])


def sizes(certificate: Certificate, network: Network) -> list[int]:
    """How many elements each tensor of the table has. Names must be the network's, and there must be a shift for every softmax row."""
    found = []
    for name in certificate.tensors:
        i = network.sites.get((name.name, name.site))
        if name.kind == "input" and name.name in network.input_names:
            found.append(network.nodes[network.inputs[network.input_names.index(name.name)]].size)
        elif name.kind == "site" and i is not None and name.argument < len(network.nodes[i].inputs):
            found.append(network.nodes[network.nodes[i].inputs[name.argument]].size)
        else:
            raise Malformed("tensors", f"the model has no {name}")
    if certificate.shift.size != sum(softmax.rows for softmax in network.softmaxes):
        raise Malformed("shift", f"{certificate.shift.size} shifts")
    return found


def grow(certificate: Certificate, cases: CaseList, sizes: list[int]) -> Forest:
    """The trees of the certificate; `sizes` of its tensors."""
    start, wide = _cover(certificate, cases), np.asarray(sizes, np.int64)
    sets, entries = _slope_sets(certificate, wide)
    owner, betas, begin, parent, depth, signature, record = _run(certificate)
    op, arg, code, at = certificate.op, certificate.arg, certificate.op[record], begin[record]
    leaf, named = code == LEAF, code != LEAF
    tensor, element, mode = (np.full(len(code), -1) for _ in range(3))
    tensor[named], element[named], mode[leaf] = arg[at[named]], arg[at[named] + 1], arg[at[leaf]]
    which = np.full(len(op), -1)
    which[op == WITHIN], which[record[mode == MULTIPLIERS]] = arg[begin[op == WITHIN]], arg[at[mode == MULTIPLIERS] + 1]
    stored = which >= 0
    _below(tensor[named], len(sizes), "tensor")
    _below(element[named], wide[tensor[named]], "element")
    _below(mode[leaf], MODES, "mode")
    _below(which[stored], len(entries), "slope set")
    threshold = np.zeros(len(code))
    if certificate.threshold.size != (code == SPLIT).sum() or (np.diff(start)[owner[stored]] != 1).any():
        raise Malformed("stream", "one threshold per split; multipliers only in trees of one case")
    threshold[code == SPLIT] = certificate.threshold
    use = np.zeros(len(op), np.int64)  # slopes of every record
    use[stored] = entries[which[stored]]
    rows = np.flatnonzero(op == ROWS)
    use[rows] = [_rows(certificate, at, wide, entries) for at in begin[rows].tolist()]
    atoms = np.array([cases.atoms(int(case)) for case in certificate.tree_cases[start[:-1]]], np.int64)
    above = np.flatnonzero(parent >= 0)
    side, high = np.zeros(len(code), np.int64), np.full(len(code), -1)
    side[above] = 1 + (parent[above] != above - 1)
    high[parent[side == 2]] = np.flatnonzero(side == 2)
    return Forest(
        tree_cases=certificate.tree_cases, tree_start=start, program=certificate.tree_program, tree=owner[record], parent=parent, side=side,
        depth=depth, end=_ends(high), child_low=np.where(code == SPLIT, np.arange(len(code)) + 1, -1), child_high=high, signature=signature,
        ending=code.astype(np.int64), tensor=tensor, element=element, threshold=threshold, mode=mode, record=record, op=op, slope_set=which,
        arg_at=begin, slope_at=_places(use, certificate.slope, "slope"), beta_at=_places(np.where(stored, betas, 0), certificate.beta, "beta"),
        gamma_at=_places(np.where(stored, atoms[owner], 0), certificate.gamma, "gamma"), arg=arg, slope_sets=sets, set_size=entries,
    )  # fmt: skip


def _ends(high: Array) -> Array:
    """Of every node the first that is not below it, by the number of its upper child, -1 of a leaf."""
    end = np.arange(1, len(high) + 1)
    for node in np.flatnonzero(high >= 0)[::-1]:
        end[node] = end[high[node]]
    return end


def _run(certificate: Certificate) -> tuple[Array, ...]:
    """Of every record: tree, site splits above its node, where its arguments begin; of every node: parent, depth, signature, number of its ending."""
    nodes, records = array("q"), array("q")
    args, programs, is_site = certificate.arg.data, certificate.tree_program.tolist(), [name.kind == "site" for name in certificate.tensors]
    stack: list[tuple[int, int, int]] = []  # of nodes still to come: parent, depth, site splits above
    kinds: dict[tuple[int, int], int] = {}  # sequences of derive records, as a trie; `within` by its slope set
    known: dict[tuple[int, ...], int] = {}
    above, level, cuts, derived, here, trees = -1, 0, 0, 0, 0, 0
    try:
        for number, code in enumerate(certificate.op.data):
            records.extend((trees, cuts, here))
            if code > EMPTY:
                derived = kinds.setdefault((derived, code + (args[here] if code == WITHIN else 0)), len(kinds) + 1)
                here += 3 + args[here + 2] if code == ROWS else int(code == WITHIN)
                continue
            node, mode = len(nodes) // 4, args[here] if code == LEAF else -1
            key = (programs[trees], derived, code, mode, args[here + 1] if mode == MULTIPLIERS else -1)
            nodes.extend((above, level, known.setdefault(key, len(known)), number))
            derived = 0
            if code == SPLIT:
                above, level, cuts = node, level + 1, cuts + is_site[args[here]]
                stack.append((above, level, cuts))
                here += 2
            else:
                here += 1 if code == LEAF and mode != MULTIPLIERS else 2
                trees += not stack
                above, level, cuts = stack.pop() if stack else (-1, 0, 0)
            if level > DEPTH:
                raise Malformed("depth", f"record {number}: more than {DEPTH} splits on one path")
    except IndexError as error:
        raise Malformed("stream", f"record {number}: no such tree, tensor or argument") from error
    if derived or trees != len(programs) or here != len(args) or (certificate.op > WITHIN).any():
        raise Malformed("stream", f"{trees} of {len(programs)} trees are complete, {here} of {len(args)} arguments used, or a record is unknown")
    return (*np.array(records, np.int64).reshape(-1, 3).T.copy(), *np.array(nodes, np.int64).reshape(-1, 4).T.copy())


def _cover(certificate: Certificate, cases: CaseList) -> Array:
    """Where each tree starts in tree_cases. Every case but the vacuous ones stands in exactly one tree, with cases of the same box."""
    listed, count, program = certificate.tree_cases, certificate.tree_count, certificate.tree_program
    if count.shape != program.shape or not (count > 0).all() or count.sum() != listed.size or not (program < PROGRAMS).all():
        raise Malformed("cases", "tree_count, tree_program and tree_cases do not fit")
    if np.sort(listed).tolist() != [case for case in range(len(cases)) if not cases.vacuous(case)]:
        raise Malformed("cases", f"not every case of {len(cases)} (but for vacuous ones) exactly once")
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(count)])
    box = np.array([cases.box(case) for case in listed.tolist()], np.int64)
    if (box != np.repeat(box[start[:-1]], count)).any():
        raise Malformed("cases", "cases of one tree have different boxes")
    return start


def _slope_sets(certificate: Certificate, wide: Array) -> tuple[tuple[tuple[tuple[int, int, Array], ...], ...], Array]:
    """The slope sets and how many slopes each asks for. No slope is asked for twice."""
    triples, count = certificate.set_site, certificate.set_count
    if triples.size != 3 * count.sum() or triples[2::3].sum() != certificate.set_element.size:
        raise Malformed("sets", "set_count, set_site and set_element do not fit")
    tensor, side, length = triples[0::3], triples[1::3], triples[2::3]
    _below(tensor, len(wide), "tensor of a slope set")
    _below(side, 2, "side of a slope set")
    _below(certificate.set_element, np.repeat(wide[tensor], length), "element of a slope set")
    owner, group = np.repeat(np.arange(len(count)), count), np.repeat(np.arange(len(length)), length)
    if any(len(np.unique(x)) != len(x) for x in ((2 * len(wide) * owner + 2 * tensor + side), (group << 32) + certificate.set_element)):
        raise Malformed("sets", "a slope is asked for twice")
    parts = np.split(certificate.set_element, np.cumsum(length)[:-1]) if len(length) else []
    groups = list(zip(tensor.tolist(), side.tolist(), parts, strict=True))
    stops = np.cumsum(count).tolist()
    sets = tuple(tuple(groups[stop - n : stop]) for stop, n in zip(stops, count.tolist(), strict=True))
    return sets, np.bincount(owner, length, len(count)).astype(np.int64)


def _rows(certificate: Certificate, at: int, wide: Array, entries: Array) -> int:
    """How many slopes the rows record with arguments at `at` uses."""
    tensor, which, count = certificate.arg[at : at + 3].tolist()
    codes = certificate.arg[at + 3 : at + 3 + count]
    if tensor >= len(wide) or which >= len(entries) or not (codes < 2 * wide[tensor]).all():
        raise Malformed("index", f"argument {at}: tensor, slope set or row")
    if certificate.tensors[tensor].kind != "site" or not count or len(np.unique(codes)) != count:
        raise Malformed("stream", f"argument {at}: rows of an input, no rows, or the same row twice")
    return int(count * entries[which])


def _places(use: Array, column: Array, name: str) -> Array:
    """Where each user's numbers start, if together they use `column` exactly. (No sum overflows: members are below 4 GiB.)"""
    if use.sum() != column.size:
        raise Malformed("stream", f"the records do not use the {column.size} numbers of {name}")
    return np.asarray(np.cumsum(use) - use)


def _below(index: Array, limit: int | Array, what: str) -> None:
    if not (index < limit).all():
        raise Malformed("index", f"a {what} is too large")
