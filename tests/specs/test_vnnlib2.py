"""VNN-LIB 2.0: one text for every production of the grammar, random formulas against their meaning and against 1.0, and bad input."""

from __future__ import annotations

import gzip
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.soundness import property as suite
from specs.canonical import Property, atom_holds
from specs.errors import PropertyError
from specs.vnnlib import parse, read
from specs.vnnlib2 import element_name
from tests.effort import examples
from tests.specs import queries
from tests.specs.queries import INPUTS, OUTPUTS, SHAPES

F = Fraction
NETWORK = "(declare-network N (declare-input X float32 [2]) (declare-output Y float32 [1,2]))\n"
BOX = "(assert (and (>= X[0] -1.0) (<= X[0] 1.0) (>= X[1] -1.0) (<= X[1] 1.0)))\n"
HEAD = "(vnnlib-version <2.0>)\n" + NETWORK + BOX


def only_case(text: str) -> tuple[list[tuple[Fraction, Fraction]], list[tuple[dict[tuple[str, int], Fraction], Fraction, bool]]]:
    """The box of the only case, all inputs after each other, and its atoms."""
    (case,) = parse(text).cases
    sides = [(box.lower[i], box.upper[i]) for box in case.boxes for i in range(len(box.lower))]
    return sides, [({(t, i): c for t, i, c in atom.terms}, atom.bound, atom.strict) for atom in case.atoms]


# --- productions ----------------------------------------------------------------------------------------------------------------------------

Y0, Y1, X0 = ("Y", 0), ("Y", 1), ("X", 0)
ATOMS = {  # production: formula, its only atom
    "LessEqual": ("(<= Y[0,0] 0.5)", ({Y0: F(1)}, F(1, 2), False)),
    "LessThan": ("(< Y[0,0] 0.5)", ({Y0: F(1)}, F(1, 2), True)),
    "GreaterEqual": ("(>= Y[0,0] 0.5)", ({Y0: F(-1)}, F(-1, 2), False)),
    "GreaterThan": ("(> Y[0,0] 0.5)", ({Y0: F(-1)}, F(-1, 2), True)),
    "TensorVarExpr on both sides": ("(<= Y[0,0] Y[0,1])", ({Y0: F(1), Y1: F(-1)}, F(0), False)),
    "TensorVarExpr with blanks": ("(<= Y [ 0 ,\n1 ] 0.5)", ({Y1: F(1)}, F(1, 2), False)),
    "an input and an output": ("(<= Y[0,0] X[0])", ({Y0: F(1), X0: F(-1)}, F(0), False)),
    "ValExpr, an integer": ("(<= Y[0,0] 3)", ({Y0: F(1)}, F(3), False)),
    "ValExpr, negative": ("(<= Y[0,0] -0.1)", ({Y0: F(1)}, F(-1, 10), False)),
    "ValExpr, exact": ("(<= Y[0,0] 0.1000000000000000055511151231257827)", ({Y0: F(1)}, F("0.1000000000000000055511151231257827"), False)),
    "Negate": ("(<= (- Y[0,0]) 0.5)", ({Y0: F(-1)}, F(1, 2), False)),
    "Plus of one": ("(<= (+ Y[0,0]) 0.5)", ({Y0: F(1)}, F(1, 2), False)),
    "Plus of four": ("(<= (+ Y[0,0] 1.0 Y[0,1] Y[0,0]) 0.5)", ({Y0: F(2), Y1: F(1)}, F(-1, 2), False)),
    "Minus, left associative": ("(<= (- 1.0 Y[0,0] 3.0 Y[0,1]) 0.0)", ({Y0: F(-1), Y1: F(-1)}, F(2), False)),
    "Multiply of one": ("(<= (* Y[0,0]) 0.5)", ({Y0: F(1)}, F(1, 2), False)),
    "Multiply of three": ("(<= (* 2.0 Y[0,0] -0.5) 0.5)", ({Y0: F(-1)}, F(1, 2), False)),
    "Multiply of a sum": ("(<= (* (+ Y[0,0] 1.0) 3.0) 0.0)", ({Y0: F(3)}, F(-3), False)),
    "words that touch": ("(<=Y[0,0]-1.0)", ({Y0: F(1)}, F(-1), False)),
    "an operator that touches": ("(<= (+1.0 Y[0,0])0.0)", ({Y0: F(1)}, F(-1), False)),
    "And of one": ("(and (<= Y[0,0] 0.5))", ({Y0: F(1)}, F(1, 2), False)),
    "Or of one": ("(or (<= Y[0,0] 0.5))", ({Y0: F(1)}, F(1, 2), False)),
    "a comment": ("; (\n(<= Y[0,0] ; )\n 0.5)", ({Y0: F(1)}, F(1, 2), False)),
}


@pytest.mark.parametrize("name", ATOMS)
def test_productions_of_formulas(name: str) -> None:
    formula, atom = ATOMS[name]
    assert only_case(f"{HEAD}(assert {formula})") == ([(F(-1), F(1))] * 2, [atom])


def test_equality_and_inequality() -> None:
    sides, atoms = only_case(HEAD + "(assert (== Y[0,0] Y[0,1]))(assert (== X[1] 0.5))")
    assert sides == [(F(-1), F(1)), (F(1, 2), F(1, 2))] and [a[0] for a in atoms] == [{Y0: F(1), Y1: F(-1)}, {Y1: F(1), Y0: F(-1)}]
    first, second = parse(HEAD + "(assert (!= Y[0,0] 0.5))").cases
    assert [(a.terms, a.bound, a.strict) for c in (first, second) for a in c.atoms] == [
        ((("Y", 0, F(1)),), F(1, 2), True), ((("Y", 0, F(-1)),), F(-1, 2), True),
    ]  # fmt: skip
    left, right = parse(HEAD + "(assert (!= X[0] 0.5))").cases
    assert (left.boxes[0].upper[0], right.boxes[0].lower[0]) == (F(1, 2), F(1, 2))
    assert all(case.atoms[0].strict for case in (left, right))


def declared(text: str) -> Property:
    """The property of these declarations, with some assertion about the output Y of shape [1]."""
    return parse(f"(vnnlib-version <2.0>){text}(assert (and (<= Y[0] 1.0) (<= X 1.0) (>= X -1.0)))")


DECLARATIONS = {
    "ScalarDims": "(declare-network N (declare-input X real []) (declare-output Y real [1]))",
    "the type Real": "(declare-network N (declare-input X Real []) (declare-output Y Real [1]))",
    "float32": "(declare-network N (declare-input X float32 []) (declare-output Y float32 [1]))",
    "types differ": "(declare-network N (declare-input X real []) (declare-output Y float32 [1]))",
    "several outputs": "(declare-network N (declare-input X real []) (declare-output Y real [1])(declare-output Z real [1,2,3]))",
    "names with digits and _": "(declare-network a_1 (declare-input X real[]) (declare-output Y real[ 1 ])(declare-output Y_1a real [1 , 2]))",
    "a network and a tensor of one name": "(declare-network X (declare-input X real []) (declare-output Y real [1]))",
    "blanks and comments": "\n;(\n( declare-network ; N\n N(declare-input X real [])\t(declare-output\tY real [1]) )",
}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_productions_of_declarations(name: str) -> None:
    found = declared(DECLARATIONS[name])
    assert (found.inputs[0].name, found.inputs[0].shape, found.inputs[0].size, found.outputs[0].shape) == ("X", (), 1, (1,))
    assert found.version == "2.0" and found.network in ("N", "a_1", "X")
    assert found.asks_for_float32 == ("float32" in DECLARATIONS[name])
    assert {v.element_type for v in (*found.inputs, *found.outputs)} <= {"real", "float32"}


def test_two_inputs_have_two_boxes() -> None:
    text = queries.HEAD_2 + "(assert (and (>= S 0.5) (<= S 0.75)))" + "".join(
        f"(assert (>= A[{i},{j}] {i}.{j}))(assert (<= A[{i},{j}] 2.0))" for i in range(2) for j in range(2)
    )
    (case,) = parse(text).cases
    assert [(b.tensor, [b.lower[i] for i in range(len(b.lower))]) for b in case.boxes] == [("A", [F(0), F("0.1"), F(1), F("1.1")]), ("S", [F(1, 2)])]


def test_version_2_1_is_read_as_far_as_it_is_2_0() -> None:
    assert parse(HEAD.replace("<2.0>", "<2.1>") + "(assert (<= Y[0,0] 1.0))").version == "2.1"


def test_files_may_be_gzipped(tmp_path: Path) -> None:
    (tmp_path / "q.vnnlib.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + (HEAD + "(assert (<= Y[0,0] 1.0))").encode()))
    assert read(tmp_path / "q.vnnlib.gz").network == "N"


@pytest.mark.parametrize(("tensor", "shape"), list(SHAPES.items()))
def test_names_of_elements(tensor: str, shape: tuple[int, ...]) -> None:
    found = parse(queries.asserted([("<=", ["P[0]", "0"])], 2))
    variable = next(v for v in (*found.inputs, *found.outputs) if v.name == tensor)
    assert variable.shape == shape
    assert [element_name(variable, i) for i in range(variable.size)] == [n for n in (*INPUTS, *OUTPUTS) if n.split("[")[0] == tensor]


# --- random formulas ------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=examples(100))
@given(st.lists(queries.formulas, min_size=1, max_size=3), st.lists(queries.points, min_size=1, max_size=6), queries.gaps)
def test_the_cases_are_the_formula(asserted: list[object], points: list[dict[str, Fraction]], gap: str) -> None:
    found = parse(queries.asserted(asserted, 2, gap))
    for point in points:
        values = {tensor: queries.flat(tensor, {**INPUTS, **OUTPUTS}, point) for tensor in SHAPES}
        unsafe = any(
            all(b.lower[i] <= x <= b.upper[i] for b in case.boxes for i, x in enumerate(values[b.tensor]))
            and all(atom_holds(atom, values) for atom in case.atoms)
            for case in found.cases
        )
        assert unsafe == all(queries.evaluate(formula, point) for formula in asserted)


@settings(max_examples=examples(100))
@given(st.lists(queries.formulas, min_size=1, max_size=3))
def test_2_0_has_the_cases_of_1_0(asserted: list[object]) -> None:
    first, second = (parse(queries.asserted(asserted, version)) for version in (1, 2))
    assert (len(first.cases), first.vacuous) == (len(second.cases), second.vacuous)
    places = {(name.split("[")[0], k): tuple(old.split("_")) for names in (INPUTS, OUTPUTS) for name, old in names.items()
              for k in [list(n for n in names if n.split("[")[0] == name.split("[")[0]).index(name)]}  # fmt: skip
    for a, b in zip(first.cases, second.cases, strict=True):
        sides = [[(box.lower[i], box.upper[i]) for box in case.boxes for i in range(len(box.lower))] for case in (a, b)]
        assert sides[0] == sides[1]
        renamed = [([(places[t, i][0], int(places[t, i][1]), c) for t, i, c in atom.terms], atom.bound, atom.strict) for atom in b.atoms]
        assert renamed == [(list(atom.terms), atom.bound, atom.strict) for atom in a.atoms]


def test_the_suite_writes_the_same_property_in_both_versions() -> None:
    region = tuple(map(Decimal, ("-0.5", "0.1", "-1"))), tuple(map(Decimal, ("0.5", "0.1", "2")))
    atoms = ((("1", "0"), "0.5", True), (("-1", "0"), "0.25", False), (("1", "-1"), "0", False), (("0.5", "-2.25"), "1", True))
    cases = [suite.Atom((Decimal(a), Decimal(b)), Decimal(bound), strict) for (a, b), bound, strict in atoms]
    for chosen in (((cases[0], cases[3]),), tuple((atom,) for atom in cases)):
        written = suite.Property(*region, chosen)
        first, second = parse(suite.vnnlib1(written)), parse(suite.vnnlib2(written, (1, 3), (2,)))
        assert [v.shape for v in (*second.inputs, *second.outputs)] == [(1, 3), (2,)] and second.asks_for_float32
        assert [case.atoms for case in first.cases] == [case.atoms for case in second.cases]


def test_vacuous_cases_are_named_as_in_the_text() -> None:
    (sentence,) = parse(queries.asserted([("<=", ["A[1,0]", "-3.0"])], 2)).vacuous_cases
    assert sentence == "a case is vacuous: A[1,0] >= -2 (line 11) and A[1,0] <= -3 (line 17)"


# --- bad input ------------------------------------------------------------------------------------------------------------------------------

START = "(vnnlib-version <2.0>)\n"
WIDE = START + "(declare-network N (declare-input X real [65]) (declare-output Y real [1]))\n"
SUM = f"(+ {' '.join(f'X[{i}]' for i in range(65))})"
BAD = {  # text: place, part of the message
    "": (None, "no input"),
    "(declare-network N)": ((1, 2), "before the version"),
    "(vnnlib-version 2.0)": ((1, 17), "no version that can be read"),
    "(vnnlib-version <1.0>)": ((1, 17), "no version that can be read"),
    "(vnnlib-version <3.0>)": ((1, 17), "no version that can be read"),
    "(vnnlib-version <2.0>)(declare-networkN (declare-input X real []) (declare-output Y real [1]))": ((1, 24), "is no command"),
    START: ((1, 1), "no network"),
    START + START: ((2, 1), "twice"),
    START + NETWORK: ((2, 1), "nothing is asserted"),
    START + "(assert (<= 1 2))\n" + NETWORK: ((3, 2), "after an assert"),
    START + NETWORK + NETWORK.replace("N", "M"): ((3, 20), "X is declared twice"),
    START + NETWORK + NETWORK: ((3, 18), "a second network of the name N"),
    START + "(declare-const X_0 Real)": ((2, 2), "no command or operator of VNN-LIB 2.0"),
    START + "(declare-input X real [1])": ((2, 1), "outside of a network"),
    START + "(declare-network)": ((2, 2), "expected (declare-network"),
    START + "(declare-network 1N (declare-input X real [1]))": ((2, 18), "no name"),
    START + "(declare-network and (declare-input X real [1]))": ((2, 18), "no name"),
    START + "(declare-network N (declare-input X real [1]))": ((2, 2), "no declare-output"),
    START + "(declare-network N (declare-output X real [1]))": ((2, 2), "no declare-input"),
    START + "(declare-network N X)": ((2, 20), "in the place of a declare-input"),
    START + "(declare-network N (declare-output Y real [1]) (declare-input X real [1]))": ((2, 48), "all inputs come first"),
    START + "(declare-network N (declare-input X real [1]) (declare-output X real [1]))": ((2, 47), "declared twice"),
    START + "(declare-network N (declare-input X real [1])\n (declare-hidden H real [1])": ((3, 3), "expected (declare-hidden"),
    START + "(declare-network N (declare-input X real [1])\n (declare-hidden H real [1] h)": ((3, 29), "in quotation marks"),
    START + '(declare-network N (declare-input X real [1])\n (declare-hidden H real [1] "")': ((3, 29), "in quotation marks"),
    START + '(declare-network N (declare-input X real [1])\n (declare-hidden H real [1] "a\\n")': ((3, 29), "in quotation marks"),
    START + '(declare-network N (declare-hidden H real [1] "h")\n (declare-input X real [1]))': ((3, 2), "all inputs come first"),
    START + '(declare-network N (declare-input X real [1])\n (declare-output Y real [1]) (declare-hidden H real [1] "h"))': ((3, 30), "then outputs"),
    START + '(declare-network N (declare-input X real [1])(declare-hidden H real [1] "h")\n(declare-hidden I real [1] "h"))': ((3, 1), "twice"),
    START + "(equal-to N)": ((2, 1), "outside of a network"),
    START + "(declare-network N (equal-to)": ((2, 21), "expected (equal-to NAME)"),
    START + "(declare-network N (declare-input X real [1]) (equal-to M))": ((2, 47), "in the place of a declare-input"),
    START + "(declare-network N (equal-to M) (declare-input X real [1]) (declare-output Y real [1]))": ((2, 2), "M is not declared before N"),
    START + "(declare-network N (isomorphic-to N) (declare-input X real [1]) (declare-output Y real [1]))": ((2, 2), "N is not declared before N"),
    **{
        START + NETWORK + "\n".join(rest): (place, message)
        for place, message, rest in (
            ((3, 2), "outputs differ", ["(declare-network M (equal-to N) (declare-input A float32 [2]) (declare-output B float32 [2]))"]),
            ((3, 2), "inputs differ", ["(declare-network M (equal-to N) (declare-input A real [2]) (declare-output B real [1,2]))"]),
            ((3, 2), "inputs differ", ["(declare-network M (isomorphic-to N) (declare-input A real [3]) (declare-output B real [1,2]))"]),
            ((4, 2), "M refers to N: refer to that one".replace("M refers", "itself refers"), [
                "(declare-network M (equal-to N) (declare-input A float32 [2]) (declare-output B float32 [1,2]))",
                "(declare-network L (equal-to M) (declare-input C float32 [2]) (declare-output D float32 [1,2]))",
            ]),
        )
    },
    START + "(declare-network N (declare-input X real [1] initialized)": ((2, 46), "`initialized` is not supported"),
    START + '(declare-network N (declare-input X real [1] "x")': ((2, 46), "is not supported"),
    START + "(declare-network N (declare-input X float64 [1])": ((2, 37), "element type 'float64' is not supported"),
    START + "(declare-network N (declare-input X int8 [1])": ((2, 37), "only tensors of real numbers"),
    START + "(declare-network N (declare-input X float16 [1])": ((2, 37), "no analysis here is sound for its arithmetic"),
    START + "(declare-network N (declare-input X quaternion [1])": ((2, 37), "the standard has no such type"),
    START + "(declare-network N (declare-input X real)": ((2, 21), "expected (declare-input NAME TYPE [shape])"),
    START + "(declare-network N (declare-input X real [0])": ((2, 37), "length 0"),
    START + "(declare-network N (declare-input X real [-1])": ((2, 37), "expected integers"),
    START + "(declare-network N (declare-input X real [1.0])": ((2, 37), "expected integers"),
    START + "(declare-network N (declare-input X real [1,])": ((2, 37), "expected integers"),
    START + "(declare-network N (declare-input X real [999999999,999999999]) (declare-output Y real [1]))": ((2, 20), "more than"),
    START + "(declare-network N (declare-input X real [9999999]) (declare-output Y real [1]))(assert (<= Y[0] 1))": ((2, 1), "X[0] has no lower"),
    HEAD + "(assert (<= Z[0] 1.0))": ((4, 13), "Z is not declared"),
    HEAD + "(assert (<= X[2] 1.0))": ((4, 13), "out of range"),
    HEAD + "(assert (<= 1.0 Y[0]))": ((4, 17), "Y has 2 axes, and 1 indices are given"),
    HEAD + "(assert (<= X 1.0))": ((4, 13), "X has 1 axes, and 0 indices are given"),
    HEAD + "(assert (<= X[] 1.0))": ((4, 13), "no element"),
    HEAD + "(assert (<= X[-1] 1.0))": ((4, 13), "expected integers"),
    HEAD + "(assert (<= X[0 1.0))": ((4, 10), "compares two terms"),
    HEAD + "(assert (<= X[0] 1e-3))": ((4, 18), "no exponent"),
    HEAD + "(assert (<= X[0] +1.0))": ((4, 18), "no sign +"),
    HEAD + "(assert (<= X[0] .5))": ((4, 18), "neither a number"),
    HEAD + f"(assert (<= X[0] {'9' * 40}))": ((4, 18), "too large for float32"),
    HEAD + "(assert (= X[0] 1.0))": ((4, 10), "equality as =="),
    HEAD + "(assert (not (<= X[0] 1.0)))": ((4, 10), "no command or operator"),
    HEAD + f"(assert (<= (* {'X[0] ' * 9}) 1.0))": ((4, 56), "more than 8 variables"),
    WIDE + f"(assert (<= (* {SUM} {SUM}) 1.0))": ((3, 400), "more than 4096 terms"),
    HEAD + "(assert (and))": ((4, 10), "empty and"),
    HEAD + "(assert (and X[0]))": ((4, 14), "is no formula"),
    HEAD + "(assert (<= (< X[0] 1.0) 1.0))": ((4, 13), "a formula is no term"),
    HEAD + "(assert (<= X[0] 1.0)": ((4, 1), "never closed"),
    HEAD + "(assert (<= X[0] 1.0)))": ((4, 23), "closes nothing"),
    START + NETWORK + "(assert (<= X[0] 1.0))": ((2, 1), "X[0] has no lower bound in some case (3 such bounds are missing)"),
}  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=lambda text: text.removeprefix(HEAD).removeprefix(START)[:50] or "nothing")
def test_bad_texts_are_refused_with_their_place(text: str) -> None:
    place, message = BAD[text]
    with pytest.raises(PropertyError) as caught:
        parse(text)
    assert message in str(caught.value)
    assert place is None or (caught.value.line, caught.value.column) == place


@settings(max_examples=examples(150))
@given(st.data())
def test_damaged_texts_end_in_our_error_or_are_read(data: st.DataObject) -> None:
    text = queries.asserted([data.draw(queries.formulas)], 2)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.sampled_from(["", "(", ")", "[", "]", " ", "-", '"', ";", "\0", "é", "1", "\n", "<"])) + text[at + 1 :]
    try:
        parse(text)
    except PropertyError as error:
        assert error.line is not None
