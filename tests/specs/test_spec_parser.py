"""VNN-LIB reader against an independent evaluator of the raw s-expressions, and against bad input."""

from __future__ import annotations

import gzip
import itertools
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from specs.canonical import Atom, Box
from specs.errors import PropertyError
from specs.evaluate import violated_case
from specs.vnnlib import Limits, parse, read
from tests.effort import examples

INPUTS, OUTPUTS = 3, 2
HEAD = "".join(f"(declare-const X_{i} Real)" for i in range(INPUTS)) + "".join(f"(declare-const Y_{i} Real)\n" for i in range(OUTPUTS))
WHOLE_BOX = "".join(f"(assert (>= X_{i} -2))(assert (<= X_{i} 2))\n" for i in range(INPUTS))

# --- random formulas: nested tuples, printed as text for the reader, evaluated directly here --------------------------------------

grid = st.sampled_from(["-2", "-1.5", "-1", "-0.5", "0", "0.5", "5e-1", "1", "1.5", "+2", "0.2e1"])
variables = st.sampled_from([f"X_{i}" for i in range(INPUTS)] + [f"Y_{i}" for i in range(OUTPUTS)])
terms = st.recursive(
    grid | variables,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("*"), st.tuples(grid, inner).map(list)),
        st.tuples(st.just("*"), st.tuples(inner, grid, grid).map(list)),
    ),
    max_leaves=4,
)
comparisons = st.tuples(st.sampled_from(["<=", ">=", "<", ">", "==", "="]), st.tuples(variables | terms, grid | variables | terms).map(list))
formulas = st.recursive(comparisons, lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)), max_leaves=8)


def text_of(node) -> str:
    return node if isinstance(node, str) else f"({node[0]} {' '.join(map(text_of, node[1]))})"


def evaluate(node, point):
    if isinstance(node, str):
        return point[node] if node in point else Fraction(node)
    head, values = node[0], [evaluate(child, point) for child in node[1]]
    if head in ("and", "or"):
        return all(values) if head == "and" else any(values)
    if head == "+":
        return sum(values)
    if head == "-":
        return -values[0] if len(values) == 1 else values[0] - sum(values[1:])
    if head == "*":
        product = Fraction(1)
        for value in values:
            product *= value
        return product
    left, right = values
    return {"<=": left <= right, ">=": left >= right, "<": left < right, ">": left > right}.get(head, left == right)


coordinates = st.sampled_from([Fraction(k, 4) for k in range(-8, 9)])


@settings(max_examples=examples(300))
@given(st.lists(formulas, min_size=1, max_size=3), st.lists(st.tuples(*[coordinates] * (INPUTS + OUTPUTS)), min_size=5, max_size=5))
def test_the_cases_mean_what_the_text_says(asserted, points):
    property = parse(HEAD + WHOLE_BOX + "\n".join(f"(assert {text_of(f)}) ; comment ( \n" for f in asserted))
    for values in points:
        names = [f"X_{i}" for i in range(INPUTS)] + [f"Y_{i}" for i in range(OUTPUTS)]
        expected = all(evaluate(f, dict(zip(names, values, strict=True))) for f in asserted)
        found = violated_case(property, {"X": values[:INPUTS]}, {"Y": values[INPUTS:]}, exact_box=True)
        assert (found is not None) == expected


def dnf(node):
    """All conjunctions of a formula, as lists of comparisons."""
    if node[0] == "or":
        return [conjunction for child in node[1] for conjunction in dnf(child)]
    if node[0] == "and":
        return [list(itertools.chain.from_iterable(parts)) for parts in itertools.product(*(dnf(child) for child in node[1]))]
    return [[node]]


bound_atoms = st.tuples(st.sampled_from(["<=", ">="]), st.tuples(st.sampled_from(["X_0", "X_1", "Y_0"]), st.sampled_from(["-1", "0", "1"])).map(list))
bound_formulas = st.recursive(
    bound_atoms, lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)), max_leaves=8
)


@settings(max_examples=examples(200))
@given(st.lists(bound_formulas, min_size=1, max_size=3))
def test_cases_and_vacuous_ones_are_counted_in_the_order_of_the_text(asserted):
    property = parse(HEAD + WHOLE_BOX + "".join(f"(assert {text_of(f)})" for f in asserted))
    expected, vacuous = [], 0
    for parts in itertools.product(*(dnf(f) for f in asserted)):
        lower, upper = {i: Fraction(-2) for i in range(INPUTS)}, {i: Fraction(2) for i in range(INPUTS)}
        outputs = []
        for sign, (name, value) in itertools.chain.from_iterable(parts):
            if name[0] == "Y":
                outputs.append((sign, value))
            elif sign == "<=":
                upper[int(name[2:])] = min(upper[int(name[2:])], Fraction(value))
            else:
                lower[int(name[2:])] = max(lower[int(name[2:])], Fraction(value))
        if any(lower[i] > upper[i] for i in range(INPUTS)):
            vacuous += 1
        else:
            expected.append((list(lower.values()), list(upper.values()), sorted(outputs)))
    found = []
    for case in property.cases:
        (box,) = case.boxes
        atoms = sorted(("<=" if atom.terms[0][2] > 0 else ">=", str(atom.bound * atom.terms[0][2])) for atom in case.atoms)
        found.append(([box.lower[i] for i in range(INPUTS)], [box.upper[i] for i in range(INPUTS)], atoms))
    assert found == expected
    assert (len(property.cases), property.vacuous) == (len(expected), vacuous)


# --- the rules, one by one ---------------------------------------------------------------------------------------------------------


def only_case(text: str):
    (case,) = parse(text).cases
    return case


ONE = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (and (>= X_0 0) (<= X_0 1)))"


def test_numbers_are_exact_and_mixed_atoms_keep_their_tensors():
    case = only_case(ONE + "(assert (<= (+ Y_0 (* -2 X_0) 0.1) 1.00000000000000000001e2))")
    assert case.atoms == (Atom((("Y", 0, Fraction(1)), ("X", 0, Fraction(-2))), Fraction("100.000000000000000001") - Fraction(1, 10)),)


def test_a_scaled_input_bound_moves_the_box_and_a_strict_one_stays_as_an_atom():
    case = only_case(ONE + "(assert (< (* -4 X_0) -1))")
    assert case.boxes[0].lower[0] == Fraction(1, 4)
    assert case.atoms == (Atom((("X", 0, Fraction(-4)),), Fraction(-1), True),)


def test_a_witness_on_a_strict_boundary_is_refused():
    property = parse(ONE + "(assert (< X_0 1))")
    assert violated_case(property, {"X": [Fraction(1)]}, {"Y": [Fraction(0)]}) is None
    assert violated_case(property, {"X": [Fraction(0)]}, {"Y": [Fraction(0)]}) == 0


def test_equality_on_an_output_is_two_atoms_and_on_an_input_a_point():
    case = only_case(ONE + "(assert (== Y_0 2))(assert (= X_0 0.5))")
    assert {(atom.terms[0][2], atom.bound) for atom in case.atoms} == {(1, 2), (-1, -2)}
    assert case.boxes[0].lower[0] == case.boxes[0].upper[0] == Fraction(1, 2)


def test_constant_atoms_decide_their_case():
    property = parse(ONE + "(assert (or (<= 1 2) (< (- X_0 X_0) 0) (>= Y_0 1)))")
    assert [case.atoms for case in property.cases] == [(), (Atom((("Y", 0, Fraction(-1)),), Fraction(-1)),)]
    assert property.vacuous == 1


def test_no_output_atom_means_that_the_whole_box_is_unsafe():
    property = parse("(declare-const X_0 Real)(assert (<= X_0 1))(assert (>= X_0 1))")
    assert property.outputs == () and [case.atoms for case in property.cases] == [()]


def test_bounds_may_come_from_every_alternative_of_an_or():
    text = "(declare-const X_1 Real)(declare-const X_0 Real)(assert (or (and (<= X_0 1)(>= X_0 0)(== X_1 3)) (and (== X_0 2) (== X_1 4))))"
    property = parse(text)
    assert [[(c.boxes[0].lower[i], c.boxes[0].upper[i]) for i in (0, 1)] for c in property.cases] == [[(0, 1), (3, 3)], [(2, 2), (4, 4)]]


def test_cases_that_differ_in_atoms_share_their_box():
    boxes: list[Box] = [case.boxes[0] for case in parse(ONE + "(assert (or (<= Y_0 0) (>= Y_0 1)))").cases]
    assert boxes[0] is boxes[1]


def test_a_product_of_many_choices_is_not_formed():
    text = ONE + "(assert (or (<= Y_0 0) (>= Y_0 1)))" * 19
    cases = parse(text).cases
    assert len(cases) == 2**19 and len(next(iter(cases)).atoms) == 19


def test_eighty_thousand_levels_need_no_recursion():
    depth = 40_000
    nested = "(and (<= Y_0 4) (or " * depth + "(<= Y_0 1)" + "))" * depth
    assert len(only_case(ONE + f"(assert {nested})").atoms) == depth + 1
    sums = "(+ Y_0 " * depth + "1" + ")" * depth
    assert only_case(ONE + f"(assert (<= {sums} 1))").atoms == (Atom((("Y", 0, Fraction(depth)),), Fraction(0)),)


# --- bad input ---------------------------------------------------------------------------------------------------------------------

ERRORS = [
    ("(assert (or (<= Y_0 1)\n  (>= Y_0 2)", "never closed", 2, 9),
    ("(assert (<= Y_0 1)))", "closes nothing", 2, 20),
    ("\n (assert (<= (* X_0 Y_0) 1))", "non-linear", 3, 21),
    ("(assert (<= Y_1 1))", "'Y_1' is neither", 2, 13),
    ("(assert (<= (+ 1 Z) 1))", "'Z' is neither", 2, 18),
    ("(assert (<= Y_0 nan))", "'nan' is neither", 2, 17),
    ("(assert (<= Y_0 1e401))", "exponent", 2, 17),
    ("(assert (<= Y_0 1e39))", "too large for float32", 2, 17),
    ("(assert (<= Y_0 1e999999999999))", "exponent", 2, 17),
    (f"(assert (<= Y_0 0.{'1' * 5000}))", "5002 characters", 2, 17),
    ("(assert (<= Y_0))", "compares two terms", 2, 10),
    ("(assert (<= Y_0 1 2))", "compares two terms", 2, 10),
    ("(assert (<= Y_0 (and (<= Y_0 1))))", "a formula is no term", 2, 17),
    ("(assert (and (<= Y_0 1) Y_0))", "'Y_0' is no formula", 2, 25),
    ("(assert (or))", "empty or", 2, 10),
    ("(assert (not (<= Y_0 1)))", "'not' is no command or operator", 2, 10),
    ("(assert)", "takes one formula", 2, 2),
    ("(assert ())", "empty list", 2, 9),
    ("(assert (+ Y_0 1))", "a term is no formula", 2, 9),
    ("(check-sat)", "'check-sat' is no command", 2, 2),
    ("(and (<= Y_0 1))", "no command", 2, 1),
    ("hello", "outside of any command", 2, 1),
    ("(declare-const X_0 Real)", "declared twice", 2, 1),
    ("(declare-const X_2 Real)", "X_1 is not", 2, 1),
    ("(declare-const Q Real)", "no variable name", 2, 16),
    ("(declare-const Y_1 Int)", "only Real", 2, 20),
    ("(declare-const X_1 Real)", "X_1 has no lower bound", 2, 1),
    ("(declare-const X_1 Real)(assert (or (<= Y_0 1) (== X_1 0)))", "X_1 has no lower bound", 2, 1),
    ("; comment (\n(assert (<= Y_0 ; inside (\n x))", "'x' is neither", 4, 2),
]


@pytest.mark.parametrize(("text", "message", "line", "column"), ERRORS, ids=[e[1] for e in ERRORS])
def test_errors_name_the_place(text, message, line, column):
    with pytest.raises(PropertyError) as caught:
        parse(ONE + "\n" + text)
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_property_without_inputs_is_refused():
    with pytest.raises(PropertyError, match="no input is declared"):
        parse("(declare-const Y_0 Real)(assert (<= Y_0 1))")


@pytest.mark.parametrize(
    ("limits", "message"),
    [(Limits(cases=3), "more than 3 cases"), (Limits(depth=2), "nested deeper than 2"), (Limits(size=10), "the limit is 10")],
)
def test_limits(limits, message):
    with pytest.raises(PropertyError, match=message):
        parse(ONE + "(assert (and (or (<= Y_0 1) (<= Y_0 2)) (or (<= Y_0 (+ 1 2)) (<= Y_0 4))))", limits=limits)


def test_huge_products_are_refused_without_being_formed():
    choices = "(or (<= Y_0 0) (>= Y_0 1))"
    with pytest.raises(PropertyError, match="more than"):
        parse(ONE + f"(assert (and {choices * 5000}))")
    with pytest.raises(PropertyError, match="bits"):
        parse(ONE + "(assert (<= " + "(* 1e38 " * 2000 + "Y_0" + ")" * 2000 + " 1))")


def test_files_gzipped_or_not_truncated_binary_or_missing(tmp_path: Path):
    plain, zipped = tmp_path / "a.vnnlib", tmp_path / "b.vnnlib.gz"
    plain.write_text(ONE)
    zipped.write_bytes(gzip.compress(ONE.encode()))
    assert len(read(plain).cases) == len(read(zipped).cases) == 1
    (tmp_path / "short.gz").write_bytes(zipped.read_bytes()[:-12])
    (tmp_path / "binary").write_bytes(b"(assert\n \xff)")
    for name in ("short.gz", "binary", "missing", "."):
        with pytest.raises(PropertyError):
            read(tmp_path / name)
    with pytest.raises(PropertyError, match="larger than 20 bytes"):
        read(zipped, Limits(size=20))
    with pytest.raises(PropertyError) as caught:
        read(tmp_path / "binary")
    assert (caught.value.line, caught.value.column) == (2, 2)


words = ["assert", "declare-const", "Real", "and", "or", "<=", ">", "==", "+", "-", "*", "X_0", "Y_0", "X_1", "1", "-2.5e3", "1e400", "|", "\x00"]
pieces = st.lists(st.sampled_from(["(", ")", " ", "\n", ";", "(<= X_0 1)", *words]) | st.text(max_size=3), max_size=40)


@settings(max_examples=examples(400), suppress_health_check=[HealthCheck.too_slow])
@given(pieces, st.booleans(), st.sampled_from(["", " "]))
def test_no_text_raises_anything_but_property_errors(parts, with_head, glue):
    try:
        property = parse((ONE if with_head else "") + glue.join(parts))
    except PropertyError:
        return
    assert len(list(property.cases)) == len(property.cases)


@settings(max_examples=examples(300))
@given(st.lists(formulas, min_size=1, max_size=2), st.data())
def test_damaged_text_raises_only_property_errors(asserted, data):
    text = HEAD + WHOLE_BOX + "".join(f"(assert {text_of(f)})" for f in asserted)
    at = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(at, min(len(text), at + 5)))
    damaged = text[:at] + data.draw(st.text(alphabet="()XY_01.e+-*<= ;\n", max_size=4)) + text[end:]
    try:
        parse(damaged)
    except PropertyError as error:
        assert error.line is not None and 1 <= error.line <= damaged.count("\n") + 1


@settings(max_examples=examples(100))
@given(st.binary(max_size=60), st.booleans())
def test_no_file_raises_anything_but_property_errors(tmp_path_factory, data, zipped):
    path = tmp_path_factory.mktemp("fuzz") / "file"
    path.write_bytes(b"\x1f\x8b\x08" + data if zipped else data)
    with pytest.raises(PropertyError):
        read(path)


# --- real files --------------------------------------------------------------------------------------------------------------------


@pytest.mark.vnncomp
def test_the_smaller_real_properties_of_every_category_parse(vnncomp_dir):
    files = sorted(vnncomp_dir.rglob("*.vnnlib.gz"))
    assert len({f.relative_to(vnncomp_dir).parts[0] for f in files}) == 17
    for file in (f for f in files if f.stat().st_size < 20_000):
        text = gzip.decompress(file.read_bytes()).decode()
        property = read(file)
        assert property.inputs[0].size == sum(line.lstrip().startswith("(declare-const X_") for line in text.splitlines())
        assert property.outputs[0].size == sum(line.lstrip().startswith("(declare-const Y_") for line in text.splitlines())
        assert len(property.cases) + property.vacuous >= 1
        for case in itertools.islice(property.cases, 3):
            assert len(case.boxes[0].lower) == len(case.boxes[0].upper) == property.inputs[0].size


@pytest.mark.vnncomp
@pytest.mark.slow
def test_all_real_properties_parse(vnncomp_dir):
    for file in sorted(vnncomp_dir.rglob("*.vnnlib.gz")):
        assert len(read(file).cases) >= 1


@pytest.mark.vnncomp
def test_the_largest_real_property_fits_in_one_gigabyte(vnncomp_dir):
    """Its time is measured by benchmarks/speed.py: a test that times fails on a busy machine."""
    script = (
        "import sys; from specs.vnnlib import read; from verifier.memory import own_peak; cases = read(sys.argv[1]).cases; "
        "print(len(cases), own_peak() / 1e9)"  # not getrusage: its peak includes the parent's size at the fork
    )
    file = vnncomp_dir / "nn4sys" / "vnnlib" / "cardinality_0_2680_128.vnnlib.gz"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script, str(file)], cwd=root, capture_output=True, text=True, check=True)
    cases, gigabytes = map(float, done.stdout.split())
    assert cases == 5360 and gigabytes <= 1


# --- vacuous cases are named -----------------------------------------------------------------------------------------------------

BOX_OF_ONE = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(assert (>= X_0 0))\n(assert (<= X_0 1))\n"  # lines 1 to 4


def test_a_vacuous_case_names_the_variable_the_bounds_and_their_lines():
    assert parse(BOX_OF_ONE + "(assert (>= X_0 1.5))").vacuous_cases == ("a case is vacuous: X_0 >= 1.5 (line 5) and X_0 <= 1 (line 4)",)


def test_a_vacuous_combination_names_its_alternatives_and_counts_its_cases():
    choices = ["(<= X_0 0.5)\n(>= X_0 0.75)", "(>= X_0 0.6) (<= Y_0 0)", "(<= Y_0 1) (>= Y_0 2)"]
    property = parse(BOX_OF_ONE + "\n".join(f"(assert (or {choice}))" for choice in choices))
    assert property.vacuous == 2
    assert property.vacuous_cases == (
        "2 cases are vacuous: X_0 >= 0.6 (line 7) and X_0 <= 0.5 (line 5), "
        "in alternative 1 of the `or` on line 5, alternative 1 of the `or` on line 7",
    )


def test_a_false_comparison_is_named_by_its_place():
    assert parse(BOX_OF_ONE + "(assert (or (<= Y_0 1)\n(<= 2 1)))").vacuous_cases == (
        "a case is vacuous: a comparison without variables is false, in alternative 2 of the `or` on line 5",
    )


def test_at_most_twenty_vacuous_combinations_are_named_and_the_rest_is_counted():
    alternatives = " ".join(f"(>= X_0 {k})" for k in range(2, 5002))
    property = parse(BOX_OF_ONE + f"(assert (or (<= Y_0 0) {alternatives}))")
    assert (len(property.cases), property.vacuous, len(property.vacuous_cases)) == (1, 5000, 21)
    assert property.vacuous_cases[-1] == "4980 more cases are vacuous"


@settings(max_examples=examples(100))
@given(st.lists(bound_formulas, min_size=1, max_size=3))
def test_the_named_and_the_counted_cases_are_all_the_vacuous_ones(asserted):
    property = parse(HEAD + WHOLE_BOX + "".join(f"(assert {text_of(f)})" for f in asserted))
    first_words = [text.split()[0] for text in property.vacuous_cases]
    assert sum(1 if word == "a" else int(word) for word in first_words) == property.vacuous


def test_bounds_beyond_the_doubles_are_named():
    tiny = "0." + "0" * 399 + "1"
    (text,) = parse(BOX_OF_ONE + f"(assert (>= (* {tiny} X_0) 1))").vacuous_cases
    assert text == "a case is vacuous: X_0 >= a number beyond 1e308 (line 5) and X_0 <= 1 (line 4)"
