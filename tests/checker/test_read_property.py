"""The checker's property reader against brute-force evaluation, against the engine's reader, and against rounding in rationals."""

from __future__ import annotations

import gzip
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs import vnnlib
from specs.errors import PropertyError
from specs.rounding import hull_lower, hull_upper
from tests.effort import examples
from verifier.checker.network import Input, Network
from verifier.checker.read_property import Cases, bind, read
from verifier.checker.refusal import Rejected

DECLARED = "".join(f"(declare-const {name} Real)\n" for name in ("X_0", "X_1", "Y_0", "Y_1"))
BOUNDED = DECLARED + "(assert (and (>= X_0 -2) (<= X_0 2)))\n(assert (>= X_1 -2)) (assert (<= X_1 2))\n"
NAMES = ("X_0", "X_1", "Y_0", "Y_1")

# --- formulas: ("and" | "or", parts), (relation, term, term); terms: a word, or (operation, terms) -----------------------------------------

words = st.sampled_from([*NAMES, "X_0", "X_1", "0", "1", "-2", "0.5", "1e0", "-.25", "+1.5", "3."])
constants = st.sampled_from(["2", "-1", "0.5", "0"])
terms = st.recursive(
    words,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from("+-"), st.lists(inner, min_size=1, max_size=3)),
        st.tuples(st.just("*"), st.tuples(constants, inner)),
        st.tuples(st.just("*"), st.tuples(inner, constants)),
    ),
    max_leaves=3,
)
relations = st.tuples(st.sampled_from(["<=", ">=", "<", ">", "=", "=="]), terms, terms)
simple = st.tuples(st.sampled_from(["<=", ">=", "<"]), st.sampled_from(NAMES), st.sampled_from(["-1", "0", "1", "0.5"]))
formulas = st.recursive(
    relations | simple | simple, lambda inner: st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=1, max_size=3)), max_leaves=8
)
gaps = st.sampled_from([" ", "\n", "\t ", " ; a comment (\n", "\r\n"])


def shown(formula, gap=" ") -> str:
    if isinstance(formula, str):
        return formula
    head, *rest = formula
    parts = rest[0] if head in ("and", "or", "+", "-", "*") else rest
    return f"({head}{gap}{gap.join(shown(part, gap) for part in parts)})"


def value(term, point: dict[str, Fraction]) -> Fraction:
    if isinstance(term, str):
        return point[term] if term in point else Fraction(term)
    operation, parts = term
    values = [value(part, point) for part in parts]
    if operation == "*":
        return values[0] * values[1]
    rest = sum(values[1:], Fraction(0))
    if operation == "+":
        return values[0] + rest
    return values[0] - rest if len(values) > 1 else -values[0]


def holds(formula, point: dict[str, Fraction], closed: bool) -> bool:
    """Whether the formula holds; `closed`: with `<` read as `<=`."""
    match formula:
        case ("and", parts):
            return all(holds(part, point, closed) for part in parts)
        case ("or", parts):
            return any(holds(part, point, closed) for part in parts)
        case (relation, left, right):
            a, b = value(left, point), value(right, point)
            outcome = {"<=": a <= b, ">=": a >= b, "<": a < b, ">": a > b, "=": a == b, "==": a == b}[relation]
            return outcome or (closed and a == b)
    raise TypeError(formula)


def count(formula) -> int:
    match formula:
        case ("and", parts):
            return int(np.prod([count(part) for part in parts]))
        case ("or", parts):
            return sum(count(part) for part in parts)
        case _:
            return 1


def within(cases: Cases, point: dict[str, Fraction]) -> bool:
    """Whether some case contains the point; exact, as small halves are floats."""
    inputs, places = [point["X_0"], point["X_1"]], [point[name] for name in ("Y_0", "Y_1", "X_0", "X_1")]
    for k in range(len(cases)):
        box, atoms = cases.box(k), range(int(cases.atom_start[k]), int(cases.atom_start[k + 1]))
        assert len(atoms) == cases.atoms(k) and not cases.vacuous(k)
        inside = all(cases.lower[box, i] <= x <= cases.upper[box, i] for i, x in enumerate(inputs))
        if inside and all(sum((c * places[p] for p, c in cases.rows[cases.row[a]]), Fraction(0)) <= cases.threshold[a] for a in atoms):
            return True
    return False


points = st.lists(
    st.fixed_dictionaries({name: st.integers(-8, 8).map(lambda k: Fraction(k, 4)) for name in NAMES}), min_size=4, max_size=12
)


@settings(max_examples=examples(200))
@given(st.lists(formulas, min_size=1, max_size=3), points, gaps)
def test_the_cases_are_the_formula(asserted, sample, gap):
    cases = read((BOUNDED + "".join(f"(assert{gap}{shown(formula, gap)})\n" for formula in asserted)).encode())
    assert len(cases) + cases.dropped == count(("and", asserted))
    for point in sample:
        found = within(cases, point)
        assert found or not holds(("and", asserted), point, closed=False)
        # Nothing is lost, and no more is gained than `<` becoming `<=`.
        assert not found or holds(("and", asserted), point, closed=True)


# --- the engine's list -------------------------------------------------------------------------------------------------------------------


def same_as_engine(text: bytes) -> None:
    mine, engine = read(text), vnnlib.parse(text.decode())
    assert len(mine) == len(engine.cases) and mine.dropped == engine.vacuous
    n_out = sum(v.size for v in engine.outputs)
    assert (mine.n_in, mine.n_out) == (engine.inputs[0].size, n_out)
    seen: tuple[object, int] | None = None
    for k, case in enumerate(engine.cases):
        (box,) = case.boxes
        if seen is None or seen[0] is not box:
            assert (mine.lower[mine.box(k)] == hull_lower(box.lower)).all() and (mine.upper[mine.box(k)] == hull_upper(box.upper)).all()
        else:
            assert mine.box(k) == seen[1]
        seen = box, mine.box(k)
        assert mine.atoms(k) == len(case.atoms)
        for a, atom in enumerate(case.atoms, start=int(mine.atom_start[k])):
            row = sorted((i + (n_out if tensor == "X" else 0), c) for tensor, i, c in atom.terms)
            assert list(mine.rows[mine.row[a]]) == row
            assert mine.threshold[a] == rounded(atom.bound)[1]


@settings(max_examples=examples(200))
@given(st.lists(formulas, min_size=1, max_size=3))
def test_same_list_as_the_engine(asserted):
    same_as_engine((BOUNDED + "".join(f"(assert {shown(formula)})\n" for formula in asserted)).encode())


def distinct_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/vnnlib/**/*.vnnlib.gz"))


@pytest.mark.vnncomp
def test_same_list_on_published_properties(vnncomp_dir: Path):
    """The smallest of every category; all of them in the slow test."""
    files: dict[str, list[Path]] = {}
    for path in distinct_files(vnncomp_dir):
        files.setdefault(path.relative_to(vnncomp_dir).parts[0], []).append(path)
    chosen = [path for paths in files.values() for path in sorted(paths, key=lambda p: p.stat().st_size)[:1]]
    assert len(chosen) > 10
    for path in chosen:
        same_as_engine(gzip.decompress(path.read_bytes()))


@pytest.mark.vnncomp
@pytest.mark.slow
def test_same_list_on_all_published_properties(vnncomp_dir: Path):
    for path in distinct_files(vnncomp_dir):
        same_as_engine(gzip.decompress(path.read_bytes()))


# --- rounding ----------------------------------------------------------------------------------------------------------------------------


def nearest(q: Fraction, mantissa: int, lowest: int) -> Fraction:
    """To nearest, ties to even, with this many bits and subnormals of 2^lowest, by integer arithmetic alone."""
    if not q:
        return q
    exponent = lowest
    while abs(q) >= Fraction(2) ** (exponent + mantissa):
        exponent += 1
    return round(q / Fraction(2) ** exponent) * Fraction(2) ** exponent  # Fraction.__round__ goes to even


def rounded(q: Fraction) -> tuple[float, float]:
    double = nearest(q, 53, -1074)
    ends = q, nearest(q, 24, -149), nearest(double, 24, -149)
    low, high = float(min(ends)), float(max(ends))
    return (
        low if Fraction(low) <= min(ends) else float(np.nextafter(low, -np.inf)),
        high if Fraction(high) >= max(ends) else float(np.nextafter(high, np.inf)),
    )


def box_of(literal: str) -> tuple[float, float]:
    cases = read(f"(declare-const X_0 Real)(assert (= X_0 {literal}))".encode())
    return float(cases.lower[0, 0]), float(cases.upper[0, 0])


def decimal(q: Fraction) -> str:
    """A dyadic rational as a decimal."""
    digits = q.denominator.bit_length() - 1
    return f"{q.numerator * 5**digits}e-{digits}"


@settings(max_examples=examples(150))
@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False, min_value=-(2.0**100), max_value=2.0**100),
    st.sampled_from([Fraction(0), Fraction(1, 2**24), Fraction(3, 2**25), Fraction(1, 2**53), Fraction(3, 2**54)]),
    st.sampled_from([0, Fraction(1, 2**60), Fraction(-1, 2**60), Fraction(1, 2**100)]),
)
def test_hull_of_numbers_near_ties(single, offset, tiny):
    q = Fraction(single) * (1 + offset + tiny)
    assert box_of(decimal(q)) == rounded(q)


@settings(max_examples=examples(150))
@given(st.integers(-(10**20), 10**20), st.integers(-60, 15))
def test_hull_of_decimals(digits, exponent):
    assert box_of(f"{digits}e{exponent}") == rounded(Fraction(f"{digits}e{exponent}"))


def test_double_rounding_of_the_scorer():
    """ARITHMETIC 52: RN32(q) = 1 + 2^-23, but a scorer that parses to double first compares with 1.0."""
    q = 1 + Fraction(1, 2**24) + Fraction(1, 2**60)
    assert box_of(decimal(q)) == (1.0, 1 + 2.0**-23)


def test_conversion_is_outward():
    """ARITHMETIC 53: the double and the float32 nearest to 3.3e-05 lie both above it."""
    low, high = box_of("3.3e-05")
    assert low < Fraction("3.3e-05") < float("3.3e-05") <= high and low == np.nextafter(float("3.3e-05"), 0)


@pytest.mark.parametrize(
    "literal", ["1e-400", "-1e-46", "1e-38", "1.1754943508222875e-38", "4.9e-324", "0", "-0.0", "340282346638528859811704183484516925440"]
)
def test_hull_at_the_edges(literal):
    assert box_of(literal) == rounded(Fraction(literal))


def test_thresholds_take_their_weaker_end():
    """ARITHMETIC 54: Y_0 >= c is -Y_0 <= -c, and RN32(c) < c must satisfy it."""
    c = Fraction(3) + Fraction(1, 2**25)
    cases = read((BOUNDED + f"(assert (>= Y_0 {decimal(c)}))(assert (<= Y_1 {decimal(c)}))").encode())
    assert cases.threshold.tolist() == [-3.0, float(c)]


# --- what is in the arrays ---------------------------------------------------------------------------------------------------------------


def test_order_of_cases_and_atoms():
    text = BOUNDED + """
        (assert (and (or (<= Y_0 1) (and (<= Y_0 2) (or (<= Y_0 3) (<= Y_0 4)))) (and (<= Y_1 5)) (<= Y_1 6)))
        (assert (<= Y_1 7))
        (assert (or (<= Y_1 8) (or (<= Y_1 9) (> X_0 3)) (< X_0 1)))"""
    cases = read(text.encode())
    listed = [cases.threshold[cases.atom_start[k] : cases.atom_start[k + 1]].tolist() for k in range(len(cases))]
    first = [[1], [2, 3], [2, 4]]
    assert listed == [[6, 5, 7, *a, *b] for a in first for b in ([8], [9], [1])]
    assert cases.dropped == 3  # X_0 > 3
    assert cases.upper[cases.case_box].tolist() == [[2, 2], [2, 2], [1, 2]] * 3
    assert len(cases.lower) == 2 and np.unique(cases.row).size == 3


def test_functionals_are_dense_and_say_what_they_lose():
    cases = read((BOUNDED + "(assert (<= (+ (* 0.1 Y_0) X_1) 1))(assert (<= (- Y_1 X_0) (* 2 Y_0)))").encode())
    outputs, inputs, output_radius, input_radius = cases.functionals(cases.row)
    assert outputs.tolist() == [[0.1, 0], [-2, 1]] and inputs.tolist() == [[0, 1], [-1, 0]]
    error = abs(Fraction(0.1) - Fraction("0.1"))
    assert output_radius is not None and input_radius is not None and not input_radius.any()
    assert error <= output_radius[0, 0] <= error * (1 + Fraction(1, 2**50)) and np.count_nonzero(output_radius) == 1
    assert cases.functionals(cases.row[1:])[2:] == (None, None)


def test_all_cases_vacuous():
    cases = read((BOUNDED + "(assert (or (>= X_0 3) (and (<= X_1 0) (> X_1 1)) (< 1 1)))").encode())
    assert len(cases) == 0 and cases.dropped == 3 and cases.lower.shape == (0, 2)


@pytest.mark.parametrize("literals", [("0.1", "0.1000000000000000000000000001"), ("-0.1000000000000000000000000001", "-0.1")])
def test_bounds_that_differ_below_a_double_are_told_apart(literals):
    low, high = literals
    assert len(read(f"(declare-const X_0 Real)(assert (and (>= X_0 {low}) (<= X_0 {high})))".encode())) == 1
    assert read(f"(declare-const X_0 Real)(assert (and (>= X_0 {high}) (<= X_0 {low})))".encode()).dropped == 1


@settings(max_examples=examples(50))
@given(st.decimals(min_value=-10, max_value=10, places=20, allow_nan=False))
def test_radius_of_a_coefficient_is_no_less_than_its_error(coefficient):
    cases = read((BOUNDED + f"(assert (<= (+ (* {coefficient:f} Y_0) Y_1) 1))").encode())
    outputs, _, radius, _ = cases.functionals(cases.row)
    assert abs(Fraction(outputs[0, 0]) - Fraction(coefficient)) <= (0 if radius is None else Fraction(radius[0, 0]))


def test_deep_nesting():
    def nested(depth: int) -> bytes:
        return (BOUNDED + "(assert " + "(and " * depth + "(<= Y_0 1)" + ")" * depth + ")").encode()

    assert len(read(nested(9_000))) == 1
    with pytest.raises(Rejected, match="lists deeper than"):
        read(nested(10_001))


def test_arrays_are_read_only():
    cases = read((BOUNDED + "(assert (<= Y_0 Y_1))").encode())
    for array in (cases.lower, cases.upper, cases.case_box, cases.row, cases.threshold, cases.atom_start):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_binding_is_by_position_and_counts():
    def network(inputs: tuple[int, ...], outputs: tuple[int, ...]) -> Network:
        nodes = tuple(Input("x", (), (1, size), None, "x") for size in (*inputs, *outputs))
        first = len(inputs)
        return Network(nodes, tuple(range(first)), tuple(range(first, len(nodes))), (), (), {}, ())

    text = read((BOUNDED + "(assert (<= Y_0 Y_1))").encode())
    assert bind(text, network((1, 1), (2,))) is text
    for wrong in (network((3,), (2,)), network((2,), (1,)), network((2,), (2, 1))):
        with pytest.raises(Rejected, match="the network has"):
            bind(text, wrong)


# --- refusals ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "(assert (<= Y_0 1e401))",
        "(assert (<= Y_0 1e999999999999))",
        "(assert (<= Y_0 1e-401))",
        "(assert (<= Y_0 340282356779733661637539395458142568448))",
        "(assert (<= Y_0 340282356779733661637539395458142568447.9999999999999999999))",  # RN64 of it is 2^128 - 2^103
        "(assert (<= (* 1e-30 X_0) 1e10))",
        "(assert (<= (* 1e-400 X_0) 1))",
        "(assert (<= Y_0 " + "1" * 4001 + "))",
        "(assert (<= Y_0 NaN))",
        "(assert (<= Y_0 inf))",
        "(assert (<= Y_0 1_0))",
        "(assert (<= Y_0 0x1))",
        "(assert (<= Y_0 .))",
        "(assert (<= Y_0 \u0661))",
        "(assert (<= Y_0 Y_2))",
        "(assert (<= (* Y_0 Y_1) 1))",
        "(assert (<= (/ Y_0 2) 1))",
        "(assert (<= (+) 1))",
        "(assert (<= Y_0 1 2))",
        "(assert (!= Y_0 1))",
        "(assert (not (<= Y_0 1)))",
        "(assert (=> (<= Y_0 1) (<= Y_0 1)))",
        "(assert (and))",
        "(assert (or))",
        "(assert Y_0)",
        "(assert true)",
        "(assert (+ Y_0 1))",
        "(assert (and (<= Y_0 1) Y_1))",
        "(assert (<= (<= Y_0 1) 1))",
        "(assert (or (<= Y_0 1) (declare-const X_2 Real)))",
        "(assert (assert (<= Y_0 1)))",
        "(assert (<= Y_0 1) (<= Y_0 1))",
        "(assert (<= Y_0 1)",
        "(assert (<= Y_0 1)))",
        "(",
        ")",
        "()",
        "(assert ())",
        "((<= Y_0 1))",
        "Y_0",
        "(<= Y_0 1)",
        "(check-sat)",
        "(declare-const X_0 Real)",
        "(declare-const Y_3 Real)",
        "(declare-const X_02 Real)",
        "(declare-const Z_0 Real)",
        "(declare-const X_2 Int)",
        "(declare-fun X_2 () Real)",
        "(declare-const X_2 Real)",  # no bounds
        "(declare-const X_2 Real) (assert (or (and (<= X_2 1) (>= X_2 0)) (<= X_2 1)))",
        "(declare-const X_2 Real) (assert (<= X_2 1))",
        "; ends here or not \r(assert (<= Y_0 1))",
        "(assert (<= Y_0 1))\x00",
        "(assert (<= Y_0\x0c1))",
        "(" * 20_000 + ")" * 20_000,
    ],
)
def test_refused(text):
    with pytest.raises(Rejected) as caught:
        read((BOUNDED + text).encode())
    assert caught.value.rule == "unsupported-property"


lexemes = st.sampled_from([*"( ) and or assert <= = - * X_0 Y_1 X_9 1 0 1e39 Real declare-const ;".split(), "\n"])


@settings(max_examples=examples(200))
@given(st.lists(formulas, min_size=1, max_size=2), st.lists(st.tuples(st.integers(0, 10**6), st.booleans(), lexemes), min_size=1, max_size=3))
def test_damaged_texts_are_refused_or_read_like_the_engine_reads_them(asserted, edits):
    words = re.findall(r"[()\n]|[^()\s]+", BOUNDED + "\n".join(f"(assert {shown(formula)})" for formula in asserted))
    for at, replace, word in edits:
        words[at % len(words) : at % len(words) + replace] = [word]
    text = " ".join(words)
    try:
        read(text.encode())
    except Rejected:
        return
    try:
        vnnlib.parse(text)
    except PropertyError as error:
        assert "bound in some case" in str(error)  # the engine wants bounds in vacuous cases, too
        return
    same_as_engine(text.encode())


def test_refusals_say_where():
    with pytest.raises(Rejected, match=r"line 2, column 9: Z_1 is no declared variable"):
        read(b"(declare-const X_0 Real)\n(assert (<= Z_1 0))")


def test_a_name_is_declared_before_its_use():
    with pytest.raises(Rejected):
        read(b"(declare-const X_0 Real)(assert (= X_0 0))(assert (<= Y_0 0))(declare-const Y_0 Real)")


def test_no_input():
    with pytest.raises(Rejected):
        read(b"(declare-const Y_0 Real)(assert (<= Y_0 0))")


def test_too_many_cases_are_refused_before_they_are_formed():
    choice = "(assert (or " + "(<= Y_0 1)" * 10 + "))\n"
    assert len(read((BOUNDED + choice * 3).encode())) == 1000
    for many in (7, 3000):
        with pytest.raises(Rejected, match="more than 1000000 cases"):
            read((BOUNDED + choice * many).encode())


def test_hostile_numbers_do_not_take_long():
    power = "(* 1e38 1)"
    for _ in range(5000):
        power = f"(* 1e38 {power})"
    with pytest.raises(Rejected, match="more than 65536 bits"):
        read((BOUNDED + f"(assert (<= (* {power} Y_0) 1))").encode())


def test_a_byte_order_mark_is_skipped():
    assert len(read(b"\xef\xbb\xbf" + BOUNDED.encode())) == 1
