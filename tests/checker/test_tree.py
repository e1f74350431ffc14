"""The stack machine: what it makes of honest streams, and one bad stream for every way to be refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.checker.build import Draft, Record, Records, clip, empty, forms, leaf, multipliers, pack, refine, rows, split, within
from tests.effort import examples
from verifier.checker import tree
from verifier.checker.certificate import Certificate, TensorName, read
from verifier.checker.refusal import Malformed
from verifier.checker.tree import Forest, grow

SIZES = [3, 4, 5]  # of the tensors X, a, b


@dataclass(frozen=True)
class Listed:
    """Cases by their boxes; case k has atom_counts[k] atoms."""

    boxes: tuple[int, ...] = (0,)
    atom_counts: tuple[int, ...] = (1,)
    empty: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.boxes)

    def atoms(self, case: int) -> int:
        return self.atom_counts[case]

    def box(self, case: int) -> int:
        return self.boxes[case]

    def vacuous(self, case: int) -> bool:
        return case in self.empty


def draft() -> Draft:
    found = Draft()
    found.input("X"), found.site("a"), found.site("b", 1, 1)
    return found


def grown(found: Draft, cases: Listed | None = None, sizes: list[int] = SIZES, **columns: Any) -> Forest:
    """The forest of a draft, some of its columns replaced."""
    data = pack(found.manifest(), {**found.columns(), **{name: np.array(v, found.dtypes[name]) for name, v in columns.items()}})
    return grow(read(data, 1 << 20), Listed() if cases is None else cases, sizes)


# -------------------------------------------------------------------- honest streams


@dataclass(frozen=True)
class Drawn:
    """A node as it was drawn, to be found again in the forest."""

    derived: tuple[Record, ...]
    ending: Record
    children: tuple[Drawn, ...]

    def records(self) -> Records:
        return [*self.derived, self.ending, *(record for child in self.children for record in child.records())]


numbers = st.floats(-4, 4, width=16)
SETS = (((1, 0, [0, 2]), (2, 1, [4])), (), ((2, 0, []),))
ENTRIES = (3, 0, 0)


@st.composite
def drawn(draw: Callable[..., Any], atoms: int, alone: bool, depth: int = 4, betas: int = 0) -> Drawn:
    """A node of a tree. `alone`: it holds one case, of `atoms` atoms, so that leaves may store multipliers."""
    derived: Records = []
    for kind in draw(st.lists(st.sampled_from("fckrw" if alone else "fckr"), max_size=2)):
        if kind == "r":
            t, which = draw(st.integers(1, 2)), draw(st.integers(0, 2))
            codes = draw(st.lists(st.integers(0, 2 * SIZES[t] - 1), min_size=1, max_size=4, unique=True))
            slope = draw(st.lists(numbers, min_size=ENTRIES[which] * len(codes), max_size=ENTRIES[which] * len(codes)))
            derived += rows(t, which, codes, slope)
        elif kind == "w":
            derived += within(*multiplied(draw, atoms, betas))
        else:
            derived += {"f": forms(), "c": clip(), "k": refine()}[kind]
    kind = draw(st.sampled_from("sssem01" if depth else "em01"))
    t = draw(st.integers(0, 2))
    element = draw(st.integers(0, SIZES[t] - 1))
    if kind == "s":
        below = draw(st.integers(0, depth - 1))
        children = tuple(draw(drawn(atoms, alone, below, betas + (t > 0))) for _ in range(2))
        return Drawn(tuple(derived), Record(0, (t, element), (draw(numbers),)), children)
    if kind == "e":
        return Drawn(tuple(derived), empty(t, element)[0], ())
    if kind == "m" and alone:
        return Drawn(tuple(derived), multipliers(*multiplied(draw, atoms, betas))[0], ())
    return Drawn(tuple(derived), leaf(int(kind == "1"))[0], ())


def multiplied(draw: Callable[..., Any], atoms: int, betas: int) -> tuple[int, list[float], list[float], list[float]]:
    """A slope set, and as many gammas, slopes and betas as a record needs."""
    which = draw(st.integers(0, 2))
    gamma, slope, beta = (draw(st.lists(numbers, min_size=n, max_size=n)) for n in (atoms, ENTRIES[which], betas))
    return which, [abs(x) for x in gamma], slope, [abs(x) for x in beta]


@st.composite
def forests(draw: Callable[..., Any]) -> tuple[Draft, Listed, list[Drawn]]:
    widths = draw(st.lists(st.integers(1, 3), max_size=4))
    count = sum(widths)
    boxes = [box for box, width in enumerate(widths) for _ in range(width)]
    atoms = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    vacuous = draw(st.booleans())
    cases = Listed((*boxes, *[9] * vacuous), (*atoms, *[1] * vacuous), frozenset({count} if vacuous else ()))
    found, trees = draft(), []
    for groups in SETS:
        found.slopes(*groups)
    for box, width in enumerate(widths):
        members = [case for case in range(count) if boxes[case] == box]
        node = draw(drawn(atoms[members[0]], width == 1))
        found.tree(draw(st.permutations(members)), node.records(), draw(st.integers(0, tree.PROGRAMS - 1)))
        trees.append(node)
    return found, cases, trees


@settings(max_examples=examples(80))
@given(forests())
def test_every_node_is_found_again(made: tuple[Draft, Listed, list[Drawn]]) -> None:
    """The recursive walk over what was drawn meets the nodes of the forest in preorder, each with its own numbers."""
    found, cases, trees = made
    data = read(found.bytes(), 1 << 20)
    forest = grow(data, cases, SIZES)
    number = 0

    def check(node: Drawn, parent: int, side: int, depth: int, at: int) -> None:
        nonlocal number
        me, ending = number, node.ending
        number += 1
        assert (forest.parent[me], forest.side[me], forest.depth[me], forest.tree[me], forest.ending[me]) == (parent, side, depth, at, ending.op)
        start, stop = forest.derive_range(me)
        assert forest.op[start:stop].tolist() == [record.op for record in node.derived] and forest.record[me] == stop
        for k, record in enumerate(node.derived, start):
            if record.op == tree.ROWS:
                t, which, codes, slope_at = forest.rows_record(k)
                assert (t, which, *codes) == (*record.args[:2], *record.args[3:])
                assert tuple(data.slope[slope_at : slope_at + len(codes) * forest.set_size[which]]) == record.slope
        for k, record in enumerate((*node.derived, ending), start):
            if record.op == tree.WITHIN or (record.op == tree.LEAF and len(record.args) == 2):
                assert forest.slope_set[k] == record.args[-1]
                for name, wanted in (("slope", record.slope), ("beta", record.beta), ("gamma", record.gamma)):
                    first = getattr(forest, f"{name}_at")[k]
                    assert tuple(getattr(data, name)[first : first + len(wanted)]) == wanted
            else:
                assert forest.slope_set[k] == -1
        if ending.op == tree.LEAF:
            assert (forest.mode[me], forest.tensor[me], forest.element[me]) == (ending.args[0], -1, -1)
        else:
            assert (forest.mode[me], forest.tensor[me], forest.element[me]) == (-1, *ending.args)
        if ending.op == tree.SPLIT:
            assert forest.threshold[me] == ending.threshold[0]
            assert forest.child_low[me] == number
            check(node.children[0], me, 1, depth + 1, at)
            assert forest.child_high[me] == number
            check(node.children[1], me, 2, depth + 1, at)
        else:
            assert (forest.child_low[me], forest.child_high[me]) == (-1, -1)

    for at, node in enumerate(trees):
        check(node, -1, 0, 0, at)
    assert number == len(forest.parent)
    assert forest.tree_cases.tolist() == [case for members, _, _ in found.trees for case in members]
    assert forest.tree_start.tolist() == np.cumsum([0, *(len(members) for members, _, _ in found.trees)]).tolist()
    assert forest.program.tolist() == [program for _, program, _ in found.trees]


@settings(max_examples=examples(40))
@given(forests())
def test_equal_signatures_mean_equal_records(made: tuple[Draft, Listed, list[Drawn]]) -> None:
    found, cases, _ = made
    forest = grown(found, cases)
    keys = [
        (int(forest.program[forest.tree[n]]), tuple(forest.op[slice(*forest.derive_range(n))].tolist()),
         tuple(forest.slope_set[slice(*forest.derive_range(n))].tolist()),
         int(forest.ending[n]), int(forest.mode[n]), int(forest.slope_set[forest.record[n]]))
        for n in range(len(forest.parent))
    ]  # fmt: skip
    assert len(set(keys)) == len(set(forest.signature.tolist())) == len(set(zip(keys, forest.signature.tolist(), strict=True)))


def test_signatures_tell_slope_sets_apart() -> None:
    found, which = draft(), (0, 0, 1, 1, 0, 2)
    for _ in range(3):
        found.slopes()
    records = leaf()
    for number in which[::-1]:
        records = split(0, 0, 0.5, multipliers(number, [1]), records)
    found.tree([0], records)
    forest = grown(found)
    stored = forest.slope_set[forest.record] >= 0
    assert forest.slope_set[forest.record[stored]].tolist() == list(which)
    keys = forest.signature[stored].tolist()
    assert [keys.index(key) for key in keys] == [which.index(number) for number in which]


def test_slope_sets() -> None:
    found = draft()
    for groups in SETS:
        found.slopes(*groups)
    found.tree([0], leaf())
    forest = grown(found)
    assert forest.set_size.tolist() == list(ENTRIES)
    assert [[(t, side, elements.tolist()) for t, side, elements in groups] for groups in forest.slope_sets] == [list(groups) for groups in SETS]


def test_nothing_to_prove() -> None:
    """All cases vacuous: no trees, no records."""
    assert grown(Draft(), Listed((0,), (1,), frozenset({0})), []).parent.size == 0


# -------------------------------------------------------------------- bad streams

UP = split(0, 0, 0.5, leaf(), leaf())
HALF = [Record(0, (0, 0), (0.5,)), *leaf()]
STREAMS: dict[str, tuple[str, Records]] = {
    "no ending": ("stream", []),
    "a missing child": ("stream", HALF),
    "derive records without an ending": ("stream", forms()),
    "derive records after the last tree": ("stream", leaf() + forms()),
    "two trees for one": ("stream", leaf() + leaf()),
    "a split after the last tree": ("stream", [*leaf(), Record(0)]),
    "an empty leaf after the last tree": ("stream", [*leaf(), Record(2)]),
    "a third child": ("stream", UP + leaf()),
    "an unknown record": ("stream", [Record(8), *leaf()]),
    "record 255": ("stream", [Record(255), *leaf()]),
    "a leaf without a mode": ("stream", [Record(1)]),
    "a leaf of mode 4": ("index", leaf(4)),
    "a split without an element": ("stream", [Record(0, (0,), (0.5,)), *leaf(), *leaf()]),
    "a split without a threshold": ("stream", [Record(0, (0, 0)), *leaf(), *leaf()]),
    "a threshold too many": ("stream", [Record(1, (0,), (0.5,))]),
    "a slope too many": ("stream", [Record(1, (0,), slope=(0.5,))]),
    "a beta too many": ("stream", [Record(1, (0,), beta=(0.5,))]),
    "a gamma too many": ("stream", [Record(1, (0,), gamma=(0.5,))]),
    "an argument too many": ("stream", [Record(1, (0, 0))]),
    "a split of tensor 3": ("stream", split(3, 0, 0.5, leaf(), leaf())),
    "a split of element 3 of 3": ("index", split(0, 3, 0.5, leaf(), leaf())),
    "an empty leaf of tensor 3": ("index", empty(3, 0)),
    "an empty leaf of element 5 of 5": ("index", empty(2, 5)),
    "multipliers of no slope set": ("index", multipliers(2, [1])),
    "no gamma": ("stream", multipliers(1, [])),
    "two gammas for one atom": ("stream", multipliers(1, [1, 2])),
    "no slopes": ("stream", multipliers(0, [1])),
    "a beta for a split of an input": ("stream", split(0, 0, 0.5, leaf(), multipliers(1, [1], beta=[1]))),
    "no beta for a split of a site": ("stream", split(1, 0, 0.5, leaf(), multipliers(1, [1]))),
    "a beta for the sibling": ("stream", split(0, 0, 0.5, split(1, 0, 0.5, leaf(), leaf()), multipliers(1, [1], beta=[1]))),
    "within by no slope set": ("index", within(2, [1]) + leaf()),
    "within without a slope set": ("stream", [*leaf(), Record(7)]),
    "within at the end": ("stream", leaf() + within(1, [1])),
    "within without a gamma": ("stream", within(1, []) + leaf()),
    "within with two gammas for one atom": ("stream", within(1, [1, 2]) + leaf()),
    "within without slopes": ("stream", within(0, [1]) + leaf()),
    "within with a beta for its own split": ("stream", within(1, [1], beta=[1]) + split(1, 0, 0.5, leaf(), leaf())),
    "within without a beta for a split above": ("stream", split(1, 0, 0.5, leaf(), within(1, [1]) + leaf())),
    "within with a beta for the sibling": ("stream", split(0, 0, 0.5, split(1, 0, 0.5, leaf(), leaf()), within(1, [1], beta=[1]) + leaf())),
    "rows of an input": ("stream", rows(0, 1, [0]) + leaf()),
    "rows of tensor 3": ("index", rows(3, 1, [0]) + leaf()),
    "rows by no slope set": ("index", rows(1, 2, [0]) + leaf()),
    "row 8 of 4 elements": ("index", rows(1, 1, [8]) + leaf()),
    "no rows": ("stream", rows(1, 1, []) + leaf()),
    "a row twice": ("stream", rows(1, 1, [3, 3]) + leaf()),
    "rows without slopes": ("stream", rows(1, 0, [3]) + leaf()),
    "fewer rows than announced": ("stream", [Record(6, (1, 1, 100, 0)), *leaf()]),
    "2^31 - 1 rows": ("stream", [Record(6, (1, 1, 2**31 - 1)), *leaf()]),
    "rows cut off": ("stream", [*leaf(), Record(6, (1,))]),
}


@pytest.mark.parametrize("name", STREAMS)
def test_bad_streams(name: str) -> None:
    rule, records = STREAMS[name]
    found = draft()
    found.slopes((1, 0, [0, 2]))
    found.slopes()
    found.tree([0], records)
    with pytest.raises(Malformed) as caught:
        grown(found)
    assert caught.value.rule == rule


@pytest.mark.parametrize("records", [multipliers(0, [1]), within(0, [1]) + leaf()])
def test_multipliers_need_a_tree_of_one_case(records: Records) -> None:
    found = draft()
    found.slopes()
    found.tree([0, 1], records)
    with pytest.raises(Malformed, match="trees of one case"):
        grown(found, Listed((0, 0), (1, 1)))


def test_the_path_has_a_limit() -> None:
    def deep(n: int) -> Draft:
        found = draft()
        found.tree([0], [Record(0, (0, 0), (0.5,))] * n + leaf() * (n + 1))
        return found

    assert grown(deep(tree.DEPTH)).depth.max() == tree.DEPTH == 10_000
    with pytest.raises(Malformed, match="depth"):
        grown(deep(tree.DEPTH + 1))


CASES: dict[str, list[list[int]]] = {
    "a case is missing": [[0], [1]],
    "a case stands twice": [[0], [1], [1], [2]],
    "a case stands twice in one tree": [[0, 0], [1], [2]],
    "a case that does not exist": [[0], [1], [2], [4]],
    "a vacuous case": [[0], [1], [2], [3]],
    "two boxes in one tree": [[0], [1, 2]],
    "a tree of no cases": [[0], [1], [2], []],
}


@pytest.mark.parametrize("name", CASES)
def test_every_case_stands_in_exactly_one_tree(name: str) -> None:
    found = draft()
    for members in CASES[name]:
        found.tree(members, leaf())
    with pytest.raises(Malformed, match="cases"):
        grown(found, Listed((0, 0, 1, 2), (1, 1, 1, 1), frozenset({3})))


@pytest.mark.parametrize(
    "columns", [{"tree_program": [8]}, {"tree_program": [0, 0]}, {"tree_count": [2]}, {"tree_count": []}, {"tree_count": [0, 1]}]
)
def test_the_columns_of_trees_fit(columns: dict[str, list[int]]) -> None:
    found = draft()
    found.tree([0], leaf())
    with pytest.raises(Malformed, match="cases"):
        grown(found, **columns)


BAD_SETS: dict[str, tuple[str, dict[str, list[int]]]] = {
    "a group too few": ("sets", {"set_count": [2], "set_site": [1, 0, 1], "set_element": [0]}),
    "a group cut off": ("sets", {"set_count": [1], "set_site": [1, 0], "set_element": []}),
    "an element too few": ("sets", {"set_count": [1], "set_site": [1, 0, 2], "set_element": [0]}),
    "an element too many": ("sets", {"set_count": [1], "set_site": [1, 0, 1], "set_element": [0, 1]}),
    "tensor 3": ("index", {"set_count": [1], "set_site": [3, 0, 1], "set_element": [0]}),
    "side 2": ("index", {"set_count": [1], "set_site": [1, 2, 1], "set_element": [0]}),
    "element 4 of 4": ("index", {"set_count": [1], "set_site": [1, 0, 1], "set_element": [4]}),
    "an element twice": ("sets", {"set_count": [1], "set_site": [1, 0, 2], "set_element": [3, 3]}),
    "a group twice": ("sets", {"set_count": [2], "set_site": [1, 0, 1, 1, 0, 1], "set_element": [3, 2]}),
}


@pytest.mark.parametrize("name", BAD_SETS)
def test_bad_slope_sets(name: str) -> None:
    rule, columns = BAD_SETS[name]
    found = draft()
    found.tree([0], leaf())
    with pytest.raises(Malformed) as caught:
        grown(found, **columns)
    assert caught.value.rule == rule


def test_the_same_element_in_two_sets_or_groups_is_fine() -> None:
    found = draft()
    found.slopes((1, 0, [3]), (1, 1, [3]), (2, 0, [3]))
    for _ in range(6):
        found.slopes((1, 0, [3]))
    found.tree([0], leaf())
    assert grown(found).set_size.tolist() == [3, 1, 1, 1, 1, 1, 1]


# -------------------------------------------------------------------- the tensors of the model


@dataclass(frozen=True)
class _Node:
    inputs: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class _Softmax:
    rows: int


@dataclass(frozen=True)
class _Network:
    """As much of a network as names need: X (3), a product of two tensors of 4 and 5, a function of the first."""

    nodes: tuple[_Node, ...] = (_Node((), 3), _Node((0,), 4), _Node((0,), 5), _Node((1, 2), 6), _Node((1,), 7))
    inputs: tuple[int, ...] = (0,)
    input_names: tuple[str, ...] = ("X",)
    softmaxes: tuple[_Softmax, ...] = (_Softmax(2), _Softmax(1))

    @property
    def sites(self) -> dict[tuple[str, int], int]:
        return {("p", 0): 3, ("f", 2): 4}


def _named(*names: TensorName, shifts: int = 3) -> list[int]:
    found = draft()
    found.tree([0], leaf())
    certificate: Certificate = replace(read(found.bytes(), 1 << 20), tensors=names, shift=np.zeros(shifts))
    return tree.sizes(certificate, _Network())  # type: ignore[arg-type]


def test_sizes_are_those_of_the_operand() -> None:
    names = (TensorName("input", "X"), TensorName("site", "p", 0, 0), TensorName("site", "p", 0, 1), TensorName("site", "f", 2, 0))
    assert _named(*names) == [3, 4, 5, 4]


@pytest.mark.parametrize(
    "name",
    [TensorName("input", "Y"), TensorName("input", "p"), TensorName("site", "X"), TensorName("site", "p", 1), TensorName("site", "f", 2, 1)],
)
def test_names_must_be_those_of_the_model(name: TensorName) -> None:
    with pytest.raises(Malformed, match="tensors"):
        _named(name)


@pytest.mark.parametrize("shifts", [0, 2, 4])
def test_every_softmax_row_has_a_shift(shifts: int) -> None:
    with pytest.raises(Malformed, match="shift"):
        _named(shifts=shifts)


# -------------------------------------------------------------------- size


def test_a_large_tree_is_read_quickly() -> None:
    """A quarter of a million records in well under the second that ten times as many may take."""
    records = leaf()
    for _ in range(17):
        records = [*forms(), Record(0, (0, 1), (0.25,)), *records, *records]
    found = draft()
    found.tree([0], records)
    data = read(found.bytes(), 1 << 24)
    start = time.process_time()
    assert len(grow(data, Listed(), SIZES).parent) == 2**18 - 1
    assert time.process_time() - start < 3
