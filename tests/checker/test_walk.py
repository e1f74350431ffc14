"""The loop over trees: what a leaf proves and what it pays, what is inherited, what is counted, and every refusal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.checker import small
from tests.checker.accounts import FLOOR, STEP, Accounts, exact, magnified, rounding, underflow
from tests.checker.build import Draft, Records, clip, empty, forms, leaf, multipliers, refine, rows, split
from tests.checker.make_corpus import PROPERTIES, TAMPERED, VALID
from tests.checker.random_networks import RELU, Array, random_box, random_network
from tests.checker.test_slack import TABLE
from tests.effort import examples
from verifier.checker import certificate as certificates
from verifier.checker import read_model, read_property, tree, walk
from verifier.checker.bounds import Checker
from verifier.checker.maps import Dense
from verifier.checker.network import Affine, Elementwise, Input, Network, Node, Product
from verifier.checker.read_property import Cases
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.checker.state import Forms, State
from verifier.checker.walk import Chunk, Diagnose, Walk

Atom = tuple[dict[int, float | Fraction], float]  # {place: coefficient} <= threshold; places are outputs, then inputs
Found = dict[int, float]  # node of the stream -> best value
BY_FORMS = 1
LOOSE = 2**40

pytestmark = pytest.mark.usefixtures("one_pass")  # tests/checker/test_halves.py is about the rest


def dense(i: int, weight: list[list[float]], bias: list[float] | None = None) -> Affine:
    return Affine("dense", (i,), (1, len(weight)), None, (Dense(np.array(weight)),), None if bias is None else np.array(bias))


def two_relus() -> Network:
    """y = relu(x0 + x1) + relu(x0 - x1) on [-1, 1]^2, in [0, 2]; intervals say y <= 4, a backward pass y <= x0 + 2."""
    relus = Elementwise("r", (1,), (1, 2), None, RELU)
    nodes = (Input("x", (), (1, 2), None, "X"), dense(0, [[1.0, 1.0], [1.0, -1.0]]), relus, dense(2, [[1.0, 1.0]]))
    return Network(nodes, (0,), (3,), ("X",), ("Y",), {("r", 0): 2}, ())


class Loose(Cases):
    """Cases whose coefficients may be further from the true ones, so that it shows."""

    def functionals(self, rows: Array) -> tuple[Array, Array, Array | None, Array | None]:
        outputs, inputs, *radii = super().functionals(rows)
        return (outputs, inputs, *(None if r is None else r * LOOSE for r in radii))  # type: ignore[return-value]


@dataclass
class Scene:
    """A property of a network, and a certificate being written. Cases are (box, atoms)."""

    network: Network = field(default_factory=two_relus)
    boxes: Sequence[tuple[Sequence[float], Sequence[float]]] = (((-1.0, -1.0), (1.0, 1.0)),)
    cases: Sequence[tuple[int, Sequence[Atom]]] = ()
    draft: Draft = field(default_factory=Draft)
    kind: type[Cases] = Cases

    def __post_init__(self) -> None:
        for name in self.network.input_names:
            self.draft.input(name)
        for name, site in self.network.sites:
            for argument in range(len(self.network.nodes[self.network.sites[name, site]].inputs)):
                self.draft.site(name, site, argument)
        self.draft.slopes()

    def list(self) -> Cases:
        atoms = [atom for _, found in self.cases for atom in found]
        lower, upper = (np.array([box[side] for box in self.boxes], dtype=np.float64) for side in (0, 1))
        start = np.cumsum([0, *(len(found) for _, found in self.cases)])
        rows = tuple(tuple((place, Fraction(a)) for place, a in sorted(atom[0].items())) for atom in atoms)
        distinct = tuple(dict.fromkeys(rows))
        n_out = sum(self.network.nodes[i].size for i in self.network.outputs)
        numbers = np.array([distinct.index(row) for row in rows], np.int64), np.array([d for _, d in atoms], dtype=np.float64)
        box = np.array([box for box, _ in self.cases], np.int64)
        return self.kind(lower.shape[1], n_out, lower, upper, np.zeros(len(lower), dtype=bool), box, start, *numbers, distinct, 0)

    def tree(self, records: Records, cases: Sequence[int] = (0,), program: int = 0) -> Scene:
        self.draft.tree(cases, records, program)
        return self

    def walk(self, block: int = 256, diagnose: Diagnose | None = None) -> Walk:
        certificate, cases = certificates.read(self.draft.bytes(), 1 << 20), self.list()
        forest = tree.grow(certificate, cases, tree.sizes(certificate, self.network))
        return Walk(Checker(self.network, None), cases, certificate, forest, block, diagnose)

    def rule(self, block: int = 256) -> str:
        """The rule that refuses, or "" if nothing does."""
        try:
            self.walk(block).run()
        except Rejected as refusal:
            return refusal.rule
        return ""

    def best(self, block: int = 256) -> Found:
        """The values of the leaves that are not closed."""
        found: Found = {}
        try:
            self.walk(block, lambda node, rule, value, *where: found.__setitem__(node, value)).run()
        except Rejected as refusal:
            if refusal.rule != "open":
                raise
        return found


def above(*thresholds: float) -> list[tuple[int, list[Atom]]]:
    """Cases y >= t, one for each t, all in the first box."""
    return [(0, [({0: -1.0}, -t)]) for t in thresholds]


X, H = 0, 1  # tensors of two_relus: the input, the operand of the ReLUs


# ---------------------------------------------------------------- the corpus, in process


def outcome(name: str, data: bytes) -> str:
    model, text = small.model(), PROPERTIES[name]
    certificate, network = certificates.read(data, 1 << 20), read_model.read(model)
    cases = read_property.bind(read_property.read(text), network)
    forest = tree.grow(certificate, cases, tree.sizes(certificate, network))
    try:
        walk.check(Checker(network, Slack(network, TABLE) if certificate.semantics == "float32" else None), cases, certificate, forest)
    except Rejected as refusal:
        return refusal.rule
    return ""


@pytest.mark.parametrize("name", VALID)
def test_proofs_are_accepted(name: str) -> None:
    assert outcome(*VALID[name]) == ""


@pytest.mark.parametrize("name", TAMPERED)
def test_what_only_looks_like_one_is_not(name: str) -> None:
    of, rule, data = TAMPERED[name]
    assert outcome(of, data) == rule


# ---------------------------------------------------------------- what a leaf pays


def near(got: float, wanted: Fraction, size: Fraction) -> bool:
    return abs(Fraction(got) - wanted) <= Fraction(1, 10**10) * (1 + size)


@dataclass(frozen=True)
class Step:
    """A split on the path to a leaf: operand `target` of a site, side 1 below the threshold, 2 above."""

    tensor: int
    target: int
    element: int
    threshold: float
    side: int


def drawn(seed: int, least: float = 100.0) -> tuple[Random, Scene, list[Step]]:
    """A network with a case of one to three atoms, and splits on its sites, as a path. Thresholds are 100 to 200, so that nothing can prove it,
    or from `least` on."""
    r = Random(seed)
    of = random_network(r, 6)
    lower, upper = random_box(r, of)
    places = range(of.nodes[of.outputs[0]].size + len(lower))
    atoms: list[Atom] = []
    for _ in range(r.randint(1, 3)):
        row = {r.choice(places): r.choice((1.0, -2.0, Fraction(1, 10), Fraction(-7, 3))) for _ in range(r.randint(1, 2))}
        atoms.append((row, r.uniform(least, 200)))
    if r.random() < 0.3:
        atoms.append((atoms[0][0], 300.0))
    scene = Scene(of, [(lower.tolist(), upper.tolist())], [(0, atoms)], kind=Loose)
    names = [(t, name) for t, name in enumerate(scene.draft.tensors) if "site" in name]
    sites = [(t, of.nodes[of.sites[name["tensor"], name["site"]]].inputs[name["argument"]]) for t, name in names]
    path = []
    for _ in range(r.randint(0, 3) if sites else 0):
        t, target = r.choice(sites)
        path.append(Step(t, target, r.randrange(of.nodes[target].size), r.uniform(-0.2, 0.2), r.randint(1, 2)))
    return r, scene, path


def along(path: list[Step], ending: Records) -> Records:
    """The ending at the end of the path; everything beside it is left to one backward pass each."""
    for step in reversed(path):
        ending = split(step.tensor, step.element, step.threshold, *((ending, leaf()) if step.side == 1 else (leaf(), ending)))
    return ending


def end_of(scene: Scene, path: list[Step]) -> int:
    """The number of the node at the end of the path."""
    forest, node = scene.walk().forest, 0
    for step in path:
        node = int((forest.child_low if step.side == 1 else forest.child_high)[node])
    return node


def accounts_at(scene: Scene, path: list[Step]) -> Accounts:
    """The kernel's state there, intersected with the path by hand."""
    of = scene.network
    cuts: dict[int, tuple[Array, Array]] = {}
    for step in path:
        n = of.nodes[step.target].size
        low, high = cuts.setdefault(step.target, (np.full((1, n), -np.inf), np.full((1, n), np.inf)))
        if step.side == 1:
            high[0, step.element] = min(high[0, step.element], step.threshold)
        else:
            low[0, step.element] = max(low[0, step.element], step.threshold)
    ends = (np.array([end]) for end in scene.boxes[0])
    return Accounts(of, Checker(of, None).state(1, *ends, {}, cuts, 0))


def by_node(of: Network, row: dict[int, float | Fraction]) -> tuple[dict[int, list[Fraction]], dict[int, list[Fraction]]]:
    """Coefficients of a functional as doubles, per node, and how far the true ones may be from them."""
    dense_row: dict[int, list[Fraction]] = {}
    radius: dict[int, list[Fraction]] = {}
    at = 0
    for i in (*of.outputs, *of.inputs):
        n = of.nodes[i].size
        values = [Fraction(row.get(at + k, 0)) for k in range(n)]
        near_ones = [Fraction(float(v)) for v in values]
        apart = [abs(a - b) for a, b in zip(values, near_ones, strict=True)]
        if any(near_ones):
            dense_row[i] = near_ones
        if any(apart):
            radius[i] = [Fraction(float(np.nextafter(float(e), np.inf))) * LOOSE if e else e for e in apart]
        at += n
    return dense_row, radius


def summed(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((abs(x) * y for x, y in zip(a, b, strict=True)), Fraction(0))


def paid(accounts: Accounts, row: dict[int, list[Fraction]], radius: dict[int, list[Fraction]], rows: int) -> Fraction:
    """The error that the bound of an atom begins with."""
    error = sum((rounding(2) * summed(d, accounts.large[i]) + underflow(rows, accounts.total[i]) for i, d in row.items()), Fraction(0))
    return error + sum(((1 + rounding(len(e))) * summed(e, accounts.large[i]) for i, e in radius.items()), Fraction(0))


def at_once(accounts: Accounts, row: dict[int, list[Fraction]], error: Fraction) -> Fraction:
    """The bound of an atom by the intervals of what it reads."""
    ends = [(a, *pair) for i, d in row.items() for a, pair in zip(d, zip(accounts.lower[i], accounts.upper[i], strict=True), strict=True)]
    value, size = sum((min(a * x, a * y) for a, x, y in ends), -error), sum((abs(a) * max(abs(x), abs(y)) for a, x, y in ends), error)
    return value - 2 * STEP - rounding(2 * len(ends) + 4) * size - underflow(2 * len(ends), sum((accounts.total[i] for i in row), Fraction(0)))


def test_a_leaf_by_bound_pays_what_arithmetic_says() -> None:
    checked = 0
    for seed in range(60):
        _, scene, path = drawn(seed)
        if any(step.target in scene.network.inputs for step in path):
            continue  # forms are evaluated over the box, and not over what a split on an input, as an operand, leaves of it
        scene.tree(along(path, leaf()))
        try:
            with magnified():
                best, accounts = scene.best(1), accounts_at(scene, path)
        except Rejected:  # a logarithm of what is not positive
            continue
        node, atoms = end_of(scene, path), scene.cases[0][1]
        if node not in best:
            continue
        distinct = [by_node(scene.network, dict(row)) for row in dict.fromkeys(tuple(sorted(row.items())) for row, _ in atoms)]
        used = [set().union(*(found[k].keys() for found in distinct)) for k in (0, 1)]
        wanted = []
        for row, threshold in atoms:
            start, radius = by_node(scene.network, row)
            full = {i: start.get(i, [Fraction(0)] * scene.network.nodes[i].size) for i in used[0]}
            error = paid(accounts, full, radius, len(distinct))
            value = max(accounts.lower_bound(full, error=error), at_once(accounts, full, error))
            wanted.append(value - Fraction(threshold))
        assert near(best[node], max(wanted), abs(max(wanted)) + accounts.error), seed
        checked += 1
    assert checked > 20


def test_a_leaf_by_multipliers_pays_what_arithmetic_says() -> None:
    checked = negative = 0
    for seed in range(examples(160, 60)):
        r, scene, path = drawn(seed, -60.0)
        atoms = scene.cases[0][1]
        gamma, beta = [r.choice((0.0, 1.0, r.uniform(0, 2))) for _ in atoms], [r.choice((0.0, r.uniform(0, 2))) for _ in path]
        scene.tree(along(path, multipliers(0, gamma=gamma, beta=beta)))
        try:
            with magnified():
                best, accounts = scene.best(1), accounts_at(scene, path)
        except Rejected:
            continue
        node = end_of(scene, path)
        if node not in best:
            continue
        wanted = multiplied(scene, path, accounts, [Fraction(x) for x in gamma], [Fraction(x) for x in beta])
        assert near(best[node], wanted, abs(wanted) + accounts.error), seed
        checked, negative = checked + 1, negative + any(x * d < 0 for x, (_, d) in zip(gamma, atoms, strict=True))
    assert checked > examples(40) and negative > 2


def multiplied(scene: Scene, path: list[Step], accounts: Accounts, gamma: list[Fraction], beta: list[Fraction]) -> Fraction:
    """ARITHMETIC 7, the start of a leaf."""
    of, atoms = scene.network, scene.cases[0][1]
    n, constant = len(atoms), -sum((x * Fraction(d) for x, (_, d) in zip(gamma, atoms, strict=True)), Fraction(0))
    error = rounding(n + 2) * (sum((x * abs(Fraction(d)) for x, (_, d) in zip(gamma, atoms, strict=True)), Fraction(0)) + FLOOR)
    start: dict[int, list[Fraction]] = {}
    large: dict[int, list[Fraction]] = {}
    for x, (row, _) in zip(gamma, atoms, strict=True):
        found, radius = by_node(of, row)
        for i, d in found.items():
            apart = radius.get(i, [Fraction(0)] * len(d))
            start[i] = [a + x * b for a, b in zip(start.get(i, [Fraction(0)] * len(d)), d, strict=True)]
            size = [rounding(n + 2) * x * abs(b) + (1 + rounding(n)) * x * e for b, e in zip(d, apart, strict=True)]
            large[i] = [a + b for a, b in zip(large.get(i, [Fraction(0)] * len(d)), size, strict=True)]
    error += sum((summed(size, accounts.large[i]) + underflow(n, accounts.total[i]) for i, size in large.items()), Fraction(0))
    total, n = abs(constant), len(path) + 2
    for i in dict.fromkeys(step.target for step in path):
        d = start.setdefault(i, [Fraction(0)] * of.nodes[i].size)
        size = [abs(a) for a in d]
        for step, b in zip(path, beta, strict=True):
            if step.target == i:
                sign = 1 if step.side == 1 else -1
                d[step.element] += sign * b
                size[step.element] += b
                constant -= sign * b * Fraction(step.threshold)
                total += abs(b * Fraction(step.threshold))
        error += rounding(n) * summed(size, accounts.large[i]) + underflow(n, accounts.total[i])
    error += rounding(n) * total if path else 0
    return accounts.lower_bound(start, constant=constant, error=error)


def test_a_leaf_by_forms_pays_what_arithmetic_says() -> None:
    """Forms made at the root, over the root's box, and evaluated over the half where the leaf is."""
    scene = Scene(cases=[(0, [({0: -1.0}, 9.0), ({0: 1.0, 1: 0.5}, 9.0)])])
    scene.tree(forms() + split(X, 1, 0.25, leaf(BY_FORMS), leaf()))
    with magnified():
        best, accounts = scene.best(1), accounts_at(scene, [])
        wanted = []
        for row, threshold in scene.cases[0][1]:
            start = {3: [Fraction(row[0])], 0: [Fraction(row.get(1, 0)), Fraction(0)]}
            accounts.lower_bound(start, error=paid(accounts, start, {}, 2))
            constant, d = accounts.constant - accounts.error - Fraction(threshold) - 2 * STEP, accounts.rows[0]
            lower, upper = (Fraction(-1), Fraction(-1)), (Fraction(1), Fraction(1, 4))
            value = constant + sum((min(a * x, a * y) for a, x, y in zip(d, lower, upper, strict=True)), Fraction(0))
            value -= 2 * STEP + rounding(8) * (summed(d, [Fraction(1)] * 2) + abs(constant)) + underflow(4, Fraction(2))
            wanted.append(value)
    assert near(best[1], max(wanted), Fraction(20))


# ---------------------------------------------------------------- what closes a leaf


def test_every_open_case_must_be_closed_by_an_atom_of_its_own() -> None:
    hard, easy = ({0: -1.0}, -1.5), ({0: -1.0}, -4.5)  # y >= 1.5 is possible, y >= 4.5 is not
    for cases, good in (
        ([[easy], [easy]], True), ([[easy], [hard]], False), ([[hard], [easy]], False), ([[hard, easy], [easy, hard]], True),
        ([[hard, hard], [easy]], False),
    ):  # fmt: skip
        for ending in (leaf(), forms() + leaf(BY_FORMS), clip_of(leaf())):
            scene = Scene(cases=[(0, atoms) for atoms in cases]).tree(ending, (0, 1))
            assert (scene.rule() == "") == good
        for order in ((0, 1), (1, 0)):
            scene = Scene(cases=[(0, atoms) for atoms in cases])
            assert (scene.tree(leaf(), order[:1]).tree(leaf(), order[1:]).rule() == "") == good


def clip_of(ending: Records) -> Records:
    return forms() + clip() + ending


def test_a_zero_bound_proves_nothing() -> None:
    """y >= 0 where y <= 0 can be shown, but not y < 0."""
    nodes = (Input("x", (), (1, 1), None, "X"), dense(0, [[0.0]]))
    scene = Scene(Network(nodes, (0,), (1,), ("X",), ("Y",), {}, ()), [((-1.0,), (1.0,))], above(0.0))
    assert scene.tree(leaf()).rule() == "leaf"
    zero = Scene(cases=above(4.5)).tree(multipliers(0, gamma=[0.0]))
    assert zero.rule() == "leaf"


def test_what_is_closed_above_is_closed_below() -> None:
    """Forms close the second case at the root; below, nothing about it need be proven. Its whole subtree is counted."""
    cases = above(1.0, 4.5)
    below = split(X, 0, 0.0, split(X, 1, 0.0, leaf(), leaf(BY_FORMS)), leaf())
    assert Scene(cases=cases).tree(forms() + below, (1,)).tree(leaf(), (0,)).rule() == "leaf"
    for first, second in (((1,), (0,)), ((0,), (1,))):
        scene = Scene(cases=above(4.5, 4.25)).tree(forms() + below, first).tree(clip_of(leaf(BY_FORMS)), second)
        done = scene.walk(1)
        done.run()
        assert (done.visited, done.closed, done.failed) == (6, 4, 0)
    again = Scene(cases=above(4.5)).tree(forms() + forms() + clip() + below)
    assert again.rule() == ""  # nothing is left to make forms of
    half = Scene(cases=above(2.45)).tree(forms() + split(X, 0, 0.4, *[clip() + split(X, 1, 0.125, leaf(BY_FORMS), leaf(BY_FORMS)) for _ in "ab"]))
    walked = half.walk()
    walked.most_halved = 0  # nor tried over quarters
    with pytest.raises(Rejected, match="leaf"):
        walked.run()  # in one batch, the lower half is closed by the forms of the root, the upper half stays open
    assert walked.closed >= 2
    zero, one = multipliers(0, gamma=[0.0]), multipliers(0, gamma=[1.0])
    for low, high, good in ((zero, one, True), (one, zero, False), (zero, zero, False)):
        stream = forms() + split(X, 0, 0.4, clip() + low, clip() + high)  # the same: only the upper half needs its multipliers
        assert (Scene(cases=above(2.5)).tree(stream).rule() == "") == good
    deep = Scene(cases=above(4.5)).tree(split(X, 0, 0.5, forms() + below, leaf()))
    walked = deep.walk()
    walked.run()
    assert (walked.visited, walked.closed) == (7, 4)


def test_forms_hold_below_and_newer_ones_replace_them() -> None:
    """y <= x0 + 2 by the forms of the root: x0 <= 0.4 then gives y <= 2.4; new ones at a split give more."""
    assert Scene(cases=above(2.45)).tree(forms() + split(X, 0, 0.4, leaf(BY_FORMS), split(X, 0, 0.9, leaf(), leaf()))).rule() == ""
    assert Scene(cases=above(2.35)).tree(forms() + split(X, 0, 0.4, leaf(BY_FORMS), leaf())).rule() == "leaf"
    assert Scene(cases=above(2.35)).tree(forms() + split(X, 0, 0.4, forms() + leaf(BY_FORMS), split(X, 0, 0.7, leaf(), leaf()))).rule() == ""


def test_forms_of_the_cases_that_are_open() -> None:
    """Three cases with atoms of their own; the middle one is closed by the forms of the root, the others need those of the halves."""
    cases = [(0, [({0: -1.0}, -2.9)]), (0, [({0: -1.0, 1: 1.0}, -4.1)]), (0, [({0: -1.0, 1: 0.5}, -2.9), ({0: 1.0}, 5.0)])]
    deeper = forms() + split(X, 0, 0.0, forms() + leaf(BY_FORMS), clip_of(leaf(BY_FORMS)))
    assert Scene(cases=cases).tree(deeper, (0, 1, 2)).rule() == ""
    assert Scene(cases=cases).tree(split(X, 0, 0.0, forms() + split(X, 1, 0.0, leaf(1), leaf(1)), leaf()), (0, 1, 2)).rule() == ""


def test_a_clipped_box_is_the_hull_over_cases_and_the_intersection_over_atoms() -> None:
    """Atoms on the inputs alone, which cut at known places; a leaf over what is left shows how large that is."""
    def atom(place: int, sign: float, threshold: float) -> Atom:
        return {1 + place: sign}, threshold

    cut = (atom(0, 1.0, 0.25), atom(0, -1.0, 0.5), atom(1, 1.0, 0.0))  # -0.5 <= x0 <= 0.25, x1 <= 0
    for cases, lower, upper in (
        ([cut], [-0.5, -1.0], [0.25, 0.0]),
        ([cut[:1], cut[1:2]], [-1.0, -1.0], [1.0, 1.0]),
        ([cut[:2], (atom(0, 1.0, 0.75), atom(0, -1.0, -0.5), atom(1, -1.0, 0.0))], [-0.5, -1.0], [0.75, 1.0]),
        ([(atom(0, 1.0, -2.0),), cut], [-0.5, -1.0], [0.25, 0.0]),
        ([(atom(0, 1.0, -0.25), atom(0, -1.0, -0.25)), cut], [-0.5, -1.0], [0.25, 0.0]),
    ):
        scene = Scene(cases=[(0, atoms) for atoms in cases]).tree(clip_of(leaf()), tuple(range(len(cases))))
        walker = scene.walk()
        (root,) = walker._roots()
        part = walker._clip(walker._forms(root))
        assert np.allclose(part.lower, [lower], rtol=0, atol=1e-9) and np.allclose(part.upper, [upper], rtol=0, atol=1e-9)
        assert (part.lower <= lower).all() and (part.upper >= upper).all()
        assert part.open_.sum() == len(cases) - (lower == [-0.5, -1.0] and len(cases) == 2 and upper[0] == 0.25)


def test_a_node_that_cuts_close_keeps_its_box() -> None:
    """It goes on in one batch with others, whose bounds must not become infinite."""
    walker = Scene(cases=[(0, [({1: 1.0}, -0.25), ({1: -1.0}, -0.25)])]).tree(clip_of(leaf())).walk()
    (root,) = walker._roots()
    part = walker._clip(walker._forms(root))
    assert not part.open_.any() and np.array_equal(part.lower, root.lower) and np.array_equal(part.upper, root.upper)


def test_contradicting_cuts_close_a_case_by_forms() -> None:
    apart: list[Atom] = [({1: 1.0}, -0.25), ({1: -1.0}, -0.25)]  # x0 <= -1/4 and x0 >= 1/4
    meet: list[Atom] = [({1: 1.0}, 0.25), ({1: -1.0}, -0.25)]
    for ending in (forms() + leaf(BY_FORMS), clip_of(leaf()), clip_of(leaf(BY_FORMS))):
        assert Scene(cases=[(0, apart)]).tree(ending).rule() == ""
        assert Scene(cases=[(0, meet)]).tree(ending).rule() == "leaf"


def test_multipliers_use_betas_of_splits_on_sites_only() -> None:
    """h0 <= 0 and h1 <= 0 and x0 >= 1/2: -(h0 + h1) = -2 x0 contradicts it. The input split in between has no beta."""
    for beta, good in (([1.0, 1.0], True), ([1.0, 0.0], False), ([0.0, 1.0], False)):
        stream = split(H, 0, 0.0, split(X, 0, 0.5, leaf(), split(H, 1, 0.0, multipliers(0, gamma=[0.0], beta=beta), leaf())), leaf())
        assert (end_of(Scene(cases=above(4.5)).tree(stream), [Step(H, 1, 0, 0.0, 1), Step(X, 0, 0, 0.5, 2), Step(H, 1, 1, 0.0, 1)]) in Scene(
            cases=above(4.5)
        ).tree(stream).best()) != good


def test_a_batch_of_multiplier_leaves_keeps_its_numbers_apart() -> None:
    """Two leaves of one signature in one part, of which each alone is good or bad: in any order the same leaves are open."""
    good, bad = multipliers(0, gamma=[1.0], beta=[0.0]), multipliers(0, gamma=[0.0], beta=[0.0])
    for ends in ((good, bad), (bad, good), (good, good), (bad, bad)):
        for block in (1, 256):
            scene = Scene(cases=above(4.5)).tree(split(H, 0, 0.25, *ends))
            assert set(scene.best(block)) == {k + 1 for k, ending in enumerate(ends) if ending is bad}


def test_slopes_are_those_of_their_element_and_side() -> None:
    """y <= relu upper planes: slopes 1/2 everywhere give y <= x0 + 2; others more. The lower ones do not matter for an upper bound."""
    for values, value in (([0.5, 0.5, 0.0], 3.0), ([1.0, 0.5, 0.0], 5.0), ([0.5, 0.75, 1.0], 4.0)):
        scene = Scene(cases=above(3.5))
        which = scene.draft.slopes((H, 1, [0, 1]), (H, 0, [1]))
        scene.tree(multipliers(which, gamma=[1.0], slope=values))
        best = scene.best()
        assert best == {} if value < 3.5 else abs(best[0] - (3.5 - value)) < 1e-9
    swapped = Scene(cases=above(3.5))
    which = swapped.draft.slopes((H, 0, [1]), (H, 1, [1, 0]))
    assert swapped.tree(multipliers(which, gamma=[1.0], slope=[5.0, 0.5, 0.5])).rule() == ""


def test_stored_slopes_are_ignored_where_the_function_is_a_line() -> None:
    scene = Scene(boxes=[((0.5, -0.25), (1.0, 0.25))], cases=above(2.5))
    which = scene.draft.slopes((H, 1, [0, 1]), (H, 0, [0, 1]))
    assert scene.tree(multipliers(which, gamma=[1.0], slope=[7.0, -9.0, 3.0, 100.0])).rule() == ""


def test_a_coefficient_that_rounds_to_nothing_is_paid_for() -> None:
    """1e-324 y <= -5e-300 is met by y = -1e25, though the coefficient is 0 in doubles; a large multiplier makes it matter."""
    nodes = (Input("x", (), (1, 1), None, "X"), dense(0, [[1e25]]))
    of = Network(nodes, (0,), (1,), ("X",), ("Y",), {}, ())
    cases: list[tuple[int, list[Atom]]] = [(0, [({0: Fraction(1, 10**324)}, -5e-300)])]
    assert Scene(of, [((-1.0,), (1.0,))], cases).tree(multipliers(0, gamma=[1e300])).rule() == "leaf"
    for ending in (leaf(), forms() + leaf(BY_FORMS)):
        assert Scene(of, [((-1.0,), (1.0,))], cases).tree(ending).rule() == "no-atoms"
    also = [*cases, (0, [({0: Fraction(1, 10**324)}, -5e-300), ({1: 1.0}, 2.0)])]
    assert Scene(of, [((-1.0,), (1.0,))], also).tree(leaf(), (1,)).tree(leaf(), (0,)).rule() in ("leaf", "no-atoms")


# ---------------------------------------------------------------- splits and boxes


def two_inputs() -> Network:
    """y = |a| + |b0| + 2 |b1| for inputs a [1] and b [2], by Products with themselves' signs left out: relu(v) + relu(-v)."""
    first, second = np.array([[1.0], [-1], [0], [0], [0], [0]]), np.array([[0.0, 0], [0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    nodes: tuple[Node, ...] = (
        Input("a", (), (1, 1), None, "A"), Input("b", (), (1, 2), None, "B"), Affine("h", (0, 1), (1, 6), None, (Dense(first), Dense(second))),
        Elementwise("r", (2,), (1, 6), None, RELU), dense(3, [[1.0, 1.0, 1.0, 1.0, 2.0, 2.0]]),
    )  # fmt: skip
    return Network(nodes, (0, 1), (4,), ("A", "B"), ("Y",), {("r", 0): 3}, ())


def test_an_input_is_split_by_its_name_and_element() -> None:
    """y <= -t is refuted where intervals show y >= ...: the only half that is open is the one around 0 of the coordinate that was split."""
    a, b = 0, 1
    for tensor, element, weight in ((a, 0, 1.0), (b, 0, 1.0), (b, 1, 2.0)):
        scene = Scene(two_inputs(), [((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))], [(0, [({0: 1.0}, 0.4 * weight)])])
        scene.tree(split(tensor, element, -0.5, leaf(), split(tensor, element, 0.5, leaf(), leaf())))
        best = scene.best()
        assert list(best) == [3] and abs(best[3] + 0.4 * weight) < 1e-9


def test_a_split_outside_is_diagnosed_with_all_below_it() -> None:
    """Of three splits in one batch two are outside their box; what is below the third is looked at."""
    bad = split(X, 0, 3.0, leaf(), split(X, 1, 0.0, leaf(), leaf()))
    good = split(X, 1, 0.5, leaf(), leaf())
    scene, found = Scene(cases=above(4.5)).tree(split(X, 1, 0.0, split(X, 1, -0.5, bad, bad), good)), []
    walked = scene.walk(diagnose=lambda *facts: found.append(facts))
    with pytest.raises(Rejected, match="open: 2 of 8 leaves are closed, 15 of 15 nodes"):
        walked.run()
    assert [(node, rule) for node, rule, *_ in found] == [(2, "threshold"), (7, "threshold")]
    assert [(low.tolist(), high.tolist()) for *_, low, high, _ in found] == [([-1, -1], [1, -0.5]), ([-1, -0.5], [1, 0])]
    only = Scene(cases=above(4.5)).tree(bad)
    assert list(only.best()) == [0]


def test_halves_are_closed_below_and_above_the_threshold() -> None:
    scene = Scene(cases=above(4.5)).tree(split(X, 1, 0.25, leaf(), leaf()))
    walker = scene.walk()
    (root,) = walker._roots()
    (children,) = walker._split(root)
    assert children.nodes.tolist() == [1, 2]
    assert [end[children.box].tolist() for end in (children.lower, children.upper)] == [[[-1, -1], [-1, 0.25]], [[1, 0.25], [1, 1]]]
    assert root.lower.tolist() == [[-1, -1]] and root.upper.tolist() == [[1, 1]]  # nothing of the parent has changed


def test_splits_of_different_inputs_in_one_batch() -> None:
    stream = split(X, 0, 0.0, split(X, 1, 0.5, leaf(), leaf()), split(X, 0, 0.5, leaf(), leaf()))
    boxes = {}
    for block in (1, 256):
        scene, seen = Scene(cases=above(4.5)).tree(stream), []
        walker = scene.walk(block)
        plain = walker._finish
        walker._finish = lambda part, seen=seen, plain=plain: (seen.append(part), plain(part))[1]  # type: ignore[method-assign]
        walker.run()
        found = {int(n): (*part.lower[b].tolist(), *part.upper[b].tolist()) for part in seen for n, b in zip(part.nodes, part.box, strict=True)}
        boxes[block] = found
    assert boxes[1] == boxes[256] == {
        0: (-1, -1, 1, 1), 1: (-1, -1, 0, 1), 2: (-1, -1, 0, 0.5), 3: (-1, 0.5, 0, 1), 4: (0, -1, 1, 1), 5: (0, -1, 0.5, 1), 6: (0.5, -1, 1, 1),
    }  # fmt: skip


@pytest.mark.parametrize("threshold", [-1.0, 1.0, -1.5, 7.0])
def test_an_input_is_split_strictly_inside(threshold: float) -> None:
    assert Scene(cases=above(4.5)).tree(split(X, 0, threshold, leaf(), leaf())).rule() == "threshold"
    below = split(X, 0, 0.25, split(X, 0, 0.25, leaf(), leaf()), leaf())
    assert Scene(cases=above(4.5)).tree(below).rule() == "threshold"
    assert Scene(cases=above(4.5)).tree(split(X, 0, 0.25, leaf(), split(X, 1, 0.25, leaf(), leaf()))).rule() == ""


def test_trees_of_several_boxes_and_widths() -> None:
    """Boxes in which y is at most 0.5, 4.5 and 4.5; trees with two cases and with one, mixed."""
    boxes = [((-1.0, -1.0), (1.0, 1.0)), ((0.0, 0.0), (0.25, 0.25)), ((-2.0, 0.0), (2.0, 0.25))]
    t = [({0: -1.0}, -4.25)], [({0: -1.0}, -0.7)], [({0: -1.0}, -0.75), ({0: -1.0}, -4.55)]
    cases = [(0, t[0]), (1, t[1]), (2, t[2]), (1, t[0]), (0, t[0])]
    for block in (1, 2, 256):
        scene = Scene(boxes=boxes, cases=cases).tree(leaf(), (1, 3)).tree(leaf(), (2,)).tree(leaf(), (4, 0))
        assert scene.rule(block) == ""
        bad = Scene(boxes=boxes, cases=[*cases[:4], (0, t[1])]).tree(leaf(), (1, 3)).tree(leaf(), (2,)).tree(leaf(), (4, 0))
        assert list(bad.best(block)) == [2]


def test_trees_that_begin_with_one_box_share_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a box under nothing is made once in a row; of another box, by another program, below a split or of a batch it is made again."""
    made: list[int] = []
    state = Checker.state

    def counted(self: Checker, batch: int, *rest: Any) -> State:
        made.append(batch)
        return state(self, batch, *rest)

    monkeypatch.setattr(Checker, "state", counted)
    boxes, deep = [((-1.0, -1.0), (1.0, 1.0)), ((0.0, 0.0), (0.25, 0.25))], split(H, 0, 0.0, leaf(), leaf())
    t = above(4.5, 4.25, 4.125)
    for trees, batches in (
        ([(leaf(), 0), (leaf(), 0), (leaf(), 0)], [1]), ([(leaf(), 0), (leaf(), 1), (leaf(), 0)], [1, 1, 1]),
        ([(refine() + leaf(), 1), (leaf(), 1), (leaf(), 0)], [1, 1, 1]), ([(leaf(), 0), (deep, 0), (leaf(), 0)], [2, 2]),
    ):  # fmt: skip
        scene = Scene(cases=t)
        for k, (stream, program) in enumerate(trees):
            scene.tree(stream, (k,), program)
        made.clear()
        scene.walk(1 if batches != [2, 2] else 2).run()
        assert sorted(made) == batches, trees
    made.clear()
    Scene(boxes=boxes, cases=[t[0], (1, t[1][1]), (0, t[2][1])]).tree(leaf(), (0,)).tree(leaf(), (1,)).tree(leaf(), (2,)).walk(1).run()
    assert made == [1, 1, 1]


def test_a_state_that_is_shared_stays_as_it_was() -> None:
    walker = Scene(cases=above(4.5)).tree(leaf()).walk()
    walker.mine = np.ones(1, dtype=bool)
    root = walker._roots()[0]
    first, lower = walker._state(root), [end.copy() for end in walker._state(root).lower]
    first.lower[-1], first.crossed = first.lower[-1] + 1, ~first.crossed
    first.charge.clear()
    second = walker._state(root)
    assert all(map(np.array_equal, second.lower, lower)) and not second.crossed.any() and second.charge


def test_chunks_that_go_together_are_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever waits: one scope, one number of cases, forms of the same functionals, and not too many nodes."""
    sizes: list[int] = []
    joined, process = walk._joined, Walk._process

    def checked(a: Chunk, b: Chunk) -> Chunk:
        assert a.known.keys() == b.known.keys() and a.open_.shape[1] == b.open_.shape[1] and a.rows.tolist() == b.rows.tolist()
        assert (a.forms is None) == (b.forms is None)
        return joined(a, b)

    monkeypatch.setattr(walk, "_joined", checked)
    monkeypatch.setattr(Walk, "_process", lambda self, chunk: (sizes.append(len(chunk)), process(self, chunk))[1])
    for seed in range(examples(40)):
        r = Random(seed)
        scene = Scene(cases=above(4.5, 4.25, 4.75, 5.0))
        for members in ((0, 2), (1,), (3,)):
            scene.tree(_any_tree(r, 4, ()), members, r.choice((0, 1)))
        for block in (1, 3, 5, 256):
            sizes.clear()
            try:
                scene.best(block)
            except Rejected as refusal:
                assert refusal.rule == "crossed"  # refined where splits contradict each other
            assert max(sizes) <= block


def _any_tree(r: Random, depth: int, at: tuple[float, ...]) -> Records:
    derived = [record for make in (forms, refine) if r.random() < 0.3 for record in make()]
    if not depth or r.random() < 0.3:
        return derived + leaf()
    threshold = r.choice([t for t in (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75) if t not in at])
    return derived + split(*r.choice(((H, 0, threshold), (H, 1, threshold))), *(_any_tree(r, depth - 1, (*at, threshold)) for _ in "ab"))


def test_trees_with_different_numbers_of_cases_stay_apart() -> None:
    for order in (((0, 1), (2,)), ((2,), (0, 1))):
        scene = Scene(cases=above(4.5, 4.25, 4.75))
        for members in order:
            scene.tree(leaf(), members)
        assert scene.rule() == ""


def test_chunks_are_not_larger_than_a_block() -> None:
    sizes: list[int] = []
    stream = split(X, 0, 0.0, *[split(X, 1, 0.0, *[split(X, 0, half, leaf(), leaf()) for _ in "ab"]) for half in (-0.5, 0.5)])
    scene = Scene(cases=above(4.5)).tree(stream)
    walker = scene.walk(3)
    plain = walker._process
    walker._process = lambda chunk: (sizes.append(len(chunk)), plain(chunk))[1]  # type: ignore[method-assign]
    walker.run()
    assert sum(sizes) == 15 and max(sizes) <= 3


# ---------------------------------------------------------------- what is inherited


def test_refined_bounds_hold_below_and_only_there() -> None:
    """h = z - z through two layers is 0: intervals alone do not know, backward bounds do. Refining on one side says nothing of the other."""
    nodes = (
        Input("x", (), (1, 1), None, "X"), dense(0, [[1.0], [1.0]]), dense(1, [[1.0, -1.0]]), Elementwise("r", (2,), (1, 1), None, RELU),
        Product("square", (3, 3), (1, 1), None), dense(4, [[1.0]]),
    )  # fmt: skip
    of = Network(nodes, (0,), (5,), ("X",), ("Y",), {("r", 0): 3, ("square", 0): 4}, ())
    x, h, r = 0, 1, 2

    def best(stream: Records, program: int = 0) -> list[int]:
        return list(Scene(of, [((-1.0,), (1.0,))], above(0.25)).tree(stream, program=program).best())

    assert best(leaf()) == [0] and best(leaf(), 1) == [] and best(refine() + leaf()) == []
    assert best(refine() + split(x, 0, 0.5, leaf(), split(x, 0, 0.75, leaf(), leaf()))) == []
    assert best(split(x, 0, 0.0, refine() + leaf(), leaf())) == [2]
    assert best(split(x, 0, 0.0, leaf(), refine() + leaf())) == [1]
    for codes in ([0], [1], [0, 1]):
        assert best(rows(h, 0, codes) + split(x, 0, 0.0, leaf(), leaf())) == []
    assert best(rows(h, 0, [1]) + rows(r, 0, [1]) + leaf()) == []
    assert best(refine() + rows(r, 0, [0]) + split(x, 0, 0.0, leaf(), leaf())) == []
    assert best(split(x, 0, 0.0, rows(h, 0, [1]) + leaf(), leaf())) == [2]


def test_bounds_of_later_nodes_survive_rows_of_earlier_ones() -> None:
    """`rows` of a first layer looks at nothing behind it; what was known of a second layer stays known."""
    walker = (scene := Scene(cases=above(4.5)).tree(leaf())).walk()
    (root,) = walker._roots()
    later = np.array([[0.25]]), np.array([[0.5]])
    state = Checker(scene.network, None).state(1, root.lower, root.upper, {}, {}, 0, last=1)
    kept = walker._known(replace(root, known={3: later, 1: later}), state)
    assert kept.known[3] is later and set(kept.known) == {1, 3} and kept.known[1][0].shape == (1, 2)
    assert not np.shares_memory(kept.known[1][0], state.lower[1])


def test_slopes_of_rows_go_to_their_row() -> None:
    """The second layer's bounds by two rows of slopes for the first layer: each side by its own."""
    nodes = (
        Input("x", (), (1, 1), None, "X"), dense(0, [[1.0]]), Elementwise("r", (1,), (1, 1), None, RELU),
        Elementwise("s", (2,), (1, 1), None, RELU), dense(3, [[1.0]]),
    )  # fmt: skip
    of = Network(nodes, (0,), (4,), ("X",), ("Y",), {("r", 0): 2, ("s", 0): 3}, ())
    for slopes, high in (([0.5, 0.5, 0.25, 0.25], 1.0), ([0.25, 0.25, 0.5, 0.5], 1.0), ([0.25, 0.25, 0.25, 0.75], 1.5)):
        scene = Scene(of, [((-1.0,), (1.0,))], above(4.5))
        which = scene.draft.slopes((1, 0, [0]), (1, 1, [0]))
        walker = scene.tree(rows(2, which, [1, 0], slopes) + leaf()).walk()
        (root,) = walker._roots()
        kept = walker._rows(root, 0)
        assert abs(float(kept.known[2][1][0, 0]) - min(high, 1.0)) < 1e-9


# ---------------------------------------------------------------- contradictions


def test_contradicting_splits_close_a_leaf_by_bounds_only_below_them() -> None:
    """h0 <= -1/2, then h0 >= 1/2: nothing is there, whatever the leaf says. Its sibling is something."""
    for ending in (leaf(), multipliers(0, gamma=[0.0], beta=[0.0, 0.0])):
        scene = Scene(cases=above(1.0)).tree(split(H, 0, -0.5, split(H, 0, 0.5, leaf(), ending), leaf()))
        assert set(scene.best()) == {2, 4}


def test_an_empty_leaf_names_the_element() -> None:
    def best(element: int, threshold: float = 3.0) -> list[int]:
        stream = split(H, 1, threshold, leaf(), empty(H, element))
        return list(Scene(cases=above(4.5)).tree(stream).best())

    assert best(1) == [] and best(0) == [2] and best(1, 1.5) == [2]
    scene = Scene(cases=above(4.5)).tree(split(X, 0, 0.5, split(H, 1, 3.0, leaf(), empty(H, 1)), split(H, 0, 3.0, leaf(), empty(H, 1))))
    assert list(scene.best()) == [6]  # one batch, two elements
    many = Scene(cases=above(4.5)).tree(split(X, 0, 0.5, split(H, 1, 3.0, leaf(), empty(H, 1)), split(H, 1, 1.0, leaf(), empty(H, 1))))
    assert list(many.best()) == [6]


def test_a_contradiction_without_a_split_is_a_defect() -> None:
    walker = Scene(cases=above(4.5)).tree(leaf()).walk()
    (root,) = walker._roots()
    with pytest.raises(Rejected, match="crossed"):
        walker._state(replace(root, known={1: (np.full((1, 2), 7.0), np.full((1, 2), 9.0))}))
    below = Scene(cases=above(4.5)).tree(split(H, 0, 3.0, leaf(), refine() + leaf()))
    assert below.rule() == "crossed"  # nothing is inherited from what is empty
    fine = Scene(cases=above(4.5)).tree(split(H, 0, 3.0, refine() + leaf(), leaf()))
    assert fine.rule() == ""


# ---------------------------------------------------------------- refusals


def test_refusals_of_records() -> None:
    assert Scene(cases=above(4.5)).tree(leaf(BY_FORMS)).rule() == "no-forms"
    assert Scene(cases=above(4.5)).tree(clip() + leaf()).rule() == "no-forms"
    assert Scene(cases=above(1.0)).tree(leaf()).rule() == "leaf"
    assert Scene(cases=[(0, [])]).tree(leaf()).rule() == "no-atoms"
    walker = Scene(cases=above(4.5)).tree(leaf()).walk()
    with pytest.raises(Rejected, match="no-rule"):
        walker._records(*walker._roots(), [9])  # which the stack machine lets nobody write


def test_slopes_of_what_has_none() -> None:
    scene = Scene(two_inputs(), [((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0))], above(9.5))
    which = scene.draft.slopes((0, 0, [0]))
    assert scene.tree(multipliers(which, gamma=[1.0], slope=[0.5])).rule() == "slopes"
    of = two_relus()
    product = Network((*of.nodes, Product("p", (3, 3), (1, 1), None)), (0,), (4,), ("X",), ("Y",), {("r", 0): 2, ("p", 0): 4}, ())
    scene = Scene(product, cases=above(9.5))
    which = scene.draft.slopes((2, 0, [0]))
    assert scene.tree(multipliers(which, gamma=[1.0], slope=[0.5])).rule() == "slopes"


def test_slopes_behind_the_rows_they_should_bound() -> None:
    nodes = (*two_relus().nodes, Elementwise("s", (3,), (1, 1), None, RELU))
    of = Network(nodes, (0,), (4,), ("X",), ("Y",), {("r", 0): 2, ("s", 0): 4}, ())
    scene = Scene(of, cases=above(4.5))
    which = scene.draft.slopes((0, 0, [0]))  # an input, and the last node is a function
    assert scene.tree(multipliers(which, gamma=[1.0], slope=[0.5])).rule() == "slopes"
    for codes, rule in (([0], "slopes"), ([1], "slopes")):
        scene = Scene(of, cases=above(4.5))
        which = scene.draft.slopes((2, 0, [0]))
        assert scene.tree(rows(1, which, codes, [0.5]) + leaf()).rule() == rule
    scene = Scene(of, cases=above(4.5))
    which = scene.draft.slopes((2, 0, [0]))
    assert scene.tree(rows(2, which, [0], [0.5]) + leaf()).rule() == ""  # the function itself comes later, its operand does not


def test_an_output_that_is_also_an_input() -> None:
    """Y_0 and X_0 are one tensor. One name in an atom is fine, both are refused where they meet."""
    of = Network((Input("x", (), (1, 2), None, "X"),), (0,), (0,), ("X",), ("Y",), {}, ())
    for row, rule in (({0: -1.0}, ""), ({2: -1.0}, ""), ({0: -1.0, 3: 1.0}, ""), ({0: -1.0, 2: 1.0}, "unsupported-property")):
        assert Scene(of, cases=[(0, [(row, -3.5)])]).tree(leaf()).rule() == rule
    apart = Scene(of, [((0.5, 2.0), (1.0, 3.0))], [(0, [({0: -1.0, 3: 1.0}, 0.9)])])  # x1 - y0 >= 1
    assert apart.tree(leaf()).rule() == ""


def test_counts_must_be_right() -> None:
    walker = Scene(cases=above(4.5)).tree(leaf()).walk()
    (root,) = walker._roots()
    with pytest.raises(Rejected, match="count"):
        walker._count(root, np.ones((1, 1), dtype=bool), np.zeros(1))
    walker.forest = replace(walker.forest, ending=np.full(1, 9))
    with pytest.raises(Rejected, match="no-rule"):
        walker._finish(root)
    for name in ("closed", "failed", "visited"):
        off = Scene(cases=above(4.5)).tree(leaf()).walk()
        setattr(off, name, 1)
        with pytest.raises(Rejected, match="open"):
            off.run()
    fewer = Scene(cases=above(4.5)).tree(leaf()).walk()
    fewer._roots = lambda: []  # type: ignore[method-assign]
    with pytest.raises(Rejected, match="open"):
        fewer.run()


def test_forms_must_be_of_the_atoms_they_close() -> None:
    """Which no certificate can bring about: forms are made for every open case."""
    walker = Scene(cases=above(1.0, 1.5)).tree(leaf(), (0, 1)).walk()
    (root,) = walker._roots()
    wrong = replace(root, rows=np.array([3]), forms=Forms(np.zeros((1, 1, 2)), np.ones((1, 1))))
    with pytest.raises(Rejected, match="no-forms"):
        walker._cut(wrong)


def test_diagnosis_goes_on_after_a_leaf_that_is_open() -> None:
    scene = Scene(cases=above(2.5)).tree(split(X, 0, 0.0, leaf(), split(X, 1, 0.0, leaf(), leaf())))
    found: list[tuple[Any, ...]] = []
    with pytest.raises(Rejected, match="1 of 3 leaves are closed, 5 of 5"):
        scene.walk(diagnose=lambda *facts: found.append(facts)).run()
    assert [(node, rule) for node, rule, *_ in found] == [(3, "leaf"), (4, "leaf")] and all(-1 < value < 0 for _, _, value, *_ in found)
    assert [(low.tolist(), high.tolist(), open_.tolist()) for *_, low, high, open_ in found] == [([0, -1], [1, 0], [0]), ([0, 0], [1, 1], [0])]
    with pytest.raises(Rejected, match=r"the best bound is -[0-9.e-]+, tree 0, node \d of the stream"):
        scene.walk().run()


# ---------------------------------------------------------------- chunks


def test_selected_nodes_keep_their_boxes_and_forms() -> None:
    ends = np.arange(6.0).reshape(3, 2)
    held = Forms(np.arange(8.0).reshape(4, 1, 2), np.arange(4.0).reshape(4, 1))
    known = {1: (ends[[0, 1, 2, 0]], ends[:1])}  # a row for each node, and one for all
    narrowed = np.array([True, False, False, True])
    chunk = Chunk(np.array([5, 6, 7, 8]), np.array([2, 0, 2, 1]), ends, ends + 10, np.eye(4, dtype=bool), held, np.array([0]), known, narrowed)
    part = chunk.select(np.array([0, 2, 3]))
    assert part.nodes.tolist() == [5, 7, 8] and part.lower[part.box].tolist() == [[4, 5], [4, 5], [2, 3]] and len(part.lower) == 2
    assert part.upper[part.box].tolist() == [[14, 15], [14, 15], [12, 13]] and part.open_.tolist() == np.eye(4, dtype=bool)[[0, 2, 3]].tolist()
    assert part.forms is not None and part.forms.constant.tolist() == [[0], [2], [3]] and part.forms.coefficients[1, 0].tolist() == [4, 5]
    assert part.known[1][0].tolist() == [[0, 1], [4, 5], [0, 1]] and part.known[1][1] is known[1][1] and part.narrowed.tolist() == [True, False, True]
    one = chunk.select(np.array([0, 2]))
    assert len(one.boxes()[0]) == 1 and [end.tolist() for end in part.boxes()] == [[[4, 5], [4, 5], [2, 3]], [[14, 15], [14, 15], [12, 13]]]


def test_children_share_boxes_where_no_input_is_split() -> None:
    walker = Scene(cases=above(4.5)).tree(forms() + split(H, 0, 0.0, leaf(), leaf())).walk()
    (root,) = walker._roots()
    (children,) = walker._split(walker._forms(replace(root, open_=np.ones((1, 1), dtype=bool))))
    assert len(children.lower) == 1 and children.box.tolist() == [0, 0] and children.forms is not None and len(children.forms.constant) == 2
    assert exact(children.forms.constant[0]) == exact(children.forms.constant[1])
