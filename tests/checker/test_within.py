"""The record `within`: no execution that violates the case is cut off, whatever the multipliers; what it proves, and what it pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest

from tests.checker import small, test_walk
from tests.checker.accounts import STEP, exact, magnified, rounding, underflow
from tests.checker.build import Draft, Records, clip, empty, forms, leaf, multipliers, refine, rows, split, within
from tests.checker.random_networks import RELU, Array, random_box, random_network, random_point
from tests.checker.test_slack import TABLE
from tests.checker.test_walk import Atom, H, Scene, X, above, dense, two_relus
from tests.checker.twins import box_of, same_state
from tests.effort import examples
from verifier.checker import arithmetic, bounds, certificate, exact_bounds, read_model, read_property, slopes, tree, walk
from verifier.checker import exact as exact_walk
from verifier.checker.bounds import Checker
from verifier.checker.exact_bounds import ExactBounds, Form
from verifier.checker.network import Elementwise, Input, Network
from verifier.checker.refusal import Rejected
from verifier.checker.slack import Slack
from verifier.checker.state import Forms
from verifier.checker.walk import Chunk, Walk

pytestmark = pytest.mark.usefixtures("one_pass")
Run = tuple[list[list[Fraction]], list[list[Fraction]]]  # enclosures of every node's elements
HOSTILE: dict[str, Callable[[Array], Array]] = {
    "nan": lambda m: m * np.nan,
    "infinite": lambda m: m + np.inf,
    "negative": lambda m: -m - 1,
    "one": lambda m: m * 0 + 1,
    "twice": lambda m: 2 * m,
    "tiny": lambda m: m * 0 + 2.0**-1070,
}


def plane(coefficients: list[float], constant: float) -> Forms:
    """One plane for one box."""
    return Forms(np.array([[coefficients]]), np.array([[constant]]))


# ---------------------------------------------------------------- no violation is cut off


@dataclass
class Drawn:
    """A network and a case that `witness` violates; splits (tensor, target, element, threshold, side) that the witness meets."""

    network: Network
    lower: Array
    upper: Array
    scene: Scene
    path: list[tuple[int, int, int, float, int]]
    runs: list[Run]

    def violates(self, run: Run, depth: int) -> bool:
        """Whether the run surely meets the first splits of the path and all atoms."""
        for _, target, element, threshold, side in self.path[:depth]:
            if not (run[1][target][element] <= threshold if side == 1 else run[0][target][element] >= threshold):
                return False
        return all(self.largest(row, run) <= Fraction(threshold) for row, threshold in self.scene.cases[0][1])

    def largest(self, row: dict[int, Any], run: Run) -> Fraction:
        """The left side of an atom, at most."""
        low, high = ([x for i in (*self.network.outputs, *self.network.inputs) for x in end[i]] for end in run)
        return sum((max(Fraction(a) * low[k], Fraction(a) * high[k]) for k, a in row.items()), Fraction(0))


def drawn(seed: int, samples: int = 24) -> Drawn | None:
    """None where not even the run of a point can be enclosed."""
    r = Random(seed)
    of = random_network(r, 5)
    lower, upper = random_box(r, of)
    try:
        twin = ExactBounds(of)
        points = [random_point(r, lower, upper)]
        points += [points[0] + (random_point(r, lower, upper) - points[0]) * r.choice((1.0, 0.5, 0.1)) for _ in range(samples)]
        points = [np.clip(point, lower, upper) for point in points]
        runs = [(state.lower, state.upper) for state in (twin.state(*[box_of(of, point)] * 2) for point in points)]
    except Rejected:
        return None
    places = of.nodes[of.outputs[0]].size + len(lower)
    found = Drawn(of, lower, upper, Scene(of, [(lower.tolist(), upper.tolist())]), [], runs)
    atoms: list[Atom] = []
    for _ in range(r.randint(1, 2)):
        row = {r.randrange(places): r.choice((1.0, -1.0, r.uniform(-2, 2))) for _ in range(r.randint(1, 2))}
        atoms.append((row, float(np.nextafter(float(found.largest(dict(row), runs[0])), np.inf)) + r.choice((0.0, 0.01, 0.3))))
    found.scene.cases = [(0, atoms)]
    sites = [(t, name) for t, name in enumerate(found.scene.draft.tensors) if "site" in name]
    for _ in range(r.randint(0, 2) if sites else 0):
        t, name = r.choice(sites)
        target = of.nodes[of.sites[name["tensor"], name["site"]]].inputs[name["argument"]]
        element = r.randrange(of.nodes[target].size)
        low, high = runs[0][0][target][element], runs[0][1][target][element]
        side = r.randint(1, 2)
        threshold = float(np.nextafter(float(high), np.inf)) + r.random() if side == 1 else float(np.nextafter(float(low), -np.inf)) - r.random()
        found.path.append((t, target, element, threshold, side))
    _write(r, found, atoms)
    return found


def _write(r: Random, found: Drawn, atoms: list[Atom]) -> None:
    """One tree: one or two `within` at each node of the path, by random multipliers."""
    draft, of = found.scene.draft, found.network
    groups = []
    for t, name in enumerate(draft.tensors):
        site = of.sites[name["tensor"], name["site"]] if "site" in name else -1
        if site >= 0 and isinstance(of.nodes[site], Elementwise):
            groups += [(t, side, list(range(of.nodes[site].size))) for side in (0, 1) if r.random() < 0.4]
    which, entries = draft.slopes(*groups), sum(len(elements) for _, _, elements in groups)

    def records(betas: int) -> Records:
        made: Records = []
        for _ in range(r.randint(1, 2)):
            gamma, beta = [r.choice((0.0, 1.0, r.uniform(0, 2))) for _ in atoms], [r.choice((0.0, r.uniform(0, 1))) for _ in range(betas)]
            made += within(which, gamma, [r.choice((0.0, 0.5, 1.0, r.uniform(-0.2, 1.2))) for _ in range(entries)], beta)
        return made

    ending = records(len(found.path)) + leaf()
    for depth, (t, _, element, threshold, side) in reversed(list(enumerate(found.path))):
        ending = records(depth) + split(t, element, threshold, *((ending, leaf()) if side == 1 else (leaf(), ending)))
    found.scene.tree(ending, program=r.choice((0, 1, 2, 3)))


def kept(found: Drawn) -> list[tuple[int, Chunk]]:
    """Depth and chunk after every `within` of the kernel; the certificate must be refused."""
    seen: list[tuple[int, Chunk]] = []
    walker = found.scene.walk(diagnose=lambda *_: None)
    original = walker._within

    def noted(part: Chunk, records: Array) -> Chunk:
        after = original(part, records)
        seen.append((int(walker.forest.depth[after.nodes[0]]), after))
        return after

    walker._within = noted  # type: ignore[method-assign]
    with pytest.raises(Rejected):
        walker.run()
    return seen


def holds(lower: list[Fraction], upper: list[Fraction], run: Run, i: int) -> bool:
    """Whether what a run may compute at node i is not surely outside the bounds."""
    return all(a <= x for a, x in zip(lower, run[1][i], strict=True)) and all(a >= x for a, x in zip(upper, run[0][i], strict=True))


def test_no_execution_that_violates_the_case_is_cut_off() -> None:
    checked = narrower = 0
    for seed in range(examples(110)):
        found = drawn(seed)
        if found is None:
            continue
        plain = Checker(found.network, None)
        for depth, part in kept(found):
            runs = [run for run in found.runs if found.violates(run, depth)]
            assert runs and part.open_.all(), seed
            state = plain.state(1, found.lower[None], found.upper[None], {}, {}, 0)
            for i, (low, high) in part.known.items():
                bottom, top = exact(low[0]), exact(high[0])
                narrower += int((high - low).sum() < 0.9 * (state.upper[i] - state.lower[i]).sum())
                assert all(holds(bottom, top, run, i) for run in runs), seed
                checked += len(runs)
    assert checked > examples(3000) and narrower > examples(100)


def test_the_exact_twin_cuts_off_no_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, exact_walk.Scene]] = []
    original = exact_walk.ExactWalk._within

    def noted(self: exact_walk.ExactWalk, node: int, scene: exact_walk.Scene, record: int) -> exact_walk.Scene:
        after = original(self, node, scene, record)
        seen.append((int(self.forest.depth[node]), after))
        return after

    monkeypatch.setattr(exact_walk.ExactWalk, "_within", noted)
    checked = 0
    for seed in range(examples(60)):
        found = drawn(seed, 8)
        if found is None:
            continue
        seen.clear()
        walker = found.scene.walk()
        with pytest.raises(Rejected):
            exact_walk.check(found.network, walker.cases, walker.certificate, walker.forest)
        for depth, scene in seen:
            assert scene.open_cases, seed
            for i, (low, high) in scene.inherited.items():
                runs = [run for run in found.runs if found.violates(run, depth)]
                assert all(holds(low, high, run, i) for run in runs), seed
                checked += len(runs)
    assert checked > examples(150)


@pytest.mark.parametrize("name", HOSTILE)
def test_the_heuristic_proves_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it says, violations stay, or there is a refusal."""
    monkeypatch.setattr(bounds, "multiplier", lambda *given: HOSTILE[name](slopes.multiplier(*given)))
    checked = 0
    for seed in range(examples(30)):
        found = drawn(seed, 6)
        for depth, part in [] if found is None else kept(found):
            assert found is not None
            runs = [run for run in found.runs if found.violates(run, depth)]
            for i, (low, high) in part.known.items():
                assert all(holds(exact(low[0]), exact(high[0]), run, i) for run in runs), seed
                checked += len(runs)
    assert checked > examples(100)


def test_planted_violations_are_never_proven() -> None:
    """Several `within` on every node of a tree, multipliers by chance: a case that is violated somewhere stays open, in both arithmetics."""
    for seed in range(40):
        r = Random(seed)
        width, n = r.randint(2, 4), r.randint(1, 3)
        scene = Scene(_relus(r, n, width), [((-1.0,) * n, (1.0,) * n)])
        point = box_of(scene.network, np.array([r.uniform(-1, 1) for _ in range(n)]))
        y = ExactBounds(scene.network).state(point, point).lower[3][0]
        scene.cases = above(float(np.nextafter(float(y), -np.inf)))
        which = scene.draft.slopes((H, 0, list(range(width))), (H, 1, list(range(width))))
        scene.tree(_planted(r, which, width, 2, 0), program=r.choice((0, 1)))
        assert rules(scene) == ("leaf", "leaf"), seed


def _planted(r: Random, which: int, width: int, depth: int, betas: int) -> Records:
    made: Records = []
    for _ in range(r.randint(1, 3)):
        beta = [abs(r.gauss(0, 1)) for _ in range(betas)]
        made += within(which, [r.uniform(0, 2)], [r.choice((0.0, 1.0, r.random())) for _ in range(2 * width)], beta)
    if not depth:
        return made + leaf()
    children = (_planted(r, which, width, depth - 1, betas + 1) for _ in "ab")
    return made + split(H, r.randrange(width), r.choice((0.0, r.uniform(-0.3, 0.3))), *children)


def _relus(r: Random, n: int, width: int) -> Network:
    first, second = ([[r.choice((r.gauss(0, 1), 0.5)) for _ in range(m)] for _ in range(k)] for k, m in ((width, n), (1, width)))
    relus = Elementwise("r", (1,), (1, width), None, RELU)
    return Network((Input("x", (), (1, n), None, "X"), dense(0, first), relus, dense(2, second)), (0,), (3,), ("X",), ("Y",), {("r", 0): 2}, ())


# ---------------------------------------------------------------- what it proves


def rules(scene: Scene) -> tuple[str, str]:
    """What refuses, in the kernel and in its exact twin; "" where nothing does."""
    walker = scene.walk()
    try:
        exact_walk.check(scene.network, walker.cases, walker.certificate, walker.forest)
    except Rejected as refusal:
        return scene.rule(), refusal.rule
    return scene.rule(), ""


ONCE = within(0, [1.0])
PROOFS: dict[str, tuple[float, Records, Records]] = {  # y >= t is closed by these records, and not without those that follow
    "at the root": (2.5, ONCE + leaf(), leaf()),
    "by multipliers": (2.5, ONCE + multipliers(0, [1.0]), multipliers(0, [1.0])),
    "by forms": (2.5, ONCE + forms() + leaf(1), forms() + leaf(1)),
    "by clipping": (2.3, ONCE + forms() + clip() + leaf(), forms() + clip() + leaf()),
    "of another weight": (2.5, within(0, [2.0**-30]) + leaf(), within(0, [0.0]) + leaf()),
    "again and again": (2.2, ONCE * 3 + leaf(), ONCE + leaf()),
    "below a split of an input": (2.3, split(X, 1, 0.0, ONCE + leaf(), ONCE + leaf()), split(X, 1, 0.0, leaf(), leaf())),
    "above a split": (2.5, ONCE + split(X, 1, 0.0, leaf(), leaf()), split(X, 1, 0.0, leaf(), leaf())),
    "after the bounds of rows": (2.5, refine() + rows(H, 0, [0, 3]) + ONCE + leaf(), refine() + rows(H, 0, [0, 3]) + leaf()),
    "by itself": (4.5, within(0, [1.0]) + leaf(1), leaf(1)),  # the plane is positive all over the box: nothing is open, so nothing asks for forms
    "by betas": (
        2.5,
        split(X, 0, -0.5, split(H, 0, 0.0, leaf(), split(H, 1, 0.0, leaf(), within(0, [0.0], beta=[1, 1]) + leaf(1))), ONCE + leaf()),
        split(X, 0, -0.5, split(H, 0, 0.0, leaf(), split(H, 1, 0.0, leaf(), within(0, [0.0], beta=[1, 0]) + leaf(1))), ONCE + leaf()),
    ),
}


@pytest.mark.parametrize("name", PROOFS)
def test_certificates_that_need_it(name: str) -> None:
    threshold, good, bad = PROOFS[name]
    assert rules(Scene(cases=above(threshold)).tree(good)) == ("", "")
    refused = rules(Scene(cases=above(threshold)).tree(bad))
    assert refused[0] == refused[1] != ""
    assert rules(Scene(cases=above(1.99)).tree(good))[0] in ("leaf", "no-forms")  # y = 2 is there


def test_stored_slopes_are_those_of_the_plane() -> None:
    """-y >= -a (h0 + h1) + ...: upper slopes of 1 make a plane that says less."""
    for slopes_, rule in (([0.5, 0.5], ""), ([1.0, 1.0], "leaf")):
        scene = Scene(cases=above(2.5))
        which = scene.draft.slopes((H, 1, [0, 1]))
        assert rules(scene.tree(within(which, [1.0], slopes_) + leaf())) == (rule, rule)


def test_bounds_hold_in_the_subtree_and_nowhere_else() -> None:
    assert list(Scene(cases=above(2.5)).tree(split(X, 1, 0.0, ONCE + leaf(), leaf())).best()) == [2]
    assert list(Scene(cases=above(2.5)).tree(split(H, 1, 0.0, ONCE_BELOW + leaf(), leaf())).best()) == [2]
    one = Scene(cases=above(2.5, 2.5)).tree(ONCE + leaf(), (0,)).tree(leaf(), (1,))
    assert list(one.best()) == [1]  # the same box, the same atoms, another tree


ONCE_BELOW = within(0, [1.0], beta=[0.5])


def test_a_contradiction_closes_only_where_something_narrows_the_box() -> None:
    """Bounds that no rule gives are put in by hand."""
    scene = Scene(cases=above(4.0)).tree(ONCE + leaf())
    walker = scene.walk()
    (root,) = walker._roots()
    apart = {1: (np.full((1, 2), 7.0), np.full((1, 2), 9.0))}
    part = replace(root, known=apart)
    with pytest.raises(Rejected, match="crossed"):
        walker._within(part, np.array([0]))
    found = walker._within(replace(part, narrowed=np.ones(1, dtype=bool)), np.array([0]))
    assert not found.open_.any() and found.narrowed.all()


def test_what_contradicts_itself_is_closed() -> None:
    """y >= 2.02: each record leaves a narrower strip, until bounds cross or the plane is positive. Both ways close, `empty` too."""
    for records in (ONCE * 40 + leaf(1), ONCE * 40 + empty(H, 0), ONCE * 40 + refine() + leaf(1)):
        assert rules(Scene(cases=above(2.02)).tree(records)) == ("", "")
    assert rules(Scene(cases=above(1.98)).tree(ONCE * 40 + leaf())) == ("leaf", "leaf")


@pytest.mark.parametrize("semantics", ["real", "float32"])
def test_nodes_go_together_and_keep_their_own_bounds(semantics: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random trees, some nodes with bounds of their own: blocks of one node and large ones close the same leaves."""
    if semantics == "float32":
        monkeypatch.setattr(test_walk, "Checker", lambda network, _: Checker(network, Slack(network, TABLE)))
    several = 0
    for seed in range(30 if semantics == "real" else 16):
        r = Random(seed)
        scene = Scene(cases=above(2.05, 2.2, 2.6))
        for case in range(3):
            scene.tree(_mixed(r, 4, 0, ()), (case,), r.choice((0, 1)))
        try:
            found = [scene.best(block) for block in (1, 3, 256)]
        except Rejected as refusal:
            assert {_refusal(scene, block) for block in (1, 3, 256)} == {refusal.rule}
            continue
        assert found[0].keys() == found[1].keys() == found[2].keys()
        for node, value in found[0].items():
            assert all(value == other[node] or abs(value - other[node]) < 1e-12 for other in found[1:]), (seed, node)
        several += sum(value > -np.inf for value in found[0].values()) > 2
    assert several > 3


def _mixed(r: Random, depth: int, betas: int, at: tuple[float, ...]) -> Records:
    derived: Records = []
    for _ in range(r.choice((0, 0, 1, 2))):
        derived += within(0, [r.choice((1.0, 0.5))], beta=[r.choice((0.0, 0.3)) for _ in range(betas)])
    if depth > 2 or r.random() < 0.02:
        derived += refine() if r.random() < 0.1 else rows(H, 0, [r.randrange(4)]) if r.random() < 0.3 else []
    if not depth or r.random() < 0.1:
        return derived + leaf()
    threshold, t = r.choice([x for x in (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75) if x not in at]), r.choice((X, H, H, H))
    return derived + split(t, 1, threshold, *(_mixed(r, depth - 1, betas + t, (*at, threshold)) for _ in "ab"))


def _refusal(scene: Scene, block: int) -> str:
    with pytest.raises(Rejected) as caught:
        scene.best(block)
    return caught.value.rule


# ---------------------------------------------------------------- float32


def test_float32_executions_stay_within() -> None:
    """Y = 1.1 (relu + relu) computed in float32: what violates Y >= 2 has pre-activations within the bounds."""
    model, text = small.model(1.1), small.text("(>= Y_0 2)")
    draft = Draft(model, text, "float32")
    draft.input("X"), draft.site("r", 0)
    draft.slopes()
    draft.tree([0], ONCE * 3 + leaf())
    network = read_model.read(model)
    cases, data = read_property.bind(read_property.read(text), network), certificate.read(draft.bytes(), 1 << 20)
    walker = Walk(Checker(network, Slack(network, TABLE)), cases, data, tree.grow(data, cases, tree.sizes(data, network)), 8, None)
    (part,) = walker._roots()
    for record in range(3):
        part = walker._within(part, np.array([record]))
    ((low, high),) = (part.known[network.nodes[i].inputs[0]] for i in network.sites.values())
    assert low.min() > -0.5 and part.open_.all()
    x = np.random.default_rng(0).uniform(-1, 1, (20_000, 2)).astype(np.float32)
    x[:9, :] = [(a, b) for a in (1.0, 0.9090909, 0.9090910) for b in (-1.0, 0.0, 1.0)]
    h = np.stack([x[:, 0] + x[:, 1], x[:, 0] - x[:, 1]], 1)
    y = np.float32(1.1) * np.maximum(h, 0)[:, 0] + np.float32(1.1) * np.maximum(h, 0)[:, 1]
    bad = h[y >= 2]
    assert len(bad) > 100 and (bad >= low).all() and (bad <= high).all()


@pytest.mark.parametrize(("threshold", "accepted"), [(2.5, True), (1.99, False)])
def test_float32_certificates(threshold: float, accepted: bool) -> None:
    text = small.text(f"(>= Y_0 {threshold})")
    draft = Draft(small.model(), text, "float32")
    draft.input("X"), draft.site("r", 0)
    draft.slopes()
    draft.tree([0], ONCE + leaf())
    network = read_model.read(draft.model)
    cases, data = read_property.bind(read_property.read(text), network), certificate.read(draft.bytes(), 1 << 20)
    forest, slack = tree.grow(data, cases, tree.sizes(data, network)), Slack(network, TABLE)
    for check in (lambda: walk.check(Checker(network, slack), cases, data, forest), lambda: exact_walk.check(network, cases, data, forest, slack)):
        if accepted:
            check()
        else:
            with pytest.raises(Rejected, match="leaf"):
                check()


# ---------------------------------------------------------------- what it pays


def numbers(random: np.random.Generator, *shape: int) -> Array:
    """Of order one, with some that are 0 or tiny."""
    return np.asarray(random.normal(size=shape) * random.choice([0.0, 1.0, 1.0, 1.0, 1e-9], shape))


def test_a_tilted_form_pays_what_arithmetic_says(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        n = int(random.integers(1, 5))
        p, q, a, b, m = numbers(random, 1, 3, n), numbers(random, 1, 3), numbers(random, 1, 1, n), numbers(random, 1, 1), random.uniform(0, 3, (1, 3))
        lower = numbers(random, 1, n)
        upper = lower + random.uniform(0, 2, (1, n))
        monkeypatch.setattr(bounds, "multiplier", lambda *_, m=m: m)
        with magnified():
            found = Checker(two_relus(), None).tilted(Forms(p, q), Forms(a, b), lower, upper)
        h = [max(abs(x), abs(y)) for x, y in zip(exact(lower), exact(upper), strict=True)]
        for row in range(3):
            size = sum(((abs(x) + Fraction(m[0, row]) * abs(y)) * z for x, y, z in zip(exact(p[0, row]), exact(a), h, strict=True)), Fraction(0))
            wanted = Fraction(q[0, row]) + Fraction(m[0, row]) * Fraction(b[0, 0]) - 3 * STEP - rounding(2) * size - underflow(2 * n, sum(h))
            assert abs(Fraction(found.constant[0, row]) - wanted) < Fraction(1, 10**9)
            assert np.allclose(found.coefficients[0, row], p[0, row] + m[0, row] * a[0, 0], rtol=1e-15, atol=1e-300)


def over_plane(lower: Array, upper: Array, lines: Array, offsets: Array, a: Array, b: Array, m: Array) -> list[Fraction]:
    """The least of (lines + m a) . x + offsets + m b over one box, in rationals."""
    ends, tilt = list(zip(exact(lower), exact(upper), strict=True)), exact(a)
    found = []
    for row, offset, factor in zip(lines[0], offsets[0], m[0], strict=True):
        weight = Fraction(float(factor))
        value = Fraction(float(offset)) + weight * Fraction(b[0, 0])
        for x, t, (low, high) in zip(exact(row), tilt, ends, strict=True):
            c = x + weight * t
            value += min(c * low, c * high)
        found.append(value)
    return found


def _unpaid(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(arithmetic, "G", lambda m: 0.0)
    patch.setattr(arithmetic, "T", lambda m, magnitude: np.zeros(magnitude.shape[:-1]))
    patch.setattr(bounds, "dn", lambda x: x)


def test_rounding_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's value is never above the exact one for its own m; without error terms it soon is."""
    checker, random, caught = Checker(two_relus(), None), np.random.default_rng(1), 0
    for _ in range(60):
        n = int(random.integers(1, 6))
        scale = 2.0 ** random.integers(-8, 8, n)
        p, q, a, b = random.normal(size=(1, 8, n)) * scale, random.normal(size=(1, 8)), random.normal(size=(1, 1, n)) * scale, numbers(random, 1, 1)
        lower = random.normal(size=(1, n)) * 100
        upper = lower + random.uniform(0, 1, (1, n))
        m = random.uniform(0, 100, (1, 8))
        monkeypatch.setattr(bounds, "multiplier", lambda *_, m=m: m)
        least = over_plane(lower, upper, p, q, a, b, m)
        value = checker.evaluate(checker.tilted(Forms(p, q), Forms(a, b), lower, upper), lower, upper)[0]
        assert all(Fraction(float(v)) <= x for v, x in zip(value, least, strict=True))
        with monkeypatch.context() as patch:
            _unpaid(patch)
            value = checker.evaluate(checker.tilted(Forms(p, q), Forms(a, b), lower, upper), lower, upper)[0]
        caught += sum(Fraction(float(v)) > x for v, x in zip(value, least, strict=True))
    assert caught > 50


def test_the_tilt_of_a_form_is_paid_for_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Coefficients that cancel: p + m a is all rounding, and x is large. Only the tilt's own charge covers it."""
    checker, random, caught = Checker(two_relus(), None), np.random.default_rng(2), 0
    for _ in range(60):
        a, m = random.normal(size=(1, 1, 1)), random.uniform(1, 2, (1, 1))
        p, zero, at = -m[..., None] * a, np.zeros((1, 1)), np.full((1, 1), 2.0**60)
        monkeypatch.setattr(bounds, "multiplier", lambda *_, m=m: m)
        (least,) = over_plane(at, at, p, zero, a, zero, m)
        assert Fraction(float(checker.evaluate(checker.tilted(Forms(p, zero), Forms(a, zero), at, at), at, at)[0, 0])) <= least
        found = checker.tilted(Forms(p, zero), Forms(a, zero), at, at)
        caught += Fraction(float(checker.evaluate(Forms(found.coefficients, zero), at, at)[0, 0])) > least
    assert caught > 10


def test_both_arithmetics_on_one_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the same m, over the same state, the kernel is never above its exact twin, and hardly below."""
    for name in ("bounds", "exact_bounds"):
        monkeypatch.setattr({"bounds": bounds, "exact_bounds": exact_bounds}[name], "multiplier", lambda lines, *_: np.full(lines.shape[:2], 0.75))
    compared = 0
    for seed in range(examples(80)):
        r = Random(seed)
        of = random_network(r, 5)
        lower, upper = (end[None] for end in random_box(r, of))
        checker, twin = Checker(of, None), ExactBounds(of)
        try:
            state = checker.state(1, lower, upper, {}, {}, 1)
            over = plane([r.uniform(-1, 1) for _ in lower[0]], r.uniform(-1, 1))
            row: dict[int, dict[int, Fraction]] = {}
            for place, (at, i) in enumerate((node, e) for node in of.inputs for e in range(of.nodes[node].size)):
                row.setdefault(at, {})[i] = Fraction(over.coefficients[0, 0, place])
            line = Form(row, Fraction(over.constant[0, 0]))
            for k in checker.readers:
                values = checker.rows(state, k, np.arange(2 * of.nodes[k].size), {}, over)[0]
                for code, value in enumerate(values.tolist()):
                    same = same_state(of, state)
                    form = twin.form(same, {k: {code // 2: Fraction(1 - 2 * (code % 2))}})
                    wanted = twin._tilted(same, form, line).minimum(same.lower, same.upper)
                    assert Fraction(value) <= wanted and float(wanted) - value < 1e-9 * (1 + abs(value)), seed
                    compared += 1
        except Rejected:
            continue
    assert compared > examples(300)


# ---------------------------------------------------------------- the heuristic


def test_the_multiplier_is_the_best_of_all_turns() -> None:
    random, better = np.random.default_rng(3), 0
    for _ in range(200):
        n = int(random.integers(1, 6))
        p, a, b = numbers(random, 1, 4, n), numbers(random, 1, 1, n), numbers(random, 1, 1)
        lower = numbers(random, 1, n)
        upper = lower + random.choice([0.0, 1.0, 0.3], (1, n))
        m, zero = slopes.multiplier(p, a, b, lower, upper), np.zeros((1, 4))
        assert m.shape == (1, 4) and (m >= 0).all() and np.isfinite(m).all()
        got = over_plane(lower, upper, p, zero, a, b, m)
        if over_plane(lower, upper, zero[..., None] * a, zero, a, b, zero + 1)[0] > 0:
            continue  # nothing is left of the box: the larger m, the better
        with np.errstate(all="ignore"):
            turns = -p / a
        for k in range(n):
            other = np.where(np.isfinite(turns[..., k]) & (turns[..., k] > 0), turns[..., k], 0.0)
            for x, y in zip(got, over_plane(lower, upper, p, zero, a, b, other), strict=True):
                assert float(x) >= float(y) - 1e-9 * (1 + abs(float(y)))
        better += sum(x > y + Fraction(1, 100) for x, y in zip(got, over_plane(lower, upper, p, zero, a, b, zero), strict=True))
    assert better > 30
