"""The checker's reader of VNN-LIB 2.0: against the meaning of formulas, against the engine's reader, and what it refuses."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specs import vnnlib
from specs.errors import PropertyError
from specs.rounding import hull_lower, hull_upper
from tests.effort import examples
from tests.specs import queries
from tests.specs.queries import INPUTS, OUTPUTS
from tests.specs.test_vnnlib2 import ATOMS, BAD, DECLARATIONS, HEAD
from verifier.checker.network import Input, Network
from verifier.checker.read_property import Cases
from verifier.checker.read_property2 import Query, bind, read
from verifier.checker.refusal import Rejected


def query(text: str) -> Query:
    found = read(text.encode())
    assert isinstance(found, Query)
    return found


def same_as_engine(text: str) -> None:
    mine, engine = query("\ufeff" + text), vnnlib.parse(text)  # the engine takes the byte order mark off when it decodes a file
    cases = mine.cases
    (declared,) = mine.networks
    assert (declared.inputs, declared.outputs) == (tuple(v.shape for v in engine.inputs), tuple(v.shape for v in engine.outputs if v.name != "*"))
    assert mine.in_float32 == engine.asks_for_float32
    assert (len(cases), cases.dropped) == (len(engine.cases), engine.vacuous)
    places, at = {}, 0
    for v in (*engine.outputs, *engine.inputs):
        places[v.name], at = at, at + v.size
    for k, case in enumerate(engine.cases):
        assert cases.lower[cases.box(k)].tolist() == np.concatenate([hull_lower(box.lower) for box in case.boxes]).tolist()
        assert cases.upper[cases.box(k)].tolist() == np.concatenate([hull_upper(box.upper) for box in case.boxes]).tolist()
        mine_rows = [cases.rows[cases.row[a]] for a in range(int(cases.atom_start[k]), int(cases.atom_start[k + 1]))]
        assert mine_rows == [tuple(sorted((places[t] + i, c) for t, i, c in atom.terms)) for atom in case.atoms]


@settings(max_examples=examples(100))
@given(st.lists(queries.formulas, min_size=1, max_size=3), queries.gaps)
def test_same_list_as_the_engine(asserted: list[object], gap: str) -> None:
    same_as_engine(queries.asserted(asserted, 2, gap))


@pytest.mark.parametrize("name", [name for name in ATOMS])
def test_same_atoms_as_the_engine(name: str) -> None:
    same_as_engine(f"{HEAD}(assert {ATOMS[name][0]})")


@pytest.mark.parametrize("name", DECLARATIONS)
def test_same_declarations_as_the_engine(name: str) -> None:
    same_as_engine(f"(vnnlib-version <2.0>){DECLARATIONS[name]}(assert (and (<= Y[0] 1.0) (<= X 1.0) (>= X -1.0)))")


def within(cases: Cases, point: dict[str, Fraction]) -> bool:
    """Whether some case contains the point; exact, as quarters are floats."""
    inputs, both = [point[n] for n in INPUTS], [point[n] for n in (*OUTPUTS, *INPUTS)]
    for k in range(len(cases)):
        box, atoms = cases.box(k), range(int(cases.atom_start[k]), int(cases.atom_start[k + 1]))
        inside = all(cases.lower[box, i] <= x <= cases.upper[box, i] for i, x in enumerate(inputs))
        if inside and all(sum((c * both[p] for p, c in cases.rows[cases.row[a]]), Fraction(0)) <= cases.threshold[a] for a in atoms):
            return True
    return False


@settings(max_examples=examples(100))
@given(st.lists(queries.formulas, min_size=1, max_size=3), st.lists(queries.points, min_size=1, max_size=6))
def test_nothing_of_the_formula_is_lost(asserted: list[object], points: list[dict[str, Fraction]]) -> None:
    cases = query(queries.asserted(asserted, 2)).cases
    for point in points:
        assert within(cases, point) or not all(queries.evaluate(formula, point) for formula in asserted)


@settings(max_examples=examples(60))
@given(st.lists(queries.formulas, min_size=1, max_size=3))
def test_2_0_has_the_cases_of_1_0(asserted: list[object]) -> None:
    first, second = read(queries.asserted(asserted, 1).encode()), query(queries.asserted(asserted, 2)).cases
    assert isinstance(first, Cases)
    for name in ("lower", "upper", "case_box", "atom_start", "row", "threshold"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert (first.rows, first.dropped, first.n_in, first.n_out) == (second.rows, second.dropped, second.n_in, second.n_out)


@pytest.mark.parametrize("text", BAD, ids=lambda text: text.removeprefix(HEAD)[-50:] or "nothing")
def test_what_the_engine_refuses_is_refused(text: str) -> None:
    with pytest.raises(Rejected) as caught:
        read(text.encode())
    assert caught.value.rule == "unsupported-property"


@settings(max_examples=examples(150))
@given(st.data())
def test_damaged_texts_are_refused_or_read_as_the_engine_reads_them(data: st.DataObject) -> None:
    text = queries.asserted([data.draw(queries.formulas)], 2)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.sampled_from(["", "(", ")", "[", "]", " ", "-", "+", ";", "é", "1", "\n", ",", "<", "="])) + text[at + 1 :]
    try:
        read(text.encode())
    except Rejected:
        return
    same_as_engine(text)


def test_refusals_say_where() -> None:
    with pytest.raises(Rejected, match="line 4, column 9: X has the shape"):
        read((HEAD + "(assert (<= X[2] 1.0))").encode())


def network(inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]]) -> Network:
    nodes = tuple(Input(f"i{k}", (), shape, None, f"i{k}") for k, shape in enumerate([*inputs, *outputs]))
    chosen = tuple(range(len(inputs))), tuple(range(len(inputs), len(nodes)))
    return Network(nodes, *chosen, tuple(n.name for n in nodes), (), {}, ())


def test_tensors_are_those_of_the_network() -> None:
    found = query(queries.asserted([("<=", ["P[0]", "S"])], 2))
    good: list[list[tuple[int, ...]]] = [[(2, 2), ()], [(2,), (1, 1)]]
    assert bind(found, network(*good), "real") is found.cases
    for bad in ([[(4,), ()], good[1]], [[(), (2, 2)], good[1]], [[(5,)], good[1]], [good[0], [(2,), (1,)]], [good[0], [(3,)]]):
        with pytest.raises(Rejected, match=r"declares (in|out)puts of the shapes"):
            bind(found, network(*bad), "real")


def test_float32_needs_a_certificate_about_float32() -> None:
    net = network([(2,)], [(1, 2)])
    typed = query(HEAD + "(assert (<= Y[0,0] 1.0))")
    assert bind(typed, net, "float32") is typed.cases
    with pytest.raises(Rejected, match="declared as float32") as caught:
        bind(typed, net, "real")
    assert caught.value.rule == "element-type"
    for semantics in ("real", "float32"):
        bind(query((HEAD + "(assert (<= Y[0,0] 1.0))").replace("float32", "real")), net, semantics)


def test_engine_and_checker_agree_on_what_is_version_2() -> None:
    for text in ("; x\n ( vnnlib-version <2.0>)", "(declare-network N)", "(declare-const X_0 Real)", "", "(vnnlib", ";(vnnlib-version <2.0>)\n"):
        with pytest.raises(PropertyError):
            vnnlib.parse(text)
        with pytest.raises(Rejected):
            read(text.encode())
