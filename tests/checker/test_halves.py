"""A leaf that bounds over its box do not close may be closed over both halves of the box, and so on: what that proves, and where it ends."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace
from random import Random

import numpy as np
import pytest

from tests.checker.build import Records, empty, forms, leaf, multipliers, refine, split, within
from tests.checker.random_networks import random_box, random_network, random_point
from tests.checker.test_walk import BY_FORMS, Scene, above
from tests.checker.test_within import rules
from tests.checker.twins import box_of
from tests.effort import examples
from verifier.checker import exact, walk
from verifier.checker.exact_bounds import ExactBounds
from verifier.checker.refusal import Rejected

X, H = 0, 1


def limit(patch: pytest.MonkeyPatch, name: str, value: int) -> None:
    """In both arithmetics."""
    patch.setattr(walk, name, value)
    patch.setattr(exact, name, value)


@pytest.mark.parametrize("records", [leaf(), refine() + leaf(), split(H, 0, 0.25, leaf(), leaf()), split(X, 1, 0.5, leaf(), leaf())])
def test_halves_close_what_the_box_does_not(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    """y <= 2, a pass over the whole box says y <= 3."""
    assert rules(Scene(cases=above(2.5)).tree(records)) == ("", "")
    limit(monkeypatch, "LEVELS", 0)
    assert rules(Scene(cases=above(2.5)).tree(records)) == ("leaf", "leaf")


def test_leaves_that_forms_do_not_close_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plane over the whole box leaves both halves open; a pass over each half closes it, and so do passes over quarters."""
    scene = Scene(cases=above(2.5)).tree(forms() + split(X, 1, 0.5, leaf(BY_FORMS), leaf(BY_FORMS)))
    assert rules(scene) == ("", "")
    tried = scene.walk()
    tried.run()
    limit(monkeypatch, "MOST_HALVED", tried.halved)
    assert rules(scene) == ("", "")
    limit(monkeypatch, "MOST_HALVED", tried.halved - 1)
    assert rules(scene) == ("leaf", "leaf")
    assert tried.halved > 2
    limit(monkeypatch, "HALVED_OF", 2 / tried.halved)  # there are two leaves
    assert rules(scene) == ("", "")


def test_what_cannot_be_tried_again_is_not() -> None:
    for records, rule in (
        (leaf(BY_FORMS), "no-forms"), (multipliers(0, gamma=[1.0]), "leaf"), (split(H, 0, 1.0, leaf(), empty(H, 0)), "leaf"),
    ):  # fmt: skip
        assert rules(Scene(cases=above(2.5)).tree(records)) == (rule, rule)


def test_halving_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """y comes as near to 2 as one likes: five levels do not show y < 2.01, and each level shows more than the one before."""
    assert rules(Scene(cases=above(2.01)).tree(leaf())) == ("leaf", "leaf")
    shown = []
    for levels in range(8):
        limit(monkeypatch, "LEVELS", levels)
        shown.append(bisect_left(range(1, 200), True, key=lambda k: rules(Scene(cases=above(2 + k / 64)).tree(leaf())) == ("", "")))
    assert shown == sorted(shown, reverse=True) and shown[0] > shown[3] > shown[7]


def test_the_number_of_halvings_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all leaves of a certificate together."""
    scene = Scene(cases=above(2.25)).tree(split(X, 1, 0.5, leaf(), leaf()))
    done = scene.walk()
    done.run()
    assert 2 <= done.halved <= 40
    limit(monkeypatch, "MOST_HALVED", done.halved)
    assert rules(scene) == ("", "")
    limit(monkeypatch, "MOST_HALVED", done.halved - 1)
    assert rules(scene) == ("leaf", "leaf")


def test_what_is_violated_stays_open() -> None:
    """Wherever the violation is, in both arithmetics."""
    halved = 0
    for seed in range(examples(40)):
        r = Random(seed)
        network = random_network(r, 4)
        lower, upper = random_box(r, network)
        point = box_of(network, random_point(r, lower, upper))
        y = ExactBounds(network).state(point, point).lower[network.outputs[0]][0]
        scene = Scene(network, [(lower, upper)], above(float(np.nextafter(float(y), -np.inf)))).tree(leaf(), program=r.choice((0, 1)))
        assert "" not in rules(scene), seed
        walker = scene.walk()
        with pytest.raises(Rejected):
            walker.run()
        halved += walker.halved
    assert halved > examples(100)


def test_halves_cover_the_box_and_nothing_else() -> None:
    scene = Scene(cases=above(2.5)).tree(leaf())
    walker = scene.walk()
    rng = np.random.default_rng(0)
    (root,) = walker._roots()
    for _ in range(50):
        lower = np.round(rng.normal(size=(1, 2)), 2) * 2.0 ** rng.integers(-1074, 900)
        upper = lower + np.abs(np.round(rng.normal(size=(1, 2)), 1)) * 2.0 ** rng.integers(-1074, 900)
        twice = replace(root, lower=lower, upper=upper).select(np.array([0, 0]))
        halves = walker._halves(twice)
        (low, high), k = zip(halves.lower, halves.upper, strict=True), int((upper - lower).argmax())
        assert low[0][k] == lower[0, k] and high[1][k] == upper[0, k] and low[1][k] >= high[0][k]
        for half in (low, high):
            assert np.array_equal(np.delete(half[0], k), np.delete(lower[0], k)) and np.array_equal(np.delete(half[1], k), np.delete(upper[0], k))
        assert halves.narrowed.all()


def test_nodes_of_one_batch_are_halved_each_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four leaves two need halves; with room for one halving less than that takes, one of the two stays open."""
    tree = split(X, 0, 0.0, split(X, 1, 0.0, leaf(), leaf()), split(X, 1, 0.0, leaf(), leaf()))
    scene = Scene(cases=above(2.25)).tree(tree)
    done = scene.walk()
    done.run()
    limit(monkeypatch, "MOST_HALVED", done.halved - 1)
    short = scene.best()
    limit(monkeypatch, "LEVELS", 0)
    assert len(short) == 1 and len(scene.best()) == 2 and short.items() <= scene.best().items()  # the best value is that of the whole box


def test_bounds_in_force_hold_in_the_halves() -> None:
    """What `within` left of a neuron is not forgotten."""
    assert rules(Scene(cases=above(2.25)).tree(within(0, [1.0]) + leaf())) == ("", "")
