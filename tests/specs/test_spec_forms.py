"""Evaluation at a point, the writer's round trip, and the builders."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specs.build import box, linf_box, output_range, targeted, untargeted
from specs.canonical import Atom, Case, Property, Variable
from specs.errors import PropertyError
from specs.evaluate import violated_case
from specs.vnnlib import parse, read
from specs.write import decimal, write
from tests.effort import examples

# --- evaluation --------------------------------------------------------------------------------------------------------------------


def test_the_two_membership_rules_differ_where_decimals_round():
    property = parse("(declare-const X_0 Real)(assert (and (>= X_0 0.1) (<= X_0 0.3)))")
    above, below = np.float32(0.1), np.float32(0.1) - np.float32(1e-8)
    assert Fraction(float(above)) > Fraction("0.1") > Fraction(float(below))
    for x, float_rule, exact_rule in [(np.float32(0.1), 0, 0), (below, None, None), (np.float32(0.3), 0, None)]:
        values = {"X": np.array([x])}
        assert violated_case(property, values, {}) == float_rule
        assert violated_case(property, values, {}, exact_box=True) == exact_rule


fractions = st.integers(-4, 4).map(lambda k: Fraction(k, 3))
intervals = st.lists(fractions, min_size=2, max_size=2).map(sorted)
boxes = st.lists(intervals, min_size=2, max_size=2).map(lambda b: box([p[0] for p in b], [p[1] for p in b]))
terms = st.tuples(st.sampled_from("XY"), st.integers(0, 1), fractions.filter(bool))
atoms = st.builds(Atom, st.lists(terms, min_size=1, max_size=2, unique_by=lambda t: t[:2]).map(tuple), fractions, st.booleans())
properties = st.lists(st.builds(Case, boxes.map(lambda b: (b,)), st.lists(atoms, max_size=2).map(tuple)), max_size=6).map(
    lambda cases: Property((Variable("X", (2,)),), (Variable("Y", (2,)),), tuple(cases))
)


@settings(max_examples=examples(300))
@given(properties, st.tuples(fractions, fractions), st.tuples(fractions, fractions))
def test_the_first_violated_case_is_found(property, x, y):
    values = {"X": x, "Y": y}
    expected = None
    for k, case in enumerate(property.cases):
        inside = all(case.boxes[0].lower[i] <= x[i] <= case.boxes[0].upper[i] for i in range(2))
        sums = [sum(c * values[t][i] for t, i, c in atom.terms) - atom.bound for atom in case.atoms]
        if inside and all(s < 0 if atom.strict else s <= 0 for s, atom in zip(sums, case.atoms, strict=True)):
            expected = k
            break
    assert violated_case(property, {"X": x}, {"Y": y}, exact_box=True) == expected


def test_values_that_are_no_numbers_are_refused():
    property = untargeted(box([0], [1]), 0, 2)
    good = {"Y": [Fraction(1), Fraction(0)]}
    for inputs, outputs in [({}, good), ({"X": [Fraction(0)]}, {}), ({"X": [Fraction(0)] * 2}, good), ({"X": np.array([np.nan])}, good)]:
        with pytest.raises(PropertyError):
            violated_case(property, inputs, outputs)
    with pytest.raises(PropertyError):
        violated_case(property, {"X": [Fraction(0)]}, {"Y": np.array([np.inf, 0])})


# --- writer ------------------------------------------------------------------------------------------------------------------------

decimals = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9).map(Fraction)
doubles = st.floats(allow_nan=False, allow_infinity=False, width=32).map(Fraction)


@settings(max_examples=examples(300))
@given(decimals | doubles)
def test_decimals_are_exact(value):
    assert Fraction(decimal(value)) == value and "e" not in decimal(value).lower()


def test_numbers_without_a_decimal_are_refused():
    for value in (Fraction(1, 3), Fraction(2) ** 128, Fraction(1, 2**9000)):
        with pytest.raises(PropertyError):
            decimal(value)


def meaning(property: Property):
    """Cases as comparable data."""
    return [
        (
            [(c.boxes[0].lower[i], c.boxes[0].upper[i]) for i in range(len(c.boxes[0].lower))],
            sorted((sorted(atom.terms), atom.bound, atom.strict) for atom in c.atoms),
        )
        for c in property.cases
    ]


eighths = st.integers(-9, 9).map(lambda k: Fraction(k, 8))
written_boxes = st.lists(st.lists(eighths, min_size=2, max_size=2).map(sorted), min_size=2, max_size=2).map(
    lambda b: box([p[0] for p in b], [p[1] for p in b])
)
output_terms = st.tuples(st.just("Y"), st.integers(0, 2), eighths.filter(bool) | st.sampled_from([Fraction(1), Fraction(-1)]))
mixed_terms = st.lists(output_terms, min_size=1, max_size=3, unique_by=lambda t: t[1]).flatmap(
    lambda ts: st.booleans().map(lambda more: (*ts, ("X", 1, Fraction(-3, 4))) if more else tuple(ts))
)
written_atoms = st.lists(st.builds(Atom, mixed_terms, eighths, st.booleans()), max_size=3).map(tuple)
shared = st.tuples(written_boxes, st.lists(written_atoms, max_size=4)).map(lambda p: [Case((p[0],), a) for a in p[1]])
separate = st.lists(st.builds(lambda b, a: Case((b,), a), written_boxes, written_atoms), max_size=4)


@settings(max_examples=examples(200))
@given(shared | separate)
def test_written_properties_read_back_as_the_same_cases(cases):
    property = Property((Variable("X", (2,)),), (Variable("Y", (3,)),), tuple(cases))
    text = write(property)
    assert all(line.startswith(("(assert ", "(declare-const ")) or not line for line in text.splitlines())
    back = parse(text)
    assert meaning(back) == meaning(property)
    assert (back.inputs, back.outputs) == (property.inputs, property.outputs)


def test_strict_input_bounds_survive_the_round_trip():
    head = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (and (>= X_0 0) (<= X_0 1)))"
    property = parse(head + "(assert (or (< X_0 0.5) (and (> X_0 0.75) (== Y_0 1))))")
    assert meaning(parse(write(property))) == meaning(property)


@pytest.mark.vnncomp
def test_real_properties_survive_the_round_trip(vnncomp_dir):
    for category in sorted(path for path in vnncomp_dir.iterdir() if path.is_dir()):
        smallest = min(category.rglob("*.vnnlib.gz"), key=lambda path: (path.stat().st_size, path.name))
        property = read(smallest)
        assert meaning(parse(write(property))) == meaning(property), smallest


# --- builders ----------------------------------------------------------------------------------------------------------------------


def test_numbers_of_numpy_and_torch_are_numbers():
    for point in (np.float32([0.25, 0.5]), torch.tensor([0.25, 0.5])):
        assert [*linf_box(point, "1/8").lower] == [Fraction(1, 8), Fraction(3, 8)]


def test_linf_boxes_are_exact_and_clipped():
    region = linf_box(["0.1", 0.95], "0.1", clip=(0, 1))
    assert (region.lower[0], region.upper[0]) == (0, Fraction(1, 5))
    assert (region.lower[1], region.upper[1]) == (Fraction(0.95) - Fraction(1, 10), 1)


scores = st.lists(st.integers(-2, 2), min_size=3, max_size=3)


@given(scores, st.integers(0, 2), st.integers(0, 2), st.booleans())
def test_robustness_says_what_it_should(y, label, target, ties_are_safe):
    region = box([0], [1])
    run = {"X": [Fraction(0)]}, {"Y": [Fraction(v) for v in y]}
    beats = [y[j] > y[label] or (y[j] == y[label] and not ties_are_safe) for j in range(3)]
    others = [beats[j] for j in range(3) if j != label]
    assert (violated_case(untargeted(region, label, 3, ties_are_safe=ties_are_safe), *run) is not None) == any(others)
    if target != label:
        assert (violated_case(targeted(region, label, target, 3, ties_are_safe=ties_are_safe), *run) == 0) == beats[target]


@given(st.integers(-3, 3), st.integers(-3, 3))
def test_output_ranges_include_their_ends(first, second):
    property = output_range(box([0], [1]), [-1, None], [1, 2])
    found = violated_case(property, {"X": [Fraction(1)]}, {"Y": [Fraction(first), Fraction(second)]})
    assert (found is not None) == (not (-1 <= first <= 1 and second <= 2))


def test_builders_refuse_what_makes_no_sense():
    region = box([0], [1])
    for build in (
        lambda: box([1], [0]),
        lambda: box([], []),
        lambda: box([0], [1, 2]),
        lambda: box([float("nan")], [1]),
        lambda: box(["zero"], [1]),
        lambda: linf_box([0.5], -1),
        lambda: linf_box(["1e999999999"], "0.1"),
        lambda: linf_box(["5_1"], "0.1"),
        lambda: box(["1/0"], [1]),
        lambda: box(np.zeros((1, 2)), np.ones((1, 2))),
        lambda: untargeted(box([0], [1]), "1", 3),
        lambda: output_range(box([0], [1]), [2], [1]),
        lambda: linf_box([5], 1, clip=(0, 1)),
        lambda: untargeted(region, 3, 3),
        lambda: targeted(region, 1, 1, 3),
        lambda: targeted(region, 1, -1, 3),
        lambda: output_range(region, [0], [1, 2]),
    ):
        with pytest.raises(PropertyError):
            build()
