"""What was walked of parts of a proof is not walked again in the whole: exactly that, and nothing that only looks like it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.checker.build import Records, clip, forms, leaf, multipliers, rows, split
from tests.checker.random_certificates import drawn, grown
from tests.checker.test_walk import Scene, above
from tests.effort import examples
from verifier.checker import ledger, shares, tree, walk
from verifier.checker.bounds import Checker
from verifier.checker.certificate import Certificate
from verifier.checker.read_property import Cases
from verifier.checker.refusal import Rejected

Array = Any
X, H = 0, 1
BLOCK = 7


@dataclass(frozen=True)
class Whole:
    """A certificate, what it takes to walk it, and the forest of a changed one."""

    checker: Checker
    cases: Cases
    certificate: Certificate
    forest: tree.Forest
    grow: Callable[[Certificate], tree.Forest]

    def part(self, cut: Array) -> Whole:
        """Nothing is claimed of the nodes `cut` [nodes], and nothing is said of what is below."""
        found = without(self.certificate, self.forest, cut)
        return replace(self, certificate=found, forest=self.grow(found))

    def walk_part(self, entries: list[ledger.Entry]) -> None:
        entries.append(ledger.walk_part(entries, self.checker, self.cases, self.certificate, self.forest, BLOCK))

    def done_before(self, entries: list[ledger.Entry]) -> Array:
        return ledger.done_before(entries, self.certificate, self.forest)

    def refusal(self, entries: list[ledger.Entry], told: walk.Diagnose | None = None) -> str:
        """The rule that refuses, or "" if nothing does."""
        given = self.checker, self.cases, self.certificate, self.forest, BLOCK
        try:
            shares.check(1, *given, told, entries)
        except Rejected as refusal:
            return refusal.rule
        return ""

    def failed(self) -> set[int] | None:
        """The nodes that fail when all is walked, without halving boxes; None where the walk is refused at once."""
        found: set[int] = set()
        one = walk.Walk(self.checker, self.cases, self.certificate, self.forest, BLOCK, lambda node, *_: found.add(node))
        one.most_halved = 0
        try:
            one.count()
        except Rejected:
            return None
        return found


def without(certificate: Certificate, forest: tree.Forest, cut: Array) -> Certificate:
    """The certificate with the nodes `cut` as open leaves."""
    names = ("arg", "slope", "beta", "gamma")
    starts = {name: [*getattr(forest, f"{name}_at").tolist(), getattr(certificate, name).size] for name in names}
    kept: dict[str, list[Array]] = {name: [] for name in ("op", "threshold", *names)}
    node, split_number = 0, np.cumsum(forest.ending == tree.SPLIT)
    while node < len(forest.ending):
        first, last = forest.derive_range(node)[0], int(forest.record[node]) + 1
        if cut[node]:
            kept["op"].append(np.array([tree.LEAF], np.uint8))
            kept["arg"].append(np.array([tree.OPEN]))
            node = int(forest.end[node])
            continue
        kept["op"].append(certificate.op[first:last])
        for name in names:
            kept[name].append(getattr(certificate, name)[starts[name][first] : starts[name][last]])
        if forest.ending[node] == tree.SPLIT:
            kept["threshold"].append(certificate.threshold[split_number[node] - 1 : split_number[node]])
        node += 1
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(certificate, name)[:0], *parts]).astype(getattr(certificate, name).dtype) for name, parts in kept.items()
    }
    return replace(certificate, **columns)


def random_whole(seed: int) -> Whole | None:
    """A random certificate, good or bad; None where there is none."""
    if (found := drawn(Random(seed))) is None:
        return None
    problem, certificate = found

    def grow(one: Certificate) -> tree.Forest:
        return grown(problem, one)

    return Whole(Checker(problem.network, None), problem.cases, certificate, grow(certificate), grow)


def scene(records: Records, threshold: float = 4.5) -> Whole:
    made = Scene(cases=above(threshold))
    walker = made.tree(records).walk()

    def grow(one: Certificate) -> tree.Forest:
        return tree.grow(one, walker.cases, tree.sizes(one, made.network))

    return Whole(walker.checker, walker.cases, walker.certificate, walker.forest, grow)


def deep(levels: int, end: Records) -> Records:
    """A full tree of halves, in turn of the first and the second input, with forms everywhere."""

    def below(box: list[tuple[float, float]], level: int) -> Records:
        if level == levels:
            return end
        low, high = box[level % 2]
        middle = (low + high) / 2
        halves = [[side if k == level % 2 else whole for k, whole in enumerate(box)] for side in ((low, middle), (middle, high))]
        return forms() + split(X, level % 2, middle, *(below(half, level + 1) for half in halves))

    return below([(-1.0, 1.0)] * 2, 0)


def drawn_cut(r: np.random.Generator, share: float, nodes: int) -> Array:
    return r.random(nodes) < share


# ---------------------------------------------------------------- parts and the whole


@pytest.mark.parametrize("threshold", [2.2, 2.6, 4.5])
def test_each_part_goes_on_where_others_came_to(threshold: float) -> None:
    """Every node is walked once at most: the root in the first part, and nothing is left at the end."""
    whole, entries = scene(deep(5, leaf()), threshold), list[ledger.Entry]()
    for depth in (2, 3, 5, 6):
        part = whole.part(whole.forest.depth == depth)
        part.walk_part(entries)
        assert bool(entries[-1].done[0]) == (depth == 2)
    walked = np.stack([whole.done_before([entry]) for entry in entries])
    assert (walked.sum(0) <= 1).all() and not any(entry.left for entry in entries)
    assert (walked.sum(1)[:3] > 0).all() or threshold != 2.2
    assert whole.refusal(entries, lambda *_: None) == whole.refusal([], lambda *_: None)


def test_what_is_left_waits_for_a_part_that_speaks_of_it() -> None:
    whole, entries = scene(split(X, 0, 0.0, split(X, 1, 0.0, leaf(), leaf()), leaf())), list[ledger.Entry]()
    for cut, walked in (([1, 4], [0]), ([2, 3, 4], [1]), ([1], [4]), ([3], [2]), ([2], [3])):  # the third says nothing of 2 and 3, which are left
        part = whole.part(np.isin(np.arange(5), cut))
        part.walk_part(entries)
        before = whole.done_before([entries[-1]])
        assert np.flatnonzero(before).tolist() == walked
    assert whole.done_before(entries).all()


def test_leaves_that_fail_are_not_done_and_not_halved() -> None:
    """Over its halves each would be closed; in the whole it is."""
    whole, entries = scene(split(X, 0, -0.5, leaf(), split(X, 1, 0.0, leaf(), leaf())), threshold=2.4), list[ledger.Entry]()
    assert whole.failed() == {3, 4}
    whole.walk_part(entries)
    assert whole.done_before(entries).tolist() == [True, True, True, False, False]
    assert whole.refusal(entries, lambda *_: None) == "" == whole.refusal([], lambda *_: None)


def test_a_walk_whose_counts_do_not_agree_counts_for_nothing() -> None:
    forest = scene(split(X, 0, 0.25, leaf(), leaf())).forest
    walked = np.ones(3, dtype=bool)
    assert ledger.done(forest, walked, [], 3, 2).all() and ledger.done(forest, walked, [2], 3, 1).tolist() == [True, True, False]
    for failed, visited, closed in (([], 2, 2), ([], 3, 1), ([2], 3, 2), ([0], 3, 2)):
        assert not ledger.done(forest, walked, failed, visited, closed).any()


def test_what_is_closed_above_needs_nothing_below() -> None:
    whole, entries = scene(forms() + split(X, 0, 0.0, leaf(), leaf())), list[ledger.Entry]()
    part = whole.part(np.array([False, False, True]))
    part.walk_part(entries)
    assert not entries[-1].left and whole.done_before(entries).tolist() == [True, True, False]
    whole.walk_part(entries)  # nothing was left to go on with
    assert whole.done_before(entries).tolist() == [True, True, False] and whole.refusal(entries) == ""


# ---------------------------------------------------------------- what only looks the same

PATH = forms() + split(X, 0, 0.25, clip() + split(X, 1, 0.5, leaf(), leaf()), leaf())


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (PATH, 5),
        (forms() + split(X, 0, 0.125, clip() + split(X, 1, 0.5, leaf(), leaf()), leaf()), 0),
        (forms() + split(X, 1, 0.25, clip() + split(X, 1, 0.5, leaf(), leaf()), leaf()), 0),
        (split(X, 0, 0.25, split(X, 1, 0.5, leaf(), leaf()), leaf()), 0),
        (forms() + split(X, 0, 0.25, split(X, 1, 0.5, leaf(), leaf()), leaf()), 2),
        (forms() + split(X, 0, 0.25, clip() + split(X, 1, 0.25, leaf(), leaf()), leaf()), 2),
        (forms() + split(X, 0, 0.25, clip() + split(X, 1, 0.5, leaf(1), leaf()), leaf()), 4),
        (forms() + split(X, 0, 0.25, leaf(), clip() + split(X, 1, 0.5, leaf(), leaf())), 1),
        (forms() + split(H, 0, 0.25, clip() + split(X, 1, 0.5, leaf(), leaf()), leaf()), 0),
    ],
)
def test_other_records_are_walked(change: Records, kept: int) -> None:
    entries: list[ledger.Entry] = []
    scene(PATH).walk_part(entries)
    assert scene(change).done_before(entries).sum() == kept


@pytest.mark.parametrize("numbers", ["gamma", "slope", "beta", "arg"])
def test_other_numbers_are_walked(numbers: str) -> None:
    def made(gamma: float = 1.0, slope: float = 0.5, beta: float = 0.25, arg: int = 0) -> Whole:
        found = Scene(cases=above(4.5))
        which = found.draft.slopes((H, 0, [0]))
        records = rows(H, which, [arg], [slope]) + split(H, 0, 0.0, multipliers(which, gamma=[gamma], slope=[slope], beta=[beta]), leaf())
        walker = found.tree(records).walk()
        return Whole(walker.checker, walker.cases, walker.certificate, walker.forest, lambda _: walker.forest)

    entries: list[ledger.Entry] = []
    made().walk_part(entries)
    assert made().done_before(entries).all()
    other = made(**{numbers: {"gamma": 2.0, "slope": 0.75, "beta": 0.5, "arg": 1}[numbers]})
    assert other.done_before(entries).tolist() == ([True, False, True] if numbers in ("gamma", "beta") else [False] * 3)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "0" * 64}, {"property": "0" * 64}, {"semantics": "float32"}, {"shift": np.ones(1)}, {"tensors": ()},
        {"set_count": np.zeros(0, np.int64)},
    ],
    ids=str,
)  # fmt: skip
def test_other_files_and_tables_are_walked(change: dict[str, Any]) -> None:
    whole, entries = scene(PATH), list[ledger.Entry]()
    whole.walk_part(entries)
    assert whole.done_before(entries).all()
    assert not replace(whole, certificate=replace(whole.certificate, **change)).done_before(entries).any()


def test_tables_may_grow() -> None:
    whole, entries = scene(PATH), list[ledger.Entry]()
    whole.walk_part(entries)
    one = whole.certificate
    longer = replace(one, set_count=np.append(one.set_count, 0), tensors=(*one.tensors, one.tensors[0]))
    assert replace(whole, certificate=longer).done_before(entries).all()


def test_trees_of_other_cases_and_programs_are_walked() -> None:
    def made(*trees: tuple[tuple[int, ...], int]) -> Whole:
        found = Scene(cases=above(4.5, 4.75))
        for cases, program in trees:
            found.tree(leaf(), cases, program)
        walker = found.walk()
        return Whole(walker.checker, walker.cases, walker.certificate, walker.forest, lambda _: walker.forest)

    entries: list[ledger.Entry] = []
    made(((0,), 1), ((1,), 1)).walk_part(entries)
    assert made(((1,), 1), ((0,), 1)).done_before(entries).tolist() == [True, True]
    assert made(((1,), 0), ((0,), 1)).done_before(entries).tolist() == [False, True]
    assert made(((0, 1), 1)).done_before(entries).tolist() == [False]


def test_the_walk_itself_refuses_an_open_leaf() -> None:
    """Whoever calls it: nothing closes such a leaf."""
    assert Scene(cases=above(4.5)).tree(split(X, 0, 0.0, leaf(), leaf(3))).rule() == "no-rule"


def test_a_walk_in_parts_says_what_one_says() -> None:
    verdicts, resumed = set(), 0
    for seed in range(examples(60)):
        whole = random_whole(seed)
        if whole is None or (failed := whole.failed()) is None:
            continue
        r, entries = np.random.default_rng(seed), list[ledger.Entry]()
        try:
            for share in (0.5, 0.3, 0.1):
                whole.part(drawn_cut(r, share, len(whole.forest.ending))).walk_part(entries)
                resumed += sum(map(len, entries[0].left))
        except Rejected:
            continue
        before = whole.done_before(entries)
        assert not before[list(failed)].any(), seed
        told: set[int] = set()
        rule = whole.refusal(entries, lambda node, *_, told=told: told.add(node))
        assert rule == whole.refusal([], lambda *_: None), seed
        verdicts.add((rule, bool(before.any()), bool(before.all())))
    assert resumed and {("", True, True), ("", True, False), ("open", True, False)} <= verdicts


def test_below_a_failure_nothing_is_done_and_elsewhere_all_is() -> None:
    """An input that is not split inside its interval: what is below was not looked at, and the rest is not walked again in a better proof."""
    missed = split(X, 0, 0.5, leaf(), leaf())
    whole = scene(split(X, 0, 0.0, missed, split(X, 1, 0.0, leaf(), leaf())))
    entries: list[ledger.Entry] = []
    failed: list[int] = []
    assert whole.refusal(entries, lambda node, *_: failed.append(node)) == "open" and failed == [1]
    assert entries[0].done.tolist() == [True, False, False, False, True, True, True]
    better = scene(split(X, 0, 0.0, split(X, 0, -0.5, leaf(), leaf()), split(X, 1, 0.0, leaf(), leaf())))
    assert better.done_before(entries).tolist() == [True, False, False, False, True, True, True]
    assert better.refusal(entries) == ""
