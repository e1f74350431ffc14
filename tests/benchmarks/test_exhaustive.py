"""Running a file at every float32 point: the points are all of them, batches change no bit, atoms are judged exactly."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from benchmarks.exact.exhaustive import Batches, CannotExhaust, all_points, count, exhaust, unsafe
from benchmarks.exact.float32 import draw
from graph.load import Model, load
from specs.canonical import Atom, Case, Property, Variable, atom_holds
from specs.vnnlib import parse


def model(*nodes: tuple[str, list[str], list[str]], n_in: int = 1, n_out: int = 1, **constants: float) -> Model:
    """Operators (kind, inputs, outputs) from `x` [1, n_in] to `y` [1, n_out]."""
    graph = helper.make_graph(
        [helper.make_node(*node) for node in nodes], "test", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n_in])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, n_out])],
        [numpy_helper.from_array(np.asarray(v, np.float32), name) for name, v in constants.items()],
    )
    return load(bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()))


def prop(lower: str, upper: str, atom: str) -> Property:
    return parse(f"(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 {lower}))(assert (<= X_0 {upper}))(assert {atom})", "test")


def test_points_are_all_float32_numbers_of_the_box() -> None:
    """Across zero and one power of 2: each next point is the next float32 number, and both zeros are there."""
    lower, upper = np.asarray([-3e-45, 0.99999994], np.float32), np.asarray([3e-45, 1.0000001], np.float32)
    points = np.concatenate(list(all_points(lower, upper, batch=4)))
    assert len(points) == count(lower, upper) == 6 * 3
    first, second = np.unique(points[:, 0]), np.unique(points[:, 1])
    assert [float(np.float32(v) / np.float32(2.0**-149)) for v in first] == [-2, -1, 0, 1, 2]
    assert list(np.signbit(points[points[:, 0] == 0, 0])) == [True] * 3 + [False] * 3
    assert all(np.nextafter(a, np.float32(2)) == b for a, b in pairwise(second)) and len(second) == 3
    assert [float(v) for v in (second[0], second[-1])] == [float(lower[1]), float(upper[1])]


@pytest.mark.parametrize("threshold", ["0.00000011920928955078125", "0.0000000596046447753906251"])
def test_what_only_rounding_reaches_is_found(threshold: str) -> None:
    """(x + 1) - 1 is 2^-23 above 2^-24, and 0 up to there."""
    of = model(("Add", ["x", "one"], ["h"]), ("Sub", ["h", "one"], ["y"]), one=1.0)
    found = exhaust(of, prop("0.0000000596", "0.0000000597", f"(>= Y_0 {threshold})"))
    assert found.verdict == "sat" and found.witness is not None and found.witness[0] > np.float32(2.0**-24)
    assert found.violations == count(np.nextafter(np.asarray([2.0**-24], np.float32), np.float32(1)), np.asarray([0.0000000597], np.float32))
    assert exhaust(of, prop("0.0000000596", "0.0000000597", "(> Y_0 0.00000011920928955078125)")).verdict == "unsat"


def test_overflow_is_no_proof_and_no_violation() -> None:
    of = model(("Mul", ["x", "x"], ["y"]))
    found = exhaust(of, prop("18446742000000000000.0", "18446745000000000000.0", "(<= Y_0 0)"))
    assert found.verdict == "unknown" and found.overflows > 0 and found.violations == 0


def test_boxes_that_are_too_large_and_networks_that_mix_points_are_refused() -> None:
    with pytest.raises(CannotExhaust, match="more than"):
        exhaust(model(("Relu", ["x"], ["y"])), prop("-1", "1", "(>= Y_0 2)"))
    mixed = Batches(model(("ReduceMean", ["x"], ["m"]), ("Add", ["x", "m"], ["y"])))  # over the batch axis too
    with pytest.raises(CannotExhaust, match="change the results"):
        mixed.check(np.arange(10, dtype=np.float32).reshape(10, 1))
    with pytest.raises(CannotExhaust, match="mixes"):
        Batches(model(("ReduceMean", ["x"], ["y"]))).run(np.ones((10, 1), np.float32))


@pytest.mark.parametrize("index", range(12))
def test_batches_change_no_bit(index: int) -> None:
    drawn = draw(Random(index))
    batches, points = Batches(load(drawn.content)), next(all_points(drawn.lower, drawn.upper, batch=3000))
    assert batches.check(points, index) == min(len(points), 200)


singles = st.floats(-(2.0**100), 2.0**100, width=32)


@given(st.lists(st.tuples(singles, singles, singles), min_size=1, max_size=5), st.data())
def test_atoms_are_judged_as_rationals_judge_them(rows: list[tuple[float, float, float]], data: st.DataObject) -> None:
    """Thresholds at, and just beside, the value of one of the points."""
    places = st.sampled_from([("X", 0), ("Y", 0), ("Y", 1)])
    terms = data.draw(st.lists(st.tuples(places, st.fractions(-3, 3, max_denominator=9)), min_size=1, max_size=3))
    named = [{"X": [Fraction(x)], "Y": [Fraction(a), Fraction(b)]} for x, a, b in rows]
    near = sum((c * named[0][t][i] for (t, i), c in terms), Fraction(0))
    off = data.draw(st.sampled_from([Fraction(0), Fraction(1, 10**40), -Fraction(1, 10**40)]))
    atom = Atom(tuple((t, i, c) for (t, i), c in terms), near + off, data.draw(st.booleans()))
    of = Property((Variable("X", (1,)),), (Variable("Y", (2,)),), ())
    found = unsafe(Case((), (atom,)), of, np.asarray([[r[0]] for r in rows], np.float32), np.asarray([r[1:] for r in rows], np.float32))
    assert list(found) == [atom_holds(atom, values) for values in named]
