"""Attribute and graph traps: what is read wrongly has the other truth, and both readings are what onnxruntime computes."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from benchmarks import formula
from benchmarks.soundness import rational
from benchmarks.soundness.families import attributes, graphs
from benchmarks.soundness.instance import SuiteError
from benchmarks.soundness.net import Net
from benchmarks.soundness.traps import AFFINE, CONVEX, Built, Trap, build, executed, instance, instances_of, largest, variants

FAMILIES = {"attributes": attributes.TRAPS, "graphs": graphs.TRAPS}
EVERY = [pytest.param(family, trap, id=f"{family}_{trap.name}") for family, traps in FAMILIES.items() for trap in traps]


@pytest.mark.parametrize(("family", "trap"), EVERY)
def test_the_misreading_has_the_other_truth(family: str, trap: Trap) -> None:
    """At the file's own operators: exact rationals at all points where the score can be largest."""
    number, (hinge, sat) = len(trap.name) % 2, variants(trap)[len(trap.name) % 2]
    check(family, trap, number, hinge, sat, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("family", "trap"), EVERY)
def test_with_other_seeds(family: str, trap: Trap, seed: int) -> None:
    for number, (hinge, sat) in enumerate(variants(trap)):
        check(family, trap, number, hinge, sat, seed)


def check(family: str, trap: Trap, number: int, hinge: bool, sat: bool, seed: int) -> None:
    built = build(trap, seed, hinge, sat)
    made = instance(family, number, seed, built)
    _, (low, high) = largest(built.wrong, trap, built.hinge, built.box, built.property)
    assert high < 0 if sat else low > 0, f"misread, the margin is in [{float(low):g}, {float(high):g}]"
    assert made.real == made.float32 == ("sat" if sat else "unsat")
    agrees_with_onnxruntime(built)
    violation = formula.parse(made.property)
    for point in (built.box.lower, built.box.upper):  # the text says what the property of the proof says
        outputs = [low for low, _ in rational.enclose(built.right, point)]
        assert violation.formula.holds(list(point), outputs, exact_box=True) == built.property.violated(outputs)
    if made.planted is not None:
        assert violation.holds(made.planted.point, np.array(executed(built.right, [Fraction(float(v)) for v in made.planted.point])))


def agrees_with_onnxruntime(built: Built) -> None:
    middle = tuple((low + high) / 2 for low, high in zip(built.box.lower, built.box.upper, strict=True))
    for model in (built.right, built.wrong):
        for point in (built.box.lower, built.box.upper, middle):
            exact = [float(low) for low, _ in rational.enclose(model, point)]
            np.testing.assert_allclose(executed(model, point), exact, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize(("family", "least"), [("attributes", 130), ("graphs", 80)])
def test_both_truths_and_enough_of_them(family: str, least: int) -> None:
    truths = [sat for trap in FAMILIES[family] for _, sat in variants(trap)]
    assert len(truths) >= least and 0.4 < sum(truths) / len(truths) < 0.6
    names = [trap.name for trap in FAMILIES[family]]
    assert len(set(names)) == len(names)


def test_another_seed_is_another_network_of_the_same_truth() -> None:
    some = attributes.TRAPS[:2]
    first, again, other = (list(instances_of("attributes", some, seed)) for seed in (1, 1, 2))
    assert [i.model.SerializeToString() for i in first] == [i.model.SerializeToString() for i in again]
    assert [(i.name, i.real) for i in first] == [(i.name, i.real) for i in other]
    assert all(a.model.SerializeToString() != b.model.SerializeToString() for a, b in zip(first, other, strict=True))


def test_a_misreading_without_an_effect_is_refused() -> None:
    trap = Trap("same", "nothing is misread", ("Relu",), (1, 2), lambda net, x, wrong: net.node("Relu", x), CONVEX)
    with pytest.raises(SuiteError, match="no draw tells"):
        build(trap, 1, False, True)


def test_features_of_different_sizes_are_refused() -> None:
    def features(net: Net, x: str, wrong: bool) -> str:
        return net.node("Concat", x, x, axis=1) if wrong else x

    with pytest.raises(SuiteError, match="2 features, misread 4"):
        build(Trap("sizes", "a copy is made", ("Concat",), (1, 2), features, AFFINE), 1, False, True)


def test_a_wrong_truth_is_refused() -> None:
    built = build(graphs.TRAPS[0], 1, *variants(graphs.TRAPS[0])[0])
    wrong = Built(built.trap, built.hinge, not built.sat, built.right, built.wrong, built.box, built.property)
    with pytest.raises(SuiteError, match="the margin is in"):
        instance("graphs", 1, 1, wrong)
