"""Compiled problems against the property as written, in exact rationals: arrays may be weaker than the text, never stronger."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import linear

from specs.canonical import Case, Property, atom_holds
from specs.errors import PropertyError
from specs.vnnlib import parse
from tests.effort import examples
from verifier.problem import Problem, compile_problem

N_IN, N_OUT = 2, 2
NET = linear(np.zeros((N_IN, N_OUT)))
NAMES = [*(f"X_{i}" for i in range(N_IN)), *(f"Y_{j}" for j in range(N_OUT))]

numbers = st.sampled_from(["0", "1", "-1", "0.1", "-0.3", "1.00000000000000001", "0.333333333333333333333", "16777217", "1e-3", "2.5"])
terms = st.tuples(st.sampled_from(NAMES), st.sampled_from(["1.0", "-1.0", "2.0", "-0.5", "0.1"]))


@st.composite
def atoms(draw: st.DrawFn) -> str:
    """A linear atom over inputs and outputs; at least one output, so that it is no bound of the box."""
    chosen = [*draw(st.lists(terms, max_size=2)), (draw(st.sampled_from(NAMES[N_IN:])), draw(st.sampled_from(["1.0", "3.0"])))]
    left = " ".join(f"(* {c} {v})" for v, c in chosen)
    return f"({draw(st.sampled_from(['<=', '>=', '<', '>']))} (+ {left} 0.0) {draw(numbers)})"


@st.composite
def properties(draw: st.DrawFn) -> Property:
    """One to two `or` asserts of conjunctions with bounds of X_0 inside the disjuncts, and atoms that repeat."""
    pool = draw(st.lists(atoms(), min_size=1, max_size=4))
    lines = [f"(declare-const {name} Real)" for name in NAMES]
    lines += [f"(assert (>= {name} -2.0)) (assert (<= {name} 3.3))" for name in NAMES[:N_IN]]
    for _ in range(draw(st.integers(1, 2))):
        options = []
        for _ in range(draw(st.integers(1, 3))):
            parts = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
            if draw(st.booleans()):
                parts.append(f"(<= X_0 {draw(numbers)})")
            options.append(f"(and {' '.join(parts)})")
        lines.append(f"(assert (or {' '.join(options)}))")
    return parse("\n".join(lines), "drawn")


def values(draw: st.DrawFn) -> dict[str, list[Fraction]]:
    """A point, near thresholds among others."""
    near = st.one_of(st.integers(-24, 32).map(lambda k: Fraction(k, 8)), numbers.map(Fraction), numbers.map(lambda t: Fraction(float(t))))
    return {"X": [draw(near) for _ in range(N_IN)], "Y": [draw(near) for _ in range(N_OUT)]}


def written(case: Case, point: dict[str, list[Fraction]]) -> bool:
    inside = all(b.lower[i] <= point[b.tensor][i] <= b.upper[i] for b in case.boxes for i in range(len(b.lower)))
    return inside and all(atom_holds(a, point) for a in case.atoms)


def compiled(problem: Problem, case: int, point: dict[str, list[Fraction]]) -> bool:
    """The case as the arrays state it, evaluated exactly: the closure of what is unsafe."""
    box = problem.case_box[case]
    x = point["X"]
    inside = all(Fraction(float(a)) <= v <= Fraction(float(b)) for a, v, b in zip(problem.lower[box], x, problem.upper[box], strict=True))
    flat = [*point["Y"], *x]
    for row, bound in zip(problem.case_rows[case], problem.case_bounds[case], strict=True):
        if row < 0:
            assert bound == np.inf
            continue
        y_part, x_part = problem.functionals.dense(np.array([row]))
        value = sum((Fraction(float(c)) * v for c, v in zip([*y_part[0], *x_part[0]], flat, strict=True)), Fraction(0))
        # A coefficient that is no double is stored nearest; the bounds are charged for it (`concretise`, `lower_bound`).
        room = sum((abs(Fraction(float(c)) * v) for c, v in zip([*y_part[0], *x_part[0]], flat, strict=True)), Fraction(0)) * Fraction(1, 2**53)
        if value - room > Fraction(float(bound)):
            return False
    return inside


@settings(max_examples=examples(150))
@given(st.data())
def test_what_is_unsafe_as_written_is_unsafe_as_compiled(data: st.DataObject) -> None:
    prop = data.draw(properties())
    problem = compile_problem(NET.graph, prop)
    assert len(problem.case_box) == len(prop.cases)
    for _ in range(5):
        point = data.draw(st.composite(values)())
        for k, case in enumerate(prop.cases):
            if written(case, point):
                assert compiled(problem, k, point)


@settings(max_examples=examples(150))
@given(st.data())
def test_the_arrays_are_hardly_weaker_than_the_text(data: st.DataObject) -> None:
    """Where the arrays hold, the closure of the text holds after moving every number by 2^-20 relative."""
    prop = data.draw(properties())
    problem = compile_problem(NET.graph, prop)
    point = data.draw(st.composite(values)())
    small = Fraction(1, 2**20)
    for k, case in enumerate(prop.cases):
        if compiled(problem, k, point):
            for b in case.boxes:
                for i in range(len(b.lower)):
                    room = small * (1 + abs(b.lower[i]) + abs(b.upper[i]))
                    assert b.lower[i] - room <= point[b.tensor][i] <= b.upper[i] + room
            for atom in case.atoms:
                total = sum((c * point[t][i] for t, i, c in atom.terms), Fraction(0))
                assert total <= atom.bound + small * (10 + abs(atom.bound))


@settings(max_examples=examples(100))
@given(st.data())
def test_strictness_and_sharing(data: st.DataObject) -> None:
    prop = data.draw(properties())
    problem = compile_problem(NET.graph, prop)
    for k, case in enumerate(prop.cases):
        assert problem.case_strict[k, : len(case.atoms)].tolist() == [a.strict for a in case.atoms]
    left = {tuple(sorted(a.terms)) for case in prop.cases for a in case.atoms}
    assert len(problem.functionals) == len(left)
    boxes = {tuple((b.lower[i], b.upper[i]) for b in case.boxes for i in range(len(b.lower))) for case in prop.cases}
    assert len(problem.lower) >= len(boxes)
    assert problem.functionals.reads_inputs == any(t == "X" for case in prop.cases for a in case.atoms for t, _, _ in a.terms)


@pytest.mark.parametrize("number", ["0.1", "-0.1", "16777217", "1.00000005960464477540", "0.333333333333333333333", "1e-50"])
def test_thresholds_are_rounded_towards_unsafe_and_boxes_outward(number: str) -> None:
    exact = Fraction(number)
    text = (
        "(declare-const X_0 Real) (declare-const X_1 Real) (declare-const Y_0 Real) (declare-const Y_1 Real)"
        f"(assert (>= X_0 {number})) (assert (<= X_0 {number})) (assert (>= X_1 0)) (assert (<= X_1 0))"
        f"(assert (or (<= Y_0 {number}) (>= Y_0 {number})))"
    )
    problem = compile_problem(NET.graph, parse(text, "test"))
    twice = np.float32(float(number))
    nearest = min((twice, np.nextafter(twice, np.float32(-9e9)), np.nextafter(twice, np.float32(9e9))), key=lambda s: abs(Fraction(float(s)) - exact))
    ends = {exact, Fraction(float(nearest)), Fraction(float(twice))}
    assert Fraction(float(problem.lower[0, 0])) <= min(ends) and Fraction(float(problem.upper[0, 0])) >= max(ends)
    assert problem.witness_lower[0, 0] == problem.witness_upper[0, 0] == nearest
    below, above = (float(problem.case_bounds[k, 0]) for k in range(2))
    assert Fraction(below) >= max(ends) and Fraction(above) >= -min(ends)


@pytest.mark.parametrize(("n_in", "n_out", "kind"), [(1, 2, "input"), (3, 2, "input"), (2, 1, "output"), (2, 3, "output")])
def test_counts_that_do_not_fit_are_refused(n_in: int, n_out: int, kind: str) -> None:
    lines = [f"(declare-const X_{i} Real)" for i in range(n_in)] + [f"(declare-const Y_{j} Real)" for j in range(n_out)]
    lines += [f"(assert (>= X_{i} 0)) (assert (<= X_{i} 1))" for i in range(n_in)] + ["(assert (<= Y_0 0))"]
    with pytest.raises(PropertyError, match=rf"declares \d {kind} variables, the network has 2"):
        compile_problem(NET.graph, parse("\n".join(lines), "test"))


def test_a_coefficient_beyond_double_precision_is_refused() -> None:
    term = "Y_0"
    for _ in range(9):
        term = f"(* 1e38 {term})"
    lines = [f"(declare-const {name} Real)" for name in NAMES] + [f"(assert (>= X_{i} 0)) (assert (<= X_{i} 1))" for i in range(N_IN)]
    with pytest.raises(PropertyError, match=r"^big: a coefficient, multiplied out, is too large for double precision$"):
        compile_problem(NET.graph, parse("\n".join([*lines, f"(assert (<= {term} 0))"]), "big"))
