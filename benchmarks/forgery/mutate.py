"""Changes to good certificates: of trees, of numbers, of names, of the manifest; and a certificate of one network dressed up for another."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.forgery.proof import BY_MULTIPLIERS, CLIP, EMPTY, FORMS, LEAF, REFINE, SPLIT, WITHIN, Node, Proof, Record, Tree, leaf, within
from benchmarks.forgery.subjects import Subject

Array = NDArray[Any]
Random = np.random.Generator
ODD = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0**-1074, -(2.0**-1022), 1e308, -1e308, 1e-300, math.nextafter(0.5, 1), 65504.0)
WORDS = ("real", "float32", "float64", "", "Real")

# ---------------------------------------------------------------- trees


def _nodes(proof: Proof) -> list[Node]:
    return [node for tree in proof.trees for node in tree.root.nodes()]


def _pick(random: Random, found: list[Any]) -> Any:
    return found[int(random.integers(len(found)))] if found else None


def _splits(proof: Proof) -> list[Node]:
    return [node for node in _nodes(proof) if node.children]


def swap_children(proof: Proof, random: Random) -> None:
    """The subtrees of a split change places."""
    node = _pick(random, _splits(proof))
    if node is not None:
        node.children.reverse()


def drop_subtree(proof: Proof, random: Random) -> None:
    """A split becomes a leaf, an empty leaf, or one of its children."""
    node = _pick(random, _splits(proof))
    if node is None:
        return
    kind = random.integers(4)
    other = _pick(random, node.children)
    if kind == 0:
        node.ending, node.children = Record(LEAF, [int(random.integers(2))]), []
    elif kind == 1:
        node.ending, node.children = Record(EMPTY, node.ending.args[:2]), []
    elif kind == 2:
        node.ending, node.derive, node.children = other.ending, other.derive, other.children
    else:
        node.children[int(random.integers(2))] = leaf()


def copy_subtree(proof: Proof, random: Random) -> None:
    """One child stands on both sides, or a subtree in another place."""
    node, other = _pick(random, _splits(proof)), _pick(random, _splits(proof))
    if node is not None:
        side = int(random.integers(2))
        near = other in node.nodes() or node in other.nodes()
        node.children[side] = node.children[1 - side] if near or random.random() < 0.5 else other.children[0]


def change_leaf(proof: Proof, random: Random) -> None:
    """Another mode, or another slope set, or `empty` of some element."""
    node = _pick(random, [node for node in _nodes(proof) if not node.children])
    record = node.ending
    kind = random.integers(4)
    if kind == 0 and record.op == LEAF and record.args[0] == BY_MULTIPLIERS and proof.sets:
        record.args[1] = int(random.integers(len(proof.sets)))
    elif kind == 1 and proof.tensors:
        node.ending = Record(EMPTY, [int(random.integers(len(proof.tensors))), int(random.integers(4))])
    else:
        node.ending = Record(LEAF, [int(random.integers(2))])


def change_derive(proof: Proof, random: Random) -> None:
    """Derive records appear (a `within` with the numbers of some record that multiplies), disappear, or change their order."""
    node = _pick(random, _nodes(proof))
    kind = random.integers(3)
    if kind == 0 and node.derive:
        node.derive.pop(int(random.integers(len(node.derive))))
    elif kind == 1:
        node.derive.reverse()
    else:
        op = int(random.choice([FORMS, CLIP, REFINE, WITHIN], p=[0.25, 0.25, 0.25, 0.25]))
        record = Record(op)
        if op == WITHIN and (donor := _pick(random, [r for n in _nodes(proof) for r in (*n.derive, n.ending) if r.gamma])) is not None:
            record = within(donor)
        node.derive.insert(int(random.integers(len(node.derive) + 1)), record)


def change_split(proof: Proof, random: Random) -> None:
    """Another threshold, element or tensor."""
    node = _pick(random, _splits(proof))
    if node is None:
        return
    record, kind = node.ending, random.integers(5)
    if kind == 0:
        record.threshold[0] = math.nextafter(record.threshold[0], float(random.choice([-math.inf, math.inf])))
    elif kind == 1:
        record.threshold[0] += float(random.standard_normal() * random.choice([1.0, 1e-3, 1e-9]))
    elif kind == 2:
        record.threshold[0] = float(random.choice(ODD))
    elif kind == 3:
        record.args[1] = max(0, record.args[1] + int(random.choice([-1, 1])))
    else:
        record.args[0] = int(random.integers(len(proof.tensors)))


def change_numbers(proof: Proof, random: Random) -> None:
    """Slopes, betas and gammas of one record."""
    records = [record for node in _nodes(proof) for record in (*node.derive, node.ending) if record.slope or record.beta or record.gamma]
    record = _pick(random, records)
    if record is None:
        return
    numbers = _pick(random, [x for x in (record.slope, record.beta, record.gamma) if x])
    sign = -1 if random.random() < 0.05 else 1
    for k in random.integers(0, len(numbers), int(random.integers(1, 4))).tolist():
        kind = random.integers(4)
        value = [numbers[k] + random.standard_normal() * 0.1, random.choice(ODD), numbers[k] * 2.0 ** random.integers(-40, 41), 0.0][kind]
        numbers[k] = sign * abs(float(value)) if numbers is not record.slope else float(value)


def change_cases(proof: Proof, random: Random) -> None:
    """Cases move between trees, stand twice, are left out, or change their numbers."""
    tree, other = _pick(random, proof.trees), _pick(random, proof.trees)
    kind = random.integers(5)
    if kind == 0:
        tree.cases, other.cases = other.cases, tree.cases
    elif kind == 1:
        tree.cases.append(other.cases[0])
    elif kind == 2 and len(proof.trees) > 1:
        proof.trees.remove(tree)
    elif kind == 3 and len(proof.trees) > 1 and tree is not other:
        other.cases += tree.cases
        proof.trees.remove(tree)
    else:
        tree.cases[0] = max(0, tree.cases[0] + int(random.choice([-1, 1])))


def change_program(proof: Proof, random: Random) -> None:
    """Bounds are made in another way."""
    _pick(random, proof.trees).program = int(random.integers(5))


def change_names(proof: Proof, random: Random) -> None:
    """Tensors change places or names in the table."""
    kind = random.integers(4)
    if len(proof.tensors) > 1 and kind < 2:
        i, j = random.choice(len(proof.tensors), 2, replace=False).tolist()
        proof.tensors[i], proof.tensors[j] = proof.tensors[j], proof.tensors[i]
    elif proof.tensors:
        entry = dict(_pick(random, proof.tensors))
        entry.update({"site": entry.get("site", 0) + 1} if kind == 2 else {"argument": 1 - entry.get("argument", 0)})
        proof.tensors[int(random.integers(len(proof.tensors)))] = entry


def change_sets(proof: Proof, random: Random) -> None:
    """Groups of a slope set: sides, elements, tensors, order."""
    groups = _pick(random, [groups for groups in proof.sets if groups])
    if groups is None:
        return
    k, kind = int(random.integers(len(groups))), random.integers(4)
    tensor, side, elements = groups[k]
    if kind == 0:
        groups[k] = tensor, 1 - side, elements
    elif kind == 1:
        groups[k] = tensor, side, elements[::-1]
    elif kind == 2:
        groups[k] = int(random.integers(len(proof.tensors))), side, elements
    else:
        groups[k] = tensor, side, [int(random.integers(2 * max(elements) + 2)) for _ in elements]


def change_shift(proof: Proof, random: Random) -> None:
    """Constants of softmax rows: far off, or one where there is no softmax."""
    if proof.shift:
        proof.shift[int(random.integers(len(proof.shift)))] += float(random.standard_normal() * random.choice([1.0, 100.0, 1e6]))
    elif random.random() < 0.1:
        proof.shift.append(0.0)


OF_TREES: tuple[Callable[[Proof, Random], None], ...] = (
    swap_children, drop_subtree, copy_subtree, change_leaf, change_derive, change_split, change_numbers, change_numbers, change_cases, change_program,
    change_names, change_sets, change_shift,
)  # fmt: skip


def changed(proof: Proof, random: Random) -> tuple[Proof, str]:
    """A copy with one to three changes, and their names."""
    proof = proof.copy()
    chosen = [OF_TREES[int(random.integers(len(OF_TREES)))] for _ in range(int(random.choice([1, 1, 2, 3])))]
    for change in chosen:
        change(proof, random)
    return proof, " ".join(change.__name__ for change in chosen)


# ---------------------------------------------------------------- columns and manifest


def changed_columns(columns: Mapping[str, Array], random: Random) -> dict[str, Array]:
    """One number of one column is another one, is gone, or stands there twice; or the column has another dtype."""
    found = {name: column.copy() for name, column in columns.items()}
    name = _pick(random, [name for name, column in found.items() if column.size])
    column, k = found[name], int(random.integers(found[name].size))
    kind = random.integers(5)
    if kind == 0:
        found[name] = np.delete(column, k)
    elif kind == 1:
        found[name] = np.insert(column, k, column[k])
    elif kind == 2 and name in ("slope", "beta"):
        with np.errstate(over="ignore"):
            found[name] = column.astype("<f4" if name == "beta" or random.random() < 0.5 else "<f2")
    elif column.dtype.kind == "f":
        column[k] = random.choice([*ODD, -column[k], column[k] * 1.01, math.nextafter(column[k], math.inf)])
    else:
        column[k] = max(0, int(column[k]) + int(random.choice([-2, -1, 1, 2])))
    return found


def changed_manifest(manifest: Mapping[str, Any], random: Random) -> tuple[dict[str, Any], str]:
    """Other hashes or semantics, and which."""
    key = str(random.choice(["model", "property", "semantics", "format"]))
    other: Any = manifest[key]
    if key == "semantics":
        other = str(random.choice([word for word in WORDS if word != manifest[key]]))
    elif key == "format":
        other = [0, 2, True, "1"][int(random.integers(4))]
    else:
        k = int(random.integers(64))
        other = other[:k] + "0123456789abcdef"[(int(other[k], 16) + 1) % 16] + other[k + 1 :]
        other = manifest["property" if key == "model" else "model"] if random.random() < 0.2 else other
    return {**manifest, key: other}, key


# ---------------------------------------------------------------- other networks


def transplanted(proof: Proof, subject: Subject, random: Random) -> Proof:
    """A certificate of another network or property, with the names, sizes and cases of this one."""
    proof = proof.copy()
    network = subject.network
    inputs = [{"input": name} for name in network.input_names]
    sites = [{"tensor": name, "site": k, "argument": 0} for name, k in network.sites]
    sizes = [network.nodes[i].size for i in network.inputs]
    sizes += [network.nodes[network.nodes[i].inputs[0]].size for i in network.sites.values()]
    names: list[dict[str, Any]] = [*inputs, *sites]
    number, seen_inputs, seen_sites = dict[int, int](), 0, 0
    for t, entry in enumerate(proof.tensors):
        if "input" in entry:
            number[t], seen_inputs = seen_inputs % len(inputs), seen_inputs + 1
        elif sites:
            number[t], seen_sites = len(inputs) + seen_sites % len(sites), seen_sites + 1
        else:
            number[t] = 0
    proof.tensors = names
    proof.sets = [_fitting(groups, number, sizes) for groups in proof.sets]
    trees, cases = proof.trees, range(len(subject.cases))
    proof.trees = [Tree([case], trees[case % len(trees)].program, copy.deepcopy(trees[case % len(trees)].root)) for case in cases]
    for tree in proof.trees:
        for node in tree.root.nodes():
            _refit(node, proof, number, sizes, subject.cases.atoms(tree.cases[0]), random)
    proof.shift = [0.0] * sum(softmax.rows for softmax in network.softmaxes)
    return proof


def _fitting(groups: list[tuple[int, int, list[int]]], number: Mapping[int, int], sizes: list[int]) -> list[tuple[int, int, list[int]]]:
    found: dict[tuple[int, int], list[int]] = {}
    for t, side, elements in groups:
        found[number[t], side] = sorted({e % sizes[number[t]] for e in elements} | set(found.get((number[t], side), [])))
    return [(t, side, elements) for (t, side), elements in found.items()]


def _refit(node: Node, proof: Proof, number: Mapping[int, int], sizes: list[int], atoms: int, random: Random) -> None:
    for record in (*node.derive, node.ending):
        if record.op in (SPLIT, EMPTY):
            t = number[record.args[0]]
            record.args[:] = [t, record.args[1] % sizes[t]]
        elif record.args and (record.op == WITHIN or (record.op == LEAF and record.args[0] == BY_MULTIPLIERS)):
            entries = sum(len(elements) for _, _, elements in proof.sets[record.args[-1]])
            record.slope = (record.slope * (entries // max(1, len(record.slope)) + 1))[:entries] if record.slope else [0.5] * entries
            record.gamma = (record.gamma * atoms)[:atoms]
        elif record.op not in (LEAF,) and record.args:  # rows
            t = number[record.args[0]]
            codes = sorted({code % (2 * sizes[t]) for code in record.args[3:]})
            entries = sum(len(elements) for _, _, elements in proof.sets[record.args[1]])
            record.args[:] = [t, record.args[1], len(codes), *codes]
            record.slope = [float(x) for x in random.random(entries * len(codes))]
