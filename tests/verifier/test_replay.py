"""Replay: the file's own execution decides, in exact rationals, over the float32 witness set."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from small_networks import decimal, linear, model, relu_net, text

from specs.errors import PropertyError
from tests.effort import examples
from verifier.exact import enclose_outputs, exact_outputs
from verifier.replay import Replayer

IDENTITY = [[1.0]]


def point(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(("relation", "violated"), [("<=", True), ("<", False)])
def test_a_tie_violates_only_a_non_strict_atom(relation: str, violated: bool) -> None:
    replayer = Replayer(linear(IDENTITY), text([("0", "1")], 1, f"({relation} Y_0 0.5)"))
    witness = replayer.judge([point(0.5)])
    assert (witness is not None) == violated
    below = replayer.judge([np.nextafter(point(0.5), np.float32(0))])
    assert below is not None and below.inputs[0] < 0.5


def test_a_box_without_any_float32_is_witnessed_at_the_nearest_one() -> None:
    witness = Replayer(linear(IDENTITY), text([("0.1", "0.1")], 1, "(>= Y_0 0.05)")).judge([point(0.1)])
    assert witness is not None
    assert witness.inputs == np.float32(0.1)
    assert not witness.inside_exact_box


def test_a_boundary_witness_moves_inside_the_exact_box() -> None:
    assert Fraction(float(np.float32(0.2))) > Fraction(2, 10)
    witness = Replayer(linear(IDENTITY), text([("0", "0.2")], 1, "(>= Y_0 0.1)")).judge([point(0.2)])
    assert witness is not None
    assert witness.inside_exact_box
    assert Fraction(float(witness.inputs[0])) <= Fraction(2, 10) < Fraction(float(np.nextafter(witness.inputs[0], np.float32(1))))


def test_a_boundary_witness_stays_where_its_neighbour_does_not_violate() -> None:
    witness = Replayer(linear(IDENTITY), text([("0", "0.2")], 1, f"(>= Y_0 {decimal(float(np.float32(0.2)))})")).judge([point(0.2)])
    assert witness is not None
    assert not witness.inside_exact_box
    assert witness.inputs[0] == np.float32(0.2)


def test_outside_the_witness_set_nothing_counts() -> None:
    replayer = Replayer(linear(IDENTITY), text([("0", "0.2")], 1, "(>= Y_0 0.1)"))
    assert replayer.judge([np.nextafter(point(0.2), np.float32(1)), point(-0.5), point(0.05)]) is None
    assert replayer.runs == 3


def test_the_first_violating_candidate_wins_after_failed_ones() -> None:
    witness = Replayer(linear(IDENTITY), text([("0", "1")], 1, "(>= Y_0 0.5)")).judge([point(0.1), point(0.75), point(0.8)])
    assert witness is not None
    assert witness.inputs[0] == np.float32(0.75)
    assert witness.outputs.tolist() == [0.75]


def test_an_infinite_output_never_counts() -> None:
    nodes = [helper.make_node("Mul", ["x", "a"], ["h"]), helper.make_node("Relu", ["h"], ["r"]), helper.make_node("Mul", ["r", "a"], ["y"])]
    overflowing = model(nodes, 1, 1, a=np.array([1e30]))
    replayer = Replayer(overflowing, text([("0", "1")], 1, "(>= Y_0 1.0)"))
    assert np.isinf(replayer.run(point(1.0)[None])).all()
    assert replayer.judge([point(1.0)]) is None


def test_candidates_must_be_finite_float32() -> None:
    replayer = Replayer(linear(IDENTITY), text([("0", "1")], 1, "(>= Y_0 0.5)"))
    for bad in (np.array([0.7]), point(np.nan), point(0.7, 0.7)):
        with pytest.raises(ValueError, match="candidate"):
            replayer.judge([bad])


def test_a_property_of_another_network_is_refused() -> None:
    with pytest.raises(PropertyError, match="2 input variables"):
        Replayer(linear(IDENTITY), text([("0", "1"), ("0", "1")], 1, "(>= Y_0 0.5)"))
    with pytest.raises(PropertyError, match="2 variables where the network has 1"):
        Replayer(linear(IDENTITY), text([("0", "1")], 2, "(>= Y_0 0.5)")).judge([point(0.7)])


def test_mixed_atoms_read_the_same_point() -> None:
    replayer = Replayer(linear([[2.0], [0.0]]), text([("0", "1"), ("0", "1")], 1, "(>= Y_0 (+ X_1 1.0))"))
    assert replayer.judge([point(0.5, 0.25)]) is None
    witness = replayer.judge([point(0.75, 0.25)])
    assert witness is not None and witness.case == 0


def absorbing() -> object:
    """y = relu(x + 2^30) - 2^30, which is x over [0, 1], and 0 in float32."""
    big = np.array([2.0**30])
    nodes = [helper.make_node("Add", ["x", "big"], ["h"]), helper.make_node("Relu", ["h"], ["r"]), helper.make_node("Sub", ["r", "big"], ["y"])]
    return model(nodes, 1, 1, big=big)


def test_a_violation_by_rounding_alone_is_named() -> None:
    witness = Replayer(absorbing(), text([("0.25", "1")], 1, "(<= Y_0 0.125)")).judge([point(0.5)])
    assert witness is not None
    assert witness.float32_only is True
    real = Replayer(absorbing(), text([("0", "1")], 1, "(<= Y_0 0.125)")).judge([point(0.0625)])
    assert real is not None
    assert real.float32_only is False


def test_a_tie_over_the_reals_is_decided_in_rationals() -> None:
    weight = float(np.float32(0.1))
    witness = Replayer(linear([[weight]]), text([("0", "1")], 1, f"(>= Y_0 {decimal(weight)})")).judge([point(1.0)])
    assert witness is not None
    assert witness.float32_only is False


def test_where_float64_cannot_tell_and_rationals_do_not_apply_it_is_open() -> None:
    sigmoid = model([helper.make_node("Sigmoid", ["x"], ["y"])], 1, 1)
    witness = Replayer(sigmoid, text([("-1", "1")], 1, "(>= Y_0 0.5)")).judge([point(0.0)])
    assert witness is not None
    assert witness.float32_only is None


def test_the_case_that_holds_is_reported() -> None:
    replayer = Replayer(linear(IDENTITY), text([("0", "1")], 1, "(or (and (>= Y_0 0.9)) (and (<= Y_0 0.1)))"))
    found = [replayer.judge([point(v)]) for v in (0.05, 0.5, 0.95)]
    assert [w.case if w else None for w in found] == [1, None, 0]


floats = st.floats(-2, 2, width=32)


@settings(max_examples=examples(40))
@given(st.lists(floats, min_size=17, max_size=17), st.tuples(floats, floats))
def test_exact_and_enclosed_outputs_agree_with_rationals_by_hand(weights: list[float], x: tuple[float, float]) -> None:
    w1, b1, w2, b2 = (np.array(weights[a:b], dtype=np.float32).reshape(s) for a, b, s in ((0, 8, (2, 4)), (8, 12, 4), (12, 16, (4, 1)), (16, 17, 1)))
    net = relu_net(w1, b1, w2, b2)
    hidden = [max(sum(Fraction(float(w1[i, j])) * Fraction(x[i]) for i in range(2)) + Fraction(float(b1[j])), Fraction(0)) for j in range(4)]
    expected = sum((h * Fraction(float(w2[j, 0])) for j, h in enumerate(hidden)), Fraction(float(b2[0])))
    given_point = np.array(x, dtype=np.float32)
    assert exact_outputs(net, given_point) == [expected]
    value, error = enclose_outputs(net, [given_point])
    assert abs(Fraction(float(value[0])) - expected) <= Fraction(float(error[0]))
